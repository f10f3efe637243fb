//! One end of a MoQT session: control streams, request streams, aliases ("Sessions").
//!
//! The shell owns the transport. It opens our control stream and writes [`Output::Control`] to
//! it, feeds the peer's control stream to [`Session::handle_control`], and gives every
//! bidirectional stream that the peer opens a [`StreamId`] with [`Session::accept_stream`].
//! Data streams and datagrams stay with the shell, which asks [`Session::track_alias`] whose they
//! are.
//!
//! Draft 16 has one bidirectional control stream instead. The shell need not know: such a session
//! never puts out [`Output::Control`], its control stream is one of those that
//! [`Output::Request`] opens (at the client) or [`Session::accept_stream`] announces (at the
//! server), and requests without a stream of their own are kept apart inside.

mod aliases;
mod config;
mod incoming;
mod request;
mod rules;
mod shared;
mod streams;
mod tokens;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Instant;

use bytes::{Bytes, BytesMut};

pub use aliases::Alias;
use aliases::Aliases;
pub use config::{Config, Limits, Role, Transport};
use request::{Kind, PendingUpdate, Phase, RequestState, Side};
use tokens::TokenCache;

use crate::codec::EncodeError;
use crate::{
    Fill, GoAway, GroupOrder, Message, Parameters, ProtocolError, PublishDone, PublishDoneCode,
    Request, RequestError, RequestId, RequestOk, RequestUpdate, ResetCode, Response, SessionCode,
    Setup, Subscribe, Version,
};

/// Most fetches remembered whose objects never came.
const MAX_FETCH_ORDERS: usize = 4096;

/// A bidirectional stream, as the session and its shell call it. Not QUIC's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(u64);

