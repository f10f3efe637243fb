//! Each warning on hand-made data: when it comes, what it says, and that it does not come without need.

mod common;

use common::{Dashboard, node};
use dashboard::feed::FeedEvent;
use dashboard::state::events::Level;
use dashboard::state::warnings::{RULES, Warning};
use serde_json::{Value, json};

/// Runs a node for some seconds, changed each second by `change`, and returns what is found about it.
fn found(seconds: u32, change: impl Fn(u32, &mut Value)) -> Vec<(Level, String)> {
    let warnings = warnings(seconds, change).into_iter();
    warnings.map(|warning| (warning.level, warning.text)).collect()
}

/// The same with what to do.
fn warnings(seconds: u32, change: impl Fn(u32, &mut Value)) -> Vec<Warning> {
    let mut dashboard = Dashboard::new();
    dashboard.feed(FeedEvent::Connected);
    for second in 0..seconds {
        let mut edge = node("edge", None, 1000.0 + f64::from(second), 1000);
        change(second, &mut edge);
        dashboard.nodes(&[edge]);
        dashboard.wait(1.0);
    }
    dashboard.state.warnings().to_vec()
}

fn always(field: &str, value: Value) -> impl Fn(u32, &mut Value) {
    move |_, edge| edge[field] = value.clone()
}

fn warning(text: &str) -> Vec<(Level, String)> {
    vec![(Level::Warning, text.to_owned())]
}

fn sessions(count: u64, dropping: u64, dropped: u64, behind_ms: u64) -> Value {
    (0..count)
        .map(|at| {
            let suffers = at < dropping;
            json!({ "id": format!("s{at}"), "kind": "viewer", "transport": "quic",
                "protocol": "moqt-18", "remote": "192.0.2.1:1", "bytes_out": 1,
                "behind_ms": if suffers { behind_ms } else { 0 },
                "drops": { "DELIVERY_TIMEOUT": { "objects": if suffers { dropped } else { 0 } } } })
        })
        .collect()
}

#[test]
fn nothing_is_said_of_a_node_that_is_well() {
    assert_eq!(found(10, |_, _| ()), []);
}

#[test]
fn drops_to_most_are_the_nodes_own_and_to_few_their_links() {
    let dropping = |many: u64| {
        move |second: u32, edge: &mut Value| {
            let dropped = 10 * u64::from(second);
            edge["viewers"] = json!(20);
            edge["drops"] = json!({ "DELIVERY_TIMEOUT": { "objects": dropped } });
            edge["sessions"] = sessions(20, many, dropped, 0);
        }
    };
    assert_eq!(
        found(12, dropping(15)),
        warning("drops 10/s to 15 of 20 viewers: timeout, 110 in 11s")
    );
    assert_eq!(
        found(12, dropping(2)),
        warning("drops 10/s to 2 of 20 viewers: timeout, 110 in 11s")
    );
    let advice = |many| warnings(12, dropping(many))[0].advice;
    assert!(advice(15).contains("node's own link") && advice(2).contains("their own links"));
}

#[test]
fn what_was_cut_above_is_a_matter_of_the_line_in() {
    let track = |p95: f64| {
        json!([{ "name": "live/cam1/video0", "subscribers": 1, "bytes_in": 1, "bytes_out": 1,
            "hop_latency_ms": { "p50": 90.0, "p95": p95 } }])
    };
    let found = warnings(12, |second, edge| {
        edge["drops"] = json!({ "UPSTREAM_RESET": { "objects": 10 * second } });
        edge["tracks"] = track(3500.0);
    });
    let texts: Vec<_> = found.iter().map(|warning| warning.text.as_str()).collect();
    assert_eq!(texts, ["drops 10/s: upstream, 110 in 11s", "media takes 3.5s from its parent"]);
    assert!(found.iter().all(|warning| warning.advice.contains("parent")), "{found:?}");
    assert_eq!(self::found(3, always("tracks", track(350.0))), []);
}

#[test]
fn drops_that_come_by_fits_are_told_at_their_mean() {
    let fits = found(13, |second, edge| {
        edge["drops"] = json!({ "DELIVERY_TIMEOUT": { "objects": 30 * (second / 3) } });
    });
    assert!(fits[0].1.starts_with("drops 10/s: timeout"), "{fits:?}");
}

