//! Values on the wire that a draft gives a meaning, or forbids.

use super::*;
use crate::{AuthToken, IntCoding, Redirect, property};

const GOAWAY: u64 = 0x10;
const PUBLISH_NAMESPACE: u64 = 0x06;
const REQUEST_ERROR: u64 = 0x05;
const REQUEST_UPDATE: u64 = 0x02;
const SUBSCRIBE: u64 = 0x03;

/// A message as it is on the wire.
fn message(version: Version, kind: u64, payload: &[u8]) -> BytesMut {
    let mut buf = BytesMut::new();
    version.int_coding().write(&mut buf, kind);
    buf.extend_from_slice(&u16::try_from(payload.len()).unwrap().to_be_bytes());
    buf.extend_from_slice(payload);
    buf
}

fn ints(version: Version, values: &[u64]) -> Vec<u8> {
    let mut buf = BytesMut::new();
    for value in values {
        version.int_coding().write(&mut buf, *value);
    }
    buf.to_vec()
}

/// Sends the server these bytes, where a request begins, and returns how it closed.
fn provoke(version: Version, bytes: &[u8]) -> Option<SessionCode> {
    let mut pair = Pair::new(version);
    let shared = pair.ends[1].shared_control();
    let stream = shared.unwrap_or_else(|| pair.ends[1].accept_stream());
    pair.ends[1].handle_stream(stream, bytes, false);
    closed(&mut pair.ends[1])
}

/// How a session closed by itself; nobody hears its answers.
fn closed(session: &mut Session) -> Option<SessionCode> {
    std::iter::from_fn(|| session.poll_output()).find_map(|output| match output {
        Output::Close(error) => Some(error.code),
        _ => None,
    })
}

/// How the server closes on SUBSCRIBE with these parameters, which are `count`.
fn provoke_with(version: Version, count: u8, parameters: &[u8]) -> Option<SessionCode> {
    let payload = [&[0, 1, 1, b'a', 1, b'b', count], parameters].concat();
    provoke(version, &message(version, SUBSCRIBE, &payload))
}

/// Feeds the control stream of one end.
fn control(pair: &mut Pair, end: usize, bytes: &[u8]) {
    match pair.ends[end].shared_control() {
        Some(stream) => pair.ends[end].handle_stream(stream, bytes, false),
        None => pair.ends[end].handle_control(bytes, false),
    }
    pair.settle();
}

const VIOLATION: Option<SessionCode> = Some(SessionCode::PROTOCOL_VIOLATION);

#[test]
fn names_beyond_their_bounds_end_the_session() {
    for version in EVERY {
        let publish = |fields: &[usize]| {
            let mut payload = ints(version, &[0, fields.len() as u64]);
            for length in fields {
                payload.extend(ints(version, &[*length as u64]));
                payload.extend(vec![b'a'; *length]);
            }
            payload.push(0);
            provoke(version, &message(version, PUBLISH_NAMESPACE, &payload))
        };
        assert_eq!(publish(&[1; 32]), None);
        assert_eq!(publish(&[1; 33]), VIOLATION);
        assert_eq!(publish(&[1, 0]), VIOLATION);
        assert_eq!(publish(&[2048, 2048]), None);
        assert_eq!(publish(&[2048, 2049]), VIOLATION);
        // The track's name counts too.
        let subscribe = |name: usize| {
            let mut payload = ints(version, &[0, 1, 4000]);
            payload.extend([b'a'; 4000]);
            payload.extend(ints(version, &[name as u64]));
            payload.extend(vec![b'b'; name]);
            payload.push(0);
            provoke(version, &message(version, SUBSCRIBE, &payload))
        };
        assert_eq!(subscribe(96), None);
        assert_eq!(subscribe(97), VIOLATION);
    }
}

