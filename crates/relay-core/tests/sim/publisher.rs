//! A publisher: announces or publishes its tracks and sends what is asked of them.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use moqt::{
    Datagram, DatagramBody, Event, FullTrackName, Location, LocationFilter, LocationRange,
    Namespace, ObjectStatus, Parameters, Publish, PublishDone, PublishDoneCode, PublishNamespace,
    Request, RequestError, RequestErrorCode, RequestId, RequestOk, ResetCode, Response,
    SubscribeOk,
};

use crate::broadcast::Broadcast;
use crate::link::{Class, Link, StreamNo};
use crate::rng::Rng;
use crate::timeline::Timeline;
use crate::wire::{Said, Wire};

/// Bytes that may wait for a subscription before its oldest stream is given up.
const MAX_PENDING: usize = 64 * 1024;

/// How a publisher makes its tracks known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// PUBLISH_NAMESPACE, and waits for SUBSCRIBE.
    Announces,
    /// PUBLISH.
    Pushes,
}

#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) name: String,
    pub(crate) wire: Wire,
    tracks: Vec<Rc<Broadcast>>,
    manner: Manner,
    /// How far it lags behind the tracks' own time.
    lag: Duration,
    /// Begins in the middle of a group, as one who was switched on then.
    midway: bool,
    /// Of a thousand subgroups, how many it breaks off.
    pub(crate) breaks: u64,
    rng: Rng,
    timeline: Timeline,
    serving: BTreeMap<RequestId, Serving>,
    /// PUBLISH requests that were not answered.
    offered: BTreeMap<RequestId, Serving>,
}

#[derive(Debug)]
struct Serving {
    track: Rc<Broadcast>,
    alias: u64,
    wanted: LocationRange,
    forward: bool,
    /// Number of the next object.
    next: u64,
    streams: BTreeMap<(u64, u64), Stream>,
    count: u64,
}

#[derive(Debug)]
struct Stream {
    no: StreamNo,
    pending: VecDeque<Bytes>,
    /// The number of the last object in it.
    last: u64,
    /// That is the subgroup's last.
    over: bool,
    fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Open,
    /// To be reset.
    Doomed,
    /// Reset; nothing more of the subgroup is sent.
    Broken,
}

impl Publisher {
    pub(crate) fn new(
        name: String,
        wire: Wire,
        tracks: Vec<Rc<Broadcast>>,
        manner: Manner,
        mut rng: Rng,
        timeline: Timeline,
    ) -> Self {
        let lag = Duration::from_millis(rng.below(60));
        let midway = rng.per_mille(250);
        let breaks = if rng.per_mille(300) { rng.below(200) } else { 0 };
        Self {
            name,
            wire,
            tracks,
            manner,
            lag,
            midway,
            breaks,
            rng,
            timeline,
            serving: BTreeMap::new(),
            offered: BTreeMap::new(),
        }
    }