#[test]
fn drops_that_grow_are_rising_and_drops_that_went_are_over() {
    let rising = found(12, |second, edge| {
        let dropped = u64::from(second).pow(3);
        edge["drops"] = json!({ "TOO_FAR_BEHIND": { "objects": dropped } });
    });
    assert!(rising[0].1.ends_with("behind, rising, 1331 in 11s"), "{rising:?}");
    let over = found(12, |second, edge| {
        edge["drops"] = json!({ "TOO_FAR_BEHIND": { "objects": second.min(4) } });
    });
    assert_eq!(over, []);
    // Who cancels or leaves wanted to.
    let wanted = found(12, |second, edge| {
        edge["drops"] = json!({ "CANCELLED": { "objects": second } });
    });
    assert_eq!(wanted, []);
}

#[test]
fn behind_for_long_is_told_and_for_a_moment_is_not() {
    let behind = |from: u32| {
        move |second: u32, edge: &mut Value| {
            edge["viewers"] = json!(3);
            edge["sessions"] = sessions(3, u64::from(second >= from), 0, 1800);
        }
    };
    assert_eq!(found(9, behind(1)), warning("1 of 3 viewers behind for over 5s, up to 1.8s"));
    assert_eq!(found(9, behind(6)), []);
}

#[test]
fn an_upstream_that_comes_and_goes_is_flapping_and_one_that_stays_away_is_down() {
    let flapping = found(20, |second, edge| {
        let state = if second % 5 == 4 { "waiting" } else { "connected" };
        edge["upstream"] = json!([{ "url": "moqt://root:4433", "state": state }]);
    });
    assert!(flapping.iter().any(|(_, text)| text.starts_with("upstream flapping: lost 4")));
    let gone = found(8, |second, edge| {
        let state = if second < 3 { "connected" } else { "waiting" };
        edge["upstream"] =
            json!([{ "url": "moqt://root:4433", "state": state, "error": "timed out" }]);
    });
    assert_eq!(
        gone[0],
        (Level::Down, "cut off from moqt://root:4433 for 5s: timed out".to_owned())
    );
}

#[test]
fn a_node_that_is_down_says_why_and_nothing_else() {
    let down = found(8, |second, edge| {
        if second > 3 {
            edge["state"] = json!("down");
            edge["reason"] = json!("not heard for 3 s");
            edge["uptime_s"] = json!(1003.0);
            edge["bytes_in"] = json!(1_003_000);
            edge["bytes_out"] = json!(1_003_000);
        }
    });
    assert_eq!(down, [(Level::Down, "is down: not heard for 3 s".to_owned())]);
}

/// The feed of these tests says that it is 2026-01-01T00:00:00Z.
#[test]
fn a_certificate_is_told_of_before_it_ends() {
    let until = |end: &str| found(2, always("certificate_expires", json!(end)));
    assert_eq!(until("2026-01-05T00:00:00Z"), []);
    assert_eq!(until("2026-01-02T06:00:00Z"), warning("certificate ends in 1d06h"));
    let ended = until("2025-12-31T23:00:00Z");
    assert_eq!(ended, [(Level::Down, "certificate has ended".to_owned())]);
}

#[test]
fn clocks_apart_are_told_of_only_beyond_the_error() {
    let clock = |offset: f64, error: f64| {
        found(2, move |_, edge| {
            edge["clock_offset_ms"] = json!(offset);
            edge["clock_error_ms"] = json!(error);
        })
    };
    assert_eq!(clock(5000.0, 1.0), warning("clock is 5.0s ahead of its parent's"));
    assert_eq!(clock(-5000.0, 1.0), warning("clock is 5.0s behind its parent's"));
    assert_eq!(clock(300.0, 250.0), []);
    assert_eq!(found(2, always("clock_error_ms", json!(1.0))), []);
}

