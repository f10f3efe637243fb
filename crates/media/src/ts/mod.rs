//! MPEG-2 transport streams, joined anywhere, with loss.
//!
//! The `mpeg2ts` crate is not used: its reader pulls from a blocking source, refuses a stream
//! joined before its PMT (an unknown PID is an error there), and reads only sections that fit in one
//! packet. Live television has all three.

mod audio;
mod demuxer;
mod packet;
mod pes;
mod psi;
mod video;

pub use demuxer::TsDemuxer;

/// Bytes of one transport packet.
pub const PACKET_BYTES: usize = 188;

/// Largest PES packet accepted: one very large key frame.
const MAX_PES_BYTES: usize = 8 << 20;
/// Ticks per second of the system clock's base, in which PES timestamps count.
const CLOCK_HZ: u32 = 90_000;
