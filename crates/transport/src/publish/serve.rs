//! Serves one subscription: a stream for each subgroup, as it grows.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use moqt::{
    GroupOrder, Location, LocationRange, PublishDoneCode, ResetCode, SubgroupHeader, SubgroupId,
    Version,
};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::broadcast::{CODING, Subgroup, Track, lock};
use crate::{Connection, SendStream, WriteError};

/// Groups a subscriber may be behind with streams open. Beyond it the oldest are given up.
const MAX_BEHIND: usize = 256;

/// What a subscriber may change of its subscription while it is served.
#[derive(Clone, Copy, Debug)]
pub(super) struct Control {
    pub(super) forward: bool,
    /// Subscriber priority.
    pub(super) priority: u8,
    pub(super) order: GroupOrder,
    pub(super) range: LocationRange,
}

/// A subscription and what serves it.
pub(super) struct Serve {
    pub(super) connection: Connection,
    pub(super) alias: u64,
    pub(super) track: Arc<Track>,
    /// Its sender's end is the subscription's.
    pub(super) control: watch::Receiver<Control>,
    /// Data streams opened for it.
    pub(super) streams: Arc<AtomicU64>,
}

impl Serve {
    /// Serves until the track ends or the subscription does; says why.
    pub(super) async fn run(mut self) -> PublishDoneCode {
        let mut changes = self.track.changed.subscribe();
        let (floor, floors) = watch::channel(0);
        let mut tasks = JoinSet::new();
        let mut begun: BTreeSet<(u64, u64)> = BTreeSet::new();
        loop {
            let (groups, largest, ended) = {
                let state = lock(&self.track.state);
                (state.groups.clone(), state.largest, state.ended)
            };
            let Control { forward, range, .. } = *self.control.borrow_and_update();
            if let Some(oldest) = groups.front() {
                begun.retain(|(id, _)| *id >= oldest.id);
            }
            let wanted = range.start.group..=range.end.group;
            for group in groups.iter().filter(|group| forward && wanted.contains(&group.id)) {
                for subgroup in &group.subgroups {
                    let (key, own_priority) = {
                        let held = lock(subgroup);
                        ((group.id, held.id), held.priority)
                    };
                    if !begun.insert(key) {
                        continue;
                    }
                    let send = Send {
                        connection: self.connection.clone(),
                        alias: self.alias,
                        default_priority: self.track.options.priority,
                        own_priority,
                        group: group.id,
                        subgroup: Arc::clone(subgroup),
                        changes: self.track.changed.subscribe(),
                        control: self.control.clone(),
                        floor: floors.clone(),
                        streams: Arc::clone(&self.streams),
                    };
                    tasks.spawn(async move { send.run().await.then_some(key) });
                }
            }
            if tasks.len() > MAX_BEHIND {
                let largest = largest.map_or(0, |at| at.group);
                floor.send_replace(largest.saturating_sub((MAX_BEHIND / 2) as u64));
            }
            // Later drafts leave it to the subscriber to end what its filter has ended.
            let past_end = self.connection.version() < Version::Draft22
                && largest.is_some_and(|largest| largest.group > range.end.group);
            if (ended || past_end) && tasks.is_empty() {
                let track = PublishDoneCode::TRACK_ENDED;
                return if ended { track } else { PublishDoneCode::SUBSCRIPTION_ENDED };
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() {
                    return PublishDoneCode::TRACK_ENDED;
                },
                changed = self.control.changed() => if changed.is_err() {
                    // They see it too, and reset their streams.
                    while tasks.join_next().await.is_some() {}
                    return PublishDoneCode::SUBSCRIPTION_ENDED;
                },
                Some(joined) = tasks.join_next() => {
                    // One that was paused begins anew when the subscription goes on.
                    if let Ok(Some(paused)) = joined {
                        begun.remove(&paused);
                    }
                }
            }
        }
    }
}

/// Sends one subgroup.
struct Send {
    connection: Connection,
    alias: u64,
    /// The track's publisher priority.
    default_priority: u8,
    /// The subgroup's, where it has one.
    own_priority: Option<u8>,
    group: u64,
    subgroup: Arc<Mutex<Subgroup>>,
    changes: watch::Receiver<u64>,
    control: watch::Receiver<Control>,
    /// Groups below it are given up.
    floor: watch::Receiver<u64>,
    streams: Arc<AtomicU64>,
}

/// Why a subgroup is not sent on.
enum Stop {
    Paused,
    Reset(ResetCode),
}

impl Send {
    /// Sends it to its end, as it grows. `true`: it was left off because the subscription paused.
    async fn run(mut self) -> bool {
        let mut stream = None;
        match self.send(&mut stream).await {
            Ok(()) => false,
            Err(Stop::Paused) => {
                if let Some(mut stream) = stream {
                    stream.reset(ResetCode::CANCELLED);
                }
                true
            }
            Err(Stop::Reset(code)) => {
                if let Some(mut stream) = stream {
                    stream.reset(code);
                }
                false
            }
        }
    }

