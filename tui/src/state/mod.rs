//! What is known: events from the feed in, answers for the screens out. No clock, no terminal.
//!
//! `now` is the time since the program (or the recording) began, given by the caller. Everything is
//! bounded: nodes, their history, events.

pub mod events;
pub mod history;
pub mod node;
pub mod tree;
pub mod warnings;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use stats::rates::DropRates;
use stats::{DropReason, NodeSnapshot, NodeState, Tree};

use crate::feed::FeedEvent;
use crate::format;
use events::{Events, Level};
use node::Node;
use warnings::Warning;

/// Most nodes that are shown; the feed's first ones.
pub const MAX_NODES: usize = 2000;
/// A node that the feed no longer names is shown as down for this long.
const FORGET_AFTER: Duration = Duration::from_secs(15 * 60);
/// A line comes each second: without one for this long, the figures are old.
const STALE: Duration = Duration::from_secs(3);

/// A node whose details came so lately is told of by them, and not by the tree's feed.
const DETAILED: Duration = Duration::from_millis(2500);

/// Everything that the feed has told.
#[derive(Debug, Clone)]
pub struct State {
    /// What the feed reads: a URL or a file.
    pub source: String,
    /// Where viewers watch, if anybody said.
    pub page: Option<String>,
    /// What happened, newest first.
    pub events: Events,
    link: Link,
    nodes: BTreeMap<String, Node>,
    /// The node that was asked: the feed tells all of it.
    asked: String,
    /// When the last details of a node came.
    details: BTreeMap<String, Duration>,
    warnings: Vec<Warning>,
    /// The worst warning of each node that has any.
    levels: BTreeMap<String, Level>,
    /// Names that two nodes of one tree claim.
    doubles: HashSet<String>,
    /// The asked node's clock at the last tree, for people and in seconds since 1970.
    clock: String,
    unix_s: i64,
    last_tree: Option<Duration>,
    /// Lines that were no snapshot, and what was wrong with the last one.
    nonsense: (u64, String),
}

/// How the feed is, as it tells itself.
#[derive(Debug, Clone)]
enum Link {
    Connecting,
    Connected { since: Duration },
    Lost { since: Duration, error: String, advice: Option<&'static str>, retry_at: Duration },
    Ended,
}

/// How the feed is, as the screen shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// No answer yet.
    Connecting,
    /// It answers, but no snapshot has come for `for_`, or none ever.
    Stale {
        /// For how long.
        for_: Duration,
    },
    /// Snapshots come; the last is this old.
    Live {
        /// Age of the last snapshot.
        age: Duration,
    },
    /// It can't be reached.
    Lost {
        /// For how long.
        for_: Duration,
        /// Why.
        error: String,
        /// What to do about it, if that is known.
        advice: Option<&'static str>,
        /// Until the next attempt.
        retry_in: Duration,
    },
    /// A recording is at its end.
    Ended,
}

impl State {
    /// Nothing is known yet.
    pub fn new(source: String) -> Self {
        Self {
            source,
            page: None,
            events: Events::default(),
            link: Link::Connecting,
            nodes: BTreeMap::new(),
            asked: String::new(),
            details: BTreeMap::new(),
            warnings: Vec::new(),
            levels: BTreeMap::new(),
            doubles: HashSet::new(),
            clock: String::new(),
            unix_s: 0,
            last_tree: None,
            nonsense: (0, String::new()),
        }
    }

    /// Takes what the feed tells.
    pub fn handle_feed(&mut self, event: FeedEvent, now: Duration) {
        match event {
            // After a loss it stays lost until it is connected.
            FeedEvent::Connecting => {}
            FeedEvent::Connected => {
                if let Link::Lost { since, .. } = self.link {
                    let after = format::age(now.saturating_sub(since));
                    self.push_event(None, Level::Ok, format!("feed is back after {after}"));
                }
                self.link = Link::Connected { since: now };
            }
            FeedEvent::Tree(tree) => self.handle_tree(*tree, now),
            FeedEvent::Detail(node) => self.handle_detail(*node, now),
            FeedEvent::Nonsense(error) => {
                if self.nonsense.1 != error {
                    self.push_event(None, Level::Warning, format!("feed sent nonsense: {error}"));
                }
                self.nonsense = (self.nonsense.0.saturating_add(1), error);
            }
            FeedEvent::Lost { error, advice, retry_in } => {
                let since = match self.link {
                    Link::Lost { since, .. } => since,
                    _ => {
                        self.push_event(None, Level::Down, format!("feed lost: {error}"));
                        now
                    }
                };
                self.link = Link::Lost { since, error, advice, retry_at: now + retry_in };
            }
            FeedEvent::Ended => self.link = Link::Ended,
        }
        self.handle_tick(now);
    }

