//! Feeds that restart, stop, come back, lie and talk nonsense.

mod common;

use common::{Dashboard, node, recording};
use dashboard::feed::http::{self, Admin};
use dashboard::feed::recording::{Recorder, Replay};
use dashboard::feed::{self, FeedEvent, detail};
use proptest::prelude::*;
use serde_json::json;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A root that runs for `seconds`, from `uptime` on, at 1,000 bytes a second.
fn running(dashboard: &mut Dashboard, uptime: f64, seconds: u32) {
    for second in 0..seconds {
        dashboard.nodes(&[node("root", None, uptime + f64::from(second), 1000)]);
        dashboard.wait(1.0);
    }
}

fn connected() -> Dashboard {
    let mut dashboard = Dashboard::new();
    dashboard.feed(FeedEvent::Connected);
    dashboard
}

#[test]
fn rates_are_right_and_unknown_before_the_second_snapshot() {
    let mut dashboard = connected();
    running(&mut dashboard, 10.0, 1);
    assert!(dashboard.find("root  ").contains("     -     -       -"));
    running(&mut dashboard, 11.0, 3);
    assert!(dashboard.find("root  ").contains("8.00k 8.00k       0"));
}

#[test]
fn a_restart_shows_no_wrong_rate_and_is_told() {
    let mut dashboard = connected();
    running(&mut dashboard, 7200.0, 5);
    // Its counters begin at 0 again.
    running(&mut dashboard, 0.5, 1);
    let rates = dashboard.state.node("root").unwrap().rates(dashboard.now).unwrap();
    assert!((rates.bits_out - 8000.0).abs() < 1.0, "{rates:?}");
    running(&mut dashboard, 1.5, 5);
    let rates = dashboard.state.node("root").unwrap().rates(dashboard.now).unwrap();
    assert!((rates.bits_out - 8000.0).abs() < 1.0, "{rates:?}");
    assert!(dashboard.find("restarted").contains("root"));
}

#[test]
fn a_gap_leaves_a_gap_and_the_rate_over_it_is_the_mean() {
    let mut dashboard = connected();
    running(&mut dashboard, 100.0, 3);
    dashboard.wait(30.0);
    assert!(dashboard.find("root  ").contains("     -     -       -"));
    assert!(dashboard.screen(80, 24).lines().next().unwrap().contains("stale"));
    running(&mut dashboard, 133.0, 1);
    let node = dashboard.state.node("root").unwrap();
    assert!((node.rates(dashboard.now).unwrap().bits_out - 8000.0).abs() < 1.0);
    let columns = node
        .history
        .columns(40, 40, 0, dashboard::state::history::Fold::Max, |it| Some(it.viewers as f64));
    let known = columns.iter().flatten().count();
    assert_eq!(known, 4, "{columns:?}");
}

#[test]
fn nonsense_is_shown_and_the_feed_goes_on() {
    let mut dashboard = connected();
    running(&mut dashboard, 10.0, 2);
    for line in ["", "{}", "[1,2", "\u{1b}[2J", r#"{"node":"x","at":"never","nodes":[]}"#] {
        dashboard.line(line);
    }
    let screen = dashboard.screen(80, 24);
    assert!(screen.contains("5 unreadable lines"), "{screen}");
    running(&mut dashboard, 12.0, 1);
    assert!(dashboard.find("root  ").contains("8.00k"));
    assert!(dashboard.screen(80, 24).lines().next().unwrap().contains("live"));
}

#[test]
fn only_nonsense_makes_the_feed_stale() {
    let mut dashboard = connected();
    for _ in 0..6 {
        dashboard.line("nonsense");
        dashboard.wait(1.0);
    }
    let screen = dashboard.screen(80, 24);
    assert!(screen.contains("stale 6s") && screen.contains("6 unreadable lines"), "{screen}");
}

