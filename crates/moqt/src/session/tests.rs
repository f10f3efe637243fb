#![expect(clippy::disallowed_methods, reason = "a test has to begin at some instant")]

use super::*;
use crate::{
    Filter, FullTrackName, Namespace, PublishDone, PublishDoneCode, PublishNamespace, Subscribe,
    SubscribeNamespace, SubscribeOk,
};

fn config(role: Role) -> Config {
    Config {
        version: Version::Draft18,
        role,
        transport: Transport::RawQuic,
        setup: Setup { max_auth_token_cache_size: Some(64), ..Setup::default() },
        limits: Limits { requests: 3, ..Limits::default() },
    }
}

/// Two sessions with perfect streams between them.
struct Pair {
    ends: [Session; 2],
    /// The peer's name for each stream, per end.
    names: [HashMap<StreamId, StreamId>; 2],
    closed: Option<ProtocolError>,
}

impl Pair {
    fn new() -> Self {
        let now = Instant::now();
        let mut pair = Self {
            ends: [
                Session::new(config(Role::Client), now),
                Session::new(config(Role::Server), now),
            ],
            names: Default::default(),
            closed: None,
        };
        pair.settle();
        assert!(
            matches!(pair.event(0), Event::Ready(_)) && matches!(pair.event(1), Event::Ready(_))
        );
        pair
    }

    fn settle(&mut self) {
        let mut moved = true;
        while std::mem::take(&mut moved) {
            for from in 0..2 {
                while let Some(output) = self.ends[from].poll_output() {
                    moved = true;
                    self.carry(from, output);
                }
            }
        }
    }

    fn carry(&mut self, from: usize, output: Output) {
        let to = 1 - from;
        match output {
            Output::Control(bytes) => self.ends[to].handle_control(&bytes, false),
            Output::Request { stream, bytes, fin } => {
                let name = match self.names[from].get(&stream) {
                    Some(name) => *name,
                    None => {
                        let name = self.ends[to].accept_stream();
                        self.names[from].insert(stream, name);
                        self.names[to].insert(name, stream);
                        name
                    }
                };
                self.ends[to].handle_stream(name, &bytes, fin);
            }
            Output::Reset { stream, code } => {
                let name = self.names[from][&stream];
                self.ends[to].handle_stream_reset(name, code);
            }
            Output::Forget(_) => {}
            Output::Close(error) => self.closed = Some(error),
        }
    }

    fn event(&mut self, end: usize) -> Event {
        self.ends[end].poll_event().expect("an event")
    }

    fn idle(&mut self) -> bool {
        self.ends[0].poll_event().is_none() && self.ends[1].poll_event().is_none()
    }
}

fn track(name: &'static str) -> FullTrackName {
    FullTrackName::new(Namespace::from_path("live/cam1").unwrap(), name).unwrap()
}

fn subscribe(name: &'static str) -> Request {
    Request::Subscribe(Subscribe {
        track: track(name),
        parameters: Parameters { filter: Some(Filter::LargestObject), ..Parameters::default() },
    })
}

fn subscribe_ok(track_alias: u64) -> Response {
    Response::SubscribeOk(SubscribeOk {
        track_alias,
        parameters: Parameters::default(),
        properties: Default::default(),
    })
}

#[test]
fn a_subscription_lives_and_ends() {
    let mut pair = Pair::new();
    let id = pair.ends[0].request(subscribe("video0")).unwrap();
    pair.settle();
    assert_eq!(pair.event(1), Event::Requested { id, request: subscribe("video0") });
    pair.ends[1].respond(id, subscribe_ok(7)).unwrap();
    pair.settle();
    assert_eq!(pair.event(0), Event::Responded { id, response: subscribe_ok(7) });
    assert_eq!(pair.ends[0].track_alias(7), Alias::Request(id));
    assert_eq!(pair.ends[0].track_alias(8), Alias::Unknown);

    let done = Response::PublishDone(PublishDone {
        code: PublishDoneCode::TRACK_ENDED,
        stream_count: 2,
        reason: Bytes::new(),
    });
    pair.ends[1].respond(id, done.clone()).unwrap();
    pair.settle();
    assert_eq!(pair.event(0), Event::Responded { id, response: done });
    assert_eq!(pair.ends[0].track_alias(7), Alias::Retired);
    assert!(pair.idle() && pair.ends.iter().all(|end| end.open_requests() == 0));
    assert!(pair.ends.iter().all(|end| end.streams.is_empty()));
    assert_eq!(pair.closed, None);
}

