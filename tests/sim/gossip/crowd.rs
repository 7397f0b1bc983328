//! A few nodes in a crowd: they know ten thousand members, all but a few of which only answer, and probe and pulse as often as a node does.
//!
//! Ten thousand whole nodes would keep a hundred million members in memory. What a node sends and receives depends on the others only
//! through what arrives, so a few whole ones show what each of ten thousand costs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use ciruela::engine::contract::{Engine, Outbox};
use ciruela::engine::gossip::{Effect, Gossip, Input};
use ciruela::format::gossip::swim::Packet;
use ciruela::format::gossip::{
    DirectoryHash, Envelope, Header, Item, MemberId, PageEntry, PageWriter, Seal, read_datagram, write_about,
};
use ciruela::model::heads::HeadsFingerprint;
use ciruela::model::peer::{ClusterKey, NodeId};
use ciruela::model::time::{Now, Stamp, Time};
use foca::{Member, Message, State};

use super::world::{DIRECTORY, address, info, machine};
use crate::disk::power::Random;

const EPOCH: u64 = 1_790_000_000;
const HEADERS: u64 = 28;

pub(super) struct Crowd {
    random: Random,
    now: Duration,
    members: Vec<MemberId>,
    by_address: BTreeMap<SocketAddr, usize>,
    /// The first ones.
    whole: Vec<Gossip>,
    seal: Seal,
    sent: u64,
    queue: BTreeMap<(Duration, u64), (SocketAddr, usize, Bytes)>,
    pub(super) bytes: u64,
    pub(super) downs: usize,
    /// Who has the head that spreads.
    has: Vec<bool>,
    /// What the others will do of themselves while it spreads.
    plans: BTreeMap<(Duration, u64), Plan>,
}

/// A member's own doing.
#[derive(Clone, Copy)]
enum Plan {
    /// It pulses; `again`: in a second once more.
    Pulse { from: usize, again: bool },
    /// It has compared its heads with those of one who has it.
    Take { member: usize },
}

/// From a pulse that differs until the heads are the same: a connection and some questions.
const COMPARE: Duration = Duration::from_millis(20);

/// The sum of the versions of a node's only value, the first one of what it says about itself.
fn values_sum() -> u64 {
    let version = [&0_u32.to_be_bytes()[..], &1_u64.to_be_bytes()].concat();
    let hash = blake2b_simd::Params::new().hash_length(8).hash(&version);
    u64::from_be_bytes(hash.as_bytes().try_into().expect("eight bytes"))
}

/// Of the directory with the head that spreads.
fn new_heads() -> HeadsFingerprint {
    let mut fingerprint = HeadsFingerprint::default();
    fingerprint.0[0] = 1;
    fingerprint
}

/// All members that have just started, as one of them tells of them.
pub(super) fn pages(members: &[MemberId]) -> Vec<Bytes> {
    let entry = |(number, id): (usize, &MemberId)| {
        let about = write_about(&info(number)).0;
        PageEntry { member: Member::new(*id, 0, State::Alive), values: vec![(0, 1, about.into())] }
    };
    let mut pages = vec![PageWriter::default()];
    for entry in members.iter().enumerate().map(entry) {
        if !pages.last_mut().is_some_and(|page| page.push(&entry)) {
            pages.push(PageWriter::default());
            assert!(pages.last_mut().expect("just made").push(&entry));
        }
    }
    pages.into_iter().map(PageWriter::finish).collect()
}

impl Crowd {
    pub(super) fn new(seed: u64, whole: usize, count: usize) -> Self {
        let member = |number| MemberId {
            node: NodeId { address: address(number), machine_id: machine(number), incarnation: 1 },
            renewal: 0,
        };
        let members: Vec<_> = (0..count).map(member).collect();
        let key = ClusterKey([7; 32]);
        let engine = |number: usize| {
            let mut session = [0; 16];
            session[..8].copy_from_slice(&(number as u64).to_be_bytes());
            Gossip::new(members[number].node, info(number), Some(&key), session, seed ^ number as u64)
        };
        let by_address = members.iter().enumerate().map(|(number, id)| (id.node.address, number)).collect();
        let whole = (0..whole).map(engine).collect();
        let random = Random::new(seed);
        let (now, seal) = (Duration::ZERO, Seal::new(&key));
        let mut crowd = Self {
            random,
            now,
            has: vec![false; members.len()],
            members,
            by_address,
            whole,
            seal,
            sent: 0,
            queue: BTreeMap::new(),
            bytes: 0,
            downs: 0,
            plans: BTreeMap::new(),
        };
        crowd.introduce();
        crowd
    }

