//! A relay's side of a session with one publisher: it accepts the namespace, subscribes to the
//! catalog and to each track that it names, and collects the objects.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use media::msf::Catalog;
use moqt::{
    Event, FullTrackName, IntCoding, Namespace, ObjectScanner, Parameters, Properties, Request,
    RequestId, RequestOk, Response, SubgroupHeader, SubgroupId, Subscribe,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use transport::{Driver, DriverEvent, Endpoint, EndpointConfig, Identity, RecvStream};

const CODING: IntCoding = IntCoding::LeadingOnes;
/// Nothing here takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// A relay that waits for a publisher.
pub(crate) struct Relay {
    endpoint: Endpoint,
    /// `moqt://…`
    pub(crate) url: String,
    /// Of its certificate.
    pub(crate) fingerprint: String,
    _certificate: tempfile::TempDir,
}

/// A session with a publisher.
pub(crate) struct Session {
    driver: Driver,
    namespace: Namespace,
    names: HashMap<RequestId, String>,
    /// Subscriptions that are in force.
    answered: usize,
    objects: mpsc::UnboundedReceiver<Object>,
    collect: mpsc::UnboundedSender<Object>,
    /// The streams that are being read.
    reading: JoinSet<()>,
    pub(crate) received: Vec<Object>,
}

/// An object as it came.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) track: String,
    pub(crate) group: u64,
    pub(crate) subgroup: SubgroupId,
    /// Publisher priority, where its stream has one of its own.
    pub(crate) priority: Option<u8>,
    pub(crate) object: u64,
    pub(crate) properties: Properties,
    pub(crate) payload: Bytes,
}

impl Relay {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a pair");
        let (certificate, key) = (dir.path().join("relay.pem"), dir.path().join("relay.key"));
        std::fs::write(&certificate, made.cert.pem()).expect("written");
        std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
        let identity = Identity::from_files(&certificate, &key).expect("an identity");
        let config = EndpointConfig { uni_streams: 256, ..EndpointConfig::default() };
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let endpoint = Endpoint::server(any, &identity, config).expect("a port");
        let port = endpoint.local_addr().expect("an address").port();
        Self {
            endpoint,
            url: format!("moqt://127.0.0.1:{port}"),
            fingerprint: identity.fingerprint().to_string(),
            _certificate: dir,
        }
    }

    /// Arguments that lead a publisher here.
    pub(crate) fn args<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let here = ["--relay", &self.url, "--tls-fingerprint", &self.fingerprint];
        here.into_iter().chain(more.iter().copied()).collect()
    }

    /// Waits for a publisher that breaks the handshake off.
    pub(crate) async fn turned_down(&self) {
        let incoming = self.endpoint.accept().await.expect("an open endpoint");
        assert!(incoming.accept().await.is_err(), "the publisher went on");
    }

    /// Waits for a publisher and its namespace.
    pub(crate) async fn accept(&self) -> Session {
        let session = async {
            let incoming = self.endpoint.accept().await.expect("an open endpoint");
            let connection = incoming.accept().await.expect("a handshake");
            let mut driver =
                Driver::new(connection, moqt::Setup::default(), moqt::Limits::default());
            let (collect, objects) = mpsc::unbounded_channel();
            loop {
                let event = driver.next().await.expect("a session");
                if let DriverEvent::Session(Event::Requested { id, request }) = event {
                    let Request::PublishNamespace(publish) = request else {
                        panic!("{request:?} before PUBLISH_NAMESPACE");
                    };
                    let ok = Response::Ok(RequestOk::default());
                    driver.session_mut().respond(id, ok).expect("room for it");
                    return Session {
                        driver,
                        namespace: publish.namespace,
                        names: HashMap::new(),
                        answered: 0,
                        objects,
                        collect,
                        reading: JoinSet::new(),
                        received: Vec::new(),
                    };
                }
            }
        };
        let mut session = tokio::time::timeout(PATIENCE, session).await.expect("no publisher came");
        session.subscribe("catalog");
        session
    }
}

impl Session {
    pub(crate) fn namespace(&self) -> String {
        self.namespace.to_string()
    }

