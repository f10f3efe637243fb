//! Answers one FETCH or fill: what the cache holds from there, the rest from a source ("Fetch
//! Handling").

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use moqt::{
    Fetch, FetchHeader, FetchMark, FetchOk, FetchRange, FetchScanner, FetchWriter, FullTrackName,
    Gap, GroupOrder, Location, LocationRange, Parameters, Request, RequestError, RequestErrorCode,
    RequestId, ResetCode, Response, TrackStatus,
};
use relay_core::{FetchCursor, FetchStep, FetchedObject, Part, SessionId, fetch_priority};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use transport::{CANONICAL, Connection, RecvStream, SendStream};

use super::session::{Ahead, Answer, Ask, AskedStream};
use super::{Mail, Mailbox, Node, SharedTrack, lock};

/// How long a source may be silent.
const PATIENCE: Duration = Duration::from_secs(10);
/// One stream has objects of all publisher priorities.
const DEFAULT_PUBLISHER_PRIORITY: u8 = 128;
/// Bytes read from a source at once.
const READ: usize = 64 * 1024;
/// Bytes written at once.
const PIECE: usize = 8 * 1024;
/// After so long it is a fetch stream's turn, whatever waits: that may be a track which the peer does
/// not read.
const TURN: Duration = Duration::from_secs(1);

/// Which objects are wanted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted {
    /// Those in this range.
    Range(LocationRange),
    /// This many groups before the next one.
    Last(u64),
}

/// One FETCH or fill.
pub(super) struct Job {
    pub(super) node: Arc<Node>,
    /// Who asks.
    pub(super) session: SessionId,
    pub(super) connection: Connection,
    pub(super) mailbox: Mailbox,
    /// Nothing is to be answered: it is a fill, or it was.
    pub(super) answered: bool,
    /// What FETCH_HEADER says.
    pub(super) request: RequestId,
    pub(super) name: FullTrackName,
    pub(super) wanted: Wanted,
    pub(super) order: GroupOrder,
    pub(super) timeout: Option<Duration>,
    pub(super) priority: Arc<AtomicU8>,
    /// What of the session's subscriptions goes before it.
    pub(super) ahead: watch::Receiver<Ahead>,
}

/// How long is waited for sources.
#[derive(Clone, Copy)]
struct Patience {
    /// The budget for all of it, if there is one ("FILL TIMEOUT Parameter").
    total: Option<Instant>,
}

impl Patience {
    fn new(budget: Option<Duration>) -> Self {
        Self { total: budget.map(|budget| Instant::now() + budget) }
    }

    /// Until when the next answer or bytes must come.
    fn until(self) -> Instant {
        let next = Instant::now() + PATIENCE;
        self.total.map_or(next, |total| total.min(next))
    }
}

/// Why a job ends early. Whatever was sent is cut.
enum Stop {
    /// The request is refused.
    Refused(Box<RequestError>),
    /// The stream is reset.
    Reset(ResetCode),
    /// The peer, or its session, is gone.
    Gone,
}

impl Stop {
    fn refused(error: RequestError) -> Self {
        Self::Refused(Box::new(error))
    }
}

impl From<transport::WriteError> for Stop {
    fn from(_: transport::WriteError) -> Self {
        Self::Gone
    }
}

impl Job {
    pub(super) async fn run(mut self) {
        let live = lock(&self.node.router).live_track(&self.name);
        let result = match live.and_then(|track| self.node.track(track)) {
            Some(track) => self.serve(&track).await,
            None => self.pass_on().await,
        };
        if let Err(Stop::Refused(error)) = result {
            self.respond(Response::Error(*error));
        }
    }

    /// Answers, once.
    fn respond(&mut self, response: Response) {
        if !std::mem::replace(&mut self.answered, true) {
            Answer { request: self.request, response }.give(&self.mailbox);
        }
    }

    /// The track is subscribed to: its largest object is known, and the newest groups are here.
    async fn serve(&mut self, track: &SharedTrack) -> Result<(), Stop> {
        let invalid =
            |reason| Stop::refused(RequestError::new(RequestErrorCode::INVALID_RANGE, reason));
        let (largest, properties) = {
            let state = track.read();
            (state.largest(), state.properties().clone())
        };
        let Some(largest) = largest else {
            return Err(invalid(format!("nothing of {} was published yet", self.name)));
        };
        let range = match self.wanted {
            Wanted::Range(range) => range,
            Wanted::Last(groups) => LocationRange {
                start: Location::start_of((largest.group + 1).saturating_sub(groups)),
                end: Location::LAST,
            },
        };
        if range.start > largest {
            return Err(invalid(format!("{} begins after {largest}", range.start)));
        }
        let range = LocationRange { end: range.end.min(largest), ..range };
        let end_of_track = range.end == largest && track.read().is_ended();
        self.respond(Response::FetchOk(FetchOk {
            end_of_track,
            end: range.end,
            parameters: Parameters::default(),
            properties,
        }));
        let mut out = Out::open(self).await?;
        let sent = self.send(track, range, &mut out).await;
        out.end(sent)
    }

