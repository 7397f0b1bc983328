//! Ciruela puts directories on every machine of a cluster.
//!
//! The layers, each of which may import only from those above it in this list:
//! [`model`] (nouns), [`format`](mod@format) (bytes ↔ nouns), [`engine`] (decisions without I/O), [`driver`] (I/O without
//! decisions), [`client`] and [`daemon`] (command lines, configuration, output). `doc/architecture.md` has the map.

pub mod client;
pub mod daemon;
pub mod driver;
pub mod engine;
pub mod format;
pub mod model;
