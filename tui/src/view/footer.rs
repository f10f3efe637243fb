//! The last line: what keys do here, from the key table.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

use super::text::{draw, draw_right, draw_text};
use super::theme::{DIM, SELECTED, STRONG};
use super::{Hits, Scene};
use crate::format;
use crate::keymap;

/// Draws it.
pub(super) fn draw_footer(buffer: &mut Buffer, area: Rect, scene: &Scene<'_>, hits: &mut Hits) {
    let ui = scene.ui;
    let mut left = area;
    if ui.typing {
        let text = format!("filter: {}_ ", ui.filter());
        let width = draw_text(buffer, left, &text, STRONG);
        left = Rect { x: left.x + width, width: left.width - width, ..left };
    }
    let mut marks = Vec::new();
    if !ui.typing && !ui.filter().is_empty() {
        marks.push(Span::styled(format!(" filter: {} ", ui.filter()), SELECTED));
    }
    if let Some(paused) = &ui.paused {
        let age = format::age(scene.live_now.saturating_sub(paused.at));
        marks.push(Span::styled(format!(" PAUSED {age} "), SELECTED));
    }
    let marks = Line::from(marks);
    let room = usize::from(left.width).saturating_sub(marks.width());
    draw_right(buffer, left, &marks);
    left.width = room as u16;
    for binding in keymap::bindings(ui.screen, ui.typing).filter(|it| !it.hint.is_empty()) {
        let Some(key) = binding.keys.first() else { continue };
        let key = key.to_string();
        let width = (key.width() + 1 + binding.hint.width()) as u16;
        // A shorter hint further on may still fit: help and quit are short.
        if width > left.width {
            continue;
        }
        let line = Line::from(vec![
            Span::styled(key, STRONG),
            Span::raw(" "),
            Span::styled(binding.hint, DIM),
        ]);
        draw(buffer, left, &line);
        hits.actions.push((Rect { width, ..left }, binding.action));
        let taken = (width + 2).min(left.width);
        left = Rect { x: left.x + taken, width: left.width - taken, ..left };
    }
}
