//! Which publishers a track is had from ("Publisher Interactions").

use super::*;

/// How often a publisher that refused a track is asked again while another has it.
const REJOINS: u32 = 4;

/// What a SUBSCRIBE of ours must say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The track.
    pub name: FullTrackName,
    /// NEW_GROUP_REQUEST, when a viewer waits for one.
    pub new_group: Option<u64>,
}

/// A publisher that a track is had from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Our SUBSCRIBE is not answered.
    Pending {
        /// Until when it must be.
        until: Instant,
    },
    /// It is.
    Subscribed,
    /// It sent PUBLISH.
    Published {
        /// The FORWARD it was told.
        forward: bool,
        /// Whether it is below us, so that its namespace counts as published here.
        local: bool,
    },
}

impl Source {
    pub(super) fn is_live(&self) -> bool {
        !matches!(self, Self::Pending { .. })
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Pending { until } => Some(*until),
            _ => None,
        }
    }
}

impl Entry {
    /// Whether it is known by a PUBLISH.
    pub(super) fn is_published(&self) -> bool {
        self.sources.values().any(|source| matches!(source, Source::Published { .. }))
    }
}

impl Router {
    /// A session publishes a track (PUBLISH). Returns the track and the FORWARD to answer with; an
    /// error is to be sent back. It takes the place of a subscription of ours to the same at that
    /// session, which the shell is to end before it answers.
    pub fn handle_publish(
        &mut self,
        id: SessionId,
        name: &FullTrackName,
        now: Instant,
    ) -> Result<(TrackId, bool), Box<RequestError>> {
        self.check_reserved(id, name.namespace())?;
        let local = self.sessions.get(&id).is_some_and(|session| session.peer != Peer::Uplink);
        let (max, track) = (self.config.sources, self.entry(name, now));
        let Some(entry) = self.tracks.get_mut(name) else { return Ok((track, false)) };
        match entry.sources.get(&id) {
            Some(Source::Published { .. }) => {
                let reason = format!("{name} is published by this session already");
                let code = RequestErrorCode::DUPLICATE_SUBSCRIPTION;
                return Err(Box::new(RequestError::new(code, reason)));
            }
            Some(_) => {}
            None if entry.sources.len() >= max => {
                let reason = format!("{name} has {max} publishers here already");
                return Err(Box::new(RequestError::new(RequestErrorCode::EXCESSIVE_LOAD, reason)));
            }
            None => {}
        }
        let forward = entry.is_forwarded_from(id, &self.relays);
        entry.sources.insert(id, Source::Published { forward, local });
        // Whoever would not have it then may want it now.
        let (served, waiting) = (&entry.served, &entry.waiting);
        entry
            .offered
            .retain(|id| served.keys().chain(waiting.keys()).any(|(session, _)| session == id));
        self.came_live(name);
        if local {
            self.count_track(name.namespace(), true);
        }
        self.offer(name);
        Ok((track, forward))
    }

    /// The upstream accepted our subscription.
    pub fn handle_upstream_ok(&mut self, id: SessionId, track: TrackId) {
        let Some((name, entry)) = self.entry_of(track) else { return };
        let Some(source @ Source::Pending { .. }) = entry.sources.get_mut(&id) else { return };
        *source = Source::Subscribed;
        self.came_live(&name);
    }

    /// A source is established: whoever can be served from it waits no more.
    fn came_live(&mut self, name: &FullTrackName) {
        let Some(entry) = self.tracks.get_mut(name) else { return };
        entry.missing = None;
        entry.refused.clear();
        for (key, waiting) in std::mem::take(&mut entry.waiting) {
            if entry.is_live_for(key.0, &self.relays) {
                entry.served.insert(key, true);
                self.actions.push_back(RouteAction::Accept(key.0, key.1, entry.id));
            } else {
                entry.waiting.insert(key, waiting);
            }
        }
    }

