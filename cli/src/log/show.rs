//! `countersign log show`: where the log stands, and its newest entries.

use clap::Args;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tlog::entry::Entry;
use tlog::{Content, TILE_WIDTH, TilePath, bundle};

use super::source::Source;
use crate::admin::{AdminArguments, Client};
use crate::output::{self, OutputArguments, Table, cell};

/// Show where the log stands, and its newest entries
///
/// What is shown is what the CA says; `countersign log verify` finds out whether it holds.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  countersign log show
  countersign log show --last 200 -o json | jq -r '.entries[].subject' | sort | uniq -c")]
pub(super) struct Show {
    /// How many entries, the newest last
    #[arg(long, default_value_t = 10, value_name = "COUNT",
          value_parser = clap::value_parser!(u64).range(0..=10_000))]
    last: u64,
    #[command(flatten)]
    admin: AdminArguments,
    #[command(flatten)]
    output: OutputArguments,
}

impl Show {
    pub(super) async fn run(&self) -> anyhow::Result<()> {
        let client = self.admin.client()?;
        let mut shown = client.about().await?;
        let size = shown["size"].as_u64().unwrap_or_default();
        let first = size.saturating_sub(self.last);
        shown["entries"] = Value::from(entries(&client, first, size).await?);
        output::print(self.output.format, &shown, table)
    }
}

/// Those that are not pruned.
async fn entries(client: &Client, first: u64, size: u64) -> anyhow::Result<Vec<Value>> {
    let width = u64::from(TILE_WIDTH);
    let mut shown = Vec::new();
    for number in first / width..size.div_ceil(width) {
        let Some(path) = TilePath::in_tree(Content::Entries, number, size) else {
            break;
        };
        let Some(bytes) = client.tile(path).await? else {
            continue;
        };
        let entries = bundle::split(&bytes, path.width())?;
        let numbered = (number * width..).zip(entries);
        let wanted = numbered.filter(|(leaf, _)| *leaf >= first);
        shown.extend(wanted.map(|(leaf, entry)| view(leaf, entry)));
    }
    Ok(shown)
}

fn view(leaf: u64, entry: &[u8]) -> Value {
    match Entry::decode(entry) {
        Ok(entry) => json!({
            "leaf": leaf,
            "kind": entry.kind.to_string(),
            "subject": entry.subject,
            "agent": entry.agent,
            "serial": hex(&entry.serial),
            "issuer": entry.issuer,
            "recordedAt": instant(entry.recorded_at),
            "notBefore": instant(entry.not_before),
            "notAfter": instant(entry.not_after),
            "sha256": entry.digest.to_string(),
        }),
        // A newer CA may log what this program does not know.
        Err(error) => json!({ "leaf": leaf, "kind": "unknown", "subject": error.to_string() }),
    }
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

fn instant(millis: u64) -> String {
    let nanos = i128::from(millis) * 1_000_000;
    OffsetDateTime::from_unix_timestamp_nanos(nanos)
        .ok()
        .and_then(|at| at.format(&Rfc3339).ok())
        .unwrap_or_else(|| millis.to_string())
}

fn table(shown: &Value) -> String {
    let mut facts = Table::pairs();
    for (name, pointer) in [
        ("log", "/origin"),
        ("key", "/key"),
        ("leaves", "/size"),
        ("root", "/root"),
    ] {
        facts.row([name.to_owned(), cell(shown, pointer)]);
    }
    let mut entries = Table::new(&["LEAF", "RECORDED", "KIND", "SUBJECT", "SERIAL", "ENDS"]);
    for entry in shown["entries"].as_array().into_iter().flatten() {
        entries.row([
            cell(entry, "/leaf"),
            cell(entry, "/recordedAt"),
            cell(entry, "/kind"),
            cell(entry, "/subject"),
            cell(entry, "/serial"),
            cell(entry, "/notAfter"),
        ]);
    }
    format!("{}\n{}", facts.render(), entries.render())
}
