//! Finding and reaching nodes: names, addresses, connections, and those that are lost.

use std::net::SocketAddr;

use super::follow::Followed;
use super::peer::{Link, Peer, Stage};
use super::{Effect, Event, Redirect, Uploads};
use crate::engine::contract::Outbox;
use crate::format::wire::Hosts;
use crate::model::address::{sample, split};
use crate::model::ids::MachineId;
use crate::model::limits;
use crate::model::peer::{ConnectionId, Host, ProtocolVersion};
use crate::model::time::Now;

impl Uploads {
    pub(super) fn resolve(&mut self, name: String, outbox: &mut Outbox<Effect>) {
        if self.resolving.insert(name.clone()) {
            outbox.push(Effect::Resolve { name });
        }
    }

    pub(super) fn resolved(
        &mut self,
        now: Now,
        name: String,
        result: Result<Vec<SocketAddr>, String>,
        outbox: &mut Outbox<Effect>,
    ) {
        if !self.resolving.remove(&name) {
            return;
        }
        match result {
            Ok(found) => {
                let (addresses, spare) = split(&found, self.rules.initial_connections, &mut self.random);
                let count = addresses.len() + spare.len();
                self.spare.extend(spare);
                outbox.push(Effect::Event(Event::Chosen { name, found: count, addresses: addresses.clone() }));
                for address in addresses {
                    self.add_peer(now, address, outbox);
                }
            }
            Err(reason) => {
                outbox.push(Effect::Event(Event::NotResolved { name: name.clone(), reason: reason.clone() }));
                self.unresolved.insert(name, reason);
                self.follow_redirects(now, outbox);
            }
        }
    }

    fn add_peer(&mut self, now: Now, address: SocketAddr, outbox: &mut Outbox<Effect>) -> bool {
        let known = self.peers.contains_key(&address) || self.twins.contains(&address);
        if known || self.peers.len() >= limits::CLIENT_PEERS_MAX {
            return false;
        }
        self.peers.insert(address, Peer::new(now.time, address, self.intents.len()));
        outbox.push(Effect::Connect { address });
        true
    }

    /// Nodes that can be spoken to and may carry something.
    fn reached(&self) -> usize {
        let carries = |peer: &Peer| peer.stages.iter().any(|stage| *stage != Stage::NotHere);
        self.peers.values().filter(|peer| matches!(peer.link, Link::Up { .. }) && carries(peer)).count()
    }

    /// An address that was chosen is of no use: another one of the cluster may do better, while too few have been reached.
    pub(super) fn replace_with_spare(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        if self.reached() >= self.rules.initial_connections {
            return;
        }
        while let Some(spare) = self.spare.pop() {
            if self.add_peer(now, spare, outbox) {
                return;
            }
        }
        if let Some(address) = self.stand_in()
            && self.add_peer(now, address, outbox)
        {
            self.stand_ins += 1;
        }
    }

    /// A node that others told of, to be connected to because too few others can be spoken to.
    fn stand_in(&mut self) -> Option<SocketAddr> {
        if self.stand_ins >= limits::STAND_INS_MAX || !self.needs_tellers() {
            return None;
        }
        let connected = |machine: &MachineId| {
            let is_it = |peer: &&Peer| peer.host.as_ref().is_some_and(|host| host.machine_id == *machine);
            self.peers.values().filter(|peer| matches!(peer.link, Link::Up { .. })).any(|peer| is_it(&peer))
        };
        let known = |address: &SocketAddr| self.peers.contains_key(address) || self.twins.contains(address);
        let rows = self.followed.iter().flat_map(Followed::rows);
        let fit = rows.filter(|(key, row)| row.alive && !known(&key.0) && !connected(&key.1));
        let addresses: Vec<_> = fit.map(|(key, _)| key.0).collect();
        sample(&addresses, 1, &mut self.random).pop()
    }

    /// Whether somebody must be connected who tells how the other nodes fare.
    pub(super) fn needs_tellers(&self) -> bool {
        self.followed.iter().any(|followed| !followed.is_settled())
    }

    /// Whether nobody is left who could tell how the others fare.
    pub(super) fn is_stranded(&self) -> bool {
        let gone = |peer: &Peer| peer.is_down() || peer.link == Link::Closed;
        let stranded = |upload: usize| self.peers.values().all(|peer| gone(peer) || peer.stages[upload].is_denied());
        let mut open = (0..self.intents.len()).filter(|upload| !self.followed[*upload].is_settled());
        self.needs_tellers() && self.resolving.is_empty() && open.all(stranded)
    }

    pub(super) fn connected(
        &mut self,
        now: Now,
        address: SocketAddr,
        connection: ConnectionId,
        version: ProtocolVersion,
        outbox: &mut Outbox<Effect>,
    ) {
        let Some(peer) = self.peers.get_mut(&address).filter(|peer| peer.link == Link::Connecting) else {
            outbox.push(Effect::Close { connection });
            return;
        };
        if version == ProtocolVersion::V1 {
            peer.give_up(now.time, ProtocolVersion::TOO_OLD);
            outbox.push(Effect::Close { connection });
            outbox.push(Effect::Event(peer.unreachable()));
            self.replace_with_spare(now, outbox);
            return;
        }
        peer.link = Link::Greeting { connection };
        self.by_connection.insert(connection, address);
    }

