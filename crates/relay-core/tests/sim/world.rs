//! Everyone in one run, and what happens to them.
//!
//! A run has three parts: *trouble*, in which anything may happen to anyone; *calm*, in which
//! nothing bad happens any more, and every viewer must soon get all it wants; and the *end*, when
//! all have left, and nothing may be left of them.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use moqt::Version;
use relay_core::{CacheLimits, Peer as Kind, Policy};

use crate::broadcast::Broadcast;
use crate::link::{Arrival, Link, Path, Side};
use crate::publisher::{Manner, Publisher};
use crate::relay::{Relay, Setup};
use crate::rng::Rng;
use crate::timeline::Timeline;
use crate::viewer::Viewer;
use crate::wire::Wire;

/// A connection, as the world calls it.
pub(crate) type LinkId = usize;

/// Who may be at the end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Actor {
    Relay(usize),
    Publisher(usize),
    Viewer(usize),
}

#[derive(Debug)]
struct Ends {
    link: Link,
    /// Who dialled, and who was dialled.
    actors: [Actor; 2],
}

/// All connections.
#[derive(Debug)]
pub(crate) struct Links {
    timeline: Timeline,
    open: BTreeMap<LinkId, Ends>,
    next: LinkId,
}

impl Links {
    pub(crate) fn get_mut(&mut self, id: LinkId) -> &mut Link {
        let ends = self.open.get_mut(&id).expect("a link is there for as long as its ends are");
        ends.link.set_now(self.timeline.now());
        &mut ends.link
    }

    fn add(&mut self, actors: [Actor; 2], path: Path, rng: Rng) -> LinkId {
        let id = self.next;
        self.next += 1;
        let link = Link::new(path, rng, self.timeline.now());
        self.open.insert(id, Ends { link, actors });
        id
    }
}

/// What is going to happen.
#[derive(Clone, Copy, Debug)]
enum Plan {
    PublisherJoins(usize),
    PublisherLeaves(usize),
    ViewerJoins(usize),
    ViewerLeaves(usize),
    ViewerFidgets(usize),
    RelayStarts(usize),
    RelayStops(usize),
    /// The edge dials the root.
    Uplink,
    PathChanges,
    LinkBreaks,
    /// Nothing bad happens from here on.
    Calm,
    /// Viewers begin anew.
    Recovered,
    /// They must have got something.
    Judge,
    Leave,
    /// Nothing may be left.
    End,
}

/// A publisher or viewer that comes, goes, and may come again.
#[derive(Debug)]
struct Client<T> {
    name: String,
    relay: usize,
    tracks: Vec<Rc<Broadcast>>,
    manner: Manner,
    lives: u64,
    now: Option<(LinkId, T)>,
}

#[derive(Debug)]
pub(crate) struct World {
    timeline: Timeline,
    rng: Rng,
    links: Links,
    setups: [Setup; 2],
    relays: [Option<Relay>; 2],
    tracks: Vec<Rc<Broadcast>>,
    publishers: Vec<Client<Publisher>>,
    viewers: Vec<Client<Viewer>>,
    agenda: BTreeMap<(Instant, u64), Plan>,
    next_plan: u64,
    /// Viewers must hear of a track's end.
    ends: bool,
    calm: bool,
    over: bool,
    steps: u64,
}

const ROOT: usize = 0;
const EDGE: usize = 1;
const RELAYS: [&str; 2] = ["root", "edge"];

/// How long nobody notices that a peer is gone.
const IDLE: Duration = Duration::from_millis(1500);
/// Between calm and a fresh start of all viewers.
const RECOVERY: Duration = Duration::from_millis(3200);
/// How long the calm is watched.
const WATCH: Duration = Duration::from_millis(3600);
/// Longest that anything of anyone may be left.
const PATIENCE: Duration = Duration::from_secs(5);
/// Steps of a run; more of them mean that it runs in circles.
const MAX_STEPS: u64 = 100_000;

fn ms(range: std::ops::Range<u64>, rng: &mut Rng) -> Duration {
    Duration::from_millis(rng.between(range.start, range.end - 1))
}

