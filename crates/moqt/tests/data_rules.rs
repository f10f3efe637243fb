//! What the drafts forbid in datagrams and on data streams, byte by byte ("Data Streams and
//! Datagrams").

use bytes::{Bytes, BytesMut};
use moqt::{
    Datagram, DatagramBody, FetchMark, FetchScanner, Gap, GroupOrder, IntCoding, Location,
    ObjectMark, ObjectScanner, ObjectStatus, ProtocolError, SessionCode, StreamKind,
    SubgroupHeader, SubgroupId, Version,
};

const CODINGS: [IntCoding; 2] = [IntCoding::LeadingOnes, IntCoding::Quic];
const VIOLATION: SessionCode = SessionCode::PROTOCOL_VIOLATION;

fn datagram(bytes: &'static [u8], coding: IntCoding) -> Result<Datagram, SessionCode> {
    match Datagram::decode(Bytes::from_static(bytes), coding) {
        Ok(datagram) => Ok(datagram.expect("no padding")),
        Err(error) => Err(error.code),
    }
}

#[test]
fn datagrams_that_contradict_themselves_are_violations() {
    for coding in CODINGS {
        let datagram = |bytes| datagram(bytes, coding);
        // Alias 1, group 2, object 3, priority 4, payload.
        let plain = datagram(&[0x00, 1, 2, 3, 4, b'p']).unwrap();
        assert_eq!((plain.group, plain.object, plain.priority), (2, 3, Some(4)));
        assert_eq!(plain.body, DatagramBody::Payload(Bytes::from_static(b"p")));
        // STATUS and END_OF_GROUP, reserved bits, an unknown type.
        assert_eq!(datagram(&[0x22, 1, 2, 3, 4, 0]), Err(VIOLATION));
        assert_eq!(datagram(&[0x10, 1, 2, 3, 4]), Err(VIOLATION));
        assert_eq!(datagram(&[0x3f, 1, 2, 3, 4]), Err(VIOLATION));
        // PROPERTIES with none of them.
        assert_eq!(datagram(&[0x01, 1, 2, 3, 4, 0, b'p']), Err(VIOLATION));
        assert!(datagram(&[0x01, 1, 2, 3, 4, 2, 0x0e, 1, b'p']).is_ok());
        // Properties on an object that is not Normal, a status nobody knows, a payload behind one.
        assert_eq!(datagram(&[0x21, 1, 2, 3, 4, 2, 0x0e, 1, 3]), Err(VIOLATION));
        assert!(datagram(&[0x21, 1, 2, 3, 4, 2, 0x0e, 1, 0]).is_ok());
        assert_eq!(datagram(&[0x20, 1, 2, 3, 4, 1]), Err(VIOLATION));
        assert_eq!(datagram(&[0x20, 1, 2, 3, 4, 3, b'p']), Err(VIOLATION));
        let end = datagram(&[0x20, 1, 2, 3, 4, 3]).unwrap();
        assert_eq!(end.body, DatagramBody::Status(ObjectStatus::EndOfGroup));
    }
}

fn objects(
    properties: bool,
    coding: IntCoding,
    bytes: &[u8],
) -> Result<Vec<ObjectMark>, ProtocolError> {
    let header = SubgroupHeader {
        track_alias: 1,
        group: 2,
        subgroup: SubgroupId::Known(0),
        priority: None,
        properties,
        end_of_group: false,
        first_object: true,
    };
    let mut found = Vec::new();
    ObjectScanner::new(&header, coding).scan(bytes, |mark| found.push(mark))?;
    Ok(found)
}

#[test]
fn objects_of_a_subgroup_that_cannot_be_are_violations() {
    for coding in CODINGS {
        let objects = |properties, bytes: &[u8]| {
            objects(properties, coding, bytes).map_err(|error| error.code)
        };
        // Object 5 with a byte of payload, then an empty one whose status is Normal.
        let found = objects(false, &[5, 1, b'p', 0, 0, 0]).unwrap();
        assert_eq!(found.iter().map(|mark| mark.id).collect::<Vec<_>>(), [5, 6]);
        assert_eq!(objects(false, &[5, 0, 1]), Err(VIOLATION), "a status nobody knows");
        assert_eq!(objects(false, &[5, 0, 2]), Err(VIOLATION), "a status of older drafts");
        assert!(objects(true, &[5, 0, 0, 3]).is_ok(), "the end of a group, with no properties");
        assert_eq!(objects(true, &[5, 2, 0x0e, 1, 0, 3]), Err(VIOLATION), "and with some");
        // The ID after the largest that can be written.
        let mut bytes = BytesMut::new();
        coding.write(&mut bytes, coding.max());
        bytes.extend_from_slice(&[1, b'p', 0]);
        assert_eq!(objects(false, &bytes), Err(VIOLATION));
    }
}

fn fetched(
    version: Version,
    order: GroupOrder,
    bytes: &[u8],
) -> Result<Vec<FetchMark>, SessionCode> {
    let mut found = Vec::new();
    let mut scanner = FetchScanner::new(version, order);
    let bytes = Bytes::copy_from_slice(bytes);
    scanner.scan(&bytes, |mark| found.push(mark)).map_err(|error| error.code)?;
    Ok(found)
}

