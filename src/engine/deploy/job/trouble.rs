//! Steps that fail: a state, tried again after a pause.

use super::{Effect, Job, State, Step};
use crate::engine::contract::Outbox;
use crate::model::failure::{Failure, FailureKind};
use crate::model::limits;
use crate::model::time::Now;

impl Job {
    /// Remembers the failure and what to begin with when the pause is over.
    pub(in crate::engine::deploy) fn failed(&mut self, now: Now, failure: Failure, outbox: &mut Outbox<Effect>) {
        let State::Running(step) = &self.state else { return };
        let forgoes = matches!(step, Step::Forgo { .. });
        let step = match step.clone() {
            Step::Forgo { then } => *then,
            // Reported already; what is left will be swept at the next start.
            Step::Collect { .. } => {
                outbox.push(Effect::Paused { path: self.order.path.clone(), failure });
                return self.finish(now, outbox);
            }
            Step::Fetch { image, .. } | Step::Seal { image, .. } | Step::Stage { image }
                if failure.kind == FailureKind::Poisoned =>
            {
                Step::Discard { image }
            }
            Step::Fetch { image, .. } | Step::Seal { image, .. } => Step::Stage { image },
            Step::Adopt { .. } | Step::Aim { .. } | Step::Intend { .. } => Step::Check,
            Step::Swap { intent } => Step::Recover(intent),
            step @ (Step::Recover(_)
            | Step::Check
            | Step::Index { .. }
            | Step::Stage { .. }
            | Step::Discard { .. }
            | Step::Record { .. }) => step,
        };
        if self.next.is_some() && step.abandonable() {
            return self.take_next(outbox);
        }
        if !forgoes && self.makes_room(now, &step, &failure, outbox) {
            return;
        }
        self.pause = (self.pause * 2).clamp(limits::RETRY_PAUSE_MIN, limits::RETRY_PAUSE_MAX);
        outbox.push(Effect::Paused { path: self.order.path.clone(), failure: failure.clone() });
        self.state = State::Paused { step, until: now.time + self.pause, failure };
    }

    /// Begins the failed step again.
    pub(in crate::engine::deploy) fn retry(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        if let State::Paused { step, .. } = &self.state {
            let step = step.clone();
            self.enter(now, step, outbox);
        }
    }

    /// An answer that doesn't fit its question: a bug, kept from doing harm by starting over after a pause.
    pub(super) fn poison(&mut self, now: Now, step: &str, outbox: &mut Outbox<Effect>) {
        let failure =
            Failure { kind: FailureKind::Io, text: format!("internal error: unexpected answer in step {step}") };
        self.pause = limits::RETRY_PAUSE_MAX;
        outbox.push(Effect::Paused { path: self.order.path.clone(), failure: failure.clone() });
        self.state = State::Paused { step: Step::Check, until: now.time + self.pause, failure };
    }
}
