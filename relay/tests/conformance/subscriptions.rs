//! SUBSCRIBE, PUBLISH, REQUEST_UPDATE, and how a relay joins publishers and subscribers.

use moqt::{
    Event, Filter, Location, Parameters, Properties, Publish, PublishDone, PublishDoneCode,
    Request, RequestErrorCode, RequestOk, ResetCode, Response, Setup, SubscribeTracks, Version,
    property,
};

use transport::{Endpoint, EndpointConfig};

use super::peer::{Heard, Peer, header, name, namespace, subscribe_ok};
use super::{EVERY, LATER};
use crate::common::{Machine, Relay};

fn forward(forward: bool) -> Parameters {
    Parameters { forward: Some(forward), ..Parameters::default() }
}

fn done(code: PublishDoneCode, stream_count: u64) -> Response {
    Response::PublishDone(PublishDone { code, stream_count, reason: Default::default() })
}

#[tokio::test]
async fn nobody_waits_unless_asked_to() {
    let machine = Machine::new();
    for version in LATER {
        let relay = machine.relay(version.alpn(), &[]);
        let mut viewer = Peer::connect(&relay, version).await;
        let track = name("live/none", "video");
        let id = viewer.subscribe(&track, Parameters::default()).await;
        assert_eq!(viewer.refusal(id).await.code, RequestErrorCode::DOES_NOT_EXIST);
        // While somebody does wait, whoever does not want to hears the same at once.
        let rendezvous = |ms| Parameters { rendezvous_timeout: Some(ms), ..Parameters::default() };
        let waiting = viewer.subscribe(&track, rendezvous(2_000)).await;
        let mut other = Peer::connect(&relay, version).await;
        let id = other.subscribe(&track, rendezvous(0)).await;
        assert_eq!(other.refusal(id).await.code, RequestErrorCode::DOES_NOT_EXIST);
        assert_eq!(viewer.refusal(waiting).await.code, RequestErrorCode::TIMEOUT);
    }
}

#[tokio::test]
async fn a_publisher_may_watch_itself() {
    let machine = Machine::new();
    for version in EVERY {
        let relay = machine.relay(version.alpn(), &[]);
        let mut peer = Peer::connect(&relay, version).await;
        peer.publish_namespace("live/self").await;
        let track = name("live/self", "video");
        let id = peer.subscribe(&track, Parameters::default()).await;
        let (_, asked) = peer.accept(subscribe_ok(7, None)).await;
        assert_eq!(asked.track, track);
        peer.accepted(id).await;
        peer.group(7, 0, 2).await;
        assert_eq!(peer.object(id, (0, 1)).await, "0/1");
    }
}

#[tokio::test]
async fn a_paused_subscription_gets_nothing_until_it_is_resumed() {
    let machine = Machine::new();
    for version in EVERY {
        let relay = machine.relay(version.alpn(), &[]);
        let mut publisher = Peer::connect(&relay, version).await;
        publisher.publish_namespace("live/pause").await;
        let track = name("live/pause", "video");
        let mut viewer = Peer::connect(&relay, version).await;
        let id = viewer.subscribe(&track, forward(true)).await;
        publisher.accept(subscribe_ok(7, None)).await;
        viewer.accepted(id).await;
        let mut stream = publisher.open(header(7, 0)).await;
        stream.object(0, b"seen").await;
        viewer.object(id, (0, 0)).await;

        let ok = viewer.update(id, forward(false)).await.unwrap();
        assert_eq!(ok.parameters.largest_object, Some(Location { group: 0, object: 0 }));
        // What is left out of a stream resets it.
        assert_eq!(viewer.end(id, 0).await, Some(ResetCode::CANCELLED));
        stream.object(1, b"unseen").await;

        // A viewer beside it tells when the relay has it.
        let mut other = Peer::connect(&relay, version).await;
        let beside = other.subscribe(&track, Parameters::default()).await;
        other.accepted(beside).await;
        other.object(beside, (0, 1)).await;
        viewer.never("an object", |heard| matches!(heard, Heard::Object { .. })).await;

        let ok = viewer.update(id, forward(true)).await.unwrap();
        assert_eq!(ok.parameters.largest_object, Some(Location { group: 0, object: 1 }));
        stream.object(2, b"seen again").await;
        assert_eq!(viewer.object(id, (0, 2)).await, "seen again");
    }
}

