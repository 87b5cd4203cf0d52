//! `countersign downstream`: admit another instance of Countersign below this one.
//!
//! Invariant: the credential is written to a private file and shown nowhere.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::admin::AdminArguments;
use crate::output::{self, Format, OutputArguments, Table, cell};

const PATH: &str = "/v1/downstreams";

/// Admit other instances of Countersign that sign below this one's roots
#[derive(Debug, Args)]
pub(crate) struct Downstream {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Create(Create),
    List(List),
    Delete(Delete),
}

/// Admit an instance, and write the credential that its configuration names
///
/// The instance has the same trust domain and its own store, agents and policy. With the credential
/// it can have one kind of certificate: an authority that signs the intermediates of its replicas.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  countersign downstream create eu-west --out eu-west.toml

  and in the configuration of the CA of eu-west:
  [upstream.countersign]
  credential_file = \"/etc/countersign/eu-west.toml\"")]
struct Create {
    /// Its name, which stands in its certificates
    name: String,
    /// Where the credential goes (0600)
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    admin: AdminArguments,
}

/// List the instances, which bundle each follows, and what was signed for them
#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    admin: AdminArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// Let an instance have nothing more; what was signed for it stays valid until it ends or is revoked
#[derive(Debug, Args)]
struct Delete {
    name: String,
    #[command(flatten)]
    admin: AdminArguments,
}

/// What the instance reads.
#[derive(Serialize)]
struct Credential<'a> {
    trust_domain: &'a str,
    urls: Vec<String>,
    root_sha256: Vec<&'a str>,
    created_at: &'a str,
    secret: &'a str,
}

impl Downstream {
    pub(crate) async fn run(&self) -> anyhow::Result<()> {
        match &self.action {
            Action::Create(create) => create.run().await,
            Action::List(list) => list.run().await,
            Action::Delete(delete) => delete.run().await,
        }
    }
}

impl Create {
    async fn run(&self) -> anyhow::Result<()> {
        // Before there is anything to lose: the secret is told once.
        if self.out.exists() {
            anyhow::bail!("{} exists already", self.out.display());
        }
        let client = self.admin.client()?;
        let created = client.post(PATH, &json!({ "name": self.name })).await?;
        let text = |key: &str| created[key].as_str().unwrap_or_default();
        let roots = created["rootSha256"].as_array().into_iter().flatten();
        let credential = Credential {
            trust_domain: text("trustDomain"),
            urls: client.urls(),
            root_sha256: roots.filter_map(Value::as_str).collect(),
            created_at: text("createdAt"),
            secret: text("secret"),
        };
        let content = Zeroizing::new(toml::to_string(&credential)?);
        if let Err(error) = runtime::files::write_private(&self.out, content.as_bytes()) {
            let path = format!("{PATH}/{}", self.name);
            client.delete(&path).await?;
            return Err(error.into());
        }
        output::remark(&format!(
            "downstream {} is admitted; its credential is {}",
            self.name,
            self.out.display()
        ));
        Ok(())
    }
}

impl List {
    async fn run(&self) -> anyhow::Result<()> {
        let list = self.admin.client()?.get(PATH).await?;
        let none = list["items"].as_array().is_none_or(Vec::is_empty);
        if self.output.format == Format::Table && none {
            output::remark(
                "no instances; admit one with `countersign downstream create NAME --out FILE`",
            );
            return Ok(());
        }
        output::print(self.output.format, &list, table)
    }
}

impl Delete {
    async fn run(&self) -> anyhow::Result<()> {
        let client = self.admin.client()?;
        let list = client.get(PATH).await?;
        client.delete(&format!("{PATH}/{}", self.name)).await?;
        output::remark(&format!("downstream {} has nothing more", self.name));
        let items = list["items"].as_array().into_iter().flatten();
        let own = items.filter(|item| item["name"] == *self.name);
        let all = own.flat_map(|item| item["authorities"].as_array().into_iter().flatten());
        for authority in all.filter(|authority| !is_revoked(authority)) {
            let (key, ends) = (cell(authority, "/keyId"), cell(authority, "/notAfter"));
            output::remark(&format!(
                "what was signed for it is valid until {ends}; `countersign revoke authority {key} \
                 --reason …` ends it now"
            ));
        }
        Ok(())
    }
}

fn table(list: &Value) -> String {
    let mut table = Table::new(&["NAME", "SEEN", "FOLLOWS", "ROOT", "AUTHORITY", "ENDS"]);
    for item in list["items"].as_array().into_iter().flatten() {
        let newest = item["authorities"].as_array().and_then(|all| all.last());
        let newest = newest.cloned().unwrap_or_default();
        let mut key = cell(&newest, "/keyId");
        key.truncate(16);
        if is_revoked(&newest) {
            key.push_str(" (revoked)");
        }
        table.row([
            cell(item, "/name"),
            cell(item, "/seenAt"),
            cell(item, "/bundleSequence"),
            cell(&newest, "/root"),
            key,
            cell(&newest, "/notAfter"),
        ]);
    }
    table.render()
}

/// An instance above of an older build does not say.
fn is_revoked(authority: &Value) -> bool {
    authority["revoked"] == true
}
