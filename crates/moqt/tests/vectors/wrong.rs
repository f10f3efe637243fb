//! Bytes that break a draft's rules, and the code that the session must be closed with.

use bytes::Bytes;
use moqt::{Datagram, GroupOrder, Properties, ProtocolError, SessionCode, Version};
use serde_json::{Value, json};

use super::super::data::{
    Outcome, datagrams_agree, fetches_agree, our_fetch, our_subgroup, subgroups_agree,
};
use super::{DraftVersion, Kind, VIOLATION, bytes_of, code_name, common, hex, oracle_refuses};

struct Wrong {
    name: &'static str,
    kind: Kind,
    bytes: Vec<u8>,
    code: SessionCode,
    /// Whether the oracle refuses it too; it does not look at everything.
    oracle: bool,
}

pub(super) fn vectors(version: Version, draft: DraftVersion) -> Vec<Value> {
    let all = messages(version).into_iter().chain(data(version));
    all.map(|wrong| {
        let Wrong { name, kind, bytes, code, oracle } = &wrong;
        let error = refusal(version, *kind, bytes)
            .unwrap_or_else(|| panic!("{version}, {name}: {} is taken", hex(bytes)));
        assert_eq!(error, *code, "{version}, {name}");
        let judged = match kind {
            Kind::Message => {
                assert_eq!(oracle_refuses(draft, bytes), *oracle, "{version}, {name}: the oracle");
                Ok(())
            }
            Kind::Subgroup => subgroups_agree((version, draft), bytes).map(drop),
            Kind::Fetch => fetches_agree((version, draft), GroupOrder::Ascending, bytes).map(drop),
            Kind::Datagram => datagrams_agree((version, draft), bytes),
            // The oracle reads them inside of the others.
            Kind::Properties => Ok(()),
        };
        judged.unwrap_or_else(|error| panic!("{version}, {name}: {error}"));
        json!({
            "name": name,
            "kind": kind.name(),
            "hex": hex(bytes),
            "error": code.name(),
        })
    })
    .collect()
}

/// The code that the bytes are refused with, when they are all that comes.
fn refusal(version: Version, kind: Kind, bytes: &[u8]) -> Option<SessionCode> {
    let coding = version.int_coding();
    let code = |error: ProtocolError| {
        code_name(&error);
        error.code
    };
    // "If a stream ends gracefully in the middle of a serialized Object, the session SHOULD be
    // closed with a PROTOCOL_VIOLATION" ("Closing Subgroup Streams").
    let of_stream = |outcome| match outcome {
        Outcome::Clean => None,
        Outcome::Incomplete | Outcome::Refused(_) => Some(VIOLATION),
    };
    match kind {
        Kind::Message => common::decode(version, bytes).err().map(code),
        Kind::Subgroup => of_stream(our_subgroup(version, bytes).2),
        Kind::Fetch => of_stream(our_fetch(version, GroupOrder::Ascending, bytes).1),
        Kind::Datagram => Datagram::decode(Bytes::copy_from_slice(bytes), coding).err().map(code),
        Kind::Properties => {
            Properties::decode(Bytes::copy_from_slice(bytes), coding).err().map(code)
        }
    }
}

/// Collects the messages of one draft.
struct Messages {
    version: Version,
    all: Vec<Wrong>,
}

impl Messages {
    /// A message by its type and payload; its length is the payload's.
    fn add(&mut self, name: &'static str, kind: u64, payload: impl AsRef<[u8]>) -> &mut Wrong {
        let mut bytes = bytes::BytesMut::new();
        self.version.int_coding().write(&mut bytes, kind);
        let payload = payload.as_ref();
        bytes.extend_from_slice(&(payload.len() as u16).to_be_bytes());
        bytes.extend_from_slice(payload);
        let bytes = bytes.to_vec();
        self.all.push(Wrong { name, kind: Kind::Message, bytes, code: VIOLATION, oracle: true });
        self.all.last_mut().expect("just pushed")
    }

    /// A SUBSCRIBE of request 4, track `a` / `v`, with these parameters, counted.
    fn subscribe(&mut self, name: &'static str, parameters: &str) -> &mut Wrong {
        self.add(name, SUBSCRIBE, bytes_of(&format!("04 01 01 61 01 76 {parameters}")))
    }
}

