//! Hashes of files, kept from one scan of a directory to the next: a tree that didn't change costs a walk.
//!
//! A file's hashes count while its whole [`Fingerprint`] is the same as when it was read. What was changed less than
//! [`limits::SCAN_CACHE_RACY_SECONDS`] before a scan began isn't kept, since a further change could leave the same times on it (git calls
//! such entries racy). Nothing depends on what is kept: whatever can't be read or written is as if it weren't there, and a
//! node refuses a block that doesn't fit its hash.
//!
//! One file for each directory and hash function, little endian: [`MAGIC`]; for each directory [`DIRECTORY`], the length of
//! its path (u16) and the path, for each of its files [`FILE`], a [`Row`], the name and the hashes of its blocks; both in index order;
//! [`END`]; BLAKE3 of all before.

use std::cmp::Ordering;
use std::fs::{DirBuilder, File, FileTimes};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Take, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use super::fingerprint::Fingerprint;
use super::walk::{FileId, Tree, TreeFile};
use crate::format::hash::Hasher;
use crate::model::hash_kind::HashKind;
use crate::model::ids::{BlockHash, hex};
use crate::model::image::{blocks_of, directory_order};
use crate::model::limits;
use crate::model::time::Stamp;

const MAGIC: &[u8] = b"ciruela scanned files 1\n";
const DIRECTORY: u8 = b'd';
const FILE: u8 = b'f';
const END: u8 = b'e';
const CLOSING_BYTES: u64 = 32;
const BUFFER_BYTES: usize = 256 << 10;

/// Where hashes are kept, and when the scan began.
#[derive(Debug, Clone)]
pub struct ScanCache {
    /// Ours alone; made when there is something to keep.
    pub folder: PathBuf,
    /// The wall clock.
    pub now: Stamp,
}

/// The file that belongs to one directory and hash function.
pub(super) struct Kept<'a> {
    cache: &'a ScanCache,
    path: PathBuf,
}

/// What isn't known of a tree.
pub(super) struct Unknown {
    /// Files whose hashes aren't, in index order.
    pub(super) files: Vec<FileId>,
    /// Something was kept that isn't there any more.
    outdated: bool,
}

