//! FETCH, fills and TRACK_STATUS: what of the past the peer asks for, from the cache or passed on.
//!
//! Each runs as a task of its own, which writes its stream as slowly as the peer takes it and
//! tells the session what to answer. What is not here is asked of a source through the session
//! that leads to it.

use std::sync::atomic::AtomicU8;

use bytes::Bytes;
use moqt::{Fetch, FetchRange, FullTrackName, GroupOrder, LocationRange, RequestOk, TrackStatus};
use transport::RecvStream;
use transport::clock::Asked;

use super::super::fetch;
use super::serve::DEFAULT_PRIORITY;
use super::*;

/// Something another session asks this one's peer.
pub(in super::super) struct Ask {
    pub(in super::super) request: Request,
    /// Who hears of it. Dropping the other end takes the question back.
    pub(in super::super) heard: mpsc::UnboundedSender<AskedStream>,
}

/// What came of it.
pub(in super::super) enum AskedStream {
    /// The peer agreed.
    Accepted(Box<Response>),
    /// It did not, or could not be asked.
    Refused(RequestError),
    /// The fetch stream came.
    Data { head: Bytes, stream: RecvStream },
    /// The peer will say no more, its stream may still come.
    Ended(Option<ResetCode>),
}

/// What a task found for a request of the peer.
pub(in super::super) struct Answer {
    pub(in super::super) request: RequestId,
    pub(in super::super) response: Response,
}

impl Answer {
    /// Tells the session, unless it is over.
    pub(in super::super) fn give(self, mailbox: &Mailbox) {
        let _ = mailbox.send(Mail::Answer(Box::new(self)));
    }
}

/// What of the past is being sent, or waits for its subscription.
#[derive(Default)]
pub(super) struct Pasts {
    /// By the Request ID in FETCH_HEADER.
    running: HashMap<RequestId, Running>,
    /// By the subscription that is not accepted yet.
    waiting: HashMap<RequestId, Vec<Backfill>>,
}

struct Running {
    /// A fill ends with its subscription.
    fill_of: Option<RequestId>,
    priority: Arc<AtomicU8>,
    task: tokio::task::AbortHandle,
}

impl Pasts {
    /// The subscription that these wait for was refused.
    pub(super) fn refuse_waiting(
        &mut self,
        subscription: RequestId,
        error: &RequestError,
        mailbox: &Mailbox,
    ) {
        for backfill in self.waiting.remove(&subscription).unwrap_or_default() {
            if backfill.answer {
                let response = Response::Error(error.clone());
                Answer { request: backfill.stream, response }.give(mailbox);
            }
        }
    }

    /// "REQUEST_UPDATE" of a FETCH.
    pub(super) fn update(&self, id: RequestId, change: &Parameters) {
        if let (Some(running), Some(priority)) = (self.running.get(&id), change.subscriber_priority)
        {
            running.priority.store(priority, Ordering::Relaxed);
        }
    }

    /// The peer wants no more of this. `false`: it is no request of this kind.
    pub(super) fn cancel(&mut self, id: RequestId) -> bool {
        self.waiting.retain(|_, waiting| {
            waiting.retain(|backfill| !backfill.answer || backfill.stream != id);
            !waiting.is_empty()
        });
        let running = self.running.remove(&id);
        running.map(|running| running.task.abort()).is_some()
    }

    /// A subscription is over, and its fills with it. A joining FETCH goes on.
    pub(super) fn cancel_of(&mut self, subscription: RequestId) {
        self.waiting.remove(&subscription);
        self.running.retain(|_, running| {
            let over = running.fill_of == Some(subscription);
            if over {
                running.task.abort();
            }
            !over
        });
    }

    pub(super) fn cancel_all(&mut self) {
        for running in self.running.values() {
            running.task.abort();
        }
    }
}

impl Session {
    // ---- the peer asks us ----

    pub(super) fn begin_fetch(&mut self, id: RequestId, fetch: Fetch) {
        let Fetch { range, parameters } = fetch;
        let (track, wanted) = match range {
            FetchRange::Standalone { track, start, end } => {
                (track, fetch::Wanted::Range(LocationRange { start, end }))
            }
            FetchRange::RelativeStart { track, groups } => (track, fetch::Wanted::Last(groups)),
            FetchRange::RelativeJoining { .. } | FetchRange::AbsoluteJoining { .. } => return,
        };
        let priority = parameters.subscriber_priority.unwrap_or(DEFAULT_PRIORITY);
        let job = self.job(
            id,
            track,
            wanted,
            parameters.group_order.unwrap_or(GroupOrder::Ascending),
            parameters.fill_timeout,
            priority,
        );
        self.run(id, None, job);
    }

