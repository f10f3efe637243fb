//! Media packaging without I/O: container bytes in, tracks and frames out, and the words
//! (LOC properties, MSF catalog) in which a MoQT broadcast describes them.
//!
//! # Contract
//!
//! A [`Demuxer`] is fed with [`Demuxer::handle_bytes`] in chunks of any size and drained with
//! [`Demuxer::poll_event`] until it returns `None`; [`Demuxer::handle_end`] then flushes what
//! only an end can complete. Where the bytes are cut never changes what comes out.
//! [`Event::Tracks`] always comes before the first frame of the tracks it names, and comes again
//! whenever they change. After an `Err` the demuxer is spent: make a new one.
//!
//! [`mp4::Mp4File`] is the same for a seekable progressive MP4, where the index may follow
//! the media.
//!
//! * Frames pass through untouched: MP4 samples keep their length prefixes and bring a decoder
//!   description; MPEG-TS video stays Annex B with parameter sets in band. Both forms are what
//!   WebCodecs calls a chunk, and so is a LOC payload.
//! * No clock, socket, file or thread is used here; time arrives as timestamps inside the media.
//! * Input is not trusted: sizes are bounded before anything is allocated, and broken input is an
//!   [`Error`] that names the place, never a panic.

mod bits;
pub mod codec;
mod demux;
mod error;
pub mod loc;
pub mod mp4;
pub mod msf;
mod probe;
mod track;
pub mod ts;

pub use demux::{Demuxer, Event, StreamDemuxer, Warning};
pub use error::Error;
pub use probe::{Container, PROBE_BYTES, Probe, probe};
pub use track::{Codec, Format, Frame, Kind, TrackConfig};
