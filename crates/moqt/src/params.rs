//! Message parameters, typed ("Message Parameters").

use crate::{AuthToken, Namespace};

/// Where an object is in its track ("Location Structure").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Location {
    /// Group ID.
    pub group: u64,
    /// Object ID.
    pub object: u64,
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.group, self.object)
    }
}

/// Which objects a subscription wants ("Subscription Filters").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// From the start of the group after the largest.
    NextGroupStart,
    /// From the object after the largest.
    LargestObject,
    /// From `start`.
    AbsoluteStart {
        /// First object wanted.
        start: Location,
    },
    /// From `start` to the end of a group.
    AbsoluteRange {
        /// First object wanted.
        start: Location,
        /// Last group wanted, whole.
        end_group: u64,
    },
}

/// Which of a subscription's groups goes first ("GROUP ORDER Parameter").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupOrder {
    /// Lower group IDs first.
    Ascending,
    /// Higher group IDs first.
    Descending,
}

/// Every parameter a message can carry; each message allows a few of them, which
/// [`crate::codec`] checks. `None` is "not in the message".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// OBJECT_DELIVERY_TIMEOUT, milliseconds.
    pub object_delivery_timeout: Option<u64>,
    /// AUTHORIZATION_TOKEN, any number of them.
    pub authorization_tokens: Vec<AuthToken>,
    /// RENDEZVOUS_TIMEOUT, milliseconds.
    pub rendezvous_timeout: Option<u64>,
    /// SUBGROUP_DELIVERY_TIMEOUT, milliseconds.
    pub subgroup_delivery_timeout: Option<u64>,
    /// EXPIRES, milliseconds.
    pub expires: Option<u64>,
    /// LARGEST_OBJECT.
    pub largest_object: Option<Location>,
    /// FILL_TIMEOUT, milliseconds.
    pub fill_timeout: Option<u64>,
    /// FORWARD.
    pub forward: Option<bool>,
    /// SUBSCRIBER_PRIORITY, lower is more urgent.
    pub subscriber_priority: Option<u8>,
    /// SUBSCRIPTION_FILTER; without one a subscription gets everything.
    pub filter: Option<Filter>,
    /// GROUP_ORDER.
    pub group_order: Option<GroupOrder>,
    /// NEW_GROUP_REQUEST: largest known group ID plus 1, or 0.
    pub new_group_request: Option<u64>,
    /// TRACK_NAMESPACE_PREFIX.
    pub track_namespace_prefix: Option<Namespace>,
}
