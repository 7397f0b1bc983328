//! The download engine, told by hand what a network would tell it.
#![expect(clippy::wildcard_enum_match_arm, reason = "whatever else comes fails the test")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Download, Effect, Event, Failure, Found, Input, Page, Selection, StoreError, Wanted};
use crate::engine::contract::{Engine, Outbox};
use crate::format::index;
use crate::format::wire::{Message, Request, Response};
use crate::model::hash_kind::HashKind;
use crate::model::ids::{BlockHash, ImageId, MachineId};
use crate::model::image::{Image, ImageBuilder};
use crate::model::limits;
use crate::model::peer::{ConnectionId, Host, ProtocolVersion};
use crate::model::time::{Now, Stamp, Time};

/// How a node behaves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Nature {
    #[default]
    Honest,
    /// Its page can't be had.
    Dead,
    /// It has a page, and no connection can be made.
    Closed,
    /// It gives wrong blocks.
    Liar,
    /// It gives a wrong index.
    Forger,
    /// It answers no question for blocks.
    Silent,
    /// It can't give this block.
    Lacks(u64),
    /// It closes the connection at the first question for blocks.
    Breaks,
}

/// The engine among nodes 1, 2, 3 ... which answer at once.
struct World {
    engine: Download,
    image: Arc<Image>,
    index: Vec<u8>,
    id: ImageId,
    natures: BTreeMap<u8, Nature>,
    pages: BTreeMap<u8, Page>,
    time: Duration,
    by_connection: BTreeMap<ConnectionId, u8>,
    connected: u64,
    /// Who came with each block that was stored; who was asked for blocks.
    stored: BTreeMap<u64, u8>,
    asked: BTreeSet<u8>,
    /// Blocks that came from each liar.
    last_from: BTreeMap<u64, u8>,
    /// Answers on their way.
    answers: VecDeque<Input>,
    events: Vec<Event>,
    end: Option<Result<Found, Failure>>,
}

fn address(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n], 24_783))
}

fn number(address: SocketAddr) -> u8 {
    match address.ip() {
        std::net::IpAddr::V4(ip) => ip.octets()[3],
        std::net::IpAddr::V6(_) => 0,
    }
}

/// `a`, `sub/f` with 100 blocks, `sub/g` with one.
fn image() -> Image {
    let hashes = |seed: u8, count: usize| vec![BlockHash::new([seed; 32]); count];
    let mut builder = ImageBuilder::new(HashKind::default());
    builder.directory("").expect("root");
    builder.file("a", false, 3, &hashes(1, 1)).expect("file");
    builder.symlink("link", "a").expect("link");
    builder.directory("sub").expect("directory");
    builder.file("f", false, 100 * limits::BLOCK_BYTES as u64, &hashes(2, 100)).expect("file");
    builder.file("g", true, 5, &hashes(3, 1)).expect("file");
    builder.finish().expect("complete")
}

impl World {
    fn new(natures: &[Nature], path: &str) -> Self {
        Self::with(natures, Wanted { path: path.into(), image: None, content: true })
    }

    fn with(natures: &[Nature], wanted: Wanted) -> Self {
        let image = Arc::new(image());
        let (id, index) = index::emit(&image);
        let page = |n: u8| Page {
            host: Some(Host { machine_id: MachineId::new([n; 16]), hostname: format!("node{n}").into() }),
            directories: ["k".into()].into(),
            visible: [("/k/x".into(), id)].into(),
            members: Vec::new(),
        };
        let natures: BTreeMap<u8, Nature> = (1..).zip(natures.iter().copied()).collect();
        let pages = natures.keys().map(|n| (*n, page(*n))).collect();
        Self {
            engine: Download::new(vec!["cluster".to_owned()], wanted, 1),
            image,
            index,
            id,
            natures,
            pages,
            time: Duration::ZERO,
            by_connection: BTreeMap::new(),
            connected: 0,
            stored: BTreeMap::new(),
            asked: BTreeSet::new(),
            last_from: BTreeMap::new(),
            answers: VecDeque::new(),
            events: Vec::new(),
            end: None,
        }
    }

    fn now(&self) -> Now {
        Now { time: Time::new(self.time), stamp: Stamp(0) }
    }

