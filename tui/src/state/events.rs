//! What happened, in one bounded list.

use std::collections::VecDeque;

/// How many events are kept; the oldest go first.
pub const MAX_EVENTS: usize = 2000;

/// How bad something is: a word, and a colour where there are colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing to do.
    Ok,
    /// Something to look at.
    Warning,
    /// Somebody gets nothing.
    Down,
}

impl Level {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Down => "down",
        }
    }
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Rises by one with each event, so that a selection stays on its event.
    pub seq: u64,
    /// When, as the clock of the node that was asked shows it: `HH:MM:SS`, UTC; empty before its
    /// first answer.
    pub clock: String,
    /// Where; `None` for what concerns the feed.
    pub node: Option<String>,
    /// How bad.
    pub level: Level,
    /// What, for people.
    pub text: String,
}

/// The newest [`MAX_EVENTS`] events.
#[derive(Debug, Clone, Default)]
pub struct Events {
    list: VecDeque<Event>,
    next_seq: u64,
}

impl Events {
    /// Adds one.
    pub fn push(&mut self, clock: &str, node: Option<&str>, level: Level, text: String) {
        if self.list.len() == MAX_EVENTS {
            self.list.pop_front();
        }
        let (clock, node) = (clock.to_owned(), node.map(str::to_owned));
        self.list.push_back(Event { seq: self.next_seq, clock, node, level, text });
        self.next_seq += 1;
    }

    /// All that are kept, newest first.
    pub fn iter(&self) -> impl Iterator<Item = &Event> {
        self.list.iter().rev()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first() {
        let mut events = Events::default();
        for i in 0..MAX_EVENTS + 5 {
            events.push("", None, Level::Ok, i.to_string());
        }
        assert_eq!(events.iter().count(), MAX_EVENTS);
        assert_eq!(events.iter().next().unwrap().seq, MAX_EVENTS as u64 + 4);
        assert_eq!(events.iter().last().unwrap().text, "5");
    }
}
