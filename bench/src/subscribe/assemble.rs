//! Whole objects out of a data stream's chunks.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};
use moqt::{
    FetchMark, FetchScanner, Location, ObjectScanner, ProtocolError, SubgroupHeader, SubgroupId,
    Version,
};

/// Largest object that is put together, bytes.
const MAX_OBJECT: u64 = 256 << 20;

/// Why a stream cannot be followed further.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("{0}")]
    Malformed(#[from] ProtocolError),
    #[error("object {at} has {length} bytes, at most {MAX_OBJECT} are taken")]
    TooLarge { at: Location, length: u64 },
}

/// A whole object.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Whole {
    pub(super) location: Location,
    pub(super) subgroup: Option<u64>,
    pub(super) properties: Bytes,
    pub(super) payload: Bytes,
}

/// What finds the objects of a stream.
#[derive(Debug)]
enum Scanner {
    Subgroup { scanner: ObjectScanner, group: u64, id: Option<u64> },
    Fetch(FetchScanner),
}

/// An object whose payload is still to come, at these offsets.
#[derive(Debug)]
struct Begun {
    whole: Whole,
    payload_start: u64,
    end: u64,
}

/// Puts a stream's objects together. Feed every byte after the stream's header.
#[derive(Debug)]
pub(super) struct Assembler {
    scanner: Scanner,
    begun: VecDeque<Begun>,
    /// What may still be part of an object, from offset `from` on.
    bytes: BytesMut,
    from: u64,
}

impl Assembler {
    pub(super) fn subgroup(header: &SubgroupHeader, version: Version) -> Self {
        let scanner = ObjectScanner::new(header, version.int_coding());
        let id = match header.subgroup {
            SubgroupId::Known(id) => Some(id),
            SubgroupId::FirstObject => None,
        };
        Self::new(Scanner::Subgroup { scanner, group: header.group, id })
    }

    pub(super) fn fetch(scanner: FetchScanner) -> Self {
        Self::new(Scanner::Fetch(scanner))
    }

    fn new(scanner: Scanner) -> Self {
        Self { scanner, begun: VecDeque::new(), bytes: BytesMut::new(), from: 0 }
    }

    /// Whether the stream may end here.
    pub(super) fn at_boundary(&self) -> bool {
        match &self.scanner {
            Scanner::Subgroup { scanner, .. } => scanner.at_boundary(),
            Scanner::Fetch(scanner) => scanner.at_boundary(),
        }
    }

    /// Takes the next bytes; objects that are whole now come out of [`Assembler::poll`].
    pub(super) fn handle(&mut self, chunk: &Bytes) -> Result<(), Broken> {
        let begun = &mut self.begun;
        match &mut self.scanner {
            Scanner::Subgroup { scanner, group, id } => scanner.scan_chunk(chunk, |mark| {
                let subgroup = Some(*id.get_or_insert(mark.id));
                let location = Location { group: *group, object: mark.id };
                let (payload_start, end) = (mark.payload_start, mark.end());
                let properties = mark.properties;
                let whole = Whole { location, subgroup, properties, payload: Bytes::new() };
                begun.push_back(Begun { whole, payload_start, end });
            })?,
            Scanner::Fetch(scanner) => scanner.scan(chunk, |mark| {
                let FetchMark::Object(object) = mark else { return };
                let (payload_start, end) = (object.payload_start, object.end());
                let whole = Whole {
                    location: object.location,
                    subgroup: object.subgroup,
                    properties: object.properties,
                    payload: Bytes::new(),
                };
                begun.push_back(Begun { whole, payload_start, end });
            })?,
        }
        if let Some(last) = self.begun.back() {
            let length = last.end - last.payload_start;
            if length > MAX_OBJECT {
                return Err(Broken::TooLarge { at: last.whole.location, length });
            }
        }
        self.bytes.extend_from_slice(chunk);
        Ok(())
    }

    /// The next whole object.
    pub(super) fn poll(&mut self) -> Option<Whole> {
        let there = self.from + self.bytes.len() as u64;
        let Some(next) = self.begun.front() else {
            // Headers only: the scanner keeps what it needs of them.
            self.skip_to(there);
            return None;
        };
        if next.end > there {
            return None;
        }
        let next = self.begun.pop_front()?;
        self.skip_to(next.payload_start);
        let payload = self.bytes.split_to((next.end - next.payload_start) as usize).freeze();
        self.from = next.end;
        Some(Whole { payload, ..next.whole })
    }

    fn skip_to(&mut self, offset: u64) {
        self.bytes.advance((offset - self.from) as usize);
        self.from = offset;
    }
}

#[cfg(test)]
mod tests {
    use moqt::{FetchWriter, GroupOrder, ObjectHeader, ObjectStatus};

    use super::*;

    fn payload(id: u64) -> Vec<u8> {
        vec![id as u8; id as usize * 400]
    }

    fn assemble(mut assembler: Assembler, stream: &Bytes, cut: usize) -> Vec<Whole> {
        let mut found = Vec::new();
        for from in (0..stream.len()).step_by(cut) {
            let chunk = stream.slice(from..stream.len().min(from + cut));
            assembler.handle(&chunk).unwrap();
            found.extend(std::iter::from_fn(|| assembler.poll()));
        }
        assert!(assembler.at_boundary());
        found
    }

    #[test]
    fn a_subgroups_objects_are_whole_however_the_stream_is_cut() {
        let version = Version::Draft18;
        let header = SubgroupHeader {
            track_alias: 1,
            group: 7,
            subgroup: SubgroupId::FirstObject,
            priority: None,
            properties: true,
            end_of_group: false,
            first_object: true,
        };
        let mut stream = BytesMut::new();
        let mut previous = None;
        let properties = Bytes::from_static(&[0x10, 5]);
        for id in [2u64, 3, 9, 10] {
            ObjectHeader {
                id,
                previous,
                properties: Some(&properties),
                payload: payload(id).len() as u64,
                status: ObjectStatus::Normal,
            }
            .encode(&mut stream, version.int_coding());
            stream.extend_from_slice(&payload(id));
            previous = Some(id);
        }
        let stream = stream.freeze();
        for cut in [1, 3, 799, 5000] {
            let found = assemble(Assembler::subgroup(&header, version), &stream, cut);
            let wanted: Vec<_> = [2u64, 3, 9, 10]
                .map(|id| Whole {
                    location: Location { group: 7, object: id },
                    subgroup: Some(2),
                    properties: properties.clone(),
                    payload: payload(id).into(),
                })
                .into();
            assert_eq!(found, wanted);
        }
    }

    #[test]
    fn a_fetchs_objects_are_whole_however_the_stream_is_cut() {
        let (version, order) = (Version::Draft18, GroupOrder::Ascending);
        let mut writer = FetchWriter::new(version, order);
        let mut stream = BytesMut::new();
        for id in [0u64, 1, 5] {
            let location = Location { group: 3, object: id };
            let length = payload(id).len() as u64;
            writer.object(location, Some(0), 128, &[], length, &mut stream).unwrap();
            stream.extend_from_slice(&payload(id));
        }
        let stream = stream.freeze();
        for cut in [1, 401, 5000] {
            let scanner = FetchScanner::new(version, order);
            let found = assemble(Assembler::fetch(scanner), &stream, cut);
            let ids: Vec<_> = found.iter().map(|whole| whole.location.object).collect();
            assert_eq!(ids, [0, 1, 5]);
            assert!(found.iter().all(|whole| whole.payload == payload(whole.location.object)));
        }
    }
}
