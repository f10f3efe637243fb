//! Several sources of one track.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn append(track: &mut Track, feed: FeedId, bytes: &[u8], now: Instant) {
    track.append(feed, Bytes::copy_from_slice(bytes), now).unwrap();
}

fn open(track: &mut Track, source: SessionId, header: SubgroupHeader, now: Instant) -> FeedId {
    track.open(source, header, now).unwrap().expect("wanted")
}

#[test]
fn a_source_that_comes_back_goes_on_where_it_stopped() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default());
    let bytes = objects(0..4, None, 100);
    let feed = open(&mut track, A, header(1), now);
    append(&mut track, feed, &bytes[..250], now);
    track.handle_source_gone(A, now);
    assert_eq!(track.subgroup(0).unwrap().end(), SubgroupEnd::Interrupted);
    let feed = open(&mut track, A, header(1), now);
    for chunk in bytes.chunks(90) {
        append(&mut track, feed, chunk, now);
    }
    track.finish(feed, now).unwrap();
    assert_eq!(held(&track, 0), bytes);
    assert_eq!(track.subgroup(0).unwrap().end(), SubgroupEnd::Finished);
    assert_eq!((track.objects_in(), track.bytes_in()), (4, bytes.len() as u64));
    assert_eq!(track.duplicates(), 3, "two, and the head of one");
    assert_eq!(track.open(B, header(1), now), Ok(None), "all of it is here");
}

#[test]
fn an_interrupted_group_is_given_up_when_a_newer_one_begins() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default());
    let feed = open(&mut track, A, header(1), now);
    track.interrupt(feed, now);
    open(&mut track, A, header(2), now);
    assert!(matches!(track.subgroup(0).unwrap().end(), SubgroupEnd::Reset(_)));
}

#[test]
fn the_fastest_source_of_each_object_wins() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default());
    let bytes = objects(0..9, None, 100);
    let a = open(&mut track, A, header(1), now);
    let b = open(&mut track, B, header(1), now);
    for (feed, range) in
        [(a, 0..150), (b, 0..400), (a, 150..420), (a, 420..600), (b, 400..918), (a, 600..918)]
    {
        let (_, end) = (range.start, range.end);
        append(&mut track, feed, &bytes[range], now);
        assert!(track.subgroup(0).unwrap().len() >= end as u64 - 3, "only headers are held back");
    }
    assert_eq!(held(&track, 0), bytes);
    track.finish(b, now).unwrap();
    assert_eq!(track.subgroup(0).unwrap().end(), SubgroupEnd::Finished);
    track.finish(a, now).unwrap();
    assert!(track.feeds.is_empty());
    assert_eq!(track.objects_in() + track.duplicates(), 18);
}

#[test]
fn when_a_source_is_lost_inside_an_object_another_goes_on_inside_it() {
    let now = Instant::now();
    for end in [SubgroupEnd::Interrupted, SubgroupEnd::Reset(ResetCode::INTERNAL_ERROR)] {
        let mut track = Track::new(CacheLimits::default());
        let bytes = objects(0..3, None, 1000);
        let a = open(&mut track, A, header(1), now);
        let b = open(&mut track, B, header(1), now);
        append(&mut track, a, &bytes[..1500], now);
        append(&mut track, b, &bytes[..1200], now);
        match end {
            SubgroupEnd::Reset(code) => track.reset(a, code, now),
            _ => track.interrupt(a, now),
        }
        assert_eq!(track.subgroup(0).unwrap().end(), SubgroupEnd::Open);
        append(&mut track, b, &bytes[1200..], now);
        track.finish(b, now).unwrap();
        assert_eq!(held(&track, 0), bytes);
        assert_eq!(track.subgroup(0).unwrap().end(), SubgroupEnd::Finished);
    }
}

