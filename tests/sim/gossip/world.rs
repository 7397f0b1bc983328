//! Nodes which gossip, the network between them, and a most simple model of what their effects lead to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use blake2b_simd::State as Hash;
use bytes::Bytes;
use ciruela::engine::contract::{Engine, Outbox};
use ciruela::engine::gossip::{Effect, Gossip, Input};
use ciruela::format::gossip::MemberId;
use ciruela::model::heads::HeadsFingerprint;
use ciruela::model::ids::MachineId;
use ciruela::model::peer::{ClusterKey, NodeId, NodeInfo};
use ciruela::model::time::{Now, Stamp, Time};

use super::crowd::pages;
use crate::cluster::network::Conditions;
use crate::disk::power::Random;

/// The wall clock when the simulation begins.
const EPOCH_MS: u64 = 1_790_000_000_000;
/// Bytes of IP's and UDP's headers.
const HEADERS: u64 = 28;
/// Datagrams that wait for a process that is stopped.
const SOCKET_DATAGRAMS: usize = 256;
/// The directory that every node carries.
pub(super) const DIRECTORY: &str = "images";

pub(super) struct Node {
    pub(super) engine: Option<Gossip>,
    pub(super) id: NodeId,
    pub(super) key: Option<ClusterKey>,
    /// By how much its wall clock is ahead.
    pub(super) clock_ahead_ms: u64,
    /// Nodes in different groups can't reach each other.
    pub(super) group: u8,
    pub(super) stopped: bool,
    waiting: VecDeque<(SocketAddr, Bytes)>,
    due: Option<Duration>,
    /// A number that stands for all heads of the directory: the higher one wins.
    pub(super) head: u64,
    /// Everything but datagrams, with when it was.
    pub(super) told: Vec<(Duration, Effect)>,
    pub(super) bytes: u64,
    pub(super) datagrams: u64,
    pub(super) fetches: u64,
}

pub(super) struct World {
    pub(super) seed: u64,
    pub(super) random: Random,
    pub(super) now: Duration,
    pub(super) conditions: Conditions,
    pub(super) nodes: Vec<Node>,
    pub(super) peers: Vec<SocketAddr>,
    by_address: BTreeMap<SocketAddr, usize>,
    queue: BTreeMap<(Duration, u64), Happening>,
    sequence: u64,
    deadlines: BTreeSet<(Duration, usize)>,
    trace: Hash,
    /// Datagrams on the wire, for whoever records them.
    pub(super) recorded: Option<Vec<(SocketAddr, SocketAddr, Bytes)>>,
}

enum Happening {
    Arrives {
        from: SocketAddr,
        to: usize,
        data: Bytes,
    },
    Told {
        node: usize,
        start: u64,
        input: Input,
    },
    /// Two nodes have compared their heads: the better one is at both.
    Synced {
        a: usize,
        b: usize,
    },
}

pub(super) fn info(number: usize) -> NodeInfo {
    NodeInfo { hostname: format!("node{number}").into(), version: "1.0".into(), directories: vec![DIRECTORY.into()] }
}

pub(super) fn address(number: usize) -> SocketAddr {
    let [.., a, b, c] = u32::try_from(number).expect("small").to_be_bytes();
    SocketAddr::from(([10, a, b, c], 24_783))
}

pub(super) fn machine(number: usize) -> MachineId {
    let mut id = [1; 16];
    id[..8].copy_from_slice(&(number as u64).to_be_bytes());
    MachineId::new(id)
}

impl World {
    /// `count` nodes that have not started; the first three are everybody's peers.
    pub(super) fn new(seed: u64, conditions: Conditions, count: usize) -> Self {
        let mut world = Self {
            seed,
            random: Random::new(seed ^ 0x60551),
            now: Duration::ZERO,
            conditions,
            nodes: Vec::new(),
            peers: (0..count.min(3)).map(address).collect(),
            by_address: BTreeMap::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            deadlines: BTreeSet::new(),
            trace: Hash::new(),
            recorded: None,
        };
        for number in 0..count {
            world.add(NodeId { address: address(number), machine_id: machine(number), incarnation: 1 });
        }
        world
    }

