//! The state machine of one path.

mod previous;
mod trouble;

use std::sync::Arc;
use std::time::Duration;

use super::step::Step;
use super::{Effect, Found, Order, Status, task};
use crate::engine::contract::Outbox;
use crate::format::record::{CommittedRecord, IntentRecord};
use crate::model::block_set::BlockSet;
use crate::model::disk_task::{DiskAction, DiskResult, Previous, Sealed, Side, Target};
use crate::model::failure::{Failure, FailureKind};
use crate::model::ids::ImageId;
use crate::model::image::Image;
use crate::model::origins::{Origins, Supply};
use crate::model::reuse::Reused;
use crate::model::time::{Now, Time};

/// A deployment.
#[derive(Debug)]
pub(super) struct Job {
    order: Order,
    state: State,
    /// What comes when the running step is answered, if that isn't the next step.
    next: Option<Next>,
    /// The last pause: the next one is twice as long.
    pause: Duration,
    bytes_total: u64,
    found: Found,
}

/// What comes instead of the next step.
#[derive(Debug)]
enum Next {
    /// A newer order.
    Order(Box<Order>),
    /// Nothing.
    End,
}

/// What a job is at.
#[derive(Debug)]
enum State {
    /// Waits for room among the active ones.
    Queued,
    /// A step's effect was given and isn't answered yet.
    Running(Step),
    /// A step failed; it begins again at `until`.
    Paused { step: Step, until: Time, failure: Failure },
    /// Nothing is left to do.
    Ended,
}

impl Job {
    pub(super) fn new(order: Order) -> Self {
        Self { order, state: State::Queued, next: None, pause: Duration::ZERO, bytes_total: 0, found: Found::default() }
    }

    pub(super) fn image(&self) -> ImageId {
        self.order.image
    }

    /// The image of the order, and of the one that waits for its turn, and of a swap that a crash interrupted.
    pub(super) fn images(&self) -> impl Iterator<Item = ImageId> {
        let next = match &self.next {
            Some(Next::Order(next)) => Some(next.image),
            Some(Next::End) | None => None,
        };
        let interrupted = self.order.intent.as_ref().map(|intent| intent.committed.image);
        [Some(self.order.image), next, interrupted].into_iter().flatten()
    }

    pub(super) fn ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// Whether it only waits for others, so that another job may use its place.
    pub(super) fn yields(&self) -> bool {
        matches!(self.state, State::Paused { .. } | State::Running(Step::Index { .. } | Step::Fetch { .. }))
    }

    pub(super) fn deadline(&self) -> Option<(Time, &'static str)> {
        match &self.state {
            State::Paused { until, .. } => Some((*until, "deploy: try a failed step again")),
            State::Queued | State::Running(_) | State::Ended => None,
        }
    }

    pub(super) fn status(&self) -> Status {
        let (step, waiting, failure) = match &self.state {
            State::Queued => ("queued", Some("other deployments on this node".to_owned()), None),
            State::Running(step) => (step.name(), None, None),
            State::Paused { step, failure, .. } => (step.name(), Some(failure.text.clone()), Some(failure.clone())),
            State::Ended => ("done", None, None),
        };
        let Order { change, image, .. } = self.order;
        let bytes_done = if self.is_complete() { self.bytes_total } else { self.found.bytes() };
        let found = self.found.clone();
        let reported = matches!(self.state, State::Running(Step::Collect { .. }));
        Status { change, image, step, reported, waiting, failure, bytes_total: self.bytes_total, bytes_done, found }
    }

    /// Whether every block is stored.
    fn is_complete(&self) -> bool {
        let (State::Running(step) | State::Paused { step, .. }) = &self.state else { return false };
        step.has_all_blocks()
    }

    pub(super) fn start(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        if matches!(self.state, State::Queued) {
            let first = self.order.intent.clone().map_or(Step::Check, Step::Recover);
            self.enter(now, first, outbox);
        }
    }

