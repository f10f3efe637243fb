//! Media on standard input: what ffmpeg pipes.

use std::io::{IsTerminal, Read};

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use super::live::{self, LiveInput, STALL};
use super::{Outlet, PIPE, SourceError, SourceEvent, Unwanted};

/// Bytes asked for at once. What is there comes at once; this only bounds it.
const READ_BYTES: usize = 64 * 1024;

/// Runs until standard input ends.
pub(super) async fn run(outlet: &Outlet) -> Result<(), SourceError> {
    if std::io::stdin().is_terminal() {
        let error = format!("it is a terminal; pipe media in: {PIPE}");
        return Err(SourceError::Read(std::io::Error::other(error)));
    }
    let (input, sender) = live::open();
    tokio::join!(read(input, outlet), sender.run(outlet)).0
}

async fn read(mut input: LiveInput, outlet: &Outlet) -> Result<(), SourceError> {
    // A thread of its own, not the runtime's: a read that never returns must not hold up the exit.
    let (chunks, mut arriving) = mpsc::channel(16);
    std::thread::spawn(move || read_all(&chunks));
    let mut stalled = false;
    loop {
        let chunk = match tokio::time::timeout(STALL, arriving.recv()).await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => {
                return input.handle_end().await.map_err(|error| match error {
                    SourceError::Media(media::Error::NoTracks) => SourceError::Nothing,
                    error => error,
                });
            }
            Err(_) => {
                if !std::mem::replace(&mut stalled, true) {
                    let notice = SourceError::Stalled(STALL).to_string();
                    let _ = outlet.send(SourceEvent::Notice(notice)).await;
                }
                continue;
            }
        };
        let bytes = chunk.map_err(SourceError::Read)?;
        if std::mem::take(&mut stalled) {
            let _ = outlet.send(SourceEvent::Notice("standard input goes on".into())).await;
        }
        if let Err(Unwanted) = input.handle_bytes(bytes).await? {
            return Ok(());
        }
    }
}

/// Passes standard input on until it ends, breaks, or nobody takes it.
fn read_all(chunks: &mpsc::Sender<std::io::Result<Bytes>>) {
    let mut stdin = std::io::stdin().lock();
    let mut buffer = BytesMut::zeroed(READ_BYTES);
    loop {
        let chunk = match stdin.read(&mut buffer) {
            Ok(0) => return,
            Ok(size) => Ok(Bytes::copy_from_slice(&buffer[..size])),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let last = chunk.is_err();
        if chunks.blocking_send(chunk).is_err() || last {
            return;
        }
    }
}
