//! Data streams and datagrams from one draft's layout into another's, header by header.
//!
//! Payloads are not touched and not held: what comes out shares the bytes that went in. What is
//! held is a header that is not whole yet, which the scanners bound.
//!
//! Between drafts 18 and 22 subgroup streams and datagrams are alike to the bit, and fetch streams
//! but for one mark, the End of Timed-Out Range. Draft 16 differs in its integers, also inside
//! properties, in the IDs of fetched objects (absolute there), and has no FIRST_OBJECT bit, which is
//! therefore lost in crossing.

use bytes::{Bytes, BytesMut};

use crate::{
    Datagram, FetchHeader, FetchMark, FetchScanner, FetchWriter, GroupOrder, IntCoding,
    ObjectHeader, ObjectScanner, Properties, ProtocolError, SubgroupHeader, SubgroupId, Version,
};

/// Why a stream cannot go on in the other draft.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TranscodeError {
    /// It breaks the rules of the draft it comes from.
    #[error(transparent)]
    Malformed(#[from] ProtocolError),
    /// It holds something that the other draft has no way to say.
    #[error("{version} cannot say {what} of this stream")]
    Unsayable {
        /// The draft it goes to.
        version: Version,
        /// What.
        what: &'static str,
    },
}

/// Rewrites one data stream, in chunks of any size.
#[derive(Debug)]
pub struct Transcoder {
    from: Version,
    to: Version,
    state: State,
    /// Where the payload of the object that was begun last ends; the scanners' offset.
    payload_end: u64,
}

#[derive(Debug)]
enum State {
    /// The stream's own header is not whole yet. `Some`: it is a fetch stream of this order.
    Begin(BytesMut, Option<GroupOrder>),
    Subgroup {
        scanner: ObjectScanner,
        properties: bool,
        previous: Option<u64>,
    },
    Fetch {
        scanner: FetchScanner,
        writer: FetchWriter,
    },
}

/// What a transcoder makes of a scanner's mark.
enum Found {
    /// A header, with the offsets where its payload starts and ends.
    Object(Bytes, u64, u64),
    /// A header without a payload.
    Mark(Bytes),
}

impl Transcoder {
    /// For a subgroup stream, from its first byte on.
    pub fn subgroup(from: Version, to: Version) -> Self {
        Self::new(from, to, State::Begin(BytesMut::new(), None))
    }

    /// For a fetch stream, from its first byte on; `order` is what the FETCH asked for.
    pub fn fetch(order: GroupOrder, from: Version, to: Version) -> Self {
        Self::new(from, to, State::Begin(BytesMut::new(), Some(order)))
    }

    /// For what follows SUBGROUP_HEADER.
    pub fn subgroup_objects(header: &SubgroupHeader, from: Version, to: Version) -> Self {
        let scanner = ObjectScanner::new(header, from.int_coding());
        let properties = header.properties;
        Self::new(from, to, State::Subgroup { scanner, properties, previous: None })
    }

    /// For what follows FETCH_HEADER; `order` is what the FETCH asked for.
    pub fn fetch_objects(order: GroupOrder, from: Version, to: Version) -> Self {
        let scanner = FetchScanner::new(from, order);
        Self::new(from, to, State::Fetch { scanner, writer: FetchWriter::new(to, order) })
    }

    fn new(from: Version, to: Version, state: State) -> Self {
        Self { from, to, state, payload_end: 0 }
    }

    /// Whether subgroup streams and datagrams differ between two drafts.
    pub fn subgroups_differ(from: Version, to: Version) -> bool {
        from.int_coding() != to.int_coding()
    }

    /// Whether fetch streams do.
    pub fn fetches_differ(from: Version, to: Version) -> bool {
        from != to
    }

    /// Whether the stream may end here: nothing is half received.
    pub fn at_boundary(&self) -> bool {
        match &self.state {
            State::Begin(..) => false,
            State::Subgroup { scanner, .. } => scanner.at_boundary(),
            State::Fetch { scanner, .. } => scanner.at_boundary(),
        }
    }

