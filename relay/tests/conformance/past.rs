//! FETCH, joining fetches, fills and TRACK_STATUS.

use std::num::NonZeroU64;

use moqt::{
    Fetch, FetchMark, FetchRange, Fill, Filter, Gap, GroupOrder, Location, LocationFilter,
    Parameters, Properties, Request, RequestErrorCode, RequestId, Response, SubgroupHeader,
    SubgroupId, TrackStatus, Version,
};

use super::peer::{Heard, Peer, header, name, subscribe_ok};
use super::{EVERY, LATER};
use crate::common::{Machine, Relay};

const TRACK: (&str, &str) = ("live/past", "video");

/// A publisher, whose groups 0 to 2 with two objects each a viewer has seen, and that viewer.
async fn published(relay: &Relay, version: Version) -> (Peer, Peer, RequestId) {
    let mut publisher = Peer::connect(relay, version).await;
    publisher.publish_namespace(TRACK.0).await;
    let mut viewer = Peer::connect(relay, version).await;
    let id = viewer.subscribe(&name(TRACK.0, TRACK.1), Parameters::default()).await;
    let mut ok = subscribe_ok(7, None);
    ok.properties = properties();
    publisher.accept(ok).await;
    viewer.accepted(id).await;
    for group in 0..3 {
        publisher.group(7, group, 2).await;
        for object in 0..2 {
            viewer.object(id, (group, object)).await;
        }
        viewer.end(id, group).await;
    }
    (publisher, viewer, id)
}

fn properties() -> Properties {
    let mut properties = Properties::new();
    properties.push_int(0x3802, 7);
    properties
}

fn locations(marks: &[(FetchMark, bytes::Bytes)]) -> Vec<(u64, u64)> {
    marks
        .iter()
        .filter_map(|(mark, payload)| match mark {
            FetchMark::Object(object) => {
                let Location { group, object } = object.location;
                assert_eq!(*payload, format!("{group}/{object}"));
                Some((group, object))
            }
            FetchMark::EndOfRange { .. } => None,
        })
        .collect()
}

#[tokio::test]
async fn a_fetch_brings_what_was_asked_for_in_the_order_asked_for() {
    let machine = Machine::new();
    for version in EVERY {
        let relay = machine.relay(version.alpn(), &[]);
        let (_publisher, mut viewer, _) = published(&relay, version).await;
        let track = name(TRACK.0, TRACK.1);
        let (id, answer) = viewer.fetch(&track, ((0, 1), (1, 1)), GroupOrder::Ascending).await;
        let Response::FetchOk(ok) = answer else { panic!("{answer:?}") };
        assert_eq!((ok.end, ok.end_of_track), (Location { group: 1, object: 1 }, false));
        assert_eq!(ok.properties.int(0x3802), Some(7));
        let (marks, code) = viewer.fetched(id).await;
        assert_eq!((locations(&marks), code), (vec![(0, 1), (1, 0), (1, 1)], None));

        // Past the largest object it ends with that.
        let (id, answer) = viewer.fetch(&track, ((1, 1), (9, 9)), GroupOrder::Descending).await;
        let Response::FetchOk(ok) = answer else { panic!("{answer:?}") };
        assert_eq!(ok.end, Location { group: 2, object: 1 });
        let (marks, code) = viewer.fetched(id).await;
        assert_eq!((locations(&marks), code), (vec![(2, 0), (2, 1), (1, 1)], None));

        // From after it there is nothing to be had.
        let (_, answer) = viewer.fetch(&track, ((2, 2), (9, 9)), GroupOrder::Ascending).await;
        let Response::Error(error) = answer else { panic!("{answer:?}") };
        assert_eq!(error.code, RequestErrorCode::INVALID_RANGE);
    }
}

#[tokio::test]
async fn a_fetch_of_an_empty_track_is_refused() {
    let machine = Machine::new();
    for version in EVERY {
        let relay = machine.relay(version.alpn(), &[]);
        let mut publisher = Peer::connect(&relay, version).await;
        publisher.publish_namespace(TRACK.0).await;
        let mut viewer = Peer::connect(&relay, version).await;
        let track = name(TRACK.0, TRACK.1);
        let id = viewer.subscribe(&track, Parameters::default()).await;
        publisher.accept(subscribe_ok(7, None)).await;
        viewer.accepted(id).await;
        let (_, answer) = viewer.fetch(&track, ((0, 0), (9, 9)), GroupOrder::Ascending).await;
        let Response::Error(error) = answer else { panic!("{answer:?}") };
        assert_eq!(error.code, RequestErrorCode::INVALID_RANGE);
        let id = viewer.request(status()).await;
        let Response::Ok(ok) = viewer.answer(id).await else { panic!("TRACK_STATUS_OK") };
        assert_eq!(ok.parameters.largest_object, None);
    }
}

