//! What holds in every draft.

use super::*;

#[test]
fn a_subscription_lives_and_ends() {
    for version in EVERY {
        let mut pair = Pair::new(version);
        let id = pair.ask(subscribe("video0"));
        pair.answer(1, id, subscribe_ok(7));
        assert_eq!(pair.ends[0].track_alias(7), Alias::Request(id));
        assert_eq!(pair.ends[0].track_alias(8), Alias::Unknown);
        pair.answer(1, id, done(PublishDoneCode::TOO_FAR_BEHIND));
        assert_eq!(pair.ends[0].track_alias(7), Alias::Retired);
        pair.assert_over();
    }
}

#[test]
fn cancelling_ends_the_request_at_both_ends() {
    let requests = [
        subscribe("video0"),
        fetch(Location::FIRST, Location::LAST),
        publish_namespace("live/cam1"),
        subscribe_namespace("live"),
    ];
    for (version, request) in EVERY.iter().flat_map(|v| requests.iter().map(move |r| (*v, r))) {
        let mut pair = Pair::new(version);
        let id = pair.ask(request.clone());
        pair.ends[0].cancel(id, ResetCode::CANCELLED);
        pair.settle();
        assert_eq!(pair.event(1), Event::Ended { id, code: Some(ResetCode::CANCELLED) });
        pair.assert_over();
    }
}

#[test]
fn a_publisher_ends_what_it_published() {
    for version in EVERY {
        let mut pair = Pair::new(version);
        let id = pair.ask(publish("video0", 5));
        assert_eq!(pair.ends[1].track_alias(5), Alias::Request(id));
        pair.answer(1, id, ok());
        pair.answer(0, id, done(PublishDoneCode::TRACK_ENDED));
        assert_eq!(pair.ends[1].track_alias(5), Alias::Retired);
        pair.assert_over();
    }
}

#[test]
fn a_subscriber_leaves_what_was_published_to_it() {
    for version in EVERY {
        let mut pair = Pair::new(version);
        let id = pair.ask(publish("video0", 5));
        pair.answer(1, id, ok());
        pair.ends[1].cancel(id, ResetCode::CANCELLED);
        pair.settle();
        assert_eq!(pair.event(0), Event::Ended { id, code: Some(ResetCode::CANCELLED) });
        pair.assert_over();
    }
}

#[test]
fn updates_are_answered_in_order() {
    for version in EVERY {
        let mut pair = Pair::new(version);
        let id = pair.ask(subscribe("video0"));
        pair.answer(1, id, subscribe_ok(0));
        let set = |forward| Parameters { forward: Some(forward), ..Parameters::default() };
        for forward in [false, true] {
            pair.ends[0].update(id, set(forward)).unwrap();
        }
        pair.settle();
        for forward in [false, true] {
            assert_eq!(pair.event(1), Event::Updated { id, parameters: set(forward) });
        }
        let largest_object = Some(Location { group: 3, object: 1 });
        let parameters = Parameters { largest_object, ..Parameters::default() };
        let answers = [RequestOk::default(), RequestOk { parameters, ..RequestOk::default() }];
        for answer in &answers {
            pair.ends[1].respond_update(id, Ok(answer.clone())).unwrap();
        }
        pair.settle();
        for answer in answers {
            assert_eq!(pair.event(0), Event::UpdateAnswered { id, result: Ok(answer) });
        }
    }
}

#[test]
fn a_subscriber_updates_what_was_published_to_it() {
    for version in EVERY {
        let mut pair = Pair::new(version);
        let id = pair.ask(publish("video0", 5));
        pair.answer(1, id, ok());
        let parameters = Parameters { subscriber_priority: Some(9), ..Parameters::default() };
        pair.ends[1].update(id, parameters.clone()).unwrap();
        pair.settle();
        assert_eq!(pair.event(0), Event::Updated { id, parameters });
        pair.ends[0].respond_update(id, Ok(RequestOk::default())).unwrap();
        pair.settle();
        let result = Ok(RequestOk::default());
        assert_eq!(pair.event(1), Event::UpdateAnswered { id, result });
    }
}

