//! The draft's error codes, and the error that ends a session.

use std::borrow::Cow;

use crate::Version;

macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($(#[$cdoc:meta])* $code:ident = $value:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u64);

        impl $name {
            $($(#[$cdoc])* pub const $code: Self = Self($value);)*

            /// The draft's name for this code, or `None` when it names none.
            pub fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some(stringify!($code)),)*
                    _ => None,
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self.name() {
                    Some(name) => f.write_str(name),
                    None => write!(f, "{:#x}", self.0),
                }
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        }
    };
}

codes! {
    /// Why a session ended ("Session Termination Error Codes").
    SessionCode {
        /// The session ends without an error.
        NO_ERROR = 0x0,
        /// Something went wrong at the sender.
        INTERNAL_ERROR = 0x1,
        /// The client may not open this session.
        UNAUTHORIZED = 0x2,
        /// The peer did what the draft forbids.
        PROTOCOL_VIOLATION = 0x3,
        /// A request ID of the wrong parity, or one used before.
        INVALID_REQUEST_ID = 0x4,
        /// A track alias that another track holds.
        DUPLICATE_TRACK_ALIAS = 0x5,
        /// A key-value pair whose value does not fit its type.
        KEY_VALUE_FORMATTING_ERROR = 0x6,
        /// A request ID beyond MAX_REQUEST_ID (draft 16).
        TOO_MANY_REQUESTS = 0x7,
        /// PATH where it may not be, or one that is not served.
        INVALID_PATH = 0x8,
        /// PATH that is no path.
        MALFORMED_PATH = 0x9,
        /// The peer stayed too long after GOAWAY.
        GOAWAY_TIMEOUT = 0x10,
        /// A control message did not come in time.
        CONTROL_MESSAGE_TIMEOUT = 0x11,
        /// A data stream stopped inside a header.
        DATA_STREAM_TIMEOUT = 0x12,
        /// More registered tokens than MAX_AUTH_TOKEN_CACHE_SIZE allows.
        AUTH_TOKEN_CACHE_OVERFLOW = 0x13,
        /// A token alias that is in use.
        DUPLICATE_AUTH_TOKEN_ALIAS = 0x14,
        /// No version in common.
        VERSION_NEGOTIATION_FAILED = 0x15,
        /// A token that cannot be parsed.
        MALFORMED_AUTH_TOKEN = 0x16,
        /// A token alias that was never registered.
        UNKNOWN_AUTH_TOKEN_ALIAS = 0x17,
        /// A token past its time.
        EXPIRED_AUTH_TOKEN = 0x18,
        /// AUTHORITY where it may not be, or one that is not served.
        INVALID_AUTHORITY = 0x19,
        /// AUTHORITY that is no authority.
        MALFORMED_AUTHORITY = 0x1a,
        /// More unanswered updates of one request than MAX_REQUEST_UPDATES allows.
        TOO_MANY_REQUEST_UPDATES = 0x1b,
    }
}

codes! {
    /// Why a request failed ("REQUEST_ERROR Codes").
    RequestErrorCode {
        /// Something went wrong at the responder.
        INTERNAL_ERROR = 0x0,
        /// The requester may not do this.
        UNAUTHORIZED = 0x1,
        /// It took too long.
        TIMEOUT = 0x2,
        /// This kind of request is not served here.
        NOT_SUPPORTED = 0x3,
        /// A token that cannot be parsed.
        MALFORMED_AUTH_TOKEN = 0x4,
        /// A token past its time.
        EXPIRED_AUTH_TOKEN = 0x5,
        /// The responder is leaving.
        GOING_AWAY = 0x6,
        /// The responder has too much to do.
        EXCESSIVE_LOAD = 0x9,
        /// No such track or namespace here.
        DOES_NOT_EXIST = 0x10,
        /// A range that cannot be satisfied.
        INVALID_RANGE = 0x11,
        /// The track broke the rules.
        MALFORMED_TRACK = 0x12,
        /// A second subscription to one track in one role.
        DUPLICATE_SUBSCRIPTION = 0x19,
        /// The subscriber does not want this.
        UNINTERESTED = 0x20,
        /// The prefix overlaps another subscription's.
        PREFIX_OVERLAP = 0x30,
        /// The prefix matches more than the responder lists.
        NAMESPACE_TOO_LARGE = 0x31,
        /// A joining fetch of no established subscription.
        INVALID_JOINING_REQUEST_ID = 0x32,
        /// A mandatory track property that is not understood.
        UNSUPPORTED_EXTENSION = 0x33,
        /// To be had elsewhere.
        REDIRECT = 0x34,
        /// The filters of too many subscribers contradict each other.
        CONFLICTING_FILTERS = 0x35,
        /// A filter that makes no sense, or more ranges than MAX_FILTER_RANGES allows.
        INVALID_FILTER = 0x36,
    }
}

codes! {
    /// Why a subscription ended ("PUBLISH_DONE Codes").
    PublishDoneCode {
        /// Something went wrong at the publisher.
        INTERNAL_ERROR = 0x0,
        /// The subscriber may no longer have the track.
        UNAUTHORIZED = 0x1,
        /// The track is over.
        TRACK_ENDED = 0x2,
        /// The filter's end was reached.
        SUBSCRIPTION_ENDED = 0x3,
        /// GOAWAY was sent or received.
        GOING_AWAY = 0x4,
        /// The subscriber takes less than is published.
        TOO_FAR_BEHIND = 0x5,
        /// The subscription's time is over.
        EXPIRED = 0x6,
        /// A REQUEST_UPDATE failed.
        UPDATE_FAILED = 0x8,
        /// The publisher has too much to do.
        EXCESSIVE_LOAD = 0x9,
        /// The track broke the rules.
        MALFORMED_TRACK = 0x12,
    }
}

codes! {
    /// Why a stream was reset or stopped ("Stream Reset Error Codes").
    ResetCode {
        /// Something went wrong at the sender.
        INTERNAL_ERROR = 0x0,
        /// No longer wanted.
        CANCELLED = 0x1,
        /// A delivery timeout passed.
        DELIVERY_TIMEOUT = 0x2,
        /// The session is closing.
        SESSION_CLOSED = 0x3,
        /// GOAWAY was sent or received.
        GOING_AWAY = 0x4,
        /// The subscriber takes less than is published.
        TOO_FAR_BEHIND = 0x5,
        /// A fetched object whose status is not known.
        UNKNOWN_OBJECT_STATUS = 0x6,
        /// A token past its time.
        EXPIRED_AUTH_TOKEN = 0x7,
        /// The sender has too much to do.
        EXCESSIVE_LOAD = 0x9,
        /// The track broke the rules.
        MALFORMED_TRACK = 0x12,
    }
}

impl ResetCode {
    /// The code that says this in `version`. Draft 16 numbers two codes otherwise and lacks some:
    /// those become the nearest one it has.
    pub fn to_wire(self, version: Version) -> u64 {
        match (version, self) {
            (Version::Draft16, Self::UNKNOWN_OBJECT_STATUS) => 0x4,
            (Version::Draft16, Self::GOING_AWAY | Self::TOO_FAR_BEHIND | Self::EXCESSIVE_LOAD) => {
                Self::CANCELLED.0
            }
            (Version::Draft16, Self::EXPIRED_AUTH_TOKEN) => Self::CANCELLED.0,
            _ => self.0,
        }
    }

    /// What `code` says in `version`.
    pub fn from_wire(code: u64, version: Version) -> Self {
        match (version, code) {
            (Version::Draft16, 0x4) => Self::UNKNOWN_OBJECT_STATUS,
            _ => Self(code),
        }
    }
}

/// What a peer did wrong; the session must be closed with this code and reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {reason}")]
pub struct ProtocolError {
    /// The code to close the session with.
    pub code: SessionCode,
    /// What exactly was wrong, for the peer's log and ours.
    pub reason: Cow<'static, str>,
}

impl ProtocolError {
    /// An error with any code.
    pub fn new(code: SessionCode, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { code, reason: reason.into() }
    }

    /// The common case, [`SessionCode::PROTOCOL_VIOLATION`].
    pub fn violation(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::new(SessionCode::PROTOCOL_VIOLATION, reason)
    }
}
