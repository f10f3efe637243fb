//! A peer that says exactly what a test tells it, in any draft, and keeps all that it hears.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use moqt::{
    Datagram, Event, Fetch, FetchMark, FetchRange, FetchScanner, FullTrackName, GroupOrder,
    Location, Namespace, ObjectHeader, ObjectMark, ObjectScanner, ObjectStatus, Parameters,
    Properties, PublishNamespace, Request, RequestError, RequestId, RequestOk, ResetCode, Response,
    Session, SessionCode, Setup, SubgroupHeader, SubgroupId, Subscribe, SubscribeOk, Version,
};
use tokio::sync::{mpsc, oneshot, watch};
use transport::{
    CANONICAL, Connection, Driver, DriverEvent, Endpoint, EndpointConfig, EndpointOptions, Error,
    Limits, ReadError, RecvStream, SendStream,
};

use crate::common::{Relay, within};

/// What a peer was told, in the order it came; streams of their own may overtake each other.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a test holds few of them")]
pub(crate) enum Heard {
    Session(Event),
    /// A subgroup's stream began.
    Begun {
        request: RequestId,
        header: SubgroupHeader,
    },
    Object {
        request: RequestId,
        at: Location,
        subgroup: u64,
        status: ObjectStatus,
        properties: Bytes,
        payload: Bytes,
    },
    /// So many bytes of an object's payload came, and more is to come.
    Part {
        request: RequestId,
        bytes: u64,
    },
    Datagram(Datagram),
    Fetched {
        request: RequestId,
        mark: FetchMark,
        payload: Bytes,
    },
    /// A data stream ended: with a FIN, or a reset.
    End {
        request: RequestId,
        /// Of a subgroup; a fetch has none.
        group: Option<u64>,
        code: Option<ResetCode>,
    },
    /// The session is over.
    Closed(Error),
}

/// What a peer does with data streams.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reads {
    /// Reads them.
    All,
    /// Leaves them unread.
    None,
    /// Stops them as they begin.
    Stops,
}

/// Bytes of a stream that a peer takes without reading it.
const UNREAD: u64 = 16 * 1024;

type Order = Box<dyn FnOnce(&mut Session) + Send>;

pub(crate) struct Peer {
    /// The relay's SETUP.
    pub(crate) setup: Setup,
    pub(crate) connection: Connection,
    /// Whether data streams are read, and whether they are stopped as they begin.
    reading: watch::Sender<Reads>,
    /// Whether what is fetched is asked for in descending order of groups.
    descending: Arc<AtomicBool>,
    orders: mpsc::UnboundedSender<Order>,
    heard: mpsc::UnboundedReceiver<Heard>,
    kept: VecDeque<Heard>,
    _endpoint: Endpoint,
}

impl Peer {
    /// Dials a relay, in this draft only, and waits for its SETUP.
    pub(crate) async fn connect(relay: &Relay, version: Version) -> Self {
        Self::connect_with(relay, version, Reads::All).await
    }

    /// The same, for a peer that does this with data streams.
    pub(crate) async fn connect_with(relay: &Relay, version: Version, reads: Reads) -> Self {
        let config = EndpointConfig { uni_streams: 100, ..EndpointConfig::default() };
        let limits = match reads {
            Reads::All => Limits::default(),
            _ => Limits { unread_stream_bytes: UNREAD, ..Limits::default() },
        };
        let options = EndpointOptions::from(config).versions([version]).limits(limits);
        let endpoint = Endpoint::client(options).unwrap();
        let url = relay.url();
        let tls = relay.tls();
        let connection = within("a connection", endpoint.connect(&url, &tls)).await.unwrap();
        let setup = Setup {
            implementation: Some("weir-conformance".into()),
            ..connection.client_setup(&url)
        };
        let driver = Driver::new(connection.clone(), setup, limits);
        let (tell, heard) = mpsc::unbounded_channel();
        let (orders, take) = mpsc::unbounded_channel();
        let descending = Arc::<AtomicBool>::default();
        let (reading, reads) = watch::channel(reads);
        tokio::spawn(run(driver, Arc::clone(&descending), reads, take, tell));
        let kept = VecDeque::new();
        let mut peer = Self {
            setup: Setup::default(),
            connection,
            reading,
            descending,
            orders,
            heard,
            kept,
            _endpoint: endpoint,
        };
        peer.setup = peer
            .pick("SETUP", |heard| match heard {
                Heard::Session(Event::Ready(setup)) => Some(setup.clone()),
                _ => None,
            })
            .await;
        peer
    }

