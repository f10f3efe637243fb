//! LOC ("Low Overhead Media Container"): the properties that travel beside a payload.
//!
//! A LOC payload is a [`Frame`](crate::Frame)'s payload as it stands. This crate knows no MoQT,
//! so properties come as a list for the caller to encode.

use bytes::Bytes;

/// Property *Timestamp*: without *Timescale*, wall-clock microseconds since the Unix epoch.
pub const TIMESTAMP: u64 = 0x10;
/// Property *Timescale*: units per second of *Timestamp*. Not sent by us.
pub const TIMESCALE: u64 = 0x08;
/// Property *Video Config*: the decoder description, beside a keyframe.
pub const VIDEO_CONFIG: u64 = 0x0d;
/// Property *Audio Config*: the decoder description, beside the first object of a group.
pub const AUDIO_CONFIG: u64 = 0x0f;

/// A property's value: an integer where its type is even, bytes where it is odd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PropertyValue {
    /// For an even type.
    Int(u64),
    /// For an odd type.
    Bytes(Bytes),
}

/// The properties of one object, in ascending order of type.
///
/// `config` is the track's description where this object is to carry it: a video keyframe, or the
/// first audio object of a group.
pub fn properties(
    kind: crate::Kind,
    capture_unix_us: u64,
    config: Option<&Bytes>,
) -> Vec<(u64, PropertyValue)> {
    let mut list = Vec::with_capacity(2);
    if let Some(config) = config {
        let property = match kind {
            crate::Kind::Video => VIDEO_CONFIG,
            crate::Kind::Audio => AUDIO_CONFIG,
        };
        list.push((property, PropertyValue::Bytes(config.clone())));
    }
    list.push((TIMESTAMP, PropertyValue::Int(capture_unix_us)));
    list.sort_by_key(|(property, _)| *property);
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    #[test]
    fn types_and_values_agree_in_parity_and_ascend() {
        let config = Bytes::from_static(b"\x01");
        for kind in [Kind::Video, Kind::Audio] {
            let list = properties(kind, 7, Some(&config));
            assert_eq!(list.len(), 2);
            assert!(list.is_sorted_by_key(|(property, _)| *property));
            for (property, value) in list {
                assert_eq!(property % 2 == 0, matches!(value, PropertyValue::Int(_)));
            }
        }
        assert_eq!(properties(Kind::Audio, 7, None), [(TIMESTAMP, PropertyValue::Int(7))]);
    }
}
