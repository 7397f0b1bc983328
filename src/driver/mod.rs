//! I/O without decisions: sockets, disk, database, clock, DNS. What it decides belongs in an engine.

pub mod agent;
pub mod clock;
pub mod db;
pub mod disk;
pub mod download_loop;
pub mod frames;
pub mod image_reader;
pub mod index_store;
pub mod interrupt;
pub mod library;
pub mod node_loop;
pub mod peers;
pub mod plan_loop;
pub mod pool;
mod reach;
pub mod resolve;
pub mod scan;
pub mod udp;
pub mod upload_loop;
pub mod ws;
