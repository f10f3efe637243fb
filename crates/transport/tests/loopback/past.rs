//! FETCH, backfills and TRACK_STATUS, answered from what a publisher keeps.

use std::num::NonZeroU64;

use moqt::{
    Fill, Filter, GroupOrder, Location, LocationFilter, Parameters, RequestErrorCode, Transport,
    Version, property,
};
use tokio::sync::mpsc::Receiver;
use transport::publish::{Broadcast, TrackOptions, TrackProducer};
use transport::subscribe::{Received, Refusal, Subscriber, Want};

use crate::common::{Publishing, Server, check, every, namespace, speaking, track, within, write};

struct Setting {
    subscriber: Subscriber,
    video: TrackProducer,
    broadcast: Broadcast,
    _publishing: Publishing,
    _server: Server,
}

/// A publisher of groups 4 and 6, of three and two objects in two subgroups, and its subscriber.
async fn setting(version: Version, transport: Transport) -> Setting {
    let server = Server::new(speaking(Version::ALL));
    let broadcast = Broadcast::new(namespace());
    let mut video = broadcast.create_track("video", TrackOptions { priority: 9 });
    video.set_subgroup_priority(1, 10);
    video.begin_group(4);
    for (subgroup, id) in [(0, 0), (1, 1), (0, 2)] {
        write(&mut video, 4, subgroup, id);
    }
    video.begin_group(6);
    for (subgroup, id) in [(0, 0), (1, 3)] {
        write(&mut video, 6, subgroup, id);
    }
    let publishing = Publishing::start(&broadcast, &server, version, transport);
    let subscriber = server.subscriber().await;
    Setting { subscriber, video, broadcast, _publishing: publishing, _server: server }
}

fn at(group: u64, object: u64) -> Location {
    Location { group, object }
}

/// Everything up to the end of the fetch.
async fn all(mut received: Receiver<Received>) -> Vec<(u64, u64)> {
    let mut places = Vec::new();
    loop {
        match within("fetched object", received.recv()).await {
            Some(Received::Object(object)) => {
                check(&object);
                assert!(object.fetched);
                let expected = if object.subgroup == Some(1) { 10 } else { 9 };
                assert_eq!(object.priority, Some(expected));
                places.push((object.location.group, object.location.object));
            }
            Some(Received::BackfillEnd(Ok(()))) => return places,
            other => panic!("{other:?} after {places:?}"),
        }
    }
}

#[tokio::test]
async fn a_range_is_fetched_in_either_order() {
    for (version, transport) in every() {
        let setting = &setting(version, transport).await;
        let fetch = |start, end, order| async move {
            all(setting.subscriber.fetch(track("video"), start, end, order).await.unwrap()).await
        };
        let up = fetch(at(4, 1), at(6, 0), GroupOrder::Ascending).await;
        assert_eq!(up, [(4, 1), (4, 2), (6, 0)], "{version}");
        let down = fetch(at(4, 0), at(9, 0), GroupOrder::Descending).await;
        assert_eq!(down, [(6, 0), (6, 3), (4, 0), (4, 1), (4, 2)], "{version}");
        let older = fetch(at(0, 0), at(4, 0), GroupOrder::Ascending).await;
        assert_eq!(older, [(4, 0)], "{version}");
        let older = fetch(at(1, 0), at(4, 0), GroupOrder::Descending).await;
        assert_eq!(older, [(4, 0)], "{version}");
    }
}

