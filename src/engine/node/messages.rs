//! What is said on connections: which part of the node each message is for, and how this node speaks.

use super::connections::Asked;
use super::register::{Form, Submission};
use super::{Effect, End, Node};
use crate::engine::contract::Outbox;
use crate::engine::fetch::{self, Answer, Question};
use crate::format::wire::{BlockHint, Hello, Message, Notification, PublishedChange, Request, Response};
use crate::model::change::{Change, SignedChange, Verb};
use crate::model::ids::ImageId;
use crate::model::key::{Scheme, Signature};
use crate::model::peer::{ConnectionId, ProtocolVersion};
use crate::model::time::Now;

impl Node {
    pub(super) fn connected(
        &mut self,
        now: Now,
        connection: ConnectionId,
        version: ProtocolVersion,
        end: End,
        outbox: &mut Outbox<Effect>,
    ) {
        self.connections.add(connection, version, end);
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
        if let Some((version, vouched)) = self.connections.offers(connection, image) {
            self.fetch(now, fetch::Input::Offered { connection, version, image, vouched }, outbox);
        }
    }

    /// The connection submitted a change for the image, signed by a key that is accepted here.
    pub(super) fn vouched(
        &mut self,
        now: Now,
        connection: ConnectionId,
        image: Option<ImageId>,
        outbox: &mut Outbox<Effect>,
    ) {
        let Some(image) = image else { return };
        if let Some(version) = self.connections.vouches(connection, image) {
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
        let Some(asked) = self.connections.answered(connection, id) else { return };
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
        if self.connections.version(connection).is_some() {
            outbox.push(Effect::Send { connection, message: Message::Response { id, response } });
        }
    }
}

pub(super) fn notify(connection: ConnectionId, notification: Notification, outbox: &mut Outbox<Effect>) {
    outbox.push(Effect::Send { connection, message: Message::Notification(notification) });
}
