//! Finds the objects in a subgroup stream's bytes without copying payloads.

use bytes::{Bytes, BytesMut};

use crate::{IntCoding, ObjectStatus, ProtocolError, RawProperties, SubgroupHeader};

/// Longest properties field of one object we accept, bytes. Relays must hold it whole to check
/// it; codec configurations, the largest in practice, stay below 4 KiB.
const MAX_PROPERTIES: u64 = 64 * 1024;

/// Longest object header: its properties, seven integers and a priority.
const MAX_HEADER: usize = MAX_PROPERTIES as usize + 7 * 9 + 1;

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
        self.payload_start.saturating_add(self.payload_len)
    }
}

/// Follows a stream of headers and payloads, in chunks of any size: the part that subgroup and
/// fetch streams have in common.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    /// Offset of the next byte to come.
    offset: u64,
    /// Start of a header that is not whole yet.
    partial: BytesMut,
    /// Payload bytes still to come of the current object.
    payload_left: u64,
}

/// A header at the start of a buffer.
pub(crate) struct Header<T> {
    pub(crate) what: T,
    /// Its length in bytes.
    pub(crate) length: usize,
    /// Bytes of payload that follow it.
    pub(crate) payload: u64,
}

impl Walk {
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn at_boundary(&self) -> bool {
        self.payload_left == 0 && self.partial.is_empty()
    }

    /// Takes the next bytes. `parse` is given what may be a header, and whether it lies in
    /// `bytes`; `found` the header and where it starts and ends.
    pub(crate) fn walk<T>(
        &mut self,
        mut bytes: &[u8],
        mut parse: impl FnMut(&[u8], bool) -> Result<Option<Header<T>>, ProtocolError>,
        mut found: impl FnMut(T, u64, u64),
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
            let header = if held == 0 {
                parse(bytes, true)?
            } else {
                self.partial.extend_from_slice(&bytes[..bytes.len().min(MAX_HEADER)]);
                let header = parse(&self.partial, false)?;
                if header.is_some() {
                    self.partial = BytesMut::new();
                } else {
                    self.partial.truncate(held);
                }
                header
            };
            let Some(Header { what, length, payload }) = header else {
                self.partial.extend_from_slice(bytes);
                self.offset += bytes.len() as u64;
                return Ok(());
            };
            let start = self.offset - held as u64;
            let fresh = length - held;
            self.offset += fresh as u64;
            bytes = &bytes[fresh..];
            self.payload_left = payload;
            found(what, start, self.offset);
        }
        Ok(())
    }
}

/// A properties field at the start of `buf`, checked: its bytes and its whole length.
pub(crate) fn properties_field(
    buf: &[u8],
    coding: IntCoding,
) -> Result<Option<(&[u8], usize)>, ProtocolError> {
    let Some((length, from)) = coding.read(buf) else { return Ok(None) };
    if length > MAX_PROPERTIES {
        return Err(ProtocolError::violation(format!(
            "an object has {length} bytes of properties, at most {MAX_PROPERTIES} are taken"
        )));
    }
    let end = from + length as usize;
    let Some(properties) = buf.get(from..end) else { return Ok(None) };
    RawProperties::new(properties, coding).check()?;
    Ok(Some((properties, end)))
}

/// Walks the bytes of one subgroup stream, in chunks of any size.
///
/// Feed every byte after SUBGROUP_HEADER to [`ObjectScanner::scan`] or
/// [`ObjectScanner::scan_chunk`] in order; each object's [`ObjectMark`] comes out as soon as its
/// header is whole, before its payload.
#[derive(Debug)]
pub struct ObjectScanner {
    coding: IntCoding,
    has_properties: bool,
    walk: Walk,
    state: ScanState,
}

#[derive(Clone, Copy, Debug, Default)]
struct ScanState {
    previous: Option<u64>,
    ended: bool,
}

impl ObjectScanner {
    /// A scanner for the stream that began with `header`.
    pub fn new(header: &SubgroupHeader, coding: IntCoding) -> Self {
        Self {
            coding,
            has_properties: header.properties,
            walk: Walk::default(),
            state: ScanState::default(),
        }
    }

    /// Bytes scanned so far.
    pub fn offset(&self) -> u64 {
        self.walk.offset()
    }

