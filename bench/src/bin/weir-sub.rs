//! `weir-sub`: subscribes to tracks of any MoQT relay and shows what arrives.

#![expect(clippy::print_stdout, reason = "what arrives is what the caller wants to see")]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bench::subscribe::{From, Heard, Object, Subscriber, Wanted};
use clap::Parser;
use moqt::{FullTrackName, Location, Namespace, Version};
use sha2::{Digest, Sha256};
use transport::{ClientTls, Endpoint, EndpointConfig, Fingerprint};
use url::Url;

/// Subscribes to tracks of a MoQT relay and shows what arrives.
///
/// Prints one line an object: `[TRACK] GROUP SUBGROUP OBJECT BYTES SHA256`. Ends with 0 once
/// everything asked for has arrived, 1 when it has not, 2 for wrong usage.
#[derive(Debug, Parser)]
#[command(version)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
struct Cli {
    /// moqt://host:port (raw QUIC) or https://host:port/path (WebTransport)
    #[arg(long, default_value = "moqt://127.0.0.1:4433")]
    relay: Url,
    /// The namespace, one field per `/`.
    #[arg(long, value_name = "BROADCAST")]
    name: String,
    /// A track of it; any number of them.
    #[arg(long = "track", value_name = "TRACK")]
    tracks: Vec<String>,
    /// Read the MSF catalog: without --track or --all only list its tracks.
    #[arg(long)]
    catalog: bool,
    /// Subscribe to every track in the catalog.
    #[arg(long)]
    all: bool,
    /// Speak this draft only: 16, 18 or 22.
    #[arg(long, value_parser = parse_draft)]
    draft: Option<Version>,
    /// Begin at the next group instead of where the relay begins by itself.
    #[arg(long, conflicts_with_all = ["past", "fetch"])]
    next_group: bool,
    /// Join so many whole groups before the newest one.
    #[arg(long, value_name = "GROUPS", conflicts_with = "fetch")]
    past: Option<u64>,
    /// Fetch these objects and end: GROUP or GROUP:OBJECT, both ends included.
    #[arg(long, value_name = "FROM..TO", value_parser = parse_range)]
    fetch: Option<(Location, Location)>,
    /// End after so many objects.
    #[arg(long)]
    objects: Option<u64>,
    /// End after so many seconds; with --objects, fail when they have not come by then.
    #[arg(long)]
    seconds: Option<f64>,
    /// Only one line a track at the end, with a hash over its objects' hashes in order of place.
    #[arg(long)]
    hash: bool,
    /// Write payloads to this file one after another as they come, `-` for standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// SHA-256 of the relay's certificate.
    #[arg(long, value_name = "HEX")]
    tls_fingerprint: Option<Fingerprint>,
    /// Trust whatever certificate the relay shows.
    #[arg(long)]
    tls_disable_verify: bool,
}

fn parse_draft(text: &str) -> Result<Version, String> {
    let name = format!("moqt-{text}");
    let known = |version: &&Version| version.alpn() == name;
    Version::EVERY.iter().find(known).copied().ok_or_else(|| {
        let names = Version::EVERY.iter().map(|version| version.alpn().trim_start_matches("moqt-"));
        format!("one of {}", names.collect::<Vec<_>>().join(", "))
    })
}

