//! Programme tables: sections over packets, PAT and PMT.

use crate::Kind;

/// Largest section of a programme table.
const MAX_SECTION_BYTES: usize = 3 + 1021;
/// Most elementary streams taken from one PMT.
const MAX_STREAMS: usize = 32;

/// Puts one PID's sections together.
#[derive(Debug, Default)]
pub(super) struct SectionAssembler {
    buffer: Vec<u8>,
    /// A section's start was seen and no gap since.
    open: bool,
}

impl SectionAssembler {
    /// Takes a packet's payload; gives the sections that end in it and whose checksum holds.
    pub(super) fn handle_payload(&mut self, payload: &[u8], unit_start: bool) -> Vec<Vec<u8>> {
        let mut done = Vec::new();
        let mut rest = payload;
        if unit_start {
            let Some((pointer, tail)) = payload.split_first() else {
                return done;
            };
            let Some((ending, starting)) = tail.split_at_checked(usize::from(*pointer)) else {
                self.reset();
                return done;
            };
            self.append(ending, &mut done);
            self.reset();
            self.open = true;
            rest = starting;
        }
        self.append(rest, &mut done);
        done
    }

    /// Packets are missing: what was begun is void.
    pub(super) fn reset(&mut self) {
        self.buffer.clear();
        self.open = false;
    }

    fn append(&mut self, bytes: &[u8], done: &mut Vec<Vec<u8>>) {
        if !self.open {
            return;
        }
        self.buffer.extend_from_slice(bytes);
        while let [table, hi, lo, ..] = self.buffer[..] {
            if table == 0xff {
                self.reset();
                return;
            }
            let size = 3 + (usize::from(hi & 0x0f) << 8 | usize::from(lo));
            if size > MAX_SECTION_BYTES {
                self.reset();
                return;
            }
            if self.buffer.len() < size {
                return;
            }
            let section: Vec<u8> = self.buffer.drain(..size).collect();
            if crc32(&section) == 0 {
                done.push(section);
            }
        }
    }
}

/// CRC-32/MPEG-2; over a section with its checksum it is zero.
fn crc32(data: &[u8]) -> u32 {
    data.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte) << 24, |crc, _| {
            if crc & 0x8000_0000 != 0 { crc << 1 ^ 0x04c1_1db7 } else { crc << 1 }
        })
    })
}

/// The payload of a long-form section that is in force, with its table ID and checksum checked.
fn current_table(section: &[u8], table: u8) -> Option<&[u8]> {
    let in_force = section.get(5)? & 1 == 1;
    if section.first() != Some(&table) || !in_force {
        return None;
    }
    section.get(8..section.len().checked_sub(4)?)
}

/// The PMT PIDs that a PAT names, in its order.
pub(super) fn parse_pat(section: &[u8]) -> Option<Vec<u16>> {
    let (entries, _) = current_table(section, 0x00)?.as_chunks::<4>();
    let programs = entries
        .iter()
        .filter(|entry| entry[..2] != [0, 0])
        .map(|entry| u16::from_be_bytes([entry[2] & 0x1f, entry[3]]));
    Some(programs.collect())
}

/// One elementary stream of a PMT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stream {
    pub(super) pid: u16,
    pub(super) coding: Coding,
    pub(super) language: Option<String>,
}

/// What an elementary stream carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Coding {
    H264,
    Hevc,
    Aac,
    /// Opus with this many channels.
    Opus(u8),
    /// A codec that cannot pass.
    Unsupported(Kind, &'static str),
    /// Subtitles, teletext, cues: neither picture nor sound.
    Data,
}

/// The streams that a PMT names.
pub(super) fn parse_pmt(section: &[u8]) -> Option<Vec<Stream>> {
    let table = current_table(section, 0x02)?;
    let program_info = usize::from(u16::from_be_bytes([table.get(2)? & 0x0f, *table.get(3)?]));
    let mut rest = table.get(4 + program_info..)?;
    let mut streams = Vec::new();
    while let Some((head, tail)) = rest.split_first_chunk::<5>() {
        let info = usize::from(u16::from_be_bytes([head[3] & 0x0f, head[4]]));
        let (descriptors, tail) = tail.split_at_checked(info)?;
        if streams.len() < MAX_STREAMS {
            streams.push(Stream {
                pid: u16::from_be_bytes([head[1] & 0x1f, head[2]]),
                coding: coding(head[0], descriptors),
                language: descriptor(descriptors, 0x0a).and_then(language),
            });
        }
        rest = tail;
    }
    Some(streams)
}