impl World {
    pub(crate) fn new(seed: u64, start: Instant, told: bool, ends: bool) -> Self {
        let timeline = Timeline::new(start, told);
        let mut rng = Rng::new(seed);
        let count = rng.between(1, 3);
        let tracks: Vec<_> =
            (0..count).map(|number| Rc::new(Broadcast::new(number, &mut rng, start))).collect();
        for track in &tracks {
            timeline.note("track", track);
        }
        let policy =
            Policy { max_latency: ms(300..2500, &mut rng), stuck: Duration::from_secs(20) };
        let limits =
            CacheLimits { bytes: *rng.pick(&[200_000, 1_000_000]), age: ms(200..6000, &mut rng) };
        timeline.note("relays", format_args!("{policy:?}, {limits:?}"));
        let setups = RELAYS.map(|name| Setup { name, policy, limits });
        let links = Links { timeline: timeline.clone(), open: BTreeMap::new(), next: 0 };
        let mut world = Self {
            relays: setups.map(|setup| Some(Relay::new(setup, timeline.clone()))),
            timeline,
            rng,
            links,
            setups,
            tracks,
            publishers: Vec::new(),
            viewers: Vec::new(),
            agenda: BTreeMap::new(),
            next_plan: 0,
            ends,
            calm: false,
            over: false,
            steps: 0,
        };
        world.prepare();
        world
    }

    pub(crate) fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// Decides who takes part and what will happen to them.
    fn prepare(&mut self) {
        let trouble = self.rng.between(500, 4000);
        self.plan(Duration::ZERO, Plan::Uplink);
        for number in 0..self.rng.between(1, 4) as usize {
            let manner = *self.rng.pick(&[Manner::Announces, Manner::Announces, Manner::Pushes]);
            let client = self.client(format!("pub{number}"), manner);
            self.publishers.push(client);
            self.plan_ms(0..trouble / 2, Plan::PublisherJoins(number));
            if self.rng.per_mille(500) {
                self.plan_ms(0..trouble, Plan::PublisherLeaves(number));
            }
        }
        for number in 0..self.rng.between(1, 4) as usize {
            let client = self.client(format!("viewer{number}"), Manner::Announces);
            self.viewers.push(client);
            self.plan_ms(0..trouble / 2, Plan::ViewerJoins(number));
            for _ in 0..self.rng.below(6) {
                self.plan_ms(0..trouble, Plan::ViewerFidgets(number));
            }
            if self.rng.per_mille(400) {
                self.plan_ms(0..trouble, Plan::ViewerLeaves(number));
            }
        }
        for _ in 0..self.rng.below(3) {
            self.plan_ms(0..trouble, Plan::PathChanges);
        }
        for relay in [ROOT, EDGE] {
            if self.rng.per_mille(250) {
                self.plan_ms(0..trouble, Plan::RelayStops(relay));
            }
        }
        if self.rng.per_mille(300) {
            self.plan_ms(0..trouble, Plan::LinkBreaks);
        }
        self.plan(Duration::from_millis(trouble), Plan::Calm);
    }

    fn client<T>(&mut self, name: String, manner: Manner) -> Client<T> {
        let mut tracks = self.tracks.clone();
        tracks.retain(|_| self.rng.per_mille(700));
        if tracks.is_empty() {
            tracks.push(Rc::clone(self.rng.pick(&self.tracks)));
        }
        let relay = self.rng.below(2) as usize;
        Client { name, relay, tracks, manner, lives: 0, now: None }
    }

    fn plan(&mut self, after: Duration, plan: Plan) {
        let key = (self.timeline.now() + after, self.next_plan);
        self.next_plan += 1;
        self.agenda.insert(key, plan);
    }

    fn plan_ms(&mut self, range: std::ops::Range<u64>, plan: Plan) {
        let after = ms(range, &mut self.rng);
        self.plan(after, plan);
    }

    fn path(&mut self) -> Path {
        let rng = &mut self.rng;
        if self.calm {
            return Path {
                delay: ms(1..30, rng),
                jitter: ms(1..10, rng),
                loss: 0,
                rate: 4_000_000,
                buffer: 64_000,
            };
        }
        let jitter = if rng.per_mille(300) { 1..120 } else { 1..15 };
        Path {
            delay: ms(1..120, rng),
            jitter: ms(jitter, rng),
            loss: *rng.pick(&[0, 0, 10, 50, 200]),
            rate: *rng.pick(&[30_000, 150_000, 1_000_000, 4_000_000]),
            buffer: *rng.pick(&[2_000, 16_000, 64_000]),
        }
    }

