//! The one pure function which decides about a change.
//!
//! Client requests go through [`decide`], changes which another node admitted through [`decide_from_node`]; both make the
//! same checks of who signed what, so no path of the code can skip one. Registering what was accepted is left to `node`.

use crate::format::{change, signature};
use crate::model::change::{Change, Rank, SignedChange, Verb};
use crate::model::directory::{DirectoryConfig, NodeConfig};
use crate::model::ids::{ChangeId, ImageId};
use crate::model::key::{NamedKey, PublicKey, Scheme};
use crate::model::limits;
use crate::model::time::Stamp;
use crate::model::verdict::{Refusal, Verdict};

/// What holds at the path now.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// The change.
    pub change: &'a SignedChange,
    /// Its id.
    pub id: ChangeId,
    /// Whether its image is visible already, or still on its way.
    pub committed: bool,
    /// Nothing is visible there and nothing on its way, because the rules of retention say so.
    pub gone: bool,
}

/// A verdict, and the change with only those signatures that were checked and accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The answer.
    pub verdict: Verdict,
    /// What to register (accept) or to merge (have).
    pub verified: SignedChange,
}

/// What a signature of a scheme covers.
type Covered = fn(&Change, Scheme) -> Option<Vec<u8>>;

/// Decides about a change. `cluster` is the node's own cluster name, if it has one.
pub fn decide(
    signed: &SignedChange,
    config: &NodeConfig,
    cluster: Option<&str>,
    head: Option<Head<'_>>,
    now: Stamp,
) -> Decision {
    let mut verified = SignedChange { change: signed.change.clone(), signatures: Vec::new() };
    let verdict = check(signed, config, cluster, now, (&mut verified, change::signed_bytes))
        .and_then(|directory| against_head(&signed.change, directory, head))
        .unwrap_or_else(Verdict::Refused);
    Decision { verdict, verified }
}

/// What [`decide`] would say to a change, asked by somebody who may submit it: its signatures say that it is only a plan.
pub fn decide_plan(
    signed: &SignedChange,
    config: &NodeConfig,
    cluster: Option<&str>,
    head: Option<Head<'_>>,
    now: Stamp,
) -> Verdict {
    let mut verified = SignedChange { change: signed.change.clone(), signatures: Vec::new() };
    check(signed, config, cluster, now, (&mut verified, change::signed_plan_bytes))
        .and_then(|directory| against_head(&signed.change, directory, head))
        .unwrap_or_else(Verdict::Refused)
}

/// Decides about a change which another node admitted: by [`wins`] alone, whatever it wanted to replace, so that all nodes
/// end with the same head in whatever order they hear of changes.
///
/// What is visible in an append-only directory stays, also when another change becomes the head: that is `deploy`'s.
pub fn decide_from_node(
    signed: &SignedChange,
    config: &NodeConfig,
    cluster: Option<&str>,
    head: Option<Head<'_>>,
    now: Stamp,
) -> Decision {
    let mut verified = SignedChange { change: signed.change.clone(), signatures: Vec::new() };
    let verdict = match check(signed, config, cluster, now, (&mut verified, change::signed_bytes)) {
        Ok(directory) => against_admitted(&signed.change, directory, head),
        Err(refusal) => Verdict::Refused(refusal),
    };
    Decision { verdict, verified }
}

/// Whether a change takes the place of another one at the same path: the later (stamp, id), in an append-only directory
/// the earlier one, but that there one which overrides goes before all others, and the later of two of them holds. A total
/// order, so it doesn't matter who compares what with what first.
pub fn wins(directory: &DirectoryConfig, change: Rank, head: Rank) -> bool {
    match (directory.append_only, change.overrides, head.overrides) {
        (true, false, false) => change < head,
        (true, overrides, other) if overrides != other => overrides,
        (true | false, ..) => change > head,
    }
}

/// What decides whether it wins.
pub fn rank(change: &Change) -> Rank {
    Rank { stamp: change.stamp, id: change::id(change), overrides: change.overrides() }
}

/// What doesn't depend on the head.
fn check<'a>(
    signed: &SignedChange,
    config: &'a NodeConfig,
    cluster: Option<&str>,
    now: Stamp,
    (verified, message): (&mut SignedChange, Covered),
) -> Result<&'a DirectoryConfig, Refusal> {
    let change = &signed.change;
    well_formed(change)?;
    let key = || Refusal::NoConfig { key: change.path.key().to_owned() };
    let directory = config.directory_of(&change.path).ok_or_else(key)?;
    let (expected, given) = (directory.num_levels, change.path.levels());
    if expected != given {
        return Err(Refusal::ConfigLevelMismatch { expected, given });
    }
    if expected == 0 && change.deletes() {
        return Err(Refusal::NotRemovable);
    }
    check_signatures(signed, config, directory, (verified, message))?;
    if let Some(meant) = change.cluster.as_deref().filter(|meant| Some(*meant) != cluster) {
        return Err(Refusal::WrongCluster { meant: meant.to_owned() });
    }
    let ahead_max = u64::try_from(limits::STAMP_AHEAD_MAX.as_millis()).unwrap_or(u64::MAX);
    if change.stamp.0 > now.0.saturating_add(ahead_max) {
        return Err(Refusal::StampInFuture { node_clock: now });
    }
    Ok(directory)
}

