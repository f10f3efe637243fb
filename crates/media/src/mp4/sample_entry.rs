//! Sample entries: from `stsd` to a codec, its string and its description.

use bytes::Bytes;

use super::boxes::Mp4Box;
use crate::codec::{aac, av1, h264, hevc, opus, vp9};
use crate::{Codec, Error, Format, Kind};

/// Bytes of a visual sample entry before its child boxes.
const VISUAL_ENTRY_BYTES: usize = 78;
/// Bytes of an audio sample entry (version 0) before its child boxes.
const AUDIO_ENTRY_BYTES: usize = 28;

/// What a track's sample entry says.
#[derive(Debug)]
pub(super) enum Entry {
    Supported(Description),
    /// A codec that cannot pass, by name.
    Unsupported(String),
}

/// A supported sample entry.
#[derive(Debug)]
pub(super) struct Description {
    pub(super) codec: Codec,
    pub(super) codec_string: String,
    pub(super) description: Option<Bytes>,
    pub(super) format: Format,
    pub(super) nal_length_size: usize,
}

/// Reads the first entry of an `stsd`.
pub(super) fn parse(stsd: &Mp4Box<'_>, kind: Kind) -> Result<Entry, Error> {
    let entry = stsd.children(8).next().ok_or_else(|| stsd.broken("holds no sample entry"))??;
    match kind {
        Kind::Video => video(&entry),
        Kind::Audio => audio(&entry),
    }
}

fn video(entry: &Mp4Box<'_>) -> Result<Entry, Error> {
    let size = entry.body.get(24..28).ok_or_else(|| entry.broken("is cut off"))?;
    let mut width = u32::from(u16::from_be_bytes([size[0], size[1]]));
    let mut height = u32::from(u16::from_be_bytes([size[2], size[3]]));
    let mut framerate = None;
    let mut nal_length_size = 0;
    let configuration = |kind: &[u8; 4]| {
        entry
            .find_after(VISUAL_ENTRY_BYTES, kind)?
            .ok_or_else(|| entry.broken(format!("has no `{}` inside", kind.escape_ascii())))
    };
    let (codec, codec_string, description) = match &entry.kind {
        b"avc1" | b"avc3" => {
            let avcc = configuration(b"avcC")?;
            let config = h264::AvcC::parse(avcc.body, entry.kind == *b"avc3")
                .ok_or_else(|| avcc.broken("cannot be read"))?;
            nal_length_size = config.nal_length_size;
            if let Some(sps) = config.sps {
                (width, height, framerate) = (sps.width, sps.height, sps.framerate);
            }
            (Codec::H264, config.codec_string, Some(avcc.body))
        }
        b"hvc1" | b"hev1" => {
            let hvcc = configuration(b"hvcC")?;
            let config = hevc::HvcC::parse(hvcc.body, entry.kind == *b"hev1")
                .ok_or_else(|| hvcc.broken("cannot be read"))?;
            nal_length_size = config.nal_length_size;
            (Codec::Hevc, config.codec_string, Some(hvcc.body))
        }
        b"av01" => {
            let av1c = configuration(b"av1C")?;
            if av1c.body.is_empty() {
                // Some ffmpeg versions do this with libaom and `empty_moov`.
                return Err(av1c.broken(
                    "is empty; let the writer see a frame first (ffmpeg: -movflags +delay_moov)",
                ));
            }
            let string =
                av1::codec_string(av1c.body).ok_or_else(|| av1c.broken("cannot be read"))?;
            (Codec::Av1, string, None)
        }
        b"vp09" => {
            let vpcc = configuration(b"vpcC")?;
            let string =
                vp9::codec_string(vpcc.body).ok_or_else(|| vpcc.broken("cannot be read"))?;
            (Codec::Vp9, string, None)
        }
        other => return Ok(Entry::Unsupported(unsupported_name(other))),
    };
    Ok(Entry::Supported(Description {
        codec,
        codec_string,
        description: description.map(Bytes::copy_from_slice),
        format: Format::Video { width, height, framerate },
        nal_length_size,
    }))
}

