//! `cargo xtask demo`: the whole way of a live picture, on this machine.

mod member;
mod ports;

use std::{
    io::{IsTerminal, stdin, stdout},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use self::{
    member::{Member, Output},
    ports::Ports,
};
use crate::{
    child::{self, Running, Stop},
    player, project, tools,
};

/// The name that the demo's source is published under.
const BROADCAST: &str = "live/test";
/// Longer than any of them needs to come up on a slow machine.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// A relay takes its time to tell its peers before it ends.
const END_PATIENCE: Duration = Duration::from_secs(10);
/// Time to read the page's address before the dashboard covers it.
const ADDRESS_SHOWN: Duration = Duration::from_secs(3);

/// What the demo can be told.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Add N to every port, when the usual ones are taken.
    #[arg(long, value_name = "N", default_value_t = 0)]
    offset: u16,
    /// What to publish: anything that `publisher --url` takes.
    #[arg(long, value_name = "SOURCE", default_value = "test:")]
    url: String,
    /// Build optimised programs: minutes later at first, and the machine has less to do.
    #[arg(long)]
    release: bool,
}

/// Builds everything, starts it, shows the dashboard, and ends it all again.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let stop = Stop::on_signals()?;
    let root = Ports::usual(ports::ROOT, options.offset)?;
    let edge = Ports::usual(ports::EDGE, options.offset)?;
    for (node, ports) in [("root", &root), ("edge", &edge)] {
        ports.ensure_free(node, options.offset)?;
    }
    if !build(options.release, &stop)? {
        return Ok(ExitCode::SUCCESS);
    }

    let terminal = stdin().is_terminal() && stdout().is_terminal();
    let output = if terminal { Output::File } else { Output::FileAndHere };
    let logs = project::target().join("demo");
    std::fs::create_dir_all(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
    let programs = project::target().join(if options.release { "release" } else { "debug" });
    let start = |name, program, args: &[String]| {
        Member::start(name, &programs.join(program), args, &logs, output)
    };

    // Ended in the opposite order: the source first, the root last.
    let mut members = Vec::new();
    members.push(start("root", "relay", &relay_args("root", &root, &logs, None))?);
    let upstream = format!("moqt://127.0.0.1:{}", root.listen);
    members.push(start("edge", "relay", &relay_args("edge", &edge, &logs, Some(&upstream)))?);
    let publisher = ["--url", &options.url, "--relay", &upstream, "--name", BROADCAST];
    members.push(start("publisher", "publisher", &publisher.map(str::to_owned))?);

    let page = format!("http://127.0.0.1:{}/watch/{BROADCAST}", edge.http);
    let up = wait_until_up(&mut members, &edge, &stop);
    if matches!(up, Ok(true)) {
        println!("\n  Watch at  {page}\n");
        if terminal {
            println!("  The dashboard opens here in a moment; q ends it and the demo.");
            println!("  Logs are in {}.\n", logs.display());
        } else {
            println!("  Ctrl-C or SIGTERM ends the demo.\n");
        }
    }
    let outcome = match up {
        Ok(true) if terminal => dashboard(&programs.join("tui"), &root, &page, &stop),
        Ok(true) => watch_over(&mut members, &stop),
        Ok(false) => Ok(()),
        Err(error) => Err(error),
    };
    let outcome = outcome.and_then(|()| members.iter_mut().try_for_each(Member::ensure_runs));
    while let Some(mut member) = members.pop() {
        member.end(END_PATIENCE);
    }
    if terminal && outcome.is_ok() {
        println!("The demo has ended. Its page was {page}; its logs are in {}.", logs.display());
    }
    outcome.map(|()| ExitCode::SUCCESS)
}