    /// Whether a FIN may come now: no object is half received.
    pub fn at_boundary(&self) -> bool {
        self.walk.at_boundary()
    }

    /// Takes the next bytes of the stream and calls `mark` for each object that begins in them.
    pub fn scan(
        &mut self,
        bytes: &[u8],
        mark: impl FnMut(ObjectMark),
    ) -> Result<(), ProtocolError> {
        self.scan_with(bytes, |properties, _| Bytes::copy_from_slice(properties), mark)
    }

    /// The same without copying properties that lie whole in `chunk`: the marks share it.
    pub fn scan_chunk(
        &mut self,
        chunk: &Bytes,
        mark: impl FnMut(ObjectMark),
    ) -> Result<(), ProtocolError> {
        let keep = |properties: &[u8], in_chunk: bool| match in_chunk {
            true => chunk.slice_ref(properties),
            false => Bytes::copy_from_slice(properties),
        };
        self.scan_with(chunk, keep, mark)
    }

    fn scan_with(
        &mut self,
        bytes: &[u8],
        keep: impl Fn(&[u8], bool) -> Bytes,
        mut mark: impl FnMut(ObjectMark),
    ) -> Result<(), ProtocolError> {
        let (coding, has_properties, state) = (self.coding, self.has_properties, &mut self.state);
        self.walk.walk(
            bytes,
            |buf, in_chunk| {
                let header = object_header(buf, coding, has_properties, *state)?;
                Ok(header.map(|Header { what: (id, status, properties), length, payload }| {
                    *state =
                        ScanState { previous: Some(id), ended: status != ObjectStatus::Normal };
                    let properties = if properties.is_empty() {
                        Bytes::new()
                    } else {
                        keep(properties, in_chunk)
                    };
                    Header { what: (id, status, properties, payload), length, payload }
                }))
            },
            |(id, status, properties, payload_len), start, payload_start| {
                mark(ObjectMark { id, start, payload_start, payload_len, status, properties });
            },
        )
    }
}

/// Parses an object's header at the start of `buf` ("Subgroup Header").
#[allow(clippy::type_complexity, reason = "used once, just above")]
fn object_header(
    buf: &[u8],
    coding: IntCoding,
    has_properties: bool,
    state: ScanState,
) -> Result<Option<Header<(u64, ObjectStatus, &[u8])>>, ProtocolError> {
    if state.ended {
        return Err(ProtocolError::violation("an object follows the end of its group or track"));
    }
    let int = |at: usize| coding.read(&buf[at..]).map(|(value, length)| (value, at + length));
    let Some((delta, mut end)) = int(0) else { return Ok(None) };
    let id = match state.previous {
        Some(previous) => previous.checked_add(1).and_then(|next| next.checked_add(delta)),
        None => Some(delta),
    }
    .filter(|id| *id <= coding.max())
    .ok_or_else(|| ProtocolError::violation("an Object ID exceeds what can be written"))?;
    let mut properties = &[][..];
    if has_properties {
        let Some((bytes, length)) = properties_field(&buf[end..], coding)? else {
            return Ok(None);
        };
        properties = bytes;
        end += length;
    }
    let Some((payload, mut length)) = int(end) else { return Ok(None) };
    let mut status = ObjectStatus::Normal;
    if payload == 0 {
        let Some((value, end)) = int(length) else { return Ok(None) };
        status = ObjectStatus::from_wire(value)?;
        length = end;
    }
    if status != ObjectStatus::Normal && !properties.is_empty() {
        return Err(ProtocolError::violation("an object that is not Normal has properties"));
    }
    Ok(Some(Header { what: (id, status, properties), length, payload }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{ObjectHeader, Properties, SubgroupId};

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
            let mut sharing = ObjectScanner::new(&header(with_properties), IntCoding::LeadingOnes);
            let (mut found, mut shared) = (Vec::new(), Vec::new());
            let stream = stream.freeze();
            let mut rest = stream.clone();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let now = rest.split_to(rest.len().min(*cut));
                scanner.scan(&now, |mark| found.push(mark)).unwrap();
                sharing.scan_chunk(&now, |mark| shared.push(mark)).unwrap();
            }
            prop_assert_eq!(&found, &expected);
            prop_assert_eq!(&shared, &expected);
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
