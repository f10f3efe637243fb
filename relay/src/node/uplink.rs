//! Keeps a session to the parent: dials, fails over, and comes back.

use std::sync::Arc;
use std::time::Duration;

use moqt::Setup;
use relay_core::Peer;
use stats::UpstreamState;
use transport::{Backoff, Connection, Endpoint, EndpointConfig, Error};
use url::Url;

use super::{Node, lock, session};

/// A parent that restarts or dies is noticed within seconds, not within a browser's patience.
const CONFIG: EndpointConfig = EndpointConfig {
    idle_timeout: Duration::from_secs(5),
    keep_alive: Duration::from_secs(1),
    uni_streams: 512,
    bidi_streams: 1024,
};

/// Runs for as long as the node does. Upstreams are tried in the order given.
pub(super) async fn run(node: Arc<Node>) {
    if node.config.upstream.is_empty() {
        return;
    }
    let endpoint = match Endpoint::client(CONFIG) {
        Ok(endpoint) => endpoint,
        Err(error) => {
            tracing::error!(%error, "cannot reach any upstream");
            return;
        }
    };
    let mut backoff = Backoff::default();
    let mut moved: Option<Url> = None;
    let mut at = 0;
    loop {
        let url = moved.take().unwrap_or_else(|| node.config.upstream[at].clone());
        node.uplink(at, UpstreamState::Connecting, None);
        match endpoint.connect(&url, &node.config.upstream_tls).await {
            Ok(connection) => {
                backoff.reset();
                let error = serve(&node, at, &url, connection, &mut moved).await;
                node.uplink(at, UpstreamState::Waiting, Some(&error));
                tracing::warn!(%url, %error, "upstream lost");
                if moved.is_some() {
                    continue;
                }
            }
            Err(error) => {
                tracing::warn!(%url, %error, "upstream not reached");
                node.uplink(at, UpstreamState::Waiting, Some(&error));
            }
        }
        // The next one at once; only a whole round without success waits.
        at = (at + 1) % node.config.upstream.len();
        if at == 0 || node.config.upstream.len() == 1 {
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }
}

async fn serve(
    node: &Arc<Node>,
    at: usize,
    url: &Url,
    connection: Connection,
    moved: &mut Option<Url>,
) -> Error {
    tracing::info!(%url, version = %connection.version(), "upstream connected");
    let setup = connection.client_setup(url);
    let handle = connection.clone();
    let ready = |peer: &Setup| {
        let parent = peer.node.as_ref().map(|name| String::from_utf8_lossy(name).into_owned());
        node.uplink_connected(at, parent, handle.clone());
    };
    let ended = session::run_with(Arc::clone(node), connection, Peer::Uplink, setup, ready).await;
    *moved = ended.moved.flatten();
    ended.error
}

impl Node {
    fn uplink(&self, at: usize, state: UpstreamState, error: Option<&Error>) {
        let mut uplinks = lock(&self.uplinks);
        uplinks[at].state = state;
        uplinks[at].connection = None;
        uplinks[at].error = error.map(ToString::to_string);
    }

    fn uplink_connected(&self, at: usize, parent: Option<String>, connection: Connection) {
        let mut uplinks = lock(&self.uplinks);
        let uplink = &mut uplinks[at];
        uplink.state = UpstreamState::Connected;
        uplink.connects += 1;
        uplink.parent = parent;
        uplink.connection = Some(connection);
        uplink.error = None;
    }
}
