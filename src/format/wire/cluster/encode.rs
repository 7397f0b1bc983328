//! Messages between nodes → bytes; lists over their bounds are cut.

use super::{NodeReport, NodeRequest, NodeResponse, Nodes, Notice, ProposalVerdict};
use crate::format::cbor::{put_array, put_bool, put_bytes, put_map, put_null, put_text, put_uint};
use crate::format::wire::encode::{
    field_bytes, field_null, field_text, field_text_or_null, field_uint, put_host, put_origins, put_signed,
};
use crate::model::heads::{HeadRange, RangeAnswer};
use crate::model::limits;
use crate::model::peer::NodeId;
use crate::model::vpath::VPath;

/// The parameters.
pub(in crate::format::wire) fn put_notice(out: &mut Vec<u8>, notice: &Notice) {
    match notice {
        Notice::Pieces { image, count, have } => {
            put_map(out, 3);
            field_bytes(out, "image", image.as_bytes());
            field_uint(out, "count", (*count).into());
            field_bytes(out, "have", have);
        }
        Notice::Have { image, pieces } => {
            put_map(out, 2);
            field_bytes(out, "image", image.as_bytes());
            put_text(out, "pieces");
            put_list(out, pieces, limits::HAVE_PIECES_MAX, |out, piece| put_uint(out, (*piece).into()));
        }
        Notice::Share { image, index, of } => {
            put_map(out, 3);
            field_bytes(out, "image", image.as_bytes());
            field_uint(out, "index", (*index).into());
            field_uint(out, "of", (*of).into());
        }
        Notice::Corrupt { image, block } => {
            put_map(out, 2);
            field_bytes(out, "image", image.as_bytes());
            field_uint(out, "block", *block);
        }
        Notice::NodeProof { proof } => {
            put_map(out, 1);
            field_bytes(out, "proof", &proof.0);
        }
        Notice::SyncComplete { directory, fingerprint } => {
            put_map(out, 2);
            field_text(out, "directory", directory);
            field_bytes(out, "fingerprint", &fingerprint.0);
        }
        Notice::Nodes(nodes) => put_nodes(out, nodes),
    }
}

fn put_list<T>(out: &mut Vec<u8>, items: &[T], max: usize, mut put: impl FnMut(&mut Vec<u8>, &T)) {
    put_array(out, items.len().min(max));
    items.iter().take(max).for_each(|item| put(out, item));
}

fn put_nodes(out: &mut Vec<u8>, nodes: &Nodes) {
    put_map(out, 6);
    field_text(out, "path", nodes.path.as_str());
    field_bytes(out, "image", nodes.image.as_bytes());
    field_bytes(out, "change", nodes.change.as_bytes());
    field_uint(out, "total", nodes.total);
    put_text(out, "complete");
    put_bool(out, nodes.complete);
    put_text(out, "nodes");
    put_list(out, &nodes.nodes, limits::NODES_PER_MESSAGE_MAX, put_report);
}

fn put_report(out: &mut Vec<u8>, report: &NodeReport) {
    put_map(out, 15);
    put_host(out, &report.host);
    field_text(out, "address", &report.address);
    put_text(out, "alive");
    put_bool(out, report.alive);
    field_text(out, "state", &report.state);
    field_text_or_null(out, "result", report.result.as_deref());
    field_text_or_null(out, "reason", report.reason.as_deref());
    field_text_or_null(out, "waiting", report.waiting.as_deref());
    field_uint(out, "bytes_done", report.bytes_done);
    field_uint(out, "bytes_total", report.bytes_total);
    put_origins(out, report.bytes, &report.sources);
}

