//! `moof`: the samples of one fragment.

use mp4_atom::{Tfdt, Tfhd, Trun};

use super::boxes::Mp4Box;
use super::movie::Track;
use super::{MAX_FRAGMENT_SAMPLES, MAX_SAMPLE_BYTES, Sample};
use crate::Error;

/// `sample_is_non_sync_sample` in a sample's flags.
const NON_SYNC: u32 = 0x0001_0000;

/// Where each track's decode time stands, for fragments that do not say.
#[derive(Debug, Default, Clone)]
pub(super) struct Clocks(Vec<i128>);

/// Reads a `moof`: its samples, each with the index of its track in `tracks`, in the order in
/// which the fragment lists them.
pub(super) fn samples(
    moof: &Mp4Box<'_>,
    tracks: &[Track],
    clocks: &mut Clocks,
) -> Result<Vec<(usize, Sample)>, Error> {
    clocks.0.resize(tracks.len(), 0);
    let mut list = Vec::new();
    let mut count = 0usize;
    // Without an explicit base, a run's data starts where that of the one before ended.
    let mut previous_end = moof.offset;
    for traf in moof.children(0) {
        let traf = traf?;
        if traf.kind != *b"traf" {
            continue;
        }
        let tfhd_box = traf.require(b"tfhd")?;
        let tfhd: Tfhd = tfhd_box.decode()?;
        let track = tracks.iter().position(|track| track.config.id == tfhd.track_id);
        let base = match tfhd.base_data_offset {
            Some(base) => base,
            None if tfhd.default_base_is_moof => moof.offset,
            None => previous_end,
        };
        let mut dts = match traf.find(b"tfdt")? {
            Some(tfdt) => i128::from(tfdt.decode::<Tfdt>()?.base_media_decode_time),
            None => track.map_or(0, |track| clocks.0[track]),
        };
        let defaults = track.map(|track| &tracks[track].defaults);
        let default = |own: Option<u32>, inherited: fn(&mp4_atom::Trex) -> u32| {
            own.or(defaults.map(inherited)).unwrap_or_default()
        };
        let duration = default(tfhd.default_sample_duration, |trex| trex.default_sample_duration);
        let size = default(tfhd.default_sample_size, |trex| trex.default_sample_size);
        let flags = default(tfhd.default_sample_flags, |trex| trex.default_sample_flags);

        let mut end = base;
        for child in traf.children(0) {
            let trun_box = child?;
            if trun_box.kind != *b"trun" {
                continue;
            }
            let trun: Trun = trun_box.decode()?;
            count = count.saturating_add(trun.samples.len());
            if count > MAX_FRAGMENT_SAMPLES {
                return Err(trun_box.broken(format!(
                    "brings the fragment to {count} samples; at most {MAX_FRAGMENT_SAMPLES} are accepted"
                )));
            }
            let mut at = match trun.data_offset {
                Some(offset) => base
                    .checked_add_signed(i64::from(offset))
                    .ok_or_else(|| trun_box.broken("places its data before the input's start"))?,
                None => end,
            };
            for entry in &trun.samples {
                let size = entry.size.unwrap_or(size);
                if size > MAX_SAMPLE_BYTES {
                    return Err(trun_box.broken(format!(
                        "gives a sample {size} bytes; at most {MAX_SAMPLE_BYTES} are accepted"
                    )));
                }
                let sample = Sample {
                    offset: at,
                    size,
                    dts,
                    composition: entry.cts.unwrap_or_default(),
                    sync: entry.flags.unwrap_or(flags) & NON_SYNC == 0,
                };
                at = at
                    .checked_add(u64::from(size))
                    .ok_or_else(|| trun_box.broken("places its data beyond any input's end"))?;
                dts += i128::from(entry.duration.unwrap_or(duration));
                if let (Some(track), true) = (track, size > 0) {
                    list.push((track, sample));
                }
            }
            end = at;
        }
        previous_end = end;
        if let Some(track) = track {
            clocks.0[track] = dts;
        }
    }
    Ok(list)
}
