//! How long to wait before the next try.

use std::time::Duration;

/// Exponential backoff with jitter: each wait is between half and all of a bound that doubles.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    /// Waits of up to `first`, doubling up to `max`.
    pub fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, next: first }
    }

    /// The next wait.
    pub fn next_delay(&mut self) -> Duration {
        let bound = self.next;
        self.next = (bound * 2).min(self.max);
        bound.mul_f64(rand::random_range(0.5..1.0))
    }

    /// It worked: begin anew.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

impl Default for Backoff {
    /// From 200 ms to 5 s: a relay that restarts is found at once, one that is gone is not
    /// hammered.
    fn default() -> Self {
        Self::new(Duration::from_millis(200), Duration::from_secs(5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_maximum_and_start_anew() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(400));
        for bound in [100, 200, 400, 400] {
            let wait = backoff.next_delay().as_millis();
            assert!((bound / 2..=bound).contains(&wait), "{wait} of {bound}");
        }
        backoff.reset();
        assert!(backoff.next_delay() <= Duration::from_millis(100));
    }
}