    fn introduce(&mut self) {
        let pages = pages(&self.members);
        for number in 0..self.whole.len() {
            self.tell(number, Input::Start);
            let (directory, fingerprint) = (DIRECTORY.into(), HeadsFingerprint::default());
            self.tell(number, Input::Heads { directory, fingerprint, urgent: false });
            for page in &pages {
                self.tell(number, Input::Members { page: page.clone(), last: false });
            }
        }
    }

    pub(super) fn known(&self) -> usize {
        self.whole.iter().map(|engine| engine.members().count()).sum()
    }

    fn clock(&self) -> Now {
        let millis = u64::try_from(self.now.as_millis()).expect("short");
        Now { time: Time::new(self.now), stamp: Stamp(EPOCH * 1_000 + millis) }
    }

    fn tell(&mut self, number: usize, input: Input) {
        let mut outbox = Outbox::new();
        let now = self.clock();
        self.whole[number].handle(now, input, &mut outbox);
        self.carry_out(number, outbox);
    }

    fn carry_out(&mut self, number: usize, outbox: Outbox<Effect>) {
        for effect in outbox {
            if let Effect::Send { to, data } = effect {
                self.bytes += data.len() as u64 + HEADERS;
                let from = self.members[number].node.address;
                self.post(from, self.by_address[&to], data);
            } else if let Effect::FetchMembers { .. } = effect {
                self.tell(number, Input::MembersFailed);
            } else if let Effect::Differs { node, .. } = effect {
                self.compare(number, self.by_address[&node.address]);
            } else if let Effect::Down { .. } = effect {
                self.downs += 1;
            }
        }
    }

    fn post(&mut self, from: SocketAddr, to: usize, data: Bytes) {
        self.sent += 1;
        let delay = Duration::from_micros(500 + self.random.below(5_000));
        self.queue.insert((self.now + delay, self.sent), (from, to, data));
    }

    /// A member which isn't whole says something.
    fn say(&mut self, from: MemberId, to: MemberId, item: &Item<'_>) {
        let seconds = EPOCH + self.now.as_secs();
        let mut envelope = Envelope::new(&Header { seconds, from, to: Some(to) });
        assert!(envelope.push(item));
        let mut session = [9; 16];
        session[..8].copy_from_slice(&(self.by_address[&from.node.address] as u64).to_be_bytes());
        self.sent += 1;
        let data = self.seal.seal(&session, self.sent, envelope.finish()).expect("small");
        self.post(from.node.address, self.by_address[&to.node.address], data);
    }

    fn packet(&mut self, from: MemberId, to: MemberId, message: Message<MemberId>) {
        let packet = Packet { incarnation: 0, message, members: Vec::new() };
        self.say(from, to, &Item::Swim(&packet.write()));
    }

    /// What a member which isn't whole does with a datagram.
    fn answer(&mut self, member: usize, data: &[u8]) {
        let me = self.members[member];
        let opened = self.seal.open(data).expect("ours");
        let (header, items) = read_datagram(&opened.text).expect("ours");
        for item in items {
            if let Item::Pulse { heads, .. } = &item
                && heads.iter().any(|(_, fingerprint)| *fingerprint != self.fingerprint(member))
            {
                self.compare(member, self.by_address[&header.from.node.address]);
            }
            let Item::Swim(packet) = item else { continue };
            match Packet::read(packet).expect("ours").message {
                Message::Ping(number) => self.packet(me, header.from, Message::Ack(number)),
                Message::PingReq { target, probe_number } => {
                    self.packet(me, header.from, Message::ForwardedAck { origin: target, probe_number });
                }
                Message::IndirectPing { origin, probe_number } => {
                    self.packet(me, header.from, Message::IndirectAck { target: origin, probe_number });
                }
                Message::Ack(_)
                | Message::IndirectAck { .. }
                | Message::ForwardedAck { .. }
                | Message::Announce
                | Message::Feed
                | Message::Gossip
                | Message::Broadcast
                | Message::TurnUndead => {}
            }
        }
    }

    /// Each second as many probes and pulses as from ten thousand nodes.
    fn crowd_speaks(&mut self, number: usize) {
        let to = self.members[number];
        for _ in 0..self.members.len() {
            if self.random.below(self.members.len() as u64) == 0 {
                let from = self.stranger();
                self.packet(from, to, Message::Ping(1));
            }
            if self.random.below(self.members.len() as u64) == 0 {
                let from = self.stranger();
                self.pulse(from, to);
            }
        }
    }

