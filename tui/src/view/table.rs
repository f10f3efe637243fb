//! Tables whose columns give way when the terminal is narrow.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::text::{cut, draw};
use super::theme::{DIM, SELECTED, STRONG};
use crate::lists::Sort;

/// One column of a table.
#[derive(Debug, Clone, Copy)]
pub struct Column<Id, Key> {
    /// Which.
    pub id: Id,
    /// Its head.
    pub title: &'static str,
    /// Least width in cells.
    pub width: u16,
    /// Cells that it takes beyond its width when there is room.
    pub grow: u16,
    /// Figures stand at the right.
    pub right: bool,
    /// When it gives way: the highest goes first, 0 never does.
    pub give_way: u8,
    /// What sorts by it.
    pub sort: Option<Key>,
}

/// A column with the width that it got.
pub type Fitted<'a, Id, Key> = (&'a Column<Id, Key>, u16);

/// Chooses columns for a width: those that give way go, what is left over goes to those that grow.
pub fn fit<Id, Key>(columns: &[Column<Id, Key>], width: u16) -> Vec<Fitted<'_, Id, Key>> {
    let mut shown: Vec<Fitted<'_, Id, Key>> = columns.iter().map(|it| (it, it.width)).collect();
    let needed = |shown: &[Fitted<'_, Id, Key>]| {
        shown.iter().map(|(_, width)| width + 1).sum::<u16>().saturating_sub(1)
    };
    while needed(&shown) > width {
        let last = shown.iter().enumerate().max_by_key(|(at, (column, _))| (column.give_way, *at));
        match last {
            Some((at, (column, _))) if column.give_way > 0 => drop(shown.remove(at)),
            _ => break,
        }
    }
    let mut left = width.saturating_sub(needed(&shown));
    let grown = shown.iter().map(|(column, _)| column.grow).collect::<Vec<_>>();
    // Cell by cell, so that columns grow evenly.
    let rounds = grown.iter().copied().max().unwrap_or(0).min(left);
    for round in 0..rounds {
        for ((_, width), grow) in shown.iter_mut().zip(&grown) {
            if left > 0 && round < *grow {
                *width += 1;
                left -= 1;
            }
        }
    }
    shown
}

/// The content of a cell.
pub struct Cell {
    spans: Vec<Span<'static>>,
}

impl Cell {
    /// Text in a style.
    pub fn styled(text: impl Into<String>, style: Style) -> Self {
        Self { spans: vec![Span::styled(text.into(), style)] }
    }

    /// Plain text.
    pub fn plain(text: impl Into<String>) -> Self {
        Self::styled(text, Style::new())
    }

    /// Nothing.
    pub const fn empty() -> Self {
        Self { spans: Vec::new() }
    }

    /// Several pieces.
    pub const fn of(spans: Vec<Span<'static>>) -> Self {
        Self { spans }
    }

    /// The text without its style.
    pub fn text(&self) -> String {
        self.spans.iter().map(|span| &*span.content).collect()
    }

    /// As a line of at most `width` cells.
    fn line(self, width: usize, right: bool) -> Line<'static> {
        let mut left = width;
        let mut line = Line::default();
        for span in self.spans {
            let text = cut(&span.content, left);
            let piece = Span::styled(text, span.style);
            left -= piece.width();
            line.spans.push(piece);
        }
        if right {
            line.spans.insert(0, Span::raw(" ".repeat(left)));
        }
        line
    }
}

/// Which lines of a list are seen, so that a click finds its line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Where the lines are.
    pub area: Rect,
    /// The first line.
    pub first: usize,
    /// How many lines there are in all.
    pub len: usize,
}

/// The lines of a list to draw, so that the selected one is seen.
pub fn seen(area: Rect, len: usize, selected: Option<usize>) -> Seen {
    let height = usize::from(area.height);
    let wanted = selected.unwrap_or(0).saturating_sub(height / 2);
    Seen { area, first: wanted.min(len.saturating_sub(height)), len }
}

