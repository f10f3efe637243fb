//! What comes and goes while viewers stay: publishers, parents, viewers, the relay itself.

mod common;

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use common::{Heard, Machine, PATIENCE, Relay, Subscriber, within};
use moqt::Namespace;
use transport::publish::{Broadcast, TrackOptions, TrackProducer};

const NAMESPACE: &str = "live/camera";
const TRACK: &str = "video";

/// What the first publisher wrote last, and a later one first.
const BEFORE: (u64, u64, u64) = (0, 0, 0);
const AFTER: (u64, u64, u64) = (10, 0, 0);

fn broadcast() -> (Broadcast, TrackProducer) {
    let broadcast = Broadcast::new(Namespace::from_path(NAMESPACE).unwrap());
    let track = broadcast.create_track(TRACK, TrackOptions::default());
    (broadcast, track)
}

fn begin_group_with(track: &mut TrackProducer, at: (u64, u64, u64)) {
    track.begin_group(at.0);
    common::write(track, at);
}

/// A viewer who has seen the first object.
async fn viewer(relay: &Relay) -> Subscriber {
    let mut viewer = Subscriber::subscribe(relay, &common::track_name(NAMESPACE, TRACK)).await;
    viewer.expect(BEFORE).await;
    viewer
}

/// A root and an edge below it.
async fn tree(machine: &Machine) -> (Relay, Relay) {
    let root = machine.relay("root", &[]);
    let edge = machine.relay("edge", &["--upstream", root.url().as_str()]);
    edge.snapshot_shows("its parent", |node| node["upstream"][0]["state"] == "connected").await;
    (root, edge)
}

#[tokio::test]
async fn a_viewer_outlives_a_publisher_that_dies_without_a_word() {
    let machine = Machine::new();
    let relay = machine.relay("relay", &[]);
    // A runtime that is torn down sends nothing any more: to the relay, a process that was killed.
    let process = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (first, mut track) = broadcast();
    begin_group_with(&mut track, BEFORE);
    let doomed = {
        let relay = relay.address();
        process.spawn(async move { common::publish(&first, &relay).await }).await.unwrap()
    };
    let mut viewer = viewer(&relay).await;
    process.shutdown_background();

    let (second, mut track) = broadcast();
    begin_group_with(&mut track, AFTER);
    let _publication = common::publish(&second, &relay.address()).await;
    viewer.skip_to(AFTER).await;
    common::write(&mut track, (AFTER.0, 0, 1));
    viewer.expect((AFTER.0, 0, 1)).await;
    drop(doomed);
}

#[tokio::test]
async fn a_viewer_outlives_the_parent_of_its_relay() {
    let machine = Machine::new();
    let (mut root, edge) = tree(&machine).await;
    let (broadcast, mut track) = broadcast();
    begin_group_with(&mut track, BEFORE);
    let _publication = common::publish(&broadcast, &root.address()).await;
    let mut viewer = viewer(&edge).await;

    root.kill();
    edge.snapshot_shows("the loss", |node| node["upstream"][0]["state"] != "connected").await;
    let (status, why) = edge.admin("/ready").await;
    assert_eq!(status, 503, "{why}");
    root.start_again(&machine);
    begin_group_with(&mut track, AFTER);
    viewer.skip_to(AFTER).await;
    common::write(&mut track, (AFTER.0, 0, 1));
    viewer.expect((AFTER.0, 0, 1)).await;
    assert_eq!(edge.admin("/ready").await.0, 200);
}

#[tokio::test]
async fn sigterm_says_goaway_and_ends_with_code_0() {
    let machine = Machine::new();
    let mut relay = machine.relay("relay", &[]);
    let (broadcast, mut track) = broadcast();
    begin_group_with(&mut track, BEFORE);
    let _publication = common::publish(&broadcast, &relay.address()).await;
    // It stays to the end, as one that was not listening would.
    let mut viewer = viewer(&relay).await;

    relay.terminate();
    let asked = Instant::now();
    let status = relay.ended().await;
    let took = asked.elapsed();
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(3), "took {took:?} to end");
    loop {
        match viewer.next().await {
            Heard::GoAway(goaway) => {
                assert!(goaway.uri.is_empty(), "there is nowhere else to go");
                assert!(goaway.timeout > 0);
                break;
            }
            Heard::Object { .. } | Heard::Reset { .. } => {}
            other => panic!("heard {other:?} before GOAWAY"),
        }
    }
}

