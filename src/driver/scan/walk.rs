//! The tree without its contents: names, types, status and link targets, read by several threads.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, openat, readlinkat, statx};
use rustix::io::{Errno, retry_on_intr};

use super::error::{ScanError, SpecialFile, shown};
use super::fingerprint::{FIELDS, Fingerprint};
use super::{OnProgress, ScanOptions, ScanProgress, lock};
use crate::model::escape::escaped;
use crate::model::image::{ImageError, blocks_of, directory_order, path_order};
use crate::model::limits;

/// Bytes of directory entries that one system call may return.
const DIRENT_BYTES: usize = 32 << 10;
/// The owner's bit decides, as for all writers of the format.
const EXECUTABLE: u16 = 0o100;

/// A walked directory.
#[derive(Debug)]
pub(super) struct Tree {
    /// The directory itself.
    pub(super) root: OwnedFd,
    /// In index order; the first is the root.
    pub(super) directories: Vec<WalkedDirectory>,
    /// What no image can hold, in index order.
    pub(super) strays: Vec<Stray>,
}

#[derive(Debug, Default)]
pub(super) struct WalkedDirectory {
    /// Relative to the root, empty for the root.
    pub(super) path: Box<str>,
    /// The names of its files.
    names: String,
    /// Sorted by the bytes of their names.
    files: Vec<WalkedFile>,
    /// Sorted by the bytes of their names.
    pub(super) links: Vec<WalkedLink>,
}

/// There may be millions.
#[derive(Debug)]
struct WalkedFile {
    fingerprint: Fingerprint,
    name_start: u32,
    name_len: u16,
    executable: bool,
}

#[derive(Debug)]
pub(super) struct WalkedLink {
    pub(super) name: Box<str>,
    pub(super) target: Box<str>,
}

/// A file of the tree.
#[derive(Debug, Clone, Copy)]
pub(super) struct TreeFile<'a> {
    pub(super) id: FileId,
    /// Relative to the root.
    pub(super) directory: &'a str,
    pub(super) name: &'a str,
    pub(super) executable: bool,
    pub(super) fingerprint: &'a Fingerprint,
}

/// Which file of the tree, and where the hashes of its blocks belong.
#[derive(Debug, Clone, Copy)]
pub(super) struct FileId {
    directory: u32,
    file: u32,
    /// The number of its first block among those of all files.
    first_block: u32,
}

/// An entry that no image can hold.
#[derive(Debug)]
pub(super) struct Stray {
    /// Relative to the root.
    pub(super) path: Vec<u8>,
    /// Why.
    pub(super) error: ScanError,
}

impl Tree {
    /// Each file, in index order. Their blocks must be counted before: no image has more than fit in 32 bits.
    pub(super) fn files(&self) -> impl Iterator<Item = TreeFile<'_>> {
        let mut block = 0;
        (0..)
            .zip(&self.directories)
            .flat_map(|(directory, walked)| (0..walked.files.len()).map(move |file| (directory, file)))
            .filter_map(move |(directory, file)| {
                let id = FileId { directory, file: u32::try_from(file).ok()?, first_block: block };
                let file = self.file(id)?;
                block = block.saturating_add(u32::try_from(blocks_of(file.fingerprint.size)).unwrap_or(u32::MAX));
                Some(file)
            })
    }

    pub(super) fn file(&self, id: FileId) -> Option<TreeFile<'_>> {
        self.directories.get(id.directory as usize)?.file(id)
    }

    /// How many.
    pub(super) fn file_count(&self) -> usize {
        self.directories.iter().map(|directory| directory.files.len()).sum()
    }

    /// The sum of something of each file's size.
    pub(super) fn sum(&self, of: impl Fn(u64) -> u64) -> u64 {
        let files = self.directories.iter().flat_map(|directory| &directory.files);
        files.fold(0, |sum, file| sum.saturating_add(of(file.fingerprint.size)))
    }
}

impl FileId {
    /// The same with its hashes elsewhere.
    pub(super) fn at_block(self, first: usize) -> Self {
        Self { first_block: u32::try_from(first).unwrap_or(u32::MAX), ..self }
    }

    /// Its hashes among those of all files.
    pub(super) fn blocks(self, size: u64) -> Range<usize> {
        let first = self.first_block as usize;
        first..first.saturating_add(usize::try_from(blocks_of(size)).unwrap_or(usize::MAX))
    }
}

