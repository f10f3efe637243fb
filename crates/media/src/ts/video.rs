//! H.264 and HEVC elementary streams: access units out of PES packets.

use bytes::Bytes;

use super::CLOCK_HZ;
use super::pes::Pes;
use crate::codec::{Picture, h264, hevc, nal};
use crate::{Codec, Format, Frame, TrackConfig};

/// A frame's duration where nothing tells a better one.
const DEFAULT_FRAME_US: i64 = 40_000;

/// The state of one video stream.
#[derive(Debug)]
pub(super) struct VideoStream {
    pid: u16,
    codec: Codec,
    config: Option<TrackConfig>,
    /// Decoding has a place to start from.
    started: bool,
    /// A strict key frame was seen, so recovery points need not stand in for them.
    seen_keyframe: bool,
    last_dts_us: Option<i64>,
    frame_us: i64,
}

impl VideoStream {
    pub(super) fn new(pid: u16, codec: Codec) -> Self {
        Self {
            pid,
            codec,
            config: None,
            started: false,
            seen_keyframe: false,
            last_dts_us: None,
            frame_us: DEFAULT_FRAME_US,
        }
    }

    pub(super) fn config(&self) -> Option<&TrackConfig> {
        self.config.as_ref()
    }

    /// Takes a PES packet; gives its frames from the first key frame on.
    pub(super) fn handle_pes(&mut self, pes: &Pes) -> Vec<Frame> {
        let mut frames = Vec::new();
        for (index, unit) in self.access_units(&pes.payload).into_iter().enumerate() {
            let picture = self.inspect(&unit);
            let keyframe = picture.keyframe || (picture.recovery_point && !self.seen_keyframe);
            self.seen_keyframe |= picture.keyframe;
            let Some(dts_us) = self.time(pes.dts_us, index) else {
                continue;
            };
            self.started |= keyframe && self.config.is_some();
            if !self.started {
                continue;
            }
            let shift = pes.pts_us.zip(pes.dts_us).map_or(0, |(pts, dts)| pts - dts);
            frames.push(Frame {
                track: u32::from(self.pid),
                pts_us: dts_us.saturating_add(shift),
                dts_us,
                keyframe,
                discardable: picture.discardable,
                temporal_id: picture.temporal_id,
                payload: unit,
            });
        }
        frames
    }

    /// The decode time of the `index`th access unit of a PES packet whose first is due at `first`.
    fn time(&mut self, first: Option<i64>, index: usize) -> Option<i64> {
        let time = match first.filter(|_| index == 0) {
            Some(time) => {
                let step = self.last_dts_us.map_or(0, |last| time.saturating_sub(last));
                if (1_000..=200_000).contains(&step) {
                    self.frame_us = step;
                }
                time
            }
            None => self.last_dts_us?.saturating_add(self.frame_us),
        };
        self.last_dts_us = Some(time);
        Some(time)
    }

    /// Reads an access unit's NAL units and learns from its parameter sets.
    fn inspect(&mut self, unit: &[u8]) -> Picture {
        let is_sps = |nal: &&[u8]| match self.codec {
            Codec::Hevc => hevc::nal_type(nal) == hevc::NAL_SPS,
            _ => h264::nal_type(nal) == h264::NAL_SPS,
        };
        if let Some(sps) = nal::annex_b(unit).find(is_sps) {
            self.learn(sps);
        }
        match self.codec {
            Codec::Hevc => hevc::picture(nal::annex_b(unit)),
            _ => h264::picture(nal::annex_b(unit)),
        }
    }

    fn learn(&mut self, sps: &[u8]) {
        let parsed = match self.codec {
            Codec::Hevc => hevc::Sps::parse(sps).map(|sps| {
                let (width, height) = (sps.width, sps.height);
                (sps.ptl.codec_string(true), Format::Video { width, height, framerate: None })
            }),
            _ => h264::Sps::parse(sps).map(|sps| {
                let Sps { width, height, framerate, .. } = sps;
                (sps.codec_string(true), Format::Video { width, height, framerate })
            }),
        };
        if let Some((codec_string, format)) = parsed {
            self.config = Some(TrackConfig {
                id: u32::from(self.pid),
                codec: self.codec,
                codec_string,
                description: None,
                format,
                timescale: CLOCK_HZ,
                language: None,
            });
        }
    }

