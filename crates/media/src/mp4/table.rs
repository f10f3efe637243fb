//! The progressive index: which sample lies where, read run by run so that a long film's index
//! stays as small in memory as it is in the file.

use mp4_atom::{Co64, Ctts, Stco, Stsc, Stss, Stsz, StszSamples, Stts};

use super::boxes::Mp4Box;
use super::{MAX_SAMPLE_BYTES, Sample};
use crate::Error;

/// A track's sample tables.
#[derive(Debug, Default)]
pub(super) struct Table {
    durations: Stts,
    compositions: Ctts,
    sizes: Stsz,
    chunk_runs: Stsc,
    chunk_offsets: Vec<u64>,
    /// `None`: every sample is a sync sample.
    syncs: Option<Stss>,
    /// Where `stbl` starts, for errors.
    offset: u64,
}

impl Table {
    /// Reads the tables of an `stbl`.
    pub(super) fn parse(stbl: &Mp4Box<'_>) -> Result<Self, Error> {
        let chunk_offsets = match (stbl.find(b"stco")?, stbl.find(b"co64")?) {
            (Some(stco), _) => stco.decode::<Stco>()?.entries.into_iter().map(u64::from).collect(),
            (None, Some(co64)) => co64.decode::<Co64>()?.entries,
            (None, None) => return Err(stbl.broken("has neither `stco` nor `co64` inside")),
        };
        let table = Self {
            durations: stbl.require(b"stts")?.decode()?,
            compositions: match stbl.find(b"ctts")? {
                Some(ctts) => ctts.decode()?,
                None => Ctts::default(),
            },
            sizes: stbl.require(b"stsz")?.decode()?,
            chunk_runs: stbl.require(b"stsc")?.decode()?,
            chunk_offsets,
            syncs: match stbl.find(b"stss")? {
                Some(stss) => Some(stss.decode()?),
                None => None,
            },
            offset: stbl.offset,
        };
        Ok(table)
    }

    /// The mean duration of the samples in the track's timescale.
    pub(super) fn mean_sample_duration(&self) -> Option<f64> {
        let (mut samples, mut ticks) = (0f64, 0f64);
        for run in &self.durations.entries {
            samples += f64::from(run.sample_count);
            ticks += f64::from(run.sample_count) * f64::from(run.sample_delta);
        }
        (samples > 0.0 && ticks > 0.0).then(|| ticks / samples)
    }

    fn sample_count(&self) -> u32 {
        match &self.sizes.samples {
            StszSamples::Identical { count, .. } => *count,
            StszSamples::Different { sizes } => u32::try_from(sizes.len()).unwrap_or(u32::MAX),
        }
    }

    fn size(&self, index: u32) -> u32 {
        match &self.sizes.samples {
            StszSamples::Identical { size, .. } => *size,
            StszSamples::Different { sizes } => {
                sizes.get(index as usize).copied().unwrap_or_default()
            }
        }
    }
}

/// A place in a track's tables.
#[derive(Debug, Default, Clone)]
pub(super) struct Cursor {
    /// The next sample, counted from 0.
    index: u32,
    dts: i128,
    duration_run: Run,
    composition_run: Run,
    /// Position in `stsc`.
    chunk_run: usize,
    /// The current chunk, counted from 0.
    chunk: usize,
    left_in_chunk: u32,
    next_offset: u64,
    started: bool,
    /// Position in `stss`.
    sync: usize,
}

/// A place in a run-length table.
#[derive(Debug, Default, Clone, Copy)]
struct Run {
    entry: usize,
    used: u32,
}

impl Run {
    /// The current entry of runs `len(entry)` long; moves on by one sample.
    fn step(&mut self, len: impl Fn(usize) -> Option<u32>) -> Option<usize> {
        while self.used >= len(self.entry)? {
            self.entry += 1;
            self.used = 0;
        }
        self.used += 1;
        Some(self.entry)
    }
}

