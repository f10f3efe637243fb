//! A connection in virtual time: streams and datagrams, with delay, loss, a rate and a full send
//! buffer, as QUIC has them.
//!
//! Order is kept within a stream and nowhere else: what is lost arrives later, and only its own
//! stream waits for it. Resets overtake what was sent before them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use moqt::{ResetCode, SessionCode};

use crate::rng::Rng;

/// Most bytes of a stream in one packet.
const PACKET: usize = 1200;
/// Room that headers and acknowledgements take, bytes.
const OVERHEAD: usize = 60;

/// One of the two ends: 0 dialled, 1 was dialled.
pub(crate) type Side = usize;

/// What a stream is for, which decides how urgent it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Class {
    Control,
    Request,
    Data,
}

/// A stream's name, the same at both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StreamNo {
    pub(crate) class: Class,
    pub(crate) opener: Side,
    number: u64,
}

impl std::fmt::Display for StreamNo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let class = match self.class {
            Class::Control => "control",
            Class::Request => "request",
            Class::Data => "data",
        };
        write!(f, "{class}#{}.{}", self.opener, self.number)
    }
}

/// What reaches an end.
#[derive(Clone, Debug)]
pub(crate) enum Arrival {
    Bytes {
        stream: StreamNo,
        bytes: Bytes,
        fin: bool,
    },
    Reset {
        stream: StreamNo,
        code: ResetCode,
    },
    Stop {
        stream: StreamNo,
        code: ResetCode,
    },
    /// The peer has all of a data stream.
    Delivered {
        stream: StreamNo,
    },
    Datagram(Bytes),
    Closed {
        code: Option<SessionCode>,
    },
}

/// What a path is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path {
    pub(crate) delay: Duration,
    pub(crate) jitter: Duration,
    /// Of a thousand packets.
    pub(crate) loss: u64,
    /// Bytes a second.
    pub(crate) rate: u64,
    /// Bytes of data streams that may wait to be sent.
    pub(crate) buffer: usize,
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} ms ± {} ms, {} ‰ lost, {} kB/s, {} kB buffer",
            self.delay.as_millis(),
            self.jitter.as_millis(),
            self.loss,
            self.rate / 1000,
            self.buffer / 1000
        )
    }
}

#[derive(Debug)]
struct Sending {
    priority: i32,
    queue: VecDeque<Bytes>,
    fin: bool,
    stopped: bool,
    /// When the last byte sent so far arrives.
    last_arrival: Instant,
}

impl Sending {
    /// As many bytes as fit in a packet.
    fn next_packet(&mut self) -> Bytes {
        let mut packet = BytesMut::new();
        while packet.len() < PACKET
            && let Some(mut chunk) = self.queue.pop_front()
        {
            let room = PACKET - packet.len();
            if chunk.len() > room {
                self.queue.push_front(chunk.split_off(room));
            }
            if packet.is_empty() && (chunk.len() == PACKET || self.queue.is_empty()) {
                return chunk;
            }
            packet.extend_from_slice(&chunk);
        }
        packet.freeze()
    }
}

#[derive(Debug)]
struct Direction {
    streams: BTreeMap<StreamNo, Sending>,
    arrivals: BTreeMap<(Instant, u64), Arrival>,
    /// Streams whose end has arrived.
    ended: BTreeSet<StreamNo>,
    busy_until: Instant,
    unsent: usize,
    /// The receiver reads no data streams.
    paused: bool,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Link {
    path: Path,
    rng: Rng,
    now: Instant,
    directions: [Direction; 2],
    next_stream: u64,
    next_arrival: u64,
    /// Ends that know that it is over.
    over: [bool; 2],
    /// Ends whose send buffer has emptied since they last heard of it.
    drained: [bool; 2],
}

impl Link {
    pub(crate) fn new(path: Path, rng: Rng, now: Instant) -> Self {
        let direction = || Direction {
            streams: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            ended: BTreeSet::new(),
            busy_until: now,
            unsent: 0,
            paused: false,
        };
        Self {
            path,
            rng,
            now,
            directions: [direction(), direction()],
            next_stream: 0,
            next_arrival: 0,
            over: [false; 2],
            drained: [false; 2],
        }
    }

    /// The clock of all that is done next.
    pub(crate) fn set_now(&mut self, now: Instant) {
        self.now = now;
    }

    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    /// Whether this end may write more than when it last asked.
    pub(crate) fn take_drained(&mut self, side: Side) -> bool {
        std::mem::take(&mut self.drained[side])
    }

