//! What a Weir node says about itself: snapshots, drop reasons, rates and histograms.
//!
//! # Contract
//!
//! * A node fills in a [`NodeSnapshot`] about once a second. Counters in it are cumulative `u64`
//!   from the node's start; what is not known is `None`, never 0.
//! * A [`Tree`] is what one admin API answers: the snapshots of the asked node and of all nodes
//!   below it. One line of the `watch` feed is one [`Tree`].
//! * Readers compute rates with [`rates::Interval`], which knows a restart from a decrease.
//! * Reading is tolerant: unknown fields are skipped, fields and words that came later than the
//!   writer are absent or "unknown", a [`DropReason`] from a newer node is kept in
//!   [`DropReason::Other`] so that sums still hold.
//! * Text in a snapshot may come from any peer. [`Tree::from_line`] returns it [`sanitize()`]d; who
//!   reads a snapshot another way calls [`Tree::sanitize`] before showing it.
//!
//! The crate is a leaf: no clock, no sockets, no other crate of the workspace.

pub mod clock;
mod drops;
mod histogram;
pub mod rates;
mod sanitize;
mod snapshot;

pub use drops::{DropCounts, DropReason, Drops, UnknownDropReason};
pub use histogram::Histogram;
pub use sanitize::{MAX_TEXT_CHARS, sanitize};
pub use snapshot::{
    GroupSnapshot, MAX_GROUPS, NodeSnapshot, NodeState, Percentiles, SeenSnapshot, SessionKind,
    SessionSnapshot, TrackSnapshot, Transport, Tree, UdpBuffers, UpstreamSnapshot, UpstreamState,
};
