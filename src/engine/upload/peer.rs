//! One address of the cluster: its connection, and how each upload fares there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::{Event, Kept, Refused, follow};
use crate::format::wire::{Outcome, Progress};
use crate::model::ids::{ChangeId, ImageId};
use crate::model::limits;
use crate::model::peer::{ConnectionId, Host};
use crate::model::piece::{Has, PieceSet};
use crate::model::time::{Stamp, Time};

/// A node as the client sees it.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    pub(super) link: Link,
    /// Known since its first `Hello`.
    pub(super) host: Option<Host>,
    /// One per upload.
    pub(super) stages: Vec<Stage>,
    /// How uploads ended there before the connection was lost: it is asked again only for what it tells of others.
    pub(super) before: Vec<Option<Outcome>>,
    /// Images offered on this connection.
    pub(super) published: BTreeSet<ImageId>,
    /// What it has, as it told on this connection.
    pub(super) pieces: BTreeMap<ImageId, Has>,
    /// From the moment when it should be reached until it says `Hello`.
    silence: Option<Silence>,
    last_request: u64,
}

/// The connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    /// An attempt is under way.
    Connecting,
    /// Connected, and it hasn't said who it is.
    Greeting { connection: ConnectionId },
    /// Connected.
    Up { connection: ConnectionId },
    /// The next attempt is at this time.
    Pausing { retry: Time },
    /// There is nothing more to do here.
    Closed,
}

/// Not to be reached.
#[derive(Debug)]
struct Silence {
    since: Time,
    attempts: u32,
    reason: Option<String>,
    down: bool,
    /// Another node was connected to in its place.
    replaced: bool,
}

impl Silence {
    fn new(since: Time) -> Self {
        Self { since, attempts: 0, reason: None, down: false, replaced: false }
    }
}

/// How an upload fares at a node.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Stage {
    /// To be submitted (again).
    Unsent,
    /// Waits for the verdict on this change of that time. The outcome may come before it, but only the verdict says whether there are
    /// others to wait for.
    Asked { request: u64, change: ChangeId, stamp: Stamp, early: Option<Box<Outcome>> },
    /// Registered; waits for the outcome. Without `change` the node had the image already, by whatever change.
    Accepted { change: Option<ChangeId>, progress: Option<Progress> },
    /// The node doesn't carry the directory.
    NotHere,
    /// `--append-weak`, and another image is there.
    Kept(Kept),
    /// No.
    Refused(Refused),
    /// It can't get what it needs from here.
    NotServed { reason: String },
    /// Done or given up, as the node told.
    Ended(Outcome),
}

impl Stage {
    /// Whether an outcome is about what was submitted. That an image is there is good whichever change brought it.
    pub(super) fn takes(&self, outcome: &Outcome) -> bool {
        let good = follow::is_good(&outcome.result);
        match self {
            Self::Asked { change, .. } => good || *change == outcome.change,
            Self::Accepted { change, .. } => good || change.is_none_or(|change| change == outcome.change),
            Self::NotServed { .. } => good,
            Self::Unsent | Self::NotHere | Self::Kept(_) | Self::Refused(_) | Self::Ended(_) => false,
        }
    }

    /// Whether the node didn't take the change: then it tells nothing of others.
    pub(super) const fn is_denied(&self) -> bool {
        matches!(self, Self::NotHere | Self::Kept { .. } | Self::Refused(_))
    }

    /// Whether nothing more is to come.
    pub(super) const fn is_final(&self) -> bool {
        match self {
            Self::Unsent | Self::Asked { .. } | Self::Accepted { .. } => false,
            Self::NotHere | Self::Kept(_) | Self::Refused(_) | Self::NotServed { .. } | Self::Ended(_) => true,
        }
    }
}

impl Peer {
    /// A peer to which a connection is being made.
    pub(super) fn new(now: Time, address: SocketAddr, uploads: usize) -> Self {
        Self {
            address,
            link: Link::Connecting,
            host: None,
            stages: vec![Stage::Unsent; uploads],
            before: vec![None; uploads],
            published: BTreeSet::new(),
            pieces: BTreeMap::new(),
            silence: Some(Silence::new(now)),
            last_request: 0,
        }
    }

    /// Which pieces it is known to have. Who has all doesn't count: of how many isn't known then, and the others hear it otherwise.
    pub(super) fn known_pieces(&self, image: ImageId) -> Option<&PieceSet> {
        self.pieces.get(&image).and_then(Has::some)
    }

    pub(super) fn next_request(&mut self) -> u64 {
        self.last_request += 1;
        self.last_request
    }

