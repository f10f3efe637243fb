//! A relay: a router, its tracks, and a session for each peer. What `relay/src/node` is to tokio.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use moqt::SessionCode;
use relay_core::{
    CacheLimits, Peer as Kind, Policy, RouteAction, Router, RouterConfig, SessionId, Track,
    TrackError, TrackId,
};

use crate::peer::Peer;
use crate::timeline::Timeline;
use crate::wire::Wire;
use crate::world::{LinkId, Links};

/// How long subscriptions outlive their publisher here.
pub(crate) const LINGER: Duration = Duration::from_secs(2);
/// Cached subgroups are looked at this often.
const EVICTION: Duration = Duration::from_millis(500);

/// What the sessions of a relay share.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) name: &'static str,
    pub(crate) timeline: Timeline,
    pub(crate) router: Router,
    pub(crate) tracks: BTreeMap<TrackId, Track>,
    pub(crate) policy: Policy,
    pub(crate) limits: CacheLimits,
    /// What the router wants of sessions.
    actions: VecDeque<RouteAction>,
    /// Datagrams that came: their tracks and payload bytes.
    pub(crate) datagrams: Vec<(TrackId, u64)>,
    /// Tracks that only those who still send the end of them need.
    forgotten: BTreeSet<TrackId>,
}

impl Core {
    /// A publisher is said to have done wrong, which none does here.
    pub(crate) fn fault(&self, session: SessionId, error: &TrackError) {
        self.timeline.violate(self.name, format_args!("session {}: {error}", session.0));
    }

    /// Hears what the router wants: caches at once, what sessions are to do in its turn.
    pub(crate) fn heed(&mut self) {
        while let Some(action) = self.router.poll_action() {
            match action {
                RouteAction::Begin(track, _) => {
                    let limits = self.limits;
                    let new = || Track::new(limits);
                    self.tracks.entry(track).or_insert_with(new);
                }
                RouteAction::Offline(track) => {
                    if let Some(track) = self.tracks.get_mut(&track) {
                        track.handle_offline();
                    }
                }
                RouteAction::Forget(track) => {
                    self.forgotten.insert(track);
                }
                other => self.actions.push_back(other),
            }
        }
    }
}

#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) core: Core,
    pub(crate) peers: BTreeMap<SessionId, Peer>,
    next_session: u64,
    next_eviction: Instant,
}

/// What a relay is set up with, which a restart does not change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) name: &'static str,
    pub(crate) policy: Policy,
    pub(crate) limits: CacheLimits,
}

impl Relay {
    pub(crate) fn new(setup: Setup, timeline: Timeline) -> Self {
        let config = RouterConfig { linger: LINGER, ..RouterConfig::default() };
        let next_eviction = timeline.now() + EVICTION;
        Self {
            core: Core {
                name: setup.name,
                timeline,
                router: Router::new(config),
                tracks: BTreeMap::new(),
                policy: setup.policy,
                limits: setup.limits,
                actions: VecDeque::new(),
                datagrams: Vec::new(),
                forgotten: BTreeSet::new(),
            },
            peers: BTreeMap::new(),
            next_session: 1,
            next_eviction,
        }
    }

    /// A session begins on a link.
    pub(crate) fn connect(&mut self, link: LinkId, wire: Wire, kind: Kind, links: &mut Links) {
        let id = SessionId(self.next_session);
        self.next_session += 1;
        let mut peer = Peer::new(id, link, kind, wire, self.core.policy);
        peer.wire.flush(links.get_mut(link));
        self.peers.insert(id, peer);
    }

    /// Something arrived on one of its links, or time passed.
    pub(crate) fn handle(
        &mut self,
        link: LinkId,
        arrival: Option<crate::link::Arrival>,
        links: &mut Links,
    ) {
        if let Some(peer) = self.peers.values_mut().find(|peer| peer.link == link)
            && let Some(arrival) = arrival
        {
            peer.wire.handle(arrival, links.get_mut(link));
        }
        self.settle(links);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let peers = self.peers.values().filter_map(Peer::poll_timeout);
        let evicts = (!self.core.tracks.is_empty()).then_some(self.next_eviction);
        peers.chain(self.core.router.poll_timeout()).chain(evicts).min()
    }

    pub(crate) fn handle_timeout(&mut self, links: &mut Links) {
        let now = self.core.timeline.now();
        if self.core.router.poll_timeout().is_some_and(|at| at <= now) {
            self.core.router.handle_timeout(now);
        }
        if self.next_eviction <= now {
            self.next_eviction = now + EVICTION;
            for track in self.core.tracks.values_mut() {
                track.evict(now);
            }
        }
        for peer in self.peers.values_mut() {
            peer.handle_timeout(&mut self.core, links.get_mut(peer.link));
        }
        self.settle(links);
    }

    /// Does all that is to do until nothing is left.
    fn settle(&mut self, links: &mut Links) {
        for _ in 0..1000 {
            let mut busy = false;
            for peer in self.peers.values_mut() {
                while let Some(said) = peer.wire.poll_said() {
                    busy = true;
                    peer.handle(said, &mut self.core, links.get_mut(peer.link));
                }
            }
            for (track, bytes) in std::mem::take(&mut self.core.datagrams) {
                for peer in self.peers.values_mut() {
                    peer.offered.datagram(track, bytes);
                }
            }
            let gone: Vec<_> =
                self.peers.values().filter(|p| p.wire.is_closed).map(|p| p.id).collect();
            for id in gone {
                self.close(id);
            }
            self.core.heed();
            while let Some(action) = self.core.actions.pop_front() {
                busy = true;
                self.dispatch(action, links);
                self.core.heed();
            }
            if !busy {
                for peer in self.peers.values_mut() {
                    busy |= peer.pump(&mut self.core, links.get_mut(peer.link));
                }
            }
            if !busy {
                return self.forget();
            }
        }
        self.core.timeline.violate(self.core.name, "is busy without end");
    }

