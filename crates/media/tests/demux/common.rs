//! Fixtures and what ffprobe says of them.

use std::path::PathBuf;

use bytes::Bytes;
use media::{Demuxer, Error, Event, Frame, Kind, StreamDemuxer, TrackConfig, Warning};

pub(crate) fn fixture(name: &str) -> Bytes {
    let path = path(name);
    Bytes::from(std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

pub(crate) fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// One packet as ffprobe lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Probed {
    pub(crate) video: bool,
    pub(crate) dts_us: i64,
    pub(crate) pts_us: i64,
    pub(crate) size: usize,
    pub(crate) keyframe: bool,
}

/// ffprobe's list for a fixture, by stream and decode time.
pub(crate) fn probed(name: &str) -> Vec<Probed> {
    let text = fixture(&format!("{name}.packets"));
    let text = std::str::from_utf8(&text).expect("ffprobe writes UTF-8");
    let mut packets: Vec<_> = text
        .lines()
        .map(|line| {
            let fields: Vec<_> = line.split(',').collect();
            let micros = |field: &str| {
                let seconds: f64 = field.parse().expect("a time");
                (seconds * 1e6).round() as i64
            };
            Probed {
                video: fields[0] == "video",
                pts_us: micros(fields[1]),
                dts_us: micros(fields[2]),
                size: fields[3].parse().expect("a size"),
                keyframe: fields[4].contains('K'),
            }
        })
        .collect();
    packets.sort();
    packets
}

/// Everything that a demuxer gave out.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Demuxed {
    pub(crate) tracks: Vec<TrackConfig>,
    pub(crate) frames: Vec<Frame>,
    pub(crate) warnings: Vec<Warning>,
}

impl Demuxed {
    pub(crate) fn track(&self, kind: Kind) -> &TrackConfig {
        self.tracks.iter().find(|track| track.kind() == kind).expect("a track of this kind")
    }

    /// The frames in the words of ffprobe, by stream and decode time.
    pub(crate) fn packets(&self) -> Vec<Probed> {
        let video = |frame: &Frame| self.track(Kind::Video).id == frame.track;
        let mut packets: Vec<_> = self
            .frames
            .iter()
            .map(|frame| Probed {
                video: video(frame),
                dts_us: frame.dts_us,
                pts_us: frame.pts_us,
                size: frame.payload.len(),
                keyframe: frame.keyframe,
            })
            .collect();
        packets.sort();
        packets
    }
}

/// Feeds `data` in chunks of the given sizes, over and over.
pub(crate) fn demux(data: &Bytes, chunks: &[usize]) -> Result<Demuxed, Error> {
    let mut demuxer = StreamDemuxer::new();
    let mut out = Demuxed::default();
    let mut rest = data.clone();
    let mut sizes = chunks.iter().cycle();
    while !rest.is_empty() {
        let size = sizes.next().map_or(rest.len(), |size| (*size).clamp(1, rest.len()));
        demuxer.handle_bytes(rest.split_to(size))?;
        drain(&mut demuxer, &mut out);
    }
    demuxer.handle_end()?;
    drain(&mut demuxer, &mut out);
    Ok(out)
}

fn drain(demuxer: &mut StreamDemuxer, out: &mut Demuxed) {
    while let Some(event) = demuxer.poll_event() {
        match event {
            Event::Tracks(tracks) => out.tracks = tracks,
            Event::Frame(frame) => {
                assert!(
                    out.tracks.iter().any(|track| track.id == frame.track),
                    "a frame before its track"
                );
                out.frames.push(frame);
            }
            Event::Warning(warning) => out.warnings.push(warning),
        }
    }
}