/// The parameters.
pub(in crate::format::wire) fn put_request(out: &mut Vec<u8>, request: &NodeRequest) {
    match request {
        NodeRequest::Hello { node, nonce } => {
            put_map(out, 2);
            put_node(out, node);
            field_bytes(out, "nonce", nonce);
        }
        NodeRequest::GetMembers { cursor } => {
            put_map(out, 1);
            field_uint(out, "cursor", *cursor);
        }
        NodeRequest::CompareHeads { directory, ranges } => {
            put_map(out, 2);
            field_text(out, "directory", directory);
            put_text(out, "ranges");
            put_list(out, ranges, limits::HEAD_RANGES_MAX, put_range);
        }
        NodeRequest::GetHeads { paths } => {
            put_map(out, 1);
            put_text(out, "paths");
            put_list(out, paths, limits::CHANGES_PER_MESSAGE_MAX, |out, path| put_text(out, path.as_str()));
        }
        NodeRequest::Propose { changes } => {
            put_map(out, 1);
            put_text(out, "changes");
            put_list(out, changes, limits::CHANGES_PER_MESSAGE_MAX, put_signed);
        }
    }
}

/// Address, machine id, incarnation.
fn put_node(out: &mut Vec<u8>, node: &NodeId) {
    put_text(out, "node");
    put_array(out, 3);
    put_text(out, &node.address.to_string());
    put_bytes(out, node.machine_id.as_bytes());
    put_uint(out, node.incarnation);
}

fn put_path_or_null(out: &mut Vec<u8>, path: Option<&VPath>) {
    match path {
        Some(path) => put_text(out, path.as_str()),
        None => put_null(out),
    }
}

/// From, to, fingerprint, count.
fn put_range(out: &mut Vec<u8>, range: &HeadRange) {
    put_array(out, 4);
    put_path_or_null(out, range.from.as_ref());
    put_path_or_null(out, range.to.as_ref());
    put_bytes(out, &range.fingerprint.0);
    put_uint(out, range.count);
}

/// The parameters.
pub(in crate::format::wire) fn put_response(out: &mut Vec<u8>, response: &NodeResponse) {
    match response {
        NodeResponse::Hello { node, nonce, proof } => {
            put_map(out, 3);
            put_node(out, node);
            field_bytes(out, "nonce", nonce);
            match proof {
                Some(proof) => field_bytes(out, "proof", &proof.0),
                None => field_null(out, "proof"),
            }
        }
        NodeResponse::GetMembers { data, next } => {
            put_map(out, 2);
            match next {
                Some(next) => field_uint(out, "next", *next),
                None => field_null(out, "next"),
            }
            field_bytes(out, "data", data);
        }
        NodeResponse::CompareHeads { answers } => {
            put_map(out, 1);
            put_text(out, "answers");
            put_list(out, answers, limits::HEAD_RANGES_MAX, put_range_answer);
        }
        NodeResponse::GetHeads { changes } => {
            put_map(out, 1);
            put_text(out, "changes");
            put_list(out, changes, limits::CHANGES_PER_MESSAGE_MAX, put_signed);
        }
        NodeResponse::Propose { verdicts } => {
            put_map(out, 1);
            put_text(out, "verdicts");
            put_list(out, verdicts, limits::CHANGES_PER_MESSAGE_MAX, put_verdict);
        }
    }
}

/// `null`; `[0, [range, …]]`; `[1, [[path, change], …]]`.
fn put_range_answer(out: &mut Vec<u8>, answer: &RangeAnswer) {
    match answer {
        RangeAnswer::Same => put_null(out),
        RangeAnswer::Finer(ranges) => {
            put_array(out, 2);
            put_uint(out, 0);
            put_list(out, ranges, limits::HEAD_RANGES_MAX, put_range);
        }
        RangeAnswer::Heads(heads) => {
            put_array(out, 2);
            put_uint(out, 1);
            put_list(out, heads, limits::HEADS_PER_RANGE_MAX, |out, (path, change)| {
                put_array(out, 2);
                put_text(out, path.as_str());
                put_bytes(out, change.as_bytes());
            });
        }
    }
}

/// Verdict, reason, newer change.
fn put_verdict(out: &mut Vec<u8>, verdict: &ProposalVerdict) {
    put_map(out, 3);
    field_text(out, "verdict", verdict.verdict.name());
    field_text_or_null(out, "reason", verdict.reason.as_deref());
    put_text(out, "newer");
    match &verdict.newer {
        Some(newer) => put_signed(out, newer),
        None => put_null(out),
    }
}
