//! The three lines at the top: screens and feed, sums, and the worst that is wrong.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

use super::text::{self, draw_right, draw_text, rows, split_top};
use super::theme::{self, DIM, SELECTED, STRONG};
use super::{Hits, Scene};
use crate::format;
use crate::keymap::Action;
use crate::state::Health;
use crate::state::events::Level;
use crate::ui::Screen;

/// Lines that it takes.
pub(super) const HEIGHT: u16 = 3;

/// Draws it.
pub(super) fn draw(buffer: &mut Buffer, area: Rect, scene: &Scene<'_>, hits: &mut Hits) {
    let mut lines = rows(area);
    if let Some(line) = lines.next() {
        draw_tabs(buffer, line, scene, hits);
        draw_right(buffer, line, &health(scene));
    }
    if let Some(line) = lines.next() {
        text::draw(buffer, line, &sums(scene, usize::from(area.width)));
    }
    if let Some(line) = lines.next() {
        draw_banner(buffer, line, scene);
    }
}

fn draw_tabs(buffer: &mut Buffer, area: Rect, scene: &Scene<'_>, hits: &mut Hits) {
    let mut x = area.x;
    let mut put = |text: &str, style: Style| {
        let at = Rect { x, width: area.right().saturating_sub(x), ..area };
        let width = draw_text(buffer, at, text, style);
        x += width;
        Rect { width, ..at }
    };
    put("weir ", STRONG);
    for (index, screen) in Screen::ALL.into_iter().enumerate() {
        let style = if screen == scene.ui.screen { SELECTED } else { Style::new() };
        let place = put(&format!(" {} {} ", index + 1, screen.title()), style);
        hits.actions.push((place, Action::Go(screen)));
    }
}

