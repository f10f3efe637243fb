//! A session over one end of a link: what `transport::Driver` is to quinn.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use moqt::{
    Alias, Config, Datagram, Event, FetchHeader, Limits, Output, ProtocolError, Request, RequestId,
    ResetCode, Response, Role, Session, SessionCode, Setup, StreamId, StreamKind, SubgroupHeader,
    Transport, Version,
};

use crate::link::{Arrival, Class, Link, Side, StreamNo};

/// What whoever owns the wire must know, in this order.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "handled one at a time, never kept in bulk")]
pub(crate) enum Said {
    Event(Event),
    /// A subgroup of one of our subscriptions begins.
    Subgroup {
        request: RequestId,
        header: SubgroupHeader,
        stream: StreamNo,
    },
    /// The objects of one of our fetches begin.
    Fetch,
    /// The next bytes of such a stream.
    Bytes {
        stream: StreamNo,
        bytes: Bytes,
    },
    /// Its end.
    Fin {
        stream: StreamNo,
    },
    /// Its end, before it was whole.
    Reset {
        stream: StreamNo,
        code: ResetCode,
    },
    /// The peer does not want a data stream of ours.
    Stopped {
        stream: StreamNo,
    },
    /// The peer has all of a data stream of ours.
    Delivered {
        stream: StreamNo,
    },
    Datagram {
        request: RequestId,
        datagram: Datagram,
    },
    /// The connection is gone.
    Closed,
}

/// What is known of a data stream of the peer's.
#[derive(Debug)]
enum Incoming {
    /// Its header is not whole.
    Head(BytesMut),
    /// Nobody knows its alias yet; since when.
    Waiting(Instant, SubgroupHeader, Vec<Said>),
    /// It was announced to our owner.
    Known,
    /// Read nothing more.
    Ignored,
}

/// Data streams that may wait for their alias.
const MAX_WAITING: usize = 64;
/// How long they may wait. The answer that would have named it may never come.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) session: Session,
    pub(crate) side: Side,
    control: Option<StreamNo>,
    names: HashMap<StreamNo, StreamId>,
    streams: HashMap<StreamId, StreamNo>,
    incoming: BTreeMap<StreamNo, Incoming>,
    /// Request streams of the peer's that the session has forgotten.
    forgotten: BTreeSet<StreamNo>,
    said: VecDeque<Said>,
    /// What the peer or we did wrong; nobody does in a simulation.
    pub(crate) error: Option<ProtocolError>,
    pub(crate) is_closed: bool,
}

impl Wire {
    pub(crate) fn new(side: Side, version: Version, setup: Setup, now: Instant) -> Self {
        let role = if side == 0 { Role::Client } else { Role::Server };
        let transport = Transport::RawQuic;
        let config = Config { version, role, transport, setup, limits: Limits::default() };
        Self {
            session: Session::new(config, now),
            side,
            control: None,
            names: HashMap::new(),
            streams: HashMap::new(),
            incoming: BTreeMap::new(),
            forgotten: BTreeSet::new(),
            said: VecDeque::new(),
            error: None,
            is_closed: false,
        }
    }

    pub(crate) fn poll_said(&mut self) -> Option<Said> {
        self.said.pop_front()
    }

