//! Values as people write them: times, sizes, names of drafts.

use std::net::SocketAddr;
use std::time::Duration;

use moqt::Version;

/// A number and its unit, which may be missing.
fn number(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim_start()))
}

/// Where to listen.
pub(super) fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "use ADDR:PORT, such as [::]:4433 or 127.0.0.1:4433".into())
}

/// A time, which may be none at all.
pub(super) fn parse_time(text: &str) -> Result<Duration, String> {
    /// Longer than anything that is kept or waited for.
    const MAX: Duration = Duration::from_secs(7 * 24 * 3600);
    let milliseconds = number(text).and_then(|(number, unit)| {
        let unit = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        number.checked_mul(unit)
    });
    let time = milliseconds.map(Duration::from_millis);
    let time = time.ok_or("a time is a whole number and a unit: 500ms, 2s, 5m, 1h")?;
    if time > MAX { Err("a time is at most a week, 168h".into()) } else { Ok(time) }
}

/// A time longer than nothing.
pub(super) fn parse_span(text: &str) -> Result<Duration, String> {
    let time = parse_time(text)?;
    if time.is_zero() { Err("must be longer than nothing".into()) } else { Ok(time) }
}

/// A number of bytes, at least one.
pub(super) fn parse_size(text: &str) -> Result<usize, String> {
    let bytes = number(text).and_then(|(number, unit)| {
        let unit = match unit {
            "" | "B" => 1,
            "k" | "kB" => 1000,
            "M" | "MB" => 1_000_000,
            "G" | "GB" => 1_000_000_000,
            "Ki" | "KiB" => 1 << 10,
            "Mi" | "MiB" => 1 << 20,
            "Gi" | "GiB" => 1 << 30,
            _ => return None,
        };
        number.checked_mul(unit)
    });
    let bytes = bytes.and_then(|bytes| usize::try_from(bytes).ok()).filter(|bytes| *bytes > 0);
    bytes.ok_or_else(|| "a size is a whole number of bytes, or with a unit: 32MiB, 500kB".into())
}

/// A draft, by its number or by its name on the wire.
pub(super) fn parse_version(text: &str) -> Result<Version, String> {
    let names = || Version::ALL.iter().map(|version| version.alpn());
    let version = Version::from_alpn(text).or_else(|| Version::from_alpn(&format!("moqt-{text}")));
    version.ok_or_else(|| format!("this relay speaks {}", names().collect::<Vec<_>>().join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drafts_have_a_number_and_a_name() {
        assert_eq!(parse_version("22"), Ok(Version::Draft22));
        assert_eq!(parse_version("moqt-16"), Ok(Version::Draft16));
        assert!(parse_version("17").unwrap_err().contains("moqt-18"));
    }
}
