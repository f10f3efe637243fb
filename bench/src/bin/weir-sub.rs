//! `weir-sub`: subscribes to tracks of any MoQT relay and shows what arrives.

#![expect(clippy::print_stdout, reason = "what arrives is what the caller wants to see")]

use std::collections::BTreeMap;
use std::io::Write;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Parser;
use moqt::{
    Fill, Filter, FullTrackName, GroupOrder, Location, LocationFilter, Namespace, ObjectStatus,
    Parameters, PublishDone, Version,
};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use transport::subscribe::{Object, Received, Refusal, Subscriber, Want};
use transport::{ClientTls, Endpoint, EndpointConfig, EndpointOptions, Fingerprint};
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
    #[arg(long, value_parser = bench::draft::parse)]
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
    let config = EndpointConfig { uni_streams: 256, ..EndpointConfig::default() };
    let mut options = EndpointOptions::from(config);
    if let Some(draft) = cli.draft {
        options = options.versions([draft]);
    }
    let endpoint = Endpoint::client(options)?;
    let outcome = watch(&cli, &endpoint).await;
    endpoint.close();
    let _ = tokio::time::timeout(Duration::from_secs(1), endpoint.wait_idle()).await;
    outcome
}

/// What a track's task tells.
enum Heard {
    /// Something came.
    Received(Received),
    /// The track, or what was fetched of it, is over; with the last word, if there was one.
    Over(Result<Option<PublishDone>, Refusal>),
}