    /// Does something with the session.
    async fn order<T: Send + 'static>(
        &self,
        order: impl FnOnce(&mut Session) -> T + Send + 'static,
    ) -> T {
        let (done, result) = oneshot::channel();
        let order: Order = Box::new(move |session| drop(done.send(order(session))));
        self.orders.send(order).unwrap_or_else(|_| panic!("the session is over"));
        within("the session", result).await.expect("the session is over")
    }

    pub(crate) async fn request(&self, request: Request) -> RequestId {
        self.order(|session| session.request(request).unwrap()).await
    }

    pub(crate) async fn respond(&self, id: RequestId, response: Response) {
        self.order(move |session| session.respond(id, response).unwrap()).await;
    }

    /// From here on this is done with data streams, also with those left unread.
    pub(crate) fn reads(&self, reads: Reads) {
        self.reading.send_replace(reads);
    }

    /// Says GOAWAY.
    pub(crate) async fn go_away(&self) {
        self.order(|session| session.go_away(Bytes::new(), 10_000).unwrap()).await;
    }

    pub(crate) async fn cancel(&self, id: RequestId) {
        self.order(move |session| session.cancel(id, ResetCode::CANCELLED)).await;
    }

    /// Changes a request, and returns the answer.
    pub(crate) async fn update(
        &mut self,
        id: RequestId,
        parameters: Parameters,
    ) -> Result<RequestOk, RequestError> {
        self.order(move |session| session.update(id, parameters).unwrap()).await;
        self.pick("an answer to an update", |heard| match heard {
            Heard::Session(Event::UpdateAnswered { id: answered, result }) if *answered == id => {
                Some(result.clone())
            }
            _ => None,
        })
        .await
    }

    /// Grants an update that the relay asks for.
    pub(crate) async fn updated(&mut self, id: RequestId) -> Parameters {
        let parameters = self
            .pick("an update", |heard| match heard {
                Heard::Session(Event::Updated { id: updated, parameters }) if *updated == id => {
                    Some(parameters.clone())
                }
                _ => None,
            })
            .await;
        self.order(move |session| session.respond_update(id, Ok(RequestOk::default())).unwrap())
            .await;
        parameters
    }

    /// Waits for something, takes it out of all that was heard, and returns what `pick` makes of
    /// it.
    pub(crate) async fn pick<T>(
        &mut self,
        what: &str,
        mut pick: impl FnMut(&Heard) -> Option<T>,
    ) -> T {
        for index in 0..self.kept.len() {
            if let Some(found) = pick(&self.kept[index]) {
                self.kept.remove(index);
                return found;
            }
        }
        loop {
            let heard = match tokio::time::timeout(crate::common::PATIENCE, self.heard.recv()).await
            {
                Ok(heard) => heard.expect("the peer's task runs"),
                Err(_) => panic!("waited for {what}, heard only {:#?}", self.kept),
            };
            if let Some(found) = pick(&heard) {
                return found;
            }
            if let Heard::Closed(error) = &heard {
                panic!("closed ({error}) while waiting for {what}; heard {:#?}", self.kept);
            }
            self.kept.push_back(heard);
        }
    }

    /// Waits until the relay closes the session: with which code.
    pub(crate) async fn closed(&mut self) -> Option<SessionCode> {
        loop {
            match within("the session's end", self.heard.recv()).await {
                Some(Heard::Closed(Error::Closed { code, .. })) => return Some(code),
                Some(Heard::Closed(_)) | None => return None,
                Some(heard) => self.kept.push_back(heard),
            }
        }
    }

    /// Whether something of this kind was heard until now.
    pub(crate) fn has_heard(&mut self, is: impl Fn(&Heard) -> bool) -> bool {
        while let Ok(heard) = self.heard.try_recv() {
            self.kept.push_back(heard);
        }
        self.kept.iter().any(is)
    }

    /// What `pick` makes of something heard until now, which is taken out.
    pub(crate) fn take<T>(&mut self, mut pick: impl FnMut(&Heard) -> Option<T>) -> Option<T> {
        self.has_heard(|_| false);
        let (index, found) =
            self.kept.iter().enumerate().find_map(|(index, heard)| Some((index, pick(heard)?)))?;
        self.kept.remove(index);
        Some(found)
    }

    /// Waits until the relay wants the objects of a track that was published to it.
    pub(crate) async fn resumed(&mut self, id: RequestId) {
        while self.updated(id).await.forward != Some(true) {}
    }

    /// The relay has answered something asked after all that came before; nothing of this kind
    /// was heard until then.
    pub(crate) async fn never(&mut self, what: &str, is: impl Fn(&Heard) -> bool) {
        self.fence().await;
        let heard = self.kept.iter().find(|heard| is(heard));
        assert!(heard.is_none(), "{what} was heard: {heard:#?}");
    }

    /// Asks for what does not exist, and waits until the relay has said so.
    pub(crate) async fn fence(&mut self) {
        let track = name("no/such", "fence");
        let id = self
            .request(Request::Subscribe(Subscribe { track, parameters: Parameters::default() }))
            .await;
        let answer = self.answer(id).await;
        assert!(matches!(answer, Response::Error(_)), "{answer:?}");
    }

    /// The next answer to a request.
    pub(crate) async fn answer(&mut self, id: RequestId) -> Response {
        self.pick("an answer", |heard| match heard {
            Heard::Session(Event::Responded { id: answered, response }) if *answered == id => {
                Some(response.clone())
            }
            _ => None,
        })
        .await
    }

    /// The refusal of a request.
    pub(crate) async fn refusal(&mut self, id: RequestId) -> RequestError {
        match self.answer(id).await {
            Response::Error(error) => error,
            other => panic!("not refused but answered with {other:?}"),
        }
    }

    /// The next thing that the relay asks.
    pub(crate) async fn asked(&mut self) -> (RequestId, Request) {
        self.pick("a request of the relay's", |heard| match heard {
            Heard::Session(Event::Requested { id, request }) => Some((*id, request.clone())),
            _ => None,
        })
        .await
    }

    /// Publishes a namespace, which must be accepted.
    pub(crate) async fn publish_namespace(&mut self, path: &str) -> RequestId {
        let (namespace, parameters) = (namespace(path), Parameters::default());
        let request = Request::PublishNamespace(PublishNamespace { namespace, parameters });
        let id = self.request(request).await;
        assert!(matches!(self.answer(id).await, Response::Ok(_)));
        id
    }

    /// Subscribes; the answer is still to come.
    pub(crate) async fn subscribe(
        &self,
        track: &FullTrackName,
        parameters: Parameters,
    ) -> RequestId {
        self.request(Request::Subscribe(Subscribe { track: track.clone(), parameters })).await
    }

    /// Waits for SUBSCRIBE_OK.
    pub(crate) async fn accepted(&mut self, id: RequestId) -> SubscribeOk {
        match self.answer(id).await {
            Response::SubscribeOk(ok) => ok,
            other => panic!("the subscription was answered with {other:?}"),
        }
    }

    /// Accepts the SUBSCRIBE that the relay sends next.
    pub(crate) async fn accept(&mut self, ok: SubscribeOk) -> (RequestId, Subscribe) {
        let (id, request) = self.asked().await;
        let Request::Subscribe(subscribe) = request else {
            panic!("the relay asks {request:?} instead of SUBSCRIBE")
        };
        self.respond(id, Response::SubscribeOk(ok)).await;
        (id, subscribe)
    }

    /// Waits for an object of a request, whole.
    pub(crate) async fn object(&mut self, id: RequestId, at: (u64, u64)) -> Bytes {
        let wanted = Location { group: at.0, object: at.1 };
        self.pick(&format!("object {wanted}"), |heard| match heard {
            Heard::Object { request, at, payload, .. } if (*request, *at) == (id, wanted) => {
                Some(payload.clone())
            }
            _ => None,
        })
        .await
    }

    /// Waits for the end of a data stream of this group.
    pub(crate) async fn end(&mut self, id: RequestId, group: u64) -> Option<ResetCode> {
        self.pick(&format!("the end of group {group}"), |heard| match heard {
            Heard::End { request, group: Some(ended), code }
                if (*request, *ended) == (id, group) =>
            {
                Some(*code)
            }
            _ => None,
        })
        .await
    }

    /// Fetches a range of a track, and returns the answer.
    pub(crate) async fn fetch(
        &mut self,
        track: &FullTrackName,
        (start, end): ((u64, u64), (u64, u64)),
        order: GroupOrder,
    ) -> (RequestId, Response) {
        self.descending.store(order == GroupOrder::Descending, Ordering::Relaxed);
        let location = |(group, object)| Location { group, object };
        let range = FetchRange::Standalone {
            track: track.clone(),
            start: location(start),
            end: location(end),
        };
        let parameters = Parameters { group_order: Some(order), ..Parameters::default() };
        let id = self.request(Request::Fetch(Fetch { range, parameters })).await;
        let answer = self.answer(id).await;
        (id, answer)
    }

    /// All of a fetch's objects, and how its stream ended.
    pub(crate) async fn fetched(
        &mut self,
        id: RequestId,
    ) -> (Vec<(FetchMark, Bytes)>, Option<ResetCode>) {
        let mut marks = Vec::new();
        loop {
            let next = self
                .pick("more of a fetch", |heard| match heard {
                    Heard::Fetched { request, mark, payload } if *request == id => {
                        Some(Ok((mark.clone(), payload.clone())))
                    }
                    Heard::End { request, group: None, code } if *request == id => Some(Err(*code)),
                    _ => None,
                })
                .await;
            match next {
                Ok(mark) => marks.push(mark),
                Err(code) => return (marks, code),
            }
        }
    }

    /// Opens a subgroup's stream and writes its header.
    pub(crate) async fn open(&self, header: SubgroupHeader) -> Writer {
        let stream = within("a stream", self.connection.open_data()).await.unwrap();
        let mut writer = Writer { header, stream, previous: None, buf: BytesMut::new() };
        header.encode(&mut writer.buf, CANONICAL.int_coding());
        writer.flush().await;
        writer
    }

    /// Publishes a whole group in one subgroup: this many objects, each saying where it is.
    pub(crate) async fn group(&self, alias: u64, group: u64, objects: u64) {
        let mut writer = self.open(header(alias, group)).await;
        for id in 0..objects {
            writer.object(id, format!("{group}/{id}").as_bytes()).await;
        }
        writer.finish();
    }
}

