//! Nodes, a client and links in virtual time. Storing takes no time.

mod client;
mod traffic;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ciruela::engine::contract::{Engine, Outbox};
use ciruela::engine::fetch::{Effect, Fetches, Input};
use ciruela::model::block_set::BlockSet;
use ciruela::model::ids::ImageId;
use ciruela::model::image::Image;
use ciruela::model::peer::ConnectionId;
use ciruela::model::piece::{PieceSet, Pieces};
use ciruela::model::time::{Now, Time};

use super::links::{End, Link, Message, Port};
use super::record::Record;
use super::setup::{Setup, directory, image};
use crate::disk::power::Random;

const IMAGE: ImageId = ImageId::new([9; 32]);
const PATH: &str = "/key/image";
/// Small enough for a broken stream's other end to try again soon, long for a swarm.
const RECONNECT: Duration = Duration::from_millis(300);

struct Node {
    engine: Fetches,
    links: Vec<usize>,
    alive: bool,
    liar: bool,
    timer: Option<Duration>,
    /// Bytes of answers.
    received: u64,
}

enum Event {
    /// A machine has sent an answer.
    Sent(End),
    /// A message arrives at a side of a connection.
    Arrives(usize, usize, Message),
    Timer(usize),
    Dies(usize, bool),
    /// The ends of a connection hear that it is broken.
    Gone(usize),
    Connect(End, End),
    Sample,
}

pub(crate) struct World {
    setup: Setup,
    random: Random,
    now: Duration,
    image: Arc<Image>,
    cuts: Pieces,
    nodes: Vec<Node>,
    ports: Vec<Port>,
    links: Vec<Link>,
    /// Connections of the client, with what it was told of the pieces at the other end.
    entries: BTreeMap<usize, PieceSet>,
    /// When, in which order at the same time, and where in `events`.
    queue: BinaryHeap<Reverse<(Duration, u64, usize)>>,
    events: Vec<Option<Event>>,
    /// Places in `events` that are free.
    free: Vec<usize>,
    sequence: u64,
    holders: Vec<u32>,
    record: Record,
}

/// Runs a distribution to its end.
pub(crate) fn run(setup: &Setup) -> Record {
    let mut world = World::new(setup.clone());
    world.build();
    while let Some(Reverse((at, _, place))) = world.queue.pop() {
        world.now = at;
        let event = world.events[place].take().expect("queued");
        world.free.push(place);
        world.step(event);
        if world.over() {
            break;
        }
    }
    world.end()
}

impl World {
    fn new(setup: Setup) -> Self {
        let image = image(setup.bytes());
        let cuts = Pieces::of(&image);
        assert_eq!(u64::from(cuts.count()), setup.pieces);
        let mut ports: Vec<_> = (0..setup.nodes).map(|node| Port::new(setup.uplink(node), setup.rate)).collect();
        ports.push(Port::new(setup.client_rate, setup.client_rate));
        let mut random = Random::new(setup.seed);
        let nodes = (0..setup.nodes)
            .map(|node| Node {
                engine: Fetches::new(random.next()),
                links: Vec::new(),
                alive: true,
                liar: (setup.nodes - setup.liars..setup.nodes).contains(&node),
                timer: None,
                received: 0,
            })
            .collect();
        let record = Record {
            finished: vec![None; setup.nodes],
            dead: Vec::new(),
            bound: setup.bound(),
            bytes: setup.bytes(),
            client_sent: 0,
            doubled: 0,
            dropped: Vec::new(),
            spread: Vec::new(),
        };
        let holders = vec![0; cuts.count() as usize];
        let (queue, events, links) = (BinaryHeap::new(), Vec::new(), Vec::new());
        Self {
            setup,
            random,
            now: Duration::ZERO,
            image,
            cuts,
            nodes,
            ports,
            links,
            entries: BTreeMap::new(),
            queue,
            events,
            free: Vec::new(),
            sequence: 0,
            holders,
            record,
        }
    }

