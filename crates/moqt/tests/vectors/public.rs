//! Other people's vectors: `github.com/moqtap/test-vectors` (MIT), from a copy that is not ours to
//! keep. `MOQTAP_VECTORS` names its directory; the README beside this file says how to get it.

use std::path::Path;

use bytes::Bytes;
use moqt::{Datagram, ProtocolError, Version};
use serde_json::Value;

use super::super::data::{Outcome, our_subgroup};
use super::{bytes_of, common};

/// What our codec makes of a vector: taken, or why not.
fn judge(version: Version, file: &str, bytes: &[u8]) -> Option<Result<(), String>> {
    let words = |error: ProtocolError| error.to_string();
    Some(match file {
        "varint" => match version.int_coding().read(bytes) {
            Some((_, length)) if length == bytes.len() => Ok(()),
            read => Err(format!("{read:?}")),
        },
        "subgroup" => match our_subgroup(version, bytes).2 {
            Outcome::Clean => Ok(()),
            other => Err(format!("{other:?}")),
        },
        "datagram" => Datagram::decode(Bytes::copy_from_slice(bytes), version.int_coding())
            .map(drop)
            .map_err(words),
        "fetch-header" => return None,
        _ => match common::decode(version, bytes) {
            Ok(Some(message)) => match common::encode(version, &message) {
                Ok(_) => Ok(()),
                Err(error) => Err(error.to_string()),
            },
            Ok(None) => Err("not whole".into()),
            Err(error) => Err(words(error)),
        },
    })
}

/// Vectors that the draft contradicts.
const AGAINST_THE_DRAFT: [&str; 4] = [
    // "Key-Value-Pair Structure": a type is the difference to the one before; these are not.
    "draft16/fetch/with-params",
    "draft16/publish-ok/with-params",
    // "Message Parameters": an unknown one closes the session; only setup's are ignored.
    "draft16/subscribe/unknown-extension-param",
    // "Object Extension Headers": only an object with status Normal can have them.
    "draft16/subgroup/subgroup-extensions-status-object",
];

fn files(directory: &Path, into: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "json") {
            into.push(path);
        }
    }
}

#[test]
#[ignore = "needs MOQTAP_VECTORS, the directory of a copy of moqtap/test-vectors"]
fn public_vectors_are_judged_alike() {
    let directory = std::env::var_os("MOQTAP_VECTORS").expect("MOQTAP_VECTORS names a directory");
    let directory = Path::new(&directory);
    let mut read = 0;
    let mut differ = Vec::new();
    for version in [Version::Draft16, Version::Draft18] {
        let draft = version.alpn().replace("moqt-", "draft");
        let mut all = Vec::new();
        files(&directory.join("transport").join(&draft).join("codec"), &mut all);
        for path in all {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let file: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            for vector in file["vectors"].as_array().unwrap() {
                let bytes = bytes_of(vector["hex"].as_str().unwrap());
                let Some(ours) = judge(version, &name, &bytes) else { continue };
                read += 1;
                let id = format!("{draft}/{name}/{}", vector["id"].as_str().unwrap());
                let alike = ours.is_ok() == vector["error"].is_null();
                if alike == AGAINST_THE_DRAFT.contains(&&*id) {
                    differ.push(format!("{id}: ours {ours:?}, theirs {vector}"));
                }
            }
        }
    }
    assert!(read > 0, "no vectors below {}", directory.display());
    assert!(differ.is_empty(), "{} of {read} differ:\n{}", differ.len(), differ.join("\n"));
}
