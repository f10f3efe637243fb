//! Whole screens, drawn from a recording.
//!
//! `tree.jsonl` is the feed of ten relays with 500 viewers, made by `record.py` beside it: from second 7 the line to all
//! viewers of edge-nyc is too thin, and so is that of one viewer of edge-fra; edge-sin is cut off from 14 to 20.

mod common;

use common::Dashboard;
use crossterm::event::KeyCode;
use dashboard::feed::FeedEvent;
use dashboard::view::theme::{self, Theme};
use ratatui::style::Color;
use stats::DropReason;
use std::time::Duration;

/// A moment when nothing is wrong yet, one when edge-nyc drops and edge-sin is down, and one when edge-sin is back.
const WELL: u64 = 6;
const DOWN: u64 = 19;
const DROPPING: u64 = 27;

/// Snapshots a screen in both sizes.
macro_rules! assert_screens {
    ($dashboard:expr) => {
        insta::assert_snapshot!($dashboard.screen(80, 24));
        insta::assert_snapshot!($dashboard.screen(120, 40));
    };
}

#[test]
fn nodes() {
    assert_screens!(Dashboard::after("tree.jsonl", DROPPING));
}

#[test]
fn the_page_that_viewers_watch_stays_in_sight() {
    let page = "http://127.0.0.1:8081/watch/live/test";
    let mut dashboard = Dashboard::after("tree.jsonl", DROPPING);
    assert!(!dashboard.screen(80, 24).contains(page));
    dashboard.state.page = Some(page.to_owned());
    assert!(dashboard.screen(80, 24).lines().nth(1).is_some_and(|line| line.ends_with(page)));
    let wide = dashboard.screen(140, 24);
    assert!(wide.lines().nth(1).is_some_and(|line| line.contains("drops")), "{wide}");
}

#[test]
fn nodes_of_which_one_is_down() {
    assert_screens!(Dashboard::after("tree.jsonl", DOWN));
}

#[test]
fn nodes_sorted_by_drops() {
    let mut dashboard = Dashboard::after("tree.jsonl", DROPPING);
    dashboard.type_in("sssss");
    insta::assert_snapshot!(dashboard.screen(80, 24));
}

#[test]
fn nodes_folded() {
    let mut dashboard = Dashboard::after("tree.jsonl", DROPPING);
    dashboard.type_in("gjjjh");
    assert!(dashboard.screen(80, 24).contains("eu +3"));
    insta::assert_snapshot!(dashboard.screen(80, 24));
}

/// From the first screen to the node, its viewers and the reason: one key shows all three, the second one every viewer.
#[test]
fn the_throttled_node_its_viewers_and_the_reason_are_two_keys_away() {
    let mut dashboard = Dashboard::after("tree.jsonl", DROPPING);
    let first = dashboard.screen(80, 24);
    let banner = first.lines().nth(2).unwrap();
    assert!(
        banner.starts_with("warning: edge-nyc drops") && banner.contains("timeout"),
        "{banner}"
    );
    dashboard.press(KeyCode::Enter);
    let node = dashboard.screen(80, 24);
    assert!(node.contains("edge-nyc ‹ us") && node.contains("DELIVERY_TIMEOUT"), "{node}");
    dashboard.type_in("3");
    let viewers = dashboard.screen(80, 24);
    assert!(
        viewers.contains("edge-nyc: 83 viewers") && viewers.contains("198.51.100."),
        "{viewers}"
    );
}

#[test]
fn a_node_that_is_down() {
    let mut dashboard = Dashboard::after("tree.jsonl", DOWN);
    dashboard.type_in("\n");
    assert_screens!(dashboard);
}

#[test]
fn a_node_that_drops() {
    let mut dashboard = Dashboard::after("tree.jsonl", DROPPING);
    dashboard.type_in("\n");
    assert_screens!(dashboard);
}

#[test]
fn tracks_of_a_node() {
    let mut dashboard = Dashboard::after("tree.jsonl", DROPPING);
    dashboard.type_in("\n\t");
    insta::assert_snapshot!(dashboard.screen(80, 24));
}

