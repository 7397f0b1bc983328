//! Gossip in virtual time: many nodes, a network which loses, doubles and reorders, partitions, nodes that stop and start.

mod cost;
mod crowd;
mod membership;
mod news;
mod trouble;
mod world;
