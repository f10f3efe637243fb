//! What viewers report is taken, put together and passed to nobody; whoever reports nonsense harms
//! nothing but its own figures.

mod common;
#[path = "conformance/peer.rs"]
#[allow(dead_code, reason = "each test program uses a part of it")]
mod peer;

use common::{Machine, Relay};
use moqt::{
    Parameters, Properties, Publish, PublishDone, PublishDoneCode, PublishNamespace, Request,
    RequestErrorCode, RequestId, ResetCode, Response, Version,
};
use peer::{Heard, Peer, header, name, namespace};
use serde_json::json;

/// Every draft the relay speaks.
const EVERY: [Version; 3] = [Version::Draft16, Version::Draft18, Version::Draft22];
const ALIAS: u64 = 7;
const REPORTS: &str = "weir/viewers/0123456789abcdef";

async fn publish(peer: &Peer, track_alias: u64, path: &str, track: &'static str) -> RequestId {
    let request = Request::Publish(Publish {
        track: name(path, track),
        track_alias,
        parameters: Parameters::default(),
        properties: Properties::new(),
    });
    peer.request(request).await
}

/// A viewer whose reports are wanted.
async fn viewer(relay: &Relay, version: Version) -> (Peer, RequestId) {
    let mut peer = Peer::connect(relay, version).await;
    let id = publish(&peer, ALIAS, REPORTS, "report").await;
    let answer = peer.answer(id).await;
    assert!(matches!(answer, Response::Ok(_)), "{answer:?}");
    (peer, id)
}

async fn tell(peer: &Peer, group: u64, report: &[u8]) {
    let mut stream = peer.open(header(ALIAS, group)).await;
    stream.object(0, report).await;
    stream.finish();
}

fn stalls(count: u64) -> Vec<u8> {
    json!({ "stalls": count, "stalled_ms": count * 1000, "frames_dropped": 1 }).to_string().into()
}