/// What the shell must do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Append to our unidirectional control stream, opening it first.
    Control(Bytes),
    /// Append to a bidirectional stream, opening it when the session never named it before.
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
        /// What is asked. [`crate::Backfill`] finds in it what is wanted of a track's past.
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
        /// Our request, or the peer's PUBLISH that is done.
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
    /// A request ended with no word, by either side's stream ending or being reset. A FETCH of
    /// ours that was answered has no more to say after this, but its objects may still come.
    Ended {
        /// The request.
        id: RequestId,
        /// The reset's code; `None` for a FIN.
        code: Option<ResetCode>,
    },
}

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
    /// Draft 16's control stream and what comes with it.
    shared: Option<shared::Shared>,
    peer: Option<Setup>,
    setup_deadline: Instant,
    streams: HashMap<StreamId, Incoming>,
    requests: HashMap<RequestId, RequestState>,
    aliases: Aliases,
    /// Our FETCHes whose objects have not begun to come, in drafts that lay them out otherwise
    /// than the newest.
    fetch_orders: BTreeMap<RequestId, GroupOrder>,
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
        let parity = match config.role {
            Role::Client => 0,
            Role::Server => 1,
        };
        let mut session = Self {
            control: BytesMut::new(),
            shared: None,
            peer: None,
            setup_deadline: now + config.limits.setup_timeout,
            streams: HashMap::new(),
            requests: HashMap::new(),
            aliases: Aliases::default(),
            fetch_orders: BTreeMap::new(),
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
        let begun = match session.version() {
            Version::Draft16 => session.begin_shared(),
            Version::Draft18 | Version::Draft22 => session.begin_streams(),
        };
        if let Err(error) = begun {
            session.fail(ProtocolError::new(
                SessionCode::INTERNAL_ERROR,
                format!("our SETUP cannot be sent: {error}"),
            ));
        }
        session
    }

    /// From here on the peer may have this many requests open. To be raised only: what was granted
    /// is granted.
    pub fn limit_requests(&mut self, requests: usize) {
        self.config.limits.requests = requests;
        if let Err(error) = self.grant() {
            self.fail(error);
        }
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

    /// The peer opened a bidirectional stream.
    pub fn accept_stream(&mut self) -> StreamId {
        self.open_stream(None)
    }

    /// Whether a stream that the peer opened still has not brought its first message whole. How
    /// long that may take is for the shell to say.
    pub fn awaits_request(&self, stream: StreamId) -> bool {
        let incoming = self.streams.get(&stream);
        incoming.is_some_and(|incoming| incoming.request.is_none())
            && !self.is_shared_control(stream)
    }

    /// Bytes of a bidirectional stream. `fin`: the peer sends nothing after them.
    pub fn handle_stream(&mut self, stream: StreamId, bytes: &[u8], fin: bool) {
        if self.closed {
            return;
        }
        let Some(incoming) = self.streams.get_mut(&stream) else { return };
        incoming.buf.extend_from_slice(bytes);
        incoming.fin |= fin;
        self.process(stream);
        self.check_unfinished(stream);
    }

    /// Holds the peer to how much it may leave unfinished. Short messages are looked at only
    /// together with a long one.
    fn check_unfinished(&mut self, stream: StreamId) {
        const LONG: usize = 1024;
        if self.streams.get(&stream).is_none_or(|incoming| incoming.buf.len() < LONG) {
            return;
        }
        let unfinished: usize = self.streams.values().map(|incoming| incoming.buf.len()).sum();
        if unfinished > self.config.limits.unfinished_bytes {
            self.fail(ProtocolError::new(
                SessionCode::INTERNAL_ERROR,
                format!("{unfinished} bytes of messages are unfinished"),
            ));
        }
    }

    /// The peer reset what it sends on a bidirectional stream, which cancels its request
    /// ("Request Cancellation and Rejection").
    pub fn handle_stream_reset(&mut self, stream: StreamId, code: ResetCode) {
        if self.is_shared_control(stream) {
            return self.handle_control_closed();
        }
        let Some(incoming) = self.streams.get(&stream) else { return };
        match incoming.request {
            Some(id) => self.end(id, Some(code), Some(ResetCode::CANCELLED)),
            None => {
                self.streams.remove(&stream);
                self.put(Output::Reset { stream, code: ResetCode::CANCELLED });
            }
        }
    }

    /// The peer asked us to stop sending on a bidirectional stream. That cancels its own requests
    /// and a PUBLISH of ours; in answer to our other requests it says nothing yet: the peer's
    /// direction of the stream, perhaps with a last message, tells.
    pub fn handle_stream_stopped(&mut self, stream: StreamId, code: ResetCode) {
        let request = self.streams.get(&stream).and_then(|incoming| incoming.request);
        match request.and_then(|id| self.requests.get_mut(&id)) {
            Some(state) if state.side == Side::Local => {
                match (state.kind, state.phase) {
                    (Kind::Publish, Phase::Established) => self.handle_stream_reset(stream, code),
                    // A refusal may be on its way, behind this.
                    _ => state.stopped = true,
                }
            }
            _ => self.handle_stream_reset(stream, code),
        }
    }

    // ---- commands ----

    /// Asks the peer something.
    pub fn request(&mut self, request: Request) -> Result<RequestId, EncodeError> {
        let id = self.next_request;
        let order = match &request {
            Request::Fetch(fetch) => fetch.parameters.group_order.or(Some(GroupOrder::Ascending)),
            _ => None,
        };
        self.send_request(id, request)?;
        self.next_request += 2;
        if let Some(order) = order {
            self.fetch_orders.insert(id, order);
            if self.fetch_orders.len() > MAX_FETCH_ORDERS {
                self.fetch_orders.pop_first();
            }
        }
        Ok(id)
    }

    /// The order that our FETCH `id` asked for, once: for the shell that is about to read its
    /// objects. `None`: no FETCH of ours is waiting for any.
    pub fn take_fetch_order(&mut self, id: RequestId) -> Option<GroupOrder> {
        self.fetch_orders.remove(&id)
    }

    /// Subscribes to a track and, if `fill` is given, asks for objects of its past: returns the
    /// subscription's ID and the Request ID that the fetch stream will carry.
    pub fn subscribe(
        &mut self,
        mut subscribe: Subscribe,
        fill: Option<Fill>,
    ) -> Result<(RequestId, Option<RequestId>), EncodeError> {
        let Some(fill) = fill else {
            return Ok((self.request(Request::Subscribe(subscribe))?, None));
        };
        if self.version() >= Version::Draft22 {
            subscribe.parameters.fill = Some(Box::new(fill));
            let id = self.request(Request::Subscribe(subscribe))?;
            return Ok((id, Some(id)));
        }
        let fetch = self.joining_fetch(self.next_request, &fill)?;
        let id = self.request(Request::Subscribe(subscribe))?;
        Ok((id, Some(self.request(Request::Fetch(fetch))?)))
    }

    /// Asks for objects of the past of a subscription that is under way: returns the Request ID
    /// that the fetch stream will carry.
    pub fn backfill(
        &mut self,
        subscription: RequestId,
        fill: Fill,
    ) -> Result<RequestId, EncodeError> {
        if self.version() >= Version::Draft22 {
            let id = self.next_request;
            let fill = Some(Box::new(fill));
            self.update(subscription, Parameters { fill, ..Parameters::default() })?;
            return Ok(id);
        }
        let fetch = self.joining_fetch(subscription, &fill)?;
        self.request(Request::Fetch(fetch))
    }

    fn joining_fetch(&self, joining: RequestId, fill: &Fill) -> Result<crate::Fetch, EncodeError> {
        fill.to_joining_fetch(joining).ok_or(EncodeError::NotInDraft {
            version: self.version(),
            what: "a fill that does not begin with a group",
        })
    }

    /// Answers the peer's request `id`, or goes on answering. An error, PUBLISH_DONE and the
    /// answer to TRACK_STATUS end the request. Nothing happens when it is over already.
    ///
    /// A PUBLISH of our own is ended with [`Response::PublishDone`] too. What the draft has no
    /// message for, and only informs (PUBLISH_BLOCKED, PUBLISH_STATE_NOTIFY), is not sent. Where
    /// PUBLISH_OK cannot change a subscription (draft 22), REQUEST_UPDATE follows it.
    pub fn respond(&mut self, id: RequestId, response: Response) -> Result<(), EncodeError> {
        let version = self.version();
        let Some(state) = self.requests.get_mut(&id) else { return Ok(()) };
        if !rules::informs(version, &response) {
            return Ok(());
        }
        let last = matches!(response, Response::Error(_) | Response::PublishDone(_))
            || state.kind == Kind::TrackStatus;
        let publish = state.kind == Kind::Publish && state.side == Side::Peer;
        let (response, update) = match response {
            Response::Ok(ok) if publish => rules::split_publish_ok(version, ok),
            other => (other, None),
        };
        self.send_response(id, response, last)?;
        if let Some(state) = self.requests.get_mut(&id) {
            state.phase = Phase::Established;
        }
        if last {
            self.finish(id);
        } else if let Some(parameters) = update {
            self.send_update(id, parameters, true)?;
        }
        Ok(())
    }

    /// Answers the peer's oldest unanswered update of request `id`. An error ends a request about
    /// namespaces; a subscription is to be ended with PUBLISH_DONE and UPDATE_FAILED, and a fetch
    /// by resetting its data stream ("Updating Subscriptions").
    pub fn respond_update(
        &mut self,
        id: RequestId,
        result: Result<RequestOk, RequestError>,
    ) -> Result<(), EncodeError> {
        let Some(state) = self.requests.get_mut(&id) else { return Ok(()) };
        let Some(update) = state.received_updates.pop_front() else { return Ok(()) };
        if let (Ok(_), Some(prefix)) = (&result, update.prefix) {
            state.set_prefix(prefix);
        }
        let ends = result.is_err()
            && matches!(
                state.kind,
                Kind::PublishNamespace | Kind::SubscribeNamespace | Kind::SubscribeTracks
            );
        let response = match result {
            Ok(ok) => Response::Ok(ok),
            Err(error) => Response::Error(error),
        };
        self.send_update_answer(id, update.id, response, ends)?;
        if ends {
            self.finish(id);
            self.events.push_back(Event::Ended { id, code: None });
        }
        self.refuse_updates(id)
    }

    /// Changes request `id`, ours or one the peer began with PUBLISH. Nothing happens when it is
    /// over or cannot be changed.
    pub fn update(&mut self, id: RequestId, parameters: Parameters) -> Result<(), EncodeError> {
        self.send_update(id, parameters, false)
    }

    fn send_update(
        &mut self,
        id: RequestId,
        parameters: Parameters,
        silent: bool,
    ) -> Result<(), EncodeError> {
        let max = self.peer.as_ref().and_then(|peer| peer.max_request_updates).unwrap_or(0);
        let Some(state) = self.requests.get(&id) else { return Ok(()) };
        if !state.we_may_update() {
            return Ok(());
        }
        let overtakes =
            self.shared.is_some() && state.stream.is_some() && state.phase == Phase::Pending;
        if max != 0 && state.sent_updates.len() as u64 >= max || overtakes {
            return Err(EncodeError::MustWait);
        }
        let update_id = self.next_request;
        let prefix = parameters.track_namespace_prefix.clone();
        self.send_update_message(id, RequestUpdate { id: update_id, parameters })?;
        self.next_request += 2;
        if let Some(state) = self.requests.get_mut(&id) {
            state.sent_updates.push_back(PendingUpdate {
                id: update_id,
                prefix,
                silent,
                refused: None,
            });
        }
        Ok(())
    }

    /// The peer's request `id` was answered and there is nothing to add: for a FETCH whose data
    /// stream is over ("Fetch State Management").
    pub fn complete(&mut self, id: RequestId) {
        if let Some(stream) = self.remove(id).and_then(|state| state.stream) {
            self.close_stream(stream);
        }
    }

    /// Ends request `id`, in either direction, without a last message where the draft allows it.
    pub fn cancel(&mut self, id: RequestId, code: ResetCode) {
        self.fetch_orders.remove(&id);
        if let Some(state) = self.remove(id) {
            self.abandon(id, &state, code);
        }
    }

    /// Tells the peer that we will leave. New requests of the peer are refused from here on.
    pub fn go_away(&mut self, uri: Bytes, timeout_ms: u64) -> Result<(), EncodeError> {
        if self.goaway_sent || self.closed {
            return Ok(());
        }
        let request = Some(self.peer_ids.smallest_unseen());
        self.send_control(Message::GoAway(GoAway { uri, timeout: timeout_ms, request }))?;
        self.goaway_sent = true;
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
        self.aliases.find(alias)
    }

    /// Every subscription that has this alias, oldest first. Since draft 19 several to one track
    /// can, and each object is then for those whose filter it passes.
    pub fn track_alias_requests(&self, alias: u64) -> &[RequestId] {
        self.aliases.requests(alias)
    }

    // ---- inside ----

    fn open_stream(&mut self, request: Option<RequestId>) -> StreamId {
        let stream = StreamId(self.next_stream);
        self.next_stream += 1;
        let incoming = Incoming { buf: BytesMut::new(), fin: false, request };
        self.streams.insert(stream, incoming);
        stream
    }

    /// Nothing may follow [`Output::Close`].
    fn put(&mut self, output: Output) {
        if !self.closed {
            self.outputs.push_back(output);
        }
    }

    fn fail(&mut self, error: ProtocolError) {
        self.put(Output::Close(error));
        self.closed = true;
    }

    /// Forgets a request and everything that hangs on it.
    fn remove(&mut self, id: RequestId) -> Option<RequestState> {
        let state = self.requests.remove(&id)?;
        if let Some(stream) = state.stream {
            self.streams.remove(&stream);
        }
        if let Some(alias) = state.alias_in {
            self.aliases.release(alias, id);
        }
        self.removed_shared(id);
        Some(state)
    }

    /// A request is over by our own last message.
    fn finish(&mut self, id: RequestId) {
        if let Some(stream) = self.remove(id).and_then(|state| state.stream) {
            self.put(Output::Forget(stream));
        }
    }

    /// A request ended without a last message from the peer.
    fn end(&mut self, id: RequestId, code: Option<ResetCode>, reset: Option<ResetCode>) {
        let Some(state) = self.remove(id) else { return };
        match (state.stream, reset) {
            (Some(stream), Some(code)) => self.put(Output::Reset { stream, code }),
            (Some(stream), None) => self.close_stream(stream),
            (None, _) => {}
        }
        self.events.push_back(Event::Ended { id, code });
    }

    /// Ends our direction of a stream whose other direction is over.
    fn close_stream(&mut self, stream: StreamId) {
        self.put(Output::Request { stream, bytes: Bytes::new(), fin: true });
        self.put(Output::Forget(stream));
    }

    /// Answers the oldest updates of a request that the session itself refuses. That ends a
    /// subscription too.
    fn refuse_updates(&mut self, id: RequestId) -> Result<(), EncodeError> {
        let Some(state) = self.requests.get_mut(&id) else { return Ok(()) };
        let publisher = matches!(
            (state.side, state.kind),
            (Side::Peer, Kind::Subscribe) | (Side::Local, Kind::Publish)
        );
        let oldest = state.received_updates.front_mut();
        let Some(error) = oldest.and_then(|update| update.refused.take()) else { return Ok(()) };
        let reason = error.reason.clone();
        self.respond_update(id, Err(error))?;
        if publisher {
            self.events.push_back(Event::Ended { id, code: Some(ResetCode::CANCELLED) });
            self.respond(
                id,
                Response::PublishDone(PublishDone {
                    code: PublishDoneCode::UPDATE_FAILED,
                    stream_count: PublishDone::UNKNOWN_COUNT,
                    reason,
                }),
            )?;
        }
        Ok(())
    }
}

/// A message of our own making that cannot be encoded.
fn internal(error: EncodeError) -> ProtocolError {
    ProtocolError::new(SessionCode::INTERNAL_ERROR, error.to_string())
}

#[cfg(test)]
mod tests;
