//! Headers of data streams and datagrams ("Data Streams and Datagrams").

use bytes::{Buf, Bytes, BytesMut};

use crate::{IntCoding, ProtocolError, RawProperties};

/// What a unidirectional stream carries, told by its first integer ("Unidirectional Stream
/// Types").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// A control stream: SETUP comes first.
    Control,
    /// Objects of one subgroup.
    Subgroup,
    /// Objects in answer to a FETCH.
    Fetch,
    /// Nothing of meaning; read and forget.
    Padding,
}

const SETUP: u64 = 0x2f00;
const FETCH: u64 = 0x05;
const PADDING: u64 = 0x132b_3e28;
const PADDING_DATAGRAM: u64 = 0x132b_3e29;

const PROPERTIES: u64 = 0x01;
const SUBGROUP_ID_MODE: u64 = 0x06;
const END_OF_GROUP: u64 = 0x08;
const DEFAULT_PRIORITY: u64 = 0x20;
const FIRST_OBJECT: u64 = 0x40;

impl StreamKind {
    /// Looks at the start of a stream without taking anything; `None` asks for more bytes.
    pub fn peek(buf: &[u8], coding: IntCoding) -> Result<Option<Self>, ProtocolError> {
        let Some((kind, _)) = coding.read(buf) else { return Ok(None) };
        match kind {
            FETCH => Ok(Some(Self::Fetch)),
            _ if is_subgroup(kind, coding) => Ok(Some(Self::Subgroup)),
            SETUP if coding == IntCoding::LeadingOnes => Ok(Some(Self::Control)),
            PADDING if coding == IntCoding::LeadingOnes => Ok(Some(Self::Padding)),
            _ => Err(ProtocolError::violation(format!("unknown stream type {kind:#x}"))),
        }
    }
}

fn is_subgroup(kind: u64, coding: IntCoding) -> bool {
    let flags = match coding {
        IntCoding::LeadingOnes => 0x7f,
        // Drafts with QUIC's integers do not say whether the first object is the first published.
        IntCoding::Quic => 0x7f & !FIRST_OBJECT,
    };
    kind & !flags == 0 && kind & 0x10 != 0 && kind & SUBGROUP_ID_MODE != SUBGROUP_ID_MODE
}

/// How a subgroup header says which subgroup it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SubgroupId {
    /// The subgroup's ID.
    Known(u64),
    /// The ID of the first object on the stream.
    FirstObject,
}

/// SUBGROUP_HEADER ("Subgroup Header").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubgroupHeader {
    /// What the subscription calls its track.
    pub track_alias: u64,
    /// The group.
    pub group: u64,
    /// The subgroup.
    pub subgroup: SubgroupId,
    /// Publisher priority; `None`: the track's default.
    pub priority: Option<u8>,
    /// Whether every object has a properties field.
    pub properties: bool,
    /// Whether the subgroup holds the group's largest object.
    pub end_of_group: bool,
    /// Whether the stream starts with the first object ever published in the subgroup. Draft 16
    /// cannot say it.
    pub first_object: bool,
}

impl SubgroupHeader {
    /// Takes a header off the front of `buf`; `None` when it is not whole yet.
    pub fn decode(buf: &mut BytesMut, coding: IntCoding) -> Result<Option<Self>, ProtocolError> {
        let mut cursor = Cursor { buf, at: 0, coding };
        let Some(kind) = cursor.int() else { return Ok(None) };
        if !is_subgroup(kind, coding) {
            return Err(ProtocolError::violation(format!(
                "invalid SUBGROUP_HEADER type {kind:#x}"
            )));
        }
        let (Some(track_alias), Some(group)) = (cursor.int(), cursor.int()) else {
            return Ok(None);
        };
        let subgroup = match (kind & SUBGROUP_ID_MODE) >> 1 {
            0 => SubgroupId::Known(0),
            1 => SubgroupId::FirstObject,
            _ => match cursor.int() {
                Some(id) => SubgroupId::Known(id),
                None => return Ok(None),
            },
        };
        let priority = if kind & DEFAULT_PRIORITY == 0 {
            let Some(priority) = cursor.u8() else { return Ok(None) };
            Some(priority)
        } else {
            None
        };
        let length = cursor.at;
        buf.advance(length);
        Ok(Some(Self {
            track_alias,
            group,
            subgroup,
            priority,
            properties: kind & PROPERTIES != 0,
            end_of_group: kind & END_OF_GROUP != 0,
            first_object: kind & FIRST_OBJECT != 0,
        }))
    }

