//! Why a text isn't an index.

use crate::model::hash_kind::UnknownHash;
use crate::model::ids::ImageId;
use crate::model::image::ImageError;

/// A text is not an index: where and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {kind}")]
pub struct IndexError {
    /// Counted from one.
    pub line: u64,
    /// What is wrong there.
    pub kind: IndexErrorKind,
}

/// What is wrong with a line. Parts of the text are shown escaped and cut.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IndexErrorKind {
    /// Not `DIRSIGNATURE.v1 HASH block_size=32768`.
    #[error("not an index: expected `DIRSIGNATURE.v1 HASH block_size=32768`, got `{0}`")]
    Header(String),
    /// The header names another hash.
    #[error(transparent)]
    Hash(#[from] UnknownHash),
    /// The text ends in the middle of a line or before the last one.
    #[error("the text ends before its last line, the hash of the lines above, is complete")]
    Truncated,
    /// Neither a directory nor an entry nor the last line.
    #[error("expected a directory (`/...`), an entry (two spaces) or the closing hash, got `{0}`")]
    UnknownLine(String),
    /// An entry that isn't `NAME f|x SIZE HASH...` or `NAME s TARGET`.
    #[error("bad entry {name}: {reason}")]
    Entry { name: String, reason: &'static str },
    /// A name, path or target whose bytes aren't escaped as they must be.
    #[error("bad text `{text}`: {reason}")]
    Escape { text: String, reason: &'static str },
    /// Forbidden in an image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The last line isn't the hash of those above.
    #[error("the closing hash is {stated}, but the lines above hash to {computed}: the text was altered or cut")]
    Footer { stated: ImageId, computed: ImageId },
    /// Something follows the last line.
    #[error("something follows the closing hash")]
    AfterFooter,
    /// A valid index, but of another image.
    #[error("this is the index of image {got}, expected {expected}")]
    OtherImage { expected: ImageId, got: ImageId },
    /// Over [`crate::model::limits::INDEX_BYTES_MAX`].
    #[error("the index is larger than {max} bytes")]
    TooLarge { max: usize },
}
