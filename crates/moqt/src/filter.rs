//! Which objects are wanted ("Location Filters", "Range Filters").

use std::num::NonZeroU64;

use crate::{ProtocolError, Reader, Writer};

/// Where an object is in its track ("Location Structure").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Location {
    /// Group ID.
    pub group: u64,
    /// Object ID.
    pub object: u64,
}

impl Location {
    /// The first location of all.
    pub const FIRST: Self = Self { group: 0, object: 0 };
    /// The last location of all: the end of what has no end.
    pub const LAST: Self = Self { group: u64::MAX, object: u64::MAX };

    /// Where a group begins.
    pub const fn start_of(group: u64) -> Self {
        Self { group, object: 0 }
    }

    /// Where a group ends.
    pub const fn end_of(group: u64) -> Self {
        Self { group, object: u64::MAX }
    }
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.group, self.object)
    }
}

/// Locations from `start` to `end`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LocationRange {
    /// First location.
    pub start: Location,
    /// Last location; [`Location::LAST`]: no end.
    pub end: Location,
}

impl LocationRange {
    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.start > self.end
    }

    /// Whether `location` is in it.
    pub fn contains(&self, location: Location) -> bool {
        self.start <= location && location <= self.end
    }
}

/// Which locations a subscription, a FETCH or a fill wants ("Location Filters").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocationFilter {
    /// From the start of the group after the largest.
    NextGroupStart,
    /// From the object after the largest.
    LargestObject,
    /// From `start`.
    AbsoluteStart {
        /// First object wanted.
        start: Location,
    },
    /// From `start` to the end of a group.
    AbsoluteRange {
        /// First object wanted.
        start: Location,
        /// Last group wanted, whole.
        end_group: u64,
    },
    /// Everything: takes away a filter set before.
    Unfiltered,
    /// From the start of a group that lies this many before the next one: 1 is the largest's own.
    RelativeStart {
        /// How many groups before the next.
        groups: NonZeroU64,
    },
    /// From `start` to `end`, both included.
    ObjectRange {
        /// First object wanted.
        start: Location,
        /// Last object wanted.
        end: Location,
    },
}

impl LocationFilter {
    /// The locations meant when `largest` is the track's Largest Object, if it has any.
    pub fn range(self, largest: Option<Location>) -> LocationRange {
        let next_group =
            largest.map_or(Location::FIRST, |l| Location::start_of(l.group.saturating_add(1)));
        let (start, end) = match self {
            LocationFilter::Unfiltered => (Location::FIRST, Location::LAST),
            LocationFilter::NextGroupStart => (next_group, Location::LAST),
            LocationFilter::LargestObject => {
                let next = largest.map_or(Location::FIRST, |largest| Location {
                    object: largest.object.saturating_add(1),
                    ..largest
                });
                (next, Location::LAST)
            }
            LocationFilter::RelativeStart { groups } => {
                let group = next_group.group.saturating_sub(groups.get());
                (Location::start_of(group), Location::LAST)
            }
            LocationFilter::AbsoluteStart { start } => (start, Location::LAST),
            LocationFilter::AbsoluteRange { start, end_group } => {
                (start, Location::end_of(end_group))
            }
            LocationFilter::ObjectRange { start, end } => (start, end),
        };
        LocationRange { start, end }
    }

    /// The same for a FETCH or a fill, which end at `largest` at the latest; `None` when nothing
    /// of it was published.
    pub fn fetch_range(self, largest: Option<Location>) -> Option<LocationRange> {
        let range = self.range(largest);
        let range = LocationRange { end: range.end.min(largest?), ..range };
        (!range.is_empty()).then_some(range)
    }
}

/// Which locations a subscription wants, in the forms that every draft has ("Subscription
/// Filters"). [`LocationFilter`] has them all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// From the start of the group after the largest.
    NextGroupStart,
    /// From the object after the largest.
    LargestObject,
    /// From `start`. That of [`Location::FIRST`] is equivalent to no filter.
    AbsoluteStart {
        /// First object wanted.
        start: Location,
    },
    /// From `start` to the end of a group.
    AbsoluteRange {
        /// First object wanted.
        start: Location,
        /// Last group wanted, whole.
        end_group: u64,
    },
}

impl From<Filter> for LocationFilter {
    fn from(filter: Filter) -> Self {
        match filter {
            Filter::NextGroupStart => Self::NextGroupStart,
            Filter::LargestObject => Self::LargestObject,
            Filter::AbsoluteStart { start } => Self::AbsoluteStart { start },
            Filter::AbsoluteRange { start, end_group } => Self::AbsoluteRange { start, end_group },
        }
    }
}

