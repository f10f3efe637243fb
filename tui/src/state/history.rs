//! What a node's rates were: one sample a second, gaps kept as gaps.

use std::collections::VecDeque;
use std::time::Duration;

use stats::rates::NodeRates;

/// How many seconds are kept.
pub const HISTORY_S: usize = 15 * 60;

/// Two samples closer than this are one, the newer.
const SAME: Duration = Duration::from_millis(400);

/// A node at one moment. What is not known is `None`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Viewers connected.
    pub viewers: u64,
    /// Rates since the sample before.
    pub rates: Option<NodeRates>,
}

/// How several samples become one column of a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fold {
    /// Their mean: right for rates.
    Mean,
    /// The largest: right for what must not be overlooked.
    Max,
}

/// The last [`HISTORY_S`] seconds of one node.
#[derive(Debug, Clone, Default)]
pub struct History {
    samples: VecDeque<Option<Sample>>,
    /// How many were ever pushed: graphs align their columns to it, so that a column keeps its
    /// samples while it moves.
    pushed: usize,
    last: Option<Duration>,
}

impl History {
    /// Adds the newest sample; seconds for which none came become a gap.
    pub fn push(&mut self, now: Duration, sample: Sample) {
        let since = self.last.map(|last| now.saturating_sub(last));
        self.last = Some(now);
        if since.is_some_and(|since| since < SAME) {
            self.samples.pop_back();
            self.samples.push_back(Some(sample));
            return;
        }
        // A sample is due each second; half a second late is not missing.
        let missed = since.map_or(0, |since| (since.as_secs_f64() - 0.5) as usize);
        for _ in 0..missed.min(HISTORY_S) {
            self.push_slot(None);
        }
        self.push_slot(Some(sample));
    }

    fn push_slot(&mut self, slot: Option<Sample>) {
        if self.samples.len() == HISTORY_S {
            self.samples.pop_front();
        }
        self.samples.push_back(slot);
        self.pushed += 1;
    }

    /// The rates of the last `seconds`, newest first, as far as they are known. The mean of a few is
    /// steadier than one second of a stream whose groups begin with a large frame.
    pub fn recent(&self, seconds: usize) -> impl Iterator<Item = NodeRates> + '_ {
        self.samples.iter().rev().take(seconds).filter_map(|slot| (*slot)?.rates)
    }

    /// The last `seconds` as `width` columns, oldest first, drawn from `value`; `None` where nothing
    /// is known. `silent_s` seconds at the end are unknown since nothing has come.
    pub fn columns(
        &self,
        width: usize,
        seconds: usize,
        silent_s: usize,
        fold: Fold,
        value: impl Fn(&Sample) -> Option<f64>,
    ) -> Vec<Option<f64>> {
        let per_column = seconds.div_ceil(width.max(1)).max(1);
        let end = self.pushed + silent_s;
        // The newest column is the one being filled.
        let last_column = end.saturating_sub(1) / per_column;
        let first_kept = self.pushed - self.samples.len();
        (0..width)
            .map(|column| {
                let from = ((last_column + column + 1).checked_sub(width)?) * per_column;
                let known = (from.max(first_kept)..(from + per_column).min(self.pushed))
                    .filter_map(|at| value(self.samples.get(at - first_kept)?.as_ref()?));
                fold.apply(known)
            })
            .collect()
    }
}

impl Fold {
    fn apply(self, values: impl Iterator<Item = f64>) -> Option<f64> {
        let (mut count, mut sum, mut max) = (0u32, 0.0, f64::MIN);
        for value in values {
            count += 1;
            sum += value;
            max = f64::max(max, value);
        }
        match (count, self) {
            (0, _) => None,
            (_, Self::Mean) => Some(sum / f64::from(count)),
            (_, Self::Max) => Some(max),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(seconds: impl IntoIterator<Item = u64>) -> History {
        let mut history = History::default();
        for second in seconds {
            let sample = Sample { viewers: second, rates: None };
            history.push(Duration::from_secs(second), sample);
        }
        history
    }

    fn viewers(
        history: &History,
        width: usize,
        seconds: usize,
        silent: usize,
        fold: Fold,
    ) -> Vec<Option<f64>> {
        history.columns(width, seconds, silent, fold, |sample| Some(sample.viewers as f64))
    }

    #[test]
    fn seconds_without_a_sample_are_a_gap() {
        let history = history([1, 2, 5]);
        assert_eq!(
            viewers(&history, 7, 7, 0, Fold::Mean),
            [None, None, Some(1.0), Some(2.0), None, None, Some(5.0)]
        );
    }

    #[test]
    fn jitter_is_no_gap() {
        let mut history = History::default();
        for millis in [0, 1490, 2010, 3400] {
            history.push(Duration::from_millis(millis), Sample { viewers: 1, rates: None });
        }
        assert_eq!(viewers(&history, 4, 4, 0, Fold::Max), [Some(1.0); 4]);
    }

    #[test]
    fn silence_at_the_end_moves_the_graph_on() {
        let history = history([1, 2]);
        assert_eq!(viewers(&history, 4, 4, 2, Fold::Mean), [Some(1.0), Some(2.0), None, None]);
    }

    #[test]
    fn several_seconds_share_a_column_and_stay_in_it() {
        let six = history(0..6);
        assert_eq!(viewers(&six, 3, 6, 0, Fold::Mean), [Some(0.5), Some(2.5), Some(4.5)]);
        assert_eq!(viewers(&six, 3, 6, 0, Fold::Max), [Some(1.0), Some(3.0), Some(5.0)]);
        let seven = history(0..7);
        assert_eq!(viewers(&seven, 3, 6, 0, Fold::Mean), [Some(2.5), Some(4.5), Some(6.0)]);
    }

    #[test]
    fn memory_is_bounded_and_a_long_silence_clears_it() {
        let mut history = history(0..5000);
        assert_eq!(history.samples.len(), HISTORY_S);
        history.push(Duration::from_secs(1 << 40), Sample { viewers: 7, rates: None });
        assert_eq!(history.samples.len(), HISTORY_S);
        assert_eq!(viewers(&history, 2, 2, 0, Fold::Max), [None, Some(7.0)]);
    }
}
