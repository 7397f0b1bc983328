//! All blocks of a list of files, hashed by several threads, many blocks per call.
//!
//! Each thread claims a few megabytes of the list at a time (part of a large file, or many small ones), fills its buffer
//! across file borders and hashes what is in it at once.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::{Errno, pread, retry_on_intr};

use super::error::{ScanError, shown};
use super::fingerprint::Fingerprint;
use super::{OnProgress, ScanOptions, ScanProgress, lock};
use crate::format::hash::hash_blocks;
use crate::model::ids::BlockHash;
use crate::model::image::{ImageError, blocks_of};
use crate::model::limits;

/// A file to hash, as the walk found it.
#[derive(Debug, Clone, Copy)]
pub(super) struct FileToHash<'a> {
    /// Relative to the root.
    pub(super) directory: &'a str,
    pub(super) name: &'a str,
    /// What its status must be after reading, too.
    pub(super) fingerprint: &'a Fingerprint,
}

/// The hashes of all blocks of `files`, in their order. `dir` is for errors only.
pub(super) fn hash_files(
    dir: &Path,
    root: &OwnedFd,
    files: &[FileToHash<'_>],
    options: &ScanOptions,
    progress: OnProgress<'_>,
) -> Result<Vec<BlockHash>, ScanError> {
    let sum = |of: fn(u64) -> u64| files.iter().fold(0, |sum: u64, file| sum.saturating_add(of(file.fingerprint.size)));
    let (blocks, total_bytes) = (sum(blocks_of), sum(|size| size));
    if blocks > limits::IMAGE_BLOCKS_MAX {
        return Err(ImageError::TooLarge { what: "blocks", max: limits::IMAGE_BLOCKS_MAX }.into());
    }
    let work = Work {
        dir,
        root,
        files,
        options,
        progress,
        total_bytes,
        done_bytes: AtomicU64::new(0),
        cursor: Mutex::new(Cursor::default()),
        hashes: Mutex::new(vec![BlockHash::new([0; 32]); usize::try_from(blocks).unwrap_or(usize::MAX)]),
    };
    let claims =
        total_bytes.div_ceil(limits::SCAN_CLAIM_BYTES).max((files.len() / limits::SCAN_CLAIM_FILES_MAX) as u64);
    let threads = options.thread_count().min(usize::try_from(claims).unwrap_or(usize::MAX)).max(1);
    let mut result = Ok(());
    std::thread::scope(|scope| {
        let others = (1..threads).map(|_| scope.spawn(|| work.run())).collect::<Vec<_>>();
        result = work.run();
        for thread in others {
            let other = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            if result.is_ok() {
                result = other;
            }
        }
    });
    result?;
    Ok(work.hashes.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
}

/// What all hashing threads share.
struct Work<'a> {
    dir: &'a Path,
    root: &'a OwnedFd,
    files: &'a [FileToHash<'a>],
    options: &'a ScanOptions,
    progress: OnProgress<'a>,
    total_bytes: u64,
    done_bytes: AtomicU64,
    cursor: Mutex<Cursor>,
    hashes: Mutex<Vec<BlockHash>>,
}

/// How far the list is claimed.
#[derive(Debug, Clone, Copy, Default)]
struct Cursor {
    file: usize,
    offset: u64,
    /// Number of the block at that place.
    block: usize,
}

/// A part of the list: from `start` on, so many bytes and at most up to (not including) file `end`.
struct Claim {
    start: Cursor,
    bytes: u64,
    end: usize,
}