#[tokio::test]
async fn objects_of_several_subgroups_are_fetched_by_their_ids() {
    let machine = Machine::new();
    for version in EVERY {
        let relay = machine.relay(version.alpn(), &[]);
        let (publisher, mut viewer, seen) = published(&relay, version).await;
        let mut streams = Vec::new();
        for subgroup in 0..2 {
            let header = SubgroupHeader { subgroup: SubgroupId::Known(subgroup), ..header(7, 5) };
            streams.push(publisher.open(header).await);
        }
        for id in [1u64, 0, 3, 2] {
            streams[(id % 2) as usize].object(id, format!("5/{id}").as_bytes()).await;
        }
        streams.into_iter().for_each(|stream| stream.finish());
        for id in 0..4 {
            viewer.object(seen, (5, id)).await;
        }
        let track = name(TRACK.0, TRACK.1);
        let (id, _) = viewer.fetch(&track, ((5, 0), (5, 3)), GroupOrder::Ascending).await;
        let (marks, _) = viewer.fetched(id).await;
        let subgroups: Vec<_> = marks
            .iter()
            .filter_map(|(mark, _)| match mark {
                FetchMark::Object(object) => object.subgroup,
                FetchMark::EndOfRange { .. } => None,
            })
            .collect();
        assert_eq!(locations(&marks), [(5, 0), (5, 1), (5, 2), (5, 3)]);
        assert_eq!(subgroups, [0, 1, 0, 1]);
    }
}

#[tokio::test]
async fn what_is_not_here_is_asked_of_the_publisher() {
    let machine = Machine::new();
    for version in EVERY {
        let relay = machine.relay(version.alpn(), &[]);
        let mut publisher = Peer::connect(&relay, version).await;
        publisher.publish_namespace(TRACK.0).await;
        let mut viewer = Peer::connect(&relay, version).await;
        let track = name(TRACK.0, TRACK.1);
        let range = FetchRange::Standalone {
            track: track.clone(),
            start: Location { group: 3, object: 0 },
            end: Location { group: 3, object: 4 },
        };
        let fetch = Fetch { range, parameters: Parameters::default() };
        let id = viewer.request(Request::Fetch(fetch)).await;
        let (asked, request) = publisher.asked().await;
        let Request::Fetch(Fetch { range: FetchRange::Standalone { track: what, .. }, .. }) =
            request
        else {
            panic!("the relay asks {request:?} instead of FETCH")
        };
        assert_eq!(what, track);
        // The answer is withheld until the publisher's is known, and says the same.
        viewer.never("an answer", |heard| {
            matches!(heard, Heard::Session(moqt::Event::Responded { id: to, .. }) if *to == id)
        })
        .await;
        let error = moqt::RequestError::new(RequestErrorCode::INVALID_RANGE, "not yet");
        publisher.respond(asked, Response::Error(error)).await;
        assert_eq!(viewer.refusal(id).await.code, RequestErrorCode::INVALID_RANGE);
    }
}

#[tokio::test]
async fn a_fetch_that_may_not_wait_says_what_it_does_not_know() {
    let machine = Machine::new();
    for version in LATER {
        let relay = machine.relay(version.alpn(), &[]);
        let mut publisher = Peer::connect(&relay, version).await;
        publisher.publish_namespace(TRACK.0).await;
        let mut viewer = Peer::connect(&relay, version).await;
        let track = name(TRACK.0, TRACK.1);
        let seen = viewer.subscribe(&track, Parameters::default()).await;
        // Groups before 4 were published before the relay came.
        publisher.accept(subscribe_ok(7, Some((3, 9)))).await;
        viewer.accepted(seen).await;
        publisher.group(7, 4, 1).await;
        viewer.object(seen, (4, 0)).await;
        let range = FetchRange::Standalone {
            track,
            start: Location { group: 2, object: 0 },
            end: Location { group: 4, object: 0 },
        };
        let parameters = Parameters { fill_timeout: Some(0), ..Parameters::default() };
        let id = viewer.request(Request::Fetch(Fetch { range, parameters })).await;
        assert!(matches!(viewer.answer(id).await, Response::FetchOk(_)));
        let (marks, code) = viewer.fetched(id).await;
        assert_eq!((locations(&marks), code), (vec![(4, 0)], None));
        let gap = match version {
            Version::Draft22 => Gap::TimedOut,
            _ => Gap::Unknown,
        };
        let Some((FetchMark::EndOfRange { gap: said, .. }, _)) = marks.first() else {
            panic!("{marks:?}")
        };
        assert_eq!(*said, gap);
        let asked = publisher
            .has_heard(|heard| matches!(heard, Heard::Session(moqt::Event::Requested { .. })));
        assert!(!asked, "the publisher was asked all the same");
    }
}

