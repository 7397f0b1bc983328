//! Messages → bytes: definite lengths, shortest integers, fields in the published order.
//!
//! Texts and lists over their bounds are cut, so that what we send is never what a peer must refuse.

use super::message::{
    ChangeAnswer, Hello, Hosts, ImageEvent, Message, Notification, Outcome, PlanAnswer, Progress, PublishedChange,
    Request, Response, SubmitAnswer,
};
use super::{RequestType, WireError, cluster};
use crate::format::cbor::{put_array, put_bool, put_bytes, put_bytes_head, put_map, put_null, put_text, put_uint};
use crate::format::{change, supply};
use crate::model::change::SignedChange;
use crate::model::estimate::Estimate;
use crate::model::ids::ImageId;
use crate::model::key::Scheme;
use crate::model::limits;
use crate::model::origins::{Origins, Supply};
use crate::model::peer::Host;

pub(super) const NOTIFICATION: u64 = 0;
pub(super) const REQUEST: u64 = 1;
pub(super) const RESPONSE: u64 = 2;
pub(super) const ERROR: &str = "Error";
pub(super) const SIGNATURE: &str = "ssh-ed25519";
pub(super) const SIGNATURE_LEGACY: &str = "ssh-ed25519-legacy";

/// A response that is mostly data, for [`data_response_header`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataResponse {
    /// v1.
    GetIndex,
    /// v1.
    GetBlock,
    /// v2.
    GetBlocks,
    /// v2; `total`: bytes of the whole index.
    GetIndexPart { total: u64 },
}

/// The frame of a response up to its data, with capacity for the `data_len` bytes that must follow and end it: so a file
/// is read straight into the frame.
pub fn data_response_header(response: DataResponse, id: u64, data_len: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + data_len);
    begin_data_response(&mut out, response, id, data_len);
    out
}

/// The same at the end of a buffer that is there already.
pub fn begin_data_response(out: &mut Vec<u8>, response: DataResponse, id: u64, data_len: usize) {
    let (request_type, fields) = match response {
        DataResponse::GetIndex => (RequestType::GetIndex, 1),
        DataResponse::GetBlock => (RequestType::GetBlock, 1),
        DataResponse::GetBlocks => (RequestType::GetBlocks, 1),
        DataResponse::GetIndexPart { .. } => (RequestType::GetIndexPart, 2),
    };
    envelope(out, RESPONSE, request_type.name(), Some(id));
    put_map(out, fields);
    if let DataResponse::GetIndexPart { total } = response {
        put_text(out, "total");
        put_uint(out, total);
    }
    put_text(out, "data");
    put_bytes_head(out, data_len);
}

/// The frame of a message. Fails for those that exist only in what was received.
pub fn encode(message: &Message) -> Result<Vec<u8>, WireError> {
    match message {
        Message::Notification(notification) => Ok(encode_notification(notification)),
        Message::Request { id, request } => Ok(encode_request(*id, request)),
        Message::Response { id, response } => Ok(encode_response(*id, response)),
        Message::Malformed { .. } => Err(WireError::NotSendable("a malformed request")),
        Message::Unknown { .. } => Err(WireError::NotSendable("an unknown notification")),
    }
}

fn envelope(out: &mut Vec<u8>, kind: u64, name: &str, id: Option<u64>) {
    put_array(out, if id.is_some() { 4 } else { 3 });
    put_uint(out, kind);
    put_text(out, name);
    if let Some(id) = id {
        put_uint(out, id);
    }
}

fn encode_notification(notification: &Notification) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    let name = match notification {
        Notification::PublishImage { .. } => "PublishImage",
        Notification::ReceivedImage(_) => "ReceivedImage",
        Notification::AbortedImage { .. } => "AbortedImage",
        Notification::Hello(_) => "Hello",
        Notification::Progress(_) => "Progress",
        Notification::Outcome(_) => "Outcome",
        Notification::Cluster(notice) => notice.name(),
    };
    envelope(&mut out, NOTIFICATION, name, None);
    match notification {
        Notification::PublishImage { id } => {
            put_map(&mut out, 1);
            field_bytes(&mut out, "id", id.as_bytes());
        }
        Notification::ReceivedImage(event) => {
            put_map(&mut out, 5);
            put_event(&mut out, event);
        }
        Notification::AbortedImage { event, reason } => {
            put_map(&mut out, 6);
            put_event(&mut out, event);
            field_text(&mut out, "reason", reason);
        }
        Notification::Hello(Hello { host, version }) => {
            put_map(&mut out, 3);
            put_host(&mut out, host);
            field_text(&mut out, "version", version);
        }
        Notification::Progress(progress) => put_progress(&mut out, progress),
        Notification::Outcome(outcome) => put_outcome(&mut out, outcome),
        Notification::Cluster(notice) => cluster::put_notice(&mut out, notice),
    }
    out
}

