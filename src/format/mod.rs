//! Bytes ↔ nouns: index text, CBOR messages, keys and signatures, configuration, database records. No I/O.

pub(crate) mod cbor;
pub mod change;
pub mod config;
pub mod gossip;
pub mod hash;
pub mod heads;
pub mod index;
pub mod proof;
pub mod record;
pub mod report;
pub mod signature;
pub mod ssh;
mod supply;
pub mod wire;