    /// Sends a range of a track, from here and from sources.
    async fn send(
        &self,
        track: &SharedTrack,
        range: LocationRange,
        out: &mut Out,
    ) -> Result<(), Stop> {
        let parts = track.read().plan(range.start, range.end, self.order, now());
        let patience = Patience::new(self.timeout);
        for part in parts {
            match part {
                Part::Held { start, end } => {
                    self.serve_held(track, LocationRange { start, end }, patience, out).await?;
                }
                Part::Missing { start, end } => {
                    self.fill(LocationRange { start, end }, patience, out).await?;
                }
            }
        }
        Ok(())
    }

    /// Sends what is here, as slowly as the peer takes it. Some may go meanwhile.
    async fn serve_held(
        &self,
        track: &SharedTrack,
        range: LocationRange,
        patience: Patience,
        out: &mut Out,
    ) -> Result<(), Stop> {
        let mut cursor = FetchCursor::new(range.start, range.end, self.order);
        loop {
            let mut changed = std::pin::pin!(track.changed.notified());
            changed.as_mut().enable();
            if track.malformed.load(Ordering::Relaxed) {
                return Err(Stop::Reset(ResetCode::MALFORMED_TRACK));
            }
            let step = cursor.poll(&track.read(), now());
            match step {
                FetchStep::Object(object) => out.object(&object).await?,
                FetchStep::Wait => changed.await,
                FetchStep::Missing { start, end } => {
                    self.fill(LocationRange { start, end }, patience, out).await?;
                }
                FetchStep::Done => return Ok(()),
            }
        }
    }

    /// Gets a range from a source, and marks what was not got.
    async fn fill(
        &self,
        range: LocationRange,
        patience: Patience,
        out: &mut Out,
    ) -> Result<(), Stop> {
        match self.fill_from_source(range, patience, out).await? {
            Some(gap) => out.gap(range, gap).await,
            None => Ok(()),
        }
    }

    async fn fill_from_source(
        &self,
        range: LocationRange,
        patience: Patience,
        out: &mut Out,
    ) -> Result<Option<Gap>, Stop> {
        if self.timeout == Some(Duration::ZERO) {
            return Ok(Some(Gap::TimedOut));
        }
        let Some(mut heard) = self.ask(range) else { return Ok(Some(Gap::Unknown)) };
        loop {
            match tokio::time::timeout_at(patience.until(), heard.recv()).await {
                Err(_) => return Ok(Some(Gap::TimedOut)),
                Ok(None | Some(AskedStream::Refused(_))) => {
                    return Ok(Some(Gap::Unknown));
                }
                Ok(Some(AskedStream::Accepted(_) | AskedStream::Ended(None))) => {}
                Ok(Some(AskedStream::Ended(Some(_)))) => return Ok(Some(Gap::Unknown)),
                Ok(Some(AskedStream::Data { head, stream })) => {
                    let piped = out.pipe(head, stream, self.order, patience).await?;
                    return Ok((!piped).then_some(Gap::Unknown));
                }
            }
        }
    }

    /// Nobody here subscribes to the track: a publisher answers for all of it.
    async fn pass_on(&mut self) -> Result<(), Stop> {
        let range = match self.wanted {
            Wanted::Range(range) => range,
            Wanted::Last(_) => {
                let reason = format!("nobody here watches {}: name the groups wanted", self.name);
                let error = RequestError::new(RequestErrorCode::NOT_SUPPORTED, reason);
                return Err(Stop::refused(error));
            }
        };
        let Some(mut heard) = self.ask(range) else {
            return Err(Stop::refused(nobody(&self.name)));
        };
        let patience = Patience::new(self.timeout);
        let mut data = None;
        while !self.answered || data.is_none() {
            match tokio::time::timeout_at(patience.until(), heard.recv()).await {
                Err(_) => return Err(Stop::refused(late(&self.name))),
                Ok(None) => return Err(Stop::refused(broke_off(&self.name))),
                Ok(Some(AskedStream::Accepted(response))) => {
                    if let Response::FetchOk(ok) = *response {
                        let end = ok.end.min(range.end);
                        self.respond(Response::FetchOk(FetchOk { end, ..ok }));
                    }
                }
                Ok(Some(AskedStream::Refused(error))) => return Err(Stop::refused(error)),
                Ok(Some(AskedStream::Data { head, stream })) => data = Some((head, stream)),
                Ok(Some(AskedStream::Ended(Some(_)))) => {
                    return Err(Stop::refused(broke_off(&self.name)));
                }
                Ok(Some(_)) => {}
            }
        }
        let Some((head, stream)) = data else { return Ok(()) };
        let mut out = Out::open(self).await?;
        let sent = match out.pipe(head, stream, self.order, patience).await {
            Ok(false) => Err(Stop::Reset(ResetCode::UNKNOWN_OBJECT_STATUS)),
            Ok(true) => Ok(()),
            Err(stop) => Err(stop),
        };
        out.end(sent)
    }

