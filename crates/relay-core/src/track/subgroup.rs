//! One subgroup's bytes as they are held, and where its objects lie in them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use moqt::{ObjectStatus, RawProperties, ResetCode, SubgroupHeader, SubgroupId};

use super::{CODING, FeedId};

/// What an object costs to keep besides its bytes.
pub(super) const OBJECT_COST: u64 = size_of::<ObjectEntry>() as u64;

/// How a subgroup stands with its sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubgroupEnd {
    /// More may come.
    Open,
    /// Its last source went away in the middle; another may go on with it.
    Interrupted,
    /// All of it is here.
    Finished,
    /// No more comes, though there was more. What does come of it later is held as another
    /// [`Subgroup`] of the same ID.
    Reset(ResetCode),
}

/// One subgroup's bytes after its header, as they go on a stream of its own.
///
/// They are whatever source was first with each of them. An object's header is held when it is
/// whole, its payload as it comes.
#[derive(Debug)]
pub struct Subgroup {
    /// Its header; the alias in it is a source's, the Subgroup ID always known.
    pub header: SubgroupHeader,
    id: u64,
    /// With the offset of each one's first byte.
    chunks: VecDeque<(u64, Bytes)>,
    /// Offset of the first byte held.
    base: u64,
    /// Offset after the last byte held.
    len: u64,
    objects: VecDeque<ObjectEntry>,
    /// Objects trimmed off the front.
    first_index: u64,
    pub(super) end: SubgroupEnd,
    /// When its end was known.
    pub(super) finished: Option<Instant>,
    pub(super) arrived: Instant,
    /// Who brings it.
    pub(super) feeds: Vec<FeedId>,
    /// The final object, once a source said so with a FIN.
    pub(super) last: Option<u64>,
}

/// An object inside a subgroup. Offsets count from the first byte after the subgroup's header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ObjectEntry {
    pub(crate) id: u64,
    /// Where its header starts.
    pub(crate) start: u64,
    /// Where its payload starts.
    pub(crate) payload_start: u64,
    /// Where the next object starts.
    pub(crate) end: u64,
    pub(crate) received: Instant,
    pub(crate) status: ObjectStatus,
}

impl ObjectEntry {
    /// Whether it is older than `limit`, if there is one.
    pub(crate) fn is_older(&self, limit: Option<Duration>, now: Instant) -> bool {
        limit.is_some_and(|limit| now.saturating_duration_since(self.received) > limit)
    }

    pub(crate) fn payload_len(&self) -> u64 {
        self.end - self.payload_start
    }
}

impl Subgroup {
    pub(super) fn new(header: SubgroupHeader, id: u64, now: Instant) -> Self {
        Self {
            header: SubgroupHeader { subgroup: SubgroupId::Known(id), ..header },
            id,
            chunks: VecDeque::new(),
            base: 0,
            len: 0,
            objects: VecDeque::new(),
            first_index: 0,
            end: SubgroupEnd::Open,
            finished: None,
            arrived: now,
            feeds: Vec::new(),
            last: None,
        }
    }

    /// The Subgroup ID.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Offset after the last byte held.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing came yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How it stands with its sources.
    pub fn end(&self) -> SubgroupEnd {
        self.end
    }

