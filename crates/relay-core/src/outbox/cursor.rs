//! A subscription's place in one subgroup.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use moqt::{GroupOrder, RequestId, ResetCode, SubgroupHeader};
use stats::{DropCounts, DropReason};

use super::books::Ledger;
use super::{Action, StreamKey, Sub};
use crate::track::CODING;
use crate::{Policy, Subgroup, SubgroupEnd, SubgroupSeq, Track, TrackId};

#[derive(Debug)]
pub(super) struct Cursor {
    pub(super) request: RequestId,
    pub(super) track: TrackId,
    pub(super) seq: SubgroupSeq,
    pub(super) stream: StreamKey,
    pub(super) phase: Phase,
    /// Bytes of our own that go before the shared ones.
    pub(super) prefix: Bytes,
    /// Offset of the next shared byte.
    pub(super) sent: u64,
    /// Index of the object that byte belongs to.
    pub(super) index: u64,
    /// The last object wanted of the group.
    pub(super) last: u64,
    /// Since when the viewer could have had what is next.
    pub(super) since: Instant,
    /// Something waited when it was looked at last.
    pub(super) behind: bool,
    /// It was here before the subscription, a courtesy out of the cache, and the viewer has not
    /// caught up with it.
    pub(super) cached: bool,
    /// When the object that waits now is given up.
    pub(super) expires: Option<Instant>,
    /// When the stream is, since all of the subgroup is here.
    pub(super) deadline: Option<Instant>,
    /// What waited when it stopped, of which it may leave out some as it goes on.
    pub(super) passed_by: Option<Extent>,
    /// The publisher would rather have another subgroup of the group sent.
    pub(super) outranked: bool,
    pub(super) group: u64,
    pub(super) place: Place,
    /// The same as one number, for the transport.
    pub(super) priority: i32,
    /// The transport opened the stream.
    pub(super) opened: bool,
    /// The transport refused more in this round.
    pub(super) blocked: bool,
}

/// What decides which stream goes first ("Scheduling Algorithm"): the greatest does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    subscriber: std::cmp::Reverse<u8>,
    publisher: std::cmp::Reverse<u8>,
    /// Rises with what the group order prefers.
    group_rank: u64,
    subgroup: std::cmp::Reverse<u64>,
}

impl Place {
    pub(super) fn new(
        subscriber: u8,
        publisher: u8,
        order: GroupOrder,
        group: u64,
        subgroup: u64,
    ) -> Self {
        let group_rank = match order {
            GroupOrder::Ascending => u64::MAX - group,
            GroupOrder::Descending => group,
        };
        Self {
            subscriber: std::cmp::Reverse(subscriber),
            publisher: std::cmp::Reverse(publisher),
            group_rank,
            subgroup: std::cmp::Reverse(subgroup),
        }
    }

    pub(super) fn publisher(&self) -> u8 {
        self.publisher.0
    }

    pub(super) fn subgroup(&self) -> u64 {
        self.subgroup.0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing to send yet, or no stream asked for.
    Waiting,
    /// The stream is asked for or open.
    Sending,
    /// Nothing is sent now ("FORWARD Parameter"). What comes meanwhile is not offered; what waited
    /// before is given up unless it is gone on with.
    Paused(Extent),
    /// Given up: what comes of it is counted and not sent.
    Cut(DropReason),
}

/// How much of a subgroup is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) len: u64,
    pub(super) objects: u64,
}

/// What a judgement needs besides the cursor, and what it brings about.
pub(super) struct Court<'a> {
    pub(super) policy: &'a Policy,
    pub(super) track: &'a Track,
    pub(super) now: Instant,
    pub(super) books: &'a mut Ledger,
    pub(super) actions: &'a mut Vec<Action>,
    /// Streams that are whole, and until when all of them must be delivered.
    pub(super) closing: &'a mut Vec<(RequestId, StreamKey, Instant)>,
}

impl Cursor {
    /// Offset after the last byte of the subgroup that is here and wanted, and whether that is all
    /// that is wanted.
    fn wanted(&self, held: &Subgroup) -> (u64, bool) {
        let beyond = self.last.checked_add(1).map(|id| held.index_from(id));
        match beyond.and_then(|index| held.object(index)) {
            Some(object) => (object.start, true),
            None => (held.len(), false),
        }
    }

    /// Bytes that wait.
    pub(super) fn queued(&self, held: &Subgroup) -> u64 {
        self.wanted(held).0.saturating_sub(self.sent)
    }

    /// Index after the last object that is here and wanted.
    fn wanted_objects(&self, held: &Subgroup) -> u64 {
        let beyond = self.last.checked_add(1).map(|id| held.index_from(id));
        beyond.map_or(held.object_count(), |index| index.min(held.object_count()))
    }