fn put_event(out: &mut Vec<u8>, event: &ImageEvent) {
    field_bytes(out, "id", event.id.as_bytes());
    field_text(out, "path", event.path.as_str());
    put_host(out, &event.host);
    put_text(out, "forwarded");
    put_bool(out, event.forwarded);
}

fn put_progress(out: &mut Vec<u8>, progress: &Progress) {
    put_map(out, 9);
    field_text(out, "path", progress.path.as_str());
    field_bytes(out, "image", progress.image.as_bytes());
    field_bytes(out, "change", progress.change.as_bytes());
    put_host(out, &progress.host);
    field_text(out, "state", &progress.state);
    field_uint(out, "bytes_done", progress.bytes_done);
    field_uint(out, "bytes_total", progress.bytes_total);
    field_text_or_null(out, "waiting", progress.waiting.as_deref());
}

/// Five fields.
pub(in crate::format::wire) fn put_origins(out: &mut Vec<u8>, bytes: Origins, sources: &[Supply]) {
    field_uint(out, "bytes_linked", bytes.linked);
    field_uint(out, "bytes_copied", bytes.copied);
    field_uint(out, "bytes_kept", bytes.kept);
    field_uint(out, "bytes_fetched", bytes.fetched);
    put_text(out, "sources");
    supply::put_all(out, sources, usize::MAX);
}

fn put_outcome(out: &mut Vec<u8>, outcome: &Outcome) {
    put_map(out, 12);
    field_text(out, "path", outcome.path.as_str());
    field_image_or_null(out, "image", outcome.image.as_ref());
    field_bytes(out, "change", outcome.change.as_bytes());
    put_host(out, &outcome.host);
    field_text(out, "result", &outcome.result);
    field_text_or_null(out, "reason", outcome.reason.as_deref());
    put_origins(out, outcome.bytes, &outcome.sources);
}

fn encode_request(id: u64, request: &Request) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    envelope(&mut out, REQUEST, request.request_type().name(), Some(id));
    match request {
        Request::AppendDir(change) => {
            put_map(&mut out, 4);
            put_published(&mut out, change);
        }
        Request::ReplaceDir(change) => {
            put_map(&mut out, 5);
            put_published(&mut out, change);
            field_image_or_null(&mut out, "old_image", change.old_image.as_ref());
        }
        Request::GetIndex { id, hint } => {
            put_map(&mut out, 1 + usize::from(hint.is_some()));
            field_bytes(&mut out, "id", id.as_bytes());
            if let Some(hint) = hint {
                field_text(&mut out, "hint", cut(hint, limits::PATH_BYTES_MAX));
            }
        }
        Request::GetIndexAt { path } => {
            put_map(&mut out, 1);
            field_text(&mut out, "path", path.as_str());
        }
        Request::GetBlock { hash, hint } => {
            // A hint that was cut would name another file.
            let hint = hint.as_ref().filter(|hint| hint.file.len() <= limits::PATH_BYTES_MAX);
            put_map(&mut out, 1 + usize::from(hint.is_some()));
            field_bytes(&mut out, "hash", hash.as_bytes());
            if let Some(hint) = hint {
                put_text(&mut out, "hint");
                put_array(&mut out, 3);
                put_text(&mut out, hint.path.as_str());
                put_text(&mut out, &hint.file);
                put_uint(&mut out, hint.offset);
            }
        }
        Request::SubmitChange(signed) | Request::Plan(signed) => put_signed(&mut out, signed),
        Request::GetBlocks { image, run } => {
            put_map(&mut out, 3);
            field_bytes(&mut out, "image", image.as_bytes());
            field_uint(&mut out, "first", run.first);
            field_uint(&mut out, "count", run.count.into());
        }
        Request::GetIndexPart { id, offset } => {
            put_map(&mut out, 2);
            field_bytes(&mut out, "id", id.as_bytes());
            field_uint(&mut out, "offset", *offset);
        }
        Request::Node(request) => cluster::put_request(&mut out, request),
    }
    out
}