    fn pulse(&mut self, from: MemberId, to: MemberId) {
        let fingerprint = self.fingerprint(self.by_address[&from.node.address]);
        let heads = vec![(DirectoryHash::of(DIRECTORY), fingerprint)];
        self.say(from, to, &Item::Pulse { values: values_sum(), heads });
    }

    fn fingerprint(&self, member: usize) -> HeadsFingerprint {
        if self.has[member] { new_heads() } else { HeadsFingerprint::default() }
    }

    /// Two members compare their heads: whoever lacks the new one has it soon.
    fn compare(&mut self, one: usize, other: usize) {
        if self.has[one] != self.has[other] {
            self.plan(COMPARE, Plan::Take { member: if self.has[one] { other } else { one } });
        }
    }

    fn plan(&mut self, delay: Duration, plan: Plan) {
        self.sent += 1;
        self.plans.insert((self.now + delay, self.sent), plan);
    }

    fn follow(&mut self, plan: Plan) {
        match plan {
            Plan::Pulse { from, again } => {
                if again {
                    self.plan(Duration::from_secs(1), plan);
                }
                let to = usize::try_from(self.random.below(self.members.len() as u64)).expect("small");
                if to < self.whole.len() {
                    self.pulse(self.members[from], self.members[to]);
                } else {
                    self.compare(from, to);
                }
            }
            Plan::Take { member } if !self.has[member] => {
                self.has[member] = true;
                if member < self.whole.len() {
                    let (directory, fingerprint) = (DIRECTORY.into(), new_heads());
                    self.tell(member, Input::Heads { directory, fingerprint, urgent: true });
                } else {
                    // As the engine does when a head of its own changes.
                    for _ in 0..3 {
                        self.plan(Duration::ZERO, Plan::Pulse { from: member, again: false });
                    }
                }
            }
            Plan::Take { .. } => {}
        }
    }

    /// A whole member gets a head: how long until all have it. The others pulse and compare as whole ones do.
    pub(super) fn spread(&mut self) -> Duration {
        for from in self.whole.len()..self.members.len() {
            let phase = Duration::from_micros(self.random.below(1_000_000));
            self.plan(phase, Plan::Pulse { from, again: true });
        }
        let begin = self.now;
        self.plan(Duration::ZERO, Plan::Take { member: 0 });
        while !self.has.iter().all(|has| *has) {
            assert!(self.now < begin + Duration::from_secs(30), "it never got everywhere");
            let end = self.now + Duration::from_millis(10);
            while self.step(end) {}
            self.now = end;
        }
        self.now.saturating_sub(begin)
    }

    fn stranger(&mut self) -> MemberId {
        let others = (self.members.len() - self.whole.len()) as u64;
        self.members[self.whole.len() + usize::try_from(self.random.below(others)).expect("small")]
    }

    pub(super) fn run_for(&mut self, seconds: u64) {
        for _ in 0..seconds {
            (0..self.whole.len()).for_each(|number| self.crowd_speaks(number));
            let end = self.now + Duration::from_secs(1);
            while self.step(end) {}
            self.now = end;
        }
    }

    /// When something arrives, or a whole member has something to do.
    fn next_other(&self) -> Option<Duration> {
        let arrival = self.queue.first_key_value().map(|((at, _), _)| *at);
        let due = self.whole.iter().filter_map(|engine| Some(engine.deadline()?.0.since_start()));
        due.chain(arrival).min()
    }

    fn step(&mut self, end: Duration) -> bool {
        if let Some(((at, number), plan)) = self.plans.first_key_value().map(|(key, plan)| (*key, *plan))
            && at <= end
            && self.next_other().is_none_or(|other| at <= other)
        {
            self.plans.remove(&(at, number));
            self.now = self.now.max(at);
            self.follow(plan);
            return true;
        }
        let arrival = self.queue.first_key_value().map(|((at, _), _)| *at);
        let deadlines =
            self.whole.iter().enumerate().filter_map(|(n, engine)| Some((engine.deadline()?.0.since_start(), n)));
        match (arrival, deadlines.min()) {
            (Some(at), deadline) if at <= end && deadline.is_none_or(|(due, _)| at <= due) => {
                self.now = self.now.max(at);
                let Some((_, (from, to, data))) = self.queue.pop_first() else { return false };
                if to < self.whole.len() {
                    self.tell(to, Input::Datagram { from, data });
                } else {
                    self.answer(to, &data);
                }
                true
            }
            (_, Some((due, number))) if due <= end => {
                self.now = self.now.max(due);
                let mut outbox = Outbox::new();
                let now = self.clock();
                self.whole[number].handle_timeout(now, &mut outbox);
                self.carry_out(number, outbox);
                true
            }
            _ => false,
        }
    }
}
