//! `--once`: the table of nodes as plain text, for scripts and for terminals that can't do more.

use std::time::{Duration, Instant};

use tokio::sync::mpsc::Receiver;
use unicode_width::UnicodeWidthStr;

use crate::feed::FeedEvent;
use crate::feed::recording::{RecordingError, Replay};
use crate::lists::{self, Folds, NodeSort, Sort};
use crate::state::State;
use crate::view::nodes::{COLUMNS, Id, cell};

/// Rates need two snapshots, a second apart.
const SNAPSHOTS: usize = 2;
/// How long to wait for them.
const PATIENCE: Duration = Duration::from_secs(8);

/// Why there is no table.
#[derive(Debug, thiserror::Error)]
pub enum OnceError {
    /// The relay can't be reached.
    #[error("cannot reach {url}: {error}")]
    Unreachable {
        /// Where.
        url: String,
        /// Why.
        error: String,
    },
    /// It answers, but with nothing that can be read.
    #[error("{url} sends no snapshot{why}; is it the admin address of a relay?")]
    NoSnapshot {
        /// Where.
        url: String,
        /// What was wrong with the last line, if there was one.
        why: String,
    },
    /// The recording can't be read.
    #[error(transparent)]
    Recording(#[from] RecordingError),
}

/// The table from a live feed.
///
/// # Errors
/// When no snapshot comes.
pub async fn from_feed(url: &str, mut feed: Receiver<FeedEvent>) -> Result<String, OnceError> {
    let start = Instant::now();
    let mut state = State::new(url.to_owned());
    let mut trees = 0;
    let all = async {
        while trees < SNAPSHOTS {
            let Some(event) = feed.recv().await else { break };
            match event {
                FeedEvent::Lost { error, advice, .. } if trees == 0 => {
                    let advice = advice.unwrap_or(
                        "is a relay running there? Give its --admin address, as http://HOST:4480",
                    );
                    let error = format!("{error}; {advice}");
                    return Err(OnceError::Unreachable { url: url.to_owned(), error });
                }
                FeedEvent::Lost { .. } => break,
                event => {
                    trees += usize::from(matches!(event, FeedEvent::Tree(_)));
                    state.handle_feed(event, start.elapsed());
                }
            }
        }
        Ok(())
    };
    // One snapshot in time is a table, too; its rates are unknown.
    tokio::time::timeout(PATIENCE, all).await.unwrap_or(Ok(()))?;
    table(&state, start.elapsed())
}

/// The table at the end of a recording.
///
/// # Errors
/// When it can't be read or holds no snapshot.
pub fn from_recording(name: &str, mut replay: Replay) -> Result<String, OnceError> {
    let mut state = State::new(name.to_owned());
    let mut now = Duration::ZERO;
    state.handle_feed(FeedEvent::Connected, now);
    while let Some((pause, event)) = replay.poll_event()? {
        now += pause;
        state.handle_feed(event, now);
    }
    state.handle_feed(FeedEvent::Ended, now);
    table(&state, now)
}

fn table(state: &State, now: Duration) -> Result<String, OnceError> {
    if !state.has_data() {
        let why = state.nonsense().map(|(_, error)| format!(" ({error})")).unwrap_or_default();
        return Err(OnceError::NoSnapshot { url: state.source.clone(), why });
    }
    let columns: Vec<_> = COLUMNS.iter().filter(|column| column.id != Id::Spark).collect();
    let mut rows = vec![columns.iter().map(|column| column.title.to_owned()).collect::<Vec<_>>()];
    for place in lists::nodes(state, "", Sort::by(NodeSort::Name), &Folds::unfolded(state), now) {
        let Some(node) = state.node(&place.name) else { continue };
        let text = |id| match cell(state, &place, node, id, now).text() {
            // In a script's columns an empty one would be missing.
            empty if empty.is_empty() => crate::format::UNKNOWN.to_owned(),
            text => text,
        };
        rows.push(columns.iter().map(|column| text(column.id)).collect());
    }
    let widths: Vec<usize> = (0..columns.len())
        .map(|at| rows.iter().map(|row| row[at].width()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for ((cell, column), width) in row.iter().zip(&columns).zip(&widths) {
            let space = " ".repeat(width - cell.width());
            let (before, after) = if column.right { (&*space, "") } else { ("", &*space) };
            line.extend([before, cell, after, "  "]);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    Ok(text)
}