    // ---- time ----

    /// Lives to the end, or to the first invariant that does not hold.
    pub(crate) fn run(&mut self) {
        while !self.over && self.timeline.violations().is_empty() {
            let Some(next) = self.next_time() else {
                return self.timeline.violate("world", "nothing will ever happen again");
            };
            self.timeline.set_now(next.max(self.timeline.now()));
            self.step();
            self.steps += 1;
            if self.steps > MAX_STEPS {
                self.tell_who_is_busy();
                self.timeline.violate("world", "runs in circles");
            }
        }
    }

    /// Who wants something done now, though it was just asked.
    fn tell_who_is_busy(&self) {
        let now = self.timeline.now();
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        for (id, ends) in &self.links.open {
            if due(ends.link.next_time()) {
                self.timeline.note(format!("link{id}"), "is due");
            }
        }
        for relay in self.relays.iter().flatten() {
            relay.tell_who_is_busy();
        }
        for (_, publisher) in self.publishers.iter().filter_map(|client| client.now.as_ref()) {
            if due(publisher.poll_timeout()) {
                self.timeline.note(&publisher.name, "is due");
            }
        }
        for (_, viewer) in self.viewers.iter().filter_map(|client| client.now.as_ref()) {
            if due(viewer.poll_timeout()) {
                self.timeline.note(&viewer.name, "is due");
            }
        }
    }

    fn next_time(&self) -> Option<Instant> {
        let agenda = self.agenda.keys().next().map(|(at, _)| *at);
        let links = self.links.open.values().filter_map(|ends| ends.link.next_time());
        let relays = self.relays.iter().flatten().filter_map(Relay::poll_timeout);
        let publishers =
            self.publishers.iter().filter_map(|client| client.now.as_ref()?.1.poll_timeout());
        let viewers =
            self.viewers.iter().filter_map(|client| client.now.as_ref()?.1.poll_timeout());
        links.chain(relays).chain(publishers).chain(viewers).chain(agenda).min()
    }

    fn step(&mut self) {
        let now = self.timeline.now();
        let ids: Vec<_> = self
            .links
            .open
            .iter()
            .filter(|(_, ends)| ends.link.next_time().is_some_and(|at| at <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.step_link(id);
        }
        for relay in self.relays.iter_mut().flatten() {
            if relay.poll_timeout().is_some_and(|at| at <= now) {
                relay.handle_timeout(&mut self.links);
            }
        }
        for (link, publisher) in self.publishers.iter_mut().filter_map(|c| c.now.as_mut()) {
            if publisher.poll_timeout().is_some_and(|at| at <= now) {
                publisher.produce(self.links.get_mut(*link));
            }
        }
        for (link, viewer) in self.viewers.iter_mut().filter_map(|c| c.now.as_mut()) {
            if viewer.poll_timeout().is_some_and(|at| at <= now) {
                viewer.handle_timeout(self.links.get_mut(*link));
            }
        }
        while let Some(entry) = self.agenda.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let plan = entry.remove();
            self.carry_out(plan);
        }
        self.bury();
        self.check();
    }

    /// What arrives on a link, and who may write more.
    fn step_link(&mut self, id: LinkId) {
        let now = self.timeline.now();
        while let Some(ends) = self.links.open.get_mut(&id)
            && let Some((side, arrival)) = ends.link.poll(now)
        {
            let actor = ends.actors[side];
            self.deliver(id, actor, Some(arrival));
        }
        for side in 0..2 {
            if let Some(ends) = self.links.open.get_mut(&id)
                && ends.link.take_drained(side)
            {
                let actor = ends.actors[side];
                self.deliver(id, actor, None);
            }
        }
    }

