//! An image as a value: directories in index order, their files and links, and every block's hash.
//!
//! Built only through [`ImageBuilder`], which refuses whatever the index format forbids: so a parsed index and a scanned
//! directory obey the same rules. Its text form is `format/index`'s, its bytes are the disk driver's.

use std::cmp::Ordering;

use super::escape::escaped;
use super::hash_kind::HashKind;
use super::ids::BlockHash;
use super::limits;
use super::vpath::component_error;

mod entries;

use self::entries::Content;
pub use self::entries::{Entries, Entry, EntryKind, Iter};

/// A checked image. Blocks are numbered through all files in index order; the block size is [`limits::BLOCK_BYTES`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    kind: HashKind,
    directories: Vec<Directory>,
    hashes: Vec<BlockHash>,
    total_bytes: u64,
    entry_count: usize,
}

/// One directory of an image and what is directly in it, directories excepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// Relative to the image's root, components separated by `/`; empty for the root itself.
    pub path: Box<str>,
    /// Files and links.
    pub entries: Entries,
}

/// Where a block lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockPlace<'a> {
    /// The file.
    pub file: FileRef<'a>,
    /// Bytes before it in the file.
    pub offset: u64,
    /// Bytes of the block.
    pub len: usize,
}

/// A file with its place, as [`Image::files`] gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileRef<'a> {
    /// The file's directory.
    pub directory: &'a Directory,
    /// The file's name.
    pub name: &'a str,
    /// Bytes.
    pub size: u64,
    /// Whether its owner may execute it (mode bit 0o100, as for all writers of the format).
    pub executable: bool,
    /// The number of its first block (also of an empty file: that which a block there would have).
    pub first_block: u64,
}

