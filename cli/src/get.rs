//! `countersign get`: what the CA knows, of one kind.

use clap::Args;
use identity::Namespace;
use runtime::exit::Usage;
use serde_json::{Map, Value};

use crate::admin::AdminArguments;
use crate::kind::{Kind, ObjectName};
use crate::output::{self, Format, OutputArguments, Table, cell};

/// Show workloads, services, policies, baselines, agents, revisions or svids
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  countersign get services
  countersign get policy shop/orders -o yaml
  countersign get workloads -n shop
  countersign get svids shop/orders         what was issued to a workload, newest first
  countersign get revisions")]
pub(crate) struct Get {
    /// What kind of thing
    kind: Kind,
    /// Which one: namespace/name, or a name where there is no namespace
    name: Option<String>,
    /// Only this namespace
    #[arg(short, long)]
    namespace: Option<Namespace>,
    #[command(flatten)]
    admin: AdminArguments,
    #[command(flatten)]
    output: OutputArguments,
}

impl Get {
    pub(crate) async fn run(&self) -> anyhow::Result<()> {
        let path = self.path()?;
        let answer = self.admin.client()?.get(&path).await?;
        self.print(&answer)
    }

    fn path(&self) -> anyhow::Result<String> {
        if self.namespace.is_some() && !self.kind.is_namespaced() {
            let text = format!("{} have no namespace; leave out -n", self.kind.plural());
            return Err(Usage(text).into());
        }
        let collection = format!("/v1/{}", self.kind.plural());
        match (&self.name, self.kind) {
            (None, _) => Ok(match &self.namespace {
                Some(namespace) => format!("{collection}?namespace={namespace}"),
                None => collection,
            }),
            (Some(name), Kind::Revision) => Ok(format!("{collection}/{}", path_segment(name)?)),
            (Some(name), Kind::Agent | Kind::Svid) => {
                let plural = self.kind.plural();
                let text = format!("{plural} are listed, not shown by name; leave out `{name}`");
                Err(Usage(text).into())
            }
            (Some(name), kind) => {
                let name = ObjectName::parse(kind, name, self.namespace.as_ref())
                    .map_err(|error| Usage(error.to_string()))?;
                Ok(format!("{collection}/{}", name.path()))
            }
        }
    }

    fn print(&self, answer: &Value) -> anyhow::Result<()> {
        let single = std::slice::from_ref(answer);
        let items = answer["items"].as_array().map_or(single, Vec::as_slice);
        if self.output.format == Format::Yaml && self.kind.object_kind().is_some() {
            return output::print_text(&documents(items)?);
        }
        if self.output.format == Format::Table && items.is_empty() {
            output::remark(&format!("no {}", self.kind.plural()));
            return Ok(());
        }
        output::print(self.output.format, answer, |_| columns(self.kind, items))
    }
}

/// Objects as YAML documents that can be applied: without what the CA added.
fn documents(items: &[Value]) -> anyhow::Result<String> {
    let written: Result<Vec<String>, _> = items
        .iter()
        .map(|item| serde_saphyr::to_string(&without_revision(item)))
        .collect();
    Ok(written?.join("---\n"))
}

fn without_revision(item: &Value) -> Value {
    let fields = item.as_object().into_iter().flatten();
    let kept = fields.filter(|(key, _)| key.as_str() != "revision");
    Value::Object(
        kept.map(|(key, value)| (key.clone(), value.clone()))
            .collect::<Map<_, _>>(),
    )
}

fn path_segment(text: &str) -> Result<&str, Usage> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if !text.is_empty() && text.bytes().all(plain) {
        return Ok(text);
    }
    Err(Usage(format!(
        "`{text}` is no revision; `countersign get revisions` shows them"
    )))
}

type Column = (&'static str, fn(&Value) -> String);

/// The table of things of one kind.
pub(crate) fn columns(kind: Kind, items: &[Value]) -> String {
    let columns: &[Column] = match kind {
        Kind::Workload => &[
            ("NAME", name),
            ("SPIFFE ID", |item| cell(item, "/spec/spiffeId")),
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
            ("AUTHOR", |item| cell(item, "/author")),
            ("ENFORCED AFTER MS", |item| {
                cell(item, "/enforcement/milliseconds")
            }),
            ("REASON", |item| cell(item, "/reason")),
        ],
        Kind::Svid => &[
            ("SPIFFE ID", |item| cell(item, "/spiffeId")),
            ("SERIAL", |item| cell(item, "/serial")),
            ("NOT BEFORE", |item| cell(item, "/notBefore")),
            ("NOT AFTER", |item| cell(item, "/notAfter")),
            ("AGENT", |item| cell(item, "/agentId")),
        ],
    };
    let headings: Vec<&str> = columns.iter().map(|(heading, _)| *heading).collect();
    let mut table = Table::new(&headings);
    for item in items {
        table.row(columns.iter().map(|(_, content)| content(item)));
    }
    table.render()
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

fn targets(item: &Value) -> String {
    list(item, "/spec/targets", |target| {
        format!("{}:{}", cell(target, "/service"), cell(target, "/port"))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy() -> Value {
        json!({
            "apiVersion": "countersign.dev/v1",
            "kind": "Policy",
            "metadata": { "namespace": "shop", "name": "orders" },
            "spec": { "targets": [{ "service": "orders", "port": "http" }], "allow": [{ "id": "web" }] },
            "revision": "0a-1",
        })
    }

    #[test]
    fn policy_shows_its_targets_and_rules() {
        assert_eq!(
            columns(Kind::Policy, &[policy()]),
            "NAME         TARGETS      RULES  REVISION\nshop/orders  orders:http  web    0a-1\n"
        );
    }

    #[test]
    fn yaml_can_be_applied_again() {
        let text = documents(&[policy(), policy()]).unwrap();
        assert_eq!(text.matches("kind: Policy").count(), 2);
        assert!(text.contains("\n---\n") && !text.contains("revision"));
    }

    #[test]
    fn revision_that_would_change_the_path_is_refused() {
        assert!(path_segment("../agents").is_err());
    }
}
