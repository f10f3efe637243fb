//! What viewers reported, put together: pure bookkeeping, with the time as an argument.
//!
//! Counters in a report count from its session's start. Of what a viewer says only differences are
//! added, and only what can have happened in the time that it was here; everything else is nonsense
//! and is left out. One viewer costs some hundred bytes, and goes with its session.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde::Deserialize;
use stats::{Percentiles, SeenSnapshot, Transport};

/// Who reported within this time is watching.
const LATELY: Duration = Duration::from_secs(15);
/// Before a session began, its viewer may have stood before a picture that stood still.
const CARRIED: Duration = Duration::from_secs(310);
/// A viewer further behind than this is not watching live.
const MAX_LATENCY_MS: f64 = 3_600_000.0;
/// A latency that may be this wrong tells nothing.
const MAX_ERROR_MS: f64 = 1000.0;
/// Who waited longer for a first picture was there before the broadcast was.
const MAX_JOIN_MS: f64 = 600_000.0;
/// No player notices that its picture stands still more often than this in a second …
const STALLS_A_SECOND: f64 = 10.0;
/// … nor gets more frames.
const FRAMES_A_SECOND: f64 = 1000.0;

/// Upper bounds of the latencies that are counted together, in seconds.
pub(crate) const LATENCY_BOUNDS: &[f64] =
    &[0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0];
/// The same for how long viewers waited for their first picture.
pub(crate) const JOIN_BOUNDS: &[f64] =
    &[0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0];

/// What a viewer's player travels on: every word that is counted by.
pub(crate) const WAYS: [Transport; 4] =
    [Transport::WebTransport, Transport::WebSocket, Transport::Quic, Transport::Unknown];

/// One report.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Report {
    /// From capture to presentation in milliseconds, and how wrong the clocks may make that. A
    /// player that does not know the capture clock may be wrong by hours: that is no latency.
    latency: Option<(f64, f64)>,
    /// From connecting to the first picture, in milliseconds.
    join_ms: Option<f64>,
    counters: Counters,
    transport: Transport,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counters {
    stalls: u64,
    stalled_ms: u64,
    frames_dropped: u64,
}

/// As players write it.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Written {
    latency_ms: Option<f64>,
    latency_error_ms: Option<f64>,
    stalls: u64,
    stalled_ms: u64,
    frames_dropped: u64,
    join_ms: Option<f64>,
    transport: Transport,
}

/// Why a report is left out.
#[derive(Debug, thiserror::Error)]
pub(super) enum Nonsense {
    /// It is no JSON object of the kind.
    #[error("not understood: {0}")]
    Json(serde_json::Error),
    /// A counter fell, or grew faster than time.
    #[error("{0} cannot be")]
    Counter(&'static str),
}

impl Report {
    /// Reads what a player wrote. What can't be measured is unknown.
    pub(super) fn parse(json: &[u8]) -> Result<Self, Nonsense> {
        let written: Written = serde_json::from_slice(json).map_err(Nonsense::Json)?;
        let within = |most: f64| move |value: &f64| (0.0..=most).contains(value);
        let error = written.latency_error_ms.filter(within(MAX_ERROR_MS));
        Ok(Self {
            latency: written.latency_ms.filter(within(MAX_LATENCY_MS)).zip(error),
            join_ms: written.join_ms.filter(within(MAX_JOIN_MS)),
            counters: Counters {
                stalls: written.stalls,
                stalled_ms: written.stalled_ms,
                frames_dropped: written.frames_dropped,
            },
            transport: written.transport,
        })
    }
}

impl Counters {
    /// What was added since `told`, by who was here for so long.
    fn since(self, told: Self, here: Duration) -> Result<Self, Nonsense> {
        let seconds = (here + CARRIED).as_secs_f64();
        let grown = |what, now: u64, before: u64, a_second: f64| {
            if now as f64 > seconds * a_second {
                return Err(Nonsense::Counter(what));
            }
            now.checked_sub(before).ok_or(Nonsense::Counter(what))
        };
        Ok(Self {
            stalls: grown("stalls", self.stalls, told.stalls, STALLS_A_SECOND)?,
            stalled_ms: grown("stalled_ms", self.stalled_ms, told.stalled_ms, 1000.0)?,
            frames_dropped: grown(
                "frames_dropped",
                self.frames_dropped,
                told.frames_dropped,
                FRAMES_A_SECOND,
            )?,
        })
    }
}

/// A viewer who may report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ViewerId(u64);

struct Viewer {
    since: Instant,
    /// Group and time of its newest report.
    newest: Option<(u64, Instant)>,
    latency: Option<(f64, f64)>,
    join_ms: Option<f64>,
    transport: Transport,
    told: Counters,
}

/// How often something took how long, for Prometheus.
#[derive(Clone, Debug)]
pub(crate) struct Distribution {
    /// One more than there are bounds.
    counts: Vec<u64>,
    bounds: &'static [f64],
    /// Of all values, in seconds.
    pub(crate) sum: f64,
}

impl Distribution {
    pub(crate) fn new(bounds: &'static [f64]) -> Self {
        Self { counts: vec![0; bounds.len() + 1], bounds, sum: 0.0 }
    }