#[test]
fn parameters_without_a_meaning_end_the_session() {
    const FORWARD: u8 = 0x10;
    const PRIORITY: u8 = 0x20;
    const FILTER: u8 = 0x21;
    const GROUP_ORDER: u8 = 0x22;
    let most = ints(Version::Draft18, &[u64::MAX]);
    for version in EVERY {
        let subscribe = |parameters: &[u8]| provoke_with(version, 1, parameters);
        assert_eq!(subscribe(&[FORWARD, 1]), None);
        assert_eq!(subscribe(&[FORWARD, 2]), VIOLATION);
        assert_eq!(subscribe(&[GROUP_ORDER, 2]), None);
        assert_eq!(subscribe(&[GROUP_ORDER, 0]), VIOLATION);
        assert_eq!(subscribe(&[GROUP_ORDER, 3]), VIOLATION);
        // A type that does not exist, and an end group past the last.
        let filter = |kind: u8, rest: &[u8]| match version {
            Version::Draft22 => [&[FILTER, kind], rest].concat(),
            _ => [&[FILTER, 1 + rest.len() as u8, kind], rest].concat(),
        };
        assert_eq!(subscribe(&filter(1, &[0][..usize::from(version == Version::Draft22)])), None);
        assert_eq!(subscribe(&filter(9, &[])), VIOLATION);
        if version != Version::Draft16 {
            let kind = if version == Version::Draft18 { 4 } else { 3 };
            assert_eq!(subscribe(&filter(kind, &[most.clone(), vec![0, 0]].concat())), None);
            assert_eq!(subscribe(&filter(kind, &[most.clone(), vec![0, 1]].concat())), VIOLATION);
            // Types are differences, and these add up to too much.
            let far = [&[2, 1], &most[..], &[0]].concat();
            assert_eq!(provoke_with(version, 2, &far), VIOLATION);
        }
        // A token whose kind nobody knows, and one that is cut short.
        let formatting = Some(SessionCode::KEY_VALUE_FORMATTING_ERROR);
        assert_eq!(subscribe(&[3, 1, 9]), formatting);
        assert_eq!(subscribe(&[3, 1, 2]), formatting);
    }
    // What only draft 16 forbids.
    let sixteen = |parameters: &[u8]| provoke_with(Version::Draft16, 1, parameters);
    assert_eq!(sixteen(&[2, 0]), VIOLATION, "DELIVERY_TIMEOUT 0");
    assert_eq!(provoke_with(Version::Draft18, 1, &[2, 0]), None);
    assert_eq!(sixteen(&[PRIORITY, 0x41, 0]), VIOLATION, "a priority of 256");
    assert_eq!(sixteen(&[FILTER, 2, 1, 0]), VIOLATION, "a filter longer than it is");
    assert_eq!(sixteen(&[FILTER, 4, 4, 7, 0, 6]), VIOLATION, "a filter that ends before it starts");
    // What came with draft 22.
    let later = |parameters: &[u8]| provoke_with(Version::Draft22, 1, parameters);
    assert_eq!(later(&[0x35, 0]), None, "INCLUDE_PROPERTIES");
    assert_eq!(later(&[0x35, 2]), VIOLATION);
    assert_eq!(later(&[0x23, 3, 1, 0x0a, 0]), None, "FILL_PARAMETERS");
    assert_eq!(later(&[0x23, 3, 1, 0x10, 1]), VIOLATION, "FORWARD inside them");
}

#[test]
fn a_fetch_of_an_unknown_type_ends_the_session() {
    for version in [Version::Draft16, Version::Draft18] {
        let fetch = |kind| provoke(version, &message(version, 0x16, &[0, kind, 0, 0, 0]));
        assert_eq!(fetch(2), None);
        assert_eq!(fetch(0), VIOLATION);
        assert_eq!(fetch(4), VIOLATION);
    }
}