    fn subscribe(&mut self, name: &str) {
        let track =
            FullTrackName::new(self.namespace.clone(), Bytes::copy_from_slice(name.as_bytes()));
        let subscribe =
            Subscribe { track: track.expect("a name"), parameters: Parameters::default() };
        let request = Request::Subscribe(subscribe);
        let id = self.driver.session_mut().request(request).expect("room for it");
        self.names.insert(id, name.to_owned());
    }

    /// Collects until enough has come. Panics if it does not come in time, or the session ends.
    pub(crate) async fn collect_until(&mut self, enough: impl Fn(&Session) -> bool) {
        let collecting = async {
            while !enough(self) {
                assert!(self.step().await, "the session has ended");
            }
        };
        tokio::time::timeout(PATIENCE, collecting).await.expect("too little came");
    }

    /// Waits until every subscription is answered.
    pub(crate) async fn settle(&mut self) {
        self.collect_until(|session| session.answered == session.names.len()).await;
    }

    /// Collects until the publisher closes the session.
    pub(crate) async fn collect_all(&mut self) {
        let collecting = async {
            while self.step().await {}
            // What had arrived before the end is still to be read.
            while self.reading.join_next().await.is_some() {}
        };
        tokio::time::timeout(PATIENCE, collecting).await.expect("the session does not end");
        while let Ok(object) = self.objects.try_recv() {
            self.received.push(object);
        }
    }

    /// Objects of a track, by group and object.
    pub(crate) fn track(&self, name: &str) -> Vec<Object> {
        let mut objects: Vec<_> =
            self.received.iter().filter(|object| object.track == name).cloned().collect();
        objects.sort_by_key(|object| (object.group, object.object));
        objects
    }

    /// The newest catalog.
    pub(crate) fn catalog(&self) -> Option<Catalog> {
        let newest = self.track("catalog").pop()?;
        Some(Catalog::from_json(&newest.payload).expect("a catalog"))
    }

    /// Takes in what comes next; `false` once the session has ended.
    async fn step(&mut self) -> bool {
        tokio::select! {
            event = self.driver.next() => match event {
                Ok(DriverEvent::Subgroup { request, header, head, stream }) => {
                    let track = self.names.get(&request).cloned().expect("a subscription");
                    self.reading.spawn(read(track, header, head, stream, self.collect.clone()));
                }
                Ok(DriverEvent::Session(Event::Responded { response, .. })) => {
                    assert!(!matches!(response, Response::Error(_)), "{response:?}");
                    self.answered += usize::from(matches!(response, Response::SubscribeOk(_)));
                }
                Ok(_) => {}
                Err(_) => return false,
            },
            Some(object) = self.objects.recv() => self.take(object),
        }
        true
    }

    fn take(&mut self, object: Object) {
        if object.track == "catalog" {
            let catalog = Catalog::from_json(&object.payload).expect("a catalog");
            for track in catalog.tracks {
                if !self.names.values().any(|name| *name == track.name) {
                    self.subscribe(&track.name);
                }
            }
        }
        self.received.push(object);
    }
}

/// Reads a subgroup to its end.
async fn read(
    track: String,
    header: SubgroupHeader,
    head: Bytes,
    mut stream: RecvStream,
    collect: mpsc::UnboundedSender<Object>,
) {
    let mut scanner = ObjectScanner::new(&header, CODING);
    let mut marks = Vec::new();
    let mut bytes = BytesMut::new();
    let mut next = Ok(Some(head));
    while let Ok(Some(chunk)) = next {
        scanner.scan(&chunk, |mark| marks.push(mark)).expect("objects");
        bytes.extend_from_slice(&chunk);
        while marks.first().is_some_and(|mark| mark.end() <= bytes.len() as u64) {
            let mark = marks.remove(0);
            let payload = &bytes[mark.payload_start as usize..mark.end() as usize];
            let properties = Properties::decode(mark.properties, CODING).expect("properties");
            let object = Object {
                track: track.clone(),
                group: header.group,
                subgroup: header.subgroup,
                priority: header.priority,
                object: mark.id,
                properties,
                payload: Bytes::copy_from_slice(payload),
            };
            // The test may have seen enough.
            let _ = collect.send(object);
        }
        next = stream.read_chunk(64 * 1024).await;
    }
}
