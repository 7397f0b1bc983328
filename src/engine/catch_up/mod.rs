//! Which changes two nodes exchange, so that all end with the same heads.
//!
//! Knows the heads by name only ([`HeadIndex`], one for each directory). A node that hears of another one which differs
//! opens a session with it: ranges are compared by fingerprint until the differing heads are found, the other's changes
//! are pulled, its own proposed. The side which is asked keeps no state ([`answer_ranges`]). What wins is `access`'s to
//! decide and the composition's to write down; who differs is gossip's to find out; connections are the composition's.

mod answer;
mod directory;
mod index;
mod session;
#[cfg(test)]
mod tests;
mod withdrawn;

use std::collections::BTreeMap;

pub use self::answer::answer_ranges;
use self::directory::Directory;
pub use self::index::HeadIndex;
use self::session::{Session, Step};
use self::withdrawn::Withdrawn;
use crate::engine::contract::{Engine, Outbox};
use crate::format::wire::{NodeRequest, NodeResponse, ProposalVerdict};
use crate::model::change::SignedChange;
use crate::model::heads::{HeadRange, HeadsFingerprint, RangeAnswer};
use crate::model::ids::ChangeId;
use crate::model::limits;
use crate::model::peer::NodeId;
use crate::model::time::{Now, Time};
use crate::model::vpath::VPath;

/// Ties answers to the session that asked; never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionId(pub u64);

/// What can happen.
#[derive(Debug)]
pub enum Input {
    /// Another change holds at the path, durably; `None`: none does any more.
    Head { path: VPath, change: Option<ChangeId> },
    /// A change turned out to be of no use on this node: it is refused from now on.
    Withdrawn { change: ChangeId, reason: String },
    /// Gossip: the node has other heads in the directory, which both carry.
    Differs { node: NodeId, directory: Box<str> },
    /// The node has proposed all that this one lacked, and these are its heads now.
    Completed { node: NodeId, directory: Box<str>, fingerprint: HeadsFingerprint },
    /// Answer to [`Effect::Ask`] and [`Effect::Propose`]; an error: there is no connection to the node, or it answered
    /// with an error.
    Answered { session: SessionId, answer: Result<NodeResponse, String> },
    /// Answer to [`Effect::Decide`]: one verdict for each change, given when what was accepted is durable.
    Decided { session: SessionId, verdicts: Vec<ProposalVerdict> },
    /// The node is down, or left. No question to it needs an answer any more.
    Gone { node: NodeId },
}

/// What should be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask the node, connecting to it if need be.
    Ask { session: SessionId, node: NodeId, request: NodeRequest },
    /// Propose the changes to the node that hold at these paths, those that are still these ones.
    Propose { session: SessionId, node: NodeId, heads: Vec<(VPath, ChangeId)> },
    /// Decide on changes of the node by the rules for admitted changes, and write down what is accepted.
    Decide { session: SessionId, node: NodeId, changes: Vec<SignedChange> },
    /// A session has ended well: tell the node (`SyncComplete`). No answer.
    Done { directory: Box<str>, node: NodeId, fingerprint: HeadsFingerprint, pulled: u64, pushed: u64 },
    /// A session has ended before its end. No answer.
    Broken { directory: Box<str>, node: NodeId, reason: String },
    /// Catch-up doesn't need the connection to the node any more. No answer.
    Release { node: NodeId },
}

/// Catch-up of all directories of one node.
#[derive(Debug, Default)]
pub struct CatchUp {
    directories: BTreeMap<Box<str>, Directory>,
    /// Open sessions: at most one for each directory.
    sessions: BTreeMap<SessionId, Session>,
    withdrawn: Withdrawn,
    last_session: u64,
}

impl CatchUp {
    /// The heads of a directory; `None`: it never had any.
    pub fn heads(&self, directory: &str) -> Option<&HeadIndex> {
        self.directories.get(directory).map(|directory| &directory.index)
    }

    /// Of the heads of a directory, also when there are none.
    pub fn fingerprint(&self, directory: &str) -> HeadsFingerprint {
        self.heads(directory).map_or_else(|| HeadIndex::default().fingerprint(), HeadIndex::fingerprint)
    }

    /// The answer to `CompareHeads`.
    pub fn answer(&self, directory: &str, ranges: &[HeadRange]) -> Vec<RangeAnswer> {
        match self.heads(directory) {
            Some(index) => answer_ranges(index, ranges),
            None => answer_ranges(&HeadIndex::default(), ranges),
        }
    }

    /// Why a change can't be used here, if that is known: whoever decides on a proposal refuses it with this.
    pub fn withdrawn(&self, change: ChangeId) -> Option<&str> {
        self.withdrawn.reason(change)
    }

