//! What time it is here, at the nodes next to us, and where each broadcast is captured.
//!
//! Every Weir program answers TRACK_STATUS of `weir/clock` (see [`transport::clock`]). We ask our
//! parent for its own clock, and whoever gives us a broadcast for the clock that it is captured by:
//! the publisher has that itself, a relay passes on what it found out in the same way, its error
//! added. So nobody needs to know more than those next to it.
//!
//! Only peers that say they are Weir programs are asked: not every implementation survives a
//! request that it does not know. Of all others' clocks nothing is known.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use moqt::{Parameters, Request, RequestError, RequestErrorCode, Response, Setup, TrackStatus};
use relay_core::{Peer, SessionId};
use stats::clock::{Reading, RemoteClock};
use tokio::sync::mpsc;
use transport::clock::{self, Asked};

use super::session::{Ask, AskedStream};
use super::{Mail, Node, lock};

/// How often is looked whose clocks are of interest.
const LOOK: Duration = Duration::from_millis(200);
/// Questions at first: the quickest answer of several is the best.
const BURST: u32 = 4;
/// Between questions after that.
const EVERY: Duration = Duration::from_secs(3);
/// Until a peer that knew nothing is asked again; twice as long each time, up to [`EVERY`].
const RETRY: Duration = Duration::from_millis(200);
/// How long an answer may take to be of use.
const PATIENCE: Duration = Duration::from_secs(2);
/// A clock of no interest is forgotten after this long.
const FORGET: Duration = Duration::from_secs(10);
/// Broadcasts whose clocks are asked for, at most.
const MAX_BROADCASTS: usize = 512;
/// How the programs that answer say what they are ("MOQT IMPLEMENTATION").
const KIN: [&[u8]; 2] = [b"weir-relay/", b"weir-publisher/"];

/// All that is known of clocks.
pub(super) struct Clocks {
    /// Where our own time begins that never jumps.
    start: Instant,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// Sessions to our own kind.
    peers: BTreeMap<SessionId, Kin>,
    clocks: HashMap<Asked, HashMap<SessionId, Watched>>,
}

/// One of our own kind.
struct Kin {
    peer: Peer,
    /// The name of a relay.
    node: Option<String>,
}

/// A clock that is asked for at one session.
struct Watched {
    clock: RemoteClock,
    /// When to ask next; `None` while a question is on its way.
    next: Option<Instant>,
    /// Answers that were none, since the last that was one.
    refusals: u32,
    wanted: Instant,
}

impl Watched {
    fn new(now: Instant) -> Self {
        Self { clock: RemoteClock::default(), next: Some(now), refusals: 0, wanted: now }
    }
}

impl Clocks {
    pub(super) fn new() -> Self {
        Self { start: Instant::now(), known: Mutex::default() }
    }

    /// A session began.
    pub(super) fn meet(&self, id: SessionId, peer: Peer, setup: &Setup) {
        let implementation = setup.implementation.as_deref().unwrap_or_default();
        if KIN.iter().any(|name| implementation.starts_with(name)) {
            let node = setup.node.as_ref().map(|name| String::from_utf8_lossy(name).into_owned());
            lock(&self.known).peers.insert(id, Kin { peer, node });
        }
    }

    /// A session is over.
    pub(super) fn part(&self, id: SessionId) {
        let mut known = lock(&self.known);
        known.peers.remove(&id);
        known.clocks.retain(|_, sessions| {
            sessions.remove(&id);
            !sessions.is_empty()
        });
    }

    /// Answers a peer that asks for a clock. What we know of it through that peer is no news to it.
    pub(super) fn answer(&self, asker: SessionId, asked: &Asked) -> Response {
        match asked {
            Asked::Own => Response::Ok(clock::status(clock::unix_us(), 0)),
            Asked::Broadcast(namespace) => {
                let now = self.micros(Instant::now());
                match lock(&self.known).best(asked, now, Some(asker)) {
                    Some((_, Reading { unix_us, error_us })) => {
                        Response::Ok(clock::status(unix_us, error_us))
                    }
                    None => {
                        let reason = format!("nothing is known of the clock of {namespace}");
                        let code = RequestErrorCode::DOES_NOT_EXIST;
                        Response::Error(RequestError::new(code, reason))
                    }
                }
            }
        }
    }

