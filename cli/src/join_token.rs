//! `countersign join-token`: admit a new agent once.
//!
//! Invariant: a token is printed on standard output or written to a private file, never logged.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use identity::QualifiedName;
use runtime::Span;
use runtime::exit::Usage;
use serde_json::{Value, json};

use crate::admin::AdminArguments;
use crate::output::{self, Format, OutputArguments, Table, cell};

/// Make, list and withdraw the tokens that agents join with
#[derive(Debug, Args)]
pub(crate) struct JoinToken {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Create(Create),
    List(List),
    Delete(Withdraw),
}

/// Make a token; it is shown once and can be used once
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  countersign join-token create --agent web-7 --workload shop/orders > web-7.token
  countersign join-token create --agent web --count 3 --ttl 1h
  countersign join-token create --agent web-7 --out web-7.token && \\
    countersign run --as shop/orders --token web-7.token -- ./orders")]
struct Create {
    /// The name of the agent; -1, -2 … are appended when there are several
    #[arg(long, value_name = "NAME")]
    agent: String,
    /// A workload that the agent may hold, as namespace/name; may be repeated
    #[arg(long = "workload", value_name = "WORKLOAD")]
    workloads: Vec<QualifiedName>,
    /// How many agents
    #[arg(long, default_value_t = 1)]
    count: u32,
    /// How long it can be used [default: as the CA is configured, 10m]
    #[arg(long, value_name = "TIME")]
    ttl: Option<Span>,
    /// Accept it only from these addresses
    #[arg(long, value_name = "CIDR")]
    cidr: Option<String>,
    /// Write it to this file (0600) instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    admin: AdminArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// List tokens, without their secrets
#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    admin: AdminArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// Withdraw a token that was not used yet
#[derive(Debug, Args)]
struct Withdraw {
    /// The token's id, as `list` shows it
    id: String,
    #[command(flatten)]
    admin: AdminArguments,
}

impl JoinToken {
    pub(crate) async fn run(&self) -> anyhow::Result<()> {
        match &self.action {
            Action::Create(create) => create.run().await,
            Action::List(list) => list.run().await,
            Action::Delete(withdraw) => withdraw.run().await,
        }
    }
}

impl Create {
    async fn run(&self) -> anyhow::Result<()> {
        if self.out.is_some() && self.count != 1 {
            return Err(Usage("--out takes one token; leave out --count".to_owned()).into());
        }
        let created = self
            .admin
            .client()?
            .post("/v1/join-tokens", &self.request())
            .await?;
        if let Some(path) = &self.out {
            runtime::files::write_private(path, tokens(&created).as_bytes())?;
        } else {
            output::print(self.output.format, &created, tokens)?;
        }
        for token in created["tokens"].as_array().into_iter().flatten() {
            let (id, agent) = (cell(token, "/id"), cell(token, "/agentId"));
            output::remark(&format!(
                "token {id} for {agent}, until {}",
                cell(token, "/expiresAt")
            ));
        }
        Ok(())
    }

    fn request(&self) -> Value {
        let workloads: Vec<String> = self.workloads.iter().map(ToString::to_string).collect();
        let mut request =
            json!({ "agent": self.agent, "workloads": workloads, "count": self.count });
        if let Some(ttl) = self.ttl {
            request["ttl"] = json!(ttl.to_string().replace(' ', ""));
        }
        if let Some(cidr) = &self.cidr {
            request["cidr"] = json!(cidr);
        }
        request
    }
}

fn tokens(created: &Value) -> String {
    let tokens = created["tokens"].as_array().into_iter().flatten();
    tokens.map(|token| cell(token, "/token") + "\n").collect()
}

impl List {
    async fn run(&self) -> anyhow::Result<()> {
        let tokens = self.admin.client()?.get("/v1/join-tokens").await?;
        if self.output.format == Format::Table
            && tokens["items"].as_array().is_none_or(Vec::is_empty)
        {
            output::remark("no tokens; make one with `countersign join-token create --agent NAME`");
            return Ok(());
        }
        output::print(self.output.format, &tokens, |tokens| {
            let mut table = Table::new(&["ID", "AGENT", "EXPIRES", "USED", "MADE BY"]);
            for token in tokens["items"].as_array().into_iter().flatten() {
                let cells = ["/id", "/agentId", "/expiresAt", "/redeemedAt", "/author"];
                table.row(cells.map(|pointer| cell(token, pointer)));
            }
            table.render()
        })
    }
}

impl Withdraw {
    async fn run(&self) -> anyhow::Result<()> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if self.id.is_empty() || !self.id.bytes().all(plain) {
            let text = format!(
                "`{}` is no token id; `countersign join-token list` shows them",
                self.id
            );
            return Err(Usage(text).into());
        }
        self.admin
            .client()?
            .delete(&format!("/v1/join-tokens/{}", self.id))
            .await?;
        output::remark(&format!("token {} is withdrawn", self.id));
        Ok(())
    }
}
