//! The simulator: the product's own code over simulated parts, from seeds that replay.
#![expect(clippy::unwrap_in_result, reason = "a wrong assumption of the simulator itself ends the test")]

mod catch_up;
mod cluster;
mod disk;
mod gossip;
mod seeds;
mod swarm;
