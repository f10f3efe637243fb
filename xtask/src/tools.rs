//! Programs that a chore needs from the system.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

/// A program of the system, and where it comes from.
#[derive(Debug)]
pub(crate) struct Tool {
    /// Any of these names will do.
    programs: &'static [&'static str],
    /// An environment variable that may name it instead.
    variable: Option<&'static str>,
    /// What it is needed for.
    purpose: &'static str,
    /// Debian's packages.
    packages: &'static [&'static str],
}

pub(crate) const CXX: Tool = Tool {
    programs: &["c++", "g++", "clang++"],
    variable: Some("CXX"),
    purpose: "compiles the test source's H.264 encoder",
    packages: &["g++"],
};

pub(crate) const NASM: Tool = Tool {
    programs: &["nasm"],
    variable: None,
    purpose: "makes the test source's H.264 encoder several times faster",
    packages: &["nasm"],
};

pub(crate) const NODE: Tool = Tool {
    programs: &["node"],
    variable: None,
    purpose: "builds the web player",
    packages: &["nodejs"],
};

pub(crate) const NPM: Tool = Tool {
    programs: &["npm"],
    variable: None,
    purpose: "fetches the web player's build tools",
    packages: &["npm"],
};

pub(crate) const CHROMIUM: Tool = Tool {
    programs: &["chromium"],
    variable: Some("CHROMIUM"),
    purpose: "is the browser that the end-to-end tests watch with",
    packages: &["chromium"],
};

pub(crate) const FFMPEG: Tool = Tool {
    programs: &["ffmpeg"],
    variable: None,
    purpose: "makes sources for the end-to-end tests",
    packages: &["ffmpeg"],
};

pub(crate) const PROMTOOL: Tool = Tool {
    programs: &["promtool"],
    variable: None,
    purpose: "checks the metrics, the alert rules and a scrape",
    packages: &["prometheus"],
};

/// The oldest Node that the web player's build tools run on.
const OLDEST_NODE: (u32, u32) = (20, 19);

/// Makes sure that all of `tools` are there; installs what is missing where it may, else names the
/// command that does.
pub(crate) fn require(tools: &[&Tool]) -> Result<()> {
    let missing: Vec<&Tool> = tools.iter().copied().filter(|tool| !tool.is_there()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().flat_map(|tool| tool.packages).copied().collect();
    if may_install() {
        install(&packages)?;
    }
    let still: Vec<String> = missing
        .iter()
        .filter(|tool| !tool.is_there())
        .map(|tool| format!("  {} is missing: it {}", tool.programs[0], tool.purpose))
        .collect();
    ensure!(
        still.is_empty(),
        "programs are missing\n{}\nOn Debian or Ubuntu:\n  sudo apt-get install -y {}",
        still.join("\n"),
        packages.join(" ")
    );
    Ok(())
}

/// As [`require`], for what a chore can do without: says so and goes on.
pub(crate) fn recommend(tool: &Tool) {
    if require(&[tool]).is_err() {
        println!("note: without {} it works, but it {}", tool.programs[0], tool.purpose);
    }
}

/// Makes sure that Node and npm are there and new enough.
pub(crate) fn require_node() -> Result<()> {
    require(&[&NODE, &NPM])?;
    let output = Command::new("node").arg("--version").output().context("cannot run node")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.trim();
    let (major, minor) = OLDEST_NODE;
    if parse_node_version(version).is_none_or(|found| found < OLDEST_NODE) {
        bail!(
            "node is {version}, and the web player's build tools need {major}.{minor} or newer: \
             install it from https://nodejs.org/en/download"
        );
    }
    Ok(())
}

fn parse_node_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.strip_prefix('v')?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

impl Tool {
    /// Whether the program can be found.
    pub(crate) fn is_there(&self) -> bool {
        let named = self.variable.and_then(std::env::var_os).map(PathBuf::from);
        named.is_some_and(|path| path.is_file() || find(&path).is_some())
            || self.programs.iter().any(|name| find(Path::new(name)).is_some())
    }
}

/// Looks a program up as a shell does.
fn find(name: &Path) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// Root on a system with apt: a container or CI machine, where nobody minds a package more.
fn may_install() -> bool {
    rustix::process::geteuid().is_root() && find(Path::new("apt-get")).is_some()
}

fn install(packages: &[&str]) -> Result<()> {
    println!("installing {}", packages.join(" "));
    apt(&["update", "-q"])?;
    let install = ["install", "-q", "-y", "--no-install-recommends"];
    apt(&[&install, packages].concat())
}

fn apt(args: &[&str]) -> Result<()> {
    let status = Command::new("apt-get")
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .status()
        .context("cannot run apt-get")?;
    ensure!(status.success(), "apt-get {} failed: {status}", args.join(" "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_versions_compare_by_number() {
        assert_eq!(parse_node_version("v20.20.2"), Some((20, 20)));
        assert!(parse_node_version("v9.99.0").unwrap() < OLDEST_NODE);
        assert_eq!(parse_node_version(""), None);
    }
}