fn audio(entry: &Mp4Box<'_>) -> Result<Entry, Error> {
    let fixed =
        entry.body.first_chunk::<AUDIO_ENTRY_BYTES>().ok_or_else(|| entry.broken("is cut off"))?;
    let entry_channels = u32::from(u16::from_be_bytes([fixed[16], fixed[17]]));
    // QuickTime's versions 1 and 2 put more fields before the child boxes.
    let skip = AUDIO_ENTRY_BYTES
        + match u16::from_be_bytes([fixed[8], fixed[9]]) {
            1 => 16,
            2 => 36,
            _ => 0,
        };
    let description = match &entry.kind {
        b"mp4a" => {
            let esds = match entry.find_after(skip, b"esds")? {
                Some(esds) => esds,
                None => match entry.find_after(skip, b"wave")? {
                    Some(wave) => wave.require(b"esds")?,
                    None => return Err(entry.broken("has no `esds` inside")),
                },
            };
            match decoder_config(esds.body).ok_or_else(|| esds.broken("cannot be read"))? {
                DecoderConfig::Aac(config) => {
                    let asc = aac::AudioSpecificConfig::parse(config)
                        .ok_or_else(|| esds.broken("holds a broken AudioSpecificConfig"))?;
                    Description {
                        codec: Codec::Aac,
                        codec_string: asc.codec_string(),
                        description: Some(Bytes::copy_from_slice(config)),
                        format: Format::Audio {
                            sample_rate: asc.sample_rate,
                            channels: asc.channels.unwrap_or(entry_channels),
                        },
                        nal_length_size: 0,
                    }
                }
                DecoderConfig::Other(0x69 | 0x6b) => return Ok(Entry::Unsupported("MP3".into())),
                DecoderConfig::Other(code) => {
                    return Ok(Entry::Unsupported(format!("MPEG-4 audio 0x{code:02x}")));
                }
            }
        }
        b"Opus" => {
            let dops = entry
                .find_after(skip, b"dOps")?
                .ok_or_else(|| entry.broken("has no `dOps` inside"))?;
            let config = opus::OpusConfig::parse_dops(dops.body)
                .ok_or_else(|| dops.broken("cannot be read"))?;
            Description {
                codec: Codec::Opus,
                codec_string: "opus".into(),
                description: config.description,
                format: Format::Audio { sample_rate: 48_000, channels: config.channels },
                nal_length_size: 0,
            }
        }
        other => return Ok(Entry::Unsupported(unsupported_name(other))),
    };
    Ok(Entry::Supported(description))
}

fn unsupported_name(kind: &[u8; 4]) -> String {
    match kind {
        b"encv" | b"enca" => "encrypted (DRM)".into(),
        b"mp4v" => "MPEG-4 part 2 video".into(),
        b"vp08" => "VP8".into(),
        b"jpeg" | b"mjpa" => "Motion JPEG".into(),
        b"apch" | b"apcn" | b"apcs" | b"apco" | b"ap4h" => "ProRes".into(),
        b"ac-3" => "AC-3".into(),
        b"ec-3" => "E-AC-3".into(),
        b"fLaC" => "FLAC".into(),
        b".mp3" => "MP3".into(),
        b"alac" => "ALAC".into(),
        b"sowt" | b"twos" | b"lpcm" | b"ipcm" => "PCM".into(),
        other => format!("`{}`", other.escape_ascii()),
    }
}

enum DecoderConfig<'a> {
    /// AAC with its AudioSpecificConfig.
    Aac(&'a [u8]),
    /// Another `objectTypeIndication`.
    Other(u8),
}

/// Finds the decoder configuration inside an `esds`.
fn decoder_config(body: &[u8]) -> Option<DecoderConfig<'_>> {
    let (es, _) = descriptor(body.get(4..)?, 0x03)?;
    let flags = *es.get(2)?;
    let mut rest = es.get(3..)?;
    if flags & 0x80 != 0 {
        rest = rest.get(2..)?; // dependsOn_ES_ID
    }
    if flags & 0x40 != 0 {
        rest = rest.get(1 + usize::from(*rest.first()?)..)?; // URL
    }
    if flags & 0x20 != 0 {
        rest = rest.get(2..)?; // OCR_ES_Id
    }
    let (config, _) = descriptor(rest, 0x04)?;
    match *config.first()? {
        0x40 | 0x66..=0x68 => {
            let (specific, _) = descriptor(config.get(13..)?, 0x05)?;
            Some(DecoderConfig::Aac(specific))
        }
        other => Some(DecoderConfig::Other(other)),
    }
}

/// The first descriptor, which must have `tag`: its body and what follows.
fn descriptor(data: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, mut rest) = data.split_first()?;
    if *found != tag {
        return None;
    }
    let mut size = 0usize;
    for _ in 0..4 {
        let (byte, tail) = rest.split_first()?;
        rest = tail;
        size = size << 7 | usize::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return rest.split_at_checked(size);
        }
    }
    None
}