impl Work<'_> {
    /// One thread's share: claims until there is nothing left. An error leaves nothing to the others, either.
    fn run(&self) -> Result<(), ScanError> {
        let mut batch = Batch::new();
        while let Some(claim) = self.claim() {
            if let Err(error) = self.hash_claim(&claim, &mut batch) {
                lock(&self.cursor).file = self.files.len();
                return Err(error);
            }
        }
        Ok(())
    }

    fn claim(&self) -> Option<Claim> {
        let mut cursor = lock(&self.cursor);
        if cursor.file >= self.files.len() {
            return None;
        }
        let start = *cursor;
        let mut bytes = 0;
        while cursor.file < self.files.len()
            && bytes < limits::SCAN_CLAIM_BYTES
            && cursor.file - start.file < limits::SCAN_CLAIM_FILES_MAX
        {
            let size = self.files[cursor.file].fingerprint.size;
            // A multiple of the block size while more of the file follows: whole blocks only.
            let block_bytes = limits::BLOCK_BYTES as u64;
            let room = (limits::SCAN_CLAIM_BYTES - bytes).next_multiple_of(block_bytes);
            let taken = room.min(size - cursor.offset);
            bytes += taken;
            cursor.offset += taken;
            cursor.block += usize::try_from(blocks_of(taken)).unwrap_or(usize::MAX);
            if cursor.offset == size {
                cursor.file += 1;
                cursor.offset = 0;
            }
        }
        Some(Claim { start, bytes, end: self.files.len().min(start.file + limits::SCAN_CLAIM_FILES_MAX + 1) })
    }

    fn hash_claim(&self, claim: &Claim, batch: &mut Batch) -> Result<(), ScanError> {
        batch.first_block = claim.start.block;
        let mut left = claim.bytes;
        let mut offset = claim.start.offset;
        for file in &self.files[claim.start.file..claim.end] {
            let len = left.min(file.fingerprint.size - offset);
            if len > 0 {
                self.read_file(file, offset, len, batch)?;
            }
            left -= len;
            offset = 0;
            if left == 0 {
                break;
            }
        }
        self.flush(batch);
        Ok(())
    }

    /// Reads `len` bytes from `offset` on into batches, and looks whether the file is still the one that was walked.
    fn read_file(&self, file: &FileToHash<'_>, mut offset: u64, len: u64, batch: &mut Batch) -> Result<(), ScanError> {
        let path =
            if file.directory.is_empty() { file.name.to_owned() } else { format!("{}/{}", file.directory, file.name) };
        let shown = || shown(self.dir, path.as_bytes());
        // NONBLOCK: should it have become a FIFO meanwhile, opening must not wait for a writer.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let opened = batch.folder(self.root, file.directory);
        let opened = opened.and_then(|folder| retry_on_intr(|| openat(folder, file.name, flags, Mode::empty())));
        let handle = opened.map_err(|errno| ScanError::of_entry(shown(), "open it", errno))?;
        if let Some(after_open) = &self.options.after_open {
            after_open(&path);
        }
        let end = offset + len;
        while offset < end {
            if batch.room(end - offset).is_none() {
                self.flush(batch);
            }
            let Some(buffer) = batch.room(end - offset) else { break };
            let mut read = 0;
            while read < buffer.len() {
                let count = retry_on_intr(|| pread(&handle, &mut buffer[read..], offset + read as u64));
                let count = count.map_err(|errno| ScanError::of_entry(shown(), "read it", errno))?;
                if count == 0 {
                    return Err(ScanError::Changed { path: shown(), how: "it became shorter" });
                }
                read += count;
            }
            batch.push(read);
            offset += read as u64;
        }
        let after =
            Fingerprint::of_file(&handle).map_err(|errno| ScanError::of_entry(shown(), "read its status", errno))?;
        if after != *file.fingerprint {
            let how = if (after.device, after.inode) == (file.fingerprint.device, file.fingerprint.inode) {
                "its size, time or status is another one"
            } else {
                "another file took its place"
            };
            return Err(ScanError::Changed { path: shown(), how });
        }
        Ok(())
    }

    /// Hashes what is in the batch and empties it.
    fn flush(&self, batch: &mut Batch) {
        if batch.lens.is_empty() {
            return;
        }
        let mut rest = &batch.buffer[..batch.used];
        let blocks = batch.lens.iter().map(|len| {
            let (block, tail) = rest.split_at(*len);
            rest = tail;
            block
        });
        let hashes = hash_blocks(self.options.kind, &blocks.collect::<Vec<_>>());
        let next = batch.first_block + hashes.len();
        lock(&self.hashes)[batch.first_block..next].copy_from_slice(&hashes);
        let bytes = batch.used as u64;
        batch.first_block = next;
        batch.used = 0;
        batch.lens.clear();
        let done_bytes = self.done_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        (self.progress)(ScanProgress::Hashing { done_bytes, total_bytes: self.total_bytes });
    }
}

/// Blocks, consecutive in the list, that were read and not yet hashed.
struct Batch {
    /// The directory of the file that was read last: most files are in the same one as the file before.
    folder: Option<(String, OwnedFd)>,
    buffer: Vec<u8>,
    used: usize,
    /// Of each block.
    lens: Vec<usize>,
    first_block: usize,
}

impl Batch {
    fn new() -> Self {
        let lens = Vec::with_capacity(limits::SCAN_BATCH_BLOCKS_MAX);
        Self { folder: None, buffer: vec![0; limits::SCAN_BATCH_BYTES], used: 0, lens, first_block: 0 }
    }

    fn folder<'a>(&'a mut self, root: &'a OwnedFd, path: &str) -> Result<&'a OwnedFd, Errno> {
        if path.is_empty() {
            return Ok(root);
        }
        let last = self.folder.take().filter(|(last, _)| last == path);
        let folder = match last {
            Some(folder) => folder,
            None => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
                (path.to_owned(), retry_on_intr(|| openat(root, path, flags, Mode::empty()))?)
            }
        };
        Ok(&self.folder.insert(folder).1)
    }

    /// Where to read the next bytes of a file of which `len` are left: whole blocks, or up to its end. `None`: hash first.
    fn room(&mut self, len: u64) -> Option<&mut [u8]> {
        let free = self.buffer.len() - self.used;
        let blocks = (limits::SCAN_BATCH_BLOCKS_MAX - self.lens.len()) * limits::BLOCK_BYTES;
        let free = free.min(blocks);
        let take = match usize::try_from(len) {
            Ok(len) if len <= free => len,
            _ => free / limits::BLOCK_BYTES * limits::BLOCK_BYTES,
        };
        (take > 0).then(|| &mut self.buffer[self.used..self.used + take])
    }

    /// The first `len` bytes of [`Self::room`] were read.
    fn push(&mut self, len: usize) {
        let (whole, part) = (len / limits::BLOCK_BYTES, len % limits::BLOCK_BYTES);
        self.lens.extend(std::iter::repeat_n(limits::BLOCK_BYTES, whole));
        self.lens.extend((part > 0).then_some(part));
        self.used += len;
    }
}
