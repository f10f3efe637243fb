//! Running a step's commands: shown, bounded in time, counted.

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};

use super::counts::Counts;
use crate::{
    child::{self, Running, Stop},
    player, project,
};

/// A command that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(25 * 60);
const END_PATIENCE: Duration = Duration::from_secs(10);
/// What a command has printed may still be under way when it has ended.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Lines read and not yet printed; beyond it the command waits.
const LINES_AHEAD: usize = 1024;

/// The commands of one step.
#[derive(Debug)]
pub(crate) struct Run {
    stop: Stop,
    counts: Counts,
}

impl Run {
    pub(crate) fn new(stop: Stop) -> Self {
        Self { stop, counts: Counts::default() }
    }

    /// The sum of all that its commands counted.
    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// Adds what was counted elsewhere.
    pub(crate) fn count(&mut self, counts: Counts) {
        self.counts = self.counts + counts;
    }

    /// Whether this chore was asked to end.
    pub(crate) fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Fetches the npm packages of `directory` unless they are as its lock file says.
    pub(crate) fn npm_packages(&mut self, directory: &Path) -> Result<()> {
        if !player::packages_are_stale(directory) {
            return Ok(());
        }
        self.command(&player::install(directory))
    }

    /// Whether `cargo nextest` is installed.
    pub(crate) fn has_nextest(&self) -> bool {
        let mut version = project::cargo(&["nextest", "--version"]);
        let version = version.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        version.status().is_ok_and(|status| status.success())
    }

    /// Runs `command` to its end, showing and counting; fails when it does.
    pub(crate) fn command(&mut self, command: &Command) -> Result<()> {
        ensure!(!self.stop.requested(), "ended on request");
        let shown = project::shown(command);
        println!("$ {shown}");
        let mut bound = child::bound(command);
        // Colours would hide the counts.
        bound.env("NO_COLOR", "1").env("CARGO_TERM_COLOR", "never").env_remove("FORCE_COLOR");
        bound.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running = Running::start(&mut bound)?;
        let (sender, lines) = mpsc::sync_channel(LINES_AHEAD);
        let process = running.process();
        if let Some(stdout) = process.stdout.take() {
            read_lines(stdout, sender.clone());
        }
        if let Some(stderr) = process.stderr.take() {
            read_lines(stderr, sender);
        }
        let deadline = Instant::now() + LIMIT;
        let counts = follow(&lines, || {
            Ok(running.poll_end()?.is_some() || self.stop.requested() || Instant::now() >= deadline)
        })?;
        let status = running.wait(deadline, &self.stop)?;
        running.end(END_PATIENCE);
        let last_words = Instant::now() + LAST_WORDS;
        let rest = follow(&lines, || Ok(Instant::now() >= last_words))?;
        self.counts = self.counts + counts + rest;
        match status {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("`{shown}` failed: {status}"),
            None if self.stop.requested() => bail!("ended on request"),
            None => bail!("`{shown}` did not end within {} minutes", LIMIT.as_secs() / 60),
        }
    }
}

/// Prints and counts lines until there can be no more, or `done`.
fn follow(lines: &Receiver<String>, mut done: impl FnMut() -> Result<bool>) -> Result<Counts> {
    let mut counts = Counts::default();
    while !done()? {
        match lines.recv_timeout(Duration::from_millis(50)) {
            Ok(line) => {
                println!("{line}");
                counts = counts + Counts::from_line(&line).unwrap_or_default();
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
    Ok(counts)
}

fn read_lines(from: impl Read + Send + 'static, lines: SyncSender<String>) {
    thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while from.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if lines.send(text).is_err() {
                return;
            }
            line.clear();
        }
    });
}
