//! One track's objects as they arrive ("Caching Relays").

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use moqt::{
    Datagram, IntCoding, Location, ObjectScanner, ObjectStatus, Properties, ProtocolError,
    ResetCode, SubgroupHeader, SubgroupId, property,
};

/// How much of a track is kept.
#[derive(Clone, Copy, Debug)]
pub struct CacheLimits {
    /// Most bytes. A group that never ends is trimmed from its start.
    pub bytes: u64,
    /// Oldest a subgroup may be, unless it is of the newest group.
    pub age: Duration,
}

impl Default for CacheLimits {
    fn default() -> Self {
        Self { bytes: 32 * 1024 * 1024, age: Duration::from_secs(10) }
    }
}

/// A subgroup's number in order of arrival at this relay.
pub type SubgroupSeq = u64;

/// Evicted subgroups that are remembered by their size.
const MAX_GONE: usize = 1024;

/// Datagrams kept for viewers that have not taken them.
const MAX_DATAGRAMS: usize = 256;

/// One track's objects, shared by everyone who watches it.
#[derive(Debug)]
pub struct Track {
    limits: CacheLimits,
    coding: IntCoding,
    properties: Properties,
    subgroups: VecDeque<Subgroup>,
    first_seq: SubgroupSeq,
    /// Final length and object count of those evicted last, up to `first_seq`, so that a viewer
    /// who had not taken them can still count what it lost.
    gone: VecDeque<(u64, u64)>,
    datagrams: VecDeque<Datagram>,
    first_datagram: u64,
    largest: Option<Location>,
    held: u64,
    bytes_in: u64,
    objects_in: u64,
}

/// How a subgroup stands with its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubgroupEnd {
    /// More may come.
    Open,
    /// Its source went away in the middle; another may go on with it.
    Interrupted,
    /// All of it is here.
    Finished,
    /// No more comes, though there was more.
    Reset(ResetCode),
}

/// One subgroup's bytes after its header, exactly as they came.
#[derive(Debug)]
pub struct Subgroup {
    /// Its header as it came; the alias in it is the source's.
    pub header: SubgroupHeader,
    scanner: ObjectScanner,
    chunks: VecDeque<Bytes>,
    /// Offset of the first byte held.
    base: u64,
    objects: VecDeque<ObjectEntry>,
    /// Objects trimmed off the front.
    first_index: u64,
    end: SubgroupEnd,
    /// Bytes that a resuming source will send again.
    skip: u64,
    arrived: Instant,
}

/// An object inside a subgroup.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ObjectEntry {
    pub(crate) id: u64,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) received: Instant,
}

impl Subgroup {
    /// Offset after the last byte held.
    pub fn len(&self) -> u64 {
        self.scanner.offset()
    }

    /// Whether nothing came yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How it stands with its source.
    pub fn end(&self) -> SubgroupEnd {
        self.end
    }

    /// Offset of the first byte that is still held.
    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    /// Index after the last object known, counted from the subgroup's first.
    pub(crate) fn object_count(&self) -> u64 {
        self.first_index + self.objects.len() as u64
    }

    /// The object of that index, if it is held.
    pub(crate) fn object(&self, index: u64) -> Option<&ObjectEntry> {
        self.objects.get(usize::try_from(index.checked_sub(self.first_index)?).ok()?)
    }

    /// Index of the first object whose ID is at least `id`, held or still to come.
    pub(crate) fn index_from(&self, id: u64) -> u64 {
        self.first_index + self.objects.partition_point(|object| object.id < id) as u64
    }

    /// Up to about `max` bytes from `offset` on, without copying them.
    pub(crate) fn read(&self, offset: u64, max: usize, into: &mut Vec<Bytes>) {
        let mut at = self.base;
        let mut taken = 0;
        for chunk in &self.chunks {
            let end = at + chunk.len() as u64;
            if end > offset {
                let bytes = chunk.slice(offset.saturating_sub(at) as usize..);
                taken += bytes.len();
                into.push(bytes);
                if taken >= max {
                    return;
                }
            }
            at = end;
        }
    }

    /// Drops objects off the front until about `excess` bytes are gone, and returns how many went.
    fn trim(&mut self, excess: u64) -> u64 {
        let before = self.base;
        let target = self.base + excess;
        while self.objects.len() > 1 && self.objects[0].start < target {
            self.objects.pop_front();
            self.first_index += 1;
        }
        let keep = self.objects.front().map_or(self.base, |object| object.start);
        while let Some(first) = self.chunks.front_mut() {
            let gone = keep - self.base;
            if gone == 0 {
                break;
            }
            if first.len() as u64 <= gone {
                self.base += first.len() as u64;
                self.chunks.pop_front();
            } else {
                let _ = first.split_to(gone as usize);
                self.base = keep;
            }
        }
        self.base - before
    }

    fn held(&self) -> u64 {
        self.len() - self.base
    }
}

