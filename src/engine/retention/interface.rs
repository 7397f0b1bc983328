//! What the engine is told and what it has others do.

use std::sync::Arc;

use super::rules::Candidate;
use crate::model::directory::DirectoryConfig;
use crate::model::disk_task::{DiskResult, DiskTask};
use crate::model::failure::Failure;
use crate::model::fingerprint::FileIdentity;
use crate::model::ids::ChangeId;
use crate::model::retention::Active;
use crate::model::vpath::VPath;

/// A directory that is visible.
#[derive(Debug, Clone)]
pub struct Present {
    /// Where, and what decides.
    pub candidate: Candidate,
    /// Its root.
    pub root: FileIdentity,
    /// Its head says that it was cleaned: a removal was begun.
    pub marked: bool,
    /// A deployment is under way there: it counts, and is left alone.
    pub busy: bool,
}

/// What can happen.
#[derive(Debug)]
pub enum Input {
    /// All configs that clean.
    Configured(Vec<Arc<DirectoryConfig>>),
    /// Something became visible in a config, or came to hold there.
    Changed { directory: Box<str> },
    /// Answer to [`Effect::Survey`], and what is visible at this moment.
    Surveyed { directory: Box<str>, result: Result<Active, Failure>, present: Vec<Present> },
    /// Answer to [`Effect::Mark`]: durable, and whether the path is still to be removed.
    Marked { path: VPath, result: Result<bool, Failure> },
    /// Answer to [`Effect::Disk`].
    Disk { path: VPath, result: Result<DiskResult, Failure> },
    /// Answer to [`Effect::Forget`].
    Forgotten { path: VPath, result: Result<(), Failure> },
}

/// What should be done.
#[derive(Debug)]
pub enum Effect {
    /// Find out what is in use.
    Survey { directory: Arc<DirectoryConfig> },
    /// Write down that the head was cleaned, or that it wasn't.
    Mark { path: VPath, change: ChangeId, cleaned: bool },
    /// Remove the directory.
    Disk(DiskTask),
    /// Write down that nothing is there.
    Forget { path: VPath },
    /// The removal has ended: the path is free for deployments. No answer.
    Ended { path: VPath, gone: bool, reason: String },
    /// What is in use may be another set than before, or other heads hold. No answer.
    Review { directory: Box<str> },
    /// Something stands in the way. No answer.
    Trouble { directory: Box<str>, failure: Failure },
}

/// How a config stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Directories that are kept because they are the newest.
    pub newest: usize,
    /// Because they are in use.
    pub active: usize,
    /// Because they are recent.
    pub recent: usize,
    /// Removed since the start.
    pub removed: u64,
    /// Why nothing is removed, or not all that should be.
    pub problem: Option<String>,
}
