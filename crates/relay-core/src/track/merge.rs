//! Several sources of one track become one ("Multiple Publishers", "Closing Subgroup Streams").
//!
//! A *feed* is one source's stream of a subgroup. [`Track::settle`] gives the subgroup whatever
//! the feed has next and drops what is there already. A feed is *ahead* when its next object does
//! not follow the last one held: it waits until others filled the gap, or until no feed is left
//! that could; then the subgroup as it is ends, and its rest begins another.

use super::*;
use feed::Mark;
use splice::{Next, Splice};

/// Most that one feed may keep while it is ahead, bytes and what objects cost besides.
const MAX_PENDING: u64 = 4 * 1024 * 1024;
/// All feeds together may keep one part in this many of what the track may hold.
const MAX_PENDING_SHARE: u64 = 4;
/// How long a source may be silent while others go on before nobody waits for it.
const SILENCE: Duration = Duration::from_millis(150);

/// How a feed stands after it gave what it could.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// All it has is given.
    Current,
    /// It has more, which does not follow what is held.
    Ahead,
}

impl Track {
    /// A source begins a stream of a subgroup. `None`: nothing of it is wanted, because all of it
    /// is here already or was, or because it cannot be joined to what is here.
    pub fn open(
        &mut self,
        source: SessionId,
        header: SubgroupHeader,
        now: Instant,
    ) -> Result<Option<FeedId>, TrackError> {
        self.outlive(source, header.group, now);
        let id = FeedId(self.next_feed);
        self.next_feed += 1;
        self.feeds.insert(id, Feed::new(source, header, now));
        // Which subgroup it is may not be known before its first object.
        if let SubgroupId::Known(subgroup) = header.subgroup
            && !self.attach(id, subgroup, now)?
        {
            self.forget(id);
            return Ok(None);
        }
        Ok(Some(id))
    }

    /// Whether more of a feed is wanted. If not its stream may be stopped; it need not be.
    pub fn wants(&self, feed: FeedId) -> bool {
        self.feeds.contains_key(&feed)
    }

    /// The next bytes of a feed; those of one that is not wanted any more are ignored.
    pub fn append(&mut self, id: FeedId, bytes: Bytes, now: Instant) -> Result<(), TrackError> {
        let Some(feed) = self.feeds.get_mut(&id) else { return Ok(()) };
        if bytes.is_empty() {
            return Ok(());
        }
        if let Err(error) = feed.take(bytes, now) {
            self.lose(id, SubgroupEnd::Interrupted, now);
            return Err(error.into());
        }
        let first = feed.queue.front().map(|mark| mark.object.id);
        if feed.seq.is_none()
            && let Some(first) = first
            && !self.attach(id, first, now)?
        {
            self.forget(id);
            return Ok(());
        }
        let result = self.settle_with_others(id, now);
        if result.is_err() {
            self.lose(id, SubgroupEnd::Reset(ResetCode::MALFORMED_TRACK), now);
        }
        if self.is_over_full() {
            self.shrink(now);
        }
        result
    }

    /// A feed's stream ended with a FIN: the source has no more of the subgroup.
    pub fn finish(&mut self, id: FeedId, now: Instant) -> Result<(), TrackError> {
        let Some(feed) = self.feeds.get_mut(&id) else { return Ok(()) };
        if !feed.at_boundary() {
            self.lose(id, SubgroupEnd::Interrupted, now);
            let error = ProtocolError::violation("a subgroup stream ended inside an object");
            return Err(error.into());
        }
        feed.finished = true;
        if feed.seq.is_none() {
            // A subgroup without objects that its first object was to name.
            self.forget(id);
            return Ok(());
        }
        let result = self.take_final(id).and_then(|()| self.settle_with_others(id, now));
        if result.is_err() {
            self.lose(id, SubgroupEnd::Reset(ResetCode::MALFORMED_TRACK), now);
        }
        result
    }

    /// The source reset a feed's stream.
    pub fn reset(&mut self, id: FeedId, code: ResetCode, now: Instant) {
        self.lose(id, SubgroupEnd::Reset(code), now);
    }

    /// A feed broke off because its source went away; another, or the same, may go on with the
    /// subgroup.
    pub fn interrupt(&mut self, id: FeedId, now: Instant) {
        self.lose(id, SubgroupEnd::Interrupted, now);
    }

