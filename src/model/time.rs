//! Time as a value: engines are told it, only `driver/clock.rs` reads it.

use std::time::Duration;

/// Monotonic time since the process (or the simulation) started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time(Duration);

/// An author's wall-clock time, milliseconds since the Unix epoch. Decides which change wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Stamp(pub u64);

/// Both clocks at one moment: deadlines use the first, stamps are compared with the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// For deadlines and intervals.
    pub time: Time,
    /// For judging stamps only.
    pub stamp: Stamp,
}

impl Time {
    /// The moment `since_start` after the start.
    pub const fn new(since_start: Duration) -> Self {
        Self(since_start)
    }

    /// How long after the start.
    pub const fn since_start(self) -> Duration {
        self.0
    }

    /// Time passed since `earlier`, zero when that is later.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl std::ops::Add<Duration> for Time {
    type Output = Self;
    fn add(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(delay))
    }
}
