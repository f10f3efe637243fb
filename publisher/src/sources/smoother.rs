//! Even sending for live input that comes in bursts.
//!
//! A fragmented MP4 with a fragment a second, or a server that sends twice a second what gathered,
//! brings a second of frames in a moment and then nothing. Sent on like that, each viewer would have
//! to wait out the burst by itself. So each track is held for as long as its bursts last, and goes
//! out at the pace of its own timestamps; a track that comes evenly is not held at all.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::SourceEvent;

/// Shorter bursts are left to the players, who have to cope with as much from the network.
const LEAST_HOLD_US: i64 = 100_000;
/// No track is held for longer; a step of the timestamps beyond this is another timeline.
const MOST_HOLD_US: i64 = 10_000_000;
/// How long bursts and the earliest arrival are remembered.
const HORIZON_US: i64 = 20_000_000;
/// So much later than the frame before: a burst begins.
const RISE_US: i64 = 50_000;
/// Of the time that passes, what is caught up with once bursts are shorter: one part in twenty.
const CATCH_UP: i64 = 20;
/// Bursts that the user should know of, since they cost as much latency.
const NOTICE_US: i64 = 300_000;
/// What is held at most; beyond it the oldest goes out early.
const MOST_HELD_BYTES: usize = 64 << 20;

/// Holds events until they are due. All times in microseconds of one monotonic clock.
#[derive(Debug, Default)]
pub(super) struct Smoother {
    tracks: HashMap<u32, Cadence>,
    held: BTreeMap<(i64, u64), SourceEvent>,
    held_bytes: usize,
    count: u64,
    /// Tracks were announced anew: what belongs to them comes after that.
    floor_us: i64,
    noticed: bool,
}

impl Smoother {
    /// Takes an event that arrived at `now_us`.
    pub(super) fn handle_event(&mut self, event: SourceEvent, now_us: i64) {
        let due_us = match &event {
            SourceEvent::Frame(captured) => {
                self.held_bytes += captured.frame.payload.len();
                let cadence = self.tracks.entry(captured.frame.track).or_default();
                cadence.due(captured.frame.dts_us, now_us).max(self.floor_us)
            }
            SourceEvent::Tracks(_) => {
                self.tracks.clear();
                let last = self.held.last_key_value().map(|((due_us, _), _)| *due_us);
                self.floor_us = last.unwrap_or(now_us).max(now_us);
                self.floor_us
            }
            SourceEvent::Notice(_) => now_us,
        };
        self.hold(due_us, event);
        if self.noticed {
            return;
        }
        let longest = self.tracks.values().map(|cadence| cadence.hold_us).max().unwrap_or(0);
        if longest > NOTICE_US {
            self.noticed = true;
            let notice = format!(
                "it comes in bursts of {:.1} s and is sent on evenly, later by as much (fragmented \
                 MP4 from ffmpeg: -movflags empty_moov+frag_every_frame sends each frame at once)",
                longest as f64 / 1e6
            );
            self.hold(now_us, SourceEvent::Notice(notice));
        }
    }

    /// The next event that is due.
    pub(super) fn poll_event(&mut self, now_us: i64) -> Option<SourceEvent> {
        let early = self.held_bytes > MOST_HELD_BYTES;
        let entry = self.held.first_entry().filter(|entry| early || entry.key().0 <= now_us)?;
        let event = entry.remove();
        if let SourceEvent::Frame(captured) = &event {
            self.held_bytes -= captured.frame.payload.len();
        }
        Some(event)
    }

    /// When there is something to poll.
    pub(super) fn due_us(&self) -> Option<i64> {
        self.held.first_key_value().map(|((due_us, _), _)| *due_us)
    }

    fn hold(&mut self, due_us: i64, event: SourceEvent) {
        self.held.insert((due_us, self.count), event);
        self.count += 1;
    }
}

/// How one track's frames come, and when they should go.
#[derive(Debug, Default)]
struct Cadence {
    /// The least `arrival − timestamp` of each second lately, and when that second began.
    least: VecDeque<(i64, i64)>,
    /// When bursts began lately, and how late their first frames were.
    bursts: VecDeque<(i64, i64)>,
    /// When the last one began, a single one too.
    burst_at_us: i64,
    /// Of the frame before: how late it was, when it came, and when it is due.
    age_us: i64,
    seen_us: i64,
    due_us: i64,
    /// For how long frames are held that came at the best time.
    hold_us: i64,
}

