//! Subscribes to tracks and yields their objects whole, in the order in which they arrive.
//!
//! [`Subscriber`] is one session at a publisher or relay; any number of [`Subscription`]s and
//! fetches run on it. Each has a queue of its own: one that is not read holds its own streams back
//! by QUIC's flow control, and the others only once [`Limits::unread_bytes`] wait in all.

mod read;
mod run;

use std::time::Duration;

use bytes::Bytes;
use moqt::{
    Fill, FullTrackName, GoAway, GroupOrder, Location, Namespace, ObjectStatus, Parameters,
    Properties, PublishDone, RequestError, RequestOk, ResetCode, SessionCode, Setup, SubscribeOk,
};
use tokio::sync::{mpsc, oneshot, watch};
use url::Url;

use crate::{ClientTls, Connection, Driver, Endpoint, Error, Limits, redirected};

/// Objects that wait in a subscription's queue before its streams are held back.
const QUEUE: usize = 64;
/// Orders that wait for a session's task.
const ORDERS: usize = 64;

/// Redirects that are followed.
const MAX_REDIRECTS: usize = 8;

/// What is asked of a track.
#[derive(Clone, Debug, Default)]
pub struct Want {
    /// Filter, priority, order and the like.
    pub parameters: Parameters,
    /// Objects of the past that are wanted too: a fill, or in drafts 16 and 18 a joining fetch.
    pub backfill: Option<Fill>,
}

/// An object as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Where it is in its track.
    pub location: Location,
    /// Its subgroup; `None` when it came as a datagram, or was published as one.
    pub subgroup: Option<u64>,
    /// Publisher priority, where it was said.
    pub priority: Option<u8>,
    /// Normal, or what it ends.
    pub status: ObjectStatus,
    /// Its properties.
    pub properties: Properties,
    /// Its payload.
    pub payload: Bytes,
    /// Whether it came by a fetch or backfill.
    pub fetched: bool,
}

/// What a subscription yields.
#[derive(Clone, Debug)]
pub enum Received {
    /// An object, whole.
    Object(Object),
    /// A subgroup's stream ended cleanly: nothing of it follows.
    SubgroupEnd {
        /// Its group.
        group: u64,
        /// The subgroup; `None` when it never said which.
        subgroup: Option<u64>,
    },
    /// A subgroup's stream was given up.
    Reset {
        /// Its group.
        group: u64,
        /// The subgroup; `None` when it never said which.
        subgroup: Option<u64>,
        /// Why.
        code: ResetCode,
    },
    /// The backfill is over: complete with `Ok`, refused or given up with the reason.
    BackfillEnd(Result<(), Refusal>),
    /// The answer to [`Subscription::update`].
    Updated(Result<RequestOk, RequestError>),
    /// The publisher is done, and all its streams have been yielded. The last.
    Done(PublishDone),
}

/// Why there is nothing, or nothing more.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Refusal {
    /// The peer said so.
    #[error("refused: {} {}", .0.code, String::from_utf8_lossy(&.0.reason))]
    Answer(RequestError),
    /// The request or its stream was reset.
    #[error("given up: {0}")]
    Reset(ResetCode),
    /// Relays send us from one to the next.
    #[error("{MAX_REDIRECTS} redirects lead nowhere")]
    Redirects,
    /// It ended without a word.
    #[error("ended without a word")]
    Ended,
    /// The session is over.
    #[error("{0}")]
    Lost(Error),
}

/// One session. Clones are handles to the same; it is closed when the last one and all of its
/// subscriptions are dropped.
#[derive(Clone, Debug)]
pub struct Subscriber {
    connection: Connection,
    orders: mpsc::Sender<Order>,
    goaway: watch::Receiver<Option<GoAway>>,
}

/// A track that the peer published, and its subscription.
pub type Published = (FullTrackName, Subscription);

/// What a session's task is told.
enum Order {
    Subscribe {
        track: FullTrackName,
        want: Want,
        answer: oneshot::Sender<Result<(moqt::RequestId, SubscribeOk), Refusal>>,
        queue: mpsc::Sender<Received>,
    },
    Fetch {
        fetch: moqt::Fetch,
        answer: oneshot::Sender<Result<(), Refusal>>,
        queue: mpsc::Sender<Received>,
    },
    Update(moqt::RequestId, Box<Parameters>),
    Tracks {
        wanted: moqt::SubscribeTracks,
        answer: oneshot::Sender<Result<(), Refusal>>,
        found: mpsc::Sender<Published>,
    },
    GoAway(Bytes, Duration),
    Status(FullTrackName, oneshot::Sender<Result<RequestOk, Refusal>>),
}

impl Subscriber {
    /// Dials a relay or publisher.
    pub async fn connect(endpoint: &Endpoint, url: &Url, tls: &ClientTls) -> Result<Self, Error> {
        let connection = endpoint.connect(url, tls).await?;
        let setup = connection.client_setup(url);
        Ok(Self::on(connection, setup, Limits::default()))
    }

    /// Dials and subscribes, and follows redirects to other relays and names.
    pub async fn find(
        endpoint: &Endpoint,
        url: &Url,
        tls: &ClientTls,
        mut track: FullTrackName,
        want: Want,
    ) -> Result<(Self, Subscription), Refusal> {
        let mut url = url.clone();
        for _ in 0..MAX_REDIRECTS {
            let subscriber = Self::connect(endpoint, &url, tls).await.map_err(Refusal::Lost)?;
            match subscriber.subscribe(track.clone(), want.clone()).await {
                Ok(subscription) => return Ok((subscriber, subscription)),
                Err(Refusal::Answer(error)) => match redirected(&error) {
                    Some((to, name)) => {
                        url = to.unwrap_or(url);
                        track = name.unwrap_or(track);
                    }
                    None => return Err(Refusal::Answer(error)),
                },
                Err(other) => return Err(other),
            }
        }
        Err(Refusal::Redirects)
    }

