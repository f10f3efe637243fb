//! Building the web player that relays carry in themselves.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use anyhow::{Context, Result};

use crate::project;

/// In `web-player/`: made by its build, so no reason for another one.
const MADE: [&str; 2] = ["dist", "node_modules"];

/// The web player's directory.
pub(crate) fn directory() -> PathBuf {
    project::path("web-player")
}

/// An npm command in `directory`.
pub(crate) fn npm(directory: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("npm");
    command.args(args).current_dir(directory);
    command
}

/// Fetches the packages that the lock file of `directory` names.
pub(crate) fn install(directory: &Path) -> Command {
    npm(directory, &["ci", "--no-audit", "--no-fund"])
}

/// Whether [`install`] has to run in `directory`: never done, or not since the lock file changed.
pub(crate) fn packages_are_stale(directory: &Path) -> bool {
    // npm notes here what it has installed.
    let installed = modified(&directory.join("node_modules/.package-lock.json"));
    installed.is_none() || installed < modified(&directory.join("package-lock.json"))
}

/// Whether the built page is missing or older than anything that it is built from.
pub(crate) fn is_stale() -> Result<bool> {
    let Some(built) = modified(&directory().join("dist/index.html")) else {
        return Ok(true);
    };
    let newest = newest_source(&directory()).context("cannot read web-player/")?;
    Ok(newest.is_some_and(|source| built < source))
}

fn modified(file: &Path) -> Option<SystemTime> {
    fs::metadata(file).and_then(|metadata| metadata.modified()).ok()
}

fn newest_source(directory: &Path) -> io::Result<Option<SystemTime>> {
    let mut newest = None;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if MADE.iter().any(|made| entry.file_name() == *made) {
            continue;
        }
        let time = match entry.file_type()?.is_dir() {
            true => newest_source(&entry.path())?,
            false => modified(&entry.path()),
        };
        newest = newest.max(time);
    }
    Ok(newest)
}