#[test]
fn viewers() {
    let mut dashboard = Dashboard::after("tree.jsonl", DROPPING);
    dashboard.type_in("3");
    assert_screens!(dashboard);
}

#[test]
fn the_way_of_a_track_that_is_cut_off_below() {
    let mut dashboard = Dashboard::after("tree.jsonl", DOWN);
    dashboard.type_in("4");
    assert_screens!(dashboard);
}

#[test]
fn events() {
    let mut dashboard = Dashboard::after("tree.jsonl", DROPPING);
    dashboard.type_in("g5");
    assert_screens!(dashboard);
}

#[test]
fn events_of_what_was_opened() {
    let mut dashboard = Dashboard::after("tree.jsonl", DROPPING);
    dashboard.type_in("5");
    let screen = dashboard.screen(80, 24);
    assert!(screen.contains("events of edge-nyc") && !screen.contains("edge-sin  "), "{screen}");
    dashboard.type_in("a");
    let screen = dashboard.screen(80, 24);
    assert!(screen.contains("events of all nodes") && screen.contains("edge-sin  "), "{screen}");
    // A branch is all that is below it.
    dashboard.type_in("a1ggj5");
    let screen = dashboard.screen(80, 24);
    assert!(
        screen.contains("events of ap and 1 below") && screen.contains("edge-sin  "),
        "{screen}"
    );
    assert!(!screen.contains("edge-nyc  "), "{screen}");
}

#[test]
fn help() {
    let mut dashboard = Dashboard::after("tree.jsonl", WELL);
    dashboard.type_in("?");
    assert_screens!(dashboard);
}

#[test]
fn warnings() {
    let mut dashboard = Dashboard::after("tree.jsonl", DOWN);
    dashboard.type_in("w");
    assert_screens!(dashboard);
}

#[test]
fn trouble_leads_from_one_node_to_the_next() {
    let mut dashboard = Dashboard::after("tree.jsonl", DOWN);
    let troubled: Vec<String> = dashboard.state.troubled().into_iter().map(str::to_owned).collect();
    assert!(troubled.len() > 1 && troubled[0] == "edge-sin", "{troubled:?}");
    for name in troubled.iter().chain(&troubled[..1]) {
        dashboard.type_in("n");
        assert_eq!(dashboard.ui.node(&dashboard.state, dashboard.now).unwrap().0, name);
    }
    dashboard.type_in("\nn");
    assert_eq!(dashboard.ui.opened(), Some(&*troubled[1]));
}

#[test]
fn what_is_selected_by_itself_stays_once_it_was_touched() {
    let mut dashboard = Dashboard::after("tree.jsonl", DROPPING);
    let selected = |dashboard: &Dashboard| {
        dashboard.ui.node(&dashboard.state, dashboard.now).unwrap().0.to_owned()
    };
    assert_eq!(selected(&dashboard), "edge-nyc");
    dashboard.type_in("k");
    let moved = selected(&dashboard);
    assert_ne!(moved, "edge-nyc");
    let later = Dashboard::after("tree.jsonl", DOWN);
    (dashboard.state, dashboard.now) = (later.state, later.now);
    assert_eq!(selected(&dashboard), moved);
}

#[test]
fn no_relay_there() {
    let mut dashboard = Dashboard::new();
    let error = "Connection refused (os error 111)".to_owned();
    dashboard.feed(FeedEvent::Lost { error, advice: None, retry_in: Duration::from_secs(5) });
    dashboard.wait(2.5);
    insta::assert_snapshot!(dashboard.screen(80, 24));
}

#[test]
fn the_feed_is_lost() {
    let mut dashboard = Dashboard::after("tree.jsonl", DROPPING);
    let error = "the relay closed the feed".to_owned();
    dashboard.feed(FeedEvent::Lost { error, advice: None, retry_in: Duration::from_secs(30) });
    dashboard.wait(21.0);
    insta::assert_snapshot!(dashboard.screen(80, 24));
}

