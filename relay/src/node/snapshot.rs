//! Puts the node's figures together.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use relay_core::{Books, SessionId};
use stats::{
    NodeSnapshot, NodeState, Percentiles, SessionKind, SessionSnapshot, TrackSnapshot, Transport,
    Tree, UdpBuffers, UpstreamSnapshot, UpstreamState,
};
use tokio::sync::watch;
use transport::Connection;
use url::Url;

use super::clock::is_reserved;
use super::detail::Detail;
use super::figures::Latency;
use super::session::SessionInfo;
use super::{Node, SharedTrack, lock};

/// A node that was not heard for this long is down.
const DOWN_AFTER: Duration = Duration::from_millis(2500);
/// A node that was not heard for this long is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(600);

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
pub(super) struct Children {
    heard: BTreeMap<String, Child>,
    /// Those of them that fell silent, when it was last looked.
    silent: BTreeSet<String>,
}

struct Child {
    snapshot: NodeSnapshot,
    at: Instant,
}

impl Child {
    fn silent(&self, now: Instant) -> Option<Duration> {
        Some(now.saturating_duration_since(self.at)).filter(|silent| *silent > DOWN_AFTER)
    }
}

impl Children {
    pub(super) fn hear(&mut self, snapshot: NodeSnapshot, at: Instant) {
        self.heard.insert(snapshot.node.clone(), Child { snapshot, at });
    }

    /// Looks who fell silent or is heard again, and forgets who was silent for long. `true`: it is
    /// not as it was when this was last asked.
    pub(super) fn notice_silence(&mut self, now: Instant) -> bool {
        self.heard.retain(|_, child| now.saturating_duration_since(child.at) < FORGET_AFTER);
        let silent = self.heard.iter().filter(|(_, child)| child.silent(now).is_some());
        let silent: BTreeSet<_> = silent.map(|(name, _)| name.clone()).collect();
        let changed = silent != self.silent;
        self.silent = silent;
        changed
    }

    fn snapshots(&self, now: Instant) -> impl Iterator<Item = NodeSnapshot> {
        self.heard.values().map(move |child| {
            let mut snapshot = child.snapshot.clone();
            if let Some(silent) = child.silent(now) {
                snapshot.reason = Some(self.why_silent(&snapshot, silent, now));
                snapshot.state = NodeState::Down;
                snapshot.viewers = 0;
                snapshot.sessions.clear();
            }
            snapshot
        })
    }

    /// As much as can be known from here.
    fn why_silent(&self, snapshot: &NodeSnapshot, silent: Duration, now: Instant) -> String {
        let above = snapshot.parent.as_ref().and_then(|parent| self.heard.get(parent));
        let above = above.filter(|above| above.silent(now).is_some());
        let why = match (above, snapshot.state) {
            (Some(above), _) => format!(", nor is {} above it", above.snapshot.node),
            (None, NodeState::Draining) => " since it shut down".to_owned(),
            (None, _) => String::new(),
        };
        format!("not heard for {:.0} s{why}", silent.as_secs_f64())
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

    /// All that a node below tells of itself, from now on until the receiver is dropped.
    pub(crate) fn detail(&self, node: &str) -> watch::Receiver<Option<Detail>> {
        self.details.look_at(node)
    }

    /// Changes with each node below that falls silent or is heard again.
    pub(crate) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// This node alone.
    pub(super) fn snapshot(&self) -> NodeSnapshot {
        let (infos, mut books): (Vec<_>, _) = {
            // A session that ends in between would be counted twice, or not at all.
            let sessions = lock(&self.sessions);
            (sessions.values().cloned().collect(), lock(&self.totals.ended).clone())
        };
        let mut sessions: Vec<_> = infos
            .iter()
            .map(|info| {
                let state = info.state();
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
            .filter(|(namespace, _)| !namespace.fields().is_empty() && !is_reserved(namespace))
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
        name: state.name.clone(),
        age_s: Some(info.since.elapsed().as_secs_f64()),
        rtt_ms: Some(millis(info.connection.path_stats().rtt)),
        bytes_out: state.books.bytes_out,
        objects_out: Some(state.books.objects_out),
        queued_bytes: Some(state.backlog.bytes),
        queued_objects: Some(state.backlog.objects),
        behind_ms: Some(state.backlog.age.as_millis() as u64),
        drops: state.books.drops,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(node: &str, parent: Option<&str>, state: NodeState) -> NodeSnapshot {
        let (node, parent) = (node.to_owned(), parent.map(str::to_owned));
        NodeSnapshot { node, parent, state, viewers: 5, ..NodeSnapshot::default() }
    }

    #[test]
    fn who_falls_silent_is_down_with_what_is_known_of_why() {
        let start = Instant::now();
        let mut children = Children::default();
        children.hear(heard("eu", Some("root"), NodeState::Ok), start);
        children.hear(heard("fra", Some("eu"), NodeState::Ok), start);
        children.hear(heard("us", Some("root"), NodeState::Draining), start);
        assert!(!children.notice_silence(start + DOWN_AFTER));
        let later = start + Duration::from_secs(3);
        children.hear(heard("ap", Some("root"), NodeState::Ok), later);
        assert!(children.notice_silence(later) && !children.notice_silence(later));
        let told: Vec<_> = children
            .snapshots(later)
            .map(|it| (it.node, it.state.as_str(), it.viewers, it.reason.unwrap_or_default()))
            .collect();
        let down = |node: &str, why: &str| (node.to_owned(), "down", 0, why.to_owned());
        let expected = [
            ("ap".to_owned(), "ok", 5, String::new()),
            down("eu", "not heard for 3 s"),
            down("fra", "not heard for 3 s, nor is eu above it"),
            down("us", "not heard for 3 s since it shut down"),
        ];
        assert_eq!(told, expected);
        // Back again is news, too; and who never is is forgotten.
        children.hear(heard("eu", Some("root"), NodeState::Ok), later);
        assert!(children.notice_silence(later));
        assert!(children.notice_silence(later + FORGET_AFTER));
        assert_eq!(children.snapshots(later).count(), 0);
    }
}
