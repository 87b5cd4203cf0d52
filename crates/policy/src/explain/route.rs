//! Where a request goes: the rule of a Route that the caller's proxy follows, why that one, and
//! what policy says at each Service that the rule leads to.
//!
//! Invariant: the rule is found, and the verdicts are given, by what the proxies themselves ask.
//! Nothing is drawn: every backend that may be drawn is told, with its share.

use identity::{Name, QualifiedName};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Explanation;
use super::followed::follow;
use crate::question::{HeaderLookup, HeaderValues, Question, Request, RequestPath, Target};
use crate::resource::{HeaderChanges, Hedge, Route, RouteRule};
use crate::snapshot::PolicySnapshot;

/// How a Route has a request carried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteExplanation {
    /// `Route shop/orders`.
    pub object: String,
    /// Of the backends that may be drawn: `allow`, `deny`, or `mixed`.
    pub verdict: String,
    /// The rule that is followed, counted from 1; none if none matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<usize>,
    /// How many rules the Route has.
    pub rules: usize,
    /// The entry of the rule's `match` that fits; none for a rule that is for every request.
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    pub matching: Option<Value>,
    /// Why that rule, in a sentence.
    pub message: String,
    /// Rules that match too, and come after it.
    pub others: Vec<usize>,
    /// Rules that would have come before it, had one thing or a few been different.
    pub nearest_misses: Vec<RouteMiss>,
    /// Where the request goes: one of these is drawn.
    pub backends: Vec<RoutedTo>,
    /// Where a copy goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<MirrorExplanation>,
    /// What else the rule says, as it is written there, without what does not apply to this
    /// request: `timeout`, `retry`, `hedge`, `fault`, `headers`.
    pub settings: Map<String, Value>,
    /// What to know of it.
    pub notes: Vec<String>,
}

/// A backend, and what policy says there of the request as it arrives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoutedTo {
    /// As the Route says; 1 where no rule matches.
    pub weight: u32,
    /// The share of the requests that it gets.
    pub percent: f64,
    /// The verdict.
    #[serde(flatten)]
    pub explanation: Explanation,
}

/// A Service that gets copies, and what policy says there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MirrorExplanation {
    /// The share of the requests that are copied.
    pub percent: f64,
    /// The verdict.
    #[serde(flatten)]
    pub explanation: Explanation,
}

/// A rule that does not match, and the first of its conditions that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteMiss {
    /// Counted from 1.
    pub rule: usize,
    /// `methods`, `path` or `headers.<name>`.
    pub condition: String,
    /// What the rule wants there.
    pub wanted: String,
    /// What the request has.
    pub got: String,
}

impl PolicySnapshot {
    /// How the caller's proxy carries the request that is asked about. `None` if its port has no
    /// Route, and for what no Route carries: connections, and paths with more than one reading.
    pub fn explain_route(&self, question: &Question<'_>) -> Option<RouteExplanation> {
        let Request::Http { method, path, .. } = question.request else {
            return None;
        };
        if matches!(path, RequestPath::Ambiguous(_)) {
            return None;
        }
        let target = question.target;
        let is_its =
            |route: &&Route| route.target() == *target.service && route.port == *target.port;
        let route = self.routes().map(|route| &**route).find(is_its)?;
        let matches: Vec<_> = route.rules.iter().map(|it| it.matches.as_slice()).collect();
        let followed = follow("rule", &matches, &question.request);
        let rule = followed.number.and_then(|it| route.rules.get(it - 1));
        let call = Call {
            snapshot: self,
            question,
            route,
        };
        let backends = call.backends(rule);
        let (settings, notes) = rule
            .map(|rule| settings(rule, method, path))
            .unwrap_or_default();
        let itself = || {
            let (service, port) = (target.service, target.port);
            format!("no rule matches, so the request goes to {service}:{port} itself")
        };
        Some(RouteExplanation {
            object: route.key().to_string(),
            verdict: verdict(&backends).to_owned(),
            rule: followed.number,
            rules: route.rules.len(),
            matching: followed.matching,
            message: followed.message.unwrap_or_else(itself),
            others: followed.others,
            nearest_misses: followed.misses,
            mirror: rule.and_then(|rule| call.mirror(rule)),
            backends,
            settings,
            notes,
        })
    }
}

struct Call<'a> {
    snapshot: &'a PolicySnapshot,
    question: &'a Question<'a>,
    route: &'a Route,
}