    fn forget(&mut self) {
        let Core { forgotten, tracks, .. } = &mut self.core;
        let peers = &self.peers;
        forgotten.retain(|track| {
            let needed = peers.values().any(|peer| peer.outbox.tracks().any(|(_, t)| t == *track));
            if !needed {
                tracks.remove(track);
            }
            needed
        });
    }

    fn close(&mut self, id: SessionId) {
        let Some(mut peer) = self.peers.remove(&id) else { return };
        self.core.timeline.note(self.core.name, format_args!("session {} ended", id.0));
        if let Some(error) = &peer.wire.error {
            let what = format!("session {} broke the protocol: {error}", id.0);
            self.core.timeline.violate(self.core.name, what);
        }
        peer.close(&mut self.core);
        self.core.router.handle_session_closed(id, self.core.timeline.now());
    }

    fn dispatch(&mut self, action: RouteAction, links: &mut Links) {
        let id = match &action {
            RouteAction::Begin(..) | RouteAction::Offline(_) | RouteAction::Forget(_) => return,
            RouteAction::Announce(id, _)
            | RouteAction::Unannounce(id, _)
            | RouteAction::Namespace(id, ..)
            | RouteAction::NamespaceDone(id, ..)
            | RouteAction::Follow(id)
            | RouteAction::Offer(id, ..)
            | RouteAction::Subscribe(id, ..)
            | RouteAction::Unsubscribe(id, _)
            | RouteAction::Forward(id, ..)
            | RouteAction::NewGroup(id, ..)
            | RouteAction::Accept(id, ..)
            | RouteAction::Reject(id, ..)
            | RouteAction::End(id, ..) => *id,
        };
        let Core { name, timeline, router, .. } = &self.core;
        let what = match &action {
            RouteAction::Subscribe(_, _, upstream) => {
                Some(format!("subscribe to {}", upstream.name))
            }
            RouteAction::Unsubscribe(_, track) => Some(format!("unsubscribe track {}", track.0)),
            RouteAction::Forward(_, track, forward) => {
                let name = router.name(*track).map(ToString::to_string).unwrap_or_default();
                Some(format!("forward {forward} for {name}"))
            }
            RouteAction::End(_, request, _, code) => {
                Some(format!("end of request {request}: {code}"))
            }
            _ => None,
        };
        if let Some(what) = what {
            timeline.note(name, format_args!("to session {}: {what}", id.0));
        }
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.carry_out(action, &mut self.core, links.get_mut(peer.link));
        }
    }

    /// Ends every session; `after`: when the peers hear of it.
    pub(crate) fn stop(&mut self, after: Option<Duration>, links: &mut Links) {
        for peer in self.peers.values() {
            let code = after.is_none().then_some(SessionCode::NO_ERROR);
            links.get_mut(peer.link).close(peer.wire.side, code, after);
        }
        self.peers.clear();
    }

    /// Who wants something done now, though it was just asked.
    pub(crate) fn tell_who_is_busy(&self) {
        let Core { name, timeline, router, .. } = &self.core;
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= timeline.now());
        if due(router.poll_timeout()) {
            timeline.note(name, "the router is due");
        }
        for peer in self.peers.values() {
            for (what, at) in peer.timeouts() {
                if due(at) {
                    timeline.note(name, format_args!("session {}: {what} is due", peer.id.0));
                }
            }
        }
    }

    /// What must hold at any time.
    pub(crate) fn check(&self) {
        let Core { name, timeline, tracks, limits, .. } = &self.core;
        for peer in self.peers.values() {
            let wrong = peer.offered.check(&peer.outbox, |id| tracks.get(&id), timeline.now());
            if let Some(wrong) = wrong {
                timeline.violate(name, format_args!("session {}: {wrong}", peer.id.0));
            }
        }
        for track in tracks.values() {
            // A chunk comes in before something goes.
            let most = limits.bytes + limits.bytes / 4 + 10_000;
            if track.held_bytes() > most {
                let what = format!("holds {} bytes of a track", track.held_bytes());
                timeline.violate(name, what);
            }
        }
    }

    /// What must hold when everybody but the other relay has left for long.
    pub(crate) fn check_empty(&self) {
        let Core { name, timeline, tracks, router, .. } = &self.core;
        for (_, track, _) in router.tracks() {
            timeline.violate(name, format_args!("the router still knows track {track}"));
        }
        for (namespace, local) in router.namespaces() {
            let what = format!("the router still knows namespace {namespace} (local: {local})");
            timeline.violate(name, what);
        }
        if !tracks.is_empty() {
            timeline.violate(name, format_args!("{} caches are left", tracks.len()));
        }
        if self.peers.len() != 1 {
            timeline.violate(name, format_args!("{} sessions are left", self.peers.len()));
        }
        for peer in self.peers.values() {
            for (what, count) in peer.holdings().into_iter().filter(|(_, count)| *count > 0) {
                timeline.violate(name, format_args!("session {}: {count} {what}", peer.id.0));
            }
            // Those by which relays hear of each other's namespaces and tracks.
            let requests = peer.wire.session.open_requests();
            if requests > 3 {
                timeline.violate(name, format_args!("{requests} requests are left open"));
            }
        }
    }
}
