//! The other nodes of the cluster: who they are, and what they ask and say. Carries out what `gossip` and `report` decide.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::Bytes;

use super::connections::Asked;
use super::links::Need;
use super::{Effect, Node, Note, Purpose, Row};
use crate::engine::catch_up;
use crate::engine::contract::{Engine, Outbox, earlier};
use crate::engine::gossip::{self, Gossip};
use crate::engine::report::{self, Reporting, Watching};
use crate::format::wire::{Hosts, NodeRequest, NodeResponse, Request};
use crate::model::address;
use crate::model::directory::NodeConfig;
use crate::model::limits;
use crate::model::peer::{ClusterKey, ConnectionId, Host, NodeId, NodeInfo};
use crate::model::time::{Now, Time};

/// What this node knows of the others.
pub(super) struct Cluster {
    pub(super) gossip: Gossip,
    pub(super) reporting: Reporting,
    pub(super) watching: Watching,
    /// What live members, this node too, say of themselves.
    infos: BTreeMap<NodeId, NodeInfo>,
    /// From which cursor on which member is asked for all that it knows.
    asking: Option<(SocketAddr, u64)>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("members", &self.infos.len()).finish_non_exhaustive()
    }
}

impl Cluster {
    pub(super) fn new(me: NodeId, info: NodeInfo, key: Option<&ClusterKey>, session: [u8; 16], seed: u64) -> Self {
        let mut watching = Watching::default();
        watching.member(me, &info, true);
        Self {
            gossip: Gossip::new(me, info.clone(), key, session, seed),
            reporting: Reporting::default(),
            watching,
            infos: BTreeMap::from([(me, info)]),
            asking: None,
        }
    }

    /// Where live members are which carry the directory, this node left out.
    pub(super) fn carriers(&self, directory: &str) -> Vec<SocketAddr> {
        self.gossip.carriers(directory).map(|node| node.address).collect()
    }

    /// Live members, this node among them.
    pub(super) fn size(&self) -> usize {
        self.infos.len()
    }

    /// The names of those at these addresses.
    pub(super) fn hosts(&self, addresses: &[SocketAddr]) -> Hosts {
        let there = self.infos.iter().filter(|(node, _)| addresses.contains(&node.address));
        there.map(|(node, info)| (node.machine_id, info.hostname.clone())).collect()
    }

    pub(super) fn deadline(&self) -> Option<(Time, &'static str)> {
        earlier(self.gossip.deadline(), self.reporting.deadline())
    }
}

/// What the others are told of this node.
pub(super) fn info(host: &Host, version: &str, config: &NodeConfig) -> NodeInfo {
    let directories = config.directories.keys().cloned().collect();
    NodeInfo { hostname: host.hostname.clone(), version: version.into(), directories }
}

impl Node {
    pub(super) fn gossip(&mut self, now: Now, input: gossip::Input, outbox: &mut Outbox<Effect>) {
        let mut inner = Outbox::new();
        self.cluster.gossip.handle(now, input, &mut inner);
        self.gossiped(now, inner, outbox);
    }

    fn report(&mut self, now: Now, input: report::Input, outbox: &mut Outbox<Effect>) {
        let mut inner = Outbox::new();
        self.cluster.reporting.handle(now, input, &mut inner);
        self.reported(now, inner, outbox);
    }

    fn reported(&mut self, now: Now, effects: Outbox<report::Effect>, outbox: &mut Outbox<Effect>) {
        for effect in effects {
            match effect {
                report::Effect::Send { to, number, replaces, body } => {
                    if let Some(number) = replaces {
                        self.gossip(now, gossip::Input::DropReport { to, number }, outbox);
                    }
                    self.gossip(now, gossip::Input::SendReport { to, number, body: body.into() }, outbox);
                }
                report::Effect::Forget { to, number } => {
                    self.gossip(now, gossip::Input::DropReport { to, number }, outbox);
                }
            }
        }
    }

    /// A change at a path that somebody may watch stands like this here.
    pub(super) fn tell_standing(&mut self, now: Now, input: report::Input, outbox: &mut Outbox<Effect>) {
        self.report(now, input, outbox);
    }

    fn gossiped(&mut self, now: Now, effects: Outbox<gossip::Effect>, outbox: &mut Outbox<Effect>) {
        for effect in effects {
            match effect {
                gossip::Effect::Send { to, data } => outbox.push(Effect::Datagram { to, data }),
                gossip::Effect::Up { node, info } => {
                    if !self.cluster.infos.contains_key(&node) {
                        outbox.push(Effect::Note(Note::NodeUp {
                            address: node.address,
                            hostname: info.hostname.clone(),
                        }));
                    }
                    self.cluster.watching.member(node, &info, true);
                    self.cluster.infos.insert(node, info);
                    self.neighbours_join(now);
                    self.watch.members_changed();
                }
                gossip::Effect::Down { node, left } => {
                    if let Some(info) = self.cluster.infos.remove(&node) {
                        let hostname = info.hostname.clone();
                        outbox.push(Effect::Note(Note::NodeDown { address: node.address, hostname, left }));
                        self.cluster.watching.member(node, &info, false);
                    }
                    self.watch.members_changed();
                    self.report(now, report::Input::Down { node }, outbox);
                    self.catch_up(now, catch_up::Input::Gone { node }, outbox);
                }
                gossip::Effect::Suspect { .. } => {}
                gossip::Effect::Differs { node, directory } => {
                    self.catch_up(now, catch_up::Input::Differs { node, directory }, outbox);
                }
                gossip::Effect::Watched { node, path, change, on } => {
                    let input = report::Input::Watched { node, path: path.clone(), change, on };
                    self.report(now, input, outbox);
                    if on {
                        self.published_again(now, &path, change.id, outbox);
                        self.stand(now, &path, outbox);
                    }
                }
                gossip::Effect::ReportReceived { from, number, body } => {
                    self.gossip(now, gossip::Input::AckReport { to: from, number }, outbox);
                    if let Some((path, change)) = self.cluster.watching.received(from, number, &body) {
                        self.heard(now, &path, change, from, outbox);
                    }
                }
                gossip::Effect::ReportAcked { from, number } => {
                    self.report(now, report::Input::Acked { node: from, number }, outbox);
                }
                gossip::Effect::FetchMembers { node } => {
                    self.cluster.asking = Some((node.address, 0));
                    self.link(now, node.address, Need::Members, outbox);
                }
                gossip::Effect::Restored { seen } => {
                    let incarnation = seen.saturating_add(1);
                    outbox.push(Effect::Note(Note::Restored { incarnation }));
                    let job = self.job(Purpose::Incarnation(incarnation));
                    outbox.push(Effect::Write { job, rows: vec![Row::Incarnation(incarnation)] });
                }
                gossip::Effect::Stranger { from } => outbox.push(Effect::Note(Note::Stranger { from })),
                gossip::Effect::Alone { peers } => outbox.push(Effect::Note(Note::Alone { peers })),
                gossip::Effect::Twin { node } => outbox.push(Effect::Note(Note::Twin { address: node.address })),
            }
        }
    }

