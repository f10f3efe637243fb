//! Viewers: sessions that subscribe, count and time what comes, and keep nothing of it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use hdrhistogram::Histogram;
use moqt::{
    Event, FullTrackName, GroupOrder, Limits, Parameters, Request, RequestId, Response,
    SubgroupHeader, Subscribe, Version,
};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinSet, LocalSet};
use transport::{
    ClientTls, Driver, DriverEvent, Endpoint, EndpointConfig, EndpointOptions, ReadError,
    RecvStream,
};
use url::Url;

use super::books::Books;
use super::follow::Follow;
use crate::clock::{self, Micros};

/// Streams a relay may have open towards a viewer.
const STREAMS: u32 = 100;
/// Chunks read at once.
const CHUNKS: usize = 32;

/// What all viewers of one target count together while they run.
#[derive(Debug)]
pub(super) struct Shared {
    /// Payload bytes of whole objects.
    pub(super) bytes: AtomicU64,
    /// Whole objects.
    pub(super) objects: AtomicU64,
    /// Viewers that got an object.
    pub(super) joined: AtomicU64,
    /// Objects made from here on are timed.
    pub(super) from: AtomicU64,
    /// And those before here.
    pub(super) until: AtomicU64,
    /// How late timed objects were.
    pub(super) timings: Mutex<Timings>,
}

/// How late objects were, microseconds after their making.
#[derive(Debug)]
pub(super) struct Timings {
    /// When the first of them was there, as far as its stamp.
    pub(super) first_byte: Histogram<u64>,
    /// When all of them was.
    pub(super) whole: Histogram<u64>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            bytes: AtomicU64::new(0),
            objects: AtomicU64::new(0),
            joined: AtomicU64::new(0),
            from: AtomicU64::new(Micros::MAX),
            until: AtomicU64::new(Micros::MAX),
            timings: Mutex::new(Timings {
                first_byte: clock::histogram(),
                whole: clock::histogram(),
            }),
        }
    }
}

impl Shared {
    fn times(&self, sent: Micros) -> bool {
        sent >= self.from.load(Ordering::Relaxed) && sent < self.until.load(Ordering::Relaxed)
    }
}

/// A viewer to be.
#[derive(Debug)]
pub(super) struct Order {
    /// Whom to dial.
    pub(super) url: Url,
    /// What to subscribe to, and the number of each track's ledger.
    pub(super) tracks: Vec<(usize, FullTrackName)>,
    /// Which target it belongs to.
    pub(super) target: usize,
    /// Its target's figures.
    pub(super) shared: Arc<Shared>,
    /// It wants the newest group before older ones.
    pub(super) newest_first: bool,
    /// Ends the viewer when it is dropped.
    pub(super) stop: oneshot::Receiver<()>,
}

/// What a viewer has to say at its end.
#[derive(Debug)]
pub(super) struct Account {
    /// Which target it belongs to.
    pub(super) target: usize,
    /// When it dialled.
    pub(super) dialled: Micros,
    /// When its first object was whole.
    pub(super) joined: Option<Micros>,
    /// When it left.
    pub(super) left: Micros,
    /// By track: its ledger, when the subscription was accepted, and what came.
    pub(super) tracks: Vec<Track>,
    /// How late its timed objects were, microseconds.
    pub(super) lateness: stats::Histogram,
    /// Streams that the relay reset, by the code it said.
    pub(super) resets: BTreeMap<String, u64>,
    /// What went wrong.
    pub(super) error: Option<String>,
}

/// What a viewer has to say of a track.
#[derive(Debug, Default)]
pub(super) struct Track {
    /// The number of its ledger.
    pub(super) ledger: usize,
    /// When the subscription was accepted.
    pub(super) accepted: Option<Micros>,
    /// What came.
    pub(super) books: Books,
}

/// A thread that runs viewers. Drop the sender of orders to end it, once all have left.
#[derive(Debug)]
pub(super) struct Thread {
    orders: mpsc::UnboundedSender<Order>,
    thread: std::thread::JoinHandle<()>,
}

