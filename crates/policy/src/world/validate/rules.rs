//! Policies and Baselines against the services and the mesh that they speak of.

use std::collections::BTreeMap;

use identity::QualifiedName;

use super::{Refusal, RefusalCode, Report};
use crate::resource::{AllowRule, Baseline, Policy, PortName, Protocol, RuleId, Service, Source};
use crate::world::{MeshNames, ObjectSet};

pub(super) fn policy(
    policy: &Policy,
    objects: &ObjectSet,
    mesh: &MeshNames,
    report: &mut Report<'_>,
) {
    let mut opaque = None;
    for (index, target) in policy.targets.iter().enumerate() {
        let name = policy.service_of(target);
        let Some(service) = objects.service(&name) else {
            report.refuse(
                RefusalCode::UnknownTarget,
                format!("/spec/targets/{index}/service"),
                format!("there is no Service {name}"),
                format!("create Service {name} in the same changeset, or delete this Policy too"),
            );
            continue;
        };
        match service.port(&target.port) {
            Some(port) if port.protocol == Protocol::Tcp => opaque = Some(&port.name),
            Some(_) => {}
            None => report.refuse(
                RefusalCode::UnknownTarget,
                format!("/spec/targets/{index}/port"),
                format!("Service {name} has no port {}", target.port),
                format!("its ports are {}", ports_of(service)),
            ),
        }
    }
    if let Some(port) = opaque {
        refuse_http_matches(&policy.allow, port, report);
    }
    rule_ids(
        policy.allow.iter().map(|rule| &rule.id),
        "/spec/allow",
        report,
    );
    for (index, rule) in policy.allow.iter().enumerate() {
        sources(&rule.from, &format!("/spec/allow/{index}"), mesh, report);
    }
}

pub(super) fn baseline(baseline: &Baseline, mesh: &MeshNames, report: &mut Report<'_>) {
    let deny = baseline.deny.iter().enumerate();
    let allow = baseline.allow.iter().enumerate();
    let ids = deny
        .clone()
        .map(|(index, rule)| (format!("/spec/deny/{index}/id"), &rule.id))
        .chain(
            allow
                .clone()
                .map(|(index, rule)| (format!("/spec/allow/{index}/id"), &rule.id)),
        );
    report.unique(ids, duplicate_id, ONE_ID);
    for (index, rule) in deny {
        sources(&rule.from, &format!("/spec/deny/{index}"), mesh, report);
    }
    for (index, rule) in allow {
        sources(&rule.from, &format!("/spec/allow/{index}"), mesh, report);
    }
}

/// Each port has at most one Policy, so that its owner reads one object.
pub(super) fn overlapping_targets(objects: &ObjectSet, refusals: &mut Vec<Refusal>) {
    let mut owners: BTreeMap<(QualifiedName, &PortName), &Policy> = BTreeMap::new();
    for policy in objects.policies() {
        for (index, target) in policy.targets.iter().enumerate() {
            let name = policy.service_of(target);
            let Some(owner) = owners.get(&(name.clone(), &target.port)) else {
                owners.insert((name, &target.port), policy);
                continue;
            };
            refusals.push(Refusal {
                key: policy.key(),
                pointer: format!("/spec/targets/{index}"),
                code: RefusalCode::OverlappingTarget,
                message: format!(
                    "port {} of Service {name} is a target of {} already",
                    target.port,
                    owner.key()
                ),
                suggestion: format!("add the rules to {}; order never matters", owner.key()),
            });
        }
    }
}

const ONE_ID: &str = "give it an id of its own: it names the rule in every decision";

fn duplicate_id(id: &&RuleId) -> String {
    format!("the rule id {id} occurs twice")
}

fn rule_ids<'a>(ids: impl Iterator<Item = &'a RuleId>, list: &str, report: &mut Report<'_>) {
    let ids = ids
        .enumerate()
        .map(|(index, id)| (format!("{list}/{index}/id"), id));
    report.unique(ids, duplicate_id, ONE_ID);
}

fn refuse_http_matches(rules: &[AllowRule], port: &PortName, report: &mut Report<'_>) {
    for (index, rule) in rules
        .iter()
        .enumerate()
        .filter(|(_, rule)| !rule.to.is_empty())
    {
        report.refuse(
            RefusalCode::HttpMatchOnTcp,
            format!("/spec/allow/{index}/to"),
            format!(
                "rule {} matches HTTP requests, and the target port {port} is tcp",
                rule.id
            ),
            "leave `to` out, or declare the port's protocol on the Service",
        );
    }
}

/// A name in another trust domain needs the template recorded with its federation, which there
/// is not yet. `identity`, `under` and `trustDomain` alone need no template and are obeyed.
pub(super) fn sources(from: &[Source], rule: &str, mesh: &MeshNames, report: &mut Report<'_>) {
    for (index, source) in from.iter().enumerate() {
        let (Source::Workload(_, Some(domain)) | Source::Namespace(_, Some(domain))) = source
        else {
            continue;
        };
        if *domain != mesh.trust_domain {
            report.refuse(
                RefusalCode::NotYetSupported,
                format!("{rule}/from/{index}/trustDomain"),
                format!(
                    "names in trust domain {domain} are not yet supported: it is not federated"
                ),
                format!("write `identity: spiffe://{domain}/…`, or `trustDomain: {domain}` alone"),
            );
        }
    }
}

pub(super) fn ports_of(service: &Service) -> String {
    let names: Vec<&str> = service
        .ports
        .iter()
        .map(|port| port.name.as_str())
        .collect();
    names.join(", ")
}
