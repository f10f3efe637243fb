//! A node's figures for Prometheus, in base units, with no label that grows with viewers or with
//! what peers call their tracks.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::header::ACCEPT;
use axum::http::{HeaderMap, HeaderValue};
use moqt::Version;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use stats::{
    DropCounts, DropReason, NodeState, Percentiles, SessionKind, Transport, UpstreamState,
};
use transport::Identity;

use super::Moment;
use super::paced::Reading;
use super::process::Process;
use crate::node::{Distribution, WAYS};

pub(super) const BYTES: Option<&Unit> = Some(&Unit::Bytes);
pub(super) const SECONDS: Option<&Unit> = Some(&Unit::Seconds);

const OPEN_METRICS: &str = "application/openmetrics-text";

/// How the figures are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// What Prometheus asks for.
    OpenMetrics,
    /// The older text format, which everything else that scrapes understands.
    Classic,
}

impl Format {
    /// What a client's Accept header asks for.
    pub(super) fn accepted(headers: &HeaderMap) -> Self {
        let open = |field: &HeaderValue| field.to_str().is_ok_and(|f| f.contains(OPEN_METRICS));
        if headers.get_all(ACCEPT).iter().any(open) { Self::OpenMetrics } else { Self::Classic }
    }

    pub(super) fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
        })
    }
}

/// What does not change while the node runs, or is no figure of the media path's.
pub(super) struct Constants {
    /// `--max-sessions`.
    pub(super) max_sessions: usize,
    /// When the process started.
    pub(super) started: SystemTime,
    pub(super) identity: Identity,
}

/// Everything Prometheus is told about a node.
pub(super) fn encode(
    reading: &Reading<Moment>,
    constants: &Constants,
    process: Option<Process>,
    format: Format,
) -> String {
    let expires = constants.identity.expires().duration_since(UNIX_EPOCH).unwrap_or_default();
    let figures = Figures {
        moment: Arc::clone(&reading.figures),
        age: reading.age(),
        max_sessions: constants.max_sessions as u64,
        certificate_expires: expires,
    };
    let mut registry = Registry::default();
    registry.sub_registry_with_prefix("weir").register_collector(Box::new(figures));
    if let Some(process) = process {
        registry.sub_registry_with_prefix("process").register_collector(Box::new(process));
    }
    let mut open = String::new();
    text::encode(&mut open, &registry).expect("writing to a string never fails");
    match format {
        Format::OpenMetrics => open,
        Format::Classic => classic(&open),
    }
}

/// The same figures in the older format, where a counter's `_total` belongs to its name.
fn classic(open: &str) -> String {
    let counters: Vec<&str> = open
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let mut classic = String::with_capacity(open.len());
    for line in open.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("UNIT" | "EOF"), ..) => continue,
            (Some("#"), Some(what), Some(name), Some(rest)) if counters.contains(&name) => {
                classic.push_str(&format!("# {what} {name}_total {rest}"));
            }
            _ => classic.push_str(line),
        }
        classic.push('\n');
    }
    classic
}

struct Figures {
    moment: Arc<Moment>,
    age: Duration,
    max_sessions: u64,
    /// Since the epoch.
    certificate_expires: Duration,
}

