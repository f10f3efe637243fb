//! Publishes a broadcast at a relay and keeps it there ("Publisher Interactions").
//!
//! A [`Broadcast`] holds the newest group of each track in memory. [`publish`] connects, sends
//! PUBLISH_NAMESPACE, and serves whoever subscribes: the open group from its start, then
//! everything as it is written. When the connection is lost it dials again; what was written
//! meanwhile is gone, as live is live.

mod broadcast;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use moqt::{
    Event, Filter, FullTrackName, GoAway, Location, Parameters, Properties, PublishDone,
    PublishDoneCode, PublishNamespace, Request, RequestError, RequestErrorCode, RequestId,
    RequestOk, ResetCode, Response, SessionCode, Setup, SubgroupHeader, SubgroupId, SubscribeOk,
    property,
};
use tokio::sync::watch;
use url::Url;

pub use broadcast::{Broadcast, TrackOptions, TrackProducer};
use broadcast::{CODING, Group, Subgroup, Track, lock};

use crate::{
    Backoff, ClientTls, Connection, Driver, DriverEvent, Endpoint, EndpointConfig, Error,
    WriteError,
};

/// Where and how to publish.
#[derive(Clone, Debug)]
pub struct PublishOptions {
    /// The relay: `moqt://host:port` or `https://host:port/path`.
    pub relay: Url,
    /// What to trust.
    pub tls: ClientTls,
}

/// How publishing goes.
#[derive(Clone, Debug)]
pub enum PublishStatus {
    /// Dialling.
    Connecting {
        /// The relay.
        relay: Url,
    },
    /// The relay took the namespace.
    Connected {
        /// The relay.
        relay: Url,
        /// The draft agreed.
        version: moqt::Version,
    },
    /// It did not work or ended; another try follows.
    Lost {
        /// Why.
        error: Error,
        /// When.
        retry_in: Duration,
    },
}

/// How long what was written last may take to reach the relay at the end.
const DRAIN: Duration = Duration::from_secs(2);

/// Connects, announces the namespace, serves subscriptions, dials again with backoff and jitter.
/// Ends once `shutdown` does; then tracks that have ended are delivered first. A URL that can
/// never work is an error at once.
pub async fn publish(
    broadcast: Broadcast,
    options: PublishOptions,
    shutdown: impl Future<Output = ()>,
    on_status: impl FnMut(PublishStatus),
) -> Result<(), Error> {
    let endpoint = Endpoint::client(EndpointConfig {
        idle_timeout: Duration::from_secs(5),
        keep_alive: Duration::from_secs(1),
        ..EndpointConfig::default()
    })?;
    publish_on(&endpoint, broadcast, options, shutdown, on_status).await
}

/// The same from an endpoint that has its own versions and limits.
pub async fn publish_on(
    endpoint: &Endpoint,
    broadcast: Broadcast,
    options: PublishOptions,
    shutdown: impl Future<Output = ()>,
    mut on_status: impl FnMut(PublishStatus),
) -> Result<(), Error> {
    tokio::pin!(shutdown);
    let mut backoff = Backoff::default();
    let mut relay = options.relay.clone();
    loop {
        on_status(PublishStatus::Connecting { relay: relay.clone() });
        let result = tokio::select! {
            connected = endpoint.connect(&relay, &options.tls) => connected,
            () = &mut shutdown => return Ok(()),
        };
        let error = match result {
            Ok(connection) => {
                let version = connection.version();
                let mut run = Run::new(&broadcast, connection, &relay);
                let connected = || {
                    on_status(PublishStatus::Connected { relay: relay.clone(), version });
                    backoff.reset();
                };
                match run.run(shutdown.as_mut(), connected).await {
                    Ok(Ended::Shutdown) => {
                        endpoint.wait_idle().await;
                        return Ok(());
                    }
                    Ok(Ended::Moved(to)) => {
                        relay = to.unwrap_or_else(|| options.relay.clone());
                        continue;
                    }
                    Err(error) => error,
                }
            }
            Err(error @ Error::Url { .. }) => return Err(error),
            Err(error) => error,
        };
        relay = options.relay.clone();
        let retry_in = backoff.next_delay();
        on_status(PublishStatus::Lost { error, retry_in });
        tokio::select! {
            () = tokio::time::sleep(retry_in) => {}
            () = &mut shutdown => return Ok(()),
        }
    }
}

enum Ended {
    Shutdown,
    /// The relay is leaving: go to this URL, or dial the configured one again.
    Moved(Option<Url>),
}

/// One connection to the relay.
struct Run<'a> {
    broadcast: &'a Broadcast,
    driver: Driver,
    /// The subscriptions being served; dropping a sender cancels one.
    serving: HashMap<RequestId, watch::Sender<()>>,
    ended: tokio::sync::mpsc::UnboundedReceiver<(RequestId, u64)>,
    report: tokio::sync::mpsc::UnboundedSender<(RequestId, u64)>,
}