#[test]
fn a_failed_update_then_ends_the_subscription() {
    for version in EVERY {
        let mut pair = Pair::new(version);
        let id = pair.ask(subscribe("video0"));
        pair.answer(1, id, subscribe_ok(0));
        pair.ends[0].update(id, Parameters::default()).unwrap();
        pair.settle();
        pair.event(1);
        let error = RequestError::new(RequestErrorCode::INVALID_RANGE, "no");
        pair.ends[1].respond_update(id, Err(error.clone())).unwrap();
        pair.settle();
        assert_eq!(pair.event(0), Event::UpdateAnswered { id, result: Err(error) });
        pair.answer(1, id, done(PublishDoneCode::UPDATE_FAILED));
        pair.assert_over();
    }
}

#[test]
fn namespaces_come_and_go() {
    for version in EVERY {
        let mut pair = Pair::new(version);
        let id = pair.ask(subscribe_namespace("live"));
        pair.answer(1, id, ok());
        pair.answer(1, id, Response::Namespace(namespace("cam1")));
        pair.answer(1, id, Response::NamespaceDone(namespace("cam1")));
        pair.answer(1, id, Response::Namespace(namespace("cam1")));
        // The publisher ends it.
        pair.ends[1].cancel(id, ResetCode::GOING_AWAY);
        pair.settle();
        assert_eq!(pair.event(0), Event::Ended { id, code: Some(ResetCode::GOING_AWAY) });
        pair.assert_over();
    }
}

#[test]
fn tracks_are_subscribed_to_by_prefix() {
    for version in EVERY {
        let mut pair = Pair::new(version);
        let id = pair.ask(subscribe_tracks("live"));
        pair.answer(1, id, ok());
        // Draft 16 has no word for it.
        let blocked = Response::PublishBlocked(crate::PublishBlocked {
            suffix: namespace("cam1"),
            name: Bytes::from_static(b"video0"),
        });
        if version == Version::Draft16 {
            pair.ends[1].respond(id, blocked).unwrap();
            pair.settle();
            assert_eq!(pair.ends[0].poll_event(), None);
        } else {
            pair.answer(1, id, blocked);
        }
    }
}

#[test]
fn more_namespaces_than_are_taken_cancel_the_request() {
    for version in EVERY {
        let mut pair = Pair::new(version);
        let id = pair.ask(subscribe_namespace("live"));
        pair.answer(1, id, ok());
        for name in ["a", "b"] {
            pair.answer(1, id, Response::Namespace(namespace(name)));
        }
        pair.ends[1].respond(id, Response::Namespace(namespace("c"))).unwrap();
        pair.settle();
        let ended = Event::Ended { id, code: Some(ResetCode::EXCESSIVE_LOAD) };
        assert_eq!(pair.event(0), ended);
        assert_eq!(pair.event(1), ended);
        pair.assert_over();
    }
}

#[test]
fn track_status_is_answered_once() {
    for version in EVERY {
        let mut pair = Pair::new(version);
        let request = Request::TrackStatus(crate::TrackStatus {
            track: track("video0"),
            parameters: Parameters::default(),
        });
        let id = pair.ask(request);
        pair.answer(1, id, ok());
        pair.assert_over();
    }
}

#[test]
fn a_fetch_is_answered() {
    for version in EVERY {
        let mut pair = Pair::new(version);
        let end = Location { group: 4, object: 1 };
        let id = pair.ask(fetch(Location::start_of(4), Location::end_of(4)));
        pair.answer(1, id, fetch_ok(end));
        assert_eq!(pair.closed, None);
    }
}

#[test]
fn a_fetch_that_ends_before_it_starts_is_refused_and_its_answer_is_a_violation() {
    for version in EVERY {
        let [early, late] = [2, 5].map(|object| Location { group: 3, object });
        let mut pair = Pair::new(version);
        assert_eq!(pair.refused(fetch(late, early)), RequestErrorCode::INVALID_RANGE);
        let id = pair.ask(fetch(late, Location::LAST));
        pair.ends[1].respond(id, fetch_ok(early)).unwrap();
        pair.settle();
        assert_eq!(pair.closed.unwrap().code, SessionCode::PROTOCOL_VIOLATION);
    }
}

#[test]
fn overlapping_prefixes_are_refused() {
    for version in EVERY {
        let mut pair = Pair::new(version);
        let id = pair.ask(subscribe_namespace("live"));
        pair.answer(1, id, ok());
        let overlap = RequestErrorCode::PREFIX_OVERLAP;
        assert_eq!(pair.refused(subscribe_namespace("live/cam1")), overlap);
        assert_eq!(pair.closed, None);
    }
}

