//! Puts the node's figures together.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use relay_core::{Books, SessionId};
use stats::{
    NodeSnapshot, NodeState, Percentiles, SessionKind, SessionSnapshot, TrackSnapshot, Transport,
    Tree, UdpBuffers, UpstreamSnapshot, UpstreamState,
};
use transport::Connection;
use url::Url;

use super::figures::Latency;
use super::session::SessionInfo;
use super::{Node, SharedTrack, lock};

/// A node that was not heard for this long is down.
const DOWN_AFTER: Duration = Duration::from_millis(2500);
/// A node that was not heard for this long is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(600);
/// Sessions listed in what goes up the tree: the worst off; all of them are counted.
const REPORTED_SESSIONS: usize = 64;

/// Counts that outlive their sessions and tracks.
#[derive(Default)]
pub(super) struct Totals {
    bytes_in: AtomicU64,
    objects_in: AtomicU64,
    ended: Mutex<Books>,
}

impl Totals {
    pub(super) fn count_in(&self, bytes: u64, objects: u64) {
        self.bytes_in.fetch_add(bytes, Ordering::Relaxed);
        self.objects_in.fetch_add(objects, Ordering::Relaxed);
    }

    /// A session ended with these books.
    pub(super) fn absorb(&self, books: &Books) {
        add(&mut lock(&self.ended), books);
    }
}

fn add(sum: &mut Books, books: &Books) {
    sum.bytes_out += books.bytes_out;
    sum.objects_out += books.objects_out;
    for (reason, counts) in books.drops.iter() {
        sum.drops.record(reason, counts);
    }
}

/// How one `--upstream` is.
pub(super) struct UplinkStatus {
    url: String,
    pub(super) state: UpstreamState,
    pub(super) connects: u64,
    /// The name the parent goes by.
    pub(super) parent: Option<String>,
    pub(super) connection: Option<Connection>,
    pub(super) error: Option<String>,
}

impl UplinkStatus {
    pub(super) fn new(url: &Url) -> Self {
        Self {
            url: url.to_string(),
            state: UpstreamState::Standby,
            connects: 0,
            parent: None,
            connection: None,
            error: None,
        }
    }

    fn snapshot(&self) -> UpstreamSnapshot {
        UpstreamSnapshot {
            url: self.url.clone(),
            state: self.state,
            rtt_ms: self.connection.as_ref().map(|c| millis(c.path_stats().rtt)),
            error: self.error.clone(),
            connects: Some(self.connects),
        }
    }
}

/// What was heard of the nodes below.
#[derive(Default)]
pub(super) struct Children(BTreeMap<String, Child>);

struct Child {
    snapshot: NodeSnapshot,
    group: u64,
    at: Instant,
}

impl Children {
    pub(super) fn is_news(&self, node: &str, group: u64) -> bool {
        self.0.get(node).is_none_or(|child| child.group != group)
    }

    pub(super) fn hear(&mut self, snapshot: NodeSnapshot, group: u64, at: Instant) {
        self.0.insert(snapshot.node.clone(), Child { snapshot, group, at });
    }

    pub(super) fn forget_old(&mut self, now: Instant) {
        self.0.retain(|_, child| now.saturating_duration_since(child.at) < FORGET_AFTER);
    }

