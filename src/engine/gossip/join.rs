//! Finding members: whom to call, and when to ask whom for all members.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;

use super::pulse::below;
use super::table::Table;
use crate::model::limits;
use crate::model::peer::NodeId;
use crate::model::time::Time;

/// Peers, and what is under way with them.
pub(super) struct Join {
    peers: Vec<SocketAddr>,
    /// When to call the next ones.
    pub(super) next: Time,
    /// When to say that nobody answers; `None`: somebody did, or it was said.
    alone: Option<Time>,
    pause: Duration,
    pub(super) fetch: Fetch,
    fetch_pause: Duration,
}

/// Asking a member for all members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fetch {
    /// Not before that.
    Due(Time),
    /// This one was asked; until then it may answer.
    Asked { node: NodeId, until: Time },
}

impl Join {
    pub(super) fn new() -> Self {
        Self {
            peers: Vec::new(),
            next: Time::default(),
            alone: None,
            pause: limits::ANNOUNCE_PAUSE_MIN,
            fetch: Fetch::Due(Time::default()),
            fetch_pause: limits::MEMBERS_FETCH_PAUSE_MIN,
        }
    }

    /// The peers as they were looked up now. New ones are called soon.
    pub(super) fn set_peers(&mut self, now: Time, peers: Vec<SocketAddr>) {
        let known: BTreeSet<_> = self.peers.iter().collect();
        if peers.iter().any(|peer| !known.contains(peer)) {
            self.alone = Some(now + limits::ALONE_TOLD_AFTER);
            self.next = self.next.min(now);
            self.pause = limits::ANNOUNCE_PAUSE_MIN;
        }
        self.peers = peers;
    }

    /// How many peers there are, if it is time to say that none of them is there.
    pub(super) fn is_alone(&mut self, now: Time, me: &NodeId, up: usize) -> Option<usize> {
        if up > 0 {
            self.alone = None;
        }
        self.alone.take_if(|due| *due <= now)?;
        Some(self.peers.iter().filter(|peer| **peer != me.address).count()).filter(|peers| *peers > 0)
    }

    /// Whom to call now: peers which aren't up, members that are down. In a large cluster each node calls more seldom,
    /// so that few who are gone aren't called by all.
    pub(super) fn call(
        &mut self,
        now: Time,
        me: SocketAddr,
        table: &Table,
        random: &mut ChaCha8Rng,
    ) -> Vec<SocketAddr> {
        let up: BTreeSet<_> = table.up_ids().map(|id| id.node.address).collect();
        let here = |address: &SocketAddr| *address != me && !up.contains(address);
        let dead = table.dead().map(|(entry, _)| entry.id.node.address);
        let targets: BTreeSet<_> = self.peers.iter().copied().chain(dead).filter(here).collect();
        let mut targets: Vec<_> = targets.into_iter().collect();
        let alone = up.is_empty();
        self.pause = if alone { (self.pause * 2).min(limits::ANNOUNCE_PAUSE_MAX) } else { limits::ANNOUNCE_PAUSE_MAX };
        // Not all at the same moments.
        let jitter = self.pause.mul_f64(0.5 + below(1_000, random) as f64 / 1_000.0);
        self.next = now + jitter;
        let shares = limits::ANNOUNCED_AT_ONCE * targets.len();
        let share = (shares + below(up.len() + 1, random)) / (up.len() + 1);
        let count = if alone { limits::ANNOUNCED_AT_ONCE } else { share.min(limits::ANNOUNCED_AT_ONCE) };
        let mut chosen = Vec::new();
        while chosen.len() < count && !targets.is_empty() {
            chosen.push(targets.swap_remove(below(targets.len(), random)));
        }
        chosen
    }

    /// The first members are known, or all are again.
    pub(super) fn active(&mut self, now: Time) {
        if let Fetch::Due(due) = &mut self.fetch {
            *due = (*due).min(now + limits::MEMBERS_FETCH_PAUSE_MIN);
        }
    }

    /// The member that was asked has given all that it had.
    pub(super) fn fetched(&mut self, now: Time, random: &mut ChaCha8Rng) {
        self.fetch_pause = limits::MEMBERS_FETCH_PAUSE_MIN;
        let jitter = limits::MEMBERS_FETCH_INTERVAL.mul_f64(0.5 + below(1_000, random) as f64 / 1_000.0);
        self.fetch = Fetch::Due(now + jitter);
    }

    /// It hasn't.
    pub(super) fn fetch_failed(&mut self, now: Time) {
        self.fetch = Fetch::Due(now + self.fetch_pause);
        self.fetch_pause = (self.fetch_pause * 2).min(limits::MEMBERS_FETCH_INTERVAL);
    }

    pub(super) fn fetch_deadline(&self) -> Time {
        match self.fetch {
            Fetch::Due(due) => due,
            Fetch::Asked { until, .. } => until,
        }
    }
}
