//! Text cut to a width, and lines made of pieces.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::theme::{DIM, STRONG};

/// Cuts text to a width in cells; `…` shows that something is missing.
pub fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut used = 0;
    for c in text.chars() {
        let of_char = c.width().unwrap_or(0);
        if used + of_char + 1 > width {
            break;
        }
        used += of_char;
        kept.push(c);
    }
    if width > 0 {
        kept.push('…');
    }
    kept
}

/// Breaks text at spaces into lines of a width in cells; a longer word is cut.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.width() + 1 + word.width() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(cut(word, width)),
        }
    }
    lines
}

/// Draws one line at the top of an area and returns how many cells it took.
pub fn draw(buffer: &mut Buffer, area: Rect, line: &Line<'_>) -> u16 {
    let area = area.intersection(buffer.area);
    if area.is_empty() {
        return 0;
    }
    buffer.set_line(area.x, area.y, line, area.width).0 - area.x
}

/// Draws text, cut to the area, at its top.
pub fn draw_text(buffer: &mut Buffer, area: Rect, text: &str, style: Style) -> u16 {
    draw(buffer, area, &Line::styled(cut(text, usize::from(area.width)), style))
}

/// Draws a line against the right edge at the top of an area.
pub fn draw_right(buffer: &mut Buffer, area: Rect, line: &Line<'_>) {
    let width = u16::try_from(line.width()).unwrap_or(u16::MAX).min(area.width);
    let x = area.right() - width;
    draw(buffer, Rect { x, width, ..area }, line);
}

/// Draws the head of a section: a rule with a title in it, and a remark at its end.
pub fn draw_head(buffer: &mut Buffer, area: Rect, title: Vec<Span<'_>>, remark: &str) {
    let mut spans = vec![Span::styled("─ ", DIM)];
    let title_width: usize = title.iter().map(Span::width).sum();
    spans.extend(title);
    spans.push(Span::raw(" "));
    // The rule only beside the title: what is drawn over it would be dim, too.
    let width = draw(buffer, area, &Line::from(spans));
    let rest = Rect { x: area.x + width, width: area.width - width, ..area };
    draw_text(buffer, rest, &"─".repeat(usize::from(rest.width)), DIM);
    // The title matters more.
    if !remark.is_empty() && usize::from(area.width) > title_width + remark.width() + 7 {
        draw_right(
            buffer,
            area,
            &Line::from(vec![Span::styled(format!(" {remark} "), DIM), Span::styled("─", DIM)]),
        );
    }
}

/// A bold title.
pub fn title<'a>(text: impl Into<std::borrow::Cow<'a, str>>) -> Span<'a> {
    Span::styled(text, STRONG)
}

/// The lines of an area, from the top.
pub fn rows(area: Rect) -> impl Iterator<Item = Rect> {
    (area.top()..area.bottom()).map(move |y| Rect { y, height: 1, ..area })
}

/// Splits an area after `height` lines, or where it ends.
pub fn split_top(area: Rect, height: u16) -> (Rect, Rect) {
    let height = height.min(area.height);
    let below = Rect { y: area.y + height, height: area.height - height, ..area };
    (Rect { height, ..area }, below)
}

/// Splits an area into columns of the same width, with a gap of at least one cell.
pub fn columns<const N: usize>(area: Rect) -> [Rect; N] {
    let count = N as u16;
    let width = area.width.saturating_sub(count - 1) / count;
    let room = area.width - width * count;
    std::array::from_fn(|at| {
        let before = at as u16;
        let gaps = room * before / (count - 1).max(1);
        Rect { x: area.x + before * width + gaps, width, ..area }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn cut_text_shows_that_it_is_cut() {
        assert_eq!(cut("edge-frankfurt", 8), "edge-fr…");
        assert_eq!(cut("edge", 4), "edge");
        assert_eq!(cut("東京東京", 5), "東京…");
        assert_eq!(cut("x", 0), "");
    }

    #[test]
    fn text_is_broken_at_spaces() {
        assert_eq!(wrap("to be or not to be", 6), ["to be", "or not", "to be"]);
        assert_eq!(wrap("frankfurt is far", 5), ["fran…", "is", "far"]);
        assert!(wrap(" ", 5).is_empty());
    }

    #[test]
    fn columns_are_of_one_width_and_reach_both_edges() {
        for width in 3..200 {
            let area = Rect { x: 5, y: 0, width, height: 1 };
            let [left, right] = columns::<2>(area);
            assert_eq!((left.x, right.right()), (5, 5 + width));
            assert_eq!(left.width, right.width);
            assert!(left.right() < right.x);
        }
    }

    proptest! {
        #[test]
        fn cut_text_fits(text in any::<String>(), width in 0usize..40) {
            let text = stats::sanitize(&text);
            prop_assert!(cut(&text, width).width() <= width);
            prop_assert!(wrap(&text, width).iter().all(|line| line.width() <= width));
        }
    }
}
