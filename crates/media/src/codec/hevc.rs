//! HEVC: parameter sets, hvcC, and what a picture's NAL headers tell.

use super::Picture;
use super::nal::unescape;
use crate::bits::BitReader;

/// NAL unit type of a sequence parameter set.
pub const NAL_SPS: u8 = 33;
/// NAL unit type of an access unit delimiter.
pub const NAL_AUD: u8 = 35;

/// The type of a NAL unit.
pub fn nal_type(nal: &[u8]) -> u8 {
    nal.first().map_or(0, |byte| byte >> 1 & 0x3f)
}

/// Profile, tier and level, as parameter sets and `hvcC` both carry them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileTierLevel {
    space: u8,
    high_tier: bool,
    profile: u8,
    compatibility: u32,
    constraints: [u8; 6],
    level: u8,
}

impl ProfileTierLevel {
    /// Parses the twelve bytes from `general_profile_space` to `general_level_idc`.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (head, rest) = bytes.split_first()?;
        let (compatibility, rest) = rest.split_first_chunk::<4>()?;
        let (constraints, rest) = rest.split_first_chunk::<6>()?;
        Some(Self {
            space: head >> 6,
            high_tier: head & 0x20 != 0,
            profile: head & 0x1f,
            compatibility: u32::from_be_bytes(*compatibility),
            constraints: *constraints,
            level: *rest.first()?,
        })
    }

    /// The codec string: `hev1` where parameter sets are in band, `hvc1` with an hvcC.
    pub fn codec_string(&self, in_band: bool) -> String {
        let entry = if in_band { "hev1" } else { "hvc1" };
        let space = ["", "A", "B", "C"][usize::from(self.space & 3)];
        let tier = if self.high_tier { 'H' } else { 'L' };
        let mut string = format!(
            "{entry}.{space}{}.{:X}.{tier}{}",
            self.profile,
            self.compatibility.reverse_bits(),
            self.level
        );
        let used = self.constraints.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
        for byte in &self.constraints[..used] {
            string.push_str(&format!(".{byte:X}"));
        }
        string
    }
}

/// A sequence parameter set, as far as a player is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sps {
    /// Profile, tier and level.
    pub ptl: ProfileTierLevel,
    /// Temporal layers in the stream.
    pub temporal_layers: u8,
    /// Width in pixels after cropping.
    pub width: u32,
    /// Height in pixels after cropping.
    pub height: u32,
}

impl Sps {
    /// Parses a whole NAL unit; `None` if it is broken.
    pub fn parse(nal: &[u8]) -> Option<Self> {
        if nal_type(nal) != NAL_SPS {
            return None;
        }
        let rbsp = unescape(nal, 2, 4096);
        let sub_layers = usize::from(rbsp.first()? >> 1 & 7);
        let ptl = ProfileTierLevel::parse(rbsp.get(1..)?)?;
        let mut bits = BitReader::new(&rbsp);
        bits.skip(8 + 12 * 8)?;
        let mut present = Vec::with_capacity(sub_layers);
        for _ in 0..sub_layers {
            present.push((bits.bit()?, bits.bit()?));
        }
        if sub_layers > 0 {
            bits.skip(2 * (8 - sub_layers))?;
        }
        for (profile, level) in present {
            bits.skip(if profile { 88 } else { 0 } + if level { 8 } else { 0 })?;
        }
        bits.ue()?; // sps_seq_parameter_set_id
        let chroma_format = bits.ue()?;
        if chroma_format == 3 {
            bits.skip(1)?; // separate_colour_plane_flag
        }
        let (mut width, mut height) = (bits.ue()?, bits.ue()?);
        if bits.bit()? {
            let (unit_x, unit_y) = match chroma_format {
                1 => (2, 2),
                2 => (2, 1),
                _ => (1, 1),
            };
            let [left, right, top, bottom] = [bits.ue()?, bits.ue()?, bits.ue()?, bits.ue()?];
            width = width.checked_sub(left.checked_add(right)?.checked_mul(unit_x)?)?;
            height = height.checked_sub(top.checked_add(bottom)?.checked_mul(unit_y)?)?;
        }
        let temporal_layers = u8::try_from(sub_layers).ok()? + 1;
        (width > 0 && height > 0 && width <= 16384 && height <= 16384).then_some(Self {
            ptl,
            temporal_layers,
            width,
            height,
        })
    }
}

/// What an `hvcC` box says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HvcC {
    /// The codec string.
    pub codec_string: String,
    /// Bytes of each NAL unit's length prefix.
    pub nal_length_size: usize,
}

impl HvcC {
    /// Parses the box's body; `in_band` for a `hev1` sample entry. `None` if it is broken.
    pub fn parse(body: &[u8], in_band: bool) -> Option<Self> {
        if body.first() != Some(&1) || body.len() < 23 {
            return None;
        }
        let ptl = ProfileTierLevel::parse(&body[1..])?;
        Some(Self {
            codec_string: ptl.codec_string(in_band),
            nal_length_size: usize::from(body[21] & 3) + 1,
        })
    }
}

/// What the NAL headers of one access unit tell.
///
/// Only pictures of the base temporal layer marked as sub-layer non-reference count as
/// discardable; higher layers are told apart by their `temporal_id`.
pub fn picture<'a>(nals: impl Iterator<Item = &'a [u8]>) -> Picture {
    let mut picture = Picture { discardable: true, ..Picture::default() };
    let mut slices = 0;
    for nal in nals {
        let kind = nal_type(nal);
        if kind > 31 || nal.len() < 2 {
            continue;
        }
        slices += 1;
        picture.keyframe |= (16..=23).contains(&kind);
        picture.temporal_id = picture.temporal_id.max((nal[1] & 7).saturating_sub(1));
        picture.discardable &= kind <= 14 && kind.is_multiple_of(2);
    }
    picture.discardable &= slices > 0;
    picture
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codec_strings_follow_the_registry() {
        let main = [0x01, 0x60, 0, 0, 0, 0xb0, 0, 0, 0, 0, 0, 93];
        let ptl = ProfileTierLevel::parse(&main);
        assert_eq!(ptl.map(|ptl| ptl.codec_string(false)).as_deref(), Some("hvc1.1.6.L93.B0"));
        let main10_high = [0x22, 0x20, 0, 0, 0, 0x90, 0, 0, 0, 0, 0, 153];
        let ptl = ProfileTierLevel::parse(&main10_high);
        assert_eq!(ptl.map(|ptl| ptl.codec_string(true)).as_deref(), Some("hev1.2.4.H153.90"));
    }

    #[test]
    fn a_picture_is_judged_by_its_slices() {
        let idr = [&[0x42u8, 1, 1][..], &[0x26, 1, 0xaf]];
        assert!(picture(idr.into_iter()).keyframe);
        let trail_n = [&[0x00u8, 1, 0xaf][..]];
        assert!(picture(trail_n.into_iter()).discardable);
        let layer_one = [&[0x02u8, 2, 0xaf][..]];
        assert_eq!(picture(layer_one.into_iter()).temporal_id, 1);
    }
}
