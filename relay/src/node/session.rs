//! One peer: its requests, what it publishes to us, what we send it.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use moqt::{
    Event, Filter, GroupOrder, Location, Namespace, Parameters, ProtocolError, PublishDone,
    PublishDoneCode, PublishNamespace, Request, RequestError, RequestErrorCode, RequestId,
    RequestOk, ResetCode, Response, SessionCode, Setup, Subscribe, SubscribeNamespace, SubscribeOk,
    property,
};
use relay_core::{
    Action, Books, Outbox, Peer, RouteAction, SessionId, StreamKey, Subscription, TrackId,
};
use stats::SessionKind;
use tokio::sync::mpsc;
use transport::{Connection, Driver, DriverEvent, Error, SendStream, WriteError};

use super::{Node, SharedTrack, Signal, ingest, lock};

/// How long peers have to leave after GOAWAY.
pub(super) const GOAWAY_TIMEOUT: Duration = Duration::from_millis(1500);
/// How often figures are brought up to date and the send window is fitted to the path.
const TICK: Duration = Duration::from_millis(250);
/// How long streams may come after PUBLISH_DONE. A count that is never reached, because one was
/// reset before its header, must not keep the track.
const LATE_STREAMS: Duration = Duration::from_millis(500);
/// Streams a publisher may have open towards us.
const PUBLISHER_STREAMS: u32 = 512;
/// Bytes of authorization tokens a peer may register.
const TOKEN_CACHE: u64 = 8192;

/// What others may know of a session.
pub(crate) struct SessionInfo {
    pub(super) id: SessionId,
    pub(super) connection: Connection,
    pub(super) since: Instant,
    pub(super) signal: Arc<Signal>,
    pub(super) state: Mutex<SessionState>,
}

/// The part of it that changes.
#[derive(Clone)]
pub(super) struct SessionState {
    pub(super) kind: SessionKind,
    pub(super) books: Books,
    pub(super) queued: u64,
    pub(super) behind: Duration,
}

/// How a session ended, for whoever dialled it.
pub(super) struct Ended {
    pub(super) error: Error,
    /// The peer asked us to go here (or back to where we dialled).
    pub(super) moved: Option<Option<url::Url>>,
}

/// Runs a session we accepted, to its end.
pub(super) async fn run(node: Arc<Node>, connection: Connection, peer: Peer) {
    run_with(node, connection, peer, Setup::default(), |_| ()).await;
}

/// Runs a session to its end; `on_ready` hears the peer's SETUP.
pub(super) async fn run_with(
    node: Arc<Node>,
    connection: Connection,
    peer: Peer,
    setup: Setup,
    mut on_ready: impl FnMut(&Setup),
) -> Ended {
    let (id, actions) = node.new_session();
    let remote = connection.remote_address();
    let info = Arc::new(SessionInfo {
        id,
        connection: connection.clone(),
        since: Instant::now(),
        signal: Arc::default(),
        state: Mutex::new(SessionState {
            kind: if peer == Peer::Client { SessionKind::Viewer } else { SessionKind::Relay },
            books: Books::default(),
            queued: 0,
            behind: Duration::ZERO,
        }),
    });
    lock(&node.sessions).insert(id, Arc::clone(&info));
    let setup = Setup {
        implementation: Some(concat!("weir-relay/", env!("CARGO_PKG_VERSION")).into()),
        node: Some(node.config.node.clone().into()),
        max_auth_token_cache_size: Some(TOKEN_CACHE),
        ..setup
    };
    let (malformed, errors) = mpsc::unbounded_channel();
    let mut session = Session {
        driver: Driver::new(connection, setup, moqt::Limits::default()),
        outbox: Outbox::new(node.policy()),
        id,
        peer,
        signal: Arc::clone(&info.signal),
        info,
        actions,
        malformed,
        errors,
        tracks: HashMap::new(),
        streams: HashMap::new(),
        served: HashMap::new(),
        upstream: HashMap::new(),
        ingests: Vec::new(),
        streams_seen: HashMap::new(),
        ending: HashMap::new(),
        announced: HashMap::new(),
        watched: HashMap::new(),
        namespaces: None,
        tick: Box::pin(tokio::time::sleep(TICK)),
        expiry: None,
        moved: None,
        leaving: false,
        node,
    };
    tracing::debug!(session = id.0, %remote, "session");
    let error = std::future::poll_fn(|cx| session.poll(cx, &mut on_ready)).await;
    tracing::debug!(session = id.0, %remote, %error, "session ended");
    let moved = session.moved.take();
    session.close();
    Ended { error, moved }
}