impl LocationFilter {
    /// The same in a form that every draft has, if there is one.
    pub fn to_filter(self) -> Option<Filter> {
        match self {
            Self::NextGroupStart => Some(Filter::NextGroupStart),
            Self::LargestObject => Some(Filter::LargestObject),
            Self::Unfiltered => Some(Filter::AbsoluteStart { start: Location::FIRST }),
            Self::AbsoluteStart { start } => Some(Filter::AbsoluteStart { start }),
            Self::AbsoluteRange { start, end_group } => {
                Some(Filter::AbsoluteRange { start, end_group })
            }
            Self::RelativeStart { .. } | Self::ObjectRange { .. } => None,
        }
    }
}

/// What a range filter looks at ("Range Filters").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RangeField {
    /// SUBGROUP_FILTER: the Subgroup ID.
    Subgroup,
    /// OBJECTID_FILTER: the Object ID.
    Object,
    /// PRIORITY_FILTER: the Publisher Priority.
    Priority,
    /// OBJECT_PROPERTY_FILTER: an object's integer property of this type.
    ObjectProperty(u64),
    /// TRACK_PROPERTY_FILTER: a track's integer property of this type.
    TrackProperty(u64),
}

/// A range filter parameter: passes what has a value in one of the ranges. Filters of one set are
/// all to be passed, of the sets any one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangeFilter {
    /// Filters.
    Ranges {
        /// What is looked at.
        field: RangeField,
        /// The set it belongs to.
        set: u8,
        /// First and last values, both included, ascending.
        ranges: Vec<(u64, u64)>,
    },
    /// In REQUEST_UPDATE: takes away the filters of this parameter type. The type of a property
    /// is 0 here: the wire does not say it.
    Removed(RangeField),
}

/// Why a range filter cannot be meant: the request is refused with INVALID_FILTER, the session
/// goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidFilter(pub &'static str);

impl RangeFilter {
    /// Whether `value` passes.
    pub fn passes(&self, value: u64) -> bool {
        match self {
            Self::Ranges { ranges, .. } => {
                ranges.iter().any(|(start, end)| (*start..=*end).contains(&value))
            }
            Self::Removed(_) => true,
        }
    }

    /// Start and end pairs, which MAX_FILTER_RANGES limits.
    pub fn range_count(&self) -> u64 {
        match self {
            Self::Ranges { ranges, .. } => ranges.len() as u64,
            Self::Removed(_) => 0,
        }
    }

    /// What is looked at.
    pub fn field(&self) -> RangeField {
        match self {
            Self::Ranges { field, .. } | Self::Removed(field) => *field,
        }
    }

    /// What may stand once in a message: parameter type, set and property type.
    pub(crate) fn identity(&self) -> (RangeField, Option<u8>) {
        match self {
            Self::Ranges { field, set, .. } => (*field, Some(*set)),
            Self::Removed(field) => (*field, None),
        }
    }

    /// Parses a parameter's value ("Range Filter Structure"). `field` names the parameter; a
    /// property's type is read from the value.
    pub(crate) fn decode(
        field: RangeField,
        r: &mut Reader,
    ) -> Result<Result<Self, InvalidFilter>, ProtocolError> {
        if r.is_empty() {
            return Ok(Ok(Self::Removed(field)));
        }
        let set = r.u8("SetID")?;
        let field = match field {
            RangeField::ObjectProperty(_) => RangeField::ObjectProperty(r.int("Property Type")?),
            RangeField::TrackProperty(_) => RangeField::TrackProperty(r.int("Property Type")?),
            other => other,
        };
        let mut deltas = Vec::new();
        while !r.is_empty() {
            deltas.push(r.int("Range")?);
        }
        Ok(Self::from_deltas(field, set, &deltas))
    }

    fn from_deltas(field: RangeField, set: u8, deltas: &[u64]) -> Result<Self, InvalidFilter> {
        if let RangeField::ObjectProperty(kind) | RangeField::TrackProperty(kind) = field
            && !kind.is_multiple_of(2)
        {
            return Err(InvalidFilter("a filtered property holds bytes, not an integer"));
        }
        let beyond = InvalidFilter("a filter's range exceeds 2^64-1");
        let mut ranges = Vec::with_capacity(deltas.len().div_ceil(2));
        let mut previous = 0u64;
        for pair in deltas.chunks(2) {
            let start = previous.checked_add(pair[0]).ok_or(beyond)?;
            let end = match pair.get(1) {
                Some(delta) => start.checked_add(*delta).ok_or(beyond)?,
                None => u64::MAX,
            };
            if field == RangeField::Priority && (start > 255 || end > 255 && pair.len() == 2) {
                return Err(InvalidFilter("a filtered priority exceeds 255"));
            }
            ranges.push((start, end));
            previous = end;
        }
        Ok(Self::Ranges { field, set, ranges })
    }