    /// Objects of a subscription's past: now, or once it is accepted.
    pub(super) fn begin_backfill(&mut self, backfill: Option<Backfill>) {
        let Some(backfill) = backfill else { return };
        let Some(served) = self.served.get(&backfill.subscription) else {
            // It may be on its way.
            return self.pasts.waiting.entry(backfill.subscription).or_default().push(backfill);
        };
        let Some(track) = served.track.and_then(|track| self.node.track(track)) else {
            return self.pasts.waiting.entry(backfill.subscription).or_default().push(backfill);
        };
        let subscribed = served.filter();
        let joining = served.joining.filter(|_| served.is_forwarded());
        let order = backfill.order.or(served.order()).unwrap_or(GroupOrder::Ascending);
        let priority = backfill.priority.unwrap_or(served.priority());
        let Some(range) = backfill.range(joining, subscribed) else {
            if backfill.answer {
                let reason = match served.is_forwarded() {
                    true => format!("nothing of {} was published before it was joined", track.name),
                    false => "the subscription is not forwarded".to_owned(),
                };
                let error = RequestError::new(RequestErrorCode::INVALID_RANGE, reason);
                let response = Response::Error(error);
                Answer { request: backfill.stream, response }.give(&self.mailbox);
            }
            return;
        };
        let name = track.name.clone();
        let wanted = fetch::Wanted::Range(range);
        let mut job = self.job(backfill.stream, name, wanted, order, backfill.timeout, priority);
        job.answered = !backfill.answer;
        let fill_of = (!backfill.answer).then_some(backfill.subscription);
        self.run(backfill.stream, fill_of, job);
    }

    pub(super) fn begin_waiting_pasts(&mut self, subscription: RequestId) {
        for backfill in self.pasts.waiting.remove(&subscription).unwrap_or_default() {
            self.begin_backfill(Some(backfill));
        }
    }

    fn job(
        &self,
        request: RequestId,
        name: FullTrackName,
        wanted: fetch::Wanted,
        order: GroupOrder,
        timeout: Option<u64>,
        priority: u8,
    ) -> fetch::Job {
        let ahead = self.ahead.subscribe();
        // What was told last may be long over.
        self.tell_fetches();
        fetch::Job {
            node: Arc::clone(&self.node),
            session: self.id,
            connection: self.driver.connection().clone(),
            mailbox: self.mailbox.clone(),
            answered: false,
            request,
            name,
            wanted,
            order,
            timeout: timeout.map(Duration::from_millis),
            priority: Arc::new(AtomicU8::new(priority)),
            ahead,
        }
    }

    fn run(&mut self, id: RequestId, fill_of: Option<RequestId>, job: fetch::Job) {
        let priority = Arc::clone(&job.priority);
        let task = tokio::spawn(job.run()).abort_handle();
        self.pasts.running.retain(|_, running| !running.task.is_finished());
        self.pasts.running.insert(id, Running { fill_of, priority, task });
    }

    /// "TRACK_STATUS": what is known here, or what a publisher says.
    pub(super) fn begin_status(&mut self, id: RequestId, status: TrackStatus) {
        let TrackStatus { track: name, .. } = status;
        if let Some(asked) = Asked::of(&name) {
            let response = self.node.clocks.answer(self.id, &asked);
            Answer { request: id, response }.give(&self.mailbox);
            return;
        }
        let live = lock(&self.node.router).live_track(&name);
        if let Some(track) = live.and_then(|track| self.node.track(track)) {
            let state = track.read();
            let largest_object = state.largest();
            let properties = state.properties().clone();
            let parameters = Parameters { largest_object, ..Parameters::default() };
            let response = Response::Ok(RequestOk { parameters, properties });
            Answer { request: id, response }.give(&self.mailbox);
            return;
        }
        let (node, session, mailbox) = (Arc::clone(&self.node), self.id, self.mailbox.clone());
        let task = tokio::spawn(async move {
            let response = fetch::status(&node, session, name).await;
            Answer { request: id, response }.give(&mailbox);
        });
        let (priority, task) = (Arc::default(), task.abort_handle());
        self.pasts.running.insert(id, Running { fill_of: None, priority, task });
    }

    // ---- we ask the peer, for another session ----

    pub(super) fn pass_on(&mut self, ask: Ask) {
        match self.driver.session_mut().request(ask.request) {
            Ok(id) => {
                self.asked.insert(id, ask.heard);
            }
            Err(error) => {
                let error = RequestError::new(RequestErrorCode::NOT_SUPPORTED, error.to_string());
                let _ = ask.heard.send(AskedStream::Refused(error));
            }
        }
    }

    pub(super) fn handle_asked_response(&mut self, id: RequestId, response: Response) {
        if let Some(asker) = self.asked.get(&id) {
            let _ = asker.send(match response {
                Response::Error(error) => AskedStream::Refused(error),
                response => AskedStream::Accepted(Box::new(response)),
            });
        }
    }

    /// Takes back what nobody waits for any more.
    pub(super) fn forget_unheard(&mut self) {
        let session = self.driver.session_mut();
        self.asked.retain(|id, asker| {
            let heard = !asker.is_closed();
            if !heard {
                session.cancel(*id, ResetCode::CANCELLED);
            }
            heard
        });
    }
}
