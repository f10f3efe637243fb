//! Reports this node up the tree as a MoQT track, and gathers the reports from below.
//!
//! To the router this is one more session: it publishes `weir/nodes/NODE` and subscribes to the
//! reports of every node that is reached through us. A parent hears of us as of any publisher.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use moqt::{
    FullTrackName, ObjectHeader, ObjectStatus, Properties, RequestId, SubgroupHeader, SubgroupId,
    property,
};
use relay_core::{Peer, RouteAction, SessionId, TrackId};
use stats::NodeSnapshot;
use transport::CANONICAL;

use super::{Mail, Node, SharedTrack, lock, report_namespace};

/// This node itself, among its sessions.
const SELF: SessionId = SessionId(0);
/// The track a node's report is.
const TRACK: &str = "snapshot";
const INTERVAL: Duration = Duration::from_secs(1);

pub(super) async fn run(node: Arc<Node>) {
    let namespace = match report_namespace(&node.config.node) {
        Ok(namespace) => namespace,
        Err(error) => {
            tracing::error!(%error, "this node's name cannot be a namespace");
            return;
        }
    };
    let (_mailbox, mut actions) = node.open_mailbox(SELF);
    node.route(|router, now| {
        router.handle_session(SELF, Peer::Node, now);
        if let Err(error) = router.handle_publish_namespace(SELF, 0, &namespace, now) {
            tracing::error!(code = %error.code, "this node cannot report");
        }
    });
    let mut feed = Feed { node, reporting: None, group: unix_ms(), next: 1, below: HashMap::new() };
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            Some(mail) = actions.recv() => feed.handle(mail),
            _ = tick.tick() => feed.tick(),
        }
    }
}

struct Feed {
    node: Arc<Node>,
    /// Our own track, while somebody above subscribes to it.
    reporting: Option<TrackId>,
    /// Group of the next report; from the clock, so that a restarted node goes on above.
    group: u64,
    next: RequestId,
    /// Reports we subscribe to.
    below: HashMap<RequestId, Report>,
}

struct Report {
    node: String,
    track: Option<Arc<SharedTrack>>,
}

impl Feed {
    fn handle(&mut self, mail: Mail) {
        // Nobody fetches from here: reports are no older than a second.
        let Mail::Route(action) = mail else { return };
        match action {
            RouteAction::Subscribe(_, track, wanted)
                if &wanted.name.name()[..] == TRACK.as_bytes() =>
            {
                if let Some(shared) = self.node.track(track) {
                    let mut properties = Properties::new();
                    properties.push_int(property::DEFAULT_PUBLISHER_PRIORITY, 0);
                    let mut state = shared.write();
                    state.set_properties(properties);
                    state.handle_live(None);
                }
                self.reporting = Some(track);
                self.node.route(|router, _| router.handle_upstream_ok(SELF, track));
                self.report();
            }
            RouteAction::Subscribe(_, track, wanted) => {
                let error = moqt::RequestError::new(
                    moqt::RequestErrorCode::DOES_NOT_EXIST,
                    format!("a node has no track {}", wanted.name),
                );
                self.node.route(|router, now| {
                    router.handle_upstream_error(SELF, track, &error, now);
                });
            }
            RouteAction::Unsubscribe(_, track) if self.reporting == Some(track) => {
                self.reporting = None;
            }
            RouteAction::Accept(_, request, track) => {
                if let Some(report) = self.below.get_mut(&request) {
                    report.track = self.node.track(track);
                }
            }
            RouteAction::Reject(_, request, _) | RouteAction::End(_, request, ..) => {
                self.below.remove(&request);
            }
            _ => {}
        }
    }

    fn tick(&mut self) {
        self.follow();
        self.gather();
        self.report();
    }

    /// Subscribes to the reports of nodes below that are not subscribed to.
    fn follow(&mut self) {
        let Ok(all) = moqt::Namespace::from_path("weir/nodes") else { return };
        let following: HashSet<String> = self.below.values().map(|r| r.node.clone()).collect();
        let own = &self.node.config.node;
        let fresh: Vec<_> = lock(&self.node.router)
            .namespaces()
            .filter(|(namespace, local)| *local && namespace.has_prefix(&all))
            .filter_map(|(namespace, _)| {
                let name = String::from_utf8_lossy(namespace.fields().last()?).into_owned();
                (name != *own && !following.contains(&name)).then(|| (namespace.clone(), name))
            })
            .collect();
        for (namespace, name) in fresh {
            let Ok(track) = FullTrackName::new(namespace, TRACK) else { continue };
            let request = self.next;
            self.next += 1;
            self.below.insert(request, Report { node: name, track: None });
            self.node.route(|router, now| {
                router.handle_subscribe(SELF, request, &track, INTERVAL, None, now);
            });
        }
    }

    /// Reads the newest report of every node below.
    fn gather(&self) {
        let mut children = lock(&self.node.children);
        let now = Instant::now();
        for report in self.below.values() {
            let Some(track) = &report.track else { continue };
            let state = track.read();
            let Some(largest) = state.largest() else { continue };
            if children.is_news(&report.node, largest.group)
                && let Some(payload) = state.newest_payload()
            {
                drop(state);
                match serde_json::from_slice::<NodeSnapshot>(&payload) {
                    Ok(mut snapshot) => {
                        // Whoever it says it is, it is what it is published as.
                        snapshot.node.clone_from(&report.node);
                        children.hear(snapshot, largest.group, now);
                    }
                    Err(error) => tracing::debug!(node = report.node, %error, "no report"),
                }
            }
        }
        children.forget_old(now);
    }

    /// Writes our own report, one group each.
    fn report(&mut self) {
        let Some(track) = self.reporting.and_then(|id| self.node.track(id)) else { return };
        let Ok(payload) = serde_json::to_vec(&self.node.report()) else { return };
        let now = Instant::now();
        let header = SubgroupHeader {
            track_alias: 0,
            group: self.group,
            subgroup: SubgroupId::Known(0),
            priority: None,
            properties: false,
            end_of_group: true,
            first_object: true,
        };
        let mut state = track.write();
        let mut head = BytesMut::new();
        ObjectHeader {
            id: 0,
            previous: None,
            properties: None,
            payload: payload.len() as u64,
            status: ObjectStatus::Normal,
        }
        .encode(&mut head, CANONICAL.int_coding());
        if let Ok(Some(feed)) = state.open(SELF, header, now) {
            // Our own bytes cannot break the protocol.
            let _ = state.append(feed, head.freeze(), now);
            let _ = state.append(feed, Bytes::from(payload), now);
            let _ = state.finish(feed, now);
        }
        drop(state);
        self.group += 1;
        track.wake();
    }
}

fn unix_ms() -> u64 {
    transport::clock::unix_us() / 1000
}
