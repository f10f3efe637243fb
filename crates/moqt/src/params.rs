//! Message parameters, typed ("Message Parameters").

use crate::{
    AuthToken, Filter, InvalidFilter, Location, LocationFilter, Namespace, RangeFilter, RequestId,
};

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
    /// OBJECT_DELIVERY_TIMEOUT (DELIVERY_TIMEOUT in draft 16), milliseconds.
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
    /// SUBSCRIPTION_FILTER, or a LOCATION_FILTER in one of its forms. Not for FETCH, whose
    /// [`crate::FetchRange`] says it.
    pub filter: Option<Filter>,
    /// A LOCATION_FILTER that `filter` cannot say; it is `None` then.
    /// [`Parameters::locations`] joins the two.
    pub location_filter: Option<LocationFilter>,
    /// GROUP_ORDER.
    pub group_order: Option<GroupOrder>,
    /// FILL_PARAMETERS: objects of the past are wanted too.
    pub fill: Option<Box<Fill>>,
    /// SUBGROUP_FILTER, OBJECTID_FILTER, PRIORITY_FILTER, OBJECT_PROPERTY_FILTER and
    /// TRACK_PROPERTY_FILTER.
    pub range_filters: Vec<RangeFilter>,
    /// Why a range filter of the message cannot be meant. A session refuses such a message itself.
    pub invalid_filter: Option<InvalidFilter>,
    /// NEW_GROUP_REQUEST: largest known group ID plus 1, or 0.
    pub new_group_request: Option<u64>,
    /// TRACK_NAMESPACE_PREFIX.
    pub track_namespace_prefix: Option<Namespace>,
    /// INCLUDE_PROPERTIES: whether the answer carries the track's properties.
    pub include_properties: Option<bool>,
}

impl Parameters {
    /// The filter on locations, whichever field has it; without one a subscription gets
    /// everything.
    pub fn locations(&self) -> Option<LocationFilter> {
        self.location_filter.or(self.filter.map(LocationFilter::from))
    }

    /// Sets the filter on locations, in the field that can say it.
    pub fn set_locations(&mut self, filter: Option<LocationFilter>) {
        self.filter = filter.and_then(LocationFilter::to_filter);
        self.location_filter = filter.filter(|_| self.filter.is_none());
    }
}

/// FILL_PARAMETERS ("Fill Semantics"): what a fill fetch stream has other than its subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fill {
    /// Of a fill that a session received: the Request ID of the message that carries it, which
    /// FETCH_HEADER repeats. Not sent.
    pub request: Option<RequestId>,
    /// FILL_TIMEOUT, milliseconds.
    pub timeout: Option<u64>,
    /// SUBSCRIBER_PRIORITY.
    pub subscriber_priority: Option<u8>,
    /// LOCATION_FILTER, which says the fill range.
    pub filter: Option<LocationFilter>,
    /// GROUP_ORDER.
    pub group_order: Option<GroupOrder>,
    /// Range filters on objects.
    pub range_filters: Vec<RangeFilter>,
}
