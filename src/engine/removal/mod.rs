//! Carries out removals that were signed: `Collect → Remove → Forget`, several paths at a time.
//!
//! That a delete holds at a path is durable before, and is its mark: after a crash the node begins again. What is to be removed, and that
//! no deployment is under way there, is `node`'s; how a tree is removed so that it is whole or gone, `driver/disk`'s.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::engine::contract::{Engine, Outbox};
use crate::model::directory::DirectoryConfig;
use crate::model::disk_task::{DiskAction, DiskResult, DiskTask, Previous};
use crate::model::failure::{Failure, FailureKind};
use crate::model::fingerprint::FileIdentity;
use crate::model::limits;
use crate::model::time::{Now, Time};
use crate::model::vpath::VPath;

/// What can happen.
#[derive(Debug)]
pub enum Input {
    /// Remove what is staged for a path, and the visible tree that has this root. At most once until [`Effect::Ended`].
    Begin { path: VPath, directory: Arc<DirectoryConfig>, root: Option<FileIdentity> },
    /// A failed removal isn't wanted any more.
    Drop { path: VPath },
    /// Answer to [`Effect::Disk`].
    Disk { path: VPath, result: Result<DiskResult, Failure> },
    /// Answer to [`Effect::Forget`].
    Forgotten { path: VPath, result: Result<(), Failure> },
}

/// What should be done.
#[derive(Debug)]
pub enum Effect {
    /// Work on the disk.
    Disk(DiskTask),
    /// Write down that nothing is there.
    Forget { path: VPath },
    /// It is gone; or it failed, and the path is free until the pause is over. No answer.
    Ended { path: VPath, result: Result<(), Failure> },
    /// A pause is over: should it still be removed? No answer, but perhaps [`Input::Begin`].
    Again { path: VPath },
}

/// All removals of a node.
#[derive(Debug, Default)]
pub struct Removals {
    jobs: BTreeMap<VPath, Job>,
    queue: VecDeque<VPath>,
    active: usize,
}

#[derive(Debug)]
struct Job {
    directory: Arc<DirectoryConfig>,
    root: Option<FileIdentity>,
    state: State,
    /// The last pause: the next one is twice as long.
    pause: Duration,
}

/// What a removal is at.
#[derive(Debug)]
enum State {
    /// Waits for others.
    Queued,
    /// Each of these waits for an answer.
    Collecting,
    Removing,
    Forgetting,
    /// A step failed.
    Paused {
        until: Time,
        failure: Failure,
    },
    /// The pause is over.
    Asking,
}

impl State {
    const fn is_free(&self) -> bool {
        matches!(self, Self::Paused { .. } | Self::Asking)
    }
}

impl Removals {
    /// Whether the path is being removed: no deployment may begin there.
    pub fn removes(&self, path: &VPath) -> bool {
        self.jobs.get(path).is_some_and(|job| !job.state.is_free())
    }

    /// Why a removal has to be tried again.
    pub fn failure(&self, path: &VPath) -> Option<&Failure> {
        match &self.jobs.get(path)?.state {
            State::Paused { failure, .. } => Some(failure),
            State::Queued | State::Collecting | State::Removing | State::Forgetting | State::Asking => None,
        }
    }

    fn begin(
        &mut self,
        path: VPath,
        directory: Arc<DirectoryConfig>,
        root: Option<FileIdentity>,
        outbox: &mut Outbox<Effect>,
    ) {
        let before = self.jobs.get(&path);
        if before.is_some_and(|job| !job.state.is_free()) {
            return;
        }
        let pause = before.map_or(Duration::ZERO, |job| job.pause);
        self.jobs.insert(path.clone(), Job { directory, root, state: State::Queued, pause });
        self.queue.push_back(path);
        self.start_queued(outbox);
    }

    fn start_queued(&mut self, outbox: &mut Outbox<Effect>) {
        while self.active < limits::REMOVALS_ACTIVE_MAX {
            let Some(path) = self.queue.pop_front() else { return };
            if let Some(job) = self.jobs.get_mut(&path) {
                self.active += 1;
                job.state = State::Collecting;
                outbox.push(job.disk(&path, DiskAction::Collect { previous: Previous::Dropped }));
            }
        }
    }

