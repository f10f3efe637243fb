//! Draft 16: requests share one bidirectional control stream, each message naming its request;
//! SUBSCRIBE_NAMESPACE has a stream of its own ("Session initialization", "Request ID").

use std::collections::{HashMap, VecDeque};

use bytes::{Bytes, BytesMut};

use super::request::{Kind, Phase, RequestState, Side};
use super::{Event, Output, Role, Session, StreamId, internal};
use crate::codec::EncodeError;
use crate::codec::shared::{self, Interest, SharedMessage};
use crate::{
    Message, ProtocolError, PublishDone, PublishDoneCode, Request, RequestError, RequestErrorCode,
    RequestId, RequestOk, RequestUpdate, ResetCode, Response, SessionCode, SubscribeNamespace,
    SubscribeTracks,
};

/// Marks the half of a SUBSCRIBE_NAMESPACE that wants PUBLISH, when it wants NAMESPACE too: the
/// application sees two requests. Beyond what the draft's integers can say, so never a peer's.
const TWIN: RequestId = 1 << 63;

#[derive(Debug)]
pub(super) struct Shared {
    /// The control stream; unknown to a server until CLIENT_SETUP.
    control: Option<StreamId>,
    /// Our request IDs must be below this ("MAX_REQUEST_ID").
    peer_max: RequestId,
    /// The peer's must be below this.
    our_max: RequestId,
    /// What waits until an ID is below `peer_max`, in order of IDs.
    blocked: VecDeque<(RequestId, Held)>,
    /// Our updates, and the requests they change.
    updates: HashMap<RequestId, RequestId>,
    /// What a server has to say before it knows where: a GOAWAY.
    early: Vec<Bytes>,
}

/// What is sent once the peer allows it.
#[derive(Debug)]
enum Held {
    Control(Bytes),
    Own(StreamId, Bytes),
    Reset(StreamId, ResetCode),
}

impl Session {
    /// The client opens the control stream with its SETUP; the server's follows on it.
    pub(super) fn begin_shared(&mut self) -> Result<(), EncodeError> {
        self.shared = Some(Shared {
            control: None,
            peer_max: 0,
            our_max: self.peer_ids.smallest_unseen() + self.window(),
            blocked: VecDeque::new(),
            updates: HashMap::new(),
            early: Vec::new(),
        });
        if self.config.role == Role::Client {
            let control = self.open_stream(None);
            self.set_control(control)?;
        }
        Ok(())
    }

    /// How far the peer's IDs may run ahead of those it has used: twice what may be open, so that
    /// more is refused with a word and not by its silence.
    fn window(&self) -> RequestId {
        4 * self.config.limits.requests as RequestId
    }

    /// The control stream is known: our SETUP goes out on it.
    fn set_control(&mut self, stream: StreamId) -> Result<(), EncodeError> {
        let Some(shared) = &mut self.shared else { return Ok(()) };
        shared.control = Some(stream);
        let early = std::mem::take(&mut shared.early);
        self.put_shared(&SharedMessage::Setup {
            from: self.config.role,
            setup: self.config.setup.clone(),
            max_request_id: self.shared.as_ref().map_or(0, |shared| shared.our_max),
        })?;
        for bytes in early {
            self.put_control(bytes);
        }
        Ok(())
    }

    pub(super) fn shared_control(&self) -> Option<StreamId> {
        self.shared.as_ref()?.control
    }

    pub(super) fn is_shared_control(&self, stream: StreamId) -> bool {
        self.shared_control() == Some(stream)
    }

    /// Looks at what came on a bidirectional stream.
    pub(super) fn process_shared(&mut self, stream: StreamId) {
        if self.becomes_control(stream)
            && let Err(error) = self.set_control(stream)
        {
            return self.fail(internal(error));
        }
        if self.is_shared_control(stream) {
            return self.process_shared_control(stream);
        }
        if self.peer.is_none() {
            return self.hold(stream);
        }
        while !self.closed {
            let Some(incoming) = self.streams.get_mut(&stream) else { return };
            let request = incoming.request;
            let result = match shared::decode(&mut incoming.buf) {
                Ok(Some(message)) => match request {
                    None => self.handle_own_stream(stream, message),
                    Some(id) => self.handle_on_own_stream(id, message),
                },
                Ok(None) => break,
                Err(error) => Err(error),
            };
            if let Err(error) = result {
                self.fail(error);
            }
        }
        self.process_fin(stream);
    }

