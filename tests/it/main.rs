//! Tests of the two programs from outside, as processes.

mod daemon;
mod fake;
mod index;
mod server;
mod sync;
