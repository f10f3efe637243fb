//! draft-ietf-moq-transport-18.

use bytes::Bytes;

use crate::{
    AuthToken, Fetch, FetchOk, FetchRange, Filter, FullTrackName, GoAway, GroupOrder, Location,
    Message, Namespace, Parameters, Properties, ProtocolError, Publish, PublishBlocked,
    PublishDone, PublishDoneCode, PublishNamespace, Reader, Redirect, Request, RequestError,
    RequestErrorCode, RequestOk, RequestUpdate, Response, SessionCode, Setup, Subscribe,
    SubscribeNamespace, SubscribeOk, SubscribeTracks, TrackStatus, Writer,
};

/// Message types ("Control Messages").
mod kind {
    pub(super) const REQUEST_UPDATE: u64 = 0x2;
    pub(super) const SUBSCRIBE: u64 = 0x3;
    pub(super) const SUBSCRIBE_OK: u64 = 0x4;
    pub(super) const REQUEST_ERROR: u64 = 0x5;
    pub(super) const PUBLISH_NAMESPACE: u64 = 0x6;
    pub(super) const REQUEST_OK: u64 = 0x7;
    pub(super) const NAMESPACE: u64 = 0x8;
    pub(super) const PUBLISH_DONE: u64 = 0xb;
    pub(super) const TRACK_STATUS: u64 = 0xd;
    pub(super) const NAMESPACE_DONE: u64 = 0xe;
    pub(super) const PUBLISH_BLOCKED: u64 = 0xf;
    pub(super) const GOAWAY: u64 = 0x10;
    pub(super) const FETCH: u64 = 0x16;
    pub(super) const FETCH_OK: u64 = 0x18;
    pub(super) const PUBLISH: u64 = 0x1d;
    pub(super) const SUBSCRIBE_NAMESPACE: u64 = 0x50;
    pub(super) const SUBSCRIBE_TRACKS: u64 = 0x51;
    pub(super) const SETUP: u64 = 0x2f00;

    pub(super) const ALL: [u64; 18] = [
        REQUEST_UPDATE,
        SUBSCRIBE,
        SUBSCRIBE_OK,
        REQUEST_ERROR,
        PUBLISH_NAMESPACE,
        REQUEST_OK,
        NAMESPACE,
        PUBLISH_DONE,
        TRACK_STATUS,
        NAMESPACE_DONE,
        PUBLISH_BLOCKED,
        GOAWAY,
        FETCH,
        FETCH_OK,
        PUBLISH,
        SUBSCRIBE_NAMESPACE,
        SUBSCRIBE_TRACKS,
        SETUP,
    ];
}

/// Message parameter types ("Message Parameters").
mod param {
    pub(super) const OBJECT_DELIVERY_TIMEOUT: u64 = 0x02;
    pub(super) const AUTHORIZATION_TOKEN: u64 = 0x03;
    pub(super) const RENDEZVOUS_TIMEOUT: u64 = 0x04;
    pub(super) const SUBGROUP_DELIVERY_TIMEOUT: u64 = 0x06;
    pub(super) const EXPIRES: u64 = 0x08;
    pub(super) const LARGEST_OBJECT: u64 = 0x09;
    pub(super) const FILL_TIMEOUT: u64 = 0x0a;
    pub(super) const FORWARD: u64 = 0x10;
    pub(super) const SUBSCRIBER_PRIORITY: u64 = 0x20;
    pub(super) const SUBSCRIPTION_FILTER: u64 = 0x21;
    pub(super) const GROUP_ORDER: u64 = 0x22;
    pub(super) const NEW_GROUP_REQUEST: u64 = 0x32;
    pub(super) const TRACK_NAMESPACE_PREFIX: u64 = 0x34;

