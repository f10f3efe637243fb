//! MSF ("MOQT Streaming Format"): the catalog that names a broadcast's tracks.
//!
//! [`Catalog`] is an independent catalog, the form that this project writes. Reading ignores
//! fields it does not know, as the draft asks, and takes the numeric versions of older writers.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Format, TrackConfig};

/// The name of the catalog track.
pub const CATALOG_TRACK: &str = "catalog";

/// The version that this project writes.
const VERSION: &str = "draft-01";

/// Why a catalog could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// It is no catalog.
    #[error("not an MSF catalog: {0}")]
    Json(serde_json::Error),
    /// Its version is not one known here. *MSF version*: it must not be parsed then.
    #[error("MSF catalog of version {0:?}; this reads draft-00 and draft-01")]
    Version(String),
}

/// An independent catalog.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Catalog {
    /// The draft it follows.
    pub version: Version,
    /// When it was made, in milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generated_at: Option<u64>,
    /// The broadcast is over: nothing more will come on any track.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_complete: bool,
    /// The tracks.
    pub tracks: Vec<Track>,
    /// Decoder descriptions that tracks refer to. *Initialization Data List*: after the tracks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub init_data_list: Vec<InitData>,
}

/// *MSF version*: `draft-01`, or a bare number in older writers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(u32);

impl Version {
    /// The version that this project writes.
    pub const CURRENT: Version = Version(1);
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if *self == Version::CURRENT {
            return serializer.serialize_str(VERSION);
        }
        serializer.collect_str(&format_args!("draft-{:02}", self.0))
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Number(u32),
            Text(String),
        }
        match Raw::deserialize(deserializer)? {
            Raw::Number(number) => Ok(Version(number)),
            Raw::Text(text) => text
                .strip_prefix("draft-")
                .unwrap_or(&text)
                .parse()
                .map(Version)
                .map_err(|_| serde::de::Error::custom(format!("version {text:?}"))),
        }
    }
}

/// One track of a catalog.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Track {
    /// The track's name, in the catalog's own namespace.
    pub name: String,
    /// How objects carry the media; `loc` here.
    pub packaging: String,
    /// More objects will come.
    #[serde(default)]
    pub is_live: bool,
    /// Milliseconds between capture and display that players should aim at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_latency: Option<u32>,
    /// `video`, `audio`, ….
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Tracks to be shown together share a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub render_group: Option<u32>,
    /// The [`InitData::id`] of the decoder description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_ref: Option<String>,
    /// The codec string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codec: Option<String>,
    /// Frames per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub framerate: Option<f64>,
    /// Units per second of *Timestamp* properties, where they are not microseconds of wall clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timescale: Option<u32>,
    /// Most bits per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bitrate: Option<u64>,
    /// Picture width in pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    /// Picture height in pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    /// Audio samples per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samplerate: Option<u32>,
    /// Audio channels: their number as text, where nothing more needs saying.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_config: Option<String>,
    /// Language tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lang: Option<String>,
}

/// One entry of the *Initialization Data List*.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitData {
    /// What [`Track::init_ref`] names.
    pub id: String,
    /// `inline` here: the data is Base64.
    #[serde(rename = "type")]
    pub kind: String,
    /// The data, as `kind` says.
    pub data: String,
}

/// What the catalog says of a track beyond its [`TrackConfig`].
#[derive(Debug, Clone, PartialEq)]
pub struct TrackInfo<'a> {
    /// The track's name.
    pub name: &'a str,
    /// What the decoder needs.
    pub config: &'a TrackConfig,
    /// Bits per second, where known.
    pub bitrate: Option<u64>,
    /// Milliseconds between capture and display that players should aim at.
    pub target_latency_ms: Option<u32>,
}

impl Catalog {
    /// The catalog of a live broadcast whose tracks belong together.
    pub fn live(generated_at_ms: u64, tracks: &[TrackInfo<'_>]) -> Self {
        let mut catalog = Catalog {
            version: Version::CURRENT,
            generated_at: Some(generated_at_ms),
            is_complete: false,
            tracks: Vec::with_capacity(tracks.len()),
            init_data_list: Vec::new(),
        };
        for info in tracks {
            let init_ref = info.config.description.as_ref().map(|description| {
                catalog.init_data_list.push(InitData {
                    id: info.name.to_owned(),
                    kind: "inline".to_owned(),
                    data: base64(description),
                });
                info.name.to_owned()
            });
            catalog.tracks.push(Track::live(info, init_ref));
        }
        catalog
    }

    /// The last catalog of a broadcast (*Ending a live broadcast*): complete, without tracks.
    pub fn complete(generated_at_ms: u64) -> Self {
        Catalog { is_complete: true, ..Catalog::live(generated_at_ms, &[]) }
    }

    /// The catalog object's payload.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_else(|error| {
            unreachable!("a catalog has only string keys and finite numbers: {error}")
        })
    }

    /// Reads a catalog object's payload.
    ///
    /// # Errors
    ///
    /// It is no independent catalog, or one of a version not known here.
    pub fn from_json(payload: &[u8]) -> Result<Self, CatalogError> {
        let catalog: Self = serde_json::from_slice(payload).map_err(CatalogError::Json)?;
        if catalog.version > Version::CURRENT {
            return Err(CatalogError::Version(format!("draft-{:02}", catalog.version.0)));
        }
        Ok(catalog)
    }
}

