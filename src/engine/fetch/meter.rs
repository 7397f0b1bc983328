//! How fast answers come: the best rate and the least delay seen lately, whose product is what fits on the way (as in
//! congestion controls of the BBR kind), and the usual time until an answer.

use std::time::Duration;

use crate::model::time::Time;

/// Measures deliveries.
#[derive(Debug, Clone, Default)]
pub(super) struct Meter {
    delivered: u64,
    /// Bytes per second, the best lately.
    rate: f64,
    /// The least lately, and when that was.
    delay: Option<(Duration, Time)>,
    /// A moving average.
    usual: Option<Duration>,
}

/// What is remembered of a question until its answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    at: Time,
    delivered: u64,
}

/// With each answer the best rate shrinks by this part.
const FORGET: f64 = 1.0 / 32.0;
/// The least delay is measured anew after this time.
const DELAY_AGE: Duration = Duration::from_secs(10);

impl Meter {
    pub(super) fn sent(&self, now: Time) -> Sent {
        Sent { at: now, delivered: self.delivered }
    }

    /// An answer of so many bytes came.
    pub(super) fn answered(&mut self, now: Time, sent: Sent, bytes: u64) {
        self.delivered += bytes;
        let took = now.since(sent.at).max(Duration::from_micros(1));
        let rate = (self.delivered - sent.delivered) as f64 / took.as_secs_f64();
        self.rate = rate.max(self.rate * (1.0 - FORGET));
        if self.delay.is_none_or(|(delay, at)| took <= delay || now.since(at) > DELAY_AGE) {
            self.delay = Some((took, now));
        }
        self.usual = Some(self.usual.map_or(took, |usual| (usual * 7 + took) / 8));
    }

    /// Bandwidth × delay: bytes that are under way when the rate is reached and nothing waits.
    pub(super) fn product(&self) -> u64 {
        self.delay.map_or(0, |(delay, _)| self.bytes_in(delay))
    }

    /// Bytes that come in so much time.
    pub(super) fn bytes_in(&self, time: Duration) -> u64 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates; never negative")]
        let bytes = (self.rate * time.as_secs_f64()) as u64;
        bytes
    }

    /// The usual time until an answer, if there was one.
    pub(super) fn usual(&self) -> Option<Duration> {
        self.usual
    }
}
