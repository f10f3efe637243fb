//! A session that subscribes to tracks and hands out whole objects, past ones too.

mod assemble;

use std::collections::HashMap;
use std::num::NonZeroU64;

use bytes::Bytes;
use moqt::{
    Event, Fetch, FetchRange, FetchScanner, Fill, Filter, FullTrackName, GroupOrder, Limits,
    Location, LocationFilter, Parameters, PublishDone, Request, RequestError, RequestId, Response,
    Subscribe, SubscribeOk, Version,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use transport::{Connection, Driver, DriverEvent, Error, RecvStream};
use url::Url;

use assemble::Assembler;

/// Objects that were read and nobody took yet; beyond it streams wait.
const READ_AHEAD: usize = 64;
/// Bytes asked for at once on a stream.
const READ: usize = 256 * 1024;

/// A track and which of its objects are wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The track.
    pub track: FullTrackName,
    /// Where to begin.
    pub from: From,
}

/// Which objects of a track are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// What is published from now on, in the way the relay begins by itself.
    Now,
    /// From the start of the group after the newest.
    NextGroup,
    /// Joined to the past: the newest group from its start and so many whole ones before it
    /// (a joining FETCH in drafts 16 and 18, a fill in draft 22), then what follows.
    Past {
        /// Whole groups before the newest.
        groups: u64,
    },
    /// Only these objects, by FETCH, both ends included.
    Range {
        /// First object.
        start: Location,
        /// Last object.
        end: Location,
    },
}

/// What a session tells.
#[derive(Debug)]
pub enum Heard {
    /// A subscription was accepted.
    Accepted {
        /// Which of the tracks wanted.
        track: usize,
        /// What the publisher said.
        ok: SubscribeOk,
    },
    /// A request was refused.
    Refused {
        /// Which of the tracks wanted.
        track: usize,
        /// Why.
        error: RequestError,
    },
    /// A whole object.
    Object(Object),
    /// A stream ended before an object of its was whole, or was reset.
    Cut {
        /// Which of the tracks wanted.
        track: usize,
        /// The stream's group; `None` for a fetch stream.
        group: Option<u64>,
        /// Why, for people.
        reason: String,
    },
    /// A fetch stream ended after its last object.
    Fetched {
        /// Which of the tracks wanted.
        track: usize,
    },
    /// A subscription is over.
    Done {
        /// Which of the tracks wanted.
        track: usize,
        /// The last word; `None` when it ended without.
        done: Option<PublishDone>,
    },
}

/// An object as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Which of the tracks wanted.
    pub track: usize,
    /// Group and object ID.
    pub location: Location,
    /// Subgroup ID; `None` for an object that came as a datagram.
    pub subgroup: Option<u64>,
    /// The properties' bytes, without their length.
    pub properties: Bytes,
    /// The payload.
    pub payload: Bytes,
    /// Whether it came on a fetch stream.
    pub fetched: bool,
}

/// A session with its subscriptions, running until it is dropped or the connection ends.
#[derive(Debug)]
pub struct Subscriber {
    heard: mpsc::Receiver<Heard>,
    session: tokio::task::JoinHandle<Error>,
}

impl Subscriber {
    /// Asks for all of `wanted` on a fresh connection to `url`.
    pub fn new(connection: Connection, url: &Url, wanted: Vec<Wanted>) -> Self {
        let (tell, heard) = mpsc::channel(READ_AHEAD);
        let setup = moqt::Setup {
            implementation: Some(concat!("weir-sub/", env!("CARGO_PKG_VERSION")).into()),
            ..connection.client_setup(url)
        };
        let version = connection.version();
        let driver = Driver::new(connection, setup, Limits::default());
        let run = Run { driver, version, tell, requests: HashMap::new(), readers: JoinSet::new() };
        Self { heard, session: tokio::spawn(run.run(wanted)) }
    }

    /// The next thing heard, or why the session is over.
    pub async fn next(&mut self) -> Result<Heard, Error> {
        match self.heard.recv().await {
            Some(heard) => Ok(heard),
            None => match (&mut self.session).await {
                Ok(error) => Err(error),
                Err(error) => Err(Error::Lost(error.to_string())),
            },
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.session.abort();
    }
}

struct Run {
    driver: Driver,
    version: Version,
    tell: mpsc::Sender<Heard>,
    /// Whose each request is.
    requests: HashMap<RequestId, usize>,
    readers: JoinSet<()>,
}

impl Run {
    async fn run(mut self, wanted: Vec<Wanted>) -> Error {
        for (track, wanted) in wanted.into_iter().enumerate() {
            if let Err(error) = self.ask(track, wanted) {
                return Error::Setup(error.to_string());
            }
        }
        loop {
            let event = tokio::select! {
                event = self.driver.next() => event,
                Some(_) = self.readers.join_next() => continue,
            };
            let heard = match event {
                Ok(event) => self.handle(event),
                Err(error) => return error,
            };
            // Nobody listens any more: the session ends with us.
            if let Some(heard) = heard
                && self.tell.send(heard).await.is_err()
            {
                return Error::Lost("nobody listens".into());
            }
        }
    }

