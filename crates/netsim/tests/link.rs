//! The link in virtual time: what must hold for any traffic over any link.

use std::time::{Duration, Instant};

use netsim::{Fate, Link, LinkConfig, Probability, Rate};
use proptest::prelude::*;

/// A packet put in so many microseconds after the one before, of so many bytes.
type Offer = (u64, usize);

fn offers() -> impl Strategy<Value = Vec<Offer>> {
    prop::collection::vec((0u64..20_000, 1usize..3_000), 1..200)
}

fn configs() -> impl Strategy<Value = LinkConfig> {
    (
        0.0..=100.0f64,
        0u64..50_000,
        0u64..50_000,
        any::<bool>(),
        prop::option::of(1_000u64..100_000_000),
        0usize..100_000,
    )
        .prop_map(|(loss, delay, jitter, reorder, rate, queue)| LinkConfig {
            loss: Probability::from_percent(loss).unwrap(),
            delay: Duration::from_micros(delay),
            jitter: Duration::from_micros(jitter),
            reorder,
            rate: rate.and_then(Rate::from_bits_per_second),
            queue,
        })
}

/// A packet that came out: which one, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Arrival {
    packet: usize,
    at: Instant,
}

/// A link with a clock of its own and a record of what came out.
struct Bench {
    link: Link<usize>,
    now: Instant,
    arrivals: Vec<Arrival>,
}

impl Bench {
    fn new(config: LinkConfig, seed: u64, start: Instant) -> Self {
        Self { link: Link::new(config, seed), now: start, arrivals: Vec::new() }
    }

    /// Lets time pass, stopping at each of the link's timeouts.
    fn run_until(&mut self, end: Instant) {
        self.drain();
        while let Some(timeout) = self.link.poll_timeout().filter(|timeout| *timeout <= end) {
            self.now = self.now.max(timeout);
            self.drain();
        }
        self.now = end;
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(packet) = self.link.poll_packet(self.now) {
            self.arrivals.push(Arrival { packet, at: self.now });
        }
    }

    fn offer(&mut self, offers: &[Offer]) -> Vec<Fate> {
        let mut fates = Vec::new();
        for (packet, (gap, size)) in offers.iter().enumerate() {
            self.run_until(self.now + Duration::from_micros(*gap));
            fates.push(self.link.handle_packet(self.now, *size, packet));
        }
        fates
    }

    /// Waits until the link is empty.
    fn finish(&mut self) {
        for _ in 0..100_000 {
            match self.link.poll_timeout() {
                Some(timeout) => self.run_until(timeout),
                None => return,
            }
        }
        panic!("the link never got empty");
    }
}