impl fmt::Debug for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Figures").field("age", &self.age).finish_non_exhaustive()
    }
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut to = Sheet(&mut encoder);
        let node = self.moment.node();
        let version = [([("version", node.version.as_str())], 1u64)];
        to.gauges("build_info", "Program version", None, version)?;
        let parent = node.parent.as_deref().unwrap_or_default();
        let name = [([("node", node.node.as_str()), ("parent", parent)], 1u64)];
        to.gauges("node_info", "Name of the node, and of its parent", None, name)?;
        to.gauge("uptime", "Since the node started", SECONDS, node.uptime_s)?;
        let age = self.age.as_secs_f64();
        to.gauge("snapshot_age", "Age of these figures", SECONDS, age)?;
        // No node says of itself that it is down.
        let states = [NodeState::Ok, NodeState::Warning, NodeState::Draining];
        let states = states.map(|s| ([("state", s.as_str())], u64::from(s == node.state)));
        to.gauges("node_state", "1 for the state that the node is in", None, states)?;
        let of = |state| self.moment.tree.nodes.iter().filter(|n| n.state == state).count() as u64;
        let nodes = NODE_STATES.map(|state| ([("state", state.as_str())], of(state)));
        to.gauges("nodes", "Nodes from this one down the tree, by state", None, nodes)?;
        let expires = self.certificate_expires.as_secs_f64();
        let help = "When the certificate that clients are shown ends, Unix time";
        to.gauge("certificate_expiry_timestamp", help, SECONDS, expires)?;

        self.encode_sessions(&mut to)?;
        to.gauge("tracks", "Tracks known now", None, node.tracks.len() as u64)?;
        let subscriptions = node.tracks.iter().map(|track| track.subscribers).sum::<u64>();
        to.gauge("subscriptions", "Downstream subscriptions", None, subscriptions)?;
        let cached = self.moment.cached_bytes;
        to.gauge("cached", "Payload that is kept for viewers who join", BYTES, cached)?;

        to.counter("received", "Object payload received", BYTES, node.bytes_in)?;
        to.counter("sent", "Object payload sent", BYTES, node.bytes_out)?;
        to.counter("received_objects", "Objects received", None, node.objects_in)?;
        to.counter("sent_objects", "Objects sent whole", None, node.objects_out)?;
        let dropped = |of: fn(&DropCounts) -> u64| {
            DropReason::ALL.map(|reason| ([("reason", reason.as_str())], of(&node.drops[reason])))
        };
        let help = "Payload that viewers did not get, by reason";
        to.counters("dropped", help, BYTES, dropped(|counts| counts.bytes))?;
        let help = "Objects that viewers did not get whole, by reason";
        to.counters("dropped_objects", help, None, dropped(|counts| counts.objects))?;
        let help = "Groups of which a viewer did not get all, by reason";
        to.counters("dropped_groups", help, None, dropped(|counts| counts.groups))?;
        self.encode_latency(&mut to)?;
        self.encode_seen(&mut to)?;
        self.encode_upstream(&mut to)
    }
}

/// What nodes are counted by.
const NODE_STATES: [NodeState; 5] =
    [NodeState::Ok, NodeState::Warning, NodeState::Draining, NodeState::Down, NodeState::Unknown];

/// Sessions are counted that are further behind than this, in milliseconds: a distribution at one
/// moment, which a histogram's growing counts cannot say.
const BEHIND_MS: [(u64, &str); 4] = [(500, "0.5"), (1000, "1"), (2000, "2"), (5000, "5")];

impl Figures {
    fn encode_sessions(&self, to: &mut Sheet<'_, '_>) -> fmt::Result {
        let node = self.moment.node();
        let of = |kind| node.sessions.iter().filter(|s| s.kind == kind).count() as u64;
        let kinds = [
            ("viewer", node.viewers),
            ("relay", node.relays),
            ("publisher", node.publishers),
            ("parent", of(SessionKind::Relay).saturating_sub(node.relays)),
            ("unknown", of(SessionKind::Unknown)),
        ];
        let kinds = kinds.map(|(kind, count)| ([("kind", kind)], count));
        to.gauges("sessions", "Open sessions by what they do", None, kinds)?;
        let help = "Sessions that are served at once, at most";
        to.gauge("sessions_limit", help, None, self.max_sessions)?;
        let mut ways: BTreeMap<_, u64> = [Transport::Quic, Transport::WebTransport]
            .into_iter()
            .flat_map(|way| Version::ALL.iter().map(move |version| (way.as_str(), version.alpn())))
            .map(|way| (way, 0))
            .collect();
        for session in &node.sessions {
            *ways.entry((session.transport.as_str(), &session.protocol)).or_default() += 1;
        }
        let ways = ways.into_iter().map(|((transport, protocol), count)| {
            ([("transport", transport), ("protocol", protocol)], count)
        });
        let help = "Open sessions by what they travel on and the draft they speak";
        to.gauges("sessions_by_transport", help, None, ways)?;

        let queued = node.sessions.iter().filter_map(|session| session.queued_bytes).sum::<u64>();
        to.gauge("queued", "Payload that waits for sessions", BYTES, queued)?;
        let behind = || node.sessions.iter().filter_map(|session| session.behind_ms);
        let help = "Age of the oldest object that waits, of the session furthest behind";
        to.gauge("behind_max", help, SECONDS, behind().max().unwrap_or(0) as f64 / 1e3)?;
        let counts = BEHIND_MS.map(|(limit, label)| {
            ([("over_seconds", label)], behind().filter(|ms| *ms > limit).count() as u64)
        });
        to.gauges("sessions_behind", "Sessions that are further behind", None, counts)
    }

