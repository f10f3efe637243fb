//! One track's objects as they arrive ("Caching Relays", "Multiple Publishers").

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use moqt::{
    Datagram, DatagramBody, IntCoding, Location, ObjectStatus, Properties, ProtocolError,
    ResetCode, SubgroupHeader, SubgroupId, property,
};

use crate::SessionId;

mod arrivals;
mod feed;
mod groups;
mod merge;
mod splice;
mod subgroup;
mod timing;

use arrivals::Arrivals;
pub use arrivals::{Captured, GroupArrived, Milestone};
use feed::Feed;
pub use feed::FeedId;
pub(crate) use groups::{Group, Groups};
use subgroup::OBJECT_COST;
pub(crate) use subgroup::ObjectEntry;
pub use subgroup::{Subgroup, SubgroupEnd};
pub use timing::{Spread, Timing};

/// How much of a track is kept.
#[derive(Clone, Copy, Debug)]
pub struct CacheLimits {
    /// Most bytes, with what objects cost besides. A group that never ends is trimmed from its
    /// start.
    pub bytes: u64,
    /// Oldest a subgroup may be, unless it is of the newest group. The track's
    /// MAX_CACHE_DURATION, if smaller, wins.
    pub age: Duration,
}

impl Default for CacheLimits {
    fn default() -> Self {
        Self { bytes: 32 * 1024 * 1024, age: Duration::from_secs(10) }
    }
}

/// A subgroup's number in order of arrival at this relay.
pub type SubgroupSeq = u64;

/// How integers are written in all that a track holds, whatever draft a peer speaks.
pub(crate) const CODING: IntCoding = IntCoding::LeadingOnes;

/// Evicted subgroups that are remembered.
const MAX_GONE: usize = 1024;
/// How long a source may bring a subgroup again after it was evicted, and not have it taken for a
/// new one.
const GONE: Duration = Duration::from_secs(60);
/// Subgroups held, however small they are.
const MAX_SUBGROUPS: usize = 4096;
/// Datagrams held, however small they are.
const MAX_DATAGRAMS: usize = 4096;

/// What a source did that its stream cannot go on after.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrackError {
    /// Its bytes are no objects: its session must be closed.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// What it says cannot be true together with what is known ("Malformed Tracks"): the
    /// subscription upstream must be cancelled, those downstream be ended with MALFORMED_TRACK.
    #[error("malformed track: {0}")]
    Malformed(String),
}

/// One track's objects, from all of its sources, shared by everyone who watches it.
///
/// Sources bring streams, *feeds*, of the same subgroups. Whoever is first with an object's next
/// byte gives it; what others bring again is dropped. What a source brings too early, with objects
/// missing before it, is kept for a while until another brought those, so that nobody downstream
/// sees a gap inside a stream.
#[derive(Debug)]
pub struct Track {
    limits: CacheLimits,
    properties: Properties,
    subgroups: VecDeque<Subgroup>,
    first_seq: SubgroupSeq,
    /// Those evicted last, up to `first_seq`.
    gone: VecDeque<Gone>,
    feeds: BTreeMap<FeedId, Feed>,
    next_feed: u64,
    groups: Groups,
    arrivals: Arrivals,
    datagrams: VecDeque<HeldDatagram>,
    first_datagram: u64,
    /// Where those were that were evicted last, and when that was, as for `gone`.
    past_datagrams: BTreeMap<Location, Instant>,
    largest: Option<Location>,
    /// Bytes of subgroups and datagrams.
    held: u64,
    /// Objects in subgroups.
    held_objects: u64,
    /// What feeds keep that was not given to a subgroup.
    pending: u64,
    bytes_in: u64,
    objects_in: u64,
    duplicates: u64,
}

/// What is remembered of an evicted subgroup, so that a viewer who had not taken it can still
/// count what it lost, and a slow source is not heard again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gone {
    pub(crate) group: u64,
    subgroup: u64,
    pub(crate) len: u64,
    pub(crate) objects: u64,
    at: Instant,
}

/// An object that came as a datagram.
#[derive(Debug)]
pub(crate) struct HeldDatagram {
    pub(crate) datagram: Datagram,
    pub(crate) received: Instant,
}