    /// The upstream refused our subscription, or it broke off.
    pub fn handle_upstream_error(
        &mut self,
        id: SessionId,
        track: TrackId,
        error: &RequestError,
        now: Instant,
    ) {
        let retry = self.config.retry;
        let Some((name, entry)) = self.entry_of(track) else { return };
        if !entry.sources.contains_key(&id) {
            return;
        }
        entry.refused.insert(id);
        if entry.is_live() && entry.rejoin.is_none() && entry.rejoins < REJOINS {
            entry.rejoin = Some(now + retry.saturating_mul(1 << entry.rejoins));
            entry.rejoins += 1;
        }
        self.remove_source(id, &name, now);
        // If nobody else has it, whoever can wait does; the others hear why not.
        if let Some(entry) = self.tracks.get(&name).filter(|entry| entry.missing.is_some()) {
            if !entry.ended.is_empty() {
                // Who had it says that it is over, and who was asked then does not have it.
                self.end_all(&name, PublishDoneCode::TRACK_ENDED);
            }
            self.refuse(&name, error, now);
        }
        self.settle(&name);
    }

    /// Asks publishers that refused a track which others have, some times and ever less often.
    pub(super) fn ask_once_more(&mut self, name: &FullTrackName, now: Instant) {
        let Some(entry) = self.tracks.get_mut(name) else { return };
        if entry.rejoin.is_none_or(|at| at > now) {
            return;
        }
        entry.rejoin = None;
        if !entry.is_live() {
            return;
        }
        for id in std::mem::take(&mut entry.refused) {
            if self.local_publishers(name).contains(&id) {
                self.ask(id, name, now);
            }
        }
    }

