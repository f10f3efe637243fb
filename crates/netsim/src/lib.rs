//! A seeded emulator of one network link, for tests and the demo.
//!
//! # The core: [`Link`]
//!
//! A [`Link`] is one direction of a path and does no I/O. Packets go in with
//! [`Link::handle_packet`] and the current time, come out of [`Link::poll_packet`] once they are due,
//! and [`Link::poll_timeout`] says when to ask again. Time is an argument, so a whole network runs in
//! virtual time inside a unit test; every random choice comes from the seed, so a run repeats exactly.
//!
//! A packet meets, in this order: random loss, the bottleneck's queue (bounded in bytes, the tail is
//! dropped), the bottleneck (one packet after the other at the configured rate), then delay and jitter.
//! The books always balance:
//!
//! ```text
//! packets in = packets out + lost + dropped at the full queue + still held
//! ```
//!
//! # The shell: [`UdpProxy`]
//!
//! [`UdpProxy`] stands between real clients and a real server with one `Link` each way. All clients
//! share the two links, as they would share an access line.
//!
//! The `netsim` binary is that proxy on the command line.

mod config;
mod link;
mod proxy;
mod rng;

pub use config::{ConfigError, LinkConfig, Probability, Rate};
pub use link::{Counters, Fate, Link};
pub use proxy::{ProxyConfig, ProxyError, UdpProxy};
