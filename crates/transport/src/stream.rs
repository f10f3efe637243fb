//! Streams with the draft's codes, whatever carries them; data streams in one layout, whatever the
//! peer speaks.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use moqt::{ResetCode, SessionCode, TranscodeError, Transcoder, Version};

/// Bytes rewritten for another draft at once. They are handed to QUIC before more are taken.
const REWRITE: usize = 32 * 1024;
/// Bytes asked for at once of a stream that is rewritten.
const READ: usize = 32 * 1024;

/// Why nothing more can be written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriteError {
    /// The peer asked to stop.
    #[error("the peer stopped the stream: {0}")]
    Stopped(ResetCode),
    /// The connection is gone, or the stream was finished or reset.
    #[error("the stream is gone: {0}")]
    Gone(String),
}

/// Why nothing more can be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// The peer reset the stream.
    #[error("the peer reset the stream: {0}")]
    Reset(ResetCode),
    /// The connection is gone.
    #[error("the stream is gone: {0}")]
    Gone(String),
}

/// The sending side of a stream. Dropping it finishes it.
#[derive(Debug)]
pub struct SendStream {
    stream: web_transport_quinn::SendStream,
    version: Version,
    rewriting: Option<Box<Rewriting>>,
    /// Bytes that QUIC was handed since somebody asked.
    handed: u64,
}

/// A stream whose bytes become another draft's on their way.
#[derive(Debug)]
struct Rewriting {
    transcoder: Transcoder,
    /// What was rewritten and not handed on yet.
    ready: VecDeque<Bytes>,
    /// What each of those is made of.
    sources: VecDeque<Source>,
    /// How many bytes of the caller's all of them are.
    owed: usize,
}

/// What a piece of a rewritten stream is made of.
#[derive(Clone, Copy, Debug)]
struct Source {
    /// Its bytes that QUIC does not have yet.
    left: usize,
    /// How many of the caller's bytes those are.
    of: usize,
}

impl SendStream {
    /// `handed`: bytes that it begins with, which QUIC has already.
    pub(crate) fn new(
        stream: web_transport_quinn::SendStream,
        version: Version,
        handed: u64,
    ) -> Self {
        Self { stream, version, rewriting: None, handed }
    }

    /// The same, taking the canonical layout.
    pub(crate) fn rewriting(self, transcoder: Option<Transcoder>) -> Self {
        let rewriting = transcoder.map(Rewriting::new);
        Self { rewriting: rewriting.map(Box::new), ..self }
    }

    /// Hands chunks to QUIC without copying them; whole chunks taken are left empty, a chunk
    /// taken in part keeps its rest. Returns how many bytes were taken, at least one. After
    /// `Pending` the next call must begin with the same bytes: some of them may be under way.
    pub fn poll_write_chunks(
        &mut self,
        cx: &mut Context<'_>,
        chunks: &mut [Bytes],
    ) -> Poll<Result<usize, WriteError>> {
        let version = self.version;
        let error = |error| write_error(error, version);
        let Some(rewriting) = &mut self.rewriting else {
            // The future holds no state between polls: quinn keeps the waker by stream.
            let written = ready!(pin!(self.stream.write_chunks(chunks)).poll(cx)).map_err(error)?;
            self.handed += written.bytes as u64;
            return Poll::Ready(Ok(written.bytes));
        };
        if rewriting.owed == 0
            && let Err(error) = rewriting.rewrite(chunks)
        {
            tracing::debug!(%error, "a stream cannot be said in the peer's draft");
            self.reset(ResetCode::INTERNAL_ERROR);
            return Poll::Ready(Err(WriteError::Stopped(ResetCode::INTERNAL_ERROR)));
        }
        let mut taken = 0;
        while taken == 0 && !rewriting.ready.is_empty() {
            let rest = rewriting.ready.make_contiguous();
            let written = ready!(pin!(self.stream.write_chunks(rest)).poll(cx)).map_err(error)?;
            self.handed += written.bytes as u64;
            taken += rewriting.handle_written(written.bytes);
        }
        if rewriting.ready.is_empty() {
            // The beginning of a header is kept, which nothing came out for yet.
            taken += std::mem::take(&mut rewriting.owed);
        }
        let mut left = taken;
        for chunk in chunks {
            let now = left.min(chunk.len());
            chunk.advance(now);
            left -= now;
        }
        Poll::Ready(Ok(taken))
    }

