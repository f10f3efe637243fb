//! The tables of a comparison.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::trials;
use super::{Kind, LADDER_PER_SOCKET, Load, Most};
use crate::load::{Report, Tally};

/// Everything that was measured.
#[derive(Debug)]
pub struct Outcome {
    pinning: String,
    rounds: usize,
    seconds: f64,
    /// Of other relays.
    versions: Vec<String>,
    /// By load, in the order in which they were put on, and server.
    loads: Vec<(Load, BTreeMap<Kind, Vec<Report>>)>,
    most: BTreeMap<Kind, Most>,
    trials: Vec<trials::Row>,
}

/// The medians of a server under a load.
#[derive(Clone, Copy, Debug)]
struct Row {
    cpu_s_per_gib: f64,
    p50_ms: f64,
    p90_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    join_p50_ms: f64,
    rss_per_viewer_kb: f64,
    tally: Tally,
    /// Viewers that got nothing or were thrown out.
    lost: u64,
    /// The largest part of its core that the load generator needed.
    generator: f64,
}

impl Row {
    /// What was published for viewers and did not come, and how many of them got nothing.
    fn missing(&self) -> String {
        let lost = match self.lost {
            0 => String::new(),
            lost => format!(", {lost} viewers lost"),
        };
        format!("{:.2} %{lost}", 100.0 * self.tally.missing_share())
    }

    fn of(reports: &[Report]) -> Self {
        let median_of = |value: fn(&Report) -> f64| median(reports.iter().map(value).collect());
        let mut tally = Tally::default();
        reports.iter().for_each(|report| tally += report.measured());
        let share = |report: &Report| report.generator.cpu_s / report.seconds;
        let targets = || reports.iter().flat_map(|report| &report.targets);
        Self {
            cpu_s_per_gib: median_of(|r| r.relay.as_ref().map_or(f64::NAN, |c| c.cpu_s_per_gib)),
            p50_ms: median_of(|r| r.targets[0].lateness.p50_ms),
            p90_ms: median_of(|r| r.targets[0].lateness.p90_ms),
            p99_ms: median_of(|r| r.targets[0].lateness.p99_ms),
            max_ms: median_of(|r| r.targets[0].lateness.max_ms),
            join_p50_ms: median_of(|r| r.targets[0].join.p50_ms),
            rss_per_viewer_kb: median_of(|r| {
                r.relay.as_ref().map_or(f64::NAN, |c| c.rss_per_viewer / 1000.0)
            }),
            tally,
            lost: targets().map(|target| target.never_joined.max(target.broken)).sum(),
            generator: reports.iter().map(share).fold(0.0, f64::max),
        }
    }
}

pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[count / 2],
        count => (values[count / 2 - 1] + values[count / 2]) / 2.0,
    }
}

impl Outcome {
    pub(super) fn new(pinning: String, rounds: usize, seconds: f64) -> Self {
        Self {
            pinning,
            rounds,
            seconds,
            versions: Vec::new(),
            loads: Vec::new(),
            most: BTreeMap::new(),
            trials: Vec::new(),
        }
    }

    pub(super) fn add_version(&mut self, kind: Kind, version: &str) {
        self.versions.push(format!("{} {version}", kind.name()));
    }

    pub(super) fn add(&mut self, kind: Kind, load: &Load, report: Report) {
        let same = |held: &Load| (held.name, held.viewers) == (load.name, load.viewers);
        let at = match self.loads.iter().position(|(held, _)| same(held)) {
            Some(at) => at,
            None => {
                self.loads.push((load.clone(), BTreeMap::new()));
                self.loads.len() - 1
            }
        };
        self.loads[at].1.entry(kind).or_default().push(report);
    }

    pub(super) fn set_most(&mut self, kind: Kind, most: Most) {
        self.most.insert(kind, most);
    }

    pub(super) fn set_trials(&mut self, trials: Vec<trials::Row>) {
        self.trials = trials;
    }

