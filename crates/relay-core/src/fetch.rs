//! Objects of the past, out of the cache ("Fetch Handling", "Caching Relays").
//!
//! [`Track::plan`] says which parts of a range can be served from here and which have to be asked
//! for upstream; a [`FetchCursor`] then gives the objects of a part that is held, one by one, in
//! the order of a fetch stream. It holds no object: whoever fetches slowly may find that what was
//! planned has been evicted meanwhile, and is told so.
//!
//! A location is *known* when its object is here, or when it is certain that none exists: beyond
//! the end of its group or track, in a gap that the publisher named ("Prior Object ID Gap", "Prior
//! Group ID Gap"), or after the last object of a group that came whole while a source was live.

use std::time::Instant;

use bytes::Bytes;
use moqt::{DatagramBody, GroupOrder, Location, ObjectStatus, RawProperties, property};

use crate::track::{CODING, Group, ObjectEntry};
use crate::{Subgroup, SubgroupEnd, SubgroupSeq, Track};

/// A part of a range of locations, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Every object in it is here.
    Held {
        /// Its smallest location.
        start: Location,
        /// Its largest location.
        end: Location,
    },
    /// Whether there are objects in it is not known here.
    Missing {
        /// Its smallest location.
        start: Location,
        /// Its largest location.
        end: Location,
    },
}

/// A whole object, its payload shared with the cache. What it needs to be written by
/// [`moqt::FetchWriter`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedObject {
    /// Where it is in its track.
    pub location: Location,
    /// Its subgroup; `None` for one that was published as a datagram.
    pub subgroup: Option<u64>,
    /// Publisher priority.
    pub priority: u8,
    /// The properties' bytes, without their length.
    pub properties: Bytes,
    /// The payload in chunks.
    pub payload: Vec<Bytes>,
}

impl FetchedObject {
    /// Payload length in bytes.
    pub fn payload_len(&self) -> u64 {
        self.payload.iter().map(|chunk| chunk.len() as u64).sum()
    }
}

/// What comes next of a fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchStep {
    /// An object.
    Object(FetchedObject),
    /// The next object is still arriving: ask again when the track has more.
    Wait,
    /// What is between these locations, both included, is not here (any more).
    Missing {
        /// The smallest location.
        start: Location,
        /// The largest location.
        end: Location,
    },
    /// All was given.
    Done,
}

/// A place in a range of locations that is being fetched.
#[derive(Clone, Debug)]
pub struct FetchCursor {
    start: Location,
    end: Location,
    order: GroupOrder,
    /// What comes next; `None`: nothing.
    at: Option<Location>,
}

/// What is known from one location on.
struct Span {
    /// The smallest location it is true of.
    start: Location,
    /// The largest.
    end: Location,
    what: What,
}

enum What {
    /// An object, whose location is both start and end.
    Object(Source),
    /// No objects.
    Nothing,
    /// Not known.
    Missing,
}

/// Where an object lies.
#[derive(Clone, Copy)]
enum Source {
    Subgroup(SubgroupSeq, ObjectEntry),
    Datagram(u64),
}

impl Track {
    /// Which parts of the range from `start` to `end`, both included, can be served from here, in
    /// the order in which their objects are to be sent. `end` is to be no later than
    /// [`Track::largest`].
    pub fn plan(
        &self,
        start: Location,
        end: Location,
        order: GroupOrder,
        now: Instant,
    ) -> Vec<Part> {
        let mut cursor = FetchCursor::new(start, end, order);
        let mut parts: Vec<Part> = Vec::new();
        while let Some(span) = cursor.span(self, now) {
            cursor.pass(&span);
            let (start, end) = (span.start, span.end);
            let part = match span.what {
                What::Missing => Part::Missing { start, end },
                What::Object(_) | What::Nothing => Part::Held { start, end },
            };
            parts.push(part);
            // In descending order a group is as one only when all of it is.
            while let [.., last, part] = &parts[..]
                && let Some(joined) = last.joined(part, order)
            {
                parts.truncate(parts.len() - 2);
                parts.push(joined);
            }
        }
        parts
    }

