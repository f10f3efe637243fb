//! Streams that are given up.
//!
//! An object counts as delivered when QUIC has all of it, and a reset takes back what was not sent
//! yet, or was lost. So a stream is reset only once the peer has all that QUIC was given. Until then
//! the session writes nothing that is no more urgent than such a stream, which is for as long as the
//! path takes for a congestion window; sound goes on beside pictures.

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use moqt::ResetCode;
use transport::{Connection, SendStream};

/// How long a stream may take to get rid of what QUIC has of it, while the peer is heard: one whose
/// peer does not read it would never.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often it is tried whether the peer has all.
const TRY: Duration = Duration::from_millis(10);
/// In how long what was written meanwhile is acknowledged, at the least.
const ACKNOWLEDGED: Duration = Duration::from_millis(100);

/// Those of a session.
#[derive(Default)]
pub(super) struct Winding {
    streams: Vec<GivenUp>,
    /// When it may be tried again whether the peer has all.
    due: Option<Instant>,
    /// More urgent bytes that were written meanwhile, lately and before that, and when lately began.
    urgent: [u64; 2],
    urgent_since: Option<Instant>,
    /// In this round it is tried, and the streams themselves cannot tell.
    is_trying: bool,
    /// Bytes that had come from the peer at the last look, and that had gone to it when some last
    /// came.
    heard: u64,
    sent: u64,
}

struct GivenUp {
    stream: SendStream,
    code: ResetCode,
    priority: i32,
    since: Instant,
}

impl Winding {
    pub(super) fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    pub(super) fn push(
        &mut self,
        stream: SendStream,
        priority: i32,
        code: ResetCode,
        now: Instant,
    ) {
        self.streams.push(GivenUp { stream, code, priority, since: now });
        self.due.get_or_insert(now);
    }

    /// A new round of writes begins: resets the streams if the peer has all of them by now. QUIC
    /// does not say that; but told to take nothing while anything is unacknowledged, it says whether
    /// it takes something.
    pub(super) fn begin_round(
        &mut self,
        cx: &mut Context<'_>,
        connection: &Connection,
        cwnd: u64,
        now: Instant,
    ) {
        self.is_trying = false;
        if self.is_empty() || self.due.is_some_and(|due| now < due) {
            return;
        }
        self.due = Some(now + TRY);
        let span = ACKNOWLEDGED.max(2 * connection.path_stats().rtt);
        if now.saturating_duration_since(*self.urgent_since.get_or_insert(now)) > span {
            self.urgent = [0, self.urgent[0]];
            self.urgent_since = Some(now);
        }
        self.limit(connection);
        let mut has_all = false;
        self.streams.retain_mut(|given_up| match given_up.stream.poll_takes(cx) {
            Poll::Ready(Ok(())) => {
                has_all = true;
                true
            }
            Poll::Ready(Err(_)) => {
                given_up.stream.reset(given_up.code);
                false
            }
            Poll::Pending => true,
        });
        connection.limit_unsent(cwnd);
        if has_all || self.is_empty() {
            self.end();
        } else {
            // They may be full by what the peer does not read of them: others can tell.
            self.is_trying = true;
        }
    }

    /// Has QUIC take nothing unless the peer has all but what is more urgent.
    pub(super) fn limit(&self, connection: &Connection) {
        connection.limit_unacknowledged(self.urgent.iter().sum());
    }

    /// Whether a stream of this priority has to wait.
    pub(super) fn holds_back(&self, priority: i32) -> bool {
        let more_urgent = |other: &GivenUp| relay_core::is_more_urgent(priority, other.priority);
        !self.streams.iter().all(more_urgent)
    }

    /// Whether one that has to wait may try nevertheless, under [`Winding::limit`].
    pub(super) fn is_trying(&self) -> bool {
        self.is_trying
    }

    /// More urgent bytes were written.
    pub(super) fn handle_urgent(&mut self, bytes: usize) {
        if !self.is_empty() {
            self.urgent[0] += bytes as u64;
        }
    }

    /// When to try again.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due.filter(|_| !self.is_empty())
    }

    /// The peer has all that QUIC had.
    pub(super) fn end(&mut self) {
        for GivenUp { mut stream, code, .. } in self.streams.drain(..) {
            stream.reset(code);
        }
        (self.due, self.urgent, self.urgent_since) = (None, [0; 2], None);
    }

    /// Resets what had long enough. A peer that says nothing to what was sent since the last look,
    /// `before`, may be out of reach for a moment.
    pub(super) fn handle_tick(&mut self, connection: &Connection, before: Instant, now: Instant) {
        if self.is_empty() {
            return;
        }
        let path = connection.path_stats();
        let is_silent = path.received_bytes == self.heard && path.sent_bytes > self.sent;
        if path.received_bytes > self.heard {
            (self.heard, self.sent) = (path.received_bytes, path.sent_bytes);
        }
        self.streams.retain_mut(|given_up| {
            if is_silent {
                given_up.since += now.saturating_duration_since(before.max(given_up.since));
            }
            let over = now.saturating_duration_since(given_up.since) >= PATIENCE;
            if over {
                given_up.stream.reset(given_up.code);
            }
            !over
        });
    }
}
