//! Names and subscriptions: who publishes, who wants what, and from where it is to be had.
//!
//! However many viewers a track has, each of its publishers is subscribed to once ("Multiple
//! Publishers"). Publishers connected here (or at relays below us) come first; what nobody here
//! publishes is asked of the parent, the *uplink*, to which our own namespaces are announced.
//!
//! * `names` knows who publishes which namespaces and who wants to hear of them.
//! * `sources` decides which publishers a track is had from.
//! * `subscribers` decides who is served, waits, or hears a refusal.

mod names;
mod sources;
mod subscribers;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use moqt::{FullTrackName, Namespace, PublishDoneCode, RequestError, RequestErrorCode, RequestId};

use sources::Source;
pub use sources::Upstream;

/// A session, as router and shell call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u64);

/// A track, as router and shell call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrackId(pub u64);

/// First field of the namespaces in which relays report to each other.
const RESERVED: &[u8] = b"weir";

/// How patient the router is, and how much it takes on.
#[derive(Clone, Copy, Debug)]
pub struct RouterConfig {
    /// How long subscriptions outlive their last publisher.
    pub linger: Duration,
    /// Longest a subscription may wait for a publisher ("RENDEZVOUS TIMEOUT Parameter").
    pub rendezvous: Duration,
    /// How long one waits that does not ask to: what a publisher sent on another connection just
    /// before it must not seem to come too late.
    pub grace: Duration,
    /// Wait before an upstream that refused a track is asked again.
    pub retry: Duration,
    /// Longest an upstream may take to answer.
    pub answer: Duration,
    /// Most publishers one track is had from at once.
    pub sources: usize,
}

impl Default for RouterConfig {
    fn default() -> Self {
        Self {
            linger: Duration::from_secs(60),
            rendezvous: Duration::from_secs(30),
            grace: Duration::from_millis(50),
            retry: Duration::from_millis(500),
            answer: Duration::from_secs(10),
            sources: 8,
        }
    }
}

/// What the shell must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteAction {
    /// Send PUBLISH_NAMESPACE.
    Announce(SessionId, Namespace),
    /// Withdraw it.
    Unannounce(SessionId, Namespace),
    /// Tell the watcher with this request that a namespace is published.
    Namespace(SessionId, RequestId, Namespace),
    /// Tell it that it is no longer.
    NamespaceDone(SessionId, RequestId, Namespace),
    /// Send SUBSCRIBE_TRACKS for everything, with FORWARD 0: somebody here wants to hear of tracks.
    Follow(SessionId),
    /// Send PUBLISH with this FORWARD, then call [`Router::handle_offered`].
    Offer(SessionId, TrackId, FullTrackName, bool),
    /// A track comes into being: its cache is needed from here on.
    Begin(TrackId, FullTrackName),
    /// Subscribe to a track; answer with [`Router::handle_upstream_ok`] or its kin.
    Subscribe(SessionId, TrackId, Upstream),
    /// End our subscription, whoever began it.
    Unsubscribe(SessionId, TrackId),
    /// Set FORWARD on a subscription that the publisher began.
    Forward(SessionId, TrackId, bool),
    /// Ask the publisher for a new group ("NEW GROUP REQUEST Parameter").
    NewGroup(SessionId, TrackId, u64),
    /// Begin to serve a subscription: SUBSCRIBE_OK.
    Accept(SessionId, RequestId, TrackId),
    /// Refuse one: REQUEST_ERROR.
    Reject(SessionId, RequestId, RequestError),
    /// The track is over for this subscription: PUBLISH_DONE once all is sent.
    End(SessionId, RequestId, TrackId, PublishDoneCode),
    /// No source of the track is established any more: tell its cache.
    Offline(TrackId),
    /// Nobody has or wants the track any more; forget its cache.
    Forget(TrackId),
}