    /// What is not known is not told: a graph of it has a gap then, and no alert is raised.
    fn encode_latency(&self, to: &mut Sheet<'_, '_>) -> fmt::Result {
        let node = self.moment.node();
        let seconds = |ms: Option<f64>| ms.map(|ms| ms / 1e3);
        let help = "Its clock minus its parent's";
        to.known("clock_offset", help, SECONDS, seconds(node.clock_offset_ms))?;
        let help = "How wrong the clock's offset may be, either way";
        to.known("clock_error", help, SECONDS, seconds(node.clock_error_ms))?;
        let slowest = |of: fn(&Percentiles) -> f64, quantile| {
            let tracks = node.tracks.iter().filter_map(|track| track.latency_ms.as_ref());
            let slowest = tracks.map(of).max_by(f64::total_cmp)?;
            Some(([("quantile", quantile)], slowest / 1e3))
        };
        let help = "From an object's capture to its arrival here, of the track that is slowest";
        let quantiles = [slowest(|ms| ms.p50, "0.5"), slowest(|ms| ms.p95, "0.95")];
        to.gauges("track_latency_max", help, SECONDS, quantiles.into_iter().flatten())?;
        let errors = node.tracks.iter().filter_map(|track| track.latency_error_ms);
        let help = "How wrong the clocks may make the latency of a track, at most";
        let worst = seconds(errors.max_by(f64::total_cmp));
        to.known("track_latency_error_max", help, SECONDS, worst)?;
        let help = "From an object's arrival at the relay before this one to its arrival here";
        to.histogram("hop_latency", help, SECONDS, &self.moment.hop_latency)?;
        let buffers = node.udp_buffers.into_iter().flat_map(|buffers| {
            [("receive", buffers.receive), ("send", buffers.send)]
                .map(|(way, bytes)| ([("direction", way)], bytes))
        });
        let help = "Kernel buffer of a UDP socket, the smallest";
        to.gauges("udp_buffer", help, BYTES, buffers)?;
        let wanted = node.udp_buffers.map(|buffers| buffers.wanted);
        to.known("udp_buffer_wanted", "What the node asked for", BYTES, wanted)
    }

    fn encode_seen(&self, to: &mut Sheet<'_, '_>) -> fmt::Result {
        let seen = &self.moment.seen;
        let ways = WAYS.iter().zip(seen.viewers);
        let ways = ways.map(|(way, count)| ([("transport", way.as_str())], count));
        to.gauges("viewers_reporting", "Viewers who said lately what they see", None, ways)?;
        let help = "From capture to presentation, as viewers reported it";
        to.histogram("viewer_latency", help, SECONDS, &seen.latency)?;
        let help = "From connecting to the first picture, as viewers reported it";
        to.histogram("viewer_join", help, SECONDS, &seen.join)?;
        let help = "Times that a viewer's picture stood still";
        to.counter("viewer_stalls", help, None, seen.stalls)?;
        let help = "For how long viewers' pictures stood still";
        to.counter("viewer_stalled", help, SECONDS, seen.stalled.as_secs_f64())?;
        let help = "Frames that came to a viewer and were not shown";
        to.counter("viewer_frames_dropped", help, None, seen.frames_dropped)
    }