struct Session {
    node: Arc<Node>,
    driver: Driver,
    outbox: Outbox,
    id: SessionId,
    peer: Peer,
    info: Arc<SessionInfo>,
    actions: mpsc::UnboundedReceiver<RouteAction>,
    malformed: mpsc::UnboundedSender<ProtocolError>,
    errors: mpsc::UnboundedReceiver<ProtocolError>,
    signal: Arc<Signal>,
    /// Tracks we send from.
    tracks: HashMap<TrackId, Arc<SharedTrack>>,
    streams: HashMap<StreamKey, Stream>,
    /// The peer's subscriptions that we serve, and what they asked for.
    served: HashMap<RequestId, Served>,
    /// Our subscriptions at the peer.
    upstream: HashMap<RequestId, TrackId>,
    /// The subgroups that are being read for them.
    ingests: Vec<Ingest>,
    /// Data streams that came for each.
    streams_seen: HashMap<RequestId, u64>,
    /// Those that PUBLISH_DONE ended while streams were still on their way.
    ending: HashMap<RequestId, Ending>,
    /// Our PUBLISH_NAMESPACE requests.
    announced: HashMap<Namespace, RequestId>,
    /// The peer's SUBSCRIBE_NAMESPACE requests.
    watched: HashMap<RequestId, Namespace>,
    /// Our SUBSCRIBE_NAMESPACE at the parent.
    namespaces: Option<RequestId>,
    tick: Pin<Box<tokio::time::Sleep>>,
    expiry: Option<(Instant, Pin<Box<tokio::time::Sleep>>)>,
    moved: Option<Option<url::Url>>,
    leaving: bool,
}

struct Served {
    parameters: Parameters,
    track: Option<TrackId>,
}

/// A subgroup that is being read into its track.
struct Ingest {
    request: RequestId,
    seq: relay_core::SubgroupSeq,
    task: tokio::task::AbortHandle,
}

/// A subscription of ours whose PUBLISH_DONE came before all of its streams did.
#[derive(Clone, Copy)]
struct Ending {
    code: PublishDoneCode,
    streams: u64,
    until: Instant,
}

type Opening = Pin<Box<dyn Future<Output = Result<SendStream, Error>> + Send>>;

enum Stream {
    Opening(Opening, i32),
    Open(SendStream),
}

