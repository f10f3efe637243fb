//! Sans-IO Media over QUIC Transport (MoQT): wire codecs and the session state machine.
//!
//! Nothing here knows a socket, a runtime or a clock: bytes and `now` come in as arguments, bytes
//! and events come out. The same code therefore runs under quinn, inside a fuzzer and in a
//! simulation with virtual time.
//!
//! # What goes in, what comes out
//!
//! * [`Message`] is the version-neutral model of every control message. [`codec`] turns it into a
//!   draft's bytes and back; only that module knows how drafts differ on the wire.
//! * [`Session`] is one end of a MoQT session. Feed it control and request stream bytes with
//!   `handle_*`, give it commands ([`Session::request`], [`Session::respond`], …), then drain
//!   [`Session::poll_output`] (bytes to write, streams to reset) and [`Session::poll_event`]
//!   (what the application must know) until both return `None`. Draining outputs first keeps
//!   replies in order.
//! * Objects bypass the session: [`SubgroupHeader`], [`ObjectScanner`] and [`Datagram`] parse and
//!   make data streams, and [`Session::track_alias`] says which request an alias belongs to.
//!   [`Transcoder`] turns one draft's data stream into another's.
//!
//! # Errors
//!
//! Whatever a peer sends, the answer is a [`ProtocolError`] with the session termination code the
//! draft asks for; nothing panics and nothing grows past the bounds in [`Limits`].

mod backfill;
mod buf;
pub mod codec;
mod data;
mod error;
mod fetch;
mod filter;
mod message;
mod name;
mod params;
mod properties;
mod scanner;
mod session;
mod token;
mod transcode;
mod version;

pub use backfill::Backfill;
pub use buf::{IntCoding, Reader, Writer};
pub use data::{
    Datagram, DatagramBody, FetchHeader, ObjectHeader, ObjectStatus, StreamKind, SubgroupHeader,
    SubgroupId,
};
pub use error::{ProtocolError, PublishDoneCode, RequestErrorCode, ResetCode, SessionCode};
pub use fetch::{FetchMark, FetchObject, FetchScanner, FetchWriter, Gap, OutOfOrder};
pub use filter::{
    Filter, InvalidFilter, Location, LocationFilter, LocationRange, RangeField, RangeFilter,
};
pub use message::{
    Fetch, FetchOk, FetchRange, GoAway, Message, Publish, PublishBlocked, PublishDone,
    PublishNamespace, Redirect, Request, RequestError, RequestId, RequestOk, RequestUpdate,
    Response, Setup, Subscribe, SubscribeNamespace, SubscribeOk, SubscribeTracks, TrackStatus,
};
pub use name::{FullTrackName, NameError, Namespace};
pub use params::{Fill, GroupOrder, Parameters};
pub use properties::{Properties, PropertyValue, RawProperties, RawValue, property};
pub use scanner::{ObjectMark, ObjectScanner};
pub use session::{Alias, Config, Event, Limits, Output, Role, Session, StreamId, Transport};
pub use token::AuthToken;
pub use transcode::{TranscodeError, Transcoder};
pub use version::Version;
