//! Which of a rule's backends a call goes to, and whether a copy of it goes to another.

use crypto::random::Random;

use super::chance::{Percent, below};

/// Backends with their weights. At least one has a weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Backends<B> {
    /// Each with the sum of the weights up to and with its own; those without weight are left
    /// out.
    sums: Vec<(u64, B)>,
}

/// A copy of a share of the calls goes there; its answer is thrown away.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Mirror<B> {
    pub to: B,
    pub share: Percent,
}

impl<B> Backends<B> {
    /// None if no backend has a weight: then nobody could be called.
    pub(crate) fn new(backends: impl IntoIterator<Item = (B, u32)>) -> Option<Self> {
        let mut sum = 0;
        let weighted = backends.into_iter().filter(|(_, weight)| *weight > 0);
        let sums: Vec<(u64, B)> = weighted
            .map(|(backend, weight)| {
                sum += u64::from(weight);
                (sum, backend)
            })
            .collect();
        (!sums.is_empty()).then_some(Self { sums })
    }

    /// Draws one, each as often as its weight says. The attempts of one call stay with it.
    pub(crate) fn draw(&self, random: &mut dyn Random) -> &B {
        let total = self.sums.last().map_or(0, |(sum, _)| *sum);
        let drawn = below(usize::try_from(total).unwrap_or(usize::MAX), random) as u64;
        let index = self.sums.partition_point(|(sum, _)| *sum <= drawn);
        &self.sums[index.min(self.sums.len() - 1)].1
    }

    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &B> {
        self.sums.iter().map(|(_, backend)| backend)
    }
}

impl<B> Mirror<B> {
    /// Where a copy of this call goes, if it is one of the share.
    pub(crate) fn draw(&self, random: &mut dyn Random) -> Option<&B> {
        self.share.strikes(random).then_some(&self.to)
    }
}

#[cfg(test)]
mod tests {
    use crypto::random::SeededRandom;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn without_any_weight_there_is_nobody_to_call() {
        assert_eq!(Backends::new([("orders", 0)]), None);
        assert_eq!(Backends::<&str>::new([]), None);
    }

    #[test]
    fn a_backend_without_weight_is_never_drawn() {
        let backends = Backends::new([("old", 0), ("new", 1)]).unwrap();
        let mut random = SeededRandom::new(1);
        assert!((0..1000).all(|_| *backends.draw(&mut random) == "new"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn calls_are_spread_by_weight(weights in proptest::collection::vec(0u32..10, 1..5), seed: u64) {
            prop_assume!(weights.iter().any(|it| *it > 0));
            let total = f64::from(weights.iter().sum::<u32>());
            let backends = Backends::new(weights.iter().copied().enumerate()).unwrap();
            let mut random = SeededRandom::new(seed);
            let mut calls = vec![0.0; weights.len()];
            (0..4000).for_each(|_| calls[*backends.draw(&mut random)] += 1.0);
            for (got, weight) in calls.iter().zip(&weights) {
                let share = f64::from(*weight) / total;
                prop_assert!((got / 4000.0 - share).abs() < 0.06, "{got} for {share}");
            }
        }
    }
}
