//! Capture times for live input that brings only its own timestamps.
//!
//! A frame cannot arrive before it was captured. So the offset from media time to wall clock is the
//! smallest difference seen between arrival and timestamp: frames that arrive with no delay of
//! their own set it, all others are placed by it.

/// Deviations up to this are jitter or drift; beyond it the source's clock has jumped.
const JUMP_US: i64 = 10_000_000;
/// How long the smallest deviation is watched before the offset follows it upwards.
const WINDOW_US: i64 = 5_000_000;
/// How far the offset follows in one window: one part in a thousand.
const SLEW_US: i64 = 5_000;
/// A deviation that lasts and is larger than this is a new situation, not drift.
const RESET_US: i64 = 1_000_000;

/// Maps media time to wall-clock time.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    anchor: Option<Anchor>,
}

#[derive(Debug)]
struct Anchor {
    /// Wall clock less media time.
    offset_us: i64,
    window_start_us: i64,
    /// The smallest deviation seen in the window.
    least_us: i64,
}

/// Where a frame lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placed {
    /// Microseconds since the Unix epoch.
    pub(super) capture_unix_us: u64,
    /// By how much the timeline was moved to place this frame, where that is more than drift.
    pub(super) jumped_us: Option<i64>,
}

impl Timeline {
    /// Places a frame that arrived at `now_us` with timestamp `pts_us`.
    pub(super) fn place(&mut self, pts_us: i64, now_us: i64) -> Placed {
        let difference = now_us.saturating_sub(pts_us);
        let anchor = self.anchor.get_or_insert(Anchor {
            offset_us: difference,
            window_start_us: now_us,
            least_us: i64::MAX,
        });
        let deviation = difference.saturating_sub(anchor.offset_us);
        let mut jumped_us = None;
        if deviation.saturating_abs() > JUMP_US {
            anchor.move_to(difference, now_us);
            jumped_us = Some(deviation);
        } else if deviation < 0 {
            anchor.move_to(difference, now_us);
        } else {
            anchor.least_us = anchor.least_us.min(deviation);
            if now_us.saturating_sub(anchor.window_start_us).saturating_abs() > WINDOW_US {
                let least = anchor.least_us;
                let step = if least > RESET_US { least } else { least.min(SLEW_US) };
                jumped_us = (least > RESET_US).then_some(least);
                anchor.move_to(anchor.offset_us.saturating_add(step), now_us);
            }
        }
        let capture = pts_us.saturating_add(anchor.offset_us);
        Placed { capture_unix_us: u64::try_from(capture).unwrap_or(0), jumped_us }
    }
}

impl Anchor {
    fn move_to(&mut self, offset_us: i64, now_us: i64) {
        *self = Self { offset_us, window_start_us: now_us, least_us: i64::MAX };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: i64 = 1_767_225_600_000_000;

    #[test]
    fn the_earliest_arrival_sets_the_offset() {
        let mut timeline = Timeline::default();
        let placed = timeline.place(1_000_000, WALL);
        assert_eq!(placed, Placed { capture_unix_us: WALL as u64, jumped_us: None });
        // 40 ms of media later, 70 ms have passed: 30 ms of them are delay.
        assert_eq!(timeline.place(1_040_000, WALL + 70_000).capture_unix_us as i64, WALL + 40_000);
        // A frame may not come from the future: the offset moves.
        assert_eq!(
            timeline.place(1_200_000, WALL + 100_000).capture_unix_us as i64,
            WALL + 100_000
        );
        assert_eq!(
            timeline.place(1_240_000, WALL + 150_000).capture_unix_us as i64,
            WALL + 140_000
        );
    }

    #[test]
    fn a_slow_source_clock_is_followed_without_a_jump() {
        let mut timeline = Timeline::default();
        let mut last = 0;
        // The source's clock runs 0.05 % slow for twenty minutes.
        for step in 0..30_000i64 {
            let now = WALL + step * 40_020;
            let placed = timeline.place(step * 40_000, now);
            assert_eq!(placed.jumped_us, None);
            let late = now - placed.capture_unix_us as i64;
            assert!((0..15_000).contains(&late), "step {step}: {late} µs late");
            assert!(placed.capture_unix_us > last);
            last = placed.capture_unix_us;
        }
    }

    #[test]
    fn a_jump_of_the_source_in_either_direction_is_reported_and_followed() {
        for jump in [-3_600_000_000i64, 3_600_000_000] {
            let mut timeline = Timeline::default();
            timeline.place(9_000_000_000, WALL);
            let placed = timeline.place(9_000_000_000 + jump, WALL + 40_000);
            assert_eq!(placed.capture_unix_us as i64, WALL + 40_000);
            assert!(placed.jumped_us.is_some());
        }
    }

    #[test]
    fn a_pause_of_the_source_is_caught_up_with() {
        let mut timeline = Timeline::default();
        timeline.place(0, WALL);
        // Three seconds without media time passing.
        let mut jumps = 0;
        for step in 1..300i64 {
            let placed = timeline.place(step * 40_000, WALL + 3_000_000 + step * 40_000);
            jumps += u32::from(placed.jumped_us.is_some());
        }
        assert_eq!(jumps, 1);
        let at = 300 * 40_000;
        let placed = timeline.place(at, WALL + 3_000_000 + at);
        assert_eq!(placed.capture_unix_us as i64, WALL + 3_000_000 + at);
    }

    #[test]
    fn absurd_timestamps_do_no_harm() {
        let mut timeline = Timeline::default();
        for pts in [i64::MIN, i64::MAX, 0, -1] {
            timeline.place(pts, WALL);
        }
        assert_eq!(Timeline::default().place(i64::MIN, 0).capture_unix_us, 0);
    }
}
