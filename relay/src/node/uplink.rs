//! Keeps a session to the parent: dials, fails over, follows where it is sent, and comes back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use moqt::{SessionCode, Setup};
use relay_core::Peer;
use stats::UpstreamState;
use tokio::sync::mpsc;
use transport::{Backoff, Connection, Endpoint, EndpointConfig, EndpointOptions, Error};
use url::Url;

use super::session::{self, Watch};
use super::snapshot::UplinkStatus;
use super::{Node, lock};

/// A parent that restarts or dies is noticed within seconds, not within a browser's patience.
const CONFIG: EndpointConfig = EndpointConfig {
    idle_timeout: Duration::from_secs(5),
    keep_alive: Duration::from_secs(1),
    uni_streams: 512,
    bidi_streams: 1024,
};

/// A session that lasted this long was a success.
const LASTING: Duration = Duration::from_secs(5);

/// Runs for as long as the node does. Upstreams are tried in the order given.
pub(super) async fn run(node: Arc<Node>) {
    if node.config.upstream.is_empty() {
        return;
    }
    let options = EndpointOptions::from(CONFIG).versions(node.config.upstream_drafts.clone());
    let endpoint = match Endpoint::client(options) {
        Ok(endpoint) => endpoint,
        Err(error) => {
            tracing::error!(%error, "cannot reach any upstream");
            return;
        }
    };
    node.count_socket(&endpoint);
    let mut backoff = Backoff::default();
    let mut moved: Option<Url> = None;
    let mut at = 0;
    while node.draining.get().is_none() {
        let url = moved.take().unwrap_or_else(|| node.config.upstream[at].clone());
        node.uplink(at, UplinkStatus::handle_dialled);
        match endpoint.connect(&url, &node.config.upstream_tls).await {
            Ok(connection) => {
                let since = Instant::now();
                let outcome = serve(&node, at, &url, connection).await;
                let lasted = since.elapsed() > LASTING;
                if lasted {
                    backoff.reset();
                }
                match outcome {
                    Outcome::Ended(error) => {
                        node.uplink(at, |uplink| uplink.handle_failed(&error));
                        tracing::warn!(%url, %error, "upstream lost");
                    }
                    Outcome::Moved(to) => {
                        tracing::info!(%url, to = to.as_ref().map(Url::as_str), "upstream leaves");
                        // Here again, if it names no other place.
                        moved = Some(to.unwrap_or(url));
                        // Parents that send us round and round must not keep us busy.
                        if !lasted {
                            tokio::time::sleep(backoff.next_delay()).await;
                        }
                        continue;
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%url, %error, "upstream not reached");
                node.uplink(at, |uplink| uplink.handle_failed(&error));
            }
        }
        // The next one at once; only a whole round without success waits.
        at = (at + 1) % node.config.upstream.len();
        if at == 0 || node.config.upstream.len() == 1 {
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }
}

enum Outcome {
    Ended(Error),
    /// The parent asked us to leave. Its session runs on until all is had elsewhere.
    Moved(Option<Url>),
}

async fn serve(node: &Arc<Node>, at: usize, url: &Url, connection: Connection) -> Outcome {
    tracing::info!(%url, version = %connection.version(), "upstream connected");
    let setup = connection.client_setup(url);
    let (over, mut overs) = mpsc::unbounded_channel();
    let link = Link { node: Arc::clone(node), at, connection: connection.clone(), over };
    let session = session::run(Arc::clone(node), connection, Peer::Uplink, setup, link);
    let mut session = std::pin::pin!(tokio::spawn(session));
    tokio::select! {
        biased;
        Some(outcome) = overs.recv() => outcome,
        ended = &mut session => match ended {
            Ok(error) => Outcome::Ended(error),
            Err(error) => Outcome::Ended(Error::Lost(error.to_string())),
        },
    }
}

/// What the node hears of its session to a parent.
struct Link {
    node: Arc<Node>,
    at: usize,
    connection: Connection,
    /// What the session has come to before it ends.
    over: mpsc::UnboundedSender<Outcome>,
}

impl Watch for Link {
    fn ready(&mut self, setup: &Setup) {
        let parent = setup.node.as_ref().map(|name| String::from_utf8_lossy(name).into_owned());
        let namesake = parent.as_ref() == Some(&self.node.config.node);
        if namesake && self.node.is_other_end_of(&self.connection) {
            let error = Error::Setup("--upstream leads back to this relay".into());
            let _ = self.over.send(Outcome::Ended(error));
            return self.connection.close(SessionCode::NO_ERROR, "a relay is not its own parent");
        }
        let connection = self.connection.clone();
        self.node.uplink(self.at, |uplink| uplink.handle_connected(parent, connection));
    }

    fn going_away(&mut self, to: Option<Url>) {
        let _ = self.over.send(Outcome::Moved(to));
    }
}

impl Node {
    /// Whether we dialled ourselves.
    fn is_other_end_of(&self, connection: &Connection) -> bool {
        let sessions = lock(&self.sessions);
        sessions.values().any(|session| session.connection.is_other_end_of(connection))
    }

    fn uplink(&self, at: usize, change: impl FnOnce(&mut UplinkStatus)) {
        change(&mut lock(&self.uplinks)[at]);
    }
}

impl UplinkStatus {
    /// Why it failed before stays known until it works.
    fn handle_dialled(&mut self) {
        self.state = UpstreamState::Connecting;
        self.connection = None;
    }

    fn handle_connected(&mut self, parent: Option<String>, connection: Connection) {
        self.state = UpstreamState::Connected;
        self.connects += 1;
        self.parent = parent;
        self.connection = Some(connection);
        self.error = None;
    }

    fn handle_failed(&mut self, error: &Error) {
        self.state = UpstreamState::Waiting;
        self.connection = None;
        self.error = Some(error.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_an_upstream_is_not_reached_stays_known_while_it_is_dialled_again() {
        let mut uplink = UplinkStatus::new(&"moqt://parent:1".parse().unwrap());
        uplink.handle_dialled();
        uplink.handle_failed(&Error::Lost("a cable was cut".into()));
        uplink.handle_dialled();
        assert_eq!(uplink.state, UpstreamState::Connecting);
        assert!(uplink.error.unwrap().contains("a cable was cut"));
    }
}
