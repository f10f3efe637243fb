//! Messages that can be said in a draft.

use std::num::NonZeroU64;

use bytes::Bytes;
use moqt::codec::shared::{Interest, SharedMessage};
use moqt::*;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::Control;

/// Integers of every length that `version` can write.
pub(crate) fn int(version: Version) -> BoxedStrategy<u64> {
    let max = version.int_coding().max();
    (any::<u64>(), 0u32..64).prop_map(move |(value, shift)| (value >> shift).min(max)).boxed()
}

fn text(max: usize) -> impl Strategy<Value = Bytes> {
    vec(prop::sample::select(b"abcxyz019_.-/ ".to_vec()), 0..max).prop_map(Bytes::from)
}

fn namespace(min: usize) -> impl Strategy<Value = Namespace> {
    let field = vec(b'a'..=b'z', 1..9).prop_map(Bytes::from);
    vec(field, min..5).prop_map(|fields| Namespace::new(fields).unwrap())
}

/// A full name; draft 16's oracle wants a namespace field at least.
fn track() -> impl Strategy<Value = FullTrackName> {
    (namespace(1), text(12))
        .prop_map(|(namespace, name)| FullTrackName::new(namespace, name).unwrap())
}

fn location(version: Version) -> impl Strategy<Value = Location> {
    (int(version), int(version)).prop_map(|(group, object)| Location { group, object })
}

fn token(version: Version) -> BoxedStrategy<AuthToken> {
    let int = || int(version);
    prop_oneof![
        int().prop_map(|alias| AuthToken::Delete { alias }),
        (int(), int(), text(20)).prop_map(|(alias, kind, value)| AuthToken::Register {
            alias,
            kind,
            value
        }),
        int().prop_map(|alias| AuthToken::UseAlias { alias }),
        (int(), text(20)).prop_map(|(kind, value)| AuthToken::UseValue { kind, value }),
    ]
    .boxed()
}

fn order() -> impl Strategy<Value = GroupOrder> {
    prop_oneof![Just(GroupOrder::Ascending), Just(GroupOrder::Descending)]
}

/// A filter that `version` can say, in the model's canonical form.
fn filter(version: Version) -> BoxedStrategy<LocationFilter> {
    let start = || location(version);
    let range = (start(), int(version)).prop_map(|(start, end)| LocationFilter::AbsoluteRange {
        start,
        end_group: start.group.max(end),
    });
    let common = prop_oneof![
        Just(LocationFilter::NextGroupStart),
        Just(LocationFilter::LargestObject),
        start().prop_map(|start| LocationFilter::AbsoluteStart { start }),
        range,
    ];
    if version < Version::Draft22 {
        return common.boxed();
    }
    let relative = int(version).prop_map(|groups| LocationFilter::RelativeStart {
        groups: NonZeroU64::new(groups).unwrap_or(NonZeroU64::MIN),
    });
    let objects = (start(), start()).prop_map(|(start, end)| LocationFilter::ObjectRange {
        start,
        end: Location { group: start.group.max(end.group), object: end.object },
    });
    prop_oneof![4 => common, 1 => relative, 1 => objects].boxed()
}

fn range_filter(object_only: bool) -> impl Strategy<Value = RangeFilter> {
    let kind = (0u64..500).prop_map(|kind| kind * 2);
    let field = (0..if object_only { 4 } else { 5 }, kind).prop_map(|(which, kind)| match which {
        0 => RangeField::Subgroup,
        1 => RangeField::Object,
        2 => RangeField::Priority,
        3 => RangeField::ObjectProperty(kind),
        _ => RangeField::TrackProperty(kind),
    });
    let ranges = vec((0u64..20, 0u64..20), 1..4).prop_map(|steps| {
        let mut at = 0;
        let range = |(gap, length)| {
            let start = at + gap;
            at = start + length;
            (start, at)
        };
        steps.into_iter().map(range).collect::<Vec<_>>()
    });
    (field, any::<u8>(), ranges, any::<bool>()).prop_map(|(field, set, mut ranges, open)| {
        if let (true, Some(last)) = (open, ranges.last_mut()) {
            last.1 = u64::MAX;
        }
        RangeFilter::Ranges { field, set, ranges }
    })
}