    /// Cuts a PES payload into access units. Nearly always it is one; where a muxer packs more,
    /// each starts with its delimiter, or else with the first slice of a new picture.
    fn access_units(&self, payload: &Bytes) -> Vec<Bytes> {
        let mut cuts = Vec::new();
        let mut seen_slice = false;
        // Where the non-slice NAL units after the last slice began: they belong to what follows.
        let mut head = None;
        let mut next = nal::find_start_code(payload, 0);
        let first = next;
        while let Some(at) = next {
            let begin = at + 3;
            next = nal::find_start_code(payload, begin);
            // Start codes of four bytes count with their leading zero.
            let start = if at > 0 && payload[at - 1] == 0 { at - 1 } else { at };
            match self.role(&payload[begin..next.unwrap_or(payload.len())]) {
                Role::Delimiter | Role::Head => {
                    if seen_slice && head.is_none() {
                        head = Some(start);
                    }
                }
                Role::FirstSlice => {
                    if seen_slice {
                        cuts.push(head.unwrap_or(start));
                    }
                    seen_slice = true;
                    head = None;
                }
                Role::Slice => {
                    seen_slice = true;
                    head = None;
                }
                Role::Other => {}
            }
        }
        // Zeros before the first start code belong to the stream; anything else is a damaged tail.
        let mut from =
            first.filter(|at| payload[..*at].iter().any(|byte| *byte != 0)).unwrap_or_default();
        let mut units = Vec::with_capacity(cuts.len() + 1);
        for cut in cuts {
            units.push(payload.slice(from..cut));
            from = cut;
        }
        if first.is_some() {
            units.push(payload.slice(from..));
        }
        units
    }

    fn role(&self, nal: &[u8]) -> Role {
        if self.codec == Codec::Hevc {
            return match hevc::nal_type(nal) {
                0..=31 if nal.get(2).is_some_and(|byte| byte & 0x80 != 0) => Role::FirstSlice,
                0..=31 => Role::Slice,
                hevc::NAL_AUD => Role::Delimiter,
                32..=34 | 39 | 41..=44 | 48..=55 => Role::Head,
                _ => Role::Other,
            };
        }
        match h264::nal_type(nal) {
            // first_mb_in_slice is zero.
            1 | 2 | 5 if nal.get(1).is_some_and(|byte| byte & 0x80 != 0) => Role::FirstSlice,
            1..=5 => Role::Slice,
            h264::NAL_AUD => Role::Delimiter,
            h264::NAL_SEI | h264::NAL_SPS | h264::NAL_PPS | 14..=18 => Role::Head,
            _ => Role::Other,
        }
    }
}

use h264::Sps;

/// What a NAL unit means for the borders of access units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Delimiter,
    /// Comes before the first slice of a picture.
    Head,
    FirstSlice,
    Slice,
    Other,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_access_units_in_one_packet_are_cut_apart() {
        let stream = VideoStream::new(256, Codec::H264);
        let one = [0, 0, 0, 1, 9, 0xf0, 0, 0, 1, 0x65, 0x88, 1, 0, 0, 1, 0x65, 0x48, 2];
        let two = [0, 0, 0, 1, 9, 0xf0, 0, 0, 1, 0x41, 0x9a, 3];
        let without_delimiter = [0, 0, 1, 0x41, 0x9a, 4];
        let payload = [&one[..], &two, &without_delimiter].concat();
        let units = stream.access_units(&Bytes::from(payload));
        assert_eq!(units, [&one[..], &two, &without_delimiter]);
    }

    #[test]
    fn bytes_without_a_nal_unit_are_no_frame() {
        let stream = VideoStream::new(256, Codec::Hevc);
        assert!(stream.access_units(&Bytes::from_static(&[1, 2, 3])).is_empty());
    }
}
