//! One downstream session: what to write next, and what to give up.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use moqt::{Datagram, GroupOrder, Location, PublishDoneCode, RequestId, ResetCode};
use stats::{DropCounts, DropReason};

use crate::policy::stream_priority;
use crate::track::{CODING, Gone};
use crate::{DeliveryTimeouts, Policy, SubgroupEnd, SubgroupSeq, Track, TrackId};

mod books;
mod cursor;

pub use books::{Books, GroupBooks, TrackBooks};
use books::{Ledger, Waiting};
use cursor::{Court, Cursor, Phase, Place};

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
    /// Last object to send; `None`: no end.
    pub end: Option<Location>,
    /// Subscriber priority, lower first.
    pub priority: u8,
    /// Which group goes first.
    pub order: GroupOrder,
    /// Whether objects are sent at all ("FORWARD Parameter").
    pub forward: bool,
    /// Ages at which objects and subgroups are given up.
    pub timeouts: DeliveryTimeouts,
}

/// What the shell must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Open a data stream with this priority, higher first.
    Open {
        /// What it will be called.
        stream: StreamKey,
        /// The subscription it is for.
        request: RequestId,
        /// Its place among the session's streams.
        priority: i32,
    },
    /// Give an open data stream another priority.
    Priority {
        /// The stream.
        stream: StreamKey,
        /// Its place among the session's streams, higher first.
        priority: i32,
    },
    /// Write these bytes, and report how many were taken with [`Outbox::handle_written`].
    Write {
        /// The stream.
        stream: StreamKey,
        /// The bytes.
        chunks: Vec<Bytes>,
    },
    /// End the stream. It may yet be reset: if the subscription has a subgroup delivery timeout,
    /// report with [`Outbox::handle_delivered`] when the peer has all of it.
    Finish(StreamKey),
    /// Reset the stream, or do not open it if it is not open yet.
    Reset(StreamKey, ResetCode),
    /// Send an object as a datagram, and say with [`Outbox::handle_datagram`] whether it went.
    Datagram(DatagramOut),
    /// End the subscription with PUBLISH_DONE; the outbox has forgotten it.
    Done {
        /// The subscription.
        request: RequestId,
        /// Why.
        code: PublishDoneCode,
        /// Data streams that the transport opened for it, whatever became of them.
        streams: u64,
    },
}

/// An object to be sent as a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatagramOut {
    /// What to send.
    pub bytes: Bytes,
    track: TrackId,
    group: u64,
    /// Bytes that count for it.
    len: u64,
}

/// What decides which of a session's tracks goes first: priority, and of equal ones whoever was not
/// served for the longest time, so that none starves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Urgency {
    /// The stream's, higher first.
    pub priority: i32,
    turn: Reverse<u64>,
}

/// What waits for a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Bytes.
    pub bytes: u64,
    /// Objects, with those that were sent in part.
    pub objects: u64,
    /// How old the oldest of them is.
    pub age: Duration,
}

/// One downstream session's subscriptions and streams.
#[derive(Debug)]
pub struct Outbox {
    policy: Policy,
    subscriptions: BTreeMap<RequestId, Sub>,
    cursors: Vec<Cursor>,
    /// Streams that are whole, and until when all of them must be delivered.
    closing: Vec<(RequestId, StreamKey, Instant)>,
    next_stream: StreamKey,
    /// Writes so far.
    turns: u64,
    ledger: Ledger,
    /// Since when something waits and nothing is taken.
    refused_since: Option<Instant>,
}

#[derive(Debug)]
struct Sub {
    track: TrackId,
    wanted: Subscription,
    /// What was wanted before an update that was not carried out yet.
    before: Option<Subscription>,
    next_seq: SubgroupSeq,
    /// What has a smaller number was here before the subscription.
    joined: SubgroupSeq,
    next_datagram: u64,
    /// Data streams that the transport opened.
    streams: u64,
    /// When it was written to last, counted in writes of the session.
    turn: u64,
    /// Cursors came or went, or what decides their order changed.
    unordered: bool,
    /// The track is over; the subscription ends when everything was sent.
    ended: Option<PublishDoneCode>,
}

