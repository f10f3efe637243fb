//! What happened in a run, for people: one line an event, virtual time first.

use std::cell::RefCell;
use std::fmt::{Display, Write};
use std::rc::Rc;
use std::time::Instant;

/// Lines kept: the beginning, which says who is who, and the end.
const BEGINNING: usize = 40;
const END: u64 = 300;

#[derive(Debug)]
struct Lines {
    /// Most runs are not told: one that fails is run again for its timeline.
    told: bool,
    start: Instant,
    now: Instant,
    beginning: Vec<String>,
    end: std::collections::VecDeque<String>,
    left_out: usize,
    keep: u64,
    violations: Vec<String>,
    /// Of every line, so that two runs can be compared.
    digest: u64,
}

/// Shared by everyone who takes part in a run.
#[derive(Clone, Debug)]
pub(crate) struct Timeline(Rc<RefCell<Lines>>);

impl Timeline {
    pub(crate) fn new(start: Instant, told: bool) -> Self {
        Self(Rc::new(RefCell::new(Lines {
            told,
            start,
            now: start,
            beginning: Vec::new(),
            end: Default::default(),
            left_out: 0,
            keep: crate::variable("WEIR_SIM_LINES").unwrap_or(END),
            violations: Vec::new(),
            digest: 0xcbf2_9ce4_8422_2325,
        })))
    }

    /// Moves the clock of all lines to come.
    pub(crate) fn set_now(&self, now: Instant) {
        self.0.borrow_mut().now = now;
    }

    pub(crate) fn now(&self) -> Instant {
        self.0.borrow().now
    }

    /// Something happened to somebody.
    pub(crate) fn note(&self, who: impl Display, what: impl Display) {
        let mut lines = self.0.borrow_mut();
        if !lines.told {
            return;
        }
        let at = (lines.now - lines.start).as_secs_f64() * 1000.0;
        let line = format!("{at:>10.3} ms  {:<10} {what}", who.to_string());
        for byte in line.bytes() {
            lines.digest = (lines.digest ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        if lines.beginning.len() < BEGINNING {
            return lines.beginning.push(line);
        }
        if lines.end.len() as u64 >= lines.keep {
            lines.end.pop_front();
            lines.left_out += 1;
        }
        lines.end.push_back(line);
    }

    /// An invariant does not hold. The run ends after this step.
    pub(crate) fn violate(&self, who: impl Display, what: impl Display) {
        let (who, what) = (who.to_string(), what.to_string());
        self.note(&who, format_args!("!!! {what}"));
        self.0.borrow_mut().violations.push(format!("{who}: {what}"));
    }

    /// The invariants that do not hold.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.0.borrow().violations.clone()
    }

    /// Differs when anything happened otherwise.
    pub(crate) fn digest(&self) -> u64 {
        self.0.borrow().digest
    }

    /// All of it, as far as it is kept.
    pub(crate) fn print(&self) -> String {
        let lines = self.0.borrow();
        let mut text = String::new();
        for line in &lines.beginning {
            text.push_str(line);
            text.push('\n');
        }
        if lines.left_out > 0 {
            let _ = writeln!(text, "              … {} lines …", lines.left_out);
        }
        for line in &lines.end {
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}
