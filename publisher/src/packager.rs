//! Frames become LOC objects in groups, and the tracks a catalog.

use bytes::Bytes;
use media::loc::{self, PropertyValue};
use media::msf::{CATALOG_TRACK, Catalog, TrackInfo};
use media::{Frame, Kind};
use moqt::Properties;
use transport::publish::{Broadcast, TrackOptions, TrackProducer};

use crate::sources::{Captured, SourceTrack};

/// How long an audio group lasts. Every audio frame could start one; this keeps streams few.
const AUDIO_GROUP_US: u64 = 1_000_000;
/// A group is held in memory for who joins, so it may not grow for ever.
const MAX_GROUP_BYTES: usize = 64 << 20;
/// The longest description sent beside objects; the catalog has it in any case.
const MAX_CONFIG_BYTES: usize = 4096;
/// Publisher priorities: lower goes first.
const CATALOG_PRIORITY: u8 = 0;
const AUDIO_PRIORITY: u8 = 32;
const VIDEO_PRIORITY: u8 = 128;
/// Of frames that can be left out: behind all video that is needed, newer groups' too.
const UPPER_PRIORITY: u8 = 160;

/// The subgroup that every group has. It can be decoded by itself.
const BASE: u64 = 0;
/// The subgroup of frames that those in `BASE` do without. A link that is too thin loses it first,
/// and so frame rate before it loses the picture.
const UPPER: u64 = 1;

/// Writes one broadcast.
#[derive(Debug)]
pub(crate) struct Packager {
    broadcast: Broadcast,
    target_latency: Option<u32>,
    catalog: TrackProducer,
    catalog_groups: GroupIds,
    /// What the last catalog said.
    announced: Vec<SourceTrack>,
    tracks: Vec<Track>,
}

#[derive(Debug)]
struct Track {
    name: String,
    source: SourceTrack,
    producer: TrackProducer,
    groups: GroupIds,
    grouper: Grouper,
    /// Since the last report.
    frames: u64,
    bytes: u64,
}

/// What went out since the last report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) video_frames: u64,
    pub(crate) video_bytes: u64,
    pub(crate) audio_bytes: u64,
    /// Tracks, the catalog included, and how many of them somebody has subscribed to.
    pub(crate) tracks: usize,
    pub(crate) subscribed: usize,
}

impl Packager {
    pub(crate) fn new(broadcast: &Broadcast, target_latency: Option<u32>) -> Self {
        let options = TrackOptions { priority: CATALOG_PRIORITY };
        Self {
            catalog: broadcast.create_track(CATALOG_TRACK, options),
            broadcast: broadcast.clone(),
            target_latency,
            catalog_groups: GroupIds::starting_now(),
            announced: Vec::new(),
            tracks: Vec::new(),
        }
    }

    /// Takes the source's tracks; publishes a catalog if that is news.
    ///
    /// Tracks are numbered by kind: `video0`, `audio0`, …. One that is there already stays, so its
    /// subscribers do.
    pub(crate) fn handle_tracks(&mut self, sources: Vec<SourceTrack>) {
        if sources == self.announced {
            return;
        }
        let mut old = std::mem::take(&mut self.tracks);
        let mut counts = [0; 2];
        for source in &sources {
            let kind = source.config.kind();
            let (count, priority) = match kind {
                Kind::Video => (&mut counts[0], VIDEO_PRIORITY),
                Kind::Audio => (&mut counts[1], AUDIO_PRIORITY),
            };
            let name = format!("{}{count}", kind.as_str());
            *count += 1;
            let track = match old.iter().position(|track| track.name == name) {
                Some(at) => {
                    let mut track = old.swap_remove(at);
                    if track.source != *source {
                        track.source = source.clone();
                        track.grouper = Grouper::new(kind);
                    }
                    track
                }
                None => Track {
                    producer: {
                        let options = TrackOptions { priority };
                        let mut producer = self.broadcast.create_track(&name, options);
                        producer.set_subgroup_priority(UPPER, UPPER_PRIORITY);
                        producer
                    },
                    name,
                    source: source.clone(),
                    groups: GroupIds::starting_now(),
                    grouper: Grouper::new(kind),
                    frames: 0,
                    bytes: 0,
                },
            };
            self.tracks.push(track);
        }
        for gone in old {
            gone.producer.end();
        }
        self.announced = sources;
        let infos: Vec<_> = self
            .tracks
            .iter()
            .map(|track| TrackInfo {
                name: &track.name,
                config: &track.source.config,
                bitrate: track.source.bitrate,
                target_latency_ms: self.target_latency,
            })
            .collect();
        let catalog = Catalog::live(unix_ms(), &infos);
        self.write_catalog(&catalog);
    }