/// Why an image can't be built. The paths are escaped as in the index text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// A name or path that no image may contain.
    #[error("bad name {path}: {reason}")]
    BadName { path: String, reason: &'static str },
    /// Not in the order of the format, or twice the same.
    #[error("{path} is out of order or there twice")]
    Unsorted { path: String },
    /// Empty, or something comes before the root.
    #[error("the root directory, `/`, must come first")]
    NoRoot,
    /// A directory whose parent is missing, or is a file or a link.
    #[error("directory {path} has no parent directory in the image")]
    NoParent { path: String },
    /// A directory has the name of a file or link.
    #[error("{path} is both a directory and a file or link")]
    Clash { path: String },
    /// The number of hashes isn't `ceil(size / BLOCK_BYTES)`.
    #[error("{path} has {hashes} hashes, but its size of {size} bytes needs {expected}")]
    HashCount { path: String, size: u64, hashes: usize, expected: u64 },
    /// There are more or fewer hashes than blocks.
    #[error("{hashes} hashes were given for {expected} blocks")]
    Hashes { hashes: usize, expected: u32 },
    /// Over a bound of `model/limits/`.
    #[error("image is too large: more than {max} {what}")]
    TooLarge { what: &'static str, max: u64 },
}

/// The order of directories in an index: component by component (`/a`, `/a/c`, `/a/c-d`, `/a-b`).
pub fn directory_order(a: &str, b: &str) -> Ordering {
    path_order(a.as_bytes(), b.as_bytes())
}

/// [`directory_order`] for paths of anything, also such that aren't UTF-8.
pub fn path_order(a: &[u8], b: &[u8]) -> Ordering {
    // Bytewise, with the separator below every byte that a component may contain.
    let rank = |byte: u8| if byte == b'/' { 0 } else { u16::from(byte) + 1 };
    match a.iter().zip(b).find(|(a, b)| a != b) {
        Some((a, b)) => rank(*a).cmp(&rank(*b)),
        None => a.len().cmp(&b.len()),
    }
}

/// Number of blocks of a file of `size` bytes.
pub const fn blocks_of(size: u64) -> u64 {
    size.div_ceil(limits::BLOCK_BYTES as u64)
}

impl Image {
    /// The hash function of its blocks and of its id.
    pub fn hash_kind(&self) -> HashKind {
        self.kind
    }

    /// All directories in index order; the first is the root.
    pub fn directories(&self) -> &[Directory] {
        &self.directories
    }

    /// Every block's hash, in index order.
    pub fn hashes(&self) -> &[BlockHash] {
        &self.hashes
    }

    /// Number of blocks.
    pub fn block_count(&self) -> u64 {
        self.hashes.len() as u64
    }

    /// Sum of all file sizes.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// Directories, files and links.
    pub fn entry_count(&self) -> usize {
        self.entry_count
    }

    /// All files in index order, empty ones too.
    pub fn files(&self) -> impl Iterator<Item = FileRef<'_>> {
        self.directories.iter().flat_map(|directory| directory.entries.iter().filter_map(|entry| entry.file(directory)))
    }

    /// The length of every block, in index order: what [`Self::place`] says of each, but all at once.
    pub fn block_lengths(&self) -> impl Iterator<Item = u64> {
        let block = limits::BLOCK_BYTES as u64;
        self.files().flat_map(move |file| (0..blocks_of(file.size)).map(move |i| block.min(file.size - i * block)))
    }

    /// The file at `path` (components separated by `/`, no leading slash), if there is one.
    pub fn file(&self, path: &str) -> Option<FileRef<'_>> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let at = self.directories.binary_search_by(|d| directory_order(&d.path, parent)).ok()?;
        let directory = &self.directories[at];
        directory.entry(name)?.file(directory)
    }

    /// Hashes of one file's blocks.
    pub fn file_hashes(&self, file: &FileRef<'_>) -> &[BlockHash] {
        self.block_hashes(file.first_block, blocks_of(file.size))
    }

    /// Hashes of `count` blocks from number `first` on; empty if they go beyond the last one.
    pub fn block_hashes(&self, first: u64, count: u64) -> &[BlockHash] {
        let range =
            first.checked_add(count).and_then(|end| Some(usize::try_from(first).ok()?..usize::try_from(end).ok()?));
        range.and_then(|range| self.hashes.get(range)).unwrap_or(&[])
    }

    /// Where block number `block` lies; `None` beyond the last one.
    pub fn place(&self, block: u64) -> Option<BlockPlace<'_>> {
        if block >= self.block_count() {
            return None;
        }
        // One without blocks begins where the next one does: so the last one which begins at the block or before it has it.
        let at =
            self.directories.partition_point(|directory| directory.entries.first_block() <= block).checked_sub(1)?;
        let directory = &self.directories[at];
        let file = directory.entries.with_block(block)?.file(directory)?;
        let offset = (block - file.first_block) * limits::BLOCK_BYTES as u64;
        let len = usize::try_from((file.size - offset).min(limits::BLOCK_BYTES as u64)).ok()?;
        Some(BlockPlace { file, offset, len })
    }
}

impl BlockPlace<'_> {
    /// Whether both, of one image, are in the same file.
    pub fn same_file(&self, other: &Self) -> bool {
        self.file.first_block == other.file.first_block
    }
}

impl FileRef<'_> {
    /// Its path, relative to the image's root.
    pub fn path(&self) -> String {
        self.directory.join(self.name)
    }
}

impl Directory {
    /// The path of an entry in it, relative to the image's root.
    pub fn join(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}/{name}", self.path) }
    }

    /// The file or link of that name.
    pub fn entry(&self, name: &str) -> Option<Entry<'_>> {
        self.entries.named(name)
    }
}

/// Builds an [`Image`] from directories and entries given in index order.
#[derive(Debug)]
pub struct ImageBuilder {
    image: Image,
    /// Positions of the directory opened last and of those above it, the root first: the only possible parents.
    ancestors: Vec<usize>,
    /// Of all files so far.
    blocks: u32,
}

impl ImageBuilder {
    /// Starts an image; its first directory must be the root, `""`.
    pub fn new(kind: HashKind) -> Self {
        let image = Image { kind, directories: Vec::new(), hashes: Vec::new(), total_bytes: 0, entry_count: 0 };
        Self { image, ancestors: Vec::new(), blocks: 0 }
    }

