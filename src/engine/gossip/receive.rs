//! What comes from others: datagrams, item by item, and pages of members.

use std::net::SocketAddr;

use bytes::Bytes;
use foca::{Member, Message, State};

use super::join::Fetch;
use super::table::{Life, key};
use super::values::{OwnedPart, Taken};
use super::{Effect, Gossip};
use crate::engine::contract::Outbox;
use crate::format::gossip::swim::Packet;
use crate::format::gossip::{Envelope, Header, Item, MemberId, PageEntry, Part, PulseHead, read_datagram, read_page};
use crate::model::limits;
use crate::model::peer::NodeId;
use crate::model::time::Now;

impl Gossip {
    pub(super) fn datagram(&mut self, now: Now, from: SocketAddr, data: &[u8], outbox: &mut Outbox<Effect>) {
        let Some(opened) = self.channel.open(from, data) else {
            if let Some(from) = self.channel.stranger(now.time) {
                outbox.push(Effect::Stranger { from });
            }
            return;
        };
        let Ok((header, items)) = read_datagram(&opened.text) else {
            self.channel.dropped.malformed += 1;
            return;
        };
        if !self.channel.first_time(now.stamp, &opened, header.seconds) {
            return;
        }
        if !self.is_for_us(&header, &items, outbox) {
            self.channel.dropped.misdirected += 1;
            return;
        }
        if !self.channel.allows(header.from.node.address) {
            self.channel.dropped.unlisted += 1;
            return;
        }
        let sender = header.from;
        let known = self.table.get(&sender.node).map(|entry| entry.id.node.incarnation);
        if let Some(incarnation) = known.filter(|known| *known > sender.node.incarnation) {
            // It was restored, or the datagram is late.
            return self.say(now, sender, &Item::Later { incarnation }, outbox);
        }
        if !self.packets(now, sender, header.to, &items, outbox) {
            self.channel.dropped.malformed += 1;
            return;
        }
        for item in &items {
            self.item(now, sender, item, outbox);
        }
    }

