//! A UDP port that accepts and dials MoQT connections.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use moqt::{Role, Transport, Version};
use quinn::Runtime as _;
use quinn::crypto::rustls::QuicClientConfig;
use url::Url;
use web_transport_quinn::proto::{ConnectRequest, ConnectResponse};

use crate::batching::Batching;
use crate::listener::bind;
use crate::{ClientTls, Connection, Error, Identity, Limits, Listener};

/// ALPN of HTTP/3, which carries WebTransport.
pub(crate) const H3: &str = web_transport_quinn::ALPN;

/// How long a handshake may take, ours or a peer's.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a refused WebTransport client may take to read its status.
const REFUSAL_PATIENCE: Duration = Duration::from_millis(300);

/// Before the names of what we speak, in a refusal.
const SPEAKS: &str = "this relay speaks ";

/// TLS alert no_application_protocol, as a QUIC crypto error.
const NO_APPLICATION_PROTOCOL: u64 = 0x100 + 120;

/// How an endpoint behaves.
#[derive(Clone, Copy, Debug)]
pub struct EndpointConfig {
    /// A peer that is silent this long is gone.
    pub idle_timeout: Duration,
    /// How often to say something when there is nothing to say.
    pub keep_alive: Duration,
    /// Unidirectional streams a peer may open; see [`Connection::allow_streams`].
    pub uni_streams: u32,
    /// Bidirectional streams a peer may open: requests. What goes past the session's own bound,
    /// [`moqt::Limits::requests`], is answered, what goes past this one waits.
    pub bidi_streams: u32,
}

/// Streams that let a peer have so many requests open, and hear that one more is too many.
pub fn request_streams(requests: usize) -> u32 {
    u32::try_from(requests).unwrap_or(u32::MAX).saturating_add(16)
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

/// What the kernel keeps for an endpoint's socket, in bytes, each way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpBuffers {
    /// Granted for what comes in.
    pub receive: u64,
    /// Granted for what goes out.
    pub send: u64,
}

impl UdpBuffers {
    /// What is asked for, each: a burst of a whole group must not be lost in the kernel.
    pub const WANTED: u64 = 4 * 1024 * 1024;

    fn of(socket: &std::net::UdpSocket) -> Option<Self> {
        let socket = socket2::SockRef::from(socket);
        // Linux says twice what it was told, as half is for its own bookkeeping.
        let own = if cfg!(target_os = "linux") { 2 } else { 1 };
        let receive = socket.recv_buffer_size().ok()? / own;
        let send = socket.send_buffer_size().ok()? / own;
        Some(Self { receive: receive as u64, send: send as u64 })
    }
}

/// Everything that an endpoint is told: an [`EndpointConfig`] alone leaves the rest as it is by
/// default.
#[derive(Clone, Debug)]
pub struct EndpointOptions {
    /// How it behaves.
    pub config: EndpointConfig,
    /// The drafts it offers and takes, most preferred first. A server's order decides.
    pub versions: Vec<Version>,
    /// What peers may make it hold. Of these the endpoint sets QUIC's windows and queues.
    pub limits: Limits,
}

impl Default for EndpointOptions {
    fn default() -> Self {
        EndpointConfig::default().into()
    }
}

impl From<EndpointConfig> for EndpointOptions {
    fn from(config: EndpointConfig) -> Self {
        Self { config, versions: Version::ALL.to_vec(), limits: Limits::default() }
    }
}

impl EndpointOptions {
    /// Offers and takes these drafts only, most preferred first.
    pub fn versions(mut self, versions: impl Into<Vec<Version>>) -> Self {
        self.versions = versions.into();
        self
    }