    /// Opens the next directory: `path` relative to the root without a leading slash.
    pub fn directory(&mut self, path: &str) -> Result<(), ImageError> {
        let shown = || escaped(format!("/{path}").as_bytes());
        self.count_entry()?;
        let Some(last) = self.image.directories.last() else {
            if !path.is_empty() {
                return Err(ImageError::NoRoot);
            }
            self.push_directory(path);
            return Ok(());
        };
        if path.len() > limits::PATH_BYTES_MAX {
            return Err(ImageError::BadName { path: shown(), reason: "the path is longer than 4096 bytes" });
        }
        if directory_order(&last.path, path) != Ordering::Less {
            return Err(ImageError::Unsorted { path: shown() });
        }
        let mut depth = 0;
        for component in path.split('/') {
            depth += 1;
            if let Some(reason) = component_error(component) {
                return Err(ImageError::BadName { path: shown(), reason });
            }
        }
        if depth > limits::DEPTH_MAX {
            return Err(ImageError::TooLarge { what: "nested directories", max: limits::DEPTH_MAX as u64 });
        }
        // A directory comes right after its parent or after something below that.
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent =
            self.ancestors.get(depth - 1).map(|at| &self.image.directories[*at]).filter(|d| &*d.path == parent);
        let Some(parent) = parent else { return Err(ImageError::NoParent { path: shown() }) };
        if parent.entry(name).is_some() {
            return Err(ImageError::Clash { path: shown() });
        }
        self.ancestors.truncate(depth);
        self.push_directory(path);
        Ok(())
    }

    /// Adds a file of `size` bytes to the directory opened last.
    pub fn file(&mut self, name: &str, executable: bool, size: u64, hashes: &[BlockHash]) -> Result<(), ImageError> {
        let expected = blocks_of(size);
        if hashes.len() as u64 != expected {
            let path = self.entry_path(name);
            return Err(ImageError::HashCount { path, size, hashes: hashes.len(), expected });
        }
        self.file_of(name, executable, size)?;
        self.image.hashes.extend_from_slice(hashes);
        Ok(())
    }

    /// The same for a file whose hashes [`Self::finish_with`] is given.
    pub fn file_of(&mut self, name: &str, executable: bool, size: u64) -> Result<(), ImageError> {
        let blocks = u64::from(self.blocks).checked_add(blocks_of(size)).filter(|all| *all <= limits::IMAGE_BLOCKS_MAX);
        let Some(blocks) = blocks.and_then(|blocks| u32::try_from(blocks).ok()) else {
            return Err(ImageError::TooLarge { what: "blocks", max: limits::IMAGE_BLOCKS_MAX });
        };
        self.entry(name, Content::File { executable, size }, blocks)?;
        self.blocks = blocks;
        self.image.total_bytes += size;
        Ok(())
    }

    /// Adds a link to the directory opened last. The target is only text: it may point anywhere.
    pub fn symlink(&mut self, name: &str, target: &str) -> Result<(), ImageError> {
        let reason = if target.is_empty() {
            Some("the link's target is empty")
        } else if target.len() > limits::SYMLINK_TARGET_BYTES_MAX {
            Some("the link's target is longer than 4095 bytes")
        } else if target.contains('\0') {
            Some("the link's target contains NUL")
        } else {
            None
        };
        if let Some(reason) = reason {
            return Err(ImageError::BadName { path: self.entry_path(name), reason });
        }
        self.entry(name, Content::Symlink { target }, self.blocks)
    }

    /// The finished image; an image has at least its root directory.
    pub fn finish(mut self) -> Result<Image, ImageError> {
        if self.image.directories.is_empty() {
            return Err(ImageError::NoRoot);
        }
        if self.image.hashes.len() != self.blocks as usize {
            return Err(ImageError::Hashes { hashes: self.image.hashes.len(), expected: self.blocks });
        }
        self.close_directory();
        self.image.hashes.shrink_to_fit();
        self.image.directories.shrink_to_fit();
        Ok(self.image)
    }

    /// The same with the hashes of all files, which were all added without.
    pub fn finish_with(mut self, hashes: Vec<BlockHash>) -> Result<Image, ImageError> {
        self.image.hashes = hashes;
        self.finish()
    }

