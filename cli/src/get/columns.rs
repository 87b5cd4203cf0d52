//! The table of each kind of thing.

use serde_json::Value;

use crate::kind::Kind;
use crate::output::{Table, cell};

type Column = (&'static str, fn(&Value) -> String);

/// The table of things of one kind.
pub(crate) fn columns(kind: Kind, items: &[Value]) -> String {
    let columns = match kind {
        Kind::Agent | Kind::Revision | Kind::Svid => of_record(kind),
        _ => of_object(kind),
    };
    let headings: Vec<&str> = columns.iter().map(|(heading, _)| *heading).collect();
    let mut table = Table::new(&headings);
    for item in items {
        table.row(columns.iter().map(|(_, content)| content(item)));
    }
    table.render()
}

/// What people write.
fn of_object(kind: Kind) -> &'static [Column] {
    match kind {
        Kind::Workload => &[
            ("NAME", name),
            ("CUSTOM ID", |item| cell(item, "/spec/spiffeId")),
            ("AGENTS", |item| count(item, "/spec/agents")),
            ("TTL", |item| cell(item, "/spec/ttl")),
            ("REVISION", |item| cell(item, "/revision")),
        ],
        Kind::Service => &[
            ("NAME", name),
            ("PORTS", ports),
            ("WORKLOADS", |item| cell(item, "/spec/workloads")),
            ("REVISION", |item| cell(item, "/revision")),
        ],
        Kind::Policy => &[
            ("NAME", name),
            ("TARGETS", targets),
            ("RULES", |item| ids(item, "/spec/allow")),
            ("REVISION", |item| cell(item, "/revision")),
        ],
        Kind::Baseline => &[
            ("NAME", name),
            ("DENY", |item| ids(item, "/spec/deny")),
            ("ALLOW", |item| ids(item, "/spec/allow")),
            ("REVISION", |item| cell(item, "/revision")),
        ],
        Kind::Route => &[
            ("NAME", name),
            ("TARGET", target),
            ("RULES", |item| count(item, "/spec/rules")),
            ("REVISION", |item| cell(item, "/revision")),
        ],
        Kind::Gateway => &[
            ("NAME", name),
            ("WORKLOADS", |item| cell(item, "/spec/workloads")),
            ("LISTENERS", listeners),
            ("REVISION", |item| cell(item, "/revision")),
        ],
        Kind::External => &[
            ("NAME", name),
            ("HOSTS", |item| cell(item, "/spec/hosts")),
            ("PORT", |item| cell(item, "/spec/port")),
            ("REVISION", |item| cell(item, "/revision")),
        ],
        Kind::Agent | Kind::Revision | Kind::Svid => &[],
    }
}

/// What the CA records by itself.
fn of_record(kind: Kind) -> &'static [Column] {
    match kind {
        Kind::Agent => &[
            ("AGENT", |item| cell(item, "/spiffeId")),
            ("CONNECTED", |item| cell(item, "/connected")),
            ("APPLIED", |item| cell(item, "/acknowledged")),
            ("WORKLOADS", |item| cell(item, "/workloads")),
            ("CERTIFICATE UNTIL", |item| cell(item, "/notAfter")),
            ("PRODUCT", |item| cell(item, "/product")),
        ],
        Kind::Revision => &[
            ("REVISION", |item| cell(item, "/revision")),
            ("COMMITTED", |item| cell(item, "/committedAt")),
            ("ENFORCED AFTER", enforced_after),
            ("AUTHOR", |item| cell(item, "/author")),
            ("REASON", |item| cell(item, "/reason")),
        ],
        Kind::Svid => &[
            ("SPIFFE ID", |item| cell(item, "/spiffeId")),
            ("SERIAL", |item| cell(item, "/serial")),
            ("NOT BEFORE", |item| cell(item, "/notBefore")),
            ("NOT AFTER", |item| cell(item, "/notAfter")),
            ("AGENT", |item| cell(item, "/agentId")),
        ],
        _ => &[],
    }
}

/// Empty until it is enforced.
fn enforced_after(revision: &Value) -> String {
    match revision
        .pointer("/enforcement/milliseconds")
        .and_then(Value::as_u64)
    {
        Some(milliseconds) => format!("{milliseconds} ms"),
        None => String::new(),
    }
}

fn name(item: &Value) -> String {
    match item.pointer("/metadata/namespace").and_then(Value::as_str) {
        Some(namespace) => format!("{namespace}/{}", cell(item, "/metadata/name")),
        None => cell(item, "/metadata/name"),
    }
}

fn count(item: &Value, pointer: &str) -> String {
    item.pointer(pointer)
        .and_then(Value::as_array)
        .map_or(0, Vec::len)
        .to_string()
}

fn list(item: &Value, pointer: &str, text: impl Fn(&Value) -> String) -> String {
    match item.pointer(pointer).and_then(Value::as_array) {
        Some(items) if !items.is_empty() => items.iter().map(text).collect::<Vec<_>>().join(","),
        _ => "-".to_owned(),
    }
}

fn ids(item: &Value, pointer: &str) -> String {
    list(item, pointer, |rule| cell(rule, "/id"))
}

fn ports(item: &Value) -> String {
    list(item, "/spec/ports", |port| {
        format!(
            "{}:{}/{}",
            cell(port, "/name"),
            cell(port, "/port"),
            cell(port, "/protocol")
        )
    })
}

fn target(item: &Value) -> String {
    format!(
        "{}:{}",
        cell(item, "/spec/service"),
        cell(item, "/spec/port")
    )
}

fn listeners(item: &Value) -> String {
    list(item, "/spec/listeners", |listener| {
        format!("{}:{}", cell(listener, "/name"), cell(listener, "/port"))
    })
}

fn targets(item: &Value) -> String {
    list(item, "/spec/targets", |target| {
        format!("{}:{}", cell(target, "/service"), cell(target, "/port"))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn policy_shows_its_targets_and_rules() {
        let policy = json!({
            "metadata": { "namespace": "shop", "name": "orders" },
            "spec": { "targets": [{ "service": "orders", "port": "http" }], "allow": [{ "id": "web" }] },
            "revision": "0a-1",
        });
        assert_eq!(
            columns(Kind::Policy, &[policy]),
            "NAME         TARGETS      RULES  REVISION\nshop/orders  orders:http  web    0a-1\n"
        );
    }

    #[test]
    fn gateway_shows_where_it_listens() {
        let gateway = json!({
            "metadata": { "namespace": "edge", "name": "public" },
            "spec": { "workloads": ["edge/gateway"], "listeners": [{ "name": "web", "port": 443 }] },
            "revision": "0a-1",
        });
        assert!(columns(Kind::Gateway, &[gateway]).contains("web:443"));
    }

    #[test]
    fn service_shows_what_callers_say() {
        let service = json!({
            "metadata": { "namespace": "shop", "name": "orders" },
            "spec": {
                "workloads": ["shop/orders"],
                "ports": [{ "name": "http", "port": 80, "protocol": "http", "app": 8080 }],
            },
            "revision": "0a-1",
        });
        assert!(columns(Kind::Service, &[service]).contains("http:80/http"));
    }
}
