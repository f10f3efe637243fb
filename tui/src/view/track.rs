//! A track's way through the tree: where it stops, where it gets late, and how much of it is sent.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use stats::{GroupSnapshot, TrackSnapshot};

use super::nodes::tree_lines;
use super::table::{Cell, Column, draw_heads, draw_row, fit, seen};
use super::text::{self, columns, draw_head, draw_text, rows, split_top, title};
use super::theme::{self, DIM};
use super::{Hits, Scene, graph, node};
use crate::format;
use crate::lists::{self, TrackLine};
use crate::state::events::Level;
use crate::state::node::Node;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Id {
    Name,
    Subscribers,
    In,
    Out,
    Largest,
    Lag,
    State,
    Hop,
    HopP95,
    Latency,
    Gap,
    GapP95,
    Group,
    Drops,
}

const fn column(
    id: Id,
    title: &'static str,
    width: u16,
    grow: u16,
    give_way: u8,
) -> Column<Id, ()> {
    let right = !matches!(id, Id::Name | Id::State);
    Column { id, title, width, grow, right, give_way, sort: None }
}

const TRACKS: [Column<Id, ()>; 7] = [
    column(Id::Name, "TRACK", 20, 60, 0),
    column(Id::Subscribers, "SUBSCRIBERS", 11, 0, 2),
    column(Id::In, "IN", 6, 0, 1),
    column(Id::Out, "OUT", 6, 0, 0),
    column(Id::Drops, "DROPS/s", 7, 0, 4),
    column(Id::Group, "GROUPS", 6, 0, 5),
    column(Id::Largest, "GROUP/OBJECT", LOCATION as u16, 0, 3),
];

const PATH: [Column<Id, ()>; 12] = [
    column(Id::Name, "NODE", 12, 24, 0),
    column(Id::State, "STATE", 8, 0, 0),
    column(Id::Subscribers, "SUBS", 5, 0, 3),
    column(Id::In, "IN", 5, 0, 6),
    column(Id::Out, "OUT", 5, 0, 4),
    column(Id::Lag, "BEHIND", 8, 0, 0),
    column(Id::Hop, "HOP", 6, 0, 1),
    column(Id::HopP95, "p95", 6, 0, 1),
    column(Id::Latency, "LATENCY", 11, 0, 2),
    column(Id::Gap, "GAP", 5, 0, 5),
    column(Id::GapP95, "p95", 5, 0, 5),
    column(Id::Largest, "GROUP/OBJECT", LOCATION as u16, 0, 7),
];

/// Width of a location.
const LOCATION: usize = 14;
/// Least height of the part below the path, and its most.
const DETAIL_HEIGHT: u16 = 4;
const DETAIL_MAX: u16 = stats::MAX_GROUPS as u16 + 1;

