//! The project's chores, run as `cargo xtask demo`, `test`, `interop` and `bench`.
//!
//! A chore starts other programs and ends them all again: each child ends when the chore does, even
//! when the chore is killed (see [`child`]).

#![expect(
    clippy::print_stdout,
    reason = "talking to the person who called it is what a chore does"
)]

mod bench;
mod child;
mod demo;
mod interop;
mod player;
mod project;
mod test;
mod tools;

use std::{ffi::OsString, process::ExitCode};

use clap::{Parser, Subcommand};

/// The chores of the Weir project.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Shows a live picture on this machine: two relays, a test source, the dashboard and a page.
    Demo(demo::Options),
    /// Runs all that has to pass before a change is accepted, as CI does.
    Test(test::Options),
    /// Lets other people's MoQT implementations talk to ours, and writes docs/interop.md.
    Interop(interop::Options),
    /// Measures the relay beside a bare QUIC server and other relays, and writes docs/benchmarks.md.
    Bench(bench::Options),
    /// Becomes another program that ends when process PARENT does.
    #[command(hide = true, name = child::BOUND)]
    Bound { parent: i32, program: OsString, args: Vec<OsString> },
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().chore {
        Chore::Demo(options) => demo::run(&options),
        Chore::Test(options) => test::run(&options),
        Chore::Interop(options) => interop::run(&options),
        Chore::Bench(options) => bench::run(&options),
        Chore::Bound { parent, program, args } => child::become_bound(parent, &program, &args),
    };
    outcome.unwrap_or_else(|error| {
        println!("error: {error:#}");
        ExitCode::FAILURE
    })
}
