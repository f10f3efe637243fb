//! Reports this node up the tree as MoQT tracks, and gathers the reports from below.
//!
//! To the router this is one more session: it publishes `weir/nodes/NODE` and subscribes to the
//! reports of every node that is reached through us, and to the details of those that somebody looks
//! at. A parent hears of us as of any publisher.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use moqt::{FullTrackName, RequestId};
use relay_core::{Peer, RouteAction, TrackId};
use stats::NodeSnapshot;
use tokio::task::spawn_blocking;

use super::report::Kind;
use super::{Mail, Node, SELF, SharedTrack, arrivals, lock, report_namespace};

/// Between two reports.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often it is looked whether others reported.
const LOOK: Duration = Duration::from_millis(100);
/// Most nodes whose reports are read.
const MAX_NODES: usize = 2000;

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
    let mut feed = Feed {
        node: Arc::clone(&node),
        published: BTreeMap::new(),
        group: unix_ms(),
        next: 1,
        below: HashMap::new(),
    };
    let interval = |period| {
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ticks
    };
    let (mut report, mut look) = (interval(INTERVAL), interval(LOOK));
    loop {
        tokio::select! {
            Some(mail) = actions.recv() => feed.handle(mail).await,
            _ = report.tick() => {
                feed.follow_reports();
                feed.report().await;
            }
            _ = look.tick() => {
                feed.follow_details();
                feed.gather().await;
            }
            () = node.details.changed.notified() => feed.follow_details(),
        }
    }
}

struct Feed {
    node: Arc<Node>,
    /// Our own tracks that somebody above subscribes to.
    published: BTreeMap<Kind, TrackId>,
    /// Group of the next object; from the clock, so that a restarted node goes on above.
    group: u64,
    next: RequestId,
    /// Tracks of other nodes that we subscribe to.
    below: HashMap<RequestId, Followed>,
}

/// A track of a node below.
struct Followed {
    node: String,
    kind: Kind,
    track: Option<Arc<SharedTrack>>,
    /// The group that was read last.
    read: Option<u64>,
}

impl Feed {
    async fn handle(&mut self, mail: Mail) {
        // Nobody fetches from here: reports are no older than a second.
        let Mail::Route(action) = mail else { return };
        match action {
            RouteAction::Subscribe(_, track, wanted)
                if &wanted.name.name()[..] == arrivals::TRACK.as_bytes() =>
            {
                self.node.begin_arrivals(track);
            }
            RouteAction::Subscribe(_, track, wanted) => match Kind::of_track(wanted.name.name()) {
                Some(kind) => self.publish(kind, track).await,
                None => {
                    let error = moqt::RequestError::new(
                        moqt::RequestErrorCode::DOES_NOT_EXIST,
                        format!("a node has no track {}", wanted.name),
                    );
                    self.node.route(|router, now| {
                        router.handle_upstream_error(SELF, track, &error, now);
                    });
                }
            },
            RouteAction::Unsubscribe(_, track) => {
                self.published.retain(|_, published| *published != track);
                self.node.end_arrivals(track);
            }
            RouteAction::Accept(_, request, track) => {
                if let Some(followed) = self.below.get_mut(&request) {
                    followed.track = self.node.track(track);
                }
            }
            RouteAction::Reject(_, request, _) | RouteAction::End(_, request, ..) => {
                let followed = self.below.remove(&request);
                if let Some(followed) = followed.filter(|it| it.kind == Kind::Detail) {
                    self.node.details.refuse(&followed.node);
                }
            }
            _ => {}
        }
    }

    /// Somebody above subscribes to a track of ours: it begins with what is known now.
    async fn publish(&mut self, kind: Kind, track: TrackId) {
        if let Some(shared) = self.node.track(track) {
            shared.begin_own(kind.priority());
        }
        self.published.insert(kind, track);
        self.node.route(|router, _| router.handle_upstream_ok(SELF, track));
        self.write(kind, track, self.node.snapshot()).await;
    }