#[tokio::test]
async fn nothing_outside_a_filter_is_sent() {
    let machine = Machine::new();
    for version in EVERY {
        let relay = machine.relay(version.alpn(), &[]);
        let mut publisher = Peer::connect(&relay, version).await;
        publisher.publish_namespace("live/filter").await;
        let track = name("live/filter", "video");
        let start = Location { group: 5, object: 1 };
        let filter = Some(Filter::AbsoluteRange { start, end_group: 6 });
        let mut viewer = Peer::connect(&relay, version).await;
        let id = viewer.subscribe(&track, Parameters { filter, ..Parameters::default() }).await;
        publisher.accept(subscribe_ok(7, None)).await;
        viewer.accepted(id).await;
        let mut other = Peer::connect(&relay, version).await;
        let beside = other.subscribe(&track, Parameters::default()).await;
        other.accepted(beside).await;
        for group in 4..8 {
            publisher.group(7, group, 2).await;
            other.object(beside, (group, 1)).await;
        }
        for at in [(5, 1), (6, 0), (6, 1)] {
            viewer.object(id, at).await;
        }
        viewer.never("another object", |heard| matches!(heard, Heard::Object { .. })).await;
        // Whole as far as it was asked for: a FIN, and no reset.
        assert_eq!([viewer.end(id, 5).await, viewer.end(id, 6).await], [None, None]);
    }
}

/// Subscribes to groups that are over; the answer is still to come.
async fn ask_what_is_over(relay: &Relay, version: Version) -> (Peer, Peer, moqt::RequestId) {
    let mut publisher = Peer::connect(relay, version).await;
    publisher.publish_namespace("live/over").await;
    let track = name("live/over", "video");
    let filter =
        Some(Filter::AbsoluteRange { start: Location { group: 1, object: 0 }, end_group: 2 });
    let viewer = Peer::connect(relay, version).await;
    let id = viewer.subscribe(&track, Parameters { filter, ..Parameters::default() }).await;
    publisher.accept(subscribe_ok(7, Some((9, 0)))).await;
    (publisher, viewer, id)
}

#[tokio::test]
async fn a_range_that_is_over_is_refused_until_draft_18() {
    let machine = Machine::new();
    for version in [Version::Draft16, Version::Draft18] {
        let relay = machine.relay(version.alpn(), &[]);
        let (publisher, mut viewer, id) = ask_what_is_over(&relay, version).await;
        assert_eq!(viewer.refusal(id).await.code, RequestErrorCode::INVALID_RANGE);
        // No objects for what was refused.
        publisher.group(7, 10, 1).await;
        viewer.never("a stream", |heard| matches!(heard, Heard::Begun { .. })).await;
    }
}

#[tokio::test]
async fn any_range_is_accepted_since_draft_20() {
    let machine = Machine::new();
    let relay = machine.relay("relay", &[]);
    let (_publisher, mut viewer, id) = ask_what_is_over(&relay, Version::Draft22).await;
    viewer.accepted(id).await;
}

#[tokio::test]
async fn the_largest_object_is_the_largest_told_or_received() {
    let machine = Machine::new();
    for version in EVERY {
        let relay = machine.relay(version.alpn(), &[]);
        let mut publisher = Peer::connect(&relay, version).await;
        publisher.publish_namespace("live/largest").await;
        let track = name("live/largest", "video");
        let mut viewer = Peer::connect(&relay, version).await;
        let id = viewer.subscribe(&track, Parameters::default()).await;
        publisher.accept(subscribe_ok(7, Some((4, 2)))).await;
        let ok = viewer.accepted(id).await;
        assert_eq!(ok.parameters.largest_object, Some(Location { group: 4, object: 2 }));
        publisher.group(7, 5, 1).await;
        viewer.object(id, (5, 0)).await;
        let mut late = Peer::connect(&relay, version).await;
        let id = late.subscribe(&track, Parameters::default()).await;
        let ok = late.accepted(id).await;
        assert_eq!(ok.parameters.largest_object, Some(Location { group: 5, object: 0 }));
    }
}

