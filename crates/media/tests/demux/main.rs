//! The demuxers against real files and hostile bytes.

mod common;
mod dropping;
mod fixtures;
mod hostile;
