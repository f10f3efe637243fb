#![expect(clippy::disallowed_methods, reason = "a test has to begin at some instant")]

use bytes::BytesMut;
use moqt::ObjectHeader;

use super::*;

const CODING: IntCoding = IntCoding::LeadingOnes;

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

/// `count` objects of `size` bytes from object 0 on, as they are on the wire.
fn objects(count: u64, size: usize) -> Bytes {
    let mut buf = BytesMut::new();
    for id in 0..count {
        ObjectHeader {
            id,
            previous: id.checked_sub(1),
            properties: None,
            payload: size as u64,
            status: ObjectStatus::Normal,
        }
        .encode(&mut buf, CODING);
        buf.resize(buf.len() + size, id as u8);
    }
    buf.freeze()
}

#[test]
fn a_viewer_joins_at_the_newest_groups_first_subgroup() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default(), CODING);
    assert_eq!(track.join_seq(), 0);
    track.open(header(7), now).unwrap();
    let newest = track.open(header(8), now).unwrap();
    assert_eq!(track.join_seq(), newest);
}

#[test]
fn a_source_that_comes_back_goes_on_where_it_stopped() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default(), CODING);
    let seq = track.open(header(1), now).unwrap();
    let bytes = objects(4, 100);
    track.append(seq, bytes.slice(..250), now).unwrap();
    assert_eq!(track.open(header(1), now), None, "a second copy of what is arriving is ignored");
    track.interrupt(seq);
    assert_eq!(track.open(header(1), now), Some(seq));
    for chunk in bytes.chunks(90) {
        track.append(seq, Bytes::copy_from_slice(chunk), now).unwrap();
    }
    track.finish(seq).unwrap();
    let mut read = Vec::new();
    track.subgroup(seq).unwrap().read(0, usize::MAX, &mut read);
    assert_eq!(read.concat(), bytes);
    assert_eq!((track.objects_in(), track.bytes_in()), (4, bytes.len() as u64));
}

#[test]
fn an_interrupted_group_is_given_up_when_a_newer_one_begins() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default(), CODING);
    let seq = track.open(header(1), now).unwrap();
    track.interrupt(seq);
    track.open(header(2), now).unwrap();
    assert!(matches!(track.subgroup(seq).unwrap().end(), SubgroupEnd::Reset(_)));
}

#[test]
fn a_group_that_never_ends_stays_within_the_bound() {
    let now = Instant::now();
    let limits = CacheLimits { bytes: 10_000, age: Duration::from_secs(1) };
    let mut track = Track::new(limits, CODING);
    let seq = track.open(header(1), now).unwrap();
    for chunk in objects(5_000, 100).chunks(777) {
        track.append(seq, Bytes::copy_from_slice(chunk), now).unwrap();
        assert!(track.held_bytes() <= limits.bytes, "{}", track.held_bytes());
    }
    let held = track.subgroup(seq).unwrap();
    assert_eq!(held.object_count(), 5_000);
    let first = held.index_from(0);
    assert_eq!(held.object(first).unwrap().start, held.base());
}

#[test]
fn old_groups_leave_and_the_newest_stays() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default(), CODING);
    for group in 0..3 {
        let seq = track.open(header(group), now).unwrap();
        track.append(seq, objects(1, 10), now).unwrap();
        track.finish(seq).unwrap();
    }
    track.evict(now + Duration::from_secs(60));
    assert!(track.subgroup(1).is_none() && track.subgroup(2).is_some());
}

#[test]
fn the_newest_payload_is_the_last_whole_object() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default(), CODING);
    let seq = track.open(header(1), now).unwrap();
    let bytes = objects(3, 50);
    track.append(seq, bytes.slice(..bytes.len() - 1), now).unwrap();
    assert_eq!(track.newest_payload(), Some(vec![1; 50]));
}

#[test]
fn a_fin_inside_an_object_is_refused() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default(), CODING);
    let seq = track.open(header(1), now).unwrap();
    track.append(seq, objects(1, 50).slice(..20), now).unwrap();
    assert!(track.finish(seq).is_err());
}