fn range_filters(object_only: bool) -> impl Strategy<Value = Vec<RangeFilter>> {
    vec(range_filter(object_only), 0..3).prop_map(|mut filters| {
        // As they go on the wire: by parameter type.
        filters.sort_by_key(|filter| match filter.field() {
            RangeField::Subgroup => 0,
            RangeField::Object => 1,
            RangeField::Priority => 2,
            RangeField::ObjectProperty(_) => 3,
            RangeField::TrackProperty(_) => 4,
        });
        filters.dedup_by_key(|filter| filter.field());
        filters
    })
}

fn fill(version: Version) -> BoxedStrategy<Fill> {
    let some = option::of(int(version));
    let limits = (some, any::<Option<u8>>(), option::of(order()));
    (limits, option::of(filter(version)), range_filters(true))
        .prop_map(|((timeout, subscriber_priority, group_order), filter, range_filters)| Fill {
            request: None,
            timeout,
            subscriber_priority,
            filter: filter.map(canonical),
            group_order,
            range_filters,
        })
        .boxed()
}

/// The form that decoding gives.
fn canonical(filter: LocationFilter) -> LocationFilter {
    filter.to_filter().map_or(filter, LocationFilter::from)
}

/// Every parameter that `version` knows; [`keep`] then takes those of a message.
fn everything(version: Version) -> BoxedStrategy<Parameters> {
    let int = || int(version);
    let nonzero = int().prop_map(|value| value.max(1));
    let times = (nonzero, int(), int(), int(), int());
    let values = (
        option::of(location(version)),
        option::of(filter(version)),
        range_filters(false),
        option::of(fill(version)),
        option::of(namespace(0)),
        vec(token(version), 0..3),
    );
    (any::<[bool; 11]>(), times, values, any::<(bool, bool, u8)>(), order(), int())
        .prop_map(|(has, times, values, flags, order, new_group)| {
            let (object, subgroup, rendezvous, expires, fill_timeout) = times;
            let (largest_object, filter, range_filters, fill, prefix, tokens) = values;
            let mut p = Parameters {
                object_delivery_timeout: has[0].then_some(object),
                authorization_tokens: tokens,
                rendezvous_timeout: has[1].then_some(rendezvous),
                subgroup_delivery_timeout: has[2].then_some(subgroup),
                expires: has[3].then_some(expires),
                largest_object,
                fill_timeout: has[4].then_some(fill_timeout),
                forward: has[5].then_some(flags.0),
                subscriber_priority: has[6].then_some(flags.2),
                group_order: has[7].then_some(order),
                fill: fill.map(Box::new),
                range_filters,
                new_group_request: has[8].then_some(new_group),
                track_namespace_prefix: prefix,
                include_properties: has[9].then_some(flags.1),
                ..Parameters::default()
            };
            p.set_locations(filter.map(canonical));
            p
        })
        .boxed()
}

/// Which message parameters are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum In {
    Subscribe,
    SubscribeOk,
    Publish,
    PublishOk,
    Fetch,
    FetchOk,
    TrackStatus,
    Namespaces,
    Tracks,
    Update,
    Ok,
    Notify,
}

