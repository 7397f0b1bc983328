//! Changes of rows, several in one transaction.

use redb::{Database, ReadableTable};

use super::{
    COMMITTED, CommittedFiles, DAMAGED, DbError, HEADS, INCARNATION_KEY, INTENTS, META, SCRUBBED, files, storage,
};
use crate::format::record::{CommittedRecord, DamageRecord, HeadRecord, IntentRecord, PlaceRecord, encode_scrubbed};
use crate::model::fingerprint::FileIdentity;
use crate::model::reuse::{ContentKey, Touch};
use crate::model::scrub::Verdict;
use crate::model::vpath::VPath;

/// One change of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// The node calls itself by this number of starts.
    PutIncarnation(u64),
    /// Sets what should be at a path.
    PutHead(VPath, HeadRecord),
    /// Sets the swap that is about to happen at a path.
    PutIntent(VPath, IntentRecord),
    /// Sets what is at a path; nothing is known to be wrong with it.
    PutCommitted(VPath, CommittedRecord),
    /// Makes the files of what is at a path known, so that they are used again.
    PutFiles(VPath, CommittedFiles),
    /// Something is wrong with what is at a path: its files aren't used any more.
    PutDamage(VPath, DamageRecord),
    /// Nothing is wrong with what is at a path: its files are used again, if they still are where they were.
    DeleteDamage(VPath, Option<PlaceRecord>),
    /// What is at a path was compared with its image.
    PutScrubbed(VPath, Verdict),
    /// Inodes, by device and number, don't have this content, whatever their status says.
    Distrust(Vec<(u64, u64, ContentKey)>),
    /// This node has changed the status of inodes.
    Touch(Vec<Touch>),
    /// Nothing should be at the path, as far as we know.
    DeleteHead(VPath),
    /// No swap is under way at the path.
    DeleteIntent(VPath),
    /// What was at a path before, with that root, isn't kept any more.
    DeletePrevious(VPath, FileIdentity),
    /// Nothing of ours is at the path.
    DeleteCommitted(VPath),
}

pub(super) fn write(database: &Database, batch: &[Write]) -> Result<(), DbError> {
    let fail = storage::<redb::StorageError>("write");
    let transaction = database.begin_write().map_err(storage("write"))?;
    {
        let mut heads = transaction.open_table(HEADS).map_err(storage("write"))?;
        let mut intents = transaction.open_table(INTENTS).map_err(storage("write"))?;
        let mut committed = transaction.open_table(COMMITTED).map_err(storage("write"))?;
        let mut damaged = transaction.open_table(DAMAGED).map_err(storage("write"))?;
        let mut scrubbed = transaction.open_table(SCRUBBED).map_err(storage("write"))?;
        let mut meta = transaction.open_table(META).map_err(storage("write"))?;
        for write in batch {
            match write {
                Write::PutHead(path, row) => _ = heads.insert(path.as_str(), &*row.encode()).map_err(&fail)?,
                Write::PutIntent(path, row) => _ = intents.insert(path.as_str(), &*row.encode()).map_err(&fail)?,
                Write::PutCommitted(path, row) => {
                    committed.insert(path.as_str(), &*row.encode()).map_err(&fail)?;
                    damaged.remove(path.as_str()).map_err(&fail)?;
                    files::forget(&transaction, path).map_err(storage("write"))?;
                }
                Write::PutFiles(path, files) => {
                    files::put_place(&transaction, path, &files.place()).map_err(storage("write"))?;
                }
                Write::PutDamage(path, row) => {
                    damaged.insert(path.as_str(), &*row.encode()).map_err(&fail)?;
                    files::forget(&transaction, path).map_err(storage("write"))?;
                }
                Write::DeleteDamage(path, place) => {
                    damaged.remove(path.as_str()).map_err(&fail)?;
                    if let Some(place) = place {
                        files::put_place(&transaction, path, place).map_err(storage("write"))?;
                    }
                }
                Write::PutScrubbed(path, verdict) => {
                    scrubbed.insert(path.as_str(), &*encode_scrubbed(verdict)).map_err(&fail)?;
                }
                Write::Distrust(inodes) => files::distrust(&transaction, inodes).map_err(storage("write"))?,
                Write::Touch(touches) => files::touch(&transaction, touches).map_err(storage("write"))?,
                Write::PutIncarnation(number) => _ = meta.insert(INCARNATION_KEY, number).map_err(&fail)?,
                Write::DeleteHead(path) => _ = heads.remove(path.as_str()).map_err(&fail)?,
                Write::DeletePrevious(path, root) => {
                    let row =
                        committed.get(path.as_str()).map_err(&fail)?.map(|row| CommittedRecord::decode(row.value()));
                    // A row that can't be understood stays.
                    if let Some(Ok(mut row)) = row
                        && row.previous.take_if(|(_, kept)| kept == root).is_some()
                    {
                        committed.insert(path.as_str(), &*row.encode()).map_err(&fail)?;
                    }
                }
                Write::DeleteIntent(path) => _ = intents.remove(path.as_str()).map_err(&fail)?,
                Write::DeleteCommitted(path) => {
                    committed.remove(path.as_str()).map_err(&fail)?;
                    scrubbed.remove(path.as_str()).map_err(&fail)?;
                    damaged.remove(path.as_str()).map_err(&fail)?;
                    files::forget(&transaction, path).map_err(storage("write"))?;
                }
            }
        }
    }
    transaction.commit().map_err(storage("write"))
}
