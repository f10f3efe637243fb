//! AV1: av1C and the temporal layer of a temporal unit.

use super::Picture;

/// The codec string of an `av1C` box's body; `None` if it is broken.
pub fn codec_string(body: &[u8]) -> Option<String> {
    let [0x81, profile_level, flags, ..] = body else {
        return None;
    };
    let (profile, level) = (profile_level >> 5, profile_level & 0x1f);
    let tier = if flags & 0x80 != 0 { 'H' } else { 'M' };
    let depth = match (flags & 0x40 != 0, profile == 2 && flags & 0x20 != 0) {
        (true, true) => 12,
        (true, false) => 10,
        (false, _) => 8,
    };
    Some(format!("av01.{profile}.{level:02}{tier}.{depth:02}"))
}

/// What the OBU headers of one temporal unit tell.
///
/// Key frames are the container's to name: a sequence header alone does not make one.
pub fn picture(unit: &[u8]) -> Picture {
    let mut picture = Picture::default();
    let mut rest = unit;
    while let Some((obu, tail)) = next_obu(rest) {
        // OBU_FRAME_HEADER and OBU_FRAME.
        if matches!(obu.kind, 3 | 6) {
            picture.temporal_id = picture.temporal_id.max(obu.temporal_id);
        }
        picture.recovery_point |= obu.kind == 1;
        rest = tail;
    }
    picture
}

struct Obu {
    kind: u8,
    temporal_id: u8,
}

fn next_obu(data: &[u8]) -> Option<(Obu, &[u8])> {
    let (header, mut rest) = data.split_first()?;
    let mut temporal_id = 0;
    if header & 4 != 0 {
        let (extension, tail) = rest.split_first()?;
        temporal_id = extension >> 5;
        rest = tail;
    }
    let size = if header & 2 != 0 {
        let (size, tail) = leb128(rest)?;
        rest = tail;
        size
    } else {
        rest.len()
    };
    Some((Obu { kind: header >> 3 & 0x0f, temporal_id }, rest.get(size..)?))
}

fn leb128(data: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0u64;
    for (at, byte) in data.iter().enumerate().take(8) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((usize::try_from(value).ok()?, &data[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codec_strings_follow_the_registry() {
        assert_eq!(codec_string(&[0x81, 0x04, 0x0c, 0]).as_deref(), Some("av01.0.04M.08"));
        assert_eq!(codec_string(&[0x81, 0x4d, 0xe0, 0]).as_deref(), Some("av01.2.13H.12"));
        assert_eq!(codec_string(&[0x01, 0x04]), None);
    }

    #[test]
    fn the_temporal_layer_is_read_and_broken_sizes_end_the_walk() {
        // Temporal delimiter, then a frame OBU of layer 1 with two bytes.
        let unit = [0x12, 0x00, 0x36, 0x20, 0x02, 0xaa, 0xbb];
        assert_eq!(picture(&unit).temporal_id, 1);
        assert_eq!(picture(&[0x32, 0xff, 0xff, 0xff]).temporal_id, 0);
    }
}
