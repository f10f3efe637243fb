//! A broadcast in memory: the newest groups of each track, encoded once for all who subscribe.
//!
//! More than the newest one, because several can be written at once (an MP4 fragment holds seconds
//! of audio) and all of them are for whoever was subscribed before.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use moqt::{Location, Namespace, ObjectHeader, ObjectStatus, Properties, property};
use tokio::sync::watch;

/// How objects' fields are written.
pub(super) const CODING: moqt::IntCoding = crate::CANONICAL.int_coding();

/// Groups of a track held behind its newest, at most.
const MAX_OLDER_GROUPS: usize = 32;
/// Their payload bytes, at most.
const MAX_OLDER_BYTES: usize = 8 << 20;

/// How a track is published.
#[derive(Clone, Copy, Debug)]
pub struct TrackOptions {
    /// Publisher priority, lower is more urgent.
    pub priority: u8,
}

impl Default for TrackOptions {
    fn default() -> Self {
        Self { priority: 128 }
    }
}

/// A broadcast held in memory for whoever subscribes. Clones are handles to the same.
#[derive(Clone, Debug)]
pub struct Broadcast {
    pub(super) namespace: Namespace,
    pub(super) tracks: Arc<Mutex<HashMap<Bytes, Arc<Track>>>>,
    /// How many tracks there have been.
    pub(super) created: Arc<watch::Sender<u64>>,
}

impl Broadcast {
    /// A broadcast with no tracks.
    pub fn new(namespace: Namespace) -> Self {
        Self { namespace, tracks: Arc::default(), created: Arc::default() }
    }

    /// Where it is published.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Adds a track, in place of one of the same name.
    pub fn create_track(&self, name: &str, options: TrackOptions) -> TrackProducer {
        let track = Arc::new(Track {
            options,
            dynamic: AtomicBool::new(false),
            group_wanted: watch::Sender::new(0),
            state: Mutex::default(),
            changed: watch::Sender::new(0),
        });
        let name = Bytes::copy_from_slice(name.as_bytes());
        if let Some(old) = lock(&self.tracks).insert(name, Arc::clone(&track)) {
            old.end();
        }
        self.created.send_modify(|count| *count += 1);
        TrackProducer { track, priorities: HashMap::new() }
    }
}

#[derive(Debug)]
pub(super) struct Track {
    pub(super) options: TrackOptions,
    /// Whether subscribers can ask for a new group.
    dynamic: AtomicBool,
    /// Counts how often they did.
    group_wanted: watch::Sender<u64>,
    pub(super) state: Mutex<TrackState>,
    /// Counts changes; its receivers are the subscriptions.
    pub(super) changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
pub(super) struct TrackState {
    /// In ascending order; only the last may be open.
    pub(super) groups: VecDeque<Group>,
    pub(super) largest: Option<Location>,
    pub(super) ended: bool,
}

/// A group: all of its objects, encoded, by subgroup.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) id: u64,
    /// Of payload.
    bytes: usize,
    pub(super) subgroups: Vec<Arc<Mutex<Subgroup>>>,
}

#[derive(Debug)]
pub(super) struct Subgroup {
    pub(super) id: u64,
    /// Publisher priority, where it is not the track's.
    pub(super) priority: Option<u8>,
    pub(super) objects: Vec<Object>,
    pub(super) closed: bool,
}

/// An object as it goes out.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) id: u64,
    /// Its fields before the payload, behind the subgroup's object before it.
    pub(super) header: Bytes,
    pub(super) properties: Bytes,
    pub(super) payload: Bytes,
}

impl Object {
    /// Its fields before the payload, behind `previous`.
    pub(super) fn header_after(&self, previous: Option<u64>) -> Bytes {
        header(self.id, previous, &self.properties, &self.payload)
    }
}

fn header(id: u64, previous: Option<u64>, properties: &Bytes, payload: &Bytes) -> Bytes {
    let mut header = BytesMut::with_capacity(32 + properties.len());
    ObjectHeader {
        id,
        previous,
        properties: Some(properties),
        payload: payload.len() as u64,
        status: ObjectStatus::Normal,
    }
    .encode(&mut header, CODING);
    header.freeze()
}

impl Track {
    /// What subscribers are told of it.
    pub(super) fn properties(&self) -> Properties {
        let mut properties = Properties::new();
        properties.push_int(property::DEFAULT_PUBLISHER_PRIORITY, self.options.priority.into());
        if self.dynamic.load(Ordering::Relaxed) {
            properties.push_int(property::DYNAMIC_GROUPS, 1);
        }
        properties
    }

