//! The simulated world: machines, clients, connections, and what happens when.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use blake2b_simd::State as Hash;
use bytes::Bytes;
use ciruela::engine::contract::{Engine, Outbox};
use ciruela::engine::node::{self, Effect, Input};
use ciruela::engine::upload;
use ciruela::format::wire::Message;
use ciruela::model::ids::MachineId;
use ciruela::model::peer::ConnectionId;
use ciruela::model::vpath::VPath;

use super::checks::{self, Known};
use super::client::Client;
use super::machine::{Machine, clock};
use super::network::Conditions;
use super::wires::{Party, Stream, address};
use crate::disk::power::{Random, Survival};

/// More than any scenario needs.
const STEPS_MAX: u64 = 400_000;

pub(super) struct World {
    seed: u64,
    pub(super) random: Random,
    pub(super) now: Duration,
    pub(super) conditions: Conditions,
    /// Whether nodes know of each other.
    pub(super) cluster: bool,
    /// The machines before this one don't hear the others, while the network is apart.
    pub(super) split: Option<usize>,
    pub(super) machines: Vec<Machine>,
    pub(super) clients: Vec<Client>,
    pub(super) streams: BTreeMap<ConnectionId, Stream>,
    queue: BTreeMap<(Duration, u64), Happening>,
    pub(super) sequence: u64,
    pub(super) path: VPath,
    /// Trees that may be visible.
    pub(super) known: Known,
    pub(super) acknowledged: BTreeSet<(MachineId, VPath)>,
    /// Everything that was done, for comparing two runs.
    trace: Hash,
    steps: u64,
}

pub(super) enum Happening {
    /// A node gets an input, unless it was booted again since.
    ToNode { machine: usize, boot: u64, input: Box<Input> },
    /// A node's disk or database is due to have done something.
    Work { machine: usize, boot: u64, effect: Box<Effect> },
    /// A message arrives.
    Arrives { to: Party, connection: ConnectionId, message: Box<Message> },
    /// A datagram arrives.
    Datagram { to: usize, from: SocketAddr, data: Bytes },
    /// A node's attempt to connect arrives.
    Dial { machine: usize, boot: u64, to: SocketAddr },
    /// A client gets an input.
    ToClient { client: usize, input: Box<upload::Input> },
    /// A stream breaks; both ends hear of it.
    Break { connection: ConnectionId },
    /// A machine's power is cut after that many more operations of its disk.
    Doom { machine: usize, operations: u64 },
    /// A daemon is told to end, and starts again after a while.
    Restart { machine: usize },
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
            cluster: false,
            split: None,
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

    pub(super) fn after(&mut self, delay: Duration, happening: Happening) {
        self.sequence += 1;
        self.queue.insert((self.now + delay, self.sequence), happening);
    }

    pub(super) fn start_client(&mut self, client: usize, delay: Duration) {
        self.after(delay, Happening::ToClient { client, input: Box::new(upload::Input::Start) });
    }

    pub(super) fn doom(&mut self, machine: usize, delay: Duration, operations: u64) {
        self.after(delay, Happening::Doom { machine, operations });
    }

    pub(super) fn restart_after(&mut self, machine: usize, delay: Duration) {
        self.after(delay, Happening::Restart { machine });
    }

    pub(super) fn trace(&self) -> String {
        self.trace.clone().finalize().to_hex().to_string()
    }

    /// Runs until nothing is left to happen but the clients' deadlines, or `until` says so.
    pub(super) fn run(&mut self, until: impl Fn(&Self) -> bool) {
        while !until(self) {
            self.steps += 1;
            if self.steps >= STEPS_MAX {
                self.give_up(&format!("after {STEPS_MAX} steps at {:?}", self.now));
            }
            let due = self.queue.first_key_value().map(|((at, _), _)| *at);
            let deadline = self.next_deadline();
            match (due, deadline) {
                (None, None) => return,
                (due, Some(deadline)) if due.is_none_or(|due| deadline < due) => self.time_out(deadline),
                _ => self.step(),
            }
        }
    }

    /// Runs until `until` says so, which must be within `limit`.
    pub(super) fn run_within(&mut self, limit: Duration, until: impl Fn(&Self) -> bool) {
        let end = self.now + limit;
        self.run(|world| world.now > end || until(world));
        if !until(self) {
            self.give_up(&format!("after {limit:?}"));
        }
    }

