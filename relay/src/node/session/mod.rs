//! One peer: what it asks of us, what we ask of it, and the data that follows.
//!
//! * `names`: namespaces and tracks that each tells the other of.
//! * `serve`: subscriptions of the peer, and the streams they get.
//! * `upstream`: subscriptions at the peer, and the streams it sends.
//! * `winding`: streams that are given up.
//! * `past`: FETCH, fills and TRACK_STATUS, answered from the cache or passed on.

mod names;
mod past;
mod serve;
mod upstream;
mod winding;

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use moqt::{
    AuthToken, Backfill, Event, GoAway, Namespace, Parameters, PublishDone, PublishDoneCode,
    Request, RequestError, RequestErrorCode, RequestId, RequestOk, ResetCode, Response,
    SessionCode, Setup, SubscribeNamespace,
};
use relay_core::{Backlog, Books, Outbox, Peer, RouteAction, SessionId, StreamKey, TrackId};
use stats::SessionKind;
use tokio::sync::{mpsc, watch};
use transport::{Connection, Driver, DriverEvent, Error};

use self::names::{Followed, Watched};
use self::past::Pasts;
use self::serve::{Served, Stream};
use self::upstream::{Ending, Ingest};
use self::winding::Winding;
use super::viewers::Reports;
use super::{Mail, Mailbox, Node, SharedTrack, Signal, lock};

pub(super) use past::{Answer, Ask, AskedStream};
pub(super) use serve::Ahead;
pub(super) use upstream::Fault;

/// How long we stay with a peer that said GOAWAY without saying how long.
const GOAWAY_PATIENCE: Duration = Duration::from_secs(10);
/// How often the send window is fitted to the path, and what has a time is looked at.
const TICK: Duration = Duration::from_millis(250);
/// How many of these pass between two times that figures are brought up to date.
const FIGURES_EVERY: u32 = 2;
/// Data streams that a publisher, or a relay for all of its publishers, may have open towards us.
const PUBLISHER_STREAMS: u32 = 4096;
/// A relay asks for all of its viewers: it may have so many times the requests of a client.
const RELAY_REQUESTS: usize = 16;

/// What others may know of a session.
pub(crate) struct SessionInfo {
    pub(super) id: SessionId,
    pub(super) connection: Connection,
    pub(super) since: Instant,
    pub(super) signal: Arc<Signal>,
    pub(super) state: Mutex<SessionState>,
    /// When it looked last after what has a time: milliseconds since it began.
    ticked: AtomicU64,
    /// What it has sent by now. Rates are made of these: those of its books, which come twice a
    /// second, would put one or two updates into a second by turns.
    bytes_out: AtomicU64,
    objects_out: AtomicU64,
}

impl SessionInfo {
    /// Its changing part at this moment.
    pub(super) fn state(&self) -> SessionState {
        let mut state = lock(&self.state).clone();
        let SessionState { books, backlog, .. } = &mut state;
        let bytes = self.bytes_out.load(Ordering::Relaxed);
        let objects = self.objects_out.load(Ordering::Relaxed);
        // What was sent since does not wait any more.
        backlog.bytes = backlog.bytes.saturating_sub(bytes.saturating_sub(books.bytes_out));
        backlog.objects = backlog.objects.saturating_sub(objects.saturating_sub(books.objects_out));
        (books.bytes_out, books.objects_out) = (bytes, objects);
        state
    }

    /// Whether nothing has made it look after what has a time.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        let ticked = Duration::from_millis(self.ticked.load(Ordering::Relaxed));
        now.saturating_duration_since(self.since) > ticked + TICK
    }
}

/// The part of it that changes.
#[derive(Clone)]
pub(super) struct SessionState {
    pub(super) kind: SessionKind,
    /// A relay's node name, or the first namespace of a publisher.
    pub(super) name: Option<String>,
    pub(super) books: Books,
    pub(super) backlog: Backlog,
}

/// What whoever dialled a session hears of it while it runs.
pub(super) trait Watch: Send + 'static {
    /// The peer's SETUP came.
    fn ready(&mut self, setup: &Setup);
    /// The peer asks us to leave, for elsewhere if it says so.
    fn going_away(&mut self, to: Option<url::Url>);
}

/// Nobody dialled: the peer did.
impl Watch for () {
    fn ready(&mut self, _setup: &Setup) {}
    fn going_away(&mut self, _to: Option<url::Url>) {}
}

