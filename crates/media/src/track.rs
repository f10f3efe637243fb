//! The output model: what a track is, and one coded frame of it.

use bytes::Bytes;

/// What a track carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Pictures.
    Video,
    /// Sound.
    Audio,
}

impl Kind {
    /// The word for it in an MSF `role` and in track names.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Video => "video",
            Kind::Audio => "audio",
        }
    }
}

/// The codecs that pass through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// H.264 / AVC.
    H264,
    /// H.265 / HEVC.
    Hevc,
    /// AV1.
    Av1,
    /// VP9.
    Vp9,
    /// AAC, raw frames without ADTS.
    Aac,
    /// Opus packets.
    Opus,
}

impl Codec {
    /// Video or audio.
    pub fn kind(self) -> Kind {
        match self {
            Codec::H264 | Codec::Hevc | Codec::Av1 | Codec::Vp9 => Kind::Video,
            Codec::Aac | Codec::Opus => Kind::Audio,
        }
    }

    /// Its usual name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Codec::H264 => "H.264",
            Codec::Hevc => "HEVC",
            Codec::Av1 => "AV1",
            Codec::Vp9 => "VP9",
            Codec::Aac => "AAC",
            Codec::Opus => "Opus",
        }
    }
}

/// What only pictures or only sound have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Format {
    /// Pictures.
    Video {
        /// Coded width in pixels, after cropping.
        width: u32,
        /// Coded height in pixels, after cropping.
        height: u32,
        /// Frames per second where the source tells.
        framerate: Option<f64>,
    },
    /// Sound.
    Audio {
        /// Samples per second.
        sample_rate: u32,
        /// Channels.
        channels: u32,
    },
}

/// A track as a decoder needs to know it.
#[derive(Debug, Clone, PartialEq)]
pub struct TrackConfig {
    /// The container's own number for the track (MP4 track ID, TS PID); unique in its source.
    pub id: u32,
    /// The codec.
    pub codec: Codec,
    /// The codec string of RFC 6381 and the WebCodecs registry, such as `avc1.42c01f`.
    pub codec_string: String,
    /// WebCodecs `description`: avcC, hvcC, AudioSpecificConfig or OpusHead. `None` where the
    /// chunks describe themselves (Annex B, AV1, VP9, mono and stereo Opus).
    pub description: Option<Bytes>,
    /// Picture size or sample rate.
    pub format: Format,
    /// Units per second of the source's timestamps.
    pub timescale: u32,
    /// Language tag, where the source names one.
    pub language: Option<String>,
}

impl TrackConfig {
    /// Video or audio.
    pub fn kind(&self) -> Kind {
        self.codec.kind()
    }
}

/// One coded frame: a WebCodecs chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The [`TrackConfig::id`] it belongs to.
    pub track: u32,
    /// Presentation time in microseconds on the source's own timeline.
    pub pts_us: i64,
    /// Decode time in microseconds, on the same timeline.
    pub dts_us: i64,
    /// Decoding can start here. Every audio frame is one.
    pub keyframe: bool,
    /// No other frame refers to this one.
    pub discardable: bool,
    /// Temporal layer; 0 is the base.
    pub temporal_id: u8,
    /// The chunk.
    pub payload: Bytes,
}

/// `value` units of `1 / timescale` seconds in microseconds, rounded to nearest and saturating.
pub(crate) fn to_micros(value: i128, timescale: u32) -> i64 {
    let scale = i128::from(timescale.max(1));
    let micros = (value * 1_000_000 + scale / 2).div_euclid(scale);
    i64::try_from(micros).unwrap_or(if micros < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn microseconds_round_to_nearest_and_saturate() {
        assert_eq!(to_micros(1, 3), 333_333);
        assert_eq!(to_micros(2, 3), 666_667);
        assert_eq!(to_micros(-1, 3), -333_333);
        assert_eq!(to_micros(i128::from(u64::MAX), 1), i64::MAX);
        assert_eq!(to_micros(5, 0), 5_000_000);
    }
}