    /// Holds peers to these bounds.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    pub(crate) fn alpns(&self) -> impl Iterator<Item = &'static str> {
        self.versions.iter().map(|version| version.alpn())
    }

    pub(crate) fn transport(&self) -> Arc<quinn::TransportConfig> {
        let Self { config, limits, .. } = self;
        let window = |bytes: u64| quinn::VarInt::from_u64(bytes).unwrap_or(quinn::VarInt::MAX);
        let mut transport = quinn::TransportConfig::default();
        let idle = config.idle_timeout.try_into().expect("an idle timeout of less than 2^62 ms");
        transport
            .max_idle_timeout(Some(idle))
            .keep_alive_interval(Some(config.keep_alive))
            .max_concurrent_uni_streams(config.uni_streams.into())
            .max_concurrent_bidi_streams(config.bidi_streams.into())
            .receive_window(window(limits.unread_bytes))
            .stream_receive_window(window(limits.unread_stream_bytes))
            .datagram_receive_buffer_size(Some(limits.unread_datagram_bytes))
            .send_fairness(true)
            .ack_frequency_config(Some(ack_frequency()))
            // Stale audio is worth nothing: a few dozen datagrams are all that may wait.
            .datagram_send_buffer_size(64 * 1024);
        Arc::new(transport)
    }
}

/// Peers that can are asked to acknowledge less often: every ten packets and not every second,
/// which is one wake less in every five.
fn ack_frequency() -> quinn::AckFrequencyConfig {
    let mut config = quinn::AckFrequencyConfig::default();
    config.ack_eliciting_threshold(10u32.into());
    config
}

/// Versions, for messages to people.
fn names(versions: &[Version]) -> String {
    versions.iter().map(|version| version.alpn()).collect::<Vec<_>>().join(", ")
}

/// A UDP port that accepts (with an [`Identity`]) and dials. Handles share it.
#[derive(Clone, Debug)]
pub struct Endpoint {
    endpoint: quinn::Endpoint,
    options: Arc<EndpointOptions>,
    buffers: Option<UdpBuffers>,
}

impl Endpoint {
    /// Accepts on `addr`; `[::]` takes both address families.
    pub fn server(
        addr: SocketAddr,
        identity: &Identity,
        options: impl Into<EndpointOptions>,
    ) -> Result<Self, Error> {
        let mut listeners = Listener::bind(addr, identity, options, 1)?;
        Self::serve(listeners.pop().expect("one worker has one listener"))
    }

    /// Accepts what comes to a listener. What is accepted runs in the runtime that this is called
    /// in.
    pub fn serve(listener: Listener) -> Result<Self, Error> {
        let Listener { socket, server, endpoint, options } = listener;
        Self::open(socket, endpoint, Some(server), options)
    }

    /// On a socket that is bound.
    fn open(
        socket: std::net::UdpSocket,
        config: quinn::EndpointConfig,
        server: Option<quinn::ServerConfig>,
        options: Arc<EndpointOptions>,
    ) -> Result<Self, Error> {
        let buffers = UdpBuffers::of(&socket);
        let runtime = Arc::new(quinn::TokioRuntime);
        let setup = |error: std::io::Error| Error::Setup(error.to_string());
        let socket = Batching::new(runtime.wrap_udp_socket(socket).map_err(setup)?);
        let endpoint = quinn::Endpoint::new_with_abstract_socket(config, server, socket, runtime)
            .map_err(setup)?;
        Ok(Self { endpoint, options, buffers })
    }

