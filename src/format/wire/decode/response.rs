//! Responses. A bad one ends the connection: its request would never be answered.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::Bytes;

use super::{HostFields, fields, hosts, image, need, set, text, text_or_null};
use crate::format::cbor::{CborError, Reader};
use crate::format::wire::message::{ChangeAnswer, PlanAnswer, RequestType, Response, SubmitAnswer, VerdictWord};
use crate::format::wire::{WireError, cluster};
use crate::model::estimate::Estimate;
use crate::model::limits;
use crate::model::time::Stamp;

/// Numbers of an estimate.
const ESTIMATE_FIELDS: [&str; 9] = [
    "files",
    "bytes",
    "files_linked",
    "bytes_linked",
    "bytes_copied",
    "bytes_fetched",
    "bytes_needed",
    "bytes_free",
    "inodes_needed",
];

pub(super) fn decode(request_type: RequestType, frame: &Bytes, reader: &mut Reader<'_>) -> Result<Response, WireError> {
    match request_type {
        RequestType::AppendDir => change_answer(reader).map(Response::AppendDir),
        RequestType::ReplaceDir => change_answer(reader).map(Response::ReplaceDir),
        RequestType::GetIndex => Ok(Response::GetIndex { data: content(frame, reader)?.data }),
        RequestType::GetBlock => Ok(Response::GetBlock { data: content(frame, reader)?.data }),
        RequestType::GetIndexAt => {
            let mut found = None;
            let content = content_and(frame, reader, |name, reader| match name {
                "hosts" => set(&mut found, "hosts", hosts(reader)?),
                _ => Ok(false),
            })?;
            Ok(Response::GetIndexAt { data: content.data, hosts: found.unwrap_or_default() })
        }
        RequestType::SubmitChange => submit_answer(reader).map(Response::SubmitChange),
        RequestType::Plan => Ok(Response::Plan(Box::new(plan_answer(reader)?))),
        RequestType::GetBlocks => Ok(Response::GetBlocks { data: need(content(frame, reader)?.data, "data")? }),
        RequestType::GetIndexPart => {
            let content = content(frame, reader)?;
            Ok(Response::GetIndexPart { data: need(content.data, "data")?, total: need(content.total, "total")? })
        }
        RequestType::NodeHello
        | RequestType::GetMembers
        | RequestType::CompareHeads
        | RequestType::GetHeads
        | RequestType::Propose => {
            let response = cluster::decode_response(request_type, frame, reader)?;
            response.map(Response::Node).ok_or_else(|| WireError::UnknownType(request_type.name().into()))
        }
    }
}

/// What answers with data have in common.
struct Content {
    data: Option<Bytes>,
    total: Option<u64>,
}

fn content(frame: &Bytes, reader: &mut Reader<'_>) -> Result<Content, WireError> {
    content_and(frame, reader, |_, _| Ok(false))
}

fn content_and<'a>(
    frame: &Bytes,
    reader: &mut Reader<'a>,
    mut field: impl FnMut(&str, &mut Reader<'a>) -> Result<bool, WireError>,
) -> Result<Content, WireError> {
    let (mut data, mut total) = (None, None);
    fields(reader, |name, reader| match name {
        "data" => {
            // Shares the frame's memory, which is bounded already.
            let read = |reader: &mut Reader<'a>| reader.bytes(usize::MAX).map(|data| frame.slice_ref(data));
            set(&mut data, "data", reader.nullable(read)?)
        }
        "total" => set(&mut total, "total", reader.uint()?),
        _ => field(name, reader),
    })?;
    Ok(Content { data: data.flatten(), total })
}

fn change_answer(reader: &mut Reader<'_>) -> Result<ChangeAnswer, WireError> {
    let (mut accepted, mut reject_reason, mut known) = (None, None, None);
    fields(reader, |name, reader| match name {
        "accepted" => set(&mut accepted, "accepted", reader.bool()?),
        "reject_reason" => set(&mut reject_reason, "reject_reason", text_or_null(reader)?),
        "hosts" => set(&mut known, "hosts", hosts(reader)?),
        _ => Ok(false),
    })?;
    Ok(ChangeAnswer {
        accepted: need(accepted, "accepted")?,
        reject_reason: reject_reason.flatten(),
        hosts: known.unwrap_or_default(),
    })
}

fn submit_answer(reader: &mut Reader<'_>) -> Result<SubmitAnswer, WireError> {
    submit_answer_and(reader, |_, _| Ok(false))
}