/// Runs a session to its end.
pub(super) async fn run(
    node: Arc<Node>,
    connection: Connection,
    peer: Peer,
    setup: Setup,
    watch: impl Watch,
) -> Error {
    let id = SessionId(node.next_session.fetch_add(1, Ordering::Relaxed));
    let (mailbox, mail) = node.open_mailbox(id);
    let remote = connection.remote_address();
    let info = Arc::new(SessionInfo {
        id,
        connection: connection.clone(),
        since: Instant::now(),
        signal: Arc::default(),
        state: Mutex::new(SessionState {
            kind: if peer == Peer::Client { SessionKind::Viewer } else { SessionKind::Relay },
            name: None,
            books: Books::default(),
            backlog: Backlog::default(),
        }),
        ticked: AtomicU64::new(0),
        bytes_out: AtomicU64::new(0),
        objects_out: AtomicU64::new(0),
    });
    lock(&node.sessions).insert(id, Arc::clone(&info));
    let setup = Setup {
        implementation: Some(concat!("weir-relay/", env!("CARGO_PKG_VERSION")).into()),
        node: Some(node.config.node.clone().into()),
        authorization_tokens: match (&node.config.tree_token, peer) {
            (Some(token), Peer::Uplink) => vec![AuthToken::UseValue {
                kind: 0,
                value: bytes::Bytes::copy_from_slice(token.as_bytes()),
            }],
            _ => Vec::new(),
        },
        ..setup
    };
    let mut session = Session {
        driver: Driver::new(connection, setup, node.config.limits),
        outbox: Outbox::new(node.policy()),
        id,
        peer,
        watch: Box::new(watch),
        signal: Arc::clone(&info.signal),
        info,
        mail,
        mailbox,
        tracks: BTreeMap::new(),
        streams: HashMap::new(),
        winding: Winding::default(),
        farewells: Vec::new(),
        cwnd: 0,
        opening: false,
        served: HashMap::new(),
        done: Vec::new(),
        upstream: HashMap::new(),
        ingests: Vec::new(),
        postponed: HashMap::new(),
        streams_seen: HashMap::new(),
        ending: HashMap::new(),
        announced: HashMap::new(),
        watched: HashMap::new(),
        followed: HashMap::new(),
        namespaces: None,
        pasts: Pasts::default(),
        ahead: watch::Sender::default(),
        asked: HashMap::new(),
        reports: Reports::new(Arc::clone(&node), Instant::now()),
        // At the first poll.
        tick_due: Instant::now(),
        ticks: 0,
        expiry: None,
        moving: None,
        leaving: None,
        node,
    };
    tracing::debug!(session = id.0, %remote, "session");
    let error = std::future::poll_fn(|cx| session.poll(cx)).await;
    let name = lock(&session.info.state).name.clone();
    match name.filter(|_| session.peer != Peer::Uplink) {
        Some(name) => tracing::info!(name, session = id.0, %remote, %error, "left"),
        None => tracing::debug!(session = id.0, %remote, %error, "session ended"),
    }
    session.close();
    error
}

struct Session {
    node: Arc<Node>,
    driver: Driver,
    outbox: Outbox,
    id: SessionId,
    peer: Peer,
    watch: Box<dyn Watch>,
    info: Arc<SessionInfo>,
    signal: Arc<Signal>,
    mail: mpsc::UnboundedReceiver<Mail>,
    /// The other end of it, for tasks.
    mailbox: Mailbox,
    /// Tracks we send from. In an order that all sessions have: where several are locked at once,
    /// two sessions could wait for each other else.
    tracks: BTreeMap<TrackId, Arc<SharedTrack>>,
    streams: HashMap<StreamKey, Stream>,
    /// Streams that were given up.
    winding: Winding,
    /// Subscriptions that are over, to be said once those are gone.
    farewells: Vec<(RequestId, PublishDone)>,
    /// The congestion window that what QUIC may hold was fitted to.
    cwnd: u64,
    /// Some of them may be opened now.
    opening: bool,
    /// The peer's subscriptions, and ours by PUBLISH.
    served: HashMap<RequestId, Served>,
    /// Those of them that PUBLISH_DONE ended just now.
    done: Vec<RequestId>,
    /// Our subscriptions at the peer, and the peer's by PUBLISH.
    upstream: HashMap<RequestId, TrackId>,
    /// The subgroups that are being read for them.
    ingests: Vec<Ingest>,
    /// Updates of them that the peer is not ready for yet.
    postponed: HashMap<RequestId, Parameters>,
    /// Data streams that came for each.
    streams_seen: HashMap<RequestId, u64>,
    /// Those that PUBLISH_DONE ended while streams were still on their way.
    ending: HashMap<RequestId, Ending>,
    /// Our PUBLISH_NAMESPACE requests.
    announced: HashMap<Namespace, RequestId>,
    /// The peer's SUBSCRIBE_NAMESPACE requests.
    watched: HashMap<RequestId, Watched>,
    /// The peer's SUBSCRIBE_TRACKS requests.
    followed: HashMap<RequestId, Followed>,
    /// Our SUBSCRIBE_NAMESPACE at the parent.
    namespaces: Option<RequestId>,
    /// What of the past is being sent to the peer.
    pasts: Pasts,
    /// What goes before fetch streams.
    ahead: watch::Sender<Ahead>,
    /// What other sessions asked the peer through us.
    asked: HashMap<RequestId, mpsc::UnboundedSender<AskedStream>>,
    /// What its viewer saw.
    reports: Reports,
    tick_due: Instant,
    ticks: u32,
    expiry: Option<(Instant, Pin<Box<tokio::time::Sleep>>)>,
    /// The peer said GOAWAY: until when we stay at the latest.
    moving: Option<Instant>,
    /// We said GOAWAY: until when the peer may stay.
    leaving: Option<Instant>,
}