    /// The client's control stream need not be the first that a server sees.
    fn becomes_control(&self, stream: StreamId) -> bool {
        let unknown = self.shared_control().is_none();
        let incoming = self.streams.get(&stream);
        unknown
            && incoming
                .is_some_and(|incoming| shared::begins_with_setup(&incoming.buf) == Some(true))
    }

    fn process_shared_control(&mut self, stream: StreamId) {
        while !self.closed {
            let Some(incoming) = self.streams.get_mut(&stream) else { return };
            let result = match shared::decode(&mut incoming.buf) {
                Ok(Some(message)) => self.handle_shared(message),
                Ok(None) => break,
                Err(error) => Err(error),
            };
            if let Err(error) = result {
                self.fail(error);
            }
        }
        if self.streams.get(&stream).is_some_and(|incoming| incoming.fin) {
            self.handle_control_closed();
        }
    }

    /// The first message on another stream than the control stream.
    fn handle_own_stream(
        &mut self,
        stream: StreamId,
        message: SharedMessage,
    ) -> Result<(), ProtocolError> {
        let SharedMessage::SubscribeNamespace { id, prefix, interest, mut parameters } = message
        else {
            return Err(ProtocolError::violation("a stream begins with another message"));
        };
        self.check_max(id)?;
        self.peer_ids.insert(id)?;
        self.grant()?;
        self.tokens.resolve(&mut parameters.authorization_tokens)?;
        let namespaces =
            SubscribeNamespace { prefix: prefix.clone(), parameters: parameters.clone() };
        let tracks = SubscribeTracks { prefix, parameters };
        let (first, twin) = match interest {
            Interest::Namespaces => (Request::SubscribeNamespace(namespaces), None),
            Interest::Tracks => (Request::SubscribeTracks(tracks), None),
            Interest::Both => {
                (Request::SubscribeNamespace(namespaces), Some(Request::SubscribeTracks(tracks)))
            }
        };
        self.admit(Some(stream), id, first)?;
        if let Some(request) = twin.filter(|_| self.requests.contains_key(&id)) {
            let id = id | TWIN;
            self.requests.insert(id, RequestState::new(None, Side::Peer, &request));
            self.events.push_back(Event::Requested { id, request });
        }
        Ok(())
    }

    /// A later message on a SUBSCRIBE_NAMESPACE's stream.
    fn handle_on_own_stream(
        &mut self,
        id: RequestId,
        message: SharedMessage,
    ) -> Result<(), ProtocolError> {
        match message {
            SharedMessage::Response { to: Some(to), response } if to == id => {
                self.handle_response(id, response, false)
            }
            SharedMessage::Response { to: None, response } => {
                self.handle_response(id, response, false)
            }
            SharedMessage::Response { to: Some(to), response } => {
                self.handle_shared_response(to, response)
            }
            _ => Err(ProtocolError::violation("another message on a request's own stream")),
        }
    }

    fn handle_shared(&mut self, message: SharedMessage) -> Result<(), ProtocolError> {
        if let SharedMessage::Setup { from, setup, max_request_id } = message {
            if from == self.config.role {
                return Err(ProtocolError::violation("the peer sent our side's SETUP"));
            }
            if let Some(shared) = &mut self.shared {
                shared.peer_max = max_request_id;
            }
            self.handle_setup(setup)?;
            self.unblock();
            return Ok(());
        }
        if self.peer.is_none() {
            return Err(ProtocolError::violation("the control stream does not begin with SETUP"));
        }
        match message {
            SharedMessage::GoAway(goaway) => self.handle_goaway(goaway),
            SharedMessage::MaxRequestId(max) => self.handle_max_request_id(max),
            // We raise the limit as requests come, blocked or not.
            SharedMessage::RequestsBlocked(_) => Ok(()),
            SharedMessage::Request { id, request } => {
                self.check_max(id)?;
                self.handle_first(None, id, request)?;
                self.grant()
            }
            SharedMessage::Update { existing, update } => {
                self.check_max(update.id)?;
                self.handle_shared_update(existing, update)?;
                self.grant()
            }
            SharedMessage::PublishOk { to, parameters } => match self.requests.get(&to) {
                Some(state) if (state.side, state.kind) == (Side::Local, Kind::Publish) => {
                    let ok = RequestOk { parameters, ..RequestOk::default() };
                    self.handle_response(to, Response::Ok(ok), false)
                }
                Some(_) => Err(ProtocolError::violation("PUBLISH_OK answers another request")),
                None => self.check_used(to),
            },
            SharedMessage::Response { to: Some(to), response } => {
                self.handle_shared_response(to, response)
            }
            SharedMessage::Unsubscribe(id) => {
                let kinds = [(Side::Peer, Kind::Subscribe), (Side::Local, Kind::Publish)];
                self.handle_cancel(id, &kinds, ResetCode::CANCELLED)
            }
            SharedMessage::FetchCancel(id) => {
                self.handle_cancel(id, &[(Side::Peer, Kind::Fetch)], ResetCode::CANCELLED)
            }
            SharedMessage::PublishNamespaceDone(id) => {
                let kinds = [(Side::Peer, Kind::PublishNamespace)];
                self.handle_cancel(id, &kinds, ResetCode::CANCELLED)
            }
            SharedMessage::PublishNamespaceCancel { id, code, reason: _ } => {
                let code = match code {
                    RequestErrorCode::EXPIRED_AUTH_TOKEN => ResetCode::EXPIRED_AUTH_TOKEN,
                    _ => ResetCode::CANCELLED,
                };
                self.handle_cancel(id, &[(Side::Local, Kind::PublishNamespace)], code)
            }
            SharedMessage::Setup { .. }
            | SharedMessage::SubscribeNamespace { .. }
            | SharedMessage::Response { to: None, .. } => {
                Err(ProtocolError::violation("a message that needs a stream of its own"))
            }
        }
    }

