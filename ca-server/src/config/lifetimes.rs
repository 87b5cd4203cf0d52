//! `[lifetimes]`: how long each certificate lives. Life is `notAfter` − time of issue.
//!
//! Lives that could not be kept are refused: an intermediate is renewed at half of its own life (10 %
//! sooner or later), and must then outlast the longest leaf and the margin.

use std::time::Duration;

use runtime::config::Span;
use serde::Deserialize;

/// Checked lifetimes of one mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Raw")]
pub struct Lifetimes {
    pub root: Duration,
    pub intermediate: Duration,
    /// Of what instances below this one sign their intermediates with.
    pub downstream: Duration,
    pub agent: Duration,
    /// For entries of the registry that name no `ttl`.
    pub workload: Duration,
    /// How far before the time of issue a certificate begins, for clocks that are behind.
    pub back_date: Duration,
    /// Every leaf ends this much before its issuer.
    pub margin: Duration,
    /// How long after its end an agent's SVID still opens `Reattest`.
    pub reattest_within: Duration,
}

/// Which lifetime cannot be kept, and why.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LifetimesError {
    #[error("{field} = {} is below 1s, the resolution of a certificate's dates", Span::from(*.life))]
    TooShort { field: &'static str, life: Duration },
    #[error("intermediate = {} is above 24h", Span::from(*.0))]
    IntermediateTooLong(Duration),
    #[error(
        "intermediate = {} is below {}: 2.5 times the longest leaf plus the margin",
        Span::from(*.life),
        Span::from(*.least)
    )]
    IntermediateTooShort { life: Duration, least: Duration },
    #[error("root = {} is not above intermediate = {}", Span::from(*.root), Span::from(*.intermediate))]
    RootTooShort {
        root: Duration,
        intermediate: Duration,
    },
}

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            root: DAY * 3653,
            intermediate: DAY,
            downstream: DAY * 7,
            agent: HOUR,
            workload: HOUR,
            back_date: Duration::from_secs(30),
            margin: Duration::from_secs(60),
            reattest_within: DAY,
        }
    }
}

impl Lifetimes {
    fn check(self) -> Result<Self, LifetimesError> {
        let lives = [
            ("agent", self.agent),
            ("workload", self.workload),
            ("downstream", self.downstream),
        ];
        for (field, life) in lives {
            if life < Duration::from_secs(1) {
                return Err(LifetimesError::TooShort { field, life });
            }
        }
        if self.intermediate > DAY {
            return Err(LifetimesError::IntermediateTooLong(self.intermediate));
        }
        let least = self.agent.max(self.workload) * 5 / 2 + self.margin;
        if self.intermediate < least {
            return Err(LifetimesError::IntermediateTooShort {
                life: self.intermediate,
                least,
            });
        }
        if self.root <= self.intermediate {
            return Err(LifetimesError::RootTooShort {
                root: self.root,
                intermediate: self.intermediate,
            });
        }
        Ok(self)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    root: Span,
    intermediate: Span,
    downstream: Span,
    agent: Span,
    workload: Span,
    back_date: Span,
    margin: Span,
    reattest_within: Span,
}

impl Default for Raw {
    fn default() -> Self {
        let lifetimes = Lifetimes::default();
        Self {
            root: lifetimes.root.into(),
            intermediate: lifetimes.intermediate.into(),
            downstream: lifetimes.downstream.into(),
            agent: lifetimes.agent.into(),
            workload: lifetimes.workload.into(),
            back_date: lifetimes.back_date.into(),
            margin: lifetimes.margin.into(),
            reattest_within: lifetimes.reattest_within.into(),
        }
    }
}

impl TryFrom<Raw> for Lifetimes {
    type Error = LifetimesError;

    fn try_from(raw: Raw) -> Result<Self, LifetimesError> {
        Self {
            root: raw.root.into(),
            intermediate: raw.intermediate.into(),
            downstream: raw.downstream.into(),
            agent: raw.agent.into(),
            workload: raw.workload.into(),
            back_date: raw.back_date.into(),
            margin: raw.margin.into(),
            reattest_within: raw.reattest_within.into(),
        }
        .check()
    }
}