fn well_formed(change: &Change) -> Result<(), Refusal> {
    match (change.verb, change.image, change.old_image) {
        (Verb::Append | Verb::Replace, None, _) => Err(Refusal::Malformed("it names no image")),
        (Verb::Append, Some(image), Some(old)) if image != old => {
            Err(Refusal::Malformed("an append has no image to be replaced"))
        }
        (Verb::Delete, Some(_), _) => Err(Refusal::Malformed("a delete puts no image there")),
        (Verb::Delete, None, None) => Err(Refusal::Malformed("a delete names no image that it removes")),
        (Verb::Append | Verb::Replace, Some(_), _) | (Verb::Delete, None, Some(_)) => Ok(()),
    }
}

/// Keeps the signatures that fit a key which the directory accepts; an error if none does.
fn check_signatures(
    signed: &SignedChange,
    config: &NodeConfig,
    directory: &DirectoryConfig,
    (verified, covered): (&mut SignedChange, Covered),
) -> Result<(), Refusal> {
    let accepted = config.accepted_keys(directory);
    let mut legacy = false;
    for signature in signed.signatures.iter().take(limits::SIGNATURES_MAX) {
        let Some(message) = covered(&signed.change, signature.scheme) else { continue };
        let fits = |key: &PublicKey| signature::verify(key, &message, &signature.bytes);
        let candidates = accepted.iter().map(|named| named.key).take(limits::KEYS_PER_DIRECTORY_MAX);
        let Some(key) = candidates.filter(|key| signature.key.is_none_or(|claimed| claimed == *key)).find(fits) else {
            continue;
        };
        if signature.scheme == Scheme::Legacy && !directory.legacy_signatures {
            legacy = true;
            continue;
        }
        let mut signature = *signature;
        signature.key = Some(key);
        verified.signatures.push(signature);
    }
    *verified = SignedChange::new(verified.change.clone(), std::mem::take(&mut verified.signatures));
    if verified.signatures.is_empty() {
        let accepted = accepted.iter().map(|named: &&NamedKey| named.name.to_string()).collect();
        return Err(Refusal::SignatureMismatch { accepted, legacy });
    }
    Ok(())
}

fn against_head(change: &Change, directory: &DirectoryConfig, head: Option<Head<'_>>) -> Result<Verdict, Refusal> {
    let current: Option<ImageId> = head.and_then(|head| head.change.change.image);
    let deleted = head.map(|head| &head.change.change).filter(|held| held.deletes());
    if let Some(head) = head.filter(|head| head.change.change.subject() == change.subject())
        && deleted.is_some() == change.deletes()
    {
        return again(change, directory, head);
    }
    if let Some(deleted) = deleted.filter(|_| !change.deletes()) {
        after_delete(change, directory, deleted)?;
    } else {
        over_image(change, directory, head, current)?;
    }
    Ok(match head {
        Some(head) if !wins(directory, rank(change), rank(&head.change.change)) => {
            Verdict::Superseded(Box::new(head.change.clone()))
        }
        Some(_) | None => Verdict::Accept,
    })
}

/// Whether the change may come where another image holds, or nothing.
fn over_image(
    change: &Change,
    directory: &DirectoryConfig,
    head: Option<Head<'_>>,
    current: Option<ImageId>,
) -> Result<(), Refusal> {
    if change.verb == Verb::Replace && directory.append_only {
        return Err(Refusal::DirIsAppendOnly { current });
    }
    // What is removed already isn't looked for.
    let removed = change.deletes() && head.is_some() && current.is_none();
    if change.old_image.is_some() && change.old_image != current && !removed {
        return Err(Refusal::ReplaceDoesntMatchIndex { current });
    }
    let (Verb::Append, Some(current), Some(head)) = (change.verb, current, head) else { return Ok(()) };
    match (head.gone, head.committed) {
        (true, _) if !directory.append_only => Ok(()),
        (true, _) | (_, true) => Err(Refusal::AlreadyExists { current }),
        (false, false) => Err(Refusal::AlreadyUploadingDifferentVersion { current }),
    }
}

/// Whether the change may come where a delete holds. In an append-only directory it has to say that it knows of it: a node
/// that was off meanwhile may still show what was removed, and could not tell it from any other append.
fn after_delete(change: &Change, directory: &DirectoryConfig, deleted: &Change) -> Result<(), Refusal> {
    if directory.append_only && change.verb == Verb::Append {
        return Err(Refusal::Removed { removed: deleted.old_image });
    }
    let names_it = change.old_image == deleted.old_image;
    if change.old_image.is_some() && !(names_it && directory.append_only) {
        return Err(Refusal::ReplaceDoesntMatchIndex { current: None });
    }
    if directory.append_only && !names_it { Err(Refusal::DirIsAppendOnly { current: None }) } else { Ok(()) }
}

/// The image that holds there, or was removed, once more.
fn again(change: &Change, directory: &DirectoryConfig, head: Head<'_>) -> Result<Verdict, Refusal> {
    let (rank, held) = (rank(change), rank(&head.change.change));
    if !head.gone || rank.id == held.id || change.deletes() {
        return Ok(Verdict::Have);
    }
    if directory.append_only && !change.restores() {
        return Err(Refusal::Cleaned { current: change.image });
    }
    Ok(if wins(directory, rank, held) { Verdict::Accept } else { Verdict::Superseded(Box::new(head.change.clone())) })
}

fn against_admitted(change: &Change, directory: &DirectoryConfig, head: Option<Head<'_>>) -> Verdict {
    let Some(head) = head else { return Verdict::Accept };
    let (rank, held) = (rank(change), rank(&head.change.change));
    if rank == held {
        Verdict::Have
    } else if wins(directory, rank, held) {
        Verdict::Accept
    } else {
        Verdict::Superseded(Box::new(head.change.clone()))
    }
}

#[cfg(test)]
mod node_tests;
#[cfg(test)]
mod tests;