impl HeldDatagram {
    /// Payload bytes.
    pub(crate) fn len(&self) -> u64 {
        match &self.datagram.body {
            DatagramBody::Payload(payload) => payload.len() as u64,
            DatagramBody::Status(_) => 0,
        }
    }

    pub(crate) fn location(&self) -> Location {
        Location { group: self.datagram.group, object: self.datagram.object }
    }
}

impl Track {
    /// An empty track.
    pub fn new(limits: CacheLimits) -> Self {
        Self {
            limits,
            properties: Properties::new(),
            subgroups: VecDeque::new(),
            first_seq: 0,
            gone: VecDeque::new(),
            feeds: BTreeMap::new(),
            next_feed: 0,
            groups: Groups::default(),
            arrivals: Arrivals::default(),
            datagrams: VecDeque::new(),
            first_datagram: 0,
            past_datagrams: BTreeMap::new(),
            largest: None,
            held: 0,
            held_objects: 0,
            pending: 0,
            bytes_in: 0,
            objects_in: 0,
            duplicates: 0,
        }
    }

    /// What the publisher says of the track; it replaces what was known.
    pub fn set_properties(&mut self, properties: Properties) {
        self.properties = properties;
    }

    /// What the publisher says of the track.
    pub fn properties(&self) -> &Properties {
        &self.properties
    }

    /// Priority of subgroups that name none ("DEFAULT PUBLISHER PRIORITY").
    pub fn default_priority(&self) -> u8 {
        let priority = self.properties.int(property::DEFAULT_PUBLISHER_PRIORITY);
        priority.and_then(|value| u8::try_from(value).ok()).unwrap_or(128)
    }

    /// Priority of a subgroup, lower first.
    pub(crate) fn priority(&self, header: &SubgroupHeader) -> u8 {
        header.priority.unwrap_or(self.default_priority())
    }

    /// Whether its group has a subgroup here that the publisher wants sent before this one.
    pub(crate) fn is_outranked(&self, header: &SubgroupHeader) -> bool {
        let own = self.priority(header);
        self.groups.get(header.group).is_some_and(|group| {
            let mut others = group.subgroups().filter_map(|seq| self.subgroup(seq));
            others.any(|other| self.priority(&other.header) < own)
        })
    }

    /// Timestamps of objects are media time, not that of a clock ("Timescale" in LOC).
    fn has_timescale(&self) -> bool {
        self.properties.int(property::LOC_TIMESCALE).is_some()
    }

    /// How long an object may be served from here ("MAX CACHE DURATION"); `None`: no limit.
    pub fn max_cache_duration(&self) -> Option<Duration> {
        self.properties.int(property::MAX_CACHE_DURATION).map(Duration::from_millis)
    }

    /// A source is live from here on: it sends us every object after `largest`, the Largest Object
    /// it named, so that groups after that one are received from their start. To be called
    /// whenever a source says SUBSCRIBE_OK or PUBLISH; what the first of them said counts.
    pub fn handle_live(&mut self, largest: Option<Location>) {
        if self.groups.is_live() {
            return;
        }
        let newest = self.largest.max(largest);
        self.arrivals.set_live(newest);
        self.groups.set_live(match newest {
            None => Some(0),
            Some(newest) => newest.group.checked_add(1),
        });
    }

    /// No source is live any more: objects may be published that we do not hear of.
    pub fn handle_offline(&mut self) {
        self.groups.set_live(None);
        self.arrivals.set_offline();
    }

    /// The largest location seen or told ("LARGEST OBJECT Parameter").
    pub fn largest(&self) -> Option<Location> {
        self.largest
    }

    /// The publisher said it has objects up to here.
    pub fn raise_largest(&mut self, largest: Location) {
        self.largest = self.largest.max(Some(largest));
    }

    /// Whether the track's final object was received or passed ("Malformed Tracks"): FETCH_OK
    /// says so.
    pub fn is_ended(&self) -> bool {
        self.groups.track_end().is_some()
    }

    /// Bytes held, with those that wait for others before them.
    pub fn held_bytes(&self) -> u64 {
        self.held + self.pending
    }

    /// Object bytes received, each once.
    pub fn bytes_in(&self) -> u64 {
        self.bytes_in
    }

    /// Objects received, each once.
    pub fn objects_in(&self) -> u64 {
        self.objects_in
    }