    pub(super) fn largest(&self) -> Option<Location> {
        lock(&self.state).largest
    }

    /// A subscriber knows groups below `next` and wants another ("NEW GROUP REQUEST Parameter").
    /// A track that has no groups at will ignores it.
    pub(super) fn request_group(&self, next: u64) {
        let current = self.largest().map(|largest| largest.group);
        let new = next == 0 || current.is_none_or(|current| next > current);
        if new && self.dynamic.load(Ordering::Relaxed) {
            self.group_wanted.send_modify(|count| *count += 1);
        }
    }

    fn change(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    fn end(&self) {
        let mut state = lock(&self.state);
        close(&mut state);
        state.ended = true;
        drop(state);
        self.change();
    }
}

fn close(state: &mut TrackState) {
    if let Some(group) = state.groups.back() {
        for subgroup in &group.subgroups {
            lock(subgroup).closed = true;
        }
    }
}

/// Writes a track. Dropping it ends the track.
#[derive(Debug)]
pub struct TrackProducer {
    track: Arc<Track>,
    /// Of subgroups that have one of their own, by Subgroup ID.
    priorities: HashMap<u64, u8>,
}

impl TrackProducer {
    /// Ends the open group and begins group `id`, which must be larger than all before.
    ///
    /// # Panics
    /// If it is not.
    pub fn begin_group(&mut self, id: u64) {
        let mut state = lock(&self.track.state);
        assert!(state.largest.is_none_or(|largest| id > largest.group), "group IDs ascend");
        close(&mut state);
        let mut older: usize = state.groups.iter().map(|group| group.bytes).sum();
        while state.groups.len() > MAX_OLDER_GROUPS || older > MAX_OLDER_BYTES {
            older -= state.groups.pop_front().map_or(0, |oldest| oldest.bytes);
        }
        state.groups.push_back(Group { id, bytes: 0, subgroups: Vec::new() });
        drop(state);
        self.track.change();
    }

    /// Gives the subgroups of this ID a publisher priority of their own instead of the track's, from
    /// the next group on.
    pub fn set_subgroup_priority(&mut self, subgroup: u64, priority: u8) {
        self.priorities.insert(subgroup, priority);
    }

    /// Adds an object to the open group. Object IDs ascend inside a subgroup.
    ///
    /// # Panics
    /// If no group is open, or the object is not after the subgroup's last.
    pub fn write(&mut self, subgroup: u64, object: u64, properties: &Properties, payload: Bytes) {
        let mut state = lock(&self.track.state);
        let group = state.groups.back_mut().expect("begin_group comes first");
        group.bytes += payload.len();
        let found = group.subgroups.iter().find(|held| lock(held).id == subgroup);
        let held = match found {
            Some(held) => Arc::clone(held),
            None => {
                let held = Arc::new(Mutex::new(Subgroup {
                    id: subgroup,
                    priority: self.priorities.get(&subgroup).copied(),
                    objects: Vec::new(),
                    closed: false,
                }));
                group.subgroups.push(Arc::clone(&held));
                held
            }
        };
        let properties = properties.to_bytes(CODING);
        let mut held = lock(&held);
        let previous = held.objects.last().map(|object| object.id);
        let header = header(object, previous, &properties, &payload);
        held.objects.push(Object { id: object, header, properties, payload });
        drop(held);
        let at = Location { group: group.id, object };
        state.largest = state.largest.max(Some(at));
        drop(state);
        self.track.change();
    }

    /// Lets subscribers ask for a new group when they need one, which they are told they can
    /// (DYNAMIC_GROUPS). To be called before the first of them comes.
    pub fn group_requests(&mut self) -> GroupRequests {
        self.track.dynamic.store(true, Ordering::Relaxed);
        GroupRequests {
            wanted: self.track.group_wanted.subscribe(),
            _track: Arc::clone(&self.track),
        }
    }

    /// Whether anybody subscribes.
    pub fn has_subscribers(&self) -> bool {
        self.track.changed.receiver_count() > 0
    }

    /// Ends the track: subscribers are told that it is over.
    pub fn end(self) {}
}

/// Subscribers' wishes for a new group of a track.
#[derive(Debug)]
pub struct GroupRequests {
    wanted: watch::Receiver<u64>,
    _track: Arc<Track>,
}

impl GroupRequests {
    /// Waits for the next wish. Several at once are one.
    pub async fn next(&mut self) {
        if self.wanted.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for TrackProducer {
    fn drop(&mut self) {
        self.track.end();
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
