//! A token bucket in one atomic word, for all workers together.
//!
//! Invariant: in any span of time the requests let through are at most `burst` and the rate
//! times the span. The word is the time at which the bucket would be full again (the generic
//! cell rate algorithm), so a bucket that nobody asks costs nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::settings::Rate;

const SECOND: u64 = 1_000_000_000;

/// When the bucket is full again, in nanoseconds since the process's start. The rate is given
/// with each request: a change of it takes nobody's tokens away.
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    full_at: AtomicU64,
}

/// Too many requests. In this time there is a token again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exhausted {
    pub retry_after: Duration,
}

impl Bucket {
    /// Takes a token; `now` counts from any instant that stays the same.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn take(&self, rate: Rate, now: Duration) -> Result<(), Exhausted> {
        let now = nanoseconds(now);
        let step = step(rate);
        let room = step.saturating_mul(u64::from(rate.burst.max(1)));
        let mut full_at = self.full_at.load(Ordering::Relaxed);
        loop {
            let next = full_at.max(now).saturating_add(step);
            if next - now > room {
                let wait = Duration::from_nanos(next - now - room);
                return Err(Exhausted { retry_after: wait });
            }
            match self.full_at.compare_exchange_weak(
                full_at,
                next,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(()),
                Err(seen) => full_at = seen,
            }
        }
    }

    /// How many tokens there are.
    pub(crate) fn tokens(&self, rate: Rate, now: Duration) -> u64 {
        let now = nanoseconds(now);
        let step = step(rate);
        let room = step.saturating_mul(u64::from(rate.burst.max(1)));
        let used = self.full_at.load(Ordering::Relaxed).saturating_sub(now);
        room.saturating_sub(used) / step
    }

    /// Whether nothing would change if the bucket were a new one.
    pub(crate) fn is_full(&self, now: Duration) -> bool {
        self.full_at.load(Ordering::Relaxed) <= nanoseconds(now)
    }

    /// Gives a token back that was taken for a request which another limit refused.
    pub(crate) fn give_back(&self, rate: Rate) {
        let step = step(rate);
        // Saturates: a bucket is never fuller than full.
        let less = |full_at: u64| Some(full_at.saturating_sub(step));
        let _ = self
            .full_at
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
}

/// Between two requests at the steady rate; rounded up, so that rounding never lets more through.
fn step(rate: Rate) -> u64 {
    SECOND.div_ceil(u64::from(rate.requests_per_second.max(1)))
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(requests_per_second: u32, burst: u32) -> Rate {
        Rate {
            requests_per_second,
            burst,
        }
    }

    #[test]
    fn what_comes_after_the_burst_is_told_when_to_come_back() {
        let (bucket, rate) = (Bucket::default(), rate(10, 2));
        let now = Duration::from_secs(5);
        assert_eq!(bucket.take(rate, now), Ok(()));
        assert_eq!(bucket.take(rate, now), Ok(()));
        let exhausted = bucket.take(rate, now).unwrap_err();
        assert_eq!(exhausted.retry_after, Duration::from_millis(100));
        assert_eq!(bucket.take(rate, now + exhausted.retry_after), Ok(()));
    }

    #[test]
    fn a_bucket_left_alone_is_as_good_as_new() {
        let (bucket, rate) = (Bucket::default(), rate(10, 2));
        bucket.take(rate, Duration::ZERO).unwrap();
        assert_eq!(bucket.tokens(rate, Duration::from_millis(99)), 1);
        assert_eq!(bucket.tokens(rate, Duration::from_millis(100)), 2);
        assert!(!bucket.is_full(Duration::from_millis(99)));
        assert!(bucket.is_full(Duration::from_millis(100)));
    }

    #[test]
    fn a_token_given_back_can_be_taken() {
        let (bucket, rate) = (Bucket::default(), rate(1, 1));
        let now = Duration::from_secs(9);
        bucket.take(rate, now).unwrap();
        bucket.give_back(rate);
        assert_eq!(bucket.take(rate, now), Ok(()));
    }

    #[test]
    fn threads_together_get_no_more_than_the_burst() {
        let (bucket, rate) = (Bucket::default(), rate(1, 100));
        let take = || {
            (0..100)
                .filter(|_| bucket.take(rate, Duration::ZERO).is_ok())
                .count()
        };
        let taken = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            threads
                .into_iter()
                .map(|it| it.join().unwrap())
                .sum::<usize>()
        });
        assert_eq!(taken, 100);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn no_span_of_time_gets_more_than_burst_and_rate(
            per_second in 1u32..5000, burst in 1u32..50,
            pauses in proptest::collection::vec(0u64..20_000_000, 1..200),
        ) {
            let (bucket, rate) = (Bucket::default(), rate(per_second, burst));
            let mut now = 0;
            let mut passed: Vec<u64> = Vec::new();
            for pause in pauses {
                now += pause;
                if bucket.take(rate, Duration::from_nanos(now)).is_ok() {
                    passed.push(now);
                }
            }
            for (index, from) in passed.iter().enumerate() {
                for (count, to) in passed[index..].iter().enumerate() {
                    let allowed = f64::from(burst) + (to - from) as f64 * f64::from(per_second) / 1e9;
                    prop_assert!((count + 1) as f64 <= allowed + 1e-6);
                }
            }
        }
    }
}
