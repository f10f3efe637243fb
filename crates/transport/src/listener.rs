//! A UDP port that several endpoints share, one for each worker of a server.
//!
//! Each has a socket of its own (`SO_REUSEPORT`). The kernel would choose among them by the peer's
//! address, which changes when a connection migrates; so a small filter in the kernel chooses by
//! the connection ID instead: its first byte, modulo the number of workers, is whose it is. A worker
//! gives out only IDs that lead to itself. The ID that a client makes up for its first packet leads
//! to a worker by chance, which is how connections are spread.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicServerConfig;
use quinn_proto::{ConnectionId, ConnectionIdGenerator, HashedConnectionIdGenerator, InvalidCid};

use crate::endpoint::{EndpointOptions, H3};
use crate::{Error, Identity, UdpBuffers};

/// Most endpoints on one port: the first byte of a connection ID spreads over so many evenly.
const MAX_WORKERS: usize = 64;

/// A bound port, or one worker's share of it, that nobody serves yet: packets wait in the kernel.
/// [`crate::Endpoint::serve`] is to be called in the runtime of the worker that will.
#[derive(Debug)]
pub struct Listener {
    pub(crate) socket: UdpSocket,
    pub(crate) server: quinn::ServerConfig,
    pub(crate) endpoint: quinn::EndpointConfig,
    pub(crate) options: Arc<EndpointOptions>,
}

/// Which connection IDs are a worker's.
#[derive(Clone, Copy, Debug)]
struct Share {
    worker: u8,
    of: u8,
}

impl Listener {
    /// Binds `addr`; `[::]` takes both address families. Of several `workers` each gets a listener,
    /// as far as the system can share a port and tell connections apart: on Linux only, elsewhere
    /// there is one.
    ///
    /// # Errors
    /// When the address is taken, also by a port that is shared, or the certificate is unusable.
    pub fn bind(
        addr: SocketAddr,
        identity: &Identity,
        options: impl Into<EndpointOptions>,
        workers: usize,
    ) -> Result<Vec<Self>, Error> {
        let options = Arc::new(options.into());
        let setup = |error: &dyn std::fmt::Display| Error::Setup(error.to_string());
        let alpn: Vec<&[u8]> = options.alpns().chain([H3]).map(str::as_bytes).collect();
        let mut tls = identity.server_config(&alpn);
        tls.max_early_data_size = u32::MAX;
        let crypto = QuicServerConfig::try_from(tls).map_err(|error| setup(&error))?;
        let mut server = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        server.transport_config(options.transport());
        let sockets = bind_all(addr, workers.clamp(1, MAX_WORKERS))
            .map_err(|error| Error::Bind { addr, reason: error.to_string() })?;
        let of = sockets.len() as u8;
        let listeners = sockets.into_iter().zip(0u8..).map(|(socket, worker)| Self {
            socket,
            server: server.clone(),
            endpoint: endpoint_config(identity, Share { worker, of }),
            options: Arc::clone(&options),
        });
        Ok(listeners.collect())
    }
}

fn endpoint_config(identity: &Identity, share: Share) -> quinn::EndpointConfig {
    let seed = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &identity.reset_seed());
    let mut config = quinn::EndpointConfig::new(Arc::new(seed));
    // Connection IDs too must be known again after a restart: a packet with one that is not
    // gets no stateless reset.
    let key = u64::from_be_bytes(std::array::from_fn(|at| identity.reset_seed()[at]));
    config.cid_generator(move || {
        let ids = HashedConnectionIdGenerator::from_key(key);
        Box::new(OwnIds { ids, share })
    });
    config
}

/// Connection IDs that lead to one worker.
struct OwnIds {
    ids: HashedConnectionIdGenerator,
    share: Share,
}

