//! The table of who talks to whom, for people and for docs/interop.md.

use std::{fmt::Write, path::Path};

use anyhow::{Context, Result};

use super::{
    client,
    tap::{TestPoint, Verdict},
    way::Way,
};

/// What the generated part of the page is between.
const BEGIN: &str = "<!-- Written by `cargo xtask interop`: from here on -->";
const END: &str = "<!-- Written by `cargo xtask interop`: up to here -->";

/// One line: a peer, what it does with us, and how that went.
#[derive(Debug)]
pub(crate) struct Row {
    /// With its version.
    pub(crate) peer: String,
    pub(crate) what: String,
    pub(crate) way: Way,
    /// What arrived or passed; else what went wrong.
    pub(crate) result: Result<String, String>,
}

impl Row {
    fn cells(&self) -> [String; 5] {
        let result = match &self.result {
            Ok(said) if said.is_empty() => "passes".to_owned(),
            Ok(said) => format!("passes: {said}"),
            Err(said) => format!("**fails**: {said}"),
        };
        let (draft, transport) = (self.way.draft.to_string(), self.way.transport.to_string());
        [self.peer.clone(), self.what.clone(), draft, transport, result].map(|cell| escape(&cell))
    }
}

/// A cell is one line without a bar.
fn escape(cell: &str) -> String {
    cell.replace('|', "\\|").replace('\n', " ")
}

const HEAD: [&str; 5] = ["peer", "what", "draft", "transport", "result"];

/// The rows as a Markdown table whose columns line up.
pub(crate) fn render(rows: &[Row]) -> String {
    let cells: Vec<_> = rows.iter().map(Row::cells).collect();
    render_cells(&HEAD.map(str::to_owned), &cells)
}

/// `moq-interop-client`'s tests by draft and transport.
pub(crate) fn render_tests(runs: &[(Way, Vec<TestPoint>)]) -> String {
    let mut head = vec!["test".to_owned(), "what it asks of a relay".to_owned()];
    head.extend(runs.iter().map(|(way, _)| format!("{} {}", way.draft, way.transport)));
    let rows: Vec<Vec<String>> = client::TESTS
        .iter()
        .enumerate()
        .map(|(index, (name, what))| {
            let verdict = |(_, points): &(Way, Vec<TestPoint>)| match points[index].verdict {
                Verdict::Passed => "passes".to_owned(),
                Verdict::Skipped => "not in this draft".to_owned(),
                Verdict::Failed => "**fails**".to_owned(),
            };
            let head = [format!("`{name}`"), escape(what)];
            head.into_iter().chain(runs.iter().map(verdict)).collect()
        })
        .collect();
    render_cells(&head, &rows)
}

fn render_cells<R: AsRef<[String]>>(head: &[String], rows: &[R]) -> String {
    let widths: Vec<usize> = (0..head.len())
        .map(|column| {
            let cells = rows.iter().map(|row| row.as_ref()[column].chars().count());
            cells.chain([head[column].chars().count()]).max().unwrap_or_default()
        })
        .collect();
    let line = |cells: &[String]| {
        let padded = cells.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        format!("| {} |\n", padded.collect::<Vec<_>>().join(" | "))
    };
    let rule: Vec<String> = widths.iter().map(|&width| "-".repeat(width)).collect();
    let mut table = line(head) + &line(&rule);
    rows.iter().for_each(|row| table.push_str(&line(row.as_ref())));
    table
}

/// Puts the tables into the page in place of those of the last run.
pub(crate) fn write(page: &Path, tables: &[String]) -> Result<()> {
    let text = std::fs::read_to_string(page);
    let text = text.with_context(|| format!("cannot read {}", page.display()))?;
    let text = replaced(&text, tables)
        .with_context(|| format!("{} has lost the line `{BEGIN}` or `{END}`", page.display()))?;
    std::fs::write(page, text).with_context(|| format!("cannot write {}", page.display()))
}

fn replaced(text: &str, tables: &[String]) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    let mut page = format!("{before}{BEGIN}\n");
    for table in tables {
        let _ = write!(page, "\n{table}");
    }
    Some(format!("{page}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::{super::way::Transport, *};

    fn row(result: Result<String, String>) -> Row {
        let way = Way { draft: 18, transport: Transport::Quic };
        Row { peer: "a 1.0".into(), what: "reads".into(), way, result }
    }

    #[test]
    fn columns_line_up_and_a_bar_cannot_break_a_cell() {
        let table = render(&[row(Ok(String::new())), row(Err("a|b\nc".into()))]);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{table}");
        assert!(lines[3].contains("**fails**: a\\|b c"), "{table}");
    }

    #[test]
    fn only_the_marked_part_of_a_page_is_written_anew() {
        let page = format!("head\n{BEGIN}\nold\n{END}\ntail\n");
        let new = replaced(&page, &["table\n".to_owned()]).unwrap();
        assert_eq!(new, format!("head\n{BEGIN}\n\ntable\n\n{END}\ntail\n"));
        assert_eq!(replaced(&new, &["table\n".to_owned()]).unwrap(), new);
        assert!(replaced("no marks", &[]).is_none());
    }
}
