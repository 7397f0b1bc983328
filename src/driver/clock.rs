//! The only place that reads the clock.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::model::time::{Now, Stamp, Time};

/// Reads both clocks; monotonic time counts from its making.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Starts counting now.
    #[expect(clippy::disallowed_methods, clippy::new_without_default, reason = "the one place; starting has an effect")]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }

    /// Both clocks.
    pub fn now(&self) -> Now {
        Now { time: Time::new(self.start.elapsed()), stamp: stamp() }
    }

    /// The moment as tokio's timers want it.
    pub fn instant(&self, time: Time) -> Instant {
        self.start + time.since_start()
    }
}

/// The wall clock alone, 0 before 1970.
#[expect(clippy::disallowed_methods, reason = "the one place")]
pub fn stamp() -> Stamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Stamp(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}

/// Until then; for ever without a deadline.
pub(super) async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
