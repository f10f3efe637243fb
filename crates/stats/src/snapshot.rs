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
    /// Tracks that are known now.
    #[serde(default)]
    pub tracks: Vec<TrackSnapshot>,
    /// Sessions that are open now.
    #[serde(default)]
    pub sessions: Vec<SessionSnapshot>,
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
    /// Seconds since it was established.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_s: Option<f64>,
    /// Round trip in milliseconds.
    #[serde(default)]
    pub rtt_ms: Option<f64>,
    /// Payload bytes sent.
    pub bytes_out: u64,
    /// Payload bytes that wait for it in the outbox and in the transport's send buffer.
    #[serde(default)]
    pub queued_bytes: Option<u64>,
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
        for track in &mut self.tracks {
            clean(&mut track.name);
        }
        for session in &mut self.sessions {
            clean(&mut session.id);
            clean(&mut session.protocol);
            clean(&mut session.remote);
            session.rtt_ms = session.rtt_ms.and_then(plausible);
            session.age_s = session.age_s.and_then(plausible);
        }
    }
}

fn clean(text: &mut String) {
    *text = sanitize(text);
}

fn plausible(value: f64) -> Option<f64> {
    (value.is_finite() && value >= 0.0).then_some(value)
}
