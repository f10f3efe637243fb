//! Two sessions with a network and two applications between them.
//!
//! The network keeps the order within a stream and nothing else. The applications do at random
//! what the draft allows them. Without damage neither session may ever close, and when both have
//! given up everything, nothing may be left.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use moqt::codec::EncodeError;
use moqt::*;

use super::Entropy;

/// Sees every byte that a session sends on a bidirectional or control stream: the sender, its
/// stream, the bytes.
pub(crate) type Tap<'a> = &'a mut dyn FnMut(usize, Option<StreamId>, &[u8]);

/// A direction of a stream, by its sender's name; `None` is the control stream.
type Pipe = (usize, Option<StreamId>);

enum Item {
    Bytes(Bytes),
    Fin,
    Reset(ResetCode),
}

/// A request as its application knows it.
#[derive(Clone, Debug)]
struct Open {
    kind: Kind,
    ours: bool,
    established: bool,
    /// The peer's updates that wait for an answer.
    updates: usize,
    /// Suffixes announced and not taken back.
    announced: Vec<Namespace>,
    /// An update failed: nothing but PUBLISH_DONE may follow.
    failed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Subscribe,
    Publish,
    Fetch,
    TrackStatus,
    PublishNamespace,
    SubscribeNamespace,
    SubscribeTracks,
}

const KINDS: [Kind; 7] = [
    Kind::Subscribe,
    Kind::Publish,
    Kind::Fetch,
    Kind::TrackStatus,
    Kind::PublishNamespace,
    Kind::SubscribeNamespace,
    Kind::SubscribeTracks,
];

fn kind(request: &Request) -> Kind {
    match request {
        Request::Subscribe(_) => Kind::Subscribe,
        Request::Publish(_) => Kind::Publish,
        Request::Fetch(_) => Kind::Fetch,
        Request::TrackStatus(_) => Kind::TrackStatus,
        Request::PublishNamespace(_) => Kind::PublishNamespace,
        Request::SubscribeNamespace(_) => Kind::SubscribeNamespace,
        Request::SubscribeTracks(_) => Kind::SubscribeTracks,
    }
}

/// Few, so that they meet.
fn prefix(entropy: &mut Entropy<'_>) -> Namespace {
    const PATHS: [&str; 4] = ["a", "b", "a/b", "c"];
    let path = PATHS[entropy.below(PATHS.len())];
    Namespace::from_path(path).expect("short names")
}

pub(crate) struct Network<'a> {
    version: Version,
    damage: bool,
    start: Instant,
    ends: [Session; 2],
    open: [BTreeMap<RequestId, Open>; 2],
    pipes: BTreeMap<Pipe, VecDeque<Item>>,
    /// The peer's name for each stream, per end.
    names: [HashMap<StreamId, StreamId>; 2],
    closed: [bool; 2],
    next_name: u64,
    tap: Option<Tap<'a>>,
}

impl<'a> Network<'a> {
    pub(crate) fn new(version: Version, damage: bool, tap: Option<Tap<'a>>) -> Self {
        #[allow(clippy::disallowed_methods, reason = "where a clock starts is no matter")]
        let start = Instant::now();
        let ends = [Role::Client, Role::Server].map(|role| {
            let setup = Setup {
                max_auth_token_cache_size: Some(64),
                max_filter_ranges: Some(2),
                ..Setup::default()
            };
            let limits = Limits { requests: 8, namespaces: 100, ..Limits::default() };
            let transport = Transport::RawQuic;
            Session::new(Config { version, role, transport, setup, limits }, start)
        });
        Self {
            version,
            damage,
            start,
            ends,
            open: Default::default(),
            pipes: BTreeMap::new(),
            names: Default::default(),
            closed: [false; 2],
            next_name: 0,
            tap,
        }
    }

    /// Lives as `entropy` says, then ends everything and looks at what is left.
    pub(crate) fn run(mut self, entropy: &mut Entropy<'_>) {
        self.collect();
        while !entropy.is_empty() {
            self.step(entropy);
        }
        if self.damage {
            self.deliver_all();
            return;
        }
        self.deliver_all();
        for end in 0..2 {
            let open: Vec<_> = self.open[end].keys().copied().collect();
            for id in open {
                self.ends[end].cancel(id, ResetCode::CANCELLED);
                self.open[end].remove(&id);
            }
        }
        self.collect();
        self.deliver_all();
        for end in &self.ends {
            assert_eq!(end.open_requests(), 0, "requests are left in {end:?}");
        }
    }

