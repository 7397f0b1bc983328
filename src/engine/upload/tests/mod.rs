//! The upload engine, told by hand what a network would tell it.

mod endings;
mod follow;
mod laws;
mod reach;
mod safety;
mod shares;
mod verdicts;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::{Effect, Ending, Event, Input, Kept, Refused, Rules, Summary, Upload, UploadResult, Uploads};
use crate::engine::contract::{Engine, Outbox};
use crate::format::change;
use crate::format::wire::{
    Hello, Message, Notice, Notification, Outcome, Progress, Request, Response, SubmitAnswer, VerdictWord,
};
use crate::model::change::{Change, SignedChange, Verb};
use crate::model::ids::{ChangeId, ImageId, MachineId};
use crate::model::origins::Origins;
use crate::model::peer::{ConnectionId, Host, ProtocolVersion};
use crate::model::time::{Now, Stamp, Time};

const CLOCK_AT_START: u64 = 1_000_000;

fn address(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n], 24_783))
}

fn host(n: u8) -> Host {
    Host { machine_id: MachineId::new([n; 16]), hostname: format!("node{n}").into() }
}

fn image(n: u8) -> ImageId {
    ImageId::new([n; 32])
}

fn upload(n: u8) -> Upload {
    let path = format!("/key/{n}").parse().expect("valid");
    Upload { path, image: image(n), verb: Verb::Append, old_image: None, weak: false, given: true }
}

fn rules() -> Rules {
    Rules {
        deadline: Duration::from_mins(30),
        early_timeout: None,
        early_fraction: 0.75,
        early_hosts: 3,
        require_all: false,
        initial_connections: 3,
        cluster: None,
    }
}

/// The engine and all that it asked for.
struct World {
    engine: Uploads,
    time: Duration,
    /// Added to the wall clock.
    clock: u64,
    dialed: Vec<SocketAddr>,
    resolved: Vec<String>,
    closed: Vec<ConnectionId>,
    events: Vec<Event>,
    /// (node, upload) → the last request and what was submitted.
    submitted: BTreeMap<(u8, String), (u64, SignedChange)>,
    published: Vec<(u8, ImageId)>,
    /// Each node's share of each image, as it was told last: number and of how many.
    shares: BTreeMap<(u8, ImageId), (u32, u32)>,
    /// What each node was told that others have, in order.
    given: Vec<(u8, Vec<u32>)>,
    /// The last connection of each node.
    connections: BTreeMap<u8, ConnectionId>,
    end: Option<Summary>,
    /// Signatures are left to the test.
    by_hand: bool,
    to_sign: Vec<(usize, Change)>,
    last_connection: u64,
}

impl World {
    fn new(uploads: Vec<Upload>, rules: Rules) -> Self {
        Self::with_names(&["cluster"], uploads, rules)
    }

    fn with_names(names: &[&str], uploads: Vec<Upload>, rules: Rules) -> Self {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let mut world = Self {
            engine: Uploads::new(names, uploads, rules, 1),
            time: Duration::ZERO,
            clock: CLOCK_AT_START,
            dialed: Vec::new(),
            resolved: Vec::new(),
            closed: Vec::new(),
            events: Vec::new(),
            submitted: BTreeMap::new(),
            published: Vec::new(),
            shares: BTreeMap::new(),
            given: Vec::new(),
            connections: BTreeMap::new(),
            end: None,
            by_hand: false,
            to_sign: Vec::new(),
            last_connection: 0,
        };
        world.tell(Input::Start);
        world
    }

    /// One upload on a cluster of `nodes`, all of which have accepted it.
    fn accepted(nodes: &[u8], rules: Rules) -> Self {
        let mut world = Self::new(vec![upload(1)], rules);
        world.found(nodes);
        for &n in nodes {
            world.connect(n);
            world.accept(n, 1);
        }
        world
    }

    fn now(&self) -> Now {
        let millis = u64::try_from(self.time.as_millis()).expect("small");
        Now { time: Time::new(self.time), stamp: Stamp(self.clock + millis) }
    }

    fn tell(&mut self, input: Input) {
        let mut outbox = Outbox::new();
        self.engine.handle(self.now(), input, &mut outbox);
        self.carry_out(outbox);
    }

    fn carry_out(&mut self, outbox: Outbox<Effect>) {
        let mut signed = Vec::new();
        for effect in outbox {
            assert!(self.end.is_none(), "{effect:?} after the end");
            match effect {
                Effect::Resolve { name } => self.resolved.push(name),
                Effect::Sign { upload, change } if self.by_hand => self.to_sign.push((upload, change)),
                Effect::Sign { upload, change } => signed.push((upload, SignedChange::new(change, Vec::new()))),
                Effect::Connect { address } => self.dialed.push(address),
                Effect::Send { connection, message } => self.sent(connection, message),
                Effect::Close { connection } => self.closed.push(connection),
                Effect::Event(event) => self.events.push(event),
                Effect::Finish(summary) => self.end = Some(summary),
            }
        }
        for (upload, change) in signed {
            self.tell(Input::Signed { upload, result: Ok(change) });
        }
    }

    fn sent(&mut self, connection: ConnectionId, message: Message) {
        let node = *self.connections.iter().find(|(_, c)| **c == connection).expect("connected").0;
        match message {
            Message::Notification(Notification::PublishImage { id }) => self.published.push((node, id)),
            Message::Request { id, request: Request::SubmitChange(signed) } => {
                let offered = self.published.contains(&(node, signed.change.image.expect("an image")));
                assert!(offered, "submitted before it was offered");
                self.submitted.insert((node, signed.change.path.to_string()), (id, signed));
            }
            Message::Notification(Notification::Cluster(Notice::Share { image, index, of })) => {
                self.shares.insert((node, image), (index, of));
            }
            Message::Notification(Notification::Cluster(Notice::Have { pieces, .. })) => {
                self.given.push((node, pieces));
            }
            other @ (Message::Notification(_)
            | Message::Request { .. }
            | Message::Response { .. }
            | Message::Malformed { .. }
            | Message::Unknown { .. }) => panic!("{other:?}"),
        }
    }