    /// Takes the next bytes of the stream and gives those of the other draft to `out`, in order,
    /// each time with the number of bytes of `chunk` that they are made of: as many for a payload,
    /// and for a header those up to its end. What is left after the last is held. After an error
    /// the stream must be given up.
    pub fn transcode(
        &mut self,
        chunk: &Bytes,
        mut out: impl FnMut(Bytes, usize),
    ) -> Result<(), TranscodeError> {
        if let State::Begin(head, fetch) = &mut self.state {
            head.extend_from_slice(chunk);
            let (from, to) = (self.from.int_coding(), self.to);
            let mut header = BytesMut::new();
            let next = match *fetch {
                Some(order) => FetchHeader::decode(head, from)?.map(|decoded| {
                    decoded.encode(&mut header, to.int_coding());
                    (sayable(to, decoded.request), Self::fetch_objects(order, self.from, to))
                }),
                None => SubgroupHeader::decode(head, from)?.map(|decoded| {
                    decoded.encode(&mut header, to.int_coding());
                    let id = match decoded.subgroup {
                        SubgroupId::Known(id) => id,
                        SubgroupId::FirstObject => 0,
                    };
                    let largest = decoded.track_alias.max(decoded.group).max(id);
                    let objects = Self::subgroup_objects(&decoded, self.from, to);
                    (sayable(to, largest), objects)
                }),
            };
            let Some((sayable, next)) = next else { return Ok(()) };
            if !sayable {
                return Err(unsayable(to, "the header"));
            }
            let rest = std::mem::take(head).freeze();
            *self = next;
            out(header.freeze(), chunk.len() - rest.len());
            return self.transcode(&rest, out);
        }
        let at = match &self.state {
            State::Begin(..) => 0,
            State::Subgroup { scanner, .. } => scanner.offset(),
            State::Fetch { scanner, .. } => scanner.offset(),
        };
        // Positions in the chunk, for offsets in the stream.
        let place = |offset: u64| offset.saturating_sub(at).min(chunk.len() as u64) as usize;
        let mut used = place(self.payload_end);
        if used > 0 {
            out(chunk.slice(..used), used);
        }
        for found in self.scan(chunk)? {
            match found {
                Found::Mark(header) => out(header, 0),
                Found::Object(header, start, end) => {
                    let (start, payload_end) = (place(start), place(end));
                    out(header, start - used);
                    if payload_end > start {
                        out(chunk.slice(start..payload_end), payload_end - start);
                    }
                    (used, self.payload_end) = (payload_end, end);
                }
            }
        }
        Ok(())
    }

    /// The headers that become whole with `chunk`, rewritten.
    fn scan(&mut self, chunk: &Bytes) -> Result<Vec<Found>, TranscodeError> {
        let (from, to) = (self.from.int_coding(), self.to);
        let mut found = Vec::new();
        let mut failed = None;
        let mut keep = |result: Result<Found, TranscodeError>| match result {
            Ok(mark) => found.push(mark),
            Err(error) => drop(failed.get_or_insert(error)),
        };
        match &mut self.state {
            State::Begin(..) => {}
            State::Subgroup { scanner, properties, previous } => {
                scanner.scan_chunk(chunk, |mark| {
                    let recoded = recode(&mark.properties, from, to);
                    let prior = previous.replace(mark.id);
                    keep(recoded.and_then(|recoded| {
                        if !sayable(to, mark.id.max(mark.payload_len)) {
                            return Err(unsayable(to, "an object's ID or length"));
                        }
                        let mut header = BytesMut::with_capacity(recoded.len() + 24);
                        ObjectHeader {
                            id: mark.id,
                            previous: prior,
                            properties: properties.then_some(&recoded),
                            payload: mark.payload_len,
                            status: mark.status,
                        }
                        .encode(&mut header, to.int_coding());
                        Ok(Found::Object(header.freeze(), mark.payload_start, mark.end()))
                    }));
                })?;
            }
            State::Fetch { scanner, writer } => {
                scanner.scan(chunk, |mark| keep(rewrite_fetched(&mark, writer, from, to)))?;
            }
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(found),
        }
    }
}