    /// When a stream has waited for its alias for long enough.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let until = |held: &Incoming| match held {
            Incoming::Waiting(since, ..) => Some(*since + PATIENCE),
            _ => None,
        };
        self.incoming.values().filter_map(until).min()
    }

    /// Turns away streams that have waited for too long.
    pub(crate) fn handle_timeout(&mut self, link: &mut Link) {
        let now = link.now();
        let late: Vec<_> = self
            .incoming
            .iter()
            .filter_map(|(no, held)| match held {
                Incoming::Waiting(since, _, said) if *since + PATIENCE <= now => {
                    Some((*no, said.iter().any(|s| !matches!(s, Said::Bytes { .. }))))
                }
                _ => None,
            })
            .collect();
        for (stream, over) in late {
            self.stop(stream, link);
            if over {
                self.incoming.remove(&stream);
            }
        }
    }

    /// Data streams of the peer's that have not ended.
    pub(crate) fn open_incoming(&self) -> usize {
        self.incoming.len()
    }

    pub(crate) fn handle(&mut self, arrival: Arrival, link: &mut Link) {
        match arrival {
            Arrival::Bytes { stream, bytes, fin } => self.handle_bytes(stream, &bytes, fin, link),
            Arrival::Reset { stream, code } if stream.class == Class::Data => {
                self.handle_data(stream, Said::Reset { stream, code });
                self.forget_data(stream);
            }
            Arrival::Reset { stream, code } => {
                if let Some(id) = self.name(stream) {
                    self.session.handle_stream_reset(id, code);
                }
            }
            Arrival::Stop { stream, .. } if stream.class == Class::Data => {
                self.said.push_back(Said::Stopped { stream });
            }
            Arrival::Stop { stream, code } => {
                if let Some(id) = self.names.get(&stream) {
                    self.session.handle_stream_stopped(*id, code);
                }
            }
            Arrival::Delivered { stream } => self.said.push_back(Said::Delivered { stream }),
            Arrival::Datagram(bytes) => self.handle_datagram(bytes),
            Arrival::Closed { code } => {
                self.is_closed = true;
                if let Some(code) = code.filter(|code| *code != SessionCode::NO_ERROR) {
                    self.error = Some(ProtocolError::new(code, "said the peer"));
                }
                self.said.push_back(Said::Closed);
            }
        }
        self.flush(link);
    }

    fn handle_bytes(&mut self, stream: StreamNo, bytes: &Bytes, fin: bool, link: &mut Link) {
        match stream.class {
            Class::Control => self.session.handle_control(bytes, false),
            Class::Request => {
                if let Some(id) = self.name(stream) {
                    self.session.handle_stream(id, bytes, fin);
                }
            }
            Class::Data => {
                if !bytes.is_empty() {
                    self.handle_data(stream, Said::Bytes { stream, bytes: bytes.clone() });
                    self.begin(stream, link);
                }
                if fin {
                    self.handle_data(stream, Said::Fin { stream });
                    self.forget_data(stream);
                }
            }
        }
    }

    /// The session's name of a request stream; a new one is accepted.
    fn name(&mut self, stream: StreamNo) -> Option<StreamId> {
        if let Some(id) = self.names.get(&stream) {
            return Some(*id);
        }
        if stream.opener == self.side || self.forgotten.contains(&stream) {
            return None;
        }
        let id = self.session.accept_stream();
        self.names.insert(stream, id);
        self.streams.insert(id, stream);
        Some(id)
    }

    /// A data stream has ended; who waits keeps its end along.
    fn forget_data(&mut self, stream: StreamNo) {
        if !matches!(self.incoming.get(&stream), Some(Incoming::Waiting(..))) {
            self.incoming.remove(&stream);
        }
    }

    fn handle_data(&mut self, stream: StreamNo, said: Said) {
        match self.incoming.entry(stream).or_insert_with(|| Incoming::Head(BytesMut::new())) {
            Incoming::Head(head) => {
                if let Said::Bytes { bytes, .. } = said {
                    head.extend_from_slice(&bytes);
                }
            }
            Incoming::Waiting(.., held) => held.push(said),
            Incoming::Known => self.said.push_back(said),
            Incoming::Ignored => {}
        }
    }

    /// Reads the header once it is whole.
    fn begin(&mut self, stream: StreamNo, link: &mut Link) {
        let coding = self.session.version().int_coding();
        let Some(Incoming::Head(head)) = self.incoming.get_mut(&stream) else { return };
        let subgroup = match StreamKind::peek(head, coding) {
            Ok(Some(StreamKind::Subgroup)) => true,
            Ok(Some(StreamKind::Fetch)) => false,
            Ok(None) => return,
            other => return self.fail(ProtocolError::violation(format!("{stream}: {other:?}"))),
        };
        if !subgroup {
            let Ok(Some(_)) = FetchHeader::decode(head, coding) else { return };
            let bytes = std::mem::take(head).freeze();
            self.incoming.insert(stream, Incoming::Known);
            self.said.push_back(Said::Fetch);
            self.said.push_back(Said::Bytes { stream, bytes });
            return;
        }
        let header = match SubgroupHeader::decode(head, coding) {
            Ok(Some(header)) => header,
            Ok(None) => return,
            Err(error) => return self.fail(error),
        };
        let bytes = std::mem::take(head).freeze();
        let held = vec![Said::Bytes { stream, bytes }];
        self.announce(stream, header, held, link);
    }

    fn announce(
        &mut self,
        stream: StreamNo,
        header: SubgroupHeader,
        held: Vec<Said>,
        link: &mut Link,
    ) {
        let waiting =
            self.incoming.values().filter(|held| matches!(held, Incoming::Waiting(..))).count();
        match self.session.track_alias(header.track_alias) {
            Alias::Request(request) => {
                let over = held.iter().any(|s| matches!(s, Said::Fin { .. } | Said::Reset { .. }));
                self.said.push_back(Said::Subgroup { request, header, stream });
                self.said.extend(held);
                match over {
                    true => self.incoming.remove(&stream),
                    false => self.incoming.insert(stream, Incoming::Known),
                };
            }
            Alias::Unknown if waiting < MAX_WAITING => {
                self.incoming.insert(stream, Incoming::Waiting(link.now(), header, held));
            }
            Alias::Unknown | Alias::Retired => self.stop(stream, link),
        }
    }

    /// Turns a data stream of the peer's away.
    pub(crate) fn stop(&mut self, stream: StreamNo, link: &mut Link) {
        if let Some(incoming) = self.incoming.get_mut(&stream) {
            *incoming = Incoming::Ignored;
        }
        link.stop(self.side, stream, ResetCode::CANCELLED);
    }

    fn release_waiting(&mut self, link: &mut Link) {
        let waits = |held: &Incoming| matches!(held, Incoming::Waiting(..));
        let streams: Vec<_> =
            self.incoming.iter().filter(|(_, i)| waits(i)).map(|(no, _)| *no).collect();
        for stream in streams {
            if let Some(Incoming::Waiting(_, header, held)) = self.incoming.remove(&stream) {
                self.incoming.insert(stream, Incoming::Head(BytesMut::new()));
                self.announce(stream, header, held, link);
            }
        }
    }

    fn handle_datagram(&mut self, bytes: Bytes) {
        match Datagram::decode(bytes, self.session.version().int_coding()) {
            Ok(Some(datagram)) => {
                if let Alias::Request(request) = self.session.track_alias(datagram.track_alias) {
                    self.said.push_back(Said::Datagram { request, datagram });
                }
            }
            Ok(None) => {}
            Err(error) => self.fail(error),
        }
    }

    fn fail(&mut self, error: ProtocolError) {
        self.session.close(error.code, error.reason);
    }

    /// Carries out what the session put out. To be called after every command to it.
    pub(crate) fn flush(&mut self, link: &mut Link) {
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Control(bytes) => {
                    let side = self.side;
                    let control =
                        *self.control.get_or_insert_with(|| link.open(side, Class::Control, 0));
                    link.write(side, control, &[bytes]);
                }
                Output::Request { stream, bytes, fin } => {
                    let no = self.stream_no(stream, link);
                    if !bytes.is_empty() {
                        link.answer(self.side, no, bytes);
                    }
                    if fin {
                        link.finish(self.side, no);
                    }
                }
                Output::Reset { stream, code } => {
                    if let Some(no) = self.forget(stream) {
                        link.reset(self.side, no, code);
                        link.stop(self.side, no, code);
                    }
                }
                Output::Forget(stream) => {
                    if let Some(no) = self.forget(stream) {
                        link.finish(self.side, no);
                    }
                }
                Output::Close(error) => {
                    link.close(self.side, Some(error.code), None);
                    self.is_closed = true;
                    if error.code != SessionCode::NO_ERROR {
                        self.error = Some(error);
                    }
                    self.said.push_back(Said::Closed);
                }
            }
        }
        while let Some(event) = self.session.poll_event() {
            let names_alias = matches!(
                event,
                Event::Responded { response: Response::SubscribeOk(_), .. }
                    | Event::Requested { request: Request::Publish(_), .. }
            );
            self.said.push_back(Said::Event(event));
            if names_alias {
                self.release_waiting(link);
            }
        }
    }

    fn stream_no(&mut self, stream: StreamId, link: &mut Link) -> StreamNo {
        if let Some(no) = self.streams.get(&stream) {
            return *no;
        }
        let no = link.open(self.side, Class::Request, 0);
        self.streams.insert(stream, no);
        self.names.insert(no, stream);
        no
    }

    fn forget(&mut self, stream: StreamId) -> Option<StreamNo> {
        let no = self.streams.remove(&stream)?;
        self.names.remove(&no);
        self.forgotten.insert(no);
        Some(no)
    }
}
