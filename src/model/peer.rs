//! Who speaks: connections, hosts and nodes.

use std::net::SocketAddr;

use super::ids::{MachineId, from_hex, hex};

/// One WebSocket connection of this process, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// The protocol that a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProtocolVersion {
    /// `ciruela.v1`: what existing clients speak, also those that name no subprotocol.
    V1,
    /// `ciruela.v2`: contains v1.
    V2,
}

impl ProtocolVersion {
    /// Why a client can't use a daemon that speaks only `ciruela.v1`: a change of that version could be replayed elsewhere.
    pub const TOO_OLD: &str = "the daemon there is too old for this client: it speaks ciruela.v1 only";
}

/// A host as it calls itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Host {
    /// For good.
    pub machine_id: MachineId,
    /// For people.
    pub hostname: Box<str>,
}

/// One start of a daemon, as the others tell it from every other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId {
    /// Where it listens, TCP and UDP alike.
    pub address: SocketAddr,
    /// Of its host; two nodes with the same one are clones.
    pub machine_id: MachineId,
    /// Grows with each start.
    pub incarnation: u64,
}

/// What a node tells all others about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeInfo {
    /// Its name, for people.
    pub hostname: Box<str>,
    /// Its version, for people.
    pub version: Box<str>,
    /// The names of the directories that it carries, sorted.
    pub directories: Vec<Box<str>>,
}

/// The 32 secret bytes which all nodes of a cluster share.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterKey(pub [u8; 32]);

impl ClusterKey {
    /// Reads 64 hexadecimal digits. What isn't a key may be a secret all the same: it is never shown.
    pub fn from_hex(text: &str) -> Option<Self> {
        from_hex(text).ok().map(Self)
    }

    /// 64 hexadecimal digits.
    pub fn to_hex(&self) -> String {
        hex(&self.0)
    }
}

impl std::fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClusterKey(…)")
    }
}