    /// Its `Hello` came: who it is, and that it can be spoken to. At an address that now belongs to another machine,
    /// everything begins anew.
    pub(super) fn greeted(&mut self, connection: ConnectionId, host: Host) {
        if self.host.as_ref().is_some_and(|before| before.machine_id != host.machine_id) {
            self.stages.fill(Stage::Unsent);
            self.before.fill(None);
        }
        self.host = Some(host);
        self.link = Link::Up { connection };
        self.silence = None;
    }

    /// Whether it has been out of reach for long enough to be called down.
    pub(super) fn is_down(&self) -> bool {
        self.silence.as_ref().is_some_and(|silence| silence.down)
    }

    /// Whether it can be reached never again, however long one waits.
    pub(super) fn is_given_up(&self) -> bool {
        self.link == Link::Closed && !self.is_final()
    }

    /// Nothing more is to come from it.
    pub(super) fn is_final(&self) -> bool {
        self.stages.iter().zip(&self.before).all(|(stage, before)| stage.is_final() || before.is_some())
    }

    /// Why it can't be spoken to.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.silence.as_ref().and_then(|silence| silence.reason.as_deref())
    }

    /// The next attempt, or when it counts as down.
    pub(super) fn deadline(&self) -> Option<(Time, &'static str)> {
        let retry = match self.link {
            Link::Pausing { retry } => Some((retry, "upload: connect again")),
            Link::Connecting | Link::Greeting { .. } | Link::Up { .. } | Link::Closed => None,
        };
        let waiting = self.silence.as_ref().filter(|silence| !silence.down);
        let down = waiting.map(|silence| (silence.since + limits::DOWN_AFTER, "upload: a node counts as down"));
        super::earlier(retry, down)
    }

    /// An attempt failed, or the connection broke: what isn't final will be submitted again, and what is done, too, if
    /// `needed` for what it tells of others. Says whether that is news.
    pub(super) fn failed(&mut self, now: Time, reason: &str, needed: bool) -> bool {
        self.published.clear();
        self.pieces.clear();
        for (stage, before) in self.stages.iter_mut().zip(&mut self.before) {
            if let Stage::Ended(outcome) = stage
                && needed
                && follow::is_good(&outcome.result)
            {
                *before = Some(outcome.clone());
                *stage = Stage::Unsent;
            } else if !stage.is_final() {
                *stage = Stage::Unsent;
            }
        }
        if self.stages.iter().all(Stage::is_final) || (!needed && self.is_final()) {
            self.link = Link::Closed;
            self.silence = None;
            return false;
        }
        let silence = self.silence.get_or_insert(Silence::new(now));
        let news = silence.attempts == 0;
        let factor = 2_u32.saturating_pow(silence.attempts);
        let pause = limits::RECONNECT_PAUSE_MIN.saturating_mul(factor).min(limits::RECONNECT_PAUSE_MAX);
        silence.attempts = silence.attempts.saturating_add(1);
        silence.reason = Some(reason.to_owned());
        self.link = Link::Pausing { retry: now + pause };
        news
    }

    /// Whether another node should be connected to in its place: once, when it can't be reached, or not again.
    pub(super) fn is_to_be_replaced(&mut self) -> bool {
        let known = self.host.is_some();
        let Some(silence) = &mut self.silence else { return false };
        let now = !silence.replaced && silence.attempts > u32::from(known);
        silence.replaced |= now;
        now
    }

    /// Calls it down if it is time. Says whether that is news.
    pub(super) fn fell_silent(&mut self, now: Time) -> bool {
        let due = |silence: &&mut Silence| !silence.down && silence.since + limits::DOWN_AFTER <= now;
        let Some(silence) = self.silence.as_mut().filter(due) else { return false };
        silence.down = true;
        let seconds = limits::DOWN_AFTER.as_secs();
        let reason = match self.link {
            Link::Greeting { .. } => format!("it is connected but has not said who it is for {seconds} s"),
            Link::Connecting | Link::Up { .. } | Link::Pausing { .. } | Link::Closed => {
                format!("no answer for {seconds} s")
            }
        };
        silence.reason.get_or_insert(reason);
        true
    }

    /// It will never do.
    pub(super) fn give_up(&mut self, now: Time, reason: &str) {
        self.link = Link::Closed;
        self.silence = Some(Silence { attempts: 1, reason: Some(reason.to_owned()), down: true, ..Silence::new(now) });
    }

    /// It told how an upload ended there. Says whether that is news: that it has still what it had before is none.
    pub(super) fn end(&mut self, upload: usize, outcome: Outcome) -> bool {
        let before = self.before[upload].take();
        let news = before.is_none();
        self.stages[upload] = Stage::Ended(before.filter(|_| outcome.result == "already").unwrap_or(outcome));
        news
    }

    pub(super) fn unreachable(&self) -> Event {
        let reason = self.trouble().unwrap_or_default().to_owned();
        Event::Unreachable { address: self.address, host: self.host.clone(), reason, down: self.is_down() }
    }
}