/// Draws the screen: each node that knows the track, under the one it gets it from.
pub(super) fn draw(buffer: &mut Buffer, area: Rect, scene: &Scene<'_>, hits: &mut Hits) {
    let (head, rest) = split_top(area, 1);
    let Some(name) = scene.ui.track(scene.state, scene.now) else {
        draw_head(buffer, head, vec![title("track")], "");
        draw_text(buffer, rest, "the node has no tracks; choose one on the node screen", DIM);
        return;
    };
    let places = lists::path(scene.state, &name, scene.ui.filter());
    let tracks: Vec<Option<(&Node, TrackLine<'_>)>> = places
        .iter()
        .map(|place| {
            let node = scene.state.node(&place.name)?;
            let lines = lists::tracks(node, "", scene.now);
            lines.into_iter().find(|line| line.track.name == name).map(|line| (node, line))
        })
        .collect();
    let newest = tracks.iter().flatten().filter_map(|(_, line)| line.track.largest).max();
    let (heads, rest) = split_top(rest, 1);
    let needed = places.len().max(3) as u16 + 1;
    let detail_height = rest.height.saturating_sub(needed).min(DETAIL_MAX);
    let detail_height = if detail_height < DETAIL_HEIGHT { 0 } else { detail_height };
    let (body, detail) = split_top(rest, rest.height - detail_height);
    let fitted = fit(&PATH, area.width);
    draw_heads(buffer, heads, &fitted, None);
    let selected = scene.ui.position(scene.state, scene.now);
    hits.list = seen(body, places.len(), selected);
    if places.is_empty() {
        draw_text(buffer, body, "no node knows this track now", DIM);
    }
    for (at, row) in hits.list.lines() {
        let place = &places[at];
        let Some((node, line)) = &tracks[at] else { continue };
        draw_row(buffer, row, &fitted, selected == Some(at), |column| match column.id {
            Id::Name => Cell::of(vec![
                Span::styled(tree_lines(&place.branches), DIM),
                Span::raw(place.name.clone()),
            ]),
            Id::State => Cell::styled(
                scene.state.state_word(&place.name, scene.now),
                theme::level(scene.state.level(&place.name)),
            ),
            // What a node that is down said last is no figure of now.
            Id::Largest | Id::Lag if node.is_down() => Cell::plain(format::UNKNOWN),
            id if node.is_down() && is_measured(id) => Cell::plain(format::UNKNOWN),
            Id::Lag => lag(line.track, newest),
            id => cell(line, id),
        });
        if place.context {
            buffer.set_style(row, DIM);
        }
    }
    if let Some((at, Some((_, line)))) =
        selected.and_then(|at| Some((at, tracks.get(at)?.as_ref())))
    {
        draw_detail(buffer, detail, &places[at].name, line);
    }
    draw_head(buffer, head, vec![title(name)], &hits.list.place());
}

/// Below the path: the newest groups at the selected node, and why its subscribers miss something.
fn draw_detail(buffer: &mut Buffer, area: Rect, name: &str, line: &TrackLine<'_>) {
    if area.is_empty() {
        return;
    }
    let [left, right] = columns::<2>(area);
    let (head, body) = split_top(left, 1);
    draw_head(buffer, head, vec![title(format!("groups at {name}"))], "objects, bytes, sent");
    let groups = &line.track.groups;
    if groups.is_empty() {
        draw_text(buffer, body, format::UNKNOWN, DIM);
    }
    for (group, row) in groups.iter().rev().zip(rows(body)) {
        draw_group(buffer, row, group);
    }
    let (head, body) = split_top(right, 1);
    draw_head(buffer, head, vec![title(format!("{name} drops of it"))], "objects/s, ever");
    match &line.track.drops {
        Some(drops) => {
            let rates = line.rates.and_then(|rates| rates.drops);
            node::draw_reasons(buffer, body, drops, rates);
        }
        None => {
            draw_text(buffer, body, format::UNKNOWN, DIM);
        }
    }
}

/// A bar as long as the part of a group that was sent, of all that was to be sent to anybody.
fn draw_group(buffer: &mut Buffer, area: Rect, group: &GroupSnapshot) {
    let share = (group.offered > 0).then(|| group.sent as f64 / group.offered as f64);
    let percent = share.map_or(format::UNKNOWN.to_owned(), |share| {
        // All but one object is not all.
        format!("{:.0}%", (share * 100.0).clamp(0.0, 100.0).floor())
    });
    let name = format!("{:<8} ", group.group);
    let figures = format!(
        "{:>5} {:>8} {percent:>5}",
        format::count(group.objects),
        format::bytes(Some(group.bytes))
    );
    let room = usize::from(area.width).saturating_sub(name.len() + figures.len() + 1);
    let bar = graph::bar(share.unwrap_or(0.0), room);
    let style = if share.is_some_and(|share| share < 1.0) {
        theme::level(Level::Warning)
    } else {
        theme::OUT
    };
    text::draw(buffer, area, &Line::from(vec![Span::raw(name), Span::styled(bar, style)]));
    text::draw_right(buffer, area, &Line::raw(figures));
}

/// Draws a table of tracks with its heads.
pub(super) fn draw_tracks(
    buffer: &mut Buffer,
    area: Rect,
    lines: &[TrackLine<'_>],
    scene: &Scene<'_>,
    hits: &mut Hits,
) {
    let (heads, body) = split_top(area, 1);
    let fitted = fit(&TRACKS, area.width);
    draw_heads(buffer, heads, &fitted, None);
    let selected = scene.ui.position(scene.state, scene.now);
    hits.list = seen(body, lines.len(), selected);
    if lines.is_empty() {
        draw_text(buffer, body, "no tracks", DIM);
    }
    for (at, row) in hits.list.lines() {
        draw_row(buffer, row, &fitted, selected == Some(at), |column| cell(&lines[at], column.id));
    }
}

/// Whether a column is measured at this moment.
const fn is_measured(id: Id) -> bool {
    use Id::{Gap, GapP95, Hop, HopP95, Latency, Subscribers};
    matches!(id, Subscribers | Hop | HopP95 | Latency | Gap | GapP95)
}

fn cell(line: &TrackLine<'_>, id: Id) -> Cell {
    let track = line.track;
    let (hop, gap) = (track.hop_latency_ms, track.inter_arrival_ms);
    match id {
        Id::Name => Cell::plain(track.name.clone()),
        Id::Subscribers => Cell::plain(format::count(track.subscribers)),
        Id::In => Cell::plain(format::rate(line.rates.map(|rates| rates.bits_in))),
        Id::Out => Cell::plain(format::rate(line.rates.map(|rates| rates.bits_out))),
        Id::Drops => {
            let drops = line.rates.and_then(|rates| rates.drops);
            let style = drops.and_then(|it| it.top()).map_or(Style::new(), theme::reason);
            Cell::styled(format::drops(drops.map(|drops| drops.total())), style)
        }
        Id::Group => Cell::plain(format::millis(track.group_ms)),
        Id::Hop => Cell::plain(format::millis(hop.map(|hop| hop.p50))),
        Id::HopP95 => Cell::plain(format::millis(hop.map(|hop| hop.p95))),
        Id::Gap => Cell::plain(format::millis(gap.map(|gap| gap.p50))),
        Id::GapP95 => Cell::plain(format::millis(gap.map(|gap| gap.p95))),
        Id::Latency => {
            let error = track.latency_error_ms.filter(|_| track.latency_ms.is_some());
            let error = error.map(|error| format!("±{}", format::millis(Some(error))));
            let latency = format::millis(track.latency_ms.map(|latency| latency.p50));
            Cell::plain(latency + &error.unwrap_or_default())
        }
        Id::Largest => Cell::plain(track.largest.map_or(format::UNKNOWN.to_owned(), location)),
        Id::Lag | Id::State => Cell::empty(),
    }
}

/// How far a node is behind the one that has most. Snapshots are not taken at one moment, so some
/// objects are no delay; a group is.
fn lag(track: &TrackSnapshot, newest: Option<[u64; 2]>) -> Cell {
    match (track.largest, newest) {
        (Some([group, _]), Some([newest, _])) if group < newest => {
            let groups = newest - group;
            let level = if groups > 1 { Level::Warning } else { Level::Ok };
            let plural = if groups == 1 { "" } else { "s" };
            Cell::styled(format!("{} group{plural}", format::count(groups)), theme::level(level))
        }
        (Some(_), Some(_)) => Cell::plain("0"),
        _ => Cell::plain(format::UNKNOWN),
    }
}

/// A location in the width of its column. Of a long group ID, such as one made of the time, the
/// end is told: that is what moves.
fn location([group, object]: [u64; 2]) -> String {
    let (group, object) = (group.to_string(), format!("/{object}"));
    let room = LOCATION.saturating_sub(object.len()).max(2);
    match group.len().checked_sub(room - 1).filter(|_| group.len() > room) {
        Some(hidden) => format!("~{}{object}", &group[hidden..]),
        None => group + &object,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_of_a_long_group_id_is_in_sight() {
        assert_eq!(location([1041, 29]), "1041/29");
        assert_eq!(location([12_345_678_901, 29]), "12345678901/29");
        assert_eq!(location([1_795_239_226_730, 29]), "~5239226730/29");
        assert_eq!(location([u64::MAX, u64::MAX]).chars().next(), Some('~'));
    }
}