    fn tell(&mut self, input: Input) {
        let mut outbox = Outbox::new();
        self.engine.handle(self.now(), input, &mut outbox);
        self.carry_out(outbox);
    }

    /// Lets everybody answer whose time it is.
    fn settle(&mut self) {
        while self.end.is_none()
            && let Some(input) = self.answers.pop_front()
        {
            self.tell(input);
        }
    }

    /// Runs until it is over; the clock goes on when nobody has anything to say.
    fn run(mut self) -> Self {
        self.tell(Input::Start);
        for _ in 0..1_000 {
            self.settle();
            if self.end.is_some() {
                return self;
            }
            let (at, _) = self.engine.deadline().expect("something is to come");
            self.time = at.since_start();
            let mut outbox = Outbox::new();
            self.engine.handle_timeout(self.now(), &mut outbox);
            self.carry_out(outbox);
            let next = self.engine.deadline();
            assert!(self.end.is_some() || next.is_none_or(|(next, _)| next > at), "the deadline stays at {at:?}");
        }
        panic!("it never ends: {:?}", self.engine);
    }

    fn carry_out(&mut self, outbox: Outbox<Effect>) {
        for effect in outbox {
            assert!(self.end.is_none(), "after its end: {effect:?}");
            match effect {
                Effect::Resolve { name } => {
                    let found = self.natures.keys().map(|n| address(*n)).take(3).collect();
                    self.answers.push_back(Input::Resolved { name, result: Ok(found) });
                }
                Effect::Look { address } => {
                    let n = number(address);
                    let result = match self.natures.get(&n) {
                        None | Some(Dead) => Err("nothing listens".to_owned()),
                        Some(_) => Ok(self.pages[&n].clone()),
                    };
                    self.answers.push_back(Input::Looked { address, result });
                }
                Effect::Connect { address } if self.natures[&number(address)] == Closed => {
                    self.answers.push_back(Input::ConnectFailed { address, reason: "closed".to_owned() });
                }
                Effect::Connect { address } => {
                    self.connected += 1;
                    let connection = ConnectionId(self.connected);
                    self.by_connection.insert(connection, number(address));
                    self.answers.push_back(Input::Connected { address, connection, version: ProtocolVersion::V2 });
                }
                Effect::Send { connection, message } => self.answer(connection, message),
                Effect::Close { connection } => {
                    self.by_connection.remove(&connection);
                    self.answers.push_back(Input::Disconnected { connection, reason: "by us".to_owned() });
                }
                Effect::Check { id, text } => {
                    let result = index::parse_for(id, &text).map(Arc::new).map_err(|error| error.to_string());
                    self.answers.push_back(Input::Checked { result });
                }
                Effect::Begin { .. } => self.answers.push_back(Input::Begun { result: Ok(()) }),
                Effect::Store { run, data } => {
                    let from = self.last_from[&run.first];
                    if data.is_empty() {
                        self.answers.push_back(Input::Stored { run, result: Err(StoreError::Wrong) });
                    } else {
                        for block in run.blocks() {
                            assert_eq!(self.stored.insert(block, from), None, "stored twice");
                        }
                        self.answers.push_back(Input::Stored { run, result: Ok(()) });
                    }
                }
                Effect::Event(event) => self.events.push(event),
                Effect::Finish(result) => self.end = Some(result),
            }
        }
    }

    fn answer(&mut self, connection: ConnectionId, message: Message) {
        let Some(n) = self.by_connection.get(&connection).copied() else { return };
        let Message::Request { id, request } = message else { panic!("only questions: {message:?}") };
        let nature = self.natures[&n];
        let response = match request {
            Request::GetIndexPart { id, offset } if id == self.id => {
                // In parts of 1,000 bytes.
                let start = usize::try_from(offset).expect("small");
                let end = self.index.len().min(start + 1_000);
                let mut data = self.index[start..end].to_vec();
                if nature == Forger {
                    data[50] ^= 1;
                }
                Response::GetIndexPart { data: data.into(), total: self.index.len() as u64 }
            }
            Request::GetBlocks { image, run } if image == self.id => {
                self.asked.insert(n);
                match nature {
                    Silent => return,
                    Breaks => {
                        self.by_connection.remove(&connection);
                        self.answers.push_back(Input::Disconnected { connection, reason: "broken".to_owned() });
                        return;
                    }
                    Lacks(block) if run.blocks().contains(&block) => Response::Error("damaged".to_owned()),
                    Liar | Honest | Dead | Closed | Forger | Lacks(_) => {
                        assert!(run.bytes(&self.image).is_some(), "within the bounds: {run:?}");
                        self.last_from.insert(run.first, n);
                        let data = if nature == Liar { Bytes::new() } else { Bytes::from_static(b"good") };
                        Response::GetBlocks { data }
                    }
                }
            }
            other => panic!("not to be asked: {other:?}"),
        };
        self.answers.push_back(Input::Message { connection, message: Message::Response { id, response } });
    }

