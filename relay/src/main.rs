//! `relay`: forwards live tracks, group by group, to however many watch.

mod config;
mod http;
mod node;

use std::io::IsTerminal;
use std::sync::Arc;

use anyhow::Context;
use config::{Certificate, Config, ConfigError};
use http::{BroadcastInfo, View};
use node::{Detail, Distribution, Drain, Node, SeenFigures};
use tokio::sync::watch;
use transport::{Endpoint, EndpointOptions, Identity};

/// Exit code for wrong usage or configuration.
const USAGE: u8 = 2;

#[tokio::main]
async fn main() -> std::process::ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("WEIR_LOG")
                .unwrap_or_else(|_| "info".into()),
        )
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .init();
    match run().await {
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
        Certificate::SelfSigned { state_dir } => Identity::self_signed(state_dir)?,
    };
    let options = EndpointOptions::default().versions(config.drafts.clone()).limits(config.limits);
    let endpoint = Endpoint::server(config.listen, &identity, options)
        .context("--listen: choose another port, or end what uses this one")?;
    let servers = http::bind(&config).await?;
    tracing::info!(
        node = config.node,
        listen = %config.listen,
        page = %format_args!("http://{}/", servers.http_addr()?),
        admin = %format_args!("http://{}/", servers.admin_addr()?),
        fingerprint = %identity.fingerprint(),
        "listening"
    );
    let (stop, stopped) = watch::channel(false);
    let node = Node::new(config, identity.clone());
    let stopped_http = {
        let mut stopped = stopped.clone();
        async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        }
    };
    let http =
        tokio::spawn(servers.serve(Arc::clone(&node) as Arc<dyn View>, identity, stopped_http));
    node.run(endpoint, asked_to_end()).await;
    stop.send_replace(true);
    let _ = tokio::time::timeout(std::time::Duration::from_secs(1), http).await;
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