    /// All that is here and wanted.
    pub(super) fn extent(&self, held: &Subgroup) -> Extent {
        Extent { len: self.wanted(held).0, objects: self.wanted_objects(held) }
    }

    /// Objects that wait, with one that is sent in part.
    pub(super) fn waiting(&self, held: &Subgroup) -> u64 {
        self.wanted_objects(held).saturating_sub(self.index)
    }

    /// Whether it is in line for the transport. What was evicted since it was looked at is not.
    pub(super) fn is_ready(&self, track: &Track) -> bool {
        self.phase == Phase::Sending
            && !self.blocked
            && track.subgroup(self.seq).is_some_and(|held| {
                held.base() <= self.sent && (!self.prefix.is_empty() || self.queued(held) > 0)
            })
    }

    /// Goes on behind what was sent; returns how many objects became whole by it.
    pub(super) fn advance(&mut self, held: &Subgroup, now: Instant) -> u64 {
        let before = self.index;
        // What was evicted while it was written has no end that is known but the next one's start.
        if held.object(held.first_index()).is_some_and(|object| object.start <= self.sent) {
            self.index = self.index.max(held.first_index());
        }
        while held.object(self.index).is_some_and(|object| object.end <= self.sent) {
            self.index += 1;
        }
        let caught_up = self.queued(held) == 0;
        if self.cached {
            self.since = now;
        }
        self.cached &= !caught_up;
        self.behind &= !caught_up;
        self.index - before
    }

    /// Whether something may still be sent.
    pub(super) fn is_active(&self) -> bool {
        matches!(self.phase, Phase::Waiting | Phase::Sending)
    }

    /// Since when the next object waits, counted from when this viewer could have had it.
    pub(super) fn waits_since(&self, held: &Subgroup) -> Instant {
        let received = held.object(self.index).map_or(self.since, |object| object.received);
        received.max(self.since)
    }

    /// Moves on as the subgroup stands now; `false`: the cursor is done with.
    pub(super) fn judge(&mut self, sub: &Sub, court: &mut Court<'_>) -> bool {
        let Some(held) = court.track.subgroup(self.seq) else {
            match self.phase {
                Phase::Sending => {
                    self.cut(DropReason::TooFarBehind, ResetCode::TOO_FAR_BEHIND, court);
                }
                Phase::Waiting => self.phase = Phase::Cut(DropReason::TooFarBehind),
                Phase::Paused(waited) => {
                    self.give_up(DropReason::Cancelled, waited, court.books);
                    return false;
                }
                Phase::Cut(_) => {}
            }
            if let Some(gone) = court.track.gone(self.seq) {
                self.count_cut(Extent { len: gone.len, objects: gone.objects }, court.books);
            }
            return false;
        };
        if matches!(self.phase, Phase::Paused(_)) {
            return true;
        }
        if self.phase == Phase::Waiting && !self.begin(held, sub, court) {
            if held.is_over() {
                self.leave_out(None, court.books);
            }
            return !held.is_over();
        }
        if self.phase == Phase::Sending {
            // Who is behind in a group may go on with the next, once there is one.
            self.cached = self.cached && court.track.groups().newest() == Some(self.group);
            let (len, all) = self.wanted(held);
            let waits = len > self.sent;
            if waits && !self.behind {
                // Until now it had all there was, be it half an object.
                self.since = court.now;
            }
            self.behind = waits;
            self.expires = waits.then(|| self.expiry(held, sub, court.policy)).flatten();
            self.deadline = sub.wanted.timeouts.subgroup_deadline(held);
            let late = |at: Option<Instant>| at.is_some_and(|at| court.now >= at);
            if held.base() > self.sent {
                self.cut(DropReason::TooFarBehind, ResetCode::TOO_FAR_BEHIND, court);
            } else if late(self.expires) || late(self.deadline) {
                self.cut(DropReason::DeliveryTimeout, ResetCode::DELIVERY_TIMEOUT, court);
            } else if !waits && self.prefix.is_empty() {
                match held.end() {
                    _ if all => return self.finish(court),
                    SubgroupEnd::Finished => return self.finish(court),
                    SubgroupEnd::Reset(code) => {
                        self.cut(DropReason::UpstreamReset, code, court);
                    }
                    SubgroupEnd::Open | SubgroupEnd::Interrupted => {}
                }
            }
        }
        if matches!(self.phase, Phase::Cut(_)) {
            let here = self.extent(held);
            if sub.wanted.forward {
                self.count_cut(here, court.books);
            } else {
                (self.index, self.sent) = (self.index.max(here.objects), self.sent.max(here.len));
            }
            return !held.is_over();
        }
        true
    }

