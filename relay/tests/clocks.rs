//! What a tree says of its clocks and of how long objects take, where the clocks differ.

mod common;

use std::time::{Duration, Instant};

use common::*;
use moqt::{Namespace, Properties, RequestErrorCode, Version, property};
use serde_json::Value;
use transport::clock::{Asked, unix_us};
use transport::publish::{Broadcast, TrackOptions};
use transport::subscribe::{Refusal, Subscriber, Want};
use transport::{Endpoint, EndpointConfig, EndpointOptions};

const NAMESPACE: &str = "live/clocks";

async fn connect(relay: &Relay, version: Version) -> Subscriber {
    let config = EndpointConfig { uni_streams: 100, ..EndpointConfig::default() };
    let endpoint = Endpoint::client(EndpointOptions::from(config).versions([version])).unwrap();
    Subscriber::connect(&endpoint, &relay.url(), &relay.tls()).await.unwrap()
}

/// What a relay answers: the clock and how wrong it may be.
async fn ask(viewer: &Subscriber, asked: &Asked) -> Result<(u64, u64), Refusal> {
    let ok = within("an answer", viewer.track_status(asked.track().unwrap())).await?;
    let at = ok.parameters.largest_object.expect("the answer tells a time");
    Ok((at.group, at.object))
}

/// Asks until it is known.
async fn ask_for(viewer: &Subscriber, asked: &Asked) -> (u64, u64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask(viewer, asked).await {
            Ok(answer) => return answer,
            Err(refusal) => assert!(Instant::now() < deadline, "{refusal:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn broadcast_clock() -> Asked {
    Asked::Broadcast(Namespace::from_path(NAMESPACE).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_tells_its_own_clock_in_every_draft() {
    let machine = Machine::new();
    let relay = machine.relay_ahead("root", 5000, &[]);
    for version in Version::ALL.iter().copied() {
        let viewer = connect(&relay, version).await;
        let before = unix_us();
        let (clock, error) = ask(&viewer, &Asked::Own).await.unwrap();
        let after = unix_us();
        assert!((before + 5_000_000..=after + 5_000_000).contains(&clock), "{version:?}: {clock}");
        assert_eq!(error, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clock_that_a_broadcast_is_captured_by_is_known_all_along_its_way() {
    let machine = Machine::new();
    let root = machine.relay_ahead("root", -3000, &[]);
    let edge = machine.relay_ahead("edge", 5000, &["--upstream", root.url().as_str()]);
    edge.connected().await;
    let live = Broadcast::new(Namespace::from_path(NAMESPACE).unwrap());
    let mut track = live.create_track("a", TrackOptions::default());
    let _published = publish(&live, &root.address()).await;
    let viewer = connect(&edge, Version::Draft18).await;
    let refusal = ask(&viewer, &broadcast_clock()).await.expect_err("nobody watches it");
    assert!(
        matches!(&refusal, Refusal::Answer(error) if error.code == RequestErrorCode::DOES_NOT_EXIST),
        "{refusal:?}"
    );
    track.begin_group(0);
    common::write(&mut track, (0, 0, 0));
    let _watched = viewer.subscribe(track_name(NAMESPACE, "a"), Want::default()).await.unwrap();
    ask_for(&viewer, &broadcast_clock()).await;
    let before = unix_us();
    let (clock, error) = ask_for(&viewer, &broadcast_clock()).await;
    let after = unix_us();
    // The publisher is this process, whose clock is right.
    assert!((before - error..=after + error).contains(&clock), "{before} {clock}±{error} {after}");
    assert!(error > 0 && error < 1_000_000, "{error} µs");
}

/// Publishes a track whose objects tell when they were captured, until it is dropped.
struct Camera {
    task: tokio::task::JoinHandle<()>,
    _publication: Publication,
}

impl Camera {
    async fn start(relay: &Relay) -> Self {
        let live = Broadcast::new(Namespace::from_path(NAMESPACE).unwrap());
        let mut track = live.create_track("a", TrackOptions::default());
        let publication = publish(&live, &relay.address()).await;
        let task = tokio::spawn(async move {
            let mut tick = tokio::time::interval(Duration::from_millis(10));
            for number in 0.. {
                tick.tick().await;
                if number % 20 == 0 {
                    track.begin_group(number / 20);
                }
                let mut properties = Properties::new();
                properties.push_int(property::LOC_TIMESTAMP, unix_us());
                track.write(0, number % 20, &properties, vec![7; 500].into());
            }
        });
        Self { task, _publication: publication }
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the snapshot says of the camera's track.
fn camera(node: &Value) -> Option<&Value> {
    let name = format!("{NAMESPACE}/a");
    node["tracks"].as_array()?.iter().find(|track| track["name"] == name.as_str())
}

/// On one machine objects take next to no time; so much is granted to one that is busy.
const BUSY_MS: f64 = 500.0;

/// Whether a latency is shown that is right within its bound, and the bound says something.
fn is_right(latency: &Value, error_ms: f64) -> bool {
    let [Some(p50), Some(p95)] = ["p50", "p95"].map(|which| latency[which].as_f64()) else {
        return false;
    };
    assert!(p50 <= p95 && (0.0..BUSY_MS + error_ms).contains(&p50), "{latency} ± {error_ms} ms");
    true
}

/// Waits until a node shows both latencies of the camera's track, which must be right.
async fn shows_latencies(relay: &Relay) {
    relay
        .snapshot_shows("the camera's latencies", |node| {
            let Some(track) = camera(node) else { return false };
            let Some(error_ms) = track["latency_error_ms"].as_f64() else { return false };
            assert!(error_ms < BUSY_MS, "{error_ms} says nothing");
            is_right(&track["latency_ms"], error_ms) && is_right(&track["hop_latency_ms"], error_ms)
        })
        .await;
}

/// Waits until a node shows how its clock differs from its parent's.
async fn shows_offset(relay: &Relay, ahead_ms: f64) {
    relay
        .snapshot_shows("its clock's offset", |node| {
            let offset = node["clock_offset_ms"].as_f64().zip(node["clock_error_ms"].as_f64());
            let Some((offset, error)) = offset else { return false };
            assert!(error < BUSY_MS, "{error} says nothing");
            assert!((offset - ahead_ms).abs() <= error, "{offset} ± {error}, not {ahead_ms}");
            true
        })
        .await;
}

/// A tree whose clocks are ahead by so much, of root, middle and edge; the camera is at the root.
async fn latencies_are_right([root, middle, edge]: [i64; 3]) {
    let machine = Machine::new();
    let top = machine.relay_ahead("root", root, &[]);
    let between = machine.relay_ahead("middle", middle, &["--upstream", top.url().as_str()]);
    let leaf = machine.relay_ahead("edge", edge, &["--upstream", between.url().as_str()]);
    leaf.connected().await;
    shows_offset(&between, (middle - root) as f64).await;
    shows_offset(&leaf, (edge - middle) as f64).await;
    let _camera = Camera::start(&top).await;
    let viewer = connect(&leaf, Version::Draft18).await;
    let _watched = viewer.subscribe(track_name(NAMESPACE, "a"), Want::default()).await.unwrap();
    for relay in [&leaf, &between, &top] {
        shows_latencies(relay).await;
    }
    let root = top.snapshot().await;
    assert!(root.get("clock_offset_ms").is_none(), "a root has no parent: {root:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn latencies_are_right_at_an_edge_whose_clock_is_5_s_ahead() {
    latencies_are_right([0, 0, 5000]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn latencies_are_right_though_the_publishers_clock_is_5_s_ahead() {
    latencies_are_right([-5000, -5000, -5000]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn latencies_are_right_though_no_two_clocks_agree() {
    latencies_are_right([-3000, 60_000, 5000]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_that_comes_up_the_tree_is_measured_too() {
    let machine = Machine::new();
    let root = machine.relay_ahead("root", 5000, &[]);
    let edge = machine.relay("edge", &["--upstream", root.url().as_str()]);
    edge.connected().await;
    let _camera = Camera::start(&edge).await;
    let viewer = connect(&root, Version::Draft18).await;
    let _watched = viewer.subscribe(track_name(NAMESPACE, "a"), Want::default()).await.unwrap();
    shows_latencies(&root).await;
    shows_latencies(&edge).await;
}
