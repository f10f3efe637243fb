//! `moov`: the tracks of a movie, which of them can pass, and what fragments inherit.

use mp4_atom::{Elst, Mdhd, Trex};

use super::boxes::Mp4Box;
use super::sample_entry::{self, Entry};
use super::{MAX_TRACKS, table};
use crate::demux::Selection;
use crate::track::to_micros;
use crate::{Error, Format, Kind, TrackConfig, Warning};

/// A movie header.
#[derive(Debug)]
pub(super) struct Movie {
    /// The tracks that can pass.
    pub(super) tracks: Vec<Track>,
    /// What was left out.
    pub(super) warnings: Vec<Warning>,
    /// Whether the media is in fragments (`mvex` is there).
    pub(super) fragmented: bool,
}

/// A track that can pass.
#[derive(Debug)]
pub(super) struct Track {
    pub(super) config: TrackConfig,
    /// Bytes of the NAL length prefix, for H.264 and HEVC.
    pub(super) nal_length_size: usize,
    /// What the edit list adds to every timestamp.
    pub(super) edit_shift_us: i64,
    /// Defaults for fragments.
    pub(super) defaults: Trex,
    /// The progressive index; empty in a fragmented movie.
    pub(super) table: table::Table,
}

impl Movie {
    /// Reads a `moov`.
    ///
    /// Fails if it is broken, or if its video (or, without video, its audio) cannot pass.
    pub(super) fn parse(moov: &Mp4Box<'_>) -> Result<Self, Error> {
        let movie_timescale = moov.require(b"mvhd")?.decode::<mp4_atom::Mvhd>()?.timescale;
        let mvex = moov.find(b"mvex")?;
        let mut selection = Selection::default();
        let mut tracks = Vec::new();
        let mut seen = 0;
        for trak in moov.children(0) {
            let trak = trak?;
            if trak.kind != *b"trak" {
                continue;
            }
            seen += 1;
            if seen > MAX_TRACKS {
                return Err(
                    trak.broken(format!("is one track more than the {MAX_TRACKS} accepted"))
                );
            }
            let defaults = |id| trex_of(mvex.as_ref(), id);
            match parse_track(&trak, movie_timescale, defaults)? {
                Parsed::Track(track) => {
                    selection.supported(track.config.kind());
                    tracks.push(*track);
                }
                Parsed::Unsupported { id, kind, codec } => selection.unsupported(id, kind, codec),
                Parsed::NoMedia => {}
            }
        }
        let warnings = selection.finish()?;
        Ok(Self { tracks, warnings, fragmented: mvex.is_some() })
    }
}

enum Parsed {
    Track(Box<Track>),
    Unsupported {
        id: u32,
        kind: Kind,
        codec: String,
    },
    /// Subtitles, timecode, hints.
    NoMedia,
}

fn parse_track(
    trak: &Mp4Box<'_>,
    movie_timescale: u32,
    defaults: impl Fn(u32) -> Result<Trex, Error>,
) -> Result<Parsed, Error> {
    let id = track_id(&trak.require(b"tkhd")?)?;
    let mdia = trak.require(b"mdia")?;
    let hdlr = mdia.require(b"hdlr")?;
    let kind = match hdlr.body.get(8..12) {
        Some(b"vide") => Kind::Video,
        Some(b"soun") => Kind::Audio,
        _ => return Ok(Parsed::NoMedia),
    };
    let mdhd_box = mdia.require(b"mdhd")?;
    let mdhd: Mdhd = mdhd_box.decode()?;
    if mdhd.timescale == 0 {
        return Err(mdhd_box.broken("has a timescale of zero"));
    }
    let stbl = mdia.require(b"minf")?.require(b"stbl")?;
    let description = match sample_entry::parse(&stbl.require(b"stsd")?, kind)? {
        Entry::Supported(description) => description,
        Entry::Unsupported(codec) => return Ok(Parsed::Unsupported { id, kind, codec }),
    };
    let table = table::Table::parse(&stbl)?;
    let defaults = defaults(id)?;
    let mut format = description.format;
    if let Format::Video { framerate: framerate @ None, .. } = &mut format {
        let duration = f64::from(defaults.default_sample_duration);
        *framerate = table
            .mean_sample_duration()
            .or((duration > 0.0).then_some(duration))
            .map(|ticks| f64::from(mdhd.timescale) / ticks)
            .filter(|rate| *rate <= 1000.0);
    }
    Ok(Parsed::Track(Box::new(Track {
        config: TrackConfig {
            id,
            codec: description.codec,
            codec_string: description.codec_string,
            description: description.description,
            format,
            timescale: mdhd.timescale,
            language: (mdhd.language != "und").then_some(mdhd.language),
        },
        nal_length_size: description.nal_length_size,
        edit_shift_us: edit_shift_us(trak, movie_timescale, mdhd.timescale)?,
        defaults,
        table,
    })))
}

/// `track_ID`, read by hand: of `tkhd` nothing else matters here.
fn track_id(tkhd: &Mp4Box<'_>) -> Result<u32, Error> {
    let at = if tkhd.body.first() == Some(&1) { 20 } else { 12 };
    let id = tkhd.body.get(at..).and_then(|rest| rest.first_chunk::<4>());
    id.map(|id| u32::from_be_bytes(*id)).ok_or_else(|| tkhd.broken("is cut off"))
}

fn trex_of(mvex: Option<&Mp4Box<'_>>, id: u32) -> Result<Trex, Error> {
    for child in mvex.into_iter().flat_map(|mvex| mvex.children(0)) {
        let child = child?;
        if child.kind == *b"trex" {
            let trex: Trex = child.decode()?;
            if trex.track_id == id {
                return Ok(trex);
            }
        }
    }
    Ok(Trex::default())
}

/// What the edit list adds to timestamps: leading empty edits delay, the first real edit's media
/// time is moved to that point.
fn edit_shift_us(trak: &Mp4Box<'_>, movie_scale: u32, media_scale: u32) -> Result<i64, Error> {
    let Some(edts) = trak.find(b"edts")? else {
        return Ok(0);
    };
    let Some(elst) = edts.find(b"elst")? else {
        return Ok(0);
    };
    let elst: Elst = elst.decode()?;
    let mut delay = 0i128;
    for entry in &elst.entries {
        match entry.media_time {
            None => delay += i128::from(entry.segment_duration),
            Some(media_time) => {
                let start = to_micros(i128::from(media_time), media_scale);
                return Ok(to_micros(delay, movie_scale).saturating_sub(start));
            }
        }
    }
    Ok(0)
}
