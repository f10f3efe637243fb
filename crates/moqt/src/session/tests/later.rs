//! What drafts with a stream per request have, or some of them.

use super::*;
use crate::{RangeField, RangeFilter};

#[test]
fn a_second_subscription_in_one_role_is_refused_until_draft_18() {
    for version in [Version::Draft16, Version::Draft18] {
        let mut pair = Pair::new(version);
        let duplicate = RequestErrorCode::DUPLICATE_SUBSCRIPTION;
        pair.ask(subscribe("video0"));
        assert_eq!(pair.refused(subscribe("video0")), duplicate);
        // The client publishes, so the server is the subscriber already.
        let id = pair.ends[1].request(subscribe("video1")).unwrap();
        pair.settle();
        pair.event(0);
        pair.answer(0, id, subscribe_ok(1));
        assert_eq!(pair.refused(publish("video1", 2)), duplicate);
        // Nor may the server subscribe to what the client published to it.
        let id = pair.ask(publish("video2", 3));
        pair.ends[1].request(subscribe("video2")).unwrap();
        pair.settle();
        let Event::Responded { response: Response::Error(error), .. } = pair.event(1) else {
            panic!()
        };
        assert_eq!(error.code, duplicate);
        pair.answer(1, id, ok());
    }
}

#[test]
fn subscriptions_to_one_track_share_an_alias_since_draft_19() {
    let mut pair = Pair::new(Version::Draft22);
    let first = pair.ask(subscribe("video0"));
    let second = pair.ask(subscribe("video0"));
    pair.answer(1, first, subscribe_ok(7));
    pair.answer(1, second, subscribe_ok(7));
    assert_eq!(pair.ends[0].track_alias(7), Alias::Request(first));
    assert_eq!(pair.ends[0].track_alias_requests(7), [first, second]);
    pair.ends[0].cancel(first, ResetCode::CANCELLED);
    assert_eq!(pair.ends[0].track_alias(7), Alias::Request(second));
    pair.ends[0].cancel(second, ResetCode::CANCELLED);
    assert_eq!(pair.ends[0].track_alias(7), Alias::Retired);
}

#[test]
fn an_alias_of_two_tracks_ends_the_session() {
    for version in EVERY {
        let mut pair = Pair::new(version);
        let first = pair.ask(subscribe("video0"));
        let second = pair.ask(subscribe("video1"));
        pair.answer(1, first, subscribe_ok(7));
        pair.ends[1].respond(second, subscribe_ok(7)).unwrap();
        pair.settle();
        assert_eq!(pair.closed.unwrap().code, SessionCode::DUPLICATE_TRACK_ALIAS);
    }
}

#[test]
fn a_refused_publish_may_name_the_alias_its_track_has() {
    let mut pair = Pair::new(Version::Draft18);
    pair.ask(publish("video0", 7));
    let code = pair.refused(publish("video0", 7));
    assert_eq!(code, RequestErrorCode::DUPLICATE_SUBSCRIPTION);
    assert!(matches!(pair.ends[1].track_alias(7), Alias::Request(_)));
}

#[test]
fn publish_ok_changes_the_subscription_in_every_draft() {
    for version in EVERY {
        let mut pair = Pair::new(version);
        let id = pair.ask(publish("video0", 7));
        let parameters = Parameters {
            forward: Some(false),
            subscriber_priority: Some(3),
            expires: Some(1000),
            ..Parameters::default()
        };
        let ok = RequestOk { parameters: parameters.clone(), ..RequestOk::default() };
        pair.ends[1].respond(id, Response::Ok(ok.clone())).unwrap();
        pair.settle();
        let Event::Responded { response: Response::Ok(heard), .. } = pair.event(0) else {
            panic!()
        };
        if version < Version::Draft22 {
            assert_eq!(heard, ok);
        } else {
            assert_eq!(heard.parameters.expires, Some(1000));
            let expected = Parameters { expires: None, ..parameters };
            assert_eq!(pair.event(0), Event::Updated { id, parameters: expected });
            pair.ends[0].respond_update(id, Ok(RequestOk::default())).unwrap();
            pair.settle();
            // The application never asked for an update.
            assert_eq!(pair.ends[1].poll_event(), None);
        }
        assert_eq!(pair.closed, None);
    }
}

#[test]
fn a_publisher_tells_what_it_changed() {
    for version in EVERY {
        let mut pair = Pair::new(version);
        let id = pair.ask(subscribe("video0"));
        pair.answer(1, id, subscribe_ok(7));
        let notify = Response::StateNotify(Parameters {
            forward: Some(false),
            largest_object: Some(Location { group: 4, object: 2 }),
            ..Parameters::default()
        });
        if version == Version::Draft22 {
            pair.answer(1, id, notify);
        } else {
            pair.ends[1].respond(id, notify).unwrap();
            pair.settle();
            assert_eq!(pair.ends[0].poll_event(), None);
        }
        assert_eq!(pair.closed, None);
    }
}

