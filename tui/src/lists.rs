//! What each screen lists, sorted and filtered: the same for drawing and for moving the selection.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use stats::{SessionSnapshot, TrackSnapshot};

use crate::state::State;
use crate::state::events::{Event, Level};
use crate::state::node::{Node, SessionRates, TrackRates};
use crate::state::tree::{self, Place};

/// By what nodes are sorted among their siblings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeSort {
    /// Name.
    Name,
    /// How bad the state is.
    State,
    /// Viewers.
    Viewers,
    /// Bit rate in.
    In,
    /// Bit rate out.
    Out,
    /// Objects dropped a second.
    Drops,
    /// Latency over the hop from its parent.
    Hop,
}

/// By what sessions are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionSort {
    /// How far behind.
    Behind,
    /// Bytes that wait.
    Queue,
    /// Objects dropped a second, then ever.
    Drops,
    /// Bit rate out.
    Rate,
    /// Round trip.
    Rtt,
    /// Time since it was established.
    Age,
    /// Address of the peer.
    Remote,
}

/// A column that lines can be sorted by.
pub trait SortKey: Copy + PartialEq + 'static {
    /// All of them, in the order in which a key goes through them.
    const ALL: &'static [Self];

    /// The next one.
    #[must_use]
    fn next(self) -> Self {
        let at = Self::ALL.iter().position(|key| *key == self).unwrap_or(0);
        Self::ALL[(at + 1) % Self::ALL.len()]
    }
}

impl SortKey for NodeSort {
    const ALL: &'static [Self] =
        &[Self::Name, Self::State, Self::Viewers, Self::In, Self::Out, Self::Drops, Self::Hop];
}

impl SortKey for SessionSort {
    const ALL: &'static [Self] =
        &[Self::Behind, Self::Queue, Self::Drops, Self::Rate, Self::Rtt, Self::Age, Self::Remote];
}

/// A sort column and whether its natural order (largest first, names from A) is turned round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sort<K> {
    /// The column.
    pub key: K,
    /// Turned round.
    pub reversed: bool,
}

impl<K: SortKey> Sort<K> {
    /// The natural order of a column.
    pub const fn by(key: K) -> Self {
        Self { key, reversed: false }
    }

    fn apply(self, order: Ordering) -> Ordering {
        if self.reversed { order.reverse() } else { order }
    }
}

/// Whether a line with these texts passes a filter; case does not matter.
fn matches<'a>(filter: &str, texts: impl IntoIterator<Item = &'a str>) -> bool {
    let filter = filter.to_lowercase();
    filter.is_empty() || texts.into_iter().any(|text| text.to_lowercase().contains(&filter))
}

/// Largest first; unknown last.
fn largest_first(a: Option<f64>, b: Option<f64>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => b.total_cmp(&a),
        (a, b) => b.is_some().cmp(&a.is_some()),
    }
}

/// More nodes than this and what is well is folded: sums first, detail on demand.
const FOLD_ABOVE: usize = 30;

/// What the person folded and unfolded.
#[derive(Debug, Clone, Default)]
pub struct Folds(BTreeMap<String, bool>);

impl Folds {
    /// Everything is shown.
    pub fn unfolded(state: &State) -> Self {
        Self(state.nodes().map(|(name, _)| (name.to_owned(), false)).collect())
    }

    /// Folds or unfolds what is below a node.
    pub fn set(&mut self, name: &str, folded: bool) {
        self.0.insert(name.to_owned(), folded);
    }

    /// A large tree folds below its first level by itself, but never what is wrong.
    fn folds(&self, state: &State, name: &str, depth: usize, below: &[Place]) -> bool {
        self.0.get(name).copied().unwrap_or_else(|| {
            let large = state.nodes().len() > FOLD_ABOVE;
            large && depth > 0 && below.iter().all(|it| state.level(&it.name) == Level::Ok)
        })
    }
}

/// The nodes as a tree. A filter finds what is folded, too.
pub fn nodes(
    state: &State,
    filter: &str,
    sort: Sort<NodeSort>,
    folds: &Folds,
    now: Duration,
) -> Vec<Place> {
    let value = |name: &str| {
        let node = state.node(name)?;
        let rates = node.rates(now);
        match sort.key {
            NodeSort::Name => None,
            NodeSort::State => Some(f64::from(state.level(name) as u8)),
            NodeSort::Viewers => Some(node.snapshot().viewers as f64),
            NodeSort::In => rates.map(|rates| rates.bits_in),
            NodeSort::Out => rates.map(|rates| rates.bits_out),
            NodeSort::Drops => rates.map(|rates| rates.drops.total()),
            NodeSort::Hop => node.hop_p95(),
        }
    };
    let values: BTreeMap<&str, Option<f64>> =
        state.nodes().map(|(name, _)| (name, value(name))).collect();
    let order = |a: &str, b: &str| match sort.key {
        NodeSort::Name => sort.apply(a.cmp(b)),
        _ => sort.apply(largest_first(values[a], values[b])),
    };
    let places = tree::lay_out(&parents(state, |_| true), order, |name| {
        matches(filter, [name, state.state_word(name, now)])
    });
    tree::fold(&places, |name, depth, below| {
        filter.is_empty() && folds.folds(state, name, depth, below)
    })
}

