//! What is asked of the engine, what it is told and what it has others do.

use std::sync::Arc;

use bytes::Bytes;

use crate::model::block_set::BlockSet;
use crate::model::directory::DirectoryConfig;
use crate::model::failure::Failure;
use crate::model::ids::{BlockHash, ImageId};
use crate::model::image::Image;
use crate::model::peer::{ConnectionId, ProtocolVersion};
use crate::model::run::Run;
use crate::model::vpath::VPath;

/// What a source can be asked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    /// The whole index (`ciruela.v1`).
    Index { image: ImageId },
    /// The index from an offset on (`ciruela.v2`).
    IndexPart { image: ImageId, offset: u64 },
    /// A run of blocks (`ciruela.v2`).
    Run { path: VPath, image: ImageId, run: Run },
    /// One block by its hash (`ciruela.v1`), with where it is in the image as a hint.
    Block { path: VPath, image: ImageId, block: u64, hash: BlockHash, file: String, offset: u64 },
}

/// What a source answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The blocks, or the whole index.
    Data(Bytes),
    /// A part of an index of `total` bytes.
    Part { data: Bytes, total: u64 },
}

/// What can happen.
#[derive(Debug)]
pub enum Input {
    /// A connection offers an image (again). `vouched`: it has also submitted a well signed change which wants the image.
    Offered { connection: ConnectionId, version: ProtocolVersion, image: ImageId, vouched: bool },
    /// A publisher or a node would like to be asked for one of `of` shares of the pieces, before those of others.
    Share { connection: ConnectionId, image: ImageId, index: u32, of: u32 },
    /// A node takes part in an image and has these pieces, as `PieceSet` has them in bytes; a `count` of 0: all. What it said
    /// before doesn't hold any more.
    Pieces { connection: ConnectionId, image: ImageId, count: u32, have: Bytes },
    /// A node has these pieces, too. From a publisher: one of the other nodes to which it gives shares has, until it gives
    /// another share.
    Have { connection: ConnectionId, image: ImageId, pieces: Vec<u32> },
    /// So many bytes per second may be asked for, of all sources together; `None`: no bound.
    MaxDownloadRate(Option<u64>),
    /// A connection is gone: all that it was asked stays unanswered.
    Gone { connection: ConnectionId },
    /// What nodes have said of an image that isn't being fetched isn't counted on any more.
    Forget { image: ImageId },
    /// An index is wanted.
    WantIndex { image: ImageId },
    /// An index is no longer wanted.
    DropIndex { image: ImageId },
    /// Answer to [`Effect::CheckIndex`]: genuine, or an error: not the text that hashes to the id.
    IndexChecked { image: ImageId, genuine: Result<(), String> },
    /// The blocks of an image are wanted, but those which are there.
    Start { path: VPath, directory: Arc<DirectoryConfig>, id: ImageId, image: Arc<Image>, have: BlockSet },
    /// They are no longer wanted. Answered by [`Effect::Cancelled`] unless the end was told already.
    Cancel { path: VPath },
    /// Answer to [`Effect::Ask`], unless [`Input::Gone`] came first.
    Answered { connection: ConnectionId, question: Question, answer: Result<Answer, String> },
    /// Answer to [`Effect::Store`]: numbers of the blocks that don't fit their hashes.
    Stored { path: VPath, run: Run, result: Result<Vec<u64>, Failure> },
}

/// What should be done.
#[derive(Debug)]
pub enum Effect {
    /// Ask a source.
    Ask { connection: ConnectionId, question: Question },
    /// Check what arrived and write what is right.
    Store { path: VPath, directory: Arc<DirectoryConfig>, image: Arc<Image>, run: Run, data: Bytes },
    /// Check an index against its id and keep it.
    CheckIndex { image: ImageId, data: Vec<u8> },
    /// These pieces are verified and written now: to be told to all nodes which take part in the image. Those that were there
    /// at the start aren't told, see [`super::Fetches::have`]. No answer.
    Announce { image: ImageId, pieces: Vec<u32> },
    /// To be told to a node which takes part in the image: it should ask for one of `of` shares of the pieces that it can
    /// get nowhere else, before those of others. No answer.
    Share { connection: ConnectionId, image: ImageId, index: u32, of: u32 },
    /// A source sent a wrong block, to be told to it: its copy may be damaged. It isn't asked for that image any more. No answer.
    TellCorrupt { connection: ConnectionId, image: ImageId, block: u64 },
    /// Every block of the path's image is there; this many bytes were fetched, and from whom most of them. No answer.
    Finished { path: VPath, bytes: u64, from: Vec<(ConnectionId, u64)> },
    /// Storing failed; what was asked is forgotten. No answer.
    Failed { path: VPath, failure: Failure },
    /// Nothing of the path is under way any more. No answer.
    Cancelled { path: VPath },
    /// A source isn't asked for that image any more, and why. No answer.
    Dropped { connection: ConnectionId, image: ImageId, reason: String },
}

impl Question {
    /// Which image it is about.
    pub fn image(&self) -> ImageId {
        match self {
            Self::Index { image }
            | Self::IndexPart { image, .. }
            | Self::Run { image, .. }
            | Self::Block { image, .. } => *image,
        }
    }

    /// The blocks asked for; meaningless for an index.
    pub(super) fn run(&self) -> Run {
        match self {
            Self::Run { run, .. } => *run,
            Self::Block { block, .. } => Run { first: *block, count: 1 },
            Self::Index { .. } | Self::IndexPart { .. } => Run { first: 0, count: 0 },
        }
    }
}
