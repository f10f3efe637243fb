//! How another machine's clock runs, from questions and their answers, as NTP does it.
//!
//! Whoever asks notes when it asked and when it heard the answer, by a clock of its own that never
//! jumps. Whatever the answer says was true at some moment in between, however unlike the two ways
//! were: half of that time bounds the error. Of the newest answers the one with the least error
//! counts, which grows with its age, because two clocks drift apart.

use std::collections::VecDeque;

/// How fast two clocks may drift apart, in parts of a million.
const DRIFT_PPM: u64 = 100;
/// Answers that are kept.
const ANSWERS: usize = 16;

/// One answer to "what time is it?". Own times are microseconds of a clock that never jumps, from
/// any beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// When it was asked, by the own clock.
    pub asked_us: u64,
    /// When the answer was there, by the own clock.
    pub heard_us: u64,
    /// What the other clock said: microseconds since the Unix epoch.
    pub unix_us: u64,
    /// How wrong that may be, in microseconds, either way.
    pub error_us: u64,
}

/// What a clock shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Microseconds since the Unix epoch.
    pub unix_us: u64,
    /// How wrong that may be, in microseconds, either way.
    pub error_us: u64,
}

impl Reading {
    /// This reading minus a moment by the same clock, in microseconds: how long ago that was.
    pub fn since(self, unix_us: u64) -> i64 {
        difference(self.unix_us, unix_us)
    }
}

/// What is known of another machine's clock.
#[derive(Debug, Clone, Default)]
pub struct RemoteClock {
    /// In order of arrival.
    answers: VecDeque<Known>,
    /// The clock was set while it was watched: of moments before, by the own clock, nothing is
    /// known.
    set_us: u64,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    /// The moment in the middle, by the own clock.
    at_us: u64,
    /// What has to be added to the own clock to get the other one.
    offset_us: i64,
    error_us: u64,
}

impl Known {
    fn of(answer: Answer) -> Option<Self> {
        let round = answer.heard_us.checked_sub(answer.asked_us)?;
        let at_us = answer.asked_us + round / 2;
        let half = round.div_ceil(2);
        Some(Self {
            at_us,
            offset_us: i64::try_from(answer.unix_us).ok()?.checked_sub_unsigned(at_us)?,
            // 2: both clocks are read in whole microseconds.
            error_us: half
                .saturating_add(drift(half))
                .saturating_add(answer.error_us)
                .saturating_add(2),
        })
    }

    fn error_at(&self, own_us: u64) -> u64 {
        self.error_us.saturating_add(drift(self.at_us.abs_diff(own_us)))
    }

    fn contradicts(&self, later: &Self) -> bool {
        let may_differ = self.error_at(later.at_us).saturating_add(later.error_us);
        self.offset_us.abs_diff(later.offset_us) > may_differ
    }
}

/// How far two clocks may have drifted apart in this time.
fn drift(us: u64) -> u64 {
    us.div_ceil(1_000_000 / DRIFT_PPM)
}

fn difference(later_us: u64, earlier_us: u64) -> i64 {
    let apart = i64::try_from(later_us.abs_diff(earlier_us)).unwrap_or(i64::MAX);
    if later_us < earlier_us { -apart } else { apart }
}

impl RemoteClock {
    /// Takes an answer in. One that cannot be true together with those before tells that the other
    /// clock was set: those are forgotten. One that cannot be at all is ignored.
    pub fn handle_answer(&mut self, answer: Answer) {
        let Some(known) = Known::of(answer) else { return };
        if self.answers.iter().any(|before| before.contradicts(&known)) {
            self.answers.clear();
            self.set_us = answer.asked_us;
        }
        if self.answers.len() == ANSWERS {
            self.answers.pop_front();
        }
        self.answers.push_back(known);
    }

