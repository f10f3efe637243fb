//! Placeholder, replaced by its first change.
fn main() {}
