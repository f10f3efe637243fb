//! What pipes and servers share: bytes as they arrive become frames with capture times, sent on at an
//! even pace.

use std::time::{Duration, Instant};

use bytes::Bytes;
use media::{Demuxer, Event, StreamDemuxer, Warning};
use tokio::sync::mpsc;

use super::smoother::Smoother;
use super::timeline::Timeline;
use super::{Captured, Outlet, SourceError, SourceEvent, SourceTrack, Unwanted, unix_us};

/// With no bytes for this long, a source has stalled.
pub(super) const STALL: Duration = Duration::from_secs(10);
/// Between two notices of packet loss.
const LOSS_NOTICE_EVERY: Duration = Duration::from_secs(5);

/// Events between the input and its sender.
const QUEUE: usize = 64;

/// An input, and what sends on what comes in: to be run beside each other.
pub(super) fn open() -> (LiveInput, Sender) {
    let (events, arriving) = mpsc::channel(QUEUE);
    let input = LiveInput {
        demuxer: StreamDemuxer::default(),
        timeline: Timeline::default(),
        lost: 0,
        loss_noticed: None,
        events,
    };
    (input, Sender { arriving })
}

/// Turns arriving bytes into source events.
#[derive(Debug)]
pub(super) struct LiveInput {
    demuxer: StreamDemuxer,
    timeline: Timeline,
    lost: u64,
    loss_noticed: Option<Instant>,
    events: mpsc::Sender<(Instant, SourceEvent)>,
}

impl LiveInput {
    /// Takes bytes that have just arrived.
    pub(super) async fn handle_bytes(
        &mut self,
        bytes: Bytes,
    ) -> Result<Result<(), Unwanted>, SourceError> {
        let now_us = unix_us();
        let outcome = self.demuxer.handle_bytes(bytes);
        let drained = self.drain(now_us).await;
        outcome?;
        Ok(drained)
    }

    /// Takes the end of the input.
    pub(super) async fn handle_end(&mut self) -> Result<(), SourceError> {
        let outcome = self.demuxer.handle_end();
        // Whether anybody takes them no longer matters.
        let _ = self.drain(unix_us()).await;
        Ok(outcome?)
    }

    async fn drain(&mut self, now_us: i64) -> Result<(), Unwanted> {
        let arrived = Instant::now();
        while let Some(event) = self.demuxer.poll_event() {
            let event = match event {
                Event::Tracks(configs) => SourceEvent::Tracks(
                    configs
                        .into_iter()
                        .map(|config| SourceTrack { config, bitrate: None })
                        .collect(),
                ),
                Event::Frame(frame) => {
                    let placed = self.timeline.place(frame.pts_us, now_us);
                    if let Some(jump) = placed.jumped_us {
                        let notice = format!(
                            "the source's timestamps jumped by {:.1} s; following",
                            jump as f64 / 1e6
                        );
                        self.send(arrived, SourceEvent::Notice(notice)).await?;
                    }
                    let capture_unix_us = placed.capture_unix_us;
                    SourceEvent::Frame(Captured { frame, capture_unix_us })
                }
                Event::Warning(Warning::PacketLoss { .. }) => match self.count_loss() {
                    Some(notice) => SourceEvent::Notice(notice),
                    None => continue,
                },
                Event::Warning(warning) => SourceEvent::Notice(warning.to_string()),
            };
            self.send(arrived, event).await?;
        }
        Ok(())
    }

    async fn send(&self, arrived: Instant, event: SourceEvent) -> Result<(), Unwanted> {
        self.events.send((arrived, event)).await.map_err(|_| Unwanted)
    }

    /// Counts a damaged frame; gives a notice when one is due.
    fn count_loss(&mut self) -> Option<String> {
        self.lost += 1;
        if self.loss_noticed.is_some_and(|last| last.elapsed() < LOSS_NOTICE_EVERY) {
            return None;
        }
        self.loss_noticed = Some(Instant::now());
        let lost = std::mem::take(&mut self.lost);
        Some(format!("packets are missing in the transport stream: {lost} frames left out"))
    }
}

/// Sends on what the input takes in, each frame when it is due.
#[derive(Debug)]
pub(super) struct Sender {
    arriving: mpsc::Receiver<(Instant, SourceEvent)>,
}

impl Sender {
    /// Runs until the input is gone and all of it was sent, or nobody takes it.
    pub(super) async fn run(mut self, outlet: &Outlet) {
        let start = Instant::now();
        let micros = |at: Instant| {
            i64::try_from(at.saturating_duration_since(start).as_micros()).unwrap_or(i64::MAX)
        };
        let mut smoother = Smoother::default();
        let mut open = true;
        loop {
            while let Some(event) = smoother.poll_event(micros(Instant::now())) {
                if outlet.send(event).await.is_err() {
                    return;
                }
            }
            let due = smoother
                .due_us()
                .map(|due_us| start + Duration::from_micros(u64::try_from(due_us).unwrap_or(0)));
            if due.is_none() && !open {
                return;
            }
            tokio::select! {
                arrived = self.arriving.recv(), if open => match arrived {
                    Some((at, event)) => smoother.handle_event(event, micros(at)),
                    None => open = false,
                },
                () = tokio::time::sleep_until(due.unwrap_or(start).into()), if due.is_some() => {}
            }
        }
    }
}
