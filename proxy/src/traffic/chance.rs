//! Draws: which of several, and whether a share of calls is meant.

use crypto::random::Random;

/// A share of calls, from 0 to 100, to a millionth.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub(crate) struct Percent(f64);

impl Percent {
    /// None outside 0 to 100.
    pub(crate) fn new(percent: f64) -> Option<Self> {
        (0.0..=100.0).contains(&percent).then_some(Self(percent))
    }

    /// Whether this call is one of the share.
    pub(crate) fn strikes(self, random: &mut dyn Random) -> bool {
        self.0 > 0.0 && random.unit() * 100.0 < self.0
    }
}

/// A number below `end`, each as likely; 0 if there is none.
pub(crate) fn below(end: usize, random: &mut dyn Random) -> usize {
    // The product can round up to `end` itself.
    ((random.unit() * end as f64) as usize).min(end.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use crypto::random::SeededRandom;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_share_is_below_nothing_or_above_all() {
        assert_eq!(Percent::new(-0.1), None);
        assert_eq!(Percent::new(100.1), None);
        assert_eq!(Percent::new(f64::NAN), None);
    }

    #[test]
    fn zero_strikes_nobody_and_a_hundred_all() {
        let mut random = SeededRandom::new(1);
        let (none, all) = (Percent::new(0.0).unwrap(), Percent::new(100.0).unwrap());
        assert!((0..1000).all(|_| !none.strikes(&mut random) && all.strikes(&mut random)));
    }

    #[test]
    fn a_share_strikes_about_as_often_as_it_says() {
        let mut random = SeededRandom::new(2);
        let share = Percent::new(5.0).unwrap();
        let struck = (0..10_000).filter(|_| share.strikes(&mut random)).count();
        assert!((400..600).contains(&struck), "{struck}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn a_draw_is_below_its_end(end in 1usize..50, seed: u64) {
            prop_assert!(below(end, &mut SeededRandom::new(seed)) < end);
        }
    }
}
