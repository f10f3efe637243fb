#![expect(clippy::disallowed_methods, reason = "a test has to begin at some instant")]

use bytes::BytesMut;
use moqt::ObjectHeader;

use super::*;

mod merging;

const A: SessionId = SessionId(1);
const B: SessionId = SessionId(2);

fn header(group: u64) -> SubgroupHeader {
    SubgroupHeader {
        track_alias: 0,
        group,
        subgroup: SubgroupId::Known(0),
        priority: None,
        properties: false,
        end_of_group: false,
        first_object: true,
    }
}

/// Objects `ids` of `size` bytes, as they are on a stream after object `previous`.
fn objects(ids: std::ops::Range<u64>, previous: Option<u64>, size: usize) -> Bytes {
    let mut buf = BytesMut::new();
    let mut previous = previous;
    for id in ids {
        ObjectHeader {
            id,
            previous,
            properties: None,
            payload: size as u64,
            status: ObjectStatus::Normal,
        }
        .encode(&mut buf, CODING);
        buf.resize(buf.len() + size, id as u8);
        previous = Some(id);
    }
    buf.freeze()
}

/// All that is held of a subgroup.
fn held(track: &Track, seq: SubgroupSeq) -> Vec<u8> {
    let mut read = Vec::new();
    track.subgroup(seq).expect("held").read(0, usize::MAX, &mut read);
    read.concat()
}

fn malformed<T: std::fmt::Debug>(result: Result<T, TrackError>, why: &str) {
    match result {
        Err(TrackError::Malformed(reason)) => assert!(reason.contains(why), "{reason}"),
        other => panic!("{other:?} is not malformed because of {why}"),
    }
}

#[test]
fn a_viewer_joins_at_the_newest_groups_first_subgroup() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default());
    assert_eq!(track.join_seq(), 0);
    track.open(A, header(7), now).unwrap().unwrap();
    track.open(A, header(8), now).unwrap().unwrap();
    assert_eq!(track.join_seq(), 1);
}

#[test]
fn a_group_that_never_ends_stays_within_the_bound() {
    let now = Instant::now();
    let limits = CacheLimits { bytes: 50_000, age: Duration::from_secs(1) };
    let mut track = Track::new(limits);
    let feed = track.open(A, header(1), now).unwrap().unwrap();
    for chunk in objects(0..5_000, None, 100).chunks(777) {
        track.append(feed, Bytes::copy_from_slice(chunk), now).unwrap();
        assert!(track.held_bytes() <= limits.bytes, "{}", track.held_bytes());
    }
    let held = track.subgroup(0).unwrap();
    assert_eq!(held.object_count(), 5_000);
    let first = held.index_from(0);
    assert_eq!(held.object(first).unwrap().start, held.base());
}

#[test]
fn an_object_that_never_ends_stays_within_the_bound() {
    let now = Instant::now();
    let limits = CacheLimits { bytes: 50_000, age: Duration::from_secs(1) };
    let mut track = Track::new(limits);
    let feed = track.open(A, header(1), now).unwrap().unwrap();
    for chunk in objects(0..1, None, 1_000_000).chunks(1200) {
        track.append(feed, Bytes::copy_from_slice(chunk), now).unwrap();
        assert!(track.held_bytes() <= limits.bytes, "{}", track.held_bytes());
    }
}

#[test]
fn tiny_subgroups_without_end_stay_within_the_bound() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default());
    for id in 0..10_000 {
        let header = SubgroupHeader { subgroup: SubgroupId::Known(id), ..header(1) };
        let feed = track.open(A, header, now).unwrap().unwrap();
        track.append(feed, objects(id..id + 1, None, 1), now).unwrap();
    }
    assert!(track.subgroups.len() <= MAX_SUBGROUPS && track.feeds.len() <= MAX_SUBGROUPS);
}

#[test]
fn old_groups_leave_and_the_newest_stays() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default());
    for group in 0..3 {
        let feed = track.open(A, header(group), now).unwrap().unwrap();
        track.append(feed, objects(0..1, None, 10), now).unwrap();
        track.finish(feed, now).unwrap();
    }
    track.evict(now + Duration::from_secs(60));
    assert!(track.subgroup(1).is_none() && track.subgroup(2).is_some());
    let again = track.open(B, header(1), now + Duration::from_secs(61)).unwrap();
    assert_eq!(again, None, "what was evicted is not taken for new");
}

#[test]
fn the_cache_keeps_no_longer_than_the_publisher_allows() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default());
    let mut properties = Properties::new();
    properties.push_int(property::MAX_CACHE_DURATION, 500);
    track.set_properties(properties);
    for group in 0..2 {
        let feed = track.open(A, header(group), now).unwrap().unwrap();
        track.append(feed, objects(0..1, None, 10), now).unwrap();
        track.finish(feed, now).unwrap();
    }
    track.evict(now + Duration::from_millis(500));
    assert!(track.subgroup(0).is_some());
    track.evict(now + Duration::from_millis(501));
    assert!(track.subgroup(0).is_none());
}

#[test]
fn the_newest_payload_is_the_last_whole_object() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default());
    let feed = track.open(A, header(1), now).unwrap().unwrap();
    let bytes = objects(0..3, None, 50);
    track.append(feed, bytes.slice(..bytes.len() - 1), now).unwrap();
    assert_eq!(track.newest_payload(None), Some((1, vec![1; 50])));
    assert_eq!(track.newest_payload(Some(0)), Some((1, vec![1; 50])));
    assert_eq!(track.newest_payload(Some(1)), None);
    // Not one byte of the next group's object that matters is here.
    let feed = track.open(A, header(2), now).unwrap().unwrap();
    track.append(feed, objects(0..1, None, 50).slice(..9), now).unwrap();
    assert_eq!(track.newest_payload(Some(1)), None);
}

#[test]
fn a_fin_inside_an_object_is_refused() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default());
    let feed = track.open(A, header(1), now).unwrap().unwrap();
    track.append(feed, objects(0..1, None, 50).slice(..20), now).unwrap();
    assert!(matches!(track.finish(feed, now), Err(TrackError::Protocol(_))));
    assert_eq!(track.subgroup(0).unwrap().end(), SubgroupEnd::Interrupted);
}

#[test]
fn a_datagram_is_taken_once_and_kept_within_bounds() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits { bytes: 20_000, age: Duration::from_secs(9) });
    let datagram = |object| Datagram {
        track_alias: 0,
        group: 3,
        object,
        priority: None,
        properties: Bytes::new(),
        end_of_group: false,
        body: DatagramBody::Payload(Bytes::from_static(&[0; 100])),
    };
    for object in 0..1000 {
        track.push_datagram(A, datagram(object), now).unwrap();
        track.push_datagram(B, datagram(object), now).unwrap();
        assert!(track.weight() <= 20_000);
    }
    assert_eq!((track.objects_in(), track.duplicates()), (1000, 1000));
    // One that was evicted is still known for a while.
    assert!(track.first_datagram() > 0);
    track.push_datagram(B, datagram(0), now).unwrap();
    assert_eq!(track.duplicates(), 1001);
    let feed = track.open(A, header(3), now).unwrap().unwrap();
    malformed(track.append(feed, objects(999..1000, None, 100), now), "datagram");
}
