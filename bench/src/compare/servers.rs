//! The servers that are compared, as processes.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use url::Url;

use super::START;
use crate::clock::Micros;
use crate::load::Media;

/// How often it is looked whether a server listens.
const LOOK: Duration = Duration::from_millis(20);

/// A server by what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Nothing but quinn.
    Bare,
    /// This project's relay.
    Weir,
    /// `moq-relay`, at its own quinn fork.
    MoqRelay,
    /// Cloudflare's `moq-relay-ietf`.
    MoqRelayIetf,
}

/// Why a server does not run.
#[derive(Debug, thiserror::Error)]
#[error("{server} does not start: {reason}")]
pub struct StartError {
    server: &'static str,
    reason: String,
}

impl Kind {
    /// All of them, in the order in which they are measured.
    pub const ALL: [Self; 4] = [Self::Bare, Self::Weir, Self::MoqRelay, Self::MoqRelayIetf];

    /// Whether it is another relay.
    pub(super) const fn is_peer(self) -> bool {
        matches!(self, Self::MoqRelay | Self::MoqRelayIetf)
    }

    /// What it is called in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare quinn",
            Self::Weir => "weir relay",
            Self::MoqRelay => "moq-relay",
            Self::MoqRelayIetf => "moq-relay-ietf",
        }
    }

    /// Its program; `None` for another relay when nobody said where those are.
    pub(super) fn program(
        self,
        own: &Path,
        programs: &Path,
        peers: Option<&Path>,
    ) -> Option<PathBuf> {
        match self {
            Self::Bare => Some(own.to_owned()),
            Self::Weir => Some(programs.join("relay")),
            Self::MoqRelay => Some(peers?.join("moq-relay")),
            Self::MoqRelayIetf => Some(peers?.join("moq-relay-ietf")),
        }
    }

    /// Which version of another relay `cargo install` put there, by its own record.
    pub(super) fn version(self, peers: Option<&Path>) -> Option<String> {
        let record = std::fs::read_to_string(peers?.parent()?.join(".crates.toml")).ok()?;
        let installed = record.lines().filter_map(|line| {
            let mut words = line.strip_prefix('"')?.split(' ');
            Some((words.next()?, words.next()?))
        });
        let mut installed = installed.filter(|(package, _)| *package == self.name());
        installed.next().map(|(_, version)| version.to_owned())
    }

    /// Lines by which a server that logs says that it listens; the others are asked.
    const fn says_ready(self) -> bool {
        matches!(self, Self::Bare | Self::Weir)
    }
}

/// A server that runs until this is dropped.
#[derive(Debug)]
pub struct Server {
    process: Child,
    /// Where it listens.
    pub url: Url,
    /// Its admin API, host:port, if it has one that we know.
    pub admin: Option<String>,
    /// When its first object was due, if it is a source itself.
    pub source_start: Option<Micros>,
}

