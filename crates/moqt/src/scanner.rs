//! Finds the objects in a subgroup stream's bytes without copying payloads.

use bytes::{Bytes, BytesMut};

use crate::{IntCoding, ObjectStatus, Properties, ProtocolError, SubgroupHeader};

/// Longest properties field of one object we accept, bytes. Relays must hold it whole to check
/// it; codec configurations, the largest in practice, stay below 4 KiB.
const MAX_PROPERTIES: u64 = 64 * 1024;

/// Longest object header: its properties and five integers.
const MAX_HEADER: usize = MAX_PROPERTIES as usize + 5 * 9;

/// An object whose header was read. Offsets count from the first byte after SUBGROUP_HEADER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMark {
    /// Object ID.
    pub id: u64,
    /// Where its header starts.
    pub start: u64,
    /// Where its payload starts.
    pub payload_start: u64,
    /// Payload length in bytes.
    pub payload_len: u64,
    /// Normal, or what the object ends.
    pub status: ObjectStatus,
    /// The properties' bytes, without their length.
    pub properties: Bytes,
}

impl ObjectMark {
    /// Where the next object starts.
    pub fn end(&self) -> u64 {
        self.payload_start + self.payload_len
    }
}

/// Walks the bytes of one subgroup stream, in chunks of any size.
///
/// Feed every byte after SUBGROUP_HEADER to [`ObjectScanner::scan`] in order; each object's
/// [`ObjectMark`] comes out as soon as its header is whole, before its payload.
#[derive(Debug)]
pub struct ObjectScanner {
    coding: IntCoding,
    has_properties: bool,
    /// Offset of the next byte to come.
    offset: u64,
    /// Start of a header that is not whole yet.
    partial: BytesMut,
    /// Payload bytes still to come of the current object.
    payload_left: u64,
    previous: Option<u64>,
    ended: bool,
}

impl ObjectScanner {
    /// A scanner for the stream that began with `header`.
    pub fn new(header: &SubgroupHeader, coding: IntCoding) -> Self {
        Self {
            coding,
            has_properties: header.properties,
            offset: 0,
            partial: BytesMut::new(),
            payload_left: 0,
            previous: None,
            ended: false,
        }
    }

    /// Bytes scanned so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether a FIN may come now: no object is half received.
    pub fn at_boundary(&self) -> bool {
        self.payload_left == 0 && self.partial.is_empty()
    }

    /// Takes the next bytes of the stream and calls `mark` for each object that begins in them.
    pub fn scan(
        &mut self,
        mut bytes: &[u8],
        mut mark: impl FnMut(ObjectMark),
    ) -> Result<(), ProtocolError> {
        while !bytes.is_empty() {
            if self.payload_left > 0 {
                let skip = self.payload_left.min(bytes.len() as u64);
                self.payload_left -= skip;
                self.offset += skip;
                bytes = &bytes[skip as usize..];
                continue;
            }
            // Headers are short: try in place first, and collect only one that is split.
            let held = self.partial.len();
            let found = if held == 0 {
                self.header(bytes)?
            } else {
                let mut joined = std::mem::take(&mut self.partial);
                joined.extend_from_slice(&bytes[..bytes.len().min(MAX_HEADER)]);
                let found = self.header(&joined)?;
                if found.is_none() {
                    joined.truncate(held);
                    self.partial = joined;
                }
                found
            };
            let Some((header, length)) = found else {
                self.partial.extend_from_slice(bytes);
                self.offset += bytes.len() as u64;
                return Ok(());
            };
            let start = self.offset - held as u64;
            let fresh = length - held;
            self.offset += fresh as u64;
            bytes = &bytes[fresh..];
            self.payload_left = header.payload_len;
            self.previous = Some(header.id);
            self.ended = header.status != ObjectStatus::Normal;
            mark(ObjectMark { start, payload_start: self.offset, ..header });
        }
        Ok(())
    }

