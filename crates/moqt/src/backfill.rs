//! Objects of the past that belong to a subscription: "joining fetch" in drafts 16 and 18, "fill"
//! since draft 20, one thing here.

use std::num::NonZeroU64;

use crate::{
    Fetch, FetchRange, Fill, GroupOrder, Location, LocationFilter, LocationRange, Parameters,
    RangeFilter, Request, RequestId,
};

/// What a subscriber wants of its track's past, on a fetch stream of its own ("Fill Semantics",
/// "Joining Fetches").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backfill {
    /// The Request ID that FETCH_HEADER carries.
    pub stream: RequestId,
    /// The subscription it belongs to.
    pub subscription: RequestId,
    /// Which objects, up to the Largest Object that the subscription began with or the update was
    /// answered with. `None`: those of the subscription's own filter.
    pub filter: Option<LocationFilter>,
    /// The order of the groups; `None`: the subscription's in a fill, always said in a
    /// joining fetch.
    pub order: Option<GroupOrder>,
    /// Subscriber priority; `None`: the subscription's.
    pub priority: Option<u8>,
    /// How long to wait for objects that are not here, milliseconds.
    pub timeout: Option<u64>,
    /// Range filters that replace the subscription's.
    pub range_filters: Vec<RangeFilter>,
    /// Whether it is a request that needs an answer, with [`crate::Session::respond`] to
    /// `stream`. A fill has none: resetting its fetch stream is the only way to say no.
    pub answer: bool,
}

impl Backfill {
    /// The backfill that a request which a session received asks for: a SUBSCRIBE with a fill, or
    /// a joining FETCH.
    pub fn of_request(id: RequestId, request: &Request) -> Option<Self> {
        match request {
            Request::Subscribe(subscribe) => Self::of_parameters(id, &subscribe.parameters),
            Request::Fetch(fetch) => Self::of_fetch(id, fetch),
            _ => None,
        }
    }

    /// The backfill that a received SUBSCRIBE of `subscription`, or an update of it, asks for.
    pub fn of_parameters(subscription: RequestId, parameters: &Parameters) -> Option<Self> {
        let fill = parameters.fill.as_deref()?;
        Some(Self {
            stream: fill.request?,
            subscription,
            filter: fill.filter,
            order: fill.group_order,
            priority: fill.subscriber_priority,
            timeout: fill.timeout,
            range_filters: fill.range_filters.clone(),
            answer: false,
        })
    }

    /// The backfill that a joining FETCH is.
    fn of_fetch(stream: RequestId, fetch: &Fetch) -> Option<Self> {
        let (subscription, filter) = match fetch.range {
            FetchRange::RelativeJoining { joining, groups } => {
                let groups = NonZeroU64::MIN.saturating_add(groups);
                (joining, LocationFilter::RelativeStart { groups })
            }
            FetchRange::AbsoluteJoining { joining, group } => {
                (joining, LocationFilter::AbsoluteStart { start: Location::start_of(group) })
            }
            FetchRange::Standalone { .. } | FetchRange::RelativeStart { .. } => return None,
        };
        Some(Self {
            stream,
            subscription,
            filter: Some(filter),
            order: Some(fetch.parameters.group_order.unwrap_or(GroupOrder::Ascending)),
            priority: fetch.parameters.subscriber_priority,
            timeout: fetch.parameters.fill_timeout,
            range_filters: Vec::new(),
            answer: true,
        })
    }

    /// The objects meant, when `largest` is the joining location and `subscribed` the
    /// subscription's own filter; `None` when there are none: a joining fetch is then answered
    /// with INVALID_RANGE, a fill with nothing at all.
    pub fn range(
        &self,
        largest: Option<Location>,
        subscribed: Option<LocationFilter>,
    ) -> Option<LocationRange> {
        self.filter.or(subscribed).unwrap_or(LocationFilter::Unfiltered).fetch_range(largest)
    }
}

impl Fill {
    /// The joining FETCH that asks for the same of `joining`, if drafts with those can say it.
    pub(crate) fn to_joining_fetch(&self, joining: RequestId) -> Option<Fetch> {
        let range = match self.filter {
            Some(LocationFilter::RelativeStart { groups }) => {
                FetchRange::RelativeJoining { joining, groups: groups.get() - 1 }
            }
            Some(LocationFilter::AbsoluteStart { start: Location { group, object: 0 } }) => {
                FetchRange::AbsoluteJoining { joining, group }
            }
            Some(LocationFilter::Unfiltered) => FetchRange::AbsoluteJoining { joining, group: 0 },
            _ => return None,
        };
        self.range_filters.is_empty().then(|| Fetch {
            range,
            parameters: Parameters {
                fill_timeout: self.timeout,
                subscriber_priority: self.subscriber_priority,
                group_order: self.group_order,
                ..Parameters::default()
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_joining_fetch_and_a_fill_are_the_same() {
        let largest = Location { group: 9, object: 4 };
        let groups = NonZeroU64::new(3).unwrap();
        for (filter, start) in [
            (LocationFilter::RelativeStart { groups }, Location::start_of(7)),
            (LocationFilter::AbsoluteStart { start: Location::start_of(2) }, Location::start_of(2)),
            (LocationFilter::Unfiltered, Location::FIRST),
        ] {
            let fill = Fill { request: Some(6), filter: Some(filter), ..Fill::default() };
            let parameters =
                Parameters { fill: Some(Box::new(fill.clone())), ..Parameters::default() };
            let filled = Backfill::of_parameters(4, &parameters).unwrap();
            let fetch = fill.to_joining_fetch(4).unwrap();
            let fetched = Backfill::of_request(6, &Request::Fetch(fetch)).unwrap();
            for backfill in [filled, fetched] {
                assert_eq!((backfill.stream, backfill.subscription), (6, 4));
                let range = backfill.range(Some(largest), None).unwrap();
                assert_eq!((range.start, range.end), (start, largest));
                assert_eq!(backfill.range(None, None), None);
            }
        }
    }

    #[test]
    fn what_a_joining_fetch_cannot_say_is_none() {
        let inside = LocationFilter::AbsoluteStart { start: Location { group: 2, object: 5 } };
        for filter in [None, Some(LocationFilter::LargestObject), Some(inside)] {
            assert_eq!(Fill { filter, ..Fill::default() }.to_joining_fetch(0), None);
        }
    }
}
