#![expect(clippy::disallowed_methods, reason = "a test has to begin at some instant")]

use std::time::Duration;

use bytes::BytesMut;
use moqt::{ObjectHeader, Properties, SubgroupHeader, SubgroupId};

use super::*;
use crate::{CacheLimits, FeedId, SessionId};

const A: SessionId = SessionId(1);

fn at(group: u64, object: u64) -> Location {
    Location { group, object }
}

fn held(start: Location, end: Location) -> Part {
    Part::Held { start, end }
}

fn missing(start: Location, end: Location) -> Part {
    Part::Missing { start, end }
}

/// A subgroup's objects with these IDs; an object's payload is its group and ID.
fn open(track: &mut Track, group: u64, subgroup: u64, ids: &[u64], now: Instant) -> FeedId {
    open_with(track, group, subgroup, ids, &Properties::new(), now)
}

/// The same with properties of the first object.
fn open_with(
    track: &mut Track,
    group: u64,
    subgroup: u64,
    ids: &[u64],
    properties: &Properties,
    now: Instant,
) -> FeedId {
    let header = SubgroupHeader {
        track_alias: 0,
        group,
        subgroup: SubgroupId::Known(subgroup),
        priority: Some(7),
        properties: true,
        end_of_group: false,
        first_object: true,
    };
    let feed = track.open(A, header, now).unwrap().unwrap();
    let mut buf = BytesMut::new();
    let mut previous = None;
    for id in ids {
        let properties = match previous {
            None => properties.to_bytes(CODING),
            Some(_) => Bytes::new(),
        };
        ObjectHeader {
            id: *id,
            previous,
            properties: Some(&properties),
            payload: 2,
            status: ObjectStatus::Normal,
        }
        .encode(&mut buf, CODING);
        buf.extend_from_slice(&[group as u8, *id as u8]);
        previous = Some(*id);
    }
    track.append(feed, buf.freeze(), now).unwrap();
    feed
}

fn whole(track: &mut Track, group: u64, subgroup: u64, ids: &[u64], now: Instant) {
    let feed = open(track, group, subgroup, ids, now);
    track.finish(feed, now).unwrap();
}

/// What a cursor gives, in short.
fn fetch(track: &Track, start: Location, end: Location, order: GroupOrder) -> Vec<(u64, u64)> {
    let mut cursor = FetchCursor::new(start, end, order);
    let mut found = Vec::new();
    loop {
        match cursor.poll(track, Instant::now()) {
            FetchStep::Object(object) => {
                let Location { group, object: id } = object.location;
                assert_eq!(object.payload.concat(), [group as u8, id as u8]);
                assert_eq!(object.priority, 7);
                found.push((group, id));
            }
            FetchStep::Done => return found,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn groups_that_began_while_a_source_was_live_are_held_whole() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default());
    track.handle_live(Some(at(4, 9)));
    whole(&mut track, 4, 0, &[10, 11], now);
    whole(&mut track, 5, 0, &[0, 2], now);
    whole(&mut track, 5, 1, &[1, 3], now);
    whole(&mut track, 6, 0, &[0, 1], now);
    open(&mut track, 7, 0, &[0, 1], now);
    let (from, to) = (at(4, 0), at(7, 1));
    let before = missing(at(4, 0), at(4, 9));
    let tail = missing(at(4, 12), at(4, u64::MAX));
    assert_eq!(
        track.plan(from, to, GroupOrder::Ascending, now),
        [before, held(at(4, 10), at(4, 11)), tail, held(at(5, 0), at(7, 1))]
    );
    assert_eq!(
        track.plan(from, to, GroupOrder::Descending, now),
        [held(at(5, 0), at(7, 1)), before, held(at(4, 10), at(4, 11)), tail]
    );
    let group = [(5, 0), (5, 1), (5, 2), (5, 3)];
    let mut all = [&group[..], &[(6, 0), (6, 1), (7, 0), (7, 1)]].concat();
    assert_eq!(fetch(&track, at(5, 0), to, GroupOrder::Ascending), all);
    all = [&[(7, 0), (7, 1), (6, 0), (6, 1)], &group[..]].concat();
    assert_eq!(fetch(&track, at(5, 0), to, GroupOrder::Descending), all);
    assert_eq!(fetch(&track, at(5, 3), at(6, 0), GroupOrder::Ascending), [(5, 3), (6, 0)]);
    // A location beyond what was published may yet get an object.
    let plan = track.plan(at(7, 0), at(7, 5), GroupOrder::Ascending, now);
    assert_eq!(plan, [held(at(7, 0), at(7, 1)), missing(at(7, 2), at(7, 5))]);
}

#[test]
fn what_broke_off_or_was_never_seen_is_missing() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default());
    track.handle_live(None);
    let feed = open(&mut track, 0, 0, &[0, 1], now);
    track.reset(feed, moqt::ResetCode::DELIVERY_TIMEOUT, now);
    // The other subgroup of this group never came: its objects are not where they should be.
    whole(&mut track, 1, 0, &[0, 2], now);
    whole(&mut track, 3, 0, &[0], now);
    open(&mut track, 4, 0, &[0], now);
    assert_eq!(
        track.plan(at(0, 0), at(4, 0), GroupOrder::Ascending, now),
        [
            held(at(0, 0), at(0, 1)),
            missing(at(0, 2), at(0, u64::MAX)),
            held(at(1, 0), at(1, 0)),
            missing(at(1, 1), at(1, 1)),
            held(at(1, 2), at(1, u64::MAX)),
            missing(at(2, 0), at(2, u64::MAX)),
            held(at(3, 0), at(4, 0)),
        ]
    );
}