    /// Objects that a source brought though they were here already, or their heads were.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Number of the next subgroup to arrive.
    pub fn next_seq(&self) -> SubgroupSeq {
        self.first_seq + self.subgroups.len() as u64
    }

    /// Number of the first subgroup held.
    pub(crate) fn first_seq(&self) -> SubgroupSeq {
        self.first_seq
    }

    /// Number of the first subgroup of the newest group, for a viewer who joins.
    pub fn join_seq(&self) -> SubgroupSeq {
        let newest = self.groups.newest().and_then(|newest| self.groups.get(newest));
        newest.and_then(|group| group.subgroups().min()).unwrap_or(self.next_seq())
    }

    pub(crate) fn groups(&self) -> &Groups {
        &self.groups
    }

    /// A subgroup by number, while it is held.
    pub fn subgroup(&self, seq: SubgroupSeq) -> Option<&Subgroup> {
        self.subgroups.get(usize::try_from(seq.checked_sub(self.first_seq)?).ok()?)
    }

    /// What is remembered of a subgroup that was evicted lately.
    pub(crate) fn gone(&self, seq: SubgroupSeq) -> Option<&Gone> {
        let back = usize::try_from(self.first_seq.checked_sub(seq)?).ok()?;
        self.gone.get(self.gone.len().checked_sub(back)?)
    }

    /// Number of the oldest subgroup that is held or remembered.
    pub(crate) fn first_known_seq(&self) -> SubgroupSeq {
        self.first_seq - self.gone.len() as u64
    }

    fn subgroup_mut(&mut self, seq: SubgroupSeq) -> Option<&mut Subgroup> {
        self.subgroups.get_mut(usize::try_from(seq.checked_sub(self.first_seq)?).ok()?)
    }

    /// The newest whole object's group and payload, unless that is the group that the caller `has`:
    /// for tracks whose objects stand alone, one a group.
    pub fn newest_payload(&self, has: Option<u64>) -> Option<(u64, Vec<u8>)> {
        let newest = self.subgroups.iter().rev().find_map(|held| {
            let whole = |object: &&ObjectEntry| {
                object.end <= held.len() && object.status == ObjectStatus::Normal
            };
            Some((held, held.objects().rev().find(whole)?))
        });
        let (held, object) = newest.filter(|(held, _)| has != Some(held.header.group))?;
        let payload = held.slice(object.payload_start, object.end).concat();
        Some((held.header.group, payload))
    }

    /// An object came as a datagram. One that is here already is dropped.
    pub fn push_datagram(
        &mut self,
        _source: SessionId,
        datagram: Datagram,
        now: Instant,
    ) -> Result<(), TrackError> {
        let at = Location { group: datagram.group, object: datagram.object };
        if self
            .past_datagrams
            .get(&at)
            .is_some_and(|gone| now.saturating_duration_since(*gone) < GONE)
        {
            self.duplicates += 1;
            return Ok(());
        }
        if let Some(group) = self.groups.get(at.group) {
            if group.datagrams.contains_key(&at.object) {
                self.duplicates += 1;
                return Ok(());
            }
            let mut subgroups = group.subgroups().filter_map(|seq| self.subgroup(seq));
            if subgroups.any(|held| held.find(at.object).is_some()) {
                return Err(two_preferences(at));
            }
        }
        let status = match datagram.body {
            DatagramBody::Payload(_) => ObjectStatus::Normal,
            DatagramBody::Status(status) => status,
        };
        self.groups.observe(at, status).map_err(TrackError::Malformed)?;
        if datagram.end_of_group
            && let Some(object) = at.object.checked_add(1)
        {
            let after = Location { object, ..at };
            self.groups.end_group(after).map_err(TrackError::Malformed)?;
        }
        if status == ObjectStatus::Normal {
            self.raise_largest(at);
        }
        let number = self.first_datagram + self.datagrams.len() as u64;
        self.groups.entry(at.group).datagrams.insert(at.object, number);
        let timescale = self.has_timescale();
        self.arrivals.handle_datagram(&datagram, timescale, now);
        let datagram = HeldDatagram { datagram, received: now };
        self.bytes_in += datagram.len();
        self.held += datagram.len();
        self.objects_in += 1;
        self.datagrams.push_back(datagram);
        if self.is_over_full() || self.datagrams.len() > MAX_DATAGRAMS {
            self.shrink(now);
        }
        Ok(())
    }

