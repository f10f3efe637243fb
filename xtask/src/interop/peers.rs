//! Other people's implementations, installed once into `target/peers`.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};

use super::process;
use crate::{child::Stop, project};

/// The versions that the table speaks of.
pub(crate) const AIOMOQT: &str = "0.13.3";
const AIOPQUIC: &str = "0.6.1";
pub(crate) const MOQ_RELAY_IETF: &str = "0.8.0";

/// What `aiomoqt` runs on.
const OLDEST_PYTHON: (u32, u32) = (3, 12);
/// Names a Python for `aiomoqt`, when ours is not found by itself.
const PYTHON_VARIABLE: &str = "WEIR_PYTHON";

/// Fetching packages over a slow line.
const PIP_LIMIT: Duration = Duration::from_secs(5 * 60);
/// Compiling some 400 crates on two cores.
const CARGO_LIMIT: Duration = Duration::from_secs(60 * 60);
const QUESTION_LIMIT: Duration = Duration::from_secs(20);

/// No Python is new enough for `aiomoqt`: what to say where it is a reason to go on without.
#[derive(Debug)]
pub(crate) struct NoPython(String);

impl std::fmt::Display for NoPython {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (major, minor) = OLDEST_PYTHON;
        write!(
            f,
            "aiomoqt needs Python {major}.{minor} or newer with its venv module ({}). Debian 13, \
             Ubuntu 24.04 and newer: sudo apt-get install -y python3 python3-venv; elsewhere: \
             pyenv install {major}.{minor}. Or name one: {PYTHON_VARIABLE}=/path/to/python",
            self.0
        )
    }
}

impl std::error::Error for NoPython {}

/// `aiomoqt`: a client that tests relays and a relay.
#[derive(Debug)]
pub(crate) struct Aiomoqt {
    bin: PathBuf,
}

impl Aiomoqt {
    /// Installs it unless it is there; [`NoPython`] when it cannot be.
    pub(crate) fn install(stop: &Stop) -> Result<Self> {
        let venv = directory()?.join("aiomoqt");
        let peer = Self { bin: venv.join("bin") };
        if peer.is_there(stop) {
            return Ok(peer);
        }
        let python = find_python(stop)?;
        let mut make = Command::new(python);
        make.args(["-m", "venv", "--clear"]).arg(&venv);
        process::show(&make, PIP_LIMIT, stop)?;
        let mut pip = Command::new(peer.bin.join("python"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        pip.args(["--only-binary", ":all:"]);
        pip.args([format!("aiomoqt=={AIOMOQT}"), format!("aiopquic=={AIOPQUIC}")]);
        process::show(&pip, PIP_LIMIT, stop)?;
        ensure!(peer.is_there(stop), "aiomoqt {AIOMOQT} does not run after its installation");
        Ok(peer)
    }

    /// `moq-interop-client`.
    pub(crate) fn client(&self) -> Command {
        Command::new(self.bin.join("moq-interop-client"))
    }

    /// `moq-interop-relay`.
    pub(crate) fn relay(&self) -> Command {
        let mut command = Command::new(self.bin.join("moq-interop-relay"));
        // We read in its log whether it listens.
        command.env("PYTHONUNBUFFERED", "1");
        command
    }

    fn is_there(&self, stop: &Stop) -> bool {
        let mut versions = Command::new(self.bin.join("python"));
        let ask =
            "import importlib.metadata as m; print(m.version('aiomoqt'), m.version('aiopquic'))";
        versions.args(["-c", ask]);
        process::finish(&versions, QUESTION_LIMIT, stop)
            .is_ok_and(|answer| answer.stdout.trim() == format!("{AIOMOQT} {AIOPQUIC}"))
    }
}

/// Cloudflare's relay, which takes minutes to build; the path of its program.
pub(crate) fn install_moq_relay_ietf(stop: &Stop) -> Result<PathBuf> {
    let root = directory()?;
    let program = root.join("bin/moq-relay-ietf");
    // Says "already installed" when it is.
    let version = format!("={MOQ_RELAY_IETF}");
    let mut install =
        project::cargo(&["install", "--locked", "--version", &version, "moq-relay-ietf"]);
    install.arg("--root").arg(&root).arg("--target-dir").arg(root.join("build"));
    process::show(&install, CARGO_LIMIT, stop)?;
    Ok(program)
}

fn directory() -> Result<PathBuf> {
    let directory = project::target().join("peers");
    let made = std::fs::create_dir_all(&directory);
    made.with_context(|| format!("cannot make {}", directory.display()))?;
    Ok(directory)
}

/// The oldest Python that will do, for which packages are most likely to be built already.
fn find_python(stop: &Stop) -> Result<PathBuf> {
    if let Some(named) = std::env::var_os(PYTHON_VARIABLE).map(PathBuf::from) {
        return match usable_version(&named, stop) {
            Some(_) => Ok(named),
            None => bail!(NoPython(format!("{} is none", named.display()))),
        };
    }
    let mut found: Vec<((u32, u32), PathBuf)> = candidates()
        .into_iter()
        .filter_map(|python| Some((usable_version(&python, stop)?, python)))
        .collect();
    found.sort_by_key(|(version, _)| *version);
    match found.into_iter().next() {
        Some((_, python)) => Ok(python),
        None => bail!(NoPython("none was found in PATH or under pyenv".to_owned())),
    }
}

/// Where a Python may be: in `PATH` and among pyenv's.
fn candidates() -> Vec<PathBuf> {
    let mut candidates: Vec<PathBuf> =
        (12..=20).map(|minor| PathBuf::from(format!("python3.{minor}"))).collect();
    candidates.push("python3".into());
    let pyenv = std::env::var_os("PYENV_ROOT").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".pyenv"));
    for root in pyenv.into_iter().chain(home) {
        let Ok(versions) = std::fs::read_dir(root.join("versions")) else { continue };
        candidates.extend(versions.flatten().map(|version| version.path().join("bin/python3")));
    }
    candidates
}

/// Its version, if it is new enough and can make virtual environments.
fn usable_version(python: &Path, stop: &Stop) -> Option<(u32, u32)> {
    let mut ask = Command::new(python);
    ask.args(["-c", "import sys, venv, ensurepip; print(*sys.version_info[:2])"]);
    let answer = process::finish(&ask, QUESTION_LIMIT, stop).ok()?;
    parse_version(&answer.stdout).filter(|version| *version >= OLDEST_PYTHON)
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.trim().split_once(' ')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_versions_compare_by_number() {
        assert_eq!(parse_version("3 12\n"), Some((3, 12)));
        assert!(parse_version("3 9").unwrap() < OLDEST_PYTHON);
        assert_eq!(parse_version("pyenv: python3.12: command not found"), None);
    }

    #[test]
    fn without_python_the_message_says_what_to_do() {
        let message = NoPython("none was found".into()).to_string();
        assert!(message.contains("pyenv install 3.12"), "{message}");
        assert!(message.contains(PYTHON_VARIABLE), "{message}");
    }
}
