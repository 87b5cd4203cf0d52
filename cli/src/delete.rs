//! `countersign delete`: objects out of the mesh, as one atomic changeset.

use std::path::PathBuf;

use clap::Args;
use identity::Namespace;
use policy::Resource;
use runtime::exit::Usage;
use serde_json::{Value, json};

use crate::admin::{AdminArguments, Client};
use crate::apply::outcomes;
use crate::kind::{Kind, ObjectName};
use crate::manifest;
use crate::output::{self, OutputArguments, cell};

/// Remove workloads, services, policies or baselines; forget an agent
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  countersign delete policy shop/orders
  countersign delete -f shop.yaml --reason 'shop moved out'
  countersign delete agent join-token/web-7      its certificate is not renewed again")]
pub(crate) struct Delete {
    /// What kind of object: workload, service, policy, baseline, route, gateway, external or agent
    #[arg(requires = "name", required_unless_present = "files")]
    kind: Option<Kind>,
    /// Which one: namespace/name, for a baseline name, for an agent attestor/name
    name: Option<String>,
    /// Delete all objects in this file instead; - for standard input
    #[arg(short, long = "file", value_name = "FILE", conflicts_with = "kind")]
    files: Vec<PathBuf>,
    /// The namespace, where the name has none
    #[arg(short, long)]
    namespace: Option<Namespace>,
    /// Why; kept with the revision
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    admin: AdminArguments,
    #[command(flatten)]
    output: OutputArguments,
}

impl Delete {
    pub(crate) async fn run(&self) -> anyhow::Result<()> {
        match (self.kind, &self.name) {
            (Some(Kind::Agent), Some(agent)) => forget(&self.admin.client()?, agent).await,
            (Some(kind), Some(name)) => {
                let Some(object_kind) = kind.object_kind() else {
                    let text = format!("{} are a record; they cannot be deleted", kind.plural());
                    return Err(Usage(text).into());
                };
                let name = ObjectName::parse(kind, name, self.namespace.as_ref())
                    .map_err(|error| Usage(error.to_string()))?;
                self.delete(vec![name.deletion(object_kind)]).await
            }
            _ => {
                let mut deletions = Vec::new();
                for file in &self.files {
                    deletions.extend(manifest::read(file)?.iter().map(deletion));
                }
                self.delete(deletions).await
            }
        }
    }

    async fn delete(&self, deletions: Vec<Value>) -> anyhow::Result<()> {
        let changeset = json!({
            "reason": self.reason.as_deref().unwrap_or_default(),
            "apply": [],
            "delete": deletions,
            "dryRun": false,
        });
        let deleted = self
            .admin
            .client()?
            .post("/v1/changesets", &changeset)
            .await?;
        output::print(self.output.format, &deleted, outcomes)?;
        output::remark(&format!("revision {}", cell(&deleted, "/revision")));
        Ok(())
    }
}

fn deletion(object: &Resource) -> Value {
    let key = object.key();
    let name = ObjectName {
        namespace: key.namespace.clone(),
        name: key.name.clone(),
    };
    name.deletion(&key.kind.to_string())
}

async fn forget(client: &Client, agent: &str) -> anyhow::Result<()> {
    let usable = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    match agent.split_once('/') {
        Some((attestor, name)) if usable(attestor) && usable(name) => {
            client
                .delete(&format!("/v1/agents/{attestor}/{name}"))
                .await?;
            output::remark(&format!(
                "agent {agent} is forgotten; nothing is issued to it again"
            ));
            Ok(())
        }
        _ => {
            let text =
                format!("`{agent}` names no agent; write attestor/name, as in join-token/web-7");
            Err(Usage(text).into())
        }
    }
}
