//! A driver's pieces of work: each reads or writes one stream, and comes back with what happened.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use moqt::{
    FetchHeader, ProtocolError, ResetCode, SessionCode, StreamId, StreamKind, SubgroupHeader,
};
use tokio::sync::mpsc;

use crate::{Error, ReadError, RecvStream, SendStream, WriteError};

/// Most bytes read of a data stream before its header must be whole: six integers and a byte.
const MAX_HEADER: usize = 64;
/// How long a peer may take to end its side of a request that is over.
const END_PATIENCE: Duration = Duration::from_secs(5);
/// Bytes asked for at once on control and request streams.
pub(super) const READ: usize = 16 * 1024;

pub(super) type Task = Pin<Box<dyn Future<Output = Done> + Send>>;

/// What one of the driver's pieces of work came back with.
pub(super) enum Done {
    AcceptedBi(Result<(SendStream, RecvStream), Error>),
    AcceptedUni(Result<RecvStream, Error>),
    Datagram(Result<Bytes, Error>),
    /// A unidirectional stream's beginning was read.
    Begun {
        kind: Begun,
        stream: RecvStream,
        head: BytesMut,
    },
    /// A unidirectional stream ended or broke before its header was whole, which harms nobody.
    Vanished,
    /// A unidirectional stream began with something the draft does not allow.
    Violation(ProtocolError),
    Control(RecvStream, Result<Option<Bytes>, ReadError>),
    Read(StreamId, RecvStream, Result<Option<Bytes>, ReadError>),
    Opened(StreamId, Commands, Result<(SendStream, RecvStream), Error>),
    OpenedControl(Commands, Result<SendStream, Error>),
    /// The peer asked us to stop sending on a request stream.
    Stopped(StreamId, ResetCode),
    Nothing,
}

#[derive(Clone, Copy)]
pub(super) enum Begun {
    Control,
    Subgroup(SubgroupHeader),
    Fetch(FetchHeader),
}

/// What a stream's writing task is told.
pub(super) enum Command {
    Write(Bytes),
    Reset(ResetCode),
}

/// A writing task's orders; when they end it finishes the stream.
pub(super) struct Commands {
    pub(super) orders: mpsc::UnboundedReceiver<Command>,
    /// Bytes of the session that wait in orders.
    pub(super) unsent: Arc<AtomicUsize>,
}

impl Commands {
    async fn next(&mut self) -> Option<Command> {
        let command = self.orders.recv().await;
        if let Some(Command::Write(bytes)) = &command {
            self.unsent.fetch_sub(bytes.len(), Ordering::Relaxed);
        }
        command
    }
}

impl Drop for Commands {
    fn drop(&mut self) {
        self.orders.close();
        while let Ok(command) = self.orders.try_recv() {
            if let Command::Write(bytes) = command {
                self.unsent.fetch_sub(bytes.len(), Ordering::Relaxed);
            }
        }
    }
}

/// Reads and forgets what still comes on a request that is over. A STOP_SENDING could overtake our
/// last word on it and would say that it was cancelled.
pub(super) async fn let_end(mut stream: RecvStream) {
    let end = async { while let Ok(Some(_)) = stream.read_chunk(READ).await {} };
    let _ = tokio::time::timeout(END_PATIENCE, end).await;
}

/// Writes what it is told until there is nothing more, or the peer stops it.
pub(super) async fn write_request(
    id: StreamId,
    mut stream: SendStream,
    mut commands: Commands,
) -> Done {
    // Requests go out before any object ("Scheduling Algorithm").
    stream.set_priority(i32::MAX - 1);
    loop {
        let command = tokio::select! {
            biased;
            command = commands.next() => command,
            stopped = stream.stopped() => {
                return match stopped {
                    Ok(Some(code)) => Done::Stopped(id, code),
                    _ => Done::Nothing,
                };
            }
        };
        match command {
            Some(Command::Write(bytes)) => match stream.write_all(bytes).await {
                Ok(()) => {}
                Err(WriteError::Stopped(code)) => return Done::Stopped(id, code),
                Err(WriteError::Gone(_)) => return Done::Nothing,
            },
            Some(Command::Reset(code)) => {
                stream.reset(code);
                return Done::Nothing;
            }
            None => {
                stream.finish();
                return Done::Nothing;
            }
        }
    }
}

/// Writes what it is told and never finishes: closing the control stream would be a violation.
pub(super) async fn write_control(mut stream: SendStream, mut commands: Commands) -> Done {
    while let Some(Command::Write(bytes)) = commands.next().await {
        if stream.write_all(bytes).await.is_err() {
            break;
        }
    }
    std::future::pending().await
}

fn late() -> ProtocolError {
    ProtocolError::new(
        SessionCode::DATA_STREAM_TIMEOUT,
        "a data stream did not bring its header in time",
    )
}

/// Reads a unidirectional stream until it is known what it is, but no longer than `patience`.
pub(super) async fn begin_within(
    patience: Duration,
    stream: RecvStream,
    coding: moqt::IntCoding,
) -> Done {
    let begun = tokio::time::timeout(patience, begin(stream, coding));
    begun.await.unwrap_or_else(|_| Done::Violation(late()))
}

async fn begin(mut stream: RecvStream, coding: moqt::IntCoding) -> Done {
    let mut head = BytesMut::new();
    loop {
        let begun = match StreamKind::peek(&head, coding) {
            Ok(None) => Ok(None),
            Ok(Some(StreamKind::Control)) => Ok(Some(Begun::Control)),
            Ok(Some(StreamKind::Subgroup)) => {
                SubgroupHeader::decode(&mut head, coding).map(|header| header.map(Begun::Subgroup))
            }
            Ok(Some(StreamKind::Fetch)) => {
                FetchHeader::decode(&mut head, coding).map(|header| header.map(Begun::Fetch))
            }
            // Padding carries nothing; dropping the stream stops it.
            Ok(Some(StreamKind::Padding)) => return Done::Vanished,
            Err(error) => Err(error),
        };
        match begun {
            Ok(Some(kind)) => return Done::Begun { kind, stream, head },
            Err(error) => return Done::Violation(error),
            Ok(None) if head.len() > MAX_HEADER => return Done::Vanished,
            Ok(None) => {}
        }
        match stream.read_chunk(READ).await {
            Ok(Some(bytes)) => head.extend_from_slice(&bytes),
            Ok(None) | Err(_) => return Done::Vanished,
        }
    }
}
