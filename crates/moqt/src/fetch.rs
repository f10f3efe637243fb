//! Objects on a fetch stream, read and written without their payloads ("Fetch Header").

use bytes::{BufMut, Bytes, BytesMut};

use crate::scanner::{Header, Walk, properties_field};
use crate::{GroupOrder, IntCoding, Location, ProtocolError, Version};

/// Why a fetch stream has no objects where some were asked for ("End of Range").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gap {
    /// They do not exist.
    NonExistent,
    /// Whether they exist is not known.
    Unknown,
    /// They did not come in time; drafts before 20 call that unknown.
    TimedOut,
}

const END_OF_NON_EXISTENT_RANGE: u64 = 0x8c;
const END_OF_UNKNOWN_RANGE: u64 = 0x10c;
const END_OF_TIMED_OUT_RANGE: u64 = 0x20c;

impl Gap {
    fn from_wire(flags: u64, version: Version) -> Option<Self> {
        match flags {
            END_OF_NON_EXISTENT_RANGE => Some(Self::NonExistent),
            END_OF_UNKNOWN_RANGE => Some(Self::Unknown),
            END_OF_TIMED_OUT_RANGE if version >= Version::Draft22 => Some(Self::TimedOut),
            _ => None,
        }
    }

    fn to_wire(self, version: Version) -> u64 {
        match self {
            Self::NonExistent => END_OF_NON_EXISTENT_RANGE,
            Self::TimedOut if version >= Version::Draft22 => END_OF_TIMED_OUT_RANGE,
            Self::Unknown | Self::TimedOut => END_OF_UNKNOWN_RANGE,
        }
    }
}

const SUBGROUP: u64 = 0x03;
const SUBGROUP_ZERO: u64 = 0x00;
const SUBGROUP_PRIOR: u64 = 0x01;
const SUBGROUP_NEXT: u64 = 0x02;
const SUBGROUP_PRESENT: u64 = 0x03;
const OBJECT_ID: u64 = 0x04;
const GROUP_ID: u64 = 0x08;
const PRIORITY: u64 = 0x10;
const PROPERTIES: u64 = 0x20;
const DATAGRAM: u64 = 0x40;
const ALL_FLAGS: u64 = 0x7f;

/// An object on a fetch stream whose header was read. Offsets count from the first byte after
/// FETCH_HEADER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchObject {
    /// Where it is in its track.
    pub location: Location,
    /// Its subgroup; `None` for one that was published as a datagram.
    pub subgroup: Option<u64>,
    /// Publisher priority.
    pub priority: u8,
    /// The properties' bytes, without their length.
    pub properties: Bytes,
    /// Where its header starts.
    pub start: u64,
    /// Where its payload starts.
    pub payload_start: u64,
    /// Payload length in bytes.
    pub payload_len: u64,
}

impl FetchObject {
    /// Where the next object starts.
    pub fn end(&self) -> u64 {
        self.payload_start.saturating_add(self.payload_len)
    }
}

/// What a fetch stream holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchMark {
    /// An object; its payload follows.
    Object(FetchObject),
    /// No objects from the last one, if any, up to a location.
    EndOfRange {
        /// The last location of the range, itself included.
        end: Location,
        /// Why.
        gap: Gap,
    },
}

/// What the next object may refer to ("Flags", "End of Range").
#[derive(Clone, Copy, Debug, Default)]
struct Prior {
    /// Of the last object or end of range.
    location: Option<Location>,
    /// Of the last object that has one.
    subgroup: Option<u64>,
    /// Of the last object.
    priority: Option<u8>,
}

/// Walks the bytes of one fetch stream, in chunks of any size.
///
/// Feed every byte after FETCH_HEADER in order; each object's mark comes out as soon as its header
/// is whole, before its payload.
#[derive(Debug)]
pub struct FetchScanner {
    version: Version,
    order: GroupOrder,
    walk: Walk,
    prior: Prior,
}

impl FetchScanner {
    /// A scanner for the answer to a FETCH or fill that asked for `order`.
    pub fn new(version: Version, order: GroupOrder) -> Self {
        Self { version, order, walk: Walk::default(), prior: Prior::default() }
    }

    /// Bytes scanned so far.
    pub fn offset(&self) -> u64 {
        self.walk.offset()
    }

    /// Whether a FIN may come now: no object is half received.
    pub fn at_boundary(&self) -> bool {
        self.walk.at_boundary()
    }

