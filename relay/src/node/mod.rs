//! One relay in its tree: what its sessions share.
//!
//! * `session` runs one peer: control, what it publishes to us, what we send it.
//! * `ingest` reads one upstream subgroup into its track.
//! * `fetch` answers a request for objects of the past.
//! * `uplink` keeps the session to the parent alive.
//! * `feed` reports this node up the tree and gathers the reports from below; `report` is the bytes
//!   of one, `detail` who looks at more than reports say.
//! * `clock` tells the time, and knows how other nodes' clocks run.
//! * `viewers` takes what viewers report; `seen` puts that together.
//! * `arrivals` compares when objects came to the relay before us and to us.
//! * `figures` is what people are told of one track.
//! * `snapshot` puts the figures together.
//! * `watchers` knows who is woken for a track, on which worker.
//! * `memory` gives free memory back once many have left.
//!
//! Locks are held for as long as a state machine's step takes, never across an await. Order where
//! two are needed: router, then tracks.

mod arrivals;
mod clock;
mod detail;
mod feed;
mod fetch;
mod figures;
mod ingest;
mod memory;
mod report;
mod seen;
mod session;
mod snapshot;
mod uplink;
mod viewers;
mod watchers;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::task::AtomicWaker;
use moqt::{
    AuthToken, FullTrackName, Namespace, ObjectHeader, ObjectStatus, Properties, Setup,
    SubgroupHeader, SubgroupId, property,
};
use relay_core::{
    CacheLimits, Peer, Policy, RouteAction, Router, RouterConfig, SessionId, StreamKey, Track,
    TrackId,
};
use tokio::sync::{Notify, mpsc, watch};
use transport::{CANONICAL, Endpoint, Identity, Listener, UdpBuffers};

use crate::config::Config;
use arrivals::Arrivals;
use clock::Clocks;
use detail::Details;
use figures::TrackFigures;
use memory::Memory;
use seen::Seen;
use session::{Answer, Ask, Fault, SessionInfo};
use snapshot::{Children, Totals, UplinkStatus};
pub(crate) use watchers::enter;
use watchers::{Herald, Watchers};

pub(crate) use detail::Detail;
pub(crate) use seen::{Distribution, SeenFigures, WAYS};

/// This node itself, among its sessions.
const SELF: SessionId = SessionId(0);
/// How long peers have to leave when the node ends.
const LEAVE: Duration = Duration::from_millis(1500);
/// How often tracks are looked at though nothing comes.
const TIDY: Duration = Duration::from_millis(100);
/// How long after that their connections may take to close.
const CLOSE: Duration = Duration::from_secs(1);

/// That everyone is to leave ("GOAWAY").
#[derive(Clone, Debug)]
pub(crate) struct Drain {
    /// Where clients are to go; `None`: here again, later.
    pub(crate) to: Option<url::Url>,
    /// How long they have.
    pub(crate) patience: Duration,
}

/// Locks without minding a panic elsewhere: the state machines keep their invariants themselves.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One relay. Everything that runs holds an `Arc` of it.
pub(crate) struct Node {
    pub(crate) config: Config,
    pub(crate) identity: Identity,
    started: Instant,
    router: Mutex<Router>,
    /// Wakes the task that watches the router's timeouts.
    router_changed: Notify,
    mailboxes: Mutex<HashMap<SessionId, Mailbox>>,
    tracks: RwLock<HashMap<TrackId, Arc<SharedTrack>>>,
    sessions: Mutex<HashMap<SessionId, Arc<SessionInfo>>>,
    next_session: AtomicU64,
    totals: Totals,
    uplinks: Mutex<Vec<UplinkStatus>>,
    children: Mutex<Children>,
    clocks: Clocks,
    seen: Mutex<Seen>,
    arrivals: Arrivals,
    /// The smallest of all its sockets.
    udp_buffers: Mutex<Option<UdpBuffers>>,
    details: Details,
    /// How often a node below fell silent or was heard again.
    news: watch::Sender<u64>,
    /// One for each worker.
    heralds: Vec<Arc<Herald>>,
    /// Set once, when everyone is to leave.
    draining: OnceLock<Drain>,
}

/// What a session is told by others, and by the tasks that work for it. One queue for all of it:
/// a session looks into it at every wake.
enum Mail {
    /// The router decided.
    Route(RouteAction),
    /// Another session wants to know something of this one's peer.
    Ask(Box<Ask>),
    /// A task that looks for an answer to this peer found it.
    Answer(Box<Answer>),
    /// A task that reads one of this peer's streams found something wrong.
    Fault(Box<Fault>),
    /// The peer has all of a stream, of those for which that matters.
    Delivered(StreamKey),
}

