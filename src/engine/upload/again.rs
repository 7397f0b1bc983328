//! How a change that was refused is signed again, so that it says what it has to: for plans, which ask the same questions.

use crate::format::wire::{SubmitAnswer, VerdictWord};
use crate::model::change::{Change, Verb};
use crate::model::time::Stamp;

/// The change that [`super::Uploads`] would submit after this answer; `None`: it would take the answer.
pub fn signed_again(change: &Change, answer: &SubmitAnswer, now: Stamp) -> Option<Change> {
    let again = change.clone();
    let is_append = change.verb == Verb::Append && !change.restores();
    match (answer.verdict, answer.reject_reason.as_deref()) {
        (VerdictWord::Refused, Some("cleaned")) if is_append => Some(Change { old_image: change.image, ..again }),
        (VerdictWord::Refused, Some("removed")) if is_append && answer.current.is_some() => {
            Some(Change { verb: Verb::Replace, old_image: answer.current, ..again })
        }
        (VerdictWord::Superseded, _) => {
            let head = answer.stamp.filter(|head| *head > now && *head >= change.stamp)?;
            Some(Change { stamp: Stamp(head.0.saturating_add(1)), ..again })
        }
        (VerdictWord::Accept | VerdictWord::Have | VerdictWord::Refused, _) => None,
    }
}