    /// Takes the next bytes of the stream and calls `mark` for each object and end of range that
    /// begins in them. Marks share properties that lie whole in `chunk`.
    pub fn scan(
        &mut self,
        chunk: &Bytes,
        mut mark: impl FnMut(FetchMark),
    ) -> Result<(), ProtocolError> {
        let (version, order, prior) = (self.version, self.order, &mut self.prior);
        self.walk.walk(
            chunk,
            |buf, in_chunk| {
                let mut parser = Parser { buf, at: 0, coding: version.int_coding() };
                let Some((entry, payload)) = parser.entry(version, order, *prior)? else {
                    return Ok(None);
                };
                let what = match entry {
                    Entry::Object { location, subgroup, priority, properties } => {
                        *prior = Prior {
                            location: Some(location),
                            subgroup: subgroup.or(prior.subgroup),
                            priority: Some(priority),
                        };
                        let properties = match properties {
                            [] => Bytes::new(),
                            bytes if in_chunk => chunk.slice_ref(bytes),
                            bytes => Bytes::copy_from_slice(bytes),
                        };
                        FetchMark::Object(FetchObject {
                            location,
                            subgroup,
                            priority,
                            properties,
                            start: 0,
                            payload_start: 0,
                            payload_len: payload,
                        })
                    }
                    Entry::EndOfRange { end, gap } => {
                        prior.location = Some(end);
                        FetchMark::EndOfRange { end, gap }
                    }
                };
                Ok(Some(Header { what, length: parser.at, payload }))
            },
            |found, start, payload_start| {
                mark(match found {
                    FetchMark::Object(object) => {
                        FetchMark::Object(FetchObject { start, payload_start, ..object })
                    }
                    end => end,
                });
            },
        )
    }
}

enum Entry<'a> {
    Object { location: Location, subgroup: Option<u64>, priority: u8, properties: &'a [u8] },
    EndOfRange { end: Location, gap: Gap },
}

/// Reads an entry from a buffer that may end anywhere.
struct Parser<'a> {
    buf: &'a [u8],
    at: usize,
    coding: IntCoding,
}

/// The value, or "not whole yet" for the whole entry.
macro_rules! whole {
    ($value:expr) => {
        match $value {
            Some(value) => value,
            None => return Ok(None),
        }
    };
}

impl<'a> Parser<'a> {
    fn int(&mut self) -> Option<u64> {
        let (value, length) = self.coding.read(&self.buf[self.at..])?;
        self.at += length;
        Some(value)
    }

    /// An integer, if `present`.
    fn int_if(&mut self, present: bool) -> Option<Option<u64>> {
        if present { self.int().map(Some) } else { Some(None) }
    }

    fn entry(
        &mut self,
        version: Version,
        order: GroupOrder,
        prior: Prior,
    ) -> Result<Option<(Entry<'a>, u64)>, ProtocolError> {
        let flags = whole!(self.int());
        if let Some(gap) = Gap::from_wire(flags, version) {
            // "The Group ID and Object ID fields are present": IDs, not differences. As such an
            // end of range could not lie in the group of the object before it.
            let end = Location { group: whole!(self.int()), object: whole!(self.int()) };
            if prior.location.is_some_and(|prior| !follows(end, prior, order)) {
                return Err(out_of_order());
            }
            return Ok(Some((Entry::EndOfRange { end, gap }, 0)));
        }
        if flags & !ALL_FLAGS != 0 {
            return Err(ProtocolError::violation(format!(
                "unknown Serialization Flags {flags:#x}"
            )));
        }
        let refers = |what: &str| {
            ProtocolError::violation(format!(
                "a fetched object refers to the {what} of none before"
            ))
        };
        let group = whole!(self.int_if(flags & GROUP_ID != 0));
        let subgroup = whole!(self.int_if(flags & (SUBGROUP | DATAGRAM) == SUBGROUP_PRESENT));
        let object = whole!(self.int_if(flags & OBJECT_ID != 0));
        let location = locate(version, order, prior.location, group, object)?;
        let subgroup = match flags & SUBGROUP {
            _ if flags & DATAGRAM != 0 => None,
            SUBGROUP_ZERO => Some(0),
            SUBGROUP_PRIOR => Some(prior.subgroup.ok_or_else(|| refers("subgroup"))?),
            SUBGROUP_NEXT => {
                let next = prior.subgroup.ok_or_else(|| refers("subgroup"))?.checked_add(1);
                let next = next.filter(|next| *next <= self.coding.max());
                Some(next.ok_or_else(|| ProtocolError::violation("a Subgroup ID is too large"))?)
            }
            _ => subgroup,
        };
        let priority = if flags & PRIORITY == 0 {
            prior.priority.ok_or_else(|| refers("priority"))?
        } else {
            let priority = *whole!(self.buf.get(self.at));
            self.at += 1;
            priority
        };
        let mut properties = &[][..];
        if flags & PROPERTIES != 0 {
            let (bytes, length) = whole!(properties_field(&self.buf[self.at..], self.coding)?);
            properties = bytes;
            self.at += length;
        }
        let payload = whole!(self.int());
        Ok(Some((Entry::Object { location, subgroup, priority, properties }, payload)))
    }
}

