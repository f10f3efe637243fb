//! Children that end with the chore, and the request to end it.
//!
//! Each child runs in a process group of its own, so that Ctrl-C in the terminal reaches the chore
//! alone and the chore ends the others in order. A chore that is killed outright can't do that: so a
//! child starts as this program again, asks the kernel for a signal when its parent dies, and then
//! becomes what it was meant to be.

use std::{
    ffi::{OsStr, OsString},
    os::unix::process::CommandExt,
    process::{Child, Command, ExitCode, ExitStatus},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, getppid, kill_process_group};

/// The hidden chore that [`become_bound`] is behind.
pub(crate) const BOUND: &str = "bound";

/// How often a wait looks at what it waits for.
const POLL: Duration = Duration::from_millis(50);

/// The same command, ending when this process does.
pub(crate) fn bound(command: &Command) -> Command {
    // Not by its path: a build may have replaced the file since.
    let mut bound = Command::new("/proc/self/exe");
    bound.arg(BOUND).arg(std::process::id().to_string()).arg("--").arg(command.get_program());
    if cfg!(not(target_os = "linux")) {
        bound = Command::new(command.get_program());
    }
    bound.args(command.get_args());
    if let Some(directory) = command.get_current_dir() {
        bound.current_dir(directory);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => bound.env(name, value),
            None => bound.env_remove(name),
        };
    }
    bound
}

/// What a bound child does first: binds its life to process `parent`, then becomes `program`.
pub(crate) fn become_bound(parent: i32, program: &OsStr, args: &[OsString]) -> Result<ExitCode> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))
        .context("cannot bind this process to its parent")?;
    if getppid() != Pid::from_raw(parent) {
        bail!("the parent of {} has already ended", program.display());
    }
    let error = Command::new(program).args(args).exec();
    Err(error).with_context(|| format!("cannot run {}", program.display()))
}

/// A running child, ended at the latest when this is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    process: Child,
    status: Option<ExitStatus>,
}

impl Running {
    /// Starts `command` in a process group of its own.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let process = command
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot run {}", command.get_program().display()))?;
        Ok(Self { process, status: None })
    }

    /// The process, for its pipes.
    pub(crate) fn process(&mut self) -> &mut Child {
        &mut self.process
    }

    /// How it ended, if it has.
    pub(crate) fn poll_end(&mut self) -> Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = self.process.try_wait().context("cannot wait for a child")?;
        }
        Ok(self.status)
    }

    /// Waits for its end until `deadline` or until `stop` is requested.
    pub(crate) fn wait(&mut self, deadline: Instant, stop: &Stop) -> Result<Option<ExitStatus>> {
        while Instant::now() < deadline && !stop.requested() {
            if let Some(status) = self.poll_end()? {
                return Ok(Some(status));
            }
            thread::sleep(POLL);
        }
        self.poll_end()
    }

    /// Asks it to end, and after `patience` ends it; its whole process group with it.
    pub(crate) fn end(&mut self, patience: Duration) {
        let deadline = Instant::now() + patience;
        if matches!(self.poll_end(), Ok(None)) {
            self.signal(Signal::TERM);
            while Instant::now() < deadline && matches!(self.poll_end(), Ok(None)) {
                thread::sleep(POLL);
            }
        }
        // Also when it has ended: it may have left children of its own behind.
        self.signal(Signal::KILL);
        if self.status.is_none() {
            self.status = self.process.wait().ok();
        }
    }

    /// A group that has no process any more takes no signal, which is as good.
    fn signal(&self, signal: Signal) {
        let _ = kill_process_group(Pid::from_child(&self.process), signal);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end(Duration::from_secs(5));
    }
}

/// Whether somebody asked this chore to end: Ctrl-C, SIGTERM, or a closed terminal.
#[derive(Debug, Clone)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Takes over the signals that ask a process to end.
    pub(crate) fn on_signals() -> Result<Self> {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        let requested = Arc::new(AtomicBool::new(false));
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, requested.clone())
                .context("cannot watch for signals")?;
        }
        Ok(Self(requested))
    }

    /// Whether one of them has come.
    pub(crate) fn requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Looks at `ready` again and again; false when it hasn't become true by `deadline` or `stop`.
    pub(crate) fn wait_until(
        &self,
        deadline: Instant,
        mut ready: impl FnMut() -> Result<bool>,
    ) -> Result<bool> {
        while Instant::now() < deadline && !self.requested() {
            if ready()? {
                return Ok(true);
            }
            thread::sleep(POLL);
        }
        Ok(false)
    }
}
