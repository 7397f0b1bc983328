//! Gossip in virtual time: many nodes, a network which loses, doubles and reorders, partitions, nodes that stop and start.
#![expect(clippy::print_stdout, reason = "what was measured, for whoever asks with --nocapture")]

mod cost;
mod crowd;
mod membership;
mod news;
mod trouble;
mod world;
