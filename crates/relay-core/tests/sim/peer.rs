//! One session of a relay: between its wire, the router, the tracks and its outbox.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use moqt::{
    Event, GroupOrder, Location, LocationFilter, LocationRange, Namespace, Parameters, Properties,
    PublishDone, PublishDoneCode, PublishNamespace, Request, RequestError, RequestErrorCode,
    RequestId, RequestOk, ResetCode, Response, Subscribe, SubscribeNamespace, SubscribeOk,
    SubscribeTracks,
};
use relay_core::{
    Action, DeliveryTimeouts, FeedId, Outbox, Peer as Kind, Policy, RouteAction, Router, SessionId,
    StreamKey, Subscription, Track, TrackId,
};

use crate::books::Offered;
use crate::link::{Class, Link, StreamNo};
use crate::relay::Core;
use crate::wire::{Said, Wire};

/// How long streams may come after PUBLISH_DONE.
const LATE_STREAMS: Duration = Duration::from_millis(500);
/// Data streams that a peer lets us have open.
const STREAMS: usize = 20;

#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) id: SessionId,
    pub(crate) link: usize,
    pub(crate) wire: Wire,
    kind: Kind,
    pub(crate) outbox: Outbox,
    pub(crate) offered: Offered,
    /// Requests of the peer's for objects, and PUBLISHes of ours.
    served: BTreeMap<RequestId, Served>,
    /// Streams to be opened once the peer allows more.
    opening: BTreeMap<StreamKey, i32>,
    streams: BTreeMap<StreamKey, StreamNo>,
    /// Those that are finished and not wholly delivered.
    closing: BTreeMap<StreamNo, StreamKey>,
    /// Our subscriptions at the peer, and its PUBLISHes, in order.
    upstream: Vec<(RequestId, Upstream)>,
    ingests: BTreeMap<StreamNo, Ingest>,
    announced: BTreeMap<Namespace, RequestId>,
    watched: BTreeMap<RequestId, Namespace>,
    following: BTreeMap<RequestId, Namespace>,
    /// Our SUBSCRIBE_NAMESPACE at the parent.
    namespaces: Option<RequestId>,
}

#[derive(Debug)]
struct Served {
    parameters: Parameters,
    track: Option<TrackId>,
    /// The alias in our PUBLISH, while that is not answered.
    offered: Option<u64>,
}

#[derive(Debug)]
struct Upstream {
    track: TrackId,
    streams: u64,
    ending: Option<Ending>,
}

/// PUBLISH_DONE came before all streams did.
#[derive(Clone, Copy, Debug)]
struct Ending {
    code: PublishDoneCode,
    streams: u64,
    until: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Ingest {
    request: RequestId,
    track: TrackId,
    feed: FeedId,
}

impl Peer {
    pub(crate) fn new(id: SessionId, link: usize, kind: Kind, wire: Wire, policy: Policy) -> Self {
        Self {
            id,
            link,
            wire,
            kind,
            outbox: Outbox::new(policy),
            offered: Offered::default(),
            served: BTreeMap::new(),
            opening: BTreeMap::new(),
            streams: BTreeMap::new(),
            closing: BTreeMap::new(),
            upstream: Vec::new(),
            ingests: BTreeMap::new(),
            announced: BTreeMap::new(),
            watched: BTreeMap::new(),
            following: BTreeMap::new(),
            namespaces: None,
        }
    }