impl Cadence {
    /// When the frame that arrived at `now_us` is to go out: never before that.
    fn due(&mut self, dts_us: i64, now_us: i64) -> i64 {
        let difference = now_us.saturating_sub(dts_us);
        let off = self.least().map_or(0, |least| difference.saturating_sub(least));
        if off.saturating_abs() > MOST_HOLD_US {
            *self = Self { due_us: self.due_us, ..Self::default() };
        }
        if self.least.is_empty() {
            self.burst_at_us = now_us;
        }
        self.remember(difference, now_us);
        let least = self.least().unwrap_or(difference);
        let age_us = difference.saturating_sub(least);
        if age_us > self.age_us + RISE_US {
            let since_us = now_us - std::mem::replace(&mut self.burst_at_us, now_us);
            // Where bursts are the rule one holds what was made since the last; a hiccup much less.
            if age_us > since_us / 2 {
                self.bursts.push_back((now_us, age_us));
            }
        }
        self.age_us = age_us;

        let spare = (now_us - self.seen_us) / CATCH_UP;
        self.hold_us = self.burst_us().max(self.hold_us - spare).max(0);
        self.seen_us = now_us;
        let due_us = dts_us.saturating_add(least).saturating_add(self.hold_us);
        self.due_us = due_us.max(now_us).max(self.due_us);
        self.due_us
    }

    fn least(&self) -> Option<i64> {
        self.least.iter().map(|(_, least)| *least).min()
    }

    fn remember(&mut self, difference: i64, now_us: i64) {
        let old = |at: i64| now_us - at > HORIZON_US;
        while self.least.front().is_some_and(|(at, _)| old(*at)) {
            self.least.pop_front();
        }
        while self.bursts.front().is_some_and(|(at, _)| old(*at)) {
            self.bursts.pop_front();
        }
        match self.least.back_mut().filter(|(at, _)| now_us - at < 1_000_000) {
            Some((_, least)) => *least = difference.min(*least),
            None => self.least.push_back((now_us, difference)),
        }
    }