    /// Waits for room among the active ones.
    pub(super) fn is_queued(&self) -> bool {
        matches!(self.state, State::Queued)
    }

    /// A newer order for the same path.
    pub(super) fn supersede(&mut self, now: Now, order: Order, outbox: &mut Outbox<Effect>) {
        let last = match &self.next {
            None => Some(&self.order),
            Some(Next::Order(next)) => Some(&**next),
            Some(Next::End) => None,
        };
        let covers = |last: &Order| {
            last.change == order.change && last.directory == order.directory && (last.heal || !order.heal)
        };
        if last.is_some_and(covers) {
            return self.ordered_again(now, outbox);
        }
        let change = order.change;
        if let Some(Next::Order(dropped)) = self.next.replace(Next::Order(Box::new(order)))
            && dropped.change != change
        {
            superseded(&dropped, outbox);
        }
        self.hurry(outbox);
    }

    /// Nothing more is wanted at the path.
    pub(super) fn cancel(&mut self, outbox: &mut Outbox<Effect>) {
        match self.next.replace(Next::End) {
            Some(Next::Order(dropped)) => cancelled(&dropped, outbox),
            Some(Next::End) => return,
            None => {}
        }
        self.hurry(outbox);
    }

    /// Goes on to what is next as soon as the running step may be dropped.
    fn hurry(&mut self, outbox: &mut Outbox<Effect>) {
        match &self.state {
            // On which side of the swap the crash was is to be told first.
            State::Queued if self.order.intent.is_some() && matches!(self.next, Some(Next::End)) => {}
            State::Queued => self.take_next(outbox),
            State::Paused { step, .. } if step.abandonable() => {
                self.take_next(outbox);
            }
            State::Running(Step::Index { .. }) => {
                outbox.push(Effect::CancelIndex { path: self.order.path.clone(), image: self.order.image });
                self.take_next(outbox);
            }
            State::Running(Step::Fetch { .. }) => outbox.push(Effect::CancelFetch { path: self.order.path.clone() }),
            State::Running(_) | State::Paused { .. } | State::Ended => {}
        }
    }

    /// The same order once more: somebody wants to hear how it ends, perhaps because what hindered it is gone.
    fn ordered_again(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        if self.next.is_some() {
            // Its turn is still to come, and so is its end.
            return;
        }
        match &self.state {
            // It was reported, to whoever listened then.
            State::Running(Step::Collect { .. }) => self.report(Origins::default(), true, outbox),
            State::Paused { .. } => self.retry(now, outbox),
            State::Queued | State::Running(_) | State::Ended => {}
        }
    }

    /// Replaces the order by the next one, or ends.
    fn take_next(&mut self, outbox: &mut Outbox<Effect>) {
        let mut next = match self.next.take() {
            None => return,
            Some(Next::End) => {
                cancelled(&self.order, outbox);
                self.state = State::Ended;
                return;
            }
            Some(Next::Order(next)) => *next,
        };
        next.committed = next.committed.or(self.order.committed);
        // It may have gone meanwhile.
        next.previous = next.previous.filter(|_| self.order.previous.is_some());
        // Not begun yet: a crash may have come in the middle of a swap.
        next.intent = next.intent.or(self.order.intent.take());
        if next.change != self.order.change {
            superseded(&self.order, outbox);
        }
        let was_queued = matches!(self.state, State::Queued);
        *self = Self::new(next);
        if !was_queued {
            self.state = State::Running(Step::Check);
            outbox.push(task(&self.order, DiskAction::Look));
        }
    }