impl Seen {
    /// The lines and where each is drawn.
    pub fn lines(self) -> impl Iterator<Item = (usize, Rect)> {
        (self.first..self.len).zip(super::text::rows(self.area))
    }

    /// Where in the list one is: `12-20 of 300`, nothing when all is seen.
    pub fn place(self) -> String {
        let height = usize::from(self.area.height);
        if self.len <= height || height == 0 {
            return String::new();
        }
        let last = (self.first + height).min(self.len);
        format!("{}-{last} of {}", self.first + 1, self.len)
    }
}

/// Draws the heads of the columns.
pub fn draw_heads<Id, Key: PartialEq + Copy>(
    buffer: &mut Buffer,
    area: Rect,
    columns: &[Fitted<'_, Id, Key>],
    sort: Option<Sort<Key>>,
) {
    draw_cells(buffer, area, columns, |column| Cell::styled(column.title, DIM));
    // The mark may stand in the gap before a column that its title fills.
    let mut x = area.x;
    for (column, width) in columns {
        let sorted = sort.filter(|sort| column.sort == Some(sort.key));
        if let Some(sort) = sorted {
            // Natural is largest first, or names from A.
            let mark = if sort.reversed { "▲" } else { "▼" };
            let gap = u16::from(column.right && x > area.x);
            let at = Rect { x: x - gap, width: width + gap, ..area }.intersection(area);
            let cell = Cell::styled(format!("{mark}{}", column.title), STRONG);
            draw(buffer, at, &cell.line(usize::from(at.width), column.right));
        }
        x = x.saturating_add(width + 1);
    }
}

/// Draws one line of a table.
pub fn draw_row<Id, Key>(
    buffer: &mut Buffer,
    area: Rect,
    columns: &[Fitted<'_, Id, Key>],
    selected: bool,
    cell: impl Fn(&Column<Id, Key>) -> Cell,
) {
    draw_cells(buffer, area, columns, cell);
    if selected {
        buffer.set_style(area.intersection(buffer.area), SELECTED);
    }
}

fn draw_cells<Id, Key>(
    buffer: &mut Buffer,
    area: Rect,
    columns: &[Fitted<'_, Id, Key>],
    cell: impl Fn(&Column<Id, Key>) -> Cell,
) {
    let mut x = area.x;
    for (column, width) in columns {
        let at = Rect { x, width: *width, ..area }.intersection(area);
        let line = cell(column).line(usize::from(at.width), column.right);
        draw(buffer, at, &line);
        x = x.saturating_add(width + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn column(id: char, width: u16, grow: u16, give_way: u8) -> Column<char, ()> {
        Column { id, title: "", width, grow, right: false, give_way, sort: None }
    }

    fn fitted(width: u16) -> String {
        let columns = [column('a', 4, 3, 0), column('b', 3, 0, 2), column('c', 5, 10, 1)];
        fit(&columns, width).iter().map(|(it, width)| format!("{}{width}", it.id)).collect()
    }

    #[test]
    fn columns_give_way_in_their_order() {
        assert_eq!(fitted(14), "a4b3c5");
        assert_eq!(fitted(13), "a6c6");
        assert_eq!(fitted(9), "a7");
        assert_eq!(fitted(1), "a4");
    }

    #[test]
    fn room_goes_to_those_that_grow() {
        assert_eq!(fitted(16), "a5b3c6");
        assert_eq!(fitted(300), "a7b3c15");
    }

    #[test]
    fn the_selected_line_is_always_seen() {
        for height in 1..6 {
            for len in 1..12 {
                for selected in 0..len {
                    let seen = seen(Rect::new(0, 0, 9, height), len, Some(selected));
                    assert!(seen.lines().any(|(line, _)| line == selected));
                    assert!(seen.lines().count() == len.min(usize::from(height)));
                }
            }
        }
    }
}
