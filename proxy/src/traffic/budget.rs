//! How many retries and hedges a destination can stand: a share of its calls, and a few a second.
//!
//! Invariant: whenever something is spent, what the window has spent is at most `ratio` × the calls of the window plus
//! `minPerSecond` × its seconds. So a destination that fails whole gets `1 + ratio` times its
//! calls, and never a storm.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::settings::Budget as Settings;

/// Seconds that calls and retries are remembered.
const WINDOW: usize = 10;

/// Calls and what was spent on repeating them, for all workers together.
#[derive(Debug)]
pub(crate) struct Budget {
    start: Instant,
    seconds: Mutex<Seconds>,
}

#[derive(Debug, Default)]
struct Seconds {
    slots: [Slot; WINDOW],
    /// The second of the newest slot.
    newest: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    calls: u32,
    spent: u32,
}

impl Budget {
    pub(crate) fn new(start: Instant) -> Self {
        Self {
            start,
            seconds: Mutex::default(),
        }
    }

    /// A call that may be repeated: it earns its share.
    pub(crate) fn earn(&self, now: Instant) {
        self.within(now, |seconds| {
            let slot = seconds.now();
            slot.calls = slot.calls.saturating_add(1);
        });
    }

    /// Returns whether one more repetition is affordable, and spends it.
    pub(crate) fn spend(&self, settings: &Settings, now: Instant) -> bool {
        self.within(now, |seconds| {
            let enough = seconds.left(settings) >= 1.0;
            let slot = seconds.now();
            slot.spent = slot.spent.saturating_add(u32::from(enough));
            enough
        })
    }

    /// How many repetitions are affordable now.
    pub(crate) fn left(&self, settings: &Settings, now: Instant) -> u64 {
        self.within(now, |seconds| seconds.left(settings).max(0.0) as u64)
    }

    fn within<T>(&self, now: Instant, act: impl FnOnce(&mut Seconds) -> T) -> T {
        let elapsed: Duration = now.saturating_duration_since(self.start);
        // Every change under this lock is complete before anything can panic.
        let mut seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        seconds.advance(elapsed.as_secs());
        act(&mut seconds)
    }
}

impl Seconds {
    /// A worker whose clock reading is a little older counts into the newest second.
    fn advance(&mut self, second: u64) {
        let passed = second.saturating_sub(self.newest);
        for step in 1..=passed.min(WINDOW as u64) {
            self.slots[slot_of(second - passed + step)] = Slot::default();
        }
        if passed > WINDOW as u64 {
            self.slots = [Slot::default(); WINDOW];
        }
        self.newest = self.newest.max(second);
    }

    fn left(&self, settings: &Settings) -> f64 {
        let calls: u64 = self.slots.iter().map(|it| u64::from(it.calls)).sum();
        let spent: u64 = self.slots.iter().map(|it| u64::from(it.spent)).sum();
        let reserve = u64::from(settings.min_per_second) * WINDOW as u64;
        let affordable = settings.ratio.max(0.0) * calls as f64 + reserve as f64;
        affordable - spent as f64
    }

    fn now(&mut self) -> &mut Slot {
        &mut self.slots[slot_of(self.newest)]
    }
}

fn slot_of(second: u64) -> usize {
    (second % WINDOW as u64) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settings(ratio: f64, min_per_second: u32) -> Settings {
        Settings {
            ratio,
            min_per_second,
        }
    }

    #[test]
    fn without_calls_and_reserve_nothing_is_affordable() {
        let now = Instant::now();
        assert!(!Budget::new(now).spend(&settings(1.0, 0), now));
    }

    #[test]
    fn five_calls_pay_for_one_retry_at_a_fifth() {
        let now = Instant::now();
        let budget = Budget::new(now);
        (0..5).for_each(|_| budget.earn(now));
        assert!(budget.spend(&settings(0.2, 0), now));
        assert!(!budget.spend(&settings(0.2, 0), now));
    }

    #[test]
    fn the_reserve_is_there_without_a_call() {
        let now = Instant::now();
        let budget = Budget::new(now);
        let spent = (0..100)
            .filter(|_| budget.spend(&settings(0.2, 3), now))
            .count();
        assert_eq!(spent, 3 * WINDOW);
    }

    #[test]
    fn old_calls_pay_for_nothing() {
        let now = Instant::now();
        let budget = Budget::new(now);
        (0..1000).for_each(|_| budget.earn(now));
        let later = now + Duration::from_secs(WINDOW as u64);
        assert!(!budget.spend(&settings(0.2, 0), later));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn no_window_spends_more_than_it_earned(
            ratio in 0.0f64..1.0, reserve in 0u32..3,
            steps in proptest::collection::vec((any::<bool>(), 0u64..1500), 1..150),
        ) {
            let start = Instant::now();
            let budget = Budget::new(start);
            let (mut elapsed, mut earned, mut spent) = (0, Vec::new(), Vec::new());
            for (earns, pause) in steps {
                elapsed += pause;
                let now = start + Duration::from_millis(elapsed);
                let second = elapsed / 1000;
                if earns {
                    budget.earn(now);
                    earned.push(second);
                } else if budget.spend(&settings(ratio, reserve), now) {
                    spent.push(second);
                    let lives = |at: &&u64| **at + WINDOW as u64 > second;
                    let calls = earned.iter().filter(lives).count();
                    let repeated = spent.iter().filter(lives).count();
                    let most = ratio * calls as f64 + f64::from(reserve) * WINDOW as f64;
                    prop_assert!(repeated as f64 <= most, "{repeated} of {most}");
                }
            }
        }
    }
}
