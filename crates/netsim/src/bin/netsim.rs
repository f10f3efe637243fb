//! A bad network on the command line: a UDP proxy that loses, delays and throttles.

use std::{
    io::{self, Write},
    net::SocketAddr,
};

use clap::{CommandFactory, Parser, ValueEnum, error::ErrorKind};
use netsim::{ConfigError, Counters, LinkConfig, ProxyConfig, UdpProxy};
use tokio::io::{AsyncBufReadExt, BufReader, Lines, Stdin};

/// Stands between UDP clients and a server as a slow, lossy line.
///
/// While it runs, a line on standard input such as "rate=300k loss=2" changes the line.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// Where clients connect to.
    #[arg(long, value_name = "ADDR:PORT")]
    listen: SocketAddr,
    /// The server behind the line.
    #[arg(long, value_name = "ADDR:PORT")]
    to: SocketAddr,
    /// Which way is slow and lossy; the other way is perfect.
    #[arg(long, value_enum, default_value_t = Direction::Both)]
    direction: Direction,
    /// Bits a second, such as 3M; without limit when not given.
    #[arg(long)]
    rate: Option<String>,
    /// Bytes that may wait for the bottleneck, such as 64k.
    #[arg(long, value_name = "BYTES")]
    queue: Option<String>,
    /// Milliseconds to the other side, one way.
    #[arg(long, value_name = "MS")]
    delay: Option<String>,
    /// Up to so many milliseconds more, at random.
    #[arg(long, value_name = "MS")]
    jitter: Option<String>,
    /// Let jitter change the order of packets.
    #[arg(long)]
    reorder: bool,
    /// Packets lost at random, in per cent.
    #[arg(long, value_name = "PERCENT")]
    loss: Option<String>,
    /// Decides which packets are lost and how late each one is.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Direction {
    /// Both ways.
    Both,
    /// From the clients to the server.
    Up,
    /// From the server to the clients.
    Down,
}

impl Cli {
    fn link(&self) -> Result<LinkConfig, ConfigError> {
        let mut link = LinkConfig { reorder: self.reorder, ..LinkConfig::default() };
        for (name, value) in [
            ("rate", &self.rate),
            ("queue", &self.queue),
            ("delay", &self.delay),
            ("jitter", &self.jitter),
            ("loss", &self.loss),
        ] {
            if let Some(value) = value {
                link.set(name, value)?;
            }
        }
        Ok(link)
    }

    fn proxy(&self, link: &LinkConfig) -> ProxyConfig {
        let on = |direction| match self.direction {
            chosen if chosen == direction || chosen == Direction::Both => link.clone(),
            _ => LinkConfig::default(),
        };
        ProxyConfig { up: on(Direction::Up), down: on(Direction::Down), seed: self.seed }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let mut link = cli.link().unwrap_or_else(|error| {
        Cli::command().error(ErrorKind::ValueValidation, error).exit();
    });
    let proxy = UdpProxy::start(cli.listen, cli.to, cli.proxy(&link)).await?;
    say(format_args!("listening on {}, forwarding to {}", proxy.local_addr(), cli.to))?;

    let mut commands = Some(BufReader::new(tokio::io::stdin()).lines());
    loop {
        let line = tokio::select! {
            line = next_line(&mut commands) => line?,
            ended = tokio::signal::ctrl_c() => {
                ended?;
                break;
            }
        };
        match link.apply(&line) {
            Ok(()) => {
                let ProxyConfig { up, down, .. } = cli.proxy(&link);
                proxy.set_up(up);
                proxy.set_down(down);
                say(format_args!("changed: {}", line.trim()))?;
            }
            Err(error) => say(format_args!("not changed: {error}"))?,
        }
    }
    report("up", proxy.up_counters())?;
    report("down", proxy.down_counters())?;
    Ok(())
}

/// The next line; never ends once the input has, for the proxy runs on without it.
async fn next_line(commands: &mut Option<Lines<BufReader<Stdin>>>) -> io::Result<String> {
    if let Some(lines) = commands
        && let Some(line) = lines.next_line().await?
    {
        return Ok(line);
    }
    *commands = None;
    std::future::pending().await
}

fn report(name: &str, counters: Counters) -> io::Result<()> {
    let Counters { packets_in, packets_out, packets_lost, packets_queue_full, .. } = counters;
    say(format_args!(
        "{name}: {packets_in} packets in, {packets_out} out, {packets_lost} lost, \
         {packets_queue_full} dropped at the full queue"
    ))
}

fn say(line: std::fmt::Arguments<'_>) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}
