//! Bytes → messages between nodes.

use bytes::Bytes;

use super::{NodeReport, NodeRequest, NodeResponse, Nodes, Notice, Proof, ProposalVerdict};
use crate::format::cbor::Reader;
use crate::format::wire::WireError;
use crate::format::wire::decode::{
    HostFields, OriginFields, fields, image, need, path, set, signed_change, text, text_or_null, verdict_word,
};
use crate::format::wire::message::RequestType;
use crate::model::heads::{HeadRange, HeadsFingerprint, RangeAnswer};
use crate::model::ids::{ChangeId, MachineId};
use crate::model::limits;
use crate::model::peer::NodeId;
use crate::model::vpath::VPath;

type Result<T> = std::result::Result<T, WireError>;

/// `None`: a type that this version doesn't have.
pub(in crate::format::wire) fn decode_notice(name: &str, reader: &mut Reader<'_>) -> Result<Option<Notice>> {
    let notice = match name {
        "Pieces" => pieces(reader)?,
        "Have" => {
            let (mut id, mut pieces) = (None, None);
            fields(reader, |name, reader| match name {
                "image" => set(&mut id, "image", image(reader)?),
                "pieces" => set(&mut pieces, "pieces", list(reader, limits::HAVE_PIECES_MAX, small)?),
                _ => Ok(false),
            })?;
            Notice::Have { image: need(id, "image")?, pieces: need(pieces, "pieces")? }
        }
        "Share" => {
            let (mut id, mut index, mut of) = (None, None, None);
            fields(reader, |name, reader| match name {
                "image" => set(&mut id, "image", image(reader)?),
                "index" => set(&mut index, "index", small(reader)?),
                "of" => set(&mut of, "of", small(reader)?),
                _ => Ok(false),
            })?;
            Notice::Share { image: need(id, "image")?, index: need(index, "index")?, of: need(of, "of")? }
        }
        "Corrupt" => {
            let (mut id, mut block) = (None, None);
            fields(reader, |name, reader| match name {
                "image" => set(&mut id, "image", image(reader)?),
                "block" => set(&mut block, "block", reader.uint()?),
                _ => Ok(false),
            })?;
            Notice::Corrupt { image: need(id, "image")?, block: need(block, "block")? }
        }
        "NodeProof" => {
            let mut proof = None;
            fields(reader, |name, reader| match name {
                "proof" => set(&mut proof, "proof", Proof(reader.array_of()?)),
                _ => Ok(false),
            })?;
            Notice::NodeProof { proof: need(proof, "proof")? }
        }
        "SyncComplete" => {
            let (mut directory, mut fingerprint) = (None, None);
            fields(reader, |name, reader| match name {
                "directory" => set(&mut directory, "directory", directory_name(reader)?),
                "fingerprint" => set(&mut fingerprint, "fingerprint", HeadsFingerprint(reader.array_of()?)),
                _ => Ok(false),
            })?;
            let (directory, fingerprint) = (need(directory, "directory")?, need(fingerprint, "fingerprint")?);
            Notice::SyncComplete { directory, fingerprint }
        }
        "Nodes" => Notice::Nodes(nodes(reader)?),
        _ => return Ok(None),
    };
    Ok(Some(notice))
}

fn pieces(reader: &mut Reader<'_>) -> Result<Notice> {
    let (mut id, mut count, mut have) = (None, None, None);
    fields(reader, |name, reader| match name {
        "image" => set(&mut id, "image", image(reader)?),
        "count" => set(&mut count, "count", small(reader)?),
        "have" => {
            // Copied: a small set must not keep a big frame.
            let bytes = Bytes::copy_from_slice(reader.bytes(limits::PIECES_MAX / 8)?);
            set(&mut have, "have", bytes)
        }
        _ => Ok(false),
    })?;
    Ok(Notice::Pieces { image: need(id, "image")?, count: need(count, "count")?, have: need(have, "have")? })
}

fn list<'a, T>(
    reader: &mut Reader<'a>,
    max: usize,
    mut item: impl FnMut(&mut Reader<'a>) -> Result<T>,
) -> Result<Vec<T>> {
    let count = reader.array(max)?;
    // No room is made before the items are there.
    let mut items = Vec::new();
    for _ in 0..count {
        items.push(item(reader)?);
    }
    Ok(items)
}

fn small(reader: &mut Reader<'_>) -> Result<u32> {
    let value = reader.uint()?;
    u32::try_from(value).map_err(|_| reader.error("a number beyond 32 bits").into())
}

fn directory_name(reader: &mut Reader<'_>) -> Result<Box<str>> {
    Ok(reader.text(limits::NAME_BYTES_MAX)?.into())
}

