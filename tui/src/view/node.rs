//! One node: history, why it drops, its upstreams, tracks and sessions.

use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use stats::rates::DropRates;
use stats::{DropReason, Drops, NodeSnapshot, UpstreamState};
use unicode_width::UnicodeWidthStr;

use super::text::{columns, cut, draw_head, draw_text, rows, split_top, title};
use super::theme::{self, DIM, SELECTED, STRONG};
use super::{Hits, Scene, graph, text, track, viewers};
use crate::format;
use crate::lists;
use crate::state::events::Level;
use crate::state::history::{Fold, Sample};
use crate::state::node::{Node, served};
use crate::ui::{Pane, Screen};

/// Least height of the lists at the bottom.
const LISTS_HEIGHT: u16 = 5;
/// Lines that a graph takes, with its head.
const GRAPH_MIN: u16 = 3;
const GRAPH_MAX: u16 = 8;
/// Warnings that are shown with what to do, where there is room.
const MAX_WARNINGS: usize = 3;

/// Draws it.
pub(super) fn draw(buffer: &mut Buffer, area: Rect, scene: &Scene<'_>, hits: &mut Hits) {
    let Some((name, node)) = scene.ui.node(scene.state, scene.now) else {
        let text = match scene.ui.opened() {
            Some(name) => format!("{name} is not in the feed any more"),
            None => "no node is known".to_owned(),
        };
        draw_text(buffer, area, &text, DIM);
        return;
    };
    let rest = draw_about(buffer, area, name, node, scene);
    let drops = &node.snapshot().drops;
    let reasons = DropReason::ALL.into_iter().filter(|it| !drops[*it].is_zero()).count();
    let why_height = (reasons.max(node.snapshot().upstream.len()).clamp(1, 6) + 1) as u16;
    let for_graphs = rest.height.saturating_sub(why_height + LISTS_HEIGHT);
    let each = (for_graphs / 2).min(GRAPH_MAX);
    let (graphs, rest) = split_top(rest, if each < GRAPH_MIN { 0 } else { each * 2 });
    draw_graphs(buffer, graphs, node, scene);
    // On a very low terminal the lists are more worth than the reasons.
    let why_height = if rest.height < why_height + LISTS_HEIGHT { 0 } else { why_height };
    let (why, lists) = split_top(rest, why_height);
    draw_why(buffer, why, node, scene);
    draw_lists(buffer, lists, node, scene, hits);
}

/// What it is, and the worst that is wrong with it. Returns what is left.
fn draw_about(buffer: &mut Buffer, area: Rect, name: &str, node: &Node, scene: &Scene<'_>) -> Rect {
    let snapshot = node.snapshot();
    let mut spans = vec![Span::styled(name.to_owned(), STRONG)];
    if let Some(parent) = &snapshot.parent {
        spans.push(Span::styled(format!(" ‹ {parent}"), DIM));
    }
    let level = scene.state.level(name);
    spans.push(Span::styled(
        format!("  {}", scene.state.state_word(name, scene.now)),
        theme::level(level),
    ));
    let version = if snapshot.version.is_empty() { format::UNKNOWN } else { &snapshot.version };
    spans.push(Span::raw(format!(
        "  up {}  version {version}  in {}  out {}",
        format::duration(snapshot.uptime_s),
        format::bytes(Some(snapshot.bytes_in)),
        format::bytes(Some(snapshot.bytes_out)),
    )));
    let (first, rest) = split_top(area, 1);
    text::draw(buffer, first, &Line::from(spans));
    let found: Vec<_> =
        scene.state.warnings().iter().filter(|warning| warning.node == name).collect();
    let mut rest = rest;
    let facts = facts(snapshot, scene, usize::from(area.width));
    if rest.height > 12 && !facts.spans.is_empty() {
        let (line, below) = split_top(rest, 1);
        text::draw(buffer, line, &facts);
        rest = below;
    }
    // Where there is room for one only, the worst.
    let room = if rest.height > 30 { MAX_WARNINGS } else { 1 };
    for (at, warning) in found.iter().take(room).enumerate() {
        let (shown, below) = split_top(rest, if rest.height > 12 { 2 } else { 0 });
        rest = below;
        let more = match found.len() - at - 1 {
            more if more > 0 && at + 1 == room => format!(" (+{more} more: w)"),
            _ => String::new(),
        };
        let level =
            Span::styled(format!("{}: ", warning.level.as_str()), theme::level(warning.level));
        let lines = [
            Line::from(vec![level, Span::raw(warning.text.as_str()), Span::styled(more, DIM)]),
            Line::styled(cut(&format!("  {}", warning.advice), usize::from(shown.width)), DIM),
        ];
        for (line, row) in lines.iter().zip(rows(shown)) {
            text::draw(buffer, row, line);
        }
    }
    rest
}

