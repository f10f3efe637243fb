//! The JSON of the admin API, as scripts read it.

use serde_json::{Value, json};
use stats::{DropReason, NodeSnapshot, NodeState, SessionKind, Transport, Tree, UpstreamState};

/// The example of the contract.
fn example() -> Value {
    json!({ "node": "edge-1", "at": "2026-01-01T00:00:00Z", "nodes": [{
        "node": "edge-1", "parent": "root", "state": "ok", "uptime_s": 12.5, "version": "0.1.0",
        "viewers": 3, "relays": 0, "publishers": 0,
        "upstream": [{ "url": "moqt://root:4433", "state": "connected", "rtt_ms": 1.2 }],
        "bytes_in": 1, "bytes_out": 2, "objects_in": 3, "objects_out": 4,
        "drops": {
            "DELIVERY_TIMEOUT": { "groups": 1, "objects": 2, "bytes": 3 },
            "TOO_FAR_BEHIND": { "groups": 0, "objects": 0, "bytes": 0 },
            "EXCESSIVE_LOAD": { "groups": 0, "objects": 0, "bytes": 0 },
            "CANCELLED": { "groups": 0, "objects": 0, "bytes": 0 },
            "UPSTREAM_RESET": { "groups": 0, "objects": 0, "bytes": 0 },
            "SESSION_CLOSED": { "groups": 0, "objects": 0, "bytes": 0 },
        },
        "tracks": [{ "name": "live/cam1/video0", "subscribers": 3, "bytes_in": 1, "bytes_out": 1,
            "largest": [1041, 29] }],
        "sessions": [{ "id": "s1", "kind": "viewer", "transport": "webtransport",
            "protocol": "moqt-18", "remote": "192.0.2.1:5000", "rtt_ms": 1.2, "bytes_out": 1,
            "queued_bytes": 0, "behind_ms": 0, "drops": {} }],
    }]})
}

fn line(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}

#[test]
fn the_example_of_the_contract_reads_and_writes_back_the_same() {
    let tree = Tree::from_line(&line(&example())).unwrap();
    let node = &tree.nodes[0];
    assert_eq!(node.state, NodeState::Ok);
    assert_eq!(node.upstream[0].state, UpstreamState::Connected);
    assert_eq!(node.drops[DropReason::DeliveryTimeout].objects, 2);
    assert_eq!(node.tracks[0].largest, Some([1041, 29]));
    assert_eq!(node.sessions[0].kind, SessionKind::Viewer);
    assert_eq!(node.sessions[0].transport, Transport::WebTransport);
    assert_eq!(serde_json::to_value(&tree).unwrap(), example());
}

#[test]
fn what_a_newer_node_adds_is_skipped() {
    let mut value = example();
    let node = &mut value["nodes"][0];
    node["hop_latency"] = json!([[1, 2]]);
    node["state"] = json!("dreaming");
    node["upstream"][0]["state"] = json!("flirting");
    node["sessions"][0]["kind"] = json!("moderator");
    node["sessions"][0]["transport"] = json!("pigeon");
    node["drops"]["SOLAR_FLARE"] = json!({ "objects": 5 });
    let tree = Tree::from_line(&line(&value)).unwrap();
    let node = &tree.nodes[0];
    assert_eq!(node.state, NodeState::Unknown);
    assert_eq!(node.upstream[0].state, UpstreamState::Unknown);
    assert_eq!(node.sessions[0].kind, SessionKind::Unknown);
    assert_eq!(node.sessions[0].transport, Transport::Unknown);
    assert_eq!(node.drops[DropReason::Other].objects, 5);
}

#[test]
fn what_is_not_known_is_none_and_not_zero() {
    let mut value = example();
    let session = value["nodes"][0]["sessions"][0].as_object_mut().unwrap();
    for field in ["rtt_ms", "queued_bytes", "behind_ms"] {
        session.remove(field);
    }
    value["nodes"][0]["upstream"][0]["rtt_ms"] = Value::Null;
    let tree = Tree::from_line(&line(&value)).unwrap();
    let session = &tree.nodes[0].sessions[0];
    assert_eq!((session.rtt_ms, session.queued_bytes, session.behind_ms), (None, None, None));
    assert_eq!(tree.nodes[0].upstream[0].rtt_ms, None);
}

