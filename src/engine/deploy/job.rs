//! The state machine of one path.

mod previous;
mod results;
mod trouble;

use std::time::Duration;

use super::step::Step;
use super::{Effect, Found, Order, Status, task};
use crate::engine::contract::Outbox;
use crate::format::record::CommittedRecord;
use crate::model::disk_task::{DiskAction, Previous, Sealed};
use crate::model::failure::Failure;
use crate::model::ids::ImageId;
use crate::model::origins::Origins;
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
