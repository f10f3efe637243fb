//! What the drafts demand of a relay, shown by peers that speak for themselves: see
//! `docs/conformance.md`.

#[path = "../common/mod.rs"]
mod common;

mod delivery;
mod names;
mod objects;
mod past;
mod peer;
mod subscriptions;

use moqt::Version;

/// Every draft the relay speaks.
const EVERY: [Version; 3] = [Version::Draft16, Version::Draft18, Version::Draft22];
/// Those with a stream for each request.
const LATER: [Version; 2] = [Version::Draft18, Version::Draft22];
