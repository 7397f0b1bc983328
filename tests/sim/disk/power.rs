//! The power of a simulated machine: counts what changes its disk, and fails at the operation that it is told to.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

/// Shared by all that is stored on one machine.
#[derive(Debug, Clone, Default)]
pub(crate) struct Power(Arc<Mutex<State>>);

#[derive(Debug, Default, Clone)]
struct State {
    operations: u64,
    crash_at: Option<u64>,
    fault: Option<(u64, Errno)>,
    crashed: bool,
}

/// A generator whose numbers depend only on its seed (`SplitMix64`).
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

/// What of the unsynced part of a disk is there after a crash.
#[derive(Debug, Clone)]
pub(crate) enum Survival {
    /// Nothing.
    Nothing,
    /// Everything: the process was killed, or the system had written all by chance.
    Everything,
    /// What came first, as with a journal.
    Prefix { left: usize },
    /// Each on its own with this probability.
    Some { percent: u64, random: Random },
}

impl Power {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more change of the disk is about to happen.
    pub(crate) fn tick(&self) -> io::Result<()> {
        self.check()?;
        let mut state = self.state();
        let operation = state.operations;
        if state.crash_at == Some(operation) {
            state.crashed = true;
            return Err(io::Error::other("the machine crashed"));
        }
        state.operations += 1;
        match state.fault {
            Some((at, errno)) if at == operation => Err(errno.into()),
            _ => Ok(()),
        }
    }

    /// Reading, too, fails after a crash.
    pub(crate) fn check(&self) -> io::Result<()> {
        if self.state().crashed { Err(io::Error::other("the machine crashed")) } else { Ok(()) }
    }

    /// Changes so far.
    pub(crate) fn operations(&self) -> u64 {
        self.state().operations
    }

    pub(crate) fn crash_after(&self, operations: u64) {
        let mut state = self.state();
        state.crash_at = Some(state.operations + operations);
    }

    /// Nothing fails meanwhile: what is planned comes as many operations later.
    pub(crate) fn spared<T>(&self, work: impl FnOnce() -> T) -> T {
        let before = self.state().clone();
        self.state().crash_at = None;
        self.state().fault = None;
        let done = work();
        let mut state = self.state();
        let passed = state.operations - before.operations;
        state.crash_at = before.crash_at.map(|at| at + passed);
        state.fault = before.fault.map(|(at, errno)| (at + passed, errno));
        done
    }

    pub(crate) fn fail_after(&self, operations: u64, errno: Errno) {
        let mut state = self.state();
        state.fault = Some((state.operations + operations, errno));
    }

    pub(crate) fn crashed(&self) -> bool {
        self.state().crashed
    }

    /// Crashes now, whatever was planned.
    pub(crate) fn cut(&self) {
        self.state().crashed = true;
    }

    /// Works again, with nothing planned.
    pub(crate) fn on(&self) {
        *self.state() = State::default();
    }
}

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}

impl Survival {
    /// The first seeds are the extremes, the others anything.
    pub(crate) fn of_seed(seed: u64) -> Self {
        let mut random = Random::new(seed);
        match seed {
            0 => Self::Nothing,
            1 => Self::Everything,
            _ if seed.is_multiple_of(3) => Self::Prefix { left: usize::try_from(random.below(30)).expect("small") },
            _ => Self::Some { percent: 10 + random.below(80), random },
        }
    }

    /// Whether the next unsynced change is there.
    pub(crate) fn keeps(&mut self) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Prefix { left } => {
                let keeps = *left > 0;
                *left = left.saturating_sub(1);
                keeps
            }
            Self::Some { percent, random } => random.below(100) < *percent,
        }
    }

    /// How many of `len` bytes of the next unsynced write are there: whole sectors.
    pub(crate) fn kept_bytes(&mut self, len: usize) -> usize {
        if self.keeps() {
            return len;
        }
        match self {
            Self::Nothing | Self::Everything | Self::Prefix { .. } => 0,
            Self::Some { random, .. } => {
                let sectors = random.below(len as u64 / 512 + 1);
                usize::try_from(sectors * 512).expect("shorter than the write")
            }
        }
    }
}
