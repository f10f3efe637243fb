//! What a viewer gets when it cannot get everything. Pure: time and ages in, a verdict out.
//!
//! * A subgroup whose next object is older than the viewer may be behind is cut: its stream is
//!   reset, so what was sent of it is its head, which can be played, never its tail. One that the
//!   publisher ranks below another of its group, as frames that nothing refers to, is cut sooner: it
//!   would come too late to be shown, and what it takes of a thin line would make the next late too.
//! * A viewer whose place in a track was evicted from the cache is too far behind for it.
//! * A viewer that takes nothing at all for long is let go.

use std::time::{Duration, Instant};

use moqt::{Parameters, Properties, property};

use crate::Subgroup;

/// Our own limits on how far behind a viewer may be.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Longest an object may wait for a viewer who could have it. Delivery timeouts that are
    /// smaller win ("Delivery Timeouts and Data Reliability").
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
    /// What of [`Policy::max_latency`] a subgroup gets that is outranked in its group.
    const OUTRANKED: u32 = 2;

    /// Longest an object may wait in a subgroup.
    pub(crate) fn patience(&self, outranked: bool) -> Duration {
        if outranked { self.max_latency / Self::OUTRANKED } else { self.max_latency }
    }
}

/// The timeouts of a subscription; `None`: none is set ("Delivery Timeouts and Data Reliability").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeliveryTimeouts {
    /// OBJECT_DELIVERY_TIMEOUT: oldest an object may be when it is handed to the transport.
    pub object: Option<Duration>,
    /// SUBGROUP_DELIVERY_TIMEOUT: longest it may take from the FIN of a subgroup upstream until all
    /// of it is delivered.
    pub subgroup: Option<Duration>,
}

impl DeliveryTimeouts {
    /// For each the smaller one of what publisher and subscriber set, where 0 is not set.
    pub fn new(publisher: &Properties, subscriber: &Parameters) -> Self {
        let smaller = |kind: u64, parameter: Option<u64>| {
            let set = [publisher.int(kind), parameter].into_iter().flatten().filter(|ms| *ms > 0);
            set.min().map(Duration::from_millis)
        };
        Self {
            object: smaller(property::OBJECT_DELIVERY_TIMEOUT, subscriber.object_delivery_timeout),
            subgroup: smaller(
                property::SUBGROUP_DELIVERY_TIMEOUT,
                subscriber.subgroup_delivery_timeout,
            ),
        }
    }

    /// Oldest a datagram may be.
    pub(crate) fn datagram(&self) -> Option<Duration> {
        self.object.into_iter().chain(self.subgroup).min()
    }

    /// When a subgroup's stream must be reset if not all of it was delivered.
    pub(crate) fn subgroup_deadline(&self, held: &Subgroup) -> Option<Instant> {
        held.finished()?.checked_add(self.subgroup?)
    }
}

/// Ranks that are told apart: groups of one subscription, and subgroups of one group.
const GROUPS: u64 = 1 << 10;
const SUBGROUPS: u64 = 1 << 4;

/// A stream's place among its session's, higher first ("Scheduling Algorithm"), as one number for
/// the transport: subscriber priority, publisher priority, how many of the subscription's groups
/// go before this one, Subgroup ID.
pub(crate) fn stream_priority(subscriber: u8, publisher: u8, rank: u64, subgroup: u64) -> i32 {
    let urgency = u64::from(u16::MAX) - (u64::from(subscriber) << 8 | u64::from(publisher));
    let rank = GROUPS - 1 - rank.min(GROUPS - 1);
    let subgroup = SUBGROUPS - 1 - subgroup.min(SUBGROUPS - 1);
    // 16 + 10 + 4 bits: control and request streams stay above.
    ((urgency * GROUPS + rank) * SUBGROUPS + subgroup) as i32
}

/// Whether a stream's subscriber or publisher gave it more priority than another's, whatever their
/// groups.
pub fn is_more_urgent(priority: i32, other: i32) -> bool {
    let urgency = |priority: i32| priority as u64 / (GROUPS * SUBGROUPS);
    urgency(priority) > urgency(other)
}

/// The place of a fetch stream whose objects have this subscriber and publisher priority, among the
/// session's subgroup streams: before live groups of the same priorities, whose past it is.
pub fn fetch_priority(subscriber: u8, publisher: u8) -> i32 {
    stream_priority(subscriber, publisher, 0, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smaller_of_the_timeouts_that_are_set_wins() {
        let mut properties = Properties::new();
        properties.push_int(property::OBJECT_DELIVERY_TIMEOUT, 500);
        properties.push_int(property::SUBGROUP_DELIVERY_TIMEOUT, 0);
        let timeouts = |object, subgroup| {
            let parameters = Parameters {
                object_delivery_timeout: object,
                subgroup_delivery_timeout: subgroup,
                ..Parameters::default()
            };
            DeliveryTimeouts::new(&properties, &parameters)
        };
        let ms = |ms| Some(Duration::from_millis(ms));
        assert_eq!(timeouts(None, None), DeliveryTimeouts { object: ms(500), subgroup: None });
        assert_eq!(
            timeouts(Some(0), Some(9)),
            DeliveryTimeouts { object: ms(500), subgroup: ms(9) }
        );
        assert_eq!(timeouts(Some(400), Some(0)).object, ms(400));
        assert_eq!(timeouts(Some(400), Some(300)).datagram(), ms(300));
    }

    #[test]
    fn priorities_order_by_subscriber_then_publisher_then_group_then_subgroup() {
        let falling = [
            (0, 255, 9, 0),
            (1, 0, 9, 9),
            (5, 1, 0, 0),
            (5, 1, 0, 1),
            (5, 1, 1, 0),
            (5, 2, 0, 0),
            (255, 255, u64::MAX, u64::MAX),
        ];
        let priority = |(a, b, c, d)| stream_priority(a, b, c, d);
        assert!(falling.windows(2).all(|pair| priority(pair[0]) > priority(pair[1])));
        assert_eq!(stream_priority(255, 255, u64::MAX, u64::MAX), 0);
        assert!(stream_priority(0, 0, 0, 0) < i32::MAX - 1, "a request stream's");
    }
}