/// A subgroup's stream that is being written.
pub(crate) struct Writer {
    header: SubgroupHeader,
    stream: SendStream,
    previous: Option<u64>,
    buf: BytesMut,
}

impl Writer {
    async fn flush(&mut self) {
        let bytes = self.buf.split().freeze();
        within("the stream to take bytes", self.stream.write_all(bytes)).await.unwrap();
    }

    pub(crate) async fn object(&mut self, id: u64, payload: &[u8]) {
        self.object_with(id, &Bytes::new(), payload).await;
    }

    /// With these bytes of properties, if the header announces any.
    pub(crate) async fn object_with(&mut self, id: u64, properties: &Bytes, payload: &[u8]) {
        self.put(id, properties, payload, ObjectStatus::Normal).await;
    }

    pub(crate) async fn status(&mut self, id: u64, status: ObjectStatus) {
        self.put(id, &Bytes::new(), &[], status).await;
    }

    /// An object of `length` bytes, of which only these are written.
    pub(crate) async fn part(&mut self, id: u64, payload: &[u8], length: u64) {
        let header = ObjectHeader {
            id,
            previous: self.previous.replace(id),
            properties: None,
            payload: length,
            status: ObjectStatus::Normal,
        };
        header.encode(&mut self.buf, CANONICAL.int_coding());
        self.buf.extend_from_slice(payload);
        self.flush().await;
    }

