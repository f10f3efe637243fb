//! Control messages as bytes, one module per draft.

mod draft18;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::{Message, ProtocolError, Reader, Version, Writer};

/// Longest message payload: its length field has 16 bits ("Control Messages").
const MAX_PAYLOAD: usize = u16::MAX as usize;

/// A message could not be sent: it is longer than its 16-bit length can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a control message of {0} bytes does not fit its 16-bit length")]
pub struct TooLong(usize);

/// Appends `message`, framed.
pub fn encode(version: Version, message: &Message, buf: &mut BytesMut) -> Result<(), TooLong> {
    let mut writer = Writer::new(version.int_coding());
    let kind = match version {
        Version::Draft18 => draft18::encode(message, &mut writer),
    };
    if writer.len() > MAX_PAYLOAD {
        return Err(TooLong(writer.len()));
    }
    version.int_coding().write(buf, kind);
    buf.put_u16(writer.len() as u16);
    buf.put_slice(&writer.finish());
    Ok(())
}

/// `message`, framed, as bytes of its own.
pub fn to_bytes(version: Version, message: &Message) -> Result<Bytes, TooLong> {
    let mut buf = BytesMut::new();
    encode(version, message, &mut buf)?;
    Ok(buf.freeze())
}

/// Takes one message off the front of `buf`, or `None` when it is not whole yet.
///
/// `buf` never needs to hold more than a message's 65,535 bytes and its 11 of framing.
pub fn decode(version: Version, buf: &mut BytesMut) -> Result<Option<Message>, ProtocolError> {
    let Some((kind, kind_length)) = version.int_coding().read(buf) else {
        return Ok(None);
    };
    // An unknown type is an error at once, not after a payload that may never come.
    if !draft18::is_message(kind) {
        return Err(ProtocolError::violation(format!("unknown message type {kind:#x}")));
    }
    let Some(length) = buf.get(kind_length..kind_length + 2) else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    if buf.len() < kind_length + 2 + length {
        return Ok(None);
    }
    buf.advance(kind_length + 2);
    let payload = buf.split_to(length).freeze();
    let mut reader = Reader::new(payload, version.int_coding());
    let message = match version {
        Version::Draft18 => draft18::decode(kind, &mut reader)?,
    };
    if !reader.is_empty() {
        return Err(ProtocolError::violation(format!(
            "message type {kind:#x} has {} bytes after its last field",
            reader.remaining()
        )));
    }
    Ok(Some(message))
}