#[test]
fn more_requests_than_allowed_are_refused_for_now() {
    for version in EVERY {
        let mut pair = Pair::new(version);
        for name in ["a", "b", "c"] {
            pair.ask(subscribe(name));
        }
        pair.ends[0].request(subscribe("d")).unwrap();
        pair.settle();
        let Event::Responded { response: Response::Error(error), .. } = pair.event(0) else {
            panic!()
        };
        assert_eq!((error.code, error.retry_after), (RequestErrorCode::EXCESSIVE_LOAD, Some(1000)));
    }
}

#[test]
fn more_requests_are_taken_once_more_are_allowed() {
    for version in EVERY {
        let mut pair = Pair::new(version);
        pair.ends[1].limit_requests(50);
        for name in 0..50 {
            let name: &'static str = Box::leak(name.to_string().into());
            pair.ask(subscribe(name));
        }
        assert_eq!(pair.refused(subscribe("51")), RequestErrorCode::EXCESSIVE_LOAD);
        assert_eq!(pair.closed, None);
    }
}

#[test]
fn goaway_refuses_what_comes_after_it() {
    for version in EVERY {
        let mut pair = Pair::new(version);
        pair.ends[1].go_away(Bytes::from_static(b"moqt://other"), 5000).unwrap();
        pair.settle();
        let Event::GoAway(goaway) = pair.event(0) else { panic!() };
        assert_eq!(goaway.uri, "moqt://other");
        assert_eq!(goaway.timeout, if version == Version::Draft16 { 0 } else { 5000 });
        assert_eq!(goaway.request, (version == Version::Draft18).then_some(0));
        assert_eq!(pair.refused(subscribe("video0")), RequestErrorCode::GOING_AWAY);
    }
}

#[test]
fn objects_of_the_past_are_asked_for_and_answered() {
    for version in EVERY {
        let mut pair = Pair::new(version);
        let groups = std::num::NonZeroU64::new(2).unwrap();
        let fill =
            Fill { filter: Some(LocationFilter::RelativeStart { groups }), ..Fill::default() };
        let Request::Subscribe(request) = subscribe("video0") else { panic!() };
        let (id, stream) = pair.ends[0].subscribe(request, Some(fill.clone())).unwrap();
        let stream = stream.unwrap();
        pair.settle();
        let mut backfill = pair.backfill();
        if version < Version::Draft22 {
            assert_eq!(backfill, None);
            backfill = pair.backfill();
        }
        let backfill = backfill.unwrap();
        assert_eq!((backfill.stream, backfill.subscription), (stream, id));
        let largest = Location { group: 9, object: 4 };
        let range = backfill.range(Some(largest), None).unwrap();
        assert_eq!((range.start, range.end), (Location::start_of(8), largest));
        pair.answer(1, id, subscribe_ok(1));

        assert_eq!(backfill.answer, version < Version::Draft22);
        if backfill.answer {
            pair.answer(1, stream, fetch_ok(largest));
        }

        // Once more, while it is under way.
        let stream = pair.ends[0].backfill(id, fill).unwrap();
        pair.settle();
        let backfill = pair.backfill().unwrap();
        assert_eq!((backfill.stream, backfill.subscription), (stream, id));
        assert_eq!(pair.closed, None);
    }
}

#[test]
fn an_answer_to_what_was_just_cancelled_is_ignored() {
    for version in EVERY {
        let mut pair = Pair::new(version);
        let id = pair.ask(subscribe("video0"));
        // The two cross.
        pair.ends[0].cancel(id, ResetCode::CANCELLED);
        pair.ends[1].respond(id, subscribe_ok(3)).unwrap();
        pair.settle();
        assert_eq!(pair.event(1), Event::Ended { id, code: Some(ResetCode::CANCELLED) });
        pair.assert_over();
    }
}

