//! The first screen: the tree of nodes, and below it more about the selected one.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Span;
use stats::UpstreamState;

use super::table::{Cell, Column, draw_heads, draw_row, fit, seen};
use super::text::{columns, draw_head, draw_text, split_top, title};
use super::theme::{self, DIM};
use super::{Hits, Scene, graph, node};
use crate::format;
use crate::lists::{self, NodeSort};
use crate::state::State;
use crate::state::events::Level;
use crate::state::history::Fold;
use crate::state::node::Node;
use crate::state::tree::Place;

/// The columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Id {
    /// Its name, in its place in the tree.
    Name,
    /// Its state.
    State,
    /// Its viewers.
    Viewers,
    /// Bit rate in.
    In,
    /// Bit rate out.
    Out,
    /// Objects dropped a second.
    Drops,
    /// The reason for most of them.
    Reason,
    /// Round trip to the parent.
    Rtt,
    /// State of the upstream.
    Upstream,
    /// Bit rate out over the last seconds.
    Spark,
}

const fn column(
    id: Id,
    title: &'static str,
    width: u16,
    right: bool,
    give_way: u8,
    sort: Option<NodeSort>,
) -> Column<Id, NodeSort> {
    Column { id, title, width, grow: 0, right, give_way, sort }
}

/// The table of columns.
pub const COLUMNS: [Column<Id, NodeSort>; 10] = [
    Column { grow: 24, ..column(Id::Name, "NODE", 12, false, 0, Some(NodeSort::Name)) },
    column(Id::State, "STATE", 8, false, 0, Some(NodeSort::State)),
    column(Id::Viewers, "VIEWERS", 8, true, 0, Some(NodeSort::Viewers)),
    column(Id::In, "IN", 5, true, 4, Some(NodeSort::In)),
    column(Id::Out, "OUT", 5, true, 2, Some(NodeSort::Out)),
    column(Id::Drops, "DROPS/s", 8, true, 1, Some(NodeSort::Drops)),
    column(Id::Reason, "WHY", 8, false, 3, None),
    column(Id::Rtt, "RTT", 6, true, 7, None),
    Column { grow: 2, ..column(Id::Upstream, "UPSTREAM", 8, false, 5, None) },
    Column { grow: 30, ..column(Id::Spark, "OUT", 6, false, 6, None) },
];

/// Least height of the part below the table.
const DETAIL_HEIGHT: u16 = 5;
const DETAIL_MAX: u16 = 16;

/// Draws it.
pub fn draw(buffer: &mut Buffer, area: Rect, scene: &Scene<'_>, hits: &mut Hits) {
    let state = scene.state;
    let places = lists::nodes(state, scene.ui.filter(), scene.ui.node_sort, scene.now);
    let fitted = fit(&COLUMNS, area.width);
    let (heads, rest) = split_top(area, 1);
    draw_heads(buffer, heads, &fitted, Some(scene.ui.node_sort));
    let needed = places.len().max(3) as u16 + 1;
    let detail_height = rest.height.saturating_sub(needed).min(DETAIL_MAX);
    let detail_height = if detail_height < DETAIL_HEIGHT { 0 } else { detail_height };
    let (table, detail) = split_top(rest, rest.height - detail_height);
    let selected = scene.ui.position(state, scene.now);
    hits.list = seen(table, places.len(), selected);
    if places.is_empty() {
        draw_text(buffer, table, "no node matches the filter", DIM);
    }
    let has_rtt = fitted.iter().any(|(column, _)| column.id == Id::Rtt);
    for (line, row) in hits.list.lines() {
        let place = &places[line];
        let Some(node) = state.node(&place.name) else { continue };
        draw_row(buffer, row, &fitted, selected == Some(line), |column| {
            cell(state, place, node, column.id, has_rtt, scene.now)
        });
        draw_spark(buffer, row, &fitted, node, scene);
        if place.context {
            buffer.set_style(row, DIM);
        }
    }
    if let Some(node) = selected.and_then(|at| state.node(&places[at].name)) {
        draw_detail(buffer, detail, &places[selected.unwrap_or(0)].name, node, scene);
    }
}