    #[track_caller]
    fn found(&self) -> &Found {
        match &self.end {
            Some(Ok(found)) => found,
            other => panic!("not found: {other:?}"),
        }
    }

    #[track_caller]
    fn failure(&self) -> &Failure {
        match &self.end {
            Some(Err(failure)) => failure,
            other => panic!("no failure: {other:?}"),
        }
    }

    /// All blocks came, from these only.
    #[track_caller]
    fn complete_from(&self, nodes: &[u8]) {
        self.found();
        assert_eq!(self.stored.len() as u64, self.image.block_count());
        assert!(self.stored.values().all(|from| nodes.contains(from)), "{:?}", self.stored);
    }
}

use self::Nature::{Breaks, Closed, Dead, Forger, Honest, Lacks, Liar, Silent};

#[test]
fn all_that_have_it_give_a_part() {
    let world = World::new(&[Honest; 3], "/k/x").run();
    world.complete_from(&[1, 2, 3]);
    assert_eq!(world.found().selection, Selection::Directory { path: "".into() });
    assert_eq!(world.time, Duration::ZERO);
    assert!(matches!(world.events[0], Event::Begins { bytes: 3_276_808 }));
}

#[test]
fn parts_of_an_image() {
    for (path, blocks) in [("/k/x/sub", 1..102), ("/k/x/sub/g", 101..102), ("/k/x/a", 0..1), ("/k/x/link", 0..0)] {
        let world = World::new(&[Honest; 2], path).run();
        assert_eq!(world.stored.keys().copied().collect::<Vec<_>>(), blocks.collect::<Vec<_>>(), "{path}");
        assert_eq!(world.found().path.as_str(), "/k/x");
    }
    for path in ["/k/x/b", "/k/x/a/b", "/k/x/sub/"] {
        assert!(matches!(World::new(&[Honest], path).run().failure(), Failure::NoEntry { .. }), "{path}");
    }
    let wanted = Wanted { path: "/k/x".into(), image: None, content: false };
    assert!(World::with(&[Honest], wanted).run().stored.is_empty());
}

#[test]
fn whoever_lies_is_left() {
    for other in [Liar, Forger, Silent, Breaks, Dead, Closed] {
        let world = World::new(&[other, Honest, other], "/k/x").run();
        world.complete_from(if other == Forger { &[1, 2, 3] } else { &[2] });
        assert!(world.time <= limits::SOURCE_ANSWER_TIMEOUT, "{other:?}: {:?}", world.time);
    }
    for nobody in [Liar, Forger, Silent, Breaks, Closed] {
        let world = World::new(&[nobody; 3], "/k/x").run();
        let Failure::NotGiven { reasons, .. } = world.failure() else { panic!("{:?}", world.end) };
        assert_eq!(reasons.len(), 3, "{nobody:?}: {reasons:?}");
        assert!(world.time <= 2 * limits::SOURCE_ANSWER_TIMEOUT);
    }
}

#[test]
fn the_silent_are_not_waited_for() {
    let world = World::new(&[Silent, Honest], "/k/x").run();
    world.complete_from(&[2]);
    assert!(world.asked.contains(&1) && world.time == limits::DOWNLOAD_HEDGE_AFTER, "{:?}", world.time);
}

#[test]
fn damaged_blocks_come_from_others() {
    // In one question all of them lack something.
    let world = World::new(&[Lacks(40), Lacks(41), Lacks(40)], "/k/x").run();
    world.complete_from(&[1, 2, 3]);
    assert_eq!((world.stored[&40], world.stored[&41] == 2), (2, false));
    let world = World::new(&[Lacks(40), Lacks(40), Lacks(40)], "/k/x").run();
    let text = world.failure().to_string();
    assert!(text.contains("block 40 ") && text.contains("sub/f") && text.contains("node2"), "{text}");
    assert_eq!(world.stored.len() as u64, world.image.block_count() - 1);
}

