//! The transport stream demuxer: packet grid, programme choice, and when to announce tracks.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use super::PACKET_BYTES;
use super::audio::{AacStream, OpusStream};
use super::packet::Packet;
use super::pes::{Outcome, Pes, PesAssembler, Unwrapper};
use super::psi::{self, Coding, SectionAssembler, Stream};
use super::video::VideoStream;
use crate::demux::{Events, Selection};
use crate::{Codec, Demuxer, Error, Event, Frame, Kind, TrackConfig, Warning};

/// Bytes without a packet grid before the input is given up.
const MAX_UNSYNCED_BYTES: u64 = 1 << 20;
/// Bytes without a programme before the input is given up.
const MAX_BYTES_BEFORE_PROGRAM: u64 = 16 << 20;
/// Frames held back while some track is not yet known.
const MAX_HELD_FRAMES: usize = 1024;
/// Stream time for which frames are held back while some track is not yet known.
const MAX_HELD_US: i64 = 3_000_000;

/// A [`Demuxer`] for MPEG-TS.
///
/// Of several programmes the first with a track that can pass is taken. Video starts at its first
/// key frame.
#[derive(Debug, Default)]
pub struct TsDemuxer {
    buffer: BytesMut,
    /// Where `buffer` starts in the input.
    offset: u64,
    /// Bytes passed over in search of the packet grid.
    searched: u64,
    synced: bool,
    pat: SectionAssembler,
    programs: Vec<Program>,
    /// The PMT PID of the programme that is taken.
    chosen: Option<u16>,
    tracks: Vec<Track>,
    clock: Unwrapper,
    announced: Vec<TrackConfig>,
    /// Frames that wait for the announcement.
    held: VecDeque<Frame>,
    events: Events,
}

#[derive(Debug)]
struct Program {
    pmt_pid: u16,
    sections: SectionAssembler,
    streams: Option<Vec<Stream>>,
}

#[derive(Debug)]
struct Track {
    stream: Stream,
    pes: PesAssembler,
    elementary: Elementary,
}

#[derive(Debug)]
enum Elementary {
    Video(VideoStream),
    Aac(AacStream),
    Opus(OpusStream),
}

impl Track {
    fn new(stream: Stream) -> Option<Self> {
        let elementary = match stream.coding {
            Coding::H264 => Elementary::Video(VideoStream::new(stream.pid, Codec::H264)),
            Coding::Hevc => Elementary::Video(VideoStream::new(stream.pid, Codec::Hevc)),
            Coding::Aac => Elementary::Aac(AacStream::new(stream.pid)),
            Coding::Opus(channels) => Elementary::Opus(OpusStream::new(stream.pid, channels)),
            Coding::Unsupported(..) | Coding::Data => return None,
        };
        Some(Self { stream, pes: PesAssembler::default(), elementary })
    }

    fn config(&self) -> Option<TrackConfig> {
        let config = match &self.elementary {
            Elementary::Video(video) => video.config(),
            Elementary::Aac(aac) => aac.config(),
            Elementary::Opus(opus) => Some(opus.config()),
        };
        let language = self.stream.language.clone();
        config.map(|config| TrackConfig { language, ..config.clone() })
    }

    fn handle_pes(&mut self, pes: &Pes) -> Vec<Frame> {
        match &mut self.elementary {
            Elementary::Video(video) => video.handle_pes(pes),
            Elementary::Aac(aac) => aac.handle_pes(pes),
            Elementary::Opus(opus) => opus.handle_pes(pes),
        }
    }
}

impl Demuxer for TsDemuxer {
    fn handle_bytes(&mut self, bytes: Bytes) -> Result<(), Error> {
        self.buffer.extend_from_slice(&bytes);
        while self.step()? {}
        Ok(())
    }

    fn handle_end(&mut self) -> Result<(), Error> {
        for index in 0..self.tracks.len() {
            if let Some(outcome) = self.tracks[index].pes.finish(&mut self.clock) {
                self.handle_outcome(index, outcome);
            }
        }
        if self.announced.is_empty() {
            self.announce();
        }
        if self.announced.is_empty() { Err(Error::NoTracks) } else { Ok(()) }
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }
}

impl TsDemuxer {
    /// A demuxer at any place of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes one packet; `false` if it needs more bytes.
    fn step(&mut self) -> Result<bool, Error> {
        if !self.synced && !self.search()? {
            return Ok(false);
        }
        if self.buffer.len() < PACKET_BYTES {
            return Ok(false);
        }
        if self.buffer[0] != 0x47 {
            self.synced = false;
            return Ok(true);
        }
        let packet = self.buffer.split_to(PACKET_BYTES).freeze();
        self.offset += PACKET_BYTES as u64;
        if let Some(packet) = packet.first_chunk().and_then(Packet::parse) {
            self.handle_packet(&packet)?;
        }
        if self.chosen.is_none() && self.offset > MAX_BYTES_BEFORE_PROGRAM {
            return Err(Error::NoTracks);
        }
        Ok(true)
    }

    /// Looks for the packet grid: three packet starts in a row. `false` if it needs more bytes.
    fn search(&mut self) -> Result<bool, Error> {
        loop {
            let Some(at) = self.buffer.iter().position(|byte| *byte == 0x47) else {
                self.pass_over(self.buffer.len())?;
                return Ok(false);
            };
            self.pass_over(at)?;
            if self.buffer.len() <= 2 * PACKET_BYTES {
                return Ok(false);
            }
            if self.buffer[PACKET_BYTES] == 0x47 && self.buffer[2 * PACKET_BYTES] == 0x47 {
                self.searched = 0;
                self.synced = true;
                return Ok(true);
            }
            self.pass_over(1)?;
        }
    }

