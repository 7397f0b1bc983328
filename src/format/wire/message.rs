//! The messages as values. Their field names on the wire, and their order, are in `encode`.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::Bytes;

use super::WireError;
use super::cluster::{NodeRequest, NodeResponse, Notice};
use crate::model::change::SignedChange;
use crate::model::estimate::Estimate;
use crate::model::ids::{BlockHash, ChangeId, ImageId, MachineId};
use crate::model::key::SignatureBytes;
use crate::model::origins::{Origins, Supply};
use crate::model::peer::Host;
use crate::model::run::Run;
use crate::model::time::Stamp;
use crate::model::vpath::VPath;

/// One WebSocket message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Needs no answer.
    Notification(Notification),
    /// Is answered by exactly one response with its id, which is unique among its sender's unanswered requests.
    Request { id: u64, request: Request },
    /// Answers the request with that id.
    Response { id: u64, response: Response },
    /// Received only: a request that must be answered with [`Response::Error`], because its type is unknown or its
    /// parameters are wrong. The connection goes on.
    Malformed { id: u64, request_type: String, error: WireError },
    /// Received only: a notification of a later version, to be ignored.
    Unknown { notification_type: String },
}

/// What needs no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notification {
    /// v1, client → daemon: the sender has the image and wants to hear how it fares.
    PublishImage { id: ImageId },
    /// v1, daemon → client: the image is visible at a path.
    ReceivedImage(ImageEvent),
    /// v1, daemon → client: the image will not become visible there.
    AbortedImage { event: ImageEvent, reason: String },
    /// v2, daemon → client: who speaks; the first message.
    Hello(Hello),
    /// v2, daemon → client: how far a change is.
    Progress(Progress),
    /// v2, daemon → client: how a change ended on one host.
    Outcome(Outcome),
    /// v2: between nodes, or about them.
    Cluster(Notice),
}

/// An image at a path of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageEvent {
    /// Which image.
    pub id: ImageId,
    /// Where.
    pub path: VPath,
    /// On which host.
    pub host: Host,
    /// Whether the sender only passes on what that host told.
    pub forwarded: bool,
}

/// Who a daemon is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Its host.
    pub host: Host,
    /// Its version, for people.
    pub version: String,
}

/// How far a change is on one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Where.
    pub path: VPath,
    /// With what.
    pub image: ImageId,
    /// Which change.
    pub change: ChangeId,
    /// On which host.
    pub host: Host,
    /// The name of the deployment's state.
    pub state: String,
    /// Bytes that are there.
    pub bytes_done: u64,
    /// Bytes of the image.
    pub bytes_total: u64,
    /// What it waits for, if it waits.
    pub waiting: Option<String>,
}

/// How a change ended on one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Where.
    pub path: VPath,
    /// With what; `None` for a delete.
    pub image: Option<ImageId>,
    /// Which change.
    pub change: ChangeId,
    /// On which host.
    pub host: Host,
    /// The word for how it ended.
    pub result: String,
    /// Why, where that isn't obvious.
    pub reason: Option<String>,
    /// Where its bytes came from.
    pub bytes: Origins,
    /// The largest of them by whom.
    pub sources: Vec<Supply>,
}

/// What must be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// v1.
    AppendDir(PublishedChange),
    /// v1.
    ReplaceDir(PublishedChange),
    /// v1: the whole index of an image.
    GetIndex { id: ImageId, hint: Option<String> },
    /// v1: the index of what is at a path.
    GetIndexAt { path: VPath },
    /// v1: one block.
    GetBlock { hash: BlockHash, hint: Option<BlockHint> },
    /// v2: one change with its signatures.
    SubmitChange(SignedChange),
    /// v2: what would come of this change? Its signatures cover [`crate::format::change::signed_plan_bytes`].
    Plan(SignedChange),
    /// v2: consecutive blocks of an image.
    GetBlocks { image: ImageId, run: Run },
    /// v2: a part of an index, [`crate::model::limits::INDEX_PART_BYTES_MAX`] bytes unless the index ends before.
    GetIndexPart { id: ImageId, offset: u64 },
    /// v2: between nodes.
    Node(NodeRequest),
}

/// What existing clients say to change a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedChange {
    /// Not checked yet: a bad one is refused in words.
    pub path: String,
    /// With what.
    pub image: ImageId,
    /// The author's time.
    pub timestamp: Stamp,
    /// Over `[path, image, timestamp]`; nobody says by which key.
    pub signatures: Vec<SignatureBytes>,
    /// `ReplaceDir` only: what must be there now.
    pub old_image: Option<ImageId>,
}

/// Where a block may be found. Only a hint: what is read there is checked against the hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockHint {
    /// The image's virtual path.
    pub path: VPath,
    /// The file's path in the image, not checked.
    pub file: String,
    /// Bytes before the block in the file.
    pub offset: u64,
}

/// The types of requests, which are those of their responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RequestType {
    /// v1.
    AppendDir,
    /// v1.
    ReplaceDir,
    /// v1.
    GetIndex,
    /// v1.
    GetIndexAt,
    /// v1.
    GetBlock,
    /// v2.
    SubmitChange,
    /// v2.
    Plan,
    /// v2.
    GetBlocks,
    /// v2.
    GetIndexPart,
    /// v2, between nodes, as are the following.
    NodeHello,
    /// v2.
    GetMembers,
    /// v2.
    CompareHeads,
    /// v2.
    GetHeads,
    /// v2.
    Propose,
}

/// Answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    /// v1.
    AppendDir(ChangeAnswer),
    /// v1.
    ReplaceDir(ChangeAnswer),
    /// v1; `None`: not found, which is sent as an `Error` because existing peers understand only that.
    GetIndex { data: Option<Bytes> },
    /// v1; `None`: nothing there, but `hosts` may have it.
    GetIndexAt { data: Option<Bytes>, hosts: Hosts },
    /// v1; `None` as in `GetIndex`.
    GetBlock { data: Option<Bytes> },
    /// v2.
    SubmitChange(SubmitAnswer),
    /// v2.
    Plan(Box<PlanAnswer>),
    /// v2: the blocks, one after the other.
    GetBlocks { data: Bytes },
    /// v2: the part, and the length of the whole index.
    GetIndexPart { data: Bytes, total: u64 },
    /// v2, between nodes.
    Node(NodeResponse),
    /// To any request: it could not be done, and why.
    Error(String),
}

/// Hosts by machine id, with their names.
pub type Hosts = BTreeMap<MachineId, Box<str>>;

/// The answer to `AppendDir` and `ReplaceDir`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeAnswer {
    /// Whether the daemon took it (or had it already).
    pub accepted: bool,
    /// The published word for why not.
    pub reject_reason: Option<String>,
    /// Hosts that have the directory.
    pub hosts: Hosts,
}

/// The answer to `SubmitChange`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubmitAnswer {
    /// What the daemon decided.
    pub verdict: VerdictWord,
    /// The word for why it was refused.
    pub reject_reason: Option<String>,
    /// A sentence for people.
    pub detail: Option<String>,
    /// Names of keys that would have been accepted.
    pub accepted_keys: Vec<String>,
    /// The image that is, or is going, there.
    pub current: Option<ImageId>,
    /// The stamp of the change that holds there.
    pub stamp: Option<Stamp>,
    /// Whether it is visible already: no `Outcome` will follow.
    pub done: bool,
    /// Who answers.
    pub host: Host,
    /// Hosts that have the directory.
    pub hosts: Hosts,
    /// Where they listen, `address:port`.
    pub addresses: Vec<SocketAddr>,
}

/// The answer to `Plan`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanAnswer {
    /// What the daemon would answer to the change.
    pub answer: SubmitAnswer,
    /// What it would take, if it would be accepted.
    pub estimate: Option<Estimate>,
    /// Why that isn't known.
    pub problem: Option<String>,
}

/// A verdict as a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum VerdictWord {
    /// Registered; the content follows.
    Accept,
    /// There, or on its way, already.
    Have,
    /// A newer change holds.
    Superseded,
    /// No.
    Refused,
}

impl VerdictWord {
    /// The word on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Have => "have",
            Self::Superseded => "superseded",
            Self::Refused => "refused",
        }
    }

    /// The inverse of [`Self::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Accept, Self::Have, Self::Superseded, Self::Refused].into_iter().find(|word| word.name() == name)
    }
}

impl RequestType {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::AppendDir,
        Self::ReplaceDir,
        Self::GetIndex,
        Self::GetIndexAt,
        Self::GetBlock,
        Self::SubmitChange,
        Self::Plan,
        Self::GetBlocks,
        Self::GetIndexPart,
        Self::NodeHello,
        Self::GetMembers,
        Self::CompareHeads,
        Self::GetHeads,
        Self::Propose,
    ];

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AppendDir => "AppendDir",
            Self::ReplaceDir => "ReplaceDir",
            Self::GetIndex => "GetIndex",
            Self::GetIndexAt => "GetIndexAt",
            Self::GetBlock => "GetBlock",
            Self::SubmitChange => "SubmitChange",
            Self::Plan => "Plan",
            Self::GetBlocks => "GetBlocks",
            Self::GetIndexPart => "GetIndexPart",
            Self::NodeHello => "NodeHello",
            Self::GetMembers => "GetMembers",
            Self::CompareHeads => "CompareHeads",
            Self::GetHeads => "GetHeads",
            Self::Propose => "Propose",
        }
    }

    /// The inverse of [`Self::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|request_type| request_type.name() == name)
    }
}

impl Request {
    /// Its type.
    pub const fn request_type(&self) -> RequestType {
        match self {
            Self::AppendDir(_) => RequestType::AppendDir,
            Self::ReplaceDir(_) => RequestType::ReplaceDir,
            Self::GetIndex { .. } => RequestType::GetIndex,
            Self::GetIndexAt { .. } => RequestType::GetIndexAt,
            Self::GetBlock { .. } => RequestType::GetBlock,
            Self::SubmitChange(_) => RequestType::SubmitChange,
            Self::Plan(_) => RequestType::Plan,
            Self::GetBlocks { .. } => RequestType::GetBlocks,
            Self::GetIndexPart { .. } => RequestType::GetIndexPart,
            Self::Node(request) => request.request_type(),
        }
    }
}

impl Response {
    /// The type of the requests that it can answer; `None`: any.
    pub const fn request_type(&self) -> Option<RequestType> {
        match self {
            Self::AppendDir(_) => Some(RequestType::AppendDir),
            Self::ReplaceDir(_) => Some(RequestType::ReplaceDir),
            Self::GetIndex { .. } => Some(RequestType::GetIndex),
            Self::GetIndexAt { .. } => Some(RequestType::GetIndexAt),
            Self::GetBlock { .. } => Some(RequestType::GetBlock),
            Self::SubmitChange(_) => Some(RequestType::SubmitChange),
            Self::Plan(_) => Some(RequestType::Plan),
            Self::GetBlocks { .. } => Some(RequestType::GetBlocks),
            Self::GetIndexPart { .. } => Some(RequestType::GetIndexPart),
            Self::Node(response) => Some(response.request_type()),
            Self::Error(_) => None,
        }
    }
}
