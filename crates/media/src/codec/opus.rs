//! Opus: OpusHead from `dOps`, packet durations, and the framing used in MPEG-TS.

use bytes::{BufMut, Bytes, BytesMut};

/// What a `dOps` box says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpusConfig {
    /// Channels.
    pub channels: u32,
    /// OpusHead, needed by a decoder only for more than two channels.
    pub description: Option<Bytes>,
}

impl OpusConfig {
    /// Parses the box's body; `None` if it is broken.
    pub fn parse_dops(body: &[u8]) -> Option<Self> {
        let (fixed, mapping) = body.split_first_chunk::<11>()?;
        let [0, channels, skip_hi, skip_lo, r0, r1, r2, r3, gain_hi, gain_lo, family] = *fixed
        else {
            return None;
        };
        if channels == 0 || (family == 0 && channels > 2) {
            return None;
        }
        let description = if family == 0 {
            None
        } else {
            let mapping = mapping.get(..2 + usize::from(channels))?;
            let mut head = BytesMut::with_capacity(19 + mapping.len());
            head.put_slice(b"OpusHead\x01");
            head.put_u8(channels);
            head.put_slice(&[skip_lo, skip_hi, r3, r2, r1, r0, gain_lo, gain_hi, family]);
            head.put_slice(mapping);
            Some(head.freeze())
        };
        Some(Self { channels: u32::from(channels), description })
    }
}

/// How long a packet sounds, in microseconds; `None` if it is broken.
pub fn packet_duration_us(packet: &[u8]) -> Option<u32> {
    let toc = *packet.first()?;
    let frame_us = match toc >> 3 {
        config @ 0..=11 => [10_000, 20_000, 40_000, 60_000][usize::from(config % 4)],
        config @ 12..=15 => [10_000, 20_000][usize::from(config % 2)],
        config => [2_500, 5_000, 10_000, 20_000][usize::from(config % 4)],
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(packet.get(1)? & 0x3f),
    };
    let total = frame_us * frames;
    (1..=120_000).contains(&total).then_some(total)
}

/// Takes the first packet off an MPEG-TS Opus access unit: `(packet, rest)`. `None` if the
/// control header is broken or promises more than there is.
pub fn split_ts_packet(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let [0x7f, flags, rest @ ..] = data else {
        return None;
    };
    if flags & 0xe0 != 0xe0 {
        return None;
    }
    let mut rest = rest;
    let mut size = 0usize;
    loop {
        let (byte, tail) = rest.split_first()?;
        size += usize::from(*byte);
        rest = tail;
        if *byte != 0xff {
            break;
        }
    }
    let trims = 2 * usize::from(flags >> 4 & 1) + 2 * usize::from(flags >> 3 & 1);
    rest = rest.get(trims..)?;
    if flags & 4 != 0 {
        let (length, tail) = rest.split_first()?;
        rest = tail.get(usize::from(*length)..)?;
    }
    rest.split_at_checked(size).filter(|(packet, _)| !packet.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dops_of_stereo_needs_no_description_and_surround_does() {
        let stereo = [0, 2, 1, 0x38, 0, 0, 0xbb, 0x80, 0, 0, 0];
        assert_eq!(
            OpusConfig::parse_dops(&stereo),
            Some(OpusConfig { channels: 2, description: None })
        );
        let surround = [0, 6, 1, 0x38, 0, 0, 0xbb, 0x80, 0, 0, 1, 4, 2, 0, 4, 1, 2, 3, 5];
        let config = OpusConfig::parse_dops(&surround);
        let head = config.and_then(|config| config.description);
        assert_eq!(
            head.as_deref(),
            Some(
                &b"OpusHead\x01\x06\x38\x01\x80\xbb\0\0\0\0\x01\x04\x02\0\x04\x01\x02\x03\x05"[..]
            )
        );
        assert_eq!(OpusConfig::parse_dops(&surround[..15]), None);
    }

    #[test]
    fn durations_come_from_the_first_bytes() {
        assert_eq!(packet_duration_us(&[0xfc]), Some(20_000));
        assert_eq!(packet_duration_us(&[0xfd]), Some(40_000));
        assert_eq!(packet_duration_us(&[0x03, 2]), Some(20_000));
        assert_eq!(packet_duration_us(&[0x03, 0]), None);
        assert_eq!(packet_duration_us(&[]), None);
    }

    #[test]
    fn ts_framing_is_taken_off() {
        let unit = [0x7f, 0xf0, 2, 1, 0x38, 0xaa, 0xbb, 0x7f, 0xe0, 1, 0xcc];
        let (packet, rest) = split_ts_packet(&unit).unwrap_or_default();
        assert_eq!(packet, [0xaa, 0xbb]);
        assert_eq!(split_ts_packet(rest), Some((&[0xcc][..], &[][..])));
        assert_eq!(split_ts_packet(&[0x7f, 0xe0, 5, 1]), None);
        assert_eq!(split_ts_packet(&[0x7f, 0xe0, 0]), None);
    }
}