#[tokio::test]
async fn a_published_track_is_paused_until_somebody_wants_it() {
    let machine = Machine::new();
    for version in EVERY {
        let relay = machine.relay(version.alpn(), &[]);
        let mut publisher = Peer::connect(&relay, version).await;
        let track = name("live/published", "video");
        let publish = |largest_object| {
            Request::Publish(Publish {
                track: track.clone(),
                track_alias: 7,
                parameters: Parameters { largest_object, ..Parameters::default() },
                properties: Properties::new(),
            })
        };
        let largest = Location { group: 3, object: 1 };
        let published = publisher.request(publish(Some(largest))).await;
        let Response::Ok(ok) = publisher.answer(published).await else { panic!("PUBLISH_OK") };
        if version < Version::Draft22 {
            assert_eq!(ok.parameters.forward, Some(false));
        } else {
            assert_eq!(publisher.updated(published).await.forward, Some(false));
        }
        // It is established, so a viewer is accepted at once, and the publisher resumed.
        let mut viewer = Peer::connect(&relay, version).await;
        let id = viewer.subscribe(&track, Parameters::default()).await;
        let ok = viewer.accepted(id).await;
        assert_eq!(ok.parameters.largest_object, Some(largest));
        assert_eq!(publisher.updated(published).await.forward, Some(true));
        publisher.group(7, 4, 1).await;
        viewer.object(id, (4, 0)).await;
        viewer.cancel(id).await;
        assert_eq!(publisher.updated(published).await.forward, Some(false));
        // It never spoke of its namespace, so nothing else of it is asked.
        let other = viewer.subscribe(&name("live/published", "audio"), forward(true)).await;
        assert_eq!(viewer.refusal(other).await.code, RequestErrorCode::DOES_NOT_EXIST);
    }
}

#[tokio::test]
async fn a_publish_takes_the_place_of_a_subscribe_that_is_not_answered() {
    let machine = Machine::new();
    for version in EVERY {
        let relay = machine.relay(version.alpn(), &[]);
        let mut publisher = Peer::connect(&relay, version).await;
        publisher.publish_namespace("live/both").await;
        let track = name("live/both", "video");
        let mut viewer = Peer::connect(&relay, version).await;
        let id = viewer.subscribe(&track, Parameters::default()).await;
        let (asked, request) = publisher.asked().await;
        assert!(matches!(request, Request::Subscribe(_)), "{request:?}");
        let publish = Request::Publish(Publish {
            track: track.clone(),
            track_alias: 7,
            parameters: Parameters::default(),
            properties: Properties::new(),
        });
        let published = publisher.request(publish).await;
        publisher
            .pick("the end of the relay's SUBSCRIBE", |heard| {
                matches!(heard, Heard::Session(Event::Ended { id, .. }) if *id == asked)
                    .then_some(())
            })
            .await;
        assert!(matches!(publisher.answer(published).await, Response::Ok(_)));
        viewer.accepted(id).await;
        publisher.group(7, 0, 1).await;
        viewer.object(id, (0, 0)).await;
    }
}

#[tokio::test]
async fn a_track_that_needs_what_nobody_understands_is_refused_to_those_who_wait() {
    let machine = Machine::new();
    for version in LATER {
        let relay = machine.relay(version.alpn(), &[]);
        let mut publisher = Peer::connect(&relay, version).await;
        publisher.publish_namespace("live/needs").await;
        let mut viewer = Peer::connect(&relay, version).await;
        let wants = Parameters { rendezvous_timeout: Some(20_000), ..Parameters::default() };
        let id = viewer.subscribe(&name("live/needs", "video"), wants).await;
        let mut ok = subscribe_ok(7, None);
        ok.properties.push_int(0x4000, 1);
        publisher.accept(ok).await;
        assert_eq!(viewer.refusal(id).await.code, RequestErrorCode::UNSUPPORTED_EXTENSION);
    }
}