impl<'a> Run<'a> {
    fn new(broadcast: &'a Broadcast, connection: Connection, relay: &Url) -> Self {
        let setup = Setup {
            implementation: Some(concat!("weir-publisher/", env!("CARGO_PKG_VERSION")).into()),
            ..connection.client_setup(relay)
        };
        let (report, ended) = tokio::sync::mpsc::unbounded_channel();
        Self {
            broadcast,
            driver: Driver::new(connection, setup, moqt::Limits::default()),
            serving: HashMap::new(),
            ended,
            report,
        }
    }

    async fn run(
        &mut self,
        mut shutdown: std::pin::Pin<&mut impl Future<Output = ()>>,
        mut on_connected: impl FnMut(),
    ) -> Result<Ended, Error> {
        let request = Request::PublishNamespace(PublishNamespace {
            namespace: self.broadcast.namespace.clone(),
            parameters: Parameters::default(),
        });
        // Not before there is something to subscribe to: a relay that was told "no such track"
        // would believe it.
        let mut has_tracks = self.broadcast.has_tracks.subscribe();
        let mut request = Some(request);
        let mut announced = None;
        let mut leaving = None;
        loop {
            tokio::select! {
                event = self.driver.next() => match event? {
                    DriverEvent::Session(Event::Responded { id, response }) if Some(id) == announced => {
                        match response {
                            Response::Error(error) => return Err(refused(&error)),
                            _ => on_connected(),
                        }
                    }
                    DriverEvent::Session(Event::Ended { id, .. }) if Some(id) == announced => {
                        return Err(Error::Lost("the relay revoked the namespace".into()));
                    }
                    DriverEvent::Session(Event::GoAway(GoAway { uri, .. })) => {
                        let uri = std::str::from_utf8(&uri).ok().and_then(|uri| Url::parse(uri).ok());
                        return Ok(Ended::Moved(uri));
                    }
                    DriverEvent::Session(event) => self.handle(event)?,
                    // Nothing was subscribed to, so nothing of this is ours.
                    _ => {}
                },
                Ok(_) = has_tracks.wait_for(|has| *has), if request.is_some() => {
                    if let Some(request) = request.take() {
                        let id = self.driver.session_mut().request(request).map_err(too_long)?;
                        announced = Some(id);
                    }
                }
                Some((id, streams)) = self.ended.recv() => self.finish(id, streams)?,
                () = &mut shutdown, if leaving.is_none() => {
                    leaving = Some(Box::pin(tokio::time::sleep(DRAIN)));
                }
                () = async { match &mut leaving {
                    Some(leaving) => leaving.await,
                    None => std::future::pending().await,
                } } => break,
            }
            if leaving.is_some() && self.serving.is_empty() {
                break;
            }
        }
        // What was said last goes out with the connection's own flush.
        let flush = async { while self.driver.next().await.is_ok() {} };
        let _ = tokio::time::timeout(Duration::from_millis(100), flush).await;
        self.driver.connection().close(SessionCode::NO_ERROR, "the publisher ended");
        Ok(Ended::Shutdown)
    }

    fn handle(&mut self, event: Event) -> Result<(), Error> {
        match event {
            Event::Requested { id, request } => match request {
                Request::Subscribe(subscribe) => {
                    return self.subscribe(id, &subscribe.track, &subscribe.parameters);
                }
                _ => {
                    let error = RequestError::new(
                        RequestErrorCode::NOT_SUPPORTED,
                        "this publisher answers SUBSCRIBE only",
                    );
                    self.respond(id, Response::Error(error))?;
                }
            },
            Event::Updated { id, .. } => self
                .driver
                .session_mut()
                .respond_update(id, Ok(RequestOk::default()))
                .map_err(too_long)?,
            Event::Ended { id, .. } => {
                self.serving.remove(&id);
            }
            _ => {}
        }
        Ok(())
    }

    fn respond(&mut self, id: RequestId, response: Response) -> Result<(), Error> {
        self.driver.session_mut().respond(id, response).map_err(too_long)
    }

    fn subscribe(
        &mut self,
        id: RequestId,
        name: &FullTrackName,
        parameters: &Parameters,
    ) -> Result<(), Error> {
        let known = *name.namespace() == self.broadcast.namespace;
        let track = lock(&self.broadcast.tracks).get(name.name()).cloned();
        let Some(track) = track.filter(|_| known) else {
            let reason = format!("this publisher has no track {name}");
            let error = RequestError::new(RequestErrorCode::DOES_NOT_EXIST, reason);
            return self.respond(id, Response::Error(error));
        };
        let alias = self.driver.session_mut().allocate_alias();
        let changes = track.changed.subscribe();
        let largest = lock(&track.state).largest;
        let mut properties = Properties::new();
        properties.push_int(property::DEFAULT_PUBLISHER_PRIORITY, track.options.priority.into());
        self.respond(
            id,
            Response::SubscribeOk(SubscribeOk {
                track_alias: alias,
                parameters: Parameters { largest_object: largest, ..Parameters::default() },
                properties,
            }),
        )?;
        let (alive, cancelled) = watch::channel(());
        self.serving.insert(id, alive);
        let serve = Serve {
            connection: self.driver.connection().clone(),
            alias,
            track,
            changes,
            cancelled,
            start: start(parameters.filter, largest),
            streams: 0,
        };
        let report = self.report.clone();
        tokio::spawn(async move {
            let streams = serve.run().await;
            let _ = report.send((id, streams));
        });
        Ok(())
    }

