//! Several sources of one track, cut, delayed, reset and restarted at random: what a viewer reads
//! is what was published, object for object.

#![expect(clippy::disallowed_methods, reason = "a test has to begin at some instant")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use moqt::{
    GroupOrder, IntCoding, ObjectHeader, ObjectScanner, ObjectStatus, Properties, ResetCode,
    SubgroupHeader, SubgroupId,
};
use proptest::prelude::*;
use relay_core::{
    Action, CacheLimits, DeliveryTimeouts, FeedId, Outbox, Policy, SessionId, StreamKey,
    Subscription, Track, TrackId,
};

const CODING: IntCoding = IntCoding::LeadingOnes;
const TRACK: TrackId = TrackId(1);

/// What was published: of each subgroup the objects in order.
struct Published {
    properties: bool,
    subgroups: BTreeMap<(u64, u64), Vec<(u64, usize)>>,
}

impl Published {
    /// `sizes` of the objects of each group, dealt out to `layers` subgroups in turn.
    fn new(groups: &[Vec<usize>], layers: u64, properties: bool) -> Self {
        let mut subgroups: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (group, sizes) in groups.iter().enumerate() {
            for (id, size) in sizes.iter().enumerate() {
                let id = id as u64;
                subgroups.entry((group as u64, id % layers)).or_default().push((id, *size));
            }
        }
        Self { properties, subgroups }
    }

    fn object(&self, group: u64, id: u64, size: usize) -> (Bytes, Vec<u8>) {
        let mut properties = Properties::new();
        if self.properties {
            properties.push_int(0x10, group * 1000 + id);
        }
        let payload = (0..size).map(|at| (group * 31 + id * 7 + at as u64) as u8).collect();
        (properties.to_bytes(CODING), payload)
    }

    /// A stream that starts with the object of that index.
    fn stream(&self, key: (u64, u64), from: usize) -> (SubgroupHeader, Vec<u8>, Vec<usize>) {
        let objects = &self.subgroups[&key];
        let header = SubgroupHeader {
            track_alias: 5,
            group: key.0,
            subgroup: SubgroupId::Known(key.1),
            priority: None,
            properties: self.properties,
            end_of_group: false,
            first_object: from == 0,
        };
        let mut bytes = BytesMut::new();
        let mut ends = Vec::new();
        let mut previous = None;
        for (id, size) in &objects[from..] {
            let (properties, payload) = self.object(key.0, *id, *size);
            ObjectHeader {
                id: *id,
                previous,
                properties: self.properties.then_some(&properties),
                payload: *size as u64,
                status: ObjectStatus::Normal,
            }
            .encode(&mut bytes, CODING);
            bytes.extend_from_slice(&payload);
            ends.push(bytes.len());
            previous = Some(*id);
        }
        (header, bytes.to_vec(), ends)
    }
}

/// A stream that a source is sending.
struct Sending {
    feed: FeedId,
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// Index of its first object in the subgroup.
    from: usize,
    at: usize,
}

struct Viewer {
    outbox: Outbox,
    streams: HashMap<StreamKey, (Vec<u8>, Option<bool>)>,
}

impl Viewer {
    fn new(track: &Track, max_latency: Duration) -> Self {
        let mut outbox = Outbox::new(Policy { max_latency, ..Policy::default() });
        let wanted = Subscription {
            alias: 3,
            start: None,
            end: None,
            priority: 128,
            order: GroupOrder::Ascending,
            forward: true,
            timeouts: DeliveryTimeouts::default(),
        };
        outbox.subscribe(0, TRACK, track, wanted);
        Self { outbox, streams: HashMap::new() }
    }

    fn run(&mut self, track: &Track, mut room: usize, now: Instant) {
        assert!(self.outbox.unblock(now).is_empty());
        loop {
            for action in self.outbox.look(TRACK, track, now) {
                match action {
                    Action::Open { stream, .. } => {
                        self.streams.insert(stream, (Vec::new(), None));
                    }
                    Action::Finish(stream) => {
                        self.streams.get_mut(&stream).unwrap().1 = Some(true);
                    }
                    Action::Reset(stream, _) => {
                        self.streams.get_mut(&stream).unwrap().1 = Some(false);
                    }
                    Action::Priority { .. } => {}
                    other => panic!("{other:?}"),
                }
            }
            let Some(Action::Write { stream, chunks }) = self.outbox.poll(TRACK, track) else {
                return;
            };
            let bytes = chunks.concat();
            let taken = bytes.len().min(room);
            let (read, ended) = self.streams.get_mut(&stream).expect("opened first");
            assert_eq!(*ended, None, "nothing is written after the end");
            read.extend_from_slice(&bytes[..taken]);
            room -= taken;
            self.outbox.handle_written(stream, taken, track, now);
        }
    }

