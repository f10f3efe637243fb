//! A dashboard without a terminal: a recording in, keys in, whole screens out.

// Each test file uses a part of it.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use dashboard::feed::FeedEvent;
use dashboard::feed::recording::Replay;
use dashboard::state::State;
use dashboard::ui::{Flow, Ui};
use dashboard::view::theme::Theme;
use dashboard::view::{self, Hits, Scene};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use serde_json::{Value, json};
use stats::Tree;

pub(crate) const COLOR: Theme = Theme { color: true, ascii: false };

pub(crate) struct Dashboard {
    pub(crate) state: State,
    pub(crate) ui: Ui,
    pub(crate) now: Duration,
    pub(crate) theme: Theme,
    hits: Hits,
}

pub(crate) fn recording(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/feeds").join(name)
}

impl Dashboard {
    /// Nothing came yet.
    pub(crate) fn new() -> Self {
        Self {
            state: State::new("http://127.0.0.1:4480".to_owned()),
            ui: Ui::default(),
            now: Duration::ZERO,
            theme: COLOR,
            hits: Hits::default(),
        }
    }

    /// Everything in a recording up to a second, seen 0.2 s after its line.
    pub(crate) fn after(name: &str, seconds: u64) -> Self {
        let mut dashboard = Self::new();
        dashboard.feed(FeedEvent::Connected);
        let mut replay = Replay::open(&recording(name)).unwrap();
        while let Some((pause, event)) = replay.poll_event().unwrap() {
            if dashboard.now + pause > Duration::from_secs(seconds) {
                break;
            }
            dashboard.now += pause;
            dashboard.feed(event);
        }
        dashboard.wait(0.2);
        dashboard
    }

    pub(crate) fn feed(&mut self, event: FeedEvent) {
        self.state.handle_feed(event, self.now);
    }

    /// A line of the feed, as if it came from a relay.
    pub(crate) fn line(&mut self, line: &str) {
        self.feed(match Tree::from_line(line.as_bytes()) {
            Ok(tree) => FeedEvent::Tree(Box::new(tree)),
            Err(error) => FeedEvent::Nonsense(stats::sanitize(&error.to_string())),
        });
    }

    pub(crate) fn nodes(&mut self, nodes: &[Value]) {
        let line = json!({ "node": "root", "at": "2026-01-01T00:00:00Z", "nodes": nodes });
        self.line(&line.to_string());
    }

    pub(crate) fn wait(&mut self, seconds: f64) {
        self.now += Duration::from_secs_f64(seconds);
        self.state.handle_tick(self.now);
    }

    pub(crate) fn press(&mut self, code: KeyCode) -> Flow {
        let key = KeyEvent::new(code, KeyModifiers::NONE);
        self.ui.handle_key(&key, &self.state, &self.hits, self.now)
    }

    /// Presses keys that are characters; drawing in between, as the program does.
    pub(crate) fn type_in(&mut self, keys: &str) -> &mut Self {
        for key in keys.chars() {
            self.screen(80, 24);
            self.press(match key {
                '\n' => KeyCode::Enter,
                '\t' => KeyCode::Tab,
                '\x1b' => KeyCode::Esc,
                '\x08' => KeyCode::Backspace,
                key => KeyCode::Char(key),
            });
        }
        self
    }

    pub(crate) fn click(&mut self, column: u16, row: u16) {
        self.mouse(MouseEventKind::Down(MouseButton::Left), column, row);
    }

    pub(crate) fn mouse(&mut self, kind: MouseEventKind, column: u16, row: u16) {
        let mouse = MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE };
        self.ui.handle_mouse(mouse, &self.state, &self.hits, self.now);
    }

    pub(crate) fn buffer(&mut self, width: u16, height: u16) -> Buffer {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let scene = Scene::new(&self.state, &self.ui, self.theme, self.now);
        let mut hits = Hits::default();
        terminal.draw(|frame| hits = view::render(frame.buffer_mut(), &scene)).unwrap();
        self.hits = hits;
        terminal.backend().buffer().clone()
    }

    /// The screen as text, without the spaces at the ends of lines.
    pub(crate) fn screen(&mut self, width: u16, height: u16) -> String {
        let buffer = self.buffer(width, height);
        let mut text = String::new();
        for y in 0..height {
            let line: String = (0..width).map(|x| buffer[(x, y)].symbol()).collect();
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// The line of the screen that contains a text.
    pub(crate) fn find(&mut self, text: &str) -> String {
        let screen = self.screen(120, 40);
        let found = screen.lines().find(|line| line.contains(text));
        found.unwrap_or_else(|| panic!("no {text:?} in:\n{screen}")).to_owned()
    }
}

/// A node of a hand-made tree: its counters follow from its uptime and rate.
pub(crate) fn node(name: &str, parent: Option<&str>, uptime_s: f64, bytes_a_second: u64) -> Value {
    let bytes = (uptime_s * bytes_a_second as f64) as u64;
    json!({
        "node": name, "parent": parent, "state": "ok", "uptime_s": uptime_s, "version": "0.1.0",
        "viewers": 1, "relays": 0, "publishers": 0, "upstream": [],
        "bytes_in": bytes, "bytes_out": bytes, "objects_in": 1, "objects_out": 1,
        "drops": {}, "tracks": [], "sessions": [],
    })
}