    /// A message names a request that is not open. One that is over is no offence: the two may
    /// have crossed.
    fn check_used(&self, id: RequestId) -> Result<(), ProtocolError> {
        let ours = id % 2 == self.next_request % 2 && id < self.next_request;
        if ours || self.peer_ids.contains(id) {
            return Ok(());
        }
        Err(ProtocolError::new(
            SessionCode::INVALID_REQUEST_ID,
            format!("request {id} does not exist"),
        ))
    }

    fn handle_cancel(
        &mut self,
        id: RequestId,
        kinds: &[(Side, Kind)],
        code: ResetCode,
    ) -> Result<(), ProtocolError> {
        match self.requests.get(&id) {
            Some(state) if kinds.contains(&(state.side, state.kind)) => {
                self.end(id, Some(code), None);
                Ok(())
            }
            Some(state) => Err(ProtocolError::violation(format!(
                "a message ends a {:?} that cannot",
                state.kind
            ))),
            None => self.check_used(id),
        }
    }

    fn handle_shared_update(
        &mut self,
        existing: RequestId,
        update: RequestUpdate,
    ) -> Result<(), ProtocolError> {
        if self.requests.contains_key(&existing) {
            return self.handle_update(existing, update);
        }
        // "if the sender specifies an invalid Existing Request ID".
        self.check_used(existing).map_err(|error| ProtocolError::violation(error.reason))?;
        self.peer_ids.insert(update.id)?;
        let error = RequestError::new(RequestErrorCode::DOES_NOT_EXIST, "the request is over");
        self.send_shared_answer(update.id, Response::Error(error)).map_err(internal)
    }

    fn handle_shared_response(
        &mut self,
        to: RequestId,
        response: Response,
    ) -> Result<(), ProtocolError> {
        let changed = self.shared.as_mut().and_then(|shared| shared.updates.remove(&to));
        if let Some(id) = changed {
            return self.handle_response(id, response, true);
        }
        match self.requests.get(&to) {
            Some(state) if state.kind == Kind::Publish && matches!(response, Response::Ok(_)) => {
                Err(ProtocolError::violation("REQUEST_OK answers a PUBLISH"))
            }
            Some(_) => self.handle_response(to, response, false),
            None => self.check_used(to),
        }
    }

    // ---- Request IDs ----

    fn check_max(&self, id: RequestId) -> Result<(), ProtocolError> {
        match &self.shared {
            Some(shared) if id >= shared.our_max => Err(ProtocolError::new(
                SessionCode::TOO_MANY_REQUESTS,
                format!("request {id} is not below MAX_REQUEST_ID {}", shared.our_max),
            )),
            _ => Ok(()),
        }
    }

    /// Raises the peer's limit when half of its room is used.
    pub(super) fn grant(&mut self) -> Result<(), ProtocolError> {
        let (next, window) = (self.peer_ids.smallest_unseen(), self.window());
        let Some(shared) = &mut self.shared else { return Ok(()) };
        if shared.our_max.saturating_sub(next) > window / 2 {
            return Ok(());
        }
        shared.our_max = next + window;
        let message = SharedMessage::MaxRequestId(shared.our_max);
        self.put_shared(&message).map_err(internal)
    }

