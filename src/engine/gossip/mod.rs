//! Who is alive, what each node carries and who waits for what: gossip between the nodes of a cluster.
//!
//! # Identities
//!
//! A [`NodeId`] is one start of one node: address, machine id, and the incarnation that it has written down. To the SWIM library a member is
//! that and a *renewal* ([`MemberId`]): whoever was held for dead and hears of it comes back
//! with the next renewal, which beats what is said of the one before; nobody outside of gossip sees renewals: the node goes [`Effect::Down`] and
//! [`Effect::Up`] again, the same one. A higher incarnation beats all renewals of a lower one. The library's own incarnation is a third
//! number, which only refutes suspicions, and starts anew with each renewal. Nodes with the same machine id and different
//! addresses are different members; so are nodes with the same address and different machine ids.
//!
//! # What is left to others
//!
//! Sockets, looking up `peers.txt`, connections over which pages of members come ([`Effect::FetchMembers`]), and writing the incarnation down
//! are the driver's; what follows from heads that differ is `engine/catch_up`'s, what a report says `engine/report`'s.

mod channel;
mod join;
mod pulse;
mod receive;
mod reports;
mod send;
mod swim;
mod table;
#[cfg(test)]
mod tests;
mod values;

use std::net::SocketAddr;

use bytes::Bytes;
use foca::{Member, State};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng as _;

use self::channel::Channel;
pub use self::channel::Dropped;
use self::join::Join;
use self::pulse::{Pulses, Ring, below};
use self::reports::Reports;
use self::swim::Swim;
use self::table::{Entry, Life, Table};
use self::values::{Flood, OwnValues};
use crate::engine::contract::{Engine, Outbox};
use crate::format::gossip::{Item, MemberId, PageEntry, PageWriter, SessionId, is_address};
use crate::model::change::Rank;
use crate::model::heads::HeadsFingerprint;
use crate::model::limits;
use crate::model::peer::{ClusterKey, NodeId, NodeInfo};
use crate::model::time::{Now, Time};
use crate::model::vpath::VPath;

/// What can happen.
#[derive(Debug, Clone)]
pub enum Input {
    /// From now on datagrams are taken and sent. Everything else may come before.
    Start,
    /// A datagram has arrived.
    Datagram { from: SocketAddr, data: Bytes },
    /// The addresses that `peers.txt` has now; this node's own may be among them.
    Peers(Vec<SocketAddr>),
    /// What this node says about itself has changed.
    Info(NodeInfo),
    /// How the heads of a directory are. `urgent`: one of them has changed, others should know soon.
    Heads { directory: Box<str>, fingerprint: HeadsFingerprint, urgent: bool },
    /// The directory isn't carried any more.
    NoHeads { directory: Box<str> },
    /// Somebody connected here waits for this change, or doesn't any more.
    Watch { path: VPath, change: Rank, on: bool },
    /// A report for a watching node, to be sent until it is acknowledged, dropped, or the node is down. Numbers are the caller's, unique for each
    /// node; the same one again takes the place of the first.
    SendReport { to: NodeId, number: u64, body: Bytes },
    /// A report isn't needed any more.
    DropReport { to: NodeId, number: u64 },
    /// [`Effect::ReportReceived`] was dealt with: it, too, may come several times.
    AckReport { to: NodeId, number: u64 },
    /// Answer to [`Effect::FetchMembers`], page by page.
    Members { page: Bytes, last: bool },
    /// Answer to [`Effect::FetchMembers`]: no (further) page.
    MembersFailed,
    /// A higher incarnation of this node is written down. Answer to [`Effect::Restored`].
    Incarnation(u64),
    /// Say goodbye. Nothing happens any more after that.
    Leave,
}

