//! What measures a relay from outside.
//!
//! [`subscribe`] is a subscriber that takes whole objects, the heart of `weir-sub`.

pub mod subscribe;