/// What a node may say beyond the example.
fn full() -> Value {
    let mut value = example();
    let node = value["nodes"][0].as_object_mut().unwrap();
    node.insert("certificate_expires".into(), json!("2026-01-14T00:00:00Z"));
    node.insert("clock_offset_ms".into(), json!(-12.5));
    node.insert("clock_error_ms".into(), json!(0.6));
    node.insert("udp_buffers".into(), json!({ "receive": 1, "send": 2, "wanted": 3 }));
    node.insert(
        "seen".into(),
        json!({ "viewers": 2, "latency_ms": { "p50": 300.0, "p95": 420.0 }, "join_ms": 180.0,
            "stalls": 4, "stalled_ms": 900, "frames_dropped": 7 }),
    );
    let track = node["tracks"][0].as_object_mut().unwrap();
    track.extend([
        ("group_ms".into(), json!(2000.0)),
        ("hop_latency_ms".into(), json!({ "p50": 1.0, "p95": 2.0 })),
        ("latency_ms".into(), json!({ "p50": 3.0, "p95": 4.0 })),
        ("latency_error_ms".into(), json!(0.5)),
        ("inter_arrival_ms".into(), json!({ "p50": 33.0, "p95": 40.0 })),
        ("drops".into(), json!({ "CANCELLED": { "groups": 1, "objects": 2, "bytes": 3 } })),
        (
            "groups".into(),
            json!([{ "group": 7, "objects": 30, "bytes": 900, "offered": 90, "sent": 80 }]),
        ),
    ]);
    value
}

#[test]
fn all_that_a_node_may_say_reads_and_writes_back_the_same() {
    let tree = Tree::from_line(&line(&full())).unwrap();
    assert_eq!(serde_json::to_value(&tree).unwrap(), full());
}

#[test]
fn measured_nonsense_is_unknown_and_long_lists_are_cut() {
    let mut value = full();
    let node = &mut value["nodes"][0];
    node["clock_error_ms"] = json!(-1.0);
    node["seen"]["latency_ms"]["p95"] = json!(-1.0);
    node["seen"]["latency_error_ms"] = json!(-1.0);
    node["seen"]["join_ms"] = json!(-1.0);
    let track = &mut node["tracks"][0];
    for field in ["group_ms", "latency_error_ms"] {
        track[field] = json!(-1.0);
    }
    for field in ["hop_latency_ms", "latency_ms", "inter_arrival_ms"] {
        track[field]["p50"] = json!(-1.0);
    }
    track["groups"] = (0..100).map(|group| json!({ "group": group })).collect();
    let tree = Tree::from_line(&line(&value)).unwrap();
    let node = &tree.nodes[0];
    let seen = node.seen.unwrap();
    assert_eq!((node.clock_error_ms, seen.latency_ms, seen.join_ms), (None, None, None));
    assert_eq!(seen.latency_error_ms, None);
    let track = &node.tracks[0];
    assert_eq!((track.group_ms, track.latency_error_ms), (None, None));
    assert_eq!(
        (track.hop_latency_ms, track.latency_ms, track.inter_arrival_ms),
        (None, None, None)
    );
    let groups: Vec<u64> = track.groups.iter().map(|group| group.group).collect();
    assert_eq!(groups, (92..100).collect::<Vec<_>>());
}

#[test]
fn words_in_the_api_are_those_that_people_see() {
    for state in [NodeState::Ok, NodeState::Warning, NodeState::Draining, NodeState::Down] {
        assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
    }
    use UpstreamState::{Connected, Connecting, Standby, Waiting};
    for state in [Connected, Connecting, Waiting, Standby] {
        assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
    }
    for kind in [SessionKind::Viewer, SessionKind::Relay, SessionKind::Publisher] {
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
    }
    for transport in [Transport::Quic, Transport::WebTransport, Transport::WebSocket] {
        assert_eq!(serde_json::to_value(transport).unwrap(), transport.as_str());
    }
}

#[test]
fn hostile_text_and_figures_come_out_harmless() {
    let mut value = example();
    let node = &mut value["nodes"][0];
    node["node"] = json!("\u{1b}]0;owned\u{7}");
    node["parent"] = json!("\u{202e}toor");
    node["reason"] = json!("a\nb");
    node["tracks"][0]["name"] = json!("x".repeat(10_000));
    node["upstream"][0]["rtt_ms"] = json!(-1.0);
    node["uptime_s"] = json!(-5.0);
    let tree = Tree::from_line(&line(&value)).unwrap();
    let node: &NodeSnapshot = &tree.nodes[0];
    assert_eq!(node.node, "\u{fffd}]0;owned\u{fffd}");
    assert_eq!(node.parent.as_deref(), Some("\u{fffd}toor"));
    assert_eq!(node.reason.as_deref(), Some("a\u{fffd}b"));
    assert_eq!(node.tracks[0].name.chars().count(), stats::MAX_TEXT_CHARS);
    assert_eq!(node.upstream[0].rtt_ms, None);
    assert_eq!(node.uptime_s, 0.0);
}

#[test]
fn nonsense_is_an_error_and_no_panic() {
    for line in [
        &b""[..],
        b"{}",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"{\"node\":1}",
        b"{\"node\":\"a\",\"at\":\"yesterday\",\"nodes\":[]}",
    ] {
        assert!(Tree::from_line(line).is_err(), "{line:?}");
    }
}
