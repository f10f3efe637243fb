//! `cargo xtask test`: everything that CI runs.

mod counts;
mod run;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use clap::Args;

use self::{counts::Counts, run::Run};
use crate::{
    child::Stop,
    interop,
    player::{self, npm},
    project::{self, cargo},
    tools,
};

/// Which steps to run.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Run this step only; may be repeated.
    #[arg(long, value_name = "STEP", value_parser = names())]
    only: Vec<String>,
    /// Leave this step out; may be repeated.
    #[arg(long, value_name = "STEP", value_parser = names())]
    skip: Vec<String>,
}

/// A part of the whole, by name.
struct Step {
    name: &'static str,
    run: fn(&mut Run) -> Result<()>,
}

/// In the order of a fresh clone: the page is built before the relay that carries it.
const STEPS: [Step; 7] = [
    Step { name: "format", run: format },
    Step { name: "player", run: player },
    Step { name: "lint", run: lint },
    Step { name: "rust", run: rust },
    Step { name: "docs", run: docs },
    Step { name: "interop", run: interop },
    Step { name: "e2e", run: e2e },
];

fn names() -> Vec<&'static str> {
    STEPS.iter().map(|step| step.name).collect()
}

/// How a step went.
struct Report {
    name: &'static str,
    counts: Counts,
    took: Duration,
    failure: Option<String>,
}

/// Runs the steps that were asked for, each to its end even when another failed.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let stop = Stop::on_signals()?;
    let chosen = |step: &&Step| {
        let named = |names: &[String]| names.iter().any(|name| name == step.name);
        (options.only.is_empty() || named(&options.only)) && !named(&options.skip)
    };
    let mut reports = Vec::new();
    for step in STEPS.iter().filter(chosen) {
        println!("\n== {} ==", step.name);
        let start = Instant::now();
        let mut run = Run::new(stop.clone());
        let failure = (step.run)(&mut run).err().map(|error| format!("{error:#}"));
        if let Some(failure) = &failure {
            println!("{}: {failure}", step.name);
        }
        let counts = run.counts();
        reports.push(Report { name: step.name, counts, took: start.elapsed(), failure });
        if stop.requested() {
            bail!("ended on request");
        }
    }
    Ok(summarise(&reports))
}

/// Prints a line a step, then the sum in words that a script can read.
fn summarise(reports: &[Report]) -> ExitCode {
    println!("\n== summary ==");
    for Report { name, counts, took, failure } in reports {
        let verdict = if failure.is_none() { "ok" } else { "FAILED" };
        println!("{name:<8}{verdict:<8}{:>6.1} s  {counts}", took.as_secs_f64());
    }
    let total: Counts = reports.iter().map(Report::total).sum();
    println!("\n{} passed, {} failed", total.passed, total.failed);
    if total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Report {
    /// A step that failed without a failing test, as a linter's does, is a failure of its own.
    fn total(&self) -> Counts {
        let failed = self.counts.failed.max(u64::from(self.failure.is_some()));
        Counts { failed, ..self.counts }
    }
}

fn format(run: &mut Run) -> Result<()> {
    run.command(&cargo(&["fmt", "--all", "--check"]))
}

fn player(run: &mut Run) -> Result<()> {
    tools::require_node()?;
    let directory = player::directory();
    run.npm_packages(&directory)?;
    for script in ["check", "test", "build"] {
        run.command(&npm(&directory, &["run", script]))?;
    }
    Ok(())
}

fn lint(run: &mut Run) -> Result<()> {
    tools::require(&[&tools::CXX])?;
    tools::recommend(&tools::NASM);
    let clippy = ["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"];
    run.command(&cargo(&clippy))
}

fn rust(run: &mut Run) -> Result<()> {
    tools::require(&[&tools::CXX, &tools::PROMTOOL])?;
    tools::recommend(&tools::NASM);
    if run.has_nextest() {
        let settings = project::path("xtask/nextest.toml").display().to_string();
        let nextest = ["nextest", "run", "--locked", "--workspace", "--no-fail-fast"];
        return run.command(&cargo(&[&nextest[..], &["--config-file", &settings]].concat()));
    }
    println!("note: with cargo-nextest this is faster: cargo install --locked cargo-nextest");
    let test = ["test", "--locked", "--workspace", "--all-targets", "--no-fail-fast"];
    run.command(&cargo(&test))
}

fn docs(run: &mut Run) -> Result<()> {
    run.command(&cargo(&["test", "--locked", "--workspace", "--doc"]))?;
    let doc = ["doc", "--locked", "--workspace", "--no-deps", "--document-private-items"];
    let mut command = cargo(&doc);
    command.env("RUSTDOCFLAGS", "-D warnings");
    run.command(&command)
}

/// Somebody else's tests of our relay.
fn interop(run: &mut Run) -> Result<()> {
    run.command(&project::build_programs())?;
    let Some((passed, failed)) = interop::test_relay(run.stop())? else { return Ok(()) };
    run.count(Counts { passed: passed as u64, failed: failed as u64 });
    ensure!(failed == 0, "{failed} of moq-interop-client's tests failed");
    Ok(())
}

fn e2e(run: &mut Run) -> Result<()> {
    tools::require_node()?;
    tools::require(&[&tools::CHROMIUM, &tools::FFMPEG, &tools::CXX])?;
    if player::is_stale()? {
        let directory = player::directory();
        run.npm_packages(&directory)?;
        run.command(&npm(&directory, &["run", "build"]))?;
    }
    run.command(&project::build_programs())?;
    let directory = project::path("e2e");
    run.npm_packages(&directory)?;
    for script in ["check", "test"] {
        let mut command = npm(&directory, &["run", script]);
        command.env("WEIR_BIN_DIR", project::target().join("debug"));
        run.command(&command)?;
    }
    Ok(())
}