const SUBSCRIBE: u64 = 0x03;
const SUBSCRIBE_OK: u64 = 0x04;
const REQUEST_ERROR: u64 = 0x05;
const PUBLISH_DONE: u64 = 0x0b;
const FETCH: u64 = 0x16;
const FETCH_OK: u64 = 0x18;
const SETUP: u64 = 0x2f00;
const CLIENT_SETUP: u64 = 0x20;

/// Control messages. Integers below 64 are one and the same byte in every draft.
fn messages(version: Version) -> Vec<Wrong> {
    let mut wrong = Messages { version, all: Vec::new() };
    let v16 = version == Version::Draft16;
    // The Request ID that draft 16's answers begin with.
    let to = if v16 { "04" } else { "" };
    let answer = |fields: &str| bytes_of(&format!("{to} {fields}"));

    wrong.add("a message of unknown type", 0x3f, "");
    wrong.add("a message that is longer than its fields", PUBLISH_DONE, answer("02 0c 00 ff"));
    wrong.add("a message that is shorter than its fields", PUBLISH_DONE, answer("02 0c 05 61"));
    wrong.add("an integer that is cut off", PUBLISH_DONE, answer("ff"));
    wrong.add("a namespace field without a byte", SUBSCRIBE, bytes_of("04 01 00 01 76 00"));
    let fields = "01 61".repeat(33);
    let many = bytes_of(&format!("04 21 {fields} 01 76 00"));
    wrong.add("a namespace of 33 fields", SUBSCRIBE, many);
    let long = match version {
        Version::Draft16 => "5000",
        _ => "9000",
    };
    let field = "61".repeat(4096);
    let long = bytes_of(&format!("04 01 {long} {field} 01 76 00"));
    wrong.add("a full track name of 4097 bytes", SUBSCRIBE, long);
    let long = match version {
        Version::Draft16 => "4401",
        _ => "8401",
    };
    let reason = "61".repeat(1025);
    let long = answer(&format!("10 00 {long} {reason}"));
    wrong.add("a reason of 1025 bytes", REQUEST_ERROR, long);

    wrong.subscribe("more parameters announced than there are", "02 20 05");
    wrong.subscribe("a parameter twice", "02 10 01 00 01");
    wrong.subscribe("FORWARD of 2", "01 10 02");
    wrong.subscribe("GROUP_ORDER of 3", "01 22 03");
    wrong.subscribe("an unknown parameter", "01 3e 00");
    if v16 {
        wrong.subscribe("a filter of unknown type", "01 21 01 09");
        wrong.subscribe("a filter that ends before it starts", "01 21 04 04 05 00 03").oracle =
            false;
        wrong.subscribe("a filter that is cut off", "01 21 02 03 05");
        wrong.subscribe("DELIVERY_TIMEOUT of 0", "01 02 00");
        wrong.subscribe("SUBSCRIBER_PRIORITY of 256", "01 20 4100");
    } else {
        let (unknown, cut) = match version {
            Version::Draft18 => ("01 21 01 09", "01 21 02 03 05"),
            _ => ("01 21 09", "01 21 02 05"),
        };
        wrong.subscribe("a filter of unknown type", unknown);
        wrong.subscribe("a filter that is cut off", cut);
        if version == Version::Draft18 {
            let long = wrong.subscribe("a filter with a byte too many", "01 21 02 02 00");
            long.code = SessionCode::KEY_VALUE_FORMATTING_ERROR;
        }
        wrong.subscribe("a parameter of another message", "01 08 05");
    }
    let token = wrong.subscribe("a token of unknown alias type", "01 03 02 09 00");
    token.code = SessionCode::KEY_VALUE_FORMATTING_ERROR;
    let token = wrong.subscribe("a token that is cut off", "01 03 01 01");
    token.code = SessionCode::KEY_VALUE_FORMATTING_ERROR;

    if version < Version::Draft22 {
        wrong.add("FETCH of unknown type", FETCH, bytes_of("08 09 04 00 00"));
    }
    wrong.add("FETCH_OK with End Of Track 2", FETCH_OK, answer("02 05 05 00")).oracle = false;
    let dynamic = wrong.add("DYNAMIC_GROUPS of 2", SUBSCRIBE_OK, answer("07 00 30 02"));
    dynamic.oracle = true;
    wrong.add("a property that is cut off", SUBSCRIBE_OK, answer("07 00 0d 05 61"));

    if v16 {
        wrong.add(
            "CLIENT_SETUP with MAX_REQUEST_ID twice",
            CLIENT_SETUP,
            bytes_of("02 02 05 00 05"),
        );
        wrong.add("CLIENT_SETUP that counts wrong", CLIENT_SETUP, bytes_of("02 02 05"));
    } else {
        let redirect = "34 00 00";
        wrong.add("a redirect without where to", REQUEST_ERROR, answer(redirect));
        wrong.add("SETUP with PATH twice", SETUP, bytes_of("01 01 61 00 01 61"));
        wrong.add("SETUP with an option that is cut off", SETUP, bytes_of("07 05 61"));
        let over = bytes_of("02 00 ff ffffffffffffffff 00");
        wrong.add("SETUP with an option above type 2^64-1", SETUP, over);
    }
    wrong.all
}

