//! Namespaces and tracks that each tells the other of ("Namespace Discovery").

use moqt::{
    Parameters, PublishNamespace, RequestOk, Response, SubscribeNamespace, SubscribeTracks,
};

use super::*;

/// A SUBSCRIBE_NAMESPACE of the peer.
pub(super) struct Watched {
    prefix: Namespace,
}

/// A SUBSCRIBE_TRACKS of the peer.
pub(super) struct Followed {
    prefix: Namespace,
    forward: bool,
}

impl Session {
    // ---- we tell the peer ----

    pub(super) fn announce(&mut self, namespace: Namespace) -> Result<(), Error> {
        let parameters = Parameters::default();
        let request = PublishNamespace { namespace: namespace.clone(), parameters };
        let id = self.request(Request::PublishNamespace(request))?;
        self.announced.insert(namespace, id);
        Ok(())
    }

    pub(super) fn unannounce(&mut self, namespace: &Namespace) {
        if let Some(id) = self.announced.remove(namespace) {
            self.driver.session_mut().cancel(id, ResetCode::CANCELLED);
        }
    }

    pub(super) fn tell_namespace(
        &mut self,
        request: RequestId,
        namespace: &Namespace,
        published: bool,
    ) -> Result<(), Error> {
        let Some(watched) = self.watched.get(&request) else { return Ok(()) };
        let Some(suffix) = namespace.suffix(&watched.prefix) else { return Ok(()) };
        self.respond(
            request,
            match published {
                true => Response::Namespace(suffix),
                false => Response::NamespaceDone(suffix),
            },
        )
    }

    /// Asks another relay for its tracks, but not yet for their objects.
    pub(super) fn follow(&mut self) -> Result<(), Error> {
        let parameters = Parameters { forward: Some(false), ..Parameters::default() };
        let all = SubscribeTracks { prefix: Namespace::default(), parameters };
        self.request(Request::SubscribeTracks(all))?;
        Ok(())
    }

    pub(super) fn handle_names_response(&mut self, id: RequestId, response: Response) {
        let namespace = match response {
            Response::Namespace(suffix) => Some((suffix, true)),
            Response::NamespaceDone(suffix) => Some((suffix, false)),
            Response::Error(error) => {
                if self.namespaces == Some(id) {
                    tracing::warn!(code = %error.code, "the parent lists no namespaces");
                } else if let Some((namespace, _)) = self.announced.iter().find(|(_, r)| **r == id)
                {
                    tracing::warn!(%namespace, code = %error.code, "the parent refused a namespace");
                }
                None
            }
            _ => None,
        };
        if let (Some((namespace, published)), true) = (namespace, self.namespaces == Some(id)) {
            let session = self.id;
            self.node.route(|router, now| {
                router.handle_uplink_namespace(session, &namespace, published, now);
            });
        }
    }

    // ---- the peer tells us ----

    pub(super) fn handle_publish_namespace(
        &mut self,
        id: RequestId,
        publish: PublishNamespace,
    ) -> Result<(), Error> {
        let (session, namespace) = (self.id, publish.namespace);
        let taken = self
            .node
            .route(|router, now| router.handle_publish_namespace(session, id, &namespace, now));
        match taken {
            Ok(()) => {
                self.become_publisher(&namespace);
                self.warn_of_circle(&namespace);
                tracing::info!(%namespace, session = session.0, "published");
                self.respond(id, Response::Ok(RequestOk::default()))
            }
            Err(error) => self.respond(id, Response::Error(*error)),
        }
    }

    /// Says so if this relay's own reports come from below.
    fn warn_of_circle(&self, namespace: &Namespace) {
        let node = &self.node.config.node;
        if super::super::report_namespace(node).as_ref() == Ok(namespace) {
            let remote = self.info.connection.remote_address();
            tracing::warn!(node, %remote, "a relay below goes by this relay's name: give it a --node of \
                its own, or see whether --upstream leads round in a circle");
        }
    }

    pub(super) fn handle_subscribe_namespace(
        &mut self,
        id: RequestId,
        watch: SubscribeNamespace,
    ) -> Result<(), Error> {
        self.respond(id, Response::Ok(RequestOk::default()))?;
        let (session, prefix) = (self.id, watch.prefix);
        self.watched.insert(id, Watched { prefix: prefix.clone() });
        self.node.route(|router, _| router.handle_subscribe_namespace(session, id, &prefix));
        Ok(())
    }

    pub(super) fn handle_subscribe_tracks(
        &mut self,
        id: RequestId,
        follow: SubscribeTracks,
    ) -> Result<(), Error> {
        self.respond(id, Response::Ok(RequestOk::default()))?;
        let forward = follow.parameters.forward.unwrap_or(true);
        self.followed.insert(id, Followed { prefix: follow.prefix, forward });
        self.follow_for(id);
        Ok(())
    }

    fn follow_for(&self, id: RequestId) {
        let Some(Followed { prefix, forward }) = self.followed.get(&id) else { return };
        let session = self.id;
        self.node.route(|router, _| router.handle_subscribe_tracks(session, id, prefix, *forward));
    }

    /// "Updating Namespace Subscriptions".
    pub(super) fn update_names(&mut self, id: RequestId, change: &Parameters) {
        let prefix = change.track_namespace_prefix.clone();
        if let (Some(watched), Some(prefix)) = (self.watched.get_mut(&id), &prefix) {
            watched.prefix.clone_from(prefix);
            let session = self.id;
            self.node.route(|router, _| router.handle_subscribe_namespace(session, id, prefix));
        }
        if let Some(followed) = self.followed.get_mut(&id) {
            followed.prefix = prefix.unwrap_or_else(|| followed.prefix.clone());
            followed.forward = change.forward.unwrap_or(followed.forward);
            self.follow_for(id);
        }
    }

    /// A request about names is over.
    pub(super) fn end_names(&mut self, id: RequestId) {
        let session = self.id;
        if self.watched.remove(&id).is_some() {
            self.node.route(|router, _| router.handle_unsubscribe_namespace(session, id));
        } else if self.followed.remove(&id).is_some() {
            self.node.route(|router, _| router.handle_unsubscribe_tracks(session, id));
        } else if self.namespaces == Some(id) {
            self.namespaces = None;
            self.node.route(|router, _| router.handle_uplink_silent(session));
        } else {
            self.node.route(|router, _| router.handle_unpublish_namespace(session, id));
        }
    }
}
