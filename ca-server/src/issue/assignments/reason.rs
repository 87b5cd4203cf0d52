//! Why an agent may not hold a workload, for operators: agents are told of no entries but their own.

use std::fmt;

use identity::{QualifiedName, SpiffeId};
use policy::resource::{AgentSelectors, Mismatch, Workload};

use super::Assignments;

/// In the words of the entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotHeld {
    /// Nothing is registered under this identity.
    NoEntry,
    /// The entry names nobody yet.
    Nobody,
    /// For each entry of `agents`, nearest first.
    Others(Vec<String>),
}

/// How many entries are spelled out; those by ID say only that they are others.
const SPELLED_OUT: usize = 4;

impl Assignments {
    /// Why [`Assignments::holds`] says no; `None` where it says yes.
    pub(crate) fn why_not(&self, agent: &SpiffeId, workload: &QualifiedName) -> Option<NotHeld> {
        match self.entry(workload) {
            Some(entry) => NotHeld::by(entry, agent, self.selectors_of(agent)),
            None => Some(NotHeld::NoEntry),
        }
    }

    /// As [`Self::why_not`], of the entry of an identity.
    pub(crate) fn why_not_identity(&self, agent: &SpiffeId, id: &SpiffeId) -> Option<NotHeld> {
        match self.entry_of(id) {
            Some(entry) => NotHeld::by(entry, agent, self.selectors_of(agent)),
            None => Some(NotHeld::NoEntry),
        }
    }
}

impl NotHeld {
    fn by(entry: &Workload, agent: &SpiffeId, held: &AgentSelectors) -> Option<Self> {
        let mut mismatches = Vec::new();
        for named in &entry.agents {
            mismatches.push(named.mismatch(agent, held)?);
        }
        if mismatches.is_empty() {
            return Some(Self::Nobody);
        }
        mismatches.sort_by_key(|mismatch| match mismatch {
            Mismatch::Selector(..) => 0,
            Mismatch::Attestor(_) => 1,
            Mismatch::Id => 2,
        });
        let mut reasons: Vec<_> = mismatches.iter().map(ToString::to_string).collect();
        reasons.dedup();
        reasons.truncate(SPELLED_OUT);
        Some(Self::Others(reasons))
    }
}

impl fmt::Display for NotHeld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoEntry => f.write_str("there is no such entry"),
            Self::Nobody => f.write_str("the entry names no agents"),
            Self::Others(reasons) => f.write_str(&reasons.join("; ")),
        }
    }
}