    /// The message types a parameter may appear in. REQUEST_OK stands for every answer it serves
    /// as; which one it is, only the session knows.
    pub(super) fn allowed_in(kind: u64) -> Option<&'static [u64]> {
        use super::kind::{
            FETCH, PUBLISH, PUBLISH_NAMESPACE, REQUEST_OK, REQUEST_UPDATE, SUBSCRIBE,
            SUBSCRIBE_NAMESPACE, SUBSCRIBE_OK, SUBSCRIBE_TRACKS, TRACK_STATUS,
        };
        Some(match kind {
            AUTHORIZATION_TOKEN => &[
                PUBLISH,
                SUBSCRIBE,
                REQUEST_UPDATE,
                SUBSCRIBE_NAMESPACE,
                SUBSCRIBE_TRACKS,
                PUBLISH_NAMESPACE,
                TRACK_STATUS,
                FETCH,
            ],
            OBJECT_DELIVERY_TIMEOUT | SUBGROUP_DELIVERY_TIMEOUT => {
                &[REQUEST_OK, SUBSCRIBE, REQUEST_UPDATE]
            }
            RENDEZVOUS_TIMEOUT => &[SUBSCRIBE],
            EXPIRES => &[SUBSCRIBE_OK, PUBLISH, REQUEST_OK],
            LARGEST_OBJECT => &[SUBSCRIBE_OK, PUBLISH, REQUEST_OK],
            FILL_TIMEOUT => &[FETCH],
            FORWARD => &[SUBSCRIBE, REQUEST_UPDATE, PUBLISH, REQUEST_OK, SUBSCRIBE_TRACKS],
            SUBSCRIBER_PRIORITY => &[SUBSCRIBE, FETCH, REQUEST_UPDATE, REQUEST_OK],
            SUBSCRIPTION_FILTER => &[SUBSCRIBE, REQUEST_OK, REQUEST_UPDATE],
            GROUP_ORDER => &[SUBSCRIBE, REQUEST_OK, FETCH],
            NEW_GROUP_REQUEST => &[REQUEST_OK, SUBSCRIBE, REQUEST_UPDATE],
            TRACK_NAMESPACE_PREFIX => &[REQUEST_UPDATE],
            _ => return None,
        })
    }
}

/// Setup option types ("Setup Options").
mod option {
    pub(super) const PATH: u64 = 0x01;
    pub(super) const AUTHORIZATION_TOKEN: u64 = 0x03;
    pub(super) const MAX_AUTH_TOKEN_CACHE_SIZE: u64 = 0x04;
    pub(super) const AUTHORITY: u64 = 0x05;
    pub(super) const MOQT_IMPLEMENTATION: u64 = 0x07;
    /// Ours, unregistered: the name of a relay in its tree.
    pub(super) const WEIR_NODE: u64 = 0x5745_4952_0001;
}

const MAX_REASON: usize = 1024;
const MAX_URI: usize = 8192;
const MAX_TEXT: usize = u16::MAX as usize;

/// Whether this draft has a message of that type.
pub(super) fn is_message(kind: u64) -> bool {
    kind::ALL.contains(&kind)
}

/// Writes the payload and returns the message type.
pub(super) fn encode(message: &Message, w: &mut Writer) -> u64 {
    match message {
        Message::Setup(setup) => {
            encode_setup(setup, w);
            kind::SETUP
        }
        Message::GoAway(goaway) => {
            w.prefixed(&goaway.uri);
            w.int(goaway.timeout);
            if let Some(request) = goaway.request {
                w.int(request);
            }
            kind::GOAWAY
        }
        Message::Request { id, request } => {
            w.int(*id);
            encode_request(request, w)
        }
        Message::Update(update) => {
            w.int(update.id);
            encode_parameters(&update.parameters, w);
            kind::REQUEST_UPDATE
        }
        Message::Response(response) => encode_response(response, w),
    }
}

