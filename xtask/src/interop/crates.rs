//! Independent crates against our relay: tests of the relay's own, run here for the table.

use std::time::Duration;

use anyhow::{Result, bail};

use super::{process, way::Transport};
use crate::{child::Stop, project};

/// A test, by name in `relay/tests/moq_transport.rs`, and what it shows.
#[derive(Debug)]
pub(crate) struct CrateTest {
    name: &'static str,
    /// As in Cargo.lock.
    pub(crate) package: &'static str,
    pub(crate) what: &'static str,
    pub(crate) transport: Transport,
}

/// The draft that `moq-transport` speaks.
pub(crate) const DRAFT: u8 = 18;

const SUBSCRIBES: &str = "subscribes to what our publisher sends through our relay";
const PUBLISHES: &str = "publishes through our relay to our subscriber";

pub(crate) const TESTS: [CrateTest; 5] = [
    CrateTest {
        name: "an_independent_subscriber_reads_every_object_over_quic",
        package: "moq-transport",
        what: SUBSCRIBES,
        transport: Transport::Quic,
    },
    CrateTest {
        name: "an_independent_subscriber_reads_every_object_over_web_transport",
        package: "moq-transport",
        what: SUBSCRIBES,
        transport: Transport::WebTransport,
    },
    CrateTest {
        name: "an_independent_publisher_is_read_bit_by_bit_over_quic",
        package: "moq-transport",
        what: PUBLISHES,
        transport: Transport::Quic,
    },
    CrateTest {
        name: "an_independent_publisher_is_read_bit_by_bit_over_web_transport",
        package: "moq-transport",
        what: PUBLISHES,
        transport: Transport::WebTransport,
    },
    CrateTest {
        name: "an_independent_web_transport_client_gets_our_setup",
        package: "wtransport",
        what: "opens a session at our relay and reads its SETUP",
        transport: Transport::WebTransport,
    },
];

const LIMIT: Duration = Duration::from_secs(30 * 60);

/// Runs them all, each with how it went.
pub(crate) fn run(stop: &Stop) -> Result<Vec<(&'static CrateTest, Result<()>)>> {
    let args = ["test", "--locked", "-p", "relay", "--test", "moq_transport", "--no-fail-fast"];
    let command = project::cargo(&args);
    println!("$ {}", project::shown(&command));
    let finished = process::finish(&command, LIMIT, stop)?;
    if !finished.stdout.contains("test result: ") {
        bail!("the tests did not run: {}", finished.last_words());
    }
    Ok(TESTS.iter().map(|test| (test, verdict(test.name, &finished.stdout))).collect())
}

/// Reads `test NAME ... ok`.
fn verdict(name: &str, output: &str) -> Result<()> {
    let start = format!("test {name} ... ");
    match output.lines().find_map(|line| line.strip_prefix(&start)) {
        Some("ok") => Ok(()),
        Some(other) => bail!("{other}"),
        None => bail!("there is no such test any more: xtask/src/interop/crates.rs names it"),
    }
}

/// The version of a package that our own lock file holds.
pub(crate) fn locked_version(package: &str) -> Result<String> {
    let lock = std::fs::read_to_string(project::path("Cargo.lock"))?;
    let start = format!("name = \"{package}\"\nversion = \"");
    match lock.split_once(&start).and_then(|(_, rest)| rest.split_once('"')) {
        Some((version, _)) => Ok(version.to_owned()),
        None => bail!("Cargo.lock has no {package}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_failed_or_is_gone_is_no_success() {
        let output = "running 2 tests\ntest one ... ok\ntest two ... FAILED\n";
        assert!(verdict("one", output).is_ok());
        assert_eq!(verdict("two", output).unwrap_err().to_string(), "FAILED");
        assert!(verdict("three", output).is_err());
    }

    #[test]
    fn every_test_named_here_is_there() {
        let source =
            std::fs::read_to_string(project::path("relay/tests/moq_transport.rs")).unwrap();
        for test in &TESTS {
            assert!(source.contains(&format!("async fn {}()", test.name)), "{}", test.name);
        }
    }
}
