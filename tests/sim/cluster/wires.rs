//! Who hears whom: streams between clients and nodes and among nodes, and datagrams.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use ciruela::engine::node::{End, Input};
use ciruela::engine::upload;
use ciruela::format::wire::{self, Message, Response, VerdictWord};
use ciruela::model::limits;
use ciruela::model::peer::{ConnectionId, ProtocolVersion};

use super::network::{Fate, Lane};
use super::world::{Happening, World};

/// One end of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Party {
    Client(usize),
    /// A machine, between two boots.
    Node {
        machine: usize,
        boot: u64,
    },
}

/// A stream: each end with what it sends.
pub(super) struct Stream {
    ends: [(Party, Lane); 2],
}

impl Stream {
    fn other(&self, party: Party) -> Option<Party> {
        let [(one, _), (other, _)] = self.ends;
        if one == party { Some(other) } else { (other == party).then_some(one) }
    }

    pub(super) fn is_of(&self, concerned: impl Fn(Party) -> bool) -> bool {
        self.ends.iter().any(|(party, _)| concerned(*party))
    }
}

/// Where a machine is found.
pub(super) fn address(machine: usize) -> SocketAddr {
    let number = u8::try_from(machine + 1).expect("few machines");
    ([10, 0, 0, number], limits::DEFAULT_PORT).into()
}

impl World {
    fn machine_at(&self, address: SocketAddr) -> Option<usize> {
        (0..self.machines.len()).find(|machine| super::wires::address(*machine) == address)
    }

    pub(super) fn node(&self, machine: usize) -> Party {
        Party::Node { machine, boot: self.machines[machine].boot }
    }

    /// The network falls apart: the machines before this one, and the clients that know of them, hear nothing of the others.
    pub(super) fn split(&mut self, first: usize) {
        self.split = Some(first);
        let is_cut = |stream: &Stream| self.is_cut(stream.ends[0].0, stream.ends[1].0);
        let cut: Vec<_> = self.streams.iter().filter(|(_, stream)| is_cut(stream)).map(|(id, _)| *id).collect();
        for connection in cut {
            self.break_stream(connection, "the network fell apart");
        }
    }

    /// It is one again.
    pub(super) fn heal(&mut self) {
        self.split = None;
    }

    fn is_cut(&self, one: Party, other: Party) -> bool {
        let machine = |party| match party {
            Party::Node { machine, .. } => machine,
            Party::Client(client) => self.clients[client].entries.as_ref().map_or(0, |entries| entries[0]),
        };
        self.split.is_some_and(|first| (machine(one) < first) != (machine(other) < first))
    }

    fn join(&mut self, one: Party, other: Party) -> ConnectionId {
        self.sequence += 1;
        let connection = ConnectionId(self.sequence);
        let ends = [one, other].map(|party| (party, Lane::default()));
        self.streams.insert(connection, Stream { ends });
        connection
    }

    /// A client connects.
    pub(super) fn connect(&mut self, client: usize, address: SocketAddr) {
        let delay = self.conditions.delay * 2;
        let there = self.machine_at(address).filter(|machine| self.machines[*machine].running.is_some());
        let there = there.filter(|there| !self.is_cut(Party::Client(client), self.node(*there)));
        let Some(machine) = there else {
            let input = upload::Input::ConnectFailed { address, reason: "nothing listens there".to_owned() };
            return self.after(delay, Happening::ToClient { client, input: Box::new(input) });
        };
        let connection = self.join(Party::Client(client), self.node(machine));
        let version = ProtocolVersion::V2;
        self.tell_client(client, upload::Input::Connected { address, connection, version });
        let end = End::Accepted { from: SocketAddr::from(([10, 0, 9, 9], 9)) };
        self.tell_node(machine, Input::Connected { connection, version, end });
    }

