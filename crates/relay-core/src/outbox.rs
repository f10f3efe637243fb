//! One downstream session: what to write next, and what to give up.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use moqt::{GroupOrder, Location, PublishDoneCode, RequestId, ResetCode, SubgroupHeader};
use stats::{DropCounts, DropReason, Drops};

use crate::policy::stream_priority;
use crate::track::CODING;
use crate::{Policy, Subgroup, SubgroupEnd, SubgroupSeq, Track, TrackId};

/// A data stream of this session, as outbox and shell call it.
pub type StreamKey = u64;

/// Most bytes offered to the transport in one write.
const WRITE: usize = 64 * 1024;

/// What the subscriber asked for.
#[derive(Clone, Copy, Debug)]
pub struct Subscription {
    /// What its data streams call the track.
    pub alias: u64,
    /// First object to send; `None`: from the newest group's start.
    pub start: Option<Location>,
    /// Last group to send.
    pub end_group: Option<u64>,
    /// Subscriber priority, lower first.
    pub priority: u8,
    /// Which group goes first.
    pub order: GroupOrder,
    /// Whether objects are sent at all ("FORWARD Parameter").
    pub forward: bool,
    /// Age at which objects are given up.
    pub expiry: Duration,
}

/// What the shell must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Open a data stream with this priority, higher first.
    Open {
        /// What it will be called.
        stream: StreamKey,
        /// Its place among the session's streams.
        priority: i32,
    },
    /// Write these bytes, and report how many were taken with [`Outbox::handle_written`].
    Write {
        /// The stream.
        stream: StreamKey,
        /// The bytes.
        chunks: Vec<Bytes>,
    },
    /// End the stream.
    Finish(StreamKey),
    /// Reset the stream.
    Reset(StreamKey, ResetCode),
    /// Send a datagram.
    Datagram(Bytes),
    /// End the subscription with PUBLISH_DONE; the outbox has forgotten it.
    Done {
        /// The subscription.
        request: RequestId,
        /// Why.
        code: PublishDoneCode,
        /// Data streams opened for it.
        streams: u64,
    },
}

/// What became of everything that was offered.
#[derive(Clone, Debug, Default)]
pub struct Books {
    /// Objects handed to the transport whole.
    pub objects_out: u64,
    /// Object bytes handed to the transport.
    pub bytes_out: u64,
    /// What was given up, by reason.
    pub drops: Drops,
}

/// One downstream session's subscriptions and streams.
#[derive(Debug)]
pub struct Outbox {
    policy: Policy,
    subscriptions: BTreeMap<RequestId, Sub>,
    cursors: Vec<Cursor>,
    next_stream: StreamKey,
    books: Books,
    /// Bytes taken of each track, for its figures.
    by_track: HashMap<TrackId, u64>,
    last_progress: Option<Instant>,
}

#[derive(Debug)]
struct Sub {
    track: TrackId,
    wanted: Subscription,
    next_seq: SubgroupSeq,
    next_datagram: u64,
    streams: u64,
    /// The track is over; the subscription ends when everything was sent.
    ended: Option<PublishDoneCode>,
}

/// A place in one subgroup.
#[derive(Debug)]
struct Cursor {
    request: RequestId,
    track: TrackId,
    seq: SubgroupSeq,
    stream: StreamKey,
    phase: Phase,
    /// Bytes of our own that go before the shared ones.
    prefix: Bytes,
    /// Offset of the next shared byte.
    sent: u64,
    /// Index of the object that byte belongs to.
    index: u64,
    since: Instant,
    /// When the object that waits now is given up.
    expires: Option<Instant>,
    priority: i32,
    /// The transport refused more in this round.
    blocked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing to send yet, or no stream asked for.
    Waiting,
    /// The stream is open.
    Sending,
    /// Given up: what comes of it is counted and not sent.
    Cut(DropReason),
}

