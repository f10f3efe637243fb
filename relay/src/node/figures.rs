//! What people are told of one track: what its subscribers got, and how long its objects take.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use moqt::FullTrackName;
use relay_core::{Captured, GroupArrived, TrackBooks};
use stats::clock::RemoteClock;
use stats::{Drops, GroupSnapshot, MAX_GROUPS, Percentiles};
use transport::clock::Asked;

use super::clock::Clocks;

/// Latencies older than this say nothing of how it is now.
const WINDOW: Duration = Duration::from_secs(60);
/// Objects per track whose way from the relay before us is remembered.
const MAX_HOPS: usize = 512;
/// No live object is older than this: a timestamp that says so is none of a clock.
const PLAUSIBLE_US: i64 = 3_600_000_000;

/// What all sessions together did with a track, and what was found out about its way here.
#[derive(Default)]
pub(super) struct TrackFigures {
    pub(super) bytes_out: u64,
    pub(super) drops: Drops,
    groups: BTreeMap<u64, Served>,
    /// Microseconds from an object's arrival at the relay before us to the one here, and when.
    hops: VecDeque<(Instant, u64)>,
}

#[derive(Clone, Copy, Default)]
struct Served {
    offered: i64,
    sent: u64,
}

impl TrackFigures {
    /// What one session did lately.
    pub(super) fn absorb(&mut self, books: &TrackBooks) {
        self.bytes_out += books.bytes_out;
        self.drops += books.drops;
        for books in &books.groups {
            let served = self.groups.entry(books.group).or_default();
            served.offered += books.offered;
            served.sent += books.sent;
        }
        // More than are shown: an old one that is still being sent must not come back empty.
        while self.groups.len() > 4 * MAX_GROUPS {
            self.groups.pop_first();
        }
    }

    /// What came of the newest groups and how much of it was sent on, the oldest first.
    pub(super) fn groups<'a>(
        &self,
        arrived: impl Iterator<Item = &'a GroupArrived>,
    ) -> Vec<GroupSnapshot> {
        let mut groups: Vec<_> = arrived
            .map(|came| {
                let served = self.groups.get(&came.group).copied().unwrap_or_default();
                GroupSnapshot {
                    group: came.group,
                    objects: came.objects,
                    bytes: came.bytes,
                    offered: u64::try_from(served.offered).unwrap_or(0),
                    sent: served.sent,
                }
            })
            .collect();
        groups.sort_unstable_by_key(|group| group.group);
        groups
    }

    /// An object took so long from the relay before us.
    pub(super) fn hop(&mut self, at: Instant, us: u64) {
        if self.hops.len() == MAX_HOPS {
            self.hops.pop_front();
        }
        self.hops.push_back((at, us));
    }

    /// How long objects took lately from the relay before us, in milliseconds.
    pub(super) fn hop_latency(&self, now: Instant) -> Option<Percentiles> {
        let recent = self.hops.iter().filter(|(at, _)| is_recent(*at, now));
        percentiles(recent.map(|(_, us)| *us).collect())
    }
}

/// How long a track's objects took from capture to here.
#[derive(Clone, Copy)]
pub(super) struct Latency {
    /// In milliseconds.
    pub(super) ms: Percentiles,
    /// How wrong the clocks may make it, in milliseconds.
    pub(super) error_ms: f64,
}

impl Latency {
    /// The capture times that objects told, by the clock that they were captured by.
    pub(super) fn of<'a>(
        captured: impl Iterator<Item = &'a Captured>,
        clock: &RemoteClock,
        clocks: &Clocks,
        now: Instant,
    ) -> Option<Self> {
        let mut worst_us = 0;
        let values = captured
            .filter(|captured| is_recent(captured.arrived, now))
            .filter_map(|captured| {
                let arrived = clock.at(clocks.micros(captured.arrived))?;
                let us = arrived.since(captured.capture_us);
                let error_us = i64::try_from(arrived.error_us).unwrap_or(i64::MAX);
                // Less than nothing is possible only as far as the clocks are wrong.
                if !(-error_us..PLAUSIBLE_US).contains(&us) {
                    return None;
                }
                worst_us = worst_us.max(arrived.error_us);
                Some(u64::try_from(us).unwrap_or(0))
            })
            .collect();
        let ms = percentiles(values)?;
        Some(Self { ms, error_ms: worst_us as f64 / 1e3 })
    }
}

