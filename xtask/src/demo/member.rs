//! One of the demo's programs, with its log.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::child::{self, Running};

/// How much of a program's log an error about it shows.
const LAST_LINES: usize = 5;

/// Where a program's words go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// Into its log.
    File,
    /// Into its log and, with its name before each line, to this program's output.
    FileAndHere,
}

/// A running program of the demo.
#[derive(Debug)]
pub(crate) struct Member {
    name: &'static str,
    running: Running,
    log: PathBuf,
}

impl Member {
    /// Starts `program` with a new log in `logs`.
    pub(crate) fn start(
        name: &'static str,
        program: &Path,
        args: &[String],
        logs: &Path,
        output: Output,
    ) -> Result<Self> {
        let log = logs.join(name).with_extension("log");
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = child::bound(Command::new(program).args(args));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // The demo is the same for everyone, whatever a shell's environment says.
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("WEIR_") {
                command.env_remove(variable);
            }
        }
        if output == Output::File {
            command.env("NO_COLOR", "1");
        }
        let mut running = Running::start(&mut command)?;
        let file = Arc::new(Mutex::new(file));
        let process = running.process();
        if let Some(stdout) = process.stdout.take() {
            copy_lines(name, stdout, file.clone(), output);
        }
        if let Some(stderr) = process.stderr.take() {
            copy_lines(name, stderr, file, output);
        }
        Ok(Self { name, running, log })
    }

    /// Fails, with the last lines of its log, when it has ended.
    pub(crate) fn ensure_runs(&mut self) -> Result<()> {
        let Some(status) = self.running.poll_end()? else {
            return Ok(());
        };
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n  ");
        bail!("{} has ended ({status}); its log ends\n  {last}", self.name);
    }

    /// Asks it to end, and after `patience` ends it.
    pub(crate) fn end(&mut self, patience: Duration) {
        self.running.end(patience);
    }
}

/// Copies line by line until the program ends.
fn copy_lines(
    name: &'static str,
    from: impl Read + Send + 'static,
    log: Arc<Mutex<File>>,
    output: Output,
) {
    thread::spawn(move || {
        let mut lines = BufReader::new(from);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            // A full disk costs the log, not the demo.
            let _ = log.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line);
            if output == Output::FileAndHere {
                println!("[{name}] {}", String::from_utf8_lossy(&line).trim_end());
            }
            line.clear();
        }
    });
}

/// Ends a child of this process group: by request, after `patience` by force.
pub(crate) fn terminate(child: &mut Child, patience: Duration) {
    let _ = kill_process(Pid::from_child(child), Signal::TERM);
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline && matches!(child.try_wait(), Ok(None)) {
        thread::sleep(Duration::from_millis(50));
    }
    let _ = child.kill();
    let _ = child.wait();
}