impl Session {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        self.signal.0.register(cx.waker());
        loop {
            match self.driver.poll_next(cx) {
                Poll::Ready(Ok(event)) => {
                    if let Err(error) = self.handle(event) {
                        return Poll::Ready(error);
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(error),
                Poll::Pending => break,
            }
        }
        let now = Instant::now();
        let commanded = match self.poll_commands(cx, now) {
            Ok(commanded) => commanded,
            Err(error) => return Poll::Ready(error),
        };
        if self.poll_timers(cx, now) {
            return Poll::Ready(Error::Lost("moved to where the peer sent us".into()));
        }
        if commanded {
            // What was said just now is still with the driver.
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Does what others want of this session. `true`: the peer was told something.
    fn poll_commands(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, Error> {
        let mut said = self.leave(now);
        while let Poll::Ready(Some(mail)) = self.mail.poll_recv(cx) {
            match mail {
                Mail::Route(action) => self.carry_out(action)?,
                Mail::Ask(ask) => self.pass_on(*ask),
                Mail::Answer(answer) => self.respond(answer.request, answer.response)?,
                Mail::Fault(fault) => self.handle_fault(*fault, now),
                Mail::Delivered(stream) => {
                    self.handle_delivered(stream);
                    continue;
                }
            }
            said = true;
        }
        Ok(said | self.pump(cx, now)?)
    }

    /// Says goodbye once the node drains. `true`: the session was told something.
    fn leave(&mut self, now: Instant) -> bool {
        let Some(drain) = self.node.draining.get().filter(|_| self.leaving.is_none()) else {
            return false;
        };
        self.leaving = Some(now + drain.patience);
        // "A client MUST NOT" say where to: only servers are found by a URI.
        let to = drain.to.as_ref().filter(|_| self.peer != Peer::Uplink);
        let uri = to.map_or_else(Default::default, |to| to.to_string().into());
        let _ = self.driver.session_mut().go_away(uri, drain.patience.as_millis() as u64);
        true
    }

    /// `true`: the session may end, all it gave us is had elsewhere.
    fn poll_timers(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        self.end_late(now);
        if now >= self.tick_due && self.poll_tick(cx, now) {
            return true;
        }
        let expiry =
            self.outbox.poll_timeout().into_iter().chain(self.winding.poll_timeout()).min();
        if self.expiry.as_ref().map(|(at, _)| *at) != expiry {
            self.expiry = expiry.map(|at| (at, Box::pin(tokio::time::sleep_until(at.into()))));
        }
        if let Some((_, sleep)) = &mut self.expiry
            && sleep.as_mut().poll(cx).is_ready()
        {
            self.expiry = None;
            cx.waker().wake_by_ref();
        }
        false
    }

    /// `true`: the session may end.
    fn poll_tick(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let last = self.tick_due.checked_sub(TICK).unwrap_or(now);
        self.tick_due = now + TICK;
        self.ticks = self.ticks.wrapping_add(1);
        let age = now.saturating_duration_since(self.info.since);
        self.info.ticked.store(age.as_millis() as u64, Ordering::Relaxed);
        self.fit_window();
        self.winding.handle_tick(self.driver.connection(), last, now);
        if self.ticks.is_multiple_of(FIGURES_EVERY) {
            self.publish_figures(now);
        }
        self.forget_unheard();
        if self.leaving.is_some_and(|until| now >= until) {
            let reason = "this relay leaves, and waited long enough";
            self.driver.session_mut().close(SessionCode::GOAWAY_TIMEOUT, reason);
            cx.waker().wake_by_ref();
        }
        self.moving.is_some_and(|until| {
            let relieved = lock(&self.node.router).is_relieved(self.id);
            relieved && self.node.has_other_uplink(self.id) || now >= until
        })
    }

    /// Fits what QUIC may hold of us to what the path takes by now. `true`: it may hold more.
    pub(super) fn fit_window(&mut self) -> bool {
        let connection = self.driver.connection();
        let cwnd = connection.path_stats().cwnd;
        let before = std::mem::replace(&mut self.cwnd, cwnd);
        if cwnd != before {
            connection.limit_unsent(cwnd);
        }
        cwnd > before
    }

    fn publish_figures(&mut self, now: Instant) {
        let guards: HashMap<_, _> =
            self.tracks.iter().map(|(id, track)| (*id, track.read())).collect();
        let held = |id: TrackId| guards.get(&id).map(|guard| &**guard);
        let backlog = self.outbox.backlog(held, now);
        let books: Vec<_> = self.outbox.take_track_books(held).collect();
        drop(guards);
        for (id, books) in books {
            // It may have been unsubscribed from meanwhile.
            let track = self.tracks.get(&id).cloned().or_else(|| self.node.track(id));
            if let Some(track) = track {
                lock(&track.figures).absorb(&books);
            }
        }
        let mut state = lock(&self.info.state);
        state.books = self.outbox.books().clone();
        state.backlog = backlog;
        drop(state);
        if self.outbox.is_stuck(now) {
            tracing::info!(session = self.id.0, "takes nothing: let go");
            let subscriptions: Vec<_> = self.outbox.tracks().map(|(request, _)| request).collect();
            for request in subscriptions {
                self.outbox.end_track(request, PublishDoneCode::TOO_FAR_BEHIND);
            }
        }
    }

    fn request(&mut self, request: Request) -> Result<RequestId, Error> {
        self.driver.session_mut().request(request).map_err(|error| Error::Setup(error.to_string()))
    }

    fn respond(&mut self, id: RequestId, response: Response) -> Result<(), Error> {
        let session = self.driver.session_mut();
        session.respond(id, response).map_err(|error| Error::Setup(error.to_string()))
    }

    fn become_kind(&self, kind: SessionKind, name: String) {
        let mut state = lock(&self.info.state);
        state.kind = kind;
        state.name = Some(name);
        drop(state);
        self.warn_of_namesake();
    }

    /// It sends us media: it may open more streams than a viewer.
    fn become_publisher(&self, namespace: &Namespace) {
        let known = lock(&self.info.state).kind != SessionKind::Viewer;
        if self.peer == Peer::Client && !known {
            self.become_kind(SessionKind::Publisher, namespace.to_string());
            self.driver.connection().allow_streams(PUBLISHER_STREAMS);
        }
    }

    /// Says so if another peer of its kind goes by the same name.
    fn warn_of_namesake(&self) {
        let own = lock(&self.info.state).clone();
        let Some(name) = own.name else { return };
        let is_namesake = |other: &SessionInfo| {
            let state = lock(&other.state);
            other.id != self.id && state.kind == own.kind && state.name.as_ref() == Some(&name)
        };
        let sessions = lock(&self.node.sessions);
        let Some(other) = sessions.values().find(|other| is_namesake(other)) else { return };
        let (remote, other) = (self.info.connection.remote_address(), &other.connection);
        let other = other.remote_address();
        let advice = match own.kind {
            SessionKind::Relay => {
                "two relays of one name: unless it is one that came again, give each a --node of its own"
            }
            _ => {
                "two publishers of one name: unless it is one that came again, or a spare, give each a \
                 --name of its own"
            }
        };
        tracing::warn!(name, %remote, %other, "{advice}");
    }

    // ---- what the router decided ----

    fn carry_out(&mut self, action: RouteAction) -> Result<(), Error> {
        match action {
            RouteAction::Announce(_, namespace) => self.announce(namespace),
            RouteAction::Unannounce(_, namespace) => {
                self.unannounce(&namespace);
                Ok(())
            }
            RouteAction::Namespace(_, request, namespace) => {
                self.tell_namespace(request, &namespace, true)
            }
            RouteAction::NamespaceDone(_, request, namespace) => {
                self.tell_namespace(request, &namespace, false)
            }
            RouteAction::Follow(_) => self.follow(),
            RouteAction::Offer(_, track, name, forward) => self.offer(track, name, forward),
            RouteAction::Subscribe(_, track, wanted) => self.subscribe(track, wanted),
            RouteAction::Unsubscribe(_, track) => {
                self.unsubscribe(track);
                Ok(())
            }
            RouteAction::Forward(_, track, forward) => {
                let forward = Some(forward);
                self.update_upstream(track, Parameters { forward, ..Parameters::default() });
                Ok(())
            }
            RouteAction::NewGroup(_, track, group) => {
                let new_group_request = Some(group);
                let change = Parameters { new_group_request, ..Parameters::default() };
                self.update_upstream(track, change);
                Ok(())
            }
            RouteAction::Accept(_, request, track) => self.accept(request, track),
            RouteAction::Reject(_, request, error) => {
                self.served.remove(&request);
                self.pasts.refuse_waiting(request, &error, &self.mailbox);
                self.respond(request, Response::Error(error))
            }
            RouteAction::End(_, request, _, code) => {
                self.outbox.end_track(request, code);
                Ok(())
            }
            RouteAction::Begin(..) | RouteAction::Offline(_) | RouteAction::Forget(_) => Ok(()),
        }
    }

    // ---- what the peer said ----

    fn handle(&mut self, event: DriverEvent) -> Result<(), Error> {
        match event {
            DriverEvent::Session(event) => self.handle_event(event),
            DriverEvent::Subgroup { request, header, head, stream } => {
                self.handle_subgroup(request, header, head, stream);
                Ok(())
            }
            DriverEvent::Datagram { request, datagram } => {
                self.handle_datagram(request, datagram);
                Ok(())
            }
            DriverEvent::Fetch { request, head, stream } => {
                // Nobody listens: dropping the stream stops it.
                if let Some(asker) = self.asked.get(&request) {
                    let _ = asker.send(AskedStream::Data { head, stream });
                }
                Ok(())
            }
        }
    }

    fn handle_event(&mut self, event: Event) -> Result<(), Error> {
        match event {
            Event::Ready(setup) => self.handle_ready(&setup),
            Event::GoAway(goaway) => {
                self.handle_goaway(&goaway);
                Ok(())
            }
            Event::Requested { id, request } => self.handle_request(id, request),
            Event::Updated { id, parameters } => self.handle_update(id, &parameters),
            Event::Responded { id, response } => self.handle_response(id, response),
            Event::Ended { id, code } => {
                self.handle_ended(id, code);
                Ok(())
            }
            Event::UpdateAnswered { id, result } => {
                self.handle_update_answer(id, result);
                Ok(())
            }
            // One request to be moved: it is, with all others, when the session is.
            Event::RequestGoAway { goaway, .. } => {
                self.handle_goaway(&goaway);
                Ok(())
            }
        }
    }

    fn handle_ready(&mut self, setup: &Setup) -> Result<(), Error> {
        if self.peer == Peer::Client && setup.node.is_some() {
            if self.node.is_of_tree(setup) {
                self.peer = Peer::Node;
                let name = setup.node.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
                self.become_kind(SessionKind::Relay, name.into_owned());
            } else {
                let remote = self.driver.connection().remote_address();
                tracing::warn!(%remote, "a relay without this tree's token: taken for a client");
            }
        }
        if self.peer != Peer::Client {
            self.driver.connection().allow_streams(PUBLISHER_STREAMS);
            self.driver.allow_times(RELAY_REQUESTS);
        }
        self.watch.ready(setup);
        self.node.clocks.meet(self.id, self.peer, setup);
        let (id, peer) = (self.id, self.peer);
        self.node.route(|router, now| router.handle_session(id, peer, now));
        if peer == Peer::Uplink {
            let parameters = Parameters::default();
            let all = SubscribeNamespace { prefix: Namespace::default(), parameters };
            self.namespaces = Some(self.request(Request::SubscribeNamespace(all))?);
        }
        Ok(())
    }

    fn handle_goaway(&mut self, goaway: &GoAway) {
        self.move_to(transport::goaway_url(goaway), goaway.timeout);
    }

    /// "REDIRECT": the parent says where else it is to be had, so we go there.
    fn handle_redirect(&mut self, error: &RequestError) {
        if let Some((Some(to), _)) = transport::redirected(error) {
            self.move_to(Some(to), 0);
        }
    }

    /// The peer leaves. If it is the parent, whoever dialled it dials anew, and this session lasts
    /// until all that it gave us is had there ("Graceful Subscriber Relay Switchover").
    fn move_to(&mut self, to: Option<url::Url>, timeout_ms: u64) {
        let id = self.id;
        self.node.route(|router, now| router.handle_going_away(id, now));
        if self.peer != Peer::Uplink || self.moving.is_some() {
            return;
        }
        let patience = match timeout_ms {
            0 => GOAWAY_PATIENCE,
            ms => Duration::from_millis(ms).min(GOAWAY_PATIENCE),
        };
        self.moving = Some(Instant::now() + patience);
        self.watch.going_away(to);
    }

    fn handle_request(&mut self, id: RequestId, request: Request) -> Result<(), Error> {
        let backfill = Backfill::of_request(id, &request);
        match request {
            Request::Subscribe(subscribe) => {
                self.handle_subscribe(id, subscribe);
                self.begin_backfill(backfill);
                Ok(())
            }
            Request::Publish(publish) => self.handle_publish(id, publish),
            Request::PublishNamespace(publish) => self.handle_publish_namespace(id, publish),
            Request::SubscribeNamespace(watch) => self.handle_subscribe_namespace(id, watch),
            Request::SubscribeTracks(follow) => self.handle_subscribe_tracks(id, follow),
            Request::Fetch(fetch) => {
                match backfill {
                    Some(backfill) => self.begin_backfill(Some(backfill)),
                    None => self.begin_fetch(id, fetch),
                }
                Ok(())
            }
            Request::TrackStatus(status) => {
                self.begin_status(id, status);
                Ok(())
            }
        }
    }

    fn handle_update(&mut self, id: RequestId, change: &Parameters) -> Result<(), Error> {
        let answer = if self.served.contains_key(&id) {
            self.update_served(id, change)
        } else {
            self.update_names(id, change);
            self.pasts.update(id, change);
            RequestOk::default()
        };
        let session = self.driver.session_mut();
        session.respond_update(id, Ok(answer)).map_err(|error| Error::Setup(error.to_string()))?;
        self.begin_backfill(Backfill::of_parameters(id, change));
        Ok(())
    }

    fn handle_response(&mut self, id: RequestId, response: Response) -> Result<(), Error> {
        if let Response::Error(error) = &response {
            self.handle_redirect(error);
        }
        if self.upstream.contains_key(&id) {
            self.handle_upstream_response(id, response);
        } else if self.served.contains_key(&id) {
            self.handle_offer_response(id, response);
        } else if self.asked.contains_key(&id) {
            self.handle_asked_response(id, response);
        } else if self.reports.is(id) {
            // PUBLISH_DONE.
            self.reports.end();
        } else {
            self.handle_names_response(id, response);
        }
        Ok(())
    }

    fn handle_ended(&mut self, id: RequestId, code: Option<ResetCode>) {
        self.farewells.retain(|(request, _)| *request != id);
        if self.served.contains_key(&id) {
            self.end_served(id);
        } else if self.upstream.contains_key(&id) {
            self.break_upstream(id);
        } else if let Some(asker) = self.asked.get(&id) {
            let _ = asker.send(AskedStream::Ended(code));
        } else if self.reports.is(id) {
            self.reports.end();
        } else if !self.pasts.cancel(id) {
            self.end_names(id);
        }
    }

    /// The session is over: leave no trace but the figures.
    fn close(mut self) {
        let now = Instant::now();
        for track in self.tracks.values() {
            track.watchers.remove(self.id);
        }
        let states: HashMap<_, _> =
            self.tracks.iter().map(|(id, track)| (*id, track.read())).collect();
        self.outbox.close(|id| states.get(&id).map(|state| &**state));
        drop(states);
        self.publish_figures(now);
        self.pasts.cancel_all();
        {
            let mut sessions = lock(&self.node.sessions);
            self.node.totals.absorb(self.outbox.books());
            sessions.remove(&self.id);
        }
        lock(&self.node.mailboxes).remove(&self.id);
        self.node.clocks.part(self.id);
        let id = self.id;
        self.node.route(|router, now| router.handle_session_closed(id, now));
        self.driver.connection().close(SessionCode::NO_ERROR, "");
    }
}