    /// Everything read so far was published, in order and without a gap, and nothing twice.
    fn check(&self, published: &Published) -> BTreeSet<(u64, u64)> {
        let mut whole = BTreeSet::new();
        for (bytes, ended) in self.streams.values() {
            let mut rest = BytesMut::from(&bytes[..]);
            let Some(header) = SubgroupHeader::decode(&mut rest, CODING).unwrap() else { continue };
            assert_eq!(header.properties, published.properties);
            let SubgroupId::Known(subgroup) = header.subgroup else { panic!("{header:?}") };
            let objects = &published.subgroups[&(header.group, subgroup)];
            let mut marks = Vec::new();
            let mut scanner = ObjectScanner::new(&header, CODING);
            scanner.scan(&rest, |mark| marks.push(mark)).unwrap();
            let Some(first) = marks.first() else { continue };
            let index = objects.iter().position(|(id, _)| *id == first.id).expect("published");
            assert!(!header.first_object || index == 0, "FIRST_OBJECT is on the first only");
            for (mark, (id, size)) in marks.iter().zip(&objects[index..]) {
                assert_eq!((mark.id, mark.payload_len), (*id, *size as u64), "in order, no gap");
                let (properties, payload) = published.object(header.group, *id, *size);
                assert_eq!(mark.properties, properties);
                let end = (mark.end() as usize).min(rest.len());
                let read = &rest[mark.payload_start as usize..end];
                assert!(
                    read == &payload[..read.len()],
                    "object {}:{} is altered",
                    header.group,
                    id
                );
                if read.len() == *size {
                    assert!(whole.insert((header.group, *id)), "{} {id} came twice", header.group);
                }
            }
            assert!(index + marks.len() <= objects.len(), "nothing is invented");
            if *ended == Some(true) {
                assert!(scanner.at_boundary() && index + marks.len() == objects.len());
            }
        }
        whole
    }
}

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    /// A source sends some bytes of a subgroup, beginning it if it has not.
    Send {
        source: u64,
        what: usize,
        bytes: usize,
        from: usize,
    },
    /// A source resets a stream.
    Reset {
        source: u64,
        what: usize,
    },
    /// A source goes away, and may come back.
    Leave {
        source: u64,
    },
    /// More is published.
    Publish(usize),
    /// The viewer takes some.
    Take(usize),
    Wait(u64),
    /// The viewer that joined last is replaced by a new one.
    Join,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0u64..4, 0usize..8, 1usize..900, 0usize..4)
            .prop_map(|(source, what, bytes, from)| Step::Send { source, what, bytes, from }),
        1 => (0u64..4, 0usize..8).prop_map(|(source, what)| Step::Reset { source, what }),
        1 => (0u64..4).prop_map(|source| Step::Leave { source }),
        3 => (1usize..4).prop_map(Step::Publish),
        4 => (0usize..3000).prop_map(Step::Take),
        2 => (0u64..400).prop_map(Step::Wait),
        1 => Just(Step::Join),
    ]
}

struct World {
    published: Published,
    track: Track,
    now: Instant,
    sending: BTreeMap<(u64, (u64, u64)), Sending>,
    /// How many objects of each subgroup are published yet.
    edge: BTreeMap<(u64, u64), usize>,
    plan: Plan,
}

/// What kind of run it is.
#[derive(Clone, Copy)]
struct Plan {
    /// Every source sends subgroups from their start.
    from_start: bool,
    limits: CacheLimits,
    max_latency: Duration,
}

/// Nothing is evicted or late.
const PATIENT: Plan = Plan {
    from_start: false,
    limits: CacheLimits { bytes: 1 << 24, age: Duration::from_secs(1 << 20) },
    max_latency: Duration::from_secs(1 << 30),
};

impl World {
    /// Subgroups of which something is published.
    fn begun(&self) -> Vec<(u64, u64)> {
        self.edge.iter().filter(|(_, edge)| **edge > 0).map(|(key, _)| *key).collect()
    }

    fn publish(&mut self, count: usize) {
        for _ in 0..count {
            // In order of groups and objects, as an encoder would.
            let next = self
                .edge
                .iter()
                .filter_map(|(key, edge)| {
                    let (id, _) = self.published.subgroups[key].get(*edge)?;
                    Some((key.0, *id, *key))
                })
                .min();
            let Some((.., key)) = next else { return };
            *self.edge.get_mut(&key).unwrap() += 1;
        }
    }

    fn send(&mut self, source: u64, key: (u64, u64), bytes: usize, from: usize) {
        let edge = self.edge[&key];
        if !self.sending.contains_key(&(source, key)) {
            let from = if self.plan.from_start { 0 } else { from.min(edge - 1) };
            let (header, bytes, ends) = self.published.stream(key, from);
            let opened = self.track.open(SessionId(source), header, self.now).unwrap();
            let Some(feed) = opened else { return };
            self.sending.insert((source, key), Sending { feed, bytes, ends, from, at: 0 });
        }
        let stream = self.sending.get_mut(&(source, key)).unwrap();
        let Some(last) = edge.checked_sub(stream.from + 1) else { return };
        let end = (stream.at + bytes).min(stream.ends[last]);
        let chunk = Bytes::copy_from_slice(&stream.bytes[stream.at..end]);
        stream.at = end;
        self.track.append(stream.feed, chunk, self.now).unwrap();
        if stream.at == stream.bytes.len() {
            self.track.finish(stream.feed, self.now).unwrap();
            self.sending.remove(&(source, key));
        }
    }