impl Clocks {
    /// The clock that a track is captured by, if something is known of it.
    pub(super) fn of_track(&self, name: &FullTrackName) -> Option<RemoteClock> {
        self.best(&Asked::Broadcast(name.namespace().clone()), Instant::now())
    }
}

fn is_recent(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) <= WINDOW
}

/// Of microseconds, in milliseconds.
fn percentiles(mut us: Vec<u64>) -> Option<Percentiles> {
    us.sort_unstable();
    let at = |percent: usize| us.get((us.len() * percent / 100).min(us.len().checked_sub(1)?));
    Some(Percentiles { p50: *at(50)? as f64 / 1e3, p95: *at(95)? as f64 / 1e3 })
}

#[cfg(test)]
mod tests {
    use relay_core::GroupBooks;

    use super::*;

    #[test]
    fn percentiles_are_of_what_was_measured() {
        assert_eq!(percentiles(vec![]), None);
        let of = |us: Vec<u64>| percentiles(us).unwrap();
        assert_eq!(of(vec![1500]), Percentiles { p50: 1.5, p95: 1.5 });
        let spread = of((1..=100).map(|ms| ms * 1000).collect());
        assert_eq!(spread, Percentiles { p50: 51.0, p95: 96.0 });
    }

    #[test]
    fn what_sessions_did_with_a_group_adds_up() {
        let mut figures = TrackFigures::default();
        let of = |group, offered, sent| TrackBooks {
            groups: vec![GroupBooks { group, offered, sent }],
            ..TrackBooks::default()
        };
        for books in [of(7, 10, 4), of(7, 10, 10), of(8, 3, 1), of(7, 0, 5)] {
            figures.absorb(&books);
        }
        let came = |group| GroupArrived { group, objects: 10, bytes: 900 };
        let shown = figures.groups([came(8), came(7), came(9)].iter());
        let shown: Vec<_> = shown.iter().map(|g| (g.group, g.offered, g.sent)).collect();
        assert_eq!(shown, [(7, 20, 19), (8, 3, 1), (9, 0, 0)]);
        for group in 100..1000 {
            figures.absorb(&of(group, 1, 1));
        }
        assert_eq!(figures.groups.len(), 4 * MAX_GROUPS);
    }

    #[test]
    fn hops_are_remembered_for_a_minute() {
        let mut figures = TrackFigures::default();
        let now = Instant::now();
        assert_eq!(figures.hop_latency(now), None);
        figures.hop(now, 2500);
        let soon = now + Duration::from_secs(30);
        assert_eq!(figures.hop_latency(soon), Some(Percentiles { p50: 2.5, p95: 2.5 }));
        assert_eq!(figures.hop_latency(now + Duration::from_secs(61)), None);
    }

    #[test]
    fn a_capture_time_that_cannot_be_one_is_no_latency() {
        let clocks = Clocks::new();
        let now = Instant::now();
        let own = clocks.micros(now);
        let mut clock = RemoteClock::default();
        let unix_us = 1_700_000_000_000_000;
        clock.handle_answer(stats::clock::Answer {
            asked_us: own,
            heard_us: own,
            unix_us,
            error_us: 1000,
        });
        let of = |captures: &[u64]| {
            let captured: Vec<_> =
                captures.iter().map(|us| Captured { capture_us: *us, arrived: now }).collect();
            Latency::of(captured.iter(), &clock, &clocks, now)
        };
        assert!(of(&[0, 5, unix_us + 5_000_000]).is_none(), "media time, and the future");
        let latency = of(&[unix_us - 20_000, unix_us + 500, 7]).unwrap();
        assert_eq!(latency.ms, Percentiles { p50: 20.0, p95: 20.0 });
        assert!((1.0..1.1).contains(&latency.error_ms), "{}", latency.error_ms);
    }
}
