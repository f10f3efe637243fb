//! Who is served, waits, or hears a refusal ("Subscriber Interactions").

use super::sources::Source;
use super::*;

impl Router {
    /// A session subscribes to a track and will wait that long for a publisher. `new_group` is its
    /// NEW_GROUP_REQUEST.
    pub fn handle_subscribe(
        &mut self,
        id: SessionId,
        request: RequestId,
        name: &FullTrackName,
        rendezvous: Duration,
        new_group: Option<u64>,
        now: Instant,
    ) {
        let track = self.entry(name, now);
        let Some(entry) = self.tracks.get_mut(name) else { return };
        if entry.is_live_for(id, &self.relays) {
            entry.served.insert((id, request), true);
            self.actions.push_back(RouteAction::Accept(id, request, track));
            return self.settle(name);
        }
        let until = now + rendezvous.min(self.config.rendezvous).max(self.config.grace);
        let asked = !rendezvous.is_zero();
        entry.waiting.insert((id, request), Waiting { since: now, until, asked });
        entry.new_group = entry.new_group.max(new_group.map(NewGroup::Said));
        if !entry.is_asked_for(id, &self.relays) {
            self.find_sources(name, now);
        }
        self.expire(name, now);
        self.settle(name);
    }

    /// The PUBLISH that [`RouteAction::Offer`] asked for is `request`. `false`: the track is gone
    /// meanwhile, or the session has subscribed to it itself, and PUBLISH is to be withdrawn.
    pub fn handle_offered(
        &mut self,
        id: SessionId,
        request: RequestId,
        track: TrackId,
        forward: bool,
    ) -> bool {
        let Some((name, entry)) = self.entry_of(track) else { return false };
        let mut subscribers = entry.served.keys().chain(entry.waiting.keys());
        if !entry.is_live() || subscribers.any(|(session, _)| *session == id) {
            return false;
        }
        entry.served.insert((id, request), forward);
        self.settle(&name);
        true
    }

    /// A subscriber changed its FORWARD.
    pub fn handle_forward(
        &mut self,
        id: SessionId,
        request: RequestId,
        track: TrackId,
        forward: bool,
    ) {
        let Some((name, entry)) = self.entry_of(track) else { return };
        if let Some(held) = entry.served.get_mut(&(id, request)) {
            *held = forward;
        }
        self.settle(&name);
    }

    /// A subscription ended, by its subscriber or because it was let go.
    pub fn handle_unsubscribe(&mut self, id: SessionId, request: RequestId, track: TrackId) {
        let Some((name, entry)) = self.entry_of(track) else { return };
        entry.served.remove(&(id, request));
        entry.waiting.remove(&(id, request));
        self.settle(&name);
    }

    /// A subscription was cancelled, accepted or not.
    pub fn handle_cancelled(&mut self, id: SessionId, request: RequestId) {
        let key = (id, request);
        let wants =
            |entry: &Entry| entry.waiting.contains_key(&key) || entry.served.contains_key(&key);
        let found = self.tracks.values().find(|entry| wants(entry)).map(|entry| entry.id);
        if let Some(track) = found {
            self.handle_unsubscribe(id, request, track);
        }
    }

    /// Ends every subscription that is served.
    pub(super) fn end_all(&mut self, name: &FullTrackName, code: PublishDoneCode) {
        let Some(entry) = self.tracks.get_mut(name) else { return };
        let track = entry.id;
        entry.offered.clear();
        for ((session, request), _) in std::mem::take(&mut entry.served) {
            self.actions.push_back(RouteAction::End(session, request, track, code));
        }
    }

    /// Ends what outlived its publishers for too long.
    pub(super) fn give_up(&mut self, name: &FullTrackName, now: Instant) {
        let over = self.tracks.get(name).is_some_and(|entry| {
            let offline = now.saturating_duration_since(entry.offline_since);
            entry.missing.is_some() && offline >= self.config.linger
        });
        if over {
            self.end_all(name, PublishDoneCode::TRACK_ENDED);
        }
    }