async fn seen(relay: &Relay, what: &str, wanted: impl Fn(&serde_json::Value) -> bool) {
    relay.snapshot_shows(what, |node| wanted(&node["seen"])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_viewers_report_is_put_together() {
    let machine = Machine::new();
    for version in EVERY {
        let relay = machine.relay(version.alpn(), &[]);
        assert_eq!(relay.snapshot().await.get("seen"), None, "nobody said a thing");
        let mut viewers = Vec::new();
        for latency in [80, 120, 200] {
            let (mut peer, id) = viewer(&relay, version).await;
            let report = json!({
                "latency_ms": latency, "latency_error_ms": 2.5, "stalls": 1, "stalled_ms": 1500,
                "frames_dropped": 4, "join_ms": 300 + latency, "transport": "webtransport",
            });
            tell(&peer, 0, report.to_string().as_bytes()).await;
            // Nothing more is asked of it.
            peer.never("a request", |heard| {
                use moqt::Event::{Requested, Updated};
                matches!(heard, Heard::Session(Requested { .. } | Updated { .. }))
            })
            .await;
            viewers.push((peer, id));
        }
        let all = json!({
            "viewers": 3, "latency_ms": { "p50": 120.0, "p95": 200.0 }, "latency_error_ms": 2.5,
            "join_ms": 420.0, "stalls": 3, "stalled_ms": 4500, "frames_dropped": 12,
        });
        seen(&relay, "three reports", |seen| *seen == all).await;
        relay
            .snapshot_shows("three viewers and no publisher", |node| {
                node["viewers"] == 3 && node["publishers"] == 0
            })
            .await;
        let (_, metrics) = relay.admin("/metrics").await;
        for line in [
            "weir_viewers_reporting{transport=\"webtransport\"} 3",
            "weir_viewer_latency_seconds_count 3",
            "weir_viewer_join_seconds_bucket{le=\"0.5\"} 3",
            "weir_viewer_stalled_seconds_total 4.5",
        ] {
            assert!(metrics.lines().any(|found| found == line), "{line}: {metrics}");
        }

        // One goes on, one leaves with a word, one without.
        let (mut leaver, id) = viewers.pop().unwrap();
        let done =
            PublishDone { code: PublishDoneCode::TRACK_ENDED, stream_count: 1, reason: "".into() };
        leaver.respond(id, Response::PublishDone(done)).await;
        leaver.fence().await;
        drop(viewers.pop());
        let more = json!({ "stalls": 2, "stalled_ms": 2000, "frames_dropped": 4 });
        tell(&viewers[0].0, 1, more.to_string().as_bytes()).await;
        seen(&relay, "one more stall", |seen| seen["stalls"] == 4 && seen["stalled_ms"] == 5000)
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_are_passed_to_nobody() {
    let machine = Machine::new();
    let root = machine.relay("root", &[]);
    let edge = machine.relay("edge", &["--upstream", root.url().as_str()]);
    edge.connected().await;
    let (peer, _) = viewer(&edge, Version::Draft18).await;
    tell(&peer, 0, &stalls(1)).await;
    seen(&edge, "the report", |seen| seen["viewers"] == 1).await;
    // What it comes to is known above.
    let told = async {
        loop {
            let (_, tree) = root.admin("/api/v1/nodes").await;
            let tree: serde_json::Value = serde_json::from_str(&tree).unwrap();
            let nodes = tree["nodes"].as_array().unwrap();
            if nodes.iter().any(|node| node["node"] == "edge" && node["seen"]["stalls"] == 1) {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    common::within("the root to know", told).await;
    for relay in [&edge, &root] {
        let mut curious = Peer::connect(relay, Version::Draft18).await;
        let id = curious.subscribe(&name(REPORTS, "report"), Parameters::default()).await;
        assert_eq!(curious.refusal(id).await.code, RequestErrorCode::DOES_NOT_EXIST);
        let tracks = relay.snapshot().await["tracks"].to_string();
        assert!(!tracks.contains("weir/viewers"), "{tracks}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_publish_nothing_else_below_weir() {
    let machine = Machine::new();
    for version in EVERY {
        let relay = machine.relay(version.alpn(), &[]);
        let mut peer = Peer::connect(&relay, version).await;
        for (path, track) in [
            (REPORTS, "reports"),
            ("weir/viewers/0123456789ABCDEFG", "report"),
            ("weir/viewers", "report"),
            ("weir/nodes/edge", "snapshot"),
            ("weir/nodes/edge", "detail"),
            ("weir/clock", "now"),
            ("weir/clock/live/cam1", "now"),
            ("weir", "anything"),
        ] {
            let id = publish(&peer, ALIAS, path, track).await;
            let refused = peer.refusal(id).await.code;
            assert_eq!(refused, RequestErrorCode::UNAUTHORIZED, "PUBLISH of {path} {track}");
            let request =
                PublishNamespace { namespace: namespace(path), parameters: Parameters::default() };
            let id = peer.request(Request::PublishNamespace(request)).await;
            let refused = peer.refusal(id).await.code;
            assert_eq!(refused, RequestErrorCode::UNAUTHORIZED, "PUBLISH_NAMESPACE of {path}");
        }
        let (status, broadcasts) = relay.admin("/api/v1/broadcasts").await;
        assert_eq!((status, broadcasts.as_str()), (200, "[]"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reports_nonsense_harms_nobody() {
    let machine = Machine::new();
    let relay = machine.relay("relay", &[]);
    let (mut hostile, _) = viewer(&relay, Version::Draft18).await;
    // One track a session.
    let id = publish(&hostile, 8, "weir/viewers/ffffffffffffffff", "report").await;
    assert_eq!(hostile.refusal(id).await.code, RequestErrorCode::EXCESSIVE_LOAD);

    let huge = format!("{{\"stalls\":1{}}}", " ".repeat(5000));
    let absurd = r#"{"stalls":18446744073709551615,"stalled_ms":1,"frames_dropped":1}"#;
    let deep = "[".repeat(4000);
    let mut group = 0;
    for nonsense in [huge.as_str(), absurd, &deep, "", "\u{1b}[31m"] {
        tell(&hostile, group, nonsense.as_bytes()).await;
        group += 1;
        // As fast as is read.
        tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    }
    // One that never ends, and a flood behind it: most of that is stopped unread.
    let mut open = hostile.open(header(ALIAS, group)).await;
    open.part(0, b"{", 4000).await;
    let mut streams = Vec::new();
    for next in 1..=10 {
        streams.push(hostile.open(header(ALIAS, group + next)).await);
    }
    assert_eq!(streams[9].stopped().await, Some(ResetCode::EXCESSIVE_LOAD));
    hostile.fence().await;

    let (honest, _) = viewer(&relay, Version::Draft18).await;
    tell(&honest, 0, &stalls(2)).await;
    seen(&relay, "the honest viewer's report only", |seen| {
        seen["viewers"] == 1 && seen["stalls"] == 2
    })
    .await;
    let log = relay.log();
    assert_eq!(log.matches("no report of a viewer's").count(), 4, "{log}");
    assert!(log.contains("stalls cannot be"), "{log}");
    assert!(!log.contains('\u{1b}'), "escape codes in the log");
}
