//! What the tests of the relay program share: the program itself on free ports, a publisher and a
//! subscriber of our own, and connections that are no MoQT at all.

#![allow(dead_code, unused_imports, reason = "each test uses a part of this")]

mod broadcast;
mod raw;
mod subscriber;

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand::RngExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use transport::ClientTls;
use transport::publish::PublishOptions;
use url::Url;

pub(crate) use broadcast::{Publication, endpoint, object, publish, track_name, write};
pub(crate) use raw::{certificate, closed_with, connect_raw, setup, tls};
pub(crate) use subscriber::{Heard, Subscriber};

/// How long anything may take on a machine that is busy with something else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How often a condition that nothing announces is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// One user's machine: its relays trust each other.
pub(crate) struct Machine {
    dir: tempfile::TempDir,
}

impl Machine {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The program with nothing of the surroundings' configuration.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_relay"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("WEIR_") {
                command.env_remove(name);
            }
        }
        command
            .env("WEIR_TRUST_DIR", self.path().join("trust"))
            .env("NO_COLOR", "1")
            .current_dir(self.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    /// A relay that listens, known by `node`, with these arguments besides.
    pub(crate) fn relay(&self, node: &str, arguments: &[&str]) -> Relay {
        self.relay_ahead(node, 0, arguments)
    }

    /// The same with a clock that is so many milliseconds ahead of everybody else's.
    pub(crate) fn relay_ahead(&self, node: &str, ahead_ms: i64, arguments: &[&str]) -> Relay {
        let state_dir = self.path().join(node);
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        // Somebody may take the port between our look and the relay's.
        for _ in 0..10 {
            let listen = free_port();
            match Running::start(self, node, ahead_ms, listen, &state_dir, &arguments) {
                Ok(running) => {
                    return Relay {
                        node: node.to_owned(),
                        ahead_ms,
                        listen,
                        state_dir,
                        arguments,
                        running: Some(running),
                    };
                }
                Err(log) if log.contains("in use") => {}
                Err(log) => panic!("{node} did not start:\n{log}"),
            }
        }
        panic!("found no free port for {node}");
    }
}

/// A port free for UDP and TCP, from below the range that the system gives to whoever asks for any.
fn free_port() -> SocketAddr {
    loop {
        let addr = SocketAddr::from(([127, 0, 0, 1], rand::rng().random_range(20_000..32_000)));
        if UdpSocket::bind(addr).is_ok() && TcpListener::bind(addr).is_ok() {
            return addr;
        }
    }
}

/// A relay, which may be killed and started again on the same ports.
pub(crate) struct Relay {
    pub(crate) node: String,
    ahead_ms: i64,
    pub(crate) listen: SocketAddr,
    pub(crate) state_dir: PathBuf,
    arguments: Vec<String>,
    running: Option<Running>,
}

impl Relay {
    fn running(&self) -> &Running {
        self.running.as_ref().expect("the relay runs")
    }

    /// Where raw QUIC is dialled.
    pub(crate) fn url(&self) -> Url {
        format!("moqt://{}", self.listen).parse().unwrap()
    }

    /// Where WebTransport is dialled.
    pub(crate) fn web_transport_url(&self) -> Url {
        format!("https://{}/any/path", self.listen).parse().unwrap()
    }

    /// Trusts this relay's certificate and no other.
    pub(crate) fn tls(&self) -> ClientTls {
        let log = self.running().log.text();
        let (_, rest) = log.split_once("fingerprint=").expect("the relay logs its fingerprint");
        let hex = rest.split_whitespace().next().unwrap();
        ClientTls { fingerprints: vec![hex.parse().unwrap()], disable_verify: false }
    }

    /// What a program must know of this relay to dial it.
    pub(crate) fn address(&self) -> PublishOptions {
        PublishOptions { relay: self.url(), tls: self.tls() }
    }

    /// Ends the process with no chance to say goodbye.
    pub(crate) fn kill(&mut self) {
        self.running = None;
    }

    pub(crate) fn start_again(&mut self, machine: &Machine) {
        self.kill();
        let running = Running::start(
            machine,
            &self.node,
            self.ahead_ms,
            self.listen,
            &self.state_dir,
            &self.arguments,
        );
        self.running = Some(running.unwrap_or_else(|log| panic!("no restart:\n{log}")));
    }

    /// Starts again with other arguments.
    pub(crate) fn start_with(&mut self, machine: &Machine, arguments: &[&str]) {
        self.arguments = arguments.iter().map(ToString::to_string).collect();
        self.start_again(machine);
    }

