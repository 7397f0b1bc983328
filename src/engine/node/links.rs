//! Connections between nodes: made when there is a need, proven with the cluster's key, closed when idle.
//!
//! Who connects says who it is; both prove that they know the key. Without a key, addresses of `peers.txt` are believed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::connections::{Asked, Standing};
use super::messages::notify;
use super::{Effect, Node, Note};
use crate::engine::contract::{Outbox, earlier};
use crate::format::proof::{self, Greeting, Role};
use crate::format::wire::{Message, NodeRequest, NodeResponse, Notice, Notification, Proof, Request, Response};
use crate::model::ids::ImageId;
use crate::model::limits;
use crate::model::peer::{ClusterKey, ConnectionId, NodeId, ProtocolVersion};
use crate::model::time::{Now, Time};

/// What a connection to another node is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Need {
    /// All members that it knows.
    Members,
    /// Comparing heads.
    CatchUp,
    /// Blocks of an image, in both directions.
    Image(ImageId),
}

/// A node at the other end.
#[derive(Debug)]
pub(super) struct NodeLink {
    pub(super) node: NodeId,
    /// Whether this side made the connection, and so closes it.
    dialed: bool,
    /// When anything was last said on it.
    pub(super) used: Time,
    needs: BTreeSet<Need>,
    /// Images in which the other side takes part.
    part: BTreeSet<ImageId>,
}

impl NodeLink {
    /// Whether either side gets or gives blocks of the image here.
    pub(super) fn is_about(&self, image: ImageId) -> bool {
        self.part.contains(&image) || self.needs.contains(&Need::Image(image))
    }

    pub(super) fn takes_part(&mut self, image: ImageId) {
        if self.part.len() < limits::PUBLISHED_PER_CONNECTION_MAX {
            self.part.insert(image);
        }
    }

    pub(super) fn forget(&mut self, image: ImageId) {
        self.part.remove(&image);
    }
}

/// What both sides chose so far.
#[derive(Debug)]
pub(super) struct Greet {
    nonce: [u8; 32],
    /// The other's id and nonce, on the side that was connected to.
    other: Option<(NodeId, [u8; 32])>,
}

/// Connections to nodes that are being made, and what makes one believed.
#[derive(Debug)]
pub(super) struct Links {
    pub(super) me: NodeId,
    key: Option<ClusterKey>,
    trusted: BTreeSet<IpAddr>,
    random: ChaCha8Rng,
    dialing: BTreeMap<SocketAddr, Dial>,
}

#[derive(Debug)]
struct Dial {
    since: Time,
    needs: BTreeSet<Need>,
}

impl Links {
    pub(super) fn new(me: NodeId, key: Option<ClusterKey>, seed: u64) -> Self {
        let random = ChaCha8Rng::seed_from_u64(seed);
        Self { me, key, trusted: BTreeSet::new(), random, dialing: BTreeMap::new() }
    }

    pub(super) fn trust(&mut self, peers: &[SocketAddr]) {
        self.trusted = peers.iter().map(SocketAddr::ip).collect();
    }

    fn nonce(&mut self) -> [u8; 32] {
        let mut nonce = [0; 32];
        self.random.fill_bytes(&mut nonce);
        nonce
    }

    fn deadline(&self) -> Option<(Time, &'static str)> {
        let oldest = self.dialing.values().map(|dial| dial.since).min();
        oldest.map(|since| (since + limits::NODE_LINK_TIMEOUT, "links: a node doesn't answer"))
    }
}

impl Node {
    /// A connection to a node is needed. Ends in [`Node::linked`] or [`Node::unlinked`].
    pub(super) fn link(&mut self, now: Now, to: SocketAddr, need: Need, outbox: &mut Outbox<Effect>) {
        let existing = self.connections.node_at(to);
        if let Some(connection) = existing {
            if let Some(link) = self.connections.link_mut(connection) {
                link.needs.insert(need);
                link.used = now.time;
            }
            return self.linked(now, connection, need, outbox);
        }
        if to == self.links.me.address || self.links.dialing.len() >= limits::NODE_DIALS_MAX {
            return self.unlinked(now, to, need, outbox);
        }
        if let Some(dial) = self.links.dialing.get_mut(&to) {
            dial.needs.insert(need);
            return;
        }
        self.links.dialing.insert(to, Dial { since: now.time, needs: BTreeSet::from([need]) });
        outbox.push(Effect::Connect { address: to });
    }

