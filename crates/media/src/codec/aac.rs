//! AAC: AudioSpecificConfig and ADTS.

use bytes::Bytes;

use crate::bits::BitReader;

/// Samples in one AAC frame.
pub const FRAME_SAMPLES: u32 = 1024;

const RATES: [u32; 13] =
    [96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350];

/// Channels by `channelConfiguration`; 0 means "told elsewhere".
const CHANNELS: [u32; 16] = [0, 1, 2, 3, 4, 5, 6, 8, 0, 0, 0, 7, 8, 0, 8, 0];

/// What an AudioSpecificConfig says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudioSpecificConfig {
    /// `audioObjectType`: 2 is AAC-LC, 5 HE-AAC, 29 HE-AAC v2.
    pub object_type: u32,
    /// Samples per second as heard.
    pub sample_rate: u32,
    /// Channels, where the config tells them.
    pub channels: Option<u32>,
}

impl AudioSpecificConfig {
    /// Parses the config; `None` if it is broken.
    pub fn parse(config: &[u8]) -> Option<Self> {
        let mut bits = BitReader::new(config);
        let object_type = object_type(&mut bits)?;
        let mut sample_rate = rate(&mut bits)?;
        let channels = CHANNELS[bits.bits(4)? as usize];
        if matches!(object_type, 5 | 29) {
            sample_rate = rate(&mut bits)?;
        }
        Some(Self { object_type, sample_rate, channels: (channels > 0).then_some(channels) })
    }

    /// The codec string.
    pub fn codec_string(&self) -> String {
        format!("mp4a.40.{}", self.object_type)
    }
}

fn object_type(bits: &mut BitReader<'_>) -> Option<u32> {
    match bits.bits(5)? {
        31 => Some(32 + bits.bits(6)?),
        kind => Some(kind),
    }
}

fn rate(bits: &mut BitReader<'_>) -> Option<u32> {
    match bits.bits(4)? {
        15 => bits.bits(24).filter(|rate| *rate > 0),
        index => RATES.get(index as usize).copied(),
    }
}

/// One ADTS header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Adts {
    object_type: u8,
    rate_index: u8,
    channel_config: u8,
    /// Bytes of the header itself: 7, or 9 with a checksum.
    pub header_bytes: usize,
    /// Bytes of header and frame together.
    pub total_bytes: usize,
}

/// What the start of some bytes is, read as ADTS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdtsStart {
    /// A header.
    Header(Adts),
    /// Too few bytes to tell.
    NeedMore,
    /// No header, or one that contradicts itself.
    Broken,
}

impl Adts {
    /// Reads a header.
    pub fn parse(data: &[u8]) -> AdtsStart {
        let Some(head) = data.first_chunk::<7>() else {
            return AdtsStart::NeedMore;
        };
        let rate_index = head[2] >> 2 & 0x0f;
        let header_bytes = if head[1] & 1 == 1 { 7 } else { 9 };
        let total_bytes =
            usize::from(head[3] & 3) << 11 | usize::from(head[4]) << 3 | usize::from(head[5]) >> 5;
        // Several raw blocks behind one header cannot be told apart without decoding.
        let single_block = head[6] & 3 == 0;
        if head[0] != 0xff
            || head[1] & 0xf6 != 0xf0
            || usize::from(rate_index) >= RATES.len()
            || total_bytes <= header_bytes
            || !single_block
        {
            return AdtsStart::Broken;
        }
        AdtsStart::Header(Self {
            object_type: (head[2] >> 6) + 1,
            rate_index,
            channel_config: (head[2] & 1) << 2 | head[3] >> 6,
            header_bytes,
            total_bytes,
        })
    }

    /// The AudioSpecificConfig that says the same.
    pub fn specific_config(&self) -> Bytes {
        let word = u16::from(self.object_type) << 11
            | u16::from(self.rate_index) << 7
            | u16::from(self.channel_config) << 3;
        Bytes::copy_from_slice(&word.to_be_bytes())
    }

    /// Samples per second.
    pub fn sample_rate(&self) -> u32 {
        RATES[usize::from(self.rate_index)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configs_give_rate_channels_and_codec_string() {
        let lc = AudioSpecificConfig::parse(&[0x11, 0x90]);
        assert_eq!(
            lc,
            Some(AudioSpecificConfig { object_type: 2, sample_rate: 48000, channels: Some(2) })
        );
        assert_eq!(lc.map(|lc| lc.codec_string()).as_deref(), Some("mp4a.40.2"));
        // HE-AAC: core 24 kHz, heard at 48 kHz.
        let he = AudioSpecificConfig::parse(&[0x2b, 0x11, 0x88, 0x00]);
        assert_eq!(he.map(|he| (he.object_type, he.sample_rate)), Some((5, 48000)));
        assert_eq!(AudioSpecificConfig::parse(&[0x11]), None);
    }

    #[test]
    fn adts_becomes_a_config_that_says_the_same() {
        let header = [0xff, 0xf1, 0x4c, 0x80, 0x01, 0x7f, 0xfc];
        let AdtsStart::Header(adts) = Adts::parse(&header) else {
            panic!("a header");
        };
        assert_eq!((adts.header_bytes, adts.total_bytes, adts.sample_rate()), (7, 11, 48000));
        let config = AudioSpecificConfig::parse(&adts.specific_config());
        assert_eq!(config.map(|config| (config.object_type, config.channels)), Some((2, Some(2))));
        assert_eq!(Adts::parse(&header[..6]), AdtsStart::NeedMore);
        assert_eq!(Adts::parse(&[0u8; 7]), AdtsStart::Broken);
    }
}
