//! What load to put on.

use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Serialize};
use url::Url;

use super::stamp::Stamp;

/// The track that viewers watch.
pub(super) const VIDEO: &str = "video";
/// The track that they hear.
pub(super) const AUDIO: &str = "audio";

/// Payload of an audio object, bytes: 20 ms of Opus at 64 kbit/s and a little more.
const AUDIO_SIZE: usize = 200;
/// Audio objects a second.
const AUDIO_RATE: f64 = 50.0;

/// What a broadcast is made of.
#[derive(Args, Clone, Debug, Serialize, Deserialize)]
pub struct Media {
    /// Payload of a video object, bytes.
    #[arg(long, default_value_t = 20_800, value_parser = parse_size)]
    pub size: usize,
    /// Video objects a second.
    #[arg(long, default_value_t = 30.0)]
    pub rate: f64,
    /// Video objects a group.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    pub group: u64,
    /// Audio beside the video: 200 bytes, 50 times a second.
    #[arg(long)]
    pub audio: bool,
    /// Every other video object in a subgroup of its own, as frames that nothing refers to are.
    #[arg(long)]
    pub temporal: bool,
}

/// One track of a broadcast.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Payload, bytes.
    pub size: usize,
    /// Objects a second.
    pub rate: f64,
    /// Objects a group.
    pub group: u64,
}

impl Media {
    /// The tracks of a broadcast, by name.
    pub fn kinds(&self) -> Vec<(&'static str, Kind)> {
        let video = Kind { size: self.size, rate: self.rate, group: self.group };
        let seconds = self.group as f64 / self.rate;
        let group = ((seconds * AUDIO_RATE).round() as u64).max(1);
        let audio = Kind { size: AUDIO_SIZE, rate: AUDIO_RATE, group };
        let tracks = [(VIDEO, video), (AUDIO, audio)];
        tracks.into_iter().take(self.tracks()).collect()
    }

    /// How many tracks a broadcast has.
    pub fn tracks(&self) -> usize {
        1 + usize::from(self.audio)
    }
}

/// What load to put on, and what to watch while it is.
#[derive(Args, Clone, Debug, Serialize, Deserialize)]
pub struct Options {
    /// Where viewers connect, moqt://host:port or https://host:port/path; with several, viewers
    /// take turns and each is accounted for apart.
    #[arg(long = "relay", value_name = "URL", default_value = "moqt://127.0.0.1:4433")]
    #[serde(with = "texts")]
    pub relays: Vec<Url>,
    /// Where to publish, if not at the first --relay.
    #[arg(long, value_name = "URL")]
    #[serde(skip)]
    pub publish: Option<Url>,
    /// What the line to it is like, as --slow-link; it is this machine's own, if not given.
    #[arg(long, value_name = "LINK")]
    pub publish_link: Option<String>,
    /// Publish nothing: somebody else does, so nothing can be said to be missing.
    #[arg(long, conflicts_with = "source_start")]
    pub no_publish: bool,
    /// The relay is a source itself, one that began at this Unix time in microseconds.
    #[arg(long, value_name = "MICROS")]
    pub source_start: Option<u64>,
    /// First field of the broadcasts' namespaces.
    #[arg(long, default_value = "bench")]
    pub name: String,
    /// Broadcasts.
    #[arg(long, default_value_t = 1)]
    pub broadcasts: usize,
    /// Viewers of each broadcast.
    #[arg(long, default_value_t = 10)]
    pub viewers: usize,
    /// The broadcasts.
    #[command(flatten)]
    pub media: Media,
    /// Seconds to measure for.
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// Seconds between the last viewer's first object and the measurement.
    #[arg(long, default_value_t = 1.0)]
    pub settle: f64,
    /// Seconds that late objects are waited for at the end.
    #[arg(long, default_value_t = 1.0)]
    pub drain: f64,
    /// Viewers ask for the newest group before older ones, as the player does.
    #[arg(long)]
    pub newest_first: bool,
    /// New viewers a second until all are there.
    #[arg(long, default_value_t = 200.0)]
    pub ramp: f64,
    /// While measuring, so many viewers a second leave and as many others come.
    #[arg(long, default_value_t = 0.0)]
    pub churn: f64,
    /// So many of the viewers are behind a slow link.
    #[arg(long, default_value_t = 0)]
    pub slow: usize,
    /// What that link is like: `rate=3M delay=20 queue=64k loss=1`.
    #[arg(long, value_name = "LINK", default_value = "rate=3M delay=10 queue=64k")]
    pub slow_link: String,
    /// Viewers speak this draft only: 16, 18 or 22.
    #[arg(long, value_parser = crate::draft::parse)]
    #[serde(skip)]
    pub draft: Option<moqt::Version>,
    /// So many viewers more are in a process of their own, killed when half of the measured time is
    /// over; needs --pid, to see what the relay's memory does. Let it be over 30 seconds: a relay
    /// notices when its idle timeout runs out.
    #[arg(long, default_value_t = 0, requires = "pid")]
    pub kill: usize,
    /// Threads for viewers.
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// Viewers that share a UDP socket.
    #[arg(long, default_value_t = 25)]
    pub per_socket: usize,
    /// Process number of the relay, to measure its CPU and memory.
    #[arg(long)]
    pub pid: Option<u32>,
    /// Admin API of the relay, host:port, to compare what it says it dropped.
    #[arg(long, value_name = "HOST:PORT")]
    pub admin: Option<String>,
    /// Write all figures to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Bytes, with `k` or `M` for their multiples.
fn parse_size(text: &str) -> Result<usize, String> {
    let (digits, unit) = match text.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1024),
        None => match text.strip_suffix('M') {
            Some(digits) => (digits, 1024 * 1024),
            None => (text, 1),
        },
    };
    let size = digits.parse::<usize>().ok().and_then(|size| size.checked_mul(unit));
    let size = size.ok_or_else(|| format!("{text}: write bytes, such as 400, 4k or 2M"))?;
    if size < Stamp::LENGTH {
        return Err(format!("an object has at least {} bytes, for its time", Stamp::LENGTH));
    }
    Ok(size)
}

/// URLs as the texts that they are.
mod texts {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};
    use url::Url;

    pub(super) fn serialize<S: Serializer>(urls: &[Url], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(urls.iter().map(Url::as_str))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Url>, D::Error> {
        let texts = Vec::<String>::deserialize(from)?;
        texts.iter().map(|text| text.parse().map_err(D::Error::custom)).collect()
    }
}
