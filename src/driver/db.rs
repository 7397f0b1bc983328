//! The state database, `DB_DIR/state.db`: heads, intents and what was committed, by virtual path.
//!
//! One call of [`Db::write`] is one durable transaction; gathering several changes into one is the caller's. What the rows
//! mean, and in which order they are written, is `engine/deploy`'s.
//!
//! After an error of the disk (a full one, most likely) the library refuses everything until the file is opened anew: the
//! next write does that, so that the daemon goes on without a restart when the cause is gone.

mod batch;
mod files;
mod snapshot;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition, WriteTransaction,
};

pub use self::batch::Write;
pub use self::files::CommittedFiles;
pub use self::snapshot::{BadRow, Snapshot};
use super::disk::error;
use crate::format::record::CommittedRecord;
use crate::model::failure::{Failure, FailureKind};
use crate::model::limits::DATABASE_CACHE_BYTES_MAX;
use crate::model::reuse::{ContentKey, Hashed, Source, Touch};
use crate::model::vpath::VPath;

type Rows = TableDefinition<'static, &'static str, &'static [u8]>;

const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");
const HEADS: Rows = TableDefinition::new("heads");
const INTENTS: Rows = TableDefinition::new("intents");
const COMMITTED: Rows = TableDefinition::new("committed");
const DAMAGED: Rows = TableDefinition::new("damaged");
const SCRUBBED: Rows = TableDefinition::new("scrubbed");

const FORMAT_KEY: &str = "format";
const INCARNATION_KEY: &str = "incarnation";
const FORMAT: u64 = 1;

/// Why the database can't be used. A failed write changed nothing that was there; if what failed was its very last sync, it
/// may be there after all when the database is opened again.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// The file or its folder can't be opened.
    #[error("can't open the state database {}: {source}", path.display())]
    Open { path: PathBuf, source: io::Error },
    /// Another process has it.
    #[error("the state database {} is in use: is another ciruela-server running with this --db-dir?", path.display())]
    InUse { path: PathBuf },
    /// Not a database, or a damaged one.
    #[error("can't open the state database {}: {source}", path.display())]
    Damaged { path: PathBuf, source: Box<DatabaseError> },
    /// Written by another version.
    #[error("the state database has format {found}, this build reads format {FORMAT}")]
    Format { found: u64 },
    /// Reading or writing failed.
    #[error("can't {what} the state database: {source}")]
    Storage { what: &'static str, source: Box<redb::Error> },
}

impl DbError {
    /// What it means for a directory.
    pub fn failure(&self) -> Failure {
        let io = match self {
            Self::Open { source, .. } => Some(source),
            Self::Damaged { source, .. } if let DatabaseError::Storage(redb::StorageError::Io(source)) = &**source => {
                Some(source)
            }
            Self::Storage { source, .. } if let redb::Error::Io(source) = &**source => Some(source),
            Self::Damaged { .. } | Self::Storage { .. } | Self::InUse { .. } | Self::Format { .. } => None,
        };
        Failure { kind: io.map_or(FailureKind::Io, error::kind_of), text: self.to_string() }
    }
}

/// The opened database.
pub struct Db {
    /// `None` after an error, until it is opened anew.
    database: Mutex<Option<Database>>,
    /// Where it can be opened anew; `None`: it isn't a file.
    dir: Option<PathBuf>,
}

fn storage<E: Into<redb::Error>>(what: &'static str) -> impl Fn(E) -> DbError {
    move |source| DbError::Storage { what, source: Box::new(source.into()) }
}

impl Db {
    /// Opens `state.db` in `dir`, which must be there, or makes it. Another process can't open it meanwhile.
    pub fn open(dir: &Path) -> Result<Self, DbError> {
        Ok(Self { database: Mutex::new(Some(Self::open_file(dir)?)), dir: Some(dir.to_owned()) })
    }

    /// Opens a database on any storage, as the simulator does.
    pub fn open_with(backend: impl StorageBackend) -> Result<Self, DbError> {
        let database = Self::finish_open(Path::new("(not a file)"), builder().create_with_backend(backend))?;
        Ok(Self { database: Mutex::new(Some(database)), dir: None })
    }