impl WalkedDirectory {
    /// Names and files, sorted by names.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, bool, &Fingerprint)> {
        self.files.iter().map(|file| (name(&self.names, file), file.executable, &file.fingerprint))
    }

    fn file(&self, id: FileId) -> Option<TreeFile<'_>> {
        let file = self.files.get(id.file as usize)?;
        let WalkedFile { executable, ref fingerprint, .. } = *file;
        Some(TreeFile { id, directory: &self.path, name: name(&self.names, file), executable, fingerprint })
    }

    /// Adds a file, in any order; `None`: the names are too long.
    fn push(&mut self, name: &str, executable: bool, fingerprint: Fingerprint) -> Option<()> {
        let (name_start, name_len) = (u32::try_from(self.names.len()).ok()?, u16::try_from(name.len()).ok()?);
        self.names.push_str(name);
        self.files.push(WalkedFile { fingerprint, name_start, name_len, executable });
        Some(())
    }

    /// Nothing is added any more.
    fn finish(&mut self) {
        let names = &self.names;
        self.files.sort_unstable_by(|a, b| name(names, a).as_bytes().cmp(name(names, b).as_bytes()));
        self.links.sort_unstable_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
        self.names.shrink_to_fit();
        self.files.shrink_to_fit();
        self.links.shrink_to_fit();
    }
}

fn name<'a>(names: &'a str, file: &WalkedFile) -> &'a str {
    let start = file.name_start as usize;
    &names[start..start + usize::from(file.name_len)]
}

/// Walks `dir`, which may itself be a link to a directory; links below are not followed.
pub(super) fn walk(dir: &Path, options: &ScanOptions, progress: OnProgress<'_>) -> Result<Tree, ScanError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = retry_on_intr(|| openat(CWD, dir, flags, Mode::empty()));
    let root = root.map_err(|errno| ScanError::Root { path: shown(dir, b""), source: errno.into() })?;
    let walk = Walk {
        dir,
        root: &root,
        progress,
        entries: AtomicUsize::new(0),
        queue: Mutex::new(Queue { pending: vec![String::new()], busy: 0, error: None }),
        wake: Condvar::new(),
    };
    let mut found = Found::default();
    std::thread::scope(|scope| {
        let threads = (0..options.thread_count()).map(|_| scope.spawn(|| walk.work())).collect::<Vec<_>>();
        for thread in threads {
            let mut one = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            found.directories.append(&mut one.directories);
            found.strays.append(&mut one.strays);
        }
    });
    let queue = walk.queue.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = queue.error {
        return Err(error);
    }
    let Found { mut directories, mut strays } = found;
    directories.sort_unstable_by(|a, b| directory_order(&a.path, &b.path));
    strays.sort_unstable_by(|a, b| path_order(&a.path, &b.path));
    Ok(Tree { root, directories, strays })
}

/// What all walking threads share.
struct Walk<'a> {
    dir: &'a Path,
    root: &'a OwnedFd,
    progress: OnProgress<'a>,
    entries: AtomicUsize,
    queue: Mutex<Queue>,
    wake: Condvar,
}

/// Directories still to be read: at most as many as an image may have entries.
struct Queue {
    pending: Vec<String>,
    /// Threads that are reading one and may find more.
    busy: usize,
    /// Ends the walk.
    error: Option<ScanError>,
}

/// What one thread found.
#[derive(Default)]
struct Found {
    directories: Vec<WalkedDirectory>,
    strays: Vec<Stray>,
}