#[tokio::test]
async fn a_joining_fetch_meets_its_subscription() {
    let machine = Machine::new();
    for version in [Version::Draft16, Version::Draft18] {
        let relay = machine.relay(version.alpn(), &[]);
        let (publisher, mut other, seen) = published(&relay, version).await;
        let mut viewer = Peer::connect(&relay, version).await;
        let track = name(TRACK.0, TRACK.1);
        let wants = Parameters { filter: Some(Filter::LargestObject), ..Parameters::default() };
        let id = viewer.subscribe(&track, wants).await;
        let join = |groups| {
            let range = FetchRange::RelativeJoining { joining: id, groups };
            Request::Fetch(Fetch { range, parameters: Parameters::default() })
        };
        // It need not wait for the answer.
        let joining = viewer.request(join(1)).await;
        let ok = viewer.accepted(id).await;
        assert_eq!(ok.parameters.largest_object, Some(Location { group: 2, object: 1 }));
        let Response::FetchOk(ok) = viewer.answer(joining).await else { panic!("FETCH_OK") };
        assert_eq!(ok.end, Location { group: 2, object: 1 });
        let (marks, code) = viewer.fetched(joining).await;
        assert_eq!((locations(&marks), code), (vec![(1, 0), (1, 1), (2, 0), (2, 1)], None));
        // Its end stays where the subscription began, whatever came since.
        publisher.group(7, 3, 1).await;
        other.object(seen, (3, 0)).await;
        viewer.object(id, (3, 0)).await;
        let joining = viewer.request(join(0)).await;
        let Response::FetchOk(ok) = viewer.answer(joining).await else { panic!("FETCH_OK") };
        assert_eq!(ok.end, Location { group: 2, object: 1 });
        let (marks, _) = viewer.fetched(joining).await;
        assert_eq!(locations(&marks), [(2, 0), (2, 1)]);
        viewer.never("an object twice", |heard| matches!(heard, Heard::Object { .. })).await;
    }
}

#[tokio::test]
async fn a_joining_fetch_of_a_paused_subscription_is_refused() {
    let machine = Machine::new();
    let version = Version::Draft18;
    let relay = machine.relay("relay", &[]);
    let (_publisher, mut viewer, _) = published(&relay, version).await;
    let mut joiner = Peer::connect(&relay, version).await;
    let wants = Parameters {
        filter: Some(Filter::LargestObject),
        forward: Some(false),
        ..Parameters::default()
    };
    let id = joiner.subscribe(&name(TRACK.0, TRACK.1), wants).await;
    joiner.accepted(id).await;
    let join = |joining| {
        let range = FetchRange::RelativeJoining { joining, groups: 0 };
        Request::Fetch(Fetch { range, parameters: Parameters::default() })
    };
    let fetch = joiner.request(join(id)).await;
    assert_eq!(joiner.refusal(fetch).await.code, RequestErrorCode::INVALID_RANGE);
    // Resumed, it joins there.
    let forward = Parameters { forward: Some(true), ..Parameters::default() };
    joiner.update(id, forward).await.unwrap();
    let fetch = joiner.request(join(id)).await;
    assert!(matches!(joiner.answer(fetch).await, Response::FetchOk(_)));
    viewer.fence().await;
}

#[tokio::test]
async fn a_fill_comes_with_its_subscription() {
    let machine = Machine::new();
    let relay = machine.relay("relay", &[]);
    let (publisher, mut other, seen) = published(&relay, Version::Draft22).await;
    let mut viewer = Peer::connect(&relay, Version::Draft22).await;
    let groups = NonZeroU64::new(2).unwrap();
    let fill = Fill { filter: Some(LocationFilter::RelativeStart { groups }), ..Fill::default() };
    let wants = |forward| Parameters {
        filter: Some(Filter::LargestObject),
        fill: Some(Box::new(fill.clone())),
        forward,
        ..Parameters::default()
    };
    let id = viewer.subscribe(&name(TRACK.0, TRACK.1), wants(None)).await;
    viewer.accepted(id).await;
    let (marks, code) = viewer.fetched(id).await;
    assert_eq!((locations(&marks), code), (vec![(1, 0), (1, 1), (2, 0), (2, 1)], None));
    publisher.group(7, 3, 1).await;
    viewer.object(id, (3, 0)).await;
    other.object(seen, (3, 0)).await;
    // One that is paused gets none, then or when it is resumed.
    let mut paused = Peer::connect(&relay, Version::Draft22).await;
    let id = paused.subscribe(&name(TRACK.0, TRACK.1), wants(Some(false))).await;
    paused.accepted(id).await;
    let forward = Parameters { forward: Some(true), ..Parameters::default() };
    paused.update(id, forward).await.unwrap();
    publisher.group(7, 4, 1).await;
    paused.object(id, (4, 0)).await;
    paused.never("a fill", |heard| matches!(heard, Heard::Fetched { .. })).await;
}

