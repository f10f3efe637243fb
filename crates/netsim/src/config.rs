//! What a link does to packets, and the words people write it in.

use std::{fmt, num::NonZeroU64, str::FromStr, time::Duration};

use thiserror::Error;

/// The properties of one direction of a path. The default is a perfect link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkConfig {
    /// The chance of each packet to be lost.
    pub loss: Probability,
    /// The least time from the end of a packet's transmission to its arrival.
    pub delay: Duration,
    /// Added to `delay`, drawn uniformly from zero to this for each packet.
    pub jitter: Duration,
    /// Whether jitter may let a packet overtake an earlier one.
    pub reorder: bool,
    /// How fast the bottleneck sends; `None` is without limit.
    pub rate: Option<Rate>,
    /// How many bytes may wait for the bottleneck, beside the packet that it is sending.
    pub queue: usize,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            loss: Probability::NEVER,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            reorder: false,
            rate: None,
            queue: 64 * 1024,
        }
    }
}

impl LinkConfig {
    /// Changes one property by its written name and value, for example `rate` and `3M`.
    ///
    /// Names are the fields'. `delay` and `jitter` are milliseconds, `loss` is in per cent, `rate` in
    /// bits a second (`k`, `M`, `G`, or `none`), `queue` in bytes (`k`, `M`), `reorder` is `on` or `off`.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), ConfigError> {
        let wrong = |expected| ConfigError::Value {
            name: name.to_owned(),
            value: value.to_owned(),
            expected,
        };
        match name {
            "loss" => self.loss = value.parse().map_err(|()| wrong(Probability::EXPECTED))?,
            "delay" => self.delay = parse_millis(value).ok_or_else(|| wrong(MILLIS))?,
            "jitter" => self.jitter = parse_millis(value).ok_or_else(|| wrong(MILLIS))?,
            "rate" if value == "none" => self.rate = None,
            "rate" => self.rate = Some(value.parse().map_err(|()| wrong(Rate::EXPECTED))?),
            "queue" => {
                let bytes = parse_scaled(value).and_then(|bytes| usize::try_from(bytes).ok());
                self.queue = bytes.ok_or_else(|| wrong("bytes, such as 64k"))?;
            }
            "reorder" => {
                self.reorder = match value {
                    "on" => true,
                    "off" => false,
                    _ => return Err(wrong("on or off")),
                }
            }
            _ => return Err(ConfigError::Name(name.to_owned())),
        }
        Ok(())
    }
}

impl FromStr for LinkConfig {
    type Err = ConfigError;

    /// Reads `rate=3M,delay=20,loss=1` on top of a perfect link; spaces separate as well as commas.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut config = Self::default();
        config.apply(text)?;
        Ok(config)
    }
}

impl LinkConfig {
    /// Changes every property that `text` names, in the form of [`LinkConfig::from_str`], or none of
    /// them when one is wrong.
    pub fn apply(&mut self, text: &str) -> Result<(), ConfigError> {
        let mut changed = self.clone();
        let settings = text.split([',', ' ']).map(str::trim).filter(|part| !part.is_empty());
        for setting in settings {
            let (name, value) =
                setting.split_once('=').ok_or_else(|| ConfigError::Form(setting.to_owned()))?;
            changed.set(name, value)?;
        }
        *self = changed;
        Ok(())
    }
}

/// Why a written link property could not be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// No property has this name.
    #[error("a link has no property {0:?}; it has loss, delay, jitter, reorder, rate and queue")]
    Name(String),
    /// The text isn't of the form `name=value`.
    #[error("{0:?} is not of the form name=value")]
    Form(String),
    /// The value doesn't fit the property.
    #[error("{name}={value:?}: expected {expected}")]
    Value {
        /// The property.
        name: String,
        /// What was written.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
}

/// A bit rate above zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(NonZeroU64);

impl Rate {
    const EXPECTED: &'static str = "bits a second above 0, such as 3M, or none";

    /// A rate in bits a second; `None` for zero.
    #[must_use]
    pub fn from_bits_per_second(bits: u64) -> Option<Self> {
        NonZeroU64::new(bits).map(Self)
    }

