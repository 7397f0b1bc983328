//! The SWIM library behind our contract: its packets, timers and notifications as values.

use std::collections::BTreeMap;
use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use bytes::Bytes;
use foca::{AccumulatingRuntime, Config, Foca, Identity, Member, Message, NoCustomBroadcast, OwnedNotification, Timer};
use rand_chacha::ChaCha8Rng;

use super::table::{Key, key};
use crate::format::gossip::MemberId;
use crate::format::gossip::swim::{Packet, SwimCodec, from_library};
use crate::model::ids::MachineId;
use crate::model::limits;
use crate::model::peer::NodeId;
use crate::model::time::Time;

/// The member list and its protocol.
pub(super) struct Swim {
    library: Foca<MemberId, SwimCodec, ChaCha8Rng, NoCustomBroadcast>,
    runtime: AccumulatingRuntime<MemberId>,
    timers: BTreeMap<(Time, u64), Timer<MemberId>>,
    sequence: u64,
    /// For which size of cluster it is configured, as a power of two.
    doublings: u32,
}

/// What the library wants or tells.
pub(super) enum Event {
    /// A packet to be sent.
    Send { to: MemberId, announce: bool, packet: Bytes },
    /// A member that didn't answer.
    Suspect { member: MemberId, incarnation: u16 },
    /// News.
    News(OwnedNotification<MemberId>),
}

impl Identity for MemberId {
    type Addr = Key;

    fn renew(&self) -> Option<Self> {
        Some(Self { node: self.node, renewal: self.renewal.checked_add(1)? })
    }

    fn addr(&self) -> Key {
        key(&self.node)
    }

    fn win_addr_conflict(&self, other: &Self) -> bool {
        (self.node.incarnation, self.renewal) > (other.node.incarnation, other.renewal)
    }
}

impl Swim {
    pub(super) fn new(me: MemberId, random: ChaCha8Rng) -> Self {
        Self {
            library: Foca::new(me, config(0), random, SwimCodec),
            runtime: AccumulatingRuntime::new(),
            timers: BTreeMap::new(),
            sequence: 0,
            doublings: 0,
        }
    }

    /// A packet has arrived. `false`: it makes no sense.
    pub(super) fn packet(&mut self, from: MemberId, to: MemberId, packet: &Packet) -> bool {
        self.library.handle_data(&packet.for_library(from, to), &mut self.runtime).is_ok()
    }

    /// A sign of life without a packet: one that is held for dead is told so.
    pub(super) fn heard(&mut self, from: MemberId) {
        let packet = Packet { incarnation: 0, message: Message::Gossip, members: Vec::new() };
        self.packet(from, *self.library.identity(), &packet);
    }

    /// Members as somebody else knows them. Errors are those of encoding, which has none.
    pub(super) fn learn(&mut self, members: impl Iterator<Item = Member<MemberId>>, pass_on: bool) {
        let _ = self.library.apply_many(members, pass_on, &mut self.runtime);
    }

    /// Calls whoever listens at an address.
    pub(super) fn announce(&mut self, address: std::net::SocketAddr) {
        let nobody = NodeId { address, machine_id: MachineId::new([0; 16]), incarnation: 0 };
        let _ = self.library.announce(MemberId { node: nobody, renewal: 0 }, &mut self.runtime);
    }

    /// Tells three members what is new.
    pub(super) fn gossip(&mut self) {
        let _ = self.library.gossip(&mut self.runtime);
    }

    /// Whether there is something new to tell.
    pub(super) fn has_news(&self) -> bool {
        self.library.updates_backlog() > 0 && self.library.num_members() > 0
    }

    /// This node is another start of itself from now on.
    pub(super) fn become_start(&mut self, me: MemberId) {
        let _ = self.library.change_identity(me, &mut self.runtime);
        self.learn(std::iter::empty(), false);
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.timers.first_key_value().map(|((due, _), _)| *due)
    }

    /// Does what is due. Late timers come in the order in which they were due.
    pub(super) fn time_out(&mut self, now: Time) {
        while let Some(entry) = self.timers.first_entry()
            && entry.key().0 <= now
        {
            let timer = entry.remove();
            // Only timers of a state that is over can fail, and the library says so for whoever debugs it.
            let _ = self.library.handle_timer(timer, &mut self.runtime);
        }
    }

    /// What has come of it all.
    pub(super) fn events(&mut self, now: Time) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some((after, timer)) = self.runtime.to_schedule() {
            if let Timer::ChangeSuspectToDown { member_id, incarnation, .. } = &timer {
                events.push(Event::Suspect { member: *member_id, incarnation: *incarnation });
            }
            self.sequence += 1;
            self.timers.insert((now + after, self.sequence), timer);
        }
        while let Some(news) = self.runtime.to_notify() {
            events.push(Event::News(news));
        }
        while let Some((to, bytes)) = self.runtime.to_send() {
            if let Some(packet) = from_library(&bytes) {
                let announce = *to.node.machine_id.as_bytes() == [0; 16];
                events.push(Event::Send { to, announce, packet: bytes.slice_ref(packet) });
            }
        }
        self.fit();
        events
    }

    /// How often news is passed on by one node.
    pub(super) fn transmissions(&self) -> u8 {
        limits::TRANSMISSIONS_MIN.saturating_add(u8::try_from(self.doublings).unwrap_or(u8::MAX))
    }

    fn fit(&mut self) {
        let doublings = usize::BITS - self.library.num_members().leading_zeros();
        if doublings != self.doublings {
            self.doublings = doublings;
            // Nothing in it that mustn't change.
            let _ = self.library.set_config(config(doublings));
        }
    }
}

/// For clusters of up to 2^`doublings` members: news needs more hops, and so does whoever refutes being dead.
fn config(doublings: u32) -> Config {
    let transmissions = limits::TRANSMISSIONS_MIN.saturating_add(u8::try_from(doublings).unwrap_or(u8::MAX));
    Config {
        probe_period: limits::PROBE_PERIOD,
        probe_rtt: limits::PROBE_ANSWER_TIMEOUT,
        num_indirect_probes: NonZeroUsize::MIN.saturating_add(limits::GOSSIP_FANOUT - 1),
        max_transmissions: NonZeroU8::new(transmissions).unwrap_or(NonZeroU8::MIN),
        suspect_to_down_after: suspicion(doublings),
        remove_down_after: Some(limits::DOWN_REMEMBERED),
        max_packet_size: NonZeroUsize::MIN.saturating_add(limits::SWIM_BYTES_MAX - 1),
        notify_down_members: true,
        // All three are ours: they go to peers, too, and carry values.
        periodic_announce: None,
        periodic_announce_to_down_members: None,
        periodic_gossip: None,
    }
}

fn suspicion(doublings: u32) -> Duration {
    limits::SUSPICION_MIN.max(limits::SUSPICION_PER_DOUBLING * doublings)
}
