//! Real UDP through two links.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use thiserror::Error;
use tokio::{
    net::UdpSocket,
    sync::{Notify, mpsc},
    task::{AbortHandle, JoinHandle},
    time::sleep_until,
};

use crate::{
    config::LinkConfig,
    link::{Counters, Fate, Link},
};

/// More clients than this at a time are not served.
const MAX_CLIENTS: usize = 1024;
/// A client that sent nothing for this long makes room for a new one.
const CLIENT_IDLE: Duration = Duration::from_secs(60);
/// Replies read from the server and not yet put into the link; beyond it the kernel's buffers hold them.
const REPLY_BACKLOG: usize = 256;
const MAX_DATAGRAM: usize = 65_536;

/// The two directions of a [`UdpProxy`].
#[derive(Debug, Clone, Default)]
pub struct ProxyConfig {
    /// From the clients to the server.
    pub up: LinkConfig,
    /// From the server to the clients.
    pub down: LinkConfig,
    /// Decides every loss and every jitter.
    pub seed: u64,
}

/// Why a proxy could not start.
#[derive(Debug, Error)]
#[error("cannot listen on {address} (UDP): {error}; choose another address")]
pub struct ProxyError {
    address: SocketAddr,
    error: io::Error,
}

/// A UDP proxy between any number of clients and one server; it ends when dropped.
///
/// The server sees each client under a port of its own. Packets are delivered with the runtime's timer,
/// so up to about a millisecond late.
#[derive(Debug)]
pub struct UdpProxy {
    local_addr: SocketAddr,
    links: Arc<Links>,
    driver: JoinHandle<()>,
}

impl UdpProxy {
    /// Listens on `listen` (port 0 for any) and forwards to `server`. Needs a tokio runtime.
    pub async fn start(
        listen: SocketAddr,
        server: SocketAddr,
        config: ProxyConfig,
    ) -> Result<Self, ProxyError> {
        let failed = |error| ProxyError { address: listen, error };
        let socket = UdpSocket::bind(listen).await.map_err(failed)?;
        let local_addr = socket.local_addr().map_err(failed)?;
        let links = Arc::new(Links {
            up: Mutex::new(Link::new(config.up, config.seed)),
            // Another seed, so that the directions don't lose the same packets in step.
            down: Mutex::new(Link::new(config.down, !config.seed)),
            changed: Notify::new(),
        });
        let driver = Driver::new(socket, server, links.clone());
        Ok(Self { local_addr, links, driver: tokio::spawn(driver.run()) })
    }

    /// Where clients connect to.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Changes the link from the clients to the server.
    pub fn set_up(&self, config: LinkConfig) {
        lock(&self.links.up).set_config(Instant::now(), config);
        self.links.changed.notify_one();
    }

    /// Changes the link from the server to the clients.
    pub fn set_down(&self, config: LinkConfig) {
        lock(&self.links.down).set_config(Instant::now(), config);
        self.links.changed.notify_one();
    }

    /// What the link from the clients to the server has done.
    #[must_use]
    pub fn up_counters(&self) -> Counters {
        lock(&self.links.up).counters()
    }

    /// What the link from the server to the clients has done.
    #[must_use]
    pub fn down_counters(&self) -> Counters {
        lock(&self.links.down).counters()
    }
}

impl Drop for UdpProxy {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A datagram and the client that it is from or for.
#[derive(Debug)]
struct Datagram {
    client: SocketAddr,
    payload: Box<[u8]>,
}

#[derive(Debug)]
struct Links {
    up: Mutex<Link<Datagram>>,
    down: Mutex<Link<Datagram>>,
    changed: Notify,
}

/// A link is whole between its calls, so what another thread's panic left behind is usable.
fn lock<T>(link: &Mutex<Link<T>>) -> MutexGuard<'_, Link<T>> {
    link.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The task that owns the sockets.
struct Driver {
    socket: UdpSocket,
    server: SocketAddr,
    links: Arc<Links>,
    clients: HashMap<SocketAddr, Client>,
    replies: mpsc::Receiver<Datagram>,
    reply_sender: mpsc::Sender<Datagram>,
}

/// A client's own way to the server.
struct Client {
    socket: Arc<UdpSocket>,
    last_heard: Instant,
    reader: AbortHandle,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Driver {
    fn new(socket: UdpSocket, server: SocketAddr, links: Arc<Links>) -> Self {
        let (reply_sender, replies) = mpsc::channel(REPLY_BACKLOG);
        Self { socket, server, links, clients: HashMap::new(), replies, reply_sender }
    }

    async fn run(mut self) {
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            let up = lock(&self.links.up).poll_timeout();
            let down = lock(&self.links.down).poll_timeout();
            let timeout = [up, down].into_iter().flatten().min();
            tokio::select! {
                received = self.socket.recv_from(&mut buffer) => match received {
                    Ok((size, client)) => put(&self.links.up, client, &buffer[..size]),
                    // An earlier send's bad news; it says nothing about the socket.
                    Err(_) => tokio::task::yield_now().await,
                },
                Some(reply) = self.replies.recv() => put(&self.links.down, reply.client, &reply.payload),
                () = sleep_until(timeout.unwrap_or_else(Instant::now).into()), if timeout.is_some() => {}
                () = self.links.changed.notified() => {}
            }
            self.deliver().await;
        }
    }

    /// Hands out everything that is due. A datagram that the kernel refuses is gone, as on a network.
    async fn deliver(&mut self) {
        while let Some(datagram) = due(&self.links.up) {
            if let Some(socket) = self.way_to_server(datagram.client).await {
                let _ = socket.send(&datagram.payload).await;
            }
        }
        while let Some(datagram) = due(&self.links.down) {
            let _ = self.socket.send_to(&datagram.payload, datagram.client).await;
        }
    }

    /// The client's socket towards the server, made at its first datagram.
    async fn way_to_server(&mut self, client: SocketAddr) -> Option<Arc<UdpSocket>> {
        let now = Instant::now();
        if let Some(known) = self.clients.get_mut(&client) {
            known.last_heard = now;
            return Some(known.socket.clone());
        }
        if self.clients.len() >= MAX_CLIENTS {
            self.clients.retain(|_, other| now.duration_since(other.last_heard) < CLIENT_IDLE);
        }
        if self.clients.len() >= MAX_CLIENTS {
            return None;
        }
        let socket = Arc::new(connect(self.server).await.ok()?);
        let reader = read_replies(socket.clone(), client, self.reply_sender.clone());
        let reader = tokio::spawn(reader).abort_handle();
        self.clients.insert(client, Client { socket: socket.clone(), last_heard: now, reader });
        Some(socket)
    }
}

/// Puts a datagram into a link; what the link drops it also counts.
fn put(link: &Mutex<Link<Datagram>>, client: SocketAddr, payload: &[u8]) {
    let datagram = Datagram { client, payload: payload.into() };
    match lock(link).handle_packet(Instant::now(), payload.len(), datagram) {
        Fate::Accepted | Fate::Lost | Fate::QueueFull => {}
    }
}

fn due(link: &Mutex<Link<Datagram>>) -> Option<Datagram> {
    lock(link).poll_packet(Instant::now())
}

async fn connect(server: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    Ok(socket)
}

async fn read_replies(socket: Arc<UdpSocket>, client: SocketAddr, replies: mpsc::Sender<Datagram>) {
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        match socket.recv(&mut buffer).await {
            Ok(size) => {
                let reply = Datagram { client, payload: buffer[..size].into() };
                if replies.send(reply).await.is_err() {
                    return;
                }
            }
            // The server is away; it may come back, and each datagram sent reports this at most once.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(_) => return,
        }
    }
}