    /// Writes the parameter's value, without the length before it.
    pub(crate) fn encode(&self, w: &mut Writer) {
        let Self::Ranges { field, set, ranges } = self else { return };
        w.u8(*set);
        if let RangeField::ObjectProperty(kind) | RangeField::TrackProperty(kind) = field {
            w.int(*kind);
        }
        let mut previous = 0u64;
        for (index, (start, end)) in ranges.iter().enumerate() {
            w.int(start.saturating_sub(previous));
            if *end != u64::MAX || index + 1 < ranges.len() {
                w.int(end.saturating_sub(*start));
            }
            previous = *end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGEST: Location = Location { group: 7, object: 3 };

    #[test]
    fn filters_mean_what_the_draft_says_of_the_largest_object() {
        let at = |group, object| Location { group, object };
        let relative = |n| LocationFilter::RelativeStart { groups: NonZeroU64::new(n).unwrap() };
        let table = [
            (LocationFilter::Unfiltered, at(0, 0), at(0, 0)),
            (LocationFilter::NextGroupStart, at(8, 0), at(0, 0)),
            (LocationFilter::LargestObject, at(7, 4), at(0, 0)),
            (relative(1), at(7, 0), at(0, 0)),
            (relative(3), at(5, 0), at(0, 0)),
            (relative(100), at(0, 0), at(0, 0)),
            (LocationFilter::AbsoluteStart { start: at(2, 9) }, at(2, 9), at(2, 9)),
        ];
        for (filter, start, start_when_empty) in table {
            let range = filter.range(Some(LARGEST));
            assert_eq!((range.start, range.end), (start, Location::LAST), "{filter:?}");
            assert_eq!(filter.range(None).start, start_when_empty, "{filter:?} of an empty track");
        }
        let end_group = LocationFilter::AbsoluteRange { start: at(2, 9), end_group: 4 };
        assert!(end_group.range(None).contains(at(4, u64::MAX)));
        assert!(!end_group.range(None).contains(at(5, 0)));
    }

    #[test]
    fn a_fetch_ends_at_the_largest_object() {
        let whole = LocationFilter::Unfiltered.fetch_range(Some(LARGEST)).unwrap();
        assert_eq!((whole.start, whole.end), (Location::FIRST, LARGEST));
        assert_eq!(LocationFilter::LargestObject.fetch_range(Some(LARGEST)), None);
        assert_eq!(LocationFilter::Unfiltered.fetch_range(None), None);
    }

    #[test]
    fn ranges_are_written_as_deltas() {
        let filter = RangeFilter::Ranges {
            field: RangeField::Object,
            set: 9,
            ranges: vec![(3, 5), (10, 15), (20, u64::MAX)],
        };
        let mut w = Writer::new(crate::IntCoding::LeadingOnes);
        filter.encode(&mut w);
        let bytes = w.finish();
        assert_eq!(&bytes[..], &[9, 3, 2, 5, 5, 5]);
        let mut r = Reader::new(bytes, crate::IntCoding::LeadingOnes);
        assert_eq!(RangeFilter::decode(RangeField::Object, &mut r), Ok(Ok(filter.clone())));
        let passing: Vec<u64> = (0..22).filter(|value| filter.passes(*value)).collect();
        assert_eq!(passing, [3, 4, 5, 10, 11, 12, 13, 14, 15, 20, 21]);
    }

    #[test]
    fn impossible_ranges_refuse_the_request_only() {
        let decode = |field, bytes: &'static [u8]| {
            let bytes = bytes::Bytes::from_static(bytes);
            RangeFilter::decode(field, &mut Reader::new(bytes, crate::IntCoding::LeadingOnes))
                .expect("no violation")
        };
        let beyond = &[0, 1, 0xff, 255, 255, 255, 255, 255, 255, 255, 255];
        assert!(decode(RangeField::Subgroup, beyond).is_err());
        assert!(decode(RangeField::Priority, &[0, 0x80, 0xff, 1]).is_err());
        assert!(decode(RangeField::Priority, &[0, 5]).is_ok());
        assert!(decode(RangeField::ObjectProperty(0), &[0, 3, 1, 1]).is_err());
        assert_eq!(decode(RangeField::Object, &[]), Ok(RangeFilter::Removed(RangeField::Object)));
    }
}