/// What should be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Send a datagram. No answer.
    Send { to: SocketAddr, data: Bytes },
    /// A node is alive, or says something else about itself than before. Its watches follow when it wasn't up before. No answer.
    Up { node: NodeId, info: NodeInfo },
    /// It isn't any more, and neither are its watches. `left`: it has said goodbye. No answer.
    Down { node: NodeId, left: bool },
    /// It doesn't answer; [`Effect::Down`] may follow, and often doesn't. No answer.
    Suspect { node: NodeId },
    /// Its heads of a directory that both carry differ from ours. Comes again and again while they do. No answer.
    Differs { node: NodeId, directory: Box<str> },
    /// Somebody at that node waits for a change, or doesn't any more. No answer.
    Watched { node: NodeId, path: VPath, change: Rank, on: bool },
    /// A report, perhaps again. Answered by [`Input::AckReport`].
    ReportReceived { from: NodeId, number: u64, body: Bytes },
    /// A report was acknowledged: comes once for each. No answer.
    ReportAcked { from: NodeId, number: u64 },
    /// Ask this member for all members (`GetMembers`, from cursor 0 on). Answered by [`Input::Members`], the last of
    /// which says so, or [`Input::MembersFailed`].
    FetchMembers { node: NodeId },
    /// Others know a later incarnation of this node than it does itself: write `seen` + 1 down. Answered by
    /// [`Input::Incarnation`].
    Restored { seen: u64 },
    /// Somebody sends datagrams that can't be opened: it has another key. Now and then. No answer.
    Stranger { from: SocketAddr },
    /// None of the peers has answered for a while. Once. No answer.
    Alone { peers: usize },
    /// Another live node has the machine id of this one, or of a third. Once for each node. No answer.
    Twin { node: NodeId },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    New,
    Running,
    Left,
}

/// All of gossip for one node.
pub struct Gossip {
    me: MemberId,
    info: NodeInfo,
    phase: Phase,
    random: ChaCha8Rng,
    channel: Channel,
    swim: Swim,
    table: Table,
    ring: Ring,
    values: OwnValues,
    directories_left_out: usize,
    flood: Flood,
    /// When to pass on what is to be passed on, and when that was done last.
    flood_next: Option<Time>,
    flood_last: Option<Time>,
    pulses: Pulses,
    reports: Reports,
    join: Join,
    /// The highest incarnation of this node that was told of.
    restored: u64,
    /// This node was held for dead and has just come back.
    rejoined: bool,
}

impl Gossip {
    /// A node which has not started. `session` must be drawn at random for each start of the process; with `key` datagrams are sealed.
    pub fn new(me: NodeId, info: NodeInfo, key: Option<&ClusterKey>, session: SessionId, seed: u64) -> Self {
        let me = MemberId { node: me, renewal: 0 };
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let library = ChaCha8Rng::from_rng(&mut random);
        let mut values = OwnValues::default();
        let (_, directories_left_out) = values.about(&info);
        Self {
            me,
            info,
            phase: Phase::New,
            random,
            channel: Channel::new(key, session),
            swim: Swim::new(me, library),
            table: Table::new(&me.node),
            ring: Ring::default(),
            values,
            directories_left_out,
            flood: Flood::default(),
            flood_next: None,
            flood_last: None,
            pulses: Pulses::default(),
            reports: Reports::default(),
            join: Join::new(),
            restored: me.node.incarnation,
            rejoined: false,
        }
    }

    /// This node.
    pub fn me(&self) -> NodeId {
        self.me.node
    }

    /// All live nodes but this one, and what they say about themselves.
    pub fn members(&self) -> impl Iterator<Item = (&NodeId, &NodeInfo)> {
        self.table.told()
    }

    /// Whether that start of that node is alive.
    pub fn alive(&self, node: &NodeId) -> bool {
        self.table.is_told(node)
    }

    /// Live nodes but this one which carry the directory.
    pub fn carriers<'a>(&'a self, directory: &'a str) -> impl Iterator<Item = &'a NodeId> {
        self.members().filter(move |(_, info)| carries(info, directory)).map(|(node, _)| node)
    }

