//! Why: the verdict, what decided, and which rules came nearest to permitting.
//!
//! The verdict is the evaluator's own; near misses read the same rules plainly, one by one, and
//! can only add words to it.

use identity::SpiffeId;
use serde::{Deserialize, Serialize};

use crate::decision::{Decision, Rule, Verdict};
use crate::engine::EVALUATOR;
use crate::question::{HeaderValues, Question, Request, RequestPath};
use crate::resource::{HttpMatch, Source};
use crate::snapshot::{Caller, CompiledRule, Condition, PolicySnapshot, conditions};

mod entrance;
mod exit;
mod followed;
mod route;

pub use entrance::{Arrival, Entrance, EntranceExplanation, GatewayCall};
pub use exit::{Departure, ExitExplanation, ExitMiss};
pub use route::{MirrorExplanation, RouteExplanation, RouteMiss, RoutedTo};

/// More rules than this help nobody.
const MOST_MISSES: usize = 10;

/// An answer with its grounds, in the form in which `explain` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// `allow` or `deny`.
    pub verdict: String,
    /// The reason's stable code; only with `deny`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The rule that decided, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleRef>,
    /// The same in a sentence.
    pub message: String,
    /// The caller's SPIFFE ID.
    pub source: String,
    /// `namespace/service:port`.
    pub target: String,
    /// The request's method; none for a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The path as it was judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The template that fits the path, or `unmatched`.
    pub path_shape: String,
    /// The decision's class.
    pub decision_id: String,
    /// The configuration that was asked.
    pub revision: String,
    /// Who decided.
    pub evaluator: String,
    /// Rules that would have allowed it, had one thing or a few been different; nearest first.
    pub nearest_misses: Vec<NearMiss>,
}

/// A rule, by its object and its id there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleRef {
    /// `Policy shop/orders-api`.
    pub object: String,
    /// The rule's id.
    pub id: String,
}

/// A rule that did not permit, and the first of its conditions that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NearMiss {
    /// The rule.
    pub rule: RuleRef,
    /// `from`, `to`, `methods`, `path` or `headers.<name>`.
    pub condition: String,
    /// What the rule wants there.
    pub wanted: String,
    /// What the question has.
    pub got: String,
    /// How many of its conditions held.
    pub held: usize,
    /// How many did not.
    pub failed: usize,
}

impl PolicySnapshot {
    /// Judges, and says why.
    pub fn explain(&self, question: &Question<'_>) -> Explanation {
        self.explained(question, &self.judge(question))
    }

    /// Says what a caller meets that the deny-list names.
    pub fn explain_revoked(&self, question: &Question<'_>) -> Explanation {
        self.explained(question, &self.revoked(question))
    }

    fn explained(&self, question: &Question<'_>, decision: &Decision) -> Explanation {
        let target = question.target;
        let (reason, message) = match &decision.verdict {
            Verdict::Allow(rule) => (None, format!("allowed by {rule}")),
            Verdict::Deny(reason) => (Some(reason.code().to_owned()), reason.to_string()),
        };
        Explanation {
            verdict: decision.verdict.as_str().to_owned(),
            reason,
            rule: decision.verdict.rule().map(|rule| rule.into()),
            message,
            source: question.source.to_string(),
            target: format!("{}:{}", target.service, target.port),
            method: question.request.method().map(str::to_owned),
            path: question.request.path().map(shown_path),
            path_shape: decision.path_shape.to_string(),
            decision_id: decision.id.to_string(),
            revision: decision.revision.to_string(),
            evaluator: EVALUATOR.to_owned(),
            nearest_misses: self.nearest_misses(question, decision),
        }
    }

    /// Only where another rule could have helped: not past a Baseline's deny, and not where
    /// nothing can be decided.
    fn nearest_misses(&self, question: &Question<'_>, decision: &Decision) -> Vec<NearMiss> {
        use crate::decision::DenyReason::{NoPolicy, NoRuleMatched};
        if !matches!(decision.verdict, Verdict::Deny(NoPolicy | NoRuleMatched)) {
            return Vec::new();
        }
        let Some((world, listener)) = self.listener(question) else {
            return Vec::new();
        };
        let caller = world.caller(question.source);
        let rules = listener.allow.rules();
        let mut misses: Vec<_> = rules
            .filter_map(|rule| miss(rule, &caller, question))
            .collect();
        misses.sort_by_key(|miss| (std::cmp::Reverse(miss.held), miss.failed));
        misses.truncate(MOST_MISSES);
        misses
    }
}

