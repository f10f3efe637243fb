//! Recordings: the feed's own lines in a file, one tree a line, and between them what was known of
//! the one node that was looked at.
//!
//! `curl -N URL/api/v1/nodes/watch > FILE` makes the same. There are no times but the trees' own:
//! a replay waits as long as the nodes' clock says that passed between two of them.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::lines::Lines;
use super::{Closed, FeedEvent, Sender, parse};

/// Longest pause that a replay keeps between two lines.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A recording that can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The file can't be opened for writing.
    #[error("cannot create the recording {path}: {error}")]
    Create {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The file can't be opened or read.
    #[error("cannot read the recording {path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The file grew no more.
    #[error("recording stopped, cannot write {path}: {error}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

/// Writes a feed down, line by line. Clones write into the same file.
#[derive(Debug, Clone)]
pub struct Recorder {
    path: PathBuf,
    /// `None` after a failure: it is reported once and not each second.
    file: Arc<Mutex<Option<BufWriter<File>>>>,
}

impl Recorder {
    /// Starts a recording; an existing file is replaced.
    ///
    /// # Errors
    /// When the file can't be created.
    pub fn create(path: &Path) -> Result<Self, RecordingError> {
        let path = path.to_owned();
        match File::create(&path) {
            Ok(file) => {
                let file = Arc::new(Mutex::new(Some(BufWriter::new(file))));
                Ok(Self { path, file })
            }
            Err(error) => Err(RecordingError::Create { path, error }),
        }
    }

    /// Appends one line and flushes it, so that the file is whole whenever the program ends.
    ///
    /// # Errors
    /// Once, when the file can't be written; later lines are not recorded.
    pub fn write(&self, line: &[u8]) -> Result<(), RecordingError> {
        let mut open = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = &mut *open else { return Ok(()) };
        let result =
            file.write_all(line).and_then(|()| file.write_all(b"\n")).and_then(|()| file.flush());
        result.map_err(|error| {
            *open = None;
            RecordingError::Write { path: self.path.clone(), error }
        })
    }
}

/// A recording being read: events and the pause before each.
#[derive(Debug)]
pub struct Replay {
    path: PathBuf,
    file: BufReader<File>,
    lines: Lines,
    /// The time of the last tree.
    last: Option<Duration>,
    ended: bool,
}

impl Replay {
    /// Opens a recording.
    ///
    /// # Errors
    /// When the file can't be opened.
    pub fn open(path: &Path) -> Result<Self, RecordingError> {
        let path = path.to_owned();
        match File::open(&path).and_then(|mut file| {
            // A directory opens and fails only here.
            file.read(&mut []).map(|_| file)
        }) {
            Ok(file) => Ok(Self {
                path,
                file: BufReader::new(file),
                lines: Lines::default(),
                last: None,
                ended: false,
            }),
            Err(error) => Err(RecordingError::Read { path, error }),
        }
    }

    /// The next event and how long after the one before; `None` at the end.
    ///
    /// # Errors
    /// When the file can't be read on.
    pub fn poll_event(&mut self) -> Result<Option<(Duration, FeedEvent)>, RecordingError> {
        let line = loop {
            if let Some(line) = self.lines.poll_line() {
                break line;
            }
            if self.ended {
                return Ok(None);
            }
            match self.file.fill_buf() {
                Ok([]) => {
                    self.lines.handle_end();
                    self.ended = true;
                }
                Ok(bytes) => {
                    let read = bytes.len();
                    self.lines.handle_bytes(bytes);
                    self.file.consume(read);
                }
                Err(error) => {
                    return Err(RecordingError::Read { path: self.path.clone(), error });
                }
            }
        };
        let event = parse(&line);
        let FeedEvent::Tree(tree) = &event else { return Ok(Some((Duration::ZERO, event))) };
        let at = since_epoch(tree);
        let pause = self.last.map_or(Duration::ZERO, |last| at.saturating_sub(last));
        self.last = Some(at);
        Ok(Some((pause.min(LONGEST_PAUSE), event)))
    }
}

/// Plays a recording, `speed` times as fast as it was made.
pub async fn run(mut replay: Replay, speed: f64, sender: Sender) {
    // An error is only that nobody looks any more.
    let _: Result<(), Closed> = async {
        sender.send(FeedEvent::Connected).await?;
        // Each line has its time from the beginning on: what one sleep takes too long, the next
        // ones don't add to.
        let mut due = tokio::time::Instant::now();
        loop {
            match replay.poll_event() {
                Ok(Some((pause, event))) => {
                    due += pause.div_f64(speed);
                    tokio::time::sleep_until(due).await;
                    sender.send(event).await?;
                }
                Ok(None) => return sender.send(FeedEvent::Ended).await,
                Err(error) => {
                    sender.send(FeedEvent::Nonsense(error.to_string())).await?;
                    return sender.send(FeedEvent::Ended).await;
                }
            }
        }
    }
    .await;
}

fn since_epoch(tree: &stats::Tree) -> Duration {
    Duration::try_from(tree.at.as_duration()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_recorded_is_replayed_with_its_pauses() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("feed.jsonl");
        let recorder = Recorder::create(&path).unwrap();
        for line in [
            r#"{"node":"a","at":"2026-01-01T00:00:00Z","nodes":[]}"#,
            "nonsense",
            r#"{"node":"a","at":"2026-01-01T00:00:01.5Z","nodes":[]}"#,
            r#"{"node":"a","at":"2026-01-01T09:00:00Z","nodes":[]}"#,
            r#"{"node":"a","at":"2026-01-01T08:00:00Z","nodes":[]}"#,
        ] {
            recorder.write(line.as_bytes()).unwrap();
        }
        let mut replay = Replay::open(&path).unwrap();
        let mut pauses = Vec::new();
        while let Some((pause, event)) = replay.poll_event().unwrap() {
            pauses.push((pause.as_millis(), matches!(event, FeedEvent::Nonsense(_))));
        }
        let expected = [(0, false), (0, true), (1500, false), (60_000, false), (0, false)];
        assert_eq!(pauses, expected);
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Replay::open(Path::new("/nonexistent/feed")).unwrap_err();
        let error = format!("{:#}", anyhow::Error::from(error));
        assert!(error.contains("/nonexistent/feed"), "{error}");
        assert_eq!(error.matches("No such file").count(), 1, "{error}");
        let error = Recorder::create(Path::new("/nonexistent/feed")).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/feed"), "{error}");
    }
}
