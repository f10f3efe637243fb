//! Runs a [`moqt::Session`] over a [`Connection`].

mod tasks;

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use moqt::{
    Alias, Config, Datagram, Event, Output, ProtocolError, Request, RequestId, ResetCode, Response,
    Session, SessionCode, StreamId, SubgroupHeader, Transcoder,
};
use tokio::sync::{mpsc, oneshot};

use crate::{CANONICAL, Connection, Error, Limits, ReadError, RecvStream, request_streams};
use tasks::{
    Begun, Command, Commands, Done, READ, Task, begin_within, let_end, write_control, write_request,
};

/// What the application gets.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "handled one at a time, never kept in bulk")]
pub enum DriverEvent {
    /// What the session said.
    Session(Event),
    /// A subgroup of one of our subscriptions, or of a track published to us, begins. Whatever the
    /// peer speaks, its bytes are as [`CANONICAL`] lays them out.
    Subgroup {
        /// The subscription.
        request: RequestId,
        /// Its header.
        header: SubgroupHeader,
        /// What was read after the header.
        head: Bytes,
        /// What is still to be read.
        stream: RecvStream,
    },
    /// The objects of one of our fetches begin, as [`CANONICAL`] lays them out.
    Fetch {
        /// The fetch.
        request: RequestId,
        /// What was read after the header.
        head: Bytes,
        /// What is still to be read.
        stream: RecvStream,
    },
    /// An object came as a datagram; its properties are as [`CANONICAL`] has them.
    Datagram {
        /// The subscription.
        request: RequestId,
        /// The object.
        datagram: Datagram,
    },
}

/// How long the streams of a subscription may come after its PUBLISH_DONE, which they race.
const LATE_STREAMS: Duration = Duration::from_secs(2);
/// Subscriptions that were just ended, at most.
const MAX_DONE: usize = 256;

/// A subgroup whose alias no answer has named yet.
struct Waiting {
    until: Instant,
    header: SubgroupHeader,
    head: Bytes,
    stream: RecvStream,
}

/// Whether a driver's tasks have something to do. A relay's sessions are woken for every object
/// they send, and mostly for nothing else: looking into the set of tasks then would be a good part
/// of what that costs.
#[derive(Default)]
struct News {
    some: AtomicBool,
    /// Who runs the driver.
    runner: Mutex<Option<Waker>>,
}

impl News {
    fn note(&self) {
        self.some.store(true, Ordering::Release);
    }

    /// Whether there is news, and none from here on; whoever runs the driver is woken for more.
    fn take(&self, runner: &Waker) -> bool {
        let mut known = self.runner.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *known {
            Some(known) => known.clone_from(runner),
            None => *known = Some(runner.clone()),
        }
        drop(known);
        self.some.swap(false, Ordering::AcqRel)
    }
}

impl Wake for News {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.note();
        if let Some(runner) = &*self.runner.lock().unwrap_or_else(PoisonError::into_inner) {
            runner.wake_by_ref();
        }
    }
}

/// Runs a session. Call [`Driver::poll_next`] (or [`Driver::next`]) until it ends; command the
/// session through [`Driver::session_mut`] in between.
pub struct Driver {
    connection: Connection,
    session: Session,
    tasks: FuturesUnordered<Task>,
    /// Whether one of them has something to do.
    news: Arc<News>,
    control: Option<mpsc::UnboundedSender<Command>>,
    writing: HashMap<StreamId, mpsc::UnboundedSender<Command>>,
    /// Receiving sides of request streams are read by tasks; a forgotten one ends its task.
    reading: HashMap<StreamId, oneshot::Sender<ResetCode>>,
    /// Subgroups of unknown aliases, oldest first, and until when each may wait.
    waiting: VecDeque<Waiting>,
    /// What the peer's data streams call our subscriptions.
    aliases: HashMap<RequestId, u64>,
    /// Subscriptions that PUBLISH_DONE ended, by alias, and until when its streams may be late.
    done: VecDeque<(Instant, u64, RequestId)>,
    /// Request streams that the peer opened, oldest first, and until when each may stay silent.
    silent: VecDeque<(Instant, StreamId)>,
    /// Bytes for control and request streams that QUIC has not taken yet.
    unsent: Arc<AtomicUsize>,
    limits: Limits,
    events: VecDeque<DriverEvent>,
    timer: Option<(Instant, Pin<Box<tokio::time::Sleep>>)>,
    control_seen: bool,
    closing: Option<ProtocolError>,
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("connection", &self.connection).finish_non_exhaustive()
    }
}