    /// Begins a step: exactly one effect that will be answered.
    fn enter(&mut self, now: Now, step: Step, outbox: &mut Outbox<Effect>) {
        if self.next.is_some() && step.abandonable() {
            self.take_next(outbox);
            return;
        }
        let path = self.order.path.clone();
        let id = self.order.image;
        let effect = match &step {
            Step::Recover(intent) => {
                task(&self.order, DiskAction::Side { staged: intent.committed.root, exchange: intent.exchange })
            }
            Step::Check | Step::Aim { .. } => task(&self.order, DiskAction::Look),
            Step::Index { .. } => Effect::NeedIndex { path, image: id },
            Step::Adopt { image } => task(&self.order, DiskAction::Adopt { id, image: image.clone() }),
            Step::Stage { image } => {
                let (image, siblings) = (image.clone(), self.order.siblings.clone());
                task(&self.order, DiskAction::Stage { id, image, siblings })
            }
            Step::Forgo { .. } => task(&self.order, DiskAction::Forgo),
            Step::Discard { .. } => task(&self.order, DiskAction::Collect { previous: Previous::Untouched }),
            Step::Collect { previous } => task(&self.order, DiskAction::Collect { previous: *previous }),
            Step::Fetch { .. } => return self.poison(now, "a fetch needs to know what is staged", outbox),
            Step::Seal { image, linked, .. } => {
                task(&self.order, DiskAction::Seal { image: image.clone(), linked: linked.clone() })
            }
            Step::Intend { intent } => Effect::PutIntent { path, intent: intent.clone() },
            Step::Swap { intent } => task(&self.order, DiskAction::Swap { exchange: intent.exchange }),
            Step::Record { committed } => {
                let directory = self.order.directory.clone();
                Effect::PutCommitted { path, directory, committed: committed.clone() }
            }
        };
        outbox.push(effect);
        self.state = State::Running(step);
    }

    pub(super) fn index(&mut self, now: Now, id: ImageId, image: Arc<Image>, outbox: &mut Outbox<Effect>) {
        let State::Running(Step::Index { found }) = &self.state else { return };
        if id != self.order.image {
            return;
        }
        self.bytes_total = image.total_bytes();
        let occupied = found.is_some_and(|target| !target.empty);
        let next = if occupied { Step::Adopt { image } } else { Step::Stage { image } };
        self.enter(now, next, outbox);
    }

    pub(super) fn unusable(&mut self, now: Now, id: ImageId, reason: String, outbox: &mut Outbox<Effect>) {
        if id != self.order.image || !matches!(self.state, State::Running(Step::Index { .. })) {
            return;
        }
        let Order { path, change, image, .. } = self.order.clone();
        outbox.push(Effect::Failed { path, change, image, reason });
        self.finish(now, outbox);
    }

    pub(super) fn disk(&mut self, now: Now, result: Result<DiskResult, Failure>, outbox: &mut Outbox<Effect>) {
        let State::Running(step) = &self.state else { return };
        let step = step.clone();
        let result = match result {
            Ok(result) => result,
            Err(failure) => return self.failed(now, failure, outbox),
        };
        match (step, result) {
            (Step::Recover(intent), DiskResult::Side(side)) => self.recovered(now, intent, side, outbox),
            (Step::Check, DiskResult::Target(found)) => self.checked(now, found, outbox),
            (Step::Adopt { .. }, DiskResult::Adopted(Some(sealed))) => {
                let committed = self.committed(sealed, 0);
                self.enter(now, Step::Record { committed }, outbox);
            }
            (Step::Adopt { .. }, DiskResult::Adopted(None)) => {
                let text =
                    "something else than an image of ours is at the path; move it away, then publish again".to_owned();
                self.failed(now, Failure { kind: FailureKind::Occupied, text }, outbox);
            }
            (Step::Discard { image }, DiskResult::Done) => self.enter(now, Step::Stage { image }, outbox),
            (Step::Stage { image }, DiskResult::Staged { have, kept_bytes, reused }) => {
                self.staged(image, have, kept_bytes, *reused, outbox);
            }
            (Step::Seal { fetched, .. }, DiskResult::Sealed(sealed)) => {
                let committed = self.committed(sealed, fetched);
                self.enter(now, Step::Aim { committed }, outbox);
            }
            (Step::Aim { committed }, DiskResult::Target(found)) => self.aim(now, committed, found, outbox),
            (Step::Swap { intent }, DiskResult::Done) => {
                self.enter(now, Step::Record { committed: intent.committed }, outbox);
            }
            (Step::Forgo { then }, DiskResult::Done) => {
                self.kept(false, outbox);
                self.enter(now, *then, outbox);
            }
            (Step::Collect { .. }, DiskResult::Done) => self.collected(now, false, outbox),
            (Step::Collect { .. }, DiskResult::Previous { kept }) => self.collected(now, kept, outbox),
            (step, _) => self.poison(now, step.name(), outbox),
        }
    }

