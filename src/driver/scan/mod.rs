//! A directory → its image and index, in parallel, with memory for file contents that doesn't grow with the files.
//!
//! First the tree is walked (`walk`) and every entry's status taken, then all files' blocks are hashed (`digest`). A file
//! whose status is another one after it was read than it was at the walk is an error, as is all that an image can't hold.
//! Of files that didn't change since an earlier scan the hashes are known (`cache`).
//! [`compare()`] holds a directory against an image. Serving what was scanned is `driver/image_reader`'s.

mod cache;
#[cfg(test)]
mod cache_tests;
mod compare;
mod digest;
mod error;
mod fingerprint;
#[cfg(test)]
mod tests;
mod walk;

use std::fmt;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use cache::ScanCache;
pub use compare::{Difference, DifferenceKind, compare};
pub use error::{ScanError, SpecialFile};
pub use fingerprint::Fingerprint;

use crate::format::index;
use crate::model::hash_kind::HashKind;
use crate::model::ids::{BlockHash, ImageId};
use crate::model::image::{Image, ImageBuilder, ImageError};
use crate::model::limits;

use cache::{Hashes, Known};
use digest::{FileToHash, hash_files};
use walk::{Tree, WalkedKind, walk};

/// Called with a file's path, relative to the root, just after it was opened: lets tests interfere at that moment.
pub type AfterOpen = Arc<dyn Fn(&str) + Send + Sync>;

/// How to scan.
#[derive(Clone, Default)]
pub struct ScanOptions {
    /// The hash of blocks and index.
    pub kind: HashKind,
    /// How many threads; `None`: one per available core.
    pub threads: Option<NonZeroUsize>,
    /// Where to look for hashes of files that didn't change, and to keep them; `None`: all are read.
    pub cache: Option<ScanCache>,
    /// For tests.
    pub after_open: Option<AfterOpen>,
}

/// How far a scan is. Told often, from several threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanProgress {
    /// Looking at the tree: so many entries were found.
    Walking { entries: usize },
    /// Reading and hashing.
    Hashing { done_bytes: u64, total_bytes: u64 },
}

/// What a callback for progress looks like; it should return at once.
pub type OnProgress<'a> = &'a (dyn Fn(ScanProgress) + Sync);

/// A scanned directory.
#[derive(Debug, Clone)]
pub struct Scan {
    /// What is in it.
    pub image: Arc<Image>,
    /// The image's id.
    pub id: ImageId,
    /// The index text.
    pub index: Vec<u8>,
    /// For people.
    pub stats: ScanStats,
    /// Of each file in the order of [`Image::files`], as it was when its content was hashed.
    pub fingerprints: Arc<[Fingerprint]>,
}

/// How much was scanned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScanStats {
    /// The root included.
    pub directories: usize,
    /// Regular files.
    pub files: usize,
    /// Of these: whose hashes were known.
    pub unchanged_files: usize,
    /// Symbolic links.
    pub symlinks: usize,
    /// Of all files.
    pub bytes: u64,
    /// Of all files.
    pub blocks: u64,
}

/// Scans `dir`. Blocks until done: not for an event loop's thread.
pub fn scan(dir: &Path, options: &ScanOptions, progress: OnProgress<'_>) -> Result<Scan, ScanError> {
    let tree = walk(dir, options, progress)?;
    if let Some(stray) = tree.strays.into_iter().next() {
        return Err(stray.error);
    }
    let tree = Tree { strays: Vec::new(), ..tree };
    let Contents { known, read, unchanged_files } = contents(dir, &tree, options, progress)?;
    let image = build(options.kind, &tree, Hashes::new(&known, &read))?;
    drop((known, read));
    let fingerprints = fingerprints_of(&tree);
    drop(tree);
    if index::text_bytes(&image) > limits::INDEX_BYTES_MAX as u64 {
        return Err(ImageError::TooLarge { what: "bytes of index", max: limits::INDEX_BYTES_MAX as u64 }.into());
    }
    let (id, index) = index::emit(&image);
    let stats = ScanStats {
        directories: image.directories().len(),
        files: fingerprints.len(),
        unchanged_files,
        symlinks: image.entry_count() - image.directories().len() - fingerprints.len(),
        bytes: image.total_bytes(),
        blocks: image.block_count(),
    };
    Ok(Scan { image: Arc::new(image), id, index, stats, fingerprints })
}

/// The hashes of all files.
struct Contents {
    known: Known,
    read: Vec<BlockHash>,
    unchanged_files: usize,
}

fn contents(dir: &Path, tree: &Tree, options: &ScanOptions, progress: OnProgress<'_>) -> Result<Contents, ScanError> {
    let files = files_of(tree);
    // What is hashed in no time isn't worth a file.
    let cache = options.cache.as_ref().filter(|_| bytes_of(&files) >= limits::SCAN_CACHE_WORTH_BYTES);
    let kept = cache.and_then(|cache| cache.of(dir, options.kind));
    let known = kept.as_ref().map(|kept| kept.recall(&files)).unwrap_or_default();
    let unchanged_files = known.count();
    let read = if unchanged_files == 0 {
        hash_files(dir, &tree.root, &files, options, progress)?
    } else {
        let unknown = files.iter().enumerate().filter(|(number, _)| !known.has(*number)).map(|(_, file)| *file);
        hash_files(dir, &tree.root, &unknown.collect::<Vec<_>>(), options, progress)?
    };
    if let Some(kept) = kept {
        kept.keep(&files, &known, &Hashes::new(&known, &read));
    }
    Ok(Contents { known, read, unchanged_files })
}

fn files_of(tree: &Tree) -> Vec<FileToHash<'_>> {
    tree.files().map(|(directory, name, fingerprint)| FileToHash { directory, name, fingerprint }).collect()
}

fn bytes_of(files: &[FileToHash<'_>]) -> u64 {
    files.iter().fold(0, |sum, file| sum.saturating_add(file.fingerprint.size))
}

fn fingerprints_of(tree: &Tree) -> Arc<[Fingerprint]> {
    tree.files().map(|(_, _, fingerprint)| *fingerprint).collect()
}

/// Puts the walked tree and its hashes together.
fn build(kind: HashKind, tree: &Tree, mut hashes: Hashes<'_>) -> Result<Image, ScanError> {
    let mut builder = ImageBuilder::new(kind);
    let mut files = 0;
    for directory in &tree.directories {
        builder.directory(&directory.path)?;
        for entry in &directory.entries {
            match &entry.kind {
                WalkedKind::Symlink { target } => builder.symlink(&entry.name, target)?,
                WalkedKind::File { executable, fingerprint } => {
                    let own = hashes.next(files, fingerprint.size);
                    builder.file(&entry.name, *executable, fingerprint.size, own)?;
                    files += 1;
                }
            }
        }
    }
    Ok(builder.finish()?)
}

impl ScanOptions {
    /// With that hash, everything else by default.
    pub fn new(kind: HashKind) -> Self {
        Self { kind, ..Self::default() }
    }

    fn thread_count(&self) -> usize {
        let threads = self.threads.or_else(|| std::thread::available_parallelism().ok());
        threads.map_or(1, NonZeroUsize::get).min(limits::SCAN_THREADS_MAX)
    }
}

impl fmt::Debug for ScanOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScanOptions").field("kind", &self.kind).field("threads", &self.threads).finish_non_exhaustive()
    }
}

/// A thread that panicked ends the scan anyway: what it left behind isn't used.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
