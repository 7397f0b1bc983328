//! What is simulated: how many nodes, over which links, with which faults.

use std::sync::Arc;
use std::time::Duration;

use ciruela::model::directory::DirectoryConfig;
use ciruela::model::hash_kind::HashKind;
use ciruela::model::ids::BlockHash;
use ciruela::model::image::{Image, ImageBuilder};
use ciruela::model::limits;

/// What is simulated.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) seed: u64,
    pub(crate) nodes: usize,
    /// Of 256 KiB each.
    pub(crate) pieces: u64,
    /// How many connections to other nodes each has, about.
    pub(crate) neighbours: usize,
    /// Nodes that the client is connected to.
    pub(crate) entries: usize,
    /// Bytes per second which each node can send, and the same receive.
    pub(crate) rate: u64,
    pub(crate) client_rate: u64,
    /// What the client's connections can each carry, in percent of its rate; all of it where none is given.
    pub(crate) client_flows: &'static [u64],
    /// From one machine to another.
    pub(crate) delay: Duration,
    /// Of ten thousand messages, how many come [`STALL`] later (something was lost and sent again), with all that follow on
    /// the connection, and after how many it breaks.
    pub(crate) stalls: u64,
    pub(crate) breaks: u64,
    /// Nodes whose uplink has a tenth of the rate.
    pub(crate) slow: usize,
    /// Nodes that die on the way, every other one without anybody hearing of it soon.
    pub(crate) deaths: usize,
    /// Whether one of the nodes that the client is connected to dies on the way, and everybody hears of it at once.
    pub(crate) entry_dies: bool,
    /// Nodes of whose answers every tenth is wrong.
    pub(crate) liars: usize,
    /// Bounds the rate at which each node asks.
    pub(crate) download_rate: Option<u64>,
}

impl Setup {
    pub(crate) fn new(seed: u64, nodes: usize) -> Self {
        Self {
            seed,
            nodes,
            pieces: 1_000,
            neighbours: 10,
            entries: 3,
            rate: 125_000_000,
            client_rate: 125_000_000,
            client_flows: &[],
            delay: Duration::from_micros(200),
            stalls: 0,
            breaks: 0,
            slow: 0,
            deaths: 0,
            entry_dies: false,
            liars: 0,
            download_rate: None,
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.pieces * limits::PIECE_BYTES_MIN
    }

    /// Bytes per second that a node can send.
    pub(super) fn uplink(&self, node: usize) -> u64 {
        // Not those that the client is connected to.
        if (self.entries..self.entries + self.slow).contains(&node) { self.rate / 10 } else { self.rate }
    }

    /// No schedule is quicker: the source sends everything once, all uplinks together send it to everyone, each node receives
    /// everything, and pieces double with each round at best.
    pub(super) fn bound(&self) -> Duration {
        let seconds = |bytes: u64, rate: u64| bytes as f64 / rate as f64;
        let rounds = self.pieces - 1 + u64::from(self.nodes.next_power_of_two().ilog2());
        let source = seconds(self.bytes(), self.client_rate);
        let spread = seconds(rounds * limits::PIECE_BYTES_MIN, self.rate);
        let uplinks = self.client_rate + (0..self.nodes).map(|node| self.uplink(node)).sum::<u64>();
        let together = seconds(self.bytes() * self.nodes as u64, uplinks);
        Duration::from_secs_f64(source.max(spread).max(together))
    }
}

/// One file of so many full blocks.
pub(super) fn image(bytes: u64) -> Arc<Image> {
    let blocks = usize::try_from(bytes / limits::BLOCK_BYTES as u64).expect("small");
    let mut builder = ImageBuilder::new(HashKind::default());
    builder.directory("").expect("the root");
    builder.file("file", false, bytes, &vec![BlockHash::new([0; 32]); blocks]).expect("a file");
    Arc::new(builder.finish().expect("an image"))
}

pub(super) fn directory() -> Arc<DirectoryConfig> {
    Arc::new(DirectoryConfig::plain("key", "/srv"))
}