/// The nodes that know a track, as the tree along which it travels.
pub fn path(state: &State, track: &str, filter: &str) -> Vec<Place> {
    let knows = |node: &Node| node.snapshot().tracks.iter().any(|known| known.name == track);
    tree::lay_out(&parents(state, knows), |_, _| Ordering::Equal, |name| matches(filter, [name]))
}

fn parents(state: &State, keep: impl Fn(&Node) -> bool) -> BTreeMap<&str, Option<&str>> {
    let kept = state.nodes().filter(|(_, node)| keep(node));
    kept.map(|(name, node)| (name, node.snapshot().parent.as_deref())).collect()
}

/// One track of a node with its rates.
#[derive(Debug, Clone, Copy)]
pub struct TrackLine<'a> {
    /// The track.
    pub track: &'a TrackSnapshot,
    /// Its rates, if known.
    pub rates: Option<TrackRates>,
}

/// The tracks of a node by name.
pub fn tracks<'a>(node: &'a Node, filter: &str, now: Duration) -> Vec<TrackLine<'a>> {
    let mut lines: Vec<TrackLine<'a>> = node
        .snapshot()
        .tracks
        .iter()
        .zip(node.track_rates(now))
        .map(|(track, rates)| TrackLine { track, rates })
        .filter(|line| matches(filter, [&*line.track.name]))
        .collect();
    // What nodes report is there, too, but not what one looks for.
    lines.sort_by_key(|line| (line.track.name.starts_with("weir/"), &*line.track.name));
    lines
}

/// One session of a node with its rates.
#[derive(Debug, Clone, Copy)]
pub struct SessionLine<'a> {
    /// The session.
    pub session: &'a SessionSnapshot,
    /// Its rates, if known.
    pub rates: Option<SessionRates>,
}

/// The sessions of a node.
pub fn sessions<'a>(
    node: &'a Node,
    filter: &str,
    sort: Sort<SessionSort>,
    now: Duration,
) -> Vec<SessionLine<'a>> {
    let mut lines: Vec<SessionLine<'a>> = node
        .snapshot()
        .sessions
        .iter()
        .zip(node.session_rates(now))
        .map(|(session, rates)| SessionLine { session, rates })
        .filter(|line| {
            let session = line.session;
            let name = session.name.as_deref().unwrap_or_default();
            let words = [session.kind.as_str(), session.transport.as_str(), name];
            matches(
                filter,
                [&*session.remote, &*session.protocol, &*session.id].into_iter().chain(words),
            )
        })
        .collect();
    lines.sort_by(|a, b| {
        let order = match sort.key {
            SessionSort::Remote => a.session.remote.cmp(&b.session.remote),
            key => largest_first(a.value(key), b.value(key)),
        };
        let steady =
            || a.session.remote.cmp(&b.session.remote).then(a.session.id.cmp(&b.session.id));
        sort.apply(order).then_with(steady)
    });
    lines
}

impl SessionLine<'_> {
    fn value(&self, key: SessionSort) -> Option<f64> {
        let session = self.session;
        match key {
            SessionSort::Behind => session.behind_ms.map(|ms| ms as f64),
            SessionSort::Queue => session.queued_bytes.map(|bytes| bytes as f64),
            SessionSort::Drops => {
                // A rate outweighs any total.
                let rate = self.rates.map_or(0.0, |rates| rates.drops.total());
                Some(rate * 1e12 + session.drops.total().objects as f64)
            }
            SessionSort::Rate => self.rates.map(|rates| rates.bits_out),
            SessionSort::Rtt => session.rtt_ms,
            SessionSort::Age => session.age_s,
            SessionSort::Remote => None,
        }
    }
}

/// A node and all below it, by name.
pub fn subtree(state: &State, root: &str) -> HashSet<String> {
    let places = tree::lay_out(&parents(state, |_| true), |_, _| Ordering::Equal, |_| true);
    let folded = tree::fold(&places, |name, _, _| name == root);
    let root = folded.into_iter().find(|place| place.name == root);
    root.into_iter().flat_map(|place| place.folded.into_iter().chain([place.name])).collect()
}

/// Events, newest first, of some nodes or of all; those of the feed always.
pub fn events<'a>(
    state: &'a State,
    filter: &str,
    nodes: Option<&HashSet<String>>,
) -> Vec<&'a Event> {
    let of_nodes = |event: &&Event| match (nodes, &event.node) {
        (Some(nodes), Some(node)) => nodes.contains(node),
        _ => true,
    };
    let matching = |event: &&Event| {
        matches(
            filter,
            [&*event.text, event.node.as_deref().unwrap_or("feed"), event.level.as_str()],
        )
    };
    state.events.iter().filter(of_nodes).filter(matching).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_sorts_last() {
        let mut values = [None, Some(1.0), Some(3.0), None];
        values.sort_by(|a, b| largest_first(*a, *b));
        assert_eq!(values, [Some(3.0), Some(1.0), None, None]);
    }

    #[test]
    fn filters_ignore_case_and_an_empty_one_passes_all() {
        assert!(matches("", ["x"]));
        assert!(matches("EDGE", ["x", "my-edge-1"]));
        assert!(!matches("edge", ["x", "root"]));
    }

    #[test]
    fn the_sort_key_goes_round_all_columns() {
        let mut key = SessionSort::Behind;
        for _ in SessionSort::ALL {
            key = key.next();
        }
        assert_eq!(key, SessionSort::Behind);
    }
}
