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
use super::walk::{FileId, Tree, TreeFile};
use super::{OnProgress, ScanOptions, ScanProgress, lock};
use crate::format::hash::hash_blocks;
use crate::model::ids::BlockHash;
use crate::model::limits;

/// Puts the hashes of all blocks of `files` to their places among `hashes`. `dir` is for errors only.
pub(super) fn hash_files(
    dir: &Path,
    tree: &Tree,
    files: &[FileId],
    hashes: &mut [BlockHash],
    options: &ScanOptions,
    progress: OnProgress<'_>,
) -> Result<(), ScanError> {
    let sizes = files.iter().filter_map(|file| Some(tree.file(*file)?.fingerprint.size));
    let total_bytes = sizes.fold(0, u64::saturating_add);
    let work = Work {
        dir,
        tree,
        files,
        options,
        progress,
        total_bytes,
        done_bytes: AtomicU64::new(0),
        cursor: Mutex::new(Cursor::default()),
        hashes: Mutex::new(hashes),
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
    result
}

/// What all hashing threads share.
struct Work<'a> {
    dir: &'a Path,
    tree: &'a Tree,
    files: &'a [FileId],
    options: &'a ScanOptions,
    progress: OnProgress<'a>,
    total_bytes: u64,
    done_bytes: AtomicU64,
    cursor: Mutex<Cursor>,
    hashes: Mutex<&'a mut [BlockHash]>,
}

/// How far the list is claimed.
#[derive(Debug, Clone, Copy, Default)]
struct Cursor {
    file: usize,
    offset: u64,
}

/// A part of the list: from `start` on, so many bytes and at most up to (not including) file `end`.
struct Claim {
    start: Cursor,
    bytes: u64,
    end: usize,
}

impl<'a> Work<'a> {
    fn file(&self, number: usize) -> Option<TreeFile<'a>> {
        self.tree.file(*self.files.get(number)?)
    }

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
        while bytes < limits::SCAN_CLAIM_BYTES && cursor.file - start.file < limits::SCAN_CLAIM_FILES_MAX {
            let Some(file) = self.file(cursor.file) else { break };
            let size = file.fingerprint.size;
            // A multiple of the block size while more of the file follows: whole blocks only.
            let block_bytes = limits::BLOCK_BYTES as u64;
            let room = (limits::SCAN_CLAIM_BYTES - bytes).next_multiple_of(block_bytes);
            let taken = room.min(size - cursor.offset);
            bytes += taken;
            cursor.offset += taken;
            if cursor.offset == size {
                cursor.file += 1;
                cursor.offset = 0;
            }
        }
        Some(Claim { start, bytes, end: self.files.len().min(start.file + limits::SCAN_CLAIM_FILES_MAX + 1) })
    }

    fn hash_claim(&self, claim: &Claim, batch: &mut Batch) -> Result<(), ScanError> {
        let mut left = claim.bytes;
        let mut offset = claim.start.offset;
        for file in (claim.start.file..claim.end).filter_map(|number| self.file(number)) {
            let len = left.min(file.fingerprint.size - offset);
            if len > 0 {
                self.read_file(&file, offset, len, batch)?;
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
    fn read_file(&self, file: &TreeFile<'_>, mut offset: u64, len: u64, batch: &mut Batch) -> Result<(), ScanError> {
        let path =
            if file.directory.is_empty() { file.name.to_owned() } else { format!("{}/{}", file.directory, file.name) };
        let shown = || shown(self.dir, path.as_bytes());
        // NONBLOCK: should it have become a FIFO meanwhile, opening must not wait for a writer.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let opened = batch.folder(&self.tree.root, file.directory);
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
            batch.push(file.id.blocks(offset).end, read);
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
        if batch.blocks.is_empty() {
            return;
        }
        let mut rest = &batch.buffer[..batch.used];
        let blocks = batch.blocks.iter().map(|(_, len)| {
            let (block, tail) = rest.split_at(*len);
            rest = tail;
            block
        });
        let hashed = hash_blocks(self.options.kind, &blocks.collect::<Vec<_>>());
        let mut hashes = lock(&self.hashes);
        for ((number, _), hash) in batch.blocks.iter().zip(hashed) {
            hashes[*number] = hash;
        }
        drop(hashes);
        let bytes = batch.used as u64;
        batch.used = 0;
        batch.blocks.clear();
        let done_bytes = self.done_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        (self.progress)(ScanProgress::Hashing { done_bytes, total_bytes: self.total_bytes });
    }
}

/// Blocks that were read and not yet hashed.
struct Batch {
    /// The directory of the file that was read last: most files are in the same one as the file before.
    folder: Option<(String, OwnedFd)>,
    buffer: Vec<u8>,
    used: usize,
    /// Number and length of each.
    blocks: Vec<(usize, usize)>,
}

impl Batch {
    fn new() -> Self {
        let blocks = Vec::with_capacity(limits::SCAN_BATCH_BLOCKS_MAX);
        Self { folder: None, buffer: vec![0; limits::SCAN_BATCH_BYTES], used: 0, blocks }
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
        let blocks = (limits::SCAN_BATCH_BLOCKS_MAX - self.blocks.len()) * limits::BLOCK_BYTES;
        let free = free.min(blocks);
        let take = match usize::try_from(len) {
            Ok(len) if len <= free => len,
            _ => free / limits::BLOCK_BYTES * limits::BLOCK_BYTES,
        };
        (take > 0).then(|| &mut self.buffer[self.used..self.used + take])
    }

    /// The first `len` bytes of [`Self::room`] were read: blocks from number `first` on.
    fn push(&mut self, first: usize, len: usize) {
        let lens = (0..len).step_by(limits::BLOCK_BYTES).map(|at| limits::BLOCK_BYTES.min(len - at));
        self.blocks.extend((first..).zip(lens));
        self.used += len;
    }
}
