//! `countersign agent`: which agents there are, and how they end.
//!
//! Invariant: what is destructive names one agent in full, or an age.

use clap::{Args, Subcommand};
use identity::{AgentId, QualifiedName};
use runtime::Span;
use runtime::exit::Usage;
use serde_json::{Value, json};

use crate::admin::{AdminArguments, Client};
use crate::output::{self, Format, OutputArguments, Table, cell};
use crate::revocation;

/// Show agents, ban them, evict them, and forget those that are long over
#[derive(Debug, Args)]
pub(crate) struct Agent {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    List(List),
    Show(Show),
    Explain(Explain),
    Ban(Ban),
    /// Lift an agent's ban
    Unban(Named),
    /// End an agent's renewals and connections; it must attest again by a fresh proof
    Evict(Named),
    Purge(Purge),
}

/// List agents and bans
#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    admin: AdminArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// Show all that is known of one agent
#[derive(Debug, Args)]
struct Show {
    /// As attestor/name, or its SPIFFE ID
    agent: String,
    #[command(flatten)]
    admin: AdminArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// Say whether an agent may hold a workload, and why not
///
/// An entry names an agent by its ID, or by its attestor and what that said of it when the agent
/// attested last.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  countersign agent explain k8s/web-7 shop/orders")]
struct Explain {
    /// As attestor/name, or its SPIFFE ID
    agent: String,
    /// As namespace/name
    workload: QualifiedName,
    #[command(flatten)]
    admin: AdminArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// Keep an agent from attesting, renewing and being issued anything
///
/// Its join tokens are deleted, its connections end, and what was issued through it is refused
/// everywhere; the answer says how much that is. The same as `revoke agent`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  countersign agent ban x509pop/web-7 --reason 'disk sold with its keys'
  countersign agent unban x509pop/web-7")]
struct Ban {
    /// As attestor/name, or its SPIFFE ID
    agent: String,
    /// Why, for whoever reads the list
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Also where live proxies or agents are too old to obey
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    admin: AdminArguments,
    #[command(flatten)]
    output: OutputArguments,
}

#[derive(Debug, Args)]
struct Named {
    /// As attestor/name, or its SPIFFE ID
    agent: String,
    #[command(flatten)]
    admin: AdminArguments,
}

/// Forget the agents whose last certificate ended long ago; bans stay
#[derive(Debug, Args)]
struct Purge {
    /// How long ago it must have ended, such as 30d
    #[arg(long, value_name = "TIME")]
    expired_for: Span,
    #[command(flatten)]
    admin: AdminArguments,
    #[command(flatten)]
    output: OutputArguments,
}

impl Agent {
    pub(crate) async fn run(&self) -> anyhow::Result<()> {
        match &self.action {
            Action::List(list) => list.run().await,
            Action::Show(show) => show.run().await,
            Action::Explain(explain) => explain.run().await,
            Action::Ban(ban) => ban.run().await,
            Action::Unban(named) => named.lift_ban().await,
            Action::Evict(named) => named.evict().await,
            Action::Purge(purge) => purge.run().await,
        }
    }
}

impl List {
    async fn run(&self) -> anyhow::Result<()> {
        let agents = self.admin.client()?.get("/v1/agents").await?;
        let none = |list: &Value| list.as_array().is_none_or(Vec::is_empty);
        if self.output.format == Format::Table && none(&agents["items"]) && none(&agents["bans"]) {
            output::remark("no agents; `countersign join-token create --agent NAME` admits one");
            return Ok(());
        }
        output::print(self.output.format, &agents, table)
    }
}

fn table(agents: &Value) -> String {
    let mut table = Table::new(&[
        "AGENT",
        "ATTESTED",
        "EXPIRES",
        "CONNECTED",
        "SELECTORS",
        "BANNED",
    ]);
    let listed = agents["items"].as_array().into_iter().flatten();
    for agent in listed.clone() {
        let cells = [
            "/spiffeId",
            "/attestedAt",
            "/notAfter",
            "/connected",
            "/selectors",
            "/ban/reason",
        ];
        table.row(cells.map(|pointer| text_of(agent, pointer)));
    }
    let known: Vec<_> = listed.map(|agent| &agent["spiffeId"]).collect();
    for ban in agents["bans"].as_array().into_iter().flatten() {
        if !known.contains(&&ban["agentId"]) {
            let cells = [
                "/agentId",
                "/none",
                "/none",
                "/none",
                "/none",
                "/ban/reason",
            ];
            table.row(cells.map(|pointer| cell(ban, pointer)));
        }
    }
    table.render()
}

impl Show {
    async fn run(&self) -> anyhow::Result<()> {
        let client = self.admin.client()?;
        let agent = client.get(&path(&client, &self.agent)?).await?;
        output::print(self.output.format, &agent, |agent| {
            let mut table = Table::pairs();
            for (name, pointer) in [
                ("agent", "/spiffeId"),
                ("attested", "/attestedAt"),
                ("serial", "/serial"),
                ("certificate until", "/notAfter"),
                ("connected", "/connected"),
                ("applied", "/acknowledged"),
                ("product", "/product"),
                ("selectors", "/selectors"),
                ("workloads", "/workloads"),
                ("banned at", "/ban/bannedAt"),
                ("banned by", "/ban/author"),
                ("banned because", "/ban/reason"),
            ] {
                table.row([name.to_owned(), text_of(agent, pointer)]);
            }
            table.render()
        })
    }
}

/// As [`cell`]; of selectors, all of them.
fn text_of(agent: &Value, pointer: &str) -> String {
    if pointer == "/selectors" {
        return selectors(agent);
    }
    cell(agent, pointer)
}

/// `name=value`, separated by commas.
fn selectors(agent: &Value) -> String {
    let selectors = agent["selectors"].as_object().into_iter().flatten();
    let selectors: Vec<_> = selectors
        .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()))
        .collect();
    match selectors.is_empty() {
        true => cell(&Value::Null, ""),
        false => selectors.join(","),
    }
}

