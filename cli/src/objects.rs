//! The objects that `run` and `up --demo` write, as anyone could write them in YAML.

use identity::{AgentId, QualifiedName};
use policy::API_VERSION;
use rustix::process::geteuid;
use serde_json::{Value, json};

use crate::port_spec::PortSpec;

/// A Workload for programs of this user.
pub(crate) fn workload(name: &QualifiedName, agents: &[AgentId]) -> Value {
    let agents: Vec<String> = agents.iter().map(ToString::to_string).collect();
    let mut object = object("Workload", name);
    object["spec"] = json!({ "selectors": { "unix": { "uid": geteuid().as_raw() } } });
    if !agents.is_empty() {
        object["spec"]["agents"] = json!(agents);
    }
    object
}

/// A Service of the same name as its Workload.
pub(crate) fn service(name: &QualifiedName, ports: &[PortSpec]) -> Value {
    let mut object = object("Service", name);
    let ports: Vec<Value> = ports
        .iter()
        .map(|port| {
            json!({
                "name": port.name.to_string(),
                "port": port.port,
                "protocol": port.protocol.as_str(),
                "app": port.app,
            })
        })
        .collect();
    object["spec"] = json!({ "workloads": [name.to_string()], "ports": ports });
    object
}

/// A Policy for the `http` port of a Service in its own namespace.
pub(crate) fn policy(name: &QualifiedName, rule: &str, from: &QualifiedName) -> Value {
    let mut object = object("Policy", name);
    object["spec"] = json!({
        "targets": [{ "service": name.name.to_string(), "port": "http" }],
        "allow": [{
            "id": rule,
            "from": [{ "workload": from.to_string() }],
            "to": { "http": [{ "methods": ["GET"], "path": "/" }] },
        }],
    });
    object
}

/// How a changeset names an object that goes.
pub(crate) fn deletion(kind: &str, name: &QualifiedName) -> Value {
    json!({
        "kind": kind,
        "namespace": name.namespace.to_string(),
        "name": name.name.to_string(),
    })
}

fn object(kind: &str, name: &QualifiedName) -> Value {
    json!({
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {
            "namespace": name.namespace.to_string(),
            "name": name.name.to_string(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_objects_are_valid() {
        let name: QualifiedName = "shop/orders".parse().unwrap();
        let agent: AgentId = "spiffe://demo.example/countersign/agent/join-token/a"
            .parse()
            .unwrap();
        let ports = ["http=8080".parse().unwrap()];
        let objects = [
            workload(&name, &[agent]),
            service(&name, &ports),
            policy(&name, "web", &name),
        ];
        for object in objects {
            policy::parse_json(&object).unwrap();
        }
    }
}
