//! What an endpoint costs at present: a peak-sensitive moving average of its latency, times the
//! calls that are on their way to it.
//!
//! Invariant: the cost is positive and finite, jumps up with one slow answer, and only time and
//! fast answers bring it down. A failure counts as a slow answer, so that failing fast attracts
//! nobody.

use std::time::Duration;

use tokio::time::Instant;

/// What is assumed of an endpoint that nobody has called.
const UNKNOWN: Duration = Duration::from_millis(5);

/// After this long an observation counts for 1/e of what it did.
const DECAY: Duration = Duration::from_secs(10);

/// A failure counts as an answer that took this long, unless it took longer.
const FAILURE: Duration = Duration::from_secs(1);

/// The longest that an endpoint's wish to be left alone counts for.
const LONGEST_WISH: Duration = Duration::from_secs(30);

/// Below this, endpoints are equally fast: differences are noise.
const FLOOR: f64 = 10e-6;

/// Latency and calls in flight of one endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// Seconds, as of `at`.
    latency: f64,
    at: Instant,
    in_flight: u32,
}

impl Load {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            latency: UNKNOWN.as_secs_f64(),
            at: now,
            in_flight: 0,
        }
    }

    /// Latency × (in flight + 1), in seconds. The latency fades while nobody calls, so that an
    /// endpoint that was slow is tried again.
    pub(crate) fn cost(&self, now: Instant) -> f64 {
        let latency = (self.latency * self.kept(now)).max(FLOOR);
        latency * (f64::from(self.in_flight) + 1.0)
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight
    }

    pub(crate) fn begin(&mut self) {
        self.in_flight = self.in_flight.saturating_add(1);
    }

    /// A call's last byte has come, or it was given up.
    pub(crate) fn leave(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// The head of an answer came. The call is still in flight.
    pub(crate) fn answered(&mut self, took: Duration, now: Instant) {
        self.observe(took.as_secs_f64(), now);
    }

    /// A call failed, or was turned away for `wish`. It is still in flight.
    pub(crate) fn failed(&mut self, took: Duration, wish: Option<Duration>, now: Instant) {
        let wish = wish.unwrap_or_default().min(LONGEST_WISH);
        self.observe(took.max(FAILURE).max(wish).as_secs_f64(), now);
    }

    fn observe(&mut self, latency: f64, now: Instant) {
        let kept = self.kept(now);
        self.latency = if latency > self.latency * kept {
            latency
        } else {
            self.latency * kept + latency * (1.0 - kept)
        };
        self.at = now;
    }

    fn kept(&self, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(self.at);
        (-elapsed.as_secs_f64() / DECAY.as_secs_f64()).exp()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FAST: Duration = Duration::from_millis(1);

    fn settled(now: Instant) -> Load {
        let mut load = Load::new(now);
        load.begin();
        load.answered(FAST, now + 20 * DECAY);
        load.leave();
        load
    }

    #[test]
    fn failing_fast_costs_more_than_answering_slowly() {
        let now = Instant::now();
        let (mut failing, mut slow) = (Load::new(now), Load::new(now));
        failing.failed(Duration::ZERO, None, now);
        slow.answered(Duration::from_millis(500), now);
        assert!(failing.cost(now) > slow.cost(now));
    }

    #[test]
    fn one_slow_answer_raises_the_cost_at_once() {
        let now = Instant::now() + 20 * DECAY;
        let mut load = settled(Instant::now());
        let before = load.cost(now);
        load.answered(Duration::from_millis(300), now);
        assert!(load.cost(now) >= 0.3 && before < 0.01);
    }

    #[test]
    fn what_was_slow_is_forgotten_in_time() {
        let now = Instant::now();
        let mut load = settled(now);
        load.failed(Duration::ZERO, Some(Duration::from_secs(3600)), now);
        assert!(load.cost(now) <= LONGEST_WISH.as_secs_f64());
        assert!(load.cost(now + 30 * DECAY) <= FLOOR);
    }

    #[test]
    fn each_call_in_flight_raises_the_cost() {
        let now = Instant::now();
        let mut load = Load::new(now);
        let idle = load.cost(now);
        load.begin();
        load.begin();
        assert!((load.cost(now) - 3.0 * idle).abs() < 1e-9);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn the_cost_stays_positive_and_finite(
            steps in proptest::collection::vec((0u8..4, 0u64..10_000_000, 0u64..10_000_000), 0..60),
        ) {
            let mut now = Instant::now();
            let mut load = Load::new(now);
            for (what, took, pause) in steps {
                let took = Duration::from_micros(took);
                now += Duration::from_micros(pause);
                match what {
                    0 => load.begin(),
                    1 => load.answered(took, now),
                    2 => load.failed(took, Some(took), now),
                    _ => load.leave(),
                }
                prop_assert!(load.cost(now).is_finite() && load.cost(now) > 0.0);
            }
        }
    }
}