fn out_of_order() -> ProtocolError {
    ProtocolError::violation("a fetch stream's objects are not in the order asked for")
}

/// Whether `next` may come after `prior` on a fetch stream: groups in the order asked for, objects
/// always ascending.
fn follows(next: Location, prior: Location, order: GroupOrder) -> bool {
    if next.group == prior.group {
        return next.object > prior.object;
    }
    (next.group > prior.group) == (order == GroupOrder::Ascending)
}

/// Where an object is, from the fields that were sent.
fn locate(
    version: Version,
    order: GroupOrder,
    prior: Option<Location>,
    group: Option<u64>,
    object: Option<u64>,
) -> Result<Location, ProtocolError> {
    let Some(prior) = prior else {
        return match (group, object) {
            (Some(group), Some(object)) => Ok(Location { group, object }),
            _ => Err(ProtocolError::violation("the first fetched object refers to one before it")),
        };
    };
    let exceeds = |what: &str| ProtocolError::violation(format!("{what} is out of its range"));
    let next_object = || prior.object.checked_add(1).ok_or_else(|| exceeds("an Object ID"));
    // Draft 16 writes the IDs themselves, later drafts differences.
    let absolute = version <= Version::Draft16;
    let location = Location {
        group: match group {
            None => prior.group,
            Some(group) if absolute => group,
            Some(delta) => delta
                .checked_add(1)
                .and_then(|step| match order {
                    GroupOrder::Ascending => prior.group.checked_add(step),
                    GroupOrder::Descending => prior.group.checked_sub(step),
                })
                .ok_or_else(|| exceeds("a Group ID"))?,
        },
        object: match object {
            None => next_object()?,
            Some(object) if absolute || group.is_some() => object,
            Some(delta) => {
                prior.object.checked_add(delta).ok_or_else(|| exceeds("an Object ID"))?
            }
        },
    };
    if location.group.max(location.object) > version.int_coding().max() {
        return Err(exceeds("a Location"));
    }
    if follows(location, prior, order) { Ok(location) } else { Err(out_of_order()) }
}

/// An object that cannot be written here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{location} cannot follow {prior} on a fetch stream of this group order")]
pub struct OutOfOrder {
    /// What was to be written.
    pub location: Location,
    /// What was written last.
    pub prior: Location,
}

/// Writes the headers on one fetch stream, each as short as the draft allows.
#[derive(Debug)]
pub struct FetchWriter {
    version: Version,
    order: GroupOrder,
    prior: Prior,
    /// Whether `prior.subgroup` is the last object's, not an earlier one's.
    subgroup_is_last: bool,
}

impl FetchWriter {
    /// A writer for the answer to a FETCH or fill that asked for `order`.
    pub fn new(version: Version, order: GroupOrder) -> Self {
        Self { version, order, prior: Prior::default(), subgroup_is_last: false }
    }

    fn check(&self, location: Location) -> Result<(), OutOfOrder> {
        match self.prior.location {
            Some(prior) if !follows(location, prior, self.order) => {
                Err(OutOfOrder { location, prior })
            }
            _ => Ok(()),
        }
    }