impl ScanCache {
    /// `dir`: what is scanned.
    pub(super) fn of(&self, dir: &Path, kind: HashKind) -> Option<Kept<'_>> {
        let dir = std::fs::canonicalize(dir).ok()?;
        let mut name = Hasher::new(HashKind::Blake3);
        name.update(kind.name().as_bytes()).update(b"\n").update(dir.as_os_str().as_bytes());
        Some(Kept { cache: self, path: self.folder.join(hex(&name.finish())) })
    }

    /// The oldest files are removed until the rest is within bounds.
    fn prune(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            let meta = entry.metadata()?;
            files.push((std::cmp::Reverse(meta.modified()?), meta.len(), entry.path()));
        }
        files.sort_unstable();
        let mut bytes = 0;
        for (number, (_, length, path)) in files.into_iter().enumerate() {
            bytes += length;
            if number >= limits::SCAN_CACHE_FILES_MAX || bytes > limits::SCAN_CACHE_BYTES_MAX {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

impl Kept<'_> {
    /// Puts the hashes that are known to their places among those of all files, and gives the rest.
    pub(super) fn recall(&self, tree: &Tree, hashes: &mut [BlockHash]) -> Unknown {
        self.read(tree, hashes).unwrap_or_else(|_| Unknown::all(tree))
    }

    fn read(&self, tree: &Tree, hashes: &mut [BlockHash]) -> io::Result<Unknown> {
        let mut rows = Rows::open(&self.path)?;
        let mut unknown = Unknown { files: Vec::new(), outdated: false };
        let mut files = tree.files().peekable();
        while let Some(status) = rows.next()? {
            while let Some(file) = files.next_if(|file| rows.order(file) == Ordering::Less) {
                unknown.files.push(file.id);
            }
            let here = files.next_if(|file| rows.order(file) == Ordering::Equal);
            let same = here.filter(|file| *file.fingerprint == status);
            unknown.files.extend(here.filter(|_| same.is_none()).map(|file| file.id));
            unknown.outdated |= same.is_none();
            let places = same.and_then(|file| hashes.get_mut(file.id.blocks(status.size)));
            rows.hashes(blocks_of(status.size), places.unwrap_or_default())?;
        }
        unknown.files.extend(files.map(|file| file.id));
        Ok(unknown)
    }

    /// Keeps the hashes of all files, unless just that is kept already.
    pub(super) fn keep(&self, tree: &Tree, unknown: &Unknown, hashes: &[BlockHash]) {
        let racy = self.cache.now.0.saturating_sub(limits::SCAN_CACHE_RACY_SECONDS * 1000);
        let racy = i64::try_from(racy / 1000).unwrap_or(i64::MAX);
        let is_settled = |file: &TreeFile<'_>| file.fingerprint.modified.max(file.fingerprint.changed) < racy;
        let new = unknown.files.iter().filter_map(|file| tree.file(*file)).any(|file| is_settled(&file));
        // Failing, it costs the next scan its time.
        let _ =
            if new || unknown.outdated { self.write(tree.files().filter(is_settled), hashes) } else { self.touch() };
    }

    fn write<'t>(&self, files: impl Iterator<Item = TreeFile<'t>>, hashes: &[BlockHash]) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.cache.folder)?;
        let temporary = tempfile::NamedTempFile::new_in(&self.cache.folder)?;
        let mut output = Output { file: temporary.as_file(), hasher: Hasher::new(HashKind::Blake3), bytes: 0 };
        let mut buffer = BufWriter::with_capacity(BUFFER_BYTES, &mut output);
        buffer.write_all(MAGIC)?;
        let mut directory = None;
        for file in files {
            if directory != Some(file.directory) {
                directory = Some(file.directory);
                buffer.write_all(&[DIRECTORY])?;
                buffer.write_all(&length(file.directory)?)?;
                buffer.write_all(file.directory.as_bytes())?;
            }
            buffer.write_all(&[FILE])?;
            buffer.write_all(&length(file.name)?)?;
            buffer.write_all(&status_bytes(file.fingerprint))?;
            buffer.write_all(file.name.as_bytes())?;
            for hash in hashes.get(file.id.blocks(file.fingerprint.size)).unwrap_or_default() {
                buffer.write_all(hash.as_bytes())?;
            }
        }
        buffer.write_all(&[END])?;
        buffer.flush()?;
        drop(buffer);
        let closing = output.hasher.finish();
        temporary.as_file().write_all(&closing)?;
        temporary.persist(&self.path)?;
        self.touch()?;
        self.cache.prune()
    }

    /// It was of use: others are removed before it.
    fn touch(&self) -> io::Result<()> {
        let now = UNIX_EPOCH + Duration::from_millis(self.cache.now.0);
        File::options().write(true).open(&self.path)?.set_times(FileTimes::new().set_modified(now))
    }
}

impl Unknown {
    /// Nothing is known.
    pub(super) fn all(tree: &Tree) -> Self {
        Self { files: tree.files().map(|file| file.id).collect(), outdated: false }
    }
}

/// What is kept, row by row. All of it is worth nothing unless the closing hash fits.
struct Rows {
    input: BufReader<Input>,
    directory: String,
    name: String,
}