    /// A node's attempt to connect to another one has arrived there.
    pub(super) fn dial(&mut self, machine: usize, to: SocketAddr) {
        let there = self.machine_at(to).filter(|there| *there != machine && self.machines[*there].running.is_some());
        let broken = self.random.below(1_000) < self.conditions.breaks_permille;
        let there = there.filter(|there| !broken && !self.is_cut(self.node(machine), self.node(*there)));
        let Some(there) = there else {
            let reason = "nothing listens there".to_owned();
            return self.tell_node(machine, Input::NotConnected { address: to, reason });
        };
        let connection = self.join(self.node(machine), self.node(there));
        let version = ProtocolVersion::V2;
        // The opener's port is any.
        let from = SocketAddr::new(address(machine).ip(), 40_000);
        self.tell_node(there, Input::Connected { connection, version, end: End::Accepted { from } });
        // Telling the one may have ended the other.
        if self.streams.contains_key(&connection) {
            self.tell_node(machine, Input::Connected { connection, version, end: End::Dialed { to } });
        }
    }

    pub(super) fn send_datagram(&mut self, machine: usize, to: SocketAddr, data: &Bytes) {
        let there = self.machine_at(to).filter(|there| !self.is_cut(self.node(machine), self.node(*there)));
        let Some(there) = there else { return };
        for at in self.conditions.send_datagram(self.now, &mut self.random) {
            let datagram = Happening::Datagram { to: there, from: address(machine), data: data.clone() };
            self.after(at.saturating_sub(self.now), datagram);
        }
    }

    /// A party says something, unless the stream is gone.
    pub(super) fn send(&mut self, from: Party, connection: ConnectionId, message: Message) {
        self.note_acknowledged(from, &message);
        let bytes = wire::encode(&message).expect("it can be sent").len();
        let Some(stream) = self.streams.get_mut(&connection) else { return };
        let Some(to) = stream.other(from) else { return };
        let Some((_, lane)) = stream.ends.iter_mut().find(|(party, _)| *party == from) else { return };
        let fate = self.conditions.send(self.now, lane, bytes, &mut self.random);
        match fate {
            Fate::Arrives(at) => {
                self.after(
                    at.saturating_sub(self.now),
                    Happening::Arrives { to, connection, message: Box::new(message) },
                );
            }
            Fate::Breaks(at) => self.after(at.saturating_sub(self.now), Happening::Break { connection }),
        }
    }

    /// What a node told a client, it must remember.
    fn note_acknowledged(&mut self, from: Party, message: &Message) {
        if let (Party::Node { machine, .. }, Message::Response { response: Response::SubmitChange(answer), .. }) =
            (from, message)
            && matches!(answer.verdict, VerdictWord::Accept | VerdictWord::Have)
        {
            let id = self.machines[machine].host.machine_id;
            self.acknowledged.insert((id, self.path.clone()));
        }
    }

    pub(super) fn arrived(&mut self, to: Party, connection: ConnectionId, message: Message) {
        if !self.streams.contains_key(&connection) {
            return;
        }
        match (to, message) {
            (Party::Node { machine, .. }, message) => self.tell_node(machine, Input::Message { connection, message }),
            (Party::Client(client), Message::Request { id, request }) => {
                let answer = self.clients[client].serve(id, &request, &mut self.random);
                self.send(to, connection, answer);
            }
            (Party::Client(client), message) => {
                self.tell_client(client, upload::Input::Message { connection, message });
            }
        }
    }

    /// Both ends hear of it.
    pub(super) fn break_stream(&mut self, connection: ConnectionId, reason: &str) {
        let Some(Stream { ends }) = self.streams.remove(&connection) else { return };
        let delay = self.conditions.delay;
        for (party, _) in ends {
            let happening = match party {
                Party::Node { machine, boot } => {
                    Happening::ToNode { machine, boot, input: Box::new(Input::Disconnected { connection }) }
                }
                Party::Client(client) => {
                    let input = upload::Input::Disconnected { connection, reason: reason.to_owned() };
                    Happening::ToClient { client, input: Box::new(input) }
                }
            };
            self.after(delay, happening);
        }
    }

    pub(super) fn break_all(&mut self, concerned: impl Fn(Party) -> bool, reason: &str) {
        let streams = self.streams.iter().filter(|(_, stream)| stream.is_of(&concerned));
        for connection in streams.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.break_stream(connection, reason);
        }
    }

    /// All addresses, as in `peers.txt`.
    pub(super) fn peers(&self) -> Vec<SocketAddr> {
        (0..self.machines.len()).map(address).collect()
    }

    /// Least time from one machine to another and back.
    pub(super) fn round_trip(&self) -> Duration {
        self.conditions.delay * 2
    }
}
