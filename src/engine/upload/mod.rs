//! The client's decisions for one cluster: whom to connect to, what to submit, when it is over and how it ended.
//!
//! It follows each node on its own: accepted, refused (why), waiting (for what), done, or down. A lost connection is made
//! again, and everything unfinished submitted again: changes are idempotent. Scanning, signing, serving blocks and drawing
//! belong to others.

mod again;
mod answers;
mod follow;
mod interface;
mod peer;
mod reach;
mod safety;
mod shares;
mod summary;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

pub use self::again::signed_again;
use self::follow::Followed;
pub use self::interface::{Effect, Event, Input, Kept, Refused, Rules, Upload};
use self::peer::Peer;
pub use self::summary::{Ending, NodeResult, Summary, UploadResult};
use super::contract::{Engine, Outbox, earlier};
use crate::format::change;
use crate::format::wire::{Message, Notice, Notification};
use crate::model::change::{Change, SignedChange, Verb};
use crate::model::ids::{ChangeId, ImageId};
use crate::model::peer::ConnectionId;
use crate::model::time::{Now, Stamp, Time};

/// A cluster being supplied.
#[derive(Debug)]
pub struct Uploads {
    names: Vec<String>,
    intents: Vec<Intent>,
    rules: Rules,
    random: ChaCha8Rng,
    started: Time,
    resolving: BTreeSet<String>,
    unresolved: BTreeMap<String, String>,
    /// Addresses which were found and not chosen, in random order.
    spare: Vec<SocketAddr>,
    peers: BTreeMap<SocketAddr, Peer>,
    by_connection: BTreeMap<ConnectionId, SocketAddr>,
    /// Further addresses of nodes that are peers by another one.
    twins: BTreeSet<SocketAddr>,
    /// Nodes that were named as having a directory: all, and those not tried yet.
    redirected: BTreeSet<Redirect>,
    redirects: VecDeque<Redirect>,
    /// Who was given shares of an image, in the order of their numbers.
    shares: BTreeMap<ImageId, Vec<(SocketAddr, ConnectionId)>>,
    /// What nodes tell of each other, one for each upload.
    followed: Vec<Followed>,
    /// Nodes that were only told of and that the client tried to connect to, because it had lost others.
    stand_ins: usize,
    /// What was said last about whether the client may go away.
    safe: bool,
    early_passed: bool,
    finished: bool,
}

/// Where a directory should be found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Redirect {
    Address(SocketAddr),
    /// To be looked up.
    Name(Box<str>),
}

/// An upload and its change.
#[derive(Debug)]
struct Intent {
    upload: Upload,
    /// The time of the change that is signed, or being signed.
    stamp: Stamp,
    signed: Option<SignedChange>,
    /// All that were signed for it.
    changes: BTreeSet<ChangeId>,
    /// How often it was signed again.
    renewals: usize,
    past: Past,
}

/// What a node says that was at the path of an append before, in an append-only directory. The change has to say it too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Past {
    #[default]
    Unknown,
    /// The same image, which was cleaned: it is brought back.
    Cleaned,
    /// This image, which was removed.
    Removed(ImageId),
}

impl Intent {
    /// What is to be signed.
    fn change(&self, cluster: Option<&str>) -> Change {
        let Upload { path, image, verb, old_image, .. } = self.upload.clone();
        let (verb, image, old_image) = match (verb, self.past) {
            (Verb::Delete, _) => (verb, None, Some(image)),
            (Verb::Append, Past::Cleaned) => (verb, Some(image), Some(image)),
            (Verb::Append, Past::Removed(removed)) => (Verb::Replace, Some(image), Some(removed)),
            (Verb::Append | Verb::Replace, _) => (verb, Some(image), old_image),
        };
        Change { cluster: cluster.map(Into::into), verb, path, image, old_image, stamp: self.stamp }
    }
}

impl Uploads {
    /// A cluster reachable by `names`, to which each upload shall go.
    pub fn new(names: Vec<String>, uploads: Vec<Upload>, rules: Rules, seed: u64) -> Self {
        let intent = |upload| Intent {
            upload,
            stamp: Stamp::default(),
            signed: None,
            changes: BTreeSet::new(),
            renewals: 0,
            past: Past::default(),
        };
        Self {
            names,
            followed: uploads.iter().map(|_| Followed::default()).collect(),
            intents: uploads.into_iter().map(intent).collect(),
            rules,
            random: ChaCha8Rng::seed_from_u64(seed),
            started: Time::default(),
            resolving: BTreeSet::new(),
            unresolved: BTreeMap::new(),
            spare: Vec::new(),
            peers: BTreeMap::new(),
            by_connection: BTreeMap::new(),
            twins: BTreeSet::new(),
            redirected: BTreeSet::new(),
            redirects: VecDeque::new(),
            shares: BTreeMap::new(),
            stand_ins: 0,
            safe: false,
            early_passed: false,
            finished: false,
        }
    }

