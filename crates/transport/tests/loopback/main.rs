//! Two endpoints of ours on one machine: every draft on raw QUIC and on WebTransport.

mod common;
mod moving;
mod negotiation;
mod past;
mod publishing;
