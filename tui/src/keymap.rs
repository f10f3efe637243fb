//! One table of keys: it drives dispatch, footer and help.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::ui::Screen;

/// What a key does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Ends the program.
    Quit,
    /// Shows or hides the help.
    Help,
    /// Shows or hides all warnings with what to do.
    Warnings,
    /// Goes to a screen.
    Go(Screen),
    /// Opens what is selected.
    Open,
    /// Closes what is in front, or goes back a screen.
    Back,
    /// Moves the selection.
    Move(Motion),
    /// Shows the next or previous node without leaving the screen.
    Node(Step),
    /// Goes to the other list of the screen.
    OtherPane,
    /// Sorts by the next column.
    Sort,
    /// Turns the order round.
    Reverse,
    /// Starts to type a filter.
    Filter,
    /// Shows events of all nodes, or of the opened one only.
    AllEvents,
    /// Folds what is below the selected node into its line, or goes to the node above.
    Fold,
    /// Shows again what is folded into the selected line.
    Unfold,
    /// Goes to the next node that something is wrong with.
    Trouble,
    /// Freezes the screen; collection goes on.
    Pause,
    /// Shows a longer or shorter time in graphs.
    Zoom,
    /// Ends typing and keeps the filter.
    FilterKeep,
    /// Ends typing and removes the filter.
    FilterClear,
    /// Takes the last character of the filter away.
    FilterErase,
}

/// How the selection moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Motion {
    /// One line.
    Line(Step),
    /// As many lines as are seen.
    Page(Step),
    /// To the first line.
    First,
    /// To the last line.
    Last,
}

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Down, to the right, later.
    Next,
    /// Up, to the left, earlier.
    Previous,
}

/// Where a binding holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// On every screen.
    Everywhere,
    /// On these screens.
    On(&'static [Screen]),
    /// While a filter is typed. Nothing else holds then.
    Typing,
}

/// A key with its modifiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    code: KeyCode,
    control: bool,
}

/// One line of the table.
#[derive(Debug)]
pub struct Binding {
    /// The keys, the one to show first.
    pub keys: &'static [Key],
    /// What they do.
    pub action: Action,
    /// Where.
    pub scope: Scope,
    /// A word for the footer; empty when it is not shown there.
    pub hint: &'static str,
    /// A phrase for the help.
    pub help: &'static str,
}

const fn key(code: KeyCode) -> Key {
    Key { code, control: false }
}

const fn char(c: char) -> Key {
    key(KeyCode::Char(c))
}

const fn control(c: char) -> Key {
    Key { code: KeyCode::Char(c), control: true }
}

use Action::{Go, Move, Node};
use Screen::{Events, Nodes, Track, Viewers};
use Step::{Next, Previous};

/// The table. Footers show hints in this order as far as there is room.
pub const KEYMAP: &[Binding] = &[
    bind(&[key(KeyCode::Enter)], Action::Open, Scope::Everywhere, "open", "open what is selected"),
    bind(
        &[key(KeyCode::Esc), key(KeyCode::Backspace)],
        Action::Back,
        Scope::On(&[Screen::Node, Viewers, Track, Events]),
        "back",
        "go back a screen",
    ),
    bind(
        &[key(KeyCode::Tab)],
        Action::OtherPane,
        Scope::On(&[Screen::Node]),
        "list",
        "go to the other list: tracks, sessions",
    ),
    bind(
        &[char('s')],
        Action::Sort,
        Scope::On(&[Nodes, Viewers]),
        "sort",
        "sort by the next column",
    ),
    bind(&[char('S')], Action::Reverse, Scope::On(&[Nodes, Viewers]), "", "turn the order round"),
    bind(
        &[char('/')],
        Action::Filter,
        Scope::Everywhere,
        "filter",
        "show only lines that contain a text",
    ),
    bind(&[char('?'), key(KeyCode::F(1))], Action::Help, Scope::Everywhere, "help", "these keys"),
    bind(&[char('q'), control('c')], Action::Quit, Scope::Everywhere, "quit", "end"),
    bind(
        &[char('w')],
        Action::Warnings,
        Scope::Everywhere,
        "warnings",
        "all warnings, and what to do",
    ),
    bind(
        &[char('n')],
        Action::Trouble,
        Scope::Everywhere,
        "trouble",
        "to the node that is worst off, then to the next one",
    ),
    bind(
        &[char('a')],
        Action::AllEvents,
        Scope::On(&[Events]),
        "all",
        "events of all nodes, or of the opened one and those below it",
    ),
    bind(
        &[key(KeyCode::Left), char('h')],
        Action::Fold,
        Scope::On(&[Nodes]),
        "fold",
        "fold what is below a node into its line; again: to the node above",
    ),
    bind(
        &[key(KeyCode::Right), char('l')],
        Action::Unfold,
        Scope::On(&[Nodes]),
        "",
        "show again what is folded into a line",
    ),
    bind(
        &[char('z')],
        Action::Zoom,
        Scope::On(&[Nodes, Screen::Node]),
        "zoom",
        "graphs over 1, 5 or 15 minutes",
    ),
    bind(
        &[char('p'), char(' ')],
        Action::Pause,
        Scope::Everywhere,
        "pause",
        "freeze the screen, collection goes on",
    ),
    bind(&[char('1')], Go(Nodes), Scope::Everywhere, "", "screen: nodes"),
    bind(&[char('2')], Go(Screen::Node), Scope::Everywhere, "", "screen: one node"),
    bind(&[char('3')], Go(Viewers), Scope::Everywhere, "", "screen: its viewers"),
    bind(&[char('4')], Go(Track), Scope::Everywhere, "", "screen: a track's way"),
    bind(&[char('5')], Go(Events), Scope::Everywhere, "", "screen: events"),
    bind(&[key(KeyCode::Up), char('k')], Move(Motion::Line(Previous)), Scope::Everywhere, "", "up"),
    bind(&[key(KeyCode::Down), char('j')], Move(Motion::Line(Next)), Scope::Everywhere, "", "down"),
    bind(&[key(KeyCode::PageUp)], Move(Motion::Page(Previous)), Scope::Everywhere, "", "a page up"),
    bind(&[key(KeyCode::PageDown)], Move(Motion::Page(Next)), Scope::Everywhere, "", "a page down"),
    bind(
        &[key(KeyCode::Home), char('g')],
        Move(Motion::First),
        Scope::Everywhere,
        "",
        "to the first line",
    ),
    bind(
        &[key(KeyCode::End), char('G')],
        Move(Motion::Last),
        Scope::Everywhere,
        "",
        "to the last line",
    ),
    bind(
        &[key(KeyCode::Left), char('h')],
        Node(Previous),
        Scope::On(&[Screen::Node, Viewers, Events]),
        "",
        "the node before",
    ),
    bind(
        &[key(KeyCode::Right), char('l')],
        Node(Next),
        Scope::On(&[Screen::Node, Viewers, Events]),
        "",
        "the node after",
    ),
    bind(&[key(KeyCode::Enter)], Action::FilterKeep, Scope::Typing, "keep", "keep the filter"),
    bind(&[key(KeyCode::Esc)], Action::FilterClear, Scope::Typing, "clear", "remove the filter"),
    bind(
        &[key(KeyCode::Backspace)],
        Action::FilterErase,
        Scope::Typing,
        "erase",
        "erase a character",
    ),
    bind(&[control('c')], Action::Quit, Scope::Typing, "", "end"),
];

