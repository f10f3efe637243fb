//! Objects that know what they must look like, and publishing them.

use bytes::Bytes;
use moqt::{FullTrackName, Namespace, Properties};
use transport::publish::{Broadcast, PublishOptions, PublishStatus, TrackProducer};
use transport::{Endpoint, EndpointConfig};

use super::within;

/// Payload sizes that objects take turns with: none, one byte, less and more than a packet, and
/// more than a stream is read at once.
const SIZES: [usize; 5] = [3_000, 0, 100_000, 1, 1_200];

/// A type of property that nobody knows, with an integer.
const ODDITY: u64 = 0x7a2;
/// LOC's capture time.
const TIMESTAMP: u64 = 0x10;
/// LOC's codec configuration.
const CONFIG: u64 = 0x0d;

pub(crate) fn track_name(namespace: &str, track: &str) -> FullTrackName {
    FullTrackName::new(Namespace::from_path(namespace).unwrap(), track.to_owned()).unwrap()
}

/// What the object at this group, subgroup and ID carries, wherever it is seen.
pub(crate) fn object((group, subgroup, id): (u64, u64, u64)) -> (Properties, Bytes) {
    let place = (group << 32) ^ (subgroup << 16) ^ id;
    let mut properties = Properties::new();
    // One in four has none at all.
    if id % 4 != 3 {
        properties.push_int(TIMESTAMP, 1_700_000_000_000_000 + place);
        properties.push_int(ODDITY, place);
        if id == 0 {
            properties.push_bytes(CONFIG, noise(place, 700));
        }
    }
    (properties, noise(place, SIZES[(group + subgroup + id) as usize % SIZES.len()]))
}

/// Bytes that differ from place to place and repeat nowhere near.
fn noise(place: u64, length: usize) -> Bytes {
    let mut state = place.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    })
    .take(length)
    .collect()
}

/// Writes one of the objects that [`object`] knows into the group that is open.
pub(crate) fn write(track: &mut TrackProducer, at: (u64, u64, u64)) {
    let (properties, payload) = object(at);
    track.write(at.1, at.2, &properties, payload);
}

/// A broadcast that is being published, until this is dropped.
pub(crate) struct Publication {
    stop: tokio::sync::oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<()>,
}

impl Publication {
    /// Leaves as a publisher does that is asked to.
    pub(crate) async fn end(self) {
        let _ = self.stop.send(());
        within("the publisher to leave", self.ended).await.unwrap();
    }
}

/// Publishes at a relay and waits until it took the namespace.
pub(crate) async fn publish(broadcast: &Broadcast, relay: &PublishOptions) -> Publication {
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (connected, mut is_connected) = tokio::sync::mpsc::unbounded_channel();
    let (broadcast, options) = (broadcast.clone(), relay.clone());
    let ended = tokio::spawn(async move {
        let stopped = async {
            let _ = stopped.await;
        };
        let on_status = move |status| {
            if matches!(status, PublishStatus::Connected { .. }) {
                let _ = connected.send(());
            }
        };
        transport::publish::publish(broadcast, options, stopped, on_status).await.unwrap();
    });
    within("the relay to take the namespace", is_connected.recv()).await.unwrap();
    Publication { stop, ended }
}

/// An endpoint to dial from.
pub(crate) fn endpoint() -> Endpoint {
    let config = EndpointConfig { uni_streams: 100, ..EndpointConfig::default() };
    Endpoint::client(config).unwrap()
}
