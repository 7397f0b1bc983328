//! What a node is told, and what it asks for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::serve::Serving;
use crate::format::record::{CommittedRecord, DamageRecord, HeadRecord, IntentRecord};
use crate::format::wire::Message;
use crate::model::directory::{DirectoryConfig, NodeConfig};
use crate::model::disk_task::{DiskResult, DiskTask};
use crate::model::estimate::{Estimate, EstimateTask, NoEstimate};
use crate::model::failure::Failure;
use crate::model::fingerprint::FileIdentity;
use crate::model::ids::{ChangeId, ImageId};
use crate::model::image::Image;
use crate::model::origins::Origins;
use crate::model::peer::{ClusterKey, ConnectionId, Host, ProtocolVersion};
use crate::model::retention::Active;
use crate::model::reuse::Damage;
use crate::model::scrub::{News, Ticket, Verdict};
use crate::model::vpath::VPath;

/// Ties an answer to the effect that asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct JobId(pub u64);

/// What can happen to a node.
#[derive(Debug)]
pub enum Input {
    /// A handshake ended well.
    Connected { connection: ConnectionId, version: ProtocolVersion, end: End },
    /// Answer to [`Effect::Connect`]; [`Input::Connected`] is the other.
    NotConnected { address: SocketAddr, reason: String },
    /// A datagram came.
    Datagram { from: SocketAddr, data: Bytes },
    /// The node is about to end: the others should know.
    Leave,
    /// The addresses in `peers.txt`, whenever they were looked up again.
    Peers(Vec<SocketAddr>),
    /// A message came in.
    Message { connection: ConnectionId, message: Message },
    /// A connection is gone, whoever closed it.
    Disconnected { connection: ConnectionId },
    /// Answer to [`Effect::Disk`].
    Disk { job: JobId, result: Result<DiskResult, Failure> },
    /// Answer to [`Effect::Write`]: durable, or not written at all.
    Written { job: JobId, result: Result<(), Failure> },
    /// Answer to [`Effect::LoadIndex`].
    IndexLoaded { image: ImageId, index: Option<Arc<Image>> },
    /// Answer to [`Effect::ListIndexes`].
    IndexesListed { images: Vec<ImageId> },
    /// Answer to [`Effect::RemoveIndexes`].
    IndexesRemoved,
    /// Answer to [`Effect::CheckIndex`].
    IndexChecked { image: ImageId, result: Result<Arc<Image>, IndexProblem> },
    /// Answer to [`Effect::Survey`].
    Surveyed { job: JobId, result: Result<Active, Failure> },
    /// Answer to [`Effect::Estimate`].
    Estimated { job: JobId, result: Result<Estimate, NoEstimate> },
    /// Answer to [`Effect::Serve`]: the answer is on its way to the connection.
    Served { connection: ConnectionId },
    /// A visible directory isn't what it should be.
    Damaged(Damage),
    /// Compare the directories at and below a path with their images; `None`: all.
    Scrub { ticket: Ticket, path: Option<VPath> },
    /// Answer to [`Effect::Tell`]; not `alive`: nobody listens any more.
    Told { ticket: Ticket, alive: bool },
    /// The configuration was read (again).
    Configured(Arc<NodeConfig>),
}

/// Which end of a connection this node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The other side connected.
    Accepted { from: SocketAddr },
    /// This node did, because of [`Effect::Connect`].
    Dialed { to: SocketAddr },
}

impl End {
    pub(super) const fn dialed(self) -> Option<SocketAddr> {
        match self {
            Self::Accepted { .. } => None,
            Self::Dialed { to } => Some(to),
        }
    }
}

/// Why an index that arrived can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexProblem {
    /// It isn't the text that hashes to the image's id.
    Lie(String),
    /// It is, but no daemon may deploy it.
    Unusable(String),
    /// It couldn't be kept on disk.
    NotStored(Failure),
}

/// What should be done.
#[derive(Debug)]
pub enum Effect {
    /// Send a message. No answer.
    Send { connection: ConnectionId, message: Message },
    /// Say why, then close. Answered by [`Input::Disconnected`].
    Close { connection: ConnectionId, reason: String },
    /// Connect to a node.
    Connect { address: SocketAddr },
    /// Tell whoever gave a command to scrub.
    Tell { ticket: Ticket, news: Vec<News> },
    /// Send a datagram, which may be lost. No answer.
    Datagram { to: SocketAddr, data: Bytes },
    /// Work on the trees.
    Disk { job: JobId, task: DiskTask },
    /// Write rows in one durable transaction, in the order of these effects.
    Write { job: JobId, rows: Vec<Row> },
    /// Find out what is in use in the directory of a config.
    Survey { job: JobId, directory: Arc<DirectoryConfig> },
    /// Find out what putting an image somewhere would take; nothing is changed.
    Estimate { job: JobId, task: EstimateTask },
    /// Read an index from the cache and parse it.
    LoadIndex { image: ImageId },
    /// Which indexes are in the cache?
    ListIndexes,
    /// Remove indexes from the cache; what can't be removed stays.
    RemoveIndexes { images: Vec<ImageId> },
    /// Check an index against its id, parse it, keep it.
    CheckIndex { image: ImageId, data: Vec<u8> },
    /// Read something and answer the connection's request with it.
    Serve { connection: ConnectionId, request: u64, what: Serving },
    /// Something worth a log line. No answer.
    Note(Note),
}