fn rewrite_fetched(
    mark: &FetchMark,
    writer: &mut FetchWriter,
    from: IntCoding,
    to: Version,
) -> Result<Found, TranscodeError> {
    let mut header = BytesMut::new();
    let order = |_| TranscodeError::Malformed(ProtocolError::violation("objects out of order"));
    let check = |largest| match sayable(to, largest) {
        true => Ok(()),
        false => Err(unsayable(to, "a fetched object's ID or length")),
    };
    match mark {
        FetchMark::EndOfRange { end, gap } => {
            check(end.group.max(end.object))?;
            writer.end_of_range(*end, *gap, &mut header).map_err(order)?;
            Ok(Found::Mark(header.freeze()))
        }
        FetchMark::Object(object) => {
            let location = object.location;
            let ids = location.group.max(location.object).max(object.subgroup.unwrap_or(0));
            check(ids.max(object.payload_len))?;
            let properties = recode(&object.properties, from, to)?;
            let (subgroup, priority) = (object.subgroup, object.priority);
            let payload = object.payload_len;
            writer
                .object(location, subgroup, priority, &properties, payload, &mut header)
                .map_err(order)?;
            Ok(Found::Object(header.freeze(), object.payload_start, object.end()))
        }
    }
}

fn recode(properties: &Bytes, from: IntCoding, to: Version) -> Result<Bytes, TranscodeError> {
    if properties.is_empty() {
        return Ok(Bytes::new());
    }
    Properties::transcode(properties, from, to.int_coding())
        .ok_or_else(|| unsayable(to, "a property"))
}

fn sayable(to: Version, value: u64) -> bool {
    value <= to.int_coding().max()
}

fn unsayable(version: Version, what: &'static str) -> TranscodeError {
    TranscodeError::Unsayable { version, what }
}