    fn deliver(&mut self, id: LinkId, actor: Actor, arrival: Option<Arrival>) {
        match actor {
            Actor::Relay(number) => {
                if let Some(relay) = &mut self.relays[number] {
                    relay.handle(id, arrival, &mut self.links);
                }
            }
            Actor::Publisher(number) => {
                let Some((link, publisher)) = &mut self.publishers[number].now else { return };
                if *link == id {
                    let link = self.links.get_mut(id);
                    if let Some(arrival) = arrival {
                        publisher.wire.handle(arrival, link);
                        while let Some(said) = publisher.wire.poll_said() {
                            publisher.handle(said, link);
                        }
                    }
                    publisher.produce(link);
                }
            }
            Actor::Viewer(number) => {
                let Some((link, viewer)) = &mut self.viewers[number].now else { return };
                if let Some(arrival) = arrival
                    && *link == id
                {
                    let link = self.links.get_mut(id);
                    viewer.wire.handle(arrival, link);
                    while let Some(said) = viewer.wire.poll_said() {
                        viewer.handle(said, link);
                    }
                }
            }
        }
    }

    /// Takes away who has lost its connection, and lets it come again.
    fn bury(&mut self) {
        let mut again = Vec::new();
        for (number, client) in self.publishers.iter_mut().enumerate() {
            if client.now.as_ref().is_some_and(|(_, publisher)| publisher.wire.is_closed) {
                let (_, publisher) = client.now.take().expect("just seen");
                again.push((publisher.wire.error, publisher.name, Plan::PublisherJoins(number)));
            }
        }
        for (number, client) in self.viewers.iter_mut().enumerate() {
            if client.now.as_ref().is_some_and(|(_, viewer)| viewer.wire.is_closed) {
                let (_, viewer) = client.now.take().expect("just seen");
                again.push((viewer.wire.error, viewer.name, Plan::ViewerJoins(number)));
            }
        }
        for (error, name, plan) in again {
            if let Some(error) = error {
                self.timeline.violate(&name, format_args!("the protocol was broken: {error}"));
            }
            self.timeline.note(&name, "lost its relay");
            self.plan_ms(50..400, plan);
        }
        let uplink = |relay: &Relay| relay.peers.values().any(|p| p.wire.side == 0);
        let planned = self.agenda.values().any(|plan| matches!(plan, Plan::Uplink));
        if self.relays[EDGE].as_ref().is_some_and(|edge| !uplink(edge)) && !planned {
            self.plan_ms(50..300, Plan::Uplink);
        }
        self.links.open.retain(|_, ends| !ends.link.is_over());
    }

    // ---- events ----

    fn carry_out(&mut self, plan: Plan) {
        match plan {
            Plan::PublisherJoins(number) => self.publisher_joins(number),
            Plan::PublisherLeaves(number) => self.publisher_leaves(number),
            Plan::ViewerJoins(number) => self.viewer_joins(number),
            Plan::ViewerLeaves(number) => self.viewer_leaves(number),
            Plan::ViewerFidgets(number) => {
                if let Some((link, viewer)) = &mut self.viewers[number].now
                    && !self.calm
                {
                    viewer.fidget(self.links.get_mut(*link));
                }
            }
            Plan::RelayStarts(number) => {
                self.timeline.note(RELAYS[number], "starts");
                self.relays[number] = Some(Relay::new(self.setups[number], self.timeline.clone()));
            }
            Plan::RelayStops(number) => self.relay_stops(number),
            Plan::Uplink => self.uplink(),
            Plan::PathChanges => {
                let ids: Vec<_> = self.links.open.keys().copied().collect();
                if !self.calm && !ids.is_empty() {
                    let (id, path) = (*self.rng.pick(&ids), self.path());
                    self.timeline.note(format!("link{id}"), format_args!("becomes {path}"));
                    self.links.get_mut(id).set_path(path);
                }
            }
            Plan::LinkBreaks => {
                let ids: Vec<_> = self.links.open.keys().copied().collect();
                if !self.calm && !ids.is_empty() {
                    let id = *self.rng.pick(&ids);
                    self.timeline.note(format!("link{id}"), "breaks");
                    self.break_link(id);
                }
            }
            Plan::Calm => self.calm_down(),
            Plan::Recovered => {
                self.timeline.note("world", "all viewers begin anew");
                for (link, viewer) in self.viewers.iter_mut().filter_map(|c| c.now.as_mut()) {
                    viewer.calm_down(self.links.get_mut(*link));
                }
            }
            Plan::Judge => self.judge(),
            Plan::Leave => self.leave(),
            Plan::End => self.end(),
        }
    }

