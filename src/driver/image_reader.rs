//! Blocks of a scanned directory, for whoever uploads it: runs as they are asked for, and single blocks by hash.
//!
//! What is handed out is what the image says: a file whose status is another one than at the scan is hashed again, and
//! refused if its content is another one too.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::buffer::spare_capacity;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{Errno, pread, retry_on_intr};

use crate::driver::scan::{Fingerprint, FingerprintHash, Scan};
use crate::format::hash::hash_blocks;
use crate::model::escape::escaped;
use crate::model::ids::BlockHash;
use crate::model::image::{Image, blocks_of};
use crate::model::limits;
use crate::model::run::Run;

/// Reads a scanned directory. Threads may share it.
#[derive(Debug)]
pub struct ImageReader {
    root: OwnedFd,
    image: Arc<Image>,
    /// Of each file that has blocks, in index order, with the number of its first block.
    files: Vec<(u32, FingerprintHash)>,
    /// Files opened last, the most recent one first.
    open: Mutex<VecDeque<(u64, Arc<OwnedFd>)>>,
    /// Block numbers sorted by hash; made when first needed.
    by_hash: OnceLock<Vec<u32>>,
}

/// Why blocks can't be read. Nothing was handed out.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The directory itself can't be opened.
    #[error("{}: cannot open the directory: {source}", dir.display())]
    Root { dir: PathBuf, source: io::Error },
    /// The run is empty, too long or goes beyond the image.
    #[error("{count} blocks from number {first} on are not in the image, or more than one request may ask for", count = .0.count, first = .0.first)]
    OutOfRange(Run),
    /// A file can't be opened or read.
    #[error("{path}: cannot {doing}: {source}")]
    Io { path: String, doing: &'static str, source: io::Error },
    /// A file's content isn't that which was indexed.
    #[error("{path}: changed after it was indexed")]
    Changed { path: String },
}

/// Part of a run: consecutive blocks of one file.
struct Piece {
    first_block: u64,
    file_first_block: u64,
    path: String,
    offset: u64,
    len: usize,
}

