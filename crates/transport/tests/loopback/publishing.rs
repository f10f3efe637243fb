//! A publisher's objects reach a subscriber bit by bit.

use moqt::{Filter, Location, Parameters, PublishDoneCode, Transport, Version};
use transport::publish::{Broadcast, TrackOptions};
use transport::subscribe::{Received, Want};

use crate::common::{Publishing, Server, check, every, namespace, speaking, track, within, write};

#[tokio::test]
async fn what_is_published_arrives_whole_and_its_end_is_told() {
    for (version, transport) in every() {
        published_arrives(version, transport).await;
    }
}

async fn published_arrives(version: Version, transport: Transport) {
    let server = Server::new(speaking(Version::ALL));
    let broadcast = Broadcast::new(namespace());
    let mut video = broadcast.create_track("video", TrackOptions { priority: 7 });
    video.set_subgroup_priority(1, 200);
    video.begin_group(3);
    write(&mut video, 3, 0, 0);
    let _publishing = Publishing::start(&broadcast, &server, version, transport);
    let subscriber = server.subscriber().await;
    assert_eq!(subscriber.connection().version(), version);
    let mut subscription =
        within("SUBSCRIBE_OK", subscriber.subscribe(track("video"), Want::default()))
            .await
            .unwrap();
    let largest = subscription.accepted().parameters.largest_object;
    assert_eq!(largest, Some(Location { group: 3, object: 0 }), "{version}");
    for (subgroup, id) in [(0, 1), (1, 2), (0, 5), (1, 700)] {
        write(&mut video, 3, subgroup, id);
    }
    video.begin_group(9);
    for id in 0..8 {
        write(&mut video, 9, 0, id);
    }
    video.end();
    let mut seen = Vec::new();
    let mut ends = 0;
    loop {
        match within("object", subscription.next()).await.unwrap() {
            Received::Object(object) => {
                check(&object);
                // What has the track's priority says nothing of it.
                let own = (object.subgroup == Some(1)).then_some(200);
                assert_eq!(object.priority, own, "{version} {transport:?}");
                seen.push((
                    object.location.group,
                    object.subgroup.unwrap(),
                    object.location.object,
                ));
            }
            Received::SubgroupEnd { .. } => ends += 1,
            Received::Done(done) => {
                assert_eq!((done.code, done.stream_count), (PublishDoneCode::TRACK_ENDED, 3));
                break;
            }
            other => panic!("{version} {transport:?}: {other:?}"),
        }
    }
    assert_eq!(ends, 3, "{version} {transport:?}");
    seen.sort_unstable();
    let mut expected = vec![(3, 0, 0), (3, 0, 1), (3, 0, 5), (3, 1, 2), (3, 1, 700)];
    expected.extend((0..8).map(|id| (9, 0, id)));
    assert_eq!(seen, expected, "{version} {transport:?}");
}

#[tokio::test]
async fn a_filter_keeps_older_groups_away() {
    for (version, transport) in every() {
        let server = Server::new(speaking(Version::ALL));
        let broadcast = Broadcast::new(namespace());
        let mut video = broadcast.create_track("video", TrackOptions::default());
        video.begin_group(0);
        write(&mut video, 0, 0, 0);
        let _publishing = Publishing::start(&broadcast, &server, version, transport);
        let subscriber = server.subscriber().await;
        let parameters =
            Parameters { filter: Some(Filter::NextGroupStart), ..Parameters::default() };
        let want = Want { parameters, ..Want::default() };
        let subscribe = subscriber.subscribe(track("video"), want);
        let mut subscription = within("SUBSCRIBE_OK", subscribe).await.unwrap();
        video.begin_group(1);
        write(&mut video, 1, 0, 0);
        let object = within("object", subscription.next_object()).await.unwrap();
        check(&object);
        assert_eq!(object.location, Location { group: 1, object: 0 }, "{version}");
    }
}
