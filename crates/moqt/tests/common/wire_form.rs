//! Messages under the names that their draft gives the fields, integers as decimal strings so that
//! any JSON reader keeps all 64 bits. Written from the drafts, apart from the codec.

use bytes::Bytes;
use moqt::codec::shared::{Interest, SharedMessage};
use moqt::*;
use serde_json::{Map, Value, json};

use super::Control;

/// A message's type and fields.
pub(crate) fn control(version: Version, message: &Control) -> (&'static str, Value) {
    let form = Form { version };
    match message {
        Control::Streams(message) => form.message(message),
        Control::Shared(message) => form.shared(message),
    }
}

pub(crate) fn parameters(request: &Request) -> &Parameters {
    match request {
        Request::Subscribe(r) => &r.parameters,
        Request::Publish(r) => &r.parameters,
        Request::Fetch(r) => &r.parameters,
        Request::TrackStatus(r) => &r.parameters,
        Request::PublishNamespace(r) => &r.parameters,
        Request::SubscribeNamespace(r) => &r.parameters,
        Request::SubscribeTracks(r) => &r.parameters,
    }
}

fn int(value: u64) -> Value {
    Value::String(value.to_string())
}

fn text(bytes: &Bytes) -> Value {
    Value::String(String::from_utf8_lossy(bytes).into_owned())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn namespace(namespace: &Namespace) -> Value {
    namespace.fields().iter().map(text).collect()
}

fn object(fields: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    fields.into_iter().map(|(name, value)| (name.to_string(), value)).collect::<Map<_, _>>().into()
}

fn merge(into: &mut Value, fields: Value) {
    let (Value::Object(into), Value::Object(fields)) = (into, fields) else { unreachable!() };
    into.extend(fields);
}

fn entry(kind: u64, name: Option<&str>, value: Value) -> Value {
    let mut entry = Map::from_iter([("type".into(), format!("{kind:#x}").into())]);
    entry.extend(name.map(|name| ("name".to_string(), name.into())));
    entry.insert("value".into(), value);
    entry.into()
}

fn raw_entry(kind: u64, name: Option<&str>, bytes: &Bytes) -> Value {
    let mut entry = json!({ "type": format!("{kind:#x}"), "raw_hex": hex(bytes) });
    if let Some(name) = name {
        merge(&mut entry, json!({ "name": name }));
    }
    entry
}

fn token(token: &AuthToken) -> Value {
    match token {
        AuthToken::Delete { alias } => json!({ "alias_type": "0", "token_alias": int(*alias) }),
        AuthToken::Register { alias, kind, value } => json!({
            "alias_type": "1",
            "token_alias": int(*alias),
            "token_type": int(*kind),
            "token_value": hex(value),
        }),
        AuthToken::UseAlias { alias } => json!({ "alias_type": "2", "token_alias": int(*alias) }),
        AuthToken::UseValue { kind, value } => json!({
            "alias_type": "3", "token_type": int(*kind), "token_value": hex(value),
        }),
    }
}

fn range_filter(filter: &RangeFilter) -> Value {
    let RangeFilter::Ranges { field, set, ranges } = filter else {
        return json!({ "removed": true });
    };
    let mut value = json!({ "set_id": int(u64::from(*set)) });
    if let RangeField::ObjectProperty(kind) | RangeField::TrackProperty(kind) = field {
        merge(&mut value, json!({ "property_type": int(*kind) }));
    }
    let ranges: Value = ranges
        .iter()
        .enumerate()
        .map(|(index, (start, end))| match *end == u64::MAX && index + 1 == ranges.len() {
            true => json!({ "start": int(*start) }),
            false => json!({ "start": int(*start), "end": int(*end) }),
        })
        .collect();
    merge(&mut value, json!({ "ranges": ranges }));
    value
}

struct Form {
    version: Version,
}

impl Form {
    fn is(&self, version: Version) -> bool {
        self.version == version
    }

    fn filter(&self, filter: LocationFilter) -> Value {
        let start = |kind: &str, start: Location| {
            json!({
                "filter_type": kind,
                "start_group": int(start.group),
                "start_object": int(start.object),
            })
        };
        let with = |mut value: Value, more: Value| {
            merge(&mut value, more);
            value
        };
        if self.is(Version::Draft22) {
            return match filter {
                LocationFilter::Unfiltered => json!({ "filter_type": "0" }),
                LocationFilter::NextGroupStart => json!({ "filter_type": "1", "start_group": "0" }),
                LocationFilter::RelativeStart { groups } => {
                    json!({ "filter_type": "1", "start_group": int(groups.get()) })
                }
                LocationFilter::AbsoluteStart { start: from } => start("2", from),
                LocationFilter::AbsoluteRange { start: from, end_group } => with(
                    start("3", from),
                    json!({ "end_group_delta": int(end_group - from.group) }),
                ),
                LocationFilter::ObjectRange { start: from, end } => with(
                    start("4", from),
                    json!({
                        "end_group_delta": int(end.group - from.group),
                        "end_object": int(end.object),
                    }),
                ),
                LocationFilter::LargestObject => json!({ "filter_type": "5" }),
            };
        }
        match filter {
            LocationFilter::NextGroupStart => json!({ "filter_type": "1" }),
            LocationFilter::LargestObject => json!({ "filter_type": "2" }),
            LocationFilter::Unfiltered => start("3", Location::FIRST),
            LocationFilter::AbsoluteStart { start: from } => start("3", from),
            LocationFilter::AbsoluteRange { start: from, end_group } => {
                let end = match self.version {
                    Version::Draft16 => end_group,
                    _ => end_group - from.group,
                };
                with(start("4", from), json!({ "end_group": int(end) }))
            }
            LocationFilter::RelativeStart { .. } | LocationFilter::ObjectRange { .. } => {
                unreachable!("not in this draft")
            }
        }
    }

    fn parameters(&self, p: &Parameters) -> Value {
        let v16 = self.is(Version::Draft16);
        let mut entries = Vec::new();
        let mut add = |kind, name, value: Option<Value>| {
            entries.extend(value.map(|value| entry(kind, Some(name), value)));
        };
        let object_timeout = if v16 { "delivery_timeout" } else { "object_delivery_timeout" };
        add(0x02, object_timeout, p.object_delivery_timeout.map(int));
        for value in &p.authorization_tokens {
            add(0x03, "authorization_token", Some(token(value)));
        }
        add(0x04, "rendezvous_timeout", p.rendezvous_timeout.map(int));
        add(0x06, "subgroup_delivery_timeout", p.subgroup_delivery_timeout.map(int));
        add(0x08, "expires", p.expires.map(int));
        let location = |l: Location| json!({ "group": int(l.group), "object": int(l.object) });
        add(0x09, "largest_object", p.largest_object.map(location));
        add(0x0a, "fill_timeout", p.fill_timeout.map(int));
        add(0x10, "forward", p.forward.map(|on| int(u64::from(on))));
        add(0x20, "subscriber_priority", p.subscriber_priority.map(|p| int(p.into())));
        let filter =
            if self.is(Version::Draft22) { "location_filter" } else { "subscription_filter" };
        add(0x21, filter, p.locations().map(|filter| self.filter(filter)));
        let order = |order| match order {
            GroupOrder::Ascending => int(1),
            GroupOrder::Descending => int(2),
        };
        add(0x22, "group_order", p.group_order.map(order));
        add(0x23, "fill_parameters", p.fill.as_ref().map(|fill| self.fill(fill)));
        for filter in &p.range_filters {
            let (kind, name) = match filter.field() {
                RangeField::Subgroup => (0x25, "subgroup_filter"),
                RangeField::Object => (0x26, "objectid_filter"),
                RangeField::Priority => (0x27, "priority_filter"),
                RangeField::ObjectProperty(_) => (0x28, "object_property_filter"),
                RangeField::TrackProperty(_) => (0x29, "track_property_filter"),
            };
            add(kind, name, Some(range_filter(filter)));
        }
        add(0x32, "new_group_request", p.new_group_request.map(int));
        add(0x34, "track_namespace_prefix", p.track_namespace_prefix.as_ref().map(namespace));
        add(0x35, "include_properties", p.include_properties.map(|on| int(u64::from(on))));
        entries.into()
    }

    fn fill(&self, fill: &Fill) -> Value {
        let mut p = Parameters {
            fill_timeout: fill.timeout,
            subscriber_priority: fill.subscriber_priority,
            group_order: fill.group_order,
            range_filters: fill.range_filters.clone(),
            ..Parameters::default()
        };
        p.set_locations(fill.filter);
        self.parameters(&p)
    }

    fn properties(&self, properties: &Properties) -> Value {
        properties
            .iter()
            .map(|(kind, value)| {
                let v16 = self.is(Version::Draft16);
                let name = match kind {
                    property::OBJECT_DELIVERY_TIMEOUT if v16 => Some("delivery_timeout"),
                    property::OBJECT_DELIVERY_TIMEOUT => Some("object_delivery_timeout"),
                    property::MAX_CACHE_DURATION => Some("max_cache_duration"),
                    property::SUBGROUP_DELIVERY_TIMEOUT if !v16 => {
                        Some("subgroup_delivery_timeout")
                    }
                    property::IMMUTABLE if v16 => Some("immutable_extensions"),
                    property::IMMUTABLE => Some("immutable_properties"),
                    property::DEFAULT_PUBLISHER_PRIORITY => Some("default_publisher_priority"),
                    property::DEFAULT_PUBLISHER_GROUP_ORDER => {
                        Some("default_publisher_group_order")
                    }
                    property::DYNAMIC_GROUPS => Some("dynamic_groups"),
                    _ => None,
                };
                match value {
                    PropertyValue::Int(value) => entry(kind, name, int(*value)),
                    PropertyValue::Bytes(bytes) if v16 && name.is_some() => {
                        entry(kind, name, text(bytes))
                    }
                    PropertyValue::Bytes(bytes) => raw_entry(kind, name, bytes),
                }
            })
            .collect()
    }

    /// The properties field, which draft 16 calls otherwise.
    fn with_properties(&self, mut fields: Value, properties: &Properties) -> Value {
        let value = self.properties(properties);
        match self.version {
            Version::Draft16 if properties.is_empty() => {}
            Version::Draft16 => merge(&mut fields, json!({ "track_extensions": value })),
            _ => merge(&mut fields, json!({ "track_properties": value })),
        }
        fields
    }

    fn options(&self, setup: &Setup, max_request_id: Option<u64>) -> Value {
        let mut entries = Vec::new();
        let bytes = |value: &Option<Bytes>| value.as_ref().map(text);
        let mut add = |kind, name, value: Option<Value>| {
            entries.extend(value.map(|value| entry(kind, Some(name), value)));
        };
        add(0x01, "path", bytes(&setup.path));
        add(0x02, "max_request_id", max_request_id.map(int));
        for value in &setup.authorization_tokens {
            add(0x03, "authorization_token", Some(token(value)));
        }
        add(0x04, "max_auth_token_cache_size", setup.max_auth_token_cache_size.map(int));
        add(0x05, "authority", bytes(&setup.authority));
        add(0x06, "max_filter_ranges", setup.max_filter_ranges.map(int));
        add(0x07, "moqt_implementation", bytes(&setup.implementation));
        add(0x08, "max_request_updates", setup.max_request_updates.map(int));
        entries.extend(setup.node.as_ref().map(|node| raw_entry(0x5745_4952_0001, None, node)));
        entries.into()
    }

    fn track(&self, track: &FullTrackName) -> Value {
        json!({
            "track_namespace": namespace(track.namespace()),
            "track_name": text(track.name()),
        })
    }

    fn message(&self, message: &Message) -> (&'static str, Value) {
        match message {
            Message::Setup(setup) => ("setup", json!({ "options": self.options(setup, None) })),
            Message::GoAway(goaway) => {
                let mut fields = json!({
                    "new_session_uri": text(&goaway.uri),
                    "timeout": int(goaway.timeout),
                });
                if let Some(request) = goaway.request {
                    merge(&mut fields, json!({ "request_id": int(request) }));
                }
                ("goaway", fields)
            }
            Message::Request { id, request } => self.request(*id, request),
            Message::Update(update) => (
                "request_update",
                json!({
                    "request_id": int(update.id),
                    "parameters": self.parameters(&update.parameters),
                }),
            ),
            Message::Response(response) => self.response(None, response),
        }
    }

    fn request(&self, id: RequestId, request: &Request) -> (&'static str, Value) {
        let mut fields = json!({ "request_id": int(id) });
        let mut with = |more: Value, p: &Parameters| {
            merge(&mut fields, more);
            merge(&mut fields, json!({ "parameters": self.parameters(p) }));
        };
        let name = match request {
            Request::Subscribe(r) => {
                with(self.track(&r.track), &r.parameters);
                "subscribe"
            }
            Request::TrackStatus(r) => {
                with(self.track(&r.track), &r.parameters);
                "track_status"
            }
            Request::Publish(r) => {
                with(self.track(&r.track), &r.parameters);
                merge(&mut fields, json!({ "track_alias": int(r.track_alias) }));
                fields = self.with_properties(fields, &r.properties);
                "publish"
            }
            Request::Fetch(r) => {
                let (range, p) = self.fetch(r);
                with(range, &p);
                "fetch"
            }
            Request::PublishNamespace(r) => {
                with(json!({ "track_namespace": namespace(&r.namespace) }), &r.parameters);
                "publish_namespace"
            }
            Request::SubscribeNamespace(r) => {
                with(json!({ "namespace_prefix": namespace(&r.prefix) }), &r.parameters);
                "subscribe_namespace"
            }
            Request::SubscribeTracks(r) => {
                with(json!({ "namespace_prefix": namespace(&r.prefix) }), &r.parameters);
                "subscribe_tracks"
            }
        };
        (name, fields)
    }

    fn fetch(&self, fetch: &Fetch) -> (Value, Parameters) {
        let mut p = fetch.parameters.clone();
        let range = match &fetch.range {
            FetchRange::RelativeStart { track, groups } => {
                let groups = std::num::NonZeroU64::new(*groups);
                p.set_locations(Some(match groups {
                    Some(groups) => LocationFilter::RelativeStart { groups },
                    None => LocationFilter::NextGroupStart,
                }));
                self.track(track)
            }
            FetchRange::Standalone { track, start, end } if self.is(Version::Draft22) => {
                let (start, end) = (*start, *end);
                p.set_locations(match end {
                    Location::LAST if start == Location::FIRST => None,
                    Location::LAST => Some(LocationFilter::AbsoluteStart { start }),
                    Location { group, object: u64::MAX } => {
                        Some(LocationFilter::AbsoluteRange { start, end_group: group })
                    }
                    end => Some(LocationFilter::ObjectRange { start, end }),
                });
                self.track(track)
            }
            FetchRange::Standalone { track, start, end } => {
                let mut fields = json!({ "fetch_type": "1" });
                merge(&mut fields, self.track(track));
                merge(
                    &mut fields,
                    json!({
                        "start_group": int(start.group),
                        "start_object": int(start.object),
                    }),
                );
                merge(&mut fields, self.end(*end));
                fields
            }
            FetchRange::RelativeJoining { joining, groups } => json!({
                "fetch_type": "2",
                "joining_request_id": int(*joining),
                "joining_start": int(*groups),
            }),
            FetchRange::AbsoluteJoining { joining, group } => json!({
                "fetch_type": "3",
                "joining_request_id": int(*joining),
                "joining_start": int(*group),
            }),
        };
        (range, p)
    }

    /// A range's end: until draft 19 one object further, and 0 for the whole group.
    fn end(&self, end: Location) -> Value {
        let (group, object) = match self.version {
            Version::Draft22 => (end.group, end.object),
            _ if end == Location::LAST => (self.version.int_coding().max(), 0),
            _ if end.object == u64::MAX => (end.group, 0),
            _ => (end.group, end.object + 1),
        };
        json!({ "end_group": int(group), "end_object": int(object) })
    }

    fn response(&self, to: Option<RequestId>, response: &Response) -> (&'static str, Value) {
        let (name, fields) = match response {
            Response::Ok(ok) => {
                let fields = json!({ "parameters": self.parameters(&ok.parameters) });
                let fields = match self.version {
                    Version::Draft16 => fields,
                    _ => self.with_properties(fields, &ok.properties),
                };
                ("request_ok", fields)
            }
            Response::Error(error) => {
                let mut fields = json!({
                    "error_code": int(error.code.0),
                    "retry_interval": int(error.retry_after.map_or(0, |ms| ms + 1)),
                    "reason_phrase": text(&error.reason),
                });
                if let Some(redirect) = &error.redirect {
                    let mut value = json!({ "connect_uri": text(&redirect.uri) });
                    merge(&mut value, self.track(&redirect.track));
                    merge(&mut fields, json!({ "redirect": value }));
                }
                ("request_error", fields)
            }
            Response::SubscribeOk(ok) => (
                "subscribe_ok",
                self.with_properties(
                    json!({
                        "track_alias": int(ok.track_alias),
                        "parameters": self.parameters(&ok.parameters),
                    }),
                    &ok.properties,
                ),
            ),
            Response::FetchOk(ok) => {
                let mut fields = self.end(ok.end);
                merge(
                    &mut fields,
                    json!({
                        "end_of_track": int(u64::from(ok.end_of_track)),
                        "parameters": self.parameters(&ok.parameters),
                    }),
                );
                ("fetch_ok", self.with_properties(fields, &ok.properties))
            }
            Response::PublishDone(done) => {
                let code = match (self.version, done.code) {
                    (Version::Draft16, PublishDoneCode::TOO_FAR_BEHIND) => 6,
                    (Version::Draft16, PublishDoneCode::EXPIRED) => 5,
                    (_, code) => code.0,
                };
                let count = match (self.version, done.stream_count) {
                    (Version::Draft16 | Version::Draft18, PublishDone::UNKNOWN_COUNT) => {
                        (1 << 62) - 1
                    }
                    (_, count) => count,
                };
                (
                    "publish_done",
                    json!({
                        "status_code": int(code),
                        "stream_count": int(count),
                        "reason_phrase": text(&done.reason),
                    }),
                )
            }
            Response::Namespace(suffix) => {
                ("namespace", json!({ "namespace_suffix": namespace(suffix) }))
            }
            Response::NamespaceDone(suffix) => {
                ("namespace_done", json!({ "namespace_suffix": namespace(suffix) }))
            }
            Response::PublishBlocked(blocked) => (
                if self.is(Version::Draft22) { "publish_skipped" } else { "publish_blocked" },
                json!({
                    "namespace_suffix": namespace(&blocked.suffix),
                    "track_name": text(&blocked.name),
                }),
            ),
            Response::StateNotify(p) => {
                ("publish_state_notify", json!({ "parameters": self.parameters(p) }))
            }
        };
        let mut all = object([]);
        if let Some(to) = to {
            merge(&mut all, json!({ "request_id": int(to) }));
        }
        merge(&mut all, fields);
        (name, all)
    }

    fn shared(&self, message: &SharedMessage) -> (&'static str, Value) {
        let only = |id: &u64| json!({ "request_id": int(*id) });
        match message {
            SharedMessage::Setup { from, setup, max_request_id } => (
                match from {
                    Role::Client => "client_setup",
                    Role::Server => "server_setup",
                },
                json!({ "parameters": self.options(setup, Some(*max_request_id)) }),
            ),
            SharedMessage::GoAway(goaway) => {
                ("goaway", json!({ "new_session_uri": text(&goaway.uri) }))
            }
            SharedMessage::MaxRequestId(id) => {
                ("max_request_id", json!({ "max_request_id": int(*id) }))
            }
            SharedMessage::RequestsBlocked(id) => {
                ("requests_blocked", json!({ "maximum_request_id": int(*id) }))
            }
            SharedMessage::Request { id, request } => self.request(*id, request),
            SharedMessage::SubscribeNamespace { id, prefix, interest, parameters } => (
                "subscribe_namespace",
                json!({
                    "request_id": int(*id),
                    "namespace_prefix": namespace(prefix),
                    "subscribe_options": int(match interest {
                        Interest::Tracks => 0,
                        Interest::Namespaces => 1,
                        Interest::Both => 2,
                    }),
                    "parameters": self.parameters(parameters),
                }),
            ),
            SharedMessage::Update { existing, update } => (
                "request_update",
                json!({
                    "request_id": int(update.id),
                    "existing_request_id": int(*existing),
                    "parameters": self.parameters(&update.parameters),
                }),
            ),
            SharedMessage::PublishOk { to, parameters } => (
                "publish_ok",
                json!({ "request_id": int(*to), "parameters": self.parameters(parameters) }),
            ),
            SharedMessage::Response { to, response } => self.response(*to, response),
            SharedMessage::Unsubscribe(id) => ("unsubscribe", only(id)),
            SharedMessage::FetchCancel(id) => ("fetch_cancel", only(id)),
            SharedMessage::PublishNamespaceDone(id) => ("publish_namespace_done", only(id)),
            SharedMessage::PublishNamespaceCancel { id, code, reason } => (
                "publish_namespace_cancel",
                json!({
                    "request_id": int(*id),
                    "error_code": int(code.0),
                    "reason_phrase": text(reason),
                }),
            ),
        }
    }
}
