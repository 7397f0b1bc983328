//! The client's decisions when it reads from a cluster: whom to ask, which image it is, and who gives which blocks.
//!
//! Nodes are asked what is visible on them; most of them decide. Index and blocks then come from all that have that image,
//! each checked against its hash; whoever gives something else is left. What is done with the content is the driver's.

mod content;
mod failure;
mod find;
mod nodes;
mod runs;
mod selection;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

pub use self::failure::{Answer, Failure};
use self::nodes::Node;
use self::runs::Runs;
pub use self::selection::{Selection, below};
use super::contract::{Engine, Outbox};
use crate::format::wire::Message;
use crate::model::ids::ImageId;
use crate::model::image::Image;
use crate::model::peer::{ConnectionId, Host, ProtocolVersion};
use crate::model::run::Run;
use crate::model::time::{Now, Time};
use crate::model::vpath::VPath;

/// What is to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// `/KEY/name`, and perhaps further the path of something in it.
    pub path: Box<str>,
    /// Only this one.
    pub image: Option<ImageId>,
    /// Whether the bytes of its files are, too.
    pub content: bool,
}

/// What a node says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Who it is.
    pub host: Option<Host>,
    /// Names of the directories which it carries.
    pub directories: BTreeSet<Box<str>>,
    /// What is visible there.
    pub visible: BTreeMap<Box<str>, ImageId>,
    /// Other nodes that are alive, and what they carry.
    pub members: Vec<(SocketAddr, BTreeSet<Box<str>>)>,
}

/// What was found.
#[derive(Debug, Clone)]
pub struct Found {
    /// The directory.
    pub path: VPath,
    /// What is visible there.
    pub id: ImageId,
    /// Its entries.
    pub image: Arc<Image>,
    /// What of it was asked for.
    pub selection: Selection,
}

/// What can happen.
#[derive(Debug)]
pub enum Input {
    /// Begin.
    Start,
    /// Answer to [`Effect::Resolve`].
    Resolved { name: String, result: Result<Vec<SocketAddr>, String> },
    /// Answer to [`Effect::Look`].
    Looked { address: SocketAddr, result: Result<Page, String> },
    /// Answer to [`Effect::Connect`].
    Connected { address: SocketAddr, connection: ConnectionId, version: ProtocolVersion },
    /// Another answer to [`Effect::Connect`].
    ConnectFailed { address: SocketAddr, reason: String },
    /// A notification or a response came in.
    Message { connection: ConnectionId, message: Message },
    /// A connection is gone.
    Disconnected { connection: ConnectionId, reason: String },
    /// Answer to [`Effect::Check`].
    Checked { result: Result<Arc<Image>, String> },
    /// Answer to [`Effect::Begin`].
    Begun { result: Result<(), String> },
    /// Answer to [`Effect::Store`].
    Stored { run: Run, result: Result<(), StoreError> },
    /// Somebody pressed Ctrl-C.
    Interrupted,
}

/// Why blocks aren't stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreError {
    /// They aren't those that were asked for.
    Wrong,
    /// They can't be written.
    Local(String),
}

/// What should be done.
#[derive(Debug)]
pub enum Effect {
    /// Find a name's addresses.
    Resolve { name: String },
    /// Get a node's page.
    Look { address: SocketAddr },
    /// Connect.
    Connect { address: SocketAddr },
    /// Send. No answer.
    Send { connection: ConnectionId, message: Message },
    /// Close. No answer but [`Input::Disconnected`].
    Close { connection: ConnectionId },
    /// Parse an index, which must be that of this image.
    Check { id: ImageId, text: Vec<u8> },
    /// Get ready for content: make what has none, such as directories.
    Begin { found: Found },
    /// Check the blocks against the image, and write them.
    Store { run: Run, data: Bytes },
    /// For the eyes of people. No answer.
    Event(Event),
    /// It is over. The last effect; questions that are open then need no answer.
    Finish(Result<Found, Failure>),
}

/// What people may want to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Nodes don't have the same; this is what is read.
    Differ { chosen: (VPath, ImageId), answers: Vec<Answer> },
    /// Content follows.
    Begins { bytes: u64 },
    /// So many more bytes are there.
    Stored { bytes: u64 },
    /// A node is left, or not asked for some time.
    Lost { node: String, reason: String },
}

