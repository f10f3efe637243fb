//! A chore's children end with it, even when it is killed.
#![cfg(target_os = "linux")]

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn a_bound_child_ends_when_its_parent_is_killed() {
    // The shell stands for the chore: it starts a bound child that says so and then sleeps on.
    let script = "\"$0\" bound $$ -- sh -c 'echo up; exec sleep 60' & wait";
    let mut parent = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_xtask")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(parent.stdout.take().unwrap());
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        let mut line = String::new();
        while output.read_line(&mut line).unwrap() > 0 {
            sender.send(std::mem::take(&mut line)).unwrap();
        }
    });
    assert_eq!(lines.recv_timeout(PATIENCE).as_deref(), Ok("up\n"));

    parent.kill().unwrap();
    parent.wait().unwrap();
    // The pipe closes when the last of its holders is gone: the child.
    assert_eq!(lines.recv_timeout(PATIENCE), Err(mpsc::RecvTimeoutError::Disconnected));
}

#[test]
fn a_child_whose_parent_is_already_gone_does_not_start() {
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["bound", "1", "--", "echo", "started"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(!String::from_utf8_lossy(&output.stdout).contains("started"));
}