#[test]
fn ascii_without_colour() {
    let mut dashboard = Dashboard::after("tree.jsonl", DROPPING);
    dashboard.theme = Theme { color: false, ascii: true };
    insta::assert_snapshot!(dashboard.screen(80, 24));
    for keys in ["\n", "3", "4", "5", "?", "w"] {
        dashboard.type_in(keys);
        let buffer = dashboard.buffer(120, 40);
        for cell in &buffer.content {
            assert!(cell.symbol().is_ascii(), "{:?} after {keys:?}", cell.symbol());
            assert_eq!((cell.fg, cell.bg), (Color::Reset, Color::Reset));
        }
    }
}

#[test]
fn no_background_is_ever_set_so_that_light_and_dark_terminals_work() {
    let mut dashboard = Dashboard::after("tree.jsonl", DROPPING);
    for keys in ["", "\n", "3", "4", "5", "?"] {
        let buffer = dashboard.type_in(keys).buffer(120, 40);
        for cell in &buffer.content {
            assert_eq!(cell.bg, Color::Reset);
            assert!(!matches!(cell.fg, Color::White | Color::Black), "{:?}", cell.symbol());
        }
    }
}

#[test]
fn a_reason_has_its_colour_on_every_screen() {
    let mut dashboard = Dashboard::after("tree.jsonl", DROPPING);
    let colour = theme::reason(DropReason::DeliveryTimeout).fg.unwrap();
    for (keys, word) in
        [("", "timeout"), ("\n", "DELIVERY_TIMEOUT"), ("3", "timeout"), ("?", "DELIVERY_TIMEOUT")]
    {
        let buffer = dashboard.type_in(keys).buffer(120, 40);
        let width = usize::from(buffer.area.width);
        let mut colours = Vec::new();
        for row in buffer.content.chunks(width).skip(3) {
            let text: Vec<&str> = row.iter().map(|cell| cell.symbol()).collect();
            let places =
                (0..width - word.len()).filter(|at| text[*at..*at + word.len()].concat() == word);
            colours.extend(places.map(|at| row[at].fg));
        }
        // In a sentence it has none.
        colours.retain(|colour| *colour != Color::Reset);
        assert!(!colours.is_empty(), "no coloured {word} after {keys:?}");
        assert!(colours.iter().all(|it| *it == colour), "{colours:?} after {keys:?}");
    }
}

#[test]
fn no_size_panics_and_the_feed_is_seen_in_each_that_has_room() {
    let sizes =
        [(1, 1), (2, 2), (5, 3), (9, 30), (40, 10), (80, 4), (80, 24), (300, 100), (300, 2)];
    for seconds in [0, DOWN, DROPPING] {
        let mut dashboard = Dashboard::after("tree.jsonl", seconds);
        for keys in ["", "\n", "\t", "3", "4", "5", "?", "\x1bw", "\x1b/abc"] {
            dashboard.type_in(keys);
            for (width, height) in sizes {
                let screen = dashboard.screen(width, height);
                if width >= 80 {
                    assert!(screen.lines().next().unwrap().contains("live"), "{screen}");
                }
            }
        }
    }
}

#[test]
fn footer_and_help_say_what_the_key_table_says() {
    let mut dashboard = Dashboard::after("tree.jsonl", WELL);
    let footer = dashboard.screen(300, 24).lines().last().unwrap().to_owned();
    dashboard.type_in("?");
    let help = dashboard.screen(120, 100);
    for binding in dashboard::keymap::bindings(dashboard::ui::Screen::Nodes, false) {
        let hint = format!("{} {}", binding.keys[0], binding.hint);
        assert!(binding.hint.is_empty() || footer.contains(&hint), "{hint} is not in {footer}");
        assert!(help.contains(binding.help), "{:?} is not in the help", binding.help);
    }
}

