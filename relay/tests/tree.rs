//! What a relay knows of the relays below it: sums always, details while somebody looks, and that one
//! is gone.

mod common;

use std::time::{Duration, Instant};

use common::{Machine, Relay, Subscriber, track_name};
use moqt::Namespace;
use serde_json::Value;
use transport::publish::{Broadcast, TrackOptions};

const NAMESPACE: &str = "live/camera";
const TRACK: &str = "video";
const VIEWERS: usize = 12;

/// What the tree of a relay says of one node.
async fn reported(relay: &Relay, node: &str) -> Option<Value> {
    let (status, body) = relay.admin("/api/v1/nodes").await;
    assert_eq!(status, 200, "{body}");
    let tree: Value = serde_json::from_str(&body).unwrap();
    tree["nodes"].as_array().unwrap().iter().find(|it| it["node"] == node).cloned()
}

/// Waits until that is as wanted.
async fn reports(relay: &Relay, node: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + common::PATIENCE;
    loop {
        let said = reported(relay, node).await;
        if let Some(said) = said.clone().filter(&wanted) {
            return said;
        }
        assert!(Instant::now() < deadline, "{node} is {said:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A relay below another.
fn below(machine: &Machine, node: &str, parent: &Relay) -> Relay {
    machine.relay(node, &["--upstream", parent.url().as_str(), "--tls-disable-verify"])
}

#[tokio::test(flavor = "multi_thread")]
async fn sums_come_up_the_tree_and_details_only_while_somebody_looks() {
    let machine = Machine::new();
    let root = machine.relay("root", &[]);
    let middle = below(&machine, "middle", &root);
    let leaf = below(&machine, "leaf", &middle);
    let live = Broadcast::new(Namespace::from_path(NAMESPACE).unwrap());
    let mut track = live.create_track(TRACK, TrackOptions::default());
    let _published = common::publish(&live, &root.address()).await;
    track.begin_group(0);
    common::write(&mut track, (0, 0, 0));
    let mut viewers = Vec::new();
    for _ in 0..VIEWERS {
        let name = track_name(NAMESPACE, TRACK);
        viewers.push(Subscriber::subscribe(&leaf, &name).await);
    }
    let all = |node: &Value| node["viewers"] == VIEWERS;
    let report = reports(&root, "leaf", all).await;
    assert_eq!(report["sessions"].as_array().unwrap().len(), 8, "the worst of them");
    let tracks = report["tracks"].as_array().unwrap();
    let names: Vec<_> = tracks.iter().map(|track| track["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["live/camera/video"], "and not what nodes report");
    let publishes_detail = |node: &Value| {
        let mut tracks = node["tracks"].as_array().unwrap().iter();
        tracks.any(|track| track["name"] == "weir/nodes/leaf/detail")
    };
    assert!(!publishes_detail(&leaf.snapshot().await));

    let (status, body) = root.admin("/api/v1/nodes/leaf").await;
    let detail: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &detail["node"]), (200, &Value::from("leaf")));
    // Its parent besides.
    assert_eq!(detail["sessions"].as_array().unwrap().len(), VIEWERS + 1, "{detail:#}");
    assert!(publishes_detail(&detail), "{detail:#}");
    leaf.snapshot_shows("that nobody looks any more", |node| !publishes_detail(node)).await;

    let (status, body) = root.admin("/api/v1/nodes/nobody").await;
    assert!(status == 404 && body.contains("no node"), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_dies_is_down_within_three_seconds_and_so_is_what_it_served() {
    let machine = Machine::new();
    let root = machine.relay("root", &[]);
    let mut middle = below(&machine, "middle", &root);
    let leaf = below(&machine, "leaf", &middle);
    for node in ["middle", "leaf"] {
        reports(&root, node, |node| node["state"] == "ok").await;
    }
    let killed = Instant::now();
    middle.kill();
    let down = reports(&root, "middle", |node| node["state"] == "down").await;
    let took = killed.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert_eq!(down["viewers"], 0);
    assert!(down["reason"].as_str().unwrap().starts_with("not heard for 3 s"), "{down:#}");
    let cut_off = reports(&root, "leaf", |node| node["state"] == "down").await;
    let why = cut_off["reason"].as_str().unwrap();
    assert!(why.ends_with("nor is middle above it"), "{why}");
    // It lives, and says itself what it lacks.
    leaf.snapshot_shows("that it is cut off", |node| node["state"] == "warning").await;

    middle.start_again(&machine);
    for node in ["middle", "leaf"] {
        reports(&root, node, |node| node["state"] == "ok").await;
    }
}
