//! Requests. A bad one is answered with an error, and the connection goes on.

use super::{fields, image, need, path, set};
use crate::format::cbor::{CborError, Reader};
use crate::format::change;
use crate::format::wire::encode::{SIGNATURE, SIGNATURE_LEGACY};
use crate::format::wire::message::{BlockHint, PublishedChange, Request, RequestType};
use crate::format::wire::{WireError, cluster};
use crate::model::change::SignedChange;
use crate::model::ids::BlockHash;
use crate::model::key::{PublicKey, Scheme, Signature, SignatureBytes};
use crate::model::limits;
use crate::model::run::Run;
use crate::model::time::Stamp;

pub(super) fn decode(request_type: RequestType, reader: &mut Reader<'_>) -> Result<Request, WireError> {
    match request_type {
        RequestType::AppendDir => Ok(Request::AppendDir(PublishedChange { old_image: None, ..published(reader)? })),
        RequestType::ReplaceDir => Ok(Request::ReplaceDir(published(reader)?)),
        RequestType::GetIndex => get_index(reader),
        RequestType::GetIndexAt => {
            let mut at = None;
            fields(reader, |name, reader| match name {
                "path" => set(&mut at, "path", path(reader)?),
                _ => Ok(false),
            })?;
            Ok(Request::GetIndexAt { path: need(at, "path")? })
        }
        RequestType::GetBlock => get_block(reader),
        RequestType::SubmitChange => signed_change(reader).map(Request::SubmitChange),
        RequestType::Plan => signed_change(reader).map(Request::Plan),
        RequestType::GetBlocks => get_blocks(reader),
        RequestType::GetIndexPart => {
            let (mut id, mut offset) = (None, None);
            fields(reader, |name, reader| match name {
                "id" => set(&mut id, "id", image(reader)?),
                "offset" => set(&mut offset, "offset", reader.uint()?),
                _ => Ok(false),
            })?;
            Ok(Request::GetIndexPart { id: need(id, "id")?, offset: need(offset, "offset")? })
        }
        RequestType::NodeHello
        | RequestType::GetMembers
        | RequestType::CompareHeads
        | RequestType::GetHeads
        | RequestType::Propose => {
            let request = cluster::decode_request(request_type, reader)?;
            request.map(Request::Node).ok_or_else(|| WireError::UnknownType(request_type.name().into()))
        }
    }
}

fn published(reader: &mut Reader<'_>) -> Result<PublishedChange, WireError> {
    let (mut at, mut id, mut timestamp, mut signatures, mut old_image) = (None, None, None, None, None);
    fields(reader, |name, reader| match name {
        "path" => set(&mut at, "path", reader.text(limits::PATH_BYTES_MAX)?.into()),
        "image" => set(&mut id, "image", image(reader)?),
        "timestamp" => set(&mut timestamp, "timestamp", Stamp(reader.uint()?)),
        "signatures" => set(&mut signatures, "signatures", published_signatures(reader)?),
        "old_image" => set(&mut old_image, "old_image", reader.nullable(image)?),
        _ => Ok(false),
    })?;
    Ok(PublishedChange {
        path: need(at, "path")?,
        image: need(id, "image")?,
        timestamp: need(timestamp, "timestamp")?,
        signatures: need(signatures, "signatures")?,
        old_image: old_image.flatten(),
    })
}

fn published_signatures(reader: &mut Reader<'_>) -> Result<Vec<SignatureBytes>, WireError> {
    let mut signatures = Vec::new();
    for _ in 0..reader.array(limits::SIGNATURES_MAX)? {
        if reader.array(2)? != 2 {
            return Err(reader.error("a signature that doesn't have two items").into());
        }
        match reader.text(limits::WORD_BYTES_MAX)? {
            SIGNATURE => signatures.push(SignatureBytes(reader.array_of()?)),
            other => return Err(WireError::UnknownWord { what: "signature type", word: other.into() }),
        }
    }
    Ok(signatures)
}