/// What a session is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A viewer or a publisher.
    Client,
    /// A relay below us, or this node itself.
    Node,
    /// Our parent.
    Uplink,
}

#[derive(Debug)]
struct Session {
    peer: Peer,
    /// It said GOAWAY, or we did: nothing new is asked of it.
    leaving: bool,
    /// Its PUBLISH_NAMESPACE requests.
    published: BTreeMap<RequestId, Namespace>,
    /// Its SUBSCRIBE_NAMESPACE requests.
    watching: BTreeMap<RequestId, Namespace>,
    /// Its SUBSCRIBE_TRACKS requests.
    following: BTreeMap<RequestId, Following>,
    /// Whether we sent it a SUBSCRIBE_TRACKS.
    followed: bool,
}

#[derive(Clone, Debug)]
struct Following {
    prefix: Namespace,
    forward: bool,
}

/// One track that somebody wants or publishes.
#[derive(Debug)]
struct Entry {
    id: TrackId,
    sources: BTreeMap<SessionId, Source>,
    /// While there is no source at all.
    missing: Option<Missing>,
    /// Since when no source is established, if none is. Asking for one does not change it.
    offline_since: Instant,
    /// Sources that refused since the last attempt to find one began.
    refused: BTreeSet<SessionId>,
    /// When to ask those once more who refused while others have it: a publisher that has just come
    /// may not have all of its tracks yet.
    rejoin: Option<Instant>,
    /// How often that was done since one came.
    rejoins: u32,
    /// Sources that said that the track is over.
    ended: BTreeSet<SessionId>,
    /// Subscriptions that are served, and whether objects are wanted (FORWARD).
    served: BTreeMap<(SessionId, RequestId), bool>,
    /// Subscriptions that wait for a source.
    waiting: BTreeMap<(SessionId, RequestId), Waiting>,
    /// Sessions that were sent a PUBLISH, or are about to be.
    offered: BTreeSet<SessionId>,
    /// The largest NEW_GROUP_REQUEST that is not fulfilled.
    new_group: Option<NewGroup>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum NewGroup {
    /// Our SUBSCRIBE says this number; what is the track's largest group is not known yet.
    Said(u64),
    /// A group of this number or a larger one is asked for.
    Asked(u64),
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    since: Instant,
    until: Instant,
    /// It asked to wait.
    asked: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Missing {
    /// When to look again.
    retry: Option<Instant>,
}

/// See the module documentation.
#[derive(Debug)]
pub struct Router {
    config: RouterConfig,
    sessions: BTreeMap<SessionId, Session>,
    /// Those of them that are relays.
    relays: BTreeSet<SessionId>,
    namespaces: BTreeMap<Namespace, names::Publishers>,
    tracks: BTreeMap<FullTrackName, Entry>,
    names: BTreeMap<TrackId, FullTrackName>,
    next_track: u64,
    actions: VecDeque<RouteAction>,
}

impl Router {
    /// A router that knows nobody.
    pub fn new(config: RouterConfig) -> Self {
        Self {
            config,
            sessions: BTreeMap::new(),
            relays: BTreeSet::new(),
            namespaces: BTreeMap::new(),
            tracks: BTreeMap::new(),
            names: BTreeMap::new(),
            next_track: 0,
            actions: VecDeque::new(),
        }
    }

    /// The next thing the shell must do.
    pub fn poll_action(&mut self) -> Option<RouteAction> {
        self.actions.pop_front()
    }

    /// When [`Router::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.tracks.values().filter_map(|entry| self.due(entry)).min()
    }

    /// When something of a track must be looked at though nothing happened.
    fn due(&self, entry: &Entry) -> Option<Instant> {
        let linger = entry.missing.filter(|_| !entry.served.is_empty());
        let linger = linger.map(|_| entry.offline_since + self.config.linger);
        let retry = entry.missing.and_then(|missing| missing.retry);
        let unanswered = entry.sources.values().filter_map(Source::deadline);
        // While a source is asked its answer decides.
        let waits = entry
            .waiting
            .iter()
            .filter(|((id, _), _)| !entry.is_asked_for(*id, &self.relays))
            .map(|(_, waiting)| waiting.until);
        unanswered.chain(waits).chain(linger).chain(retry).chain(entry.rejoin).min()
    }

    /// The name behind an ID.
    pub fn name(&self, id: TrackId) -> Option<&FullTrackName> {
        self.names.get(&id)
    }

    /// The track of that name, if it has a source that is established.
    pub fn live_track(&self, name: &FullTrackName) -> Option<TrackId> {
        self.tracks.get(name).filter(|entry| entry.is_live()).map(|entry| entry.id)
    }

    /// Every track known, with how many subscriptions are served.
    pub fn tracks(&self) -> impl Iterator<Item = (TrackId, &FullTrackName, usize)> {
        self.tracks.iter().map(|(name, entry)| (entry.id, name, entry.served.len()))
    }

    /// Every track that has a source, with the newest of its sources.
    pub fn live_sources(&self) -> impl Iterator<Item = (TrackId, &FullTrackName, SessionId)> {
        self.tracks.iter().filter_map(|(name, entry)| {
            let mut live = entry.sources.iter().filter(|(_, source)| source.is_live());
            live.next_back().map(|(source, _)| (entry.id, name, *source))
        })
    }

    /// Every namespace known, and whether somebody here or below publishes it.
    pub fn namespaces(&self) -> impl Iterator<Item = (&Namespace, bool)> {
        self.namespaces.iter().map(|(name, publishers)| (name, publishers.is_local()))
    }

    /// A session began.
    pub fn handle_session(&mut self, id: SessionId, peer: Peer, now: Instant) {
        let session = Session {
            peer,
            leaving: false,
            published: BTreeMap::new(),
            watching: BTreeMap::new(),
            following: BTreeMap::new(),
            followed: false,
        };
        self.sessions.insert(id, session);
        if peer != Peer::Client {
            self.relays.insert(id);
        }
        if peer == Peer::Uplink {
            let ours: Vec<_> = self
                .namespaces()
                .filter(|(_, local)| *local)
                .map(|(name, _)| name.clone())
                .collect();
            self.actions.extend(ours.into_iter().map(|name| RouteAction::Announce(id, name)));
            self.look_for_sources(|_| true, now);
        }
        self.follow_relays();
    }

    /// A session ended, with all it had.
    pub fn handle_session_closed(&mut self, id: SessionId, now: Instant) {
        let Some(session) = self.sessions.remove(&id) else { return };
        self.relays.remove(&id);
        for namespace in session.published.values() {
            self.unpublish(id, namespace);
        }
        if session.peer == Peer::Uplink {
            let theirs: Vec<_> = self.namespaces.keys().cloned().collect();
            for namespace in theirs {
                self.handle_uplink_namespace(id, &namespace, false, now);
            }
        }
        let names: Vec<_> = self.tracks.keys().cloned().collect();
        for name in names {
            let Some(entry) = self.tracks.get_mut(&name) else { continue };
            entry.served.retain(|(session, _), _| *session != id);
            entry.waiting.retain(|(session, _), _| *session != id);
            entry.offered.remove(&id);
            entry.ended.remove(&id);
            self.remove_source(id, &name, now);
            self.settle(&name);
        }
    }

    /// A session is about to leave, by the peer's GOAWAY: nothing new is asked of it, and what it
    /// gives us is looked for elsewhere while it still does.
    pub fn handle_going_away(&mut self, id: SessionId, now: Instant) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.leaving = true;
        self.look_for_sources(|_| true, now);
    }