    /// Whether nothing more comes of it.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.end, SubgroupEnd::Finished | SubgroupEnd::Reset(_))
    }

    /// When the last of its objects was known to be here ("Delivery Timeouts and Data
    /// Reliability").
    pub(crate) fn finished(&self) -> Option<Instant> {
        self.finished
    }

    /// Offset of the first byte that is still held.
    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    /// Index of the first object that is still known.
    pub(crate) fn first_index(&self) -> u64 {
        self.first_index
    }

    /// Index after the last object known, counted from the subgroup's first.
    pub(crate) fn object_count(&self) -> u64 {
        self.first_index + self.objects.len() as u64
    }

    /// The object of that index, if it is held.
    pub(crate) fn object(&self, index: u64) -> Option<&ObjectEntry> {
        self.objects.get(usize::try_from(index.checked_sub(self.first_index)?).ok()?)
    }

    /// Index of the first object whose ID is at least `id`, held or still to come.
    pub(crate) fn index_from(&self, id: u64) -> u64 {
        self.first_index + self.objects.partition_point(|object| object.id < id) as u64
    }

    /// The object of that ID, if it is held.
    pub(crate) fn find(&self, id: u64) -> Option<&ObjectEntry> {
        self.object(self.index_from(id)).filter(|object| object.id == id)
    }

    pub(crate) fn objects(&self) -> impl DoubleEndedIterator<Item = &ObjectEntry> {
        self.objects.iter()
    }

    /// The last object that began.
    pub(super) fn newest(&self) -> Option<&ObjectEntry> {
        self.objects.back()
    }

    /// Up to about `max` bytes from `offset` on, without copying them.
    pub(crate) fn read(&self, offset: u64, max: usize, into: &mut Vec<Bytes>) {
        debug_assert!(offset >= self.base, "what was evicted is not read");
        let first =
            self.chunks.partition_point(|(start, chunk)| start + chunk.len() as u64 <= offset);
        let mut taken = 0;
        for (start, chunk) in self.chunks.range(first..) {
            let bytes = chunk.slice(offset.saturating_sub(*start) as usize..);
            taken += bytes.len();
            into.push(bytes);
            if taken >= max {
                return;
            }
        }
    }

    /// The bytes from `start` to `end` that are held, without copying them.
    pub(crate) fn slice(&self, start: u64, end: u64) -> Vec<Bytes> {
        let mut left = usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX);
        let mut chunks = Vec::new();
        if left > 0 {
            self.read(start, left, &mut chunks);
        }
        for chunk in &mut chunks {
            chunk.truncate(left);
            left -= chunk.len();
        }
        chunks
    }

    /// The properties of an object that is held, without their length. Of one that is evicted in
    /// part there are none.
    pub(crate) fn properties(&self, object: &ObjectEntry) -> Bytes {
        if !self.header.properties || object.start < self.base {
            return Bytes::new();
        }
        let header = self.slice(object.start, object.payload_start);
        let header = match <[Bytes; 1]>::try_from(header) {
            Ok([whole]) => whole,
            Err(parts) => parts.concat().into(),
        };
        // It was parsed when it came, so that every integer is there.
        let int =
            |at: usize| CODING.read(header.get(at..)?).map(|(value, size)| (value, at + size));
        let field = int(0).and_then(|(_, at)| int(at)).and_then(|(length, from)| {
            let end = from.checked_add(usize::try_from(length).ok()?)?;
            (end <= header.len()).then(|| header.slice(from..end))
        });
        field.unwrap_or_default()
    }

    /// What a copy of a held object has otherwise, though it must not ("Malformed Tracks").
    pub(super) fn differs(
        &self,
        held: &ObjectEntry,
        payload_len: u64,
        status: ObjectStatus,
        properties: &Bytes,
    ) -> Option<&'static str> {
        if held.payload_len() != payload_len {
            return Some("payload length");
        }
        if held.status != status {
            return Some("status");
        }
        let immutable = |bytes: &[u8]| {
            RawProperties::new(bytes, CODING)
                .find_bytes(moqt::property::IMMUTABLE)
                .map(<[u8]>::to_vec)
        };
        // What was trimmed cannot be compared.
        let known = held.start >= self.base;
        let ours = known.then(|| self.properties(held))?;
        (ours != *properties && immutable(&ours) != immutable(properties))
            .then_some("immutable properties")
    }

    /// An object begins, after all that is held or is about to be.
    pub(super) fn begin(&mut self, object: ObjectEntry) {
        self.objects.push_back(object);
    }

    /// Takes the bytes that come next.
    pub(super) fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            let start = self.len;
            self.len += bytes.len() as u64;
            self.chunks.push_back((start, bytes));
        }
    }

    /// Drops objects off the front until about `excess` was gained; returns how many bytes and
    /// objects went.
    pub(super) fn trim(&mut self, excess: u64) -> (u64, u64) {
        let (base, first) = (self.base, self.first_index);
        let mut gained = 0;
        while self.objects.len() > 1 && gained < excess {
            gained += self.objects[1].start - self.objects[0].start + OBJECT_COST;
            self.objects.pop_front();
            self.first_index += 1;
        }
        // An object that is too much by itself goes from its start, too.
        let inside = excess.saturating_sub(gained);
        let keep = self.objects.front().map_or(self.base, |object| object.start).max(self.base);
        let keep = (keep + inside).min(self.len);
        while let Some((start, chunk)) = self.chunks.front_mut() {
            let gone = keep - *start;
            if gone == 0 {
                break;
            }
            if chunk.len() as u64 <= gone {
                self.base = *start + chunk.len() as u64;
                self.chunks.pop_front();
            } else {
                let _ = chunk.split_to(gone as usize);
                *start = keep;
                self.base = keep;
            }
        }
        (self.base - base, self.first_index - first)
    }

    /// Bytes held.
    pub(super) fn held(&self) -> u64 {
        self.len - self.base
    }

    /// Objects held.
    pub(super) fn held_objects(&self) -> u64 {
        self.objects.len() as u64
    }
}