    /// Every node begins, connected to the client or to others at random.
    fn build(&mut self) {
        for node in 0..self.setup.nodes {
            let (directory, image) = (directory(), self.image.clone());
            let have = BlockSet::none(image.block_count());
            let path = PATH.parse().expect("valid");
            self.tell(node, Input::MaxDownloadRate(self.setup.download_rate));
            self.tell(node, Input::Start { path, directory, id: IMAGE, image, have });
        }
        self.connect_nodes();
        for entry in 0..self.setup.entries.min(self.setup.nodes) {
            self.connect(End::Client, End::Node(entry));
        }
        for dead in 0..self.setup.deaths {
            let part = u32::try_from(3 + self.random.below(4)).expect("small");
            let node = dead * self.setup.nodes / self.setup.deaths + 4;
            self.after(self.record.bound * part / 10, Event::Dies(node, dead % 2 == 0));
        }
        if self.setup.entry_dies {
            self.after(self.record.bound / 3, Event::Dies(0, false));
        }
        self.after(Duration::ZERO, Event::Sample);
    }

    /// Few nodes are all connected; many in rings through all of them in random orders, so that each has as many neighbours.
    fn connect_nodes(&mut self) {
        let nodes = self.setup.nodes;
        if nodes <= self.setup.neighbours {
            (0..nodes).for_each(|a| (0..a).for_each(|b| self.connect(End::Node(a), End::Node(b))));
            return;
        }
        for _ in 0..self.setup.neighbours / 2 {
            let mut ring: Vec<usize> = (0..nodes).collect();
            for last in (1..nodes).rev() {
                let other = self.below(last + 1);
                ring.swap(last, other);
            }
            for (at, a) in ring.iter().enumerate() {
                let b = ring[(at + 1) % nodes];
                if !self.connected(*a, b) {
                    self.connect(End::Node(*a), End::Node(b));
                }
            }
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.random.below(bound as u64)).expect("small")
    }

    fn connected(&self, a: usize, b: usize) -> bool {
        self.nodes[a].links.iter().any(|link| self.links[*link].ends.contains(&End::Node(b)))
    }

    fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now + delay, event);
    }

    fn at(&mut self, at: Duration, event: Event) {
        self.sequence += 1;
        let place = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() - 1
        });
        self.events[place] = Some(event);
        self.queue.push(Reverse((at, self.sequence, place)));
    }

    fn over(&self) -> bool {
        let done = |(node, state): (usize, &Node)| !state.alive || self.record.finished[node].is_some();
        self.nodes.iter().enumerate().all(done) || self.now > self.record.bound * 20
    }

    fn end(mut self) -> Record {
        self.record.sample(self.now, &self.holders);
        let received = self.nodes.iter().map(|node| node.received.saturating_sub(self.record.bytes));
        self.record.doubled = received.sum();
        self.record.client_sent = self.ports[self.setup.nodes].sent;
        self.record
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Sent(end) => {
                self.port(end).sending = false;
                self.send_next(end);
            }
            Event::Arrives(link, side, message) => {
                if self.links[link].alive {
                    self.arrived(link, side, message);
                }
            }
            Event::Timer(node) => {
                self.nodes[node].timer = None;
                let due = self.nodes[node].engine.deadline().is_some_and(|(at, _)| at.since_start() <= self.now);
                if due && self.nodes[node].alive {
                    let mut outbox = Outbox::new();
                    let now = self.clock();
                    self.nodes[node].engine.handle_timeout(now, &mut outbox);
                    let next = self.nodes[node].engine.deadline();
                    assert!(
                        next.is_none_or(|(at, _)| at.since_start() > self.now),
                        "seed {}: {next:?} stays due",
                        self.setup.seed
                    );
                    self.carry_out(node, outbox);
                }
                self.set_timer(node);
            }
            Event::Dies(node, silently) => self.die(node, silently),
            Event::Gone(link) => self.gone(link),
            Event::Connect(a, b) => {
                let alive = |end| if let End::Node(node) = end { self.nodes[node].alive } else { true };
                if alive(a) && alive(b) {
                    self.connect(a, b);
                }
            }
            Event::Sample => {
                self.record.sample(self.now, &self.holders);
                self.after(self.record.bound / 100, Event::Sample);
            }
        }
    }

    fn clock(&self) -> Now {
        Now { time: Time::new(self.now), ..Now::default() }
    }

    fn connect(&mut self, a: End, b: End) {
        let link = self.links.len();
        self.links.push(Link::new(a, b));
        for end in [a, b] {
            match end {
                End::Client => {
                    let (percents, rate) = (self.setup.client_flows, self.setup.client_rate);
                    let flows = &mut self.port(end).flows;
                    if let Some(percent) = percents.get(flows.len()) {
                        flows.insert(link, (rate * percent / 100, Duration::ZERO));
                    }
                    self.say(link, end, Message::Offer);
                }
                End::Node(node) => {
                    self.nodes[node].links.push(link);
                    let wants = a != End::Client || self.nodes[node].engine.have(IMAGE).is_some();
                    if wants {
                        let (count, have) = self.have(node);
                        self.say(link, end, Message::Pieces { count, have });
                    }
                }
            }
        }
        if a == End::Client {
            self.entries.insert(link, PieceSet::none(self.cuts.count()));
            self.give_shares();
        }
    }

    /// What a node tells of its pieces.
    fn have(&self, node: usize) -> (u32, Bytes) {
        let have = self.nodes[node].engine.have(IMAGE);
        have.map_or((0, Bytes::new()), |have| (have.len(), have.to_bytes().into()))
    }

    fn tell(&mut self, node: usize, input: Input) {
        if !self.nodes[node].alive {
            return;
        }
        let mut outbox = Outbox::new();
        let now = self.clock();
        self.nodes[node].engine.handle(now, input, &mut outbox);
        self.carry_out(node, outbox);
        self.set_timer(node);
    }

    fn set_timer(&mut self, node: usize) {
        let deadline = self.nodes[node].engine.deadline().filter(|_| self.nodes[node].alive);
        let Some((at, _)) = deadline else { return };
        let at = at.since_start().max(self.now);
        if self.nodes[node].timer.is_none_or(|timer| at < timer) {
            self.nodes[node].timer = Some(at);
            self.at(at, Event::Timer(node));
        }
    }

    fn carry_out(&mut self, node: usize, outbox: Outbox<Effect>) {
        for effect in outbox {
            match effect {
                Effect::Ask { connection, question } => {
                    let link = usize::try_from(connection.0).expect("small");
                    if self.links[link].alive {
                        self.say(link, End::Node(node), Message::Ask(question));
                    }
                }
                Effect::Store { path, run, data, .. } => {
                    let bad = if data[0] == 0 { Vec::new() } else { vec![run.first] };
                    self.tell(node, Input::Stored { path, run, result: Ok(bad) });
                }
                Effect::Announce { pieces, .. } => {
                    for piece in &pieces {
                        self.holders[*piece as usize] += 1;
                    }
                    for link in self.nodes[node].links.clone() {
                        if self.links[link].alive {
                            self.say(link, End::Node(node), Message::Have(pieces.clone()));
                        }
                    }
                }
                Effect::Finished { bytes, .. } => {
                    assert_eq!(bytes, self.record.bytes);
                    self.record.finished[node] = Some(self.now);
                }
                Effect::Dropped { connection, reason, .. } => {
                    let ends = self.links[usize::try_from(connection.0).expect("small")].ends;
                    let other = ends.into_iter().find_map(|end| match end {
                        End::Node(other) if other != node => Some(other),
                        End::Node(_) | End::Client => None,
                    });
                    self.record.dropped.push((node, other, reason));
                }
                Effect::Share { connection, index, of, .. } => {
                    let link = usize::try_from(connection.0).expect("small");
                    if self.links[link].alive {
                        self.say(link, End::Node(node), Message::Share { index, of });
                    }
                }
                Effect::TellCorrupt { .. } => {}
                effect @ (Effect::CheckIndex { .. } | Effect::Failed { .. } | Effect::Cancelled { .. }) => {
                    panic!("seed {}: {effect:?}", self.setup.seed)
                }
            }
        }
    }

    /// A node is gone; who is connected to it hears of it at once, or after a long while.
    fn die(&mut self, node: usize, silently: bool) {
        self.nodes[node].alive = false;
        self.record.dead.push(node);
        self.ports[node].queue.clear();
        for link in std::mem::take(&mut self.nodes[node].links) {
            let delay = if silently { self.record.bound } else { self.setup.delay };
            self.links[link].alive = false;
            self.after(delay, Event::Gone(link));
        }
    }

    fn gone(&mut self, link: usize) {
        self.links[link].alive = false;
        let ends = self.links[link].ends;
        for end in ends {
            if let End::Node(node) = end {
                self.nodes[node].links.retain(|other| *other != link);
                self.tell(node, Input::Gone { connection: ConnectionId(link as u64) });
            }
        }
        if ends.contains(&End::Client) {
            self.entries.remove(&link);
            self.give_shares();
        }
        self.after(RECONNECT, Event::Connect(ends[0], ends[1]));
    }
}
