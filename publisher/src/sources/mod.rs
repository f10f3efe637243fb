//! Where media comes from.
//!
//! A source runs as a task that sends [`SourceEvent`]s until it ends, breaks, or nobody takes them.
//! Each frame carries its capture time: only the source knows what that is.

mod file;
mod http;
mod live;
mod pacer;
mod smoother;
mod stdin;
mod test;
mod timeline;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use media::{Frame, TrackConfig};
use tokio::sync::mpsc;
use url::Url;

pub(crate) use test::TestSpec;

/// What a source says.
#[derive(Debug)]
pub(crate) enum SourceEvent {
    /// These are the tracks from here on.
    Tracks(Vec<SourceTrack>),
    /// A frame, at the moment when it is to go out.
    Frame(Captured),
    /// Something that the user should know; the source goes on.
    Notice(String),
}

/// A track, and what only the source knows of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SourceTrack {
    pub(crate) config: TrackConfig,
    /// Bits per second that the encoder aims at.
    pub(crate) bitrate: Option<u64>,
}

/// A frame with the time at which its picture or sound was captured.
#[derive(Debug)]
pub(crate) struct Captured {
    pub(crate) frame: Frame,
    /// Microseconds since the Unix epoch.
    pub(crate) capture_unix_us: u64,
}

/// Where a source puts its events. Clones put them in the same place.
#[derive(Debug, Clone)]
pub(crate) struct Outlet {
    events: mpsc::Sender<SourceEvent>,
    frames: Arc<AtomicU64>,
}

/// Nobody takes events any more.
#[derive(Debug)]
pub(crate) struct Unwanted;

impl Outlet {
    /// An outlet that holds a few events, and where they come out.
    pub(crate) fn new() -> (Self, mpsc::Receiver<SourceEvent>) {
        let (events, receiver) = mpsc::channel(64);
        (Self { events, frames: Arc::default() }, receiver)
    }

    /// Frames put in so far.
    pub(crate) fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    async fn send(&self, event: SourceEvent) -> Result<(), Unwanted> {
        self.count(&event);
        self.events.send(event).await.map_err(|_| Unwanted)
    }

    /// The same from a thread that may wait.
    fn blocking_send(&self, event: SourceEvent) -> Result<(), Unwanted> {
        self.count(&event);
        self.events.blocking_send(event).map_err(|_| Unwanted)
    }

    fn count(&self, event: &SourceEvent) {
        if matches!(event, SourceEvent::Frame(_)) {
            self.frames.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// How media get to standard input.
const PIPE: &str = "ffmpeg … -f mpegts - | publisher --url -";

/// Why a source ended; the text does not name the source.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    /// The input cannot be understood.
    #[error(transparent)]
    Media(#[from] media::Error),
    /// The input cannot be read.
    #[error("{0}")]
    Read(std::io::Error),
    /// Standard input ended with nothing in it that could be published.
    #[error("it ended before it described a track; look at what writes it: {PIPE}")]
    Nothing,
    /// The server answered, but not with a stream.
    #[error("the server answers {0}")]
    Status(reqwest::StatusCode),
    /// The server cannot be reached, or the connection broke.
    #[error("{0}")]
    Http(String),
    /// Nothing comes any more.
    #[error("nothing has come for {} seconds", .0.as_secs())]
    Stalled(std::time::Duration),
    /// A stream that should not end has ended.
    #[error("the stream has ended")]
    Ended,
    /// The test source's own encoder.
    #[error("{0}")]
    Encoder(String),
}

impl SourceError {
    /// Whether trying again can help a source that has never worked.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            SourceError::Media(media::Error::Io(_)) => true,
            SourceError::Media(_)
            | SourceError::Read(_)
            | SourceError::Nothing
            | SourceError::Encoder(_) => false,
            SourceError::Status(status) => status.is_server_error(),
            SourceError::Http(_) | SourceError::Stalled(_) | SourceError::Ended => true,
        }
    }
}

/// A source, named by its URL.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Source {
    /// `test:`
    Test(TestSpec),
    /// A path, or a `file:` URL.
    File {
        /// Where.
        path: PathBuf,
        /// Start over at the end.
        repeat: bool,
    },
    /// `-`
    Stdin,
    /// `http:` or `https:`
    Http(Url),
}

