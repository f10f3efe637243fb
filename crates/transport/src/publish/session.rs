//! One session of a publisher: what the relay asks, and what it is answered.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use moqt::codec::EncodeError;
use moqt::{
    Backfill, Event, Fetch, FetchOk, FetchRange, FullTrackName, GoAway, GroupOrder, Location,
    LocationFilter, LocationRange, Namespace, Parameters, Publish, PublishDone, PublishDoneCode,
    PublishNamespace, Request, RequestError, RequestErrorCode, RequestId, RequestOk, Response,
    SessionCode, Setup, Subscribe, SubscribeOk, SubscribeTracks, TrackStatus, Version,
};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use url::Url;

use super::broadcast::{Broadcast, Track, lock};
use super::past::Past;
use super::serve::{Control, Serve};
use crate::clock::{self, Asked};
use crate::{Connection, Driver, DriverEvent, Error, Limits, goaway_url, redirected};

/// How long what was written last may take to reach the relay at the end.
const DRAIN: Duration = Duration::from_secs(2);
/// How long to go on publishing after a GOAWAY that says no time.
const GOAWAY_PATIENCE: Duration = Duration::from_secs(5);
/// The longest that a GOAWAY can keep us.
const MAX_GOAWAY_PATIENCE: Duration = Duration::from_secs(60);
/// How long the last words may take to go out.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// The priority of a subscriber that says none ("SUBSCRIBER PRIORITY Parameter").
const DEFAULT_PRIORITY: u8 = 128;

/// What a session is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Publish.
    Publish,
    /// Another session publishes: go once nobody is subscribed here.
    Leave,
    /// Deliver the ends of tracks that are over, and go.
    End,
}

/// What a session says.
#[derive(Debug)]
pub(super) enum Said {
    /// The relay took the namespace.
    Announced { version: Version },
    /// The relay is leaving: go here, or to the same relay again. This session goes on meanwhile.
    GoAway { to: Option<Url> },
    /// The namespace is to be published elsewhere, or by another name.
    Redirected { to: Option<Url>, namespace: Option<Namespace> },
    /// The last.
    Over(Result<(), Error>),
}

/// A subscription that is being served, whoever began it.
struct Serving {
    control: watch::Sender<Control>,
    track: Arc<Track>,
    /// The track's Largest Object when it began.
    joining: Option<Location>,
    filter: Option<LocationFilter>,
    streams: Arc<AtomicU64>,
}

/// A SUBSCRIBE_TRACKS of the relay's.
struct Wanted {
    prefix: Namespace,
    forward: bool,
}

/// A PUBLISH that the relay has not answered.
struct Offer {
    track: Arc<Track>,
    alias: u64,
    forward: bool,
}

pub(super) struct Session {
    broadcast: Broadcast,
    namespace: Namespace,
    driver: Driver,
    stage: watch::Receiver<Stage>,
    announced: Option<RequestId>,
    serving: HashMap<RequestId, Serving>,
    /// Answers to fetches that are on their way; dropping one stops it.
    fetching: HashMap<RequestId, watch::Sender<()>>,
    wanted: HashMap<RequestId, Wanted>,
    offers: HashMap<RequestId, Offer>,
    /// Tracks that were offered, by name.
    offered: HashMap<Bytes, Arc<Track>>,
    done: mpsc::UnboundedReceiver<Done>,
    report: mpsc::UnboundedSender<Done>,
    /// After GOAWAY: when to go at the latest.
    leave_by: Option<Instant>,
}

/// What a task of the session came to.
#[derive(Clone, Copy)]
enum Done {
    Serving(RequestId, PublishDoneCode),
    Fetch(RequestId),
}

impl Session {
    pub(super) fn new(
        broadcast: Broadcast,
        namespace: Namespace,
        connection: Connection,
        relay: &Url,
        stage: watch::Receiver<Stage>,
    ) -> Self {
        let setup = Setup {
            implementation: Some(concat!("weir-publisher/", env!("CARGO_PKG_VERSION")).into()),
            ..connection.client_setup(relay)
        };
        let (report, done) = mpsc::unbounded_channel();
        Self {
            broadcast,
            namespace,
            driver: Driver::new(connection, setup, Limits::default()),
            stage,
            announced: None,
            serving: HashMap::new(),
            fetching: HashMap::new(),
            wanted: HashMap::new(),
            offers: HashMap::new(),
            offered: HashMap::new(),
            done,
            report,
            leave_by: None,
        }
    }