/// Where a session is told something.
type Mailbox = mpsc::UnboundedSender<Mail>;

/// A track and who must hear of its changes.
pub(crate) struct SharedTrack {
    id: TrackId,
    name: FullTrackName,
    state: RwLock<Track>,
    watchers: Watchers,
    figures: Mutex<TrackFigures>,
    /// What its publishers say contradicts itself: nothing of it is passed on any more.
    malformed: AtomicBool,
    /// For tasks that wait for more of it.
    changed: Notify,
}

impl SharedTrack {
    fn read(&self) -> std::sync::RwLockReadGuard<'_, Track> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Track> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a track of our own, with what its publisher says of its priority.
    fn begin_own(&self, priority: u64) {
        let mut properties = Properties::new();
        properties.push_int(property::DEFAULT_PUBLISHER_PRIORITY, priority);
        let mut state = self.write();
        state.set_properties(properties);
        state.handle_live(None);
    }

    /// Writes an object of our own, in a group of its own.
    fn write_own(&self, group: u64, payload: Bytes) {
        let now = Instant::now();
        let header = SubgroupHeader {
            track_alias: 0,
            group,
            subgroup: SubgroupId::Known(0),
            priority: None,
            properties: false,
            end_of_group: true,
            first_object: true,
        };
        let mut head = BytesMut::new();
        ObjectHeader {
            id: 0,
            previous: None,
            properties: None,
            payload: payload.len() as u64,
            status: ObjectStatus::Normal,
        }
        .encode(&mut head, CANONICAL.int_coding());
        let mut state = self.write();
        if let Ok(Some(feed)) = state.open(SELF, header, now) {
            // Our own bytes cannot break the protocol.
            let _ = state.append(feed, head.freeze(), now);
            let _ = state.append(feed, payload, now);
            let _ = state.finish(feed, now);
        }
        drop(state);
        self.wake();
    }

    /// Something arrived.
    fn wake(&self) {
        self.watchers.wake();
        self.changed.notify_waiters();
    }
}

/// Wakes a session's task.
#[derive(Default)]
struct Signal(AtomicWaker);

impl Node {
    /// A node that so many workers will serve.
    pub(crate) fn new(config: Config, identity: Identity, workers: usize) -> Arc<Self> {
        let router = RouterConfig {
            linger: config.linger,
            rendezvous: config.max_rendezvous,
            sources: config.max_publishers,
            ..RouterConfig::default()
        };
        let uplinks = config.upstream.iter().map(UplinkStatus::new).collect();
        Arc::new(Self {
            identity,
            started: Instant::now(),
            router: Mutex::new(Router::new(router)),
            router_changed: Notify::new(),
            mailboxes: Mutex::default(),
            tracks: RwLock::default(),
            sessions: Mutex::default(),
            // 0 is this node itself.
            next_session: AtomicU64::new(1),
            totals: Totals::default(),
            uplinks: Mutex::new(uplinks),
            children: Mutex::default(),
            clocks: Clocks::new(),
            seen: Mutex::default(),
            arrivals: Arrivals::default(),
            udp_buffers: Mutex::default(),
            details: Details::default(),
            news: watch::Sender::default(),
            heralds: (0..workers).map(|_| Arc::default()).collect(),
            draining: OnceLock::new(),
            config,
        })
    }

