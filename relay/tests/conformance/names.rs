//! Namespaces that come and go ("Namespace Discovery").

use moqt::{Event, Namespace, Parameters, Request, Response, SubscribeNamespace, SubscribeTracks};

use super::peer::{Heard, Peer, name, namespace};
use super::{EVERY, LATER};
use crate::common::Machine;

fn watch(prefix: Namespace) -> Request {
    Request::SubscribeNamespace(SubscribeNamespace { prefix, parameters: Parameters::default() })
}

/// The next namespace that a watcher hears of: its suffix, and whether it is published.
async fn heard(peer: &mut Peer, watching: moqt::RequestId) -> (String, bool) {
    peer.pick("a namespace", |heard| match heard {
        Heard::Session(Event::Responded { id, response }) if *id == watching => match response {
            Response::Namespace(suffix) => Some((suffix.to_string(), true)),
            Response::NamespaceDone(suffix) => Some((suffix.to_string(), false)),
            _ => None,
        },
        _ => None,
    })
    .await
}

#[tokio::test]
async fn watchers_hear_of_namespaces_once_and_of_their_end() {
    let machine = Machine::new();
    for version in EVERY {
        let relay = machine.relay(version.alpn(), &[]);
        let mut first = Peer::connect(&relay, version).await;
        let published = first.publish_namespace("live/cam1").await;
        let mut watcher = Peer::connect(&relay, version).await;
        let id = watcher.request(watch(namespace("live"))).await;
        assert!(matches!(watcher.answer(id).await, Response::Ok(_)));
        assert_eq!(heard(&mut watcher, id).await, ("cam1".into(), true));
        // A second publisher of it is no news, and neither is the end of the first.
        let mut second = Peer::connect(&relay, version).await;
        second.publish_namespace("live/cam1").await;
        first.cancel(published).await;
        first.publish_namespace("other/cam").await;
        first.publish_namespace("live/cam2").await;
        assert_eq!(heard(&mut watcher, id).await, ("cam2".into(), true));
        second.connection.close(moqt::SessionCode::NO_ERROR, "");
        assert_eq!(heard(&mut watcher, id).await, ("cam1".into(), false));
        // What one publishes oneself is told like any other.
        watcher.publish_namespace("live/own").await;
        assert_eq!(heard(&mut watcher, id).await, ("own".into(), true));
        let gone = heard(&mut watcher, id);
        first.connection.close(moqt::SessionCode::NO_ERROR, "");
        assert_eq!(gone.await, ("cam2".into(), false));
    }
}

#[tokio::test]
async fn a_prefix_that_moves_brings_what_it_newly_matches() {
    let machine = Machine::new();
    for version in LATER {
        let relay = machine.relay(version.alpn(), &[]);
        let mut publisher = Peer::connect(&relay, version).await;
        for path in ["live/a/x", "live/b/y"] {
            publisher.publish_namespace(path).await;
        }
        let mut watcher = Peer::connect(&relay, version).await;
        let id = watcher.request(watch(namespace("live/a"))).await;
        assert!(matches!(watcher.answer(id).await, Response::Ok(_)));
        assert_eq!(heard(&mut watcher, id).await, ("x".into(), true));
        let prefix = |path| Parameters {
            track_namespace_prefix: Some(namespace(path)),
            ..Parameters::default()
        };
        watcher.update(id, prefix("live")).await.unwrap();
        assert_eq!(heard(&mut watcher, id).await, ("b/y".into(), true));
        publisher.publish_namespace("live/c").await;
        assert_eq!(heard(&mut watcher, id).await, ("c".into(), true));
    }
}

#[tokio::test]
async fn no_more_tracks_are_offered_once_the_request_is_over() {
    let machine = Machine::new();
    for version in EVERY {
        let relay = machine.relay(version.alpn(), &[]);
        let mut viewer = Peer::connect(&relay, version).await;
        let follow = Request::SubscribeTracks(SubscribeTracks {
            prefix: namespace("live"),
            parameters: Parameters::default(),
        });
        let id = viewer.request(follow).await;
        assert!(matches!(viewer.answer(id).await, Response::Ok(_)));
        viewer.cancel(id).await;
        // The relay has seen the end when it answers what comes after.
        viewer.fence().await;
        let mut publisher = Peer::connect(&relay, version).await;
        let publish = Request::Publish(moqt::Publish {
            track: name("live/late", "video"),
            track_alias: 7,
            parameters: Parameters::default(),
            properties: moqt::Properties::new(),
        });
        let id = publisher.request(publish).await;
        assert!(matches!(publisher.answer(id).await, Response::Ok(_)));
        viewer
            .never("PUBLISH", |heard| matches!(heard, Heard::Session(Event::Requested { .. })))
            .await;
    }
}
