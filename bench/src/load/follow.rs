//! Finds the objects of a subgroup stream and their stamps without keeping any payload.

use std::collections::VecDeque;

use moqt::{IntCoding, ObjectScanner, ProtocolError, SubgroupHeader};

use super::stamp::Stamp;
use crate::clock::Micros;

/// An object that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrived {
    /// Its ID.
    pub(super) object: u64,
    /// Payload bytes.
    pub(super) bytes: u64,
    /// When its stamp was here, as far as it has one.
    pub(super) begun: Micros,
    /// What its payload began with; `None` when it is too short for a stamp.
    pub(super) stamp: Option<Stamp>,
}

#[derive(Debug)]
struct Begun {
    object: u64,
    payload_start: u64,
    end: u64,
    stamp: [u8; Stamp::LENGTH],
    stamped: Micros,
}

/// Follows one stream. Feed every byte after the subgroup header.
#[derive(Debug)]
pub(super) struct Follow {
    scanner: ObjectScanner,
    begun: VecDeque<Begun>,
}

impl Follow {
    /// For the stream that began with `header`.
    pub(super) fn new(header: &SubgroupHeader, coding: IntCoding) -> Self {
        Self { scanner: ObjectScanner::new(header, coding), begun: VecDeque::new() }
    }

    /// Whether the stream may end here.
    pub(super) fn at_boundary(&self) -> bool {
        self.scanner.at_boundary()
    }

    /// Takes the bytes that came `now` and calls `arrived` for each object that is whole with them.
    ///
    /// # Errors
    /// When the bytes are no objects.
    pub(super) fn handle(
        &mut self,
        chunk: &[u8],
        now: Micros,
        mut arrived: impl FnMut(Arrived),
    ) -> Result<(), ProtocolError> {
        let from = self.scanner.offset();
        let begun = &mut self.begun;
        self.scanner.scan(chunk, |mark| {
            begun.push_back(Begun {
                object: mark.id,
                payload_start: mark.payload_start,
                end: mark.end(),
                stamp: [0; Stamp::LENGTH],
                stamped: now,
            });
        })?;
        let there = from + chunk.len() as u64;
        for next in &mut *begun {
            // The part of the stamp that lies in this chunk.
            let stamp_end = (next.payload_start + Stamp::LENGTH as u64).min(next.end);
            let (start, end) = (next.payload_start.max(from), stamp_end.min(there));
            if start < end {
                let to = (start - next.payload_start) as usize;
                let part = &chunk[(start - from) as usize..(end - from) as usize];
                next.stamp[to..to + part.len()].copy_from_slice(part);
                next.stamped = now;
            }
        }
        while let Some(next) = begun.front().filter(|next| next.end <= there) {
            let bytes = next.end - next.payload_start;
            let stamped = bytes >= Stamp::LENGTH as u64;
            let stamp = stamped.then(|| Stamp::parse(&next.stamp));
            arrived(Arrived { object: next.object, bytes, begun: next.stamped, stamp });
            begun.pop_front();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use moqt::{ObjectHeader, ObjectStatus, SubgroupId};

    use super::*;

    #[test]
    fn stamps_are_found_however_the_stream_is_cut() {
        let header = SubgroupHeader {
            track_alias: 1,
            group: 4,
            subgroup: SubgroupId::Known(0),
            priority: None,
            properties: false,
            end_of_group: false,
            first_object: true,
        };
        let coding = IntCoding::LeadingOnes;
        let mut stream = BytesMut::new();
        let mut wanted = Vec::new();
        let mut previous = None;
        for (id, size) in [(0u64, 24usize), (1, 400), (2, 30), (3, 25), (4, 9000)] {
            let stamp = Stamp { sent: 1000 + id, group: 4, object: id };
            ObjectHeader {
                id,
                previous,
                properties: None,
                payload: size as u64,
                status: ObjectStatus::Normal,
            }
            .encode(&mut stream, coding);
            let stamp_end = stream.len() + Stamp::LENGTH;
            stream.extend_from_slice(&stamp.payload(size));
            wanted.push((id, size as u64, stamp_end, stamp));
            previous = Some(id);
        }
        for cut in [1, 7, 23, 450, 100_000] {
            let mut follow = Follow::new(&header, coding);
            let mut found = Vec::new();
            // A chunk comes at the time that is its number.
            for (now, chunk) in (0..).zip(stream.chunks(cut)) {
                follow.handle(chunk, now, |arrived| found.push(arrived)).unwrap();
            }
            let wanted = wanted.iter().map(|(object, bytes, stamp_end, stamp)| Arrived {
                object: *object,
                bytes: *bytes,
                begun: ((stamp_end - 1) / cut) as Micros,
                stamp: Some(*stamp),
            });
            assert_eq!(found, wanted.collect::<Vec<_>>(), "in chunks of {cut}");
            assert!(follow.at_boundary());
        }
    }
}