#[tokio::test]
async fn a_track_is_had_from_all_who_publish_it_and_one_may_leave() {
    let machine = Machine::new();
    for version in EVERY {
        let relay = machine.relay(version.alpn(), &[]);
        let mut publishers = Vec::new();
        for _ in 0..2 {
            let mut publisher = Peer::connect(&relay, version).await;
            publisher.publish_namespace("live/two").await;
            publishers.push(publisher);
        }
        let mut viewer = Peer::connect(&relay, version).await;
        let id = viewer.subscribe(&name("live/two", "video"), Parameters::default()).await;
        for publisher in &mut publishers {
            publisher.accept(subscribe_ok(7, None)).await;
        }
        viewer.accepted(id).await;
        let [mut first, mut second] =
            [publishers[0].open(header(7, 0)).await, publishers[1].open(header(7, 0)).await];
        for id in 0..2 {
            first.object(id, format!("0/{id}").as_bytes()).await;
            second.object(id, format!("0/{id}").as_bytes()).await;
        }
        for at in [(0, 0), (0, 1)] {
            viewer.object(id, at).await;
        }
        // The first one dies in the middle of the group.
        publishers.remove(0).connection.close(moqt::SessionCode::INTERNAL_ERROR, "dead");
        second.object(2, b"0/2").await;
        second.finish();
        assert_eq!(viewer.object(id, (0, 2)).await, "0/2");
        assert_eq!(viewer.end(id, 0).await, None);
        viewer.never("an object twice", |heard| matches!(heard, Heard::Object { .. })).await;
        viewer.never("the end", |heard| {
            matches!(heard, Heard::Session(Event::Responded { id: over, .. }) if *over == id)
        })
        .await;
    }
}

#[tokio::test]
async fn the_end_of_a_track_counts_its_streams() {
    let machine = Machine::new();
    for version in EVERY {
        let relay = machine.relay(version.alpn(), &[]);
        let mut publisher = Peer::connect(&relay, version).await;
        publisher.publish_namespace("live/count").await;
        let mut viewer = Peer::connect(&relay, version).await;
        let id = viewer.subscribe(&name("live/count", "video"), Parameters::default()).await;
        let (asked, _) = publisher.accept(subscribe_ok(7, None)).await;
        viewer.accepted(id).await;
        for group in 0..3 {
            publisher.group(7, group, 2).await;
            viewer.object(id, (group, 1)).await;
        }
        publisher.respond(asked, done(PublishDoneCode::TRACK_ENDED, 3)).await;
        let Response::PublishDone(done) = viewer.answer(id).await else { panic!("PUBLISH_DONE") };
        assert_eq!((done.code, done.stream_count), (PublishDoneCode::TRACK_ENDED, 3));
    }
}

#[tokio::test]
async fn an_unanswered_subscribe_is_not_waited_for_for_ever() {
    let machine = Machine::new();
    let relay = machine.relay("relay", &[]);
    let mut publisher = Peer::connect(&relay, Version::Draft18).await;
    publisher.publish_namespace("live/mute").await;
    let mut viewer = Peer::connect(&relay, Version::Draft18).await;
    let id = viewer.subscribe(&name("live/mute", "video"), Parameters::default()).await;
    publisher.asked().await;
    assert_eq!(viewer.refusal(id).await.code, RequestErrorCode::TIMEOUT);
}

#[tokio::test]
async fn a_new_group_is_asked_for_where_the_track_allows_it() {
    let machine = Machine::new();
    for version in EVERY {
        let relay = machine.relay(version.alpn(), &[]);
        let mut publisher = Peer::connect(&relay, version).await;
        publisher.publish_namespace("live/new").await;
        let wants = |group| Parameters { new_group_request: Some(group), ..Parameters::default() };
        let track = name("live/new", "video");
        let mut viewer = Peer::connect(&relay, version).await;
        let id = viewer.subscribe(&track, wants(0)).await;
        let mut ok = subscribe_ok(7, Some((3, 0)));
        ok.properties.push_int(property::DYNAMIC_GROUPS, 1);
        let (asked, subscribe) = publisher.accept(ok).await;
        assert_eq!(subscribe.parameters.new_group_request, Some(0));
        viewer.accepted(id).await;
        publisher.group(7, 4, 1).await;
        viewer.object(id, (4, 0)).await;
        // One that is here already is not asked for, a newer one once.
        viewer.update(id, wants(4)).await.unwrap();
        viewer.update(id, wants(5)).await.unwrap();
        viewer.update(id, wants(5)).await.unwrap();
        assert_eq!(publisher.updated(asked).await.new_group_request, Some(5));
        publisher.group(7, 5, 1).await;
        viewer.object(id, (5, 0)).await;
        viewer.update(id, wants(0)).await.unwrap();
        assert_eq!(publisher.updated(asked).await.new_group_request, Some(0));
    }
}

