//! Figures as short words. Unknown is `-`, never 0.

use std::time::Duration;

/// What is not known.
pub const UNKNOWN: &str = "-";

/// Three significant digits and a decimal prefix, at most five characters: `0`, `9.87`, `12.3k`, `4.56M`.
pub fn rate(value: Option<f64>) -> String {
    let Some(value) = value.filter(|value| value.is_finite() && *value >= 0.0) else {
        return UNKNOWN.to_owned();
    };
    const PREFIXES: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
    let mut scaled = value;
    let mut prefix = 0;
    // 999.5 would round to 1000.
    while scaled >= 999.5 && prefix + 1 < PREFIXES.len() {
        scaled /= 1000.0;
        prefix += 1;
    }
    let digits = match scaled {
        _ if prefix == 0 && scaled.fract() == 0.0 => format!("{scaled:.0}"),
        small if small < 9.995 => format!("{small:.2}"),
        middle if middle < 99.95 => format!("{middle:.1}"),
        large => format!("{large:.0}"),
    };
    format!("{digits}{}", PREFIXES[prefix])
}

/// Objects dropped a second: as [`rate`], without decimals that say nothing.
pub fn drops(value: Option<f64>) -> String {
    rate(value.map(|value| if (9.5..1000.0).contains(&value) { value.round() } else { value }))
}

/// A bit rate with its unit: `4.56 Mb/s`.
pub fn bits(value: Option<f64>) -> String {
    let text = rate(value);
    match text.find(|c: char| c.is_ascii_alphabetic()) {
        _ if text == UNKNOWN => text,
        Some(at) => format!("{} {}b/s", &text[..at], &text[at..]),
        None => format!("{text} b/s"),
    }
}

/// An amount of bytes: `4.56 MB`.
pub fn bytes(value: Option<u64>) -> String {
    let text = rate(value.map(|value| value as f64));
    match text.find(|c: char| c.is_ascii_alphabetic()) {
        _ if text == UNKNOWN => text,
        Some(at) => format!("{} {}B", &text[..at], &text[at..]),
        None => format!("{text} B"),
    }
}

/// A count, in full as long as it is short: `12345`, `123k`.
pub fn count(value: u64) -> String {
    if value < 100_000 { value.to_string() } else { rate(Some(value as f64)) }
}

/// A count with its noun: `1 viewer`, `3 viewers`.
pub fn counted(value: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(value), if value == 1 { "" } else { "s" })
}

/// A round figure without needless digits: `0.5`, `20`, `5M`.
pub fn round(value: f64) -> String {
    let text = rate(Some(value));
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let short = if digits.contains('.') {
        digits.trim_end_matches('0').trim_end_matches('.')
    } else {
        digits
    };
    format!("{short}{}", &text[digits.len()..])
}

/// A short time: `0.4ms`, `12ms`, `1.2s`, then as [`duration`].
pub fn millis(value: Option<f64>) -> String {
    match value.filter(|value| value.is_finite() && *value >= 0.0) {
        None => UNKNOWN.to_owned(),
        Some(0.0) => "0ms".to_owned(),
        Some(ms) if ms < 9.95 => format!("{ms:.1}ms"),
        Some(ms) if ms < 999.5 => format!("{ms:.0}ms"),
        Some(ms) if ms < 59_950.0 => format!("{:.1}s", ms / 1000.0),
        Some(ms) => duration(ms / 1000.0),
    }
}

/// A long time in two units: `12s`, `3m12s`, `4h05m`, `3d04h`.
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return UNKNOWN.to_owned();
    }
    let seconds = seconds as u64;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// As [`duration`].
pub fn age(age: Duration) -> String {
    duration(age.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_three_digits() {
        let cases = [
            (0.0, "0"),
            (3.0, "3"),
            (0.333, "0.33"),
            (9.996, "10.0"),
            (12.34, "12.3"),
            (99.96, "100"),
            (999.4, "999"),
            (999.6, "1.00k"),
            (12_345.0, "12.3k"),
            (4_560_000.0, "4.56M"),
            (2.5e10, "25.0G"),
        ];
        for (value, text) in cases {
            assert_eq!(rate(Some(value)), text);
        }
        assert!(rate(Some(f64::MAX)).contains('E'));
    }

    #[test]
    fn unknown_is_a_dash_and_zero_is_zero() {
        for text in [
            rate(None),
            bits(None),
            bytes(None),
            millis(None),
            duration(f64::NAN),
            rate(Some(-1.0)),
        ] {
            assert_eq!(text, "-");
        }
        assert_eq!(bits(Some(0.0)), "0 b/s");
        assert_eq!(millis(Some(0.0)), "0ms");
    }

    #[test]
    fn units_stand_apart_from_the_figure() {
        assert_eq!(bits(Some(4_560_000.0)), "4.56 Mb/s");
        assert_eq!(bytes(Some(999)), "999 B");
        assert_eq!(bytes(Some(20_800)), "20.8 kB");
        assert_eq!(count(99_999), "99999");
        assert_eq!(count(123_456), "123k");
    }

    #[test]
    fn drops_are_whole_where_they_are_many() {
        for (value, text) in [(0.0, "0"), (0.25, "0.25"), (13.97, "14"), (999.7, "1.00k")] {
            assert_eq!(drops(Some(value)), text);
        }
    }

    #[test]
    fn round_figures_are_short() {
        for (value, text) in [(0.5, "0.5"), (20.0, "20"), (5e6, "5M"), (1e7, "10M"), (2e8, "200M")]
        {
            assert_eq!(round(value), text);
        }
    }

    #[test]
    fn nouns_follow_their_count() {
        assert_eq!([counted(1, "node"), counted(0, "node")], ["1 node", "0 nodes"]);
    }

    #[test]
    fn times_have_at_most_two_units() {
        for (ms, text) in [
            (0.44, "0.4ms"),
            (9.96, "10ms"),
            (132.4, "132ms"),
            (1234.0, "1.2s"),
            (61_000.0, "1m01s"),
        ] {
            assert_eq!(millis(Some(ms)), text);
        }
        for (s, text) in
            [(12.9, "12s"), (192.0, "3m12s"), (14_700.0, "4h05m"), (273_600.0, "3d04h")]
        {
            assert_eq!(duration(s), text);
        }
    }
}
