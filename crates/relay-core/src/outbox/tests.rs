#![expect(clippy::disallowed_methods, reason = "a test has to begin at some instant")]

use std::collections::HashMap;

use bytes::BytesMut;
use moqt::{ObjectHeader, ObjectStatus, SubgroupHeader, SubgroupId};
use proptest::prelude::*;

use super::*;
use crate::{CacheLimits, SessionId};

const TRACK: TrackId = TrackId(1);
const A: SessionId = SessionId(1);

fn header(group: u64) -> SubgroupHeader {
    SubgroupHeader {
        track_alias: 99,
        group,
        subgroup: SubgroupId::Known(0),
        priority: None,
        properties: false,
        end_of_group: false,
        first_object: true,
    }
}

fn object(id: u64, size: usize) -> Bytes {
    let mut buf = BytesMut::new();
    let previous = id.checked_sub(1);
    let (payload, status) = (size as u64, ObjectStatus::Normal);
    ObjectHeader { id, previous, properties: None, payload, status }.encode(&mut buf, CODING);
    buf.resize(buf.len() + size, 7);
    buf.freeze()
}

fn subscription() -> Subscription {
    Subscription {
        alias: 3,
        start: None,
        end: None,
        priority: 128,
        order: GroupOrder::Descending,
        forward: true,
        timeouts: DeliveryTimeouts::default(),
    }
}

/// A viewer whose link takes a given number of bytes.
struct Viewer {
    outbox: Outbox,
    streams: HashMap<StreamKey, Vec<u8>>,
    priorities: HashMap<StreamKey, i32>,
    datagrams: Vec<Bytes>,
    finished: Vec<StreamKey>,
    reset: Vec<(StreamKey, ResetCode)>,
    done: Vec<(RequestId, PublishDoneCode, u64)>,
}

impl Viewer {
    fn new(track: &Track, wanted: Subscription) -> Self {
        let mut outbox = Outbox::new(Policy::default());
        outbox.subscribe(0, TRACK, track, wanted);
        Self {
            outbox,
            streams: HashMap::new(),
            priorities: HashMap::new(),
            datagrams: vec![],
            finished: vec![],
            reset: vec![],
            done: vec![],
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Open { stream, priority, .. } => {
                self.streams.insert(stream, Vec::new());
                self.priorities.insert(stream, priority);
            }
            Action::Priority { stream, priority } => {
                self.priorities.insert(stream, priority).expect("opened first");
            }
            Action::Finish(stream) => self.finished.push(stream),
            Action::Reset(stream, code) => self.reset.push((stream, code)),
            Action::Datagram(datagram) => {
                self.outbox.handle_datagram(&datagram, true);
                self.datagrams.push(datagram.bytes);
            }
            Action::Done { request, code, streams } => self.done.push((request, code, streams)),
            Action::Write { .. } => panic!("only poll writes"),
        }
    }

    fn run(&mut self, track: &Track, mut room: usize, now: Instant) {
        for action in self.outbox.unblock(now) {
            self.act(action);
        }
        let mut looks = true;
        loop {
            if looks {
                for action in self.outbox.look(TRACK, track, now) {
                    self.act(action);
                }
            }
            let Some(Action::Write { stream, chunks }) = self.outbox.poll(TRACK, track) else {
                break;
            };
            let bytes = chunks.concat();
            let taken = bytes.len().min(room);
            self.streams.get_mut(&stream).expect("opened first").extend_from_slice(&bytes[..taken]);
            room -= taken;
            looks = self.outbox.handle_written(stream, taken, track, now);
        }
    }
}

#[test]
fn a_viewer_gets_the_newest_group_from_its_start_and_then_what_comes() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default());
    let old = track.open(A, header(1), now).unwrap().unwrap();
    track.append(old, object(0, 10), now).unwrap();
    track.finish(old, now).unwrap();
    let new = track.open(A, header(2), now).unwrap().unwrap();
    track.append(new, object(0, 10), now).unwrap();
    let mut viewer = Viewer::new(&track, subscription());
    viewer.run(&track, usize::MAX, now);
    track.append(new, object(1, 5), now).unwrap();
    viewer.run(&track, usize::MAX, now);
    track.finish(new, now).unwrap();
    viewer.run(&track, usize::MAX, now);

    let mut expected = BytesMut::new();
    SubgroupHeader { track_alias: 3, ..header(2) }.encode(&mut expected, CODING);
    expected.extend_from_slice(&object(0, 10));
    expected.extend_from_slice(&object(1, 5));
    assert_eq!(viewer.streams.into_values().collect::<Vec<_>>(), [expected]);
    assert_eq!((viewer.finished.len(), viewer.reset.len()), (1, 0));
    assert_eq!(viewer.outbox.books().objects_out, 2);
}

