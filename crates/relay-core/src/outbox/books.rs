//! What became of everything that a session was offered: over all, and for each track.

use std::collections::BTreeMap;

use stats::{DropCounts, DropReason, Drops};

use crate::TrackId;

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

/// What became of one track's objects since the last time that this was asked.
#[derive(Clone, Debug, Default)]
pub struct TrackBooks {
    /// Object bytes handed to the transport.
    pub bytes_out: u64,
    /// What was given up, by reason.
    pub drops: Drops,
    /// The same by group, as far as something happened.
    pub groups: Vec<GroupBooks>,
}

/// What became of one group's objects since the last time that this was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupBooks {
    /// Its ID.
    pub group: u64,
    /// Objects sent, dropped, or now waiting. Less than 0 where what waited is not wanted any more.
    pub offered: i64,
    /// Objects sent whole.
    pub sent: u64,
}

/// Groups that are kept apart until the books are taken: who has more is not looked at by group.
const MAX_GROUPS: usize = 64;

impl TrackBooks {
    fn group(&mut self, group: u64) -> &mut GroupBooks {
        // What happens, happens to the newest, which were added last.
        if let Some(at) = self.groups.iter().rposition(|held| held.group == group) {
            return &mut self.groups[at];
        }
        if self.groups.len() == MAX_GROUPS {
            self.groups.remove(0);
        }
        self.groups.push(GroupBooks { group, ..GroupBooks::default() });
        let last = self.groups.len() - 1;
        &mut self.groups[last]
    }
}

/// Where everything is written down, once over all and once for its track.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    all: Books,
    tracks: BTreeMap<TrackId, TrackBooks>,
    /// Objects that waited in each group when the books were taken last.
    waiting: Waiting,
}

/// Objects that wait in each group.
pub(super) type Waiting = BTreeMap<(TrackId, u64), i64>;

impl Ledger {
    pub(super) fn books(&self) -> &Books {
        &self.all
    }

    /// The transport took so much of a group.
    pub(super) fn send(&mut self, track: TrackId, group: u64, objects: u64, bytes: u64) {
        self.all.objects_out += objects;
        self.all.bytes_out += bytes;
        let books = self.tracks.entry(track).or_default();
        books.bytes_out += bytes;
        if objects > 0 {
            let group = books.group(group);
            group.offered += objects as i64;
            group.sent += objects;
        }
    }

    /// So much of a group was given up.
    pub(super) fn drop(
        &mut self,
        track: TrackId,
        group: u64,
        reason: DropReason,
        counts: DropCounts,
    ) {
        self.all.drops.record(reason, counts);
        let books = self.tracks.entry(track).or_default();
        books.drops.record(reason, counts);
        if counts.objects > 0 {
            books.group(group).offered += counts.objects as i64;
        }
    }

    /// The books of each track since the last call, given what waits now.
    pub(super) fn take(&mut self, waiting: Waiting) -> impl Iterator<Item = (TrackId, TrackBooks)> {
        for ((track, group), objects) in &waiting {
            self.tracks.entry(*track).or_default().group(*group).offered += objects;
        }
        for ((track, group), objects) in std::mem::replace(&mut self.waiting, waiting) {
            self.tracks.entry(track).or_default().group(group).offered -= objects;
        }
        std::mem::take(&mut self.tracks).into_iter()
    }
}
