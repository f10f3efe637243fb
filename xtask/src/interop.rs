//! `cargo xtask interop`: other people's implementations against ours.
//!
//! Each peer is installed once into `target/peers`; logs of the last run are in `target/interop`.
//! What came out is printed and, when all peers were asked, written into docs/interop.md.

mod client;
mod crates;
mod media;
mod peers;
mod process;
mod relays;
mod table;
mod tap;
mod way;

use std::{path::Path, process::ExitCode, time::Duration};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use self::{
    media::Clip,
    peers::{AIOMOQT, Aiomoqt, MOQ_RELAY_IETF, NoPython},
    relays::{Certificate, Relay},
    table::Row,
    tap::{TestPoint, Verdict},
    way::Way,
};
use crate::{child::Stop, project, tools};

/// The page that a whole run writes its tables into.
const PAGE: &str = "docs/interop.md";
const BUILD_LIMIT: Duration = Duration::from_secs(30 * 60);

/// Which peers to meet.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Meet this peer only, and leave docs/interop.md as it is; may be repeated.
    #[arg(long, value_enum, value_name = "NAME")]
    peer: Vec<Peer>,
}

/// Somebody else's software.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Peer {
    /// aiomoqt's `moq-interop-client`, a test suite for relays.
    AiomoqtClient,
    /// aiomoqt's `moq-interop-relay`.
    AiomoqtRelay,
    /// Cloudflare's relay; takes minutes to build the first time.
    MoqRelayIetf,
    /// The crates `moq-transport` and `wtransport`, in the relay's own tests.
    Crates,
}

/// What a run found out.
#[derive(Debug, Default)]
struct Findings {
    rows: Vec<Row>,
    /// `moq-interop-client`'s tests one by one.
    tests: Vec<(Way, Vec<TestPoint>)>,
}

/// Meets the peers that were asked for; fails when one of them and we don't get on.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let stop = Stop::on_signals()?;
    let whole = options.peer.is_empty();
    let wanted = |peer| whole || options.peer.contains(&peer);
    tools::require(&[&tools::CXX])?;
    process::show(&project::build_programs(), BUILD_LIMIT, &stop)?;
    let mut findings = Findings::default();
    let mut failed = false;
    for (peer, meet) in PEERS {
        if wanted(peer)
            && let Err(error) = meet(&mut findings, &stop)
        {
            println!("error: {peer:?}: {error:#}");
            failed = true;
        }
        if stop.requested() {
            bail!("ended on request");
        }
    }
    let rows = table::render(&findings.rows);
    println!("\n{rows}");
    let failing = findings.rows.iter().filter(|row| row.result.is_err()).count();
    println!("{} pass, {failing} fail", findings.rows.len() - failing);
    if whole && !failed {
        table::write(&project::path(PAGE), &[rows, table::render_tests(&findings.tests)])?;
        println!("written into {PAGE}");
    }
    Ok(if failed || failing > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Meets one peer, and adds to what is known.
type Meet = fn(&mut Findings, &Stop) -> Result<()>;

/// In the order of the table.
const PEERS: [(Peer, Meet); 4] = [
    (Peer::AiomoqtClient, meet_aiomoqt_client),
    (Peer::Crates, meet_crates),
    (Peer::AiomoqtRelay, meet_aiomoqt_relay),
    (Peer::MoqRelayIetf, meet_moq_relay_ietf),
];

fn meet_aiomoqt_client(findings: &mut Findings, stop: &Stop) -> Result<()> {
    let peer = Aiomoqt::install(stop)?;
    for (way, outcome) in client::run_all(&peer, stop) {
        let result = match &outcome {
            Ok(points) => sum_up(points),
            Err(error) => Err(format!("{error:#}")),
        };
        findings.rows.push(Row {
            peer: format!("aiomoqt {AIOMOQT}, `moq-interop-client`"),
            what: "tests our relay".to_owned(),
            way,
            result,
        });
        findings.tests.extend(outcome.ok().map(|points| (way, points)));
    }
    Ok(())
}

/// How many tests passed, or which failed.
fn sum_up(points: &[TestPoint]) -> Result<String, String> {
    let names = |verdict| points.iter().filter(move |point| point.verdict == verdict);
    let failed: Vec<String> =
        names(Verdict::Failed).map(|point| format!("{} ({})", point.name, point.message)).collect();
    let passed = names(Verdict::Passed).count();
    let meant = points.len() - names(Verdict::Skipped).count();
    if failed.is_empty() {
        Ok(format!("{passed} of {meant} tests"))
    } else {
        Err(format!("{passed} of {meant} tests pass; not {}", failed.join(", ")))
    }
}

fn meet_crates(findings: &mut Findings, stop: &Stop) -> Result<()> {
    for (test, outcome) in crates::run(stop)? {
        findings.rows.push(Row {
            peer: format!("{} {}", test.package, crates::locked_version(test.package)?),
            what: test.what.to_owned(),
            way: Way { draft: crates::DRAFT, transport: test.transport },
            result: outcome.map(|()| String::new()).map_err(|error| error.to_string()),
        });
    }
    Ok(())
}

/// Through whom the clip goes.
#[derive(Debug, Clone, Copy)]
enum Route {
    /// Publisher, their relay, subscriber.
    Theirs,
    /// Publisher, their relay, ours below it, subscriber.
    OursBelowTheirs,
    /// Publisher, ours, their relay below it, subscriber.
    TheirsBelowOurs,
}

impl Route {
    fn what(self) -> &'static str {
        match self {
            Self::Theirs => "is between our publisher and our subscriber",
            Self::OursBelowTheirs => "is the parent of our relay",
            Self::TheirsBelowOurs => "is the child of our relay",
        }
    }

    fn slug(self) -> &'static str {
        match self {
            Self::Theirs => "between",
            Self::OursBelowTheirs => "parent",
            Self::TheirsBelowOurs => "child",
        }
    }
}