/// How the feed is: a word, a colour and its age.
fn health(scene: &Scene<'_>) -> Line<'static> {
    let (level, text) = match scene.live.health(scene.live_now) {
        Health::Connecting => (Level::Warning, "connecting".to_owned()),
        Health::Live { age } => (Level::Ok, format!("live {:.1}s", age.as_secs_f64())),
        Health::Stale { for_ } => (Level::Warning, format!("stale {}", format::age(for_))),
        Health::Lost { for_, .. } => (Level::Down, format!("FEED LOST {}", format::age(for_))),
        Health::Ended => (Level::Ok, "recording ended".to_owned()),
    };
    Line::from(vec![
        Span::raw(" "),
        Span::styled("●", theme::level(level)),
        Span::styled(format!(" {text}"), theme::level(level)),
    ])
}

/// The tree in one line.
fn sums(scene: &Scene<'_>, width: usize) -> Line<'static> {
    let state = scene.state;
    if !state.has_data() {
        return Line::styled(state.source.clone(), DIM);
    }
    let sum = state.sum(state.nodes().map(|(name, _)| name), scene.now);
    let mut of_nodes = vec![Span::raw(format::counted(sum.nodes, "node"))];
    for level in [Level::Down, Level::Warning] {
        let count = sum.levels[level as usize];
        if count > 0 {
            let text = format!(" {count} {}", level.as_str());
            of_nodes.push(Span::styled(text, theme::level(level)));
        }
    }
    let rate = format::drops(sum.drops.map(|drops| drops.total()));
    let mut of_drops = vec![Span::raw(format!("drops {rate}/s"))];
    if let Some(top) = sum.drops.and_then(|drops| drops.top()) {
        of_drops.push(Span::styled(format!(" {}", top.short()), theme::reason(top)));
    }
    let parts = [
        of_nodes,
        vec![Span::raw(format::counted(sum.viewers, "viewer"))],
        state.page.iter().map(|page| Span::raw(page.clone())).collect(),
        of_drops,
        vec![Span::raw(format!("out {}", format::bits(sum.bits_out)))],
        vec![Span::raw(format!("in {}", format::bits(sum.bits_in)))],
    ];
    // A part that has no room is left out whole.
    let mut line = Line::default();
    for part in parts.into_iter().filter(|part| !part.is_empty()) {
        let between = if line.spans.is_empty() { "" } else { " · " };
        let needed = between.width() + part.iter().map(Span::width).sum::<usize>();
        if line.width() + needed <= width {
            line.spans.push(Span::raw(between));
            line.spans.extend(part);
        }
    }
    line
}

/// The worst that is wrong, in one line; the feed's own trouble first.
fn draw_banner(buffer: &mut Buffer, area: Rect, scene: &Scene<'_>) {
    let alarm = theme::level(Level::Down).add_modifier(Modifier::REVERSED);
    match scene.live.health(scene.live_now) {
        Health::Lost { error, advice, retry_in, .. } if scene.live.has_data() => {
            let retry = retry_in.as_secs_f64().ceil();
            let then = match advice {
                Some(advice) => advice.to_owned(),
                None => format!("retrying {} in {retry:.0}s", scene.live.source),
            };
            let text = format!(" what you see is old: {error}; {then} ");
            draw_text(buffer, area, &text, alarm);
            return;
        }
        Health::Stale { .. } if scene.live.has_data() => {
            let text = match scene.live.nonsense() {
                Some((count, error)) => format!(" {count} unreadable lines: {error} "),
                None => " connected, but no snapshot comes: what you see is old ".to_owned(),
            };
            let style = theme::level(Level::Warning).add_modifier(Modifier::REVERSED);
            draw_text(buffer, area, &text, style);
            return;
        }
        _ => {}
    }
    let warnings = scene.state.warnings();
    let mut spans = Vec::new();
    if let Some(worst) = warnings.first() {
        let style = theme::level(worst.level);
        let more = warnings.len() - 1;
        let more = if more > 0 { format!(" (+{more} more: w)") } else { " (w: what to do)".into() };
        let advice = format!("; {}", worst.advice);
        spans.push(Span::styled(format!("{}: ", worst.level.as_str()), style));
        let label_width = worst.level.as_str().len() + 2;
        let room = usize::from(area.width).saturating_sub(label_width + more.len());
        let what = format!("{} {}", worst.node, worst.text);
        // Advice is shown whole, or where all advice is.
        if warnings.len() == 1 && what.width() + advice.width() <= room + more.len() {
            spans.push(Span::raw(what + &advice));
        } else {
            spans.push(Span::raw(text::cut(&what, room)));
            spans.push(Span::styled(more, DIM));
        }
    } else if let Some((count, error)) = scene.live.nonsense() {
        let text = format!("{count} unreadable lines in the feed, the last: {error}");
        spans.push(Span::styled(text, theme::level(Level::Warning)));
    } else if scene.state.has_data() {
        spans.push(Span::styled(scene.state.source.clone(), DIM));
    }
    text::draw(buffer, area, &Line::from(spans));
}

/// Before the first snapshot: what is tried, what is wrong, what to do.
pub(super) fn draw_welcome(buffer: &mut Buffer, area: Rect, scene: &Scene<'_>) {
    let source = &scene.live.source;
    let plain = |text: String| Line::raw(text);
    let mut lines = match scene.live.health(scene.live_now) {
        Health::Lost { for_, error, advice, retry_in } => {
            let mut lines =
                vec![Line::styled(format!("Cannot reach {source}"), theme::level(Level::Down))];
            let width = usize::from(area.width);
            lines.extend(text::wrap(&error, width).into_iter().map(Line::raw));
            if let Some(advice) = advice {
                let wrapped = text::wrap(advice, width).into_iter();
                lines.extend(wrapped.map(|line| Line::styled(line, STRONG)));
            }
            let retry = retry_in.as_secs_f64().ceil();
            let tried = format!("tried for {}, again in {retry:.0}s", format::age(for_));
            lines.extend([plain(String::new()), plain(tried)]);
            if advice.is_none() {
                lines.extend([
                    plain(String::new()),
                    plain("Is a relay running there? Its --admin address is what I need:".into()),
                    Line::styled("tui http://HOST:4480", STRONG),
                ]);
            }
            lines
        }
        Health::Ended => vec![
            Line::styled(format!("Nothing to show in {source}"), theme::level(Level::Warning)),
            plain("The recording holds no snapshot.".to_owned()),
        ],
        Health::Connecting => vec![plain(format!("Connecting to {source} …"))],
        Health::Live { .. } | Health::Stale { .. } => {
            vec![plain(format!("Connected to {source}, waiting for its first snapshot …"))]
        }
    };
    if let Some((count, error)) = scene.live.nonsense() {
        let text = format!("{count} unreadable lines, the last: {error}");
        lines.push(Line::styled(text, theme::level(Level::Warning)));
    }
    let above = area.height.saturating_sub(lines.len() as u16) / 2;
    let (_, below) = split_top(area, above);
    for (line, row) in lines.iter().zip(rows(below)) {
        let width = u16::try_from(line.width()).unwrap_or(u16::MAX);
        let x = row.x + row.width.saturating_sub(width) / 2;
        text::draw(buffer, Rect { x, width: row.right() - x, ..row }, line);
    }
}