    pub(crate) fn record(&mut self, seconds: f64) {
        self.counts[self.bounds.partition_point(|bound| *bound < seconds)] += 1;
        self.sum += seconds;
    }

    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Upper bounds, the last of them infinite, and how many values lie between each and the one
    /// before.
    pub(crate) fn buckets(&self) -> Vec<(f64, u64)> {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        bounds.zip(self.counts.iter().copied()).collect()
    }
}

/// What is told to Prometheus. Counters are cumulative from the node's start.
#[derive(Clone, Debug)]
pub(crate) struct SeenFigures {
    /// Who reported lately, by [`WAYS`].
    pub(crate) viewers: [u64; WAYS.len()],
    /// One value a report.
    pub(crate) latency: Distribution,
    /// One value a viewer.
    pub(crate) join: Distribution,
    pub(crate) stalls: u64,
    pub(crate) stalled: Duration,
    pub(crate) frames_dropped: u64,
}

impl Default for SeenFigures {
    fn default() -> Self {
        Self {
            viewers: [0; WAYS.len()],
            latency: Distribution::new(LATENCY_BOUNDS),
            join: Distribution::new(JOIN_BOUNDS),
            stalls: 0,
            stalled: Duration::ZERO,
            frames_dropped: 0,
        }
    }
}

/// What the viewers of this node saw.
#[derive(Default)]
pub(super) struct Seen {
    next: u64,
    viewers: HashMap<ViewerId, Viewer>,
    /// But for who is watching now.
    figures: SeenFigures,
    /// Anybody ever reported.
    any: bool,
}

impl Seen {
    /// A viewer who came at `since` says that it will report.
    pub(super) fn begin(&mut self, since: Instant) -> ViewerId {
        let id = ViewerId(self.next);
        self.next += 1;
        let viewer = Viewer {
            since,
            newest: None,
            latency: None,
            join_ms: None,
            transport: Transport::Unknown,
            told: Counters::default(),
        };
        self.viewers.insert(id, viewer);
        id
    }

    /// It reports, in this group. One that newer ones overtook says nothing new.
    pub(super) fn handle_report(
        &mut self,
        id: ViewerId,
        group: u64,
        report: &Report,
        now: Instant,
    ) -> Result<(), Nonsense> {
        let Some(viewer) = self.viewers.get_mut(&id) else { return Ok(()) };
        if viewer.newest.is_some_and(|(newest, _)| group <= newest) {
            return Ok(());
        }
        let here = now.saturating_duration_since(viewer.since);
        let added = report.counters.since(viewer.told, here)?;
        viewer.newest = Some((group, now));
        viewer.told = report.counters;
        viewer.transport = report.transport;
        viewer.latency = report.latency;
        self.any = true;
        self.figures.stalls += added.stalls;
        self.figures.stalled += Duration::from_millis(added.stalled_ms);
        self.figures.frames_dropped += added.frames_dropped;
        if let Some((ms, _)) = report.latency {
            self.figures.latency.record(ms / 1e3);
        }
        // Every report of a session says it; it happened once.
        if let (Some(ms), None) = (report.join_ms, viewer.join_ms) {
            viewer.join_ms = Some(ms);
            self.figures.join.record(ms / 1e3);
        }
        Ok(())
    }

    /// Its session is over.
    pub(super) fn end(&mut self, id: ViewerId) {
        self.viewers.remove(&id);
    }