    /// When it has an object to send next.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let next = |serving: &Serving| {
            let ends = serving.track.length.is_some_and(|length| serving.next >= length);
            (!ends).then(|| serving.track.time_of(serving.next) + self.lag)
        };
        self.serving.values().filter_map(next).min()
    }

    pub(crate) fn handle(&mut self, said: Said, link: &mut Link) {
        match said {
            Said::Event(event) => self.handle_event(event),
            Said::Stopped { stream } => {
                let streams = self.serving.values_mut().flat_map(|s| s.streams.values_mut());
                streams.filter(|held| held.no == stream).for_each(Stream::doom);
            }
            Said::Subgroup { .. } | Said::Fetch | Said::Datagram { .. } => {
                self.timeline.violate(&self.name, "objects come to a publisher");
            }
            Said::Bytes { .. }
            | Said::Fin { .. }
            | Said::Reset { .. }
            | Said::Delivered { .. }
            | Said::Closed => {}
        }
        self.produce(link);
    }

    fn handle_event(&mut self, event: Event) {
        match event {
            Event::Ready(_) => self.begin(),
            Event::Requested { id, request } => self.handle_request(id, request),
            Event::Responded { id, response } => self.handle_response(id, response),
            Event::Updated { id, parameters } => {
                if let (Some(serving), Some(forward)) =
                    (self.serving.get_mut(&id), parameters.forward)
                {
                    self.timeline.note(&self.name, format_args!("request {id} forward {forward}"));
                    serving.set_forward(forward, self.timeline.now() - self.lag);
                }
                self.respond_update(id);
            }
            Event::Ended { id, .. } => {
                self.offered.remove(&id);
                if let Some(serving) = self.serving.get_mut(&id) {
                    serving.end();
                    self.timeline.note(&self.name, format_args!("{} unwanted", serving.track.name));
                }
            }
            Event::GoAway(_) | Event::UpdateAnswered { .. } | Event::RequestGoAway { .. } => {}
        }
    }

    fn begin(&mut self) {
        match self.manner {
            Manner::Announces => {
                let mut namespaces: Vec<Namespace> =
                    self.tracks.iter().map(|track| track.name.namespace().clone()).collect();
                namespaces.dedup();
                for namespace in namespaces {
                    self.timeline.note(&self.name, format_args!("announces {namespace}"));
                    let parameters = Parameters::default();
                    self.request(Request::PublishNamespace(PublishNamespace {
                        namespace,
                        parameters,
                    }));
                }
            }
            Manner::Pushes => {
                for track in self.tracks.clone() {
                    self.timeline.note(&self.name, format_args!("publishes {}", track.name));
                    let mut serving = self.serve(&track, None);
                    serving.alias = self.wire.session.allocate_alias();
                    let parameters = Parameters {
                        largest_object: serving.largest(self.timeline.now() - self.lag),
                        forward: Some(true),
                        ..Parameters::default()
                    };
                    let id = self.request(Request::Publish(Publish {
                        track: track.name.clone(),
                        track_alias: serving.alias,
                        parameters,
                        properties: track.track_properties(),
                    }));
                    self.offered.insert(id, serving);
                }
            }
        }
    }

    fn request(&mut self, request: Request) -> RequestId {
        self.wire.session.request(request).expect("a short request")
    }

    fn respond(&mut self, id: RequestId, response: Response) {
        self.wire.session.respond(id, response).expect("a short answer");
    }

    fn respond_update(&mut self, id: RequestId) {
        let ok = Ok(RequestOk::default());
        self.wire.session.respond_update(id, ok).expect("a short answer");
    }

    fn track(&self, name: &FullTrackName) -> Option<Rc<Broadcast>> {
        self.tracks.iter().find(|track| track.name == *name).cloned()
    }

    /// Begins with the newest group's start, or where a filter says; with datagrams at once.
    fn serve(&self, track: &Rc<Broadcast>, filter: Option<LocationFilter>) -> Serving {
        let published = track.published(self.timeline.now() - self.lag);
        let newest = match track.datagrams || self.midway {
            true => published,
            false => published.saturating_sub(1) / track.per_group * track.per_group,
        };
        let largest = published.checked_sub(1).map(|number| track.location(number));
        let wanted = filter
            .map_or(LocationRange { start: Location::FIRST, end: Location::LAST }, |filter| {
                filter.range(largest)
            });
        Serving {
            track: Rc::clone(track),
            alias: 0,
            wanted,
            forward: true,
            next: newest,
            streams: BTreeMap::new(),
            count: 0,
        }
    }

    fn handle_request(&mut self, id: RequestId, request: Request) {
        let no = |code, reason: &str| Response::Error(RequestError::new(code, reason.to_owned()));
        match request {
            Request::Subscribe(subscribe) => {
                let Some(track) = self.track(&subscribe.track) else {
                    let response = no(RequestErrorCode::DOES_NOT_EXIST, "no such track");
                    return self.respond(id, response);
                };
                let mut serving = self.serve(&track, subscribe.parameters.locations());
                serving.alias = self.wire.session.allocate_alias();
                serving.forward = subscribe.parameters.forward.unwrap_or(true);
                self.timeline.note(&self.name, format_args!("serves {}", track.name));
                let parameters = Parameters {
                    largest_object: serving.largest(self.timeline.now() - self.lag),
                    ..Parameters::default()
                };
                let ok = SubscribeOk {
                    track_alias: serving.alias,
                    parameters,
                    properties: track.track_properties(),
                };
                self.respond(id, Response::SubscribeOk(ok));
                self.serving.insert(id, serving);
            }
            Request::SubscribeTracks(_) | Request::SubscribeNamespace(_) => {
                self.respond(id, Response::Ok(RequestOk::default()));
            }
            _ => self.respond(id, no(RequestErrorCode::NOT_SUPPORTED, "not here")),
        }
    }

    fn handle_response(&mut self, id: RequestId, response: Response) {
        match response {
            Response::Ok(ok) => {
                if let Some(mut serving) = self.offered.remove(&id) {
                    let forward = ok.parameters.forward.unwrap_or(true);
                    let name = &serving.track.name;
                    self.timeline.note(&self.name, format_args!("{name} taken, forward {forward}"));
                    serving.set_forward(forward, self.timeline.now() - self.lag);
                    self.serving.insert(id, serving);
                }
            }
            Response::Error(error) => {
                if let Some(serving) = self.offered.remove(&id) {
                    let name = &serving.track.name;
                    self.timeline.note(&self.name, format_args!("{name} refused: {}", error.code));
                }
            }
            _ => {}
        }
    }

    /// Sends what has come into being, as far as the link takes it.
    pub(crate) fn produce(&mut self, link: &mut Link) {
        let now = self.timeline.now() - self.lag;
        let side = self.wire.side;
        let coding = self.wire.session.version().int_coding();
        let mut done = Vec::new();
        let is_over = self.wire.is_closed;
        for (id, serving) in &mut self.serving {
            while !is_over && serving.next < serving.track.published(now) {
                let number = serving.next;
                serving.next += 1;
                let location = serving.track.location(number);
                if !serving.forward || !serving.wanted.contains(location) {
                    continue;
                }
                if serving.track.datagrams {
                    link.datagram(side, serving.datagram(number).to_bytes(coding));
                    continue;
                }
                let breaks = self.rng.per_mille(self.breaks);
                serving.append(number, link, side, coding, breaks);
            }
            serving.write(link, side);
            let all_sent = serving.streams.values().all(|stream| stream.fate == Fate::Broken);
            if serving.track.has_ended(now) && all_sent && !serving.wanted.is_empty() {
                done.push(*id);
            }
        }
        for id in done {
            self.done(id, PublishDoneCode::TRACK_ENDED);
        }
        self.serving.retain(|_, serving| !serving.is_over());
        self.wire.flush(link);
    }

    fn done(&mut self, id: RequestId, code: PublishDoneCode) {
        let Some(serving) = self.serving.remove(&id) else { return };
        let stream_count = serving.count;
        self.timeline.note(
            &self.name,
            format_args!("{} done: {code}, {stream_count} streams", serving.track.name),
        );
        let done = PublishDone { code, stream_count, reason: Bytes::new() };
        self.respond(id, Response::PublishDone(done));
    }

    /// Ends everything as the draft wants it.
    pub(crate) fn leave(&mut self, link: &mut Link) {
        let side = self.wire.side;
        for id in self.serving.keys().copied().collect::<Vec<_>>() {
            if let Some(serving) = self.serving.get_mut(&id) {
                for stream in std::mem::take(&mut serving.streams).into_values() {
                    link.reset(side, stream.no, ResetCode::GOING_AWAY);
                }
            }
            self.done(id, PublishDoneCode::GOING_AWAY);
        }
        self.wire.flush(link);
    }
}

