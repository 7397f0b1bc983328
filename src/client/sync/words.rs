//! Events and results in words.

use std::net::SocketAddr;
use std::time::{Duration, UNIX_EPOCH};

use crate::client::ui;
use crate::engine::upload::{Event, Kept, NodeResult, UploadResult};
use crate::format::wire::Outcome;
use crate::model::address::{self, Target};
use crate::model::origins::{Origins, Supply, Way};
use crate::model::peer::Host;
use crate::model::time::Stamp;

/// The client may go away.
const SAFE: &str = "safe to disconnect: the machines have everything together";

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Weight {
    /// All goes as it should.
    Step,
    /// Somebody should see it.
    Notable,
}

/// A node for people: its name, if it told one, and its address.
pub(super) fn node(host: Option<&Host>, address: SocketAddr) -> String {
    match host {
        Some(host) => format!("{} ({address})", host.hostname),
        None => address.to_string(),
    }
}

/// A duration, rounded to what people read.
pub(super) fn duration(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        return format!("{} ms", duration.as_millis());
    }
    if duration < Duration::from_mins(1) {
        return format!("{:.1} s", duration.as_secs_f64());
    }
    humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string()
}

/// A moment, as UTC.
pub(in crate::client) fn moment(stamp: Stamp) -> String {
    match UNIX_EPOCH.checked_add(Duration::from_millis(stamp.0)) {
        // The year 9999 is the last one that has a form.
        Some(time) if stamp.0 < 253_402_300_800_000 => humantime::format_rfc3339_seconds(time).to_string(),
        _ => format!("{} ms", stamp.0),
    }
}

/// "1 file", "2 files".
pub(in crate::client) fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// A line about an event; `None`: it isn't worth one.
pub(super) fn event(event: &Event) -> Option<(Weight, String)> {
    let (step, notable) = (Weight::Step, Weight::Notable);
    Some(match event {
        // An address as an entry point has nothing to tell.
        Event::Chosen { addresses, .. } if addresses.is_empty() || is_literal(event) => return None,
        Event::Chosen { name, found, addresses } => {
            let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            (step, format!("{name} has {found} addresses; connecting to {}", addresses.join(", ")))
        }
        Event::NotResolved { reason, .. } => (notable, reason.clone()),
        Event::Connected { address, host } => (step, format!("{}: connected", node(Some(host), *address))),
        Event::Twin { address, of, host } => (step, format!("{address} is {} as well", node(Some(host), *of))),
        Event::SameId { address, of, host } => {
            let node = node(Some(host), *address);
            (
                notable,
                format!("{node} has the same machine id as the machine at {of}: each needs its own /etc/machine-id"),
            )
        }
        Event::Unreachable { address, host, reason, down } => {
            let what = if *down { "is down" } else { "can't be reached, trying again" };
            (notable, format!("{} {what}: {reason}", node(host.as_ref(), *address)))
        }
        Event::Accepted { address, host, path } => (step, format!("{}: accepted {path}", node(Some(host), *address))),
        Event::Refused { address, host, path, refusal } => {
            (notable, format!("{}: refused {path} ({})", node(Some(host), *address), refusal.word))
        }
        Event::Kept { address, host, path, kept } => {
            let is = if kept.coming { "is on its way" } else { "is there already" };
            (step, format!("{}: {path} {is} with other content, which is kept", node(Some(host), *address)))
        }
        Event::NotHere { address, host, path, elsewhere } => {
            let elsewhere = if *elsewhere > 0 {
                format!("; it names {} that do", count(*elsewhere, "machine"))
            } else {
                String::new()
            };
            (notable, format!("{}: does not carry /{}{elsewhere}", node(Some(host), *address), path.key()))
        }
        Event::SignedAgain { path, stamp } => {
            let stamp = moment(*stamp);
            (
                notable,
                format!(
                    "{path}: signed again for {stamp}, because what is there is dated ahead of this machine's clock"
                ),
            )
        }
        Event::Progress { .. } | Event::Told { .. } => return None,
        Event::Safe { safe: true } => (step, SAFE.to_owned()),
        Event::Safe { safe: false } => {
            (notable, "not safe to disconnect any more: what one machine alone had is lost with it".to_owned())
        }
        Event::Ended { address, outcome } => {
            let good = matches!(outcome.result.as_str(), "done" | "already" | "removed");
            (if good { step } else { notable }, ended(*address, outcome))
        }
        Event::NotServed { address, host, path, .. } => {
            (notable, format!("{}: can't get {path} any more", node(Some(host), *address)))
        }
    })
}

fn ended(address: SocketAddr, outcome: &Outcome) -> String {
    let (node, path) = (node(Some(&outcome.host), address), &outcome.path);
    match outcome.result.as_str() {
        "done" => format!("{node}: done {path}: {}", origins(outcome.bytes, &outcome.sources)),
        "removed" => format!("{node}: removed {path}"),
        "already" => format!("{node}: already there: {path}"),
        "occupied" => {
            format!("{node}: can't put {path} there: {}", outcome.reason.as_deref().unwrap_or_default())
        }
        other => format!("{node}: gave up {path}: {}", outcome.reason.as_deref().unwrap_or(other)),
    }
}

