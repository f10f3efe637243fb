//! The random numbers of a link.

/// SplitMix64. Written out here so that a seed means the same run for good: the generators behind
/// `rand`'s names may change between releases, and a failing seed noted last year must still fail.
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Uniform in `0..=max`; the bias of the scaling is below 2⁻³² for every `max` a link uses.
    pub(crate) fn up_to(&mut self, max: u64) -> u64 {
        let scaled = u128::from(self.next_u64()) * (u128::from(max) + 1);
        (scaled >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_means_the_same_numbers_for_good() {
        let mut rng = Rng::new(0);
        assert_eq!(rng.next_u64(), 0xE220_A839_7B1D_CDAF);
        assert_eq!(rng.next_u64(), 0x6E78_9E6A_A1B9_65F4);
    }

    #[test]
    fn up_to_reaches_both_ends_and_nothing_beyond() {
        let mut rng = Rng::new(7);
        let seen: std::collections::BTreeSet<u64> = (0..200).map(|_| rng.up_to(3)).collect();
        assert_eq!(seen, (0..=3).collect());
    }
}
