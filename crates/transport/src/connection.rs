//! One connection on which a MoQT session can run.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use moqt::{Datagram, GroupOrder, Role, SessionCode, Transcoder, Transport, Version};

use crate::{CANONICAL, Error, RecvStream, SendStream};

/// Bytes beyond the congestion window that may wait inside QUIC. What waits there can no longer
/// be reordered or dropped by the relay, so it is kept to a few packets' worth.
const UNSENT_CAP: u64 = 24 * 1024;

/// Bytes of the header of a WebTransport stream: its type, and the session, which is the first
/// request of its connection.
const WEBTRANSPORT_HEADER: u64 = 3;

/// A connection with a version agreed, raw QUIC or WebTransport. Clones are handles to the same.
#[derive(Clone, Debug)]
pub struct Connection {
    session: web_transport_quinn::Session,
    version: Version,
    transport: Transport,
    role: Role,
}

/// What the path to the peer is like.
#[derive(Clone, Copy, Debug)]
pub struct PathStats {
    /// Smoothed round trip.
    pub rtt: Duration,
    /// Congestion window, bytes.
    pub cwnd: u64,
    /// UDP payload sent, bytes.
    pub sent_bytes: u64,
    /// UDP payload received, bytes.
    pub received_bytes: u64,
    /// Packets declared lost.
    pub lost_packets: u64,
    /// Packets sent.
    pub sent_packets: u64,
}

impl Connection {
    pub(crate) fn new(
        session: web_transport_quinn::Session,
        version: Version,
        transport: Transport,
        role: Role,
    ) -> Self {
        Self { session, version, transport, role }
    }

    /// The draft that was agreed.
    pub fn version(&self) -> Version {
        self.version
    }

    /// What carries it.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// Whether we dialled.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Whether the two are the ends of one connection, as when a program dialled itself.
    pub fn is_other_end_of(&self, other: &Self) -> bool {
        let secret = |connection: &Self| {
            let mut secret = [0; 16];
            let exported =
                connection.session.export_keying_material(&mut secret, b"weir ends", b"");
            exported.ok().map(|()| secret)
        };
        self.role != other.role && secret(self).is_some_and(|own| secret(other) == Some(own))
    }

    /// What a client says of the URL it dialled: on raw QUIC its authority and path, which
    /// WebTransport has carried already ("Setup Options").
    pub fn client_setup(&self, url: &url::Url) -> moqt::Setup {
        if self.transport == Transport::WebTransport {
            return moqt::Setup::default();
        }
        let path = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        moqt::Setup {
            path: Some(path.into()),
            authority: Some(url.authority().to_owned().into()),
            ..moqt::Setup::default()
        }
    }

    /// Where the peer is now.
    pub fn remote_address(&self) -> SocketAddr {
        let mut address = self.session.remote_address();
        address.set_ip(address.ip().to_canonical());
        address
    }

    /// What the path is like.
    pub fn path_stats(&self) -> PathStats {
        let stats = (*self.session).stats();
        PathStats {
            rtt: stats.path.rtt,
            cwnd: stats.path.cwnd,
            sent_bytes: stats.udp_tx.bytes,
            received_bytes: stats.udp_rx.bytes,
            lost_packets: stats.path.lost_packets,
            sent_packets: stats.path.sent_packets,
        }
    }

    /// Makes writes wait once a little more than a congestion window is unacknowledged, so that what
    /// is sent next is decided late. To be called as the window moves.
    pub fn limit_unsent(&self, cwnd: u64) {
        self.session.set_send_window(cwnd + cwnd / 8 + UNSENT_CAP);
    }

    /// Makes writes wait until no more bytes than these are unacknowledged.
    pub fn limit_unacknowledged(&self, bytes: u64) {
        self.session.set_send_window(bytes + 1);
    }

    /// Lets the peer have this many unidirectional streams open towards us. QUIC keeps state for
    /// each, so viewers get few and publishers many.
    pub fn allow_streams(&self, count: u32) {
        self.session.set_max_concurrent_uni_streams(count.into());
    }