    /// What the other clock shows, or showed, at a moment of the own clock. `None` when nothing is
    /// known of it.
    pub fn at(&self, own_us: u64) -> Option<Reading> {
        if own_us < self.set_us {
            return None;
        }
        let best = self.answers.iter().min_by_key(|known| known.error_at(own_us))?;
        let unix_us = own_us.checked_add_signed(best.offset_us)?;
        Some(Reading { unix_us, error_us: best.error_at(own_us) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000;
    /// The other clock when the own one begins.
    const THEN: u64 = 1_700_000_000 * SECOND;

    /// Asked at `asked_us`, answered `there_us` later by a clock that is `ahead_us` ahead.
    fn answer(asked_us: u64, there_us: u64, back_us: u64, ahead_us: i64) -> Answer {
        let unix_us = (THEN + asked_us + there_us).checked_add_signed(ahead_us).unwrap();
        Answer { asked_us, heard_us: asked_us + there_us + back_us, unix_us, error_us: 0 }
    }

    #[test]
    fn of_a_clock_that_was_never_asked_nothing_is_known() {
        assert_eq!(RemoteClock::default().at(5), None);
    }

    #[test]
    fn the_quickest_answer_counts_until_it_is_old() {
        let mut clock = RemoteClock::default();
        clock.handle_answer(answer(0, 100, 100, 0));
        clock.handle_answer(answer(400 * SECOND, 40_000, 0, 0));
        let now = clock.at(2 * SECOND).unwrap();
        assert_eq!(now.unix_us, THEN + 2 * SECOND);
        assert_eq!(now.error_us, 100 + 1 + 2 + 200);
        // 100 ppm of 10 minutes are 60 ms, of the 200 s since the slower one 20 ms.
        assert_eq!(clock.at(601 * SECOND).unwrap().unix_us, THEN + 601 * SECOND + 20_000);
    }

    #[test]
    fn errors_of_those_who_were_asked_add_up() {
        let mut clock = RemoteClock::default();
        clock.handle_answer(Answer { error_us: 5000, ..answer(0, 100, 100, 0) });
        assert!(clock.at(100).unwrap().error_us >= 5100);
    }

    #[test]
    fn a_clock_that_is_set_is_believed_at_once_and_not_for_the_time_before() {
        let mut clock = RemoteClock::default();
        clock.handle_answer(answer(0, 100, 100, 0));
        clock.handle_answer(answer(4 * SECOND, 3000, 100, -5_000_000));
        let now = clock.at(5 * SECOND).unwrap();
        assert!(now.unix_us.abs_diff(THEN) <= now.error_us, "{now:?}");
        assert_eq!(clock.at(3 * SECOND), None);
    }

    #[test]
    fn an_answer_from_before_its_question_and_a_clock_beyond_all_bounds_are_ignored() {
        let mut clock = RemoteClock::default();
        clock.handle_answer(Answer { asked_us: 9, heard_us: 8, unix_us: THEN, error_us: 0 });
        clock.handle_answer(Answer { asked_us: 8, heard_us: 9, unix_us: u64::MAX, error_us: 0 });
        assert_eq!(clock.at(10), None);
        clock.handle_answer(Answer { asked_us: 8, heard_us: 9, unix_us: THEN, error_us: u64::MAX });
        assert_eq!(clock.at(10).unwrap().error_us, u64::MAX);
    }

    proptest! {
        /// However unlike the ways there and back are, and though the clocks drift apart, the
        /// truth is never further away than the bound.
        #[test]
        fn the_truth_is_within_the_bound(
            ways in prop::collection::vec((0u64..5 * SECOND, 0u64..800_000, 0u64..800_000), 1..40),
            ahead_us in -10_000_000i64..10_000_000,
            drift_ppm in -100i64..=100,
            relayed in prop::collection::vec((0u64..50_000, any::<bool>()), 40),
            later in 0u64..3600 * SECOND,
        ) {
            let truth = |own_us: u64| {
                let drifted = own_us as i64 * drift_ppm / 1_000_000;
                (THEN + own_us).checked_add_signed(ahead_us + drifted).unwrap()
            };
            let (mut clock, mut now) = (RemoteClock::default(), 0);
            for ((pause, there, back), (error_us, early)) in ways.into_iter().zip(relayed) {
                let asked_us = now + pause;
                let exact = truth(asked_us + there);
                // Who is asked may be wrong itself, as far as it says.
                let unix_us = if early { exact - error_us } else { exact + error_us };
                now = asked_us + there + back;
                clock.handle_answer(Answer { asked_us, heard_us: now, unix_us, error_us });
                let shown = clock.at(now).unwrap();
                prop_assert!(shown.unix_us.abs_diff(truth(now)) <= shown.error_us, "{shown:?}");
            }
            let at = now + later;
            let shown = clock.at(at).unwrap();
            prop_assert!(shown.unix_us.abs_diff(truth(at)) <= shown.error_us, "{shown:?}");
        }

        /// After the other clock was set, one more answer is enough.
        #[test]
        fn a_step_larger_than_the_errors_is_noticed_at_once(
            delays in prop::collection::vec((0u64..50_000, 0u64..50_000), 1..12),
            step_us in 200_000i64..1_000_000_000,
            back in any::<bool>(),
        ) {
            let (mut clock, mut now) = (RemoteClock::default(), 0);
            for (there, back) in &delays {
                clock.handle_answer(answer(now, *there, *back, 0));
                now += 2 * SECOND;
            }
            let ahead_us = if back { -step_us } else { step_us };
            clock.handle_answer(answer(now, 20_000, 30_000, ahead_us));
            let shown = clock.at(now + 50_000).unwrap();
            let truth = (THEN + now + 50_000).checked_add_signed(ahead_us).unwrap();
            prop_assert!(shown.unix_us.abs_diff(truth) <= shown.error_us, "{shown:?}");
        }

        #[test]
        fn nothing_that_is_answered_panics(answers: Vec<(u64, u64, u64, u64)>, at: u64) {
            let mut clock = RemoteClock::default();
            for (asked_us, heard_us, unix_us, error_us) in answers {
                clock.handle_answer(Answer { asked_us, heard_us, unix_us, error_us });
            }
            if let Some(reading) = clock.at(at) {
                let _ = reading.since(0);
            }
        }
    }
}
