//! Carries out what `catch_up` decides: over connections to other nodes, and with this node's own heads.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::connections::Asked;
use super::links::Need;
use super::messages::notify;
use super::proposals::Asker;
use super::{Effect, Node, Note};
use crate::engine::catch_up::{self, SessionId};
use crate::engine::contract::{Engine, Outbox};
use crate::format::wire::{NodeRequest, NodeResponse, Notice, Notification, ProposalVerdict, Request};
use crate::model::ids::ChangeId;
use crate::model::peer::{ConnectionId, NodeId};
use crate::model::time::Now;
use crate::model::vpath::VPath;

/// Questions to nodes that aren't connected yet, by address: `catch_up` asks one at a time in each session.
pub(super) type Unasked = BTreeMap<SocketAddr, Vec<(SessionId, NodeRequest)>>;

impl Node {
    pub(super) fn catch_up(&mut self, now: Now, input: catch_up::Input, outbox: &mut Outbox<Effect>) {
        let mut inner = Outbox::new();
        self.catch_ups.handle(now, input, &mut inner);
        self.caught_up(now, inner, outbox);
    }

    pub(super) fn caught_up(&mut self, now: Now, effects: Outbox<catch_up::Effect>, outbox: &mut Outbox<Effect>) {
        for effect in effects {
            match effect {
                catch_up::Effect::Ask { session, node, request } => {
                    self.ask_node(now, session, node, request, outbox);
                }
                catch_up::Effect::Propose { session, node, heads } => {
                    let change = |(path, _): &(VPath, ChangeId)| Some(self.heads.change(path)?.1.clone());
                    match heads.iter().map(change).collect::<Option<Vec<_>>>() {
                        Some(changes) => {
                            self.ask_node(now, session, node, NodeRequest::Propose { changes }, outbox);
                        }
                        None => {
                            let answer = Err("a head was taken back meanwhile".to_owned());
                            self.catch_up(now, catch_up::Input::Answered { session, answer }, outbox);
                        }
                    }
                }
                catch_up::Effect::Decide { session, changes, .. } => {
                    self.consider(now, &changes, Asker::CatchUp(session), outbox);
                }
                catch_up::Effect::Done { directory, node, fingerprint, pulled, pushed } => {
                    outbox.push(Effect::Note(Note::CaughtUp {
                        directory: directory.clone(),
                        address: node.address,
                        pulled,
                        pushed,
                    }));
                    if let Some(connection) = self.connections.node_at(node.address) {
                        let notice = Notice::SyncComplete { directory, fingerprint };
                        notify(connection, Notification::Cluster(notice), outbox);
                    }
                }
                catch_up::Effect::Broken { directory, node, reason } => {
                    outbox.push(Effect::Note(Note::CatchUpBroken { directory, address: node.address, reason }));
                }
                catch_up::Effect::Release { node } => {
                    self.unasked.remove(&node.address);
                    if let Some(connection) = self.connections.node_at(node.address) {
                        self.release(connection, Need::CatchUp);
                    }
                }
            }
        }
    }

    fn ask_node(
        &mut self,
        now: Now,
        session: SessionId,
        node: NodeId,
        request: NodeRequest,
        outbox: &mut Outbox<Effect>,
    ) {
        self.unasked.entry(node.address).or_default().push((session, request));
        self.link(now, node.address, Need::CatchUp, outbox);
    }

    /// There is a connection for what is to be asked.
    pub(super) fn catch_up_linked(
        &mut self,
        connection: ConnectionId,
        address: SocketAddr,
        outbox: &mut Outbox<Effect>,
    ) {
        for (session, request) in self.unasked.remove(&address).unwrap_or_default() {
            self.request(connection, Request::Node(request), Asked::CatchUp(session), outbox);
        }
    }

    /// There is none.
    pub(super) fn catch_up_unlinked(&mut self, now: Now, address: SocketAddr, outbox: &mut Outbox<Effect>) {
        for (session, _) in self.unasked.remove(&address).unwrap_or_default() {
            self.catch_up_answered(now, session, Err("there is no connection to it".to_owned()), outbox);
        }
    }

    pub(super) fn catch_up_answered(
        &mut self,
        now: Now,
        session: SessionId,
        answer: Result<NodeResponse, String>,
        outbox: &mut Outbox<Effect>,
    ) {
        self.catch_up(now, catch_up::Input::Answered { session, answer }, outbox);
    }

    pub(super) fn catch_up_decided(
        &mut self,
        now: Now,
        session: SessionId,
        verdicts: Vec<ProposalVerdict>,
        outbox: &mut Outbox<Effect>,
    ) {
        self.catch_up(now, catch_up::Input::Decided { session, verdicts }, outbox);
    }

    /// The head at a path is another one, durably.
    pub(super) fn head_changed(&mut self, now: Now, path: &VPath, outbox: &mut Outbox<Effect>) {
        let change = self.heads.change(path).map(|(id, _)| id);
        self.catch_up(now, catch_up::Input::Head { path: path.clone(), change }, outbox);
        self.tell_heads(now, path.key(), true, outbox);
    }
}
