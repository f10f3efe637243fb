//! The shapes of the admin API: a tree of nodes, each with its sessions, tracks and upstreams.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Drops, sanitize};

/// What one admin API answers: the node that was asked and every node below it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tree {
    /// The node that was asked.
    pub node: String,
    /// When it answered, by its own clock.
    pub at: Timestamp,
    /// The node itself and all below it, each naming its parent.
    pub nodes: Vec<NodeSnapshot>,
}

/// One node at one moment. Counters are cumulative from the node's start.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeSnapshot {
    /// Its name, unique in a tree.
    pub node: String,
    /// The node above; `None` for a root, or when the parent is no Weir node.
    #[serde(default)]
    pub parent: Option<String>,
    /// How it is, in a word.
    pub state: NodeState,
    /// Why the state is not [`NodeState::Ok`], for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Seconds since the process started, at the moment of this snapshot. Rates use it as their
    /// clock: it does not care how long the snapshot travelled.
    pub uptime_s: f64,
    /// Program version.
    pub version: String,
    /// Sessions that subscribe and are no relay.
    pub viewers: u64,
    /// Sessions of relays below.
    pub relays: u64,
    /// Sessions that publish.
    pub publishers: u64,
    /// The configured parents, in order of preference.
    #[serde(default)]
    pub upstream: Vec<UpstreamSnapshot>,
    /// Object payload bytes received.
    pub bytes_in: u64,
    /// Object payload bytes sent, over all sessions that ever were.
    pub bytes_out: u64,
    /// Objects received.
    pub objects_in: u64,
    /// Objects sent whole, over all sessions that ever were.
    pub objects_out: u64,
    /// What was not delivered, over all sessions that ever were. Written with every reason.
    #[serde(default, serialize_with = "Drops::serialize_all")]
    pub drops: Drops,
    /// Tracks that are known now; from a node below perhaps only the busiest, without their groups.
    #[serde(default)]
    pub tracks: Vec<TrackSnapshot>,
    /// How many tracks there are, where [`NodeSnapshot::tracks`] lists only a part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracks_total: Option<u64>,
    /// Sessions that are open now; from a node below perhaps only those that are worst off, so
    /// that [`NodeSnapshot::viewers`] and its like say how many there are.
    #[serde(default)]
    pub sessions: Vec<SessionSnapshot>,
    /// When the certificate that it presents ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_expires: Option<Timestamp>,
    /// Its clock minus its parent's, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_offset_ms: Option<f64>,
    /// How wrong [`NodeSnapshot::clock_offset_ms`] may be, in milliseconds, either way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_error_ms: Option<f64>,
    /// What the kernel granted its UDP sockets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub udp_buffers: Option<UdpBuffers>,
    /// What its viewers say that they saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<SeenSnapshot>,
}

/// A middle and a bad value of something measured often.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Half are at most this.
    pub p50: f64,
    /// Of a hundred, 95 are at most this.
    pub p95: f64,
}

/// Kernel buffers of a node's UDP sockets, in bytes; the smallest over all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UdpBuffers {
    /// Granted for what comes in.
    pub receive: u64,
    /// Granted for what goes out.
    pub send: u64,
    /// What the node asked for, each.
    pub wanted: u64,
}

/// What viewers of one node reported, put together. Counters are cumulative.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SeenSnapshot {
    /// How many reported lately.
    pub viewers: u64,
    /// From capture to presentation, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<Percentiles>,
    /// How wrong the clocks may make [`SeenSnapshot::latency_ms`], in milliseconds, either way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_error_ms: Option<f64>,
    /// From connecting to the first picture, in milliseconds, for the middle viewer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub join_ms: Option<f64>,
    /// How often a picture stood still.
    pub stalls: u64,
    /// For how long, in milliseconds.
    pub stalled_ms: u64,
    /// Frames that came and were not shown.
    pub frames_dropped: u64,
}

/// How a node is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// Serves, and its upstream (if any) is connected.
    Ok,
    /// Serves, but something is wrong; see [`NodeSnapshot::reason`].
    Warning,
    /// Shuts down: tells its sessions to go elsewhere.
    Draining,
    /// No longer heard of; the rest of the snapshot is the last one.
    Down,
    /// A word that this version does not know.
    #[default]
    #[serde(other)]
    Unknown,
}

