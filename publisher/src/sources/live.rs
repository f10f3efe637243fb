//! What pipes and servers share: bytes as they arrive become frames with capture times.

use std::time::{Duration, Instant};

use bytes::Bytes;
use media::{Demuxer, Event, StreamDemuxer, Warning};

use super::timeline::Timeline;
use super::{Captured, Outlet, SourceError, SourceEvent, SourceTrack, Unwanted, unix_us};

/// With no bytes for this long, a source has stalled.
pub(super) const STALL: Duration = Duration::from_secs(10);
/// Between two notices of packet loss.
const LOSS_NOTICE_EVERY: Duration = Duration::from_secs(5);

/// Turns arriving bytes into source events.
#[derive(Debug, Default)]
pub(super) struct LiveInput {
    demuxer: StreamDemuxer,
    timeline: Timeline,
    lost: u64,
    loss_noticed: Option<Instant>,
}

impl LiveInput {
    /// Takes bytes that have just arrived.
    pub(super) async fn handle_bytes(
        &mut self,
        bytes: Bytes,
        outlet: &Outlet,
    ) -> Result<Result<(), Unwanted>, SourceError> {
        let now_us = unix_us();
        let outcome = self.demuxer.handle_bytes(bytes);
        let drained = self.drain(now_us, outlet).await;
        outcome?;
        Ok(drained)
    }

    /// Takes the end of the input.
    pub(super) async fn handle_end(&mut self, outlet: &Outlet) -> Result<(), SourceError> {
        let outcome = self.demuxer.handle_end();
        // Whether anybody takes them no longer matters.
        let _ = self.drain(unix_us(), outlet).await;
        Ok(outcome?)
    }

    async fn drain(&mut self, now_us: i64, outlet: &Outlet) -> Result<(), Unwanted> {
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
                        outlet.send(SourceEvent::Notice(notice)).await?;
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
            outlet.send(event).await?;
        }
        Ok(())
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
