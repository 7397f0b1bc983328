//! What a simulated distribution showed.

use std::time::Duration;

/// Everything that is looked at afterwards.
#[derive(Debug, PartialEq)]
pub(crate) struct Record {
    /// When each node had everything; `None`: it died, or never had.
    pub(crate) finished: Vec<Option<Duration>>,
    /// Nodes that died.
    pub(crate) dead: Vec<usize>,
    /// The least time in which any schedule could have ended.
    pub(crate) bound: Duration,
    /// Bytes of the image.
    pub(crate) bytes: u64,
    /// Bytes of answers which the client sent.
    pub(crate) client_sent: u64,
    /// Bytes of answers which came to nodes twice.
    pub(crate) doubled: u64,
    /// Connections dropped for a reason, with the node which dropped and the one that was.
    pub(crate) dropped: Vec<(usize, Option<usize>, String)>,
    /// How many nodes have the pieces, over time: (time, least, lowest tenth, median, highest tenth, most).
    pub(crate) spread: Vec<(Duration, [u32; 5])>,
}

impl Record {
    /// When the last of those alive had everything; `None`: somebody never had.
    pub(crate) fn time(&self) -> Option<Duration> {
        let alive = self.finished.iter().enumerate().filter(|(node, _)| !self.dead.contains(node));
        alive.map(|(_, time)| *time).collect::<Option<Vec<_>>>()?.into_iter().max()
    }

    /// That time over the bound.
    pub(crate) fn ratio(&self) -> f64 {
        self.time().map_or(f64::INFINITY, |time| time.as_secs_f64() / self.bound.as_secs_f64())
    }

    /// Bytes that the client sent over those of the image.
    pub(crate) fn client_ratio(&self) -> f64 {
        self.client_sent as f64 / self.bytes as f64
    }

    /// Bytes that came twice over all that had to come.
    pub(crate) fn doubled_ratio(&self) -> f64 {
        self.doubled as f64 / (self.bytes as f64 * self.finished.len() as f64)
    }

    /// Samples how many nodes have each piece.
    pub(super) fn sample(&mut self, now: Duration, holders: &[u32]) {
        let mut sorted = holders.to_vec();
        sorted.sort_unstable();
        let at = |tenths: usize| sorted[(sorted.len() - 1) * tenths / 10];
        self.spread.push((now, [at(0), at(1), at(5), at(9), at(10)]));
    }
}
