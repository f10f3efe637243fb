//! PES packets: put together from transport packets, with timestamps unwrapped.

use bytes::{Bytes, BytesMut};

use super::packet::Packet;
use super::{CLOCK_HZ, MAX_PES_BYTES};
use crate::track::to_micros;

/// Units that must have ended where stuffing says before that is taken as their end.
const TRUST_STUFFING_AFTER: u32 = 8;

/// One PES packet's payload.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pes {
    /// Presentation time in microseconds.
    pub(super) pts_us: Option<i64>,
    /// Decode time in microseconds; the presentation time where it is not sent.
    pub(super) dts_us: Option<i64>,
    pub(super) payload: Bytes,
}

/// What taking in a packet led to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A whole PES packet.
    Complete(Pes),
    /// A PES packet was damaged and dropped.
    Lost,
}

/// Puts one PID's PES packets together.
#[derive(Debug, Default)]
pub(super) struct PesAssembler {
    buffer: BytesMut,
    /// A packet's start was seen and no gap since.
    open: bool,
    continuity: Option<u8>,
    stuffing: StuffingHabit,
}

/// Video PES packets mostly do not say how long they are, so their end shows only when the next
/// one starts: a whole frame of delay. Muxers stuff the last transport packet of each, which
/// tells the end at once, but nothing forbids stuffing elsewhere; so this is taken for an end only
/// from muxers seen to do it there and nowhere else.
#[derive(Debug, Default)]
struct StuffingHabit {
    /// Units in a row that ended as expected; reset by any surprise.
    kept: u32,
    /// The open unit had a stuffed packet last.
    stuffed_last: bool,
}

impl PesAssembler {
    /// Takes a transport packet of this PID; gives at most two outcomes: the packet before ended,
    /// and this one is whole.
    pub(super) fn handle_packet(
        &mut self,
        packet: &Packet<'_>,
        clock: &mut Unwrapper,
    ) -> [Option<Outcome>; 2] {
        if packet.payload.is_empty() {
            return [None, None];
        }
        let mut before = None;
        if let Some(last) = self.continuity {
            if packet.continuity == last && !packet.discontinuity {
                return [None, None]; // sent twice, as the standard allows
            }
            if packet.continuity != (last + 1) & 0x0f && !packet.discontinuity && self.open {
                self.abandon();
                before = Some(Outcome::Lost);
            }
        }
        self.continuity = Some(packet.continuity);

        if packet.unit_start {
            before = before.or_else(|| self.finish(clock));
            self.open = true;
            self.stuffing.stuffed_last = false;
        } else if !self.open {
            // After an early end this is a broken habit; else the stream was joined here.
            self.stuffing.kept = 0;
            return [before, None];
        } else if self.stuffing.stuffed_last {
            self.stuffing.kept = 0;
        }
        if self.buffer.len() + packet.payload.len() > MAX_PES_BYTES {
            self.abandon();
            return [before, Some(Outcome::Lost)];
        }
        self.buffer.extend_from_slice(packet.payload);
        self.stuffing.stuffed_last = packet.stuffed;

        let ended = match declared_bytes(&self.buffer) {
            Some(total) => self.buffer.len() >= total,
            None => packet.stuffed && self.stuffing.kept >= TRUST_STUFFING_AFTER,
        };
        let complete = if ended { self.finish(clock) } else { None };
        [before, complete]
    }

    /// The stream has ended: what is there is all there will be.
    pub(super) fn finish(&mut self, clock: &mut Unwrapper) -> Option<Outcome> {
        if !std::mem::take(&mut self.open) {
            return None;
        }
        if self.stuffing.stuffed_last {
            self.stuffing.kept = self.stuffing.kept.saturating_add(1);
        }
        let data = self.buffer.split().freeze();
        Some(parse(&data, clock).map_or(Outcome::Lost, Outcome::Complete))
    }

    fn abandon(&mut self) {
        self.buffer.clear();
        self.open = false;
    }
}

/// Bytes of the whole PES packet, if it says so.
fn declared_bytes(data: &[u8]) -> Option<usize> {
    let length = usize::from(u16::from_be_bytes([*data.get(4)?, *data.get(5)?]));
    (length > 0).then_some(6 + length)
}

fn parse(data: &Bytes, clock: &mut Unwrapper) -> Option<Pes> {
    let [0, 0, 1, _, _, _, marker, flags, header, ..] = data[..] else {
        return None;
    };
    let start = 9 + usize::from(header);
    let end = declared_bytes(data).map_or(data.len(), |total| total.min(data.len()));
    if marker & 0xc0 != 0x80 || start > end {
        return None;
    }
    let truncated = declared_bytes(data).is_some_and(|total| total > data.len());
    if truncated {
        return None;
    }
    let stamp = |at: usize| timestamp(data.get(at..at + 5)?);
    let pts = (flags & 0x80 != 0 && header >= 5).then(|| stamp(9)).flatten();
    let dts = (flags & 0x40 != 0 && header >= 10).then(|| stamp(14)).flatten();
    let dts = dts.or(pts).map(|ticks| clock.unwrap(ticks));
    let pts = pts.map(|ticks| clock.unwrap(ticks));
    let micros = |ticks| to_micros(i128::from(ticks), CLOCK_HZ);
    Some(Pes { pts_us: pts.map(micros), dts_us: dts.map(micros), payload: data.slice(start..end) })
}