    /// The need has gone.
    pub(super) fn release(&mut self, connection: ConnectionId, need: Need) {
        if let Some(link) = self.connections.link_mut(connection) {
            link.needs.remove(&need);
        }
    }

    /// A connection that this node asked for is there.
    pub(super) fn dialed(
        &mut self,
        now: Now,
        connection: ConnectionId,
        to: SocketAddr,
        version: ProtocolVersion,
        outbox: &mut Outbox<Effect>,
    ) {
        if version == ProtocolVersion::V1 || !self.links.dialing.contains_key(&to) {
            outbox.push(Effect::Close { connection, reason: "not needed".to_owned() });
            return self.dial_failed(now, to, "it speaks ciruela.v1 only", outbox);
        }
        let nonce = self.links.nonce();
        self.connections.stand(connection, Standing::Greeting(Greet { nonce, other: None }));
        let request = Request::Node(NodeRequest::Hello { node: self.links.me, nonce });
        self.request(connection, request, Asked::NodeHello, outbox);
    }

    /// There will be no connection.
    pub(super) fn dial_failed(&mut self, now: Now, to: SocketAddr, reason: &str, outbox: &mut Outbox<Effect>) {
        let Some(dial) = self.links.dialing.remove(&to) else { return };
        outbox.push(Effect::Note(Note::NodeUnreachable { address: to, reason: reason.to_owned() }));
        for need in dial.needs {
            self.unlinked(now, to, need, outbox);
        }
    }

    /// A node says who it is.
    pub(super) fn node_greets(
        &mut self,
        now: Now,
        connection: ConnectionId,
        request: u64,
        (node, theirs): (NodeId, [u8; 32]),
        outbox: &mut Outbox<Effect>,
    ) {
        let nonce = self.links.nonce();
        let greeting = Greeting { opener: node, opener_nonce: theirs, acceptor: self.links.me, acceptor_nonce: nonce };
        let proof = self.links.key.as_ref().map(|key| proof::prove(key, Role::Acceptor, &greeting));
        let response = Response::Node(NodeResponse::Hello { node: self.links.me, nonce, proof });
        self.respond(connection, request, response, outbox);
        self.connections.stand(connection, Standing::Greeting(Greet { nonce, other: Some((node, theirs)) }));
        let from = self.connections.remote(connection);
        if self.links.key.is_none() && from.is_some_and(|from| self.links.trusted.contains(&from.ip())) {
            self.proven(now, connection, node, false);
        }
    }

