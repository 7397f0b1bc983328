//! What a scrub asks of the disk, what it finds, and what is told of it to whoever ordered it.

use super::fingerprint::Fingerprint;
use super::time::Stamp;
use super::vpath::VPath;

/// Where the scrub of a directory goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cursor {
    /// Number of the directory, in index order.
    pub directory: usize,
    /// Number of its entry that comes next; `None`: the directory itself.
    pub entry: Option<usize>,
    /// What is known of that file already.
    pub within: Option<Within>,
}

/// A file of which a part was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Within {
    /// Blocks that were read.
    pub blocks: u64,
    /// Those of them that were wrong.
    pub wrong: u64,
    /// What the file was when that began.
    pub before: Fingerprint,
}

/// What is wrong at one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flaw {
    /// It isn't there.
    Missing,
    /// The bytes are others.
    Content,
    /// There are more bytes or fewer.
    Size,
    /// It is a directory, a file, a link, while the image has something else there.
    Kind,
    /// Its permissions.
    Mode,
    /// Where a link points to.
    Target,
    /// The system can't read it.
    Unreadable,
    /// The image has nothing of that name.
    Extra,
}

impl Flaw {
    /// The word for programs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Content => "content",
            Self::Size => "size",
            Self::Kind => "kind",
            Self::Mode => "mode",
            Self::Target => "target",
            Self::Unreadable => "unreadable",
            Self::Extra => "extra",
        }
    }

    /// Whether the directory isn't its image any more: what it has besides is no damage.
    pub const fn is_damage(self) -> bool {
        !matches!(self, Self::Extra)
    }
}

/// One thing that a scrub has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Relative to the directory, escaped; `.` for the directory itself.
    pub file: Box<str>,
    /// What kind.
    pub flaw: Flaw,
    /// In words, which read on after the file's name.
    pub what: Box<str>,
}

/// What one step of a scrub has found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Part {
    /// At most [`super::limits::SCRUB_EXTRAS_LISTED_MAX`] of them are extra entries.
    pub findings: Vec<Finding>,
    /// Extra entries, also those that aren't listed.
    pub extras: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Files, links and directories that were looked at.
    pub entries: u64,
    /// Bytes of all files of the image.
    pub bytes_total: u64,
    /// Where to go on; `None`: that was all.
    pub next: Option<Cursor>,
}

impl Part {
    /// Whether there was no directory at all.
    pub fn has_no_root(&self) -> bool {
        self.findings.iter().any(|finding| &*finding.file == "." && matches!(finding.flaw, Flaw::Missing | Flaw::Kind))
    }

    /// How many of the findings are damage.
    pub fn damaged(&self) -> u64 {
        self.findings.iter().filter(|finding| finding.flaw.is_damage()).count() as u64
    }
}

/// How the last whole scrub of a directory ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// When.
    pub at: Stamp,
    /// What was wrong.
    pub damaged: u64,
    /// What the image doesn't have.
    pub extras: u64,
}

/// Names a command to scrub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// What whoever gave the command is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// So many directories will be looked at.
    Begun { directories: u64 },
    /// This was found in a step, in a directory of which so many bytes were read.
    Found { path: VPath, findings: Vec<Finding>, bytes: u64, bytes_total: u64 },
    /// One directory was looked at.
    Directory { path: VPath, end: End },
    /// All were. Nothing follows.
    Ended,
    /// Nothing is done, and why. Nothing follows.
    Refused(String),
}

/// What became of the scrub of one directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It was read from the first byte to the last; `heals`: what is damaged will be deployed again.
    Read { verdict: Verdict, bytes: u64, heals: bool },
    /// It could not be, and why.
    Failed(String),
    /// Another one came to its place, or it was removed.
    Changed,
}
