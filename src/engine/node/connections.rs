//! Who is connected, and which of our requests they have not answered.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::links::{Greet, NodeLink};
use super::register::{Form, Submission};
use super::{Effect, End, Node};
use crate::engine::catch_up::SessionId;
use crate::engine::contract::Outbox;
use crate::engine::fetch::{self, Answer, Question};
use crate::format::wire::{BlockHint, Hello, Message, Notification, PublishedChange, Request, Response};
use crate::model::change::{Change, SignedChange, Verb};
use crate::model::ids::ImageId;
use crate::model::key::{Scheme, Signature};
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
    fn was_used(&mut self, connection: ConnectionId, now: Now) {
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

impl Node {
    pub(super) fn connected(
        &mut self,
        now: Now,
        connection: ConnectionId,
        version: ProtocolVersion,
        end: End,
        outbox: &mut Outbox<Effect>,
    ) {
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
        self.connections.by_id.insert(connection, fresh);
        if let End::Dialed { to } = end {
            return self.dialed(now, connection, to, version, outbox);
        }
        if version == ProtocolVersion::V2 {
            let hello = Hello { host: self.host.clone(), version: self.version.to_owned() };
            notify(connection, Notification::Hello(hello), outbox);
        }
    }

    pub(super) fn message(
        &mut self,
        now: Now,
        connection: ConnectionId,
        message: Message,
        outbox: &mut Outbox<Effect>,
    ) {
        self.connections.was_used(connection, now);
        match message {
            Message::Notification(Notification::Cluster(notice)) => self.noticed(now, connection, notice, outbox),
            Message::Notification(Notification::PublishImage { id }) => self.published(now, connection, id, outbox),
            Message::Notification(_) | Message::Unknown { .. } => {}
            Message::Request { id, request } => self.requested(now, connection, id, request, outbox),
            Message::Response { id, response } => self.answered(now, connection, id, response, outbox),
            Message::Malformed { id, request_type, error } => {
                let text = format!("bad {request_type} request: {error}");
                self.respond(connection, id, Response::Error(text), outbox);
            }
        }
    }

    /// 003-03: the connection becomes a source of the image and a watcher of its progress.
    fn published(&mut self, now: Now, connection: ConnectionId, image: ImageId, outbox: &mut Outbox<Effect>) {
        let Some(state) = self.connections.by_id.get_mut(&connection) else { return };
        let max = if state.vouched.is_empty() {
            limits::PUBLISHED_BY_STRANGER_MAX
        } else {
            limits::PUBLISHED_PER_CONNECTION_MAX
        };
        if state.published.len() >= max {
            return;
        }
        state.published.insert(image);
        let (version, vouched) = (state.version, state.vouched.contains(&image));
        self.fetch(now, fetch::Input::Offered { connection, version, image, vouched }, outbox);
    }

    /// The connection submitted a change for the image, signed by a key that is accepted here.
    pub(super) fn vouched(
        &mut self,
        now: Now,
        connection: ConnectionId,
        image: Option<ImageId>,
        outbox: &mut Outbox<Effect>,
    ) {
        let (Some(image), Some(state)) = (image, self.connections.by_id.get_mut(&connection)) else { return };
        if state.vouched.len() < limits::PUBLISHED_PER_CONNECTION_MAX
            && state.vouched.insert(image)
            && state.published.contains(&image)
        {
            let version = state.version;
            self.fetch(now, fetch::Input::Offered { connection, version, image, vouched: true }, outbox);
        }
    }

    fn requested(
        &mut self,
        now: Now,
        connection: ConnectionId,
        id: u64,
        request: Request,
        outbox: &mut Outbox<Effect>,
    ) {
        let client = |form| Submission { connection, request: id, form };
        match request {
            Request::AppendDir(change) => {
                self.submit_published(now, client(Form::AppendDir), change, Verb::Append, outbox);
            }
            Request::ReplaceDir(change) => {
                self.submit_published(now, client(Form::ReplaceDir), change, Verb::Replace, outbox);
            }
            Request::SubmitChange(signed) => self.submit(now, client(Form::SubmitChange), &signed, outbox),
            Request::Plan(signed) => self.plan(now, (connection, id), &signed, outbox),
            Request::GetIndex { id: image, .. } => self.serve_index(now, connection, id, image, outbox),
            Request::GetIndexPart { id: image, offset } => {
                self.serve_index_part(now, connection, id, image, offset, outbox);
            }
            Request::GetIndexAt { path } => self.serve_index_at(now, connection, id, &path, outbox),
            Request::GetBlock { hash, hint } => self.serve_block(now, connection, id, hash, hint, outbox),
            Request::GetBlocks { image, run } => self.serve_run(now, connection, id, image, run, outbox),
            Request::Node(request) => self.node_requested(now, connection, id, request, outbox),
        }
    }

    /// A change in the words of `ciruela.v1`, whose signatures cover path, image and time only.
    fn submit_published(
        &mut self,
        now: Now,
        client: Submission,
        change: PublishedChange,
        verb: Verb,
        outbox: &mut Outbox<Effect>,
    ) {
        let path = match change.path.parse() {
            Ok(path) => path,
            Err(error) => {
                let text = format!("{error}");
                return self.respond(client.connection, client.request, Response::Error(text), outbox);
            }
        };
        let signatures =
            change.signatures.into_iter().map(|bytes| Signature { scheme: Scheme::Legacy, key: None, bytes }).collect();
        let image = Some(change.image);
        let change = Change { cluster: None, verb, path, image, old_image: change.old_image, stamp: change.timestamp };
        self.submit(now, client, &SignedChange::new(change, signatures), outbox);
    }

    /// An answer to a request of ours.
    fn answered(
        &mut self,
        now: Now,
        connection: ConnectionId,
        id: u64,
        response: Response,
        outbox: &mut Outbox<Effect>,
    ) {
        let Some(state) = self.connections.by_id.get_mut(&connection) else { return };
        let Some(asked) = state.asked.remove(&id) else { return };
        let question = match asked {
            Asked::Content(question) => question,
            Asked::Plan => return self.plan_answered(connection, response, outbox),
            Asked::NodeHello | Asked::Members | Asked::CatchUp(_) | Asked::Proposed(_) => {
                return self.node_answered(now, connection, asked, response, outbox);
            }
        };
        let missing = || "it doesn't have what it offered".to_owned();
        let answer = match response {
            Response::GetIndex { data } | Response::GetBlock { data } => data.map(Answer::Data).ok_or_else(missing),
            Response::GetBlocks { data } => Ok(Answer::Data(data)),
            Response::GetIndexPart { data, total } => Ok(Answer::Part { data, total }),
            Response::Error(text) => Err(format!("it answered: {text}")),
            Response::AppendDir(_)
            | Response::ReplaceDir(_)
            | Response::GetIndexAt { .. }
            | Response::Node(_)
            | Response::Plan(_)
            | Response::SubmitChange(_) => Err("it answered another question".to_owned()),
        };
        self.fetch(now, fetch::Input::Answered { connection, question, answer }, outbox);
    }

    /// Puts fetch's question into the connection's words.
    pub(super) fn ask(&mut self, connection: ConnectionId, question: Question, outbox: &mut Outbox<Effect>) {
        let request = match &question {
            Question::Index { image } => Request::GetIndex { id: *image, hint: None },
            Question::IndexPart { image, offset } => Request::GetIndexPart { id: *image, offset: *offset },
            Question::Run { image, run, .. } => Request::GetBlocks { image: *image, run: *run },
            Question::Block { path, hash, file, offset, .. } => {
                let hint = BlockHint { path: path.clone(), file: format!("/{file}"), offset: *offset };
                Request::GetBlock { hash: *hash, hint: Some(hint) }
            }
        };
        self.request(connection, request, Asked::Content(question), outbox);
    }

    pub(super) fn respond(
        &mut self,
        connection: ConnectionId,
        id: u64,
        response: Response,
        outbox: &mut Outbox<Effect>,
    ) {
        if self.connections.by_id.contains_key(&connection) {
            outbox.push(Effect::Send { connection, message: Message::Response { id, response } });
        }
    }
}

pub(super) fn notify(connection: ConnectionId, notification: Notification, outbox: &mut Outbox<Effect>) {
    outbox.push(Effect::Send { connection, message: Message::Notification(notification) });
}
