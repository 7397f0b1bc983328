//! The client's decisions for one cluster: whom to connect to, what to submit, when it is over and how it ended.
//!
//! It follows each node on its own: accepted, refused (why), waiting (for what), done, or down. A lost connection is made
//! again, and everything unfinished submitted again: changes are idempotent. Scanning, signing, serving blocks and drawing
//! belong to others.

mod peer;
mod summary;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

use self::peer::{Link, Peer, Stage};
pub use self::summary::{Ending, NodeResult, Summary, UploadResult};
use super::contract::{Engine, Outbox, earlier};
use crate::format::wire::{Message, Notification, Outcome, Progress, Request, Response, SubmitAnswer, VerdictWord};
use crate::model::address::sample;
use crate::model::change::{Change, SignedChange, Verb};
use crate::model::ids::{ImageId, MachineId};
use crate::model::limits;
use crate::model::peer::{ConnectionId, Host, ProtocolVersion};
use crate::model::time::{Now, Stamp, Time};
use crate::model::vpath::VPath;

/// One directory to be put somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// Where.
    pub path: VPath,
    /// What.
    pub image: ImageId,
    /// How.
    pub verb: Verb,
    /// Only in the place of this image.
    pub old_image: Option<ImageId>,
    /// Another image at the path is fine too (`--append-weak`).
    pub weak: bool,
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
    /// It is over. The last effect.
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
    /// A node can't be reached now.
    Unreachable { address: SocketAddr, host: Option<Host>, reason: String, down: bool },
    /// A node took a change.
    Accepted { host: Host, path: VPath },
    /// A node refused a change.
    Refused { host: Host, path: VPath, word: String, detail: String },
    /// A node doesn't carry the directory.
    NotHere { host: Host, path: VPath, elsewhere: usize },
    /// A node told how far it is.
    Progress(Progress),
    /// A node told how it ended.
    Ended(Outcome),
}

/// A cluster being supplied.
#[derive(Debug)]
pub struct Uploads {
    names: Vec<String>,
    uploads: Vec<Upload>,
    rules: Rules,
    random: ChaCha8Rng,
    started: Time,
    changes: Vec<Option<SignedChange>>,
    signed_again: Vec<usize>,
    resolving: BTreeSet<String>,
    spare: Vec<SocketAddr>,
    peers: BTreeMap<SocketAddr, Peer>,
    by_connection: BTreeMap<ConnectionId, SocketAddr>,
    unresolved: BTreeMap<String, String>,
    /// Hosts that redirects named already.
    redirected: BTreeSet<Box<str>>,
    early_passed: bool,
    finished: bool,
}

impl Uploads {
    /// A cluster reachable by `names`, to which each upload shall go.
    pub fn new(names: Vec<String>, uploads: Vec<Upload>, rules: Rules, seed: u64) -> Self {
        Self {
            changes: vec![None; uploads.len()],
            signed_again: vec![0; uploads.len()],
            names,
            uploads,
            rules,
            random: ChaCha8Rng::seed_from_u64(seed),
            started: Time::default(),
            resolving: BTreeSet::new(),
            spare: Vec::new(),
            peers: BTreeMap::new(),
            by_connection: BTreeMap::new(),
            unresolved: BTreeMap::new(),
            redirected: BTreeSet::new(),
            early_passed: false,
            finished: false,
        }
    }

    fn start(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        self.started = now.time;
        for upload in 0..self.uploads.len() {
            self.sign(upload, now.stamp, outbox);
        }
        for name in self.names.clone() {
            self.resolve(name, outbox);
        }
    }

    fn resolve(&mut self, name: String, outbox: &mut Outbox<Effect>) {
        if self.resolving.insert(name.clone()) {
            outbox.push(Effect::Resolve { name });
        }
    }

    fn sign(&mut self, upload: usize, stamp: Stamp, outbox: &mut Outbox<Effect>) {
        let Upload { path, image, verb, old_image, .. } = self.uploads[upload].clone();
        let cluster = self.rules.cluster.clone();
        let change = Change { cluster, verb, path, image: Some(image), old_image, stamp };
        outbox.push(Effect::Sign { upload, change });
    }