    /// Only dials, from any free port.
    pub fn client(options: impl Into<EndpointOptions>) -> Result<Self, Error> {
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        let socket = bind(any)
            // A machine without IPv6.
            .or_else(|_| bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))))
            .map_err(|error| Error::Bind { addr: any, reason: error.to_string() })?;
        Self::open(socket, Default::default(), None, Arc::new(options.into()))
    }

    /// The address bound.
    pub fn local_addr(&self) -> Result<SocketAddr, Error> {
        self.endpoint.local_addr().map_err(|error| Error::Setup(error.to_string()))
    }

    /// What the kernel granted its socket; `None` where it does not tell.
    pub fn udp_buffers(&self) -> Option<UdpBuffers> {
        self.buffers
    }

    /// The next connection attempt; `None` once the endpoint is closed.
    pub async fn accept(&self) -> Option<Incoming> {
        let incoming = self.endpoint.accept().await?;
        Some(Incoming { incoming, options: Arc::clone(&self.options) })
    }

    /// Dials `moqt://host:port` (raw QUIC) or `https://host:port/path` (WebTransport), offering
    /// the endpoint's versions.
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

        let alpn: Vec<&str> = match transport {
            Transport::RawQuic => self.options.alpns().collect(),
            Transport::WebTransport => vec![H3],
        };
        let crypto = QuicClientConfig::try_from(tls.config(&alpn))
            .map_err(|error| Error::Setup(error.to_string()))?;
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        config.transport_config(self.options.transport());

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
        connecting.await.map_err(|error| classify(&error, peer(), &self.options.versions))
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
                let request = self
                    .options
                    .alpns()
                    .fold(ConnectRequest::new(url.clone()), ConnectRequest::with_protocol);
                let connect = web_transport_quinn::Session::connect(connection.clone(), request);
                match tokio::time::timeout(HANDSHAKE_TIMEOUT, connect).await {
                    Ok(Ok(session)) => session,
                    Ok(Err(error)) if is_refusal(&error) => {
                        return Err(self.no_version(peer, refusal(&connection).await));
                    }
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
        let agreed = session.protocol().and_then(Version::from_alpn);
        match agreed.filter(|version| self.options.versions.contains(version)) {
            Some(version) => Ok(Connection::new(session, version, transport, Role::Client)),
            None => {
                session.close(moqt::SessionCode::VERSION_NEGOTIATION_FAILED.0 as u32, b"");
                Err(self.no_version(peer, None))
            }
        }
    }

    fn no_version(&self, peer: String, said: Option<String>) -> Error {
        Error::Version { peer, ours: names(&self.options.versions), said }
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
pub struct Incoming {
    incoming: quinn::Incoming,
    options: Arc<EndpointOptions>,
}

impl Incoming {
    /// Where it comes from.
    pub fn remote_address(&self) -> SocketAddr {
        let mut address = self.incoming.remote_address();
        address.set_ip(address.ip().to_canonical());
        address
    }

    /// Makes the peer show that its address is its own before anything is spent on it; does
    /// nothing when it did. Returns `None` when it has to come again.
    pub fn validated(self) -> Option<Self> {
        if self.incoming.remote_address_validated() || !self.incoming.may_retry() {
            return Some(self);
        }
        let _ = self.incoming.retry();
        None
    }

    /// Turns the attempt away.
    pub fn refuse(self) {
        self.incoming.refuse();
    }

    /// Completes the handshake and settles the version. A peer that speaks none of ours is
    /// refused: on raw QUIC with TLS's no_application_protocol, which carries no words, on
    /// WebTransport with HTTP status 406 and a close that names what we speak.
    pub async fn accept(self) -> Result<Connection, Error> {
        let peer = self.remote_address().to_string();
        let late =
            || Error::Unreachable { peer: peer.clone(), reason: "handshake too slow".into() };
        tokio::time::timeout(HANDSHAKE_TIMEOUT, self.handshake(&peer)).await.map_err(|_| late())?
    }

    async fn handshake(self, peer: &str) -> Result<Connection, Error> {
        let Self { incoming, options } = self;
        let lost = |error: &dyn std::fmt::Display| Error::Lost(format!("{peer}: {error}"));
        let no_version =
            || Error::Version { peer: peer.to_owned(), ours: names(&options.versions), said: None };
        let connection = incoming.await.map_err(|error| match is_no_protocol(&error) {
            true => no_version(),
            false => lost(&error),
        })?;
        let alpn = connection
            .handshake_data()
            .and_then(|data| data.downcast::<quinn::crypto::rustls::HandshakeData>().ok())
            .and_then(|data| data.protocol)
            .unwrap_or_default();
        if alpn != H3.as_bytes() {
            let version = std::str::from_utf8(&alpn).ok().and_then(Version::from_alpn);
            let Some(version) = version else {
                connection.close(version_negotiation_failed(), names(&options.versions).as_bytes());
                return Err(no_version());
            };
            let session = web_transport_quinn::Session::raw(connection);
            return Ok(Connection::new(session, version, Transport::RawQuic, Role::Server));
        }
        let request =
            web_transport_quinn::Request::accept(connection).await.map_err(|error| lost(&error))?;
        let offered = |version: &&Version| request.protocols.iter().any(|p| p == version.alpn());
        let Some(version) = options.versions.iter().find(offered).copied() else {
            let said = Some(format!("it offered {}", Offer(&request.protocols)));
            refuse_web_transport(request, &names(&options.versions)).await;
            return Err(Error::Version {
                peer: peer.to_owned(),
                ours: names(&options.versions),
                said,
            });
        };
        let session = request
            .respond(ConnectResponse::OK.with_protocol(version.alpn()))
            .await
            .map_err(|error| lost(&error))?;
        Ok(Connection::new(session, version, Transport::WebTransport, Role::Server))
    }
}

/// What a peer offered, for people: no more of its words than fit a line of a log.
struct Offer<'a>(&'a [String]);

