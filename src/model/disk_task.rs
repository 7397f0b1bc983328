//! What engines ask of the disk and what it answers; carried out by `driver/disk`.

use std::sync::Arc;

use bytes::Bytes;

use super::block_set::BlockSet;
use super::directory::DirectoryConfig;
use super::fingerprint::{FileIdentity, Fingerprint};
use super::ids::ImageId;
use super::image::Image;
use super::reuse::{Reused, Sibling};
use super::run::Run;
use super::scrub::{Cursor, Part};
use super::vpath::VPath;

/// One piece of work on the staged or visible tree of one path.
#[derive(Debug, Clone)]
pub struct DiskTask {
    /// The config that says where the path lies.
    pub directory: Arc<DirectoryConfig>,
    /// Whose tree.
    pub path: VPath,
    /// What to do.
    pub action: DiskAction,
}

/// What to do. Each is idempotent.
#[derive(Debug, Clone)]
pub enum DiskAction {
    /// What is visible at the path? Answer: [`DiskResult::Target`].
    Look,
    /// On which side of the swap is the tree with this identity? Answer: [`DiskResult::Side`].
    Side { staged: FileIdentity, exchange: bool },
    /// Is the visible tree exactly this image? Answer: [`DiskResult::Adopted`].
    Adopt { id: ImageId, image: Arc<Image> },
    /// Make or resume the staged tree, with what this node has already, also of blocks in these directories.
    /// Answer: [`DiskResult::Staged`].
    Stage { id: ImageId, image: Arc<Image>, siblings: Arc<[Sibling]> },
    /// Check the blocks of a run and write the good ones. Answer: [`DiskResult::Stored`].
    Store { image: Arc<Image>, run: Run, data: Bytes },
    /// Make the staged tree durable, in which these files are linked. Answer: [`DiskResult::Sealed`].
    Seal { image: Arc<Image>, linked: Arc<BlockSet> },
    /// Make it visible, in the place of the tree there if `exchange`. Answer: [`DiskResult::Done`].
    Swap { exchange: bool },
    /// Remove what is staged for the path, but for what is to be kept of it. Answer: [`DiskResult::Done`], or
    /// [`DiskResult::Previous`] if something is.
    Collect { previous: Previous },
    /// Remove the tree that is set aside, and nothing else. Answer: [`DiskResult::Done`].
    Forgo,
    /// Remove the visible tree, if it has this root, and what is staged; `only_rest`: unless the tree is there.
    /// Answer: [`DiskResult::Removed`].
    Remove { root: FileIdentity, only_rest: bool },
    /// Compare a part of the visible tree, if it has this root, with the image, reading all of its files.
    /// Answer: [`DiskResult::Scrubbed`].
    Scrub { id: ImageId, root: FileIdentity, from: Cursor },
}

/// What becomes of the tree that was visible before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Previous {
    /// What is set aside stays.
    Untouched,
    /// It goes, too.
    Dropped,
    /// The one with this root is set aside, if it is among what is staged or was set aside before. Any other goes.
    Kept(FileIdentity),
}

/// The disk's answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskResult {
    /// What is visible at the path.
    Target(Option<Target>),
    /// Where the staged tree is.
    Side(Side),
    /// The visible tree is the image (and these are its fingerprints), or it is not.
    Adopted(Option<Sealed>),
    /// The staged tree is ready for blocks; these are there already. Kept are those that an earlier attempt left.
    Staged { have: BlockSet, kept_bytes: u64, reused: Box<Reused> },
    /// The run was taken, but for these blocks.
    Stored { bad: Vec<u64> },
    /// The staged tree is durable.
    Sealed(Sealed),
    /// The tree is gone, or it is there and was left alone.
    Removed { gone: bool },
    /// That part is compared; `None`: another directory is there.
    Scrubbed(Option<Box<Part>>),
    /// What is staged is removed; whether the tree that was to be kept is set aside.
    Previous { kept: bool },
    /// Done.
    Done,
}

/// What is visible at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Which directory it is.
    pub identity: FileIdentity,
    /// Nothing is in it.
    pub empty: bool,
}

/// A durable tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Its root.
    pub root: FileIdentity,
    /// Of each file, in index order.
    pub fingerprints: Vec<Fingerprint>,
}

/// Where a crash was, as told by the staged root's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Still staged; the old state is visible.
    Before,
    /// Between the two renames of a file system without exchange: swap again.
    Between,
    /// Visible.
    After,
    /// Neither: somebody removed it.
    Lost,
}
