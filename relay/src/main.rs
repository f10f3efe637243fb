//! `relay`: forwards live tracks, group by group, to however many watch.

mod config;
mod http;
mod node;
mod workers;

use std::io::IsTerminal;
use std::sync::Arc;

use anyhow::Context;
use config::{Certificate, Config, ConfigError};
use http::{BroadcastInfo, View};
use node::{Detail, Distribution, Drain, Node, SeenFigures};
use tokio::sync::watch;
use transport::{EndpointConfig, EndpointOptions, Identity, Listener};
use workers::Workers;

/// Exit code for wrong usage or configuration.
const USAGE: u8 = 2;

fn main() -> std::process::ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("WEIR_LOG")
                .unwrap_or_else(|_| transport::LOG_FILTER.into()),
        )
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .init();
    match workers::runtime(0).and_then(|runtime| runtime.block_on(run())) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            let usage = error.is::<ConfigError>() || error.is::<transport::IdentityError>();
            std::process::ExitCode::from(if usage { USAGE } else { 1 })
        }
    }
}

async fn run() -> anyhow::Result<()> {
    let config = Config::load()?;
    let identity = match &config.certificate {
        Certificate::Files { certificate, key } => Identity::from_files(certificate, key)?,
        Certificate::SelfSigned { state_dir } => {
            Identity::self_signed(state_dir).context("--state-dir")?
        }
    };
    let bidi_streams = transport::request_streams(config.limits.session.requests);
    let options = EndpointOptions::from(EndpointConfig { bidi_streams, ..Default::default() })
        .versions(config.drafts.clone())
        .limits(config.limits);
    let mut listeners = Listener::bind(config.listen, &identity, options, config.workers)
        .context("--listen: choose another port, or end what uses this one")?;
    let servers = http::bind(&config)?;
    tracing::info!(
        node = config.node,
        listen = %config.listen,
        page = %format_args!("http://{}/", servers.http_addr()?),
        admin = %format_args!("http://{}/", servers.admin_addr()?),
        fingerprint = %identity.fingerprint(),
        workers = listeners.len(),
        "listening"
    );
    let node = Node::new(config, identity.clone(), listeners.len());
    let first = listeners.remove(0);
    let mut workers = Workers::start(&node, listeners)?;
    let view = Arc::clone(&node) as Arc<dyn View>;
    workers.beside("http", |mut over| async move {
        let over = async move {
            let _ = over.wait_for(|over| *over).await;
        };
        if let Err(error) = servers.serve(view, identity, over).await {
            tracing::error!(%error, "cannot serve HTTP");
        }
    })?;
    node.run(first, asked_to_end()).await;
    workers.end().await;
    Ok(())
}

/// Waits for SIGTERM, SIGINT or SIGHUP.
async fn asked_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    let wait = |kind| async move {
        match signal(kind) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(error) => {
                tracing::warn!(%error, "a signal cannot be waited for");
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        () = wait(SignalKind::terminate()) => {}
        () = wait(SignalKind::interrupt()) => {}
        () = wait(SignalKind::hangup()) => {}
    }
    tracing::info!("asked to end: letting everyone go");
}

impl View for Node {
    fn tree(&self) -> stats::Tree {
        Node::tree(self)
    }

    fn cached_bytes(&self) -> u64 {
        Node::cached_bytes(self)
    }

    fn hop_latency(&self) -> Distribution {
        Node::hop_latency(self)
    }

    fn seen(&self) -> SeenFigures {
        Node::seen(self)
    }

    fn broadcasts(&self) -> Vec<BroadcastInfo> {
        let broadcasts = Node::broadcasts(self).into_iter();
        broadcasts.map(|(name, viewers)| BroadcastInfo { name, viewers }).collect()
    }

    fn ready(&self) -> Result<(), String> {
        Node::ready(self)
    }

    fn end_session(&self, id: &str) -> bool {
        Node::end_session(self, id)
    }

    fn drain(&self, drain: Drain) {
        Node::drain(self, drain);
    }

    fn detail(&self, node: &str) -> watch::Receiver<Option<Detail>> {
        Node::detail(self, node)
    }

    fn news(&self) -> watch::Receiver<u64> {
        Node::news(self)
    }
}
