//! The clock that every process of one machine shares.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;

/// Microseconds of Unix time.
pub type Micros = u64;

/// Now.
pub fn now() -> Micros {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as Micros
}

/// How long until `at`; nothing when it is past.
pub fn until(at: Micros) -> Duration {
    Duration::from_micros(at.saturating_sub(now()))
}

/// Longest time that is told apart from longer ones: an hour.
const LONGEST: Micros = 3_600_000_000;

/// An empty histogram of microseconds, three digits exact. Use
/// [`Histogram::saturating_record`].
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST, 3).expect("three digits of an hour")
}
