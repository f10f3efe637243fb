//! MP4 in its three forms: fragments from a stream ([`FragmentedDemuxer`]), and files, whether
//! fragmented or progressive, with the index first or last ([`Mp4File`]).
//!
//! Box headers and container boxes are walked here, so that an error can name box and offset and
//! codec configurations stay the bytes they were; `mp4-atom` reads the plain leaf boxes.

mod boxes;
mod file;
mod fragment;
mod movie;
mod sample_entry;
mod stream;
mod table;

pub use file::Mp4File;
pub use stream::FragmentedDemuxer;

/// Largest `moov` accepted: some twenty hours of progressive film.
const MAX_MOOV_BYTES: u64 = 64 << 20;
/// Largest `moof` accepted: an hour in one fragment.
const MAX_MOOF_BYTES: u64 = 16 << 20;
/// Largest single sample accepted.
const MAX_SAMPLE_BYTES: u32 = 16 << 20;
/// Most samples in one fragment.
const MAX_FRAGMENT_SAMPLES: usize = 1 << 20;
/// Most tracks in one movie.
const MAX_TRACKS: usize = 32;

/// Where one sample lies and when it is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sample {
    /// From the start of the input.
    offset: u64,
    size: u32,
    /// In the track's timescale.
    dts: i128,
    /// Composition time less decode time, in the track's timescale.
    composition: i64,
    sync: bool,
}

impl Sample {
    /// Turns the sample's bytes into a frame of `track`.
    fn frame(&self, track: &movie::Track, payload: bytes::Bytes) -> crate::Frame {
        let timescale = track.config.timescale;
        let shift = i128::from(track.edit_shift_us);
        let at = |time: i128| {
            let micros = i128::from(crate::track::to_micros(time, timescale)) + shift;
            i64::try_from(micros).unwrap_or(i64::MAX)
        };
        let picture =
            crate::codec::Picture::of_sample(track.config.codec, &payload, track.nal_length_size);
        crate::Frame {
            track: track.config.id,
            pts_us: at(self.dts + i128::from(self.composition)),
            dts_us: at(self.dts),
            keyframe: self.sync,
            discardable: picture.discardable,
            temporal_id: picture.temporal_id,
            payload,
        }
    }
}
