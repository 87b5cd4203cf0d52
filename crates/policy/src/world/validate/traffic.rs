//! Routes, Gateways and Externals against the services and hosts that they speak of.

use std::collections::BTreeMap;

use identity::QualifiedName;

use super::registry::known_workloads;
use super::rules::{ports_of, sources};
use super::{Refusal, RefusalCode, Report};
use crate::resource::{
    External, Gateway, HttpMatch, ObjectKey, Port, PortName, Protocol, RetryMethods, Route,
    RouteRule,
};
use crate::world::{MeshNames, ObjectSet};

/// Names that the mesh itself answers for.
const MESH_DOMAIN: &str = "mesh.internal";

pub(super) fn route(route: &Route, objects: &ObjectSet, report: &mut Report<'_>) {
    let target = route.target();
    let places = ["/spec/service".to_owned(), "/spec/port".to_owned()];
    let Some(port) = http_port(objects, &target, &route.port, places, report) else {
        return;
    };
    let protocol = port.protocol;
    for (index, rule) in route.rules.iter().enumerate() {
        let at = format!("/spec/rules/{index}");
        destinations(route, rule, (&at, protocol), objects, report);
        only_for_grpc(rule, (&at, protocol), report);
    }
    let matches = route.rules.iter().enumerate().flat_map(|(index, rule)| {
        let at = format!("/spec/rules/{index}");
        let stated = rule.matches.iter().enumerate();
        let stated = stated.map({
            let at = at.clone();
            move |(nth, entry)| (format!("{at}/match/{nth}"), Some(entry))
        });
        let all = rule.matches.is_empty().then_some((at, None));
        stated.chain(all)
    });
    identical_matches(matches, report);
}

pub(super) fn gateway(gateway: &Gateway, objects: &ObjectSet, report: &mut Report<'_>) {
    known_workloads(&gateway.workloads, objects, report);
    let names = gateway.listeners.iter().enumerate();
    let names = names.map(|(index, it)| (format!("/spec/listeners/{index}/name"), &it.name));
    report.unique(
        names,
        |name| format!("the listener name {name} occurs twice"),
        "rename one of them",
    );
    for (index, listener) in gateway.listeners.iter().enumerate() {
        let at = |nth: usize| format!("/spec/listeners/{index}/routes/{nth}");
        for (nth, host) in listener.hosts.iter().enumerate() {
            mesh_host(
                host,
                &format!("/spec/listeners/{index}/hosts/{nth}"),
                report,
            );
        }
        for (nth, route) in listener.routes.iter().enumerate() {
            let places = [format!("{}/service", at(nth)), format!("{}/port", at(nth))];
            http_port(objects, &route.service, &route.port, places, report);
        }
        let routes = listener.routes.iter().enumerate();
        identical_matches(
            routes.map(|(nth, route)| (at(nth), route.matching.as_ref())),
            report,
        );
    }
}

pub(super) fn external(external: &External, mesh: &MeshNames, report: &mut Report<'_>) {
    for (index, host) in external.hosts.iter().enumerate() {
        mesh_host(host, &format!("/spec/hosts/{index}"), report);
    }
    sources(&external.from, "/spec", mesh, report);
}

/// Each port has at most one Route, so that its owner reads one object.
pub(super) fn overlapping_routes(objects: &ObjectSet, refusals: &mut Vec<Refusal>) {
    let mut owners: BTreeMap<(QualifiedName, &PortName), ObjectKey> = BTreeMap::new();
    for route in objects.routes() {
        let at = (route.target(), &route.port);
        let what = format!("port {} of Service {}", at.1, at.0);
        let place = (route.key(), "/spec/port".to_owned());
        claim(&mut owners, at, place, &what, refusals);
    }
}

/// A workload's proxy tells its listeners apart by port and host alone.
pub(super) fn overlapping_listeners(objects: &ObjectSet, refusals: &mut Vec<Refusal>) {
    let mut owners: BTreeMap<(&QualifiedName, u16, &str), ObjectKey> = BTreeMap::new();
    for gateway in objects.gateways() {
        let key = gateway.key();
        for (index, listener) in gateway.listeners.iter().enumerate() {
            for (nth, host) in listener.hosts.iter().enumerate() {
                let what = format!("host {host} on port {}", listener.port);
                let place = format!("/spec/listeners/{index}/hosts/{nth}");
                for workload in &gateway.workloads {
                    let at = (workload, listener.port, host.as_str());
                    claim(
                        &mut owners,
                        at,
                        (key.clone(), place.clone()),
                        &what,
                        refusals,
                    );
                }
            }
        }
    }
}

/// A host has one meaning in the whole mesh.
pub(super) fn overlapping_hosts(objects: &ObjectSet, refusals: &mut Vec<Refusal>) {
    let mut owners: BTreeMap<&str, ObjectKey> = BTreeMap::new();
    for external in objects.externals() {
        for (index, host) in external.hosts.iter().enumerate() {
            let place = (external.key(), format!("/spec/hosts/{index}"));
            claim(&mut owners, host, place, &format!("host {host}"), refusals);
        }
    }
}

