//! Properties of tracks and objects: key-value pairs ("Key-Value-Pair Structure", "Properties").

use bytes::{Bytes, BytesMut};

use crate::{IntCoding, ProtocolError, Writer};

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
    /// Object: LOC's TIMESTAMP, microseconds since the Unix epoch unless there is a
    /// [`LOC_TIMESCALE`].
    pub const LOC_TIMESTAMP: u64 = 0x10;
    /// Object: the same as earlier drafts of LOC wrote it.
    pub const LOC_OLD_TIMESTAMP: u64 = 0x06;
    /// Track or object: LOC's TIMESCALE; timestamps are media time in units of its fractions of a
    /// second.
    pub const LOC_TIMESCALE: u64 = 0x08;
    /// Object: PRIOR_GROUP_ID_GAP.
    pub const PRIOR_GROUP_ID_GAP: u64 = 0x3c;
    /// Object: PRIOR_OBJECT_ID_GAP.
    pub const PRIOR_OBJECT_ID_GAP: u64 = 0x3e;

    /// Whether a track with a property of this type may only be handled by those who understand
    /// it ("Mandatory Track Properties").
    pub const fn is_mandatory(kind: u64) -> bool {
        matches!(kind, 0x4000..=0x7fff)
    }
}

/// Longest value of a key-value pair in bytes.
const MAX_VALUE: u64 = u16::MAX as u64;

/// A property's value where it lies in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawValue<'a> {
    /// Of an even type.
    Int(u64),
    /// Of an odd type.
    Bytes(&'a [u8]),
}

/// Walks encoded properties without copying or allocating; stops after the first error.
#[derive(Clone, Debug)]
pub struct RawProperties<'a> {
    rest: &'a [u8],
    coding: IntCoding,
    kind: u64,
}

impl<'a> RawProperties<'a> {
    /// The pairs that fill `bytes` wholly, without a length before them.
    pub fn new(bytes: &'a [u8], coding: IntCoding) -> Self {
        Self { rest: bytes, coding, kind: 0 }
    }

    /// Walks all pairs and says what is wrong with them, if anything.
    pub fn check(mut self) -> Result<(), ProtocolError> {
        self.try_for_each(|pair| pair.map(drop))
    }

    /// The first integer of this type, in the mutable list or inside Immutable Properties.
    pub fn find_int(self, kind: u64) -> Option<u64> {
        match self.find(kind)? {
            RawValue::Int(value) => Some(value),
            RawValue::Bytes(_) => None,
        }
    }

    /// The first bytes of this type, in the mutable list or inside Immutable Properties.
    pub fn find_bytes(self, kind: u64) -> Option<&'a [u8]> {
        match self.find(kind)? {
            RawValue::Bytes(value) => Some(value),
            RawValue::Int(_) => None,
        }
    }

    fn find(self, kind: u64) -> Option<RawValue<'a>> {
        let coding = self.coding;
        let mut immutable = None;
        for pair in self {
            match pair.ok()? {
                (found, value) if found == kind => return Some(value),
                (property::IMMUTABLE, RawValue::Bytes(bytes)) => immutable = Some(bytes),
                _ => {}
            }
        }
        // Once only: immutable properties inside immutable ones make a track malformed.
        RawProperties::new(immutable?, coding)
            .map_while(Result::ok)
            .find_map(|(found, value)| (found == kind).then_some(value))
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], ProtocolError> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let (taken, rest) = self.rest.split_at_checked(length).ok_or_else(truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn int(&mut self) -> Result<u64, ProtocolError> {
        let (value, length) = self.coding.read(self.rest).ok_or_else(truncated)?;
        self.rest = &self.rest[length..];
        Ok(value)
    }

    fn pair(&mut self) -> Result<(u64, RawValue<'a>), ProtocolError> {
        let delta = self.int()?;
        self.kind = self
            .kind
            .checked_add(delta)
            .ok_or_else(|| ProtocolError::violation("a key-value pair's type exceeds 2^64-1"))?;
        if self.kind.is_multiple_of(2) {
            return Ok((self.kind, RawValue::Int(self.int()?)));
        }
        let length = self.int()?;
        if length > MAX_VALUE {
            return Err(ProtocolError::violation(format!(
                "a key-value pair's value is {length} bytes, at most {MAX_VALUE} are allowed"
            )));
        }
        Ok((self.kind, RawValue::Bytes(self.take(length)?)))
    }
}

fn truncated() -> ProtocolError {
    ProtocolError::violation("properties end inside a key-value pair")
}

impl<'a> Iterator for RawProperties<'a> {
    type Item = Result<(u64, RawValue<'a>), ProtocolError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let pair = self.pair();
        if pair.is_err() {
            self.rest = &[];
        }
        Some(pair)
    }
}

