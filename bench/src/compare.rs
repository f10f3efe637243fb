//! The relay, the bare server and other relays under the same load, in turn.
//!
//! Every load is put on every server, then all over again, and the medians are kept: these
//! machines drift, and what runs minutes apart cannot be compared. Server and load run on a core
//! each and, where that is allowed, with a real-time priority (`chrt`), so that what else the
//! machine does stays out of the figures.

mod servers;
mod table;
mod trials;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::Args;

pub use servers::{Kind, Server, StartError};
pub use table::Outcome;

use crate::load::{Media, Report};

/// p99 up to which a viewer counts as served, milliseconds.
const SERVED_P99_MS: f64 = 100.0;
/// Viewers on one core that are tried one after another.
const LADDER: [usize; 14] =
    [200, 300, 400, 500, 600, 700, 800, 900, 1000, 1100, 1200, 1300, 1400, 1500];
/// Viewers that share a socket there: 5 % less for the load generator to do than with 25, for 0.2 ms
/// more at p50, so that it is the limit later.
const LADDER_PER_SOCKET: usize = 100;

/// How often a number of viewers is tried before a server is held to be unable to serve it.
const ATTEMPTS: usize = 3;

/// What to compare.
#[derive(Args, Clone, Debug)]
pub struct CompareOptions {
    /// One short round, no search for the most viewers, no trials of the relay alone.
    #[arg(long)]
    pub quick: bool,
    /// How often each load is put on each server; 0: only the trials of the relay alone.
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// Seconds that each measurement takes.
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// Directory of `relay`; where this program is, if not given.
    #[arg(long, value_name = "DIR")]
    pub programs: Option<PathBuf>,
    /// Directory of other relays' programs; those that are not there are left out.
    #[arg(long, value_name = "DIR")]
    pub peers: Option<PathBuf>,
    /// Write the tables to this file.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Why there is no comparison.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// A server does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Something of the system.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: String,
        /// Why it failed.
        error: std::io::Error,
    },
    /// The load could not be put on.
    #[error("the load on {server} failed: {reason}")]
    Load {
        /// On whom.
        server: &'static str,
        /// What it said.
        reason: String,
    },
}

impl CompareError {
    fn odd(reason: &str) -> Self {
        Self::Load { server: Kind::Weir.name(), reason: reason.to_owned() }
    }

    fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        |error| Self::System { what: what.into(), error }
    }
}

/// A load by its name.
#[derive(Clone, Debug)]
pub struct Load {
    /// For the table.
    pub name: &'static str,
    /// Viewers of the one broadcast.
    pub viewers: usize,
    /// The broadcast.
    pub media: Media,
    /// What we want of the relay.
    pub goal: &'static str,
}

fn loads() -> Vec<Load> {
    let media = |size, rate: f64| {
        let group = (rate * 2.0) as u64;
        Media { size, rate, group, audio: false, temporal: false }
    };
    vec![
        Load {
            name: "5 Mbit/s",
            viewers: 200,
            media: media(20_800, 30.0),
            goal: "at most 1.1 × bare quinn's CPU time and 0.6 × the best peer's; less than 150 kB a viewer",
        },
        Load {
            name: "5 Mbit/s",
            viewers: 100,
            media: media(20_800, 30.0),
            goal: "p99 under half of the best peer's",
        },
        Load {
            name: "1 Mbit/s",
            viewers: 200,
            media: media(4096, 30.0),
            goal: "at most 0.5 × the best peer's CPU time",
        },
        Load {
            name: "audio only",
            viewers: 200,
            media: media(400, 50.0),
            goal: "at most 0.5 × the best peer's CPU time",
        },
    ]
}

/// Runs the comparison; `say` hears how it goes.
///
/// # Errors
/// When a server does not start or a load cannot be put on.
pub fn run(options: &CompareOptions, mut say: impl FnMut(&str)) -> Result<Outcome, CompareError> {
    let own = std::env::current_exe().map_err(CompareError::system("this program"))?;
    let beside = own.parent().unwrap_or(Path::new(".")).to_owned();
    let programs = options.programs.clone().unwrap_or(beside);
    let scratch = Scratch::new().map_err(CompareError::system("a scratch directory"))?;
    let kinds: Vec<Kind> = Kind::ALL
        .into_iter()
        .filter(|kind| {
            let program = kind.program(&own, &programs, options.peers.as_deref());
            let there = program.is_some_and(|program| program.is_file());
            if !there && options.peers.is_some() {
                say(&format!("{} is not there and is left out", kind.name()));
            }
            there
        })
        .collect();
    let pinning = Pinning::probe();
    let bench = Bench { own, programs, peers: options.peers.clone(), scratch, pinning };
    let (rounds, seconds) =
        if options.quick { (1, 4.0) } else { (options.rounds, options.seconds) };
    let mut outcome = Outcome::new(pinning.words(), rounds, seconds);
    for kind in &kinds {
        if let Some(version) = kind.version(options.peers.as_deref()) {
            outcome.add_version(*kind, &version);
        }
    }
    let loads = loads();
    for round in 1..=rounds {
        for load in &loads {
            for kind in &kinds {
                let report = bench.measure(*kind, load, &format!("--seconds {seconds}"))?;
                say(&table::line(round, *kind, load, &report));
                outcome.add(*kind, load, report);
            }
        }
    }
    if !options.quick && rounds > 0 {
        for kind in &kinds {
            let most = bench.most_viewers(*kind, &loads[0], seconds.min(8.0), &mut say)?;
            outcome.set_most(*kind, most);
        }
    }
    if !options.quick {
        outcome.set_trials(trials::run(&bench, seconds, &mut say)?);
    }
    Ok(outcome)
}