    fn snapshots(&self, now: Instant) -> impl Iterator<Item = NodeSnapshot> {
        self.0.values().map(move |child| {
            let mut snapshot = child.snapshot.clone();
            let silent = now.saturating_duration_since(child.at);
            if silent > DOWN_AFTER {
                snapshot.state = NodeState::Down;
                snapshot.reason = Some(format!("not heard for {:.0} s", silent.as_secs_f64()));
                snapshot.viewers = 0;
                snapshot.sessions.clear();
            }
            snapshot
        })
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

impl Node {
    /// This node and all below it.
    pub(crate) fn tree(&self) -> Tree {
        let mut nodes = vec![self.snapshot()];
        nodes.extend(lock(&self.children).snapshots(Instant::now()));
        Tree { node: self.config.node.clone(), at: jiff::Timestamp::now(), nodes }
    }

    /// What goes up the tree: as [`Node::snapshot`], with the sessions that are worst off only.
    pub(super) fn report(&self) -> NodeSnapshot {
        let mut snapshot = self.snapshot();
        let sessions = &mut snapshot.sessions;
        sessions
            .sort_by_key(|session| std::cmp::Reverse((session.behind_ms, session.queued_bytes)));
        sessions.truncate(REPORTED_SESSIONS);
        snapshot
    }

    /// This node alone.
    fn snapshot(&self) -> NodeSnapshot {
        let infos: Vec<_> = lock(&self.sessions).values().cloned().collect();
        let mut books = lock(&self.totals.ended).clone();
        let mut sessions: Vec<_> = infos
            .iter()
            .map(|info| {
                let state = lock(&info.state).clone();
                add(&mut books, &state.books);
                session(info, &state)
            })
            .collect();
        sessions.sort_by(|a, b| a.id.cmp(&b.id));
        let count = |kind| sessions.iter().filter(|session| session.kind == kind).count() as u64;
        let uplinks = lock(&self.uplinks);
        let connected = uplinks.iter().find(|uplink| uplink.state == UpstreamState::Connected);
        let lost = !uplinks.is_empty() && connected.is_none();
        let draining = self.draining.get().is_some();
        let clock = self.clocks.offset_to_parent().filter(|_| connected.is_some());
        NodeSnapshot {
            node: self.config.node.clone(),
            parent: connected.and_then(|uplink| uplink.parent.clone()),
            state: match (draining, lost) {
                (true, _) => NodeState::Draining,
                (false, true) => NodeState::Warning,
                (false, false) => NodeState::Ok,
            },
            reason: lost.then(|| "no upstream is connected".to_owned()),
            uptime_s: self.started.elapsed().as_secs_f64(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            viewers: count(SessionKind::Viewer),
            // The parent is a relay too, but not one that we serve.
            relays: count(SessionKind::Relay)
                - u64::from(connected.is_some()).min(count(SessionKind::Relay)),
            publishers: count(SessionKind::Publisher),
            upstream: uplinks.iter().map(UplinkStatus::snapshot).collect(),
            bytes_in: self.totals.bytes_in.load(Ordering::Relaxed),
            bytes_out: books.bytes_out,
            objects_in: self.totals.objects_in.load(Ordering::Relaxed),
            objects_out: books.objects_out,
            drops: books.drops,
            tracks: self.track_snapshots(),
            sessions,
            seen: lock(&self.seen).snapshot(Instant::now()),
            certificate_expires: jiff::Timestamp::try_from(self.identity.expires()).ok(),
            udp_buffers: lock(&self.udp_buffers).map(|granted| UdpBuffers {
                receive: granted.receive,
                send: granted.send,
                wanted: transport::UdpBuffers::WANTED,
            }),
            clock_offset_ms: clock.map(|(offset, _)| offset),
            clock_error_ms: clock.map(|(_, error)| error),
            ..NodeSnapshot::default()
        }
    }

    fn track_snapshots(&self) -> Vec<TrackSnapshot> {
        let (known, sources): (Vec<_>, HashMap<_, _>) = {
            let router = lock(&self.router);
            let sources = router.live_sources().map(|(id, _, source)| (id, source)).collect();
            (router.tracks().map(|(id, _, served)| (id, served)).collect(), sources)
        };
        let now = Instant::now();
        let mut tracks: Vec<_> = known
            .into_iter()
            .filter_map(|(id, served)| {
                let shared = self.track(id)?;
                let source = sources.get(&id).copied();
                Some(self.track_snapshot(&shared, served as u64, source, now))
            })
            .collect();
        tracks.sort_by(|a, b| a.name.cmp(&b.name));
        tracks
    }

    fn track_snapshot(
        &self,
        shared: &SharedTrack,
        subscribers: u64,
        source: Option<SessionId>,
        now: Instant,
    ) -> TrackSnapshot {
        let clock = self.clocks.of_track(&shared.name);
        let state = shared.read();
        let timing = state.timing();
        let latency =
            clock.and_then(|clock| Latency::of(state.captured(), &clock, &self.clocks, now));
        let figures = lock(&shared.figures);
        let from_relay = source.is_some_and(|source| self.clocks.relay(source).is_some());
        TrackSnapshot {
            name: shared.name.to_string(),
            subscribers,
            bytes_in: state.bytes_in(),
            bytes_out: figures.bytes_out,
            largest: state.largest().map(|at| [at.group, at.object]),
            group_ms: timing.group.map(millis),
            // Where it is published, the hop is the way from the camera.
            hop_latency_ms: match from_relay {
                true => figures.hop_latency(now),
                false => latency.map(|latency| latency.ms),
            },
            latency_ms: latency.map(|latency| latency.ms),
            latency_error_ms: latency.map(|latency| latency.error_ms),
            inter_arrival_ms: timing
                .inter_arrival
                .map(|spread| Percentiles { p50: millis(spread.p50), p95: millis(spread.p95) }),
            drops: Some(figures.drops),
            groups: figures.groups(state.newest_groups()),
        }
    }

    /// Payload that is kept for viewers who join, over all tracks.
    pub(crate) fn cached_bytes(&self) -> u64 {
        self.all_tracks().iter().map(|track| track.read().held_bytes()).sum()
    }

    /// Broadcasts that can be watched here, and how many watch each from here.
    pub(crate) fn broadcasts(&self) -> Vec<(String, u64)> {
        let router = lock(&self.router);
        router
            .namespaces()
            .filter(|(namespace, _)| {
                namespace.fields().first().is_some_and(|first| &first[..] != b"weir")
            })
            .map(|(namespace, _)| {
                let viewers = router
                    .tracks()
                    .filter(|(_, name, _)| name.namespace() == namespace)
                    .map(|(_, _, served)| served as u64)
                    .max();
                (namespace.to_string(), viewers.unwrap_or(0))
            })
            .collect()
    }

    /// Whether the node can serve; else why not.
    pub(crate) fn ready(&self) -> Result<(), String> {
        if self.draining.get().is_some() {
            return Err("draining".into());
        }
        let uplinks = lock(&self.uplinks);
        if uplinks.is_empty() || uplinks.iter().any(|u| u.state == UpstreamState::Connected) {
            return Ok(());
        }
        let why = uplinks.iter().find_map(|uplink| uplink.error.clone());
        Err(format!("no upstream is connected: {}", why.unwrap_or_else(|| "connecting".into())))
    }
}

fn session(info: &SessionInfo, state: &super::session::SessionState) -> SessionSnapshot {
    SessionSnapshot {
        id: info.id.0.to_string(),
        kind: state.kind,
        transport: match info.connection.transport() {
            moqt::Transport::RawQuic => Transport::Quic,
            moqt::Transport::WebTransport => Transport::WebTransport,
        },
        protocol: info.connection.version().alpn().to_owned(),
        remote: info.connection.remote_address().to_string(),
        age_s: Some(info.since.elapsed().as_secs_f64()),
        rtt_ms: Some(millis(info.connection.path_stats().rtt)),
        bytes_out: state.books.bytes_out,
        queued_bytes: Some(state.queued),
        behind_ms: Some(state.behind.as_millis() as u64),
        drops: state.books.drops,
    }
}
