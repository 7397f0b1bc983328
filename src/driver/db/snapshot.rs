//! All rows that are read at the start.

use std::collections::BTreeMap;

use redb::{Database, ReadableDatabase, ReadableTable, TableError};

use super::{COMMITTED, DAMAGED, DbError, HEADS, INTENTS, Rows, SCRUBBED, storage};
use crate::format::record::{CommittedRecord, DamageRecord, HeadRecord, IntentRecord, RecordError, decode_scrubbed};
use crate::model::scrub::Verdict;
use crate::model::vpath::VPath;

/// All that is in the database.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// What should be there.
    pub heads: BTreeMap<VPath, HeadRecord>,
    /// Swaps that may or may not have happened.
    pub intents: BTreeMap<VPath, IntentRecord>,
    /// What is there.
    pub committed: BTreeMap<VPath, CommittedRecord>,
    /// What is wrong with it.
    pub damaged: BTreeMap<VPath, DamageRecord>,
    /// When it was compared with its image.
    pub scrubbed: BTreeMap<VPath, Verdict>,
    /// Rows that can't be understood; they stay in the database.
    pub bad_rows: Vec<BadRow>,
}

/// A row that can't be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("row {key:?} of table {table}: {error}")]
pub struct BadRow {
    /// The table's name.
    pub table: &'static str,
    /// The row's key.
    pub key: String,
    /// What is wrong with it.
    pub error: RecordError,
}

pub(super) fn load(database: &Database) -> Result<Snapshot, DbError> {
    let transaction = database.begin_read().map_err(storage("read"))?;
    let mut snapshot = Snapshot::default();
    let bad = &mut snapshot.bad_rows;
    snapshot.heads = rows(&transaction, HEADS, "heads", HeadRecord::decode, bad)?;
    snapshot.intents = rows(&transaction, INTENTS, "intents", IntentRecord::decode, bad)?;
    snapshot.committed = rows(&transaction, COMMITTED, "committed", CommittedRecord::decode, bad)?;
    snapshot.damaged = rows(&transaction, DAMAGED, "damaged", DamageRecord::decode, bad)?;
    snapshot.scrubbed = rows(&transaction, SCRUBBED, "scrubbed", decode_scrubbed, bad)?;
    Ok(snapshot)
}

fn rows<T>(
    transaction: &redb::ReadTransaction,
    table: Rows,
    name: &'static str,
    decode: impl Fn(&[u8]) -> Result<T, RecordError>,
    bad_rows: &mut Vec<BadRow>,
) -> Result<BTreeMap<VPath, T>, DbError> {
    let table = match transaction.open_table(table) {
        // Younger than the database.
        Err(TableError::TableDoesNotExist(_)) => return Ok(BTreeMap::new()),
        other => other.map_err(storage("read"))?,
    };
    let mut rows = BTreeMap::new();
    for row in table.iter().map_err(storage("read"))? {
        let (key, value) = row.map_err(storage("read"))?;
        let path = key.value().parse::<VPath>().map_err(|_| RecordError::Bad("path"));
        match path.and_then(|path| Ok((path, decode(value.value())?))) {
            Ok((path, row)) => _ = rows.insert(path, row),
            Err(error) => bad_rows.push(BadRow { table: name, key: key.value().chars().take(200).collect(), error }),
        }
    }
    Ok(rows)
}
