//! A hundred nodes with a thousand viewers each: sums first, what is wrong in sight, detail on demand.

mod common;

use std::time::{Duration, Instant};

use common::{Dashboard, node};
use dashboard::feed::FeedEvent;
use serde_json::{Value, json};
use stats::Tree;

const NODES: usize = 100;
/// What a node lists when it reports up the tree.
const LISTED: usize = 8;
/// What it tells when it is looked at.
const ALL: u64 = 1000;

/// A root, nine below it, ninety below those; drops at one of them.
fn tree(up: f64, troubled: usize) -> Vec<Value> {
    (0..NODES)
        .map(|i| {
            let parent = (i > 0).then(|| format!("node-{:02}", (i - 1) / 10));
            let mut node = node(&format!("node-{i:02}"), parent.as_deref(), up, 1000);
            if i >= 10 {
                let dropped = if i == troubled { (up * 50.0) as u64 } else { 0 };
                let drops = json!({ "TOO_FAR_BEHIND": { "objects": dropped } });
                node["viewers"] = json!(1000);
                node["drops"] = drops.clone();
                let session = |at| {
                    json!({ "id": format!("s{at}"), "kind": "viewer", "transport": "quic",
                        "protocol": "moqt-18", "remote": format!("192.0.2.1:{at}"),
                        "bytes_out": (up * 1000.0) as u64 + at, "behind_ms": 0,
                        "drops": if at < 3 { drops.clone() } else { json!({}) } })
                };
                node["sessions"] = (0..LISTED as u64).map(session).collect();
            }
            node
        })
        .collect()
}

fn watched(seconds: u32) -> Dashboard {
    let mut dashboard = Dashboard::new();
    dashboard.feed(FeedEvent::Connected);
    for second in 0..seconds {
        dashboard.nodes(&tree(100.0 + f64::from(second), 57));
        dashboard.wait(1.0);
    }
    dashboard
}

#[test]
fn what_is_well_is_folded_and_what_is_wrong_is_in_sight() {
    let mut dashboard = watched(8);
    insta::assert_snapshot!(dashboard.screen(80, 24));
    let (name, _) = dashboard.ui.node(&dashboard.state, dashboard.now).unwrap();
    assert_eq!(name, "node-57");
}

#[test]
fn a_folded_line_speaks_for_all_below_it() {
    let mut dashboard = watched(8);
    let folded = dashboard.find("node-03 +10");
    let cells: Vec<&str> = folded.split_whitespace().collect();
    // Ten times a thousand viewers and the one of its own, ten times 8 kbit/s and its own.
    assert!(cells.contains(&"10001") && cells.contains(&"88.0k"), "{folded}");
    // What is wrong comes through when it is folded by hand.
    dashboard.type_in("hh");
    let folded = dashboard.find("node-05 +10");
    assert!(folded.contains("warning") && folded.contains("behind"), "{folded}");
    dashboard.type_in("l");
    assert!(dashboard.find("node-57").contains("warning"));
}

#[test]
fn the_one_that_drops_is_found_with_its_viewers() {
    let mut dashboard = watched(8);
    dashboard.type_in("3");
    let screen = dashboard.screen(80, 24);
    assert!(screen.contains("node-57: 1000 viewers"), "{screen}");
    assert!(screen.contains("listed are the worst 8"), "{screen}");
    dashboard.type_in("ss");
    assert!(dashboard.screen(80, 24).lines().nth(5).unwrap().contains("behind"), "{screen}");
    // A filter finds what is folded.
    dashboard.type_in("1/node-39\n");
    assert!(dashboard.screen(80, 24).contains("node-39"));
}

/// All that is known of one node of such a tree.
fn detail(up: f64, troubled: usize) -> FeedEvent {
    let mut node = tree(up, troubled).swap_remove(troubled);
    let drops = node["drops"].clone();
    let session = |at: u64| {
        json!({ "id": format!("s{at}"), "kind": "viewer", "transport": "quic",
            "protocol": "moqt-18", "remote": format!("192.0.2.1:{at}"),
            "bytes_out": (up * 1000.0) as u64 + at, "behind_ms": 0,
            "drops": if at < 3 { drops.clone() } else { json!({}) } })
    };
    node["sessions"] = (0..ALL).map(session).collect();
    node["tracks"] = json!([{ "name": "live/0/video", "subscribers": ALL, "bytes_in": 1,
        "bytes_out": 1, "groups": [{ "group": 7, "objects": 60, "offered": 60, "sent": 30 }] }]);
    let line = node.to_string();
    FeedEvent::Detail(Box::new(stats::NodeSnapshot::from_line(line.as_bytes()).unwrap()))
}

