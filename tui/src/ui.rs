//! What the person at the keyboard has chosen: screen, selection, order, filter, pause.

use std::collections::HashSet;
use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};

use crate::keymap::{self, Action, Motion, Step};
use crate::lists::{self, Folds, NodeSort, SessionSort, Sort, SortKey};
use crate::state::State;
use crate::state::node::Node;
use crate::state::tree::Place;
use crate::view::Hits;

/// Longest filter, in characters.
const MAX_FILTER: usize = 60;
/// Screens that the way back leads through.
const MAX_BACK: usize = 16;
/// Lines that a turn of the mouse wheel moves.
const WHEEL_LINES: isize = 3;

/// The screens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Screen {
    /// The tree.
    Nodes,
    /// One node.
    Node,
    /// Its sessions.
    Viewers,
    /// A track's way through the tree.
    Track,
    /// What happened.
    Events,
}

impl Screen {
    /// All, in the order of their tabs.
    pub const ALL: [Self; 5] = [Self::Nodes, Self::Node, Self::Viewers, Self::Track, Self::Events];

    /// The title of its tab.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Nodes => "nodes",
            Self::Node => "node",
            Self::Viewers => "viewers",
            Self::Track => "track",
            Self::Events => "events",
        }
    }
}

/// The lists of the node screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pane {
    /// Its tracks.
    Tracks,
    /// Its sessions.
    Sessions,
}

/// What lies over the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlay {
    /// The keys.
    Help,
    /// All warnings.
    Warnings,
}

/// A selected line. It stays on its line when lines come, go or change places, and at its height
/// when the line itself goes.
#[derive(Debug, Clone, Default)]
pub struct Cursor {
    id: Option<String>,
    at: usize,
}

impl Cursor {
    /// Where it is among these lines; `None` if there are none.
    pub fn position<S: AsRef<str>>(&self, ids: &[S]) -> Option<usize> {
        let last = ids.len().checked_sub(1)?;
        let found = self.id.as_deref().and_then(|id| ids.iter().position(|it| it.as_ref() == id));
        Some(found.unwrap_or(self.at.min(last)))
    }

    fn move_to<S: AsRef<str>>(&mut self, ids: &[S], at: usize) {
        if let Some(last) = ids.len().checked_sub(1) {
            self.at = at.min(last);
            self.id = Some(ids[self.at].as_ref().to_owned());
        }
    }

    fn select(&mut self, id: &str) {
        self.id = Some(id.to_owned());
    }
}

/// The screen as it was when it was paused.
#[derive(Debug, Clone)]
pub struct Paused {
    /// What was known.
    pub state: State,
    /// When.
    pub at: Duration,
}

/// The person's choices.
#[derive(Debug, Clone)]
pub struct Ui {
    /// The screen that is shown.
    pub screen: Screen,
    /// What lies over it.
    pub overlay: Option<Overlay>,
    /// How far the overlay is scrolled, in lines.
    pub overlay_top: usize,
    /// The list of the node screen that has the keys.
    pub pane: Pane,
    /// Order of nodes.
    pub node_sort: Sort<NodeSort>,
    /// Order of sessions.
    pub session_sort: Sort<SessionSort>,
    /// A filter is being typed.
    pub typing: bool,
    /// Events of all nodes, not of what is opened only.
    pub all_events: bool,
    /// What is folded on the nodes screen.
    pub folds: Folds,
    /// Seconds that graphs show.
    pub window_s: usize,
    /// Set while paused.
    pub paused: Option<Box<Paused>>,
    back: Vec<Screen>,
    filters: [String; Screen::ALL.len()],
    nodes: Cursor,
    /// The node that the node, viewers and events screens are about.
    opened: Option<String>,
    /// Its track is also the one that the track screen is about.
    tracks: Cursor,
    path: Cursor,
    sessions: Cursor,
    events: Cursor,
}

/// Whether the program goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// It does.
    Continue,
    /// It was asked to end.
    Quit,
}

const WINDOWS_S: [usize; 3] = [60, 300, 900];

impl Default for Ui {
    fn default() -> Self {
        Self {
            screen: Screen::Nodes,
            overlay: None,
            overlay_top: 0,
            pane: Pane::Sessions,
            node_sort: Sort::by(NodeSort::Name),
            session_sort: Sort::by(SessionSort::Behind),
            typing: false,
            all_events: false,
            folds: Folds::default(),
            window_s: WINDOWS_S[0],
            paused: None,
            back: Vec::new(),
            filters: Default::default(),
            nodes: Cursor::default(),
            opened: None,
            tracks: Cursor::default(),
            path: Cursor::default(),
            sessions: Cursor::default(),
            events: Cursor::default(),
        }
    }
}