    fn resolved(&mut self, name: String, result: Result<Vec<SocketAddr>, String>, outbox: &mut Outbox<Effect>) {
        self.resolving.remove(&name);
        match result {
            Ok(found) => {
                let addresses = sample(&found, self.rules.initial_connections, &mut self.random);
                self.spare.extend(found.iter().filter(|address| !addresses.contains(address)));
                outbox.push(Effect::Event(Event::Chosen { name, found: found.len(), addresses: addresses.clone() }));
                for address in addresses {
                    self.add_peer(address, outbox);
                }
            }
            Err(reason) => {
                outbox.push(Effect::Event(Event::NotResolved { name: name.clone(), reason: reason.clone() }));
                self.unresolved.insert(name, reason);
            }
        }
    }

    fn add_peer(&mut self, address: SocketAddr, outbox: &mut Outbox<Effect>) {
        if self.peers.len() >= limits::HOSTS_MAX || self.peers.contains_key(&address) {
            return;
        }
        self.peers.insert(address, Peer::new(address, self.uploads.len()));
        outbox.push(Effect::Connect { address });
    }

    /// Submits whatever the peer has not yet been asked, once it said who it is and the change is signed.
    fn submit(&mut self, address: SocketAddr, outbox: &mut Outbox<Effect>) {
        let Some(peer) = self.peers.get_mut(&address) else { return };
        let (Link::Up { connection }, Some(_)) = (&peer.link, &peer.host) else { return };
        let connection = *connection;
        for upload in 0..self.uploads.len() {
            let Some(signed) = self.changes[upload].clone() else { continue };
            if !matches!(peer.stages[upload], Stage::Unsent) {
                continue;
            }
            let publish = Message::Notification(Notification::PublishImage { id: self.uploads[upload].image });
            outbox.push(Effect::Send { connection, message: publish });
            let id = peer.next_request();
            peer.stages[upload] = Stage::Asked { request: id };
            let message = Message::Request { id, request: Request::SubmitChange(signed) };
            outbox.push(Effect::Send { connection, message });
        }
    }

    fn connected(
        &mut self,
        address: SocketAddr,
        connection: ConnectionId,
        version: ProtocolVersion,
        outbox: &mut Outbox<Effect>,
    ) {
        let Some(peer) = self.peers.get_mut(&address) else { return };
        if version == ProtocolVersion::V1 {
            let reason = "the daemon there is too old for this client (it speaks ciruela.v1 only)";
            peer.give_up(reason);
            outbox.push(Effect::Close { connection });
            outbox.push(Effect::Event(peer.unreachable(reason)));
            return;
        }
        peer.link = Link::Up { connection };
        self.by_connection.insert(connection, address);
    }

    fn hello(&mut self, connection: ConnectionId, host: Host, outbox: &mut Outbox<Effect>) {
        let Some(address) = self.by_connection.get(&connection).copied() else { return };
        let twin = self.peers.values().any(|peer| {
            peer.address != address && peer.host.as_ref().is_some_and(|other| other.machine_id == host.machine_id)
        });
        let Some(peer) = self.peers.get_mut(&address) else { return };
        if twin {
            // Another address of a host that is a peer already.
            self.peers.remove(&address);
            self.by_connection.remove(&connection);
            outbox.push(Effect::Close { connection });
            return;
        }
        peer.reached(host.clone());
        outbox.push(Effect::Event(Event::Connected { address, host }));
        self.submit(address, outbox);
    }

    fn lost(&mut self, now: Now, address: SocketAddr, reason: &str, outbox: &mut Outbox<Effect>) {
        let Some(peer) = self.peers.get_mut(&address) else { return };
        let was_down = peer.is_down();
        peer.failed(now.time, reason);
        if peer.is_down() != was_down || !matches!(peer.link, Link::Down { attempts: 2.., .. }) {
            outbox.push(Effect::Event(peer.unreachable(reason)));
        }
        if peer.host.is_none() {
            // Never reached: another address of the cluster may do better.
            if let Some(spare) = self.spare.pop() {
                self.add_peer(spare, outbox);
            }
        }
    }

