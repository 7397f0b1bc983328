//! How fast a source delivers, and so how much it is asked at once.
//!
//! The window is bandwidth × delay, as congestion controls of the BBR kind have it: the best rate and the least delay seen lately,
//! which forget slowly. A window that is filled but too small shows in the next samples, so it grows as long as that helps.

use std::time::Duration;

use crate::model::limits;
use crate::model::time::Time;

/// Measures deliveries.
#[derive(Debug, Clone, Default)]
pub(super) struct Meter {
    delivered: u64,
    /// Bytes per second, the best lately.
    rate: f64,
    /// The least lately.
    delay: Option<Duration>,
    /// The usual time until an answer.
    usual: Option<Duration>,
}

/// What is remembered of a question until its answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    pub(super) at: Time,
    delivered: u64,
}

/// With each answer the best rate is forgotten by this part, and the least delay grows by half of it.
const FORGET: f64 = 1.0 / 32.0;

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
        self.delay = Some(self.delay.map_or(took, |delay| took.min(delay.mul_f64(1.0 + FORGET / 2.0))));
        self.usual = Some(self.usual.map_or(took, |usual| (usual * 7 + took) / 8));
    }

    /// Bytes that are under way when the rate is reached and nothing waits.
    pub(super) fn product(&self) -> f64 {
        self.delay.map_or(0.0, |delay| self.rate * delay.as_secs_f64())
    }

    /// The usual time until an answer, if there was one.
    pub(super) fn usual(&self) -> Option<Duration> {
        self.usual
    }

    /// Bytes of one question that are likely to be answered quickly.
    pub(super) fn quick_bytes(&self) -> u64 {
        let quick = self.rate * limits::SOURCE_ANSWER_QUICK.as_secs_f64();
        if self.usual.is_none() { u64::MAX } else { whole(quick) }
    }
}
/// Without the part behind the point; what is negative or no number is none.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
pub(super) const fn whole(bytes: f64) -> u64 {
    bytes as u64
}