/// What only some nodes can say: as much of it as is known.
fn facts(snapshot: &NodeSnapshot, scene: &Scene<'_>, width: usize) -> Line<'static> {
    let mut facts = Vec::new();
    if let Some(seen) = &snapshot.seen {
        let latency = seen.latency_ms.map_or("latency -".to_owned(), |it| {
            let error = seen.latency_error_ms.map(|e| format!(" ±{}", format::millis(Some(e))));
            let (p50, p95) = (format::millis(Some(it.p50)), format::millis(Some(it.p95)));
            format!("latency {p50} p95 {p95}{}", error.unwrap_or_default())
        });
        facts.push(format!(
            "{} saw: {latency}, join {}, {}, {} lost",
            format::counted(seen.viewers, "viewer"),
            format::millis(seen.join_ms),
            format::counted(seen.stalls, "stall"),
            format::counted(seen.frames_dropped, "frame"),
        ));
    }
    if let Some(offset) = snapshot.clock_offset_ms {
        let sign = if offset < 0.0 { "-" } else { "+" };
        let error =
            snapshot.clock_error_ms.map(|error| format!("±{}", format::millis(Some(error))));
        let offset = format::millis(Some(offset.abs()));
        facts.push(format!("clock {sign}{offset}{}", error.unwrap_or_default()));
    }
    if let Some(end) = snapshot.certificate_expires {
        let left = end.as_second().saturating_sub(scene.state.unix_s()).max(0);
        facts.push(format!("certificate {}", format::duration(left as f64)));
    }
    if let Some(buffers) = snapshot.udp_buffers {
        let least = buffers.receive.min(buffers.send);
        facts.push(format!("socket buffers {}", format::bytes(Some(least))));
    }
    // A fact that has no room is left out whole.
    let mut line = Line::default();
    for fact in facts {
        let between = if line.spans.is_empty() { "" } else { " · " };
        if line.width() + between.width() + fact.width() <= width {
            line.spans.extend([Span::styled(between, DIM), Span::raw(fact)]);
        }
    }
    line
}

/// What a graph shows.
pub(super) struct Graph<'a> {
    title: &'a str,
    style: Style,
    fold: Fold,
    value: fn(&Sample) -> Option<f64>,
    format: fn(Option<f64>) -> String,
}

impl<'a> Graph<'a> {
    /// Bits received per second.
    pub(super) const fn incoming(title: &'a str) -> Self {
        Self {
            title,
            style: theme::IN,
            fold: Fold::Mean,
            value: |sample| Some(sample.rates?.bits_in),
            format: format::bits,
        }
    }

    /// Bits sent per second.
    pub(super) const fn out(title: &'a str) -> Self {
        Self {
            title,
            style: theme::OUT,
            fold: Fold::Mean,
            value: |sample| Some(sample.rates?.bits_out),
            format: format::bits,
        }
    }

    const fn viewers(title: &'a str) -> Self {
        Self {
            title,
            style: theme::VIEWERS,
            fold: Fold::Max,
            value: |sample| Some(sample.viewers as f64),
            format: format::rate,
        }
    }

    const fn drops(title: &'a str) -> Self {
        Self {
            title,
            style: theme::level(Level::Warning),
            fold: Fold::Max,
            value: |sample| Some(sample.rates?.drops.total()),
            format: format::drops,
        }
    }
}

/// A node's history as columns of a graph.
pub(super) fn history(
    node: &Node,
    now: Duration,
    width: usize,
    seconds: usize,
    fold: Fold,
    value: impl Fn(&Sample) -> Option<f64>,
) -> Vec<Option<f64>> {
    // The second that is under way is not missing yet.
    let silent = node.silent_for(now).as_secs_f64() - 0.5;
    node.history.columns(width, seconds, silent.max(0.0) as usize, fold, value)
}

/// Draws a graph under a head with the present value.
pub(super) fn draw_graph(
    buffer: &mut Buffer,
    area: Rect,
    what: &Graph<'_>,
    node: &Node,
    scene: &Scene<'_>,
) {
    let (head, body) = split_top(area, 1);
    let width = usize::from(body.width);
    // Whole seconds to a column, so it is about as long as was asked for.
    let per_column = (scene.ui.window_s as f64 / width.max(1) as f64).round().max(1.0);
    let seconds = per_column as usize * width;
    let values = history(node, scene.now, width, seconds, what.fold, what.value);
    let top = graph::scale(&values);
    graph::draw(buffer, body, &values, top, what.style);
    // The same figure as in the table.
    let sample = Sample { viewers: node.snapshot().viewers, rates: node.rates(scene.now) };
    let known = Some(sample).filter(|_| !node.is_down());
    let text = (what.format)(known.and_then(|sample| (what.value)(&sample)));
    let now = Span::styled(format!(" {text}"), what.style);
    let remark = format!("0..{} {}", format::round(top), format::duration(seconds as f64));
    draw_head(buffer, head, vec![title(what.title), now], &remark);
}

fn draw_graphs(buffer: &mut Buffer, area: Rect, node: &Node, scene: &Scene<'_>) {
    if area.is_empty() {
        return;
    }
    let (above, below) = split_top(area, area.height / 2);
    let [incoming, out] = columns::<2>(above);
    let [viewers, drops] = columns::<2>(below);
    draw_graph(buffer, incoming, &Graph::incoming("in"), node, scene);
    draw_graph(buffer, out, &Graph::out("out"), node, scene);
    draw_graph(buffer, viewers, &Graph::viewers("viewers"), node, scene);
    draw_graph(buffer, drops, &Graph::drops("drops/s"), node, scene);
}