impl Outbox {
    /// An outbox with no subscriptions.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            subscriptions: BTreeMap::new(),
            cursors: Vec::new(),
            next_stream: 0,
            books: Books::default(),
            by_track: HashMap::new(),
            last_progress: None,
        }
    }

    /// Begins to serve a subscription.
    pub fn subscribe(
        &mut self,
        request: RequestId,
        id: TrackId,
        track: &Track,
        wanted: Subscription,
    ) {
        // Who names a start gets what is cached from there on, others the newest group.
        let next_seq = if wanted.start.is_some() { track.first_seq() } else { track.join_seq() };
        let sub = Sub {
            track: id,
            wanted,
            next_seq,
            next_datagram: track.next_datagram(),
            streams: 0,
            ended: None,
        };
        self.subscriptions.insert(request, sub);
    }

    /// Changes a subscription that is being served.
    pub fn update(&mut self, request: RequestId, change: impl FnOnce(&mut Subscription)) {
        if let Some(sub) = self.subscriptions.get_mut(&request) {
            change(&mut sub.wanted);
        }
    }

    /// The subscriber left: its streams are to be reset, which the returned list names.
    pub fn unsubscribe(&mut self, request: RequestId, track: Option<&Track>) -> Vec<StreamKey> {
        self.subscriptions.remove(&request);
        let mut open = Vec::new();
        let books = &mut self.books;
        self.cursors.retain_mut(|cursor| {
            if cursor.request != request {
                return true;
            }
            if cursor.phase == Phase::Sending {
                open.push(cursor.stream);
            }
            if !matches!(cursor.phase, Phase::Cut(_)) {
                cursor.phase = Phase::Cut(DropReason::Cancelled);
            }
            if let Some(held) = track.and_then(|track| track.subgroup(cursor.seq)) {
                cursor.count_cut(held.len(), held.object_count(), books);
            }
            false
        });
        open
    }

    /// The track is over: once all of it is sent the subscription ends with this code.
    pub fn end_track(&mut self, request: RequestId, code: PublishDoneCode) {
        if let Some(sub) = self.subscriptions.get_mut(&request) {
            sub.ended = Some(code);
        }
    }

    /// The tracks this session is subscribed to.
    pub fn tracks(&self) -> impl Iterator<Item = (RequestId, TrackId)> {
        self.subscriptions.iter().map(|(request, sub)| (*request, sub.track))
    }

    /// What became of everything so far.
    pub fn books(&self) -> &Books {
        &self.books
    }

    /// Bytes handed to the transport of each track since the last call.
    pub fn take_track_bytes(&mut self) -> impl Iterator<Item = (TrackId, u64)> {
        self.by_track.drain()
    }

    /// Bytes that wait, and how old the oldest object among them is.
    pub fn backlog<'t>(
        &self,
        tracks: impl Fn(TrackId) -> Option<&'t Track>,
        now: Instant,
    ) -> (u64, Duration) {
        let mut queued = 0;
        let mut behind = Duration::ZERO;
        for cursor in self.cursors.iter().filter(|cursor| !matches!(cursor.phase, Phase::Cut(_))) {
            let Some(held) = tracks(cursor.track).and_then(|track| track.subgroup(cursor.seq))
            else {
                continue;
            };
            if held.len() > cursor.sent {
                queued += held.len() - cursor.sent;
                let since = cursor.waits_since(held);
                behind = behind.max(now.saturating_duration_since(since));
            }
        }
        (queued, behind)
    }

    /// Takes up subgroups that arrived in `track`, and gives up what cannot be sent in time.
    /// To be called for each track before [`Outbox::poll`], while nothing changes the track.
    pub fn look(&mut self, id: TrackId, track: &Track, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        for (request, sub) in self.subscriptions.iter_mut().filter(|(_, sub)| sub.track == id) {
            sub.next_seq = sub.next_seq.max(track.next_seq().saturating_sub(1 << 16));
            while sub.next_seq < track.next_seq() {
                let seq = sub.next_seq;
                sub.next_seq += 1;
                let Some(held) = track.subgroup(seq) else { continue };
                let group = held.header.group;
                let before = sub.wanted.start.is_some_and(|start| group < start.group);
                let after = sub.wanted.end_group.is_some_and(|end| group > end);
                if before || after || !sub.wanted.forward {
                    continue;
                }
                let publisher = held.header.priority.unwrap_or(track.default_priority());
                let stream = self.next_stream;
                self.next_stream += 1;
                self.cursors.push(Cursor {
                    request: *request,
                    track: id,
                    seq,
                    stream,
                    phase: Phase::Waiting,
                    prefix: Bytes::new(),
                    sent: 0,
                    index: 0,
                    since: now,
                    expires: None,
                    priority: stream_priority(
                        sub.wanted.priority,
                        publisher,
                        seq,
                        sub.wanted.order,
                    ),
                    blocked: false,
                });
            }
            sub.next_datagram = sub.next_datagram.max(track.first_datagram());
            while let Some(datagram) = track.datagram(sub.next_datagram) {
                sub.next_datagram += 1;
                let at = datagram.location();
                if sub.wanted.forward && sub.wanted.start.is_none_or(|start| at >= start) {
                    let datagram = moqt::Datagram {
                        track_alias: sub.wanted.alias,
                        ..datagram.datagram.clone()
                    };
                    self.books.objects_out += 1;
                    actions.push(Action::Datagram(datagram.to_bytes(CODING)));
                }
            }
        }
        let (subscriptions, books) = (&mut self.subscriptions, &mut self.books);
        self.cursors.retain_mut(|cursor| {
            cursor.track != id || cursor.judge(track, subscriptions, books, now, &mut actions)
        });
        let finished = |request: &RequestId, sub: &Sub| {
            sub.track == id
                && sub.ended.is_some()
                && !self.cursors.iter().any(|c| c.request == *request)
        };
        let over: Vec<_> =
            self.subscriptions.iter().filter(|(r, s)| finished(r, s)).map(|(r, _)| *r).collect();
        for request in over {
            if let Some(Sub { ended: Some(code), streams, .. }) =
                self.subscriptions.remove(&request)
            {
                actions.push(Action::Done { request, code, streams });
            }
        }
        actions
    }

    /// The next bytes of this track's streams to write, most urgent first; `None` when nothing
    /// waits or the transport refused all that does.
    pub fn poll(&mut self, most_urgent: TrackId, track: &Track) -> Option<Action> {
        let cursor = self
            .cursors
            .iter()
            .filter(|c| c.track == most_urgent && c.phase == Phase::Sending && !c.blocked)
            .filter(|c| c.has_bytes(track))
            .max_by_key(|cursor| cursor.priority)?;
        let held = track.subgroup(cursor.seq)?;
        let mut chunks = Vec::new();
        if !cursor.prefix.is_empty() {
            chunks.push(cursor.prefix.clone());
        }
        held.read(cursor.sent, WRITE, &mut chunks);
        Some(Action::Write { stream: cursor.stream, chunks })
    }

    /// Priority of the most urgent thing that waits in this track.
    pub fn urgency(&self, id: TrackId, track: &Track) -> Option<i32> {
        self.cursors
            .iter()
            .filter(|c| c.track == id && c.phase == Phase::Sending && !c.blocked)
            .filter(|c| c.has_bytes(track))
            .map(|cursor| cursor.priority)
            .max()
    }

    /// The transport took this many bytes of a stream; 0: it takes no more for now.
    pub fn handle_written(&mut self, stream: StreamKey, taken: usize, track: &Track, now: Instant) {
        let Some(cursor) = self.cursors.iter_mut().find(|cursor| cursor.stream == stream) else {
            return;
        };
        if taken == 0 {
            cursor.blocked = true;
            return;
        }
        self.last_progress = Some(now);
        let own = taken.min(cursor.prefix.len());
        let _ = cursor.prefix.split_to(own);
        let shared = (taken - own) as u64;
        cursor.sent += shared;
        self.books.bytes_out += shared;
        *self.by_track.entry(cursor.track).or_default() += shared;
        if let Some(held) = track.subgroup(cursor.seq) {
            while held.object(cursor.index).is_some_and(|object| object.end <= cursor.sent) {
                cursor.index += 1;
                self.books.objects_out += 1;
            }
        }
    }

    /// A new round: streams that took no more may do so again.
    pub fn unblock(&mut self) {
        for cursor in &mut self.cursors {
            cursor.blocked = false;
        }
    }

    /// The subscriber does not want this stream any more.
    pub fn handle_stopped(&mut self, stream: StreamKey) {
        if let Some(cursor) = self.cursors.iter_mut().find(|cursor| cursor.stream == stream) {
            cursor.phase = Phase::Cut(DropReason::Cancelled);
            self.books
                .drops
                .record(DropReason::Cancelled, DropCounts { groups: 1, ..DropCounts::default() });
        }
    }

    /// When [`Outbox::look`] must be called though nothing arrived: when the first object that
    /// waits expires.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let waits = |cursor: &&Cursor| cursor.phase == Phase::Sending && cursor.blocked;
        self.cursors.iter().filter(waits).filter_map(|cursor| cursor.expires).min()
    }

    /// Whether the viewer took nothing of what waits for so long that it should be let go.
    pub fn is_stuck(&self, now: Instant) -> bool {
        let waits = self.cursors.iter().any(|c| c.phase == Phase::Sending && c.blocked);
        let since = self.last_progress;
        waits && since.is_some_and(|at| now.saturating_duration_since(at) > self.policy.stuck)
    }
}

