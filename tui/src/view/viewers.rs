//! The sessions of one node: who is behind, and by how much.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::table::{Cell, Column, draw_heads, draw_row, fit, seen};
use super::text::{draw_head, draw_text, split_top, title};
use super::theme::{self, DIM};
use super::{Hits, Scene};
use crate::format;
use crate::lists::{self, SessionLine, SessionSort};
use crate::state::events::Level;
use crate::state::node::{BEHIND_MS, served};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Id {
    Remote,
    Kind,
    Transport,
    Protocol,
    Rate,
    Behind,
    Queue,
    DropRate,
    Reason,
    Dropped,
    Rtt,
    Age,
}

const fn column(
    id: Id,
    title: &'static str,
    width: u16,
    give_way: u8,
    sort: Option<SessionSort>,
) -> Column<Id, SessionSort> {
    let right = !matches!(id, Id::Remote | Id::Kind | Id::Transport | Id::Protocol | Id::Reason);
    Column { id, title, width, grow: 0, right, give_way, sort }
}

const COLUMNS: [Column<Id, SessionSort>; 12] = [
    Column { grow: 26, ..column(Id::Remote, "REMOTE", 21, 0, Some(SessionSort::Remote)) },
    column(Id::Kind, "KIND", 9, 5, None),
    column(Id::Transport, "TRANSPORT", 12, 9, None),
    column(Id::Protocol, "VERSION", 8, 10, None),
    column(Id::Rate, "RATE", 6, 0, Some(SessionSort::Rate)),
    column(Id::Behind, "BEHIND", 6, 0, Some(SessionSort::Behind)),
    column(Id::Queue, "QUEUE", 6, 6, Some(SessionSort::Queue)),
    column(Id::DropRate, "DROPS/s", 7, 1, Some(SessionSort::Drops)),
    column(Id::Reason, "WHY", 8, 2, None),
    column(Id::Dropped, "EVER", 6, 7, None),
    column(Id::Rtt, "RTT", 5, 3, Some(SessionSort::Rtt)),
    column(Id::Age, "AGE", 6, 8, Some(SessionSort::Age)),
];

/// Draws the screen.
pub(super) fn draw(buffer: &mut Buffer, area: Rect, scene: &Scene<'_>, hits: &mut Hits) {
    let (head, body) = split_top(area, 1);
    let Some((name, node)) = scene.ui.node(scene.state, scene.now) else {
        draw_text(buffer, area, "that node is not in the feed any more", DIM);
        return;
    };
    let lines = lists::sessions(node, scene.ui.filter(), scene.ui.session_sort, scene.now);
    draw_sessions(buffer, body, &lines, scene, hits);
    let snapshot = node.snapshot();
    let served = served(snapshot);
    let listed = snapshot.sessions.len() as u64;
    let part = match served > listed {
        true => format!("; listed are the worst {listed}"),
        false => String::new(),
    };
    let text = format!(
        "{name}: {}, {}, {}{part}",
        format::counted(snapshot.viewers, "viewer"),
        format::counted(snapshot.relays, "relay"),
        format::counted(snapshot.publishers, "publisher"),
    );
    draw_head(buffer, head, vec![title(text)], &hits.list.place());
}

/// Draws a table of sessions with its heads.
pub(super) fn draw_sessions(
    buffer: &mut Buffer,
    area: Rect,
    lines: &[SessionLine<'_>],
    scene: &Scene<'_>,
    hits: &mut Hits,
) {
    let (heads, body) = split_top(area, 1);
    let fitted = fit(&COLUMNS, area.width);
    draw_heads(buffer, heads, &fitted, Some(scene.ui.session_sort));
    let selected = scene.ui.position(scene.state, scene.now);
    hits.list = seen(body, lines.len(), selected);
    if lines.is_empty() {
        draw_text(buffer, body, "no sessions", DIM);
    }
    for (at, row) in hits.list.lines() {
        let line = &lines[at];
        draw_row(buffer, row, &fitted, selected == Some(at), |column| cell(line, column.id));
    }
}

fn cell(line: &SessionLine<'_>, id: Id) -> Cell {
    let session = line.session;
    let drops = line.rates.map(|rates| rates.drops);
    match id {
        Id::Remote => Cell::plain(match &session.name {
            // Relays and publishers behind one NAT have one address.
            Some(name) => format!("{name} {}", session.remote),
            None => session.remote.clone(),
        }),
        Id::Kind => Cell::plain(session.kind.as_str()),
        Id::Transport => Cell::plain(session.transport.as_str()),
        Id::Protocol => Cell::plain(session.protocol.clone()),
        Id::Rate => Cell::plain(format::rate(line.rates.map(|rates| rates.bits_out))),
        Id::Behind => {
            let far = session.behind_ms.is_some_and(|ms| ms >= BEHIND_MS);
            let style = if far { theme::level(Level::Warning) } else { Style::new() };
            Cell::styled(format::millis(session.behind_ms.map(|ms| ms as f64)), style)
        }
        Id::Queue => Cell::plain(format::rate(session.queued_bytes.map(|bytes| bytes as f64))),
        Id::DropRate => Cell::plain(format::drops(drops.map(|drops| drops.total()))),
        Id::Reason => {
            // What is dropped now, else what was dropped most.
            let ever = session.drops.iter().filter(|(_, counts)| counts.objects > 0);
            let most = ever.max_by_key(|(_, counts)| counts.objects).map(|(reason, _)| reason);
            match drops.and_then(|drops| drops.top()) {
                Some(now) => Cell::styled(now.short(), theme::reason(now)),
                None => most.map_or_else(Cell::empty, |most| Cell::styled(most.short(), DIM)),
            }
        }
        Id::Dropped => Cell::plain(format::count(session.drops.total().objects)),
        Id::Rtt => Cell::plain(format::millis(session.rtt_ms)),
        Id::Age => Cell::plain(session.age_s.map_or(format::UNKNOWN.to_owned(), format::duration)),
    }
}
