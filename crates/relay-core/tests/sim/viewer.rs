//! A viewer: subscribes, changes its mind, and checks all that comes.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use moqt::{
    Datagram, DatagramBody, Event, GroupOrder, Location, LocationFilter, LocationRange, Namespace,
    ObjectMark, ObjectScanner, ObjectStatus, Parameters, Request, RequestId, RequestOk, ResetCode,
    Response, SubgroupHeader, Subscribe, SubscribeNamespace,
};

use crate::broadcast::{Broadcast, Object};
use crate::link::{Link, StreamNo};
use crate::rng::Rng;
use crate::timeline::Timeline;
use crate::wire::{Said, Wire};

/// How long it may take until publishers hear of a subscription, in a calm.
const SOON: Duration = Duration::from_millis(250);
/// How long the end of a track may take to be heard of: each of two relays may wait half a second for
/// a stream that PUBLISH_DONE counts and that was lost, and as long before it asks elsewhere.
const LATE: Duration = Duration::from_millis(2000);
/// Wait before a refused or ended subscription is tried again.
const RETRY: Duration = Duration::from_millis(700);

#[derive(Debug)]
pub(crate) struct Viewer {
    pub(crate) name: String,
    pub(crate) wire: Wire,
    tracks: Vec<Rc<Broadcast>>,
    rng: Rng,
    timeline: Timeline,
    ready: bool,
    /// Changes its mind no more, and wants all of its tracks.
    calm: bool,
    pub(crate) stalled: bool,
    watching: BTreeMap<RequestId, Watching>,
    namespaces: Option<RequestId>,
    streams: BTreeMap<StreamNo, Reading>,
    retry: Option<Instant>,
}

#[derive(Debug)]
struct Watching {
    /// Index in `tracks`.
    track: usize,
    /// What the filter lets through; known once the subscription is accepted.
    wanted: LocationRange,
    filter: Option<LocationFilter>,
    established: Option<Instant>,
    streams: u64,
    seen: BTreeSet<u64>,
    /// Number of the first object of the next group after it was accepted: nothing from there on
    /// may be missing in a calm.
    complete_from: u64,
}

/// A data stream.
#[derive(Debug)]
struct Reading {
    request: RequestId,
    header: SubgroupHeader,
    scanner: ObjectScanner,
    bytes: Vec<u8>,
    /// Objects whose payload has not come wholly.
    marks: Vec<ObjectMark>,
    last: Option<u64>,
}

