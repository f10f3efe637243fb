//! "Updating Subscriptions", "Scheduling Algorithm", and how subscriptions end.

use super::*;

fn at(group: u64, object: u64) -> Location {
    Location { group, object }
}

fn grow(track: &mut Track, group: u64, size: usize, now: Instant) -> crate::FeedId {
    let feed = track.open(A, header(group), now).unwrap().unwrap();
    track.append(feed, object(0, size), now).unwrap();
    feed
}

/// The objects of one stream, and whether it begins with the first.
fn ids(stream: &[u8]) -> (bool, Vec<u64>) {
    let mut rest = BytesMut::from(stream);
    let header = SubgroupHeader::decode(&mut rest, CODING).unwrap().unwrap();
    let mut ids = Vec::new();
    let mut scanner = moqt::ObjectScanner::new(&header, CODING);
    scanner.scan(&rest, |mark| ids.push(mark.id)).unwrap();
    (header.first_object, ids)
}

#[test]
fn groups_go_by_their_ids_and_not_by_arrival() {
    let now = Instant::now();
    for (order, first) in [(GroupOrder::Ascending, 1), (GroupOrder::Descending, 2)] {
        let mut track = Track::new(CacheLimits::default());
        let mut viewer = Viewer::new(&track, Subscription { order, ..subscription() });
        for group in [5, 3, 9, 4] {
            grow(&mut track, group, 1000, now);
        }
        viewer.run(&track, 500, now);
        assert_eq!(viewer.streams[&first].len(), 500, "{order:?}");
        let mut by_priority: Vec<_> = viewer.priorities.iter().collect();
        by_priority.sort_by_key(|(_, priority)| std::cmp::Reverse(**priority));
        let streams: Vec<_> = by_priority.iter().map(|(stream, _)| **stream).collect();
        match order {
            GroupOrder::Ascending => assert_eq!(streams, [1, 3, 0, 2]),
            GroupOrder::Descending => assert_eq!(streams, [2, 0, 3, 1]),
        }
    }
}

#[test]
fn a_newer_group_takes_the_place_of_one_that_is_being_sent() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default());
    let mut viewer = Viewer::new(&track, subscription());
    grow(&mut track, 1, 1000, now);
    viewer.run(&track, 500, now);
    let before = viewer.priorities[&0];
    grow(&mut track, 2, 1000, now);
    viewer.run(&track, 0, now);
    assert!(viewer.priorities[&0] < before && viewer.priorities[&1] == before);
}

#[test]
fn the_lowest_subgroup_of_a_group_goes_first() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default());
    let mut viewer = Viewer::new(&track, subscription());
    for subgroup in [2, 0, 1] {
        let header = SubgroupHeader { subgroup: SubgroupId::Known(subgroup), ..header(1) };
        let feed = track.open(A, header, now).unwrap().unwrap();
        let mut buf = BytesMut::new();
        let (payload, status) = (400, ObjectStatus::Normal);
        ObjectHeader { id: subgroup, previous: None, properties: None, payload, status }
            .encode(&mut buf, CODING);
        buf.resize(buf.len() + 400, 0);
        track.append(feed, buf.freeze(), now).unwrap();
    }
    viewer.run(&track, 600, now);
    assert!(viewer.streams[&1].len() > 400 && !viewer.streams[&2].is_empty());
    assert!(viewer.streams[&0].is_empty());
    assert!(viewer.priorities[&1] > viewer.priorities[&2]);
    assert!(viewer.priorities[&2] > viewer.priorities[&0]);
}

#[test]
fn a_changed_priority_moves_streams_that_are_open() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default());
    let mut viewer = Viewer::new(&track, subscription());
    viewer.outbox.subscribe(1, TRACK, &track, subscription());
    grow(&mut track, 1, 1000, now);
    viewer.run(&track, 0, now);
    assert_eq!(viewer.priorities[&0], viewer.priorities[&1]);
    viewer.outbox.update(1, |wanted| wanted.priority = 3);
    viewer.run(&track, 500, now);
    assert!(viewer.priorities[&1] > viewer.priorities[&0]);
    assert_eq!((viewer.streams[&0].len(), viewer.streams[&1].len()), (0, 500));
}

