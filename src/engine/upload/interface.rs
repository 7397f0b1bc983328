//! What is asked of the engine, what it is told and what it has others do.

use std::net::SocketAddr;
use std::time::Duration;

use super::Summary;
use crate::format::wire::{Message, NodeReport, Outcome, Progress};
use crate::model::change::{Change, SignedChange, Verb};
use crate::model::ids::ImageId;
use crate::model::peer::{ConnectionId, Host, ProtocolVersion};
use crate::model::time::Stamp;
use crate::model::vpath::VPath;

/// One directory to be put somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// Where; each path once.
    pub path: VPath,
    /// What; for a delete, what is removed.
    pub image: ImageId,
    /// How.
    pub verb: Verb,
    /// Only in the place of this image. A delete removes its image only, whatever stands here.
    pub old_image: Option<ImageId>,
    /// Another image at the path is fine too (`--append-weak`).
    pub weak: bool,
    /// Whether the client has its content to give; otherwise nodes have it, or need none.
    pub given: bool,
}

impl Upload {
    /// Whether it removes the image.
    pub fn deletes(&self) -> bool {
        self.verb == Verb::Delete
    }

    /// What an outcome names.
    pub(super) fn outcome_image(&self) -> Option<ImageId> {
        Some(self.image).filter(|_| !self.deletes())
    }
}

/// When to stop.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// Not finished by then is a failure.
    pub deadline: Duration,
    /// After this time fewer nodes are enough.
    pub early_timeout: Option<Duration>,
    /// The part of the known nodes that is enough then, 0 to 1.
    pub early_fraction: f64,
    /// The number of nodes that must be done at least then.
    pub early_hosts: usize,
    /// Nodes that are down count as unfinished.
    pub require_all: bool,
    /// Addresses of each name to connect to.
    pub initial_connections: usize,
    /// The cluster's own name, signed with each change.
    pub cluster: Option<Box<str>>,
}

/// What can happen.
#[derive(Debug)]
pub enum Input {
    /// Begin.
    Start,
    /// Answer to [`Effect::Resolve`].
    Resolved { name: String, result: Result<Vec<SocketAddr>, String> },
    /// Answer to [`Effect::Sign`].
    Signed { upload: usize, result: Result<SignedChange, String> },
    /// Answer to [`Effect::Connect`].
    Connected { address: SocketAddr, connection: ConnectionId, version: ProtocolVersion },
    /// Another answer to [`Effect::Connect`].
    ConnectFailed { address: SocketAddr, reason: String },
    /// A notification or a response came in.
    Message { connection: ConnectionId, message: Message },
    /// A node asked for content of an image, which can't be given because the source was changed or can't be read.
    NotServed { connection: ConnectionId, image: ImageId, reason: String },
    /// A connection is gone.
    Disconnected { connection: ConnectionId, reason: String },
    /// Somebody pressed Ctrl-C.
    Interrupted,
}

/// What should be done.
#[derive(Debug)]
pub enum Effect {
    /// Find a name's addresses.
    Resolve { name: String },
    /// Sign with every key at hand.
    Sign { upload: usize, change: Change },
    /// Connect.
    Connect { address: SocketAddr },
    /// Send. No answer.
    Send { connection: ConnectionId, message: Message },
    /// Close. No answer but [`Input::Disconnected`].
    Close { connection: ConnectionId },
    /// For the eyes of people. No answer.
    Event(Event),
    /// It is over. The last effect; questions that are open then need no answer.
    Finish(Summary),
}

/// What people may want to see.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Names were found, these addresses were chosen.
    Chosen { name: String, found: usize, addresses: Vec<SocketAddr> },
    /// A name wasn't found.
    NotResolved { name: String, reason: String },
    /// A node said who it is.
    Connected { address: SocketAddr, host: Host },
    /// An address turned out to be one of a node that is connected already, and isn't used.
    Twin { address: SocketAddr, of: SocketAddr, host: Host },
    /// Two machines say that they are the same one, but have different names: the ids are wrong.
    SameId { address: SocketAddr, of: SocketAddr, host: Host },
    /// A node can't be reached now.
    Unreachable { address: SocketAddr, host: Option<Host>, reason: String, down: bool },
    /// A node took a change.
    Accepted { address: SocketAddr, host: Host, path: VPath },
    /// A node refused a change.
    Refused { address: SocketAddr, host: Host, path: VPath, refusal: Refused },
    /// A node has another image, which `--append-weak` allows.
    Kept { address: SocketAddr, host: Host, path: VPath, kept: Kept },
    /// A node doesn't carry the directory; it named so many hosts that do.
    NotHere { address: SocketAddr, host: Host, path: VPath, elsewhere: usize },
    /// What holds at the path carries a time ahead of ours: the change is signed again with a later one.
    SignedAgain { path: VPath, stamp: Stamp },
    /// A node told how far it is.
    Progress { address: SocketAddr, progress: Progress },
    /// A node told how it ended.
    Ended { address: SocketAddr, outcome: Outcome },
    /// A node can't get what it asked for, because the source was changed or can't be read.
    NotServed { address: SocketAddr, host: Host, path: VPath, reason: String },
    /// A node told how far another one is.
    Told { address: SocketAddr, path: VPath, image: ImageId, report: NodeReport },
    /// The nodes have everything together now, and pass it on: the client may go away. Or not any more.
    Safe { safe: bool },
}

/// What `--append-weak` leaves in its place, as far as the node told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kept {
    /// The image; `None`: something that no change has put there.
    pub current: Option<ImageId>,
    /// It is still on its way.
    pub coming: bool,
}

/// Why a node refused, as far as it told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refused {
    /// The published word.
    pub word: String,
    /// The node's sentence.
    pub detail: String,
    /// Names of keys which would have been accepted.
    pub accepted_keys: Vec<String>,
    /// The image that is, or is going, there.
    pub current: Option<ImageId>,
    /// The time of the change that holds there; for `stamp_in_future` the node's clock.
    pub stamp: Option<Stamp>,
    /// The time that we signed.
    pub signed: Option<Stamp>,
}