    /// Runs to its end.
    pub(super) async fn run(mut self, mut say: impl FnMut(Said)) -> Result<(), Error> {
        let mut created = self.broadcast.created.subscribe();
        let mut end_by = None;
        loop {
            // Not before there is something to subscribe to: a relay that was told "no such
            // track" would believe it.
            if self.announced.is_none() && *created.borrow_and_update() > 0 {
                self.announce()?;
            }
            let stage = *self.stage.borrow_and_update();
            if stage == Stage::End && end_by.is_none() {
                end_by = Some(Instant::now() + DRAIN);
            }
            let idle = self.serving.is_empty() && self.fetching.is_empty();
            if stage != Stage::Publish && idle {
                break;
            }
            let until = end_by.into_iter().chain(self.leave_by).min();
            tokio::select! {
                // Nothing was subscribed to, so no data stream is for us.
                event = self.driver.next() => if let DriverEvent::Session(event) = event? {
                    self.handle(event, &mut say)?;
                },
                Some(done) = self.done.recv() => self.finish(done)?,
                _ = created.changed() => self.offer_tracks()?,
                // The publisher itself is gone with the other end.
                changed = self.stage.changed() => if changed.is_err() { break },
                () = tokio::time::sleep_until(until.unwrap_or_else(Instant::now)),
                    if until.is_some() => break,
            }
        }
        // What was said last goes out with the connection's own flush.
        let flush = async { while self.driver.next().await.is_ok() {} };
        let _ = tokio::time::timeout(LAST_WORDS, flush).await;
        let moved = *self.stage.borrow() == Stage::Leave || self.leave_by.is_some();
        let reason = if moved { "the publisher moved" } else { "the publisher ended" };
        self.driver.connection().close(SessionCode::NO_ERROR, reason);
        Ok(())
    }

    fn announce(&mut self) -> Result<(), Error> {
        let request = Request::PublishNamespace(PublishNamespace {
            namespace: self.namespace.clone(),
            parameters: Parameters::default(),
        });
        self.announced = Some(self.driver.session_mut().request(request).map_err(unsayable)?);
        Ok(())
    }

    fn handle(&mut self, event: Event, say: &mut impl FnMut(Said)) -> Result<(), Error> {
        match event {
            Event::Responded { id, response } if Some(id) == self.announced => match response {
                Response::Error(error) => {
                    if let Some((to, track)) = redirected(&error) {
                        let namespace = track.map(|track| track.namespace().clone());
                        say(Said::Redirected { to, namespace });
                    }
                    return Err(refused(&error));
                }
                _ => say(Said::Announced { version: self.driver.connection().version() }),
            },
            Event::Ended { id, .. } if Some(id) == self.announced => {
                if self.leave_by.is_none() {
                    return Err(Error::Lost("the relay revoked the namespace".into()));
                }
            }
            // Of the namespace's request alone it means the same: all that we do here hangs on it.
            Event::RequestGoAway { id, goaway } if Some(id) == self.announced => {
                self.go_away(&goaway, say);
            }
            Event::GoAway(goaway) => self.go_away(&goaway, say),
            Event::Requested { id, request } => self.answer(id, request)?,
            Event::Responded { id, response: Response::Ok(ok) } => {
                if let Some(offer) = self.offers.remove(&id) {
                    let forward = ok.parameters.forward.unwrap_or(offer.forward);
                    let parameters = Parameters { forward: Some(forward), ..ok.parameters };
                    self.serve(id, offer.track, offer.alias, &parameters);
                }
            }
            Event::Responded { id, response: Response::Error(_) } => {
                self.offers.remove(&id);
            }
            Event::Updated { id, parameters } => self.update(id, &parameters)?,
            Event::Ended { id, .. } => {
                self.serving.remove(&id);
                self.fetching.remove(&id);
                self.offers.remove(&id);
                self.wanted.remove(&id);
            }
            Event::Ready(_)
            | Event::Responded { .. }
            | Event::UpdateAnswered { .. }
            | Event::RequestGoAway { .. } => {}
        }
        Ok(())
    }