    /// Counts what waited when it stopped and is left out now: what lies before `next`, or all.
    fn leave_out(&mut self, next: Option<Extent>, books: &mut Ledger) {
        let Some(waited) = self.passed_by.take() else { return };
        let next = next.unwrap_or(waited);
        let objects = next.objects.min(waited.objects).saturating_sub(self.index);
        let bytes = next.len.min(waited.len).saturating_sub(self.sent);
        self.count_left_out(objects, bytes, books);
    }

    /// The last object wanted changed: counts what waited behind it, when all of `before` was wanted.
    pub(super) fn narrow(&mut self, before: Extent, held: &Subgroup, books: &mut Ledger) {
        let now = self.extent(held);
        let objects = before.objects.saturating_sub(now.objects.max(self.index));
        let bytes = before.len.saturating_sub(now.len.max(self.sent));
        self.count_left_out(objects, bytes, books);
    }

    fn count_left_out(&self, objects: u64, bytes: u64, books: &mut Ledger) {
        if objects > 0 {
            let counts = DropCounts { groups: 0, objects, bytes };
            books.drop(self.track, self.group, DropReason::Cancelled, counts);
        }
    }

    /// When the object that waits is given up.
    fn expiry(&self, held: &Subgroup, sub: &Sub, policy: &Policy) -> Option<Instant> {
        let ours = self.waits_since(held).checked_add(policy.patience(self.outranked));
        let theirs = held
            .object(self.index)
            .zip(sub.wanted.timeouts.object)
            .and_then(|(object, timeout)| object.received.checked_add(timeout));
        ours.into_iter().chain(theirs).min()
    }

    fn finish(&mut self, court: &mut Court<'_>) -> bool {
        court.actions.push(Action::Finish(self.stream));
        if let Some(until) = self.deadline {
            court.closing.push((self.request, self.stream, until));
        }
        false
    }

    /// Asks for a stream once there is an object to send; `false`: not yet.
    fn begin(&mut self, held: &Subgroup, sub: &Sub, court: &mut Court<'_>) -> bool {
        let start = sub.wanted.start.filter(|start| start.group == held.header.group);
        let from = held.index_from(start.map_or(0, |start| start.object)).max(self.index);
        let max_age = court.track.max_cache_duration();
        let timeout = sub.wanted.timeouts.object;
        let mut objects = (from..held.object_count()).filter_map(|index| {
            let object = held.object(index)?;
            // What was here before may be too old already ("MAX CACHE DURATION").
            let old = self.cached
                && (object.is_older(max_age, court.now) || object.is_older(timeout, court.now));
            (object.start >= held.base() && !old).then_some((index, object))
        });
        let Some((from, object)) = objects.next().filter(|(_, o)| o.id <= self.last) else {
            return false;
        };
        self.leave_out(Some(Extent { len: object.start, objects: from }), court.books);
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
        self.outranked = court.track.is_outranked(&held.header);
        self.phase = Phase::Sending;
        let &mut Self { stream, request, priority, .. } = self;
        court.actions.push(Action::Open { stream, request, priority });
        true
    }

    pub(super) fn cut(&mut self, reason: DropReason, code: ResetCode, court: &mut Court<'_>) {
        court.actions.push(Action::Reset(self.stream, code));
        self.phase = Phase::Cut(reason);
        let counts = DropCounts { groups: 1, ..DropCounts::default() };
        court.books.drop(self.track, self.group, reason, counts);
    }

    /// The subscription is over, of whose subgroup this much was here: counts what it does not get
    /// any more.
    pub(super) fn give_up(&mut self, reason: DropReason, here: Extent, books: &mut Ledger) {
        let offered = match self.phase {
            Phase::Waiting | Phase::Sending => Some(here),
            Phase::Paused(waited) => Some(waited),
            Phase::Cut(_) => None,
        };
        if let Some(offered) = offered {
            self.phase = Phase::Cut(reason);
            if offered.len > self.sent {
                let counts = DropCounts { groups: 1, ..DropCounts::default() };
                books.drop(self.track, self.group, reason, counts);
            }
        }
        self.count_cut(offered.unwrap_or(here), books);
    }

    /// Counts what is known by now of a subgroup that was given up.
    pub(super) fn count_cut(&mut self, here: Extent, books: &mut Ledger) {
        let Phase::Cut(reason) = self.phase else { return };
        let objects = here.objects.saturating_sub(self.index);
        let bytes = here.len.saturating_sub(self.sent);
        self.index = self.index.max(here.objects);
        self.sent = self.sent.max(here.len);
        if objects + bytes > 0 {
            let counts = DropCounts { groups: 0, objects, bytes };
            books.drop(self.track, self.group, reason, counts);
        }
    }
}