#[test]
fn a_prefix_moves_and_suffixes_with_it() {
    for version in LATER {
        let mut pair = Pair::new(version);
        let id = pair.ask(subscribe_namespace("live"));
        pair.answer(1, id, ok());
        pair.answer(1, id, Response::Namespace(namespace("cam1/a")));
        let prefix = |path| Parameters {
            track_namespace_prefix: Some(namespace(path)),
            ..Parameters::default()
        };
        pair.ends[0].update(id, prefix("live/cam1")).unwrap();
        pair.settle();
        assert_eq!(pair.event(1), Event::Updated { id, parameters: prefix("live/cam1") });
        pair.ends[1].respond_update(id, Ok(RequestOk::default())).unwrap();
        pair.settle();
        assert!(matches!(pair.event(0), Event::UpdateAnswered { result: Ok(_), .. }));
        // Known as "cam1/a" below "live", and as "a" from here on.
        pair.answer(1, id, Response::NamespaceDone(namespace("a")));
        // "live/cam2" is free now, and "live/cam1" is taken.
        let other = pair.ask(subscribe_namespace("live/cam2"));
        pair.answer(1, other, ok());
        let overlap = RequestErrorCode::PREFIX_OVERLAP;
        assert_eq!(pair.refused(subscribe_namespace("live/cam1/x")), overlap);
        // A move onto another is refused, and that is the end of it.
        pair.ends[0].update(other, prefix("live")).unwrap();
        pair.settle();
        let Event::UpdateAnswered { result: Err(error), .. } = pair.event(0) else { panic!() };
        assert_eq!(error.code, overlap);
        assert_eq!(pair.event(0), Event::Ended { id: other, code: None });
        assert_eq!(pair.event(1), Event::Ended { id: other, code: None });
        assert_eq!(pair.closed, None);
    }
}

#[test]
fn filters_are_taken_as_far_as_setup_allows() {
    let filtered = |ranges| {
        let filter = RangeFilter::Ranges { field: RangeField::Object, set: 0, ranges };
        Request::Subscribe(Subscribe {
            track: track("video0"),
            parameters: Parameters { range_filters: vec![filter], ..Parameters::default() },
        })
    };
    let mut configs = [Role::Client, Role::Server].map(|role| config(Version::Draft22, role));
    configs[1].setup.max_filter_ranges = Some(2);
    let mut pair = Pair::with(configs);
    let id = pair.ask(filtered(vec![(0, 1), (5, 9)]));
    let invalid = RequestErrorCode::INVALID_FILTER;
    assert_eq!(pair.refused(filtered(vec![(0, 1), (3, 4), (5, 9)])), invalid);
    pair.answer(1, id, subscribe_ok(0));

    // An update that asks too much fails, and the subscription with it.
    let Request::Subscribe(Subscribe { parameters, .. }) = filtered(vec![(0, 1), (3, 4), (5, 9)])
    else {
        panic!()
    };
    pair.ends[0].update(id, parameters).unwrap();
    pair.settle();
    let Event::UpdateAnswered { result: Err(error), .. } = pair.event(0) else { panic!() };
    assert_eq!(error.code, invalid);
    let Event::Responded { response: Response::PublishDone(done), .. } = pair.event(0) else {
        panic!()
    };
    assert_eq!(done.code, PublishDoneCode::UPDATE_FAILED);
    assert_eq!(pair.event(1), Event::Ended { id, code: Some(ResetCode::CANCELLED) });
    pair.assert_over();

    // Without the option none is taken.
    let mut pair = Pair::new(Version::Draft22);
    assert_eq!(pair.refused(filtered(vec![(0, 1)])), invalid);
}

#[test]
fn more_updates_than_setup_allows_are_not_sent_and_end_the_session_if_they_come() {
    let mut configs = [Role::Client, Role::Server].map(|role| config(Version::Draft22, role));
    configs[1].setup.max_request_updates = Some(1);
    let mut pair = Pair::with(configs);
    let id = pair.ask(subscribe("video0"));
    pair.answer(1, id, subscribe_ok(0));
    pair.ends[0].update(id, Parameters::default()).unwrap();
    let refused = pair.ends[0].update(id, Parameters::default());
    assert_eq!(refused, Err(EncodeError::MustWait));
    pair.settle();
    pair.event(1);
    pair.ends[0].peer.as_mut().unwrap().max_request_updates = None;
    pair.ends[0].update(id, Parameters::default()).unwrap();
    pair.settle();
    assert_eq!(pair.closed.unwrap().code, SessionCode::TOO_MANY_REQUEST_UPDATES);
}

