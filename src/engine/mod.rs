//! All decisions, without I/O.
//!
//! An engine is a value that is told what happened and answers with what should be done ([`contract`]). Engines don't know
//! each other; `node` composes them for the daemon, the upload and download engines serve the client. No file, socket, clock, global
//! randomness or thread is named here, so the same code runs in production and in the simulator of `tests/sim/`.

pub mod access;
pub mod catch_up;
pub mod contract;
pub mod deploy;
pub mod download;
pub mod fetch;
pub mod gossip;
pub mod node;
pub mod pace;
pub mod removal;
pub mod report;
pub mod retention;
pub mod scrub;
pub mod upload;