fn coding(stream_type: u8, descriptors: &[u8]) -> Coding {
    use Kind::{Audio, Video};
    match stream_type {
        0x1b => Coding::H264,
        0x24 => Coding::Hevc,
        0x0f => Coding::Aac,
        0x01 => Coding::Unsupported(Video, "MPEG-1 video"),
        0x02 => Coding::Unsupported(Video, "MPEG-2 video"),
        0x10 => Coding::Unsupported(Video, "MPEG-4 part 2 video"),
        0x21 => Coding::Unsupported(Video, "JPEG 2000"),
        0x33 => Coding::Unsupported(Video, "VVC"),
        0x03 | 0x04 => Coding::Unsupported(Audio, "MPEG audio (MP2 or MP3)"),
        0x11 => Coding::Unsupported(Audio, "AAC in LATM"),
        0x81 => Coding::Unsupported(Audio, "AC-3"),
        0x87 => Coding::Unsupported(Audio, "E-AC-3"),
        0x82 | 0x8a => Coding::Unsupported(Audio, "DTS"),
        0x06 => private_coding(descriptors),
        _ => Coding::Data,
    }
}

/// Private streams say what they are in descriptors.
fn private_coding(descriptors: &[u8]) -> Coding {
    let has = |tag| descriptor(descriptors, tag).is_some();
    match descriptor(descriptors, 0x05) {
        Some(b"Opus") => {
            // Extension descriptor 0x80: the channel configuration; 0 is dual mono.
            let channels = match descriptor(descriptors, 0x7f) {
                Some([0x80, 0, ..]) => 2,
                Some([0x80, channels @ 1..=8, ..]) => *channels,
                _ => 2,
            };
            Coding::Opus(channels)
        }
        Some(b"AV01") => Coding::Unsupported(Kind::Video, "AV1 in MPEG-TS"),
        Some(b"HEVC") => Coding::Hevc,
        Some(b"AC-3") => Coding::Unsupported(Kind::Audio, "AC-3"),
        Some(b"EAC3") => Coding::Unsupported(Kind::Audio, "E-AC-3"),
        _ if has(0x6a) => Coding::Unsupported(Kind::Audio, "AC-3"),
        _ if has(0x7a) => Coding::Unsupported(Kind::Audio, "E-AC-3"),
        _ if has(0x7b) => Coding::Unsupported(Kind::Audio, "DTS"),
        _ => Coding::Data,
    }
}

/// The body of the first descriptor with a tag.
fn descriptor(mut descriptors: &[u8], tag: u8) -> Option<&[u8]> {
    while let [found, length, rest @ ..] = descriptors {
        let (body, rest) = rest.split_at_checked(usize::from(*length))?;
        if *found == tag {
            return Some(body);
        }
        descriptors = rest;
    }
    None
}

fn language(body: &[u8]) -> Option<String> {
    let code = body.get(..3)?;
    let known = code.iter().all(u8::is_ascii_lowercase) && code != b"und";
    known.then(|| String::from_utf8_lossy(code).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_crc(mut section: Vec<u8>) -> Vec<u8> {
        let crc = crc32(&section);
        section.extend(crc.to_be_bytes());
        section
    }

    fn pat() -> Vec<u8> {
        with_crc(vec![0, 0xb0, 17, 0, 1, 0xc1, 0, 0, 0, 0, 0xe0, 0x10, 0, 1, 0xe1, 0x00])
    }

    #[test]
    fn a_section_over_several_packets_is_put_together() {
        let section = pat();
        let mut assembler = SectionAssembler::default();
        let start = [&[0][..], &section[..5]].concat();
        assert!(assembler.handle_payload(&start, true).is_empty());
        let end = [&section[5..], &[0xff; 9]].concat();
        assert_eq!(assembler.handle_payload(&end, false), std::slice::from_ref(&section));
        assert_eq!(parse_pat(&section), Some(vec![0x100]));
    }

    #[test]
    fn damage_and_sections_joined_in_the_middle_are_dropped() {
        let mut section = pat();
        section[9] ^= 1;
        let mut assembler = SectionAssembler::default();
        let payload = [&[0][..], &section].concat();
        assert!(assembler.handle_payload(&payload, true).is_empty());
        assert!(SectionAssembler::default().handle_payload(&pat(), false).is_empty());
        // A pointer past the packet's end.
        assert!(SectionAssembler::default().handle_payload(&[200, 0, 0], true).is_empty());
    }

    #[test]
    fn streams_are_named_by_type_and_descriptor() {
        let body = [
            &[0x02, 0xb0, 0, 0, 1, 0xc1, 0, 0, 0xe1, 0x00, 0xf0, 0x00][..],
            &[0x1b, 0xe1, 0x00, 0xf0, 0],
            &[0x06, 0xe1, 0x01, 0xf0, 10, 5, 4, b'O', b'p', b'u', b's', 0x7f, 2, 0x80, 2],
            &[0x0f, 0xe1, 0x02, 0xf0, 6, 0x0a, 4, b'd', b'e', b'u', 0],
            &[0x06, 0xe1, 0x03, 0xf0, 2, 0x56, 0],
        ]
        .concat();
        let streams = parse_pmt(&with_crc(body)).unwrap();
        let codings: Vec<_> = streams.iter().map(|stream| stream.coding.clone()).collect();
        assert_eq!(codings, [Coding::H264, Coding::Opus(2), Coding::Aac, Coding::Data]);
        assert_eq!(streams[2].language.as_deref(), Some("deu"));
        assert_eq!(streams[1].pid, 0x101);
    }
}
