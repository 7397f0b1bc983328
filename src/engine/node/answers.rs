//! Answers of disk and database, handed to whoever asked.

use super::{Effect, JobId, Node, Purpose};
use crate::engine::contract::Outbox;
use crate::engine::{deploy, fetch, removal, retention};
use crate::model::disk_task::DiskResult;
use crate::model::failure::{Failure, FailureKind};
use crate::model::retention::Active;
use crate::model::time::Now;

impl Node {
    pub(super) fn disk_done(
        &mut self,
        now: Now,
        job: JobId,
        result: Result<DiskResult, Failure>,
        outbox: &mut Outbox<Effect>,
    ) {
        match self.jobs.remove(&job) {
            Some(Purpose::Deploy(path)) => self.deploy(now, deploy::Input::Disk { path, result }, outbox),
            Some(Purpose::Store(path, run)) => {
                self.watch.touch(&path);
                let result = result.and_then(|result| {
                    let DiskResult::Stored { bad } = result else {
                        let text = format!("internal error: {result:?} for a store");
                        return Err(Failure { kind: FailureKind::Io, text });
                    };
                    Ok(bad)
                });
                self.fetch(now, fetch::Input::Stored { path, run, result }, outbox);
            }
            Some(Purpose::Estimate(connection)) => self.plan_looked(connection, job, result, outbox),
            Some(Purpose::Scrub(path)) => self.scrub_done(now, &path, result, outbox),
            Some(Purpose::Remove(path)) => self.retention(now, retention::Input::Disk { path, result }, outbox),
            Some(Purpose::Delete(path)) => self.removal(now, removal::Input::Disk { path, result }, outbox),
            Some(
                Purpose::Register(_)
                | Purpose::Incarnation(_)
                | Purpose::Damage
                | Purpose::Forgone
                | Purpose::Survey(_)
                | Purpose::Mark(..)
                | Purpose::Forget(_)
                | Purpose::ForgetDeleted(_)
                | Purpose::Verdict,
            )
            | None => {}
        }
    }

    pub(super) fn written(&mut self, now: Now, job: JobId, result: Result<(), Failure>, outbox: &mut Outbox<Effect>) {
        match self.jobs.remove(&job) {
            Some(Purpose::Deploy(path)) => self.deploy(now, deploy::Input::Written { path, result }, outbox),
            Some(Purpose::Register(done)) => self.registered(now, done, result, outbox),
            Some(Purpose::Incarnation(incarnation)) if result.is_ok() => self.incarnated(now, incarnation, outbox),
            Some(Purpose::Mark(path, change, cleaned)) => self.marked(now, path, (change, cleaned), result, outbox),
            Some(Purpose::ForgetDeleted(path)) => {
                self.removal(now, removal::Input::Forgotten { path, result }, outbox);
            }
            Some(Purpose::Forget(path)) => self.retention(now, retention::Input::Forgotten { path, result }, outbox),
            Some(
                Purpose::Store(..)
                | Purpose::Incarnation(_)
                | Purpose::Damage
                | Purpose::Forgone
                | Purpose::Survey(_)
                | Purpose::Remove(_)
                | Purpose::Delete(_)
                | Purpose::Estimate(_)
                | Purpose::Scrub(_)
                | Purpose::Verdict,
            )
            | None => {}
        }
    }

    pub(super) fn survey_done(
        &mut self,
        now: Now,
        job: JobId,
        result: Result<Active, Failure>,
        outbox: &mut Outbox<Effect>,
    ) {
        if let Some(Purpose::Survey(directory)) = self.jobs.remove(&job) {
            self.surveyed(now, directory, result, outbox);
        }
    }
}
