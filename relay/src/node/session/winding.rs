//! Streams that are given up.
//!
//! An object counts as delivered when QUIC has all of it, and a reset takes back what was not sent
//! yet, or was lost. So a stream is reset only once the peer has all that QUIC was given. Until then
//! the session writes nothing that is no more urgent than such a stream, which is for as long as the
//! path takes for a congestion window; sound goes on beside pictures.
//!
//! QUIC does not say what the peer has. But it can be told how much may be unacknowledged, and then
//! says whether it takes something, which gives how much that is. When it is precisely what the last
//! few of the more urgent writes came to, nothing else is on its way. Where writes and packets do
//! not meet that well, or QUIC never comes to the stream for all that goes before it, the rest of its
//! subscription waits too after a while, and it has to do that what is unacknowledged is no more
//! than what was written since.

use std::collections::VecDeque;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use moqt::ResetCode;
use transport::{Connection, SendStream, WriteError};

/// How long a stream may take to get rid of what QUIC has of it, while the peer is heard: one whose
/// peer does not read it would never.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often it is tried whether the peer has all.
const TRY: Duration = Duration::from_millis(10);
/// For how long it must have all precisely, at the least. Packets that were lost have been sent
/// again by then.
const PRECISE: Duration = Duration::from_millis(250);
/// In how long what was written meanwhile is acknowledged, at the least.
const ACKNOWLEDGED: Duration = Duration::from_millis(100);
/// How many of the more urgent writes are told apart.
const TOLD_APART: usize = 24;

/// Those of a session.
#[derive(Default)]
pub(super) struct Winding {
    streams: Vec<GivenUp>,
    /// When it may be tried again whether the peer has all.
    due: Option<Instant>,
    /// What was written meanwhile that is more urgent, the last of it first: when, and its bytes.
    urgent: VecDeque<(Instant, u64)>,
    /// Since when what is unacknowledged has to be those of them to the byte: since the last stream
    /// was given up. `None` once it has to be no more than they are.
    precise: Option<Instant>,
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
    /// What it had, and what QUIC was told so that it gets rid of the stream.
    priority: i32,
    raised: i32,
    since: Instant,
}

impl Winding {
    pub(super) fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// The priority of the most urgent of them.
    pub(super) fn most_urgent(&self) -> Option<i32> {
        self.streams.iter().map(|given_up| given_up.raised).max()
    }

    /// Takes a stream of `priority`, which QUIC sends what it has of as if it had `raised`.
    pub(super) fn push(
        &mut self,
        stream: SendStream,
        priority: i32,
        raised: i32,
        code: ResetCode,
        now: Instant,
    ) {
        stream.set_priority(raised);
        self.streams.push(GivenUp { stream, code, priority, raised, since: now });
        self.due.get_or_insert(now);
        // What was written may be this stream's.
        self.urgent.clear();
        self.precise = Some(now);
    }

    /// A new round of writes begins: resets the streams if the peer has all of them by now.
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
        let rtt = connection.path_stats().rtt;
        let span = ACKNOWLEDGED.max(2 * rtt);
        self.urgent.retain(|(written, _)| now.saturating_duration_since(*written) <= span);
        let patience = PRECISE.max(3 * rtt);
        if self.precise.is_some_and(|since| now.saturating_duration_since(since) >= patience) {
            self.precise = None;
            // Part of it is of streams that wait from here on.
            self.urgent.clear();
        }
        let mut has_all = false;
        let mut streams = std::mem::take(&mut self.streams);
        streams.retain_mut(|given_up| match self.has_all(cx, connection, &mut given_up.stream) {
            Ok(all) => {
                has_all |= all;
                true
            }
            Err(_) => {
                given_up.stream.reset(given_up.code);
                false
            }
        });
        self.streams = streams;
        connection.limit_unsent(cwnd);
        if has_all || self.is_empty() {
            self.end();
        } else {
            // They may be full by what the peer does not read of them: others can tell.
            self.is_trying = true;
        }
    }

    /// Whether the peer has all but what is more urgent, which is asked by a stream that QUIC
    /// takes more of. It leaves behind a limit for this question.
    fn has_all(
        &self,
        cx: &mut Context<'_>,
        connection: &Connection,
        stream: &mut SendStream,
    ) -> Result<bool, WriteError> {
        let mut is_at_most = |bytes| {
            connection.limit_unacknowledged(bytes);
            match stream.poll_takes(cx) {
                Poll::Ready(takes) => takes.map(|()| true),
                Poll::Pending => Ok(false),
            }
        };
        let is_precise = self.precise.is_some();
        let told_apart = if is_precise { TOLD_APART } else { self.urgent.len() };
        let urgent = self.urgent.iter().take(told_apart);
        let no_more = is_at_most(urgent.clone().map(|(_, bytes)| bytes).sum())?;
        if !is_precise || !no_more {
            return Ok(no_more);
        }
        let mut last = 0;
        if is_at_most(last)? {
            return Ok(true);
        }
        for (_, bytes) in urgent {
            let less = last + bytes - 1;
            last += bytes;
            if is_at_most(less)? {
                return Ok(false);
            }
            if is_at_most(last)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether it is a stream's turn to be written to, by its priority.
    pub(super) fn is_turn(
        &mut self,
        cx: &mut Context<'_>,
        connection: &Connection,
        cwnd: u64,
        stream: &mut SendStream,
        priority: i32,
    ) -> bool {
        if !self.holds_back(priority) {
            return true;
        }
        if !self.is_trying {
            return false;
        }
        let has_all = self.has_all(cx, connection, stream);
        connection.limit_unsent(cwnd);
        // Whoever writes to one that is gone finds out.
        if matches!(has_all, Ok(true)) {
            self.end();
        }
        !matches!(has_all, Ok(false))
    }

    /// Whether a stream of this priority has to wait.
    fn holds_back(&self, priority: i32) -> bool {
        self.streams.iter().any(|other| {
            let other = if self.precise.is_some() { other.priority } else { other.raised };
            !relay_core::is_more_urgent(priority, other)
        })
    }

    /// QUIC was handed so many bytes of a stream whose turn it was.
    pub(super) fn handle_written(&mut self, bytes: u64, now: Instant) {
        if !self.is_empty() && bytes > 0 {
            self.urgent.push_front((now, bytes));
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
        (self.due, self.precise) = (None, None);
        self.urgent.clear();
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
        if self.is_empty() {
            self.end();
        }
    }
}
