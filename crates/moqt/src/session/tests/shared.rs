//! What draft 16 alone has.

use super::*;
use crate::codec::shared::{Interest, SharedMessage, encode};

const V: Version = Version::Draft16;

fn bytes(messages: &[SharedMessage]) -> Vec<u8> {
    let mut buf = BytesMut::new();
    for message in messages {
        encode(message, &mut buf).unwrap();
    }
    buf.to_vec()
}

/// Feeds messages to the server's control stream and returns how it closed.
fn provoke(messages: &[SharedMessage]) -> Option<SessionCode> {
    let mut pair = Pair::new(V);
    let control = pair.ends[1].shared_control().unwrap();
    pair.ends[1].handle_stream(control, &bytes(messages), false);
    std::iter::from_fn(|| pair.ends[1].poll_output()).find_map(|output| match output {
        Output::Close(error) => Some(error.code),
        _ => None,
    })
}

fn request(id: RequestId, request: Request) -> SharedMessage {
    SharedMessage::Request { id, request }
}

#[test]
fn it_never_uses_a_control_stream_of_its_own() {
    let now = Instant::now();
    let mut client = Session::new(config(V, Role::Client), now);
    let mut server = Session::new(config(V, Role::Server), now);
    let Some(Output::Request { stream, bytes, fin: false }) = client.poll_output() else {
        panic!("CLIENT_SETUP")
    };
    assert_eq!(server.poll_output(), None, "the server waits for the client");
    // Another stream may come first.
    let early = server.accept_stream();
    server.handle_stream(early, &[0x11, 0, 4, 2, 0, 1, 0], false);
    let control = server.accept_stream();
    for byte in &bytes {
        server.handle_stream(control, &[*byte], false);
    }
    assert!(matches!(server.poll_event(), Some(Event::Ready(_))));
    assert!(matches!(
        server.poll_event(),
        Some(Event::Requested { id: 2, request: Request::SubscribeNamespace(_) })
    ));
    let Some(Output::Request { stream: to, bytes, .. }) = server.poll_output() else {
        panic!("SERVER_SETUP")
    };
    assert_eq!(to, control);
    client.handle_stream(stream, &bytes, false);
    assert!(matches!(client.poll_event(), Some(Event::Ready(_))));
}

#[test]
fn losing_the_control_stream_ends_the_session() {
    for lose in [
        (|session, stream| session.handle_stream(stream, &[], true)) as fn(&mut Session, StreamId),
        |session, stream| session.handle_stream_reset(stream, ResetCode::CANCELLED),
        |session, stream| session.handle_stream_stopped(stream, ResetCode::CANCELLED),
    ] {
        for end in 0..2 {
            let mut pair = Pair::new(V);
            let control = pair.ends[end].shared_control().unwrap();
            lose(&mut pair.ends[end], control);
            pair.settle();
            assert_eq!(pair.closed.unwrap().code, SessionCode::PROTOCOL_VIOLATION);
        }
    }
}

#[test]
fn requests_wait_for_max_request_id_and_go_in_order() {
    let mut pair = Pair::new(V);
    // Limits allow 3 open requests, and 6 IDs ahead.
    let ids: Vec<_> =
        (0..8).map(|_| pair.ends[0].request(publish_namespace("live")).unwrap()).collect();
    let late = pair.ends[0].request(subscribe_namespace("other")).unwrap();
    // Given up before it was sent: it goes all the same, for IDs have no holes.
    pair.ends[0].cancel(ids[7], ResetCode::CANCELLED);
    pair.ends[0].cancel(late, ResetCode::CANCELLED);
    pair.settle();
    assert_eq!(pair.closed, None);
    let heard: Vec<_> = std::iter::from_fn(|| pair.ends[1].poll_event())
        .filter_map(|event| match event {
            Event::Requested { id, .. } => Some(id),
            _ => None,
        })
        .collect();
    assert_eq!(heard, ids[..3], "three are open, the others were refused by the limit");
    let refused: Vec<_> = std::iter::from_fn(|| pair.ends[0].poll_event())
        .filter_map(|event| match event {
            Event::Responded { id, response: Response::Error(_) } => Some(id),
            _ => None,
        })
        .collect();
    assert_eq!(refused, ids[3..7]);
    assert_eq!(pair.ends[1].peer_ids.smallest_unseen(), late + 2);
}