/// What operators want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A change was decided on.
    Decided { path: String, verdict: String, image: Option<ImageId> },
    /// A directory is visible.
    Done { path: VPath, image: ImageId, bytes: Origins, already: bool },
    /// A deployment ended without success.
    Ended { path: VPath, image: ImageId, reason: String },
    /// A step failed and will be tried again.
    Paused { path: VPath, failure: Failure },
    /// A visible directory isn't what it should be.
    Damaged { path: VPath, file: Box<str>, what: Box<str> },
    /// A scrub has found this; `extra`: something that the image doesn't have, which is no damage.
    Flaw { path: VPath, file: Box<str>, what: Box<str>, extra: bool },
    /// A directory was compared with its image, from the first byte to the last.
    Scrubbed { path: VPath, verdict: Verdict, bytes: u64 },
    /// It could not be.
    NotScrubbed { path: VPath, failure: Failure },
    /// A directory that was damaged is what it should be.
    Sound { path: VPath },
    /// A directory was removed, since the rules don't keep it.
    Removed { path: VPath, reason: String },
    /// What was visible before isn't kept any more.
    Forgone { path: VPath, image: ImageId, why: &'static str },
    /// Directories of a config aren't removed as they should be.
    NotRemoved { directory: Box<str>, failure: Failure },
    /// A source isn't asked any more for an image.
    SourceDropped { from: Option<SocketAddr>, image: ImageId, reason: String },
    /// Another node has taken a change.
    Learned { path: VPath, image: Option<ImageId> },
    /// The heads of a directory were compared with another node's.
    CaughtUp { directory: Box<str>, address: SocketAddr, pulled: u64, pushed: u64 },
    /// That broke off.
    CatchUpBroken { directory: Box<str>, address: SocketAddr, reason: String },
    /// Another node says that it got a wrong block from here.
    ToldCorrupt { from: Option<SocketAddr>, image: ImageId, block: u64 },
    /// Another node is there.
    NodeUp { address: SocketAddr, hostname: Box<str> },
    /// It isn't any more.
    NodeDown { address: SocketAddr, hostname: Box<str>, left: bool },
    /// Others know a later start of this node: its state comes from an older copy.
    Restored { incarnation: u64 },
    /// Somebody sends datagrams that were sealed with another key, or none.
    Stranger { from: SocketAddr },
    /// None of so many peers answers.
    Alone { peers: usize },
    /// Another node has this one's machine id.
    Twin { address: SocketAddr },
    /// Another node could not be connected to.
    NodeUnreachable { address: SocketAddr, reason: String },
}

/// A change of the state database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// What should be at a path.
    Head { path: VPath, record: HeadRecord },
    /// Nothing should be there.
    NoHead { path: VPath },
    /// A swap is about to happen.
    Intent { path: VPath, record: IntentRecord },
    /// A swap has happened: this is visible.
    Committed { path: VPath, directory: Arc<DirectoryConfig>, record: CommittedRecord },
    /// What was visible isn't any more, nor is anything about to be.
    NotCommitted { path: VPath },
    /// What was visible before, with that root, isn't kept any more.
    NoPrevious { path: VPath, root: FileIdentity },
    /// Something is wrong with what is visible.
    Damaged { path: VPath, record: DamageRecord },
    /// What is visible was compared with its image.
    Scrubbed { path: VPath, verdict: Verdict, sound: Option<Sound> },
    /// The node has taken a higher incarnation.
    Incarnation(u64),
}

/// A directory in which something was wrong, and nothing is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sound {
    /// The config that says where it lies.
    pub directory: Arc<DirectoryConfig>,
    /// By which change it is visible.
    pub change: ChangeId,
    /// Its root.
    pub root: FileIdentity,
}

/// What makes a node.
#[derive(Debug)]
pub struct Setup {
    /// Who it is.
    pub host: Host,
    /// The cluster's name; changes for another one are refused.
    pub cluster: Option<Box<str>>,
    /// Of the program.
    pub version: &'static str,
    /// Where the others find it, TCP and UDP alike.
    pub address: SocketAddr,
    /// Higher than at any start before.
    pub incarnation: u64,
    /// What all nodes of the cluster know.
    pub key: Option<ClusterKey>,
    /// Never the same twice.
    pub random: [u8; 32],
    /// What it carries.
    pub config: Arc<NodeConfig>,
    /// What its database held.
    pub snapshot: Snapshot,
}

/// What the state database held at start.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Changes that hold.
    pub heads: BTreeMap<VPath, HeadRecord>,
    /// Swaps that were begun.
    pub intents: BTreeMap<VPath, IntentRecord>,
    /// Trees that are visible.
    pub committed: BTreeMap<VPath, CommittedRecord>,
    /// What is wrong with them.
    pub damaged: BTreeMap<VPath, DamageRecord>,
    /// How they were when they were compared with their images.
    pub scrubbed: BTreeMap<VPath, Verdict>,
}
