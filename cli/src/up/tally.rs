//! What the demonstration's programs saw of their calls, and whether that is as it must be.
//!
//! Invariant: a call counts once, as what its caller saw; proxies' records are not asked.

use crate::demo::Report;

/// A program of the demonstration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Serves.
    Orders,
    /// Calls, and may.
    Checkout,
    /// Calls, and may not.
    Intruder,
}

impl Role {
    pub(super) const ALL: [Self; 3] = [Self::Orders, Self::Checkout, Self::Intruder];

    /// Its name: that of its workload in `shop`, and of its program.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::Checkout => "checkout",
            Self::Intruder => "intruder",
        }
    }
}

/// Counts of calls, as the callers saw them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Permitted calls that were answered.
    pub(super) allowed: u64,
    /// Forbidden calls that were refused by policy.
    pub(super) denied: u64,
    /// Calls with neither an answer nor a refusal by policy that was due.
    pub(super) failed: u64,
    /// Forbidden calls that were answered.
    pub(super) passed: u64,
    /// What the last failed call saw.
    pub(super) last_failure: Option<String>,
}

impl Tally {
    /// Counts what a program reported.
    pub(super) fn count(&mut self, role: Role, report: &Report) {
        match (role, report) {
            (_, Report::Listening { .. }) | (Role::Orders, _) => {}
            (Role::Checkout, Report::Answered { status: 200, .. }) => self.allowed += 1,
            (Role::Intruder, Report::Answered { status: 403, .. }) => self.denied += 1,
            (
                Role::Intruder,
                Report::Answered {
                    status: 200..=299, ..
                },
            ) => self.passed += 1,
            (_, report) => {
                self.failed += 1;
                self.last_failure = Some(format!("shop/{} saw {}", role.name(), seen(report)));
            }
        }
    }

    /// What is not as it must be; empty if all is well.
    pub(super) fn faults(&self, renewals: u64) -> Vec<String> {
        let mut faults = Vec::new();
        if self.failed > 0 {
            let last = self.last_failure.as_deref().unwrap_or_default();
            faults.push(format!("{} calls failed; the last: {last}", self.failed));
        }
        if self.passed > 0 {
            faults.push(format!("{} forbidden calls passed", self.passed));
        }
        if self.allowed == 0 {
            faults.push("no permitted call was answered".to_owned());
        }
        if renewals == 0 {
            faults.push("nothing was renewed; it takes about 5 s".to_owned());
        }
        faults
    }
}

fn seen(report: &Report) -> String {
    match report {
        Report::Answered { status, reason, .. } => {
            format!(
                "status {status} ({})",
                reason.as_deref().unwrap_or("no reason given")
            )
        }
        Report::Broken { error } => error.clone(),
        Report::Listening { address } => address.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16) -> Report {
        Report::Answered {
            status,
            reason: None,
            decision: None,
        }
    }

    fn tally(calls: &[(Role, Report)]) -> Tally {
        let mut tally = Tally::default();
        for (role, report) in calls {
            tally.count(*role, report);
        }
        tally
    }

    #[test]
    fn forbidden_call_that_passes_is_a_fault() {
        let tally = tally(&[
            (Role::Checkout, answered(200)),
            (Role::Intruder, answered(200)),
        ]);
        assert_eq!(tally.faults(1), ["1 forbidden calls passed"]);
    }

    #[test]
    fn permitted_call_that_is_refused_is_a_fault() {
        let tally = tally(&[
            (Role::Checkout, answered(200)),
            (Role::Checkout, answered(403)),
        ]);
        assert_eq!(
            tally.faults(1),
            ["1 calls failed; the last: shop/checkout saw status 403 (no reason given)"]
        );
    }

    #[test]
    fn refusal_for_another_cause_than_policy_is_no_denial() {
        let broken = Report::Broken {
            error: "reset".to_owned(),
        };
        let tally = tally(&[(Role::Intruder, answered(503)), (Role::Intruder, broken)]);
        assert_eq!((tally.denied, tally.failed), (0, 2));
    }

    #[test]
    fn silence_and_missing_renewals_are_faults() {
        assert_eq!(Tally::default().faults(0).len(), 2);
    }

    #[test]
    fn allowed_and_denied_calls_with_renewals_are_well() {
        let tally = tally(&[
            (Role::Checkout, answered(200)),
            (Role::Intruder, answered(403)),
        ]);
        assert_eq!((tally.allowed, tally.denied), (1, 1));
        assert!(tally.faults(3).is_empty());
    }
}
