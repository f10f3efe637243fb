//! Control messages as bytes.
//!
//! What the drafts have in common is written once: `params` runs each draft's table of
//! parameters, `streams` has the messages of the drafts with a stream per request (17 and later)
//! and takes a draft's differences from its `Dialect`. Draft 16 sends everything over one stream,
//! so its messages name their request: [`shared`].

mod draft18;
mod draft22;
mod fields;
mod kind;
mod params;
pub mod shared;
mod streams;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::{Message, ProtocolError, Reader, Version, Writer};

/// Longest message payload: its length field has 16 bits ("Control Messages").
const MAX_PAYLOAD: usize = u16::MAX as usize;

/// Why a message cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// It is longer than its 16-bit length can say.
    #[error("a control message of {0} bytes does not fit its 16-bit length")]
    TooLong(usize),
    /// An integer is larger than the draft can write.
    #[error("an integer of the message exceeds what {0} can write")]
    IntegerTooLarge(Version),
    /// The peer has to answer before this request can be updated ("MAX_REQUEST_UPDATES"; in draft
    /// 16 an update can overtake a SUBSCRIBE_NAMESPACE).
    #[error("the peer has to answer before this request can be updated")]
    MustWait,
    /// The draft has no way to say this.
    #[error("{version} cannot say {what}")]
    NotInDraft {
        /// The draft.
        version: Version,
        /// What it lacks.
        what: &'static str,
    },
}

/// The name this error had when it had one cause.
pub type TooLong = EncodeError;

/// How a draft with a stream per request writes messages.
fn dialect(version: Version) -> Option<&'static streams::Dialect> {
    match version {
        Version::Draft16 => None,
        Version::Draft18 => Some(&draft18::DIALECT),
        Version::Draft22 => Some(&draft22::DIALECT),
    }
}

/// Appends `message`, framed, as drafts with a stream per request have it. Draft 16's messages
/// are [`shared::SharedMessage`]s.
///
/// Parameters that the draft does not have are left out when they only advise, an error
/// otherwise.
pub fn encode(version: Version, message: &Message, buf: &mut BytesMut) -> Result<(), EncodeError> {
    let Some(dialect) = dialect(version) else {
        return Err(EncodeError::NotInDraft { version, what: "a message apart from its request" });
    };
    let mut writer = Writer::new(version.int_coding());
    let kind = streams::encode(dialect, message, &mut writer)?;
    frame(version, kind, &writer, buf)
}

/// `message`, framed, as bytes of its own.
pub fn to_bytes(version: Version, message: &Message) -> Result<Bytes, EncodeError> {
    let mut buf = BytesMut::new();
    encode(version, message, &mut buf)?;
    Ok(buf.freeze())
}

/// Takes one message off the front of `buf`, or `None` when it is not whole yet. For the drafts
/// that [`encode`] is for.
///
/// `buf` never needs to hold more than a message's 65,535 bytes and its 11 of framing.
pub fn decode(version: Version, buf: &mut BytesMut) -> Result<Option<Message>, ProtocolError> {
    let Some(dialect) = dialect(version) else {
        return Err(ProtocolError::new(
            crate::SessionCode::INTERNAL_ERROR,
            "this draft's messages belong on its shared control stream",
        ));
    };
    let known = |kind| dialect.has_message(kind);
    let Some((kind, mut reader)) = deframe(version, known, buf)? else { return Ok(None) };
    let message = streams::decode(dialect, kind, &mut reader)?;
    finished(kind, &reader)?;
    Ok(Some(message))
}

fn frame(
    version: Version,
    kind: u64,
    payload: &Writer,
    buf: &mut BytesMut,
) -> Result<(), EncodeError> {
    if payload.overflowed() {
        return Err(EncodeError::IntegerTooLarge(version));
    }
    if payload.len() > MAX_PAYLOAD {
        return Err(EncodeError::TooLong(payload.len()));
    }
    version.int_coding().write(buf, kind);
    buf.put_u16(payload.len() as u16);
    buf.put_slice(payload.as_slice());
    Ok(())
}

/// Takes a message's type and payload off the front of `buf`.
fn deframe(
    version: Version,
    known: impl Fn(u64) -> bool,
    buf: &mut BytesMut,
) -> Result<Option<(u64, Reader)>, ProtocolError> {
    let coding = version.int_coding();
    let Some((kind, kind_length)) = coding.read(buf) else { return Ok(None) };
    // An unknown type is an error at once, not after a payload that may never come.
    if !known(kind) {
        return Err(ProtocolError::violation(format!("unknown message type {kind:#x}")));
    }
    let Some(length) = buf.get(kind_length..kind_length + 2) else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    if buf.len() < kind_length + 2 + length {
        return Ok(None);
    }
    buf.advance(kind_length + 2);
    Ok(Some((kind, Reader::new(buf.split_to(length).freeze(), coding))))
}

/// "If the length does not match the length of the Message Payload, the receiver MUST close".
fn finished(kind: u64, reader: &Reader) -> Result<(), ProtocolError> {
    if reader.is_empty() {
        return Ok(());
    }
    Err(ProtocolError::violation(format!(
        "message type {kind:#x} has {} bytes after its last field",
        reader.remaining()
    )))
}
