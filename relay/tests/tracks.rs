//! Tracks with several publishers, published tracks, the past, and moving elsewhere: as a peer
//! sees them, in every draft.

mod common;

use std::num::NonZeroU64;
use std::time::Duration;

use bytes::Bytes;
use common::*;
use moqt::{
    Fill, GroupOrder, Location, LocationFilter, Parameters, Properties, PublishDoneCode,
    RequestErrorCode, Version,
};
use netsim::{LinkConfig, ProxyConfig, UdpProxy};
use transport::publish::{Broadcast, TrackOptions};
use transport::subscribe::{Object, Received, Refusal, Subscriber, Subscription, Want};
use transport::{Endpoint, EndpointConfig, EndpointOptions};

const NAMESPACE: &str = "live/tracks";

fn broadcast() -> Broadcast {
    Broadcast::new(moqt::Namespace::from_path(NAMESPACE).unwrap())
}

async fn connect(relay: &Relay, version: Version) -> Subscriber {
    connect_to(relay, version, relay.url()).await
}

async fn connect_to(relay: &Relay, version: Version, url: url::Url) -> Subscriber {
    let config = EndpointConfig { uni_streams: 100, ..EndpointConfig::default() };
    let options = EndpointOptions::from(config).versions([version]);
    let endpoint = Endpoint::client(options).unwrap();
    Subscriber::connect(&endpoint, &url, &relay.tls()).await.unwrap()
}

fn check(object: &Object) -> (u64, u64, u64) {
    let at = (object.location.group, object.subgroup.unwrap_or(0), object.location.object);
    let (properties, payload) = common::object(at);
    assert_eq!(object.payload, payload, "payload of {at:?}");
    assert_eq!(object.properties, properties, "properties of {at:?}");
    at
}

async fn expect(subscription: &mut Subscription, at: (u64, u64, u64)) {
    let object = within(&format!("object {at:?}"), subscription.next_object()).await;
    assert_eq!(check(&object.expect("the subscription goes on")), at);
}