fn status() -> Request {
    let (track, parameters) = (name(TRACK.0, TRACK.1), Parameters::default());
    Request::TrackStatus(TrackStatus { track, parameters })
}

#[tokio::test]
async fn a_tracks_status_is_told_whether_it_is_watched_or_not() {
    let machine = Machine::new();
    for version in EVERY {
        let relay = machine.relay(version.alpn(), &[]);
        let mut asker = Peer::connect(&relay, version).await;
        let id = asker.request(status()).await;
        assert_eq!(asker.refusal(id).await.code, RequestErrorCode::DOES_NOT_EXIST);
        let (_publisher, viewer, seen) = published(&relay, version).await;
        let id = asker.request(status()).await;
        let Response::Ok(ok) = asker.answer(id).await else { panic!("TRACK_STATUS_OK") };
        let largest = Some(Location { group: 2, object: 1 });
        assert_eq!(ok.parameters.largest_object, largest);
        // Draft 16 has no room for them.
        let properties = (version != Version::Draft16).then_some(7);
        assert_eq!(ok.properties.int(0x3802), properties);
        viewer.cancel(seen).await;
    }
}

/// A viewer's request for groups 2 to 4, of which the publisher is asked for those before 4 and
/// does not answer.
async fn waits(relay: &Relay, version: Version) -> (Peer, RequestId, Peer, RequestId) {
    let mut publisher = Peer::connect(relay, version).await;
    publisher.publish_namespace(TRACK.0).await;
    let mut viewer = Peer::connect(relay, version).await;
    let track = name(TRACK.0, TRACK.1);
    let seen = viewer.subscribe(&track, Parameters::default()).await;
    publisher.accept(subscribe_ok(7, Some((3, 9)))).await;
    viewer.accepted(seen).await;
    publisher.group(7, 4, 1).await;
    viewer.object(seen, (4, 0)).await;
    let mut asker = Peer::connect(relay, version).await;
    let id = if version == Version::Draft22 {
        let start = Location { group: 2, object: 0 };
        let filter = Some(LocationFilter::AbsoluteStart { start });
        let wants = Parameters {
            filter: Some(Filter::LargestObject),
            fill: Some(Box::new(Fill { filter, ..Fill::default() })),
            ..Parameters::default()
        };
        let id = asker.subscribe(&track, wants).await;
        asker.accepted(id).await;
        id
    } else {
        let range = FetchRange::Standalone {
            track,
            start: Location { group: 2, object: 0 },
            end: Location { group: 4, object: 0 },
        };
        asker.request(Request::Fetch(Fetch { range, parameters: Parameters::default() })).await
    };
    let (asked, request) = publisher.asked().await;
    assert!(matches!(request, Request::Fetch(_)), "{request:?}");
    (publisher, asked, asker, id)
}

#[tokio::test]
async fn what_is_cancelled_is_not_fetched_any_more() {
    let machine = Machine::new();
    for version in EVERY {
        let relay = machine.relay(version.alpn(), &[]);
        let (mut publisher, asked, asker, id) = waits(&relay, version).await;
        // The fetch itself, or in draft 22 the subscription that a fill belongs to.
        asker.cancel(id).await;
        publisher
            .pick("the end of the relay's FETCH", |heard| {
                matches!(heard, Heard::Session(moqt::Event::Ended { id, .. }) if *id == asked)
                    .then_some(())
            })
            .await;
    }
}

#[tokio::test]
async fn what_the_publisher_refuses_is_not_said_to_be_missing() {
    let machine = Machine::new();
    for version in EVERY {
        let relay = machine.relay(version.alpn(), &[]);
        let (publisher, asked, mut asker, id) = waits(&relay, version).await;
        let error = moqt::RequestError::new(RequestErrorCode::INTERNAL_ERROR, "gone");
        publisher.respond(asked, Response::Error(error)).await;
        // Reset, refused, or marked as unknown; never as if nothing had been there.
        if version < Version::Draft22
            && let Response::Error(_) = asker.answer(id).await
        {
            continue;
        }
        let (marks, code) = asker.fetched(id).await;
        let unknown = |mark: &FetchMark| {
            matches!(mark, FetchMark::EndOfRange { gap: Gap::Unknown | Gap::TimedOut, .. })
        };
        assert!(code.is_some() || marks.iter().any(|(mark, _)| unknown(mark)), "{marks:?}");
    }
}
