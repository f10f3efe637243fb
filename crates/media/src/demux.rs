//! The shape that all demuxers share, and the one that finds out which to use.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::probe::{Container, Probe, probe};
use crate::{Error, Frame, Kind, TrackConfig, mp4, ts};

/// What a demuxer gives out.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// All tracks as they are from here on.
    Tracks(Vec<TrackConfig>),
    /// The next frame, in the order in which the input completes them.
    Frame(Frame),
    /// Something was left out; the rest goes on.
    Warning(Warning),
}

/// Something that was left out of the output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// A track in a codec that cannot pass.
    UnsupportedTrack {
        /// The container's number for it.
        id: u32,
        /// The codec's name.
        codec: String,
    },
    /// Transport packets are missing, so a frame was damaged and left out.
    PacketLoss {
        /// On which track.
        id: u32,
    },
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Warning::UnsupportedTrack { id, codec } => write!(
                f,
                "track {id} is {codec}, which browsers cannot decode, and is left out; to have it, \
                 transcode: ffmpeg -i INPUT -c:v copy -c:a aac -f mpegts - | publisher --url -"
            ),
            Warning::PacketLoss { id } => {
                write!(f, "transport packets of track {id} are missing; a frame was left out")
            }
        }
    }
}

/// Container bytes in, events out. See the crate's contract.
pub trait Demuxer {
    /// Takes the next bytes of the input.
    ///
    /// # Errors
    ///
    /// The input cannot be understood any further.
    fn handle_bytes(&mut self, bytes: Bytes) -> Result<(), Error>;

    /// Takes the end of the input.
    ///
    /// # Errors
    ///
    /// The input ended without describing a track that can pass.
    fn handle_end(&mut self) -> Result<(), Error>;

    /// Gives the next event, until there is none.
    fn poll_event(&mut self) -> Option<Event>;
}

/// Demuxes whichever streamable container comes in: fragmented MP4 or MPEG-TS.
#[derive(Debug, Default)]
pub struct StreamDemuxer {
    state: State,
}

#[derive(Debug)]
enum State {
    /// Too few bytes yet to tell.
    Probing(BytesMut),
    Fragmented(Box<mp4::FragmentedDemuxer>),
    Ts(Box<ts::TsDemuxer>),
}

impl Default for State {
    fn default() -> Self {
        State::Probing(BytesMut::new())
    }
}

impl StreamDemuxer {
    /// A demuxer that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    fn inner(&mut self) -> Option<&mut dyn Demuxer> {
        match &mut self.state {
            State::Probing(_) => None,
            State::Fragmented(demuxer) => Some(demuxer.as_mut()),
            State::Ts(demuxer) => Some(demuxer.as_mut()),
        }
    }
}

impl Demuxer for StreamDemuxer {
    fn handle_bytes(&mut self, bytes: Bytes) -> Result<(), Error> {
        let State::Probing(head) = &mut self.state else {
            return self.inner().map_or(Ok(()), |demuxer| demuxer.handle_bytes(bytes));
        };
        head.extend_from_slice(&bytes);
        let Probe::Is(container) = probe(head)? else {
            return Ok(());
        };
        let head = head.split().freeze();
        self.state = match container {
            Container::Mp4 => State::Fragmented(Box::default()),
            Container::MpegTs => State::Ts(Box::default()),
        };
        self.handle_bytes(head)
    }

    fn handle_end(&mut self) -> Result<(), Error> {
        match &mut self.state {
            State::Probing(head) if head.is_empty() => Err(Error::NoTracks),
            State::Probing(_) => Err(Error::NotMedia("is too short to tell")),
            State::Fragmented(demuxer) => demuxer.handle_end(),
            State::Ts(demuxer) => demuxer.handle_end(),
        }
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.inner()?.poll_event()
    }
}

/// Events waiting to be polled.
pub(crate) type Events = VecDeque<Event>;

/// Which of a source's tracks can pass, and whether that is enough.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    supported: Vec<Kind>,
    unsupported: Vec<(u32, Kind, String)>,
}

impl Selection {
    pub(crate) fn supported(&mut self, kind: Kind) {
        self.supported.push(kind);
    }

    pub(crate) fn unsupported(&mut self, id: u32, kind: Kind, codec: String) {
        self.unsupported.push((id, kind, codec));
    }

    /// Video that cannot pass is an error, and so is nothing at all; audio beside video that can
    /// pass is only worth a warning.
    pub(crate) fn finish(self) -> Result<Vec<Warning>, Error> {
        let lost_video = self.unsupported.iter().any(|(_, kind, _)| *kind == Kind::Video);
        if self.supported.is_empty() || (lost_video && !self.supported.contains(&Kind::Video)) {
            if self.unsupported.is_empty() {
                return Err(Error::NoTracks);
            }
            let found: Vec<_> = self
                .unsupported
                .iter()
                .map(|(id, kind, codec)| format!("{} track {id} is {codec}", kind.as_str()))
                .collect();
            return Err(Error::NoSupportedTrack { found: found.join(", ") });
        }
        let warn = |(id, _, codec)| Warning::UnsupportedTrack { id, codec };
        Ok(self.unsupported.into_iter().map(warn).collect())
    }
}
