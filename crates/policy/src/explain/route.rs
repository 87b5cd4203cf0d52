//! Where a request goes: the rule of a Route that the caller's proxy follows, why that one, and
//! what policy says at each Service that the rule leads to.
//!
//! Invariant: the rule is found, and the verdicts are given, by what the proxies themselves ask.
//! Nothing is drawn: every backend that may be drawn is told, with its share.

use identity::{Name, QualifiedName};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Explanation, MOST_MISSES, nearest_entry};
use crate::question::{HeaderLookup, HeaderValues, Question, Request, RequestPath, Target};
use crate::resource::{HeaderChanges, Hedge, HttpMatch, Route, RouteRule};
use crate::routing::{Rank, RouteRules};
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
        let numbered = route.rules.iter().enumerate();
        let rules = numbered.map(|(index, rule)| (rule.matches.clone(), (index + 1, rule)));
        let rules = RouteRules::new(rules);
        let found: Vec<_> = rules
            .matching(&question.request)
            .map(|found| (*found.rule, found.matching))
            .collect();
        let followed = found.first().copied();
        let call = Call {
            snapshot: self,
            question,
            route,
        };
        let backends = call.backends(followed.map(|((_, rule), _)| rule));
        let (settings, notes) = followed
            .map(|((_, rule), _)| settings(rule, method, path))
            .unwrap_or_default();
        Some(RouteExplanation {
            object: route.key().to_string(),
            verdict: verdict(&backends).to_owned(),
            rule: followed.map(|((number, _), _)| number),
            rules: route.rules.len(),
            matching: followed.and_then(|(_, entry)| Some(entry?.to_json())),
            message: message(question, &found),
            others: others(&found),
            nearest_misses: misses(route, &found, &question.request),
            mirror: followed.and_then(|((_, rule), _)| call.mirror(rule)),
            backends,
            settings,
            notes,
        })
    }
}

/// A rule by its number, and its entry that fits.
type Found<'a> = ((usize, &'a RouteRule), Option<&'a HttpMatch>);

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

fn message(question: &Question<'_>, found: &[Found<'_>]) -> String {
    let target = question.target;
    let Some(((number, _), entry)) = found.first() else {
        return format!(
            "no rule matches, so the request goes to {}:{} itself",
            target.service, target.port
        );
    };
    let mut rest = found[1..].iter();
    let Some(((other, _), next)) = rest.find(|((other, _), _)| other != number) else {
        return format!("rule {number} is the only one that matches");
    };
    let [rank, next] = [entry, next].map(|entry| entry.map(Rank::of).unwrap_or_default());
    let because = if rank.literal_segments != next.literal_segments {
        "its path has more literal segments"
    } else if rank.names_methods != next.names_methods {
        "it names a method"
    } else if rank.headers != next.headers {
        "it names more headers"
    } else {
        "it stands first"
    };
    format!("rule {number} goes before rule {other}, which matches too: {because}")
}

fn others(found: &[Found<'_>]) -> Vec<usize> {
    let mut others: Vec<usize> = Vec::new();
    let followed = found.first().map(|((number, _), _)| *number);
    for ((number, _), _) in found {
        if Some(*number) != followed && !others.contains(number) {
            others.push(*number);
        }
    }
    others
}

/// Of the rules that do not match, those that would be followed if they did.
fn misses(route: &Route, found: &[Found<'_>], request: &Request<'_>) -> Vec<RouteMiss> {
    let followed = found.first().map(|((number, _), entry)| {
        let rank = entry.map(Rank::of).unwrap_or_default();
        (rank, std::cmp::Reverse(*number))
    });
    let matched = |number: usize| found.iter().any(|((it, _), _)| *it == number);
    let numbered = route.rules.iter().enumerate();
    let misses = numbered.filter_map(|(index, rule)| {
        let number = index + 1;
        if matched(number) {
            return None;
        }
        let before = |entry: &&HttpMatch| {
            let rank = (Rank::of(entry), std::cmp::Reverse(number));
            followed.is_none_or(|followed| rank > followed)
        };
        let (_, failures) = nearest_entry(rule.matches.iter().filter(before), request);
        let (condition, wanted, got) = failures.into_iter().next()?;
        Some(RouteMiss {
            rule: number,
            condition,
            wanted,
            got,
        })
    });
    misses.take(MOST_MISSES).collect()
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