fn parse_range(text: &str) -> Result<(Location, Location), String> {
    let wrong = || format!("{text}: write FROM..TO, each GROUP or GROUP:OBJECT");
    let (from, to) = text.split_once("..").ok_or_else(wrong)?;
    let place = |text: &str, whole: fn(u64) -> Location| match text.split_once(':') {
        Some((group, object)) => {
            Some(Location { group: group.parse().ok()?, object: object.parse().ok()? })
        }
        None => text.parse().ok().map(whole),
    };
    let start = place(from, Location::start_of).ok_or_else(wrong)?;
    Ok((start, place(to, Location::end_of).ok_or_else(wrong)?))
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprint_line(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    let namespace = Namespace::from_path(&cli.name).context("--name")?;
    let tls = ClientTls {
        fingerprints: cli.tls_fingerprint.into_iter().collect(),
        disable_verify: cli.tls_disable_verify,
    };
    let config = EndpointConfig { uni_streams: 256, ..EndpointConfig::default() };
    let endpoint = Endpoint::client(config)?;
    let outcome = watch(&cli, &endpoint, &tls, &namespace).await;
    endpoint.close();
    let _ = tokio::time::timeout(Duration::from_secs(1), endpoint.wait_idle()).await;
    outcome
}

/// Does what was asked for on one session, or two when the catalog comes first.
async fn watch(
    cli: &Cli,
    endpoint: &Endpoint,
    tls: &ClientTls,
    namespace: &Namespace,
) -> anyhow::Result<()> {
    let deadline = cli.seconds.map(|seconds| Instant::now() + Duration::from_secs_f64(seconds));
    let mut names = cli.tracks.clone();
    if cli.catalog || cli.all {
        let listed = within(deadline, read_catalog(cli, endpoint, tls, namespace)).await;
        let listed = listed.context("no catalog came in time")??;
        if cli.all {
            names.extend(listed);
        } else {
            listed.iter().for_each(|name| println!("{name}"));
        }
    }
    if names.is_empty() {
        return if cli.catalog { Ok(()) } else { bail!("name a --track, or --all, or --catalog") };
    }
    let from = match (cli.fetch, cli.past) {
        (Some((start, end)), _) => From::Range { start, end },
        (None, Some(groups)) => From::Past { groups },
        (None, None) if cli.next_group => From::NextGroup,
        (None, None) => From::Now,
    };
    let wanted = names.iter().map(|name| want(namespace, name, from)).collect::<Result<_, _>>()?;
    let mut subscriber = connect(cli, endpoint, tls, wanted).await?;
    let mut show = Show::new(cli, names)?;
    // Tracks that are not over.
    let mut open = show.names.len();
    while open > 0 && cli.objects.is_none_or(|wanted| show.objects < wanted) {
        let Some(heard) = within(deadline, subscriber.next()).await else { break };
        match heard? {
            Heard::Object(object) => show.object(&object)?,
            Heard::Refused { track, error } => {
                let reason = String::from_utf8_lossy(&error.reason);
                bail!("{} was refused: {} {reason}", show.names[track], error.code);
            }
            Heard::Cut { track, group, reason } => {
                let group = group.map_or("fetch".to_owned(), |group| group.to_string());
                eprint_line(&format!("cut: {} {group}: {reason}", show.names[track]));
                // A fetch has one stream; there is no more to come.
                open -= usize::from(cli.fetch.is_some());
            }
            Heard::Fetched { .. } if cli.fetch.is_some() => open -= 1,
            Heard::Done { track, done } => {
                let code = done.map_or("no word".to_owned(), |done| done.code.to_string());
                eprint_line(&format!("done: {}: {code}", show.names[track]));
                open -= usize::from(cli.fetch.is_none());
            }
            Heard::Accepted { .. } | Heard::Fetched { .. } => {}
        }
    }
    show.end()?;
    match cli.objects {
        Some(wanted) if show.objects < wanted => {
            bail!("{} of {wanted} objects came", show.objects)
        }
        None if show.objects == 0 => bail!("no object came"),
        _ => Ok(()),
    }
}

async fn within<T>(deadline: Option<Instant>, work: impl Future<Output = T>) -> Option<T> {
    match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline.into(), work).await.ok(),
        None => Some(work.await),
    }
}

fn want(namespace: &Namespace, name: &str, from: From) -> anyhow::Result<Wanted> {
    let track = FullTrackName::new(namespace.clone(), name.to_owned());
    Ok(Wanted { track: track.with_context(|| format!("--track {name}"))?, from })
}

async fn connect(
    cli: &Cli,
    endpoint: &Endpoint,
    tls: &ClientTls,
    wanted: Vec<Wanted>,
) -> anyhow::Result<Subscriber> {
    let connection = endpoint.connect(&cli.relay, tls).await?;
    if let Some(draft) = cli.draft.filter(|draft| *draft != connection.version()) {
        bail!("the relay agreed on {}, not on {draft}", connection.version());
    }
    Ok(Subscriber::new(connection, &cli.relay, wanted))
}

