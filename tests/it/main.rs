//! Tests of the two programs from outside, as processes.
#![expect(clippy::wildcard_enum_match_arm, reason = "whatever else comes fails the test")]

mod daemon;
mod demo;
mod fake;
mod index;
mod server;
mod sync;