    fn ask(&mut self, track: usize, wanted: Wanted) -> Result<(), moqt::codec::EncodeError> {
        let session = self.driver.session_mut();
        let subscribe = |filter| Subscribe {
            track: wanted.track.clone(),
            parameters: Parameters { filter, ..Parameters::default() },
        };
        let (id, fill) = match wanted.from {
            From::Now => session.subscribe(subscribe(None), None)?,
            From::NextGroup => session.subscribe(subscribe(Some(Filter::NextGroupStart)), None)?,
            From::Past { groups } => {
                let groups = NonZeroU64::MIN.saturating_add(groups);
                let fill = Fill {
                    filter: Some(LocationFilter::RelativeStart { groups }),
                    group_order: Some(GroupOrder::Ascending),
                    ..Fill::default()
                };
                session.subscribe(subscribe(Some(Filter::LargestObject)), Some(fill))?
            }
            From::Range { start, end } => {
                let range = FetchRange::Standalone { track: wanted.track.clone(), start, end };
                let group_order = Some(GroupOrder::Ascending);
                let parameters = Parameters { group_order, ..Parameters::default() };
                let id = session.request(Request::Fetch(Fetch { range, parameters }))?;
                (id, None)
            }
        };
        self.requests.insert(id, track);
        self.requests.extend(fill.map(|id| (id, track)));
        Ok(())
    }

    fn handle(&mut self, event: DriverEvent) -> Option<Heard> {
        match event {
            DriverEvent::Session(Event::Responded { id, response }) => {
                let track = *self.requests.get(&id)?;
                match response {
                    Response::SubscribeOk(ok) => Some(Heard::Accepted { track, ok }),
                    Response::Error(error) => Some(Heard::Refused { track, error }),
                    Response::PublishDone(done) => Some(Heard::Done { track, done: Some(done) }),
                    _ => None,
                }
            }
            DriverEvent::Session(Event::Ended { id, code: Some(_) }) => {
                Some(Heard::Done { track: *self.requests.get(&id)?, done: None })
            }
            DriverEvent::Session(_) => None,
            DriverEvent::Subgroup { request, header, head, stream } => {
                let assembler = Assembler::subgroup(&header, self.version);
                self.read(
                    *self.requests.get(&request)?,
                    Some(header.group),
                    stream,
                    assembler,
                    head,
                )
            }
            DriverEvent::Fetch { request, head, stream } => {
                let scanner = FetchScanner::new(self.version, GroupOrder::Ascending);
                let assembler = Assembler::fetch(scanner);
                self.read(*self.requests.get(&request)?, None, stream, assembler, head)
            }
            DriverEvent::Datagram { request, datagram } => {
                let moqt::DatagramBody::Payload(payload) = datagram.body else { return None };
                Some(Heard::Object(Object {
                    track: *self.requests.get(&request)?,
                    location: Location { group: datagram.group, object: datagram.object },
                    subgroup: None,
                    properties: datagram.properties,
                    payload,
                    fetched: false,
                }))
            }
        }
    }

    fn read(
        &mut self,
        track: usize,
        group: Option<u64>,
        stream: RecvStream,
        assembler: Assembler,
        head: Bytes,
    ) -> Option<Heard> {
        let reader = Reader { track, group, stream, assembler, tell: self.tell.clone() };
        self.readers.spawn(reader.run(head));
        None
    }
}

/// Reads one data stream.
struct Reader {
    track: usize,
    /// The stream's group; `None` for a fetch stream.
    group: Option<u64>,
    stream: RecvStream,
    assembler: Assembler,
    tell: mpsc::Sender<Heard>,
}

impl Reader {
    async fn run(mut self, head: Bytes) {
        let (track, group) = (self.track, self.group);
        let heard = match self.read(head).await {
            Ok(()) if group.is_none() => Heard::Fetched { track },
            Ok(()) => return,
            Err(reason) => Heard::Cut { track, group, reason },
        };
        let _ = self.tell.send(heard).await;
    }

    async fn read(&mut self, head: Bytes) -> Result<(), String> {
        let mut next = head;
        loop {
            self.assembler.handle(&next).map_err(|error| error.to_string())?;
            while let Some(whole) = self.assembler.poll() {
                let object = Object {
                    track: self.track,
                    location: whole.location,
                    subgroup: whole.subgroup,
                    properties: whole.properties,
                    payload: whole.payload,
                    fetched: self.group.is_none(),
                };
                if self.tell.send(Heard::Object(object)).await.is_err() {
                    return Ok(());
                }
            }
            next = match self.stream.read_chunk(READ).await {
                Ok(Some(chunk)) => chunk,
                Ok(None) if self.assembler.at_boundary() => return Ok(()),
                Ok(None) => return Err("the stream ended inside an object".into()),
                Err(error) => return Err(error.to_string()),
            };
        }
    }
}
