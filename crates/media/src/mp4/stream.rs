//! Fragmented MP4 from a stream: samples come out as soon as their last byte is in.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use super::boxes::{Header, Mp4Box};
use super::movie::{Movie, Track};
use super::{MAX_MOOF_BYTES, MAX_MOOV_BYTES, Sample, fragment};
use crate::demux::Events;
use crate::{Demuxer, Error, Event};

/// A [`Demuxer`] for fragmented MP4 and CMAF.
///
/// A second `moov` in the stream replaces the tracks of the first.
#[derive(Debug, Default)]
pub struct FragmentedDemuxer {
    buffer: BytesMut,
    /// Where `buffer` starts in the input.
    offset: u64,
    state: State,
    tracks: Vec<Track>,
    clocks: fragment::Clocks,
    /// Samples whose bytes are still to come, by offset.
    pending: VecDeque<(usize, Sample)>,
    events: Events,
}

#[derive(Debug, Default, Clone, Copy)]
enum State {
    /// At a box's start.
    #[default]
    Box,
    /// Inside a box that is passed over, up to this offset.
    Skip { end: u64 },
    /// Inside an `mdat`, up to this offset or to the input's end.
    Media { end: Option<u64> },
}

impl Demuxer for FragmentedDemuxer {
    fn handle_bytes(&mut self, bytes: Bytes) -> Result<(), Error> {
        self.buffer.extend_from_slice(&bytes);
        while self.step()? {}
        Ok(())
    }

    fn handle_end(&mut self) -> Result<(), Error> {
        if self.tracks.is_empty() { Err(Error::NoTracks) } else { Ok(()) }
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }
}

impl FragmentedDemuxer {
    /// A demuxer at the start of its input.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes one step; `false` if it needs more bytes.
    fn step(&mut self) -> Result<bool, Error> {
        match self.state {
            State::Box => self.step_box(),
            State::Skip { end } => {
                self.discard_to(end);
                let done = self.offset == end;
                if done {
                    self.state = State::Box;
                }
                Ok(done)
            }
            State::Media { end } => self.step_media(end),
        }
    }

    fn step_box(&mut self) -> Result<bool, Error> {
        let Some(header) = Header::parse(&self.buffer, self.offset)? else {
            return Ok(false);
        };
        match &header.kind {
            b"moov" => {
                let Some(body) = self.take_box(&header, MAX_MOOV_BYTES)? else {
                    return Ok(false);
                };
                self.handle_moov(&header, &body)?;
            }
            b"moof" => {
                let Some(body) = self.take_box(&header, MAX_MOOF_BYTES)? else {
                    return Ok(false);
                };
                self.handle_moof(&header, &body)?;
            }
            b"mdat" => {
                let end = header.total_bytes.map(|total| self.offset + total);
                self.discard_to(self.offset + header.header_bytes);
                self.state = State::Media { end };
            }
            _ => {
                let total = header
                    .total_bytes
                    .ok_or_else(|| Error::mp4(header.kind, self.offset, "has no size"))?;
                self.state = State::Skip { end: self.offset + total };
            }
        }
        Ok(true)
    }

    /// Takes a whole box off the buffer and gives its body, once it is all there.
    fn take_box(&mut self, header: &Header, limit: u64) -> Result<Option<Bytes>, Error> {
        let body = header.bounded_body(self.offset, limit)?;
        let total = usize::try_from(header.header_bytes + body).unwrap_or(usize::MAX);
        if self.buffer.len() < total {
            return Ok(None);
        }
        let mut whole = self.buffer.split_to(total).freeze();
        self.offset += total as u64;
        whole.advance(total - usize::try_from(body).unwrap_or_default());
        Ok(Some(whole))
    }

    fn handle_moov(&mut self, header: &Header, body: &[u8]) -> Result<(), Error> {
        let start = self.offset - body.len() as u64 - header.header_bytes;
        let movie = Movie::parse(&Mp4Box::new(header, start, body))?;
        if !movie.fragmented {
            return Err(Error::ProgressiveStream);
        }
        let configs = |tracks: &[Track]| -> Vec<_> {
            tracks.iter().map(|track| track.config.clone()).collect()
        };
        let (old, new) = (configs(&self.tracks), configs(&movie.tracks));
        self.tracks = movie.tracks;
        self.pending.clear();
        // Some live encoders repeat the header; that is no news.
        if old != new {
            self.events.extend(movie.warnings.into_iter().map(Event::Warning));
            self.events.push_back(Event::Tracks(new));
        }
        Ok(())
    }

    fn handle_moof(&mut self, header: &Header, body: &[u8]) -> Result<(), Error> {
        let start = self.offset - body.len() as u64 - header.header_bytes;
        let moof = Mp4Box::new(header, start, body);
        if let Some((_, sample)) = self.pending.front() {
            return Err(moof.broken(format!(
                "comes before the data of {} samples of the fragment before, due at byte {}",
                self.pending.len(),
                sample.offset
            )));
        }
        if self.tracks.is_empty() {
            // Joined in the middle: nothing can be decoded before a header comes.
            return Ok(());
        }
        let mut samples = fragment::samples(&moof, &self.tracks, &mut self.clocks)?;
        samples.sort_by_key(|(_, sample)| sample.offset);
        if samples.first().is_some_and(|(_, sample)| sample.offset < self.offset) {
            return Err(moof.broken("places sample data before its own end"));
        }
        self.pending = samples.into();
        Ok(())
    }

    fn step_media(&mut self, end: Option<u64>) -> Result<bool, Error> {
        let next = self.pending.front().copied();
        let due = next.filter(|(_, sample)| end.is_none_or(|end| sample.offset < end));
        let Some((track, sample)) = due else {
            let target = end.unwrap_or(u64::MAX);
            self.discard_to(target);
            if self.offset == target {
                self.state = State::Box;
                return Ok(true);
            }
            return Ok(false);
        };
        let sample_end = sample.offset + u64::from(sample.size);
        if sample.offset < self.offset || end.is_some_and(|end| sample_end > end) {
            return Err(Error::mp4(
                *b"trun",
                sample.offset,
                format!(
                    "places a sample of {} bytes where the `mdat` has no room for it",
                    sample.size
                ),
            ));
        }
        self.discard_to(sample.offset);
        if self.offset < sample.offset || self.buffer.len() < sample.size as usize {
            return Ok(false);
        }
        let payload = self.buffer.split_to(sample.size as usize).freeze();
        self.offset = sample_end;
        self.pending.pop_front();
        self.events.push_back(Event::Frame(sample.frame(&self.tracks[track], payload)));
        Ok(true)
    }

    /// Drops buffered bytes up to `target`, as far as they are there.
    fn discard_to(&mut self, target: u64) {
        let gap = usize::try_from(target - self.offset).unwrap_or(usize::MAX);
        let count = gap.min(self.buffer.len());
        self.buffer.advance(count);
        self.offset += count as u64;
    }
}