    async fn send(&mut self, stream: &mut Option<SendStream>) -> Result<(), Stop> {
        let mut looked_at = 0;
        let mut sent = None;
        loop {
            let range = self.check()?.range;
            let mut pending = Vec::new();
            let mut first = false;
            let closed = {
                let held = lock(&self.subgroup);
                for (at, object) in held.objects.iter().enumerate().skip(looked_at) {
                    if !range.contains(Location { group: self.group, object: object.id }) {
                        continue;
                    }
                    let previous = at.checked_sub(1).map(|at| held.objects[at].id);
                    first |= sent.is_none() && at == 0;
                    // Written once for all, unless this stream lacks the object before it.
                    pending.push(match sent == previous {
                        true => object.header.clone(),
                        false => object.header_after(sent),
                    });
                    if !object.payload.is_empty() {
                        pending.push(object.payload.clone());
                    }
                    sent = Some(object.id);
                }
                looked_at = held.objects.len();
                held.closed
            };
            if !pending.is_empty() {
                if stream.is_none() {
                    *stream = Some(self.open().await?);
                    pending.insert(0, self.header(first));
                }
                if let Some(stream) = stream {
                    self.write(stream, pending).await?;
                }
            }
            if closed {
                break;
            }
            tokio::select! {
                changed = self.changes.changed() => if changed.is_err() { break },
                _ = self.control.changed() => {}
                _ = self.floor.changed() => {}
            }
        }
        let Some(stream) = stream else { return Ok(()) };
        stream.finish();
        // Until all has arrived: closing the connection before throws away the rest.
        loop {
            tokio::select! {
                _ = stream.stopped() => return Ok(()),
                changed = self.control.changed() => if changed.is_err() { return Ok(()) },
            }
        }
    }

    /// Whether it is to be sent at all, now.
    fn check(&mut self) -> Result<Control, Stop> {
        if self.control.has_changed().is_err() {
            return Err(Stop::Reset(ResetCode::CANCELLED));
        }
        let control = *self.control.borrow_and_update();
        if !control.forward {
            return Err(Stop::Paused);
        }
        if self.group < *self.floor.borrow_and_update() {
            return Err(Stop::Reset(ResetCode::TOO_FAR_BEHIND));
        }
        Ok(control)
    }

    async fn open(&mut self) -> Result<SendStream, Stop> {
        let connection = self.connection.clone();
        let mut opening = std::pin::pin!(connection.open_data());
        loop {
            let control = self.check()?;
            tokio::select! {
                opened = &mut opening => {
                    let stream = opened.map_err(|_| Stop::Reset(ResetCode::SESSION_CLOSED))?;
                    self.streams.fetch_add(1, Ordering::Relaxed);
                    stream.set_priority(self.priority(control));
                    return Ok(stream);
                }
                _ = self.control.changed() => {}
                _ = self.floor.changed() => {}
            }
        }
    }

    async fn write(
        &mut self,
        stream: &mut SendStream,
        mut pending: Vec<Bytes>,
    ) -> Result<(), Stop> {
        let mut at = 0;
        while at < pending.len() {
            let control = self.check()?;
            stream.set_priority(self.priority(control));
            let write = std::future::poll_fn(|cx| stream.poll_write_chunks(cx, &mut pending[at..]));
            let written: Result<usize, WriteError> = tokio::select! {
                written = write => written,
                _ = self.control.changed() => continue,
                _ = self.floor.changed() => continue,
            };
            written.map_err(|_| Stop::Reset(ResetCode::CANCELLED))?;
            at += pending[at..].iter().take_while(|chunk| chunk.is_empty()).count();
        }
        Ok(())
    }

    fn header(&self, first_object: bool) -> Bytes {
        let mut header = BytesMut::new();
        SubgroupHeader {
            track_alias: self.alias,
            group: self.group,
            subgroup: SubgroupId::Known(lock(&self.subgroup).id),
            priority: self.own_priority,
            properties: true,
            end_of_group: false,
            first_object,
        }
        .encode(&mut header, CODING);
        header.freeze()
    }

    /// "Scheduling Algorithm": the subscriber's priority, the publisher's, then the group order.
    fn priority(&self, control: Control) -> i32 {
        let publisher = self.own_priority.unwrap_or(self.default_priority);
        priority(control.priority, publisher, control.order, self.group)
    }
}

/// A QUIC priority, where higher is sent first.
pub(super) fn priority(subscriber: u8, publisher: u8, order: GroupOrder, group: u64) -> i32 {
    const GROUPS: u64 = 1 << 14;
    let group = match order {
        GroupOrder::Ascending => GROUPS - 1 - group % GROUPS,
        GroupOrder::Descending => group % GROUPS,
    };
    let urgency = (i32::from(255 - subscriber) << 8) | i32::from(255 - publisher);
    (urgency << 14) | i32::try_from(group).unwrap_or(0)
}
