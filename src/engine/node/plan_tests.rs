//! What is said of a change that is only planned: what a deployment would come to.

use super::tests::{C, D, connect, deployed, node, secret, submit, tell};
use super::*;
use crate::format::change;
use crate::format::signature;
use crate::format::wire::{Message, PlanAnswer, Request, Response};
use crate::model::change::{SignedChange, Verb};
use crate::model::disk_task::DiskAction;
use crate::model::disk_task::{DiskResult, Target};
use crate::model::estimate::{Estimate, NoEstimate};
use crate::model::failure::{Failure, FailureKind};
use crate::model::fingerprint::FileIdentity;
use crate::model::key::{Scheme, Signature};
use crate::model::reuse::Damage;

const OURS: Target = Target { identity: FileIdentity { dev: 1, ino: 7 }, empty: false };
const FOREIGN: Target = Target { identity: FileIdentity { dev: 1, ino: 66 }, empty: false };

type Found = Result<Option<Target>, FailureKind>;

/// Asks, answers all that is asked, and says what came of it.
fn plan(node: &mut Node, (verb, image): (Verb, u8), found: Found, estimate: &Result<Estimate, NoEstimate>) -> String {
    let SignedChange { change, .. } = submit(image, verb, 9_000);
    let message = change::signed_plan_bytes(&change, Scheme::V2).expect("it can be signed");
    let bytes = signature::sign(&secret(), &message);
    let signature = Signature { scheme: Scheme::V2, key: Some(secret().public_key()), bytes };
    let request = Request::Plan(SignedChange::new(change, vec![signature]));
    let mut todo = tell(node, Input::Message { connection: D, message: Message::Request { id: 1, request } });
    let mut words = Vec::new();
    while let Some(effect) = todo.pop() {
        let input = match effect {
            Effect::Disk { job, task } if matches!(task.action, DiskAction::Look) => {
                let failed = |kind| Failure { kind, text: "why".to_owned() };
                Input::Disk { job, result: found.map(DiskResult::Target).map_err(failed) }
            }
            Effect::Send { connection: D, message: Message::Request { id, .. } } => {
                let data = bytes::Bytes::from_static(b"index");
                let response = Response::GetIndexPart { total: data.len() as u64, data };
                Input::Message { connection: D, message: Message::Response { id, response } }
            }
            Effect::Estimate { job, task } => {
                words.push(format!("occupied={} heals={}", task.occupied, task.heals));
                Input::Estimated { job, result: estimate.clone() }
            }
            Effect::Send { message: Message::Response { response: Response::Plan(plan), .. }, .. } => {
                let PlanAnswer { answer, estimate, problem } = *plan;
                words.push(answer.verdict.name().to_owned());
                words.extend(answer.reject_reason);
                words.extend(problem);
                words.extend(estimate.map(|_| "estimate".to_owned()));
                continue;
            }
            _ => continue,
        };
        todo.extend(tell(node, input));
    }
    words.join(" ")
}

#[test]
fn what_is_there_is_looked_at() {
    let mut node = deployed();
    connect(&mut node, D);
    let (same, other) = ((Verb::Replace, 1), (Verb::Replace, 2));
    let fits = &Ok(Estimate::default());
    assert_eq!(plan(&mut node, same, Ok(Some(OURS)), fits), "have");
    assert_eq!(plan(&mut node, same, Ok(None), fits), "occupied=false heals=false accept estimate");
    assert_eq!(plan(&mut node, other, Ok(Some(OURS)), fits), "occupied=false heals=false accept estimate");
    for wish in [same, other] {
        let failure = Failure { kind: FailureKind::Occupied, text: "why".to_owned() };
        let taken = Err(NoEstimate::Hindered(failure));
        let said = "occupied=true heals=false accept occupied why";
        assert_eq!(plan(&mut node, wish, Ok(Some(FOREIGN)), &taken), said);
        let alike = Err(NoEstimate::Unknown("alike".to_owned()));
        assert_eq!(plan(&mut node, wish, Ok(Some(FOREIGN)), &alike), "occupied=true heals=false accept alike");
        let empty = Target { empty: true, ..FOREIGN };
        assert_eq!(plan(&mut node, wish, Ok(Some(empty)), fits), "occupied=false heals=false accept estimate");
        assert_eq!(plan(&mut node, wish, Err(FailureKind::Occupied), fits), "accept occupied why");
        assert_eq!(plan(&mut node, wish, Err(FailureKind::MissingBase), fits), "accept missing_base why");
    }
    let damage = Damage {
        path: "/key/a".parse().expect("valid"),
        root: OURS.identity,
        file: "x".into(),
        what: "is gone".into(),
    };
    tell(&mut node, Input::Damaged(damage));
    assert_eq!(plan(&mut node, same, Ok(Some(OURS)), fits), "occupied=false heals=true accept estimate");
    assert_eq!(plan(&mut node, other, Ok(Some(OURS)), fits), "occupied=false heals=false accept estimate");
}

/// On its way, and what hinders it: what can be looked at now is, the rest is told as it was.
#[test]
fn what_is_under_way() {
    for (kind, expected) in [
        (None, "occupied=false heals=false accept estimate"),
        (Some(FailureKind::NoSpace), "occupied=false heals=false accept estimate"),
        (Some(FailureKind::MissingBase), "occupied=false heals=false accept estimate"),
        (Some(FailureKind::Occupied), "occupied=false heals=false accept estimate"),
        (Some(FailureKind::Hostile), "accept hostile why"),
        (Some(FailureKind::NotWritable), "accept not_writable why"),
        (Some(FailureKind::Claimed), "accept claimed why"),
    ] {
        let mut node = node();
        connect(&mut node, C);
        connect(&mut node, D);
        let request = Request::SubmitChange(submit(1, Verb::Append, 1_000));
        let effects = tell(&mut node, Input::Message { connection: C, message: Message::Request { id: 1, request } });
        let job =
            effects.iter().find_map(|effect| if let Effect::Write { job, .. } = effect { Some(*job) } else { None });
        let effects = tell(&mut node, Input::Written { job: job.expect("a write"), result: Ok(()) });
        let look =
            effects.iter().find_map(|effect| if let Effect::Disk { job, .. } = effect { Some(*job) } else { None });
        if let Some(kind) = kind {
            let result = Err(Failure { kind, text: "why".to_owned() });
            tell(&mut node, Input::Disk { job: look.expect("a look"), result });
        }
        assert_eq!(plan(&mut node, (Verb::Append, 1), Ok(None), &Ok(Estimate::default())), expected, "{kind:?}");
    }
}