    /// How it stands now, node by node.
    pub fn status(&self) -> Summary {
        Summary::of(self)
    }

    /// Whether [`Effect::Finish`] was given.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    fn start(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        self.started = now.time;
        for upload in 0..self.intents.len() {
            self.sign(upload, now.stamp, outbox);
        }
        for name in self.names.clone() {
            self.resolve(name, outbox);
        }
    }

    fn sign(&mut self, upload: usize, stamp: Stamp, outbox: &mut Outbox<Effect>) {
        let intent = &mut self.intents[upload];
        (intent.stamp, intent.signed) = (stamp, None);
        let change = intent.change(self.rules.cluster.as_deref());
        outbox.push(Effect::Sign { upload, change });
    }

    fn signed(&mut self, now: Now, upload: usize, result: Result<SignedChange, String>, outbox: &mut Outbox<Effect>) {
        let Some(intent) = self.intents.get_mut(upload) else { return };
        match result {
            // One for an earlier time is followed by another one.
            Ok(signed) if signed.change == intent.change(self.rules.cluster.as_deref()) => {
                intent.changes.insert(change::id(&signed.change));
                intent.signed = Some(signed);
                for address in self.peers.keys().copied().collect::<Vec<_>>() {
                    self.submit(address, outbox);
                }
            }
            Ok(_) => {}
            Err(reason) => self.finish(Ending::NotSigned(reason), now, outbox),
        }
    }

    /// Ends it if there is nothing left to wait for, or no time.
    fn check_end(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        if self.finished {
            return;
        }
        let ending = Summary::of(self).ending_at(self, now.time);
        if let Some(ending) = ending {
            self.finish(ending, now, outbox);
        }
    }

    fn finish(&mut self, ending: Ending, now: Now, outbox: &mut Outbox<Effect>) {
        self.finished = true;
        let took = now.time.since(self.started);
        outbox.push(Effect::Finish(Summary { ending, took, ..Summary::of(self) }));
    }
}

impl Engine for Uploads {
    type Input = Input;
    type Effect = Effect;

    fn handle(&mut self, now: Now, input: Input, outbox: &mut Outbox<Effect>) {
        if self.finished {
            return;
        }
        // There are many of these, and none of them ends anything.
        let on_the_way = matches!(
            &input,
            Input::Message {
                message: Message::Notification(
                    Notification::Progress(_) | Notification::Cluster(Notice::Pieces { .. } | Notice::Have { .. })
                ),
                ..
            }
        );
        match input {
            Input::Start => self.start(now, outbox),
            Input::Resolved { name, result } => self.resolved(now, name, result, outbox),
            Input::Signed { upload, result } => self.signed(now, upload, result, outbox),
            Input::Connected { address, connection, version } => {
                self.connected(now, address, connection, version, outbox);
            }
            Input::ConnectFailed { address, reason } => self.lost(now, address, &reason, outbox),
            Input::Message { connection, message } => self.message(now, connection, message, outbox),
            Input::NotServed { connection, image, reason } => self.not_served(connection, image, &reason, outbox),
            Input::Disconnected { connection, reason } => {
                if let Some(address) = self.by_connection.remove(&connection) {
                    self.lost(now, address, &reason, outbox);
                }
            }
            Input::Interrupted => {
                let ending = if self.safe { Ending::Left } else { Ending::Interrupted };
                self.finish(Summary::of(self).failure().filter(|_| self.safe).unwrap_or(ending), now, outbox);
            }
        }
        if self.finished {
            return;
        }
        self.follow_redirects(now, outbox);
        self.share_out(outbox);
        self.look_at_safety(outbox);
        if !on_the_way || self.is_anything_not_served() {
            self.check_end(now, outbox);
        }
    }

    /// Changes with every input: the end, the early rule, the next attempt to connect, or when a node counts as down.
    fn deadline(&self) -> Option<(Time, &'static str)> {
        if self.finished {
            return None;
        }
        let end = Some((self.started + self.rules.deadline, "upload: the deadline"));
        let early = self.rules.early_timeout.filter(|_| !self.early_passed);
        let early = early.map(|after| (self.started + after, "upload: the early rule"));
        let peers = self.peers.values().filter_map(Peer::deadline).min_by_key(|(at, _)| *at);
        earlier(earlier(end, early), peers)
    }

    fn handle_timeout(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        if self.finished {
            return;
        }
        if self.rules.early_timeout.is_some_and(|after| self.started + after <= now.time) {
            self.early_passed = true;
        }
        self.reach_timeout(now, outbox);
        self.look_at_safety(outbox);
        self.check_end(now, outbox);
    }
}
