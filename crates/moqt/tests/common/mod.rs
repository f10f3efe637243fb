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
