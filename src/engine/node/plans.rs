//! Clients that ask what a change would do here: the verdict, and what it would take. Nothing is kept of it, and nothing changed.
//!
//! Only who may submit the change is told what it would take: then the node asks that client for the index.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::connections::Asked;
use super::{Effect, JobId, Node, Purpose};
use crate::engine::access;
use crate::engine::contract::Outbox;
use crate::format::wire::{PlanAnswer, Request, Response, SubmitAnswer};
use crate::model::change::SignedChange;
use crate::model::directory::DirectoryConfig;
use crate::model::estimate::{Estimate, EstimateTask};
use crate::model::ids::ImageId;
use crate::model::limits;
use crate::model::peer::ConnectionId;
use crate::model::time::{Now, Time};
use crate::model::verdict::{Refusal, Verdict};
use crate::model::vpath::VPath;

/// Plans under way, at most one for each connection.
#[derive(Debug, Default)]
pub(super) struct Plans {
    open: BTreeMap<ConnectionId, Plan>,
}

#[derive(Debug)]
struct Plan {
    request: u64,
    answer: SubmitAnswer,
    directory: Arc<DirectoryConfig>,
    path: VPath,
    image: ImageId,
    index: Vec<u8>,
    /// Of the last question; `None`: the client is asked for the index.
    job: Option<JobId>,
    until: Time,
}

impl Plans {
    /// Nobody waits for it any more.
    pub(super) fn forget(&mut self, connection: ConnectionId) {
        self.open.remove(&connection);
    }

    pub(super) fn deadline(&self) -> Option<(Time, &'static str)> {
        self.open.values().map(|plan| plan.until).min().map(|at| (at, "plans: one takes too long"))
    }
}

impl Node {
    /// Somebody asks what would come of a change.
    pub(super) fn plan(
        &mut self,
        now: Now,
        (connection, request): (ConnectionId, u64),
        signed: &SignedChange,
        outbox: &mut Outbox<Effect>,
    ) {
        let path = signed.change.path.clone();
        let head = self.heads.access_head(&path, self.gone(&path).is_some());
        let mut verdict = access::decide_plan(signed, &self.config, self.cluster_name.as_deref(), head, now.stamp);
        if verdict == Verdict::Accept && self.deploys.len() >= limits::DEPLOYS_MAX && !signed.change.deletes() {
            verdict = Verdict::Refused(Refusal::Overloaded);
        }
        let answer = self.submit_answer(&path, &verdict);
        let directory = self.config.serves(&path).filter(|_| verdict == Verdict::Accept).cloned();
        let (Some(directory), Some(image)) = (directory, signed.change.image) else {
            let plan = Box::new(PlanAnswer { answer, estimate: None, problem: None });
            return self.respond(connection, request, Response::Plan(plan), outbox);
        };
        if self.plans.open.len() >= limits::PLANS_MAX || self.plans.open.contains_key(&connection) {
            let problem = Some("too many plans are asked for at once here; try again later".to_owned());
            let plan = Box::new(PlanAnswer { answer, estimate: None, problem });
            return self.respond(connection, request, Response::Plan(plan), outbox);
        }
        let until = now.time + limits::PLAN_DURATION_MAX;
        let plan = Plan { request, answer, directory, path, image, index: Vec::new(), job: None, until };
        self.plans.open.insert(connection, plan);
        self.request(connection, Request::GetIndexPart { id: image, offset: 0 }, Asked::Plan, outbox);
    }

    /// A part of the index came.
    pub(super) fn plan_answered(&mut self, connection: ConnectionId, response: Response, outbox: &mut Outbox<Effect>) {
        let Some(plan) = self.plans.open.get_mut(&connection).filter(|plan| plan.job.is_none()) else { return };
        let problem = match response {
            Response::GetIndexPart { total, .. } if total > limits::PLAN_INDEX_BYTES_MAX as u64 => {
                format!("an index of {total} bytes is too long for a plan")
            }
            Response::GetIndexPart { data, total } if !data.is_empty() => {
                plan.index.extend_from_slice(&data);
                let offset = plan.index.len() as u64;
                if offset < total {
                    let request = Request::GetIndexPart { id: plan.image, offset };
                    return self.request(connection, request, Asked::Plan, outbox);
                }
                return self.estimate(connection, outbox);
            }
            Response::Error(text) => format!("you gave no index: {text}"),
            Response::GetIndexPart { .. }
            | Response::AppendDir(_)
            | Response::ReplaceDir(_)
            | Response::GetIndex { .. }
            | Response::GetIndexAt { .. }
            | Response::GetBlock { .. }
            | Response::GetBlocks { .. }
            | Response::SubmitChange(_)
            | Response::Plan(_)
            | Response::Node(_) => "you gave no index".to_owned(),
        };
        self.plan_ended(connection, Err(problem), outbox);
    }

    fn estimate(&mut self, connection: ConnectionId, outbox: &mut Outbox<Effect>) {
        let job = self.job(Purpose::Estimate(connection));
        let Some(plan) = self.plans.open.get_mut(&connection) else { return };
        plan.job = Some(job);
        let (directory, path, image) = (plan.directory.clone(), plan.path.clone(), plan.image);
        let index = Bytes::from(std::mem::take(&mut plan.index));
        let siblings = self.heads.siblings_of(&path);
        outbox.push(Effect::Estimate { job, task: EstimateTask { directory, path, image, index, siblings } });
    }

    /// The answer to [`Self::estimate`].
    pub(super) fn estimated(&mut self, job: JobId, result: Result<Estimate, String>, outbox: &mut Outbox<Effect>) {
        let Some(Purpose::Estimate(connection)) = self.jobs.remove(&job) else { return };
        if self.plans.open.get(&connection).is_some_and(|plan| plan.job == Some(job)) {
            self.plan_ended(connection, result, outbox);
        }
    }

    fn plan_ended(&mut self, connection: ConnectionId, result: Result<Estimate, String>, outbox: &mut Outbox<Effect>) {
        let Some(Plan { request, answer, .. }) = self.plans.open.remove(&connection) else { return };
        let (estimate, problem) = match result {
            Ok(estimate) => (Some(estimate), None),
            Err(problem) => (None, Some(problem)),
        };
        let plan = Box::new(PlanAnswer { answer, estimate, problem });
        self.respond(connection, request, Response::Plan(plan), outbox);
    }

    pub(super) fn plans_timeout(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        let due = self.plans.open.iter().filter(|(_, plan)| plan.until <= now.time);
        let due: Vec<_> = due.map(|(connection, _)| *connection).collect();
        for connection in due {
            self.plan_ended(connection, Err("it took too long".to_owned()), outbox);
        }
    }
}