    fn disk(&mut self, now: Now, path: VPath, result: Result<DiskResult, Failure>, outbox: &mut Outbox<Effect>) {
        let Some(job) = self.jobs.get_mut(&path) else { return };
        match (&job.state, result) {
            (State::Collecting, Ok(DiskResult::Done)) => match job.root {
                Some(root) => {
                    job.state = State::Removing;
                    outbox.push(job.disk(&path, DiskAction::Remove { root, only_rest: false }));
                }
                None => job.forget(path, outbox),
            },
            (State::Removing, Ok(DiskResult::Removed { gone: true })) => job.forget(path, outbox),
            (State::Collecting | State::Removing, Ok(other)) => {
                let text = format!("internal error: {other:?} for a removal");
                self.fail(now, path, Failure { kind: FailureKind::Io, text }, outbox);
            }
            (State::Collecting | State::Removing, Err(failure)) => self.fail(now, path, failure, outbox),
            (State::Queued | State::Forgetting | State::Paused { .. } | State::Asking, _) => {}
        }
    }

    fn forgotten(&mut self, now: Now, path: VPath, result: Result<(), Failure>, outbox: &mut Outbox<Effect>) {
        if !self.jobs.get(&path).is_some_and(|job| matches!(job.state, State::Forgetting)) {
            return;
        }
        match result {
            Ok(()) => {
                self.jobs.remove(&path);
                outbox.push(Effect::Ended { path, result: Ok(()) });
                self.next(outbox);
            }
            Err(failure) => self.fail(now, path, failure, outbox),
        }
    }

    fn fail(&mut self, now: Now, path: VPath, failure: Failure, outbox: &mut Outbox<Effect>) {
        let Some(job) = self.jobs.get_mut(&path) else { return };
        job.pause = (job.pause * 2).clamp(limits::RETRY_PAUSE_MIN, limits::RETRY_PAUSE_MAX);
        job.state = State::Paused { until: now.time + job.pause, failure: failure.clone() };
        outbox.push(Effect::Ended { path, result: Err(failure) });
        self.next(outbox);
    }

    fn next(&mut self, outbox: &mut Outbox<Effect>) {
        self.active = self.active.saturating_sub(1);
        self.start_queued(outbox);
    }
}

impl Job {
    fn disk(&self, path: &VPath, action: DiskAction) -> Effect {
        Effect::Disk(DiskTask { directory: self.directory.clone(), path: path.clone(), action })
    }

    fn forget(&mut self, path: VPath, outbox: &mut Outbox<Effect>) {
        self.state = State::Forgetting;
        outbox.push(Effect::Forget { path });
    }
}

impl Engine for Removals {
    type Input = Input;
    type Effect = Effect;

    fn handle(&mut self, now: Now, input: Input, outbox: &mut Outbox<Effect>) {
        match input {
            Input::Begin { path, directory, root } => self.begin(path, directory, root, outbox),
            Input::Drop { path } => {
                if self.jobs.get(&path).is_some_and(|job| job.state.is_free()) {
                    self.jobs.remove(&path);
                }
            }
            Input::Disk { path, result } => self.disk(now, path, result, outbox),
            Input::Forgotten { path, result } => self.forgotten(now, path, result, outbox),
        }
    }

    /// Changes with every answer: the earliest end of a pause.
    fn deadline(&self) -> Option<(Time, &'static str)> {
        let pauses = self.jobs.values().filter_map(|job| match &job.state {
            State::Paused { until, .. } => Some(*until),
            State::Queued | State::Collecting | State::Removing | State::Forgetting | State::Asking => None,
        });
        pauses.min().map(|at| (at, "removal: try again"))
    }

    fn handle_timeout(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        for (path, job) in &mut self.jobs {
            if matches!(job.state, State::Paused { until, .. } if until <= now.time) {
                job.state = State::Asking;
                outbox.push(Effect::Again { path: path.clone() });
            }
        }
    }
}
