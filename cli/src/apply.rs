//! `countersign apply`: objects from files into the mesh, as one atomic changeset.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use runtime::Span;
use serde_json::{Value, json};

use crate::admin::{AdminArguments, Client};
use crate::manifest;
use crate::output::{self, OutputArguments, Table, cell};
use crate::revocation::told;

/// Create or change workloads, services, policies and baselines
#[derive(Debug, Args)]
#[command(after_help = "\
All objects of all files become one revision, or none does.

Examples:
  countersign apply -f policy.yaml
  countersign apply -f policy.yaml --dry-run
  countersign apply -f shop.yaml -f bi.yaml --reason 'open orders to bi' --wait
  countersign get policies -o yaml | countersign apply -f -")]
pub(crate) struct Apply {
    /// A file of YAML documents or JSON; - for standard input
    #[arg(short, long = "file", required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Judge the change and say what it would do, without doing it
    #[arg(long)]
    dry_run: bool,
    /// Why; kept with the revision
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Wait until every connected proxy enforces the change [default when given: 10s]
    #[arg(long, value_name = "TIME", num_args = 0..=1, default_missing_value = "10s", require_equals = true)]
    wait: Option<Span>,
    #[command(flatten)]
    admin: AdminArguments,
    #[command(flatten)]
    output: OutputArguments,
}

impl Apply {
    pub(crate) async fn run(&self) -> anyhow::Result<()> {
        let mut objects = Vec::new();
        for file in &self.files {
            objects.extend(manifest::read(file)?.iter().map(policy::Resource::to_json));
        }
        let client = self.admin.client()?;
        let changeset = json!({
            "reason": self.reason.as_deref().unwrap_or_default(),
            "apply": objects,
            "delete": [],
            "dryRun": self.dry_run,
        });
        let applied = client.post("/v1/changesets", &changeset).await?;
        output::print(self.output.format, &applied, outcomes)?;
        self.remark_on(&applied);
        match self.wait {
            Some(limit) if !self.dry_run => {
                wait_enforced(&client, &applied, limit.duration()).await
            }
            _ => Ok(()),
        }
    }

    fn remark_on(&self, applied: &Value) {
        let revision = cell(applied, "/revision");
        let changed = applied["changed"].as_bool().unwrap_or(true);
        output::remark(&match (self.dry_run, changed) {
            (true, _) => "dry run: nothing was changed".to_owned(),
            (false, false) => format!("nothing to change; the mesh is at revision {revision}"),
            (false, true) => format!("revision {revision}"),
        });
    }
}

/// One row for each object of a changeset's answer.
pub(crate) fn outcomes(applied: &Value) -> String {
    let mut table = Table::new(&["KIND", "NAME", "OUTCOME"]);
    for object in applied["objects"].as_array().into_iter().flatten() {
        table.row([
            cell(object, "/kind"),
            qualified(object),
            cell(object, "/outcome"),
        ]);
    }
    table.render()
}

fn qualified(object: &Value) -> String {
    match object["namespace"].as_str() {
        Some(namespace) => format!("{namespace}/{}", cell(object, "/name")),
        None => cell(object, "/name"),
    }
}

async fn wait_enforced(client: &Client, applied: &Value, limit: Duration) -> anyhow::Result<()> {
    let revision = cell(applied, "/revision");
    let milliseconds = limit.as_millis();
    let path = format!("/v1/revisions/{revision}?wait=enforced&timeoutMs={milliseconds}");
    let state = client.get(&path).await?;
    if state
        .pointer("/enforcement/enforcedAt")
        .is_some_and(|at| !at.is_null())
    {
        let took = cell(&state, "/enforcement/milliseconds");
        output::remark(&format!("enforced everywhere after {took} ms"));
        return Ok(());
    }
    anyhow::bail!(
        "revision {revision} is committed, but not enforced after {}: {}; `countersign status` shows agents",
        Span::new(limit),
        told(&state["enforcement"]),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_name_objects_with_and_without_namespace() {
        let applied = json!({ "objects": [
            { "kind": "Policy", "namespace": "shop", "name": "orders", "outcome": "created" },
            { "kind": "Baseline", "name": "org", "outcome": "unchanged" },
        ]});
        assert_eq!(
            outcomes(&applied),
            "KIND      NAME         OUTCOME\n\
             Policy    shop/orders  created\n\
             Baseline  org          unchanged\n"
        );
    }
}
