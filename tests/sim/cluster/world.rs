//! The simulated world: machines, clients, connections, and what happens when.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use blake2b_simd::State as Hash;
use ciruela::engine::contract::{Engine, Outbox};
use ciruela::engine::node::{self, Effect, End, Input};
use ciruela::engine::upload;
use ciruela::format::wire::{self, Message, Response, VerdictWord};
use ciruela::model::ids::MachineId;
use ciruela::model::peer::{ConnectionId, ProtocolVersion};
use ciruela::model::vpath::VPath;

use super::checks::{self, Known};
use super::client::Client;
use super::machine::{Machine, clock};
use super::network::{Conditions, Fate, Lane};
use crate::disk::power::{Random, Survival};

/// More than any scenario needs.
const STEPS_MAX: u64 = 400_000;

pub(super) struct World {
    seed: u64,
    pub(super) random: Random,
    pub(super) now: Duration,
    conditions: Conditions,
    pub(super) machines: Vec<Machine>,
    pub(super) clients: Vec<Client>,
    streams: BTreeMap<ConnectionId, Stream>,
    queue: BTreeMap<(Duration, u64), Happening>,
    sequence: u64,
    path: VPath,
    known: Known,
    acknowledged: BTreeSet<(MachineId, VPath)>,
    /// Everything that was done, for comparing two runs.
    trace: Hash,
    steps: u64,
}

struct Stream {
    client: usize,
    machine: usize,
    boot: u64,
    to_machine: Lane,
    to_client: Lane,
}

enum Happening {
    /// A node gets an input, unless it was booted again since.
    ToNode { machine: usize, boot: u64, input: Box<Input> },
    /// A node's disk or database is due to have done something.
    Work { machine: usize, boot: u64, effect: Box<Effect> },
    /// A message arrives at a node.
    AtNode { connection: ConnectionId, message: Message },
    /// A client gets an input.
    ToClient { client: usize, input: Box<upload::Input> },
    /// A message arrives at a client.
    AtClient { connection: ConnectionId, message: Message },
    /// A stream breaks; both ends hear of it.
    Break { connection: ConnectionId },
    /// A machine's power is cut after that many more operations of its disk.
    Doom { machine: usize, operations: u64 },
    /// A machine starts.
    Boot { machine: usize },
}

impl World {
    pub(super) fn new(
        seed: u64,
        conditions: Conditions,
        machines: Vec<Machine>,
        clients: Vec<Client>,
        path: VPath,
    ) -> Self {
        let known = clients.iter().map(|client| client.sample.items.clone()).collect();
        let mut world = Self {
            seed,
            random: Random::new(seed ^ 0x5eed),
            now: Duration::ZERO,
            conditions,
            machines,
            clients,
            streams: BTreeMap::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            path,
            known,
            acknowledged: BTreeSet::new(),
            trace: Hash::new(),
            steps: 0,
        };
        for machine in 0..world.machines.len() {
            world.after(Duration::ZERO, Happening::Boot { machine });
        }
        world
    }

    fn after(&mut self, delay: Duration, happening: Happening) {
        self.sequence += 1;
        self.queue.insert((self.now + delay, self.sequence), happening);
    }

    pub(super) fn start_client(&mut self, client: usize, delay: Duration) {
        self.after(delay, Happening::ToClient { client, input: Box::new(upload::Input::Start) });
    }

    pub(super) fn doom(&mut self, machine: usize, delay: Duration, operations: u64) {
        self.after(delay, Happening::Doom { machine, operations });
    }

    pub(super) fn trace(&self) -> String {
        self.trace.clone().finalize().to_hex().to_string()
    }