#[test]
fn a_filter_inside_a_group_starts_with_an_absolute_object_id() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default());
    let seq = track.open(A, header(1), now).unwrap().unwrap();
    track.append(seq, object(0, 10), now).unwrap();
    let start = Some(Location { group: 1, object: 1 });
    let mut viewer = Viewer::new(&track, Subscription { start, ..subscription() });
    viewer.run(&track, usize::MAX, now);
    assert!(viewer.streams.is_empty(), "nothing passes the filter yet");
    track.append(seq, object(1, 5), now).unwrap();
    track.append(seq, object(2, 5), now).unwrap();
    viewer.run(&track, usize::MAX, now);
    let mut expected = BytesMut::new();
    SubgroupHeader { track_alias: 3, first_object: false, ..header(1) }
        .encode(&mut expected, CODING);
    expected.extend_from_slice(&[1]);
    expected.extend_from_slice(&object(1, 5)[1..]);
    expected.extend_from_slice(&object(2, 5));
    assert_eq!(viewer.streams.into_values().collect::<Vec<_>>(), [expected]);
}

#[test]
fn what_waits_too_long_is_cut_and_counted_to_the_object() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default());
    let mut viewer = Viewer::new(&track, subscription());
    let seq = track.open(A, header(1), now).unwrap().unwrap();
    for id in 0..10 {
        track.append(seq, object(id, 100), now).unwrap();
    }
    viewer.run(&track, 250, now);
    let later = now + Duration::from_secs(3);
    viewer.run(&track, usize::MAX, later);
    assert_eq!(viewer.reset, [(0, ResetCode::DELIVERY_TIMEOUT)]);
    // What comes of the group later is counted too.
    track.append(seq, object(10, 100), later).unwrap();
    track.finish(seq, now).unwrap();
    viewer.run(&track, usize::MAX, later);
    let books = viewer.outbox.books();
    let dropped = books.drops[DropReason::DeliveryTimeout];
    assert_eq!((books.objects_out, dropped.objects, dropped.groups), (2, 9, 1));
    assert_eq!(books.bytes_out + dropped.bytes, track.bytes_in());
}

#[test]
fn the_newest_group_goes_first() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default());
    let mut viewer = Viewer::new(&track, subscription());
    for group in 1..3 {
        let seq = track.open(A, header(group), now).unwrap().unwrap();
        track.append(seq, object(0, 1000), now).unwrap();
    }
    viewer.run(&track, 500, now);
    assert_eq!(viewer.streams[&1].len(), 500);
    assert_eq!(viewer.streams[&0].len(), 0);
}

#[test]
fn a_subscription_ends_after_its_last_byte_with_the_number_of_streams() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default());
    let mut viewer = Viewer::new(&track, subscription());
    let seq = track.open(A, header(1), now).unwrap().unwrap();
    track.append(seq, object(0, 1000), now).unwrap();
    track.finish(seq, now).unwrap();
    viewer.outbox.end_track(0, PublishDoneCode::TRACK_ENDED);
    viewer.run(&track, 500, now);
    assert!(viewer.done.is_empty());
    viewer.run(&track, usize::MAX, now);
    assert_eq!(viewer.done, [(0, PublishDoneCode::TRACK_ENDED, 1)]);
}

#[test]
fn a_long_group_that_is_sent_slowly_asks_for_no_timeout_in_the_past() {
    let mut now = Instant::now();
    let mut track = Track::new(CacheLimits::default());
    let mut viewer = Viewer::new(&track, subscription());
    let seq = track.open(A, header(1), now).unwrap().unwrap();
    for id in 0..100 {
        now += Duration::from_millis(100);
        track.append(seq, object(id, 1000), now).unwrap();
        viewer.run(&track, 1000, now);
        assert!(viewer.outbox.poll_timeout().is_none_or(|at| at > now), "it would spin");
    }
    assert_eq!(viewer.reset, []);
}

