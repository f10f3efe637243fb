//! One node as the feed has shown it: its last snapshots, history and what changed.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use stats::rates::{DropRates, Interval, NoRate, NodeRates};
use stats::{
    DropReason, Drops, NodeSnapshot, NodeState, SessionKind, SessionSnapshot, UpstreamSnapshot,
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
/// A session this far behind sees the past; by default a relay cuts what is 2 s late.
pub const BEHIND_MS: u64 = 1_000;
/// Drops come in bursts, a group at a time: a session suffers for this long after the last one.
const SUFFERING: Duration = Duration::from_secs(10);
/// Where only the worst are listed, who is not listed at the moment is remembered for this long.
const REMEMBERED: Duration = Duration::from_secs(10);
/// How many are remembered at most, of those that are not listed.
const MAX_REMEMBERED: usize = 10_000;
/// An episode of stalls ends after this long without any.
const STALLS_OVER: Duration = Duration::from_secs(30);

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
    /// Stalls that viewers reported, from the first to the last.
    stalls: Option<Episode>,
    /// How the sessions are, those that were listed a moment ago included.
    lots: HashMap<String, Lot>,
}

/// Something that goes wrong again and again, from the first time to the last.
#[derive(Debug, Clone, Copy)]
pub struct Episode {
    /// When it began.
    pub since: Duration,
    /// How often since then; for drops, how many objects.
    pub count: u64,
    last: Duration,
}

/// How one session is.
#[derive(Debug, Clone, Copy)]
struct Lot {
    listed_at: Duration,
    /// The node's clock then, and the session's counters.
    uptime_s: f64,
    bytes_out: u64,
    drops: Drops,
    /// Since it was listed before: a moment ago, or some seconds where only the worst are listed.
    rates: Option<SessionRates>,
    dropped_at: Option<Duration>,
    behind_since: Option<Duration>,
}

/// How many of a node's sessions suffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sufferers {
    /// They do, of those that are listed.
    pub count: u64,
    /// All that are served, listed or not.
    pub of: u64,
    /// Only a part is listed, and all of it suffers: there may be more.
    pub at_least: bool,
    /// What they are: viewers, or sessions where relays are among them.
    pub noun: &'static str,
}

/// Where the drops go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trend {
    /// There are more than a moment ago.
    Rising,
    /// About as many.
    Steady,
    /// Fewer.
    Falling,
}

/// The rates of one session.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SessionRates {
    /// Payload bits sent per second.
    pub bits_out: f64,
    /// Objects dropped per second, by reason.
    pub drops: DropRates,
}

