//! Fingerprints of heads: how two nodes find out cheaply in what they differ.

use super::ids::ChangeId;
use super::vpath::VPath;

/// The hash of all (path, change id) in a range of heads, 16 bytes; see `format/heads` for how it is computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeadsFingerprint(pub [u8; 16]);

/// A range of one directory's heads, sorted by path, as one node has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadRange {
    /// The first path that may be in it; `None`: from the beginning.
    pub from: Option<VPath>,
    /// The first path behind it; `None`: to the end.
    pub to: Option<VPath>,
    /// Of what is in it.
    pub fingerprint: HeadsFingerprint,
    /// How many heads are in it.
    pub count: u64,
}

/// What a node says to a range that another one has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RangeAnswer {
    /// The same here.
    Same,
    /// It differs: the same range as it is here, in finer ranges.
    Finer(Vec<HeadRange>),
    /// It differs, and this is all that is here.
    Heads(Vec<(VPath, ChangeId)>),
}
