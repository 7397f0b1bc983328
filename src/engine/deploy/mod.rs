//! One directory from registered to reported: `Check → Index → Stage → Fetch → Seal → Intend → Swap → Record → Collect`.
//!
//! Each path has at most one `Job`; a newer order for the same path waits until the running step is answered.
//! A failed step is a state (shown, tried again with growing pauses), never an end. Which blocks to ask from whom is
//! `fetch`'s, whether a change may be deployed at all is `access`'s.

mod job;
#[cfg(test)]
mod order_tests;
mod step;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use self::job::Job;
use crate::engine::contract::{Engine, Outbox, earlier};
use crate::format::record::{CommittedRecord, IntentRecord};
use crate::model::block_set::BlockSet;
use crate::model::directory::DirectoryConfig;
use crate::model::disk_task::{DiskAction, DiskResult, DiskTask};
use crate::model::failure::Failure;
use crate::model::fingerprint::FileIdentity;
use crate::model::ids::{ChangeId, ImageId};
use crate::model::image::Image;
use crate::model::limits;
use crate::model::origins::{Origins, Supply};
use crate::model::reuse::{Damage, Sibling};
use crate::model::time::{Now, Time};
use crate::model::vpath::VPath;

/// Put this image at this path.
#[derive(Debug, Clone)]
pub struct Order {
    /// Where.
    pub path: VPath,
    /// The config that says where the path lies on disk.
    pub directory: Arc<DirectoryConfig>,
    /// By which change.
    pub change: ChangeId,
    /// What.
    pub image: ImageId,
    /// What this node committed there before, if anything.
    pub committed: Option<(ImageId, FileIdentity)>,
    /// What was committed is damaged: it is deployed again, also if it is this image.
    pub heal: bool,
    /// A swap that a crash may have interrupted.
    pub intent: Option<IntentRecord>,
    /// Committed directories that may have blocks of the image.
    pub siblings: Arc<[Sibling]>,
    /// Whether it may take the place of another image also in an append-only directory.
    pub replaces: bool,
    /// What was visible before and is kept: its image and root.
    pub previous: Option<(ImageId, FileIdentity)>,
}

/// What can happen.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "an input is handled at once, not kept")]
pub enum Input {
    /// A change was registered (or was found unfinished at start).
    Order(Order),
    /// Answer to [`Effect::NeedIndex`].
    Index { path: VPath, id: ImageId, image: Arc<Image> },
    /// Another answer to [`Effect::NeedIndex`]: the index is genuine but can't be deployed.
    Unusable { path: VPath, id: ImageId, reason: String },
    /// Answer to [`Effect::Disk`].
    Disk { path: VPath, result: Result<DiskResult, Failure> },
    /// Answer to [`Effect::Fetch`]: every block is stored; so many bytes were fetched, and from whom most of them.
    Fetched { path: VPath, bytes: u64, from: Vec<Supply> },
    /// Another answer to [`Effect::Fetch`]: storing failed.
    FetchFailed { path: VPath, failure: Failure },
    /// Another answer to [`Effect::Fetch`], after [`Effect::CancelFetch`].
    FetchCancelled { path: VPath },
    /// Answer to [`Effect::PutIntent`] and [`Effect::PutCommitted`].
    Written { path: VPath, result: Result<(), Failure> },
    /// The path isn't configured any more: whatever has not come to the swap ends, with [`Effect::Cancelled`].
    Cancel { path: VPath },
    /// The configuration was read again: paused jobs try at once.
    Retry,
}

