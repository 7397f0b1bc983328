//! A token bucket: how many bytes may pass per second, with a short burst after a pause.
//!
//! It only says yes, or when to ask again; who waits, and for what, is its user's.

use std::time::Duration;

use crate::model::limits;
use crate::model::time::Time;

/// The bound of a rate.
#[derive(Debug, Clone, Default)]
pub struct Pace {
    /// Bytes per second; `None`: no bound.
    rate: Option<u64>,
    /// When all that was let through would have passed at that rate.
    passed: Time,
}

impl Pace {
    /// At most `rate` bytes per second; `None`: no bound.
    pub const fn new(rate: Option<u64>) -> Self {
        Self { rate, passed: Time::new(Duration::ZERO) }
    }

    /// Another bound from now on. What was let through under the old one still counts.
    pub fn set(&mut self, rate: Option<u64>) {
        self.rate = rate;
    }

    /// Lets `bytes` through, however many, unless those before them would still be on their way; else says when to ask again.
    pub fn take(&mut self, now: Time, bytes: u64) -> Result<(), Time> {
        let Some(rate) = self.rate else { return Ok(()) };
        if self.passed > now {
            return Err(self.passed);
        }
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
        let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let earliest = Time::new(now.since(Time::new(limits::PACE_BURST)));
        self.passed = self.passed.max(earliest) + takes;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::new(Duration::from_millis(millis))
    }

    #[test]
    fn without_a_bound_everything_passes() {
        let mut pace = Pace::new(None);
        assert!((0..100).all(|_| pace.take(at(0), u64::MAX).is_ok()));
    }

    #[test]
    fn the_rate_is_kept_and_reached() {
        let mut pace = Pace::new(Some(1_000_000));
        let (mut now, mut sent) = (at(5_000), 0);
        while now < at(15_000) {
            match pace.take(now, 70_000) {
                Ok(()) => sent += 70_000,
                Err(when) => {
                    assert!(when > now);
                    now = when;
                }
            }
        }
        let burst = u64::try_from(limits::PACE_BURST.as_millis()).expect("short") * 1_000;
        assert!((10_000_000..=10_000_000 + burst + 70_000).contains(&sent), "{sent}");
    }

    #[test]
    fn extremes_neither_panic_nor_pass() {
        let mut pace = Pace::new(Some(0));
        assert_eq!(pace.take(at(1_000), u64::MAX), Ok(()));
        assert!(pace.take(at(1_000_000_000), 1).is_err_and(|when| when > at(1_000_000_000)));
        pace.set(None);
        assert_eq!(pace.take(at(1_000), 1), Ok(()));
    }
}