/// Streams that end after these bytes, and datagrams.
fn data(version: Version) -> Vec<Wrong> {
    use Kind::{Datagram, Fetch, Properties, Subgroup};
    let mut all = vec![
        (Subgroup, "a stream of unknown type", "07 07 05"),
        (Subgroup, "the reserved Subgroup ID mode", "36 07 05 00"),
        (Subgroup, "a stream that ends inside its header", "30 07"),
        (Subgroup, "a stream that ends inside an object's head", "30 07 05 00"),
        (Subgroup, "a stream that ends inside a payload", "30 07 05 00 04 6161"),
        (Subgroup, "an unknown Object Status", "30 07 05 00 00 02"),
        (Subgroup, "properties of a group's end", "31 07 05 00 02 10 05 00 03"),
        (Subgroup, "an object after the group's end", "30 07 05 00 00 03 00 01 61"),
        (Subgroup, "an object after the track's end", "30 07 05 00 00 04 00 01 61"),
        (Subgroup, "properties that end inside a pair", "31 07 05 00 02 0d 05 01 61"),
        (Fetch, "a first object that refers to one before", "05 08 04 00 01 61"),
        (Fetch, "a stream that ends inside a payload", "05 08 1c 05 00 40 04 6161"),
        (Fetch, "properties that end inside a pair", "05 08 3c 05 00 40 02 0d 05 01 61"),
        (Datagram, "a datagram of unknown type", "10 07 05 00"),
        (Datagram, "a status of a group's last object", "2a 07 05 00 03"),
        (Datagram, "a datagram that is cut off", "08 07"),
        (Datagram, "a datagram that announces no properties", "0d 07 05 00 61"),
        (Datagram, "a status with a payload", "2c 07 05 03 61"),
        (Datagram, "an unknown Object Status", "2c 07 05 02"),
        (Datagram, "properties of a track's end", "2d 07 05 02 10 05 04"),
        (Properties, "a pair without a value", "10"),
        (Properties, "a value that is cut off", "0d 05 61"),
    ];
    let own: &[(Kind, &'static str, &'static str)] = match version {
        Version::Draft16 => &[
            (Subgroup, "the bit of a first object", "4070 07 05 00 01 61"),
            (Subgroup, "an Object ID above 2^62-1", "30 07 05 ffffffffffffffff 01 61 00 01 61"),
            (Fetch, "unknown flags", "05 08 40c0 05 00 40 01 61"),
            (Fetch, "objects out of order", "05 08 1c 05 04 40 01 61 04 02 01 61"),
            (Properties, "a value of 65536 bytes", "0d 80010000"),
        ],
        _ => &[
            (Subgroup, "an Object ID above 2^64-1", "30 07 05 ffffffffffffffffff 01 61 00 01 61"),
            (Fetch, "unknown flags", "05 08 80c0 05 00 40 01 61"),
            (Fetch, "objects out of order", "05 08 1c 05 04 40 01 61 04 00 01 61"),
            (Properties, "a type above 2^64-1", "02 00 ffffffffffffffffff 00"),
            (Properties, "a value of 65536 bytes", "0d c10000"),
        ],
    };
    all.extend_from_slice(own);
    all.into_iter()
        .map(|(kind, name, hex)| {
            let bytes = bytes_of(hex);
            Wrong { name, kind, bytes, code: VIOLATION, oracle: true }
        })
        .collect()
}