    /// Asks the process to end, as an init system does.
    pub(crate) fn terminate(&self) {
        let pid = rustix::process::Pid::from_child(&self.running().child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    /// Waits for the process to end by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let running = self.running.as_mut().expect("the relay runs");
        ended(&mut running.child).await
    }

    /// `GET` from the admin API: status and body.
    pub(crate) async fn admin(&self, path: &str) -> (u16, String) {
        self.ask_admin("GET", path, "", "").await
    }

    /// Anything from the admin API, with fields of one's own: status and body.
    pub(crate) async fn ask_admin(
        &self,
        method: &str,
        path: &str,
        headers: &str,
        body: &str,
    ) -> (u16, String) {
        let answer = ask(self.running().admin, method, path, headers, body).await;
        answer.expect("the admin API answers")
    }

    /// Where the admin API is.
    pub(crate) fn admin_addr(&self) -> SocketAddr {
        self.running().admin
    }

    /// What it wrote to its standard error so far.
    pub(crate) fn log(&self) -> String {
        self.running().log.text()
    }

    /// Waits until it wrote a line with all these words in it.
    pub(crate) async fn logs(&self, words: &[&str]) {
        let deadline = Instant::now() + PATIENCE;
        while !self.log().lines().any(|line| words.iter().all(|word| line.contains(word))) {
            assert!(Instant::now() < deadline, "never logged {words:?}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Tells everyone to leave for another relay.
    pub(crate) async fn drain_to(&self, url: &Url) {
        let body = serde_json::json!({ "to": url.as_str() }).to_string();
        let answer = self.ask_admin("POST", "/api/v1/drain", "", &body).await;
        assert_eq!(answer.0, 202, "{answer:?}");
    }

    /// Sessions of this kind here.
    pub(crate) async fn sessions(&self, kind: &str) -> usize {
        let snapshot = self.snapshot().await;
        let sessions = snapshot["sessions"].as_array().unwrap();
        sessions.iter().filter(|session| session["kind"] == kind).count()
    }

    /// What `GET /api/v1/nodes` says of this node itself.
    pub(crate) async fn snapshot(&self) -> serde_json::Value {
        let (status, body) = self.admin("/api/v1/nodes").await;
        assert_eq!(status, 200, "{body}");
        let tree: serde_json::Value = serde_json::from_str(&body).unwrap();
        let mut nodes = tree["nodes"].as_array().unwrap().iter();
        nodes.find(|node| node["node"] == self.node.as_str()).expect("lists itself").clone()
    }

    /// Waits until its parent is connected.
    pub(crate) async fn connected(&self) {
        self.snapshot_shows("a connected parent", |node| {
            node["upstream"].as_array().unwrap().iter().any(|up| up["state"] == "connected")
        })
        .await;
    }

    /// Waits until [`Relay::snapshot`] is as wanted.
    pub(crate) async fn snapshot_shows(
        &self,
        what: &str,
        wanted: impl Fn(&serde_json::Value) -> bool,
    ) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let snapshot = self.snapshot().await;
            if wanted(&snapshot) {
                return;
            }
            assert!(Instant::now() < deadline, "never showed {what}: {snapshot:#}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Waits for a process to end by itself.
pub(crate) async fn ended(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < deadline, "the relay does not end");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn ask(
    addr: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> std::io::Result<(u16, String)> {
    let mut stream = tokio::net::TcpStream::connect(addr).await?;
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\
         Content-Length: {length}\r\n{headers}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a whole answer");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    Ok((status, body.to_owned()))
}

/// A process that listens.
struct Running {
    child: Child,
    admin: SocketAddr,
    log: Log,
}

impl Running {
    /// Starts a relay and waits until it listens; else what it logged.
    fn start(
        machine: &Machine,
        node: &str,
        ahead_ms: i64,
        listen: SocketAddr,
        state_dir: &Path,
        arguments: &[String],
    ) -> Result<Self, String> {
        let mut child = machine
            .command()
            .args(["--listen", &listen.to_string()])
            .args(["--http", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--node", node])
            .arg("--state-dir")
            .arg(state_dir)
            .args(arguments)
            .env("WEIR_LOG", "relay=debug,transport=debug")
            .env(transport::clock::OFFSET_VARIABLE, ahead_ms.to_string())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Log::default();
        while let Some(Ok(line)) = lines.next() {
            log.add(&line);
            let Some((_, admin)) = line.split_once("admin=http://") else { continue };
            let admin = admin.split('/').next().and_then(|addr| addr.parse().ok());
            let admin = admin.expect("the relay logs where its admin API is");
            let rest = log.clone();
            // Ends with the process.
            std::thread::spawn(move || {
                lines.map_while(Result::ok).for_each(|line| rest.add(&line));
            });
            return Ok(Self { child, admin, log });
        }
        let _ = child.wait();
        Err(log.text())
    }
}

impl Drop for Running {
    #[expect(clippy::print_stdout, reason = "captured with the test's output, unlike the child's")]
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("--- a relay's log\n{}---", self.log.text());
        }
    }
}

/// What a process wrote to its standard error so far.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

impl Log {
    fn add(&self, line: &str) {
        let mut text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        text.push_str(line);
        text.push('\n');
    }

    fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Waits for what must happen; says what did not.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {} s for {what}", PATIENCE.as_secs()),
    }
}