    fn staged(
        &mut self,
        image: Arc<Image>,
        have: BlockSet,
        kept_bytes: u64,
        reused: Reused,
        outbox: &mut Outbox<Effect>,
    ) {
        let Reused { linked, bytes_linked, bytes_copied, sources, rehashed, damaged } = reused;
        for damage in damaged {
            outbox.push(Effect::Damaged(damage));
        }
        self.found = Found { bytes_kept: kept_bytes, bytes_linked, bytes_copied, rehashed, sources };
        if self.next.is_some() {
            return self.take_next(outbox);
        }
        let Order { path, directory, image: id, .. } = self.order.clone();
        outbox.push(Effect::Fetch { path, directory, id, image: image.clone(), have });
        self.state = State::Running(Step::Fetch { image, linked: Arc::new(linked) });
    }

    fn checked(&mut self, now: Now, found: Option<Target>, outbox: &mut Outbox<Effect>) {
        let ours = found.and_then(|target| self.order.committed.filter(|(_, root)| *root == target.identity));
        match ours {
            Some((image, _)) if image == self.order.image && !self.order.heal => {
                self.report(Origins::default(), true, outbox);
                // A crash may have come between recording and collecting.
                self.collect(now, outbox);
            }
            Some((standing, _)) if self.keeps(standing) => self.conflict(now, standing, outbox),
            Some(_) => self.enter(now, Step::Index { found: None }, outbox),
            None => self.enter(now, Step::Index { found }, outbox),
        }
    }

    /// Chooses how to swap; whatever isn't ours is left alone.
    fn aim(&mut self, now: Now, committed: CommittedRecord, found: Option<Target>, outbox: &mut Outbox<Effect>) {
        let ours = found.and_then(|target| self.order.committed.filter(|(_, root)| *root == target.identity));
        match (found, ours) {
            (Some(_), Some((standing, _))) if self.keeps(standing) => self.conflict(now, standing, outbox),
            (Some(target), None) if !target.empty => {
                let text =
                    "something appeared at the path during the deployment; move it away, then publish again".to_owned();
                self.failed(now, Failure { kind: FailureKind::Occupied, text }, outbox);
            }
            (found, ours) => {
                // A tree that is healed is no other one.
                let other = ours.filter(|(standing, _)| *standing != self.order.image);
                let previous = other.or(self.order.previous).filter(|_| self.order.directory.keep_previous);
                let committed = CommittedRecord { previous, ..committed };
                self.enter(now, Step::Intend { intent: IntentRecord { committed, exchange: found.is_some() } }, outbox);
            }
        }
    }

    /// Whether what is visible may not be replaced by this order.
    fn keeps(&self, standing: ImageId) -> bool {
        self.order.directory.append_only && !self.order.replaces && standing != self.order.image
    }

    /// What is visible in an append-only directory stays, whatever won elsewhere.
    fn conflict(&mut self, now: Now, standing: ImageId, outbox: &mut Outbox<Effect>) {
        let Order { path, change, image, .. } = self.order.clone();
        outbox.push(Effect::Conflict { path, change, image, standing });
        self.finish(now, outbox);
    }

