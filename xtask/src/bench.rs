//! `cargo xtask bench`: the relay beside a bare QUIC server and beside other relays, under load.
//!
//! Builds what is measured, installs the other relays once into `target/peers`, and hands over to
//! `weir-bench compare`, which measures and writes the page.

use std::{
    path::Path,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{
    child::{self, Running, Stop},
    project::{self, cargo},
};

/// Where the tables go.
const PAGE: &str = "docs/benchmarks.md";
/// How long a build or an installation may take.
const BUILD_LIMIT: Duration = Duration::from_secs(3600);
/// How long the measurements may take.
const MEASURE_LIMIT: Duration = Duration::from_secs(3600);

/// Another relay, as crates.io has it.
struct Peer {
    package: &'static str,
    version: &'static str,
    /// What to leave out and in.
    features: &'static [&'static str],
}

const PEERS: [Peer; 2] = [
    Peer { package: "moq-relay-ietf", version: "^0.8", features: &[] },
    Peer {
        package: "moq-relay",
        version: "^0.17",
        features: &["--no-default-features", "--features", "noq,websocket,uds"],
    },
];

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// One short round and no search for the most viewers; prints, and writes no page.
    #[arg(long)]
    quick: bool,
    /// Leave other relays out.
    #[arg(long)]
    no_peers: bool,
    /// How often each load is put on each server.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds that each measurement takes.
    #[arg(long, default_value_t = 6)]
    seconds: u32,
}

/// Measures.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let stop = Stop::on_signals()?;
    let build = ["build", "--release", "--locked", "-p", "relay", "-p", "bench"];
    show(&cargo(&build), BUILD_LIMIT, &stop)?;
    let peers = project::target().join("peers");
    if !options.no_peers {
        for peer in &PEERS {
            install(peer, &peers, &stop)?;
        }
    }
    let programs = project::target().join("release");
    let mut compare = Command::new(programs.join("weir-bench"));
    compare.arg("compare").arg("--programs").arg(&programs);
    if !options.no_peers {
        compare.arg("--peers").arg(peers.join("bin"));
    }
    compare.args(["--rounds", &options.rounds.to_string()]);
    compare.args(["--seconds", &options.seconds.to_string()]);
    if options.quick {
        compare.arg("--quick");
    } else {
        compare.arg("--out").arg(project::path(PAGE));
    }
    show(&compare, MEASURE_LIMIT, &stop)?;
    if !options.quick {
        println!("written into {PAGE}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Installs a relay, unless it is there: one that was put there by hand is used as it is.
fn install(peer: &Peer, peers: &Path, stop: &Stop) -> Result<()> {
    if peers.join("bin").join(peer.package).is_file() {
        return Ok(());
    }
    println!("building {} once, which takes minutes", peer.package);
    let version = ["install", "--locked", "--version", peer.version, peer.package];
    let mut install = cargo(&[&version[..], peer.features].concat());
    install.arg("--root").arg(peers).arg("--target-dir").arg(peers.join("build"));
    show(&install, BUILD_LIMIT, stop)
}

/// Runs a command to its end with what it prints shown.
fn show(command: &Command, limit: Duration, stop: &Stop) -> Result<()> {
    let mut running = Running::start(&mut child::bound(command))?;
    let shown = project::shown(command);
    let status = running.wait(Instant::now() + limit, stop)?;
    match status {
        Some(status) if status.success() => Ok(()),
        Some(status) => bail!("{shown} failed: {status}"),
        None if stop.requested() => bail!("ended on request"),
        None => Err(anyhow::anyhow!("not done after {} s", limit.as_secs())).context(shown),
    }
}
