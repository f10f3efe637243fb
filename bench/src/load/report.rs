//! The figures of a run, for people and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::books::Tally;
use super::options::Options;
use crate::process::Sample;

/// Bytes of a GiB.
const GIB: f64 = (1u64 << 30) as f64;

/// All figures of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// What was put on.
    pub options: Options,
    /// Seconds measured.
    pub seconds: f64,
    /// What viewers saw, one entry a `--relay`, then the viewers behind slow links.
    pub targets: Vec<Target>,
    /// What the relay cost, if its `--pid` was known.
    pub relay: Option<Cost>,
    /// What the relay's memory did when viewers were killed, with `--kill`.
    pub killed: Option<Killed>,
    /// What the load generator itself cost.
    pub generator: Generator,
    /// What the relay says it did, if its `--admin` was known.
    pub claimed: Option<Claimed>,
}

/// What the viewers of one target saw.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Target {
    /// The relay's URL, and whether a slow link was in front of it.
    pub name: String,
    /// Viewers that were there, those that left before the end included.
    pub viewers: u64,
    /// Those of them that never got an object.
    pub never_joined: u64,
    /// Those of them whose session broke.
    pub broken: u64,
    /// What was published inside the measured time, and what came of it.
    pub measured: Tally,
    /// The audio of it.
    #[serde(default)]
    pub audio: Tally,
    /// What was published in all while they were there, and what came of it.
    pub whole: Tally,
    /// Whole objects that came in all, those of groups begun before the subscription included.
    pub arrived: u64,
    /// Objects that came twice.
    pub duplicates: u64,
    /// Objects that were not what was published.
    pub altered: u64,
    /// Streams that the relay reset.
    pub resets: u64,
    /// The same by the code that it said.
    #[serde(default)]
    pub resets_by_code: BTreeMap<String, u64>,
    /// Payload bytes that came inside the measured time.
    pub bytes: u64,
    /// From an object's making until its first bytes were at a viewer.
    #[serde(default)]
    pub first_byte: Percentiles,
    /// From an object's making until it was whole at a viewer.
    pub lateness: Percentiles,
    /// The p99 of the viewer that had the worst.
    pub worst_p99_ms: f64,
    /// From dialling until the first object was whole.
    pub join: Percentiles,
    /// What went wrong, each once.
    pub errors: Vec<String>,
}

/// A distribution, milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Percentiles {
    /// How many values there were.
    pub count: u64,
    /// Half of them were below.
    pub p50_ms: f64,
    /// Nine in ten were below.
    pub p90_ms: f64,
    /// 99 in 100 were below.
    pub p99_ms: f64,
    /// The largest.
    pub max_ms: f64,
}

impl Percentiles {
    /// Of values in microseconds.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        Self {
            count: histogram.len(),
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            max_ms: histogram.max() as f64 / 1000.0,
        }
    }
}

/// What the relay's process cost.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cost {
    /// CPU seconds inside the measured time.
    pub cpu_s: f64,
    /// Those of them inside the kernel.
    pub system_s: f64,
    /// CPU seconds for each GiB of payload that viewers got.
    pub cpu_s_per_gib: f64,
    /// CPU seconds of each thread, the busiest first.
    pub threads: Vec<f64>,
    /// Resident memory before the first viewer, bytes.
    pub rss_before: u64,
    /// When measuring began.
    pub rss_from: u64,
    /// The largest seen while measuring.
    pub rss_peak: u64,
    /// The last while measuring.
    pub rss_with_viewers: u64,
    /// After the last viewer left.
    pub rss_after: u64,
    /// What each viewer added, bytes.
    pub rss_per_viewer: f64,
}

/// What the relay's process was at some moments.
#[derive(Clone, Debug)]
pub struct Samples {
    /// Before the first viewer.
    pub before: Sample,
    /// When the measured time began.
    pub from: Sample,
    /// When it ended.
    pub until: Sample,
    /// After the last viewer left.
    pub after: Sample,
    /// The largest resident memory seen while measuring.
    pub rss_peak: u64,
}

impl Cost {
    /// Of a process that delivered `bytes` to `viewers`.
    pub fn new(samples: &Samples, bytes: u64, viewers: usize) -> Self {
        let Samples { before, from, until, after, rss_peak } = samples;
        let cpu_s = until.cpu_s() - from.cpu_s();
        Self {
            cpu_s,
            system_s: until.system_s - from.system_s,
            cpu_s_per_gib: cpu_s / (bytes as f64 / GIB),
            threads: until.threads_since(from).into_iter().filter(|cpu| *cpu > 0.0).collect(),
            rss_before: before.rss,
            rss_from: from.rss,
            rss_peak: *rss_peak,
            rss_with_viewers: until.rss,
            rss_after: after.rss,
            rss_per_viewer: until.rss.saturating_sub(before.rss) as f64 / viewers.max(1) as f64,
        }
    }
}

/// The relay's resident memory around viewers that vanish without a word, bytes.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Killed {
    /// How many vanished.
    pub viewers: usize,
    /// Before they joined.
    pub rss_before: u64,
    /// Just before they were killed.
    pub rss_with: u64,
    /// At the end of the measured time.
    pub rss_after: u64,
}

/// What the load generator was at.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Generator {
    /// CPU seconds inside the measured time.
    pub cpu_s: f64,
    /// Those of its busiest thread. Close to the measured time, it was the limit.
    pub busiest_thread_s: f64,
    /// How much too late objects were published.
    pub lag: Percentiles,
}