    fn push_directory(&mut self, path: &str) {
        self.close_directory();
        self.ancestors.push(self.image.directories.len());
        self.image.directories.push(Directory { path: path.into(), entries: Entries::new(self.blocks) });
    }

    /// Nothing is added to the directory opened last any more.
    fn close_directory(&mut self) {
        if let Some(last) = self.image.directories.last_mut() {
            last.entries.shrink();
        }
    }

    /// `blocks`: of all files, this one included.
    fn entry(&mut self, name: &str, content: Content<'_>, blocks: u32) -> Result<(), ImageError> {
        self.count_entry()?;
        if let Some(reason) = component_error(name) {
            return Err(ImageError::BadName { path: self.entry_path(name), reason });
        }
        let Some(directory) = self.image.directories.last_mut() else {
            return Err(ImageError::NoRoot);
        };
        // An entry of the root has no separator before its name.
        if directory.path.len() + usize::from(!directory.path.is_empty()) + name.len() > limits::PATH_BYTES_MAX {
            return Err(ImageError::BadName {
                path: self.entry_path(name),
                reason: "the path is longer than 4096 bytes",
            });
        }
        if directory.entries.last().is_some_and(|last| last.name.as_bytes() >= name.as_bytes()) {
            return Err(ImageError::Unsorted { path: self.entry_path(name) });
        }
        directory.entries.push(name, content, blocks)
    }

    fn count_entry(&mut self) -> Result<(), ImageError> {
        self.image.entry_count += 1;
        if self.image.entry_count > limits::IMAGE_ENTRIES_MAX {
            return Err(ImageError::TooLarge { what: "entries", max: limits::IMAGE_ENTRIES_MAX as u64 });
        }
        Ok(())
    }

    fn entry_path(&self, name: &str) -> String {
        let directory = self.image.directories.last().map_or("", |d| &d.path);
        escaped(if directory.is_empty() { format!("/{name}") } else { format!("/{directory}/{name}") }.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(count: u8) -> Vec<BlockHash> {
        (0..count).map(|i| BlockHash::new([i; 32])).collect()
    }

    #[test]
    fn blocks_have_places() {
        let mut builder = ImageBuilder::new(HashKind::default());
        builder.directory("").expect("root");
        builder.file("a", false, 40_000, &hashes(2)).expect("file");
        builder.file("empty", false, 0, &[]).expect("file");
        builder.directory("sub").expect("directory");
        builder.file("b", true, 1, &hashes(1)).expect("file");
        let image = builder.finish().expect("complete");
        let place = image.place(1).expect("second block");
        assert_eq!((place.file.name, place.offset, place.len), ("a", 32_768, 7_232));
        let place = image.place(2).expect("third block");
        assert_eq!((place.file.path(), place.offset, place.len), ("sub/b".to_owned(), 0, 1));
        assert_eq!(image.place(3), None);
        assert_eq!(image.file("sub/b").map(|f| f.first_block), Some(2));
        assert_eq!((image.file("sub/c"), image.file("sub")), (None, None));
        assert_eq!((image.block_count(), image.total_bytes(), image.entry_count()), (3, 40_001, 5));
    }

    #[test]
    fn forbidden_shapes() {
        let mut builder = ImageBuilder::new(HashKind::default());
        assert!(builder.directory("a").is_err(), "no root");
        builder.directory("").expect("root");
        builder.symlink("link", "/etc").expect("a target is only text");
        assert!(matches!(builder.file("a", false, 1, &[]), Err(ImageError::HashCount { .. })));
        assert!(matches!(builder.file("a", false, 0, &[]), Err(ImageError::Unsorted { .. })));
        assert!(matches!(builder.directory("link"), Err(ImageError::Clash { .. })));
        assert!(matches!(builder.directory("link/below"), Err(ImageError::NoParent { .. })));
        assert!(matches!(builder.directory("../x"), Err(ImageError::BadName { .. })));
        assert!(matches!(builder.symlink("z", ""), Err(ImageError::BadName { .. })));
        builder.directory("z").expect("directory");
        assert!(matches!(builder.directory("z"), Err(ImageError::Unsorted { .. })));
    }
}
