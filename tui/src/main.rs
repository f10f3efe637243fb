//! `tui [URL]`: a dashboard for a tree of relays.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use dashboard::feed::detail;
use dashboard::feed::http::{self, Admin, AdminUrl};
use dashboard::feed::recording::{self, Recorder, Replay};
use dashboard::state::State;
use dashboard::terminal::Screen;
use dashboard::view::theme::{self, Theme};
use dashboard::{feed, once, run};
use tokio::sync::watch;

/// Watch a tree of relays: viewers, bit rates, and what is dropped and why.
#[derive(Debug, Parser)]
#[command(
    name = "tui",
    version,
    after_help = "Keys: ? shows them. Colours are off where NO_COLOR is set."
)]
struct Args {
    /// Admin address of any relay; the tree below it is shown
    #[arg(value_name = "URL", env = "WEIR_ADMIN_URL", default_value = "http://127.0.0.1:4480")]
    url: AdminUrl,

    /// The file that holds the relay's admin token, if it has one (or WEIR_ADMIN_TOKEN is the token)
    #[arg(long, value_name = "FILE", env = "WEIR_ADMIN_TOKEN_FILE")]
    admin_token_file: Option<PathBuf>,

    /// Where viewers watch, to have it in sight beside the sums
    #[arg(long, value_name = "URL", conflicts_with = "once")]
    page: Option<String>,

    /// Print the nodes as one plain table and end (1 if the relay can't be reached)
    #[arg(long)]
    once: bool,

    /// Write the feed to a file, to look at it again with --replay
    #[arg(long, value_name = "FILE", conflicts_with_all = ["replay", "once"])]
    record: Option<PathBuf>,

    /// Play a recorded feed instead of attaching to a relay
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,

    /// Play a recording this many times as fast
    #[arg(long, value_name = "TIMES", default_value = "1", value_parser = speed, requires = "replay")]
    speed: f64,

    /// Draw with ASCII only (as when the locale is not UTF-8)
    #[arg(long, env = "WEIR_ASCII")]
    ascii: bool,

    /// Leave the mouse to the terminal
    #[arg(long, env = "WEIR_NO_MOUSE")]
    no_mouse: bool,
}

fn speed(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(times) if (0.01..=1000.0).contains(&times) => Ok(times),
        _ => Err("give a number from 0.01 to 1000".to_owned()),
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start")
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    // As a task of its own, so that a panic ends with an exit code of ours.
    let result = runtime.block_on(async { tokio::spawn(start(args)).await });
    // The thread that waits for keys can't be woken.
    runtime.shutdown_background();
    match result {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => fail(&error),
        // The panic has told its story.
        Err(_) => ExitCode::FAILURE,
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    // Standard error may be closed; there is nobody else to tell.
    let _ = writeln!(std::io::stderr(), "tui: {error:#}");
    ExitCode::FAILURE
}

async fn start(args: Args) -> anyhow::Result<()> {
    let replay = args.replay.as_deref().map(Replay::open).transpose()?;
    let source = match &args.replay {
        Some(path) => stats::sanitize(&path.display().to_string()),
        None => args.url.to_string(),
    };
    let ascii = args.ascii || !utf8_locale();
    let token = admin_token(args.admin_token_file.as_deref())?;
    let admin = Admin::new(args.url, token.as_deref())?;
    if args.once {
        let text = match replay {
            Some(replay) => once::from_recording(&source, replay)?,
            None => {
                let (sender, events) = feed::channel();
                tokio::spawn(http::run(admin, None, sender));
                once::from_feed(&source, events).await?
            }
        };
        let text = if ascii { theme::to_ascii(&text) } else { text };
        return std::io::stdout().write_all(text.as_bytes()).context("cannot print");
    }
    let signals = run::Signals::install().context("cannot catch signals")?;
    let screen = Screen::take(!args.no_mouse)?;
    let recorder = args.record.as_deref().map(Recorder::create).transpose()?;
    let (sender, events) = feed::channel();
    let looked_at = watch::Sender::new(None);
    let mut speed = 1.0;
    match replay {
        Some(replay) => {
            speed = args.speed;
            tokio::spawn(recording::run(replay, speed, sender));
        }
        None => {
            tokio::spawn(http::run(admin.clone(), recorder.clone(), sender.clone()));
            tokio::spawn(detail::run(admin, looked_at.subscribe(), recorder, sender));
        }
    }
    let theme = Theme { color: use_color(), ascii };
    let mut state = State::new(source);
    state.page = args.page.as_deref().map(stats::sanitize);
    run::run(screen, state, run::Feed { events, looked_at }, signals, theme, speed).await?;
    Ok(())
}

/// The token as the surroundings say it; the word itself comes before a file.
fn admin_token(file: Option<&Path>) -> anyhow::Result<Option<String>> {
    match (std::env::var("WEIR_ADMIN_TOKEN"), file) {
        (Ok(token), _) if !token.is_empty() => Ok(Some(token)),
        (_, Some(file)) => {
            let read = std::fs::read_to_string(file);
            let what = || format!("--admin-token-file: cannot read {}", file.display());
            read.with_context(what).map(Some)
        }
        (_, None) => Ok(None),
    }
}

fn use_color() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::io::stdout().is_terminal()
}

/// Whether the locale says that the terminal shows UTF-8: the first of these that is set decides.
fn utf8_locale() -> bool {
    let set = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default();
    let locale = locale.to_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}