impl Driver {
    /// Begins a session on a fresh connection with our SETUP and limits. A SETUP that says
    /// nothing of tokens takes as many as the limits do.
    pub fn new(connection: Connection, mut setup: moqt::Setup, limits: impl Into<Limits>) -> Self {
        let limits = limits.into();
        setup.max_auth_token_cache_size.get_or_insert(limits.session.token_bytes);
        let config = Config {
            version: connection.version(),
            role: connection.role(),
            transport: connection.transport(),
            setup,
            limits: limits.session,
        };
        let driver = Self {
            session: Session::new(config, Instant::now()),
            tasks: FuturesUnordered::new(),
            news: Arc::default(),
            control: None,
            writing: HashMap::new(),
            reading: HashMap::new(),
            waiting: VecDeque::new(),
            aliases: HashMap::new(),
            done: VecDeque::new(),
            silent: VecDeque::new(),
            unsent: Arc::default(),
            limits,
            events: VecDeque::new(),
            timer: None,
            control_seen: false,
            closing: None,
            connection,
        };
        driver.spawn_accepts();
        driver
    }

    fn spawn_accepts(&self) {
        let c = self.connection.clone();
        self.spawn(async move { Done::AcceptedBi(c.accept_bi().await) });
        let c = self.connection.clone();
        self.spawn(async move { Done::AcceptedUni(c.accept_uni().await) });
        let c = self.connection.clone();
        self.spawn(async move { Done::Datagram(c.read_datagram().await) });
    }

    /// The session, for commands.
    pub fn session_mut(&mut self) -> &mut Session {
        &mut self.session
    }

    /// Lets the peer have so many times the requests open that the limits allow, and as many times
    /// the data streams that wait for an answer.
    pub fn allow_times(&mut self, times: usize) {
        let requests = self.limits.session.requests.saturating_mul(times);
        self.session.limit_requests(requests);
        self.connection.allow_requests(request_streams(requests));
        self.limits.waiting_streams = self.limits.waiting_streams.saturating_mul(times);
    }

    /// The connection.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The next event; an error when the session is over.
    pub async fn next(&mut self) -> Result<DriverEvent, Error> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The next event; an error when the session is over. Commands given since the last call are
    /// carried out first.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<DriverEvent, Error>> {
        loop {
            self.carry_out();
            while let Some(event) = self.session.poll_event() {
                let named = self.follow_aliases(&event);
                self.events.push_back(DriverEvent::Session(event));
                if named {
                    self.release_waiting();
                }
            }
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(Ok(event));
            }
            if let Some(error) = self.closing.take() {
                self.connection.close(error.code, &error.reason);
                return Poll::Ready(Err(error.into()));
            }
            self.poll_timer(cx);
            if self.session.is_closed() {
                continue;
            }
            if !self.news.take(cx.waker()) {
                return Poll::Pending;
            }
            let waker = Waker::from(Arc::clone(&self.news));
            match self.tasks.poll_next_unpin(&mut Context::from_waker(&waker)) {
                Poll::Ready(Some(done)) => {
                    // There may be more.
                    self.news.note();
                    if let Err(error) = self.handle(done) {
                        return Poll::Ready(Err(error));
                    }
                }
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) {
        while self.silent.front().is_some_and(|(_, id)| !self.session.awaits_request(*id)) {
            self.silent.pop_front();
        }
        let silent = self.silent.front().map(|(until, _)| *until);
        let waiting = self.waiting.front().map(|waiting| waiting.until);
        let timeout = self.session.poll_timeout();
        let Some(at) = timeout.into_iter().chain(silent).chain(waiting).min() else {
            self.timer = None;
            return;
        };
        if self.timer.as_ref().is_none_or(|(set, _)| *set != at) {
            self.timer = Some((at, Box::pin(tokio::time::sleep_until(at.into()))));
        }
        if let Some((_, sleep)) = &mut self.timer
            && sleep.as_mut().poll(cx).is_ready()
        {
            self.timer = None;
            let now = Instant::now();
            self.session.handle_timeout(now);
            while self.waiting.front().is_some_and(|waiting| now >= waiting.until) {
                if let Some(mut waiting) = self.waiting.pop_front() {
                    waiting.stream.stop(ResetCode::CANCELLED);
                }
            }
            if silent.is_some_and(|until| now >= until) {
                let reason = "a request stream did not bring its request in time";
                self.session.close(SessionCode::CONTROL_MESSAGE_TIMEOUT, reason);
            }
        }
    }

