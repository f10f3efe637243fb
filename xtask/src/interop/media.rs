//! A clip sent through a relay by our publisher and taken out by our subscriber, compared object by
//! object with what `ffprobe` reads in the file.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};

use super::{
    process::{self, Server},
    relays,
};
use crate::{child::Stop, project, tools};

/// The broadcast that the clip is published as.
const BROADCAST: &str = "live/clip";
/// The clip's tracks: as `ffprobe` selects them, and as our publisher names them.
const TRACKS: [(&str, &str); 2] = [("v:0", "video0"), ("a:0", "audio0")];

const CLIP_SECONDS: u64 = 6;
const TOOL_LIMIT: Duration = Duration::from_secs(60);
/// How long the subscriber waits for the clip's end.
const PATIENCE: Duration = Duration::from_secs(CLIP_SECONDS + 10);

/// A few seconds of H.264 and AAC, and the hash of every sample in it.
#[derive(Debug)]
pub(crate) struct Clip {
    file: PathBuf,
    /// By track, as [`TRACKS`].
    hashes: [Vec<String>; 2],
}

impl Clip {
    /// Makes one.
    pub(crate) fn make(stop: &Stop) -> Result<Self> {
        tools::require(&[&tools::FFMPEG])?;
        let file = relays::empty_directory("clip")?.join("clip.mp4");
        let mut ffmpeg = Command::new("ffmpeg");
        let seconds = CLIP_SECONDS.to_string();
        ffmpeg.args([
            "-v",
            "error",
            "-t",
            &seconds,
            "-f",
            "lavfi",
            "-i",
            "testsrc2=s=320x180:r=25",
        ]);
        ffmpeg.args(["-t", &seconds, "-f", "lavfi", "-i", "aevalsrc=random(0)/8:s=48000"]);
        ffmpeg.args(["-c:v", "libx264", "-preset", "veryfast", "-tune", "zerolatency"]);
        ffmpeg.args(["-g", "25", "-pix_fmt", "yuv420p", "-c:a", "aac", "-b:a", "64k"]);
        let made = process::finish(ffmpeg.arg(&file), TOOL_LIMIT, stop)?;
        ensure!(made.status.success(), "ffmpeg made no clip: {}", made.last_words());
        let mut hashes = [Vec::new(), Vec::new()];
        for (track, (selector, name)) in TRACKS.iter().enumerate() {
            hashes[track] = sample_hashes(&file, selector, stop)?;
            ensure!(!hashes[track].is_empty(), "ffprobe found no samples of {name} in the clip");
        }
        Ok(Self { file, hashes })
    }
}

/// SHA-256 of each sample of a track, in the order of the file.
fn sample_hashes(file: &Path, selector: &str, stop: &Stop) -> Result<Vec<String>> {
    let mut ffprobe = Command::new("ffprobe");
    ffprobe.args(["-v", "error", "-select_streams", selector, "-show_data_hash", "sha256"]);
    ffprobe.args(["-show_entries", "packet=data_hash", "-of", "default=nk=1:nw=1"]).arg(file);
    let read = process::finish(&ffprobe, TOOL_LIMIT, stop)?;
    ensure!(read.status.success(), "ffprobe failed: {}", read.last_words());
    let hashes = read.stdout.lines().filter_map(|line| line.strip_prefix("SHA256:"));
    Ok(hashes.map(str::to_owned).collect())
}