#[test]
fn most_decide() {
    let other = ImageId::new([9; 32]);
    let with = |others: &[u8], count: usize, image| {
        let mut world = World::with(&vec![Honest; count], Wanted { path: "/k/x".into(), image, content: true });
        for n in others {
            world.pages.get_mut(n).expect("a node").visible = [("/k/x".into(), other)].into();
        }
        world.run()
    };
    let world = with(&[2], 3, None);
    world.complete_from(&[1, 3]);
    let Event::Differ { answers, .. } = &world.events[0] else { panic!("{:?}", world.events) };
    assert_eq!(answers.len(), 3);
    let Failure::Disagree(answers) = with(&[2], 2, None).failure().clone() else { panic!("decided") };
    assert!(answers[1].to_string().contains(&other.to_string()));
    with(&[2], 2, Some(index::emit(&image()).0)).complete_from(&[1]);
    assert!(matches!(with(&[], 2, Some(other)).failure(), Failure::NoSuchImage { .. }));
}

#[test]
fn what_is_nowhere() {
    let failure = |change: fn(&mut World)| {
        let mut world = World::new(&[Honest, Honest], "/k/x/a");
        change(&mut world);
        world.run().failure().clone()
    };
    let nothing = failure(|world| world.pages.values_mut().for_each(|page| page.visible.clear()));
    assert!(matches!(nothing, Failure::NothingThere { .. }), "{nothing:?}");
    let nobody = failure(|world| world.pages.values_mut().for_each(|page| page.directories.clear()));
    assert!(matches!(&nobody, Failure::NotCarried { key, .. } if key == "k"), "{nobody:?}");
    let dead = failure(|world| world.natures.values_mut().for_each(|nature| *nature = Dead));
    assert!(matches!(dead, Failure::Unreachable(_)), "{dead:?}");
    let mut world = World::new(&[Honest], "/k/x");
    world.engine.names.clear();
    assert!(matches!(world.run_once().failure(), Failure::Unreachable(_)));
}

impl World {
    /// Only begins.
    fn run_once(mut self) -> Self {
        self.tell(Input::Start);
        self
    }
}

#[test]
fn others_are_found_by_those_that_answer() {
    // Three are found by name; one of them knows who carries the directory.
    let mut world = World::new(&[Dead, Honest, Honest, Honest, Dead, Honest], "/k/x");
    for n in [2, 3] {
        world.pages.get_mut(&n).expect("a node").directories.clear();
        world.pages.get_mut(&n).expect("a node").visible.clear();
    }
    let all = |key: &str| [Box::from(key)].into();
    let members = [(4, all("k")), (5, all("k")), (6, all("other"))];
    let members = members.into_iter().map(|(n, directories)| (address(n), directories)).collect();
    world.pages.get_mut(&2).expect("a node").members = members;
    let world = world.run();
    world.complete_from(&[4]);
    // And when those that gave it are gone, too.
    let mut world = World::new(&[Liar, Liar, Liar, Honest], "/k/x");
    world.pages.get_mut(&3).expect("a node").members = vec![(address(4), all("k"))];
    world.run().complete_from(&[4]);
}

#[test]
fn one_machine_has_one_vote() {
    let other = ImageId::new([9; 32]);
    let mut world = World::new(&[Honest; 3], "/k/x");
    for n in [2, 3] {
        let page = world.pages.get_mut(&n).expect("a node");
        page.visible = [("/k/x".into(), other)].into();
        page.host = Some(Host { machine_id: MachineId::new([2; 16]), hostname: "node2".into() });
    }
    assert!(matches!(world.run().failure(), Failure::Disagree(answers) if answers.len() == 2));
}

#[test]
fn interrupted() {
    let mut world = World::new(&[Silent], "/k/x").run_once();
    world.tell(Input::Interrupted);
    assert_eq!(world.failure(), &Failure::Interrupted);
    assert_eq!(world.engine.deadline(), None);
    world.tell(Input::Interrupted);
}
