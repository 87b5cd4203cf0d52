//! What the proxy tells of itself: metrics, and how many of them.

use std::collections::BTreeSet;
use std::time::Duration;

use runtime::Span;
use serde::Deserialize;

/// How calls are counted.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// Labels of the series of calls, beside `direction`. What is not listed is summed up.
    pub labels: BTreeSet<Label>,
    /// Most series (pairs of source and target, by direction and protocol) that are kept; what is
    /// beyond counts as `other`.
    pub series: usize,
    /// A series that has not counted for so long is forgotten.
    pub idle: Span,
}

/// A label that series of calls may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Label {
    Source,
    Target,
    Protocol,
    Verdict,
    Reason,
    StatusClass,
}

impl Label {
    const ALL: [Self; 6] = [
        Self::Source,
        Self::Target,
        Self::Protocol,
        Self::Verdict,
        Self::Reason,
        Self::StatusClass,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Target => "target",
            Self::Protocol => "protocol",
            Self::Verdict => "verdict",
            Self::Reason => "reason",
            Self::StatusClass => "status_class",
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            labels: BTreeSet::from(Label::ALL),
            series: 500,
            idle: Span::from(Duration::from_secs(15 * 60)),
        }
    }
}
