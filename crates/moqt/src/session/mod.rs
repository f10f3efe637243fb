//! One end of a MoQT session: control streams, request streams, aliases ("Sessions").
//!
//! The shell owns the transport. It opens our control stream and writes [`Output::Control`] to
//! it, feeds the peer's control stream to [`Session::handle_control`], and gives every
//! bidirectional stream that the peer opens a [`StreamId`] with [`Session::accept_stream`].
//! Data streams and datagrams stay with the shell, which asks [`Session::track_alias`] whose they
//! are.

mod config;
mod request;
mod rules;
mod tokens;

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use bytes::{Bytes, BytesMut};

pub use config::{Config, Limits, Role, Transport};
use request::{Kind, Phase, RequestState, Side};
use tokens::TokenCache;

use crate::codec::{self, TooLong};
use crate::{
    GoAway, Message, Parameters, ProtocolError, Request, RequestError, RequestErrorCode, RequestId,
    RequestOk, RequestUpdate, ResetCode, Response, SessionCode, Setup, Version,
};

/// A bidirectional stream, as the session and its shell call it. Not QUIC's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(u64);

/// What the shell must do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Append to our control stream, opening it first.
    Control(Bytes),
    /// Append to a request stream, opening it when the session never named it before.
    Request {
        /// The stream.
        stream: StreamId,
        /// What to append.
        bytes: Bytes,
        /// Whether to FIN after it.
        fin: bool,
    },
    /// Reset what we send and stop what we receive, with this code, and forget the stream.
    Reset {
        /// The stream.
        stream: StreamId,
        /// Why.
        code: ResetCode,
    },
    /// Nothing more is expected: stop receiving, let what was written go out, and forget it.
    Forget(StreamId),
    /// Close the connection. Nothing follows.
    Close(ProtocolError),
}

/// What the application must know, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The peer's SETUP came; requests flow from here on.
    Ready(Setup),
    /// The peer is about to leave: move to another session.
    GoAway(GoAway),
    /// The peer asks something. Answer with [`Session::respond`].
    Requested {
        /// The request.
        id: RequestId,
        /// What is asked.
        request: Request,
    },
    /// The peer changes a request. Answer with [`Session::respond_update`].
    Updated {
        /// The request.
        id: RequestId,
        /// What changes.
        parameters: Parameters,
    },
    /// The peer answered our request, or went on answering. After [`Response::Error`] and
    /// [`Response::PublishDone`] the request is over.
    Responded {
        /// Our request.
        id: RequestId,
        /// The answer.
        response: Response,
    },
    /// The peer answered our update.
    UpdateAnswered {
        /// The request.
        id: RequestId,
        /// The answer.
        result: Result<RequestOk, RequestError>,
    },
    /// The peer asks to move one request elsewhere.
    RequestGoAway {
        /// The request.
        id: RequestId,
        /// Where to.
        goaway: GoAway,
    },
    /// A request ended with no word, by either side's stream ending or being reset.
    Ended {
        /// The request.
        id: RequestId,
        /// The reset's code; `None` for a FIN.
        code: Option<ResetCode>,
    },
}

/// Whose data a track alias announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alias {
    /// Objects of this subscription.
    Request(RequestId),
    /// A subscription that is over: read nothing more.
    Retired,
    /// Not known yet: the answer that names it may still come.
    Unknown,
}

/// How many ended subscriptions' aliases are remembered, so that their late streams are dropped
/// at once instead of being waited for.
const RETIRED_ALIASES: usize = 256;

/// Most bytes held of a message that is not whole: a payload and its framing.
const MAX_MESSAGE: usize = u16::MAX as usize + 11;

#[derive(Debug)]
struct Incoming {
    buf: BytesMut,
    fin: bool,
    request: Option<RequestId>,
}

/// One end of a MoQT session. See the crate documentation for how to drive it.
#[derive(Debug)]
pub struct Session {
    config: Config,
    control: BytesMut,
    peer: Option<Setup>,
    setup_deadline: Instant,
    streams: HashMap<StreamId, Incoming>,
    requests: HashMap<RequestId, RequestState>,
    aliases: HashMap<u64, RequestId>,
    retired: VecDeque<u64>,
    tokens: TokenCache,
    peer_ids: rules::SeenIds,
    next_stream: u64,
    next_request: RequestId,
    next_alias: u64,
    goaway_sent: bool,
    goaway_received: bool,
    closed: bool,
    outputs: VecDeque<Output>,
    events: VecDeque<Event>,
}

