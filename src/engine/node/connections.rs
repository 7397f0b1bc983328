//! Who is connected, what is known of each, and which of our requests they have not answered.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::End;
use super::links::{Greet, NodeLink};
use crate::engine::catch_up::SessionId;
use crate::engine::fetch::Question;
use crate::model::ids::ImageId;
use crate::model::limits;
use crate::model::origins::{Supply, Way};
use crate::model::peer::{ConnectionId, NodeId, ProtocolVersion};
use crate::model::time::Now;
use crate::model::vpath::VPath;

/// All connections.
#[derive(Debug, Default)]
pub(super) struct Connections {
    by_id: BTreeMap<ConnectionId, Connection>,
}

/// What a response of the other end is an answer to.
#[derive(Debug, Clone)]
pub(super) enum Asked {
    /// Content.
    Content(Question),
    /// Who it is.
    NodeHello,
    /// Members, from a cursor on.
    Members,
    /// A question of catch-up, by its number.
    CatchUp(SessionId),
    /// A part of the index of a plan.
    Plan,
    /// What it says to changes at these paths.
    Proposed(Vec<VPath>),
}

/// What the other end is believed to be.
#[derive(Debug)]
pub(super) enum Standing {
    /// Anybody.
    Public,
    /// Says that it is a node.
    Greeting(Greet),
    /// Is a node of this cluster.
    Node(NodeLink),
}

/// What a connection was that is gone.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) standing: Standing,
    /// Where this node had connected to.
    pub(super) dialed: Option<SocketAddr>,
    pub(super) asked: Vec<Asked>,
}

#[derive(Debug)]
struct Connection {
    version: ProtocolVersion,
    end: End,
    standing: Standing,
    /// Images whose pieces it was told of.
    told: BTreeSet<ImageId>,
    published: BTreeSet<ImageId>,
    /// Images of well signed changes that it submitted.
    vouched: BTreeSet<ImageId>,
    asked: BTreeMap<u64, Asked>,
    last_request: u64,
    /// Requests being read from disk for it.
    serving: usize,
}

impl Connections {
    pub(super) fn add(&mut self, connection: ConnectionId, version: ProtocolVersion, end: End) {
        let fresh = Connection {
            version,
            end,
            standing: Standing::Public,
            told: BTreeSet::new(),
            published: BTreeSet::new(),
            vouched: BTreeSet::new(),
            asked: BTreeMap::new(),
            last_request: 0,
            serving: 0,
        };
        self.by_id.insert(connection, fresh);
    }

    pub(super) fn remove(&mut self, connection: ConnectionId) -> Option<Lost> {
        let gone = self.by_id.remove(&connection)?;
        Some(Lost { standing: gone.standing, dialed: gone.end.dialed(), asked: gone.asked.into_values().collect() })
    }

    /// Where the other end is found: a node where it listens, a client where it comes from.
    pub(super) fn who(&self, connection: ConnectionId) -> Option<SocketAddr> {
        self.node(connection).map(|node| node.address).or_else(|| self.remote(connection))
    }

    /// Where the other end is.
    pub(super) fn remote(&self, connection: ConnectionId) -> Option<SocketAddr> {
        self.by_id.get(&connection).map(|connection| match connection.end {
            End::Accepted { from } => from,
            End::Dialed { to } => to,
        })
    }

    /// What it has given.
    pub(super) fn supply(&self, connection: ConnectionId, bytes: u64) -> Supply {
        let (way, address) = match self.node(connection) {
            Some(node) => (Way::Node, Some(node.address)),
            None => (Way::Client, self.remote(connection)),
        };
        let from = address.map_or_else(|| "gone".to_owned(), |address| address.to_string());
        Supply { way, from: from.into(), bytes }
    }

    pub(super) fn stand(&mut self, connection: ConnectionId, standing: Standing) {
        if let Some(connection) = self.by_id.get_mut(&connection) {
            connection.standing = standing;
        }
    }

    /// With where this node had connected to.
    pub(super) fn standing(&self, connection: ConnectionId) -> Option<(&Standing, Option<SocketAddr>)> {
        self.by_id.get(&connection).map(|connection| (&connection.standing, connection.end.dialed()))
    }

    pub(super) fn node(&self, connection: ConnectionId) -> Option<NodeId> {
        match &self.by_id.get(&connection)?.standing {
            Standing::Node(link) => Some(link.node),
            Standing::Public | Standing::Greeting(_) => None,
        }
    }

    pub(super) fn link_mut(&mut self, connection: ConnectionId) -> Option<&mut NodeLink> {
        match &mut self.by_id.get_mut(&connection)?.standing {
            Standing::Node(link) => Some(link),
            Standing::Public | Standing::Greeting(_) => None,
        }
    }

    /// Connections to nodes of this cluster.
    pub(super) fn links(&self) -> impl Iterator<Item = (ConnectionId, &NodeLink)> {
        self.by_id.iter().filter_map(|(id, connection)| match &connection.standing {
            Standing::Node(link) => Some((*id, link)),
            Standing::Public | Standing::Greeting(_) => None,
        })
    }

    pub(super) fn node_at(&self, address: SocketAddr) -> Option<ConnectionId> {
        self.links().find(|(_, link)| link.node.address == address).map(|(id, _)| id)
    }

