//! A server on a free port, a client that trusts it, and objects that are known when seen.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use moqt::{FullTrackName, Namespace, Properties, Transport, Version, property};
use transport::publish::{Broadcast, PublishOptions, PublishStatus, TrackProducer, publish_on};
use transport::subscribe::{Object, Subscriber};
use transport::{
    ClientTls, Connection, Endpoint, EndpointConfig, EndpointOptions, Identity, Limits,
};
use url::Url;

/// How long anything may take on a machine that is busy with something else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What carries a session, in every draft.
pub(crate) fn every() -> impl Iterator<Item = (Version, Transport)> {
    Version::ALL
        .iter()
        .flat_map(|version| [(*version, Transport::RawQuic), (*version, Transport::WebTransport)])
}

pub(crate) fn within<'a, T: 'a>(
    what: &'a str,
    future: impl Future<Output = T> + 'a,
) -> Pin<Box<dyn Future<Output = T> + 'a>> {
    Box::pin(async move {
        match tokio::time::timeout(PATIENCE, future).await {
            Ok(done) => done,
            Err(_) => panic!("no {what} within {PATIENCE:?}"),
        }
    })
}

/// A listening endpoint.
pub(crate) struct Server {
    pub(crate) endpoint: Endpoint,
    pub(crate) tls: ClientTls,
    addr: SocketAddr,
    state: Arc<tempfile::TempDir>,
}

impl Server {
    pub(crate) fn new(options: impl Into<EndpointOptions>) -> Self {
        let state = Arc::new(tempfile::tempdir().unwrap());
        Self::in_state(state, options)
    }

    /// Another one with the same certificate.
    pub(crate) fn with_identity_of(other: &Self, options: impl Into<EndpointOptions>) -> Self {
        Self::in_state(Arc::clone(&other.state), options)
    }

    fn in_state(state: Arc<tempfile::TempDir>, options: impl Into<EndpointOptions>) -> Self {
        let identity = Identity::self_signed(state.path()).unwrap();
        let tls = ClientTls { fingerprints: vec![identity.fingerprint()], disable_verify: false };
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let endpoint = Endpoint::server(any, &identity, options).unwrap();
        let addr = endpoint.local_addr().unwrap();
        Self { endpoint, tls, addr, state }
    }

    pub(crate) fn url(&self, transport: Transport) -> Url {
        let scheme = match transport {
            Transport::RawQuic => "moqt",
            Transport::WebTransport => "https",
        };
        format!("{scheme}://{}/live", self.addr).parse().unwrap()
    }

    /// The next connection.
    pub(crate) async fn accept(&self) -> Connection {
        let incoming = within("connection", self.endpoint.accept()).await.unwrap();
        within("handshake", incoming.accept()).await.unwrap()
    }

    /// The next connection, to subscribe to what the other end publishes.
    pub(crate) async fn subscriber(&self) -> Subscriber {
        Subscriber::on(self.accept().await, moqt::Setup::default(), Limits::default())
    }
}

/// Options that speak one draft only.
pub(crate) fn speaking(versions: &[Version]) -> EndpointOptions {
    EndpointOptions::from(EndpointConfig { uni_streams: 512, ..EndpointConfig::default() })
        .versions(versions)
}

pub(crate) fn namespace() -> Namespace {
    Namespace::from_path("live/cam").unwrap()
}

pub(crate) fn track(name: &str) -> FullTrackName {
    FullTrackName::new(namespace(), name.to_owned()).unwrap()
}

/// What the object at this place carries, wherever it is seen.
pub(crate) fn contents(group: u64, subgroup: u64, id: u64) -> (Properties, Bytes) {
    let mut inner = Properties::new();
    inner.push_int(0x10, 300 + id);
    let mut properties = Properties::new();
    if id % 3 != 2 {
        properties.push_int(0x08, (1 << 40) + group);
        properties.push_bytes(property::IMMUTABLE, inner.to_bytes(moqt::IntCoding::LeadingOnes));
    }
    let length = [70_000, 0, 1_200, 1][(id % 4) as usize];
    let payload = (0..length).map(|at: u64| (at ^ group ^ subgroup ^ id) as u8).collect();
    (properties, payload)
}

pub(crate) fn write(producer: &mut TrackProducer, group: u64, subgroup: u64, id: u64) {
    let (properties, payload) = contents(group, subgroup, id);
    producer.write(subgroup, id, &properties, payload);
}

#[track_caller]
pub(crate) fn check(object: &Object) {
    let subgroup = object.subgroup.expect("nothing here is published by datagram");
    let at = object.location;
    let (properties, payload) = contents(at.group, subgroup, at.object);
    let place = format!("object {at} of subgroup {subgroup}");
    assert!(object.payload == payload, "{place} has another payload");
    assert_eq!(object.properties, properties, "{place}");
}

/// A publisher that runs until this is dropped.
pub(crate) struct Publishing {
    task: tokio::task::JoinHandle<Result<(), transport::Error>>,
    pub(crate) status: tokio::sync::mpsc::UnboundedReceiver<PublishStatus>,
}

impl Publishing {
    pub(crate) fn start(
        broadcast: &Broadcast,
        server: &Server,
        version: Version,
        transport: Transport,
    ) -> Self {
        let endpoint = Endpoint::client(speaking(&[version])).unwrap();
        let options = PublishOptions { relay: server.url(transport), tls: server.tls.clone() };
        let (tell, status) = tokio::sync::mpsc::unbounded_channel();
        let broadcast = broadcast.clone();
        let task = tokio::spawn(async move {
            let tell = move |status| drop(tell.send(status));
            publish_on(&endpoint, broadcast, options, std::future::pending(), tell).await
        });
        Self { task, status }
    }
}

impl Drop for Publishing {
    fn drop(&mut self) {
        self.task.abort();
    }
}
