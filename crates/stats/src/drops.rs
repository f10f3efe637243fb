//! Why something was not delivered, and how much of it: one table for API, metrics and dashboard.

use std::fmt;
use std::ops::{Add, AddAssign, Index, IndexMut};
use std::str::FromStr;

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why objects that were offered to a downstream session did not reach it.
///
/// The first words are the draft's stream reset codes; the last three name what no reset code of
/// ours explains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum DropReason {
    /// The delivery timeout of the subscription or the track ran out.
    DeliveryTimeout,
    /// The viewer was so far behind that it restarted at a newer group, or was let go.
    TooFarBehind,
    /// An object in a datagram found no room, or was too large for the path.
    ExcessiveLoad,
    /// The viewer did not want it any more: STOP_SENDING, unsubscribed, or stopped forwarding.
    Cancelled,
    /// The stream broke off upstream, so its rest never came to this node.
    UpstreamReset,
    /// It was queued when the viewer's session ended.
    SessionClosed,
    /// A reason that a newer node reported and this program does not know.
    Other,
}

/// What the one table says about a reason.
struct Entry {
    reason: DropReason,
    name: &'static str,
    short: &'static str,
    description: &'static str,
}

const TABLE: [Entry; DropReason::COUNT] = [
    Entry {
        reason: DropReason::DeliveryTimeout,
        name: "DELIVERY_TIMEOUT",
        short: "timeout",
        description: "could not be sent before the delivery timeout",
    },
    Entry {
        reason: DropReason::TooFarBehind,
        name: "TOO_FAR_BEHIND",
        short: "behind",
        description: "viewer too far behind, moved on to a newer group",
    },
    Entry {
        reason: DropReason::ExcessiveLoad,
        name: "EXCESSIVE_LOAD",
        short: "load",
        description: "a datagram found no room, or was too large for the path",
    },
    Entry {
        reason: DropReason::Cancelled,
        name: "CANCELLED",
        short: "cancel",
        description: "viewer cancelled the stream or subscription",
    },
    Entry {
        reason: DropReason::UpstreamReset,
        name: "UPSTREAM_RESET",
        short: "upstream",
        description: "upstream broke the stream off",
    },
    Entry {
        reason: DropReason::SessionClosed,
        name: "SESSION_CLOSED",
        short: "closed",
        description: "still queued when the viewer left",
    },
    Entry {
        reason: DropReason::Other,
        name: "OTHER",
        short: "other",
        description: "a reason that only a newer version knows",
    },
];

impl DropReason {
    /// How many reasons there are.
    pub const COUNT: usize = 7;

    /// Every reason, in the order in which tables and legends show them.
    pub const ALL: [Self; Self::COUNT] = {
        let mut all = [Self::Other; Self::COUNT];
        let mut i = 0;
        while i < Self::COUNT {
            // The table is indexed by discriminant: an entry out of place does not compile.
            assert!(TABLE[i].reason as usize == i, "TABLE is out of order");
            all[i] = TABLE[i].reason;
            i += 1;
        }
        all
    };

    /// The position in [`DropReason::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name in the API, in metrics and on the dashboard.
    pub const fn as_str(self) -> &'static str {
        TABLE[self.index()].name
    }

    /// One word of at most eight letters, where columns are narrow.
    pub const fn short(self) -> &'static str {
        TABLE[self.index()].short
    }

    /// A short phrase for people.
    pub const fn description(self) -> &'static str {
        TABLE[self.index()].description
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that is no [`DropReason`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownDropReason(
    /// The word, as it came.
    pub String,
);

impl fmt::Display for UnknownDropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown drop reason {:?}; known are:", self.0)?;
        for reason in DropReason::ALL {
            write!(f, " {reason}")?;
        }
        Ok(())
    }
}

impl std::error::Error for UnknownDropReason {}

impl FromStr for DropReason {
    type Err = UnknownDropReason;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        TABLE
            .iter()
            .find(|entry| entry.name == s)
            .map(|entry| entry.reason)
            .ok_or_else(|| UnknownDropReason(s.to_owned()))
    }
}

impl Serialize for DropReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for DropReason {
    /// An unknown word is [`DropReason::Other`]: a newer node may say more than this one knows.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Word;
        impl Visitor<'_> for Word {
            type Value = DropReason;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a drop reason")
            }

            fn visit_str<E>(self, word: &str) -> Result<DropReason, E> {
                Ok(word.parse().unwrap_or(DropReason::Other))
            }
        }
        deserializer.deserialize_str(Word)
    }
}

/// How much was dropped. Sums saturate, so a peer's nonsense can't overflow them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DropCounts {
    /// Groups of which at least one object was dropped.
    pub groups: u64,
    /// Objects not delivered whole.
    pub objects: u64,
    /// Payload bytes not delivered.
    pub bytes: u64,
}

impl DropCounts {
    /// Whether nothing was dropped.
    pub const fn is_zero(&self) -> bool {
        self.groups == 0 && self.objects == 0 && self.bytes == 0
    }
}

