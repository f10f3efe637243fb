//! The test picture and its tone, drawn, encoded and paced by the program itself.

mod font;
mod layers;
mod mark;
mod picture;
mod spec;
mod tone;
mod video;

use std::thread;
use std::time::{Duration, Instant};

use media::{Codec, Format, TrackConfig};
use tokio::sync::mpsc;
use transport::clock::unix_us;

pub(crate) use spec::TestSpec;

use super::{Captured, Outlet, SourceError, SourceEvent, SourceTrack};

const VIDEO: u32 = 1;
const AUDIO: u32 = 2;

/// Runs the test source until nobody takes its frames any more.
///
/// Video and audio each have a thread: encoding must neither wait for the network nor hold it up.
pub(super) async fn run(spec: TestSpec, outlet: &Outlet) -> Result<(), SourceError> {
    let (first_frame, encoder) = video::Encoder::start(&spec).map_err(SourceError::Encoder)?;
    let mut tracks =
        vec![SourceTrack { config: first_frame.config, bitrate: Some(u64::from(spec.bitrate)) }];
    if spec.audio {
        tracks.push(SourceTrack {
            config: TrackConfig {
                id: AUDIO,
                codec: Codec::Opus,
                codec_string: "opus".into(),
                description: None,
                format: Format::Audio {
                    sample_rate: tone::SAMPLE_RATE,
                    channels: tone::CHANNELS as u32,
                },
                timescale: tone::SAMPLE_RATE,
                language: None,
            },
            bitrate: Some(u64::from(tone::BITRATE)),
        });
    }
    if outlet.send(SourceEvent::Tracks(tracks)).await.is_err() {
        return Ok(());
    }
    let (failed, mut failure) = mpsc::channel::<String>(2);
    if spec.audio {
        let (outlet, failed) = (outlet.clone(), failed.clone());
        spawn("test tone", failed, move || tone::run(&outlet));
    }
    let outlet = outlet.clone();
    spawn("test picture", failed, move || encoder.run(&outlet));
    match failure.recv().await {
        Some(error) => Err(SourceError::Encoder(error)),
        None => Ok(()),
    }
}

/// Runs a loop on a thread of its own and reports how it failed.
fn spawn(
    name: &str,
    failed: mpsc::Sender<String>,
    work: impl FnOnce() -> Result<(), String> + Send + 'static,
) {
    let report = failed.clone();
    let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
        if let Err(error) = work() {
            // The receiver is gone only when the program is ending.
            let _ = failed.blocking_send(error);
        }
    });
    if let Err(error) = thread {
        let _ = report.try_send(format!("no thread for the {name}: {error}"));
    }
}

/// Passes a frame on; `false` when nobody takes it any more.
fn deliver(outlet: &Outlet, captured: Captured) -> bool {
    outlet.blocking_send(SourceEvent::Frame(captured)).is_ok()
}

/// Says when each tick of a fixed rate is due, from the start on.
struct Ticks {
    start: Instant,
    period: Duration,
    next: u64,
}

impl Ticks {
    fn new(period: Duration) -> Self {
        Self { start: Instant::now(), period, next: 0 }
    }

    /// Waits for the next tick and gives its number. Ticks that have passed are left out.
    fn wait(&mut self) -> u64 {
        let elapsed = self.start.elapsed();
        let due = self.period.saturating_mul(u32::try_from(self.next).unwrap_or(u32::MAX));
        if let Some(early) = due.checked_sub(elapsed) {
            thread::sleep(early);
        } else {
            let passed = (elapsed.as_nanos() / self.period.as_nanos().max(1)) as u64;
            self.next = self.next.max(passed);
        }
        let tick = self.next;
        self.next += 1;
        tick
    }
}
