//! AAC (ADTS) and Opus elementary streams: raw frames out of PES packets.

use bytes::{Buf, Bytes, BytesMut};

use super::CLOCK_HZ;
use super::pes::Pes;
use crate::codec::aac::{Adts, AdtsStart, AudioSpecificConfig, FRAME_SAMPLES};
use crate::codec::opus;
use crate::{Codec, Format, Frame, TrackConfig};

/// The state of one AAC stream.
#[derive(Debug)]
pub(super) struct AacStream {
    pid: u16,
    /// The start of a frame whose end is in the next PES packet.
    rest: BytesMut,
    config: Option<TrackConfig>,
    clock: Clock,
}

/// Where a stream's time stands between timestamps.
#[derive(Debug, Default)]
struct Clock {
    base_us: Option<i64>,
    /// Samples since the base.
    samples: u64,
}

impl Clock {
    fn set(&mut self, time_us: i64) {
        *self = Clock { base_us: Some(time_us), samples: 0 };
    }

    /// The time now; moves on by `samples`.
    fn step(&mut self, samples: u32, rate: u32) -> Option<i64> {
        let passed = crate::track::to_micros(i128::from(self.samples), rate);
        self.samples += u64::from(samples);
        Some(self.base_us?.saturating_add(passed))
    }
}

impl AacStream {
    pub(super) fn new(pid: u16) -> Self {
        Self { pid, rest: BytesMut::new(), config: None, clock: Clock::default() }
    }

    pub(super) fn config(&self) -> Option<&TrackConfig> {
        self.config.as_ref()
    }

    /// Packets are missing: a frame that was begun cannot be completed.
    pub(super) fn handle_loss(&mut self) {
        self.rest.clear();
    }

    /// Takes a PES packet; gives the frames that end in it.
    pub(super) fn handle_pes(&mut self, pes: &Pes) -> Vec<Frame> {
        // The packet's time is that of the first frame that starts in it.
        let mut old = self.rest.len();
        self.rest.extend_from_slice(&pes.payload);
        let mut stamp = pes.pts_us;
        let mut frames = Vec::new();
        loop {
            let adts = match Adts::parse(&self.rest) {
                AdtsStart::NeedMore => break,
                AdtsStart::Broken => {
                    let skip = self.rest[1..].iter().position(|byte| *byte == 0xff);
                    let skip = skip.map_or(self.rest.len(), |at| at + 1);
                    self.rest.advance(skip);
                    old = old.saturating_sub(skip);
                    continue;
                }
                AdtsStart::Header(adts) if self.rest.len() < adts.total_bytes => break,
                AdtsStart::Header(adts) => adts,
            };
            if old == 0
                && let Some(time) = stamp.take()
            {
                self.clock.set(time);
            }
            old = old.saturating_sub(adts.total_bytes);
            let mut payload = self.rest.split_to(adts.total_bytes).freeze();
            payload.advance(adts.header_bytes);
            self.learn(&adts);
            if let Some(time) = self.clock.step(FRAME_SAMPLES, adts.sample_rate()) {
                frames.push(audio_frame(self.pid, time, payload));
            }
        }
        if old == 0
            && let Some(time) = stamp
        {
            // Only the start of a frame is in this packet; the time is still that frame's.
            self.clock.set(time);
        }
        frames
    }

    fn learn(&mut self, adts: &Adts) {
        let description = adts.specific_config();
        let known = self.config.as_ref().and_then(|config| config.description.as_ref());
        if known == Some(&description) {
            return;
        }
        let Some(asc) = AudioSpecificConfig::parse(&description) else {
            return;
        };
        self.config = Some(TrackConfig {
            id: u32::from(self.pid),
            codec: Codec::Aac,
            codec_string: asc.codec_string(),
            description: Some(description),
            format: Format::Audio {
                sample_rate: asc.sample_rate,
                channels: asc.channels.unwrap_or(2),
            },
            timescale: CLOCK_HZ,
            language: None,
        });
    }
}

/// The state of one Opus stream.
#[derive(Debug)]
pub(super) struct OpusStream {
    pid: u16,
    config: TrackConfig,
    clock: Clock,
}

impl OpusStream {
    pub(super) fn new(pid: u16, channels: u8) -> Self {
        let config = TrackConfig {
            id: u32::from(pid),
            codec: Codec::Opus,
            codec_string: "opus".into(),
            description: None,
            format: Format::Audio { sample_rate: 48_000, channels: u32::from(channels) },
            timescale: CLOCK_HZ,
            language: None,
        };
        Self { pid, config, clock: Clock::default() }
    }

    pub(super) fn config(&self) -> &TrackConfig {
        &self.config
    }

    /// Takes a PES packet; gives its packets.
    pub(super) fn handle_pes(&mut self, pes: &Pes) -> Vec<Frame> {
        if let Some(time) = pes.pts_us {
            self.clock.set(time);
        }
        let mut frames = Vec::new();
        let mut rest = &pes.payload[..];
        while let Some((packet, tail)) = opus::split_ts_packet(rest) {
            rest = tail;
            let Some(duration_us) = opus::packet_duration_us(packet) else {
                continue;
            };
            if let Some(time) = self.clock.step(duration_us, 1_000_000) {
                frames.push(audio_frame(self.pid, time, pes.payload.slice_ref(packet)));
            }
        }
        frames
    }
}

fn audio_frame(pid: u16, time_us: i64, payload: Bytes) -> Frame {
    Frame {
        track: u32::from(pid),
        pts_us: time_us,
        dts_us: time_us,
        keyframe: true,
        discardable: false,
        temporal_id: 0,
        payload,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ADTS frame at 48 kHz, stereo, with `size` bytes of payload.
    fn adts(size: usize) -> Vec<u8> {
        let total = size + 7;
        let header = [
            0xff,
            0xf1,
            0x4c,
            0x80 | (total >> 11) as u8,
            (total >> 3) as u8,
            (total << 5) as u8 | 0x1f,
            0xfc,
        ];
        [&header[..], &vec![0x11; size]].concat()
    }

    fn pes(pts_us: i64, payload: &[u8]) -> Pes {
        Pes { pts_us: Some(pts_us), dts_us: Some(pts_us), payload: Bytes::copy_from_slice(payload) }
    }

    #[test]
    fn frames_across_packets_keep_their_own_times() {
        let mut stream = AacStream::new(257);
        let data = [adts(10), adts(20), adts(30)].concat();
        // The second frame starts in the first packet and ends in the second.
        let first = stream.handle_pes(&pes(0, &data[..30]));
        let second = stream.handle_pes(&pes(42_667, &data[30..]));
        let times: Vec<_> =
            first.iter().chain(&second).map(|frame| (frame.pts_us, frame.payload.len())).collect();
        assert_eq!(times, [(0, 10), (21_333, 20), (42_667, 30)]);
        assert_eq!(stream.config().map(|config| config.codec_string.as_str()), Some("mp4a.40.2"));
        assert!(stream.config().is_some_and(|config| config.description.is_some()));
    }

    #[test]
    fn rubbish_between_frames_is_skipped() {
        let mut stream = AacStream::new(257);
        let data = [&[1, 2, 0xff, 3][..], &adts(10)].concat();
        assert_eq!(stream.handle_pes(&pes(0, &data)).len(), 1);
    }
}