    fn handle_max_request_id(&mut self, max: RequestId) -> Result<(), ProtocolError> {
        let Some(shared) = &mut self.shared else { return Ok(()) };
        if max <= shared.peer_max {
            return Err(ProtocolError::violation("MAX_REQUEST_ID does not increase"));
        }
        shared.peer_max = max;
        self.unblock();
        Ok(())
    }

    /// Lets go what waited for a lower limit.
    fn unblock(&mut self) {
        loop {
            let Some(shared) = &mut self.shared else { return };
            if shared.blocked.front().is_none_or(|(id, _)| *id >= shared.peer_max) {
                return;
            }
            if let Some((_, held)) = shared.blocked.pop_front() {
                self.release(held);
            }
        }
    }

    fn release(&mut self, held: Held) {
        match held {
            Held::Control(bytes) => self.put_control(bytes),
            Held::Own(stream, bytes) => self.put(Output::Request { stream, bytes, fin: false }),
            Held::Reset(stream, code) => self.put(Output::Reset { stream, code }),
        }
    }

    /// Lets `held` go when the peer takes request `id`, after all that waits for lower ones.
    fn when_allowed(&mut self, id: RequestId, held: Held) -> Result<(), EncodeError> {
        let ready = self.peer.is_some();
        let Some(shared) = &mut self.shared else { return Ok(()) };
        if ready && id < shared.peer_max {
            self.release(held);
            return Ok(());
        }
        let (first, max) = (shared.blocked.is_empty(), shared.peer_max);
        shared.blocked.push_back((id, held));
        if ready && first {
            self.put_shared(&SharedMessage::RequestsBlocked(max))?;
        }
        Ok(())
    }

    // ---- out ----

    /// Appends to the control stream.
    fn put_control(&mut self, bytes: Bytes) {
        let Some(shared) = &mut self.shared else { return };
        match shared.control {
            Some(stream) => self.put(Output::Request { stream, bytes, fin: false }),
            None => shared.early.push(bytes),
        }
    }

    fn put_shared(&mut self, message: &SharedMessage) -> Result<(), EncodeError> {
        let bytes = to_bytes(message)?;
        self.put_control(bytes);
        Ok(())
    }

    pub(super) fn send_shared_control(&mut self, message: Message) -> Result<(), EncodeError> {
        match message {
            Message::GoAway(goaway) => self.put_shared(&SharedMessage::GoAway(goaway)),
            _ => Ok(()),
        }
    }

    /// Sends a request; returns its stream if it has one of its own.
    pub(super) fn send_shared_request(
        &mut self,
        id: RequestId,
        request: Request,
    ) -> Result<Option<StreamId>, EncodeError> {
        let (prefix, interest, parameters) = match request {
            Request::SubscribeNamespace(r) => (r.prefix, Interest::Namespaces, r.parameters),
            Request::SubscribeTracks(r) => (r.prefix, Interest::Tracks, r.parameters),
            request => {
                self.send_numbered(id, &SharedMessage::Request { id, request })?;
                return Ok(None);
            }
        };
        let message = SharedMessage::SubscribeNamespace { id, prefix, interest, parameters };
        let bytes = to_bytes(&message)?;
        let stream = self.open_stream(Some(id));
        self.when_allowed(id, Held::Own(stream, bytes))?;
        Ok(Some(stream))
    }

    pub(super) fn send_shared_update(
        &mut self,
        existing: RequestId,
        update: RequestUpdate,
    ) -> Result<(), EncodeError> {
        let id = update.id;
        self.send_numbered(id, &SharedMessage::Update { existing, update })?;
        if let Some(shared) = &mut self.shared {
            shared.updates.insert(id, existing);
        }
        Ok(())
    }

    /// Appends a message that uses up request ID `id` to the control stream.
    fn send_numbered(&mut self, id: RequestId, message: &SharedMessage) -> Result<(), EncodeError> {
        self.when_allowed(id, Held::Control(to_bytes(message)?))
    }

    pub(super) fn send_shared_answer(
        &mut self,
        to: RequestId,
        response: Response,
    ) -> Result<(), EncodeError> {
        self.put_shared(&SharedMessage::Response { to: Some(to), response })
    }