impl Source {
    /// Understands a `--url`.
    pub(crate) fn parse(text: &str, repeat: bool) -> Result<Self, String> {
        if text.is_empty() {
            return Err("the source URL is empty".into());
        }
        if text == "-" {
            return Ok(Source::Stdin);
        }
        if let Some(options) = text.strip_prefix("test:") {
            return TestSpec::parse(options).map(Source::Test);
        }
        if text.starts_with("http://") || text.starts_with("https://") {
            let url = Url::parse(text).map_err(|error| format!("{text} is no URL: {error}"))?;
            return Ok(Source::Http(url));
        }
        let path = if text.starts_with("file:") {
            let url = Url::parse(text).map_err(|error| format!("{text} is no URL: {error}"))?;
            url.to_file_path().map_err(|()| format!("{text} names no file on this machine"))?
        } else if let Some((scheme, _)) = text.split_once("://") {
            return Err(format!(
                "sources of kind `{scheme}:` are not known; there are test:, a file, - (stdin), \
                 http: and https:. What ffmpeg can read comes in by pipe: ffmpeg -i {text} \
                 -c copy -f mpegts - | publisher --url -"
            ));
        } else {
            PathBuf::from(text)
        };
        Ok(Source::File { path, repeat })
    }

    /// A broadcast name made from the source.
    pub(crate) fn default_name(&self) -> String {
        let stem = match self {
            Source::Test(_) => Some("test".to_owned()),
            Source::Stdin => Some("stdin".to_owned()),
            Source::File { path, .. } => {
                path.file_stem().map(|stem| stem.to_string_lossy().into_owned())
            }
            Source::Http(url) => url
                .path_segments()
                .and_then(|mut segments| segments.rfind(|segment| !segment.is_empty()))
                .map(|last| last.split_once('.').map_or(last, |(stem, _)| stem).to_owned())
                .or_else(|| url.host_str().map(str::to_owned)),
        };
        let plain = |character: char| {
            let kept = character.is_alphanumeric() || matches!(character, '-' | '_' | '.');
            if kept { character } else { '-' }
        };
        let name: String = stem.unwrap_or_default().chars().map(plain).take(64).collect();
        let name = name.trim_matches(|character| matches!(character, '-' | '.'));
        format!("live/{}", if name.is_empty() { "stream" } else { name })
    }

    /// Runs the source until it ends, breaks, or nobody takes its events.
    pub(crate) async fn run(&self, outlet: &Outlet) -> Result<(), SourceError> {
        match self {
            Source::Test(spec) => test::run(*spec, outlet).await,
            Source::File { path, repeat } => file::run(path, *repeat, outlet).await,
            Source::Stdin => stdin::run(outlet).await,
            Source::Http(url) => http::run(url, outlet).await,
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Test(spec) => write!(f, "test picture {}x{}", spec.width, spec.height),
            Source::File { path, .. } => write!(f, "{}", path.display()),
            Source::Stdin => write!(f, "standard input"),
            Source::Http(url) => {
                // Who it is for is not for logs.
                let mut url = url.clone();
                let _ = url.set_username("");
                let _ = url.set_password(None);
                write!(f, "{url}")
            }
        }
    }
}

/// Now, in microseconds since the Unix epoch.
fn unix_us() -> i64 {
    i64::try_from(transport::clock::unix_us()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Source {
        Source::parse(text, false).unwrap()
    }

    #[test]
    fn names_are_made_from_sources() {
        for (url, name) in [
            ("test:", "live/test"),
            ("-", "live/stdin"),
            ("/media/cam1.mp4", "live/cam1"),
            ("my film (1).ts", "live/my-film--1"),
            ("http://tv.example/hls/news.ts?token=1", "live/news"),
            ("http://tv.example:8000/live/user/pass/1234", "live/1234"),
            ("https://tv.example/", "live/tv.example"),
        ] {
            assert_eq!(parse(url).default_name(), name, "{url}");
        }
    }

    #[test]
    fn a_path_with_a_colon_is_a_path_and_an_unknown_scheme_is_not() {
        assert!(matches!(parse("12:30.mp4"), Source::File { .. }));
        let expected = Source::File { path: "/tmp/a.mp4".into(), repeat: false };
        assert_eq!(parse("file:///tmp/a.mp4"), expected);
        let error = Source::parse("rtsp://cam/1", false).unwrap_err();
        assert!(error.contains("`rtsp:`") && error.contains("ffmpeg -i rtsp://cam/1"), "{error}");
    }

    #[test]
    fn a_password_is_not_shown() {
        let shown = parse("http://me:secret@tv.example/a.ts").to_string();
        assert_eq!(shown, "http://tv.example/a.ts");
    }
}
