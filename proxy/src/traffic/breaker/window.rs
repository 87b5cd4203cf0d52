//! Successes and failures of the last while, in ten slots.

use std::time::Duration;

use tokio::time::Instant;

use crate::traffic::settings::SuccessRate;

const SLOTS: usize = 10;

/// Counts over a sliding time, exact to a tenth of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    slots: [Slot; SLOTS],
    newest: usize,
    newest_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    successes: u32,
    failures: u32,
}

impl Window {
    pub(super) fn record(&mut self, success: bool, over: Duration, now: Instant) {
        self.advance(over, now);
        let slot = &mut self.slots[self.newest];
        let count = if success {
            &mut slot.successes
        } else {
            &mut slot.failures
        };
        *count = count.saturating_add(1);
    }

    pub(super) fn is_below(&self, rate: &SuccessRate) -> bool {
        let successes: u64 = self.slots.iter().map(|it| u64::from(it.successes)).sum();
        let failures: u64 = self.slots.iter().map(|it| u64::from(it.failures)).sum();
        let all = successes + failures;
        all >= u64::from(rate.min_requests.max(1)) && (successes as f64) < rate.below * all as f64
    }

    fn advance(&mut self, over: Duration, now: Instant) {
        let width = (over / SLOTS as u32).max(Duration::from_millis(1));
        let Some(at) = self.newest_at else {
            self.newest_at = Some(now);
            return;
        };
        let passed = now.saturating_duration_since(at).as_nanos() / width.as_nanos();
        let Ok(passed) = u32::try_from(passed) else {
            *self = Self {
                newest_at: Some(now),
                ..Self::default()
            };
            return;
        };
        for _ in 0..passed.min(SLOTS as u32) {
            self.newest = (self.newest + 1) % SLOTS;
            self.slots[self.newest] = Slot::default();
        }
        self.newest_at = Some(at + width * passed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: SuccessRate = SuccessRate {
        below: 0.8,
        over: Duration::from_secs(10),
        min_requests: 20,
    };

    fn window(successes: u32, failures: u32, now: Instant) -> Window {
        let mut window = Window::default();
        (0..successes).for_each(|_| window.record(true, RATE.over, now));
        (0..failures).for_each(|_| window.record(false, RATE.over, now));
        window
    }

    #[test]
    fn few_requests_say_nothing() {
        assert!(!window(0, 19, Instant::now()).is_below(&RATE));
        assert!(window(0, 20, Instant::now()).is_below(&RATE));
    }

    #[test]
    fn a_rate_at_the_threshold_is_not_below_it() {
        assert!(!window(16, 4, Instant::now()).is_below(&RATE));
        assert!(window(15, 5, Instant::now()).is_below(&RATE));
    }

    #[test]
    fn what_is_older_than_the_window_no_longer_counts() {
        let now = Instant::now();
        let mut window = window(0, 100, now);
        window.record(true, RATE.over, now + Duration::from_secs(9));
        assert!(window.is_below(&RATE));
        window.record(true, RATE.over, now + Duration::from_secs(10));
        assert!(!window.is_below(&RATE));
    }

    #[test]
    fn a_pause_of_any_length_empties_it() {
        let now = Instant::now();
        let mut window = window(0, 100, now);
        window.record(
            true,
            Duration::from_millis(1),
            now + Duration::from_secs(1 << 33),
        );
        assert!(!window.is_below(&RATE));
    }
}