    /// Goes on to a time, calling at each deadline on the way.
    fn pass(&mut self, seconds: f64) {
        let to = self.time + Duration::from_secs_f64(seconds);
        while let Some((at, _)) = self.engine.deadline().filter(|(at, _)| at.since_start() <= to) {
            self.time = self.time.max(at.since_start());
            let mut outbox = Outbox::new();
            self.engine.handle_timeout(self.now(), &mut outbox);
            let next = self.engine.deadline();
            assert!(next.is_none_or(|(next, _)| next > Time::new(self.time)), "{next:?} at {:?}", self.time);
            self.carry_out(outbox);
        }
        self.time = self.time.max(to);
    }

    fn found(&mut self, nodes: &[u8]) {
        let name = self.resolved.pop().expect("a question");
        self.tell(Input::Resolved { name, result: Ok(nodes.iter().copied().map(address).collect()) });
    }

    fn open(&mut self, n: u8, version: ProtocolVersion) -> ConnectionId {
        let at = self.dialed.iter().position(|dialed| *dialed == address(n)).expect("dialed");
        self.dialed.remove(at);
        self.last_connection += 1;
        let connection = ConnectionId(self.last_connection);
        self.connections.insert(n, connection);
        self.tell(Input::Connected { address: address(n), connection, version });
        connection
    }

    fn hear(&mut self, n: u8, notification: Notification) {
        let connection = self.connections[&n];
        self.tell(Input::Message { connection, message: Message::Notification(notification) });
    }

    fn hello(&mut self, n: u8, host: Host) {
        self.hear(n, Notification::Hello(Hello { host, version: "1".to_owned() }));
    }

    fn connect(&mut self, n: u8) {
        self.connect_as(n, host(n));
    }

    fn connect_as(&mut self, n: u8, host: Host) {
        self.open(n, ProtocolVersion::V2);
        self.hello(n, host);
    }

    fn refuse_connection(&mut self, n: u8) {
        let at = self.dialed.iter().position(|dialed| *dialed == address(n)).expect("dialed");
        self.dialed.remove(at);
        self.tell(Input::ConnectFailed { address: address(n), reason: format!("nothing listens at node {n}") });
    }

    fn lose(&mut self, n: u8) {
        let connection = self.connections[&n];
        self.tell(Input::Disconnected { connection, reason: "reset".to_owned() });
    }

    /// What a node was asked last about an upload.
    fn asked(&self, n: u8, upload: u8) -> &SignedChange {
        &self.submitted[&(n, format!("/key/{upload}"))].1
    }

    fn answer(&mut self, n: u8, upload: u8, change: impl FnOnce(&mut SubmitAnswer)) {
        let mut answer = SubmitAnswer {
            verdict: VerdictWord::Accept,
            reject_reason: None,
            detail: None,
            accepted_keys: Vec::new(),
            current: None,
            stamp: None,
            done: false,
            host: host(n),
            hosts: BTreeMap::new(),
            addresses: Vec::new(),
        };
        change(&mut answer);
        self.respond(n, upload, Response::SubmitChange(answer));
    }

    fn respond(&mut self, n: u8, upload: u8, response: Response) {
        let (id, _) = self.submitted[&(n, format!("/key/{upload}"))];
        let connection = self.connections[&n];
        self.tell(Input::Message { connection, message: Message::Response { id, response } });
    }

    fn accept(&mut self, n: u8, upload: u8) {
        self.answer(n, upload, |_| ());
    }

    fn reject(&mut self, n: u8, upload: u8, word: &str) {
        self.answer(n, upload, |answer| {
            answer.verdict = VerdictWord::Refused;
            answer.reject_reason = Some(word.to_owned());
        });
    }

    fn outcome(&mut self, n: u8, number: u8, result: &str) {
        let change = change::id(&self.asked(n, number).change);
        self.outcome_of(n, number, change, result);
    }

    fn outcome_of(&mut self, n: u8, number: u8, change: ChangeId, result: &str) {
        let upload = upload(number);
        let outcome = Outcome {
            path: upload.path,
            image: Some(upload.image),
            change,
            host: host(n),
            result: result.to_owned(),
            reason: None,
            bytes: Origins { kept: 1, fetched: 2, ..Origins::default() },
            sources: Vec::new(),
        };
        self.hear(n, Notification::Outcome(outcome));
    }

    fn progress(&mut self, n: u8, state: &str, waiting: Option<&str>) {
        let progress = Progress {
            path: upload(1).path,
            image: image(1),
            change: change::id(&self.asked(n, 1).change),
            host: host(n),
            state: state.to_owned(),
            bytes_done: 5,
            bytes_total: 10,
            waiting: waiting.map(str::to_owned),
        };
        self.hear(n, Notification::Progress(progress));
    }

    fn ending(&self) -> Option<&Ending> {
        self.end.as_ref().map(|summary| &summary.ending)
    }

    fn result(&self, n: u8) -> UploadResult {
        let summary = self.end.clone().unwrap_or_else(|| self.engine.status());
        let node = summary.nodes.iter().find(|node| node.address == address(n)).expect("a node");
        node.uploads[0].1.clone()
    }
}
