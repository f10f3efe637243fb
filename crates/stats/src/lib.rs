//! Placeholder, replaced by its first change.