fn nodes(reader: &mut Reader<'_>) -> Result<Nodes> {
    let (mut at, mut id, mut change, mut total, mut reports, mut complete) = (None, None, None, None, None, None);
    fields(reader, |name, reader| match name {
        "path" => set(&mut at, "path", path(reader)?),
        "image" => set(&mut id, "image", image(reader)?),
        "change" => set(&mut change, "change", ChangeId::new(reader.array_of()?)),
        "total" => set(&mut total, "total", reader.uint()?),
        "nodes" => set(&mut reports, "nodes", list(reader, limits::NODES_PER_MESSAGE_MAX, report)?),
        "complete" => set(&mut complete, "complete", reader.bool()?),
        _ => Ok(false),
    })?;
    Ok(Nodes {
        path: need(at, "path")?,
        image: need(id, "image")?,
        change: need(change, "change")?,
        total: need(total, "total")?,
        nodes: need(reports, "nodes")?,
        complete: need(complete, "complete")?,
    })
}

fn report(reader: &mut Reader<'_>) -> Result<NodeReport> {
    let mut host = HostFields::default();
    let (mut address, mut alive, mut state, mut result, mut reason, mut waiting) = (None, None, None, None, None, None);
    let (mut done, mut total, mut bytes) = (None, None, OriginFields::default());
    fields(reader, |name, reader| match name {
        "address" => set(&mut address, "address", reader.text(limits::WORD_BYTES_MAX)?.into()),
        "alive" => set(&mut alive, "alive", reader.bool()?),
        "state" => set(&mut state, "state", text(reader)?),
        "result" => set(&mut result, "result", text_or_null(reader)?),
        "reason" => set(&mut reason, "reason", text_or_null(reader)?),
        "waiting" => set(&mut waiting, "waiting", text_or_null(reader)?),
        "bytes_done" => set(&mut done, "bytes_done", reader.uint()?),
        "bytes_total" => set(&mut total, "bytes_total", reader.uint()?),
        _ => Ok(bytes.field(name, reader)? || host.field(name, reader)?),
    })?;
    let (bytes, sources) = bytes.finish()?;
    Ok(NodeReport {
        host: host.finish()?,
        address: need(address, "address")?,
        alive: need(alive, "alive")?,
        state: need(state, "state")?,
        result: result.flatten(),
        reason: reason.flatten(),
        waiting: waiting.flatten(),
        bytes_done: need(done, "bytes_done")?,
        bytes_total: need(total, "bytes_total")?,
        bytes,
        sources,
    })
}

/// The request's type must be one of nodes.
pub(in crate::format::wire) fn decode_request(
    request_type: RequestType,
    reader: &mut Reader<'_>,
) -> Result<Option<NodeRequest>> {
    let request = match request_type {
        RequestType::NodeHello => {
            let (mut id, mut nonce) = (None, None);
            fields(reader, |name, reader| match name {
                "node" => set(&mut id, "node", node(reader)?),
                "nonce" => set(&mut nonce, "nonce", reader.array_of()?),
                _ => Ok(false),
            })?;
            NodeRequest::Hello { node: need(id, "node")?, nonce: need(nonce, "nonce")? }
        }
        RequestType::GetMembers => {
            let mut cursor = None;
            fields(reader, |name, reader| match name {
                "cursor" => set(&mut cursor, "cursor", reader.uint()?),
                _ => Ok(false),
            })?;
            NodeRequest::GetMembers { cursor: need(cursor, "cursor")? }
        }
        RequestType::CompareHeads => {
            let (mut directory, mut ranges) = (None, None);
            fields(reader, |name, reader| match name {
                "directory" => set(&mut directory, "directory", directory_name(reader)?),
                "ranges" => set(&mut ranges, "ranges", list(reader, limits::HEAD_RANGES_MAX, range)?),
                _ => Ok(false),
            })?;
            NodeRequest::CompareHeads { directory: need(directory, "directory")?, ranges: need(ranges, "ranges")? }
        }
        RequestType::GetHeads => {
            let mut paths = None;
            fields(reader, |name, reader| match name {
                "paths" => set(&mut paths, "paths", list(reader, limits::CHANGES_PER_MESSAGE_MAX, path)?),
                _ => Ok(false),
            })?;
            NodeRequest::GetHeads { paths: need(paths, "paths")? }
        }
        RequestType::Propose => NodeRequest::Propose { changes: changes(reader)? },
        RequestType::AppendDir
        | RequestType::ReplaceDir
        | RequestType::GetIndex
        | RequestType::GetIndexAt
        | RequestType::GetBlock
        | RequestType::SubmitChange
        | RequestType::Plan
        | RequestType::GetBlocks
        | RequestType::GetIndexPart => return Ok(None),
    };
    Ok(Some(request))
}

fn changes(reader: &mut Reader<'_>) -> Result<Vec<crate::model::change::SignedChange>> {
    let mut changes = None;
    fields(reader, |name, reader| match name {
        "changes" => set(&mut changes, "changes", list(reader, limits::CHANGES_PER_MESSAGE_MAX, signed_change)?),
        _ => Ok(false),
    })?;
    need(changes, "changes")
}

