//! A hundred nodes with a thousand viewers each: sums first, what is wrong in sight, detail on demand.

mod common;

use std::time::{Duration, Instant};

use common::{Dashboard, node};
use dashboard::feed::FeedEvent;
use serde_json::{Value, json};
use stats::Tree;

const NODES: usize = 100;
/// What a node lists when it reports up the tree.
const LISTED: usize = 64;

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
    assert!(screen.contains("listed are the worst 64"), "{screen}");
    dashboard.type_in("ss");
    assert!(dashboard.screen(80, 24).lines().nth(5).unwrap().contains("behind"), "{screen}");
    // A filter finds what is folded.
    dashboard.type_in("1/node-39\n");
    assert!(dashboard.screen(80, 24).contains("node-39"));
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