    /// Parses a header at the start of `buf`: the mark without its offsets, and its length.
    fn header(&self, buf: &[u8]) -> Result<Option<(ObjectMark, usize)>, ProtocolError> {
        if self.ended {
            return Err(ProtocolError::violation(
                "an object follows the end of its group or track",
            ));
        }
        let int = |at: usize| self.coding.read(buf.get(at..)?).map(|(value, n)| (value, at + n));
        let Some((delta, mut end)) = int(0) else { return Ok(None) };
        let id = match self.previous {
            Some(previous) => previous.checked_add(1).and_then(|next| next.checked_add(delta)),
            None => Some(delta),
        }
        .ok_or_else(|| ProtocolError::violation("an Object ID exceeds 2^64-1"))?;
        let mut properties = &[][..];
        if self.has_properties {
            let Some((length, from)) = int(end) else { return Ok(None) };
            if length > MAX_PROPERTIES {
                return Err(ProtocolError::violation(format!(
                    "an object has {length} bytes of properties, at most {MAX_PROPERTIES} are taken"
                )));
            }
            let Some(bytes) = buf.get(from..from + length as usize) else { return Ok(None) };
            properties = bytes;
            end = from + length as usize;
        }
        let Some((payload_len, mut end)) = int(end) else { return Ok(None) };
        let mut status = ObjectStatus::Normal;
        if payload_len == 0 {
            let Some((value, after)) = int(end) else { return Ok(None) };
            status = ObjectStatus::from_wire(value)?;
            end = after;
        }
        if status != ObjectStatus::Normal && !properties.is_empty() {
            return Err(ProtocolError::violation("an object that is not Normal has properties"));
        }
        let properties = Bytes::copy_from_slice(properties);
        if !properties.is_empty() {
            Properties::decode(properties.clone(), self.coding)?;
        }
        Ok(Some((
            ObjectMark { id, start: 0, payload_start: 0, payload_len, status, properties },
            end,
        )))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{ObjectHeader, SubgroupId};

    fn header(properties: bool) -> SubgroupHeader {
        SubgroupHeader {
            track_alias: 1,
            group: 2,
            subgroup: SubgroupId::Known(0),
            priority: None,
            properties,
            end_of_group: false,
            first_object: true,
        }
    }

    proptest! {
        #[test]
        fn objects_are_found_however_the_stream_is_cut(
            gaps in prop::collection::vec((0u64..3, 0usize..300, 0u64..200_000), 1..12),
            cuts in prop::collection::vec(1usize..90, 1..40),
            with_properties: bool,
        ) {
            let mut stream = BytesMut::new();
            let mut expected = Vec::new();
            let mut previous = None;
            for (gap, size, timestamp) in gaps {
                let id = previous.map_or(gap, |p: u64| p + 1 + gap);
                let mut properties = Properties::new();
                properties.push_int(0x10, timestamp);
                let properties = with_properties.then(|| properties.to_bytes(IntCoding::LeadingOnes));
                let start = stream.len() as u64;
                ObjectHeader { id, previous, properties: properties.as_ref(), payload: size as u64, status: ObjectStatus::Normal }
                    .encode(&mut stream, IntCoding::LeadingOnes);
                expected.push(ObjectMark {
                    id, start, payload_start: stream.len() as u64, payload_len: size as u64,
                    status: ObjectStatus::Normal, properties: properties.unwrap_or_default(),
                });
                stream.resize(stream.len() + size, 0xee);
                previous = Some(id);
            }
            let mut scanner = ObjectScanner::new(&header(with_properties), IntCoding::LeadingOnes);
            let mut found = Vec::new();
            let mut rest = &stream[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (now, later) = rest.split_at(rest.len().min(*cut));
                scanner.scan(now, |mark| found.push(mark)).unwrap();
                rest = later;
            }
            prop_assert_eq!(found, expected);
            prop_assert!(scanner.at_boundary());
            prop_assert_eq!(scanner.offset(), stream.len() as u64);
        }

        #[test]
        fn random_bytes_never_panic(bytes: Vec<u8>, properties: bool) {
            let mut scanner = ObjectScanner::new(&header(properties), IntCoding::LeadingOnes);
            for chunk in bytes.chunks(3) {
                if scanner.scan(chunk, |_| ()).is_err() { break; }
            }
        }
    }

    #[test]
    fn nothing_follows_the_end_of_a_group() {
        let mut scanner = ObjectScanner::new(&header(false), IntCoding::LeadingOnes);
        let error = scanner.scan(&[0, 0, 3, 0, 1, 9], |_| ()).unwrap_err();
        assert!(error.reason.contains("follows the end"), "{error}");
    }
}
