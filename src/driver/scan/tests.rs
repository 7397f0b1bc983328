//! Tests of scanning and comparing real directories.

use std::fs::{self, File, Permissions};
use std::num::NonZero;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

use super::*;
use crate::format::hash::hash_one;
use crate::format::index::parse;

fn tempdir() -> TempDir {
    tempfile::tempdir().expect("tempdir")
}

fn content(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 251 * 7 + seed).to_le_bytes()[0]).collect()
}

fn with_threads(threads: usize) -> ScanOptions {
    ScanOptions { threads: NonZero::new(threads), ..ScanOptions::default() }
}

fn scanned(dir: &Path) -> Scan {
    scan(dir, &ScanOptions::default(), &|_| ()).expect("scan")
}

fn error(dir: &Path) -> String {
    scan(dir, &ScanOptions::default(), &|_| ()).expect_err("scan").to_string()
}

#[test]
fn large_and_small_files_with_any_number_of_threads() {
    let dir = tempdir();
    // More than one claim's bytes in one file, more than one claim's files, and sizes around the borders.
    let claim = usize::try_from(limits::SCAN_CLAIM_BYTES).expect("small");
    let mut files = vec![("large".to_owned(), 2 * claim + 40_000), ("exact".to_owned(), claim), ("zzz".to_owned(), 0)];
    files.extend((0..600).map(|i| (format!("{:02}/{i:04}", i % 17), i * i % 3_000)));
    files.extend((0..9).map(|i| (format!("mid/{i}"), 32_767 * i + i / 2)));
    for (seed, (name, len)) in files.iter().enumerate() {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().expect("below")).expect("mkdir");
        fs::write(path, content(*len, seed)).expect("write");
    }
    let first = scan(dir.path(), &with_threads(1), &|_| ()).expect("scan");
    for threads in [2, 7, 1_000] {
        let other = scan(dir.path(), &with_threads(threads), &|_| ()).expect("scan");
        assert_eq!((other.id, &other.index), (first.id, &first.index));
    }
    assert_eq!(parse(&first.index.to_vec()), Ok((first.id, Image::clone(&first.image))));
    for (seed, (name, len)) in files.iter().enumerate() {
        let file = first.image.file(name).expect("in the image");
        assert_eq!(file.size, *len as u64);
        let expected = content(*len, seed)
            .chunks(limits::BLOCK_BYTES)
            .map(|block| hash_one(HashKind::default(), block))
            .collect::<Vec<_>>();
        assert_eq!(first.image.file_hashes(&file), expected, "{name}");
    }
    let sum = files.iter().map(|(_, len)| *len as u64).sum();
    assert_eq!((first.stats.files, first.stats.directories, first.stats.bytes), (files.len(), 19, sum));
    for (file, fingerprint) in first.image.files().zip(first.fingerprints.iter()) {
        let path = dir.path().join(file.directory.join(file.name));
        assert_eq!(*fingerprint, Fingerprint::of_file(File::open(path).expect("open")).expect("status").hash());
    }
}

#[test]
fn the_owners_bit_makes_a_file_executable() {
    let dir = tempdir();
    for mode in [0o644, 0o755, 0o700, 0o611, 0o4755] {
        let path = dir.path().join(format!("{mode:04o}"));
        fs::write(&path, "x").expect("write");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("chmod");
    }
    let scan = scanned(dir.path());
    let executable = scan.image.files().filter(|file| file.executable).map(|file| file.name).collect::<Vec<_>>();
    assert_eq!(executable, ["0700", "0755", "4755"]);
}

#[test]
fn progress_ends_at_the_total() {
    let dir = tempdir();
    for i in 0..20 {
        fs::write(dir.path().join(i.to_string()), content(100_000, i)).expect("write");
    }
    let (walked, hashed) = (Mutex::new(0), Mutex::new((0, 0)));
    let progress = |progress| match progress {
        ScanProgress::Walking { entries } => *lock(&walked) = entries,
        ScanProgress::Hashing { done_bytes, total_bytes } => {
            let mut hashed = lock(&hashed);
            *hashed = (hashed.0.max(done_bytes), total_bytes);
        }
    };
    scan(dir.path(), &with_threads(2), &progress).expect("scan");
    assert_eq!((*lock(&walked), *lock(&hashed)), (20, (2_000_000, 2_000_000)));
}

