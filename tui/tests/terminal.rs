//! The program in a real (pseudo) terminal: whatever ends it, the terminal is given back.
#![cfg(target_os = "linux")]

use std::io::{Read, Write};
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};

use dashboard::terminal::Screen;

/// Opens the alternate screen.
const OPENED: &str = "\u{1b}[?1049h";
/// Leaves the mouse, leaves the alternate screen and shows the cursor.
const GIVEN_BACK: [&str; 3] = ["\u{1b}[?1000l", "\u{1b}[?1049l", "\u{1b}[?25h"];

fn recording() -> String {
    format!("{}/tests/feeds/tree.jsonl", env!("CARGO_MANIFEST_DIR"))
}

fn quote(path: &Path) -> String {
    format!("'{}'", path.display())
}

/// Runs a shell command in a pseudo terminal and calls `opened` with what was printed, and the
/// keyboard, once the dashboard is open. What was printed ends with the command's exit code and the
/// terminal's settings.
fn in_terminal(command: &str, opened: impl FnOnce(&str, &mut ChildStdin)) -> String {
    let shell = format!("stty rows 24 cols 80; {command}; echo code=$?; stty -a");
    let mut script = Command::new("script")
        .args(["-qec", &shell, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .env("TERM", "xterm-256color")
        .env("LC_ALL", "C.UTF-8")
        .spawn()
        .expect("script, of util-linux");
    let mut keyboard = script.stdin.take().unwrap();
    let mut printed = Vec::new();
    let mut opened = Some(opened);
    let mut screen = script.stdout.take().unwrap();
    let mut chunk = [0; 4096];
    loop {
        let read = screen.read(&mut chunk).unwrap();
        if read == 0 {
            break;
        }
        printed.extend_from_slice(&chunk[..read]);
        let text = String::from_utf8_lossy(&printed);
        if text.contains(OPENED)
            && let Some(opened) = opened.take()
        {
            opened(&text, &mut keyboard);
        }
    }
    script.wait().unwrap();
    String::from_utf8_lossy(&printed).into_owned()
}

fn assert_given_back(text: &str, code: &str) {
    let opened = text.find(OPENED).expect("the alternate screen was never opened");
    for sequence in GIVEN_BACK {
        let at = text.rfind(sequence).unwrap_or_else(|| panic!("no {sequence:?} in {text:?}"));
        assert!(at > opened);
    }
    let after = &text[text.rfind("\u{1b}[?1049l").unwrap()..];
    assert!(after.contains(&format!("code={code}")), "{after}");
    for mode in ["echo", "icanon", "isig"] {
        assert!(after.split_whitespace().any(|word| word == mode), "{mode} is off: {after}");
    }
}

/// The program on the recording; it prints its process ID first.
fn dashboard() -> String {
    let tui = quote(Path::new(env!("CARGO_BIN_EXE_tui")));
    let replay = quote(Path::new(&recording()));
    format!("sh -c 'echo pid=$$; exec \"$0\" --replay \"$1\"' {tui} {replay}")
}

#[test]
fn keys_that_quit_give_it_back() {
    for key in ["q", "\u{3}", "/abc\u{3}"] {
        let text = in_terminal(&dashboard(), |_, keyboard| {
            keyboard.write_all(key.as_bytes()).unwrap();
        });
        assert_given_back(&text, "0");
    }
}

#[test]
fn signals_give_it_back_and_are_no_failure() {
    for signal in ["TERM", "INT", "HUP"] {
        let text = in_terminal(&dashboard(), |text, _| {
            let id = text.split("pid=").nth(1).unwrap().split_whitespace().next().unwrap();
            let sent = Command::new("kill").args([&format!("-{signal}"), id]).status().unwrap();
            assert!(sent.success());
        });
        assert_given_back(&text, "0");
    }
}

#[test]
fn a_panic_gives_it_back_before_it_is_reported() {
    const CHILD: &str = "WEIR_TUI_TEST_PANICS";
    if std::env::var_os(CHILD).is_some() {
        let _screen = Screen::take(true).unwrap();
        panic!("on purpose");
    }
    let own = quote(&std::env::current_exe().unwrap());
    let name = "a_panic_gives_it_back_before_it_is_reported";
    let text = in_terminal(&format!("{CHILD}=1 {own} --exact {name} --nocapture"), |_, _| {});
    assert_given_back(&text, "101");
    assert!(text.rfind("on purpose").unwrap() > text.find("\u{1b}[?1049l").unwrap());
}

#[test]
fn without_a_terminal_it_says_so_and_fails() {
    let output = Command::new(env!("CARGO_BIN_EXE_tui")).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--once"));
}

#[test]
fn wrong_usage_is_two() {
    for arguments in
        [&["--nonsense"][..], &["moqt://x"], &["--speed", "0", "--replay", "x"], &["a", "b"]]
    {
        let output = Command::new(env!("CARGO_BIN_EXE_tui")).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn once_prints_a_plain_table() {
    let tui = || {
        let mut tui = Command::new(env!("CARGO_BIN_EXE_tui"));
        tui.env("LC_ALL", "C.UTF-8");
        tui
    };
    let output = tui().args(["--once", "--replay", &recording()]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    insta::assert_snapshot!(String::from_utf8(output.stdout).unwrap());
    let output = tui().args(["--once", "--ascii", "--replay", &recording()]).output().unwrap();
    assert!(output.stdout.is_ascii() && output.stdout.starts_with(b"NODE"));
    // Port 9, discard: nothing listens there.
    for arguments in
        [&["--once", "http://127.0.0.1:9"][..], &["--once", "--replay", "/nonexistent"]]
    {
        let output = tui().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(output.stdout.is_empty());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(arguments.last().unwrap()), "{said}");
        assert_eq!(said.matches("os error").count(), 1, "{said}");
    }
}
