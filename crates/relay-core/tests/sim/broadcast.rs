//! What is true: every object of every track, as a function of its number. All publishers of a
//! track send the same, so a relay may join what several of them send.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use moqt::{
    FullTrackName, IntCoding, Location, Namespace, ObjectHeader, ObjectMark, ObjectStatus,
    Properties, SubgroupHeader, SubgroupId, property,
};

use crate::rng::Rng;

/// A track that somebody may publish.
#[derive(Clone, Debug)]
pub(crate) struct Broadcast {
    pub(crate) name: FullTrackName,
    number: u64,
    start: Instant,
    pub(crate) interval: Duration,
    /// Objects of a group.
    pub(crate) per_group: u64,
    pub(crate) subgroups: u64,
    /// Object IDs that one object takes.
    stride: u64,
    /// Objects go as datagrams.
    pub(crate) datagrams: bool,
    properties: bool,
    /// The group's last object only says that it is the last.
    status: bool,
    priority: Option<u8>,
    largest_payload: u64,
    /// Objects of the whole track.
    pub(crate) length: Option<u64>,
}

/// An object as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Object {
    pub(crate) location: Location,
    pub(crate) status: ObjectStatus,
    /// Their bytes, without a length.
    pub(crate) properties: Bytes,
    pub(crate) payload: Bytes,
}

impl Broadcast {
    pub(crate) fn new(number: u64, rng: &mut Rng, start: Instant) -> Self {
        let namespace = Namespace::from_path(&format!("live/{}", number / 2)).expect("short");
        let datagrams = rng.per_mille(200);
        let per_group = rng.between(1, 14);
        Self {
            name: FullTrackName::new(namespace, format!("track{number}")).expect("short"),
            number,
            start,
            interval: Duration::from_millis(rng.between(15, 80)),
            per_group,
            subgroups: if datagrams { 1 } else { rng.between(1, 3).min(per_group) },
            stride: *rng.pick(&[1, 1, 1, 3, 100]),
            datagrams,
            properties: rng.per_mille(600),
            status: per_group > 3 && !datagrams && rng.per_mille(200),
            priority: rng.per_mille(500).then(|| rng.below(256) as u8),
            largest_payload: if datagrams { 900 } else { *rng.pick(&[10, 600, 2500, 6000]) },
            length: rng.per_mille(250).then(|| rng.between(20, 400)),
        }
    }

