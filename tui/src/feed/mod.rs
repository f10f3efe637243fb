//! Where snapshots come from: a relay's admin API, or a recording.
//!
//! A feed runs as its own task and sends [`FeedEvent`]s into a bounded channel; it ends when the
//! receiver is gone. It never gives up on a relay: it says what is wrong and tries again. A second
//! one, [`detail`], brings all that is known of the one node that is looked at.

pub mod detail;
pub mod http;
pub mod lines;
pub mod recording;

use std::time::Duration;

use stats::{NodeSnapshot, Tree};
use tokio::sync::mpsc;

/// How many events may wait for the screen before the feed waits, too.
pub const CHANNEL_EVENTS: usize = 16;

/// What a feed has to tell.
#[derive(Debug, Clone)]
pub enum FeedEvent {
    /// An attempt to reach the source begins.
    Connecting,
    /// The source answers; snapshots follow.
    Connected,
    /// One snapshot of the tree.
    Tree(Box<Tree>),
    /// All that is known of one node of it.
    Detail(Box<NodeSnapshot>),
    /// A line that is no snapshot, and why. The feed goes on.
    Nonsense(String),
    /// The source can't be reached or broke off.
    Lost {
        /// What went wrong, for people.
        error: String,
        /// What to do about it, if that is known.
        advice: Option<&'static str>,
        /// How long until the next attempt.
        retry_in: Duration,
    },
    /// The end of a recording.
    Ended,
}

/// Reads one line into an event.
fn parse(line: &lines::Line) -> FeedEvent {
    match line {
        lines::Line::Whole(bytes) => match Tree::from_line(bytes) {
            Ok(tree) => FeedEvent::Tree(Box::new(tree)),
            Err(error) => match NodeSnapshot::from_line(bytes) {
                Ok(node) => FeedEvent::Detail(Box::new(node)),
                // The message may quote what was sent.
                Err(_) => FeedEvent::Nonsense(stats::sanitize(&error.to_string())),
            },
        },
        lines::Line::TooLong => {
            FeedEvent::Nonsense(format!("line longer than {} MiB", lines::MAX_LINE_BYTES >> 20))
        }
    }
}

/// The receiver is gone: nobody looks any more.
#[derive(Debug)]
pub struct Closed;

/// The sending end of a feed.
#[derive(Debug, Clone)]
pub struct Sender(mpsc::Sender<FeedEvent>);

impl Sender {
    /// Sends, or waits while the screen is busy.
    async fn send(&self, event: FeedEvent) -> Result<(), Closed> {
        self.0.send(event).await.map_err(|_| Closed)
    }
}

/// The bounded channel between a feed and the screen.
pub fn channel() -> (Sender, mpsc::Receiver<FeedEvent>) {
    let (sender, receiver) = mpsc::channel(CHANNEL_EVENTS);
    (Sender(sender), receiver)
}
