//! Subscriptions of the peer, by its SUBSCRIBE or our PUBLISH, and the streams they get.

use moqt::{
    FullTrackName, GroupOrder, Location, LocationFilter, LocationRange, Publish, PublishDone,
    PublishDoneCode, RequestOk, Subscribe, SubscribeOk, Version, property,
};
use relay_core::{Action, DeliveryTimeouts, Subscription, Track};
use tokio::sync::oneshot;
use transport::{SendStream, WriteError};

use super::*;

/// A subscription that we serve.
pub(super) struct Served {
    /// What the subscriber asked for.
    parameters: Parameters,
    /// Once there is a source.
    pub(super) track: Option<TrackId>,
    /// What streams call the track.
    alias: u64,
    /// Our PUBLISH, not answered yet.
    offered: bool,
    /// The largest location when objects began to be sent, where a joining fetch ends.
    pub(super) joining: Option<Location>,
}

impl Served {
    fn new(parameters: Parameters) -> Self {
        Self { parameters, track: None, alias: 0, offered: false, joining: None }
    }

    pub(super) fn filter(&self) -> Option<LocationFilter> {
        self.parameters.locations()
    }

    pub(super) fn is_forwarded(&self) -> bool {
        self.parameters.forward.unwrap_or(true)
    }

    pub(super) fn priority(&self) -> u8 {
        self.parameters.subscriber_priority.unwrap_or(DEFAULT_PRIORITY)
    }

    pub(super) fn order(&self) -> Option<GroupOrder> {
        self.parameters.group_order
    }
}

/// "If omitted … the publisher uses the value 128" ("SUBSCRIBER PRIORITY Parameter").
pub(super) const DEFAULT_PRIORITY: u8 = 128;

type Opening = Pin<Box<dyn Future<Output = Result<SendStream, Error>> + Send>>;

pub(super) enum Stream {
    Opening(Opening, Place),
    Open(SendStream, Place),
    /// Finished, and to be reset if the peer does not have all of it in time.
    Closing(oneshot::Sender<ResetCode>),
}

/// Where a stream stands among its session's.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Its subscription.
    request: RequestId,
    /// Higher first.
    priority: i32,
}

/// What of a session's subscriptions waits for the path, by the priority of its most urgent stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Ahead {
    /// What QUIC did not take.
    refused: Option<i32>,
    /// What was given up, until the peer has all that QUIC had of it.
    winding: Option<i32>,
}

impl Ahead {
    /// Whether a stream of this priority may be written to. With what is as urgent it takes turns.
    pub(in super::super) fn lets(self, priority: i32) -> bool {
        let Self { refused, winding } = self;
        refused.is_none_or(|refused| !relay_core::is_more_urgent(refused, priority))
            && winding.is_none_or(|winding| relay_core::is_more_urgent(priority, winding))
    }
}

impl Session {
    // ---- requests ----

    pub(super) fn handle_subscribe(&mut self, id: RequestId, subscribe: Subscribe) {
        let Subscribe { track, parameters } = subscribe;
        let session = self.id;
        let rendezvous = Duration::from_millis(parameters.rendezvous_timeout.unwrap_or(0));
        let new_group = parameters.new_group_request;
        self.served.insert(id, Served::new(parameters));
        self.node.route(|router, now| {
            router.handle_subscribe(session, id, &track, rendezvous, new_group, now);
        });
    }

    pub(super) fn accept(&mut self, request: RequestId, id: TrackId) -> Result<(), Error> {
        let Some(track) = self.node.track(id) else { return Ok(()) };
        let Some(served) = self.served.get_mut(&request) else {
            self.node.route(|router, _| router.handle_unsubscribe(self.id, request, id));
            return Ok(());
        };
        let state = track.read();
        let (largest, properties) = (state.largest(), state.properties().clone());
        drop(state);
        if let (Some(LocationFilter::AbsoluteRange { end_group, .. }), Some(largest)) =
            (served.filter(), largest)
            && end_group < largest.group
            // Later drafts accept any range: nothing of it comes any more.
            && self.driver.connection().version() <= Version::Draft18
        {
            self.served.remove(&request);
            self.node.route(|router, _| router.handle_unsubscribe(self.id, request, id));
            let reason = format!("group {end_group} is over: {largest} was published, use FETCH");
            let error = RequestError::new(RequestErrorCode::INVALID_RANGE, reason);
            self.pasts.refuse_waiting(request, &error, &self.mailbox);
            return self.respond(request, Response::Error(error));
        }
        served.track = Some(id);
        served.alias = self.driver.session_mut().allocate_alias();
        served.joining = largest.filter(|_| served.is_forwarded());
        let (track_alias, forward) = (served.alias, served.is_forwarded());
        let new_group = self.served[&request].parameters.new_group_request;
        self.send(request, &track);
        if let Some(group) = new_group {
            self.ask_new_group(&track, group);
        }
        if !forward {
            self.node.route(|router, _| router.handle_forward(self.id, request, id, false));
        }
        let parameters = Parameters { largest_object: largest, ..Parameters::default() };
        let ok = SubscribeOk { track_alias, parameters, properties };
        self.respond(request, Response::SubscribeOk(ok))?;
        self.begin_waiting_pasts(request);
        Ok(())
    }