    fn encode_upstream(&self, to: &mut Sheet<'_, '_>) -> fmt::Result {
        // A query may hold a token. Without it two parents can look alike, so the rank tells them apart.
        let bare = |url: &str| url.split('?').next().unwrap_or_default().to_owned();
        let upstream = &self.moment.node().upstream;
        let ranks = 1..=upstream.len() as u64;
        let parents: Vec<_> = upstream
            .iter()
            .zip(ranks)
            .map(|(up, rank)| ([("rank", rank.to_string()), ("url", bare(&up.url))], up))
            .collect();
        let connected = parents
            .iter()
            .map(|(labels, up)| (as_str(labels), u64::from(up.state == UpstreamState::Connected)));
        to.gauges("upstream_connected", "1 while the parent is in use", None, connected)?;
        let states = parents.iter().flat_map(|(labels, up)| {
            let [rank, url] = as_str(labels);
            UPSTREAM_STATES.map(|s| ([rank, url, ("state", s.as_str())], u64::from(s == up.state)))
        });
        let help = "1 for the state that the session to the parent is in";
        to.gauges("upstream_state", help, None, states)?;
        let trips =
            parents.iter().filter_map(|(labels, up)| Some((as_str(labels), up.rtt_ms? / 1e3)));
        to.gauges("upstream_round_trip", "Round trip to the parent", SECONDS, trips)?;
        let connects =
            parents.iter().filter_map(|(labels, up)| Some((as_str(labels), up.connects?)));
        to.counters("upstream_connects", "Sessions established to the parent", None, connects)
    }
}

/// What is said of a parent.
const UPSTREAM_STATES: [UpstreamState; 4] = [
    UpstreamState::Connected,
    UpstreamState::Connecting,
    UpstreamState::Waiting,
    UpstreamState::Standby,
];

type Labels<'a, const N: usize> = [(&'static str, &'a str); N];

fn as_str<'a, const N: usize>(labels: &'a [(&'static str, String); N]) -> Labels<'a, N> {
    labels.each_ref().map(|(name, value)| (*name, value.as_str()))
}

/// Where the figures go.
pub(super) struct Sheet<'a, 'b>(pub(super) &'a mut DescriptorEncoder<'b>);

impl Sheet<'_, '_> {
    fn gauges<'v, const N: usize, V>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        values: impl IntoIterator<Item = (Labels<'v, N>, V)>,
    ) -> fmt::Result
    where
        V: EncodeGaugeValue + Copy,
        ConstGauge<V>: EncodeMetric,
    {
        let mut metric = self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        for (labels, value) in values {
            ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }

    pub(super) fn gauge<V>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        value: V,
    ) -> fmt::Result
    where
        ConstGauge<V>: EncodeMetric,
    {
        let metric = self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        ConstGauge::new(value).encode(metric)
    }

    fn histogram(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        values: &Distribution,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, unit, MetricType::Histogram)?;
        let (sum, count) = (values.sum, values.count());
        metric.encode_histogram::<NoLabelSet>(sum, count, &values.buckets(), None)
    }

    /// A gauge of something that may not be known.
    fn known<V>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        value: Option<V>,
    ) -> fmt::Result
    where
        ConstGauge<V>: EncodeMetric,
    {
        match value {
            Some(value) => self.gauge(name, help, unit, value),
            None => Ok(()),
        }
    }

    pub(super) fn counter<V>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        value: V,
    ) -> fmt::Result
    where
        ConstCounter<V>: EncodeMetric,
    {
        let metric = self.0.encode_descriptor(name, help, unit, MetricType::Counter)?;
        ConstCounter::new(value).encode(metric)
    }

    fn counters<'v, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        values: impl IntoIterator<Item = (Labels<'v, N>, u64)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, unit, MetricType::Counter)?;
        for (labels, value) in values {
            ConstCounter::new(value).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
