//! Which container some first bytes belong to.

use crate::Error;
use crate::ts::PACKET_BYTES;

/// With this many bytes [`probe`] always decides.
pub const PROBE_BYTES: usize = 3 * PACKET_BYTES + PACKET_BYTES;

/// A container known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// ISO base media: fragmented MP4, CMAF, or progressive MP4.
    Mp4,
    /// MPEG-2 transport stream.
    MpegTs,
}

/// The answer of [`probe`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// It is this.
    Is(Container),
    /// More bytes are needed (never said of [`PROBE_BYTES`] or more).
    NeedMore,
}

/// Names the container that starts with `head`, which may be joined in the middle of a transport
/// stream.
///
/// # Errors
///
/// [`Error::OtherContainer`] and [`Error::NotMedia`] say what the bytes look like instead, where that
/// can be told.
pub fn probe(head: &[u8]) -> Result<Probe, Error> {
    if let Some(error) = known_other(head) {
        return Err(error);
    }
    if head.len() >= 8 && is_mp4_start([head[4], head[5], head[6], head[7]]) {
        return Ok(Probe::Is(Container::Mp4));
    }
    for start in 0..PACKET_BYTES.min(head.len()) {
        let grid = [start, start + PACKET_BYTES, start + 2 * PACKET_BYTES];
        if grid.iter().all(|&at| head.get(at) == Some(&0x47)) {
            return Ok(Probe::Is(Container::MpegTs));
        }
    }
    if head.len() < PROBE_BYTES {
        return Ok(Probe::NeedMore);
    }
    Err(Error::NotMedia("starts with bytes of no container"))
}

/// Box types that can come first in an MP4, or in a CMAF stream joined between chunks.
fn is_mp4_start(kind: [u8; 4]) -> bool {
    const FIRST: [&[u8; 4]; 12] = [
        b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"sidx", b"emsg",
        b"prft", b"pdin",
    ];
    FIRST.contains(&&kind)
}

/// Formats that people do send, named so that the error helps.
fn known_other(head: &[u8]) -> Option<Error> {
    const CONTAINERS: [(&[u8], &str); 6] = [
        (b"\x1a\x45\xdf\xa3", "Matroska or WebM"),
        (b"FLV\x01", "FLV"),
        (b"OggS", "Ogg"),
        (b"RIFF", "RIFF (AVI or WAV)"),
        (b"ID3", "an MP3 file"),
        (b"\x00\x00\x01\xba", "an MPEG program stream"),
    ];
    const OTHERS: [(&[u8], &str); 6] = [
        (b"#EXTM3U", "is a playlist, not media"),
        (b"<!DOCTYPE", "is a web page"),
        (b"<!doctype", "is a web page"),
        (b"<html", "is a web page"),
        (b"\x89PNG", "is a PNG picture"),
        (b"\xff\xd8\xff", "is a JPEG picture"),
    ];
    let find = |table: &[(&[u8], &'static str)]| {
        table.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, what)| *what)
    };
    find(&CONTAINERS).map(Error::OtherContainer).or_else(|| find(&OTHERS).map(Error::NotMedia))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_told_apart() {
        assert_eq!(probe(b"\0\0\0\x18ftypiso5").ok(), Some(Probe::Is(Container::Mp4)));
        let mut ts = vec![0xffu8; 4 * PACKET_BYTES];
        for at in (57..ts.len()).step_by(PACKET_BYTES) {
            ts[at] = 0x47;
        }
        assert_eq!(probe(&ts).ok(), Some(Probe::Is(Container::MpegTs)));
    }

    #[test]
    fn what_is_no_media_is_named() {
        let page = probe(b"<!DOCTYPE html><p>no such channel").unwrap_err();
        assert!(page.to_string().contains("web page"), "{page}");
        let webm = probe(b"\x1a\x45\xdf\xa3").unwrap_err().to_string();
        assert!(webm.contains("Matroska") && webm.contains("ffmpeg -re -i"), "{webm}");
        assert!(probe(&[0u8; PROBE_BYTES]).is_err());
        assert!(probe(&[0x47; 3]).is_ok_and(|answer| answer == Probe::NeedMore));
        assert!(probe(b"").is_ok_and(|answer| answer == Probe::NeedMore));
    }
}
