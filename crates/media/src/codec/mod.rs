//! What each codec's own bytes say: codec strings, sizes, and which frames others depend on.

pub mod aac;
pub mod av1;
pub mod h264;
pub mod hevc;
pub mod nal;
pub mod opus;
pub mod vp9;

/// What a coded picture's own bytes tell about its place among the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Picture {
    /// Decoding can start here, by the codec's strictest word for it (IDR, IRAP, key frame).
    pub keyframe: bool,
    /// Intra-coded with a recovery point: a start that some decoders accept.
    pub recovery_point: bool,
    /// No other frame refers to this one.
    pub discardable: bool,
    /// Temporal layer; 0 is the base.
    pub temporal_id: u8,
}

impl Picture {
    /// Reads a sample in the form in which MP4 stores it. `nal_length_size` matters to H.264 and
    /// HEVC only.
    pub fn of_sample(codec: crate::Codec, sample: &[u8], nal_length_size: usize) -> Self {
        match codec {
            crate::Codec::H264 => h264::picture(nal::length_prefixed(sample, nal_length_size)),
            crate::Codec::Hevc => hevc::picture(nal::length_prefixed(sample, nal_length_size)),
            crate::Codec::Av1 => av1::picture(sample),
            crate::Codec::Vp9 => vp9::picture(sample),
            crate::Codec::Aac | crate::Codec::Opus => {
                Picture { keyframe: true, ..Picture::default() }
            }
        }
    }
}