    /// Gives up on upstreams that did not answer in time.
    pub(super) fn give_up_unanswered(&mut self, name: &FullTrackName, now: Instant) {
        let Some(entry) = self.tracks.get(name) else { return };
        let track = entry.id;
        let late: Vec<_> = entry
            .sources
            .iter()
            .filter(|(_, source)| source.deadline().is_some_and(|until| until <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            self.actions.push_back(RouteAction::Unsubscribe(id, track));
            let reason = format!("the publisher of {name} did not answer");
            let error = RequestError::new(RequestErrorCode::TIMEOUT, reason).retry_after(1000);
            self.handle_upstream_error(id, track, &error, now);
        }
    }

    /// The upstream ended our subscription. When the track itself is over, and nobody else
    /// publishes it, so are those below; otherwise they wait for another source.
    pub fn handle_upstream_done(
        &mut self,
        id: SessionId,
        track: TrackId,
        code: PublishDoneCode,
        now: Instant,
    ) {
        let Some((name, entry)) = self.entry_of(track) else { return };
        if !entry.sources.contains_key(&id) {
            return;
        }
        if code == PublishDoneCode::MALFORMED_TRACK {
            return self.handle_malformed(track, now);
        }
        // It may have the track again later, but not at once.
        match code {
            PublishDoneCode::TRACK_ENDED => entry.ended.insert(id),
            _ => entry.refused.insert(id),
        };
        self.remove_source(id, &name, now);
        let missing = self.tracks.get(&name).is_some_and(|entry| entry.missing.is_some());
        if missing && code == PublishDoneCode::TRACK_ENDED {
            self.end_all(&name, code);
        }
        self.settle(&name);
    }

    /// A track is malformed: every subscription to it ends, ours first ("Malformed Tracks").
    pub fn handle_malformed(&mut self, track: TrackId, now: Instant) {
        let Some((name, entry)) = self.entry_of(track) else { return };
        let sources: Vec<_> = entry.sources.keys().copied().collect();
        for source in sources {
            self.actions.push_back(RouteAction::Unsubscribe(source, track));
            self.drop_source(source, &name, now);
        }
        if let Some(entry) = self.tracks.get_mut(&name) {
            entry.missing = Some(Missing::default());
        }
        self.end_all(&name, PublishDoneCode::MALFORMED_TRACK);
        self.settle(&name);
    }

    /// A viewer asked for a new group. `largest` is the largest group known, `dynamic` whether the
    /// track's DYNAMIC_GROUPS allows it ("NEW GROUP REQUEST Parameter").
    pub fn handle_new_group(
        &mut self,
        track: TrackId,
        wanted: u64,
        largest: Option<u64>,
        dynamic: bool,
    ) {
        let Some((_, entry)) = self.entry_of(track) else { return };
        // With no number given, any group after the largest fulfils it.
        let number = wanted.max(largest.map_or(0, |largest| largest.saturating_add(1)));
        let known = wanted != 0 && largest.is_some_and(|largest| wanted <= largest);
        if !dynamic || known {
            return;
        }
        match entry.new_group.replace(NewGroup::Asked(number)) {
            Some(NewGroup::Said(said)) if said >= wanted => return,
            Some(NewGroup::Asked(asked)) if asked >= number => {
                entry.new_group = Some(NewGroup::Asked(asked));
                return;
            }
            _ => {}
        }
        let live = entry.sources.iter().filter(|(_, source)| source.is_live());
        let asked: Vec<_> = live.map(|(id, _)| RouteAction::NewGroup(*id, track, wanted)).collect();
        self.actions.extend(asked);
    }

    /// Who to ask for objects of the past, or of the status of a track: a source of it, or
    /// whoever publishes its namespace, or the parent. Not who asks, if that is a relay.
    pub fn source_of(&self, name: &FullTrackName, asker: SessionId) -> Option<SessionId> {
        let usable = |id: &SessionId| {
            counts(asker, *id, &self.relays) && self.sessions.get(id).is_some_and(|s| !s.leaving)
        };
        let live = self.tracks.get(name).into_iter().flat_map(|entry| {
            entry.sources.iter().filter(|(_, source)| source.is_live()).map(|(id, _)| *id)
        });
        live.rev().chain(self.local_publishers(name)).chain(self.uplinks()).find(usable)
    }

    /// Sessions here that publish a prefix of the track's namespace, the closest first.
    fn local_publishers(&self, name: &FullTrackName) -> Vec<SessionId> {
        let mut matching: Vec<_> = self
            .namespaces
            .iter()
            .filter(|(namespace, _)| name.namespace().has_prefix(namespace))
            .collect();
        matching.sort_by_key(|(namespace, _)| std::cmp::Reverse(namespace.fields().len()));
        let mut seen = BTreeSet::new();
        // Whoever publishes the empty namespace does not thereby report for relays.
        let reserved = name.namespace().fields().first().is_some_and(|f| &f[..] == RESERVED);
        matching
            .into_iter()
            .flat_map(|(_, publishers)| publishers.local.iter().rev().copied())
            .filter(|id| !reserved || self.relays.contains(id))
            .filter(|id| seen.insert(*id))
            .collect()
    }

    fn uplinks(&self) -> impl Iterator<Item = SessionId> {
        let uplinks = self.sessions.iter().filter(|(_, session)| session.peer == Peer::Uplink);
        uplinks.map(|(id, _)| *id)
    }

    /// Takes one source away and looks for others; without any the track is missing, and who
    /// refused is asked again later.
    pub(super) fn remove_source(&mut self, id: SessionId, name: &FullTrackName, now: Instant) {
        if !self.drop_source(id, name, now) {
            return;
        }
        let Some(entry) = self.tracks.get_mut(name) else { return };
        if entry.sources.is_empty() {
            entry.missing = Some(Missing::default());
        }
        if entry.is_wanted() && !entry.is_live() {
            self.find_sources(name, now);
        }
        self.break_ring(name);
        if let Some(entry) = self.tracks.get_mut(name)
            && let Some(missing) = &mut entry.missing
            && !(std::mem::take(&mut entry.refused).is_empty() && entry.ended.is_empty())
        {
            missing.retry = Some(now + self.config.retry);
        }
    }

    /// Ends the subscriptions of relays that are now the only ones to give us what we give them:
    /// each of us would seem alive to the other for ever.
    fn break_ring(&mut self, name: &FullTrackName) {
        let Some(entry) = self.tracks.get_mut(name) else { return };
        let (relays, sources) = (&self.relays, &entry.sources);
        let ring = |relay: SessionId| {
            relays.contains(&relay)
                && sources.contains_key(&relay)
                && !sources.iter().any(|(id, source)| *id != relay && source.is_live())
        };
        let caught: Vec<_> = entry.served.keys().filter(|(id, _)| ring(*id)).copied().collect();
        let code = match entry.ended.is_empty() {
            true => PublishDoneCode::GOING_AWAY,
            false => PublishDoneCode::TRACK_ENDED,
        };
        for key in caught {
            entry.served.remove(&key);
            self.actions.push_back(RouteAction::End(key.0, key.1, entry.id, code));
        }
    }

    fn drop_source(&mut self, id: SessionId, name: &FullTrackName, now: Instant) -> bool {
        let Some(entry) = self.tracks.get_mut(name) else { return false };
        let removed = entry.sources.remove(&id);
        if removed.is_some_and(|source| source.is_live()) && !entry.is_live() {
            entry.offline_since = now;
            self.actions.push_back(RouteAction::Offline(entry.id));
        }
        if let Some(Source::Published { local: true, .. }) = removed {
            self.count_track(name.namespace(), false);
        }
        removed.is_some()
    }

    /// Asks a publisher that has just come for the tracks of its namespace that others give us
    /// already: objects that come twice are passed on once, and either may leave.
    pub(super) fn join_sources(&mut self, id: SessionId, namespace: &Namespace, now: Instant) {
        let names: Vec<_> = self
            .tracks
            .iter()
            .filter(|(name, entry)| entry.is_wanted() && name.namespace().has_prefix(namespace))
            .filter(|(_, entry)| !entry.sources.is_empty())
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            // It may have it now.
            if let Some(entry) = self.tracks.get_mut(&name) {
                entry.refused.remove(&id);
                entry.ended.remove(&id);
                entry.rejoins = 0;
            }
            self.ask(id, &name, now);
        }
    }

