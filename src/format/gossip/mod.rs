//! Datagrams between nodes ↔ bytes: sealing, items, the SWIM library's packets, values, pages of members.
//!
//! What is said to whom, and what is believed, is `engine/gossip`'s. Shapes and units stand in `doc/protocol.md`.

mod datagram;
mod page;
mod seal;
pub mod swim;
#[cfg(test)]
mod tests;
mod value;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub use datagram::{Envelope, Header, Item, Part, read_datagram};
pub use page::{PageEntry, PageWriter, read_page};
pub use seal::{OpenError, Opened, Seal, SessionId, open_plain, plain};
pub use value::{read_about, read_watch, write_about, write_watch};

use super::cbor::{self, CborError, Reader};
use crate::model::heads::HeadsFingerprint;
use crate::model::ids::MachineId;
use crate::model::peer::NodeId;

/// What is wrong with bytes that should be a datagram, a value or a page.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct GossipError(#[from] CborError);

/// A node as membership tells it apart: one that was wrongly held for dead comes back with the next renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId {
    /// Which start of which node.
    pub node: NodeId,
    /// How often this start was held for dead and has come back.
    pub renewal: u32,
}

/// A directory in a pulse: 8 bytes of the BLAKE2b hash of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DirectoryHash(pub [u8; 8]);

impl DirectoryHash {
    /// Of a directory's name.
    pub fn of(name: &str) -> Self {
        let hash = blake2b_simd::Params::new().hash_length(8).hash(name.as_bytes());
        let mut bytes = [0; 8];
        bytes.copy_from_slice(hash.as_bytes());
        Self(bytes)
    }
}

/// One directory's heads in a pulse.
pub type PulseHead = (DirectoryHash, HeadsFingerprint);

/// Whether datagrams can be sent there.
pub fn is_address(address: SocketAddr) -> bool {
    address.port() != 0 && !address.ip().is_unspecified() && !address.ip().is_multicast()
}

fn put_member(out: &mut Vec<u8>, member: &MemberId) {
    let NodeId { address, machine_id, incarnation } = &member.node;
    cbor::put_array(out, 4);
    let mut bytes = Vec::with_capacity(18);
    match address.ip() {
        IpAddr::V4(ip) => bytes.extend(ip.octets()),
        IpAddr::V6(ip) => bytes.extend(ip.octets()),
    }
    bytes.extend(address.port().to_be_bytes());
    cbor::put_bytes(out, &bytes);
    cbor::put_bytes(out, machine_id.as_bytes());
    cbor::put_uint(out, *incarnation);
    cbor::put_uint(out, u64::from(member.renewal));
}

fn member(reader: &mut Reader<'_>) -> Result<MemberId, CborError> {
    if reader.array(4)? != 4 {
        return Err(reader.error("a member that doesn't have four items"));
    }
    let error = reader.error("an address that isn't one");
    let bytes = reader.bytes(18)?;
    let (ip, port) = match *bytes {
        [a, b, c, d, high, low] => (IpAddr::V4(Ipv4Addr::new(a, b, c, d)), [high, low]),
        _ => {
            let (ip, port) = bytes.split_at_checked(16).ok_or(error.clone())?;
            let ip: [u8; 16] = ip.try_into().map_err(|_| error.clone())?;
            (IpAddr::V6(Ipv6Addr::from(ip)), port.try_into().map_err(|_| error.clone())?)
        }
    };
    let address = SocketAddr::new(ip, u16::from_be_bytes(port));
    if !is_address(address) {
        return Err(error);
    }
    let machine_id = MachineId::new(reader.array_of()?);
    let incarnation = reader.uint()?;
    Ok(MemberId { node: NodeId { address, machine_id, incarnation }, renewal: small(reader)? })
}

fn small<T: TryFrom<u64>>(reader: &mut Reader<'_>) -> Result<T, CborError> {
    let error = reader.error("a number over its bound");
    T::try_from(reader.uint()?).map_err(|_| error)
}