impl Ui {
    /// The filter of the screen that is shown.
    pub fn filter(&self) -> &str {
        &self.filters[self.screen as usize]
    }

    /// The node that the other screens are about: the opened one, else the selected one.
    pub fn node<'a>(&self, state: &'a State, now: Duration) -> Option<(&'a str, &'a Node)> {
        let name = match (&self.opened, self.screen) {
            (Some(opened), screen) if screen != Screen::Nodes => opened.clone(),
            _ => {
                // What the nodes screen would show, whichever screen asks.
                let places = self.places(state, now);
                places[self.nodes_position(state, &places)?].name.clone()
            }
        };
        state.nodes().find(|(known, _)| *known == name)
    }

    /// The node of which everything is to be shown: sums are not enough on its screens. The feed tells
    /// all of the node that is asked.
    pub fn looked_at(&self, live: &State, now: Duration) -> Option<String> {
        let name = self.shown(live, now, |ui, state, now| match ui.screen {
            Screen::Nodes | Screen::Events => None,
            Screen::Node | Screen::Viewers => Some(ui.node(state, now)?.0.to_owned()),
            Screen::Track => ui.ids(state, now).into_iter().nth(ui.position(state, now)?),
        });
        name.filter(|name| name != live.asked())
    }

    /// The name of the opened node, even if it is known no more.
    pub fn opened(&self) -> Option<&str> {
        self.opened.as_deref()
    }

    /// The track that the track screen is about.
    pub fn track(&self, state: &State, now: Duration) -> Option<String> {
        if let Some(track) = &self.tracks.id {
            return Some(track.clone());
        }
        let (_, node) = self.node(state, now)?;
        Some(lists::tracks(node, "", now).first()?.track.name.clone())
    }

    /// The lines of the nodes screen.
    pub fn places(&self, state: &State, now: Duration) -> Vec<Place> {
        let filter = &self.filters[Screen::Nodes as usize];
        lists::nodes(state, filter, self.node_sort, &self.folds, now)
    }

    /// Which of them is selected: until somebody moves it, the node that is worst off.
    pub fn nodes_position(&self, state: &State, places: &[Place]) -> Option<usize> {
        let find = |name: &str| places.iter().position(|place| place.name == name);
        if self.nodes.id.is_none()
            && let Some(worst) = state.troubled().into_iter().find_map(find)
        {
            return Some(worst);
        }
        let known = self.nodes.id.as_deref().is_some_and(|id| find(id).is_some());
        // What was looked for, and not what leads to it.
        if !self.filters[Screen::Nodes as usize].is_empty() && !known {
            return places.iter().position(|place| !place.context);
        }
        let ids: Vec<&str> = places.iter().map(|place| &*place.name).collect();
        self.nodes.position(&ids)
    }

    /// The selected line of the list that has the keys.
    pub fn position(&self, state: &State, now: Duration) -> Option<usize> {
        match self.screen {
            Screen::Nodes => self.nodes_position(state, &self.places(state, now)),
            _ => self.cursor().position(&self.ids(state, now)),
        }
    }

    /// Names of the lines of the list that has the keys.
    fn ids(&self, state: &State, now: Duration) -> Vec<String> {
        let filter = self.filter();
        let node = || self.node(state, now).map(|(_, node)| node);
        match (self.screen, self.pane) {
            (Screen::Nodes, _) => {
                self.places(state, now).into_iter().map(|place| place.name).collect()
            }
            (Screen::Node, Pane::Tracks) => node().map_or_else(Vec::new, |node| {
                let lines = lists::tracks(node, filter, now);
                lines.into_iter().map(|line| line.track.name.clone()).collect()
            }),
            (Screen::Node, Pane::Sessions) | (Screen::Viewers, _) => {
                node().map_or_else(Vec::new, |node| {
                    let lines = lists::sessions(node, filter, self.session_sort, now);
                    lines.into_iter().map(|line| line.session.id.clone()).collect()
                })
            }
            (Screen::Track, _) => self.track(state, now).map_or_else(Vec::new, |track| {
                let places = lists::path(state, &track, filter);
                places.into_iter().map(|place| place.name).collect()
            }),
            (Screen::Events, _) => {
                let of = self.events_of(state);
                let events = lists::events(state, filter, of.as_ref());
                events.into_iter().map(|event| event.seq.to_string()).collect()
            }
        }
    }

    /// The nodes whose events are shown, if not all are: the opened one and all below it.
    pub fn events_of(&self, state: &State) -> Option<HashSet<String>> {
        let opened = self.opened.as_deref().filter(|_| !self.all_events)?;
        Some(lists::subtree(state, opened))
    }

    fn cursor(&self) -> &Cursor {
        match (self.screen, self.pane) {
            (Screen::Nodes, _) => &self.nodes,
            (Screen::Node, Pane::Tracks) => &self.tracks,
            (Screen::Node, Pane::Sessions) | (Screen::Viewers, _) => &self.sessions,
            (Screen::Track, _) => &self.path,
            (Screen::Events, _) => &self.events,
        }
    }

    fn cursor_mut(&mut self) -> &mut Cursor {
        match (self.screen, self.pane) {
            (Screen::Nodes, _) => &mut self.nodes,
            (Screen::Node, Pane::Tracks) => &mut self.tracks,
            (Screen::Node, Pane::Sessions) | (Screen::Viewers, _) => &mut self.sessions,
            (Screen::Track, _) => &mut self.path,
            (Screen::Events, _) => &mut self.events,
        }
    }

    /// Takes a key.
    pub fn handle_key(&mut self, key: &KeyEvent, live: &State, hits: &Hits, now: Duration) -> Flow {
        match keymap::lookup(self.screen, self.typing, key) {
            Some(action) => self.handle_action(action, live, hits, now),
            None => {
                let plain = !key.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT);
                if let (true, true, KeyCode::Char(c)) = (self.typing, plain, key.code) {
                    let filter = &mut self.filters[self.screen as usize];
                    if filter.chars().count() < MAX_FILTER {
                        filter.push_str(&stats::sanitize(c.encode_utf8(&mut [0; 4])));
                    }
                }
                Flow::Continue
            }
        }
    }

    /// Takes a click or a turn of the wheel.
    pub fn handle_mouse(
        &mut self,
        mouse: MouseEvent,
        live: &State,
        hits: &Hits,
        now: Duration,
    ) -> Flow {
        match mouse.kind {
            MouseEventKind::ScrollDown => self.move_by(WHEEL_LINES, live, now),
            MouseEventKind::ScrollUp => self.move_by(-WHEEL_LINES, live, now),
            MouseEventKind::Down(MouseButton::Left) => {
                if let Some(action) = hits.action_at(mouse.column, mouse.row) {
                    return self.handle_action(action, live, hits, now);
                }
                if self.overlay.is_some() {
                    self.overlay = None;
                } else if let Some(line) = hits.line_at(mouse.column, mouse.row) {
                    let again = Some(line) == self.shown(live, now, Self::position);
                    if again {
                        return self.handle_action(Action::Open, live, hits, now);
                    }
                    self.move_cursor(live, now, |_, _| line);
                }
            }
            _ => {}
        }
        Flow::Continue
    }

    /// Does what a key or a click asks for.
    pub fn handle_action(
        &mut self,
        action: Action,
        live: &State,
        hits: &Hits,
        now: Duration,
    ) -> Flow {
        let page = hits.page().max(1);
        match action {
            Action::Quit => return Flow::Quit,
            Action::Help => self.toggle(Overlay::Help),
            Action::Warnings => self.toggle(Overlay::Warnings),
            Action::Back if self.overlay.is_some() => self.overlay = None,
            Action::Open if self.overlay.is_some() => self.overlay = None,
            Action::Back => {
                self.screen = self.back.pop().unwrap_or(Screen::Nodes);
            }
            Action::Go(screen) => self.go(screen, live, now),
            Action::Open => self.open(live, now),
            Action::Move(motion) => match motion {
                Motion::Line(Step::Next) => self.move_by(1, live, now),
                Motion::Line(Step::Previous) => self.move_by(-1, live, now),
                Motion::Page(Step::Next) => self.move_by(page as isize, live, now),
                Motion::Page(Step::Previous) => self.move_by(-(page as isize), live, now),
                Motion::First => self.move_by(isize::MIN, live, now),
                Motion::Last => self.move_by(isize::MAX, live, now),
            },
            Action::Node(step) => self.step_node(step, live, now),
            Action::OtherPane => {
                self.pane = match self.pane {
                    Pane::Tracks => Pane::Sessions,
                    Pane::Sessions => Pane::Tracks,
                };
            }
            Action::Sort if self.screen == Screen::Nodes => {
                self.node_sort = Sort::by(self.node_sort.key.next());
            }
            Action::Sort => self.session_sort = Sort::by(self.session_sort.key.next()),
            Action::Reverse if self.screen == Screen::Nodes => {
                self.node_sort.reversed = !self.node_sort.reversed;
            }
            Action::Reverse => self.session_sort.reversed = !self.session_sort.reversed,
            Action::Filter => {
                self.overlay = None;
                self.typing = true;
            }
            Action::FilterKeep => self.typing = false,
            Action::FilterClear => {
                self.typing = false;
                self.filters[self.screen as usize].clear();
            }
            Action::FilterErase => {
                self.filters[self.screen as usize].pop();
            }
            Action::AllEvents => self.all_events = !self.all_events,
            Action::Fold => self.fold(live, now),
            Action::Unfold => self.unfold(live, now),
            Action::Trouble => self.go_to_trouble(live, now),
            Action::Pause => {
                self.paused = match self.paused {
                    Some(_) => None,
                    None => Some(Box::new(Paused { state: live.clone(), at: now })),
                };
            }
            Action::Zoom => {
                let at = WINDOWS_S.iter().position(|window| *window == self.window_s).unwrap_or(0);
                self.window_s = WINDOWS_S[(at + 1) % WINDOWS_S.len()];
            }
        }
        Flow::Continue
    }

    fn toggle(&mut self, overlay: Overlay) {
        self.overlay = (self.overlay != Some(overlay)).then_some(overlay);
        self.overlay_top = 0;
    }

    /// Asks something about what is on the screen: the frozen state while paused.
    fn shown<T>(
        &self,
        live: &State,
        now: Duration,
        ask: impl Fn(&Self, &State, Duration) -> T,
    ) -> T {
        match &self.paused {
            Some(paused) => ask(self, &paused.state, paused.state.as_of(paused.at)),
            None => ask(self, live, live.as_of(now)),
        }
    }

    fn move_by(&mut self, lines: isize, live: &State, now: Duration) {
        if self.overlay.is_some() {
            // Drawing bounds it at the end.
            self.overlay_top = self.overlay_top.saturating_add_signed(lines).min(10_000);
        } else {
            self.move_cursor(live, now, |at, _| at.saturating_add_signed(lines));
        }
    }

    fn move_cursor(&mut self, live: &State, now: Duration, to: impl Fn(usize, usize) -> usize) {
        let (ids, at) =
            self.shown(live, now, |ui, state, now| (ui.ids(state, now), ui.position(state, now)));
        if let Some(at) = at {
            self.cursor_mut().move_to(&ids, to(at, ids.len()));
        }
    }

    fn go(&mut self, screen: Screen, live: &State, now: Duration) {
        self.overlay = None;
        if screen == self.screen {
            return;
        }
        if self.screen == Screen::Nodes {
            let node = self.shown(live, now, |ui, state, now| {
                ui.node(state, now).map(|(name, _)| name.to_owned())
            });
            // It stays where it was found, though another becomes worse.
            if let Some(name) = node {
                self.nodes.select(&name);
                self.show_node(name);
            }
        }
        if self.back.len() == MAX_BACK {
            self.back.remove(0);
        }
        self.back.push(self.screen);
        self.screen = screen;
    }

    fn open(&mut self, live: &State, now: Duration) {
        let (ids, at) =
            self.shown(live, now, |ui, state, now| (ui.ids(state, now), ui.position(state, now)));
        let Some(id) = at.and_then(|at| ids.get(at).cloned()) else { return };
        match (self.screen, self.pane) {
            (Screen::Nodes, _) => self.go(Screen::Node, live, now),
            (Screen::Node, Pane::Tracks) => {
                self.tracks.select(&id);
                self.go(Screen::Track, live, now);
            }
            (Screen::Node, Pane::Sessions) => {
                self.sessions.select(&id);
                self.go(Screen::Viewers, live, now);
            }
            (Screen::Track, _) => self.open_node(id, live, now),
            (Screen::Events, _) => {
                let node = self.shown(live, now, |ui, state, _| {
                    let of = ui.events_of(state);
                    let events = lists::events(state, ui.filter(), of.as_ref());
                    let found = events.into_iter().find(|event| event.seq.to_string() == id);
                    found.and_then(|event| event.node.clone())
                });
                if let Some(node) = node {
                    self.open_node(node, live, now);
                }
            }
            (Screen::Viewers, _) => {}
        }
    }

    fn open_node(&mut self, name: String, live: &State, now: Duration) {
        self.reveal(&name, live, now);
        self.show_node(name);
        self.go(Screen::Node, live, now);
    }

    /// The selected line of the nodes screen, and the node that its node is below.
    fn selected_place(&self, live: &State, now: Duration) -> Option<(Place, Option<String>)> {
        self.shown(live, now, |ui, state, now| {
            let mut places = ui.places(state, now);
            let at = ui.nodes_position(state, &places)?;
            let depth = places[at].branches.len();
            let above = places[..at].iter().rfind(|it| it.branches.len() < depth);
            let above = above.map(|it| it.name.clone());
            Some((places.swap_remove(at), above))
        })
    }

    fn fold(&mut self, live: &State, now: Duration) {
        let Some((place, above)) = self.selected_place(live, now) else { return };
        if place.has_children && place.folded.is_empty() {
            self.nodes.select(&place.name);
            self.folds.set(&place.name, true);
        } else if let Some(above) = above {
            self.nodes.select(&above);
        }
    }

    fn unfold(&mut self, live: &State, now: Duration) {
        let Some((place, _)) = self.selected_place(live, now) else { return };
        if !place.folded.is_empty() {
            self.nodes.select(&place.name);
            self.folds.set(&place.name, false);
        }
    }

    /// To the node that is worst off, and with each further press to the next one.
    fn go_to_trouble(&mut self, live: &State, now: Duration) {
        let troubled = self.shown(live, now, |_, state, _| {
            state.troubled().into_iter().map(str::to_owned).collect::<Vec<_>>()
        });
        let current = match self.screen {
            Screen::Nodes => self.nodes.id.as_deref(),
            _ => self.opened.as_deref(),
        };
        let at = troubled.iter().position(|name| Some(name.as_str()) == current);
        let next = at.map_or(0, |at| (at + 1) % troubled.len());
        let Some(name) = troubled.get(next).cloned() else { return };
        self.overlay = None;
        self.reveal(&name, live, now);
        if self.screen != Screen::Nodes {
            self.show_node(name);
        }
    }

    /// Selects a node on the nodes screen, and takes away what hides it there.
    fn reveal(&mut self, name: &str, live: &State, now: Duration) {
        self.nodes.select(name);
        let hides = self.shown(live, now, |ui, state, now| {
            let hides = |it: Place| it.folded.iter().any(|below| below == name).then_some(it.name);
            ui.places(state, now).into_iter().find_map(hides)
        });
        let Some(hides) = hides else { return };
        self.folds.set(&hides, false);
        // What it showed may be folded in turn.
        self.reveal(name, live, now);
    }

    fn show_node(&mut self, name: String) {
        if self.opened.as_deref() != Some(&name) {
            self.sessions = Cursor::default();
            self.tracks = Cursor::default();
        }
        self.opened = Some(name);
    }

    fn step_node(&mut self, step: Step, live: &State, now: Duration) {
        let names = self.shown(live, now, |ui, state, now| {
            let places = lists::nodes(state, "", ui.node_sort, &ui.folds, now);
            places.into_iter().map(|place| place.name).collect::<Vec<_>>()
        });
        let at = names.iter().position(|name| Some(name.as_str()) == self.opened.as_deref());
        let to = match (at, step) {
            (None, _) => Some(0),
            (Some(at), Step::Next) => Some(at + 1),
            (Some(at), Step::Previous) => at.checked_sub(1),
        };
        if let Some(name) = to.and_then(|to| names.get(to)) {
            self.nodes.select(name);
            self.show_node(name.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_stays_on_its_line_and_at_its_height_when_the_line_goes() {
        let mut cursor = Cursor::default();
        assert_eq!(cursor.position::<&str>(&[]), None);
        cursor.move_to(&["a", "b", "c"], 1);
        assert_eq!(cursor.position(&["x", "c", "b"]), Some(2));
        assert_eq!(cursor.position(&["x", "c", "y"]), Some(1));
        assert_eq!(cursor.position(&["x"]), Some(0));
        cursor.move_to(&["a"], 99);
        assert_eq!(cursor.position(&["a"]), Some(0));
    }
}
