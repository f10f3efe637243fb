//! What a tree says of its clocks and of how long objects take, where the clocks differ.

mod common;

use std::time::{Duration, Instant};

use common::*;
use moqt::{Namespace, RequestErrorCode, Version};
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
