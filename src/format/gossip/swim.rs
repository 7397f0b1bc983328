//! Packets of the SWIM library ↔ bytes. Sender and receiver stand in the datagram's header, not again in the packet.

use bytes::{Buf, BufMut};
use foca::{Codec, Header, Member, Message, ProbeNumber, State};

use super::{GossipError, MemberId, member, put_member, small};
use crate::format::cbor::{self, CborError, Reader};

/// A packet without sender and receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// The sender's SWIM incarnation, with which it refutes suspicions.
    pub incarnation: u16,
    /// What is said.
    pub message: Message<MemberId>,
    /// What the sender knows of others.
    pub members: Vec<Member<MemberId>>,
}

impl Packet {
    /// Whether it may have members behind it.
    fn has_members(message: &Message<MemberId>) -> bool {
        !matches!(message, Message::Announce | Message::TurnUndead)
    }

    /// Reads a packet, all of it.
    pub fn read(bytes: &[u8]) -> Result<Self, GossipError> {
        let mut reader = Reader::new(bytes);
        let (incarnation, message) = (small(&mut reader)?, message(&mut reader)?);
        let mut members = Vec::new();
        if Self::has_members(&message) {
            // Two bytes which the library puts there: how many follow.
            let mut rest = &bytes[reader.position()..];
            let count = rest.try_get_u16().map_err(|_| reader.error("unexpected end"))?;
            reader = Reader::new(rest);
            for _ in 0..count {
                members.push(read_member(&mut reader)?);
            }
        }
        reader.end()?;
        Ok(Self { incarnation, message, members })
    }

    /// The bytes which [`Self::read`] reads.
    pub fn write(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_message(&mut bytes, self.incarnation, &self.message);
        if Self::has_members(&self.message) {
            // As many as were read.
            bytes.put_u16(u16::try_from(self.members.len()).unwrap_or(u16::MAX));
            for member in &self.members {
                write_member(&mut bytes, member);
            }
        }
        bytes
    }

    /// As the library wants it.
    pub fn for_library(&self, from: MemberId, to: MemberId) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_member(&mut bytes, &from);
        put_member(&mut bytes, &to);
        bytes.extend(self.write());
        bytes
    }
}

/// What the library has written, without sender and receiver.
pub fn from_library(bytes: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader::new(bytes);
    reader.skip().and_then(|()| reader.skip()).ok()?;
    bytes.get(reader.position()..)
}

/// How the library encodes headers and members.
#[derive(Debug, Clone, Copy)]
pub struct SwimCodec;

/// Why something can't be encoded or decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SwimError {
    /// It isn't what it should be.
    #[error(transparent)]
    Wrong(#[from] CborError),
    /// No room is left.
    #[error("no room is left in the packet")]
    Full,
}

impl Codec<MemberId> for SwimCodec {
    type Error = SwimError;

    fn encode_header(&mut self, header: &Header<MemberId>, buf: impl BufMut) -> Result<(), SwimError> {
        let mut bytes = Vec::with_capacity(128);
        put_header(&mut bytes, header);
        put(buf, &bytes)
    }

    fn decode_header(&mut self, mut buf: impl Buf) -> Result<Header<MemberId>, SwimError> {
        let mut reader = Reader::new(buf.chunk());
        let (src, dst) = (member(&mut reader)?, member(&mut reader)?);
        let (src_incarnation, message) = (small(&mut reader)?, message(&mut reader)?);
        let read = reader.position();
        buf.advance(read);
        Ok(Header { src, src_incarnation, dst, message })
    }

    fn encode_member(&mut self, member: &Member<MemberId>, buf: impl BufMut) -> Result<(), SwimError> {
        let mut bytes = Vec::with_capacity(64);
        write_member(&mut bytes, member);
        put(buf, &bytes)
    }

    fn decode_member(&mut self, mut buf: impl Buf) -> Result<Member<MemberId>, SwimError> {
        let mut reader = Reader::new(buf.chunk());
        let member = read_member(&mut reader)?;
        let read = reader.position();
        buf.advance(read);
        Ok(member)
    }
}

fn put(mut buf: impl BufMut, bytes: &[u8]) -> Result<(), SwimError> {
    if buf.remaining_mut() < bytes.len() {
        return Err(SwimError::Full);
    }
    buf.put_slice(bytes);
    Ok(())
}

fn put_header(out: &mut Vec<u8>, header: &Header<MemberId>) {
    put_member(out, &header.src);
    put_member(out, &header.dst);
    put_message(out, header.src_incarnation, &header.message);
}

fn put_message(out: &mut Vec<u8>, incarnation: u16, message: &Message<MemberId>) {
    cbor::put_uint(out, u64::from(incarnation));
    let probe = |out: &mut Vec<u8>, kind, number: ProbeNumber| {
        cbor::put_uint(out, kind);
        cbor::put_uint(out, u64::from(number));
    };
    let indirect = |out: &mut Vec<u8>, kind, number, third: &MemberId| {
        probe(out, kind, number);
        put_member(out, third);
    };
    match message {
        Message::Ping(number) => probe(out, 0, *number),
        Message::Ack(number) => probe(out, 1, *number),
        Message::PingReq { target, probe_number } => indirect(out, 2, *probe_number, target),
        Message::IndirectPing { origin, probe_number } => indirect(out, 3, *probe_number, origin),
        Message::IndirectAck { target, probe_number } => indirect(out, 4, *probe_number, target),
        Message::ForwardedAck { origin, probe_number } => indirect(out, 5, *probe_number, origin),
        Message::Announce => cbor::put_uint(out, 6),
        Message::Feed => cbor::put_uint(out, 7),
        // The library's own broadcasts aren't used: it would be read as gossip.
        Message::Gossip | Message::Broadcast => cbor::put_uint(out, 8),
        Message::TurnUndead => cbor::put_uint(out, 9),
    }
}

fn message(reader: &mut Reader<'_>) -> Result<Message<MemberId>, CborError> {
    let error = reader.error("a packet of an unknown kind");
    Ok(match reader.uint()? {
        0 => Message::Ping(small(reader)?),
        1 => Message::Ack(small(reader)?),
        2 => Message::PingReq { probe_number: small(reader)?, target: member(reader)? },
        3 => Message::IndirectPing { probe_number: small(reader)?, origin: member(reader)? },
        4 => Message::IndirectAck { probe_number: small(reader)?, target: member(reader)? },
        5 => Message::ForwardedAck { probe_number: small(reader)?, origin: member(reader)? },
        6 => Message::Announce,
        7 => Message::Feed,
        8 => Message::Gossip,
        9 => Message::TurnUndead,
        _ => return Err(error),
    })
}

/// A member with its SWIM incarnation and state.
pub(super) fn write_member(out: &mut Vec<u8>, known: &Member<MemberId>) {
    put_member(out, known.id());
    cbor::put_uint(out, u64::from(known.incarnation()));
    let state = match known.state() {
        State::Alive => 0,
        State::Suspect => 1,
        State::Down => 2,
    };
    cbor::put_uint(out, state);
}

pub(super) fn read_member(reader: &mut Reader<'_>) -> Result<Member<MemberId>, CborError> {
    let (id, incarnation) = (member(reader)?, small(reader)?);
    let error = reader.error("an unknown state");
    let state = match reader.uint()? {
        0 => State::Alive,
        1 => State::Suspect,
        2 => State::Down,
        _ => return Err(error),
    };
    Ok(Member::new(id, incarnation, state))
}