    pub(super) fn send_shared_response(
        &mut self,
        id: RequestId,
        response: Response,
        last: bool,
    ) -> Result<(), EncodeError> {
        // Of twins the first answers for both.
        let Some(state) = self.requests.get(&id).filter(|_| id & TWIN == 0) else { return Ok(()) };
        let message = match response {
            Response::Ok(ok) if state.kind == Kind::Publish => {
                SharedMessage::PublishOk { to: id, parameters: ok.parameters }
            }
            suffix @ (Response::Namespace(_) | Response::NamespaceDone(_)) => {
                SharedMessage::Response { to: None, response: suffix }
            }
            response => SharedMessage::Response { to: Some(id), response },
        };
        match state.stream {
            Some(stream) => {
                let bytes = to_bytes(&message)?;
                self.put(Output::Request { stream, bytes, fin: last });
            }
            // What ends a PUBLISH of ours must not overtake it.
            None if state.side == Side::Local => self.send_numbered(id, &message)?,
            None => self.put_shared(&message)?,
        }
        Ok(())
    }

    /// Says that a request is given up, as this draft does.
    pub(super) fn abandon_shared(&mut self, id: RequestId, state: &RequestState, code: ResetCode) {
        if id & TWIN != 0 {
            return;
        }
        if let Err(error) = self.send_abandon(id, state, code) {
            self.fail(internal(error));
        }
    }

    fn send_abandon(
        &mut self,
        id: RequestId,
        state: &RequestState,
        code: ResetCode,
    ) -> Result<(), EncodeError> {
        if let Some(stream) = state.stream {
            return match state.side {
                Side::Local => self.when_allowed(id, Held::Reset(stream, code)),
                Side::Peer => {
                    self.put(Output::Reset { stream, code });
                    Ok(())
                }
            };
        }
        let pending = state.phase == Phase::Pending;
        let refusal = |code: RequestErrorCode| SharedMessage::Response {
            to: Some(id),
            response: Response::Error(RequestError::new(code, "cancelled")),
        };
        let done = SharedMessage::Response {
            to: Some(id),
            response: Response::PublishDone(PublishDone {
                code: done_code(code),
                stream_count: PublishDone::UNKNOWN_COUNT,
                reason: Bytes::new(),
            }),
        };
        let message = match (state.side, state.kind) {
            (Side::Local, Kind::Subscribe) => SharedMessage::Unsubscribe(id),
            (Side::Local, Kind::Fetch) => SharedMessage::FetchCancel(id),
            (Side::Local, Kind::PublishNamespace) => SharedMessage::PublishNamespaceDone(id),
            (Side::Local, Kind::Publish) => done,
            (Side::Peer, Kind::Publish) if !pending => SharedMessage::Unsubscribe(id),
            (Side::Peer, Kind::Publish) => refusal(RequestErrorCode::UNINTERESTED),
            (Side::Peer, Kind::Subscribe) if !pending => done,
            (Side::Peer, Kind::PublishNamespace) if !pending => {
                SharedMessage::PublishNamespaceCancel {
                    id,
                    code: RequestErrorCode::UNINTERESTED,
                    reason: Bytes::new(),
                }
            }
            (Side::Peer, _) if pending => refusal(RequestErrorCode::INTERNAL_ERROR),
            // Nothing says it: an answer that still comes is ignored, a fetch's data stream is
            // reset by the shell.
            _ => return Ok(()),
        };
        match state.side {
            Side::Local => self.send_numbered(id, &message),
            Side::Peer => self.put_shared(&message),
        }
    }

    /// Forgets what hangs on a request that is over: twins end together.
    pub(super) fn removed_shared(&mut self, id: RequestId) {
        let Some(shared) = &mut self.shared else { return };
        shared.updates.retain(|_, existing| *existing != id);
        if self.requests.remove(&(id | TWIN)).is_some() {
            self.events.push_back(Event::Ended { id: id | TWIN, code: None });
        }
    }
}

fn to_bytes(message: &SharedMessage) -> Result<Bytes, EncodeError> {
    let mut buf = BytesMut::new();
    shared::encode(message, &mut buf)?;
    Ok(buf.freeze())
}

fn done_code(code: ResetCode) -> PublishDoneCode {
    match code {
        ResetCode::GOING_AWAY => PublishDoneCode::GOING_AWAY,
        ResetCode::TOO_FAR_BEHIND => PublishDoneCode::TOO_FAR_BEHIND,
        ResetCode::MALFORMED_TRACK => PublishDoneCode::MALFORMED_TRACK,
        ResetCode::EXPIRED_AUTH_TOKEN => PublishDoneCode::UNAUTHORIZED,
        ResetCode::CANCELLED => PublishDoneCode::SUBSCRIPTION_ENDED,
        _ => PublishDoneCode::INTERNAL_ERROR,
    }
}