fn encode_request(request: &Request, w: &mut Writer) -> u64 {
    match request {
        Request::Subscribe(Subscribe { track, parameters }) => {
            track.encode(w);
            encode_parameters(parameters, w);
            kind::SUBSCRIBE
        }
        Request::TrackStatus(TrackStatus { track, parameters }) => {
            track.encode(w);
            encode_parameters(parameters, w);
            kind::TRACK_STATUS
        }
        Request::Publish(publish) => {
            publish.track.encode(w);
            w.int(publish.track_alias);
            encode_parameters(&publish.parameters, w);
            publish.properties.encode(w);
            kind::PUBLISH
        }
        Request::Fetch(fetch) => {
            match &fetch.range {
                FetchRange::Standalone { track, start, end } => {
                    w.int(1);
                    track.encode(w);
                    encode_location(*start, w);
                    encode_location(*end, w);
                }
                FetchRange::RelativeJoining { joining, groups } => {
                    w.int(2);
                    w.int(*joining);
                    w.int(*groups);
                }
                FetchRange::AbsoluteJoining { joining, group } => {
                    w.int(3);
                    w.int(*joining);
                    w.int(*group);
                }
            }
            encode_parameters(&fetch.parameters, w);
            kind::FETCH
        }
        Request::PublishNamespace(PublishNamespace { namespace, parameters }) => {
            namespace.encode(w);
            encode_parameters(parameters, w);
            kind::PUBLISH_NAMESPACE
        }
        Request::SubscribeNamespace(SubscribeNamespace { prefix, parameters }) => {
            prefix.encode(w);
            encode_parameters(parameters, w);
            kind::SUBSCRIBE_NAMESPACE
        }
        Request::SubscribeTracks(SubscribeTracks { prefix, parameters }) => {
            prefix.encode(w);
            encode_parameters(parameters, w);
            kind::SUBSCRIBE_TRACKS
        }
    }
}

fn encode_response(response: &Response, w: &mut Writer) -> u64 {
    match response {
        Response::Ok(ok) => {
            encode_parameters(&ok.parameters, w);
            ok.properties.encode(w);
            kind::REQUEST_OK
        }
        Response::Error(error) => {
            w.int(error.code.0);
            w.int(error.retry_after.map_or(0, |ms| ms.saturating_add(1)));
            w.prefixed(truncated(&error.reason));
            if let Some(redirect) = &error.redirect {
                w.prefixed(&redirect.uri);
                redirect.track.encode(w);
            }
            kind::REQUEST_ERROR
        }
        Response::SubscribeOk(ok) => {
            w.int(ok.track_alias);
            encode_parameters(&ok.parameters, w);
            ok.properties.encode(w);
            kind::SUBSCRIBE_OK
        }
        Response::FetchOk(ok) => {
            w.u8(u8::from(ok.end_of_track));
            encode_location(ok.end, w);
            encode_parameters(&ok.parameters, w);
            ok.properties.encode(w);
            kind::FETCH_OK
        }
        Response::PublishDone(done) => {
            w.int(done.code.0);
            w.int(done.stream_count);
            w.prefixed(truncated(&done.reason));
            kind::PUBLISH_DONE
        }
        Response::Namespace(suffix) => {
            suffix.encode(w);
            kind::NAMESPACE
        }
        Response::NamespaceDone(suffix) => {
            suffix.encode(w);
            kind::NAMESPACE_DONE
        }
        Response::PublishBlocked(PublishBlocked { suffix, name }) => {
            suffix.encode(w);
            w.prefixed(name);
            kind::PUBLISH_BLOCKED
        }
    }
}

/// A reason cut to what the peer must accept.
fn truncated(reason: &Bytes) -> &[u8] {
    &reason[..reason.len().min(MAX_REASON)]
}

fn encode_location(location: Location, w: &mut Writer) {
    w.int(location.group);
    w.int(location.object);
}

fn encode_setup(setup: &Setup, w: &mut Writer) {
    let mut options = Properties::new();
    if let Some(path) = &setup.path {
        options.push_bytes(option::PATH, path.clone());
    }
    for token in &setup.authorization_tokens {
        let mut nested = w.nested();
        token.encode(&mut nested);
        options.push_bytes(option::AUTHORIZATION_TOKEN, nested.finish());
    }
    if let Some(size) = setup.max_auth_token_cache_size {
        options.push_int(option::MAX_AUTH_TOKEN_CACHE_SIZE, size);
    }
    if let Some(authority) = &setup.authority {
        options.push_bytes(option::AUTHORITY, authority.clone());
    }
    if let Some(implementation) = &setup.implementation {
        options.push_bytes(option::MOQT_IMPLEMENTATION, implementation.clone());
    }
    if let Some(node) = &setup.node {
        options.push_bytes(option::WEIR_NODE, node.clone());
    }
    options.encode(w);
}

