//! Sans-IO relay: who gets what, in what order, and what spills.
//!
//! Three plain state machines; the shell owns threads, locks and sockets.
//!
//! * [`Router`] knows namespaces, subscriptions and where tracks come from. Feed it what sessions
//!   say with `handle_*`, then drain [`Router::poll_action`] until `None`.
//! * [`Track`] is one track's objects as they arrive from all of its sources, each once, bounded in
//!   bytes and age, shared by all of its viewers. Payloads are opaque and never copied. What is
//!   kept of the past is planned with [`Track::plan`] and taken with a [`FetchCursor`].
//! * [`Outbox`] is one downstream session's view of its tracks: ask [`Outbox::poll`] for the next
//!   thing to do whenever the transport has room, and tell it what was taken with
//!   [`Outbox::handle_written`]. The newest decision about order and expiry is made then, not when
//!   an object arrived. For every viewer delivered + dropped + queued = offered.
//!
//! No clock, no socket, no runtime: `now` is an argument, so a whole tree of relays runs in one
//! seeded simulation.

mod fetch;
mod outbox;
mod policy;
mod router;
mod track;

pub use fetch::{FetchCursor, FetchStep, FetchedObject, Part};
pub use outbox::{
    Action, Backlog, Books, DatagramOut, GroupBooks, Outbox, StreamKey, Subscription, TrackBooks,
    Urgency,
};
pub use policy::{DeliveryTimeouts, Policy, fetch_priority, is_more_urgent};
pub use router::{Peer, RouteAction, Router, RouterConfig, SessionId, TrackId, Upstream};
pub use track::{
    CacheLimits, Captured, FeedId, GroupArrived, Milestone, Spread, Subgroup, SubgroupEnd,
    SubgroupSeq, Timing, Track, TrackError,
};