impl NodeState {
    /// The word for it, as in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Draining => "draining",
            Self::Down => "down",
            Self::Unknown => "unknown",
        }
    }
}

/// One configured parent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct UpstreamSnapshot {
    /// As configured.
    pub url: String,
    /// How the session to it is.
    pub state: UpstreamState,
    /// Round trip in milliseconds, if connected.
    #[serde(default)]
    pub rtt_ms: Option<f64>,
    /// Why it is not connected, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How often the session was established, from the node's start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connects: Option<u64>,
}

/// How the session to a parent is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamState {
    /// In use.
    Connected,
    /// A dial is under way.
    Connecting,
    /// Failed; waits for the next dial.
    Waiting,
    /// A spare that another parent makes unnecessary at present.
    Standby,
    /// A word that this version does not know.
    #[default]
    #[serde(other)]
    Unknown,
}

impl UpstreamState {
    /// The word for it, as in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Connecting => "connecting",
            Self::Waiting => "waiting",
            Self::Standby => "standby",
            Self::Unknown => "unknown",
        }
    }
}

/// One track that a node knows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TrackSnapshot {
    /// Namespace fields and track name joined with `/`.
    pub name: String,
    /// Downstream subscriptions.
    pub subscribers: u64,
    /// Payload bytes received.
    pub bytes_in: u64,
    /// Payload bytes sent.
    pub bytes_out: u64,
    /// Largest location seen, `[group, object]`; `None` before the first object.
    #[serde(default)]
    pub largest: Option<[u64; 2]>,
    /// Time from the beginning of one group to that of the next in milliseconds, their median.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_ms: Option<f64>,
    /// From an object's arrival at the parent to its arrival here, in milliseconds by one clock;
    /// where it is published: from its capture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hop_latency_ms: Option<Percentiles>,
    /// From an object's capture to its arrival here, in milliseconds by one clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<Percentiles>,
    /// How wrong the clocks may make [`TrackSnapshot::latency_ms`], in milliseconds, either way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_error_ms: Option<f64>,
    /// Between the arrivals of one object and the next, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inter_arrival_ms: Option<Percentiles>,
    /// What its subscribers did not get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drops: Option<Drops>,
    /// The newest groups, oldest first, at most [`MAX_GROUPS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupSnapshot>,
}

/// Most groups that a [`TrackSnapshot`] lists.
pub const MAX_GROUPS: usize = 8;

/// One group of a track: what came, and how much of it was sent on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupSnapshot {
    /// Its ID.
    pub group: u64,
    /// Objects that came so far.
    pub objects: u64,
    /// Payload bytes that came so far.
    pub bytes: u64,
    /// Objects offered, counted once for each subscriber.
    pub offered: u64,
    /// Of these, sent whole.
    pub sent: u64,
}

/// One open session.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SessionSnapshot {
    /// Unique on its node while the node runs.
    pub id: String,
    /// What it does here.
    pub kind: SessionKind,
    /// What it travels on.
    pub transport: Transport,
    /// Negotiated version, `moqt-18`.
    pub protocol: String,
    /// Address of the peer.
    pub remote: String,
    /// A relay's node name, or the first namespace of a publisher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Seconds since it was established.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_s: Option<f64>,
    /// Round trip in milliseconds.
    #[serde(default)]
    pub rtt_ms: Option<f64>,
    /// Payload bytes sent.
    pub bytes_out: u64,
    /// Objects sent whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects_out: Option<u64>,
    /// Payload bytes that wait for it and that the transport does not have yet.
    #[serde(default)]
    pub queued_bytes: Option<u64>,
    /// Objects of these, with one that was sent in part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued_objects: Option<u64>,
    /// Age in milliseconds of the oldest object that waits for it.
    #[serde(default)]
    pub behind_ms: Option<u64>,
    /// What it did not get.
    #[serde(default)]
    pub drops: Drops,
}

