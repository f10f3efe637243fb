//! What is asked of the relay alone: more workers, a tree, churn, slow and vanishing viewers, large
//! objects, crowds.
//!
//! Each trial is a row: what was done, what came of it, and what should.

use super::table::median;
use super::{Bench, CompareError, Kind, Server};
use crate::load::{Cost, Media, Report, Target};

/// A row of the table.
#[derive(Debug)]
pub(super) struct Row {
    /// What was done.
    what: String,
    /// What came of it.
    figures: String,
    /// What should, where that is a number.
    goal: &'static str,
}

impl Row {
    pub(super) fn line(&self) -> String {
        let Self { what, figures, goal } = self;
        format!("| {what} | {figures} | {goal} |\n")
    }
}

type Trial = fn(&Bench, f64) -> Result<Row, CompareError>;

/// Arguments of `weir-bench load` for 5 Mbit/s.
const VIDEO: &str = "--size 20800 --rate 30 --group 60";
/// Waits until the cache has the half minute that it keeps: it grows until then.
const FILLED: &str = "--settle 35";
/// Cores that servers get.
const SERVER: &str = "0";
const BOTH: &str = "0,1";

/// Runs all of them; `say` hears each row.
pub(super) fn run(
    bench: &Bench,
    seconds: f64,
    mut say: impl FnMut(&str),
) -> Result<Vec<Row>, CompareError> {
    let trials: [Trial; 10] = [
        web_transport,
        two_workers,
        one_hop,
        churn,
        endless_group,
        vanishing_viewers,
        thin_line,
        slow_tenth,
        large_objects,
        a_thousand_join,
    ];
    let mut rows = Vec::new();
    for trial in trials {
        let row = trial(bench, seconds)?;
        say(row.line().trim_end());
        rows.push(row);
    }
    Ok(rows)
}

/// How often a trial runs that compares one thing with another.
const ROUNDS: usize = 3;

/// What several ways come to, each the median of a few runs in turn: what runs minutes apart cannot
/// be compared.
fn in_turn<const WAYS: usize>(
    ways: [&str; WAYS],
    mut run: impl FnMut(&str) -> Result<f64, CompareError>,
) -> Result<[f64; WAYS], CompareError> {
    let mut figures = [(); WAYS].map(|()| Vec::new());
    for _ in 0..ROUNDS {
        for (way, figures) in ways.iter().zip(&mut figures) {
            figures.push(run(way)?);
        }
    }
    Ok(figures.map(median))
}

fn cost(report: &Report) -> Result<&Cost, CompareError> {
    report.relay.as_ref().ok_or_else(|| CompareError::odd("its CPU was not measured"))
}

/// Beside one worker, which is what the goal speaks of, two relays with a worker each: with less to
/// do, a worker sleeps and wakes more often, and that is not the price of sharing.
fn two_workers(bench: &Bench, seconds: f64) -> Result<Row, CompareError> {
    let load = format!("--viewers 400 {VIDEO} --seconds {seconds}");
    let mut last = Vec::new();
    let [one, halves, two] = in_turn(["one worker", "two relays", "two workers"], |way| {
        if way == "two relays" {
            let root = bench.weir(BOTH, &["--workers", "1"])?;
            let edge = bench.weir(BOTH, &["--workers", "1", "--upstream", root.url.as_str()])?;
            let both = format!("{load} --relay {} --publish {}", root.url, root.url);
            // The bytes of all viewers are counted, and half of them are the edge's.
            return Ok(2.0 * cost(&bench.load(&edge, &both)?)?.cpu_s_per_gib);
        }
        let workers = if way == "one worker" { "1" } else { "2" };
        let report = bench.load(&bench.weir(BOTH, &["--workers", workers])?, &load)?;
        let cost = cost(&report)?;
        last = cost.threads.iter().map(|seconds| seconds / report.seconds).collect();
        Ok(cost.cpu_s_per_gib)
    })?;
    let spread = match last[..] {
        [first, second, ..] => format!("{first:.2} and {second:.2} cores"),
        _ => "one worker had all of it".to_owned(),
    };
    Ok(Row {
        what: format!("two workers and the load, all on the same two cores: `{load}`"),
        figures: format!(
            "{spread}; {two:.2} CPU-s/GiB, one worker on these cores {one:.2}: {:.2} ×; \
             two relays of one worker, each with half of the viewers, {halves:.2}",
            two / one
        ),
        goal: "each within 20 % of the other; at most 1.1 ×",
    })
}

