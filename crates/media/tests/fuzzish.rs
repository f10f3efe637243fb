//! The fuzzer's catalog target as an ordinary test: catalogs with a few bytes changed, from a fixed
//! seed. `WEIR_FUZZ_ROUNDS` asks for more.

#[path = "../../../fuzz/targets/catalog.rs"]
mod target;

use proptest::prelude::*;

const SEEDS: [&[u8]; 3] = [
    include_bytes!("../../../fuzz/seeds/catalog/live.json"),
    include_bytes!("../../../fuzz/seeds/catalog/complete.json"),
    include_bytes!("../../../fuzz/seeds/catalog/older.json"),
];

/// What JSON is made of, so that many a change leaves a catalog.
const BYTES: &[u8] = b"{}[]\",:0123456789eE+-.truefalsn \\u\xff\x00";

fn config() -> ProptestConfig {
    let asked = std::env::var("WEIR_FUZZ_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    ProptestConfig { cases: asked.unwrap_or(5_000), ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn catalog(
        seed in prop::sample::select(&SEEDS[..]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0..BYTES.len(), 0..3), 0..4),
    ) {
        let mut json = seed.to_vec();
        for (at, byte, how) in changes {
            let at = at.index(json.len());
            match how {
                0 => json[at] = BYTES[byte],
                1 => json.insert(at, BYTES[byte]),
                _ => {
                    json.remove(at);
                }
            }
        }
        target::catalog(&json);
    }
}