    /// Looks again for tracks that have no source, or only such as are about to leave.
    pub(super) fn look_for_sources(
        &mut self,
        wanted: impl Fn(&FullTrackName) -> bool,
        now: Instant,
    ) {
        let stays = |id: &SessionId| self.sessions.get(id).is_some_and(|s| !s.leaving);
        let names: Vec<_> = self
            .tracks
            .iter()
            .filter(|(name, entry)| entry.is_wanted() && wanted(name))
            .filter(|(_, entry)| !entry.sources.keys().any(stays))
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            self.find_sources(&name, now);
        }
    }

    /// Asks everybody here who publishes the track's namespace, or else the parent: its word that
    /// a namespace is published may be the echo of our own.
    pub(super) fn find_sources(&mut self, name: &FullTrackName, now: Instant) {
        let mut asked = false;
        for id in self.local_publishers(name) {
            asked |= self.ask(id, name, now);
        }
        let local_source = self.tracks.get(name).is_some_and(|entry| {
            entry.sources.keys().any(|id| {
                self.sessions.get(id).is_some_and(|s| s.peer != Peer::Uplink && !s.leaving)
            })
        });
        if !asked && !local_source {
            let uplinks: Vec<_> = self.uplinks().collect();
            for id in uplinks {
                if self.ask(id, name, now) {
                    break;
                }
            }
        }
    }

    /// Subscribes to the track at `id`, unless it has refused, is asked already, or is the relay
    /// that alone wants it.
    fn ask(&mut self, id: SessionId, name: &FullTrackName, now: Instant) -> bool {
        if self.sessions.get(&id).is_none_or(|session| session.leaving) {
            return false;
        }
        let Some(entry) = self.tracks.get_mut(name) else { return false };
        let wanted = entry.is_wanted_from(id, &self.relays);
        let full = entry.sources.len() >= self.config.sources;
        let would_not = entry.refused.contains(&id) || entry.ended.contains(&id);
        if !wanted || full || would_not || entry.sources.contains_key(&id) {
            return false;
        }
        entry.sources.insert(id, Source::Pending { until: now + self.config.answer });
        entry.missing = None;
        let new_group =
            entry.new_group.map(|(NewGroup::Said(group) | NewGroup::Asked(group))| group);
        let upstream = Upstream { name: name.clone(), new_group };
        self.actions.push_back(RouteAction::Subscribe(id, entry.id, upstream));
        true
    }
}
