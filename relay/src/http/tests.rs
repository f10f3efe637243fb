//! The servers as their clients see them: real sockets on loopback, a made-up node behind them.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use axum::http::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use stats::{
    DropCounts, DropReason, NodeSnapshot, NodeState, Percentiles, SessionKind, SessionSnapshot,
    TrackSnapshot, Transport, Tree, UdpBuffers, UpstreamSnapshot, UpstreamState,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{self, RootCertStore};

mod access;
mod contract;
mod figures;
mod nodes;

use super::*;
use crate::config::Certificate;

/// A node that anyone may ask anything.
#[derive(Debug, Default)]
struct Fake {
    trees: AtomicU64,
    unready: Option<&'static str>,
    /// Sessions, each a little further behind than the one before, besides one to a parent.
    viewers: usize,
    drained: std::sync::Mutex<Option<Drain>>,
    /// A node below, as it reports itself.
    child: Option<NodeSnapshot>,
    /// What it tells when somebody looks at it.
    below: watch::Sender<Option<Detail>>,
    news: watch::Sender<u64>,
    /// Says nothing until the other end is dropped.
    stuck: Option<std::sync::Mutex<std::sync::mpsc::Receiver<()>>>,
}

impl Fake {
    fn wait(&self) {
        if let Some(stuck) = &self.stuck {
            // In vain as soon as the other end is gone.
            let _ = stuck.lock().unwrap().recv();
        }
    }
}

fn viewer(nth: usize) -> SessionSnapshot {
    SessionSnapshot {
        id: nth.to_string(),
        kind: SessionKind::Viewer,
        transport: Transport::Quic,
        protocol: "moqt-18".into(),
        remote: format!("192.0.2.1:{nth}"),
        queued_bytes: Some(100),
        behind_ms: Some(100 * nth as u64),
        ..SessionSnapshot::default()
    }
}

fn track(nth: usize) -> TrackSnapshot {
    TrackSnapshot {
        name: format!("live/{nth}/video"),
        latency_ms: Some(Percentiles { p50: 100.0 * nth as f64, p95: 200.0 }),
        latency_error_ms: Some(0.5),
        ..TrackSnapshot::default()
    }
}

/// What it says of itself.
fn snapshot() -> NodeSnapshot {
    let mut node = NodeSnapshot {
        node: "edge-1".into(),
        state: NodeState::Ok,
        uptime_s: 12.5,
        version: "0.1.0".into(),
        viewers: 3,
        bytes_out: 4096,
        clock_offset_ms: Some(-5000.0),
        clock_error_ms: Some(1.25),
        udp_buffers: Some(UdpBuffers { receive: 212_992, send: 200_000, wanted: 4_194_304 }),
        upstream: vec![UpstreamSnapshot {
            url: "https://root.example/?token=secret".into(),
            state: UpstreamState::Connected,
            rtt_ms: Some(1.5),
            connects: Some(2),
            ..UpstreamSnapshot::default()
        }],
        ..NodeSnapshot::default()
    };
    node.drops[DropReason::TooFarBehind] = DropCounts { groups: 1, objects: 30, bytes: 600 };
    node
}

impl View for Fake {
    fn tree(&self) -> Tree {
        self.wait();
        let mut node = snapshot();
        node.sessions = (0..self.viewers).map(viewer).collect();
        if self.viewers > 0 {
            node.sessions.push(SessionSnapshot {
                kind: SessionKind::Relay,
                transport: Transport::WebTransport,
                protocol: "moqt-22".into(),
                ..SessionSnapshot::default()
            });
        }
        node.tracks = (0..self.viewers).map(track).collect();
        node.bytes_in = self.trees.fetch_add(1, Ordering::Relaxed);
        let at = "2026-01-01T00:00:00Z".parse().unwrap();
        let nodes = [node].into_iter().chain(self.child.clone());
        Tree { node: "edge-1".into(), at, nodes: nodes.collect() }
    }

    fn cached_bytes(&self) -> u64 {
        777
    }

