//! What each payload begins with: when it was made and which object it is.

use bytes::{BufMut, Bytes, BytesMut};

use crate::clock::Micros;

/// The first bytes of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// When the object was made.
    pub sent: Micros,
    /// Its group.
    pub group: u64,
    /// Its object ID.
    pub object: u64,
}

impl Stamp {
    /// Its length, and so the least payload, in bytes.
    pub const LENGTH: usize = 24;

    /// A payload of `size` bytes that begins with the stamp.
    pub fn payload(self, size: usize) -> Bytes {
        let mut payload = BytesMut::with_capacity(size.max(Self::LENGTH));
        payload.put_u64(self.sent);
        payload.put_u64(self.group);
        payload.put_u64(self.object);
        payload.resize(size.max(Self::LENGTH), 0x5a);
        payload.freeze()
    }

    /// The stamp in these bytes.
    pub fn parse(bytes: &[u8; Self::LENGTH]) -> Self {
        let field = |at: usize| u64::from_be_bytes(std::array::from_fn(|index| bytes[at + index]));
        Self { sent: field(0), group: field(8), object: field(16) }
    }
}