    /// Sends PUBLISH for a track that the peer wants to hear of.
    pub(super) fn offer(
        &mut self,
        id: TrackId,
        name: FullTrackName,
        forward: bool,
    ) -> Result<(), Error> {
        let Some(track) = self.node.track(id) else { return Ok(()) };
        let track_alias = self.driver.session_mut().allocate_alias();
        let state = track.read();
        let (largest, properties) = (state.largest(), state.properties().clone());
        drop(state);
        let parameters =
            Parameters { forward: Some(forward), largest_object: largest, ..Parameters::default() };
        let publish = Publish { track: name, track_alias, parameters, properties };
        let request = self.request(Request::Publish(publish))?;
        let wants = Parameters { forward: Some(forward), ..Parameters::default() };
        let served = Served {
            track: Some(id),
            alias: track_alias,
            offered: true,
            joining: largest.filter(|_| forward),
            ..Served::new(wants)
        };
        // Until it is accepted nothing is sent, so nothing is asked of the source.
        let taken = self.node.route(|router, _| router.handle_offered(self.id, request, id, false));
        if taken {
            self.served.insert(request, served);
            Ok(())
        } else {
            let (code, reason) = (PublishDoneCode::TRACK_ENDED, Default::default());
            let done = PublishDone { code, stream_count: 0, reason };
            self.respond(request, Response::PublishDone(done))
        }
    }

    /// The peer answered our PUBLISH.
    pub(super) fn handle_offer_response(&mut self, id: RequestId, response: Response) {
        let Some(served) = self.served.get_mut(&id) else { return };
        match response {
            Response::Ok(ok) if std::mem::replace(&mut served.offered, false) => {
                let forward = ok.parameters.forward.or(served.parameters.forward);
                served.parameters = Parameters { forward, ..ok.parameters };
                let (forward, track) = (served.is_forwarded(), served.track);
                let Some(track) = track.and_then(|track| self.node.track(track)) else { return };
                self.send(id, &track);
                if forward {
                    self.node.route(|router, _| router.handle_forward(self.id, id, track.id, true));
                }
                if let Some(group) = ok.parameters.new_group_request {
                    self.ask_new_group(&track, group);
                }
            }
            Response::Error(_) => self.end_served(id),
            _ => {}
        }
    }

    /// Begins to send what a subscription wants.
    fn send(&mut self, request: RequestId, track: &Arc<SharedTrack>) {
        let Some(served) = self.served.get(&request) else { return };
        let state = track.read();
        let wanted = self.wanted(served, &state);
        let is_relay = self.peer != Peer::Client;
        track.watchers.insert(self.id, is_relay, Arc::clone(&self.signal));
        self.outbox.subscribe(request, track.id, &state, wanted);
        drop(state);
        self.tracks.insert(track.id, Arc::clone(track));
    }

    /// What a subscription is given ("Subscription Filters", "Delivery Timeouts and Data
    /// Reliability").
    fn wanted(&self, served: &Served, track: &Track) -> Subscription {
        let publisher_order = match track.properties().int(property::DEFAULT_PUBLISHER_GROUP_ORDER)
        {
            Some(2) => GroupOrder::Descending,
            _ => GroupOrder::Ascending,
        };
        let range = range(served.filter(), track.largest());
        Subscription {
            alias: served.alias,
            start: range.map(|range| range.start),
            end: range.map(|range| range.end).filter(|end| *end != Location::LAST),
            priority: served.priority(),
            order: served.order().unwrap_or(publisher_order),
            forward: served.is_forwarded(),
            timeouts: DeliveryTimeouts::new(track.properties(), &served.parameters),
        }
    }