    /// Sends a FETCH to whoever may have the objects.
    fn ask(&self, range: LocationRange) -> Option<mpsc::UnboundedReceiver<AskedStream>> {
        let LocationRange { start, end } = range;
        let parameters = Parameters {
            group_order: Some(self.order),
            subscriber_priority: Some(self.priority.load(Ordering::Relaxed)),
            ..Parameters::default()
        };
        let range = FetchRange::Standalone { track: self.name.clone(), start, end };
        ask(&self.node, self.session, &self.name, Request::Fetch(Fetch { range, parameters }))
    }
}

/// Answers TRACK_STATUS for a track that is not subscribed to here.
pub(super) async fn status(node: &Node, session: SessionId, name: FullTrackName) -> Response {
    let status = TrackStatus { track: name.clone(), parameters: Parameters::default() };
    let Some(mut heard) = ask(node, session, &name, Request::TrackStatus(status)) else {
        return Response::Error(nobody(&name));
    };
    match tokio::time::timeout(PATIENCE, heard.recv()).await {
        Ok(Some(AskedStream::Accepted(response))) => *response,
        Ok(Some(AskedStream::Refused(error))) => Response::Error(error),
        Ok(_) => Response::Error(broke_off(&name)),
        Err(_) => Response::Error(late(&name)),
    }
}

