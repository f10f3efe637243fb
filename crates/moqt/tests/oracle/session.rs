//! Whole sessions: whatever one of ours sends in a life full of accidents, the oracle can read.

use std::collections::HashMap;

use moqt::StreamId;
use moqtap_codec::dispatch::AnyControlMessage;

use super::common::Seeded;
use super::common::wire_form::hex;
use super::targets::{Entropy, Network};
use super::*;

fn lives((version, draft): (Version, DraftVersion)) {
    let mut kinds = std::collections::BTreeSet::new();
    for seed in 0..300 {
        let mut streams: HashMap<(usize, Option<StreamId>), Vec<u8>> = HashMap::new();
        let mut tap = |sender: usize, stream: Option<StreamId>, bytes: &[u8]| {
            let waiting = streams.entry((sender, stream)).or_default();
            waiting.extend_from_slice(bytes);
            while !waiting.is_empty() {
                let mut rest = &waiting[..];
                let message = AnyControlMessage::decode(draft, &mut rest)
                    .unwrap_or_else(|error| panic!("{error:?} in {}", hex(waiting)));
                kinds.insert(message.message_type_name());
                let taken = waiting.len() - rest.len();
                waiting.drain(..taken);
            }
        };
        let entropy = Seeded(seed).bytes(1200);
        let network = Network::new(version, false, Some(&mut tap));
        network.run(&mut Entropy::new(&entropy));
    }
    // A life in which nothing happens proves nothing.
    let every = match version {
        Version::Draft16 => 21,
        Version::Draft18 => 18,
        Version::Draft22 => 19,
    };
    assert!(kinds.len() >= every, "{version} had only {kinds:?}");
}

#[test]
fn the_oracle_reads_all_that_sessions_of_draft_16_send() {
    lives(EVERY[0]);
}

#[test]
fn the_oracle_reads_all_that_sessions_of_draft_18_send() {
    lives(EVERY[1]);
}

#[test]
fn the_oracle_reads_all_that_sessions_of_draft_22_send() {
    lives(EVERY[2]);
}
