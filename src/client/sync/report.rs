//! The end: how each cluster fared, node by node, and what to do about what went wrong.

use super::words::{self, done_of_known, node};
use super::{Stage, refusals};
use crate::client::ui;
use crate::driver::upload_loop::Status;
use crate::engine::upload::{Ending, NodeResult, Refused, Summary, UploadResult};
use crate::model::vpath::VPath;

/// Machines of a cluster that each have a line, however they fare.
const NODES_SHOWN_MAX: usize = 16;

/// Says all about each cluster, and what to do about what went wrong.
pub(super) fn print(stage: &Stage, status: &[Status]) {
    for (cluster, status) in status.iter().enumerate() {
        for line in report(stage, cluster, status) {
            ui::note(&line);
        }
        for text in explanations(stage, &status.summary) {
            ui::error(&stage.of(cluster, &text));
        }
    }
}

/// All lines about one cluster.
fn report(stage: &Stage, cluster: usize, status: &Status) -> Vec<String> {
    let mut lines = vec![headline(stage, cluster, status)];
    let (told, mut left_out) = (status.summary.nodes.len() > NODES_SHOWN_MAX, 0);
    for result in &status.summary.nodes {
        // Of many machines, only those with which there is something.
        if told && result.is_done() && !status.bytes_sent.contains_key(&result.address) {
            left_out += 1;
        } else {
            node_lines(result, status, &mut lines);
        }
    }
    if left_out > 0 {
        lines.push(format!("  and {}: done", words::count(left_out, "more machine")));
    }
    for (name, reason) in &status.summary.unresolved {
        lines.push(format!("  {name}: NOT FOUND: {reason}"));
    }
    lines.extend(score(status).map(|score| stage.of(cluster, &score)));
    lines
}

/// How fast it was; the formula is in `doc/sync.md`.
fn score(status: &Status) -> Option<String> {
    let summary = &status.summary;
    if !matches!(summary.ending, Ending::Done | Ending::DoneEarly) {
        return None;
    }
    let done = summary.known().filter(|node| node.is_done()).count();
    let (machines, took) = (words::count(done, "machine"), words::duration(summary.took));
    let ideal = status.ideal().map(|ideal| {
        let percent = 100.0 * ideal.as_secs_f64() / summary.took.as_secs_f64().max(f64::MIN_POSITIVE);
        format!("; ideal {} ({percent:.0} %)", words::duration(ideal))
    });
    Some(format!("{machines} in {took}{}", ideal.unwrap_or_default()))
}

/// One line: how it ended.
pub(super) fn headline(stage: &Stage, cluster: usize, status: &Status) -> String {
    let summary = &status.summary;
    let name = stage.label(cluster);
    let done = done_of_known(summary.known());
    let down = summary.known().filter(|node| node.down.is_some() && !node.is_final()).count();
    let down = if down > 0 { format!(", {down} down") } else { String::new() };
    let took = words::duration(summary.took);
    let sent = ui::bytes(status.bytes_sent.values().sum());
    let what = match &summary.ending {
        Ending::Done | Ending::Open => format!("done on {done}{down}"),
        Ending::DoneEarly => format!("done on {done}{down}, as the early rule asks; missing: {}", missing(summary)),
        Ending::Refused => format!("REFUSED, done on {done}{down}"),
        Ending::SourceLost => format!("NOT DONE, because a source was changed meanwhile; done on {done}{down}"),
        Ending::Late if summary.took >= stage.deadline => {
            format!("NOT DONE by the deadline, only on {done}{down}; missing: {}", missing(summary))
        }
        Ending::Late => format!("NOT DONE everywhere, as --require-all asks, only on {done}{down}"),
        Ending::Unreachable => format!("NO MACHINE COULD BE REACHED that would finish it; done on {done}{down}"),
        Ending::NotSigned(reason) => format!("NOT SIGNED: {reason}"),
        Ending::Interrupted => format!("INTERRUPTED, done on {done}{down}; {}", what_is_lost(summary)),
        Ending::Left => format!(
            "stopped, done on {done}{down}; the machines have everything together and complete it among themselves"
        ),
    };
    format!("{name}: {what} ({sent} sent, {took})")
}

