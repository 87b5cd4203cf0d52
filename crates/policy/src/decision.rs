//! What the evaluator answers: a verdict, the rule or the reason, and a name for the decision.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crypto::digest::HashKey;
use data_encoding::HEXLOWER;

use crate::path::PathAmbiguous;
use crate::resource::{ObjectKey, RuleId};
use crate::revision::Revision;

/// An answer. Only [`crate::PolicySnapshot::judge`] and [`crate::PolicySnapshot::revoked`] make one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Decision {
    /// Yes or no, and by what.
    pub verdict: Verdict,
    /// Names this class of decisions.
    pub id: DecisionId,
    /// The configuration that was asked.
    pub revision: Revision,
    /// The path template that fits the request, or `unmatched`: bounded, where paths are not.
    pub path_shape: Arc<str>,
}

/// Yes or no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// This rule permits it.
    Allow(Arc<Rule>),
    /// This forbids it.
    Deny(DenyReason),
}

/// A rule, by the object that it stands in and its id there.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rule {
    /// A Policy or a Baseline.
    pub policy: ObjectKey,
    /// The rule's id.
    pub id: RuleId,
    text: String,
}

/// Why a request is denied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DenyReason {
    /// A Baseline forbids it.
    #[error("denied by {0}")]
    BaselineDeny(Arc<Rule>),
    /// No Policy speaks of the target.
    #[error("no policy permits anything on this port")]
    NoPolicy,
    /// None of the target's rules permits it.
    #[error("no rule of the target's policy matched")]
    NoRuleMatched,
    /// Something that the answer depends on is missing.
    #[error("cannot be decided: {0}")]
    Indeterminate(Indeterminate),
    /// The path has more than one reading.
    #[error("{0}")]
    PathAmbiguous(PathAmbiguous),
    /// The deny-list in force names the caller, or its certificate; no rule is asked then.
    #[error("the caller's identity or certificate is revoked")]
    Revoked,
}

/// What is missing for an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Indeterminate {
    /// The configuration was written for a newer evaluator.
    #[error("the configuration needs policy engine {needed}, this is {have}")]
    NewerEngine {
        /// What it needs.
        needed: u32,
        /// What this is.
        have: u32,
    },
    /// An object cannot be read; the text says which and why.
    #[error("an object of the configuration cannot be read: {0}")]
    Unreadable(Arc<str>),
    /// Two objects contradict each other; the text says which.
    #[error("the configuration contradicts itself: {0}")]
    Contradiction(Arc<str>),
    /// The configuration has no such service or port.
    #[error("the configuration has no such service and port")]
    UnknownTarget,
    /// A connection was asked about on an HTTP port, or a request on a `tcp` port.
    #[error("http ports are judged for each request, tcp ports for each connection")]
    WrongRequest,
}

/// Names a decision **class**: 128 bits of a keyed hash over revision, evaluator, source, target,
/// method, path shape, and rule or reason. Callers learn nothing from it; operators look it up.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DecisionId([u8; 16]);

/// Why a text is not a decision id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a decision id has 32 small hex digits")]
pub struct InvalidDecisionId;

impl Decision {
    /// Whether the request may pass.
    pub fn is_allow(&self) -> bool {
        matches!(self.verdict, Verdict::Allow(_))
    }
}

impl Verdict {
    /// `allow` or `deny`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Allow(_) => "allow",
            Self::Deny(_) => "deny",
        }
    }

    /// The rule that decided, if one did.
    pub fn rule(&self) -> Option<&Arc<Rule>> {
        match self {
            Self::Allow(rule) | Self::Deny(DenyReason::BaselineDeny(rule)) => Some(rule),
            Self::Deny(_) => None,
        }
    }
}

impl Rule {
    pub(crate) fn new(policy: ObjectKey, id: RuleId) -> Self {
        let text = match &policy.namespace {
            Some(namespace) => format!("{}/{namespace}/{}#{id}", policy.kind, policy.name),
            None => format!("{}/{}#{id}", policy.kind, policy.name),
        };
        Self { policy, id, text }
    }

    /// `Policy/shop/orders-api#readers`, for logs and metrics.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl DenyReason {
    /// Stable code, for headers, logs and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BaselineDeny(_) => "baseline-deny",
            Self::NoPolicy => "no-policy",
            Self::NoRuleMatched => "no-rule-matched",
            Self::Indeterminate(_) => "indeterminate",
            Self::PathAmbiguous(_) => "path-ambiguous",
            Self::Revoked => "revoked",
        }
    }
}

/// What a decision id is made of.
pub(crate) struct DecisionClass<'a> {
    pub(crate) revision: &'a str,
    pub(crate) evaluator: &'a str,
    pub(crate) source: &'a str,
    pub(crate) service: [&'a str; 3],
    pub(crate) method: &'a str,
    pub(crate) path_shape: &'a str,
    pub(crate) verdict: &'a Verdict,
}

impl DecisionId {
    pub(crate) fn of(key: &HashKey, class: &DecisionClass<'_>) -> Self {
        let outcome = match class.verdict {
            Verdict::Allow(rule) => rule.as_str(),
            Verdict::Deny(reason) => reason.code(),
        };
        let denied_by = match class.verdict {
            Verdict::Deny(DenyReason::BaselineDeny(rule)) => rule.as_str(),
            _ => "",
        };
        let [namespace, name, port] = class.service;
        let tag = key.tag(&[&framed(&[
            class.revision,
            class.evaluator,
            class.source,
            namespace,
            name,
            port,
            class.method,
            class.path_shape,
            class.verdict.as_str(),
            outcome,
            denied_by,
        ])]);
        let mut id = [0; 16];
        id.copy_from_slice(&tag[..16]);
        Self(id)
    }

    /// The 128 bits.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// Each part after its length, so that no two classes give the same bytes. One buffer: hashing
/// many small parts costs more than copying them.
fn framed(parts: &[&str]) -> Vec<u8> {
    let length = parts.iter().map(|part| part.len() + size_of::<u64>()).sum();
    let mut bytes = Vec::with_capacity(length);
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    bytes
}

impl fmt::Display for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DecisionId({self})")
    }
}

impl FromStr for DecisionId {
    type Err = InvalidDecisionId;

    fn from_str(text: &str) -> Result<Self, InvalidDecisionId> {
        let bytes = HEXLOWER
            .decode(text.as_bytes())
            .map_err(|_| InvalidDecisionId)?;
        bytes.try_into().map(Self).map_err(|_| InvalidDecisionId)
    }
}