    /// Nodes which carried the directory when they were last up: since when they are down, and whether they have left.
    pub fn down<'a>(&'a self, directory: &'a str) -> impl Iterator<Item = (&'a NodeId, &'a NodeInfo, Time, bool)> {
        self.table.down().filter_map(move |(entry, since, left)| {
            let info = entry.values.last_info().filter(|info| carries(info, directory))?;
            Some((&entry.id.node, info, since, left))
        })
    }

    /// Live nodes at which somebody waits for a change of the path.
    pub fn watchers<'a>(&'a self, path: &'a VPath) -> impl Iterator<Item = (&'a NodeId, &'a Rank)> {
        self.table.watchers(path)
    }

    /// Datagrams that weren't taken so far.
    pub fn dropped(&self) -> Dropped {
        self.channel.dropped
    }

    /// Reports that wait for their acknowledgement.
    pub fn reports_pending(&self) -> usize {
        self.reports.len()
    }

    /// Directories of this node that the others aren't told of, because they are too many.
    pub fn directories_left_out(&self) -> usize {
        self.directories_left_out
    }

    /// A page of all members, from the cursor on (0: the beginning), and the cursor of the next page, if there is one.
    ///
    /// Members that come or go between two pages may be passed over, or told of twice.
    pub fn members_page(&self, cursor: u64) -> (Bytes, Option<u64>) {
        let me = PageEntry { member: Member::new(self.me, 0, State::Alive), values: self.values.whole() };
        let others = self.table.entries().map(|entry| PageEntry {
            member: Member::new(entry.id, entry.swim, state(entry)),
            values: if entry.life == Life::Up || entry.values.is_left() { entry.values.whole() } else { Vec::new() },
        });
        let all = std::iter::once(me).chain(others);
        let mut page = PageWriter::default();
        for (cursor, entry) in (cursor..).zip(all.skip(usize::try_from(cursor).unwrap_or(usize::MAX))) {
            if !page.push(&entry) {
                return (page.finish(), Some(cursor));
            }
        }
        (page.finish(), None)
    }

    fn start(&mut self, now: Now) {
        self.phase = Phase::Running;
        // Nodes that start together don't go on together.
        let jitter = limits::PULSE_INTERVAL.mul_f64(below(1_000, &mut self.random) as f64 / 1_000.0);
        self.pulses.next = now.time + jitter;
        self.join.next = now.time;
        self.spread(values::ABOUT);
    }

    /// Passes a value of this node on.
    fn spread(&mut self, slot: u32) {
        for part in self.values.parts(self.me, slot) {
            self.flood.add(part);
        }
    }

    fn set_peers(&mut self, now: Now, mut peers: Vec<SocketAddr>) {
        peers.retain(|peer| is_address(*peer));
        peers.truncate(limits::PEER_ADDRESSES_MAX);
        self.channel.list(&peers);
        self.join.set_peers(now.time, peers);
        let gone: Vec<_> = self.table.up_ids().filter(|id| !self.channel.allows(id.node.address)).collect();
        self.swim.learn(gone.into_iter().map(Member::down), false);
    }

    fn become_start(&mut self, incarnation: u64) {
        if incarnation <= self.me.node.incarnation {
            return;
        }
        self.me = MemberId { node: NodeId { incarnation, ..self.me.node }, renewal: 0 };
        self.restored = self.restored.max(incarnation);
        self.swim.become_start(self.me);
        for slot in self.values.slots_in_turn() {
            self.spread(slot);
        }
    }
}

impl Engine for Gossip {
    type Input = Input;
    type Effect = Effect;