    /// One more node.
    pub(super) fn add(&mut self, id: NodeId) -> usize {
        self.by_address.insert(id.address, self.nodes.len());
        self.nodes.push(Node {
            engine: None,
            id,
            key: Some(ClusterKey([7; 32])),
            clock_ahead_ms: 0,
            group: 0,
            stopped: false,
            waiting: VecDeque::new(),
            due: None,
            head: 1,
            told: Vec::new(),
            bytes: 0,
            datagrams: 0,
            fetches: 0,
        });
        self.nodes.len() - 1
    }

    pub(super) fn clock(&self, node: usize) -> Now {
        let millis = u64::try_from(self.now.as_millis()).expect("short");
        Now { time: Time::new(self.now), stamp: Stamp(EPOCH_MS + millis + self.nodes[node].clock_ahead_ms) }
    }

    /// Starts a node, as the process that it is from now on.
    pub(super) fn start(&mut self, number: usize) {
        let (mut session, seed) = ([0; 16], self.random.next());
        session[..8].copy_from_slice(&self.random.next().to_be_bytes());
        let node = &mut self.nodes[number];
        let engine = Gossip::new(node.id, info(number), node.key.as_ref(), session, seed);
        (node.engine, node.stopped) = (Some(engine), false);
        node.waiting.clear();
        let peers = self.peers.clone();
        self.tell(number, Input::Peers(peers));
        self.set_head(number, self.nodes[number].head, false);
        self.tell(number, Input::Start);
    }

    pub(super) fn start_all(&mut self) {
        (0..self.nodes.len()).for_each(|number| self.start(number));
    }

    /// Tells all of all, as if they had known each other for long.
    pub(super) fn introduce(&mut self) {
        let members: Vec<_> = self.nodes.iter().map(|node| MemberId { node: node.id, renewal: 0 }).collect();
        let pages = pages(&members);
        for number in 0..self.nodes.len() {
            for page in &pages {
                self.tell(number, Input::Members { page: page.clone(), last: false });
            }
        }
    }

    /// The process is gone, without a word.
    pub(super) fn kill(&mut self, number: usize) {
        self.nodes[number].engine = None;
        self.plan(number);
    }

    /// It starts again with the next incarnation.
    pub(super) fn restart(&mut self, number: usize) {
        self.nodes[number].id.incarnation += 1;
        self.start(number);
    }

    /// Stops the process, or lets it go on.
    pub(super) fn stop(&mut self, number: usize, stopped: bool) {
        self.nodes[number].stopped = stopped;
        self.plan(number);
        if !stopped {
            // What was due comes first: the worse order.
            self.time_out(number);
            for (from, data) in std::mem::take(&mut self.nodes[number].waiting) {
                self.tell(number, Input::Datagram { from, data });
            }
        }
    }

    pub(super) fn set_head(&mut self, number: usize, head: u64, urgent: bool) {
        self.nodes[number].head = head;
        let mut fingerprint = HeadsFingerprint::default();
        fingerprint.0[..8].copy_from_slice(&head.to_be_bytes());
        self.tell(number, Input::Heads { directory: DIRECTORY.into(), fingerprint, urgent });
    }

    pub(super) fn engine(&self, number: usize) -> &Gossip {
        self.nodes[number].engine.as_ref().expect("it runs")
    }