    fn open_file(dir: &Path) -> Result<Database, DbError> {
        let path = dir.join("state.db");
        let fail = |source| DbError::Open { path: path.clone(), source };
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path).map_err(fail)?;
        // The file's name must be durable before anything in the file is.
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(fail)?;
        Self::finish_open(&path, builder().create_file(file))
    }

    fn finish_open(path: &Path, opened: Result<Database, DatabaseError>) -> Result<Database, DbError> {
        let path = || path.to_owned();
        let database = match opened {
            Ok(database) => database,
            Err(DatabaseError::DatabaseAlreadyOpen) => return Err(DbError::InUse { path: path() }),
            Err(source) => return Err(DbError::Damaged { path: path(), source: Box::new(source) }),
        };
        Self::check_format(&database)?;
        Ok(database)
    }

    fn check_format(database: &Database) -> Result<(), DbError> {
        let transaction = database.begin_write().map_err(storage("open"))?;
        let found = {
            let mut meta = transaction.open_table(META).map_err(storage("open"))?;
            let found = meta.get(FORMAT_KEY).map_err(storage("read"))?.map(|format| format.value());
            if found.is_none() {
                meta.insert(FORMAT_KEY, FORMAT).map_err(storage("write"))?;
            }
            found
        };
        match found {
            Some(FORMAT) => return Ok(()),
            Some(found) => return Err(DbError::Format { found }),
            None => {}
        }
        for table in [HEADS, INTENTS, COMMITTED] {
            transaction.open_table(table).map_err(storage("open"))?;
        }
        transaction.commit().map_err(storage("write"))
    }

    /// Reads everything but what is only looked up.
    pub fn load(&self) -> Result<Snapshot, DbError> {
        self.with(snapshot::load)
    }

    /// A number that is higher than what was ever given or written before, written down.
    pub fn next_incarnation(&self) -> Result<u64, DbError> {
        self.with(|database| {
            let transaction = database.begin_write().map_err(storage("write"))?;
            let next = {
                let mut meta = transaction.open_table(META).map_err(storage("open"))?;
                let last = meta.get(INCARNATION_KEY).map_err(storage("read"))?.map_or(0, |last| last.value());
                let next = last.saturating_add(1);
                meta.insert(INCARNATION_KEY, next).map_err(storage("write"))?;
                next
            };
            transaction.commit().map_err(storage("write"))?;
            Ok(next)
        })
    }

    /// Makes all the changes, in order, in one transaction which is durable when this returns. Files of trees are written before, in as
    /// many as they need; they count from the last one on.
    pub fn write(&self, batch: &[Write]) -> Result<(), DbError> {
        for write in batch {
            if let Write::PutFiles(path, files) = write {
                self.write_files(path, files)?;
            }
        }
        self.with(|database| batch::write(database, batch))
    }

    /// Others may use the database in between.
    fn write_files(&self, path: &VPath, files: &CommittedFiles) -> Result<(), DbError> {
        let files = files.by_content();
        for part in files.parts() {
            self.with(|database| transact(database, |transaction| files.put(transaction, path, part)))?;
        }
        let files = files.by_inode();
        for part in files.parts() {
            self.with(|database| transact(database, |transaction| files.put(transaction, part)))?;
        }
        Ok(())
    }

    /// What was recorded of what is at a path.
    pub fn committed(&self, path: &VPath) -> Result<Option<CommittedRecord>, DbError> {
        self.with(|database| {
            let transaction = database.begin_read().map_err(storage("read"))?;
            let table = transaction.open_table(COMMITTED).map_err(storage("read"))?;
            let row = table.get(path.as_str()).map_err(storage("read"))?;
            // One that can't be understood is as good as none.
            Ok(row.and_then(|row| CommittedRecord::decode(row.value()).ok()))
        })
    }

    /// For each content the files which should have it, the newest first.
    pub fn sources(&self, contents: &[ContentKey]) -> Result<Vec<Vec<Source>>, DbError> {
        self.with(|database| {
            let transaction = database.begin_read().map_err(storage("read"))?;
            files::sources(&transaction, contents).map_err(storage("read"))
        })
    }

    /// Of files with a right content those of which something else is recorded, and what should be.
    pub fn outdated(&self, hashed: &[Hashed]) -> Result<Vec<Touch>, DbError> {
        self.with(|database| {
            let transaction = database.begin_read().map_err(storage("read"))?;
            files::outdated(&transaction, hashed).map_err(storage("read"))
        })
    }

    /// Opens it anew if the last one who used it failed, and closes it if this one does.
    fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, DbError>) -> Result<T, DbError> {
        let mut opened = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let database = match (opened.take(), &self.dir) {
            (Some(database), _) => database,
            (None, Some(dir)) => Self::open_file(dir)?,
            (None, None) => return Err(storage("open")(redb::StorageError::PreviousIo)),
        };
        let result = work(&database);
        if result.is_ok() {
            *opened = Some(database);
        }
        result
    }
}

fn transact(
    database: &Database,
    work: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
) -> Result<(), DbError> {
    let transaction = database.begin_write().map_err(storage("write"))?;
    work(&transaction).map_err(storage("write"))?;
    transaction.commit().map_err(storage("write"))
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Db")
    }
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(DATABASE_CACHE_BYTES_MAX);
    builder
}

#[cfg(test)]
mod tests;
