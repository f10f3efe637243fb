//! The drafts, as people write them on a command line.

use moqt::Version;

/// A draft by its number: `18`.
///
/// # Errors
/// With the numbers that there are.
pub fn parse(text: &str) -> Result<Version, String> {
    let name = format!("moqt-{text}");
    let known = Version::EVERY.iter().find(|version| version.alpn() == name);
    known.copied().ok_or_else(|| {
        let names = Version::EVERY.iter().map(|version| version.alpn().trim_start_matches("moqt-"));
        format!("one of {}", names.collect::<Vec<_>>().join(", "))
    })
}
