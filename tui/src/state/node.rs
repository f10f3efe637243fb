//! One node as the feed has shown it: its last snapshots, history and what changed.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use stats::rates::{DropRates, Interval, NoRate, NodeRates};
use stats::{
    DropReason, NodeSnapshot, NodeState, SessionKind, SessionSnapshot, UpstreamSnapshot,
    UpstreamState,
};

use super::events::Level;
use super::history::{History, Sample};
use crate::format;

/// A node that sent nothing new for this long has no rates any more.
pub const SILENT: Duration = Duration::from_secs(4);
/// More arrivals or departures than this in one second are told as one event.
const MANY_SESSIONS: usize = 4;
/// An episode of drops ends after this long without any.
const DROPS_OVER: Duration = Duration::from_secs(5);
/// The upstream may be away this long before it is worth a warning: a redial takes a moment.
const REDIAL: Duration = Duration::from_secs(2);
/// How many losses of the upstream are remembered.
const MAX_LOSSES: usize = 32;

/// One node.
#[derive(Debug, Clone)]
pub struct Node {
    latest: Arc<NodeSnapshot>,
    /// The different snapshot before, of the same run of the process.
    previous: Option<Arc<NodeSnapshot>>,
    /// Rates and viewers over time.
    pub history: History,
    heard_at: Duration,
    gone_at: Option<Duration>,
    restarted_at: Option<Duration>,
    /// When the upstream was lost, oldest first.
    losses: VecDeque<Duration>,
    cut_off_since: Option<Duration>,
    episodes: [Option<Episode>; DropReason::COUNT],
}

/// Drops for one reason, from the first to the last.
#[derive(Debug, Clone, Copy)]
pub struct Episode {
    /// When it began.
    pub since: Duration,
    last: Duration,
    objects: u64,
}

/// The rates of one session.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SessionRates {
    /// Payload bits sent per second.
    pub bits_out: f64,
    /// Objects dropped per second, by reason.
    pub drops: DropRates,
}

/// Something that a new snapshot tells.
pub type Change = (Level, String);

impl Node {
    /// A node that was not seen before.
    pub fn new(snapshot: NodeSnapshot, now: Duration) -> Self {
        let mut node = Self {
            latest: Arc::new(snapshot),
            previous: None,
            history: History::default(),
            heard_at: now,
            gone_at: None,
            restarted_at: None,
            losses: VecDeque::new(),
            cut_off_since: None,
            episodes: [None; DropReason::COUNT],
        };
        node.cut_off_since = node.has_no_upstream().then_some(now);
        node.history.push(now, Sample { viewers: node.latest.viewers, rates: None });
        node
    }

    /// The newest snapshot.
    pub fn snapshot(&self) -> &NodeSnapshot {
        &self.latest
    }

    /// Takes the next snapshot and tells what changed.
    pub fn handle_snapshot(&mut self, snapshot: NodeSnapshot, now: Duration) -> Vec<Change> {
        let mut changes = Vec::new();
        if self.gone_at.take().is_some() {
            changes.push((Level::Ok, "reports again".to_owned()));
        }
        match NodeRates::between(&self.latest, &snapshot) {
            Ok(rates) => {
                self.heard_at = now;
                self.tell_sessions(&snapshot, &mut changes);
                self.tell_drops(&snapshot, &rates, now, &mut changes);
                let sample = Sample { viewers: snapshot.viewers, rates: Some(rates) };
                self.history.push(now, sample);
                let older = std::mem::replace(&mut self.latest, Arc::new(snapshot));
                self.tell_states(&older, now, &mut changes);
                self.previous = Some(older);
            }
            Err(NoRate::Restarted) => {
                self.heard_at = now;
                self.restarted_at = Some(now);
                self.episodes = [None; DropReason::COUNT];
                let uptime = format::duration(self.latest.uptime_s);
                changes.push((Level::Warning, format!("restarted, after {uptime} of uptime")));
                self.history.push(now, Sample { viewers: snapshot.viewers, rates: None });
                let older = std::mem::replace(&mut self.latest, Arc::new(snapshot));
                self.tell_states(&older, now, &mut changes);
                self.previous = None;
            }
            Err(NoRate::NothingNew) => {
                // The counters say nothing, but whoever reports for the node may know its state.
                let older = std::mem::replace(&mut self.latest, Arc::new(snapshot));
                self.tell_states(&older, now, &mut changes);
            }
        }
        changes
    }

    /// The feed no longer names this node. Returns whether that is news.
    pub fn handle_absence(&mut self, now: Duration) -> bool {
        let news = self.gone_at.is_none();
        self.gone_at.get_or_insert(now);
        news
    }

    /// When the feed ceased to name it.
    pub const fn gone_at(&self) -> Option<Duration> {
        self.gone_at
    }