    /// The rate in bits a second.
    #[must_use]
    pub fn bits_per_second(self) -> u64 {
        self.0.get()
    }

    /// How long `bytes` take at this rate, rounded up so that the rate is never exceeded.
    #[must_use]
    pub fn time_for(self, bytes: usize) -> Duration {
        let nanos = (bytes as u128 * 8 * NANOS_PER_SECOND).div_ceil(u128::from(self.0.get()));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

const NANOS_PER_SECOND: u128 = 1_000_000_000;

impl FromStr for Rate {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        parse_scaled(text).and_then(Self::from_bits_per_second).ok_or(())
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bit/s", self.0)
    }
}

/// A chance from never to always, kept as parts of 2³² so that a draw is one integer comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Probability(u64);

impl Probability {
    const EXPECTED: &'static str = "per cent, 0 to 100, such as 0.5";
    const ONE: u64 = 1 << 32;

    /// What never happens.
    pub const NEVER: Self = Self(0);
    /// What always happens.
    pub const ALWAYS: Self = Self(Self::ONE);

    /// A chance in per cent; `None` outside 0 to 100.
    #[must_use]
    pub fn from_percent(percent: f64) -> Option<Self> {
        (0.0..=100.0)
            .contains(&percent)
            .then(|| Self((percent / 100.0 * Self::ONE as f64).round() as u64))
    }

    /// Whether it happens, given a uniformly random `draw`.
    pub(crate) fn happens(self, draw: u64) -> bool {
        (draw >> 32) < self.0
    }
}

impl FromStr for Probability {
    type Err = ();

    fn from_str(percent: &str) -> Result<Self, ()> {
        percent.parse().ok().and_then(Self::from_percent).ok_or(())
    }
}

const MILLIS: &str = "milliseconds, up to an hour, such as 20";
const LONGEST_MILLIS: f64 = 3_600_000.0;

fn parse_millis(text: &str) -> Option<Duration> {
    let millis: f64 = text.parse().ok()?;
    (0.0..=LONGEST_MILLIS).contains(&millis).then(|| Duration::from_secs_f64(millis / 1000.0))
}

/// Reads a whole number with an optional `k`, `M` or `G` (powers of ten) behind it.
fn parse_scaled(text: &str) -> Option<u64> {
    let (digits, scale) = match text.char_indices().next_back()? {
        (at, 'k' | 'K') => (&text[..at], 1_000),
        (at, 'm' | 'M') => (&text[..at], 1_000_000),
        (at, 'g' | 'G') => (&text[..at], 1_000_000_000),
        _ => (text, 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_read_in_the_units_people_write() {
        let config: LinkConfig =
            "rate=3M, delay=20 loss=0.5 jitter=1.5,queue=64k,reorder=on".parse().unwrap();
        assert_eq!(config.rate.unwrap().bits_per_second(), 3_000_000);
        assert_eq!(config.delay, Duration::from_millis(20));
        assert_eq!(config.jitter, Duration::from_micros(1500));
        assert_eq!(config.loss, Probability::from_percent(0.5).unwrap());
        assert_eq!(config.queue, 64_000);
        assert!(config.reorder);
    }

    #[test]
    fn wrong_properties_are_named_and_change_nothing() {
        let mut config = LinkConfig::default();
        for (text, says) in [
            ("delay=5,speed=3M", "speed"),
            ("delay=5,rate=0", "rate"),
            ("delay=5,rate=fast", "bits a second"),
            ("delay=5,loss=101", "per cent"),
            ("delay=5,loss=NaN", "per cent"),
            ("delay=-1", "milliseconds"),
            ("delay=1e300", "milliseconds"),
            ("delay=5,queue=99999999999G", "bytes"),
            ("delay=5,rate=é", "bits a second"),
            ("delay=5,reorder", "name=value"),
            ("delay=5,reorder=maybe", "on or off"),
        ] {
            let error = config.apply(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
            assert_eq!(config, LinkConfig::default(), "{text}");
        }
    }

    #[test]
    fn a_transmission_is_rounded_up() {
        let rate = Rate::from_bits_per_second(3).unwrap();
        assert_eq!(rate.time_for(1), Duration::from_nanos(2_666_666_667));
    }
}