    /// A source went away with all its feeds.
    pub fn handle_source_gone(&mut self, source: SessionId, now: Instant) {
        let theirs = self.feeds.iter().filter(|(_, feed)| feed.source == source);
        for id in theirs.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.interrupt(id, now);
        }
    }

    /// What a group newer than all tells: older subgroups whose sources have been silent for a
    /// while are not to be waited for. Most often their source is this one, restarted, whose old
    /// session only seems alive.
    fn outlive(&mut self, source: SessionId, group: u64, now: Instant) {
        if self.groups.newest().is_none_or(|newest| group <= newest) {
            return;
        }
        for held in &mut self.subgroups {
            let silent = |id: &FeedId| {
                self.feeds.get(id).is_none_or(|feed| {
                    feed.source != source && now.saturating_duration_since(feed.heard) >= SILENCE
                })
            };
            if held.end == SubgroupEnd::Open && held.feeds.iter().all(silent) {
                held.end = SubgroupEnd::Interrupted;
            }
        }
    }

    /// Leads a feed to its subgroup; `false`: nothing of it is wanted.
    fn attach(&mut self, id: FeedId, subgroup: u64, now: Instant) -> Result<bool, TrackError> {
        let Some(feed) = self.feeds.get_mut(&id) else { return Ok(false) };
        let header = feed.header;
        if let Some(seq) = self.find(header.group, subgroup) {
            let Some(held) = self.subgroup(seq) else { return Ok(false) };
            let (ours, theirs) = (self.priority(&held.header), self.priority(&header));
            if ours != theirs {
                self.forget(id);
                return Err(TrackError::Malformed(format!(
                    "subgroup {subgroup} of group {} has priority {ours} and priority {theirs}",
                    header.group
                )));
            }
            let Some(held) = self.subgroup_mut(seq) else { return Ok(false) };
            let reset = matches!(held.end, SubgroupEnd::Reset(_));
            let alike = held.header.properties == header.properties;
            if held.end == SubgroupEnd::Finished || !alike && !reset && !held.is_empty() {
                return Ok(false);
            }
            if held.end == SubgroupEnd::Interrupted {
                held.end = SubgroupEnd::Open;
            }
            held.feeds.push(id);
            if let Some(feed) = self.feeds.get_mut(&id) {
                feed.seq = Some(seq);
            }
            return Ok(true);
        }
        let was_here = |gone: &Gone| {
            gone.group == header.group
                && gone.subgroup == subgroup
                && now.saturating_duration_since(gone.at) < GONE
        };
        if self.gone.iter().any(was_here) {
            return Ok(false);
        }
        // A newer group tells that nobody will go on with an interrupted older one.
        if self.groups.get(header.group).is_none() {
            for held in &mut self.subgroups {
                if held.end == SubgroupEnd::Interrupted && held.header.group < header.group {
                    held.end = SubgroupEnd::Reset(ResetCode::INTERNAL_ERROR);
                }
            }
        }
        let seq = self.add(header, subgroup, now);
        if let Some(held) = self.subgroup_mut(seq) {
            held.feeds.push(id);
        }
        if let Some(feed) = self.feeds.get_mut(&id) {
            feed.seq = Some(seq);
        }
        self.shrink(now);
        Ok(self.feeds.contains_key(&id))
    }

    /// The newest part held of a subgroup.
    fn find(&self, group: u64, subgroup: u64) -> Option<SubgroupSeq> {
        self.groups.get(group)?.part(subgroup)
    }

    /// Takes note of what a feed's FIN says of its subgroup's and group's end.
    fn take_final(&mut self, id: FeedId) -> Result<(), TrackError> {
        let Some(feed) = self.feeds.get(&id) else { return Ok(()) };
        let (header, Some(last)) = (feed.header, feed.last()) else { return Ok(()) };
        if header.end_of_group
            && let Some(object) = last.checked_add(1)
        {
            let after = Location { group: header.group, object };
            self.groups.end_group(after).map_err(TrackError::Malformed)?;
        }
        let Some(held) = feed.seq.and_then(|seq| self.subgroup_mut(seq)) else { return Ok(()) };
        let known = held.newest().map(|object| object.id).filter(|newest| *newest > last);
        if let Some(other) = held.last.filter(|other| *other != last).or(known) {
            return Err(TrackError::Malformed(format!(
                "subgroup {} of group {} ends with object {last} and with object {other}",
                held.id(),
                header.group
            )));
        }
        held.last = Some(last);
        Ok(())
    }

    /// Gives a feed's bytes to its subgroup, and then those of others that waited for them.
    fn settle_with_others(&mut self, id: FeedId, now: Instant) -> Result<(), TrackError> {
        let standing = self.settle(id)?;
        let Some(feed) = self.feeds.get(&id) else { return Ok(()) };
        let Some(seq) = feed.seq else { return Ok(()) };
        let alone = self.subgroup(seq).is_some_and(|held| held.feeds.len() == 1);
        if alone && standing == Standing::Current && !feed.finished {
            return Ok(());
        }
        self.settle_all(seq, now)?;
        let over = |feed: &Feed| {
            feed.cost() > MAX_PENDING || self.pending > self.limits.bytes / MAX_PENDING_SHARE
        };
        if self.feeds.get(&id).is_some_and(over) && self.settle(id)? == Standing::Ahead {
            self.detach(id, SubgroupEnd::Interrupted);
        }
        Ok(())
    }

    /// Lets all feeds of a subgroup give what they can, until nothing moves any more.
    fn settle_all(&mut self, mut seq: SubgroupSeq, now: Instant) -> Result<(), TrackError> {
        loop {
            let Some(held) = self.subgroup(seq) else { return Ok(()) };
            let (before, feeds) = (held.len(), held.feeds.clone());
            for id in feeds {
                match self.settle(id) {
                    Ok(Standing::Current) => self.complete(id, now),
                    Ok(Standing::Ahead) => {}
                    Err(error) => {
                        self.detach(id, SubgroupEnd::Reset(ResetCode::MALFORMED_TRACK));
                        return Err(error);
                    }
                }
            }
            if let Some(next) = self.give_up(seq, now) {
                seq = next;
            } else if self.subgroup(seq).is_none_or(|held| held.len() == before) {
                return Ok(());
            }
        }
    }

    /// Stops waiting for sources that have been silent while others went on. `true`: for some.
    pub(super) fn release(&mut self, now: Instant) -> bool {
        let waiting = |feed: &&Feed| {
            feed.queue.front().is_some_and(|mark| {
                !mark.begun && now.saturating_duration_since(mark.received) >= SILENCE
            })
        };
        let seqs = self.feeds.values().filter(waiting).filter_map(|feed| feed.seq);
        let seqs: std::collections::BTreeSet<_> = seqs.collect();
        for seq in &seqs {
            // What is wrong with a source it is told when it goes on.
            let _ = self.settle_all(*seq, now);
        }
        !seqs.is_empty()
    }

    /// Gives a feed's bytes to its subgroup as far as they follow what is held.
    fn settle(&mut self, id: FeedId) -> Result<Standing, TrackError> {
        let timescale = self.has_timescale();
        let Some(feed) = self.feeds.get_mut(&id) else { return Ok(Standing::Current) };
        let at = feed.seq.and_then(|seq| seq.checked_sub(self.first_seq));
        let held = at.and_then(|at| self.subgroups.get_mut(usize::try_from(at).ok()?));
        let Some(held) = held else { return Ok(Standing::Current) };
        let (length, objects) = (held.len(), held.object_count());
        let mut splice = Splice::new(feed, held);
        let result = give(&mut splice, &mut self.groups, &mut self.duplicates);
        splice.flush();

        let began = held.object_count() - objects;
        if held.len() > length {
            self.arrivals.handle_subgroup(held, length, began, timescale, feed.heard);
        }
        if began > 0 {
            let newest = held.objects().rev().take(began as usize);
            let normal =
                newest.filter(|object| object.status == ObjectStatus::Normal).map(|o| o.id);
            let location = |object| Location { group: held.header.group, object };
            self.largest = self.largest.max(normal.max().map(location));
        }
        self.objects_in += began;
        self.held_objects += began;
        self.bytes_in += held.len() - length;
        self.held += held.len() - length;
        let cost = feed.cost();
        self.pending = self.pending - feed.counted + cost;
        feed.counted = cost;
        result
    }

    /// Ends the subgroup of a feed whose FIN came, once all of the feed is held.
    fn complete(&mut self, id: FeedId, now: Instant) {
        let Some(feed) = self.feeds.get(&id) else { return };
        if !feed.finished || !feed.queue.is_empty() {
            return;
        }
        let (last, seq) = (feed.last(), feed.seq);
        self.forget(id);
        let Some(held) = seq.and_then(|seq| self.subgroup_mut(seq)) else { return };
        held.feeds.retain(|other| *other != id);
        let whole = match held.newest() {
            Some(newest) => last == Some(newest.id) && newest.end <= held.len(),
            None => last.is_none() && held.feeds.is_empty(),
        };
        if whole && held.end != SubgroupEnd::Finished {
            held.end = SubgroupEnd::Finished;
            held.finished = Some(now);
        } else if held.feeds.is_empty() && held.end == SubgroupEnd::Open {
            held.end = SubgroupEnd::Interrupted;
        }
    }

    /// When no feed can bring what comes next in a subgroup though one has what comes later: that
    /// feed begins another part of it, whose number is returned ("If the relay does not know if an
    /// Object is the next Object, it MUST reset the Subgroup stream and open a new one").
    fn give_up(&mut self, seq: SubgroupSeq, now: Instant) -> Option<SubgroupSeq> {
        let held = self.subgroup(seq)?;
        let newest = held.newest();
        // A part that is over may end inside an object, which a whole copy may begin anew.
        let again = newest.filter(|last| held.is_over() && last.end > held.len());
        let is_ahead = |feed: &&Feed| {
            feed.queue.front().filter(|mark| !mark.lost).is_some_and(|Mark { object, .. }| {
                newest.is_none_or(|last| object.id > last.id)
                    || again.is_some_and(|last| object.id == last.id)
                        && feed.start() <= object.start
            })
        };
        let feeds = || held.feeds.iter().filter_map(|id| Some((*id, self.feeds.get(id)?)));
        let next = |feed: &Feed| feed.queue.front().map(|mark| mark.object.id);
        let (chosen, feed) =
            feeds().filter(|(_, feed)| is_ahead(feed)).min_by_key(|(_, feed)| next(feed))?;
        let silent = |since: Instant| now.saturating_duration_since(since) >= SILENCE;
        let waited = feed.queue.front().is_some_and(|mark| silent(mark.received));
        let hopeless = |feed: &Feed| is_ahead(&feed) || waited && silent(feed.heard);
        if !held.is_over() && !feeds().all(|(_, feed)| hopeless(feed)) {
            return None;
        }
        let header = SubgroupHeader {
            first_object: held.is_empty() && feed.at_first_object(),
            ..feed.header
        };
        let (subgroup, last) = (held.id(), held.last);
        let next = self.add(header, subgroup, now);
        let held = self.subgroup_mut(seq)?;
        if !held.is_over() {
            held.end = SubgroupEnd::Reset(ResetCode::INTERNAL_ERROR);
        }
        let mut feeds = std::mem::take(&mut held.feeds);
        feeds.retain(|id| {
            let alike =
                self.feeds.get(id).is_some_and(|f| f.header.properties == header.properties);
            if !alike {
                self.forget(*id);
            }
            alike
        });
        // The chosen one goes first.
        feeds.sort_by_key(|id| *id != chosen);
        for id in &feeds {
            if let Some(feed) = self.feeds.get_mut(id) {
                feed.redirect(next);
            }
        }
        let part = self.subgroup_mut(next)?;
        part.last = last;
        part.feeds = feeds;
        self.shrink(now);
        Some(next)
    }

    /// A feed ended before all of its subgroup came.
    fn lose(&mut self, id: FeedId, end: SubgroupEnd, now: Instant) {
        let seq = self.feeds.get(&id).and_then(|feed| feed.seq);
        self.detach(id, end);
        if let Some(seq) = seq {
            // Others may have waited for it. What is wrong with them they are told when they go on.
            let _ = self.settle_all(seq, now);
        }
    }

    /// Takes a feed away from its subgroup, which ends so if it was the last.
    fn detach(&mut self, id: FeedId, end: SubgroupEnd) {
        let seq = self.feeds.get(&id).and_then(|feed| feed.seq);
        self.forget(id);
        if let Some(held) = seq.and_then(|seq| self.subgroup_mut(seq)) {
            held.feeds.retain(|other| *other != id);
            if held.feeds.is_empty() && held.end == SubgroupEnd::Open {
                held.end = end;
            }
        }
    }

    /// Forgets a feed.
    pub(super) fn forget(&mut self, id: FeedId) {
        if let Some(feed) = self.feeds.remove(&id) {
            self.pending -= feed.counted;
        }
    }
}

/// Gives what came on a feed to its subgroup, object by object.
fn give(
    splice: &mut Splice<'_>,
    groups: &mut Groups,
    duplicates: &mut u64,
) -> Result<Standing, TrackError> {
    while let (Some(next), Some((at, status))) = (splice.next(), splice.object()) {
        let done = match next {
            Next::Early => {
                splice.check_end(at)?;
                return Ok(Standing::Ahead);
            }
            Next::Lost => splice.skip(),
            Next::Known(entry) => {
                if let Some(entry) = entry {
                    splice.compare(&entry)?;
                }
                splice.skip()
            }
            Next::Partly(entry) => {
                splice.compare(&entry)?;
                splice.go_on(&entry)
            }
            Next::Follows => {
                splice.check_end(at)?;
                if groups.get(at.group).is_some_and(|g| g.datagrams.contains_key(&at.object)) {
                    return Err(two_preferences(at));
                }
                groups.observe(at, status).map_err(TrackError::Malformed)?;
                splice.begin()
            }
        };
        let Some(mark) = done else { break };
        *duplicates += u64::from(!mark.begun && !mark.lost);
    }
    Ok(Standing::Current)
}