    /// Takes note that time has passed.
    pub fn handle_tick(&mut self, now: Duration) {
        self.details.retain(|_, at| now.saturating_sub(*at) < DETAILED);
        self.nodes.retain(|_, node| {
            node.gone_at().is_none_or(|gone| now.saturating_sub(gone) < FORGET_AFTER)
        });
        self.warnings = self.check(now);
        self.levels.clear();
        for warning in &self.warnings {
            let level = self.levels.entry(warning.node.clone()).or_insert(warning.level);
            *level = (*level).max(warning.level);
        }
    }

    fn handle_tree(&mut self, tree: Tree, now: Duration) {
        self.last_tree = Some(now);
        self.details.retain(|_, at| now.saturating_sub(*at) < DETAILED);
        self.clock = tree.at.strftime("%H:%M:%S").to_string();
        self.unix_s = tree.at.as_second();
        self.asked = tree.node;
        let mut named = HashSet::new();
        self.doubles.clear();
        for snapshot in tree.nodes {
            let name = snapshot.node.clone();
            if !named.insert(name.clone()) {
                self.doubles.insert(name);
                continue;
            }
            // One feed after the other: two at once would have its clock go back and forth.
            if self.details.contains_key(&name) && snapshot.state != NodeState::Down {
                continue;
            }
            let full = self.nodes.len() >= MAX_NODES;
            let changes = match self.nodes.get_mut(&name) {
                Some(node) => node.handle_snapshot(snapshot, now),
                None if !full => {
                    let state = snapshot.state;
                    self.nodes.insert(name.clone(), Node::new(snapshot, now));
                    vec![(node::level_of(state), format!("appeared, {}", state.as_str()))]
                }
                None => continue,
            };
            for (level, text) in changes {
                self.push_event(Some(&name), level, text);
            }
        }
        let gone: Vec<String> = self
            .nodes
            .iter_mut()
            .filter(|(name, _)| !named.contains(*name))
            .filter_map(|(name, node)| node.handle_absence(now).then(|| name.clone()))
            .collect();
        for name in gone {
            self.push_event(Some(&name), Level::Down, "is no longer reported".to_owned());
        }
    }

    /// Takes all that is known of a node, if the tree has it.
    fn handle_detail(&mut self, snapshot: NodeSnapshot, now: Duration) {
        let name = snapshot.node.clone();
        let Some(node) = self.nodes.get_mut(&name).filter(|node| node.gone_at().is_none()) else {
            return;
        };
        if snapshot.state != NodeState::Down {
            self.details.insert(name.clone(), now);
        }
        for (level, text) in node.handle_snapshot(snapshot, now) {
            self.push_event(Some(&name), level, text);
        }
    }

    /// The node that was asked; the feed tells all of it.
    pub fn asked(&self) -> &str {
        &self.asked
    }

    fn push_event(&mut self, node: Option<&str>, level: Level, text: String) {
        self.events.push(&self.clock, node, level, text);
    }

    fn check(&self, now: Duration) -> Vec<Warning> {
        let doubles = self.doubles.iter().map(|name| Warning {
            node: name.clone(),
            level: Level::Warning,
            rule: 0,
            text: "is the name of several nodes; only one is shown".to_owned(),
            advice: "give each relay its own --node name",
        });
        // An old feed says nothing about the nodes: its own state is shown instead.
        let rules: Vec<Warning> = match self.health(now) {
            Health::Live { .. } | Health::Ended => {
                let at = warnings::Moment { now: self.as_of(now), unix_s: self.unix_s };
                self.nodes.iter().flat_map(|(name, node)| warnings::check(name, node, at)).collect()
            }
            _ => self.warnings.clone(),
        };
        let mut all: Vec<Warning> = doubles
            .chain(rules.into_iter().filter(|found| !self.doubles.contains(&found.node)))
            .collect();
        let is_down = |name: &str| self.node(name).is_some_and(Node::is_down);
        let below_down = |name: &str| {
            let parent = self.node(name).and_then(|node| node.snapshot().parent.as_deref());
            is_down(name) && parent.is_some_and(is_down)
        };
        // A steady order: figures that change each second don't decide. Whoever is down because
        // the node above is comes last, though bad.
        all.sort_by_cached_key(|it| {
            (below_down(&it.node), Reverse(it.level), it.rule, it.node.clone())
        });
        all
    }

    /// The moment for which figures are asked: now, or the end of a recording.
    pub fn as_of(&self, now: Duration) -> Duration {
        match self.link {
            Link::Ended => self.last_tree.unwrap_or(now),
            _ => now,
        }
    }

