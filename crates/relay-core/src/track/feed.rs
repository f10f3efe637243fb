//! One source's stream of a subgroup, on its way into the track.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use moqt::{ObjectMark, ObjectScanner, ProtocolError, SubgroupHeader};

use super::{CODING, OBJECT_COST, Subgroup, SubgroupSeq};
use crate::SessionId;

/// A stream that a source brings, in a number that the track never gives again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FeedId(pub(super) u64);

/// What came on one stream and was not given to the subgroup yet.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) source: SessionId,
    pub(super) header: SubgroupHeader,
    /// Where it goes; `None` until its first object tells which subgroup it is.
    pub(super) seq: Option<SubgroupSeq>,
    scanner: ObjectScanner,
    /// Objects of which something is still to be given or dropped.
    pub(super) queue: VecDeque<Mark>,
    /// Bytes from `start` on.
    buffer: VecDeque<Bytes>,
    /// Offset of the first byte in `buffer`.
    start: u64,
    /// The object before the queue's first on this stream.
    pub(super) previous: Option<u64>,
    pub(super) heard: Instant,
    /// All of it came.
    pub(super) finished: bool,
    /// What the track counts for it.
    pub(super) counted: u64,
}

/// An object on a feed.
#[derive(Debug)]
pub(super) struct Mark {
    pub(super) object: ObjectMark,
    pub(super) received: Instant,
    /// It is known to agree with the copy held, or is that copy.
    pub(super) compared: bool,
    /// This feed gave the object's header to the subgroup.
    pub(super) begun: bool,
    /// Its head was given or dropped, and is of no use to the part of the subgroup that the feed
    /// goes to now.
    pub(super) lost: bool,
}

impl Feed {
    pub(super) fn new(source: SessionId, header: SubgroupHeader, now: Instant) -> Self {
        Self {
            source,
            header,
            seq: None,
            scanner: ObjectScanner::new(&header, CODING),
            queue: VecDeque::new(),
            buffer: VecDeque::new(),
            start: 0,
            previous: None,
            heard: now,
            finished: false,
            counted: 0,
        }
    }

    /// The stream's next bytes.
    pub(super) fn take(&mut self, bytes: Bytes, now: Instant) -> Result<(), ProtocolError> {
        let queue = &mut self.queue;
        self.scanner.scan_chunk(&bytes, |object| {
            queue.push_back(Mark {
                object,
                received: now,
                compared: false,
                begun: false,
                lost: false,
            });
        })?;
        self.buffer.push_back(bytes);
        self.heard = now;
        Ok(())
    }

    /// Whether a FIN may come now.
    pub(super) fn at_boundary(&self) -> bool {
        self.scanner.at_boundary()
    }

    /// Offset after the last byte that came.
    pub(super) fn offset(&self) -> u64 {
        self.scanner.offset()
    }

    /// Offset of the first byte kept.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// What it costs to keep.
    pub(super) fn cost(&self) -> u64 {
        self.offset() - self.start + self.queue.len() as u64 * OBJECT_COST
    }

    /// The last object that came.
    pub(super) fn last(&self) -> Option<u64> {
        self.queue.back().map(|mark| mark.object.id).or(self.previous)
    }

    /// Whether its next object is the first ever published in the subgroup.
    pub(super) fn at_first_object(&self) -> bool {
        self.header.first_object && self.previous.is_none()
    }

    /// Forgets the bytes before `offset`.
    pub(super) fn drop_to(&mut self, offset: u64) {
        while self.start < offset {
            let Some(first) = self.buffer.front_mut() else { return };
            let gone = (offset - self.start).min(first.len() as u64);
            if gone == first.len() as u64 {
                self.buffer.pop_front();
            } else {
                let _ = first.split_to(gone as usize);
            }
            self.start += gone;
        }
    }

    /// Gives the bytes before `offset` to the subgroup; whole chunks where it can.
    pub(super) fn move_to(&mut self, offset: u64, held: &mut Subgroup) {
        while self.start < offset {
            let Some(first) = self.buffer.front_mut() else { return };
            let taken = (offset - self.start).min(first.len() as u64);
            self.start += taken;
            if taken == first.len() as u64 {
                held.push(std::mem::take(first));
                self.buffer.pop_front();
            } else {
                held.push(first.split_to(taken as usize));
            }
        }
    }

    /// The Object ID field at the start of the buffer, written anew for an object that follows
    /// `previous`: it and the length of the field it replaces.
    pub(super) fn respell(&self, id: u64, previous: Option<u64>) -> (Bytes, u64) {
        let first = self.buffer.iter().find_map(|chunk| chunk.first());
        let length = first.map_or(0, |first| CODING.length(*first) as u64);
        let mut field = BytesMut::new();
        CODING.write(&mut field, previous.map_or(id, |previous| id - previous - 1));
        (field.freeze(), length)
    }

    /// From now on it goes to another part of its subgroup.
    pub(super) fn redirect(&mut self, seq: SubgroupSeq) {
        self.seq = Some(seq);
        if let Some(mark) = self.queue.front_mut() {
            mark.lost = self.start > mark.object.start;
        }
    }

    /// The queue's first object is done with.
    pub(super) fn pop(&mut self) -> Option<Mark> {
        let mark = self.queue.pop_front()?;
        self.previous = Some(mark.object.id);
        Some(mark)
    }
}
