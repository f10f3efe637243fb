//! H.264: parameter sets, avcC, and what a picture's NAL headers tell.

use super::Picture;
use super::nal::unescape;
use crate::bits::BitReader;

/// NAL unit type of a coded slice of an IDR picture.
pub const NAL_IDR: u8 = 5;
/// NAL unit type of supplemental enhancement information.
pub const NAL_SEI: u8 = 6;
/// NAL unit type of a sequence parameter set.
pub const NAL_SPS: u8 = 7;
/// NAL unit type of a picture parameter set.
pub const NAL_PPS: u8 = 8;
/// NAL unit type of an access unit delimiter.
pub const NAL_AUD: u8 = 9;

/// The type of a NAL unit.
pub fn nal_type(nal: &[u8]) -> u8 {
    nal.first().map_or(0, |byte| byte & 0x1f)
}

/// A sequence parameter set, as far as a player is told of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Sps {
    /// `profile_idc`.
    pub profile: u8,
    /// The constraint flags' byte.
    pub constraints: u8,
    /// `level_idc`.
    pub level: u8,
    /// Width in pixels after cropping.
    pub width: u32,
    /// Height in pixels after cropping.
    pub height: u32,
    /// Frames per second, where the VUI tells.
    pub framerate: Option<f64>,
}

impl Sps {
    /// Parses a whole NAL unit; `None` if it is broken.
    pub fn parse(nal: &[u8]) -> Option<Self> {
        if nal_type(nal) != NAL_SPS {
            return None;
        }
        let rbsp = unescape(nal, 1, 4096);
        let mut bits = BitReader::new(&rbsp);
        let profile = u8::try_from(bits.bits(8)?).ok()?;
        let constraints = u8::try_from(bits.bits(8)?).ok()?;
        let level = u8::try_from(bits.bits(8)?).ok()?;
        bits.ue()?; // seq_parameter_set_id
        let chroma_format = chroma_format(&mut bits, profile)?;
        skip_order(&mut bits)?;
        bits.ue()?; // max_num_ref_frames
        bits.skip(1)?; // gaps_in_frame_num_value_allowed_flag
        let width_mbs = bits.ue()?.checked_add(1)?;
        let height_units = bits.ue()?.checked_add(1)?;
        let frame_mbs_only = bits.bit()?;
        if !frame_mbs_only {
            bits.skip(1)?; // mb_adaptive_frame_field_flag
        }
        bits.skip(1)?; // direct_8x8_inference_flag
        let fields = if frame_mbs_only { 1 } else { 2 };
        let mut width = width_mbs.checked_mul(16)?;
        let mut height = height_units.checked_mul(16)?.checked_mul(fields)?;
        if bits.bit()? {
            let (unit_x, unit_y) = match chroma_format {
                1 => (2, 2 * fields),
                2 => (2, fields),
                _ => (1, fields),
            };
            let [left, right, top, bottom] = [bits.ue()?, bits.ue()?, bits.ue()?, bits.ue()?];
            width = width.checked_sub(left.checked_add(right)?.checked_mul(unit_x)?)?;
            height = height.checked_sub(top.checked_add(bottom)?.checked_mul(unit_y)?)?;
        }
        let framerate = if bits.bit()? { vui_framerate(&mut bits) } else { None };
        (width > 0 && height > 0 && width <= 16384 && height <= 16384).then_some(Self {
            profile,
            constraints,
            level,
            width,
            height,
            framerate,
        })
    }

    /// The codec string: `avc3` where parameter sets are in band, `avc1` with an avcC.
    pub fn codec_string(&self, in_band: bool) -> String {
        codec_string(in_band, [self.profile, self.constraints, self.level])
    }
}

fn codec_string(in_band: bool, [profile, constraints, level]: [u8; 3]) -> String {
    let entry = if in_band { "avc3" } else { "avc1" };
    format!("{entry}.{profile:02x}{constraints:02x}{level:02x}")
}

/// Reads up to and including the scaling matrices; gives `chroma_format_idc`.
fn chroma_format(bits: &mut BitReader<'_>, profile: u8) -> Option<u32> {
    const HIGH: [u8; 13] = [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135];
    if !HIGH.contains(&profile) {
        return Some(1);
    }
    let chroma_format = bits.ue()?;
    if chroma_format == 3 {
        bits.skip(1)?; // separate_colour_plane_flag
    }
    bits.ue()?; // bit_depth_luma_minus8
    bits.ue()?; // bit_depth_chroma_minus8
    bits.skip(1)?; // qpprime_y_zero_transform_bypass_flag
    if bits.bit()? {
        let lists = if chroma_format == 3 { 12 } else { 8 };
        for list in 0..lists {
            if bits.bit()? {
                skip_scaling_list(bits, if list < 6 { 16 } else { 64 })?;
            }
        }
    }
    Some(chroma_format)
}

fn skip_scaling_list(bits: &mut BitReader<'_>, size: u32) -> Option<()> {
    let (mut last, mut next) = (8i32, 8i32);
    for _ in 0..size {
        if next != 0 {
            next = (last.checked_add(bits.se()?)?).rem_euclid(256);
        }
        last = if next == 0 { last } else { next };
    }
    Some(())
}