proptest! {
    #[test]
    fn every_packet_is_out_or_dropped_or_held(
        config in configs(), offers in offers(), seed in any::<u64>(),
    ) {
        let mut bench = Bench::new(config, seed, Instant::now());
        let fates = bench.offer(&offers);
        let balance = |link: &Link<usize>| {
            let counters = link.counters();
            let dropped = counters.packets_lost + counters.packets_queue_full;
            counters.packets_in == counters.packets_out + dropped + link.held_packets() as u64
        };
        prop_assert!(balance(&bench.link));
        bench.finish();
        prop_assert!(balance(&bench.link));

        let counters = bench.link.counters();
        prop_assert_eq!(bench.link.held_packets(), 0);
        prop_assert_eq!(bench.link.queued_bytes(), 0);
        prop_assert_eq!(
            counters.bytes_in,
            counters.bytes_out + counters.bytes_lost + counters.bytes_queue_full
        );

        let mut arrived: Vec<usize> = bench.arrivals.iter().map(|arrival| arrival.packet).collect();
        arrived.sort_unstable();
        let accepted: Vec<usize> =
            (0..offers.len()).filter(|packet| fates[*packet] == Fate::Accepted).collect();
        prop_assert_eq!(arrived, accepted, "each accepted packet arrives exactly once");
    }

    #[test]
    fn the_rate_is_never_exceeded(
        rate in 1_000u64..50_000_000, queue in 0usize..100_000, offers in offers(),
    ) {
        let rate = Rate::from_bits_per_second(rate).unwrap();
        let config = LinkConfig { rate: Some(rate), queue, ..LinkConfig::default() };
        let mut bench = Bench::new(config, 0, Instant::now());
        let _ = bench.offer(&offers);
        bench.finish();
        for pair in bench.arrivals.windows(2) {
            let size = offers[pair[1].packet].1;
            prop_assert!(pair[1].at - pair[0].at >= rate.time_for(size));
        }
    }

    #[test]
    fn order_is_kept_unless_reordering_is_asked_for(
        config in configs(), offers in offers(), seed in any::<u64>(),
    ) {
        let config = LinkConfig { reorder: false, ..config };
        let mut bench = Bench::new(config, seed, Instant::now());
        let _ = bench.offer(&offers);
        bench.finish();
        prop_assert!(bench.arrivals.is_sorted_by_key(|arrival| arrival.packet));
    }

    #[test]
    fn a_packet_takes_at_least_delay_and_at_most_queue_and_jitter_more(
        config in configs(), offers in offers(), seed in any::<u64>(),
    ) {
        let start = Instant::now();
        let longest = config.rate.map_or(Duration::ZERO, |rate| {
            // The packet ahead, the full queue and the packet itself, each rounded up once a packet.
            rate.time_for(config.queue + 6_000) + Duration::from_micros(1)
        });
        let mut bench = Bench::new(config.clone(), seed, start);
        let _ = bench.offer(&offers);
        bench.finish();
        let mut sent = Vec::new();
        let mut at = start;
        for (gap, _) in &offers {
            at += Duration::from_micros(*gap);
            sent.push(at);
        }
        for arrival in &bench.arrivals {
            let took = arrival.at - sent[arrival.packet];
            prop_assert!(took >= config.delay);
            prop_assert!(took <= config.delay + config.jitter + longest, "took {took:?}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_run_however_often_it_is_polled(
        config in configs(), offers in offers(), seed in any::<u64>(),
    ) {
        let start = Instant::now();
        let mut lazy = Link::new(config.clone(), seed);
        let mut at = start;
        let mut lazy_fates = Vec::new();
        for (packet, (gap, size)) in offers.iter().enumerate() {
            at += Duration::from_micros(*gap);
            lazy_fates.push(lazy.handle_packet(at, *size, packet));
        }
        let mut eager = Bench::new(config, seed, start);
        prop_assert_eq!(eager.offer(&offers), lazy_fates);
        eager.finish();
        let order: Vec<usize> = eager.arrivals.iter().map(|arrival| arrival.packet).collect();
        let late = eager.now + Duration::from_secs(3600);
        let lazy_order: Vec<usize> = std::iter::from_fn(|| lazy.poll_packet(late)).collect();
        prop_assert_eq!(order, lazy_order);
    }

    #[test]
    fn the_books_balance_through_changes_of_the_link(
        configs in prop::collection::vec((configs(), offers()), 1..6), seed in any::<u64>(),
    ) {
        let mut bench = Bench::new(LinkConfig::default(), seed, Instant::now());
        for (config, offers) in configs {
            bench.link.set_config(bench.now, config);
            let _ = bench.offer(&offers);
        }
        bench.finish();
        let counters = bench.link.counters();
        prop_assert_eq!(
            counters.packets_in,
            counters.packets_out + counters.packets_lost + counters.packets_queue_full
        );
        prop_assert_eq!(counters.packets_out, bench.arrivals.len() as u64);
    }
}

#[test]
fn loss_comes_out_as_often_as_asked_for() {
    let config =
        LinkConfig { loss: Probability::from_percent(5.0).unwrap(), ..LinkConfig::default() };
    let mut link = Link::new(config, 42);
    let now = Instant::now();
    let lost = (0..20_000).filter(|_| link.handle_packet(now, 100, ()) == Fate::Lost).count();
    assert!((900..=1_100).contains(&lost), "{lost} of 20000 lost");
}

#[test]
fn jitter_reorders_only_when_asked_to() {
    let order = |reorder| {
        let jitter = Duration::from_millis(50);
        let config = LinkConfig { jitter, reorder, ..LinkConfig::default() };
        let mut bench = Bench::new(config, 3, Instant::now());
        let _ = bench.offer(&[(1_000, 100); 100]);
        bench.finish();
        bench.arrivals.is_sorted_by_key(|arrival| arrival.packet)
    };
    assert!(order(false));
    assert!(!order(true));
}

#[test]
fn a_full_queue_drops_the_tail_and_the_packet_being_sent_is_not_in_it() {
    let config =
        LinkConfig { rate: Rate::from_bits_per_second(8_000), queue: 200, ..LinkConfig::default() };
    let now = Instant::now();
    let mut link = Link::new(config, 0);
    let fates = [(); 4].map(|()| link.handle_packet(now, 100, ()));
    assert_eq!(fates, [Fate::Accepted, Fate::Accepted, Fate::Accepted, Fate::QueueFull]);
    assert_eq!(link.queued_bytes(), 200);
}

#[test]
fn a_new_rate_applies_to_the_rest_of_the_packet_being_sent_and_to_all_behind_it() {
    let at = |bits| LinkConfig { rate: Rate::from_bits_per_second(bits), ..LinkConfig::default() };
    let start = Instant::now();
    let mut bench = Bench::new(at(8_000), 0, start);
    // At 8 kbit/s each takes 100 ms.
    let _ = bench.offer(&[(0, 100), (0, 100)]);
    bench.run_until(start + Duration::from_millis(50));
    bench.link.set_config(bench.now, at(800));
    bench.finish();
    // Half of the first is left, at a tenth of the rate: 500 ms; then the second: 1000 ms.
    let took: Vec<_> = bench.arrivals.iter().map(|arrival| arrival.at - start).collect();
    assert_eq!(took, [Duration::from_millis(550), Duration::from_millis(1550)]);
}

#[test]
fn a_perfect_link_passes_everything_on_at_once() {
    let now = Instant::now();
    let mut link = Link::new(LinkConfig::default(), 0);
    assert_eq!(link.handle_packet(now, 1_000_000, 'a'), Fate::Accepted);
    assert_eq!(link.poll_timeout(), Some(now));
    assert_eq!(link.poll_packet(now), Some('a'));
    assert_eq!(link.poll_timeout(), None);
}