fn get_index(reader: &mut Reader<'_>) -> Result<Request, WireError> {
    let (mut id, mut hint) = (None, None);
    fields(reader, |name, reader| match name {
        "id" => set(&mut id, "id", image(reader)?),
        "hint" => set(&mut hint, "hint", reader.nullable(|reader| reader.text(limits::PATH_BYTES_MAX))?),
        _ => Ok(false),
    })?;
    Ok(Request::GetIndex { id: need(id, "id")?, hint: hint.flatten().map(Into::into) })
}

fn get_block(reader: &mut Reader<'_>) -> Result<Request, WireError> {
    let (mut hash, mut hint) = (None, None);
    fields(reader, |name, reader| match name {
        "hash" => set(&mut hash, "hash", BlockHash::new(reader.array_of()?)),
        "hint" => set(&mut hint, "hint", reader.nullable(block_hint)?.flatten()),
        _ => Ok(false),
    })?;
    Ok(Request::GetBlock { hash: need(hash, "hash")?, hint: hint.flatten() })
}

/// A path that can't be is no hint, but no reason to refuse the request either.
fn block_hint(reader: &mut Reader<'_>) -> Result<Option<BlockHint>, CborError> {
    if reader.array(3)? != 3 {
        return Err(reader.error("a hint that doesn't have three items"));
    }
    let path = reader.text(limits::PATH_BYTES_MAX)?.parse().ok();
    let file = reader.text(limits::PATH_BYTES_MAX)?;
    let offset = reader.uint()?;
    Ok(path.map(|path| BlockHint { path, file: file.into(), offset }))
}

/// A change and its signatures.
pub(in crate::format::wire) fn signed_change(reader: &mut Reader<'_>) -> Result<SignedChange, WireError> {
    let (mut submitted, mut signatures) = (None, None);
    fields(reader, |name, reader| match name {
        "change" => set(&mut submitted, "change", change::decode(reader.bytes(limits::CHANGE_BYTES_MAX)?)?),
        "signatures" => set(&mut signatures, "signatures", submitted_signatures(reader)?),
        _ => Ok(false),
    })?;
    Ok(SignedChange::new(need(submitted, "change")?, need(signatures, "signatures")?))
}

fn submitted_signatures(reader: &mut Reader<'_>) -> Result<Vec<Signature>, WireError> {
    let mut signatures = Vec::new();
    for _ in 0..reader.array(limits::SIGNATURES_MAX)? {
        if reader.array(3)? != 3 {
            return Err(reader.error("a signature that doesn't have three items").into());
        }
        let scheme = match reader.text(limits::WORD_BYTES_MAX)? {
            SIGNATURE => Scheme::V2,
            SIGNATURE_LEGACY => Scheme::Legacy,
            other => return Err(WireError::UnknownWord { what: "signature type", word: other.into() }),
        };
        let bytes = SignatureBytes(reader.array_of()?);
        let key = reader.nullable(|reader| reader.array_of().map(PublicKey))?;
        signatures.push(Signature { scheme, key, bytes });
    }
    Ok(signatures)
}

fn get_blocks(reader: &mut Reader<'_>) -> Result<Request, WireError> {
    let (mut id, mut first, mut count) = (None, None, None);
    fields(reader, |name, reader| match name {
        "image" => set(&mut id, "image", image(reader)?),
        "first" => set(&mut first, "first", reader.uint()?),
        "count" => set(&mut count, "count", reader.uint()?),
        _ => Ok(false),
    })?;
    let (first, count) = (need(first, "first")?, need(count, "count")?);
    let count = u32::try_from(count).ok().filter(|count| (1..=limits::RUN_BLOCKS_MAX).contains(count));
    // So that `Run::end` can't overflow; whether the image has these blocks is asked where the image is known.
    let count = count.filter(|_| first < limits::IMAGE_BLOCKS_MAX).ok_or(WireError::BadRun)?;
    Ok(Request::GetBlocks { image: need(id, "image")?, run: Run { first, count } })
}
