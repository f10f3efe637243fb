//! Publishes a live source at a MoQT relay: LOC objects with an MSF catalog.
//!
//! Source (`sources`) → frames with capture times → `packager` → [`transport::publish`].

mod config;
mod packager;
mod run;
mod sources;

use std::io::IsTerminal;
use std::process::ExitCode;

use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> ExitCode {
    let config = config::Config::load();
    let filter =
        EnvFilter::try_from_env("WEIR_LOG").unwrap_or_else(|_| transport::LOG_FILTER.into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_target(false)
        .init();
    // reqwest asks for the process-wide provider; a second one installed elsewhere would do as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match run::run(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
