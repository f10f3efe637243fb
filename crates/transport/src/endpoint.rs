//! A UDP port that accepts and dials MoQT connections.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use moqt::{Role, Transport, Version};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use url::Url;
use web_transport_quinn::proto::{ConnectRequest, ConnectResponse};

use crate::{ClientTls, Connection, Error, Identity};

/// ALPN of HTTP/3, which carries WebTransport.
const H3: &str = web_transport_quinn::ALPN;

/// How long a handshake may take, ours or a peer's.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How an endpoint behaves.
#[derive(Clone, Copy, Debug)]
pub struct EndpointConfig {
    /// A peer that is silent this long is gone.
    pub idle_timeout: Duration,
    /// How often to say something when there is nothing to say.
    pub keep_alive: Duration,
    /// Unidirectional streams a peer may open; see [`Connection::allow_streams`].
    pub uni_streams: u32,
    /// Bidirectional streams a peer may open: requests.
    pub bidi_streams: u32,
}

impl Default for EndpointConfig {
    fn default() -> Self {
        Self {
            idle_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(2),
            uni_streams: 16,
            bidi_streams: 128,
        }
    }
}

impl EndpointConfig {
    fn transport(&self) -> Arc<quinn::TransportConfig> {
        let mut transport = quinn::TransportConfig::default();
        let idle = self.idle_timeout.try_into().expect("an idle timeout of less than 2^62 ms");
        transport
            .max_idle_timeout(Some(idle))
            .keep_alive_interval(Some(self.keep_alive))
            .max_concurrent_uni_streams(self.uni_streams.into())
            .max_concurrent_bidi_streams(self.bidi_streams.into())
            .send_fairness(true)
            // Stale audio is worth nothing: a few dozen datagrams are all that may wait.
            .datagram_send_buffer_size(64 * 1024);
        Arc::new(transport)
    }
}

/// The versions we speak, for messages to people.
pub(crate) fn version_names() -> String {
    Version::ALL.iter().map(|version| version.alpn()).collect::<Vec<_>>().join(", ")
}

/// A UDP port that accepts (with an [`Identity`]) and dials. Handles share it.
#[derive(Clone, Debug)]
pub struct Endpoint {
    endpoint: quinn::Endpoint,
    config: EndpointConfig,
}

