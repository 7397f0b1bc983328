//! The swarm: the fetch engines of many nodes over links with rates, against the least time that any schedule would need.

mod figures;
mod links;
mod record;
mod scenarios;
mod setup;
mod world;
