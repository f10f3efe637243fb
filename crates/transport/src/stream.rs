//! Streams with the draft's codes, whatever carries them.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use moqt::ResetCode;

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
pub struct SendStream(web_transport_quinn::SendStream);

impl SendStream {
    pub(crate) fn new(stream: web_transport_quinn::SendStream) -> Self {
        Self(stream)
    }

    /// Hands chunks to QUIC without copying them; whole chunks taken are left empty, a chunk
    /// taken in part keeps its rest. Returns how many bytes were taken, at least one.
    pub fn poll_write_chunks(
        &mut self,
        cx: &mut Context<'_>,
        chunks: &mut [Bytes],
    ) -> Poll<Result<usize, WriteError>> {
        // The future holds no state between polls: quinn keeps the waker by stream.
        pin!(self.0.write_chunks(chunks))
            .poll(cx)
            .map_ok(|written| written.bytes)
            .map_err(WriteError::from)
    }

    /// Hands all of `bytes` to QUIC.
    pub async fn write_all(&mut self, bytes: Bytes) -> Result<(), WriteError> {
        Ok(self.0.write_chunk(bytes).await?)
    }

    /// Waits until the peer asks to stop (its code), or has everything (`None`).
    pub async fn stopped(&self) -> Result<Option<ResetCode>, WriteError> {
        match self.0.stopped().await {
            Ok(code) => Ok(code.map(|code| ResetCode(code.into()))),
            Err(error) => Err(WriteError::Gone(error.to_string())),
        }
    }

    /// Ends the stream after what was written. A stream that is over already stays so.
    pub fn finish(&mut self) {
        let _ = self.0.finish();
    }

    /// Abandons the stream: what was not sent yet never will be.
    pub fn reset(&mut self, code: ResetCode) {
        let _ = self.0.reset(wire_code(code));
    }

    /// Streams of a higher priority are sent first; equal ones share.
    pub fn set_priority(&self, priority: i32) {
        let _ = self.0.set_priority(priority);
    }
}

/// The receiving side of a stream. Dropping it asks the peer to stop.
#[derive(Debug)]
pub struct RecvStream(web_transport_quinn::RecvStream);

impl RecvStream {
    pub(crate) fn new(stream: web_transport_quinn::RecvStream) -> Self {
        Self(stream)
    }

    /// The next bytes in order, or `None` after the last.
    pub async fn read_chunk(&mut self, max: usize) -> Result<Option<Bytes>, ReadError> {
        Ok(self.0.read_chunk(max, true).await?.map(|chunk| chunk.bytes))
    }

    /// Fills `chunks` with what is there, in order, and returns how many; `None` after the last.
    pub async fn read_chunks(&mut self, chunks: &mut [Bytes]) -> Result<Option<usize>, ReadError> {
        Ok(self.0.read_chunks(chunks).await?)
    }

    /// Asks the peer to send nothing more.
    pub fn stop(&mut self, code: ResetCode) {
        let _ = self.0.stop(wire_code(code));
    }
}

/// WebTransport carries 32-bit codes; every code of ours fits.
fn wire_code(code: ResetCode) -> u32 {
    u32::try_from(code.0).unwrap_or(0)
}

impl From<web_transport_quinn::WriteError> for WriteError {
    fn from(error: web_transport_quinn::WriteError) -> Self {
        match error {
            web_transport_quinn::WriteError::Stopped(code) => Self::Stopped(ResetCode(code.into())),
            web_transport_quinn::WriteError::InvalidStopped(_) => {
                Self::Stopped(ResetCode::INTERNAL_ERROR)
            }
            other => Self::Gone(other.to_string()),
        }
    }
}

impl From<web_transport_quinn::ReadError> for ReadError {
    fn from(error: web_transport_quinn::ReadError) -> Self {
        match error {
            web_transport_quinn::ReadError::Reset(code) => Self::Reset(ResetCode(code.into())),
            web_transport_quinn::ReadError::InvalidReset(_) => {
                Self::Reset(ResetCode::INTERNAL_ERROR)
            }
            other => Self::Gone(other.to_string()),
        }
    }
}