    /// Subscribes to the reports of nodes below that are not subscribed to.
    fn follow_reports(&mut self) {
        let Ok(all) = moqt::Namespace::from_path("weir/nodes") else { return };
        let mut following = self.followed(Kind::Report);
        let own = &self.node.config.node;
        let fresh: Vec<String> = lock(&self.node.router)
            .namespaces()
            .filter(|(namespace, local)| *local && namespace.has_prefix(&all))
            .filter_map(|(namespace, _)| {
                let name = String::from_utf8(namespace.fields().last()?.to_vec()).ok()?;
                let is_node = report_namespace(&name).is_ok_and(|of_node| of_node == *namespace);
                (is_node && name != *own).then_some(name)
            })
            .collect();
        for name in fresh {
            if following.len() < MAX_NODES && following.insert(name.clone()) {
                self.follow(name, Kind::Report);
            }
        }
    }

    /// Subscribes to the details that somebody looks at, and lets go of the others.
    fn follow_details(&mut self) {
        let wanted = self.node.details.wanted(Instant::now());
        let following = self.followed(Kind::Detail);
        let node = Arc::clone(&self.node);
        self.below.retain(|request, followed| {
            if followed.kind == Kind::Report || wanted.contains(&followed.node) {
                return true;
            }
            node.route(|router, _| router.handle_cancelled(SELF, *request));
            false
        });
        for name in wanted.into_iter().filter(|name| !following.contains(name)) {
            self.follow(name, Kind::Detail);
        }
    }

    /// The nodes that a kind of track is subscribed to of.
    fn followed(&self, kind: Kind) -> BTreeSet<String> {
        let followed = self.below.values().filter(|followed| followed.kind == kind);
        followed.map(|followed| followed.node.clone()).collect()
    }

    fn follow(&mut self, node: String, kind: Kind) {
        let Ok(namespace) = report_namespace(&node) else { return };
        let Ok(track) = FullTrackName::new(namespace, kind.track()) else { return };
        let request = self.next;
        self.next += 1;
        self.below.insert(request, Followed { node, kind, track: None, read: None });
        self.node.route(|router, now| {
            router.handle_subscribe(SELF, request, &track, INTERVAL, None, now);
        });
    }

    /// Reads what others wrote since it was last looked.
    async fn gather(&mut self) {
        for followed in self.below.values_mut() {
            let Some(track) = &followed.track else { continue };
            let newest = track.read().newest_payload(followed.read);
            let Some((group, payload)) = newest else { continue };
            followed.read = Some(group);
            let kind = followed.kind;
            let read = match kind {
                Kind::Report => kind.decode(&payload),
                // Large ones are read where nobody else waits.
                Kind::Detail => match spawn_blocking(move || kind.decode(&payload)).await {
                    Ok(read) => read,
                    Err(_) => continue,
                },
            };
            let now = Instant::now();
            match read {
                Ok(mut snapshot) => {
                    // Whoever it says it is, it is what it is published as.
                    snapshot.node.clone_from(&followed.node);
                    match kind {
                        Kind::Report => lock(&self.node.children).hear(snapshot, now),
                        Kind::Detail => self.node.details.tell(snapshot, now),
                    }
                }
                Err(error) => tracing::debug!(node = followed.node, %error, "no report"),
            }
        }
        if lock(&self.node.children).notice_silence(Instant::now()) {
            self.node.news.send_modify(|count| *count += 1);
        }
    }

    /// Writes what is subscribed to: all of it of one moment.
    async fn report(&mut self) {
        if self.published.is_empty() {
            return;
        }
        let snapshot = self.node.snapshot();
        for (kind, track) in self.published.clone() {
            self.write(kind, track, snapshot.clone()).await;
        }
    }

    /// Writes one object, in a group of its own.
    async fn write(&mut self, kind: Kind, track: TrackId, snapshot: NodeSnapshot) {
        // Deflating takes its time, and media wait for nobody's report.
        let Ok(payload) = spawn_blocking(move || kind.encode(snapshot)).await else { return };
        let Some(track) = self.node.track(track) else { return };
        track.write_own(self.group, payload.into());
        self.group += 1;
    }
}

fn unix_ms() -> u64 {
    transport::clock::unix_us() / 1000
}