impl Cursor {
    /// The next sample; `None` after the last.
    pub(super) fn next(&mut self, table: &Table) -> Result<Option<Sample>, Error> {
        if self.index >= table.sample_count() {
            return Ok(None);
        }
        let broken = |kind: &[u8; 4], what: String| Error::mp4(*kind, table.offset, what);
        while self.left_in_chunk == 0 {
            self.enter_chunk(table).ok_or_else(|| {
                broken(b"stsc", format!("gives no place to sample {}", self.index))
            })?;
        }
        let size = table.size(self.index);
        if size > MAX_SAMPLE_BYTES {
            return Err(broken(
                b"stsz",
                format!(
                    "gives sample {} {size} bytes; at most {MAX_SAMPLE_BYTES} are accepted",
                    self.index
                ),
            ));
        }
        let durations = &table.durations.entries;
        let entry = self
            .duration_run
            .step(|at| durations.get(at).map(|run| run.sample_count))
            .ok_or_else(|| broken(b"stts", format!("gives no time to sample {}", self.index)))?;
        let duration = durations[entry].sample_delta;
        let compositions = &table.compositions.entries;
        let composition = self
            .composition_run
            .step(|at| compositions.get(at).map(|run| run.sample_count))
            .map_or(0, |at| compositions[at].sample_offset);
        let sample = Sample {
            offset: self.next_offset,
            size,
            dts: self.dts,
            composition,
            sync: self.is_sync(table),
        };
        self.dts += i128::from(duration);
        self.index += 1;
        self.left_in_chunk -= 1;
        self.next_offset = self.next_offset.saturating_add(u64::from(size));
        Ok(Some(sample))
    }

    fn enter_chunk(&mut self, table: &Table) -> Option<()> {
        if self.started {
            self.chunk += 1;
        }
        self.started = true;
        let runs = &table.chunk_runs.entries;
        while runs
            .get(self.chunk_run + 1)
            .is_some_and(|next| self.chunk + 1 >= next.first_chunk as usize)
        {
            self.chunk_run += 1;
        }
        self.next_offset = *table.chunk_offsets.get(self.chunk)?;
        self.left_in_chunk = runs.get(self.chunk_run)?.samples_per_chunk;
        Some(())
    }

    fn is_sync(&mut self, table: &Table) -> bool {
        let Some(syncs) = &table.syncs else {
            return true;
        };
        let number = self.index + 1;
        while syncs.entries.get(self.sync).is_some_and(|at| *at < number) {
            self.sync += 1;
        }
        syncs.entries.get(self.sync) == Some(&number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mp4_atom::{CttsEntry, StscEntry, SttsEntry};

    fn table() -> Table {
        Table {
            durations: Stts {
                entries: vec![
                    SttsEntry { sample_count: 2, sample_delta: 10 },
                    SttsEntry { sample_count: 3, sample_delta: 20 },
                ],
            },
            compositions: Ctts { entries: vec![CttsEntry { sample_count: 5, sample_offset: 7 }] },
            sizes: Stsz { samples: StszSamples::Different { sizes: vec![1, 2, 3, 4, 5] } },
            chunk_runs: Stsc {
                entries: vec![
                    StscEntry { first_chunk: 1, samples_per_chunk: 2, sample_description_index: 1 },
                    StscEntry { first_chunk: 2, samples_per_chunk: 3, sample_description_index: 1 },
                ],
            },
            chunk_offsets: vec![100, 200],
            syncs: Some(Stss { entries: vec![1, 4] }),
            offset: 0,
        }
    }

    #[test]
    fn samples_are_laid_out_chunk_by_chunk() {
        let table = table();
        let mut cursor = Cursor::default();
        let samples: Vec<_> =
            std::iter::from_fn(|| cursor.next(&table).unwrap_or_default()).collect();
        let places: Vec<_> = samples.iter().map(|sample| (sample.offset, sample.size)).collect();
        assert_eq!(places, [(100, 1), (101, 2), (200, 3), (203, 4), (207, 5)]);
        let times: Vec<_> = samples.iter().map(|sample| sample.dts).collect();
        assert_eq!(times, [0, 10, 20, 40, 60]);
        let syncs: Vec<_> = samples.iter().map(|sample| sample.sync).collect();
        assert_eq!(syncs, [true, false, false, true, false]);
        assert!(samples.iter().all(|sample| sample.composition == 7));
    }

    #[test]
    fn tables_that_contradict_each_other_are_named() {
        let mut few_chunks = table();
        few_chunks.chunk_offsets.pop();
        let mut cursor = Cursor::default();
        assert!(cursor.next(&few_chunks).is_ok());
        assert!(cursor.next(&few_chunks).is_ok());
        assert!(cursor.next(&few_chunks).unwrap_err().to_string().contains("stsc"));

        let mut empty_chunks = table();
        empty_chunks.chunk_runs.entries[0].samples_per_chunk = 0;
        empty_chunks.chunk_runs.entries.truncate(1);
        assert!(Cursor::default().next(&empty_chunks).is_err());

        let mut short_times = table();
        short_times.durations.entries.truncate(1);
        let mut cursor = Cursor::default();
        let end = (0..3).map(|_| cursor.next(&short_times)).find_map(Result::err);
        assert!(end.is_some_and(|error| error.to_string().contains("stts")));
    }
}
