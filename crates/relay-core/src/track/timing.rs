//! When objects and groups arrived, for people who look: computed when asked for, out of what is
//! held, so that it costs the media path nothing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Track;

/// Objects looked at, the newest.
const OBJECTS: usize = 512;

/// A middle and a bad value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    /// Half are at most this.
    pub p50: Duration,
    /// Of a hundred, 95 are at most this.
    pub p95: Duration,
}

/// How a track arrives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// Between one object and the next, in order of arrival.
    pub inter_arrival: Option<Spread>,
    /// From the beginning of a group to that of the next, the median.
    pub group: Option<Duration>,
}

impl Track {
    /// How the newest of what is held arrived.
    pub fn timing(&self) -> Timing {
        let mut begins: BTreeMap<u64, Instant> = BTreeMap::new();
        let mut objects = Vec::new();
        for held in self.subgroups.iter().rev() {
            let mut first = None;
            for object in held.objects() {
                first.get_or_insert(object.received);
                if objects.len() < OBJECTS {
                    objects.push(object.received);
                }
            }
            if let Some(first) = first {
                let begin = begins.entry(held.header.group).or_insert(first);
                *begin = first.min(*begin);
            }
        }
        objects.sort_unstable();
        let begins: Vec<_> = begins.into_values().collect();
        Timing {
            inter_arrival: spread(gaps(&objects)),
            group: spread(gaps(&begins)).map(|spread| spread.p50),
        }
    }
}

fn gaps(instants: &[Instant]) -> Vec<Duration> {
    instants.windows(2).map(|pair| pair[1].saturating_duration_since(pair[0])).collect()
}

fn spread(mut values: Vec<Duration>) -> Option<Spread> {
    values.sort_unstable();
    let at = |percent: usize| values.get((values.len() * percent / 100).min(values.len() - 1));
    if values.is_empty() {
        return None;
    }
    Some(Spread { p50: *at(50)?, p95: *at(95)? })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "a test has to begin at some instant")]

    use super::*;

    #[test]
    fn one_late_object_in_twenty_shows_at_the_95th_percentile_only() {
        let start = Instant::now();
        let mut at = start;
        let mut instants = vec![at];
        for number in 0..100 {
            at += Duration::from_millis(if number % 20 == 7 { 300 } else { 33 });
            instants.push(at);
        }
        let spread = spread(gaps(&instants)).unwrap();
        assert_eq!(spread.p50, Duration::from_millis(33));
        assert_eq!(spread.p95, Duration::from_millis(300));
        assert_eq!(super::spread(gaps(&instants[..1])), None);
    }
}
