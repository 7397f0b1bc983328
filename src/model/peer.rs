//! Who speaks: connections and hosts.

use super::ids::MachineId;

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

/// A host as it calls itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Host {
    /// For good.
    pub machine_id: MachineId,
    /// For people.
    pub hostname: Box<str>,
}
