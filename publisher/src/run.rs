//! Joins source, packager and relay, and says how it goes.

use std::time::Duration;

use anyhow::{Context, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{info, warn};
use transport::publish::{Broadcast, PublishOptions, PublishStatus, endpoint_options, publish_on};
use transport::{Backoff, Endpoint};

use crate::config::Config;
use crate::packager::{Packager, Report};
use crate::sources::{Outlet, Source, SourceError, SourceEvent};

/// A relay or server that has not answered by then is taken for wrong.
const GRACE: Duration = Duration::from_secs(10);
/// Between two lines of figures.
const REPORT_EVERY: Duration = Duration::from_secs(10);
/// How long the end may take: what was written last is still delivered.
const DRAIN: Duration = Duration::from_secs(5);

/// How the connection to the relay stands.
#[derive(Debug, Clone, Default)]
struct Link {
    /// It was connected at least once.
    reached: bool,
    /// Why it is not connected.
    error: Option<transport::Error>,
}

/// Publishes until the source ends or a signal comes.
pub(crate) async fn run(config: Config) -> anyhow::Result<()> {
    let broadcast = Broadcast::new(config.name.clone());
    let mut packager = Packager::new(&broadcast, config.target_latency);
    info!("publishing {} as {} at {}", config.source, config.name, config.relay);

    let (outlet, mut events) = Outlet::new();
    let mut source = tokio::spawn(supervise(config.source.clone(), outlet, config.retry_forever));

    let (link_changed, mut link) = watch::channel(Link::default());
    let (shutdown, asked) = oneshot::channel::<()>();
    let options = PublishOptions { relay: config.relay.clone(), tls: config.tls };
    let endpoint = Endpoint::client(endpoint_options().versions(config.versions))?;
    let mut publishing = tokio::spawn(async move {
        let shutdown = async {
            // A sender that is gone asks as well as one that speaks.
            let _ = asked.await;
        };
        let tell = move |status| handle_status(&link_changed, status);
        let result = publish_on(&endpoint, broadcast, options, shutdown, tell).await;
        endpoint.wait_idle().await;
        result
    });

    let mut interrupt = signal(SignalKind::interrupt()).context("no SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("no SIGTERM")?;
    let patience = tokio::time::sleep(GRACE);
    tokio::pin!(patience);
    let mut report = tokio::time::interval_at(Instant::now() + REPORT_EVERY, REPORT_EVERY);
    report.set_missed_tick_behavior(MissedTickBehavior::Delay);

    let mut source_running = true;
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Some(event) => handle_event(&mut packager, event),
                None if source_running => {
                    let ended = (&mut source).await.context("the source failed")?;
                    ended.with_context(|| config.source.to_string())?;
                    source_running = false;
                    info!("the source has ended");
                    packager.handle_end();
                    break;
                }
                None => break,
            },
            ended = &mut publishing => {
                ended.context("publishing failed")??;
                bail!("publishing ended by itself");
            }
            changed = link.changed() => {
                if changed.is_ok() {
                    give_up_if_hopeless(&link.borrow_and_update(), config.retry_forever)?;
                }
            }
            () = &mut patience, if !config.retry_forever && !link.borrow().reached => {
                bail!(unreached(&config.relay, &link.borrow()));
            }
            _ = report.tick() => log_report(packager.take_report(), &link.borrow()),
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
        }
    }

    let finished = !source_running;
    source.abort();
    // Ends the tracks, which subscribers are told.
    drop(packager);
    let _ = shutdown.send(());
    match tokio::time::timeout(DRAIN, &mut publishing).await {
        Ok(ended) => ended.context("publishing failed")??,
        Err(_) => warn!("the relay does not take the end; leaving"),
    }
    if finished && !link.borrow().reached {
        bail!(unreached(&config.relay, &link.borrow()));
    }
    Ok(())
}

/// Runs a source and, where that can help, runs it again.
async fn supervise(source: Source, outlet: Outlet, retry_forever: bool) -> Result<(), SourceError> {
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));
    let started = Instant::now();
    let mut lived = false;
    loop {
        let before = outlet.frames();
        let Err(error) = source.run(&outlet).await else {
            return Ok(());
        };
        if outlet.frames() > before {
            lived = true;
            backoff.reset();
        }
        let patient = retry_forever || started.elapsed() < GRACE;
        let again = match &source {
            Source::Http(_) => lived || (patient && error.may_pass()),
            Source::File { repeat, .. } => lived && *repeat,
            Source::Test(_) | Source::Stdin => false,
        };
        if !again {
            return Err(error);
        }
        let wait = backoff.next_delay();
        warn!("{source}: {error}; trying again in {:.1} s", wait.as_secs_f64());
        tokio::time::sleep(wait).await;
    }
}

fn handle_event(packager: &mut Packager, event: SourceEvent) {
    match event {
        SourceEvent::Tracks(tracks) => {
            for track in &tracks {
                info!("{}", describe(&track.config));
            }
            packager.handle_tracks(tracks);
        }
        SourceEvent::Frame(captured) => {
            if let Some(warning) = packager.handle_frame(captured) {
                warn!("{warning}");
            }
        }
        SourceEvent::Notice(notice) => warn!("source: {notice}"),
    }
}

fn describe(config: &media::TrackConfig) -> String {
    let name = config.codec.name();
    let string = &config.codec_string;
    match config.format {
        media::Format::Video { width, height, framerate } => {
            let rate = framerate
                .map(|rate| format!(", {} fps", (rate * 100.0).round() / 100.0))
                .unwrap_or_default();
            format!("video: {name} ({string}) {width}x{height}{rate}")
        }
        media::Format::Audio { sample_rate, channels } => {
            format!("audio: {name} ({string}) {sample_rate} Hz, {channels} channels")
        }
    }
}

fn handle_status(link: &watch::Sender<Link>, status: PublishStatus) {
    match status {
        PublishStatus::Connecting { relay } => tracing::debug!("connecting to {relay}"),
        PublishStatus::Connected { relay, version } => {
            info!("connected to {relay} ({version:?})");
            link.send_replace(Link { reached: true, error: None });
        }
        PublishStatus::Lost { error, retry_in } => {
            warn!("relay: {error}; trying again in {:.1} s", retry_in.as_secs_f64());
            link.send_modify(|link| link.error = Some(error));
        }
    }
}

/// Some errors do not pass by themselves in seconds; before anything has worked they are the
/// answer.
fn give_up_if_hopeless(link: &Link, retry_forever: bool) -> anyhow::Result<()> {
    use transport::Error::{Certificate, Url, Version};
    match &link.error {
        Some(error @ (Certificate { .. } | Version { .. } | Url { .. }))
            if !link.reached && !retry_forever =>
        {
            Err(error.clone().into())
        }
        _ => Ok(()),
    }
}

fn unreached(relay: &url::Url, link: &Link) -> String {
    match &link.error {
        Some(error) => format!("no relay at {relay} (--relay): {error}"),
        None => format!("no relay at {relay}; is it running, and is --relay right?"),
    }
}

fn log_report(report: Report, link: &Link) {
    let seconds = REPORT_EVERY.as_secs_f64();
    let kbits = |bytes: u64| bytes as f64 * 8.0 / 1000.0 / seconds;
    let relay = if link.error.is_some() { ", relay lost" } else { "" };
    info!(
        "video {:.1} fps {:.0} kbit/s, audio {:.0} kbit/s, {} of {} tracks subscribed{relay}",
        report.video_frames as f64 / seconds,
        kbits(report.video_bytes),
        kbits(report.audio_bytes),
        report.subscribed,
        report.tracks,
    );
}
