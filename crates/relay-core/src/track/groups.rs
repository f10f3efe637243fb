//! What is known of a track's groups: which subgroups they have here, and where they end
//! ("Malformed Tracks").

use std::collections::{BTreeMap, BTreeSet};

use moqt::{Location, ObjectStatus};

use super::SubgroupSeq;

/// One group of which something is held.
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// Its subgroups by their IDs; one that broke off and went on later has several parts.
    subgroups: BTreeSet<(u64, SubgroupSeq)>,
    /// Objects that came as datagrams: their numbers by Object ID.
    pub(crate) datagrams: BTreeMap<u64, u64>,
    /// The largest object received.
    pub(crate) largest: Option<u64>,
    /// The first Object ID that does not exist, once a publisher said so.
    pub(crate) end: Option<u64>,
    /// It began while a source was live, so that every object of it was sent to us.
    pub(crate) from_start: bool,
    /// Something of it was here and is not any more.
    pub(crate) evicted: bool,
}

impl Group {
    /// The parts held of its subgroups.
    pub(crate) fn subgroups(&self) -> impl Iterator<Item = SubgroupSeq> {
        self.subgroups.iter().map(|(_, seq)| *seq)
    }

    /// The newest part of each subgroup.
    pub(crate) fn newest_parts(&self) -> impl Iterator<Item = SubgroupSeq> {
        let mut parts = self.subgroups.iter().peekable();
        std::iter::from_fn(move || {
            loop {
                let (id, seq) = parts.next()?;
                if parts.peek().is_none_or(|(next, _)| next != id) {
                    return Some(*seq);
                }
            }
        })
    }

    /// The newest part of one subgroup.
    pub(crate) fn part(&self, id: u64) -> Option<SubgroupSeq> {
        self.subgroups.range((id, 0)..=(id, SubgroupSeq::MAX)).next_back().map(|(_, seq)| *seq)
    }
}

/// The groups of a track.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    held: BTreeMap<u64, Group>,
    /// The first location that does not exist, once a publisher said so.
    end: Option<Location>,
    /// The largest object received.
    largest: Option<Location>,
    /// Groups from here on begin while a source is live.
    live_from: Option<u64>,
}

impl Groups {
    pub(crate) fn get(&self, group: u64) -> Option<&Group> {
        self.held.get(&group)
    }

    /// The groups from `first` to `last`, both included, in ascending order.
    pub(crate) fn range(
        &self,
        first: u64,
        last: u64,
    ) -> impl DoubleEndedIterator<Item = (u64, &Group)> {
        let range = (first <= last).then(|| self.held.range(first..=last));
        range.into_iter().flatten().map(|(id, group)| (*id, group))
    }

    pub(super) fn entry(&mut self, group: u64) -> &mut Group {
        let from_start = self.live_from.is_some_and(|first| group >= first);
        self.held.entry(group).or_insert_with(|| Group { from_start, ..Group::default() })
    }

    /// From now on every object of the groups from this one on is sent to us; `None`: objects are
    /// published that we do not hear of.
    pub(super) fn set_live(&mut self, first_group: Option<u64>) {
        self.live_from = first_group;
        if first_group.is_none()
            && let Some((_, newest)) = self.held.iter_mut().next_back()
        {
            newest.from_start = false;
        }
    }

    /// Whether objects are sent to us as they are published.
    pub(super) fn is_live(&self) -> bool {
        self.live_from.is_some()
    }

    /// The newest group that has a subgroup here.
    pub(crate) fn newest(&self) -> Option<u64> {
        let mut groups = self.held.iter().rev();
        groups.find(|(_, group)| !group.subgroups.is_empty()).map(|(id, _)| *id)
    }

    /// The first location that does not exist, once a publisher said so.
    pub(crate) fn track_end(&self) -> Option<Location> {
        self.end
    }

    /// Takes note of an object, or says why it cannot be.
    pub(super) fn observe(&mut self, at: Location, status: ObjectStatus) -> Result<(), String> {
        match status {
            ObjectStatus::Normal => {
                if self.end.is_some_and(|end| at >= end) {
                    return Err(format!("object {at} follows the end of the track"));
                }
                let group = self.entry(at.group);
                if group.end.is_some_and(|end| at.object >= end) {
                    return Err(format!("object {at} follows the end of its group"));
                }
                group.largest = group.largest.max(Some(at.object));
                self.largest = self.largest.max(Some(at));
                Ok(())
            }
            ObjectStatus::EndOfGroup => self.end_group(at),
            ObjectStatus::EndOfTrack => {
                if let Some(largest) = self.largest.filter(|largest| *largest >= at) {
                    return Err(format!("the track ends at {at} and has object {largest}"));
                }
                self.end = Some(self.end.map_or(at, |end| end.min(at)));
                self.end_group(at)
            }
        }
    }

    /// No object of the group is at `first` or later.
    pub(super) fn end_group(&mut self, first: Location) -> Result<(), String> {
        let group = self.entry(first.group);
        if let Some(largest) = group.largest.filter(|largest| *largest >= first.object) {
            let Location { group, object } = first;
            return Err(format!("group {group} ends before object {object} and has {largest}"));
        }
        group.end = Some(group.end.map_or(first.object, |end| end.min(first.object)));
        Ok(())
    }

    pub(super) fn add_subgroup(&mut self, group: u64, id: u64, seq: SubgroupSeq) {
        self.entry(group).subgroups.insert((id, seq));
    }

    pub(super) fn remove_subgroup(&mut self, group: u64, id: u64, seq: SubgroupSeq) {
        self.remove(group, |held| {
            held.subgroups.remove(&(id, seq));
        });
    }

    pub(super) fn remove_datagram(&mut self, at: Location) {
        self.remove(at.group, |held| {
            held.datagrams.remove(&at.object);
        });
    }

    fn remove(&mut self, id: u64, what: impl FnOnce(&mut Group)) {
        let Some(group) = self.held.get_mut(&id) else { return };
        what(group);
        group.evicted = true;
        if group.subgroups.is_empty() && group.datagrams.is_empty() {
            self.held.remove(&id);
        }
    }
}