    /// The node that was connected to says who it is.
    pub(super) fn node_answers(
        &mut self,
        now: Now,
        connection: ConnectionId,
        (node, theirs): (NodeId, [u8; 32]),
        given: Option<Proof>,
        outbox: &mut Outbox<Effect>,
    ) {
        let Some((Standing::Greeting(greet), Some(to))) = self.connections.standing(connection) else { return };
        let greeting =
            Greeting { opener: self.links.me, opener_nonce: greet.nonce, acceptor: node, acceptor_nonce: theirs };
        let right = match (&self.links.key, given) {
            (Some(key), Some(given)) => proof::verify(key, Role::Acceptor, &greeting, &given),
            (None, None) => self.links.trusted.contains(&to.ip()),
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !right || node.address == self.links.me.address {
            let reason = match (&self.links.key, given) {
                (Some(_), Some(_)) => "its cluster.key is another one",
                (Some(_), None) => "it has no cluster.key",
                (None, Some(_)) => "it has a cluster.key, this node has none",
                (None, None) => "its address isn't in peers.txt",
            };
            outbox.push(Effect::Close { connection, reason: reason.to_owned() });
            return self.dial_failed(now, to, reason, outbox);
        }
        if let Some(key) = &self.links.key {
            let proof = proof::prove(key, Role::Opener, &greeting);
            notify(connection, Notification::Cluster(Notice::NodeProof { proof }), outbox);
        }
        let needs = self.links.dialing.remove(&to).map(|dial| dial.needs).unwrap_or_default();
        self.proven(now, connection, node, true);
        for need in needs {
            if let Some(link) = self.connections.link_mut(connection) {
                link.needs.insert(need);
            }
            self.linked(now, connection, need, outbox);
        }
    }

    /// The node that connected proves that it knows the key.
    pub(super) fn node_proves(
        &mut self,
        now: Now,
        connection: ConnectionId,
        given: &Proof,
        outbox: &mut Outbox<Effect>,
    ) {
        let Some((Standing::Greeting(greet), None)) = self.connections.standing(connection) else { return };
        let (Some((node, theirs)), Some(key)) = (greet.other, &self.links.key) else { return };
        let greeting =
            Greeting { opener: node, opener_nonce: theirs, acceptor: self.links.me, acceptor_nonce: greet.nonce };
        if proof::verify(key, Role::Opener, &greeting, given) {
            self.proven(now, connection, node, false);
        } else {
            let reason = "you don't know this cluster's key".to_owned();
            outbox.push(Effect::Close { connection, reason });
        }
    }

    fn proven(&mut self, now: Now, connection: ConnectionId, node: NodeId, dialed: bool) {
        let link = NodeLink { node, dialed, used: now.time, needs: BTreeSet::new(), part: BTreeSet::new() };
        self.connections.stand(connection, Standing::Node(link));
    }

    /// A connection of either kind is gone.
    pub(super) fn link_lost(&mut self, now: Now, lost: super::connections::Lost, outbox: &mut Outbox<Effect>) {
        match (lost.standing, lost.dialed) {
            (Standing::Greeting(_) | Standing::Public, Some(to)) => {
                self.dial_failed(now, to, "it closed the connection while being greeted", outbox);
            }
            (Standing::Node(link), _) => {
                let broken = || Err("the connection broke".to_owned());
                for asked in lost.asked {
                    if let Asked::CatchUp(session) = asked {
                        self.catch_up_answered(now, session, broken(), outbox);
                    }
                }
                for need in link.needs {
                    self.unlinked(now, link.node.address, need, outbox);
                }
            }
            (Standing::Greeting(_) | Standing::Public, None) => {}
        }
    }

    pub(super) fn links_deadline(&self) -> Option<(Time, &'static str)> {
        let idle = self.connections.links().filter(|(_, link)| link.dialed && link.needs.is_empty());
        let idle =
            idle.map(|(_, link)| (link.used + limits::NODE_LINK_IDLE_TIMEOUT, "links: nobody needs a connection"));
        earlier(self.links.deadline(), idle.min_by_key(|(at, _)| *at))
    }

    pub(super) fn links_timeout(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        let silent = |dial: &Dial| dial.since + limits::NODE_LINK_TIMEOUT <= now.time;
        let late: Vec<_> =
            self.links.dialing.iter().filter(|(_, dial)| silent(dial)).map(|(address, _)| *address).collect();
        for address in late {
            if let Some(connection) = self.connections.greeting_to(address) {
                outbox.push(Effect::Close { connection, reason: "you don't say who you are".to_owned() });
            }
            self.dial_failed(now, address, "it didn't say who it is in time", outbox);
        }
        let idle: Vec<_> = self
            .connections
            .links()
            .filter(|(_, link)| link.dialed && link.needs.is_empty())
            .filter(|(_, link)| link.used + limits::NODE_LINK_IDLE_TIMEOUT <= now.time)
            .map(|(connection, _)| connection)
            .collect();
        for connection in idle {
            // Once only: its end is on the way.
            if let Some(link) = self.connections.link_mut(connection) {
                link.dialed = false;
            }
            outbox.push(Effect::Close { connection, reason: "nothing to do".to_owned() });
        }
    }

    /// Sends a request of this node's own.
    pub(super) fn request(
        &mut self,
        connection: ConnectionId,
        request: Request,
        asked: Asked,
        outbox: &mut Outbox<Effect>,
    ) {
        if let Some(id) = self.connections.asking(connection, asked) {
            outbox.push(Effect::Send { connection, message: Message::Request { id, request } });
        }
    }
}