    fn hop_latency(&self) -> Distribution {
        let mut hops = Distribution::new(&[0.01, 0.1, 1.0]);
        for seconds in [0.004, 0.02, 0.03, 7.0] {
            hops.record(seconds);
        }
        hops
    }

    fn seen(&self) -> SeenFigures {
        let mut seen = SeenFigures { viewers: [2, 0, 0, 1], stalls: 3, ..SeenFigures::default() };
        seen.stalled = Duration::from_millis(4500);
        seen.frames_dropped = 60;
        for seconds in [0.09, 0.1, 0.12, 99.0] {
            seen.latency.record(seconds);
        }
        seen
    }

    fn broadcasts(&self) -> Vec<BroadcastInfo> {
        self.wait();
        vec![BroadcastInfo { name: "live/cam1".into(), viewers: 3 }]
    }

    fn ready(&self) -> Result<(), String> {
        self.unready.map_or(Ok(()), |reason| Err(reason.into()))
    }

    fn end_session(&self, id: &str) -> bool {
        self.wait();
        id == "7"
    }

    fn drain(&self, drain: Drain) {
        self.wait();
        *self.drained.lock().unwrap() = Some(drain);
    }

    fn detail(&self, _node: &str) -> watch::Receiver<Option<Detail>> {
        self.below.subscribe()
    }

    fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }
}

/// Running servers on ports that the system chose.
struct Running {
    https: SocketAddr,
    http: SocketAddr,
    admin: SocketAddr,
    identity: Identity,
    state_dir: tempfile::TempDir,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

fn config(state_dir: &std::path::Path) -> Config {
    let port = "127.0.0.1:0".parse().unwrap();
    Config {
        listen: port,
        http: port,
        admin: port,
        admin_access: AdminAccess::default(),
        upstream: Vec::new(),
        node: "edge-1".into(),
        certificate: Certificate::SelfSigned { state_dir: state_dir.to_owned() },
        upstream_tls: transport::ClientTls::default(),
        cache_bytes: 1,
        cache_age: Duration::ZERO,
        max_latency: Duration::from_secs(1),
        linger: Duration::ZERO,
        tree_token: None,
        max_rendezvous: Duration::ZERO,
        max_publishers: 1,
        upstream_drafts: moqt::Version::ALL.to_vec(),
        drafts: moqt::Version::ALL.to_vec(),
        max_sessions: 1,
        limits: transport::Limits::default(),
    }
}

impl Running {
    async fn start() -> Self {
        Self::of(Fake::default()).await
    }

    async fn of(view: Fake) -> Self {
        Self::with(Arc::new(view), AdminAccess::default()).await
    }

    async fn with(view: Arc<Fake>, admin_access: AdminAccess) -> Self {
        let state_dir = tempfile::tempdir().unwrap();
        let identity = Identity::self_signed(state_dir.path()).unwrap();
        let config = Config { admin_access, ..config(state_dir.path()) };
        let servers = bind(&config).await.unwrap();
        let (https, http) = (servers.https_addr().unwrap(), servers.http_addr().unwrap());
        let admin = servers.admin_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let shutdown = async {
            let _ = stopped.await;
        };
        let served = tokio::spawn(servers.serve(view, identity.clone(), shutdown));
        Self { https, http, admin, identity, state_dir, stop, served }
    }

