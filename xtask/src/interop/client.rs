//! `moq-interop-client` against our relay.

use std::time::Duration;

use anyhow::{Result, bail};

use super::{
    peers::Aiomoqt,
    process,
    relays::{self, Relay},
    tap::{self, TestPoint, Verdict},
    way::Way,
};
use crate::child::Stop;

/// The drafts that both sides speak.
pub(crate) const DRAFTS: [u8; 3] = [16, 18, 22];

/// Every test it has, and what it asks of a relay.
pub(crate) const TESTS: [(&str, &str); 14] = [
    ("setup-only", "a session is set up"),
    ("announce-only", "PUBLISH_NAMESPACE is accepted"),
    ("publish-namespace-done", "a namespace is withdrawn"),
    ("subscribe-error", "SUBSCRIBE to what nobody publishes is refused, with the right code"),
    ("rendezvous-timeout", "RENDEZVOUS_TIMEOUT of 0.5 s ends in TIMEOUT (from draft-18 on)"),
    ("announce-subscribe", "SUBSCRIBE reaches whoever published the namespace"),
    ("subscribe-before-announce", "SUBSCRIBE before there is a publisher gets an answer"),
    ("data-subgroup-basic", "15 objects in three groups arrive byte for byte, then PUBLISH_DONE"),
    ("subscribe-namespace-lifecycle", "NAMESPACE, then NAMESPACE_DONE, reach who asked"),
    ("namespace-discovery", "who knows only a namespace is told its tracks by PUBLISH"),
    ("publish-track-only", "PUBLISH is accepted"),
    ("publish-track-subscribe", "a track known by PUBLISH alone is delivered"),
    ("fetch", "a standalone FETCH gets a past group"),
    ("join", "a joining FETCH, or a fill from draft-20 on, gets the past of a live track"),
];

/// The tests that it runs only when they are named.
const NAMED_ONLY: [&str; 2] = ["fetch", "join"];

/// Longer than the client itself waits for anything.
const LIMIT: Duration = Duration::from_secs(180);

/// Runs every test against a relay of ours; one result for each of [`TESTS`], in that order.
pub(crate) fn run(peer: &Aiomoqt, way: Way, stop: &Stop) -> Result<Vec<TestPoint>> {
    let directory = relays::empty_directory(&format!("client-{}", way.slug()))?;
    let relay = Relay::ours(&directory, None, stop)?;
    let mut points = Vec::new();
    for test in [None].into_iter().chain(NAMED_ONLY.map(Some)) {
        let mut command = peer.client();
        command.args(["--relay", &relay.url(way), "--tls-disable-verify"]);
        command.args(["--draft", &way.draft.to_string()]);
        command.args(test.iter().flat_map(|test| ["--test", test]));
        let finished = process::finish(&command, LIMIT, stop)?;
        let log = directory.join(format!("client-{}.log", test.unwrap_or("standard")));
        std::fs::write(&log, [finished.stdout.as_str(), &finished.stderr].concat())?;
        let read = tap::parse(&finished.stdout);
        if read.is_empty() {
            bail!("moq-interop-client reported nothing: {}", finished.last_words());
        }
        points.extend(read);
    }
    Ok(TESTS.map(|(name, _)| in_order(name, &points)).to_vec())
}

fn in_order(name: &str, points: &[TestPoint]) -> TestPoint {
    points.iter().find(|point| point.name == name).cloned().unwrap_or_else(|| TestPoint {
        name: name.to_owned(),
        verdict: Verdict::Failed,
        message: "the client did not run it".to_owned(),
    })
}

/// Runs all drafts over all transports at once, each against a relay of its own.
pub(crate) fn run_all(peer: &Aiomoqt, stop: &Stop) -> Vec<(Way, Result<Vec<TestPoint>>)> {
    std::thread::scope(|scope| {
        let start = |way| (way, scope.spawn(move || run(peer, way, stop)));
        let running: Vec<_> = Way::all(&DRAFTS).into_iter().map(start).collect();
        let join = |(way, thread): (Way, std::thread::ScopedJoinHandle<'_, _>)| {
            let outcome = thread.join().unwrap_or_else(|_| bail!("its thread panicked"));
            (way, outcome)
        };
        running.into_iter().map(join).collect()
    })
}