#[test]
fn roots() {
    let dir = tempdir();
    let real = dir.path().join("real");
    fs::create_dir(&real).expect("mkdir");
    let empty = scanned(&real);
    assert_eq!(empty.stats, ScanStats { directories: 1, ..ScanStats::default() });
    let link = dir.path().join("link");
    symlink("real", &link).expect("symlink");
    assert_eq!(scanned(&link).id, empty.id, "a link as root is followed");

    let missing = error(&dir.path().join("no such"));
    assert!(missing.contains("no\\x20such: cannot open the directory: No such file or directory"), "{missing}");
    let file = dir.path().join("file");
    fs::write(&file, "x").expect("write");
    assert!(error(&file).contains("file: cannot open the directory: Not a directory"));
    symlink("loop", dir.path().join("loop")).expect("symlink");
    assert!(
        error(&dir.path().join("loop")).contains("loop: cannot open the directory: Too many levels of symbolic links")
    );
}

/// Makes one stray in `sub` with `make` and returns the scan's error.
fn stray(make: impl Fn(&Path)) -> String {
    let dir = tempdir();
    let sub = dir.path().join("sub");
    fs::create_dir(&sub).expect("mkdir");
    fs::write(sub.join("good"), "x").expect("write");
    make(&sub);
    error(dir.path())
}

#[test]
fn what_no_image_can_hold() {
    let bad = std::ffi::OsStr::from_bytes(b"caf\xe9 x");
    let message = stray(|dir| fs::write(dir.join(bad), "x").expect("write"));
    assert!(message.ends_with("/sub/caf\\xe9\\x20x: the name is not UTF-8"), "{message}");
    let message = stray(|dir| fs::create_dir(dir.join(bad)).expect("mkdir"));
    assert!(message.ends_with("/sub/caf\\xe9\\x20x: the name is not UTF-8"), "{message}");
    let message = stray(|dir| symlink(bad, dir.join("link")).expect("symlink"));
    assert!(message.ends_with("/sub/link: the link's target is not UTF-8: caf\\xe9\\x20x"), "{message}");
    let message = stray(|dir| mknodat(CWD, dir.join("pipe"), FileType::Fifo, Mode::RUSR, 0).expect("mkfifo"));
    assert!(message.ends_with("/sub/pipe is a FIFO: neither a file, a directory nor a symlink"), "{message}");
    let message = stray(|dir| drop(UnixListener::bind(dir.join("sock")).expect("bind")));
    assert!(message.ends_with("/sub/sock is a socket: neither a file, a directory nor a symlink"), "{message}");
    if Path::new("/dev/pts/ptmx").exists() {
        let message = error(Path::new("/dev/pts"));
        assert!(message.contains("is a device: neither a file, a directory nor a symlink"), "{message}");
    }
}

#[test]
fn too_large_is_noticed_before_anything_is_read() {
    let dir = tempdir();
    let file = File::create(dir.path().join("sparse")).expect("create");
    file.set_len(1 << 40).expect("sparse file of 1 TiB");
    assert_eq!(error(dir.path()), "image is too large: more than 16777216 blocks");
}

/// Scans two files with one thread; `change` is called when `a` was opened. Both are old, so that a change shows.
fn changed(change: impl Fn(&Path) + Send + Sync + 'static) -> Option<ScanError> {
    let dir = tempdir();
    for name in ["a", "b"] {
        let mut file = File::create(dir.path().join(name)).expect("create");
        std::io::Write::write_all(&mut file, &content(100_000, 1)).expect("write");
        file.set_modified(UNIX_EPOCH + Duration::from_secs(1_000_000)).expect("set time");
    }
    let path = dir.path().to_owned();
    let after_open = move |name: &str| {
        if name == "a" {
            change(&path);
        }
    };
    scan(dir.path(), &ScanOptions { after_open: Some(Arc::new(after_open)), ..with_threads(1) }, &|_| ()).err()
}