    /// How many bytes QUIC was handed of this stream since this was last asked. They are the peer's
    /// draft's and WebTransport's, not the caller's.
    pub fn take_handed(&mut self) -> u64 {
        std::mem::take(&mut self.handed)
    }

    /// Whether QUIC takes more of this stream now, or never again. To be asked of a stream that is
    /// written to next, or reset.
    pub fn poll_takes(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        let version = self.version;
        pin!(self.stream.write_chunks(&mut []))
            .poll(cx)
            .map_ok(|_| ())
            .map_err(|error| write_error(error, version))
    }

    /// Hands all of `bytes` to QUIC.
    pub async fn write_all(&mut self, bytes: Bytes) -> Result<(), WriteError> {
        let mut chunk = [bytes];
        while !chunk[0].is_empty() {
            std::future::poll_fn(|cx| self.poll_write_chunks(cx, &mut chunk)).await?;
        }
        Ok(())
    }

    /// Waits until the peer asks to stop (its code), or has everything (`None`).
    pub async fn stopped(&self) -> Result<Option<ResetCode>, WriteError> {
        match self.stream.stopped().await {
            Ok(code) => Ok(code.map(|code| ResetCode::from_wire(code.into(), self.version))),
            Err(error) => Err(WriteError::Gone(error.to_string())),
        }
    }

    /// Ends the stream after what was written. A stream that is over already stays so.
    pub fn finish(&mut self) {
        match &self.rewriting {
            // Its writer ended it inside a header: what is missing must not look complete.
            Some(rewriting) if !rewriting.transcoder.at_boundary() => {
                self.reset(ResetCode::INTERNAL_ERROR);
            }
            _ => drop(self.stream.finish()),
        }
    }

    /// Abandons the stream: what was not sent yet never will be.
    pub fn reset(&mut self, code: ResetCode) {
        let _ = self.stream.reset(wire_code(code, self.version));
    }

    /// Streams of a higher priority are sent first; equal ones share.
    pub fn set_priority(&self, priority: i32) {
        let _ = self.stream.set_priority(priority);
    }
}

impl Rewriting {
    fn new(transcoder: Transcoder) -> Self {
        Self { transcoder, ready: VecDeque::new(), sources: VecDeque::new(), owed: 0 }
    }

    /// Rewrites the beginning of `chunks`, and remembers how much of them that was.
    fn rewrite(&mut self, chunks: &[Bytes]) -> Result<(), TranscodeError> {
        let Self { transcoder, ready, sources, owed } = self;
        // The beginning of a header whose end is in a chunk to come.
        let mut held = 0;
        for chunk in chunks {
            let now = chunk.len().min(REWRITE - *owed);
            let mut used = 0;
            transcoder.transcode(&chunk.slice(..now), |bytes, of| {
                used += of;
                let of = of + std::mem::take(&mut held);
                sources.push_back(Source { left: bytes.len(), of });
                ready.push_back(bytes);
            })?;
            held += now - used;
            *owed += now;
        }
        Ok(())
    }

    /// QUIC took so much of what is ready: how many of the caller's bytes that makes. No piece
    /// counts as taken whole before all of it is.
    fn handle_written(&mut self, mut written: usize) -> usize {
        self.ready.retain(|chunk| !chunk.is_empty());
        let mut taken = 0;
        while let Some(source) = self.sources.front_mut().filter(|_| written > 0) {
            let now = written.min(source.left);
            let of = if now == source.left {
                source.of
            } else {
                source.of.saturating_sub(source.left - now)
            };
            written -= now;
            source.left -= now;
            source.of -= of;
            taken += of;
            if source.left == 0 {
                self.sources.pop_front();
            }
        }
        self.owed -= taken;
        taken
    }
}

/// The receiving side of a stream. Dropping it asks the peer to stop.
#[derive(Debug)]
pub struct RecvStream {
    stream: web_transport_quinn::RecvStream,
    version: Version,
    rewritten: Option<Box<Rewritten>>,
}