impl ConnectionIdGenerator for OwnIds {
    fn generate_cid(&mut self) -> ConnectionId {
        loop {
            let id = self.ids.generate_cid();
            if id[0] % self.share.of == self.share.worker {
                return id;
            }
        }
    }

    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        self.ids.validate(id)
    }

    fn cid_len(&self) -> usize {
        self.ids.cid_len()
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        self.ids.cid_lifetime()
    }
}

/// A socket for each worker, or one if the port cannot be shared.
fn bind_all(addr: SocketAddr, workers: usize) -> std::io::Result<Vec<UdpSocket>> {
    // Alone first: sharing would let a second server of the same user take half of our packets.
    let alone = bind(addr)?;
    if workers == 1 || !cfg!(target_os = "linux") {
        return Ok(vec![alone]);
    }
    let addr = alone.local_addr()?;
    drop(alone);
    match share(addr, workers) {
        Ok(sockets) => Ok(sockets),
        Err(error) => {
            tracing::warn!(%addr, %error, "the port cannot be shared: one worker serves it");
            Ok(vec![bind(addr)?])
        }
    }
}

#[cfg(target_os = "linux")]
fn share(addr: SocketAddr, workers: usize) -> std::io::Result<Vec<UdpSocket>> {
    use nix::sys::socket::{setsockopt, sockopt};

    let mut sockets = Vec::with_capacity(workers);
    for _ in 0..workers {
        let socket = open(addr)?;
        socket.set_reuse_port(true)?;
        socket.bind(&addr.into())?;
        sockets.push(UdpSocket::from(socket));
    }
    let mut filter = steering(workers as u32);
    let program = nix::libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    setsockopt(&sockets[0], sockopt::AttachReusePortCbpf, &program)?;
    Ok(sockets)
}

#[cfg(not(target_os = "linux"))]
fn share(addr: SocketAddr, _workers: usize) -> std::io::Result<Vec<UdpSocket>> {
    Ok(vec![bind(addr)?])
}

/// The filter that says which socket of a group a datagram is for, over the datagram's payload. A
/// datagram that is too short to say is the first one's.
#[cfg(target_os = "linux")]
fn steering(workers: u32) -> Vec<nix::libc::sock_filter> {
    use nix::libc::{
        BPF_ABS, BPF_ALU, BPF_B, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_MOD, BPF_RET, sock_filter,
    };

    /// "Header Form": set for long headers (RFC 9000, "Packet Formats").
    const LONG: u32 = 0x80;
    /// Where the destination connection ID begins.
    const SHORT_ID: u32 = 1;
    const LONG_ID: u32 = 6;
    /// BPF_A, which the C library's bindings leave out: returns the accumulator.
    const ACCUMULATOR: u32 = 0x10;

    let load = |at| (BPF_LD | BPF_B | BPF_ABS, 0, 0, at);
    let instructions = [
        load(0),
        (BPF_JMP | BPF_JSET | BPF_K, 0, 2, LONG),
        load(LONG_ID),
        (BPF_JMP, 0, 0, 1),
        load(SHORT_ID),
        (BPF_ALU | BPF_MOD | BPF_K, 0, 0, workers),
        (BPF_RET | ACCUMULATOR, 0, 0, 0),
    ];
    let filter = instructions.map(|(code, jt, jf, k)| sock_filter { code: code as u16, jt, jf, k });
    filter.to_vec()
}

/// A socket bound to `addr` alone.
pub(crate) fn bind(addr: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = open(addr)?;
    socket.bind(&addr.into())?;
    Ok(socket.into())
}

fn open(addr: SocketAddr) -> std::io::Result<socket2::Socket> {
    let domain = socket2::Domain::for_address(addr);
    let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, Some(socket2::Protocol::UDP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // As much as the system gives: a burst of a whole group must not be lost in the kernel.
    let _ = socket.set_recv_buffer_size(UdpBuffers::WANTED as usize);
    let _ = socket.set_send_buffer_size(UdpBuffers::WANTED as usize);
    Ok(socket)
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
