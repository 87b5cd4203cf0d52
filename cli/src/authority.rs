//! `countersign authority`: where each root is in its life, and the way to the next one.

mod recovery;

use std::time::Duration;

use clap::{Args, Subcommand};
use runtime::Span;
use serde_json::{Value, json};

use crate::admin::{AdminArguments, Client};
use crate::output::{self, Format, OutputArguments, Table, cell};
use crate::status::unheard;

const PATH: &str = "/v1/authorities";
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Of those who have not acknowledged, so many are named in a line.
const NAMED: usize = 3;

/// Show the roots of the trust domain, and rotate them
#[derive(Debug, Args)]
pub(crate) struct Authority {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    List(List),
    Show(Show),
    Rotate(Rotate),
    Recovery(recovery::Recovery),
}

/// List the roots, the replicas' intermediates, and who has not acknowledged
#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    admin: AdminArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// Show all that is known of one root
#[derive(Debug, Args)]
struct Show {
    /// Its generation, as `list` shows it
    generation: u32,
    #[command(flatten)]
    admin: AdminArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// Replace the active root while the mesh goes on
///
/// The new root is published first. It signs when every live agent has acknowledged it and those
/// who read the bundle now and then had time to; the old one leaves the bundle when nothing leads
/// to it any more. The CA does all that by itself: this command only looks on.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  countersign authority rotate
  countersign authority rotate --detach
  countersign authority rotate --compromised --within 5m")]
struct Rotate {
    /// Somebody else may hold the key: replace it at once, and trust it no longer than --within
    #[arg(long)]
    compromised: bool,
    /// How long a compromised root is trusted at most [default: 5m]
    #[arg(long, value_name = "TIME", requires = "compromised")]
    within: Option<Span>,
    /// The generation that is compromised [default: the active one]
    #[arg(long, value_name = "GENERATION", requires = "compromised")]
    generation: Option<u32>,
    /// Begin, and do not look on
    #[arg(long)]
    detach: bool,
    #[command(flatten)]
    admin: AdminArguments,
}

impl Authority {
    pub(crate) async fn run(&self) -> anyhow::Result<()> {
        match &self.action {
            Action::List(list) => list.run().await,
            Action::Show(show) => show.run().await,
            Action::Rotate(rotate) => rotate.run().await,
            Action::Recovery(recovery) => recovery.run().await,
        }
    }
}

impl List {
    async fn run(&self) -> anyhow::Result<()> {
        let list = self.admin.client()?.get(PATH).await?;
        output::print(self.output.format, &list, table)
    }
}

impl Show {
    async fn run(&self) -> anyhow::Result<()> {
        let list = self.admin.client()?.get(PATH).await?;
        let items = list["items"].as_array().into_iter().flatten();
        let wanted = |item: &&Value| item["generation"] == self.generation;
        let Some(item) = items.into_iter().find(wanted) else {
            anyhow::bail!(
                "there is no root {}; `countersign authority list` shows them",
                self.generation
            );
        };
        let shown = match self.output.format {
            Format::Table => json!({ "authority": item, "pending": list["pending"] }),
            Format::Json | Format::Yaml => item.clone(),
        };
        output::print(self.output.format, &shown, facts)
    }
}

impl Rotate {
    async fn run(&self) -> anyhow::Result<()> {
        let client = self.admin.client()?;
        let begun = client
            .post("/v1/authorities/rotation", &self.request())
            .await?;
        let news = progress(&begun);
        output::remark(&news);
        if self.compromised {
            output::remark(recovery::consequence(&begun));
        }
        if self.detach {
            return Ok(());
        }
        watch(&client, news).await
    }

    fn request(&self) -> Value {
        let mut request = json!({ "compromised": self.compromised });
        if let Some(within) = self.within {
            request["within"] = json!(within.to_string().replace(' ', ""));
        }
        if let Some(generation) = self.generation {
            request["generation"] = json!(generation);
        }
        request
    }
}

/// Until nothing is under way. Whoever interrupts it interrupts nothing but the looking.
async fn watch(client: &Client, mut said: String) -> anyhow::Result<()> {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let list = client.get(PATH).await?;
        let news = progress(&list);
        if news != said {
            output::remark(&news);
            said = news;
        }
        if list["settled"] == true {
            return output::print_text(&table(&list));
        }
    }
}