#[test]
fn cancelling_ends_the_request_at_both_ends() {
    let mut pair = Pair::new();
    let id = pair.ends[0].request(subscribe("video0")).unwrap();
    pair.settle();
    pair.event(1);
    pair.ends[0].cancel(id, ResetCode::CANCELLED);
    pair.settle();
    assert_eq!(pair.event(1), Event::Ended { id, code: Some(ResetCode::CANCELLED) });
    assert!(pair.ends.iter().all(|end| end.open_requests() == 0 && end.streams.is_empty()));
}

#[test]
fn updates_are_answered_in_order() {
    let mut pair = Pair::new();
    let id = pair.ends[0].request(subscribe("video0")).unwrap();
    pair.settle();
    pair.event(1);
    pair.ends[1].respond(id, subscribe_ok(0)).unwrap();
    pair.settle();
    pair.event(0);
    let parameters = Parameters { forward: Some(false), ..Parameters::default() };
    pair.ends[0].update(id, parameters.clone()).unwrap();
    pair.settle();
    assert_eq!(pair.event(1), Event::Updated { id, parameters });
    pair.ends[1].respond_update(id, Ok(RequestOk::default())).unwrap();
    pair.settle();
    assert_eq!(pair.event(0), Event::UpdateAnswered { id, result: Ok(RequestOk::default()) });
}

#[test]
fn a_second_subscription_to_a_track_and_overlapping_prefixes_are_refused() {
    let mut pair = Pair::new();
    pair.ends[0].request(subscribe("video0")).unwrap();
    let twice = pair.ends[0].request(subscribe("video0")).unwrap();
    pair.settle();
    pair.event(1);
    let Event::Responded { id, response: Response::Error(error) } = pair.event(0) else { panic!() };
    assert_eq!((id, error.code), (twice, RequestErrorCode::DUPLICATE_SUBSCRIPTION));

    let prefix = |path| {
        Request::SubscribeNamespace(SubscribeNamespace {
            prefix: Namespace::from_path(path).unwrap(),
            parameters: Parameters::default(),
        })
    };
    pair.ends[0].request(prefix("live")).unwrap();
    pair.ends[0].request(prefix("live/cam1")).unwrap();
    pair.settle();
    let Event::Responded { response: Response::Error(error), .. } = pair.event(0) else { panic!() };
    assert_eq!(error.code, RequestErrorCode::PREFIX_OVERLAP);
}

#[test]
fn more_requests_than_allowed_are_refused_for_now() {
    let mut pair = Pair::new();
    for name in ["a", "b", "c", "d"] {
        pair.ends[0].request(subscribe(name)).unwrap();
    }
    pair.settle();
    let Event::Responded { response: Response::Error(error), .. } = pair.event(0) else { panic!() };
    assert_eq!((error.code, error.retry_after), (RequestErrorCode::EXCESSIVE_LOAD, Some(1000)));
}

#[test]
fn goaway_refuses_what_comes_after_it() {
    let mut pair = Pair::new();
    pair.ends[1].go_away(Bytes::new(), 5000).unwrap();
    pair.settle();
    assert!(matches!(pair.event(0), Event::GoAway(GoAway { timeout: 5000, request: Some(0), .. })));
    pair.ends[0].request(subscribe("video0")).unwrap();
    pair.settle();
    let Event::Responded { response: Response::Error(error), .. } = pair.event(0) else { panic!() };
    assert_eq!(error.code, RequestErrorCode::GOING_AWAY);
}

