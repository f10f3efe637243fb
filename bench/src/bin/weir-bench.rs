//! `weir-bench`: puts a load on a relay and counts what comes of it.

#![expect(clippy::print_stdout, reason = "the figures are what the caller wants to see")]

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context;
use bench::bare::Bare;
use bench::compare::{self, CompareOptions};
use bench::load::{self, Media, Options};
use clap::{Parser, Subcommand};

/// Puts a load on a relay, or is the bare server to compare it with.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one of them")]
enum Command {
    /// Publishes broadcasts, watches them many times over, and says what came and how late.
    Load(Options),
    /// The relay, the bare server and other relays under the same loads, in turn.
    Compare(CompareOptions),
    /// A QUIC server that writes the same bytes and does nothing else.
    Bare {
        /// Where to listen.
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
        /// What to write.
        #[command(flatten)]
        media: Media,
    },
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Load(options) => put_load(options),
        Command::Compare(options) => compare(&options),
        Command::Bare { listen, media } => serve(listen, &media),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn put_load(options: Options) -> anyhow::Result<()> {
    // Viewers and publishers have threads of their own; this one only waits and forwards what
    // goes over slow links.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let json = options.json.clone();
    let report = runtime.block_on(load::run(options))?;
    print!("{}", report.to_text());
    if let Some(path) = json {
        let text = serde_json::to_string_pretty(&report)?;
        std::fs::write(&path, text).with_context(|| format!("--json {}", path.display()))?;
    }
    Ok(())
}

fn serve(listen: SocketAddr, media: &Media) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let (_, kind) = media.kinds()[0];
        let bare = Bare::listen(listen, kind)?;
        println!("listening on {} source-start {}", bare.local_addr()?, bare.start);
        bare.run().await;
        Ok(())
    })
}

fn compare(options: &CompareOptions) -> anyhow::Result<()> {
    let outcome = compare::run(options, |line| println!("{line}"))?;
    let text = outcome.to_markdown();
    match &options.out {
        Some(path) => {
            std::fs::write(path, text).with_context(|| format!("--out {}", path.display()))
        }
        None => {
            print!("{text}");
            Ok(())
        }
    }
}