    fn go(&mut self, step: &Step, viewers: &mut [Viewer; 2]) {
        match *step {
            Step::Send { source, what, bytes, from } => {
                let begun = self.begun();
                if !begun.is_empty() {
                    // Sources send what is new rather than what is old.
                    let key = begun[begun.len() - 1 - what % begun.len()];
                    self.send(source, key, bytes, from);
                }
            }
            Step::Reset { source, what } => {
                let theirs: Vec<_> =
                    self.sending.keys().filter(|(of, _)| *of == source).copied().collect();
                if let Some(key) = theirs.get(what % theirs.len().max(1)) {
                    let stream = self.sending.remove(key).unwrap();
                    self.track.reset(stream.feed, ResetCode::DELIVERY_TIMEOUT, self.now);
                }
            }
            Step::Leave { source } => {
                self.sending.retain(|(of, _), _| *of != source);
                self.track.handle_source_gone(SessionId(source), self.now);
            }
            Step::Publish(count) => self.publish(count),
            Step::Take(room) => {
                for viewer in viewers.iter_mut() {
                    viewer.run(&self.track, room, self.now);
                }
            }
            Step::Wait(ms) => {
                // Whoever is silent for long is given up, and what it was at may be lost.
                let ms = if self.plan.from_start { ms % 2 } else { ms };
                self.now += Duration::from_millis(ms);
                self.track.evict(self.now);
            }
            Step::Join => viewers[1] = Viewer::new(&self.track, self.plan.max_latency),
        }
        for viewer in viewers.iter_mut() {
            viewer.run(&self.track, 0, self.now);
        }
        let books = viewers[0].outbox.books();
        let queued = viewers[0].outbox.backlog(|_| Some(&self.track), self.now).bytes;
        let total = books.drops.total();
        assert_eq!(books.bytes_out + total.bytes + queued, self.track.bytes_in());
    }
}

fn run(
    groups: &[Vec<usize>],
    layers: u64,
    properties: bool,
    steps: &[Step],
    plan: Plan,
) -> Result<(), TestCaseError> {
    let published = Published::new(groups, layers, properties);
    let mut track = Track::new(plan.limits);
    track.handle_live(None);
    let mut viewers = [0, 1].map(|_| Viewer::new(&track, plan.max_latency));
    let edge = published.subgroups.keys().map(|key| (*key, 0)).collect();
    let (now, sending) = (Instant::now(), BTreeMap::new());
    let mut world = World { published, track, now, sending, edge, plan };
    for (index, step) in steps.iter().enumerate() {
        world.go(step, &mut viewers);
        if index % 16 == 0 {
            viewers.iter().for_each(|viewer| drop(viewer.check(&world.published)));
        }
    }
    // At last a source brings everything from the start.
    world.publish(1000);
    for source in 0..4 {
        world.go(&Step::Leave { source }, &mut viewers);
    }
    world.plan.from_start = true;
    for key in world.begun() {
        for _ in 0..2000 {
            world.send(9, key, 700, 0);
            viewers[0].run(&world.track, usize::MAX, world.now);
            if !world.sending.contains_key(&(9, key)) {
                break;
            }
        }
    }
    let whole = viewers[0].check(&world.published);
    viewers[1].run(&world.track, usize::MAX, world.now);
    viewers[1].check(&world.published);
    if plan.from_start {
        let all = world
            .published
            .subgroups
            .iter()
            .flat_map(|((group, _), objects)| objects.iter().map(move |(id, _)| (*group, *id)));
        let missing: Vec<_> = all.filter(|object| !whole.contains(object)).collect();
        prop_assert_eq!(missing, vec![]);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_read_is_what_was_published(
        groups in prop::collection::vec(prop::collection::vec(0usize..1500, 1..8), 1..5),
        layers in 1u64..3,
        properties: bool,
        steps in prop::collection::vec(step(), 1..120),
    ) {
        run(&groups, layers, properties, &steps, PATIENT)?;
    }

    #[test]
    fn nothing_is_lost_when_every_source_begins_at_the_start(
        groups in prop::collection::vec(prop::collection::vec(0usize..1500, 1..8), 1..5),
        layers in 1u64..3,
        properties: bool,
        steps in prop::collection::vec(step(), 1..120),
    ) {
        run(&groups, layers, properties, &steps, Plan { from_start: true, ..PATIENT })?;
    }

    #[test]
    fn the_books_balance_however_little_is_kept_and_however_late_it_is(
        groups in prop::collection::vec(prop::collection::vec(0usize..1500, 1..8), 1..8),
        layers in 1u64..3,
        properties: bool,
        steps in prop::collection::vec(step(), 1..120),
        bytes in 3_000u64..30_000,
        age in 0u64..2000,
        max_latency in 50u64..3000,
    ) {
        let limits = CacheLimits { bytes, age: Duration::from_millis(age) };
        let max_latency = Duration::from_millis(max_latency);
        run(&groups, layers, properties, &steps, Plan { from_start: false, limits, max_latency })?;
    }
}