impl Sub {
    /// Whether objects of the group may be wanted.
    fn wants_group(&self, group: u64) -> bool {
        self.wanted.start.is_none_or(|start| group >= start.group)
            && self.wanted.end.is_none_or(|end| group <= end.group)
    }

    fn wants(&self, at: Location) -> bool {
        self.wanted.start.is_none_or(|start| at >= start)
            && self.wanted.end.is_none_or(|end| at <= end)
    }

    /// A subgroup came and was evicted before it was looked at.
    fn miss(&self, track: TrackId, gone: &Gone, books: &mut Ledger) {
        let at_edge = [self.wanted.start, self.wanted.end]
            .into_iter()
            .flatten()
            .any(|edge| edge.group == gone.group);
        // Which of its objects a filter lets through cannot be told any more.
        if self.wants_group(gone.group) && !at_edge {
            let counts = DropCounts { groups: 1, objects: gone.objects, bytes: gone.len };
            books.drop(track, gone.group, DropReason::TooFarBehind, counts);
        }
    }

    /// The last object wanted of a group.
    fn last_of(&self, group: u64) -> u64 {
        self.wanted.end.filter(|end| end.group == group).map_or(u64::MAX, |end| end.object)
    }

    /// Whether nothing that is wanted can come any more.
    fn is_past_end(&self, track: &Track) -> bool {
        let Some(end) = self.wanted.end else { return false };
        let ended = |group: u64| {
            track.groups().get(group).is_some_and(|held| {
                let over = |seq| track.subgroup(seq).is_some_and(crate::Subgroup::is_over);
                held.end.is_some() && held.newest_parts().all(over)
            })
        };
        self.next_seq >= track.next_seq()
            && (track.largest().is_some_and(|largest| largest.group > end.group)
                || ended(end.group))
    }
}

/// How a subscription's streams end when it ends with this code at once; `None`: it ends when all
/// is sent.
fn ends_at_once(code: PublishDoneCode) -> Option<ResetCode> {
    match code {
        PublishDoneCode::MALFORMED_TRACK => Some(ResetCode::MALFORMED_TRACK),
        PublishDoneCode::TOO_FAR_BEHIND => Some(ResetCode::TOO_FAR_BEHIND),
        PublishDoneCode::UNAUTHORIZED | PublishDoneCode::UPDATE_FAILED => {
            Some(ResetCode::CANCELLED)
        }
        _ => None,
    }
}

/// Why what still waits is dropped when a subscription ends with this code.
fn reason_of(code: PublishDoneCode) -> DropReason {
    match code {
        PublishDoneCode::TOO_FAR_BEHIND => DropReason::TooFarBehind,
        PublishDoneCode::MALFORMED_TRACK => DropReason::UpstreamReset,
        _ => DropReason::Cancelled,
    }
}

