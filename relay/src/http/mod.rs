//! Everything the relay says in HTTP, apart from the media path: the page with the player, on plain
//! HTTP and HTTPS, and the admin API on a port of its own.
//!
//! Goes in: requests, and what the node tells through [`View`]. Comes out: answers, and the few
//! commands that an operator may give. [`bind`] takes the ports, so that a busy one is found before anything
//! is served; [`Servers::serve`] runs until told to stop, then lets answers finish for a moment.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use transport::Identity;

use crate::config::{AdminAccess, Config};
use crate::node::{Detail, Distribution, Drain, SeenFigures};
use gate::Gate;
use paced::Paced;

mod admin;
mod gate;
mod idle;
mod metrics;
mod paced;
mod page;
mod process;
mod serve;
#[cfg(test)]
mod tests;

/// Connections at once on each of the two ports of the page.
const MAX_PAGE_CONNECTIONS: usize = 1024;
/// Connections at once on the admin port.
const MAX_ADMIN_CONNECTIONS: usize = 128;
/// How long answers may take to finish once the node shuts down.
const DRAIN: Duration = Duration::from_secs(2);
/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 1024;

/// What the HTTP side may ask of the node. It is asked on threads of their own, not too often.
pub(crate) trait View: Send + Sync + 'static {
    /// This node first, then all below it.
    fn tree(&self) -> stats::Tree;
    /// Payload that is kept for viewers who join, over all tracks.
    fn cached_bytes(&self) -> u64;
    /// How long objects took from the relay before it.
    fn hop_latency(&self) -> Distribution;
    /// What its viewers reported.
    fn seen(&self) -> SeenFigures;
    /// What can be watched here now.
    fn broadcasts(&self) -> Vec<BroadcastInfo>;
    /// Whether it listens and its upstream (if any) is connected; if not, why not.
    fn ready(&self) -> Result<(), String>;
    /// Ends a session, if it is open: whether it was.
    fn end_session(&self, id: &str) -> bool;
    /// Tells everyone to leave, and takes no one in any more.
    fn drain(&self, drain: Drain);
    /// All that a node below tells of itself, from now on until the receiver is dropped. Waits for
    /// nothing.
    fn detail(&self, node: &str) -> watch::Receiver<Option<Detail>>;
    /// Changes with each node below that falls silent or is heard again. Waits for nothing.
    fn news(&self) -> watch::Receiver<u64>;
}

/// One live broadcast, as `/api/broadcasts` lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct BroadcastInfo {
    /// Its namespace fields joined with `/`.
    pub(crate) name: String,
    /// Sessions at this node that watch it.
    pub(crate) viewers: u64,
}

/// The node at one moment.
struct Moment {
    tree: stats::Tree,
    cached_bytes: u64,
    hop_latency: Distribution,
    seen: SeenFigures,
    ready: Result<(), String>,
}

impl Moment {
    /// The node itself.
    fn node(&self) -> &stats::NodeSnapshot {
        self.tree.nodes.first().expect("a tree has its root")
    }
}

/// What is told over HTTP of the node, whoever asks.
#[derive(Clone)]
struct Figures {
    moment: Arc<Paced<Moment>>,
    broadcasts: Arc<Paced<Vec<BroadcastInfo>>>,
}

impl Figures {
    fn of(view: &Arc<dyn View>) -> Self {
        let (told, listed) = (Arc::clone(view), Arc::clone(view));
        let moment = move || Moment {
            tree: told.tree(),
            cached_bytes: told.cached_bytes(),
            hop_latency: told.hop_latency(),
            seen: told.seen(),
            ready: told.ready(),
        };
        Self {
            moment: Arc::new(Paced::new(moment)),
            broadcasts: Arc::new(Paced::new(move || listed.broadcasts())),
        }
    }
}

/// The answer while the node never told a thing.
fn unanswered() -> Response {
    error(StatusCode::SERVICE_UNAVAILABLE, "the node does not answer")
}

fn error(status: StatusCode, what: &str) -> Response {
    (status, Json(serde_json::json!({ "error": what }))).into_response()
}

