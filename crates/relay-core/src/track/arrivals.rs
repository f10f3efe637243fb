//! When objects were here whole, of some of them, and what the newest groups brought: for people who
//! look. It is written down as objects come, since what is held may go before anyone looks.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use moqt::{Datagram, DatagramBody, Location, ObjectStatus, RawProperties, property};

use super::{CODING, Subgroup, Track};

/// Of so many objects one is looked at for its capture time.
const CAPTURE_EVERY: Duration = Duration::from_millis(100);
/// A minute of them.
const MAX_CAPTURES: usize = 600;
/// Object IDs that are multiples of this are milestones: on every node the same, so that two can
/// compare when they had them, and the first of every group among them.
const MILESTONE_EVERY: u64 = 16;
/// Milestones that are remembered.
const MAX_MILESTONES: usize = 256;
/// Groups that are remembered.
const MAX_GROUPS: usize = 8;

/// An object that told when it was captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Captured {
    /// Microseconds since the Unix epoch, by whatever clock its publisher has.
    pub capture_us: u64,
    /// When the last byte of it came.
    pub arrived: Instant,
}

/// An object whose arrival is noted on every node that it passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Milestone {
    /// Which one.
    pub at: Location,
    /// When the last byte of it came.
    pub arrived: Instant,
}

/// What came of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupArrived {
    /// Its ID.
    pub group: u64,
    /// Objects, each once.
    pub objects: u64,
    /// Object bytes.
    pub bytes: u64,
}

#[derive(Debug, Default)]
pub(super) struct Arrivals {
    /// Objects after this one come as they are published, not out of somebody's cache.
    live_after: Option<Option<Location>>,
    captures: VecDeque<Captured>,
    /// When an object was looked at for its capture time.
    looked: Option<Instant>,
    milestones: VecDeque<Milestone>,
    /// In the order of their first objects.
    groups: VecDeque<GroupArrived>,
}

impl Arrivals {
    /// A source sends what it publishes after `newest` from now on.
    pub(super) fn set_live(&mut self, newest: Option<Location>) {
        self.live_after = Some(newest);
    }

    /// The next source may be elsewhere and have another clock.
    pub(super) fn set_offline(&mut self) {
        let groups = std::mem::take(&mut self.groups);
        *self = Self { groups, ..Self::default() };
    }

    fn is_live(&self, at: Location) -> bool {
        self.live_after.is_some_and(|newest| Some(at) > newest)
    }

    /// Something came of a subgroup that had `before` bytes: this many more objects began.
    /// `timescale`: timestamps are none of a wall clock.
    pub(super) fn handle_subgroup(
        &mut self,
        held: &Subgroup,
        before: u64,
        began: u64,
        timescale: bool,
        now: Instant,
    ) {
        let group = held.header.group;
        self.count(group, began, held.len() - before);
        let whole = held.objects().rev().skip_while(|object| object.end > held.len());
        for object in whole.take_while(|object| object.end > before) {
            let at = Location { group, object: object.id };
            if object.status == ObjectStatus::Normal && self.is_live(at) {
                self.pass(at, now);
                if !timescale && self.looks(now) {
                    let capture_us = capture(&held.properties(object));
                    self.capture(capture_us, now);
                }
            }
        }
    }

    /// A datagram came.
    pub(super) fn handle_datagram(&mut self, datagram: &Datagram, timescale: bool, now: Instant) {
        let DatagramBody::Payload(payload) = &datagram.body else { return };
        self.count(datagram.group, 1, payload.len() as u64);
        let at = Location { group: datagram.group, object: datagram.object };
        if self.is_live(at) {
            self.pass(at, now);
            if !timescale && self.looks(now) {
                self.capture(capture(&datagram.properties), now);
            }
        }
    }

    fn count(&mut self, group: u64, objects: u64, bytes: u64) {
        if objects == 0 && bytes == 0 {
            return;
        }
        let held = match self.groups.iter().rposition(|held| held.group == group) {
            Some(at) => &mut self.groups[at],
            None => {
                if self.groups.len() == MAX_GROUPS {
                    self.groups.pop_front();
                }
                self.groups.push_back(GroupArrived { group, ..GroupArrived::default() });
                let last = self.groups.len() - 1;
                &mut self.groups[last]
            }
        };
        held.objects += objects;
        held.bytes += bytes;
    }

    fn pass(&mut self, at: Location, arrived: Instant) {
        if at.object.is_multiple_of(MILESTONE_EVERY) {
            if self.milestones.len() == MAX_MILESTONES {
                self.milestones.pop_front();
            }
            self.milestones.push_back(Milestone { at, arrived });
        }
    }

    /// Whether it is time to look at an object's properties.
    fn looks(&mut self, now: Instant) -> bool {
        let due = |looked| now.saturating_duration_since(looked) >= CAPTURE_EVERY;
        let looks = self.looked.is_none_or(due);
        if looks {
            self.looked = Some(now);
        }
        looks
    }

    fn capture(&mut self, capture_us: Option<u64>, arrived: Instant) {
        let Some(capture_us) = capture_us else { return };
        if self.captures.len() == MAX_CAPTURES {
            self.captures.pop_front();
        }
        self.captures.push_back(Captured { capture_us, arrived });
    }
}

/// The wall-clock time that an object's properties tell ("Timestamp" in LOC).
fn capture(properties: &[u8]) -> Option<u64> {
    let int = |kind| RawProperties::new(properties, CODING).find_int(kind);
    match int(property::LOC_TIMESCALE) {
        Some(_) => None,
        None => int(property::LOC_TIMESTAMP).or_else(|| int(property::LOC_OLD_TIMESTAMP)),
    }
}

