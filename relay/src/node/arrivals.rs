//! How long objects take from one relay to the next.
//!
//! Beside its reports every relay publishes the track `arrivals` of `weir/nodes/NODE` for the
//! relays that have something from it: once a second, when each object came whose ID is a multiple
//! of 16. Who gets the same objects from it a little later compares, by one clock: what it knows of
//! the other's.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use moqt::{FullTrackName, IntCoding, Location, RequestId};
use relay_core::{Peer, RouteAction, SessionId, TrackId};
use stats::clock::RemoteClock;
use tokio::sync::mpsc;
use transport::CANONICAL;
use transport::clock::{Asked, unix_us};

use super::clock::is_reserved;
use super::seen::Distribution;
use super::{Mail, Node, SELF, SharedTrack, lock, report_namespace};

/// The name of the track.
pub(super) const TRACK: &str = "arrivals";
/// We as the one who subscribes to such tracks, among the sessions.
const READER: SessionId = SessionId(u64::MAX);
const INTERVAL: Duration = Duration::from_secs(1);
/// Objects told of at once, at most.
const MAX_TOLD: usize = 2048;
/// Objects that were told of and did not come here yet, at most.
const MAX_EXPECTED: usize = 4096;
/// How long they may take.
const EXPECTED: Duration = Duration::from_secs(10);
/// Relays whose arrivals are read, at most.
const MAX_RELAYS: usize = 32;
/// How the bytes are to be read; who knows them not leaves them.
const FORM: u64 = 1;
const CODING: IntCoding = CANONICAL.int_coding();

/// Upper bounds of the latencies that are counted together, in seconds: from one room to halfway
/// around the world, and then what no cable explains.
const HOP_BOUNDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0];

/// What of this lasts.
pub(super) struct Arrivals {
    /// Our own track, while somebody subscribes to it, and the arrivals that it has.
    telling: Mutex<Option<Telling>>,
    hops: Mutex<Distribution>,
}

impl Default for Arrivals {
    fn default() -> Self {
        Self { telling: Mutex::default(), hops: Mutex::new(Distribution::new(HOP_BOUNDS)) }
    }
}

struct Telling {
    track: TrackId,
    until: Instant,
    group: u64,
}

/// One object that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Arrival {
    /// Of the track's name.
    track: u64,
    at: Location,
    /// By the clock of the one where it came.
    unix_us: u64,
}

/// Runs for as long as the node does.
pub(super) async fn run(node: Arc<Node>) {
    let (_, mut mail) = node.open_mailbox(READER);
    node.route(|router, now| router.handle_session(READER, Peer::Node, now));
    let mut reader = Reader { node, next: 0, relays: HashMap::new() };
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        reader.handle_mail(&mut mail);
        reader.node.tell_arrivals();
        reader.follow();
        reader.read();
    }
}

impl Node {
    /// Somebody subscribes to our track.
    pub(super) fn begin_arrivals(&self, track: TrackId) {
        if let Some(shared) = self.track(track) {
            shared.begin_own(1);
        }
        let telling = Telling { track, until: Instant::now(), group: unix_us() / 1000 };
        *lock(&self.arrivals.telling) = Some(telling);
        self.route(|router, _| router.handle_upstream_ok(SELF, track));
    }

    /// Nobody does any more.
    pub(super) fn end_arrivals(&self, track: TrackId) {
        lock(&self.arrivals.telling).take_if(|telling| telling.track == track);
    }

    /// How long all objects took that were compared.
    pub(crate) fn hop_latency(&self) -> Distribution {
        lock(&self.arrivals.hops).clone()
    }

    /// Writes what came since the last time.
    fn tell_arrivals(&self) {
        let (track, since, group) = match lock(&self.arrivals.telling).as_mut() {
            Some(telling) => {
                telling.group += 1;
                let since = std::mem::replace(&mut telling.until, Instant::now());
                (telling.track, since, telling.group)
            }
            None => return,
        };
        let Some(track) = self.track(track) else { return };
        let (now, now_us) = (Instant::now(), unix_us());
        let mut arrivals = Vec::new();
        for shared in self.all_tracks() {
            if is_reserved(shared.name.namespace()) {
                continue;
            }
            let name = hash(&shared.name);
            let state = shared.read();
            let fresh = state.milestones().rev().take_while(|passed| passed.arrived > since);
            arrivals.extend(fresh.map(|passed| {
                let ago = now.saturating_duration_since(passed.arrived).as_micros() as u64;
                Arrival { track: name, at: passed.at, unix_us: now_us.saturating_sub(ago) }
            }));
            if arrivals.len() >= MAX_TOLD {
                arrivals.truncate(MAX_TOLD);
                break;
            }
        }
        if !arrivals.is_empty() {
            track.write_own(group, encode(&arrivals, now_us));
        }
    }
}

