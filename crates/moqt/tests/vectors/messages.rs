//! Control messages: each with nothing optional in it, and with all that the draft lets it carry.

use std::num::NonZeroU64;

use bytes::Bytes;
use moqt::codec::shared::{Interest, SharedMessage};
use moqt::*;
use serde_json::json;

use super::common::arbitrary::{In, keep};
use super::{Control, DraftVersion, Vector, bytes_of, common, control, wire_form};

pub(super) fn vectors(version: Version, draft: DraftVersion) -> Vec<Vector> {
    let says = |message: &Control| {
        let (kind, fields) = wire_form::control(version, message);
        json!({ "type": kind, "fields": fields })
    };
    let written = cases(version).into_iter().map(|(name, message)| {
        control::agrees(version, draft, &message)
            .unwrap_or_else(|error| panic!("{version}, {name}: {error}"));
        let bytes = common::encode(version, &message).unwrap();
        Vector { name, bytes, canonical: true, says: says(&message) }
    });
    let read = otherwise(version).into_iter().map(|(name, hex)| {
        let bytes = bytes_of(hex);
        let message = common::decode(version, &bytes)
            .unwrap_or_else(|error| panic!("{version}, {name}: {error}"))
            .unwrap_or_else(|| panic!("{version}, {name}: not whole"));
        assert_ne!(common::encode(version, &message).unwrap(), bytes, "{version}, {name}");
        Vector { name, bytes, canonical: false, says: says(&message) }
    });
    written.chain(read).collect()
}

fn namespace(path: &str) -> Namespace {
    match path {
        "" => Namespace::default(),
        path => Namespace::from_path(path).unwrap(),
    }
}

fn track() -> FullTrackName {
    FullTrackName::new(namespace("live/cam1"), "video").unwrap()
}

const START: Location = Location { group: 1041, object: 29 };

/// Every parameter there is; [`keep`] takes those that a message may have.
fn everything() -> Parameters {
    let ranges = |field, ranges: &[(u64, u64)]| RangeFilter::Ranges {
        field,
        set: 1,
        ranges: ranges.to_vec(),
    };
    let fill = Fill {
        request: None,
        timeout: Some(250),
        subscriber_priority: Some(9),
        filter: Some(LocationFilter::RelativeStart { groups: NonZeroU64::MIN }),
        group_order: Some(GroupOrder::Ascending),
        range_filters: vec![ranges(RangeField::Object, &[(0, 0)])],
    };
    Parameters {
        object_delivery_timeout: Some(2000),
        authorization_tokens: vec![
            AuthToken::Register { alias: 3, kind: 0, value: Bytes::from_static(b"secret") },
            AuthToken::UseAlias { alias: 3 },
        ],
        rendezvous_timeout: Some(10_000),
        subgroup_delivery_timeout: Some(1500),
        expires: Some(3_600_000),
        largest_object: Some(START),
        fill_timeout: Some(500),
        forward: Some(false),
        subscriber_priority: Some(32),
        filter: Some(Filter::AbsoluteRange { start: START, end_group: 1050 }),
        group_order: Some(GroupOrder::Descending),
        fill: Some(Box::new(fill)),
        range_filters: vec![
            ranges(RangeField::Subgroup, &[(0, 1)]),
            ranges(RangeField::Object, &[(0, 9), (20, u64::MAX)]),
            ranges(RangeField::Priority, &[(0, 128)]),
            ranges(RangeField::ObjectProperty(0x20), &[(7, 7)]),
            ranges(RangeField::TrackProperty(0x30), &[(1, 1)]),
        ],
        new_group_request: Some(1042),
        track_namespace_prefix: Some(namespace("live")),
        include_properties: Some(true),
        ..Parameters::default()
    }
}

