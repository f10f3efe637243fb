//! What is fuzzed, as plain functions of bytes: libFuzzer's targets call them, and so do the
//! seeded tests of `crates/moqt`, which need no nightly compiler.

#![allow(dead_code, unused_imports, reason = "each user takes what it needs")]

mod entropy;
mod network;
mod streams;

use bytes::BytesMut;
use moqt::codec::{self, shared};
use moqt::{Message, Request, Version};

pub(crate) use entropy::Entropy;
pub(crate) use network::{Network, Tap};
pub(crate) use streams::{datagram, fetch, subgroup};

/// Reads messages; what could be read must be written and read again as the same.
pub(crate) fn codec(version: Version, data: &[u8]) {
    let mut buf = BytesMut::from(data);
    let mut again = BytesMut::new();
    if version == Version::Draft16 {
        while let Ok(Some(message)) = shared::decode(&mut buf) {
            shared::encode(&message, &mut again).expect("a message that was read can be written");
            assert_eq!(shared::decode(&mut again), Ok(Some(message)));
            assert!(again.is_empty());
        }
        return;
    }
    while let Ok(Some(message)) = codec::decode(version, &mut buf) {
        // What is not kept of a message is why it is refused.
        if has_invalid_filter(&message) {
            continue;
        }
        codec::encode(version, &message, &mut again)
            .expect("a message that was read can be written");
        assert_eq!(codec::decode(version, &mut again), Ok(Some(message)));
        assert!(again.is_empty());
    }
}

fn has_invalid_filter(message: &Message) -> bool {
    let parameters = match message {
        Message::Update(update) => &update.parameters,
        Message::Request { request, .. } => match request {
            Request::Subscribe(r) => &r.parameters,
            Request::Fetch(r) => &r.parameters,
            Request::SubscribeTracks(r) => &r.parameters,
            _ => return false,
        },
        _ => return false,
    };
    parameters.invalid_filter.is_some()
}

/// Two sessions and what their applications and their network may do: first all of it allowed,
/// and nobody may close; or with damage, and nobody may panic, go on after closing or grow.
pub(crate) fn session(data: &[u8]) {
    let mut entropy = Entropy::new(data);
    let version = *entropy.pick(Version::EVERY);
    let damage = entropy.flip();
    Network::new(version, damage, None).run(&mut entropy);
}