    /// Refuses those that waited long enough for a publisher. While one is asked its answer
    /// decides.
    pub(super) fn expire(&mut self, name: &FullTrackName, now: Instant) {
        let Some(entry) = self.tracks.get_mut(name) else { return };
        let over: Vec<_> = entry
            .waiting
            .iter()
            .filter(|((id, _), waiting)| {
                waiting.until <= now && !entry.is_asked_for(*id, &self.relays)
            })
            .map(|(key, waiting)| (*key, waiting.asked && waiting.since < now))
            .collect();
        for (key, waited) in over {
            let (code, reason) = match waited {
                true => (RequestErrorCode::TIMEOUT, format!("no publisher of {name} came in time")),
                false => (RequestErrorCode::DOES_NOT_EXIST, format!("nobody publishes {name}")),
            };
            entry.waiting.remove(&key);
            let error = RequestError::new(code, reason).retry_after(1000);
            self.actions.push_back(RouteAction::Reject(key.0, key.1, error));
        }
    }

    /// The last source refused: who cannot wait, or need not because waiting does not help, hears
    /// why.
    pub(super) fn refuse(&mut self, name: &FullTrackName, error: &RequestError, now: Instant) {
        let Some(entry) = self.tracks.get_mut(name) else { return };
        let waiting_helps = matches!(
            error.code,
            RequestErrorCode::DOES_NOT_EXIST
                | RequestErrorCode::TIMEOUT
                | RequestErrorCode::GOING_AWAY
                | RequestErrorCode::EXCESSIVE_LOAD
                | RequestErrorCode::INTERNAL_ERROR
        );
        let error = passed_on(error, name);
        let actions = &mut self.actions;
        entry.waiting.retain(|(session, request), waiting| {
            let waits = waiting.until > now && waiting_helps;
            if !waits {
                actions.push_back(RouteAction::Reject(*session, *request, error.clone()));
            }
            waits
        });
    }

    /// Tells the sources what is wanted now, and lets go of what nobody wants.
    pub(super) fn settle(&mut self, name: &FullTrackName) {
        let Some(entry) = self.tracks.get_mut(name) else { return };
        let track = entry.id;
        let mut sources = std::mem::take(&mut entry.sources);
        sources.retain(|id, source| match source {
            Source::Published { forward, .. } => {
                let wanted = entry.is_forwarded_from(*id, &self.relays);
                if std::mem::replace(forward, wanted) != wanted {
                    self.actions.push_back(RouteAction::Forward(*id, track, wanted));
                }
                true
            }
            Source::Pending { .. } | Source::Subscribed => {
                let wanted = entry.is_wanted_from(*id, &self.relays);
                if !wanted {
                    self.actions.push_back(RouteAction::Unsubscribe(*id, track));
                }
                wanted
            }
        });
        entry.sources = sources;
        if !entry.is_wanted() && entry.sources.is_empty() {
            self.actions.push_back(RouteAction::Forget(track));
            self.names.remove(&track);
            self.tracks.remove(name);
        }
    }
}

/// What a viewer hears of an upstream's refusal. What the upstream has against *us* is not the
/// viewer's, and where it sends us is not where the viewer is to go.
fn passed_on(error: &RequestError, name: &FullTrackName) -> RequestError {
    match error.code {
        RequestErrorCode::DOES_NOT_EXIST
        | RequestErrorCode::TIMEOUT
        | RequestErrorCode::UNSUPPORTED_EXTENSION
        | RequestErrorCode::MALFORMED_TRACK
        | RequestErrorCode::NOT_SUPPORTED => RequestError { redirect: None, ..error.clone() },
        _ => {
            let reason = format!("nobody gives us {name} at present");
            RequestError::new(RequestErrorCode::DOES_NOT_EXIST, reason).retry_after(1000)
        }
    }
}