impl Server {
    /// Starts a server with `command`, which names its program already, and waits until it
    /// listens.
    ///
    /// # Errors
    /// With what it logged, when it does not.
    pub fn start(
        kind: Kind,
        command: &mut Command,
        scratch: &Path,
        media: &Media,
    ) -> Result<Self, StartError> {
        let failed = |reason: String| StartError { server: kind.name(), reason };
        let listen = free_address().map_err(|error| failed(error.to_string()))?;
        let admin = free_address().map_err(|error| failed(error.to_string()))?;
        let has_admin = kind == Kind::Weir;
        match kind {
            Kind::Bare => {
                command.args(["bare", "--listen", &listen.to_string()]);
                command.args(["--size", &media.size.to_string()]);
                command.args(["--rate", &media.rate.to_string()]);
                command.args(["--group", &media.group.to_string()]);
            }
            Kind::Weir => {
                command.args(["--listen", &listen.to_string(), "--http", "127.0.0.1:0"]);
                let node = format!("bench-{}", listen.port());
                command.args(["--admin", &admin.to_string(), "--node", &node]);
                command.arg("--state-dir").arg(scratch.join("relay"));
                command.env("WEIR_TRUST_DIR", scratch.join("trust"));
            }
            Kind::MoqRelay => {
                let (certificate, key) =
                    certificate(scratch).map_err(|error| failed(error.to_string()))?;
                command.args(["--listen", &listen.to_string(), "--auth-public", "**"]);
                command.arg("--listen-tls-cert").arg(certificate);
                command.arg("--listen-tls-key").arg(key).env("RUST_LOG", "warn");
            }
            Kind::MoqRelayIetf => {
                let (certificate, key) =
                    certificate(scratch).map_err(|error| failed(error.to_string()))?;
                let coordinator = scratch.join("coordinator.json");
                let _ = std::fs::remove_file(&coordinator);
                command.args(["--bind", &listen.to_string(), "--tls-disable-verify"]);
                command.arg("--tls-cert").arg(certificate).arg("--tls-key").arg(key);
                command.arg("--coordinator-file").arg(coordinator).env("RUST_LOG", "warn");
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let process = command.env("NO_COLOR", "1").spawn();
        let process = process.map_err(|error| failed(error.to_string()))?;
        let url = format!("moqt://{listen}").parse().expect("an address makes a URL");
        let admin = has_admin.then(|| admin.to_string());
        let mut server = Self { process, url, admin, source_start: None };
        let log = server.read_log();
        if kind.says_ready() {
            let line = await_line(&log).map_err(failed)?;
            let start = line.split_once("source-start ");
            server.source_start = start.and_then(|(_, start)| start.trim().parse().ok());
        } else {
            server.await_socket(listen).map_err(failed)?;
        }
        Ok(server)
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// What `weir-bench load` must know of it besides URL and process.
    pub(super) fn load_arguments(&self) -> Vec<String> {
        let admin = self.admin.iter().flat_map(|admin| ["--admin".to_owned(), admin.clone()]);
        let start = self.source_start.iter();
        let start = start.flat_map(|start| ["--source-start".to_owned(), start.to_string()]);
        admin.chain(start).collect()
    }

    /// Reads both of its outputs to their ends, so that it never waits for a reader.
    fn read_log(&mut self) -> mpsc::Receiver<String> {
        let (lines, log) = mpsc::channel();
        let outputs = [
            self.process.stdout.take().map(|output| Box::new(output) as Box<dyn Read + Send>),
            self.process.stderr.take().map(|output| Box::new(output) as Box<dyn Read + Send>),
        ];
        for output in outputs.into_iter().flatten() {
            let lines = lines.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    let _ = lines.send(line);
                }
            });
        }
        log
    }

    /// Waits until somebody has the UDP port.
    fn await_socket(&mut self, listen: SocketAddr) -> Result<(), String> {
        let deadline = Instant::now() + START;
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.process.try_wait() {
                return Err(format!("it ended with {status}"));
            }
            if UdpSocket::bind(listen).is_err() {
                return Ok(());
            }
            std::thread::sleep(LOOK);
        }
        Err(format!("it does not listen on {listen}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn await_line(log: &mpsc::Receiver<String>) -> Result<String, String> {
    let deadline = Instant::now() + START;
    let mut seen = String::new();
    loop {
        match log.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) if line.contains("listening") => return Ok(line),
            Ok(line) => seen = seen + &line + "\n",
            Err(_) => return Err(format!("it does not say that it listens\n{seen}")),
        }
    }
}

/// An address free for UDP and TCP at the moment.
fn free_address() -> std::io::Result<SocketAddr> {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    loop {
        let listen = std::net::TcpListener::bind(any)?.local_addr()?;
        if UdpSocket::bind(listen).is_ok() {
            return Ok(listen);
        }
    }
}

/// A certificate and its key, for servers that make none themselves.
fn certificate(scratch: &Path) -> Result<(PathBuf, PathBuf), Box<dyn std::error::Error>> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    let (certificate, key) = (scratch.join("peer.pem"), scratch.join("peer.key"));
    std::fs::write(&certificate, made.cert.pem())?;
    std::fs::write(&key, made.signing_key.serialize_pem())?;
    Ok((certificate, key))
}
