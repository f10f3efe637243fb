//! Bytes in, lines out, with a bound: no socket, no clock.

use std::collections::VecDeque;

/// Longest line of a feed: a tree of 100 nodes with 1,000 sessions each stays below it.
pub const MAX_LINE_BYTES: usize = 32 << 20;

/// Splits a stream of bytes into lines, and never holds more than [`MAX_LINE_BYTES`] of an
/// unfinished one.
#[derive(Debug)]
pub struct Lines {
    limit: usize,
    partial: Vec<u8>,
    /// The present line is too long; its rest is skipped.
    skipping: bool,
    ready: VecDeque<Line>,
}

/// What came out of the stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// A line without its end, never empty.
    Whole(Vec<u8>),
    /// A line longer than the bound, thrown away.
    TooLong,
}

impl Default for Lines {
    fn default() -> Self {
        Self::with_limit(MAX_LINE_BYTES)
    }
}

impl Lines {
    /// A splitter with another bound.
    pub const fn with_limit(limit: usize) -> Self {
        Self { limit, partial: Vec::new(), skipping: false, ready: VecDeque::new() }
    }

    /// Takes bytes as they come. Drain [`Lines::poll_line`] before the next call.
    pub fn handle_bytes(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.extend(&rest[..end]);
            self.finish();
            rest = &rest[end + 1..];
        }
        self.extend(rest);
    }

    /// The stream has ended: what is left is a line, too.
    pub fn handle_end(&mut self) {
        self.finish();
    }

    /// The next line.
    pub fn poll_line(&mut self) -> Option<Line> {
        self.ready.pop_front()
    }

    fn extend(&mut self, bytes: &[u8]) {
        if self.skipping {
            return;
        }
        if self.partial.len() + bytes.len() > self.limit {
            self.skipping = true;
            self.partial = Vec::new();
        } else {
            self.partial.extend_from_slice(bytes);
        }
    }

    fn finish(&mut self) {
        let mut line = std::mem::take(&mut self.partial);
        if std::mem::take(&mut self.skipping) {
            self.ready.push_back(Line::TooLong);
            return;
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        if !line.is_empty() {
            self.ready.push_back(Line::Whole(line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(limit: usize, chunks: &[&[u8]]) -> Vec<Line> {
        let mut lines = Lines::with_limit(limit);
        let mut all = Vec::new();
        for chunk in chunks {
            lines.handle_bytes(chunk);
            all.extend(std::iter::from_fn(|| lines.poll_line()));
        }
        lines.handle_end();
        all.extend(std::iter::from_fn(|| lines.poll_line()));
        all
    }

    fn whole(text: &str) -> Line {
        Line::Whole(text.into())
    }

    #[test]
    fn lines_come_out_whole_however_they_were_cut() {
        assert_eq!(
            split(9, &[b"a", b"b\nc\r", b"\n\n", b"d"]),
            [whole("ab"), whole("c"), whole("d")]
        );
    }

    #[test]
    fn a_line_over_the_bound_is_reported_once_and_the_next_one_is_read() {
        assert_eq!(
            split(4, &[b"1234\n12", b"345", b"678901234567890\nok\n"]),
            [whole("1234"), Line::TooLong, whole("ok")]
        );
    }

    proptest! {
        #[test]
        fn chunking_never_matters_and_memory_stays_bounded(
            bytes in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(b'x')], 0..200),
            cut in 1usize..20,
        ) {
            let pieces: Vec<&[u8]> = bytes.chunks(cut).collect();
            prop_assert_eq!(split(8, &pieces), split(8, &[&bytes]));
            let mut lines = Lines::with_limit(8);
            for piece in pieces {
                lines.handle_bytes(piece);
                prop_assert!(lines.partial.len() <= 8);
            }
        }
    }
}
