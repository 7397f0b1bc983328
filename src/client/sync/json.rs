//! Output for programs: one JSON object per line on stdout. `doc/sync.md` lists the events and their fields.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::prepare::Prepared;
use super::{Output, Stage, exit_status, report};
use crate::client::ui;
use crate::driver::upload_loop::{Audience, Status, Trouble};
use crate::engine::upload::{Ending, Event, Kept, NodeResult, Refused, UploadResult};
use crate::model::ids::ImageId;
use crate::model::origins::{Origins, Supply};
use crate::model::peer::Host;
use crate::model::time::Time;
use crate::model::vpath::VPath;

/// Time between two `status` events.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// Lines on stdout.
pub(super) struct Json {
    stage: Stage,
    /// Nobody reads any more.
    closed: bool,
}

impl Json {
    pub(super) fn new(stage: Stage) -> Self {
        Self { stage, closed: false }
    }

    fn print(&mut self, value: &Value) {
        if !self.closed
            && let Err(error) = ui::line(&value.to_string())
        {
            self.closed = true;
            ui::warn(&error.to_string());
        }
    }

    fn of_cluster(&mut self, at: Time, cluster: usize, mut value: Value) {
        value["seconds"] = seconds(at.since_start());
        value["cluster"] = json!(self.stage.clusters[cluster]);
        self.print(&value);
    }
}

fn seconds(duration: Duration) -> Value {
    json!((duration.as_secs_f64() * 1000.0).round() / 1000.0)
}

fn with_node(name: &str, address: SocketAddr, host: Option<&Host>, fields: Value) -> Value {
    let mut value = json!({
        "event": name,
        "address": address.to_string(),
        "hostname": host.map(|host| &*host.hostname),
        "machine_id": host.map(|host| host.machine_id.to_string()),
    });
    if let (Some(all), Value::Object(more)) = (value.as_object_mut(), fields) {
        all.extend(more);
    }
    value
}

fn event_value(event: &Event) -> Value {
    match event {
        Event::Chosen { name, found, addresses } => {
            let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            json!({ "event": "chosen", "name": name, "found": found, "addresses": addresses })
        }
        Event::NotResolved { name, reason } => json!({ "event": "not_resolved", "name": name, "reason": reason }),
        Event::SignedAgain { path, stamp } => {
            json!({ "event": "signed_again", "path": path.as_str(), "stamp_ms": stamp.0 })
        }
        Event::Connected { address, host } => with_node("connected", *address, Some(host), json!({})),
        Event::Twin { address, of, host } => with_node("twin", *address, Some(host), json!({ "of": of.to_string() })),
        Event::SameId { address, of, host } => {
            with_node("same_id", *address, Some(host), json!({ "of": of.to_string() }))
        }
        Event::Unreachable { address, host, reason, down } => {
            with_node("unreachable", *address, host.as_ref(), json!({ "reason": reason, "down": down }))
        }
        Event::Accepted { address, host, path } => {
            with_node("accepted", *address, Some(host), json!({ "path": path.as_str() }))
        }
        Event::Refused { address, host, path, refusal } => {
            let mut fields = refusal_fields(refusal);
            fields.insert("path".to_owned(), json!(path.as_str()));
            with_node("refused", *address, Some(host), Value::Object(fields))
        }
        Event::Kept { address, host, path, kept } => {
            let mut fields = kept_fields(*kept);
            fields.insert("path".to_owned(), json!(path.as_str()));
            with_node("kept", *address, Some(host), Value::Object(fields))
        }
        Event::NotHere { address, host, path, elsewhere } => {
            with_node("not_here", *address, Some(host), json!({ "path": path.as_str(), "elsewhere": elsewhere }))
        }
        Event::Progress { address, progress } => {
            let state = (&*progress.state, progress.waiting.as_deref());
            let fields =
                progress_fields(&progress.path, progress.image, state, (progress.bytes_done, progress.bytes_total));
            with_node("progress", *address, Some(&progress.host), fields)
        }
        Event::Ended { address, outcome } => {
            let fields = json!({
                "path": outcome.path.as_str(),
                "image": outcome.image.map(|image| image.to_string()),
                "result": outcome.result,
                "reason": outcome.reason,
            });
            let fields = with_origins(fields, outcome.bytes, &outcome.sources);
            with_node("ended", *address, Some(&outcome.host), fields)
        }
        Event::Told { address, path, image, report } => {
            let state = (&*report.state, report.waiting.as_deref());
            let fields = progress_fields(path, *image, state, (report.bytes_done, report.bytes_total));
            with_node("progress", *address, Some(&report.host), fields)
        }
        Event::Safe { safe } => json!({ "event": "safe", "safe": safe }),
        Event::NotServed { address, host, path, reason } => {
            with_node("not_served", *address, Some(host), json!({ "path": path.as_str(), "reason": reason }))
        }
    }
}