impl Track {
    fn live(info: &TrackInfo<'_>, init_ref: Option<String>) -> Self {
        let config = info.config;
        let mut track = Track {
            name: info.name.to_owned(),
            packaging: "loc".to_owned(),
            is_live: true,
            target_latency: info.target_latency_ms,
            role: Some(config.kind().as_str().to_owned()),
            render_group: Some(1),
            init_ref,
            codec: Some(config.codec_string.clone()),
            bitrate: info.bitrate,
            lang: config.language.clone(),
            ..Track::default()
        };
        match config.format {
            Format::Video { width, height, framerate } => {
                track.width = Some(width);
                track.height = Some(height);
                track.framerate = framerate.filter(|rate| rate.is_finite());
            }
            Format::Audio { sample_rate, channels } => {
                track.samplerate = Some(sample_rate);
                track.channel_config = Some(channels.to_string());
            }
        }
        track
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

/// Base64 with padding, as RFC 4648 has it.
fn base64(data: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(data.len().div_ceil(3) * 4);
    for chunk in data.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = ALPHABET[(word >> (18 - 6 * place) & 63) as usize];
            text.push(if place > chunk.len() { '=' } else { char::from(digit) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Codec;
    use bytes::Bytes;

    fn video() -> TrackConfig {
        TrackConfig {
            id: 1,
            codec: Codec::H264,
            codec_string: "avc1.42c01f".into(),
            description: Some(Bytes::from_static(&[1, 2, 3, 4])),
            format: Format::Video { width: 1280, height: 720, framerate: Some(30.0) },
            timescale: 90_000,
            language: None,
        }
    }

    #[test]
    fn a_live_catalog_reads_as_the_draft_writes_it() {
        let audio = TrackConfig {
            id: 2,
            codec: Codec::Opus,
            codec_string: "opus".into(),
            description: None,
            format: Format::Audio { sample_rate: 48_000, channels: 2 },
            timescale: 48_000,
            language: Some("de".into()),
        };
        let info = |name, config| TrackInfo {
            name,
            config,
            bitrate: Some(32_000),
            target_latency_ms: Some(150),
        };
        let video = video();
        let catalog = Catalog::live(17, &[info("video0", &video), info("audio0", &audio)]);
        let json = String::from_utf8(catalog.to_json()).unwrap();
        assert_eq!(
            json,
            r#"{"version":"draft-01","generatedAt":17,"tracks":[{"name":"video0","packaging":"loc","isLive":true,"targetLatency":150,"role":"video","renderGroup":1,"initRef":"video0","codec":"avc1.42c01f","framerate":30.0,"bitrate":32000,"width":1280,"height":720},{"name":"audio0","packaging":"loc","isLive":true,"targetLatency":150,"role":"audio","renderGroup":1,"codec":"opus","bitrate":32000,"samplerate":48000,"channelConfig":"2","lang":"de"}],"initDataList":[{"id":"video0","type":"inline","data":"AQIDBA=="}]}"#
        );
        assert_eq!(Catalog::from_json(json.as_bytes()).unwrap(), catalog);
    }

    #[test]
    fn numeric_versions_are_accepted_and_newer_ones_refused() {
        for version in ["1", "0", r#""00""#, r#""1""#, r#""draft-00""#, r#""draft-01""#] {
            let json = format!(r#"{{"version":{version},"tracks":[],"novelty":{{}}}}"#);
            assert!(Catalog::from_json(json.as_bytes()).is_ok(), "{version}");
        }
        for version in ["2", r#""draft-07""#, r#""soon""#, "-1"] {
            let json = format!(r#"{{"version":{version},"tracks":[]}}"#);
            assert!(Catalog::from_json(json.as_bytes()).is_err(), "{version}");
        }
    }

    #[test]
    fn the_end_is_said_as_the_draft_says_it() {
        let json = String::from_utf8(Catalog::complete(5).to_json()).unwrap();
        assert_eq!(json, r#"{"version":"draft-01","generatedAt":5,"isComplete":true,"tracks":[]}"#);
    }

    #[test]
    fn base64_pads() {
        for (data, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(data.as_bytes()), text);
        }
    }
}