    /// What a group has at an object ID, up to `last` at most.
    fn look_into(&self, group: &Group, id: u64, at: u64, last: u64, now: Instant) -> (u64, What) {
        let next = self.next_object(group, at, now).map(|(id, source)| (id, Some(source)));
        let (next, source) = next.unwrap_or((u64::MAX, None));
        match source {
            Some(source) if next == at => return (at, What::Object(source)),
            Some(source) => {
                let gap = self.property(source, property::PRIOR_OBJECT_ID_GAP).unwrap_or(0);
                let none_from = next.saturating_sub(gap);
                return if at >= none_from {
                    ((next - 1).min(last), What::Nothing)
                } else {
                    ((none_from - 1).min(last), What::Missing)
                };
            }
            None => {}
        }
        match group.end {
            Some(end) if at >= end => (last, What::Nothing),
            Some(end) => ((end - 1).min(last), What::Missing),
            None if self.came_whole(group, id) => (last, What::Nothing),
            None => (last, What::Missing),
        }
    }

    /// Whether all of a group's objects came to us, though nobody said that it ended.
    fn came_whole(&self, group: &Group, id: u64) -> bool {
        let finished =
            |seq| self.subgroup(seq).is_some_and(|held| held.end() == SubgroupEnd::Finished);
        group.from_start
            && !group.evicted
            && group.datagrams.is_empty()
            && self.groups().newest().is_some_and(|newest| newest > id)
            && group.newest_parts().all(finished)
    }

    /// The first object of a group that is here and has this ID or a larger one.
    fn next_object(&self, group: &Group, at: u64, now: Instant) -> Option<(u64, Source)> {
        let max_age = self.max_cache_duration();
        let usable = |held: &Subgroup, object: &ObjectEntry| {
            object.status == ObjectStatus::Normal
                && object.start >= held.base()
                && !object.is_older(max_age, now)
                && (object.end <= held.len() || held.end() == SubgroupEnd::Open)
        };
        let in_subgroups = group.subgroups().filter_map(|seq| {
            let held = self.subgroup(seq)?;
            let mut objects = (held.index_from(at)..).map_while(|index| held.object(index));
            let object = objects.find(|object| usable(held, object))?;
            Some((object.id, Source::Subgroup(seq, *object)))
        });
        let datagram = group.datagrams.range(at..).find(|(_, number)| {
            self.datagram(**number).is_some_and(|held| {
                let age = now.saturating_duration_since(held.received);
                matches!(held.datagram.body, DatagramBody::Payload(_))
                    && max_age.is_none_or(|max| age <= max)
            })
        });
        in_subgroups
            .chain(datagram.map(|(id, number)| (*id, Source::Datagram(*number))))
            .min_by_key(|(id, _)| *id)
    }

    /// An integer property of an object.
    fn property(&self, source: Source, kind: u64) -> Option<u64> {
        let properties = match source {
            Source::Subgroup(seq, object) => self.subgroup(seq)?.properties(&object),
            Source::Datagram(number) => self.datagram(number)?.datagram.properties.clone(),
        };
        RawProperties::new(&properties, CODING).find_int(kind)
    }

    /// How many groups before this one do not exist, as far as an object of it says.
    fn groups_not_before(&self, group: &Group, now: Instant) -> u64 {
        let first = self.next_object(group, 0, now);
        first
            .and_then(|(_, source)| self.property(source, property::PRIOR_GROUP_ID_GAP))
            .unwrap_or(0)
    }

    fn fetched(&self, location: Location, source: Source) -> Option<FetchedObject> {
        let default = self.default_priority();
        match source {
            Source::Subgroup(seq, object) => {
                let held = self.subgroup(seq).filter(|held| object.end <= held.len())?;
                Some(FetchedObject {
                    location,
                    subgroup: Some(held.id()),
                    priority: held.header.priority.unwrap_or(default),
                    properties: held.properties(&object),
                    payload: held.slice(object.payload_start, object.end),
                })
            }
            Source::Datagram(number) => {
                let datagram = &self.datagram(number)?.datagram;
                let DatagramBody::Payload(payload) = &datagram.body else { return None };
                Some(FetchedObject {
                    location,
                    subgroup: None,
                    priority: datagram.priority.unwrap_or(default),
                    properties: datagram.properties.clone(),
                    payload: if payload.is_empty() { vec![] } else { vec![payload.clone()] },
                })
            }
        }
    }
}

impl FetchCursor {
    /// At the beginning of the range from `start` to `end`, both included.
    pub fn new(start: Location, end: Location, order: GroupOrder) -> Self {
        let first = match order {
            GroupOrder::Ascending => start,
            GroupOrder::Descending if start.group == end.group => start,
            GroupOrder::Descending => Location::start_of(end.group),
        };
        Self { start, end, order, at: (start <= end).then_some(first) }
    }