impl Serving {
    fn largest(&self, now: Instant) -> Option<Location> {
        self.track.published(now).checked_sub(1).map(|number| self.track.location(number))
    }

    /// What was not forwarded is not made up for: it goes on with the next group.
    fn set_forward(&mut self, forward: bool, now: Instant) {
        if forward && !self.forward {
            let published = self.track.published(now);
            let next_group = published.div_ceil(self.track.per_group) * self.track.per_group;
            self.next = self.next.max(next_group);
        }
        self.forward = forward;
        if !forward {
            self.streams.values_mut().for_each(Stream::doom);
        }
    }

    fn end(&mut self) {
        self.forward = false;
        self.wanted = LocationRange { start: Location::LAST, end: Location::FIRST };
        self.streams.values_mut().for_each(Stream::doom);
    }

    fn is_over(&self) -> bool {
        self.wanted.is_empty() && self.streams.values().all(|stream| stream.fate == Fate::Broken)
    }

    fn datagram(&self, number: u64) -> Datagram {
        let object = self.track.object(number);
        let body = match object.status {
            ObjectStatus::Normal => DatagramBody::Payload(object.payload),
            status => DatagramBody::Status(status),
        };
        Datagram {
            track_alias: self.alias,
            group: object.location.group,
            object: object.location.object,
            priority: self.track.header(number, self.alias).priority,
            properties: object.properties,
            end_of_group: false,
            body,
        }
    }