    /// Whether nothing is had from this session that is not had from another one too.
    pub fn is_relieved(&self, id: SessionId) -> bool {
        self.tracks.values().all(|entry| {
            !entry.sources.contains_key(&id)
                || entry.sources.iter().any(|(other, s)| *other != id && s.is_live())
        })
    }

    /// Whether another session leads to a parent that is not about to leave.
    pub fn has_other_uplink(&self, id: SessionId) -> bool {
        self.sessions.iter().any(|(other, session)| {
            *other != id && session.peer == Peer::Uplink && !session.leaving
        })
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        let names: Vec<_> = self
            .tracks
            .iter()
            .filter(|(_, entry)| self.due(entry).is_some_and(|at| at <= now))
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            self.give_up_unanswered(&name, now);
            self.ask_once_more(&name, now);
            if let Some(entry) = self.tracks.get_mut(&name)
                && let Some(missing) = &mut entry.missing
                && missing.retry.is_some_and(|retry| retry <= now)
            {
                missing.retry = None;
                entry.ended.clear();
                self.find_sources(&name, now);
            }
            self.give_up(&name, now);
            self.expire(&name, now);
            self.settle(&name);
        }
    }

    /// The track's entry, made if it is new.
    fn entry(&mut self, name: &FullTrackName, now: Instant) -> TrackId {
        if let Some(entry) = self.tracks.get(name) {
            return entry.id;
        }
        let id = TrackId(self.next_track);
        self.next_track += 1;
        self.names.insert(id, name.clone());
        self.tracks.insert(
            name.clone(),
            Entry {
                id,
                sources: BTreeMap::new(),
                missing: Some(Missing::default()),
                offline_since: now,
                refused: BTreeSet::new(),
                rejoin: None,
                rejoins: 0,
                ended: BTreeSet::new(),
                served: BTreeMap::new(),
                waiting: BTreeMap::new(),
                offered: BTreeSet::new(),
                new_group: None,
            },
        );
        self.actions.push_back(RouteAction::Begin(id, name.clone()));
        id
    }

    fn entry_of(&mut self, track: TrackId) -> Option<(FullTrackName, &mut Entry)> {
        let name = self.names.get(&track)?.clone();
        let entry = self.tracks.get_mut(&name)?;
        Some((name, entry))
    }
}

