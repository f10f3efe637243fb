//! What lies over a screen: the keys, or all warnings.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Clear, Widget};
use stats::DropReason;

use super::Scene;
use super::text::{draw, draw_head, rows, split_top, title, wrap};
use super::theme::{self, DIM, STRONG};
use crate::keymap::{self, Scope};
use crate::ui::Overlay;

/// Draws one over the whole body: small terminals have no room for windows.
pub(super) fn draw_overlay(buffer: &mut Buffer, area: Rect, scene: &Scene<'_>, kind: Overlay) {
    Clear.render(area.intersection(buffer.area), buffer);
    let (name, lines) = match kind {
        Overlay::Help => ("help", help(scene)),
        Overlay::Warnings => ("warnings", warnings(scene, usize::from(area.width))),
    };
    let (head, body) = split_top(area, 1);
    let height = usize::from(body.height);
    let first = scene.ui.overlay_top.min(lines.len().saturating_sub(height));
    let last = (first + height).min(lines.len());
    let place = if lines.len() > height {
        format!("{}-{last} of {}", first + 1, lines.len())
    } else {
        "Esc closes".to_owned()
    };
    draw_head(buffer, head, vec![title(name)], &place);
    for (line, row) in lines.iter().skip(first).zip(rows(body)) {
        draw(buffer, row, line);
    }
}

fn help(scene: &Scene<'_>) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    let mut section = |name: &str, of: &mut dyn Iterator<Item = &keymap::Binding>| {
        lines.push(Line::styled(name.to_owned(), STRONG));
        for binding in of {
            let keys: Vec<String> = binding.keys.iter().map(ToString::to_string).collect();
            lines.push(Line::raw(format!("  {:<16} {}", keys.join(" "), binding.help)));
        }
    };
    let here = |binding: &&keymap::Binding| matches!(binding.scope, Scope::On(_));
    let screen = scene.ui.screen;
    section(
        &format!("On the {} screen", screen.title()),
        &mut keymap::bindings(screen, false).filter(here),
    );
    section("Everywhere", &mut keymap::bindings(screen, false).filter(|it| !here(it)));
    section("While typing a filter", &mut keymap::bindings(screen, true));
    lines.push(Line::styled("Mouse", STRONG));
    lines.push(Line::raw(
        "  click selects, a second click opens, the wheel moves; Shift: terminal's own selection",
    ));
    lines.push(Line::styled("Why objects are dropped", STRONG));
    for reason in DropReason::ALL {
        lines.push(Line::from(vec![
            Span::styled(format!("  {reason:<16} "), theme::reason(reason)),
            Span::styled(format!("{:<9}", reason.short()), DIM),
            Span::raw(reason.description()),
        ]));
    }
    lines.push(Line::styled("Figures", STRONG));
    for text in [
        "  rates are bits a second of media payload, over the last three seconds; - is unknown",
        "  behind, of a viewer: age of the oldest object that waits for it",
        "  hop: from an object's arrival at the parent to its arrival here, of a hundred objects 95",
        "  latency: from capture to arrival at a node, ± what the clocks may be wrong; gap: from one",
        "  object to the next; behind, of a node: groups that a node has not seen and another has",
        "  a line with +N speaks for the N nodes folded into it, too",
    ] {
        lines.push(Line::raw(text));
    }
    lines
}

fn warnings(scene: &Scene<'_>, width: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for warning in scene.state.warnings() {
        let level = warning.level.as_str();
        let mut head = vec![
            Span::styled(format!("{level}: "), theme::level(warning.level)),
            Span::styled(warning.node.clone(), STRONG),
        ];
        let taken: usize = head.iter().map(Span::width).sum();
        let mut texts = wrap(&warning.text, width.saturating_sub(taken + 1)).into_iter();
        head.push(Span::raw(format!(" {}", texts.next().unwrap_or_default())));
        lines.push(Line::from(head));
        lines.extend(texts.map(|text| Line::raw(format!("  {text}"))));
        let advice = wrap(warning.advice, width.saturating_sub(2));
        lines.extend(advice.into_iter().map(|text| Line::styled(format!("  {text}"), DIM)));
    }
    if lines.is_empty() {
        lines.push(Line::styled("nothing is wrong", theme::level(crate::state::events::Level::Ok)));
    }
    lines
}
