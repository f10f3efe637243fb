//! Properties of tracks and objects: key-value pairs ("Key-Value-Pair Structure", "Properties").

use bytes::{Bytes, BytesMut};

use crate::{IntCoding, ProtocolError, Reader, Writer};

/// Property types that this crate or its users look at ("MOQT Properties"; LOC's from its draft).
pub mod property {
    /// Track: OBJECT_DELIVERY_TIMEOUT, milliseconds.
    pub const OBJECT_DELIVERY_TIMEOUT: u64 = 0x02;
    /// Track: MAX_CACHE_DURATION, milliseconds.
    pub const MAX_CACHE_DURATION: u64 = 0x04;
    /// Track: SUBGROUP_DELIVERY_TIMEOUT, milliseconds.
    pub const SUBGROUP_DELIVERY_TIMEOUT: u64 = 0x06;
    /// Track or object: properties that nobody may change.
    pub const IMMUTABLE: u64 = 0x0b;
    /// Track: DEFAULT_PUBLISHER_PRIORITY, 0 to 255.
    pub const DEFAULT_PUBLISHER_PRIORITY: u64 = 0x0e;
    /// Track: DEFAULT_PUBLISHER_GROUP_ORDER, 1 ascending or 2 descending.
    pub const DEFAULT_PUBLISHER_GROUP_ORDER: u64 = 0x22;
    /// Track: DYNAMIC_GROUPS, 0 or 1.
    pub const DYNAMIC_GROUPS: u64 = 0x30;
    /// Object: PRIOR_GROUP_ID_GAP.
    pub const PRIOR_GROUP_ID_GAP: u64 = 0x3c;
    /// Object: PRIOR_OBJECT_ID_GAP.
    pub const PRIOR_OBJECT_ID_GAP: u64 = 0x3e;
}

/// Longest value of a key-value pair in bytes.
const MAX_VALUE: usize = u16::MAX as usize;

/// The value of a property: even types hold an integer, odd types bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PropertyValue {
    /// Of an even type.
    Int(u64),
    /// Of an odd type, 65,535 bytes at most.
    Bytes(Bytes),
}

/// A list of properties, ordered by type as the wire's delta encoding needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties(Vec<(u64, PropertyValue)>);

impl Properties {
    /// No properties.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The pairs in ascending order of type.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &PropertyValue)> {
        self.0.iter().map(|(kind, value)| (*kind, value))
    }

    /// Adds an integer property.
    ///
    /// # Panics
    /// If `kind` is odd: those hold bytes.
    pub fn push_int(&mut self, kind: u64, value: u64) {
        assert!(kind.is_multiple_of(2), "property type {kind:#x} is odd and holds bytes");
        self.insert(kind, PropertyValue::Int(value));
    }

    /// Adds a bytes property.
    ///
    /// # Panics
    /// If `kind` is even, or `value` longer than 65,535 bytes.
    pub fn push_bytes(&mut self, kind: u64, value: impl Into<Bytes>) {
        let value = value.into();
        assert!(!kind.is_multiple_of(2), "property type {kind:#x} is even and holds an integer");
        assert!(value.len() <= MAX_VALUE, "a property holds at most {MAX_VALUE} bytes");
        self.insert(kind, PropertyValue::Bytes(value));
    }

    fn insert(&mut self, kind: u64, value: PropertyValue) {
        let at = self.0.partition_point(|(other, _)| *other <= kind);
        self.0.insert(at, (kind, value));
    }

    /// The first integer of this type, in the mutable list or inside Immutable Properties.
    pub fn int(&self, kind: u64) -> Option<u64> {
        match self.find(kind)? {
            PropertyValue::Int(value) => Some(value),
            PropertyValue::Bytes(_) => None,
        }
    }

    /// The first bytes of this type, in the mutable list or inside Immutable Properties.
    pub fn bytes(&self, kind: u64) -> Option<Bytes> {
        match self.find(kind)? {
            PropertyValue::Bytes(value) => Some(value),
            PropertyValue::Int(_) => None,
        }
    }

    fn find(&self, kind: u64) -> Option<PropertyValue> {
        if let Some((_, value)) = self.0.iter().find(|(other, _)| *other == kind) {
            return Some(value.clone());
        }
        if kind == property::IMMUTABLE {
            return None;
        }
        let immutable = self.bytes(property::IMMUTABLE)?;
        Self::decode(immutable, IntCoding::LeadingOnes).ok()?.find(kind)
    }

    /// Parses pairs that fill `bytes` wholly.
    pub fn decode(bytes: Bytes, coding: IntCoding) -> Result<Self, ProtocolError> {
        let mut reader = Reader::new(bytes, coding);
        let mut pairs = Vec::new();
        let mut kind = 0u64;
        while !reader.is_empty() {
            let delta = reader.int("Delta Type")?;
            kind = kind.checked_add(delta).ok_or_else(|| {
                ProtocolError::violation("a key-value pair's type exceeds 2^64-1")
            })?;
            let value = if kind.is_multiple_of(2) {
                PropertyValue::Int(reader.int("Key-Value-Pair Value")?)
            } else {
                PropertyValue::Bytes(reader.prefixed(MAX_VALUE, "Key-Value-Pair Value")?)
            };
            pairs.push((kind, value));
        }
        Ok(Self(pairs))
    }

    /// Appends the pairs, without a length before them.
    pub fn encode(&self, writer: &mut Writer) {
        let mut previous = 0;
        for (kind, value) in &self.0 {
            writer.int(kind - previous);
            previous = *kind;
            match value {
                PropertyValue::Int(value) => writer.int(*value),
                PropertyValue::Bytes(value) => writer.prefixed(value),
            }
        }
    }

    /// The pairs' bytes, without a length before them.
    pub fn to_bytes(&self, coding: IntCoding) -> Bytes {
        let mut writer = Writer::new(coding);
        self.encode(&mut writer);
        writer.finish()
    }

    /// Appends a length and the pairs, as objects carry them.
    pub fn encode_prefixed(&self, buf: &mut BytesMut, coding: IntCoding) {
        let bytes = self.to_bytes(coding);
        coding.write(buf, bytes.len() as u64);
        buf.extend_from_slice(&bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_written_as_ascending_deltas() {
        let mut properties = Properties::new();
        properties.push_bytes(0x0d, Bytes::from_static(b"cfg"));
        properties.push_int(0x08, 90_000);
        let bytes = properties.to_bytes(IntCoding::LeadingOnes);
        assert_eq!(&bytes[..], &[0x08, 0xc1, 0x5f, 0x90, 0x05, 3, b'c', b'f', b'g']);
        assert_eq!(Properties::decode(bytes, IntCoding::LeadingOnes).unwrap(), properties);
    }

    #[test]
    fn immutable_properties_are_searched_too() {
        let mut inner = Properties::new();
        inner.push_int(0x10, 7);
        let mut outer = Properties::new();
        outer.push_bytes(property::IMMUTABLE, inner.to_bytes(IntCoding::LeadingOnes));
        assert_eq!(outer.int(0x10), Some(7));
    }

    #[test]
    fn overflowing_and_overlong_pairs_are_violations() {
        let overflow = Bytes::from_static(&[2, 0, 0xff, 255, 255, 255, 255, 255, 255, 255, 255, 0]);
        assert!(Properties::decode(overflow, IntCoding::LeadingOnes).is_err());
        let long = Bytes::from_static(&[1, 0xc1, 0, 0]);
        let error = Properties::decode(long, IntCoding::LeadingOnes).unwrap_err();
        assert!(error.reason.contains("65536"), "{error}");
    }
}