    fn handle(&mut self, now: Now, input: Input, outbox: &mut Outbox<Effect>) {
        if self.phase == Phase::Left {
            return;
        }
        match input {
            Input::Start => self.start(now),
            Input::Datagram { from, data } if self.phase == Phase::Running => self.datagram(now, from, &data, outbox),
            Input::Datagram { .. } => {}
            Input::Peers(peers) => self.set_peers(now, peers),
            Input::Info(info) if info == self.info => {}
            Input::Info(info) => {
                let (slot, left_out) = self.values.about(&info);
                (self.info, self.directories_left_out) = (info, left_out);
                self.spread(slot);
            }
            Input::Heads { directory, fingerprint, urgent } => {
                self.pulses.set(now.time, directory, fingerprint, urgent);
                self.urgent_pulse(now, outbox);
            }
            Input::NoHeads { directory } => self.pulses.remove(&directory),
            Input::Watch { path, change, on } => {
                if let Some(slot) = self.values.watch(path, change, on) {
                    self.spread(slot);
                }
            }
            Input::SendReport { to, number, body } => {
                if self.alive(&to) && self.reports.add(now.time, to, number, body) {
                    self.report(now, outbox);
                }
            }
            Input::DropReport { to, number } => drop(self.reports.remove(&to, number)),
            Input::AckReport { to, number } => {
                if let Some(to) = self.table.get(&to).filter(|entry| entry.id.node == to).map(|entry| entry.id) {
                    self.say(now, to, &Item::Ack { number }, outbox);
                }
            }
            Input::Members { page, last } => self.take_page(now, &page, last, outbox),
            Input::MembersFailed => self.join.fetch_failed(now.time),
            Input::Incarnation(incarnation) => self.become_start(incarnation),
            Input::Leave => self.leave(now, outbox),
        }
        self.settle(now, outbox);
    }

    /// Every input may change it.
    fn deadline(&self) -> Option<(Time, &'static str)> {
        if self.phase != Phase::Running {
            return None;
        }
        let mut all = [
            self.swim.deadline().map(|due| (due, "probes and suspicions")),
            self.flood_next.map(|due| (due, "something to pass on")),
            Some((self.pulses.next, "the next pulse")),
            self.pulses.urgent.map(|due| (due, "a head has changed")),
            self.reports.deadline().map(|due| (due, "a report isn't acknowledged")),
            Some((self.join.next, "peers to call")),
            (self.table.up_count() > 0).then(|| (self.join.fetch_deadline(), "all members to ask for")),
            self.table.deadline().map(|due| (due, "members to forget")),
        ];
        all.sort_unstable();
        all.into_iter().flatten().next()
    }

    fn handle_timeout(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        if self.phase != Phase::Running {
            return;
        }
        self.swim.time_out(now.time);
        self.settle(now, outbox);
        self.table.time_out(now.time, outbox);
        self.urgent_pulse(now, outbox);
        if self.pulses.next <= now.time {
            self.pulses.next = now.time + limits::PULSE_INTERVAL;
            self.pulse(now, 1, outbox);
            self.ask_silent(now, outbox);
            if let Some(peers) = self.join.is_alone(now.time, &self.me.node, self.table.up_count()) {
                outbox.push(Effect::Alone { peers });
            }
        }
        if self.flood_next.is_some_and(|due| due <= now.time) {
            (self.flood_next, self.flood_last) = (None, Some(now.time));
            self.swim.gossip();
        }
        self.report(now, outbox);
        if self.join.next <= now.time {
            for address in self.join.call(now.time, self.me.node.address, &self.table, &mut self.random) {
                self.swim.announce(address);
            }
        }
        if self.table.up_count() > 0 && self.join.fetch_deadline() <= now.time {
            self.fetch(now, outbox);
        }
        self.settle(now, outbox);
    }
}

fn carries(info: &NodeInfo, directory: &str) -> bool {
    info.directories.binary_search_by(|name| (**name).cmp(directory)).is_ok()
}

fn state(entry: &Entry) -> State {
    match entry.life {
        Life::Up if entry.suspected => State::Suspect,
        Life::Up => State::Alive,
        Life::Down { .. } => State::Down,
    }
}