#[test]
fn unanswered_updates_are_bounded_in_every_draft() {
    for version in EVERY {
        let mut pair = Pair::new(version);
        let id = pair.ask(subscribe("video0"));
        pair.answer(1, id, subscribe_ok(0));
        for _ in 0..3 {
            pair.ends[0].update(id, Parameters::default()).unwrap();
        }
        pair.settle();
        assert_eq!(pair.closed.unwrap().code, SessionCode::TOO_MANY_REQUEST_UPDATES);
    }
}

#[test]
fn tracks_with_mandatory_properties_are_not_handled() {
    let mut properties = Properties::new();
    properties.push_int(0x4000, 1);
    for version in LATER {
        let mut pair = Pair::new(version);
        let unsupported = RequestErrorCode::UNSUPPORTED_EXTENSION;
        let Request::Publish(mut request) = publish("video0", 1) else { panic!() };
        request.properties = properties.clone();
        assert_eq!(pair.refused(Request::Publish(request)), unsupported);

        let id = pair.ask(subscribe("video1"));
        let answer = Response::SubscribeOk(SubscribeOk {
            track_alias: 3,
            parameters: Parameters::default(),
            properties: properties.clone(),
        });
        pair.ends[1].respond(id, answer).unwrap();
        pair.settle();
        let Event::Responded { response: Response::Error(error), .. } = pair.event(0) else {
            panic!()
        };
        assert_eq!(error.code, unsupported);
        assert_eq!(pair.event(1), Event::Ended { id, code: Some(ResetCode::CANCELLED) });
        pair.assert_over();
    }
}

#[test]
fn a_fin_cancels_namespaces_until_draft_18_and_says_nothing_later() {
    for version in LATER {
        let mut pair = Pair::new(version);
        let id = pair.ask(subscribe_namespace("live"));
        pair.answer(1, id, ok());
        let stream = pair.ends[1].requests[&id].stream.unwrap();
        pair.ends[1].handle_stream(stream, &[], true);
        let event = pair.ends[1].poll_event();
        let ended = Event::Ended { id, code: None };
        assert_eq!(event, (version == Version::Draft18).then_some(ended));
    }
}

#[test]
fn a_peer_that_stops_reading_is_still_listened_to() {
    for version in LATER {
        let mut pair = Pair::new(version);
        let id = pair.ends[0].request(subscribe("video0")).unwrap();
        pair.settle();
        let stream = pair.ends[0].requests[&id].stream.unwrap();
        // The refusal is on its way when the peer, done with the stream, stops it.
        pair.ends[0].handle_stream_stopped(stream, ResetCode::INTERNAL_ERROR);
        assert_eq!(pair.ends[0].poll_event(), None);
        let error = RequestError::new(RequestErrorCode::DOES_NOT_EXIST, "no such track");
        pair.event(1);
        pair.answer(1, id, Response::Error(error));

        // A publisher learns that way that its subscriber left.
        let id = pair.ask(publish("video1", 2));
        pair.answer(1, id, ok());
        let stream = pair.ends[0].requests[&id].stream.unwrap();
        pair.ends[0].handle_stream_stopped(stream, ResetCode::CANCELLED);
        assert_eq!(pair.event(0), Event::Ended { id, code: Some(ResetCode::CANCELLED) });
    }
}

#[test]
fn a_joining_fetch_joins_a_subscription() {
    let join = |joining| {
        let range = FetchRange::RelativeJoining { joining, groups: 1 };
        Request::Fetch(Fetch { range, parameters: Parameters::default() })
    };
    for version in [Version::Draft16, Version::Draft18] {
        let mut pair = Pair::new(version);
        let invalid = RequestErrorCode::INVALID_JOINING_REQUEST_ID;
        let namespaces = pair.ask(publish_namespace("live"));
        assert_eq!(pair.refused(join(namespaces)), invalid);
        let id = pair.ask(subscribe("video0"));
        pair.ends[0].cancel(id, ResetCode::CANCELLED);
        pair.settle();
        pair.event(1);
        assert_eq!(pair.refused(join(id)), invalid);
        // The subscription's own stream may be late.
        let later = pair.ends[0].next_request + 2;
        pair.ends[0].request(join(later)).unwrap();
        pair.settle();
        assert_eq!(pair.backfill().unwrap().subscription, later);
    }
    let mut pair = Pair::new(Version::Draft22);
    assert!(pair.ends[0].request(join(0)).is_err());
}