fn put_published(out: &mut Vec<u8>, change: &PublishedChange) {
    field_text(out, "path", &change.path);
    field_bytes(out, "image", change.image.as_bytes());
    field_uint(out, "timestamp", change.timestamp.0);
    put_text(out, "signatures");
    let signatures = &change.signatures[..change.signatures.len().min(limits::SIGNATURES_MAX)];
    put_array(out, signatures.len());
    for signature in signatures {
        put_array(out, 2);
        put_text(out, SIGNATURE);
        put_bytes(out, &signature.0);
    }
}

pub(super) fn put_signed(out: &mut Vec<u8>, signed: &SignedChange) {
    put_map(out, 2);
    field_bytes(out, "change", &change::encode(&signed.change));
    put_text(out, "signatures");
    let signatures = &signed.signatures[..signed.signatures.len().min(limits::SIGNATURES_MAX)];
    put_array(out, signatures.len());
    for signature in signatures {
        put_array(out, 3);
        put_text(
            out,
            match signature.scheme {
                Scheme::V2 => SIGNATURE,
                Scheme::Legacy => SIGNATURE_LEGACY,
            },
        );
        put_bytes(out, &signature.bytes.0);
        match &signature.key {
            Some(key) => put_bytes(out, &key.0),
            None => put_null(out),
        }
    }
}

fn encode_response(id: u64, response: &Response) -> Vec<u8> {
    let with_data = |kind, data: &[u8]| {
        let mut out = data_response_header(kind, id, data.len());
        out.extend_from_slice(data);
        out
    };
    let other = |name: &str| {
        let mut out = Vec::with_capacity(256);
        envelope(&mut out, RESPONSE, name, Some(id));
        out
    };
    match response {
        Response::GetIndex { data: Some(data) } => with_data(DataResponse::GetIndex, data),
        Response::GetBlock { data: Some(data) } => with_data(DataResponse::GetBlock, data),
        Response::GetBlocks { data } => with_data(DataResponse::GetBlocks, data),
        Response::GetIndexPart { data, total } => with_data(DataResponse::GetIndexPart { total: *total }, data),
        Response::AppendDir(answer) => put_answer(other(RequestType::AppendDir.name()), answer),
        Response::ReplaceDir(answer) => put_answer(other(RequestType::ReplaceDir.name()), answer),
        Response::SubmitChange(answer) => put_submit_answer(other(RequestType::SubmitChange.name()), answer),
        Response::Plan(answer) => put_plan_answer(other(RequestType::Plan.name()), answer),
        Response::Node(response) => {
            let mut out = other(response.request_type().name());
            cluster::put_response(&mut out, response);
            out
        }
        Response::GetIndexAt { data, hosts } => {
            let mut out = other(RequestType::GetIndexAt.name());
            put_map(&mut out, 1 + usize::from(data.is_some()));
            if let Some(data) = data {
                field_bytes(&mut out, "data", data);
            }
            put_hosts(&mut out, hosts);
            out
        }
        Response::GetIndex { data: None } | Response::GetBlock { data: None } => {
            encode_response(id, &Response::Error("not found".into()))
        }
        Response::Error(text) => {
            let mut out = other(ERROR);
            put_text(&mut out, cut(text, limits::TEXT_BYTES_MAX));
            out
        }
    }
}

fn put_answer(mut out: Vec<u8>, answer: &ChangeAnswer) -> Vec<u8> {
    put_map(&mut out, 3);
    put_text(&mut out, "accepted");
    put_bool(&mut out, answer.accepted);
    field_text_or_null(&mut out, "reject_reason", answer.reject_reason.as_deref());
    put_hosts(&mut out, &answer.hosts);
    out
}

fn put_submit_answer(mut out: Vec<u8>, answer: &SubmitAnswer) -> Vec<u8> {
    put_map(&mut out, SUBMIT_ANSWER_FIELDS);
    put_submit_fields(&mut out, answer);
    out
}

