//! How long calls took, in fixed buckets that cost two additions to fill.
//!
//! Bounds are close where a proxy's own share of a call lies (50 µs apart up to 300 µs), and
//! logarithmic from there to a minute.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds, inclusive, in microseconds; one more bucket holds what is longer.
pub(crate) const BOUNDS_US: [u64; 29] = [
    25, 50, 75, 100, 150, 200, 250, 300, 400, 500, 750, 1_000, 1_500, 2_000, 3_000, 5_000, 7_500,
    10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000,
    30_000_000, 60_000_000,
];
const BUCKETS: usize = BOUNDS_US.len() + 1;

/// Filled by calls, read by scrapes.
#[derive(Debug)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_ns: AtomicU64,
}

/// What a histogram held at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Durations {
    /// Not cumulative; the last one has no upper bound.
    pub(crate) buckets: [u64; BUCKETS],
    pub(crate) sum_ns: u64,
}

impl Histogram {
    pub(crate) fn observe(&self, duration: Duration) {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.partition_point(|bound| bound * 1_000 < ns);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Durations {
        Durations {
            buckets: std::array::from_fn(|at| self.buckets[at].load(Ordering::Relaxed)),
            sum_ns: self.sum_ns.load(Ordering::Relaxed),
        }
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: std::array::from_fn(|_| AtomicU64::new(0)),
            sum_ns: AtomicU64::new(0),
        }
    }
}

impl Durations {
    pub(crate) fn add(&mut self, other: &Self) {
        for (sum, more) in self.buckets.iter_mut().zip(other.buckets) {
            *sum += more;
        }
        self.sum_ns += other.sum_ns;
    }

    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    pub(crate) fn sum_seconds(&self) -> f64 {
        self.sum_ns as f64 / 1e9
    }

    /// Upper bounds in seconds, and how many calls each bucket holds by itself.
    pub(crate) fn in_seconds(&self) -> [(f64, u64); BUCKETS] {
        std::array::from_fn(|at| {
            let bound = BOUNDS_US.get(at);
            let bound = bound.map_or(f64::INFINITY, |it| *it as f64 / 1e6);
            (bound, self.buckets[at])
        })
    }
}

impl Default for Durations {
    fn default() -> Self {
        Self {
            buckets: [0; BUCKETS],
            sum_ns: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bucket_of(ns: u64) -> usize {
        let histogram = Histogram::default();
        histogram.observe(Duration::from_nanos(ns));
        let read = histogram.read();
        read.buckets.iter().position(|it| *it == 1).unwrap()
    }

    #[test]
    fn durations_50_microseconds_apart_are_told_apart_up_to_300() {
        let buckets: Vec<usize> = (1..=6).map(|step| bucket_of(step * 50_000)).collect();
        let mut distinct = buckets.clone();
        distinct.dedup();
        assert_eq!(buckets, distinct);
    }

    #[test]
    fn what_is_longer_than_a_minute_is_counted_too() {
        assert_eq!(bucket_of(60_000_000_001), BUCKETS - 1);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn bounds_grow() {
        assert!(BOUNDS_US.is_sorted_by(|low, high| low < high));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn a_bound_is_inclusive_and_the_one_below_is_not_reached(ns in 1..70_000_000_000_u64) {
            let bucket = bucket_of(ns);
            prop_assert!(BOUNDS_US.get(bucket).is_none_or(|bound| ns <= bound * 1_000));
            prop_assert!(bucket == 0 || ns > BOUNDS_US[bucket - 1] * 1_000);
        }
    }
}