impl Track {
    /// Objects of the last minute or so that told when they were captured, the oldest first: at
    /// most ten a second, none that came out of another relay's cache.
    pub fn captured(&self) -> impl DoubleEndedIterator<Item = &Captured> {
        self.arrivals.captures.iter()
    }

    /// The newest objects whose arrival every node notes, in order of arrival.
    pub fn milestones(&self) -> impl DoubleEndedIterator<Item = &Milestone> {
        self.arrivals.milestones.iter()
    }

    /// What came of the groups that began last, a few of them, in order of their beginnings.
    pub fn newest_groups(&self) -> impl Iterator<Item = &GroupArrived> {
        self.arrivals.groups.iter()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "a test has to begin at some instant")]

    use bytes::{Bytes, BytesMut};
    use moqt::{ObjectHeader, Properties, SubgroupHeader, SubgroupId};

    use super::*;
    use crate::{CacheLimits, SessionId};

    const A: SessionId = SessionId(1);

    fn header(group: u64) -> SubgroupHeader {
        SubgroupHeader {
            track_alias: 0,
            group,
            subgroup: SubgroupId::Known(0),
            priority: None,
            properties: true,
            end_of_group: false,
            first_object: true,
        }
    }

    fn object(id: u64, properties: &[(u64, u64)]) -> Bytes {
        let mut list = Properties::new();
        for (kind, value) in properties {
            list.push_int(*kind, *value);
        }
        let list = list.to_bytes(CODING);
        let mut buf = BytesMut::new();
        ObjectHeader {
            id,
            previous: id.checked_sub(1),
            properties: Some(&list),
            payload: 100,
            status: ObjectStatus::Normal,
        }
        .encode(&mut buf, CODING);
        buf.resize(buf.len() + 100, 7);
        buf.freeze()
    }

    fn captures(track: &Track) -> Vec<u64> {
        track.captured().map(|captured| captured.capture_us).collect()
    }

    #[test]
    fn an_object_counts_from_its_last_byte_on_and_ten_a_second_are_looked_at() {
        let start = Instant::now();
        let mut track = Track::new(CacheLimits::default());
        track.handle_live(None);
        let feed = track.open(A, header(0), start).unwrap().unwrap();
        let mut now = start;
        for id in 0..40 {
            let mut bytes = object(id, &[(property::LOC_TIMESTAMP, 1000 + id)]);
            let head = bytes.split_to(bytes.len() - 1);
            track.append(feed, head, now).unwrap();
            assert!(!captures(&track).contains(&(1000 + id)), "it is not whole");
            now += Duration::from_millis(25);
            track.append(feed, bytes, now).unwrap();
        }
        assert_eq!(captures(&track), (0..10).map(|n| 1000 + 4 * n).collect::<Vec<_>>());
        assert_eq!(track.captured().next().unwrap().arrived, start + Duration::from_millis(25));
        let milestones: Vec<_> = track.milestones().map(|passed| passed.at.object).collect();
        assert_eq!(milestones, [0, 16, 32]);
        let group = *track.newest_groups().next().unwrap();
        assert_eq!((group.objects, group.bytes), (40, track.bytes_in()));
    }

    #[test]
    fn what_comes_out_of_a_cache_is_not_measured() {
        let now = Instant::now();
        let mut track = Track::new(CacheLimits::default());
        track.handle_live(Some(Location { group: 3, object: 20 }));
        let feed = track.open(A, header(3), now).unwrap().unwrap();
        for id in 0..=32 {
            let at = now + Duration::from_secs(id);
            track.append(feed, object(id, &[(property::LOC_TIMESTAMP, id)]), at).unwrap();
        }
        assert_eq!(captures(&track), (21..=32).collect::<Vec<_>>());
        assert_eq!(track.milestones().map(|m| m.at.object).collect::<Vec<_>>(), [32]);
        track.handle_offline();
        assert_eq!(captures(&track), [0; 0]);
    }

    #[test]
    fn media_time_is_no_capture_time() {
        let now = Instant::now();
        let mut track = Track::new(CacheLimits::default());
        track.handle_live(None);
        let scaled = [(property::LOC_TIMESCALE, 90_000), (property::LOC_TIMESTAMP, 5)];
        let feed = track.open(A, header(0), now).unwrap().unwrap();
        track.append(feed, object(0, &scaled), now).unwrap();
        track.append(feed, object(1, &[]), now + Duration::from_secs(1)).unwrap();
        assert_eq!(captures(&track), [0; 0]);
        let mut of_track = Properties::new();
        of_track.push_int(property::LOC_TIMESCALE, 1_000);
        track.set_properties(of_track);
        let stamped = object(2, &[(property::LOC_TIMESTAMP, 5)]);
        track.append(feed, stamped, now + Duration::from_secs(2)).unwrap();
        assert_eq!(captures(&track), [0; 0]);
    }

    #[test]
    fn little_is_remembered_of_much() {
        let mut now = Instant::now();
        let mut track = Track::new(CacheLimits::default());
        track.handle_live(None);
        for group in 0..2000 {
            now += Duration::from_secs(1);
            let feed = track.open(A, header(group), now).unwrap().unwrap();
            track.append(feed, object(0, &[(property::LOC_TIMESTAMP, group)]), now).unwrap();
            track.finish(feed, now).unwrap();
        }
        assert_eq!(track.captured().count(), MAX_CAPTURES);
        assert_eq!(track.milestones().count(), MAX_MILESTONES);
        let groups: Vec<_> = track.newest_groups().map(|group| group.group).collect();
        assert_eq!(groups, (1992..2000).collect::<Vec<_>>());
    }
}