    fn answered(
        &mut self,
        now: Now,
        connection: ConnectionId,
        id: u64,
        response: Response,
        outbox: &mut Outbox<Effect>,
    ) {
        let Some(address) = self.by_connection.get(&connection).copied() else { return };
        let Some(peer) = self.peers.get_mut(&address) else { return };
        let asked = peer.stages.iter().position(|stage| matches!(stage, Stage::Asked { request } if *request == id));
        let (Some(upload), Some(host)) = (asked, peer.host.clone()) else { return };
        match response {
            Response::SubmitChange(answer) => self.judged(now, address, &host, upload, answer, outbox),
            Response::Error(text) => {
                peer.stages[upload] =
                    Stage::Refused { word: "error".to_owned(), detail: text.clone(), keys: Vec::new(), current: None };
                let path = self.uploads[upload].path.clone();
                outbox.push(Effect::Event(Event::Refused { host, path, word: "error".to_owned(), detail: text }));
            }
            Response::AppendDir(_)
            | Response::ReplaceDir(_)
            | Response::GetIndex { .. }
            | Response::GetIndexAt { .. }
            | Response::GetBlock { .. }
            | Response::GetBlocks { .. }
            | Response::GetIndexPart { .. } => {}
        }
    }

    fn judged(
        &mut self,
        now: Now,
        address: SocketAddr,
        host: &Host,
        upload: usize,
        answer: SubmitAnswer,
        outbox: &mut Outbox<Effect>,
    ) {
        let (Some(peer), Upload { path, weak, .. }) = (self.peers.get_mut(&address), self.uploads[upload].clone())
        else {
            return;
        };
        let word = answer.reject_reason.unwrap_or_default();
        let detail = answer.detail.unwrap_or_default();
        match answer.verdict {
            VerdictWord::Accept | VerdictWord::Have => {
                peer.stages[upload] = Stage::Accepted { progress: None };
                outbox.push(Effect::Event(Event::Accepted { host: host.clone(), path }));
            }
            VerdictWord::Refused if word == "no_config" => {
                peer.stages[upload] = Stage::NotHere;
                outbox.push(Effect::Event(Event::NotHere { host: host.clone(), path, elsewhere: answer.hosts.len() }));
                for name in answer.hosts.into_values().take(self.rules.initial_connections) {
                    if self.redirected.insert(name.clone()) {
                        self.resolve(name.into(), outbox);
                    }
                }
            }
            VerdictWord::Refused if weak && word == "already_exists" => {
                peer.stages[upload] = Stage::Kept { current: answer.current };
            }
            VerdictWord::Superseded
                if answer.stamp.is_some_and(|head| head > now.stamp) && self.signed_again[upload] < 2 =>
            {
                // What holds there was signed by a clock ahead of ours: this change is the later one all the same.
                self.signed_again[upload] += 1;
                self.changes[upload] = None;
                peer.stages[upload] = Stage::Unsent;
                let stamp = Stamp(answer.stamp.map_or(now.stamp.0, |head| head.0.saturating_add(1)));
                self.sign(upload, stamp, outbox);
            }
            VerdictWord::Superseded | VerdictWord::Refused => {
                let word = if word.is_empty() { "refused".to_owned() } else { word };
                let (keys, current) = (answer.accepted_keys, answer.current);
                peer.stages[upload] = Stage::Refused { word: word.clone(), detail: detail.clone(), keys, current };
                outbox.push(Effect::Event(Event::Refused { host: host.clone(), path, word, detail }));
            }
        }
    }

    fn notified(&mut self, connection: ConnectionId, notification: Notification, outbox: &mut Outbox<Effect>) {
        match notification {
            Notification::Hello(hello) => self.hello(connection, hello.host, outbox),
            Notification::Progress(progress) => {
                if let Some(Stage::Accepted { progress: last }) =
                    self.stage_of(progress.host.machine_id, &progress.path, progress.image)
                {
                    *last = Some(progress.clone());
                    outbox.push(Effect::Event(Event::Progress(progress)));
                }
            }
            Notification::Outcome(outcome) => {
                let Some(image) = outcome.image else { return };
                let stage = self.stage_of(outcome.host.machine_id, &outcome.path, image);
                if let Some(stage @ (Stage::Asked { .. } | Stage::Accepted { .. })) = stage {
                    *stage = Stage::Ended(outcome.clone());
                    outbox.push(Effect::Event(Event::Ended(outcome)));
                }
            }
            Notification::PublishImage { .. } | Notification::ReceivedImage(_) | Notification::AbortedImage { .. } => {}
        }
    }