    async fn put(&mut self, id: u64, properties: &Bytes, payload: &[u8], status: ObjectStatus) {
        let header = ObjectHeader {
            id,
            previous: self.previous.replace(id),
            properties: self.header.properties.then_some(properties),
            payload: payload.len() as u64,
            status,
        };
        header.encode(&mut self.buf, CANONICAL.int_coding());
        self.buf.extend_from_slice(payload);
        self.flush().await;
    }

    pub(crate) fn reset(mut self, code: ResetCode) {
        self.stream.reset(code);
    }

    pub(crate) fn finish(mut self) {
        self.stream.finish();
    }

    /// Waits until the relay has all, or stops the stream: with which code.
    pub(crate) async fn stopped(&self) -> Option<ResetCode> {
        within("the stream to be stopped", self.stream.stopped()).await.unwrap()
    }
}

pub(crate) fn namespace(path: &str) -> Namespace {
    Namespace::from_path(path).unwrap()
}

pub(crate) fn name(path: &str, track: &'static str) -> FullTrackName {
    FullTrackName::new(namespace(path), track).unwrap()
}

/// Subgroup 0 of a group, from its first object, with no properties and the track's priority.
pub(crate) fn header(alias: u64, group: u64) -> SubgroupHeader {
    SubgroupHeader {
        track_alias: alias,
        group,
        subgroup: SubgroupId::Known(0),
        priority: None,
        properties: false,
        end_of_group: false,
        first_object: true,
    }
}