/// The value of a property: even types hold an integer, odd types bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PropertyValue {
    /// Of an even type.
    Int(u64),
    /// Of an odd type, 65,535 bytes at most.
    Bytes(Bytes),
}

/// A list of properties, ordered by type as the wire's delta encoding needs.
///
/// Immutable Properties keep the bytes they came with; only crossing to a draft with other integers
/// re-encodes them.
#[derive(Clone, Debug)]
pub struct Properties {
    pairs: Vec<(u64, PropertyValue)>,
    /// How integers inside Immutable Properties are written.
    coding: IntCoding,
}

impl Default for Properties {
    fn default() -> Self {
        Self { pairs: Vec::new(), coding: IntCoding::LeadingOnes }
    }
}

impl PartialEq for Properties {
    fn eq(&self, other: &Self) -> bool {
        let alike = self.coding == other.coding || self.immutable().is_none();
        alike && self.pairs == other.pairs
    }
}

impl Eq for Properties {}

impl Properties {
    /// No properties.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The pairs in ascending order of type.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &PropertyValue)> {
        self.pairs.iter().map(|(kind, value)| (*kind, value))
    }

    /// Adds an integer property.
    ///
    /// # Panics
    /// If `kind` is odd: those hold bytes.
    pub fn push_int(&mut self, kind: u64, value: u64) {
        assert!(kind.is_multiple_of(2), "property type {kind:#x} is odd and holds bytes");
        self.insert(kind, PropertyValue::Int(value));
    }

    /// Adds a bytes property. Immutable Properties are to be in the coding of drafts 17 and later.
    ///
    /// # Panics
    /// If `kind` is even, or `value` longer than 65,535 bytes.
    pub fn push_bytes(&mut self, kind: u64, value: impl Into<Bytes>) {
        let value = value.into();
        assert!(!kind.is_multiple_of(2), "property type {kind:#x} is even and holds an integer");
        assert!(value.len() as u64 <= MAX_VALUE, "a property holds at most {MAX_VALUE} bytes");
        self.insert(kind, PropertyValue::Bytes(value));
    }

    fn insert(&mut self, kind: u64, value: PropertyValue) {
        let at = self.pairs.partition_point(|(other, _)| *other <= kind);
        self.pairs.insert(at, (kind, value));
    }

    /// The first integer of this type, in the mutable list or inside Immutable Properties.
    pub fn int(&self, kind: u64) -> Option<u64> {
        match self.own(kind) {
            Some(PropertyValue::Int(value)) => Some(*value),
            Some(PropertyValue::Bytes(_)) => None,
            None => RawProperties::new(self.immutable()?, self.coding).find_int(kind),
        }
    }

    /// The first bytes of this type, in the mutable list or inside Immutable Properties.
    pub fn bytes(&self, kind: u64) -> Option<Bytes> {
        match self.own(kind) {
            Some(PropertyValue::Bytes(value)) => Some(value.clone()),
            Some(PropertyValue::Int(_)) => None,
            None => {
                let immutable = self.immutable()?;
                RawProperties::new(immutable, self.coding)
                    .find_bytes(kind)
                    .map(|value| immutable.slice_ref(value))
            }
        }
    }

    /// Every integer, in the mutable list and inside Immutable Properties.
    pub(crate) fn ints(&self) -> impl Iterator<Item = (u64, u64)> {
        let own = self.pairs.iter().filter_map(|(kind, value)| match value {
            PropertyValue::Int(value) => Some((*kind, *value)),
            PropertyValue::Bytes(_) => None,
        });
        let immutable = self.immutable().map_or(&[][..], |bytes| bytes);
        let inside = RawProperties::new(immutable, self.coding).map_while(Result::ok).filter_map(
            |(kind, value)| match value {
                RawValue::Int(value) => Some((kind, value)),
                RawValue::Bytes(_) => None,
            },
        );
        own.chain(inside)
    }

    /// The first mandatory property, which we understand none of, in the mutable list or inside
    /// Immutable Properties ("Mandatory Track Properties").
    pub fn mandatory(&self) -> Option<u64> {
        let own =
            self.pairs.iter().map(|(kind, _)| *kind).find(|kind| property::is_mandatory(*kind));
        own.or_else(|| {
            RawProperties::new(self.immutable()?, self.coding)
                .map_while(Result::ok)
                .map(|(kind, _)| kind)
                .find(|kind| property::is_mandatory(*kind))
        })
    }

    fn own(&self, kind: u64) -> Option<&PropertyValue> {
        self.pairs.iter().find_map(|(other, value)| (*other == kind).then_some(value))
    }

    fn immutable(&self) -> Option<&Bytes> {
        match self.own(property::IMMUTABLE)? {
            PropertyValue::Bytes(bytes) => Some(bytes),
            PropertyValue::Int(_) => None,
        }
    }

    /// Parses pairs that fill `bytes` wholly.
    #[expect(clippy::needless_pass_by_value, reason = "the values share the bytes")]
    pub fn decode(bytes: Bytes, coding: IntCoding) -> Result<Self, ProtocolError> {
        let mut pairs = Vec::new();
        for pair in RawProperties::new(&bytes, coding) {
            let (kind, value) = pair?;
            let value = match value {
                RawValue::Int(value) => PropertyValue::Int(value),
                RawValue::Bytes(value) => PropertyValue::Bytes(bytes.slice_ref(value)),
            };
            pairs.push((kind, value));
        }
        Ok(Self { pairs, coding })
    }

    /// Appends the pairs, without a length before them.
    pub fn encode(&self, writer: &mut Writer) {
        let mut previous = 0;
        for (kind, value) in &self.pairs {
            writer.int(kind - previous);
            previous = *kind;
            match value {
                PropertyValue::Int(value) => writer.int(*value),
                PropertyValue::Bytes(value) => {
                    match recode(*kind, value.clone(), self.coding, writer.coding()) {
                        Some(value) => writer.prefixed(&value),
                        None => writer.overflow(),
                    }
                }
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

    /// Encoded properties as another coding has them, for an object that crosses drafts; `None`
    /// when they cannot be said there.
    pub fn transcode(bytes: &Bytes, from: IntCoding, to: IntCoding) -> Option<Bytes> {
        if from == to {
            return Some(bytes.clone());
        }
        let properties = Self::decode(bytes.clone(), from).ok()?;
        let mut writer = Writer::new(to);
        properties.encode(&mut writer);
        (!writer.overflowed()).then(|| writer.finish())
    }
}

/// The value of a property in another coding: only Immutable Properties have integers inside.
/// What cannot be parsed stays as it is; `None`: it cannot be said.
fn recode(kind: u64, value: Bytes, from: IntCoding, to: IntCoding) -> Option<Bytes> {
    if kind != property::IMMUTABLE || from == to {
        return Some(value);
    }
    let mut writer = Writer::new(to);
    let mut previous = 0;
    for pair in RawProperties::new(&value, from) {
        let Ok((kind, inner)) = pair else { return Some(value) };
        writer.int(kind - previous);
        previous = kind;
        match inner {
            RawValue::Int(inner) => writer.int(inner),
            RawValue::Bytes(inner) => writer.prefixed(inner),
        }
    }
    let fits = !writer.overflowed() && writer.len() as u64 <= MAX_VALUE;
    fits.then(|| writer.finish())
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

    /// A peer can nest 16,000 of them in one message: a search that followed would overflow the
    /// stack.
    #[test]
    fn immutable_properties_inside_immutable_ones_are_not_searched() {
        let mut nested = Bytes::from_static(&[0x10, 7]);
        while nested.len() < 60_000 {
            let mut outer = Properties::new();
            outer.push_bytes(property::IMMUTABLE, nested);
            nested = outer.to_bytes(IntCoding::LeadingOnes);
        }
        let properties = Properties::decode(nested, IntCoding::LeadingOnes).unwrap();
        assert_eq!(properties.int(0x10), None);
    }

    #[test]
    fn properties_cross_drafts_with_their_integers_rewritten() {
        let mut inner = Properties::new();
        inner.push_int(0x10, 300);
        let mut outer = Properties::new();
        outer.push_int(0x08, 90_000);
        outer.push_bytes(property::IMMUTABLE, inner.to_bytes(IntCoding::LeadingOnes));
        let ours = outer.to_bytes(IntCoding::LeadingOnes);
        let quic = Properties::transcode(&ours, IntCoding::LeadingOnes, IntCoding::Quic).unwrap();
        assert_eq!(&quic[..], &[0x08, 0x80, 0x01, 0x5f, 0x90, 0x03, 3, 0x10, 0x41, 0x2c]);
        let back = Properties::transcode(&quic, IntCoding::Quic, IntCoding::LeadingOnes);
        assert_eq!(back, Some(ours));
        outer.push_int(0x0c, u64::MAX);
        let ours = outer.to_bytes(IntCoding::LeadingOnes);
        assert_eq!(Properties::transcode(&ours, IntCoding::LeadingOnes, IntCoding::Quic), None);
    }

    #[test]
    fn mandatory_properties_are_noticed_wherever_they_are() {
        let mut inner = Properties::new();
        inner.push_int(0x4000, 1);
        assert_eq!(inner.mandatory(), Some(0x4000));
        let mut outer = Properties::new();
        outer.push_bytes(property::IMMUTABLE, inner.to_bytes(IntCoding::LeadingOnes));
        assert_eq!(outer.mandatory(), Some(0x4000));
        assert_eq!(Properties::new().mandatory(), None);
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
