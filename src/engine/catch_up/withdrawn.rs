//! Changes that turned out to be of no use here: a bounded memory, the oldest are forgotten first.

use std::collections::{BTreeMap, VecDeque};

use crate::model::ids::ChangeId;
use crate::model::limits;

/// Why each can't be used.
#[derive(Debug, Default)]
pub(super) struct Withdrawn {
    reasons: BTreeMap<ChangeId, Box<str>>,
    order: VecDeque<ChangeId>,
}

impl Withdrawn {
    pub(super) fn reason(&self, change: ChangeId) -> Option<&str> {
        self.reasons.get(&change).map(AsRef::as_ref)
    }

    /// The reason is cut where it is long.
    pub(super) fn insert(&mut self, change: ChangeId, mut reason: String) {
        reason.truncate(reason.floor_char_boundary(limits::WITHDRAWN_REASON_BYTES_MAX));
        if self.reasons.insert(change, reason.into()).is_some() {
            return;
        }
        self.order.push_back(change);
        if self.order.len() > limits::CHANGES_WITHDRAWN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.reasons.remove(&oldest);
        }
    }
}
