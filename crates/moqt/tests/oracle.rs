//! The codec against `moqtap-codec`, an implementation of the same drafts by other people: what
//! one writes the other reads, field by field, and both judge damaged bytes alike. Where they
//! differ the draft decides; each such place is named here with the draft's section.

mod common;
#[path = "oracle/control.rs"]
mod control;
#[path = "oracle/data.rs"]
mod data;
#[path = "oracle/session.rs"]
mod session;
#[path = "../../../fuzz/targets/mod.rs"]
mod targets;
#[path = "vectors/mod.rs"]
mod vectors;

use moqt::Version;
use moqtap_codec::fields::{FieldMap, FieldValue};
use moqtap_codec::version::DraftVersion;
use proptest::test_runner::Config as ProptestConfig;
use serde_json::{Map, Value};

const EVERY: [(Version, DraftVersion); 3] = [
    (Version::Draft16, DraftVersion::Draft16),
    (Version::Draft18, DraftVersion::Draft18),
    (Version::Draft22, DraftVersion::Draft22),
];

/// Seeds of failures are printed, not written beside the test: there is no one file to put them.
fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) }
}

/// The oracle's fields as the wire form has them.
fn json(fields: FieldMap) -> Value {
    let value = |(name, value)| (name, json_value(value));
    fields.into_iter().map(value).collect::<Map<_, _>>().into()
}

fn json_value(value: FieldValue) -> Value {
    match value {
        FieldValue::Uint(value) => Value::String(value.to_string()),
        FieldValue::Bool(value) => Value::Bool(value),
        FieldValue::Text(text) => Value::String(text),
        FieldValue::Bytes(bytes) => Value::String(common::wire_form::hex(&bytes)),
        FieldValue::Array(values) => values.into_iter().map(json_value).collect(),
        FieldValue::Map(fields) => json(fields),
    }
}
