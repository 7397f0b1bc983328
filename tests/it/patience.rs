//! An end for waits that might have none: what is waited for comes, or the test says what it saw and fails.
//! Not a measure of speed: nothing that works needs a tenth of it.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// How long anything is waited for.
const PATIENCE: Duration = Duration::from_mins(4);

/// Looks again and again until there is what is looked for; `seen` is what a failure shows.
#[expect(clippy::disallowed_methods, reason = "real processes take real time")]
pub(crate) fn until<T>(mut look: impl FnMut() -> Option<T>, seen: impl FnOnce() -> String) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "waited in vain for {PATIENCE:?}; in the end:\n{}", seen());
        std::thread::yield_now();
    }
}

/// The next one of what another thread reads, `None` at its end.
pub(crate) fn next<T>(from: &Receiver<T>, seen: impl FnOnce() -> String) -> Option<T> {
    match from.recv_timeout(PATIENCE) {
        Ok(next) => Some(next),
        Err(RecvTimeoutError::Disconnected) => None,
        Err(RecvTimeoutError::Timeout) => panic!("nothing more came for {PATIENCE:?}; until then:\n{}", seen()),
    }
}