/// Reads what other relays tell.
struct Reader {
    node: Arc<Node>,
    next: RequestId,
    /// By name.
    relays: HashMap<String, Followed>,
}

/// A relay that we have something from.
struct Followed {
    /// The session that leads to it.
    session: SessionId,
    request: RequestId,
    track: Option<Arc<SharedTrack>>,
    /// The group that was read last.
    read: Option<u64>,
    /// What came there, and when we heard of it.
    expected: VecDeque<(Arrival, Instant)>,
    wanted: Instant,
}

impl Reader {
    fn handle_mail(&mut self, mail: &mut mpsc::UnboundedReceiver<Mail>) {
        while let Ok(mail) = mail.try_recv() {
            let Mail::Route(action) = mail else { continue };
            match action {
                RouteAction::Accept(_, request, track) => {
                    let track = self.node.track(track);
                    if let Some(relay) = self.relays.values_mut().find(|it| it.request == request) {
                        relay.track = track;
                    }
                }
                RouteAction::Reject(_, request, _) | RouteAction::End(_, request, ..) => {
                    self.relays.retain(|_, relay| relay.request != request);
                }
                _ => {}
            }
        }
    }

    /// Subscribes at the relays that we have something from, and not at those any more that gave
    /// us nothing for a while.
    fn follow(&mut self) {
        let now = Instant::now();
        for (session, name) in self.node.relays_before_us() {
            if let Some(relay) = self.relays.get_mut(&name) {
                (relay.session, relay.wanted) = (session, now);
            } else if self.relays.len() < MAX_RELAYS {
                let Ok(namespace) = report_namespace(&name) else { continue };
                let Ok(track) = FullTrackName::new(namespace, TRACK) else { continue };
                let request = self.next;
                self.next += 1;
                let relay = Followed {
                    session,
                    request,
                    track: None,
                    read: None,
                    expected: VecDeque::new(),
                    wanted: now,
                };
                self.relays.insert(name, relay);
                self.node.route(|router, now| {
                    router.handle_subscribe(READER, request, &track, INTERVAL, None, now);
                });
            }
        }
        let node = &self.node;
        self.relays.retain(|_, relay| {
            let wanted = now.saturating_duration_since(relay.wanted) < EXPECTED;
            if !wanted {
                node.route(|router, _| router.handle_cancelled(READER, relay.request));
            }
            wanted
        });
    }

    /// Takes in what is told and compares it with what came here.
    fn read(&mut self) {
        let now = Instant::now();
        let tracks: HashMap<u64, Arc<SharedTrack>> = self
            .node
            .all_tracks()
            .into_iter()
            .filter(|track| !is_reserved(track.name.namespace()))
            .map(|track| (hash(&track.name), track))
            .collect();
        for relay in self.relays.values_mut() {
            relay.listen(now);
            if let Some(clock) = self.node.clocks.of_session(relay.session, &Asked::Own) {
                relay.compare(&self.node, &tracks, &clock, now);
            }
        }
    }
}

impl Followed {
    fn listen(&mut self, now: Instant) {
        let Some(track) = &self.track else { return };
        let newest = track.read().newest_payload(self.read);
        let Some((group, payload)) = newest else { return };
        self.read = Some(group);
        match decode(payload.into()) {
            Some(arrivals) => self.expected.extend(arrivals.into_iter().map(|it| (it, now))),
            None => tracing::debug!(name = %track.name, "no arrivals"),
        }
        let surplus = self.expected.len().saturating_sub(MAX_EXPECTED);
        self.expected.drain(..surplus);
    }

    fn compare(
        &mut self,
        node: &Node,
        tracks: &HashMap<u64, Arc<SharedTrack>>,
        clock: &RemoteClock,
        now: Instant,
    ) {
        self.expected.retain(|(there, heard)| {
            let Some(track) = tracks.get(&there.track) else {
                return now.saturating_duration_since(*heard) < EXPECTED;
            };
            let here = track.read().milestones().rev().find(|here| here.at == there.at).copied();
            let Some(here) = here else {
                return now.saturating_duration_since(*heard) < EXPECTED;
            };
            if let Some(arrived) = clock.at(node.clocks.micros(here.arrived)) {
                let error_us = i64::try_from(arrived.error_us).unwrap_or(i64::MAX);
                let us = arrived.since(there.unix_us);
                // It was here before it was there: it came another way.
                if us >= -error_us {
                    let us = u64::try_from(us).unwrap_or(0);
                    lock(&track.figures).hop(here.arrived, us);
                    lock(&node.arrivals.hops).record(us as f64 / 1e6);
                }
            }
            false
        });
    }
}