    /// A TLS connection that trusts the relay's certificate and offers these protocols.
    async fn tls(&self, alpn: &[&[u8]]) -> tokio_rustls::client::TlsStream<TcpStream> {
        let pem = std::fs::read(self.state_dir.path().join("relay.pem")).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let stream = TcpStream::connect(self.https).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    /// Names in lower case.
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// One request with a head of our own making, and all that comes back.
async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, head: &str) -> Answer {
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // One who hangs up without a goodbye has said what it had to say.
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.into(), body: body.into() }
}

async fn request(addr: SocketAddr, method: &str, path: &str, headers: &str) -> Answer {
    let head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n");
    exchange(TcpStream::connect(addr).await.unwrap(), &head).await
}

async fn post(addr: SocketAddr, path: &str, headers: &str, body: &str) -> Answer {
    let length = body.len();
    let head = format!("Host: {addr}\r\nContent-Length: {length}\r\n{headers}");
    let text = format!("POST {path} HTTP/1.1\r\nConnection: close\r\n{head}\r\n{body}");
    exchange(TcpStream::connect(addr).await.unwrap(), &text).await
}

async fn get(addr: SocketAddr, path: &str) -> Answer {
    request(addr, "GET", path, &format!("Host: {addr}\r\n")).await
}

#[tokio::test]
async fn the_page_tells_a_player_how_to_reach_the_relay() {
    let relay = Running::start().await;
    let answer = get(relay.http, "/api/relay").await;
    assert_eq!(answer.status, 200);
    let hash = relay.identity.fingerprint().to_string();
    let expected = serde_json::json!({
        "port": relay.https.port(), "certificateHash": hash,
        "protocols": ["moqt-18", "moqt-22", "moqt-16"], "node": "edge-1",
    });
    assert_eq!(answer.json(), expected);
    let answer = get(relay.http, "/certificate.sha256").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, hash.as_str()));
}

#[tokio::test]
async fn no_hash_is_told_for_a_certificate_that_was_given() {
    let state = tempfile::tempdir().unwrap();
    Identity::self_signed(state.path()).unwrap();
    let files = [state.path().join("relay.pem"), state.path().join("relay.key")];
    let given = Identity::from_files(&files[0], &files[1]).unwrap();
    let servers = bind(&config(state.path())).await.unwrap();
    let http = servers.http_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async {
        let _ = stopped.await;
    };
    let served = tokio::spawn(servers.serve(Arc::new(Fake::default()), given.clone(), shutdown));
    assert_eq!(get(http, "/api/relay").await.json()["certificateHash"], Value::Null);
    let hash = get(http, "/certificate.sha256").await.body;
    assert_eq!(hash, given.fingerprint().to_string());
    stop.send(()).unwrap();
    served.await.unwrap();
}

#[tokio::test]
async fn broadcasts_are_open_to_every_origin() {
    let relay = Running::start().await;
    let headers = format!("Host: {}\r\nOrigin: https://elsewhere.example\r\n", relay.http);
    let answer = request(relay.http, "GET", "/api/broadcasts", &headers).await;
    assert_eq!(answer.json(), serde_json::json!([{ "name": "live/cam1", "viewers": 3 }]));
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
}

#[tokio::test]
async fn every_broadcast_has_its_page() {
    let relay = Running::start().await;
    for (path, title) in
        [("/", "index"), ("/watch/live/cam1?muted=1", "watch"), ("/watch/%e6%9d%b1%ff", "watch")]
    {
        let answer = get(relay.http, path).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.body.contains(&format!("<title>{title}</title>")), "{answer:?}");
        assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
        assert_eq!(answer.header("cache-control"), Some("no-cache"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
    for path in ["/nothing", "/watch.html", "/assets/nothing.js", "/../Cargo.toml", "/watch/"] {
        assert_eq!(get(relay.http, path).await.status, 404, "{path}");
    }
    assert_eq!(request(relay.http, "POST", "/", "Host: x\r\n").await.status, 405);
}

#[tokio::test]
async fn a_page_that_was_not_built_says_what_to_run() {
    let relay = Running::start().await;
    let answer = get(relay.http, "/embed/live/cam1").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(answer.body.contains("npm run build"), "{answer:?}");
}

#[tokio::test]
async fn only_the_bare_player_may_be_framed_by_others() {
    let relay = Running::start().await;
    for (path, ancestors) in [("/", "'self'"), ("/watch/live", "'self'"), ("/embed/live", "*")] {
        let answer = get(relay.http, path).await;
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.ends_with(&format!("frame-ancestors {ancestors}")), "{policy}");
    }
}

#[tokio::test]
async fn assets_are_kept_as_long_as_their_name_promises() {
    let relay = Running::start().await;
    let hashed = get(relay.http, "/assets/watch-B1x_9aZ0.js").await;
    assert_eq!((hashed.status, hashed.body.as_str()), (200, "// watch\n"));
    assert_eq!(hashed.header("content-type"), Some("text/javascript; charset=utf-8"));
    assert!(hashed.header("cache-control").unwrap().contains("immutable"), "{hashed:?}");

    let library = get(relay.http, "/assets/weir-player.js").await;
    assert_eq!(library.header("access-control-allow-origin"), Some("*"), "others load it");
    assert_eq!(library.header("cache-control"), Some("no-cache"));
    let tag = library.header("etag").unwrap();
    let headers = format!("Host: x\r\nIf-None-Match: \"other\", {tag}\r\n");
    let again = request(relay.http, "GET", "/assets/weir-player.js", &headers).await;
    assert_eq!((again.status, again.body.as_str()), (304, ""));
    assert_eq!(get(relay.http, "/favicon.svg").await.header("content-type"), Some("image/svg+xml"));
}

#[tokio::test]
async fn https_speaks_both_http_1_and_2() {
    let relay = Running::start().await;
    let stream = relay.tls(&[b"http/1.1"]).await;
    let head = "GET /api/relay HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(exchange(stream, head).await.json()["node"], "edge-1");

    let stream = relay.tls(&[b"h2", b"http/1.1"]).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get("https://localhost/api/relay").body(Body::empty()).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let body = axum::body::to_bytes(Body::new(answer.into_body()), 4096).await.unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["node"], "edge-1");
    connection.abort();
}

