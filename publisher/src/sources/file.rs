//! A file, played in real time: MP4 in any form, or MPEG-TS.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use media::mp4::Mp4File;
use media::{Container, Demuxer, Event, Frame, Probe, StreamDemuxer, TrackConfig};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::pacer::Pacer;
use super::{Captured, Outlet, SourceError, SourceEvent, SourceTrack, unix_us};

/// Bytes of an MPEG-TS read at once.
const READ_BYTES: usize = 188 * 256;
/// Frames between the reading thread and the pacing task.
const QUEUE: usize = 64;
/// Falling behind by more than this (the machine slept) sets the clock again instead of
/// sending all that was missed at once.
const MAX_LATE: Duration = Duration::from_secs(1);

/// What the reading thread passes on.
enum Item {
    Tracks(Vec<TrackConfig>),
    Frame(Frame),
    Notice(String),
    /// The end of the file, with another pass to come.
    PassEnd,
}

type Items = mpsc::Sender<Result<Item, SourceError>>;

/// Runs until the file ends, or for ever with `repeat`.
pub(super) async fn run(path: &Path, repeat: bool, outlet: &Outlet) -> Result<(), SourceError> {
    let (items, mut reading) = mpsc::channel(QUEUE);
    let path = PathBuf::from(path);
    let reader = tokio::task::spawn_blocking(move || {
        if let Err(Stop::Failed(error)) = read_all(&path, repeat, &items) {
            // Nobody takes it only when the program is ending.
            let _ = items.blocking_send(Err(error));
        }
    });
    let played = play(&mut reading, outlet).await;
    drop(reading);
    // The reader ends with its channel; it must not outlive the source it belongs to.
    let _ = reader.await;
    played
}

/// Sends each frame when it is due.
async fn play(
    reading: &mut mpsc::Receiver<Result<Item, SourceError>>,
    outlet: &Outlet,
) -> Result<(), SourceError> {
    let mut pacer = Pacer::default();
    let mut clock: Option<Clock> = None;
    let mut open = true;
    let mut failure = None;
    loop {
        while let Some(paced) = pacer.poll_frame() {
            let clock = clock.get_or_insert_with(Clock::start);
            let capture_unix_us = clock.wait(paced.due_us, paced.capture_us).await;
            let captured = Captured { frame: paced.frame, capture_unix_us };
            if outlet.send(SourceEvent::Frame(captured)).await.is_err() {
                return Ok(());
            }
        }
        if !open {
            return failure.map_or(Ok(()), Err);
        }
        let event = match reading.recv().await {
            Some(Ok(Item::Frame(frame))) => {
                pacer.handle_frame(frame);
                continue;
            }
            Some(Ok(Item::PassEnd)) => {
                pacer.handle_pass_end();
                continue;
            }
            Some(Ok(Item::Tracks(configs))) => SourceEvent::Tracks(
                configs.into_iter().map(|config| SourceTrack { config, bitrate: None }).collect(),
            ),
            Some(Ok(Item::Notice(notice))) => SourceEvent::Notice(notice),
            // What was read before the failure is still to be played.
            ended => {
                failure = ended.and_then(Result::err);
                open = false;
                pacer.handle_end();
                continue;
            }
        };
        if outlet.send(event).await.is_err() {
            return Ok(());
        }
    }
}

/// Maps the file's timeline to the wall clock.
struct Clock {
    start: Instant,
    start_unix_us: i64,
}

impl Clock {
    fn start() -> Self {
        Self { start: Instant::now(), start_unix_us: unix_us() }
    }

    /// Waits until `due_us`; gives the wall-clock time of `capture_us`.
    async fn wait(&mut self, due_us: i64, capture_us: i64) -> u64 {
        let due = Duration::from_micros(u64::try_from(due_us).unwrap_or(0));
        let late = self.start.elapsed().saturating_sub(due);
        if late > MAX_LATE {
            self.start += late;
            self.start_unix_us += i64::try_from(late.as_micros()).unwrap_or(0);
        }
        tokio::time::sleep_until(self.start + due).await;
        u64::try_from(self.start_unix_us.saturating_add(capture_us)).unwrap_or(0)
    }
}

/// Why reading stopped.
enum Stop {
    /// Nobody takes the frames any more.
    Unwanted,
    Failed(SourceError),
}

impl<E: Into<SourceError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Stop::Failed(error.into())
    }
}

fn give(items: &Items, item: Item) -> Result<(), Stop> {
    items.blocking_send(Ok(item)).map_err(|_| Stop::Unwanted)
}

fn read_all(path: &Path, repeat: bool, items: &Items) -> Result<(), Stop> {
    let mut file = File::open(path).map_err(SourceError::Read)?;
    let mut head = Vec::new();
    file.by_ref()
        .take(media::PROBE_BYTES as u64)
        .read_to_end(&mut head)
        .map_err(SourceError::Read)?;
    match media::probe(&head)? {
        Probe::Is(Container::Mp4) => read_mp4(file, repeat, items),
        Probe::Is(Container::MpegTs) => read_ts(file, repeat, items),
        Probe::NeedMore => Err(media::Error::NotMedia("is too short to be any"))?,
    }
}

fn read_mp4(file: File, repeat: bool, items: &Items) -> Result<(), Stop> {
    let mut file = Mp4File::open(file)?;
    for warning in file.warnings() {
        give(items, Item::Notice(warning.to_string()))?;
    }
    give(items, Item::Tracks(file.tracks()))?;
    loop {
        let mut frames = 0;
        while let Some(frame) = file.next_frame()? {
            frames += 1;
            give(items, Item::Frame(frame))?;
        }
        if !repeat || frames == 0 {
            return Ok(());
        }
        give(items, Item::PassEnd)?;
        file.rewind()?;
    }
}

fn read_ts(file: File, repeat: bool, items: &Items) -> Result<(), Stop> {
    let mut reader = BufReader::with_capacity(READ_BYTES, file);
    let mut first = true;
    loop {
        reader.seek(SeekFrom::Start(0)).map_err(media::Error::from)?;
        if !read_ts_once(&mut reader, first, items)? || !repeat {
            return Ok(());
        }
        give(items, Item::PassEnd)?;
        first = false;
    }
}

/// One pass; says whether there were frames.
fn read_ts_once(reader: &mut impl Read, first: bool, items: &Items) -> Result<bool, Stop> {
    let mut demuxer = StreamDemuxer::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut any = false;
    loop {
        let size = reader.read(&mut buffer).map_err(media::Error::from)?;
        let outcome = match size {
            0 => demuxer.handle_end(),
            _ => demuxer.handle_bytes(Bytes::copy_from_slice(&buffer[..size])),
        };
        while let Some(event) = demuxer.poll_event() {
            match event {
                Event::Tracks(tracks) => give(items, Item::Tracks(tracks))?,
                Event::Frame(frame) => {
                    any = true;
                    give(items, Item::Frame(frame))?;
                }
                Event::Warning(warning) if first => {
                    give(items, Item::Notice(warning.to_string()))?;
                }
                // Said once; every pass would say the same.
                Event::Warning(_) => {}
            }
        }
        outcome?;
        if size == 0 {
            return Ok(any);
        }
    }
}