#[tokio::test]
async fn the_last_viewer_to_leave_releases_the_track_up_the_tree() {
    let machine = Machine::new();
    let (root, edge) = tree(&machine).await;
    let (broadcast, mut track) = broadcast();
    begin_group_with(&mut track, BEFORE);
    let _publication = common::publish(&broadcast, &root.address()).await;

    let subscribers = |node: &serde_json::Value| {
        let tracks = node["tracks"].as_array().unwrap().iter();
        let name = format!("{NAMESPACE}/{TRACK}");
        let mut found = tracks.filter(|track| track["name"] == name.as_str());
        found.next().map(|track| track["subscribers"].as_u64().unwrap())
    };
    let first = viewer(&edge).await;
    let second = viewer(&edge).await;
    edge.snapshot_shows("two viewers", |node| subscribers(node) == Some(2)).await;
    root.snapshot_shows("one relay for both", |node| subscribers(node) == Some(1)).await;

    first.unsubscribe();
    edge.snapshot_shows("one viewer", |node| subscribers(node) == Some(1)).await;
    assert_eq!(subscribers(&root.snapshot().await), Some(1));
    // By going away, this one.
    drop(second);
    edge.snapshot_shows("no such track", |node| subscribers(node).is_none()).await;
    root.snapshot_shows("no such track", |node| subscribers(node).is_none()).await;
    within("the publisher to hear of it", async {
        while track.has_subscribers() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn publishers_and_relays_that_leave_or_share_a_name_are_in_the_log() {
    let machine = Machine::new();
    let relay = machine.relay("root", &[]);
    let (first, _track) = broadcast();
    let first = common::publish(&first, &relay.address()).await;
    let (second, _track) = broadcast();
    let _second = common::publish(&second, &relay.address()).await;
    relay.logs(&["WARN", "two publishers of one name", NAMESPACE, "--name"]).await;
    first.end().await;
    relay.logs(&["INFO", "left", NAMESPACE]).await;

    let url = relay.url();
    let upstream = ["--upstream", url.as_str()];
    let edge = machine.relay("edge", &upstream);
    edge.connected().await;
    assert!(!relay.log().contains("two relays"), "{}", relay.log());
    let mut clone = machine.relay("edge", &upstream);
    relay.logs(&["WARN", "two relays of one name", "edge", "--node"]).await;
    clone.kill();
    relay.logs(&["INFO", "left", "edge"]).await;
    let _clone = machine.relay("root", &upstream);
    relay.logs(&["WARN", "by this relay's name", "--node"]).await;
}

#[tokio::test]
async fn a_relay_that_is_its_own_upstream_says_so_and_is_not_ready() {
    let machine = Machine::new();
    let mut relay = machine.relay("loop", &[]);
    let url = relay.url();
    relay.start_with(&machine, &["--upstream", url.as_str()]);
    relay.logs(&["WARN", "--upstream leads back to this relay"]).await;
    let (status, why) = relay.admin("/ready").await;
    assert_eq!(status, 503, "{why}");
    assert!(why.contains("--upstream leads back to this relay"), "{why}");
}

#[tokio::test]
async fn relays_whose_upstreams_lead_in_a_circle_say_so() {
    let machine = Machine::new();
    let mut one = machine.relay("one", &[]);
    let two = machine.relay("two", &["--upstream", one.url().as_str()]);
    one.start_with(&machine, &["--upstream", two.url().as_str()]);
    one.logs(&["WARN", "leads round in a circle"]).await;
}

/// Runs a relay that cannot start: its exit code and what it said.
async fn fails(machine: &Machine, arguments: &[&str]) -> (Option<i32>, String) {
    let mut child = machine.command().args(arguments).spawn().unwrap();
    let status = tokio::time::timeout(PATIENCE, common::ended(&mut child)).await;
    if status.is_err() {
        let _ = child.kill();
    }
    let mut said = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut said).unwrap();
    (status.unwrap().code(), said)
}

#[tokio::test]
async fn a_busy_port_ends_the_program_and_names_its_flag() {
    const ANY: &str = "127.0.0.1:0";
    let machine = Machine::new();
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let udp = UdpSocket::bind(loopback).unwrap();
    let tcp = TcpListener::bind(loopback).unwrap();
    let (udp_addr, tcp_addr) = (udp.local_addr().unwrap(), tcp.local_addr().unwrap());
    let (udp_addr, tcp_addr) = (udp_addr.to_string(), tcp_addr.to_string());
    for (flag, busy) in [
        ("--listen", &udp_addr),
        ("--listen", &tcp_addr),
        ("--http", &tcp_addr),
        ("--admin", &tcp_addr),
    ] {
        let mut arguments = vec![flag, busy];
        for other in ["--listen", "--http", "--admin"].into_iter().filter(|other| *other != flag) {
            arguments.extend([other, ANY]);
        }
        let (code, said) = fails(&machine, &arguments).await;
        assert_eq!(code, Some(1), "{flag} {busy}: {said}");
        assert!(said.contains(flag) && said.contains(busy.as_str()), "{flag} {busy}: {said}");
        assert_eq!(said.matches("in use").count(), 1, "{flag} {busy}: {said}");
    }
}

/// A certificate that ended yesterday, and its key.
fn expired_certificate(dir: &Path) -> (String, String) {
    let day = Duration::from_secs(24 * 3600);
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_before = (SystemTime::now() - 5 * day).into();
    params.not_after = (SystemTime::now() - day).into();
    let key = rcgen::KeyPair::generate().unwrap();
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let files = (path("old.pem"), path("old.key"));
    std::fs::write(&files.0, params.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(&files.1, key.serialize_pem()).unwrap();
    files
}

#[tokio::test]
async fn a_certificate_that_will_not_do_ends_the_program_and_is_named() {
    let machine = Machine::new();
    let (certificate, key) = expired_certificate(machine.path());
    let any = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let mut arguments = vec!["--tls-cert", certificate.as_str(), "--tls-key", key.as_str()];
    arguments.extend(any);
    let (code, said) = fails(&machine, &arguments).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains(&certificate) && said.contains("expired 1.0 days ago"), "{said}");

    let missing = format!("{certificate}.not");
    arguments[1] = &missing;
    let (code, said) = fails(&machine, &arguments).await;
    assert_eq!(code, Some(2), "{said}");
    assert_eq!(said.matches(&missing).count(), 1, "{said}");
    assert_eq!(said.matches("No such file").count(), 1, "{said}");

    // A file is no directory.
    let mut arguments = vec!["--state-dir", certificate.as_str()];
    arguments.extend(any);
    let (code, said) = fails(&machine, &arguments).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("--state-dir") && said.contains(&certificate), "{said}");
}
