//! The status pages: short text for people, JSON for programs, Prometheus text for monitoring.

use std::fmt::Write as _;
use std::time::Duration;

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde_json::{Value, json};

use crate::engine::deploy::Found;
use crate::engine::node::{MemberStatus, NodeStatus, Note, PathStatus};
use crate::engine::retention;
use crate::format::heads::{HeadHash, HeadsSum};
use crate::model::ids::hex;
use crate::model::origins::{Supply, Way};
use crate::model::scrub::Verdict;

/// What `GET /` answers.
pub fn text(status: &NodeStatus, version: &str) -> String {
    let done = status.paths.iter().filter(|path| path.is_settled()).count();
    let mut out = format!(
        "ciruela {version} on {}\n{} connections, {} of {} directories in place\n",
        status.host.hostname,
        status.connections,
        done,
        status.paths.len()
    );
    let (alive, others): (Vec<_>, Vec<_>) = status.members.iter().partition(|member| member.state == "alive");
    let _ = writeln!(out, "{} nodes alive in the cluster", alive.len());
    for MemberStatus { node, info, state } in others {
        let _ = writeln!(
            out,
            "{} ({}) {}",
            info.hostname,
            node.address,
            if *state == "left" { "has left" } else { "is down" }
        );
    }
    for path in status.paths.iter().filter(|path| !path.is_settled()) {
        let _ = writeln!(out, "{}", line(path));
    }
    for (path, damaged) in status.paths.iter().filter_map(|path| Some((&path.path, path.damaged.as_ref()?))) {
        let _ = writeln!(out, "{path} is DAMAGED: {damaged}");
    }
    if status.directories.is_empty() {
        out.push_str("no directories are configured\n");
    }
    out
}

fn line(path: &PathStatus) -> String {
    let image = path.image.map_or_else(|| "-".to_owned(), |image| image.short());
    let mut line = format!("{} {image} {}", path.path, path.state);
    if path.bytes_total > 0 {
        let percent = u128::from(path.bytes_done) * 100 / u128::from(path.bytes_total);
        let _ = write!(line, " {percent}%");
    }
    if let Some(waiting) = &path.waiting {
        let _ = write!(line, ", waits: {waiting}");
    }
    line
}

/// What `GET /status.json` answers.
pub fn json(status: &NodeStatus, version: &str, uptime: Duration) -> String {
    let paths: Vec<Value> = status.paths.iter().map(path_json).collect();
    let value = json!({
        "version": version,
        "machine_id": status.host.machine_id.to_string(),
        "hostname": status.host.hostname,
        "uptime_seconds": uptime.as_secs(),
        "connections": status.connections,
        "directories": status.directories,
        "heads": heads(status),
        "retention": retention(status),
        "scrubbing": status.scrubbing.as_ref().map(|(path, bytes)| json!({ "path": path.as_str(), "bytes": bytes })),
        "paths": paths,
        "members": status.members.iter().map(member_json).collect::<Vec<_>>(),
    });
    format!("{value:#}\n")
}

/// For each directory how many heads there are, and their fingerprint, as nodes compare it.
fn heads(status: &NodeStatus) -> Value {
    let one = |name: &String| {
        let mut sum = HeadsSum::default();
        let here = status.paths.iter().filter(|path| path.path.key() == name);
        sum.extend(here.map(|path| HeadHash::new(&path.path, &path.change)));
        (name.clone(), json!({ "count": sum.count(), "fingerprint": hex(&sum.fingerprint().0) }))
    };
    Value::Object(status.directories.iter().map(one).collect())
}

/// Of each config that cleans.
fn retention(status: &NodeStatus) -> Value {
    let one = |(name, one): &(String, retention::Status)| {
        let retention::Status { newest, active, recent, removed, problem } = one;
        let value = json!({
            "newest": newest, "active": active, "recent": recent, "removed": removed, "problem": problem,
        });
        (name.clone(), value)
    };
    Value::Object(status.retention.iter().map(one).collect())
}

