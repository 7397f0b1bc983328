//! Clients that ask what a change would do here: the verdict, what it would take, or come to. Nothing is kept of it, and nothing changed.
//!
//! Only who may submit the change is told so: then the node looks at what is at the path, and, if something is to be done, asks that
//! client for the index.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::connections::Asked;
use super::standing::conflict;
use super::{Effect, JobId, Node, Purpose};
use crate::engine::contract::Outbox;
use crate::engine::{access, deploy};
use crate::format::wire::{PlanAnswer, Request, Response, SubmitAnswer, VerdictWord};
use crate::model::change::{SignedChange, Verb};
use crate::model::directory::DirectoryConfig;
use crate::model::disk_task::{DiskAction, DiskResult, DiskTask};
use crate::model::estimate::{Estimate, EstimateTask, NoEstimate};
use crate::model::failure::{Failure, FailureKind};
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
    replaces: bool,
    directory: Arc<DirectoryConfig>,
    path: VPath,
    image: ImageId,
    stage: Stage,
    until: Time,
}

/// What a plan waits for.
#[derive(Debug)]
enum Stage {
    /// A look at the path.
    Looking(JobId),
    /// The index from the client, of which this is here.
    Asking { index: Vec<u8>, found: Found },
    /// What the disk says of it.
    Estimating(JobId),
}

/// What the look showed.
#[derive(Debug, Clone, Copy)]
struct Found {
    /// Something is in the way.
    occupied: bool,
    /// What is there is the image, and damaged.
    heals: bool,
}

/// What would come of a change that may be submitted.
#[derive(Debug)]
enum Outcome {
    /// Nothing is to be done.
    There,
    /// It would be deployed.
    Takes(Estimate),
    /// It would end, or wait, with this word.
    Hindered(&'static str, String),
    /// That isn't known.
    Unknown(String),
}

impl From<Failure> for Outcome {
    fn from(Failure { kind, text }: Failure) -> Self {
        Self::Hindered(kind.name(), text)
    }
}

/// Steps of a deployment for which there is room.
const HAS_ROOM: [&str; 6] = ["fetch", "seal", "intend", "swap", "record", "collect"];

/// What a deployment waits for and a look doesn't show: the next try would most likely come to the same.
fn unseen(status: &deploy::Status) -> Option<Failure> {
    let below_db = matches!(status.step, "index" | "intend" | "record");
    status.failure.clone().filter(|failure| match failure.kind {
        FailureKind::NoSpace => below_db,
        FailureKind::Occupied | FailureKind::MissingBase => false,
        FailureKind::NotWritable
        | FailureKind::Claimed
        | FailureKind::Hostile
        | FailureKind::Poisoned
        | FailureKind::Io => true,
    })
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
        let may = matches!(verdict, Verdict::Accept | Verdict::Have);
        let directory = self.config.serves(&path).filter(|_| may).cloned();
        let coming = |image| {
            let status = self.deploys.status(&path).filter(|status| status.image == image && !status.reported);
            let goes_on = |status: &deploy::Status| status.failure.is_none() && HAS_ROOM.contains(&status.step);
            verdict == Verdict::Have && status.as_ref().is_some_and(goes_on)
        };
        let image = signed.change.image.filter(|image| !coming(*image));
        let (Some(directory), Some(image)) = (directory, image) else {
            let plan = Box::new(PlanAnswer { answer, estimate: None, problem: None });
            return self.respond(connection, request, Response::Plan(plan), outbox);
        };
        if self.plans.open.len() >= limits::PLANS_MAX || self.plans.open.contains_key(&connection) {
            let problem = "too many plans are asked for at once here; try again later".to_owned();
            return self.answer_plan(connection, request, answer, Outcome::Unknown(problem), outbox);
        }
        let until = now.time + limits::PLAN_DURATION_MAX;
        let job = self.job(Purpose::Estimate(connection));
        let task = DiskTask { directory: directory.clone(), path: path.clone(), action: DiskAction::Look };
        let plan = Plan {
            request,
            answer,
            replaces: signed.change.verb == Verb::Replace,
            directory,
            path,
            image,
            stage: Stage::Looking(job),
            until,
        };
        self.plans.open.insert(connection, plan);
        outbox.push(Effect::Disk { job, task });
    }