/// Does what was asked for, on one session.
async fn watch(cli: &Cli, endpoint: &Endpoint) -> anyhow::Result<()> {
    let namespace = Namespace::from_path(&cli.name).context("--name")?;
    let tls = ClientTls {
        fingerprints: cli.tls_fingerprint.into_iter().collect(),
        disable_verify: cli.tls_disable_verify,
    };
    let deadline = cli.seconds.map(|seconds| Instant::now() + Duration::from_secs_f64(seconds));
    let dial = within(deadline, Subscriber::connect(endpoint, &cli.relay, &tls)).await;
    let subscriber = dial.context("no connection came about in time")??;
    let mut names = cli.tracks.clone();
    if cli.catalog || cli.all {
        let listed = within(deadline, read_catalog(&subscriber, &namespace)).await;
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
    let (tell, mut heard) = mpsc::channel(64);
    for (index, name) in names.iter().enumerate() {
        let follow = follow(
            subscriber.clone(),
            track(&namespace, name)?,
            From::of(cli),
            tell.clone(),
            index,
        );
        tokio::spawn(follow);
    }
    drop(tell);
    let mut show = Show::new(cli, names)?;
    while cli.objects.is_none_or(|wanted| show.objects < wanted) {
        let Some(Some((track, heard))) = within(deadline, heard.recv()).await else { break };
        show.heard(track, heard)?;
    }
    show.end()?;
    subscriber.close();
    match cli.objects {
        Some(wanted) if show.objects < wanted => bail!("{} of {wanted} objects came", show.objects),
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

fn track(namespace: &Namespace, name: &str) -> anyhow::Result<FullTrackName> {
    let track = FullTrackName::new(namespace.clone(), name.to_owned());
    track.with_context(|| format!("--track {name}"))
}

/// Which objects of a track are wanted.
#[derive(Clone, Copy)]
enum From {
    Subscription { next_group: bool, past: Option<u64> },
    Range(Location, Location),
}

impl From {
    fn of(cli: &Cli) -> Self {
        match cli.fetch {
            Some((start, end)) => Self::Range(start, end),
            None => Self::Subscription { next_group: cli.next_group, past: cli.past },
        }
    }
}

/// Receives a track and tells all that comes of it.
async fn follow(
    subscriber: Subscriber,
    track: FullTrackName,
    from: From,
    tell: mpsc::Sender<(usize, Heard)>,
    index: usize,
) {
    let outcome = receive(&subscriber, track, from, &tell, index).await;
    let _ = tell.send((index, Heard::Over(outcome))).await;
}

async fn receive(
    subscriber: &Subscriber,
    track: FullTrackName,
    from: From,
    tell: &mpsc::Sender<(usize, Heard)>,
    index: usize,
) -> Result<Option<PublishDone>, Refusal> {
    let (next_group, past) = match from {
        From::Range(start, end) => {
            let mut fetched = subscriber.fetch(track, start, end, GroupOrder::Ascending).await?;
            while let Some(received) = fetched.recv().await {
                if let Received::BackfillEnd(outcome) = received {
                    return outcome.map(|()| None);
                }
                let _ = tell.send((index, Heard::Received(received))).await;
            }
            return Ok(None);
        }
        From::Subscription { next_group, past } => (next_group, past),
    };
    let filter = match (next_group, past) {
        (true, _) => Some(Filter::NextGroupStart),
        // What is there already comes by the backfill.
        (false, Some(_)) => Some(Filter::LargestObject),
        (false, None) => None,
    };
    let backfill = past.map(|groups| Fill {
        filter: Some(LocationFilter::RelativeStart {
            groups: NonZeroU64::MIN.saturating_add(groups),
        }),
        group_order: Some(GroupOrder::Ascending),
        ..Fill::default()
    });
    let want = Want { parameters: Parameters { filter, ..Parameters::default() }, backfill };
    let mut subscription = subscriber.subscribe(track, want).await?;
    while let Some(received) = subscription.next().await {
        if let Received::Done(done) = received {
            return Ok(Some(done));
        }
        let _ = tell.send((index, Heard::Received(received))).await;
    }
    Ok(None)
}

/// The names of the tracks in a broadcast's MSF catalog.
async fn read_catalog(
    subscriber: &Subscriber,
    namespace: &Namespace,
) -> anyhow::Result<Vec<String>> {
    let catalog = track(namespace, "catalog")?;
    let subscription = subscriber.subscribe(catalog, Want::default()).await;
    let mut subscription = subscription.context("the catalog")?;
    let object = subscription.next_object().await.context("the catalog ended before it came")?;
    let catalog: serde_json::Value =
        serde_json::from_slice(&object.payload).context("the catalog is not JSON")?;
    let tracks = catalog["tracks"].as_array().context("the catalog has no tracks")?;
    let names = tracks.iter().filter_map(|track| track["name"].as_str());
    Ok(names.map(ToOwned::to_owned).collect())
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

    fn heard(&mut self, track: usize, heard: Heard) -> anyhow::Result<()> {
        let name = &self.names[track];
        match heard {
            Heard::Received(Received::Object(object)) if object.status == ObjectStatus::Normal => {
                self.object(track, &object)?;
            }
            Heard::Received(Received::Reset { group, code, .. }) => {
                eprint_line(&format!("{name}: group {group} was cut: {code}"));
            }
            Heard::Received(Received::BackfillEnd(Err(refusal))) => {
                eprint_line(&format!("{name}: the past: {refusal}"));
            }
            Heard::Received(_) => {}
            Heard::Over(Ok(Some(done))) => eprint_line(&format!("{name}: over: {}", done.code)),
            Heard::Over(Ok(None)) => {}
            Heard::Over(Err(refusal)) => return Err(refusal).with_context(|| name.clone()),
        }
        Ok(())
    }

    fn object(&mut self, track: usize, object: &Object) -> anyhow::Result<()> {
        self.objects += 1;
        if let Some(out) = &mut self.out {
            out.write_all(&object.payload).context("--out")?;
            return Ok(());
        }
        let hash: [u8; 32] = Sha256::digest(&object.payload).into();
        let (Location { group, object: id }, length) = (object.location, object.payload.len());
        if self.hash {
            self.seen.insert((track, object.location), (length as u64, hash));
            return Ok(());
        }
        let name = match &self.names[..] {
            [_] => String::new(),
            names => format!("{} ", names[track]),
        };
        let subgroup = object.subgroup.map_or("-".to_owned(), |id| id.to_string());
        println!("{name}{group} {subgroup} {id} {length} {}", hex(&hash));
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
