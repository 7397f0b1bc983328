//! How each node's outcome reaches the client: reports from nodes that deploy to nodes that watch.
//!
//! [`Reporting`] decides which watching node is told what, [`Watching`] keeps what was told and makes the client's `Nodes`
//! of it. Outcomes are values: the latest one takes the place of those before, so a lost datagram is a delay. Carrying
//! datagrams, repeating and acknowledging them is gossip's; who watches and who is a member, too.

mod reporting;
#[cfg(test)]
mod tests;
mod watching;

pub use self::reporting::{Effect, Input, Reporting};
pub use self::watching::Watching;