    fn recovered(&mut self, now: Now, intent: IntentRecord, side: Side, outbox: &mut Outbox<Effect>) {
        self.order.intent = None;
        match side {
            Side::After => self.enter(now, Step::Record { committed: intent.committed }, outbox),
            Side::Between => self.enter(now, Step::Swap { intent }, outbox),
            Side::Before | Side::Lost => self.enter(now, Step::Check, outbox),
        }
    }

    pub(super) fn fetched(&mut self, now: Now, bytes: u64, from: Vec<Supply>, outbox: &mut Outbox<Effect>) {
        let State::Running(Step::Fetch { image, linked }) = &self.state else { return };
        let (image, linked) = (image.clone(), linked.clone());
        self.found.sources.retain(|supply| !supply.way.is_fetched());
        self.found.sources.extend(from);
        self.enter(now, Step::Seal { image, linked, fetched: bytes }, outbox);
    }

    pub(super) fn fetch_cancelled(&mut self, _now: Now, outbox: &mut Outbox<Effect>) {
        if matches!(self.state, State::Running(Step::Fetch { .. })) {
            self.take_next(outbox);
        }
    }

    pub(super) fn written(&mut self, now: Now, result: Result<(), Failure>, outbox: &mut Outbox<Effect>) {
        let State::Running(step) = &self.state else { return };
        let step = step.clone();
        if let Err(failure) = result {
            return self.failed(now, failure, outbox);
        }
        match step {
            Step::Intend { intent } => self.enter(now, Step::Swap { intent }, outbox),
            Step::Record { committed } => {
                self.order.committed = Some((committed.image, committed.root));
                self.order.previous = committed.previous;
                self.order.heal = false;
                if committed.change != self.order.change {
                    // A crash interrupted the swap of an older change; the order itself is still to be done.
                    return self.enter(now, Step::Check, outbox);
                }
                self.report(committed.bytes, false, outbox);
                self.collect(now, outbox);
            }
            Step::Recover(_)
            | Step::Check
            | Step::Index { .. }
            | Step::Adopt { .. }
            | Step::Stage { .. }
            | Step::Discard { .. }
            | Step::Forgo { .. }
            | Step::Fetch { .. }
            | Step::Seal { .. }
            | Step::Aim { .. }
            | Step::Swap { .. }
            | Step::Collect { .. } => self.poison(now, "write", outbox),
        }
    }

    /// Ends the order; a newer one takes over.
    fn finish(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        self.state = State::Ended;
        if let Some(Next::Order(mut next)) = self.next.take() {
            (next.committed, next.previous) = (self.order.committed, self.order.previous);
            *self = Self::new(*next);
            self.start(now, outbox);
        }
    }

    fn committed(&self, sealed: Sealed, fetched: u64) -> CommittedRecord {
        CommittedRecord {
            change: self.order.change,
            image: self.order.image,
            root: sealed.root,
            bytes: self.origins(fetched),
            fingerprints: sealed.fingerprints.into(),
            previous: None,
        }
    }

    fn origins(&self, fetched: u64) -> Origins {
        let (linked, copied) = (self.found.bytes_linked, self.found.bytes_copied);
        Origins { linked, copied, kept: self.bytes_total.saturating_sub(fetched + linked + copied), fetched }
    }

    fn report(&self, bytes: Origins, already: bool, outbox: &mut Outbox<Effect>) {
        let Order { path, change, image, .. } = self.order.clone();
        let found = Box::new(self.found.clone());
        outbox.push(Effect::Done { path, change, image, bytes, already, found });
    }
}

fn superseded(order: &Order, outbox: &mut Outbox<Effect>) {
    let Order { path, change, image, .. } = order.clone();
    outbox.push(Effect::Superseded { path, change, image });
}

fn cancelled(order: &Order, outbox: &mut Outbox<Effect>) {
    let Order { path, change, image, .. } = order.clone();
    outbox.push(Effect::Cancelled { path, change, image });
}
