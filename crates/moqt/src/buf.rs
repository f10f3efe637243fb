//! Reading and writing a draft's primitive fields.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::{ProtocolError, SessionCode};

/// How variable-length integers look on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IntCoding {
    /// The number of leading 1 bits gives the length, 1 to 9 bytes, all of `u64`
    /// (draft 17 and later, "Variable-Length Integers").
    LeadingOnes,
    /// QUIC's own: the first two bits give the length, 1, 2, 4 or 8 bytes, up to 2^62-1
    /// (draft 16 and earlier).
    Quic,
}

impl IntCoding {
    /// The largest integer that can be written.
    pub const fn max(self) -> u64 {
        match self {
            IntCoding::LeadingOnes => u64::MAX,
            IntCoding::Quic => (1 << 62) - 1,
        }
    }

    /// Length in bytes of an integer whose first byte is `first`.
    pub const fn length(self, first: u8) -> usize {
        match self {
            IntCoding::LeadingOnes => first.leading_ones() as usize + 1,
            IntCoding::Quic => 1 << (first >> 6),
        }
    }

    /// Length in bytes of the shortest form of `value`.
    pub const fn size(self, value: u64) -> usize {
        match self {
            IntCoding::LeadingOnes => {
                let bits = 64 - value.leading_zeros() as usize;
                match bits {
                    0 => 1,
                    57.. => 9,
                    _ => bits.div_ceil(7),
                }
            }
            IntCoding::Quic => match value {
                0..=0x3f => 1,
                0x40..=0x3fff => 2,
                0x4000..=0x3fff_ffff => 4,
                _ => 8,
            },
        }
    }

    /// Reads an integer from the start of `buf`: its value and length in bytes, or `None` when
    /// `buf` ends before it does.
    #[inline]
    pub fn read(self, buf: &[u8]) -> Option<(u64, usize)> {
        let first = *buf.first()?;
        let length = self.length(first);
        if length == 1 {
            return Some((u64::from(first), 1));
        }
        let bytes = buf.get(..length)?;
        let head = match self {
            // Eight leading ones leave no value bits in the first byte.
            IntCoding::LeadingOnes if length >= 8 => 0,
            IntCoding::LeadingOnes => first & (0x7f >> (length - 1)),
            IntCoding::Quic => first & 0x3f,
        };
        let value =
            bytes[1..].iter().fold(u64::from(head), |value, byte| value << 8 | u64::from(*byte));
        Some((value, length))
    }

    /// Appends `value` in its shortest form; a value above [`IntCoding::max`] as that.
    #[inline]
    pub fn write(self, buf: &mut BytesMut, value: u64) {
        let value = value.min(self.max());
        let length = self.size(value);
        match self {
            _ if length == 1 => buf.put_u8(value as u8),
            IntCoding::LeadingOnes if length == 9 => {
                buf.put_u8(0xff);
                buf.put_u64(value);
            }
            IntCoding::LeadingOnes => {
                let marker = u64::from((0xff00u16 >> (length - 1)) as u8);
                buf.put_uint(value | marker << (8 * (length - 1)), length);
            }
            IntCoding::Quic => {
                let marker = u64::from(length.trailing_zeros()) << (8 * length - 2);
                buf.put_uint(value | marker, length);
            }
        }
    }
}

/// A cursor over the payload of one complete message.
///
/// Running past the end is a [`SessionCode::PROTOCOL_VIOLATION`]: the length that framed the
/// message did not match its content ("Control Messages").
#[derive(Debug)]
pub struct Reader {
    buf: Bytes,
    coding: IntCoding,
}

impl Reader {
    /// Reads `buf` with a draft's integer coding.
    pub fn new(buf: Bytes, coding: IntCoding) -> Self {
        Self { buf, coding }
    }

    /// How integers are read.
    pub fn coding(&self) -> IntCoding {
        self.coding
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.buf.len()
    }

    /// Whether everything was read.
    pub fn is_empty(&self) -> bool {
        self.buf.is_empty()
    }

    /// Everything not read yet.
    pub fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.buf)
    }

    /// The next variable-length integer; `field` names it in the error.
    pub fn int(&mut self, field: &'static str) -> Result<u64, ProtocolError> {
        let (value, length) = self.coding.read(&self.buf).ok_or_else(|| truncated(field))?;
        self.buf.advance(length);
        Ok(value)
    }

    /// The next single byte.
    pub fn u8(&mut self, field: &'static str) -> Result<u8, ProtocolError> {
        let value = *self.buf.first().ok_or_else(|| truncated(field))?;
        self.buf.advance(1);
        Ok(value)
    }

    /// The next `length` bytes.
    pub fn take(&mut self, length: usize, field: &'static str) -> Result<Bytes, ProtocolError> {
        if length > self.buf.len() {
            return Err(truncated(field));
        }
        Ok(self.buf.split_to(length))
    }

    /// A length and that many bytes, at most `max`.
    pub fn prefixed(&mut self, max: usize, field: &'static str) -> Result<Bytes, ProtocolError> {
        let length = self.int(field)?;
        if length > max as u64 {
            return Err(ProtocolError::violation(format!(
                "{field} is {length} bytes, at most {max} are allowed"
            )));
        }
        self.take(length as usize, field)
    }

    /// A reader of `bytes` with the same coding.
    pub fn nested(&self, bytes: Bytes) -> Self {
        Self { buf: bytes, coding: self.coding }
    }
}

