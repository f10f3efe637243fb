//! A node's figures for Prometheus, in base units, with no label that grows with viewers or with
//! what peers call their tracks.

use std::fmt;

use axum::http::header::ACCEPT;
use axum::http::{HeaderMap, HeaderValue};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use stats::{DropCounts, DropReason, NodeSnapshot, NodeState, UpstreamState};

const BYTES: Option<&Unit> = Some(&Unit::Bytes);
const SECONDS: Option<&Unit> = Some(&Unit::Seconds);

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

/// Everything Prometheus is told about a node.
pub(super) fn encode(node: NodeSnapshot, format: Format) -> String {
    let mut registry = Registry::with_prefix("weir");
    registry.register_collector(Box::new(Figures(node)));
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

#[derive(Debug)]
struct Figures(NodeSnapshot);

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut to = Sheet(&mut encoder);
        let node = &self.0;
        let version = [([("version", node.version.as_str())], 1u64)];
        to.gauges("build_info", "Program version", None, version)?;
        to.gauge("uptime", "Since the process started", SECONDS, node.uptime_s)?;
        // No node says of itself that it is down.
        let states = [NodeState::Ok, NodeState::Warning, NodeState::Draining];
        let states = states.map(|s| ([("state", s.as_str())], u64::from(s == node.state)));
        to.gauges("node_state", "1 for the state that the node is in", None, states)?;

        let kinds =
            [("viewer", node.viewers), ("relay", node.relays), ("publisher", node.publishers)];
        let kinds = kinds.map(|(kind, count)| ([("kind", kind)], count));
        to.gauges("sessions", "Open sessions by what they do", None, kinds)?;
        to.gauge("tracks", "Tracks known now", None, node.tracks.len() as u64)?;
        let subscriptions = node.tracks.iter().map(|track| track.subscribers).sum::<u64>();
        to.gauge("subscriptions", "Downstream subscriptions", None, subscriptions)?;

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

        let queued = node.sessions.iter().filter_map(|session| session.queued_bytes).sum::<u64>();
        to.gauge("queued", "Payload that waits for sessions", BYTES, queued)?;
        let behind = node.sessions.iter().filter_map(|session| session.behind_ms).max();
        let behind = behind.unwrap_or(0) as f64 / 1e3;
        let help = "Age of the oldest object that waits, of the session furthest behind";
        to.gauge("behind_max", help, SECONDS, behind)?;
        self.encode_upstream(&mut to)
    }
}

impl Figures {
    fn encode_upstream(&self, to: &mut Sheet<'_, '_>) -> fmt::Result {
        // A query may hold a token. Without it two parents can look alike, so the rank tells them apart.
        let bare = |url: &str| url.split('?').next().unwrap_or_default().to_owned();
        let ranks = 1..=self.0.upstream.len() as u64;
        let parents: Vec<_> = self
            .0
            .upstream
            .iter()
            .zip(ranks)
            .map(|(up, rank)| ([("rank", rank.to_string()), ("url", bare(&up.url))], up))
            .collect();
        let connected = parents
            .iter()
            .map(|(labels, up)| (as_str(labels), u64::from(up.state == UpstreamState::Connected)));
        to.gauges("upstream_connected", "1 while the parent is in use", None, connected)?;
        let trips =
            parents.iter().filter_map(|(labels, up)| Some((as_str(labels), up.rtt_ms? / 1e3)));
        to.gauges("upstream_round_trip", "Round trip to the parent", SECONDS, trips)?;
        let connects =
            parents.iter().filter_map(|(labels, up)| Some((as_str(labels), up.connects?)));
        to.counters("upstream_connects", "Sessions established to the parent", None, connects)
    }
}

type Labels<'a, const N: usize> = [(&'static str, &'a str); N];

fn as_str<'a, const N: usize>(labels: &'a [(&'static str, String); N]) -> Labels<'a, N> {
    labels.each_ref().map(|(name, value)| (*name, value.as_str()))
}

/// Where the figures go.
struct Sheet<'a, 'b>(&'a mut DescriptorEncoder<'b>);

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

    fn gauge<V>(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: V) -> fmt::Result
    where
        ConstGauge<V>: EncodeMetric,
    {
        let metric = self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        ConstGauge::new(value).encode(metric)
    }

    fn counter(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: u64) -> fmt::Result {
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