    fn stage_of(&mut self, machine: MachineId, path: &VPath, image: ImageId) -> Option<&mut Stage> {
        let upload = self.uploads.iter().position(|upload| upload.path == *path && upload.image == image)?;
        let peer =
            self.peers.values_mut().find(|peer| peer.host.as_ref().is_some_and(|host| host.machine_id == machine))?;
        peer.stages.get_mut(upload)
    }

    /// Ends it if there is nothing left to wait for, or no time.
    fn check_end(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        if self.finished {
            return;
        }
        let summary = Summary::of(self, now.time);
        if let Some(ending) = summary.ending_at(self, now.time) {
            self.finished = true;
            outbox.push(Effect::Finish(Summary { ending, ..summary }));
        }
    }

    fn finish(&mut self, now: Now, ending: Ending, outbox: &mut Outbox<Effect>) {
        if !self.finished {
            self.finished = true;
            outbox.push(Effect::Finish(Summary { ending, ..Summary::of(self, now.time) }));
        }
    }
}

impl Engine for Uploads {
    type Input = Input;
    type Effect = Effect;

    fn handle(&mut self, now: Now, input: Input, outbox: &mut Outbox<Effect>) {
        if self.finished {
            return;
        }
        match input {
            Input::Start => self.start(now, outbox),
            Input::Resolved { name, result } => self.resolved(name, result, outbox),
            Input::Signed { upload, result: Ok(signed) } => {
                self.changes[upload] = Some(signed);
                for address in self.peers.keys().copied().collect::<Vec<_>>() {
                    self.submit(address, outbox);
                }
            }
            Input::Signed { result: Err(reason), .. } => self.finish(now, Ending::NotSigned(reason), outbox),
            Input::Connected { address, connection, version } => self.connected(address, connection, version, outbox),
            Input::ConnectFailed { address, reason } => self.lost(now, address, &reason, outbox),
            Input::Message { connection, message: Message::Notification(notification) } => {
                self.notified(connection, notification, outbox);
            }
            Input::Message { connection, message: Message::Response { id, response } } => {
                self.answered(now, connection, id, response, outbox);
            }
            Input::Message { .. } => {}
            Input::Disconnected { connection, reason } => {
                if let Some(address) = self.by_connection.remove(&connection) {
                    self.lost(now, address, &reason, outbox);
                }
            }
            Input::Interrupted => self.finish(now, Ending::Interrupted, outbox),
        }
        self.check_end(now, outbox);
    }

    /// Changes with every input: the deadline, the early rule, or the next attempt to connect.
    fn deadline(&self) -> Option<(Time, &'static str)> {
        if self.finished {
            return None;
        }
        let end = Some((self.started + self.rules.deadline, "upload: the deadline"));
        let early = self.rules.early_timeout.filter(|_| !self.early_passed);
        let early = early.map(|after| (self.started + after, "upload: the early rule"));
        let retry = self.peers.values().filter_map(Peer::retry_at).min().map(|at| (at, "upload: connect again"));
        earlier(earlier(end, early), retry)
    }

    fn handle_timeout(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        if self.finished {
            return;
        }
        if self.rules.early_timeout.is_some_and(|after| self.started + after <= now.time) {
            self.early_passed = true;
        }
        for peer in self.peers.values_mut() {
            if peer.retry_at().is_some_and(|at| at <= now.time) {
                peer.link =
                    Link::Connecting { attempts: peer.attempts(), since: peer.failing_since(), down: peer.is_down() };
                outbox.push(Effect::Connect { address: peer.address });
            }
        }
        self.check_end(now, outbox);
    }
}
