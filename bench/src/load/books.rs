//! What was published, what came, and what is therefore missing.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::clock::Micros;

/// What was published of one track: when, object by object. Object IDs count from 0 in each
/// group, and groups from 0.
#[derive(Debug, Default)]
pub struct Ledger {
    groups: Mutex<Vec<Vec<Micros>>>,
}

impl Ledger {
    /// The ledger of a source that publishes every `interval`, `per_group` objects a group, and
    /// did so from `start` until `end`.
    pub fn of_schedule(start: Micros, interval: f64, per_group: u64, end: Micros) -> Self {
        let ledger = Self::default();
        for number in 0.. {
            let at = start + (number as f64 * interval) as Micros;
            if at >= end {
                break;
            }
            ledger.record(number / per_group, at);
        }
        ledger
    }

    /// The next object of `group` is published now. Groups come one after another.
    pub fn record(&self, group: u64, at: Micros) {
        let mut groups = self.lock();
        while groups.len() as u64 <= group {
            groups.push(Vec::new());
        }
        if let Some(objects) = groups.last_mut() {
            objects.push(at);
        }
    }

    /// How many objects were published.
    pub fn objects(&self) -> u64 {
        self.lock().iter().map(|objects| objects.len() as u64).sum()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Vec<Micros>>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one viewer got of one track.
#[derive(Clone, Debug, Default)]
pub struct Books {
    /// A bit for each object ID, by group.
    got: HashMap<u64, Vec<u64>>,
    /// Whole objects, each counted once.
    pub arrived: u64,
    /// Payload bytes of these.
    pub bytes: u64,
    /// Objects that came again.
    pub duplicates: u64,
    /// Objects whose payload does not say that it is this object.
    pub altered: u64,
}

impl Books {
    /// A whole object came. `false`: it had come before.
    pub fn record(&mut self, group: u64, object: u64, bytes: u64) -> bool {
        let bits = self.got.entry(group).or_default();
        let (word, bit) = ((object / 64) as usize, 1u64 << (object % 64));
        if bits.len() <= word {
            bits.resize(word + 1, 0);
        }
        let fresh = bits[word] & bit == 0;
        bits[word] |= bit;
        if fresh {
            self.arrived += 1;
            self.bytes += bytes;
        } else {
            self.duplicates += 1;
        }
        fresh
    }

    fn has(&self, group: u64, object: u64) -> bool {
        let bits = self.got.get(&group).and_then(|bits| bits.get((object / 64) as usize));
        bits.is_some_and(|word| word & (1 << (object % 64)) != 0)
    }

    /// Settles with what was published.
    ///
    /// Owed are, as far as they were published inside `window`, the objects of every group that
    /// began at `since` (when the subscription was accepted) or later: whatever filter a relay
    /// begins with, all of these are for this viewer. Of an older group it is those from the first
    /// on that came: a relay that begins with it goes on with it.
    pub fn settle(&self, ledger: &Ledger, since: Micros, window: Range<Micros>) -> Tally {
        let mut tally = Tally::default();
        for (group, objects) in ledger.lock().iter().enumerate() {
            let is_old = objects.first().is_some_and(|first| *first < since);
            let came = |object: &usize| self.has(group as u64, *object as u64);
            let first = match (0..objects.len()).find(came) {
                Some(first) if is_old => first,
                None if is_old => continue,
                _ => 0,
            };
            let (mut owed, mut came) = (0, 0);
            // Objects before the first that is owed were made for others.
            for (object, at) in objects.iter().enumerate().skip(first) {
                if window.contains(at) {
                    owed += 1;
                    came += u64::from(self.has(group as u64, object as u64));
                }
            }
            tally.owed += owed;
            tally.arrived += came;
            tally.groups_owed += u64::from(owed > 0);
            tally.groups_cut += u64::from(0 < came && came < owed);
            tally.groups_missing += u64::from(owed > 0 && came == 0);
        }
        tally
    }
}

/// What one or many viewers were owed and got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Objects published for them.
    pub owed: u64,
    /// Those of them that came whole.
    pub arrived: u64,
    /// Groups of which at least one object was owed.
    pub groups_owed: u64,
    /// Those of them that came in part.
    pub groups_cut: u64,
    /// Those of them of which nothing came.
    pub groups_missing: u64,
}

impl Tally {
    /// Objects that did not come.
    pub fn missing(&self) -> u64 {
        self.owed - self.arrived
    }

