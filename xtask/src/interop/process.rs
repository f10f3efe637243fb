//! Running one of somebody else's programs to its end, or beside us until it is no longer needed.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{
    child::{self, Running, Stop},
    project,
};

/// How long a program may take to end when asked.
const END_PATIENCE: Duration = Duration::from_secs(5);
/// How long one may take to come up.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// Bytes kept of what a program prints; what is past them is read and forgotten.
const MAX_OUTPUT: u64 = 16 << 20;

/// What a program that has ended left behind.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// The end of what it said about its failure, on one line.
    pub(crate) fn last_words(&self) -> String {
        let words = if self.stderr.trim().is_empty() { &self.stdout } else { &self.stderr };
        let last = words.lines().rev().find(|line| !line.trim().is_empty());
        format!("{} ({})", last.unwrap_or("no word").trim(), self.status)
    }
}

/// Runs `command` and takes in what it prints; ends it when it is not done within `limit`.
pub(crate) fn finish(command: &Command, limit: Duration, stop: &Stop) -> Result<Finished> {
    let shown = project::shown(command);
    let mut bound = prepared(command);
    bound.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running::start(&mut bound)?;
    let process = running.process();
    let stdout = process.stdout.take().map(read_all);
    let stderr = process.stderr.take().map(read_all);
    let status = running.wait(Instant::now() + limit, stop)?;
    // Closes the pipes too, in case it left children behind.
    running.end(END_PATIENCE);
    let text = |reader: Option<JoinHandle<String>>| {
        reader.and_then(|reader| reader.join().ok()).unwrap_or_default()
    };
    let (stdout, stderr) = (text(stdout), text(stderr));
    match status {
        Some(status) => Ok(Finished { status, stdout, stderr }),
        None if stop.requested() => bail!("ended on request"),
        None => bail!("`{shown}` did not end within {} s", limit.as_secs()),
    }
}

/// Runs `command` in front of the reader's eyes; fails when it does.
pub(crate) fn show(command: &Command, limit: Duration, stop: &Stop) -> Result<()> {
    let shown = project::shown(command);
    println!("$ {shown}");
    let mut running = Running::start(&mut prepared(command))?;
    match running.wait(Instant::now() + limit, stop)? {
        Some(status) if status.success() => Ok(()),
        Some(status) => bail!("`{shown}` failed: {status}"),
        None if stop.requested() => bail!("ended on request"),
        None => bail!("`{shown}` did not end within {} minutes", limit.as_secs() / 60),
    }
}

/// The same command without input and without this shell's configuration of our programs.
fn prepared(command: &Command) -> Command {
    let mut bound = child::bound(command);
    for (variable, _) in std::env::vars_os() {
        let given = command.get_envs().any(|(name, _)| name == variable);
        if !given && variable.to_string_lossy().starts_with("WEIR_") {
            bound.env_remove(variable);
        }
    }
    bound.env("NO_COLOR", "1").stdin(Stdio::null());
    bound
}

fn read_all(from: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut from = from;
        let mut bytes = Vec::new();
        let _ = from.by_ref().take(MAX_OUTPUT).read_to_end(&mut bytes);
        let _ = std::io::copy(&mut from, &mut std::io::sink());
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// A program that runs beside us, ended when this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    name: String,
    running: Running,
    log: PathBuf,
}

impl Server {
    /// Starts `command`, with everything it prints in `log`.
    pub(crate) fn start(name: &str, command: &Command, log: &Path) -> Result<Self> {
        let open = || File::create(log).with_context(|| format!("cannot write {}", log.display()));
        let stdout = open()?;
        let stderr = stdout.try_clone().context("cannot share a log")?;
        let running = Running::start(prepared(command).stdout(stdout).stderr(stderr))?;
        Ok(Self { name: name.to_owned(), running, log: log.to_owned() })
    }

    /// Waits until its log has `sign` in it.
    pub(crate) fn wait_for(&mut self, sign: &str, stop: &Stop) -> Result<()> {
        let deadline = Instant::now() + START_PATIENCE;
        let mut ended = None;
        stop.wait_until(deadline, || {
            // Asked first: what it wrote before it ended is in the log then.
            ended = self.running.poll_end()?;
            Ok(ended.is_some() || self.log()?.contains(sign))
        })?;
        let (name, log) = (&self.name, self.log()?);
        let last = log.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing");
        match ended {
            _ if log.contains(sign) => Ok(()),
            Some(status) => bail!("{name} has ended ({status}): {}", last.trim()),
            None if stop.requested() => bail!("ended on request"),
            None => {
                let patience = START_PATIENCE.as_secs();
                bail!("{name} did not say `{sign}` within {patience} s but: {}", last.trim())
            }
        }
    }

    /// What it has printed so far.
    pub(crate) fn log(&self) -> Result<String> {
        let bytes = std::fs::read(&self.log);
        let bytes = bytes.with_context(|| format!("cannot read {}", self.log.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