#[test]
fn groups_that_passed_while_no_source_was_live_are_not_taken_for_whole() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default());
    track.handle_live(None);
    whole(&mut track, 0, 0, &[0], now);
    whole(&mut track, 1, 0, &[0], now);
    track.handle_offline();
    track.handle_live(Some(at(2, 5)));
    // Another source that is further ahead changes nothing.
    track.handle_live(Some(at(9, 0)));
    whole(&mut track, 2, 0, &[0], now);
    whole(&mut track, 3, 0, &[0], now);
    open(&mut track, 4, 0, &[0], now);
    let tail = |group, from| missing(at(group, from), at(group, u64::MAX));
    assert_eq!(
        track.plan(at(0, 0), at(4, 0), GroupOrder::Ascending, now),
        [
            held(at(0, 0), at(1, 0)),
            tail(1, 1),
            held(at(2, 0), at(2, 0)),
            tail(2, 1),
            held(at(3, 0), at(4, 0)),
        ]
    );
}

#[test]
fn what_the_publisher_says_does_not_exist_is_known() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default());
    let mut gap = Properties::new();
    gap.push_int(property::PRIOR_GROUP_ID_GAP, 3);
    gap.push_int(property::PRIOR_OBJECT_ID_GAP, 2);
    let feed = open_with(&mut track, 9, 0, &[2, 3], &gap, now);
    // END_OF_GROUP, then nothing is known of what comes after.
    track.append(feed, Bytes::from_static(&[0, 0, 0, 3]), now).unwrap();
    track.finish(feed, now).unwrap();
    open(&mut track, 10, 0, &[0], now);
    let ends = (at(4, 0), at(10, 0));
    let none = missing(at(4, 0), at(5, u64::MAX));
    let all = held(at(6, 0), at(10, 0));
    assert_eq!(track.plan(ends.0, ends.1, GroupOrder::Ascending, now), [none, all]);
    assert_eq!(track.plan(ends.0, ends.1, GroupOrder::Descending, now), [all, none]);
    // A fetch has no statuses: the gap says it.
    let found = fetch(&track, at(6, 0), ends.1, GroupOrder::Ascending);
    assert_eq!(found, [(9, 2), (9, 3), (10, 0)]);
}