impl Node {
    /// Relays that we have something from, by name, and the sessions that lead to them.
    fn relays_before_us(&self) -> HashSet<(SessionId, String)> {
        let sources: HashSet<SessionId> = {
            let router = lock(&self.router);
            let sources =
                router.live_sources().filter(|(_, name, _)| !is_reserved(name.namespace()));
            sources.map(|(.., source)| source).collect()
        };
        let named = sources.into_iter().filter_map(|id| Some((id, self.clocks.relay(id)?)));
        named.filter(|(_, name)| *name != self.config.node).collect()
    }
}

/// Stands for a track's name. Should two have the same, their figures are wrong and nothing else.
fn hash(name: &FullTrackName) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut take = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    for field in name.namespace().fields().iter().chain([name.name()]) {
        (field.len() as u16).to_be_bytes().into_iter().for_each(&mut take);
        field.iter().copied().for_each(&mut take);
    }
    hash
}

/// Writes arrivals down: the form, the time now, and of each object its track, group, ID, and how
/// many microseconds ago it came.
fn encode(arrivals: &[Arrival], now_us: u64) -> Bytes {
    let mut bytes = BytesMut::new();
    CODING.write(&mut bytes, FORM);
    CODING.write(&mut bytes, now_us);
    for of_track in arrivals.chunk_by(|one, next| one.track == next.track) {
        bytes.extend_from_slice(&of_track[0].track.to_be_bytes());
        CODING.write(&mut bytes, of_track.len() as u64);
        for arrival in of_track {
            CODING.write(&mut bytes, arrival.at.group);
            CODING.write(&mut bytes, arrival.at.object);
            CODING.write(&mut bytes, now_us.saturating_sub(arrival.unix_us));
        }
    }
    bytes.freeze()
}

/// Reads them; `None` for what is not written like that.
fn decode(mut bytes: Bytes) -> Option<Vec<Arrival>> {
    let int = |bytes: &mut Bytes| {
        let (value, length) = CODING.read(bytes)?;
        bytes.advance(length);
        Some(value)
    };
    if int(&mut bytes)? != FORM {
        return None;
    }
    let now_us = int(&mut bytes)?;
    let mut arrivals = Vec::new();
    while !bytes.is_empty() {
        let track = bytes.try_get_u64().ok()?;
        for _ in 0..int(&mut bytes)? {
            let at = Location { group: int(&mut bytes)?, object: int(&mut bytes)? };
            let unix_us = now_us.checked_sub(int(&mut bytes)?)?;
            arrivals.push(Arrival { track, at, unix_us });
            if arrivals.len() > MAX_TOLD {
                return None;
            }
        }
    }
    Some(arrivals)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000_000_000;

    fn name(namespace: &str, track: &'static str) -> FullTrackName {
        FullTrackName::new(moqt::Namespace::from_path(namespace).unwrap(), track).unwrap()
    }

    #[test]
    fn arrivals_are_read_as_they_were_written() {
        let tracks = [hash(&name("live/a", "video")), hash(&name("live/a", "audio"))];
        let arrivals: Vec<_> = (0..40)
            .map(|n| Arrival {
                track: tracks[usize::from(n >= 30)],
                at: Location { group: 1_700_000_000_000 + n, object: n * 16 },
                unix_us: NOW - n * 31,
            })
            .collect();
        assert_eq!(decode(encode(&arrivals, NOW)), Some(arrivals));
        assert_eq!(decode(encode(&[], NOW)), Some(vec![]));
    }

    #[test]
    fn names_that_read_alike_are_told_apart() {
        let names = [name("a/b", "c"), name("a", "b/c"), name("a/bc", ""), name("ab", "c")];
        let hashes: HashSet<u64> = names.iter().map(hash).collect();
        assert_eq!(hashes.len(), names.len());
    }

    #[test]
    fn nonsense_is_not_read_and_takes_no_memory() {
        let whole = encode(
            &[Arrival { track: 1, at: Location { group: 2, object: 3 }, unix_us: NOW }],
            NOW,
        );
        for cut in 0..whole.len() - 1 {
            let cut = decode(whole.slice(..cut));
            assert!(cut.is_none_or(|arrivals| arrivals.is_empty()));
        }
        let mut endless = BytesMut::new();
        CODING.write(&mut endless, FORM);
        CODING.write(&mut endless, NOW);
        endless.extend_from_slice(&[0; 8]);
        CODING.write(&mut endless, u64::MAX);
        assert_eq!(decode(endless.clone().freeze()), None);
        endless.resize(endless.len() + 1_000_000, 0);
        assert_eq!(decode(endless.freeze()), None);
        let mut other = BytesMut::new();
        CODING.write(&mut other, FORM + 1);
        assert_eq!(decode(other.freeze()), None);
    }
}
