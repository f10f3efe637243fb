#![expect(clippy::disallowed_methods, reason = "a test has to begin at some instant")]

mod everyone;
mod later;
mod shared;
mod values;
mod violations;

use super::*;
use crate::{
    Backfill, Fetch, FetchOk, FetchRange, Filter, FullTrackName, Location, LocationFilter,
    Namespace, Properties, PublishNamespace, RequestErrorCode, SubscribeNamespace, SubscribeOk,
    SubscribeTracks,
};

const EVERY: [Version; 3] = [Version::Draft16, Version::Draft18, Version::Draft22];
const LATER: [Version; 2] = [Version::Draft18, Version::Draft22];

fn config(version: Version, role: Role) -> Config {
    Config {
        version,
        role,
        transport: Transport::RawQuic,
        setup: Setup { max_auth_token_cache_size: Some(64), ..Setup::default() },
        limits: Limits { requests: 3, namespaces: 2, updates: 2, ..Limits::default() },
    }
}

/// Two sessions with perfect streams between them.
struct Pair {
    ends: [Session; 2],
    /// The peer's name for each stream, per end.
    names: [HashMap<StreamId, StreamId>; 2],
    closed: Option<ProtocolError>,
}

impl Pair {
    fn new(version: Version) -> Self {
        Self::with([config(version, Role::Client), config(version, Role::Server)])
    }

    fn with(configs: [Config; 2]) -> Self {
        let now = Instant::now();
        let mut pair = Self {
            ends: configs.map(|config| Session::new(config, now)),
            names: Default::default(),
            closed: None,
        };
        pair.settle();
        assert!(
            matches!(pair.event(0), Event::Ready(_)) && matches!(pair.event(1), Event::Ready(_))
        );
        pair
    }

    fn settle(&mut self) {
        let mut moved = true;
        while std::mem::take(&mut moved) {
            for from in 0..2 {
                while let Some(output) = self.ends[from].poll_output() {
                    moved = true;
                    self.carry(from, output);
                }
            }
        }
    }

    fn carry(&mut self, from: usize, output: Output) {
        let to = 1 - from;
        match output {
            Output::Control(bytes) => self.ends[to].handle_control(&bytes, false),
            Output::Request { stream, bytes, fin } => {
                let name = match self.names[from].get(&stream) {
                    Some(name) => *name,
                    None => {
                        let name = self.ends[to].accept_stream();
                        self.names[from].insert(stream, name);
                        self.names[to].insert(name, stream);
                        name
                    }
                };
                self.ends[to].handle_stream(name, &bytes, fin);
            }
            Output::Reset { stream, code } => {
                let name = self.names[from][&stream];
                self.ends[to].handle_stream_reset(name, code);
            }
            Output::Forget(_) => {}
            Output::Close(error) => self.closed = Some(error),
        }
    }

    fn event(&mut self, end: usize) -> Event {
        self.ends[end].poll_event().unwrap_or_else(|| panic!("an event: {:?}", self.closed))
    }

    /// The client asks, and the server hears of it.
    fn ask(&mut self, request: Request) -> RequestId {
        let id = self.ends[0].request(request.clone()).unwrap();
        self.settle();
        assert_eq!(self.event(1), Event::Requested { id, request });
        id
    }

    /// The client asks, and is refused before the server's application hears of it.
    fn refused(&mut self, request: Request) -> RequestErrorCode {
        let asked = self.ends[0].request(request).unwrap();
        self.settle();
        let Event::Responded { id, response: Response::Error(error) } = self.event(0) else {
            panic!("a refusal")
        };
        assert_eq!((id, self.ends[1].poll_event()), (asked, None));
        error.code
    }

    /// What the next thing that the server hears asks of a track's past.
    fn backfill(&mut self) -> Option<Backfill> {
        match self.event(1) {
            Event::Requested { id, request } => Backfill::of_request(id, &request),
            Event::Updated { id, parameters } => Backfill::of_parameters(id, &parameters),
            _ => None,
        }
    }

    /// One end answers, and the other hears of it.
    fn answer(&mut self, end: usize, id: RequestId, response: Response) {
        self.ends[end].respond(id, response.clone()).unwrap();
        self.settle();
        assert_eq!(self.event(1 - end), Event::Responded { id, response });
    }

    /// Nothing is open and nothing was left unsaid.
    fn assert_over(&mut self) {
        for end in &mut self.ends {
            assert_eq!((end.poll_event(), end.open_requests()), (None, 0));
            let control = end.shared.is_some();
            assert_eq!(end.streams.len(), usize::from(control), "{:?}", end.version());
        }
        assert_eq!(self.closed, None);
    }
}

fn namespace(path: &str) -> Namespace {
    Namespace::from_path(path).unwrap()
}

fn track(name: &'static str) -> FullTrackName {
    FullTrackName::new(namespace("live/cam1"), name).unwrap()
}

fn subscribe(name: &'static str) -> Request {
    Request::Subscribe(Subscribe {
        track: track(name),
        parameters: Parameters { filter: Some(Filter::LargestObject), ..Parameters::default() },
    })
}

fn publish(name: &'static str, track_alias: u64) -> Request {
    Request::Publish(crate::Publish {
        track: track(name),
        track_alias,
        parameters: Parameters::default(),
        properties: Properties::new(),
    })
}

fn subscribe_ok(track_alias: u64) -> Response {
    Response::SubscribeOk(SubscribeOk {
        track_alias,
        parameters: Parameters::default(),
        properties: Properties::new(),
    })
}

fn ok() -> Response {
    Response::Ok(RequestOk::default())
}

fn done(code: PublishDoneCode) -> Response {
    Response::PublishDone(PublishDone { code, stream_count: 2, reason: Bytes::new() })
}

fn subscribe_namespace(path: &str) -> Request {
    let (prefix, parameters) = (namespace(path), Parameters::default());
    Request::SubscribeNamespace(SubscribeNamespace { prefix, parameters })
}

fn subscribe_tracks(path: &str) -> Request {
    let (prefix, parameters) = (namespace(path), Parameters::default());
    Request::SubscribeTracks(SubscribeTracks { prefix, parameters })
}

fn publish_namespace(path: &str) -> Request {
    let (namespace, parameters) = (namespace(path), Parameters::default());
    Request::PublishNamespace(PublishNamespace { namespace, parameters })
}

fn fetch(start: Location, end: Location) -> Request {
    let range = FetchRange::Standalone { track: track("video0"), start, end };
    Request::Fetch(Fetch { range, parameters: Parameters::default() })
}

fn fetch_ok(end: Location) -> Response {
    Response::FetchOk(FetchOk {
        end_of_track: false,
        end,
        parameters: Parameters::default(),
        properties: Properties::new(),
    })
}