impl Session {
    /// A session on a fresh connection. Its SETUP is the first output.
    pub fn new(config: Config, now: Instant) -> Self {
        let setup = Message::Setup(config.setup.clone());
        let parity = match config.role {
            Role::Client => 0,
            Role::Server => 1,
        };
        let mut session = Self {
            control: BytesMut::new(),
            peer: None,
            setup_deadline: now + config.limits.setup_timeout,
            streams: HashMap::new(),
            requests: HashMap::new(),
            aliases: HashMap::new(),
            retired: VecDeque::new(),
            tokens: TokenCache::new(config.setup.max_auth_token_cache_size.unwrap_or(0)),
            peer_ids: rules::SeenIds::new(1 - parity),
            next_stream: 0,
            next_request: parity,
            next_alias: 0,
            goaway_sent: false,
            goaway_received: false,
            closed: false,
            outputs: VecDeque::new(),
            events: VecDeque::new(),
            config,
        };
        match codec::to_bytes(session.version(), &setup) {
            Ok(bytes) => session.outputs.push_back(Output::Control(bytes)),
            Err(error) => session.fail(ProtocolError::new(
                SessionCode::INTERNAL_ERROR,
                format!("our SETUP cannot be sent: {error}"),
            )),
        }
        session
    }

    /// The draft this session speaks.
    pub fn version(&self) -> Version {
        self.config.version
    }

    /// Our role.
    pub fn role(&self) -> Role {
        self.config.role
    }

    /// The peer's SETUP, once it came.
    pub fn peer(&self) -> Option<&Setup> {
        self.peer.as_ref()
    }

    /// Whether [`Output::Close`] was put out.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Requests in either direction that are not over.
    pub fn open_requests(&self) -> usize {
        self.requests.len()
    }

    /// The next thing the shell must do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The next thing the application must know.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Session::handle_timeout`] wants to be called, if at all.
    pub fn poll_timeout(&self) -> Option<Instant> {
        (self.peer.is_none() && !self.closed).then_some(self.setup_deadline)
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.peer.is_none() && now >= self.setup_deadline {
            self.fail(ProtocolError::new(
                SessionCode::CONTROL_MESSAGE_TIMEOUT,
                "no SETUP came in time",
            ));
        }
    }

    // ---- bytes in ----

    /// Bytes of the peer's control stream, from its start. `fin`: it ended, which it may not.
    pub fn handle_control(&mut self, bytes: &[u8], fin: bool) {
        if self.closed {
            return;
        }
        self.control.extend_from_slice(bytes);
        while !self.closed {
            match codec::decode(self.version(), &mut self.control) {
                Ok(Some(message)) => {
                    if let Err(error) = self.handle_control_message(message) {
                        self.fail(error);
                    }
                }
                Ok(None) => break,
                Err(error) => self.fail(error),
            }
        }
        if fin {
            self.handle_control_closed();
        }
    }

    /// The peer's control stream was reset or ended.
    pub fn handle_control_closed(&mut self) {
        self.fail(ProtocolError::violation("the control stream was closed"));
    }

    /// The peer opened a bidirectional stream.
    pub fn accept_stream(&mut self) -> StreamId {
        self.open_stream(None)
    }

    /// Bytes of a request stream. `fin`: the peer sends nothing after them.
    pub fn handle_stream(&mut self, stream: StreamId, bytes: &[u8], fin: bool) {
        if self.closed {
            return;
        }
        let Some(incoming) = self.streams.get_mut(&stream) else { return };
        incoming.buf.extend_from_slice(bytes);
        incoming.fin |= fin;
        // "the data SHOULD be buffered until both control streams arrive".
        if self.peer.is_some() {
            self.process_stream(stream);
        } else if incoming.buf.len() > MAX_MESSAGE {
            self.fail(ProtocolError::violation("a request stream ran ahead of SETUP"));
        }
    }

    /// The peer reset what it sends on a request stream, or asked us to stop sending: either
    /// cancels the request ("Request Cancellation and Rejection").
    pub fn handle_stream_reset(&mut self, stream: StreamId, code: ResetCode) {
        let Some(incoming) = self.streams.get(&stream) else { return };
        match incoming.request {
            Some(id) => self.end(id, Some(code), Some(ResetCode::CANCELLED)),
            None => {
                self.streams.remove(&stream);
                self.outputs.push_back(Output::Reset { stream, code: ResetCode::CANCELLED });
            }
        }
    }

