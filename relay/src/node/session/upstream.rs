//! Subscriptions at the peer, by our SUBSCRIBE or its PUBLISH, and the streams it sends for them.

use bytes::Bytes;
use moqt::codec::EncodeError;
use moqt::{
    Datagram, GroupOrder, Location, Properties, Publish, PublishDone, PublishDoneCode, RequestOk,
    SubgroupHeader, Subscribe, SubscribeOk,
};
use relay_core::{FeedId, TrackError, Upstream};
use transport::RecvStream;

use super::super::ingest;
use super::super::viewers::is_report;
use super::*;

/// How long streams may come after PUBLISH_DONE. A count that is never reached, because one was
/// reset before its header, must not keep the track.
const LATE_STREAMS: Duration = Duration::from_millis(500);

/// A subgroup that is being read into its track.
pub(super) struct Ingest {
    request: RequestId,
    feed: FeedId,
    task: tokio::task::AbortHandle,
}

/// A subscription of ours whose PUBLISH_DONE came before all of its streams did.
#[derive(Clone, Copy)]
pub(super) struct Ending {
    code: PublishDoneCode,
    streams: u64,
    until: Instant,
}

/// Something wrong in what the peer sends for a track.
pub(in super::super) struct Fault {
    track: TrackId,
    error: TrackError,
}

impl Session {
    pub(super) fn subscribe(&mut self, track: TrackId, wanted: Upstream) -> Result<(), Error> {
        // No filter: a relay gets the newest group from its start, as its viewers will.
        let parameters = Parameters {
            group_order: Some(GroupOrder::Descending),
            new_group_request: wanted.new_group,
            ..Parameters::default()
        };
        let subscribe = Subscribe { track: wanted.name, parameters };
        let id = self.request(Request::Subscribe(subscribe))?;
        self.upstream.insert(id, track);
        Ok(())
    }

    fn upstream_of(&self, track: TrackId) -> Option<RequestId> {
        self.upstream.iter().find(|(_, id)| **id == track).map(|(id, _)| *id)
    }

    pub(super) fn unsubscribe(&mut self, track: TrackId) {
        let Some(id) = self.upstream_of(track) else { return };
        self.upstream.remove(&id);
        self.streams_seen.remove(&id);
        self.postponed.remove(&id);
        self.ending.remove(&id);
        self.driver.session_mut().cancel(id, ResetCode::CANCELLED);
        self.stop_ingests(id, track);
    }

    pub(super) fn update_upstream(&mut self, track: TrackId, change: Parameters) {
        if let Some(id) = self.upstream_of(track) {
            self.update_or_wait(id, change);
        }
    }

    /// Sends an update, or keeps it until the peer has answered enough of those before it.
    fn update_or_wait(&mut self, id: RequestId, change: Parameters) {
        let change = match self.postponed.remove(&id) {
            Some(earlier) => Parameters {
                forward: change.forward.or(earlier.forward),
                new_group_request: change.new_group_request.max(earlier.new_group_request),
                ..change
            },
            None => change,
        };
        match self.driver.session_mut().update(id, change.clone()) {
            Ok(()) => {}
            Err(EncodeError::MustWait) => {
                self.postponed.insert(id, change);
            }
            Err(error) => tracing::debug!(session = self.id.0, %error, "no update"),
        }
    }

    /// The peer publishes a track to us.
    pub(super) fn handle_publish(&mut self, id: RequestId, publish: Publish) -> Result<(), Error> {
        if self.peer == Peer::Client && is_report(&publish.track) {
            let answer = self.reports.begin(id);
            return self.respond(id, answer);
        }
        let Publish { track: name, parameters, properties, .. } = publish;
        let session = self.id;
        let node = Arc::clone(&self.node);
        let taken = node.route_then(
            |router, now| router.handle_publish(session, &name, now),
            |taken| {
                if let Ok((track, _)) = taken
                    && let Some(track) = node.track(*track)
                {
                    come_live(&track, properties, parameters.largest_object);
                }
            },
        );
        match taken {
            Ok((track, forward)) => {
                // "it MUST ensure the subscription it initiated transitions to the Terminated state
                // before sending PUBLISH_OK" ("Subscriptions").
                self.unsubscribe(track);
                self.upstream.insert(id, track);
                self.become_publisher(name.namespace());
                tracing::info!(%name, session = session.0, "published");
                let parameters = Parameters { forward: Some(forward), ..Parameters::default() };
                self.respond(id, Response::Ok(RequestOk { parameters, ..RequestOk::default() }))
            }
            Err(error) => self.respond(id, Response::Error(*error)),
        }
    }

    pub(super) fn handle_upstream_response(&mut self, id: RequestId, response: Response) {
        let Some(track) = self.upstream.get(&id).copied() else { return };
        let session = self.id;
        match response {
            Response::SubscribeOk(SubscribeOk { parameters, properties, .. }) => {
                if let Some(track) = self.node.track(track) {
                    come_live(&track, properties, parameters.largest_object);
                }
                self.node.route(|router, _| router.handle_upstream_ok(session, track));
            }
            Response::Error(error) => {
                self.upstream.remove(&id);
                self.node.route(|router, now| {
                    router.handle_upstream_error(session, track, &error, now);
                });
            }
            Response::PublishDone(done) => self.handle_done(id, &done),
            _ => {}
        }
    }

    fn handle_done(&mut self, id: RequestId, done: &PublishDone) {
        let seen = self.streams_seen.get(&id).copied().unwrap_or(0);
        if seen < done.stream_count {
            let until = Instant::now() + LATE_STREAMS;
            let ending = Ending { code: done.code, streams: done.stream_count, until };
            self.ending.insert(id, ending);
        } else {
            self.end_upstream(id, done.code);
        }
    }

