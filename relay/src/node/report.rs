//! What a node says of itself up the tree, and the bytes in which that travels.
//!
//! Sums come first: each second a *report* with the node's figures, its busiest tracks and the
//! sessions that are worst off, however many there are. All that it knows is its *detail*, sent only
//! while somebody looks at it. Both are JSON, deflated with a dictionary that writer and reader know
//! (RFC 1951, after a first byte that says which one); a reader also takes plain JSON, which is what
//! nodes sent before.

use std::cmp::Reverse;
use std::io::{self, Read};

use flate2::read::DeflateDecoder;
use flate2::{Compress, Compression, FlushCompress};
use stats::{NodeSnapshot, Percentiles, TrackSnapshot};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Report,
    Detail,
}

/// What most reports have in common, in the order in which it comes: most of a small one would be
/// the names of its fields. It never changes, or nodes of two versions would not understand each
/// other; a better one gets another number.
const DICTIONARY: &[u8] = include_bytes!("report/dictionary-1.txt");
/// The first byte of what is deflated with it.
const DICTIONARY_1: u8 = 1;

/// A report that is longer lists fewer sessions: 100 kbit/s for ten nodes are 1250 bytes for each,
/// once a second, of which QUIC, UDP and IP take some.
const BUDGET: usize = 1150;

/// Why bytes are no report.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReportError {
    #[error("it is in a form that only a newer version knows")]
    Form,
    #[error("it cannot be inflated: {0}")]
    Deflate(io::Error),
    #[error("it is longer than {0} bytes")]
    TooLong(usize),
    #[error("it is not understood: {0}")]
    Json(serde_json::Error),
}

impl Kind {
    /// The name of the track, in the node's own namespace.
    pub(super) const fn track(self) -> &'static str {
        match self {
            Self::Report => "snapshot",
            Self::Detail => "detail",
        }
    }

    pub(super) fn of_track(name: &[u8]) -> Option<Self> {
        [Self::Report, Self::Detail].into_iter().find(|kind| kind.track().as_bytes() == name)
    }

    /// The publisher's priority: reports go before all media, which they are nothing against;
    /// details behind it.
    pub(super) const fn priority(self) -> u64 {
        match self {
            Self::Report => 0,
            Self::Detail => 255,
        }
    }

    /// Most tracks and sessions that are listed.
    const fn bounds(self) -> (usize, usize) {
        match self {
            Self::Report => (16, 8),
            Self::Detail => (1000, 1000),
        }
    }

    /// Most bytes of JSON that one may be.
    const fn longest(self) -> usize {
        match self {
            Self::Report => 128 << 10,
            Self::Detail => 2 << 20,
        }
    }

    /// What of a node's whole snapshot is sent, as bytes.
    pub(super) fn encode(self, mut snapshot: NodeSnapshot) -> Vec<u8> {
        self.shorten(&mut snapshot);
        let mut json = to_json(&snapshot);
        // Names may be long: fewer of them, then.
        while json.len() > self.longest() && shorten_further(&mut snapshot) {
            json = to_json(&snapshot);
        }
        if self == Self::Detail {
            return deflate(&json, Compression::fast());
        }
        let report = deflate(&json, Compression::best());
        if report.len() <= BUDGET {
            return report;
        }
        // Who is not listed is counted nevertheless.
        snapshot.sessions.truncate(snapshot.sessions.len() / 2);
        deflate(&to_json(&snapshot), Compression::best())
    }

    /// Reads what another node sent.
    pub(super) fn decode(self, bytes: &[u8]) -> Result<NodeSnapshot, ReportError> {
        if bytes.first() == Some(&b'{') {
            return serde_json::from_slice(bytes).map_err(ReportError::Json);
        }
        let deflated = bytes.strip_prefix(&[DICTIONARY_1]).ok_or(ReportError::Form)?;
        let json = inflate(deflated, self.longest())?;
        serde_json::from_slice(&json).map_err(ReportError::Json)
    }

    fn shorten(self, snapshot: &mut NodeSnapshot) {
        round(snapshot);
        let (tracks, sessions) = self.bounds();
        let listed = snapshot.tracks.len();
        if self == Self::Report {
            // What nodes report is no media, and the reports say it themselves.
            snapshot.tracks.retain(|track| !track.name.starts_with("weir/"));
            snapshot.tracks.iter_mut().for_each(|track| track.groups.clear());
        }
        snapshot.tracks.sort_by_cached_key(|track| {
            let bytes = track.bytes_in.saturating_add(track.bytes_out);
            (Reverse((track.subscribers, bytes)), track.name.clone())
        });
        snapshot.tracks.truncate(tracks);
        snapshot.tracks.sort_by(|a, b| a.name.cmp(&b.name));
        snapshot.tracks_total = (snapshot.tracks.len() < listed).then_some(listed as u64);
        snapshot.sessions.sort_by_key(|session| {
            let dropped = session.drops.total().objects;
            Reverse((session.behind_ms, session.queued_bytes, dropped))
        });
        snapshot.sessions.truncate(sessions);
    }
}