    /// Number of the next datagram to arrive.
    pub(crate) fn next_datagram(&self) -> u64 {
        self.first_datagram + self.datagrams.len() as u64
    }

    /// Number of the oldest datagram held.
    pub(crate) fn first_datagram(&self) -> u64 {
        self.first_datagram
    }

    pub(crate) fn datagram(&self, number: u64) -> Option<&HeldDatagram> {
        self.datagrams.get(usize::try_from(number.checked_sub(self.first_datagram)?).ok()?)
    }

    /// What all that is held costs.
    fn weight(&self) -> u64 {
        let objects = self.held_objects + self.datagrams.len() as u64;
        self.held + self.pending + objects * OBJECT_COST
    }

    fn is_over_full(&self) -> bool {
        self.weight() > self.limits.bytes || self.subgroups.len() > MAX_SUBGROUPS
    }

    /// Forgets what is too old or too much; the newest group stays whole if it can. Stops waiting
    /// for what silent sources do not bring: `true` when viewers may have something new to look at.
    /// To be called several times a second.
    pub fn evict(&mut self, now: Instant) -> bool {
        let released = self.release(now);
        self.shrink(now);
        released
    }

    fn shrink(&mut self, now: Instant) {
        let age = self.max_cache_duration().map_or(self.limits.age, |max| max.min(self.limits.age));
        let newest = self.groups.newest();
        while let Some(oldest) = self.datagrams.front() {
            let old = now.saturating_duration_since(oldest.received) > age;
            if !old && !self.is_over_full() && self.datagrams.len() <= MAX_DATAGRAMS {
                break;
            }
            self.held -= oldest.len();
            let at = oldest.location();
            self.datagrams.pop_front();
            self.first_datagram += 1;
            self.groups.remove_datagram(at);
            if self.past_datagrams.len() == MAX_GONE {
                // Of the oldest groups, as sources go on to newer ones.
                self.past_datagrams.pop_first();
            }
            self.past_datagrams.insert(at, now);
        }
        while self.subgroups.len() > 1 {
            let Some(oldest) = self.subgroups.front() else { break };
            let old = now.saturating_duration_since(oldest.arrived) > age;
            let evict = Some(oldest.header.group) != newest
                && (self.is_over_full() || old && oldest.is_over());
            if !evict && self.subgroups.len() <= MAX_SUBGROUPS {
                break;
            }
            self.evict_oldest(now);
        }
        let excess = self.weight().saturating_sub(self.limits.bytes);
        if excess > 0
            && let Some(largest) = self.subgroups.iter_mut().max_by_key(|held| held.held())
        {
            // Some slack, so that not every chunk trims.
            let (bytes, objects) = largest.trim(excess + self.limits.bytes / 8);
            self.held -= bytes;
            self.held_objects -= objects;
        }
    }

    fn evict_oldest(&mut self, now: Instant) {
        let Some(oldest) = self.subgroups.pop_front() else { return };
        let seq = self.first_seq;
        self.first_seq += 1;
        self.held -= oldest.held();
        self.held_objects -= oldest.held_objects();
        self.groups.remove_subgroup(oldest.header.group, oldest.id(), seq);
        for feed in &oldest.feeds {
            self.forget(*feed);
        }
        if self.gone.len() == MAX_GONE {
            self.gone.pop_front();
        }
        self.gone.push_back(Gone {
            group: oldest.header.group,
            subgroup: oldest.id(),
            len: oldest.len(),
            objects: oldest.object_count(),
            at: now,
        });
    }

    /// A subgroup begins to be held.
    fn add(&mut self, header: SubgroupHeader, id: u64, now: Instant) -> SubgroupSeq {
        let seq = self.next_seq();
        self.groups.add_subgroup(header.group, id, seq);
        self.subgroups.push_back(Subgroup::new(header, id, now));
        seq
    }
}

fn two_preferences(at: Location) -> TrackError {
    TrackError::Malformed(format!("object {at} came both in a subgroup and as a datagram"))
}

#[cfg(test)]
mod tests;