    /// Whether this start of this node is meant. Tells when a later one is.
    fn is_for_us(&mut self, header: &Header, items: &[Item<'_>], outbox: &mut Outbox<Effect>) -> bool {
        if key(&header.from.node) == key(&self.me.node) {
            return false;
        }
        let Some(to) = header.to else {
            let announce = |packet: Packet| packet.message == Message::Announce;
            return matches!(items, [Item::Swim(packet)] if Packet::read(packet).is_ok_and(announce));
        };
        if key(&to.node) != key(&self.me.node) {
            return false;
        }
        self.seen_own(to.node.incarnation, outbox);
        to.node.incarnation == self.me.node.incarnation
    }

    /// Somebody names a start of this very node.
    fn seen_own(&mut self, incarnation: u64, outbox: &mut Outbox<Effect>) {
        if incarnation > self.restored {
            self.restored = incarnation;
            outbox.push(Effect::Restored { seen: incarnation });
        }
    }

    /// Gives the library its packet, or tells it that there was a sign of life.
    fn packets(
        &mut self,
        now: Now,
        sender: MemberId,
        to: Option<MemberId>,
        items: &[Item<'_>],
        outbox: &mut Outbox<Effect>,
    ) -> bool {
        let mut any = false;
        let mut good = true;
        for item in items {
            let Item::Swim(bytes) = item else { continue };
            let Ok(mut packet) = Packet::read(bytes) else { return false };
            any = true;
            // A renewal that is over was held for dead: who answered that by yet another one would be answered the same, and
            // two that held each other for dead would never end.
            if packet.message == Message::TurnUndead && to.is_some_and(|to| to.renewal < self.me.renewal) {
                continue;
            }
            packet.members.retain(|member| self.admits(member, outbox));
            // Its state before: what the library makes of it is told after.
            let members = packet.members.clone();
            let to = self.me;
            good &= self.swim.packet(sender, to, &packet);
            self.settle(now, outbox);
            self.table.state(&sender, packet.incarnation, State::Alive, outbox);
            for member in &members {
                self.table.state(member.id(), member.incarnation(), member.state(), outbox);
            }
        }
        let up = self.table.get(&sender.node).is_some_and(|entry| entry.life == Life::Up && entry.id == sender);
        let room = self.table.get(&sender.node).is_some() || !self.table.is_full();
        if !any && !up && room {
            self.swim.heard(sender);
            self.settle(now, outbox);
        }
        if std::mem::take(&mut self.rejoined) {
            // Whoever held this node for dead knows the new renewal first.
            self.swim.announce(sender.node.address);
            self.settle(now, outbox);
        }
        good
    }

    /// Whether what is said of a member may be taken.
    fn admits(&mut self, member: &Member<MemberId>, outbox: &mut Outbox<Effect>) -> bool {
        let node = &member.id().node;
        if key(node) == key(&self.me.node) {
            self.seen_own(node.incarnation, outbox);
            return node.incarnation <= self.me.node.incarnation;
        }
        self.channel.allows(node.address) && (self.table.get(node).is_some() || !self.table.is_full())
    }

    fn item(&mut self, now: Now, sender: MemberId, item: &Item<'_>, outbox: &mut Outbox<Effect>) {
        let up = self.table.get(&sender.node).is_some_and(|entry| entry.life == Life::Up && entry.id == sender);
        match item {
            Item::Part(part) => self.part(now, part, outbox),
            Item::Later { incarnation } => self.seen_own(*incarnation, outbox),
            Item::Ack { number } => {
                if self.reports.remove(&sender.node, *number) {
                    outbox.push(Effect::ReportAcked { from: sender.node, number: *number });
                }
            }
            Item::Report { number, body } if up => {
                let body = Bytes::copy_from_slice(body);
                outbox.push(Effect::ReportReceived { from: sender.node, number: *number, body });
            }
            Item::Pulse { values, heads } if up => self.compare(now, sender, *values, heads, outbox),
            Item::Ask if up => self.tell_values(now, sender, outbox),
            Item::Swim(_) | Item::Report { .. } | Item::Pulse { .. } | Item::Ask => {}
        }
    }

    fn compare(&mut self, now: Now, sender: MemberId, sum: u64, heads: &[PulseHead], outbox: &mut Outbox<Effect>) {
        if self.table.is_told(&sender.node) {
            for directory in self.pulses.compare(heads) {
                outbox.push(Effect::Differs { node: sender.node, directory: directory.into() });
            }
        }
        if self.table.get(&sender.node).is_some_and(|entry| entry.values.sum() != sum) {
            self.say(now, sender, &Item::Ask, outbox);
        }
    }

    /// Gives a member the values of this node, as many as may be sent at once.
    fn tell_values(&mut self, now: Now, to: MemberId, outbox: &mut Outbox<Effect>) {
        let slots = self.values.slots_in_turn();
        let parts: Vec<OwnedPart> = slots.into_iter().flat_map(|slot| self.values.parts(self.me, slot)).collect();
        let mut parts = parts.iter().peekable();
        for _ in 0..limits::VALUE_DATAGRAMS_MAX {
            let mut envelope: Envelope = self.envelope(now, Some(to));
            while parts.next_if(|part| envelope.push(&part.item())).is_some() {}
            if envelope.is_empty() {
                break;
            }
            self.send(to.node.address, envelope, outbox);
        }
    }

    /// A part of a value: kept, and passed on when it is news.
    fn part(&mut self, now: Now, part: &Part<'_>, outbox: &mut Outbox<Effect>) {
        let origin = part.origin;
        if !self.admits(&Member::alive(origin), outbox) || key(&origin.node) == key(&self.me.node) {
            return;
        }
        self.learn_of(now, origin, outbox);
        match self.table.values(&origin, outbox, |known| known.part(part)) {
            Some(Taken::Old) | None => {}
            Some(Taken::Wrong) => self.channel.dropped.malformed += 1,
            Some(taken) => {
                self.flood.add(OwnedPart::of(part));
                self.left(now, &origin.node, &taken, outbox);
            }
        }
    }

    /// Who has values is, or was, there: one that the library doesn't know is a member until it is found dead.
    fn learn_of(&mut self, now: Now, origin: MemberId, outbox: &mut Outbox<Effect>) {
        let version = |id: MemberId| (id.node.incarnation, id.renewal);
        let known = self.table.get(&origin.node).is_some_and(|entry| version(entry.id) >= version(origin));
        if !known {
            self.swim.learn(std::iter::once(Member::alive(origin)), true);
            self.settle(now, outbox);
        }
    }

    fn left(&mut self, now: Now, node: &NodeId, taken: &Taken, outbox: &mut Outbox<Effect>) {
        let up = self.table.get(node).filter(|entry| entry.life == Life::Up).map(|entry| entry.id);
        if let Some(id) = up.filter(|_| *taken == Taken::Left) {
            // The goodbye itself is passed on: the library would say that it is dead.
            self.swim.learn(std::iter::once(Member::down(id)), false);
            self.settle(now, outbox);
        }
    }

    /// A page of members from a member.
    pub(super) fn take_page(&mut self, now: Now, page: &[u8], last: bool, outbox: &mut Outbox<Effect>) {
        let Ok(entries) = read_page(page) else {
            self.channel.dropped.malformed += 1;
            return self.join.fetch_failed(now.time);
        };
        let mut admitted = Vec::new();
        for entry in &entries {
            if self.admits(&entry.member, outbox) && key(&entry.member.id().node) != key(&self.me.node) {
                admitted.push(entry);
            }
        }
        // Who has said goodbye isn't to be found dead.
        admitted.iter().filter(|entry| entry.member.state() == State::Down).for_each(|entry| {
            self.page_values(now, entry, outbox);
        });
        // Others know them already.
        self.swim.learn(admitted.iter().map(|entry| entry.member.clone()), false);
        self.settle(now, outbox);
        for entry in admitted {
            let id = *entry.member.id();
            self.table.state(&id, entry.member.incarnation(), entry.member.state(), outbox);
            self.page_values(now, entry, outbox);
        }
        match self.join.fetch {
            Fetch::Asked { .. } if last => self.join.fetched(now.time, &mut self.random),
            Fetch::Asked { node, .. } => {
                self.join.fetch = Fetch::Asked { node, until: now.time + limits::MEMBERS_FETCH_TIMEOUT };
            }
            Fetch::Due(_) => {}
        }
    }

    fn page_values(&mut self, now: Now, entry: &PageEntry, outbox: &mut Outbox<Effect>) {
        let id = entry.member.id();
        for (slot, counter, bytes) in &entry.values {
            if let Some(taken) = self.table.values(id, outbox, |known| known.value(*slot, *counter, bytes)) {
                self.left(now, &id.node, &taken, outbox);
            }
        }
    }

    /// Tells several members how the heads are, if one has changed and it is time to.
    pub(super) fn urgent_pulse(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        if self.phase == super::Phase::Running && self.pulses.take_urgent(now.time) {
            self.pulse(now, limits::URGENT_PULSES, outbox);
        }
    }
}
