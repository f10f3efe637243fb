//! Whatever sources send, a track neither panics nor grows past its bounds, and what it says of
//! its cache is consistent.

#![expect(clippy::disallowed_methods, reason = "a test has to begin at some instant")]

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use moqt::{
    Datagram, DatagramBody, FetchWriter, GroupOrder, IntCoding, Location, ObjectHeader,
    ObjectStatus, Properties, ResetCode, SubgroupHeader, SubgroupId, Version, property,
};
use proptest::prelude::*;
use relay_core::{CacheLimits, FeedId, FetchCursor, FetchStep, Part, SessionId, Track, TrackError};

const CODING: IntCoding = IntCoding::LeadingOnes;

#[derive(Clone, Debug)]
enum Op {
    Open {
        source: u64,
        group: u64,
        subgroup: Option<u64>,
        bits: u8,
        priority: Option<u8>,
    },
    /// Objects that may make sense on a stream: ID step, size, status.
    Objects {
        feed: usize,
        objects: Vec<(u64, usize, u8)>,
    },
    Garbage {
        feed: usize,
        bytes: Vec<u8>,
    },
    Finish(usize),
    Reset(usize),
    Interrupt(usize),
    Gone(u64),
    Datagram {
        group: u64,
        object: u64,
        size: usize,
        status: u8,
    },
    Live(Option<u64>),
    Offline,
    Wait(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let objects = prop::collection::vec((0u64..3, 0usize..400, 0u8..40), 1..5);
    let feed = || 0usize..12;
    prop_oneof![
        4 => (0u64..3, 0u64..5, prop::option::of(0u64..3), any::<u8>(), prop::option::weighted(0.1, any::<u8>()))
            .prop_map(|(source, group, subgroup, bits, priority)| Op::Open { source, group, subgroup, bits, priority }),
        8 => (feed(), objects).prop_map(|(feed, objects)| Op::Objects { feed, objects }),
        1 => (feed(), prop::collection::vec(any::<u8>(), 0..30))
            .prop_map(|(feed, bytes)| Op::Garbage { feed, bytes }),
        2 => feed().prop_map(Op::Finish),
        1 => feed().prop_map(Op::Reset),
        1 => feed().prop_map(Op::Interrupt),
        1 => (0u64..3).prop_map(Op::Gone),
        2 => (0u64..5, 0u64..9, 0usize..300, 0u8..40)
            .prop_map(|(group, object, size, status)| Op::Datagram { group, object, size, status }),
        1 => prop::option::of(0u64..3).prop_map(Op::Live),
        1 => Just(Op::Offline),
        2 => (0u64..400).prop_map(Op::Wait),
    ]
}

fn status(kind: u8) -> ObjectStatus {
    match kind {
        0 => ObjectStatus::EndOfTrack,
        1 => ObjectStatus::EndOfGroup,
        _ => ObjectStatus::Normal,
    }
}

struct Stream {
    feed: FeedId,
    properties: bool,
    previous: Option<u64>,
}

/// Properties that say something of gaps, now and then.
fn properties(kind: u8) -> Bytes {
    let mut properties = Properties::new();
    match kind {
        30..34 => properties.push_int(property::PRIOR_OBJECT_ID_GAP, 1),
        34..38 => properties.push_int(property::PRIOR_GROUP_ID_GAP, 1),
        _ => {}
    }
    properties.to_bytes(CODING)
}

fn apply(op: &Op, track: &mut Track, streams: &mut Vec<Stream>, now: Instant) {
    let result: Result<(), TrackError> = match op {
        Op::Open { source, group, subgroup, bits, priority } => {
            let header = SubgroupHeader {
                track_alias: 0,
                group: *group,
                subgroup: subgroup.map_or(SubgroupId::FirstObject, SubgroupId::Known),
                priority: *priority,
                properties: bits & 6 == 0,
                end_of_group: bits & 24 == 0,
                first_object: bits & 1 == 0,
            };
            track.open(SessionId(*source), header, now).map(|feed| {
                let properties = header.properties;
                streams.extend(feed.map(|feed| Stream { feed, properties, previous: None }));
            })
        }
        Op::Objects { feed, objects } => {
            let count = streams.len().max(1);
            let Some(stream) = streams.get_mut(feed % count) else { return };
            let mut bytes = BytesMut::new();
            for (step, size, kind) in objects {
                let id = stream.previous.map_or(*step, |previous| previous + 1 + step / 2);
                let status = status(*kind);
                let size = if status == ObjectStatus::Normal { *size } else { 0 };
                let properties = match status {
                    ObjectStatus::Normal => properties(*kind),
                    _ => Bytes::new(),
                };
                ObjectHeader {
                    id,
                    previous: stream.previous,
                    properties: stream.properties.then_some(&properties),
                    payload: size as u64,
                    status,
                }
                .encode(&mut bytes, CODING);
                bytes.resize(bytes.len() + size, id as u8);
                stream.previous = Some(id);
                if status != ObjectStatus::Normal {
                    break;
                }
            }
            // In two pieces, cut anywhere.
            let bytes = bytes.freeze();
            let cut = bytes.len() * (objects.len() + feed) / 20;
            let first = track.append(stream.feed, bytes.slice(..cut.min(bytes.len())), now);
            first.and_then(|()| track.append(stream.feed, bytes.slice(cut.min(bytes.len())..), now))
        }
        Op::Garbage { feed, bytes } => {
            let Some(stream) = streams.get(feed % streams.len().max(1)) else { return };
            track.append(stream.feed, Bytes::copy_from_slice(bytes), now)
        }
        Op::Finish(feed) => {
            let Some(stream) = streams.get(feed % streams.len().max(1)) else { return };
            track.finish(stream.feed, now)
        }
        Op::Reset(feed) => {
            let Some(stream) = streams.get(feed % streams.len().max(1)) else { return };
            track.reset(stream.feed, ResetCode::CANCELLED, now);
            Ok(())
        }
        Op::Interrupt(feed) => {
            let Some(stream) = streams.get(feed % streams.len().max(1)) else { return };
            track.interrupt(stream.feed, now);
            Ok(())
        }
        Op::Gone(source) => {
            track.handle_source_gone(SessionId(*source), now);
            Ok(())
        }
        Op::Datagram { group, object, size, status: kind } => {
            let body = match status(*kind) {
                ObjectStatus::Normal => DatagramBody::Payload(vec![1; *size].into()),
                status => DatagramBody::Status(status),
            };
            let datagram = Datagram {
                track_alias: 0,
                group: *group,
                object: 100 * (object / 8) + object,
                priority: None,
                properties: Bytes::new(),
                end_of_group: false,
                body,
            };
            track.push_datagram(SessionId(0), datagram, now)
        }
        Op::Live(largest) => {
            track.handle_live(largest.map(Location::start_of));
            Ok(())
        }
        Op::Offline => {
            track.handle_offline();
            Ok(())
        }
        Op::Wait(_) => {
            track.evict(now);
            Ok(())
        }
    };
    // What is malformed goes on here, to see what that does.
    drop(result);
}

/// A plan covers the range, each location once, in order; and what it says is held can be fetched.
fn check_plan(track: &Track, start: Location, end: Location, order: GroupOrder, now: Instant) {
    let plan = track.plan(start, end, order, now);
    let bounds = |part: &Part| match *part {
        Part::Held { start, end } | Part::Missing { start, end } => (start, end),
    };
    let mut covered: Vec<_> = plan.iter().map(bounds).collect();
    covered.sort();
    let after = |at: Location| match at.object.checked_add(1) {
        Some(object) => Location { object, ..at },
        None => Location::start_of(at.group + 1),
    };
    assert_eq!(covered.first().map(|part| part.0), Some(start));
    assert_eq!(covered.last().map(|part| part.1), Some(end));
    assert!(covered.windows(2).all(|pair| after(pair[0].1) == pair[1].0), "{plan:?}");

    let mut whole = FetchCursor::new(start, end, order);
    let mut writer = FetchWriter::new(Version::Draft18, order);
    let mut buf = BytesMut::new();
    for part in &plan {
        let (start, end) = bounds(part);
        let mut cursor = FetchCursor::new(start, end, order);
        loop {
            let step = cursor.poll(track, now);
            match &step {
                FetchStep::Object(object) => {
                    assert!(matches!(part, Part::Held { .. }), "{object:?} in {part:?}");
                    assert!(start <= object.location && object.location <= end);
                    let length = object.payload_len();
                    writer
                        .object(
                            object.location,
                            object.subgroup,
                            object.priority,
                            &object.properties,
                            length,
                            &mut buf,
                        )
                        .expect("in order");
                    assert_eq!(whole.poll(track, now), step, "in parts as in one");
                }
                FetchStep::Missing { start: from, end: to } => {
                    assert!(matches!(part, Part::Missing { .. }), "{step:?} in {part:?}");
                    assert!(start <= *from && *to <= end);
                    assert_eq!(whole.poll(track, now), step);
                }
                FetchStep::Wait => {
                    assert!(matches!(part, Part::Held { .. }));
                    return;
                }
                FetchStep::Done => break,
            }
        }
    }
    assert_eq!(whole.poll(track, now), FetchStep::Done);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_breaks_a_track(
        ops in prop::collection::vec(op(), 1..150),
        limit in 4_000u64..60_000,
        max_cache in prop::option::of(0u64..3000),
    ) {
        let mut now = Instant::now();
        let mut track = Track::new(CacheLimits { bytes: limit, age: Duration::from_secs(2) });
        if let Some(ms) = max_cache {
            let mut properties = Properties::new();
            properties.push_int(property::MAX_CACHE_DURATION, ms);
            track.set_properties(properties);
        }
        let mut streams = Vec::new();
        for op in &ops {
            if let Op::Wait(ms) = op { now += Duration::from_millis(*ms); }
            apply(op, &mut track, &mut streams, now);
            prop_assert!(track.held_bytes() <= limit + 2048, "{} of {limit}", track.held_bytes());
        }
        let at = |group, object| Location { group, object };
        for order in [GroupOrder::Ascending, GroupOrder::Descending] {
            check_plan(&track, at(0, 0), at(6, u64::MAX), order, now);
            check_plan(&track, at(1, 2), at(3, 4), order, now);
            check_plan(&track, at(2, 1), at(2, 5), order, now);
        }
        // When all have left, nothing of theirs stays.
        for source in 0..3 { track.handle_source_gone(SessionId(source), now); }
        prop_assert!(streams.iter().all(|stream| !track.wants(stream.feed)));
    }
}
