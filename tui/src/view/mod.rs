//! Screens: what is known and chosen in, cells out. No clock, no terminal: `now` is an argument.

mod events;
mod footer;
pub mod graph;
mod header;
mod node;
pub mod nodes;
mod overlay;
pub mod table;
pub mod text;
pub mod theme;
mod track;
mod viewers;

use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};

use crate::keymap::Action;
use crate::state::State;
use crate::ui::{Screen, Ui};
use table::Seen;
use text::split_top;
use theme::Theme;

/// All that a screen is drawn from.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'a> {
    /// What is known now: the feed's health is always live.
    live: &'a State,
    /// What is shown: frozen while paused.
    pub state: &'a State,
    /// The person's choices.
    pub ui: &'a Ui,
    /// What the terminal can show.
    pub theme: Theme,
    /// Now.
    live_now: Duration,
    /// The moment that is shown.
    pub now: Duration,
}

impl<'a> Scene<'a> {
    /// A scene of what is known `now`, or of the moment of the pause.
    pub fn new(live: &'a State, ui: &'a Ui, theme: Theme, now: Duration) -> Self {
        let (state, shown) = match &ui.paused {
            Some(paused) => (&paused.state, paused.at),
            None => (live, now),
        };
        Self { live, state, ui, theme, live_now: now, now: state.as_of(shown) }
    }
}

/// What is where on the screen, so that the mouse finds it.
#[derive(Debug, Clone, Default)]
pub struct Hits {
    list: Seen,
    actions: Vec<(Rect, Action)>,
}

impl Hits {
    /// How many lines of the list are seen.
    pub const fn page(&self) -> usize {
        self.list.area.height as usize
    }

    /// The line of the list at a place.
    pub fn line_at(&self, x: u16, y: u16) -> Option<usize> {
        let area = self.list.area;
        let line = self.list.first + usize::from(y.checked_sub(area.y)?);
        (area.contains(Position { x, y }) && line < self.list.len).then_some(line)
    }

    /// What a click at a place does.
    pub fn action_at(&self, x: u16, y: u16) -> Option<Action> {
        let hit = |(area, _): &&(Rect, Action)| area.contains(Position { x, y });
        self.actions.iter().find(hit).map(|(_, action)| *action)
    }
}

/// Draws the whole screen.
pub fn render(buffer: &mut Buffer, scene: &Scene<'_>) -> Hits {
    let mut hits = Hits::default();
    let area = buffer.area;
    let (head, rest) = split_top(area, header::HEIGHT);
    let (body, foot) = split_top(rest, rest.height.saturating_sub(1));
    header::draw(buffer, head, scene, &mut hits);
    if scene.state.has_data() {
        match scene.ui.screen {
            Screen::Nodes => nodes::draw(buffer, body, scene, &mut hits),
            Screen::Node => node::draw(buffer, body, scene, &mut hits),
            Screen::Viewers => viewers::draw(buffer, body, scene, &mut hits),
            Screen::Track => track::draw(buffer, body, scene, &mut hits),
            Screen::Events => events::draw(buffer, body, scene, &mut hits),
        }
        if scene.live.is_old(scene.live_now) {
            buffer.set_style(body.intersection(area), theme::DIM);
        }
    } else {
        header::draw_welcome(buffer, body, scene);
    }
    footer::draw_footer(buffer, foot, scene, &mut hits);
    if let Some(kind) = scene.ui.overlay {
        overlay::draw_overlay(buffer, body, scene, kind);
    }
    scene.theme.finish(buffer);
    hits
}
