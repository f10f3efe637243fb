//! One direction of a path: loss, a bottleneck with a bounded queue, delay and jitter.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BinaryHeap, VecDeque},
    time::{Duration, Instant},
};

use crate::{config::LinkConfig, rng::Rng};

/// The most bytes that may be under way behind the bottleneck: only a link without a rate can reach
/// it, and must not grow without limit either.
const FLIGHT_LIMIT: usize = 64 << 20;

/// One direction of an emulated path carrying packets of any type `T`.
///
/// Drain it after every input and at every timeout: call [`Link::poll_packet`] until it gives `None`,
/// then wait until [`Link::poll_timeout`]. `now` must not go backwards.
#[derive(Debug)]
pub struct Link<T> {
    config: LinkConfig,
    rng: Rng,
    /// Behind the bottleneck's first packet, which is in `sending`.
    waiting: VecDeque<Packet<T>>,
    waiting_bytes: usize,
    sending: Option<Sending<T>>,
    flying: BinaryHeap<Reverse<Flight<T>>>,
    flying_bytes: usize,
    /// The latest arrival so far, which a link that keeps order doesn't undercut.
    last_due: Option<Instant>,
    flights: u64,
    counters: Counters,
}

/// What became of a packet that was put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Fate {
    /// It is on its way.
    Accepted,
    /// It was lost at random.
    Lost,
    /// It found the queue full.
    QueueFull,
}

/// What a link has done since it was made. Packets and bytes are counted in step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets put in.
    pub packets_in: u64,
    /// Bytes put in.
    pub bytes_in: u64,
    /// Packets that arrived.
    pub packets_out: u64,
    /// Bytes that arrived.
    pub bytes_out: u64,
    /// Packets lost at random.
    pub packets_lost: u64,
    /// Bytes lost at random.
    pub bytes_lost: u64,
    /// Packets dropped because the queue was full.
    pub packets_queue_full: u64,
    /// Bytes dropped because the queue was full.
    pub bytes_queue_full: u64,
}

#[derive(Debug)]
struct Packet<T> {
    size: usize,
    content: T,
}

/// The packet that occupies the bottleneck.
#[derive(Debug)]
struct Sending<T> {
    packet: Packet<T>,
    done: Instant,
}

/// A packet between the bottleneck and the far end.
#[derive(Debug)]
struct Flight<T> {
    due: Instant,
    /// Keeps packets with the same due time in order.
    sequence: u64,
    packet: Packet<T>,
}

impl<T> Link<T> {
    /// An idle link.
    #[must_use]
    pub fn new(config: LinkConfig, seed: u64) -> Self {
        Self {
            config,
            rng: Rng::new(seed),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            sending: None,
            flying: BinaryHeap::new(),
            flying_bytes: 0,
            last_due: None,
            flights: 0,
            counters: Counters::default(),
        }
    }

    /// Puts a packet of `size` bytes in.
    pub fn handle_packet(&mut self, now: Instant, size: usize, content: T) -> Fate {
        self.advance(now);
        self.counters.packets_in += 1;
        self.counters.bytes_in += size as u64;
        if self.config.loss.happens(self.rng.next_u64()) {
            self.counters.packets_lost += 1;
            self.counters.bytes_lost += size as u64;
            return Fate::Lost;
        }
        let queue_full =
            self.sending.is_some() && self.waiting_bytes.saturating_add(size) > self.config.queue;
        if queue_full || self.flying_bytes.saturating_add(size) > FLIGHT_LIMIT {
            self.counters.packets_queue_full += 1;
            self.counters.bytes_queue_full += size as u64;
            return Fate::QueueFull;
        }
        let packet = Packet { size, content };
        if self.sending.is_some() {
            self.waiting_bytes += size;
            self.waiting.push_back(packet);
        } else {
            self.send(packet, now);
            self.advance(now);
        }
        Fate::Accepted
    }

    /// The next packet that has arrived by `now`.
    pub fn poll_packet(&mut self, now: Instant) -> Option<T> {
        self.advance(now);
        self.flying.peek().filter(|Reverse(next)| next.due <= now)?;
        let Reverse(Flight { packet, .. }) = self.flying.pop()?;
        self.flying_bytes -= packet.size;
        self.counters.packets_out += 1;
        self.counters.bytes_out += packet.size as u64;
        Some(packet.content)
    }

    /// When [`Link::poll_packet`] may next have something, if nothing more is put in.
    ///
    /// A packet may be due later than this: then there is another timeout.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let arrival = self.flying.peek().map(|Reverse(next)| next.due);
        let sent = self.sending.as_ref().map(|sending| sending.done);
        [arrival, sent].into_iter().flatten().min()
    }

    /// Changes the link's properties from `now` on.
    ///
    /// What waits goes on at the new rate, the packet being sent with the part of it that is left. What
    /// is past the bottleneck keeps its arrival time. A queue that is now too long drains; nothing in
    /// it is dropped.
    pub fn set_config(&mut self, now: Instant, config: LinkConfig) {
        self.advance(now);
        if let Some(sending) = &mut self.sending {
            let size = sending.packet.size;
            let left = sending.done.saturating_duration_since(now);
            let whole_before = transmission(&self.config, size);
            let whole_after = transmission(&config, size);
            sending.done = now + scale(left, whole_after, whole_before);
        }
        self.config = config;
        self.advance(now);
    }

    /// The properties in force.
    #[must_use]
    pub fn config(&self) -> &LinkConfig {
        &self.config
    }

    /// What the link has done so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// How many packets are inside.
    #[must_use]
    pub fn held_packets(&self) -> usize {
        self.waiting.len() + usize::from(self.sending.is_some()) + self.flying.len()
    }

    /// How many bytes wait for the bottleneck, without the packet that it is sending.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Moves packets out of the bottleneck whose transmission has ended by `now`.
    fn advance(&mut self, now: Instant) {
        while let Some(Sending { packet, done }) = self.sending.take_if(|sent| sent.done <= now) {
            self.fly(packet, done);
            if let Some(next) = self.waiting.pop_front() {
                self.waiting_bytes -= next.size;
                self.send(next, done);
            }
        }
    }

    fn send(&mut self, packet: Packet<T>, start: Instant) {
        let done = start + transmission(&self.config, packet.size);
        self.sending = Some(Sending { packet, done });
    }

    fn fly(&mut self, packet: Packet<T>, sent: Instant) {
        let jitter = u64::try_from(self.config.jitter.as_nanos()).unwrap_or(u64::MAX);
        let mut due = sent + self.config.delay + Duration::from_nanos(self.rng.up_to(jitter));
        if !self.config.reorder {
            due = self.last_due.map_or(due, |last| due.max(last));
        }
        self.last_due = self.last_due.max(Some(due));
        self.flying_bytes += packet.size;
        self.flights += 1;
        self.flying.push(Reverse(Flight { due, sequence: self.flights, packet }));
    }
}

/// How long a packet occupies the bottleneck.
fn transmission(config: &LinkConfig, size: usize) -> Duration {
    config.rate.map_or(Duration::ZERO, |rate| rate.time_for(size))
}

/// `part × to ÷ from`, rounded up; zero when `from` is.
fn scale(part: Duration, to: Duration, from: Duration) -> Duration {
    if from.is_zero() {
        return Duration::ZERO;
    }
    let nanos = (part.as_nanos().saturating_mul(to.as_nanos())).div_ceil(from.as_nanos());
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

impl<T> PartialEq for Flight<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Flight<T> {}

impl<T> PartialOrd for Flight<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Flight<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.due, self.sequence).cmp(&(other.due, other.sequence))
    }
}