impl Walk<'_> {
    fn work(&self) -> Found {
        let mut found = Found::default();
        let mut buffer = vec![MaybeUninit::uninit(); DIRENT_BYTES];
        while let Some(path) = self.next() {
            let result = self.read_directory(path, &mut buffer, &mut found);
            let mut queue = lock(&self.queue);
            queue.busy -= 1;
            match result {
                Ok(mut below) => queue.pending.append(&mut below),
                Err(error) => {
                    queue.error.get_or_insert(error);
                }
            }
            drop(queue);
            self.wake.notify_all();
        }
        found
    }

    /// The next directory; `None` when all are read, or one failed.
    fn next(&self) -> Option<String> {
        let mut queue = lock(&self.queue);
        loop {
            if queue.error.is_some() {
                return None;
            }
            if let Some(path) = queue.pending.pop() {
                queue.busy += 1;
                return Some(path);
            }
            if queue.busy == 0 {
                return None;
            }
            queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Reads one directory into `found`; returns the directories in it.
    fn read_directory(
        &self,
        path: String,
        buffer: &mut [MaybeUninit<u8>],
        found: &mut Found,
    ) -> Result<Vec<String>, ScanError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let name = if path.is_empty() { "." } else { &path };
        let failed = |errno| ScanError::of_entry(shown(self.dir, path.as_bytes()), "read the directory", errno);
        let handle = retry_on_intr(|| openat(self.root, name, flags, Mode::empty())).map_err(failed)?;
        let (mut walked, mut below) = (WalkedDirectory::default(), Vec::new());
        let mut listing = RawDir::new(&handle, buffer);
        while let Some(entry) = listing.next() {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            match self.read_entry(&handle, &path, name, entry.file_type())? {
                Read::Directory(path) => below.push(path),
                Read::File { name, executable, fingerprint } => {
                    let max = limits::INDEX_BYTES_MAX as u64;
                    let added = walked.push(name, executable, fingerprint);
                    added.ok_or(ImageError::TooLarge { what: "bytes of index", max })?;
                }
                Read::Link(link) => walked.links.push(link),
                Read::Stray(stray) => found.strays.push(stray),
            }
        }
        self.count(walked.files.len() + walked.links.len() + below.len())?;
        walked.path = path.into();
        walked.finish();
        found.directories.push(walked);
        Ok(below)
    }

    fn read_entry<'n>(
        &self,
        directory: &OwnedFd,
        path: &str,
        name: &'n CStr,
        mut kind: FileType,
    ) -> Result<Read<'n>, ScanError> {
        let path =
            if path.is_empty() { name.to_bytes().to_vec() } else { [path.as_bytes(), b"/", name.to_bytes()].concat() };
        let stray = |path: &[u8], error| Ok(Read::Stray(Stray { path: path.to_vec(), error }));
        let (Ok(text), Ok(path)) = (name.to_str(), String::from_utf8(path.clone())) else {
            return stray(&path, ScanError::NotUtf8 { path: shown(self.dir, &path) });
        };
        let shown = || shown(self.dir, path.as_bytes());
        let mut status = None;
        if kind == FileType::Unknown || kind == FileType::RegularFile {
            let read = retry_on_intr(|| statx(directory, name, AtFlags::SYMLINK_NOFOLLOW, FIELDS));
            let read = read.map_err(|errno| ScanError::of_entry(shown(), "read its status", errno))?;
            kind = FileType::from_raw_mode(read.stx_mode.into());
            status = Some(read);
        }
        if kind == FileType::Directory {
            return Ok(Read::Directory(path));
        }
        match (status, kind) {
            (Some(status), FileType::RegularFile) => {
                let executable = status.stx_mode & EXECUTABLE != 0;
                Ok(Read::File { name: text, executable, fingerprint: Fingerprint::from(&status) })
            }
            (_, FileType::Symlink) => {
                let target = readlinkat(directory, name, Vec::new());
                let target = target.map_err(|errno| match errno {
                    Errno::INVAL => ScanError::Changed { path: shown(), how: "its type is another one" },
                    errno => ScanError::of_entry(shown(), "read the link", errno),
                })?;
                match target.into_string() {
                    Ok(target) => Ok(Read::Link(WalkedLink { name: text.into(), target: target.into() })),
                    Err(bad) => {
                        let target = escaped(bad.into_cstring().as_bytes());
                        stray(path.as_bytes(), ScanError::TargetNotUtf8 { path: shown(), target })
                    }
                }
            }
            (_, other) => {
                let kind = SpecialFile::of(other);
                stray(path.as_bytes(), ScanError::Special { path: shown(), kind })
            }
        }
    }

    /// Keeps the whole walk within an image's bound.
    fn count(&self, entries: usize) -> Result<(), ScanError> {
        let entries = self.entries.fetch_add(entries, Ordering::Relaxed) + entries;
        (self.progress)(ScanProgress::Walking { entries });
        if entries > limits::IMAGE_ENTRIES_MAX {
            return Err(ImageError::TooLarge { what: "entries", max: limits::IMAGE_ENTRIES_MAX as u64 }.into());
        }
        Ok(())
    }
}

/// One directory entry.
enum Read<'n> {
    Directory(String),
    File { name: &'n str, executable: bool, fingerprint: Fingerprint },
    Link(WalkedLink),
    Stray(Stray),
}