#[test]
fn requests_wait_for_setup() {
    for version in EVERY {
        let now = Instant::now();
        let mut server = Session::new(config(version, Role::Server), now);
        let mut client = Session::new(config(version, Role::Client), now);
        let subscribed = client.request(subscribe_namespace("live")).unwrap();
        // Draft 16's client learns only from SERVER_SETUP that it may ask.
        if version == Version::Draft16 {
            assert!(client.poll_output().is_some() && client.poll_output().is_none());
            continue;
        }
        let Some(Output::Control(setup)) = client.poll_output() else { panic!() };
        let Some(Output::Request { bytes, .. }) = client.poll_output() else { panic!() };
        let stream = server.accept_stream();
        server.handle_stream(stream, &bytes, false);
        assert_eq!(server.poll_event(), None);
        server.handle_control(&setup, false);
        assert!(matches!(server.poll_event(), Some(Event::Ready(_))));
        assert!(
            matches!(server.poll_event(), Some(Event::Requested { id, .. }) if id == subscribed)
        );
    }
}

#[test]
fn a_stream_that_runs_far_ahead_of_setup_is_turned_away_alone() {
    for version in EVERY {
        let mut server = Session::new(config(version, Role::Server), Instant::now());
        let stream = server.accept_stream();
        server.handle_stream(stream, &[0x03; 70_000], false);
        let outputs: Vec<_> = std::iter::from_fn(|| server.poll_output()).collect();
        let reset = Output::Reset { stream, code: ResetCode::EXCESSIVE_LOAD };
        assert_eq!(outputs.last(), Some(&reset), "{version}");
        assert!(!server.is_closed());
    }
}

#[test]
fn a_silent_peer_is_closed_after_the_setup_timeout() {
    for version in EVERY {
        let now = Instant::now();
        let mut server = Session::new(config(version, Role::Server), now);
        let deadline = server.poll_timeout().expect("a timeout");
        server.handle_timeout(deadline);
        let outputs: Vec<_> = std::iter::from_fn(|| server.poll_output()).collect();
        let Some(Output::Close(error)) = outputs.last() else { panic!() };
        assert_eq!(error.code, SessionCode::CONTROL_MESSAGE_TIMEOUT);
    }
}

#[test]
fn nothing_is_put_out_after_close() {
    for version in EVERY {
        let mut pair = Pair::new(version);
        let id = pair.ends[0].request(subscribe("video0")).unwrap();
        pair.ends[0].close(SessionCode::NO_ERROR, "bye");
        pair.ends[0].request(subscribe("video1")).unwrap();
        pair.ends[0].cancel(id, ResetCode::CANCELLED);
        pair.ends[0].go_away(Bytes::new(), 0).unwrap();
        let outputs: Vec<_> = std::iter::from_fn(|| pair.ends[0].poll_output()).collect();
        assert!(matches!(outputs.last(), Some(Output::Close(_))), "{outputs:?}");
    }
}

#[test]
fn tokens_are_registered_used_and_bounded() {
    for version in EVERY {
        let mut pair = Pair::new(version);
        let publish = |tokens| {
            Request::PublishNamespace(PublishNamespace {
                namespace: namespace("live/cam1"),
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
}

#[test]
fn tokens_in_setup_are_registered_as_far_as_they_fit() {
    for version in EVERY {
        let mut configs = [config(version, Role::Client), config(version, Role::Server)];
        let register = |alias, size| crate::AuthToken::Register {
            alias,
            kind: 0,
            value: vec![0; size].into(),
        };
        // 16 + 20 bytes fit into 64, 16 + 20 more do not.
        configs[0].setup.authorization_tokens = vec![register(1, 20), register(2, 20)];
        let mut pair = Pair::with(configs);
        let value = Bytes::from(vec![0; 20]);
        let token = crate::AuthToken::UseValue { kind: 0, value };
        let heard = &pair.ends[1].peer().unwrap().authorization_tokens;
        assert_eq!(heard, &vec![token.clone(), token.clone()]);
        let status = |alias| {
            let tokens = vec![crate::AuthToken::UseAlias { alias }];
            Request::TrackStatus(crate::TrackStatus {
                track: track("video0"),
                parameters: Parameters { authorization_tokens: tokens, ..Parameters::default() },
            })
        };
        pair.ends[0].request(status(1)).unwrap();
        pair.settle();
        assert!(matches!(pair.event(1), Event::Requested { .. }));
        pair.ends[0].request(status(2)).unwrap();
        pair.settle();
        assert_eq!(pair.closed.unwrap().code, SessionCode::UNKNOWN_AUTH_TOKEN_ALIAS);
    }
}