fn node(reader: &mut Reader<'_>) -> Result<NodeId> {
    if reader.array(3)? != 3 {
        return Err(reader.error("a node that doesn't have three items").into());
    }
    let address = reader.text(limits::WORD_BYTES_MAX)?.parse();
    let address = address.map_err(|_| WireError::from(reader.error("an address that isn't one")))?;
    let machine_id = MachineId::new(reader.array_of()?);
    Ok(NodeId { address, machine_id, incarnation: reader.uint()? })
}

fn path_or_null(reader: &mut Reader<'_>) -> Result<Option<VPath>> {
    let text = reader.nullable(|reader| reader.text(limits::PATH_BYTES_MAX))?;
    Ok(text.map(str::parse).transpose()?)
}

fn range(reader: &mut Reader<'_>) -> Result<HeadRange> {
    if reader.array(4)? != 4 {
        return Err(reader.error("a range that doesn't have four items").into());
    }
    let (from, to) = (path_or_null(reader)?, path_or_null(reader)?);
    Ok(HeadRange { from, to, fingerprint: HeadsFingerprint(reader.array_of()?), count: reader.uint()? })
}

/// The response's type must be one of nodes.
pub(in crate::format::wire) fn decode_response(
    request_type: RequestType,
    frame: &Bytes,
    reader: &mut Reader<'_>,
) -> Result<Option<NodeResponse>> {
    let response = match request_type {
        RequestType::NodeHello => {
            let (mut id, mut nonce, mut proof) = (None, None, None);
            fields(reader, |name, reader| match name {
                "node" => set(&mut id, "node", node(reader)?),
                "nonce" => set(&mut nonce, "nonce", reader.array_of()?),
                "proof" => set(&mut proof, "proof", reader.nullable(Reader::array_of)?.map(Proof)),
                _ => Ok(false),
            })?;
            NodeResponse::Hello { node: need(id, "node")?, nonce: need(nonce, "nonce")?, proof: proof.flatten() }
        }
        RequestType::GetMembers => {
            let (mut data, mut next) = (None, None);
            fields(reader, |name, reader| match name {
                "data" => set(&mut data, "data", frame.slice_ref(reader.bytes(usize::MAX)?)),
                "next" => set(&mut next, "next", reader.nullable(Reader::uint)?),
                _ => Ok(false),
            })?;
            NodeResponse::GetMembers { data: need(data, "data")?, next: next.flatten() }
        }
        RequestType::CompareHeads => {
            let mut answers = None;
            fields(reader, |name, reader| match name {
                "answers" => set(&mut answers, "answers", list(reader, limits::HEAD_RANGES_MAX, range_answer)?),
                _ => Ok(false),
            })?;
            NodeResponse::CompareHeads { answers: need(answers, "answers")? }
        }
        RequestType::GetHeads => NodeResponse::GetHeads { changes: changes(reader)? },
        RequestType::Propose => {
            let mut verdicts = None;
            fields(reader, |name, reader| match name {
                "verdicts" => set(&mut verdicts, "verdicts", list(reader, limits::CHANGES_PER_MESSAGE_MAX, verdict)?),
                _ => Ok(false),
            })?;
            NodeResponse::Propose { verdicts: need(verdicts, "verdicts")? }
        }
        RequestType::AppendDir
        | RequestType::ReplaceDir
        | RequestType::GetIndex
        | RequestType::GetIndexAt
        | RequestType::GetBlock
        | RequestType::SubmitChange
        | RequestType::Plan
        | RequestType::GetBlocks
        | RequestType::GetIndexPart => return Ok(None),
    };
    Ok(Some(response))
}

fn range_answer(reader: &mut Reader<'_>) -> Result<RangeAnswer> {
    let Some(items) = reader.nullable(|reader| reader.array(2))? else { return Ok(RangeAnswer::Same) };
    if items != 2 {
        return Err(reader.error("an answer that doesn't have two items").into());
    }
    match reader.uint()? {
        0 => Ok(RangeAnswer::Finer(list(reader, limits::HEAD_RANGES_MAX, range)?)),
        1 => Ok(RangeAnswer::Heads(list(reader, limits::HEADS_PER_RANGE_MAX, |reader| {
            if reader.array(2)? != 2 {
                return Err(reader.error("a head that doesn't have two items").into());
            }
            Ok((path(reader)?, ChangeId::new(reader.array_of()?)))
        })?)),
        _ => Err(reader.error("an answer of an unknown kind").into()),
    }
}

fn verdict(reader: &mut Reader<'_>) -> Result<ProposalVerdict> {
    let (mut word, mut reason, mut newer) = (None, None, None);
    fields(reader, |name, reader| match name {
        "verdict" => set(&mut word, "verdict", verdict_word(reader)?),
        "reason" => set(&mut reason, "reason", text_or_null(reader)?),
        "newer" => set(&mut newer, "newer", reader.nullable(signed_change)?),
        _ => Ok(false),
    })?;
    Ok(ProposalVerdict { verdict: need(word, "verdict")?, reason: reason.flatten(), newer: newer.flatten() })
}