/// Takes away what `message` may not have in `version`: an own reading of the drafts, so that the
/// tables under test are checked by it.
pub(crate) fn keep(version: Version, message: In, p: Parameters) -> Parameters {
    let v16 = version == Version::Draft16;
    let v18 = version == Version::Draft18;
    let v22 = version == Version::Draft22;
    let publish_ok = message == In::PublishOk || v18 && message == In::Ok;
    let subscriber = matches!(message, In::Subscribe | In::Update);
    let timeouts = subscriber || publish_ok || v22 && message == In::Publish;
    let filters = v22 && matches!(message, In::Subscribe | In::Fetch | In::Tracks | In::Update);
    let tokens =
        !matches!(message, In::SubscribeOk | In::PublishOk | In::FetchOk | In::Ok | In::Notify);
    let largest = matches!(message, In::SubscribeOk | In::Publish | In::Ok | In::Notify);
    let expires = matches!(message, In::SubscribeOk | In::Publish | In::PublishOk | In::Ok);
    let forward = match message {
        In::Subscribe | In::Update | In::Publish | In::Tracks => true,
        In::Namespaces => v16,
        In::Notify => true,
        _ => publish_ok,
    };
    let priority = match message {
        In::Subscribe | In::Fetch | In::Update => true,
        In::Publish => v22,
        _ => publish_ok,
    };
    let locations = match message {
        In::Subscribe | In::Update => true,
        In::Publish | In::Notify | In::Tracks => v22,
        _ => publish_ok,
    };
    let order = match message {
        In::Subscribe | In::Fetch => true,
        In::Publish | In::Tracks => v22,
        _ => publish_ok,
    };
    let properties =
        matches!(message, In::Subscribe | In::TrackStatus | In::Fetch | In::Tracks) && v22;
    let track_filters = matches!(message, In::Tracks | In::Update);
    let fill = v22 && matches!(message, In::Subscribe | In::Update | In::Tracks);
    Parameters {
        object_delivery_timeout: p.object_delivery_timeout.filter(|_| timeouts),
        authorization_tokens: if tokens { p.authorization_tokens } else { Vec::new() },
        rendezvous_timeout: p.rendezvous_timeout.filter(|_| !v16 && message == In::Subscribe),
        subgroup_delivery_timeout: p.subgroup_delivery_timeout.filter(|_| !v16 && timeouts),
        expires: p.expires.filter(|_| expires),
        largest_object: p.largest_object.filter(|_| largest),
        fill_timeout: p.fill_timeout.filter(|_| !v16 && message == In::Fetch),
        forward: p.forward.filter(|_| forward),
        subscriber_priority: p.subscriber_priority.filter(|_| priority),
        filter: p.filter.filter(|_| locations),
        location_filter: p.location_filter.filter(|_| locations),
        group_order: p.group_order.filter(|_| order),
        fill: p.fill.filter(|_| fill),
        range_filters: p
            .range_filters
            .into_iter()
            .filter(|filter| match filter.field() {
                RangeField::TrackProperty(_) => v22 && track_filters,
                _ => filters,
            })
            .collect(),
        invalid_filter: None,
        new_group_request: p.new_group_request.filter(|_| subscriber || publish_ok),
        track_namespace_prefix: p.track_namespace_prefix.filter(|_| !v16 && message == In::Update),
        include_properties: p.include_properties.filter(|_| properties),
    }
}

fn parameters(version: Version, message: In) -> BoxedStrategy<Parameters> {
    everything(version).prop_map(move |p| keep(version, message, p)).boxed()
}

/// Track properties: some of the draft's own within their ranges, some unknown.
pub(crate) fn track_properties(version: Version) -> BoxedStrategy<Properties> {
    let own = (option::of(0u64..=1), option::of(0u64..=255), option::of(1u64..=2));
    // Beyond all that the drafts name, and not mandatory ones.
    let unknown = vec((0x80u64..0x3000, int(version), text(20)), 0..4);
    (own, unknown)
        .prop_map(|((dynamic, priority, order), unknown)| {
            let mut properties = Properties::new();
            let own = [
                (property::DYNAMIC_GROUPS, dynamic),
                (property::DEFAULT_PUBLISHER_PRIORITY, priority),
                (property::DEFAULT_PUBLISHER_GROUP_ORDER, order),
            ];
            for (kind, value) in own {
                if let Some(value) = value {
                    properties.push_int(kind, value);
                }
            }
            for (kind, int, bytes) in unknown {
                match kind % 2 {
                    0 => properties.push_int(kind, int),
                    _ => properties.push_bytes(kind, bytes),
                }
            }
            properties
        })
        .boxed()
}

fn setup(version: Version) -> BoxedStrategy<Setup> {
    let text = || option::of(text(20));
    let limits = (option::of(int(version)), option::of(int(version)), option::of(int(version)));
    let tokens = vec(token(version), 0..3);
    (text(), text(), text(), text(), limits, tokens)
        .prop_map(move |(path, authority, implementation, node, limits, authorization_tokens)| {
            Setup {
                path,
                authority,
                implementation,
                node,
                authorization_tokens,
                max_auth_token_cache_size: limits.0,
                max_filter_ranges: limits.1.filter(|_| version >= Version::Draft22),
                max_request_updates: limits.2.filter(|_| version >= Version::Draft22),
            }
        })
        .boxed()
}

/// A group's end; of the last group that can be written, that of the track.
fn end_of(version: Version, group: u64) -> Location {
    match group == version.int_coding().max() {
        true => Location::LAST,
        false => Location::end_of(group),
    }
}