pub(crate) fn subscribe_ok(track_alias: u64, largest: Option<(u64, u64)>) -> SubscribeOk {
    let largest_object = largest.map(|(group, object)| Location { group, object });
    SubscribeOk {
        track_alias,
        parameters: Parameters { largest_object, ..Parameters::default() },
        properties: Properties::new(),
    }
}

async fn run(
    mut driver: Driver,
    descending: Arc<AtomicBool>,
    reads: watch::Receiver<Reads>,
    mut orders: mpsc::UnboundedReceiver<Order>,
    tell: mpsc::UnboundedSender<Heard>,
) {
    loop {
        let event = tokio::select! {
            event = driver.next() => event,
            order = orders.recv() => match order {
                Some(order) => {
                    order(driver.session_mut());
                    continue;
                }
                None => return,
            },
        };
        let heard = match event {
            Ok(DriverEvent::Session(event)) => Heard::Session(event),
            Ok(DriverEvent::Datagram { datagram, .. }) => Heard::Datagram(datagram),
            Ok(DriverEvent::Subgroup { request, header, head, stream }) => {
                tokio::spawn(read(request, header, head, stream, reads.clone(), tell.clone()));
                Heard::Begun { request, header }
            }
            Ok(DriverEvent::Fetch { request, head, stream }) => {
                let order = match descending.load(Ordering::Relaxed) {
                    true => GroupOrder::Descending,
                    false => GroupOrder::Ascending,
                };
                tokio::spawn(read_fetch(order, request, head, stream, tell.clone()));
                continue;
            }
            Err(error) => Heard::Closed(error),
        };
        let over = matches!(heard, Heard::Closed(_));
        if tell.send(heard).is_err() || over {
            return;
        }
    }
}

