//! Why a change was refused, in a sentence, and what to do about it.

use super::words::moment;
use super::{Stage, Task};
use crate::engine::upload::Refused;
use crate::model::vpath::VPath;

/// Explains a refusal by `nodes` to whoever published.
pub(super) fn explain(stage: &Stage, path: &VPath, nodes: &str, refusal: &Refused) -> String {
    let key = path.key();
    let there = refusal.current.map_or_else(|| "nothing".to_owned(), |current| format!("image {current}"));
    match refusal.word.as_str() {
        "signature_mismatch" => signatures(stage, path, nodes, refusal),
        "config_level_mismatch" => {
            format!("{nodes}: {path} has a wrong number of parts: {}. Check DEST.", refusal.detail)
        }
        "already_exists" => format!(
            "{nodes}: other content is at {path} already: {there}. Publish under another name; use --append-weak if \
             whatever is there is fine, or --replace to put yours in its place, where that is allowed."
        ),
        "already_uploading_different_version" => format!(
            "{nodes}: other content is on its way to {path}: {there}. Wait until it has arrived, then decide: another \
             name, --append-weak if whatever is there is fine, or --replace where that is allowed."
        ),
        "dir_is_append_only" => format!(
            "{nodes}: in /{key} directories are only added, never replaced (`append-only: true` in configs/{key}.yaml). \
             At {path} there is, or is on its way, {there}. Publish under another name with --append."
        ),
        "replace_doesnt_match_index" if stage.task == Task::Remove => format!(
            "{nodes}: what is at {path} is not what you want to remove: there is, or is on its way, {there}. Look at what is \
             there now, then decide; --image ID removes exactly that."
        ),
        "replace_doesnt_match_index" => format!(
            "{nodes}: what is at {path} is not what you want to replace: there is, or is on its way, {there}. Somebody else was faster. Look \
             at what is there now, then decide; --replace SRC:{path}:ID replaces exactly that."
        ),
        "stale" => stale(stage, path, nodes, refusal),
        "stamp_in_future" => {
            let time = |stamp: Option<_>| stamp.map_or_else(|| "unknown".to_owned(), moment);
            let (ours, theirs) = (time(refusal.signed), time(refusal.stamp));
            format!(
                "{nodes}: the change is dated {ours}, but the clock there says {theirs}: more than 10 minutes ahead. \
                 Correct whichever clock is wrong, then publish again."
            )
        }
        "wrong_cluster" => {
            let meant = stage.signed_for.as_deref().unwrap_or("no cluster");
            format!("{nodes}: signed for {meant:?} (--cluster), which is not the name of the cluster there.")
        }
        "not_removable" => format!(
            "{nodes}: {path} is the whole directory that configs/{key}.yaml names (`num-levels: 0`): such a one is only replaced, \
             never removed. Publish an empty directory there with --replace; or take configs/{key}.yaml away on each machine \
             (then SIGHUP), and remove the directory by hand."
        ),
        "overloaded" => format!("{nodes}: too many deployments are under way there. Try again later."),
        word => {
            let detail = if refusal.detail.is_empty() { "it does not say why" } else { &refusal.detail };
            format!("{nodes}: refused {path} ({word}): {detail}")
        }
    }
}

/// No node that was asked carries a path.
pub(super) fn homeless(path: &VPath, nodes: &str) -> String {
    let key = path.key();
    format!(
        "no machine that was asked ({nodes}) has a directory configuration named {key:?}. Check the spelling of {path}, and \
         that configs/{key}.yaml is on the machines that shall have it."
    )
}

fn signatures(stage: &Stage, path: &VPath, nodes: &str, refusal: &Refused) -> String {
    let key = path.key();
    let what = match stage.task {
        Task::Publish => "publish at",
        Task::Remove => "remove",
    };
    let signers = stage.signers.join(", ");
    let accepted = match refusal.accepted_keys.as_slice() {
        [] => format!(
            "No key is accepted there at all: `upload-keys` of configs/{key}.yaml names none, and there is no master.key."
        ),
        keys => format!("Accepted would be: {}.", keys.join(", ")),
    };
    format!(
        "{nodes}: none of your keys may {what} {path}. Signed by: {signers}. {accepted} Sign with one of those (-i FILE), \
         or ask to have your public key added to a keys/NAME.key there, with NAME in `upload-keys` of configs/{key}.yaml."
    )
}

fn stale(stage: &Stage, path: &VPath, nodes: &str, refusal: &Refused) -> String {
    let image = refusal.current.map_or_else(String::new, |current| format!(" (image {current})"));
    let times = match (refusal.stamp, refusal.signed) {
        (Some(there), Some(ours)) => format!(", dated {}; yours is dated {}", moment(there), moment(ours)),
        _ => String::new(),
    };
    let again = match stage.task {
        Task::Publish => "Publish again if yours should be there",
        Task::Remove => "Remove again if nothing should be there",
    };
    format!(
        "{nodes}: something newer is at {path}{image}{times}. {again}; if the dates are odd, check the clock of this machine."
    )
}