    /// Appends the header in its shortest form.
    pub fn encode(&self, buf: &mut BytesMut, coding: IntCoding) {
        let mode = match self.subgroup {
            SubgroupId::Known(0) => 0,
            SubgroupId::FirstObject => 1,
            SubgroupId::Known(_) => 2,
        };
        let flag = |on: bool, bit: u64| if on { bit } else { 0 };
        let kind = 0x10
            | flag(self.properties, PROPERTIES)
            | mode << 1
            | flag(self.end_of_group, END_OF_GROUP)
            | flag(self.priority.is_none(), DEFAULT_PRIORITY)
            | flag(self.first_object && coding == IntCoding::LeadingOnes, FIRST_OBJECT);
        coding.write(buf, kind);
        coding.write(buf, self.track_alias);
        coding.write(buf, self.group);
        if let SubgroupId::Known(id @ 1..) = self.subgroup {
            coding.write(buf, id);
        }
        if let Some(priority) = self.priority {
            buf.extend_from_slice(&[priority]);
        }
    }
}

/// FETCH_HEADER ("Fetch Header").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchHeader {
    /// The FETCH that the stream answers.
    pub request: u64,
}

impl FetchHeader {
    /// Takes a header off the front of `buf`; `None` when it is not whole yet.
    pub fn decode(buf: &mut BytesMut, coding: IntCoding) -> Result<Option<Self>, ProtocolError> {
        let mut cursor = Cursor { buf, at: 0, coding };
        let (Some(kind), Some(request)) = (cursor.int(), cursor.int()) else { return Ok(None) };
        if kind != FETCH {
            return Err(ProtocolError::violation(format!("invalid FETCH_HEADER type {kind:#x}")));
        }
        let length = cursor.at;
        buf.advance(length);
        Ok(Some(Self { request }))
    }

    /// Appends the header.
    pub fn encode(&self, buf: &mut BytesMut, coding: IntCoding) {
        coding.write(buf, FETCH);
        coding.write(buf, self.request);
    }
}

/// Whether an object is one ("Object Status").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectStatus {
    /// An object with its payload.
    Normal,
    /// No object with this ID or a larger one is in the group.
    EndOfGroup,
    /// No object here or later is in the track.
    EndOfTrack,
}

impl ObjectStatus {
    pub(crate) fn from_wire(value: u64) -> Result<Self, ProtocolError> {
        match value {
            0 => Ok(Self::Normal),
            3 => Ok(Self::EndOfGroup),
            4 => Ok(Self::EndOfTrack),
            other => Err(ProtocolError::violation(format!("unknown Object Status {other:#x}"))),
        }
    }

    fn to_wire(self) -> u64 {
        match self {
            Self::Normal => 0,
            Self::EndOfGroup => 3,
            Self::EndOfTrack => 4,
        }
    }
}

/// Writes the fields before an object's payload on a subgroup stream ("Subgroup Header").
#[derive(Clone, Copy, Debug)]
pub struct ObjectHeader<'a> {
    /// The object.
    pub id: u64,
    /// The object before it on this stream.
    pub previous: Option<u64>,
    /// Its properties as they go on the wire; `None` when the stream carries no such field.
    pub properties: Option<&'a Bytes>,
    /// Payload length in bytes.
    pub payload: u64,
    /// Its status, written when there is no payload.
    pub status: ObjectStatus,
}

impl ObjectHeader<'_> {
    /// Appends the fields.
    ///
    /// # Panics
    /// If `id` is not larger than `previous`.
    pub fn encode(&self, buf: &mut BytesMut, coding: IntCoding) {
        let delta = match self.previous {
            Some(previous) => self.id.checked_sub(previous + 1).expect("object IDs ascend"),
            None => self.id,
        };
        coding.write(buf, delta);
        if let Some(properties) = self.properties {
            coding.write(buf, properties.len() as u64);
            buf.extend_from_slice(properties);
        }
        coding.write(buf, self.payload);
        if self.payload == 0 {
            coding.write(buf, self.status.to_wire());
        }
    }
}

