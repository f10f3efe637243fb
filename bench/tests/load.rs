//! The load generator against the real relay: what it counts must add up with what the relay says.
//!
//! The relay's program is the one beside this test's; a whole workspace's test run builds it, and
//! `cargo build -p relay` does.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bench::compare::{Kind, Server};
use bench::load::{self, Media, Options, Report, Target};
use clap::Parser;
use netsim::{LinkConfig, ProxyConfig, UdpProxy};

/// As on the command line.
#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: Options,
}

fn options(line: &[&str]) -> Options {
    Line::parse_from([&["load"], line].concat()).options
}

/// The relay's program, built with the same profile as this test.
fn relay_program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let beside = test.ancestors().nth(2).expect("target/PROFILE/deps/TEST").join("relay");
    assert!(beside.is_file(), "{} is not there: cargo build -p relay", beside.display());
    beside
}

fn start_relay(scratch: &Path) -> Server {
    let media = options(&[]).media;
    Server::start(Kind::Weir, &mut Command::new(relay_program()), scratch, &media).unwrap()
}

async fn put(server: &Server, mut options: Options) -> Report {
    let web_transport = server.url.as_str().replace("moqt://", "https://").parse().unwrap();
    options.relays = vec![server.url.clone(), web_transport];
    options.admin = server.admin.clone();
    options.pid = Some(server.pid());
    load::run(options).await.unwrap()
}

fn all(report: &Report, value: fn(&Target) -> u64) -> u64 {
    report.targets.iter().map(value).sum()
}

#[tokio::test]
async fn the_books_balance() {
    let scratch = tempfile::tempdir().unwrap();
    let relay = start_relay(scratch.path());
    let load = ["--broadcasts=2", "--viewers=6", "--audio", "--temporal", "--size=6k"];
    let time = ["--group=15", "--seconds=2", "--settle=0.2", "--drain=2"];
    let report = put(&relay, options(&[&load[..], &time].concat())).await;
    let text = report.to_text();

    let measured = report.measured();
    // Two seconds of 80 objects a second, for each of twelve viewers.
    assert!(measured.owed > 12 * 2 * 60, "{text}");
    assert_eq!(measured.missing(), 0, "{text}");
    assert_eq!(all(&report, |target| target.whole.missing()), 0, "{text}");
    assert_eq!(all(&report, |target| target.altered + target.duplicates), 0, "{text}");
    assert_eq!(all(&report, |target| target.never_joined + target.broken), 0, "{text}");
    let claimed = report.claimed.as_ref().expect("the relay has an admin API");
    assert_eq!(claimed.dropped_objects, 0, "{text}");
    assert_eq!(claimed.objects_out, all(&report, |target| target.arrived), "{text}");
}

#[tokio::test]
async fn a_slow_viewer_costs_the_others_nothing_and_its_drops_are_counted() {
    slow_beside_fast(&LINE, &[]).await;
}

/// What is cut is then behind what follows it, in the relay's and in QUIC's order.
#[tokio::test]
async fn so_are_those_of_one_who_wants_the_newest_first() {
    slow_beside_fast(&LINE, &["--newest-first"]).await;
}

/// Its streams are rewritten on their way.
#[tokio::test]
async fn so_are_those_of_one_who_speaks_another_draft() {
    slow_beside_fast(&LINE, &["--draft=16"]).await;
}

/// What is cut then lies in QUIC behind what goes on: the frames that others need, and sound.
#[tokio::test]
async fn so_are_those_of_one_whose_line_takes_every_other_frame() {
    // 5 Mbit/s through 3 Mbit/s.
    let line = ["--size=20800", "--slow-link=rate=3M delay=10 queue=64k"];
    slow_beside_fast(&line, &["--audio", "--temporal"]).await;
}