    /// Runs until nothing is left to happen but the clients' deadlines, or `until` says so.
    pub(super) fn run(&mut self, until: impl Fn(&Self) -> bool) {
        while !until(self) {
            self.steps += 1;
            assert!(self.steps < STEPS_MAX, "seed {}: no end after {STEPS_MAX} steps at {:?}", self.seed, self.now);
            let due = self.queue.first_key_value().map(|((at, _), _)| *at);
            let deadline = self.next_deadline();
            match (due, deadline) {
                (None, None) => return,
                (due, Some(deadline)) if due.is_none_or(|due| deadline < due) => self.time_out(deadline),
                _ => self.step(),
            }
        }
    }

    fn next_deadline(&self) -> Option<Duration> {
        let nodes = self.machines.iter().filter_map(|machine| machine.running.as_ref()?.node.deadline());
        let clients = self.clients.iter().filter_map(|client| client.engine.deadline());
        nodes.chain(clients).map(|(at, _)| at.since_start()).min()
    }

    /// Calls every engine whose deadline has come, and checks that it moves on.
    fn time_out(&mut self, at: Duration) {
        self.now = self.now.max(at);
        for machine in 0..self.machines.len() {
            let mut outbox = Outbox::new();
            if let Some(running) = &mut self.machines[machine].running
                && running.node.deadline().is_some_and(|(due, _)| due.since_start() <= self.now)
            {
                running.node.handle_timeout(clock(self.now), &mut outbox);
                let next = running.node.deadline().map(|(due, why)| (due.since_start(), why));
                assert!(
                    next.is_none_or(|(due, _)| due > self.now),
                    "seed {}: {next:?} stays due at {:?}",
                    self.seed,
                    self.now
                );
            }
            self.carry_out(machine, outbox);
        }
        for client in 0..self.clients.len() {
            let mut outbox = Outbox::new();
            let engine = &mut self.clients[client].engine;
            if engine.deadline().is_some_and(|(due, _)| due.since_start() <= self.now) {
                engine.handle_timeout(clock(self.now), &mut outbox);
                let next = engine.deadline().map(|(due, why)| (due.since_start(), why));
                assert!(
                    next.is_none_or(|(due, _)| due > self.now),
                    "seed {}: {next:?} stays due at {:?}",
                    self.seed,
                    self.now
                );
            }
            self.carry_out_client(client, outbox);
        }
    }

    fn step(&mut self) {
        let Some(((at, _), happening)) = self.queue.pop_first() else { return };
        self.now = self.now.max(at);
        match happening {
            Happening::ToNode { machine, boot, input } => {
                if self.machines[machine].boot == boot {
                    self.tell_node(machine, *input);
                }
            }
            Happening::Work { machine, boot, effect } => self.work(machine, boot, *effect),
            Happening::AtNode { connection, message } => {
                if let Some(stream) = self.streams.get(&connection) {
                    self.tell_node(stream.machine, Input::Message { connection, message });
                }
            }
            Happening::ToClient { client, input } => self.tell_client(client, *input),
            Happening::AtClient { connection, message } => self.at_client(connection, message),
            Happening::Break { connection } => self.break_stream(connection, "the network broke it"),
            Happening::Doom { machine, operations } => self.machines[machine].power.crash_after(operations),
            Happening::Boot { machine } => self.boot(machine),
        }
    }

    fn boot(&mut self, machine: usize) {
        let survival = Survival::of_seed(self.random.next());
        self.machines[machine].power_on(survival);
        checks::whole(&self.machines[machine], &self.path, &self.known, self.seed);
        let mut outbox = Outbox::new();
        if self.machines[machine].boot(self.now, &mut outbox).is_none() {
            return self.crashed(machine);
        }
        checks::remembers(&self.machines[machine], &self.acknowledged, self.seed);
        self.carry_out(machine, outbox);
    }

    /// The power is gone: so is the node, and everyone connected hears of it.
    fn crashed(&mut self, machine: usize) {
        self.machines[machine].running = None;
        self.machines[machine].boot += 1;
        let streams: Vec<_> =
            self.streams.iter().filter(|(_, stream)| stream.machine == machine).map(|(id, _)| *id).collect();
        for connection in streams {
            self.break_stream(connection, "the machine is gone");
        }
        let delay = Duration::from_millis(self.random.below(20_000));
        self.after(delay, Happening::Boot { machine });
    }

