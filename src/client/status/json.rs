//! For programs: one object, whose fields `doc/sync.md` lists.

use serde_json::{Map, Value, json};

use super::judge::{Judged, Node};
use super::page::{PathEntry, StatusPage};
use crate::model::vpath::VPath;

/// The object as text.
pub(super) fn object(judged: &Judged, path: Option<&VPath>, exit_status: u8) -> String {
    let unresolved = judged.unresolved.iter().map(|(name, reason)| json!({ "name": name, "reason": reason }));
    let value = json!({
        "current": judged.is_current(),
        "exit_status": exit_status,
        "reason": null,
        "path": path.map(VPath::as_str),
        "unresolved": unresolved.collect::<Vec<_>>(),
        "nodes": judged.nodes.iter().map(|node| node_value(node, path)).collect::<Vec<_>>(),
    });
    format!("{value:#}")
}

/// The same object where nobody could be asked, and why.
pub(super) fn nothing(exit_status: u8, reason: &str) -> String {
    let value = json!({
        "current": false,
        "exit_status": exit_status,
        "reason": reason,
        "path": null,
        "unresolved": [],
        "nodes": [],
    });
    format!("{value:#}")
}

fn node_value(node: &Node, path: Option<&VPath>) -> Value {
    let page = node.page.as_ref().ok();
    let mut value = json!({
        "address": node.address.to_string(),
        "hostname": node.hostname,
        "reachable": page.is_some(),
        "reason": node.page.as_ref().err(),
        "member": node.member,
        "machine_id": page.map(|page| &page.machine_id),
        "version": page.map(|page| &page.version),
        "uptime_seconds": page.and_then(|page| page.uptime_seconds),
    });
    match (path, page) {
        (Some(path), _) => {
            value["standing"] = json!(node.standing.get(path.as_str()).map(|standing| standing.word()));
            value["entry"] = node.entry(path).map_or(Value::Null, entry_value);
        }
        (None, Some(page)) => {
            value["directories"] = directories(node, page);
            value["not_in_place"] = node.open().map(entry_value).collect();
            value["damaged"] = node.damaged().map(entry_value).collect();
            let problems = node.not_cleaned().map(|(name, problem)| (name.to_owned(), json!(problem)));
            value["not_cleaned"] = Value::Object(problems.collect());
        }
        (None, None) => {}
    }
    value
}

fn directories(node: &Node, page: &StatusPage) -> Value {
    let one = |(name, standing): (&String, &super::judge::Standing)| {
        let heads = page.heads.get(name).map_or_else(|| page.paths_of(name).count() as u64, |heads| heads.count);
        (name.clone(), json!({ "heads": heads, "standing": standing.word() }))
    };
    Value::Object(node.standing.iter().map(one).collect::<Map<_, _>>())
}

fn entry_value(entry: &PathEntry) -> Value {
    json!({
        "path": entry.path,
        "image": entry.image,
        "change": entry.change,
        "stamp_ms": entry.stamp_ms,
        "visible": entry.visible,
        "state": entry.state,
        "waiting": entry.waiting,
        "bytes_done": entry.bytes_done,
        "bytes_total": entry.bytes_total,
        "damaged": entry.damaged,
    })
}
