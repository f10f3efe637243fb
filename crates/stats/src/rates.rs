//! Rates from two snapshots of one node.
//!
//! Counters are cumulative, so the reader subtracts. The traps are the same everywhere, so they are
//! dealt with once: a node that restarted (counters fell), a snapshot that is no newer than the one
//! before (the feed repeats what it last heard of a node below), and a session whose identifier came
//! back after a restart. Each means "no rate", never 0 and never a negative or absurd one.

use crate::{DropReason, Drops, NodeSnapshot};

/// Shortest time between two snapshots from which a rate is computed, in seconds.
pub const MIN_INTERVAL_S: f64 = 0.05;

/// The time between two snapshots of one running node, by the node's own clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    seconds: f64,
}

/// Why two snapshots give no rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRate {
    /// The node started anew in between: its counters begin again at 0.
    Restarted,
    /// The second snapshot is (nearly) as old as the first: the node sent nothing new.
    NothingNew,
}

impl Interval {
    /// The interval between two snapshots of the same node, the older first.
    ///
    /// # Errors
    /// When they don't belong to one run of the process, or when the second is not newer.
    pub fn between(older: &NodeSnapshot, newer: &NodeSnapshot) -> Result<Self, NoRate> {
        let seconds = newer.uptime_s - older.uptime_s;
        let fell = newer.bytes_in < older.bytes_in
            || newer.bytes_out < older.bytes_out
            || newer.objects_in < older.objects_in
            || newer.objects_out < older.objects_out
            || newer.drops.total().objects < older.drops.total().objects;
        if fell || seconds < 0.0 {
            Err(NoRate::Restarted)
        } else {
            Self::lasting(seconds).ok_or(NoRate::NothingNew)
        }
    }

    /// An interval of so many seconds of one run; `None` if it is too short for a rate.
    pub fn lasting(seconds: f64) -> Option<Self> {
        (seconds.is_finite() && seconds >= MIN_INTERVAL_S).then_some(Self { seconds })
    }

    /// Its length in seconds.
    pub const fn seconds(self) -> f64 {
        self.seconds
    }

    /// How fast one counter grew, per second; `None` if it fell.
    pub fn rate(self, older: u64, newer: u64) -> Option<f64> {
        // Exact up to 2^53 in one interval, which no counter reaches.
        newer.checked_sub(older).map(|grown| grown as f64 / self.seconds)
    }

    /// How fast drops grew, in objects per second for each reason; `None` if any fell.
    pub fn drop_rates(self, older: &Drops, newer: &Drops) -> Option<DropRates> {
        let mut rates = DropRates::default();
        for reason in DropReason::ALL {
            rates.set(reason, self.rate(older[reason].objects, newer[reason].objects)?);
        }
        Some(rates)
    }
}

/// Objects dropped per second, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct DropRates([f64; DropReason::COUNT]);

impl DropRates {
    /// Objects per second for one reason.
    pub fn of(&self, reason: DropReason) -> f64 {
        self.0[reason.index()]
    }

    /// Sets the objects per second for one reason.
    pub fn set(&mut self, reason: DropReason, rate: f64) {
        self.0[reason.index()] = rate;
    }

    /// Objects per second over all reasons.
    pub fn total(&self) -> f64 {
        self.0.iter().sum()
    }

    /// The reason with the highest rate, if anything is dropped at all.
    pub fn top(&self) -> Option<DropReason> {
        let most = DropReason::ALL.into_iter().max_by(|a, b| self.of(*a).total_cmp(&self.of(*b)));
        most.filter(|reason| self.of(*reason) > 0.0)
    }
}

/// The rates of one node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NodeRates {
    /// Payload bits received per second.
    pub bits_in: f64,
    /// Payload bits sent per second.
    pub bits_out: f64,
    /// Objects dropped per second.
    pub drops: DropRates,
}

impl NodeRates {
    /// The rates between two snapshots of the same node, the older first.
    ///
    /// # Errors
    /// As [`Interval::between`]; a single counter that fell means a restart, too.
    pub fn between(older: &NodeSnapshot, newer: &NodeSnapshot) -> Result<Self, NoRate> {
        let interval = Interval::between(older, newer)?;
        let rate = |older, newer| interval.rate(older, newer).ok_or(NoRate::Restarted);
        Ok(Self {
            bits_in: rate(older.bytes_in, newer.bytes_in)? * 8.0,
            bits_out: rate(older.bytes_out, newer.bytes_out)? * 8.0,
            drops: interval.drop_rates(&older.drops, &newer.drops).ok_or(NoRate::Restarted)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DropCounts;
    use proptest::prelude::*;

    fn node(uptime_s: f64, bytes_in: u64, bytes_out: u64, dropped: u64) -> NodeSnapshot {
        let mut node = NodeSnapshot { uptime_s, bytes_in, bytes_out, ..NodeSnapshot::default() };
        node.drops[DropReason::TooFarBehind] = DropCounts { groups: 1, objects: dropped, bytes: 1 };
        node
    }

    #[test]
    fn rates_use_the_clock_of_the_node() {
        let rates = NodeRates::between(&node(10.0, 1000, 0, 0), &node(12.0, 3000, 500, 6)).unwrap();
        assert_eq!(rates.bits_in, 8000.0);
        assert_eq!(rates.bits_out, 2000.0);
        assert_eq!(rates.drops.of(DropReason::TooFarBehind), 3.0);
        assert_eq!(rates.drops.total(), 3.0);
        assert_eq!(rates.drops.top(), Some(DropReason::TooFarBehind));
    }

    #[test]
    fn a_restart_gives_no_rate() {
        // Shorter uptime, and a restart that has already run longer but counted less.
        for newer in [node(1.0, 5000, 5000, 9), node(11.0, 5000, 10, 9), node(11.0, 5000, 5000, 0)]
        {
            let older = node(10.0, 1000, 1000, 5);
            assert_eq!(NodeRates::between(&older, &newer), Err(NoRate::Restarted));
        }
    }

    #[test]
    fn a_repeated_snapshot_gives_no_rate() {
        let same = node(10.0, 1000, 1000, 0);
        assert_eq!(NodeRates::between(&same, &same), Err(NoRate::NothingNew));
    }

    #[test]
    fn without_drops_there_is_no_top_reason() {
        let rates = NodeRates::between(&node(1.0, 0, 0, 4), &node(2.0, 0, 0, 4)).unwrap();
        assert_eq!(rates.drops.top(), None);
    }

    proptest! {
        #[test]
        fn no_rate_is_ever_negative_or_infinite(
            a in (any::<f64>(), any::<u64>(), any::<u64>(), any::<u64>()),
            b in (any::<f64>(), any::<u64>(), any::<u64>(), any::<u64>()),
        ) {
            let rates = NodeRates::between(&node(a.0, a.1, a.2, a.3), &node(b.0, b.1, b.2, b.3));
            if let Ok(rates) = rates {
                for rate in [rates.bits_in, rates.bits_out, rates.drops.total()] {
                    prop_assert!(rate.is_finite() && rate >= 0.0, "{rate}");
                }
            }
        }
    }
}
