//! `countersign store`: whether the CA's store holds everything that was seen of it, and the way on
//! when it does not.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::admin::AdminArguments;
use crate::output::{self, OutputArguments, Table, cell};

const PATH: &str = "/v1/store";

/// Show whether the CA's store has lost anything, and go on without it
#[derive(Debug, Args)]
pub(crate) struct Store {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Show(Show),
    AcceptLoss(AcceptLoss),
}

/// Show what the store holds, and who has seen more
#[derive(Debug, Args)]
struct Show {
    #[command(flatten)]
    admin: AdminArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// Go on with what the store holds, after a restore or a failover
///
/// Replicas and agents that have seen later revisions than the store holds refuse to go back: the
/// CA then refuses configuration writes and attestation. This begins a new epoch: what the store
/// holds is in force, everybody gets it whole, and what is listed as lost is gone. Without --yes
/// nothing is changed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  countersign store accept-loss
  countersign store accept-loss --yes --reason 'restored from the back-up of Sunday'")]
struct AcceptLoss {
    /// Do it
    #[arg(long)]
    yes: bool,
    /// For the history
    #[arg(long, default_value = "loss accepted")]
    reason: String,
    #[command(flatten)]
    admin: AdminArguments,
}

impl Store {
    pub(crate) async fn run(&self) -> anyhow::Result<()> {
        match &self.action {
            Action::Show(show) => show.run().await,
            Action::AcceptLoss(accept) => accept.run().await,
        }
    }
}

impl Show {
    async fn run(&self) -> anyhow::Result<()> {
        let store = self.admin.client()?.get(PATH).await?;
        output::print(self.output.format, &store, table)
    }
}

impl AcceptLoss {
    async fn run(&self) -> anyhow::Result<()> {
        let client = self.admin.client()?;
        let store = client.get(PATH).await?;
        for line in evidence(&store) {
            output::remark(&line);
        }
        if !self.yes {
            anyhow::bail!("nothing was changed; repeat with --yes to go on with what is held");
        }
        let request = json!({ "head": store["head"], "reason": self.reason });
        let accepted = client.post("/v1/store/accept-loss", &request).await?;
        output::remark(&format!(
            "a new epoch begins with revision {}",
            cell(&accepted, "/revision")
        ));
        Ok(())
    }
}

fn evidence(store: &Value) -> Vec<String> {
    let head = cell(store, "/head");
    let behind = &store["behind"];
    if behind.is_null() {
        return vec![format!(
            "the store holds revision {head}; nobody who is connected has seen a later one"
        )];
    }
    let mut lines = vec![format!(
        "the store holds revision {head}, but {} was seen: revisions {} to {} are lost",
        cell(behind, "/seen"),
        cell(behind, "/lost/0"),
        cell(behind, "/lost/1"),
    )];
    for agent in behind["agents"].as_array().into_iter().flatten() {
        let (id, revision) = (cell(agent, "/agentId"), cell(agent, "/revision"));
        lines.push(format!("  {id} holds {revision}"));
    }
    for object in behind["objects"].as_array().into_iter().flatten() {
        let name = cell(object, "/object");
        lines.push(match (&object["was"], &object["is"]) {
            (Value::String(was), Value::Null) => format!("  lost: {name} of {was}"),
            (Value::String(was), Value::String(is)) => {
                format!("  {name} goes back from {was} to {is}")
            }
            _ => format!("  {name} comes back: it was deleted"),
        });
    }
    if behind["seenHere"] == false {
        lines
            .push("  this replica has not seen them: which objects they changed is unknown".into());
    }
    lines
}

fn table(store: &Value) -> String {
    let mut table = Table::pairs();
    table.row([String::from("kind"), cell(store, "/kind")]);
    table.row([String::from("head"), cell(store, "/head")]);
    for line in evidence(store) {
        table.row([String::new(), line]);
    }
    table.render()
}
