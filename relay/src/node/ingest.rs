//! Reads one upstream subgroup into its track, as it comes.

use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use moqt::ResetCode;
use relay_core::{FeedId, TrackError};
use transport::{ReadError, RecvStream};

use super::{Node, SharedTrack};

/// Chunks taken off a stream at once. QUIC gives one a packet.
const CHUNKS: usize = 64;

/// Reads to the stream's end. An error is the publisher's.
pub(super) async fn run(
    node: Arc<Node>,
    track: Arc<SharedTrack>,
    feed: FeedId,
    head: Bytes,
    mut stream: RecvStream,
) -> Result<(), TrackError> {
    let mut writer = Writer { node: &node, track: &track, feed };
    writer.append(head)?;
    let mut chunks = [const { Bytes::new() }; CHUNKS];
    loop {
        match stream.read_chunks(&mut chunks).await {
            Ok(Some(count)) => writer.append(join(&mut chunks[..count]))?,
            Ok(None) => {
                let finished = track.write().finish(feed, Instant::now());
                track.wake();
                return finished;
            }
            Err(ReadError::Reset(code)) => {
                // Its sender leaves or we moved away: another source may go on with it.
                if code == ResetCode::SESSION_CLOSED || code == ResetCode::GOING_AWAY {
                    track.write().interrupt(feed, Instant::now());
                } else {
                    track.write().reset(feed, passed_on(code), Instant::now());
                }
                track.wake();
                return Ok(());
            }
            Err(ReadError::Gone(_)) => {
                track.write().interrupt(feed, Instant::now());
                track.wake();
                return Ok(());
            }
        }
    }
}

/// What came together as one piece. It is copied once here so that QUIC, which keeps a list of pieces
/// for every viewer and searches it for each packet, has a short one.
fn join(chunks: &mut [Bytes]) -> Bytes {
    if let [one] = chunks {
        return std::mem::take(one);
    }
    let mut joined = BytesMut::with_capacity(chunks.iter().map(Bytes::len).sum());
    for chunk in chunks {
        joined.extend_from_slice(&std::mem::take(chunk));
    }
    joined.freeze()
}

/// The code that those below hear. What a publisher has against *us* is not theirs.
fn passed_on(code: ResetCode) -> ResetCode {
    match code {
        ResetCode::DELIVERY_TIMEOUT | ResetCode::MALFORMED_TRACK | ResetCode::TOO_FAR_BEHIND => {
            code
        }
        _ => ResetCode::INTERNAL_ERROR,
    }
}

struct Writer<'a> {
    node: &'a Node,
    track: &'a SharedTrack,
    feed: FeedId,
}

impl Writer<'_> {
    /// Appends what was read. After an error the subgroup gets no more from here.
    fn append(&mut self, bytes: Bytes) -> Result<(), TrackError> {
        let now = Instant::now();
        let mut track = self.track.write();
        let before = (track.bytes_in(), track.objects_in());
        let result = track.append(self.feed, bytes, now);
        if result.is_err() {
            track.reset(self.feed, ResetCode::MALFORMED_TRACK, now);
        }
        self.node.totals.count_in(track.bytes_in() - before.0, track.objects_in() - before.1);
        drop(track);
        self.track.wake();
        result
    }
}