#[test]
fn what_is_looked_at_shows_everything_and_sums_are_enough_elsewhere() {
    let mut dashboard = watched(4);
    let looked_at = |dashboard: &Dashboard| dashboard.ui.looked_at(&dashboard.state, dashboard.now);
    assert_eq!(looked_at(&dashboard), None);
    dashboard.type_in("3");
    assert_eq!(looked_at(&dashboard).as_deref(), Some("node-57"));
    assert!(dashboard.screen(80, 24).contains("worst 8"));
    // Both feeds go on, each at its own pace; the tree's is a little behind.
    for second in 4..8 {
        dashboard.feed(detail(100.0 + f64::from(second), 57));
        dashboard.wait(0.3);
        dashboard.nodes(&tree(100.0 + f64::from(second) - 1.0, 57));
        dashboard.wait(0.7);
    }
    let screen = dashboard.screen(80, 24);
    assert!(screen.contains("node-57: 1000 viewers") && !screen.contains("worst"), "{screen}");
    assert!(screen.contains("1-") && screen.contains("of 1000"), "{screen}");
    let node = dashboard.state.node("node-57").unwrap();
    assert!(node.restarted_at().is_none());
    let rates = node.session_rates(dashboard.now);
    assert_eq!(rates.len() as u64, ALL);
    assert!(rates.iter().all(|it| (it.unwrap().bits_out - 8000.0).abs() < 1.0));
    dashboard.type_in("4");
    assert_eq!(looked_at(&dashboard).as_deref(), Some("node-57"));
    assert!(dashboard.screen(80, 24).contains("50%"));
    // Elsewhere, only the tree's feed goes on; nobody joined, left or restarted.
    dashboard.type_in("1");
    assert_eq!(looked_at(&dashboard), None);
    for second in 8..14 {
        dashboard.nodes(&tree(100.0 + f64::from(second), 57));
        dashboard.wait(1.0);
    }
    dashboard.type_in("3");
    assert!(dashboard.screen(80, 24).contains("listed are the worst 8"));
    let told: Vec<_> = dashboard.state.events.iter().map(|event| event.text.as_str()).collect();
    let strange = ["joined", "left", "restarted"];
    assert!(!told.iter().any(|text| strange.iter().any(|word| text.contains(word))), "{told:?}");
}

#[test]
fn a_node_that_dies_while_it_is_looked_at_is_down() {
    let mut dashboard = watched(4);
    dashboard.type_in("3");
    dashboard.feed(detail(104.0, 57));
    let mut nodes = tree(104.0, 57);
    nodes[57]["state"] = json!("down");
    nodes[57]["reason"] = json!("not heard for 3 s");
    dashboard.nodes(&nodes);
    dashboard.type_in("2");
    assert!(dashboard.find("is down: not heard for 3 s").starts_with("down"));
}

#[test]
fn the_node_that_is_asked_is_in_the_feed_already() {
    let mut dashboard = Dashboard::new();
    dashboard.feed(FeedEvent::Connected);
    dashboard.nodes(&[node("root", None, 5.0, 10), node("edge", Some("root"), 5.0, 10)]);
    for (keys, looked_at) in [("g2", None), ("1gj2", Some("edge")), ("5", None)] {
        dashboard.type_in(keys);
        let found = dashboard.ui.looked_at(&dashboard.state, dashboard.now);
        assert_eq!(found.as_deref(), looked_at, "after {keys}");
    }
}

#[test]
fn sessions_that_are_not_listed_neither_join_nor_leave() {
    let mut dashboard = watched(4);
    for second in 4..8u32 {
        let mut nodes = tree(100.0 + f64::from(second), 57);
        // Others are the worst off now; one viewer went.
        for session in nodes[57]["sessions"].as_array_mut().unwrap() {
            session["id"] = json!(format!("t{second}{}", session["id"]));
        }
        nodes[57]["viewers"] = json!(if second < 6 { 1000 } else { 999 });
        dashboard.nodes(&nodes);
        dashboard.wait(1.0);
    }
    let told: Vec<&str> = dashboard
        .state
        .events
        .iter()
        .filter(|event| event.text.contains("joined") || event.text.contains("left"))
        .map(|event| event.text.as_str())
        .collect();
    assert_eq!(told, ["1 viewer left"]);
}

/// Not how fast, but that it does not grow with the square: this is a build without optimisation, beside other tests.
#[test]
fn large_trees_are_taken_in_and_drawn_in_time() {
    let mut dashboard = watched(3);
    let trees: Vec<Tree> = (3..6u32)
        .map(|second| {
            let nodes = tree(100.0 + f64::from(second), 57);
            let line = json!({ "node": "root", "at": "2026-01-01T00:00:00Z", "nodes": nodes });
            Tree::from_line(line.to_string().as_bytes()).unwrap()
        })
        .collect();
    let seconds = trees.len() as u32;
    let start = Instant::now();
    for tree in trees {
        dashboard.feed(FeedEvent::Tree(Box::new(tree)));
        dashboard.wait(1.0);
        dashboard.screen(120, 40);
    }
    let took = start.elapsed() / seconds;
    assert!(took < Duration::from_secs(5), "{took:?}");
}