#[tokio::test]
async fn probes_say_why_a_node_is_not_ready() {
    let relay = Running::start().await;
    assert_eq!(get(relay.admin, "/health").await.status, 200);
    assert_eq!(get(relay.admin, "/ready").await.status, 200);
    let relay = Running::of(Fake { unready: Some("no upstream"), ..Fake::default() }).await;
    assert_eq!(get(relay.admin, "/health").await.status, 200);
    let answer = get(relay.admin, "/ready").await;
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("no upstream"), "{answer:?}");
}

#[tokio::test]
async fn the_api_answers_in_json_even_when_it_refuses() {
    let relay = Running::start().await;
    let tree = get(relay.admin, "/api/v1/nodes").await.json();
    assert_eq!(tree["nodes"][0]["viewers"], 3);
    assert_eq!(tree["nodes"][0]["drops"]["TOO_FAR_BEHIND"]["objects"], 30);
    let answer = get(relay.admin, "/api/v2/nodes").await;
    assert_eq!(answer.status, 404);
    assert!(answer.json()["error"].is_string());
    let headers = format!("Host: {}\r\n", relay.admin);
    let answer = request(relay.admin, "DELETE", "/api/v1/nodes", &headers).await;
    assert_eq!(answer.status, 405);
    assert!(answer.json()["error"].is_string());
}

#[tokio::test]
async fn the_feed_brings_a_line_at_once_and_more_until_the_node_stops() {
    let relay = Running::start().await;
    let mut stream = TcpStream::connect(relay.admin).await.unwrap();
    let head = format!("GET /api/v1/nodes/watch HTTP/1.1\r\nHost: {}\r\n\r\n", relay.admin);
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    while seen.windows(4).filter(|bytes| *bytes == b"}]}\n").count() < 2 {
        assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0, "the feed ended by itself");
    }
    relay.stop.send(()).unwrap();
    stream.read_to_end(&mut seen).await.unwrap();
    relay.served.await.unwrap();
    let text = String::from_utf8(seen).unwrap();
    assert!(text.to_ascii_lowercase().contains("content-type: application/x-ndjson"), "{text}");
    assert!(text.ends_with("0\r\n\r\n"), "the feed ends as HTTP ends: {text}");
    let counts: Vec<u64> = text
        .lines()
        .filter_map(|line| Tree::from_line(line.as_bytes()).ok())
        .map(|tree| tree.nodes[0].bytes_in)
        .collect();
    assert!(counts.len() >= 2 && counts.is_sorted(), "each line is a new snapshot: {text}");
}

