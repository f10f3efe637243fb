//! Answers FETCH and fills from the groups that a track keeps.

use bytes::{Bytes, BytesMut};
use moqt::{
    FetchHeader, FetchWriter, Gap, GroupOrder, Location, LocationRange, RequestId, ResetCode,
};
use tokio::sync::watch;

use super::broadcast::{CODING, Object, Track, lock};
use crate::{CANONICAL, Connection, SendStream};

/// The largest object ID that every draft can say.
const LAST_OBJECT: u64 = (1 << 62) - 1;

/// Objects of the past that are about to be sent.
#[derive(Debug)]
pub(super) struct Past {
    entries: Vec<Entry>,
    order: GroupOrder,
    publisher_priority: u8,
}

#[derive(Debug)]
enum Entry {
    Object {
        location: Location,
        subgroup: u64,
        /// Publisher priority.
        priority: u8,
        properties: Bytes,
        payload: Bytes,
    },
    /// What was published up to here is not kept any more.
    Forgotten(Location),
}

impl Past {
    /// What is kept of `range`. It ends at the track's Largest Object at the latest.
    pub(super) fn of(track: &Track, range: LocationRange, order: GroupOrder) -> Self {
        let state = lock(&track.state);
        let mut groups: Vec<_> = state.groups.iter().collect();
        let oldest = groups.first().map(|group| group.id);
        let forgotten = oldest.filter(|oldest| range.start.group < *oldest);
        let mut entries = Vec::new();
        if order == GroupOrder::Descending {
            groups.reverse();
        } else if let Some(oldest) = forgotten {
            let group = (oldest - 1).min(range.end.group);
            entries.push(Entry::Forgotten(Location { group, object: LAST_OBJECT }));
        }
        for group in groups {
            let mut objects = Vec::new();
            for subgroup in &group.subgroups {
                let subgroup = lock(subgroup);
                let priority = subgroup.priority.unwrap_or(track.options.priority);
                let of_subgroup = |object: &Object| (subgroup.id, priority, object.clone());
                objects.extend(subgroup.objects.iter().map(of_subgroup));
            }
            objects.sort_by_key(|(.., object)| object.id);
            entries.extend(objects.into_iter().filter_map(|(subgroup, priority, object)| {
                let location = Location { group: group.id, object: object.id };
                let (properties, payload) = (object.properties, object.payload);
                let entry = Entry::Object { location, subgroup, priority, properties, payload };
                range.contains(location).then_some(entry)
            }));
        }
        if order == GroupOrder::Descending && forgotten.is_some() {
            let group = range.start.group;
            entries.push(Entry::Forgotten(Location { group, object: LAST_OBJECT }));
        }
        Self { entries, order, publisher_priority: track.options.priority }
    }

    /// Sends it in answer to `request`, until `wanted`'s sender is gone.
    pub(super) async fn send(
        self,
        connection: Connection,
        request: RequestId,
        subscriber_priority: u8,
        mut wanted: watch::Receiver<()>,
    ) {
        let opened = tokio::select! {
            opened = connection.open_fetch(self.order) => opened,
            _ = wanted.changed() => return,
        };
        let Ok(mut stream) = opened else { return };
        let publisher = self.publisher_priority;
        let order = self.order;
        stream.set_priority(super::serve::priority(subscriber_priority, publisher, order, 0));
        tokio::select! {
            () = self.write(&mut stream, request) => {}
            _ = wanted.changed() => stream.reset(ResetCode::CANCELLED),
        }
    }

    async fn write(self, stream: &mut SendStream, request: RequestId) {
        let mut writer = FetchWriter::new(CANONICAL, self.order);
        let mut header = BytesMut::new();
        FetchHeader { request }.encode(&mut header, CODING);
        for entry in self.entries {
            let (written, payload) = match entry {
                Entry::Forgotten(end) => {
                    (writer.end_of_range(end, Gap::Unknown, &mut header), Bytes::new())
                }
                Entry::Object { location, subgroup, priority, properties, payload } => {
                    let (subgroup, length) = (Some(subgroup), payload.len() as u64);
                    let written = writer.object(
                        location,
                        subgroup,
                        priority,
                        &properties,
                        length,
                        &mut header,
                    );
                    (written, payload)
                }
            };
            if written.is_err() {
                // Two subgroups with an object of the same ID: the track is malformed.
                return stream.reset(ResetCode::MALFORMED_TRACK);
            }
            if stream.write_all(header.split().freeze()).await.is_err()
                || stream.write_all(payload).await.is_err()
            {
                return;
            }
        }
        if stream.write_all(header.freeze()).await.is_ok() {
            stream.finish();
            let _ = stream.stopped().await;
        }
    }
}
