//! Where things are in the working copy.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// A path below the working copy's top.
pub(crate) fn path(below: impl AsRef<Path>) -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).join(below)
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| path("target"), PathBuf::from)
}

/// A cargo command at the top of the working copy, as if typed there.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(path(""));
    // What cargo told this program about itself. Build scripts that look at it, `ring`'s for one, would
    // run again, and all above them be built again, at each change between `cargo` and `cargo xtask`.
    for (name, _) in std::env::vars_os() {
        if ABOUT_THIS_PACKAGE.iter().any(|start| name.to_string_lossy().starts_with(start)) {
            command.env_remove(name);
        }
    }
    command
}

const ABOUT_THIS_PACKAGE: [&str; 4] =
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_"];

/// A build of all the programs, for chores that run them.
///
/// Always the same packages: with others cargo would choose other features and build anew.
pub(crate) fn build_programs() -> Command {
    let mut build = cargo(&["build", "--locked"]);
    build.args(
        ["relay", "publisher", "tui", "bench", "netsim"].iter().flat_map(|name| ["-p", name]),
    );
    build
}

/// A program that [`build_programs`] built.
pub(crate) fn program(name: &str) -> PathBuf {
    target().join("debug").join(name)
}

/// How a command is written in a shell.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
