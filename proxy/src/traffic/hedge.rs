//! A second attempt beside the first, when that is slow; whoever answers first is passed on.
//!
//! Invariant: only requests that are safe to repeat (GET, HEAD, OPTIONS) are hedged, never more
//! than `limit` times, and each spends the retry budget.

use http::Method;
use tokio::time::Instant;

use super::budget::Budget;
use super::settings::{Budget as BudgetSettings, Hedge};

/// One call's hedges.
#[derive(Debug)]
pub(crate) struct Hedges<'a> {
    plan: Option<Plan<'a>>,
    started: Instant,
    made: u32,
}

#[derive(Debug)]
struct Plan<'a> {
    hedge: &'a Hedge,
    budget: &'a Budget,
    settings: BudgetSettings,
}

impl<'a> Hedges<'a> {
    /// `replayable`: whether the request, with all of its body, is still here.
    pub(crate) fn new(
        hedge: Option<(&'a Hedge, &'a Budget, BudgetSettings)>,
        method: &Method,
        replayable: bool,
        started: Instant,
    ) -> Self {
        let meant = replayable && policy::Hedge::permits(method.as_str());
        let plan = hedge
            .filter(|_| meant)
            .map(|(hedge, budget, settings)| Plan {
                hedge,
                budget,
                settings,
            });
        Self {
            plan,
            started,
            made: 0,
        }
    }

    /// When to ask [`Hedges::begin`]; `None` if there is no further hedge.
    pub(crate) fn due(&self) -> Option<Instant> {
        let plan = self.plan.as_ref()?;
        let more = self.made < plan.hedge.limit;
        more.then(|| self.started + plan.hedge.after * (self.made + 1))
    }

    /// Whether another attempt begins now. An empty budget ends the hedging of this call.
    pub(crate) fn begin(&mut self, now: Instant) -> bool {
        let Some(plan) = self
            .plan
            .as_ref()
            .filter(|_| self.due().is_some_and(|at| now >= at))
        else {
            return false;
        };
        let affordable = plan.budget.spend(&plan.settings, now);
        if affordable {
            self.made += 1;
        } else {
            self.plan = None;
        }
        affordable
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const AFTER: Duration = Duration::from_millis(50);
    const HEDGE: Hedge = Hedge {
        after: AFTER,
        limit: 2,
    };

    fn settings(min_per_second: u32) -> BudgetSettings {
        BudgetSettings {
            ratio: 0.0,
            min_per_second,
        }
    }

    #[test]
    fn only_safe_methods_with_a_body_at_hand_are_hedged() {
        let now = Instant::now();
        let budget = Budget::new(now);
        let due = |method, replayable| {
            Hedges::new(
                Some((&HEDGE, &budget, settings(1))),
                &method,
                replayable,
                now,
            )
            .due()
        };
        assert_eq!(due(Method::POST, true), None);
        assert_eq!(due(Method::PUT, true), None);
        assert_eq!(due(Method::DELETE, true), None);
        assert_eq!(due(Method::GET, false), None);
        assert_eq!(due(Method::HEAD, true), Some(now + AFTER));
    }

    #[test]
    fn hedges_are_a_step_apart_and_end_at_the_limit() {
        let now = Instant::now();
        let budget = Budget::new(now);
        let mut hedges = Hedges::new(
            Some((&HEDGE, &budget, settings(1))),
            &Method::GET,
            true,
            now,
        );
        assert!(!hedges.begin(now + AFTER / 2));
        assert!(hedges.begin(now + AFTER));
        assert!(!hedges.begin(now + AFTER));
        assert!(hedges.begin(now + 2 * AFTER));
        assert_eq!(hedges.due(), None);
        assert!(!hedges.begin(now + 9 * AFTER));
    }

    #[test]
    fn an_empty_budget_ends_hedging() {
        let now = Instant::now();
        let budget = Budget::new(now);
        let mut hedges = Hedges::new(
            Some((&HEDGE, &budget, settings(0))),
            &Method::GET,
            true,
            now,
        );
        assert!(!hedges.begin(now + AFTER));
        assert_eq!(hedges.due(), None);
    }
}
