//! The fuzzer's targets as ordinary tests: inputs from a fixed seed, a bounded number of them.
//! `WEIR_FUZZ_ROUNDS` asks for more; `WEIR_FUZZ_CORPUS` names a directory to which the messages
//! are written, a file each, for libFuzzer to begin with.

mod common;
#[path = "../../../fuzz/targets/mod.rs"]
mod targets;

use common::{Seeded, arbitrary, encode};
use moqt::Version;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

fn rounds(default: u64) -> u64 {
    let asked = std::env::var("WEIR_FUZZ_ROUNDS").ok();
    asked.and_then(|rounds| rounds.parse().ok()).unwrap_or(default)
}

fn random(seed: u64, count: u64, max: u64, target: impl Fn(&[u8])) {
    let mut seeded = Seeded(seed);
    for _ in 0..rounds(count) {
        target(&seeded.bytes(max));
    }
}

/// Small numbers, which lengths, flags and types are.
fn small(seed: u64, count: u64, max: u64, target: impl Fn(&[u8])) {
    let mut seeded = Seeded(seed);
    for _ in 0..rounds(count) {
        let mut bytes = seeded.bytes(max);
        for byte in &mut bytes {
            *byte &= *[0x07, 0x1f, 0x3f, 0xff].get(seeded.next() as usize % 4).unwrap_or(&0xff);
        }
        target(&bytes);
    }
}

/// Writes what a fuzzer may begin with, if asked to.
fn keep(target: &str, number: u64, bytes: &[u8]) {
    let Some(corpus) = std::env::var_os("WEIR_FUZZ_CORPUS") else { return };
    let directory = std::path::Path::new(&corpus).join(target);
    std::fs::create_dir_all(&directory).expect("a directory to write to");
    std::fs::write(directory.join(format!("message-{number}")), bytes).expect("a file");
}

/// Real messages with a few bytes changed.
fn codec(version: Version, target: &str) {
    let mut runner = TestRunner::deterministic();
    let mut seeded = Seeded(18);
    let messages = arbitrary::control(version);
    for round in 0..rounds(3000) {
        let message = messages.new_tree(&mut runner).expect("a message").current();
        let mut bytes = encode(version, &message).expect("a message that can be said");
        targets::codec(version, &bytes);
        keep(target, round, &bytes);
        for _ in 0..seeded.next() % 4 {
            let at = seeded.next() as usize % bytes.len();
            bytes[at] = seeded.next() as u8 & 0x3f;
        }
        targets::codec(version, &bytes);
    }
}

#[test]
fn codec16() {
    codec(Version::Draft16, "codec16");
}

#[test]
fn codec18() {
    codec(Version::Draft18, "codec18");
}

#[test]
fn codec22() {
    codec(Version::Draft22, "codec22");
}

#[test]
fn subgroup() {
    small(1, 20_000, 120, targets::subgroup);
    random(2, 10_000, 300, targets::subgroup);
}

#[test]
fn fetch() {
    small(3, 20_000, 120, targets::fetch);
    random(4, 10_000, 300, targets::fetch);
}

#[test]
fn datagram() {
    small(5, 20_000, 60, targets::datagram);
    random(6, 10_000, 60, targets::datagram);
}

#[test]
fn session() {
    random(7, 4_000, 1500, targets::session);
}