    /// Lets the peer have this many bidirectional streams open towards us: requests.
    pub fn allow_requests(&self, count: u32) {
        self.session.set_max_concurrent_bi_streams(count.into());
    }

    /// Opens a stream for a subgroup, when the peer allows one more. It takes SUBGROUP_HEADER and
    /// objects as [`CANONICAL`] lays them out, which towards drafts 18 and 22 is without a copy.
    pub async fn open_data(&self) -> Result<SendStream, Error> {
        let (from, to) = (CANONICAL, self.version);
        let differ = Transcoder::subgroups_differ(from, to);
        let transcoder = differ.then(|| Transcoder::subgroup(from, to));
        Ok(self.open_control().await?.rewriting(transcoder))
    }

    /// The same as [`Connection::open_data`].
    pub async fn open_uni(&self) -> Result<SendStream, Error> {
        self.open_data().await
    }

    /// Opens a stream for the answer to a FETCH or fill that asked for `order`. It takes
    /// FETCH_HEADER and objects as [`CANONICAL`] lays them out.
    pub async fn open_fetch(&self, order: GroupOrder) -> Result<SendStream, Error> {
        let (from, to) = (CANONICAL, self.version);
        let differ = Transcoder::fetches_differ(from, to);
        let transcoder = differ.then(|| Transcoder::fetch(order, from, to));
        Ok(self.open_control().await?.rewriting(transcoder))
    }

    /// Opens a unidirectional stream whose bytes go out as they are.
    pub(crate) async fn open_control(&self) -> Result<SendStream, Error> {
        let stream = self.session.open_uni().await?;
        let header =
            if self.transport == Transport::WebTransport { WEBTRANSPORT_HEADER } else { 0 };
        Ok(SendStream::new(stream, self.version, header))
    }

    pub(crate) fn session(&self) -> &web_transport_quinn::Session {
        &self.session
    }

    pub(crate) async fn open_bi(&self) -> Result<(SendStream, RecvStream), Error> {
        let (send, recv) = self.session.open_bi().await?;
        Ok((SendStream::new(send, self.version, 0), RecvStream::new(recv, self.version)))
    }

    pub(crate) async fn accept_uni(&self) -> Result<RecvStream, Error> {
        Ok(RecvStream::new(self.session.accept_uni().await?, self.version))
    }

    pub(crate) async fn accept_bi(&self) -> Result<(SendStream, RecvStream), Error> {
        let (send, recv) = self.session.accept_bi().await?;
        Ok((SendStream::new(send, self.version, 0), RecvStream::new(recv, self.version)))
    }

    pub(crate) async fn read_datagram(&self) -> Result<Bytes, Error> {
        Ok(self.session.read_datagram().await?)
    }

    /// Sends an object's datagram, in [`CANONICAL`] layout, or drops it: when it is too large, when
    /// too many wait, when the peer's draft cannot say it, or when the connection is gone.
    pub fn send_datagram(&self, bytes: Bytes) -> bool {
        // QUIC would make room by dropping others, and not say so.
        let fits = |bytes: &Bytes| bytes.len() <= self.session.datagram_send_buffer_space();
        self.datagram_bytes(bytes)
            .filter(fits)
            .is_some_and(|bytes| self.session.send_datagram(bytes).is_ok())
    }

    fn datagram_bytes(&self, bytes: Bytes) -> Option<Bytes> {
        let (from, to) = (CANONICAL, self.version);
        if !Transcoder::subgroups_differ(from, to) {
            return Some(bytes);
        }
        let datagram = Datagram::decode(bytes, from.int_coding()).ok()??;
        Some(datagram.transcode(from, to).ok()?.to_bytes(to.int_coding()))
    }

    /// Largest datagram that can be sent, bytes; 0: none.
    pub fn max_datagram_size(&self) -> usize {
        self.session.max_datagram_size()
    }

    /// Closes the connection with the draft's code.
    pub fn close(&self, code: SessionCode, reason: &str) {
        let code = u32::try_from(code.0).unwrap_or(1);
        self.session.close(code, reason.as_bytes());
    }

    /// Waits until the connection is over and says why.
    pub async fn closed(&self) -> Error {
        self.session.closed().await.into()
    }
}