    /// The broadcast is over for good: says so in a last catalog (*Ending a live broadcast*).
    /// Dropping the packager ends the tracks.
    pub(crate) fn handle_end(&mut self) {
        self.tracks.clear();
        self.write_catalog(&Catalog::complete(unix_ms()));
    }

    /// Each version is a group of its own, so that every subscriber starts with a whole one.
    fn write_catalog(&mut self, catalog: &Catalog) {
        self.catalog.begin_group(self.catalog_groups.next());
        self.catalog.write(BASE, 0, &Properties::new(), catalog.to_json().into());
    }

    /// Takes the next frame; gives a word of warning if there is one.
    pub(crate) fn handle_frame(&mut self, captured: Captured) -> Option<String> {
        let Captured { frame, capture_unix_us } = captured;
        let track = self.tracks.iter_mut().find(|track| track.source.config.id == frame.track)?;
        let placement = track.grouper.place(&frame, capture_unix_us)?;
        if placement.begins_group {
            track.producer.begin_group(track.groups.next());
        }
        let kind = track.source.config.kind();
        let with_config = match kind {
            Kind::Video => frame.keyframe,
            Kind::Audio => placement.begins_group,
        };
        let description = track.source.config.description.as_ref();
        let config =
            description.filter(|description| with_config && description.len() <= MAX_CONFIG_BYTES);
        let properties = properties(kind, capture_unix_us, config);
        track.frames += 1;
        track.bytes += frame.payload.len() as u64;
        track.producer.write(placement.subgroup, placement.object, &properties, frame.payload);
        placement.overlong.then(|| {
            format!(
                "{}: {} MiB without a key frame; viewers can join only at key frames, so have the \
                 encoder send one every second or two (ffmpeg: -g)",
                track.name,
                MAX_GROUP_BYTES >> 20
            )
        })
    }

    /// What went out since the last report.
    pub(crate) fn take_report(&mut self) -> Report {
        let mut report = Report {
            tracks: self.tracks.len() + 1,
            subscribed: usize::from(self.catalog.has_subscribers()),
            ..Report::default()
        };
        for track in &mut self.tracks {
            report.subscribed += usize::from(track.producer.has_subscribers());
            let (frames, bytes) =
                (std::mem::take(&mut track.frames), std::mem::take(&mut track.bytes));
            match track.source.config.kind() {
                Kind::Video => {
                    report.video_frames += frames;
                    report.video_bytes += bytes;
                }
                Kind::Audio => report.audio_bytes += bytes,
            }
        }
        report
    }
}

fn properties(kind: Kind, capture_unix_us: u64, config: Option<&Bytes>) -> Properties {
    let mut properties = Properties::new();
    for (property, value) in loc::properties(kind, capture_unix_us, config) {
        match value {
            PropertyValue::Int(value) => properties.push_int(property, value),
            PropertyValue::Bytes(value) => properties.push_bytes(property, value),
        }
    }
    properties
}

/// Group IDs of one track. They start at the time in milliseconds, so a publisher that was
/// restarted goes on above where it was: no group is shorter than a millisecond.
#[derive(Debug)]
struct GroupIds(u64);

impl GroupIds {
    fn starting_now() -> Self {
        Self(unix_ms())
    }

    fn next(&mut self) -> u64 {
        let id = self.0;
        self.0 += 1;
        id
    }
}

fn unix_ms() -> u64 {
    transport::clock::unix_us() / 1000
}

/// Decides where groups begin on one track.
#[derive(Debug)]
struct Grouper {
    kind: Kind,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    start_us: u64,
    next_object: u64,
    bytes: usize,
}

/// Where a frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Placement {
    begins_group: bool,
    subgroup: u64,
    object: u64,
    /// The group before was cut at its largest size, not at a key frame.
    overlong: bool,
}

impl Grouper {
    fn new(kind: Kind) -> Self {
        Self { kind, open: None }
    }