/// A 33-bit timestamp with its marker bits.
fn timestamp(field: &[u8]) -> Option<u64> {
    let [a, b, c, d, e] = *field.first_chunk::<5>()?;
    if a & 1 == 0 || c & 1 == 0 || e & 1 == 0 {
        return None;
    }
    let high = u64::from(a >> 1 & 7) << 30;
    let middle = (u64::from(b) << 7 | u64::from(c >> 1)) << 15;
    Some(high | middle | u64::from(d) << 7 | u64::from(e >> 1))
}

/// Makes one endless timeline of 33-bit timestamps, which wrap every 26.5 hours.
#[derive(Debug, Default)]
pub(super) struct Unwrapper {
    last: Option<i64>,
}

impl Unwrapper {
    fn unwrap(&mut self, ticks: u64) -> i64 {
        const WRAP: i64 = 1 << 33;
        let ticks = ticks as i64 & (WRAP - 1);
        let time = match self.last {
            None => ticks,
            Some(last) => {
                let step = (ticks - last).rem_euclid(WRAP);
                last.saturating_add(if step >= WRAP / 2 { step - WRAP } else { step })
            }
        };
        self.last = Some(time);
        time
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ts::PACKET_BYTES;

    /// A PES packet of unknown length with a PTS, its payload `size` bytes.
    fn pes(pts: u64, size: usize) -> Vec<u8> {
        let stamp = [
            0x21 | (pts >> 29) as u8 & 0x0e,
            (pts >> 22) as u8,
            (pts >> 14) as u8 | 1,
            (pts >> 7) as u8,
            (pts << 1) as u8 | 1,
        ];
        [&[0, 0, 1, 0xe0, 0, 0, 0x80, 0x80, 5][..], &stamp, &vec![0x55; size]].concat()
    }

    /// Cuts into transport packets; the last is stuffed.
    fn packets(pes: &[u8], continuity: &mut u8) -> Vec<[u8; PACKET_BYTES]> {
        let chunks = pes.chunks(184).enumerate();
        chunks
            .map(|(index, chunk)| {
                let mut data = [0xff; PACKET_BYTES];
                data[..3].copy_from_slice(&[0x47, if index == 0 { 0x41 } else { 0x01 }, 0]);
                let adaptation = PACKET_BYTES - 4 - chunk.len();
                data[3] = *continuity | if adaptation > 0 { 0x30 } else { 0x10 };
                if adaptation > 0 {
                    data[4] = adaptation as u8 - 1;
                    if adaptation > 1 {
                        data[5] = 0;
                    }
                }
                data[PACKET_BYTES - chunk.len()..].copy_from_slice(chunk);
                *continuity = (*continuity + 1) & 0x0f;
                data
            })
            .collect()
    }

    fn feed(assembler: &mut PesAssembler, data: &[u8; PACKET_BYTES]) -> Vec<Outcome> {
        let packet = Packet::parse(data).unwrap();
        let mut clock = Unwrapper::default();
        assembler.handle_packet(&packet, &mut clock).into_iter().flatten().collect()
    }

    #[test]
    fn an_unbounded_packet_ends_where_the_next_begins_until_stuffing_is_trusted() {
        let mut assembler = PesAssembler::default();
        let mut continuity = 0;
        for unit in 0..20u64 {
            let mut outcomes = Vec::new();
            for data in packets(&pes(unit * 3000, 300), &mut continuity) {
                outcomes.extend(feed(&mut assembler, &data));
            }
            let expected = match u32::try_from(unit).unwrap() {
                0 => 0,
                // The eighth kept promise is seen at the ninth unit's start.
                TRUST_STUFFING_AFTER => 2,
                _ => 1,
            };
            assert_eq!(outcomes.len(), expected, "unit {unit}");
            assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Complete(pes)
                if pes.payload.len() == 300)));
        }
    }

    #[test]
    fn a_gap_loses_the_open_packet_only() {
        let mut assembler = PesAssembler::default();
        let mut continuity = 0;
        let first = packets(&pes(0, 500), &mut continuity);
        let second = packets(&pes(3000, 10), &mut continuity);
        assert!(feed(&mut assembler, &first[0]).is_empty());
        assert_eq!(feed(&mut assembler, &first[2]), [Outcome::Lost]);
        assert!(feed(&mut assembler, &second[0]).is_empty());
        let end = assembler.finish(&mut Unwrapper::default());
        assert!(matches!(end, Some(Outcome::Complete(pes)) if pes.payload.len() == 10));
    }

    #[test]
    fn a_packet_sent_twice_counts_once() {
        let mut assembler = PesAssembler::default();
        let mut continuity = 0;
        let unit = packets(&pes(0, 400), &mut continuity);
        for data in [&unit[0], &unit[1], &unit[1], &unit[2]] {
            assert!(feed(&mut assembler, data).is_empty());
        }
        let end = assembler.finish(&mut Unwrapper::default());
        assert!(matches!(end, Some(Outcome::Complete(pes)) if pes.payload.len() == 400));
    }

    #[test]
    fn timestamps_go_on_over_the_wrap() {
        let mut clock = Unwrapper::default();
        let near = (1 << 33) - 100;
        assert_eq!(clock.unwrap(near), near as i64);
        assert_eq!(clock.unwrap(50), near as i64 + 150);
        assert_eq!(clock.unwrap(near + 50), near as i64 + 50);
        assert_eq!(timestamp(&[0x21, 0, 1, 0, 1]), Some(0));
        assert_eq!(timestamp(&[0x2f, 0xff, 0xff, 0xff, 0xff]), Some((1 << 33) - 1));
        assert_eq!(timestamp(&[0x20, 0, 1, 0, 1]), None);
    }
}
