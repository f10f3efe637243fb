//! QUIC and WebTransport for MoQT: the only crate that names quinn.
//!
//! * [`Endpoint`] binds a UDP port, accepts raw QUIC (ALPN `moqt-NN`) and WebTransport (ALPN
//!   `h3`) on it, and dials both kinds of URL. Either way the result is a [`Connection`].
//! * [`Listener`] is such a port before anyone serves it, shared among a server's workers.
//! * [`Driver`] runs a [`moqt::Session`] over a [`Connection`]: it owns the control and request
//!   streams and hands data streams, already told whose they are, to the application.
//! * [`publish`] keeps a broadcast published at a relay, whatever happens to the connection.
//! * [`subscribe`] is the other end: tracks received as whole objects.
//! * [`Route`] says which relay to dial next, and follows GOAWAY and redirects.
//! * [`clock`] tells the time, and asks peers for theirs.
//! * [`Identity`] is a server's certificate, [`ClientTls`] what a client trusts.
//!
//! The application sees no quinn type; what it needs of a stream is on [`SendStream`] and
//! [`RecvStream`], with the draft's codes.

mod backoff;
mod batching;
mod cipher;
mod client_tls;
pub mod clock;
mod connection;
mod driver;
mod endpoint;
mod error;
mod identity;
mod limits;
mod listener;
pub mod publish;
mod route;
mod stream;
pub mod subscribe;
mod trust;

/// The draft whose layout data streams and datagrams have at this crate's API, whatever the
/// connection speaks: give it to [`moqt::FetchScanner`] and [`moqt::FetchWriter`], and its
/// [`moqt::Version::int_coding`] to everything else.
pub const CANONICAL: moqt::Version = moqt::Version::Draft22;

/// What a program logs unless told otherwise: for a browser that vanishes, which is everyday, the
/// WebTransport library warns.
pub const LOG_FILTER: &str = "info,web_transport_quinn=error";

pub use backoff::Backoff;
pub use client_tls::{ClientTls, Fingerprint};
pub use connection::{Connection, PathStats};
pub use driver::{Driver, DriverEvent};
pub use endpoint::{
    Endpoint, EndpointConfig, EndpointOptions, Incoming, UdpBuffers, request_streams,
};
pub use error::Error;
pub use identity::{Identity, IdentityError};
pub use limits::Limits;
pub use listener::Listener;
pub use route::{Route, goaway_url, redirected};
pub use stream::{ReadError, RecvStream, SendStream, WriteError};
