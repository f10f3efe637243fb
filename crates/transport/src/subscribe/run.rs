//! Drives a subscriber's session.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use moqt::{
    DatagramBody, Event, GoAway, GroupOrder, Location, Namespace, ObjectStatus, Parameters,
    Properties, Publish, PublishDone, Request, RequestError, RequestErrorCode, RequestId,
    RequestOk, ResetCode, Response, SessionCode, Subscribe, SubscribeOk, TrackStatus, Version,
    property,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::read::{self, Ended};
use super::{Object, Order, Published, QUEUE, Received, Refusal, Subscription};
use crate::{CANONICAL, Driver, DriverEvent};

/// How long streams may come after PUBLISH_DONE.
const LATE_STREAMS: Duration = Duration::from_secs(2);
/// How long the session stays when nobody has a handle to it, for its last words.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// A subscription.
struct Track {
    answer: Option<oneshot::Sender<Result<(RequestId, SubscribeOk), Refusal>>>,
    queue: mpsc::Sender<Received>,
    /// Data streams that came, and those that are still being read.
    seen: u64,
    reading: u64,
    done: Option<(PublishDone, Instant)>,
}

/// A fetch, or the backfill of a subscription.
struct Past {
    answer: Option<oneshot::Sender<Result<(), Refusal>>>,
    queue: mpsc::Sender<Received>,
    /// `None` until the publisher has said what it prefers.
    order: Option<GroupOrder>,
}

/// A SUBSCRIBE_TRACKS.
struct Wanted {
    prefix: Namespace,
    answer: Option<oneshot::Sender<Result<(), Refusal>>>,
    found: mpsc::Sender<Published>,
}

pub(super) struct Run {
    driver: Driver,
    /// For the handles of tracks that are published to us.
    handle: mpsc::WeakSender<Order>,
    leaving: watch::Sender<Option<GoAway>>,
    wanted: HashMap<RequestId, Wanted>,
    orders: mpsc::Receiver<Order>,
    tracks: HashMap<RequestId, Track>,
    past: HashMap<RequestId, Past>,
    statuses: HashMap<RequestId, oneshot::Sender<Result<RequestOk, Refusal>>>,
    streams: JoinSet<(Option<RequestId>, Ended)>,
}

impl Run {
    pub(super) fn new(
        driver: Driver,
        handle: mpsc::WeakSender<Order>,
        orders: mpsc::Receiver<Order>,
        leaving: watch::Sender<Option<GoAway>>,
    ) -> Self {
        Self {
            driver,
            handle,
            leaving,
            wanted: HashMap::new(),
            orders,
            tracks: HashMap::new(),
            past: HashMap::new(),
            statuses: HashMap::new(),
            streams: JoinSet::new(),
        }
    }

