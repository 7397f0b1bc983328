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
pub use fingerprint::{Fingerprint, FingerprintHash};

use crate::format::index::{self, IndexText};
use crate::model::hash_kind::HashKind;
use crate::model::ids::{BlockHash, ImageId};
use crate::model::image::{Image, ImageBuilder, ImageError, blocks_of};
use crate::model::limits;

use cache::Unknown;
use digest::hash_files;
use walk::{Tree, walk};

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
    pub index: IndexText,
    /// For people.
    pub stats: ScanStats,
    /// Of each file in the order of [`Image::files`], as it was when its content was hashed.
    pub fingerprints: Arc<[FingerprintHash]>,
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
    let Contents { hashes, unchanged_files } = contents(dir, &tree, options, progress)?;
    let (image, fingerprints) = build(options.kind, tree, hashes)?;
    if index::text_bytes(&image) > limits::INDEX_BYTES_MAX as u64 {
        return Err(ImageError::TooLarge { what: "bytes of index", max: limits::INDEX_BYTES_MAX as u64 }.into());
    }
    let image = Arc::new(image);
    let index = IndexText::of(Arc::clone(&image));
    let stats = ScanStats {
        directories: image.directories().len(),
        files: fingerprints.len(),
        unchanged_files,
        symlinks: image.entry_count() - image.directories().len() - fingerprints.len(),
        bytes: image.total_bytes(),
        blocks: image.block_count(),
    };
    Ok(Scan { image, id: index.id(), index, stats, fingerprints })
}

/// The hashes of all files.
struct Contents {
    hashes: Vec<BlockHash>,
    unchanged_files: usize,
}

fn contents(dir: &Path, tree: &Tree, options: &ScanOptions, progress: OnProgress<'_>) -> Result<Contents, ScanError> {
    let blocks = tree.sum(blocks_of);
    let Some(blocks) = usize::try_from(blocks).ok().filter(|_| blocks <= limits::IMAGE_BLOCKS_MAX) else {
        return Err(ImageError::TooLarge { what: "blocks", max: limits::IMAGE_BLOCKS_MAX }.into());
    };
    let mut hashes = vec![BlockHash::new([0; 32]); blocks];
    // What is hashed in no time isn't worth a file.
    let cache = options.cache.as_ref().filter(|_| tree.sum(|size| size) >= limits::SCAN_CACHE_WORTH_BYTES);
    let kept = cache.and_then(|cache| cache.of(dir, options.kind));
    let unknown = kept.as_ref().map_or_else(|| Unknown::all(tree), |kept| kept.recall(tree, &mut hashes));
    hash_files(dir, tree, &unknown.files, &mut hashes, options, progress)?;
    if let Some(kept) = kept {
        kept.keep(tree, &unknown, &hashes);
    }
    Ok(Contents { hashes, unchanged_files: tree.file_count() - unknown.files.len() })
}

/// Puts the walked tree and its hashes together. Of the tree nothing is left that isn't needed any more: both have an entry for each file.
fn build(kind: HashKind, tree: Tree, hashes: Vec<BlockHash>) -> Result<(Image, Arc<[FingerprintHash]>), ScanError> {
    let mut builder = ImageBuilder::new(kind);
    let mut fingerprints = Vec::with_capacity(tree.file_count());
    for directory in tree.directories {
        builder.directory(&directory.path)?;
        let mut links = directory.links.iter().peekable();
        for (name, executable, fingerprint) in directory.files() {
            while let Some(link) = links.next_if(|link| link.name.as_bytes() < name.as_bytes()) {
                builder.symlink(&link.name, &link.target)?;
            }
            builder.file_of(name, executable, fingerprint.size)?;
            fingerprints.push(fingerprint.hash());
        }
        for link in links {
            builder.symlink(&link.name, &link.target)?;
        }
    }
    Ok((builder.finish_with(hashes)?, fingerprints.into()))
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
