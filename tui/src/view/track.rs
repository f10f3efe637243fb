//! A track's way through the tree: where it stops, and where it falls behind.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Span;
use stats::TrackSnapshot;

use super::nodes::tree_lines;
use super::table::{Cell, Column, draw_heads, draw_row, fit, seen};
use super::text::{draw_head, draw_text, split_top, title};
use super::theme::{self, DIM};
use super::{Hits, Scene};
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

const TRACKS: [Column<Id, ()>; 5] = [
    column(Id::Name, "TRACK", 20, 60, 0),
    column(Id::Subscribers, "SUBSCRIBERS", 11, 0, 2),
    column(Id::In, "IN", 6, 0, 1),
    column(Id::Out, "OUT", 6, 0, 0),
    column(Id::Largest, "GROUP/OBJECT", 16, 0, 3),
];

const PATH: [Column<Id, ()>; 7] = [
    column(Id::Name, "NODE", 14, 30, 0),
    column(Id::State, "STATE", 8, 0, 0),
    column(Id::Subscribers, "SUBSCRIBERS", 11, 0, 1),
    column(Id::In, "IN", 6, 0, 2),
    column(Id::Out, "OUT", 6, 0, 3),
    column(Id::Largest, "GROUP/OBJECT", 16, 0, 4),
    column(Id::Lag, "BEHIND", 10, 0, 0),
];

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
    let (heads, body) = split_top(rest, 1);
    let fitted = fit(&PATH, area.width);
    draw_heads(buffer, heads, &fitted, None);
    let selected = scene.ui.position(scene.state, scene.now);
    hits.list = seen(body, places.len(), selected);
    if places.is_empty() {
        draw_text(buffer, body, "no node knows this track now", DIM);
    }
    for (at, row) in hits.list.lines() {
        let place = &places[at];
        let Some((_, line)) = &tracks[at] else { continue };
        draw_row(buffer, row, &fitted, selected == Some(at), |column| match column.id {
            Id::Name => Cell::of(vec![
                Span::styled(tree_lines(&place.branches), DIM),
                Span::raw(place.name.clone()),
            ]),
            Id::State => Cell::styled(
                scene.state.state_word(&place.name, scene.now),
                theme::level(scene.state.level(&place.name)),
            ),
            Id::Lag => lag(line.track, newest),
            id => cell(line, id),
        });
        if place.context {
            buffer.set_style(row, DIM);
        }
    }
    draw_head(buffer, head, vec![title(name)], &hits.list.place());
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

fn cell(line: &TrackLine<'_>, id: Id) -> Cell {
    let track = line.track;
    match id {
        Id::Name => Cell::plain(track.name.clone()),
        Id::Subscribers => Cell::plain(format::count(track.subscribers)),
        Id::In => Cell::plain(format::rate(line.rates.map(|(bits_in, _)| bits_in))),
        Id::Out => Cell::plain(format::rate(line.rates.map(|(_, bits_out)| bits_out))),
        Id::Largest => Cell::plain(
            track
                .largest
                .map_or(format::UNKNOWN.to_owned(), |[group, object]| format!("{group}/{object}")),
        ),
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