fn path_json(path: &PathStatus) -> Value {
    json!({
        "path": path.path.as_str(),
        "image": path.image.map(|image| image.to_string()),
        "change": path.change.to_string(),
        "stamp_ms": path.stamp.0,
        "visible": path.visible.map(|image| image.to_string()),
        "previous": path.previous.map(|image| image.to_string()),
        "state": path.state,
        "waiting": path.waiting,
        "failure": path.failure,
        "bytes_done": path.bytes_done,
        "bytes_total": path.bytes_total,
        "bytes_kept": path.found.bytes_kept,
        "bytes_linked": path.found.bytes_linked,
        "bytes_copied": path.found.bytes_copied,
        "bytes_fetched": path.bytes_fetched,
        "files_rehashed": path.found.rehashed,
        "sources": sources(&path.found),
        "damaged": path.damaged,
        "scrubbed_ms": path.verdict.map(|verdict| verdict.at.0),
        "extras": path.verdict.map_or(0, |verdict| verdict.extras),
    })
}

/// How much came from which directory of this node, or from whom.
fn sources(found: &Found) -> Vec<Value> {
    let one = |supply: &Supply| {
        let Supply { way, from, bytes } = supply;
        match way {
            Way::Linked | Way::Copied => json!({ "how": way.name(), "path": from, "bytes": bytes }),
            Way::Client | Way::Node => {
                json!({ "how": "fetched", "from": format!("{} {from}", way.name()), "bytes": bytes })
            }
        }
    };
    found.sources.iter().map(one).collect()
}

fn member_json(member: &MemberStatus) -> Value {
    json!({
        "address": member.node.address.to_string(),
        "machine_id": member.node.machine_id.to_string(),
        "incarnation": member.node.incarnation,
        "hostname": member.info.hostname,
        "version": member.info.version,
        "directories": member.info.directories,
        "state": member.state,
    })
}

/// The daemon's metrics.
pub struct Metrics {
    handle: PrometheusHandle,
    deployed: Counter,
    fetched: Counter,
    reused: Counter,
    connections: Gauge,
}

impl Metrics {
    /// Installs the recorder of this process; fails when there is one already.
    pub fn install() -> Result<Self, metrics_exporter_prometheus::BuildError> {
        let handle = PrometheusBuilder::new().install_recorder()?;
        describe_counter!("ciruela_deployments_total", "Directories made visible");
        describe_counter!("ciruela_removed_directories_total", "Directories removed by the rules of retention");
        describe_counter!("ciruela_deployments_ended_total", "Deployments that ended without success");
        describe_counter!("ciruela_decisions_total", "Changes decided on, by verdict");
        describe_counter!("ciruela_step_failures_total", "Failed deployment steps, by kind");
        describe_counter!("ciruela_sources_dropped_total", "Sources that lied, failed or fell silent");
        describe_counter!("ciruela_fetched_bytes_total", "Bytes of blocks fetched");
        describe_counter!("ciruela_reused_bytes_total", "Bytes of blocks that were there already");
        describe_counter!("ciruela_corrupt_blocks_sent_total", "Blocks that other nodes found to be wrong");
        describe_counter!("ciruela_caught_up_changes_total", "Changes that nodes exchanged by comparing");
        describe_gauge!("ciruela_connections", "Open WebSocket connections");
        describe_gauge!("ciruela_members", "Nodes of the cluster, this one included, by state");
        describe_counter!("ciruela_datagrams_dropped_total", "Datagrams that were not taken, by reason");
        describe_gauge!("ciruela_paths", "Paths, by state");
        describe_counter!("ciruela_scrubs_total", "Directories compared with their images, by result");
        describe_counter!("ciruela_scrubbed_bytes_total", "Bytes read for that");
        describe_gauge!("ciruela_extra_entries", "Entries of visible directories that their images don't have");
        describe_gauge!("ciruela_damaged_directories", "Visible directories that aren't what they should be");
        Ok(Self {
            handle,
            deployed: counter!("ciruela_deployments_total"),
            fetched: counter!("ciruela_fetched_bytes_total"),
            reused: counter!("ciruela_reused_bytes_total"),
            connections: gauge!("ciruela_connections"),
        })
    }