    /// Appends an object's header; `payload` bytes must follow it. `properties` are as the object
    /// carries them, without their length; empty: none.
    pub fn object(
        &mut self,
        location: Location,
        subgroup: Option<u64>,
        priority: u8,
        properties: &[u8],
        payload: u64,
        buf: &mut BytesMut,
    ) -> Result<(), OutOfOrder> {
        self.check(location)?;
        let coding = self.version.int_coding();
        let absolute = self.version <= Version::Draft16;
        let prior = self.prior.location;
        let group = match prior {
            Some(prior) if prior.group == location.group => None,
            Some(prior) if !absolute => Some(prior.group.abs_diff(location.group) - 1),
            _ => Some(location.group),
        };
        let object = match prior {
            Some(prior) if prior.object.checked_add(1) == Some(location.object) => None,
            Some(prior) if group.is_none() && !absolute => Some(location.object - prior.object),
            _ => Some(location.object),
        };
        let last = self.prior.subgroup.filter(|_| self.subgroup_is_last);
        let subgroup_flags = match subgroup {
            None => DATAGRAM,
            Some(0) => SUBGROUP_ZERO,
            Some(id) if last == Some(id) => SUBGROUP_PRIOR,
            Some(id) if last.and_then(|last| last.checked_add(1)) == Some(id) => SUBGROUP_NEXT,
            Some(_) => SUBGROUP_PRESENT,
        };
        let flag = |on: bool, bit: u64| if on { bit } else { 0 };
        let flags = subgroup_flags
            | flag(object.is_some(), OBJECT_ID)
            | flag(group.is_some(), GROUP_ID)
            | flag(self.prior.priority != Some(priority), PRIORITY)
            | flag(!properties.is_empty(), PROPERTIES);
        coding.write(buf, flags);
        if let Some(group) = group {
            coding.write(buf, group);
        }
        if let (SUBGROUP_PRESENT, Some(id)) = (subgroup_flags, subgroup) {
            coding.write(buf, id);
        }
        if let Some(object) = object {
            coding.write(buf, object);
        }
        if flags & PRIORITY != 0 {
            buf.put_u8(priority);
        }
        if !properties.is_empty() {
            coding.write(buf, properties.len() as u64);
            buf.put_slice(properties);
        }
        coding.write(buf, payload);
        self.subgroup_is_last = subgroup.is_some();
        self.prior = Prior {
            location: Some(location),
            subgroup: subgroup.or(self.prior.subgroup),
            priority: Some(priority),
        };
        Ok(())
    }