    fn step(&mut self, entropy: &mut Entropy<'_>) {
        let end = entropy.below(2);
        match entropy.below(8) {
            0..=2 => self.deliver_one(entropy),
            3 => self.ask(end, entropy),
            4..=6 => self.go_on(end, entropy),
            _ if self.damage => self.harm(end, entropy),
            _ if entropy.below(32) == 0 => {
                let _ = self.ends[end].go_away(Bytes::new(), 1000);
            }
            _ => self.cancel(end, entropy),
        }
        self.collect();
    }

    // ---- the network ----

    /// Takes what the sessions put out.
    fn collect(&mut self) {
        for end in 0..2 {
            while let Some(output) = self.ends[end].poll_output() {
                assert!(!self.closed[end], "{output:?} follows a close");
                self.send(end, output);
            }
            while let Some(event) = self.ends[end].poll_event() {
                self.hear(end, event);
            }
            if self.damage {
                // Nobody may be made to hold more requests than it allows, and its own.
                assert!(self.ends[end].open_requests() <= 600);
            }
        }
    }

    fn send(&mut self, end: usize, output: Output) {
        let (stream, item) = match output {
            Output::Control(bytes) => (None, Item::Bytes(bytes)),
            Output::Request { stream, bytes, fin } => {
                if !bytes.is_empty() {
                    self.push((end, Some(stream)), Item::Bytes(bytes));
                }
                if !fin {
                    return;
                }
                (Some(stream), Item::Fin)
            }
            Output::Reset { stream, code } => (Some(stream), Item::Reset(code)),
            Output::Forget(_) => return,
            Output::Close(error) => {
                self.closed[end] = true;
                assert!(self.damage, "{} closes: {error}", self.version);
                return;
            }
        };
        self.push((end, stream), item);
    }

    fn push(&mut self, pipe: Pipe, item: Item) {
        if let (Some(tap), Item::Bytes(bytes)) = (&mut self.tap, &item) {
            tap(pipe.0, pipe.1, bytes);
        }
        self.pipes.entry(pipe).or_default().push_back(item);
    }

    fn deliver_one(&mut self, entropy: &mut Entropy<'_>) {
        let waiting: Vec<Pipe> = self.pipes.keys().copied().collect();
        if waiting.is_empty() {
            return;
        }
        let pipe = *entropy.pick(&waiting);
        let (amount, lose) = (entropy.below(64) + 1, entropy.flip());
        self.deliver(pipe, amount, lose);
    }

    fn deliver_all(&mut self) {
        for _ in 0..100_000 {
            let Some(pipe) = self.pipes.keys().next().copied() else { return };
            self.deliver(pipe, usize::MAX, false);
            self.collect();
        }
        panic!("two sessions talk without end");
    }

    /// Delivers the next of a pipe: at most `amount` bytes. `lose`: a reset overtakes what waits.
    fn deliver(&mut self, (from, stream): Pipe, amount: usize, lose: bool) {
        let Some(queue) = self.pipes.get_mut(&(from, stream)) else { return };
        if lose && let Some(Item::Reset(_)) = queue.back() {
            queue.drain(..queue.len() - 1);
        }
        let Some(mut item) = queue.pop_front() else { return };
        if let Item::Bytes(bytes) = &mut item
            && bytes.len() > amount
        {
            let rest = bytes.split_off(amount);
            queue.push_front(Item::Bytes(rest));
        }
        if queue.is_empty() {
            self.pipes.remove(&(from, stream));
        }
        let to = 1 - from;
        let Some(stream) = stream else {
            if let Item::Bytes(bytes) = item {
                self.ends[to].handle_control(&bytes, false);
            }
            return;
        };
        let name = match self.names[from].get(&stream) {
            Some(name) => *name,
            None => {
                let name = self.ends[to].accept_stream();
                self.names[from].insert(stream, name);
                self.names[to].insert(name, stream);
                name
            }
        };
        match item {
            Item::Bytes(bytes) => self.ends[to].handle_stream(name, &bytes, false),
            Item::Fin => self.ends[to].handle_stream(name, &[], true),
            Item::Reset(code) => {
                // STOP_SENDING comes along with it, sooner or later.
                if lose {
                    self.ends[to].handle_stream_stopped(name, code);
                }
                self.ends[to].handle_stream_reset(name, code);
            }
        }
    }

