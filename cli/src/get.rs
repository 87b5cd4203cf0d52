//! `countersign get`: what the CA knows, of one kind.

mod columns;

use clap::Args;
use identity::{IdTemplate, Namespace, QualifiedName, SpiffeId, SpiffeIdError};
use runtime::exit::Usage;
use serde_json::{Map, Value};

use crate::admin::{AdminArguments, Client};
use crate::kind::{Kind, ObjectName};
use crate::output::{self, Format, OutputArguments, cell};
pub(crate) use columns::columns;

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
        let client = self.admin.client()?;
        let path = match (&self.name, self.kind) {
            (Some(name), Kind::Svid) => {
                format!("{path}?spiffeId={}", spiffe_id(&client, name).await?)
            }
            _ => path,
        };
        self.print(&client.get(&path).await?)
    }

    fn path(&self) -> anyhow::Result<String> {
        if self.namespace.is_some() && !self.kind.is_namespaced() {
            let text = format!("{} have no namespace; leave out -n", self.kind.plural());
            return Err(Usage(text).into());
        }
        let collection = format!("/v1/{}", self.kind.plural());
        match (&self.name, self.kind) {
            (Some(_), Kind::Svid) => Ok(collection),
            (None, _) => Ok(match &self.namespace {
                Some(namespace) => format!("{collection}?namespace={namespace}"),
                None => collection,
            }),
            (Some(name), Kind::Revision) => Ok(format!("{collection}/{}", path_segment(name)?)),
            (Some(name), Kind::Agent) => {
                let text = format!("leave out `{name}`, or write `countersign agent show {name}`");
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

/// The identity that a person named: as a SPIFFE ID, or as the workload that has it.
async fn spiffe_id(client: &Client, text: &str) -> anyhow::Result<SpiffeId> {
    if text.starts_with("spiffe:") {
        return Ok(text
            .parse()
            .map_err(|error: SpiffeIdError| Usage(error.to_string()))?);
    }
    let name: QualifiedName = text.parse().map_err(|_| {
        Usage(format!(
            "`{text}` names no identity; write namespace/name or a SPIFFE ID"
        ))
    })?;
    let workload = client.get(&format!("/v1/workloads/{name}")).await?;
    if let Some(custom) = workload.pointer("/spec/spiffeId").and_then(Value::as_str) {
        return Ok(custom.parse()?);
    }
    let template: IdTemplate = cell(&client.get("/v1/about").await?, "/idTemplate").parse()?;
    Ok(template.id(client.trust_domain(), &name))
}

/// Objects as YAML documents that can be applied: without what the CA added.
fn documents(items: &[Value]) -> anyhow::Result<String> {
    let written: Result<Vec<String>, _> = items
        .iter()
        .map(|item| serde_saphyr::to_string(&as_written(item)))
        .collect();
    Ok(written?.join("---\n"))
}

fn as_written(item: &Value) -> Value {
    let fields = item.as_object().into_iter().flatten();
    let kept = fields.filter(|(key, _)| !matches!(key.as_str(), "revision" | "status"));
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