fn claim<K: Ord>(
    owners: &mut BTreeMap<K, ObjectKey>,
    at: K,
    (key, pointer): (ObjectKey, String),
    what: &str,
    refusals: &mut Vec<Refusal>,
) {
    let Some(owner) = owners.get(&at) else {
        owners.insert(at, key);
        return;
    };
    refusals.push(Refusal {
        pointer,
        code: RefusalCode::Overlapping,
        message: format!("{what} belongs to {owner} already"),
        suggestion: format!("change {owner} instead, or take it out of there"),
        key,
    });
}

/// The port, if it is there and has requests; `places` point at the service and the port.
fn http_port<'a>(
    objects: &'a ObjectSet,
    name: &QualifiedName,
    port: &PortName,
    places: [String; 2],
    report: &mut Report<'_>,
) -> Option<&'a Port> {
    let [at_service, at_port] = places;
    let Some(service) = objects.service(name) else {
        report.refuse(
            RefusalCode::UnknownBackend,
            at_service,
            format!("there is no Service {name}"),
            format!("create Service {name} in the same changeset"),
        );
        return None;
    };
    let Some(found) = service.port(port) else {
        report.refuse(
            RefusalCode::UnknownBackend,
            at_port,
            format!("Service {name} has no port {port}"),
            format!("its ports are {}", ports_of(service)),
        );
        return None;
    };
    if found.protocol.is_http() {
        return Some(found);
    }
    report.refuse(
        RefusalCode::ProtocolMismatch,
        at_port,
        format!("port {port} of Service {name} is tcp, which has no requests to route"),
        "name a port of protocol http, http2 or grpc",
    );
    None
}

/// Backends and the mirror are called on the port of the same name, in the same protocol.
fn destinations(
    route: &Route,
    rule: &RouteRule,
    (at, protocol): (&str, Protocol),
    objects: &ObjectSet,
    report: &mut Report<'_>,
) {
    let backends = rule.backends.iter().enumerate();
    let backends = backends.map(|(nth, it)| (format!("{at}/backends/{nth}/service"), &it.service));
    let mirror = rule.mirror.iter();
    let mirror = mirror.map(|it| (format!("{at}/mirror/service"), &it.service));
    for (place, name) in backends.chain(mirror) {
        let name = route.service_of(name);
        let places = [place.clone(), place.clone()];
        let found = http_port(objects, &name, &route.port, places, report);
        if let Some(port) = found.filter(|port| port.protocol != protocol) {
            report.refuse(
                RefusalCode::ProtocolMismatch,
                place,
                format!(
                    "port {} of Service {name} speaks {}, and the Route's speaks {}",
                    route.port,
                    port.protocol.as_str(),
                    protocol.as_str()
                ),
                "declare the same protocol on both",
            );
        }
    }
}

fn only_for_grpc(rule: &RouteRule, (at, protocol): (&str, Protocol), report: &mut Report<'_>) {
    let lists_grpc = rule
        .retry
        .as_ref()
        .is_some_and(|retry| matches!(retry.methods, RetryMethods::Grpc(_)));
    if lists_grpc && protocol != Protocol::Grpc {
        report.refuse(
            RefusalCode::ProtocolMismatch,
            format!("{at}/retry/methods"),
            format!("gRPC methods on a port of protocol {}", protocol.as_str()),
            "write `methods: idempotent`, or declare the port's protocol as grpc",
        );
    }
    if rule.hedge.is_some() && protocol == Protocol::Grpc {
        report.refuse(
            RefusalCode::ProtocolMismatch,
            format!("{at}/hedge"),
            "gRPC calls are POST requests, which are never hedged",
            "leave `hedge` out",
        );
    }
}

/// Of two that fit the same requests only one could ever decide.
fn identical_matches<'a>(
    matches: impl Iterator<Item = (String, Option<&'a HttpMatch>)>,
    report: &mut Report<'_>,
) {
    let mut seen: Vec<Option<&HttpMatch>> = Vec::new();
    for (pointer, entry) in matches {
        let is_same = |other: &Option<&HttpMatch>| match (other, entry) {
            (Some(other), Some(entry)) => other.is_same_as(entry),
            (None, None) => true,
            _ => false,
        };
        if seen.iter().any(is_same) {
            report.refuse(
                RefusalCode::Duplicate,
                pointer,
                "an earlier match fits exactly the same requests",
                "merge the two, or make one of them differ",
            );
        }
        seen.push(entry);
    }
}

fn mesh_host(host: &str, pointer: &str, report: &mut Report<'_>) {
    let parent = host.strip_suffix(MESH_DOMAIN);
    if parent.is_some_and(|parent| parent.is_empty() || parent.ends_with('.')) {
        report.refuse(
            RefusalCode::MeshHost,
            pointer,
            format!("{host} is a name of the mesh itself"),
            "a Service answers for it; name a host outside the mesh",
        );
    }
}
