//! The drafts we speak and their names on the wire.

use crate::IntCoding;

/// A draft of MoQT that this crate speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Version {
    /// draft-ietf-moq-transport-18
    Draft18,
}

impl Version {
    /// Every version we speak, most preferred first.
    pub const ALL: &'static [Version] = &[Version::Draft18];

    /// The name used both as ALPN on raw QUIC and in WT-Available-Protocols
    /// ("Session establishment").
    pub const fn alpn(self) -> &'static str {
        match self {
            Version::Draft18 => "moqt-18",
        }
    }

    /// The version that goes by `alpn`, if it is one we speak.
    pub fn from_alpn(alpn: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|version| version.alpn() == alpn)
    }

    /// How this draft encodes variable-length integers.
    pub const fn int_coding(self) -> IntCoding {
        match self {
            Version::Draft18 => IntCoding::LeadingOnes,
        }
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.alpn())
    }
}
