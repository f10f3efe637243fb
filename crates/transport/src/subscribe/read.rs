//! Reads one data stream and yields its objects whole.

use bytes::{Bytes, BytesMut};
use moqt::{
    FetchMark, FetchScanner, GroupOrder, Location, ObjectScanner, ObjectStatus, Properties,
    ProtocolError, ResetCode, SubgroupHeader, SubgroupId,
};
use tokio::sync::mpsc;

use super::{Object, Received, Refusal};
use crate::{CANONICAL, ReadError, RecvStream};

/// Bytes asked for at once.
const READ: usize = 64 * 1024;
/// Largest payload that is put together, bytes.
const MAX_PAYLOAD: u64 = 64 << 20;

/// How a stream ended, for the session's task.
pub(super) type Ended = Result<(), ProtocolError>;

/// An object whose payload is not whole yet.
struct Partial {
    object: Object,
    missing: u64,
    payload: BytesMut,
}

/// Cuts a stream's bytes into objects. Marks come from a scanner that has seen the same bytes.
struct Assembler {
    current: Option<Partial>,
    ready: Vec<Object>,
}

impl Assembler {
    fn new() -> Self {
        Self { current: None, ready: Vec::new() }
    }

    /// `chunk` begins at stream offset `at`; `marks` are those found in it, with the offset and
    /// length of each payload.
    fn take(&mut self, chunk: &Bytes, at: u64, marks: Vec<(Object, u64, u64)>) {
        let from = chunk.len().min(self.missing());
        self.append(chunk.slice(..from));
        for (object, start, length) in marks {
            let start = usize::try_from(start - at).unwrap_or(chunk.len()).min(chunk.len());
            let end = (length.min((chunk.len() - start) as u64)) as usize + start;
            self.current = Some(Partial { object, missing: length, payload: BytesMut::new() });
            self.append(chunk.slice(start..end));
        }
    }

    fn missing(&self) -> usize {
        let missing = self.current.as_ref().map_or(0, |partial| partial.missing);
        usize::try_from(missing).unwrap_or(usize::MAX)
    }

    fn append(&mut self, bytes: Bytes) {
        let Some(partial) = &mut self.current else { return };
        partial.missing -= bytes.len() as u64;
        let whole = partial.missing == 0;
        if whole && partial.payload.is_empty() {
            partial.object.payload = bytes;
        } else {
            partial.payload.extend_from_slice(&bytes);
        }
        if whole && let Some(mut partial) = self.current.take() {
            if !partial.payload.is_empty() {
                partial.object.payload = partial.payload.freeze();
            }
            self.ready.push(partial.object);
        }
    }
}

fn properties(bytes: Bytes) -> Result<Properties, ProtocolError> {
    Properties::decode(bytes, CANONICAL.int_coding())
}

fn check_size(length: u64) -> Result<(), ProtocolError> {
    if length > MAX_PAYLOAD {
        let reason = format!("an object has {length} bytes, at most {MAX_PAYLOAD} are taken");
        return Err(ProtocolError::new(moqt::SessionCode::INTERNAL_ERROR, reason));
    }
    Ok(())
}

/// Reads a subgroup to its end.
pub(super) async fn subgroup(
    header: SubgroupHeader,
    head: Bytes,
    mut stream: RecvStream,
    queue: mpsc::Sender<Received>,
) -> Ended {
    let mut scanner = ObjectScanner::new(&header, CANONICAL.int_coding());
    let mut assembler = Assembler::new();
    let group = header.group;
    let mut subgroup = match header.subgroup {
        SubgroupId::Known(id) => Some(id),
        SubgroupId::FirstObject => None,
    };
    let mut chunk = head;
    loop {
        let at = scanner.offset();
        let mut found = Vec::new();
        scanner.scan_chunk(&chunk, |mark| found.push(mark))?;
        let mut marks = Vec::with_capacity(found.len());
        for mark in found {
            check_size(mark.payload_len)?;
            let object = Object {
                location: Location { group, object: mark.id },
                subgroup: Some(*subgroup.get_or_insert(mark.id)),
                priority: header.priority,
                status: mark.status,
                properties: properties(mark.properties)?,
                payload: Bytes::new(),
                fetched: false,
            };
            marks.push((object, mark.payload_start, mark.payload_len));
        }
        assembler.take(&chunk, at, marks);
        if !yield_ready(&mut assembler, &queue, &mut stream).await {
            return Ok(());
        }
        let last = match read(&mut stream, &queue).await {
            Some(Ok(Some(bytes))) => {
                chunk = bytes;
                continue;
            }
            Some(Ok(None)) if !scanner.at_boundary() => {
                return Err(ProtocolError::violation("a stream ended inside an object"));
            }
            Some(Ok(None)) => Received::SubgroupEnd { group, subgroup },
            Some(Err(ReadError::Reset(code))) => Received::Reset { group, subgroup, code },
            Some(Err(ReadError::Gone(_))) | None => return Ok(()),
        };
        let _ = queue.send(last).await;
        return Ok(());
    }
}

/// Reads a fetch stream to its end.
pub(super) async fn fetch(
    order: GroupOrder,
    head: Bytes,
    mut stream: RecvStream,
    queue: mpsc::Sender<Received>,
) -> Ended {
    let mut scanner = FetchScanner::new(CANONICAL, order);
    let mut assembler = Assembler::new();
    let mut chunk = head;
    loop {
        let at = scanner.offset();
        let mut found = Vec::new();
        scanner.scan(&chunk, |mark| {
            if let FetchMark::Object(object) = mark {
                found.push(object);
            }
        })?;
        let mut marks = Vec::with_capacity(found.len());
        for mark in found {
            check_size(mark.payload_len)?;
            let object = Object {
                location: mark.location,
                subgroup: mark.subgroup,
                priority: Some(mark.priority),
                status: ObjectStatus::Normal,
                properties: properties(mark.properties)?,
                payload: Bytes::new(),
                fetched: true,
            };
            marks.push((object, mark.payload_start, mark.payload_len));
        }
        assembler.take(&chunk, at, marks);
        if !yield_ready(&mut assembler, &queue, &mut stream).await {
            return Ok(());
        }
        let result = match read(&mut stream, &queue).await {
            Some(Ok(Some(bytes))) => {
                chunk = bytes;
                continue;
            }
            Some(Ok(None)) if !scanner.at_boundary() => {
                return Err(ProtocolError::violation("a fetch stream ended inside an object"));
            }
            Some(Ok(None)) => Ok(()),
            Some(Err(ReadError::Reset(code))) => Err(Refusal::Reset(code)),
            Some(Err(ReadError::Gone(_))) | None => return Ok(()),
        };
        let _ = queue.send(Received::BackfillEnd(result)).await;
        return Ok(());
    }
}

/// The next bytes; `None` when nobody wants them any more.
async fn read(
    stream: &mut RecvStream,
    queue: &mpsc::Sender<Received>,
) -> Option<Result<Option<Bytes>, ReadError>> {
    tokio::select! {
        result = stream.read_chunk(READ) => Some(result),
        () = queue.closed() => {
            stream.stop(ResetCode::CANCELLED);
            None
        }
    }
}

/// Passes on what is whole; `false` when nobody wants it any more.
async fn yield_ready(
    assembler: &mut Assembler,
    queue: &mpsc::Sender<Received>,
    stream: &mut RecvStream,
) -> bool {
    for object in assembler.ready.drain(..) {
        if queue.send(Received::Object(object)).await.is_err() {
            stream.stop(ResetCode::CANCELLED);
            return false;
        }
    }
    true
}