#[test]
fn what_another_subgroup_outranks_is_cut_sooner() {
    let (now, ms) = (Instant::now(), Duration::from_millis(1));
    let mut track = Track::new(CacheLimits::default());
    let mut viewer = Viewer::new(&track, subscription());
    let upper = SubgroupHeader {
        subgroup: SubgroupId::Known(1),
        priority: Some(200),
        first_object: false,
        ..header(1)
    };
    let (base, upper) = (track.open(A, header(1), now), track.open(A, upper, now));
    let (base, upper) = (base.unwrap().unwrap(), upper.unwrap().unwrap());
    track.append(base, object(0, 1000), now).unwrap();
    track.append(upper, object(1, 1000), now).unwrap();
    // Nothing is taken: that of the upper one waits for half of the two seconds.
    viewer.run(&track, 0, now);
    assert_eq!(viewer.outbox.poll_timeout(), Some(now + 1000 * ms));
    viewer.run(&track, 0, now + 999 * ms);
    assert_eq!(viewer.reset, []);
    viewer.run(&track, 0, now + 1000 * ms);
    assert_eq!(viewer.reset, [(1, ResetCode::DELIVERY_TIMEOUT)]);
    viewer.run(&track, 0, now + 1999 * ms);
    assert_eq!(viewer.reset.len(), 1);
    viewer.run(&track, 0, now + 2000 * ms);
    assert_eq!(viewer.reset.len(), 2);
}

#[test]
fn who_has_all_that_came_is_not_late_when_the_publisher_is() {
    let (now, s) = (Instant::now(), Duration::from_secs(1));
    let mut track = Track::new(CacheLimits::default());
    let mut viewer = Viewer::new(&track, subscription());
    let feed = track.open(A, header(1), now).unwrap().unwrap();
    let object = object(0, 1000);
    track.append(feed, object.slice(..500), now).unwrap();
    viewer.run(&track, usize::MAX, now);
    track.append(feed, object.slice(500..), now + 3 * s).unwrap();
    viewer.run(&track, 0, now + 3 * s);
    assert_eq!(viewer.outbox.backlog(|_| Some(&track), now + 4 * s).age, s, "since the rest came");
    viewer.run(&track, usize::MAX, now + 4 * s);
    assert_eq!((viewer.reset.len(), viewer.outbox.books().objects_out), (0, 1));
}

#[test]
fn one_who_joins_a_long_group_is_cut_only_when_nothing_gets_through() {
    let (mut now, s) = (Instant::now(), Duration::from_secs(1));
    let mut track = Track::new(CacheLimits::default());
    let feed = track.open(A, header(1), now).unwrap().unwrap();
    for id in 0..100 {
        track.append(feed, object(id, 1000), now).unwrap();
    }
    let mut viewer = Viewer::new(&track, subscription());
    // Ten objects a second, while one a second comes: it takes eleven seconds to catch up.
    for id in 100..115 {
        viewer.run(&track, 10_100, now);
        now += s;
        track.append(feed, object(id, 1000), now).unwrap();
    }
    viewer.run(&track, usize::MAX, now);
    assert_eq!((viewer.reset.len(), viewer.outbox.books().objects_out), (0, 115));
    // From then on it may be as late as any other.
    track.append(feed, object(115, 1000), now).unwrap();
    viewer.run(&track, 10, now);
    viewer.run(&track, 10, now + s);
    viewer.run(&track, 10, now + 2 * s);
    assert_eq!(viewer.reset, [(0, ResetCode::DELIVERY_TIMEOUT)]);
}

#[test]
fn one_who_joined_a_group_late_leaves_it_once_there_is_another() {
    let (now, s) = (Instant::now(), Duration::from_secs(1));
    let mut track = Track::new(CacheLimits::default());
    let feed = track.open(A, header(1), now).unwrap().unwrap();
    track.append(feed, object(0, 100_000), now).unwrap();
    let mut viewer = Viewer::new(&track, subscription());
    for tenths in 0..25 {
        viewer.run(&track, 100, now + s * tenths / 10);
    }
    assert_eq!(viewer.reset, []);
    track.open(A, header(2), now + 3 * s).unwrap().unwrap();
    viewer.run(&track, 0, now + 3 * s);
    viewer.run(&track, 0, now + 5 * s);
    assert_eq!(viewer.reset, [(0, ResetCode::DELIVERY_TIMEOUT)]);
}