impl Viewer {
    pub(crate) fn new(
        name: String,
        wire: Wire,
        tracks: Vec<Rc<Broadcast>>,
        rng: Rng,
        timeline: Timeline,
    ) -> Self {
        Self {
            name,
            wire,
            rng,
            timeline,
            ready: false,
            calm: false,
            stalled: false,
            watching: BTreeMap::new(),
            namespaces: None,
            streams: BTreeMap::new(),
            retry: None,
            tracks,
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        [self.retry, self.wire.poll_timeout()].into_iter().flatten().min()
    }

    pub(crate) fn handle_timeout(&mut self, link: &mut Link) {
        self.wire.handle_timeout(link);
        if self.retry.is_some_and(|at| at <= self.timeline.now()) {
            self.retry = None;
            self.subscribe_all();
            self.wire.flush(link);
        }
    }

    pub(crate) fn handle(&mut self, said: Said, link: &mut Link) {
        match said {
            Said::Event(event) => self.handle_event(event),
            Said::Subgroup { request, header, stream } => self.begin(request, header, stream),
            Said::Bytes { stream, bytes } => self.read(stream, &bytes),
            Said::Fin { stream } => self.finish(stream),
            Said::Reset { stream, .. } => {
                if let Some(reading) = self.streams.remove(&stream) {
                    self.check_partial(&reading);
                }
            }
            Said::Datagram { request, datagram } => self.datagram(request, &datagram),
            Said::Fetch | Said::Stopped { .. } | Said::Delivered { .. } | Said::Closed => {}
        }
        self.wire.flush(link);
    }

    fn handle_event(&mut self, event: Event) {
        match event {
            Event::Ready(_) => {
                self.ready = true;
                self.subscribe_all();
                if self.rng.per_mille(300) {
                    let prefix = Namespace::from_path("live").expect("a short name");
                    let parameters = Parameters::default();
                    let request = SubscribeNamespace { prefix, parameters };
                    self.namespaces = Some(self.request(Request::SubscribeNamespace(request)));
                }
            }
            Event::Responded { id, response } => self.handle_response(id, response),
            Event::Ended { id, .. } => {
                if self.watching.remove(&id).is_some() {
                    self.timeline.note(&self.name, format_args!("request {id} broke off"));
                    self.retry = Some(self.timeline.now() + RETRY);
                }
            }
            Event::Updated { id, .. } => {
                let ok = Ok(RequestOk::default());
                self.wire.session.respond_update(id, ok).expect("a short answer");
            }
            Event::Requested { .. }
            | Event::GoAway(_)
            | Event::UpdateAnswered { .. }
            | Event::RequestGoAway { .. } => {}
        }
    }

    fn request(&mut self, request: Request) -> RequestId {
        self.wire.session.request(request).expect("a short request")
    }

    fn subscribe_all(&mut self) {
        if !self.ready {
            return;
        }
        for track in 0..self.tracks.len() {
            if !self.watching.values().any(|watching| watching.track == track) {
                self.subscribe(track);
            }
        }
    }

    fn subscribe(&mut self, track: usize) {
        let now = self.timeline.now();
        let broadcast = Rc::clone(&self.tracks[track]);
        let rng = &mut self.rng;
        let at = broadcast.location(rng.below(broadcast.published(now) + 20));
        let filter = if self.calm {
            None
        } else {
            match rng.below(8) {
                0 => Some(LocationFilter::LargestObject),
                1 => Some(LocationFilter::NextGroupStart),
                2 => Some(LocationFilter::AbsoluteStart { start: at }),
                3 => Some(LocationFilter::AbsoluteRange {
                    start: at,
                    end_group: at.group + rng.below(8),
                }),
                _ => None,
            }
        };
        let mut parameters = Parameters {
            subscriber_priority: rng.per_mille(500).then(|| rng.below(256) as u8),
            group_order: rng
                .per_mille(500)
                .then(|| *rng.pick(&[GroupOrder::Ascending, GroupOrder::Descending])),
            rendezvous_timeout: rng.per_mille(500).then(|| rng.below(4000)),
            object_delivery_timeout: (!self.calm && rng.per_mille(200))
                .then(|| rng.between(50, 1000)),
            forward: (!self.calm && rng.per_mille(100)).then_some(false),
            ..Parameters::default()
        };
        parameters.set_locations(filter);
        let said = filter.map_or("everything".to_owned(), |filter| format!("{filter:?}"));
        let name = broadcast.name.clone();
        let id = self.request(Request::Subscribe(Subscribe { track: name.clone(), parameters }));
        self.timeline.note(&self.name, format_args!("request {id}: wants {name}, {said}"));
        let wanted = LocationRange { start: Location::FIRST, end: Location::LAST };
        self.watching.insert(
            id,
            Watching {
                track,
                wanted,
                filter,
                established: None,
                streams: 0,
                seen: BTreeSet::new(),
                complete_from: 0,
            },
        );
    }

    fn handle_response(&mut self, id: RequestId, response: Response) {
        let Some(watching) = self.watching.get_mut(&id) else { return };
        match response {
            Response::SubscribeOk(ok) => {
                let broadcast = &self.tracks[watching.track];
                watching.established = Some(self.timeline.now());
                if let Some(filter) = watching.filter {
                    watching.wanted = filter.range(ok.parameters.largest_object);
                }
                let largest = ok.parameters.largest_object;
                // A publisher that nobody heard before goes on with its next group.
                let soon = broadcast.published(self.timeline.now() + SOON);
                watching.complete_from = broadcast.next_group(soon);
                let largest_said = largest.map_or("none".to_owned(), |l| l.to_string());
                self.timeline.note(
                    &self.name,
                    format_args!("request {id} accepted, largest {largest_said}"),
                );
                if ok.properties != broadcast.track_properties() {
                    let what = format!("the properties of {} were altered", broadcast.name);
                    self.timeline.violate(&self.name, what);
                }
                let known = largest.is_none_or(|largest| {
                    let number = broadcast.number_of(largest);
                    number.is_some_and(|n| n < broadcast.published(self.timeline.now()))
                });
                if !known {
                    let what = format!("{}: no object {largest_said} exists", broadcast.name);
                    self.timeline.violate(&self.name, what);
                }
            }
            Response::Error(error) => {
                let reason = String::from_utf8_lossy(&error.reason);
                self.timeline.note(
                    &self.name,
                    format_args!("request {id} refused: {} ({reason})", error.code),
                );
                self.watching.remove(&id);
                self.retry = Some(self.timeline.now() + RETRY);
            }
            Response::PublishDone(done) => {
                let seen = watching.streams;
                self.timeline.note(
                    &self.name,
                    format_args!(
                        "request {id} done: {}, {} streams, {seen} seen",
                        done.code, done.stream_count
                    ),
                );
                if seen > done.stream_count {
                    self.timeline.violate(&self.name, "more streams came than PUBLISH_DONE counts");
                }
                self.watching.remove(&id);
                self.retry = Some(self.timeline.now() + RETRY);
            }
            _ => {}
        }
    }

    // ---- objects ----

    fn begin(&mut self, request: RequestId, header: SubgroupHeader, stream: StreamNo) {
        let coding = self.wire.session.version().int_coding();
        if let Some(watching) = self.watching.get_mut(&request) {
            watching.streams += 1;
        }
        self.streams.insert(
            stream,
            Reading {
                request,
                header,
                scanner: ObjectScanner::new(&header, coding),
                bytes: Vec::new(),
                marks: Vec::new(),
                last: None,
            },
        );
    }

    fn read(&mut self, stream: StreamNo, bytes: &Bytes) {
        let Some(reading) = self.streams.get_mut(&stream) else { return };
        reading.bytes.extend_from_slice(bytes);
        let marks = &mut reading.marks;
        if let Err(error) = reading.scanner.scan(bytes, |mark| marks.push(mark)) {
            return self.timeline.violate(&self.name, format_args!("{stream}: {error}"));
        }
        while let Some(mark) = self.streams.get(&stream).and_then(Reading::first_whole) {
            let Some(reading) = self.streams.get_mut(&stream) else { return };
            reading.marks.remove(0);
            let payload = reading.bytes[mark.payload_start as usize..mark.end() as usize].to_vec();
            let (request, header, last) = (reading.request, reading.header, reading.last);
            match self.check(request, &header, last, &mark, &payload) {
                Ok(number) => {
                    if let Some(reading) = self.streams.get_mut(&stream) {
                        reading.last = number.or(reading.last);
                    }
                }
                Err(what) => self.timeline.violate(&self.name, format_args!("{stream}: {what}")),
            }
        }
    }

    /// Checks an object that came wholly. `Ok(None)`: its subscription is over.
    fn check(
        &mut self,
        request: RequestId,
        header: &SubgroupHeader,
        last: Option<u64>,
        mark: &ObjectMark,
        payload: &[u8],
    ) -> Result<Option<u64>, String> {
        let Some(watching) = self.watching.get_mut(&request) else { return Ok(None) };
        let broadcast = Rc::clone(&self.tracks[watching.track]);
        let number = broadcast.check(header.group, mark, payload, self.timeline.now())?;
        let location = broadcast.location(number);
        let expected = broadcast.header(number, header.track_alias);
        // Where it starts is the stream's own affair.
        let expected = SubgroupHeader { first_object: header.first_object, ..expected };
        if *header != expected {
            return Err(format!("{location} has {header:?}, not {expected:?}"));
        }
        match last {
            None if header.first_object && !broadcast.is_first_in_subgroup(number) => {
                return Err(format!("{location} is not the first object of its subgroup"));
            }
            Some(last) if broadcast.next_in_subgroup(last) != Some(number) => {
                let last = broadcast.location(last);
                return Err(format!("{location} follows {last} on one stream"));
            }
            _ => {}
        }
        self.count(request, number)
    }

    fn count(&mut self, request: RequestId, number: u64) -> Result<Option<u64>, String> {
        let Some(watching) = self.watching.get_mut(&request) else { return Ok(None) };
        let broadcast = &self.tracks[watching.track];
        let location = broadcast.location(number);
        if !watching.wanted.contains(location) {
            return Err(format!("{location} of {} was not wanted", broadcast.name));
        }
        if !watching.seen.insert(number) {
            return Err(format!("{location} of {} came twice", broadcast.name));
        }
        self.timeline
            .note(&self.name, format_args!("request {request}: {location} of {}", broadcast.name));
        Ok(Some(number))
    }

    fn finish(&mut self, stream: StreamNo) {
        let Some(reading) = self.streams.remove(&stream) else { return };
        let Some(watching) = self.watching.get(&reading.request) else { return };
        let broadcast = &self.tracks[watching.track];
        let whole = reading.scanner.at_boundary() && reading.marks.is_empty();
        let last =
            reading.last.map(|last| (broadcast.location(last), broadcast.next_in_subgroup(last)));
        match last {
            _ if !whole => {
                self.timeline.violate(&self.name, format_args!("{stream} ends inside an object"));
            }
            Some((last, Some(_))) => self.timeline.violate(
                &self.name,
                format_args!("{stream} ends after {last}, though the subgroup goes on"),
            ),
            None => {
                self.timeline.violate(&self.name, format_args!("{stream} ends without objects"));
            }
            Some((_, None)) => {}
        }
    }

    /// Checks the beginning of an object that was broken off.
    fn check_partial(&self, reading: &Reading) {
        let Some(watching) = self.watching.get(&reading.request) else { return };
        let Some(mark) = reading.marks.first() else { return };
        let broadcast = &self.tracks[watching.track];
        let location = Location { group: reading.header.group, object: mark.id };
        let Some(number) = broadcast.number_of(location) else {
            let what = format!("object {location} of {} was invented", broadcast.name);
            return self.timeline.violate(&self.name, what);
        };
        let truth = broadcast.object(number);
        let part = &reading.bytes[mark.payload_start as usize..];
        let length = truth.payload.len() as u64;
        if !truth.payload.starts_with(part) || mark.payload_len != length {
            let what = format!("the beginning of {location} of {} was altered", broadcast.name);
            self.timeline.violate(&self.name, what);
        }
    }

    fn datagram(&mut self, request: RequestId, datagram: &Datagram) {
        let Some(watching) = self.watching.get(&request) else { return };
        let broadcast = Rc::clone(&self.tracks[watching.track]);
        let (status, payload) = match &datagram.body {
            DatagramBody::Payload(payload) => (ObjectStatus::Normal, payload.clone()),
            DatagramBody::Status(status) => (*status, Bytes::new()),
        };
        let location = Location { group: datagram.group, object: datagram.object };
        let found = Object { location, status, properties: datagram.properties.clone(), payload };
        let checked = broadcast.check_object(&found, self.timeline.now()).and_then(|number| {
            let priority = broadcast.header(number, 0).priority;
            match datagram.priority == priority {
                true => self.count(request, number),
                false => Err(format!("{location} has priority {:?}", datagram.priority)),
            }
        });
        if let Err(what) = checked {
            self.timeline.violate(&self.name, what);
        }
    }

    // ---- moods ----

    /// Does something at random that a viewer may do.
    pub(crate) fn fidget(&mut self, link: &mut Link) {
        let requests: Vec<_> = self.watching.keys().copied().collect();
        match self.rng.below(6) {
            0 | 1 => {
                self.stalled = !self.stalled;
                let now = if self.stalled { "reads nothing" } else { "reads again" };
                self.timeline.note(&self.name, now);
                link.pause(self.wire.side, self.stalled);
            }
            2 if !requests.is_empty() => {
                let id = *self.rng.pick(&requests);
                self.timeline.note(&self.name, format_args!("request {id} cancelled"));
                self.wire.session.cancel(id, ResetCode::CANCELLED);
                self.watching.remove(&id);
                self.retry = Some(self.timeline.now() + RETRY);
            }
            3 if !self.streams.is_empty() => {
                let streams: Vec<_> = self.streams.keys().copied().collect();
                let stream = *self.rng.pick(&streams);
                self.timeline.note(&self.name, format_args!("{stream} stopped"));
                self.wire.stop(stream, link);
                self.streams.remove(&stream);
            }
            4 if !requests.is_empty() => {
                let id = *self.rng.pick(&requests);
                let parameters = Parameters {
                    subscriber_priority: Some(self.rng.below(256) as u8),
                    forward: self.rng.per_mille(500).then(|| self.rng.per_mille(600)),
                    ..Parameters::default()
                };
                let forward = parameters.forward;
                if self.watching[&id].established.is_some()
                    && self.wire.session.update(id, parameters).is_ok()
                {
                    self.timeline.note(
                        &self.name,
                        format_args!("request {id} updated, forward {forward:?}"),
                    );
                }
            }
            _ => self.subscribe_all(),
        }
        self.wire.flush(link);
    }

    /// From now on reads all, and wants all of its tracks from anew.
    pub(crate) fn calm_down(&mut self, link: &mut Link) {
        self.calm = true;
        self.stalled = false;
        link.pause(self.wire.side, false);
        for id in std::mem::take(&mut self.watching).into_keys() {
            self.wire.session.cancel(id, ResetCode::CANCELLED);
        }
        self.streams.clear();
        self.retry = None;
        self.subscribe_all();
        self.wire.flush(link);
    }

    /// After a calm while all that was published before `until` must be here; `ends`: and tracks
    /// that ended before must have ended here.
    pub(crate) fn judge(&self, until: Instant, ends: bool) {
        for (number, broadcast) in self.tracks.iter().enumerate() {
            let mut watching = self.watching.values().filter(|w| w.track == number);
            if let Some(end) = broadcast.end().filter(|end| *end <= self.timeline.now()) {
                let long_ago = |at: Instant| at.max(end) < until - LATE;
                if ends && watching.any(|w| w.established.is_some_and(long_ago)) {
                    let what = format!("{} has ended, but not the subscription", broadcast.name);
                    self.timeline.violate(&self.name, what);
                }
                continue;
            }
            let Some(watching) = watching.find(|watching| watching.established.is_some()) else {
                let what = format!("still waits for {} in a calm while", broadcast.name);
                self.timeline.violate(&self.name, what);
                continue;
            };
            let all = watching.complete_from..broadcast.published(until);
            let missing: Vec<String> = all
                .filter(|number| !watching.seen.contains(number))
                .map(|number| broadcast.location(number).to_string())
                .collect();
            if !missing.is_empty() {
                let missing = missing.join(" ");
                let what = format!("misses {missing} of {} in a calm while", broadcast.name);
                self.timeline.violate(&self.name, what);
            }
        }
    }
}

impl Reading {
    /// The first object, if all of it is here.
    fn first_whole(&self) -> Option<ObjectMark> {
        let mark = self.marks.first()?;
        (mark.end() <= self.bytes.len() as u64).then(|| mark.clone())
    }
}
