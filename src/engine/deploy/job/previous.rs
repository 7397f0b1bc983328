//! What was visible before: kept if the directory's config says so, and given up first when there is no room.

use super::{Effect, Job, State, Step};
use crate::engine::contract::Outbox;
use crate::model::disk_task::Previous;
use crate::model::failure::{Failure, FailureKind};
use crate::model::time::Now;

impl Job {
    /// The directory is visible and recorded: what is left goes, but for what is to be kept.
    pub(super) fn collect(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        let keep = self.order.directory.keep_previous;
        let previous = self.order.previous.filter(|_| keep);
        let previous = previous.map_or(Previous::Dropped, |(_, root)| Previous::Kept(root));
        self.enter(now, Step::Collect { previous }, outbox);
    }

    pub(super) fn collected(&mut self, now: Now, kept: bool, outbox: &mut Outbox<Effect>) {
        self.kept(kept, outbox);
        self.finish(now, outbox);
    }

    /// Whether what should be set aside is; if not, that is told.
    pub(super) fn kept(&mut self, kept: bool, outbox: &mut Outbox<Effect>) {
        if kept {
            return;
        }
        if let Some((image, root)) = self.order.previous.take() {
            let (path, for_room) = (self.order.path.clone(), matches!(self.state, State::Running(Step::Forgo { .. })));
            outbox.push(Effect::Forgone { path, image, root, for_room });
        }
    }

    /// Instead of waiting for room: the tree that is set aside gives some, unless it is the very one that is wanted again.
    pub(super) fn makes_room(&mut self, now: Now, step: &Step, failure: &Failure, outbox: &mut Outbox<Effect>) -> bool {
        let wants_room =
            failure.kind == FailureKind::NoSpace && matches!(step, Step::Stage { .. } | Step::Discard { .. });
        let other = self.order.previous.is_some_and(|(image, _)| image != self.order.image);
        if wants_room && other {
            self.enter(now, Step::Forgo { then: Box::new(step.clone()) }, outbox);
        }
        wants_room && other
    }
}