impl Call<'_> {
    fn backends(&self, rule: Option<&RouteRule>) -> Vec<RoutedTo> {
        let Some(rule) = rule else {
            return vec![RoutedTo {
                weight: 1,
                percent: 100.0,
                explanation: self.snapshot.explain(self.question),
            }];
        };
        let sum: u64 = rule.backends.iter().map(|it| u64::from(it.weight)).sum();
        let backends = rule.backends.iter().map(|backend| RoutedTo {
            weight: backend.weight,
            percent: percent(backend.weight, sum),
            explanation: self.judge(&backend.service, &rule.headers),
        });
        backends.collect()
    }

    fn mirror(&self, rule: &RouteRule) -> Option<MirrorExplanation> {
        let mirror = rule.mirror.as_ref()?;
        Some(MirrorExplanation {
            percent: f64::from(mirror.percent.parts()) / 100.0,
            explanation: self.judge(&mirror.service, &rule.headers),
        })
    }

    /// What policy says where the request arrives, with its header fields changed.
    fn judge(&self, service: &Name, changes: &HeaderChanges) -> Explanation {
        let service: QualifiedName = self.route.service_of(service);
        let target = Target {
            service: &service,
            port: &self.route.port,
        };
        let changed;
        let request = match self.question.request {
            Request::Connection => Request::Connection,
            Request::Http {
                method,
                path,
                headers,
            } => {
                changed = Changed { headers, changes };
                Request::Http {
                    method,
                    path,
                    headers: &changed,
                }
            }
        };
        self.snapshot.explain(&Question {
            source: self.question.source,
            target,
            request,
        })
    }
}

/// Header fields as they leave the caller's proxy.
#[derive(Debug)]
struct Changed<'a> {
    headers: &'a dyn HeaderLookup,
    changes: &'a HeaderChanges,
}

impl HeaderLookup for Changed<'_> {
    fn lookup(&self, name: &str) -> HeaderValues<'_> {
        if let Some(value) = self.changes.set.get(name) {
            return HeaderValues::One(value.as_str().as_bytes());
        }
        if self.changes.remove.contains(name) {
            return HeaderValues::Absent;
        }
        self.headers.lookup(name)
    }
}

fn percent(weight: u32, sum: u64) -> f64 {
    // Two decimals, as people read it; weights are far below 2^52.
    let parts = u64::from(weight) * 10_000 / sum.max(1);
    u32::try_from(parts).map_or(100.0, |parts| f64::from(parts) / 100.0)
}

fn verdict(backends: &[RoutedTo]) -> &'static str {
    let mut drawn = backends.iter().filter(|backend| backend.weight > 0);
    let allows = |backend: &RoutedTo| backend.explanation.verdict == "allow";
    match (drawn.clone().any(allows), drawn.all(allows)) {
        (_, true) => "allow",
        (true, false) => "mixed",
        (false, false) => "deny",
    }
}

/// What the rule says beside its backends, less what is not for this request, and why.
fn settings(
    rule: &RouteRule,
    method: &str,
    path: &RequestPath,
) -> (Map<String, Value>, Vec<String>) {
    let mut settings = match rule.to_json() {
        Value::Object(settings) => settings,
        _ => Map::new(),
    };
    settings.retain(|name, _| !matches!(name.as_str(), "match" | "backends" | "mirror"));
    let mut notes = Vec::new();
    let path = match path {
        RequestPath::Canonical(path) => path.as_str(),
        _ => "",
    };
    if let Some(retry) = &rule.retry
        && !retry.methods.permit(method, path)
    {
        notes.push(format!(
            "this {method} may not be repeated: it is sent again only where no server can have seen it"
        ));
    }
    if rule.hedge.is_some() && !Hedge::permits(method) {
        settings.remove("hedge");
        notes.push(format!("a {method} is not hedged"));
    }
    if let Some(fault) = &rule.fault {
        notes.push(format!("faults are injected on purpose: {}", told(fault)));
    }
    (settings, notes)
}

fn told(fault: &crate::resource::Fault) -> String {
    let percent = |share: crate::resource::Fraction| f64::from(share.parts()) / 100.0;
    let delay = fault.delay.as_ref().map(|delay| {
        let by = humantime::format_duration(delay.by);
        format!("{} % wait {by} first", percent(delay.percent))
    });
    let abort = fault
        .abort
        .as_ref()
        .map(|abort| format!("{} % are answered {}", percent(abort.percent), abort.status));
    delay
        .into_iter()
        .chain(abort)
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests;