impl std::fmt::Display for Offer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            return f.write_str("no protocol at all");
        }
        for (at, name) in self.0.iter().take(8).enumerate() {
            let name: String = name.chars().filter(char::is_ascii_graphic).take(24).collect();
            write!(f, "{}{name}", if at == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// A client that got no protocol would believe it is connected, so it gets no session but status
/// 406, and then the names of what we speak as the connection's last words.
async fn refuse_web_transport(request: web_transport_quinn::Request, ours: &str) {
    let connection = request.conn().clone();
    let _ = request.reject(web_transport_quinn::http::StatusCode::NOT_ACCEPTABLE).await;
    // A close discards what the client has not read yet: one that has the status leaves by itself.
    let _ = tokio::time::timeout(REFUSAL_PATIENCE, connection.closed()).await;
    connection.close(version_negotiation_failed(), format!("{SPEAKS}{ours}").as_bytes());
}

fn version_negotiation_failed() -> quinn::VarInt {
    (moqt::SessionCode::VERSION_NEGOTIATION_FAILED.0 as u32).into()
}

/// Whether a server refused our versions: the status is 406.
fn is_refusal(error: &web_transport_quinn::ClientError) -> bool {
    use web_transport_quinn::proto::ConnectError as Proto;
    use web_transport_quinn::{ClientError, ConnectError, http::StatusCode};
    let status = match error {
        ClientError::HttpError(ConnectError::ErrorStatus(status)) => Some(*status),
        ClientError::HttpError(ConnectError::ProtoError(Proto::WrongStatus(status))) => *status,
        _ => None,
    };
    status == Some(StatusCode::NOT_ACCEPTABLE)
}

/// The server's words after a refusal, when they come soon.
async fn refusal(connection: &quinn::Connection) -> Option<String> {
    let closed = tokio::time::timeout(2 * REFUSAL_PATIENCE, connection.closed()).await.ok()?;
    let quinn::ConnectionError::ApplicationClosed(close) = closed else { return None };
    let said = String::from_utf8_lossy(&close.reason);
    Some(said.chars().filter(|c| !c.is_control()).take(120).collect())
}

async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, Error> {
    let failed = |reason: String| Error::Resolve { host: host.to_owned(), reason };
    let found = tokio::net::lookup_host((host, port)).await;
    let addresses: Vec<_> = found.map_err(|error| failed(error.to_string()))?.collect();
    if addresses.is_empty() { Err(failed("no address".into())) } else { Ok(addresses) }
}

/// Whether a handshake failed because there is no protocol in common.
fn is_no_protocol(error: &quinn::ConnectionError) -> bool {
    match error {
        quinn::ConnectionError::TransportError(error) => {
            u64::from(error.code) == NO_APPLICATION_PROTOCOL
        }
        quinn::ConnectionError::ConnectionClosed(close) => {
            u64::from(close.error_code) == NO_APPLICATION_PROTOCOL
        }
        _ => false,
    }
}

/// Tells a bad certificate and a version mismatch from a peer that does not answer.
fn classify(error: &quinn::ConnectionError, peer: String, offered: &[Version]) -> Error {
    if is_no_protocol(error) {
        return Error::Version { peer, ours: names(offered), said: None };
    }
    match error {
        quinn::ConnectionError::TransportError(transport)
            if (0x100..0x200).contains(&u64::from(transport.code)) =>
        {
            let reason = transport.reason.clone();
            let reason = reason
                .split_once("Other(OtherError(Refused(\"")
                .map_or(reason.as_str(), |(_, rest)| rest.trim_end_matches("\")))"))
                .to_owned();
            Error::Certificate { peer, reason }
        }
        quinn::ConnectionError::TransportError(transport) => {
            Error::Unreachable { peer, reason: transport.to_string() }
        }
        quinn::ConnectionError::TimedOut => {
            Error::Unreachable { peer, reason: "no answer; is a relay listening there?".into() }
        }
        other => Error::Unreachable { peer, reason: other.to_string() },
    }
}
