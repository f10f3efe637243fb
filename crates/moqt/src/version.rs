//! The drafts we speak and their names on the wire.

use crate::IntCoding;

/// A draft of MoQT that this crate speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Version {
    /// draft-ietf-moq-transport-16: one control stream for all requests.
    Draft16,
    /// draft-ietf-moq-transport-18
    Draft18,
    /// draft-ietf-moq-transport-22
    Draft22,
}

impl Version {
    /// Every version offered to peers, most preferred first: 18 is what most of them speak.
    pub const ALL: &'static [Version] = &[Version::Draft18, Version::Draft22, Version::Draft16];

    /// The same, oldest first.
    pub const EVERY: &'static [Version] = &[Version::Draft16, Version::Draft18, Version::Draft22];

    /// The name used both as ALPN on raw QUIC and in WT-Available-Protocols
    /// ("Session establishment").
    pub const fn alpn(self) -> &'static str {
        match self {
            Version::Draft16 => "moqt-16",
            Version::Draft18 => "moqt-18",
            Version::Draft22 => "moqt-22",
        }
    }

    /// The version that goes by `alpn`.
    pub fn from_alpn(alpn: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|version| version.alpn() == alpn)
    }

    /// How this draft encodes variable-length integers.
    pub const fn int_coding(self) -> IntCoding {
        match self {
            Version::Draft16 => IntCoding::Quic,
            Version::Draft18 | Version::Draft22 => IntCoding::LeadingOnes,
        }
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.alpn())
    }
}