    fn append(
        &mut self,
        number: u64,
        link: &mut Link,
        side: usize,
        coding: moqt::IntCoding,
        breaks: bool,
    ) {
        let key = (self.track.location(number).group, self.track.subgroup_of(number));
        let waiting: usize =
            self.streams.values().flat_map(|stream| &stream.pending).map(Bytes::len).sum();
        if waiting > MAX_PENDING
            && let Some(oldest) = self.streams.values_mut().find(|s| !s.pending.is_empty())
        {
            oldest.doom();
        }
        let stream = match self.streams.entry(key) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let mut header = BytesMut::new();
                self.track.header(number, self.alias).encode(&mut header, coding);
                self.count += 1;
                let no = link.open(side, Class::Data, number as i32);
                let pending =
                    VecDeque::from([header.freeze(), self.track.encode(number, None, coding)]);
                let over = self.track.next_in_subgroup(number).is_none();
                entry.insert(Stream { no, pending, last: number, over, fate: Fate::Open })
            }
        };
        if breaks {
            stream.doom();
        }
        if stream.last == number {
            return;
        }
        stream.pending.push_back(self.track.encode(number, Some(stream.last), coding));
        stream.last = number;
        stream.over = self.track.next_in_subgroup(number).is_none();
    }

    /// Hands the link what it takes.
    fn write(&mut self, link: &mut Link, side: usize) {
        for stream in self.streams.values_mut() {
            stream.write(link, side);
        }
        self.streams.retain(|_, stream| match stream.fate {
            Fate::Open => !stream.over || !stream.pending.is_empty(),
            Fate::Doomed | Fate::Broken => !stream.over,
        });
    }
}

impl Stream {
    fn doom(&mut self) {
        if self.fate == Fate::Open {
            self.fate = Fate::Doomed;
        }
    }

    fn write(&mut self, link: &mut Link, side: usize) {
        while self.fate == Fate::Open
            && let Some(front) = self.pending.front_mut()
        {
            match link.write(side, self.no, std::slice::from_ref(front)) {
                Some(0) => return,
                Some(taken) => drop(front.split_to(taken)),
                None => self.fate = Fate::Doomed,
            }
            if front.is_empty() {
                self.pending.pop_front();
            }
        }
        if self.fate == Fate::Open && self.over {
            link.finish(side, self.no);
        }
        if self.fate == Fate::Doomed {
            link.reset(side, self.no, ResetCode::CANCELLED);
            self.fate = Fate::Broken;
        }
        if self.fate == Fate::Broken {
            self.pending.clear();
        }
    }
}