    fn work(&mut self, machine: usize, boot: u64, effect: Effect) {
        if self.machines[machine].boot != boot {
            return;
        }
        let answer = self.machines[machine].work(effect);
        if self.machines[machine].power.crashed() {
            return self.crashed(machine);
        }
        checks::whole(&self.machines[machine], &self.path, &self.known, self.seed);
        if let Some(input) = answer {
            self.tell_node(machine, input);
        }
    }

    fn tell_node(&mut self, machine: usize, input: Input) {
        self.note(&format!("{:?} node{machine} {input:?}", self.now));
        let mut outbox = Outbox::new();
        self.machines[machine].handle(self.now, input, &mut outbox);
        self.carry_out(machine, outbox);
    }

    fn carry_out(&mut self, machine: usize, outbox: Outbox<Effect>) {
        let boot = self.machines[machine].boot;
        for effect in outbox {
            match effect {
                Effect::Send { connection, message } => self.send_to_client(machine, connection, message),
                Effect::Note(note) => self.note(&format!("{note:?}")),
                Effect::Close { connection, reason } => self.break_stream(connection, &reason),
                // Here nodes don't hear of each other.
                Effect::Datagram { .. } => {}
                Effect::Connect { address } => {
                    let reason = "there is no way to other nodes".to_owned();
                    let input = Box::new(Input::NotConnected { address, reason });
                    self.after(self.conditions.delay, Happening::ToNode { machine, boot, input });
                }
                effect @ (Effect::Disk { .. }
                | Effect::Write { .. }
                | Effect::LoadIndex { .. }
                | Effect::CheckIndex { .. }
                | Effect::Serve { .. }) => {
                    let delay = Duration::from_micros(self.random.below(3_000));
                    // The database answers in the order of its questions, as one thread does.
                    let delay = if matches!(effect, Effect::Write { .. }) { Duration::from_millis(1) } else { delay };
                    self.after(delay, Happening::Work { machine, boot, effect: Box::new(effect) });
                }
            }
        }
    }

    fn send_to_client(&mut self, machine: usize, connection: ConnectionId, message: Message) {
        if let Message::Response { response: Response::SubmitChange(answer), .. } = &message
            && matches!(answer.verdict, VerdictWord::Accept | VerdictWord::Have)
        {
            let id = self.machines[machine].host.machine_id;
            self.acknowledged.insert((id, self.path.clone()));
        }
        let bytes = wire::encode(&message).expect("it can be sent").len();
        let Some(stream) = self.streams.get_mut(&connection) else { return };
        let fate = self.conditions.send(self.now, &mut stream.to_client, bytes, &mut self.random);
        self.deliver(fate, connection, Happening::AtClient { connection, message });
    }

    fn send_to_node(&mut self, connection: ConnectionId, message: Message) {
        let bytes = wire::encode(&message).expect("it can be sent").len();
        let Some(stream) = self.streams.get_mut(&connection) else { return };
        let fate = self.conditions.send(self.now, &mut stream.to_machine, bytes, &mut self.random);
        self.deliver(fate, connection, Happening::AtNode { connection, message });
    }

    fn deliver(&mut self, fate: Fate, connection: ConnectionId, happening: Happening) {
        match fate {
            Fate::Arrives(at) => self.after(at.saturating_sub(self.now), happening),
            Fate::Breaks(at) => self.after(at.saturating_sub(self.now), Happening::Break { connection }),
        }
    }

    fn break_stream(&mut self, connection: ConnectionId, reason: &str) {
        let Some(Stream { client, machine, boot, .. }) = self.streams.remove(&connection) else { return };
        let delay = self.conditions.delay;
        let input = Box::new(Input::Disconnected { connection });
        self.after(delay, Happening::ToNode { machine, boot, input });
        let input = Box::new(upload::Input::Disconnected { connection, reason: reason.to_owned() });
        self.after(delay, Happening::ToClient { client, input });
    }