impl Track {
    /// An empty track.
    pub fn new(limits: CacheLimits, coding: IntCoding) -> Self {
        Self {
            limits,
            coding,
            properties: Properties::new(),
            subgroups: VecDeque::new(),
            first_seq: 0,
            gone: VecDeque::new(),
            datagrams: VecDeque::new(),
            first_datagram: 0,
            largest: None,
            held: 0,
            bytes_in: 0,
            objects_in: 0,
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

    /// Integer coding of the bytes held.
    pub fn coding(&self) -> IntCoding {
        self.coding
    }

    /// Priority of subgroups that name none ("DEFAULT PUBLISHER PRIORITY").
    pub fn default_priority(&self) -> u8 {
        let priority = self.properties.int(property::DEFAULT_PUBLISHER_PRIORITY);
        priority.and_then(|value| u8::try_from(value).ok()).unwrap_or(128)
    }

    /// The largest location seen or told ("LARGEST OBJECT Parameter").
    pub fn largest(&self) -> Option<Location> {
        self.largest
    }

    /// The publisher said it has objects up to here.
    pub fn raise_largest(&mut self, largest: Location) {
        self.largest = self.largest.max(Some(largest));
    }

    /// Bytes held.
    pub fn held_bytes(&self) -> u64 {
        self.held
    }

    /// Object bytes received.
    pub fn bytes_in(&self) -> u64 {
        self.bytes_in
    }

    /// Objects received.
    pub fn objects_in(&self) -> u64 {
        self.objects_in
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
        let newest = self.newest_group();
        let at = self.subgroups.iter().position(|held| Some(held.header.group) == newest);
        at.map_or(self.next_seq(), |at| self.first_seq + at as u64)
    }

    fn newest_group(&self) -> Option<u64> {
        self.subgroups.iter().map(|held| held.header.group).max()
    }

    /// A subgroup by number, while it is held.
    pub fn subgroup(&self, seq: SubgroupSeq) -> Option<&Subgroup> {
        self.subgroups.get(usize::try_from(seq.checked_sub(self.first_seq)?).ok()?)
    }

    /// Final length and object count of a subgroup that was evicted lately.
    pub(crate) fn gone(&self, seq: SubgroupSeq) -> Option<(u64, u64)> {
        let back = usize::try_from(self.first_seq.checked_sub(seq)?).ok()?;
        self.gone.get(self.gone.len().checked_sub(back)?).copied()
    }

    fn subgroup_mut(&mut self, seq: SubgroupSeq) -> Option<&mut Subgroup> {
        self.subgroups.get_mut(usize::try_from(seq.checked_sub(self.first_seq)?).ok()?)
    }

    /// Bytes of the newest whole object, payload only: for tracks whose objects stand alone.
    pub fn newest_payload(&self) -> Option<Vec<u8>> {
        self.subgroups.iter().rev().find_map(|held| {
            let object = held.objects.iter().rev().find(|object| object.end <= held.len())?;
            let mut chunks = Vec::new();
            held.read(object.start, (object.end - object.start) as usize, &mut chunks);
            let mut bytes = chunks.concat();
            bytes.truncate((object.end - object.start) as usize);
            let mut payload = None;
            ObjectScanner::new(&held.header, self.coding)
                .scan(&bytes, |mark| payload = Some(mark.payload_start as usize))
                .ok()?;
            Some(bytes.split_off(payload?))
        })
    }

    /// A subgroup begins to arrive. `None`: it is here already, and the stream is to be ignored
    /// ("Multiple Publishers").
    pub fn open(&mut self, header: SubgroupHeader, now: Instant) -> Option<SubgroupSeq> {
        if let Some(seq) = self.find(header.group, header.subgroup) {
            let held = self.subgroup_mut(seq)?;
            let resumes = held.end == SubgroupEnd::Interrupted
                && held.header.first_object
                && header.first_object
                && held.header.properties == header.properties;
            if !resumes {
                return None;
            }
            held.end = SubgroupEnd::Open;
            held.skip = held.len();
            return Some(seq);
        }
        // A newer group tells that nobody will go on with an interrupted older one.
        for held in &mut self.subgroups {
            if held.end == SubgroupEnd::Interrupted && held.header.group < header.group {
                held.end = SubgroupEnd::Reset(ResetCode::INTERNAL_ERROR);
            }
        }
        let seq = self.next_seq();
        self.subgroups.push_back(Subgroup {
            scanner: ObjectScanner::new(&header, self.coding),
            header,
            chunks: VecDeque::new(),
            base: 0,
            objects: VecDeque::new(),
            first_index: 0,
            end: SubgroupEnd::Open,
            skip: 0,
            arrived: now,
        });
        self.evict(now);
        Some(seq)
    }

    fn find(&self, group: u64, subgroup: SubgroupId) -> Option<SubgroupSeq> {
        let same = |held: &Subgroup| held.header.group == group && held.header.subgroup == subgroup;
        let at = self.subgroups.iter().rposition(same)?;
        Some(self.first_seq + at as u64)
    }

    /// The next bytes of a subgroup. An error means that the publisher broke the protocol. Bytes
    /// of a subgroup that was evicted are ignored.
    pub fn append(
        &mut self,
        seq: SubgroupSeq,
        mut bytes: Bytes,
        now: Instant,
    ) -> Result<(), ProtocolError> {
        let Some(held) = self.subgroup_mut(seq) else { return Ok(()) };
        if held.skip > 0 {
            let again = held.skip.min(bytes.len() as u64);
            let _ = bytes.split_to(again as usize);
            held.skip -= again;
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let group = held.header.group;
        let objects = &mut held.objects;
        let (mut count, mut last) = (0, None);
        held.scanner.scan(&bytes, |mark| {
            count += 1;
            if mark.status == ObjectStatus::Normal {
                last = Some(mark.id);
            }
            let end = mark.end();
            objects.push_back(ObjectEntry { id: mark.id, start: mark.start, end, received: now });
        })?;
        let length = bytes.len() as u64;
        held.chunks.push_back(bytes);
        self.held += length;
        self.bytes_in += length;
        self.objects_in += count;
        if let Some(object) = last {
            self.raise_largest(Location { group, object });
        }
        if self.held > self.limits.bytes {
            self.evict(now);
        }
        Ok(())
    }

    /// The subgroup is whole. A FIN inside an object is the publisher's error.
    pub fn finish(&mut self, seq: SubgroupSeq) -> Result<(), ProtocolError> {
        let Some(held) = self.subgroup_mut(seq) else { return Ok(()) };
        if !held.scanner.at_boundary() {
            held.end = SubgroupEnd::Reset(ResetCode::INTERNAL_ERROR);
            return Err(ProtocolError::violation("a subgroup stream ended inside an object"));
        }
        held.end = SubgroupEnd::Finished;
        Ok(())
    }

    /// The source reset the subgroup.
    pub fn reset(&mut self, seq: SubgroupSeq, code: ResetCode) {
        if let Some(held) = self.subgroup_mut(seq) {
            held.end = SubgroupEnd::Reset(code);
        }
    }

    /// The source went away; another, or the same, may go on with the subgroup.
    pub fn interrupt(&mut self, seq: SubgroupSeq) {
        if let Some(held) = self.subgroup_mut(seq).filter(|held| held.end == SubgroupEnd::Open) {
            held.end = SubgroupEnd::Interrupted;
        }
    }

    /// An object came as a datagram.
    pub fn push_datagram(&mut self, datagram: Datagram) {
        self.raise_largest(Location { group: datagram.group, object: datagram.object });
        if let moqt::DatagramBody::Payload(payload) = &datagram.body {
            self.bytes_in += payload.len() as u64;
        }
        self.objects_in += 1;
        if self.datagrams.len() == MAX_DATAGRAMS {
            self.datagrams.pop_front();
            self.first_datagram += 1;
        }
        self.datagrams.push_back(datagram);
    }

    /// Number of the next datagram to arrive.
    pub(crate) fn next_datagram(&self) -> u64 {
        self.first_datagram + self.datagrams.len() as u64
    }

    /// Number of the oldest datagram kept.
    pub(crate) fn first_datagram(&self) -> u64 {
        self.first_datagram
    }

    pub(crate) fn datagram(&self, number: u64) -> Option<&Datagram> {
        self.datagrams.get(usize::try_from(number.checked_sub(self.first_datagram)?).ok()?)
    }

    /// Forgets what is too old or too much. The newest group stays whole if it can.
    pub fn evict(&mut self, now: Instant) {
        let newest = self.newest_group();
        while self.subgroups.len() > 1 {
            let Some(oldest) = self.subgroups.front() else { break };
            let over =
                oldest.end == SubgroupEnd::Finished || matches!(oldest.end, SubgroupEnd::Reset(_));
            let old = now.saturating_duration_since(oldest.arrived) > self.limits.age;
            let evict = Some(oldest.header.group) != newest
                && (self.held > self.limits.bytes || old && over);
            if !evict {
                break;
            }
            self.held -= oldest.held();
            if self.gone.len() == MAX_GONE {
                self.gone.pop_front();
            }
            self.gone.push_back((oldest.len(), oldest.object_count()));
            self.subgroups.pop_front();
            self.first_seq += 1;
        }
        let excess = self.held.saturating_sub(self.limits.bytes);
        if excess > 0
            && let Some(largest) = self.subgroups.iter_mut().max_by_key(|held| held.held())
        {
            // Some slack, so that not every chunk trims.
            self.held -= largest.trim(excess + self.limits.bytes / 8);
        }
    }
}

#[cfg(test)]
mod tests;
