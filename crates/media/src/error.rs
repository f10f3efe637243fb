//! What can be wrong with an input, in words that say what to do.

use std::fmt;

/// Why an input cannot be demuxed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The first bytes belong to no container known here.
    #[error("this is no media known here: it {0}; give fragmented MP4, MP4 or MPEG-TS")]
    NotMedia(&'static str),

    /// The first bytes belong to a container that is not read here.
    #[error(
        "this is no media known here: it is {0}; remux it: ffmpeg -re -i INPUT -c copy -f mpegts - | \
         publisher --url -"
    )]
    OtherContainer(&'static str),

    /// A progressive MP4 came as a stream.
    #[error(
        "a progressive MP4 has its index apart from its media and cannot be streamed; give it as a \
         file, or remux it: ffmpeg -re -i INPUT -c copy -movflags empty_moov+frag_every_frame -f mp4 -"
    )]
    ProgressiveStream,

    /// A box of an MP4 contradicts itself or its surroundings.
    #[error("broken MP4: box `{kind}` at byte {offset}: {what}")]
    Mp4 {
        /// Which box.
        kind: BoxKind,
        /// Where the box starts, from the start of the input.
        offset: u64,
        /// What is wrong with it.
        what: String,
    },

    /// An MPEG-TS lost its packet grid and it did not come back.
    #[error(
        "broken MPEG-TS: no packet start (0x47 every 188 bytes) within {searched} bytes before byte {offset}"
    )]
    TsSync {
        /// Bytes looked at.
        searched: u64,
        /// Where the search was given up.
        offset: u64,
    },

    /// There are tracks, but none that can pass.
    #[error(
        "no supported track: {found}; browsers cannot decode this, so transcode it: ffmpeg -i INPUT \
         -c:v libx264 -tune zerolatency -c:a aac -f mpegts - | publisher --url -"
    )]
    NoSupportedTrack {
        /// The tracks found, by codec.
        found: String,
    },

    /// The input ended before it described a single track.
    #[error("the input ended before it described a track")]
    NoTracks,

    /// The reader below failed.
    #[error("reading failed: {0}")]
    Io(std::io::Error),
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Error::Io(error)
    }
}

/// A four-character code that is safe to print, whatever its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BoxKind(pub [u8; 4]);

impl fmt::Display for BoxKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for BoxKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Error {
    /// A broken box.
    pub(crate) fn mp4(kind: [u8; 4], offset: u64, what: impl Into<String>) -> Self {
        Error::Mp4 { kind: BoxKind(kind), offset, what: what.into() }
    }
}
