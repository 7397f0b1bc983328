//! Tests of the two programs from outside, as processes.
#![expect(clippy::wildcard_enum_match_arm, reason = "whatever else comes fails the test")]

mod cluster;
mod daemon;
mod demo;
mod e2e;
mod fake;
mod gate;
mod hostile;
mod index;
mod kills;
mod load;
mod mounts;
mod patience;
mod peer;
mod plan;
mod publisher;
mod remote;
mod scrub;
mod server;
mod status;
mod sync;
mod terminal;
mod trees;