#[tokio::test]
async fn what_was_never_published_is_refused() {
    for (version, transport) in every() {
        let setting = setting(version, transport).await;
        for (name, start, expected) in [
            ("video", at(7, 0), RequestErrorCode::INVALID_RANGE),
            ("sound", at(0, 0), RequestErrorCode::DOES_NOT_EXIST),
        ] {
            let fetch =
                setting.subscriber.fetch(track(name), start, at(9, 0), GroupOrder::Ascending);
            match within("answer", fetch).await {
                Err(Refusal::Answer(error)) => assert_eq!(error.code, expected, "{version}"),
                other => panic!("{version}: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_backfill_and_its_subscription_leave_no_gap() {
    for (version, transport) in every() {
        let Setting { subscriber, mut video, broadcast: _broadcast, _publishing, _server } =
            setting(version, transport).await;
        let filter = LocationFilter::RelativeStart { groups: NonZeroU64::new(3).unwrap() };
        let want = Want {
            parameters: Parameters { filter: Some(Filter::LargestObject), ..Parameters::default() },
            backfill: Some(Fill { filter: Some(filter), ..Fill::default() }),
        };
        let subscribe = subscriber.subscribe(track("video"), want);
        let mut subscription = within("SUBSCRIBE_OK", subscribe).await.unwrap();
        // The rest of a group whose beginning is fetched, and a whole one.
        write(&mut video, 6, 1, 4);
        video.begin_group(7);
        write(&mut video, 7, 0, 0);
        drop(video);
        let (mut fetched, mut live, mut whole) = (Vec::new(), Vec::new(), false);
        loop {
            match within("object", subscription.next()).await.unwrap() {
                Received::Object(object) => {
                    check(&object);
                    let place = (object.location.group, object.location.object);
                    if object.fetched { fetched.push(place) } else { live.push(place) }
                }
                Received::BackfillEnd(end) => {
                    end.unwrap();
                    whole = true;
                }
                Received::SubgroupEnd { .. } => {}
                Received::Done(done) => {
                    assert_eq!(done.stream_count, 2, "{version}");
                    break;
                }
                other => panic!("{version}: {other:?}"),
            }
        }
        assert!(whole, "{version} {transport:?}");
        live.sort_unstable();
        assert_eq!(fetched, [(4, 0), (4, 1), (4, 2), (6, 0), (6, 3)], "{version}");
        assert_eq!(live, [(6, 4), (7, 0)], "{version}");
    }
}

#[tokio::test]
async fn the_status_of_a_track_is_told() {
    for (version, transport) in every() {
        let Setting { subscriber, .. } = &setting(version, transport).await;
        let ok = within("answer", subscriber.track_status(track("video"))).await.unwrap();
        assert_eq!(ok.parameters.largest_object, Some(at(6, 3)), "{version}");
        if version > Version::Draft16 {
            let priority = ok.properties.int(property::DEFAULT_PUBLISHER_PRIORITY);
            assert_eq!(priority, Some(9), "{version}");
        }
        assert!(within("answer", subscriber.track_status(track("sound"))).await.is_err());
    }
}

#[tokio::test]
async fn a_pause_and_a_wish_for_a_new_group_are_heard() {
    for (version, transport) in every() {
        let Setting { subscriber, broadcast, .. } = &setting(version, transport).await;
        let mut sound = broadcast.create_track("sound", TrackOptions::default());
        let mut wishes = sound.group_requests();
        sound.begin_group(0);
        write(&mut sound, 0, 0, 0);
        let subscribe = subscriber.subscribe(track("sound"), Want::default());
        let mut subscription = within("SUBSCRIBE_OK", subscribe).await.unwrap();
        let dynamic = subscription.accepted().properties.int(property::DYNAMIC_GROUPS);
        assert_eq!(dynamic, Some(1));
        check(&within("object", subscription.next_object()).await.unwrap());
        subscription.update(Parameters { forward: Some(false), ..Parameters::default() }).await;
        loop {
            match within("the pause", subscription.next()).await.unwrap() {
                Received::Updated(result) => drop(result.unwrap()),
                Received::Reset { group: 0, .. } => break,
                other => panic!("{version}: {other:?}"),
            }
        }
        write(&mut sound, 0, 0, 1);
        let resume =
            Parameters { forward: Some(true), new_group_request: Some(1), ..Parameters::default() };
        subscription.update(resume).await;
        within("a wish", wishes.next()).await;
        write(&mut sound, 0, 0, 2);
        sound.begin_group(1);
        write(&mut sound, 1, 0, 0);
        let mut places = Vec::new();
        while places.len() < 2 {
            let object = within("object", subscription.next_object()).await.unwrap();
            check(&object);
            places.push((object.location.group, object.location.object));
        }
        places.sort_unstable();
        // What was written during the pause is for a fetch.
        assert_eq!(places, [(0, 2), (1, 0)], "{version}");
    }
}

#[tokio::test]
async fn every_track_that_is_asked_for_is_published() {
    for (version, transport) in every() {
        let Setting { subscriber, broadcast, .. } = &setting(version, transport).await;
        let prefix = moqt::Namespace::from_path("live").unwrap();
        let asked = subscriber.tracks(prefix, Parameters::default());
        let mut published = within("REQUEST_OK", asked).await.unwrap();
        let (name, mut video) = within("PUBLISH", published.recv()).await.unwrap();
        assert_eq!(name, track("video"), "{version}");
        let object = within("object", video.next_object()).await.unwrap();
        check(&object);
        assert_eq!(object.location.group, 6, "{version}");
        let mut later = broadcast.create_track("sound", TrackOptions::default());
        let (name, mut sound) = within("PUBLISH", published.recv()).await.unwrap();
        assert_eq!(name, track("sound"), "{version}");
        later.begin_group(0);
        write(&mut later, 0, 0, 0);
        check(&within("object", sound.next_object()).await.unwrap());
    }
}