    fn spawn(&self, task: impl Future<Output = Done> + Send + 'static) {
        self.tasks.push(Box::pin(task));
        self.news.note();
    }

    /// Does what the session put out.
    fn carry_out(&mut self) {
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Control(bytes) => {
                    let writer = self.control_writer().clone();
                    self.order(&writer, bytes);
                }
                Output::Request { stream, bytes, fin } => {
                    self.write(stream, bytes);
                    if fin {
                        self.writing.remove(&stream);
                    }
                }
                Output::Reset { stream, code } => {
                    if let Some(stop) = self.reading.remove(&stream) {
                        let _ = stop.send(code);
                    }
                    if let Some(writer) = self.writing.remove(&stream) {
                        let _ = writer.send(Command::Reset(code));
                    }
                }
                Output::Forget(stream) => {
                    // Dropping the ends lets the tasks finish what they have.
                    self.reading.remove(&stream);
                    self.writing.remove(&stream);
                }
                Output::Close(error) => self.closing = Some(error),
            }
        }
    }

    /// A new writing task's orders and the end to give them by.
    fn orders(&self) -> (mpsc::UnboundedSender<Command>, Commands) {
        let (writer, orders) = mpsc::unbounded_channel();
        (writer, Commands { orders, unsent: Arc::clone(&self.unsent) })
    }

    /// Has bytes written, and counts what waits for a peer that may not be reading.
    fn order(&mut self, writer: &mpsc::UnboundedSender<Command>, bytes: Bytes) {
        let length = bytes.len();
        let unsent = self.unsent.fetch_add(length, Ordering::Relaxed) + length;
        if writer.send(Command::Write(bytes)).is_err() {
            self.unsent.fetch_sub(length, Ordering::Relaxed);
        } else if unsent > self.limits.unsent_bytes {
            let reason = format!("{unsent} bytes of answers wait for a peer that does not read");
            self.session.close(SessionCode::INTERNAL_ERROR, reason);
        }
    }

    /// Our control stream, opened at its first use.
    fn control_writer(&mut self) -> &mpsc::UnboundedSender<Command> {
        if self.control.is_none() {
            let (writer, commands) = self.orders();
            let c = self.connection.clone();
            self.spawn(async move { Done::OpenedControl(commands, c.open_control().await) });
            self.control = Some(writer);
        }
        self.control.as_ref().expect("set just above")
    }

    /// Appends to a request stream, opening it when it is new.
    fn write(&mut self, stream: StreamId, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        if !self.writing.contains_key(&stream) {
            let (writer, commands) = self.orders();
            self.writing.insert(stream, writer);
            let c = self.connection.clone();
            self.spawn(async move { Done::Opened(stream, commands, c.open_bi().await) });
        }
        if let Some(writer) = self.writing.get(&stream).cloned() {
            self.order(&writer, bytes);
        }
    }

    fn handle(&mut self, done: Done) -> Result<(), Error> {
        match done {
            Done::AcceptedBi(accepted) => {
                let (send, recv) = accepted?;
                let stream = self.session.accept_stream();
                let (writer, commands) = self.orders();
                self.writing.insert(stream, writer);
                self.silent.push_back((Instant::now() + self.limits.request_timeout, stream));
                self.spawn(write_request(stream, send, commands));
                self.read(stream, recv);
                let c = self.connection.clone();
                self.spawn(async move { Done::AcceptedBi(c.accept_bi().await) });
            }
            Done::AcceptedUni(accepted) => {
                let (stream, coding) = (accepted?, self.connection.version().int_coding());
                self.spawn(begin_within(self.limits.header_timeout, stream, coding));
                let c = self.connection.clone();
                self.spawn(async move { Done::AcceptedUni(c.accept_uni().await) });
            }
            Done::Datagram(datagram) => {
                self.handle_datagram(datagram?);
                let c = self.connection.clone();
                self.spawn(async move { Done::Datagram(c.read_datagram().await) });
            }
            Done::Begun { kind, stream, head } => self.handle_begun(kind, stream, head),
            Done::Violation(error) => self.session.close(error.code, error.reason),
            Done::Control(stream, result) => match result {
                Ok(Some(bytes)) => {
                    self.session.handle_control(&bytes, false);
                    self.read_control(stream);
                }
                Ok(None) | Err(ReadError::Reset(_)) => self.session.handle_control_closed(),
                Err(ReadError::Gone(_)) => {}
            },
            Done::Read(id, stream, result) => match result {
                Ok(Some(bytes)) => {
                    self.session.handle_stream(id, &bytes, false);
                    self.read(id, stream);
                }
                Ok(None) => {
                    self.reading.remove(&id);
                    self.session.handle_stream(id, &[], true);
                }
                Err(ReadError::Reset(code)) => {
                    self.reading.remove(&id);
                    self.session.handle_stream_reset(id, code);
                }
                Err(ReadError::Gone(_)) => {}
            },
            Done::Opened(id, commands, opened) => {
                let (send, recv) = opened?;
                self.read(id, recv);
                self.spawn(write_request(id, send, commands));
            }
            Done::OpenedControl(commands, opened) => {
                let stream = opened?;
                stream.set_priority(i32::MAX);
                self.spawn(write_control(stream, commands));
            }
            Done::Stopped(id, code) => self.session.handle_stream_stopped(id, code),
            Done::Vanished | Done::Nothing => {}
        }
        Ok(())
    }

    /// Reads on, until the session forgets the stream.
    fn read(&mut self, id: StreamId, mut stream: RecvStream) {
        let (stop, stopped) = oneshot::channel();
        self.reading.insert(id, stop);
        self.spawn(async move {
            tokio::select! {
                biased;
                code = stopped => {
                    match code {
                        Ok(code) => stream.stop(code),
                        Err(_) => let_end(stream).await,
                    }
                    Done::Nothing
                }
                result = stream.read_chunk(READ) => Done::Read(id, stream, result),
            }
        });
    }

    fn read_control(&self, mut stream: RecvStream) {
        self.spawn(async move {
            let result = stream.read_chunk(READ).await;
            Done::Control(stream, result)
        });
    }

    fn handle_begun(&mut self, kind: Begun, stream: RecvStream, head: BytesMut) {
        match kind {
            Begun::Control if std::mem::replace(&mut self.control_seen, true) => {
                self.session.close(SessionCode::PROTOCOL_VIOLATION, "a second control stream");
            }
            Begun::Control => {
                self.session.handle_control(&head, false);
                self.read_control(stream);
            }
            Begun::Subgroup(header) => {
                let (from, to) = (self.connection.version(), CANONICAL);
                let differ = Transcoder::subgroups_differ(from, to);
                let transcoder = differ.then(|| Transcoder::subgroup_objects(&header, from, to));
                let (stream, head) =
                    stream.rewritten(transcoder, head.freeze(), self.connection.session());
                self.handle_subgroup(header, head, stream);
            }
            Begun::Fetch(header) => self.handle_fetch(header.request, head.freeze(), stream),
        }
    }

    fn handle_fetch(&mut self, request: RequestId, head: Bytes, mut stream: RecvStream) {
        let (from, to) = (self.connection.version(), CANONICAL);
        let order = self.session.take_fetch_order(request);
        let transcoder = match order {
            _ if !Transcoder::fetches_differ(from, to) => None,
            Some(order) => Some(Transcoder::fetch_objects(order, from, to)),
            // Cancelled, or never asked for.
            None => return stream.stop(ResetCode::CANCELLED),
        };
        let (stream, head) = stream.rewritten(transcoder, head, self.connection.session());
        self.events.push_back(DriverEvent::Fetch { request, head, stream });
    }

    fn handle_subgroup(&mut self, header: SubgroupHeader, head: Bytes, mut stream: RecvStream) {
        match self.session.track_alias(header.track_alias) {
            Alias::Request(request) => {
                self.events.push_back(DriverEvent::Subgroup { request, header, head, stream });
            }
            Alias::Unknown if self.waiting.len() < self.limits.waiting_streams => {
                let until = Instant::now() + self.limits.waiting_timeout;
                self.waiting.push_back(Waiting { until, header, head, stream });
            }
            Alias::Unknown => stream.stop(ResetCode::CANCELLED),
            Alias::Retired => match self.done_request(header.track_alias) {
                Some(request) => {
                    self.events.push_back(DriverEvent::Subgroup { request, header, head, stream });
                }
                None => stream.stop(ResetCode::CANCELLED),
            },
        }
    }

    /// Keeps up with what aliases mean. `true`: the event named one, and streams may be waiting
    /// for it.
    fn follow_aliases(&mut self, event: &Event) -> bool {
        match event {
            Event::Responded { id, response: Response::SubscribeOk(ok) } => {
                self.aliases.insert(*id, ok.track_alias);
                true
            }
            Event::Requested { id, request: Request::Publish(publish) } => {
                self.aliases.insert(*id, publish.track_alias);
                true
            }
            Event::Responded { id, response: Response::PublishDone(_) } => {
                if let Some(alias) = self.aliases.remove(id) {
                    if self.done.len() == MAX_DONE {
                        self.done.pop_front();
                    }
                    self.done.push_back((Instant::now() + LATE_STREAMS, alias, *id));
                }
                false
            }
            Event::Responded { id, response: Response::Error(_) } | Event::Ended { id, .. } => {
                self.aliases.remove(id);
                false
            }
            _ => false,
        }
    }

    /// The subscription that PUBLISH_DONE ended just now, whose stream this is.
    fn done_request(&mut self, alias: u64) -> Option<RequestId> {
        let now = Instant::now();
        self.done.retain(|(until, ..)| *until > now);
        self.done.iter().rev().find(|(_, other, _)| *other == alias).map(|(.., id)| *id)
    }

    fn release_waiting(&mut self) {
        for waiting in std::mem::take(&mut self.waiting) {
            if self.session.track_alias(waiting.header.track_alias) == Alias::Unknown {
                self.waiting.push_back(waiting);
            } else {
                self.handle_subgroup(waiting.header, waiting.head, waiting.stream);
            }
        }
    }

    fn handle_datagram(&mut self, bytes: Bytes) {
        let version = self.connection.version();
        match Datagram::decode(bytes, version.int_coding()) {
            Ok(Some(datagram)) => {
                let Ok(datagram) = datagram.transcode(version, CANONICAL) else { return };
                if let Alias::Request(request) = self.session.track_alias(datagram.track_alias) {
                    self.events.push_back(DriverEvent::Datagram { request, datagram });
                }
            }
            Ok(None) => {}
            Err(error) => self.session.close(error.code, error.reason),
        }
    }
}

#[cfg(test)]
mod tests;
