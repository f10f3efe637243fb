//! VP9: vpcC and the uncompressed frame header.

use super::Picture;
use crate::bits::BitReader;

/// The codec string of a `vpcC` box's body (version and flags included); `None` if it is broken.
pub fn codec_string(body: &[u8]) -> Option<String> {
    let [_, _, _, _, profile, level, depth, ..] = body else {
        return None;
    };
    Some(format!("vp09.{profile:02}.{level:02}.{:02}", depth >> 4))
}

/// What one frame's, or one superframe's, header tells.
pub fn picture(frame: &[u8]) -> Picture {
    // The last byte of a superframe carries its marker; some of its frames refer to others.
    let superframe = frame.last().is_some_and(|byte| byte & 0xe0 == 0xc0);
    let (keyframe, discardable) = header(frame).unwrap_or_default();
    Picture { keyframe, discardable: discardable && !superframe, ..Picture::default() }
}

/// Whether a frame is a key frame, and whether no other needs it.
///
/// To refresh no reference slot is not enough: a frame also leaves its probabilities and motion
/// vectors to the next one, unless the stream is made to be error resilient.
fn header(frame: &[u8]) -> Option<(bool, bool)> {
    let mut bits = BitReader::new(frame);
    if bits.bits(2)? != 2 {
        return None;
    }
    let profile = bits.bits(1)? | bits.bits(1)? << 1;
    if profile == 3 {
        bits.skip(1)?;
    }
    if bits.bit()? {
        return Some((false, false)); // show_existing_frame
    }
    if !bits.bit()? {
        return Some((true, false));
    }
    let (shown, resilient) = (bits.bit()?, bits.bit()?);
    let intra_only = !shown && bits.bit()?;
    // Otherwise two bits of reset_frame_context come before the flags.
    Some((false, resilient && !intra_only && bits.bits(8)? == 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codec_strings_follow_the_registry() {
        assert_eq!(codec_string(&[1, 0, 0, 0, 0, 10, 0x82]).as_deref(), Some("vp09.00.10.08"));
        assert_eq!(codec_string(&[1, 0, 0]), None);
    }

    #[test]
    fn key_and_unreferenced_frames_are_told() {
        // Marker 10, profile 00, shown from new data, key frame.
        assert!(picture(&[0b1000_0010, 0x49, 0x83, 0x42]).keyframe);
        // Inter frame, shown, resilient, refresh flags 0.
        assert!(picture(&[0b1000_0111, 0b0000_0000, 0b0000_0000]).discardable);
        assert!(!picture(&[0b1000_0111, 0b0000_0100, 0b0000_0000]).discardable);
        // Not resilient: the next frame goes on from its probabilities.
        assert!(!picture(&[0b1000_0110, 0b0000_0000, 0b0000_0000]).discardable);
        assert_eq!(picture(&[]), Picture::default());
    }
}
