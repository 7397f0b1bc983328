//! What a node knows of files that it has on disk already, so that they needn't be fetched again.

use std::path::PathBuf;

use super::block_set::BlockSet;
use super::fingerprint::{FileIdentity, Fingerprint};
use super::ids::ImageId;
use super::origins::Supply;
use super::vpath::VPath;

/// Names a file's content: a hash of its hash kind, size and hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContentKey(pub [u8; 16]);

/// A file of a committed directory which should have a certain content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The directory's virtual path.
    pub path: VPath,
    /// Where its tree lies.
    pub tree: TreePlace,
    /// The file's path in it.
    pub file: Box<str>,
    /// Whether it may be executed.
    pub executable: bool,
    /// What was known of its inode when the content was.
    pub fingerprint: Option<Fingerprint>,
}

/// Where a committed tree lies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TreePlace {
    /// The base directory.
    pub base: PathBuf,
    /// The tree's root, below the base.
    pub target: PathBuf,
    /// Its root: something else at its place is another tree.
    pub root: FileIdentity,
}

/// A committed directory some of whose blocks may be in a new image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sibling {
    /// Its virtual path.
    pub path: VPath,
    /// What it is.
    pub image: ImageId,
    /// Its root.
    pub root: FileIdentity,
    /// It isn't visible any more, but set aside.
    pub previous: bool,
    /// Something of it is known to be wrong: each block shows by itself whether it is right.
    pub damaged: bool,
}

/// A file of a committed directory was hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hashed {
    /// The device that its directory was recorded with.
    pub dev: u64,
    /// What it is, all the time that it was read.
    pub fingerprint: Fingerprint,
    /// The content which it should have.
    pub content: ContentKey,
    /// Whether it has.
    pub right: bool,
}

/// This node made an inode's status change, but not its content (or has just hashed that).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Touch {
    /// The device that it was recorded with.
    pub dev: u64,
    /// What it was: if that isn't what is recorded, the touch means nothing.
    pub before: Fingerprint,
    /// What it is now.
    pub after: Fingerprint,
}

/// A file of a committed directory isn't what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The directory.
    pub path: VPath,
    /// Its root, which tells it from what came to the path later.
    pub root: FileIdentity,
    /// The file.
    pub file: Box<str>,
    /// What is wrong, reads on after the file's name.
    pub what: Box<str>,
}

/// What was found on this node while a tree was staged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reused {
    /// Files that share their inodes with others, by number in index order.
    pub linked: BlockSet,
    /// Bytes of files that share inodes or extents with others.
    pub bytes_linked: u64,
    /// Bytes of blocks that were copied.
    pub bytes_copied: u64,
    /// Where they came from.
    pub sources: Vec<Supply>,
    /// Files that were hashed, since their status had changed.
    pub rehashed: u64,
    /// What was found damaged on the way.
    pub damaged: Vec<Damage>,
}

impl Reused {
    /// Nothing, in an image of so many files.
    pub fn nothing(files: u64) -> Self {
        let linked = BlockSet::none(files);
        Self { linked, bytes_linked: 0, bytes_copied: 0, sources: Vec::new(), rehashed: 0, damaged: Vec::new() }
    }
}