#[test]
fn forwarding_stops_and_goes_on_where_it_stopped() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default());
    let mut viewer = Viewer::new(&track, subscription());
    let feed = grow(&mut track, 1, 10, now);
    track.append(feed, object(1, 100), now).unwrap();
    // One whole object and the head of another.
    viewer.run(&track, 60, now);
    viewer.outbox.update(0, |wanted| wanted.forward = false);
    viewer.run(&track, usize::MAX, now);
    assert_eq!(viewer.reset, [(0, ResetCode::CANCELLED)]);
    track.append(feed, object(2, 10), now).unwrap();
    viewer.run(&track, usize::MAX, now);
    assert_eq!(viewer.streams.len(), 1, "nothing is sent");
    viewer.outbox.update(0, |wanted| wanted.forward = true);
    // It has had no chance to get it until now.
    let now = now + Duration::from_secs(10);
    viewer.run(&track, usize::MAX, now);
    assert_eq!(ids(&viewer.streams[&1]), (false, vec![1, 2]));
    track.finish(feed, now).unwrap();
    viewer.run(&track, usize::MAX, now);
    assert_eq!(viewer.finished, [1]);
    assert!(viewer.outbox.books().drops.is_zero(), "it was not offered");
}

/// A viewer that stopped forwarding with one object sent and one waiting, of 12 and 102 bytes.
fn paused(track: &mut Track, now: Instant) -> Viewer {
    let mut viewer = Viewer::new(track, subscription());
    let feed = grow(track, 1, 10, now);
    viewer.run(track, usize::MAX, now);
    track.append(feed, object(1, 100), now).unwrap();
    viewer.run(track, 0, now);
    viewer.outbox.update(0, |wanted| wanted.forward = false);
    viewer.run(track, usize::MAX, now);
    // Neither this nor what follows is offered to it.
    track.append(feed, object(2, 10), now).unwrap();
    track.finish(feed, now).unwrap();
    grow(track, 2, 10, now);
    viewer.run(track, usize::MAX, now);
    assert!(viewer.outbox.books().drops.is_zero(), "it may go on with it");
    viewer
}

fn one_cancelled(viewer: &Viewer) {
    let drops = viewer.outbox.books().drops;
    let lost = DropCounts { groups: 1, objects: 1, bytes: object(1, 100).len() as u64 };
    assert_eq!((drops[DropReason::Cancelled], drops.total()), (lost, lost));
}

#[test]
fn what_waited_when_forwarding_stopped_is_dropped_once_it_is_not_gone_on_with() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default());
    let mut viewer = paused(&mut track, now);
    viewer.outbox.update(0, |wanted| wanted.forward = true);
    viewer.run(&track, usize::MAX, now);
    one_cancelled(&viewer);
    assert_eq!(viewer.outbox.books().objects_out, 2, "and the newest group");
}

#[test]
fn what_waited_when_forwarding_stopped_is_dropped_when_the_subscription_ends() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default());
    let mut viewer = paused(&mut track, now);
    viewer.outbox.unsubscribe(0, Some(&track));
    one_cancelled(&viewer);
}

#[test]
fn what_waited_when_forwarding_stopped_is_dropped_when_it_is_evicted() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits { bytes: 1000, ..CacheLimits::default() });
    let mut viewer = paused(&mut track, now);
    for group in 3..10 {
        grow(&mut track, group, 300, now);
    }
    viewer.run(&track, usize::MAX, now);
    one_cancelled(&viewer);
}