/// What a session does here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionKind {
    /// Subscribes.
    Viewer,
    /// A relay below.
    Relay,
    /// Publishes.
    Publisher,
    /// Nothing yet, or a word that this version does not know.
    #[default]
    #[serde(other)]
    Unknown,
}

impl SessionKind {
    /// The word for it, as in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Relay => "relay",
            Self::Publisher => "publisher",
            Self::Unknown => "unknown",
        }
    }
}

/// What a session travels on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Raw QUIC.
    Quic,
    /// WebTransport over HTTP/3.
    WebTransport,
    /// WebSocket, where UDP does not get through.
    WebSocket,
    /// A word that this version does not know.
    #[default]
    #[serde(other)]
    Unknown,
}

impl Transport {
    /// The word for it, as in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::WebTransport => "webtransport",
            Self::WebSocket => "websocket",
            Self::Unknown => "unknown",
        }
    }
}

impl Tree {
    /// Reads one line of the feed and makes its text safe to show.
    ///
    /// # Errors
    /// When the line is no JSON, or lacks a field that the contract promises.
    pub fn from_line(line: &[u8]) -> Result<Self, serde_json::Error> {
        let mut tree: Self = serde_json::from_slice(line)?;
        tree.sanitize();
        Ok(tree)
    }

    /// Makes every text safe for a terminal and every measured figure finite and not negative.
    pub fn sanitize(&mut self) {
        clean(&mut self.node);
        self.nodes.iter_mut().for_each(NodeSnapshot::sanitize);
    }
}

impl NodeSnapshot {
    /// Reads one line of a single node's feed; as [`Tree::from_line`].
    ///
    /// # Errors
    /// When the line is no JSON, or lacks a field that the contract promises.
    pub fn from_line(line: &[u8]) -> Result<Self, serde_json::Error> {
        let mut node: Self = serde_json::from_slice(line)?;
        node.sanitize();
        Ok(node)
    }

    /// As [`Tree::sanitize`], for one node.
    pub fn sanitize(&mut self) {
        clean(&mut self.node);
        clean(&mut self.version);
        self.parent.as_mut().map(clean);
        self.reason.as_mut().map(clean);
        self.uptime_s = plausible(self.uptime_s).unwrap_or(0.0);
        for upstream in &mut self.upstream {
            clean(&mut upstream.url);
            upstream.error.as_mut().map(clean);
            upstream.rtt_ms = upstream.rtt_ms.and_then(plausible);
        }
        self.tracks.iter_mut().for_each(TrackSnapshot::sanitize);
        self.clock_offset_ms = self.clock_offset_ms.filter(|offset| offset.is_finite());
        self.clock_error_ms = self.clock_error_ms.and_then(plausible);
        if let Some(seen) = &mut self.seen {
            seen.latency_ms = seen.latency_ms.and_then(Percentiles::plausible);
            seen.latency_error_ms = seen.latency_error_ms.and_then(plausible);
            seen.join_ms = seen.join_ms.and_then(plausible);
        }
        for session in &mut self.sessions {
            clean(&mut session.id);
            clean(&mut session.protocol);
            clean(&mut session.remote);
            session.name.as_mut().map(clean);
            session.rtt_ms = session.rtt_ms.and_then(plausible);
            session.age_s = session.age_s.and_then(plausible);
        }
    }
}

impl TrackSnapshot {
    fn sanitize(&mut self) {
        clean(&mut self.name);
        self.group_ms = self.group_ms.and_then(plausible);
        self.latency_error_ms = self.latency_error_ms.and_then(plausible);
        for measured in [&mut self.hop_latency_ms, &mut self.latency_ms, &mut self.inter_arrival_ms]
        {
            *measured = measured.and_then(Percentiles::plausible);
        }
        let surplus = self.groups.len().saturating_sub(MAX_GROUPS);
        self.groups.drain(..surplus);
    }
}

impl Percentiles {
    fn plausible(self) -> Option<Self> {
        plausible(self.p50).and(plausible(self.p95)).map(|_| self)
    }
}

fn clean(text: &mut String) {
    *text = sanitize(text);
}

fn plausible(value: f64) -> Option<f64> {
    (value.is_finite() && value >= 0.0).then_some(value)
}