/// A stream's bytes, and what of them is not told yet.
struct Reading {
    bytes: BytesMut,
    stream: RecvStream,
}

impl Reading {
    /// The next bytes, kept too; else how the stream ended.
    async fn next(&mut self) -> Result<Bytes, Option<ResetCode>> {
        match self.stream.read_chunk(64 * 1024).await {
            Ok(Some(chunk)) => {
                self.bytes.extend_from_slice(&chunk);
                Ok(chunk)
            }
            Ok(None) => Err(None),
            Err(ReadError::Reset(code)) => Err(Some(code)),
            Err(ReadError::Gone(_)) => Err(Some(ResetCode::SESSION_CLOSED)),
        }
    }

    fn slice(&self, from: u64, to: u64) -> Bytes {
        Bytes::copy_from_slice(&self.bytes[from as usize..to as usize])
    }
}

async fn read(
    request: RequestId,
    header: SubgroupHeader,
    head: Bytes,
    mut stream: RecvStream,
    mut reads: watch::Receiver<Reads>,
    tell: mpsc::UnboundedSender<Heard>,
) {
    let Ok(how) = reads.wait_for(|reads| *reads != Reads::None).await.map(|how| *how) else {
        return;
    };
    if how == Reads::Stops {
        return stream.stop(ResetCode::CANCELLED);
    }
    let mut scanner = ObjectScanner::new(&header, CANONICAL.int_coding());
    let mut reading = Reading { bytes: BytesMut::from(&head[..]), stream };
    let mut marks: VecDeque<ObjectMark> = VecDeque::new();
    let mut first = None;
    let mut next = head;
    let code = loop {
        scanner.scan(&next, |mark| marks.push_back(mark)).expect("well-formed objects");
        while marks.front().is_some_and(|mark| mark.end() <= reading.bytes.len() as u64) {
            let mark = marks.pop_front().expect("looked at just above");
            let first = *first.get_or_insert(mark.id);
            let object = Heard::Object {
                request,
                at: Location { group: header.group, object: mark.id },
                subgroup: match header.subgroup {
                    SubgroupId::Known(id) => id,
                    SubgroupId::FirstObject => first,
                },
                status: mark.status,
                payload: reading.slice(mark.payload_start, mark.end()),
                properties: mark.properties,
            };
            if tell.send(object).is_err() {
                return;
            }
        }
        if let Some(mark) = marks.front() {
            let bytes = (reading.bytes.len() as u64).saturating_sub(mark.payload_start);
            if tell.send(Heard::Part { request, bytes }).is_err() {
                return;
            }
        }
        next = match reading.next().await {
            Ok(chunk) => chunk,
            Err(code) => break code,
        };
    };
    let _ = tell.send(Heard::End { request, group: Some(header.group), code });
}

async fn read_fetch(
    order: GroupOrder,
    request: RequestId,
    head: Bytes,
    stream: RecvStream,
    tell: mpsc::UnboundedSender<Heard>,
) {
    let mut scanner = FetchScanner::new(CANONICAL, order);
    let mut reading = Reading { bytes: BytesMut::from(&head[..]), stream };
    let mut marks: VecDeque<FetchMark> = VecDeque::new();
    let mut next = head;
    let code = loop {
        scanner.scan(&next, |mark| marks.push_back(mark)).expect("a well-formed fetch");
        loop {
            let payload = match marks.front() {
                Some(FetchMark::Object(object)) if object.end() <= reading.bytes.len() as u64 => {
                    reading.slice(object.payload_start, object.end())
                }
                Some(FetchMark::EndOfRange { .. }) => Bytes::new(),
                _ => break,
            };
            let mark = marks.pop_front().expect("looked at just above");
            if tell.send(Heard::Fetched { request, mark, payload }).is_err() {
                return;
            }
        }
        next = match reading.next().await {
            Ok(chunk) => chunk,
            Err(code) => break code,
        };
    };
    let _ = tell.send(Heard::End { request, group: None, code });
}
