//! What an operator may tell a relay, and who is taken for one.

mod common;

use std::process::Stdio;

use common::{Heard, Machine, Relay, Subscriber, ended, track_name, within};
use moqt::Namespace;
use transport::publish::{Broadcast, TrackOptions};

const NAMESPACE: &str = "live/camera";
const TRACK: &str = "video";
const FIRST: (u64, u64, u64) = (0, 0, 0);

/// IDs of the sessions of a kind.
async fn ids(relay: &Relay, kind: &str) -> Vec<String> {
    let (status, body) = relay.admin("/api/v1/sessions").await;
    assert_eq!(status, 200, "{body}");
    let sessions: serde_json::Value = serde_json::from_str(&body).unwrap();
    let sessions = sessions.as_array().unwrap().iter().filter(|session| session["kind"] == kind);
    sessions.map(|session| session["id"].as_str().unwrap().to_owned()).collect()
}

/// What a session hears last.
async fn lost(viewer: &mut Subscriber) {
    while !matches!(viewer.next().await, Heard::Lost(_)) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_ends_one_session_and_no_other() {
    let machine = Machine::new();
    let relay = machine.relay("relay", &[]);
    let live = Broadcast::new(Namespace::from_path(NAMESPACE).unwrap());
    let mut track = live.create_track(TRACK, TrackOptions::default());
    track.begin_group(FIRST.0);
    common::write(&mut track, FIRST);
    let _published = common::publish(&live, &relay.address()).await;
    let name = track_name(NAMESPACE, TRACK);
    let mut unwanted = Subscriber::subscribe(&relay, &name).await;
    unwanted.expect(FIRST).await;
    let known = |node: &serde_json::Value| node["viewers"] == 1 && node["publishers"] == 1;
    relay.snapshot_shows("who does what", known).await;
    let id = ids(&relay, "viewer").await.pop().expect("a viewer");
    let mut other = Subscriber::subscribe(&relay, &name).await;
    other.expect(FIRST).await;

    let path = format!("/api/v1/sessions/{id}");
    assert_eq!(relay.ask_admin("DELETE", &path, "", "").await, (204, String::new()));
    within("the session to end", lost(&mut unwanted)).await;
    relay.snapshot_shows("one viewer less", |node| node["viewers"] == 1).await;
    assert!(!ids(&relay, "viewer").await.contains(&id));
    assert_eq!(relay.ask_admin("DELETE", &path, "", "").await.0, 404);
    for never in ["0", "4294967296", "-1", "x"] {
        let path = format!("/api/v1/sessions/{never}");
        assert_eq!(relay.ask_admin("DELETE", &path, "", "").await.0, 404, "{never}");
    }

    let next = (1, 0, 0);
    track.begin_group(next.0);
    common::write(&mut track, next);
    other.expect(next).await;
    assert_eq!(relay.sessions("publisher").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_drains_tells_everyone_where_to_go_and_takes_no_one_in() {
    let machine = Machine::new();
    let relay = machine.relay("relay", &[]);
    let mut viewer = Subscriber::connect(&relay, &relay.url()).await;
    relay.snapshot_shows("the viewer", |node| node["sessions"][0]["id"].is_string()).await;
    assert_eq!(relay.admin("/ready").await.0, 200);

    let wrong = relay.ask_admin("POST", "/api/v1/drain", "", "{\"to\": \"ftp://a\"}").await;
    assert!(wrong.0 == 400 && wrong.1.contains("moqt://"), "{wrong:?}");
    assert_eq!(relay.admin("/ready").await.0, 200, "a wrong word does nothing");

    let body = "{\"to\": \"moqt://elsewhere.example:4433\", \"patience_s\": 1}";
    assert_eq!(relay.ask_admin("POST", "/api/v1/drain", "", body).await.0, 202);
    let (status, reason) = relay.admin("/ready").await;
    assert!(status == 503 && reason.contains("draining"), "{reason}");
    assert_eq!(relay.snapshot().await["state"], "draining");
    let metrics = relay.admin("/metrics").await.1;
    assert!(metrics.contains("weir_node_state{state=\"draining\"} 1\n"), "{metrics}");

    loop {
        if let Heard::GoAway(goaway) = viewer.next().await {
            assert_eq!(&goaway.uri[..], b"moqt://elsewhere.example:4433");
            break;
        }
    }
    let newcomer = async {
        let endpoint = common::endpoint();
        endpoint.connect(&relay.url(), &relay.tls()).await
    };
    assert!(within("the refusal", newcomer).await.is_err());
    // This one does not take the hint.
    within("the one who stays to be closed", lost(&mut viewer)).await;
    relay.snapshot_shows("nobody", |node| node["sessions"] == serde_json::json!([])).await;
}

#[tokio::test]
async fn an_admin_api_for_others_without_a_token_is_no_start() {
    let machine = Machine::new();
    let arguments = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--admin", "0.0.0.0:0"];
    let child = machine.command().args(arguments).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap();
    assert_eq!(ended(&mut child).await.code(), Some(2));
    let said = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
    assert!(said.contains("--admin-token-file") && said.contains("127.0.0.1"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_asked_for_on_loopback_too_and_never_logged() {
    const TOKEN: &str = "b86f0d2c-not-for-others";
    let machine = Machine::new();
    let file = machine.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let relay = machine.relay("relay", &["--admin-token-file", file.to_str().unwrap()]);
    for (path, status) in
        [("/health", 200), ("/ready", 200), ("/metrics", 401), ("/api/v1/nodes", 401)]
    {
        assert_eq!(relay.admin(path).await.0, status, "{path}");
    }
    let known = format!("Authorization: Bearer {TOKEN}\r\n");
    for path in ["/metrics", "/api/v1/nodes"] {
        assert_eq!(relay.ask_admin("GET", path, &known, "").await.0, 200, "{path}");
    }
    let wrong = "Authorization: Bearer b86f0d2c-not-for-otherz\r\n";
    assert_eq!(relay.ask_admin("POST", "/api/v1/drain", wrong, "").await.0, 401);
    assert!(!relay.log().contains(TOKEN));
    assert_eq!(relay.admin("/ready").await.0, 200, "a stranger drained it");
}