impl Explain {
    async fn run(&self) -> anyhow::Result<()> {
        let client = self.admin.client()?;
        let path = path(&client, &self.agent)?;
        let answer = client
            .get(&format!("{path}/workloads/{}", self.workload))
            .await?;
        output::print(self.output.format, &answer, |answer| {
            let pair = format!("{} {}", cell(answer, "/agentId"), cell(answer, "/workload"));
            match answer["whyNot"].as_str() {
                None => format!("{pair}: may hold it\n"),
                Some(why) => format!("{pair}: may not hold it: {why}\n"),
            }
        })
    }
}

impl Ban {
    async fn run(&self) -> anyhow::Result<()> {
        let client = self.admin.client()?;
        let path = format!("{}/ban", path(&client, &self.agent)?);
        let banned = client
            .post(
                &path,
                &json!({ "reason": self.reason, "force": self.force }),
            )
            .await?;
        if self.output.format != Format::Table {
            return output::print(self.output.format, &banned, |_| String::new());
        }
        if let Some(how) = revocation::spooled(&banned) {
            output::remark(&format!("{} is banned; {how}", cell(&banned, "/subject")));
            return Ok(());
        }
        let said = format!("{} is banned", cell(&banned, "/agentId"));
        output::remark(&format!("{said}; {}", revocation::hits(&banned)));
        let enforcement = revocation::enforced(&client, &banned).await?;
        output::remark(&revocation::told(&enforcement));
        Ok(())
    }
}

impl Named {
    async fn lift_ban(&self) -> anyhow::Result<()> {
        let client = self.admin.client()?;
        let path = path(&client, &self.agent)?;
        client.delete(&format!("{path}/ban")).await?;
        output::remark(&format!("{} is no longer banned", self.agent));
        Ok(())
    }

    async fn evict(&self) -> anyhow::Result<()> {
        let client = self.admin.client()?;
        client.delete(&path(&client, &self.agent)?).await?;
        output::remark(&format!(
            "{} is evicted; it must attest again, and what it holds already lives on until it ends",
            self.agent
        ));
        Ok(())
    }
}

impl Purge {
    async fn run(&self) -> anyhow::Result<()> {
        let age = self.expired_for.to_string().replace(' ', "");
        let request = json!({ "expiredFor": age });
        let purged = self
            .admin
            .client()?
            .post("/v1/agents/purge", &request)
            .await?;
        output::print(self.output.format, &purged, |purged| {
            let gone = purged["agents"].as_array().into_iter().flatten();
            let mut text = String::new();
            for agent in gone.filter_map(Value::as_str) {
                text.push_str(agent);
                text.push('\n');
            }
            text
        })
    }
}

/// The path of the agent that a person named.
fn path(client: &Client, text: &str) -> anyhow::Result<String> {
    let trust_domain = client.trust_domain();
    let agent = match text.split_once('/') {
        Some((attestor, name)) if !text.contains("://") => {
            AgentId::new(trust_domain, attestor, name)
        }
        _ => text.parse::<AgentId>(),
    };
    let agent = agent
        .ok()
        .filter(|agent| agent.spiffe_id().trust_domain() == trust_domain);
    let agent = agent.ok_or_else(|| {
        Usage(format!(
            "`{text}` names no agent of {trust_domain}; write attestor/name, as in join-token/web-7"
        ))
    })?;
    Ok(format!("/v1/agents/{}/{}", agent.attestor(), agent.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bans_of_agents_that_never_attested_are_listed_and_no_agent_twice() {
        let ban = json!({ "reason": "stolen" });
        let text = table(&json!({
            "items": [{ "spiffeId": "spiffe://a.example/web-7", "ban": ban }],
            "bans": [
                { "agentId": "spiffe://a.example/web-7", "ban": ban },
                { "agentId": "spiffe://a.example/web-8", "ban": ban },
            ],
        }));
        assert_eq!(text.matches("web-7").count(), 1, "{text}");
        assert_eq!(text.matches("web-8").count(), 1, "{text}");
        assert_eq!(text.matches("stolen").count(), 2, "{text}");
    }
}
