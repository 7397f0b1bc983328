//! What other nodes ask and say over their connections, and what comes of connections that were needed.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::connections::Asked;
use super::links::Need;
use super::proposals::Asker;
use super::{Effect, Node, Note};
use crate::engine::contract::Outbox;
use crate::engine::{catch_up, fetch};
use crate::format::wire::{NodeRequest, NodeResponse, Notice, Response};
use crate::model::limits;
use crate::model::peer::ConnectionId;
use crate::model::time::Now;

impl Node {
    /// The connection that was needed is there.
    pub(super) fn linked(&mut self, _now: Now, connection: ConnectionId, need: Need, outbox: &mut Outbox<Effect>) {
        let Some(node) = self.connections.node(connection) else { return };
        match need {
            Need::Image(image) => self.neighbour_linked(connection, node.address, image, outbox),
            Need::CatchUp => self.catch_up_linked(connection, node.address, outbox),
            Need::Members => self.members_linked(connection, node.address, outbox),
        }
    }

    /// The connection that was needed can't be had, or is gone.
    pub(super) fn unlinked(&mut self, now: Now, address: SocketAddr, need: Need, outbox: &mut Outbox<Effect>) {
        match need {
            Need::Image(image) => self.neighbour_unlinked(now, address, image),
            Need::CatchUp => self.catch_up_unlinked(now, address, outbox),
            Need::Members => self.members_failed(now, address, outbox),
        }
    }

    /// What needs no answer.
    pub(super) fn noticed(&mut self, now: Now, connection: ConnectionId, notice: Notice, outbox: &mut Outbox<Effect>) {
        let node = self.connections.node(connection);
        let is_node = node.is_some();
        match notice {
            Notice::NodeProof { proof } => self.node_proves(now, connection, &proof, outbox),
            Notice::Share { image, index, of } => {
                self.fetch(now, fetch::Input::Share { connection, image, index, of }, outbox);
            }
            Notice::Pieces { image, count, have } if is_node => {
                self.neighbour_has(now, connection, image, (count, have), outbox);
            }
            // From a client: of another node to which it gives the image.
            Notice::Have { image, pieces } => {
                self.fetch(now, fetch::Input::Have { connection, image, pieces }, outbox);
            }
            // What is read here is checked before it is sent: it was spoilt on the way, or the other's memory is bad.
            Notice::Corrupt { image, block } if is_node => {
                let from = self.connections.who(connection);
                outbox.push(Effect::Note(Note::ToldCorrupt { from, image, block }));
            }
            Notice::SyncComplete { directory, fingerprint } => {
                if let Some(node) = node {
                    self.catch_up(now, catch_up::Input::Completed { node, directory, fingerprint }, outbox);
                }
            }
            Notice::Pieces { .. } | Notice::Corrupt { .. } | Notice::Nodes(_) => {}
        }
    }

    /// What other nodes ask.
    pub(super) fn node_requested(
        &mut self,
        now: Now,
        connection: ConnectionId,
        request: u64,
        asked: NodeRequest,
        outbox: &mut Outbox<Effect>,
    ) {
        if let NodeRequest::Hello { node, nonce } = asked {
            return self.node_greets(now, connection, request, (node, nonce), outbox);
        }
        if self.connections.node(connection).is_none() {
            let text = "only nodes of this cluster may ask for this".to_owned();
            return self.respond(connection, request, Response::Error(text), outbox);
        }
        match asked {
            NodeRequest::Hello { .. } => {}
            NodeRequest::Propose { changes } => {
                for image in changes.iter().filter_map(|signed| signed.change.image) {
                    self.connections.takes_part(connection, image);
                }
                self.consider(now, &changes, Asker::Node { connection, request }, outbox);
                let images: BTreeSet<_> = changes.iter().filter_map(|signed| signed.change.image).collect();
                // Whoever proposes wants the image.
                for image in images {
                    self.tell_pieces_anew(connection, image, outbox);
                }
            }
            NodeRequest::GetHeads { paths } => {
                let change = |path| self.heads.change(path).map(|(_, signed)| signed.clone());
                let changes = paths.iter().filter_map(change).take(limits::CHANGES_PER_MESSAGE_MAX).collect();
                let response = Response::Node(NodeResponse::GetHeads { changes });
                self.respond(connection, request, response, outbox);
            }
            NodeRequest::CompareHeads { directory, ranges } => {
                let answers = self.catch_ups.answer(&directory, &ranges);
                self.respond(connection, request, Response::Node(NodeResponse::CompareHeads { answers }), outbox);
            }
            NodeRequest::GetMembers { cursor } => {
                let page = self.members_page(cursor);
                self.respond(connection, request, Response::Node(page), outbox);
            }
        }
    }

    /// What another node answered to a request of this node's own.
    pub(super) fn node_answered(
        &mut self,
        now: Now,
        connection: ConnectionId,
        asked: Asked,
        response: Response,
        outbox: &mut Outbox<Effect>,
    ) {
        match (asked, response) {
            (Asked::NodeHello, Response::Node(NodeResponse::Hello { node, nonce, proof })) => {
                self.node_answers(now, connection, (node, nonce), proof, outbox);
            }
            (Asked::Proposed(paths), Response::Node(NodeResponse::Propose { verdicts })) => {
                self.proposed(now, connection, &paths, verdicts, outbox);
            }
            (Asked::NodeHello, _) => {
                let reason = "you don't answer as a node of this version".to_owned();
                outbox.push(Effect::Close { connection, reason });
            }
            (Asked::CatchUp(session), Response::Node(answer)) => {
                self.catch_up_answered(now, session, Ok(answer), outbox);
            }
            (Asked::CatchUp(session), response) => {
                let other = "it answered another question".to_owned();
                let reason = if let Response::Error(text) = response { text } else { other };
                self.catch_up_answered(now, session, Err(reason), outbox);
            }
            (Asked::Members, Response::Node(NodeResponse::GetMembers { data, next })) => {
                if let Some(node) = self.connections.node(connection) {
                    self.members_came(now, connection, node.address, (data, next), outbox);
                }
            }
            (Asked::Members, _) => {
                if let Some(node) = self.connections.node(connection) {
                    self.members_failed(now, node.address, outbox);
                    self.release(connection, Need::Members);
                }
            }
            (Asked::Content(_) | Asked::Plan | Asked::Proposed(_), _) => {}
        }
    }
}
