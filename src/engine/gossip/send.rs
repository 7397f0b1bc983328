//! What goes to others, and what the SWIM library makes of what came: datagrams, pulses, reports, goodbyes.

use std::net::SocketAddr;

use foca::{OwnedNotification, State};

use super::join::Fetch;
use super::pulse::below;
use super::swim::Event;
use super::table::key;
use super::{Effect, Gossip, Phase};
use crate::engine::contract::Outbox;
use crate::format::gossip::{Envelope, Header, Item, MemberId};
use crate::model::limits;
use crate::model::time::Now;

impl Gossip {
    pub(super) fn envelope(&self, now: Now, to: Option<MemberId>) -> Envelope {
        Envelope::new(&Header { seconds: now.stamp.0 / 1_000, from: self.me, to })
    }

    pub(super) fn send(&mut self, to: SocketAddr, envelope: Envelope, outbox: &mut Outbox<Effect>) {
        if let Some(data) = self.channel.seal(to, envelope.finish()) {
            outbox.push(Effect::Send { to, data });
        }
    }

    /// Sends one item to a member, and fills the datagram up with what is to be passed on.
    pub(super) fn say(&mut self, now: Now, to: MemberId, item: &Item<'_>, outbox: &mut Outbox<Effect>) {
        let mut envelope = self.envelope(now, Some(to));
        envelope.push(item);
        self.flood.fill(&mut envelope, self.swim.transmissions());
        self.send(to.node.address, envelope, outbox);
    }

    /// Does what the library wants.
    pub(super) fn settle(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        for event in self.swim.events(now.time) {
            match event {
                Event::Send { to, announce: true, packet } => {
                    let mut envelope = self.envelope(now, None);
                    envelope.push(&Item::Swim(&packet));
                    self.send(to.node.address, envelope, outbox);
                }
                Event::Send { to, announce: false, packet } => self.say(now, to, &Item::Swim(&packet), outbox),
                Event::Suspect { member, incarnation } => {
                    self.table.state(&member, incarnation, State::Suspect, outbox);
                }
                Event::News(news) => self.news(now, &news, outbox),
            }
        }
        let work = self.phase == Phase::Running
            && self.table.up_count() > 0
            && (!self.flood.is_empty() || self.swim.has_news());
        let due = || self.flood_last.map_or(now.time, |last| (last + limits::FLOOD_INTERVAL).max(now.time));
        self.flood_next = work.then(|| self.flood_next.unwrap_or_else(due));
    }

    fn news(&mut self, now: Now, news: &OwnedNotification<MemberId>, outbox: &mut Outbox<Effect>) {
        match news {
            OwnedNotification::MemberUp(id) => {
                if self.table.member_up(now.time, *id, outbox) {
                    self.ring.insert(key(&id.node), &mut self.random);
                }
            }
            OwnedNotification::MemberDown(id) => {
                self.table.member_down(now.time, *id, outbox);
                self.reports.forget(&id.node);
            }
            OwnedNotification::Rename(old, new) => {
                self.table.member_renamed(now.time, *old, *new, outbox);
                if old.node != new.node {
                    self.reports.forget(&old.node);
                }
            }
            OwnedNotification::Active => self.join.active(now.time),
            OwnedNotification::Idle => self.join.next = now.time + limits::ANNOUNCE_PAUSE_MIN,
            OwnedNotification::Rejoin(me) => (self.me, self.rejoined) = (*me, true),
            OwnedNotification::Defunct => {}
        }
    }

    pub(super) fn report(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        for (node, reports) in self.reports.take_due(now.time) {
            let Some(to) = self.table.get(&node).filter(|entry| entry.id.node == node).map(|entry| entry.id) else {
                continue;
            };
            let mut envelope = self.envelope(now, Some(to));
            for (number, body) in reports {
                let item = Item::Report { number, body: &body };
                if !envelope.push(&item) {
                    let full = std::mem::replace(&mut envelope, self.envelope(now, Some(to)));
                    self.send(node.address, full, outbox);
                    envelope.push(&item);
                }
            }
            self.send(node.address, envelope, outbox);
        }
    }

    pub(super) fn pulse(&mut self, now: Now, members: usize, outbox: &mut Outbox<Effect>) {
        let keys = self.ring.several(members, &self.table, &mut self.random);
        if keys.is_empty() {
            return;
        }
        let item = Item::Pulse { values: self.values.sum(), heads: self.pulses.heads() };
        for key in keys {
            if let Some(to) = self.table.by_key(&key).map(|entry| entry.id) {
                self.say(now, to, &item, outbox);
            }
        }
    }

    pub(super) fn ask_silent(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        let mut silent: Vec<_> = self.table.silent(now.time).map(|entry| entry.id).collect();
        for _ in 0..limits::ASKED_AT_ONCE.min(silent.len()) {
            let to = silent.swap_remove(below(silent.len(), &mut self.random));
            self.say(now, to, &Item::Ask, outbox);
        }
    }

    /// Asks a member for all members, or gives up on the one that was asked.
    pub(super) fn fetch(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        if let Fetch::Asked { .. } = self.join.fetch {
            return self.join.fetch_failed(now.time);
        }
        let Some(key) = self.ring.next(&self.table, &mut self.random) else { return };
        if let Some(node) = self.table.by_key(&key).map(|entry| entry.id.node) {
            self.join.fetch = Fetch::Asked { node, until: now.time + limits::MEMBERS_FETCH_TIMEOUT };
            outbox.push(Effect::FetchMembers { node });
        }
    }

    pub(super) fn leave(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        if self.phase == Phase::Running {
            // Not by way of the library, which would say that it is dead.
            let slot = self.values.leave();
            let parts = self.values.parts(self.me, slot);
            for key in self.ring.several(limits::LEAVE_DATAGRAMS, &self.table, &mut self.random) {
                let Some(to) = self.table.by_key(&key).map(|entry| entry.id) else { continue };
                let mut envelope = self.envelope(now, Some(to));
                for part in &parts {
                    envelope.push(&part.item());
                }
                self.send(to.node.address, envelope, outbox);
            }
        }
        self.phase = Phase::Left;
    }
}
