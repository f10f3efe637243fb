//! What the peer says, whatever stream it came on.

use super::request::{
    Kind, PendingUpdate, Phase, RequestState, Side, Subject, parameters, parameters_mut,
};
use super::{Event, Session, StreamId, internal, rules};
use crate::{
    GoAway, ProtocolError, Request, RequestError, RequestErrorCode, RequestId, RequestUpdate,
    ResetCode, Response, SessionCode, Setup, Version,
};

impl Session {
    pub(super) fn handle_setup(&mut self, mut setup: Setup) -> Result<(), ProtocolError> {
        if self.peer.is_some() {
            return Err(ProtocolError::violation("a second SETUP"));
        }
        rules::check_setup(&setup, self.config.role, self.config.transport)?;
        self.tokens.resolve_setup(&mut setup.authorization_tokens)?;
        self.peer = Some(setup.clone());
        self.events.push_back(Event::Ready(setup));
        self.process_waiting();
        Ok(())
    }

    pub(super) fn handle_goaway(&mut self, goaway: GoAway) -> Result<(), ProtocolError> {
        if std::mem::replace(&mut self.goaway_received, true) {
            return Err(ProtocolError::violation("a second GOAWAY"));
        }
        rules::check_goaway(&goaway, self.config.role)?;
        self.events.push_back(Event::GoAway(goaway));
        Ok(())
    }

    pub(super) fn handle_request_goaway(
        &mut self,
        id: RequestId,
        goaway: GoAway,
    ) -> Result<(), ProtocolError> {
        let Some(state) = self.requests.get_mut(&id) else { return Ok(()) };
        if std::mem::replace(&mut state.goaway_received, true) {
            return Err(ProtocolError::violation("a second GOAWAY on a request stream"));
        }
        if goaway.request.is_some() {
            return Err(ProtocolError::violation("a GOAWAY on a request stream names a request"));
        }
        rules::check_goaway(&goaway, self.config.role)?;
        self.events.push_back(Event::RequestGoAway { id, goaway });
        Ok(())
    }

    /// The peer asks something.
    pub(super) fn handle_first(
        &mut self,
        stream: Option<StreamId>,
        id: RequestId,
        mut request: Request,
    ) -> Result<(), ProtocolError> {
        self.peer_ids.insert(id)?;
        self.tokens.resolve(&mut parameters_mut(&mut request).authorization_tokens)?;
        if let Some(fill) = &mut parameters_mut(&mut request).fill {
            fill.request = Some(id);
        }
        self.admit(stream, id, request)
    }

    /// Opens a request of the peer, or refuses it.
    pub(super) fn admit(
        &mut self,
        stream: Option<StreamId>,
        id: RequestId,
        request: Request,
    ) -> Result<(), ProtocolError> {
        if let Some(incoming) = stream.and_then(|stream| self.streams.get_mut(&stream)) {
            incoming.request = Some(id);
        }
        let mut state = RequestState::new(stream, Side::Peer, &request);
        if let Request::Publish(publish) = &request {
            self.aliases.take(publish.track_alias, &publish.track, id)?;
            state.alias_in = Some(publish.track_alias);
        }
        let refusal = self.refusal(&state, &request);
        self.requests.insert(id, state);
        if let Some(error) = refusal {
            return self.respond(id, Response::Error(error)).map_err(internal);
        }
        self.events.push_back(Event::Requested { id, request });
        Ok(())
    }

    /// Why a new request cannot even be passed on, judged by the session alone.
    fn refusal(&self, state: &RequestState, request: &Request) -> Option<RequestError> {
        let open = self.requests.values().filter(|request| request.side == Side::Peer).count();
        if self.goaway_sent {
            let reason = "this endpoint is leaving";
            return Some(RequestError::new(RequestErrorCode::GOING_AWAY, reason));
        }
        if open >= self.config.limits.requests {
            let reason = format!("more than {} requests are open", self.config.limits.requests);
            return Some(
                RequestError::new(RequestErrorCode::EXCESSIVE_LOAD, reason).retry_after(1000),
            );
        }
        rules::check_filters(&self.config, parameters(request))
            .or_else(|| rules::check_range(request))
            .or_else(|| rules::check_mandatory(self.version(), request))
            .or_else(|| self.check_joining(state))
            .or_else(|| rules::check_subject(self.version(), state, self.requests.values()))
    }

    /// "If a publisher receives a Joining Fetch with a Request ID that does not correspond to a
    /// subscription in the same session". One that was not seen yet may be on its way.
    fn check_joining(&self, state: &RequestState) -> Option<RequestError> {
        let Subject::Joining(joining) = state.subject else { return None };
        let valid = match self.requests.get(&joining) {
            Some(other) => matches!(
                (other.side, other.kind),
                (Side::Peer, Kind::Subscribe) | (Side::Local, Kind::Publish)
            ),
            None => self.peer_ids.may_come(joining),
        };
        (!valid).then(|| {
            RequestError::new(
                RequestErrorCode::INVALID_JOINING_REQUEST_ID,
                format!("request {joining} is no open subscription"),
            )
        })
    }