    /// Runs as the first worker until `shutdown`, then lets every session go with GOAWAY.
    pub(crate) async fn run(
        self: &Arc<Self>,
        listener: Listener,
        shutdown: impl Future<Output = ()>,
    ) {
        let (over, serving) = watch::channel(false);
        let node = Arc::clone(self);
        let serving = tokio::spawn(async move { node.serve(listener, 0, serving).await });
        let tasks = [
            tokio::spawn(Arc::clone(self).watch_timeouts()),
            tokio::spawn(feed::run(Arc::clone(self))),
            tokio::spawn(uplink::run(Arc::clone(self))),
            tokio::spawn(clock::run(Arc::clone(self))),
            tokio::spawn(arrivals::run(Arc::clone(self))),
            tokio::spawn(Arc::clone(self).renew_certificate()),
            tokio::spawn(Arc::clone(self).tidy()),
        ];
        shutdown.await;
        self.drain(Drain { to: None, patience: LEAVE });
        let gone = async {
            while !lock(&self.sessions).is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        // Sessions themselves close those who do not leave.
        let _ = tokio::time::timeout(LEAVE + CLOSE, gone).await;
        over.send_replace(true);
        let _ = serving.await;
        for task in tasks {
            task.abort();
        }
    }

    /// Serves as a worker until all is over. Newcomers are turned away before that, while those who
    /// are here get time to leave.
    pub(crate) async fn serve(
        self: &Arc<Self>,
        listener: Listener,
        worker: usize,
        mut over: watch::Receiver<bool>,
    ) {
        let endpoint = match Endpoint::serve(listener) {
            Ok(endpoint) => endpoint,
            Err(error) => return tracing::error!(worker, %error, "a worker cannot serve"),
        };
        self.count_socket(&endpoint);
        tokio::select! {
            () = self.accept(&endpoint) => {}
            () = self.heralds[worker].run() => {}
            _ = over.wait_for(|over| *over) => {}
        }
        endpoint.close();
        let _ = tokio::time::timeout(CLOSE, endpoint.wait_idle()).await;
    }

    /// One more socket that media pass through.
    fn count_socket(&self, endpoint: &Endpoint) {
        let Some(more) = endpoint.udp_buffers() else { return };
        let mut smallest = lock(&self.udp_buffers);
        let so_far = smallest.unwrap_or(more);
        *smallest = Some(UdpBuffers {
            receive: so_far.receive.min(more.receive),
            send: so_far.send.min(more.send),
        });
    }

    async fn accept(self: &Arc<Self>, endpoint: &Endpoint) {
        while let Some(incoming) = endpoint.accept().await {
            if self.draining.get().is_some() {
                incoming.refuse();
                continue;
            }
            let sessions = lock(&self.sessions).len();
            if sessions >= self.config.max_sessions {
                tracing::warn!(remote = %incoming.remote_address(), sessions, "full: refused");
                incoming.refuse();
                continue;
            }
            // With many about, strangers first show that their address is their own.
            let incoming = if sessions * 2 > self.config.max_sessions {
                incoming.validated()
            } else {
                Some(incoming)
            };
            let Some(incoming) = incoming else { continue };
            let node = Arc::clone(self);
            tokio::spawn(async move {
                match incoming.accept().await {
                    Ok(connection) => {
                        session::run(node, connection, Peer::Client, Setup::default(), ()).await;
                    }
                    Err(error) => tracing::debug!(%error, "no session"),
                }
            });
        }
    }

    /// Tells everyone to go. The first word stands.
    pub(crate) fn drain(&self, drain: Drain) {
        tracing::info!(to = drain.to.as_ref().map(url::Url::as_str), "draining");
        let _ = self.draining.set(drain);
        for session in lock(&self.sessions).values() {
            session.signal.0.wake();
        }
    }

    /// Whether a peer that calls itself a relay knows what relays of this tree know.
    fn is_of_tree(&self, setup: &Setup) -> bool {
        let Some(token) = &self.config.tree_token else { return true };
        setup.authorization_tokens.iter().any(|presented| match presented {
            AuthToken::UseValue { value, .. } | AuthToken::Register { value, .. } => {
                token.is(value)
            }
            AuthToken::UseAlias { .. } | AuthToken::Delete { .. } => false,
        })
    }

    /// Ends a session: whether it was open.
    pub(crate) fn end_session(&self, id: &str) -> bool {
        let Some(id) = id.parse().ok().map(SessionId) else { return false };
        let Some(session) = lock(&self.sessions).get(&id).cloned() else { return false };
        tracing::info!(session = id.0, "ended by the operator");
        session.connection.close(moqt::SessionCode::NO_ERROR, "ended by the operator");
        true
    }

    /// Forgets what is too old in tracks to which nothing comes, waits no more for sources that fell
    /// silent, and gives back what those who left had.
    async fn tidy(self: Arc<Self>) {
        let mut tick = tokio::time::interval(TIDY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut memory = Memory::default();
        loop {
            tick.tick().await;
            let tracks: Vec<_> = self.all_tracks();
            for track in tracks {
                if track.write().evict(Instant::now()) {
                    track.wake();
                }
            }
            self.wake_quiet_sessions();
            let sessions = lock(&self.sessions).len();
            if memory.is_due(sessions, Instant::now()) {
                memory::give_back();
            }
        }
    }

    /// Sessions look after what has a time whenever they run; those to whom nothing happens are
    /// woken for it. A timer of their own would wake the process for each of them.
    fn wake_quiet_sessions(&self) {
        let now = Instant::now();
        for session in lock(&self.sessions).values() {
            if session.is_overdue(now) {
                session.signal.0.wake();
            }
        }
    }

    async fn renew_certificate(self: Arc<Self>) {
        loop {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            if let Err(error) = self.identity.renew() {
                tracing::error!(%error, "cannot renew the certificate");
            }
        }
    }

    async fn watch_timeouts(self: Arc<Self>) {
        loop {
            let at = lock(&self.router).poll_timeout();
            let timeout = async {
                match at {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = timeout => self.route(|router, now| router.handle_timeout(now)),
                () = self.router_changed.notified() => {}
            }
        }
    }

    /// A step of the router, and what follows from it.
    fn route<T>(&self, step: impl FnOnce(&mut Router, Instant) -> T) -> T {
        self.route_then(step, |_| ())
    }

    /// A step of the router, then something that must be done before anyone hears of it: new
    /// tracks are there by then.
    fn route_then<T>(
        &self,
        step: impl FnOnce(&mut Router, Instant) -> T,
        prepare: impl FnOnce(&T),
    ) -> T {
        let mut router = lock(&self.router);
        let before = router.poll_timeout();
        let result = step(&mut router, Instant::now());
        let actions: Vec<_> = std::iter::from_fn(|| router.poll_action()).collect();
        for action in &actions {
            if let RouteAction::Begin(track, name) = action {
                self.begin(*track, name);
            }
        }
        prepare(&result);
        for action in actions {
            tracing::trace!(?action, "route");
            self.dispatch(action);
        }
        if router.poll_timeout() != before {
            self.router_changed.notify_one();
        }
        result
    }

    fn dispatch(&self, action: RouteAction) {
        let session = match &action {
            RouteAction::Announce(session, _)
            | RouteAction::Unannounce(session, _)
            | RouteAction::Namespace(session, ..)
            | RouteAction::NamespaceDone(session, ..)
            | RouteAction::Follow(session)
            | RouteAction::Offer(session, ..)
            | RouteAction::Subscribe(session, ..)
            | RouteAction::Unsubscribe(session, _)
            | RouteAction::Forward(session, ..)
            | RouteAction::NewGroup(session, ..)
            | RouteAction::Accept(session, ..)
            | RouteAction::Reject(session, ..)
            | RouteAction::End(session, ..) => *session,
            RouteAction::Begin(..) => return,
            RouteAction::Offline(track) => {
                if let Some(track) = self.track(*track) {
                    track.write().handle_offline();
                }
                return;
            }
            RouteAction::Forget(track) => {
                // Who still sends the end of it keeps it alive.
                self.tracks.write().unwrap_or_else(PoisonError::into_inner).remove(track);
                return;
            }
        };
        if let Some(mailbox) = lock(&self.mailboxes).get(&session) {
            let _ = mailbox.send(Mail::Route(action));
        }
    }

    /// Whether another session leads to a parent that is not about to leave.
    fn has_other_uplink(&self, id: SessionId) -> bool {
        lock(&self.router).has_other_uplink(id)
    }

    fn track(&self, id: TrackId) -> Option<Arc<SharedTrack>> {
        self.tracks.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    fn all_tracks(&self) -> Vec<Arc<SharedTrack>> {
        let tracks = self.tracks.read().unwrap_or_else(PoisonError::into_inner);
        tracks.values().cloned().collect()
    }

    fn begin(&self, id: TrackId, name: &FullTrackName) {
        let limits =
            CacheLimits { bytes: self.config.cache_bytes as u64, age: self.config.cache_age };
        let track = SharedTrack {
            id,
            name: name.clone(),
            state: RwLock::new(Track::new(limits)),
            watchers: Watchers::new(&self.heralds),
            figures: Mutex::default(),
            malformed: AtomicBool::new(false),
            changed: Notify::new(),
        };
        let mut tracks = self.tracks.write().unwrap_or_else(PoisonError::into_inner);
        tracks.insert(id, Arc::new(track));
    }

    /// What viewers reported.
    pub(crate) fn seen(&self) -> SeenFigures {
        lock(&self.seen).figures(Instant::now())
    }

    fn policy(&self) -> Policy {
        Policy { max_latency: self.config.max_latency, ..Policy::default() }
    }

    fn open_mailbox(&self, id: SessionId) -> (Mailbox, mpsc::UnboundedReceiver<Mail>) {
        let (mailbox, mail) = mpsc::unbounded_channel();
        lock(&self.mailboxes).insert(id, mailbox.clone());
        (mailbox, mail)
    }
}

/// The namespace a node reports under.
fn report_namespace(node: &str) -> Result<Namespace, moqt::NameError> {
    Namespace::new(["weir".to_owned(), "nodes".to_owned(), node.to_owned()].map(Into::into))
}