#[test]
fn what_waited_when_forwarding_stopped_is_dropped_when_it_is_too_old_to_go_on_with() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default());
    let object_timeout = Some(Duration::from_millis(500));
    let timeouts = DeliveryTimeouts { object: object_timeout, ..DeliveryTimeouts::default() };
    let mut viewer = Viewer::new(&track, Subscription { timeouts, ..subscription() });
    let feed = grow(&mut track, 1, 10, now);
    viewer.run(&track, usize::MAX, now);
    track.append(feed, object(1, 100), now).unwrap();
    viewer.run(&track, 0, now);
    viewer.outbox.update(0, |wanted| wanted.forward = false);
    viewer.run(&track, usize::MAX, now);
    let backlog = viewer.outbox.backlog(|_| Some(&track), now);
    assert_eq!((backlog.objects, backlog.bytes), (1, object(1, 100).len() as u64));
    let later = now + Duration::from_secs(1);
    track.append(feed, object(2, 10), later).unwrap();
    viewer.outbox.update(0, |wanted| wanted.forward = true);
    viewer.run(&track, usize::MAX, later);
    let drops = viewer.outbox.books().drops;
    let lost = DropCounts { groups: 0, objects: 1, bytes: object(1, 100).len() as u64 };
    assert_eq!((drops[DropReason::Cancelled], drops.total()), (lost, lost));
    assert_eq!(viewer.outbox.books().objects_out, 2);
}

#[test]
fn a_pause_ends_the_count_of_what_was_cut_before() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default());
    let mut viewer = Viewer::new(&track, subscription());
    let feed = grow(&mut track, 1, 1000, now);
    viewer.run(&track, 0, now);
    let late = now + Duration::from_secs(3);
    viewer.run(&track, 0, late);
    viewer.outbox.update(0, |wanted| wanted.forward = false);
    track.append(feed, object(1, 10), late).unwrap();
    viewer.run(&track, 0, late);
    track.append(feed, object(2, 10), late).unwrap();
    viewer.run(&track, 0, late);
    assert_eq!(viewer.outbox.books().drops.total().objects, 2, "not what came during the pause");
}

#[test]
fn what_waited_behind_a_new_end_is_dropped() {
    let now = Instant::now();
    for (end, left) in [(at(1, 1), 2), (at(0, 0), 4)] {
        let mut track = Track::new(CacheLimits::default());
        let wanted = Subscription { end: Some(at(1, 3)), ..subscription() };
        let mut viewer = Viewer::new(&track, wanted);
        let feed = grow(&mut track, 1, 10, now);
        for id in 1..6 {
            track.append(feed, object(id, 10), now).unwrap();
        }
        viewer.run(&track, 0, now);
        viewer.outbox.update(0, |wanted| wanted.end = Some(end));
        viewer.run(&track, usize::MAX, now);
        let books = viewer.outbox.books();
        let dropped = books.drops[DropReason::Cancelled].objects;
        assert_eq!((dropped, books.objects_out), (left, 4 - left), "until {end:?}");
    }
}

#[test]
fn what_came_and_went_between_two_looks_is_dropped() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits { bytes: 1000, ..CacheLimits::default() });
    let mut viewer = Viewer::new(&track, subscription());
    viewer.run(&track, usize::MAX, now);
    for group in 0..10 {
        grow(&mut track, group, 300, now);
    }
    viewer.run(&track, usize::MAX, now);
    let books = viewer.outbox.books();
    let behind = books.drops[DropReason::TooFarBehind];
    assert_eq!((behind.groups, behind.objects + books.objects_out), (behind.objects, 10));
    assert_eq!(behind.bytes + books.bytes_out, 10 * object(0, 300).len() as u64);
    assert!(behind.groups > 0, "some were evicted");
}

#[test]
fn what_went_before_a_viewer_came_is_none_of_its_drops() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits { bytes: 1000, ..CacheLimits::default() });
    for group in 0..10 {
        grow(&mut track, group, 300, now);
    }
    let start = Some(at(0, 0));
    let mut viewer = Viewer::new(&track, Subscription { start, ..subscription() });
    viewer.run(&track, usize::MAX, now);
    assert!(viewer.outbox.books().drops.is_zero());
}

