//! Relays that run for a test: ours and theirs, each on a free port and with a directory of its own.

use std::{
    net::{Ipv4Addr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU16, Ordering},
};

use anyhow::{Context, Result, bail, ensure};

use super::{peers::Aiomoqt, process::Server, way::Way};
use crate::{child::Stop, project};

/// Below the ports that systems hand out to whoever asks for any.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A relay that listens, until this is dropped.
#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) port: u16,
    server: Server,
}

impl Relay {
    /// Our own.
    pub(crate) fn ours(directory: &Path, upstream: Option<&str>, stop: &Stop) -> Result<Self> {
        let port = free_port()?;
        let mut command = Command::new(project::program("relay"));
        command.args(["--listen", &format!("127.0.0.1:{port}")]);
        command.args(["--http", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--node", "interop"]);
        command.arg("--state-dir").arg(directory.join("state"));
        command.env("WEIR_TRUST_DIR", directory.join("trust"));
        if let Some(upstream) = upstream {
            command.args(["--upstream", upstream, "--tls-disable-verify"]);
        }
        let sign = if upstream.is_some() { "upstream connected" } else { "listening" };
        Self::start("relay", &command, port, sign, directory, stop)
    }

    /// `moq-interop-relay`, confined to one draft.
    pub(crate) fn aiomoqt(
        peer: &Aiomoqt,
        way: Way,
        upstream: Option<&str>,
        certificate: &Certificate,
        directory: &Path,
        stop: &Stop,
    ) -> Result<Self> {
        let port = free_port()?;
        let mut command = peer.relay();
        command.args(["--bind", "127.0.0.1", "--dual", "--port", &port.to_string()]);
        command.args(["--draft", &way.draft.to_string()]);
        command.arg("--cert").arg(&certificate.chain).arg("--key").arg(&certificate.key);
        if let Some(upstream) = upstream {
            command.args(["--upstream", upstream]);
        }
        let sign = if upstream.is_some() { "upstream connected" } else { "Listening on" };
        Self::start("moq-interop-relay", &command, port, sign, directory, stop)
    }

    /// Cloudflare's.
    pub(crate) fn moq_relay_ietf(
        program: &Path,
        certificate: &Certificate,
        directory: &Path,
        stop: &Stop,
    ) -> Result<Self> {
        let port = free_port()?;
        let mut command = Command::new(program);
        command.args(["--bind", &format!("127.0.0.1:{port}")]);
        command.arg("--tls-cert").arg(&certificate.chain);
        command.arg("--tls-key").arg(&certificate.key);
        command.arg("--coordinator-file").arg(directory.join("coordinator.json"));
        command.env_remove("RUST_LOG");
        Self::start("moq-relay-ietf", &command, port, "listening on", directory, stop)
    }

    fn start(
        name: &str,
        command: &Command,
        port: u16,
        sign: &str,
        directory: &Path,
        stop: &Stop,
    ) -> Result<Self> {
        let log = directory.join(name).with_extension("log");
        let mut server = Server::start(name, command, &log)?;
        server.wait_for(sign, stop)?;
        Ok(Self { port, server })
    }

    /// Where it is dialled.
    pub(crate) fn url(&self, way: Way) -> String {
        way.transport.url(self.port)
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> Result<String> {
        self.server.log()
    }
}

/// A certificate for relays that cannot make one.
#[derive(Debug)]
pub(crate) struct Certificate {
    chain: PathBuf,
    key: PathBuf,
}

impl Certificate {
    /// Lends them the one that a relay of ours makes for itself.
    pub(crate) fn make(stop: &Stop) -> Result<Self> {
        let directory = empty_directory("certificate")?;
        let ours = Relay::ours(&directory, None, stop)?;
        let state = directory.join("state");
        let certificate = Self { chain: state.join("relay.pem"), key: state.join("relay.key") };
        for file in [&certificate.chain, &certificate.key] {
            ensure!(file.is_file(), "our relay made no {}:\n{}", file.display(), ours.log()?);
        }
        Ok(certificate)
    }
}

/// A new directory below `target/interop`, for logs and state.
pub(crate) fn empty_directory(name: &str) -> Result<PathBuf> {
    let directory = project::target().join("interop").join(name);
    if directory.exists() {
        let removed = std::fs::remove_dir_all(&directory);
        removed.with_context(|| format!("cannot empty {}", directory.display()))?;
    }
    let made = std::fs::create_dir_all(&directory);
    made.with_context(|| format!("cannot make {}", directory.display()))?;
    Ok(directory)
}

/// A port that is free for UDP and TCP; each call gives another.
fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let width = PORTS.end - PORTS.start;
    // Two runs at once begin in different places.
    let first = u16::try_from(std::process::id() % u32::from(width))?;
    for _ in 0..width {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = PORTS.start + first.wrapping_add(step) % width;
        let is_free = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
            && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if is_free {
            return Ok(port);
        }
    }
    bail!("no port between {} and {} is free", PORTS.start, PORTS.end)
}
