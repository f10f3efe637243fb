//! Gives memory back to the system once a crowd has left.
//!
//! What viewers who stopped taking anything had waiting for them is freed when they are let go, but
//! glibc keeps it: some bytes that are still in use lie behind. It is asked to look for whole free
//! pages, which holds up everyone who allocates: for a millisecond after fifty viewers of 5 Mbit/s, for ten
//! after a thousand. So that is done rarely.

use std::time::{Duration, Instant};

/// Sessions that end are a crowd if they are so many, and this share of all.
const CROWD: usize = 16;
const SHARE: usize = 4;
/// When the last of their connections has gone too.
const AFTER: Duration = Duration::from_secs(5);

/// When to do it, by the number of sessions.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Most sessions since the last time.
    most: usize,
    due: Option<Instant>,
}

impl Memory {
    /// So many sessions there are now: whether to give memory back.
    pub(super) fn is_due(&mut self, sessions: usize, now: Instant) -> bool {
        self.most = self.most.max(sessions);
        let left = self.most - sessions;
        if self.due.is_none() && left >= CROWD && left >= self.most / SHARE {
            self.due = Some(now + AFTER);
        }
        if self.due.is_none_or(|due| now < due) {
            return false;
        }
        *self = Self { most: sessions, due: None };
        true
    }
}

/// Gives free pages back. Other allocators than glibc's do so by themselves.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "nobody offers a safe interface to this function")]
pub(super) fn give_back() {
    let before = Instant::now();
    // SAFETY: it may be called at any time, by any thread, and touches only what nobody owns.
    unsafe { libc::malloc_trim(0) };
    tracing::debug!(took = ?before.elapsed(), "gave free memory back");
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn give_back() {}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        *START.get_or_init(Instant::now) + Duration::from_secs(seconds)
    }

    /// At which seconds memory is given back, of these numbers of sessions, one a second.
    fn times(sessions: impl IntoIterator<Item = usize>) -> Vec<u64> {
        let mut memory = Memory::default();
        let seconds = sessions.into_iter().zip(0..);
        seconds
            .filter(|(sessions, second)| memory.is_due(*sessions, at(*second)))
            .map(|(_, second)| second)
            .collect()
    }

    #[test]
    fn memory_is_given_back_once_after_a_crowd_left() {
        assert_eq!(times([100, 100, 50, 50, 50, 50, 50, 50, 50, 50]), [7]);
    }

    #[test]
    fn a_few_who_leave_are_no_crowd() {
        assert_eq!(times([20, 5, 5, 5, 5, 5, 5, 5]), [0; 0]);
        assert_eq!(times([1000, 800, 800, 800, 800, 800, 800, 800]), [0; 0]);
    }

    #[test]
    fn whoever_comes_and_goes_all_the_time_is_none_either() {
        assert_eq!(times((0..100).map(|second| 200 + second % 10)), [0; 0]);
    }

    #[test]
    fn an_audience_that_dwindles_costs_it_now_and_then() {
        let given = times((0..1000).map(|second| 1000 - second));
        assert!((3..20).contains(&given.len()), "at {given:?}");
    }

    #[test]
    fn it_can_be_called_any_time() {
        give_back();
    }
}