/// A stream whose bytes come in another draft's layout.
#[derive(Debug)]
struct Rewritten {
    transcoder: Transcoder,
    ready: VecDeque<Bytes>,
    /// To be closed when the stream breaks its draft's rules: nobody behind can see that.
    session: web_transport_quinn::Session,
}

impl RecvStream {
    pub(crate) fn new(stream: web_transport_quinn::RecvStream, version: Version) -> Self {
        Self { stream, version, rewritten: None }
    }

    /// The same, giving the canonical layout of what follows the stream's header, of which `head`
    /// is the first that came. Returns what is to be had at once.
    pub(crate) fn rewritten(
        self,
        transcoder: Option<Transcoder>,
        head: Bytes,
        session: &web_transport_quinn::Session,
    ) -> (Self, Bytes) {
        let Some(transcoder) = transcoder else { return (self, head) };
        let session = session.clone();
        let rewritten = Rewritten { transcoder, ready: VecDeque::new(), session };
        let mut this = Self { rewritten: Some(Box::new(rewritten)), ..self };
        // One that is wrong from the start has closed the session, which whoever reads will see.
        let _ = this.rewrite(&head);
        (this, Bytes::new())
    }

    /// The next bytes in order, or `None` after the last.
    pub async fn read_chunk(&mut self, max: usize) -> Result<Option<Bytes>, ReadError> {
        while let Some(rewritten) = &mut self.rewritten {
            if let Some(mut chunk) = rewritten.ready.pop_front() {
                if chunk.len() > max {
                    rewritten.ready.push_front(chunk.split_off(max));
                }
                return Ok(Some(chunk));
            }
            if !self.read_rewritten().await? {
                return Ok(None);
            }
        }
        let version = self.version;
        let chunk = self.stream.read_chunk(max, true).await;
        Ok(chunk.map_err(|error| read_error(error, version))?.map(|chunk| chunk.bytes))
    }

    /// Fills `chunks` with what is there, in order, and returns how many; `None` after the last.
    pub async fn read_chunks(&mut self, chunks: &mut [Bytes]) -> Result<Option<usize>, ReadError> {
        while let Some(rewritten) = &mut self.rewritten {
            let count = rewritten.ready.len().min(chunks.len());
            if count > 0 {
                for (place, chunk) in chunks.iter_mut().zip(rewritten.ready.drain(..count)) {
                    *place = chunk;
                }
                return Ok(Some(count));
            }
            if !self.read_rewritten().await? {
                return Ok(None);
            }
        }
        let version = self.version;
        self.stream.read_chunks(chunks).await.map_err(|error| read_error(error, version))
    }

    /// Reads on and rewrites; `false` at the end.
    async fn read_rewritten(&mut self) -> Result<bool, ReadError> {
        let version = self.version;
        let chunk = self.stream.read_chunk(READ, true).await;
        match chunk.map_err(|error| read_error(error, version))? {
            Some(chunk) => self.rewrite(&chunk.bytes).map(|()| true),
            None => match &self.rewritten {
                Some(rewritten) if !rewritten.transcoder.at_boundary() => {
                    let reason = "a data stream ended inside an object";
                    Err(rewritten.violation(SessionCode::PROTOCOL_VIOLATION, reason))
                }
                _ => Ok(false),
            },
        }
    }

    fn rewrite(&mut self, bytes: &Bytes) -> Result<(), ReadError> {
        let Some(rewritten) = &mut self.rewritten else { return Ok(()) };
        let Rewritten { transcoder, ready, .. } = &mut **rewritten;
        match transcoder.transcode(bytes, |bytes, _| ready.push_back(bytes)) {
            Ok(()) => Ok(()),
            Err(TranscodeError::Malformed(error)) => {
                Err(rewritten.violation(error.code, &error.reason))
            }
            Err(error @ TranscodeError::Unsayable { .. }) => {
                tracing::debug!(%error, "a stream is given up");
                self.stop(ResetCode::INTERNAL_ERROR);
                Err(ReadError::Reset(ResetCode::INTERNAL_ERROR))
            }
        }
    }

    /// Asks the peer to send nothing more.
    pub fn stop(&mut self, code: ResetCode) {
        let _ = self.stream.stop(wire_code(code, self.version));
    }
}