    /// The relay is leaving, or sends us elsewhere: publish there, and go on here meanwhile.
    fn go_away(&mut self, goaway: &GoAway, say: &mut impl FnMut(Said)) {
        if self.leave_by.is_some() {
            return;
        }
        let patience = match goaway.timeout {
            0 => GOAWAY_PATIENCE,
            // A little early, since later is an error of ours.
            timeout => Duration::from_millis(timeout).min(MAX_GOAWAY_PATIENCE) * 9 / 10,
        };
        self.leave_by = Some(Instant::now() + patience);
        say(Said::GoAway { to: goaway_url(goaway) });
    }

    fn answer(&mut self, id: RequestId, request: Request) -> Result<(), Error> {
        let backfill = Backfill::of_request(id, &request);
        match request {
            Request::Subscribe(subscribe) => {
                self.subscribe(id, &subscribe)?;
                match backfill {
                    Some(backfill) => self.fill(&backfill),
                    None => Ok(()),
                }
            }
            Request::Fetch(fetch) => match backfill {
                Some(backfill) => self.fill(&backfill),
                None => self.fetch(id, &fetch),
            },
            Request::TrackStatus(status) => self.track_status(id, &status),
            Request::SubscribeTracks(SubscribeTracks { prefix, parameters }) => {
                self.respond(id, Response::Ok(RequestOk::default()))?;
                let forward = parameters.forward.unwrap_or(true);
                self.wanted.insert(id, Wanted { prefix, forward });
                self.offer_tracks()
            }
            Request::SubscribeNamespace(subscribe) => {
                self.respond(id, Response::Ok(RequestOk::default()))?;
                match self.namespace.suffix(&subscribe.prefix) {
                    Some(suffix) => self.respond(id, Response::Namespace(suffix)),
                    None => Ok(()),
                }
            }
            Request::Publish(_) | Request::PublishNamespace(_) => {
                let reason = "this publisher takes nothing";
                self.refuse(id, RequestErrorCode::UNINTERESTED, reason.into())
            }
        }
    }

    fn respond(&mut self, id: RequestId, response: Response) -> Result<(), Error> {
        self.driver.session_mut().respond(id, response).map_err(unsayable)
    }

    fn refuse(&mut self, id: RequestId, code: RequestErrorCode, why: String) -> Result<(), Error> {
        self.respond(id, Response::Error(RequestError::new(code, why)))
    }

    /// The track of this name, or a refusal.
    fn find(&mut self, id: RequestId, name: &FullTrackName) -> Result<Option<Arc<Track>>, Error> {
        let ours = *name.namespace() == self.namespace;
        let track = lock(&self.broadcast.tracks).get(name.name()).cloned().filter(|_| ours);
        if track.is_none() {
            let reason = format!("this publisher has no track {name}");
            self.refuse(id, RequestErrorCode::DOES_NOT_EXIST, reason)?;
        }
        Ok(track)
    }

    fn subscribe(&mut self, id: RequestId, subscribe: &Subscribe) -> Result<(), Error> {
        let Some(track) = self.find(id, &subscribe.track)? else { return Ok(()) };
        let alias = self.driver.session_mut().allocate_alias();
        let largest_object = track.largest();
        self.respond(
            id,
            Response::SubscribeOk(SubscribeOk {
                track_alias: alias,
                parameters: Parameters { largest_object, ..Parameters::default() },
                properties: track.properties(),
            }),
        )?;
        self.serve(id, track, alias, &subscribe.parameters);
        Ok(())
    }

    /// Begins to serve a subscription that is settled.
    fn serve(&mut self, id: RequestId, track: Arc<Track>, alias: u64, parameters: &Parameters) {
        let joining = track.largest();
        let filter = parameters.locations();
        if let Some(next) = parameters.new_group_request {
            track.request_group(next);
        }
        let (control, controls) = watch::channel(Control {
            forward: parameters.forward.unwrap_or(true),
            priority: parameters.subscriber_priority.unwrap_or(DEFAULT_PRIORITY),
            order: parameters.group_order.unwrap_or(GroupOrder::Ascending),
            range: range(filter, joining),
        });
        let streams = Arc::new(AtomicU64::new(0));
        let serve = Serve {
            connection: self.driver.connection().clone(),
            alias,
            track: Arc::clone(&track),
            control: controls,
            streams: Arc::clone(&streams),
        };
        self.serving.insert(id, Serving { control, track, joining, filter, streams });
        let report = self.report.clone();
        tokio::spawn(async move {
            let code = serve.run().await;
            let _ = report.send(Done::Serving(id, code));
        });
    }

