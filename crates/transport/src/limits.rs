//! What a peer may make us hold.

use std::time::Duration;

/// Bounds on everything that a peer can open, name, send or leave half done. What a peer does past
/// one of them is its own session's loss and nobody else's.
///
/// How many streams it may open is in [`crate::EndpointConfig`], since that differs between
/// viewers and publishers.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests, names, updates, tokens.
    pub session: moqt::Limits,
    /// Data streams that wait for the answer which names their track alias. More are turned away
    /// with CANCELLED ("Track Alias").
    pub waiting_streams: usize,
    /// How long each of them waits before it is turned away too.
    pub waiting_timeout: Duration,
    /// How long a data stream may take to say whose it is, once opened. Past it the session is
    /// closed with DATA_STREAM_TIMEOUT.
    pub header_timeout: Duration,
    /// How long a request stream may take to bring its whole first message. Past it the session is
    /// closed with CONTROL_MESSAGE_TIMEOUT.
    pub request_timeout: Duration,
    /// Bytes of ours on control and request streams that the peer leaves unread, beyond what QUIC
    /// holds. Past it the session is closed with INTERNAL_ERROR.
    pub unsent_bytes: usize,
    /// Bytes of all streams of a session that came and were not read yet: QUIC's flow control
    /// holds the peer to it.
    pub unread_bytes: u64,
    /// The same of one stream.
    pub unread_stream_bytes: u64,
    /// Bytes of datagrams that came and were not read yet; the oldest are dropped.
    pub unread_datagram_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            session: moqt::Limits::default(),
            waiting_streams: 64,
            waiting_timeout: Duration::from_secs(5),
            header_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(10),
            unsent_bytes: 4 << 20,
            unread_bytes: 16 << 20,
            // 100 Mbit/s over 100 ms.
            unread_stream_bytes: 1_250_000,
            unread_datagram_bytes: 256 << 10,
        }
    }
}

impl From<moqt::Limits> for Limits {
    fn from(session: moqt::Limits) -> Self {
        Self { session, ..Self::default() }
    }
}