#[test]
fn requests_wait_for_setup() {
    let now = Instant::now();
    let mut server = Session::new(config(Role::Server), now);
    let mut client = Session::new(config(Role::Client), now);
    client.request(subscribe("video0")).unwrap();
    let Some(Output::Control(setup)) = client.poll_output() else { panic!() };
    let Some(Output::Request { bytes, .. }) = client.poll_output() else { panic!() };
    let stream = server.accept_stream();
    server.handle_stream(stream, &bytes, false);
    assert_eq!(server.poll_event(), None);
    server.handle_control(&setup, false);
    assert!(matches!(server.poll_event(), Some(Event::Ready(_))));
    assert!(matches!(server.poll_event(), Some(Event::Requested { .. })));
}

#[test]
fn a_silent_peer_is_closed_after_the_setup_timeout() {
    let now = Instant::now();
    let mut server = Session::new(config(Role::Server), now);
    let deadline = server.poll_timeout().expect("a timeout");
    server.handle_timeout(deadline);
    server.poll_output();
    let Some(Output::Close(error)) = server.poll_output() else { panic!() };
    assert_eq!(error.code, SessionCode::CONTROL_MESSAGE_TIMEOUT);
}

/// Feeds raw bytes to a server as one request stream after SETUP and returns how it closed.
fn provoke(bytes: &[u8], fin: bool) -> Option<SessionCode> {
    let mut pair = Pair::new();
    let stream = pair.ends[1].accept_stream();
    pair.ends[1].handle_stream(stream, bytes, fin);
    pair.settle();
    pair.closed.map(|error| error.code)
}

#[test]
fn a_peer_that_breaks_the_rules_is_closed_with_the_drafts_code() {
    // Unknown message type.
    assert_eq!(provoke(&[0x3f], false), Some(SessionCode::PROTOCOL_VIOLATION));
    // SUBSCRIBE with the server's parity.
    let subscribe = [3, 0, 8, 1, 1, 1, b'a', 1, b'b', 0, 0];
    assert_eq!(provoke(&subscribe[..10], false), None);
    assert_eq!(
        provoke(&[3, 0, 7, 1, 1, 1, b'a', 1, b'b', 0], false),
        Some(SessionCode::INVALID_REQUEST_ID)
    );
    // One byte too many in the payload.
    assert_eq!(
        provoke(&[3, 0, 8, 0, 1, 1, b'a', 1, b'b', 0, 0], false),
        Some(SessionCode::PROTOCOL_VIOLATION)
    );
    // FIN inside a message, and with no message at all.
    assert_eq!(provoke(&[3, 0, 7, 0], true), Some(SessionCode::PROTOCOL_VIOLATION));
    assert_eq!(provoke(&[], true), Some(SessionCode::PROTOCOL_VIOLATION));
    // REQUEST_OK as first message.
    assert_eq!(provoke(&[7, 0, 1, 0], false), Some(SessionCode::PROTOCOL_VIOLATION));
}

#[test]
fn tokens_are_registered_used_and_bounded() {
    let mut pair = Pair::new();
    let publish = |tokens| {
        Request::PublishNamespace(PublishNamespace {
            namespace: Namespace::from_path("live/cam1").unwrap(),
            parameters: Parameters { authorization_tokens: tokens, ..Parameters::default() },
        })
    };
    let value = Bytes::from_static(b"secret");
    let register = crate::AuthToken::Register { alias: 1, kind: 0, value: value.clone() };
    pair.ends[0].request(publish(vec![register])).unwrap();
    pair.ends[0].request(publish(vec![crate::AuthToken::UseAlias { alias: 1 }])).unwrap();
    pair.settle();
    let expected = publish(vec![crate::AuthToken::UseValue { kind: 0, value }]);
    for _ in 0..2 {
        let Event::Requested { request, .. } = pair.event(1) else { panic!() };
        assert_eq!(request, expected);
    }
    let big = crate::AuthToken::Register { alias: 2, kind: 0, value: vec![0; 64].into() };
    pair.ends[0].request(publish(vec![big])).unwrap();
    pair.settle();
    assert_eq!(pair.closed.unwrap().code, SessionCode::AUTH_TOKEN_CACHE_OVERFLOW);
}
