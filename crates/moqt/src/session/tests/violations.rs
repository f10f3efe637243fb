//! How a peer that breaks the rules is closed.

use super::*;

/// Feeds raw bytes to a server as one request stream after SETUP and returns how it closed.
fn provoke(version: Version, bytes: &[u8], fin: bool) -> Option<SessionCode> {
    let mut pair = Pair::new(version);
    let stream = pair.ends[1].accept_stream();
    pair.ends[1].handle_stream(stream, bytes, fin);
    pair.settle();
    pair.closed.map(|error| error.code)
}

#[test]
fn a_peer_that_breaks_the_rules_is_closed_with_the_drafts_code() {
    let violation = Some(SessionCode::PROTOCOL_VIOLATION);
    for version in LATER {
        let provoke = |bytes: &[u8], fin| provoke(version, bytes, fin);
        // Unknown message type.
        assert_eq!(provoke(&[0x3f], false), violation);
        // SUBSCRIBE cut short, and with the server's parity.
        assert_eq!(provoke(&[3, 0, 8, 1, 1, 1, b'a', 1, b'b', 0], false), None);
        assert_eq!(
            provoke(&[3, 0, 7, 1, 1, 1, b'a', 1, b'b', 0], false),
            Some(SessionCode::INVALID_REQUEST_ID)
        );
        // One byte too many in the payload.
        assert_eq!(provoke(&[3, 0, 8, 0, 1, 1, b'a', 1, b'b', 0, 0], false), violation);
        // A parameter this message may not have, an unknown and a repeated one.
        assert_eq!(provoke(&[3, 0, 9, 0, 1, 1, b'a', 1, b'b', 1, 8, 0], false), violation);
        assert_eq!(provoke(&[3, 0, 9, 0, 1, 1, b'a', 1, b'b', 1, 0x3f, 0], false), violation);
        let twice = [3, 0, 11, 0, 1, 1, b'a', 1, b'b', 2, 2, 1, 0, 1];
        assert_eq!(provoke(&twice, false), violation);
        // FIN inside a message, and with no message at all.
        assert_eq!(provoke(&[3, 0, 7, 0], true), violation);
        assert_eq!(provoke(&[], true), violation);
        // REQUEST_OK and SETUP as first message.
        assert_eq!(provoke(&[7, 0, 1, 0], false), violation);
        assert_eq!(provoke(&[0xaf, 0x00, 0, 0], false), violation);
    }
}

#[test]
fn an_update_may_only_change_what_its_request_has() {
    for version in LATER {
        let fails = |request: Request, parameters: Parameters| {
            let mut pair = Pair::new(version);
            let id = pair.ask(request);
            pair.ends[0].update(id, parameters).unwrap();
            pair.settle();
            pair.closed.map(|error| error.code)
        };
        let violation = Some(SessionCode::PROTOCOL_VIOLATION);
        let forward = Parameters { forward: Some(true), ..Parameters::default() };
        let prefix =
            Parameters { track_namespace_prefix: Some(namespace("x")), ..Parameters::default() };
        assert_eq!(fails(subscribe("video0"), forward.clone()), None);
        assert_eq!(fails(subscribe("video0"), prefix.clone()), violation);
        assert_eq!(fails(subscribe_namespace("live"), prefix), None);
        assert_eq!(fails(subscribe_namespace("live"), forward.clone()), violation);
        let tracks = (version == Version::Draft18).then_some(violation).flatten();
        assert_eq!(fails(subscribe_tracks("live"), forward.clone()), tracks);
        assert_eq!(fails(publish_namespace("live"), forward), violation);
    }
}

#[test]
fn answers_that_do_not_belong_end_the_session() {
    for version in EVERY {
        let fails = |request: Request, responses: &[Response]| {
            let mut pair = Pair::new(version);
            let id = pair.ends[0].request(request).unwrap();
            pair.settle();
            for response in responses {
                pair.ends[1].respond(id, response.clone()).unwrap();
            }
            pair.settle();
            pair.closed.map(|error| error.code)
        };
        let violation = Some(SessionCode::PROTOCOL_VIOLATION);
        assert_eq!(fails(subscribe("a"), &[ok()]), violation);
        assert_eq!(fails(subscribe("a"), &[done(PublishDoneCode::EXPIRED)]), violation);
        assert_eq!(fails(subscribe("a"), &[subscribe_ok(1), subscribe_ok(1)]), violation);
        assert_eq!(fails(publish("a", 1), &[ok(), ok()]), violation);
        let name = || Response::Namespace(namespace("x"));
        assert_eq!(fails(subscribe_namespace("live"), &[name()]), violation);
        let gone = || Response::NamespaceDone(namespace("x"));
        assert_eq!(fails(subscribe_namespace("live"), &[ok(), gone()]), violation);
        // What is only said again changes nothing.
        let again = [ok(), name(), name(), gone(), gone(), name(), gone()];
        assert_eq!(fails(subscribe_namespace("live"), &again), None);
    }
}

