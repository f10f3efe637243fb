//! Reading and writing a draft's primitive fields.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{ProtocolError, SessionCode};

/// How variable-length integers look on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntCoding {
    /// The number of leading 1 bits gives the length, 1 to 9 bytes, all of `u64`
    /// (draft 17 and later, "Variable-Length Integers").
    LeadingOnes,
}

impl IntCoding {
    /// Length in bytes of an integer whose first byte is `first`.
    pub fn length(self, first: u8) -> usize {
        match self {
            IntCoding::LeadingOnes => first.leading_ones() as usize + 1,
        }
    }

    /// Reads an integer from the start of `buf`: its value and length in bytes, or `None` when
    /// `buf` ends before it does.
    pub fn read(self, buf: &[u8]) -> Option<(u64, usize)> {
        let first = *buf.first()?;
        let length = self.length(first);
        let bytes = buf.get(..length)?;
        let value = match self {
            IntCoding::LeadingOnes => {
                // Eight leading ones leave no value bits in the first byte.
                let head = if length >= 8 { 0 } else { u64::from(first & (0x7f >> (length - 1))) };
                bytes[1..].iter().fold(head, |value, byte| value << 8 | u64::from(*byte))
            }
        };
        Some((value, length))
    }

    /// Appends `value` in its shortest form.
    pub fn write(self, buf: &mut BytesMut, value: u64) {
        match self {
            IntCoding::LeadingOnes => {
                let bits = 64 - value.leading_zeros() as usize;
                let length = if bits > 56 { 9 } else { bits.div_ceil(7).max(1) };
                if length == 9 {
                    buf.put_u8(0xff);
                    buf.put_u64(value);
                } else {
                    let marker = 0xff00u16 >> (length - 1);
                    let word = value | u64::from(marker as u8) << (8 * (length - 1));
                    buf.put_uint(word, length);
                }
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
        let _ = self.buf.split_to(length);
        Ok(value)
    }

    /// The next single byte.
    pub fn u8(&mut self, field: &'static str) -> Result<u8, ProtocolError> {
        Ok(self.take(1, field)?[0])
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
}

impl Writer {
    /// An empty payload in a draft's integer coding.
    pub fn new(coding: IntCoding) -> Self {
        Self { buf: BytesMut::new(), coding }
    }

    /// Appends a variable-length integer.
    pub fn int(&mut self, value: u64) {
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

    /// An empty writer with the same coding.
    pub fn nested(&self) -> Self {
        Self::new(self.coding)
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.buf.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.buf.is_empty()
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

    proptest! {
        #[test]
        fn integers_survive_the_wire(value: u64, shift in 0u32..64) {
            let value = value >> shift;
            let mut buf = BytesMut::new();
            IntCoding::LeadingOnes.write(&mut buf, value);
            prop_assert_eq!(IntCoding::LeadingOnes.read(&buf), Some((value, buf.len())));
            for cut in 0..buf.len() {
                prop_assert_eq!(IntCoding::LeadingOnes.read(&buf[..cut]), None);
            }
        }
    }
}