#[test]
fn a_node_that_vanishes_is_down_and_one_that_returns_is_not() {
    let mut dashboard = connected();
    for up in 0..4 {
        let up = f64::from(up);
        dashboard.nodes(&[node("root", None, up, 10), node("edge", Some("root"), up, 10)]);
        dashboard.wait(1.0);
    }
    dashboard.nodes(&[node("root", None, 4.0, 10)]);
    let line = dashboard.find("└─edge");
    assert!(line.contains("down") && line.contains("-     -"), "{line}");
    dashboard.wait(1.0);
    dashboard.nodes(&[node("root", None, 5.0, 10), node("edge", Some("root"), 5.0, 10)]);
    assert!(dashboard.find("└─edge").contains("ok"));
    dashboard.type_in("5");
    let screen = dashboard.screen(80, 24);
    assert!(
        screen.contains("is no longer reported") && screen.contains("reports again"),
        "{screen}"
    );
}

#[test]
fn a_node_that_reports_nothing_new_loses_its_rates_and_is_warned_of() {
    let mut dashboard = connected();
    for up in 0..12 {
        let up = f64::from(up);
        let edge = node("edge", Some("root"), up.min(4.0), 1000);
        dashboard.nodes(&[node("root", None, up, 1000), edge]);
        dashboard.wait(1.0);
    }
    let line = dashboard.find("└─edge");
    assert!(line.contains("warning") && line.contains("    -     -"), "{line}");
    assert!(dashboard.find("sent nothing new").contains("edge"));
}

#[test]
fn two_nodes_of_one_name_are_warned_of() {
    let mut dashboard = connected();
    dashboard.nodes(&[node("edge", None, 1.0, 10), node("edge", None, 99.0, 10)]);
    assert!(dashboard.find("several nodes").starts_with("warning: edge"));
}