impl From<&std::sync::Arc<Rule>> for RuleRef {
    fn from(rule: &std::sync::Arc<Rule>) -> Self {
        Self {
            object: rule.policy.to_string(),
            id: rule.id.to_string(),
        }
    }
}

/// A condition that failed: its name, what was wanted, what was there.
type Failure = (String, String, String);

fn miss(rule: &CompiledRule, caller: &Caller<'_>, question: &Question<'_>) -> Option<NearMiss> {
    let (mut held, mut failures) = if rule.to.is_empty() {
        Default::default()
    } else if matches!(question.request, Request::Connection) {
        let got = "a connection of opaque bytes".to_owned();
        let failure = ("to".to_owned(), "an HTTP request".to_owned(), got);
        (0, vec![failure])
    } else {
        nearest_entry(&rule.to, &question.request)
    };
    if rule.speaks_of(caller) {
        held += 1;
    } else {
        let wanted = rule
            .from
            .iter()
            .map(shown_source)
            .collect::<Vec<_>>()
            .join(", ");
        failures.insert(0, ("from".to_owned(), wanted, shown_caller(caller)));
    }
    let failed = failures.len();
    let (condition, wanted, got) = failures.into_iter().next()?;
    Some(NearMiss {
        rule: (&rule.rule).into(),
        condition,
        wanted,
        got,
        held,
        failed,
    })
}

/// Of the entries under `to.http` or `match`, the one that fails least.
fn nearest_entry<'a>(
    entries: impl IntoIterator<Item = &'a HttpMatch>,
    request: &Request<'_>,
) -> (usize, Vec<Failure>) {
    let read = |entry| {
        let (held, failed): (Vec<_>, Vec<_>) =
            conditions(entry).partition(|condition| condition.holds(entry, request));
        let failures = failed
            .iter()
            .map(|condition| failure(condition, entry, request));
        (held.len(), failures.collect::<Vec<_>>())
    };
    entries
        .into_iter()
        .map(read)
        .min_by_key(|(held, failures)| (failures.len(), std::cmp::Reverse(*held)))
        .unwrap_or_default()
}

fn failure(condition: &Condition<'_>, entry: &HttpMatch, request: &Request<'_>) -> Failure {
    let Request::Http {
        method,
        path,
        headers,
    } = request
    else {
        return ("to".to_owned(), String::new(), String::new());
    };
    match condition {
        Condition::Methods => {
            let wanted: Vec<&str> = entry.methods.iter().map(|method| method.as_str()).collect();
            (
                "methods".to_owned(),
                wanted.join(", "),
                (*method).to_owned(),
            )
        }
        Condition::Path => {
            let wanted = entry
                .path
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default();
            ("path".to_owned(), wanted, shown_path(path))
        }
        Condition::Header(name) => {
            let wanted = entry
                .headers
                .get(*name)
                .map(ToString::to_string)
                .unwrap_or_default();
            let got = match headers.lookup(name) {
                HeaderValues::Absent => "no such header",
                HeaderValues::One(_) => "another value",
                HeaderValues::Many => "more than one value",
            };
            (format!("headers.{name}"), wanted, got.to_owned())
        }
    }
}

fn shown_path(path: &RequestPath) -> String {
    match path {
        RequestPath::Canonical(path) => path.to_string(),
        RequestPath::Asterisk => "*".to_owned(),
        RequestPath::Authority => "no path (CONNECT)".to_owned(),
        RequestPath::Ambiguous(reason) => reason.to_string(),
    }
}

fn shown_source(source: &Source) -> String {
    match source {
        Source::Workload(name, _) => format!("workload {name}"),
        Source::Namespace(name, _) => format!("namespace {name}"),
        Source::Identity(id) => format!("identity {id}"),
        Source::Under(id) => format!("under {id}"),
        Source::TrustDomain(domain) => format!("trustDomain {domain}"),
        Source::AnyMtlsPeer => "any mtls-peer".to_owned(),
    }
}

fn shown_caller(caller: &Caller<'_>) -> String {
    match caller.name {
        Some((namespace, name)) => format!("workload {namespace}/{name} ({})", caller.id),
        None => caller.id.to_string(),
    }
}

/// As far as the snapshot knows the caller.
fn shown_caller_of(snapshot: &PolicySnapshot, id: &SpiffeId) -> String {
    let named = snapshot.with_caller(id, shown_caller);
    named.unwrap_or_else(|| id.to_string())
}

#[cfg(test)]
mod tests;
