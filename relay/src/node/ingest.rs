//! Reads one upstream subgroup into its track, as it comes.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use moqt::{ProtocolError, ResetCode};
use relay_core::SubgroupSeq;
use transport::{ReadError, RecvStream};

use super::{Node, SharedTrack};

/// Chunks taken off a stream at once.
const CHUNKS: usize = 32;

/// Reads to the stream's end. An error is the publisher's, and its session must be closed.
pub(super) async fn run(
    node: Arc<Node>,
    track: Arc<SharedTrack>,
    seq: SubgroupSeq,
    head: Bytes,
    mut stream: RecvStream,
) -> Result<(), ProtocolError> {
    let mut writer = Writer { node: &node, track: &track, seq };
    writer.append(&mut [head])?;
    let mut chunks: [Bytes; CHUNKS] = Default::default();
    loop {
        match stream.read_chunks(&mut chunks).await {
            Ok(Some(count)) => {
                if let Err(error) = writer.append(&mut chunks[..count]) {
                    track.write().reset(seq, ResetCode::MALFORMED_TRACK);
                    track.wake();
                    return Err(error);
                }
            }
            Ok(None) => {
                let finished = track.write().finish(seq);
                track.wake();
                return finished;
            }
            Err(ReadError::Reset(code)) => {
                // Its sender leaves or we moved away: another source may go on with it.
                if code == ResetCode::SESSION_CLOSED || code == ResetCode::GOING_AWAY {
                    track.write().interrupt(seq);
                } else {
                    track.write().reset(seq, code);
                }
                track.wake();
                return Ok(());
            }
            Err(ReadError::Gone(_)) => {
                track.write().interrupt(seq);
                return Ok(());
            }
        }
    }
}

struct Writer<'a> {
    node: &'a Node,
    track: &'a SharedTrack,
    seq: SubgroupSeq,
}

impl Writer<'_> {
    fn append(&mut self, chunks: &mut [Bytes]) -> Result<(), ProtocolError> {
        let now = Instant::now();
        let mut track = self.track.write();
        let (bytes, objects) = (track.bytes_in(), track.objects_in());
        let mut result = Ok(());
        for chunk in chunks {
            result = result.and_then(|()| track.append(self.seq, std::mem::take(chunk), now));
        }
        self.node.totals.count_in(track.bytes_in() - bytes, track.objects_in() - objects);
        drop(track);
        self.track.wake();
        result
    }
}
