//! Publishes the broadcasts, each object stamped with the moment it is handed over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use moqt::{Namespace, Properties};
use netsim::LinkConfig;
use tokio::sync::{mpsc, oneshot};
use transport::ClientTls;
use transport::publish::{
    Broadcast, PublishOptions, PublishStatus, TrackOptions, TrackProducer, publish,
};
use url::Url;

use super::books::Ledger;
use super::line;
use super::options::{AUDIO, Kind, Media, VIDEO};
use super::stamp::Stamp;
use crate::clock;

/// How long a relay may take to take a namespace.
const PATIENCE: Duration = Duration::from_secs(15);
/// Where frames travel that nothing refers to, and how urgent they are: as with `publisher`.
const UPPER: u64 = 1;
const UPPER_PRIORITY: u8 = 160;

/// Broadcasts that are being published on a thread of their own.
#[derive(Debug)]
pub(super) struct Publisher {
    pause: Arc<AtomicBool>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<Histogram<u64>>>,
}

/// What a publishing thread is told.
pub(super) struct Publishing {
    /// Where to.
    pub(super) relay: Url,
    /// What the line there is like, if it is slow.
    pub(super) line: Option<LinkConfig>,
    /// The broadcasts' namespaces.
    pub(super) names: Vec<Namespace>,
    /// The ledgers, those of a broadcast one after another as [`Media::tracks`] says.
    pub(super) ledgers: Vec<Arc<Ledger>>,
    /// What each broadcast is made of.
    pub(super) media: Media,
}

impl Publisher {
    /// Publishes at a relay; returns once it took every namespace.
    ///
    /// # Errors
    /// With what the relay said, when it did not.
    pub(super) fn start(publishing: Publishing) -> Result<Self, String> {
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let pause = Arc::new(AtomicBool::new(false));
        let paused = Arc::clone(&pause);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime without threads");
            runtime.block_on(run(publishing, stopped, ready, paused))
        });
        let started = Self { pause, stop: Some(stop), thread: Some(thread) };
        match is_ready.recv_timeout(PATIENCE) {
            Ok(Ok(())) => Ok(started),
            Ok(Err(reason)) => Err(reason),
            Err(_) => Err("the relay did not take the namespaces in time".to_owned()),
        }
    }

    /// Writes no further object, but keeps the tracks.
    pub(super) fn pause(&self) {
        self.pause.store(true, Ordering::Relaxed);
    }

    /// Ends the broadcasts: by how many microseconds each object was published too late. Large
    /// figures mean that this machine, not the relay, is what was measured.
    pub(super) fn end(mut self) -> Histogram<u64> {
        self.stop = None;
        let thread = self.thread.take().expect("taken here only");
        thread.join().expect("the publishing thread does not panic")
    }
}

async fn run(
    publishing: Publishing,
    mut stopped: oneshot::Receiver<()>,
    ready: std::sync::mpsc::Sender<Result<(), String>>,
    paused: Arc<AtomicBool>,
) -> Histogram<u64> {
    let Publishing { mut relay, line, names, ledgers, media } = publishing;
    let mut proxy = None;
    if let Some(up) = line {
        let down = LinkConfig { delay: up.delay, ..LinkConfig::default() };
        match line::before(&relay, up, down, 0).await {
            Ok((through, started)) => (relay, proxy) = (through, Some(started)),
            Err(reason) => {
                let _ = ready.send(Err(reason));
                return clock::histogram();
            }
        }
    }
    let (connected, mut is_connected) = mpsc::unbounded_channel();
    let mut sources = Vec::new();
    let mut ends = Vec::new();
    let count = names.len() as f64;
    for (index, name) in names.into_iter().enumerate() {
        let broadcast = Broadcast::new(name);
        let mut ledgers = ledgers[index * media.tracks()..].iter().cloned();
        let phase = index as f64 / count;
        for (track, kind) in media.kinds() {
            let priority = if track == AUDIO { 64 } else { 128 };
            let mut producer = broadcast.create_track(track, TrackOptions { priority });
            producer.set_subgroup_priority(UPPER, UPPER_PRIORITY);
            sources.push(Source {
                track: producer,
                ledger: ledgers.next().expect("a ledger for each track"),
                kind,
                split: media.temporal && track == VIDEO,
                phase,
            });
        }
        let (end, ended) = oneshot::channel::<()>();
        let tell = connected.clone();
        let tls = ClientTls { disable_verify: true, ..ClientTls::default() };
        let options = PublishOptions { relay: relay.clone(), tls };
        let session = tokio::spawn(publish(
            broadcast,
            options,
            async {
                let _ = ended.await;
            },
            move |status| {
                let _ = match status {
                    PublishStatus::Connected { .. } => tell.send(Ok(())),
                    PublishStatus::Lost { error, .. } => tell.send(Err(error.to_string())),
                    PublishStatus::Connecting { .. } => Ok(()),
                };
            },
        ));
        ends.push((end, session));
    }
    for _ in 0..ends.len() {
        if let Some(Err(reason)) = is_connected.recv().await {
            let _ = ready.send(Err(reason));
            return clock::histogram();
        }
    }
    let _ = ready.send(Ok(()));

    let begin = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for source in sources {
        tasks.spawn(source.write(begin, Arc::clone(&paused)));
    }
    // Nothing is sent on it; it ends with us.
    let _ = (&mut stopped).await;
    paused.store(true, Ordering::Relaxed);
    let mut lag = clock::histogram();
    let mut tracks = Vec::new();
    while let Some(Ok((late, track))) = tasks.join_next().await {
        let _ = lag.add(late);
        tracks.push(track);
    }
    drop(tracks);
    for (end, session) in ends {
        let _ = end.send(());
        let _ = session.await;
    }
    drop(proxy);
    lag
}

/// One track.
struct Source {
    track: TrackProducer,
    ledger: Arc<Ledger>,
    kind: Kind,
    /// Odd objects go into a subgroup of their own.
    split: bool,
    /// When inside the first interval it begins, from 0 to 1.
    phase: f64,
}

impl Source {
    /// Writes until told to pause. The track lives on as long as what is returned.
    async fn write(
        mut self,
        begin: Instant,
        paused: Arc<AtomicBool>,
    ) -> (Histogram<u64>, TrackProducer) {
        let mut lag = clock::histogram();
        let interval = 1.0 / self.kind.rate;
        for number in 0u64.. {
            let due = begin + Duration::from_secs_f64((number as f64 + self.phase) * interval);
            tokio::time::sleep_until(due.into()).await;
            if paused.load(Ordering::Relaxed) {
                break;
            }
            lag.saturating_record(due.elapsed().as_micros() as u64);
            let (group, object) = (number / self.kind.group, number % self.kind.group);
            if object == 0 {
                self.track.begin_group(group);
            }
            let sent = clock::now();
            // Into the ledger first: nobody can have it before it is there.
            self.ledger.record(group, sent);
            let payload = Stamp { sent, group, object }.payload(self.kind.size);
            let subgroup = if self.split && object % 2 == 1 { UPPER } else { 0 };
            self.track.write(subgroup, object, &Properties::new(), payload);
        }
        (lag, self.track)
    }
}