impl Datagram {
    /// The same object's datagram in another draft.
    pub fn transcode(self, from: Version, to: Version) -> Result<Self, TranscodeError> {
        if !Transcoder::subgroups_differ(from, to) {
            return Ok(self);
        }
        if !sayable(to, self.track_alias.max(self.group).max(self.object)) {
            return Err(unsayable(to, "a datagram's IDs"));
        }
        let properties = recode(&self.properties, from.int_coding(), to)?;
        Ok(Self { properties, ..self })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{DatagramBody, Gap, Location, ObjectStatus, property};

    const NEW: Version = Version::Draft22;

    /// What both drafts can say.
    fn int() -> impl Strategy<Value = u64> + Clone {
        prop_oneof![0u64..300, 0u64..1 << 62]
    }

    fn properties() -> impl Strategy<Value = Bytes> {
        let pairs = prop::collection::vec(
            (0u64..80, int(), prop::collection::vec(any::<u8>(), 0..9)),
            0..4,
        );
        (pairs.clone(), prop::option::of(pairs)).prop_map(|(own, inner)| {
            let fill = |pairs: Vec<(u64, u64, Vec<u8>)>| {
                let mut properties = Properties::new();
                for (kind, value, bytes) in pairs {
                    match kind {
                        property::IMMUTABLE => {}
                        kind if kind % 2 == 0 => properties.push_int(kind, value),
                        kind => properties.push_bytes(kind, bytes),
                    }
                }
                properties
            };
            let mut own = fill(own);
            if let Some(inner) = inner {
                own.push_bytes(property::IMMUTABLE, fill(inner).to_bytes(NEW.int_coding()));
            }
            own.to_bytes(NEW.int_coding())
        })
    }

    /// A canonical subgroup stream.
    fn subgroup() -> impl Strategy<Value = Bytes> {
        let id = prop_oneof![Just(SubgroupId::FirstObject), int().prop_map(SubgroupId::Known)];
        let header = (int(), int(), id, any::<Option<u8>>(), any::<(bool, bool)>());
        let objects = prop::collection::vec((int(), properties(), 0usize..200), 0..8);
        (header, objects, any::<bool>()).prop_map(|(header, objects, ends)| {
            let header = SubgroupHeader {
                track_alias: header.0,
                group: header.1,
                subgroup: header.2,
                priority: header.3,
                properties: header.4.0,
                end_of_group: header.4.1,
                first_object: false,
            };
            let mut stream = BytesMut::new();
            header.encode(&mut stream, NEW.int_coding());
            let mut previous: Option<u64> = None;
            let mut object = |gap: u64, properties: &Bytes, length: usize, status| {
                let id = previous.map_or(gap, |previous| previous + 1 + gap % 99);
                ObjectHeader {
                    id: id.min((1 << 62) - 1),
                    previous,
                    properties: header.properties.then_some(properties),
                    payload: length as u64,
                    status,
                }
                .encode(&mut stream, NEW.int_coding());
                stream.extend((0..length).map(|at| at as u8));
                previous = Some(id);
            };
            for (gap, properties, length) in &objects {
                object(gap % (1 << 61), properties, *length, ObjectStatus::Normal);
            }
            if ends {
                object(0, &Bytes::new(), 0, ObjectStatus::EndOfGroup);
            }
            stream.freeze()
        })
    }

    fn order() -> impl Strategy<Value = GroupOrder> {
        prop_oneof![Just(GroupOrder::Ascending), Just(GroupOrder::Descending)]
    }

    /// A canonical fetch stream and its order.
    fn fetch() -> impl Strategy<Value = (GroupOrder, Bytes)> {
        let entry =
            (0u64..3, 0u64..70, prop::option::of(0u64..4), 0u8..3, properties(), 0usize..99);
        let gap = prop_oneof![Just(None), Just(Some(Gap::Unknown)), Just(Some(Gap::NonExistent))];
        let entries = prop::collection::vec((entry, gap), 0..9);
        (order(), int(), entries).prop_map(|(order, request, entries)| {
            let mut stream = BytesMut::new();
            FetchHeader { request }.encode(&mut stream, NEW.int_coding());
            let mut writer = FetchWriter::new(NEW, order);
            let mut at: Option<Location> = None;
            for ((groups, objects, subgroup, priority, properties, length), gap) in entries {
                let location = match at {
                    None => Location { group: 1000, object: objects },
                    Some(prior) if groups == 0 => {
                        Location { object: prior.object + 1 + objects, ..prior }
                    }
                    Some(prior) if order == GroupOrder::Ascending => {
                        Location { group: prior.group + groups, object: objects }
                    }
                    Some(prior) => Location { group: prior.group - groups, object: objects },
                };
                at = Some(location);
                match gap {
                    Some(gap) => writer.end_of_range(location, gap, &mut stream).unwrap(),
                    None => {
                        let payload = length as u64;
                        writer
                            .object(location, subgroup, priority, &properties, payload, &mut stream)
                            .unwrap();
                        stream.extend((0..length).map(|at| at as u8));
                    }
                }
            }
            (order, stream.freeze())
        })
    }

    /// Cuts `stream` as `cuts` say and puts together what the transcoder makes of it.
    fn run(mut transcoder: Transcoder, stream: &Bytes, cuts: &[usize]) -> Bytes {
        let mut out = BytesMut::new();
        let mut rest = stream.clone();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let now = rest.split_to(rest.len().min(*cut));
            let mut used = 0;
            let take = |bytes: Bytes, of: usize| {
                out.extend_from_slice(&bytes);
                used += of;
            };
            transcoder.transcode(&now, take).unwrap();
            assert!(used <= now.len(), "made of more than there was");
        }
        assert!(transcoder.at_boundary());
        out.freeze()
    }

    fn cuts() -> impl Strategy<Value = Vec<usize>> {
        prop::collection::vec(1usize..60, 1..9)
    }

