//! How many tests passed, read from what the test runners print.

use std::{fmt, iter::Sum, ops::Add};

/// How many tests passed and failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

/// What begins the one line in which each runner sums up.
const SUMMARIES: [&str; 3] = [
    // cargo test
    "test result: ",
    // cargo nextest
    "Summary [",
    // Vitest; its line about whole files begins differently.
    "Tests ",
];

/// Words for a test that did not pass: nextest keeps some kinds of failure apart.
const FAILURES: [&str; 3] = ["failed", "timed out", "exec failed"];

impl Counts {
    /// Reads a runner's summary; `None` for every other line.
    pub(crate) fn from_line(line: &str) -> Option<Self> {
        let line = line.trim();
        let rest = SUMMARIES.iter().find_map(|start| line.strip_prefix(start))?;
        let numbers = rest.split([',', ';', '|', ':', '.']).map(str::trim);
        let mut counts = Self::default();
        for part in numbers {
            let part = part.split('(').next().unwrap_or_default().trim();
            let Some((number, word)) = part.split_once(' ') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            if word == "passed" {
                counts.passed += number;
            } else if FAILURES.contains(&word) {
                counts.failed += number;
            }
        }
        Some(counts)
    }
}

impl Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { passed: self.passed + other.passed, failed: self.failed + other.failed }
    }
}

impl Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), Add::add)
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self { passed: 0, failed: 0 } => Ok(()),
            Self { passed, failed } => write!(f, "{passed} passed, {failed} failed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Option<(u64, u64)> {
        Counts::from_line(line).map(|counts| (counts.passed, counts.failed))
    }

    #[test]
    fn every_runners_summary_is_read() {
        for (line, counts) in [
            ("test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out", (5, 0)),
            ("test result: FAILED. 4 passed; 1 failed; 0 ignored; 0 measured", (4, 1)),
            ("     Summary [   0.325s] 20 tests run: 20 passed, 0 skipped", (20, 0)),
            ("Summary [ 9.1s] 6 tests run: 3 passed (1 slow), 1 failed, 2 timed out", (3, 3)),
            ("Summary [ 9.1s] 2/6 tests run: 1 passed, 1 exec failed, 1 skipped", (1, 1)),
            ("      Tests  20 passed (20)", (20, 0)),
            ("      Tests  1 failed | 19 passed | 2 skipped (22)", (19, 1)),
        ] {
            assert_eq!(read(line), Some(counts), "{line}");
        }
    }

    #[test]
    fn other_lines_are_not_summaries() {
        for line in [" Test Files  3 passed (3)", "running 5 tests", "5 passed", ""] {
            assert_eq!(read(line), None, "{line}");
        }
    }
}