    /// What must be gone when nobody wants anything: its names and how many there are.
    pub(crate) fn holdings(&self) -> [(&'static str, usize); 8] {
        [
            ("subscriptions served", self.served.len()),
            ("streams open", self.streams.len()),
            ("streams to be opened", self.opening.len()),
            ("subscriptions of ours", self.upstream.len()),
            ("streams read", self.ingests.len()),
            ("data streams of the peer", self.wire.open_incoming()),
            ("subscriptions in the outbox", self.outbox.tracks().count()),
            ("namespaces announced", self.announced.len()),
        ]
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.timeouts().into_iter().filter_map(|(_, at)| at).min()
    }

    /// What must be done when.
    pub(crate) fn timeouts(&self) -> [(&'static str, Option<Instant>); 3] {
        let endings = self.upstream.iter().filter_map(|(_, upstream)| Some(upstream.ending?.until));
        [
            ("the end of a subscription", endings.min()),
            ("the outbox", self.outbox.poll_timeout()),
            ("the wire", self.wire.poll_timeout()),
        ]
    }

    pub(crate) fn handle_timeout(&mut self, core: &mut Core, link: &mut Link) {
        self.wire.handle_timeout(link);
        let now = core.timeline.now();
        let over: Vec<_> = self
            .upstream
            .iter()
            .filter_map(|(id, upstream)| Some((*id, upstream.ending?)))
            .filter(|(_, ending)| ending.until <= now)
            .collect();
        for (id, ending) in over {
            self.end_upstream(id, ending.code, core);
        }
    }

    fn upstream_mut(&mut self, id: RequestId) -> Option<&mut Upstream> {
        self.upstream.iter_mut().find(|(request, _)| *request == id).map(|(_, upstream)| upstream)
    }

    fn remove_upstream(&mut self, id: RequestId) -> Option<Upstream> {
        let at = self.upstream.iter().position(|(request, _)| *request == id)?;
        Some(self.upstream.remove(at).1)
    }

    fn request(&mut self, request: Request, link: &mut Link) -> RequestId {
        let id = self.wire.session.request(request).expect("a short request");
        self.wire.flush(link);
        id
    }

    fn respond(&mut self, id: RequestId, response: Response, link: &mut Link) {
        self.wire.session.respond(id, response).expect("a short answer");
        self.wire.flush(link);
    }

    // ---- what the peer said ----

    pub(crate) fn handle(&mut self, said: Said, core: &mut Core, link: &mut Link) {
        match said {
            Said::Event(event) => self.handle_event(event, core, link),
            Said::Subgroup { request, header, stream } => {
                let now = core.timeline.now();
                self.count_stream(request, now);
                let track = self.upstream_mut(request).map(|upstream| upstream.track);
                let Some(track) = track else { return };
                let Some(held) = core.tracks.get_mut(&track) else { return };
                match held.open(self.id, header, now) {
                    Ok(Some(feed)) => {
                        self.ingests.insert(stream, Ingest { request, track, feed });
                    }
                    Ok(None) => self.wire.stop(stream, link),
                    Err(error) => core.fault(self.id, &error),
                }
            }
            Said::Bytes { stream, bytes } => {
                if let Some(ingest) = self.ingests.get(&stream)
                    && let Some(track) = core.tracks.get_mut(&ingest.track)
                    && let Err(error) = track.append(ingest.feed, bytes, core.timeline.now())
                {
                    core.fault(self.id, &error);
                }
            }
            Said::Fin { stream } => {
                if let Some(ingest) = self.ingests.remove(&stream)
                    && let Some(track) = core.tracks.get_mut(&ingest.track)
                    && let Err(error) = track.finish(ingest.feed, core.timeline.now())
                {
                    core.fault(self.id, &error);
                }
            }
            Said::Reset { stream, code } => {
                if let Some(ingest) = self.ingests.remove(&stream)
                    && let Some(track) = core.tracks.get_mut(&ingest.track)
                {
                    let now = core.timeline.now();
                    if code == ResetCode::SESSION_CLOSED || code == ResetCode::GOING_AWAY {
                        track.interrupt(ingest.feed, now);
                    } else {
                        track.reset(ingest.feed, code, now);
                    }
                }
            }
            Said::Stopped { stream } => {
                let found = self.streams.iter().find(|(_, no)| **no == stream);
                if let Some((key, _)) = found.map(|(key, no)| (*key, *no)) {
                    self.streams.remove(&key);
                    self.closing.remove(&stream);
                    self.outbox.handle_stopped(key);
                    link.reset(self.wire.side, stream, ResetCode::CANCELLED);
                }
            }
            Said::Delivered { stream } => {
                if let Some(key) = self.closing.remove(&stream) {
                    self.streams.remove(&key);
                    self.outbox.handle_delivered(key);
                }
            }
            Said::Datagram { request, datagram } => {
                let track = self.upstream_mut(request).map(|upstream| upstream.track);
                if let Some(id) = track
                    && let Some(track) = core.tracks.get_mut(&id)
                {
                    let before = track.bytes_in();
                    let pushed = track.push_datagram(self.id, datagram, core.timeline.now());
                    core.datagrams.push((id, track.bytes_in() - before));
                    if let Err(error) = pushed {
                        core.fault(self.id, &error);
                    }
                }
            }
            Said::Fetch | Said::Closed => {}
        }
    }

    fn handle_event(&mut self, event: Event, core: &mut Core, link: &mut Link) {
        match event {
            Event::Ready(setup) => {
                if self.kind == Kind::Client && setup.node.is_some() {
                    self.kind = Kind::Node;
                }
                core.router.handle_session(self.id, self.kind, core.timeline.now());
                if self.kind == Kind::Uplink {
                    let (prefix, parameters) = (Namespace::default(), Parameters::default());
                    let all = SubscribeNamespace { prefix, parameters };
                    self.namespaces = Some(self.request(Request::SubscribeNamespace(all), link));
                }
            }
            Event::GoAway(_) => core.router.handle_going_away(self.id, core.timeline.now()),
            Event::Requested { id, request } => self.handle_request(id, request, core, link),
            Event::Updated { id, parameters } => {
                self.handle_update(id, &parameters, core);
                let ok = Ok(RequestOk::default());
                self.wire.session.respond_update(id, ok).expect("a short answer");
                self.wire.flush(link);
            }
            Event::Responded { id, response } => self.handle_response(id, response, core, link),
            Event::Ended { id, .. } => self.handle_ended(id, core, link),
            Event::UpdateAnswered { .. } | Event::RequestGoAway { .. } => {}
        }
    }

    fn handle_request(
        &mut self,
        id: RequestId,
        request: Request,
        core: &mut Core,
        link: &mut Link,
    ) {
        let (session, now) = (self.id, core.timeline.now());
        match request {
            Request::Subscribe(Subscribe { track, parameters }) => {
                let rendezvous = Duration::from_millis(parameters.rendezvous_timeout.unwrap_or(0));
                let new_group = parameters.new_group_request;
                self.served.insert(id, Served { parameters, track: None, offered: None });
                core.router.handle_subscribe(session, id, &track, rendezvous, new_group, now);
            }
            Request::Publish(publish) => {
                match core.router.handle_publish(session, &publish.track, now) {
                    Ok((track, forward)) => {
                        let upstream = Upstream { track, streams: 0, ending: None };
                        self.upstream.push((id, upstream));
                        core.heed();
                        if let Some(held) = core.tracks.get_mut(&track) {
                            come_live(held, publish.properties, publish.parameters.largest_object);
                        }
                        let parameters =
                            Parameters { forward: Some(forward), ..Parameters::default() };
                        let ok = RequestOk { parameters, ..RequestOk::default() };
                        self.respond(id, Response::Ok(ok), link);
                    }
                    Err(error) => self.respond(id, Response::Error(*error), link),
                }
            }
            Request::PublishNamespace(PublishNamespace { namespace, .. }) => {
                let response =
                    match core.router.handle_publish_namespace(session, id, &namespace, now) {
                        Ok(()) => Response::Ok(RequestOk::default()),
                        Err(error) => Response::Error(*error),
                    };
                self.respond(id, response, link);
            }
            Request::SubscribeNamespace(SubscribeNamespace { prefix, .. }) => {
                self.respond(id, Response::Ok(RequestOk::default()), link);
                self.watched.insert(id, prefix.clone());
                core.router.handle_subscribe_namespace(session, id, &prefix);
            }
            Request::SubscribeTracks(SubscribeTracks { prefix, parameters }) => {
                self.respond(id, Response::Ok(RequestOk::default()), link);
                self.following.insert(id, prefix.clone());
                let forward = parameters.forward.unwrap_or(true);
                core.router.handle_subscribe_tracks(session, id, &prefix, forward);
            }
            Request::Fetch(_) | Request::TrackStatus(_) => {
                let reason = "not in this simulation";
                let error = RequestError::new(RequestErrorCode::NOT_SUPPORTED, reason);
                self.respond(id, Response::Error(error), link);
            }
        }
    }

    fn handle_update(&mut self, id: RequestId, change: &Parameters, core: &mut Core) {
        let Some(Served { track: Some(track), .. }) = self.served.get(&id) else { return };
        self.offered.update();
        self.outbox.update(id, |wanted| {
            wanted.priority = change.subscriber_priority.unwrap_or(wanted.priority);
            wanted.forward = change.forward.unwrap_or(wanted.forward);
        });
        if let Some(forward) = change.forward {
            core.router.handle_forward(self.id, id, *track, forward);
        }
    }

    fn handle_response(
        &mut self,
        id: RequestId,
        response: Response,
        core: &mut Core,
        link: &mut Link,
    ) {
        let (session, now) = (self.id, core.timeline.now());
        if let Some(upstream) = self.upstream_mut(id) {
            let (track, streams) = (upstream.track, upstream.streams);
            match response {
                Response::SubscribeOk(ok) => {
                    if let Some(held) = core.tracks.get_mut(&track) {
                        come_live(held, ok.properties, ok.parameters.largest_object);
                    }
                    core.router.handle_upstream_ok(session, track);
                }
                Response::Error(error) => {
                    self.remove_upstream(id);
                    core.router.handle_upstream_error(session, track, &error, now);
                }
                Response::PublishDone(done) if streams < done.stream_count => {
                    let (code, streams) = (done.code, done.stream_count);
                    upstream.ending = Some(Ending { code, streams, until: now + LATE_STREAMS });
                }
                Response::PublishDone(done) => self.end_upstream(id, done.code, core),
                _ => {}
            }
            return;
        }
        match response {
            Response::Namespace(suffix) if self.namespaces == Some(id) => {
                core.router.handle_uplink_namespace(session, &suffix, true, now);
            }
            Response::NamespaceDone(suffix) if self.namespaces == Some(id) => {
                core.router.handle_uplink_namespace(session, &suffix, false, now);
            }
            Response::Ok(ok) => self.begin_offered(id, ok, core),
            Response::Error(_) if self.served.contains_key(&id) => {
                self.handle_ended(id, core, link);
            }
            _ => {}
        }
    }

    fn count_stream(&mut self, request: RequestId, now: Instant) {
        let Some(upstream) = self.upstream_mut(request) else { return };
        upstream.streams += 1;
        if let Some(ending) = &mut upstream.ending
            && upstream.streams >= ending.streams
        {
            ending.until = now;
        }
    }

    fn end_upstream(&mut self, id: RequestId, code: PublishDoneCode, core: &mut Core) {
        if let Some(upstream) = self.remove_upstream(id) {
            let now = core.timeline.now();
            core.router.handle_upstream_done(self.id, upstream.track, code, now);
        }
    }

    /// A request ended without a word.
    fn handle_ended(&mut self, id: RequestId, core: &mut Core, link: &mut Link) {
        if let Some(served) = self.served.remove(&id) {
            let track = served.track.and_then(|track| core.tracks.get(&track));
            if let (Some(id), Some(track)) = (served.track, track) {
                self.offered.look(id, track);
            }
            self.offered.close(id);
            for key in self.outbox.unsubscribe(id, track) {
                self.opening.remove(&key);
                if let Some(no) = self.streams.remove(&key) {
                    self.closing.remove(&no);
                    link.reset(self.wire.side, no, ResetCode::CANCELLED);
                }
            }
            match served.track {
                Some(track) => core.router.handle_unsubscribe(self.id, id, track),
                None => core.router.handle_cancelled(self.id, id),
            }
        } else if self.watched.remove(&id).is_some() {
            core.router.handle_unsubscribe_namespace(self.id, id);
        } else if self.following.remove(&id).is_some() {
            core.router.handle_unsubscribe_tracks(self.id, id);
        } else if let Some(upstream) = self.remove_upstream(id) {
            self.stop_ingests(id, core, link);
            let error =
                RequestError::new(RequestErrorCode::INTERNAL_ERROR, "the upstream broke off");
            let now = core.timeline.now();
            core.router.handle_upstream_error(self.id, upstream.track, &error, now);
        } else {
            core.router.handle_unpublish_namespace(self.id, id);
        }
    }

    /// Reads no more for a subscription of ours.
    fn stop_ingests(&mut self, request: RequestId, core: &mut Core, link: &mut Link) {
        let ours: Vec<_> = self
            .ingests
            .iter()
            .filter(|(_, ingest)| ingest.request == request)
            .map(|(stream, ingest)| (*stream, *ingest))
            .collect();
        for (stream, ingest) in ours {
            self.ingests.remove(&stream);
            self.wire.stop(stream, link);
            if let Some(track) = core.tracks.get_mut(&ingest.track) {
                track.interrupt(ingest.feed, core.timeline.now());
            }
        }
    }

    /// The session is over.
    pub(crate) fn close(&mut self, core: &mut Core) {
        for ingest in std::mem::take(&mut self.ingests).into_values() {
            if let Some(track) = core.tracks.get_mut(&ingest.track) {
                track.interrupt(ingest.feed, core.timeline.now());
            }
        }
    }

    // ---- what the router decided ----

    pub(crate) fn carry_out(&mut self, action: RouteAction, core: &mut Core, link: &mut Link) {
        match action {
            RouteAction::Announce(_, namespace) => {
                let parameters = Parameters::default();
                let request = PublishNamespace { namespace: namespace.clone(), parameters };
                let id = self.request(Request::PublishNamespace(request), link);
                self.announced.insert(namespace, id);
            }
            RouteAction::Unannounce(_, namespace) => {
                if let Some(id) = self.announced.remove(&namespace) {
                    self.wire.session.cancel(id, ResetCode::CANCELLED);
                    self.wire.flush(link);
                }
            }
            RouteAction::Namespace(_, request, namespace) => {
                if let Some(suffix) = self.watched.get(&request).and_then(|p| namespace.suffix(p)) {
                    self.respond(request, Response::Namespace(suffix), link);
                }
            }
            RouteAction::NamespaceDone(_, request, namespace) => {
                if let Some(suffix) = self.watched.get(&request).and_then(|p| namespace.suffix(p)) {
                    self.respond(request, Response::NamespaceDone(suffix), link);
                }
            }
            RouteAction::Follow(_) => {
                let parameters = Parameters { forward: Some(false), ..Parameters::default() };
                let all = SubscribeTracks { prefix: Namespace::default(), parameters };
                self.request(Request::SubscribeTracks(all), link);
            }
            RouteAction::Offer(_, track, name, forward) => {
                self.offer(track, name, forward, core, link);
            }
            RouteAction::Subscribe(_, track, upstream) => {
                let parameters = Parameters {
                    group_order: Some(GroupOrder::Descending),
                    new_group_request: upstream.new_group,
                    ..Parameters::default()
                };
                let request = Subscribe { track: upstream.name, parameters };
                let id = self.request(Request::Subscribe(request), link);
                self.upstream.push((id, Upstream { track, streams: 0, ending: None }));
            }
            RouteAction::Unsubscribe(_, track) => {
                let found = self.upstream.iter().find(|(_, u)| u.track == track).map(|(id, _)| *id);
                if let Some(id) = found {
                    self.remove_upstream(id);
                    self.wire.session.cancel(id, ResetCode::CANCELLED);
                    self.wire.flush(link);
                    self.stop_ingests(id, core, link);
                }
            }
            RouteAction::Forward(_, track, forward) => {
                let change = Parameters { forward: Some(forward), ..Parameters::default() };
                self.update_upstream(track, change, link);
            }
            RouteAction::NewGroup(_, track, group) => {
                let change = Parameters { new_group_request: Some(group), ..Parameters::default() };
                self.update_upstream(track, change, link);
            }
            RouteAction::Accept(_, request, track) => self.accept(request, track, core, link),
            RouteAction::Reject(_, request, error) => {
                self.served.remove(&request);
                self.respond(request, Response::Error(error), link);
            }
            RouteAction::End(_, request, _, code) => self.outbox.end_track(request, code),
            RouteAction::Begin(..) | RouteAction::Offline(_) | RouteAction::Forget(_) => {}
        }
    }

    fn update_upstream(&mut self, track: TrackId, change: Parameters, link: &mut Link) {
        let found = self.upstream.iter().find(|(_, u)| u.track == track).map(|(id, _)| *id);
        if let Some(id) = found {
            let _ = self.wire.session.update(id, change);
            self.wire.flush(link);
        }
    }

    fn accept(&mut self, request: RequestId, id: TrackId, core: &mut Core, link: &mut Link) {
        let Some(track) = core.tracks.get(&id) else { return };
        let Some(served) = self.served.get_mut(&request) else {
            return core.router.handle_unsubscribe(self.id, request, id);
        };
        served.track = Some(id);
        let parameters = served.parameters.clone();
        if parameters.forward == Some(false) {
            core.router.handle_forward(self.id, request, id, false);
        }
        let track_alias = self.wire.session.allocate_alias();
        let wanted = wanted(track_alias, &parameters, track);
        let (largest_object, properties) = (track.largest(), track.properties().clone());
        self.offered.subscribe(request, id, track, &wanted);
        self.outbox.subscribe(request, id, track, wanted);
        let parameters = Parameters { largest_object, ..Parameters::default() };
        let ok = SubscribeOk { track_alias, parameters, properties };
        self.respond(request, Response::SubscribeOk(ok), link);
    }

    /// Sends PUBLISH.
    fn offer(
        &mut self,
        id: TrackId,
        name: moqt::FullTrackName,
        forward: bool,
        core: &mut Core,
        link: &mut Link,
    ) {
        let Some(track) = core.tracks.get(&id) else { return };
        let track_alias = self.wire.session.allocate_alias();
        let parameters = Parameters {
            forward: Some(forward),
            largest_object: track.largest(),
            ..Parameters::default()
        };
        let publish = moqt::Publish {
            track: name,
            track_alias,
            parameters,
            properties: track.properties().clone(),
        };
        let request = self.request(Request::Publish(publish), link);
        // Until it is accepted nothing is sent, so nothing is asked of the source.
        if core.router.handle_offered(self.id, request, id, false) {
            let parameters = Parameters { forward: Some(forward), ..Parameters::default() };
            let offered = Some(track_alias);
            self.served.insert(request, Served { parameters, track: Some(id), offered });
            return;
        }
        let (code, reason) = (PublishDoneCode::TRACK_ENDED, Bytes::new());
        let done = PublishDone { code, stream_count: 0, reason };
        self.respond(request, Response::PublishDone(done), link);
    }

    /// The peer took our PUBLISH.
    fn begin_offered(&mut self, id: RequestId, ok: RequestOk, core: &mut Core) {
        let Some(served) = self.served.get_mut(&id) else { return };
        let Some(alias) = served.offered.take() else { return };
        let forward = ok.parameters.forward.or(served.parameters.forward);
        served.parameters = Parameters { forward, ..ok.parameters };
        let Some(track) = served.track else { return };
        let Some(held) = core.tracks.get(&track) else { return };
        let wanted = wanted(alias, &served.parameters, held);
        self.offered.subscribe(id, track, held, &wanted);
        self.outbox.subscribe(id, track, held, wanted);
        if wanted.forward {
            core.router.handle_forward(self.id, id, track, true);
        }
    }

    // ---- objects out ----

    /// Hands the link what it takes now. `true`: something was done.
    pub(crate) fn pump(&mut self, core: &mut Core, link: &mut Link) -> bool {
        let now = core.timeline.now();
        self.poll_opening(link);
        let mut busy = false;
        for action in self.outbox.unblock(now) {
            busy |= self.act(action, &mut core.router, link);
        }
        let mut ids: Vec<TrackId> = self.outbox.tracks().map(|(_, track)| track).collect();
        ids.sort_unstable();
        ids.dedup();
        for id in &ids {
            if let Some(track) = core.tracks.get(id) {
                self.offered.look(*id, track);
                for action in self.outbox.look(*id, track, now) {
                    busy |= self.act(action, &mut core.router, link);
                }
            }
        }
        loop {
            let urgent = ids
                .iter()
                .filter_map(|id| Some((*id, core.tracks.get(id)?)))
                .filter_map(|(id, track)| Some((self.outbox.urgency(id, track)?, id, track)))
                .max_by_key(|(urgency, id, _)| (*urgency, *id));
            let Some((_, id, track)) = urgent else { return busy };
            let Some(Action::Write { stream, chunks }) = self.outbox.poll(id, track) else {
                return busy;
            };
            let taken = match self.streams.get(&stream) {
                Some(no) => link.write(self.wire.side, *no, &chunks),
                None => self.opening.contains_key(&stream).then_some(0),
            };
            let Some(taken) = taken else {
                self.outbox.handle_stopped(stream);
                self.streams.remove(&stream);
                continue;
            };
            if self.outbox.handle_written(stream, taken, track, now) {
                for action in self.outbox.look(id, track, now) {
                    busy |= self.act(action, &mut core.router, link);
                }
            }
        }
    }

    /// Opens as many streams as the peer allows.
    fn poll_opening(&mut self, link: &mut Link) {
        while link.open_data_streams(self.wire.side) < STREAMS
            && let Some((key, priority)) = self.opening.pop_first()
        {
            let no = link.open(self.wire.side, Class::Data, priority);
            self.streams.insert(key, no);
            self.outbox.handle_opened(key);
        }
    }

    fn act(&mut self, action: Action, router: &mut Router, link: &mut Link) -> bool {
        let side = self.wire.side;
        match action {
            Action::Open { stream, priority, .. } => {
                self.opening.insert(stream, priority);
                self.poll_opening(link);
            }
            Action::Priority { stream, priority } => {
                if let Some(no) = self.streams.get(&stream) {
                    link.set_priority(side, *no, priority);
                } else if let Some(held) = self.opening.get_mut(&stream) {
                    *held = priority;
                }
            }
            Action::Finish(stream) => {
                if let Some(no) = self.streams.get(&stream) {
                    link.finish(side, *no);
                    if self.outbox.awaits_delivery(stream) {
                        self.closing.insert(*no, stream);
                    } else {
                        self.streams.remove(&stream);
                    }
                }
            }
            Action::Reset(stream, code) => {
                self.opening.remove(&stream);
                if let Some(no) = self.streams.remove(&stream) {
                    self.closing.remove(&no);
                    link.reset(side, no, code);
                }
            }
            Action::Datagram(datagram) => {
                self.outbox.handle_datagram(&datagram, true);
                link.datagram(side, datagram.bytes);
            }
            Action::Done { request, code, streams } => {
                self.offered.close(request);
                let done = PublishDone { code, stream_count: streams, reason: Bytes::new() };
                self.respond(request, Response::PublishDone(done), link);
                if let Some(track) = self.served.remove(&request).and_then(|served| served.track) {
                    router.handle_unsubscribe(self.id, request, track);
                }
                return true;
            }
            Action::Write { .. } => {}
        }
        false
    }
}

/// What a publisher says of its track when it begins to give it to us.
fn come_live(track: &mut Track, properties: Properties, largest: Option<Location>) {
    track.set_properties(properties);
    track.handle_live(largest);
    if let Some(largest) = largest {
        track.raise_largest(largest);
    }
}

/// What a subscription is given ("Subscription Filters", "Delivery Timeouts and Data
/// Reliability").
fn wanted(alias: u64, parameters: &Parameters, track: &Track) -> Subscription {
    let range = range(parameters.locations(), track.largest());
    Subscription {
        alias,
        start: range.map(|range| range.start),
        end: range.map(|range| range.end).filter(|end| *end != Location::LAST),
        priority: parameters.subscriber_priority.unwrap_or(128),
        order: parameters.group_order.unwrap_or(GroupOrder::Ascending),
        forward: parameters.forward.unwrap_or(true),
        timeouts: DeliveryTimeouts::new(track.properties(), parameters),
    }
}

/// The locations that a filter lets through; `None`: from the newest group's start.
fn range(filter: Option<LocationFilter>, largest: Option<Location>) -> Option<LocationRange> {
    match filter? {
        LocationFilter::Unfiltered => None,
        LocationFilter::AbsoluteStart { start } if start == Location::FIRST => None,
        LocationFilter::LargestObject | LocationFilter::NextGroupStart if largest.is_none() => None,
        filter => Some(filter.range(largest)),
    }
}
