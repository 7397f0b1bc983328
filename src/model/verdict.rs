//! What a node says to a change.

use super::change::SignedChange;
use super::ids::ImageId;
use super::time::Stamp;

/// The one answer to a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Register it: the content follows.
    Accept,
    /// The same image is (or is going) there already: merge the signatures, nothing moves.
    Have,
    /// A newer change holds at that path: here it is.
    Superseded(Box<SignedChange>),
    /// No, and why.
    Refused(Refusal),
}

/// Why a change was refused. [`Refusal::word`] is what existing clients know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No directory config has the path's key.
    #[error("no directory named {key:?} is configured on this node")]
    NoConfig { key: String },
    /// The path's number of components doesn't fit `num-levels`.
    #[error("the path has {given} components after its key, but the directory takes {expected} (`num-levels`)")]
    ConfigLevelMismatch { expected: usize, given: usize },
    /// No signature fits a key which the directory accepts.
    #[error("no signature fits a key that this directory accepts")]
    SignatureMismatch {
        /// Names of the keys that would have been accepted.
        accepted: Vec<String>,
        /// A signature of the older form was valid, but the config lacks `legacy-signatures: true`.
        legacy: bool,
    },
    /// An append where another image is.
    #[error("the directory already exists with image {current}")]
    AlreadyExists { current: ImageId },
    /// A replace or delete where only appends are allowed.
    #[error("the directory is append-only")]
    DirIsAppendOnly { current: Option<ImageId> },
    /// A conditional change whose `old_image` isn't there.
    #[error("the image to be replaced is not the one that is there")]
    ReplaceDoesntMatchIndex { current: Option<ImageId> },
    /// An append while another image is on its way to the same path.
    #[error("another image, {current}, is on its way to this path")]
    AlreadyUploadingDifferentVersion { current: ImageId },
    /// Too far ahead of the node's clock.
    #[error("the change is stamped more than 10 minutes ahead of this node's clock")]
    StampInFuture { node_clock: Stamp },
    /// Signed for another cluster.
    #[error("the change was signed for cluster {meant:?}")]
    WrongCluster { meant: String },
    /// A replace or append without an image, a delete with one or without `old_image`, an append with another `old_image`.
    #[error("the change contradicts itself: {0}")]
    Malformed(&'static str),
    /// A delete of a directory that is all of what its config names.
    #[error("it is the whole directory of its configuration (`num-levels: 0`), which is only replaced, never removed")]
    NotRemovable,
    /// A plain append of what was there, in an append-only directory.
    #[error("the image was there and was cleaned; only an append with itself as `old_image` brings it back")]
    Cleaned { current: Option<ImageId> },
    /// A plain append where a directory was removed, in an append-only directory.
    #[error(
        "the directory that was there was removed; only a replace with what was there as `old_image` puts one there again"
    )]
    Removed { removed: Option<ImageId> },
    /// The node has as many deployments as it takes.
    #[error("the node has too many deployments under way; try again later")]
    Overloaded,
}

impl Verdict {
    /// The word on the wire.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Have => "have",
            Self::Superseded(_) => "superseded",
            Self::Refused(_) => "refused",
        }
    }

    /// Why not, in one published word; `None` for accept and have.
    pub const fn reject_word(&self) -> Option<&'static str> {
        match self {
            Self::Accept | Self::Have => None,
            Self::Superseded(_) => Some("stale"),
            Self::Refused(refusal) => Some(refusal.word()),
        }
    }
}

impl Refusal {
    /// The published word, or ours where none was published.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::NoConfig { .. } => "no_config",
            Self::ConfigLevelMismatch { .. } => "config_level_mismatch",
            Self::SignatureMismatch { .. } => "signature_mismatch",
            Self::AlreadyExists { .. } => "already_exists",
            Self::DirIsAppendOnly { .. } => "dir_is_append_only",
            Self::ReplaceDoesntMatchIndex { .. } => "replace_doesnt_match_index",
            Self::AlreadyUploadingDifferentVersion { .. } => "already_uploading_different_version",
            Self::StampInFuture { .. } => "stamp_in_future",
            Self::WrongCluster { .. } => "wrong_cluster",
            Self::Malformed(_) => "malformed",
            Self::NotRemovable => "not_removable",
            Self::Cleaned { .. } => "cleaned",
            Self::Removed { .. } => "removed",
            Self::Overloaded => "overloaded",
        }
    }

    /// The image that is at the path now, where that is part of the reason.
    pub const fn current(&self) -> Option<ImageId> {
        match self {
            Self::AlreadyExists { current } | Self::AlreadyUploadingDifferentVersion { current } => Some(*current),
            Self::DirIsAppendOnly { current }
            | Self::ReplaceDoesntMatchIndex { current }
            | Self::Cleaned { current }
            | Self::Removed { removed: current } => *current,
            Self::NoConfig { .. }
            | Self::ConfigLevelMismatch { .. }
            | Self::SignatureMismatch { .. }
            | Self::StampInFuture { .. }
            | Self::WrongCluster { .. }
            | Self::Malformed(_)
            | Self::NotRemovable
            | Self::Overloaded => None,
        }
    }
}