#[test]
fn who_begins_to_forward_later_gets_the_newest_group_from_its_start() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default());
    let mut viewer = Viewer::new(&track, Subscription { forward: false, ..subscription() });
    for group in 1..4 {
        let feed = grow(&mut track, group, 10, now);
        viewer.run(&track, usize::MAX, now);
        track.finish(feed, now).unwrap();
    }
    viewer.outbox.update(0, |wanted| wanted.forward = true);
    viewer.run(&track, usize::MAX, now);
    assert_eq!(viewer.streams.len(), 1);
    let stream = viewer.streams.values().next().unwrap();
    assert_eq!(ids(stream), (true, vec![0]));
}

#[test]
fn a_narrowed_filter_cuts_what_it_leaves_out() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default());
    let mut viewer = Viewer::new(&track, subscription());
    let mut feeds = Vec::new();
    for group in 1..4 {
        feeds.push(grow(&mut track, group, 100, now));
    }
    viewer.run(&track, 0, now);
    viewer.outbox.update(0, |wanted| {
        (wanted.start, wanted.end) = (Some(at(2, 1)), Some(Location::end_of(2)));
    });
    for feed in &feeds {
        track.append(*feed, object(1, 100), now).unwrap();
        track.finish(*feed, now).unwrap();
    }
    viewer.run(&track, usize::MAX, now);
    let mut reset: Vec<_> = viewer.reset.iter().map(|(stream, _)| *stream).collect();
    reset.sort_unstable();
    assert_eq!(reset, [0, 1, 2]);
    let anew: Vec<_> = viewer.streams.values().filter(|read| !read.is_empty()).collect();
    assert_eq!(anew.len(), 1);
    assert_eq!(ids(anew[0]), (false, vec![1]));
    assert_eq!(viewer.done, [(0, PublishDoneCode::SUBSCRIPTION_ENDED, 1)]);
}

#[test]
fn a_filter_ends_at_its_last_object() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default());
    let end = Some(at(1, 1));
    let mut viewer = Viewer::new(&track, Subscription { end, ..subscription() });
    let feed = grow(&mut track, 1, 10, now);
    for id in 1..4 {
        track.append(feed, object(id, 10), now).unwrap();
        viewer.run(&track, usize::MAX, now);
    }
    assert_eq!(ids(&viewer.streams[&0]).1, [0, 1]);
    assert_eq!(viewer.finished, [0]);
    assert!(viewer.done.is_empty(), "another subgroup may have objects before the end");
    grow(&mut track, 2, 10, now);
    viewer.run(&track, usize::MAX, now);
    assert_eq!(viewer.done, [(0, PublishDoneCode::SUBSCRIPTION_ENDED, 1)]);
}

#[test]
fn only_streams_that_the_transport_opened_are_counted() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default());
    let mut viewer = Viewer::new(&track, subscription());
    for group in 0..3 {
        grow(&mut track, group, 100, now);
    }
    // The newest is written to, the next opened, the oldest still waits for credit.
    viewer.run(&track, 50, now);
    viewer.outbox.handle_opened(1);
    viewer.outbox.handle_opened(1);
    viewer.outbox.end_track(0, PublishDoneCode::MALFORMED_TRACK);
    viewer.run(&track, usize::MAX, now);
    assert_eq!(viewer.reset.len(), 3);
    assert!(viewer.reset.iter().all(|(_, code)| *code == ResetCode::MALFORMED_TRACK));
    assert_eq!(viewer.done, [(0, PublishDoneCode::MALFORMED_TRACK, 2)]);
}

#[test]
fn a_track_that_is_over_does_not_wait_for_what_was_interrupted() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default());
    let mut viewer = Viewer::new(&track, subscription());
    grow(&mut track, 1, 100, now);
    track.handle_source_gone(A, now);
    viewer.outbox.end_track(0, PublishDoneCode::TRACK_ENDED);
    viewer.run(&track, 50, now);
    assert!(viewer.done.is_empty(), "there is more to send");
    viewer.run(&track, usize::MAX, now);
    assert_eq!(viewer.reset, [(0, ResetCode::CANCELLED)]);
    assert_eq!(viewer.done, [(0, PublishDoneCode::TRACK_ENDED, 1)]);
}