/// Group and object ID, priority 7; group 3, object 4; an empty payload.
const FIRST: [u8; 5] = [0x1c, 3, 4, 7, 0];

#[test]
fn fetched_objects_refer_only_to_what_came_before() {
    for version in [Version::Draft16, Version::Draft18, Version::Draft22] {
        let ascending = |bytes: &[u8]| fetched(version, GroupOrder::Ascending, bytes);
        assert!(ascending(&FIRST).is_ok());
        for flags in [0x00, 0x14, 0x18, 0x0c, 0x1d, 0x1e] {
            assert_eq!(ascending(&[flags, 3, 4, 7, 0]), Err(VIOLATION), "{flags:#x} first");
        }
        // After a range that holds nothing there is a prior place, but no subgroup or priority.
        let range = |rest: &[u8]| {
            let mut bytes = BytesMut::new();
            version.int_coding().write(&mut bytes, 0x10c);
            bytes.extend_from_slice(&[3, 4]);
            bytes.extend_from_slice(rest);
            ascending(&bytes)
        };
        let end =
            FetchMark::EndOfRange { end: Location { group: 3, object: 4 }, gap: Gap::Unknown };
        assert_eq!(range(&[]), Ok(vec![end]));
        let found = range(&[0x10, 7, 0]).unwrap();
        let [_, FetchMark::Object(object)] = &found[..] else { panic!("{found:?}") };
        assert_eq!(object.location, Location { group: 3, object: 5 });
        assert_eq!(range(&[0x00, 0]), Err(VIOLATION), "the priority of none");
        assert_eq!(range(&[0x11, 7, 0]), Err(VIOLATION), "the subgroup of none");
    }
}

#[test]
fn a_datagrams_subgroup_bits_are_ignored_when_it_is_fetched() {
    for version in [Version::Draft16, Version::Draft18, Version::Draft22] {
        for bits in 0..4 {
            let bytes = [&FIRST[..], &[0x40 | bits, 0]].concat();
            let mut bytes = bytes;
            if version.int_coding() == IntCoding::Quic {
                // 0x40 and more take two bytes of QUIC's integers.
                bytes.splice(5..6, [0x40, 0x40 | bits]);
            }
            let found = fetched(version, GroupOrder::Ascending, &bytes).unwrap();
            let Some(FetchMark::Object(object)) = found.last() else { panic!("{found:?}") };
            assert_eq!((object.subgroup, object.location.object), (None, 5));
        }
    }
}

#[test]
fn flags_of_a_fetched_object_that_nobody_knows_are_violations() {
    for (version, timed_out) in [
        (Version::Draft16, Err(VIOLATION)),
        (Version::Draft18, Err(VIOLATION)),
        (Version::Draft22, Ok(1)),
    ] {
        let flags = |flags: u64| {
            let mut bytes = BytesMut::new();
            version.int_coding().write(&mut bytes, flags);
            bytes.extend_from_slice(&[3, 4]);
            fetched(version, GroupOrder::Descending, &bytes).map(|found| found.len())
        };
        assert_eq!(flags(0x8c), Ok(1));
        assert_eq!(flags(0x10c), Ok(1));
        assert_eq!(flags(0x20c), timed_out);
        assert_eq!(flags(0x80), Err(VIOLATION));
        assert_eq!(flags(0x18c), Err(VIOLATION));
    }
}

#[test]
fn groups_of_a_fetch_stay_within_their_range() {
    for version in [Version::Draft18, Version::Draft22] {
        // Three groups below group 3 there is none.
        let down = |delta| {
            fetched(version, GroupOrder::Descending, &[&FIRST[..], &[0x0c, delta, 0, 0]].concat())
        };
        assert!(down(2).is_ok());
        assert_eq!(down(3), Err(VIOLATION));
        let mut most = BytesMut::from(&FIRST[..]);
        most.extend_from_slice(&[0x0c]);
        version.int_coding().write(&mut most, u64::MAX - 3);
        most.extend_from_slice(&[0, 0]);
        assert_eq!(fetched(version, GroupOrder::Ascending, &most), Err(VIOLATION));
    }
}

#[test]
fn stream_types_that_nobody_knows_are_violations() {
    for coding in CODINGS {
        for kind in [0x00u64, 0x04, 0x06, 0x16, 0x20, 0x3e, 0x80, 0x2f01] {
            let mut bytes = BytesMut::new();
            coding.write(&mut bytes, kind);
            let peeked = StreamKind::peek(&bytes, coding).map_err(|error| error.code);
            assert_eq!(peeked, Err(VIOLATION), "{kind:#x}");
        }
        assert_eq!(StreamKind::peek(&[0x05], coding), Ok(Some(StreamKind::Fetch)));
        assert_eq!(StreamKind::peek(&[0x15], coding), Ok(Some(StreamKind::Subgroup)));
    }
}
