//! Tests of the two programs from outside, as processes.

mod daemon;
mod index;
mod server;
