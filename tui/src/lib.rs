//! The dashboard: what a tree of relays does, drawn in a terminal.
//!
//! # How it fits together
//!
//! A [`feed`] brings snapshots (from a relay's admin API or a recording); [`state`] keeps what they
//! mean: nodes, history, events, warnings; [`ui`] keeps what the person chose with the keys of
//! [`keymap`]; [`lists`] says which lines a screen has; [`view`] draws all of that into a buffer of
//! cells. Only [`terminal`] and [`run`] touch a terminal, a clock or a signal; [`once`] prints the
//! first screen's table as plain text.
//!
//! The library exists for the `tui` binary and its tests.

pub mod feed;
pub mod format;
pub mod keymap;
pub mod lists;
pub mod once;
pub mod run;
pub mod state;
pub mod terminal;
pub mod ui;
pub mod view;
