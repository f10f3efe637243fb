//! The Test Anything Protocol, as far as `moq-interop-client` speaks it.

/// How one test went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It passed by the letter.
    Passed,
    /// It does not apply to this draft.
    Skipped,
    /// It failed, or passed only because the client tolerates a deviation.
    Failed,
}

/// One test's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TestPoint {
    pub(crate) name: String,
    pub(crate) verdict: Verdict,
    /// The client's words about it.
    pub(crate) message: String,
}

/// Reads the test points of a TAP document; other lines are left out.
pub(crate) fn parse(text: &str) -> Vec<TestPoint> {
    let mut points: Vec<TestPoint> = Vec::new();
    for line in text.lines() {
        if let Some(point) = parse_point(line) {
            points.push(point);
        } else if let (Some(message), Some(point)) =
            (line.trim().strip_prefix("message: "), points.last_mut())
        {
            message.trim_matches('"').clone_into(&mut point.message);
        }
    }
    points
}

/// `ok 3 - name # DIRECTIVE why`.
fn parse_point(line: &str) -> Option<TestPoint> {
    let (passed, rest) = match line.strip_prefix("not ok ") {
        Some(rest) => (false, rest),
        None => (true, line.strip_prefix("ok ")?),
    };
    let (_, rest) = rest.split_once(" - ")?;
    let (name, directive) = rest.split_once(" # ").unwrap_or((rest, ""));
    let verdict = match directive.split(' ').next() {
        Some("SKIP") if passed => Verdict::Skipped,
        Some("COMPAT") => Verdict::Failed,
        _ if passed => Verdict::Passed,
        _ => Verdict::Failed,
    };
    Some(TestPoint { name: name.trim().to_owned(), verdict, message: directive.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_test_point_has_its_verdict_and_message() {
        let text = "TAP version 14\n# target: moqt://127.0.0.1:4433\n1..4\n\
            ok 1 - setup-only\n  ---\n  message: \"SETUP received\"\n  ...\n\
            ok 2 - rendezvous-timeout # SKIP not in draft-16\n  ---\n  ...\n\
            not ok 3 - fetch\n  ---\n  message: \"Failed: code=3\"\n  ...\n\
            ok 4 - subscribe-error # COMPAT\n  ---\n  message: \"code=404 accepted\"\n  ...\n";
        let point = |name: &str, verdict, message: &str| TestPoint {
            name: name.into(),
            verdict,
            message: message.into(),
        };
        assert_eq!(
            parse(text),
            [
                point("setup-only", Verdict::Passed, "SETUP received"),
                point("rendezvous-timeout", Verdict::Skipped, "SKIP not in draft-16"),
                point("fetch", Verdict::Failed, "Failed: code=3"),
                point("subscribe-error", Verdict::Failed, "code=404 accepted"),
            ]
        );
    }

    #[test]
    fn a_skipped_failure_is_a_failure() {
        assert_eq!(parse("not ok 1 - x # SKIP unsupported")[0].verdict, Verdict::Failed);
    }
}