    // ---- commands ----

    /// Asks the peer something, on a stream of its own.
    pub fn request(&mut self, request: Request) -> Result<RequestId, TooLong> {
        let id = self.next_request;
        let kind = Kind::of(&request);
        let bytes = codec::to_bytes(self.version(), &Message::Request { id, request })?;
        self.next_request += 2;
        let stream = self.open_stream(Some(id));
        self.requests.insert(id, RequestState::new(stream, Side::Local, kind));
        self.outputs.push_back(Output::Request { stream, bytes, fin: false });
        Ok(id)
    }

    /// Answers the peer's request `id`, or goes on answering. An error, PUBLISH_DONE and the
    /// answer to TRACK_STATUS end the request. Nothing happens when it is over already.
    ///
    /// A PUBLISH of our own is ended with [`Response::PublishDone`] too.
    pub fn respond(&mut self, id: RequestId, response: Response) -> Result<(), TooLong> {
        let Some(state) = self.requests.get_mut(&id) else { return Ok(()) };
        let last = matches!(response, Response::Error(_) | Response::PublishDone(_))
            || state.kind == Kind::TrackStatus;
        let bytes = codec::to_bytes(self.config.version, &Message::Response(response))?;
        state.phase = Phase::Established;
        let stream = state.stream;
        self.outputs.push_back(Output::Request { stream, bytes, fin: last });
        if last {
            self.remove(id);
            self.outputs.push_back(Output::Forget(stream));
        }
        Ok(())
    }

    /// Answers the peer's update of request `id`.
    pub fn respond_update(
        &mut self,
        id: RequestId,
        result: Result<RequestOk, RequestError>,
    ) -> Result<(), TooLong> {
        let Some(state) = self.requests.get(&id) else { return Ok(()) };
        let response = match result {
            Ok(ok) => Response::Ok(ok),
            Err(error) => Response::Error(error),
        };
        let bytes = codec::to_bytes(self.version(), &Message::Response(response))?;
        self.outputs.push_back(Output::Request { stream: state.stream, bytes, fin: false });
        Ok(())
    }

    /// Changes request `id`, ours or one the peer began with PUBLISH.
    pub fn update(&mut self, id: RequestId, parameters: Parameters) -> Result<(), TooLong> {
        let Some(state) = self.requests.get_mut(&id) else { return Ok(()) };
        let update = RequestUpdate { id: self.next_request, parameters };
        let bytes = codec::to_bytes(self.config.version, &Message::Update(update))?;
        self.next_request += 2;
        state.updates += 1;
        self.outputs.push_back(Output::Request { stream: state.stream, bytes, fin: false });
        Ok(())
    }

    /// Ends request `id`, in either direction, by resetting its stream.
    pub fn cancel(&mut self, id: RequestId, code: ResetCode) {
        if let Some(state) = self.remove(id) {
            self.outputs.push_back(Output::Reset { stream: state.stream, code });
        }
    }

    /// Tells the peer that we will leave. New requests of the peer are refused from here on.
    pub fn go_away(&mut self, uri: Bytes, timeout_ms: u64) -> Result<(), TooLong> {
        if self.goaway_sent || self.closed {
            return Ok(());
        }
        let request = Some(self.peer_ids.smallest_unseen());
        let message = Message::GoAway(GoAway { uri, timeout: timeout_ms, request });
        let bytes = codec::to_bytes(self.version(), &message)?;
        self.goaway_sent = true;
        self.outputs.push_back(Output::Control(bytes));
        Ok(())
    }

    /// Closes the session.
    pub fn close(&mut self, code: SessionCode, reason: impl Into<std::borrow::Cow<'static, str>>) {
        self.fail(ProtocolError::new(code, reason));
    }

    /// An alias that no other track of ours has in this session.
    pub fn allocate_alias(&mut self) -> u64 {
        let alias = self.next_alias;
        self.next_alias += 1;
        alias
    }

    /// Whose objects `alias` announces.
    pub fn track_alias(&self, alias: u64) -> Alias {
        match self.aliases.get(&alias) {
            Some(id) => Alias::Request(*id),
            None if self.retired.contains(&alias) => Alias::Retired,
            None => Alias::Unknown,
        }
    }

    // ---- inside ----