    fn ask_new_group(&self, track: &SharedTrack, group: u64) {
        let state = track.read();
        let largest = state.largest().map(|largest| largest.group);
        let dynamic = state.properties().int(property::DYNAMIC_GROUPS) == Some(1);
        drop(state);
        self.node.route(|router, _| router.handle_new_group(track.id, group, largest, dynamic));
    }

    /// "Updating Subscriptions": what is said changes, all else stays.
    pub(super) fn update_served(&mut self, id: RequestId, change: &Parameters) -> RequestOk {
        let Some(served) = self.served.get_mut(&id) else { return RequestOk::default() };
        let was_forwarded = served.is_forwarded();
        let wants = &mut served.parameters;
        let replace = |held: &mut Option<u64>, new: Option<u64>| *held = new.or(*held);
        replace(&mut wants.object_delivery_timeout, change.object_delivery_timeout);
        replace(&mut wants.subgroup_delivery_timeout, change.subgroup_delivery_timeout);
        wants.subscriber_priority = change.subscriber_priority.or(wants.subscriber_priority);
        wants.forward = change.forward.or(wants.forward);
        wants.group_order = change.group_order.or(wants.group_order);
        let filtered = change.locations().is_some();
        if filtered {
            wants.set_locations(change.locations());
        }
        let track = served.track.and_then(|track| self.node.track(track));
        let Some(track) = track else { return RequestOk::default() };
        let (alias, forward) = (served.alias, served.is_forwarded());
        let state = track.read();
        let largest = state.largest();
        if forward && !was_forwarded {
            served.joining = largest;
        }
        let served = &self.served[&id];
        let new = self.wanted(served, &state);
        debug_assert_eq!(new.alias, alias, "an update keeps the alias");
        self.outbox.update(id, |wanted| {
            // Relative filters are relative to when they were said.
            let (start, end) = (wanted.start, wanted.end);
            *wanted = new;
            if !filtered {
                (wanted.start, wanted.end) = (start, end);
            }
        });
        drop(state);
        if forward != was_forwarded {
            self.node.route(|router, _| router.handle_forward(self.id, id, track.id, forward));
        }
        if let Some(group) = change.new_group_request {
            self.ask_new_group(&track, group);
        }
        let parameters = Parameters { largest_object: largest, ..Parameters::default() };
        RequestOk { parameters, ..RequestOk::default() }
    }

    /// The subscriber left.
    pub(super) fn end_served(&mut self, id: RequestId) {
        let session = self.id;
        let track = self.served.get(&id).and_then(|served| served.track);
        let shared = track.and_then(|track| self.tracks.get(&track)).cloned();
        let state = shared.as_ref().map(|shared| shared.read());
        for key in self.outbox.unsubscribe(id, state.as_deref()) {
            self.reset(key, ResetCode::CANCELLED);
        }
        drop(state);
        match track {
            Some(track) => {
                self.node.route(|router, _| router.handle_unsubscribe(session, id, track));
            }
            None => self.node.route(|router, _| router.handle_cancelled(session, id)),
        }
        self.pasts.cancel_of(id);
        self.forget_served(id);
    }

    fn forget_served(&mut self, id: RequestId) {
        let Some(Served { track: Some(track), .. }) = self.served.remove(&id) else { return };
        if !self.served.values().any(|served| served.track == Some(track))
            && let Some(shared) = self.tracks.remove(&track)
        {
            shared.watchers.remove(self.id);
        }
    }

    // ---- streams ----

