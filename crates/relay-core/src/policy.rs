//! What a viewer gets when it cannot get everything. Pure: time and ages in, a verdict out.
//!
//! * A subgroup whose next object is older than the viewer may be behind is cut: its stream is
//!   reset, so what was sent of it is its head, which can be played, never its tail.
//! * A viewer whose place in a track was evicted from the cache is too far behind for it.
//! * A viewer that takes nothing at all for long is let go.

use std::time::Duration;

/// Limits on how far behind a viewer may be.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Oldest an object may be when it is handed to the transport. A delivery timeout that is
    /// smaller wins ("Delivery Timeouts and Data Reliability").
    pub max_latency: Duration,
    /// How long a viewer may take nothing of what waits for it before it is let go.
    pub stuck: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self { max_latency: Duration::from_secs(2), stuck: Duration::from_secs(20) }
    }
}

impl Policy {
    /// The age at which a subscription's objects are given up: the smallest of our own limit and
    /// the timeouts of publisher and subscriber, in milliseconds, where 0 is none.
    pub fn expiry(&self, timeouts_ms: impl IntoIterator<Item = Option<u64>>) -> Duration {
        timeouts_ms
            .into_iter()
            .flatten()
            .filter(|ms| *ms > 0)
            .map(Duration::from_millis)
            .fold(self.max_latency, Duration::min)
    }
}

/// A stream's place among its session's, higher first ("Scheduling Algorithm"): subscriber
/// priority, then publisher priority, then group order, as one number for the transport.
pub(crate) fn stream_priority(
    subscriber: u8,
    publisher: u8,
    rank: u64,
    order: moqt::GroupOrder,
) -> i32 {
    /// Groups in flight at once are far fewer, so the rank may wrap.
    const RANKS: i32 = 4096;
    let urgency = i32::from(u16::MAX) - (i32::from(subscriber) << 8 | i32::from(publisher));
    let rank = (rank % RANKS as u64) as i32;
    let rank = match order {
        moqt::GroupOrder::Ascending => RANKS - 1 - rank,
        moqt::GroupOrder::Descending => rank,
    };
    urgency * RANKS + rank
}

#[cfg(test)]
mod tests {
    use moqt::GroupOrder::{Ascending, Descending};

    use super::*;

    #[test]
    fn the_smallest_timeout_that_is_set_wins() {
        let policy = Policy { max_latency: Duration::from_secs(2), ..Policy::default() };
        assert_eq!(policy.expiry([None, Some(0)]), Duration::from_secs(2));
        assert_eq!(policy.expiry([Some(500), Some(700)]), Duration::from_millis(500));
        assert_eq!(policy.expiry([Some(9000)]), Duration::from_secs(2));
    }

    #[test]
    fn priorities_order_by_subscriber_then_publisher_then_group() {
        assert!(stream_priority(0, 255, 0, Descending) > stream_priority(1, 0, 9, Descending));
        assert!(stream_priority(5, 1, 0, Descending) > stream_priority(5, 2, 9, Descending));
        assert!(stream_priority(5, 1, 8, Descending) > stream_priority(5, 1, 7, Descending));
        assert!(stream_priority(5, 1, 7, Ascending) > stream_priority(5, 1, 8, Ascending));
        assert!(stream_priority(255, 255, 0, Ascending) >= 0);
    }
}