#[test]
fn a_request_id_is_used_once() {
    for version in EVERY {
        let mut pair = Pair::new(version);
        let first = pair.ask(subscribe("video0"));
        pair.ends[0].next_request = first;
        pair.ends[0].request(subscribe("video1")).unwrap();
        pair.settle();
        assert_eq!(pair.closed.unwrap().code, SessionCode::INVALID_REQUEST_ID);
    }
}

#[test]
fn track_properties_without_a_meaning_end_the_session() {
    for version in EVERY {
        let closes = |kind, value| {
            let mut own = Properties::new();
            own.push_int(kind, value);
            let mut immutable = Properties::new();
            let inside = own.to_bytes(version.int_coding());
            immutable.push_bytes(property::IMMUTABLE, inside);
            [own, immutable].map(|properties| {
                let mut pair = Pair::new(version);
                let Request::Publish(mut request) = publish("video0", 1) else { panic!() };
                request.properties = match version.int_coding() {
                    IntCoding::LeadingOnes => properties,
                    // As it would have come from a peer of that draft.
                    coding => Properties::decode(properties.to_bytes(coding), coding).unwrap(),
                };
                pair.ends[0].request(Request::Publish(request)).unwrap();
                pair.settle();
                pair.closed.map(|error| error.code)
            })
        };
        assert_eq!(closes(property::DYNAMIC_GROUPS, 1), [None; 2]);
        assert_eq!(closes(property::DYNAMIC_GROUPS, 2), [VIOLATION; 2]);
        assert_eq!(closes(property::DEFAULT_PUBLISHER_GROUP_ORDER, 2), [None; 2]);
        assert_eq!(closes(property::DEFAULT_PUBLISHER_GROUP_ORDER, 0), [VIOLATION; 2]);
        assert_eq!(closes(property::DEFAULT_PUBLISHER_GROUP_ORDER, 3), [VIOLATION; 2]);
        let zero = if version == Version::Draft16 { VIOLATION } else { None };
        assert_eq!(closes(property::OBJECT_DELIVERY_TIMEOUT, 0), [zero; 2]);
    }
}

#[test]
fn a_goaway_names_a_uri_and_a_request_within_bounds() {
    for version in EVERY {
        let says = |uri: usize, request: Option<u64>| {
            let mut payload = ints(version, &[uri as u64]);
            payload.extend(vec![b'm'; uri]);
            if version != Version::Draft16 {
                payload.push(0);
            }
            payload.extend(request.map(|id| ints(version, &[id])).unwrap_or_default());
            let mut pair = Pair::new(version);
            control(&mut pair, 0, &message(version, GOAWAY, &payload));
            pair.closed.map(|error| error.code)
        };
        assert_eq!(says(8192, None), None);
        assert_eq!(says(8193, None), VIOLATION);
        if version == Version::Draft18 {
            assert_eq!(says(0, Some(4)), None);
            assert_eq!(says(0, Some(5)), Some(SessionCode::INVALID_REQUEST_ID));
        }
    }
}

#[test]
fn a_goaway_on_a_request_stream_moves_that_request_once() {
    for version in LATER {
        let mut pair = Pair::new(version);
        let id = pair.ask(subscribe("video0"));
        let goaway = GoAway { uri: Bytes::from_static(b"moqt://b"), timeout: 9, request: None };
        let said = crate::codec::to_bytes(version, &Message::GoAway(goaway.clone())).unwrap();
        let stream = pair.ends[0].requests[&id].stream.unwrap();
        pair.ends[0].handle_stream(stream, &said, false);
        assert_eq!(pair.event(0), Event::RequestGoAway { id, goaway });
        pair.ends[0].handle_stream(stream, &said, false);
        pair.settle();
        assert_eq!(pair.closed.unwrap().code, SessionCode::PROTOCOL_VIOLATION);
    }
    // The Request ID belongs to the control stream's.
    let mut pair = Pair::new(Version::Draft18);
    let id = pair.ask(subscribe("video0"));
    let stream = pair.ends[0].requests[&id].stream.unwrap();
    let said = message(Version::Draft18, GOAWAY, &[0, 0, 0]);
    pair.ends[0].handle_stream(stream, &said, false);
    pair.settle();
    assert_eq!(pair.closed.unwrap().code, SessionCode::PROTOCOL_VIOLATION);
}

