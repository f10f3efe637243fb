//! What measures a relay from outside.
//!
//! * [`load`] publishes broadcasts at a relay, watches them many times over, and counts what
//!   arrived, how late, and what did not: `weir-bench load`.
//! * [`bare`] is a QUIC server that writes the same bytes and does nothing else, the yardstick of
//!   what is physically possible: `weir-bench bare`.
//! * [`process`] reads from `/proc` what a process costs, [`admin`] asks a relay what it claims.
//! * [`subscribe`] is a subscriber that takes whole objects: `weir-sub`.
//!
//! Counting is by what was published, never by what came: an object that the relay says nothing
//! about is missing all the same.

pub mod admin;
pub mod bare;
pub mod clock;
pub mod load;
pub mod process;
pub mod subscribe;