#[test]
fn control_codes_from_peers_never_reach_the_screen() {
    let evil = "\u{1b}]0;owned\u{7}\u{1b}[31m\r\n\u{202e}\u{200b}x";
    let mut dashboard = connected();
    for up in 1..4 {
        let mut root = node(evil, Some(evil), f64::from(up), 10);
        root["version"] = json!(evil);
        root["reason"] = json!(evil);
        root["state"] = json!("warning");
        root["upstream"] = json!([{ "url": evil, "state": "waiting", "error": evil }]);
        root["drops"] = json!({ evil: { "objects": up } });
        root["tracks"] = json!([{ "name": evil, "subscribers": 1, "bytes_in": 1, "bytes_out": 1 }]);
        root["sessions"] = json!([{ "id": evil, "kind": evil, "transport": evil, "protocol": evil,
            "remote": format!("{evil}{up}"), "bytes_out": 1 }]);
        dashboard.nodes(&[root]);
        dashboard.line(&format!("{{\"{evil}"));
        dashboard.wait(1.0);
    }
    for keys in ["", "\n", "\t", "3", "4", "5", "w"] {
        let screen = dashboard.type_in(keys).screen(120, 40);
        let bad = |c: &char| c.is_control() && *c != '\n' || ['\u{200b}', '\u{202e}'].contains(c);
        assert_eq!(screen.chars().find(bad), None, "after {keys:?}:\n{screen}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Any values in any order: nothing panics and no rate is negative.
    #[test]
    fn whatever_counters_do_nothing_breaks(
        steps in prop::collection::vec(
            (any::<f64>(), any::<u64>(), any::<u64>(), any::<u64>(), 0.0f64..20.0, 0usize..4),
            1..12,
        ),
    ) {
        let mut dashboard = connected();
        for (uptime, a, b, c, wait, kind) in steps {
            let mut root = node("root", ["root", "edge"].get(kind).copied(), 0.0, 0);
            root["uptime_s"] = json!(if uptime.is_finite() { uptime } else { 0.0 });
            for (field, value) in [("bytes_in", a), ("bytes_out", b), ("viewers", c), ("objects_in", a)] {
                root[field] = json!(value);
            }
            root["drops"] = json!({ "CANCELLED": { "objects": c }, "NEW": { "objects": a } });
            root["sessions"] = json!([{ "id": "s", "kind": "viewer", "transport": "quic",
                "protocol": "", "remote": "r", "bytes_out": a, "queued_bytes": b, "behind_ms": c,
                "drops": { "CANCELLED": { "objects": b } } }]);
            root["tracks"] = json!([{ "name": "t", "subscribers": a, "bytes_in": b,
                "bytes_out": c, "largest": [a, b] }]);
            match kind {
                3 => dashboard.feed(FeedEvent::Lost {
                    error: "x".into(),
                    advice: None,
                    retry_in: Duration::ZERO,
                }),
                2 => dashboard.nodes(&[]),
                _ => dashboard.nodes(&[root]),
            }
            dashboard.wait(wait);
            for keys in ["1", "\n", "3", "4", "5"] {
                let screen = dashboard.type_in(keys).screen(80, 24);
                // A minus sign before a digit, outside of names and addresses.
                let negative = screen.split_whitespace().any(|word| {
                    word.starts_with('-') && word[1..].starts_with(|c: char| c.is_ascii_digit())
                });
                prop_assert!(!negative, "{screen}");
            }
        }
    }
}

/// Answers each connection with the next of these and closes it; gives the requests back.
async fn server(
    token: Option<&str>,
    answers: Vec<Vec<u8>>,
) -> (Admin, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let task = tokio::spawn(async move {
        let mut requests = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            requests.push(String::from_utf8(request).unwrap());
            stream.write_all(&answer).await.unwrap();
            stream.shutdown().await.unwrap();
        }
        requests
    });
    (Admin::new(url, token).unwrap(), task)
}

fn answer(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{body}").into_bytes()
}

fn word(event: &FeedEvent) -> String {
    match event {
        FeedEvent::Connecting => "connecting".into(),
        FeedEvent::Connected => "connected".into(),
        FeedEvent::Tree(tree) => format!("tree of {}", tree.node),
        FeedEvent::Nonsense(_) => "nonsense".into(),
        FeedEvent::Detail(node) => format!("detail of {}", node.node),
        FeedEvent::Lost { error, .. } => format!("lost: {error}"),
        FeedEvent::Ended => "ended".into(),
    }
}

#[tokio::test]
async fn a_feed_reconnects_and_says_each_time_what_was_wrong() {
    let tree =
        |node: &str| format!(r#"{{"node":"{node}","at":"2026-01-01T00:00:00Z","nodes":[]}}"#);
    let (admin, server) = server(
        None,
        vec![
            answer(&format!("{}\n??\n{}", tree("a"), tree("b"))),
            b"HTTP/1.1 404 Not Found\r\nconnection: close\r\n\r\n".to_vec(),
            b"SSH-2.0-OpenSSH\r\n".to_vec(),
            answer(&format!("{}\n", tree("c"))),
        ],
    )
    .await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("feed.jsonl");
    let (sender, mut events) = feed::channel();
    let feed = tokio::spawn(http::run(admin, Some(Recorder::create(&path).unwrap()), sender));
    let mut words = Vec::new();
    while words.last().is_none_or(|word: &String| word != "tree of c") {
        words.push(word(&events.recv().await.unwrap()));
    }
    feed.abort();
    let requests = server.await.unwrap();
    assert!(requests.iter().all(|it| it.starts_with("GET /api/v1/nodes/watch HTTP/1.1\r\n")));
    assert!(!requests.concat().to_lowercase().contains("authorization"));
    let cut = "connecting connected";
    assert_eq!(words[..2].join(" "), cut);
    // The line without an end was cut off: it is none.
    assert_eq!(words[2..5], ["tree of a", "nonsense", "lost: the relay closed the feed"]);
    assert_eq!(words[5], "connecting");
    assert!(words[6].contains("404") && words[6].contains("no admin address"), "{words:?}");
    assert_eq!(words[7], "connecting");
    assert!(words[8].starts_with("lost: "), "{words:?}");
    assert_eq!(words[9..], ["connecting", "connected", "tree of c"]);

    // The recording holds what came, nonsense too.
    let mut replay = Replay::open(&path).unwrap();
    let mut replayed = Vec::new();
    while let Some((_, event)) = replay.poll_event().unwrap() {
        replayed.push(word(&event));
    }
    assert_eq!(replayed, ["tree of a", "nonsense", "tree of c"]);
}

#[test]
fn a_recording_and_its_file_are_the_same() {
    let lines = std::fs::read_to_string(recording("tree.jsonl")).unwrap().lines().count();
    let mut replay = Replay::open(&recording("tree.jsonl")).unwrap();
    let (mut trees, mut details) = (0, 0);
    while let Some((_, event)) = replay.poll_event().unwrap() {
        trees += usize::from(matches!(event, FeedEvent::Tree(_)));
        details += usize::from(matches!(event, FeedEvent::Detail(_)));
    }
    assert!(trees > 0 && details > 0);
    assert_eq!(trees + details, lines);
}

/// A status, and what else an API that asks for a token says.
fn refusal(status: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\nwww-authenticate: Bearer realm=\"weir\"\r\nconnection: close\r\n\r\n"
    )
    .into_bytes()
}

#[tokio::test]
async fn a_token_is_sent_and_a_relay_that_asks_for_one_says_what_to_set() {
    for (token, says) in [(None, "WEIR_ADMIN_TOKEN_FILE to the file"), (Some("s3cret"), "another")]
    {
        let (admin, server) = server(token, vec![refusal("401 Unauthorized")]).await;
        let (sender, mut events) = feed::channel();
        let feed = tokio::spawn(http::run(admin, None, sender));
        let mut dashboard = Dashboard::new();
        loop {
            let event = events.recv().await.unwrap();
            let lost = matches!(event, FeedEvent::Lost { .. });
            dashboard.feed(event);
            if lost {
                break;
            }
        }
        feed.abort();
        let request = server.await.unwrap().concat();
        let sent = request.lines().find_map(|line| line.strip_prefix("authorization: "));
        assert_eq!(sent, token.map(|_| "Bearer s3cret"));
        let screen = dashboard.screen(80, 24).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(screen.contains("HTTP 401") && screen.contains(says), "{screen}");
        assert!(!screen.contains("Is a relay running there"), "{screen}");
    }
}

#[tokio::test]
async fn everything_of_a_node_is_asked_for_while_it_is_looked_at() {
    let lines = |name: &str| format!("{}\n", node(name, Some("root"), 5.0, 10));
    let (admin, server) = server(
        Some("s3cret"),
        vec![answer(&lines("edge 1")), answer(&lines("low")), refusal("404 Not Found")],
    )
    .await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("feed.jsonl");
    let looked_at = tokio::sync::watch::Sender::new(None);
    let (sender, mut events) = feed::channel();
    let recorder = Recorder::create(&path).unwrap();
    let details = detail::run(admin, looked_at.subscribe(), Some(recorder), sender);
    let details = tokio::spawn(details);
    for name in ["edge 1", "low"] {
        looked_at.send_replace(Some(name.to_owned()));
        assert_eq!(word(&events.recv().await.unwrap()), format!("detail of {name}"));
    }
    // An older relay has no such path: nothing is said of it.
    looked_at.send_replace(Some("old".to_owned()));
    let requests = server.await.unwrap();
    let asked: Vec<_> = requests.iter().map(|it| it.split(' ').nth(1).unwrap()).collect();
    let paths = ["edge%201", "low", "old"].map(|name| format!("/api/v1/nodes/{name}/watch"));
    assert_eq!(asked, paths);
    assert!(requests.iter().all(|it| it.contains("authorization: Bearer s3cret\r\n")));
    drop(looked_at);
    details.await.unwrap();
    assert!(events.recv().await.is_none(), "and nothing else came");
    let mut replay = Replay::open(&path).unwrap();
    let (_, replayed) = replay.poll_event().unwrap().unwrap();
    assert_eq!(word(&replayed), "detail of edge 1");
}