#[test]
fn who_takes_nothing_of_what_waits_is_stuck() {
    let (now, s) = (Instant::now(), Duration::from_secs(1));
    let mut track = Track::new(CacheLimits::default());
    let mut viewer = Viewer::new(&track, subscription());
    let at = |seconds: u64| now + s * seconds as u32;
    for second in 0..=20 {
        // A group each second: the older ones are cut meanwhile.
        let feed = track.open(A, header(second), at(second)).unwrap().unwrap();
        track.append(feed, object(0, 1000), at(second)).unwrap();
        viewer.run(&track, 0, at(second));
        assert!(!viewer.outbox.is_stuck(at(second)), "{second} s");
    }
    assert!(viewer.outbox.is_stuck(at(21)));
    viewer.run(&track, 10, at(21));
    assert!(!viewer.outbox.is_stuck(at(21)), "it takes something");
    // For a while there was nothing to take.
    viewer.run(&track, usize::MAX, at(22));
    let feed = track.open(A, header(99), at(60)).unwrap().unwrap();
    track.append(feed, object(0, 1000), at(60)).unwrap();
    viewer.run(&track, 0, at(60));
    assert!(!viewer.outbox.is_stuck(at(70)));
}

#[test]
fn what_was_never_offered_is_never_dropped() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default());
    let feed = track.open(A, header(1), now).unwrap().unwrap();
    for id in 0..10 {
        track.append(feed, object(id, 100), now).unwrap();
    }
    let start = Some(Location { group: 1, object: 10 });
    let mut viewer = Viewer::new(&track, Subscription { start, ..subscription() });
    viewer.run(&track, usize::MAX, now);
    let later = now + Duration::from_secs(30);
    assert_eq!(viewer.outbox.backlog(|_| Some(&track), later), Backlog::default());
    viewer.outbox.unsubscribe(0, Some(&track));
    assert_eq!(viewer.outbox.books().drops.total(), DropCounts::default());
}

#[test]
fn what_is_evicted_after_a_look_is_not_read() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits { bytes: 3000, ..CacheLimits::default() });
    let mut viewer = Viewer::new(&track, subscription());
    let feed = track.open(A, header(1), now).unwrap().unwrap();
    track.append(feed, object(0, 1000), now).unwrap();
    viewer.run(&track, 500, now);
    let sent = viewer.streams[&0].clone();
    for action in viewer.outbox.unblock(now) {
        viewer.act(action);
    }
    for action in viewer.outbox.look(TRACK, &track, now) {
        viewer.act(action);
    }
    // Another thread takes in more, and the cache loses the place.
    for id in 1..20 {
        track.append(feed, object(id, 1000), now).unwrap();
    }
    assert_eq!(viewer.outbox.poll(TRACK, &track), None);
    viewer.run(&track, usize::MAX, now);
    assert_eq!(
        (&viewer.streams[&0], &viewer.reset[..]),
        (&sent, &[(0, ResetCode::TOO_FAR_BEHIND)][..])
    );
}

#[test]
fn equal_tracks_take_turns() {
    let now = Instant::now();
    let ids = [TrackId(1), TrackId(2), TrackId(3)];
    let mut tracks: Vec<_> = ids.iter().map(|_| Track::new(CacheLimits::default())).collect();
    let mut outbox = Outbox::new(Policy::default());
    for (request, (id, track)) in ids.iter().zip(&mut tracks).enumerate() {
        let feed = track.open(A, header(1), now).unwrap().unwrap();
        track.append(feed, object(0, 10_000), now).unwrap();
        outbox.subscribe(request as u64, *id, track, subscription());
        outbox.look(*id, track, now);
    }
    let mut served = Vec::new();
    for _ in 0..9 {
        let urgency = |at: &usize| outbox.urgency(ids[*at], &tracks[*at]).unwrap();
        let most = (0..3).max_by_key(urgency).unwrap();
        let Some(Action::Write { stream, .. }) = outbox.poll(ids[most], &tracks[most]) else {
            panic!("all of them wait");
        };
        outbox.handle_written(stream, 100, &tracks[most], now);
        served.push(most);
    }
    assert_eq!(served[..3], served[3..6]);
    assert_eq!(served[..3], served[6..]);
    let all: std::collections::BTreeSet<_> = served[..3].iter().collect();
    assert_eq!(all.len(), 3, "{served:?}");
}