fn progress_fields(
    path: &VPath,
    image: ImageId,
    (state, waiting): (&str, Option<&str>),
    (bytes_done, bytes_total): (u64, u64),
) -> Value {
    json!({
        "path": path.as_str(),
        "image": image.to_string(),
        "state": state,
        "waiting": waiting,
        "bytes_done": bytes_done,
        "bytes_total": bytes_total,
    })
}

fn kept_fields(kept: Kept) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("current".to_owned(), json!(kept.current.map(|current| current.to_string())));
    fields.insert("coming".to_owned(), json!(kept.coming));
    fields
}

fn refusal_fields(refusal: &Refused) -> Map<String, Value> {
    let fields = json!({
        "reason": refusal.word,
        "detail": refusal.detail,
        "accepted_keys": refusal.accepted_keys,
        "current": refusal.current.map(|current| current.to_string()),
        "stamp_ms": refusal.stamp.map(|stamp| stamp.0),
        "signed_stamp_ms": refusal.signed.map(|stamp| stamp.0),
    });
    if let Value::Object(fields) = fields { fields } else { Map::new() }
}

/// Where the bytes came from; `bytes_reused` is the sum of those that were on the host. The largest of them by
/// source, too.
fn with_origins(mut fields: Value, bytes: Origins, sources: &[Supply]) -> Value {
    let Origins { linked, copied, kept, fetched } = bytes;
    let all =
        [("reused", bytes.reused()), ("linked", linked), ("copied", copied), ("kept", kept), ("fetched", fetched)];
    for (what, bytes) in all {
        fields[format!("bytes_{what}")] = bytes.into();
    }
    let one = |Supply { way, from, bytes }: &Supply| json!({ "how": way.name(), "from": from, "bytes": bytes });
    fields["sources"] = sources.iter().map(one).collect();
    fields
}

fn result_value(result: &UploadResult) -> Value {
    match result {
        UploadResult::Done { already, bytes, sources } => {
            let word = if *already { "already" } else { "done" };
            with_origins(json!({ "result": word }), *bytes, sources)
        }
        UploadResult::Removed => json!({ "result": "removed" }),
        UploadResult::Kept(kept) => {
            let mut fields = kept_fields(*kept);
            fields.insert("result".to_owned(), json!("kept"));
            Value::Object(fields)
        }
        UploadResult::NotHere => json!({ "result": "not_here" }),
        UploadResult::Refused(refusal) => {
            let mut fields = refusal_fields(refusal);
            fields.insert("result".to_owned(), json!("refused"));
            Value::Object(fields)
        }
        UploadResult::Aborted { result, reason } => {
            json!({ "result": "aborted", "outcome": result, "reason": reason })
        }
        UploadResult::NotServed { reason } => json!({ "result": "not_served", "reason": reason }),
        UploadResult::Waiting { state, waiting, bytes_done, bytes_total } => json!({
            "result": "waiting",
            "state": state,
            "waiting": waiting,
            "bytes_done": bytes_done,
            "bytes_total": bytes_total,
        }),
    }
}

fn node_value(result: &NodeResult, status: &Status) -> Value {
    let mut paths = Map::new();
    for (path, one) in &result.uploads {
        paths.insert(path.to_string(), result_value(one));
    }
    json!({
        "address": result.address.to_string(),
        "hostname": result.host.as_ref().map(|host| &*host.hostname),
        "machine_id": result.host.as_ref().map(|host| host.machine_id.to_string()),
        "down": result.down.is_some(),
        "trouble": result.trouble,
        "bytes_sent": status.bytes_sent.get(&result.address).copied().unwrap_or(0),
        "paths": paths,
    })
}