/// What should be done.
#[derive(Debug)]
pub enum Effect {
    /// Get the image's index from wherever.
    NeedIndex { path: VPath, image: ImageId },
    /// Takes the question for the index back. No answer, to either.
    CancelIndex { path: VPath, image: ImageId },
    /// Work on the disk.
    Disk(DiskTask),
    /// Get all blocks but these.
    Fetch { path: VPath, directory: Arc<DirectoryConfig>, id: ImageId, image: Arc<Image>, have: BlockSet },
    /// Stop getting blocks.
    CancelFetch { path: VPath },
    /// Write the intent durably.
    PutIntent { path: VPath, intent: IntentRecord },
    /// Write what is committed, and drop the intent, durably.
    PutCommitted { path: VPath, directory: Arc<DirectoryConfig>, committed: CommittedRecord },
    /// A committed directory isn't what it should be. No answer.
    Damaged(Damage),
    /// What was visible before, and set aside, isn't any more; `for_room`: since there was no room for the order. No answer.
    Forgone { path: VPath, image: ImageId, root: FileIdentity, for_room: bool },
    /// The directory is visible and recorded; `already`: it was before this order. No answer.
    Done { path: VPath, change: ChangeId, image: ImageId, bytes: Origins, already: bool, found: Box<Found> },
    /// A newer order took the path. No answer.
    Superseded { path: VPath, change: ChangeId, image: ImageId },
    /// Another image is visible in an append-only directory, where nothing takes its place. No answer.
    Conflict { path: VPath, change: ChangeId, image: ImageId, standing: ImageId },
    /// Nothing more is done at the path. No answer.
    Cancelled { path: VPath, change: ChangeId, image: ImageId },
    /// The image can never be deployed. No answer.
    Failed { path: VPath, change: ChangeId, image: ImageId, reason: String },
    /// A step failed and will be tried again. No answer.
    Paused { path: VPath, failure: Failure },
}

/// How far a deployment is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// By which change.
    pub change: ChangeId,
    /// What.
    pub image: ImageId,
    /// The step's name.
    pub step: &'static str,
    /// It is done, and said so: only what it left behind is still being removed.
    pub reported: bool,
    /// What it waits for, in words; `None`: it's working.
    pub waiting: Option<String>,
    /// The kind of failure that it waits to go away.
    pub failure: Option<Failure>,
    /// Bytes of all files; 0 while the index isn't known.
    pub bytes_total: u64,
    /// Bytes that are there, but those which `fetch` has brought and not yet handed over.
    pub bytes_done: u64,
    /// What was there already.
    pub found: Found,
}

/// Where an image came from: what of it was on this node already, and who gave the rest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// Bytes that an earlier attempt had staged.
    pub bytes_kept: u64,
    /// Bytes of files that were linked.
    pub bytes_linked: u64,
    /// Bytes of blocks that were copied.
    pub bytes_copied: u64,
    /// Files that were hashed again before they were linked or left alone.
    pub rehashed: u64,
    /// From where; of each way those which gave most, first.
    pub sources: Vec<Supply>,
}

impl Found {
    /// All of it.
    pub fn bytes(&self) -> u64 {
        self.bytes_kept + self.bytes_linked + self.bytes_copied
    }
}

/// All deployments of a node.
#[derive(Debug, Default)]
pub struct Deploys {
    jobs: BTreeMap<VPath, Job>,
    /// Started and not ended; the others wait in `queue`.
    active: BTreeSet<VPath>,
    queue: std::collections::VecDeque<VPath>,
}

impl Deploys {
    /// How many have not ended.
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Whether all have ended.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// How far the path's deployment is; `None` when nothing is under way.
    pub fn status(&self, path: &VPath) -> Option<Status> {
        self.jobs.get(path).map(Job::status)
    }

    /// Paths with a deployment under way.
    pub fn paths(&self) -> impl Iterator<Item = &VPath> {
        self.jobs.keys()
    }

    /// Whether any path has this image under way.
    pub fn uses(&self, image: ImageId) -> bool {
        self.jobs.values().any(|job| job.image() == image)
    }

    /// All images under way.
    pub fn images(&self) -> impl Iterator<Item = ImageId> {
        self.jobs.values().flat_map(Job::images)
    }

    fn order(&mut self, now: Now, order: Order, outbox: &mut Outbox<Effect>) {
        if let Some(job) = self.jobs.get_mut(&order.path) {
            let path = order.path.clone();
            job.supersede(now, order, outbox);
            if !job.is_queued() {
                self.settle(now, &path, outbox);
            }
            return;
        }
        let path = order.path.clone();
        self.jobs.insert(path.clone(), Job::new(order));
        self.queue.push_back(path);
        self.start_queued(now, outbox);
    }

