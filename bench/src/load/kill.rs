//! Viewers that vanish without a word: a process of its own, killed halfway.

use std::io;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::options::Options;
use super::report::Killed;

/// How long they have to join.
pub(super) const JOIN: Duration = Duration::from_secs(3);

/// A process full of viewers.
#[derive(Debug)]
pub(super) struct Victims {
    process: Child,
    viewers: usize,
    rss_before: u64,
    /// Resident memory of the relay just before they were killed.
    rss_with: Option<u64>,
}

impl Victims {
    /// Starts them: this program once more, with viewers only. `rss_before` is what the relay has
    /// without them.
    pub(super) fn start(options: &Options, rss_before: u64) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["load", "--no-publish", "--name", &options.name])
            .args(["--relay", options.relays[0].as_str(), "--viewers", &options.kill.to_string()])
            .args(["--seconds", "86400"])
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let process = command.spawn()?;
        Ok(Self { process, viewers: options.kill, rss_before, rss_with: None })
    }

    /// Kills them, the first time; the relay has `rss` bytes at this moment.
    pub(super) fn kill(&mut self, rss: u64) {
        if self.rss_with.is_none() {
            self.rss_with = Some(rss);
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }

    /// What it came to, when the relay has `rss_after` in the end.
    pub(super) fn report(&self, rss_after: u64) -> Killed {
        Killed {
            viewers: self.viewers,
            rss_before: self.rss_before,
            rss_with: self.rss_with.unwrap_or(rss_after),
            rss_after,
        }
    }
}

impl Drop for Victims {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