/// Writes parameters in ascending order of type, counted.
fn encode_parameters(p: &Parameters, w: &mut Writer) {
    let mut count = 0;
    let mut previous = 0;
    let mut body = w.nested();
    let mut next = |body: &mut Writer, kind: u64| {
        body.int(kind - previous);
        previous = kind;
        count += 1;
    };
    if let Some(ms) = p.object_delivery_timeout {
        next(&mut body, param::OBJECT_DELIVERY_TIMEOUT);
        body.int(ms);
    }
    for token in &p.authorization_tokens {
        next(&mut body, param::AUTHORIZATION_TOKEN);
        let mut nested = body.nested();
        token.encode(&mut nested);
        body.prefixed(&nested.finish());
    }
    if let Some(ms) = p.rendezvous_timeout {
        next(&mut body, param::RENDEZVOUS_TIMEOUT);
        body.int(ms);
    }
    if let Some(ms) = p.subgroup_delivery_timeout {
        next(&mut body, param::SUBGROUP_DELIVERY_TIMEOUT);
        body.int(ms);
    }
    if let Some(ms) = p.expires {
        next(&mut body, param::EXPIRES);
        body.int(ms);
    }
    if let Some(largest) = p.largest_object {
        next(&mut body, param::LARGEST_OBJECT);
        encode_location(largest, &mut body);
    }
    if let Some(ms) = p.fill_timeout {
        next(&mut body, param::FILL_TIMEOUT);
        body.int(ms);
    }
    if let Some(forward) = p.forward {
        next(&mut body, param::FORWARD);
        body.u8(u8::from(forward));
    }
    if let Some(priority) = p.subscriber_priority {
        next(&mut body, param::SUBSCRIBER_PRIORITY);
        body.u8(priority);
    }
    if let Some(filter) = p.filter {
        next(&mut body, param::SUBSCRIPTION_FILTER);
        let mut nested = body.nested();
        encode_filter(filter, &mut nested);
        body.prefixed(&nested.finish());
    }
    if let Some(order) = p.group_order {
        next(&mut body, param::GROUP_ORDER);
        body.u8(match order {
            GroupOrder::Ascending => 1,
            GroupOrder::Descending => 2,
        });
    }
    if let Some(group) = p.new_group_request {
        next(&mut body, param::NEW_GROUP_REQUEST);
        body.int(group);
    }
    if let Some(prefix) = &p.track_namespace_prefix {
        next(&mut body, param::TRACK_NAMESPACE_PREFIX);
        prefix.encode(&mut body);
    }
    w.int(count);
    w.bytes(&body.finish());
}

fn encode_filter(filter: Filter, w: &mut Writer) {
    match filter {
        Filter::NextGroupStart => w.int(1),
        Filter::LargestObject => w.int(2),
        Filter::AbsoluteStart { start } => {
            w.int(3);
            encode_location(start, w);
        }
        Filter::AbsoluteRange { start, end_group } => {
            w.int(4);
            encode_location(start, w);
            w.int(end_group.saturating_sub(start.group));
        }
    }
}