    fn open_stream(&mut self, request: Option<RequestId>) -> StreamId {
        let stream = StreamId(self.next_stream);
        self.next_stream += 1;
        let incoming = Incoming { buf: BytesMut::new(), fin: false, request };
        self.streams.insert(stream, incoming);
        stream
    }

    fn fail(&mut self, error: ProtocolError) {
        if !self.closed {
            self.closed = true;
            self.outputs.push_back(Output::Close(error));
        }
    }

    /// Forgets a request and everything that hangs on it.
    fn remove(&mut self, id: RequestId) -> Option<RequestState> {
        let state = self.requests.remove(&id)?;
        self.streams.remove(&state.stream);
        if let Some(alias) = state.alias_in {
            self.aliases.remove(&alias);
            if self.retired.len() == RETIRED_ALIASES {
                self.retired.pop_front();
            }
            self.retired.push_back(alias);
        }
        Some(state)
    }

    /// A request ended without a last message from the peer.
    fn end(&mut self, id: RequestId, code: Option<ResetCode>, reset: Option<ResetCode>) {
        let Some(state) = self.remove(id) else { return };
        self.outputs.push_back(match reset {
            Some(code) => Output::Reset { stream: state.stream, code },
            None => Output::Forget(state.stream),
        });
        self.events.push_back(Event::Ended { id, code });
    }

    fn handle_control_message(&mut self, message: Message) -> Result<(), ProtocolError> {
        match message {
            Message::Setup(setup) if self.peer.is_none() => {
                rules::check_setup(&setup, self.config.role, self.config.transport)?;
                self.peer = Some(setup.clone());
                self.events.push_back(Event::Ready(setup));
                let mut waiting: Vec<StreamId> = self.streams.keys().copied().collect();
                waiting.sort();
                for stream in waiting {
                    self.process_stream(stream);
                }
                Ok(())
            }
            Message::Setup(_) => Err(ProtocolError::violation("a second SETUP")),
            _ if self.peer.is_none() => {
                Err(ProtocolError::violation("the control stream does not begin with SETUP"))
            }
            Message::GoAway(goaway) => {
                if std::mem::replace(&mut self.goaway_received, true) {
                    return Err(ProtocolError::violation("a second GOAWAY"));
                }
                rules::check_goaway(&goaway, self.config.role)?;
                self.events.push_back(Event::GoAway(goaway));
                Ok(())
            }
            _ => Err(ProtocolError::violation("a request message on the control stream")),
        }
    }

    fn process_stream(&mut self, stream: StreamId) {
        while !self.closed {
            let Some(incoming) = self.streams.get_mut(&stream) else { return };
            match codec::decode(self.config.version, &mut incoming.buf) {
                Ok(Some(message)) => {
                    let result = match incoming.request {
                        None => self.handle_first(stream, message),
                        Some(id) => self.handle_following(id, message),
                    };
                    if let Err(error) = result {
                        self.fail(error);
                    }
                }
                Ok(None) => break,
                Err(error) => self.fail(error),
            }
        }
        let Some(incoming) = self.streams.get(&stream) else { return };
        if !incoming.fin || self.closed {
            return;
        }
        if !incoming.buf.is_empty() {
            self.fail(ProtocolError::violation("a request stream ended inside a message"));
        } else if let Some(id) = incoming.request {
            self.handle_fin(id);
        } else {
            self.fail(ProtocolError::violation("a request stream ended without a request"));
        }
    }

    /// The peer opened a request.
    fn handle_first(&mut self, stream: StreamId, message: Message) -> Result<(), ProtocolError> {
        let Message::Request { id, mut request } = message else {
            return Err(ProtocolError::violation("a request stream begins with another message"));
        };
        self.peer_ids.insert(id)?;
        let kind = Kind::of(&request);
        if let Some(tokens) = request::tokens_mut(&mut request) {
            self.tokens.resolve(tokens)?;
        }
        if let Some(incoming) = self.streams.get_mut(&stream) {
            incoming.request = Some(id);
        }
        let mut state = RequestState::new(stream, Side::Peer, kind);
        state.subject = request::subject(&request);
        if let Request::Publish(publish) = &request {
            self.take_alias(publish.track_alias, id)?;
            state.alias_in = Some(publish.track_alias);
        }
        let refusal = self.refusal(&state);
        self.requests.insert(id, state);
        match refusal {
            // A refusal is short and cannot be too long for its length field.
            Some(error) => self.respond(id, Response::Error(error)).map_err(|error| {
                ProtocolError::new(SessionCode::INTERNAL_ERROR, error.to_string())
            }),
            None => {
                self.events.push_back(Event::Requested { id, request });
                Ok(())
            }
        }
    }

