//! What time it is, here and elsewhere, asked for with MoQT's own means.
//!
//! The track `now` of the reserved namespace `weir/clock` has groups that are microseconds since
//! the Unix epoch, so that TRACK_STATUS ("TRACK_STATUS") tells a clock: in the answer's Largest
//! Object the group is the time, the object how wrong it may be, in microseconds too. Below it,
//! `weir/clock/live/cam1` is the clock that the broadcast `live/cam1` was captured by, as well as
//! the one who is asked knows it.

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use moqt::{FullTrackName, Location, Namespace, Parameters, RequestOk};

/// Environment variable with milliseconds to add to the clock: for tests of wrong clocks.
pub const OFFSET_VARIABLE: &str = "WEIR_CLOCK_OFFSET_MS";

const NAMESPACE: [&[u8]; 2] = [b"weir", b"clock"];
const TRACK: &[u8] = b"now";

/// The wall clock of this program, in microseconds since the Unix epoch. Whatever tells others a
/// time reads it here; only certificates are judged by the system's clock.
pub fn unix_us() -> u64 {
    static OFFSET_US: OnceLock<i64> = OnceLock::new();
    let offset = OFFSET_US.get_or_init(|| {
        let Ok(said) = std::env::var(OFFSET_VARIABLE) else { return 0 };
        match said.parse::<i64>() {
            Ok(milliseconds) => milliseconds.saturating_mul(1000),
            Err(_) => {
                tracing::warn!("{OFFSET_VARIABLE} is no number of milliseconds: ignored");
                0
            }
        }
    });
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX).saturating_add_signed(*offset)
}

/// Whose clock a TRACK_STATUS asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Asked {
    /// That of the one who is asked.
    Own,
    /// The one that a broadcast was captured by.
    Broadcast(Namespace),
}

impl Asked {
    /// What a track stands for; `None` if it is none of these.
    pub fn of(track: &FullTrackName) -> Option<Self> {
        let [first, second, rest @ ..] = track.namespace().fields() else { return None };
        if [&first[..], &second[..]] != NAMESPACE || &track.name()[..] != TRACK {
            return None;
        }
        match rest {
            [] => Some(Self::Own),
            fields => Namespace::new(fields.iter().cloned()).ok().map(Self::Broadcast),
        }
    }

    /// The track to ask for; `None` for a broadcast whose name leaves no room.
    pub fn track(&self) -> Option<FullTrackName> {
        let broadcast = match self {
            Self::Own => &[][..],
            Self::Broadcast(namespace) => namespace.fields(),
        };
        let fields = NAMESPACE.iter().map(|field| Bytes::from_static(field));
        let namespace = Namespace::new(fields.chain(broadcast.iter().cloned())).ok()?;
        FullTrackName::new(namespace, TRACK).ok()
    }
}

/// The answer to a TRACK_STATUS that asks for a clock.
pub fn status(unix_us: u64, error_us: u64) -> RequestOk {
    let largest_object = Some(Location { group: unix_us, object: error_us });
    let parameters = Parameters { largest_object, ..Parameters::default() };
    RequestOk { parameters, ..RequestOk::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn track(namespace: &str, name: &'static [u8]) -> FullTrackName {
        FullTrackName::new(Namespace::from_path(namespace).unwrap(), name).unwrap()
    }

    #[test]
    fn a_clock_is_known_by_its_track() {
        let broadcast = Asked::Broadcast(Namespace::from_path("live/cam1").unwrap());
        assert_eq!(Asked::of(&track("weir/clock", b"now")), Some(Asked::Own));
        assert_eq!(Asked::of(&track("weir/clock/live/cam1", b"now")), Some(broadcast.clone()));
        for asked in [Asked::Own, broadcast] {
            assert_eq!(Asked::of(&asked.track().unwrap()), Some(asked));
        }
    }

    #[test]
    fn other_tracks_are_no_clocks() {
        for other in [track("weir/clock", b"then"), track("weir", b"now"), track("live/a", b"now")]
        {
            assert_eq!(Asked::of(&other), None);
        }
    }

    #[test]
    fn a_broadcast_whose_name_leaves_no_room_has_no_clock() {
        let deep = Namespace::from_path(&["a"; 31].join("/")).unwrap();
        assert_eq!(Asked::Broadcast(deep).track(), None);
    }
}