fn plan_answer(reader: &mut Reader<'_>) -> Result<PlanAnswer, WireError> {
    let (mut known, mut problem) = (None, None);
    let answer = submit_answer_and(reader, |name, reader| match name {
        "estimate" => set(&mut known, "estimate", reader.nullable(estimate)?),
        "problem" => set(&mut problem, "problem", text_or_null(reader)?),
        _ => Ok(false),
    })?;
    Ok(PlanAnswer { answer, estimate: known.flatten(), problem: problem.flatten() })
}

fn estimate(reader: &mut Reader<'_>) -> Result<Estimate, WireError> {
    let (mut numbers, mut inodes_free) = (BTreeMap::new(), None);
    fields(reader, |name, reader| match ESTIMATE_FIELDS.iter().find(|known| **known == name) {
        Some(known) => {
            numbers.insert(*known, reader.uint()?);
            Ok(true)
        }
        None if name == "inodes_free" => set(&mut inodes_free, "inodes_free", reader.nullable(Reader::uint)?),
        None => Ok(false),
    })?;
    let number = |name| need(numbers.get(name).copied(), name);
    Ok(Estimate {
        files: number("files")?,
        bytes: number("bytes")?,
        files_linked: number("files_linked")?,
        bytes_linked: number("bytes_linked")?,
        bytes_copied: number("bytes_copied")?,
        bytes_fetched: number("bytes_fetched")?,
        bytes_needed: number("bytes_needed")?,
        bytes_free: number("bytes_free")?,
        inodes_needed: number("inodes_needed")?,
        inodes_free: inodes_free.flatten(),
    })
}

fn submit_answer_and<'a>(
    reader: &mut Reader<'a>,
    mut field: impl FnMut(&str, &mut Reader<'a>) -> Result<bool, WireError>,
) -> Result<SubmitAnswer, WireError> {
    let (mut verdict, mut reject_reason, mut detail, mut accepted_keys) = (None, None, None, None);
    let (mut current, mut stamp, mut done, mut known, mut addresses) = (None, None, None, None, None);
    let mut host = HostFields::default();
    fields(reader, |name, reader| match name {
        "verdict" => set(&mut verdict, "verdict", verdict_word(reader)?),
        "reject_reason" => set(&mut reject_reason, "reject_reason", text_or_null(reader)?),
        "detail" => set(&mut detail, "detail", text_or_null(reader)?),
        "accepted_keys" => set(&mut accepted_keys, "accepted_keys", names(reader)?),
        "current" => set(&mut current, "current", reader.nullable(image)?),
        "stamp" => set(&mut stamp, "stamp", reader.nullable(Reader::uint)?.map(Stamp)),
        "done" => set(&mut done, "done", reader.bool()?),
        "hosts" => set(&mut known, "hosts", hosts(reader)?),
        "addresses" => set(&mut addresses, "addresses", socket_addresses(reader)?),
        "machine_id" | "hostname" => host.field(name, reader),
        _ => field(name, reader),
    })?;
    Ok(SubmitAnswer {
        verdict: need(verdict, "verdict")?,
        reject_reason: reject_reason.flatten(),
        detail: detail.flatten(),
        accepted_keys: need(accepted_keys, "accepted_keys")?,
        current: current.flatten(),
        stamp: stamp.flatten(),
        done: need(done, "done")?,
        host: host.finish()?,
        hosts: need(known, "hosts")?,
        addresses: addresses.unwrap_or_default(),
    })
}

fn socket_addresses(reader: &mut Reader<'_>) -> Result<Vec<SocketAddr>, WireError> {
    let count = reader.array(limits::HOSTS_MAX)?;
    let mut addresses = Vec::new();
    for _ in 0..count {
        let address = reader.text(limits::WORD_BYTES_MAX)?.parse();
        addresses.push(address.map_err(|_| reader.error("an address that isn't one"))?);
    }
    Ok(addresses)
}

/// A verdict.
pub(in crate::format::wire) fn verdict_word(reader: &mut Reader<'_>) -> Result<VerdictWord, WireError> {
    let word = reader.text(limits::WORD_BYTES_MAX)?;
    VerdictWord::from_name(word).ok_or_else(|| WireError::UnknownWord { what: "verdict", word: word.into() })
}

fn names(reader: &mut Reader<'_>) -> Result<Vec<String>, CborError> {
    let count = reader.array(limits::ACCEPTED_KEYS_MAX)?;
    (0..count).map(|_| text(reader)).collect()
}