/// What a datagram says of its object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatagramBody {
    /// The object's payload.
    Payload(Bytes),
    /// No payload, but a status.
    Status(ObjectStatus),
}

/// OBJECT_DATAGRAM ("Object Datagram").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// What the subscription calls its track.
    pub track_alias: u64,
    /// The group.
    pub group: u64,
    /// The object.
    pub object: u64,
    /// Publisher priority; `None`: the track's default.
    pub priority: Option<u8>,
    /// The properties' bytes, without their length; empty: none.
    pub properties: Bytes,
    /// Whether it is the group's last object.
    pub end_of_group: bool,
    /// Payload or status.
    pub body: DatagramBody,
}

const ZERO_OBJECT_ID: u64 = 0x04;
const STATUS: u64 = 0x20;
const DATAGRAM_END_OF_GROUP: u64 = 0x02;

impl Datagram {
    /// Parses a whole datagram; `None` for padding.
    pub fn decode(bytes: Bytes, coding: IntCoding) -> Result<Option<Self>, ProtocolError> {
        let mut r = crate::Reader::new(bytes, coding);
        let kind = r.int("datagram type")?;
        if kind == PADDING_DATAGRAM && coding == IntCoding::LeadingOnes {
            return Ok(None);
        }
        let both = STATUS | DATAGRAM_END_OF_GROUP;
        if kind & !0x2f != 0 || kind & both == both {
            return Err(ProtocolError::violation(format!("unknown datagram type {kind:#x}")));
        }
        let track_alias = r.int("Track Alias")?;
        let group = r.int("Group ID")?;
        let object = if kind & ZERO_OBJECT_ID == 0 { r.int("Object ID")? } else { 0 };
        let priority = if kind & 0x08 == 0 { Some(r.u8("Publisher Priority")?) } else { None };
        let properties = if kind & PROPERTIES == 0 {
            Bytes::new()
        } else {
            let properties = r.prefixed(usize::MAX, "Properties")?;
            if properties.is_empty() {
                return Err(ProtocolError::violation("a datagram's Properties Length is 0"));
            }
            RawProperties::new(&properties, coding).check()?;
            properties
        };
        let body = if kind & STATUS == 0 {
            DatagramBody::Payload(r.rest())
        } else {
            let status = ObjectStatus::from_wire(r.int("Object Status")?)?;
            if !r.is_empty() {
                return Err(ProtocolError::violation("a status datagram has a payload"));
            }
            if status != ObjectStatus::Normal && !properties.is_empty() {
                return Err(ProtocolError::violation(
                    "an object that is not Normal has properties",
                ));
            }
            DatagramBody::Status(status)
        };
        Ok(Some(Self {
            track_alias,
            group,
            object,
            priority,
            properties,
            end_of_group: kind & DATAGRAM_END_OF_GROUP != 0,
            body,
        }))
    }

    /// The datagram's bytes in their shortest form.
    pub fn to_bytes(&self, coding: IntCoding) -> Bytes {
        let flag = |on: bool, bit: u64| if on { bit } else { 0 };
        let kind = flag(!self.properties.is_empty(), PROPERTIES)
            | flag(self.end_of_group, DATAGRAM_END_OF_GROUP)
            | flag(self.object == 0, ZERO_OBJECT_ID)
            | flag(self.priority.is_none(), 0x08)
            | flag(matches!(self.body, DatagramBody::Status(_)), STATUS);
        let mut buf = BytesMut::new();
        coding.write(&mut buf, kind);
        coding.write(&mut buf, self.track_alias);
        coding.write(&mut buf, self.group);
        if self.object != 0 {
            coding.write(&mut buf, self.object);
        }
        buf.extend(self.priority);
        if !self.properties.is_empty() {
            coding.write(&mut buf, self.properties.len() as u64);
            buf.extend_from_slice(&self.properties);
        }
        match &self.body {
            DatagramBody::Payload(payload) => buf.extend_from_slice(payload),
            DatagramBody::Status(status) => coding.write(&mut buf, status.to_wire()),
        }
        buf.freeze()
    }
}

/// Reads from a buffer that may end anywhere, without consuming it.
struct Cursor<'a> {
    buf: &'a [u8],
    at: usize,
    coding: IntCoding,
}