#[test]
fn what_comes_too_early_waits_for_what_is_before_it() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default());
    let late = SubgroupHeader { first_object: false, ..header(1) };
    let a = open(&mut track, A, header(1), now);
    let b = open(&mut track, B, late, now);
    append(&mut track, a, &objects(0..2, None, 100), now);
    append(&mut track, b, &objects(4..6, None, 100), now);
    assert_eq!(track.subgroup(0).unwrap().object_count(), 2);
    append(&mut track, a, &objects(2..4, Some(1), 100), now);
    // The Object ID that was the first on its stream now is a difference.
    assert_eq!(held(&track, 0), objects(0..6, None, 100));
    append(&mut track, b, &objects(6..7, Some(5), 100), now);
    assert_eq!(held(&track, 0), objects(0..7, None, 100));
}

#[test]
fn what_nobody_can_fill_begins_another_part_of_the_subgroup() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default());
    let late = SubgroupHeader { first_object: false, ..header(1) };
    let a = open(&mut track, A, header(1), now);
    let b = open(&mut track, B, late, now);
    append(&mut track, a, &objects(0..2, None, 100)[..150], now);
    append(&mut track, b, &objects(4..6, None, 100), now);
    track.interrupt(a, now);
    assert!(matches!(track.subgroup(0).unwrap().end(), SubgroupEnd::Reset(_)));
    assert_eq!(held(&track, 1), objects(4..6, None, 100));
    let part = track.subgroup(1).unwrap().header;
    assert!(!part.first_object && part.subgroup == SubgroupId::Known(0));
    append(&mut track, b, &objects(6..7, Some(5), 100), now);
    track.finish(b, now).unwrap();
    assert_eq!(held(&track, 1), objects(4..7, None, 100));
}

#[test]
fn nobody_waits_for_a_silent_source() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default());
    let late = SubgroupHeader { first_object: false, ..header(1) };
    let a = open(&mut track, A, header(1), now);
    append(&mut track, a, &objects(0..2, None, 100), now);
    let b = open(&mut track, B, late, now);
    append(&mut track, b, &objects(4..5, None, 100), now);
    track.evict(now + SECOND / 10);
    assert_eq!(track.next_seq(), 1);
    track.evict(now + SECOND / 5);
    assert_eq!(held(&track, 1), objects(4..5, None, 100));
    // Should it wake up, what it has of the past is of no use any more.
    append(&mut track, a, &objects(2..6, Some(1), 100), now + SECOND);
    assert_eq!(held(&track, 1), objects(4..6, None, 100));
}

#[test]
fn an_older_group_of_a_silent_source_ends_when_another_begins_a_newer_one() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default());
    let a = open(&mut track, A, header(1), now);
    append(&mut track, a, &objects(0..2, None, 100), now);
    open(&mut track, B, header(2), now + SECOND / 10);
    assert_eq!(track.subgroup(0).unwrap().end(), SubgroupEnd::Open, "not silent for long");
    open(&mut track, B, header(3), now + SECOND / 5);
    assert!(matches!(track.subgroup(0).unwrap().end(), SubgroupEnd::Reset(_)));
    assert_eq!(track.subgroup(1).unwrap().end(), SubgroupEnd::Open, "it is its own");
}

#[test]
fn a_subgroup_named_by_its_first_object_is_the_same_as_one_named_outright() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default());
    let named = SubgroupHeader { subgroup: SubgroupId::Known(5), ..header(1) };
    let first = SubgroupHeader { subgroup: SubgroupId::FirstObject, ..header(1) };
    let a = open(&mut track, A, first, now);
    let b = open(&mut track, B, named, now);
    append(&mut track, a, &objects(5..7, None, 10), now);
    append(&mut track, b, &objects(5..8, None, 10), now);
    assert_eq!(track.next_seq(), 1);
    assert_eq!(held(&track, 0), objects(5..8, None, 10));
    assert_eq!(track.subgroup(0).unwrap().header.subgroup, SubgroupId::Known(5));
}

#[test]
fn empty_subgroups_leave_nothing_behind() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default());
    for subgroup in [SubgroupId::FirstObject, SubgroupId::Known(3)] {
        let feed = open(&mut track, A, SubgroupHeader { subgroup, ..header(1) }, now);
        track.finish(feed, now).unwrap();
    }
    assert!(track.feeds.is_empty());
    assert_eq!(track.subgroup(0).unwrap().end(), SubgroupEnd::Finished);
}