    pub(super) fn hello(&mut self, now: Now, connection: ConnectionId, host: Host, outbox: &mut Outbox<Effect>) {
        let Some(address) = self.by_connection.get(&connection).copied() else { return };
        let others = || self.peers.values().filter(|peer| peer.address != address);
        let same_id = |other: &Host| other.machine_id == host.machine_id && other.hostname != host.hostname;
        if let Some(other) = others().find(|peer| peer.host.as_ref().is_some_and(same_id)) {
            outbox.push(Effect::Event(Event::SameId { address, of: other.address, host: host.clone() }));
        }
        if let Some(twin) = others().find(|peer| peer.host.as_ref() == Some(&host)) {
            let of = twin.address;
            if matches!(twin.link, Link::Up { .. }) || twin.is_final() {
                self.drop_twin(connection, address, of, host, outbox);
                self.replace_with_spare(now, outbox);
                self.follow_redirects(now, outbox);
                return;
            }
            // The machine is out of reach there: go on here.
            let (stages, before) = (twin.stages.clone(), twin.before.clone());
            self.drop_peer(of, outbox);
            if let Some(peer) = self.peers.get_mut(&address) {
                (peer.stages, peer.before) = (stages, before);
                peer.host = Some(host.clone());
            }
        }
        let Some(peer) = self.peers.get_mut(&address) else { return };
        peer.greeted(connection, host.clone());
        outbox.push(Effect::Event(Event::Connected { address, host }));
        self.submit(address, outbox);
        self.follow_redirects(now, outbox);
    }

    /// Another address of a host that is a peer already.
    fn drop_twin(
        &mut self,
        connection: ConnectionId,
        address: SocketAddr,
        of: SocketAddr,
        host: Host,
        outbox: &mut Outbox<Effect>,
    ) {
        self.peers.remove(&address);
        self.by_connection.remove(&connection);
        self.twins.insert(address);
        outbox.push(Effect::Close { connection });
        outbox.push(Effect::Event(Event::Twin { address, of, host }));
    }

    /// Its machine goes on by another address.
    fn drop_peer(&mut self, address: SocketAddr, outbox: &mut Outbox<Effect>) {
        let Some(peer) = self.peers.remove(&address) else { return };
        self.twins.insert(address);
        if let Link::Greeting { connection } | Link::Up { connection } = peer.link {
            self.by_connection.remove(&connection);
            outbox.push(Effect::Close { connection });
        }
    }

    pub(super) fn lost(&mut self, now: Now, address: SocketAddr, reason: &str, outbox: &mut Outbox<Effect>) {
        for followed in &mut self.followed {
            followed.lose(address);
        }
        let needed = self.needs_tellers();
        let Some(peer) = self.peers.get_mut(&address) else { return };
        if peer.link == Link::Closed {
            return;
        }
        if peer.failed(now.time, reason, needed) {
            outbox.push(Effect::Event(peer.unreachable()));
        }
        if peer.is_to_be_replaced() {
            self.replace_with_spare(now, outbox);
        }
    }

    /// Connects again to those whose pause is over, and calls those down that were silent for too long.
    pub(super) fn reach_timeout(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        let needed = self.needs_tellers();
        let mut silent = 0;
        for peer in self.peers.values_mut() {
            if peer.fell_silent(now.time) {
                outbox.push(Effect::Event(peer.unreachable()));
                if let Link::Greeting { connection } = peer.link {
                    self.by_connection.remove(&connection);
                    outbox.push(Effect::Close { connection });
                    let reason = peer.trouble().unwrap_or_default().to_owned();
                    peer.failed(now.time, &reason, needed);
                }
                silent += 1;
            }
            if matches!(peer.link, Link::Pausing { retry } if retry <= now.time) {
                peer.link = Link::Connecting;
                outbox.push(Effect::Connect { address: peer.address });
            }
        }
        // Each such round takes long: if it is needed at all, then with more at once.
        for _ in 0..if self.reached() == 0 { 2 * silent } else { 0 } {
            self.replace_with_spare(now, outbox);
        }
        self.follow_redirects(now, outbox);
    }

    /// A node named others which carry a directory that it doesn't carry itself.
    pub(super) fn redirect(&mut self, now: Now, hosts: Hosts, addresses: Vec<SocketAddr>, outbox: &mut Outbox<Effect>) {
        // Without addresses names must do.
        let names = if addresses.is_empty() { hosts } else { Hosts::new() };
        let is_peer = |machine_id: &MachineId| {
            self.peers.values().any(|peer| peer.host.as_ref().is_some_and(|host| host.machine_id == *machine_id))
        };
        let names = names.into_iter().filter(|(machine_id, _)| !is_peer(machine_id));
        let names = names.map(|(_, name)| Redirect::Name(name));
        let all: Vec<_> = addresses.into_iter().map(Redirect::Address).chain(names).take(limits::HOSTS_MAX).collect();
        for redirect in all {
            if self.redirected.insert(redirect.clone()) {
                self.redirects.push_back(redirect);
            }
        }
        self.follow_redirects(now, outbox);
    }

    /// Whether nodes have named others.
    pub(super) fn was_redirected(&self) -> bool {
        !self.redirected.is_empty()
    }

    /// 003-05: goes on until enough nodes carry each directory.
    pub(super) fn follow_redirects(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        while !self.redirects.is_empty() {
            let carriers = |upload: usize| {
                self.peers.values().filter(|peer| peer.stages[upload] != Stage::NotHere && !peer.is_down()).count()
            };
            let fewest = (0..self.intents.len()).map(carriers).min().unwrap_or(0);
            if fewest + self.resolving.len() >= self.rules.initial_connections {
                return;
            }
            match self.redirects.pop_front() {
                Some(Redirect::Name(name)) => self.resolve(name.into(), outbox),
                Some(Redirect::Address(address)) => _ = self.add_peer(now, address, outbox),
                None => {}
            }
        }
    }
}