    /// How many objects there are by now.
    pub(crate) fn published(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.start).as_nanos();
        let count = (since / self.interval.as_nanos()) as u64 + 1;
        count.min(self.length.unwrap_or(u64::MAX))
    }

    /// When the object of this number comes into being.
    pub(crate) fn time_of(&self, number: u64) -> Instant {
        self.start + self.interval * number as u32
    }

    pub(crate) fn has_ended(&self, now: Instant) -> bool {
        self.end().is_some_and(|end| end <= now)
    }

    /// When its last object comes into being, if it ever ends.
    pub(crate) fn end(&self) -> Option<Instant> {
        Some(self.time_of(self.length?.saturating_sub(1)))
    }

    pub(crate) fn location(&self, number: u64) -> Location {
        Location {
            group: 5 + number / self.per_group,
            object: (number % self.per_group) * self.stride,
        }
    }

    /// The number of the object there, if there will ever be one.
    pub(crate) fn number_of(&self, location: Location) -> Option<u64> {
        let index = location.object / self.stride;
        let group = location.group.checked_sub(5)?;
        let exists = location.object.is_multiple_of(self.stride) && index < self.per_group;
        let number = group * self.per_group + index;
        (exists && self.length.is_none_or(|length| number < length)).then_some(number)
    }

    /// The number of the first object of the group after this object's.
    pub(crate) fn next_group(&self, number: u64) -> u64 {
        (number / self.per_group + 1) * self.per_group
    }

    pub(crate) fn subgroup_of(&self, number: u64) -> u64 {
        number % self.per_group % self.subgroups
    }

    /// The object after this one in its subgroup, if there is one.
    pub(crate) fn next_in_subgroup(&self, number: u64) -> Option<u64> {
        let next = number + self.subgroups;
        let same_group = next / self.per_group == number / self.per_group;
        (same_group && self.length.is_none_or(|length| next < length)).then_some(next)
    }

    pub(crate) fn is_first_in_subgroup(&self, number: u64) -> bool {
        number % self.per_group < self.subgroups
    }

    /// The header of the subgroup that holds the object.
    pub(crate) fn header(&self, number: u64, track_alias: u64) -> SubgroupHeader {
        let subgroup = self.subgroup_of(number);
        SubgroupHeader {
            track_alias,
            group: self.location(number).group,
            subgroup: SubgroupId::Known(subgroup),
            priority: self.priority,
            properties: self.properties,
            end_of_group: self.length.is_none()
                && subgroup == (self.per_group - 1) % self.subgroups,
            first_object: self.is_first_in_subgroup(number),
        }
    }

    pub(crate) fn object(&self, number: u64) -> Object {
        let location = self.location(number);
        if self.status && (number + 1).is_multiple_of(self.per_group) {
            return Object {
                location,
                status: ObjectStatus::EndOfGroup,
                properties: Bytes::new(),
                payload: Bytes::new(),
            };
        }
        let mut rng = Rng::new(self.number << 32 ^ number);
        let mut payload = Vec::new();
        payload.extend_from_slice(&self.number.to_be_bytes());
        payload.extend_from_slice(&number.to_be_bytes());
        let length = rng.below(self.largest_payload);
        while (payload.len() as u64) < length {
            payload.extend_from_slice(&rng.next().to_be_bytes());
        }
        let mut properties = Properties::new();
        if self.properties && rng.per_mille(700) {
            properties.push_int(0x10, number);
            properties.push_bytes(0x3a7, payload[..rng.below(16) as usize].to_vec());
        }
        Object {
            location,
            status: ObjectStatus::Normal,
            properties: properties.to_bytes(IntCoding::LeadingOnes),
            payload: payload.into(),
        }
    }

    /// The object's bytes on a subgroup stream.
    pub(crate) fn encode(&self, number: u64, previous: Option<u64>, coding: IntCoding) -> Bytes {
        let object = self.object(number);
        let mut buf = BytesMut::new();
        let header = ObjectHeader {
            id: object.location.object,
            previous: previous.map(|number| self.location(number).object),
            properties: self.properties.then_some(&object.properties),
            payload: object.payload.len() as u64,
            status: object.status,
        };
        header.encode(&mut buf, coding);
        buf.extend_from_slice(&object.payload);
        buf.freeze()
    }

    /// Whether an object that was found on a stream of this group is what it should be; what is
    /// wrong otherwise.
    pub(crate) fn check(
        &self,
        group: u64,
        mark: &ObjectMark,
        payload: &[u8],
        now: Instant,
    ) -> Result<u64, String> {
        let location = Location { group, object: mark.id };
        let found = Object {
            location,
            status: mark.status,
            properties: mark.properties.clone(),
            payload: Bytes::copy_from_slice(payload),
        };
        self.check_object(&found, now)
    }

    pub(crate) fn check_object(&self, found: &Object, now: Instant) -> Result<u64, String> {
        let location = found.location;
        let Some(number) = self.number_of(location) else {
            return Err(format!("object {location} of {} was invented", self.name));
        };
        if number >= self.published(now) {
            return Err(format!("object {location} of {} comes before it exists", self.name));
        }
        if *found != self.object(number) {
            return Err(format!("object {location} of {} was altered", self.name));
        }
        Ok(number)
    }

    /// The track's properties.
    pub(crate) fn track_properties(&self) -> Properties {
        let mut properties = Properties::new();
        properties.push_int(property::DEFAULT_PUBLISHER_PRIORITY, 100 + self.number);
        properties.push_bytes(0x9d1, self.name.to_string());
        properties
    }
}

impl std::fmt::Display for Broadcast {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let carried = if self.datagrams { "datagrams" } else { "streams" };
        write!(
            f,
            "{}: an object in {carried} every {} ms, {} to a group of {} subgroups, IDs {} apart",
            self.name,
            self.interval.as_millis(),
            self.per_group,
            self.subgroups,
            self.stride,
        )?;
        match self.length {
            Some(length) => write!(f, ", {length} in all"),
            None => Ok(()),
        }
    }
}