    fn watching(&self, now: Instant) -> impl Iterator<Item = &Viewer> {
        self.viewers.values().filter(move |viewer| {
            viewer.newest.is_some_and(|(_, at)| now.saturating_duration_since(at) <= LATELY)
        })
    }

    /// `None` if nobody ever said a thing.
    pub(super) fn snapshot(&self, now: Instant) -> Option<SeenSnapshot> {
        if !self.any {
            return None;
        }
        let known = self.watching(now).filter_map(|viewer| viewer.latency);
        let (latencies, errors): (Vec<_>, Vec<_>) = known.unzip();
        let latencies = Sorted::of(latencies);
        let joins = Sorted::of(self.watching(now).filter_map(|viewer| viewer.join_ms).collect());
        Some(SeenSnapshot {
            viewers: self.watching(now).count() as u64,
            latency_ms: latencies
                .quantile(0.5)
                .zip(latencies.quantile(0.95))
                .map(|(p50, p95)| Percentiles { p50, p95 }),
            // No percentile is further off than the one that is worst known.
            latency_error_ms: errors.into_iter().reduce(f64::max),
            join_ms: joins.quantile(0.5),
            stalls: self.figures.stalls,
            stalled_ms: self.figures.stalled.as_millis() as u64,
            frames_dropped: self.figures.frames_dropped,
        })
    }

    pub(super) fn figures(&self, now: Instant) -> SeenFigures {
        let mut figures = self.figures.clone();
        for viewer in self.watching(now) {
            let way = WAYS.iter().position(|way| *way == viewer.transport);
            figures.viewers[way.unwrap_or(WAYS.len() - 1)] += 1;
        }
        figures
    }
}

/// Values in rising order.
struct Sorted(Vec<f64>);

impl Sorted {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        Self(values)
    }