fn ask(
    node: &Node,
    asker: SessionId,
    name: &FullTrackName,
    request: Request,
) -> Option<mpsc::UnboundedReceiver<AskedStream>> {
    let source = lock(&node.router).source_of(name, asker)?;
    let (heard, hears) = mpsc::unbounded_channel();
    let mailboxes = lock(&node.mailboxes);
    mailboxes.get(&source)?.send(Mail::Ask(Box::new(Ask { request, heard }))).ok()?;
    Some(hears)
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

fn nobody(name: &FullTrackName) -> RequestError {
    RequestError::new(RequestErrorCode::DOES_NOT_EXIST, format!("nobody publishes {name}"))
}

fn late(name: &FullTrackName) -> RequestError {
    RequestError::new(RequestErrorCode::TIMEOUT, format!("the publisher of {name} did not answer"))
}

fn broke_off(name: &FullTrackName) -> RequestError {
    let reason = format!("the publisher of {name} broke off");
    RequestError::new(RequestErrorCode::INTERNAL_ERROR, reason)
}

/// The stream that answers.
struct Out {
    stream: Option<SendStream>,
    writer: FetchWriter,
    priority: Arc<AtomicU8>,
    set: u8,
    ahead: watch::Receiver<Ahead>,
}

impl Out {
    async fn open(job: &Job) -> Result<Self, Stop> {
        let mut stream = job.connection.open_fetch(job.order).await.map_err(|_| Stop::Gone)?;
        let set = job.priority.load(Ordering::Relaxed);
        stream.set_priority(fetch_priority(set, DEFAULT_PUBLISHER_PRIORITY));
        let mut head = BytesMut::new();
        FetchHeader { request: job.request }.encode(&mut head, CANONICAL.int_coding());
        stream.write_all(head.freeze()).await?;
        let writer = FetchWriter::new(CANONICAL, job.order);
        let (priority, ahead) = (Arc::clone(&job.priority), job.ahead.clone());
        Ok(Self { stream: Some(stream), writer, priority, set, ahead })
    }

    /// Writes in pieces. QUIC sends by priority what it has, but it does not have much: what is more
    /// urgent and waits outside would find no room.
    async fn write(&mut self, mut bytes: Bytes) -> Result<(), Stop> {
        let Some(stream) = &mut self.stream else { return Err(Stop::Gone) };
        while !bytes.is_empty() {
            let asked = || self.priority.load(Ordering::Relaxed);
            let urgency = |asked| fetch_priority(asked, DEFAULT_PUBLISHER_PRIORITY);
            let its_turn = self.ahead.wait_for(|ahead| ahead.lets(urgency(asked())));
            if let Ok(Err(_)) = tokio::time::timeout(TURN, its_turn).await {
                return Err(Stop::Gone);
            }
            let wanted = asked();
            if wanted != self.set {
                self.set = wanted;
                stream.set_priority(urgency(wanted));
            }
            stream.write_all(bytes.split_to(bytes.len().min(PIECE))).await?;
        }
        Ok(())
    }

    async fn object(&mut self, object: &FetchedObject) -> Result<(), Stop> {
        let length = object.payload_len();
        let mut head = BytesMut::new();
        let written = self.writer.object(
            object.location,
            object.subgroup,
            object.priority,
            &object.properties,
            length,
            &mut head,
        );
        written.map_err(|_| Stop::Reset(ResetCode::INTERNAL_ERROR))?;
        self.write(head.freeze()).await?;
        for chunk in &object.payload {
            self.write(chunk.clone()).await?;
        }
        Ok(())
    }

    async fn gap(&mut self, range: LocationRange, gap: Gap) -> Result<(), Stop> {
        let mut mark = BytesMut::new();
        // A source that sent some of it may have gone further than the range's end.
        if self.writer.end_of_range(range.end, gap, &mut mark).is_ok() {
            self.write(mark.freeze()).await?;
        }
        Ok(())
    }

    /// Passes on what a source sends, as it comes. `false`: it broke off.
    async fn pipe(
        &mut self,
        head: Bytes,
        mut stream: RecvStream,
        order: GroupOrder,
        patience: Patience,
    ) -> Result<bool, Stop> {
        let mut scanner = FetchScanner::new(CANONICAL, order);
        let mut chunk = head;
        // Payload bytes of the last object that are still to come.
        let mut payload = 0;
        loop {
            let base = scanner.offset();
            let mut marks = Vec::new();
            if scanner.scan(&chunk, |mark| marks.push(mark)).is_err() {
                return Ok(false);
            }
            let end = base + chunk.len() as u64;
            let mut at = base;
            let rest = payload.min(chunk.len() as u64);
            payload -= rest;
            at += rest;
            self.write_some(chunk.split_to(rest as usize)).await?;
            for mark in marks {
                let mut head = BytesMut::new();
                let written = match &mark {
                    FetchMark::Object(object) => self.writer.object(
                        object.location,
                        object.subgroup,
                        object.priority,
                        &object.properties,
                        object.payload_len,
                        &mut head,
                    ),
                    FetchMark::EndOfRange { end, gap } => {
                        self.writer.end_of_range(*end, *gap, &mut head)
                    }
                };
                if written.is_err() {
                    return Ok(false);
                }
                self.write(head.freeze()).await?;
                if let FetchMark::Object(object) = mark {
                    let start = object.payload_start.min(end);
                    chunk.advance((start - at) as usize);
                    let here = object.payload_len.min(end - start);
                    payload = object.payload_len - here;
                    at = start + here;
                    self.write_some(chunk.split_to(here as usize)).await?;
                }
            }
            let next = tokio::time::timeout_at(patience.until(), stream.read_chunk(READ)).await;
            match next {
                Ok(Ok(Some(next))) => chunk = next,
                // An object that is cut short cannot be taken back.
                _ if payload > 0 => return Err(Stop::Reset(ResetCode::UNKNOWN_OBJECT_STATUS)),
                Ok(Ok(None)) => return Ok(scanner.at_boundary()),
                Ok(Err(_)) | Err(_) => return Ok(false),
            }
        }
    }

    async fn write_some(&mut self, bytes: Bytes) -> Result<(), Stop> {
        if bytes.is_empty() { Ok(()) } else { self.write(bytes).await }
    }

    /// Finishes the stream, or cuts it.
    fn end(mut self, sent: Result<(), Stop>) -> Result<(), Stop> {
        match &sent {
            Ok(()) => {
                if let Some(mut stream) = self.stream.take() {
                    stream.finish();
                }
            }
            Err(Stop::Reset(code)) => self.reset(*code),
            Err(_) => {}
        }
        sent
    }

    fn reset(&mut self, code: ResetCode) {
        if let Some(mut stream) = self.stream.take() {
            stream.reset(code);
        }
    }
}

/// A stream that was not finished is cut: what the peer has of it must not seem all.
impl Drop for Out {
    fn drop(&mut self) {
        self.reset(ResetCode::CANCELLED);
    }
}