    /// The relay changes a request.
    fn update(&mut self, id: RequestId, parameters: &Parameters) -> Result<(), Error> {
        let mut ok = RequestOk::default();
        let backfill = Backfill::of_parameters(id, parameters);
        if let Some(serving) = self.serving.get_mut(&id) {
            let largest = serving.track.largest();
            if let Some(next) = parameters.new_group_request {
                serving.track.request_group(next);
            }
            if parameters.locations().is_some() {
                serving.filter = parameters.locations();
            }
            let filter = serving.filter.filter(|_| parameters.locations().is_some());
            serving.control.send_modify(|control| {
                if let Some(filter) = filter {
                    control.range = filter.range(largest);
                }
                if let Some(priority) = parameters.subscriber_priority {
                    control.priority = priority;
                }
                if let Some(order) = parameters.group_order {
                    control.order = order;
                }
                let forward = parameters.forward.unwrap_or(control.forward);
                // What was published during a pause is for a fetch.
                if forward && !control.forward {
                    let next = LocationFilter::LargestObject.range(largest).start;
                    control.range.start = control.range.start.max(next);
                }
                control.forward = forward;
            });
            if backfill.is_some() {
                serving.joining = largest;
                ok.parameters.largest_object = largest;
            }
        }
        self.driver.session_mut().respond_update(id, Ok(ok)).map_err(unsayable)?;
        match backfill {
            Some(backfill) => self.fill(&backfill),
            None => Ok(()),
        }
    }

    /// Objects of a subscription's past: a joining FETCH, or a fill.
    fn fill(&mut self, backfill: &Backfill) -> Result<(), Error> {
        let Some(serving) = self.serving.get(&backfill.subscription) else {
            if !backfill.answer {
                return Ok(());
            }
            let reason = format!("request {} is no subscription", backfill.subscription);
            let code = RequestErrorCode::INVALID_JOINING_REQUEST_ID;
            return self.refuse(backfill.stream, code, reason);
        };
        let track = Arc::clone(&serving.track);
        let control = *serving.control.borrow();
        let Some(range) = backfill.range(serving.joining, serving.filter) else {
            if !backfill.answer {
                return Ok(());
            }
            let reason = "nothing of it was published".to_owned();
            return self.refuse(backfill.stream, RequestErrorCode::INVALID_RANGE, reason);
        };
        let order = backfill.order.unwrap_or(control.order);
        let priority = backfill.priority.unwrap_or(control.priority);
        if backfill.answer {
            self.fetch_ok(backfill.stream, &track, range)?;
        }
        self.send_past(backfill.stream, Past::of(&track, range, order), priority);
        Ok(())
    }

    fn fetch(&mut self, id: RequestId, fetch: &Fetch) -> Result<(), Error> {
        let (name, filter) = match &fetch.range {
            FetchRange::Standalone { track, start, end } => {
                (track, LocationFilter::ObjectRange { start: *start, end: *end })
            }
            FetchRange::RelativeStart { track, groups } => {
                let filter = match std::num::NonZeroU64::new(*groups) {
                    Some(groups) => LocationFilter::RelativeStart { groups },
                    None => LocationFilter::NextGroupStart,
                };
                (track, filter)
            }
            // These are backfills.
            FetchRange::RelativeJoining { .. } | FetchRange::AbsoluteJoining { .. } => {
                return Ok(());
            }
        };
        let Some(track) = self.find(id, name)? else { return Ok(()) };
        let Some(range) = filter.fetch_range(track.largest()) else {
            let reason = "nothing of it was published".to_owned();
            return self.refuse(id, RequestErrorCode::INVALID_RANGE, reason);
        };
        let order = fetch.parameters.group_order.unwrap_or(GroupOrder::Ascending);
        let priority = fetch.parameters.subscriber_priority.unwrap_or(DEFAULT_PRIORITY);
        self.fetch_ok(id, &track, range)?;
        self.send_past(id, Past::of(&track, range, order), priority);
        Ok(())
    }