/// One line: who is where, and what is waited for.
fn progress(list: &Value) -> String {
    let items = list["items"].as_array().into_iter().flatten();
    let phases = items.filter(|item| item["phase"] != "removed").map(|item| {
        let mark = if item["compromised"].is_null() {
            ""
        } else {
            " (compromised)"
        };
        format!("root {} {}{mark}", item["generation"], cell(item, "/phase"))
    });
    let phases: Vec<String> = phases.collect();
    let names = |key: &str, pointer: &str| -> Vec<String> {
        let waited = list[key].as_array().into_iter().flatten();
        waited.map(|it| cell(it, pointer)).collect()
    };
    let mut pending = names("pending", "/agent");
    pending.extend(names("pendingDownstreams", "/name"));
    if pending.is_empty() {
        return phases.join(", ");
    }
    let named = &pending[..pending.len().min(NAMED)];
    let more = match pending.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "{}; not acknowledged by {}{more}",
        phases.join(", "),
        named.join(", ")
    )
}

fn table(list: &Value) -> String {
    let mut roots = Table::new(&["ROOT", "STATE", "SINCE", "ENDS", "SHA256"]);
    for item in list["items"].as_array().into_iter().flatten() {
        let mut sha256 = cell(item, "/sha256");
        sha256.truncate(16);
        let state = match item["compromised"].is_null() {
            true => cell(item, "/phase"),
            false => format!("{} (compromised)", cell(item, "/phase")),
        };
        roots.row([
            cell(item, "/generation"),
            state,
            cell(item, "/since"),
            cell(item, "/notAfter"),
            sha256,
        ]);
    }
    let mut text = roots.render();
    let mut intermediates = Table::new(&["REPLICA", "ROOT", "ENDS", "KEY"]);
    for item in list["intermediates"].as_array().into_iter().flatten() {
        let mut key = cell(item, "/keyId");
        key.truncate(16);
        intermediates.row([
            cell(item, "/replica"),
            cell(item, "/root"),
            cell(item, "/notAfter"),
            key,
        ]);
    }
    text.push('\n');
    text.push_str(&intermediates.render());
    text.push_str(&pending(list));
    if let Some(warning) = unheard(&list["upstream"]) {
        text.push_str(&warning);
        text.push('\n');
    }
    text
}

fn pending(list: &Value) -> String {
    let pending = list["pending"].as_array().into_iter().flatten();
    let agents = pending.map(|agent| format!("NOT ACKNOWLEDGED  {}\n", cell(agent, "/agent")));
    let below = list["pendingDownstreams"].as_array().into_iter().flatten();
    let below = below.map(|it| format!("NOT FOLLOWED BY  downstream {}\n", cell(it, "/name")));
    agents.chain(below).collect()
}

fn facts(shown: &Value) -> String {
    let mut facts = Table::pairs();
    for (name, pointer) in [
        ("root", "/generation"),
        ("state", "/phase"),
        ("since", "/since"),
        ("made by", "/trigger"),
        ("sha256", "/sha256"),
        ("begins", "/notBefore"),
        ("ends", "/notAfter"),
        ("successor is due", "/rotatesAt"),
        ("signs from", "/activatesFrom"),
        ("signs by", "/activatesBy"),
        ("last leaf ends", "/leavesUntil"),
        ("compromised since", "/compromised/at"),
        ("trusted until", "/compromised/until"),
    ] {
        facts.row([name.to_owned(), cell(&shown["authority"], pointer)]);
    }
    facts.render() + &pending(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_not_acknowledged_is_named_and_many_are_counted() {
        let agents = ["a", "b", "c", "d"].map(|agent| json!({ "agent": agent }));
        let items = [
            json!({"generation": 1, "phase": "removed"}),
            json!({"generation": 2, "phase": "active", "compromised": {"at": ""}}),
            json!({"generation": 3, "phase": "published"}),
        ];
        let list = json!({ "items": items, "pending": agents });
        assert_eq!(
            progress(&list),
            "root 2 active (compromised), root 3 published; not acknowledged by a, b, c and 1 more"
        );
    }
}