fn properties(version: Version) -> Properties {
    let mut immutable = Properties::new();
    immutable.push_int(0x10, 7);
    let mut properties = Properties::new();
    properties.push_int(property::MAX_CACHE_DURATION, 30_000);
    properties.push_int(property::DEFAULT_PUBLISHER_PRIORITY, 64);
    properties.push_int(property::DEFAULT_PUBLISHER_GROUP_ORDER, 1);
    properties.push_int(property::DYNAMIC_GROUPS, 1);
    properties.push_bytes(0x1d, Bytes::from_static(&[1, 2, 3]));
    properties.push_bytes(property::IMMUTABLE, immutable.to_bytes(IntCoding::LeadingOnes));
    // As they come off the wire: with the draft's integers inside the immutable ones.
    let coding = version.int_coding();
    Properties::decode(properties.to_bytes(coding), coding).unwrap()
}

/// Collects the messages of one draft.
struct Cases {
    version: Version,
    all: Vec<(&'static str, Control)>,
}

fn cases(version: Version) -> Vec<(&'static str, Control)> {
    let mut cases = Cases { version, all: Vec::new() };
    cases.session();
    cases.filters();
    cases.requests();
    cases.fetches();
    cases.updates();
    cases.answers();
    cases.only_shared();
    cases.all
}

impl Cases {
    fn is(&self, version: Version) -> bool {
        self.version == version
    }

    fn properties(&self) -> Properties {
        properties(self.version)
    }

    fn with(&self, message: In) -> Parameters {
        keep(self.version, message, everything())
    }

    fn message(&mut self, name: &'static str, message: Message) {
        self.all.push((name, Control::Streams(message)));
    }

    fn shared(&mut self, name: &'static str, message: SharedMessage) {
        self.all.push((name, Control::Shared(message)));
    }

    fn request(&mut self, name: &'static str, id: RequestId, request: Request) {
        match self.version {
            Version::Draft16 => self.shared(name, SharedMessage::Request { id, request }),
            _ => self.message(name, Message::Request { id, request }),
        }
    }

    fn answer(&mut self, name: &'static str, response: Response) {
        match self.version {
            Version::Draft16 => {
                self.shared(name, SharedMessage::Response { to: Some(4), response });
            }
            _ => self.message(name, Message::Response(response)),
        }
    }

    fn session(&mut self) {
        let full = Setup {
            path: Some("/moq?room=1".into()),
            authority: Some("relay.example:4433".into()),
            max_auth_token_cache_size: Some(4096),
            authorization_tokens: vec![AuthToken::UseValue { kind: 0, value: "secret".into() }],
            max_filter_ranges: Some(8).filter(|_| self.is(Version::Draft22)),
            max_request_updates: Some(16).filter(|_| self.is(Version::Draft22)),
            implementation: Some("weir/0.1.0".into()),
            node: Some("edge-1".into()),
        };
        let named = Setup { implementation: Some("weir/0.1.0".into()), ..Setup::default() };
        if self.is(Version::Draft16) {
            let setup = |from, setup| SharedMessage::Setup { from, setup, max_request_id: 128 };
            self.shared("CLIENT_SETUP with a name", setup(Role::Client, named.clone()));
            self.shared("CLIENT_SETUP with every option", setup(Role::Client, full));
            self.shared("SERVER_SETUP with a name", setup(Role::Server, named));
            let goaway = |uri: &'static str| GoAway { uri: uri.into(), timeout: 0, request: None };
            self.shared("GOAWAY to here", SharedMessage::GoAway(goaway("")));
            self.shared("GOAWAY", SharedMessage::GoAway(goaway("moqt://other.example")));
            return;
        }
        self.message("SETUP without options", Message::Setup(Setup::default()));
        self.message("SETUP with a name", Message::Setup(named));
        self.message("SETUP with every option", Message::Setup(full));
        let goaway = |request| {
            let uri = "moqt://other.example".into();
            Message::GoAway(GoAway { uri, timeout: 5000, request })
        };
        self.message("GOAWAY", goaway(None));
        self.message("GOAWAY to here", Message::GoAway(GoAway::default()));
        if self.is(Version::Draft18) {
            self.message("GOAWAY on the control stream", goaway(Some(6)));
        }
    }