    fn fetch_ok(
        &mut self,
        id: RequestId,
        track: &Track,
        range: LocationRange,
    ) -> Result<(), Error> {
        let end_of_track = {
            let state = lock(&track.state);
            state.ended && state.largest == Some(range.end)
        };
        let parameters = Parameters::default();
        let properties = track.properties();
        let ok = FetchOk { end_of_track, end: range.end, parameters, properties };
        self.respond(id, Response::FetchOk(ok))
    }

    fn send_past(&mut self, request: RequestId, past: Past, priority: u8) {
        let (alive, wanted) = watch::channel(());
        self.fetching.insert(request, alive);
        let connection = self.driver.connection().clone();
        let report = self.report.clone();
        tokio::spawn(async move {
            past.send(connection, request, priority, wanted).await;
            let _ = report.send(Done::Fetch(request));
        });
    }

    fn track_status(&mut self, id: RequestId, status: &TrackStatus) -> Result<(), Error> {
        let clock = match Asked::of(&status.track) {
            Some(Asked::Own) => true,
            Some(Asked::Broadcast(namespace)) => namespace == self.namespace,
            None => false,
        };
        if clock {
            // What is published here is captured by this clock.
            return self.respond(id, Response::Ok(clock::status(clock::unix_us(), 0)));
        }
        let Some(track) = self.find(id, &status.track)? else { return Ok(()) };
        let mut ok = RequestOk::default();
        ok.parameters.largest_object = track.largest();
        if self.driver.connection().version() > Version::Draft16 {
            ok.properties = track.properties();
        }
        self.respond(id, Response::Ok(ok))
    }

    /// Offers what SUBSCRIBE_TRACKS asked for and was not offered yet.
    fn offer_tracks(&mut self) -> Result<(), Error> {
        let wanted = self.wanted.values().find(|wanted| self.namespace.has_prefix(&wanted.prefix));
        let Some(forward) = wanted.map(|wanted| wanted.forward) else { return Ok(()) };
        if self.leave_by.is_some() {
            return Ok(());
        }
        let tracks = lock(&self.broadcast.tracks).clone();
        for (name, track) in tracks {
            let known = |other: &Arc<Track>| Arc::ptr_eq(other, &track);
            let subscribed = self.serving.values().any(|serving| known(&serving.track));
            if self.offered.get(&name).is_some_and(known) || subscribed {
                continue;
            }
            let Ok(full) = FullTrackName::new(self.namespace.clone(), name.clone()) else {
                continue;
            };
            let alias = self.driver.session_mut().allocate_alias();
            let parameters = Parameters {
                largest_object: track.largest(),
                forward: (!forward).then_some(false),
                ..Parameters::default()
            };
            let properties = track.properties();
            let publish = Publish { track: full, track_alias: alias, parameters, properties };
            let request = Request::Publish(publish);
            let id = self.driver.session_mut().request(request).map_err(unsayable)?;
            self.offered.insert(name, Arc::clone(&track));
            self.offers.insert(id, Offer { track, alias, forward });
        }
        Ok(())
    }

    /// A task of ours is over.
    fn finish(&mut self, done: Done) -> Result<(), Error> {
        match done {
            Done::Fetch(id) => {
                self.fetching.remove(&id);
                // A fill has the subscription's request, which goes on.
                if !self.serving.contains_key(&id) {
                    self.driver.session_mut().complete(id);
                }
                Ok(())
            }
            Done::Serving(id, code) => {
                let Some(serving) = self.serving.remove(&id) else { return Ok(()) };
                let stream_count = serving.streams.load(Ordering::Relaxed);
                let done = PublishDone { code, stream_count, reason: Bytes::new() };
                self.respond(id, Response::PublishDone(done))
            }
        }
    }
}

/// The objects that a filter lets through ("Subscription Filters"). Without one they begin with the
/// newest group.
fn range(filter: Option<LocationFilter>, largest: Option<Location>) -> LocationRange {
    match filter {
        Some(filter) => filter.range(largest),
        None => {
            let start = largest.map_or(Location::FIRST, |at| Location::start_of(at.group));
            LocationRange { start, end: Location::LAST }
        }
    }
}

fn refused(error: &RequestError) -> Error {
    let reason = String::from_utf8_lossy(&error.reason);
    Error::Lost(format!("the relay refused the namespace: {} {reason}", error.code))
}

fn unsayable(error: EncodeError) -> Error {
    Error::Setup(error.to_string())
}