impl Rows {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        if length > limits::SCAN_CACHE_BYTES_MAX {
            return Err(damaged());
        }
        let content = length.checked_sub(CLOSING_BYTES).ok_or_else(damaged)?;
        let input = Input { content: file.take(content), hasher: Hasher::new(HashKind::Blake3) };
        let mut rows = Self {
            input: BufReader::with_capacity(BUFFER_BYTES, input),
            directory: String::new(),
            name: String::new(),
        };
        if rows.array::<{ MAGIC.len() }>()? != MAGIC {
            return Err(damaged());
        }
        Ok(rows)
    }

    /// The status of the next file, whose directory and name are there then; `None` at the end.
    fn next(&mut self) -> io::Result<Option<Fingerprint>> {
        loop {
            let [tag] = self.array()?;
            match tag {
                DIRECTORY => self.directory = self.text()?,
                FILE => {
                    let length = u16::from_le_bytes(self.array()?);
                    let status = status(&self.array()?);
                    self.name = self.text_of(length)?;
                    return Ok(Some(status));
                }
                END => return self.finish().map(|()| None),
                _ => return Err(damaged()),
            }
        }
    }

    /// Where a file is in index order, in regard to the row's.
    fn order(&self, file: &TreeFile<'_>) -> Ordering {
        directory_order(file.directory, &self.directory).then_with(|| file.name.as_bytes().cmp(self.name.as_bytes()))
    }

    /// The hashes of the row's blocks; those that have no place are left out.
    fn hashes(&mut self, count: u64, places: &mut [BlockHash]) -> io::Result<()> {
        let mut places = places.iter_mut();
        for _ in 0..count {
            let hash = BlockHash::new(self.array()?);
            if let Some(place) = places.next() {
                *place = hash;
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        if !self.input.fill_buf()?.is_empty() {
            return Err(damaged());
        }
        let hash = self.input.get_ref().hasher.finish();
        let mut closing = [0; 32];
        self.input.get_mut().content.get_mut().read_exact(&mut closing)?;
        if hash == closing { Ok(()) } else { Err(damaged()) }
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn text(&mut self) -> io::Result<String> {
        let length = u16::from_le_bytes(self.array()?);
        self.text_of(length)
    }

    fn text_of(&mut self, length: u16) -> io::Result<String> {
        let mut bytes = vec![0; length.into()];
        self.input.read_exact(&mut bytes)?;
        String::from_utf8(bytes).map_err(|_| damaged())
    }
}

/// Hashes what is read.
struct Input {
    content: Take<File>,
    hasher: Hasher,
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.content.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

/// Hashes what is written, of which there is a bound.
struct Output<'a> {
    file: &'a File,
    hasher: Hasher,
    bytes: u64,
}

impl Write for Output<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.file.write(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.bytes += count as u64;
        if self.bytes > limits::SCAN_CACHE_BYTES_MAX - CLOSING_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const STATUS_BYTES: usize = 48;

/// Eight and four bytes each: device, inode, size, times.
fn status_bytes(status: &Fingerprint) -> [u8; STATUS_BYTES] {
    let mut bytes = [0; STATUS_BYTES];
    let mut at = 0;
    let mut put = |field: &[u8]| {
        bytes[at..at + field.len()].copy_from_slice(field);
        at += field.len();
    };
    put(&status.device.0.to_le_bytes());
    put(&status.device.1.to_le_bytes());
    put(&status.inode.to_le_bytes());
    put(&status.size.to_le_bytes());
    let (modified, changed) = status.nanoseconds;
    for (seconds, nanoseconds) in [(status.modified, modified), (status.changed, changed)] {
        put(&seconds.to_le_bytes());
        put(&nanoseconds.to_le_bytes());
    }
    bytes
}

fn status(bytes: &[u8; STATUS_BYTES]) -> Fingerprint {
    fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
        let (field, tail) = rest.split_first_chunk().expect("all fields together are as long as the array");
        *rest = tail;
        *field
    }
    let rest = &mut &bytes[..];
    let device = (u32::from_le_bytes(take(rest)), u32::from_le_bytes(take(rest)));
    let (inode, size) = (u64::from_le_bytes(take(rest)), u64::from_le_bytes(take(rest)));
    let mut time = || (i64::from_le_bytes(take(rest)), u32::from_le_bytes(take(rest)));
    let ((modified, first), (changed, second)) = (time(), time());
    Fingerprint { device, inode, size, modified, changed, nanoseconds: (first, second) }
}

fn length(text: &str) -> io::Result<[u8; 2]> {
    u16::try_from(text.len()).map(u16::to_le_bytes).map_err(|_| io::ErrorKind::InvalidFilename.into())
}

fn damaged() -> io::Error {
    io::ErrorKind::InvalidData.into()
}