    fn filters(&mut self) {
        let mut filters = vec![
            ("SUBSCRIBE from the next group", LocationFilter::NextGroupStart),
            ("SUBSCRIBE from the largest object", LocationFilter::LargestObject),
            ("SUBSCRIBE from an object", LocationFilter::AbsoluteStart { start: START }),
            (
                "SUBSCRIBE from an object to a group",
                LocationFilter::AbsoluteRange { start: START, end_group: 1050 },
            ),
        ];
        if self.is(Version::Draft22) {
            let end = Location { group: 1050, object: 3 };
            let groups = NonZeroU64::new(2).unwrap();
            filters.extend([
                ("SUBSCRIBE to all", LocationFilter::Unfiltered),
                ("SUBSCRIBE from two groups back", LocationFilter::RelativeStart { groups }),
                ("SUBSCRIBE to a range", LocationFilter::ObjectRange { start: START, end }),
            ]);
        }
        for (name, filter) in filters {
            let mut parameters = Parameters::default();
            parameters.set_locations(Some(filter));
            self.request(name, 4, Request::Subscribe(Subscribe { track: track(), parameters }));
        }
    }

    fn requests(&mut self) {
        let none = Parameters::default;
        let subscribe = |parameters| Request::Subscribe(Subscribe { track: track(), parameters });
        self.request("SUBSCRIBE", 4, subscribe(none()));
        self.request("SUBSCRIBE with every parameter", 4, subscribe(self.with(In::Subscribe)));
        let wide = self.version.int_coding().max();
        self.request("SUBSCRIBE with the largest Request ID", wide, subscribe(none()));
        if self.version > Version::Draft16 {
            let parameters = Parameters {
                rendezvous_timeout: Some(10_000),
                subscriber_priority: Some(32),
                group_order: Some(GroupOrder::Descending),
                ..none()
            };
            self.request("SUBSCRIBE of the player", 4, subscribe(parameters));
        }

        let status = |parameters| Request::TrackStatus(TrackStatus { track: track(), parameters });
        self.request("TRACK_STATUS", 4, status(none()));
        self.request("TRACK_STATUS with every parameter", 4, status(self.with(In::TrackStatus)));

        let publish = |parameters, properties| {
            let (track, track_alias) = (track(), 300);
            Request::Publish(Publish { track, track_alias, parameters, properties })
        };
        self.request("PUBLISH", 1, publish(none(), Properties::new()));
        let parameters = self.with(In::Publish);
        self.request("PUBLISH with every parameter", 1, publish(parameters, self.properties()));

        let offer = |parameters| {
            let namespace = namespace("live/cam1");
            Request::PublishNamespace(PublishNamespace { namespace, parameters })
        };
        self.request("PUBLISH_NAMESPACE", 2, offer(none()));
        let mut parameters = self.with(In::TrackStatus);
        parameters.include_properties = None;
        self.request("PUBLISH_NAMESPACE with every parameter", 2, offer(parameters));

        if self.is(Version::Draft16) {
            return;
        }
        let names = |prefix, parameters| {
            Request::SubscribeNamespace(SubscribeNamespace { prefix, parameters })
        };
        self.request("SUBSCRIBE_NAMESPACE", 2, names(namespace("live"), none()));
        self.request("SUBSCRIBE_NAMESPACE of all", 2, names(namespace(""), none()));
        let parameters = self.with(In::Namespaces);
        let name = "SUBSCRIBE_NAMESPACE with every parameter";
        self.request(name, 2, names(namespace("live"), parameters));
        let tracks = |parameters| {
            let prefix = namespace("live");
            Request::SubscribeTracks(SubscribeTracks { prefix, parameters })
        };
        self.request("SUBSCRIBE_TRACKS", 2, tracks(none()));
        self.request("SUBSCRIBE_TRACKS with every parameter", 2, tracks(self.with(In::Tracks)));
    }

