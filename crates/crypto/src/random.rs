//! Randomness as a parameter: what is drawn comes from a [`Random`] that the caller passes, so
//! that jitter and identifiers can be tested. Keys are made by the backend from the operating
//! system alone, never from a seeded source.

use crate::backend;

/// A source of random bytes.
pub trait Random: Send {
    /// Fills the whole of `out`.
    fn fill(&mut self, out: &mut [u8]);

    /// `N` random bytes.
    fn bytes<const N: usize>(&mut self) -> [u8; N]
    where
        Self: Sized,
    {
        let mut out = [0; N];
        self.fill(&mut out);
        out
    }

    /// A number drawn evenly from `[0, 1)`, with 53 bits of resolution.
    fn unit(&mut self) -> f64 {
        let mut out = [0; 8];
        self.fill(&mut out);
        (u64::from_le_bytes(out) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// The operating system's random source.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&mut self, out: &mut [u8]) {
        backend::fill_random(out).expect("the kernel's random source does not fail once booted");
    }
}

/// A deterministic source for tests. It is **not** secret: every byte follows from the seed.
#[derive(Clone, Debug)]
pub struct SeededRandom {
    state: u64,
}

impl SeededRandom {
    /// The source whose whole sequence `seed` decides.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// One step of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number
    /// generators", 2014).
    fn step(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl Random for SeededRandom {
    fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            let bytes = self.step().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_system_never_repeats_itself() {
        let first: [u8; 32] = SystemRandom.bytes();
        let second: [u8; 32] = SystemRandom.bytes();
        assert_ne!(first, second);
    }

    #[test]
    fn a_seed_decides_the_sequence() {
        let first: [u8; 20] = SeededRandom::new(7).bytes();
        let again: [u8; 20] = SeededRandom::new(7).bytes();
        let other: [u8; 20] = SeededRandom::new(8).bytes();
        assert_eq!(first, again);
        assert_ne!(first, other);
    }

    /// First outputs of SplitMix64 for seed 0, from the published reference.
    #[test]
    fn the_seeded_source_is_splitmix64() {
        let mut random = SeededRandom::new(0);
        assert_eq!(random.step(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(random.step(), 0x6e78_9e6a_a1b9_65f4);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn a_unit_lies_in_the_half_open_interval(seed: u64) {
            let unit = SeededRandom::new(seed).unit();
            prop_assert!((0.0..1.0).contains(&unit));
        }
    }
}