    /// How the feed is.
    pub fn health(&self, now: Duration) -> Health {
        let age = self.last_tree.map(|at| now.saturating_sub(at));
        match (&self.link, age) {
            (Link::Connecting, _) => Health::Connecting,
            (Link::Ended, _) => Health::Ended,
            (Link::Connected { since }, age) => {
                let silent = now.saturating_sub(*since);
                match age {
                    Some(age) if age < STALE => Health::Live { age },
                    Some(age) => Health::Stale { for_: age },
                    None => Health::Stale { for_: silent },
                }
            }
            (Link::Lost { since, error, advice, retry_at }, _) => Health::Lost {
                for_: now.saturating_sub(*since),
                error: error.clone(),
                advice: *advice,
                retry_in: retry_at.saturating_sub(now),
            },
        }
    }

    /// Whether what is known is old, since the feed brings nothing.
    pub fn is_old(&self, now: Duration) -> bool {
        matches!(self.health(now), Health::Stale { .. } | Health::Lost { .. })
    }

    /// Whether any snapshot ever came.
    pub const fn has_data(&self) -> bool {
        self.last_tree.is_some()
    }

    /// How many lines were no snapshot, and what was wrong with the last one.
    pub fn nonsense(&self) -> Option<(u64, &str)> {
        (self.nonsense.0 > 0).then_some((self.nonsense.0, self.nonsense.1.as_str()))
    }

    /// Seconds since 1970, by the clock of the node that was asked, when it last answered.
    pub const fn unix_s(&self) -> i64 {
        self.unix_s
    }

    /// One node.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name)
    }

    /// All nodes by name.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = (&str, &Node)> {
        self.nodes.iter().map(|(name, node)| (name.as_str(), node))
    }

    /// What the rules find, the worst first.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// A node's state with what the rules found about it.
    pub fn level(&self, name: &str) -> Level {
        let reported =
            self.node(name).map_or(Level::Ok, |node| node::level_of(node.reported_state()));
        self.levels.get(name).copied().unwrap_or(Level::Ok).max(reported)
    }

    /// The nodes that something is wrong with, the worst first.
    pub fn troubled(&self) -> Vec<&str> {
        let mut seen = HashSet::new();
        let names = self.warnings.iter().map(|warning| warning.node.as_str());
        names.filter(|name| self.nodes.contains_key(*name) && seen.insert(*name)).collect()
    }

    /// The word for a node's state: its own where that says more.
    pub fn state_word(&self, name: &str, now: Duration) -> &'static str {
        use stats::NodeState::{Down, Draining, Unknown};
        let level = self.level(name);
        let Some(node) = self.node(name) else { return format::UNKNOWN };
        match (level, node.reported_state()) {
            (Level::Warning, Draining) => Draining.as_str(),
            (Level::Ok, Unknown) => format::UNKNOWN,
            // It lives, and those below it get nothing.
            (Level::Down, reported) if reported != Down && node.is_cut_off(now) => "cut off",
            (level, _) => level.as_str(),
        }
    }

    /// Some nodes together.
    pub fn sum<'a>(&self, names: impl IntoIterator<Item = &'a str>, now: Duration) -> Sum {
        let mut sum = Sum::default();
        for name in names {
            let Some(node) = self.node(name) else { continue };
            sum.nodes += 1;
            sum.levels[self.level(name) as usize] += 1;
            let parent = node.snapshot().parent.as_deref();
            if node.is_down() {
                continue;
            }
            sum.hop_p95 = [sum.hop_p95, node.hop_p95()].into_iter().flatten().reduce(f64::max);
            sum.viewers = sum.viewers.saturating_add(node.snapshot().viewers);
            let Some(rates) = node.rates(now) else { continue };
            // Only what enters the tree: below, the same bytes come in again.
            if parent.is_none_or(|parent| self.node(parent).is_none()) {
                *sum.bits_in.get_or_insert(0.0) += rates.bits_in;
            }
            *sum.bits_out.get_or_insert(0.0) += rates.bits_out;
            let drops = sum.drops.get_or_insert_default();
            for reason in DropReason::ALL {
                drops.set(reason, drops.of(reason) + rates.drops.of(reason));
            }
        }
        sum
    }
}

/// Several nodes together. What no node knows is `None`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sum {
    /// How many.
    pub nodes: u64,
    /// How many are at each [`Level`].
    pub levels: [u64; 3],
    /// Their viewers.
    pub viewers: u64,
    /// Bit rate into the tree.
    pub bits_in: Option<f64>,
    /// Bit rate out of all of them.
    pub bits_out: Option<f64>,
    /// Objects dropped a second.
    pub drops: Option<DropRates>,
    /// The worst latency over a hop, of a hundred objects 95.
    pub hop_p95: Option<f64>,
}

impl Sum {
    /// The worst level among them.
    pub fn level(&self) -> Level {
        let levels = [Level::Down, Level::Warning];
        let found = levels.into_iter().find(|level| self.levels[*level as usize] > 0);
        found.unwrap_or(Level::Ok)
    }
}
