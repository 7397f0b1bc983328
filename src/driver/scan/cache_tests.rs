//! Tests of what is kept between scans.

use std::collections::BTreeSet;
use std::fs::{self, File, FileTimes};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;
use crate::driver::clock;
use crate::model::time::Stamp;

/// A tree, and what is kept of it.
struct Kept {
    folder: TempDir,
}

impl Kept {
    fn new() -> Self {
        let kept = Self { folder: tempfile::tempdir().expect("tempdir") };
        fs::create_dir_all(kept.tree().join("below/deep")).expect("mkdir");
        for number in 0..40_u8 {
            let name = ["", "below/", "below/deep/", "below/a"][usize::from(number % 4)];
            kept.write(&format!("{name}{number}"), 200_000 + usize::from(number), number);
        }
        kept.write("empty", 0, 0);
        kept
    }

    fn tree(&self) -> PathBuf {
        self.folder.path().join("tree")
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("caches/scans")
    }

    fn write(&self, name: &str, len: usize, byte: u8) {
        fs::write(self.tree().join(name), vec![byte; len]).expect("write");
    }

    /// A scan, as if it began so many seconds from now; and how many files it opened.
    fn scan_at(&self, seconds: u64, kind: HashKind) -> (Scan, usize) {
        let opened = Arc::new(Mutex::new(BTreeSet::new()));
        let names = opened.clone();
        // A file at the border of two threads' shares is opened twice.
        let after_open: AfterOpen = Arc::new(move |name| {
            lock(&names).insert(name.to_owned());
        });
        let cache = ScanCache { folder: self.cache(), now: Stamp(clock::stamp().0 + seconds * 1000) };
        let options = ScanOptions { cache: Some(cache), after_open: Some(after_open), ..ScanOptions::new(kind) };
        let scan = scan(&self.tree(), &options, &|_| ()).expect("scan");
        let plain = super::scan(&self.tree(), &ScanOptions::new(kind), &|_| ()).expect("scan");
        assert_eq!((scan.id, &scan.index), (plain.id, &plain.index), "it is the same as without a cache");
        let read = lock(&opened).len();
        // Files without content aren't opened.
        assert!(scan.stats.unchanged_files + read <= scan.stats.files + 1, "{:?}, {read}", scan.stats);
        (scan, read)
    }

    /// How many files a scan opened, some time after all was written.
    fn read(&self) -> usize {
        self.scan_at(10, HashKind::default()).1
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.cache()).into_iter().flatten();
        entries.map(|entry| entry.expect("readable").path()).collect()
    }
}

fn renamed(folder: &Path, from: &str, to: &str) {
    let folder = File::open(folder).expect("open");
    rustix::fs::renameat(&folder, from, &folder, to).expect("renamed");
}

#[test]
fn what_did_not_change_is_not_read() {
    let kept = Kept::new();
    assert_eq!(kept.read(), 40);
    let (scan, read) = kept.scan_at(10, HashKind::default());
    assert_eq!((read, scan.stats.unchanged_files), (0, 41));
    // Each hash function has its own.
    assert_eq!(kept.scan_at(10, HashKind::Blake3).1, 40);
    assert_eq!(kept.scan_at(10, HashKind::Blake3).1, 0);
    assert_eq!(kept.files().len(), 2);
}

#[test]
fn what_changed_is_read() {
    let kept = Kept::new();
    kept.read();
    // The same size and time of modification.
    let path = kept.tree().join("below/1");
    let meta = fs::metadata(&path).expect("there");
    kept.write("below/1", usize::try_from(meta.len()).expect("small"), 99);
    let times = FileTimes::new().set_modified(meta.modified().expect("known"));
    File::options().write(true).open(&path).and_then(|file| file.set_times(times)).expect("set");
    assert_eq!(fs::metadata(&path).expect("there").modified().ok(), meta.modified().ok());
    assert_eq!(kept.read(), 1);
    // More, fewer, others.
    kept.write("below/new", 10, 1);
    assert_eq!(kept.read(), 1);
    fs::remove_file(kept.tree().join("0")).expect("removed");
    fs::remove_dir_all(kept.tree().join("below/deep")).expect("removed");
    assert_eq!((kept.read(), kept.read()), (0, 0));
    renamed(&kept.tree(), "4", "zzz");
    assert_eq!((kept.read(), kept.read()), (1, 0));
    // Of two files, each is in the other's place.
    for (from, to) in [("8", "tmp"), ("12", "8"), ("tmp", "12")] {
        renamed(&kept.tree(), from, to);
    }
    assert_eq!(kept.read(), 2);
}

#[test]
fn what_was_just_written_is_read_again() {
    let kept = Kept::new();
    let now = |kept: &Kept| kept.scan_at(0, HashKind::default()).1;
    assert_eq!((now(&kept), now(&kept)), (40, 40));
    assert_eq!((kept.read(), now(&kept)), (40, 0), "known from a scan that could be sure");
}

#[test]
fn damage_is_as_if_nothing_were_kept() {
    let kept = Kept::new();
    kept.read();
    let path = kept.files().pop().expect("one");
    let whole = fs::read(&path).expect("readable");
    let step = whole.len() / 97;
    let flipped = (0..whole.len()).step_by(step).map(|at| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        bytes
    });
    let cut = [0, 1, 31, 32, 33, 60, whole.len() / 2, whole.len() - 1].map(|len| whole[..len].to_vec());
    let longer = [whole.clone(), vec![0; 40]].concat();
    for bytes in flipped.chain(cut).chain([longer]) {
        fs::write(&path, &bytes).expect("write");
        assert_eq!(kept.read(), 40);
        assert_eq!(fs::read(&path).expect("readable").len(), whole.len(), "it is right again");
    }
}

#[test]
fn a_place_that_can_not_be_written_costs_time_only() {
    let kept = Kept::new();
    fs::write(kept.folder.path().join("caches"), b"a file").expect("write");
    assert_eq!((kept.read(), kept.read()), (40, 40));
}

#[test]
fn small_trees_and_old_files_leave_nothing() {
    let kept = Kept::new();
    kept.read();
    let own = kept.files();
    // Files of others, older than ours; and what a killed scan left.
    for number in 0..limits::SCAN_CACHE_FILES_MAX {
        let path = kept.cache().join(format!("other{number}"));
        let file = File::create(&path).expect("create");
        file.set_times(FileTimes::new().set_modified(std::time::UNIX_EPOCH)).expect("set");
    }
    kept.write("new", 1, 1);
    kept.read();
    assert_eq!(kept.files().len(), limits::SCAN_CACHE_FILES_MAX);
    assert!(own.iter().all(|path| Path::exists(path)));

    let small = Kept::new();
    fs::remove_dir_all(small.tree()).expect("removed");
    fs::create_dir(small.tree()).expect("mkdir");
    small.write("small", 100_000, 1);
    assert_eq!((small.read(), small.read(), small.files().len()), (1, 1, 0));
}
