//! One authority, and where it is in its life.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use identity::Validity;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::serde::rfc3339;

/// Counts the authorities of one kind, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Generation(NonZeroU32);

/// Where an authority is in its life; it never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    /// Its key is made and sealed; nobody trusts it.
    Prepared,
    /// In the bundle; it signs nothing yet.
    Published,
    /// It signs.
    Active,
    /// In the bundle for the sake of what it signed.
    Draining,
    /// Trusted nowhere; its key is destroyed.
    Removed,
}

/// Why an authority was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Trigger {
    Schedule,
    Operator,
    Compromise,
}

/// Somebody else may hold its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Taint {
    #[serde(with = "rfc3339")]
    pub(crate) at: OffsetDateTime,
    /// When it is removed even if live agents have not acknowledged.
    #[serde(with = "rfc3339")]
    pub(crate) until: OffsetDateTime,
    /// The bundle that tells agents to replace what leads to it.
    pub(crate) reissued_in: Option<u64>,
}

/// One authority.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Member {
    pub(crate) generation: Generation,
    pub(crate) phase: Phase,
    /// When it came to this phase.
    #[serde(with = "rfc3339")]
    pub(crate) since: OffsetDateTime,
    #[serde(with = "rfc3339")]
    pub(crate) not_before: OffsetDateTime,
    #[serde(with = "rfc3339")]
    pub(crate) not_after: OffsetDateTime,
    pub(crate) trigger: Trigger,
    /// The first bundle that holds it; 0 before.
    pub(crate) published_in: u64,
    #[serde(with = "rfc3339::option")]
    pub(crate) activates_from: Option<OffsetDateTime>,
    pub(crate) taint: Option<Taint>,
}

impl Generation {
    pub(crate) const FIRST: Self = Self(NonZeroU32::MIN);

    pub(crate) fn number(self) -> u32 {
        self.0.get()
    }

    /// `None` for zero.
    pub(crate) fn of_number(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }

    pub(super) fn following(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Generation {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl Phase {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Published => "published",
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Removed => "removed",
        }
    }

    /// Whether the bundle holds an authority in this phase.
    pub(crate) fn is_bundled(self) -> bool {
        match self {
            Self::Published | Self::Active | Self::Draining => true,
            Self::Prepared | Self::Removed => false,
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Taint {
    pub(super) fn new(now: OffsetDateTime, within: Duration) -> Self {
        Self {
            at: now,
            until: now + within,
            reissued_in: None,
        }
    }

    /// When this part of its time is over.
    pub(super) fn after(&self, part: i32, of: i32) -> OffsetDateTime {
        self.at + (self.until - self.at) * part / of
    }
}

impl Member {
    pub(super) fn new(
        generation: Generation,
        validity: Validity,
        trigger: Trigger,
        now: OffsetDateTime,
    ) -> Self {
        Self {
            generation,
            phase: Phase::Prepared,
            since: now,
            not_before: validity.not_before(),
            not_after: validity.not_after(),
            trigger,
            published_in: 0,
            activates_from: None,
            taint: None,
        }
    }

    pub(super) fn enter(&mut self, phase: Phase, now: OffsetDateTime) {
        self.phase = phase;
        self.since = now;
    }

    /// When a successor is prepared: two thirds of a life leave time for a gate that holds long.
    pub(crate) fn due_at(&self) -> OffsetDateTime {
        self.not_before + (self.not_after - self.not_before) * 2 / 3
    }

    pub(super) fn is_due(&self, now: OffsetDateTime) -> bool {
        now >= self.due_at()
    }

    /// Whether agents are to replace at once what leads to it.
    pub(crate) fn is_reissued(&self) -> bool {
        self.taint.is_some_and(|taint| taint.reissued_in.is_some())
    }
}
