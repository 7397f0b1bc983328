//! What putting an image somewhere would take.

use std::sync::Arc;

use bytes::Bytes;

use super::directory::DirectoryConfig;
use super::failure::Failure;
use super::ids::ImageId;
use super::reuse::Sibling;
use super::vpath::VPath;

/// What is to be looked at. Nothing is changed by it.
#[derive(Debug, Clone)]
pub struct EstimateTask {
    /// The config that says where the path lies.
    pub directory: Arc<DirectoryConfig>,
    /// Where it would go.
    pub path: VPath,
    /// What.
    pub image: ImageId,
    /// Its index, not checked.
    pub index: Bytes,
    /// Committed directories that may have blocks of it.
    pub siblings: Arc<[Sibling]>,
    /// Something that this node hasn't made visible is there.
    pub occupied: bool,
    /// The image itself is there, and known to be damaged.
    pub heals: bool,
    /// The tree that is set aside would go if there were no room otherwise.
    pub forgoes: bool,
}

/// Why there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoEstimate {
    /// A deployment would come to this.
    Hindered(Failure),
    /// Only trying would tell.
    Unknown(String),
}

/// What it would take on one node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Files of the image, and their bytes.
    pub files: u64,
    /// All of them.
    pub bytes: u64,
    /// Files that would be linked, and their bytes.
    pub files_linked: u64,
    /// Those.
    pub bytes_linked: u64,
    /// Bytes of blocks that would be copied from files of this node.
    pub bytes_copied: u64,
    /// Bytes that would have to come over the network.
    pub bytes_fetched: u64,
    /// Bytes that the file system would have to have, and has.
    pub bytes_needed: u64,
    /// Has.
    pub bytes_free: u64,
    /// Inodes that the file system would have to have.
    pub inodes_needed: u64,
    /// Has; `None`: it doesn't count them.
    pub inodes_free: Option<u64>,
}

impl Estimate {
    /// Whether there is room for it.
    pub fn fits(&self) -> bool {
        self.bytes_needed <= self.bytes_free && self.inodes_free.is_none_or(|free| self.inodes_needed <= free)
    }
}
