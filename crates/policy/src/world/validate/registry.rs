//! Services and workloads: what must be unique, what must exist, and who may have which name.

use std::collections::BTreeMap;

use identity::{QualifiedName, SpiffeId};

use super::{Refusal, RefusalCode, Report};
use crate::resource::{Kind, NamedAgents, ObjectKey, Service, Workload};
use crate::world::{MeshNames, ObjectSet};

/// Names under this are given out by the mesh.
const MESH_SUFFIX: &str = ".mesh.internal";

pub(super) fn service(service: &Service, objects: &ObjectSet, report: &mut Report<'_>) {
    let names = service.ports.iter().enumerate();
    let names = names.map(|(index, port)| (format!("/spec/ports/{index}/name"), &port.name));
    report.unique(
        names,
        |name| format!("the port name {name} occurs twice"),
        "rename one of them",
    );
    let numbers = service.ports.iter().enumerate();
    let numbers = numbers.map(|(index, port)| (format!("/spec/ports/{index}/port"), port.port));
    report.unique(
        numbers,
        |port| format!("port {port} occurs twice"),
        "callers could not tell them apart",
    );
    let workloads = service.workloads.iter().enumerate();
    let workloads = workloads.map(|(index, name)| (format!("/spec/workloads/{index}"), name));
    report.unique(
        workloads,
        |name| format!("{name} is listed twice"),
        "remove one of them",
    );
    known_workloads(&service.workloads, objects, report);
    endpoints(service, report);
}

/// Those of `/spec/workloads` must be registered.
pub(super) fn known_workloads(
    names: &[QualifiedName],
    objects: &ObjectSet,
    report: &mut Report<'_>,
) {
    for (index, name) in names.iter().enumerate() {
        let key = ObjectKey::namespaced(Kind::Workload, name);
        if objects.get(&key).is_none() {
            report.refuse(
                RefusalCode::UnknownWorkload,
                format!("/spec/workloads/{index}"),
                format!("there is no Workload {name}"),
                format!("create Workload {name} in the same changeset, or take it off the list"),
            );
        }
    }
}

pub(super) fn workload(
    workload: &Workload,
    objects: &ObjectSet,
    mesh: &MeshNames,
    report: &mut Report<'_>,
) {
    if let Some(id) = &workload.spiffe_id {
        custom_identity(&workload.name, id, mesh, report);
    }
    for (index, entry) in workload.agents.iter().enumerate() {
        if let NamedAgents::Id(agent) = entry
            && *agent.trust_domain() != mesh.trust_domain
        {
            report.refuse(
                RefusalCode::ForeignTrustDomain,
                format!("/spec/agents/{index}"),
                format!("{agent} is no agent of trust domain {}", mesh.trust_domain),
                "name an agent of this mesh",
            );
        }
    }
    for (index, name) in workload.dns_names.iter().enumerate() {
        dns_name(
            workload,
            name,
            objects,
            mesh,
            (&format!("/spec/dnsNames/{index}"), report),
        );
    }
}

/// No two entries may be given the same custom ID. (One that fits the template is its name's.)
pub(super) fn taken_identities(objects: &ObjectSet, refusals: &mut Vec<Refusal>) {
    let mut owners: BTreeMap<&SpiffeId, &Workload> = BTreeMap::new();
    for workload in objects.named_workloads() {
        let Some(id) = &workload.spiffe_id else {
            continue;
        };
        let Some(owner) = owners.get(id) else {
            owners.insert(id, workload);
            continue;
        };
        refusals.push(Refusal {
            key: ObjectKey::namespaced(Kind::Workload, &workload.name),
            pointer: "/spec/spiffeId".to_owned(),
            code: RefusalCode::TakenIdentity,
            message: format!("{id} is the identity of Workload {} already", owner.name),
            suggestion: "give this workload an identity of its own".to_owned(),
        });
    }
}

fn endpoints(service: &Service, report: &mut Report<'_>) {
    for (index, endpoint) in service.endpoints.iter().enumerate() {
        for name in endpoint
            .ports
            .keys()
            .filter(|name| service.port(name).is_none())
        {
            report.refuse(
                RefusalCode::UnknownPort,
                format!("/spec/endpoints/{index}/ports/{name}"),
                format!("this Service has no port {name}"),
                "use the name of one of its ports",
            );
        }
        if service.endpoints[..index].contains(endpoint) {
            report.refuse(
                RefusalCode::Duplicate,
                format!("/spec/endpoints/{index}"),
                format!("the endpoint {} is listed twice", endpoint.address),
                "remove one of them",
            );
        }
    }
}

fn custom_identity(name: &QualifiedName, id: &SpiffeId, mesh: &MeshNames, report: &mut Report<'_>) {
    let own = mesh.id(name);
    let leave_out = format!("leave spiffeId out for {own}");
    if *id.trust_domain() != mesh.trust_domain {
        report.refuse(
            RefusalCode::ForeignTrustDomain,
            "/spec/spiffeId",
            format!("{id} is not in trust domain {}", mesh.trust_domain),
            leave_out,
        );
    } else if id.is_reserved() || id.path().is_empty() {
        report.refuse(
            RefusalCode::ReservedIdentity,
            "/spec/spiffeId",
            format!("{id} is reserved for the mesh itself"),
            leave_out,
        );
    } else if let Some(owner) = mesh.template.name_of(id).filter(|owner| owner != name) {
        report.refuse(
            RefusalCode::TakenIdentity,
            "/spec/spiffeId",
            format!("{id} is the identity of {owner} by the trust domain's template"),
            leave_out,
        );
    }
}

/// A name under `mesh.internal` must be the workload's own, or that of a Service which lists it.
fn dns_name(
    workload: &Workload,
    dns_name: &str,
    objects: &ObjectSet,
    mesh: &MeshNames,
    (pointer, report): (&str, &mut Report<'_>),
) {
    let own = format!(
        "{}.{}{MESH_SUFFIX}",
        workload.name.name, workload.name.namespace
    );
    if mesh.ca_dns_names.iter().any(|served| served == dns_name) {
        let message = format!("{dns_name} is served by the CA");
        report.refuse(
            RefusalCode::DnsNameNotOwn,
            pointer,
            message,
            format!("use {own}"),
        );
        return;
    }
    let Some(label) = dns_name.strip_suffix(MESH_SUFFIX) else {
        return;
    };
    if dns_name != own && !serves(workload, label, objects) {
        let message =
            format!("{dns_name} belongs to neither this workload nor a Service that lists it");
        report.refuse(
            RefusalCode::DnsNameNotOwn,
            pointer,
            message,
            format!("use {own}"),
        );
    }
}

/// `label` is `<name>.<namespace>` of a Service.
fn serves(workload: &Workload, label: &str, objects: &ObjectSet) -> bool {
    let Some((name, namespace)) = label.split_once('.') else {
        return false;
    };
    let (Ok(name), Ok(namespace)) = (name.parse(), namespace.parse()) else {
        return false;
    };
    let service = objects.service(&QualifiedName { namespace, name });
    service.is_some_and(|service| service.workloads.contains(&workload.name))
}