    /// What the bursts of late take: the longest but one, for what happens once is an outage.
    fn burst_us(&self) -> i64 {
        let (mut longest, mut next) = (0, 0);
        for (_, age_us) in &self.bursts {
            next = next.max(longest.min(*age_us));
            longest = longest.max(*age_us);
        }
        if next < LEAST_HOLD_US { 0 } else { next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::{Captured, SourceTrack};
    use bytes::Bytes;
    use media::Frame;

    fn frame(track: u32, dts_us: i64, size: usize) -> SourceEvent {
        let frame = Frame {
            track,
            pts_us: dts_us,
            dts_us,
            keyframe: false,
            discardable: false,
            temporal_id: 0,
            payload: Bytes::from(vec![0; size]),
        };
        SourceEvent::Frame(Captured { frame, capture_unix_us: 0 })
    }

    /// What comes out as `(when, track, timestamp)`, for frames that arrive as `(when, track,
    /// timestamp)`, all in milliseconds; and the notices.
    fn run(arrivals: &[(i64, u32, i64)]) -> (Vec<(i64, u32, i64)>, Vec<String>) {
        let mut smoother = Smoother::default();
        let (mut out, mut notices) = (Vec::new(), Vec::new());
        let mut drain = |smoother: &mut Smoother, until: i64| {
            while let Some(due) = smoother.due_us().filter(|due| *due <= until) {
                match smoother.poll_event(due) {
                    Some(SourceEvent::Frame(captured)) => {
                        let Frame { track, dts_us, .. } = captured.frame;
                        out.push((due / 1000, track, dts_us / 1000));
                    }
                    Some(SourceEvent::Notice(notice)) => notices.push(notice),
                    other => panic!("{other:?}"),
                }
            }
        };
        for (at, track, dts) in arrivals {
            drain(&mut smoother, at * 1000 - 1);
            smoother.handle_event(frame(*track, dts * 1000, 1), at * 1000);
        }
        drain(&mut smoother, i64::MAX);
        (out, notices)
    }

    /// Frames every 40 ms that come `every` milliseconds, all that were made since.
    fn bursts(track: u32, every: i64, until: i64) -> Vec<(i64, u32, i64)> {
        (0..until / 40).map(|n| ((n * 40 / every + 1) * every, track, 7000 + n * 40)).collect()
    }

    #[test]
    fn what_comes_evenly_is_not_held() {
        let jitter = |n: i64| (n * 7919) % 45;
        let arrivals: Vec<_> = (0..2000).map(|n| (1000 + n * 40 + jitter(n), 1, n * 40)).collect();
        let (out, notices) = run(&arrivals);
        assert_eq!(out, arrivals);
        assert_eq!(notices, [""; 0]);
    }

    #[test]
    fn bursts_go_out_at_the_pace_of_their_timestamps() {
        for every in [200, 1000, 4000, 8000] {
            let arrivals = bursts(1, every, 60_000);
            let (out, notices) = run(&arrivals);
            assert_eq!(out.len(), arrivals.len());
            let settled = out.iter().filter(|(at, ..)| *at > 4 * every);
            let late: Vec<_> = settled.clone().map(|(at, _, dts)| at - dts).collect();
            let (least, most) = (late.iter().min().unwrap(), late.iter().max().unwrap());
            assert!(most - least <= 1, "{every}: {least} to {most}");
            // As late as the first frame of a burst, and no later.
            assert!((most - (every - 7000)).abs() <= 1, "{every}: {most}");
            assert_eq!(notices.len(), usize::from(every > 300), "{every}: {notices:?}");
        }
    }

    #[test]
    fn a_track_is_not_held_for_the_bursts_of_another() {
        let mut arrivals = bursts(2, 1000, 20_000);
        arrivals.extend((0..500).map(|n| (n * 40, 1, n * 40)));
        arrivals.sort_unstable();
        let (out, _) = run(&arrivals);
        for (at, track, dts) in out {
            assert!(track == 2 || at == dts, "{at} {dts}");
        }
    }

    #[test]
    fn one_outage_makes_nothing_later_for_good() {
        let arrivals: Vec<_> = (0..1000)
            .map(|n| n * 40)
            .map(|at| (if (10_000..13_000).contains(&at) { 13_000 } else { at }, 1, at))
            .collect();
        assert_eq!(run(&arrivals).0, arrivals);
    }

    #[test]
    fn hiccups_now_and_then_are_not_bursts() {
        let hiccup = |at: i64| if at % 4000 < 400 { at - at % 4000 + 400 } else { at };
        let arrivals: Vec<_> = (0..1000).map(|n| n * 40).map(|at| (hiccup(at), 1, at)).collect();
        assert_eq!(run(&arrivals).0, arrivals);
    }

    #[test]
    fn shorter_bursts_are_caught_up_with_slowly() {
        let mut arrivals = bursts(1, 2000, 20_000);
        let later = (500..3000).map(|n| (n * 40 + 40, 1, 7000 + n * 40));
        arrivals.extend(later);
        let (out, _) = run(&arrivals);
        let late = |(at, _, dts): &(i64, u32, i64)| at - dts + 7000;
        assert!(late(&out[600]) > 1900, "{:?}", out[600]);
        assert_eq!(late(out.last().unwrap()), 40);
        for pair in out.windows(2).filter(|pair| pair[0].0 > 8000) {
            let step = pair[1].0 - pair[0].0;
            assert!((36..=41).contains(&step), "{pair:?}");
        }
    }

    #[test]
    fn timestamps_that_jump_start_anew_and_nothing_is_lost() {
        let mut arrivals = bursts(1, 1000, 10_000);
        arrivals.extend((0..100).map(|n| (11_500 + n * 40, 1, -3_600_000 + n * 40)));
        let (out, _) = run(&arrivals);
        assert_eq!(out.len(), arrivals.len());
        // Behind the 250 from before: an hour back, 11.5 s in, and none of them held.
        assert!(out.iter().skip(250).all(|(at, _, dts)| at - dts == 3_611_500), "{out:?}");
        let mut smoother = Smoother::default();
        for dts in [i64::MIN, i64::MAX, 0, -1] {
            smoother.handle_event(frame(1, dts, 1), 5);
        }
        while smoother.poll_event(i64::MAX).is_some() {}
    }

    #[test]
    fn new_tracks_come_after_the_frames_of_the_old_and_before_their_own() {
        let mut smoother = Smoother::default();
        for (at, _, dts) in bursts(1, 1000, 4000) {
            while smoother.poll_event(at * 1000).is_some() {}
            smoother.handle_event(frame(1, dts * 1000, 1), at * 1000);
        }
        smoother.handle_event(SourceEvent::Tracks(Vec::<SourceTrack>::new()), 4_000_000);
        smoother.handle_event(frame(1, 0, 1), 4_000_000);
        let mut order = Vec::new();
        while let Some(event) = smoother.poll_event(i64::MAX) {
            match event {
                SourceEvent::Frame(captured) => order.push(captured.frame.dts_us),
                SourceEvent::Tracks(_) => order.push(-1),
                SourceEvent::Notice(_) => {}
            }
        }
        assert!(order.len() > 20, "{order:?}");
        assert_eq!(order[order.len() - 2..], [-1, 0]);
    }

    #[test]
    fn what_is_held_is_bounded() {
        let mut smoother = Smoother::default();
        for (at, _, dts) in bursts(1, 8000, 40_000) {
            while smoother.poll_event(at * 1000).is_some() {}
            smoother.handle_event(frame(1, dts * 1000, 1 << 20), at * 1000);
        }
        assert!(smoother.held_bytes <= MOST_HELD_BYTES + (1 << 20), "{}", smoother.held_bytes);
    }
}