#[tokio::test]
async fn nobody_publishes_in_the_name_of_the_relays() {
    let machine = Machine::new();
    let relay = machine.relay("relay", &[]);
    let mut peer = Peer::connect(&relay, Version::Draft18).await;
    let request = Request::Publish(Publish {
        track: name("weir/nodes/relay", "snapshot"),
        track_alias: 1,
        parameters: Parameters::default(),
        properties: Properties::new(),
    });
    let id = peer.request(request).await;
    assert_eq!(peer.refusal(id).await.code, RequestErrorCode::UNAUTHORIZED);
    // Nor is anything read of it.
    let stream = peer.open(header(1, 0)).await;
    assert_eq!(stream.stopped().await, Some(ResetCode::CANCELLED));
    // Who publishes every namespace there is still does not publish theirs.
    let id = peer
        .request(Request::PublishNamespace(moqt::PublishNamespace {
            namespace: moqt::Namespace::default(),
            parameters: Parameters::default(),
        }))
        .await;
    peer.answer(id).await;
    let mut viewer = Peer::connect(&relay, Version::Draft18).await;
    let id = viewer.subscribe(&name("weir/nodes/nobody", "snapshot"), forward(true)).await;
    assert_eq!(viewer.refusal(id).await.code, RequestErrorCode::DOES_NOT_EXIST);
    let asked = peer.has_heard(|heard| matches!(heard, Heard::Session(Event::Requested { .. })));
    assert!(!asked);
}

#[tokio::test]
async fn a_publisher_that_leaves_is_asked_nothing_more() {
    let machine = Machine::new();
    for version in EVERY {
        let relay = machine.relay(version.alpn(), &[]);
        let mut leaver = Peer::connect(&relay, version).await;
        leaver.publish_namespace("live/leave").await;
        leaver.go_away().await;
        let mut stayer = Peer::connect(&relay, version).await;
        stayer.publish_namespace("live/leave").await;
        let mut viewer = Peer::connect(&relay, version).await;
        let id = viewer.subscribe(&name("live/leave", "video"), Parameters::default()).await;
        stayer.accept(subscribe_ok(7, None)).await;
        viewer.accepted(id).await;
        let asked =
            leaver.has_heard(|heard| matches!(heard, Heard::Session(Event::Requested { .. })));
        assert!(!asked);
    }
}

#[tokio::test]
async fn setup_says_what_we_are_and_no_more() {
    let machine = Machine::new();
    for version in EVERY {
        let relay = machine.relay(version.alpn(), &[]);
        let peer = Peer::connect(&relay, version).await;
        let Setup { implementation, path, authority, .. } = peer.setup.clone();
        let implementation = implementation.expect("MOQT_IMPLEMENTATION");
        let said = std::str::from_utf8(&implementation).unwrap();
        assert_eq!(said, concat!("weir-relay/", env!("CARGO_PKG_VERSION")));
        assert_eq!((path, authority), (None, None));
    }
}

#[tokio::test]
async fn a_client_names_the_place_where_web_transport_has_not() {
    let machine = Machine::new();
    let relay = machine.relay("relay", &[]);
    let endpoint = Endpoint::client(EndpointConfig::default()).unwrap();
    for (url, said) in [(relay.url(), true), (relay.web_transport_url(), false)] {
        let connection = endpoint.connect(&url, &relay.tls()).await.unwrap();
        let url = url.join("/a/place?and=more").unwrap();
        let setup = connection.client_setup(&url);
        let authority = format!("127.0.0.1:{}", url.port().unwrap());
        assert_eq!(setup.authority, said.then(|| authority.into()));
        assert_eq!(setup.path, said.then(|| "/a/place?and=more".into()));
    }
}