fn meet_aiomoqt_relay(findings: &mut Findings, stop: &Stop) -> Result<()> {
    let peer = Aiomoqt::install(stop)?;
    let (clip, certificate) = (Clip::make(stop)?, Certificate::make(stop)?);
    for route in [Route::Theirs, Route::OursBelowTheirs, Route::TheirsBelowOurs] {
        for way in Way::all(&client::DRAFTS) {
            let name = format!("aiomoqt-relay-{}-{}", route.slug(), way.slug());
            let directory = relays::empty_directory(&name)?;
            let start = |upstream: Option<&str>| {
                Relay::aiomoqt(&peer, way, upstream, &certificate, &directory, stop)
            };
            let result = send(route, way, &clip, &start, &directory, stop);
            let peer = format!("aiomoqt {AIOMOQT}, `moq-interop-relay`");
            findings.rows.push(row(peer, route, way, result));
        }
    }
    Ok(())
}

fn meet_moq_relay_ietf(findings: &mut Findings, stop: &Stop) -> Result<()> {
    let program = peers::install_moq_relay_ietf(stop)?;
    let (clip, certificate) = (Clip::make(stop)?, Certificate::make(stop)?);
    for route in [Route::Theirs, Route::OursBelowTheirs] {
        for way in Way::all(&[crates::DRAFT]) {
            let name = format!("moq-relay-ietf-{}-{}", route.slug(), way.slug());
            let directory = relays::empty_directory(&name)?;
            let start =
                |_: Option<&str>| Relay::moq_relay_ietf(&program, &certificate, &directory, stop);
            let result = send(route, way, &clip, &start, &directory, stop);
            findings.rows.push(row(format!("moq-relay-ietf {MOQ_RELAY_IETF}"), route, way, result));
        }
    }
    Ok(())
}

/// Sends the clip on its route; `start` starts their relay, below ours when it is given a URL.
fn send(
    route: Route,
    way: Way,
    clip: &Clip,
    start: &dyn Fn(Option<&str>) -> Result<Relay>,
    directory: &Path,
    stop: &Stop,
) -> Result<String> {
    println!("{}: {way}", directory.file_name().unwrap_or_default().display());
    let deliver = |publish_at: &str, subscribe_at: &str, draft| {
        media::deliver(clip, publish_at, subscribe_at, draft, directory, stop)
    };
    match route {
        Route::Theirs => {
            let theirs = start(None)?;
            deliver(&theirs.url(way), &theirs.url(way), Some(way.draft))
        }
        Route::OursBelowTheirs => {
            let theirs = start(None)?;
            let ours = Relay::ours(directory, Some(&theirs.url(way)), stop)?;
            deliver(&theirs.url(way), &ours.url(way), None)
        }
        Route::TheirsBelowOurs => {
            let ours = Relay::ours(directory, None, stop)?;
            let theirs = start(Some(&ours.url(way)))?;
            deliver(&ours.url(way), &theirs.url(way), Some(way.draft))
        }
    }
}

fn row(peer: String, route: Route, way: Way, result: Result<String>) -> Row {
    let result = result.map_err(|error| format!("{error:#}"));
    Row { peer, what: route.what().to_owned(), way, result }
}

/// What `cargo xtask test` counts: `moq-interop-client`'s tests of the relay that is built, passed and
/// failed.
/// `None` on a machine whose Python is too old for it.
pub(crate) fn test_relay(stop: &Stop) -> Result<Option<(usize, usize)>> {
    let peer = match Aiomoqt::install(stop) {
        Ok(peer) => peer,
        Err(error) if error.is::<NoPython>() => {
            println!("note: left out, for want of Python. {error}");
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let (mut passed, mut failed) = (0, 0);
    for (way, outcome) in client::run_all(&peer, stop) {
        let result = outcome.map_err(|error| {
            failed += 1;
            format!("{error:#}")
        });
        let result = result.and_then(|points| {
            let count = |verdict| points.iter().filter(|point| point.verdict == verdict).count();
            passed += count(Verdict::Passed);
            failed += count(Verdict::Failed);
            sum_up(&points)
        });
        match result {
            Ok(said) => println!("{way}: {said}"),
            Err(said) => println!("{way}: FAILED: {said}"),
        }
    }
    Ok(Some((passed, failed)))
}
