//! What becomes of objects that a viewer does not take in time ("Delivery Timeouts and Data
//! Reliability", "Closing Subgroup Streams").

use std::time::{Duration, Instant};

use moqt::{Parameters, RequestId, ResetCode, SubgroupHeader, SubgroupId, Version};

use super::EVERY;
use super::peer::{Heard, Peer, Reads, Writer, header, name, subscribe_ok};
use crate::common::{Machine, Relay};

/// More than a viewer takes that does not read.
const LARGE: usize = 400 * 1024;

/// A publisher and a viewer that wants this and does that with data streams; group 0 is begun with
/// a large object.
async fn begun(
    relay: &Relay,
    version: Version,
    reads: Reads,
    wants: Parameters,
) -> (Peer, Writer, Peer, RequestId) {
    let mut publisher = Peer::connect(relay, version).await;
    publisher.publish_namespace("live/slow").await;
    let mut viewer = Peer::connect_with(relay, version, reads).await;
    let id = viewer.subscribe(&name("live/slow", "video"), wants).await;
    publisher.accept(subscribe_ok(7, None)).await;
    viewer.accepted(id).await;
    let mut stream = publisher.open(header(7, 0)).await;
    stream.object(0, &[b'x'; LARGE]).await;
    viewer.pick("a stream", |heard| matches!(heard, Heard::Begun { .. }).then_some(())).await;
    (publisher, stream, viewer, id)
}

/// A smaller relay's patience of its own, which must not be what is seen here.
const PATIENT: [&str; 2] = ["--max-latency", "50s"];

#[tokio::test]
async fn an_object_that_is_too_old_resets_its_stream_and_the_subgroup_is_left() {
    let machine = Machine::new();
    for version in EVERY {
        let relay = machine.relay(version.alpn(), &PATIENT);
        let wants = Parameters { object_delivery_timeout: Some(300), ..Parameters::default() };
        let (publisher, mut stream, mut viewer, id) =
            begun(&relay, version, Reads::None, wants).await;
        stream.object(1, b"waits behind it").await;
        // The viewer reads again only when the relay has given up.
        relay
            .snapshot_shows("a drop", |node| {
                node["drops"]["DELIVERY_TIMEOUT"]["groups"].as_u64().is_some_and(|n| n > 0)
            })
            .await;
        viewer.reads(Reads::All);
        assert_eq!(viewer.end(id, 0).await, Some(ResetCode::DELIVERY_TIMEOUT));
        stream.object(2, b"of the same subgroup").await;
        stream.finish();
        publisher.group(7, 1, 1).await;
        viewer.object(id, (1, 0)).await;
        viewer
            .never(
                "more of group 0",
                |heard| matches!(heard, Heard::Begun { header, .. } if header.group == 0),
            )
            .await;
    }
}

#[tokio::test]
async fn a_subgroup_that_is_not_delivered_in_time_is_reset() {
    let machine = Machine::new();
    for version in super::LATER {
        let relay = machine.relay(version.alpn(), &PATIENT);
        let wants = Parameters { subgroup_delivery_timeout: Some(300), ..Parameters::default() };
        let (_publisher, stream, mut viewer, id) = begun(&relay, version, Reads::None, wants).await;
        // The clock runs from here on.
        stream.finish();
        relay
            .snapshot_shows("a drop", |node| {
                node["drops"]["DELIVERY_TIMEOUT"]["groups"].as_u64().is_some_and(|n| n > 0)
            })
            .await;
        viewer.reads(Reads::All);
        assert_eq!(viewer.end(id, 0).await, Some(ResetCode::DELIVERY_TIMEOUT));
    }
}

/// The relay waits until the viewer has what went before; with nothing else to write it must not
/// wait for longer.
#[tokio::test]
async fn a_stream_that_its_publisher_resets_is_reset_at_once_though_nothing_follows() {
    let machine = Machine::new();
    for version in EVERY {
        let relay = machine.relay(version.alpn(), &PATIENT);
        let (_publisher, stream, mut viewer, id) =
            begun(&relay, version, Reads::All, Parameters::default()).await;
        viewer.object(id, (0, 0)).await;
        let before = Instant::now();
        stream.reset(ResetCode::INTERNAL_ERROR);
        assert_eq!(viewer.end(id, 0).await, Some(ResetCode::INTERNAL_ERROR));
        assert!(before.elapsed() < Duration::from_secs(2), "after {:?}", before.elapsed());
    }
}

#[tokio::test]
async fn a_subgroup_that_a_viewer_stops_does_not_come_again() {
    let machine = Machine::new();
    for version in EVERY {
        let relay = machine.relay(version.alpn(), &PATIENT);
        let (publisher, mut stream, mut viewer, id) =
            begun(&relay, version, Reads::Stops, Parameters::default()).await;
        // The relay has heard of it when the other viewer has all of what it could not write.
        let mut other = Peer::connect(&relay, version).await;
        let beside = other.subscribe(&name("live/slow", "video"), Parameters::default()).await;
        other.accepted(beside).await;
        for object in 1..4 {
            stream.object(object, &[b'y'; LARGE]).await;
            other.object(beside, (0, object)).await;
        }
        viewer.reads(Reads::All);
        // Another subgroup of the group is another matter.
        let sibling = SubgroupHeader { subgroup: SubgroupId::Known(9), ..header(7, 0) };
        let mut sibling = publisher.open(sibling).await;
        sibling.object(100, b"sibling").await;
        assert_eq!(viewer.object(id, (0, 100)).await, "sibling");
        viewer.never("the stopped subgroup", |heard| {
            matches!(heard, Heard::Begun { header, .. } if header.subgroup != SubgroupId::Known(9))
        })
        .await;
    }
}