#[tokio::test]
async fn a_relay_that_stops_says_so_and_closes_whoever_stays() {
    for version in EVERY {
        let machine = Machine::new();
        let mut relay = machine.relay("relay", &[]);
        let mut peer = Peer::connect(&relay, version).await;
        peer.publish_namespace("live/stays").await;
        relay.terminate();
        peer.pick("GOAWAY", |heard| {
            matches!(heard, Heard::Session(Event::GoAway(_))).then_some(())
        })
        .await;
        let id = peer.subscribe(&name("live/stays", "video"), Parameters::default()).await;
        assert_eq!(peer.refusal(id).await.code, RequestErrorCode::GOING_AWAY);
        let code = peer.closed().await;
        assert_eq!(code, Some(moqt::SessionCode::GOAWAY_TIMEOUT));
        relay.ended().await;
    }
}

#[tokio::test]
async fn tracks_are_offered_to_those_who_asked_for_them() {
    let machine = Machine::new();
    for version in EVERY {
        let relay = machine.relay(version.alpn(), &[]);
        let mut viewer = Peer::connect(&relay, version).await;
        let follow = |forward| {
            Request::SubscribeTracks(SubscribeTracks {
                prefix: namespace("live"),
                parameters: Parameters { forward, ..Parameters::default() },
            })
        };
        let id = viewer.request(follow(None)).await;
        assert!(matches!(viewer.answer(id).await, Response::Ok(_)));
        let mut paused = Peer::connect(&relay, version).await;
        let id = paused.request(follow(Some(false))).await;
        assert!(matches!(paused.answer(id).await, Response::Ok(_)));

        // The publisher follows too, and is not told of its own.
        let mut publisher = Peer::connect(&relay, version).await;
        let id = publisher.request(follow(None)).await;
        assert!(matches!(publisher.answer(id).await, Response::Ok(_)));
        let mut properties = Properties::new();
        properties.push_int(0x3802, 9);
        let largest_object = Some(Location { group: 2, object: 0 });
        let publish = Publish {
            track: name("live/offered", "video"),
            track_alias: 7,
            parameters: Parameters { largest_object, ..Parameters::default() },
            properties: properties.clone(),
        };
        let published = publisher.request(Request::Publish(publish)).await;
        let mut offers = Vec::new();
        for (peer, forward) in [(&mut viewer, true), (&mut paused, false)] {
            let (id, request) = peer.asked().await;
            let Request::Publish(offer) = request else { panic!("{request:?}") };
            assert_eq!(offer.track, name("live/offered", "video"));
            assert_eq!(offer.parameters.forward.unwrap_or(true), forward);
            assert_eq!(offer.parameters.largest_object, largest_object);
            assert_eq!(offer.properties.int(0x3802), Some(9));
            offers.push(id);
        }
        publisher
            .never("its own track", |heard| {
                matches!(heard, Heard::Session(Event::Requested { .. }))
            })
            .await;
        // Whoever accepts gets objects.
        let ok = Response::Ok(RequestOk { parameters: forward(true), ..RequestOk::default() });
        let ok = if version == Version::Draft22 { Response::Ok(RequestOk::default()) } else { ok };
        viewer.respond(offers[0], ok).await;
        let answer = publisher.answer(published).await;
        assert!(matches!(answer, Response::Ok(_)), "{answer:?}");
        publisher.resumed(published).await;
        publisher.group(7, 3, 1).await;
        assert_eq!(viewer.object(offers[0], (3, 0)).await, "3/0");
    }
}

#[tokio::test]
async fn two_subscriptions_to_a_track_are_two() {
    let machine = Machine::new();
    let relay = machine.relay("relay", &[]);
    let mut publisher = Peer::connect(&relay, Version::Draft22).await;
    publisher.publish_namespace("live/twice").await;
    let mut viewer = Peer::connect(&relay, Version::Draft22).await;
    let track = name("live/twice", "video");
    let first = viewer.subscribe(&track, Parameters::default()).await;
    let second = viewer.subscribe(&track, Parameters::default()).await;
    publisher.accept(subscribe_ok(7, None)).await;
    viewer.accepted(first).await;
    viewer.accepted(second).await;
    publisher.group(7, 0, 1).await;
    viewer.object(first, (0, 0)).await;
    viewer.object(second, (0, 0)).await;
    // One goes, the other goes on.
    viewer.cancel(first).await;
    viewer.fence().await;
    publisher.group(7, 1, 1).await;
    viewer.object(second, (1, 0)).await;
}