#[test]
fn a_source_too_far_ahead_is_given_up() {
    let now = Instant::now();
    let limits = CacheLimits { bytes: 100_000, age: SECOND };
    let mut track = Track::new(limits);
    let late = SubgroupHeader { first_object: false, ..header(1) };
    let a = open(&mut track, A, header(1), now);
    append(&mut track, a, &objects(0..2, None, 100), now);
    let b = open(&mut track, B, late, now);
    for chunk in objects(4..600, None, 100).chunks(1000) {
        append(&mut track, b, chunk, now);
        assert!(track.pending <= limits.bytes / 4 && track.weight() <= limits.bytes);
    }
    assert!(!track.wants(b) && track.pending == 0);
    append(&mut track, a, &objects(2..4, Some(1), 100), now);
    assert_eq!(held(&track, 0), objects(0..4, None, 100));
}

#[test]
fn malformed_tracks_are_noticed_and_the_object_not_kept() {
    let now = Instant::now();
    let two = |b: SubgroupHeader| {
        let mut track = Track::new(CacheLimits::default());
        let feed = open(&mut track, A, header(1), now);
        append(&mut track, feed, &objects(0..3, None, 100), now);
        let b = track.open(B, b, now);
        (track, feed, b)
    };
    let (.., b) = two(SubgroupHeader { priority: Some(9), ..header(1) });
    malformed(b, "priority 128 and priority 9");

    let (mut track, _, b) = two(header(1));
    malformed(track.append(b.unwrap().unwrap(), objects(0..1, None, 99), now), "payload length");

    // Final objects of the subgroup differ.
    let (mut track, a, b) = two(header(1));
    append(&mut track, b.clone().unwrap().unwrap(), &objects(0..2, None, 100), now);
    malformed(track.finish(b.unwrap().unwrap(), now), "object 1 and with object 2");
    track.finish(a, now).unwrap();

    // An object follows the final one.
    let (mut track, a, b) = two(header(1));
    track.finish(a, now).unwrap();
    let b = b.unwrap().unwrap();
    malformed(track.append(b, objects(0..4, None, 100), now), "follows the end of subgroup");
    assert_eq!(track.subgroup(0).unwrap().object_count(), 3);

    // An object follows the group's final one.
    let end_of_group = SubgroupHeader { end_of_group: true, ..header(1) };
    let other = SubgroupHeader { subgroup: SubgroupId::Known(7), ..end_of_group };
    let (mut track, _, b) = two(other);
    let b = b.unwrap().unwrap();
    append(&mut track, b, &objects(7..8, None, 1), now);
    track.finish(b, now).unwrap();
    let other = SubgroupHeader { subgroup: SubgroupId::Known(8), ..header(1) };
    let c = open(&mut track, A, other, now);
    malformed(track.append(c, objects(8..9, None, 1), now), "object 1:8 follows the end");
    assert_eq!(track.objects_in(), 4);

    // The group ends before what it has; so does the track.
    for status in [3, 4] {
        let other = SubgroupHeader { subgroup: SubgroupId::Known(1), ..header(1) };
        let (mut track, _, b) = two(other);
        let end = Bytes::copy_from_slice(&[2, 0, status]);
        malformed(track.append(b.unwrap().unwrap(), end, now), "ends");
    }
}

#[test]
fn a_protocol_error_of_one_source_leaves_the_subgroup_to_others() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default());
    let a = open(&mut track, A, header(1), now);
    let b = open(&mut track, B, header(1), now);
    append(&mut track, a, &objects(0..1, None, 10), now);
    let bad = Bytes::from_static(&[0, 0, 0x3f]);
    assert!(matches!(track.append(a, bad, now), Err(TrackError::Protocol(_))));
    append(&mut track, b, &objects(0..2, None, 10), now);
    assert_eq!(held(&track, 0), objects(0..2, None, 10));
}