    /// Why a new request cannot even be passed on, judged by the session alone.
    fn refusal(&self, state: &RequestState) -> Option<RequestError> {
        if self.goaway_sent {
            return Some(RequestError::new(
                RequestErrorCode::GOING_AWAY,
                "this endpoint is leaving",
            ));
        }
        let open = self.requests.values().filter(|request| request.side == Side::Peer);
        if open.clone().count() >= self.config.limits.requests {
            let reason = format!("more than {} requests are open", self.config.limits.requests);
            return Some(
                RequestError::new(RequestErrorCode::EXCESSIVE_LOAD, reason).retry_after(1000),
            );
        }
        rules::check_subject(state, open)
    }

    fn take_alias(&mut self, alias: u64, id: RequestId) -> Result<(), ProtocolError> {
        if self.aliases.insert(alias, id).is_some() {
            return Err(ProtocolError::new(
                SessionCode::DUPLICATE_TRACK_ALIAS,
                format!("track alias {alias} is in use"),
            ));
        }
        self.retired.retain(|retired| *retired != alias);
        Ok(())
    }

    /// A message after the first on a request's stream.
    fn handle_following(&mut self, id: RequestId, message: Message) -> Result<(), ProtocolError> {
        let Some(state) = self.requests.get_mut(&id) else { return Ok(()) };
        match message {
            Message::Update(mut update) => {
                if !state.peer_may_update() {
                    return Err(ProtocolError::violation("REQUEST_UPDATE where none is allowed"));
                }
                self.peer_ids.insert(update.id)?;
                self.tokens.resolve(&mut update.parameters.authorization_tokens)?;
                self.events.push_back(Event::Updated { id, parameters: update.parameters });
                Ok(())
            }
            Message::Response(response) => self.handle_response(id, response),
            Message::GoAway(goaway) => {
                if std::mem::replace(&mut state.goaway_received, true) {
                    return Err(ProtocolError::violation("a second GOAWAY on a request stream"));
                }
                rules::check_goaway(&goaway, self.config.role)?;
                self.events.push_back(Event::RequestGoAway { id, goaway });
                Ok(())
            }
            Message::Request { .. } => {
                Err(ProtocolError::violation("a second request on one stream"))
            }
            Message::Setup(_) => Err(ProtocolError::violation("SETUP on a request stream")),
        }
    }

    fn handle_response(&mut self, id: RequestId, response: Response) -> Result<(), ProtocolError> {
        let Some(state) = self.requests.get_mut(&id) else { return Ok(()) };
        rules::check_response(state, &response, self.config.role)?;
        if state.answers_update(&response) {
            state.updates -= 1;
            let result = match response {
                Response::Ok(ok) => Ok(ok),
                Response::Error(error) => Err(error),
                _ => {
                    return Err(ProtocolError::violation(
                        "an update is answered by another message",
                    ));
                }
            };
            self.events.push_back(Event::UpdateAnswered { id, result });
            return Ok(());
        }
        state.phase = Phase::Established;
        let last = matches!(response, Response::Error(_) | Response::PublishDone(_))
            || state.kind == Kind::TrackStatus;
        if let Response::SubscribeOk(ok) = &response {
            state.alias_in = Some(ok.track_alias);
            self.take_alias(ok.track_alias, id)?;
        }
        if last && let Some(RequestState { stream, .. }) = self.remove(id) {
            self.outputs.push_back(Output::Request { stream, bytes: Bytes::new(), fin: true });
            self.outputs.push_back(Output::Forget(stream));
        }
        self.events.push_back(Event::Responded { id, response });
        Ok(())
    }

    /// The peer's side of a request's stream ended cleanly.
    fn handle_fin(&mut self, id: RequestId) {
        let Some(state) = self.requests.get(&id) else { return };
        match (state.side, state.kind) {
            // A subscriber or fetcher that has nothing more to say still wants its objects.
            (Side::Peer, Kind::Subscribe | Kind::Fetch | Kind::TrackStatus) => {}
            _ => self.end(id, None, None),
        }
    }
}

#[cfg(test)]
mod tests;