    fn fetches(&mut self) {
        let fetch = |range| Request::Fetch(Fetch { range, parameters: Parameters::default() });
        let of = |start, end| FetchRange::Standalone { track: track(), start, end };
        let end = Location { group: 1050, object: 3 };
        self.request("FETCH of a range", 8, fetch(of(START, end)));
        self.request("FETCH to a group's end", 8, fetch(of(START, Location::end_of(1050))));
        self.request("FETCH of all", 8, fetch(of(Location::FIRST, Location::LAST)));
        if self.is(Version::Draft22) {
            let range = FetchRange::RelativeStart { track: track(), groups: 2 };
            self.request("FETCH from two groups back", 8, fetch(range));
        } else {
            let joining = FetchRange::RelativeJoining { joining: 4, groups: 2 };
            self.request("FETCH, relative joining", 8, fetch(joining));
            let joining = FetchRange::AbsoluteJoining { joining: 4, group: 1040 };
            self.request("FETCH, absolute joining", 8, fetch(joining));
        }
        let mut parameters = self.with(In::Fetch);
        parameters.set_locations(None);
        let name = "FETCH with every parameter";
        self.request(name, 8, Request::Fetch(Fetch { range: of(START, end), parameters }));
    }

    fn updates(&mut self) {
        let raise = Parameters { subscriber_priority: Some(64), ..Parameters::default() };
        for (name, parameters) in [
            ("REQUEST_UPDATE of nothing", Parameters::default()),
            ("REQUEST_UPDATE of a priority", raise),
            ("REQUEST_UPDATE with every parameter", self.with(In::Update)),
        ] {
            let update = RequestUpdate { id: 6, parameters };
            match self.version {
                Version::Draft16 => {
                    self.shared(name, SharedMessage::Update { existing: 4, update });
                }
                _ => self.message(name, Message::Update(update)),
            }
        }
    }

    fn answers(&mut self) {
        let none = Parameters::default;
        self.answer("REQUEST_OK", Response::Ok(RequestOk::default()));
        let with_properties = match self.version {
            Version::Draft16 => Properties::new(),
            _ => self.properties(),
        };
        let ok = RequestOk { parameters: self.with(In::Ok), properties: with_properties };
        self.answer("REQUEST_OK with every parameter", Response::Ok(ok));

        let ok = |track_alias, parameters, properties| {
            Response::SubscribeOk(SubscribeOk { track_alias, parameters, properties })
        };
        self.answer("SUBSCRIBE_OK", ok(7, none(), Properties::new()));
        let parameters = self.with(In::SubscribeOk);
        self.answer("SUBSCRIBE_OK with every parameter", ok(300, parameters, self.properties()));

        let ended = FetchOk {
            end_of_track: true,
            end: Location { group: 1050, object: 3 },
            parameters: none(),
            properties: self.properties(),
        };
        let open = FetchOk {
            end_of_track: false,
            end: Location::end_of(1050),
            properties: Properties::new(),
            ..ended.clone()
        };
        self.answer("FETCH_OK", Response::FetchOk(open));
        self.answer("FETCH_OK of a track's end", Response::FetchOk(ended));

        let error = RequestError::new(RequestErrorCode::DOES_NOT_EXIST, "no such track");
        let busy = RequestError::new(RequestErrorCode::EXCESSIVE_LOAD, "later").retry_after(0);
        let grease = RequestError::new(RequestErrorCode(0x9d + 0x7f * 5), "");
        self.answer("REQUEST_ERROR", Response::Error(error.clone()));
        self.answer("REQUEST_ERROR to be asked again at once", Response::Error(busy));
        self.answer("REQUEST_ERROR with a greased code", Response::Error(grease));
        let again = error.clone().retry_after(1500);
        self.answer("REQUEST_ERROR to be asked again later", Response::Error(again));
        if self.version > Version::Draft16 {
            let redirect = Redirect { uri: "moqt://other.example".into(), track: track() };
            let code = RequestErrorCode::REDIRECT;
            let error = RequestError { code, redirect: Some(redirect), ..error };
            self.answer("REQUEST_ERROR with a redirect", Response::Error(error));
        }

        for (name, code, stream_count, reason) in [
            ("PUBLISH_DONE", PublishDoneCode::TRACK_ENDED, 12, "over"),
            ("PUBLISH_DONE, too far behind", PublishDoneCode::TOO_FAR_BEHIND, 0, ""),
            ("PUBLISH_DONE, expired", PublishDoneCode::EXPIRED, 0, ""),
            ("PUBLISH_DONE, not counted", PublishDoneCode::GOING_AWAY, u64::MAX, ""),
        ] {
            let done = PublishDone { code, stream_count, reason: reason.into() };
            self.answer(name, Response::PublishDone(done));
        }

        let suffix = |path| Response::Namespace(namespace(path));
        let gone = |path| Response::NamespaceDone(namespace(path));
        for (name, response) in [
            ("NAMESPACE", suffix("cam1")),
            ("NAMESPACE of the prefix itself", suffix("")),
            ("NAMESPACE_DONE", gone("cam1")),
        ] {
            match self.version {
                Version::Draft16 => {
                    self.shared(name, SharedMessage::Response { to: None, response });
                }
                _ => self.answer(name, response),
            }
        }
        if self.version > Version::Draft16 {
            let blocked = PublishBlocked { suffix: namespace("cam1"), name: "video".into() };
            let name = match self.version {
                Version::Draft18 => "PUBLISH_BLOCKED",
                _ => "PUBLISH_SKIPPED",
            };
            self.answer(name, Response::PublishBlocked(blocked));
        }
        if self.is(Version::Draft22) {
            let parameters = self.with(In::Notify);
            self.answer("PUBLISH_STATE_NOTIFY", Response::StateNotify(parameters));
        }
    }

