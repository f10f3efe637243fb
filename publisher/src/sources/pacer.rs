//! Real time for files: when each frame is due, on a timeline that goes on smoothly over loops.

use std::collections::{BTreeMap, HashMap};

use media::Frame;

/// How much media is read ahead, to put what the file interleaves badly into order and to learn how
/// far presentation runs ahead of decoding.
const LOOKAHEAD_US: i64 = 1_500_000;
/// How long a pass takes at least.
const LEAST_PASS_US: i64 = 40_000;
/// Frames read ahead at most.
const LOOKAHEAD_FRAMES: usize = 600;

/// Puts frames in decode order on one endless timeline that starts at zero.
#[derive(Debug, Default)]
pub(super) struct Pacer {
    /// Frames read ahead, by shifted decode time and order of arrival.
    ahead: BTreeMap<(i64, u64), Frame>,
    arrivals: u64,
    /// Added to the current pass's times.
    shift_us: Option<i64>,
    /// Where the pass starts on the endless timeline.
    pass_start_us: i64,
    /// Each track's last decode time in this pass, shifted, and its last step.
    tails: HashMap<u32, Tail>,
    /// The furthest that presentation was seen ahead of decoding.
    reorder_us: i64,
    ended: bool,
}

#[derive(Debug, Clone, Copy)]
struct Tail {
    dts_us: i64,
    step_us: i64,
}

/// A frame and its times since the start of playing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Paced {
    pub(super) frame: Frame,
    /// When it is to be sent.
    pub(super) due_us: i64,
    /// When it was captured, as a live encoder's frames are: never after it is sent.
    pub(super) capture_us: i64,
}

impl Pacer {
    /// Takes the next frame of the file.
    pub(super) fn handle_frame(&mut self, frame: Frame) {
        let shift = *self.shift_us.get_or_insert(self.pass_start_us.saturating_sub(frame.dts_us));
        let dts_us = frame.dts_us.saturating_add(shift);
        let tail = self.tails.entry(frame.track).or_insert(Tail { dts_us, step_us: 0 });
        let step_us = dts_us.saturating_sub(tail.dts_us);
        if step_us > 0 {
            *tail = Tail { dts_us, step_us };
        }
        self.reorder_us = self.reorder_us.max(frame.pts_us.saturating_sub(frame.dts_us));
        let pts_us = frame.pts_us.saturating_add(shift);
        self.ahead.insert((dts_us, self.arrivals), Frame { dts_us, pts_us, ..frame });
        self.arrivals += 1;
    }

    /// Takes the end of a pass; the next frame starts over right behind it.
    pub(super) fn handle_pass_end(&mut self) {
        let ends = self.tails.drain().map(|(_, tail)| tail.dts_us.saturating_add(tail.step_us));
        // A pass of a single frame has no duration of its own, but time must go on.
        let least = self.pass_start_us.saturating_add(LEAST_PASS_US);
        self.pass_start_us = ends.max().unwrap_or(least).max(least);
        self.shift_us = None;
    }

    /// Takes the end of the input: what was read ahead is all there is.
    pub(super) fn handle_end(&mut self) {
        self.ended = true;
    }

    /// The next frame, once enough was read ahead to be sure that it is the next.
    pub(super) fn poll_frame(&mut self) -> Option<Paced> {
        let (first, last) = (self.ahead.first_key_value()?.0.0, self.ahead.last_key_value()?.0.0);
        let enough = self.ended
            || last.saturating_sub(first) >= LOOKAHEAD_US
            || self.ahead.len() >= LOOKAHEAD_FRAMES;
        if !enough {
            return None;
        }
        let ((due_us, _), frame) = self.ahead.pop_first()?;
        let capture_us = frame.pts_us.saturating_sub(self.reorder_us);
        Some(Paced { frame, due_us, capture_us })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn frame(track: u32, dts_ms: i64, pts_ms: i64) -> Frame {
        Frame {
            track,
            pts_us: pts_ms * 1000,
            dts_us: dts_ms * 1000,
            keyframe: true,
            discardable: false,
            temporal_id: 0,
            payload: Bytes::new(),
        }
    }

    fn drain(pacer: &mut Pacer) -> Vec<(u32, i64, i64)> {
        std::iter::from_fn(|| pacer.poll_frame())
            .map(|paced| (paced.frame.track, paced.due_us / 1000, paced.capture_us / 1000))
            .collect()
    }

    #[test]
    fn badly_interleaved_tracks_come_out_in_order() {
        let mut pacer = Pacer::default();
        for at in [0, 40, 80] {
            pacer.handle_frame(frame(1, at, at));
        }
        for at in [0, 20, 40, 60] {
            pacer.handle_frame(frame(2, at, at));
        }
        assert_eq!(drain(&mut pacer), [], "nothing before enough was read ahead");
        pacer.handle_end();
        let order: Vec<_> =
            drain(&mut pacer).iter().map(|(track, due, _)| (*track, *due)).collect();
        assert_eq!(order, [(1, 0), (2, 0), (2, 20), (1, 40), (2, 40), (2, 60), (1, 80)]);
    }

    #[test]
    fn loops_go_on_without_a_gap_or_a_step_back() {
        let mut pacer = Pacer::default();
        for _ in 0..3 {
            // A file whose times start anywhere; audio is a little longer than video.
            for at in 0..5 {
                pacer.handle_frame(frame(1, 7000 + at * 40, 7000 + at * 40));
            }
            for at in 0..11 {
                pacer.handle_frame(frame(2, 7000 + at * 20, 7000 + at * 20));
            }
            pacer.handle_pass_end();
        }
        pacer.handle_end();
        let out = drain(&mut pacer);
        let times = |wanted: u32| -> Vec<i64> {
            out.iter().filter(|(track, ..)| *track == wanted).map(|(_, due, _)| *due).collect()
        };
        assert_eq!(times(2), (0..33).map(|at| at * 20).collect::<Vec<_>>());
        assert_eq!(times(1)[4..6], [160, 220]);
        assert!(out.is_sorted_by_key(|(_, due, _)| *due));
    }

    #[test]
    fn no_frame_is_captured_after_it_is_sent() {
        let mut pacer = Pacer::default();
        for (dts, pts) in [(0, 80), (40, 200), (80, 120), (120, 160), (160, 320)] {
            pacer.handle_frame(frame(1, dts, pts));
        }
        pacer.handle_end();
        let out = drain(&mut pacer);
        assert!(out.iter().all(|(_, due, capture)| capture <= due), "{out:?}");
        assert!(out.iter().any(|(_, due, capture)| capture == due), "{out:?}");
    }
}
