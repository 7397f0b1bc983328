//! What can go wrong with a directory on disk, as far as decisions depend on it.

use std::fmt;

/// What kind of trouble; each is a state of one directory, never a reason for the daemon to exit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FailureKind {
    /// No space, quota or inodes left: tried again.
    NoSpace,
    /// The base directory isn't there (never taken for "empty"): tried again.
    MissingBase,
    /// No permission, or a read-only file system: tried again.
    NotWritable,
    /// Something that the daemon doesn't manage is where the directory should go: tried again, never removed. Only a person
    /// can end that, so who publishes is not kept waiting.
    Occupied,
    /// Another daemon manages the base directory: tried again.
    Claimed,
    /// A symlink or file is where a managed directory should be: tried again, never followed.
    Hostile,
    /// The staged tree can't be trusted any more (fsync failed, it was changed): it is thrown away and staged again.
    Poisoned,
    /// Any other error of the operating system: tried again.
    Io,
}

/// A failed step: its kind for decisions, its text (what, where, the system's words) for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind.
    pub kind: FailureKind,
    /// What failed and where.
    pub text: String,
}

impl FailureKind {
    /// The word in `/status.json` and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoSpace => "no_space",
            Self::MissingBase => "missing_base",
            Self::NotWritable => "not_writable",
            Self::Occupied => "occupied",
            Self::Claimed => "claimed",
            Self::Hostile => "hostile",
            Self::Poisoned => "poisoned",
            Self::Io => "io",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.name(), self.text)
    }
}