    fn pass_over(&mut self, count: usize) -> Result<(), Error> {
        self.buffer.advance(count);
        self.offset += count as u64;
        self.searched += count as u64;
        if self.searched > MAX_UNSYNCED_BYTES {
            return Err(Error::TsSync { searched: self.searched, offset: self.offset });
        }
        Ok(())
    }

    fn handle_packet(&mut self, packet: &Packet<'_>) -> Result<(), Error> {
        if packet.pid == 0 {
            for section in self.pat.handle_payload(packet.payload, packet.unit_start) {
                self.handle_pat(&section);
            }
            return Ok(());
        }
        let program = self.programs.iter_mut().position(|program| program.pmt_pid == packet.pid);
        if let Some(program) = program {
            let sections = &mut self.programs[program].sections;
            for section in sections.handle_payload(packet.payload, packet.unit_start) {
                self.handle_pmt(program, &section)?;
            }
            return Ok(());
        }
        let Some(index) = self.tracks.iter().position(|track| track.stream.pid == packet.pid)
        else {
            return Ok(());
        };
        if packet.scrambled {
            return Err(Error::NoSupportedTrack {
                found: format!("track {} is scrambled (conditional access)", packet.pid),
            });
        }
        for outcome in
            self.tracks[index].pes.handle_packet(packet, &mut self.clock).into_iter().flatten()
        {
            self.handle_outcome(index, outcome);
        }
        Ok(())
    }

    fn handle_pat(&mut self, section: &[u8]) {
        let Some(pids) = psi::parse_pat(section) else {
            return;
        };
        // A multiplex holds a handful; more is not worth the memory.
        let pids = &pids[..pids.len().min(64)];
        self.programs.retain(|program| pids.contains(&program.pmt_pid));
        for pid in pids {
            if !self.programs.iter().any(|program| program.pmt_pid == *pid) {
                self.programs.push(Program {
                    pmt_pid: *pid,
                    sections: SectionAssembler::default(),
                    streams: None,
                });
            }
        }
        self.chosen = self.chosen.filter(|chosen| pids.contains(chosen));
    }

    fn handle_pmt(&mut self, program: usize, section: &[u8]) -> Result<(), Error> {
        let Some(streams) = psi::parse_pmt(section) else {
            return Ok(());
        };
        let program = &mut self.programs[program];
        if program.streams.as_ref() == Some(&streams) {
            return Ok(());
        }
        program.streams = Some(streams.clone());
        if self.chosen.is_some_and(|chosen| chosen != program.pmt_pid) {
            return Ok(());
        }
        let pmt_pid = program.pmt_pid;
        let mut selection = Selection::default();
        for stream in &streams {
            match &stream.coding {
                Coding::Unsupported(kind, codec) => {
                    selection.unsupported(u32::from(stream.pid), *kind, (*codec).into());
                }
                Coding::H264 | Coding::Hevc => selection.supported(Kind::Video),
                Coding::Aac | Coding::Opus(_) => selection.supported(Kind::Audio),
                Coding::Data => {}
            }
        }
        match selection.finish() {
            Ok(warnings) => self.events.extend(warnings.into_iter().map(Event::Warning)),
            // Another programme may do; only when all are known is this the answer.
            Err(error) if self.programs.iter().all(|program| program.streams.is_some()) => {
                return Err(error);
            }
            Err(_) => return Ok(()),
        }
        self.chosen = Some(pmt_pid);
        let mut old = std::mem::take(&mut self.tracks);
        for stream in streams {
            let kept = old.iter().position(|track| track.stream == stream);
            let track = kept.map(|at| old.swap_remove(at)).or_else(|| Track::new(stream));
            self.tracks.extend(track);
        }
        Ok(())
    }

    fn handle_outcome(&mut self, index: usize, outcome: Outcome) {
        let track = &mut self.tracks[index];
        match outcome {
            Outcome::Lost => {
                if let Elementary::Aac(aac) = &mut track.elementary {
                    aac.handle_loss();
                }
                let id = u32::from(track.stream.pid);
                self.events.push_back(Event::Warning(Warning::PacketLoss { id }));
            }
            Outcome::Complete(pes) => {
                let frames = track.handle_pes(&pes);
                self.handle_frames(frames);
            }
        }
    }

    /// Announces tracks when there is news of them, and passes frames on in order.
    fn handle_frames(&mut self, frames: Vec<Frame>) {
        if frames.is_empty() {
            return;
        }
        self.held.extend(frames);
        let all_known = self.tracks.iter().all(|track| track.config().is_some());
        let span = match (self.held.front(), self.held.back()) {
            (Some(first), Some(last)) => last.dts_us.saturating_sub(first.dts_us),
            _ => 0,
        };
        let waited_enough = self.held.len() > MAX_HELD_FRAMES || span.abs() > MAX_HELD_US;
        if !self.announced.is_empty() || all_known || waited_enough {
            self.announce();
        }
    }

    fn announce(&mut self) {
        let known: Vec<_> = self.tracks.iter().filter_map(Track::config).collect();
        if known != self.announced {
            self.announced.clone_from(&known);
            self.events.push_back(Event::Tracks(known));
        }
        self.events.extend(self.held.drain(..).map(Event::Frame));
    }
}