    fn cancel(&mut self, now: Now, path: &VPath, outbox: &mut Outbox<Effect>) {
        let Some(job) = self.jobs.get_mut(path) else { return };
        job.cancel(outbox);
        if !job.is_queued() {
            self.queue.retain(|queued| queued != path);
            self.settle(now, path, outbox);
        }
    }

    /// Starts waiting jobs while there is room.
    fn start_queued(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        while self.active.len() < limits::DEPLOYS_ACTIVE_MAX {
            let Some(path) = self.queue.pop_front() else { return };
            if let Some(job) = self.jobs.get_mut(&path) {
                self.active.insert(path);
                job.start(now, outbox);
            }
        }
    }

    /// Lets the job take its answer, and removes it when it has ended.
    fn advance(
        &mut self,
        now: Now,
        path: &VPath,
        outbox: &mut Outbox<Effect>,
        step: impl FnOnce(&mut Job, &mut Outbox<Effect>),
    ) {
        let Some(job) = self.jobs.get_mut(path) else { return };
        step(job, outbox);
        self.settle(now, path, outbox);
    }

    /// A job that waits for somebody else gives its place to the next in the queue; one that ended is removed.
    fn settle(&mut self, now: Now, path: &VPath, outbox: &mut Outbox<Effect>) {
        let Some(job) = self.jobs.get(path) else { return };
        if job.ended() {
            self.jobs.remove(path);
            self.active.remove(path);
        } else if job.yields() {
            self.active.remove(path);
        } else {
            self.active.insert(path.clone());
        }
        self.start_queued(now, outbox);
    }
}

impl Engine for Deploys {
    type Input = Input;
    type Effect = Effect;

    fn handle(&mut self, now: Now, input: Input, outbox: &mut Outbox<Effect>) {
        match input {
            Input::Order(order) => self.order(now, order, outbox),
            Input::Index { path, id, image } => {
                self.advance(now, &path, outbox, |job, out| job.index(now, id, image, out));
            }
            Input::Unusable { path, id, reason } => {
                self.advance(now, &path, outbox, |job, out| job.unusable(now, id, reason, out));
            }
            Input::Disk { path, result } => self.advance(now, &path, outbox, |job, out| job.disk(now, result, out)),
            Input::Fetched { path, bytes, from } => {
                self.advance(now, &path, outbox, |job, out| job.fetched(now, bytes, from, out));
            }
            Input::FetchFailed { path, failure } => {
                self.advance(now, &path, outbox, |job, out| job.failed(now, failure, out));
            }
            Input::FetchCancelled { path } => {
                self.advance(now, &path, outbox, |job, out| job.fetch_cancelled(now, out));
            }
            Input::Written { path, result } => {
                self.advance(now, &path, outbox, |job, out| job.written(now, result, out));
            }
            Input::Cancel { path } => self.cancel(now, &path, outbox),
            Input::Retry => {
                let paths: Vec<_> = self.jobs.keys().cloned().collect();
                for path in paths {
                    self.advance(now, &path, outbox, |job, out| job.retry(now, out));
                }
            }
        }
    }

    /// Changes with every answer and order: the earliest end of a pause.
    fn deadline(&self) -> Option<(Time, &'static str)> {
        self.jobs.values().map(Job::deadline).fold(None, earlier)
    }

    fn handle_timeout(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        let due: Vec<_> = self
            .jobs
            .iter()
            .filter(|(_, job)| job.deadline().is_some_and(|(at, _)| at <= now.time))
            .map(|(path, _)| path.clone())
            .collect();
        for path in due {
            self.advance(now, &path, outbox, |job, out| job.retry(now, out));
        }
    }
}

/// The disk task of an order.
fn task(order: &Order, action: DiskAction) -> Effect {
    Effect::Disk(DiskTask { directory: order.directory.clone(), path: order.path.clone(), action })
}