#[test]
fn a_datagram_that_did_not_go_is_dropped() {
    let now = Instant::now();
    let mut track = Track::new(CacheLimits::default());
    let mut viewer = Viewer::new(&track, subscription());
    let body = moqt::DatagramBody::Payload(Bytes::from_static(b"four"));
    let datagram = Datagram {
        track_alias: 1,
        group: 0,
        object: 0,
        priority: None,
        properties: Bytes::new(),
        end_of_group: false,
        body,
    };
    track.push_datagram(A, datagram, now).unwrap();
    let actions = viewer.outbox.look(TRACK, &track, now);
    let [Action::Datagram(datagram)] = &actions[..] else { panic!("{actions:?}") };
    viewer.outbox.handle_datagram(datagram, false);
    let books = viewer.outbox.books();
    let counts = DropCounts { groups: 0, objects: 1, bytes: track.bytes_in() };
    assert_eq!((books.objects_out, books.drops.total()), (0, counts));
}

/// Adds what is in the books of [`TRACK`] since the last time.
fn take_books(viewer: &mut Viewer, track: &Track, sum: &mut TrackBooks) {
    for (id, books) in viewer.outbox.take_track_books(|_| Some(track)) {
        assert_eq!(id, TRACK);
        sum.bytes_out += books.bytes_out;
        sum.drops += books.drops;
        for group in books.groups {
            let held = match sum.groups.iter_mut().find(|held| held.group == group.group) {
                Some(held) => held,
                None => {
                    sum.groups.push(GroupBooks { group: group.group, ..GroupBooks::default() });
                    sum.groups.last_mut().expect("just pushed")
                }
            };
            held.offered += group.offered;
            held.sent += group.sent;
        }
    }
}

proptest! {
    /// Whatever the link takes and whenever: delivered + dropped + queued = offered.
    #[test]
    fn the_books_balance(
        steps in prop::collection::vec((0u8..8, 1usize..3000, 0usize..4000, 0u64..900), 1..80),
    ) {
        let mut now = Instant::now();
        let mut track = Track::new(CacheLimits { bytes: 20_000, age: Duration::from_secs(3) });
        let mut viewer = Viewer::new(&track, subscription());
        let (mut group, mut seq, mut next) = (0, None, 0);
        let mut by_track = TrackBooks::default();
        let mut came: HashMap<u64, u64> = HashMap::new();
        for (kind, size, room, wait) in steps {
            now += Duration::from_millis(wait);
            if kind == 0 || seq.is_none() {
                if let Some(old) = seq { track.finish(old, now).unwrap(); }
                // The end of a group is taken note of before the cache may forget it.
                viewer.run(&track, 0, now);
                group += 1;
                next = 0;
                seq = track.open(A, header(group), now).unwrap();
            }
            track.append(seq.unwrap(), object(next, size), now).unwrap();
            next += 1;
            *came.entry(group).or_default() += 1;
            viewer.run(&track, room, now);
            // Not every time, so that what happens between is put together.
            if size % 3 == 0 {
                take_books(&mut viewer, &track, &mut by_track);
                prop_assert_eq!(by_track.bytes_out, viewer.outbox.books().bytes_out);
                prop_assert_eq!(by_track.drops, viewer.outbox.books().drops);
                let sent: u64 = by_track.groups.iter().map(|group| group.sent).sum();
                prop_assert_eq!(sent, viewer.outbox.books().objects_out);
                let offered = by_track.groups.iter().map(|books| (books.group, books.offered as u64));
                prop_assert_eq!(offered.collect::<HashMap<_, _>>(), came.clone());
            }
            let books = viewer.outbox.books();
            let total = books.drops.total();
            let queued = viewer.outbox.backlog(|_| Some(&track), now).bytes;
            prop_assert_eq!(books.bytes_out + total.bytes + queued, track.bytes_in());
        }
    }
}

#[path = "tests/timeouts.rs"]
mod timeouts;
#[path = "tests/updates.rs"]
mod updates;