impl Thread {
    /// A thread with no viewers; each one's account goes to `accounts`.
    pub(super) fn start(
        per_socket: usize,
        drafts: Vec<Version>,
        accounts: mpsc::UnboundedSender<Account>,
    ) -> Self {
        let (orders, take) = mpsc::unbounded_channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime without threads");
            LocalSet::new().block_on(&runtime, take_orders(per_socket, drafts, take, accounts));
        });
        Self { orders, thread }
    }

    /// Starts a viewer.
    pub(super) fn order(&self, order: Order) {
        let _ = self.orders.send(order);
    }

    /// Waits for the last viewer.
    pub(super) fn end(self) {
        drop(self.orders);
        let _ = self.thread.join();
    }
}

async fn take_orders(
    per_socket: usize,
    drafts: Vec<Version>,
    mut orders: mpsc::UnboundedReceiver<Order>,
    accounts: mpsc::UnboundedSender<Account>,
) {
    // Each socket with a token that its viewers hold.
    let mut endpoints: Vec<(Endpoint, Rc<()>)> = Vec::new();
    let config = EndpointConfig { uni_streams: STREAMS, ..EndpointConfig::default() };
    let mut viewers = JoinSet::new();
    loop {
        let order = tokio::select! {
            order = orders.recv() => order,
            Some(_) = viewers.join_next() => continue,
        };
        let Some(order) = order else { break };
        let has_room = |(_, token): &&(Endpoint, Rc<()>)| Rc::strong_count(token) <= per_socket;
        let (endpoint, token) = match endpoints.iter().find(has_room) {
            Some((endpoint, token)) => (endpoint.clone(), Rc::clone(token)),
            None => {
                match Endpoint::client(EndpointOptions::from(config).versions(drafts.clone())) {
                    Ok(endpoint) => {
                        let token = Rc::new(());
                        endpoints.push((endpoint.clone(), Rc::clone(&token)));
                        (endpoint, token)
                    }
                    Err(error) => {
                        let account = Account::new(&order);
                        let account = Account { error: Some(error.to_string()), ..account };
                        let _ = accounts.send(account);
                        continue;
                    }
                }
            }
        };
        let accounts = accounts.clone();
        viewers.spawn_local(async move {
            let _ = accounts.send(run(&endpoint, order).await);
            drop(token);
        });
    }
    while viewers.join_next().await.is_some() {}
    for (endpoint, _) in &endpoints {
        endpoint.close();
        endpoint.wait_idle().await;
    }
}

impl Account {
    fn new(order: &Order) -> Self {
        let track = |(ledger, _): &(usize, _)| Track { ledger: *ledger, ..Track::default() };
        Self {
            target: order.target,
            dialled: clock::now(),
            joined: None,
            left: Micros::MAX,
            tracks: order.tracks.iter().map(track).collect(),
            lateness: stats::Histogram::default(),
            resets: BTreeMap::new(),
            error: None,
        }
    }
}

/// Watches until told to stop.
async fn run(endpoint: &Endpoint, mut order: Order) -> Account {
    let mut stop = std::mem::replace(&mut order.stop, oneshot::channel().1);
    let account = Rc::new(RefCell::new(Account::new(&order)));
    let mut readers = JoinSet::new();
    let outcome = tokio::select! {
        error = watch(endpoint, &order, &account, &mut readers) => Some(error),
        _ = &mut stop => None,
    };
    readers.shutdown().await;
    let mut account = Rc::into_inner(account).expect("no reader is left").into_inner();
    account.left = clock::now();
    account.error = outcome.or(account.error);
    account
}