/// What a relay says it did.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Claimed {
    /// Objects it sent whole.
    pub objects_out: u64,
    /// Objects it dropped, before the viewers left.
    pub dropped_objects: u64,
    /// Their bytes.
    pub dropped_bytes: u64,
    /// Objects dropped by reason.
    pub by_reason: Vec<(String, u64)>,
}

impl Generator {
    /// The part of the measured time for which its busiest thread was busy. Near 1, latencies say
    /// more of the generator than of the relay.
    pub fn share(&self, seconds: f64) -> f64 {
        self.busiest_thread_s / seconds
    }
}

impl Report {
    /// The figures of all targets together that a verdict needs: what was owed and came inside the
    /// measured time.
    pub fn measured(&self) -> Tally {
        let mut all = Tally::default();
        self.targets.iter().for_each(|target| all += target.measured);
        all
    }

    /// The figures as lines of text.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let media = &self.options.media;
        let mbit = media.size as f64 * media.rate * 8.0 / 1e6;
        let _ = writeln!(
            text,
            "{} x {} viewers, {} B x {}/s ({mbit:.2} Mbit/s each), groups of {}, {:.1} s",
            self.options.broadcasts,
            self.options.viewers,
            media.size,
            media.rate,
            media.group,
            self.seconds
        );
        for target in &self.targets {
            target.write(&mut text);
        }
        if let Some(cost) = &self.relay {
            cost.write(&mut text, self.seconds);
        }
        if let Some(Killed { viewers, rss_before, rss_with, rss_after }) = self.killed {
            let mb = |bytes: u64| bytes as f64 / 1e6;
            let _ = writeln!(
                text,
                "killed        {viewers} viewers: {:.1} MB without them, {:.1} with, {:.1} in the end",
                mb(rss_before),
                mb(rss_with),
                mb(rss_after)
            );
        }
        let Generator { cpu_s, busiest_thread_s, lag } = &self.generator;
        let _ = writeln!(
            text,
            "generator     {:.2} cores, busiest thread {:.2}; publishing late p99 {:.1} ms max {:.1}",
            cpu_s / self.seconds,
            busiest_thread_s / self.seconds,
            lag.p99_ms,
            lag.max_ms
        );
        if self.generator.share(self.seconds) > 0.9 {
            text.push_str("              THE GENERATOR IS THE LIMIT: latencies say nothing\n");
        }
        if let Some(claimed) = &self.claimed {
            let reasons: Vec<_> = claimed
                .by_reason
                .iter()
                .map(|(reason, objects)| format!("{reason} {objects}"))
                .collect();
            let _ = writeln!(
                text,
                "relay says    {} objects out, {} dropped {}",
                claimed.objects_out,
                claimed.dropped_objects,
                reasons.join(", ")
            );
        }
        text
    }
}

impl Target {
    fn write(&self, text: &mut String) {
        let Self { measured, whole, first_byte, lateness, join, .. } = self;
        let _ = writeln!(text, "{}", self.name);
        let _ = writeln!(
            text,
            "  viewers     {} ({} without an object, {} broken)",
            self.viewers, self.never_joined, self.broken
        );
        let _ = writeln!(
            text,
            "  objects     {} of {} ({:.2} % missing); groups {} of {} cut, {} missing; {} resets",
            measured.arrived,
            measured.owed,
            100.0 * measured.missing_share(),
            measured.groups_cut,
            measured.groups_owed,
            measured.groups_missing,
            self.resets
        );
        let _ = writeln!(
            text,
            "  in all      {} came; {} of {} owed missing; {} twice, {} altered",
            self.arrived,
            whole.missing(),
            whole.owed,
            self.duplicates,
            self.altered
        );
        let _ = writeln!(
            text,
            "  lateness    p50 {:.2} p90 {:.2} p99 {:.2} max {:.1} ms; worst viewer's p99 {:.1}",
            lateness.p50_ms, lateness.p90_ms, lateness.p99_ms, lateness.max_ms, self.worst_p99_ms
        );
        let _ = writeln!(
            text,
            "  first byte  p50 {:.2} p90 {:.2} p99 {:.2} max {:.1} ms",
            first_byte.p50_ms, first_byte.p90_ms, first_byte.p99_ms, first_byte.max_ms
        );
        let _ = writeln!(
            text,
            "  join        p50 {:.1} p99 {:.1} max {:.1} ms",
            join.p50_ms, join.p99_ms, join.max_ms
        );
        for error in &self.errors {
            let _ = writeln!(text, "  error       {error}");
        }
    }
}

impl Cost {
    fn write(&self, text: &mut String, seconds: f64) {
        let threads: Vec<_> =
            self.threads.iter().take(4).map(|cpu| format!("{:.2}", cpu / seconds)).collect();
        let _ = writeln!(
            text,
            "relay         {:.2} CPU-s/GiB; {:.2} cores ({:.0} % system; threads {})",
            self.cpu_s_per_gib,
            self.cpu_s / seconds,
            100.0 * self.system_s / self.cpu_s.max(0.01),
            threads.join(" ")
        );
        let mb = |bytes: u64| bytes as f64 / 1e6;
        let _ = writeln!(
            text,
            "  memory      {:.1} MB before, {:.1} with viewers ({:.0} kB each), {:.1} at most, {:.1} after",
            mb(self.rss_before),
            mb(self.rss_with_viewers),
            self.rss_per_viewer / 1000.0,
            mb(self.rss_peak),
            mb(self.rss_after)
        );
    }
}
