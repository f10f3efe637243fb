//! MP4 from a seekable file: any order of boxes, any interleaving, frames in decode order.

use std::collections::VecDeque;
use std::io::{Read, Seek, SeekFrom};

use bytes::{Bytes, BytesMut};

use super::boxes::{Header, Mp4Box};
use super::movie::{Movie, Track};
use super::{MAX_MOOF_BYTES, MAX_MOOV_BYTES, Sample, fragment, table};
use crate::{Error, Frame, TrackConfig, Warning};

/// An MP4 file, progressive or fragmented.
///
/// Frames of all tracks come out merged by decode time, however the file interleaves them: each
/// track has its own place in the index.
#[derive(Debug)]
pub struct Mp4File<R> {
    reader: R,
    length: u64,
    tracks: Vec<Track>,
    warnings: Vec<Warning>,
    /// The first byte after `moov`, where fragments are looked for; `None` if progressive.
    fragments_from: Option<u64>,
    places: Vec<Place>,
}

/// A track's place in the file.
#[derive(Debug)]
struct Place {
    cursor: Cursor,
    /// The next sample, read ahead to compare decode times.
    next: Option<Sample>,
}

#[derive(Debug)]
enum Cursor {
    Table(table::Cursor),
    Fragments {
        /// Where the next top-level box starts.
        at: u64,
        clocks: fragment::Clocks,
        queue: VecDeque<Sample>,
    },
}

impl<R: Read + Seek> Mp4File<R> {
    /// Reads the file's header, wherever it is.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is broken, or has nothing that can pass.
    pub fn open(mut reader: R) -> Result<Self, Error> {
        let length = reader.seek(SeekFrom::End(0))?;
        let mut at = 0;
        let (header, offset) = loop {
            let Some((header, end)) = read_header(&mut reader, at, length)? else {
                return Err(Error::mp4(
                    *b"moov",
                    length,
                    "is missing; the file is not finished, or was cut off",
                ));
            };
            if header.kind == *b"moov" {
                break (header, at);
            }
            at = end;
        };
        let body = read_body(&mut reader, &header, offset, length, MAX_MOOV_BYTES)?;
        let movie = Movie::parse(&Mp4Box::new(&header, offset, &body))?;
        let fragments_from =
            movie.fragmented.then(|| offset + header.total_bytes.unwrap_or(header.header_bytes));
        let mut file = Self {
            reader,
            length,
            tracks: movie.tracks,
            warnings: movie.warnings,
            fragments_from,
            places: Vec::new(),
        };
        file.rewind()?;
        Ok(file)
    }

    /// The tracks that can pass.
    pub fn tracks(&self) -> Vec<TrackConfig> {
        self.tracks.iter().map(|track| track.config.clone()).collect()
    }

    /// What was left out.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Goes back to the first frame.
    ///
    /// # Errors
    ///
    /// As [`Mp4File::next_frame`]: it looks ahead.
    pub fn rewind(&mut self) -> Result<(), Error> {
        self.places.clear();
        for index in 0..self.tracks.len() {
            let cursor = match self.fragments_from {
                None => Cursor::Table(table::Cursor::default()),
                Some(at) => Cursor::Fragments {
                    at,
                    clocks: fragment::Clocks::default(),
                    queue: VecDeque::new(),
                },
            };
            self.places.push(Place { cursor, next: None });
            self.places[index].next = self.advance(index)?;
        }
        Ok(())
    }

    /// The next frame by decode time; `None` at the end.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or its index is broken or points outside of it.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Error> {
        let due = |(place, track): (&Place, &Track)| {
            place.next.map(|sample| {
                crate::track::to_micros(sample.dts, track.config.timescale)
                    .saturating_add(track.edit_shift_us)
            })
        };
        let Some((_, index)) = self
            .places
            .iter()
            .zip(&self.tracks)
            .enumerate()
            .filter_map(|(index, pair)| due(pair).map(|time| (time, index)))
            .min()
        else {
            return Ok(None);
        };
        let next = self.advance(index)?;
        let Some(sample) = std::mem::replace(&mut self.places[index].next, next) else {
            return Ok(None);
        };
        let payload = self.read_sample(&sample)?;
        Ok(Some(sample.frame(&self.tracks[index], payload)))
    }

    fn read_sample(&mut self, sample: &Sample) -> Result<Bytes, Error> {
        if sample.offset.saturating_add(u64::from(sample.size)) > self.length {
            return Err(Error::mp4(
                *b"mdat",
                sample.offset,
                format!("a sample of {} bytes lies beyond the end of the file", sample.size),
            ));
        }
        let mut payload = BytesMut::zeroed(sample.size as usize);
        self.reader.seek(SeekFrom::Start(sample.offset))?;
        self.reader.read_exact(&mut payload)?;
        Ok(payload.freeze())
    }

    /// Moves a track's cursor on by one sample.
    fn advance(&mut self, index: usize) -> Result<Option<Sample>, Error> {
        match &mut self.places[index].cursor {
            Cursor::Table(cursor) => loop {
                match cursor.next(&self.tracks[index].table)? {
                    Some(sample) if sample.size == 0 => {}
                    next => return Ok(next),
                }
            },
            Cursor::Fragments { at, clocks, queue } => loop {
                if let Some(sample) = queue.pop_front() {
                    return Ok(Some(sample));
                }
                let Some((header, end)) = read_header(&mut self.reader, *at, self.length)? else {
                    return Ok(None);
                };
                if header.kind == *b"moof" {
                    let body =
                        read_body(&mut self.reader, &header, *at, self.length, MAX_MOOF_BYTES)?;
                    let moof = Mp4Box::new(&header, *at, &body);
                    let samples = fragment::samples(&moof, &self.tracks, clocks)?;
                    queue.extend(
                        samples.into_iter().filter(|(track, _)| *track == index).map(|(_, s)| s),
                    );
                }
                *at = end;
            },
        }
    }
}

/// Reads the top-level box header at `at`, and where the box ends; `None` at the file's end.
fn read_header<R: Read + Seek>(
    reader: &mut R,
    at: u64,
    length: u64,
) -> Result<Option<(Header, u64)>, Error> {
    if at >= length {
        return Ok(None);
    }
    reader.seek(SeekFrom::Start(at))?;
    let mut head = Vec::with_capacity(16);
    reader.by_ref().take(16).read_to_end(&mut head)?;
    let header = Header::parse(&head, at)?
        .ok_or_else(|| Error::mp4(*b"????", at, "is cut off by the end of the file"))?;
    Ok(Some((header, header.total_bytes.map_or(length, |total| at + total))))
}

fn read_body<R: Read + Seek>(
    reader: &mut R,
    header: &Header,
    offset: u64,
    length: u64,
    limit: u64,
) -> Result<Bytes, Error> {
    let size = header.bounded_body(offset, limit)?;
    let start = offset + header.header_bytes;
    if start + size > length {
        return Err(Error::mp4(header.kind, offset, "is cut off by the end of the file"));
    }
    let mut body = BytesMut::zeroed(usize::try_from(size).unwrap_or_default());
    reader.seek(SeekFrom::Start(start))?;
    reader.read_exact(&mut body)?;
    Ok(body.freeze())
}
