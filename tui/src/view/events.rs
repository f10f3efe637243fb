//! What happened, newest first.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::table::{Cell, Column, draw_heads, draw_row, fit, seen};
use super::text::{draw_head, draw_text, split_top, title};
use super::theme::{self, DIM};
use super::{Hits, Scene};
use crate::lists;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Id {
    Clock,
    Level,
    Node,
    Text,
}

const fn column(
    id: Id,
    title: &'static str,
    width: u16,
    grow: u16,
    give_way: u8,
) -> Column<Id, ()> {
    Column { id, title, width, grow, right: false, give_way, sort: None }
}

const COLUMNS: [Column<Id, ()>; 4] = [
    column(Id::Clock, "TIME UTC", 8, 0, 2),
    column(Id::Level, "LEVEL", 8, 0, 1),
    column(Id::Node, "NODE", 12, 6, 0),
    column(Id::Text, "WHAT", 16, u16::MAX, 0),
];

/// Draws the screen.
pub(super) fn draw(buffer: &mut Buffer, area: Rect, scene: &Scene<'_>, hits: &mut Hits) {
    let of = scene.ui.events_of(scene.state);
    let events = lists::events(scene.state, scene.ui.filter(), of.as_ref());
    let (head, rest) = split_top(area, 1);
    let (heads, body) = split_top(rest, 1);
    let fitted = fit(&COLUMNS, area.width);
    draw_heads(buffer, heads, &fitted, None);
    let selected = scene.ui.position(scene.state, scene.now);
    hits.list = seen(body, events.len(), selected);
    if events.is_empty() {
        draw_text(buffer, body, "nothing happened yet", DIM);
    }
    for (at, row) in hits.list.lines() {
        let event = events[at];
        draw_row(buffer, row, &fitted, selected == Some(at), |column| match column.id {
            Id::Clock => Cell::styled(event.clock.clone(), DIM),
            Id::Level => Cell::styled(event.level.as_str(), theme::level(event.level)),
            Id::Node => Cell::plain(event.node.as_deref().unwrap_or("feed")),
            Id::Text => Cell::plain(event.text.clone()),
        });
    }
    let whose = match (of, scene.ui.opened()) {
        (Some(of), Some(opened)) if of.len() < scene.state.nodes().len() => match of.len() {
            0 | 1 => format!("events of {opened}"),
            more => format!("events of {opened} and {} below", more - 1),
        },
        _ => "events of all nodes".to_owned(),
    };
    draw_head(buffer, head, vec![title(whose)], &hits.list.place());
}
