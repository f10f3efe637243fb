//! The clock that every process of one machine shares.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

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