impl Outbox {
    /// An outbox with no subscriptions.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            subscriptions: BTreeMap::new(),
            cursors: Vec::new(),
            closing: Vec::new(),
            next_stream: 0,
            turns: 0,
            ledger: Ledger::default(),
            refused_since: None,
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
            before: None,
            next_seq,
            joined: track.next_seq(),
            next_datagram: track.next_datagram(),
            streams: 0,
            turn: 0,
            unordered: true,
            ended: None,
        };
        self.subscriptions.insert(request, sub);
    }

    /// Changes a subscription that is being served. The next [`Outbox::look`] carries it out.
    pub fn update(&mut self, request: RequestId, change: impl FnOnce(&mut Subscription)) {
        if let Some(sub) = self.subscriptions.get_mut(&request) {
            let before = sub.wanted;
            change(&mut sub.wanted);
            sub.before.get_or_insert(before);
        }
    }

    /// The subscriber left: its streams are to be reset, which the returned list names.
    pub fn unsubscribe(&mut self, request: RequestId, track: Option<&Track>) -> Vec<StreamKey> {
        self.subscriptions.remove(&request);
        let mut open = Vec::new();
        self.closing.retain(|(of, stream, _)| {
            if *of == request {
                open.push(*stream);
            }
            *of != request
        });
        let books = &mut self.ledger;
        self.cursors.retain_mut(|cursor| {
            if cursor.request != request {
                return true;
            }
            if cursor.phase == Phase::Sending {
                open.push(cursor.stream);
            }
            if let Some(held) = track.and_then(|track| track.subgroup(cursor.seq)) {
                cursor.give_up(DropReason::Cancelled, cursor.extent(held), books);
            }
            false
        });
        open
    }

    /// The session is over: what waited for it never gets there.
    pub fn close<'t>(&mut self, track: impl Fn(TrackId) -> Option<&'t Track>) {
        for mut cursor in std::mem::take(&mut self.cursors) {
            if let Some(held) = track(cursor.track).and_then(|track| track.subgroup(cursor.seq)) {
                let here = cursor.extent(held);
                cursor.give_up(DropReason::SessionClosed, here, &mut self.ledger);
            }
        }
        self.subscriptions.clear();
    }

    /// The track is over: the subscription ends with this code. [`PublishDoneCode::TRACK_ENDED`]
    /// and its like wait until all of it is sent; a malformed track is cut at once.
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
        self.ledger.books()
    }

    /// What became of each track's objects since the last call.
    pub fn take_track_books<'t>(
        &mut self,
        tracks: impl Fn(TrackId) -> Option<&'t Track>,
    ) -> impl Iterator<Item = (TrackId, TrackBooks)> {
        let mut waiting = Waiting::new();
        for cursor in self.cursors.iter().filter(|cursor| cursor.phase == Phase::Sending) {
            let held = tracks(cursor.track).and_then(|track| track.subgroup(cursor.seq));
            let objects = held.map_or(0, |held| cursor.waiting(held));
            if objects > 0 {
                *waiting.entry((cursor.track, cursor.group)).or_default() += objects as i64;
            }
        }
        self.ledger.take(waiting)
    }

    /// What waits now.
    pub fn backlog<'t>(
        &self,
        tracks: impl Fn(TrackId) -> Option<&'t Track>,
        now: Instant,
    ) -> Backlog {
        let mut backlog = Backlog::default();
        for cursor in &self.cursors {
            if let Phase::Paused(waited) = cursor.phase {
                backlog.bytes += waited.len.saturating_sub(cursor.sent);
                backlog.objects += waited.objects.saturating_sub(cursor.index);
            }
            let held = tracks(cursor.track).and_then(|track| track.subgroup(cursor.seq));
            let Some(held) = held.filter(|_| cursor.is_active()) else { continue };
            let waits = cursor.queued(held);
            if waits > 0 {
                backlog.bytes += waits;
                backlog.objects += cursor.waiting(held);
                let since = cursor.waits_since(held);
                backlog.age = backlog.age.max(now.saturating_duration_since(since));
            }
        }
        backlog
    }

    /// Takes up subgroups that arrived in `track`, and gives up what cannot be sent in time.
    /// To be called for each track before [`Outbox::poll`], while nothing changes the track.
    pub fn look(&mut self, id: TrackId, track: &Track, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        self.carry_out_updates(id, track, now, &mut actions);
        self.take_up(id, track, now, &mut actions);
        self.order(id, &mut actions);
        let before = self.cursors.len();
        let mut court = Court {
            policy: &self.policy,
            track,
            now,
            books: &mut self.ledger,
            actions: &mut actions,
            closing: &mut self.closing,
        };
        let subscriptions = &self.subscriptions;
        self.cursors.retain_mut(|cursor| {
            let sub = subscriptions.get(&cursor.request);
            cursor.track != id || sub.is_some_and(|sub| cursor.judge(sub, &mut court))
        });
        let gone = self.cursors.len() < before;
        for sub in self.subscriptions.values_mut().filter(|sub| sub.track == id) {
            sub.unordered |= gone;
        }
        self.end_subscriptions(id, track, &mut actions);
        actions
    }

    /// Begins a cursor for every subgroup that arrived, and sends the datagrams that did.
    fn take_up(&mut self, id: TrackId, track: &Track, now: Instant, actions: &mut Vec<Action>) {
        for (request, sub) in self.subscriptions.iter_mut().filter(|(_, sub)| sub.track == id) {
            if !sub.wanted.forward {
                // Who resumes gets the newest group from its start, as one who joins.
                sub.next_seq = sub.next_seq.max(track.join_seq());
                sub.joined = track.next_seq();
                sub.next_datagram = track.next_datagram();
                continue;
            }
            sub.next_seq = sub.next_seq.max(track.first_known_seq());
            while sub.next_seq < track.next_seq() {
                let seq = sub.next_seq;
                sub.next_seq += 1;
                let Some(held) = track.subgroup(seq) else {
                    if let Some(gone) = track.gone(seq).filter(|_| seq >= sub.joined) {
                        sub.miss(id, gone, &mut self.ledger);
                    }
                    continue;
                };
                let group = held.header.group;
                if !sub.wants_group(group) {
                    continue;
                }
                let publisher = track.priority(&held.header);
                let stream = self.next_stream;
                self.next_stream += 1;
                sub.unordered = true;
                let wanted = &sub.wanted;
                let start = wanted.start.filter(|start| start.group == group);
                let index = start.map_or(0, |start| held.index_from(start.object));
                self.cursors.push(Cursor {
                    request: *request,
                    track: id,
                    seq,
                    stream,
                    phase: Phase::Waiting,
                    prefix: Bytes::new(),
                    sent: start.map_or(0, |_| held.object(index).map_or(held.len(), |o| o.start)),
                    index,
                    last: sub.last_of(group),
                    since: now,
                    behind: false,
                    cached: seq < sub.joined,
                    expires: None,
                    deadline: None,
                    passed_by: None,
                    outranked: false,
                    group,
                    place: Place::new(wanted.priority, publisher, wanted.order, group, held.id()),
                    priority: 0,
                    opened: false,
                    blocked: false,
                });
            }
            sub.next_datagram = sub.next_datagram.max(track.first_datagram());
            let timeout = sub.wanted.timeouts.datagram();
            while let Some(held) = track.datagram(sub.next_datagram) {
                sub.next_datagram += 1;
                if !sub.wants(held.location()) {
                    continue;
                }
                let age = now.saturating_duration_since(held.received);
                if timeout.is_some_and(|timeout| age > timeout) {
                    let counts = DropCounts { groups: 0, objects: 1, bytes: held.len() };
                    let group = held.datagram.group;
                    self.ledger.drop(id, group, DropReason::DeliveryTimeout, counts);
                    continue;
                }
                let datagram = Datagram { track_alias: sub.wanted.alias, ..held.datagram.clone() };
                actions.push(Action::Datagram(DatagramOut {
                    bytes: datagram.to_bytes(CODING),
                    track: id,
                    group: held.datagram.group,
                    len: held.len(),
                }));
            }
        }
    }

    /// Fits streams that are open to subscriptions that changed ("Updating Subscriptions").
    fn carry_out_updates(
        &mut self,
        id: TrackId,
        track: &Track,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        for (request, sub) in self.subscriptions.iter_mut().filter(|(_, sub)| sub.track == id) {
            let Some(before) = sub.before.take() else { continue };
            sub.unordered = true;
            let books = &mut self.ledger;
            let newest = track.groups().newest();
            let next_stream = &mut self.next_stream;
            self.cursors.retain_mut(|cursor| {
                let Some(held) = track.subgroup(cursor.seq).filter(|_| cursor.request == *request)
                else {
                    return true;
                };
                // The stream cannot go on, but the rest may go on another one.
                let mut restart = |cursor: &mut Cursor, phase: Phase| {
                    if cursor.phase == Phase::Sending {
                        actions.push(Action::Reset(cursor.stream, ResetCode::CANCELLED));
                        cursor.stream = *next_stream;
                        *next_stream += 1;
                        cursor.opened = false;
                    }
                    cursor.phase = phase;
                    cursor.prefix = Bytes::new();
                };
                let group = held.header.group;
                let here = cursor.extent(held);
                cursor.last = sub.last_of(group);
                cursor.place = Place::new(
                    sub.wanted.priority,
                    cursor.place.publisher(),
                    sub.wanted.order,
                    group,
                    held.id(),
                );
                if !sub.wants_group(group) {
                    if cursor.phase == Phase::Sending {
                        actions.push(Action::Reset(cursor.stream, ResetCode::CANCELLED));
                    }
                    cursor.give_up(DropReason::Cancelled, here, books);
                    return false;
                }
                let start = sub.wanted.start.filter(|start| start.group == group);
                let skips = start.is_some_and(|start| {
                    held.object(cursor.index).is_some_and(|object| object.id < start.object)
                });
                if cursor.phase == Phase::Sending && skips {
                    restart(cursor, Phase::Waiting);
                    cursor.passed_by = Some(here);
                }
                if cursor.is_active() {
                    cursor.narrow(here, held, books);
                }
                if before.forward && !sub.wanted.forward {
                    if cursor.is_active() {
                        restart(cursor, Phase::Paused(here));
                        cursor.passed_by = None;
                    }
                    // Of one that is given up already, what comes from now on is not offered.
                    cursor.count_cut(here, books);
                }
                if sub.wanted.forward
                    && let Phase::Paused(waited) = cursor.phase
                {
                    if Some(group) != newest {
                        // Older groups are not gone back to.
                        cursor.give_up(DropReason::Cancelled, waited, books);
                        return false;
                    }
                    cursor.phase = Phase::Waiting;
                    cursor.passed_by = Some(waited);
                    cursor.since = now;
                    cursor.cached = true;
                }
                true
            });
        }
    }

    /// Gives every stream its place among its subscription's.
    fn order(&mut self, id: TrackId, actions: &mut Vec<Action>) {
        for (request, sub) in self.subscriptions.iter_mut().filter(|(_, sub)| sub.track == id) {
            if !std::mem::take(&mut sub.unordered) {
                continue;
            }
            let mine = |cursor: &&mut Cursor| cursor.request == *request && cursor.is_active();
            let mut groups: Vec<u64> =
                self.cursors.iter_mut().filter(mine).map(|cursor| cursor.group).collect();
            groups.sort_unstable();
            groups.dedup();
            for cursor in self.cursors.iter_mut().filter(mine) {
                let below = groups.partition_point(|group| *group < cursor.group);
                let rank = match sub.wanted.order {
                    GroupOrder::Ascending => below,
                    GroupOrder::Descending => groups.len() - 1 - below,
                };
                let (publisher, subgroup) = (cursor.place.publisher(), cursor.place.subgroup());
                let priority =
                    stream_priority(sub.wanted.priority, publisher, rank as u64, subgroup);
                if priority != cursor.priority && cursor.phase == Phase::Sending {
                    actions.push(Action::Priority { stream: cursor.stream, priority });
                }
                cursor.priority = priority;
            }
        }
    }

    /// Ends subscriptions of which nothing is left to send.
    fn end_subscriptions(&mut self, id: TrackId, track: &Track, actions: &mut Vec<Action>) {
        let mut over = Vec::new();
        for (request, sub) in self.subscriptions.iter().filter(|(_, sub)| sub.track == id) {
            let at_once = sub.ended.and_then(ends_at_once);
            let ended = sub.ended.is_some();
            let sends = |cursor: &Cursor| {
                let held = track.subgroup(cursor.seq);
                // Nobody goes on with what was interrupted once the track is over.
                let left = held.is_some_and(|held| {
                    held.end() == SubgroupEnd::Interrupted && cursor.queued(held) == 0
                });
                cursor.is_active() && !(ended && left)
            };
            let sends = self.cursors.iter().any(|c| c.request == *request && sends(c));
            if at_once.is_none() && sends {
                continue;
            }
            let code = match sub.ended {
                Some(code) => code,
                None if sub.is_past_end(track) => PublishDoneCode::SUBSCRIPTION_ENDED,
                None => continue,
            };
            over.push((*request, code, at_once, sub.streams));
        }
        for (request, code, at_once, streams) in over {
            self.subscriptions.remove(&request);
            self.cursors.retain_mut(|cursor| {
                if cursor.request != request {
                    return true;
                }
                if cursor.phase == Phase::Sending {
                    let code = at_once.unwrap_or(ResetCode::CANCELLED);
                    actions.push(Action::Reset(cursor.stream, code));
                }
                if let Some(held) = track.subgroup(cursor.seq) {
                    cursor.give_up(reason_of(code), cursor.extent(held), &mut self.ledger);
                }
                false
            });
            actions.push(Action::Done { request, code, streams });
        }
    }

    /// The next bytes of this track's streams to write, most urgent first; `None` when nothing
    /// waits or the transport refused all that does.
    pub fn poll(&mut self, most_urgent: TrackId, track: &Track) -> Option<Action> {
        let cursor = self
            .cursors
            .iter()
            .filter(|cursor| cursor.track == most_urgent && cursor.is_ready(track))
            .max_by_key(|cursor| cursor.place)?;
        let held = track.subgroup(cursor.seq)?;
        let mut chunks = Vec::new();
        if !cursor.prefix.is_empty() {
            chunks.push(cursor.prefix.clone());
        }
        let queued = usize::try_from(cursor.queued(held)).unwrap_or(usize::MAX);
        let shared = chunks.len();
        held.read(cursor.sent, WRITE.min(queued), &mut chunks);
        let mut left = queued;
        for chunk in &mut chunks[shared..] {
            chunk.truncate(left);
            left -= chunk.len();
        }
        chunks.retain(|chunk| !chunk.is_empty());
        Some(Action::Write { stream: cursor.stream, chunks })
    }

    /// How urgent the most urgent thing is that waits in this track: the greatest goes first.
    pub fn urgency(&self, id: TrackId, track: &Track) -> Option<Urgency> {
        let ready = self.cursors.iter().filter(|c| c.track == id && c.is_ready(track));
        let urgency = |cursor: &Cursor| Urgency {
            priority: cursor.priority,
            turn: Reverse(self.subscriptions.get(&cursor.request).map_or(0, |sub| sub.turn)),
        };
        ready.map(urgency).max()
    }

    /// The transport opened a stream that [`Action::Open`] asked for: PUBLISH_DONE counts it. To
    /// be called even if nothing is written to it; streams that are written to count anyway.
    pub fn handle_opened(&mut self, stream: StreamKey) {
        if let Some(cursor) = self.cursors.iter_mut().find(|cursor| cursor.stream == stream)
            && !std::mem::replace(&mut cursor.opened, true)
            && let Some(sub) = self.subscriptions.get_mut(&cursor.request)
        {
            sub.streams += 1;
        }
    }

    /// The transport took this many bytes of a stream; 0: it takes no more for now. `true`: its end
    /// may be due, so [`Outbox::look`] once more.
    pub fn handle_written(
        &mut self,
        stream: StreamKey,
        taken: usize,
        track: &Track,
        now: Instant,
    ) -> bool {
        if taken > 0 {
            self.handle_opened(stream);
        }
        let Some(cursor) = self.cursors.iter_mut().find(|cursor| cursor.stream == stream) else {
            return false;
        };
        if taken == 0 {
            cursor.blocked = true;
            self.refused_since.get_or_insert(now);
            return false;
        }
        self.refused_since = None;
        self.turns += 1;
        if let Some(sub) = self.subscriptions.get_mut(&cursor.request) {
            sub.turn = self.turns;
        }
        let own = taken.min(cursor.prefix.len());
        let _ = cursor.prefix.split_to(own);
        let shared = (taken - own) as u64;
        cursor.sent += shared;
        let held = track.subgroup(cursor.seq);
        let objects = held.map_or(0, |held| cursor.advance(held, now));
        self.ledger.send(cursor.track, cursor.group, objects, shared);
        held.is_none_or(|held| {
            let ends = held.end() != SubgroupEnd::Open || cursor.last != u64::MAX;
            let sub = self.subscriptions.get(&cursor.request);
            let over = ends || sub.is_none_or(|sub| sub.ended.is_some());
            over && cursor.queued(held) == 0 || held.base() > cursor.sent
        })
    }

    /// A datagram was taken by the transport, or not: it is too large for the path, or too many wait.
    pub fn handle_datagram(&mut self, datagram: &DatagramOut, taken: bool) {
        let DatagramOut { track, group, len, .. } = *datagram;
        if taken {
            self.ledger.send(track, group, 1, len);
        } else {
            let counts = DropCounts { groups: 0, objects: 1, bytes: len };
            self.ledger.drop(track, group, DropReason::ExcessiveLoad, counts);
        }
    }

    /// Whether it matters when the peer has all of a stream that was finished.
    pub fn awaits_delivery(&self, stream: StreamKey) -> bool {
        self.closing.iter().any(|(_, closing, _)| *closing == stream)
    }

    /// The peer has all of a stream that was finished: it cannot be late any more.
    pub fn handle_delivered(&mut self, stream: StreamKey) {
        self.closing.retain(|(_, other, _)| *other != stream);
    }

    /// A new round: streams that took no more may do so again. Returns what is late of those that
    /// were finished ("SUBGROUP_DELIVERY_TIMEOUT").
    pub fn unblock(&mut self, now: Instant) -> Vec<Action> {
        if self.refused().is_none() {
            self.refused_since = None;
        }
        for cursor in &mut self.cursors {
            cursor.blocked = false;
        }
        let mut late = Vec::new();
        self.closing.retain(|(_, stream, until)| {
            if now >= *until {
                late.push(Action::Reset(*stream, ResetCode::DELIVERY_TIMEOUT));
            }
            now < *until
        });
        late
    }

    /// The subscriber does not want this stream any more.
    pub fn handle_stopped(&mut self, stream: StreamKey) {
        self.handle_delivered(stream);
        if let Some(cursor) = self.cursors.iter_mut().find(|cursor| cursor.stream == stream) {
            cursor.phase = Phase::Cut(DropReason::Cancelled);
            if let Some(sub) = self.subscriptions.get_mut(&cursor.request) {
                sub.unordered = true;
            }
            let counts = DropCounts { groups: 1, ..DropCounts::default() };
            self.ledger.drop(cursor.track, cursor.group, DropReason::Cancelled, counts);
        }
    }

    /// When [`Outbox::unblock`] and [`Outbox::look`] must be called though nothing arrived: when
    /// the first object that waits expires, or the first subgroup.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let sending = self.cursors.iter().filter(|cursor| cursor.phase == Phase::Sending);
        let cursors = sending.flat_map(|cursor| {
            let object = cursor.expires.filter(|_| cursor.blocked);
            object.into_iter().chain(cursor.deadline)
        });
        cursors.chain(self.closing.iter().map(|(.., until)| *until)).min()
    }

    /// Whether the viewer took nothing of what waits for so long that it should be let go, with
    /// TOO_FAR_BEHIND for each of its subscriptions.
    pub fn is_stuck(&self, now: Instant) -> bool {
        let since = self.refused_since.filter(|_| self.refused().is_some());
        since.is_some_and(|at| now.saturating_duration_since(at) > self.policy.stuck)
    }

    /// The priority of the most urgent stream that the transport did not take more of in this
    /// round, if there is one.
    pub fn refused(&self) -> Option<i32> {
        let refused = |cursor: &&Cursor| cursor.phase == Phase::Sending && cursor.blocked;
        self.cursors.iter().filter(refused).map(|cursor| cursor.priority).max()
    }
}

#[cfg(test)]
mod tests;