    /// What comes next. A step other than [`FetchStep::Wait`] is given once.
    pub fn poll(&mut self, track: &Track, now: Instant) -> FetchStep {
        loop {
            let Some(span) = self.span(track, now) else { return FetchStep::Done };
            let step = match span.what {
                What::Nothing => None,
                What::Missing => Some(FetchStep::Missing { start: span.start, end: span.end }),
                What::Object(source) => match track.fetched(span.start, source) {
                    Some(object) => Some(FetchStep::Object(object)),
                    None => return FetchStep::Wait,
                },
            };
            self.pass(&span);
            if let Some(step) = step {
                return step;
            }
        }
    }

    /// What is known of where the cursor is.
    fn span(&self, track: &Track, now: Instant) -> Option<Span> {
        let at = self.at?;
        let groups = track.groups();
        if let Some(group) = groups.get(at.group) {
            let last = self.last_of(at.group);
            let (end, what) = track.look_into(group, at.group, at.object, last, now);
            return Some(Span { start: at, end: Location { object: end, ..at }, what });
        }
        // Nothing is here of this group, nor of some beside it.
        let next = at.group.checked_add(1).and_then(|from| groups.range(from, u64::MAX).next());
        let gap = next.map(|(id, group)| id.saturating_sub(track.groups_not_before(group, now)));
        let past = groups.track_end().map(|end| match end.object {
            0 => end.group,
            _ => end.group.saturating_add(1),
        });
        // The first group of those that do not exist, up to this one; or else up to the next held.
        let none = past.into_iter().chain(gap).filter(|first| *first <= at.group).max();
        let what = if none.is_some() { What::Nothing } else { What::Missing };
        let (first, last) = match self.order {
            GroupOrder::Ascending => {
                let beyond = next.map(|(id, _)| id).into_iter();
                let beyond = match none {
                    Some(_) => beyond.min(),
                    None => beyond.chain(past).chain(gap).min(),
                };
                (at.group, beyond.map_or(self.end.group, |id| (id - 1).min(self.end.group)))
            }
            GroupOrder::Descending => {
                let below = at.group.checked_sub(1).and_then(|last| {
                    groups.range(self.start.group, last).next_back().map(|(id, _)| id + 1)
                });
                let first = below.unwrap_or(self.start.group);
                (none.map_or(first, |none| none.max(first)), at.group)
            }
        };
        let start = Location { group: first, object: self.first_of(first) };
        let start = if first == at.group { at } else { start };
        Some(Span { start, end: Location { group: last, object: self.last_of(last) }, what })
    }

    /// Goes on after a span.
    fn pass(&mut self, span: &Span) {
        self.at = if span.end.object < self.last_of(span.end.group) {
            Some(Location { object: span.end.object + 1, ..span.end })
        } else {
            let next = match self.order {
                GroupOrder::Ascending => {
                    span.end.group.checked_add(1).filter(|next| *next <= self.end.group)
                }
                GroupOrder::Descending => {
                    span.start.group.checked_sub(1).filter(|next| *next >= self.start.group)
                }
            };
            next.map(|group| Location { group, object: self.first_of(group) })
        };
    }

    /// The first object ID wanted of a group.
    fn first_of(&self, group: u64) -> u64 {
        if group == self.start.group { self.start.object } else { 0 }
    }

    /// The last object ID wanted of a group.
    fn last_of(&self, group: u64) -> u64 {
        if group == self.end.group { self.end.object } else { u64::MAX }
    }
}

impl Part {
    /// Both parts as one, if they are of a kind and the other is sent right after this one.
    fn joined(&self, next: &Self, order: GroupOrder) -> Option<Self> {
        let join = |a: (Location, Location), b: (Location, Location)| {
            let after = |location: Location| match location.object.checked_add(1) {
                Some(object) => Some(Location { object, ..location }),
                None => location.group.checked_add(1).map(Location::start_of),
            };
            let in_group = a.0.group == a.1.group && a.1.group == b.0.group;
            if (order == GroupOrder::Ascending || in_group) && after(a.1) == Some(b.0) {
                return Some((a.0, b.1));
            }
            (order == GroupOrder::Descending && a.0.object == 0 && after(b.1) == Some(a.0))
                .then_some((b.0, a.1))
        };
        match (*self, *next) {
            (Part::Held { start, end }, Part::Held { start: next, end: last }) => {
                let (start, end) = join((start, end), (next, last))?;
                Some(Part::Held { start, end })
            }
            (Part::Missing { start, end }, Part::Missing { start: next, end: last }) => {
                let (start, end) = join((start, end), (next, last))?;
                Some(Part::Missing { start, end })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
