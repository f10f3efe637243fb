//! Encodes the test picture: H.264 with neither lookahead nor B-frames, parameter sets in band
//! before each key frame, in two temporal layers.

use std::time::Duration;

use bytes::Bytes;
use media::codec::{h264, nal};
use media::{Codec, Format, Frame, TrackConfig};
use openh264::encoder::{
    BitRate, Complexity, EncoderConfig, FrameRate, FrameType, IntraFramePeriod, Profile,
    RateControlMode, UsageType, VuiConfig,
};
use openh264::{OpenH264API, Timestamp};

use super::layers::set_temporal_layers;
use super::picture::Picture;
use super::{Captured, Outlet, TestSpec, Ticks, VIDEO, deliver, unix_us};

/// OpenH264's rate control would rather leave frames out than exceed the bitrate for a moment, and
/// a frame number left out looks like a frame lost on the way. Asked again, it gives way.
const MAX_TRIES: usize = 16;

/// Every second frame is one that no other needs, so a thin line can have half the frame rate.
const TEMPORAL_LAYERS: u8 = 2;

/// The encoder and the picture it is fed with.
pub(super) struct Encoder {
    spec: TestSpec,
    picture: Picture,
    encoder: openh264::encoder::Encoder,
    last_capture_us: u64,
    /// Frames until the next key frame is due.
    until_key: u32,
}

/// What a trial frame tells of the stream.
pub(super) struct FirstFrame {
    pub(super) config: TrackConfig,
}

impl Encoder {
    /// Makes the encoder, and one trial frame for its parameter sets.
    pub(super) fn start(spec: &TestSpec) -> Result<(FirstFrame, Self), String> {
        let config = EncoderConfig::new()
            .bitrate(BitRate::from_bps(spec.bitrate))
            .max_frame_rate(FrameRate::from_hz(spec.fps as f32))
            .rate_control_mode(RateControlMode::Timestamp)
            .usage_type(UsageType::CameraVideoRealTime)
            .profile(Profile::Baseline)
            .complexity(Complexity::Low)
            // Asked for one by one: in two layers the encoder counts in pairs.
            .intra_frame_period(IntraFramePeriod::auto())
            .scene_change_detect(false)
            .background_detection(false)
            .num_threads(1)
            .vui(VuiConfig::bt709());
        let encoder =
            openh264::encoder::Encoder::with_api_config(OpenH264API::from_source(), config)
                .map_err(|error| format!("OpenH264 refuses the settings: {error}"))?;
        let mut encoder = Self {
            spec: *spec,
            picture: Picture::new(spec.width, spec.height),
            encoder,
            last_capture_us: 0,
            until_key: 0,
        };
        // The encoder takes settings only once it has begun.
        encoder.encode(0)?;
        set_temporal_layers(&mut encoder.encoder, TEMPORAL_LAYERS)?;
        let trial = encoder.encode(0)?.ok_or("OpenH264 gave no first frame")?;
        let sps = nal::annex_b(&trial.frame.payload).find_map(h264::Sps::parse);
        let sps = sps.ok_or("OpenH264's first frame has no parameter set")?;
        let config = TrackConfig {
            id: VIDEO,
            codec: Codec::H264,
            codec_string: sps.codec_string(true),
            description: None,
            format: Format::Video {
                width: sps.width,
                height: sps.height,
                framerate: Some(f64::from(spec.fps)),
            },
            timescale: 1_000_000,
            language: None,
        };
        encoder.until_key = 0;
        Ok((FirstFrame { config }, encoder))
    }

    /// Draws, encodes and delivers in real time until nobody takes the frames.
    pub(super) fn run(mut self, outlet: &Outlet) -> Result<(), String> {
        let mut ticks = Ticks::new(Duration::from_secs(1) / self.spec.fps);
        loop {
            let number = ticks.wait();
            if let Some(frame) = self.encode(number)?
                && !deliver(outlet, frame)
            {
                return Ok(());
            }
        }
    }