/// Reads the payload of a message of type `kind`.
pub(super) fn decode(kind: u64, r: &mut Reader) -> Result<Message, ProtocolError> {
    let request = |r: &mut Reader, decode: fn(&mut Reader) -> Result<Request, ProtocolError>| {
        let id = r.int("Request ID")?;
        Ok(Message::Request { id, request: decode(r)? })
    };
    match kind {
        kind::SETUP => Ok(Message::Setup(decode_setup(r)?)),
        kind::GOAWAY => Ok(Message::GoAway(GoAway {
            uri: r.prefixed(MAX_URI, "New Session URI")?,
            timeout: r.int("Timeout")?,
            request: if r.is_empty() { None } else { Some(r.int("Request ID")?) },
        })),
        kind::SUBSCRIBE => request(r, |r| {
            Ok(Request::Subscribe(Subscribe {
                track: FullTrackName::decode(r)?,
                parameters: decode_parameters(kind::SUBSCRIBE, r)?,
            }))
        }),
        kind::TRACK_STATUS => request(r, |r| {
            Ok(Request::TrackStatus(TrackStatus {
                track: FullTrackName::decode(r)?,
                parameters: decode_parameters(kind::TRACK_STATUS, r)?,
            }))
        }),
        kind::PUBLISH => request(r, |r| {
            Ok(Request::Publish(Publish {
                track: FullTrackName::decode(r)?,
                track_alias: r.int("Track Alias")?,
                parameters: decode_parameters(kind::PUBLISH, r)?,
                properties: decode_track_properties(r)?,
            }))
        }),
        kind::FETCH => request(r, |r| {
            Ok(Request::Fetch(Fetch {
                range: decode_fetch_range(r)?,
                parameters: decode_parameters(kind::FETCH, r)?,
            }))
        }),
        kind::PUBLISH_NAMESPACE => request(r, |r| {
            Ok(Request::PublishNamespace(PublishNamespace {
                namespace: Namespace::decode(r)?,
                parameters: decode_parameters(kind::PUBLISH_NAMESPACE, r)?,
            }))
        }),
        kind::SUBSCRIBE_NAMESPACE => request(r, |r| {
            Ok(Request::SubscribeNamespace(SubscribeNamespace {
                prefix: Namespace::decode(r)?,
                parameters: decode_parameters(kind::SUBSCRIBE_NAMESPACE, r)?,
            }))
        }),
        kind::SUBSCRIBE_TRACKS => request(r, |r| {
            Ok(Request::SubscribeTracks(SubscribeTracks {
                prefix: Namespace::decode(r)?,
                parameters: decode_parameters(kind::SUBSCRIBE_TRACKS, r)?,
            }))
        }),
        kind::REQUEST_UPDATE => Ok(Message::Update(RequestUpdate {
            id: r.int("Request ID")?,
            parameters: decode_parameters(kind, r)?,
        })),
        _ => Ok(Message::Response(decode_response(kind, r)?)),
    }
}

fn decode_response(kind: u64, r: &mut Reader) -> Result<Response, ProtocolError> {
    Ok(match kind {
        kind::REQUEST_OK => Response::Ok(RequestOk {
            parameters: decode_parameters(kind, r)?,
            properties: decode_track_properties(r)?,
        }),
        kind::REQUEST_ERROR => {
            let code = RequestErrorCode(r.int("Error Code")?);
            let retry_after = r.int("Retry Interval")?.checked_sub(1);
            let reason = r.prefixed(MAX_REASON, "Error Reason")?;
            let redirect = if code == RequestErrorCode::REDIRECT {
                let uri = r.prefixed(MAX_URI, "Connect URI")?;
                Some(Redirect { uri, track: FullTrackName::decode(r)? })
            } else {
                None
            };
            Response::Error(RequestError { code, retry_after, reason, redirect })
        }
        kind::SUBSCRIBE_OK => Response::SubscribeOk(SubscribeOk {
            track_alias: r.int("Track Alias")?,
            parameters: decode_parameters(kind, r)?,
            properties: decode_track_properties(r)?,
        }),
        kind::FETCH_OK => Response::FetchOk(FetchOk {
            end_of_track: match r.u8("End Of Track")? {
                0 => false,
                1 => true,
                other => {
                    return Err(ProtocolError::violation(format!("End Of Track is {other}")));
                }
            },
            end: decode_location(r, "End Location")?,
            parameters: decode_parameters(kind, r)?,
            properties: decode_track_properties(r)?,
        }),
        kind::PUBLISH_DONE => Response::PublishDone(PublishDone {
            code: PublishDoneCode(r.int("Status Code")?),
            stream_count: r.int("Stream Count")?,
            reason: r.prefixed(MAX_REASON, "Error Reason")?,
        }),
        kind::NAMESPACE => Response::Namespace(Namespace::decode(r)?),
        kind::NAMESPACE_DONE => Response::NamespaceDone(Namespace::decode(r)?),
        kind::PUBLISH_BLOCKED => Response::PublishBlocked(PublishBlocked {
            suffix: Namespace::decode(r)?,
            name: r.prefixed(MAX_TEXT, "Track Name")?,
        }),
        other => return Err(ProtocolError::violation(format!("unknown message type {other:#x}"))),
    })
}

