//! How messages travel in drafts with a stream per request, and where draft 16 branches off.

use super::{Output, RequestState, Session, StreamId};
use crate::codec::{self, EncodeError};
use crate::{Message, ProtocolError, Request, RequestId, RequestUpdate, ResetCode, Response};

use super::request::Side;

/// Most bytes held of a message that is not whole: a payload and its framing.
pub(super) const MAX_MESSAGE: usize = u16::MAX as usize + 11;

impl Session {
    /// Our SETUP goes first, at once.
    pub(super) fn begin_streams(&mut self) -> Result<(), EncodeError> {
        self.send_control(Message::Setup(self.config.setup.clone()))
    }

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

    fn handle_control_message(&mut self, message: Message) -> Result<(), ProtocolError> {
        match message {
            Message::Setup(setup) => self.handle_setup(setup),
            _ if self.peer.is_none() => {
                Err(ProtocolError::violation("the control stream does not begin with SETUP"))
            }
            Message::GoAway(goaway) => self.handle_goaway(goaway),
            _ => Err(ProtocolError::violation("a request message on the control stream")),
        }
    }

    /// Streams that came before SETUP, in the order they came.
    pub(super) fn process_waiting(&mut self) {
        let mut waiting: Vec<StreamId> = self.streams.keys().copied().collect();
        waiting.sort();
        for stream in waiting {
            self.process(stream);
        }
    }

    /// Looks at what came on a bidirectional stream.
    pub(super) fn process(&mut self, stream: StreamId) {
        if self.shared.is_some() {
            return self.process_shared(stream);
        }
        if self.peer.is_none() {
            return self.hold(stream);
        }
        while !self.closed {
            let Some(incoming) = self.streams.get_mut(&stream) else { return };
            match codec::decode(self.config.version, &mut incoming.buf) {
                Ok(Some(message)) => {
                    let result = match incoming.request {
                        None => self.handle_first_message(stream, message),
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
        self.process_fin(stream);
    }

    /// "the data SHOULD be buffered until both control streams arrive", within bounds.
    pub(super) fn hold(&mut self, stream: StreamId) {
        let Some(incoming) = self.streams.get(&stream) else { return };
        if incoming.buf.len() > MAX_MESSAGE {
            self.streams.remove(&stream);
            self.put(Output::Reset { stream, code: ResetCode::EXCESSIVE_LOAD });
        }
    }

    /// Looks whether a stream is over, once all its messages were taken.
    pub(super) fn process_fin(&mut self, stream: StreamId) {
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

    fn handle_first_message(
        &mut self,
        stream: StreamId,
        message: Message,
    ) -> Result<(), ProtocolError> {
        let Message::Request { id, request } = message else {
            return Err(ProtocolError::violation("a request stream begins with another message"));
        };
        self.handle_first(Some(stream), id, request)
    }

    /// A message after the first on a request's stream.
    fn handle_following(&mut self, id: RequestId, message: Message) -> Result<(), ProtocolError> {
        match message {
            Message::Update(update) => self.handle_update(id, update),
            Message::Response(response) => {
                let for_update =
                    self.requests.get(&id).is_some_and(|state| state.answers_update(&response));
                self.handle_response(id, response, for_update)
            }
            Message::GoAway(goaway) => self.handle_request_goaway(id, goaway),
            Message::Request { .. } => {
                Err(ProtocolError::violation("a second request on one stream"))
            }
            Message::Setup(_) => Err(ProtocolError::violation("SETUP on a request stream")),
        }
    }

    // ---- out ----

    pub(super) fn send_control(&mut self, message: Message) -> Result<(), EncodeError> {
        if self.shared.is_some() {
            return self.send_shared_control(message);
        }
        let bytes = codec::to_bytes(self.version(), &message)?;
        self.put(Output::Control(bytes));
        Ok(())
    }

    pub(super) fn send_request(
        &mut self,
        id: RequestId,
        request: Request,
    ) -> Result<(), EncodeError> {
        let mut state = RequestState::new(None, Side::Local, &request);
        if self.shared.is_some() {
            state.stream = self.send_shared_request(id, request)?;
        } else {
            let bytes = codec::to_bytes(self.version(), &Message::Request { id, request })?;
            let stream = self.open_stream(Some(id));
            self.put(Output::Request { stream, bytes, fin: false });
            state.stream = Some(stream);
        }
        self.requests.insert(id, state);
        Ok(())
    }

    /// Sends an answer to request `id`, or what follows it; `last`: nothing follows.
    pub(super) fn send_response(
        &mut self,
        id: RequestId,
        response: Response,
        last: bool,
    ) -> Result<(), EncodeError> {
        if self.shared.is_some() {
            return self.send_shared_response(id, response, last);
        }
        self.send_on(id, &Message::Response(response), last)
    }

    pub(super) fn send_update_message(
        &mut self,
        id: RequestId,
        update: RequestUpdate,
    ) -> Result<(), EncodeError> {
        if self.shared.is_some() {
            return self.send_shared_update(id, update);
        }
        self.send_on(id, &Message::Update(update), false)
    }

    /// Answers the peer's update `update` of request `id`.
    pub(super) fn send_update_answer(
        &mut self,
        id: RequestId,
        update: RequestId,
        response: Response,
        last: bool,
    ) -> Result<(), EncodeError> {
        if self.shared.is_some() {
            return self.send_shared_answer(update, response);
        }
        self.send_on(id, &Message::Response(response), last)
    }

    /// Gives up a request that was removed.
    pub(super) fn abandon(&mut self, id: RequestId, state: &RequestState, code: ResetCode) {
        if self.shared.is_some() {
            self.abandon_shared(id, state, code);
        } else if let Some(stream) = state.stream {
            self.put(Output::Reset { stream, code });
        }
    }

    fn send_on(&mut self, id: RequestId, message: &Message, fin: bool) -> Result<(), EncodeError> {
        let Some(stream) = self.requests.get(&id).and_then(|state| state.stream) else {
            return Ok(());
        };
        let bytes = codec::to_bytes(self.version(), message)?;
        self.put(Output::Request { stream, bytes, fin });
        Ok(())
    }
}