impl Cursor {
    fn has_bytes(&self, track: &Track) -> bool {
        !self.prefix.is_empty()
            || track.subgroup(self.seq).is_some_and(|held| held.len() > self.sent)
    }

    /// Since when the next object waits, counted from when this viewer could have had it.
    fn waits_since(&self, held: &Subgroup) -> Instant {
        let received = held.object(self.index).map_or(self.since, |object| object.received);
        received.max(self.since)
    }

    /// Moves on as the subgroup stands now; `false`: the cursor is done with.
    fn judge(
        &mut self,
        track: &Track,
        subscriptions: &mut BTreeMap<RequestId, Sub>,
        books: &mut Books,
        now: Instant,
        actions: &mut Vec<Action>,
    ) -> bool {
        let Some(held) = track.subgroup(self.seq) else {
            if self.phase == Phase::Sending {
                self.cut(DropReason::TooFarBehind, ResetCode::TOO_FAR_BEHIND, books, actions);
            } else if self.phase == Phase::Waiting {
                self.phase = Phase::Cut(DropReason::TooFarBehind);
            }
            if let Some((len, objects)) = track.gone(self.seq) {
                self.count_cut(len, objects, books);
            }
            return false;
        };
        let Some(sub) = subscriptions.get_mut(&self.request) else { return false };
        if self.phase == Phase::Waiting && !self.begin(held, track, sub, actions) {
            return held.end() == SubgroupEnd::Open || held.end() == SubgroupEnd::Interrupted;
        }
        if self.phase == Phase::Sending {
            let waits = held.len() > self.sent;
            self.expires = waits.then(|| self.waits_since(held) + sub.wanted.expiry);
            if held.base() > self.sent {
                self.cut(DropReason::TooFarBehind, ResetCode::TOO_FAR_BEHIND, books, actions);
            } else if self.expires.is_some_and(|at| now >= at) {
                self.cut(DropReason::DeliveryTimeout, ResetCode::DELIVERY_TIMEOUT, books, actions);
            } else if !waits && self.prefix.is_empty() {
                match held.end() {
                    SubgroupEnd::Finished => {
                        actions.push(Action::Finish(self.stream));
                        return false;
                    }
                    SubgroupEnd::Reset(code) => {
                        self.cut(DropReason::UpstreamReset, code, books, actions);
                    }
                    SubgroupEnd::Open | SubgroupEnd::Interrupted => {}
                }
            }
        }
        if matches!(self.phase, Phase::Cut(_)) {
            self.count_cut(held.len(), held.object_count(), books);
            return held.end() == SubgroupEnd::Open || held.end() == SubgroupEnd::Interrupted;
        }
        true
    }