#[test]
fn a_redirect_leads_where_the_request_can_go() {
    let redirect = |uri: &'static str, name: &'static str| {
        let track = FullTrackName::new(namespace("live/cam2"), name).unwrap();
        let redirect = Some(Redirect { uri: Bytes::from_static(uri.as_bytes()), track });
        let error = RequestError::new(RequestErrorCode::REDIRECT, "there");
        Response::Error(RequestError { redirect, ..error })
    };
    for version in LATER {
        // `asker`: 0, the client, 1, the server.
        let closes = |asker: usize, request: Request, answer: &Response| {
            let mut pair = Pair::new(version);
            let id = pair.ends[asker].request(request).unwrap();
            pair.settle();
            pair.ends[1 - asker].respond(id, answer.clone()).unwrap();
            pair.settle();
            pair.closed.map(|error| error.code)
        };
        let (whole, track) = (redirect("moqt://b", ""), redirect("moqt://b", "video0"));
        assert_eq!(closes(0, subscribe("video0"), &track), None);
        for request in [publish_namespace("live"), subscribe_namespace("live")] {
            assert_eq!(closes(0, request.clone(), &whole), None);
            assert_eq!(closes(0, request, &track), VIOLATION);
        }
        let tracks = if version == Version::Draft22 { VIOLATION } else { None };
        assert_eq!(closes(0, subscribe_tracks("live"), &track), tracks);
        // A client sends no server elsewhere, but may name another track.
        assert_eq!(closes(1, subscribe("video0"), &redirect("", "video0")), None);
        assert_eq!(closes(1, subscribe("video0"), &track), VIOLATION);
    }
}

#[test]
fn only_a_tracks_status_comes_with_its_properties() {
    let mut properties = Properties::new();
    properties.push_int(property::DYNAMIC_GROUPS, 1);
    let status = Request::TrackStatus(crate::TrackStatus {
        track: track("video0"),
        parameters: Parameters::default(),
    });
    for version in LATER {
        let closes = |request: Request| {
            let mut pair = Pair::new(version);
            let id = pair.ask(request);
            let ok = RequestOk { properties: properties.clone(), ..RequestOk::default() };
            pair.ends[1].respond(id, Response::Ok(ok)).unwrap();
            pair.settle();
            pair.closed.map(|error| error.code)
        };
        assert_eq!(closes(status.clone()), None);
        for request in [publish("video0", 1), publish_namespace("a"), subscribe_namespace("a")] {
            assert_eq!(closes(request), VIOLATION);
        }
    }
}

#[test]
fn setup_options_that_are_unknown_are_skipped_and_known_ones_come_once() {
    for version in LATER {
        let closes = |options: &[u8]| {
            let mut session = Session::new(config(version, Role::Server), Instant::now());
            session.handle_control(&message(version, 0x2f00, options), false);
            closed(&mut session)
        };
        // Two that nobody knows, both twice: 0x9d (a grease value) with bytes, 0x11e without.
        assert_eq!(closes(&[0x80, 0x9d, 1, 7, 0, 1, 7, 0x80, 0x81, 5, 0, 5]), None);
        // MAX_AUTH_TOKEN_CACHE_SIZE and PATH, each twice.
        assert_eq!(closes(&[4, 9]), None);
        assert_eq!(closes(&[4, 9, 0, 9]), VIOLATION);
        assert_eq!(closes(&[1, 1, b'/', 0, 1, b'/']), VIOLATION);
    }
}