/// Where the bytes came from: how many were fetched, and of the rest what there was; each with its sources.
fn origins(bytes: Origins, sources: &[Supply]) -> String {
    let Origins { linked, copied, kept, fetched } = bytes;
    let ways: [(u64, &str, &[Way]); 4] = [
        (fetched, "fetched", &[Way::Client, Way::Node]),
        (linked, "linked", &[Way::Linked]),
        (copied, "copied", &[Way::Copied]),
        (kept, "kept", &[]),
    ];
    let told = ways.into_iter().filter(|(bytes, what, _)| *bytes > 0 || *what == "fetched");
    let told = told.map(|(bytes, what, ways)| format!("{} {what}{}", ui::bytes(bytes), suppliers(sources, ways)));
    told.collect::<Vec<_>>().join("; ")
}

/// ` from /data/v1 (1.00 GiB) and /data/v2 (3.00 MiB)`, without the bytes if there is but one.
fn suppliers(sources: &[Supply], ways: &[Way]) -> String {
    let mut named = Vec::<(&str, u64)>::new();
    for Supply { way, from, bytes } in sources.iter().filter(|supply| ways.contains(&supply.way)) {
        let name = match way {
            Way::Client => "the client",
            Way::Node => "other machines",
            Way::Linked | Way::Copied if from.is_empty() => "others",
            Way::Linked | Way::Copied => from,
        };
        match named.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += bytes,
            None => named.push((name, *bytes)),
        }
    }
    match named.as_slice() {
        [] => String::new(),
        [(name, _)] => format!(" from {name}"),
        all => {
            let all: Vec<_> = all.iter().map(|(name, bytes)| format!("{name} ({})", ui::bytes(*bytes))).collect();
            format!(" from {}", all.join(" and "))
        }
    }
}

/// How an upload fares, in the words of the final report.
pub(super) fn result(result: &UploadResult) -> String {
    match result {
        UploadResult::Done { already: true, .. } => "already there".to_owned(),
        UploadResult::Done { already: false, bytes, sources } => format!("done, {}", origins(*bytes, sources)),
        UploadResult::Removed => "removed".to_owned(),
        UploadResult::Kept(Kept { current: Some(current), coming: false }) => {
            format!("kept what is there: image {current}")
        }
        UploadResult::Kept(Kept { current: Some(current), coming: true }) => {
            format!("kept what is on its way: image {current}")
        }
        UploadResult::Kept(Kept { current: None, .. }) => "kept what is there".to_owned(),
        UploadResult::NotHere => "not carried by this machine".to_owned(),
        UploadResult::Refused(refusal) => format!("REFUSED ({})", refusal.word),
        UploadResult::Aborted { result, reason } if result == "occupied" => format!("NOT DONE (occupied): {reason}"),
        UploadResult::Aborted { result, reason } => format!("GAVE UP ({result}): {reason}"),
        UploadResult::NotServed { reason } => format!("NOT DONE, the source was lost: {reason}"),
        UploadResult::Waiting { .. } => format!("NOT DONE, {}", waiting(result)),
    }
}

/// What a node waits for: `Fetch 45 %, no source: ...`. Empty for results that are final.
pub(super) fn waiting(result: &UploadResult) -> String {
    let UploadResult::Waiting { state, waiting, bytes_done, bytes_total } = result else { return String::new() };
    let percent = match bytes_total {
        0 => String::new(),
        // Only while blocks are fetched does this tell anything.
        _ if *bytes_done == 0 => String::new(),
        total => format!(" {} %", u128::from(*bytes_done) * 100 / u128::from(*total)),
    };
    let waiting = waiting.as_ref().map_or_else(String::new, |what| format!(", waits: {what}"));
    format!("{state}{percent}{waiting}")
}

/// How many of a cluster's nodes are done: `2 of 3 machines`.
pub(super) fn done_of_known<'a>(nodes: impl Iterator<Item = &'a NodeResult> + Clone) -> String {
    let done = nodes.clone().filter(|node| node.is_done()).count();
    format!("{done} of {}", count(nodes.count(), "machine"))
}

/// Whether the name that was looked up is an address.
fn is_literal(event: &Event) -> bool {
    let Event::Chosen { name, .. } = event else { return false };
    name.parse::<Target>().is_ok_and(|target| matches!(target.host, address::Host::Address(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_named_and_machines_counted_together() {
        let supply = |way, from: &str, bytes| Supply { way, from: from.into(), bytes };
        let sources = [
            supply(Way::Client, "127.0.0.1:5", 1_024),
            supply(Way::Node, "127.0.0.2:5", 2_048),
            supply(Way::Node, "", 1_024),
            supply(Way::Linked, "/data/v1", 512),
            supply(Way::Copied, "/data/v1", 10),
            supply(Way::Copied, "", 5),
        ];
        let bytes = Origins { linked: 512, copied: 15, kept: 7, fetched: 4_096 };
        assert_eq!(
            origins(bytes, &sources),
            "4.00 KiB fetched from the client (1.00 KiB) and other machines (3.00 KiB); 512 B linked from /data/v1; \
             15 B copied from /data/v1 (10 B) and others (5 B); 7 B kept",
        );
        assert_eq!(origins(Origins::default(), &[]), "0 B fetched");
    }
}