/// What an interruption means for machines that aren't done.
fn what_is_lost(summary: &Summary) -> String {
    let (held, total) = summary.held;
    if total == 0 {
        return "what machines have taken goes on there".to_owned();
    }
    format!("the machines have {} % of it together, the rest was only here: publish again to go on", held * 100 / total)
}

/// Who isn't done, in one text.
fn missing(summary: &Summary) -> String {
    let missing = summary.known().filter(|node| !node.is_done()).map(label);
    let unresolved = summary.unresolved.iter().map(|(name, _)| name.clone());
    let names: Vec<_> = missing.chain(unresolved).collect();
    if names.is_empty() { "machines of which nobody has told yet".to_owned() } else { names.join(", ") }
}

fn label(result: &NodeResult) -> String {
    node(result.host.as_ref(), result.address)
}

fn node_lines(result: &NodeResult, status: &Status, lines: &mut Vec<String>) {
    let sent = status.bytes_sent.get(&result.address).copied().unwrap_or(0);
    let sent = if sent > 0 { format!(" ({} sent)", ui::bytes(sent)) } else { String::new() };
    let label = label(result);
    if let Some(reason) = result.down.as_ref().filter(|_| !result.is_final()) {
        let later = match (result.given_up, result.followed) {
            (true, _) => "",
            (false, true) => "; it will catch up when it returns",
            (false, false) => "; when it returns, publish again or let the cluster catch up",
        };
        lines.push(format!("  {label}: DOWN: {reason}{later}"));
        if result.host.is_none() || result.followed {
            return;
        }
    }
    match result.uploads.as_slice() {
        [(path, only)] => lines.push(format!("  {label}: {path}: {}{sent}", words::result(only))),
        uploads => {
            lines.push(format!("  {label}{sent}"));
            lines.extend(uploads.iter().map(|(path, one)| format!("    {path}: {}", words::result(one))));
        }
    }
}

/// Sentences on all that was refused, each once for all nodes which say the same.
pub(super) fn explanations(stage: &Stage, summary: &Summary) -> Vec<String> {
    let mut refused = Vec::<(&VPath, &Refused, Vec<String>)>::new();
    for result in &summary.nodes {
        for (path, one) in &result.uploads {
            let UploadResult::Refused(refusal) = one else { continue };
            let same = |other: &&mut (&VPath, &Refused, Vec<String>)| other.0 == path && alike(other.1, refusal);
            match refused.iter_mut().find(same) {
                Some((_, _, nodes)) => nodes.push(label(result)),
                None => refused.push((path, refusal, vec![label(result)])),
            }
        }
    }
    let sentences = refused.iter().map(|(path, why, nodes)| refusals::explain(stage, path, &nodes.join(", "), why));
    let asked: Vec<_> = summary.nodes.iter().filter(|node| node.host.is_some()).map(label).collect();
    let homeless = summary.homeless.iter().map(|path| refusals::homeless(path, &asked.join(", ")));
    sentences.chain(homeless).collect()
}

/// The same but for the moment.
fn alike(a: &Refused, b: &Refused) -> bool {
    (&a.word, &a.detail, &a.accepted_keys, a.current) == (&b.word, &b.detail, &b.accepted_keys, b.current)
}

/// One line while it goes on.
pub(super) fn standing(stage: &Stage, cluster: usize, status: &Status) -> String {
    let sent = ui::bytes(status.bytes_sent.values().sum());
    let open = || status.summary.known().filter(|node| !node.is_final());
    let down = open().filter(|node| node.down.is_some()).count();
    let some = |count: usize, what: &str| if count == 0 { String::new() } else { format!(", {count} {what}") };
    let (at_work, down) = (some(open().count() - down, "at work"), some(down, "down"));
    let done = done_of_known(status.summary.known());
    let safe = if status.summary.safe { ", safe to disconnect" } else { "" };
    format!("{sent} sent, done on {done}{at_work}{down}{safe}, {}", stage.label(cluster))
}