#[test]
fn a_clients_setup_refers_to_no_token() {
    for version in EVERY {
        let mut closed = [AuthToken::Delete { alias: 1 }, AuthToken::UseAlias { alias: 1 }]
            .map(|token| {
                let mut configs = [config(version, Role::Client), config(version, Role::Server)];
                configs[0].setup.authorization_tokens = vec![token];
                let now = Instant::now();
                let mut pair = Pair {
                    ends: configs.map(|config| Session::new(config, now)),
                    names: Default::default(),
                    closed: None,
                };
                pair.settle();
                pair.closed.map(|error| error.code)
            })
            .to_vec();
        closed.dedup();
        assert_eq!(closed, [VIOLATION]);
    }
}

#[test]
fn a_token_alias_is_registered_once_until_it_is_deleted() {
    for version in EVERY {
        let mut pair = Pair::new(version);
        let mut say = |token| {
            let parameters =
                Parameters { authorization_tokens: vec![token], ..Parameters::default() };
            let namespace = namespace("live");
            let request = Request::PublishNamespace(PublishNamespace { namespace, parameters });
            // Refused for their number after the third, and heard all the same.
            pair.ends[0].request(request).unwrap();
            pair.settle();
            pair.closed.as_ref().map(|error| error.code)
        };
        let register =
            |size| AuthToken::Register { alias: 1, kind: 0, value: vec![7; size].into() };
        // 48 bytes of 64 each, with what an entry costs: room for one at a time.
        for _ in 0..3 {
            assert_eq!(say(register(32)), None);
            assert_eq!(say(AuthToken::UseAlias { alias: 1 }), None);
            assert_eq!(say(AuthToken::Delete { alias: 1 }), None);
        }
        assert_eq!(say(register(1)), None);
        assert_eq!(say(register(1)), Some(SessionCode::DUPLICATE_AUTH_TOKEN_ALIAS));
    }
}

#[test]
fn reserved_namespaces_hold_nothing() {
    let named = |first: &'static str| {
        let prefix =
            Namespace::new([first, "x"].map(|field| Bytes::from_static(field.as_bytes()))).unwrap();
        let track = FullTrackName::new(prefix.clone(), "t").unwrap();
        let parameters = Parameters::default;
        let range = FetchRange::Standalone {
            track: track.clone(),
            start: Location::FIRST,
            end: Location::LAST,
        };
        [
            Request::Subscribe(Subscribe { track: track.clone(), parameters: parameters() }),
            Request::Fetch(Fetch { range, parameters: parameters() }),
            Request::TrackStatus(crate::TrackStatus { track, parameters: parameters() }),
            Request::PublishNamespace(PublishNamespace {
                namespace: prefix.clone(),
                parameters: parameters(),
            }),
            Request::SubscribeNamespace(SubscribeNamespace {
                prefix: prefix.clone(),
                parameters: parameters(),
            }),
            Request::SubscribeTracks(SubscribeTracks { prefix, parameters: parameters() }),
        ]
    };
    for version in LATER {
        for request in named(".").into_iter().chain(named(".session")) {
            let mut pair = Pair::new(version);
            assert_eq!(pair.refused(request), RequestErrorCode::DOES_NOT_EXIST);
        }
        // Others may come to mean something: the application decides.
        for request in named(".later") {
            Pair::new(version).ask(request);
        }
    }
}

#[test]
fn prefixes_overlap_among_requests_of_one_kind() {
    for version in EVERY {
        let mut pair = Pair::new(version);
        let id = pair.ask(subscribe_namespace("live"));
        pair.answer(1, id, ok());
        let overlap = RequestErrorCode::PREFIX_OVERLAP;
        assert_eq!(pair.refused(subscribe_namespace("live/cam1")), overlap);
        // One message stands for both in draft 16.
        if version == Version::Draft16 {
            assert_eq!(pair.refused(subscribe_tracks("live")), overlap);
        } else {
            let tracks = pair.ask(subscribe_tracks("live"));
            pair.answer(1, tracks, ok());
            let everything =
                SubscribeTracks { prefix: Namespace::default(), parameters: Parameters::default() };
            assert_eq!(pair.refused(Request::SubscribeTracks(everything)), overlap);
        }
    }
}

