//! What a session is told when it starts.

use std::time::Duration;

use crate::{Setup, Version};

/// Which end of the connection we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// We dialled.
    Client,
    /// We were dialled.
    Server,
}

/// What carries the session; SETUP differs a little ("Session establishment").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// MoQT's own ALPN.
    RawQuic,
    /// WebTransport over HTTP/3.
    WebTransport,
}

/// Bounds on what a peer may make us hold. Those that the draft itself sets need no entry: a
/// message has 65,535 bytes at most, a full track name 4,096, a namespace 32 fields.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests the peer may have open at once; one more is refused with EXCESSIVE_LOAD.
    pub requests: usize,
    /// Namespaces the peer may name in answer to one SUBSCRIBE_NAMESPACE; one more cancels it.
    pub namespaces: usize,
    /// Bytes of all their names together, likewise.
    pub namespace_bytes: usize,
    /// Updates of one request the peer may send before we answer, where the draft sets no limit.
    pub updates: usize,
    /// Bytes of messages that are not whole, on all request streams together; more ends the session
    /// with INTERNAL_ERROR.
    pub unfinished_bytes: usize,
    /// Bytes of authorization tokens the peer may register, for the shell to say in
    /// [`Setup::max_auth_token_cache_size`]; more ends the session with
    /// AUTH_TOKEN_CACHE_OVERFLOW.
    pub token_bytes: u64,
    /// How long the peer's SETUP may take; later ends the session with CONTROL_MESSAGE_TIMEOUT.
    pub setup_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests: 512,
            namespaces: 16 * 1024,
            namespace_bytes: 1 << 20,
            unfinished_bytes: 1 << 20,
            token_bytes: 8192,
            updates: 256,
            setup_timeout: Duration::from_secs(10),
        }
    }
}

/// What a session is told when it starts.
#[derive(Clone, Debug)]
pub struct Config {
    /// The negotiated draft.
    pub version: Version,
    /// Which end we are.
    pub role: Role,
    /// What carries the session.
    pub transport: Transport,
    /// Our SETUP. Its MAX_AUTH_TOKEN_CACHE_SIZE bounds the tokens the peer may register.
    pub setup: Setup,
    /// Bounds.
    pub limits: Limits,
}