    /// When it restarted last.
    pub const fn restarted_at(&self) -> Option<Duration> {
        self.restarted_at
    }

    /// Since when it has upstreams and none is connected.
    pub const fn cut_off_since(&self) -> Option<Duration> {
        self.cut_off_since
    }

    /// Whether no upstream is connected for longer than a redial takes.
    pub fn is_cut_off(&self, now: Duration) -> bool {
        self.cut_off_since.is_some_and(|since| now.saturating_sub(since) >= REDIAL)
    }

    /// How often its upstream was lost since a moment.
    pub fn losses_since(&self, moment: Duration) -> usize {
        self.losses.iter().filter(|at| **at >= moment).count()
    }

    /// The present episode of drops for a reason.
    pub const fn episode(&self, reason: DropReason) -> Option<&Episode> {
        self.episodes[reason.index()].as_ref()
    }

    /// For how long nothing new came.
    pub fn silent_for(&self, now: Duration) -> Duration {
        now.saturating_sub(self.heard_at)
    }

    /// What the node itself says, or [`NodeState::Down`] when nobody speaks of it any more.
    pub fn reported_state(&self) -> NodeState {
        if self.gone_at.is_some() { NodeState::Down } else { self.latest.state }
    }

    /// The rates now: the mean of the last seconds, `None` when not known.
    pub fn rates(&self, now: Duration) -> Option<NodeRates> {
        if self.gone_at.is_some() || self.silent_for(now) > SILENT {
            return None;
        }
        let recent: Vec<NodeRates> = self.history.recent_rates().collect();
        mean(&recent)
    }

    /// The upstream in use, or the preferred one while none is.
    pub fn main_upstream(&self) -> Option<&UpstreamSnapshot> {
        let all = &self.latest.upstream;
        all.iter().find(|upstream| upstream.state == UpstreamState::Connected).or(all.first())
    }

    /// The rates of each session of the newest snapshot, in its order.
    pub fn session_rates(&self, now: Duration) -> Vec<Option<SessionRates>> {
        let unknown = || vec![None; self.latest.sessions.len()];
        let Some(previous) = &self.previous else { return unknown() };
        let Ok(interval) = Interval::between(previous, &self.latest) else { return unknown() };
        if self.silent_for(now) > SILENT {
            return unknown();
        }
        let before = by_id(&previous.sessions);
        let rates = |session: &SessionSnapshot| {
            let older = before.get(session.id.as_str())?;
            Some(SessionRates {
                bits_out: interval.rate(older.bytes_out, session.bytes_out)? * 8.0,
                drops: interval.drop_rates(&older.drops, &session.drops)?,
            })
        };
        self.latest.sessions.iter().map(rates).collect()
    }

    /// The bit rates in and out of each track of the newest snapshot, in its order.
    pub fn track_rates(&self, now: Duration) -> Vec<Option<(f64, f64)>> {
        let unknown = || vec![None; self.latest.tracks.len()];
        let Some(previous) = &self.previous else { return unknown() };
        let Ok(interval) = Interval::between(previous, &self.latest) else { return unknown() };
        if self.silent_for(now) > SILENT {
            return unknown();
        }
        let before: HashMap<_, _> =
            previous.tracks.iter().map(|track| (track.name.as_str(), track)).collect();
        let rates = |track: &stats::TrackSnapshot| {
            let older = before.get(track.name.as_str())?;
            let bytes_in = interval.rate(older.bytes_in, track.bytes_in)?;
            let bytes_out = interval.rate(older.bytes_out, track.bytes_out)?;
            Some((bytes_in * 8.0, bytes_out * 8.0))
        };
        self.latest.tracks.iter().map(rates).collect()
    }

    fn has_no_upstream(&self) -> bool {
        let all = &self.latest.upstream;
        !all.is_empty() && all.iter().all(|upstream| upstream.state != UpstreamState::Connected)
    }

    fn tell_states(&mut self, older: &NodeSnapshot, now: Duration, changes: &mut Vec<Change>) {
        let (was, is) = (older.state, self.latest.state);
        if was != is {
            let why = self.latest.reason.as_deref().map(|why| format!(": {why}"));
            let text = format!("now {}{}", is.as_str(), why.unwrap_or_default());
            changes.push((level_of(is), text));
        }
        if self.has_no_upstream() {
            if self.cut_off_since.is_none() {
                self.cut_off_since = Some(now);
                if self.losses.len() == MAX_LOSSES {
                    self.losses.pop_front();
                }
                self.losses.push_back(now);
                changes.push((Level::Warning, self.describe_loss()));
            }
        } else if let Some(since) = self.cut_off_since.take()
            && let Some(upstream) = self.main_upstream()
        {
            let after = format::duration(now.saturating_sub(since).as_secs_f64());
            changes.push((Level::Ok, format!("upstream {} connected after {after}", upstream.url)));
        }
    }