/// A relay's own wish for a track is no reason to have it from that relay: two would keep each
/// other going. A client may subscribe to what it publishes ("Subscriptions").
fn counts(subscriber: SessionId, source: SessionId, relays: &BTreeSet<SessionId>) -> bool {
    subscriber != source || !relays.contains(&subscriber)
}

impl Entry {
    fn is_live(&self) -> bool {
        self.sources.values().any(Source::is_live)
    }

    /// Whether there is something to serve this subscriber from.
    fn is_live_for(&self, subscriber: SessionId, relays: &BTreeSet<SessionId>) -> bool {
        self.sources.iter().any(|(id, source)| source.is_live() && counts(subscriber, *id, relays))
    }

    /// Whether a source is asked whose answer this subscriber may wait for.
    fn is_asked_for(&self, subscriber: SessionId, relays: &BTreeSet<SessionId>) -> bool {
        self.sources.iter().any(|(id, source)| !source.is_live() && counts(subscriber, *id, relays))
    }

    fn is_wanted(&self) -> bool {
        !self.served.is_empty() || !self.waiting.is_empty()
    }

    /// Whether somebody wants the track from this source.
    fn is_wanted_from(&self, source: SessionId, relays: &BTreeSet<SessionId>) -> bool {
        let mut subscribers = self.served.keys().chain(self.waiting.keys());
        subscribers.any(|(id, _)| counts(*id, source, relays))
    }

    /// Whether somebody wants objects from this source now.
    fn is_forwarded_from(&self, source: SessionId, relays: &BTreeSet<SessionId>) -> bool {
        let served = self.served.iter().filter(|(_, forward)| **forward).map(|(key, _)| key);
        served.chain(self.waiting.keys()).any(|(id, _)| counts(*id, source, relays))
    }
}

#[cfg(test)]
mod tests;