/// Publishes the clip at one relay and subscribes to it at another, or the same, which must speak
/// `draft` if it is given. Says how many objects arrived; fails when one is missing, altered, doubled
/// or out of its place.
pub(crate) fn deliver(
    clip: &Clip,
    publish_at: &str,
    subscribe_at: &str,
    draft: Option<u8>,
    directory: &Path,
    stop: &Stop,
) -> Result<String> {
    let mut publisher = Command::new(project::program("publisher"));
    publisher.arg("--url").arg(&clip.file).args(["--name", BROADCAST]);
    publisher.args(["--relay", publish_at, "--tls-disable-verify"]);
    let mut publishing = Server::start("publisher", &publisher, &directory.join("publisher.log"))?;
    publishing.wait_for("connected to", stop)?;

    let mut subscriber = Command::new(project::program("weir-sub"));
    subscriber.args(["--relay", subscribe_at, "--tls-disable-verify", "--name", BROADCAST]);
    subscriber.args(draft.iter().flat_map(|draft| ["--draft".to_owned(), draft.to_string()]));
    subscriber.args(["--seconds", &PATIENCE.as_secs().to_string()]);
    subscriber.args(TRACKS.iter().flat_map(|(_, name)| ["--track", name]));
    let heard = process::finish(&subscriber, PATIENCE + TOOL_LIMIT, stop)?;
    std::fs::write(directory.join("weir-sub.log"), [&*heard.stdout, &heard.stderr].concat())?;
    ensure!(heard.status.success(), "the subscriber failed: {}", heard.last_words());

    let objects = parse_objects(&heard.stdout)?;
    let mut counts = Vec::new();
    for ((_, name), published) in TRACKS.iter().zip(&clip.hashes) {
        let arrived = objects.iter().filter(|object| object.track == *name);
        let count = compare(published, arrived.collect()).with_context(|| (*name).to_owned())?;
        counts.push(format!("{name} {count} of {}", published.len()));
    }
    Ok(counts.join(", "))
}

/// An object that arrived.
#[derive(Debug)]
struct Object {
    track: String,
    /// Group and object ID.
    place: (u64, u64),
    hash: String,
}

/// Reads `weir-sub`'s lines: `TRACK GROUP SUBGROUP OBJECT BYTES SHA256`.
fn parse_objects(text: &str) -> Result<Vec<Object>> {
    let parse = |line: &str| {
        let mut words = line.split(' ');
        let (track, group, _subgroup) = (words.next()?, words.next()?, words.next()?);
        let (id, _bytes, hash) = (words.next()?, words.next()?, words.next()?);
        let place = (group.parse().ok()?, id.parse().ok()?);
        Some(Object { track: track.to_owned(), place, hash: hash.to_owned() })
    };
    text.lines().map(|line| parse(line).with_context(|| format!("unreadable: {line}"))).collect()
}

/// Objects in the order of their places must be what was published last, without a gap: who joins a
/// live track misses what went before. How many there are.
fn compare(published: &[String], mut arrived: Vec<&Object>) -> Result<usize> {
    arrived.sort_by_key(|object| object.place);
    if let Some(twice) = arrived.windows(2).find(|pair| pair[0].place == pair[1].place) {
        let (group, id) = twice[0].place;
        bail!("object {group}:{id} came twice");
    }
    let count = arrived.len();
    ensure!(count <= published.len(), "{count} objects came of {}", published.len());
    // The publisher has just connected when the subscriber asks.
    ensure!(count * 2 > published.len(), "only {count} objects came of {}", published.len());
    let expected = &published[published.len() - count..];
    for (object, expected) in arrived.iter().zip(expected) {
        let (group, id) = object.place;
        ensure!(
            object.hash == *expected,
            "object {group}:{id} is not what was published, or one is missing after it"
        );
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published() -> Vec<String> {
        ["a", "b", "c", "d", "e"].map(str::to_owned).into()
    }

    fn compared(lines: &str) -> Result<usize, String> {
        let objects = parse_objects(lines).unwrap();
        compare(&published(), objects.iter().collect()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_rest_of_a_track_from_where_one_joined_is_exact_in_any_order_of_arrival() {
        assert_eq!(compared("v 7 0 1 9 c\nv 7 0 0 9 b\nv 9 0 0 9 d\nv 9 0 1 9 e\n"), Ok(4));
    }

    #[test]
    fn what_is_missing_altered_or_doubled_is_found() {
        for (what, lines) in [
            ("missing in the middle", "v 0 0 0 9 a\nv 0 0 1 9 b\nv 0 0 3 9 d\nv 0 0 4 9 e\n"),
            ("missing at the end", "v 0 0 0 9 a\nv 0 0 1 9 b\nv 0 0 2 9 c\nv 0 0 3 9 d\n"),
            ("altered", "v 0 0 2 9 c\nv 0 0 3 9 x\nv 0 0 4 9 e\n"),
            ("out of place", "v 0 0 2 9 d\nv 0 0 3 9 c\nv 0 0 4 9 e\n"),
            ("doubled", "v 0 0 2 9 c\nv 0 0 3 9 d\nv 0 0 3 9 d\nv 0 0 4 9 e\n"),
            ("too few", "v 0 0 4 9 e\n"),
            ("nothing", ""),
        ] {
            assert!(compared(lines).is_err(), "{what}");
        }
    }
}