/// The names of the tracks in a broadcast's MSF catalog.
async fn read_catalog(
    cli: &Cli,
    endpoint: &Endpoint,
    tls: &ClientTls,
    namespace: &Namespace,
) -> anyhow::Result<Vec<String>> {
    let wanted = want(namespace, "catalog", From::Past { groups: 0 })?;
    let mut subscriber = connect(cli, endpoint, tls, vec![wanted]).await?;
    loop {
        match subscriber.next().await? {
            Heard::Object(object) => {
                let catalog: serde_json::Value =
                    serde_json::from_slice(&object.payload).context("the catalog is not JSON")?;
                let tracks = catalog["tracks"].as_array().context("the catalog has no tracks")?;
                let names = tracks.iter().filter_map(|track| track["name"].as_str());
                return Ok(names.map(ToOwned::to_owned).collect());
            }
            Heard::Refused { error, .. } => {
                let reason = String::from_utf8_lossy(&error.reason);
                bail!("the catalog was refused: {} {reason}", error.code);
            }
            Heard::Done { .. } => bail!("the catalog track ended before an object came"),
            _ => {}
        }
    }
}

/// Shows objects in the form that was asked for.
struct Show {
    names: Vec<String>,
    objects: u64,
    hash: bool,
    /// Payload lengths and hashes by track and place, for `--hash`.
    seen: BTreeMap<(usize, Location), (u64, [u8; 32])>,
    out: Option<Box<dyn Write + Send>>,
}

impl Show {
    fn new(cli: &Cli, names: Vec<String>) -> anyhow::Result<Self> {
        let out: Option<Box<dyn Write + Send>> = match &cli.out {
            Some(path) if path.as_os_str() == "-" => Some(Box::new(std::io::stdout())),
            Some(path) => {
                let file = std::fs::File::create(path);
                let file = file.with_context(|| format!("cannot write {}", path.display()))?;
                Some(Box::new(std::io::BufWriter::new(file)))
            }
            None => None,
        };
        Ok(Self { names, objects: 0, hash: cli.hash, seen: BTreeMap::new(), out })
    }

    fn object(&mut self, object: &Object) -> anyhow::Result<()> {
        self.objects += 1;
        if let Some(out) = &mut self.out {
            out.write_all(&object.payload).context("--out")?;
            return Ok(());
        }
        let hash: [u8; 32] = Sha256::digest(&object.payload).into();
        let (Location { group, object: id }, length) = (object.location, object.payload.len());
        if self.hash {
            self.seen.insert((object.track, object.location), (length as u64, hash));
            return Ok(());
        }
        let track = match &self.names[..] {
            [_] => String::new(),
            names => format!("{} ", names[object.track]),
        };
        let subgroup = object.subgroup.map_or("-".to_owned(), |id| id.to_string());
        println!("{track}{group} {subgroup} {id} {length} {}", hex(&hash));
        Ok(())
    }

    /// Writes out what is still held; with `--hash` one line a track.
    fn end(&mut self) -> anyhow::Result<()> {
        if let Some(out) = &mut self.out {
            out.flush().context("--out")?;
        }
        for (track, name) in self.names.iter().enumerate() {
            let all = (track, Location::FIRST)..=(track, Location::LAST);
            let seen: Vec<_> = self.seen.range(all).collect();
            let (Some((first, _)), Some((last, _))) = (seen.first(), seen.last()) else { continue };
            let mut hash = Sha256::new();
            seen.iter().for_each(|(_, (_, object))| hash.update(object));
            let bytes: u64 = seen.iter().map(|(_, (length, _))| length).sum();
            let hash = hex(&hash.finalize());
            println!("{name} {} objects {bytes} bytes {}..{} {hash}", seen.len(), first.1, last.1);
        }
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn eprint_line(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
