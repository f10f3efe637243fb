//! On which draft and over which transport two programs meet.

use std::fmt;

/// What carries the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Quic,
    WebTransport,
}

impl Transport {
    pub(crate) const ALL: [Self; 2] = [Self::Quic, Self::WebTransport];

    /// Where a relay on this machine is dialled.
    pub(crate) fn url(self, port: u16) -> String {
        let scheme = match self {
            Self::Quic => "moqt",
            Self::WebTransport => "https",
        };
        format!("{scheme}://127.0.0.1:{port}")
    }

    /// In the name of a directory.
    fn slug(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::WebTransport => "webtransport",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quic => "raw QUIC",
            Self::WebTransport => "WebTransport",
        })
    }
}

/// A draft by its number, and a transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) draft: u8,
    pub(crate) transport: Transport,
}

impl Way {
    /// Each of `drafts` over each transport.
    pub(crate) fn all(drafts: &[u8]) -> Vec<Self> {
        let each = |&draft| Transport::ALL.map(|transport| Self { draft, transport });
        drafts.iter().flat_map(each).collect()
    }

    /// In the name of a directory.
    pub(crate) fn slug(self) -> String {
        format!("{}-{}", self.draft, self.transport.slug())
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "draft-{} over {}", self.draft, self.transport)
    }
}