/// Something that is read from a cluster.
#[derive(Debug)]
pub struct Download {
    names: Vec<String>,
    wanted: Wanted,
    random: ChaCha8Rng,
    resolving: BTreeSet<String>,
    unresolved: BTreeMap<String, String>,
    nodes: BTreeMap<SocketAddr, Node>,
    by_connection: BTreeMap<ConnectionId, SocketAddr>,
    /// Addresses that may be asked when others fail, in random order.
    spare: Vec<SocketAddr>,
    phase: Phase,
}

/// How far it is.
#[derive(Debug)]
enum Phase {
    /// Nodes are asked what they have.
    Finding,
    /// The index comes, all from one node.
    Index { path: VPath, id: ImageId, from: Option<SocketAddr>, text: Vec<u8> },
    /// The whole index is being parsed.
    Checking { path: VPath, id: ImageId, from: SocketAddr },
    /// The driver gets ready.
    Beginning { found: Found },
    /// Blocks come.
    Content { found: Found, runs: Runs },
    /// Nothing is to be done any more.
    Over,
}

impl Download {
    /// Reads from the cluster that `names` lead to. The same `seed` chooses the same nodes.
    pub fn new(names: Vec<String>, wanted: Wanted, seed: u64) -> Self {
        Self {
            names,
            wanted,
            random: ChaCha8Rng::seed_from_u64(seed),
            resolving: BTreeSet::new(),
            unresolved: BTreeMap::new(),
            nodes: BTreeMap::new(),
            by_connection: BTreeMap::new(),
            spare: Vec::new(),
            phase: Phase::Finding,
        }
    }

    fn finish(&mut self, result: Result<Found, Failure>, outbox: &mut Outbox<Effect>) {
        self.phase = Phase::Over;
        outbox.push(Effect::Finish(result));
    }

    /// What follows from what has just happened, in whatever phase.
    fn go_on(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        match &self.phase {
            Phase::Finding => self.decide(outbox),
            Phase::Index { .. } => self.ask_for_index(now, outbox),
            Phase::Content { .. } => self.ask_for_blocks(now, outbox),
            Phase::Checking { .. } | Phase::Beginning { .. } | Phase::Over => {}
        }
    }
}

impl Engine for Download {
    type Input = Input;
    type Effect = Effect;

    fn handle(&mut self, now: Now, input: Input, outbox: &mut Outbox<Effect>) {
        if matches!(self.phase, Phase::Over) {
            return;
        }
        match input {
            Input::Start => {
                for name in self.names.clone() {
                    if self.resolving.insert(name.clone()) {
                        outbox.push(Effect::Resolve { name });
                    }
                }
            }
            Input::Resolved { name, result } => self.resolved(name, result, outbox),
            Input::Looked { address, result } => self.looked(address, result, outbox),
            Input::Connected { address, connection, version } => {
                self.connected(address, connection, version, outbox);
            }
            Input::ConnectFailed { address, reason } => self.lost(now, address, reason, outbox),
            Input::Message { connection, message } => self.message(now, connection, message, outbox),
            Input::Disconnected { connection, reason } => {
                if let Some(address) = self.by_connection.remove(&connection) {
                    self.lost(now, address, reason, outbox);
                }
            }
            Input::Checked { result } => self.checked(result, outbox),
            Input::Begun { result } => self.begun(result, outbox),
            Input::Stored { run, result } => self.stored(run, result, outbox),
            Input::Interrupted => self.finish(Err(Failure::Interrupted), outbox),
        }
        self.go_on(now, outbox);
    }

    /// Changes with what is asked for, with connections, and with time.
    fn deadline(&self) -> Option<(Time, &'static str)> {
        match &self.phase {
            Phase::Finding | Phase::Checking { .. } | Phase::Beginning { .. } | Phase::Over => None,
            Phase::Index { .. } => self.nodes_deadline(),
            Phase::Content { runs, .. } => super::contract::earlier(self.nodes_deadline(), runs.deadline()),
        }
    }

    fn handle_timeout(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        if self.deadline().is_none_or(|(at, _)| now.time < at) {
            return;
        }
        self.nodes_timeout(now, outbox);
        if let Phase::Content { runs, .. } = &mut self.phase {
            runs.offer_late(now.time);
        }
        self.go_on(now, outbox);
    }
}
