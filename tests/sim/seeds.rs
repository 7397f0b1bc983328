//! Which seeds a test runs with.

use std::hash::{BuildHasher as _, RandomState};

/// How many seeds: `CIRUELA_SIM_LONG=1` for a hundred times as many, from any on; `CIRUELA_SIM_SEEDS=100000` for so many,
/// `CIRUELA_SIM_FIRST=17` to begin with that one.
pub(crate) fn seeds(few: u64) -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let long = std::env::var("CIRUELA_SIM_LONG").is_ok_and(|long| long == "1");
    let (first, count) = if long { (RandomState::new().hash_one(0) >> 24, few * 100) } else { (0, few) };
    let first = number("CIRUELA_SIM_FIRST").unwrap_or(first);
    first..first + number("CIRUELA_SIM_SEEDS").unwrap_or(count)
}