/// Runs the session; says why it ended.
async fn watch(
    endpoint: &Endpoint,
    order: &Order,
    account: &Rc<RefCell<Account>>,
    readers: &mut JoinSet<()>,
) -> String {
    let Order { url, tracks, shared, newest_first, .. } = order;
    let tls = ClientTls { disable_verify: true, ..ClientTls::default() };
    let connection = match endpoint.connect(url, &tls).await {
        Ok(connection) => connection,
        Err(error) => return error.to_string(),
    };
    let setup = connection.client_setup(url);
    let coding = transport::CANONICAL.int_coding();
    let mut driver = Driver::new(connection, setup, Limits::default());
    let mut requests: Vec<RequestId> = Vec::with_capacity(tracks.len());
    for (_, track) in tracks {
        let group_order = newest_first.then_some(GroupOrder::Descending);
        let parameters = Parameters { group_order, ..Parameters::default() };
        let subscribe = Subscribe { track: track.clone(), parameters };
        match driver.session_mut().request(Request::Subscribe(subscribe)) {
            Ok(id) => requests.push(id),
            Err(error) => return error.to_string(),
        }
    }
    let which = |id: RequestId| requests.iter().position(|request| *request == id);
    loop {
        let event = tokio::select! {
            event = driver.next() => event,
            Some(_) = readers.join_next() => continue,
        };
        match event {
            Ok(DriverEvent::Subgroup { request, header, head, stream }) => {
                let Some(track) = which(request) else { continue };
                let follow = Follow::new(&header, coding);
                let (shared, account) = (Arc::clone(shared), Rc::clone(account));
                let reader = Reader { shared, account, track, header, follow, stream };
                readers.spawn_local(reader.run(head));
            }
            Ok(DriverEvent::Session(Event::Responded { id, response })) => match response {
                Response::SubscribeOk(_) => {
                    let Some(track) = which(id) else { continue };
                    account.borrow_mut().tracks[track].accepted = Some(clock::now());
                }
                Response::Error(error) => {
                    return format!("{} {}", error.code, String::from_utf8_lossy(&error.reason));
                }
                Response::PublishDone(done) => return format!("PUBLISH_DONE {}", done.code),
                _ => {}
            },
            Ok(_) => {}
            Err(error) => return error.to_string(),
        }
    }
}

struct Reader {
    shared: Arc<Shared>,
    account: Rc<RefCell<Account>>,
    track: usize,
    header: SubgroupHeader,
    follow: Follow,
    stream: RecvStream,
}

impl Reader {
    async fn run(mut self, head: Bytes) {
        let mut chunks: [Bytes; CHUNKS] = Default::default();
        chunks[0] = head;
        let mut filled = 1;
        loop {
            if let Err(error) = self.handle(&mut chunks[..filled]) {
                self.account.borrow_mut().error = Some(error.to_string());
                return;
            }
            filled = match self.stream.read_chunks(&mut chunks).await {
                Ok(Some(filled)) => filled,
                Ok(None) if self.follow.at_boundary() => return,
                Ok(None) => {
                    let error = "a stream ended inside an object".to_owned();
                    self.account.borrow_mut().error = Some(error);
                    return;
                }
                Err(ReadError::Reset(code)) => {
                    *self.account.borrow_mut().resets.entry(code.to_string()).or_default() += 1;
                    return;
                }
                Err(ReadError::Gone(_)) => return,
            };
        }
    }

    fn handle(&mut self, chunks: &mut [Bytes]) -> Result<(), moqt::ProtocolError> {
        let now = clock::now();
        let Self { shared, account, track, header, follow, .. } = self;
        let mut account = account.borrow_mut();
        let (mut objects, mut bytes) = (0, 0);
        for chunk in chunks {
            follow.handle(chunk, now, |arrived| {
                let Account { tracks, lateness, joined, .. } = &mut *account;
                let books = &mut tracks[*track].books;
                let stamp = arrived
                    .stamp
                    .filter(|stamp| (stamp.group, stamp.object) == (header.group, arrived.object));
                let Some(stamp) = stamp else {
                    books.altered += 1;
                    return;
                };
                if !books.record(header.group, arrived.object, arrived.bytes) {
                    return;
                }
                (objects, bytes) = (objects + 1, bytes + arrived.bytes);
                if joined.is_none() {
                    *joined = Some(now);
                    shared.joined.fetch_add(1, Ordering::Relaxed);
                }
                if shared.times(stamp.sent) {
                    let late = now.saturating_sub(stamp.sent);
                    lateness.record(late);
                    let mut all = shared.timings.lock().unwrap_or_else(PoisonError::into_inner);
                    all.first_byte.saturating_record(arrived.begun.saturating_sub(stamp.sent));
                    all.whole.saturating_record(late);
                }
            })?;
            *chunk = Bytes::new();
        }
        shared.objects.fetch_add(objects, Ordering::Relaxed);
        shared.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }
}