impl Endpoint {
    /// Accepts on `addr`; `[::]` takes both address families.
    pub fn server(
        addr: SocketAddr,
        identity: &Identity,
        config: EndpointConfig,
    ) -> Result<Self, Error> {
        let setup = |error: &dyn std::fmt::Display| Error::Setup(error.to_string());
        let alpn: Vec<&[u8]> = Version::ALL
            .iter()
            .map(|version| version.alpn().as_bytes())
            .chain([H3.as_bytes()])
            .collect();
        let mut tls = identity.server_config(&alpn);
        tls.max_early_data_size = u32::MAX;
        let crypto = QuicServerConfig::try_from(tls).map_err(|error| setup(&error))?;
        let mut server = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        server.transport_config(config.transport());
        let seed = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &identity.reset_seed());
        let mut endpoint_config = quinn::EndpointConfig::new(Arc::new(seed));
        // Connection IDs too must be known again after a restart: a packet with one that is not
        // gets no stateless reset.
        let id_key = u64::from_be_bytes(std::array::from_fn(|at| identity.reset_seed()[at]));
        endpoint_config.cid_generator(move || {
            Box::new(quinn_proto::HashedConnectionIdGenerator::from_key(id_key))
        });
        let socket = bind(addr).map_err(|error| Error::Bind { addr, reason: error.to_string() })?;
        let runtime = Arc::new(quinn::TokioRuntime);
        let endpoint = quinn::Endpoint::new(endpoint_config, Some(server), socket, runtime)
            .map_err(|error| setup(&error))?;
        Ok(Self { endpoint, config })
    }

    /// Only dials, from any free port.
    pub fn client(config: EndpointConfig) -> Result<Self, Error> {
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        let socket = bind(any)
            // A machine without IPv6.
            .or_else(|_| bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))))
            .map_err(|error| Error::Bind { addr: any, reason: error.to_string() })?;
        let runtime = Arc::new(quinn::TokioRuntime);
        let endpoint = quinn::Endpoint::new(Default::default(), None, socket, runtime)
            .map_err(|error| Error::Setup(error.to_string()))?;
        Ok(Self { endpoint, config })
    }

    /// The address bound.
    pub fn local_addr(&self) -> Result<SocketAddr, Error> {
        self.endpoint.local_addr().map_err(|error| Error::Setup(error.to_string()))
    }

    /// The next connection attempt; `None` once the endpoint is closed.
    pub async fn accept(&self) -> Option<Incoming> {
        Some(Incoming(self.endpoint.accept().await?))
    }

    /// Dials `moqt://host:port` (raw QUIC) or `https://host:port/path` (WebTransport).
    pub async fn connect(&self, url: &Url, tls: &ClientTls) -> Result<Connection, Error> {
        let wrong = |reason| Error::Url { url: url.to_string(), reason };
        let transport = match url.scheme() {
            "moqt" => Transport::RawQuic,
            "https" => Transport::WebTransport,
            _ => return Err(wrong("unknown scheme")),
        };
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(wrong("no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = url.port().unwrap_or(443);
        let peer = format!("{}:{port}", url.host_str().unwrap_or(host));

        let versions: Vec<&str> = Version::ALL.iter().map(|version| version.alpn()).collect();
        let alpn = match transport {
            Transport::RawQuic => versions.clone(),
            Transport::WebTransport => vec![H3],
        };
        let crypto = QuicClientConfig::try_from(tls.config(&alpn))
            .map_err(|error| Error::Setup(error.to_string()))?;
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        config.transport_config(self.config.transport());

        let addresses = resolve(host, port).await?;
        let mut last = None;
        for address in addresses {
            let dial = self.dial(config.clone(), address, host, &peer);
            match tokio::time::timeout(HANDSHAKE_TIMEOUT, dial).await {
                Ok(Ok(connection)) => return self.agree(connection, transport, url, peer).await,
                Ok(Err(error)) => last = Some(error),
                Err(_) => {
                    let reason = format!("no answer from {address} in time");
                    last = Some(Error::Unreachable { peer: peer.clone(), reason });
                }
            }
        }
        let none = || Error::Resolve { host: host.to_owned(), reason: "no address".into() };
        Err(last.unwrap_or_else(none))
    }

    async fn dial(
        &self,
        config: quinn::ClientConfig,
        address: SocketAddr,
        host: &str,
        peer: &str,
    ) -> Result<quinn::Connection, Error> {
        let address = self.reachable(address);
        let peer = || peer.to_owned();
        let connecting = self
            .endpoint
            .connect_with(config, address, host)
            .map_err(|error| Error::Unreachable { peer: peer(), reason: error.to_string() })?;
        connecting.await.map_err(|error| classify(&error, peer()))
    }

    /// A dual-stack socket reaches IPv4 by mapped addresses.
    fn reachable(&self, mut address: SocketAddr) -> SocketAddr {
        let v6 = self.endpoint.local_addr().is_ok_and(|local| local.is_ipv6());
        if let (true, IpAddr::V4(ip)) = (v6, address.ip()) {
            address.set_ip(ip.to_ipv6_mapped().into());
        }
        address
    }

    /// Settles the version on a fresh connection of ours.
    async fn agree(
        &self,
        connection: quinn::Connection,
        transport: Transport,
        url: &Url,
        peer: String,
    ) -> Result<Connection, Error> {
        let session = match transport {
            Transport::RawQuic => web_transport_quinn::Session::raw(connection),
            Transport::WebTransport => {
                let request = Version::ALL
                    .iter()
                    .fold(ConnectRequest::new(url.clone()), |request, version| {
                        request.with_protocol(version.alpn())
                    });
                let connect = web_transport_quinn::Session::connect(connection, request);
                match tokio::time::timeout(HANDSHAKE_TIMEOUT, connect).await {
                    Ok(Ok(session)) => session,
                    Ok(Err(error)) => {
                        return Err(Error::Unreachable { peer, reason: error.to_string() });
                    }
                    Err(_) => {
                        let reason = "no answer to the WebTransport request".to_owned();
                        return Err(Error::Unreachable { peer, reason });
                    }
                }
            }
        };
        match session.protocol().and_then(Version::from_alpn) {
            Some(version) => Ok(Connection::new(session, version, transport, Role::Client)),
            None => {
                session.close(moqt::SessionCode::VERSION_NEGOTIATION_FAILED.0 as u32, b"");
                Err(Error::Version { peer })
            }
        }
    }

    /// Refuses everything from here on and closes what is open.
    pub fn close(&self) {
        self.endpoint.close(0u32.into(), b"");
    }

    /// Waits until what is being closed is closed.
    pub async fn wait_idle(&self) {
        self.endpoint.wait_idle().await;
    }
}

/// A connection attempt whose handshake was not awaited yet.
#[derive(Debug)]
pub struct Incoming(quinn::Incoming);

impl Incoming {
    /// Where it comes from.
    pub fn remote_address(&self) -> SocketAddr {
        let mut address = self.0.remote_address();
        address.set_ip(address.ip().to_canonical());
        address
    }

    /// Makes the peer show that its address is its own before anything is spent on it; does
    /// nothing when it did. Returns `None` when it has to come again.
    pub fn validated(self) -> Option<Self> {
        if self.0.remote_address_validated() || !self.0.may_retry() {
            return Some(self);
        }
        let _ = self.0.retry();
        None
    }

    /// Turns the attempt away.
    pub fn refuse(self) {
        self.0.refuse();
    }

    /// Completes the handshake and settles the version.
    pub async fn accept(self) -> Result<Connection, Error> {
        let peer = self.remote_address().to_string();
        let late =
            || Error::Unreachable { peer: peer.clone(), reason: "handshake too slow".into() };
        tokio::time::timeout(HANDSHAKE_TIMEOUT, self.handshake(&peer)).await.map_err(|_| late())?
    }

    async fn handshake(self, peer: &str) -> Result<Connection, Error> {
        let lost = |error: &dyn std::fmt::Display| Error::Lost(format!("{peer}: {error}"));
        let connection = self.0.await.map_err(|error| lost(&error))?;
        let alpn = connection
            .handshake_data()
            .and_then(|data| data.downcast::<quinn::crypto::rustls::HandshakeData>().ok())
            .and_then(|data| data.protocol)
            .unwrap_or_default();
        if alpn != H3.as_bytes() {
            let session = web_transport_quinn::Session::raw(connection);
            let version = std::str::from_utf8(&alpn).ok().and_then(Version::from_alpn);
            let version = version.ok_or_else(|| Error::Version { peer: peer.to_owned() })?;
            return Ok(Connection::new(session, version, Transport::RawQuic, Role::Server));
        }
        let request =
            web_transport_quinn::Request::accept(connection).await.map_err(|error| lost(&error))?;
        let offered = |version: &&Version| request.protocols.iter().any(|p| p == version.alpn());
        let Some(version) = Version::ALL.iter().find(offered).copied() else {
            // A client that got no protocol would believe it is connected, so it gets no session.
            let speak = format!("this relay speaks {}", version_names());
            let connection = request.conn().clone();
            let _ = request.reject(web_transport_quinn::http::StatusCode::NOT_ACCEPTABLE).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
            let code = moqt::SessionCode::VERSION_NEGOTIATION_FAILED.0 as u32;
            connection.close(code.into(), speak.as_bytes());
            return Err(Error::Version { peer: peer.to_owned() });
        };
        let session = request
            .respond(ConnectResponse::OK.with_protocol(version.alpn()))
            .await
            .map_err(|error| lost(&error))?;
        Ok(Connection::new(session, version, Transport::WebTransport, Role::Server))
    }
}

fn bind(addr: SocketAddr) -> std::io::Result<std::net::UdpSocket> {
    let domain = socket2::Domain::for_address(addr);
    let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, Some(socket2::Protocol::UDP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // As much as the system gives: a burst of a whole group must not be lost in the kernel.
    let _ = socket.set_recv_buffer_size(4 * 1024 * 1024);
    let _ = socket.set_send_buffer_size(4 * 1024 * 1024);
    socket.bind(&addr.into())?;
    Ok(socket.into())
}

async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, Error> {
    let failed = |reason: String| Error::Resolve { host: host.to_owned(), reason };
    let found = tokio::net::lookup_host((host, port)).await;
    let addresses: Vec<_> = found.map_err(|error| failed(error.to_string()))?.collect();
    if addresses.is_empty() { Err(failed("no address".into())) } else { Ok(addresses) }
}

/// Tells a bad certificate and a version mismatch from a peer that does not answer.
fn classify(error: &quinn::ConnectionError, peer: String) -> Error {
    /// TLS alert no_application_protocol, as a QUIC crypto error.
    const NO_APPLICATION_PROTOCOL: u64 = 0x100 + 120;
    match error {
        quinn::ConnectionError::TransportError(transport) => {
            let code = u64::from(transport.code);
            if code == NO_APPLICATION_PROTOCOL {
                Error::Version { peer }
            } else if (0x100..0x200).contains(&code) {
                let reason = transport.reason.clone();
                let reason = reason
                    .split_once("Other(OtherError(Refused(\"")
                    .map_or(reason.as_str(), |(_, rest)| rest.trim_end_matches("\")))"))
                    .to_owned();
                Error::Certificate { peer, reason }
            } else {
                Error::Unreachable { peer, reason: transport.to_string() }
            }
        }
        quinn::ConnectionError::ConnectionClosed(close) => {
            let code = u64::from(close.error_code);
            if code == NO_APPLICATION_PROTOCOL {
                Error::Version { peer }
            } else {
                Error::Unreachable { peer, reason: error.to_string() }
            }
        }
        quinn::ConnectionError::TimedOut => {
            Error::Unreachable { peer, reason: "no answer; is a relay listening there?".into() }
        }
        other => Error::Unreachable { peer, reason: other.to_string() },
    }
}
