//! A load on a relay: broadcasts, viewers, and the accounts of both.
//!
//! [`run`] publishes, lets viewers join, waits until each has an object, measures for a while,
//! pauses the broadcasts, waits for what is late, asks the relay what it says it dropped, and only
//! then lets the viewers go and settles their books.

mod books;
mod follow;
mod kill;
mod line;
mod options;
mod publisher;
mod report;
mod stamp;
mod viewer;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use moqt::{FullTrackName, Namespace, Version};
use netsim::{LinkConfig, UdpProxy};
use tokio::sync::{mpsc, oneshot};
use url::Url;

pub use books::{Books, Ledger, Tally};
pub use options::{Kind, Media, Options};
pub use report::{Claimed, Cost, Generator, Killed, Percentiles, Report, Samples, Target};
pub use stamp::Stamp;

use crate::clock::{self, Micros};
use crate::process::Sample;
use kill::Victims;
use publisher::{Publisher, Publishing};
use viewer::{Account, Order, Shared, Thread};

/// How long viewers may take to get their first object.
const JOIN_PATIENCE: Duration = Duration::from_secs(20);
/// How long the relay may take to notice that the viewers are gone.
const LEAVE: Duration = Duration::from_secs(1);
/// How often memory and churn are looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Why a load could not be put on.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The broadcasts could not be published.
    #[error("cannot publish at {relay}: {reason}")]
    Publish {
        /// Where.
        relay: Url,
        /// Why.
        reason: String,
    },
    /// An option makes no sense.
    #[error("{0}")]
    Option(String),
    /// The relay's process cannot be measured.
    #[error("process {pid} (--pid): {error}")]
    Process {
        /// Its number.
        pid: u32,
        /// Why.
        error: std::io::Error,
    },
    /// The relay does not say what it did.
    #[error(transparent)]
    Admin(#[from] crate::admin::AdminError),
}

/// Puts a load on and measures it.
///
/// # Errors
/// When it could not be put on. What goes wrong after that is in the report.
pub async fn run(options: Options) -> Result<Report, LoadError> {
    let mut load = Load::new(options).await?;
    load.publish()?;
    let before = load.sample()?;
    load.join().await;
    tokio::time::sleep(Duration::from_secs_f64(load.options.settle)).await;
    load.join_victims().await?;
    load.measure(before).await
}

/// Viewers of one kind.
struct Crowd {
    name: String,
    urls: Vec<Url>,
    shared: Arc<Shared>,
    /// Those that are there, with the channel that ends each; the oldest first.
    watching: std::collections::VecDeque<(usize, oneshot::Sender<()>)>,
    /// Links of the slow ones.
    _links: Vec<UdpProxy>,
}

struct Load {
    options: Options,
    names: Vec<Namespace>,
    ledgers: Vec<Arc<Ledger>>,
    publisher: Option<Publisher>,
    crowds: Vec<Crowd>,
    threads: Vec<Thread>,
    accounts: mpsc::UnboundedReceiver<Account>,
    /// Viewers ever started.
    started: usize,
    /// Viewers of another process, which is killed halfway.
    victims: Option<Victims>,
}