#[test]
fn changes_while_indexing_are_noticed() {
    assert!(changed(|_| ()).is_none());
    let expect = |name: &str, how: &str, change: fn(&Path)| {
        let message = changed(change).expect("changed").to_string();
        assert!(message.ends_with(&format!("/{name}: changed while indexing ({how})")), "{message}");
    };
    let status = "its size, time or status is another one";
    // The file that is being read.
    expect("a", status, |dir| fs::write(dir.join("a"), content(100_000, 2)).expect("write"));
    expect("a", status, |dir| fs::write(dir.join("a"), content(100_001, 1)).expect("write"));
    expect("a", "it became shorter", |dir| fs::write(dir.join("a"), "short").expect("write"));
    // One that is to be read.
    expect("b", status, |dir| fs::write(dir.join("b"), content(100_000, 2)).expect("write"));
    expect("b", "it became shorter", |dir| fs::write(dir.join("b"), "").expect("write"));
    expect("b", "it is gone", |dir| fs::remove_file(dir.join("b")).expect("remove"));
    expect("b", "its type is another one", |dir| {
        fs::remove_file(dir.join("b")).expect("remove");
        symlink("a", dir.join("b")).expect("symlink");
    });
    expect("b", "another file took its place", |dir| {
        fs::write(dir.join("c"), content(100_000, 1)).expect("write");
        fs::remove_file(dir.join("b")).expect("remove");
        fs::hard_link(dir.join("c"), dir.join("b")).expect("link");
    });
    expect("b", "its type is another one", |dir| {
        fs::remove_file(dir.join("b")).expect("remove");
        fs::create_dir(dir.join("b")).expect("mkdir");
    });
    expect("b", "its type is another one", |dir| {
        fs::remove_file(dir.join("b")).expect("remove");
        drop(UnixListener::bind(dir.join("b")).expect("bind"));
    });
    expect("b", "its type is another one", |dir| {
        fs::remove_file(dir.join("b")).expect("remove");
        mknodat(CWD, dir.join("b"), FileType::Fifo, Mode::RUSR, 0).expect("mkfifo");
    });
}

#[test]
fn differences_from_an_image() {
    let dir = tempdir();
    let base = dir.path();
    let write = |name: &str, text: &str| fs::write(base.join(name), text).expect("write");
    for name in ["gone", "same", "sub", "sub/inner", "was dir"] {
        fs::create_dir(base.join(name)).expect("mkdir");
    }
    for name in ["bit", "both", "content", "kept", "longer", "sub/inner/file", "was dir/below", "was file", "was pipe"]
    {
        write(name, "12345");
    }
    symlink("kept", base.join("link")).expect("symlink");
    symlink("kept", base.join("moved")).expect("symlink");
    let image = scanned(base).image;
    let compared = || compare(base, &image, &ScanOptions::default(), &|_| ()).expect("readable");
    assert_eq!(compared(), []);

    fs::remove_dir(base.join("gone")).expect("rmdir");
    write("content", "12346");
    write("longer", "123456");
    write("both", "12346");
    for name in ["bit", "both"] {
        fs::set_permissions(base.join(name), Permissions::from_mode(0o755)).expect("chmod");
    }
    fs::remove_file(base.join("moved")).expect("remove");
    symlink("elsewhere", base.join("moved")).expect("symlink");
    fs::remove_dir_all(base.join("was dir")).expect("remove");
    write("was dir", "now a file");
    fs::remove_file(base.join("was file")).expect("remove");
    fs::create_dir_all(base.join("was file/new")).expect("mkdir");
    fs::remove_file(base.join("was pipe")).expect("remove");
    mknodat(CWD, base.join("was pipe"), FileType::Fifo, Mode::RUSR, 0).expect("mkfifo");
    fs::write(base.join("sub/inner").join(std::ffi::OsStr::from_bytes(b"\xff")), "").expect("write");
    fs::remove_file(base.join("sub/inner/file")).expect("remove");
    let expected = [
        ("bit", DifferenceKind::Executable),
        ("both", DifferenceKind::ContentAndExecutable),
        ("content", DifferenceKind::Content),
        ("gone", DifferenceKind::Missing),
        ("longer", DifferenceKind::Content),
        ("moved", DifferenceKind::Target),
        ("sub/inner/file", DifferenceKind::Missing),
        ("sub/inner/\\xff", DifferenceKind::Extra),
        ("was\\x20dir", DifferenceKind::Type),
        ("was\\x20dir/below", DifferenceKind::Missing),
        ("was\\x20file", DifferenceKind::Type),
        ("was\\x20file/new", DifferenceKind::Extra),
        ("was\\x20pipe", DifferenceKind::Type),
    ];
    assert_eq!(compared(), expected.map(|(path, kind)| Difference { path: path.into(), kind }));
    assert!(matches!(
        compare(&base.join("nowhere"), &image, &ScanOptions::default(), &|_| ()),
        Err(ScanError::Root { .. })
    ));
}