/// What a comparison runs with.
struct Bench {
    own: PathBuf,
    programs: PathBuf,
    peers: Option<PathBuf>,
    scratch: Scratch,
    pinning: Pinning,
}

impl Bench {
    /// One server, started afresh, under one load; `more` are the arguments that the load leaves open.
    fn measure(&self, kind: Kind, load: &Load, more: &str) -> Result<Report, CompareError> {
        let mut command = self.pinning.command("0", &self.program(kind));
        let server = Server::start(kind, &mut command, &self.scratch.0, &load.media)?;
        let Media { size, rate, group, .. } = &load.media;
        let arguments = format!(
            "--viewers {} --size {size} --rate {rate} --group {group} {more}",
            load.viewers
        );
        let (mut command, report) = self.load_command(&server, &arguments, "report.json");
        self.finish(kind, command.spawn(), &report)
    }

    /// A server's program; those without one were left out.
    fn program(&self, kind: Kind) -> PathBuf {
        let program = kind.program(&self.own, &self.programs, self.peers.as_deref());
        program.expect("those without one were left out")
    }

    /// A load as on the command line, with `+` for blanks in values, and where its report goes.
    fn load_command(&self, server: &Server, arguments: &str, report: &str) -> (Command, PathBuf) {
        let report = self.scratch.0.join(report);
        let mut command = self.pinning.command("1", &self.own);
        command
            .arg("load")
            .args(["--relay", server.url.as_str(), "--pid", &server.pid().to_string()])
            .args(arguments.split(' ').map(|argument| argument.replace('+', " ")))
            .args(server.load_arguments())
            .arg("--json")
            .arg(&report)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        (command, report)
    }

    /// Waits for a load and reads its report.
    fn finish(
        &self,
        kind: Kind,
        load: std::io::Result<Child>,
        report: &Path,
    ) -> Result<Report, CompareError> {
        let failed = |reason: String| CompareError::Load { server: kind.name(), reason };
        let done = load.and_then(Child::wait_with_output);
        let done = done.map_err(CompareError::system("weir-bench load"))?;
        if !done.status.success() {
            return Err(failed(String::from_utf8_lossy(&done.stderr).into_owned()));
        }
        let text = std::fs::read(report).map_err(CompareError::system("the load's report"))?;
        serde_json::from_slice(&text).map_err(|error| failed(error.to_string()))
    }

    /// The most viewers of the ladder that all get everything in time.
    fn most_viewers(
        &self,
        kind: Kind,
        load: &Load,
        seconds: f64,
        say: &mut impl FnMut(&str),
    ) -> Result<Most, CompareError> {
        let mut most = Most::default();
        let more = format!("--seconds {seconds} --per-socket {LADDER_PER_SOCKET}");
        for viewers in LADDER {
            let load = Load { viewers, ..load.clone() };
            let mut attempts = 1..=ATTEMPTS;
            let report = loop {
                let report = self.measure(kind, &load, &more)?;
                let attempt = attempts.next().unwrap_or(ATTEMPTS);
                say(&table::line(attempt, kind, &load, &report));
                // Something else may have been in the way.
                if served(&report) || attempts.is_empty() {
                    break report;
                }
            };
            if !served(&report) {
                most.generator_was_limit = report.generator.cpu_s / report.seconds > 0.9;
                return Ok(most);
            }
            most.viewers = viewers;
        }
        most.no_limit_found = true;
        Ok(most)
    }
}

/// How many viewers a server serves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Most {
    /// So many, all of them in time and whole.
    pub viewers: usize,
    /// With more, it was the load generator that did not keep up.
    pub generator_was_limit: bool,
    /// No larger number was tried.
    pub no_limit_found: bool,
}

/// Whether every viewer got everything, in time.
fn served(report: &Report) -> bool {
    let viewers: u64 = report.targets.iter().map(|target| target.viewers).sum();
    let joined = report.targets.iter().all(|target| target.never_joined == 0 && target.broken == 0);
    let in_time = report.targets.iter().all(|target| target.lateness.p99_ms < SERVED_P99_MS);
    viewers > 0
        && joined
        && in_time
        && report.measured().owed > 0
        && report.measured().missing() == 0
}

/// How processes are kept apart.
#[derive(Clone, Copy, Debug)]
struct Pinning {
    cores: bool,
    real_time: bool,
}

impl Pinning {
    fn probe() -> Self {
        let works = |program: &str, args: &[&str]| {
            let mut command = Command::new(program);
            command.args(args).arg("true").stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            cores: cores > 1 && works("taskset", &["-c", "1"]),
            real_time: works("chrt", &["-r", "5"]),
        }
    }

    fn words(self) -> String {
        let cores = if self.cores { "server on core 0, load on core 1" } else { "not pinned" };
        let priority = if self.real_time { "`chrt -r 5`" } else { "no real-time priority" };
        format!("{cores}; {priority}")
    }

    fn command(self, cores: &str, program: &Path) -> Command {
        let mut words: Vec<String> = Vec::new();
        if self.real_time {
            words.extend(["chrt", "-r", "5"].map(ToOwned::to_owned));
        }
        if self.cores {
            words.extend(["taskset", "-c", cores].map(ToOwned::to_owned));
        }
        match words.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
            None => Command::new(program),
        }
    }
}

/// A directory that goes away again.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("weir-bench-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// How long a load runs before another is put on beside it.
const START_BESIDE: Duration = Duration::from_secs(4);

/// How long a server may take until it listens.
const START: Duration = Duration::from_secs(15);