    /// The part of what was owed that did not come; 0 when nothing was owed.
    pub fn missing_share(&self) -> f64 {
        self.missing() as f64 / (self.owed.max(1)) as f64
    }
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.owed += other.owed;
        self.arrived += other.arrived;
        self.groups_owed += other.groups_owed;
        self.groups_cut += other.groups_cut;
        self.groups_missing += other.groups_missing;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten groups of six objects, one every 100 µs from 10,000 on.
    fn ledger() -> Ledger {
        let ledger = Ledger::of_schedule(10_000, 100.0, 6, 16_000);
        assert_eq!(ledger.objects(), 60);
        ledger
    }

    fn books(got: impl Fn(u64, u64) -> bool) -> Books {
        let mut books = Books::default();
        for (group, object) in (0..10).flat_map(|group| (0..6).map(move |object| (group, object))) {
            if got(group, object) {
                books.record(group, object, 100);
            }
        }
        books
    }

    #[test]
    fn all_of_it_is_all_of_it() {
        let tally = books(|_, _| true).settle(&ledger(), 0, 0..Micros::MAX);
        assert_eq!((tally.owed, tally.missing(), tally.groups_owed), (60, 0, 10));
    }

    #[test]
    fn a_relay_that_drops_half_looks_bad() {
        let every_other = books(|_, object| object % 2 == 0);
        let tally = every_other.settle(&ledger(), 0, 0..Micros::MAX);
        assert_eq!((tally.missing(), tally.groups_cut, tally.groups_missing), (30, 10, 0));
        assert!((tally.missing_share() - 0.5).abs() < 1e-9);
        let half_the_groups = books(|group, _| group < 5).settle(&ledger(), 0, 0..Micros::MAX);
        assert_eq!(
            (half_the_groups.missing(), half_the_groups.groups_cut, half_the_groups.groups_missing),
            (30, 0, 5)
        );
    }

    #[test]
    fn a_relay_that_sends_one_object_twice_hides_nothing() {
        let mut books = books(|_, object| object % 2 == 0);
        for _ in 0..30 {
            assert!(!books.record(3, 0, 100));
        }
        let tally = books.settle(&ledger(), 0, 0..Micros::MAX);
        assert_eq!((tally.missing(), books.arrived, books.duplicates), (30, 30, 30));
    }

    #[test]
    fn a_relay_that_sends_nothing_is_missing_everything() {
        let tally = Books::default().settle(&ledger(), 0, 0..Micros::MAX);
        assert_eq!((tally.missing(), tally.groups_missing), (60, 10));
    }

    #[test]
    fn a_viewer_is_owed_the_groups_that_began_while_it_was_there() {
        // Subscribed in the middle of group 2: group 3 is the first that is owed in any case.
        let since = 10_000 + 2 * 600 + 250;
        let tally = books(|group, _| group > 2).settle(&ledger(), since, 0..Micros::MAX);
        assert_eq!((tally.owed, tally.missing()), (42, 0));
        // A relay that begins with group 2 goes on with it.
        let tally = books(|group, object| group > 2 || group == 2 && object == 1);
        let tally = tally.settle(&ledger(), since, 0..Micros::MAX);
        assert_eq!((tally.owed, tally.missing()), (42 + 5, 4));
        // What was sent from the window's end on is not owed yet.
        let tally = books(|_, _| false).settle(&ledger(), since, 0..10_000 + 4 * 600 + 300);
        assert_eq!((tally.owed, tally.groups_owed), (9, 2));
    }
}
