//! Who publishes which namespaces, and who wants to hear of them ("Namespace Discovery").

use super::*;

/// Who publishes a namespace.
#[derive(Debug, Default)]
pub(super) struct Publishers {
    /// Sessions here that sent PUBLISH_NAMESPACE.
    pub(super) local: BTreeSet<SessionId>,
    /// PUBLISHed tracks in it. Their publishers are asked for nothing else.
    tracks: usize,
    /// Parents that told us of it.
    uplinks: BTreeSet<SessionId>,
}

impl Publishers {
    /// Whether it is published here or below.
    pub(super) fn is_local(&self) -> bool {
        !self.local.is_empty() || self.tracks > 0
    }

    fn is_known(&self) -> bool {
        self.is_local() || !self.uplinks.is_empty()
    }
}

impl Router {
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
        self.change(namespace, |publishers| {
            if from_uplink {
                publishers.uplinks.insert(id);
            } else {
                publishers.local.insert(id);
            }
        });
        self.look_for_sources(|name| name.namespace().has_prefix(namespace), now);
        if !from_uplink {
            self.join_sources(id, namespace, now);
        }
        Ok(())
    }

    /// A session withdrew the namespace that it published with this request.
    pub fn handle_unpublish_namespace(&mut self, id: SessionId, request: RequestId) {
        let session = self.sessions.get_mut(&id);
        if let Some(namespace) = session.and_then(|session| session.published.remove(&request)) {
            self.unpublish(id, &namespace);
        }
    }

    pub(super) fn unpublish(&mut self, id: SessionId, namespace: &Namespace) {
        // The same session may have published it twice.
        let again =
            self.sessions.get(&id).is_some_and(|s| s.published.values().any(|n| n == namespace));
        if !again {
            self.change(namespace, |publishers| {
                publishers.local.remove(&id);
                publishers.uplinks.remove(&id);
            });
        }
    }

    /// A track of the namespace is PUBLISHed, or no longer.
    pub(super) fn count_track(&mut self, namespace: &Namespace, published: bool) {
        self.change(namespace, |publishers| {
            publishers.tracks = match published {
                true => publishers.tracks + 1,
                false => publishers.tracks.saturating_sub(1),
            };
        });
    }

    /// A parent told us that a namespace is (no longer) published somewhere.
    pub fn handle_uplink_namespace(
        &mut self,
        id: SessionId,
        namespace: &Namespace,
        published: bool,
        now: Instant,
    ) {
        self.change(namespace, |publishers| {
            if published {
                publishers.uplinks.insert(id);
            } else {
                publishers.uplinks.remove(&id);
            }
        });
        if published {
            self.look_for_sources(|name| name.namespace().has_prefix(namespace), now);
        }
    }

    /// A parent tells no more of namespaces: as though each of its were gone ("SUBSCRIBE_NAMESPACE").
    pub fn handle_uplink_silent(&mut self, id: SessionId) {
        let theirs: Vec<_> = self
            .namespaces
            .iter()
            .filter(|(_, publishers)| publishers.uplinks.contains(&id))
            .map(|(namespace, _)| namespace.clone())
            .collect();
        for namespace in theirs {
            self.change(&namespace, |publishers| {
                publishers.uplinks.remove(&id);
            });
        }
    }

    /// Changes who publishes a namespace, and tells whoever must know.
    fn change(&mut self, namespace: &Namespace, change: impl FnOnce(&mut Publishers)) {
        let publishers = self.namespaces.entry(namespace.clone()).or_default();
        let (was_known, was_local) = (publishers.is_known(), publishers.is_local());
        change(publishers);
        let (known, local) = (publishers.is_known(), publishers.is_local());
        if !known {
            self.namespaces.remove(namespace);
        }
        if local != was_local {
            self.tell_uplinks(namespace, local);
        }
        if known != was_known {
            self.tell_watchers(namespace, known);
        }
    }

    pub(super) fn check_reserved(
        &self,
        id: SessionId,
        namespace: &Namespace,
    ) -> Result<(), Box<RequestError>> {
        let fields = namespace.fields();
        if fields.first().is_none_or(|first| &first[..] != RESERVED) {
            return Ok(());
        }
        let node = fields.len() == 3 && &fields[1][..] == b"nodes";
        if node && self.relays.contains(&id) {
            return Ok(());
        }
        let reason = "namespaces below weir/ are for the relays' own reports";
        Err(Box::new(RequestError::new(RequestErrorCode::UNAUTHORIZED, reason)))
    }

    /// A session wants to hear of namespaces.
    pub fn handle_subscribe_namespace(
        &mut self,
        id: SessionId,
        request: RequestId,
        prefix: &Namespace,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let before = session.watching.insert(request, prefix.clone());
        let told = |name: &Namespace| before.as_ref().is_some_and(|b| name.has_prefix(b));
        for name in self.namespaces.keys().filter(|n| n.has_prefix(prefix) && !told(n)) {
            self.actions.push_back(RouteAction::Namespace(id, request, name.clone()));
        }
    }

    /// It no longer does.
    pub fn handle_unsubscribe_namespace(&mut self, id: SessionId, request: RequestId) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.watching.remove(&request);
        }
    }

    /// A session wants to be sent PUBLISH for tracks, with this FORWARD.
    pub fn handle_subscribe_tracks(
        &mut self,
        id: SessionId,
        request: RequestId,
        prefix: &Namespace,
        forward: bool,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.following.insert(request, Following { prefix: prefix.clone(), forward });
        self.follow_relays();
        let offered: Vec<_> = self
            .tracks
            .iter()
            .filter(|(name, entry)| name.namespace().has_prefix(prefix) && entry.is_published())
            .map(|(name, _)| name.clone())
            .collect();
        for name in offered {
            self.offer_to(id, &name, forward);
        }
    }

    /// It no longer does. What was published to it goes on.
    pub fn handle_unsubscribe_tracks(&mut self, id: SessionId, request: RequestId) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.following.remove(&request);
        }
    }

    /// Asks other relays for their tracks once somebody here wants to hear of tracks.
    pub(super) fn follow_relays(&mut self) {
        let wanted =
            self.sessions.values().any(|s| s.peer == Peer::Client && !s.following.is_empty());
        if !wanted {
            return;
        }
        for (id, session) in &mut self.sessions {
            if session.peer != Peer::Client && !std::mem::replace(&mut session.followed, true) {
                self.actions.push_back(RouteAction::Follow(*id));
            }
        }
    }

    /// Sends PUBLISH for a track to everyone who wants to hear of such tracks.
    pub(super) fn offer(&mut self, name: &FullTrackName) {
        let followers: Vec<_> = self
            .sessions
            .iter()
            .filter_map(|(id, session)| {
                let mut following = session.following.values();
                let wants = following.find(|f| name.namespace().has_prefix(&f.prefix))?;
                Some((*id, wants.forward))
            })
            .collect();
        for (id, forward) in followers {
            self.offer_to(id, name, forward);
        }
    }

    /// Not to its own publisher, nor to who has asked for it or was told already.
    fn offer_to(&mut self, id: SessionId, name: &FullTrackName, forward: bool) {
        let Some(entry) = self.tracks.get_mut(name) else { return };
        let mut subscribers = entry.served.keys().chain(entry.waiting.keys());
        if entry.sources.contains_key(&id) || subscribers.any(|(session, _)| *session == id) {
            return;
        }
        if entry.offered.insert(id) {
            self.actions.push_back(RouteAction::Offer(id, entry.id, name.clone(), forward));
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

    fn tell_uplinks(&mut self, namespace: &Namespace, published: bool) {
        for (id, _) in self.sessions.iter().filter(|(_, session)| session.peer == Peer::Uplink) {
            let namespace = namespace.clone();
            self.actions.push_back(if published {
                RouteAction::Announce(*id, namespace)
            } else {
                RouteAction::Unannounce(*id, namespace)
            });
        }
    }
}