    /// Our clock minus our parent's in milliseconds, and how wrong that may be.
    pub(super) fn offset_to_parent(&self) -> Option<(f64, f64)> {
        let known = lock(&self.known);
        let uplinks = known.peers.iter().rev().filter(|(_, kin)| kin.peer == Peer::Uplink);
        // The newest that is known, for while we move there is an old one too.
        let parent = uplinks.into_iter().find_map(|(id, _)| {
            known.clocks.get(&Asked::Own)?.get(id)?.clock.at(self.micros(Instant::now()))
        })?;
        let offset = -parent.since(clock::unix_us());
        Some((offset as f64 / 1e3, parent.error_us as f64 / 1e3))
    }

    /// A clock as the one shows it now who knows it best.
    pub(super) fn best(&self, asked: &Asked, now: Instant) -> Option<RemoteClock> {
        let known = lock(&self.known);
        known.best(asked, self.micros(now), None).map(|(clock, _)| clock.clone())
    }

    /// A clock as this session's peer shows it.
    pub(super) fn of_session(&self, id: SessionId, asked: &Asked) -> Option<RemoteClock> {
        lock(&self.known).watched(id, asked).map(|watched| watched.clock.clone())
    }

    /// The name of the relay that this session leads to, if it is one of ours.
    pub(super) fn relay(&self, id: SessionId) -> Option<String> {
        let known = lock(&self.known);
        known.peers.get(&id).filter(|kin| kin.peer != Peer::Client)?.node.clone()
    }

    /// Microseconds of our own time that never jumps.
    pub(super) fn micros(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.start).as_micros() as u64
    }

    /// Takes note of which clocks are of interest and says whom to ask now.
    fn due(&self, wanted: HashSet<(SessionId, Asked)>, now: Instant) -> Vec<(SessionId, Asked)> {
        let mut known = lock(&self.known);
        let mut due = Vec::new();
        for (id, asked) in wanted {
            if !known.peers.contains_key(&id) {
                continue;
            }
            let sessions = known.clocks.entry(asked.clone()).or_default();
            let watched = sessions.entry(id).or_insert_with(|| Watched::new(now));
            watched.wanted = now;
            if watched.next.is_some_and(|next| next <= now) {
                watched.next = None;
                due.push((id, asked));
            }
        }
        known.clocks.retain(|_, sessions| {
            sessions.retain(|_, held| now.saturating_duration_since(held.wanted) < FORGET);
            !sessions.is_empty()
        });
        due
    }

    /// Whether this is the first time that this is asked, so that it is worth asking often.
    fn is_new(&self, id: SessionId, asked: &Asked) -> bool {
        let now = self.micros(Instant::now());
        lock(&self.known).watched(id, asked).is_some_and(|held| held.clock.at(now).is_none())
    }

    fn handle_answer(&self, id: SessionId, asked: &Asked, answer: stats::clock::Answer) {
        if let Some(watched) = lock(&self.known).watched(id, asked) {
            watched.clock.handle_answer(answer);
            watched.refusals = 0;
        }
    }

    /// A question, or several, came to their end.
    fn handle_end(&self, id: SessionId, asked: &Asked, answered: bool) {
        let now = Instant::now();
        if let Some(watched) = lock(&self.known).watched(id, asked) {
            let wait = match answered {
                true => EVERY,
                false => RETRY.saturating_mul(1 << watched.refusals.min(8)).min(EVERY),
            };
            watched.refusals += u32::from(!answered);
            watched.next = Some(now + wait);
        }
    }
}

