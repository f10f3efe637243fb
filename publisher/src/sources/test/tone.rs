//! The test tone: a quiet steady note, and a beep on each full second with the flash, in Opus.

use std::f32::consts::TAU;
use std::time::Duration;

use bytes::Bytes;
use media::Frame;
use ropus::{Application, Bitrate, Channels};

use super::picture::FLASH_US;
use super::{AUDIO, Captured, Outlet, Ticks, deliver, unix_us};

/// Samples per second.
pub(super) const SAMPLE_RATE: u32 = 48_000;
/// Channels.
pub(super) const CHANNELS: usize = 2;
/// Bits per second.
pub(super) const BITRATE: u32 = 64_000;

/// Samples per channel in one frame of 20 ms.
const FRAME_SAMPLES: usize = 960;
const FRAME_US: u64 = 20_000;
/// How far the sample clock may be off the wall clock before it is set again.
const MAX_DRIFT_US: u64 = 40_000;

/// Makes, encodes and delivers in real time until nobody takes the frames.
pub(super) fn run(outlet: &Outlet) -> Result<(), String> {
    let mut encoder =
        ropus::Encoder::builder(SAMPLE_RATE, Channels::Stereo, Application::RestrictedLowDelay)
            .bitrate(Bitrate::Bits(BITRATE))
            .build()
            .map_err(|error| format!("the Opus encoder refuses the settings: {error}"))?;
    let mut ticks = Ticks::new(Duration::from_micros(FRAME_US));
    // Sample clock of the frame that is due when the next tick comes: the 20 ms before it.
    let mut start_us = unix_us().saturating_sub(FRAME_US);
    let mut packet = [0; 1500];
    loop {
        ticks.wait();
        let due = unix_us().saturating_sub(FRAME_US);
        if due.abs_diff(start_us) > MAX_DRIFT_US {
            start_us = due;
        }
        let samples = samples(start_us);
        let size = encoder
            .encode(&samples, &mut packet)
            .map_err(|error| format!("the Opus encoder failed: {error}"))?;
        let pts_us = i64::try_from(start_us).unwrap_or(i64::MAX);
        let frame = Frame {
            track: AUDIO,
            pts_us,
            dts_us: pts_us,
            keyframe: true,
            discardable: false,
            temporal_id: 0,
            payload: Bytes::copy_from_slice(&packet[..size]),
        };
        if !deliver(outlet, Captured { frame, capture_unix_us: start_us }) {
            return Ok(());
        }
        start_us += FRAME_US;
    }
}

/// The samples of the frame that starts at a time. They depend on the time only, so frames join
/// without a click.
fn samples(start_us: u64) -> [i16; FRAME_SAMPLES * CHANNELS] {
    let mut samples = [0; FRAME_SAMPLES * CHANNELS];
    let in_second = start_us % 1_000_000;
    for (index, pair) in samples.chunks_exact_mut(CHANNELS).enumerate() {
        let at_us = in_second as f32 + index as f32 * 1e6 / SAMPLE_RATE as f32;
        let at_us = at_us % 1e6;
        // Whole numbers of periods in a second, so the phase needs no memory.
        let phase = |hertz: f32| (at_us * 1e-6 * hertz).fract() * TAU;
        let note = phase(220.0).sin() * 0.04;
        let beep = phase(1000.0).sin() * 0.35 * envelope(at_us);
        pair.fill(((note + beep) * f32::from(i16::MAX)) as i16);
    }
    samples
}

/// The beep's loudness: on while the flash is, with soft edges.
fn envelope(at_us: f32) -> f32 {
    const EDGE_US: f32 = 4_000.0;
    (at_us / EDGE_US).min((FLASH_US as f32 - at_us) / EDGE_US).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loudest(start_us: u64) -> i16 {
        samples(start_us).iter().map(|sample| sample.saturating_abs()).max().unwrap_or(0)
    }

    #[test]
    fn the_beep_sounds_with_the_flash_only() {
        let second = 1_767_225_600_000_000;
        assert!(loudest(second + 20_000) > 10_000);
        assert!(loudest(second + FLASH_US + 20_000) < 2_000);
        assert!(loudest(second + 500_000) > 500);
    }

    #[test]
    fn frames_join_without_a_click() {
        for start in (0..2_000_000).step_by(FRAME_US as usize) {
            let (before, after) = (samples(start), samples(start + FRAME_US));
            let step = i32::from(after[0]) - i32::from(before[before.len() - 1]);
            // The steepest slope of both notes together in one sample.
            assert!(step.abs() < 1_800, "at {start}: {step}");
        }
    }
}
