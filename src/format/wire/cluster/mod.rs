//! What nodes say to each other, and to clients about each other: `ciruela.v2` only.

mod decode;
mod encode;
#[cfg(test)]
mod tests;

use bytes::Bytes;

pub(super) use decode::{decode_notice, decode_request, decode_response};
pub(super) use encode::{put_notice, put_request, put_response};

use super::{RequestType, VerdictWord};
use crate::model::change::SignedChange;
use crate::model::heads::{HeadRange, HeadsFingerprint, RangeAnswer};
use crate::model::ids::{ChangeId, ImageId};
use crate::model::origins::{Origins, Supply};
use crate::model::peer::{Host, NodeId};
use crate::model::vpath::VPath;

/// What needs no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Node → node, node → client: the sender takes part in an image and has these pieces of it, one bit each, the
    /// lowest bit of the first byte first.
    Pieces { image: ImageId, count: u32, have: Bytes },
    /// Node → node, node → client: the sender has these pieces now, too.
    Have { image: ImageId, pieces: Vec<u32> },
    /// Client → node: it would like to be asked for the pieces whose number, divided by `of`, leaves `index`. Node → node:
    /// the same, of what can be had from it alone, after the numbers were scrambled (`engine/fetch`).
    Share { image: ImageId, index: u32, of: u32 },
    /// To a source: this block of its image doesn't fit its hash.
    Corrupt { image: ImageId, block: u64 },
    /// Node → node: the sender knows the cluster's key.
    NodeProof { proof: Proof },
    /// Node → node: for one directory, all that the other lacked was proposed.
    SyncComplete { directory: Box<str>, fingerprint: HeadsFingerprint },
    /// Node → client: how other nodes fare with a path.
    Nodes(Nodes),
}

/// A keyed hash over both nodes and their nonces.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Proof(pub [u8; 32]);

impl std::fmt::Debug for Proof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Proof(…)")
    }
}

/// What must be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeRequest {
    /// The first word of a node which connects to another.
    Hello { node: NodeId, nonce: [u8; 32] },
    /// All members which the other knows, from a cursor on; 0 is the beginning.
    GetMembers { cursor: u64 },
    /// How ranges of a directory's heads compare.
    CompareHeads { directory: Box<str>, ranges: Vec<HeadRange> },
    /// The changes which hold at these paths.
    GetHeads { paths: Vec<VPath> },
    /// Changes which the other may lack, and when this node took them.
    Propose { changes: Vec<SignedChange> },
}

/// Answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeResponse {
    /// Who answers, its nonce, and its proof; `None` if it has no key.
    Hello { node: NodeId, nonce: [u8; 32], proof: Option<Proof> },
    /// A part of the members as `format/gossip` has them, and the next cursor, if there is more.
    GetMembers { data: Bytes, next: Option<u64> },
    /// One answer for each range.
    CompareHeads { answers: Vec<RangeAnswer> },
    /// Those that the node has.
    GetHeads { changes: Vec<SignedChange> },
    /// One for each change.
    Propose { verdicts: Vec<ProposalVerdict> },
}

/// What a node says to a change that another one proposed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProposalVerdict {
    /// In one word.
    pub verdict: VerdictWord,
    /// The word for why it was refused.
    pub reason: Option<String>,
    /// The change which holds instead.
    pub newer: Option<SignedChange>,
}

/// How other nodes fare with a path; latest values, which take the place of those sent before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nodes {
    /// Where.
    pub path: VPath,
    /// With what.
    pub image: ImageId,
    /// Which change.
    pub change: ChangeId,
    /// Nodes that carry the directory, the sender included.
    pub total: u64,
    /// Those of which there is news.
    pub nodes: Vec<NodeReport>,
    /// Whether, with this, the client was told of all of them.
    pub complete: bool,
}

/// How one node fares with a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeReport {
    /// Which host.
    pub host: Host,
    /// Which node: `address:port`.
    pub address: Box<str>,
    /// Whether membership holds it for alive.
    pub alive: bool,
    /// The name of the deployment's state; `unknown`: it hasn't reported yet.
    pub state: String,
    /// How it ended, if it did: the word of an outcome.
    pub result: Option<String>,
    /// Why, where that isn't obvious.
    pub reason: Option<String>,
    /// What it waits for, if it waits.
    pub waiting: Option<String>,
    /// Bytes that are there.
    pub bytes_done: u64,
    /// Bytes of the image.
    pub bytes_total: u64,
    /// Where its bytes came from.
    pub bytes: Origins,
    /// The largest of them by whom.
    pub sources: Vec<Supply>,
}

impl Notice {
    /// The name on the wire.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Pieces { .. } => "Pieces",
            Self::Have { .. } => "Have",
            Self::Share { .. } => "Share",
            Self::Corrupt { .. } => "Corrupt",
            Self::NodeProof { .. } => "NodeProof",
            Self::SyncComplete { .. } => "SyncComplete",
            Self::Nodes(_) => "Nodes",
        }
    }
}

impl NodeRequest {
    /// Its type.
    pub const fn request_type(&self) -> RequestType {
        match self {
            Self::Hello { .. } => RequestType::NodeHello,
            Self::GetMembers { .. } => RequestType::GetMembers,
            Self::CompareHeads { .. } => RequestType::CompareHeads,
            Self::GetHeads { .. } => RequestType::GetHeads,
            Self::Propose { .. } => RequestType::Propose,
        }
    }
}

impl NodeResponse {
    /// The type of the requests that it answers.
    pub const fn request_type(&self) -> RequestType {
        match self {
            Self::Hello { .. } => RequestType::NodeHello,
            Self::GetMembers { .. } => RequestType::GetMembers,
            Self::CompareHeads { .. } => RequestType::CompareHeads,
            Self::GetHeads { .. } => RequestType::GetHeads,
            Self::Propose { .. } => RequestType::Propose,
        }
    }
}