    /// What no network or peer may do.
    fn harm(&mut self, end: usize, entropy: &mut Entropy<'_>) {
        let bytes: Vec<u8> = (0..entropy.below(24)).map(|_| entropy.byte()).collect();
        let known: Vec<StreamId> = self.names[end].keys().copied().collect();
        let stream = match known.is_empty() || entropy.flip() {
            true => self.ends[end].accept_stream(),
            false => *entropy.pick(&known),
        };
        match entropy.below(6) {
            0 => self.ends[end].handle_control(&bytes, entropy.below(8) == 0),
            1 => self.ends[end].handle_stream_reset(stream, ResetCode::CANCELLED),
            2 => self.ends[end].handle_stream_stopped(stream, ResetCode::CANCELLED),
            3 => self.ends[end].handle_timeout(self.start + Duration::from_secs(60)),
            _ => self.ends[end].handle_stream(stream, &bytes, entropy.below(4) == 0),
        }
    }

    // ---- the applications ----

    fn hear(&mut self, end: usize, event: Event) {
        let open = &mut self.open[end];
        match event {
            Event::Requested { id, request } => {
                let kind = kind(&request);
                open.insert(id, Open::new(kind, false));
            }
            Event::Updated { id, .. } => {
                if let Some(request) = open.get_mut(&id) {
                    request.updates += 1;
                }
            }
            Event::Responded { id, response } => {
                let over = matches!(response, Response::Error(_) | Response::PublishDone(_));
                let Some(request) = open.get_mut(&id) else { return };
                request.established = true;
                if over || request.kind == Kind::TrackStatus {
                    open.remove(&id);
                }
            }
            Event::Ended { id, .. } => {
                open.remove(&id);
            }
            Event::Ready(_)
            | Event::GoAway(_)
            | Event::UpdateAnswered { .. }
            | Event::RequestGoAway { .. } => {}
        }
    }

    fn name(&mut self) -> Namespace {
        self.next_name += 1;
        let field = format!("n{}", self.next_name);
        Namespace::new([Bytes::from(field)]).expect("a short name")
    }

    fn ask(&mut self, end: usize, entropy: &mut Entropy<'_>) {
        let kind = *entropy.pick(&KINDS);
        let namespace = prefix(entropy);
        let name = Bytes::copy_from_slice(entropy.pick(&[b"x", b"y", b"z"]).as_slice());
        let track = FullTrackName::new(namespace.clone(), name).expect("a short name");
        let parameters = Parameters::default();
        let request = match kind {
            Kind::Subscribe => Request::Subscribe(Subscribe { track, parameters }),
            Kind::Publish => Request::Publish(Publish {
                track,
                track_alias: self.ends[end].allocate_alias(),
                parameters,
                properties: Properties::new(),
            }),
            Kind::Fetch => {
                let (start, end) = (Location::FIRST, Location::LAST);
                let range = FetchRange::Standalone { track, start, end };
                Request::Fetch(Fetch { range, parameters })
            }
            Kind::TrackStatus => Request::TrackStatus(TrackStatus { track, parameters }),
            Kind::PublishNamespace => {
                Request::PublishNamespace(PublishNamespace { namespace, parameters })
            }
            Kind::SubscribeNamespace => {
                Request::SubscribeNamespace(SubscribeNamespace { prefix: namespace, parameters })
            }
            Kind::SubscribeTracks => {
                Request::SubscribeTracks(SubscribeTracks { prefix: namespace, parameters })
            }
        };
        let id = self.ends[end].request(request).expect("a short request");
        self.open[end].insert(id, Open::new(kind, true));
    }

    fn pick_open(&self, end: usize, entropy: &mut Entropy<'_>) -> Option<RequestId> {
        let open: Vec<RequestId> = self.open[end].keys().copied().collect();
        (!open.is_empty()).then(|| *entropy.pick(&open))
    }

    fn cancel(&mut self, end: usize, entropy: &mut Entropy<'_>) {
        let Some(id) = self.pick_open(end, entropy) else { return };
        self.ends[end].cancel(id, ResetCode::CANCELLED);
        self.open[end].remove(&id);
    }