    /// What only draft 16 has.
    fn only_shared(&mut self) {
        if !self.is(Version::Draft16) {
            return;
        }
        self.shared("MAX_REQUEST_ID", SharedMessage::MaxRequestId(256));
        self.shared("REQUESTS_BLOCKED", SharedMessage::RequestsBlocked(128));
        self.shared("UNSUBSCRIBE", SharedMessage::Unsubscribe(4));
        self.shared("FETCH_CANCEL", SharedMessage::FetchCancel(8));
        self.shared("PUBLISH_NAMESPACE_DONE", SharedMessage::PublishNamespaceDone(2));
        let cancel = SharedMessage::PublishNamespaceCancel {
            id: 2,
            code: RequestErrorCode::UNAUTHORIZED,
            reason: "not yours".into(),
        };
        self.shared("PUBLISH_NAMESPACE_CANCEL", cancel);
        let parameters = self.with(In::PublishOk);
        let name = "PUBLISH_OK with every parameter";
        self.shared(name, SharedMessage::PublishOk { to: 1, parameters });
        let none = Parameters::default();
        self.shared("PUBLISH_OK", SharedMessage::PublishOk { to: 1, parameters: none.clone() });
        for (name, interest, prefix, parameters) in [
            ("SUBSCRIBE_NAMESPACE", Interest::Namespaces, "live", none.clone()),
            ("SUBSCRIBE_NAMESPACE for PUBLISH", Interest::Tracks, "live", none.clone()),
            ("SUBSCRIBE_NAMESPACE of all", Interest::Both, "", none),
            (
                "SUBSCRIBE_NAMESPACE with every parameter",
                Interest::Both,
                "live",
                self.with(In::Namespaces),
            ),
        ] {
            let prefix = namespace(prefix);
            let id = 2;
            let message = SharedMessage::SubscribeNamespace { id, prefix, interest, parameters };
            self.shared(name, message);
        }
    }
}

/// What a peer may write and we would not. One-byte integers are the same in all drafts.
fn otherwise(version: Version) -> Vec<(&'static str, &'static str)> {
    if version == Version::Draft16 {
        return vec![
            ("PUBLISH_DONE in wide integers", "0b 0009 4004 80000002 400c 00"),
            ("CLIENT_SETUP with an unknown option", "20 0006 02 02 3f 3d 01 ff"),
            (
                "SUBSCRIBE with a parameter of another message",
                "03 000c 04 01 04 6c697665 01 76 01 08 05",
            ),
        ];
    }
    let mut all = vec![
        ("PUBLISH_DONE in wide integers", "0b 0006 8002 c0000c 00"),
        ("PUBLISH_DONE under a wide type", "800b 0003 02 0c 00"),
        ("SETUP with unknown options", "af00 0006 3e 01 01 02 abcd"),
    ];
    if version == Version::Draft18 {
        all.push(("REQUEST_OK under PUBLISH_OK's type", "1e 0001 00"));
    }
    all
}
