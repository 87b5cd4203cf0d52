//! What of the traffic objects the proxy does so far. The rest is read and checked in full, and
//! then refused as not yet supported, so that nothing is accepted and ignored.
//!
//! A row is turned to `true` in the commit that makes the proxy do it.

use crate::parse::{ParseCode, ParseError};
use crate::resource::{Balance, Bulkhead, Resource, Route, RouteRule, Service};

/// Kinds and fields, and whether the proxy obeys them.
const ENFORCED: [(&str, bool); 18] = [
    ("Route", true),
    ("Gateway", true),
    ("External", true),
    ("balance", true),
    ("breaker", true),
    ("bulkhead", true),
    ("inFlight", true),
    ("rateLimit", true),
    ("health", true),
    ("match", true),
    ("weight", true),
    ("timeout", true),
    ("retry", true),
    ("hedge", true),
    ("fault", true),
    ("mirror", true),
    ("headers", true),
    ("zone", true),
];

/// # Errors
/// The first kind or field that the proxy does not do yet.
pub(crate) fn check(resource: &Resource) -> Result<(), ParseError> {
    check_against(resource, |feature| {
        ENFORCED
            .iter()
            .any(|(name, enforced)| *name == feature && *enforced)
    })
}

/// Whether the object, or a part of it, is one of those in the table. Zones are older than it.
pub(crate) fn speaks_of_traffic(resource: &Resource) -> bool {
    match resource {
        Resource::Service(service) => {
            let stated = stated_by_service(service);
            stated.iter().any(|(feature, _)| *feature != "zone")
        }
        Resource::Route(_) | Resource::Gateway(_) | Resource::External(_) => true,
        Resource::Workload(_) | Resource::Policy(_) | Resource::Baseline(_) => false,
    }
}

fn check_against(resource: &Resource, enforced: impl Fn(&str) -> bool) -> Result<(), ParseError> {
    let kind = resource.key().kind.as_str();
    let stated = match resource {
        Resource::Service(service) => stated_by_service(service),
        Resource::Route(route) => stated_by_route(route),
        Resource::Gateway(_) | Resource::External(_) => Vec::new(),
        Resource::Workload(_) | Resource::Policy(_) | Resource::Baseline(_) => return Ok(()),
    };
    let is_new = !matches!(resource, Resource::Service(_));
    if is_new && !enforced(kind) {
        return Err(refuse("/kind", format!("kind {kind} is not yet supported")));
    }
    match stated.into_iter().find(|(feature, _)| !enforced(feature)) {
        Some((feature, pointer)) => Err(refuse(
            &pointer,
            format!("`{feature}` of a {kind} is not yet supported"),
        )),
        None => Ok(()),
    }
}

fn refuse(pointer: &str, message: String) -> ParseError {
    ParseError::new(ParseCode::NotYetSupported, message).at(pointer)
}

fn stated_by_service(service: &Service) -> Vec<(&'static str, String)> {
    let mut stated = Vec::new();
    for (index, port) in service.ports.iter().enumerate() {
        let traffic = &port.traffic;
        let features = [
            ("balance", traffic.balance != Balance::default()),
            ("breaker", traffic.breaker.is_some()),
            (
                "bulkhead",
                traffic.bulkhead.as_ref().is_some_and(limits_the_caller),
            ),
            (
                "inFlight",
                traffic.bulkhead.as_ref().is_some_and(limits_the_receiver),
            ),
            ("rateLimit", traffic.rate_limit.is_some()),
            ("health", traffic.health.is_some()),
        ];
        let pointer = |feature| match feature {
            "inFlight" => format!("/spec/ports/{index}/bulkhead"),
            _ => format!("/spec/ports/{index}/{feature}"),
        };
        stated.extend(present(features, pointer));
    }
    for (index, endpoint) in service.endpoints.iter().enumerate() {
        let features = [("zone", endpoint.zone.is_some())];
        stated.extend(present(features, |feature| {
            format!("/spec/endpoints/{index}/{feature}")
        }));
    }
    stated
}

fn limits_the_caller(bulkhead: &Bulkhead) -> bool {
    bulkhead.connections.is_some() || bulkhead.pending.is_some()
}

fn limits_the_receiver(bulkhead: &Bulkhead) -> bool {
    bulkhead.in_flight.is_some() || bulkhead.per_caller_in_flight.is_some()
}

fn stated_by_route(route: &Route) -> Vec<(&'static str, String)> {
    let mut stated = Vec::new();
    for (index, rule) in route.rules.iter().enumerate() {
        let pointer = |feature| match feature {
            "weight" => format!("/spec/rules/{index}/backends"),
            _ => format!("/spec/rules/{index}/{feature}"),
        };
        stated.extend(present(features_of(rule), pointer));
    }
    stated
}

fn features_of(rule: &RouteRule) -> [(&'static str, bool); 8] {
    [
        ("match", !rule.matches.is_empty()),
        ("weight", rule.backends.len() > 1),
        ("timeout", rule.timeouts != Default::default()),
        ("retry", rule.retry.is_some()),
        ("hedge", rule.hedge.is_some()),
        ("fault", rule.fault.is_some()),
        ("mirror", rule.mirror.is_some()),
        ("headers", rule.headers != Default::default()),
    ]
}

fn present<const N: usize>(
    features: [(&'static str, bool); N],
    pointer: impl Fn(&'static str) -> String,
) -> impl Iterator<Item = (&'static str, String)> {
    let stated = features.into_iter().filter(|(_, stated)| *stated);
    stated.map(move |(feature, _)| (feature, pointer(feature)))
}

#[cfg(test)]
mod tests;
