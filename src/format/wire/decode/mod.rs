//! Bytes → messages. Everything is bounded before it is allocated; unknown fields are passed over.
//!
//! A frame is first checked to be well-formed as a whole. After that, what is wrong inside a request costs only that
//! request.

mod notification;
mod request;
mod response;

use bytes::Bytes;

pub(super) use self::request::signed_change;
pub(super) use self::response::verdict_word;
use super::encode::{ERROR, NOTIFICATION, REQUEST, RESPONSE};
use super::message::{Hosts, Message, RequestType, Response};
use super::{CborError, WireError};
use crate::format::cbor::Reader;
use crate::format::supply;
use crate::model::ids::{ImageId, MachineId};
use crate::model::limits;
use crate::model::origins::{Origins, Supply};
use crate::model::peer::Host;
use crate::model::vpath::VPath;

/// Reads one message. `data` in it shares the frame's memory; everything else is copied out. The frame's own length is
/// bounded by whoever received it.
pub fn decode(frame: &Bytes) -> Result<Message, WireError> {
    let mut whole = Reader::new(frame);
    whole.skip()?;
    whole.end()?;
    let mut reader = Reader::new(frame);
    let items = reader.array(4)?;
    let kind = reader.uint()?;
    let (expected, wrong_items) = match kind {
        NOTIFICATION => (3, "a notification that doesn't have three items"),
        REQUEST => (4, "a request that doesn't have four items"),
        RESPONSE => (4, "a response that doesn't have four items"),
        other => return Err(WireError::UnknownKind(other)),
    };
    if items != expected {
        return Err(reader.error(wrong_items).into());
    }
    let name = reader.text(limits::WORD_BYTES_MAX)?;
    if kind == NOTIFICATION {
        return Ok(match notification::decode(name, &mut reader)? {
            Some(notification) => Message::Notification(notification),
            None => Message::Unknown { notification_type: name.into() },
        });
    }
    let id = reader.uint()?;
    if kind == REQUEST {
        let request = request_type(name).and_then(|request_type| request::decode(request_type, &mut reader));
        return Ok(match request {
            Ok(request) => Message::Request { id, request },
            Err(error) => Message::Malformed { id, request_type: name.into(), error },
        });
    }
    let response = if name == ERROR {
        Response::Error(text(&mut reader)?)
    } else {
        response::decode(request_type(name)?, frame, &mut reader)?
    };
    Ok(Message::Response { id, response })
}

fn request_type(name: &str) -> Result<RequestType, WireError> {
    RequestType::from_name(name).ok_or_else(|| WireError::UnknownType(name.into()))
}

/// Reads a map with named fields: `field` says whether it knows (and read) one; unknown ones are passed over.
pub(super) fn fields<'a>(
    reader: &mut Reader<'a>,
    mut field: impl FnMut(&str, &mut Reader<'a>) -> Result<bool, WireError>,
) -> Result<(), WireError> {
    for _ in 0..reader.map(limits::MAP_FIELDS_MAX)? {
        let name = reader.text(limits::WORD_BYTES_MAX)?;
        if !field(name, reader)? {
            reader.skip()?;
        }
    }
    Ok(())
}

/// Keeps a field's value; for use in [`fields`].
pub(super) fn set<T>(slot: &mut Option<T>, name: &'static str, value: T) -> Result<bool, WireError> {
    if slot.replace(value).is_some() { Err(WireError::Repeated(name)) } else { Ok(true) }
}

/// The value of a field that must be there.
pub(super) fn need<T>(slot: Option<T>, name: &'static str) -> Result<T, WireError> {
    slot.ok_or(WireError::Missing(name))
}

pub(super) fn image(reader: &mut Reader<'_>) -> Result<ImageId, CborError> {
    reader.array_of().map(ImageId::new)
}

pub(super) fn text(reader: &mut Reader<'_>) -> Result<String, CborError> {
    reader.text(limits::TEXT_BYTES_MAX).map(Into::into)
}

pub(super) fn text_or_null(reader: &mut Reader<'_>) -> Result<Option<String>, CborError> {
    reader.nullable(text)
}

pub(super) fn path(reader: &mut Reader<'_>) -> Result<VPath, WireError> {
    Ok(reader.text(limits::PATH_BYTES_MAX)?.parse()?)
}

fn hosts(reader: &mut Reader<'_>) -> Result<Hosts, WireError> {
    let mut hosts = Hosts::new();
    for _ in 0..reader.map(limits::HOSTS_MAX)? {
        let machine_id = MachineId::new(reader.array_of()?);
        if hosts.insert(machine_id, reader.text(limits::TEXT_BYTES_MAX)?.into()).is_some() {
            return Err(WireError::Repeated("hosts"));
        }
    }
    Ok(hosts)
}

/// The two fields of a host, wherever they stand among others.
#[derive(Default)]
pub(super) struct HostFields {
    machine_id: Option<MachineId>,
    hostname: Option<Box<str>>,
}

/// Where bytes came from.
#[derive(Debug, Default)]
pub(super) struct OriginFields {
    linked: Option<u64>,
    copied: Option<u64>,
    kept: Option<u64>,
    fetched: Option<u64>,
    sources: Option<Vec<Supply>>,
}

impl OriginFields {
    pub(super) fn field(&mut self, name: &str, reader: &mut Reader<'_>) -> Result<bool, WireError> {
        match name {
            "bytes_linked" => set(&mut self.linked, "bytes_linked", reader.uint()?),
            "bytes_copied" => set(&mut self.copied, "bytes_copied", reader.uint()?),
            "bytes_kept" => set(&mut self.kept, "bytes_kept", reader.uint()?),
            "bytes_fetched" => set(&mut self.fetched, "bytes_fetched", reader.uint()?),
            "sources" => set(&mut self.sources, "sources", supply::read_all(reader)?),
            _ => Ok(false),
        }
    }

    pub(super) fn finish(self) -> Result<(Origins, Vec<Supply>), WireError> {
        let bytes = Origins {
            linked: need(self.linked, "bytes_linked")?,
            copied: need(self.copied, "bytes_copied")?,
            kept: need(self.kept, "bytes_kept")?,
            fetched: need(self.fetched, "bytes_fetched")?,
        };
        Ok((bytes, self.sources.unwrap_or_default()))
    }
}

impl HostFields {
    pub(super) fn field(&mut self, name: &str, reader: &mut Reader<'_>) -> Result<bool, WireError> {
        match name {
            "machine_id" => set(&mut self.machine_id, "machine_id", MachineId::new(reader.array_of()?)),
            "hostname" => set(&mut self.hostname, "hostname", reader.text(limits::TEXT_BYTES_MAX)?.into()),
            _ => Ok(false),
        }
    }

    pub(super) fn finish(self) -> Result<Host, WireError> {
        Ok(Host { machine_id: need(self.machine_id, "machine_id")?, hostname: need(self.hostname, "hostname")? })
    }
}
