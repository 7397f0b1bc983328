//! Rows that survive, files that are refused, disks that fail.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::io::Errno;

use super::*;
use crate::format::record::IntentRecord;
use crate::model::fingerprint::FileIdentity;
use crate::model::ids::{ChangeId, ImageId};
use crate::model::origins::Origins;

fn path(text: &str) -> VPath {
    text.parse().expect("valid")
}

fn intent(n: u8) -> IntentRecord {
    let committed = CommittedRecord {
        change: ChangeId::new([n; 32]),
        image: ImageId::new([n; 32]),
        root: FileIdentity { dev: 1, ino: n.into() },
        bytes: Origins::default(),
        fingerprints: Arc::default(),
        previous: None,
    };
    IntentRecord { committed, exchange: false }
}

#[test]
fn rows_survive_a_restart() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let db = Db::open(folder.path()).expect("opens");
    db.write(&[Write::PutIntent(path("/a/1"), intent(1)), Write::PutIntent(path("/a/2"), intent(2))]).expect("written");
    db.write(&[Write::DeleteIntent(path("/a/1")), Write::DeleteHead(path("/a/1"))]).expect("written");
    drop(db);
    let mode = std::fs::metadata(folder.path().join("state.db")).expect("there").permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let snapshot = Db::open(folder.path()).expect("opens again").load().expect("readable");
    assert_eq!(snapshot.intents, BTreeMap::from([(path("/a/2"), intent(2))]));
    assert_eq!((snapshot.heads.len(), snapshot.committed.len(), snapshot.bad_rows.len()), (0, 0, 0));
}

#[test]
fn only_one_daemon_at_a_time() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let db = Db::open(folder.path()).expect("opens");
    let error = Db::open(folder.path()).expect_err("in use");
    assert!(matches!(error, DbError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("another ciruela-server"), "{error}");
    drop(db);
    Db::open(folder.path()).expect("free again");
}

#[test]
fn a_bad_row_is_reported_and_stays() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let db = Db::open(folder.path()).expect("opens");
    db.write(&[Write::PutIntent(path("/a/1"), intent(1))]).expect("written");
    let database = db.database.lock().expect("not poisoned").take().expect("open");
    let transaction = database.begin_write().expect("begins");
    transaction.open_table(INTENTS).expect("opens").insert("/a/2", &[1, 0xff][..]).expect("inserted");
    transaction.open_table(HEADS).expect("opens").insert("no path", &[9][..]).expect("inserted");
    transaction.commit().expect("written");
    drop(database);
    let snapshot = db.load().expect("opened anew");
    assert_eq!(snapshot.intents.len(), 1);
    let texts: Vec<_> = snapshot.bad_rows.iter().map(ToString::to_string).collect();
    assert!(texts[0].contains("\"no path\" of table heads: the record is damaged: bad path"), "{texts:?}");
    assert!(texts[1].contains("\"/a/2\" of table intents"), "{texts:?}");
}

#[test]
fn foreign_files_are_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("state.db"), vec![7; 10_000]).expect("writable");
    let error = Db::open(folder.path()).expect_err("not a database").to_string();
    assert!(error.contains("state.db"), "{error}");
    let error = Db::open(&folder.path().join("missing")).expect_err("no folder").to_string();
    assert!(error.contains("missing/state.db"), "{error}");
    std::fs::remove_file(folder.path().join("state.db")).expect("removable");
    let db = Db::open(folder.path()).expect("opens");
    let database = db.database.lock().expect("not poisoned").take().expect("open");
    let transaction = database.begin_write().expect("begins");
    transaction.open_table(META).expect("opens").insert(FORMAT_KEY, 99).expect("inserted");
    transaction.commit().expect("written");
    drop((database, db));
    assert!(matches!(Db::open(folder.path()), Err(DbError::Format { found: 99 })));
}

/// A file in memory whose file system may be full.
#[derive(Debug)]
struct Full(redb::backends::InMemoryBackend, Arc<AtomicI32>);

impl StorageBackend for Full {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        match self.1.load(Ordering::Relaxed) {
            0 => self.0.write(offset, data),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

#[test]
fn a_full_disk_is_told_from_a_broken_one() {
    for (errno, kind) in [
        (Errno::NOSPC, FailureKind::NoSpace),
        (Errno::DQUOT, FailureKind::NoSpace),
        (Errno::ROFS, FailureKind::NotWritable),
        (Errno::IO, FailureKind::Io),
    ] {
        let fails = Arc::new(AtomicI32::new(0));
        let db = Db::open_with(Full(redb::backends::InMemoryBackend::new(), fails.clone())).expect("opens");
        fails.store(errno.raw_os_error(), Ordering::Relaxed);
        let failure = db.write(&[Write::PutIntent(path("/a/1"), intent(1))]).expect_err("it fails").failure();
        assert_eq!(failure.kind, kind, "{failure}");
        assert!(failure.text.contains("state database"), "{failure}");
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let failure = Db::open(&folder.path().join("missing")).expect_err("no folder").failure();
    assert_eq!(failure.kind, FailureKind::Io);
}