    /// All of it as a page.
    pub fn to_markdown(&self) -> String {
        let mut text = String::from(
            "# Benchmarks\n\n\
             The relay beside a server that writes the same bytes and does nothing else (\"bare quinn\"), and beside\n\
             other relays, under the same load from the same viewers. Made by `cargo xtask bench`; nothing here is\n\
             written by hand.\n\n",
        );
        let _ = writeln!(text, "* Machine: {}", machine());
        let _ = writeln!(text, "* Processes: {}", self.pinning);
        if !self.versions.is_empty() {
            let _ = writeln!(text, "* Other relays: {}", self.versions.join(", "));
        }
        let _ = writeln!(
            text,
            "* Each figure is the median of {} measurement{} of {} s, the servers taking turns.",
            self.rounds,
            if self.rounds == 1 { "" } else { "s" },
            self.seconds
        );
        text.push_str(
            "* CPU-s/GiB: CPU seconds of the server's process (user and system) for each GiB of payload that\n  \
             reached a viewer. Lateness: from the making of an object until it was whole at a viewer, over all\n  \
             objects and viewers. Missing: of all that was published while viewers were subscribed.\n\
             * What the generator needed of its own core is in the last column; above 90 % the latencies are its own.\n",
        );
        for (load, rows) in &self.loads {
            write_load(&mut text, load, rows);
        }
        if !self.most.is_empty() {
            self.write_most(&mut text);
        }
        if !self.trials.is_empty() {
            text.push_str(
                "\n## The relay alone\n\n\
                 Each line is one run of `weir-bench load` with `--relay` and `--pid` (a `+` stands for a blank);\n\
                 WebTransport, workers and slow viewers are the medians of three runs, in turn with those that they are compared with.\n\n\
                 | load | figures | goal |\n|---|---|---|\n",
            );
            text.extend(self.trials.iter().map(trials::Row::line));
        }
        text
    }

    fn write_most(&self, text: &mut String) {
        let _ = write!(
            text,
            "\n## Most viewers on one core\n\n\
             5 Mbit/s each; nothing missing, and 99 in 100 objects whole within 100 ms, in one of three tries\n\
             (`--per-socket {LADDER_PER_SOCKET}`).\n\n\
             Goal: at least twice the best peer's.\n\n\
             | server | viewers |\n|---|---:|\n",
        );
        for (kind, most) in &self.most {
            let note = match (most.no_limit_found, most.generator_was_limit) {
                (true, _) => " or more",
                (false, true) => " (then the load generator was the limit)",
                (false, false) => "",
            };
            let _ = writeln!(text, "| {} | {}{note} |", kind.name(), most.viewers);
        }
    }
}

fn write_load(text: &mut String, load: &Load, servers: &BTreeMap<Kind, Vec<Report>>) {
    let Load { name, viewers, media, goal } = load;
    let _ = writeln!(
        text,
        "\n## {viewers} viewers, {name}\n\n\
         Objects of {} bytes, {} a second, {} a group:\n\
         `weir-bench load --viewers {viewers} --size {} --rate {} --group {}`\n\n\
         Goal: {goal}.\n\n\
         | server | CPU-s/GiB | of bare | of the best peer | p50 ms | p90 | p99 | max | missing | join p50 ms | RSS per viewer | generator |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
        media.size, media.rate, media.group, media.size, media.rate, media.group
    );
    let bare = servers.get(&Kind::Bare).map(|reports| Row::of(reports).cpu_s_per_gib);
    let peers = servers.iter().filter(|(kind, _)| kind.is_peer());
    let best_peer = peers.map(|(_, reports)| Row::of(reports).cpu_s_per_gib).reduce(f64::min);
    for (kind, reports) in servers {
        let row = Row::of(reports);
        let ratio = |other: Option<f64>| {
            other.map_or("–".to_owned(), |other| format!("{:.2}", row.cpu_s_per_gib / other))
        };
        let _ = writeln!(
            text,
            "| {} | {:.2} | {} | {} | {:.2} | {:.2} | {:.2} | {:.1} | {} | {} | {:.0} kB | {:.0} % |",
            kind.name(),
            row.cpu_s_per_gib,
            ratio(bare),
            ratio(best_peer),
            row.p50_ms,
            row.p90_ms,
            row.p99_ms,
            row.max_ms,
            row.missing(),
            // It has no past to begin with: its viewers wait for the next group.
            if *kind == Kind::Bare { "–".to_owned() } else { format!("{:.1}", row.join_p50_ms) },
            row.rss_per_viewer_kb,
            100.0 * row.generator
        );
    }
}

/// One measurement, for whoever waits.
pub(super) fn line(round: usize, kind: Kind, load: &Load, report: &Report) -> String {
    let row = Row::of(std::slice::from_ref(report));
    format!(
        "{round} {:>4} x {:<10} {:<14} {:>6.2} CPU-s/GiB  p50 {:>7.2} p99 {:>7.2} ms  missing {}",
        load.viewers,
        load.name,
        kind.name(),
        row.cpu_s_per_gib,
        row.p50_ms,
        row.p99_ms,
        row.missing()
    )
}

/// What the machine is.
fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("an unknown CPU", |model| model.trim_start_matches(['\t', ' ', ':']));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{cores} cores of {model}, Linux {}", kernel.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_measurement_that_went_wrong_moves_no_median() {
        assert_eq!(median(vec![3.0, 900.0, 2.0]), 3.0);
        assert_eq!(median(vec![4.0, 2.0]), 3.0);
        assert!(median(Vec::new()).is_nan());
    }
}
