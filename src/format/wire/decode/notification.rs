//! Notifications. A bad one ends the connection: there is nobody to answer.

use super::{HostFields, OriginFields, fields, image, need, path, set, text, text_or_null};
use crate::format::cbor::Reader;
use crate::format::wire::message::{Hello, ImageEvent, Notification, Outcome, Progress};
use crate::format::wire::{WireError, cluster};
use crate::model::ids::ChangeId;

/// `None`: a type that this version doesn't have.
pub(super) fn decode(name: &str, reader: &mut Reader<'_>) -> Result<Option<Notification>, WireError> {
    let notification = match name {
        "PublishImage" => {
            let mut id = None;
            fields(reader, |name, reader| match name {
                "id" => set(&mut id, "id", image(reader)?),
                _ => Ok(false),
            })?;
            Notification::PublishImage { id: need(id, "id")? }
        }
        "ReceivedImage" => Notification::ReceivedImage(event(reader)?.0),
        "AbortedImage" => {
            let (event, reason) = event(reader)?;
            Notification::AbortedImage { event, reason: need(reason, "reason")? }
        }
        "Hello" => Notification::Hello(hello(reader)?),
        "Progress" => Notification::Progress(progress(reader)?),
        "Outcome" => Notification::Outcome(outcome(reader)?),
        _ => return Ok(cluster::decode_notice(name, reader)?.map(Notification::Cluster)),
    };
    Ok(Some(notification))
}

/// An event, and its reason where there is one.
fn event(reader: &mut Reader<'_>) -> Result<(ImageEvent, Option<String>), WireError> {
    let (mut id, mut at, mut forwarded, mut reason) = (None, None, None, None);
    let mut host = HostFields::default();
    fields(reader, |name, reader| match name {
        "id" => set(&mut id, "id", image(reader)?),
        "path" => set(&mut at, "path", path(reader)?),
        "forwarded" => set(&mut forwarded, "forwarded", reader.bool()?),
        "reason" => set(&mut reason, "reason", text(reader)?),
        _ => host.field(name, reader),
    })?;
    let event = ImageEvent {
        id: need(id, "id")?,
        path: need(at, "path")?,
        host: host.finish()?,
        forwarded: need(forwarded, "forwarded")?,
    };
    Ok((event, reason))
}

fn hello(reader: &mut Reader<'_>) -> Result<Hello, WireError> {
    let mut version = None;
    let mut host = HostFields::default();
    fields(reader, |name, reader| match name {
        "version" => set(&mut version, "version", text(reader)?),
        _ => host.field(name, reader),
    })?;
    Ok(Hello { host: host.finish()?, version: need(version, "version")? })
}

fn progress(reader: &mut Reader<'_>) -> Result<Progress, WireError> {
    let (mut at, mut id, mut change, mut state, mut done, mut total, mut waiting) =
        (None, None, None, None, None, None, None);
    let mut host = HostFields::default();
    fields(reader, |name, reader| match name {
        "path" => set(&mut at, "path", path(reader)?),
        "image" => set(&mut id, "image", image(reader)?),
        "change" => set(&mut change, "change", ChangeId::new(reader.array_of()?)),
        "state" => set(&mut state, "state", text(reader)?),
        "bytes_done" => set(&mut done, "bytes_done", reader.uint()?),
        "bytes_total" => set(&mut total, "bytes_total", reader.uint()?),
        "waiting" => set(&mut waiting, "waiting", text_or_null(reader)?),
        _ => host.field(name, reader),
    })?;
    Ok(Progress {
        path: need(at, "path")?,
        image: need(id, "image")?,
        change: need(change, "change")?,
        host: host.finish()?,
        state: need(state, "state")?,
        bytes_done: need(done, "bytes_done")?,
        bytes_total: need(total, "bytes_total")?,
        waiting: waiting.flatten(),
    })
}

fn outcome(reader: &mut Reader<'_>) -> Result<Outcome, WireError> {
    let (mut at, mut id, mut change, mut result, mut reason) = (None, None, None, None, None);
    let mut bytes = OriginFields::default();
    let mut host = HostFields::default();
    fields(reader, |name, reader| match name {
        "path" => set(&mut at, "path", path(reader)?),
        "image" => set(&mut id, "image", reader.nullable(image)?),
        "change" => set(&mut change, "change", ChangeId::new(reader.array_of()?)),
        "result" => set(&mut result, "result", text(reader)?),
        "reason" => set(&mut reason, "reason", text_or_null(reader)?),
        _ => Ok(bytes.field(name, reader)? || host.field(name, reader)?),
    })?;
    let (bytes, sources) = bytes.finish()?;
    Ok(Outcome {
        path: need(at, "path")?,
        image: id.flatten(),
        change: need(change, "change")?,
        host: host.finish()?,
        result: need(result, "result")?,
        reason: reason.flatten(),
        bytes,
        sources,
    })
}