    /// Neither end hears anything of the other, and both notice some time later.
    fn break_link(&mut self, id: LinkId) {
        let actors = self.links.open[&id].actors;
        for (side, actor) in actors.into_iter().enumerate() {
            self.links.get_mut(id).close(1 - side, None, Some(IDLE));
            self.deliver(id, actor, Some(Arrival::Closed { code: None }));
        }
    }

    fn connect(&mut self, actors: [Actor; 2], relay: usize) -> Option<(LinkId, Wire)> {
        let now = self.timeline.now();
        self.relays[relay].as_ref()?;
        let path = self.path();
        let rng = self.rng.fork();
        let version = *self.rng.pick(&[Version::Draft18, Version::Draft22]);
        let id = self.links.add(actors, path, rng);
        self.timeline.note(
            format!("link{id}"),
            format_args!("{:?} to {}, draft {version}: {path}", actors[0], RELAYS[relay]),
        );
        let node = Some(bytes::Bytes::from_static(b"node"));
        let setup = |side: Side| match actors[side] {
            Actor::Relay(_) => moqt::Setup { node: node.clone(), ..moqt::Setup::default() },
            _ => moqt::Setup::default(),
        };
        let server = Wire::new(1, version, setup(1), now);
        if let Some(relay) = &mut self.relays[relay] {
            relay.connect(id, server, Kind::Client, &mut self.links);
        }
        let mut client = Wire::new(0, version, setup(0), now);
        client.flush(self.links.get_mut(id));
        Some((id, client))
    }

    fn uplink(&mut self) {
        if self.relays[EDGE].is_none() || self.relays[ROOT].is_none() {
            return;
        }
        let actors = [Actor::Relay(EDGE), Actor::Relay(ROOT)];
        if let Some((id, wire)) = self.connect(actors, ROOT)
            && let Some(edge) = &mut self.relays[EDGE]
        {
            edge.connect(id, wire, Kind::Uplink, &mut self.links);
        }
    }

    fn publisher_joins(&mut self, number: usize) {
        let client = &self.publishers[number];
        if client.now.is_some() || self.over {
            return;
        }
        let (relay, manner, tracks) = (client.relay, client.manner, client.tracks.clone());
        let actors = [Actor::Publisher(number), Actor::Relay(relay)];
        let Some((id, wire)) = self.connect(actors, relay) else {
            return self.plan_ms(50..400, Plan::PublisherJoins(number));
        };
        let rng = self.rng.fork();
        let client = &mut self.publishers[number];
        client.lives += 1;
        let name = format!("{}.{}", client.name, client.lives);
        let timeline = self.timeline.clone();
        let mut publisher = Publisher::new(name, wire, tracks, manner, rng, timeline);
        if self.calm {
            publisher.breaks = 0;
        }
        client.now = Some((id, publisher));
    }

    fn publisher_leaves(&mut self, number: usize) {
        let Some((link, mut publisher)) = self.publishers[number].now.take() else { return };
        let link_id = link;
        let link = self.links.get_mut(link);
        let how = self.rng.below(3);
        let after = (how == 2).then_some(IDLE);
        let said = ["says goodbye", "closes", "crashes"][how as usize];
        self.timeline.note(&publisher.name, format_args!("{said} (link{link_id})"));
        if how == 0 {
            publisher.leave(link);
        }
        link.close(0, after.is_none().then_some(moqt::SessionCode::NO_ERROR), after);
        if !self.calm && self.rng.per_mille(700) {
            self.plan_ms(20..1500, Plan::PublisherJoins(number));
        }
    }

    fn viewer_joins(&mut self, number: usize) {
        let client = &self.viewers[number];
        if client.now.is_some() {
            return;
        }
        let (relay, tracks) = (client.relay, client.tracks.clone());
        let actors = [Actor::Viewer(number), Actor::Relay(relay)];
        let Some((id, wire)) = self.connect(actors, relay) else {
            return self.plan_ms(50..400, Plan::ViewerJoins(number));
        };
        let rng = self.rng.fork();
        let client = &mut self.viewers[number];
        client.lives += 1;
        let name = format!("{}.{}", client.name, client.lives);
        let viewer = Viewer::new(name, wire, tracks, rng, self.timeline.clone());
        client.now = Some((id, viewer));
    }