    /// Hands the transport what it takes now. `true`: the session was told something.
    pub(super) fn pump(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, Error> {
        self.opening = true;
        self.winding.begin_round(cx, self.driver.connection(), self.cwnd, now);
        let mut said = false;
        for action in self.outbox.unblock(now) {
            said |= self.act(action)?;
        }
        // Taken out, so that nothing need be counted up and down for every wake.
        let tracks = std::mem::take(&mut self.tracks);
        let pumped = self.pump_tracks(cx, &tracks, now);
        debug_assert!(self.tracks.is_empty(), "subscriptions begin and end outside");
        self.tracks = tracks;
        said |= pumped?;
        self.tell_fetches();
        for request in std::mem::take(&mut self.done) {
            self.forget_served(request);
        }
        // "A sender MUST NOT send PUBLISH_DONE until it has closed all streams".
        if self.winding.is_empty() {
            for (request, done) in std::mem::take(&mut self.farewells) {
                self.respond(request, Response::PublishDone(done))?;
                said = true;
            }
        }
        let books = self.outbox.books();
        self.info.bytes_out.store(books.bytes_out, Ordering::Relaxed);
        self.info.objects_out.store(books.objects_out, Ordering::Relaxed);
        Ok(said)
    }

    /// Tells fetch streams what goes before them: they are written by tasks of their own.
    pub(super) fn tell_fetches(&self) {
        if self.ahead.receiver_count() == 0 {
            return;
        }
        let ahead = Ahead { refused: self.outbox.refused(), winding: self.winding.most_urgent() };
        self.ahead.send_if_modified(|told| std::mem::replace(told, ahead) != ahead);
    }

    fn pump_tracks(
        &mut self,
        cx: &mut Context<'_>,
        tracks: &BTreeMap<TrackId, Arc<SharedTrack>>,
        now: Instant,
    ) -> Result<bool, Error> {
        let mut said = false;
        // A write changes the urgency of its own track only: with many tracks, to ask all of them
        // before each would take more than the writes.
        let mut waiting = Vec::with_capacity(tracks.len());
        for track in tracks.values() {
            let state = track.read();
            let actions = self.outbox.look(track.id, &state, now);
            waiting.extend(self.outbox.urgency(track.id, &state).map(|urgency| (urgency, track)));
            drop(state);
            for action in actions {
                said |= self.act(action)?;
            }
        }
        loop {
            self.poll_opening(cx)?;
            let most_urgent = waiting.iter().enumerate().max_by_key(|(_, (urgency, _))| *urgency);
            let Some((at, &(urgency, track))) = most_urgent else { return Ok(said) };
            let write = self.outbox.poll(track.id, &track.read());
            let Some(Action::Write { stream: key, mut chunks }) = write else { return Ok(said) };
            let written = match self.write(cx, key, urgency.priority, &mut chunks, now)? {
                Poll::Ready(written) => written,
                // While a path is being probed its window grows with every round trip.
                Poll::Pending if self.fit_window() => continue,
                Poll::Pending => Some(0),
            };
            let state = track.read();
            let mut actions = Vec::new();
            match written {
                // The last byte of a subgroup that is over takes its FIN along.
                Some(taken) if self.outbox.handle_written(key, taken, &state, now) => {
                    actions = self.outbox.look(track.id, &state, now);
                }
                Some(_) => {}
                None => {
                    self.outbox.handle_stopped(key);
                    self.streams.remove(&key);
                }
            }
            match self.outbox.urgency(track.id, &state) {
                Some(urgency) => waiting[at].0 = urgency,
                None => drop(waiting.swap_remove(at)),
            }
            drop(state);
            for action in actions {
                said |= self.act(action)?;
            }
        }
    }

    /// Opens streams that are to be opened.
    fn poll_opening(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        if !std::mem::take(&mut self.opening) {
            return Ok(());
        }
        for (key, stream) in &mut self.streams {
            if let Stream::Opening(opening, place) = stream
                && let Poll::Ready(opened) = opening.as_mut().poll(cx)
            {
                let opened = opened?;
                opened.set_priority(place.priority);
                *stream = Stream::Open(opened, *place);
                self.outbox.handle_opened(*key);
            }
        }
        Ok(())
    }

    /// Finishes a stream. It is watched for as long as its last bytes may yet be late.
    fn finish(&mut self, key: StreamKey) {
        let Some(Stream::Open(mut stream, _)) = self.streams.remove(&key) else { return };
        stream.finish();
        if !self.outbox.awaits_delivery(key) {
            return;
        }
        let (reset, late) = oneshot::channel();
        let mailbox = self.mailbox.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = stream.stopped() => {
                    let _ = mailbox.send(Mail::Delivered(key));
                }
                Ok(code) = late => stream.reset(code),
            }
        });
        self.streams.insert(key, Stream::Closing(reset));
    }

    /// The peer has all of a stream that was finished.
    pub(super) fn handle_delivered(&mut self, key: StreamKey) {
        self.streams.remove(&key);
        self.outbox.handle_delivered(key);
    }

    fn wind_down(&mut self, key: StreamKey, code: ResetCode, now: Instant) {
        let Some(Stream::Open(..)) = self.streams.get(&key) else { return self.reset(key, code) };
        let Some(Stream::Open(stream, Place { request, priority })) = self.streams.remove(&key)
        else {
            return;
        };
        let mut others = self.streams.values().filter_map(|other| match other {
            Stream::Open(_, place) => Some(place),
            Stream::Opening(..) | Stream::Closing(_) => None,
        });
        let same = others.clone().filter(|other| other.request == request);
        let most_urgent = same.map(|other| other.priority).fold(priority, i32::max);
        // The sooner QUIC is rid of it the better, but another track that is more urgent, as sound is,
        // need not wait for that.
        let would_pass = |other: &Place| {
            other.request != request
                && relay_core::is_more_urgent(other.priority, priority)
                && relay_core::is_more_urgent(most_urgent, other.priority)
        };
        let raised = if others.any(would_pass) { priority } else { most_urgent };
        self.winding.push(stream, priority, raised, code, now);
    }

    fn reset(&mut self, key: StreamKey, code: ResetCode) {
        match self.streams.remove(&key) {
            Some(Stream::Open(mut stream, _)) => stream.reset(code),
            Some(Stream::Closing(reset)) => drop(reset.send(code)),
            Some(Stream::Opening(..)) | None => {}
        }
    }

    /// Writes to a data stream unless others that are given up go first: how many bytes were taken,
    /// or `None` when the peer stopped it.
    fn write(
        &mut self,
        cx: &mut Context<'_>,
        key: StreamKey,
        priority: i32,
        chunks: &mut [bytes::Bytes],
        now: Instant,
    ) -> Result<Poll<Option<usize>>, Error> {
        let Some(stream) = self.streams.get_mut(&key) else { return Ok(Poll::Ready(None)) };
        let Stream::Open(stream, _) = stream else { return Ok(Poll::Pending) };
        let connection = self.driver.connection();
        if !self.winding.is_turn(cx, connection, self.cwnd, stream, priority) {
            return Ok(Poll::Pending);
        }
        let written = stream.poll_write_chunks(cx, chunks);
        self.winding.handle_written(stream.take_handed(), now);
        match written {
            Poll::Ready(Ok(taken)) => Ok(Poll::Ready(Some(taken))),
            Poll::Ready(Err(WriteError::Stopped(_))) => Ok(Poll::Ready(None)),
            Poll::Ready(Err(WriteError::Gone(reason))) => Err(Error::Lost(reason)),
            Poll::Pending => Ok(Poll::Pending),
        }
    }

    fn act(&mut self, action: Action) -> Result<bool, Error> {
        match action {
            Action::Open { stream, request, priority } => {
                let connection = self.driver.connection().clone();
                let opening: Opening = Box::pin(async move { connection.open_data().await });
                let place = Place { request, priority };
                self.streams.insert(stream, Stream::Opening(opening, place));
                self.opening = true;
            }
            Action::Priority { stream, priority } => match self.streams.get_mut(&stream) {
                Some(Stream::Open(stream, place)) => {
                    place.priority = priority;
                    stream.set_priority(priority);
                }
                Some(Stream::Opening(_, place)) => place.priority = priority,
                Some(Stream::Closing(_)) | None => {}
            },
            Action::Finish(stream) => self.finish(stream),
            Action::Reset(stream, code) => match code {
                // What contradicts itself is to be forgotten, not counted.
                ResetCode::MALFORMED_TRACK => self.reset(stream, code),
                _ => self.wind_down(stream, code, Instant::now()),
            },
            Action::Datagram(datagram) => {
                let taken = self.driver.connection().send_datagram(datagram.bytes.clone());
                self.outbox.handle_datagram(&datagram, taken);
            }
            Action::Done { request, code, streams } => {
                let done = PublishDone { code, stream_count: streams, reason: Default::default() };
                self.farewells.push((request, done));
                if let Some(track) = self.served.get(&request).and_then(|served| served.track) {
                    let session = self.id;
                    self.node.route(|router, _| router.handle_unsubscribe(session, request, track));
                }
                self.done.push(request);
                return Ok(true);
            }
            Action::Write { .. } => {}
        }
        Ok(false)
    }
}

/// The locations that a filter lets through; `None`: from the newest group's start, which is what
/// we make of a subscription without one ("Joining an Ongoing Track").
fn range(filter: Option<LocationFilter>, largest: Option<Location>) -> Option<LocationRange> {
    match filter? {
        LocationFilter::Unfiltered => None,
        LocationFilter::AbsoluteStart { start } if start == Location::FIRST => None,
        LocationFilter::LargestObject | LocationFilter::NextGroupStart if largest.is_none() => None,
        filter => Some(filter.range(largest)),
    }
}