#[test]
fn the_control_stream_stays_open_and_holds_what_belongs_there() {
    let violation = SessionCode::PROTOCOL_VIOLATION;
    for version in LATER {
        let mut pair = Pair::new(version);
        pair.ends[1].handle_control(&[], true);
        pair.settle();
        assert_eq!(pair.closed.unwrap().code, violation);
        // A second SETUP.
        let mut pair = Pair::new(version);
        pair.ends[1].handle_control(&[0xaf, 0x00, 0, 0], false);
        pair.settle();
        assert_eq!(pair.closed.unwrap().code, violation);
        // A second GOAWAY.
        let mut pair = Pair::new(version);
        let goaway = GoAway { request: Some(1), ..GoAway::default() };
        for _ in 0..2 {
            pair.ends[0].send_control(Message::GoAway(goaway.clone())).unwrap();
        }
        pair.settle();
        assert_eq!(pair.closed.unwrap().code, violation);
        // A client that sends a server elsewhere.
        let mut pair = Pair::new(version);
        pair.ends[0].go_away(Bytes::from_static(b"moqt://x"), 0).unwrap();
        pair.settle();
        assert_eq!(pair.closed.unwrap().code, violation);
    }
}

#[test]
fn setup_options_of_the_wrong_side_or_form_are_refused() {
    for version in EVERY {
        let closes = |role: Role, setup: Setup, transport: Transport| {
            let mut configs = [config(version, Role::Client), config(version, Role::Server)];
            for config in &mut configs {
                config.transport = transport;
                if config.role == role {
                    config.setup = setup.clone();
                }
            }
            let now = Instant::now();
            let mut pair = Pair {
                ends: configs.map(|config| Session::new(config, now)),
                names: Default::default(),
                closed: None,
            };
            pair.settle();
            pair.closed.map(|error| error.code)
        };
        let path = |path: &'static str| Setup {
            path: Some(Bytes::from_static(path.as_bytes())),
            ..Setup::default()
        };
        let authority = |authority: &'static str| Setup {
            authority: Some(Bytes::from_static(authority.as_bytes())),
            ..Setup::default()
        };
        let (raw, web) = (Transport::RawQuic, Transport::WebTransport);
        assert_eq!(closes(Role::Client, path("/a?b"), raw), None);
        assert_eq!(closes(Role::Client, authority("example.org:4433"), raw), None);
        let code = closes(Role::Client, path("a"), raw);
        assert_eq!(code, Some(SessionCode::MALFORMED_PATH));
        assert_eq!(closes(Role::Client, path("/"), web), Some(SessionCode::INVALID_PATH));
        assert_eq!(closes(Role::Server, path("/"), raw), Some(SessionCode::INVALID_PATH));
        let code = closes(Role::Client, authority("a b"), raw);
        assert_eq!(code, Some(SessionCode::MALFORMED_AUTHORITY));
        let code = closes(Role::Server, authority("a"), raw);
        assert_eq!(code, Some(SessionCode::INVALID_AUTHORITY));
    }
}

#[test]
fn unfinished_messages_are_bounded_together() {
    for version in EVERY {
        let mut pair = Pair::new(version);
        let end = &mut pair.ends[1];
        end.config.limits.unfinished_bytes = 3 * 2000;
        // SUBSCRIBE_NAMESPACE, which has a stream of its own in every draft, and its length.
        let kind = if version == Version::Draft16 { &[0x11][..] } else { &[0x50][..] };
        let begun = [kind, &[0xff, 0xff], &[0; 1997]].concat();
        for _ in 0..3 {
            let stream = end.accept_stream();
            end.handle_stream(stream, &begun, false);
            assert!(!end.is_closed(), "{version}");
        }
        let stream = end.accept_stream();
        end.handle_stream(stream, &begun, false);
        assert!(end.is_closed(), "{version}");
    }
}