    /// Appends the mark that no objects follow up to `end`, itself included.
    pub fn end_of_range(
        &mut self,
        end: Location,
        gap: Gap,
        buf: &mut BytesMut,
    ) -> Result<(), OutOfOrder> {
        self.check(end)?;
        let coding = self.version.int_coding();
        coding.write(buf, gap.to_wire(self.version));
        coding.write(buf, end.group);
        coding.write(buf, end.object);
        self.prior.location = Some(end);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VERSIONS: [Version; 3] = [Version::Draft16, Version::Draft18, Version::Draft22];

    /// What to put on a stream: steps that keep to the order.
    #[derive(Clone, Debug)]
    enum Step {
        Object {
            groups: u64,
            objects: u64,
            subgroup: Option<u64>,
            priority: u8,
            properties: bool,
            payload: usize,
        },
        End {
            groups: u64,
            objects: u64,
            gap: Gap,
        },
    }

    fn step() -> impl Strategy<Value = Step> {
        let place = || (0u64..3, 0u64..4);
        prop_oneof![
            4 => (place(), any::<Option<u8>>(), 0u8..3, any::<bool>(), 0usize..300).prop_map(
                |((groups, objects), subgroup, priority, properties, payload)| Step::Object {
                    groups, objects, subgroup: subgroup.map(|id| u64::from(id % 4)), priority,
                    properties, payload,
                }
            ),
            1 => (place(), prop_oneof![
                Just(Gap::NonExistent), Just(Gap::Unknown), Just(Gap::TimedOut)
            ])
            .prop_map(|((groups, objects), gap)| Step::End { groups, objects, gap }),
        ]
    }

    fn advance(at: Option<Location>, groups: u64, objects: u64, order: GroupOrder) -> Location {
        let Some(at) = at else { return Location { group: 1000 + groups, object: objects } };
        match (groups, order) {
            (0, _) => Location { object: at.object + 1 + objects, ..at },
            (_, GroupOrder::Ascending) => Location { group: at.group + groups, object: objects },
            (_, GroupOrder::Descending) => Location { group: at.group - groups, object: objects },
        }
    }

    proptest! {
        #[test]
        fn what_was_written_is_found_however_the_stream_is_cut(
            steps in prop::collection::vec(step(), 1..20),
            descending: bool,
            cuts in prop::collection::vec(1usize..90, 1..40),
        ) {
            let order = if descending { GroupOrder::Descending } else { GroupOrder::Ascending };
            for version in VERSIONS {
                let (mut stream, mut expected, mut at) = (BytesMut::new(), Vec::new(), None);
                let mut writer = FetchWriter::new(version, order);
                for step in &steps {
                    match *step {
                        Step::Object { groups, objects, subgroup, priority, properties, payload } => {
                            let location = advance(at, groups, objects, order);
                            at = Some(location);
                            let properties: &'static [u8] = if properties { &[0x10, 7] } else { &[] };
                            let start = stream.len() as u64;
                            writer.object(
                                location, subgroup, priority, properties, payload as u64, &mut stream,
                            ).unwrap();
                            expected.push(FetchMark::Object(FetchObject {
                                location, subgroup, priority, properties: Bytes::from_static(properties),
                                start, payload_start: stream.len() as u64, payload_len: payload as u64,
                            }));
                            stream.resize(stream.len() + payload, 0xee);
                        }
                        Step::End { groups, objects, gap } => {
                            let end = advance(at, groups, objects, order);
                            at = Some(end);
                            writer.end_of_range(end, gap, &mut stream).unwrap();
                            let told = match gap {
                                Gap::TimedOut if version < Version::Draft22 => Gap::Unknown,
                                gap => gap,
                            };
                            expected.push(FetchMark::EndOfRange { end, gap: told });
                        }
                    }
                }
                let mut scanner = FetchScanner::new(version, order);
                let (mut rest, mut found) = (stream.freeze(), Vec::new());
                for cut in cuts.iter().cycle() {
                    if rest.is_empty() { break; }
                    let chunk = rest.split_to(rest.len().min(*cut));
                    scanner.scan(&chunk, |mark| found.push(mark)).unwrap();
                }
                prop_assert_eq!(found, expected);
                prop_assert!(scanner.at_boundary());
            }
        }

        #[test]
        fn random_bytes_never_panic(bytes: Vec<u8>, descending: bool) {
            let order = if descending { GroupOrder::Descending } else { GroupOrder::Ascending };
            for version in VERSIONS {
                let mut scanner = FetchScanner::new(version, order);
                for chunk in bytes.chunks(3) {
                    let chunk = Bytes::copy_from_slice(chunk);
                    if scanner.scan(&chunk, |_| ()).is_err() { break; }
                }
            }
        }
    }

    #[test]
    fn the_first_object_refers_to_nothing() {
        let scan = |bytes: &'static [u8]| {
            FetchScanner::new(Version::Draft18, GroupOrder::Ascending)
                .scan(&Bytes::from_static(bytes), |_| ())
        };
        assert!(scan(&[0x1c, 1, 1, 128, 0]).is_ok());
        assert!(scan(&[0x18, 1, 128, 0]).is_err(), "object ID");
        assert!(scan(&[0x14, 1, 128, 0]).is_err(), "group ID");
        assert!(scan(&[0x0c, 1, 1, 0]).is_err(), "priority");
        assert!(scan(&[0x1d, 1, 1, 128, 0]).is_err(), "subgroup");
        assert!(scan(&[0x5d, 1, 1, 128, 0]).is_ok(), "a datagram's subgroup bits are ignored");
        // After an end of range there is a prior location, but still no subgroup or priority.
        assert!(scan(&[0x80, 0x8c, 1, 1, 0x10, 128, 0]).is_ok());
        assert!(scan(&[0x80, 0x8c, 1, 1, 0x00, 0]).is_err());
        assert!(scan(&[0x80, 0x8c, 1, 1, 0x11, 128, 0]).is_err());
    }

    #[test]
    fn disorder_is_a_violation_and_not_written() {
        let mut writer = FetchWriter::new(Version::Draft18, GroupOrder::Descending);
        let mut buf = BytesMut::new();
        let at = |group, object| Location { group, object };
        writer.object(at(5, 3), Some(0), 1, &[], 0, &mut buf).unwrap();
        let written = buf.len();
        assert!(writer.object(at(6, 0), Some(0), 1, &[], 0, &mut buf).is_err());
        assert!(writer.object(at(5, 3), Some(0), 1, &[], 0, &mut buf).is_err());
        assert!(writer.end_of_range(at(5, 2), Gap::Unknown, &mut buf).is_err());
        assert_eq!(buf.len(), written);
        // The same object again, as a difference of 0.
        let mut scanner = FetchScanner::new(Version::Draft18, GroupOrder::Descending);
        buf.extend_from_slice(&[0x04, 0, 0]);
        let error = scanner.scan(&buf.freeze(), |_| ()).unwrap_err();
        assert!(error.reason.contains("order"), "{error}");
    }
}