impl Load {
    async fn new(options: Options) -> Result<Self, LoadError> {
        let names = (0..options.broadcasts)
            .map(|number| Namespace::from_path(&format!("{}/{number}", options.name)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| LoadError::Option(format!("--name: {error}")))?;
        let tracks = names.len() * options.media.tracks();
        let mut crowds: Vec<Crowd> = options
            .relays
            .iter()
            .map(|url| Crowd::new(url.to_string(), vec![url.clone()], Vec::new()))
            .collect();
        if options.slow > 0 {
            crowds.push(slow_crowd(&options).await?);
        }
        let (tell, accounts) = mpsc::unbounded_channel();
        let drafts = options.draft.map_or(Version::ALL.to_vec(), |draft| vec![draft]);
        let threads = (0..options.threads.max(1))
            .map(|_| Thread::start(options.per_socket.max(1), drafts.clone(), tell.clone()))
            .collect();
        Ok(Self {
            ledgers: (0..tracks).map(|_| Arc::default()).collect(),
            options,
            names,
            publisher: None,
            crowds,
            threads,
            accounts,
            started: 0,
            victims: None,
        })
    }

    fn publish(&mut self) -> Result<(), LoadError> {
        if self.options.no_publish || self.options.source_start.is_some() {
            return Ok(());
        }
        let relay = self.options.publish.clone().unwrap_or_else(|| self.options.relays[0].clone());
        let line = self.options.publish_link.as_deref();
        let line = line.map(|words| line::parse("--publish-link", words)).transpose();
        let publishing = Publishing {
            relay: relay.clone(),
            line: line.map_err(LoadError::Option)?,
            names: self.names.clone(),
            ledgers: self.ledgers.clone(),
            media: self.options.media.clone(),
        };
        let publisher = Publisher::start(publishing);
        self.publisher = Some(publisher.map_err(|reason| LoadError::Publish { relay, reason })?);
        Ok(())
    }

    fn sample(&self) -> Result<Option<Sample>, LoadError> {
        let Some(pid) = self.options.pid else { return Ok(None) };
        Sample::take(pid).map(Some).map_err(|error| LoadError::Process { pid, error })
    }

    fn viewers(&self) -> usize {
        self.options.viewers * self.options.broadcasts
    }

    /// Starts a viewer in crowd `crowd` that watches broadcast `broadcast`.
    fn start(&mut self, crowd: usize, broadcast: usize) {
        let (leave, stop) = oneshot::channel();
        let name = &self.names[broadcast];
        let first = broadcast * self.options.media.tracks();
        let tracks =
            self.options.media.kinds().into_iter().enumerate().map(|(index, (track, _))| {
                let track = FullTrackName::new(name.clone(), track.to_owned());
                (first + index, track.expect("short names"))
            });
        let entry = &mut self.crowds[crowd];
        let order = Order {
            url: entry.urls[self.started % entry.urls.len()].clone(),
            tracks: tracks.collect(),
            target: crowd,
            shared: Arc::clone(&entry.shared),
            newest_first: self.options.newest_first,
            stop,
        };
        entry.watching.push_back((broadcast, leave));
        self.threads[self.started % self.threads.len()].order(order);
        self.started += 1;
    }

    /// Lets all viewers join and waits until each has an object.
    async fn join(&mut self) {
        let relays = self.options.relays.len();
        let slow = self.options.slow;
        let interval = Duration::from_secs_f64(1.0 / self.options.ramp.max(0.001));
        let mut pace = tokio::time::interval(interval);
        for number in 0..self.viewers() {
            pace.tick().await;
            // The slow ones first, each on a link of its own.
            let crowd = if number < slow { relays } else { number % relays };
            self.start(crowd, number % self.options.broadcasts);
        }
        let deadline = Instant::now() + JOIN_PATIENCE;
        let all = self.viewers() as u64;
        while self.joined() < all && Instant::now() < deadline {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Lets those viewers join that will be killed.
    async fn join_victims(&mut self) -> Result<(), LoadError> {
        if self.options.kill > 0 {
            let rss_before = self.sample()?.map_or(0, |sample| sample.rss);
            let victims = Victims::start(&self.options, rss_before);
            let victims = victims.map_err(|error| LoadError::Option(format!("--kill: {error}")))?;
            self.victims = Some(victims);
            tokio::time::sleep(kill::JOIN).await;
        }
        Ok(())
    }

    fn joined(&self) -> u64 {
        self.crowds.iter().map(|crowd| crowd.shared.joined.load(Ordering::Relaxed)).sum()
    }

    fn bytes(&self) -> Vec<u64> {
        let count = |crowd: &Crowd| crowd.shared.bytes.load(Ordering::Relaxed);
        self.crowds.iter().map(count).collect()
    }

    async fn measure(mut self, before: Option<Sample>) -> Result<Report, LoadError> {
        let (own_before, relay_from) = (own_sample(), self.sample()?);
        let bytes_before = self.bytes();
        let from = clock::now();
        self.open_window(from);
        let rss_peak = self.watch(from + (self.options.seconds * 1e6) as Micros).await;
        let until = clock::now();
        let (relay_until, own_after) = (self.sample()?, own_sample());
        let bytes: Vec<u64> =
            self.bytes().iter().zip(&bytes_before).map(|(after, before)| after - before).collect();
        self.close_window(until);

        if let Some(publisher) = &self.publisher {
            publisher.pause();
        }
        tokio::time::sleep(Duration::from_secs_f64(self.options.drain)).await;
        let claimed = match &self.options.admin {
            Some(admin) => Some(Claimed::of(&crate::admin::snapshot(admin).await?)),
            None => None,
        };
        let mut targets: Vec<Target> = self.crowds.iter().map(Target::of).collect();
        for (target, bytes) in targets.iter_mut().zip(&bytes) {
            target.bytes = *bytes;
        }
        if let Some(start) = self.options.source_start {
            self.write_schedule(start, until);
        }
        self.settle(&mut targets, from, until).await;
        tokio::time::sleep(LEAVE).await;
        let after = self.sample()?;
        let lag = self.publisher.take().map(Publisher::end);
        let samples = before.zip(relay_from).zip(relay_until.zip(after));
        let relay = samples.map(|((before, from), (until, after))| {
            let samples = Samples { before, from, until, after, rss_peak };
            Cost::new(&samples, bytes.iter().sum(), self.viewers())
        });
        let killed = self.victims.as_ref().zip(relay.as_ref());
        let killed = killed.map(|(victims, relay)| victims.report(relay.rss_with_viewers));
        let threads = own_after.threads_since(&own_before);
        Ok(Report {
            seconds: (until - from) as f64 / 1e6,
            targets,
            relay,
            killed,
            generator: Generator {
                cpu_s: own_after.cpu_s() - own_before.cpu_s(),
                busiest_thread_s: threads.first().copied().unwrap_or(0.0),
                lag: lag.as_ref().map(Percentiles::of).unwrap_or_default(),
            },
            claimed,
            options: self.options,
        })
    }

    fn open_window(&self, from: Micros) {
        for crowd in &self.crowds {
            crowd.shared.from.store(from, Ordering::Relaxed);
        }
    }

    fn close_window(&self, until: Micros) {
        for crowd in &self.crowds {
            crowd.shared.until.store(until, Ordering::Relaxed);
        }
    }

    /// Waits until the measured time is over, while viewers come and go. Returns the largest
    /// resident memory of the relay.
    async fn watch(&mut self, until: Micros) -> u64 {
        let begun = Instant::now();
        let (mut changed, mut rss_peak) = (0u64, 0);
        let half = clock::now() + (until - clock::now()) / 2;
        while clock::now() < until {
            tokio::time::sleep(LOOK.min(clock::until(until))).await;
            if let Ok(Some(sample)) = self.sample() {
                rss_peak = rss_peak.max(sample.rss);
                if let Some(victims) = self.victims.as_mut().filter(|_| clock::now() >= half) {
                    victims.kill(sample.rss);
                }
            }
            let due = (begun.elapsed().as_secs_f64() * self.options.churn) as u64;
            while changed < due {
                // Crowds of the relays take turns; slow viewers stay.
                let crowd = changed as usize % self.options.relays.len();
                changed += 1;
                let Some((broadcast, leave)) = self.crowds[crowd].watching.pop_front() else {
                    continue;
                };
                drop(leave);
                self.start(crowd, broadcast);
            }
        }
        rss_peak
    }

    /// What a source that is no publisher of ours published until `until`.
    fn write_schedule(&mut self, start: Micros, until: Micros) {
        let kinds = self.options.media.kinds();
        for (index, ledger) in self.ledgers.iter_mut().enumerate() {
            let (_, kind) = kinds[index % kinds.len()];
            let interval = 1e6 / kind.rate;
            *ledger = Arc::new(Ledger::of_schedule(start, interval, kind.group, until));
        }
    }

    /// Lets all viewers go and adds up their accounts.
    async fn settle(&mut self, targets: &mut [Target], from: Micros, until: Micros) {
        self.crowds.iter_mut().for_each(|crowd| crowd.watching.clear());
        let mut joins: Vec<_> = targets.iter().map(|_| clock::histogram()).collect();
        let mut errors = vec![BTreeSet::new(); targets.len()];
        for _ in 0..self.started {
            let Some(account) = self.accounts.recv().await else { break };
            let at = account.target;
            match account.joined {
                Some(joined) => joins[at].saturating_record(joined - account.dialled),
                None => targets[at].never_joined += 1,
            }
            errors[at].extend(account.error.clone());
            // Who left early was owed what it had time to get; who was thrown out, all of it.
            let left = match &account.error {
                None => account.left - (self.options.drain * 1e6) as Micros,
                Some(_) => until,
            };
            let windows = [from..until.min(left), 0..left];
            targets[at].add(&account, &self.ledgers, &windows, self.options.media.tracks());
        }
        for ((target, join), errors) in targets.iter_mut().zip(&joins).zip(errors) {
            target.join = Percentiles::of(join);
            target.errors = errors.into_iter().collect();
        }
        self.threads.drain(..).for_each(Thread::end);
    }
}

/// What this process had used.
fn own_sample() -> Sample {
    Sample::take(std::process::id()).unwrap_or_default()
}

impl Crowd {
    fn new(name: String, urls: Vec<Url>, links: Vec<UdpProxy>) -> Self {
        let watching = Default::default();
        Self { name, urls, shared: Arc::default(), watching, _links: links }
    }
}

/// Viewers behind slow links to the first relay, one link each.
async fn slow_crowd(options: &Options) -> Result<Crowd, LoadError> {
    let link = line::parse("--slow-link", &options.slow_link).map_err(LoadError::Option)?;
    let url = &options.relays[0];
    let (mut urls, mut links) = (Vec::new(), Vec::new());
    for seed in 0..options.slow as u64 {
        let up = LinkConfig { delay: link.delay, ..LinkConfig::default() };
        let line = line::before(url, up, link.clone(), seed).await;
        let (through, proxy) =
            line.map_err(|error| LoadError::Option(format!("--slow: {error}")))?;
        urls.push(through);
        links.push(proxy);
    }
    Ok(Crowd::new(format!("{url} behind {}", options.slow_link), urls, links))
}

impl Target {
    /// A target's timings, while nobody has settled yet.
    fn of(crowd: &Crowd) -> Self {
        let timings = crowd.shared.timings.lock().unwrap_or_else(PoisonError::into_inner);
        Self {
            name: crowd.name.clone(),
            first_byte: Percentiles::of(&timings.first_byte),
            lateness: Percentiles::of(&timings.whole),
            ..Self::default()
        }
    }

    /// Adds a viewer's account, for the measured time and for all of its time.
    fn add(
        &mut self,
        account: &Account,
        ledgers: &[Arc<Ledger>],
        windows: &[std::ops::Range<Micros>; 2],
        tracks: usize,
    ) {
        self.viewers += 1;
        self.broken += u64::from(account.error.is_some());
        self.resets += account.resets.values().sum::<u64>();
        for (code, resets) in &account.resets {
            *self.resets_by_code.entry(code.clone()).or_default() += resets;
        }
        for track in &account.tracks {
            // A subscription that was never answered is owed what came after it was asked for.
            let since = track.accepted.unwrap_or(account.dialled);
            let ledger = &ledgers[track.ledger];
            let [measured, whole] = windows.clone();
            let came = track.books.settle(ledger, since, measured);
            self.measured += came;
            // Ledgers are in the order of a broadcast's tracks, audio after video.
            if track.ledger % tracks == 1 {
                self.audio += came;
            }
            self.whole += track.books.settle(ledger, since, whole);
            self.arrived += track.books.arrived;
            self.duplicates += track.books.duplicates;
            self.altered += track.books.altered;
        }
        let p99 = account.lateness.quantile(0.99).unwrap_or(0) as f64 / 1000.0;
        self.worst_p99_ms = self.worst_p99_ms.max(p99);
    }
}

impl Claimed {
    fn of(node: &stats::NodeSnapshot) -> Self {
        let total = node.drops.total();
        Self {
            objects_out: node.objects_out,
            dropped_objects: total.objects,
            dropped_bytes: total.bytes,
            by_reason: stats::DropReason::ALL
                .iter()
                .map(|reason| (reason.to_string(), node.drops[*reason].objects))
                .filter(|(_, objects)| *objects > 0)
                .collect(),
        }
    }
}
