//! The demuxers against real files and hostile bytes.

mod common;
mod fixtures;
mod hostile;
