//! `test:?size=1280x720&fps=30&bitrate=2500k&audio=1&gop=1`: what the test picture shall be.

use std::time::Duration;

/// What the test picture shall be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TestSpec {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// Frames per second.
    pub(crate) fps: u32,
    /// Video bits per second.
    pub(crate) bitrate: u32,
    /// Whether there is a tone.
    pub(crate) audio: bool,
    /// From one key frame to the next.
    pub(crate) gop: Duration,
}

impl Default for TestSpec {
    fn default() -> Self {
        Self {
            width: 1280,
            height: 720,
            fps: 30,
            bitrate: 2_500_000,
            audio: true,
            gop: Duration::from_secs(1),
        }
    }
}

const KEYS: [&str; 5] = ["size", "fps", "bitrate", "audio", "gop"];

impl TestSpec {
    /// Parses what follows `test:`.
    pub(crate) fn parse(options: &str) -> Result<Self, String> {
        let mut spec = Self::default();
        let options = options.strip_prefix('?').unwrap_or(options);
        for pair in options.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| format!("`{pair}` in the test source is not KEY=VALUE"))?;
            match key {
                "size" => (spec.width, spec.height) = size(value)?,
                "fps" => spec.fps = number(key, value, 1, 120)?,
                "bitrate" => spec.bitrate = bitrate(value)?,
                "audio" => spec.audio = switch(key, value)?,
                "gop" => spec.gop = seconds(key, value)?,
                _ => {
                    return Err(format!(
                        "the test source has no `{key}`{}; it has {}",
                        crate::config::nearest(key, &KEYS),
                        KEYS.join(", ")
                    ));
                }
            }
        }
        Ok(spec)
    }

    /// Frames from one key frame to the next.
    pub(crate) fn gop_frames(&self) -> u32 {
        let frames = self.gop.as_secs_f64() * f64::from(self.fps);
        (frames.round() as u32).max(1)
    }
}

fn size(value: &str) -> Result<(usize, usize), String> {
    let parsed = value.split_once('x').and_then(|(width, height)| {
        Some((width.parse::<usize>().ok()?, height.parse::<usize>().ok()?))
    });
    let (width, height) =
        parsed.ok_or_else(|| format!("size={value} is not WIDTHxHEIGHT, such as 1280x720"))?;
    if !width.is_multiple_of(2) || !height.is_multiple_of(2) {
        return Err(format!("size={value}: width and height must be even"));
    }
    if !(320..=3840).contains(&width) || !(180..=2160).contains(&height) {
        return Err(format!("size={value} is outside of 320x180 to 3840x2160"));
    }
    if height * 4 < width {
        return Err(format!("size={value}: the height must be at least a quarter of the width"));
    }
    Ok((width, height))
}

fn number(key: &str, value: &str, least: u32, most: u32) -> Result<u32, String> {
    let number = value.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("{key}={value} is not a whole number from {least} to {most}"))
}

/// Bits per second, with `k` or `M` as ffmpeg has them.
fn bitrate(value: &str) -> Result<u32, String> {
    let (digits, unit) = match value.as_bytes().last() {
        Some(b'k' | b'K') => (&value[..value.len() - 1], 1e3),
        Some(b'm' | b'M') => (&value[..value.len() - 1], 1e6),
        _ => (value, 1.0),
    };
    let bits = digits.parse::<f64>().ok().map(|number| number * unit);
    bits.filter(|bits| (50e3..=100e6).contains(bits))
        .map(|bits| bits as u32)
        .ok_or_else(|| format!("bitrate={value} is not from 50k to 100M, such as 2500k or 2.5M"))
}

fn switch(key: &str, value: &str) -> Result<bool, String> {
    match value {
        "1" | "true" | "on" | "yes" => Ok(true),
        "0" | "false" | "off" | "no" => Ok(false),
        _ => Err(format!("{key}={value} is neither 1 nor 0")),
    }
}

fn seconds(key: &str, value: &str) -> Result<Duration, String> {
    let seconds = value.parse::<f64>().ok().filter(|seconds| (0.1..=60.0).contains(seconds));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| format!("{key}={value} is not from 0.1 to 60 seconds"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_said_is_the_default() {
        assert_eq!(TestSpec::parse(""), Ok(TestSpec::default()));
        assert_eq!(TestSpec::parse("?"), Ok(TestSpec::default()));
    }

    #[test]
    fn all_keys_are_read() {
        let spec = TestSpec::parse("?size=640x360&fps=50&bitrate=1.2M&audio=0&gop=0.5");
        let expected = TestSpec {
            width: 640,
            height: 360,
            fps: 50,
            bitrate: 1_200_000,
            audio: false,
            gop: Duration::from_millis(500),
        };
        assert_eq!(spec, Ok(expected));
        assert_eq!(expected.gop_frames(), 25);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (options, word) in [
            ("?bitrat=1", "did you mean `bitrate`"),
            ("?size=12", "WIDTHxHEIGHT"),
            ("?size=321x180", "even"),
            ("?size=9000x9000", "outside"),
            ("?size=3840x180", "quarter"),
            ("?fps=0", "fps=0"),
            ("?bitrate=3", "bitrate=3"),
            ("?bitrate=k", "bitrate=k"),
            ("?audio=maybe", "audio=maybe"),
            ("?gop", "KEY=VALUE"),
            ("?gop=NaN", "gop=NaN"),
        ] {
            let error = TestSpec::parse(options).unwrap_err();
            assert!(error.contains(word), "{options}: {error}");
        }
    }
}
