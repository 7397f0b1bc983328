//! What a datagram holds, without its seal: a header and items, one after the other until the end.

use super::{DirectoryHash, GossipError, MemberId, PulseHead, member, put_member, seal, small};
use crate::format::cbor::{self, CborError, Reader};
use crate::model::heads::HeadsFingerprint;
use crate::model::limits;

const HEAD_BYTES: usize = 24;

/// What each datagram opens with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Seconds since 1970 by the sender's clock.
    pub seconds: u64,
    /// Who sent it.
    pub from: MemberId,
    /// For whom; `None`: for whoever listens at that address, which only a packet that announces may be.
    pub to: Option<MemberId>,
}

/// One thing said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item<'a> {
    /// A packet of the SWIM library, see [`super::swim`].
    Swim(&'a [u8]),
    /// How the sender's heads are, and the sum of its values' versions.
    Pulse { values: u64, heads: Vec<PulseHead> },
    /// How a path fares at the sender; to be acknowledged by its number.
    Report { number: u64, body: &'a [u8] },
    /// A report was taken.
    Ack { number: u64 },
    /// A part of a value, from whomever.
    Part(Part<'a>),
    /// The receiver's values are wanted.
    Ask,
    /// The sender knows a later start of the receiver than the receiver itself.
    Later { incarnation: u64 },
}

/// A part of a node's latest value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part<'a> {
    /// Whose value.
    pub origin: MemberId,
    /// Which value: 0 what it says about itself, others its watches.
    pub slot: u32,
    /// Which version; the highest one of a start holds.
    pub counter: u64,
    /// Which part of it.
    pub index: u32,
    /// How many there are.
    pub count: u32,
    /// The part's bytes; all but the last part have [`limits::VALUE_PART_BYTES`].
    pub bytes: &'a [u8],
}

/// A datagram being filled.
#[derive(Debug)]
pub struct Envelope {
    text: Vec<u8>,
    empty: bool,
}

impl Envelope {
    /// Nothing in it but the header.
    pub fn new(header: &Header) -> Self {
        let mut text = Vec::with_capacity(limits::DATAGRAM_BYTES_MAX);
        cbor::put_uint(&mut text, header.seconds);
        put_member(&mut text, &header.from);
        match &header.to {
            Some(to) => put_member(&mut text, to),
            None => cbor::put_null(&mut text),
        }
        Self { text, empty: true }
    }

    /// Adds an item, unless it doesn't fit any more.
    pub fn push(&mut self, item: &Item<'_>) -> bool {
        let before = self.text.len();
        put_item(&mut self.text, item);
        let fits = self.text.len() <= limits::DATAGRAM_BYTES_MAX - seal::OVERHEAD;
        if fits {
            self.empty = false;
        } else {
            self.text.truncate(before);
        }
        fits
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.empty
    }

    /// The bytes to be sealed.
    pub fn finish(self) -> Vec<u8> {
        self.text
    }
}

fn put_item(out: &mut Vec<u8>, item: &Item<'_>) {
    let open = |out: &mut Vec<u8>, kind, fields: usize| {
        cbor::put_array(out, fields + 1);
        cbor::put_uint(out, kind);
    };
    match item {
        Item::Swim(packet) => {
            open(out, 0, 1);
            cbor::put_bytes(out, packet);
        }
        Item::Pulse { values, heads } => {
            open(out, 1, 2);
            cbor::put_uint(out, *values);
            cbor::put_bytes_head(out, heads.len() * HEAD_BYTES);
            for (directory, fingerprint) in heads {
                out.extend(directory.0);
                out.extend(fingerprint.0);
            }
        }
        Item::Report { number, body } => {
            open(out, 2, 2);
            cbor::put_uint(out, *number);
            cbor::put_bytes(out, body);
        }
        Item::Ack { number } => {
            open(out, 3, 1);
            cbor::put_uint(out, *number);
        }
        Item::Part(part) => {
            open(out, 4, 6);
            put_member(out, &part.origin);
            for number in [u64::from(part.slot), part.counter, u64::from(part.index), u64::from(part.count)] {
                cbor::put_uint(out, number);
            }
            cbor::put_bytes(out, part.bytes);
        }
        Item::Ask => open(out, 5, 0),
        Item::Later { incarnation } => {
            open(out, 6, 1);
            cbor::put_uint(out, *incarnation);
        }
    }
}

/// Reads what was sealed, all of it: a datagram with anything unknown says nothing.
pub fn read_datagram(text: &[u8]) -> Result<(Header, Vec<Item<'_>>), GossipError> {
    let mut reader = Reader::new(text);
    let header = Header { seconds: reader.uint()?, from: member(&mut reader)?, to: reader.nullable(member)? };
    let mut items = Vec::new();
    while reader.end().is_err() {
        items.push(item(&mut reader)?);
    }
    Ok((header, items))
}

fn item<'a>(reader: &mut Reader<'a>) -> Result<Item<'a>, CborError> {
    let fields = reader.array(7)?;
    let error = reader.error("an item of an unknown kind");
    Ok(match (reader.uint()?, fields) {
        (0, 2) => Item::Swim(reader.bytes(limits::SWIM_BYTES_MAX)?),
        (1, 3) => Item::Pulse { values: reader.uint()?, heads: heads(reader)? },
        (2, 3) => Item::Report { number: reader.uint()?, body: reader.bytes(limits::REPORT_BYTES_MAX)? },
        (3, 2) => Item::Ack { number: reader.uint()? },
        (4, 7) => Item::Part(part(reader)?),
        (5, 1) => Item::Ask,
        (6, 2) => Item::Later { incarnation: reader.uint()? },
        _ => return Err(error),
    })
}

fn heads(reader: &mut Reader<'_>) -> Result<Vec<PulseHead>, CborError> {
    let error = reader.error("heads of the wrong length");
    let bytes = reader.bytes(limits::PULSE_HEADS_MAX * HEAD_BYTES)?;
    let mut heads = Vec::with_capacity(bytes.len() / HEAD_BYTES);
    for head in bytes.chunks(HEAD_BYTES) {
        let (directory, fingerprint) = head.split_at_checked(8).ok_or(error.clone())?;
        let (Ok(directory), Ok(fingerprint)) = (directory.try_into(), fingerprint.try_into()) else {
            return Err(error);
        };
        heads.push((DirectoryHash(directory), HeadsFingerprint(fingerprint)));
    }
    Ok(heads)
}

fn part<'a>(reader: &mut Reader<'a>) -> Result<Part<'a>, CborError> {
    let origin = member(reader)?;
    let (slot, counter) = (small(reader)?, reader.uint()?);
    let (index, count) = (small(reader)?, small(reader)?);
    let bytes = reader.bytes(limits::VALUE_PART_BYTES)?;
    let shape = match bytes.len() {
        limits::VALUE_PART_BYTES => true,
        _ => index + 1 == count,
    };
    if index >= count || count as usize > limits::VALUE_PARTS_MAX || !shape {
        return Err(reader.error("a part that can't be one"));
    }
    Ok(Part { origin, slot, counter, index, count, bytes })
}