const fn ending_word(ending: &Ending) -> &'static str {
    match ending {
        Ending::Open => "open",
        Ending::Done => "done",
        Ending::DoneEarly => "done_early",
        Ending::Refused => "refused",
        Ending::SourceLost => "source_lost",
        Ending::Late => "late",
        Ending::Unreachable => "unreachable",
        Ending::NotSigned(_) => "not_signed",
        Ending::Interrupted => "interrupted",
        Ending::Left => "left",
    }
}

impl Audience for Json {
    fn event(&mut self, at: Time, cluster: usize, event: &Event) {
        self.of_cluster(at, cluster, event_value(event));
    }

    fn trouble(&mut self, at: Time, trouble: Trouble, reason: &str) {
        ui::warn(reason);
        let name = match trouble {
            Trouble::SourceLost => "source_lost",
            Trouble::KeyFailed => "key_failed",
        };
        self.print(&json!({ "event": name, "seconds": seconds(at.since_start()), "reason": reason }));
    }

    fn interval(&self) -> Duration {
        STATUS_INTERVAL
    }

    fn status(&mut self, at: Time, status: &[Status]) {
        for (cluster, status) in status.iter().enumerate() {
            if status.summary.ending != Ending::Open {
                continue;
            }
            let known = status.summary.known().count();
            let done = status.summary.known().filter(|node| node.is_done()).count();
            let sent: u64 = status.bytes_sent.values().sum();
            let value = json!({ "event": "status", "known": known, "done": done, "bytes_sent": sent, "safe": status.summary.safe });
            self.of_cluster(at, cluster, value);
        }
    }

    fn finished(&mut self, at: Time, cluster: usize, status: &Status) {
        let summary = &status.summary;
        for text in report::explanations(&self.stage, summary) {
            ui::error(&self.stage.of(cluster, &text));
        }
        let detail = if let Ending::NotSigned(reason) = &summary.ending { Some(reason) } else { None };
        let unresolved = summary.unresolved.iter().map(|(name, reason)| json!({ "name": name, "reason": reason }));
        let value = json!({
            "event": "finished",
            "ending": ending_word(&summary.ending),
            "detail": detail,
            "exit_status": exit_status(&summary.ending),
            "took_seconds": seconds(summary.took),
            "ideal_seconds": status.ideal().map(seconds),
            "safe": summary.safe,
            "bytes_sent": status.bytes_sent.values().sum::<u64>(),
            "nodes": summary.nodes.iter().map(|node| node_value(node, status)).collect::<Vec<_>>(),
            "unresolved": unresolved.collect::<Vec<_>>(),
            "homeless": summary.homeless.iter().map(ToString::to_string).collect::<Vec<_>>(),
        });
        self.of_cluster(at, cluster, value);
    }
}

impl Output for Json {
    fn prepared(&mut self, prepared: &[Prepared]) {
        for one in prepared {
            let value = json!({
                "event": "indexed",
                "source": one.source,
                "image": one.image.to_string(),
                "files": one.stats.files,
                "unchanged_files": one.stats.unchanged_files,
                "directories": one.stats.directories,
                "symlinks": one.stats.symlinks,
                "bytes": one.stats.bytes,
                "took_seconds": seconds(one.took),
                "paths": one.wishes.iter().map(|wish| wish.path.to_string()).collect::<Vec<_>>(),
            });
            self.print(&value);
        }
        let value = json!({ "event": "keys", "signers": self.stage.signers });
        self.print(&value);
    }

    fn end(&mut self, _: &[Status], exit_status: u8) {
        self.print(&end_value(exit_status, None));
    }
}

fn end_value(exit_status: u8, reason: Option<&str>) -> Value {
    json!({ "event": "end", "exit_status": exit_status, "reason": reason })
}

/// The end of what could not start.
pub(super) fn print_end(exit_status: u8, reason: Option<&str>) {
    if let Err(error) = ui::line(&end_value(exit_status, reason).to_string()) {
        ui::warn(&error.to_string());
    }
}