    /// Asks for a stream once there is an object to send; `false`: not yet.
    fn begin(
        &mut self,
        held: &Subgroup,
        track: &Track,
        sub: &mut Sub,
        actions: &mut Vec<Action>,
    ) -> bool {
        let start = sub.wanted.start.filter(|start| start.group == held.header.group);
        let from = held.index_from(start.map_or(0, |start| start.object));
        let Some(object) = held.object(from) else { return false };
        let whole = from == 0 && object.start == 0;
        let header = SubgroupHeader {
            track_alias: sub.wanted.alias,
            first_object: held.header.first_object && whole,
            ..held.header
        };
        let mut prefix = BytesMut::new();
        header.encode(&mut prefix, CODING);
        self.sent = object.start;
        self.index = from;
        if !whole {
            // The first object's ID is absolute, not a delta from one that is not sent.
            let mut head = Vec::new();
            held.read(object.start, 1, &mut head);
            let Some(first) = head.first().and_then(|chunk| chunk.first()) else { return false };
            self.sent += CODING.length(*first) as u64;
            CODING.write(&mut prefix, object.id);
        }
        self.prefix = prefix.freeze();
        self.phase = Phase::Sending;
        sub.streams += 1;
        actions.push(Action::Open { stream: self.stream, priority: self.priority });
        true
    }

    fn cut(
        &mut self,
        reason: DropReason,
        code: ResetCode,
        books: &mut Books,
        actions: &mut Vec<Action>,
    ) {
        actions.push(Action::Reset(self.stream, code));
        self.phase = Phase::Cut(reason);
        books.drops.record(reason, DropCounts { groups: 1, ..DropCounts::default() });
    }

    /// Counts what is known by now of a subgroup that was given up.
    fn count_cut(&mut self, len: u64, object_count: u64, books: &mut Books) {
        let Phase::Cut(reason) = self.phase else { return };
        let objects = object_count.saturating_sub(self.index);
        let bytes = len.saturating_sub(self.sent);
        self.index = object_count;
        self.sent = len;
        if objects + bytes > 0 {
            books.drops.record(reason, DropCounts { groups: 0, objects, bytes });
        }
    }
}

#[cfg(test)]
mod tests;