impl Rewritten {
    fn violation(&self, code: SessionCode, reason: &str) -> ReadError {
        self.session.close(u32::try_from(code.0).unwrap_or(1), reason.as_bytes());
        ReadError::Gone(format!("{code}: {reason}"))
    }
}

/// WebTransport carries 32-bit codes; every code of ours fits.
fn wire_code(code: ResetCode, version: Version) -> u32 {
    u32::try_from(code.to_wire(version)).unwrap_or(0)
}

fn write_error(error: web_transport_quinn::WriteError, version: Version) -> WriteError {
    match error {
        web_transport_quinn::WriteError::Stopped(code) => {
            WriteError::Stopped(ResetCode::from_wire(code.into(), version))
        }
        web_transport_quinn::WriteError::InvalidStopped(_) => {
            WriteError::Stopped(ResetCode::INTERNAL_ERROR)
        }
        other => WriteError::Gone(other.to_string()),
    }
}

fn read_error(error: web_transport_quinn::ReadError, version: Version) -> ReadError {
    match error {
        web_transport_quinn::ReadError::Reset(code) => {
            ReadError::Reset(ResetCode::from_wire(code.into(), version))
        }
        web_transport_quinn::ReadError::InvalidReset(_) => {
            ReadError::Reset(ResetCode::INTERNAL_ERROR)
        }
        other => ReadError::Gone(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use moqt::{ObjectHeader, ObjectStatus, SubgroupHeader, SubgroupId};

    use super::*;
    use crate::CANONICAL;

    /// A stream of objects of these sizes, and where in it each ends.
    fn stream(sizes: &[usize]) -> (Bytes, Vec<usize>) {
        let mut bytes = BytesMut::new();
        // Numbers that draft 16 needs another number of bytes for.
        SubgroupHeader {
            track_alias: 100,
            group: 1 << 20,
            subgroup: SubgroupId::Known(0),
            priority: None,
            properties: false,
            end_of_group: false,
            first_object: true,
        }
        .encode(&mut bytes, CANONICAL.int_coding());
        let mut ends = Vec::new();
        for (id, size) in (0..).zip(sizes) {
            ObjectHeader {
                id,
                previous: u64::checked_sub(id, 1),
                properties: None,
                payload: *size as u64,
                status: ObjectStatus::Normal,
            }
            .encode(&mut bytes, CANONICAL.int_coding());
            bytes.resize(bytes.len() + size, 7);
            ends.push(bytes.len());
        }
        (bytes.freeze(), ends)
    }

    /// Rewritten in two chunks.
    fn rewritten(bytes: &Bytes, cut: usize) -> Rewriting {
        let mut rewriting = Rewriting::new(Transcoder::subgroup(CANONICAL, Version::Draft16));
        let cut = cut.min(bytes.len());
        rewriting.rewrite(&[bytes.slice(..cut), bytes.slice(cut..)]).unwrap();
        rewriting
    }

    #[test]
    fn an_object_that_is_rewritten_counts_as_taken_with_its_last_byte() {
        let (bytes, ends) = stream(&[100, 1, 0, 70, 300, 5]);
        // Where each object ends in the other draft: a stream that ends with it is so long.
        let crossed = ends.iter().map(|end| {
            let rewriting = rewritten(&bytes.slice(..*end), 0);
            rewriting.ready.iter().map(Bytes::len).sum::<usize>()
        });
        let crossed: Vec<usize> = crossed.collect();
        let whole = |all: &[usize], at: usize| all.partition_point(|end| *end <= at);
        let last = crossed[ends.len() - 1];
        for (cut, step) in (0..bytes.len()).flat_map(|cut| [1, 3, 64].map(|step| (cut, step))) {
            let mut rewriting = rewritten(&bytes, cut);
            let (mut out, mut taken) = (0, 0);
            while out < last {
                let now = step.min(last - out);
                out += now;
                taken += rewriting.handle_written(now);
                let (counted, there) = (whole(&ends, taken), whole(&crossed, out));
                assert_eq!(counted, there, "{taken} after {out}, cut at {cut}");
            }
            assert_eq!((taken, rewriting.owed), (bytes.len(), 0));
        }
    }
}