    /// Whether neither end has to do with it any more.
    pub(crate) fn is_over(&self) -> bool {
        self.over == [true; 2]
    }

    /// Data streams that are open from this end.
    pub(crate) fn open_data_streams(&self, side: Side) -> usize {
        let data = |no: &&StreamNo| no.class == Class::Data;
        self.directions[side].streams.keys().filter(data).count()
    }

    pub(crate) fn open(&mut self, side: Side, class: Class, priority: i32) -> StreamNo {
        let stream = StreamNo { class, opener: side, number: self.next_stream };
        self.next_stream += 1;
        self.ensure(side, stream, priority);
        stream
    }

    fn ensure(&mut self, side: Side, stream: StreamNo, priority: i32) {
        let last_arrival = self.now;
        self.directions[side].streams.entry(stream).or_insert(Sending {
            priority,
            queue: VecDeque::new(),
            fin: false,
            stopped: false,
            last_arrival,
        });
    }

    /// Writes what there is room for and says how much; `None`: the peer stopped the stream.
    pub(crate) fn write(
        &mut self,
        side: Side,
        stream: StreamNo,
        chunks: &[Bytes],
    ) -> Option<usize> {
        let room = match stream.class {
            Class::Data => {
                let room = self.path.buffer.saturating_sub(self.directions[side].unsent);
                // Crumbs are not worth a packet.
                if room < PACKET { 0 } else { room }
            }
            Class::Control | Class::Request => usize::MAX,
        };
        let direction = &mut self.directions[side];
        let sending = direction.streams.get_mut(&stream)?;
        if sending.stopped {
            return None;
        }
        let mut taken = 0;
        for chunk in chunks {
            let part = chunk.slice(..chunk.len().min(room - taken));
            taken += part.len();
            if !part.is_empty() {
                sending.queue.push_back(part);
            }
        }
        if stream.class == Class::Data {
            direction.unsent += taken;
        }
        self.transmit(side);
        Some(taken)
    }

    /// Answers on a stream that the peer opened.
    pub(crate) fn answer(&mut self, side: Side, stream: StreamNo, bytes: Bytes) {
        self.ensure(side, stream, 0);
        self.write(side, stream, &[bytes]);
    }

    pub(crate) fn finish(&mut self, side: Side, stream: StreamNo) {
        self.ensure(side, stream, 0);
        if let Some(sending) = self.directions[side].streams.get_mut(&stream) {
            sending.fin = true;
        }
        self.transmit(side);
    }

    pub(crate) fn reset(&mut self, side: Side, stream: StreamNo, code: ResetCode) {
        self.ensure(side, stream, 0);
        let direction = &mut self.directions[side];
        if let Some(sending) = direction.streams.remove(&stream)
            && stream.class == Class::Data
        {
            direction.unsent -= sending.queue.iter().map(Bytes::len).sum::<usize>();
        }
        self.deliver(side, Arrival::Reset { stream, code });
    }

    pub(crate) fn stop(&mut self, side: Side, stream: StreamNo, code: ResetCode) {
        self.deliver(side, Arrival::Stop { stream, code });
    }

    pub(crate) fn datagram(&mut self, side: Side, bytes: Bytes) {
        if !self.rng.per_mille(self.path.loss) {
            self.deliver(side, Arrival::Datagram(bytes));
        }
    }

    /// Ends the connection; what is still on its way to the peer when the news arrives is lost.
    /// `after`: when the peer hears of it, which after a crash is long.
    pub(crate) fn close(&mut self, side: Side, code: Option<SessionCode>, after: Option<Duration>) {
        if std::mem::replace(&mut self.over[side], true) {
            return;
        }
        self.directions[side].streams.clear();
        self.directions[side].unsent = 0;
        self.directions[1 - side].arrivals.clear();
        if self.over[1 - side] {
            return;
        }
        let closed = Arrival::Closed { code };
        match after {
            None => self.deliver(side, closed),
            Some(after) => self.deliver_at(side, self.now + after, closed),
        }
    }

    /// This end stops reading data streams, or goes on.
    pub(crate) fn pause(&mut self, side: Side, paused: bool) {
        self.directions[1 - side].paused = paused;
        self.transmit(1 - side);
    }

    pub(crate) fn set_priority(&mut self, side: Side, stream: StreamNo, priority: i32) {
        if let Some(sending) = self.directions[side].streams.get_mut(&stream) {
            sending.priority = priority;
        }
    }