/// The rates of one track.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrackRates {
    /// Payload bits received per second.
    pub bits_in: f64,
    /// Payload bits sent per second.
    pub bits_out: f64,
    /// Objects dropped per second, by reason, if the node counts them for each track.
    pub drops: Option<DropRates>,
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
            stalls: None,
            lots: HashMap::new(),
        };
        node.cut_off_since = node.has_no_upstream().then_some(now);
        node.history.push(now, Sample { viewers: node.latest.viewers, rates: None });
        let first = Arc::clone(&node.latest);
        node.note_lots(&first, now);
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
                self.note_stalls(&snapshot, now);
                self.note_lots(&snapshot, now);
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
                self.stalls = None;
                self.lots.clear();
                self.note_lots(&snapshot, now);
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

    /// The present episode of stalls that viewers reported.
    pub const fn stalls(&self) -> Option<&Episode> {
        self.stalls.as_ref()
    }

    /// The sessions that dropped something a moment ago.
    pub fn droppers(&self, now: Duration) -> Sufferers {
        self.sufferers(|it| it.dropped_at.is_some_and(|at| now.saturating_sub(at) < SUFFERING))
    }

    /// The sessions that have been behind for at least so long.
    pub fn behind_for(&self, long: Duration, now: Duration) -> Sufferers {
        self.sufferers(|it| it.behind_since.is_some_and(|since| now.saturating_sub(since) >= long))
    }

    fn sufferers(&self, does: impl Fn(&Lot) -> bool) -> Sufferers {
        let count = self.lots.values().filter(|it| does(it)).count() as u64;
        let kinds = [SessionKind::Viewer, SessionKind::Relay];
        let served = |session: &&SessionSnapshot| kinds.contains(&session.kind);
        let listed = self.latest.sessions.iter().filter(served).count() as u64;
        let of = self.latest.viewers.saturating_add(self.latest.relays).max(count);
        // The session to the parent is listed and does not suffer.
        let at_least = listed < of && count > 0 && count + 1 >= listed;
        let noun = if self.latest.relays > 0 { "session" } else { "viewer" };
        Sufferers { count, of, at_least, noun }
    }

    /// Where the drops go: the last seconds against those before.
    pub fn trend(&self) -> Trend {
        let mean = |rates: Vec<f64>| rates.iter().sum::<f64>() / rates.len().max(1) as f64;
        let drops = |from: usize| {
            let some = self.history.recent(from + 5).skip(from);
            mean(some.map(|sample| sample.drops.total()).collect())
        };
        match (drops(0), drops(5)) {
            (now, before) if now > before * 1.25 => Trend::Rising,
            (now, before) if now < before * 0.8 => Trend::Falling,
            _ => Trend::Steady,
        }
    }

    /// Whether nobody hears of it any more: what the snapshot says is over.
    pub fn is_down(&self) -> bool {
        self.reported_state() == NodeState::Down
    }

    /// The worst of its tracks' latencies over the hop from its parent, of a hundred objects 95.
    pub fn hop_p95(&self) -> Option<f64> {
        let tracks = self.latest.tracks.iter();
        tracks.filter_map(|track| Some(track.hop_latency_ms?.p95)).max_by(f64::total_cmp)
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
        if self.is_down() || self.silent_for(now) > SILENT {
            return None;
        }
        let recent: Vec<NodeRates> = self.history.recent(3).collect();
        mean(&recent)
    }

    /// The upstream in use, or the preferred one while none is.
    pub fn main_upstream(&self) -> Option<&UpstreamSnapshot> {
        let all = &self.latest.upstream;
        all.iter().find(|upstream| upstream.state == UpstreamState::Connected).or(all.first())
    }

    /// The rates of each session of the newest snapshot, in its order.
    pub fn session_rates(&self, now: Duration) -> Vec<Option<SessionRates>> {
        let known = !self.is_down() && self.silent_for(now) <= SILENT;
        let rates = |session: &SessionSnapshot| self.lots.get(&session.id)?.rates;
        self.latest.sessions.iter().map(|session| rates(session).filter(|_| known)).collect()
    }

    /// The rates of each track of the newest snapshot, in its order.
    pub fn track_rates(&self, now: Duration) -> Vec<Option<TrackRates>> {
        let unknown = || vec![None; self.latest.tracks.len()];
        let Some(previous) = &self.previous else { return unknown() };
        let Ok(interval) = Interval::between(previous, &self.latest) else { return unknown() };
        if self.is_down() || self.silent_for(now) > SILENT {
            return unknown();
        }
        let before: HashMap<_, _> =
            previous.tracks.iter().map(|track| (track.name.as_str(), track)).collect();
        let rates = |track: &stats::TrackSnapshot| {
            let older = before.get(track.name.as_str())?;
            let drops = older.drops.as_ref().zip(track.drops.as_ref());
            Some(TrackRates {
                bits_in: interval.rate(older.bytes_in, track.bytes_in)? * 8.0,
                bits_out: interval.rate(older.bytes_out, track.bytes_out)? * 8.0,
                drops: drops.and_then(|(older, newer)| interval.drop_rates(older, newer)),
            })
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
        // Of a node that is down no sessions are known: none left, and none joins when it is back.
        if [self.latest.state, newer.state].contains(&NodeState::Down) {
            return;
        }
        let before = by_id(&self.latest.sessions);
        let after = by_id(&newer.sessions);
        let joined = newer.sessions.iter().filter(|session| !before.contains_key(&*session.id));
        let left = self.latest.sessions.iter().filter(|session| !after.contains_key(&*session.id));
        for kind in
            [SessionKind::Publisher, SessionKind::Relay, SessionKind::Viewer, SessionKind::Unknown]
        {
            if ![&self.latest, newer].into_iter().all(|it| lists_all(it, kind)) {
                tell_difference(kind, &self.latest, newer, changes);
                continue;
            }
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
                    *slot = Some(Episode { since: now, last: now, count: grown });
                    let rate = format::drops(Some(rates.drops.of(reason)));
                    let level = if is_trouble(reason) { Level::Warning } else { Level::Ok };
                    changes.push((level, format!("drops began: {reason}, {rate} objects/s")));
                }
                Some(episode) if grown > 0 => {
                    episode.last = now;
                    episode.count = episode.count.saturating_add(grown);
                }
                Some(episode) if now.saturating_sub(episode.last) >= DROPS_OVER => {
                    let took = (episode.last - episode.since).as_secs_f64() + 1.0;
                    let (objects, took) = (episode.count, format::duration(took));
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

impl Node {
    fn note_stalls(&mut self, newer: &NodeSnapshot, now: Duration) {
        let stalls = |snapshot: &NodeSnapshot| snapshot.seen.map(|seen| seen.stalls);
        let (Some(was), Some(is)) = (stalls(&self.latest), stalls(newer)) else { return };
        let grown = is.saturating_sub(was);
        match &mut self.stalls {
            None if grown > 0 => {
                self.stalls = Some(Episode { since: now, last: now, count: grown });
            }
            Some(episode) if grown > 0 => {
                episode.last = now;
                episode.count = episode.count.saturating_add(grown);
            }
            Some(episode) if now.saturating_sub(episode.last) >= STALLS_OVER => self.stalls = None,
            _ => {}
        }
    }

    fn note_lots(&mut self, newer: &NodeSnapshot, now: Duration) {
        for session in &newer.sessions {
            let known = self.lots.get(&session.id);
            let behind = session.behind_ms.is_some_and(|behind| behind >= BEHIND_MS);
            let lot = Lot {
                listed_at: now,
                uptime_s: newer.uptime_s,
                bytes_out: session.bytes_out,
                drops: session.drops,
                rates: known.and_then(|lot| lot.rates_until(newer, session)),
                dropped_at: match known {
                    Some(lot) if troubles(&session.drops) > troubles(&lot.drops) => Some(now),
                    known => known.and_then(|lot| lot.dropped_at),
                },
                behind_since: behind.then(|| known.and_then(|lot| lot.behind_since).unwrap_or(now)),
            };
            if known.is_some() || self.lots.len() < newer.sessions.len() + MAX_REMEMBERED {
                self.lots.insert(session.id.clone(), lot);
            }
        }
        // Who is not among all that are listed is gone.
        let all = lists_all(newer, SessionKind::Viewer);
        let kept = if all { Duration::ZERO } else { REMEMBERED };
        self.lots.retain(|_, lot| now.saturating_sub(lot.listed_at) <= kept);
    }
}

impl Lot {
    fn rates_until(&self, newer: &NodeSnapshot, session: &SessionSnapshot) -> Option<SessionRates> {
        let interval = Interval::lasting(newer.uptime_s - self.uptime_s)?;
        Some(SessionRates {
            bits_out: interval.rate(self.bytes_out, session.bytes_out)? * 8.0,
            drops: interval.drop_rates(&self.drops, &session.drops)?,
        })
    }
}

/// Objects dropped for reasons that mean trouble.
fn troubles(drops: &Drops) -> u64 {
    let reasons = DropReason::ALL.into_iter().filter(|reason| is_trouble(*reason));
    reasons.fold(0, |sum, reason| sum.saturating_add(drops[reason].objects))
}

/// Whether all sessions of a kind are listed; a node below lists only those worst off. The session
/// to the parent is listed as a relay's, too.
fn lists_all(snapshot: &NodeSnapshot, kind: SessionKind) -> bool {
    let connected = |upstream: &UpstreamSnapshot| upstream.state == UpstreamState::Connected;
    let parents = u64::from(snapshot.upstream.iter().any(connected));
    let listed = snapshot.sessions.len() as u64;
    let of_kind = snapshot.sessions.iter().filter(|session| session.kind == kind).count() as u64;
    listed >= served(snapshot).saturating_add(parents)
        || (kind != SessionKind::Relay && of_kind >= counted(snapshot, kind))
}

/// All sessions that a node serves, listed or not.
pub const fn served(snapshot: &NodeSnapshot) -> u64 {
    snapshot.viewers.saturating_add(snapshot.relays).saturating_add(snapshot.publishers)
}

/// How many sessions of a kind a node says that it has, listed or not.
const fn counted(snapshot: &NodeSnapshot, kind: SessionKind) -> u64 {
    match kind {
        SessionKind::Viewer => snapshot.viewers,
        SessionKind::Relay => snapshot.relays,
        SessionKind::Publisher => snapshot.publishers,
        SessionKind::Unknown => 0,
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

/// What the counts say where not every session is listed.
fn tell_difference(
    kind: SessionKind,
    older: &NodeSnapshot,
    newer: &NodeSnapshot,
    changes: &mut Vec<Change>,
) {
    let (was, is) = (counted(older, kind), counted(newer, kind));
    let verb = if is > was { "joined" } else { "left" };
    if is != was {
        let text = format!("{} {verb}", format::counted(is.abs_diff(was), kind.as_str()));
        changes.push((Level::Ok, text));
    }
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