    /// The connection that was made to an address, and that isn't a node's yet.
    pub(super) fn greeting_to(&self, address: SocketAddr) -> Option<ConnectionId> {
        let is = |connection: &Connection| {
            matches!(connection.standing, Standing::Greeting(_)) && connection.end.dialed() == Some(address)
        };
        self.by_id.iter().find(|(_, connection)| is(connection)).map(|(id, _)| *id)
    }

    /// The number of a new request; `None` if the connection is gone.
    pub(super) fn asking(&mut self, connection: ConnectionId, asked: Asked) -> Option<u64> {
        let connection = self.by_id.get_mut(&connection)?;
        connection.last_request += 1;
        connection.asked.insert(connection.last_request, asked);
        Some(connection.last_request)
    }

    /// What was asked with the request which is answered now.
    pub(super) fn answered(&mut self, connection: ConnectionId, request: u64) -> Option<Asked> {
        self.by_id.get_mut(&connection)?.asked.remove(&request)
    }

    /// The other end offers an image; gives its version, and whether it vouches for the image. `None`: it offers too many.
    pub(super) fn offers(&mut self, connection: ConnectionId, image: ImageId) -> Option<(ProtocolVersion, bool)> {
        let connection = self.by_id.get_mut(&connection)?;
        let max = if connection.vouched.is_empty() {
            limits::PUBLISHED_BY_STRANGER_MAX
        } else {
            limits::PUBLISHED_PER_CONNECTION_MAX
        };
        if connection.published.len() >= max {
            return None;
        }
        connection.published.insert(image);
        Some((connection.version, connection.vouched.contains(&image)))
    }

    /// The other end vouches for an image; gives its version if that is new, and it offers the image.
    pub(super) fn vouches(&mut self, connection: ConnectionId, image: ImageId) -> Option<ProtocolVersion> {
        let connection = self.by_id.get_mut(&connection)?;
        let new = connection.vouched.len() < limits::PUBLISHED_PER_CONNECTION_MAX && connection.vouched.insert(image);
        (new && connection.published.contains(&image)).then_some(connection.version)
    }

    /// Whether the other end was not told yet of the pieces here; it is from now on.
    pub(super) fn tell_pieces(&mut self, connection: ConnectionId, image: ImageId) -> bool {
        let Some(connection) = self.by_id.get_mut(&connection) else { return false };
        connection.version == ProtocolVersion::V2
            && connection.told.len() < limits::PUBLISHED_PER_CONNECTION_MAX
            && connection.told.insert(image)
    }

    /// The other end is to be told of the pieces here again.
    pub(super) fn untell(&mut self, connection: ConnectionId, image: ImageId) {
        if let Some(connection) = self.by_id.get_mut(&connection) {
            connection.told.remove(&image);
        }
    }

    /// The node at the other end takes part in an image.
    pub(super) fn takes_part(&mut self, connection: ConnectionId, image: ImageId) {
        if let Some(link) = self.link_mut(connection) {
            link.takes_part(image);
        }
    }

    /// Who wants to know which pieces of an image are here.
    pub(super) fn participants(&self, image: ImageId) -> Vec<ConnectionId> {
        let takes_part = |connection: &Connection| match &connection.standing {
            Standing::Node(link) => link.is_about(image),
            Standing::Public | Standing::Greeting(_) => connection.vouched.contains(&image),
        };
        self.by_id.iter().filter(|(_, connection)| takes_part(connection)).map(|(id, _)| *id).collect()
    }

    /// Who was told of the pieces here.
    pub(super) fn told(&self, image: ImageId) -> Vec<ConnectionId> {
        self.by_id.iter().filter(|(_, connection)| connection.told.contains(&image)).map(|(id, _)| *id).collect()
    }

    /// The image is complete here: nodes need not be told of it any more.
    pub(super) fn forget(&mut self, image: ImageId) {
        for connection in self.by_id.values_mut() {
            if let Standing::Node(link) = &mut connection.standing {
                link.forget(image);
                connection.told.remove(&image);
            }
        }
    }

    /// Something was said on it.
    pub(super) fn was_used(&mut self, connection: ConnectionId, now: Now) {
        if let Some(link) = self.link_mut(connection) {
            link.used = now.time;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn version(&self, connection: ConnectionId) -> Option<ProtocolVersion> {
        self.by_id.get(&connection).map(|connection| connection.version)
    }

    /// Connections that offered the image.
    pub(super) fn publishers(&self, image: ImageId) -> impl Iterator<Item = ConnectionId> {
        self.by_id.iter().filter(move |(_, connection)| connection.published.contains(&image)).map(|(id, _)| *id)
    }

    pub(super) fn served(&mut self, connection: ConnectionId) {
        if let Some(connection) = self.by_id.get_mut(&connection) {
            connection.serving = connection.serving.saturating_sub(1);
        }
    }

    /// Counts a request as being read; `false` if the connection is gone or has too many.
    pub(super) fn begin_serving(&mut self, connection: ConnectionId) -> bool {
        let Some(connection) = self.by_id.get_mut(&connection) else { return false };
        let room = connection.serving < limits::REQUESTS_IN_FLIGHT_MAX;
        connection.serving += usize::from(room);
        room
    }
}