    pub(super) fn running(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|number| self.nodes[*number].engine.is_some()).collect()
    }

    /// Whether each running node knows exactly the other running ones of its group.
    pub(super) fn agree(&self) -> bool {
        let ids = |of: u8| {
            let group = self.running().into_iter().filter(move |number| self.nodes[*number].group == of);
            group.map(|number| self.nodes[number].id).collect::<BTreeSet<_>>()
        };
        let groups: BTreeMap<_, _> = self.nodes.iter().map(|node| (node.group, ids(node.group))).collect();
        self.running().into_iter().all(|number| {
            let known: BTreeSet<_> = self.engine(number).members().map(|(node, _)| *node).collect();
            let group = &groups[&self.nodes[number].group];
            known.len() + 1 == group.len() && known.is_subset(group)
        })
    }

    /// How many of the pairs of running nodes know each other, for messages.
    pub(super) fn knowledge(&self) -> String {
        let known: Vec<_> = self.running().iter().map(|number| self.engine(*number).members().count()).collect();
        format!("seed {} at {:?}: of {} nodes known {known:?}", self.seed, self.now, self.running().len())
    }

    pub(super) fn told(&self, number: usize, what: impl Fn(&Effect) -> bool) -> usize {
        self.nodes[number].told.iter().filter(|(_, effect)| what(effect)).count()
    }

    /// Runs until `until` says so or for `most`; gives how long it took, and fails with a message if it took longer.
    pub(super) fn run_until(&mut self, most: Duration, until: impl Fn(&Self) -> bool) -> Duration {
        let start = self.now;
        while !until(self) {
            assert!(self.now < start + most, "not within {most:?}; {}", self.knowledge());
            self.run_for(Duration::from_millis(100));
        }
        self.now.saturating_sub(start)
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let arrival = self.queue.first_key_value().map(|((at, _), _)| *at).filter(|at| *at <= end);
            let deadline = self.deadlines.first().copied().filter(|(at, _)| *at <= end);
            match (arrival, deadline) {
                (None, None) => break,
                (arrival, Some((at, number))) if arrival.is_none_or(|arrival| at < arrival) => {
                    self.now = self.now.max(at);
                    self.time_out(number);
                }
                _ => self.step(),
            }
        }
        self.now = end;
    }

    fn step(&mut self) {
        let Some(((at, _), happening)) = self.queue.pop_first() else { return };
        self.now = self.now.max(at);
        match happening {
            Happening::Arrives { from, to, data } => {
                let node = &mut self.nodes[to];
                if !node.stopped {
                    self.tell(to, Input::Datagram { from, data });
                } else if node.waiting.len() < SOCKET_DATAGRAMS {
                    node.waiting.push_back((from, data));
                }
            }
            Happening::Told { node, start, input } => {
                if self.nodes[node].id.incarnation == start {
                    self.tell(node, input);
                }
            }
            Happening::Synced { a, b } => {
                let head = self.nodes[a].head.max(self.nodes[b].head);
                for number in [a, b] {
                    if self.nodes[number].head != head && self.reaches(a, b) {
                        self.set_head(number, head, true);
                    }
                }
            }
        }
    }

    pub(super) fn tell(&mut self, number: usize, input: Input) {
        let now = self.clock(number);
        let mut outbox = Outbox::new();
        let Some(engine) = &mut self.nodes[number].engine else { return };
        engine.handle(now, input, &mut outbox);
        self.carry_out(number, outbox);
    }

    fn time_out(&mut self, number: usize) {
        let (now, seed) = (self.clock(number), self.seed);
        let mut outbox = Outbox::new();
        let Some(engine) = &mut self.nodes[number].engine else { return };
        if engine.deadline().is_some_and(|(due, _)| due > now.time) {
            engine.handle_timeout(now, &mut outbox);
            assert!(outbox.is_empty(), "seed {seed}: something is done before it is due");
        } else {
            engine.handle_timeout(now, &mut outbox);
        }
        let next = engine.deadline();
        assert!(next.is_none_or(|(due, _)| due > now.time), "seed {seed}: {next:?} stays due");
        self.carry_out(number, outbox);
    }

    fn plan(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        if let Some(due) = node.due.take() {
            self.deadlines.remove(&(due, number));
        }
        let deadline = node.engine.as_ref().filter(|_| !node.stopped).and_then(Engine::deadline);
        if let Some((due, _)) = deadline {
            node.due = Some(due.since_start());
            self.deadlines.insert((due.since_start(), number));
        }
    }

    fn after(&mut self, delay: Duration, happening: Happening) {
        self.sequence += 1;
        self.queue.insert((self.now + delay, self.sequence), happening);
    }

    fn reaches(&self, a: usize, b: usize) -> bool {
        let (a, b) = (&self.nodes[a], &self.nodes[b]);
        a.group == b.group && a.engine.is_some() && b.engine.is_some() && !a.stopped && !b.stopped
    }

    fn carry_out(&mut self, number: usize, outbox: Outbox<Effect>) {
        for effect in outbox {
            if let Effect::Send { to, data } = &effect {
                self.send(number, *to, data);
            } else {
                self.trace.update(format!("{:?} {number} {effect:?}\n", self.now).as_bytes());
                self.follow(number, &effect);
                self.nodes[number].told.push((self.now, effect));
            }
        }
        self.plan(number);
    }

    fn send(&mut self, number: usize, to: SocketAddr, data: &Bytes) {
        assert!(data.len() <= 1_400, "{} bytes", data.len());
        let node = &mut self.nodes[number];
        (node.bytes, node.datagrams) = (node.bytes + data.len() as u64 + HEADERS, node.datagrams + 1);
        let (from, group) = (node.id.address, node.group);
        if let Some(recorded) = &mut self.recorded {
            recorded.push((from, to, data.clone()));
        }
        let Some(to) = self.by_address.get(&to).copied().filter(|to| self.nodes[*to].group == group) else { return };
        for at in self.conditions.send_datagram(self.now, &mut self.random) {
            self.after(at.saturating_sub(self.now), Happening::Arrives { from, to, data: data.clone() });
        }
    }

    /// What the rest of the daemon would do.
    fn follow(&mut self, number: usize, effect: &Effect) {
        let start = self.nodes[number].id.incarnation;
        match effect {
            Effect::ReportReceived { from, number: report, .. } => {
                self.tell(number, Input::AckReport { to: *from, number: *report });
            }
            Effect::FetchMembers { node } => {
                self.nodes[number].fetches += 1;
                let other = self.by_address.get(&node.address).copied();
                let reached = other.filter(|other| self.reaches(number, *other));
                let Some(other) = reached else {
                    let input = Input::MembersFailed;
                    return self.after(Duration::from_secs(1), Happening::Told { node: number, start, input });
                };
                let mut cursor = Some(0);
                while let Some(from) = cursor {
                    let (page, next) = self.engine(other).members_page(from);
                    let input = Input::Members { page, last: next.is_none() };
                    self.after(Duration::from_millis(5), Happening::Told { node: number, start, input });
                    cursor = next;
                }
            }
            Effect::Restored { seen } => {
                let input = Input::Incarnation(seen + 1);
                self.nodes[number].id.incarnation = seen + 1;
                self.after(Duration::from_millis(10), Happening::Told { node: number, start: seen + 1, input });
            }
            Effect::Differs { node, .. } => {
                if let Some(other) = self.by_address.get(&node.address).copied().filter(|b| self.reaches(number, *b)) {
                    // A connection and some questions.
                    self.after(4 * self.conditions.delay, Happening::Synced { a: number, b: other });
                }
            }
            Effect::Send { .. }
            | Effect::Up { .. }
            | Effect::Down { .. }
            | Effect::Suspect { .. }
            | Effect::Watched { .. }
            | Effect::ReportAcked { .. }
            | Effect::Twin { .. }
            | Effect::Stranger { .. }
            | Effect::Alone { .. } => {}
        }
    }

    pub(super) fn trace(&self) -> String {
        self.trace.clone().finalize().to_hex().to_string()
    }
}