#[test]
fn only_a_publisher_notifies_and_only_of_a_subscription() {
    let notify = || Response::StateNotify(Parameters::default());
    let said = crate::codec::to_bytes(Version::Draft22, &Message::Response(notify())).unwrap();
    let closes = |request: Request, answer: Response, end: usize| {
        let mut pair = Pair::new(Version::Draft22);
        let id = pair.ask(request);
        pair.answer(1, id, answer);
        let stream = pair.ends[end].requests[&id].stream.unwrap();
        pair.ends[end].handle_stream(stream, &said, false);
        pair.settle();
        pair.closed.map(|error| error.code)
    };
    assert_eq!(closes(subscribe("video0"), subscribe_ok(1), 0), None);
    assert_eq!(closes(subscribe("video0"), subscribe_ok(1), 1), VIOLATION);
    assert_eq!(closes(publish("video0", 1), ok(), 1), None);
    assert_eq!(closes(publish("video0", 1), ok(), 0), VIOLATION);
    assert_eq!(closes(subscribe_namespace("live"), ok(), 0), VIOLATION);
}

#[test]
fn what_cannot_be_updated_is_not() {
    let update = |version| message(version, REQUEST_UPDATE, &[2, 0]);
    for version in LATER {
        let closes = |request: Request, answer: Option<Response>, end: usize| {
            let mut pair = Pair::new(version);
            let id = pair.ask(request);
            if let Some(answer) = answer {
                pair.answer(1, id, answer);
            }
            let stream = pair.ends[end].requests[&id].stream.unwrap();
            pair.ends[end].handle_stream(stream, &update(version), false);
            pair.settle();
            pair.closed.map(|error| error.code)
        };
        let status = Request::TrackStatus(crate::TrackStatus {
            track: track("video0"),
            parameters: Parameters::default(),
        });
        assert_eq!(closes(subscribe("video0"), None, 1), None);
        assert_eq!(closes(status, None, 1), VIOLATION);
        // Nor does a publisher update what others asked of it.
        assert_eq!(closes(subscribe("video0"), Some(subscribe_ok(1)), 0), VIOLATION);
    }
}

#[test]
fn codes_that_nobody_knows_are_errors_like_any_other() {
    const GREASE: u64 = 0x9d;
    for version in EVERY {
        let mut pair = Pair::new(version);
        let id = pair.ask(subscribe("video0"));
        let error = RequestError::new(RequestErrorCode(GREASE), "?");
        pair.answer(1, id, Response::Error(error));
        let id = pair.ask(subscribe("video0"));
        pair.answer(1, id, subscribe_ok(1));
        pair.answer(1, id, done(PublishDoneCode(GREASE)));
        pair.assert_over();
    }
}

#[test]
fn a_reason_has_at_most_1024_bytes() {
    for version in LATER {
        let closes = |length: usize| {
            let mut pair = Pair::new(version);
            let id = pair.ask(subscribe("video0"));
            let mut payload = ints(version, &[0x10, 0, length as u64]);
            payload.extend(vec![b'?'; length]);
            let stream = pair.ends[0].requests[&id].stream.unwrap();
            let said = message(version, REQUEST_ERROR, &payload);
            pair.ends[0].handle_stream(stream, &said, false);
            pair.settle();
            pair.closed.map(|error| error.code)
        };
        assert_eq!(closes(1024), None);
        assert_eq!(closes(1025), VIOLATION);
    }
}

