//! What the answers to a step's effect lead to.

use std::sync::Arc;

use super::{Effect, Found, Job, Order, State, Step};
use crate::engine::contract::Outbox;
use crate::format::record::{CommittedRecord, IntentRecord};
use crate::model::block_set::BlockSet;
use crate::model::disk_task::{DiskResult, Side, Target};
use crate::model::failure::{Failure, FailureKind};
use crate::model::ids::ImageId;
use crate::model::image::Image;
use crate::model::origins::{Origins, Supply};
use crate::model::reuse::Reused;
use crate::model::time::Now;

impl Job {
    pub(in crate::engine::deploy) fn index(
        &mut self,
        now: Now,
        id: ImageId,
        image: Arc<Image>,
        outbox: &mut Outbox<Effect>,
    ) {
        let State::Running(Step::Index { found }) = &self.state else { return };
        if id != self.order.image {
            return;
        }
        self.bytes_total = image.total_bytes();
        let occupied = found.is_some_and(|target| !target.empty);
        let next = if occupied { Step::Adopt { image } } else { Step::Stage { image } };
        self.enter(now, next, outbox);
    }

    pub(in crate::engine::deploy) fn unusable(
        &mut self,
        now: Now,
        id: ImageId,
        reason: String,
        outbox: &mut Outbox<Effect>,
    ) {
        if id != self.order.image || !matches!(self.state, State::Running(Step::Index { .. })) {
            return;
        }
        let Order { path, change, image, .. } = self.order.clone();
        outbox.push(Effect::Failed { path, change, image, reason });
        self.finish(now, outbox);
    }

    pub(in crate::engine::deploy) fn disk(
        &mut self,
        now: Now,
        result: Result<DiskResult, Failure>,
        outbox: &mut Outbox<Effect>,
    ) {
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

    pub(in crate::engine::deploy) fn fetched(
        &mut self,
        now: Now,
        bytes: u64,
        from: Vec<Supply>,
        outbox: &mut Outbox<Effect>,
    ) {
        let State::Running(Step::Fetch { image, linked }) = &self.state else { return };
        let (image, linked) = (image.clone(), linked.clone());
        self.found.sources.retain(|supply| !supply.way.is_fetched());
        self.found.sources.extend(from);
        self.enter(now, Step::Seal { image, linked, fetched: bytes }, outbox);
    }

    pub(in crate::engine::deploy) fn fetch_cancelled(&mut self, _now: Now, outbox: &mut Outbox<Effect>) {
        if matches!(self.state, State::Running(Step::Fetch { .. })) {
            self.take_next(outbox);
        }
    }

    pub(in crate::engine::deploy) fn written(
        &mut self,
        now: Now,
        result: Result<(), Failure>,
        outbox: &mut Outbox<Effect>,
    ) {
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
}
