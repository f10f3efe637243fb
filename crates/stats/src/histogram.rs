//! A log-linear histogram: small, mergeable, with a known error.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Each power of two is split into this many buckets, so a quantile is at most 1/8 too high.
const SUB_BITS: u32 = 3;
const SUB: usize = 1 << SUB_BITS;
/// Values from `2^MAX_BITS` up share the last bucket: 19 hours, in microseconds.
const MAX_BITS: u32 = 36;
const BUCKETS: usize = (MAX_BITS - SUB_BITS + 1) as usize * SUB;

/// Counts of `u64` values (latencies in microseconds, say) in buckets of about equal relative width.
///
/// 2 KiB whatever is recorded. In JSON an array of `[bucket, count]` for the buckets in use; see
/// [`Histogram::upper_bound`] for what a bucket holds.
#[derive(Clone, PartialEq, Eq)]
pub struct Histogram {
    counts: Box<[u64; BUCKETS]>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: Box::new([0; BUCKETS]) }
    }
}

impl std::fmt::Debug for Histogram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.buckets().map(|(i, n)| (Self::upper_bound(i), n))).finish()
    }
}

impl Histogram {
    /// Adds one value.
    pub fn record(&mut self, value: u64) {
        self.add(bucket(value), 1);
    }

    /// Adds all that another one holds.
    pub fn merge(&mut self, other: &Self) {
        for (index, count) in other.buckets() {
            self.add(index, count);
        }
    }

    /// How many values were recorded.
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The value that `quantile` (0 to 1) of the recorded values do not exceed, rounded up to the end
    /// of its bucket; `None` when nothing was recorded.
    pub fn quantile(&self, quantile: f64) -> Option<u64> {
        let count = self.count();
        // At least one value, so that quantile 0 is the least one.
        let rank = ((count as f64 * quantile.clamp(0.0, 1.0)).ceil() as u64).clamp(1, count.max(1));
        let mut seen = 0u64;
        self.buckets().find_map(|(index, count)| {
            seen = seen.saturating_add(count);
            (seen >= rank).then(|| Self::upper_bound(index))
        })
    }

    /// What was recorded here since `older`, an earlier state of the same histogram; `None` when a
    /// count fell, so that it is none.
    pub fn since(&self, older: &Self) -> Option<Self> {
        let mut grown = Self::default();
        for (index, count) in grown.counts.iter_mut().enumerate() {
            *count = self.counts[index].checked_sub(older.counts[index])?;
        }
        Some(grown)
    }

    /// The buckets in use with their counts, in rising order.
    pub fn buckets(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.counts.iter().copied().enumerate().filter(|(_, count)| *count > 0)
    }

    /// The largest value that falls into a bucket; the last bucket has no bound.
    pub fn upper_bound(index: usize) -> u64 {
        if index >= BUCKETS - 1 {
            return u64::MAX;
        }
        if index < SUB {
            return index as u64;
        }
        let shift = index / SUB - 1;
        (((index % SUB + SUB + 1) as u64) << shift) - 1
    }

    fn add(&mut self, index: usize, count: u64) {
        let slot = &mut self.counts[index.min(BUCKETS - 1)];
        *slot = slot.saturating_add(count);
    }
}

/// The bucket of a value: linear below `SUB`, then `SUB` to each power of two.
fn bucket(value: u64) -> usize {
    if value < SUB as u64 {
        return value as usize;
    }
    let shift = value.ilog2() - SUB_BITS;
    let index = (shift as usize + 1) * SUB + (value >> shift) as usize - SUB;
    index.min(BUCKETS - 1)
}

impl Serialize for Histogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.buckets())
    }
}

impl<'de> Deserialize<'de> for Histogram {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut histogram = Self::default();
        for (index, count) in Vec::<(usize, u64)>::deserialize(deserializer)? {
            histogram.add(index, count);
        }
        Ok(histogram)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(values: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        values.iter().for_each(|value| histogram.record(*value));
        histogram
    }

    #[test]
    fn nothing_recorded_has_no_quantile() {
        assert_eq!(Histogram::default().quantile(0.5), None);
    }

    #[test]
    fn buckets_are_adjoining_and_hold_what_they_say() {
        for index in 0..BUCKETS - 1 {
            let bound = Histogram::upper_bound(index);
            assert_eq!(bucket(bound), index);
            assert_eq!(bucket(bound + 1), index + 1);
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn a_bucket_beyond_the_last_is_counted_in_the_last() {
        let histogram: Histogram = serde_json::from_str("[[2,1],[99999999,3]]").unwrap();
        assert_eq!(histogram.count(), 4);
        assert_eq!(histogram.quantile(1.0), Some(u64::MAX));
    }

    proptest! {
        #[test]
        fn quantiles_are_never_too_low_and_at_most_an_eighth_too_high(
            mut values in prop::collection::vec(0u64..1 << MAX_BITS, 1..200),
            quantile in 0.0f64..=1.0,
        ) {
            let found = of(&values).quantile(quantile).unwrap();
            values.sort_unstable();
            let rank = ((values.len() as f64 * quantile).ceil() as usize).max(1);
            let exact = values[rank - 1];
            prop_assert!(found >= exact, "{found} < {exact}");
            // The last bucket below the bound is open-ended.
            if bucket(exact) < BUCKETS - 1 {
                prop_assert!(found as f64 <= exact as f64 * 1.125, "{found} for {exact}");
            }
        }

        #[test]
        fn merging_is_recording_all_and_since_undoes_it(
            a in prop::collection::vec(any::<u64>(), 0..50),
            b in prop::collection::vec(any::<u64>(), 0..50),
        ) {
            let mut merged = of(&a);
            merged.merge(&of(&b));
            prop_assert_eq!(&merged, &of(&[a.clone(), b.clone()].concat()));
            prop_assert_eq!(merged.since(&of(&a)), Some(of(&b)));
        }

        #[test]
        fn json_keeps_everything(values in prop::collection::vec(any::<u64>(), 0..50)) {
            let histogram = of(&values);
            let text = serde_json::to_string(&histogram).unwrap();
            prop_assert_eq!(serde_json::from_str::<Histogram>(&text).unwrap(), histogram);
        }
    }
}