#[test]
fn being_blocked_is_told_once_for_each_limit() {
    let now = Instant::now();
    let mut client = Session::new(config(V, Role::Client), now);
    let Some(Output::Request { stream, .. }) = client.poll_output() else { panic!() };
    let says = |client: &mut Session, message: SharedMessage| {
        client.handle_stream(stream, &bytes(&[message]), false);
        let mut sent = BytesMut::new();
        while let Some(output) = client.poll_output() {
            let Output::Request { bytes, .. } = output else { panic!("{output:?}") };
            sent.extend_from_slice(&bytes);
        }
        std::iter::from_fn(|| crate::codec::shared::decode(&mut sent).unwrap())
            .filter(|message| matches!(message, SharedMessage::RequestsBlocked(_)))
            .collect::<Vec<_>>()
    };
    let setup =
        SharedMessage::Setup { from: Role::Server, setup: Setup::default(), max_request_id: 2 };
    assert_eq!(says(&mut client, setup), []);
    for name in ["a", "b", "c", "d"] {
        client.request(subscribe(name)).unwrap();
    }
    // The first was allowed; the second said that it waits.
    let same = SharedMessage::RequestsBlocked(7);
    assert_eq!(says(&mut client, same), [SharedMessage::RequestsBlocked(2)]);
    assert_eq!(says(&mut client, SharedMessage::MaxRequestId(4)), []);
}

#[test]
fn a_request_beyond_the_limit_ends_the_session() {
    let code = provoke(&[request(1000, publish_namespace("live"))]);
    assert_eq!(code, Some(SessionCode::TOO_MANY_REQUESTS));
    assert_eq!(provoke(&[SharedMessage::MaxRequestId(1000)]), None);
    let lower = provoke(&[SharedMessage::MaxRequestId(1000), SharedMessage::MaxRequestId(1000)]);
    assert_eq!(lower, Some(SessionCode::PROTOCOL_VIOLATION));
}

#[test]
fn messages_about_requests_that_never_were_end_the_session() {
    let update = |existing| SharedMessage::Update {
        existing,
        update: RequestUpdate { id: 2, parameters: Parameters::default() },
    };
    for message in [
        SharedMessage::Unsubscribe(8),
        SharedMessage::FetchCancel(8),
        SharedMessage::PublishNamespaceDone(8),
        SharedMessage::PublishOk { to: 9, parameters: Parameters::default() },
        SharedMessage::Response { to: Some(9), response: ok() },
    ] {
        let code = provoke(std::slice::from_ref(&message));
        assert_eq!(code, Some(SessionCode::INVALID_REQUEST_ID), "{message:?}");
    }
    assert_eq!(provoke(&[update(8)]), Some(SessionCode::PROTOCOL_VIOLATION));
    // One that is over is another matter: the two crossed.
    let over = [
        request(0, subscribe("video0")),
        SharedMessage::Unsubscribe(0),
        SharedMessage::Unsubscribe(0),
        update(0),
    ];
    assert_eq!(provoke(&over), None);
    // And one of another kind is not for that message.
    let code = provoke(&[request(0, subscribe("video0")), SharedMessage::FetchCancel(0)]);
    assert_eq!(code, Some(SessionCode::PROTOCOL_VIOLATION));
}