    fn encode(&mut self, number: u64) -> Result<Option<Captured>, String> {
        self.picture.draw_scene(unix_us(), number);
        // The last thing before encoding, so that the pixels tell the whole way's latency.
        let capture_unix_us = unix_us().max(self.last_capture_us + 1);
        self.last_capture_us = capture_unix_us;
        self.picture.stamp(capture_unix_us, number);
        if self.until_key == 0 {
            self.encoder.force_intra_frame();
        }
        let mut payload = Bytes::new();
        let mut keyframe = false;
        for _ in 0..MAX_TRIES {
            let coded = self
                .encoder
                .encode_at(&self.picture, Timestamp::from_millis(capture_unix_us / 1000))
                .map_err(|error| format!("OpenH264 failed at frame {number}: {error}"))?;
            keyframe = coded.frame_type() == FrameType::IDR;
            payload = coded.to_vec().into();
            if !payload.is_empty() {
                break;
            }
        }
        if payload.is_empty() {
            return Ok(None);
        }
        if keyframe {
            self.until_key = self.spec.gop_frames();
        }
        self.until_key = self.until_key.saturating_sub(1);
        let pts_us = i64::try_from(capture_unix_us).unwrap_or(i64::MAX);
        let picture = h264::picture(nal::annex_b(&payload));
        let frame = Frame {
            track: VIDEO,
            pts_us,
            dts_us: pts_us,
            keyframe,
            discardable: picture.discardable,
            temporal_id: picture.temporal_id,
            payload,
        };
        Ok(Some(Captured { frame, capture_unix_us }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::picture::tests::read_mark;
    use super::*;
    use openh264::decoder::{DecodedYUV, Decoder};
    use openh264::formats::YUVSource;

    /// Of a picture 640 pixels wide.
    fn luma(decoded: &DecodedYUV<'_>) -> Vec<u8> {
        let rows = decoded.y().chunks(decoded.strides().0);
        rows.flat_map(|row| &row[..640]).copied().collect()
    }

    #[test]
    fn every_second_frame_is_one_that_no_other_needs() {
        // An odd group too, which the encoder's own count of frames would make even.
        for (gop, frames) in [("1", 30), ("0.5", 15)] {
            let options = format!("?size=640x360&bitrate=600k&gop={gop}");
            let (_, mut encoder) = Encoder::start(&TestSpec::parse(&options).unwrap()).unwrap();
            let mut all = Decoder::new().unwrap();
            let mut base = Decoder::new().unwrap();
            for number in 0..70u64 {
                let Frame { keyframe, discardable, payload, .. } =
                    encoder.encode(number).unwrap().expect("no frame is left out").frame;
                let in_group = number % frames;
                assert_eq!(keyframe, in_group == 0, "frame {number} of groups of {frames}");
                assert_eq!(discardable, in_group % 2 == 1, "frame {number} of groups of {frames}");
                let whole = luma(&all.decode(&payload).unwrap().expect("a picture"));
                if !discardable {
                    let alone = luma(&base.decode(&payload).unwrap().expect("a picture"));
                    assert!(whole == alone, "frame {number} differs without those between");
                }
            }
        }
    }

    #[test]
    fn what_is_encoded_decodes_to_the_same_numbers() {
        let spec = TestSpec::parse("?size=640x360&fps=10&bitrate=600k&gop=1").unwrap();
        let (first, mut encoder) = Encoder::start(&spec).unwrap();
        assert!(first.config.codec_string.starts_with("avc3.42"), "{}", first.config.codec_string);
        assert_eq!(
            first.config.format,
            Format::Video { width: 640, height: 360, framerate: Some(10.0) }
        );
        let mut decoder = Decoder::new().unwrap();
        let mut last = 0;
        for number in 0..25u64 {
            let captured = encoder.encode(number).unwrap().expect("no frame is left out");
            assert_eq!(captured.frame.keyframe, number % 10 == 0, "frame {number}");
            assert!(captured.capture_unix_us > last);
            last = captured.capture_unix_us;
            let decoded = decoder.decode(&captured.frame.payload).unwrap().expect("a picture");
            let [time, line] = read_mark(&luma(&decoded), 640);
            assert_eq!((time, line >> 16), (captured.capture_unix_us, number));
        }
    }
}