    /// The peer answered an update of ours; what it says of the track is news.
    pub(super) fn handle_update_answer(
        &mut self,
        id: RequestId,
        result: Result<RequestOk, RequestError>,
    ) {
        if self.postponed.contains_key(&id) {
            self.update_or_wait(id, Parameters::default());
        }
        let track = self.upstream.get(&id).and_then(|track| self.node.track(*track));
        if let (Some(track), Ok(ok)) = (track, result)
            && let Some(largest) = ok.parameters.largest_object
        {
            track.write().raise_largest(largest);
        }
    }

    pub(super) fn handle_subgroup(
        &mut self,
        request: RequestId,
        header: SubgroupHeader,
        head: Bytes,
        mut stream: RecvStream,
    ) {
        if self.reports.is(request) {
            return self.reports.handle_subgroup(header, head, stream, Instant::now());
        }
        self.count_stream(request);
        let track = self.upstream.get(&request).and_then(|id| self.node.track(*id));
        let Some(track) = track else { return };
        let id = track.id;
        // Here and not in the task: the track must know of it before it may end.
        let opened = track.write().open(self.id, header, Instant::now());
        let feed = match opened {
            Ok(Some(feed)) => feed,
            Ok(None) => return stream.stop(ResetCode::CANCELLED),
            Err(error) => {
                stream.stop(ResetCode::MALFORMED_TRACK);
                return self.handle_fault(Fault { track: id, error }, Instant::now());
            }
        };
        let ingest = ingest::run(Arc::clone(&self.node), track, feed, head, stream);
        let mailbox = self.mailbox.clone();
        let task = tokio::spawn(async move {
            if let Err(error) = ingest.await {
                let _ = mailbox.send(Mail::Fault(Box::new(Fault { track: id, error })));
            }
        });
        self.ingests.retain(|ingest| !ingest.task.is_finished());
        self.ingests.push(Ingest { request, feed, task: task.abort_handle() });
    }

    pub(super) fn handle_datagram(&mut self, request: RequestId, datagram: Datagram) {
        let track = self.upstream.get(&request).and_then(|id| self.node.track(*id));
        let Some(track) = track else { return };
        let mut state = track.write();
        let before = (state.bytes_in(), state.objects_in());
        let pushed = state.push_datagram(self.id, datagram, Instant::now());
        let (bytes, objects) = (state.bytes_in() - before.0, state.objects_in() - before.1);
        drop(state);
        self.node.totals.count_in(bytes, objects);
        track.wake();
        if let Err(error) = pushed {
            self.handle_fault(Fault { track: track.id, error }, Instant::now());
        }
    }

    /// A peer that breaks the protocol is closed; a track that is malformed ends for all.
    pub(super) fn handle_fault(&mut self, fault: Fault, now: Instant) {
        match fault.error {
            TrackError::Protocol(error) => {
                self.driver.session_mut().close(error.code, error.reason);
            }
            TrackError::Malformed(reason) => {
                let Some(track) = self.node.track(fault.track) else { return };
                tracing::warn!(name = %track.name, session = self.id.0, reason, "malformed track");
                track.malformed.store(true, Ordering::Relaxed);
                self.node.route(|router, _| router.handle_malformed(fault.track, now));
            }
        }
    }

    /// Reads no more for a subscription of ours. Another source may go on with what was open; it
    /// must not seem alive until this peer, perhaps long dead, is given up.
    fn stop_ingests(&mut self, request: RequestId, track: TrackId) {
        let shared = self.node.track(track);
        self.ingests.retain(|ingest| {
            let stop = ingest.request == request;
            if stop {
                ingest.task.abort();
                if let Some(shared) = &shared {
                    shared.write().interrupt(ingest.feed, Instant::now());
                    shared.wake();
                }
            }
            !stop
        });
    }

    /// One more data stream of a subscription of ours came.
    fn count_stream(&mut self, id: RequestId) {
        let seen = self.streams_seen.entry(id).or_default();
        *seen += 1;
        if let Some(ending) = self.ending.get(&id)
            && *seen >= ending.streams
        {
            let until = Instant::now();
            self.ending.insert(id, Ending { until, ..*ending });
        }
    }

    /// Ends subscriptions whose late streams were seen, or waited for long enough.
    pub(super) fn end_late(&mut self, now: Instant) {
        let over: Vec<_> = self
            .ending
            .iter()
            .filter(|(_, ending)| now >= ending.until)
            .map(|(id, ending)| (*id, ending.code))
            .collect();
        for (id, code) in over {
            self.end_upstream(id, code);
        }
    }

    fn end_upstream(&mut self, id: RequestId, code: PublishDoneCode) {
        self.streams_seen.remove(&id);
        self.postponed.remove(&id);
        self.ending.remove(&id);
        if let Some(track) = self.upstream.remove(&id) {
            let session = self.id;
            self.node.route(|router, now| router.handle_upstream_done(session, track, code, now));
        }
    }

    /// The peer broke off without a word.
    pub(super) fn break_upstream(&mut self, id: RequestId) {
        let Some(track) = self.upstream.remove(&id) else { return };
        self.streams_seen.remove(&id);
        self.postponed.remove(&id);
        self.stop_ingests(id, track);
        let session = self.id;
        let error = RequestError::new(RequestErrorCode::INTERNAL_ERROR, "the upstream broke off");
        self.node.route(|router, now| {
            router.handle_upstream_error(session, track, &error, now);
        });
    }
}

/// What a publisher says of its track when it begins to give it to us.
fn come_live(track: &SharedTrack, properties: Properties, largest: Option<Location>) {
    let mut state = track.write();
    state.set_properties(properties);
    state.handle_live(largest);
    if let Some(largest) = largest {
        state.raise_largest(largest);
    }
}