impl Session {
    fn poll(&mut self, cx: &mut Context<'_>, on_ready: &mut impl FnMut(&Setup)) -> Poll<Error> {
        self.signal.0.register(cx.waker());
        loop {
            match self.driver.poll_next(cx) {
                Poll::Ready(Ok(event)) => {
                    if let Err(error) = self.handle(event, on_ready) {
                        return Poll::Ready(error);
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(error),
                Poll::Pending => break,
            }
        }
        let mut commanded = false;
        while let Poll::Ready(Some(error)) = self.errors.poll_recv(cx) {
            self.driver.session_mut().close(error.code, error.reason);
            commanded = true;
        }
        while let Poll::Ready(Some(action)) = self.actions.poll_recv(cx) {
            commanded = true;
            if let Err(error) = self.carry_out(action) {
                return Poll::Ready(error);
            }
        }
        commanded |= self.leave();
        let now = Instant::now();
        match self.pump(cx, now) {
            Ok(said) => commanded |= said,
            Err(error) => return Poll::Ready(error),
        }
        self.poll_timers(cx, now);
        if self.moved.is_some() {
            return Poll::Ready(Error::Lost("the peer is leaving".into()));
        }
        if commanded {
            // What was said just now is still with the driver.
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Says goodbye once the node drains. `true`: the session was told something.
    fn leave(&mut self) -> bool {
        if !self.node.draining.load(Ordering::Relaxed) || std::mem::replace(&mut self.leaving, true)
        {
            return false;
        }
        let timeout = GOAWAY_TIMEOUT.as_millis() as u64;
        let _ = self.driver.session_mut().go_away(Default::default(), timeout);
        true
    }

    fn poll_timers(&mut self, cx: &mut Context<'_>, now: Instant) {
        let over: Vec<_> = self
            .ending
            .iter()
            .filter(|(_, e)| now >= e.until)
            .map(|(id, e)| (*id, e.code))
            .collect();
        for (id, code) in over {
            self.end_upstream(id, code);
        }
        while self.tick.as_mut().poll(cx).is_ready() {
            self.tick.as_mut().reset((now + TICK).into());
            self.publish_figures(now);
        }
        let expiry = self.outbox.poll_timeout();
        if self.expiry.as_ref().map(|(at, _)| *at) != expiry {
            self.expiry = expiry.map(|at| (at, Box::pin(tokio::time::sleep_until(at.into()))));
        }
        if let Some((_, sleep)) = &mut self.expiry
            && sleep.as_mut().poll(cx).is_ready()
        {
            self.expiry = None;
            cx.waker().wake_by_ref();
        }
    }

    fn publish_figures(&mut self, now: Instant) {
        let path = self.driver.connection().path_stats();
        self.driver.connection().limit_unsent(path.cwnd);
        for (id, bytes) in self.outbox.take_track_bytes().collect::<Vec<_>>() {
            if let Some(track) = self.tracks.get(&id) {
                track.bytes_out.fetch_add(bytes, Ordering::Relaxed);
            }
        }
        let guards: HashMap<_, _> =
            self.tracks.iter().map(|(id, track)| (*id, track.read())).collect();
        let (queued, behind) = self.outbox.backlog(|id| guards.get(&id).map(|guard| &**guard), now);
        drop(guards);
        let mut state = lock(&self.info.state);
        state.books = self.outbox.books().clone();
        (state.queued, state.behind) = (queued, behind);
        drop(state);
        if self.outbox.is_stuck(now) {
            self.driver.session_mut().close(
                SessionCode::NO_ERROR,
                "TOO_FAR_BEHIND: nothing of what waits was taken for long",
            );
        }
    }

    /// Hands the transport what it takes now. `true`: the session was told something.
    fn pump(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, Error> {
        self.outbox.unblock();
        let mut said = false;
        let tracks: Vec<_> = self.tracks.values().cloned().collect();
        for track in &tracks {
            let actions = self.outbox.look(track.id, &track.read(), now);
            for action in actions {
                said |= self.act(action)?;
            }
        }
        loop {
            let most_urgent = tracks
                .iter()
                .filter_map(|track| Some((self.outbox.urgency(track.id, &track.read())?, track)))
                .max_by_key(|(urgency, _)| *urgency);
            let Some((_, track)) = most_urgent else { return Ok(said) };
            let write = self.outbox.poll(track.id, &track.read());
            let Some(Action::Write { stream: key, mut chunks }) = write else { return Ok(said) };
            let taken = match self.write(cx, key, &mut chunks)? {
                Poll::Ready(Some(taken)) => taken,
                Poll::Ready(None) => {
                    self.outbox.handle_stopped(key);
                    self.streams.remove(&key);
                    continue;
                }
                Poll::Pending => 0,
            };
            let guard = track.read();
            self.outbox.handle_written(key, taken, &guard, now);
            // The last byte of a subgroup that is over takes its FIN along.
            if taken > 0 {
                let actions = self.outbox.look(track.id, &guard, now);
                drop(guard);
                for action in actions {
                    said |= self.act(action)?;
                }
            }
        }
    }

    /// Writes to a data stream: how many bytes were taken, or `None` when the peer stopped it.
    fn write(
        &mut self,
        cx: &mut Context<'_>,
        key: StreamKey,
        chunks: &mut [bytes::Bytes],
    ) -> Result<Poll<Option<usize>>, Error> {
        let Some(stream) = self.streams.get_mut(&key) else { return Ok(Poll::Ready(None)) };
        if let Stream::Opening(opening, priority) = stream {
            let Poll::Ready(opened) = opening.as_mut().poll(cx) else { return Ok(Poll::Pending) };
            let opened = opened?;
            opened.set_priority(*priority);
            *stream = Stream::Open(opened);
        }
        let Stream::Open(stream) = stream else { return Ok(Poll::Pending) };
        match stream.poll_write_chunks(cx, chunks) {
            Poll::Ready(Ok(taken)) => Ok(Poll::Ready(Some(taken))),
            Poll::Ready(Err(WriteError::Stopped(_))) => Ok(Poll::Ready(None)),
            Poll::Ready(Err(WriteError::Gone(reason))) => Err(Error::Lost(reason)),
            Poll::Pending => Ok(Poll::Pending),
        }
    }

    fn act(&mut self, action: Action) -> Result<bool, Error> {
        match action {
            Action::Open { stream, priority } => {
                let connection = self.driver.connection().clone();
                let opening: Opening = Box::pin(async move { connection.open_uni().await });
                self.streams.insert(stream, Stream::Opening(opening, priority));
            }
            Action::Finish(stream) => {
                if let Some(Stream::Open(mut stream)) = self.streams.remove(&stream) {
                    stream.finish();
                }
            }
            Action::Reset(stream, code) => {
                if let Some(Stream::Open(mut stream)) = self.streams.remove(&stream) {
                    stream.reset(code);
                }
            }
            Action::Datagram(bytes) => {
                self.driver.connection().send_datagram(bytes);
            }
            Action::Done { request, code, streams } => {
                let done = PublishDone { code, stream_count: streams, reason: Default::default() };
                self.respond(request, Response::PublishDone(done))?;
                self.forget_served(request);
                return Ok(true);
            }
            Action::Write { .. } => {}
        }
        Ok(false)
    }

    // ---- what the router decided ----

    fn carry_out(&mut self, action: RouteAction) -> Result<(), Error> {
        match action {
            RouteAction::Announce(_, namespace) => {
                let parameters = Parameters::default();
                let request = PublishNamespace { namespace: namespace.clone(), parameters };
                let id = self.request(Request::PublishNamespace(request))?;
                self.announced.insert(namespace, id);
            }
            RouteAction::Unannounce(_, namespace) => {
                if let Some(id) = self.announced.remove(&namespace) {
                    self.driver.session_mut().cancel(id, ResetCode::CANCELLED);
                }
            }
            RouteAction::Namespace(_, request, namespace) => {
                if let Some(suffix) = self.watched.get(&request).and_then(|p| namespace.suffix(p)) {
                    self.respond(request, Response::Namespace(suffix))?;
                }
            }
            RouteAction::NamespaceDone(_, request, namespace) => {
                if let Some(suffix) = self.watched.get(&request).and_then(|p| namespace.suffix(p)) {
                    self.respond(request, Response::NamespaceDone(suffix))?;
                }
            }
            RouteAction::Subscribe(_, track, name) => {
                // No filter: a relay gets the newest group from its start, as its viewers will.
                let parameters = Parameters {
                    group_order: Some(GroupOrder::Descending),
                    ..Parameters::default()
                };
                let id = self.request(Request::Subscribe(Subscribe { track: name, parameters }))?;
                self.upstream.insert(id, track);
            }
            RouteAction::Unsubscribe(_, track) => {
                let found = self.upstream.iter().find(|(_, id)| **id == track).map(|(id, _)| *id);
                if let Some(id) = found {
                    self.upstream.remove(&id);
                    self.streams_seen.remove(&id);
                    self.ending.remove(&id);
                    self.driver.session_mut().cancel(id, ResetCode::CANCELLED);
                    self.stop_ingests(id, track);
                }
            }
            RouteAction::Accept(_, request, track) => self.accept(request, track)?,
            RouteAction::Reject(_, request, error) => {
                self.served.remove(&request);
                self.respond(request, Response::Error(error))?;
            }
            RouteAction::End(_, request, _, code) => self.outbox.end_track(request, code),
            RouteAction::Forget(_) => {}
        }
        Ok(())
    }

    fn request(&mut self, request: Request) -> Result<RequestId, Error> {
        self.driver.session_mut().request(request).map_err(|error| Error::Setup(error.to_string()))
    }

    fn respond(&mut self, id: RequestId, response: Response) -> Result<(), Error> {
        let session = self.driver.session_mut();
        session.respond(id, response).map_err(|error| Error::Setup(error.to_string()))
    }

    fn accept(&mut self, request: RequestId, id: TrackId) -> Result<(), Error> {
        let Some(track) = self.node.track(id) else { return Ok(()) };
        let Some(served) = self.served.get_mut(&request) else {
            self.node.route(|router, _| router.handle_unsubscribe(self.id, request, id));
            return Ok(());
        };
        served.track = Some(id);
        let parameters = served.parameters.clone();
        let alias = self.driver.session_mut().allocate_alias();
        let guard = track.read();
        let wanted = self.wanted(alias, &parameters, &guard);
        let largest_object = guard.largest();
        let properties = guard.properties().clone();
        lock(&track.watchers).insert(self.id, Arc::clone(&self.signal));
        self.outbox.subscribe(request, id, &guard, wanted);
        drop(guard);
        self.tracks.insert(id, track);
        self.respond(
            request,
            Response::SubscribeOk(SubscribeOk {
                track_alias: alias,
                parameters: Parameters { largest_object, ..Parameters::default() },
                properties,
            }),
        )
    }

    /// What a subscription is given ("Subscription Filters", "Delivery Timeouts and Data
    /// Reliability").
    fn wanted(
        &self,
        alias: u64,
        parameters: &Parameters,
        track: &relay_core::Track,
    ) -> Subscription {
        let properties = track.properties();
        let timeouts = [
            parameters.object_delivery_timeout,
            parameters.subgroup_delivery_timeout,
            properties.int(property::OBJECT_DELIVERY_TIMEOUT),
            properties.int(property::SUBGROUP_DELIVERY_TIMEOUT),
        ];
        let publisher_order = match properties.int(property::DEFAULT_PUBLISHER_GROUP_ORDER) {
            Some(2) => GroupOrder::Descending,
            _ => GroupOrder::Ascending,
        };
        let (start, end_group) = range(parameters.filter, track.largest());
        Subscription {
            alias,
            start,
            end_group,
            priority: parameters.subscriber_priority.unwrap_or(128),
            order: parameters.group_order.unwrap_or(publisher_order),
            forward: parameters.forward.unwrap_or(true),
            expiry: self.node.policy().expiry(timeouts),
        }
    }

    // ---- what the peer said ----

    fn handle(
        &mut self,
        event: DriverEvent,
        on_ready: &mut impl FnMut(&Setup),
    ) -> Result<(), Error> {
        match event {
            DriverEvent::Session(event) => self.handle_event(event, on_ready),
            DriverEvent::Subgroup { request, header, head, mut stream } => {
                self.count_stream(request);
                let track = self.upstream.get(&request).and_then(|id| self.node.track(*id));
                let Some(track) = track else { return Ok(()) };
                // Here and not in the task: the track must know of it before it may end.
                let Some(seq) = track.write().open(header, Instant::now()) else {
                    // It is here already, from another publisher or from before a reconnect.
                    stream.stop(ResetCode::CANCELLED);
                    return Ok(());
                };
                let ingest = ingest::run(Arc::clone(&self.node), track, seq, head, stream);
                let malformed = self.malformed.clone();
                let task = tokio::spawn(async move {
                    if let Err(error) = ingest.await {
                        let _ = malformed.send(error);
                    }
                });
                self.ingests.retain(|ingest| !ingest.task.is_finished());
                self.ingests.push(Ingest { request, seq, task: task.abort_handle() });
                Ok(())
            }
            DriverEvent::Datagram { request, datagram } => {
                let track = self.upstream.get(&request).and_then(|id| self.node.track(*id));
                if let Some(track) = track {
                    self.node.totals.count_in(0, 1);
                    track.write().push_datagram(datagram);
                    track.wake();
                }
                Ok(())
            }
            // We fetch nothing; dropping the stream stops it.
            DriverEvent::Fetch { .. } => Ok(()),
        }
    }

    fn handle_event(
        &mut self,
        event: Event,
        on_ready: &mut impl FnMut(&Setup),
    ) -> Result<(), Error> {
        match event {
            Event::Ready(setup) => {
                if self.peer == Peer::Client && setup.node.is_some() {
                    self.peer = Peer::Node;
                    self.become_kind(SessionKind::Relay);
                }
                if self.peer != Peer::Client {
                    self.driver.connection().allow_streams(PUBLISHER_STREAMS);
                }
                on_ready(&setup);
                let (id, peer) = (self.id, self.peer);
                self.node.route(|router, now| router.handle_session(id, peer, now));
                if peer == Peer::Uplink {
                    let parameters = Parameters::default();
                    let all = SubscribeNamespace { prefix: Namespace::default(), parameters };
                    self.namespaces = Some(self.request(Request::SubscribeNamespace(all))?);
                }
                Ok(())
            }
            Event::GoAway(goaway) => {
                if self.peer == Peer::Uplink {
                    let uri = std::str::from_utf8(&goaway.uri).ok();
                    self.moved = Some(uri.and_then(|uri| url::Url::parse(uri).ok()));
                }
                Ok(())
            }
            Event::Requested { id, request } => self.handle_request(id, request),
            Event::Updated { id, parameters } => {
                self.handle_update(id, &parameters);
                let ok = Ok(RequestOk::default());
                let session = self.driver.session_mut();
                session.respond_update(id, ok).map_err(|error| Error::Setup(error.to_string()))
            }
            Event::Responded { id, response } => {
                self.handle_response(id, response);
                Ok(())
            }
            Event::Ended { id, .. } => {
                self.handle_ended(id);
                Ok(())
            }
            Event::UpdateAnswered { .. } | Event::RequestGoAway { .. } => Ok(()),
        }
    }

    fn become_kind(&self, kind: SessionKind) {
        lock(&self.info.state).kind = kind;
    }

    fn handle_request(&mut self, id: RequestId, request: Request) -> Result<(), Error> {
        let session = self.id;
        match request {
            Request::Subscribe(Subscribe { track, parameters }) => {
                let rendezvous = Duration::from_millis(parameters.rendezvous_timeout.unwrap_or(0));
                self.served.insert(id, Served { parameters, track: None });
                self.node.route(|router, now| {
                    router.handle_subscribe(session, id, &track, rendezvous, now);
                });
                Ok(())
            }
            Request::PublishNamespace(PublishNamespace { namespace, .. }) => {
                let taken = self.node.route(|router, now| {
                    router.handle_publish_namespace(session, id, &namespace, now)
                });
                match taken {
                    Ok(()) => {
                        if self.peer == Peer::Client {
                            self.become_kind(SessionKind::Publisher);
                            self.driver.connection().allow_streams(PUBLISHER_STREAMS);
                            tracing::info!(%namespace, session = session.0, "published");
                        }
                        self.respond(id, Response::Ok(RequestOk::default()))
                    }
                    Err(error) => self.respond(id, Response::Error(*error)),
                }
            }
            Request::SubscribeNamespace(SubscribeNamespace { prefix, .. }) => {
                self.respond(id, Response::Ok(RequestOk::default()))?;
                self.watched.insert(id, prefix.clone());
                self.node
                    .route(|router, _| router.handle_subscribe_namespace(session, id, &prefix));
                Ok(())
            }
            Request::Publish(_)
            | Request::Fetch(_)
            | Request::TrackStatus(_)
            | Request::SubscribeTracks(_) => {
                let error = RequestError::new(
                    RequestErrorCode::NOT_SUPPORTED,
                    "this relay does not answer this kind of request yet",
                );
                self.respond(id, Response::Error(error))
            }
        }
    }

    fn handle_update(&mut self, id: RequestId, change: &Parameters) {
        self.outbox.update(id, |wanted| {
            if let Some(priority) = change.subscriber_priority {
                wanted.priority = priority;
            }
            if let Some(forward) = change.forward {
                wanted.forward = forward;
            }
            if let Some(filter) = change.filter {
                (wanted.start, wanted.end_group) = range(Some(filter), None);
            }
        });
    }

    fn handle_response(&mut self, id: RequestId, response: Response) {
        let session = self.id;
        if let Some(track) = self.upstream.get(&id).copied() {
            match response {
                Response::SubscribeOk(ok) => {
                    if let Some(shared) = self.node.track(track) {
                        let mut state = shared.write();
                        state.set_properties(ok.properties);
                        if let Some(largest) = ok.parameters.largest_object {
                            state.raise_largest(largest);
                        }
                    }
                    self.node.route(|router, _| router.handle_upstream_ok(session, track));
                }
                Response::Error(error) => {
                    self.upstream.remove(&id);
                    self.node.route(|router, now| {
                        router.handle_upstream_error(session, track, &error, now);
                    });
                }
                Response::PublishDone(done) => {
                    let seen = self.streams_seen.get(&id).copied().unwrap_or(0);
                    let until = Instant::now() + LATE_STREAMS;
                    let ending = Ending { code: done.code, streams: done.stream_count, until };
                    if seen < done.stream_count {
                        self.ending.insert(id, ending);
                    } else {
                        self.end_upstream(id, done.code);
                    }
                }
                _ => {}
            }
            return;
        }
        let namespace = match response {
            Response::Namespace(suffix) => Some((suffix, true)),
            Response::NamespaceDone(suffix) => Some((suffix, false)),
            Response::Error(error) => {
                if self.namespaces == Some(id) {
                    tracing::warn!(code = %error.code, "the parent lists no namespaces");
                } else if let Some((namespace, _)) = self.announced.iter().find(|(_, r)| **r == id)
                {
                    tracing::warn!(%namespace, code = %error.code, "the parent refused a namespace");
                }
                None
            }
            _ => None,
        };
        if let (Some((namespace, published)), true) = (namespace, self.namespaces == Some(id)) {
            self.node.route(|router, now| {
                router.handle_uplink_namespace(&namespace, published, now);
            });
        }
    }

    /// Reads no more for a subscription of ours. Another source may go on with what was open; it
    /// must not seem alive until this peer, perhaps long dead, is given up.
    fn stop_ingests(&mut self, request: RequestId, track: TrackId) {
        let shared = self.node.track(track);
        self.ingests.retain(|ingest| {
            let stop = ingest.request == request;
            if stop {
                ingest.task.abort();
                if let Some(shared) = &shared {
                    shared.write().interrupt(ingest.seq);
                }
            }
            !stop
        });
    }

    /// One more data stream of a subscription of ours came.
    fn count_stream(&mut self, id: RequestId) {
        let seen = self.streams_seen.entry(id).or_default();
        *seen += 1;
        if let Some(ending) = self.ending.get(&id)
            && *seen >= ending.streams
        {
            let until = Instant::now();
            self.ending.insert(id, Ending { until, ..*ending });
        }
    }

    /// Our subscription is over, and all of its streams were seen or waited for long enough.
    fn end_upstream(&mut self, id: RequestId, code: PublishDoneCode) {
        self.streams_seen.remove(&id);
        self.ending.remove(&id);
        if let Some(track) = self.upstream.remove(&id) {
            let session = self.id;
            self.node.route(|router, now| router.handle_upstream_done(session, track, code, now));
        }
    }

    fn handle_ended(&mut self, id: RequestId) {
        let session = self.id;
        if self.served.contains_key(&id) {
            let track = self.served.get(&id).and_then(|served| served.track);
            let shared = track.and_then(|track| self.tracks.get(&track)).cloned();
            let guard = shared.as_ref().map(|shared| shared.read());
            for key in self.outbox.unsubscribe(id, guard.as_deref()) {
                if let Some(Stream::Open(mut stream)) = self.streams.remove(&key) {
                    stream.reset(ResetCode::CANCELLED);
                }
            }
            drop(guard);
            match track {
                Some(track) => {
                    self.node.route(|router, _| router.handle_unsubscribe(session, id, track));
                }
                None => self.node.route(|router, _| router.handle_cancelled(session, id)),
            }
            self.forget_served(id);
        } else if self.watched.remove(&id).is_some() {
            self.node.route(|router, _| router.handle_unsubscribe_namespace(session, id));
        } else if let Some(track) = self.upstream.remove(&id) {
            self.streams_seen.remove(&id);
            let error =
                RequestError::new(RequestErrorCode::INTERNAL_ERROR, "the upstream broke off");
            self.node.route(|router, now| {
                router.handle_upstream_error(session, track, &error, now);
            });
        } else {
            self.node.route(|router, _| router.handle_unpublish_namespace(session, id));
        }
    }

    fn forget_served(&mut self, id: RequestId) {
        let Some(Served { track: Some(track), .. }) = self.served.remove(&id) else { return };
        if !self.served.values().any(|served| served.track == Some(track))
            && let Some(shared) = self.tracks.remove(&track)
        {
            lock(&shared.watchers).remove(&self.id);
        }
    }

    /// The session is over: leave no trace but the figures.
    fn close(mut self) {
        let now = Instant::now();
        self.publish_figures(now);
        for track in self.tracks.values() {
            lock(&track.watchers).remove(&self.id);
        }
        self.node.totals.absorb(self.outbox.books());
        lock(&self.node.sessions).remove(&self.id);
        lock(&self.node.mailboxes).remove(&self.id);
        let id = self.id;
        self.node.route(|router, now| router.handle_session_closed(id, now));
        let code = SessionCode::NO_ERROR;
        self.driver.connection().close(code, "");
    }
}

/// First object and last group that a filter lets through; `None`: from the newest group's start.
fn range(filter: Option<Filter>, largest: Option<Location>) -> (Option<Location>, Option<u64>) {
    match (filter, largest) {
        (None, _) => (None, None),
        (Some(Filter::LargestObject | Filter::NextGroupStart), None) => (None, None),
        (Some(Filter::LargestObject), Some(largest)) => {
            (Some(Location { object: largest.object.saturating_add(1), ..largest }), None)
        }
        (Some(Filter::NextGroupStart), Some(largest)) => {
            (Some(Location { group: largest.group.saturating_add(1), object: 0 }), None)
        }
        // "An AbsoluteStart filter with Start = {0, 0} is equivalent to an unfiltered
        // subscription".
        (Some(Filter::AbsoluteStart { start }), _) if start == Location::default() => (None, None),
        (Some(Filter::AbsoluteStart { start }), _) => (Some(start), None),
        (Some(Filter::AbsoluteRange { start, end_group }), _) => (Some(start), Some(end_group)),
    }
}