    /// Sessions open now.
    pub fn open(&self) -> impl Iterator<Item = (&str, NodeId)> {
        self.sessions.values().map(|session| (session.directory(), session.node()))
    }

    fn directory(&mut self, name: &str) -> &mut Directory {
        if !self.directories.contains_key(name) {
            self.directories.insert(name.into(), Directory::default());
        }
        self.directories.get_mut(name).expect("it was just made")
    }

    /// Opens sessions while there is room.
    fn open_sessions(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        let names: Vec<_> =
            self.directories.iter().filter(|(_, d)| d.wants_session()).map(|(n, _)| n.clone()).collect();
        for name in names {
            if self.sessions.len() >= limits::CATCH_UP_SESSIONS_MAX {
                return;
            }
            let Some(directory) = self.directories.get_mut(&name) else { continue };
            let Some(node) = directory.next_candidate(now.time) else { continue };
            self.last_session += 1;
            let id = SessionId(self.last_session);
            directory.session = Some(id);
            self.sessions.insert(id, Session::new(id, node, name, now.time));
            self.step(now, id, outbox, |_, _| Ok(()));
        }
    }

    /// Lets a session take its answer and ask the next question, or ends it.
    fn step(
        &mut self,
        now: Now,
        id: SessionId,
        outbox: &mut Outbox<Effect>,
        take: impl FnOnce(&mut Session, &HeadIndex) -> Result<(), String>,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(directory) = self.directories.get(session.directory()) else { return };
        if let Err(reason) = take(session, &directory.index) {
            return self.close(now, id, Some(reason), outbox);
        }
        match session.next(now.time, &directory.index, &self.withdrawn) {
            Step::Effect(effect) => outbox.push(effect),
            Step::Wait => {}
            Step::Done => self.close(now, id, None, outbox),
        }
    }

    /// Ends a session: well, or broken for a reason. A broken one counts for nothing.
    fn close(&mut self, now: Now, id: SessionId, broken: Option<String>, outbox: &mut Outbox<Effect>) {
        let Some(session) = self.sessions.remove(&id) else { return };
        let (name, node) = (Box::from(session.directory()), session.node());
        let (pulled, pushed) = session.exchanged();
        let directory = self.directory(&name);
        directory.session = None;
        match broken {
            Some(reason) => outbox.push(Effect::Broken { directory: name, node, reason }),
            None => {
                directory.ended(now.time, node, pulled + pushed, session.was_fruitless());
                let fingerprint = directory.index.fingerprint();
                outbox.push(Effect::Done { directory: name, node, fingerprint, pulled, pushed });
            }
        }
        if self.sessions.values().all(|session| session.node() != node) {
            outbox.push(Effect::Release { node });
        }
    }

    fn gone(&mut self, now: Now, node: NodeId, outbox: &mut Outbox<Effect>) {
        self.directories.values_mut().for_each(|directory| directory.gone(node));
        let lost: Vec<_> = self.sessions.iter().filter(|(_, s)| s.node() == node).map(|(id, _)| *id).collect();
        for id in lost {
            self.close(now, id, Some("the node is gone".to_owned()), outbox);
        }
    }
}

impl Engine for CatchUp {
    type Input = Input;
    type Effect = Effect;

    fn handle(&mut self, now: Now, input: Input, outbox: &mut Outbox<Effect>) {
        match input {
            Input::Head { path, change } => self.directory(path.key()).head(&path, change),
            Input::Withdrawn { change, reason } => self.withdrawn.insert(change, reason),
            Input::Differs { node, directory } => self.directory(&directory).differs(now.time, node),
            Input::Completed { node, directory, fingerprint } => {
                // Names that only the other has are not remembered.
                if let Some(directory) = self.directories.get_mut(&directory) {
                    directory.completed(node, fingerprint);
                }
            }
            Input::Answered { session, answer } => {
                self.step(now, session, outbox, |session, index| session.answered(answer?, index));
            }
            Input::Decided { session, verdicts } => {
                self.step(now, session, outbox, |session, _| {
                    session.decided(&verdicts);
                    Ok(())
                });
            }
            Input::Gone { node } => self.gone(now, node, outbox),
        }
        self.open_sessions(now, outbox);
    }

    /// Changes with every input: when the first session will have taken too long.
    fn deadline(&self) -> Option<(Time, &'static str)> {
        self.sessions.values().map(|session| (session.until(), "catch-up: a node is silent")).min()
    }

    fn handle_timeout(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        let late: Vec<_> = self.sessions.iter().filter(|(_, s)| s.until() <= now.time).map(|(id, _)| *id).collect();
        for id in late {
            self.close(now, id, Some("it took too long".to_owned()), outbox);
        }
        self.open_sessions(now, outbox);
    }
}
