//! Nodes, their connections and pulses, and what happens when.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use ciruela::engine::catch_up::{Effect, Input, SessionId};
use ciruela::engine::contract::{Engine, Outbox};
use ciruela::format::wire::{self, Message, NodeRequest, NodeResponse, ProposalVerdict, Request, Response};
use ciruela::model::change::SignedChange;
use ciruela::model::heads::HeadsFingerprint;
use ciruela::model::limits;
use ciruela::model::peer::NodeId;
use ciruela::model::time::{Now, Stamp, Time};
use ciruela::model::vpath::VPath;

use super::node::{DIRECTORIES, Node};
use crate::cluster::network::{Conditions, Fate, Lane};
use crate::disk::power::Random;

const STEPS_MAX: u64 = 2_000_000;
const PULSE_INTERVAL: Duration = Duration::from_secs(1);
/// The nodes' clocks stand here when the simulation begins.
pub(super) const START: Stamp = Stamp(1_800_000_000_000);

pub(super) struct World {
    pub(super) seed: u64,
    pub(super) nodes: Vec<Node>,
    /// The winner of all that was ever written anywhere.
    pub(super) expected: BTreeMap<VPath, SignedChange>,
    pub(super) random: Random,
    conditions: Conditions,
    now: Duration,
    events: BTreeMap<(Duration, u64), Event>,
    sequence: u64,
    lanes: BTreeMap<(usize, usize), Lane>,
    /// When each node's disk has written what it was given.
    disks: Vec<Duration>,
    /// Messages on streams, and their bytes.
    pub(super) messages: u64,
    pub(super) bytes: u64,
    pub(super) broken: u64,
    /// Most nodes that had a session open with another one at the same time.
    pub(super) at_once: usize,
}

enum Event {
    Pulse { node: usize },
    Heard { node: usize, from: NodeId, fingerprints: Vec<HeadsFingerprint> },
    Asked { opener: usize, node: usize, start: u64, session: SessionId, frame: Bytes },
    Answered { node: usize, start: u64, session: SessionId, frame: Option<Bytes> },
    Written { node: usize, start: u64, changes: Vec<SignedChange>, then: Then },
    Submit { node: usize, signed: SignedChange },
    Off { node: usize, empty: bool, until: Duration },
    On { node: usize, empty: bool },
}

/// What waits for a write.
enum Then {
    Nothing,
    Decided { session: SessionId, verdicts: Vec<ProposalVerdict> },
    Answer { opener: usize, start: u64, session: SessionId, verdicts: Vec<ProposalVerdict> },
}

impl World {
    pub(super) fn new(seed: u64, conditions: Conditions, nodes: Vec<Node>) -> Self {
        let mut world = Self {
            seed,
            disks: vec![Duration::ZERO; nodes.len()],
            nodes,
            expected: BTreeMap::new(),
            random: Random::new(seed ^ 0xcafe),
            conditions,
            now: Duration::ZERO,
            events: BTreeMap::new(),
            sequence: 0,
            lanes: BTreeMap::new(),
            messages: 0,
            bytes: 0,
            broken: 0,
            at_once: 0,
        };
        for node in 0..world.nodes.len() {
            let first = Duration::from_millis(world.random.below(1_000));
            world.at(first, Event::Pulse { node });
        }
        world
    }

    fn at(&mut self, time: Duration, event: Event) {
        self.sequence += 1;
        self.events.insert((time, self.sequence), event);
    }

    pub(super) fn submit(&mut self, at: Duration, node: usize, signed: SignedChange) {
        self.at(at, Event::Submit { node, signed });
    }

    /// The node is off from `at` until `until`, and comes back with its disk, or with an empty one.
    pub(super) fn off(&mut self, at: Duration, node: usize, until: Duration, empty: bool) {
        self.at(at, Event::Off { node, empty, until });
    }

    fn clock(&self) -> Now {
        let milliseconds = u64::try_from(self.now.as_millis()).expect("short");
        Now { time: Time::new(self.now), stamp: Stamp(START.0 + milliseconds) }
    }

    /// Goes on until then.
    pub(super) fn run_until(&mut self, end: Duration) {
        let mut steps = 0;
        while self.step(end) {
            steps += 1;
            assert!(steps < STEPS_MAX, "seed {}: it never ends", self.seed);
        }
        self.now = end;
    }

    /// Goes on until all that are up have the same heads, and says when.
    pub(super) fn run_until_equal(&mut self, within: Duration) -> Duration {
        let end = self.now + within;
        while !self.is_equal() {
            assert!(
                self.step(end),
                "seed {}: after {within:?} the nodes still differ: {}",
                self.seed,
                self.differences()
            );
        }
        self.now
    }

    fn is_equal(&self) -> bool {
        self.nodes.iter().filter(|node| node.up).all(|node| node.durable == self.expected)
    }