impl Known {
    fn watched(&mut self, id: SessionId, asked: &Asked) -> Option<&mut Watched> {
        self.clocks.get_mut(asked)?.get_mut(&id)
    }

    /// The clock as the one who knows it best shows it, and what it shows at a moment of our own.
    fn best(
        &self,
        asked: &Asked,
        own_us: u64,
        but: Option<SessionId>,
    ) -> Option<(&RemoteClock, Reading)> {
        let sessions = self.clocks.get(asked)?.iter().filter(|(id, _)| Some(**id) != but);
        let clocks = sessions.map(|(_, watched)| &watched.clock);
        let readings = clocks.filter_map(|clock| Some((clock, clock.at(own_us)?)));
        readings.min_by_key(|(_, reading)| reading.error_us)
    }
}

/// Runs for as long as the node does.
pub(super) async fn run(node: Arc<Node>) {
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        for (id, asked) in node.clocks.due(node.clocks_wanted(), Instant::now()) {
            let node = Arc::clone(&node);
            tokio::spawn(async move { node.ask_clock(id, &asked).await });
        }
    }
}

impl Node {
    /// Whose clocks are of interest, and where they are to be asked for: those of our parents, of
    /// the relays that we have something from, and those that broadcasts are captured by.
    fn clocks_wanted(&self) -> HashSet<(SessionId, Asked)> {
        let mut wanted = HashSet::new();
        let mut last = None;
        for (_, name, source) in lock(&self.router).live_sources() {
            let namespace = name.namespace();
            // Tracks of one broadcast follow each other, most often from one source.
            if is_reserved(namespace) || last.as_ref() == Some(&(namespace.clone(), source)) {
                continue;
            }
            last = Some((namespace.clone(), source));
            wanted.insert((source, Asked::Broadcast(namespace.clone())));
            if wanted.len() >= MAX_BROADCASTS {
                break;
            }
        }
        let sources: HashSet<_> = wanted.iter().map(|(source, _)| *source).collect();
        let known = lock(&self.clocks.known);
        let relays = known.peers.iter().filter(|(id, kin)| match kin.peer {
            Peer::Uplink => true,
            Peer::Node => sources.contains(id),
            Peer::Client => false,
        });
        wanted.extend(relays.map(|(id, _)| (*id, Asked::Own)));
        wanted
    }

    async fn ask_clock(&self, id: SessionId, asked: &Asked) {
        let count = if self.clocks.is_new(id, asked) { BURST } else { 1 };
        let mut answered = false;
        for _ in 0..count {
            answered = self.ask_clock_once(id, asked).await.is_some();
            if !answered {
                break;
            }
        }
        self.clocks.handle_end(id, asked, answered);
    }

    async fn ask_clock_once(&self, id: SessionId, asked: &Asked) -> Option<()> {
        let status = TrackStatus { track: asked.track()?, parameters: Parameters::default() };
        let (heard, mut hears) = mpsc::unbounded_channel();
        let ask = Ask { request: Request::TrackStatus(status), heard };
        let asked_at = Instant::now();
        lock(&self.mailboxes).get(&id)?.send(Mail::Ask(Box::new(ask))).ok()?;
        let answer = tokio::time::timeout(PATIENCE, hears.recv()).await.ok()??;
        let heard_at = Instant::now();
        let AskedStream::Accepted(response) = answer else { return None };
        let Response::Ok(ok) = *response else { return None };
        let said = ok.parameters.largest_object?;
        let answer = stats::clock::Answer {
            asked_us: self.clocks.micros(asked_at),
            heard_us: self.clocks.micros(heard_at),
            unix_us: said.group,
            error_us: said.object,
        };
        self.clocks.handle_answer(id, asked, answer);
        Some(())
    }
}

/// Whether a namespace is for relays among themselves.
pub(super) fn is_reserved(namespace: &moqt::Namespace) -> bool {
    namespace.fields().first().is_some_and(|first| &first[..] == b"weir")
}
