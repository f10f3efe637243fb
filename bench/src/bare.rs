//! A QUIC server that writes a broadcast's bytes to whoever subscribes, and does nothing else.
//!
//! The yardstick: what quinn costs for the same bytes, one unidirectional stream a group, without
//! a relay. It greets as MoQT asks, so that the same viewers can watch it; from then on each has
//! one task that waits for the next object and writes it. Nothing is queued for a viewer that
//! falls behind: it misses objects, as its figures will show.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use moqt::{
    Event, IntCoding, ObjectHeader, ObjectStatus, Output, Parameters, Properties, Request,
    RequestId, Response, Session, Setup, SubgroupHeader, SubgroupId, SubscribeOk, Version,
};
use quinn::crypto::rustls::QuicServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::sync::broadcast;

use crate::clock::{self, Micros};
use crate::load::{Kind, Stamp};

/// The draft it greets in.
const VERSION: Version = Version::Draft18;
/// Objects that a viewer's task may be behind before it misses one.
const BACKLOG: usize = 256;

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum BareError {
    /// The socket.
    #[error("cannot listen on {listen} (UDP): {error}")]
    Bind {
        /// Where.
        listen: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// The certificate or TLS.
    #[error("cannot set TLS up: {0}")]
    Tls(String),
}

/// A server that listens, and when its first object is due.
#[derive(Debug)]
pub struct Bare {
    endpoint: quinn::Endpoint,
    /// When the first object is due.
    pub start: Micros,
    kind: Kind,
}

/// An object, ready to be written.
#[derive(Clone, Debug)]
struct Piece {
    group: u64,
    /// Whether a new stream begins with it.
    first: bool,
    header: Bytes,
    payload: Bytes,
}

impl Bare {
    /// Listens.
    ///
    /// # Errors
    /// When the address is taken or TLS does not work.
    pub fn listen(listen: SocketAddr, kind: Kind) -> Result<Self, BareError> {
        let bound = |error| BareError::Bind { listen, error };
        let config = server_config().map_err(|error| BareError::Tls(error.to_string()))?;
        let socket = bind(listen).map_err(bound)?;
        let runtime = Arc::new(quinn::TokioRuntime);
        let endpoint =
            quinn::Endpoint::new(quinn::EndpointConfig::default(), Some(config), socket, runtime)
                .map_err(bound)?;
        Ok(Self { endpoint, start: clock::now(), kind })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the socket is gone.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// Serves until dropped.
    pub async fn run(self) {
        let (pieces, _) = broadcast::channel(BACKLOG);
        tokio::spawn(publish(self.start, self.kind, pieces.clone()));
        while let Some(incoming) = self.endpoint.accept().await {
            let pieces = pieces.clone();
            tokio::spawn(async move {
                if let Ok(connection) = incoming.await {
                    // A viewer that leaves is no news.
                    let _ = serve(connection, pieces).await;
                }
            });
        }
    }
}

fn server_config() -> Result<quinn::ServerConfig, Box<dyn std::error::Error>> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    tls.alpn_protocols = vec![VERSION.alpn().as_bytes().to_vec()];
    Ok(quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?)))
}

/// Buffers as large as the relay's.
fn bind(listen: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let domain = socket2::Domain::for_address(listen);
    let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, None)?;
    let _ = socket.set_recv_buffer_size(4 << 20);
    let _ = socket.set_send_buffer_size(4 << 20);
    socket.bind(&listen.into())?;
    Ok(socket.into())
}