    fn differences(&self) -> String {
        let of = |node: &Node| {
            let wrong = self.expected.iter().filter(|(path, signed)| node.durable.get(*path) != Some(signed));
            format!("{} up={}: {:?}", node.id.address, node.up, wrong.map(|(path, _)| path).collect::<Vec<_>>())
        };
        self.nodes.iter().map(of).collect::<Vec<_>>().join("; ")
    }

    /// Does what comes next; `false`: nothing before the end.
    fn step(&mut self, end: Duration) -> bool {
        let due = |node: &Node| node.catch_up.deadline().filter(|_| node.up).map(|(at, _)| at.since_start());
        let timeout = (0..self.nodes.len()).filter_map(|n| due(&self.nodes[n]).map(|at| (at, n))).min();
        let event = self.events.keys().next().copied();
        let first = timeout.map(|(at, _)| at).into_iter().chain(event.map(|(at, _)| at)).min();
        let Some(first) = first.filter(|first| *first <= end) else { return false };
        self.now = self.now.max(first);
        if let Some((_, node)) = timeout.filter(|(at, _)| *at == first) {
            let mut outbox = Outbox::new();
            let now = self.clock();
            self.nodes[node].catch_up.handle_timeout(now, &mut outbox);
            let still = due(&self.nodes[node]);
            assert!(still.is_none_or(|at| at > self.now), "seed {}: the deadline stays", self.seed);
            self.carry_out(node, outbox);
        } else if let Some(event) = event.and_then(|key| self.events.remove(&key)) {
            self.happen(event);
        }
        true
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Pulse { node } => self.pulse(node),
            Event::Heard { node, from, fingerprints } => self.heard(node, from, &fingerprints),
            Event::Asked { opener, node, start, session, frame } => self.asked(opener, node, start, session, &frame),
            Event::Answered { node, start, session, frame } => self.answered(node, start, session, frame),
            Event::Written { node, start, changes, then } => self.written(node, start, changes, then),
            Event::Submit { node, signed } => {
                let now = self.clock();
                let up = self.nodes[node].up;
                if let Some(accepted) = up.then(|| self.nodes[node].submit(now, &signed)).flatten() {
                    self.write(node, vec![accepted], Then::Nothing);
                }
            }
            Event::Off { node, empty, until } => {
                self.nodes[node].up = false;
                self.at(until, Event::On { node, empty });
            }
            Event::On { node, empty } => {
                let now = self.clock();
                self.nodes[node].start(now, empty);
            }
        }
    }

    fn pulse(&mut self, node: usize) {
        self.at(self.now + PULSE_INTERVAL, Event::Pulse { node });
        let count = self.nodes.len();
        if !self.nodes[node].up || count < 2 {
            return;
        }
        let others = count as u64 - 1;
        let to = (node + 1 + usize::try_from(self.random.below(others)).expect("small")) % count;
        let from = self.nodes[node].id;
        let fingerprints: Vec<_> = DIRECTORIES.iter().map(|name| self.nodes[node].catch_up.fingerprint(name)).collect();
        for at in self.conditions.send_datagram(self.now, &mut self.random) {
            self.at(at, Event::Heard { node: to, from, fingerprints: fingerprints.clone() });
        }
    }

    fn heard(&mut self, node: usize, from: NodeId, fingerprints: &[HeadsFingerprint]) {
        for (name, theirs) in DIRECTORIES.into_iter().zip(fingerprints) {
            if self.nodes[node].up && self.nodes[node].catch_up.fingerprint(name) != *theirs {
                self.tell(node, Input::Differs { node: from, directory: name.into() });
            }
        }
    }

    pub(super) fn tell(&mut self, node: usize, input: Input) {
        let now = self.clock();
        let effects = self.nodes[node].tell(now, input);
        self.carry_out(node, effects);
    }

    fn carry_out(&mut self, node: usize, effects: Outbox<Effect>) {
        for effect in effects {
            match effect {
                Effect::Ask { session, node: other, request } => self.ask(node, other, session, request),
                Effect::Propose { session, node: other, heads } => {
                    let changes = heads.iter().filter_map(|(path, _)| self.nodes[node].get(path)).cloned().collect();
                    self.ask(node, other, session, NodeRequest::Propose { changes });
                }
                Effect::Decide { session, changes, .. } => {
                    let (verdicts, accepted) = self.decide(node, &changes);
                    self.write(node, accepted, Then::Decided { session, verdicts });
                }
                Effect::Broken { .. } => self.broken += 1,
                Effect::Done { .. } | Effect::Release { .. } => {}
            }
        }
        self.at_once = self.at_once.max(self.nodes.iter().filter(|node| node.catch_up.open().count() > 0).count());
        let open = self.nodes[node].catch_up.open().count();
        assert!(open <= limits::CATCH_UP_SESSIONS_MAX.min(DIRECTORIES.len()), "seed {}", self.seed);
    }

    fn decide(&mut self, node: usize, changes: &[SignedChange]) -> (Vec<ProposalVerdict>, Vec<SignedChange>) {
        let now = self.clock();
        let decided = changes.iter().map(|signed| self.nodes[node].decide(now, signed));
        let (verdicts, accepted): (Vec<_>, Vec<_>) = decided.unzip();
        (verdicts, accepted.into_iter().flatten().collect())
    }

    fn write(&mut self, node: usize, changes: Vec<SignedChange>, then: Then) {
        let takes = Duration::from_millis(if changes.is_empty() { 0 } else { 1 + self.random.below(20) });
        let done = self.disks[node].max(self.now) + takes;
        self.disks[node] = done;
        let start = self.nodes[node].id.incarnation;
        self.at(done, Event::Written { node, start, changes, then });
    }

    fn is_running(&self, node: usize, start: u64) -> bool {
        self.nodes[node].up && self.nodes[node].id.incarnation == start
    }

    fn written(&mut self, node: usize, start: u64, changes: Vec<SignedChange>, then: Then) {
        if !self.is_running(node, start) {
            return;
        }
        for signed in &changes {
            let path = signed.change.path.clone();
            let wins = self.expected.get(&path).is_none_or(|old| self.nodes[node].prefers(signed, old));
            if wins {
                self.expected.insert(path, signed.clone());
            }
        }
        let now = self.clock();
        let effects = self.nodes[node].written(now, changes);
        self.carry_out(node, effects);
        match then {
            Then::Nothing => {}
            Then::Decided { session, verdicts } => self.tell(node, Input::Decided { session, verdicts }),
            Then::Answer { opener, start, session, verdicts } => {
                self.answer(node, opener, start, session, NodeResponse::Propose { verdicts });
            }
        }
    }

    fn ask(&mut self, opener: usize, other: NodeId, session: SessionId, request: NodeRequest) {
        let found = self.nodes.iter().position(|node| node.id.address == other.address).expect("a node");
        let start = self.nodes[opener].id.incarnation;
        let message = Message::Request { id: session.0, request: Request::Node(request) };
        match self.send(opener, found, &message) {
            Ok((at, frame)) => self.at(at, Event::Asked { opener, node: found, start, session, frame }),
            Err(at) => self.at(at, Event::Answered { node: opener, start, session, frame: None }),
        }
    }

    /// When the message arrives, or when both know that the stream broke.
    fn send(&mut self, from: usize, to: usize, message: &Message) -> Result<(Duration, Bytes), Duration> {
        let frame = Bytes::from(wire::encode(message).expect("sendable"));
        assert!(frame.len() <= limits::MESSAGE_BYTES_MAX, "seed {}: {} bytes", self.seed, frame.len());
        self.messages += 1;
        self.bytes += frame.len() as u64;
        let lane = self.lanes.entry((from, to)).or_default();
        match self.conditions.send(self.now, lane, frame.len(), &mut self.random) {
            Fate::Arrives(at) => Ok((at, frame)),
            Fate::Breaks(at) => Err(at),
        }
    }

    fn asked(&mut self, opener: usize, node: usize, start: u64, session: SessionId, frame: &Bytes) {
        if !self.nodes[node].up {
            // Half of the time the opener hears nothing at all.
            if self.random.below(2) == 0 {
                self.at(self.now, Event::Answered { node: opener, start, session, frame: None });
            }
            return;
        }
        let Ok(Message::Request { request: Request::Node(request), .. }) = wire::decode(frame) else {
            panic!("seed {}: a request that can't be read", self.seed)
        };
        let response = match request {
            NodeRequest::CompareHeads { directory, ranges } => {
                NodeResponse::CompareHeads { answers: self.nodes[node].catch_up.answer(&directory, &ranges) }
            }
            NodeRequest::GetHeads { paths } => {
                let changes = paths.iter().filter_map(|path| self.nodes[node].durable.get(path)).cloned().collect();
                NodeResponse::GetHeads { changes }
            }
            NodeRequest::Propose { changes } => {
                let (verdicts, accepted) = self.decide(node, &changes);
                return self.write(node, accepted, Then::Answer { opener, start, session, verdicts });
            }
            NodeRequest::Hello { .. } | NodeRequest::GetMembers { .. } => panic!("not of catch-up"),
        };
        self.answer(node, opener, start, session, response);
    }

    fn answer(&mut self, node: usize, opener: usize, start: u64, session: SessionId, response: NodeResponse) {
        let message = Message::Response { id: session.0, response: Response::Node(response) };
        let (at, frame) = match self.send(node, opener, &message) {
            Ok((at, frame)) => (at, Some(frame)),
            Err(at) => (at, None),
        };
        self.at(at, Event::Answered { node: opener, start, session, frame });
    }

    fn answered(&mut self, node: usize, start: u64, session: SessionId, frame: Option<Bytes>) {
        if !self.is_running(node, start) {
            return;
        }
        let answer = match frame.map(|frame| wire::decode(&frame)) {
            None => Err("the connection broke".to_owned()),
            Some(Ok(Message::Response { response: Response::Node(response), .. })) => Ok(response),
            Some(other) => panic!("seed {}: an answer that can't be read: {other:?}", self.seed),
        };
        self.tell(node, Input::Answered { session, answer });
    }
}