/// One cell of the table. Where there is no column for the round trip, the upstream's shows it.
pub fn cell(
    state: &State,
    place: &Place,
    node: &Node,
    id: Id,
    has_rtt: bool,
    now: std::time::Duration,
) -> Cell {
    let rates = node.rates(now);
    let gone = node.gone_at().is_some();
    match id {
        Id::Name => {
            let branch = tree_lines(&place.branches);
            Cell::of(vec![Span::styled(branch, DIM), Span::raw(place.name.clone())])
        }
        Id::State => {
            Cell::styled(state.state_word(&place.name, now), theme::level(state.level(&place.name)))
        }
        Id::Viewers if gone => Cell::plain(format::UNKNOWN),
        Id::Viewers => Cell::plain(format::count(node.snapshot().viewers)),
        Id::In => Cell::plain(format::rate(rates.map(|rates| rates.bits_in))),
        Id::Out => Cell::plain(format::rate(rates.map(|rates| rates.bits_out))),
        Id::Drops => Cell::plain(format::drops(rates.map(|rates| rates.drops.total()))),
        Id::Reason => match rates.and_then(|rates| rates.drops.top()) {
            Some(reason) => Cell::styled(reason.short(), theme::reason(reason)),
            None => Cell::empty(),
        },
        Id::Rtt if gone => Cell::plain(format::UNKNOWN),
        Id::Rtt => Cell::plain(format::millis(node.main_upstream().and_then(|up| up.rtt_ms))),
        Id::Upstream => upstream(node, has_rtt || gone),
        Id::Spark => Cell::empty(),
    }
}

fn upstream(node: &Node, in_words: bool) -> Cell {
    let Some(upstream) = node.main_upstream() else { return Cell::styled("root", DIM) };
    if node.gone_at().is_some() {
        return Cell::plain(format::UNKNOWN);
    }
    let text = match (upstream.state, upstream.rtt_ms) {
        (UpstreamState::Connected, Some(rtt)) if !in_words => {
            format!("up {}", format::millis(Some(rtt)))
        }
        (state, _) => state.as_str().to_owned(),
    };
    let level = match upstream.state {
        UpstreamState::Connected => Level::Ok,
        UpstreamState::Unknown => return Cell::plain(format::UNKNOWN),
        _ => Level::Warning,
    };
    Cell::styled(text, theme::level(level))
}

/// The lines from a node to its parent.
pub fn tree_lines(branches: &[bool]) -> String {
    let Some((own, above)) = branches.split_last() else { return String::new() };
    let above = above.iter().map(|goes_on| if *goes_on { "│ " } else { "  " });
    above.chain([if *own { "├─" } else { "└─" }]).collect()
}

fn draw_spark(
    buffer: &mut Buffer,
    row: Rect,
    fitted: &[super::table::Fitted<'_, Id, NodeSort>],
    node: &Node,
    scene: &Scene<'_>,
) {
    let mut x = row.x;
    for (column, width) in fitted {
        if column.id == Id::Spark {
            let area = Rect { x, width: *width, ..row }.intersection(row);
            let seconds = usize::from(*width);
            let values = node::history(node, scene.now, seconds, seconds, Fold::Mean, |sample| {
                Some(sample.rates?.bits_out)
            });
            graph::draw(buffer, area, &values, graph::scale(&values), theme::OUT);
        }
        x += width + 1;
    }
}

/// Below the table: the selected node's bytes out, and why it drops.
fn draw_detail(buffer: &mut Buffer, area: Rect, name: &str, node: &Node, scene: &Scene<'_>) {
    if area.is_empty() {
        return;
    }
    let [left, right] = columns::<2>(area);
    node::draw_graph(buffer, left, &node::Graph::out(&format!("{name} out")), node, scene);
    let (head, rest) = split_top(right, 1);
    draw_head(buffer, head, vec![title(format!("{name} drops"))], "objects/s, ever");
    node::draw_reasons(buffer, rest, node, scene);
}