/// Makes an object at each due time.
async fn publish(start: Micros, kind: Kind, pieces: broadcast::Sender<Piece>) {
    let begin = Instant::now();
    let skipped = Duration::from_micros(clock::now() - start);
    for number in 0u64.. {
        let due = Duration::from_secs_f64(number as f64 / kind.rate);
        tokio::time::sleep_until((begin + due.saturating_sub(skipped)).into()).await;
        let (group, object) = (number / kind.group, number % kind.group);
        let payload = Stamp { sent: clock::now(), group, object }.payload(kind.size);
        let mut header = BytesMut::new();
        ObjectHeader {
            id: object,
            previous: object.checked_sub(1),
            properties: Some(&Bytes::new()),
            payload: payload.len() as u64,
            status: ObjectStatus::Normal,
        }
        .encode(&mut header, IntCoding::LeadingOnes);
        // Nobody may be there.
        let _ = pieces.send(Piece { group, first: object == 0, header: header.freeze(), payload });
    }
}

/// Greets, answers every SUBSCRIBE, and writes.
async fn serve(
    connection: quinn::Connection,
    pieces: broadcast::Sender<Piece>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut session = Session::new(
        moqt::Config {
            version: VERSION,
            role: moqt::Role::Server,
            transport: moqt::Transport::RawQuic,
            setup: Setup::default(),
            limits: moqt::Limits::default(),
        },
        Instant::now(),
    );
    let mut control = connection.open_uni().await?;
    while let Some(output) = session.poll_output() {
        if let Output::Control(bytes) = output {
            control.write_all(&bytes).await?;
        }
    }
    let mut peer = connection.accept_uni().await?;
    while session.peer().is_none() {
        let Some(chunk) = peer.read_chunk(4096, true).await? else { return Ok(()) };
        session.handle_control(&chunk.bytes, false);
        while session.poll_event().is_some() {}
    }
    // Streams live as long as the connection.
    let mut requests = Vec::new();
    loop {
        let (mut send, mut recv) = connection.accept_bi().await?;
        let stream = session.accept_stream();
        let id = loop {
            let Some(chunk) = recv.read_chunk(4096, true).await? else { return Ok(()) };
            session.handle_stream(stream, &chunk.bytes, false);
            let mut events = std::iter::from_fn(|| session.poll_event());
            if let Some(id) = events.find_map(|event| subscription(&event)) {
                break id;
            }
        };
        let alias = session.allocate_alias();
        session.respond(
            id,
            Response::SubscribeOk(SubscribeOk {
                track_alias: alias,
                parameters: Parameters::default(),
                properties: Properties::new(),
            }),
        )?;
        let watching = pieces.subscribe();
        while let Some(output) = session.poll_output() {
            if let Output::Request { bytes, .. } = output {
                send.write_all(&bytes).await?;
            }
        }
        tokio::spawn(write(connection.clone(), alias, watching));
        requests.push((send, recv));
    }
}

fn subscription(event: &Event) -> Option<RequestId> {
    match event {
        Event::Requested { id, request: Request::Subscribe(_) } => Some(*id),
        _ => None,
    }
}

/// Writes every object from the next group on.
async fn write(
    connection: quinn::Connection,
    alias: u64,
    mut pieces: broadcast::Receiver<Piece>,
) -> Option<()> {
    let mut stream: Option<quinn::SendStream> = None;
    loop {
        let piece = match pieces.recv().await {
            Ok(piece) => piece,
            // The object IDs would not add up: begin again with the next group.
            Err(broadcast::error::RecvError::Lagged(_)) => {
                stream = None;
                continue;
            }
            Err(broadcast::error::RecvError::Closed) => return None,
        };
        if piece.first {
            if let Some(mut ended) = stream.take() {
                let _ = ended.finish();
            }
            let mut opened = connection.open_uni().await.ok()?;
            let mut header = BytesMut::new();
            SubgroupHeader {
                track_alias: alias,
                group: piece.group,
                subgroup: SubgroupId::Known(0),
                priority: None,
                properties: true,
                end_of_group: false,
                first_object: true,
            }
            .encode(&mut header, IntCoding::LeadingOnes);
            opened.write_all(&header).await.ok()?;
            stream = Some(opened);
        }
        if let Some(stream) = &mut stream {
            stream.write_all_chunks(&mut [piece.header, piece.payload]).await.ok()?;
        }
    }
}
