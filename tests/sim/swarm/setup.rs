//! What is simulated, and the least time that it needs.

use std::time::Duration;

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
    /// From one machine to another.
    pub(crate) delay: Duration,
    /// Of ten thousand messages, how many come a fifth of a second later (something was lost and sent again) and after how
    /// many the connection breaks.
    pub(crate) stalls: u64,
    pub(crate) breaks: u64,
    /// Nodes that die on the way, every other one without anybody hearing of it soon.
    pub(crate) deaths: usize,
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
            delay: Duration::from_micros(200),
            stalls: 0,
            breaks: 0,
            deaths: 0,
            liars: 0,
            download_rate: None,
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.pieces * limits::PIECE_BYTES_MIN
    }

    /// No schedule is quicker: the source sends everything once, each node receives everything, and pieces double with each
    /// round at best.
    pub(super) fn bound(&self) -> Duration {
        let seconds = |bytes: u64, rate: u64| bytes as f64 / rate as f64;
        let rounds = self.pieces - 1 + u64::from(self.nodes.next_power_of_two().ilog2());
        let source = seconds(self.bytes(), self.client_rate);
        let spread = seconds(rounds * limits::PIECE_BYTES_MIN, self.rate);
        Duration::from_secs_f64(source.max(spread))
    }
}