#[test]
fn small_socket_buffers_are_told_of() {
    let buffers = |receive: u64, send: u64| {
        let buffers = json!({ "receive": receive, "send": send, "wanted": 4_000_000 });
        found(2, always("udp_buffers", buffers))
    };
    let text = "kernel socket buffers too small: 213 kB, wanted 4.00 MB";
    assert_eq!(buffers(212_992, 4_000_000), warning(text));
    assert_eq!(buffers(4_000_000, 212_992), warning(text));
    assert_eq!(buffers(4_000_000, 4_000_000), []);
}

#[test]
fn keyframes_far_apart_are_told_of_where_the_publisher_is() {
    let groups = |publishers: u64, name: &'static str, group_ms: f64| {
        found(2, move |_, edge| {
            edge["publishers"] = json!(publishers);
            edge["tracks"] = json!([{ "name": name, "subscribers": 1, "bytes_in": 1,
                "bytes_out": 1, "group_ms": group_ms }]);
        })
    };
    let text = "keyframes of live/cam1/video0 are 10.0s apart";
    assert_eq!(groups(1, "live/cam1/video0", 10_000.0), warning(text));
    assert_eq!(groups(0, "live/cam1/video0", 10_000.0), []);
    assert_eq!(groups(1, "live/cam1/video0", 2_000.0), []);
    assert_eq!(groups(1, "live/cam1/catalog", 60_000.0), []);
}

#[test]
fn stalls_that_viewers_saw_are_told_of() {
    let stalls = |each: u32| {
        found(6, move |second, edge| {
            edge["seen"] = json!({ "viewers": 5, "stalls": second * each });
        })
    };
    assert_eq!(stalls(2), warning("viewers saw 10 stalls in 5s"));
    assert_eq!(stalls(0), []);
}

#[test]
fn every_rule_says_what_to_do() {
    for rule in RULES {
        assert!(rule.advice.len() > 20 && !rule.advice.ends_with('.'), "{}", rule.advice);
    }
}

#[test]
fn a_node_screen_shows_what_only_some_nodes_can_say() {
    let mut dashboard = Dashboard::new();
    dashboard.feed(FeedEvent::Connected);
    for second in 0..4u32 {
        let mut edge = node("edge", None, 1000.0 + f64::from(second), 1000);
        edge["publishers"] = json!(1);
        edge["certificate_expires"] = json!("2026-01-10T00:00:00Z");
        edge["clock_offset_ms"] = json!(-3.25);
        edge["clock_error_ms"] = json!(0.6);
        edge["udp_buffers"] =
            json!({ "receive": 8_000_000, "send": 8_000_000, "wanted": 4_000_000 });
        edge["seen"] = json!({ "viewers": 41, "latency_ms": { "p50": 312.0, "p95": 480.0 },
            "join_ms": 210.0, "stalls": 1, "frames_dropped": 12 });
        let dropped = json!({ "DELIVERY_TIMEOUT": { "objects": 30 * second } });
        edge["tracks"] = json!([{ "name": "live/cam1/video0", "subscribers": 41,
            "bytes_in": 1_000_000 * second, "bytes_out": 41_000_000 * u64::from(second),
            "largest": [1041, 12], "group_ms": 2000.0, "latency_ms": { "p50": 18.0, "p95": 31.0 },
            "latency_error_ms": 0.6, "hop_latency_ms": { "p50": 4.2, "p95": 9.1 },
            "inter_arrival_ms": { "p50": 33.0, "p95": 41.0 }, "drops": dropped,
            "groups": [
                { "group": 1039, "objects": 60, "bytes": 624_000, "offered": 2460, "sent": 2460 },
                { "group": 1040, "objects": 60, "bytes": 624_000, "offered": 2460, "sent": 1845 },
                { "group": 1041, "objects": 13, "bytes": 135_200, "offered": 533, "sent": 533 },
            ] }]);
        dashboard.nodes(&[edge]);
        dashboard.wait(1.0);
    }
    assert!(dashboard.find("edge  ").contains("9.1ms"));
    dashboard.type_in("\n");
    insta::assert_snapshot!(dashboard.screen(120, 24));
    dashboard.type_in("4");
    insta::assert_snapshot!(dashboard.screen(120, 24));
    insta::assert_snapshot!(dashboard.screen(80, 24));
}
