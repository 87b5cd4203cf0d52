//! `[bundle]`: how others are told of the trust domain's roots.

use std::time::Duration;

use runtime::config::Span;
use serde::Deserialize;

/// Checked settings of the published bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Raw")]
pub struct BundleConfig {
    /// How often those who use the bundle are to look again. A new root signs nothing before three
    /// of these are over.
    pub refresh_hint: Duration,
}

/// The refresh hint is out of range.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("refresh_hint = {} is not between 1s and 24h", Span::from(*.0))]
pub struct RefreshHintError(Duration);

const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

impl Default for BundleConfig {
    fn default() -> Self {
        Self {
            refresh_hint: Duration::from_secs(5 * 60),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    refresh_hint: Span,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            refresh_hint: BundleConfig::default().refresh_hint.into(),
        }
    }
}

impl TryFrom<Raw> for BundleConfig {
    type Error = RefreshHintError;

    fn try_from(raw: Raw) -> Result<Self, RefreshHintError> {
        let refresh_hint: Duration = raw.refresh_hint.into();
        if !(SHORTEST..=LONGEST).contains(&refresh_hint) {
            return Err(RefreshHintError(refresh_hint));
        }
        Ok(Self { refresh_hint })
    }
}