const fn bind(
    keys: &'static [Key],
    action: Action,
    scope: Scope,
    hint: &'static str,
    help: &'static str,
) -> Binding {
    Binding { keys, action, scope, hint, help }
}

impl Scope {
    fn holds(self, screen: Screen, typing: bool) -> bool {
        match self {
            Self::Typing => typing,
            Self::Everywhere => !typing,
            Self::On(screens) => !typing && screens.contains(&screen),
        }
    }
}

/// The bindings that hold on a screen.
pub fn bindings(screen: Screen, typing: bool) -> impl Iterator<Item = &'static Binding> {
    KEYMAP.iter().filter(move |binding| binding.scope.holds(screen, typing))
}

/// What a key does on a screen.
pub fn lookup(screen: Screen, typing: bool, event: &KeyEvent) -> Option<Action> {
    let pressed =
        Key { code: event.code, control: event.modifiers.contains(KeyModifiers::CONTROL) };
    if event.modifiers.contains(KeyModifiers::ALT) {
        return None;
    }
    bindings(screen, typing)
        .find(|binding| binding.keys.contains(&pressed))
        .map(|binding| binding.action)
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.control {
            f.write_str("Ctrl-")?;
        }
        match self.code {
            KeyCode::Char(' ') => f.write_str("Space"),
            KeyCode::PageUp => f.write_str("PgUp"),
            KeyCode::PageDown => f.write_str("PgDn"),
            code => write!(f, "{code}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(code: KeyCode) -> KeyEvent {
        KeyEvent::new(code, KeyModifiers::NONE)
    }

    #[test]
    fn no_key_does_two_things_in_one_place() {
        for screen in Screen::ALL {
            for typing in [false, true] {
                let mut seen: Vec<Key> = Vec::new();
                for key in bindings(screen, typing).flat_map(|binding| binding.keys) {
                    assert!(!seen.contains(key), "{key} is bound twice on {screen:?}");
                    seen.push(*key);
                }
            }
        }
    }

    #[test]
    fn every_binding_has_a_key_and_an_explanation() {
        for binding in KEYMAP {
            assert!(!binding.keys.is_empty() && !binding.help.is_empty(), "{binding:?}");
        }
    }

    #[test]
    fn every_key_of_the_table_is_found_where_it_holds() {
        for binding in KEYMAP {
            for screen in Screen::ALL {
                for typing in [false, true] {
                    for key in binding.keys {
                        let modifiers =
                            if key.control { KeyModifiers::CONTROL } else { KeyModifiers::NONE };
                        let found = lookup(screen, typing, &KeyEvent::new(key.code, modifiers));
                        if binding.scope.holds(screen, typing) {
                            assert_eq!(found, Some(binding.action), "{key} on {screen:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_program_can_be_left_from_everywhere() {
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        for screen in Screen::ALL {
            assert_eq!(lookup(screen, false, &press(KeyCode::Char('q'))), Some(Action::Quit));
            for typing in [false, true] {
                assert_eq!(lookup(screen, typing, &control_c), Some(Action::Quit));
            }
        }
    }

    #[test]
    fn letters_are_text_while_typing() {
        for c in "qspwzo?/1".chars() {
            assert_eq!(lookup(Nodes, true, &press(KeyCode::Char(c))), None);
        }
    }

    #[test]
    fn keys_have_readable_names() {
        let names: Vec<String> = [char(' '), control('c'), key(KeyCode::PageUp), char('?')]
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(names, ["Space", "Ctrl-c", "PgUp", "?"]);
    }
}
