//! `docs/conformance.md` names the tests that show what it claims; they must be there.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Pieces of `text` between backticks: every second one, as the first comes before any backtick.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The cells of a table's row; `None` for anything else.
fn cells(line: &str) -> Option<Vec<&str>> {
    let row = line.strip_prefix('|')?.strip_suffix('|')?;
    Some(row.split('|').map(str::trim).collect())
}

#[test]
fn every_test_that_the_page_names_exists_and_every_claim_names_one() {
    let page = std::fs::read_to_string(root().join("docs/conformance.md")).unwrap();
    let mut wrong = Vec::new();
    // Files, and the short names that tests in them are called by.
    let mut files = HashMap::new();
    for row in page.lines().filter_map(cells) {
        let [short, path] = row[..] else { continue };
        if let (Some(short), Some(path)) = (quoted(short).next(), quoted(path).next()) {
            match std::fs::read_to_string(root().join(path)) {
                Ok(source) => drop(files.insert(short, source)),
                Err(error) => wrong.push(format!("{path}: {error}")),
            }
        }
    }
    let mut claims = 0;
    for (index, line) in page.lines().enumerate() {
        let Some(cells) = cells(line) else { continue };
        let mut complain = |what: String| wrong.push(format!("line {}: {what}", index + 1));
        match cells[..] {
            [_, _] => {}
            // A requirement, the drafts that have it, its level, how we stand, what shows it.
            [_, drafts, level, status, shown] => {
                if drafts == "drafts" || drafts.starts_with('-') {
                    continue;
                }
                claims += 1;
                if !["MUST", "SHOULD"].contains(&level) {
                    complain(format!("{level:?} is no level"));
                }
                let known = ["done", "partly: ", "not: ", "n/a: "];
                if !known.iter().any(|known| status.starts_with(known)) {
                    complain(format!("{status:?} is no status"));
                }
                if (status == "done" || status.starts_with("partly")) && quoted(shown).count() == 0
                {
                    complain("nothing shows it".to_owned());
                }
                for test in quoted(shown) {
                    let Some((file, name)) = test.split_once("::") else {
                        complain(format!("{test} names no file"));
                        continue;
                    };
                    match files.get(file) {
                        None => complain(format!("{file} is not among the files")),
                        Some(source) => match source.split_once(&format!("fn {name}(")) {
                            None => complain(format!("{file} has no test {name}")),
                            // Its attributes are what follows the item before it.
                            Some((before, _)) => {
                                let attributes = before.rsplit("\n\n").next().unwrap_or(before);
                                if attributes.contains("#[ignore") {
                                    complain(format!(
                                        "{file}::{name} is ignored, and shows nothing"
                                    ));
                                }
                            }
                        },
                    }
                }
            }
            _ => complain(format!("a row of {} cells", cells.len())),
        }
    }
    assert!(wrong.is_empty(), "docs/conformance.md:\n{}", wrong.join("\n"));
    assert!(claims > 100, "{claims} requirements: the page was not understood");
}