impl Cursor<'_> {
    fn int(&mut self) -> Option<u64> {
        let (value, length) = self.coding.read(self.buf.get(self.at..)?)?;
        self.at += length;
        Some(value)
    }

    fn u8(&mut self) -> Option<u8> {
        let value = *self.buf.get(self.at)?;
        self.at += 1;
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> impl Strategy<Value = SubgroupHeader> {
        (
            any::<u64>(),
            any::<u64>(),
            prop_oneof![
                Just(SubgroupId::FirstObject),
                any::<u64>().prop_map(SubgroupId::Known),
                Just(SubgroupId::Known(0))
            ],
            any::<Option<u8>>(),
            any::<(bool, bool, bool)>(),
        )
            .prop_map(|(track_alias, group, subgroup, priority, flags)| SubgroupHeader {
                track_alias,
                group,
                subgroup,
                priority,
                properties: flags.0,
                end_of_group: flags.1,
                first_object: flags.2,
            })
    }

    proptest! {
        #[test]
        fn a_subgroup_header_survives_any_split(header in header()) {
            let mut buf = BytesMut::new();
            header.encode(&mut buf, IntCoding::LeadingOnes);
            prop_assert_eq!(
                StreamKind::peek(&buf, IntCoding::LeadingOnes),
                Ok(Some(StreamKind::Subgroup))
            );
            for cut in 0..buf.len() {
                let mut part = BytesMut::from(&buf[..cut]);
                prop_assert_eq!(SubgroupHeader::decode(&mut part, IntCoding::LeadingOnes), Ok(None));
                prop_assert_eq!(part.len(), cut);
            }
            let decoded = SubgroupHeader::decode(&mut buf, IntCoding::LeadingOnes);
            prop_assert_eq!(decoded, Ok(Some(header)));
            prop_assert!(buf.is_empty());
        }

        #[test]
        fn any_datagram_parses_or_is_refused(bytes: Vec<u8>) {
            if let Ok(Some(datagram)) = Datagram::decode(bytes.into(), IntCoding::LeadingOnes) {
                let again = Datagram::decode(datagram.to_bytes(IntCoding::LeadingOnes), IntCoding::LeadingOnes);
                prop_assert_eq!(again, Ok(Some(datagram)));
            }
        }
    }

    #[test]
    fn padding_is_nothing() {
        let datagram = Bytes::from_static(&[0xf0, 0x13, 0x2b, 0x3e, 0x29, 0, 0]);
        assert_eq!(Datagram::decode(datagram, IntCoding::LeadingOnes), Ok(None));
        // A stream's padding is no datagram's, nor the other way round.
        let stream = [0xf0, 0x13, 0x2b, 0x3e, 0x28];
        assert!(Datagram::decode(Bytes::copy_from_slice(&stream), IntCoding::LeadingOnes).is_err());
        let kind = StreamKind::peek(&stream, IntCoding::LeadingOnes);
        assert_eq!(kind, Ok(Some(StreamKind::Padding)));
    }

    #[test]
    fn draft_16_does_not_know_first_objects() {
        assert!(StreamKind::peek(&[0x40, 0x50], IntCoding::Quic).is_err());
        assert!(StreamKind::peek(&[0x6f, 0x00], IntCoding::Quic).is_err());
        let header = SubgroupHeader {
            track_alias: 1,
            group: 2,
            subgroup: SubgroupId::Known(0),
            priority: None,
            properties: false,
            end_of_group: false,
            first_object: true,
        };
        let mut buf = BytesMut::new();
        header.encode(&mut buf, IntCoding::Quic);
        assert_eq!(&buf[..], &[0x30, 1, 2]);
        let decoded = SubgroupHeader::decode(&mut buf, IntCoding::Quic).unwrap().unwrap();
        assert_eq!(decoded, SubgroupHeader { first_object: false, ..header });
    }

    #[test]
    fn reserved_stream_types_are_violations() {
        for kind in [0x16u8, 0x1f, 0x36, 0x7e, 0x00, 0x20, 0x40] {
            assert!(StreamKind::peek(&[kind], IntCoding::LeadingOnes).is_err(), "{kind:#x}");
        }
        assert_eq!(
            StreamKind::peek(&[0xaf, 0x00], IntCoding::LeadingOnes),
            Ok(Some(StreamKind::Control))
        );
    }
}
