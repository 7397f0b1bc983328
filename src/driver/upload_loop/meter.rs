//! How long something was being sent: the time between looks at which more had been sent than before.

use std::time::Duration;

use crate::model::time::Time;

/// Of one cluster.
#[derive(Debug, Default)]
pub(super) struct Meter {
    last: Option<(Time, u64)>,
    sending: Duration,
}

impl Meter {
    /// So much has been sent by now.
    pub(super) fn sample(&mut self, now: Time, sent: u64) {
        if let Some((then, before)) = self.last.replace((now, sent))
            && sent > before
        {
            self.sending += now.since(then);
        }
    }

    /// How long.
    pub(super) fn sending(&self) -> Duration {
        self.sending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_do_not_count() {
        let mut meter = Meter::default();
        for (millis, sent) in [(0, 0), (50, 0), (100, 10), (150, 20), (200, 20), (900, 20), (950, 21)] {
            meter.sample(Time::new(Duration::from_millis(millis)), sent);
        }
        assert_eq!(meter.sending(), Duration::from_millis(150));
    }
}
