//! What goes wrong between two endpoints.

use std::net::SocketAddr;

/// Why an endpoint, a connection or a session could not be had or was lost.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The UDP port cannot be had.
    #[error("cannot listen on UDP {addr}: {reason}")]
    Bind {
        /// What was asked for.
        addr: SocketAddr,
        /// What the system said.
        reason: String,
    },
    /// The URL is none of ours.
    #[error(
        "{url}: {reason}; use moqt://HOST:PORT (QUIC) or https://HOST:PORT/PATH (WebTransport)"
    )]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The name has no address.
    #[error("cannot resolve {host}: {reason}")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        reason: String,
    },
    /// No answer, or none in time.
    #[error("cannot reach {peer}: {reason}")]
    Unreachable {
        /// Who was dialled.
        peer: String,
        /// Why not.
        reason: String,
    },
    /// The server's certificate was not accepted.
    #[error("{peer}: {reason}")]
    Certificate {
        /// Who was dialled.
        peer: String,
        /// What is wrong with it and what to do.
        reason: String,
    },
    /// No draft in common.
    #[error(
        "{peer} and we speak no MoQT version in common; ours: {ours}{}",
        .said.as_ref().map_or(String::new(), |said| format!(" ({said})"))
    )]
    Version {
        /// The peer.
        peer: String,
        /// What we offered or take, by name.
        ours: String,
        /// What the peer said to it, if it could say anything.
        said: Option<String>,
    },
    /// The connection ended.
    #[error("connection lost: {0}")]
    Lost(String),
    /// The peer closed the session.
    #[error("the peer closed the session: {code}{}{reason}", if .reason.is_empty() { "" } else { ": " })]
    Closed {
        /// Its code.
        code: moqt::SessionCode,
        /// Its words.
        reason: String,
    },
    /// The peer broke the protocol and was cut off.
    #[error("closed the session: {0}")]
    Protocol(moqt::ProtocolError),
    /// Local set-up failed.
    #[error("{0}")]
    Setup(String),
}

impl From<moqt::ProtocolError> for Error {
    fn from(error: moqt::ProtocolError) -> Self {
        Self::Protocol(error)
    }
}

impl From<web_transport_quinn::SessionError> for Error {
    fn from(error: web_transport_quinn::SessionError) -> Self {
        use web_transport_quinn::{SessionError, WebTransportError, quinn};
        match error {
            SessionError::WebTransportError(WebTransportError::Closed(code, reason)) => {
                Self::Closed { code: moqt::SessionCode(code.into()), reason }
            }
            SessionError::ConnectionError(quinn::ConnectionError::TimedOut) => {
                Self::Lost("the peer went silent".into())
            }
            SessionError::ConnectionError(quinn::ConnectionError::Reset) => {
                Self::Lost("the peer restarted".into())
            }
            other => Self::Lost(other.to_string()),
        }
    }
}