    pub(crate) fn set_path(&mut self, path: Path) {
        self.path = path;
    }

    /// When [`Link::poll`] has something next.
    pub(crate) fn next_time(&self) -> Option<Instant> {
        let times = self.directions.iter().flat_map(|direction| {
            let arrival = direction.arrivals.first_key_value().map(|((at, _), _)| *at);
            let sends = direction.next_stream().is_some().then_some(direction.busy_until);
            [arrival, sends]
        });
        times.flatten().min()
    }

    /// Moves on to `now`; the next thing that has arrived by then, and where.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<(Side, Arrival)> {
        self.now = now;
        for side in 0..2 {
            self.transmit(side);
        }
        for side in 0..2 {
            while let Some(entry) = self.directions[side].arrivals.first_entry() {
                if entry.key().0 > now {
                    break;
                }
                let arrival = entry.remove();
                if self.accepts(side, &arrival) {
                    return Some((1 - side, arrival));
                }
            }
        }
        None
    }

    /// Whether the receiver still has to do with what arrives from `side`.
    fn accepts(&mut self, side: Side, arrival: &Arrival) -> bool {
        if self.over[1 - side] {
            return false;
        }
        let ended = &mut self.directions[side].ended;
        match arrival {
            Arrival::Bytes { stream, fin, .. } => {
                let first = !ended.contains(stream);
                if *fin {
                    ended.insert(*stream);
                    if stream.class == Class::Data {
                        self.deliver(1 - side, Arrival::Delivered { stream: *stream });
                    }
                }
                first
            }
            Arrival::Reset { stream, .. } => ended.insert(*stream),
            Arrival::Stop { stream, .. } => {
                match self.directions[1 - side].streams.get_mut(stream) {
                    Some(sending) => {
                        sending.stopped = true;
                        true
                    }
                    None => false,
                }
            }
            Arrival::Datagram(_) | Arrival::Delivered { .. } => true,
            Arrival::Closed { .. } => {
                self.over[1 - side] = true;
                self.directions[1 - side].streams.clear();
                self.directions[1 - side].unsent = 0;
                self.directions[side].arrivals.clear();
                true
            }
        }
    }

    fn flight(&mut self) -> Duration {
        let jitter = self.rng.below(self.path.jitter.as_micros() as u64 + 1);
        let mut flight = self.path.delay + Duration::from_micros(jitter);
        while self.rng.per_mille(self.path.loss) {
            // Noticed and sent again.
            flight += self.path.delay * 2 + self.path.delay / 2 + Duration::from_millis(5);
        }
        flight
    }

    fn deliver(&mut self, from: Side, arrival: Arrival) {
        let at = self.now + self.flight();
        self.deliver_at(from, at, arrival);
    }

    fn deliver_at(&mut self, from: Side, at: Instant, arrival: Arrival) {
        self.directions[from].arrivals.insert((at, self.next_arrival), arrival);
        self.next_arrival += 1;
    }

    /// Sends packets for as long as the line is free.
    fn transmit(&mut self, side: Side) {
        while self.directions[side].busy_until <= self.now {
            let Some(stream) = self.directions[side].next_stream() else { return };
            let flight = self.flight();
            let (now, rate) = (self.now, self.path.rate);
            let direction = &mut self.directions[side];
            let Some(sending) = direction.streams.get_mut(&stream) else { return };
            let bytes = sending.next_packet();
            let fin = sending.fin && sending.queue.is_empty();
            let length = (bytes.len() + OVERHEAD) as u64;
            let took = Duration::from_nanos(length * 1_000_000_000 / rate);
            let at = sending.last_arrival.max(now + took + flight);
            sending.last_arrival = at;
            direction.busy_until = direction.busy_until.max(now) + took;
            if stream.class == Class::Data {
                direction.unsent -= bytes.len();
                self.drained[side] = true;
            }
            if fin {
                direction.streams.remove(&stream);
                self.drained[side] = true;
            }
            self.deliver_at(side, at, Arrival::Bytes { stream, bytes, fin });
        }
    }
}

impl Direction {
    /// The stream whose bytes go next.
    fn next_stream(&self) -> Option<StreamNo> {
        self.streams
            .iter()
            .filter(|(no, sending)| {
                let readable = no.class != Class::Data || !self.paused;
                readable && (!sending.queue.is_empty() || sending.fin)
            })
            .min_by_key(|(no, sending)| (no.class, std::cmp::Reverse(sending.priority), **no))
            .map(|(no, _)| *no)
    }
}
