//! Publishes a broadcast at a relay and keeps it there ("Publisher Interactions").
//!
//! A [`Broadcast`] holds the newest groups of each track in memory. [`publish`] connects, sends
//! PUBLISH_NAMESPACE, and serves whoever subscribes: the newest group from its start, then
//! everything as it is written. Whatever else a subscriber may ask of an original publisher is
//! answered from what is kept: FETCH and fills, TRACK_STATUS, updates, wishes for a new group,
//! SUBSCRIBE_TRACKS with PUBLISH for every track.
//!
//! When the connection is lost it dials again; what was written meanwhile and is no longer kept is
//! gone, as live is live. When the relay says GOAWAY, the new session is there before the old one
//! goes ("Graceful Publisher Relay Switchover"), so no group is lost.

mod broadcast;
mod past;
mod serve;
mod session;

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use moqt::Namespace;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use url::Url;

pub use broadcast::{Broadcast, GroupRequests, TrackOptions, TrackProducer};
use session::{Said, Session, Stage};

use crate::{ClientTls, Endpoint, EndpointConfig, EndpointOptions, Error, Route, request_streams};

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

/// Connects, announces the namespace, serves subscriptions, dials again with backoff and jitter.
/// Ends once `shutdown` does; then tracks that have ended are delivered first. A URL that can
/// never work is an error at once.
pub async fn publish(
    broadcast: Broadcast,
    options: PublishOptions,
    shutdown: impl Future<Output = ()>,
    on_status: impl FnMut(PublishStatus),
) -> Result<(), Error> {
    let endpoint = Endpoint::client(endpoint_options())?;
    let result = publish_on(&endpoint, broadcast, options, shutdown, on_status).await;
    // The last words go out with the connection's end.
    endpoint.wait_idle().await;
    result
}

/// What suits a publisher's endpoint: a relay that is gone is noticed within seconds.
pub fn endpoint_options() -> EndpointOptions {
    EndpointOptions::from(EndpointConfig {
        idle_timeout: Duration::from_secs(5),
        keep_alive: Duration::from_secs(1),
        // One for each of its tracks: a relay asks for all of them where somebody watches all.
        bidi_streams: request_streams(moqt::Limits::default().requests),
        ..EndpointConfig::default()
    })
}

/// The same from an endpoint that has its own versions and limits.
pub async fn publish_on(
    endpoint: &Endpoint,
    broadcast: Broadcast,
    options: PublishOptions,
    shutdown: impl Future<Output = ()>,
    on_status: impl FnMut(PublishStatus),
) -> Result<(), Error> {
    let (say, said) = mpsc::unbounded_channel();
    let publisher = Publisher {
        endpoint,
        namespace: broadcast.namespace().clone(),
        broadcast,
        route: Route::new(vec![options.relay]),
        tls: options.tls,
        say,
        sessions: HashMap::new(),
        newest: 0,
        dial_at: Some(Instant::now()),
        on_status,
    };
    publisher.run(said, shutdown).await
}

/// A publisher's sessions: one, and during a switchover the old one too.
struct Publisher<'a, F> {
    endpoint: &'a Endpoint,
    broadcast: Broadcast,
    /// Where it is published, which a redirect may change.
    namespace: Namespace,
    route: Route,
    tls: ClientTls,
    say: mpsc::UnboundedSender<(u64, Said)>,
    /// What each is told to do, by number.
    sessions: HashMap<u64, watch::Sender<Stage>>,
    /// The one that counts; older ones are on their way out.
    newest: u64,
    /// When to begin another.
    dial_at: Option<Instant>,
    on_status: F,
}

impl<F: FnMut(PublishStatus)> Publisher<'_, F> {
    async fn run(
        mut self,
        mut said: mpsc::UnboundedReceiver<(u64, Said)>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        tokio::pin!(shutdown);
        let mut ending = false;
        loop {
            let dial_at = self.dial_at.unwrap_or_else(Instant::now);
            tokio::select! {
                () = &mut shutdown, if !ending => {
                    ending = true;
                    self.dial_at = None;
                    for stage in self.sessions.values() {
                        stage.send_replace(Stage::End);
                    }
                }
                () = tokio::time::sleep_until(dial_at), if self.dial_at.is_some() => self.dial(),
                Some((id, said)) = said.recv() => self.handle(id, said, ending)?,
            }
            if ending && self.sessions.is_empty() {
                return Ok(());
            }
        }
    }

    fn dial(&mut self) {
        self.dial_at = None;
        self.newest += 1;
        let relay = self.route.url().clone();
        (self.on_status)(PublishStatus::Connecting { relay: relay.clone() });
        let (stage, stages) = watch::channel(Stage::Publish);
        self.sessions.insert(self.newest, stage);
        let (endpoint, tls) = (self.endpoint.clone(), self.tls.clone());
        let (broadcast, namespace) = (self.broadcast.clone(), self.namespace.clone());
        let (say, id) = (self.say.clone(), self.newest);
        tokio::spawn(async move {
            let dialled = {
                let mut stages = stages.clone();
                tokio::select! {
                    dialled = endpoint.connect(&relay, &tls) => Some(dialled),
                    _ = stages.wait_for(|stage| *stage == Stage::End) => None,
                }
            };
            let result = match dialled {
                Some(Ok(connection)) => {
                    let tell = |what| drop(say.send((id, what)));
                    let session = Session::new(broadcast, namespace, connection, &relay, stages);
                    Box::pin(session.run(tell)).await
                }
                Some(Err(error)) => Err(error),
                None => Ok(()),
            };
            let _ = say.send((id, Said::Over(result)));
        });
    }

    fn handle(&mut self, id: u64, said: Said, ending: bool) -> Result<(), Error> {
        let counts = id == self.newest && !ending;
        match said {
            Said::Over(result) => {
                self.sessions.remove(&id);
                // One that was told to go has nothing to say.
                if counts && self.dial_at.is_none() {
                    let error = result.err().unwrap_or_else(|| Error::Lost("it is over".into()));
                    self.lost(error)?;
                }
            }
            Said::Announced { version } if counts => {
                self.route.connected();
                let relay = self.route.url().clone();
                (self.on_status)(PublishStatus::Connected { relay, version });
                for (_, stage) in self.sessions.iter().filter(|(other, _)| **other != id) {
                    stage.send_replace(Stage::Leave);
                }
            }
            Said::GoAway { to } if counts => self.move_to(to),
            Said::Redirected { to, namespace } if counts => {
                self.namespace = namespace.unwrap_or_else(|| self.namespace.clone());
                self.move_to(to);
            }
            Said::Announced { .. } | Said::GoAway { .. } | Said::Redirected { .. } => {}
        }
        Ok(())
    }

    fn move_to(&mut self, to: Option<Url>) {
        let wait = self.route.moved(to);
        self.dial_at = Some(Instant::now() + wait);
    }

    fn lost(&mut self, error: Error) -> Result<(), Error> {
        // A URL that a relay made up is that relay's fault; one that we were given can never work.
        if matches!(error, Error::Url { .. }) && self.route.index().is_some() {
            return Err(error);
        }
        if self.route.index().is_none() {
            self.namespace = self.broadcast.namespace().clone();
        }
        let retry_in = self.route.failed();
        (self.on_status)(PublishStatus::Lost { error, retry_in });
        self.dial_at = Some(Instant::now() + retry_in);
        Ok(())
    }
}