/// Takes half of what is listed away. `false`: nothing was.
fn shorten_further(snapshot: &mut NodeSnapshot) -> bool {
    let (tracks, sessions) = (snapshot.tracks.len(), snapshot.sessions.len());
    snapshot.tracks_total.get_or_insert(tracks as u64);
    snapshot.tracks.truncate(tracks / 2);
    snapshot.sessions.truncate(sessions / 2);
    tracks + sessions > 0
}

fn deflate(bytes: &[u8], level: Compression) -> Vec<u8> {
    let mut deflated = vec![DICTIONARY_1];
    let mut compress = Compress::new(level, false);
    // What went through it before is what it finds again; what came out of that is not sent.
    let mut unsent = Vec::with_capacity(2 * DICTIONARY.len());
    let known = compress.compress_vec(DICTIONARY, &mut unsent, FlushCompress::Sync);
    debug_assert!(known.is_ok() && compress.total_in() == DICTIONARY.len() as u64);
    let end = DICTIONARY.len() as u64 + bytes.len() as u64;
    let mut status = flate2::Status::Ok;
    while status != flate2::Status::StreamEnd {
        deflated.reserve(bytes.len() / 4 + 64);
        let rest = &bytes[(bytes.len() as u64 + compress.total_in() - end) as usize..];
        status = compress
            .compress_vec(rest, &mut deflated, FlushCompress::Finish)
            .expect("what is compressed anew cannot be in a wrong state");
    }
    deflated
}

fn inflate(deflated: &[u8], longest: usize) -> Result<Vec<u8>, ReportError> {
    // The dictionary as a block that is stored as it is, and not the last one.
    let length = u16::try_from(DICTIONARY.len()).expect("shorter than a window");
    let head = [&[0][..], &length.to_le_bytes(), &(!length).to_le_bytes(), DICTIONARY].concat();
    let mut inflated = DeflateDecoder::new(head.chain(deflated));
    io::copy(&mut inflated.by_ref().take(u64::from(length)), &mut io::sink())
        .map_err(ReportError::Deflate)?;
    let mut bytes = Vec::new();
    inflated.take(longest as u64 + 1).read_to_end(&mut bytes).map_err(ReportError::Deflate)?;
    if bytes.len() > longest {
        return Err(ReportError::TooLong(longest));
    }
    Ok(bytes)
}

fn to_json(snapshot: &NodeSnapshot) -> Vec<u8> {
    serde_json::to_vec(snapshot).expect("a snapshot is plain data")
}

/// Digits that nobody reads are bytes that somebody carries: milliseconds have at most two behind
/// the point, from one on one, from a hundred on none, and ages are whole seconds. How wrong something
/// may be is rounded up.
fn round(snapshot: &mut NodeSnapshot) {
    let to = |steps: f64, value: f64| (value * steps).round() / steps;
    let digits = move |value: &mut f64| {
        let steps = match value.abs() {
            ..1.0 => 100.0,
            ..100.0 => 10.0,
            _ => 1.0,
        };
        *value = to(steps, *value);
    };
    let time = |value: &mut Option<f64>| value.iter_mut().for_each(digits);
    let error = |value: &mut Option<f64>| {
        value.iter_mut().for_each(|value| *value = (*value * 10.0).ceil() / 10.0);
    };
    let spread = |value: &mut Option<Percentiles>| {
        if let Some(Percentiles { p50, p95 }) = value {
            digits(p50);
            digits(p95);
        }
    };
    snapshot.uptime_s = to(1000.0, snapshot.uptime_s);
    if let (Some(offset), Some(error)) =
        (&mut snapshot.clock_offset_ms, &mut snapshot.clock_error_ms)
    {
        // It stays right within its bound.
        (*offset, *error) = (to(10.0, *offset), *error + 0.05);
    }
    error(&mut snapshot.clock_error_ms);
    if let Some(seen) = &mut snapshot.seen {
        spread(&mut seen.latency_ms);
        error(&mut seen.latency_error_ms);
        time(&mut seen.join_ms);
    }
    for upstream in &mut snapshot.upstream {
        time(&mut upstream.rtt_ms);
    }
    for track in &mut snapshot.tracks {
        let TrackSnapshot { group_ms, latency_error_ms, .. } = track;
        time(group_ms);
        error(latency_error_ms);
        spread(&mut track.hop_latency_ms);
        spread(&mut track.latency_ms);
        spread(&mut track.inter_arrival_ms);
    }
    for session in &mut snapshot.sessions {
        time(&mut session.rtt_ms);
        session.age_s = session.age_s.map(f64::round);
    }
}

#[cfg(test)]
mod tests;
