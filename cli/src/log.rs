//! `countersign log`: what the transparency log says, and whether it can be believed.

mod audit;
mod certificate;
mod memory;
mod show;
mod source;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use identity::SerialNumber;
use serde_json::{Value, json};
use tlog::VerifierKey;

use crate::admin::{AdminArguments, Client};
use crate::output::{self, OutputArguments, Table, cell};
use audit::{Audit, Wanted};
use memory::Memory;
use show::Show;

/// Show the transparency log, and verify it
#[derive(Debug, Args)]
pub(crate) struct Log {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Show(Show),
    Verify(Verify),
}

/// Verify that the log only grew, that it is whole, and that a certificate is in it
///
/// The checkpoint's signature is verified with the key that is pinned, and every leaf since the
/// last look is hashed up to the checkpoint's root. What was seen is kept, so that the next look
/// finds out if the log forgot or changed anything of it. The exit code is not zero if anything
/// does not hold.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  countersign log verify
  countersign log verify --all
  countersign log verify --certificate svid.pem
  countersign log verify --key 'corp.example/countersign-log+7a3f…'")]
struct Verify {
    /// The log's key [default: the one kept at the first look, when the CA is asked for it]
    #[arg(long, value_name = "KEY")]
    key: Option<VerifierKey>,
    /// Where the key and the last checkpoint seen are kept [default: beside the credentials, by trust domain]
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Verify from the first leaf on, not only what came since the last look
    #[arg(long)]
    all: bool,
    /// Require that the certificate with this serial number is in the log
    #[arg(long, value_name = "HEX", conflicts_with = "certificate")]
    serial: Option<SerialNumber>,
    /// Require that this certificate (PEM or DER; of a chain, the first) is in the log
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    #[command(flatten)]
    admin: AdminArguments,
    #[command(flatten)]
    output: OutputArguments,
}

impl Log {
    pub(crate) async fn run(&self) -> anyhow::Result<()> {
        match &self.action {
            Action::Show(show) => show.run().await,
            Action::Verify(verify) => verify.run().await,
        }
    }
}

impl Verify {
    async fn run(&self) -> anyhow::Result<()> {
        let wanted = match (&self.certificate, self.serial) {
            (Some(file), _) => Some(Wanted::of_certificate(&certificate::read(file)?)?),
            (None, serial) => serial.map(Wanted::of_serial),
        };
        let client = self.admin.client()?;
        let trust_domain = client.trust_domain().to_string();
        let path = memory::path(self.state.clone(), &self.admin, &trust_domain)?;
        let before = Memory::read(&path)?;
        let key = self.key(before.as_ref(), &client).await?;
        let last = before.as_ref().map(Memory::checkpoint).transpose()?;
        let audit = Audit {
            source: &client,
            key: &key,
            last,
            all: self.all,
        };
        let verdict = audit.run(wanted).await?;
        Memory::new(&key, &verdict.note).write(&path)?;
        output::print(self.output.format, &verdict.to_json(), table)
    }

    /// The pinned one. At the first look it is what the CA says, which has proved to be the CA; who
    /// does not want to believe it names the key.
    async fn key(&self, before: Option<&Memory>, client: &Client) -> anyhow::Result<VerifierKey> {
        match (before, &self.key) {
            (Some(memory), Some(named)) if memory.key != *named => anyhow::bail!(
                "the key kept at the last look is not the one named: {} and {named}",
                memory.key
            ),
            (_, Some(named)) => Ok(named.clone()),
            (Some(memory), None) => Ok(memory.key.clone()),
            (None, None) => {
                let key: VerifierKey = cell(&client.about().await?, "/key").parse()?;
                output::remark(&format!("first look: from now on the log's key is {key}"));
                Ok(key)
            }
        }
    }
}

fn table(verdict: &Value) -> String {
    let mut facts = Table::pairs();
    for (name, pointer) in [
        ("log", "/origin"),
        ("verdict", "/verdict"),
        ("leaves", "/size"),
        ("verified now", "/verified"),
        ("entries pruned", "/pruned"),
        ("root", "/root"),
        ("last look", "/last"),
    ] {
        facts.row([name.to_owned(), cell(verdict, pointer)]);
    }
    if !verdict["certificate"].is_null() {
        facts.row(["certificate".to_owned(), cell(verdict, "/certificate")]);
    }
    facts.render()
}

impl audit::Verdict {
    fn to_json(&self) -> Value {
        let last = match self.last {
            None => "none: there is nothing yet to compare with".to_owned(),
            Some(size) => format!("{size} leaves, which are the beginning of these"),
        };
        let certificate = self.included.as_ref().map(|included| {
            let (leaf, entry) = (included.leaf, &included.entry);
            format!("leaf {leaf}: {} {}", entry.kind, entry.subject)
        });
        json!({
            "verdict": "the log is whole",
            "origin": self.checkpoint.origin(),
            "size": self.checkpoint.size(),
            "root": self.checkpoint.root().to_string(),
            "verified": self.verified,
            "pruned": self.pruned,
            "last": last,
            "certificate": certificate,
        })
    }
}