#[test]
fn an_object_that_still_arrives_is_waited_for() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default());
    let feed = open(&mut track, 1, 0, &[0], now);
    track.append(feed, Bytes::from_static(&[0, 0, 2, 1]), now).unwrap();
    let plan = track.plan(at(1, 0), at(1, 1), GroupOrder::Ascending, now);
    assert_eq!(plan, [held(at(1, 0), at(1, 1))]);
    let mut cursor = FetchCursor::new(at(1, 1), at(1, 1), GroupOrder::Ascending);
    assert_eq!(cursor.poll(&track, now), FetchStep::Wait);
    let mut lost = cursor.clone();
    track.append(feed, Bytes::from_static(&[1]), now).unwrap();
    assert!(matches!(cursor.poll(&track, now), FetchStep::Object(_)));
    assert_eq!(cursor.poll(&track, now), FetchStep::Done);

    // It never comes.
    track.append(feed, Bytes::from_static(&[0, 0, 2, 1]), now).unwrap();
    lost = FetchCursor { end: at(1, 2), at: Some(at(1, 2)), ..lost };
    assert_eq!(lost.poll(&track, now), FetchStep::Wait);
    track.handle_source_gone(A, now);
    let gone = FetchStep::Missing { start: at(1, 2), end: at(1, 2) };
    assert_eq!(lost.poll(&track, now), gone);
}

#[test]
fn what_is_evicted_under_a_slow_fetch_is_reported() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits { age: Duration::from_secs(1), ..Default::default() });
    track.handle_live(None);
    for group in 0..3 {
        whole(&mut track, group, 0, &[0, 1], now);
    }
    let mut cursor = FetchCursor::new(at(0, 0), at(2, 1), GroupOrder::Ascending);
    assert!(matches!(cursor.poll(&track, now), FetchStep::Object(_)));
    let later = now + Duration::from_secs(2);
    track.evict(later);
    let gone = FetchStep::Missing { start: at(0, 1), end: at(1, u64::MAX) };
    assert_eq!(cursor.poll(&track, later), gone);
    assert!(matches!(cursor.poll(&track, later), FetchStep::Object(o) if o.location == at(2, 0)));
}

#[test]
fn objects_older_than_their_cache_duration_are_asked_for_again() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default());
    let mut properties = Properties::new();
    properties.push_int(property::MAX_CACHE_DURATION, 500);
    track.set_properties(properties);
    let feed = open(&mut track, 0, 0, &[0, 1], now);
    let later = now + Duration::from_millis(400);
    track.append(feed, Bytes::from_static(&[0, 0, 2, 0, 2]), later).unwrap();
    let plan = |at_ms| {
        let then = now + Duration::from_millis(at_ms);
        track.plan(at(0, 0), at(0, 2), GroupOrder::Ascending, then)
    };
    assert_eq!(plan(500), [held(at(0, 0), at(0, 2))]);
    assert_eq!(plan(501), [missing(at(0, 0), at(0, 1)), held(at(0, 2), at(0, 2))]);
}

#[test]
fn datagrams_are_fetched_between_the_others() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default());
    track.handle_live(None);
    whole(&mut track, 1, 0, &[0, 2], now);
    let datagram = moqt::Datagram {
        track_alias: 0,
        group: 1,
        object: 1,
        priority: Some(7),
        properties: Bytes::new(),
        end_of_group: false,
        body: DatagramBody::Payload(Bytes::from_static(&[1, 1])),
    };
    track.push_datagram(A, datagram, now).unwrap();
    open(&mut track, 2, 0, &[0], now);
    let found = fetch(&track, at(1, 0), at(1, 2), GroupOrder::Ascending);
    assert_eq!(found, [(1, 0), (1, 1), (1, 2)]);
    // More of them may have been lost.
    let plan = track.plan(at(1, 0), at(2, 0), GroupOrder::Ascending, now);
    let tail = missing(at(1, 3), at(1, u64::MAX));
    assert_eq!(plan, [held(at(1, 0), at(1, 2)), tail, held(at(2, 0), at(2, 0))]);
}