fn one_hop(bench: &Bench, seconds: f64) -> Result<Row, CompareError> {
    let root = bench.weir(SERVER, &[])?;
    let edge = bench.weir(SERVER, &["--upstream", root.url.as_str()])?;
    // One on each: both relays are on one core, so the edge would wait for the root's viewers.
    let load = format!("--viewers 2 {VIDEO} --seconds {seconds}");
    let both = format!("{load} --relay {} --publish {}", edge.url, root.url);
    let report = bench.load(&root, &both)?;
    let [at_root, at_edge] = &report.targets[..] else {
        return Err(CompareError::odd("two relays were asked for"));
    };
    let (near, far) = (at_root.lateness, at_edge.lateness);
    Ok(Row {
        what: format!("one hop more, a viewer on each relay: `{load}`"),
        figures: format!(
            "p50 {:.2} → {:.2} ms, p99 {:.2} → {:.2} ms",
            near.p50_ms, far.p50_ms, near.p99_ms, far.p99_ms
        ),
        goal: "0.2 ms more at p50, less than 1 ms at p99",
    })
}

fn churn(bench: &Bench, seconds: f64) -> Result<Row, CompareError> {
    let seconds = seconds * 6.0;
    let load = format!(
        "--viewers 200 --size 4096 --rate 30 --group 60 --churn 10 {FILLED} --seconds {seconds}"
    );
    let report = bench.load(&bench.weir(SERVER, &[])?, &load)?;
    Ok(Row {
        what: format!("viewers come and go: `{load}`"),
        figures: format!("{}; {}", memory(&report), missing(&report)),
        goal: "memory stays as it is",
    })
}

fn endless_group(bench: &Bench, seconds: f64) -> Result<Row, CompareError> {
    let seconds = seconds * 6.0;
    let load =
        format!("--viewers 10 --size 20800 --rate 60 --group 1000000 {FILLED} --seconds {seconds}");
    let report = bench.load(&bench.weir(SERVER, &[])?, &load)?;
    Ok(Row {
        what: format!(
            "a group that never ends, measured once the cache (32 MiB) is full: `{load}`"
        ),
        figures: memory(&report),
        goal: "memory stays as it is",
    })
}

fn vanishing_viewers(bench: &Bench, _: f64) -> Result<Row, CompareError> {
    let load = format!("--viewers 50 {VIDEO} --kill 50 {FILLED} --seconds 40");
    let report = bench.load(&bench.weir(SERVER, &[])?, &load)?;
    let figures = report.killed.map_or("nothing".to_owned(), |killed| {
        let mb = |bytes: u64| bytes as f64 / 1e6;
        format!(
            "{:.1} MB without them, {:.1} with, {:.1} when they had been dead for 20 s",
            mb(killed.rss_before),
            mb(killed.rss_with),
            mb(killed.rss_after)
        )
    });
    Ok(Row {
        what: format!("50 of 100 viewers are killed with SIGKILL: `{load}`"),
        figures,
        goal: "no growth when they die",
    })
}

fn thin_line(bench: &Bench, seconds: f64) -> Result<Row, CompareError> {
    let load = format!(
        "--viewers 4 {VIDEO} --audio --temporal --slow 1 --slow-link rate=3M+delay=10+queue=64k \
         --drain 3 --seconds {seconds}"
    );
    let report = bench.load(&bench.weir(SERVER, &[])?, &load)?;
    let Some(slow) = report.targets.last() else {
        return Err(CompareError::odd("a slow viewer was asked for"));
    };
    let dropped = report.claimed.as_ref().map_or(0, |claimed| claimed.dropped_objects);
    Ok(Row {
        what: format!("a line of 3 Mbit/s for 5 Mbit/s with audio: `{load}`"),
        figures: format!(
            "audio {}; of all {} of {} objects, p99 {:.0} ms; {} missing, {dropped} counted as dropped",
            whole(slow),
            slow.measured.arrived,
            slow.measured.owed,
            slow.lateness.p99_ms,
            report.targets.iter().map(|target| target.whole.missing()).sum::<u64>(),
        ),
        goal: "audio whole; late by 2 s and a group at most; as many counted as missing",
    })
}

fn slow_tenth(bench: &Bench, seconds: f64) -> Result<Row, CompareError> {
    let load = format!("--viewers 100 {VIDEO} --seconds {seconds}");
    let slow = format!("{load} --slow 10 --slow-link rate=3M+delay=10+queue=64k");
    let [without, with] = in_turn([&load, &slow], |load| {
        let report = bench.load(&bench.weir(SERVER, &[])?, load)?;
        Ok(report.targets[0].lateness.p99_ms)
    })?;
    Ok(Row {
        what: format!("one viewer in ten on a line of 3 Mbit/s: `{slow}`"),
        figures: format!("p99 of the others {with:.2} ms, without slow ones {without:.2}"),
        goal: "at most 10 % more",
    })
}