/// Builds what the demo runs; false when asked to end meanwhile.
fn build(release: bool, stop: &Stop) -> Result<bool> {
    tools::require(&[&tools::CXX])?;
    tools::recommend(&tools::NASM);
    if player::is_stale()? {
        tools::require_node()?;
        let directory = player::directory();
        if player::packages_are_stale(&directory)
            && !build_step(&player::install(&directory), stop)?
        {
            return Ok(false);
        }
        if !build_step(&player::npm(&directory, &["run", "build"]), stop)? {
            return Ok(false);
        }
    }
    // A debug build is there soonest, and holds 30 pictures a second: its codecs are optimised.
    let mut args = vec!["build", "--locked", "-p", "relay", "-p", "publisher", "-p", "tui"];
    args.extend(release.then_some("--release"));
    build_step(&project::cargo(&args), stop)
}

fn build_step(command: &Command, stop: &Stop) -> Result<bool> {
    let shown = project::shown(command);
    println!("$ {shown}");
    let mut running = Running::start(child::bound(command).stdin(Stdio::null()))?;
    while !stop.requested() {
        let soon = Instant::now() + Duration::from_secs(60);
        match running.wait(soon, stop)? {
            Some(status) if status.success() => return Ok(true),
            Some(status) => bail!("`{shown}` failed: {status}"),
            None => {}
        }
    }
    Ok(false)
}

fn relay_args(node: &str, ports: &Ports, logs: &Path, upstream: Option<&str>) -> Vec<String> {
    let mut args: Vec<String> = ["--node", node].map(str::to_owned).into();
    args.extend(["--listen".to_owned(), format!("[::]:{}", ports.listen)]);
    args.extend(["--http".to_owned(), format!("127.0.0.1:{}", ports.http)]);
    args.extend(["--admin".to_owned(), format!("127.0.0.1:{}", ports.admin)]);
    let state: PathBuf = logs.join(node);
    args.extend(["--state-dir".to_owned(), state.display().to_string()]);
    if let Some(upstream) = upstream {
        args.extend(["--upstream".to_owned(), upstream.to_owned()]);
    }
    args
}

/// Waits until the edge offers the broadcast; false when asked to end meanwhile.
fn wait_until_up(members: &mut [Member], edge: &Ports, stop: &Stop) -> Result<bool> {
    let deadline = Instant::now() + START_PATIENCE;
    let mut missing = "the edge relay is not ready";
    let up = stop.wait_until(deadline, || {
        members.iter_mut().try_for_each(Member::ensure_runs)?;
        if !ports::get(edge.admin, "/ready").is_some_and(|answer| answer.is_ok()) {
            return Ok(false);
        }
        missing = "the edge relay does not list the broadcast";
        let name = format!("\"{BROADCAST}\"");
        Ok(ports::get(edge.http, "/api/broadcasts").is_some_and(|answer| answer.has(&name)))
    })?;
    ensure!(
        up || stop.requested(),
        "{missing} after {} s; see the logs in {}",
        START_PATIENCE.as_secs(),
        project::target().join("demo").display()
    );
    Ok(up)
}

/// Runs the dashboard in this terminal until it ends.
fn dashboard(tui: &Path, root: &Ports, page: &str, stop: &Stop) -> Result<()> {
    let shown = Instant::now() + ADDRESS_SHOWN;
    stop.wait_until(shown, || Ok(false))?;
    if stop.requested() {
        return Ok(());
    }
    let url = format!("http://127.0.0.1:{}", root.admin);
    // In this process group, for only the foreground group may read the terminal.
    let mut command = Command::new(tui);
    command.args([&url, "--page", page]);
    let mut tui = child::bound(&command).spawn().context("cannot run the dashboard")?;
    let status = loop {
        if let Some(status) = tui.try_wait().context("cannot wait for the dashboard")? {
            break status;
        }
        if stop.requested() {
            member::terminate(&mut tui, END_PATIENCE);
            return Ok(());
        }
        thread::sleep(Duration::from_millis(50));
    };
    ensure!(status.success() || stop.requested(), "the dashboard failed: {status}");
    Ok(())
}

/// Waits until asked to end; fails when a member ends before.
fn watch_over(members: &mut [Member], stop: &Stop) -> Result<()> {
    while !stop.requested() {
        let next = Instant::now() + Duration::from_secs(1);
        stop.wait_until(next, || {
            members.iter_mut().try_for_each(Member::ensure_runs)?;
            Ok(false)
        })?;
    }
    Ok(())
}
