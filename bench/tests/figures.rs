//! What an operator is told, held against what viewers counted: the dashboard, the admin API and
//! Prometheus, of a node and of the node above it.
//!
//! The relay's program is the one beside this test's, as in `load.rs`. `WEIR_FIGURES_SECONDS=60`
//! makes it a minute.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bench::load::{self, Options, Report, Target};
use clap::Parser;
use dashboard::feed::FeedEvent;
use dashboard::state::State;
use stats::{DropReason, NodeSnapshot, Tree};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const VIEWERS: u64 = 15;
/// Of them, those whose link is too thin.
const SLOW: u64 = 2;
const SIZE: u64 = 6000;

/// As on the command line.
#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: Options,
}

/// A relay that runs until this is dropped.
struct Relay {
    process: Child,
    listen: SocketAddr,
    admin: SocketAddr,
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let beside = test.ancestors().nth(2).expect("target/PROFILE/deps/TEST").join("relay");
    assert!(beside.is_file(), "{} is not there: cargo build -p relay", beside.display());
    beside
}

impl Relay {
    /// Starts one and waits until it listens.
    fn start(scratch: &Path, node: &str, parent: Option<&Self>) -> Self {
        let listen = loop {
            let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            if UdpSocket::bind(addr).is_ok() {
                break addr;
            }
        };
        let mut command = Command::new(program());
        command.args(["--node", node, "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        command.arg("--state-dir").arg(scratch.join(node)).args(["--listen", &listen.to_string()]);
        if let Some(parent) = parent {
            command.args(["--upstream", &format!("moqt://{}", parent.listen)]);
        }
        command.env("WEIR_TRUST_DIR", scratch.join("trust")).env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let admin = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let (_, rest) = line.split_once("admin=http://")?;
            rest.split('/').next()?.parse().ok()
        });
        // It never waits for a reader.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Self { process, listen, admin: admin.expect("it says where its admin API is") }
    }

    async fn ask(&self, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.admin).await.unwrap();
        let head = format!("GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.admin);
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    }

    async fn get(&self, path: &str) -> String {
        let mut answer = String::new();
        self.ask(path).await.read_to_string(&mut answer).await.unwrap();
        answer.split_once("\r\n\r\n").expect("a whole answer").1.to_owned()
    }

    async fn tree(&self) -> Tree {
        Tree::from_line(self.get("/api/v1/nodes").await.as_bytes()).unwrap()
    }
}

fn node<'a>(tree: &'a Tree, name: &str) -> Option<&'a NodeSnapshot> {
    tree.nodes.iter().find(|node| node.node == name)
}

/// One of Prometheus' figures.
fn metric(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name}: {text}")).parse().unwrap()
}

/// What the dashboard showed while the load was on, and how many viewers Prometheus was told of.
#[derive(Default)]
struct Watched {
    state: Option<State>,
    /// The edge's bit rate out, line by line, while all viewers were there.
    rates: Vec<f64>,
    viewers: u64,
    metric_viewers: f64,
}

impl Watched {
    /// How new it is what is known of the edge.
    fn uptime_s(&self) -> f64 {
        let node = self.state.as_ref().and_then(|state| state.node("edge"));
        node.map_or(0.0, |node| node.snapshot().uptime_s)
    }
}

/// Looks at the root's feed as the dashboard does, and at the edge's metrics.
async fn watch(root: Arc<Relay>, edge: Arc<Relay>, watched: Arc<Mutex<Watched>>) {
    let mut lines = tokio::io::BufReader::new(root.ask("/api/v1/nodes/watch").await).lines();
    let start = Instant::now();
    while let Some(line) = lines.next_line().await.unwrap() {
        let Ok(tree) = Tree::from_line(line.as_bytes()) else { continue };
        let of_edge = metric(&edge.get("/metrics").await, "weir_sessions{kind=\"viewer\"}");
        let now = start.elapsed();
        let mut watched = watched.lock().unwrap();
        watched.metric_viewers = watched.metric_viewers.max(of_edge);
        let state = watched.state.get_or_insert_with(|| State::new("root".into()));
        state.handle_feed(FeedEvent::Tree(Box::new(tree)), now);
        let Some(edge) = state.node("edge") else { continue };
        let (viewers, rates) = (edge.snapshot().viewers, edge.rates(now));
        watched.viewers = watched.viewers.max(viewers);
        if let Some(rates) = rates.filter(|_| viewers == VIEWERS) {
            watched.rates.push(rates.bits_out);
        }
    }
}

fn all(report: &Report, value: impl Fn(&Target) -> u64) -> u64 {
    report.targets.iter().map(value).sum()
}