    /// A subscription's track ended.
    fn finish(&mut self, id: RequestId, stream_count: u64) -> Result<(), Error> {
        if self.serving.remove(&id).is_none() {
            return Ok(());
        }
        let code = PublishDoneCode::TRACK_ENDED;
        self.respond(
            id,
            Response::PublishDone(PublishDone { code, stream_count, reason: Bytes::new() }),
        )
    }
}

/// First object a filter lets through ("Subscription Filters"). Without a filter that is the
/// start of the newest group.
fn start(filter: Option<Filter>, largest: Option<Location>) -> Location {
    match (filter, largest) {
        (None | Some(Filter::LargestObject | Filter::NextGroupStart), None) => Location::default(),
        (None, Some(largest)) => Location { object: 0, ..largest },
        (Some(Filter::LargestObject), Some(largest)) => {
            Location { object: largest.object + 1, ..largest }
        }
        (Some(Filter::NextGroupStart), Some(largest)) => {
            Location { group: largest.group + 1, object: 0 }
        }
        (Some(Filter::AbsoluteStart { start } | Filter::AbsoluteRange { start, .. }), _) => start,
    }
}

/// Serves one subscription.
struct Serve {
    connection: Connection,
    alias: u64,
    track: Arc<Track>,
    changes: watch::Receiver<u64>,
    cancelled: watch::Receiver<()>,
    start: Location,
    streams: u64,
}

impl Serve {
    /// Serves until the track ends or the subscription does; returns how many streams it took.
    async fn run(mut self) -> u64 {
        let mut tasks = tokio::task::JoinSet::new();
        let mut begun: HashMap<(u64, u64), ()> = HashMap::new();
        loop {
            let (groups, ended) = {
                let state = lock(&self.track.state);
                (state.groups.clone(), state.ended)
            };
            // A group from its first object only: half a group cannot be decoded.
            let wanted = |group: &&Group| {
                group.id > self.start.group
                    || group.id == self.start.group && self.start.object == 0
            };
            if let Some(oldest) = groups.front() {
                begun.retain(|(id, _), ()| *id >= oldest.id);
            }
            for group in groups.iter().filter(wanted) {
                for subgroup in &group.subgroups {
                    let id = lock(subgroup).id;
                    let Entry::Vacant(entry) = begun.entry((group.id, id)) else { continue };
                    entry.insert(());
                    self.streams += 1;
                    tasks.spawn(send_subgroup(
                        self.connection.clone(),
                        self.alias,
                        group.id,
                        Arc::clone(subgroup),
                        self.track.changed.subscribe(),
                        self.cancelled.clone(),
                    ));
                }
            }
            if ended {
                while tasks.join_next().await.is_some() {}
                return self.streams;
            }
            tokio::select! {
                changed = self.changes.changed() => if changed.is_err() { return self.streams },
                _ = self.cancelled.changed() => return self.streams,
                Some(_) = tasks.join_next() => {}
            }
        }
    }
}

/// Sends one subgroup as it grows.
async fn send_subgroup(
    connection: Connection,
    alias: u64,
    group: u64,
    subgroup: Arc<Mutex<Subgroup>>,
    mut changes: watch::Receiver<u64>,
    mut cancelled: watch::Receiver<()>,
) {
    let Ok(mut stream) = connection.open_uni().await else { return };
    let mut header = BytesMut::new();
    let id = lock(&subgroup).id;
    SubgroupHeader {
        track_alias: alias,
        group,
        subgroup: SubgroupId::Known(id),
        priority: None,
        properties: true,
        end_of_group: false,
        first_object: true,
    }
    .encode(&mut header, CODING);
    let mut pending = vec![header.freeze()];
    let mut sent = 0;
    loop {
        let closed = {
            let held = lock(&subgroup);
            pending.extend_from_slice(&held.chunks[sent..]);
            sent = held.chunks.len();
            held.closed
        };
        let mut at = 0;
        while at < pending.len() {
            let write = std::future::poll_fn(|cx| stream.poll_write_chunks(cx, &mut pending[at..]));
            let written: Result<usize, WriteError> = tokio::select! {
                written = write => written,
                _ = cancelled.changed() => return stream.reset(ResetCode::CANCELLED),
            };
            if written.is_err() {
                return;
            }
            at += pending[at..].iter().take_while(|chunk| chunk.is_empty()).count();
        }
        pending.clear();
        if closed {
            break;
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { break },
            _ = cancelled.changed() => return stream.reset(ResetCode::CANCELLED),
        }
    }
    stream.finish();
    // Until all has arrived: closing the connection before throws away the rest.
    tokio::select! {
        _ = stream.stopped() => {}
        _ = cancelled.changed() => {}
    }
}

fn refused(error: &RequestError) -> Error {
    let reason = String::from_utf8_lossy(&error.reason);
    Error::Lost(format!("the relay refused the namespace: {} {reason}", error.code))
}

fn too_long(error: moqt::codec::TooLong) -> Error {
    Error::Setup(error.to_string())
}