    /// Runs until the session is over or nobody has a handle to it.
    pub(super) async fn run(mut self) {
        let mut look = tokio::time::interval(Duration::from_millis(100));
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = self.driver.next() => match event {
                    Ok(event) => self.handle(event),
                    Err(_) => return,
                },
                order = self.orders.recv() => match order {
                    Some(order) => self.carry_out(order),
                    None => break,
                },
                Some(joined) = self.streams.join_next() => {
                    if let Ok((id, ended)) = joined {
                        self.stream_ended(id, ended);
                    }
                }
                _ = look.tick() => self.look_around(),
            }
        }
        let flush = async { while self.driver.next().await.is_ok() {} };
        let _ = tokio::time::timeout(LAST_WORDS, flush).await;
        self.driver.connection().close(SessionCode::NO_ERROR, "");
    }

    fn carry_out(&mut self, order: Order) {
        let session = self.driver.session_mut();
        match order {
            Order::Subscribe { track, want, answer, queue } => {
                let order = want.backfill.as_ref().and_then(|fill| fill.group_order);
                // A joining fetch has an order of its own, a fill its subscription's.
                let order = order.or(match session.version() {
                    Version::Draft16 | Version::Draft18 => Some(GroupOrder::Ascending),
                    Version::Draft22 => want.parameters.group_order,
                });
                let subscribe = Subscribe { track, parameters: want.parameters };
                match session.subscribe(subscribe, want.backfill) {
                    Ok((id, fetch)) => {
                        if let Some(fetch) = fetch {
                            let past = Past { answer: None, queue: queue.clone(), order };
                            self.past.insert(fetch, past);
                        }
                        let answer = Some(answer);
                        let track = Track { answer, queue, seen: 0, reading: 0, done: None };
                        self.tracks.insert(id, track);
                    }
                    Err(error) => drop(answer.send(Err(unsayable(&error)))),
                }
            }
            Order::Fetch { fetch, answer, queue } => {
                let order = fetch.parameters.group_order.or(Some(GroupOrder::Ascending));
                match session.request(Request::Fetch(fetch)) {
                    Ok(id) => {
                        self.past.insert(id, Past { answer: Some(answer), queue, order });
                    }
                    Err(error) => drop(answer.send(Err(unsayable(&error)))),
                }
            }
            Order::Update(id, parameters) => {
                if let Err(error) = session.update(id, *parameters)
                    && let Some(track) = self.tracks.get(&id)
                {
                    let error = RequestError::new(
                        RequestErrorCode::NOT_SUPPORTED,
                        format!("not sent: {error}"),
                    );
                    let _ = track.queue.try_send(Received::Updated(Err(error)));
                }
            }
            Order::Tracks { wanted, answer, found } => {
                let prefix = wanted.prefix.clone();
                match session.request(Request::SubscribeTracks(wanted)) {
                    Ok(id) => {
                        self.wanted.insert(id, Wanted { prefix, answer: Some(answer), found });
                    }
                    Err(error) => drop(answer.send(Err(unsayable(&error)))),
                }
            }
            Order::GoAway(uri, timeout) => {
                let timeout = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
                // One that does not fit would be the caller's own URI of 8 KiB.
                let _ = session.go_away(uri, timeout);
            }
            Order::Status(track, answer) => {
                let parameters = Parameters::default();
                let request = Request::TrackStatus(TrackStatus { track, parameters });
                match session.request(request) {
                    Ok(id) => drop(self.statuses.insert(id, answer)),
                    Err(error) => drop(answer.send(Err(unsayable(&error)))),
                }
            }
        }
    }

    fn handle(&mut self, event: DriverEvent) {
        match event {
            DriverEvent::Session(event) => self.handle_session(event),
            DriverEvent::Subgroup { request, header, head, stream } => {
                let Some(track) = self.tracks.get_mut(&request) else { return };
                track.seen += 1;
                track.reading += 1;
                let read = read::subgroup(header, head, stream, track.queue.clone());
                self.streams.spawn(async move { (Some(request), read.await) });
            }
            DriverEvent::Fetch { request, head, stream } => {
                let Some(past) = self.past.remove(&request) else { return };
                // Its objects may come before the answer does.
                if let Some(answer) = past.answer {
                    let _ = answer.send(Ok(()));
                }
                let order = past.order.unwrap_or(GroupOrder::Ascending);
                let read = read::fetch(order, head, stream, past.queue);
                self.streams.spawn(async move { (None, read.await) });
            }
            DriverEvent::Datagram { request, datagram } => {
                let Some(track) = self.tracks.get(&request) else { return };
                let Ok(properties) =
                    Properties::decode(datagram.properties, CANONICAL.int_coding())
                else {
                    return;
                };
                let (status, payload) = match datagram.body {
                    DatagramBody::Payload(payload) => (ObjectStatus::Normal, payload),
                    DatagramBody::Status(status) => (status, Bytes::new()),
                };
                let object = Object {
                    location: Location { group: datagram.group, object: datagram.object },
                    subgroup: None,
                    priority: datagram.priority,
                    status,
                    properties,
                    payload,
                    fetched: false,
                };
                // A datagram that finds no room is lost, as datagrams are.
                let _ = track.queue.try_send(Received::Object(object));
            }
        }
    }

    fn handle_session(&mut self, event: Event) {
        match event {
            Event::Responded { id, response } => self.responded(id, response),
            Event::UpdateAnswered { id, result } => {
                if let Some(track) = self.tracks.get(&id) {
                    let _ = track.queue.try_send(Received::Updated(result));
                }
            }
            Event::Ended { id, code } => {
                let refusal = code.map_or(Refusal::Ended, Refusal::Reset);
                // An answered fetch has no more to say while its objects are on their way.
                let answered = self.past.get(&id).is_some_and(|past| past.answer.is_none());
                if !(answered && code.is_none()) {
                    self.refuse(id, refusal);
                }
            }
            // Whoever can be subscribed to may say so.
            Event::Requested { id, request: Request::PublishNamespace(_) } => {
                let _ = self.driver.session_mut().respond(id, Response::Ok(RequestOk::default()));
            }
            Event::Requested { id, request: Request::Publish(publish) } => {
                self.published(id, publish);
            }
            Event::Requested { id, .. } => {
                let reason = "this subscriber takes no requests";
                let error = RequestError::new(RequestErrorCode::NOT_SUPPORTED, reason);
                let _ = self.driver.session_mut().respond(id, Response::Error(error));
            }
            Event::Updated { id, .. } => {
                let _ = self.driver.session_mut().respond_update(id, Ok(RequestOk::default()));
            }
            Event::GoAway(goaway) => drop(self.leaving.send_replace(Some(goaway))),
            Event::Ready(_) | Event::RequestGoAway { .. } => {}
        }
    }

    /// The peer publishes a track: it is taken when somebody asked for it.
    fn published(&mut self, id: RequestId, publish: Publish) {
        let namespace = publish.track.namespace();
        let wanted = self.wanted.values().find(|wanted| namespace.has_prefix(&wanted.prefix));
        let (queue, received) = mpsc::channel(QUEUE);
        let ok = SubscribeOk {
            track_alias: publish.track_alias,
            parameters: publish.parameters,
            properties: publish.properties,
        };
        let taken = wanted.zip(self.handle.upgrade()).is_some_and(|(wanted, orders)| {
            let subscription = Subscription { id, ok, received, orders };
            wanted.found.try_send((publish.track, subscription)).is_ok()
        });
        let response = if taken {
            let track = Track { answer: None, queue, seen: 0, reading: 0, done: None };
            self.tracks.insert(id, track);
            Response::Ok(RequestOk::default())
        } else {
            let reason = "nobody here asked for it";
            Response::Error(RequestError::new(RequestErrorCode::UNINTERESTED, reason))
        };
        let _ = self.driver.session_mut().respond(id, response);
    }

    fn responded(&mut self, id: RequestId, response: Response) {
        match response {
            Response::SubscribeOk(ok) => {
                if let Some(past) = self.past.get_mut(&id) {
                    let preferred = ok.properties.int(property::DEFAULT_PUBLISHER_GROUP_ORDER);
                    past.order.get_or_insert(match preferred {
                        Some(2) => GroupOrder::Descending,
                        _ => GroupOrder::Ascending,
                    });
                }
                let Some(track) = self.tracks.get_mut(&id) else { return };
                if let Some(answer) = track.answer.take()
                    && answer.send(Ok((id, ok))).is_err()
                {
                    self.forget(id);
                }
            }
            Response::FetchOk(_) => {
                let past = self.past.get_mut(&id);
                if let Some(answer) = past.and_then(|past| past.answer.take()) {
                    let _ = answer.send(Ok(()));
                }
            }
            Response::Ok(ok) => {
                let wanted = self.wanted.get_mut(&id);
                if let Some(answer) = wanted.and_then(|wanted| wanted.answer.take()) {
                    let _ = answer.send(Ok(()));
                }
                if let Some(answer) = self.statuses.remove(&id) {
                    let _ = answer.send(Ok(ok));
                }
            }
            Response::Error(error) => self.refuse(id, Refusal::Answer(error)),
            Response::PublishDone(done) => {
                if let Some(track) = self.tracks.get_mut(&id) {
                    track.done = Some((done, Instant::now() + LATE_STREAMS));
                    self.finish_done(id);
                }
            }
            Response::Namespace(_)
            | Response::NamespaceDone(_)
            | Response::PublishBlocked(_)
            | Response::StateNotify(_) => {}
        }
    }

    /// A request is over without having succeeded.
    fn refuse(&mut self, id: RequestId, refusal: Refusal) {
        if let Some(answer) = self.statuses.remove(&id) {
            let _ = answer.send(Err(refusal.clone()));
        }
        if let Some(answer) = self.wanted.remove(&id).and_then(|wanted| wanted.answer) {
            let _ = answer.send(Err(refusal.clone()));
        }
        if let Some(past) = self.past.remove(&id) {
            match past.answer {
                Some(answer) => drop(answer.send(Err(refusal.clone()))),
                None => drop(past.queue.try_send(Received::BackfillEnd(Err(refusal.clone())))),
            }
        }
        if let Some(answer) = self.tracks.remove(&id).and_then(|track| track.answer) {
            let _ = answer.send(Err(refusal));
        }
    }

    fn stream_ended(&mut self, id: Option<RequestId>, ended: Ended) {
        if let Err(error) = ended {
            self.driver.session_mut().close(error.code, error.reason);
        }
        if let Some(id) = id {
            if let Some(track) = self.tracks.get_mut(&id) {
                track.reading -= 1;
            }
            self.finish_done(id);
        }
    }

    /// Yields PUBLISH_DONE once everything before it was yielded.
    fn finish_done(&mut self, id: RequestId) {
        let Some(track) = self.tracks.get(&id) else { return };
        let Some((done, until)) = &track.done else { return };
        let counted = done.stream_count != PublishDone::UNKNOWN_COUNT;
        let complete = counted && track.seen >= done.stream_count || Instant::now() >= *until;
        if !complete || track.reading > 0 {
            return;
        }
        if let Some(Track { queue, done: Some((done, _)), .. }) = self.tracks.remove(&id) {
            tokio::spawn(async move { queue.send(Received::Done(done)).await });
        }
    }

    /// Cancels what nobody wants any more, and ends what has waited long enough.
    fn look_around(&mut self) {
        let unwanted = |track: &Track| track.answer.is_none() && track.queue.is_closed();
        let over: Vec<_> =
            self.tracks.iter().filter(|(_, track)| unwanted(track)).map(|(id, _)| *id).collect();
        for id in over {
            self.forget(id);
        }
        let unwanted = |wanted: &Wanted| wanted.answer.is_none() && wanted.found.is_closed();
        let over: Vec<_> =
            self.wanted.iter().filter(|(_, wanted)| unwanted(wanted)).map(|(id, _)| *id).collect();
        for id in over {
            self.wanted.remove(&id);
            self.driver.session_mut().cancel(id, ResetCode::CANCELLED);
        }
        let done: Vec<_> = self.tracks.keys().copied().collect();
        for id in done {
            self.finish_done(id);
        }
    }

    fn forget(&mut self, id: RequestId) {
        self.tracks.remove(&id);
        self.driver.session_mut().cancel(id, ResetCode::CANCELLED);
    }
}

fn unsayable(error: &moqt::codec::EncodeError) -> Refusal {
    let reason = format!("this draft cannot ask for it: {error}");
    Refusal::Answer(RequestError::new(RequestErrorCode::NOT_SUPPORTED, reason))
}