fn truncated(field: &'static str) -> ProtocolError {
    ProtocolError::new(SessionCode::PROTOCOL_VIOLATION, format!("message ends inside {field}"))
}

/// Builds a message's payload.
#[derive(Debug)]
pub struct Writer {
    buf: BytesMut,
    coding: IntCoding,
    overflow: bool,
}

impl Writer {
    /// An empty payload in a draft's integer coding.
    pub fn new(coding: IntCoding) -> Self {
        Self { buf: BytesMut::new(), coding, overflow: false }
    }

    /// How integers are written.
    pub fn coding(&self) -> IntCoding {
        self.coding
    }

    /// Notes that something could not be appended.
    pub(crate) fn overflow(&mut self) {
        self.overflow = true;
    }

    /// Appends a variable-length integer.
    pub fn int(&mut self, value: u64) {
        self.overflow |= value > self.coding.max();
        self.coding.write(&mut self.buf, value);
    }

    /// Appends one byte.
    pub fn u8(&mut self, value: u8) {
        self.buf.put_u8(value);
    }

    /// Appends bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.buf.put_slice(bytes);
    }

    /// Appends a length and the bytes.
    pub fn prefixed(&mut self, bytes: &[u8]) {
        self.int(bytes.len() as u64);
        self.bytes(bytes);
    }

    /// Appends what `fill` writes, with its length before it.
    pub fn prefixed_with(&mut self, fill: impl FnOnce(&mut Writer)) {
        let mut nested = self.nested();
        fill(&mut nested);
        self.overflow |= nested.overflow;
        self.prefixed(&nested.buf);
    }

    /// An empty writer with the same coding.
    pub fn nested(&self) -> Self {
        Self::new(self.coding)
    }

    /// Appends what another writer holds.
    pub fn append(&mut self, other: &Writer) {
        self.overflow |= other.overflow;
        self.bytes(&other.buf);
    }

    /// Whether an integer was too large for the coding, so that the payload says something else
    /// than was meant.
    pub fn overflowed(&self) -> bool {
        self.overflow
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.buf.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.buf.is_empty()
    }

    /// What was written so far.
    pub fn as_slice(&self) -> &[u8] {
        &self.buf
    }

    /// The finished payload.
    pub fn finish(self) -> Bytes {
        self.buf.freeze()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn leading_ones_examples_of_the_draft() {
        let examples: &[(&[u8], u64)] = &[
            (&[0x25], 37),
            (&[0x80, 0x25], 37),
            (&[0xbb, 0xbd], 15_293),
            (&[0xed, 0x7f, 0x3e, 0x7d], 226_442_877),
            (&[0xfa, 0xa1, 0xa0, 0xe4, 0x03, 0xd8], 2_893_212_287_960),
            (&[0xfc, 0x89, 0x98, 0xab, 0xc6, 0x6b, 0xc0], 151_288_809_941_952),
            (&[0xfe, 0xfa, 0x31, 0x8f, 0xa8, 0xe3, 0xca, 0x11], 70_423_237_261_249_041),
            (&[0xff; 9], u64::MAX),
        ];
        for (bytes, value) in examples {
            assert_eq!(IntCoding::LeadingOnes.read(bytes), Some((*value, bytes.len())));
        }
    }

    /// The examples of QUIC's own specification, RFC 9000 appendix A.1.
    #[test]
    fn quic_examples() {
        let examples: &[(&[u8], u64)] = &[
            (&[0x25], 37),
            (&[0x40, 0x25], 37),
            (&[0x7b, 0xbd], 15_293),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c], 151_288_809_941_952_652),
        ];
        for (bytes, value) in examples {
            assert_eq!(IntCoding::Quic.read(bytes), Some((*value, bytes.len())));
        }
    }

    #[test]
    fn an_integer_that_does_not_fit_is_noticed() {
        let mut writer = Writer::new(IntCoding::Quic);
        writer.prefixed_with(|nested| nested.int(1 << 62));
        assert!(writer.overflowed());
    }

    proptest! {
        #[test]
        fn integers_survive_the_wire(value: u64, shift in 0u32..64) {
            for coding in [IntCoding::LeadingOnes, IntCoding::Quic] {
                let value = (value >> shift).min(coding.max());
                let mut buf = BytesMut::new();
                coding.write(&mut buf, value);
                prop_assert_eq!(buf.len(), coding.size(value));
                prop_assert_eq!(coding.read(&buf), Some((value, buf.len())));
                for cut in 0..buf.len() {
                    prop_assert_eq!(coding.read(&buf[..cut]), None);
                }
            }
        }
    }
}