    fn viewer_leaves(&mut self, number: usize) {
        let Some((link, viewer)) = self.viewers[number].now.take() else { return };
        let after = self.rng.per_mille(400).then_some(IDLE);
        let said = if after.is_some() { "crashes" } else { "leaves" };
        self.timeline.note(&viewer.name, said);
        let code = after.is_none().then_some(moqt::SessionCode::NO_ERROR);
        self.links.get_mut(link).close(0, code, after);
        if !self.calm && self.rng.per_mille(700) {
            self.plan_ms(20..1500, Plan::ViewerJoins(number));
        }
    }

    fn relay_stops(&mut self, number: usize) {
        if self.calm {
            return;
        }
        let Some(mut relay) = self.relays[number].take() else { return };
        // A restarted relay tells the peers of the one before at once that they must dial again.
        let after = self.rng.per_mille(300).then_some(IDLE);
        let said = if after.is_some() { "crashes" } else { "stops" };
        self.timeline.note(RELAYS[number], said);
        relay.stop(after, &mut self.links);
        self.plan_ms(20..800, Plan::RelayStarts(number));
    }

    // ---- calm and end ----

    fn calm_down(&mut self) {
        self.timeline.note("world", "calm: nothing bad happens from here on");
        self.calm = true;
        let ids: Vec<_> = self.links.open.keys().copied().collect();
        for id in ids {
            let path = self.path();
            self.links.get_mut(id).set_path(path);
        }
        for (_, publisher) in self.publishers.iter_mut().filter_map(|c| c.now.as_mut()) {
            publisher.breaks = 0;
        }
        // Somebody publishes each track, and somebody watches all of them at each relay.
        let number = self.publishers.len();
        let mut client = self.client("last-pub".to_owned(), Manner::Announces);
        client.tracks = self.tracks.clone();
        self.publishers.push(client);
        self.plan_ms(0..300, Plan::PublisherJoins(number));
        for relay in [ROOT, EDGE] {
            let number = self.viewers.len();
            let mut client = self.client(format!("last-at-{}", RELAYS[relay]), Manner::Announces);
            (client.relay, client.tracks) = (relay, self.tracks.clone());
            self.viewers.push(client);
            self.plan_ms(0..600, Plan::ViewerJoins(number));
        }
        self.plan(RECOVERY, Plan::Recovered);
        self.plan(RECOVERY + WATCH, Plan::Judge);
        self.plan(RECOVERY + WATCH, Plan::Leave);
    }

    /// After a calm while every viewer must have got what there was.
    fn judge(&mut self) {
        let until = self.timeline.now() - Duration::from_millis(400);
        for (_, viewer) in self.viewers.iter().filter_map(|client| client.now.as_ref()) {
            viewer.judge(until, self.ends);
        }
        for (number, client) in self.viewers.iter().enumerate() {
            if client.now.is_none() && client.lives > 0 && client.name.starts_with("last") {
                self.timeline.violate(format!("viewer{number}"), "is not there in the calm");
            }
        }
    }

    fn leave(&mut self) {
        self.timeline.note("world", "all leave");
        for number in 0..self.publishers.len() {
            self.publisher_leaves(number);
        }
        for number in 0..self.viewers.len() {
            self.viewer_leaves(number);
        }
        self.plan(PATIENCE, Plan::End);
    }

    fn end(&mut self) {
        self.over = true;
        for relay in self.relays.iter().flatten() {
            relay.check_empty();
        }
        for (id, ends) in &self.links.open {
            let between_relays = ends.actors == [Actor::Relay(EDGE), Actor::Relay(ROOT)];
            let streams = ends.link.open_data_streams(0) + ends.link.open_data_streams(1);
            if !between_relays || streams > 0 {
                let what = format!("{:?} is left with {streams} streams", ends.actors);
                self.timeline.violate(format!("link{id}"), what);
            }
        }
    }

    /// What must hold after every step.
    fn check(&mut self) {
        for relay in self.relays.iter().flatten() {
            relay.check();
        }
    }
}