#[test]
fn the_last_word_on_a_request_ends_its_stream() {
    let refusal = || Response::Error(RequestError::new(RequestErrorCode::UNINTERESTED, "no"));
    for version in LATER {
        let fins = |request: Request, answers: &[Response]| {
            let mut pair = Pair::new(version);
            let id = pair.ask(request);
            for answer in answers {
                pair.ends[1].respond(id, answer.clone()).unwrap();
            }
            std::iter::from_fn(|| pair.ends[1].poll_output())
                .filter_map(|output| match output {
                    Output::Request { fin, .. } => Some(fin),
                    _ => None,
                })
                .collect::<Vec<_>>()
        };
        let status = Request::TrackStatus(crate::TrackStatus {
            track: track("video0"),
            parameters: Parameters::default(),
        });
        assert_eq!(fins(status, &[ok()]), [true]);
        assert_eq!(fins(publish("video0", 1), &[refusal()]), [true]);
        assert_eq!(fins(subscribe_namespace("live"), &[refusal()]), [true]);
        let over = [subscribe_ok(1), done(PublishDoneCode::TRACK_ENDED)];
        assert_eq!(fins(subscribe("video0"), &over), [false, true]);
        // A subscription's stream stays open for updates.
        assert_eq!(fins(subscribe("video0"), &over[..1]), [false]);
    }
}

#[test]
fn a_publisher_that_ends_its_stream_without_publish_done_has_failed() {
    for version in LATER {
        let mut pair = Pair::new(version);
        let id = pair.ask(publish("video0", 5));
        pair.answer(1, id, ok());
        let stream = pair.ends[1].requests[&id].stream.unwrap();
        pair.ends[1].handle_stream(stream, &[], true);
        assert_eq!(pair.event(1), Event::Ended { id, code: None });
        assert_eq!(pair.ends[1].track_alias(5), Alias::Retired);
        // A subscriber that has nothing more to say still wants its objects.
        let id = pair.ask(subscribe("video1"));
        pair.answer(1, id, subscribe_ok(1));
        let stream = pair.ends[1].requests[&id].stream.unwrap();
        pair.ends[1].handle_stream(stream, &[], true);
        assert_eq!(pair.ends[1].poll_event(), None);
        pair.answer(1, id, done(PublishDoneCode::TRACK_ENDED));
    }
}

#[test]
fn answers_about_a_namespace_reach_the_application() {
    for version in EVERY {
        let mut pair = Pair::new(version);
        let id = pair.ask(publish_namespace("live"));
        pair.answer(1, id, ok());
        let id = pair.ask(publish_namespace("live/cam1"));
        let error = RequestError::new(RequestErrorCode::UNINTERESTED, "no");
        pair.answer(1, id, Response::Error(error));
        assert_eq!(pair.closed, None);
    }
}

#[test]
fn reset_codes_mean_what_their_draft_says() {
    let codes = [
        // what is meant, draft 16, draft 18 and later
        (ResetCode::INTERNAL_ERROR, 0x0, 0x0),
        (ResetCode::CANCELLED, 0x1, 0x1),
        (ResetCode::DELIVERY_TIMEOUT, 0x2, 0x2),
        (ResetCode::SESSION_CLOSED, 0x3, 0x3),
        (ResetCode::UNKNOWN_OBJECT_STATUS, 0x4, 0x6),
        (ResetCode::MALFORMED_TRACK, 0x12, 0x12),
    ];
    for (code, sixteen, later) in codes {
        for version in EVERY {
            let wire = if version == Version::Draft16 { sixteen } else { later };
            assert_eq!(code.to_wire(version), wire, "{code:?} in {version:?}");
            assert_eq!(ResetCode::from_wire(wire, version), code, "{wire:#x} in {version:?}");
        }
    }
    // Draft 16 has no word for these.
    for code in [ResetCode::GOING_AWAY, ResetCode::TOO_FAR_BEHIND, ResetCode::EXCESSIVE_LOAD] {
        assert_eq!(code.to_wire(Version::Draft16), 0x1);
        assert_eq!(ResetCode::from_wire(code.to_wire(Version::Draft18), Version::Draft22), code);
    }
}