impl ImageReader {
    /// A reader for the directory that `scan` was made of.
    pub fn new(dir: PathBuf, scan: &Scan) -> Result<Self, ReadError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = retry_on_intr(|| openat(CWD, &dir, flags, Mode::empty()));
        let root = root.map_err(|errno| ReadError::Root { dir, source: errno.into() })?;
        let files = scan.image.files().zip(scan.fingerprints.iter()).filter(|(file, _)| file.size > 0);
        Ok(Self {
            root,
            image: Arc::clone(&scan.image),
            // IMAGE_BLOCKS_MAX fits in 32 bits.
            files: files.filter_map(|(file, print)| Some((u32::try_from(file.first_block).ok()?, *print))).collect(),
            open: Mutex::new(VecDeque::new()),
            by_hash: OnceLock::new(),
        })
    }

    /// The image that is read.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// The run's blocks, one after the other.
    pub fn read_run(&self, run: Run) -> Result<Vec<u8>, ReadError> {
        let mut bytes = Vec::new();
        self.read_into(run, &mut bytes)?;
        Ok(bytes)
    }

    /// Appends the run's blocks to `out`, which is left as it was if that fails.
    pub fn read_into(&self, run: Run, out: &mut Vec<u8>) -> Result<(), ReadError> {
        let bytes = run.bytes(&self.image).ok_or(ReadError::OutOfRange(run))?;
        let start = out.len();
        out.reserve_exact(bytes);
        let result = self.read_pieces(run, out);
        if result.is_err() {
            out.truncate(start);
        }
        result
    }

    /// The number of a block with that hash.
    pub fn find_block(&self, hash: &BlockHash) -> Option<u64> {
        let hashes = self.image.hashes();
        let by_hash = self.by_hash.get_or_init(|| {
            // IMAGE_BLOCKS_MAX fits in 32 bits.
            let mut blocks = (0..hashes.len()).filter_map(|block| u32::try_from(block).ok()).collect::<Vec<_>>();
            blocks.sort_unstable_by_key(|block| (hashes[*block as usize], *block));
            blocks
        });
        let at = by_hash.partition_point(|block| hashes[*block as usize] < *hash);
        by_hash.get(at).filter(|block| hashes[**block as usize] == *hash).map(|block| u64::from(*block))
    }

    /// One block, compared with its hash.
    pub fn read_block(&self, block: u64) -> Result<Vec<u8>, ReadError> {
        let run = Run { first: block, count: 1 };
        let bytes = self.read_run(run)?;
        match self.image.place(block) {
            Some(place) if !self.matches(block, &bytes) => {
                Err(ReadError::Changed { path: escaped(place.file.path().as_bytes()) })
            }
            Some(_) => Ok(bytes),
            None => Err(ReadError::OutOfRange(run)),
        }
    }

    fn read_pieces(&self, run: Run, out: &mut Vec<u8>) -> Result<(), ReadError> {
        self.pieces(run)?.iter().try_for_each(|piece| self.read_piece(piece, out))
    }

    /// The run as parts of files.
    fn pieces(&self, run: Run) -> Result<Vec<Piece>, ReadError> {
        let mut pieces = Vec::<Piece>::new();
        for block in run.blocks() {
            let place = self.image.place(block).ok_or(ReadError::OutOfRange(run))?;
            match pieces.last_mut() {
                Some(piece) if place.offset > 0 => piece.len += place.len,
                _ => pieces.push(Piece {
                    first_block: block,
                    file_first_block: block - place.offset / limits::BLOCK_BYTES as u64,
                    path: place.file.path(),
                    offset: place.offset,
                    len: place.len,
                }),
            }
        }
        Ok(pieces)
    }

    /// Appends a piece. What the file has beyond it may be read as well, as far as `out` has room, and is cut off.
    fn read_piece(&self, piece: &Piece, out: &mut Vec<u8>) -> Result<(), ReadError> {
        let failed = |doing, errno: Errno| {
            let path = escaped(piece.path.as_bytes());
            if errno == Errno::NOENT || errno == Errno::LOOP || errno == Errno::NOTDIR {
                ReadError::Changed { path }
            } else {
                ReadError::Io { path, doing, source: errno.into() }
            }
        };
        let changed = || ReadError::Changed { path: escaped(piece.path.as_bytes()) };
        let file = self.file(piece).map_err(|errno| failed("open it", errno))?;
        let start = out.len();
        while out.len() < start + piece.len {
            let offset = piece.offset + (out.len() - start) as u64;
            let count = retry_on_intr(|| pread(&file, spare_capacity(out), offset));
            if count.map_err(|errno| failed("read it", errno))? == 0 {
                return Err(changed());
            }
        }
        out.truncate(start + piece.len);
        let after = Fingerprint::of_file(&file).map_err(|errno| failed("read its status", errno))?;
        let at = self.files.binary_search_by_key(&piece.file_first_block, |(first, _)| u64::from(*first));
        let same = at.is_ok_and(|at| self.files[at].1 == after.hash());
        // A new link or another mode changes the status, too: then the content decides.
        if same || self.matches(piece.first_block, &out[start..]) {
            return Ok(());
        }
        self.open_files().retain(|(first, _)| *first != piece.file_first_block);
        Err(changed())
    }

    /// Whether `bytes` are the blocks from number `first` on, all of one file.
    fn matches(&self, first: u64, bytes: &[u8]) -> bool {
        let blocks = bytes.chunks(limits::BLOCK_BYTES).collect::<Vec<_>>();
        let expected = self.image.block_hashes(first, blocks_of(bytes.len() as u64));
        hash_blocks(self.image.hash_kind(), &blocks) == expected
    }

    /// The file's handle, opened now or earlier.
    fn file(&self, piece: &Piece) -> Result<Arc<OwnedFd>, Errno> {
        let key = piece.file_first_block;
        {
            let mut open = self.open_files();
            if let Some(at) = open.iter().position(|(first, _)| *first == key)
                && let Some(found) = open.remove(at)
            {
                let file = Arc::clone(&found.1);
                open.push_front(found);
                return Ok(file);
            }
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = retry_on_intr(|| openat(&self.root, piece.path.as_str(), flags, Mode::empty()))?;
        let file = Arc::new(file);
        let mut open = self.open_files();
        open.push_front((key, Arc::clone(&file)));
        open.truncate(limits::READER_OPEN_FILES_MAX);
        Ok(file)
    }
    fn open_files(&self) -> MutexGuard<'_, VecDeque<(u64, Arc<OwnedFd>)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::driver::scan::{ScanOptions, scan};
    use crate::format::hash::hash_one;
    use crate::model::run::runs_of;

    fn sample(len: usize, seed: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 31 + i / 251 * 7 + seed).to_le_bytes()[0]).collect()
    }

    /// Files of sizes around the block's, and the contents of all in index order.
    fn tree(dir: &Path) -> Vec<u8> {
        fs::create_dir(dir.join("sub")).expect("mkdir");
        let files = [("a", 3), ("b", 32_768), ("c", 0), ("d", 3_000_001), ("sub/e", 70_000), ("sub/f", 1)];
        let mut all = Vec::new();
        for (seed, (name, len)) in files.into_iter().enumerate() {
            let content = sample(len, seed);
            fs::write(dir.join(name), &content).expect("write");
            all.extend(content);
        }
        all
    }

    fn reader(dir: &Path) -> ImageReader {
        let scan = scan(dir, &ScanOptions::default(), &|_| ()).expect("scan");
        ImageReader::new(dir.to_owned(), &scan).expect("reader")
    }

    #[test]
    fn runs_give_all_bytes() {
        let dir = tempfile::tempdir().expect("tempdir");
        let all = tree(dir.path());
        let reader = reader(dir.path());
        let mut read = b"header".to_vec();
        for run in runs_of(reader.image()) {
            reader.read_into(run, &mut read).expect("readable");
        }
        assert_eq!(read.strip_prefix(b"header"), Some(all.as_slice()));
        // From the middle of one file to the middle of another.
        let (first, offset) = (90, 3 + 32_768 + 88 * 32_768);
        let run = Run { first, count: 5 };
        let len = run.bytes(reader.image()).expect("in bounds");
        assert_eq!(reader.read_run(run).expect("readable"), all[offset..offset + len]);
    }

    #[test]
    fn out_of_range() {
        let dir = tempfile::tempdir().expect("tempdir");
        tree(dir.path());
        let reader = reader(dir.path());
        let mut out = b"x".to_vec();
        let blocks = reader.image().block_count();
        for run in [
            Run { first: 0, count: 0 },
            Run { first: blocks, count: 1 },
            Run { first: blocks - 1, count: 2 },
            Run { first: u64::MAX, count: 1 },
            Run { first: 0, count: u32::MAX },
        ] {
            assert!(matches!(reader.read_into(run, &mut out), Err(ReadError::OutOfRange(_))), "{run:?}");
        }
        assert_eq!(out, b"x");
    }

    #[test]
    fn blocks_by_hash() {
        let dir = tempfile::tempdir().expect("tempdir");
        let all = tree(dir.path());
        let reader = reader(dir.path());
        let kind = reader.image().hash_kind();
        for hash in reader.image().hashes() {
            let block = reader.find_block(hash).expect("is in the image");
            assert_eq!(hash_one(kind, &reader.read_block(block).expect("readable")), *hash);
        }
        assert_eq!(reader.find_block(&hash_one(kind, &all[3..3 + 32_768])), Some(1));
        assert_eq!(reader.find_block(&BlockHash::new([0; 32])), None);
        assert_eq!(reader.find_block(&BlockHash::new([255; 32])), None);
    }

    #[test]
    fn changed_content_is_refused() {
        let dir = tempfile::tempdir().expect("tempdir");
        tree(dir.path());
        let reader = reader(dir.path());
        let run = Run { first: 1, count: 1 };
        assert!(reader.read_run(run).is_ok());
        // The same size, and the file is open already.
        fs::write(dir.path().join("b"), sample(32_768, 99)).expect("write");
        for _ in 0..2 {
            let error = reader.read_run(run).expect_err("changed").to_string();
            assert_eq!(error, "b: changed after it was indexed");
        }
        let hash = reader.image().hashes()[1];
        assert!(reader.read_block(reader.find_block(&hash).expect("in the image")).is_err());
        fs::write(dir.path().join("d"), "short").expect("write");
        let error = reader.read_run(Run { first: 2, count: 1 }).expect_err("cut").to_string();
        assert_eq!(error, "d: changed after it was indexed");
        fs::remove_file(dir.path().join("sub/e")).expect("remove");
        let last = reader.image().block_count() - 1;
        let error = reader.read_run(Run { first: last - 1, count: 2 }).expect_err("gone").to_string();
        assert_eq!(error, "sub/e: changed after it was indexed");
        assert!(reader.read_run(Run { first: last, count: 1 }).is_ok(), "other files are still there");
    }

    #[test]
    fn changed_status_is_no_change_of_content() {
        let dir = tempfile::tempdir().expect("tempdir");
        tree(dir.path());
        let reader = reader(dir.path());
        let path = dir.path().join("b");
        fs::hard_link(&path, dir.path().join("link")).expect("link");
        assert!(reader.read_run(Run { first: 1, count: 1 }).is_ok());
        // Another file with the same content is as good.
        fs::copy(&path, dir.path().join("copy")).expect("copy");
        fs::remove_file(&path).expect("remove");
        assert!(reader.read_run(Run { first: 1, count: 1 }).is_ok(), "still open");
    }

    #[test]
    fn more_files_than_are_kept_open() {
        let dir = tempfile::tempdir().expect("tempdir");
        for i in 0..limits::READER_OPEN_FILES_MAX + 10 {
            fs::write(dir.path().join(format!("{i:03}")), i.to_le_bytes()).expect("write");
        }
        let reader = reader(dir.path());
        for _ in 0..2 {
            let run = Run { first: 0, count: u32::try_from(reader.image().block_count()).expect("few") };
            assert_eq!(reader.read_run(run).expect("readable").len() as u64, reader.image().total_bytes());
        }
        assert_eq!(reader.open_files().len(), limits::READER_OPEN_FILES_MAX);
    }
}