fn draw_why(buffer: &mut Buffer, area: Rect, node: &Node, scene: &Scene<'_>) {
    if area.is_empty() {
        return;
    }
    let [left, right] = columns::<2>(area);
    let (head, body) = split_top(left, 1);
    draw_head(buffer, head, vec![title("why dropped")], "objects/s, ever");
    let rates = node.rates(scene.now).map(|rates| rates.drops);
    draw_reasons(buffer, body, &node.snapshot().drops, rates);
    let (head, body) = split_top(right, 1);
    draw_head(buffer, head, vec![title("upstream")], "");
    draw_upstreams(buffer, body, node);
}

/// A bar for each reason that ever occurred: its share of all objects dropped, how many a second now
/// and how many ever.
pub(super) fn draw_reasons(
    buffer: &mut Buffer,
    area: Rect,
    drops: &Drops,
    rates: Option<DropRates>,
) {
    let total = drops.total().objects.max(1) as f64;
    let mut reasons: Vec<_> =
        DropReason::ALL.into_iter().filter(|it| !drops[*it].is_zero()).collect();
    if reasons.is_empty() {
        draw_text(buffer, area, "nothing dropped", DIM);
    }
    // If not all have room, the ones that matter.
    let weight =
        |reason: DropReason| (rates.map_or(0.0, |it| it.of(reason)), drops[reason].objects);
    if reasons.len() > usize::from(area.height) {
        reasons.sort_by(|a, b| {
            weight(*b).partial_cmp(&weight(*a)).unwrap_or(std::cmp::Ordering::Equal)
        });
    }
    for (reason, row) in reasons.into_iter().zip(rows(area)) {
        let style = theme::reason(reason);
        let objects = drops[reason].objects;
        let rate = format::drops(rates.map(|rates| rates.of(reason)));
        let figures = format!("{rate:>5} {:>6}", format::count(objects));
        let name = format!("{reason:<16} ");
        let room = usize::from(row.width).saturating_sub(name.len() + figures.len() + 1);
        let bar = graph::bar(objects as f64 / total, room);
        text::draw(
            buffer,
            row,
            &Line::from(vec![Span::styled(name, style), Span::styled(bar, style)]),
        );
        text::draw_right(buffer, row, &Line::raw(figures));
    }
}

fn draw_upstreams(buffer: &mut Buffer, area: Rect, node: &Node) {
    let upstreams = &node.snapshot().upstream;
    if upstreams.is_empty() {
        draw_text(buffer, area, "none: this node is a root", DIM);
    }
    for (upstream, row) in upstreams.iter().zip(rows(area)) {
        let style = match upstream.state {
            UpstreamState::Connected => theme::level(Level::Ok),
            UpstreamState::Standby | UpstreamState::Unknown => DIM,
            _ => theme::level(Level::Warning),
        };
        let figure = match (&upstream.error, upstream.state) {
            (_, UpstreamState::Connected) => format::millis(upstream.rtt_ms),
            (Some(error), _) => error.clone(),
            (None, _) => String::new(),
        };
        let state = upstream.state.as_str();
        // The address gives way to the reason.
        let room = usize::from(row.width).saturating_sub(state.len() + 2 + figure.chars().count());
        text::draw(
            buffer,
            row,
            &Line::from(vec![
                Span::styled(state, style),
                Span::raw(format!(" {} ", cut(&upstream.url, room.max(12)))),
                Span::raw(figure),
            ]),
        );
    }
}

fn draw_lists(buffer: &mut Buffer, area: Rect, node: &Node, scene: &Scene<'_>, hits: &mut Hits) {
    if area.is_empty() {
        return;
    }
    let snapshot = node.snapshot();
    let (head, body) = split_top(area, 1);
    let on_screen = scene.ui.screen == Screen::Node;
    let tab = |pane: Pane, text: String| {
        let style = if on_screen && scene.ui.pane == pane { SELECTED } else { Style::new() };
        Span::styled(format!(" {text} "), style)
    };
    let served = served(snapshot);
    let listed = snapshot.sessions.len() as u64;
    let sessions = match served > listed {
        true => format!("sessions: the worst {listed} of {}", format::count(served)),
        false => format!("sessions {listed}"),
    };
    let tracks = match snapshot.tracks_total {
        Some(total) => format!("tracks: the busiest {} of {total}", snapshot.tracks.len()),
        None => format!("tracks {}", snapshot.tracks.len()),
    };
    let heads = vec![tab(Pane::Tracks, tracks), tab(Pane::Sessions, sessions)];
    match scene.ui.pane {
        Pane::Tracks => {
            let lines = lists::tracks(node, scene.ui.filter(), scene.now);
            track::draw_tracks(buffer, body, &lines, scene, hits);
        }
        Pane::Sessions => {
            let lines = lists::sessions(node, scene.ui.filter(), scene.ui.session_sort, scene.now);
            viewers::draw_sessions(buffer, body, &lines, scene, hits);
        }
    }
    draw_head(buffer, head, heads, &hits.list.place());
}