    /// The higher incarnation is written down; if that failed, somebody will tell of it again.
    pub(super) fn incarnated(&mut self, now: Now, incarnation: u64, outbox: &mut Outbox<Effect>) {
        let me = self.links.me;
        if let Some(info) = self.cluster.infos.remove(&me) {
            self.links.me = NodeId { incarnation, ..me };
            self.cluster.watching.member(self.links.me, &info, true);
            self.cluster.infos.insert(self.links.me, info);
        }
        self.gossip(now, gossip::Input::Incarnation(incarnation), outbox);
    }

    /// What this node carries is another set of directories, or it has just started.
    pub(super) fn tell_info(&mut self, now: Now, before: Option<&NodeConfig>, outbox: &mut Outbox<Effect>) {
        let info = info(&self.host, self.version, &self.config);
        self.cluster.watching.member(self.links.me, &info, true);
        self.cluster.infos.insert(self.links.me, info.clone());
        self.gossip(now, gossip::Input::Info(info), outbox);
        let config = self.config.clone();
        let gone = before.into_iter().flat_map(|before| before.directories.keys());
        for directory in gone.filter(|directory| !config.directories.contains_key(*directory)) {
            self.gossip(now, gossip::Input::NoHeads { directory: directory.clone() }, outbox);
        }
        for directory in config.directories.keys() {
            self.tell_heads(now, directory, false, outbox);
        }
    }

    /// The heads of a directory are as they are now.
    pub(super) fn tell_heads(&mut self, now: Now, directory: &str, urgent: bool, outbox: &mut Outbox<Effect>) {
        if self.config.directories.contains_key(directory) {
            let fingerprint = self.catch_ups.fingerprint(directory);
            let input = gossip::Input::Heads { directory: directory.into(), fingerprint, urgent };
            self.gossip(now, input, outbox);
        }
    }

    /// Some members which carry a directory that this node doesn't.
    pub(super) fn elsewhere(&mut self, directory: &str) -> Vec<SocketAddr> {
        let carriers = self.cluster.carriers(directory);
        address::sample(&carriers, limits::REDIRECTS_MAX, self.neighbours.random())
    }

    /// There is a connection to the member that is to be asked for all that it knows.
    pub(super) fn members_linked(
        &mut self,
        connection: ConnectionId,
        address: SocketAddr,
        outbox: &mut Outbox<Effect>,
    ) {
        match self.cluster.asking {
            Some((whom, cursor)) if whom == address => {
                let request = NodeRequest::GetMembers { cursor };
                self.request(connection, Request::Node(request), Asked::Members, outbox);
            }
            _ => self.release(connection, Need::Members),
        }
    }

    /// There is none, or it doesn't answer.
    pub(super) fn members_failed(&mut self, now: Now, address: SocketAddr, outbox: &mut Outbox<Effect>) {
        if self.cluster.asking.take_if(|(whom, _)| *whom == address).is_some() {
            self.gossip(now, gossip::Input::MembersFailed, outbox);
        }
    }

    pub(super) fn members_came(
        &mut self,
        now: Now,
        connection: ConnectionId,
        address: SocketAddr,
        (page, next): (Bytes, Option<u64>),
        outbox: &mut Outbox<Effect>,
    ) {
        let Some((_, last)) = self.cluster.asking.filter(|(whom, _)| *whom == address) else { return };
        // A page that leads back would never end.
        let next = next.filter(|next| *next > last);
        self.gossip(now, gossip::Input::Members { page, last: next.is_none() }, outbox);
        self.cluster.asking = next.map(|next| (address, next));
        match next {
            Some(cursor) => {
                let request = NodeRequest::GetMembers { cursor };
                self.request(connection, Request::Node(request), Asked::Members, outbox);
            }
            None => self.release(connection, Need::Members),
        }
    }

    pub(super) fn members_page(&self, cursor: u64) -> NodeResponse {
        let (data, next) = self.cluster.gossip.members_page(cursor);
        NodeResponse::GetMembers { data, next }
    }

    pub(super) fn cluster_timeout(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        let mut inner = Outbox::new();
        self.cluster.gossip.handle_timeout(now, &mut inner);
        self.gossiped(now, inner, outbox);
        let mut inner = Outbox::new();
        self.cluster.reporting.handle_timeout(now, &mut inner);
        self.reported(now, inner, outbox);
    }
}