    /// Runs on a connection that is there already.
    pub fn on(connection: Connection, setup: Setup, limits: impl Into<Limits>) -> Self {
        connection.allow_streams(512);
        let driver = Driver::new(connection.clone(), setup, limits);
        let (orders, taken) = mpsc::channel(ORDERS);
        let (leaving, goaway) = watch::channel(None);
        tokio::spawn(run::Run::new(driver, orders.downgrade(), taken, leaving).run());
        Self { connection, orders, goaway }
    }

    /// The connection.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Subscribes; returns once the publisher accepted.
    pub async fn subscribe(
        &self,
        track: FullTrackName,
        want: Want,
    ) -> Result<Subscription, Refusal> {
        let (answer, answered) = oneshot::channel();
        let (queue, received) = mpsc::channel(QUEUE);
        self.order(Order::Subscribe { track, want, answer, queue }).await?;
        let (id, ok) = self.wait(answered).await?;
        Ok(Subscription { id, ok, received, orders: self.orders.clone() })
    }

    /// Fetches a range, both ends included; returns once the publisher accepted. The objects come
    /// in `order`, then [`Received::BackfillEnd`].
    pub async fn fetch(
        &self,
        track: FullTrackName,
        start: Location,
        end: Location,
        order: GroupOrder,
    ) -> Result<mpsc::Receiver<Received>, Refusal> {
        let range = moqt::FetchRange::Standalone { track, start, end };
        let group_order = Some(order);
        let parameters = Parameters { group_order, ..Parameters::default() };
        let (answer, answered) = oneshot::channel();
        let (queue, received) = mpsc::channel(QUEUE);
        let fetch = moqt::Fetch { range, parameters };
        self.order(Order::Fetch { fetch, answer, queue }).await?;
        self.wait(answered).await?;
        Ok(received)
    }

    /// Asks for every track whose namespace begins with `prefix`, now and later, by SUBSCRIBE_TRACKS:
    /// each that the peer publishes is accepted. Dropping the receiver ends it.
    pub async fn tracks(
        &self,
        prefix: Namespace,
        parameters: Parameters,
    ) -> Result<mpsc::Receiver<Published>, Refusal> {
        let (answer, answered) = oneshot::channel();
        let (found, tracks) = mpsc::channel(QUEUE);
        let wanted = moqt::SubscribeTracks { prefix, parameters };
        self.order(Order::Tracks { wanted, answer, found }).await?;
        self.wait(answered).await?;
        Ok(tracks)
    }

    /// Waits until the peer says GOAWAY; [`crate::Route`] knows where to. `None`: the session ended
    /// without.
    pub async fn goaway(&self) -> Option<GoAway> {
        let mut goaway = self.goaway.clone();
        goaway.wait_for(Option::is_some).await.ok()?.clone()
    }

    /// Tells the peer to move: to `uri`, which only a server may name, or back here.
    pub async fn go_away(&self, uri: impl Into<Bytes>, timeout: Duration) {
        // A session that is gone needs no goodbye.
        let _ = self.order(Order::GoAway(uri.into(), timeout)).await;
    }

    /// Asks how a track stands (TRACK_STATUS).
    pub async fn track_status(&self, track: FullTrackName) -> Result<RequestOk, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.order(Order::Status(track, answer)).await?;
        self.wait(answered).await
    }

    /// Ends the session.
    pub fn close(&self) {
        self.connection.close(SessionCode::NO_ERROR, "");
    }

    async fn order(&self, order: Order) -> Result<(), Refusal> {
        if self.orders.send(order).await.is_ok() {
            return Ok(());
        }
        Err(Refusal::Lost(self.connection.closed().await))
    }

    async fn wait<T>(&self, answered: oneshot::Receiver<Result<T, Refusal>>) -> Result<T, Refusal> {
        match answered.await {
            Ok(answer) => answer,
            Err(_) => Err(Refusal::Lost(self.connection.closed().await)),
        }
    }
}

/// A track that is being received. Dropping it cancels it.
#[derive(Debug)]
pub struct Subscription {
    id: moqt::RequestId,
    ok: SubscribeOk,
    received: mpsc::Receiver<Received>,
    orders: mpsc::Sender<Order>,
}

impl Subscription {
    /// What the publisher said of the track.
    pub fn accepted(&self) -> &SubscribeOk {
        &self.ok
    }

    /// The next thing received; `None` when the subscription is over. Without
    /// [`Received::Done`] before it, it was the session that ended.
    pub async fn next(&mut self) -> Option<Received> {
        self.received.recv().await
    }

    /// The next object, skipping everything else.
    pub async fn next_object(&mut self) -> Option<Object> {
        loop {
            if let Received::Object(object) = self.next().await? {
                return Some(object);
            }
        }
    }

    /// Changes the subscription; [`Received::Updated`] answers.
    pub async fn update(&self, parameters: Parameters) {
        // A session that is gone is told by `next`.
        let _ = self.orders.send(Order::Update(self.id, Box::new(parameters))).await;
    }
}