fn decode_location(r: &mut Reader, field: &'static str) -> Result<Location, ProtocolError> {
    Ok(Location { group: r.int(field)?, object: r.int(field)? })
}

fn decode_fetch_range(r: &mut Reader) -> Result<FetchRange, ProtocolError> {
    match r.int("Fetch Type")? {
        1 => Ok(FetchRange::Standalone {
            track: FullTrackName::decode(r)?,
            start: decode_location(r, "Start Location")?,
            end: decode_location(r, "End Location")?,
        }),
        2 => Ok(FetchRange::RelativeJoining {
            joining: r.int("Joining Request ID")?,
            groups: r.int("Joining Start")?,
        }),
        3 => Ok(FetchRange::AbsoluteJoining {
            joining: r.int("Joining Request ID")?,
            group: r.int("Joining Start")?,
        }),
        other => Err(ProtocolError::violation(format!("unknown Fetch Type {other:#x}"))),
    }
}

fn decode_setup(r: &mut Reader) -> Result<Setup, ProtocolError> {
    let mut setup = Setup::default();
    let nested = r.nested(Bytes::new());
    let options = Properties::decode(r.rest(), crate::IntCoding::LeadingOnes)?;
    let mut previous = None;
    for (kind, value) in options.iter() {
        let repeated = previous.replace(kind) == Some(kind);
        let repeatable = kind == option::AUTHORIZATION_TOKEN || !known_option(kind);
        if repeated && !repeatable {
            return Err(ProtocolError::violation(format!("setup option {kind:#x} is repeated")));
        }
        match (kind, value) {
            (option::PATH, crate::PropertyValue::Bytes(path)) => setup.path = Some(path.clone()),
            (option::AUTHORITY, crate::PropertyValue::Bytes(authority)) => {
                setup.authority = Some(authority.clone());
            }
            (option::MAX_AUTH_TOKEN_CACHE_SIZE, crate::PropertyValue::Int(size)) => {
                setup.max_auth_token_cache_size = Some(*size);
            }
            (option::AUTHORIZATION_TOKEN, crate::PropertyValue::Bytes(token)) => {
                setup.authorization_tokens.push(AuthToken::decode(nested.nested(token.clone()))?);
            }
            (option::MOQT_IMPLEMENTATION, crate::PropertyValue::Bytes(name)) => {
                setup.implementation = Some(name.clone());
            }
            (option::WEIR_NODE, crate::PropertyValue::Bytes(node)) => {
                setup.node = Some(node.clone());
            }
            // "Endpoints MUST ignore unknown Setup Options".
            _ => {}
        }
    }
    Ok(setup)
}

fn known_option(kind: u64) -> bool {
    matches!(
        kind,
        option::PATH
            | option::AUTHORITY
            | option::MAX_AUTH_TOKEN_CACHE_SIZE
            | option::AUTHORIZATION_TOKEN
            | option::MOQT_IMPLEMENTATION
    )
}

fn decode_track_properties(r: &mut Reader) -> Result<Properties, ProtocolError> {
    use crate::property;
    let properties = Properties::decode(r.rest(), crate::IntCoding::LeadingOnes)?;
    let out_of_range = |kind, max| properties.int(kind).is_some_and(|value| value > max);
    if out_of_range(property::DYNAMIC_GROUPS, 1)
        || out_of_range(property::DEFAULT_PUBLISHER_PRIORITY, 255)
        || out_of_range(property::DEFAULT_PUBLISHER_GROUP_ORDER, 2)
        || properties.int(property::DEFAULT_PUBLISHER_GROUP_ORDER) == Some(0)
    {
        return Err(ProtocolError::violation("a track property is out of its range"));
    }
    Ok(properties)
}