    /// The value that this share of all do not exceed.
    fn quantile(&self, share: f64) -> Option<f64> {
        let rank = (self.0.len() as f64 * share).ceil() as usize;
        self.0.get(rank.max(1) - 1).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(json: &str) -> Report {
        Report::parse(json.as_bytes()).unwrap()
    }

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn nobody_who_reports_is_not_nothing_seen() {
        let mut seen = Seen::default();
        let now = Instant::now();
        seen.begin(now);
        assert_eq!(seen.snapshot(now), None);
        assert_eq!(seen.figures(now).viewers, [0; 4]);
    }

    #[test]
    fn the_middle_and_the_bad_ones_are_of_the_newest_latencies() {
        let mut seen = Seen::default();
        let now = Instant::now();
        for viewer in 0..100u64 {
            let id = seen.begin(now);
            let json = |ms| {
                format!(
                    r#"{{"latency_ms":{ms},"latency_error_ms":{},"join_ms":{viewer},
                        "transport":"webtransport"}}"#,
                    viewer % 7,
                )
            };
            seen.handle_report(id, 0, &report(&json(5000)), after(now, 1)).unwrap();
            seen.handle_report(id, 1, &report(&json(viewer + 1)), after(now, 6)).unwrap();
        }
        let snapshot = seen.snapshot(after(now, 20)).unwrap();
        assert_eq!(snapshot.viewers, 100);
        assert_eq!(snapshot.latency_ms, Some(Percentiles { p50: 50.0, p95: 95.0 }));
        assert_eq!(snapshot.latency_error_ms, Some(6.0));
        assert_eq!(snapshot.join_ms, Some(49.0));
        let figures = seen.figures(after(now, 20));
        assert_eq!(figures.viewers, [100, 0, 0, 0]);
        // Every report has a latency, every viewer joined once.
        assert_eq!((figures.latency.count(), figures.join.count()), (200, 100));
        assert!((figures.latency.sum - (500.0 + 5.05)).abs() < 1e-9);
        assert_eq!(figures.latency.buckets()[..2], [(0.05, 50), (0.1, 50)]);
        assert_eq!(figures.latency.buckets().last(), Some(&(f64::INFINITY, 0)));
    }

    #[test]
    fn who_fell_silent_is_not_watching_and_what_was_seen_stays() {
        let mut seen = Seen::default();
        let now = Instant::now();
        let json = r#"{"latency_ms":9,"latency_error_ms":1,"stalls":2,"stalled_ms":3000,"frames_dropped":7}"#;
        let (silent, gone) = (seen.begin(now), seen.begin(now));
        for id in [silent, gone] {
            seen.handle_report(id, 0, &report(json), after(now, 2)).unwrap();
        }
        seen.end(gone);
        assert_eq!(seen.snapshot(after(now, 17)).unwrap().viewers, 1);
        let snapshot = seen.snapshot(after(now, 18)).unwrap();
        assert_eq!((snapshot.viewers, snapshot.latency_ms, snapshot.join_ms), (0, None, None));
        assert_eq!((snapshot.stalls, snapshot.stalled_ms, snapshot.frames_dropped), (4, 6000, 14));
        // A report that was under way when its session ended changes nothing.
        seen.handle_report(gone, 1, &report(json), after(now, 18)).unwrap();
        assert_eq!(seen.snapshot(after(now, 18)).unwrap(), snapshot);
    }

    #[test]
    fn only_differences_are_added_and_a_report_that_was_overtaken_not_at_all() {
        let mut seen = Seen::default();
        let now = Instant::now();
        let id = seen.begin(now);
        let stalls = |n| report(&format!(r#"{{"stalls":{n},"stalled_ms":{}}}"#, n * 1000));
        for (group, stalled, sum) in
            [(0, 1, 1), (3, 4, 4), (2, 2, 4), (3, 9, 4), (4, 4, 4), (9, 5, 5)]
        {
            seen.handle_report(id, group, &stalls(stalled), after(now, 10)).unwrap();
            let snapshot = seen.snapshot(after(now, 10)).unwrap();
            assert_eq!((snapshot.stalls, snapshot.stalled_ms), (sum, sum * 1000), "{group}");
        }
    }

    #[test]
    fn a_latency_by_a_clock_that_nobody_knows_is_none() {
        for json in [
            r#"{"latency_ms":100}"#,
            r#"{"latency_ms":100,"latency_error_ms":5000}"#,
            r#"{"latency_ms":-1,"latency_error_ms":1}"#,
            r#"{"latency_ms":1e9,"latency_error_ms":1}"#,
            r#"{"latency_ms":null,"latency_error_ms":1,"join_ms":1e12,"transport":"carrier pigeon"}"#,
        ] {
            let report = report(json);
            assert_eq!((report.latency, report.join_ms), (None, None), "{json}");
        }
    }

    #[test]
    fn what_cannot_be_is_left_out() {
        let mut seen = Seen::default();
        let now = Instant::now();
        let id = seen.begin(now);
        let good = report(r#"{"stalls":3,"stalled_ms":5000,"frames_dropped":50}"#);
        seen.handle_report(id, 0, &good, after(now, 10)).unwrap();
        for json in [
            // More than there was time for.
            r#"{"stalls":3,"stalled_ms":400000,"frames_dropped":50}"#,
            r#"{"stalls":18446744073709551615,"stalled_ms":5000,"frames_dropped":50}"#,
            r#"{"stalls":3,"stalled_ms":5000,"frames_dropped":9999999}"#,
            // Less than before.
            r#"{"stalls":2,"stalled_ms":5000,"frames_dropped":50}"#,
            "{}",
        ] {
            let refused = seen.handle_report(id, 1, &report(json), after(now, 10));
            assert!(matches!(refused, Err(Nonsense::Counter(_))), "{json}");
        }
        let snapshot = seen.snapshot(after(now, 10)).unwrap();
        assert_eq!((snapshot.stalls, snapshot.stalled_ms, snapshot.frames_dropped), (3, 5000, 50));
        seen.handle_report(id, 1, &good, after(now, 11)).unwrap();
    }

    #[test]
    fn what_is_no_report_is_not_understood() {
        let deep = "[".repeat(4000);
        for json in
            ["", "7", "{", r#"{"stalls":-1}"#, r#"{"stalls":1.5}"#, r#"{"latency_ms":1e999}"#]
                .into_iter()
                .chain([deep.as_str(), "\u{0}", r#"{"transport":{}}"#])
        {
            assert!(matches!(Report::parse(json.as_bytes()), Err(Nonsense::Json(_))), "{json}");
        }
        assert!(Report::parse(&[0xff; 40]).is_err());
        // What later players say besides is skipped.
        assert_eq!(report(r#"{"stalls":1,"mood":["good"]}"#), report(r#"{"stalls":1}"#));
    }
}