/// When it gets bad, QUIC has frames that nobody needs and does not come to them for those that others
/// do.
#[tokio::test]
async fn so_are_those_of_one_whose_line_is_good_and_bad_in_turn() {
    let scratch = tempfile::tempdir().unwrap();
    let relay = start_relay(scratch.path());
    let line = |words| {
        let mut link = LinkConfig::default();
        link.apply(words).unwrap();
        link
    };
    let good = line("rate=8M delay=10 queue=64k");
    let bad = line("rate=500k delay=10 queue=64k");
    let address = relay.url.socket_addrs(|| None).unwrap()[0];
    let lines = ProxyConfig { up: LinkConfig::default(), down: good.clone(), seed: 1 };
    let proxy = UdpProxy::start(([127, 0, 0, 1], 0).into(), address, lines).await.unwrap();
    let mut through = relay.url.clone();
    through.set_port(Some(proxy.local_addr().port())).unwrap();

    let load = ["--viewers=2", "--size=20800", "--group=60", "--audio", "--temporal"];
    let time = ["--seconds=8", "--settle=0.2", "--drain=6"];
    let mut options = options(&[&load[..], &time].concat());
    options.relays = vec![relay.url.clone(), through];
    options.admin = relay.admin.clone();
    let turns = async {
        for _ in 0..3 {
            for link in [&bad, &good] {
                tokio::time::sleep(Duration::from_millis(1500)).await;
                proxy.set_down(link.clone());
            }
        }
    };
    let (report, ()) = tokio::join!(load::run(options), turns);
    check_slow_beside_fast(&report.unwrap());
}

/// 2 Mbit/s through 500 kbit/s.
const LINE: [&str; 2] = ["--size=8k", "--slow-link=rate=500k delay=5 queue=64k"];

async fn slow_beside_fast(line: &[&str], more: &[&str]) {
    let scratch = tempfile::tempdir().unwrap();
    let relay = start_relay(scratch.path());
    let load = ["--viewers=5", "--slow=1", "--group=15"];
    let time = ["--seconds=6", "--settle=0.2", "--drain=6"];
    let report = put(&relay, options(&[&load[..], line, &time, more].concat())).await;
    check_slow_beside_fast(&report);
}

/// What the last target's viewer did not get is what the relay dropped, and nobody else lost anything.
fn check_slow_beside_fast(report: &Report) {
    let text = report.to_text();
    let (slow, fast) = report.targets.split_last().unwrap();
    for target in fast {
        assert_eq!(target.whole.missing(), 0, "{text}");
        assert_eq!(target.resets, 0, "{text}");
    }
    assert_eq!(slow.viewers, 1, "{text}");
    assert!(slow.arrived > 0, "{text}");
    assert!(slow.whole.missing() > slow.whole.owed / 10, "{text}");
    assert_eq!(slow.altered + slow.duplicates, 0, "{text}");
    let claimed = report.claimed.as_ref().expect("the relay has an admin API");
    // What the relay says it dropped is what is missing here.
    let (dropped, missing) = (claimed.dropped_objects, slow.whole.missing());
    assert_eq!(dropped, missing, "{text}");
    let (offered, arrived) = (claimed.objects_out + dropped, all(report, |target| target.arrived));
    assert_eq!(offered - dropped, arrived, "{text}");
}

#[tokio::test]
async fn viewers_come_and_go() {
    let scratch = tempfile::tempdir().unwrap();
    let relay = start_relay(scratch.path());
    let load = ["--viewers=6", "--churn=5", "--size=2k", "--group=10"];
    let time = ["--seconds=3", "--settle=0.2", "--drain=1"];
    let report = put(&relay, options(&[&load[..], &time].concat())).await;
    let text = report.to_text();
    assert!(all(&report, |target| target.viewers) >= 6 + 10, "{text}");
    assert_eq!(all(&report, |target| target.whole.missing()), 0, "{text}");
    assert_eq!(all(&report, |target| target.broken), 0, "{text}");
}

#[tokio::test]
async fn the_bare_server_is_counted_by_its_schedule() {
    let scratch = tempfile::tempdir().unwrap();
    let media = Media { size: 4096, rate: 30.0, group: 10, audio: false, temporal: false };
    let program = env!("CARGO_BIN_EXE_weir-bench");
    let server =
        Server::start(Kind::Bare, &mut Command::new(program), scratch.path(), &media).unwrap();
    let mut options = options(&["--viewers=4", "--seconds=2", "--settle=0.2", "--group=10"]);
    options.media = media;
    options.relays = vec![server.url.clone()];
    options.source_start = server.source_start;
    let report = load::run(options).await.unwrap();
    let measured = report.measured();
    assert!(measured.owed >= 4 * 50, "{}", report.to_text());
    assert_eq!(measured.missing(), 0, "{}", report.to_text());
}
