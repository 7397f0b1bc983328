//! One directory: its heads, who differs, and with whom it is of no use to try again soon.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::{HeadIndex, SessionId};
use crate::model::heads::HeadsFingerprint;
use crate::model::ids::ChangeId;
use crate::model::limits;
use crate::model::peer::NodeId;
use crate::model::time::Time;
use crate::model::vpath::VPath;

/// A directory.
#[derive(Debug, Default)]
pub(super) struct Directory {
    pub(super) index: HeadIndex,
    /// The open session.
    pub(super) session: Option<SessionId>,
    /// Differed when they were last heard of; the first is tried next.
    candidates: VecDeque<NodeId>,
    /// Sessions with them changed nothing.
    pauses: BTreeMap<NodeId, Pause>,
}

#[derive(Debug, Clone, Copy)]
struct Pause {
    until: Time,
    length: Duration,
}

impl Directory {
    /// A new head ends all pauses: there is something to propose, or what kept the two apart is gone.
    pub(super) fn head(&mut self, path: &VPath, change: Option<ChangeId>) {
        let changed = match change {
            Some(change) => self.index.insert(path, change),
            None => self.index.remove(path),
        };
        if changed {
            self.pauses.clear();
        }
    }

    pub(super) fn differs(&mut self, now: Time, node: NodeId) {
        let known = self.candidates.contains(&node);
        if !known && !self.is_paused(now, node) && self.candidates.len() < limits::CATCH_UP_CANDIDATES_MAX {
            self.candidates.push_back(node);
        }
    }

    pub(super) fn completed(&mut self, node: NodeId, fingerprint: HeadsFingerprint) {
        if fingerprint == self.index.fingerprint() {
            self.candidates.retain(|candidate| *candidate != node);
            self.pauses.remove(&node);
        }
    }

    pub(super) fn gone(&mut self, node: NodeId) {
        self.candidates.retain(|candidate| *candidate != node);
        self.pauses.remove(&node);
    }

    pub(super) fn wants_session(&self) -> bool {
        self.session.is_none() && !self.candidates.is_empty()
    }

    pub(super) fn next_candidate(&mut self, now: Time) -> Option<NodeId> {
        while let Some(node) = self.candidates.pop_front() {
            if !self.is_paused(now, node) {
                return Some(node);
            }
        }
        None
    }

    fn is_paused(&self, now: Time, node: NodeId) -> bool {
        self.pauses.get(&node).is_some_and(|pause| now < pause.until)
    }

    /// A session with the node ended well, and so many heads of either side changed. `fruitless`: some should have.
    pub(super) fn ended(&mut self, now: Time, node: NodeId, changed: u64, fruitless: bool) {
        if changed > 0 {
            // Who else differed may not any more: the next pulse tells.
            self.candidates.clear();
        }
        if !fruitless {
            self.pauses.remove(&node);
            return;
        }
        let before = self.pauses.get(&node).map_or(Duration::ZERO, |pause| pause.length);
        let length = (before * 2).clamp(limits::CATCH_UP_PAUSE_MIN, limits::CATCH_UP_PAUSE_MAX);
        self.pauses.insert(node, Pause { until: now + length, length });
        if self.pauses.len() > limits::CATCH_UP_PAUSES_MAX {
            let first = self.pauses.iter().min_by_key(|(_, pause)| pause.until).map(|(node, _)| *node);
            first.map(|node| self.pauses.remove(&node));
        }
    }
}