    proptest! {
        #[test]
        fn a_subgroup_stream_survives_the_way_there_and_back(
            stream in subgroup(), there in cuts(), back in cuts(), old in prop_oneof![Just(Version::Draft16), Just(Version::Draft18)],
        ) {
            let crossed = run(Transcoder::subgroup(NEW, old), &stream, &there);
            prop_assert_eq!(&crossed, &run(Transcoder::subgroup(NEW, old), &stream, &[usize::MAX]));
            let returned = run(Transcoder::subgroup(old, NEW), &crossed, &back);
            prop_assert_eq!(returned, stream);
        }

        #[test]
        fn a_fetch_stream_survives_the_way_there_and_back(
            (order, stream) in fetch(), there in cuts(), back in cuts(), old in prop_oneof![Just(Version::Draft16), Just(Version::Draft18)],
        ) {
            let crossed = run(Transcoder::fetch(order, NEW, old), &stream, &there);
            let returned = run(Transcoder::fetch(order, old, NEW), &crossed, &back);
            prop_assert_eq!(returned, stream);
        }

        #[test]
        fn a_datagram_survives_the_way_there_and_back(
            ids in (int(), int(), int()), priority: Option<u8>, properties in properties(), end: bool,
        ) {
            let datagram = Datagram {
                track_alias: ids.0, group: ids.1, object: ids.2, priority, properties,
                end_of_group: end, body: DatagramBody::Payload(Bytes::from_static(b"payload")),
            };
            let crossed = datagram.clone().transcode(NEW, Version::Draft16).unwrap();
            let bytes = crossed.to_bytes(IntCoding::Quic);
            let received = Datagram::decode(bytes, IntCoding::Quic).unwrap().unwrap();
            prop_assert_eq!(received.transcode(Version::Draft16, NEW).unwrap(), datagram);
        }

        #[test]
        fn any_bytes_are_rewritten_or_refused(bytes: Vec<u8>, cut in 1usize..9, order in order()) {
            for mut transcoder in [
                Transcoder::subgroup(Version::Draft16, NEW),
                Transcoder::subgroup(NEW, Version::Draft16),
                Transcoder::fetch(order, Version::Draft16, NEW),
                Transcoder::fetch(order, NEW, Version::Draft16),
            ] {
                for chunk in bytes.chunks(cut) {
                    if transcoder.transcode(&Bytes::copy_from_slice(chunk), |_, _| ()).is_err() { break }
                }
            }
        }
    }

    /// The bytes of draft 16, by its text.
    #[test]
    fn draft_16_has_its_own_integers_and_absolute_ids() {
        let canonical = Bytes::from_static(&[
            0x71, 0x80, 0x64,
            0x05, // header: alias 100, group 5; first object, default priority
            0x00, 0x03, 0x10, 0x81, 0x2c, 0x02, 0xaa, 0xbb, // object 0: property 0x10 = 300
        ]);
        let crossed = run(Transcoder::subgroup(NEW, Version::Draft16), &canonical, &[3]);
        let expected = [
            0x31, 0x40, 0x64, 0x05, // no FIRST_OBJECT
            0x00, 0x03, 0x10, 0x41, 0x2c, 0x02, 0xaa, 0xbb,
        ];
        assert_eq!(&crossed[..], &expected);
        let canonical = Bytes::from_static(&[
            0x05, 0x02, // request 2
            0x1c, 0x09, 0x04, 0x80, 0x01, 0xcc, // 9:4, subgroup 0, priority 128
            0x08, 0x01, 0x00, // group 11, object 5, an empty one
        ]);
        let transcoder = Transcoder::fetch(GroupOrder::Ascending, NEW, Version::Draft16);
        let crossed = run(transcoder, &canonical, &[2]);
        let expected = [0x05, 0x02, 0x1c, 0x09, 0x04, 0x80, 0x01, 0xcc, 0x08, 0x0b, 0x00];
        assert_eq!(&crossed[..], &expected);
    }

    #[test]
    fn drafts_before_20_know_no_time_out() {
        let mut stream = BytesMut::new();
        let end = Location { group: 4, object: 1 };
        FetchHeader { request: 0 }.encode(&mut stream, NEW.int_coding());
        let mut writer = FetchWriter::new(NEW, GroupOrder::Ascending);
        writer.end_of_range(end, Gap::TimedOut, &mut stream).unwrap();
        let transcoder = Transcoder::fetch(GroupOrder::Ascending, NEW, Version::Draft18);
        let crossed = run(transcoder, &stream.freeze(), &[1]);
        assert_eq!(&crossed[..], &[0x05, 0x00, 0x81, 0x0c, 0x04, 0x01]);
    }

    #[test]
    fn what_draft_16_cannot_say_is_refused() {
        let mut stream = BytesMut::from(&[0x50, 0, 0, 0][..]);
        NEW.int_coding().write(&mut stream, 1 << 62);
        stream.extend_from_slice(&[1, 0xee]);
        let mut transcoder = Transcoder::subgroup(NEW, Version::Draft16);
        let result = transcoder.transcode(&stream.freeze(), |_, _| ());
        assert!(matches!(result, Err(TranscodeError::Unsayable { .. })), "{result:?}");
    }
}