    /// It should have ended: says how everything stands.
    fn give_up(&self, when: &str) -> ! {
        let paths: Vec<_> = self.machines.iter().map(|machine| status(machine).map(|status| status.paths)).collect();
        let clients: Vec<_> = self.clients.iter().map(|client| (&client.summary, client.engine.status())).collect();
        panic!("seed {}: not at its end {when}: {paths:#?} {clients:#?}", self.seed);
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
            Happening::Arrives { to, connection, message } => self.arrived(to, connection, *message),
            Happening::Datagram { to, from, data } => {
                if self.machines[to].running.is_some() {
                    self.tell_node(to, Input::Datagram { from, data });
                }
            }
            Happening::Dial { machine, boot, to } => {
                if self.machines[machine].boot == boot {
                    self.dial(machine, to);
                }
            }
            Happening::ToClient { client, input } => self.tell_client(client, *input),
            Happening::Break { connection } => self.break_stream(connection, "the network broke it"),
            Happening::Doom { machine, operations } => self.machines[machine].power.crash_after(operations),
            Happening::Restart { machine } => self.restart(machine),
            Happening::Boot { machine } => self.boot(machine),
        }
    }

    fn boot(&mut self, machine: usize) {
        let survival = Survival::of_seed(self.random.next());
        self.machines[machine].power_on(survival);
        checks::whole(&self.machines[machine], &self.path, &self.known, self.seed);
        let mut outbox = Outbox::new();
        if self.machines[machine].boot(self.now, &mut self.random, &mut outbox).is_none() {
            return self.crashed(machine);
        }
        checks::remembers(&self.machines[machine], &self.acknowledged, self.seed);
        self.carry_out(machine, outbox);
        if self.cluster {
            self.tell_node(machine, Input::Peers(self.peers()));
        }
    }

    /// The power is gone: so is the node, and everyone connected hears of it.
    fn crashed(&mut self, machine: usize) {
        self.down(machine);
        // A client gives up when nobody can be reached for ten seconds.
        let longest = if self.cluster { 20_000 } else { 5_000 };
        let delay = Duration::from_millis(self.random.below(longest));
        self.after(delay, Happening::Boot { machine });
    }

    /// The node is gone.
    fn down(&mut self, machine: usize) {
        let party = self.node(machine);
        self.machines[machine].running = None;
        self.machines[machine].boot += 1;
        self.break_all(|one| one == party, "the machine is gone");
    }

    /// The daemon ends and says so; all that it wrote is there when it starts again.
    fn restart(&mut self, machine: usize) {
        if self.machines[machine].running.is_none() {
            return;
        }
        self.tell_node(machine, Input::Leave);
        self.machines[machine].ended_well = true;
        self.crashed(machine);
    }

    /// Cuts a machine's power until [`World::switch_on`].
    pub(super) fn switch_off(&mut self, machine: usize) {
        self.machines[machine].power.cut();
        self.down(machine);
    }

    pub(super) fn switch_on(&mut self, machine: usize) {
        self.after(Duration::ZERO, Happening::Boot { machine });
    }

    fn work(&mut self, machine: usize, boot: u64, effect: Effect) {
        if self.machines[machine].boot != boot {
            return;
        }
        if let Effect::Serve { connection, request, what } = &effect
            && let Some(answer) = self.machines[machine].serve(*request, what, &mut self.random)
        {
            self.send(self.node(machine), *connection, answer);
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

    pub(super) fn tell_node(&mut self, machine: usize, input: Input) {
        self.note(&format!("{:?} node{machine} {input:?}", self.now));
        let mut outbox = Outbox::new();
        self.machines[machine].handle(self.now, input, &mut outbox);
        self.carry_out(machine, outbox);
    }

    fn carry_out(&mut self, machine: usize, outbox: Outbox<Effect>) {
        let boot = self.machines[machine].boot;
        for effect in outbox {
            match effect {
                Effect::Send { connection, message } => {
                    self.send(self.node(machine), connection, message);
                }
                Effect::Note(note) => self.note(&format!("{note:?}")),
                Effect::Close { connection, reason } => self.break_stream(connection, &reason),
                Effect::Datagram { to, data } => self.send_datagram(machine, to, &data),
                Effect::Connect { address } => {
                    self.after(self.round_trip(), Happening::Dial { machine, boot, to: address });
                }
                effect @ (Effect::Disk { .. }
                | Effect::Survey { .. }
                | Effect::Estimate { .. }
                | Effect::Write { .. }
                | Effect::ListIndexes
                | Effect::RemoveIndexes { .. }
                | Effect::LoadIndex { .. }
                | Effect::CheckIndex { .. }
                | Effect::Tell { .. }
                | Effect::Serve { .. }) => {
                    let delay = Duration::from_micros(self.random.below(3_000));
                    // The database answers in the order of its questions, as one thread does.
                    let write_time = self.machines[machine].write_time;
                    let delay = if matches!(effect, Effect::Write { .. }) { write_time } else { delay };
                    self.after(delay, Happening::Work { machine, boot, effect: Box::new(effect) });
                }
            }
        }
    }

    pub(super) fn tell_client(&mut self, client: usize, input: upload::Input) {
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
                    let entries = self.clients[client].entries.clone();
                    let entries = entries.unwrap_or_else(|| (0..self.machines.len()).collect());
                    let result = Ok(entries.into_iter().map(address).collect());
                    answer(self, upload::Input::Resolved { name, result });
                }
                upload::Effect::Sign { upload, change } => {
                    let result = Ok(self.clients[client].sign(change));
                    answer(self, upload::Input::Signed { upload, result });
                }
                upload::Effect::Connect { address } => self.connect(client, address),
                upload::Effect::Send { connection, message } => {
                    self.send(Party::Client(client), connection, message);
                }
                upload::Effect::Close { connection } => self.break_stream(connection, "closed"),
                upload::Effect::Event(event) => {
                    self.clients[client].events.push(event);
                    checks::one_outcome_each(&self.clients[client], self.seed);
                }
                upload::Effect::Finish(summary) => {
                    self.clients[client].summary = Some(summary);
                    self.break_all(|party| party == Party::Client(client), "the client is done");
                }
            }
        }
    }

    fn note(&mut self, text: &str) {
        self.trace.update(text.as_bytes());
        if std::env::var_os("CIRUELA_SIM_TRACE").is_some() {
            let shown: String = text.chars().take(2_000).collect();
            // Only for a person who replays one seed.
            std::io::Write::write_all(&mut std::io::stderr(), format!("{shown}\n").as_bytes()).expect("stderr");
        }
    }
}

impl Drop for World {
    /// Whatever panicked: this replays it.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let text = format!("seed {} at {:?}, step {}\n", self.seed, self.now, self.steps);
            let _ = std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes());
        }
    }
}

/// The status of a node that runs.
pub(super) fn status(machine: &Machine) -> Option<node::NodeStatus> {
    machine.running.as_ref().map(|running| running.node.status())
}
