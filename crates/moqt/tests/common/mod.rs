//! What the oracle's and the vectors' tests share: messages of every draft, and how a draft's own
//! field names spell them.

#![allow(dead_code, reason = "each test takes what it needs")]

pub(crate) mod arbitrary;
pub(crate) mod wire_form;

use bytes::BytesMut;
use moqt::codec::shared::{self, SharedMessage};
use moqt::codec::{self, EncodeError};
use moqt::{Message, ProtocolError, Version};

/// A control message as its draft has it: draft 16's name their request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Control {
    Streams(Message),
    Shared(SharedMessage),
}

pub(crate) fn encode(version: Version, message: &Control) -> Result<Vec<u8>, EncodeError> {
    let mut buf = BytesMut::new();
    match message {
        Control::Streams(message) => codec::encode(version, message, &mut buf)?,
        Control::Shared(message) => shared::encode(message, &mut buf)?,
    }
    Ok(buf.to_vec())
}

/// The message that fills `bytes`; `None` when it is not whole.
pub(crate) fn decode(version: Version, bytes: &[u8]) -> Result<Option<Control>, ProtocolError> {
    let mut buf = BytesMut::from(bytes);
    let message = match version {
        Version::Draft16 => shared::decode(&mut buf)?.map(Control::Shared),
        _ => codec::decode(version, &mut buf)?.map(Control::Streams),
    };
    assert!(message.is_none() || buf.is_empty(), "bytes are left after the message");
    Ok(message)
}

/// A generator that needs no dependency and never changes: SplitMix64.
pub(crate) struct Seeded(pub(crate) u64);

impl Seeded {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Bytes, fewer than `max` of them.
    pub(crate) fn bytes(&mut self, max: u64) -> Vec<u8> {
        (0..self.next() % max).map(|_| self.next() as u8).collect()
    }
}
