//! Messages → bytes: definite lengths, shortest integers, fields in the published order.
//!
//! Texts and lists over their bounds are cut, so that what we send is never what a peer must refuse.

mod field;
mod response;

use self::field::{cut, field_image_or_null};
pub(super) use self::field::{field_bytes, field_null, field_text, field_text_or_null, field_uint, put_host};
use self::response::encode_response;
use super::message::{Hello, ImageEvent, Message, Notification, Outcome, Progress, PublishedChange, Request};
use super::{RequestType, WireError, cluster};
use crate::format::cbor::{put_array, put_bool, put_bytes, put_bytes_head, put_map, put_null, put_text, put_uint};
use crate::format::{change, supply};
use crate::model::change::SignedChange;
use crate::model::key::Scheme;
use crate::model::limits;
use crate::model::origins::{Origins, Supply};

pub(super) const NOTIFICATION: u64 = 0;
pub(super) const REQUEST: u64 = 1;
pub(super) const RESPONSE: u64 = 2;
pub(super) const ERROR: &str = "Error";
pub(super) const SIGNATURE: &str = "ssh-ed25519";
pub(super) const SIGNATURE_LEGACY: &str = "ssh-ed25519-legacy";

/// Room for what stands before the data.
const DATA_RESPONSE_HEAD_BYTES: usize = 64;

/// A response that is mostly data, for [`data_response_head`].
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

/// The frame of a response up to its data, of which `data_len` bytes must follow and end it: so they are sent from where
/// they are.
pub fn data_response_head(response: DataResponse, id: u64, data_len: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(DATA_RESPONSE_HEAD_BYTES);
    begin_data_response(&mut out, response, id, data_len);
    out
}

/// The same at the end of a buffer that is there already.
fn begin_data_response(out: &mut Vec<u8>, response: DataResponse, id: u64, data_len: usize) {
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
