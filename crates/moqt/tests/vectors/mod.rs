//! Byte vectors: what each message, header and object looks like in each draft, in files that any
//! implementation can read. The player's tests read the same files.
//!
//! The cases are written here, the bytes come from the codec, and the oracle judges each of them.
//! `BLESS_VECTORS=1` writes the files anew; without it a difference fails the test.

mod data;
mod messages;
mod public;
mod wrong;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use bytes::BytesMut;
use moqt::{IntCoding, ProtocolError, RawProperties, RawValue, SessionCode, Version};
use moqtap_codec::dispatch::AnyControlMessage;
use serde_json::{Value, json};

use super::common::wire_form::{self, hex};
use super::common::{self, Control};
use super::{DraftVersion, EVERY, control};

/// Bytes that mean something. Not canonical: we read them, and would write them otherwise.
struct Vector {
    name: &'static str,
    bytes: Vec<u8>,
    canonical: bool,
    /// What the bytes say, under the draft's names.
    says: Value,
}

impl Vector {
    fn json(&self) -> Value {
        let mut json = json!({ "name": self.name, "hex": hex(&self.bytes) });
        if !self.canonical {
            json["canonical"] = false.into();
        }
        let (Value::Object(json), Value::Object(says)) = (&mut json, self.says.clone()) else {
            unreachable!("both are objects")
        };
        json.extend(says);
        Value::Object(std::mem::take(json))
    }
}

/// What bytes are meant to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Message,
    Subgroup,
    Fetch,
    Datagram,
    Properties,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Subgroup => "subgroup",
            Self::Fetch => "fetch",
            Self::Datagram => "datagram",
            Self::Properties => "properties",
        }
    }
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|digit| !digit.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// Key-value pairs without names: what they mean depends on where they stand.
fn pairs(bytes: &[u8], coding: IntCoding) -> Result<Value, ProtocolError> {
    let pair = |pair: Result<(u64, RawValue<'_>), ProtocolError>| {
        let (kind, value) = pair?;
        let kind = format!("{kind:#x}");
        Ok(match value {
            RawValue::Int(value) => json!({ "type": kind, "value": value.to_string() }),
            RawValue::Bytes(value) => json!({ "type": kind, "raw_hex": hex(value) }),
        })
    };
    RawProperties::new(bytes, coding).map(pair).collect()
}

/// Each list of the file: its name, and its vectors in order.
fn lists(version: Version, draft: DraftVersion) -> Vec<(&'static str, Vec<Value>)> {
    let json = |vectors: Vec<Vector>| vectors.iter().map(Vector::json).collect();
    vec![
        ("integers", json(data::integers(version))),
        ("messages", json(messages::vectors(version, draft))),
        ("subgroups", json(data::subgroups(version, draft))),
        ("fetches", json(data::fetches(version, draft))),
        ("datagrams", json(data::datagrams(version, draft))),
        ("properties", json(data::properties(version))),
        ("wrong", wrong::vectors(version, draft)),
    ]
}

/// A vector a line, so that a change shows as the lines it changes.
fn file(version: Version, draft: DraftVersion) -> String {
    let mut text = format!("{{\n  \"draft\": {:?}", draft_name(version));
    for (name, vectors) in lists(version, draft) {
        write!(text, ",\n  {name:?}: [").unwrap();
        for (index, vector) in vectors.iter().enumerate() {
            let separator = if index == 0 { "" } else { "," };
            write!(text, "{separator}\n    {vector}").unwrap();
        }
        text.push_str("\n  ]");
    }
    text.push_str("\n}\n");
    text
}

fn draft_name(version: Version) -> String {
    version.alpn().replace("moqt-", "draft-ietf-moq-transport-")
}

fn path(version: Version) -> PathBuf {
    let name = version.alpn().replace("moqt-", "draft-");
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/vectors/{name}.json"))
}

#[test]
fn the_vectors_are_what_the_codec_says() {
    let bless = std::env::var_os("BLESS_VECTORS").is_some();
    for (version, draft) in EVERY {
        let (path, now) = (path(version), file(version, draft));
        if bless {
            std::fs::write(&path, &now).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        let differing = kept.lines().zip(now.lines()).find(|(kept, now)| kept != now);
        assert!(
            kept == now,
            "{} differs from what the codec says; if that is meant, run again with \
             BLESS_VECTORS=1. First difference: {differing:#?}",
            path.display(),
        );
    }
}

/// A name tells a failing vector apart, in every test that reads the files.
#[test]
fn names_are_unique_within_a_list() {
    for (version, draft) in EVERY {
        for (list, vectors) in lists(version, draft) {
            let name = |vector: &Value| format!("{} {}", vector["kind"], vector["name"]);
            let mut names: Vec<_> = vectors.iter().map(name).collect();
            let all = names.len();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), all, "{version}, {list}");
        }
    }
}

/// A type that the codec knows is one that it misses the rest of, not one that it refuses.
#[test]
fn every_message_has_a_vector() {
    for (version, draft) in EVERY {
        let coding = version.int_coding();
        let mut written = BTreeSet::new();
        for vector in messages::vectors(version, draft) {
            written.insert(coding.read(&vector.bytes).unwrap().0);
        }
        for kind in 0..0x3000 {
            let mut bytes = BytesMut::new();
            coding.write(&mut bytes, kind);
            let known = common::decode(version, &bytes) == Ok(None);
            assert_eq!(known, written.contains(&kind), "{version}, message type {kind:#x}");
        }
    }
}

/// Whether the oracle refuses `bytes` as a control message.
fn oracle_refuses(draft: DraftVersion, bytes: &[u8]) -> bool {
    let mut rest = bytes;
    AnyControlMessage::decode(draft, &mut rest).is_err() || !rest.is_empty()
}

fn code_name(error: &ProtocolError) -> &'static str {
    error.code.name().expect("the codec closes with the draft's codes")
}

const VIOLATION: SessionCode = SessionCode::PROTOCOL_VIOLATION;