    /// What is at the path: as a deployment would see it.
    pub(super) fn plan_looked(
        &mut self,
        connection: ConnectionId,
        job: JobId,
        result: Result<DiskResult, Failure>,
        outbox: &mut Outbox<Effect>,
    ) {
        let waits = |plan: &&Plan| matches!(plan.stage, Stage::Looking(looking) if looking == job);
        let Some(plan) = self.plans.open.get(&connection).filter(waits) else { return };
        let path = plan.path.clone();
        let found = match result {
            Ok(DiskResult::Target(found)) => found,
            Ok(other) => {
                let text = format!("internal error: {other:?} for a look");
                return self.plan_ended(connection, Outcome::Unknown(text), outbox);
            }
            Err(failure) => return self.plan_ended(connection, failure.into(), outbox),
        };
        let status = self.deploys.status(&path);
        if let Some(failure) = status.as_ref().and_then(unseen) {
            return self.plan_ended(connection, failure.into(), outbox);
        }
        let committed = self.heads.committed_at(&path);
        let ours = committed.filter(|committed| found.is_some_and(|target| target.identity == committed.root));
        let damaged = self.heads.is_damaged(&path);
        // What is being swapped or removed isn't in anybody's way.
        let moving = status.is_some_and(|status| status.failure.is_none())
            || self.retentions.removes(&path)
            || self.removals.removes(&path);
        let Some(plan) = self.plans.open.get_mut(&connection) else { return };
        let outcome = match ours {
            Some(committed) if committed.image == plan.image && !damaged => Outcome::There,
            Some(committed) if committed.image != plan.image && plan.directory.append_only && !plan.replaces => {
                Outcome::Hindered("conflict", conflict(committed.image))
            }
            Some(_) | None => {
                let heals = ours.is_some_and(|committed| committed.image == plan.image);
                let occupied = ours.is_none() && !moving && found.is_some_and(|target| !target.empty);
                plan.stage = Stage::Asking { index: Vec::new(), found: Found { occupied, heals } };
                let request = Request::GetIndexPart { id: plan.image, offset: 0 };
                return self.request(connection, request, Asked::Plan, outbox);
            }
        };
        self.plan_ended(connection, outcome, outbox);
    }

    /// A part of the index came.
    pub(super) fn plan_answered(&mut self, connection: ConnectionId, response: Response, outbox: &mut Outbox<Effect>) {
        let Some(Plan { image, stage: Stage::Asking { index, .. }, .. }) = self.plans.open.get_mut(&connection) else {
            return;
        };
        let problem = match response {
            Response::GetIndexPart { total, .. } if total > limits::PLAN_INDEX_BYTES_MAX as u64 => {
                format!("an index of {total} bytes is too long for a plan")
            }
            Response::GetIndexPart { data, total } if !data.is_empty() => {
                index.extend_from_slice(&data);
                let offset = index.len() as u64;
                if offset < total {
                    let request = Request::GetIndexPart { id: *image, offset };
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
        self.plan_ended(connection, Outcome::Unknown(problem), outbox);
    }

    fn estimate(&mut self, connection: ConnectionId, outbox: &mut Outbox<Effect>) {
        let job = self.job(Purpose::Estimate(connection));
        let Some(plan) = self.plans.open.get_mut(&connection) else { return };
        let Stage::Asking { index, found: Found { occupied, heals } } =
            std::mem::replace(&mut plan.stage, Stage::Estimating(job))
        else {
            return;
        };
        let (directory, path, image) = (plan.directory.clone(), plan.path.clone(), plan.image);
        let index = Bytes::from(index);
        let siblings = self.heads.siblings_of(&path);
        let forgoes = self.heads.previous(&path).is_some_and(|(kept, _)| kept != image);
        let task = EstimateTask { directory, path, image, index, siblings, occupied, heals, forgoes };
        outbox.push(Effect::Estimate { job, task });
    }

    /// The answer to [`Self::estimate`].
    pub(super) fn estimated(&mut self, job: JobId, result: Result<Estimate, NoEstimate>, outbox: &mut Outbox<Effect>) {
        let Some(Purpose::Estimate(connection)) = self.jobs.remove(&job) else { return };
        let waits = |plan: &Plan| matches!(plan.stage, Stage::Estimating(estimating) if estimating == job);
        if self.plans.open.get(&connection).is_some_and(waits) {
            let outcome = match result {
                Ok(estimate) => Outcome::Takes(estimate),
                Err(NoEstimate::Hindered(failure)) => failure.into(),
                Err(NoEstimate::Unknown(text)) => Outcome::Unknown(text),
            };
            self.plan_ended(connection, outcome, outbox);
        }
    }

    fn plan_ended(&mut self, connection: ConnectionId, outcome: Outcome, outbox: &mut Outbox<Effect>) {
        let Some(Plan { request, answer, .. }) = self.plans.open.remove(&connection) else { return };
        self.answer_plan(connection, request, answer, outcome, outbox);
    }

    fn answer_plan(
        &mut self,
        connection: ConnectionId,
        request: u64,
        mut answer: SubmitAnswer,
        outcome: Outcome,
        outbox: &mut Outbox<Effect>,
    ) {
        // "Have" only if nothing is to be done.
        answer.verdict = if let Outcome::There = outcome { VerdictWord::Have } else { VerdictWord::Accept };
        let (estimate, problem) = match outcome {
            Outcome::There => (None, None),
            Outcome::Takes(estimate) => (Some(estimate), None),
            Outcome::Hindered(word, text) => {
                answer.reject_reason = Some(word.to_owned());
                (None, Some(text))
            }
            Outcome::Unknown(text) => (None, Some(text)),
        };
        let plan = Box::new(PlanAnswer { answer, estimate, problem });
        self.respond(connection, request, Response::Plan(plan), outbox);
    }

    pub(super) fn plans_timeout(&mut self, now: Now, outbox: &mut Outbox<Effect>) {
        let due = self.plans.open.iter().filter(|(_, plan)| plan.until <= now.time);
        let due: Vec<_> = due.map(|(connection, _)| *connection).collect();
        for connection in due {
            self.plan_ended(connection, Outcome::Unknown("it took too long".to_owned()), outbox);
        }
    }
}