    /// Does what may be done next about an open request.
    fn go_on(&mut self, end: usize, entropy: &mut Entropy<'_>) {
        let Some(id) = self.pick_open(end, entropy) else { return };
        let request = self.open[end][&id].clone();
        // The request's own answer goes first.
        let answerable = request.ours || request.established;
        if answerable && request.updates > 0 && entropy.below(3) > 0 {
            return self.answer_update(end, id, &request, entropy);
        }
        let publisher = match request.kind {
            Kind::Subscribe => !request.ours,
            Kind::Publish => request.ours,
            _ => false,
        };
        if request.failed || publisher && request.established && entropy.below(4) == 0 {
            if publisher {
                let done = PublishDone {
                    code: PublishDoneCode::TRACK_ENDED,
                    stream_count: 0,
                    reason: Bytes::new(),
                };
                self.ends[end].respond(id, Response::PublishDone(done)).expect("a short answer");
                self.open[end].remove(&id);
            }
            return;
        }
        if !request.ours && !request.established {
            return self.answer(end, id, request.kind, entropy);
        }
        let subscriber = matches!(request.kind, Kind::Subscribe | Kind::Publish) && !publisher;
        let may_update = match request.ours {
            true => request.kind != Kind::TrackStatus,
            false => request.kind == Kind::Publish,
        };
        if may_update && entropy.flip() {
            let mut parameters = Parameters::default();
            if subscriber {
                parameters.forward = Some(entropy.flip());
            }
            let prefixed = request.kind == Kind::SubscribeNamespace;
            if prefixed && self.version > Version::Draft16 && entropy.flip() {
                let path = entropy.pick(&["a", "b", "a/b", "c"]);
                parameters.track_namespace_prefix =
                    Some(Namespace::from_path(path).expect("names"));
            }
            match self.ends[end].update(id, parameters) {
                Ok(()) | Err(EncodeError::MustWait) => {}
                Err(error) => panic!("{error}"),
            }
        } else if !request.ours && request.established {
            self.add(end, id, &request, entropy);
        }
    }

    fn answer_update(&mut self, end: usize, id: RequestId, open: &Open, entropy: &mut Entropy<'_>) {
        let fails = entropy.below(8) == 0 && !open.failed;
        let result = match fails {
            true => Err(RequestError::new(RequestErrorCode::INVALID_RANGE, "no")),
            false => Ok(RequestOk::default()),
        };
        self.ends[end].respond_update(id, result).expect("a short answer");
        if let Some(request) = self.open[end].get_mut(&id) {
            request.updates -= 1;
            request.failed |= fails;
            // A new prefix may have made other names of them.
            request.announced.clear();
        }
    }

    fn answer(&mut self, end: usize, id: RequestId, kind: Kind, entropy: &mut Entropy<'_>) {
        let response = if entropy.below(4) == 0 {
            Response::Error(RequestError::new(RequestErrorCode::DOES_NOT_EXIST, "no"))
        } else {
            match kind {
                Kind::Subscribe => Response::SubscribeOk(SubscribeOk {
                    track_alias: self.ends[end].allocate_alias(),
                    parameters: Parameters::default(),
                    properties: Properties::new(),
                }),
                Kind::Fetch => Response::FetchOk(FetchOk {
                    end_of_track: false,
                    end: Location { group: 1, object: 2 },
                    parameters: Parameters::default(),
                    properties: Properties::new(),
                }),
                Kind::Publish => {
                    let forward = Some(entropy.flip());
                    let parameters = Parameters { forward, ..Parameters::default() };
                    Response::Ok(RequestOk { parameters, ..RequestOk::default() })
                }
                _ => Response::Ok(RequestOk::default()),
            }
        };
        let over = matches!(response, Response::Error(_)) || kind == Kind::TrackStatus;
        self.ends[end].respond(id, response).expect("a short answer");
        match self.open[end].get_mut(&id) {
            Some(_) if over => {
                self.open[end].remove(&id);
            }
            Some(request) => request.established = true,
            None => {}
        }
    }

    /// What a publisher adds to an answer.
    fn add(&mut self, end: usize, id: RequestId, open: &Open, entropy: &mut Entropy<'_>) {
        let name = self.name();
        let Some(request) = self.open[end].get_mut(&id) else { return };
        let response = match open.kind {
            Kind::Subscribe => Response::StateNotify(Parameters {
                forward: Some(entropy.flip()),
                ..Parameters::default()
            }),
            Kind::SubscribeTracks => Response::PublishBlocked(PublishBlocked {
                suffix: name,
                name: Bytes::from_static(b"x"),
            }),
            Kind::SubscribeNamespace if !request.announced.is_empty() && entropy.flip() => {
                Response::NamespaceDone(request.announced.remove(0))
            }
            Kind::SubscribeNamespace if request.announced.len() < 50 => {
                request.announced.push(name.clone());
                Response::Namespace(name)
            }
            _ => return,
        };
        self.ends[end].respond(id, response).expect("a short answer");
    }
}

impl Open {
    fn new(kind: Kind, ours: bool) -> Self {
        Self { kind, ours, established: false, updates: 0, announced: Vec::new(), failed: false }
    }
}
