//! Authorization tokens as they travel ("AUTHORIZATION TOKEN Parameter").

use bytes::Bytes;

use crate::{ProtocolError, Reader, SessionCode, Writer};

/// A token, or a reference to one registered earlier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthToken {
    /// Forget a registered token.
    Delete {
        /// What the token was registered as.
        alias: u64,
    },
    /// Use this token now and remember it.
    Register {
        /// The name to remember it by.
        alias: u64,
        /// How to read `value`.
        kind: u64,
        /// The token itself.
        value: Bytes,
    },
    /// Use a token registered earlier.
    UseAlias {
        /// What it was registered as.
        alias: u64,
    },
    /// Use this token once.
    UseValue {
        /// How to read `value`.
        kind: u64,
        /// The token itself.
        value: Bytes,
    },
}

impl AuthToken {
    pub(crate) fn decode(mut reader: Reader) -> Result<Self, ProtocolError> {
        let malformed = |error: ProtocolError| {
            ProtocolError::new(SessionCode::KEY_VALUE_FORMATTING_ERROR, error.reason)
        };
        let kind = reader.int("Token Alias Type").map_err(malformed)?;
        let token = match kind {
            0 => AuthToken::Delete { alias: reader.int("Token Alias").map_err(malformed)? },
            1 => AuthToken::Register {
                alias: reader.int("Token Alias").map_err(malformed)?,
                kind: reader.int("Token Type").map_err(malformed)?,
                value: reader.rest(),
            },
            2 => AuthToken::UseAlias { alias: reader.int("Token Alias").map_err(malformed)? },
            3 => AuthToken::UseValue {
                kind: reader.int("Token Type").map_err(malformed)?,
                value: reader.rest(),
            },
            other => {
                return Err(ProtocolError::new(
                    SessionCode::KEY_VALUE_FORMATTING_ERROR,
                    format!("unknown Token Alias Type {other}"),
                ));
            }
        };
        if reader.is_empty() {
            Ok(token)
        } else {
            Err(ProtocolError::new(
                SessionCode::KEY_VALUE_FORMATTING_ERROR,
                "an authorization token has bytes after its last field",
            ))
        }
    }

    pub(crate) fn encode(&self, writer: &mut Writer) {
        match self {
            AuthToken::Delete { alias } => {
                writer.int(0);
                writer.int(*alias);
            }
            AuthToken::Register { alias, kind, value } => {
                writer.int(1);
                writer.int(*alias);
                writer.int(*kind);
                writer.bytes(value);
            }
            AuthToken::UseAlias { alias } => {
                writer.int(2);
                writer.int(*alias);
            }
            AuthToken::UseValue { kind, value } => {
                writer.int(3);
                writer.int(*kind);
                writer.bytes(value);
            }
        }
    }
}