impl Add for DropCounts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            groups: self.groups.saturating_add(other.groups),
            objects: self.objects.saturating_add(other.objects),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

impl AddAssign for DropCounts {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// Cumulative [`DropCounts`] for every [`DropReason`]: a small fixed array, cheap to keep per
/// session. In JSON a map from reason to counts, with the reasons that occurred.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drops([DropCounts; DropReason::COUNT]);

impl Drops {
    /// Adds to one reason.
    pub fn record(&mut self, reason: DropReason, counts: DropCounts) {
        self[reason] += counts;
    }

    /// Every reason with its counts, zero or not, in table order.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, DropCounts)> + '_ {
        DropReason::ALL.into_iter().map(|reason| (reason, self[reason]))
    }

    /// The sum over all reasons.
    pub fn total(&self) -> DropCounts {
        self.0.iter().fold(DropCounts::default(), |sum, counts| sum + *counts)
    }

    /// Whether nothing was dropped for any reason.
    pub fn is_zero(&self) -> bool {
        self.0.iter().all(DropCounts::is_zero)
    }

    /// Serialises every known reason, zero or not, so that a script can read one without asking
    /// first whether it is there. For `#[serde(serialize_with)]`.
    pub(crate) fn serialize_all<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.serialize_where(serializer, |reason, counts| {
            reason != DropReason::Other || !counts.is_zero()
        })
    }

    fn serialize_where<S: Serializer>(
        &self,
        serializer: S,
        keep: impl Fn(DropReason, &DropCounts) -> bool,
    ) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (reason, counts) in self.iter().filter(|(reason, counts)| keep(*reason, counts)) {
            map.serialize_entry(&reason, &counts)?;
        }
        map.end()
    }
}

impl Index<DropReason> for Drops {
    type Output = DropCounts;

    fn index(&self, reason: DropReason) -> &DropCounts {
        &self.0[reason.index()]
    }
}

impl IndexMut<DropReason> for Drops {
    fn index_mut(&mut self, reason: DropReason) -> &mut DropCounts {
        &mut self.0[reason.index()]
    }
}

impl Add for Drops {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        self += other;
        self
    }
}

impl AddAssign for Drops {
    fn add_assign(&mut self, other: Self) {
        for (reason, counts) in other.iter() {
            self[reason] += counts;
        }
    }
}

impl Serialize for Drops {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.serialize_where(serializer, |_, counts| !counts.is_zero())
    }
}

impl<'de> Deserialize<'de> for Drops {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map;
        impl<'de> Visitor<'de> for Map {
            type Value = Drops;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from drop reason to counts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Drops, A::Error> {
                let mut drops = Drops::default();
                while let Some((reason, counts)) = map.next_entry::<DropReason, DropCounts>()? {
                    drops.record(reason, counts);
                }
                Ok(drops)
            }
        }
        deserializer.deserialize_map(Map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(groups: u64, objects: u64, bytes: u64) -> DropCounts {
        DropCounts { groups, objects, bytes }
    }

    #[test]
    fn every_reason_reads_back_from_its_own_name() {
        for reason in DropReason::ALL {
            assert_eq!(reason.as_str().parse(), Ok(reason));
            assert!(!reason.description().is_empty());
            assert!((1..=8).contains(&reason.short().len()), "{reason}");
        }
    }

    #[test]
    fn an_unknown_name_is_an_error_that_lists_the_known_ones() {
        let error = "NAPPING".parse::<DropReason>().unwrap_err().to_string();
        assert!(error.contains("NAPPING") && error.contains("DELIVERY_TIMEOUT"), "{error}");
    }

    #[test]
    fn only_reasons_that_occurred_are_written() {
        let mut drops = Drops::default();
        assert_eq!(serde_json::to_string(&drops).unwrap(), "{}");
        drops.record(DropReason::Cancelled, counts(1, 2, 3));
        assert_eq!(
            serde_json::to_string(&drops).unwrap(),
            r#"{"CANCELLED":{"groups":1,"objects":2,"bytes":3}}"#
        );
    }

    #[test]
    fn reasons_of_a_newer_node_are_kept_so_that_the_total_holds() {
        let drops: Drops = serde_json::from_str(
            r#"{"CANCELLED":{"groups":1,"objects":2,"bytes":3,"streams":9},
                "NEW_A":{"objects":10},"NEW_B":{"objects":5,"bytes":7}}"#,
        )
        .unwrap();
        assert_eq!(drops[DropReason::Cancelled], counts(1, 2, 3));
        assert_eq!(drops[DropReason::Other], counts(0, 15, 7));
        assert_eq!(drops.total(), counts(1, 17, 10));
    }

    #[test]
    fn sums_saturate() {
        let mut drops = Drops::default();
        drops.record(DropReason::TooFarBehind, counts(u64::MAX, 1, 1));
        drops.record(DropReason::TooFarBehind, counts(1, 1, 1));
        drops.record(DropReason::Cancelled, counts(1, 1, 1));
        assert_eq!(drops.total(), counts(u64::MAX, 3, 3));
    }
}