/// Within 1 %, or as many as may be under way.
#[track_caller]
fn assert_near(what: &str, told: f64, counted: f64, slack: f64) {
    let off = (told - counted).abs();
    assert!(off <= (counted * 0.01).max(slack), "{what}: told {told}, counted {counted}");
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_are_told_what_viewers_counted() {
    let seconds = std::env::var("WEIR_FIGURES_SECONDS").map_or(6, |text| text.parse().unwrap());
    let scratch = tempfile::tempdir().unwrap();
    let root = Arc::new(Relay::start(scratch.path(), "root", None));
    let edge = Arc::new(Relay::start(scratch.path(), "edge", Some(&root)));
    let patience = Instant::now() + Duration::from_secs(30);
    while node(&root.tree().await, "edge").is_none() {
        assert!(Instant::now() < patience, "the edge never reported");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let watched = Arc::new(Mutex::new(Watched::default()));
    let watching = tokio::spawn(watch(Arc::clone(&root), Arc::clone(&edge), Arc::clone(&watched)));

    let line = format!(
        "load --publish=moqt://{} --relay=moqt://{} --admin={} --viewers={VIEWERS} --slow={SLOW} \
         --size={SIZE} --rate=30 --group=15 --seconds={seconds} --settle=0.5 --drain=3",
        root.listen, edge.listen, edge.admin
    );
    let link = "--slow-link=rate=500k delay=5 queue=64k";
    let options = Line::parse_from(line.split(' ').chain([link])).options;
    let report = load::run(options).await.unwrap();
    let text = report.to_text();
    let counted = all(&report, |target| target.arrived) as f64;
    let missing = all(&report, |target| target.whole.missing()) as f64;
    // Of a group that was open when a slow one subscribed nothing is owed, but may be dropped.
    let slack = (SLOW * 15) as f64;

    // What it drops it names by the reason that it gave to those it dropped it for.
    let claimed = report.claimed.as_ref().unwrap();
    let mut codes = report.targets.iter().flat_map(|target| target.resets_by_code.keys());
    assert!(codes.all(|code| code == "DELIVERY_TIMEOUT"), "{text}");
    assert!(missing > 100.0, "{text}");
    let reasons: Vec<&str> = claimed.by_reason.iter().map(|(reason, _)| reason.as_str()).collect();
    assert_eq!(reasons, ["DELIVERY_TIMEOUT"], "{text}");

    // The edge's word of after that, by way of the root.
    let over = node(&edge.tree().await, "edge").unwrap().uptime_s;
    let told = loop {
        let tree = root.tree().await;
        let told = node(&tree, "edge").unwrap();
        if told.uptime_s > over && watched.lock().unwrap().uptime_s() > over {
            break told.clone();
        }
        assert!(Instant::now() < patience + Duration::from_secs(seconds + 60), "{told:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    watching.abort();
    let _ = watching.await;
    let metrics = edge.get("/metrics").await;
    let watched = watched.lock().unwrap();
    let shown = watched.state.as_ref().unwrap().node("edge").unwrap().snapshot();
    let dropped = |node: &NodeSnapshot| node.drops[DropReason::DeliveryTimeout].objects as f64;
    let prometheus = |name: &str| metric(&metrics, name);
    for (who, objects, bytes, drops) in [
        ("API", told.objects_out as f64, told.bytes_out as f64, dropped(&told)),
        ("dashboard", shown.objects_out as f64, shown.bytes_out as f64, dropped(shown)),
        (
            "Prometheus",
            prometheus("weir_sent_objects_total"),
            prometheus("weir_sent_bytes_total"),
            prometheus("weir_dropped_objects_total{reason=\"DELIVERY_TIMEOUT\"}"),
        ),
    ] {
        assert_near(&format!("{who}: objects\n{text}"), objects, counted, 0.0);
        // Of an object that was cut off a part was sent.
        let parts = (all(&report, |target| target.resets) * SIZE) as f64;
        assert_near(&format!("{who}: bytes\n{text}"), bytes, counted * SIZE as f64, parts);
        assert_near(&format!("{who}: drops\n{text}"), drops, missing, slack);
    }
    assert_eq!((watched.viewers, watched.metric_viewers), (VIEWERS, VIEWERS as f64));
    // The rate that the dashboard showed while media came is that at which they did.
    let most = watched.rates.iter().copied().fold(0.0, f64::max);
    let mut rates: Vec<f64> =
        watched.rates.iter().copied().filter(|rate| *rate > most * 0.8).collect();
    assert!(rates.len() as u64 + 4 >= seconds, "{:?}", watched.rates);
    rates.sort_by(f64::total_cmp);
    let median = rates[rates.len() / 2];
    let arrived = all(&report, |target| target.bytes) as f64 * 8.0 / report.seconds;
    // A group more or less in a few seconds.
    let slack = if seconds < 30 { arrived * 0.02 } else { 0.0 };
    assert_near("the dashboard's rate", median, arrived, slack);
}