    /// The peer changes a request.
    pub(super) fn handle_update(
        &mut self,
        id: RequestId,
        mut update: RequestUpdate,
    ) -> Result<(), ProtocolError> {
        let max = match self.config.setup.max_request_updates {
            Some(max @ 1..) if self.version() >= Version::Draft22 => max,
            _ => self.config.limits.updates as u64,
        };
        let Some(state) = self.requests.get(&id) else { return Ok(()) };
        if !state.peer_may_update() {
            return Err(ProtocolError::violation("REQUEST_UPDATE where none is allowed"));
        }
        rules::check_update(self.version(), state, &update.parameters)?;
        if state.received_updates.len() as u64 >= max {
            return Err(ProtocolError::new(
                SessionCode::TOO_MANY_REQUEST_UPDATES,
                format!("more than {max} updates of request {id} are unanswered"),
            ));
        }
        self.peer_ids.insert(update.id)?;
        self.tokens.resolve(&mut update.parameters.authorization_tokens)?;
        let prefix = update.parameters.track_namespace_prefix.clone();
        let refusal = rules::check_filters(&self.config, &update.parameters).or_else(|| {
            let others = self.requests.iter().filter(|(other, _)| **other != id);
            rules::check_prefix(self.version(), state, prefix.as_ref()?, others.map(|(_, s)| s))
        });
        let refused = refusal.is_some();
        let pending = PendingUpdate { id: update.id, prefix, silent: false, refused: refusal };
        if let Some(state) = self.requests.get_mut(&id) {
            state.received_updates.push_back(pending);
        }
        if refused {
            return self.refuse_updates(id).map_err(internal);
        }
        if let Some(fill) = &mut update.parameters.fill {
            fill.request = Some(update.id);
        }
        self.events.push_back(Event::Updated { id, parameters: update.parameters });
        Ok(())
    }

    /// The peer answers, or goes on. `for_update`: it answers our oldest update.
    pub(super) fn handle_response(
        &mut self,
        id: RequestId,
        response: Response,
        for_update: bool,
    ) -> Result<(), ProtocolError> {
        let (role, version) = (self.config.role, self.version());
        let Some(state) = self.requests.get_mut(&id) else { return Ok(()) };
        rules::check_response(version, state, &response, role, for_update)?;
        if for_update {
            return self.handle_update_answer(id, response);
        }
        if let Response::Namespace(_) = response
            && (state.namespaces.len() > self.config.limits.namespaces
                || state.namespace_bytes > self.config.limits.namespace_bytes)
        {
            self.end(id, Some(ResetCode::EXCESSIVE_LOAD), Some(ResetCode::EXCESSIVE_LOAD));
            return Ok(());
        }
        state.phase = Phase::Established;
        if let Some(error) = rules::unsupported(version, &response) {
            // "the subscriber MUST cancel" ("Mandatory Track Properties").
            self.cancel(id, ResetCode::CANCELLED);
            self.events.push_back(Event::Responded { id, response: Response::Error(error) });
            return Ok(());
        }
        if let (Response::SubscribeOk(ok), Some(track)) = (&response, state.track()) {
            self.aliases.take(ok.track_alias, track, id)?;
            state.alias_in = Some(ok.track_alias);
        }
        let last = matches!(response, Response::Error(_) | Response::PublishDone(_))
            || state.kind == Kind::TrackStatus;
        if let Response::Error(_) = response {
            self.fetch_orders.remove(&id);
        }
        if last && let Some(stream) = self.remove(id).and_then(|state| state.stream) {
            self.close_stream(stream);
        }
        self.events.push_back(Event::Responded { id, response });
        Ok(())
    }

    fn handle_update_answer(
        &mut self,
        id: RequestId,
        response: Response,
    ) -> Result<(), ProtocolError> {
        let Some(state) = self.requests.get_mut(&id) else { return Ok(()) };
        let Some(update) = state.sent_updates.pop_front() else { return Ok(()) };
        let result = match response {
            Response::Ok(ok) => Ok(ok),
            Response::Error(error) => Err(error),
            _ => return Err(ProtocolError::violation("an update is answered by another message")),
        };
        if let (Ok(_), Some(prefix)) = (&result, update.prefix) {
            state.set_prefix(prefix);
        }
        if !update.silent {
            self.events.push_back(Event::UpdateAnswered { id, result });
        }
        Ok(())
    }

    /// The peer's direction of a request's stream ended cleanly ("Graceful Request Stream
    /// Closure").
    pub(super) fn handle_fin(&mut self, id: RequestId) {
        let Some(state) = self.requests.get(&id) else { return };
        let ends = match (state.side, state.kind) {
            // A subscriber or fetcher that has nothing more to say still wants its objects.
            (Side::Peer, Kind::Subscribe | Kind::Fetch | Kind::TrackStatus) => false,
            // PUBLISH_DONE would have come before.
            (Side::Peer, Kind::Publish) => true,
            // Until draft 18 this cancels, "with either a FIN or RESET_STREAM"; later "it is not
            // a request cancellation".
            (
                Side::Peer,
                Kind::PublishNamespace | Kind::SubscribeNamespace | Kind::SubscribeTracks,
            ) => self.version() <= Version::Draft18,
            // Accepted, and nothing to add.
            (Side::Local, Kind::Publish | Kind::PublishNamespace) => {
                state.phase == Phase::Pending || state.stopped
            }
            (Side::Local, _) => true,
        };
        if ends {
            self.end(id, None, None);
        }
    }
}
