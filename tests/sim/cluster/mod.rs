//! The engines in a simulated world: the daemon's and the client's decisions, the real disk driver over a fake disk, the
//! real database over fake storage, and a network in virtual time. A seed decides everything and replays it.

mod checks;
mod client;
mod heal;
mod machine;
pub(crate) mod network;
mod removal;
mod retention;
mod rollback;
mod scenarios;
mod serve;
mod spread;
mod wires;
mod world;