fn fetch_range(version: Version) -> BoxedStrategy<FetchRange> {
    let ends = (location(version), location(version), 0..4);
    let standalone = (track(), ends).prop_map(move |(track, (a, b, open))| {
        let (start, end) = (a.min(b), a.max(b));
        let end = match open {
            0 => Location::LAST,
            1 => end_of(version, end.group),
            _ if end.object == version.int_coding().max() => end_of(version, end.group),
            _ => end,
        };
        FetchRange::Standalone { track, start, end }
    });
    if version >= Version::Draft22 {
        let relative = (track(), int(version))
            .prop_map(|(track, groups)| FetchRange::RelativeStart { track, groups });
        return prop_oneof![3 => standalone, 1 => relative].boxed();
    }
    prop_oneof![
        2 => standalone,
        1 => (int(version), int(version))
            .prop_map(|(joining, groups)| FetchRange::RelativeJoining { joining, groups }),
        1 => (int(version), int(version))
            .prop_map(|(joining, group)| FetchRange::AbsoluteJoining { joining, group }),
    ]
    .boxed()
}

/// Requests; those of draft 16 that have a stream of their own are not among them.
fn request(version: Version) -> BoxedStrategy<Request> {
    let p = move |message| parameters(version, message);
    let common = prop_oneof![
        (track(), p(In::Subscribe))
            .prop_map(|(track, parameters)| Request::Subscribe(Subscribe { track, parameters })),
        (track(), p(In::TrackStatus)).prop_map(|(track, parameters)| Request::TrackStatus(
            TrackStatus { track, parameters }
        )),
        (track(), int(version), p(In::Publish), track_properties(version)).prop_map(
            |(track, track_alias, parameters, properties)| {
                Request::Publish(Publish { track, track_alias, parameters, properties })
            }
        ),
        (fetch_range(version), p(In::Fetch)).prop_map(|(range, mut parameters)| {
            parameters.set_locations(None);
            Request::Fetch(Fetch { range, parameters })
        }),
        (namespace(1), p(In::TrackStatus)).prop_map(|(namespace, mut parameters)| {
            parameters.include_properties = None;
            Request::PublishNamespace(PublishNamespace { namespace, parameters })
        }),
    ];
    if version == Version::Draft16 {
        return common.boxed();
    }
    prop_oneof![
        5 => common,
        1 => (namespace(0), p(In::Namespaces)).prop_map(|(prefix, parameters)| {
            Request::SubscribeNamespace(SubscribeNamespace { prefix, parameters })
        }),
        1 => (namespace(0), p(In::Tracks)).prop_map(|(prefix, parameters)| {
            Request::SubscribeTracks(SubscribeTracks { prefix, parameters })
        }),
    ]
    .boxed()
}

fn request_error(version: Version) -> impl Strategy<Value = RequestError> {
    let redirect = (text(20), track()).prop_map(|(uri, track)| Redirect { uri, track });
    let retry = option::of(int(version).prop_map(move |ms| ms.min(version.int_coding().max() - 1)));
    (int(version), retry, text(40), option::of(redirect)).prop_map(
        move |(code, retry_after, reason, redirect)| {
            let redirect = redirect.filter(|_| version > Version::Draft16);
            let code = match (&redirect, RequestErrorCode(code)) {
                (Some(_), _) => RequestErrorCode::REDIRECT,
                (None, RequestErrorCode::REDIRECT) => RequestErrorCode::TIMEOUT,
                (None, code) => code,
            };
            RequestError { code, retry_after, reason, redirect }
        },
    )
}

fn publish_done(version: Version) -> impl Strategy<Value = PublishDone> {
    let unknown = Just(PublishDone::UNKNOWN_COUNT);
    // 2^62-1 means "unknown" until draft 18.
    let count = prop_oneof![3 => int(version).prop_map(|n| n & !1), 1 => unknown];
    (prop_oneof![0u64..20, int(version)], count, text(40)).prop_map(
        |(code, stream_count, reason)| PublishDone {
            code: PublishDoneCode(code),
            stream_count,
            reason,
        },
    )
}

/// Answers that name their request in draft 16.
fn response(version: Version) -> BoxedStrategy<Response> {
    let p = move |message| parameters(version, message);
    let properties = move || track_properties(version);
    // Draft 16 must be able to write the object after the last.
    let max = version.int_coding().max();
    let ends = prop_oneof![
        location(version).prop_map(move |end| match end.object == max {
            true => end_of(version, end.group),
            false => end,
        }),
        int(version).prop_map(move |group| end_of(version, group)),
    ];
    let ok = (p(In::Ok), properties()).prop_map(move |(parameters, properties)| {
        let properties = match version {
            Version::Draft16 => Properties::new(),
            _ => properties,
        };
        Response::Ok(RequestOk { parameters, properties })
    });
    prop_oneof![
        ok,
        request_error(version).prop_map(Response::Error),
        (int(version), p(In::SubscribeOk), properties()).prop_map(
            |(track_alias, parameters, properties)| {
                Response::SubscribeOk(SubscribeOk { track_alias, parameters, properties })
            }
        ),
        (any::<bool>(), ends, p(In::FetchOk), properties()).prop_map(
            |(end_of_track, end, parameters, properties)| {
                Response::FetchOk(FetchOk { end_of_track, end, parameters, properties })
            },
        ),
        publish_done(version).prop_map(Response::PublishDone),
    ]
    .boxed()
}