    fn at_client(&mut self, connection: ConnectionId, message: Message) {
        let Some(stream) = self.streams.get(&connection) else { return };
        let client = stream.client;
        if let Message::Request { id, request } = &message {
            let answer = self.clients[client].serve(*id, request, &mut self.random);
            return self.send_to_node(connection, answer);
        }
        self.tell_client(client, upload::Input::Message { connection, message });
    }

    fn tell_client(&mut self, client: usize, input: upload::Input) {
        self.note(&format!("{:?} client{client} {input:?}", self.now));
        let mut outbox = Outbox::new();
        self.clients[client].handle(self.now, input, &mut outbox);
        self.carry_out_client(client, outbox);
    }

    fn carry_out_client(&mut self, client: usize, outbox: Outbox<upload::Effect>) {
        for effect in outbox {
            let answer = |world: &mut Self, input| {
                let delay = world.conditions.delay;
                world.after(delay, Happening::ToClient { client, input: Box::new(input) });
            };
            match effect {
                upload::Effect::Resolve { name } => {
                    let result = Ok((0..self.machines.len()).map(address).collect());
                    answer(self, upload::Input::Resolved { name, result });
                }
                upload::Effect::Sign { upload, change } => {
                    let result = Ok(self.clients[client].sign(change));
                    answer(self, upload::Input::Signed { upload, result });
                }
                upload::Effect::Connect { address } => self.connect(client, address),
                upload::Effect::Send { connection, message } => self.send_to_node(connection, message),
                upload::Effect::Close { connection } => self.break_stream(connection, "closed"),
                upload::Effect::Event(event) => {
                    self.clients[client].events.push(event);
                    checks::one_outcome_each(&self.clients[client], self.seed);
                }
                upload::Effect::Finish(summary) => {
                    self.clients[client].summary = Some(summary);
                    let streams = self.streams.iter().filter(|(_, stream)| stream.client == client);
                    for connection in streams.map(|(id, _)| *id).collect::<Vec<_>>() {
                        self.break_stream(connection, "the client is done");
                    }
                }
            }
        }
    }

    fn connect(&mut self, client: usize, address: SocketAddr) {
        let machine = usize::from(address.port()) - 1;
        let delay = self.conditions.delay * 2;
        if self.machines[machine].running.is_none() {
            let input = upload::Input::ConnectFailed { address, reason: "nothing listens there".to_owned() };
            return self.after(delay, Happening::ToClient { client, input: Box::new(input) });
        }
        self.sequence += 1;
        let connection = ConnectionId(self.sequence);
        let boot = self.machines[machine].boot;
        let start = Lane::default();
        self.streams.insert(connection, Stream { client, machine, boot, to_machine: start, to_client: start });
        let version = ProtocolVersion::V2;
        let input = upload::Input::Connected { address, connection, version };
        self.tell_client(client, input);
        let end = End::Accepted { from: SocketAddr::from(([10, 0, 9, 9], 9)) };
        self.tell_node(machine, Input::Connected { connection, version, end });
    }

    fn note(&mut self, text: &str) {
        self.trace.update(text.as_bytes());
        if std::env::var_os("CIRUELA_SIM_TRACE").is_some() {
            let shown: String = text.chars().take(300).collect();
            // Only for a person who replays one seed.
            std::io::Write::write_all(&mut std::io::stderr(), format!("{shown}\n").as_bytes()).expect("stderr");
        }
    }
}

/// Machine `n` has port `n + 1`.
fn address(machine: usize) -> SocketAddr {
    ([127, 0, 0, 1], u16::try_from(machine + 1).expect("few machines")).into()
}

/// The status of a node that runs.
pub(super) fn status(machine: &Machine) -> Option<node::NodeStatus> {
    machine.running.as_ref().map(|running| running.node.status())
}