#[test]
fn a_subscription_to_namespaces_and_tracks_is_two_requests() {
    let subscribe = SharedMessage::SubscribeNamespace {
        id: 0,
        prefix: namespace("live"),
        interest: Interest::Both,
        parameters: Parameters::default(),
    };
    let start = || {
        let mut pair = Pair::new(V);
        let stream = pair.ends[1].accept_stream();
        pair.ends[1].handle_stream(stream, &bytes(std::slice::from_ref(&subscribe)), false);
        let Event::Requested { id: first, request: Request::SubscribeNamespace(_) } = pair.event(1)
        else {
            panic!()
        };
        let Event::Requested { id: twin, request: Request::SubscribeTracks(_) } = pair.event(1)
        else {
            panic!()
        };
        (pair, stream, first, twin)
    };
    // One answer goes out for the two.
    let (mut pair, stream, first, twin) = start();
    pair.ends[1].respond(twin, ok()).unwrap();
    assert_eq!(pair.ends[1].poll_output(), None);
    pair.ends[1].respond(first, ok()).unwrap();
    let sent = bytes(&[SharedMessage::Response { to: Some(0), response: ok() }]);
    let output = Output::Request { stream, bytes: sent.into(), fin: false };
    assert_eq!(pair.ends[1].poll_output(), Some(output));
    // The stream's end is the end of both.
    pair.ends[1].handle_stream_reset(stream, ResetCode::CANCELLED);
    assert_eq!(pair.event(1), Event::Ended { id: twin, code: None });
    assert_eq!(pair.event(1), Event::Ended { id: first, code: Some(ResetCode::CANCELLED) });
    assert_eq!(pair.ends[1].open_requests(), 0);

    // Giving up one half says nothing to the peer.
    let (mut pair, _, first, twin) = start();
    pair.ends[1].cancel(twin, ResetCode::CANCELLED);
    assert_eq!(pair.ends[1].poll_output(), None);
    assert_eq!(pair.ends[1].open_requests(), 1);
    pair.ends[1].respond(first, ok()).unwrap();
    assert!(pair.ends[1].poll_output().is_some());
}

#[test]
fn refusing_a_publish_and_withdrawing_acceptance_are_told() {
    let mut pair = Pair::new(V);
    let id = pair.ask(publish("video0", 1));
    pair.ends[1].cancel(id, ResetCode::CANCELLED);
    pair.settle();
    let Event::Responded { response: Response::Error(error), .. } = pair.event(0) else { panic!() };
    assert_eq!(error.code, RequestErrorCode::UNINTERESTED);
    let id = pair.ask(publish_namespace("live"));
    pair.answer(1, id, ok());
    pair.ends[1].cancel(id, ResetCode::CANCELLED);
    pair.settle();
    assert_eq!(pair.event(0), Event::Ended { id, code: Some(ResetCode::CANCELLED) });
    // A publisher that drops a subscription says so with PUBLISH_DONE.
    let id = pair.ask(subscribe("video1"));
    pair.answer(1, id, subscribe_ok(4));
    pair.ends[1].cancel(id, ResetCode::TOO_FAR_BEHIND);
    pair.settle();
    let Event::Responded { response: Response::PublishDone(done), .. } = pair.event(0) else {
        panic!()
    };
    assert_eq!(done.code, PublishDoneCode::TOO_FAR_BEHIND);
    pair.assert_over();
}

#[test]
fn parameters_out_of_place_are_ignored() {
    // SUBSCRIBE with EXPIRES, which belongs to its answer.
    let mut pair = Pair::new(V);
    let control = pair.ends[1].shared_control().unwrap();
    let message = [3, 0, 9, 0, 1, 1, b'a', 1, b'b', 1, 8, 5];
    pair.ends[1].handle_stream(control, &message, false);
    let Event::Requested { request: Request::Subscribe(subscribe), .. } = pair.event(1) else {
        panic!()
    };
    assert_eq!(subscribe.parameters, Parameters::default());
    // An unknown one is a violation here too: "An endpoint that receives an unknown Message
    // Parameter MUST close the session".
    let message = [3, 0, 9, 2, 1, 1, b'a', 1, b'b', 1, 0x3e, 5];
    pair.ends[1].handle_stream(control, &message, false);
    pair.settle();
    assert_eq!(pair.closed.unwrap().code, SessionCode::PROTOCOL_VIOLATION);
}
