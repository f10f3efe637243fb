//! Colours and characters: what a terminal can show decides, never what it means.
//!
//! Only the terminal's own 16 colours are used and never a background, so that light and dark
//! terminals both work. Whatever a screen draws, [`Theme::finish`] makes it fit: without colour, or
//! in ASCII.

use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier, Style};
use stats::DropReason;

use crate::state::events::Level;

/// What the terminal can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Theme {
    /// Colours may be used.
    pub color: bool,
    /// Only ASCII may be used.
    pub ascii: bool,
}

/// Titles of sections, the column that sorts.
pub const STRONG: Style = Style::new().add_modifier(Modifier::BOLD);
/// What is there but not the point.
pub const DIM: Style = Style::new().add_modifier(Modifier::DIM);
/// The selected line, the open tab. Reversed works without colour, too.
pub const SELECTED: Style = Style::new().add_modifier(Modifier::REVERSED);
/// Bytes that come in.
pub const IN: Style = Style::new().fg(Color::Blue);
/// Bytes that go out.
pub const OUT: Style = Style::new().fg(Color::Green);
/// Viewers.
pub const VIEWERS: Style = Style::new().fg(Color::Cyan);

/// How a level looks; beside it there is always its word.
pub const fn level(level: Level) -> Style {
    match level {
        Level::Ok => Style::new().fg(Color::Green),
        Level::Warning => Style::new().fg(Color::Yellow),
        Level::Down => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
    }
}

/// The one colour of a drop reason on every screen.
pub const fn reason(reason: DropReason) -> Style {
    let color = match reason {
        DropReason::DeliveryTimeout => Color::Yellow,
        DropReason::TooFarBehind => Color::Magenta,
        DropReason::ExcessiveLoad => Color::Red,
        DropReason::Cancelled => Color::Blue,
        DropReason::UpstreamReset => Color::Cyan,
        DropReason::SessionClosed => Color::Green,
        DropReason::Other => Color::Reset,
    };
    Style::new().fg(color)
}

impl Theme {
    /// Makes what was drawn fit the terminal.
    pub fn finish(self, buffer: &mut Buffer) {
        for cell in &mut buffer.content {
            if !self.color {
                cell.fg = Color::Reset;
                cell.bg = Color::Reset;
            }
            if self.ascii && !cell.symbol().is_ascii() {
                let symbol = ascii(cell.symbol());
                cell.set_symbol(symbol);
            }
        }
    }
}

/// Text with the nearest ASCII characters.
pub fn to_ascii(text: &str) -> String {
    let mut buffer = [0; 4];
    let mut safe = String::new();
    for c in text.chars() {
        let symbol = &*c.encode_utf8(&mut buffer);
        safe.push_str(if c.is_ascii() { symbol } else { ascii(symbol) });
    }
    safe
}

/// The nearest ASCII character.
fn ascii(symbol: &str) -> &'static str {
    match symbol {
        "─" | "·" | "╌" => "-",
        "│" => "|",
        "├" | "└" | "┌" | "┐" | "┘" | "┤" => "+",
        "▁" => "_",
        "▂" | "▃" => ".",
        "▄" | "▅" => "=",
        "▆" | "▇" => "*",
        "█" => "#",
        "▏" | "▎" | "▍" => ":",
        "▌" | "▋" | "▊" | "▉" => "=",
        "…" => "~",
        "±" => "~",
        "●" => "*",
        "▲" => "^",
        "▼" => "v",
        "‹" => "<",
        "›" | "→" => ">",
        _ => "?",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_colour_of_its_own() {
        let mut colours: Vec<_> = DropReason::ALL.into_iter().map(|it| reason(it).fg).collect();
        colours.sort_by_key(|colour| format!("{colour:?}"));
        colours.dedup();
        assert_eq!(colours.len(), DropReason::COUNT);
    }
}