fn decode_parameters(message: u64, r: &mut Reader) -> Result<Parameters, ProtocolError> {
    let count = r.int("Number of Parameters")?;
    let mut p = Parameters::default();
    let mut kind = 0u64;
    for index in 0..count {
        let delta = r.int("Parameter Type")?;
        kind = kind
            .checked_add(delta)
            .ok_or_else(|| ProtocolError::violation("a parameter type exceeds 2^64-1"))?;
        let Some(allowed) = param::allowed_in(kind) else {
            return Err(ProtocolError::violation(format!("unknown message parameter {kind:#x}")));
        };
        if !allowed.contains(&message) {
            return Err(ProtocolError::violation(format!(
                "parameter {kind:#x} may not appear in message type {message:#x}"
            )));
        }
        if index > 0 && delta == 0 && kind != param::AUTHORIZATION_TOKEN {
            return Err(ProtocolError::violation(format!("parameter {kind:#x} is repeated")));
        }
        decode_parameter(kind, &mut p, r)?;
    }
    Ok(p)
}

fn decode_parameter(kind: u64, p: &mut Parameters, r: &mut Reader) -> Result<(), ProtocolError> {
    match kind {
        param::OBJECT_DELIVERY_TIMEOUT => {
            p.object_delivery_timeout = Some(r.int("OBJECT_DELIVERY_TIMEOUT")?);
        }
        param::AUTHORIZATION_TOKEN => {
            let token = r.prefixed(MAX_TEXT, "AUTHORIZATION_TOKEN")?;
            p.authorization_tokens.push(AuthToken::decode(r.nested(token))?);
        }
        param::RENDEZVOUS_TIMEOUT => p.rendezvous_timeout = Some(r.int("RENDEZVOUS_TIMEOUT")?),
        param::SUBGROUP_DELIVERY_TIMEOUT => {
            p.subgroup_delivery_timeout = Some(r.int("SUBGROUP_DELIVERY_TIMEOUT")?);
        }
        param::EXPIRES => p.expires = Some(r.int("EXPIRES")?),
        param::LARGEST_OBJECT => p.largest_object = Some(decode_location(r, "LARGEST_OBJECT")?),
        param::FILL_TIMEOUT => p.fill_timeout = Some(r.int("FILL_TIMEOUT")?),
        param::FORWARD => {
            p.forward = Some(match r.u8("FORWARD")? {
                0 => false,
                1 => true,
                other => return Err(ProtocolError::violation(format!("FORWARD is {other}"))),
            });
        }
        param::SUBSCRIBER_PRIORITY => p.subscriber_priority = Some(r.u8("SUBSCRIBER_PRIORITY")?),
        param::SUBSCRIPTION_FILTER => {
            let filter = r.prefixed(MAX_TEXT, "SUBSCRIPTION_FILTER")?;
            p.filter = Some(decode_filter(r.nested(filter))?);
        }
        param::GROUP_ORDER => {
            p.group_order = Some(match r.u8("GROUP_ORDER")? {
                1 => GroupOrder::Ascending,
                2 => GroupOrder::Descending,
                other => return Err(ProtocolError::violation(format!("GROUP_ORDER is {other}"))),
            });
        }
        param::NEW_GROUP_REQUEST => p.new_group_request = Some(r.int("NEW_GROUP_REQUEST")?),
        param::TRACK_NAMESPACE_PREFIX => p.track_namespace_prefix = Some(Namespace::decode(r)?),
        other => unreachable!("parameter {other:#x} has a row in allowed_in but no decoder"),
    }
    Ok(())
}

fn decode_filter(mut r: Reader) -> Result<Filter, ProtocolError> {
    // The value has a length of its own, so what does not fill it is a formatting error.
    let filter = match r.int("Filter Type")? {
        1 => Filter::NextGroupStart,
        2 => Filter::LargestObject,
        3 => Filter::AbsoluteStart { start: decode_location(&mut r, "Start Location")? },
        4 => {
            let start = decode_location(&mut r, "Start Location")?;
            let end_group = start
                .group
                .checked_add(r.int("End Group Delta")?)
                .ok_or_else(|| ProtocolError::violation("the filter's End Group exceeds 2^64-1"))?;
            Filter::AbsoluteRange { start, end_group }
        }
        other => return Err(ProtocolError::violation(format!("unknown Filter Type {other:#x}"))),
    };
    if !r.is_empty() {
        return Err(ProtocolError::new(
            SessionCode::KEY_VALUE_FORMATTING_ERROR,
            "SUBSCRIPTION_FILTER has bytes after its last field",
        ));
    }
    Ok(filter)
}
