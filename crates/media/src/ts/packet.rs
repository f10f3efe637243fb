//! Transport packets: the fields of the header and where the payload starts.

use super::PACKET_BYTES;

/// A parsed transport packet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packet<'a> {
    pub(super) pid: u16,
    /// A PES packet or a section starts in this payload.
    pub(super) unit_start: bool,
    pub(super) scrambled: bool,
    pub(super) continuity: u8,
    /// The sender says that counters or clocks jump here.
    pub(super) discontinuity: bool,
    /// The adaptation field is filled up with stuffing bytes.
    pub(super) stuffed: bool,
    pub(super) payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Parses a packet on the grid; `None` if it is damaged and to be passed over.
    pub(super) fn parse(data: &'a [u8; PACKET_BYTES]) -> Option<Self> {
        let damaged = data[1] & 0x80 != 0;
        if data[0] != 0x47 || damaged {
            return None;
        }
        let control = data[3] >> 4 & 3;
        let mut payload = &data[4..];
        let (mut discontinuity, mut stuffed) = (false, false);
        if control & 2 != 0 {
            let (length, rest) = payload.split_first()?;
            let (field, rest) = rest.split_at_checked(usize::from(*length))?;
            discontinuity = field.first().is_some_and(|flags| flags & 0x80 != 0);
            stuffed = is_stuffed(field);
            payload = rest;
        }
        if control & 1 == 0 {
            payload = &[];
        }
        Some(Self {
            pid: u16::from_be_bytes([data[1] & 0x1f, data[2]]),
            unit_start: data[1] & 0x40 != 0,
            scrambled: data[3] & 0xc0 != 0,
            continuity: data[3] & 0x0f,
            discontinuity,
            stuffed,
            payload,
        })
    }
}

/// Whether an adaptation field is longer than what its flags announce.
fn is_stuffed(field: &[u8]) -> bool {
    let Some(flags) = field.first() else {
        // A field of length zero fills up exactly one byte.
        return true;
    };
    let mut used = 1;
    used += if flags & 0x10 != 0 { 6 } else { 0 }; // PCR
    used += if flags & 0x08 != 0 { 6 } else { 0 }; // OPCR
    used += if flags & 0x04 != 0 { 1 } else { 0 }; // splice countdown
    // Private data and extensions: not worth a parse, and no sign of stuffing.
    flags & 0x03 == 0 && field.len() > used
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(head: &[u8]) -> [u8; PACKET_BYTES] {
        let mut data = [0xff; PACKET_BYTES];
        data[..head.len()].copy_from_slice(head);
        data
    }

    #[test]
    fn fields_and_payload_are_found() {
        let data = packet(&[0x47, 0x41, 0x00, 0x17, 0xaa]);
        let parsed = Packet::parse(&data).unwrap();
        assert_eq!((parsed.pid, parsed.unit_start, parsed.continuity), (0x100, true, 7));
        assert_eq!((parsed.payload.len(), parsed.payload[0]), (184, 0xaa));
        assert!(!parsed.stuffed);
    }

    #[test]
    fn a_clock_reference_is_not_stuffing() {
        let data = packet(&[0x47, 0x01, 0x00, 0x37, 7, 0x10, 0, 0, 0, 0, 0, 0, 0xaa]);
        let parsed = Packet::parse(&data).unwrap();
        assert_eq!((parsed.payload[0], parsed.payload.len(), parsed.stuffed), (0xaa, 176, false));
        let data = packet(&[0x47, 0x01, 0x00, 0x37, 9, 0x10]);
        assert!(Packet::parse(&data).is_some_and(|parsed| parsed.stuffed));
    }

    #[test]
    fn damage_is_passed_over() {
        assert!(Packet::parse(&packet(&[0x47, 0x81])).is_none());
        assert!(Packet::parse(&packet(&[0x48])).is_none());
        assert!(Packet::parse(&packet(&[0x47, 0x01, 0x00, 0x37, 200])).is_none());
    }
}