#[tokio::test]
async fn a_cancelled_subscription_loses_its_streams() {
    let machine = Machine::new();
    for version in EVERY {
        let relay = machine.relay(version.alpn(), &[]);
        let mut publisher = Peer::connect(&relay, version).await;
        publisher.publish_namespace("live/cancel").await;
        let mut viewer = Peer::connect(&relay, version).await;
        let id = viewer.subscribe(&name("live/cancel", "video"), Parameters::default()).await;
        let (asked, _) = publisher.accept(subscribe_ok(7, None)).await;
        viewer.accepted(id).await;
        let mut stream = publisher.open(header(7, 0)).await;
        stream.object(0, b"first").await;
        viewer.object(id, (0, 0)).await;
        viewer.cancel(id).await;
        assert_eq!(viewer.end(id, 0).await, Some(ResetCode::CANCELLED));
        // Nobody else wants it, so the relay does not either.
        publisher
            .pick("the end of the relay's subscription", |heard| {
                matches!(heard, Heard::Session(Event::Ended { id, .. }) if *id == asked)
                    .then_some(())
            })
            .await;
    }
}

#[tokio::test]
async fn what_one_viewer_wants_is_not_asked_of_the_publisher() {
    let machine = Machine::new();
    for version in EVERY {
        let relay = machine.relay(version.alpn(), &[]);
        let mut publisher = Peer::connect(&relay, version).await;
        publisher.publish_namespace("live/wants").await;
        let wants = Parameters {
            subscriber_priority: Some(3),
            object_delivery_timeout: Some(900),
            forward: Some(false),
            authorization_tokens: vec![moqt::AuthToken::UseValue {
                kind: 0,
                value: "secret".into(),
            }],
            ..Parameters::default()
        };
        let mut viewer = Peer::connect(&relay, version).await;
        let first = viewer.subscribe(&name("live/wants", "video"), wants).await;
        let (_, asked) = publisher.accept(subscribe_ok(7, None)).await;
        let ok = viewer.accepted(first).await;
        let parameters = asked.parameters;
        assert!(parameters.forward.unwrap_or(true));
        assert_eq!(parameters.subscriber_priority, None);
        assert_eq!(parameters.object_delivery_timeout, None);
        assert_eq!(parameters.authorization_tokens, []);
        // Another track has another alias.
        let second = viewer.subscribe(&name("live/wants", "audio"), forward(true)).await;
        publisher.accept(subscribe_ok(8, None)).await;
        assert_ne!(viewer.accepted(second).await.track_alias, ok.track_alias);
    }
}

#[tokio::test]
async fn a_tracks_newest_properties_replace_the_older() {
    let machine = Machine::new();
    for version in EVERY {
        let relay = machine.relay(version.alpn(), &[]);
        let ok = |kind| {
            let mut ok = subscribe_ok(7, None);
            ok.properties.push_int(kind, 1);
            ok
        };
        let track = name("live/again", "video");
        let mut first = Peer::connect(&relay, version).await;
        first.publish_namespace("live/again").await;
        let mut viewer = Peer::connect(&relay, version).await;
        let id = viewer.subscribe(&track, Parameters::default()).await;
        first.accept(ok(0x3802)).await;
        assert_eq!(viewer.accepted(id).await.properties.int(0x3802), Some(1));
        let mut second = Peer::connect(&relay, version).await;
        second.publish_namespace("live/again").await;
        second.accept(ok(0x3804)).await;
        second.group(7, 0, 1).await;
        viewer.object(id, (0, 0)).await;
        let mut late = Peer::connect(&relay, version).await;
        let id = late.subscribe(&track, Parameters::default()).await;
        let properties = late.accepted(id).await.properties;
        assert_eq!((properties.int(0x3802), properties.int(0x3804)), (None, Some(1)));
    }
}
