//! What follows from the answers: per machine and directory, and for all.

use super::ask::{Asked, Node};
use crate::client::sync::Plan;
use crate::format::wire::{PlanAnswer, VerdictWord};
use crate::model::estimate::Estimate;

/// Refused somewhere, or no room.
const REFUSED_STATUS: u8 = 3;
/// Nobody answered.
const UNREACHABLE_STATUS: u8 = 5;

/// All answers, and what they mean.
pub(super) struct Judged {
    pub(super) asked: Asked,
    /// Machines which can't be reached count.
    require_all: bool,
    /// Whatever is there is fine, for each wish.
    weak: Vec<bool>,
}

/// What would come of one directory on one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Would {
    /// It isn't carried there.
    NotCarried,
    /// It would be put there.
    Take(Estimate),
    /// There is no room for it.
    NoRoom(Estimate),
    /// It is there, or on its way.
    Have,
    /// Something else is there, and `--append-weak` lets it stay.
    Keep,
    /// The word, and the machine's sentence.
    Refuse { word: String, detail: String, accepted_keys: Vec<String> },
    /// It would be taken, and wait for this to end: the word, and the machine's sentence.
    Wait { word: String, detail: String },
    /// It would be taken, but what that needs isn't known; or nothing is.
    Unknown(String),
}

impl Would {
    pub(super) const fn is_good(&self) -> bool {
        matches!(self, Self::NotCarried | Self::Take(_) | Self::Have | Self::Keep)
    }

    pub(super) const fn word(&self) -> &'static str {
        match self {
            Self::NotCarried => "not_carried",
            Self::Take(_) => "take",
            Self::NoRoom(_) => "no_room",
            Self::Have => "have",
            Self::Keep => "keep",
            Self::Refuse { .. } => "refuse",
            Self::Wait { .. } => "wait",
            Self::Unknown(_) => "unknown",
        }
    }

    pub(super) const fn estimate(&self) -> Option<&Estimate> {
        match self {
            Self::Take(estimate) | Self::NoRoom(estimate) => Some(estimate),
            Self::NotCarried | Self::Have | Self::Keep | Self::Refuse { .. } | Self::Wait { .. } | Self::Unknown(_) => {
                None
            }
        }
    }

    fn of(answer: &PlanAnswer, weak: bool) -> Self {
        let PlanAnswer { answer, estimate, problem } = answer;
        let word = answer.reject_reason.clone().unwrap_or_else(|| answer.verdict.name().to_owned());
        match answer.verdict {
            VerdictWord::Have => Self::Have,
            VerdictWord::Accept if let Some(word) = &answer.reject_reason => {
                Self::hindered(word.clone(), problem.clone().unwrap_or_default(), weak)
            }
            VerdictWord::Accept => match (estimate, problem) {
                (Some(estimate), _) if estimate.fits() => Self::Take(*estimate),
                (Some(estimate), _) => Self::NoRoom(*estimate),
                (None, problem) => Self::Unknown(problem.clone().unwrap_or_else(|| "it does not say".to_owned())),
            },
            VerdictWord::Refused
                if weak && matches!(&*word, "already_exists" | "already_uploading_different_version") =>
            {
                Self::Keep
            }
            VerdictWord::Refused | VerdictWord::Superseded => Self::Refuse {
                word,
                detail: answer.detail.clone().unwrap_or_default(),
                accepted_keys: answer.accepted_keys.clone(),
            },
        }
    }
}

impl Would {
    /// It would be taken, and come to this.
    fn hindered(word: String, detail: String, weak: bool) -> Self {
        match word.as_str() {
            // Only a person can end these, so `sync` doesn't wait.
            "occupied" | "conflict" if weak => Self::Keep,
            "occupied" | "conflict" => Self::Refuse { word, detail, accepted_keys: Vec::new() },
            _ => Self::Wait { word, detail },
        }
    }
}

impl Judged {
    pub(super) fn of(asked: Asked, plan: &Plan) -> Self {
        let weak = plan.wishes.iter().map(|wish| wish.weak).collect();
        Self { asked, require_all: plan.spread.rules.require_all, weak }
    }

    /// One for each wish; empty: the machine could not be asked.
    pub(super) fn would(&self, node: &Node) -> Vec<Would> {
        let Ok((_, answers)) = &node.result else { return Vec::new() };
        let one = |(answer, weak): (&Option<Result<PlanAnswer, String>>, &bool)| match answer {
            None => Would::NotCarried,
            Some(Ok(answer)) => Would::of(answer, *weak),
            Some(Err(reason)) => Would::Unknown(reason.clone()),
        };
        answers.iter().zip(&self.weak).map(one).collect()
    }

    pub(super) fn exit_status(&self) -> u8 {
        let Asked { nodes, unresolved, homeless, .. } = &self.asked;
        let reached = nodes.iter().filter(|node| node.result.is_ok()).count();
        if reached == 0 && (nodes.iter().any(|node| node.result.is_err()) || !unresolved.is_empty()) {
            return UNREACHABLE_STATUS;
        }
        let missing = self.require_all && (reached < nodes.len() || !unresolved.is_empty());
        let good = nodes.iter().all(|node| self.would(node).iter().all(Would::is_good));
        if good && !missing && homeless.is_empty() { 0 } else { REFUSED_STATUS }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::wire::{Hosts, SubmitAnswer};
    use crate::model::ids::MachineId;
    use crate::model::peer::Host;

    fn answer(verdict: VerdictWord, word: Option<&str>, estimate: Option<Estimate>) -> PlanAnswer {
        let answer = SubmitAnswer {
            verdict,
            reject_reason: word.map(str::to_owned),
            detail: None,
            accepted_keys: Vec::new(),
            current: None,
            stamp: None,
            done: false,
            host: Host { machine_id: MachineId::new([1; 16]), hostname: "n".into() },
            hosts: Hosts::new(),
            addresses: Vec::new(),
        };
        PlanAnswer { answer, estimate, problem: None }
    }

    #[test]
    fn answers_and_what_they_mean() {
        let room = Estimate { bytes_needed: 5, bytes_free: 5, inodes_needed: 2, ..Estimate::default() };
        let small = Estimate { inodes_free: Some(1), ..room };
        for (expected, good, answer, weak) in [
            ("take", true, answer(VerdictWord::Accept, None, Some(room)), false),
            ("no_room", false, answer(VerdictWord::Accept, None, Some(small)), false),
            ("unknown", false, answer(VerdictWord::Accept, None, None), false),
            ("refuse", false, answer(VerdictWord::Accept, Some("occupied"), None), false),
            ("refuse", false, answer(VerdictWord::Accept, Some("conflict"), None), false),
            ("keep", true, answer(VerdictWord::Accept, Some("occupied"), None), true),
            ("wait", false, answer(VerdictWord::Accept, Some("missing_base"), None), true),
            ("have", true, answer(VerdictWord::Have, None, None), false),
            ("refuse", false, answer(VerdictWord::Refused, Some("already_exists"), None), false),
            ("keep", true, answer(VerdictWord::Refused, Some("already_exists"), None), true),
            ("refuse", false, answer(VerdictWord::Refused, Some("signature_mismatch"), None), true),
            ("refuse", false, answer(VerdictWord::Superseded, Some("stale"), None), false),
        ] {
            let would = Would::of(&answer, weak);
            assert_eq!((would.word(), would.is_good()), (expected, good), "{answer:?}");
        }
    }
}
