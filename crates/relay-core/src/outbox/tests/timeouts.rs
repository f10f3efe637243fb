//! "Delivery Timeouts and Data Reliability".

use super::*;

const MS: Duration = Duration::from_millis(1);

fn limited(object: Option<u64>, subgroup: Option<u64>) -> Subscription {
    let timeouts = DeliveryTimeouts {
        object: object.map(Duration::from_millis),
        subgroup: subgroup.map(Duration::from_millis),
    };
    Subscription { timeouts, ..subscription() }
}

#[test]
fn an_object_is_late_by_its_own_age_whoever_had_to_wait() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default());
    let mut viewer = Viewer::new(&track, limited(Some(100), None));
    let feed = track.open(A, header(1), now).unwrap().unwrap();
    track.append(feed, object(0, 1000), now).unwrap();
    viewer.run(&track, 100, now);
    assert_eq!(viewer.outbox.poll_timeout(), Some(now + MS * 100));
    viewer.run(&track, 0, now + MS * 99);
    assert_eq!(viewer.reset, []);
    viewer.run(&track, 0, now + MS * 100);
    assert_eq!(viewer.reset, [(0, ResetCode::DELIVERY_TIMEOUT)]);
    // No other stream is opened for the rest of the subgroup.
    track.append(feed, object(1, 10), now + MS * 100).unwrap();
    viewer.run(&track, usize::MAX, now + MS * 100);
    assert_eq!(viewer.streams.len(), 1);
}

#[test]
fn one_who_joins_gets_no_object_that_is_late_already() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default());
    let feed = track.open(A, header(1), now).unwrap().unwrap();
    track.append(feed, object(0, 10), now).unwrap();
    track.append(feed, object(1, 10), now + MS * 80).unwrap();
    let mut viewer = Viewer::new(&track, limited(Some(100), None));
    viewer.run(&track, usize::MAX, now + MS * 120);
    let mut expected = BytesMut::new();
    SubgroupHeader { track_alias: 3, first_object: false, ..header(1) }
        .encode(&mut expected, CODING);
    expected.extend_from_slice(&[1]);
    expected.extend_from_slice(&object(1, 10)[1..]);
    assert_eq!(viewer.streams.into_values().collect::<Vec<_>>(), [expected]);
    assert_eq!(viewer.reset, []);
}

#[test]
fn one_who_joins_gets_nothing_that_may_not_be_cached_any_more() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default());
    let mut properties = moqt::Properties::new();
    properties.push_int(moqt::property::MAX_CACHE_DURATION, 0);
    track.set_properties(properties);
    let mut early = Viewer::new(&track, subscription());
    let feed = track.open(A, header(1), now).unwrap().unwrap();
    track.append(feed, object(0, 10), now).unwrap();
    let mut late = Viewer::new(&track, subscription());
    for viewer in [&mut early, &mut late] {
        viewer.run(&track, usize::MAX, now + MS);
    }
    assert_eq!(early.outbox.books().objects_out, 1, "what is live goes on");
    assert_eq!(late.outbox.books().objects_out, 0);
    track.append(feed, object(1, 10), now + MS).unwrap();
    late.run(&track, usize::MAX, now + MS);
    assert_eq!(late.outbox.books().objects_out, 1);
}

#[test]
fn a_subgroup_is_late_when_not_all_is_sent_in_time_after_its_fin() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default());
    let mut viewer = Viewer::new(&track, limited(None, Some(50)));
    let feed = track.open(A, header(1), now).unwrap().unwrap();
    track.append(feed, object(0, 1000), now).unwrap();
    viewer.run(&track, 100, now + MS * 60);
    assert_eq!(viewer.reset, [], "more may come");
    track.finish(feed, now + MS * 60).unwrap();
    viewer.run(&track, 100, now + MS * 60);
    assert_eq!(viewer.outbox.poll_timeout(), Some(now + MS * 110));
    viewer.run(&track, 0, now + MS * 110);
    assert_eq!(viewer.reset, [(0, ResetCode::DELIVERY_TIMEOUT)]);
}

#[test]
fn a_subgroup_is_late_when_what_was_sent_is_not_delivered_in_time() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default());
    let mut viewer = Viewer::new(&track, limited(None, Some(50)));
    for group in 0..2 {
        let feed = track.open(A, header(group), now).unwrap().unwrap();
        track.append(feed, object(0, 10), now).unwrap();
        track.finish(feed, now).unwrap();
    }
    viewer.run(&track, usize::MAX, now);
    assert_eq!(viewer.finished.len(), 2);
    viewer.outbox.handle_delivered(1);
    assert_eq!(viewer.outbox.poll_timeout(), Some(now + MS * 50));
    viewer.run(&track, 0, now + MS * 50);
    assert_eq!(viewer.reset, [(0, ResetCode::DELIVERY_TIMEOUT)]);
    assert_eq!(viewer.outbox.poll_timeout(), None);
}

#[test]
fn a_late_datagram_is_dropped_by_either_timeout() {
    let now = Instant::now();
    for wanted in [limited(Some(50), None), limited(None, Some(50)), limited(Some(50), Some(90))] {
        let mut track = Track::new(CacheLimits::default());
        let mut viewer = Viewer::new(&track, wanted);
        for (number, at) in [(0, now), (1, now + MS)] {
            let datagram = Datagram {
                track_alias: 0,
                group: 1,
                object: number,
                priority: None,
                properties: Bytes::new(),
                end_of_group: false,
                body: moqt::DatagramBody::Payload(Bytes::from_static(b"1234")),
            };
            track.push_datagram(A, datagram, at).unwrap();
        }
        viewer.run(&track, 0, now + MS * 51);
        assert_eq!(viewer.datagrams.len(), 1);
        let books = viewer.outbox.books();
        let late = books.drops[DropReason::DeliveryTimeout];
        assert_eq!((books.objects_out, books.bytes_out, late.objects, late.bytes), (1, 4, 1, 4));
    }
}