async fn all_fetched(
    mut received: tokio::sync::mpsc::Receiver<Received>,
) -> (Vec<(u64, u64, u64)>, Result<(), Refusal>) {
    let mut objects = Vec::new();
    loop {
        match within("the fetch", received.recv()).await.expect("an end is told") {
            Received::Object(object) => objects.push(check(&object)),
            Received::BackfillEnd(end) => return (objects, end),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_publishers_of_a_track_are_one_and_either_may_leave() {
    let machine = Machine::new();
    let relay = machine.relay("root", &[]);
    let (first, second) = (broadcast(), broadcast());
    let mut tracks =
        [&first, &second].map(|broadcast| broadcast.create_track("a", TrackOptions::default()));
    let mut leaving = Some(publish(&first, &relay.address()).await);
    let _stays = publish(&second, &relay.address()).await;
    let viewer = connect(&relay, Version::Draft18).await;
    let mut watched = None;
    for group in 0..6 {
        for (index, track) in tracks.iter_mut().enumerate() {
            // The first ends in the middle of group 3.
            if group <= 3 || index == 1 {
                track.begin_group(group);
            }
        }
        for id in 0..4 {
            for (index, track) in tracks.iter_mut().enumerate() {
                if group < 3 || (group == 3 && id < 2) || index == 1 {
                    common::write(track, (group, 0, id));
                }
            }
            if group == 0 && id == 0 {
                let name = track_name(NAMESPACE, "a");
                let subscribed = viewer.subscribe(name, Want::default()).await.unwrap();
                watched = Some(subscribed);
            }
            if group == 3 && id == 1 {
                leaving.take().unwrap().end().await;
            }
            let watched = watched.as_mut().expect("subscribed at the first object");
            expect(watched, (group, 0, id)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_past_comes_from_the_cache_and_the_rest_from_the_publisher() {
    for version in Version::ALL.iter().copied() {
        let machine = Machine::new();
        let root = machine.relay("root", &[]);
        let edge =
            machine.relay("edge", &["--upstream", root.url().as_str(), "--cache-age", "60s"]);
        edge.connected().await;
        let live = broadcast();
        let mut track = live.create_track("a", TrackOptions::default());
        let _published = publish(&live, &root.address()).await;
        let mut write = |group| {
            track.begin_group(group);
            for id in 0..3 {
                common::write(&mut track, (group, 0, id));
            }
        };
        for group in 0..4 {
            write(group);
        }
        let viewer = connect(&edge, version).await;
        let name = || track_name(NAMESPACE, "a");
        let mut watched = viewer.subscribe(name(), Want::default()).await.unwrap();
        expect(&mut watched, (3, 0, 0)).await;
        // Everybody saw these, the edge too.
        for group in 4..6 {
            write(group);
        }
        let mut last = (3, 0, 0);
        while last < (5, 0, 2) {
            let object = within("the live groups", watched.next_object()).await.unwrap();
            last = check(&object);
        }
        let groups = |range: std::ops::RangeInclusive<u64>| {
            range.flat_map(|group| (0..3).map(move |id| (group, 0, id)))
        };
        let fetch = |start: u64, end: u64, order| {
            let (start, end) = (Location::start_of(start), Location::end_of(end));
            viewer.fetch(name(), start, end, order)
        };
        for (start, end) in [(4, 5), (1, 5), (0, 2)] {
            let received = fetch(start, end, GroupOrder::Ascending).await.unwrap();
            let (objects, ended) = all_fetched(received).await;
            assert!(ended.is_ok(), "{version} {start}..{end}: {ended:?}");
            assert_eq!(objects, groups(start..=end).collect::<Vec<_>>(), "{version}");
        }
        let received = fetch(2, 4, GroupOrder::Descending).await.unwrap();
        let (objects, _) = all_fetched(received).await;
        let backwards: Vec<_> =
            [4, 3, 2].into_iter().flat_map(|group| groups(group..=group)).collect();
        assert_eq!(objects, backwards, "{version}");
        let beyond = fetch(9, 9, GroupOrder::Ascending).await;
        let Err(Refusal::Answer(error)) = beyond else { panic!("{beyond:?}") };
        assert_eq!(error.code, RequestErrorCode::INVALID_RANGE, "{version}");
        let status = viewer.track_status(name()).await.unwrap();
        let largest = Some(Location { group: 5, object: 2 });
        assert_eq!(status.parameters.largest_object, largest, "{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_viewer_gets_the_groups_before_it_and_the_live_ones_without_a_gap() {
    for version in Version::ALL.iter().copied() {
        let machine = Machine::new();
        let relay = machine.relay("root", &["--cache-age", "60s"]);
        let live = broadcast();
        let mut track = live.create_track("a", TrackOptions::default());
        let _published = publish(&live, &relay.address()).await;
        let early = connect(&relay, version).await;
        track.begin_group(0);
        common::write(&mut track, (0, 0, 0));
        let name = || track_name(NAMESPACE, "a");
        let mut watched = early.subscribe(name(), Want::default()).await.unwrap();
        expect(&mut watched, (0, 0, 0)).await;
        for group in 1..4 {
            track.begin_group(group);
            for id in 0..2 {
                common::write(&mut track, (group, 0, id));
                expect(&mut watched, (group, 0, id)).await;
            }
        }
        let late = connect(&relay, version).await;
        let mut parameters = Parameters::default();
        parameters.set_locations(Some(LocationFilter::LargestObject));
        let groups = NonZeroU64::new(2).unwrap();
        let backfill = Some(Fill {
            filter: Some(LocationFilter::RelativeStart { groups }),
            ..Fill::default()
        });
        let mut joined = late.subscribe(name(), Want { parameters, backfill }).await.unwrap();
        common::write(&mut track, (3, 0, 2));
        let (mut past, mut present, mut over) = (Vec::new(), Vec::new(), false);
        while !over || present.is_empty() {
            match within("past and present", joined.next()).await.unwrap() {
                Received::Object(object) if object.fetched => past.push(check(&object)),
                Received::Object(object) => present.push(check(&object)),
                Received::BackfillEnd(end) => {
                    assert!(end.is_ok(), "{version}: {end:?}");
                    over = true;
                }
                _ => {}
            }
        }
        assert_eq!(past, [(2, 0, 0), (2, 0, 1), (3, 0, 0), (3, 0, 1)], "{version}");
        assert_eq!(present, [(3, 0, 2)], "{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn drafts_meet_at_the_relay() {
    let machine = Machine::new();
    let root = machine.relay("root", &[]);
    for upstream in Version::ALL.iter().copied() {
        let parent = root.url();
        let draft = upstream.alpn();
        let arguments = ["--upstream", parent.as_str(), "--upstream-draft", draft];
        let edge = machine.relay(&format!("edge-{draft}"), &arguments);
        edge.connected().await;
        let live = Broadcast::new(moqt::Namespace::from_path(&format!("live/{draft}")).unwrap());
        let mut track = live.create_track("a", TrackOptions::default());
        let _published = publish(&live, &root.address()).await;
        track.begin_group(7);
        common::write(&mut track, (7, 0, 0));
        let mut watched = Vec::new();
        for version in Version::ALL.iter().copied() {
            for url in [edge.url(), edge.web_transport_url()] {
                let viewer = connect_to(&edge, version, url).await;
                let name = track_name(&format!("live/{draft}"), "a");
                watched.push(viewer.subscribe(name, Want::default()).await.unwrap());
            }
        }
        for id in 1..6 {
            common::write(&mut track, (7, 0, id));
        }
        track.end();
        for subscription in &mut watched {
            for id in 0..6 {
                expect(subscription, (7, 0, id)).await;
            }
            let done = loop {
                match within("the end", subscription.next()).await.unwrap() {
                    Received::Done(done) => break done,
                    Received::Object(object) => panic!("{object:?}"),
                    _ => {}
                }
            };
            assert_eq!(done.code, PublishDoneCode::TRACK_ENDED);
            assert_eq!(done.stream_count, 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn publisher_and_child_follow_a_relay_that_sends_them_elsewhere() {
    let machine = Machine::new();
    let old = machine.relay("old", &[]);
    let new = machine.relay("new", &[]);
    let edge = machine.relay("edge", &["--upstream", old.url().as_str()]);
    edge.connected().await;
    let live = broadcast();
    let mut track = live.create_track("a", TrackOptions::default());
    let mut address = old.address();
    address.tls.fingerprints.extend(new.tls().fingerprints);
    let _published = publish(&live, &address).await;
    track.begin_group(0);
    common::write(&mut track, (0, 0, 0));
    let viewer = connect(&edge, Version::Draft18).await;
    let mut watched = viewer.subscribe(track_name(NAMESPACE, "a"), Want::default()).await.unwrap();
    expect(&mut watched, (0, 0, 0)).await;
    old.drain_to(&new.url()).await;
    let mut moved = false;
    for group in 1..200 {
        track.begin_group(group);
        for id in 0..3 {
            common::write(&mut track, (group, 0, id));
            expect(&mut watched, (group, 0, id)).await;
        }
        let there = new.sessions("relay").await == 1;
        if moved {
            return;
        }
        moved = there && new.sessions("publisher").await == 1 && old.sessions("relay").await == 0;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("they did not move");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_relay_that_knows_the_trees_token_reports_to_it() {
    let machine = Machine::new();
    let token = machine.path().join("token");
    std::fs::write(&token, "between-us-relays\n").unwrap();
    let token = token.to_str().unwrap();
    let root = machine.relay("root", &["--tree-token-file", token]);
    let parent = root.url();
    let ours = ["--upstream", parent.as_str(), "--tree-token-file", token];
    let ours = machine.relay("ours", &ours);
    let stranger = machine.relay("stranger", &["--upstream", parent.as_str()]);
    ours.connected().await;
    stranger.connected().await;
    root.snapshot_shows("both sessions", |node| {
        node["relays"] == 1 && node["sessions"].as_array().unwrap().len() == 2
    })
    .await;
    let (_, tree) = root.admin("/api/v1/nodes").await;
    assert!(!tree.contains("\"stranger\""), "{tree}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_became_of_each_group_is_told_and_tracks_add_up_to_the_node() {
    let machine = Machine::new();
    let relay = machine.relay("root", &[]);
    let live = broadcast();
    let mut tracks = ["a", "b"].map(|name| live.create_track(name, TrackOptions::default()));
    let _published = publish(&live, &relay.address()).await;
    let viewers = [Version::Draft18, Version::Draft22].map(|version| connect(&relay, version));
    let viewers = futures_util::future::join_all(viewers).await;
    let mut watched = Vec::new();
    for (nth, track) in tracks.iter_mut().enumerate() {
        track.begin_group(0);
        common::write(track, (0, 0, 0));
        // One watches both, the other the first only.
        for viewer in &viewers[nth..] {
            let name = track_name(NAMESPACE, ["a", "b"][nth]);
            watched.push(viewer.subscribe(name, Want::default()).await.unwrap());
        }
    }
    for group in 0..12 {
        for track in &mut tracks {
            if group > 0 {
                track.begin_group(group);
                common::write(track, (group, 0, 0));
            }
            common::write(track, (group, 0, 1));
            common::write(track, (group, 0, 2));
        }
        for subscription in &mut watched {
            for id in 0..3 {
                expect(subscription, (group, 0, id)).await;
            }
        }
    }
    relay
        .snapshot_shows("what became of each group", |node| {
            let tracks = node["tracks"].as_array().unwrap();
            let sum: u64 = tracks.iter().map(|track| track["bytes_out"].as_u64().unwrap()).sum();
            let viewers_of = [2, 1];
            let told = tracks.iter().zip(viewers_of).all(|(track, viewers)| {
                let groups = track["groups"].as_array().unwrap();
                let ids = groups.iter().map(|group| group["group"].as_u64().unwrap());
                assert!(ids.eq(4..12), "{track:#}");
                assert!(groups.iter().all(|group| group["objects"] == 3), "{track:#}");
                groups
                    .iter()
                    .all(|group| group["offered"] == 3 * viewers && group["sent"] == 3 * viewers)
            });
            // The books are brought up to date twice a second, each session's in its turn.
            told && node["objects_out"] == 3 * 36 && node["bytes_out"] == sum
        })
        .await;
    let node = relay.snapshot().await;
    let buffers = &node["udp_buffers"];
    for way in ["receive", "send"] {
        assert!(
            (1..=buffers["wanted"].as_u64().unwrap()).contains(&buffers[way].as_u64().unwrap())
        );
    }
    let came: u64 =
        node["tracks"].as_array().unwrap().iter().map(|it| it["bytes_in"].as_u64().unwrap()).sum();
    assert_eq!(node["bytes_in"], came);
}

/// A relay asks its parent, and that a publisher, for what all of its viewers want.
#[tokio::test(flavor = "multi_thread")]
async fn viewers_below_an_edge_have_more_tracks_than_one_viewer_may() {
    const EACH: usize = 60;
    let machine = Machine::new();
    let root = machine.relay("root", &["--max-requests", "70"]);
    let upstream = ["--upstream", root.url().as_str(), "--max-requests", "70"].map(String::from);
    let edge = machine.relay("edge", &upstream.each_ref().map(String::as_str));
    edge.connected().await;
    let live = broadcast();
    let mut tracks: Vec<_> =
        (0..3 * EACH).map(|n| live.create_track(&n.to_string(), TrackOptions::default())).collect();
    let _published = publish(&live, &root.address()).await;
    for track in &mut tracks {
        track.begin_group(0);
        common::write(track, (0, 0, 0));
    }
    let name = |n: usize| track_name(NAMESPACE, &n.to_string());
    let mut viewers = Vec::new();
    for n in 0..3 * EACH {
        if n % EACH == 0 {
            viewers.push(connect(&edge, Version::Draft18).await);
        }
        let asked = viewers[n / EACH].subscribe(name(n), Want::default());
        let mut watched = within(&format!("track {n}"), asked).await.unwrap();
        expect(&mut watched, (0, 0, 0)).await;
        // It lasts, and the next one comes on top.
        tokio::spawn(async move { while watched.next().await.is_some() {} });
    }
    // One viewer that asks for as many hears that it is too many.
    let greedy = connect(&edge, Version::Draft18).await;
    let mut watched = Vec::new();
    for n in 0..70 {
        watched.push(greedy.subscribe(name(n), Want::default()).await.unwrap());
    }
    let asked = greedy.subscribe(name(70), Want::default());
    match within("an answer", asked).await {
        Err(Refusal::Answer(error)) => assert_eq!(error.code, RequestErrorCode::EXCESSIVE_LOAD),
        other => panic!("{:?}", other.map(|_| "accepted")),
    }
}

/// The line takes what is live with some to spare, and the past has more than that.
#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_takes_nothing_from_what_is_live_and_more_urgent() {
    let machine = Machine::new();
    // So long that a machine that stands still for a moment cuts nothing.
    let relay = machine.relay("root", &["--max-latency", "8s"]);
    let mut down = LinkConfig::default();
    down.apply("rate=4M delay=10 queue=64k").unwrap();
    let address = relay.url().socket_addrs(|| None).unwrap()[0];
    let lines = ProxyConfig { up: LinkConfig::default(), down, seed: 1 };
    let proxy = UdpProxy::start(([127, 0, 0, 1], 0).into(), address, lines).await.unwrap();
    let mut thin = relay.url();
    thin.set_port(Some(proxy.local_addr().port())).unwrap();

    let broadcast = broadcast();
    let mut past = broadcast.create_track("past", TrackOptions::default());
    let mut live = broadcast.create_track("live", TrackOptions::default());
    let _published = publish(&broadcast, &relay.address()).await;
    let keeper = connect(&relay, Version::Draft18).await;
    past.begin_group(0);
    common::write(&mut past, (0, 0, 0));
    let mut kept = keeper.subscribe(track_name(NAMESPACE, "past"), Want::default()).await.unwrap();
    let payload = Bytes::from(vec![7; 100_000]);
    for id in 1..=100 {
        past.write(0, id, &Properties::new(), payload.clone());
    }
    while kept.next_object().await.unwrap().location.object < 100 {}

    let viewer = connect_to(&relay, Version::Draft18, thin).await;
    live.begin_group(0);
    common::write(&mut live, (0, 0, 0));
    let want = Parameters { subscriber_priority: Some(10), ..Parameters::default() };
    let want = Want { parameters: want, ..Want::default() };
    let mut watched = viewer.subscribe(track_name(NAMESPACE, "live"), want).await.unwrap();
    expect(&mut watched, (0, 0, 0)).await;
    let (start, end) = (Location::start_of(0), Location::end_of(0));
    let name = track_name(NAMESPACE, "past");
    let mut fetched = viewer.fetch(name, start, end, GroupOrder::Ascending).await.unwrap();
    // 2 Mbit/s for six seconds.
    let mut turns = tokio::time::interval(Duration::from_millis(100));
    let publishing = tokio::spawn(async move {
        for group in 1..=12 {
            live.begin_group(group);
            for id in 0..5 {
                turns.tick().await;
                live.write(0, id, &Properties::new(), Bytes::from(vec![9; 25_000]));
            }
        }
        live
    });
    let mut came = 0;
    while came < 60 {
        match within("what is live", watched.next()).await.expect("it goes on") {
            Received::Object(_) => came += 1,
            Received::SubgroupEnd { .. } => {}
            other => panic!("after {came} objects {other:?}"),
        }
    }
    let mut bytes = 0;
    while let Ok(received) = fetched.try_recv() {
        match received {
            Received::Object(object) => bytes += object.payload.len(),
            other => panic!("10 MB came meanwhile: {other:?}"),
        }
    }
    assert!(bytes > 500_000, "{bytes} of the past came beside it");
    drop(publishing.await.unwrap());
}
