//! What measures a relay from outside.
//!
//! * [`load`] publishes broadcasts at a relay, watches them many times over, and counts what
//!   arrived, how late, and what did not: `weir-bench load`.
//! * [`bare`] is a QUIC server that writes the same bytes and does nothing else, the yardstick of
//!   what is physically possible: `weir-bench bare`.
//! * [`compare`] puts the same loads on the relay, the bare server and other relays in turn:
//!   `weir-bench compare`, which `cargo xtask bench` runs.
//! * [`process`] reads from `/proc` what a process costs, [`admin`] asks a relay what it claims.
//!
//! Counting is by what was published, never by what came: an object that the relay says nothing
//! about is missing all the same.

pub mod admin;
pub mod bare;
pub mod clock;
pub mod compare;
pub mod draft;
pub mod load;
pub mod process;