#[test]
fn the_selection_stays_on_its_node_when_the_order_changes() {
    let mut dashboard = Dashboard::after("tree.jsonl", DROPPING);
    dashboard.type_in("n");
    for _ in 0..7 {
        dashboard.type_in("s");
        let (name, _) = dashboard.ui.node(&dashboard.state, dashboard.now).unwrap();
        assert_eq!(name, "edge-nyc");
    }
}

#[test]
fn a_filter_shows_what_matches_and_the_way_to_it() {
    let mut dashboard = Dashboard::after("tree.jsonl", DROPPING);
    dashboard.type_in("/BOS\n");
    let screen = dashboard.screen(80, 24);
    assert!(screen.contains("  └─edge-bos") && screen.contains("└─us"), "{screen}");
    assert!(!screen.contains("edge-fra"), "{screen}");
    assert!(screen.contains("filter: BOS"), "{screen}");
    dashboard.type_in("/\x1b");
    assert!(dashboard.screen(80, 24).contains("edge-fra"));
}

#[test]
fn a_paused_screen_stands_still_while_the_feed_goes_on() {
    let mut dashboard = Dashboard::after("tree.jsonl", WELL);
    dashboard.type_in("p");
    let later = Dashboard::after("tree.jsonl", DROPPING);
    (dashboard.state, dashboard.now) = (later.state, later.now);
    assert!(!dashboard.find("edge-nyc").contains("timeout"));
    assert!(dashboard.screen(80, 24).contains("PAUSED 2"));
    assert!(dashboard.screen(80, 24).lines().next().unwrap().contains("live 0.2s"));
    dashboard.type_in("p");
    assert!(dashboard.find("edge-nyc  ").contains("timeout"));
}

#[test]
fn clicks_select_open_and_press() {
    let mut dashboard = Dashboard::after("tree.jsonl", DROPPING);
    let screen = dashboard.screen(80, 24);
    let row = screen.lines().position(|line| line.contains("├─edge-fra")).unwrap() as u16;
    dashboard.click(6, row);
    assert_eq!(dashboard.ui.node(&dashboard.state, dashboard.now).unwrap().0, "edge-fra");
    dashboard.click(6, row);
    assert!(dashboard.find("‹ eu").starts_with("edge-fra"));
    let tabs = dashboard.screen(80, 24).lines().next().unwrap().to_owned();
    dashboard.click(tabs.find("events").unwrap() as u16, 0);
    assert!(dashboard.screen(80, 24).contains("events of edge-fra"));
    let footer = dashboard.screen(80, 24).lines().last().unwrap().to_owned();
    dashboard.click(footer.find("help").unwrap() as u16, 23);
    assert!(dashboard.screen(80, 24).contains("Everywhere"));
}

#[test]
fn escape_leads_back_the_way_one_came() {
    let mut dashboard = Dashboard::after("tree.jsonl", DROPPING);
    dashboard.type_in("\n3?\x1b");
    assert!(dashboard.screen(80, 24).contains("edge-nyc: 83 viewers"));
    dashboard.type_in("\x1b");
    assert!(dashboard.screen(80, 24).contains("why dropped"));
    dashboard.type_in("\x1b");
    assert!(dashboard.screen(80, 24).contains("VIEWERS"));
    dashboard.type_in("\x1b\x1b\x1b");
    assert!(dashboard.screen(80, 24).contains("VIEWERS"));
}

#[test]
fn left_and_right_go_through_the_nodes() {
    let mut dashboard = Dashboard::after("tree.jsonl", DROPPING);
    dashboard.type_in("g\n");
    let mut seen = Vec::new();
    for _ in 0..11 {
        seen.push(dashboard.ui.opened().unwrap().to_owned());
        dashboard.press(KeyCode::Right);
    }
    let names = ["root", "ap", "edge-sin", "eu", "edge-ams", "edge-fra", "edge-par", "us"];
    assert_eq!(seen[..8], names);
    assert_eq!(seen[8..], ["edge-bos", "edge-nyc", "edge-nyc"]);
}