fn large_objects(bench: &Bench, seconds: f64) -> Result<Row, CompareError> {
    // An object takes the publisher's line 168 ms.
    let load = format!(
        "--viewers 10 --size 2M --rate 5 --group 10 --publish-link rate=100M+queue=4M --drain 2 \
         --seconds {seconds}"
    );
    let report = bench.load(&bench.weir(SERVER, &[])?, &load)?;
    let Some(Target { first_byte, lateness, .. }) = report.targets.first() else {
        return Err(CompareError::odd("nobody watched it"));
    };
    Ok(Row {
        what: format!("objects of 2 MiB through the publisher's line of 100 Mbit/s: `{load}`"),
        figures: format!(
            "first byte after p50 {:.0}, p99 {:.0} ms, whole after p50 {:.0}, p99 {:.0} ms, {}",
            first_byte.p50_ms,
            first_byte.p99_ms,
            lateness.p50_ms,
            lateness.p99_ms,
            missing(&report)
        ),
        goal: "first byte out before the last is in, which is 168 ms later; nothing missing, no stall",
    })
}

fn web_transport(bench: &Bench, seconds: f64) -> Result<Row, CompareError> {
    let load = format!("--viewers 200 {VIDEO} --seconds {seconds}");
    let [raw, web] = in_turn(["moqt", "https"], |scheme| {
        let mut relay = bench.weir(SERVER, &[])?;
        relay.url = relay
            .url
            .as_str()
            .replace("moqt://", &format!("{scheme}://"))
            .parse()
            .map_err(|_| CompareError::odd("its URL is none"))?;
        Ok(cost(&bench.load(&relay, &load)?)?.cpu_s_per_gib)
    })?;
    Ok(Row {
        what: format!("viewers over WebTransport, as browsers, and over raw QUIC: `{load}`"),
        figures: format!("{web:.2} and {raw:.2} CPU-s/GiB: {:.2} ×", web / raw),
        goal: "",
    })
}

fn a_thousand_join(bench: &Bench, seconds: f64) -> Result<Row, CompareError> {
    let relay = bench.weir(SERVER, &[])?;
    // Long enough for those who come four seconds after its beginning.
    let seconds = seconds.max(8.0);
    let load = format!("--viewers 50 --size 4096 --rate 30 --group 60 --seconds {seconds}");
    let alone = bench.load(&relay, &load)?;
    let crowd = "--no-publish --viewers 1000 --ramp 1000 --seconds 1";
    let (with, crowd_report) = bench.load_beside(&relay, &load, crowd)?;
    let (before, after, joined) =
        (alone.targets[0].lateness, with.targets[0].lateness, &crowd_report.targets[0]);
    Ok(Row {
        what: format!("a thousand join within a second: `{load}`, then beside it `{crowd}`"),
        figures: format!(
            "{} of them without a picture; their first object after p50 {:.0}, p99 {:.0} ms; those who were \
             there: p99 {:.2} → {:.2} ms, at most {:.0} ms, {}",
            joined.never_joined,
            joined.join.p50_ms,
            joined.join.p99_ms,
            before.p99_ms,
            after.p99_ms,
            after.max_ms,
            missing(&with)
        ),
        goal: "nobody stalls",
    })
}

fn memory(report: &Report) -> String {
    let mb = |bytes: u64| bytes as f64 / 1e6;
    report.relay.as_ref().map_or("unknown".to_owned(), |cost| {
        format!(
            "{:.1} MB when measuring began, {:.1} in the end, {:.1} at most",
            mb(cost.rss_from),
            mb(cost.rss_with_viewers),
            mb(cost.rss_peak)
        )
    })
}

fn missing(report: &Report) -> String {
    let measured = report.measured();
    format!("{} of {} objects missing", measured.missing(), measured.owed)
}

fn whole(target: &Target) -> String {
    format!("{} of {} objects", target.audio.arrived, target.audio.owed)
}

impl Bench {
    /// Starts our relay on these cores.
    fn weir(&self, cores: &str, arguments: &[&str]) -> Result<Server, CompareError> {
        let program = self.program(Kind::Weir);
        let mut command = self.pinning.command(cores, &program);
        command.args(arguments);
        let media = Media { size: 400, rate: 50.0, group: 100, audio: false, temporal: false };
        Ok(Server::start(Kind::Weir, &mut command, &self.scratch.0, &media)?)
    }

    /// Puts a load on a relay of ours, given as on the command line with `+` for blanks in values.
    fn load(&self, relay: &Server, arguments: &str) -> Result<Report, CompareError> {
        let (mut command, report) = self.load_command(relay, arguments, "report.json");
        self.finish(Kind::Weir, command.spawn(), &report)
    }

    /// The same with another load, which is put on in the midst of it.
    fn load_beside(
        &self,
        relay: &Server,
        arguments: &str,
        beside: &str,
    ) -> Result<(Report, Report), CompareError> {
        let (mut command, report) = self.load_command(relay, arguments, "report.json");
        let (mut other, other_report) = self.load_command(relay, beside, "beside.json");
        let running = command.spawn();
        std::thread::sleep(super::START_BESIDE);
        let other = self.finish(Kind::Weir, other.spawn(), &other_report);
        Ok((self.finish(Kind::Weir, running, &report)?, other?))
    }
}