fn put_plan_answer(mut out: Vec<u8>, plan: &PlanAnswer) -> Vec<u8> {
    put_map(&mut out, SUBMIT_ANSWER_FIELDS + 2);
    put_submit_fields(&mut out, &plan.answer);
    match &plan.estimate {
        Some(estimate) => {
            let fields = estimate_fields(estimate);
            put_text(&mut out, "estimate");
            put_map(&mut out, fields.len() + 1);
            for (name, value) in fields {
                field_uint(&mut out, name, value);
            }
            match estimate.inodes_free {
                Some(free) => field_uint(&mut out, "inodes_free", free),
                None => field_null(&mut out, "inodes_free"),
            }
        }
        None => field_null(&mut out, "estimate"),
    }
    field_text_or_null(&mut out, "problem", plan.problem.as_deref());
    out
}

fn estimate_fields(estimate: &Estimate) -> [(&'static str, u64); 9] {
    [
        ("files", estimate.files),
        ("bytes", estimate.bytes),
        ("files_linked", estimate.files_linked),
        ("bytes_linked", estimate.bytes_linked),
        ("bytes_copied", estimate.bytes_copied),
        ("bytes_fetched", estimate.bytes_fetched),
        ("bytes_needed", estimate.bytes_needed),
        ("bytes_free", estimate.bytes_free),
        ("inodes_needed", estimate.inodes_needed),
    ]
}

const SUBMIT_ANSWER_FIELDS: usize = 11;

fn put_submit_fields(out: &mut Vec<u8>, answer: &SubmitAnswer) {
    field_text(out, "verdict", answer.verdict.name());
    field_text_or_null(out, "reject_reason", answer.reject_reason.as_deref());
    field_text_or_null(out, "detail", answer.detail.as_deref());
    put_text(out, "accepted_keys");
    put_array(out, answer.accepted_keys.len().min(limits::ACCEPTED_KEYS_MAX));
    for name in answer.accepted_keys.iter().take(limits::ACCEPTED_KEYS_MAX) {
        put_text(out, cut(name, limits::TEXT_BYTES_MAX));
    }
    field_image_or_null(out, "current", answer.current.as_ref());
    match answer.stamp {
        Some(stamp) => field_uint(out, "stamp", stamp.0),
        None => field_null(out, "stamp"),
    }
    put_text(out, "done");
    put_bool(out, answer.done);
    put_host(out, &answer.host);
    put_hosts(out, &answer.hosts);
    put_text(out, "addresses");
    put_array(out, answer.addresses.len().min(limits::HOSTS_MAX));
    for address in answer.addresses.iter().take(limits::HOSTS_MAX) {
        put_text(out, &address.to_string());
    }
}

/// Two fields.
pub(super) fn put_host(out: &mut Vec<u8>, host: &Host) {
    field_bytes(out, "machine_id", host.machine_id.as_bytes());
    field_text(out, "hostname", &host.hostname);
}

fn put_hosts(out: &mut Vec<u8>, hosts: &Hosts) {
    put_text(out, "hosts");
    put_map(out, hosts.len().min(limits::HOSTS_MAX));
    for (machine_id, hostname) in hosts.iter().take(limits::HOSTS_MAX) {
        put_bytes(out, machine_id.as_bytes());
        put_text(out, cut(hostname, limits::TEXT_BYTES_MAX));
    }
}

pub(super) fn field_bytes(out: &mut Vec<u8>, name: &str, bytes: &[u8]) {
    put_text(out, name);
    put_bytes(out, bytes);
}

pub(super) fn field_text(out: &mut Vec<u8>, name: &str, text: &str) {
    put_text(out, name);
    put_text(out, cut(text, limits::TEXT_BYTES_MAX));
}

pub(super) fn field_uint(out: &mut Vec<u8>, name: &str, value: u64) {
    put_text(out, name);
    put_uint(out, value);
}

pub(super) fn field_null(out: &mut Vec<u8>, name: &str) {
    put_text(out, name);
    put_null(out);
}

pub(super) fn field_text_or_null(out: &mut Vec<u8>, name: &str, text: Option<&str>) {
    match text {
        Some(text) => field_text(out, name, text),
        None => field_null(out, name),
    }
}

fn field_image_or_null(out: &mut Vec<u8>, name: &str, image: Option<&ImageId>) {
    match image {
        Some(image) => field_bytes(out, name, image.as_bytes()),
        None => field_null(out, name),
    }
}

/// The longest start of `text` with at most `max` bytes.
fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}