    /// Places the next frame; `None` for one that cannot be decoded, before the first key frame.
    fn place(&mut self, frame: &Frame, capture_us: u64) -> Option<Placement> {
        let full = self
            .open
            .as_ref()
            .is_some_and(|open| open.bytes + frame.payload.len() > MAX_GROUP_BYTES);
        let due = match (self.kind, &self.open) {
            (Kind::Video, _) => frame.keyframe,
            (Kind::Audio, None) => true,
            (Kind::Audio, Some(open)) => {
                !(open.start_us..open.start_us.saturating_add(AUDIO_GROUP_US)).contains(&capture_us)
            }
        };
        let begins_group = due || full;
        if begins_group {
            self.open = Some(Open { start_us: capture_us, next_object: 0, bytes: 0 });
        }
        let open = self.open.as_mut()?;
        let object = open.next_object;
        open.next_object += 1;
        open.bytes += frame.payload.len();
        // Layers above the base may refer to each other, so they stay together and in order.
        let spare = frame.discardable || frame.temporal_id > 0;
        let subgroup = if spare && !begins_group { UPPER } else { BASE };
        Some(Placement { begins_group, subgroup, object, overlong: full && !due })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(keyframe: bool, size: usize) -> Frame {
        Frame {
            track: 1,
            pts_us: 0,
            dts_us: 0,
            keyframe,
            discardable: false,
            temporal_id: 0,
            payload: Bytes::from(vec![0; size]),
        }
    }

    #[test]
    fn video_groups_begin_at_key_frames_and_nothing_comes_before_the_first() {
        let mut grouper = Grouper::new(Kind::Video);
        let places: Vec<_> = [false, true, false, false, true, false]
            .into_iter()
            .map(|keyframe| {
                grouper.place(&frame(keyframe, 10), 0).map(|at| (at.begins_group, at.object))
            })
            .collect();
        assert_eq!(
            places,
            [
                None,
                Some((true, 0)),
                Some((false, 1)),
                Some((false, 2)),
                Some((true, 0)),
                Some((false, 1))
            ]
        );
    }

    #[test]
    fn frames_that_can_be_left_out_have_a_subgroup_of_their_own_and_count_with_the_others() {
        let mut grouper = Grouper::new(Kind::Video);
        let place = |grouper: &mut Grouper, frame: Frame| {
            grouper.place(&frame, 0).map(|at| (at.subgroup, at.object)).unwrap()
        };
        let needed = |keyframe| frame(keyframe, 10);
        let unreferenced = |keyframe| Frame { discardable: true, ..frame(keyframe, 10) };
        let layer_two = Frame { temporal_id: 2, ..frame(false, 10) };
        assert_eq!(place(&mut grouper, needed(true)), (BASE, 0));
        assert_eq!(place(&mut grouper, unreferenced(false)), (UPPER, 1));
        assert_eq!(place(&mut grouper, needed(false)), (BASE, 2));
        assert_eq!(place(&mut grouper, layer_two), (UPPER, 3));
        assert_eq!(place(&mut grouper, needed(false)), (BASE, 4));
        // Intra-only streams may mark all of theirs; the first one begins the group all the same.
        assert_eq!(place(&mut grouper, unreferenced(true)), (BASE, 0));
    }

    #[test]
    fn audio_groups_last_a_second_and_begin_anew_when_time_jumps_back() {
        let mut grouper = Grouper::new(Kind::Audio);
        let mut begins =
            |at: u64| grouper.place(&frame(true, 10), at).is_some_and(|place| place.begins_group);
        let start = 1_767_225_600_123_456;
        let starts: Vec<_> = (0..150).filter(|index| begins(start + index * 20_000)).collect();
        assert_eq!(starts, [0, 50, 100]);
        assert!(begins(start));
    }

    #[test]
    fn a_group_without_end_is_cut() {
        let mut grouper = Grouper::new(Kind::Video);
        grouper.place(&frame(true, 1 << 20), 0);
        let cuts: Vec<_> = (1..130)
            .filter(|_| grouper.place(&frame(false, 1 << 20), 0).is_some_and(|at| at.overlong))
            .collect();
        assert_eq!(cuts, [64, 128]);
    }

    #[test]
    fn group_ids_grow_over_a_restart() {
        let mut before = GroupIds::starting_now();
        let last = before.next();
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert!(GroupIds::starting_now().next() > last);
    }

    #[test]
    fn properties_carry_time_and_description() {
        let config = Bytes::from_static(&[1, 2, 3]);
        let properties = properties(Kind::Video, 99, Some(&config));
        assert_eq!(properties.int(loc::TIMESTAMP), Some(99));
        assert_eq!(properties.bytes(loc::VIDEO_CONFIG), Some(config));
    }
}
