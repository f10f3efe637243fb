//! `docs/dashboard.md` shows screens as the snapshots have them.

use std::path::Path;

/// Before a block of text: the snapshot that it shows.
const MARK: &str = "<!-- screen: ";

/// The page with each marked block as its snapshot is now.
fn renewed(page: &str, snapshots: &Path) -> (String, usize) {
    let mut renewed = String::new();
    let mut blocks = 0;
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        renewed.push_str(line);
        renewed.push('\n');
        let Some(name) = line.strip_prefix(MARK).and_then(|rest| rest.strip_suffix(" -->")) else {
            continue;
        };
        assert_eq!(lines.next(), Some("```text"), "after {line}");
        let end = lines.find(|line| *line == "```");
        assert!(end.is_some(), "the block after {line} has no end");
        let path = snapshots.join(format!("{name}.snap"));
        let snapshot = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let screen = snapshot.splitn(3, "---\n").nth(2).expect("a head and a body");
        renewed.push_str(&format!("```text\n{}\n```\n", screen.trim_end()));
        blocks += 1;
    }
    (renewed, blocks)
}

#[test]
fn screens_in_the_documentation_are_those_of_the_program() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("../docs/dashboard.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (renewed, blocks) = renewed(&page, &root.join("tests/snapshots"));
    assert!(blocks >= 5, "{blocks} screens");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &renewed).unwrap();
    }
    assert!(
        page == renewed || std::env::var_os("UPDATE_DOCS").is_some(),
        "docs/dashboard.md shows old screens; run: UPDATE_DOCS=1 cargo test -p tui --test docs"
    );
}