#[tokio::test]
async fn a_busy_port_is_named_with_its_flag() {
    let relay = Running::start().await;
    let dir = relay.state_dir.path();
    type Choose = fn(&mut Config, SocketAddr);
    let flags: [(&str, Choose, SocketAddr); 3] = [
        ("--listen", |config, addr| config.listen = addr, relay.https),
        ("--http", |config, addr| config.http = addr, relay.http),
        ("--admin", |config, addr| config.admin = addr, relay.admin),
    ];
    for (flag, choose, addr) in flags {
        let mut config = config(dir);
        choose(&mut config, addr);
        let error = bind(&config).await.unwrap_err().to_string();
        assert!(error.contains(flag) && error.contains(&addr.to_string()), "{error}");
    }
}

#[tokio::test]
async fn the_unspecified_address_serves_both_families() {
    let state = tempfile::tempdir().unwrap();
    let mut config = config(state.path());
    config.listen = "[::]:0".parse().unwrap();
    let servers = bind(&config).await.unwrap();
    let port = servers.https_addr().unwrap().port();
    for host in ["127.0.0.1", "::1"] {
        assert!(TcpStream::connect((host, port)).await.is_ok(), "{host}");
    }
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let relay = Running::start().await;
    for addr in [relay.http, relay.admin] {
        let headers = format!("Host: {addr}\r\nX: {}\r\n", "x".repeat(20_000));
        assert_eq!(request(addr, "GET", "/", &headers).await.status, 431);
        let headers = format!("Host: {addr}\r\n{}", "X: y\r\n".repeat(200));
        assert_eq!(request(addr, "GET", "/", &headers).await.status, 431);
    }
}

#[tokio::test]
async fn noise_disturbs_nobody() {
    let relay = Running::start().await;
    // Seeded, so that a failure repeats itself.
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut noise = |length: usize| -> Vec<u8> {
        let next = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed as u8
        };
        std::iter::repeat_with(next).take(length).collect()
    };
    let mut half_open = Vec::new();
    for round in 0..60 {
        for addr in [relay.https, relay.http, relay.admin] {
            let mut stream = TcpStream::connect(addr).await.unwrap();
            let bytes = match round % 5 {
                0 => noise(round * 50),
                1 => [&[0x16, 3, 1, 0x40, 0][..], &noise(600)].concat(),
                2 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".iter().copied().chain(noise(90)).collect(),
                3 => b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n{".to_vec(),
                _ => b"GET / HTTP/1.1\r\nHost".to_vec(),
            };
            // The server may hang up in the middle of it.
            let _ = stream.write_all(&bytes).await;
            half_open.push(stream);
        }
    }
    assert_eq!(get(relay.http, "/api/relay").await.status, 200);
    assert_eq!(get(relay.admin, "/health").await.status, 200);
    let stream = relay.tls(&[b"http/1.1"]).await;
    let head = "GET /api/relay HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    assert_eq!(exchange(stream, head).await.status, 200);

    relay.stop.send(()).unwrap();
    let limit = DRAIN + Duration::from_secs(3);
    tokio::time::timeout(limit, relay.served).await.expect("shutdown ends").unwrap();
}

#[tokio::test]
async fn a_connection_beyond_the_bound_waits_for_its_turn() {
    let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = listener.local_addr().unwrap();
    let (_stop, stopped) = watch::channel(false);
    let router = axum::Router::new().route("/", axum::routing::get(|| async { "hello" }));
    let serving = tokio::spawn(serve::serve(listener, None, router, 1, stopped));

    let first = TcpStream::connect(addr).await.unwrap();
    let second = tokio::spawn(async move { get(addr, "/").await });
    // The one place is taken by a connection that says nothing; the second is connected but unheard.
    let early = tokio::time::timeout(Duration::from_millis(200), first.readable()).await;
    assert!(early.is_err() && !second.is_finished());
    drop(first);
    assert_eq!(second.await.unwrap().body, "hello");
    serving.abort();
}