    fn describe_loss(&self) -> String {
        let Some(upstream) = self.main_upstream() else { return String::new() };
        match &upstream.error {
            Some(error) => format!("upstream {} lost: {error}", upstream.url),
            None => format!("upstream {} lost", upstream.url),
        }
    }

    fn tell_sessions(&self, newer: &NodeSnapshot, changes: &mut Vec<Change>) {
        let before = by_id(&self.latest.sessions);
        let after = by_id(&newer.sessions);
        let joined = newer.sessions.iter().filter(|session| !before.contains_key(&*session.id));
        let left = self.latest.sessions.iter().filter(|session| !after.contains_key(&*session.id));
        for kind in
            [SessionKind::Publisher, SessionKind::Relay, SessionKind::Viewer, SessionKind::Unknown]
        {
            let of_kind = |session: &&SessionSnapshot| session.kind == kind;
            tell_many(kind, "joined", joined.clone().filter(of_kind), changes, |session| {
                format!("over {}", session.transport.as_str())
            });
            tell_many(kind, "left", left.clone().filter(of_kind), changes, |session| {
                let age = session.age_s.map(|age| format!("after {}, ", format::duration(age)));
                let dropped = session.drops.total().objects;
                format!("{}{dropped} objects dropped", age.unwrap_or_default())
            });
        }
    }

    fn tell_drops(
        &mut self,
        newer: &NodeSnapshot,
        rates: &NodeRates,
        now: Duration,
        changes: &mut Vec<Change>,
    ) {
        for reason in DropReason::ALL {
            let slot = &mut self.episodes[reason.index()];
            let (was, is) = (self.latest.drops[reason].objects, newer.drops[reason].objects);
            let grown = is.saturating_sub(was);
            match slot {
                None if grown > 0 => {
                    *slot = Some(Episode { since: now, last: now, objects: grown });
                    let rate = format::drops(Some(rates.drops.of(reason)));
                    let level = if is_trouble(reason) { Level::Warning } else { Level::Ok };
                    changes.push((level, format!("drops began: {reason}, {rate} objects/s")));
                }
                Some(episode) if grown > 0 => {
                    episode.last = now;
                    episode.objects = episode.objects.saturating_add(grown);
                }
                Some(episode) if now.saturating_sub(episode.last) >= DROPS_OVER => {
                    let took = (episode.last - episode.since).as_secs_f64() + 1.0;
                    let (objects, took) = (episode.objects, format::duration(took));
                    changes.push((
                        Level::Ok,
                        format!("drops ended: {reason}, {objects} objects in {took}"),
                    ));
                    *slot = None;
                }
                _ => {}
            }
        }
    }
}

/// Whether drops for a reason mean that something is wrong: a viewer that cancels or leaves did so
/// because it wanted to.
pub const fn is_trouble(reason: DropReason) -> bool {
    !matches!(reason, DropReason::Cancelled | DropReason::SessionClosed)
}

/// How bad a reported state is.
pub const fn level_of(state: NodeState) -> Level {
    match state {
        NodeState::Ok | NodeState::Unknown => Level::Ok,
        NodeState::Warning | NodeState::Draining => Level::Warning,
        NodeState::Down => Level::Down,
    }
}

fn by_id(sessions: &[SessionSnapshot]) -> HashMap<&str, &SessionSnapshot> {
    sessions.iter().map(|session| (session.id.as_str(), session)).collect()
}

fn tell_many<'a>(
    kind: SessionKind,
    verb: &str,
    sessions: impl Iterator<Item = &'a SessionSnapshot> + Clone,
    changes: &mut Vec<Change>,
    detail: impl Fn(&SessionSnapshot) -> String,
) {
    let noun = match kind {
        SessionKind::Unknown => "session",
        known => known.as_str(),
    };
    let count = sessions.clone().count();
    if count > MANY_SESSIONS {
        changes.push((Level::Ok, format!("{count} {noun}s {verb}")));
        return;
    }
    for session in sessions {
        let text = format!("{noun} {} {verb} {}", session.remote, detail(session));
        changes.push((Level::Ok, text));
    }
}

fn mean(rates: &[NodeRates]) -> Option<NodeRates> {
    let count = rates.len() as f64;
    let mut drops = DropRates::default();
    for reason in DropReason::ALL {
        drops.set(reason, rates.iter().map(|rates| rates.drops.of(reason)).sum::<f64>() / count);
    }
    (!rates.is_empty()).then(|| NodeRates {
        bits_in: rates.iter().map(|rates| rates.bits_in).sum::<f64>() / count,
        bits_out: rates.iter().map(|rates| rates.bits_out).sum::<f64>() / count,
        drops,
    })
}
