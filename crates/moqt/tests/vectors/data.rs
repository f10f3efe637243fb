//! Integers, subgroup streams, fetch streams, datagrams and properties.

use bytes::{Bytes, BytesMut};
use moqt::{
    Datagram, DatagramBody, FetchHeader, FetchMark, FetchScanner, FetchWriter, Gap, GroupOrder,
    IntCoding, Location, ObjectStatus, Properties, SubgroupHeader, SubgroupId, Version, property,
};
use serde_json::{Value, json};

use super::super::data::{
    Entry, Object, Outcome, datagrams_agree, fetches_agree, our_fetch, our_subgroup, status_code,
    subgroups_agree, write_fetch, write_subgroup,
};
use super::{DraftVersion, Vector, bytes_of, hex, pairs};

fn text(value: u64) -> Value {
    value.to_string().into()
}

/// Variable-length integers on both sides of every length.
pub(super) fn integers(version: Version) -> Vec<Vector> {
    let coding = version.int_coding();
    let named: [(&'static str, u64); 7] = [
        ("zero", 0),
        ("one byte's largest", (1 << 6) - 1),
        ("two bytes", 300),
        ("a timestamp in microseconds", 1_767_225_600_000_000),
        ("above what a double counts to", (1 << 53) + 1),
        ("draft 16's largest", (1 << 62) - 1),
        ("the largest", coding.max()),
    ];
    let value = |bytes: &[u8]| json!({ "value": text(coding.read(bytes).unwrap().0) });
    let mut all: Vec<Vector> = named
        .into_iter()
        .filter(|(name, value)| *name == "the largest" || *value < coding.max())
        .map(|(name, value)| {
            let mut bytes = BytesMut::new();
            coding.write(&mut bytes, value);
            Vector {
                name,
                bytes: bytes.to_vec(),
                canonical: true,
                says: json!({ "value": text(value) }),
            }
        })
        .collect();
    let lengths: &[(&'static str, &str)] = match coding {
        IntCoding::Quic => &[
            ("two bytes, smallest", "4040"),
            ("two bytes, largest", "7fff"),
            ("four bytes, smallest", "80004000"),
            ("four bytes, largest", "bfffffff"),
            ("eight bytes, smallest", "c000000040000000"),
        ],
        IntCoding::LeadingOnes => &[
            ("one byte, largest", "7f"),
            ("two bytes, smallest", "8080"),
            ("two bytes, largest", "bfff"),
            ("three bytes, smallest", "c04000"),
            ("four bytes, smallest", "e0200000"),
            ("five bytes, smallest", "f010000000"),
            ("six bytes, smallest", "f80800000000"),
            ("seven bytes, smallest", "fc040000000000"),
            ("eight bytes, smallest", "fe02000000000000"),
            ("nine bytes, smallest", "ff0100000000000000"),
        ],
    };
    for (name, hex) in lengths {
        let bytes = bytes_of(hex);
        let says = value(&bytes);
        let mut again = BytesMut::new();
        coding.write(&mut again, coding.read(&bytes).unwrap().0);
        assert_eq!(&again[..], &bytes[..], "{name}");
        all.push(Vector { name, bytes, canonical: true, says });
    }
    let wide: &[(&'static str, &str)] = match coding {
        IntCoding::Quic => {
            &[("37 in two bytes", "4025"), ("37 in eight bytes", "c000000000000025")]
        }
        IntCoding::LeadingOnes => &[
            ("37 in two bytes", "8025"),
            ("37 in seven bytes", "fc000000000025"),
            ("37 in nine bytes", "ff0000000000000025"),
        ],
    };
    for (name, hex) in wide {
        let bytes = bytes_of(hex);
        let says = value(&bytes);
        all.push(Vector { name, bytes, canonical: false, says });
    }
    all
}

fn says_subgroup(version: Version, stream: &[u8]) -> Value {
    let (header, objects, outcome) = our_subgroup(version, stream);
    assert_eq!(outcome, Outcome::Clean);
    let header = header.expect("a clean stream has a header");
    let mut says = json!({
        "track_alias": text(header.track_alias),
        "group_id": text(header.group),
        "properties": header.properties,
        "end_of_group": header.end_of_group,
    });
    // Absent: the first object's ID, the track's default.
    if let SubgroupId::Known(id) = header.subgroup {
        says["subgroup_id"] = text(id);
    }
    if let Some(priority) = header.priority {
        says["publisher_priority"] = text(priority.into());
    }
    if version > Version::Draft16 {
        says["first_object"] = header.first_object.into();
    }
    let object = |(id, properties, status, payload): (u64, Vec<u8>, u64, Vec<u8>)| {
        json!({
            "object_id": text(id),
            "properties": pairs(&properties, version.int_coding()).unwrap(),
            "object_status": text(status),
            "payload": hex(&payload),
        })
    };
    json!({ "header": says, "objects": objects.into_iter().map(object).collect::<Value>() })
}

/// A frame's properties as LOC has them: a timestamp and a frame marking.
fn frame_properties(coding: IntCoding) -> Bytes {
    let mut properties = Properties::new();
    properties.push_int(0x10, 1_767_225_600_000_000);
    properties.push_bytes(0x0d, Bytes::from_static(&[0x01, 0x64, 0x00]));
    properties.to_bytes(coding)
}

pub(super) fn subgroups(version: Version, draft: DraftVersion) -> Vec<Vector> {
    let coding = version.int_coding();
    let plain = SubgroupHeader {
        track_alias: 7,
        group: 1041,
        subgroup: SubgroupId::Known(0),
        priority: None,
        properties: false,
        end_of_group: false,
        first_object: version > Version::Draft16,
    };
    let object = |gap, properties: &Bytes, payload: &'static [u8]| Object {
        gap,
        properties: properties.clone(),
        payload: Bytes::from_static(payload),
        status: ObjectStatus::Normal,
    };
    let end = |status| Object { status, ..object(0, &Bytes::new(), b"") };
    let none = Bytes::new();
    let frame = frame_properties(coding);
    let two = || vec![object(0, &none, b"key"), object(0, &none, b"delta")];
    let cases = [
        ("a header alone", plain, Vec::new()),
        ("two objects", plain, two()),
        (
            "objects with properties",
            SubgroupHeader { properties: true, ..plain },
            vec![object(0, &frame, b"key"), object(0, &none, b"delta")],
        ),
        (
            "a later subgroup with a priority",
            SubgroupHeader { subgroup: SubgroupId::Known(2), priority: Some(200), ..plain },
            vec![object(5, &none, b"a"), object(3, &none, b"b")],
        ),
        (
            "a subgroup named by its first object",
            SubgroupHeader { subgroup: SubgroupId::FirstObject, ..plain },
            vec![object(300, &none, b"a")],
        ),
        (
            "joined late",
            SubgroupHeader { first_object: false, ..plain },
            vec![object(9, &none, b"a")],
        ),
        (
            "a whole group",
            SubgroupHeader { end_of_group: true, properties: true, ..plain },
            vec![object(0, &frame, b"key"), end(ObjectStatus::EndOfGroup)],
        ),
        ("a track's end", plain, vec![end(ObjectStatus::EndOfTrack)]),
        ("an empty object", plain, vec![object(0, &none, b"")]),
        (
            "the largest numbers",
            SubgroupHeader {
                track_alias: coding.max(),
                group: coding.max(),
                subgroup: SubgroupId::Known(coding.max()),
                priority: Some(255),
                ..plain
            },
            vec![object(0, &none, b"a")],
        ),
    ];
    let written = cases.into_iter().map(|(name, header, objects)| {
        let bytes = write_subgroup(version, &header, &objects).to_vec();
        let outcome = subgroups_agree((version, draft), &bytes)
            .unwrap_or_else(|error| panic!("{version}, {name}: {error}"));
        assert_eq!(outcome, Outcome::Clean, "{version}, {name}");
        let says = says_subgroup(version, &bytes);
        Vector { name, bytes, canonical: true, says }
    });
    // Subgroup 0, written out; the group in more bytes than it needs.
    let wide = match coding {
        IntCoding::Quic => "14 07 80000029 00 80 00 01 61",
        IntCoding::LeadingOnes => "54 07 c00029 00 80 00 01 61",
    };
    let read = [("an explicit subgroup 0 and wide integers", wide)].map(|(name, hex)| {
        let bytes = bytes_of(hex);
        let says = says_subgroup(version, &bytes);
        Vector { name, bytes, canonical: false, says }
    });
    written.chain(read).collect()
}

fn order_name(order: GroupOrder) -> &'static str {
    match order {
        GroupOrder::Ascending => "ascending",
        GroupOrder::Descending => "descending",
    }
}

fn says_fetch(version: Version, order: GroupOrder, stream: &[u8]) -> Value {
    let coding = version.int_coding();
    let (_, outcome) = our_fetch(version, order, stream);
    assert_eq!(outcome, Outcome::Clean);
    let mut rest = BytesMut::from(stream);
    let header = FetchHeader::decode(&mut rest, coding).unwrap().unwrap();
    let rest = rest.freeze();
    let mut entries = Vec::new();
    let mut scanner = FetchScanner::new(version, order);
    let location = |l: Location| json!({ "group_id": text(l.group), "object_id": text(l.object) });
    scanner
        .scan(&rest, |mark| {
            entries.push(match mark {
                FetchMark::Object(object) => {
                    let mut says = location(object.location);
                    // Absent: it was published as a datagram.
                    if let Some(id) = object.subgroup {
                        says["subgroup_id"] = text(id);
                    }
                    let payload = object.payload_start as usize..object.end() as usize;
                    says["publisher_priority"] = text(object.priority.into());
                    says["properties"] = pairs(&object.properties, coding).unwrap();
                    says["payload"] = hex(&rest[payload]).into();
                    says
                }
                FetchMark::EndOfRange { end, gap } => {
                    let mut says = location(end);
                    says["end_of_range"] = match gap {
                        Gap::NonExistent => "non-existent",
                        Gap::Unknown => "unknown",
                        Gap::TimedOut => "timed-out",
                    }
                    .into();
                    says
                }
            });
        })
        .unwrap();
    json!({
        "request_id": text(header.request),
        "group_order": order_name(order),
        "entries": entries,
    })
}

pub(super) fn fetches(version: Version, draft: DraftVersion) -> Vec<Vector> {
    let frame = frame_properties(version.int_coding());
    let entry = |groups, objects, subgroup, priority, properties: &Bytes| Entry {
        groups,
        objects,
        subgroup,
        priority,
        properties: properties.clone(),
        payload: Bytes::from_static(b"data"),
    };
    let none = Bytes::new();
    let varied = || {
        vec![
            entry(0, 2, Some(0), 64, &frame),
            entry(0, 0, Some(0), 64, &none),
            entry(0, 3, Some(1), 64, &none),
            entry(0, 0, Some(5), 9, &none),
            entry(1, 0, Some(5), 9, &none),
            entry(2, 7, None, 9, &none),
        ]
    };
    let mut all = Vec::new();
    for (name, order, entries) in [
        ("nothing", GroupOrder::Ascending, Vec::new()),
        ("one object", GroupOrder::Ascending, vec![entry(0, 0, Some(0), 128, &none)]),
        ("groups ascending", GroupOrder::Ascending, varied()),
        ("groups descending", GroupOrder::Descending, varied()),
    ] {
        let bytes = write_fetch(version, order, 8, &entries).to_vec();
        let outcome = fetches_agree((version, draft), order, &bytes)
            .unwrap_or_else(|error| panic!("{version}, {name}: {error}"));
        assert_eq!(outcome, Outcome::Clean, "{version}, {name}");
        let says = says_fetch(version, order, &bytes);
        all.push(Vector { name, bytes, canonical: true, says });
    }
    // The oracle writes ends of ranges otherwise: `the_oracle_writes_an_end_of_range_otherwise`.
    for (name, gap) in [
        ("a range that does not exist", Gap::NonExistent),
        ("a range that is not known", Gap::Unknown),
        ("a range that did not come in time", Gap::TimedOut),
    ] {
        if gap == Gap::TimedOut && version < Version::Draft22 {
            continue;
        }
        let order = GroupOrder::Ascending;
        let mut bytes = BytesMut::new();
        FetchHeader { request: 8 }.encode(&mut bytes, version.int_coding());
        let mut writer = FetchWriter::new(version, order);
        let at = |group, object| Location { group, object };
        writer.end_of_range(at(1040, 3), gap, &mut bytes).unwrap();
        writer.object(at(1040, 4), Some(0), 128, &[], 1, &mut bytes).unwrap();
        bytes.extend_from_slice(b"a");
        writer.end_of_range(at(1042, u64::from(u16::MAX)), gap, &mut bytes).unwrap();
        let says = says_fetch(version, order, &bytes);
        all.push(Vector { name, bytes: bytes.to_vec(), canonical: true, says });
    }
    all
}

fn says_datagram(version: Version, bytes: &[u8]) -> Value {
    let coding = version.int_coding();
    let Some(datagram) = Datagram::decode(Bytes::copy_from_slice(bytes), coding).unwrap() else {
        return json!({ "padding": true });
    };
    let mut says = json!({
        "track_alias": text(datagram.track_alias),
        "group_id": text(datagram.group),
        "object_id": text(datagram.object),
        "properties": pairs(&datagram.properties, coding).unwrap(),
        "end_of_group": datagram.end_of_group,
    });
    if let Some(priority) = datagram.priority {
        says["publisher_priority"] = text(priority.into());
    }
    match datagram.body {
        DatagramBody::Payload(payload) => says["payload"] = hex(&payload).into(),
        DatagramBody::Status(status) => says["object_status"] = text(status_code(status)),
    }
    says
}

pub(super) fn datagrams(version: Version, draft: DraftVersion) -> Vec<Vector> {
    let plain = Datagram {
        track_alias: 7,
        group: 1041,
        object: 0,
        priority: None,
        properties: Bytes::new(),
        end_of_group: false,
        body: DatagramBody::Payload(Bytes::from_static(b"data")),
    };
    let status = |status| DatagramBody::Status(status);
    let properties = frame_properties(version.int_coding());
    let cases = [
        ("a group's first object", plain.clone()),
        (
            "a later object with a priority",
            Datagram { object: 29, priority: Some(3), ..plain.clone() },
        ),
        ("an object with properties", Datagram { properties: properties.clone(), ..plain.clone() }),
        ("a group's last object", Datagram { object: 29, end_of_group: true, ..plain.clone() }),
        (
            "an empty payload",
            Datagram { body: DatagramBody::Payload(Bytes::new()), ..plain.clone() },
        ),
        (
            "an object without payload",
            Datagram { body: status(ObjectStatus::Normal), ..plain.clone() },
        ),
        (
            "an object without payload, with properties",
            Datagram { body: status(ObjectStatus::Normal), properties, ..plain.clone() },
        ),
        (
            "a group's end",
            Datagram { object: 30, body: status(ObjectStatus::EndOfGroup), ..plain.clone() },
        ),
        ("a track's end", Datagram { object: 30, body: status(ObjectStatus::EndOfTrack), ..plain }),
    ];
    let written = cases.into_iter().map(|(name, datagram)| {
        let bytes = datagram.to_bytes(version.int_coding()).to_vec();
        datagrams_agree((version, draft), &bytes)
            .unwrap_or_else(|error| panic!("{version}, {name}: {error}"));
        let says = says_datagram(version, &bytes);
        Vector { name, bytes, canonical: true, says }
    });
    let padding = (version > Version::Draft16).then(|| {
        let bytes = bytes_of("f0 132b3e29 0000");
        let says = says_datagram(version, &bytes);
        Vector { name: "padding", bytes, canonical: false, says }
    });
    written.chain(padding).collect()
}

pub(super) fn properties(version: Version) -> Vec<Vector> {
    let coding = version.int_coding();
    let mut inner = Properties::new();
    inner.push_int(0x10, 300);
    let list = |int: &[(u64, u64)], bytes: &[(u64, &[u8])]| {
        let mut properties = Properties::new();
        for (kind, value) in int {
            properties.push_int(*kind, *value);
        }
        for (kind, value) in bytes {
            properties.push_bytes(*kind, Bytes::copy_from_slice(value));
        }
        properties.to_bytes(coding)
    };
    let inner = inner.to_bytes(coding);
    [
        ("none", Bytes::new()),
        ("a timestamp and a configuration", frame_properties(coding)),
        ("one type twice", list(&[(0x3c, 1), (0x3c, 2)], &[])),
        ("immutable ones", list(&[(0x08, 90_000)], &[(property::IMMUTABLE, &inner)])),
        ("the largest type", list(&[(coding.max() - 1, coding.max())], &[(coding.max(), b"")])),
    ]
    .map(|(name, bytes)| {
        let again = Properties::decode(bytes.clone(), coding).unwrap().to_bytes(coding);
        assert_eq!(again, bytes, "{version}, {name}");
        let says = json!({ "properties": pairs(&bytes, coding).unwrap() });
        Vector { name, bytes: bytes.to_vec(), canonical: true, says }
    })
    .into()
}
