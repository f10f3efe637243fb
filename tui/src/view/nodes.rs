//! The first screen: the tree of nodes, and below it more about the selected one.

use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Span;
use stats::UpstreamState;

use super::table::{Cell, Column, draw_heads, draw_row, fit, seen};
use super::text::{columns, draw_head, draw_text, split_top, title};
use super::theme::{self, DIM, STRONG};
use super::{Hits, Scene, graph, node};
use crate::format;
use crate::lists::NodeSort;
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
    /// Latency over the hop from the parent.
    Hop,
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
pub const COLUMNS: [Column<Id, NodeSort>; 11] = [
    Column { grow: 21, ..column(Id::Name, "NODE", 15, false, 0, Some(NodeSort::Name)) },
    column(Id::State, "STATE", 8, false, 0, Some(NodeSort::State)),
    column(Id::Viewers, "VIEWERS", 7, true, 0, Some(NodeSort::Viewers)),
    column(Id::In, "IN", 5, true, 4, Some(NodeSort::In)),
    column(Id::Out, "OUT", 5, true, 2, Some(NodeSort::Out)),
    column(Id::Drops, "DROPS/s", 7, true, 1, Some(NodeSort::Drops)),
    column(Id::Reason, "WHY", 8, false, 3, None),
    column(Id::Rtt, "RTT", 5, true, 6, None),
    column(Id::Hop, "HOP p95", 7, true, 5, Some(NodeSort::Hop)),
    column(Id::Upstream, "UPSTREAM", 9, false, 8, None),
    Column { grow: 30, ..column(Id::Spark, "OUT", 4, false, 7, None) },
];

/// Least height of the part below the table.
const DETAIL_HEIGHT: u16 = 5;
const DETAIL_MAX: u16 = 16;

/// Draws it.
pub fn draw(buffer: &mut Buffer, area: Rect, scene: &Scene<'_>, hits: &mut Hits) {
    let state = scene.state;
    let places = scene.ui.places(state, scene.now);
    let fitted = fit(&COLUMNS, area.width);
    let (heads, rest) = split_top(area, 1);
    draw_heads(buffer, heads, &fitted, Some(scene.ui.node_sort));
    let needed = places.len().max(3) as u16 + 1;
    let detail_height = rest.height.saturating_sub(needed).min(DETAIL_MAX);
    let detail_height = if detail_height < DETAIL_HEIGHT { 0 } else { detail_height };
    let (table, detail) = split_top(rest, rest.height - detail_height);
    let selected = scene.ui.nodes_position(state, &places);
    hits.list = seen(table, places.len(), selected);
    if places.is_empty() {
        draw_text(buffer, table, "no node matches the filter", DIM);
    }
    for (line, row) in hits.list.lines() {
        let place = &places[line];
        let Some(node) = state.node(&place.name) else { continue };
        draw_row(buffer, row, &fitted, selected == Some(line), |column| {
            cell(state, place, node, column.id, scene.now)
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

/// One cell of the table. A line into which others are folded speaks for all of them, but for what
/// comes from its own parent.
pub fn cell(state: &State, place: &Place, node: &Node, id: Id, now: Duration) -> Cell {
    let below = place.folded.iter().map(String::as_str);
    let folded = !place.folded.is_empty();
    let sum = state.sum(below.chain([&*place.name]), now);
    let down = node.is_down();
    match id {
        Id::Name => {
            let mut spans =
                vec![Span::styled(tree_lines(&place.branches), DIM), Span::raw(place.name.clone())];
            if folded {
                spans.push(Span::styled(format!(" +{}", place.folded.len()), STRONG));
            }
            Cell::of(spans)
        }
        Id::State if sum.level() > state.level(&place.name) => {
            Cell::styled(sum.level().as_str(), theme::level(sum.level()))
        }
        Id::State => {
            Cell::styled(state.state_word(&place.name, now), theme::level(state.level(&place.name)))
        }
        Id::Viewers if down && !folded => Cell::plain(format::UNKNOWN),
        Id::Viewers => Cell::plain(format::count(sum.viewers)),
        Id::In => Cell::plain(format::rate(node.rates(now).map(|rates| rates.bits_in))),
        Id::Out => Cell::plain(format::rate(sum.bits_out)),
        Id::Drops => Cell::plain(format::drops(sum.drops.map(|drops| drops.total()))),
        Id::Reason => match sum.drops.and_then(|drops| drops.top()) {
            Some(reason) => Cell::styled(reason.short(), theme::reason(reason)),
            None => Cell::empty(),
        },
        Id::Rtt if down => Cell::plain(format::UNKNOWN),
        Id::Rtt => Cell::plain(format::millis(node.main_upstream().and_then(|up| up.rtt_ms))),
        Id::Hop => Cell::plain(format::millis(sum.hop_p95)),
        Id::Upstream => upstream(node),
        Id::Spark => Cell::empty(),
    }
}

fn upstream(node: &Node) -> Cell {
    let Some(upstream) = node.main_upstream() else { return Cell::styled("root", DIM) };
    let level = match upstream.state {
        _ if node.is_down() => return Cell::plain(format::UNKNOWN),
        UpstreamState::Unknown => return Cell::plain(format::UNKNOWN),
        UpstreamState::Connected => Level::Ok,
        _ => Level::Warning,
    };
    Cell::styled(upstream.state.as_str(), theme::level(level))
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
    let rates = node.rates(scene.now).map(|rates| rates.drops);
    node::draw_reasons(buffer, rest, &node.snapshot().drops, rates);
}
