//! Names and subscriptions: who publishes, who wants what, and from where it is to be had.
//!
//! Each track has one upstream subscription however many viewers. Publishers connected here (or
//! at relays below us) come first; what nobody here publishes is asked of the parent, the
//! *uplink*, to which our own namespaces are announced.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use moqt::{FullTrackName, Namespace, PublishDoneCode, RequestError, RequestErrorCode, RequestId};

/// A session, as router and shell call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u64);

/// A track, as router and shell call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrackId(pub u64);

/// First field of the namespaces in which relays report to each other.
const RESERVED: &[u8] = b"weir";

/// How patient the router is.
#[derive(Clone, Copy, Debug)]
pub struct RouterConfig {
    /// How long subscriptions outlive their publisher.
    pub linger: Duration,
    /// Longest a subscription may wait for a publisher ("RENDEZVOUS TIMEOUT Parameter").
    pub rendezvous: Duration,
    /// Wait before an upstream that refused a track is asked again.
    pub retry: Duration,
}

impl Default for RouterConfig {
    fn default() -> Self {
        Self {
            linger: Duration::from_secs(60),
            rendezvous: Duration::from_secs(30),
            retry: Duration::from_millis(500),
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
    /// Subscribe to a track; answer with [`Router::handle_upstream_ok`] or its kin.
    Subscribe(SessionId, TrackId, FullTrackName),
    /// End that subscription.
    Unsubscribe(SessionId, TrackId),
    /// Begin to serve a subscription: SUBSCRIBE_OK.
    Accept(SessionId, RequestId, TrackId),
    /// Refuse one: REQUEST_ERROR.
    Reject(SessionId, RequestId, RequestError),
    /// The track is over for this subscription: PUBLISH_DONE once all is sent.
    End(SessionId, RequestId, TrackId, PublishDoneCode),
    /// Nobody wants the track any more; forget its cache.
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
    published: BTreeMap<RequestId, Namespace>,
    watching: BTreeMap<RequestId, Namespace>,
}

#[derive(Debug, Default)]
struct Publishers {
    /// Sessions here that publish the namespace.
    local: BTreeSet<SessionId>,
    /// The parent told us of it.
    uplink: bool,
}

#[derive(Debug)]
struct Entry {
    id: TrackId,
    source: Source,
    /// A newer publisher of the track, asked to take over from the source.
    successor: Option<SessionId>,
    subscribers: BTreeMap<(SessionId, RequestId), Subscriber>,
    /// Sources that refused since the last attempt to find one began.
    refused: BTreeSet<SessionId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// Asked, not answered.
    Pending(SessionId),
    /// Established.
    Live(SessionId),
    /// None; since when, and when to look again.
    Missing { since: Instant, retry: Option<Instant> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subscriber {
    /// Waits for a source until then.
    Waiting(Instant),
    Served,
}

/// See the module documentation.
#[derive(Debug)]
pub struct Router {
    config: RouterConfig,
    sessions: HashMap<SessionId, Session>,
    namespaces: BTreeMap<Namespace, Publishers>,
    tracks: HashMap<FullTrackName, Entry>,
    names: HashMap<TrackId, FullTrackName>,
    next_track: u64,
    actions: VecDeque<RouteAction>,
}

impl Router {
    /// A router that knows nobody.
    pub fn new(config: RouterConfig) -> Self {
        Self {
            config,
            sessions: HashMap::new(),
            namespaces: BTreeMap::new(),
            tracks: HashMap::new(),
            names: HashMap::new(),
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
        self.tracks
            .values()
            .flat_map(|entry| {
                let waits = entry.subscribers.values().filter_map(|subscriber| match subscriber {
                    Subscriber::Waiting(until) => Some(*until),
                    Subscriber::Served => None,
                });
                let missing = match entry.source {
                    Source::Missing { since, retry } => [Some(since + self.config.linger), retry],
                    _ => [None, None],
                };
                waits.chain(missing.into_iter().flatten())
            })
            .min()
    }

    /// The name behind an ID.
    pub fn name(&self, id: TrackId) -> Option<&FullTrackName> {
        self.names.get(&id)
    }

    /// Every track that is subscribed to, with how many subscriptions are served.
    pub fn tracks(&self) -> impl Iterator<Item = (TrackId, &FullTrackName, usize)> {
        self.tracks.iter().map(|(name, entry)| {
            let served = entry.subscribers.values().filter(|s| **s == Subscriber::Served).count();
            (entry.id, name, served)
        })
    }

    /// Every namespace known, and whether somebody here or below publishes it.
    pub fn namespaces(&self) -> impl Iterator<Item = (&Namespace, bool)> {
        self.namespaces.iter().map(|(name, publishers)| (name, !publishers.local.is_empty()))
    }

    /// A session began.
    pub fn handle_session(&mut self, id: SessionId, peer: Peer, now: Instant) {
        let session = Session { peer, published: BTreeMap::new(), watching: BTreeMap::new() };
        self.sessions.insert(id, session);
        if peer == Peer::Uplink {
            let ours: Vec<_> = self
                .namespaces()
                .filter(|(_, local)| *local)
                .map(|(name, _)| name.clone())
                .collect();
            self.actions.extend(ours.into_iter().map(|name| RouteAction::Announce(id, name)));
            self.look_for_sources(|_| true, now);
        }
    }

    /// A session ended, with all it had.
    pub fn handle_session_closed(&mut self, id: SessionId, now: Instant) {
        let Some(session) = self.sessions.remove(&id) else { return };
        for namespace in session.published.values() {
            self.unpublish(id, namespace);
        }
        if session.peer == Peer::Uplink {
            let theirs: Vec<_> = self.namespaces.keys().cloned().collect();
            for namespace in theirs {
                self.handle_uplink_namespace(&namespace, false, now);
            }
        }
        let names: Vec<_> = self.tracks.keys().cloned().collect();
        for name in names {
            let Some(entry) = self.tracks.get_mut(&name) else { continue };
            entry.subscribers.retain(|(session, _), _| *session != id);
            if entry.successor == Some(id) {
                entry.successor = None;
            }
            if matches!(entry.source, Source::Pending(s) | Source::Live(s) if s == id) {
                match entry.successor.take() {
                    Some(successor) => entry.source = Source::Pending(successor),
                    None => {
                        entry.source = Source::Missing { since: now, retry: None };
                        self.find_source(&name, now);
                    }
                }
            }
            self.release(&name);
        }
    }

    /// A session publishes a namespace. An error is to be sent back: below `weir/` only relays may
    /// publish. Of two that use one node name the newer is heard: it may be the older, restarted.
    pub fn handle_publish_namespace(
        &mut self,
        id: SessionId,
        request: RequestId,
        namespace: &Namespace,
        now: Instant,
    ) -> Result<(), Box<RequestError>> {
        self.check_reserved(id, namespace)?;
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
        session.published.insert(request, namespace.clone());
        let from_uplink = session.peer == Peer::Uplink;
        let publishers = self.namespaces.entry(namespace.clone()).or_default();
        let (was_known, was_local) =
            (publishers.uplink || !publishers.local.is_empty(), !publishers.local.is_empty());
        if from_uplink {
            publishers.uplink = true;
        } else {
            publishers.local.insert(id);
        }
        if !from_uplink && !was_local {
            self.tell_uplink(namespace, true);
        }
        if !was_known {
            self.tell_watchers(namespace, true);
        }
        self.look_for_sources(|name| name.namespace().has_prefix(namespace), now);
        if !from_uplink {
            self.offer_succession(id, namespace);
        }
        Ok(())
    }

    /// Asks a publisher that has just come for the tracks that others of its namespace give us.
    /// Most often it is one of them, restarted, whose old session only seems alive.
    fn offer_succession(&mut self, id: SessionId, namespace: &Namespace) {
        for (name, entry) in &mut self.tracks {
            let taken = match entry.source {
                Source::Pending(source) | Source::Live(source) => source != id,
                Source::Missing { .. } => false,
            };
            if taken && name.namespace().has_prefix(namespace) && entry.successor.is_none() {
                entry.successor = Some(id);
                self.actions.push_back(RouteAction::Subscribe(id, entry.id, name.clone()));
            }
        }
    }

    fn check_reserved(
        &self,
        id: SessionId,
        namespace: &Namespace,
    ) -> Result<(), Box<RequestError>> {
        let fields = namespace.fields();
        if fields.first().is_none_or(|first| &first[..] != RESERVED) {
            return Ok(());
        }
        let node = fields.len() == 3 && &fields[1][..] == b"nodes";
        let relay = self.sessions.get(&id).is_some_and(|session| session.peer != Peer::Client);
        if node && relay {
            return Ok(());
        }
        let reason = "weir/ is for relays to report under";
        Err(Box::new(RequestError::new(RequestErrorCode::UNAUTHORIZED, reason)))
    }

    /// A session withdrew the namespace that it published with this request.
    pub fn handle_unpublish_namespace(&mut self, id: SessionId, request: RequestId) {
        let session = self.sessions.get_mut(&id);
        if let Some(namespace) = session.and_then(|session| session.published.remove(&request)) {
            self.unpublish(id, &namespace);
        }
    }

    fn unpublish(&mut self, id: SessionId, namespace: &Namespace) {
        // The same session may have published it twice.
        let again =
            self.sessions.get(&id).is_some_and(|s| s.published.values().any(|n| n == namespace));
        let Some(publishers) = self.namespaces.get_mut(namespace).filter(|_| !again) else {
            return;
        };
        if !publishers.local.remove(&id) || !publishers.local.is_empty() {
            return;
        }
        let gone = !publishers.uplink;
        self.tell_uplink(namespace, false);
        if gone {
            self.namespaces.remove(namespace);
            self.tell_watchers(namespace, false);
        }
    }

    /// The parent told us that a namespace is (no longer) published somewhere.
    pub fn handle_uplink_namespace(
        &mut self,
        namespace: &Namespace,
        published: bool,
        now: Instant,
    ) {
        let publishers = self.namespaces.entry(namespace.clone()).or_default();
        let was = std::mem::replace(&mut publishers.uplink, published);
        if publishers.local.is_empty() {
            if !published {
                self.namespaces.remove(namespace);
            }
            if was != published {
                self.tell_watchers(namespace, published);
            }
        }
        if published && !was {
            self.look_for_sources(|name| name.namespace().has_prefix(namespace), now);
        }
    }

    /// A session wants to hear of namespaces.
    pub fn handle_subscribe_namespace(
        &mut self,
        id: SessionId,
        request: RequestId,
        prefix: &Namespace,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.watching.insert(request, prefix.clone());
        for namespace in self.namespaces.keys().filter(|name| name.has_prefix(prefix)) {
            self.actions.push_back(RouteAction::Namespace(id, request, namespace.clone()));
        }
    }

    /// It no longer does.
    pub fn handle_unsubscribe_namespace(&mut self, id: SessionId, request: RequestId) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.watching.remove(&request);
        }
    }

    fn tell_watchers(&mut self, namespace: &Namespace, published: bool) {
        for (id, session) in &self.sessions {
            for (request, _) in session.watching.iter().filter(|(_, p)| namespace.has_prefix(p)) {
                let namespace = namespace.clone();
                self.actions.push_back(if published {
                    RouteAction::Namespace(*id, *request, namespace)
                } else {
                    RouteAction::NamespaceDone(*id, *request, namespace)
                });
            }
        }
    }

    fn tell_uplink(&mut self, namespace: &Namespace, published: bool) {
        for (id, _) in self.sessions.iter().filter(|(_, session)| session.peer == Peer::Uplink) {
            let namespace = namespace.clone();
            self.actions.push_back(if published {
                RouteAction::Announce(*id, namespace)
            } else {
                RouteAction::Unannounce(*id, namespace)
            });
        }
    }

    /// A session subscribes to a track and will wait that long for a publisher.
    pub fn handle_subscribe(
        &mut self,
        id: SessionId,
        request: RequestId,
        name: &FullTrackName,
        rendezvous: Duration,
        now: Instant,
    ) {
        let until = now + rendezvous.min(self.config.rendezvous);
        if !self.tracks.contains_key(name) {
            let track = TrackId(self.next_track);
            self.next_track += 1;
            self.names.insert(track, name.clone());
            self.tracks.insert(
                name.clone(),
                Entry {
                    id: track,
                    source: Source::Missing { since: now, retry: None },
                    successor: None,
                    subscribers: BTreeMap::new(),
                    refused: BTreeSet::new(),
                },
            );
        }
        let Some(entry) = self.tracks.get_mut(name) else { return };
        if let Source::Live(_) = entry.source {
            entry.subscribers.insert((id, request), Subscriber::Served);
            self.actions.push_back(RouteAction::Accept(id, request, entry.id));
            return;
        }
        entry.subscribers.insert((id, request), Subscriber::Waiting(until));
        if matches!(entry.source, Source::Missing { .. }) {
            self.find_source(name, now);
        }
        self.expire(name, now);
        self.release(name);
    }

    /// A subscription ended, by its subscriber or because it was let go.
    pub fn handle_unsubscribe(&mut self, id: SessionId, request: RequestId, track: TrackId) {
        let Some(name) = self.names.get(&track).cloned() else { return };
        if let Some(entry) = self.tracks.get_mut(&name) {
            entry.subscribers.remove(&(id, request));
        }
        self.release(&name);
    }

    /// A subscription that was never accepted was cancelled.
    pub fn handle_cancelled(&mut self, id: SessionId, request: RequestId) {
        let waits = |entry: &Entry| entry.subscribers.contains_key(&(id, request));
        let found = self.tracks.iter().find(|(_, entry)| waits(entry)).map(|(_, entry)| entry.id);
        if let Some(track) = found {
            self.handle_unsubscribe(id, request, track);
        }
    }

    /// The upstream accepted our subscription.
    pub fn handle_upstream_ok(&mut self, id: SessionId, track: TrackId) {
        let Some(entry) = self.names.get(&track).and_then(|name| self.tracks.get_mut(name)) else {
            return;
        };
        if entry.successor == Some(id) {
            entry.successor = None;
            if let Source::Pending(old) | Source::Live(old) = entry.source {
                self.actions.push_back(RouteAction::Unsubscribe(old, track));
            }
        } else if entry.source != Source::Pending(id) {
            return;
        }
        entry.source = Source::Live(id);
        entry.refused.clear();
        for ((session, request), subscriber) in &mut entry.subscribers {
            if std::mem::replace(subscriber, Subscriber::Served) != Subscriber::Served {
                self.actions.push_back(RouteAction::Accept(*session, *request, track));
            }
        }
    }

    /// The upstream refused our subscription.
    pub fn handle_upstream_error(
        &mut self,
        id: SessionId,
        track: TrackId,
        error: &RequestError,
        now: Instant,
    ) {
        let Some(name) = self.names.get(&track).cloned() else { return };
        let Some(entry) = self.tracks.get_mut(&name) else { return };
        if entry.successor == Some(id) {
            entry.successor = None;
            return;
        }
        if !matches!(entry.source, Source::Pending(s) | Source::Live(s) if s == id) {
            return;
        }
        entry.refused.insert(id);
        entry.source = Source::Missing { since: now, retry: None };
        self.find_source(&name, now);
        let Some(entry) = self.tracks.get_mut(&name) else { return };
        if let Source::Missing { since, .. } = entry.source {
            // Nobody else has it. Whoever can wait does; the others hear what the upstream said.
            entry.source = Source::Missing { since, retry: Some(now + self.config.retry) };
            entry.refused.clear();
            let actions = &mut self.actions;
            entry.subscribers.retain(|(session, request), subscriber| match subscriber {
                Subscriber::Waiting(until) if *until <= now => {
                    actions.push_back(RouteAction::Reject(*session, *request, error.clone()));
                    false
                }
                _ => true,
            });
        }
        self.release(&name);
    }

    /// The upstream ended our subscription. When the track itself is over so are those below;
    /// otherwise they wait for another source.
    pub fn handle_upstream_done(
        &mut self,
        id: SessionId,
        track: TrackId,
        code: PublishDoneCode,
        now: Instant,
    ) {
        let Some(name) = self.names.get(&track).cloned() else { return };
        let Some(entry) = self.tracks.get_mut(&name) else { return };
        if entry.successor == Some(id) {
            entry.successor = None;
            return;
        }
        if entry.source != Source::Live(id) {
            return;
        }
        if let Some(successor) = entry.successor.take() {
            entry.source = Source::Pending(successor);
            return;
        }
        entry.source = Source::Missing { since: now, retry: Some(now + self.config.retry) };
        let over = code == PublishDoneCode::TRACK_ENDED || code == PublishDoneCode::MALFORMED_TRACK;
        if over {
            let served = std::mem::take(&mut entry.subscribers);
            self.actions.extend(served.keys().map(|(s, r)| RouteAction::End(*s, *r, track, code)));
            self.release(&name);
        } else {
            self.find_source(&name, now);
        }
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        let names: Vec<_> = self.tracks.keys().cloned().collect();
        for name in names {
            let Some(entry) = self.tracks.get_mut(&name) else { continue };
            if let Source::Missing { since, retry } = entry.source {
                if retry.is_some_and(|retry| retry <= now) {
                    entry.source = Source::Missing { since, retry: None };
                    self.find_source(&name, now);
                }
                self.give_up(&name, since, now);
            }
            self.expire(&name, now);
            self.release(&name);
        }
    }

    /// Ends what outlived its publisher for too long.
    fn give_up(&mut self, name: &FullTrackName, since: Instant, now: Instant) {
        let Some(entry) = self.tracks.get_mut(name) else { return };
        let missing = matches!(entry.source, Source::Missing { .. });
        if !missing || now.saturating_duration_since(since) < self.config.linger {
            return;
        }
        let (track, actions) = (entry.id, &mut self.actions);
        entry.subscribers.retain(|(session, request), subscriber| {
            let served = *subscriber == Subscriber::Served;
            if served {
                let code = PublishDoneCode::TRACK_ENDED;
                actions.push_back(RouteAction::End(*session, *request, track, code));
            }
            !served
        });
    }

    /// Refuses those that waited long enough for a publisher.
    fn expire(&mut self, name: &FullTrackName, now: Instant) {
        let Some(entry) = self.tracks.get_mut(name) else { return };
        // While a source is asked its answer decides.
        if !matches!(entry.source, Source::Missing { .. }) {
            return;
        }
        let since = match entry.source {
            Source::Missing { since, .. } => since,
            _ => now,
        };
        let actions = &mut self.actions;
        entry.subscribers.retain(|(session, request), subscriber| match subscriber {
            Subscriber::Waiting(until) if *until <= now => {
                let (code, reason) = if since < now {
                    (RequestErrorCode::TIMEOUT, format!("no publisher of {name} came in time"))
                } else {
                    (RequestErrorCode::DOES_NOT_EXIST, format!("nobody publishes {name}"))
                };
                let error = RequestError::new(code, reason).retry_after(1000);
                actions.push_back(RouteAction::Reject(*session, *request, error));
                false
            }
            _ => true,
        });
    }

    /// Lets go of a track that nobody wants.
    fn release(&mut self, name: &FullTrackName) {
        let Some(entry) = self.tracks.get(name).filter(|entry| entry.subscribers.is_empty()) else {
            return;
        };
        if let Source::Pending(source) | Source::Live(source) = entry.source {
            self.actions.push_back(RouteAction::Unsubscribe(source, entry.id));
        }
        if let Some(successor) = entry.successor {
            self.actions.push_back(RouteAction::Unsubscribe(successor, entry.id));
        }
        self.actions.push_back(RouteAction::Forget(entry.id));
        self.names.remove(&entry.id);
        self.tracks.remove(name);
    }

    fn look_for_sources(&mut self, wanted: impl Fn(&FullTrackName) -> bool, now: Instant) {
        let missing = |entry: &Entry| matches!(entry.source, Source::Missing { .. });
        let names: Vec<_> = self
            .tracks
            .iter()
            .filter(|(name, entry)| missing(entry) && wanted(name))
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            self.find_source(&name, now);
        }
    }

    /// Asks the best source that has not refused, if there is one.
    fn find_source(&mut self, name: &FullTrackName, _now: Instant) {
        let Some(entry) = self.tracks.get(name) else { return };
        let local = self
            .namespaces
            .iter()
            .filter(|(namespace, _)| name.namespace().has_prefix(namespace))
            // The longest prefix is the closest publisher, the newest session the likeliest alive.
            .max_by_key(|(namespace, publishers)| {
                let usable = publishers.local.iter().any(|s| !entry.refused.contains(s));
                (usable, namespace.fields().len())
            })
            .and_then(|(_, publishers)| {
                publishers.local.iter().rev().find(|s| !entry.refused.contains(s)).copied()
            });
        let only_uplink_asks = || {
            entry
                .subscribers
                .keys()
                .all(|(s, _)| self.sessions.get(s).is_some_and(|s| s.peer == Peer::Uplink))
        };
        let uplink = || {
            let mut uplinks =
                self.sessions.iter().filter(|(_, session)| session.peer == Peer::Uplink);
            let (id, _) = uplinks.find(|(id, _)| !entry.refused.contains(id))?;
            (!only_uplink_asks()).then_some(*id)
        };
        let Some(source) = local.or_else(uplink) else { return };
        let action = RouteAction::Subscribe(source, entry.id, name.clone());
        if let Some(entry) = self.tracks.get_mut(name) {
            entry.source = Source::Pending(source);
            self.actions.push_back(action);
        }
    }
}

#[cfg(test)]
mod tests;
