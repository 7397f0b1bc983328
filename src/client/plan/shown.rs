//! The answers for people and for programs.

use serde_json::{Map, Value, json};

use super::ask::Node;
use super::judge::{Judged, Would};
use crate::client::status::aligned;
use crate::client::sync::{Plan, count};
use crate::client::ui;
use crate::model::estimate::Estimate;
use crate::model::ids::ImageId;

/// A line for each machine and directory.
pub(super) fn text(judged: &Judged, plan: &Plan) -> String {
    let head = ["MACHINE", "ADDRESS", "PATH", "FILES", "LINKED", "COPIED", "SENT", "FREE", "WOULD"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for node in &judged.asked.nodes {
        let name = node.hostname.clone().unwrap_or_else(|| "?".to_owned());
        let machine = [name, node.address.to_string()];
        if let Err(reason) = &node.result {
            rows.push([&machine[..], &[format!("UNREACHABLE: {reason}")]].concat());
        }
        for (wish, would) in plan.wishes.iter().zip(judged.would(node)) {
            if would == Would::NotCarried {
                continue;
            }
            let numbers = would.estimate().map_or_else(|| [const { "-" }; 5].map(str::to_owned), numbers);
            rows.push([&machine[..], &[wish.path.to_string()], &numbers[..], &[sentence(&would)]].concat());
        }
    }
    let mut lines = aligned(&rows);
    let asked = &judged.asked;
    lines.extend(asked.unresolved.iter().map(|(name, reason)| format!("{name}: NOT FOUND: {reason}")));
    let homeless = asked.homeless.iter().filter_map(|wish| plan.wishes.get(*wish));
    lines.extend(homeless.map(|wish| format!("{}: no machine that was reached carries it", wish.path)));
    if asked.left_out > 0 {
        lines.push(format!("{} not asked", count(asked.left_out, "more machine")));
    }
    let good = judged.exit_status() == 0;
    lines.push(
        if good { "all would take it; nothing was changed" } else { "NOT all would take it; nothing was changed" }
            .to_owned(),
    );
    lines.join("\n")
}

fn numbers(estimate: &Estimate) -> [String; 5] {
    let Estimate { files, files_linked, bytes_linked, bytes_copied, bytes_fetched, bytes_free, .. } = estimate;
    let linked = format!("{files_linked}, {}", ui::bytes(*bytes_linked));
    [files.to_string(), linked, ui::bytes(*bytes_copied), ui::bytes(*bytes_fetched), ui::bytes(*bytes_free)]
}

fn sentence(would: &Would) -> String {
    match would {
        Would::NotCarried => "not carried".to_owned(),
        Would::Take(_) => "take it".to_owned(),
        Would::Have => "has it already, or it is on its way".to_owned(),
        Would::Keep => "keep what is there".to_owned(),
        Would::NoRoom(Estimate { bytes_needed, bytes_free, inodes_needed, inodes_free, .. }) => {
            let inodes = match inodes_free {
                Some(free) if inodes_needed > free => format!(", {inodes_needed} inodes of {free} left"),
                Some(_) | None => String::new(),
            };
            format!("NO ROOM: needs {} of {} left{inodes}", ui::bytes(*bytes_needed), ui::bytes(*bytes_free))
        }
        Would::Refuse { word, detail, accepted_keys } => {
            let keys = if accepted_keys.is_empty() {
                String::new()
            } else {
                format!("; accepted would be: {}", accepted_keys.join(", "))
            };
            format!("REFUSE ({word}): {detail}{keys}")
        }
        Would::Wait { word, detail } => format!("WAIT ({word}): {detail}"),
        Would::Unknown(reason) => format!("NOT KNOWN: {reason}"),
    }
}

/// One object.
pub(super) fn json(judged: &Judged, plan: &Plan, images: &[ImageId]) -> Value {
    let wishes = plan.wishes.iter().zip(images).map(|(wish, image)| {
        json!({
            "source": wish.source.to_string_lossy(),
            "path": wish.path.as_str(),
            "verb": wish.verb.name(),
            "image": image.to_string(),
        })
    });
    let asked = &judged.asked;
    let unresolved = asked.unresolved.iter().map(|(name, reason)| json!({ "name": name, "reason": reason }));
    let homeless = asked.homeless.iter().filter_map(|wish| plan.wishes.get(*wish)).map(|wish| wish.path.to_string());
    json!({
        "accepted": judged.exit_status() == 0,
        "exit_status": judged.exit_status(),
        "reason": null,
        "directories": wishes.collect::<Vec<_>>(),
        "nodes": asked.nodes.iter().map(|node| node_json(judged, plan, node)).collect::<Vec<_>>(),
        "unresolved": unresolved.collect::<Vec<_>>(),
        "homeless": homeless.collect::<Vec<_>>(),
        "left_out": asked.left_out,
    })
}

/// The same object where nobody could be asked, and why.
pub(super) fn no_plan(exit_status: u8, reason: &str) -> Value {
    json!({
        "accepted": false,
        "exit_status": exit_status,
        "reason": reason,
        "directories": [],
        "nodes": [],
        "unresolved": [],
        "homeless": [],
        "left_out": 0,
    })
}

fn node_json(judged: &Judged, plan: &Plan, node: &Node) -> Value {
    let mut paths = Map::new();
    for (wish, would) in plan.wishes.iter().zip(judged.would(node)) {
        paths.insert(wish.path.to_string(), would_json(&would));
    }
    let host = node.result.as_ref().ok().map(|(host, _)| host);
    json!({
        "cluster": plan.spread.clusters[node.cluster].join(" "),
        "address": node.address.to_string(),
        "hostname": node.hostname,
        "machine_id": host.map(|host| host.machine_id.to_string()),
        "reachable": node.result.is_ok(),
        "reason": node.result.as_ref().err(),
        "paths": paths,
    })
}

fn would_json(would: &Would) -> Value {
    let (reason, detail, keys) = match would {
        Would::Refuse { word, detail, accepted_keys } => (Some(word), Some(detail), accepted_keys.as_slice()),
        Would::Wait { word, detail } => (Some(word), Some(detail), [].as_slice()),
        Would::Unknown(detail) => (None, Some(detail), [].as_slice()),
        Would::NotCarried | Would::Take(_) | Would::NoRoom(_) | Would::Have | Would::Keep => {
            (None, None, [].as_slice())
        }
    };
    let estimate = would.estimate().map(|estimate| {
        json!({
            "files": estimate.files,
            "bytes": estimate.bytes,
            "files_linked": estimate.files_linked,
            "bytes_linked": estimate.bytes_linked,
            "bytes_copied": estimate.bytes_copied,
            "bytes_fetched": estimate.bytes_fetched,
            "bytes_needed": estimate.bytes_needed,
            "bytes_free": estimate.bytes_free,
            "inodes_needed": estimate.inodes_needed,
            "inodes_free": estimate.inodes_free,
        })
    });
    json!({
        "would": would.word(),
        "good": would.is_good(),
        "reason": reason,
        "detail": detail,
        "accepted_keys": keys,
        "estimate": estimate,
    })
}