    /// Counts what the node noted.
    pub fn note(&self, note: &Note) {
        match note {
            Note::Decided { verdict, .. } => {
                counter!("ciruela_decisions_total", "verdict" => verdict.clone()).increment(1);
            }
            Note::Done { bytes, already: false, .. } => {
                self.deployed.increment(1);
                self.fetched.increment(bytes.fetched);
                self.reused.increment(bytes.reused());
            }
            Note::Ended { .. } => counter!("ciruela_deployments_ended_total").increment(1),
            Note::Paused { failure, .. } => {
                counter!("ciruela_step_failures_total", "kind" => failure.kind.name()).increment(1);
            }
            Note::CaughtUp { pulled, pushed, .. } => {
                counter!("ciruela_caught_up_changes_total").increment(pulled + pushed);
            }
            Note::Scrubbed { verdict, bytes, .. } => {
                let result = match verdict {
                    Verdict { damaged: 0, extras: 0, .. } => "clean",
                    Verdict { damaged: 0, .. } => "extras",
                    Verdict { .. } => "damaged",
                };
                counter!("ciruela_scrubs_total", "result" => result).increment(1);
                counter!("ciruela_scrubbed_bytes_total").increment(*bytes);
            }
            Note::Removed { .. } => counter!("ciruela_removed_directories_total").increment(1),
            Note::Done { already: true, .. }
            | Note::Forgone { .. }
            | Note::NotRemoved { .. }
            | Note::Damaged { .. }
            | Note::Flaw { .. }
            | Note::NotScrubbed { .. }
            | Note::Sound { .. }
            | Note::Learned { .. }
            | Note::CatchUpBroken { .. }
            | Note::NodeUp { .. }
            | Note::NodeDown { .. }
            | Note::Restored { .. }
            | Note::Twin { .. }
            | Note::Stranger { .. }
            | Note::Alone { .. }
            | Note::NodeUnreachable { .. } => {}
            Note::ToldCorrupt { .. } => counter!("ciruela_corrupt_blocks_sent_total").increment(1),
            Note::SourceDropped { .. } => counter!("ciruela_sources_dropped_total").increment(1),
        }
    }

    /// What `GET /metrics` answers.
    pub fn render(&self, status: &NodeStatus) -> String {
        self.connections.set(status.connections as f64);
        let done = status.paths.iter().filter(|path| path.is_settled()).count();
        let waiting = status.paths.iter().filter(|path| path.waiting.is_some()).count();
        for (state, count) in [("done", done), ("waiting", waiting), ("active", status.paths.len() - done - waiting)] {
            gauge!("ciruela_paths", "state" => state).set(count as f64);
        }
        let damaged = status.paths.iter().filter(|path| path.damaged.is_some()).count();
        gauge!("ciruela_damaged_directories").set(damaged as f64);
        let extras: u64 = status.paths.iter().filter_map(|path| path.verdict).map(|verdict| verdict.extras).sum();
        gauge!("ciruela_extra_entries").set(extras as f64);
        for state in ["alive", "down", "left"] {
            let count = status.members.iter().filter(|member| member.state == state).count();
            gauge!("ciruela_members", "state" => state).set(count as f64);
        }
        let dropped = status.datagrams_dropped;
        for (reason, count) in [
            ("foreign", dropped.foreign),
            ("unsealable", dropped.unsealable),
            ("unlisted", dropped.unlisted),
            ("untimely", dropped.untimely),
            ("replayed", dropped.replayed),
            ("malformed", dropped.malformed),
            ("misdirected", dropped.misdirected),
        ] {
            counter!("ciruela_datagrams_dropped_total", "reason" => reason).absolute(count);
        }
        self.handle.render()
    }
}