fn suffix_response() -> impl Strategy<Value = Response> {
    prop_oneof![
        namespace(0).prop_map(Response::Namespace),
        namespace(0).prop_map(Response::NamespaceDone),
    ]
}

fn goaway(version: Version) -> impl Strategy<Value = GoAway> {
    (text(60), int(version), option::of(int(version))).prop_map(move |(uri, timeout, request)| {
        GoAway {
            uri,
            timeout: if version == Version::Draft16 { 0 } else { timeout },
            request: request.filter(|_| version == Version::Draft18),
        }
    })
}

fn update(version: Version) -> impl Strategy<Value = RequestUpdate> {
    (int(version), parameters(version, In::Update))
        .prop_map(|(id, parameters)| RequestUpdate { id, parameters })
}

/// Every message of a draft.
pub(crate) fn control(version: Version) -> BoxedStrategy<Control> {
    if version == Version::Draft16 {
        return shared().prop_map(Control::Shared).boxed();
    }
    let blocked = (namespace(0), text(12))
        .prop_map(|(suffix, name)| Response::PublishBlocked(PublishBlocked { suffix, name }));
    let mut responses = vec![response(version), suffix_response().boxed(), blocked.boxed()];
    if version >= Version::Draft22 {
        let notify = parameters(version, In::Notify).prop_map(Response::StateNotify);
        responses.push(notify.boxed());
    }
    prop_oneof![
        1 => setup(version).prop_map(Message::Setup).boxed(),
        1 => goaway(version).prop_map(Message::GoAway).boxed(),
        7 => (int(version), request(version)).prop_map(|(id, request)| Message::Request { id, request }).boxed(),
        2 => update(version).prop_map(Message::Update).boxed(),
        8 => proptest::strategy::Union::new(responses).prop_map(Message::Response),
    ]
    .prop_map(Control::Streams)
    .boxed()
}

fn shared() -> impl Strategy<Value = SharedMessage> {
    let v = Version::Draft16;
    let role = prop_oneof![Just(Role::Client), Just(Role::Server)];
    let interest =
        prop_oneof![Just(Interest::Tracks), Just(Interest::Namespaces), Just(Interest::Both)];
    prop_oneof![
        2 => (role, setup(v), int(v)).prop_map(|(from, setup, max_request_id)| {
            SharedMessage::Setup { from, setup, max_request_id }
        }),
        1 => goaway(v).prop_map(SharedMessage::GoAway),
        1 => int(v).prop_map(SharedMessage::MaxRequestId),
        1 => int(v).prop_map(SharedMessage::RequestsBlocked),
        1 => int(v).prop_map(SharedMessage::Unsubscribe),
        1 => int(v).prop_map(SharedMessage::FetchCancel),
        1 => int(v).prop_map(SharedMessage::PublishNamespaceDone),
        1 => (int(v), int(v), text(30)).prop_map(|(id, code, reason)| {
            SharedMessage::PublishNamespaceCancel { id, code: RequestErrorCode(code), reason }
        }),
        7 => (int(v), request(v)).prop_map(|(id, request)| SharedMessage::Request { id, request }),
        2 => (int(v), namespace(0), interest, parameters(v, In::Namespaces)).prop_map(
            |(id, prefix, interest, parameters)| SharedMessage::SubscribeNamespace {
                id, prefix, interest, parameters,
            }
        ),
        2 => (int(v), update(v))
            .prop_map(|(existing, update)| SharedMessage::Update { existing, update }),
        2 => (int(v), parameters(v, In::PublishOk))
            .prop_map(|(to, parameters)| SharedMessage::PublishOk { to, parameters }),
        6 => (int(v), response(v))
            .prop_map(|(to, response)| SharedMessage::Response { to: Some(to), response }),
        2 => suffix_response()
            .prop_map(|response| SharedMessage::Response { to: None, response }),
    ]
}