/// A port that can't be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve {what} on {addr} ({flag}): {error}")]
pub(crate) struct BindError {
    what: &'static str,
    flag: &'static str,
    addr: SocketAddr,
    error: io::Error,
}

/// The bound ports, not served yet: connections wait in the kernel.
#[derive(Debug)]
pub(crate) struct Servers {
    https: StdListener,
    http: StdListener,
    admin: StdListener,
    admin_access: AdminAccess,
    max_sessions: usize,
    node: String,
}

/// Takes the three TCP ports.
pub(crate) fn bind(config: &Config) -> Result<Servers, BindError> {
    let take =
        |what, flag, addr| listen(addr).map_err(|error| BindError { what, flag, addr, error });
    let servers = Servers {
        https: take("HTTPS", "--listen", config.listen)?,
        http: take("the page", "--http", config.http)?,
        admin: take("the admin API", "--admin", config.admin)?,
        admin_access: config.admin_access.clone(),
        max_sessions: config.max_sessions,
        node: config.node.clone(),
    };
    Ok(servers)
}

fn listen(addr: SocketAddr) -> io::Result<StdListener> {
    let domain = socket2::Domain::for_address(addr);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    if addr.is_ipv6() {
        // As the QUIC socket: both families, whatever the system's default.
        socket.set_only_v6(false)?;
    }
    // Connections of the process before this one linger in TIME_WAIT; two listeners still collide.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

impl Servers {
    /// Where the admin API is, with the port that the system chose if the flag left it open.
    pub(crate) fn admin_addr(&self) -> io::Result<SocketAddr> {
        self.admin.local_addr()
    }

    /// Where the page is in plain HTTP; as [`Servers::admin_addr`].
    pub(crate) fn http_addr(&self) -> io::Result<SocketAddr> {
        self.http.local_addr()
    }

    /// Where HTTPS is, on the port that QUIC has too; as [`Servers::admin_addr`].
    pub(crate) fn https_addr(&self) -> io::Result<SocketAddr> {
        self.https.local_addr()
    }

    /// Serves until `shutdown`, then for as long as open answers take, two seconds at most.
    ///
    /// # Errors
    /// When the run-time cannot watch the ports.
    pub(crate) async fn serve(
        self,
        view: Arc<dyn View>,
        identity: Identity,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let (stop, stopped) = watch::channel(false);
        let tls: TlsAcceptor = Arc::new(identity.server_config(&[b"h2", b"http/1.1"])).into();
        let port = self.https_addr().map_or(0, |addr| addr.port());
        let figures = Figures::of(&view);
        let gate = Gate {
            loopback: self.admin_addr().is_ok_and(|addr| addr.ip().to_canonical().is_loopback()),
            access: self.admin_access,
        };
        let constants = metrics::Constants {
            max_sessions: self.max_sessions,
            started: SystemTime::now(),
            identity: identity.clone(),
        };
        let page = page::Page::new(figures.clone(), identity, port, &self.node);
        let page = page::router(page);
        let routes =
            admin::router(admin::Admin::new(view, figures, constants, stopped.clone()), gate);
        let https = TcpListener::from_std(self.https)?;
        let http = TcpListener::from_std(self.http)?;
        let admin = TcpListener::from_std(self.admin)?;
        let servers = async {
            tokio::join!(
                serve::serve(https, Some(tls), page.clone(), MAX_PAGE_CONNECTIONS, stopped.clone()),
                serve::serve(http, None, page, MAX_PAGE_CONNECTIONS, stopped.clone()),
                serve::serve(admin, None, routes, MAX_ADMIN_CONNECTIONS, stopped.clone()),
            )
        };
        let mut servers = std::pin::pin!(servers);
        tokio::select! {
            _ = &mut servers => return Ok(()),
            () = shutdown => {}
        }
        // Never fails: `stopped` is a receiver.
        let _ = stop.send(true);
        if tokio::time::timeout(DRAIN, servers).await.is_err() {
            tracing::debug!("HTTP connections were cut off at shutdown");
        }
        Ok(())
    }
}