/// Frame numbers and picture order count.
fn skip_order(bits: &mut BitReader<'_>) -> Option<()> {
    bits.ue()?; // log2_max_frame_num_minus4
    match bits.ue()? {
        0 => {
            bits.ue()?; // log2_max_pic_order_cnt_lsb_minus4
        }
        1 => {
            bits.skip(1)?; // delta_pic_order_always_zero_flag
            bits.se()?; // offset_for_non_ref_pic
            bits.se()?; // offset_for_top_to_bottom_field
            let count = bits.ue()?;
            if count > 255 {
                return None;
            }
            for _ in 0..count {
                bits.se()?;
            }
        }
        _ => {}
    }
    Some(())
}

fn vui_framerate(bits: &mut BitReader<'_>) -> Option<f64> {
    if bits.bit()? && bits.bits(8)? == 255 {
        bits.skip(32)?; // sar_width, sar_height
    }
    if bits.bit()? {
        bits.skip(1)?; // overscan_appropriate_flag
    }
    if bits.bit()? {
        bits.skip(4)?; // video_format, video_full_range_flag
        if bits.bit()? {
            bits.skip(24)?; // colour description
        }
    }
    if bits.bit()? {
        bits.ue()?; // chroma_sample_loc_type_top_field
        bits.ue()?; // chroma_sample_loc_type_bottom_field
    }
    if !bits.bit()? {
        return None;
    }
    let units = bits.bits(32)?;
    let scale = bits.bits(32)?;
    let rate = f64::from(scale) / (2.0 * f64::from(units));
    (rate > 0.0 && rate <= 1000.0).then_some(rate)
}

/// What an `avcC` box says.
#[derive(Debug, Clone, PartialEq)]
pub struct AvcC {
    /// The codec string.
    pub codec_string: String,
    /// Bytes of each NAL unit's length prefix.
    pub nal_length_size: usize,
    /// The first parameter set, if the box holds one that parses.
    pub sps: Option<Sps>,
}

impl AvcC {
    /// Parses the box's body; `in_band` for an `avc3` sample entry. `None` if it is broken.
    pub fn parse(body: &[u8], in_band: bool) -> Option<Self> {
        let [1, profile, compatibility, level, length, sets, rest @ ..] = body else {
            return None;
        };
        let sps = (sets & 0x1f > 0).then(|| {
            let (size, rest) = rest.split_first_chunk::<2>()?;
            Sps::parse(rest.get(..usize::from(u16::from_be_bytes(*size)))?)
        });
        Some(Self {
            codec_string: codec_string(in_band, [*profile, *compatibility, *level]),
            nal_length_size: usize::from(length & 3) + 1,
            sps: sps.flatten(),
        })
    }
}

/// What the NAL headers of one access unit tell.
pub fn picture<'a>(nals: impl Iterator<Item = &'a [u8]>) -> Picture {
    let mut picture = Picture { discardable: true, ..Picture::default() };
    let mut slices = 0;
    let mut sps = false;
    for nal in nals {
        match nal_type(nal) {
            kind @ 1..=5 => {
                slices += 1;
                picture.keyframe |= kind == NAL_IDR;
                picture.discardable &= nal[0] & 0x60 == 0;
            }
            NAL_SPS => sps = true,
            NAL_SEI => picture.recovery_point |= nal.get(1) == Some(&6),
            // A prefix NAL unit with the scalable extension names the temporal layer.
            14 if nal.len() >= 4 && nal[1] & 0x80 != 0 => picture.temporal_id = nal[3] >> 5,
            _ => {}
        }
    }
    picture.recovery_point &= sps;
    picture.discardable &= slices > 0;
    picture
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of `tests/data/h264_aac.ts`: x264, High profile, level 1.1.
    const SPS: &[u8] = &[
        0x67, 0x64, 0x00, 0x0b, 0xac, 0x76, 0x11, 0x08, 0x36, 0xc0, 0x44, 0x00, 0x00, 0x03, 0x00,
        0x04, 0x00, 0x00, 0x03, 0x00, 0x50, 0x3c, 0x50, 0xa6, 0x11, 0x80,
    ];

    #[test]
    fn an_sps_gives_codec_string_size_and_rate() {
        let sps = Sps::parse(SPS).unwrap();
        assert_eq!(sps.codec_string(true), "avc3.64000b");
        assert_eq!(sps.codec_string(false), "avc1.64000b");
        assert_eq!((sps.width, sps.height, sps.framerate), (128, 96, Some(10.0)));
        for cut in 0..8 {
            assert_eq!(Sps::parse(&SPS[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn a_picture_is_judged_by_its_slices() {
        let idr = [&[0x67u8, 1][..], &[0x65, 2]];
        assert_eq!(picture(idr.into_iter()), Picture { keyframe: true, ..Picture::default() });
        let unreferenced = [&[0x01u8, 2][..]];
        assert!(picture(unreferenced.into_iter()).discardable);
        let referenced = [&[0x41u8, 2][..]];
        assert!(!picture(referenced.into_iter()).discardable);
        let open_gop = [&[0x67u8, 1][..], &[0x06, 6, 1], &[0x41, 2]];
        assert!(picture(open_gop.into_iter()).recovery_point);
        assert!(!picture(std::iter::empty()).discardable);
    }
}
