//! `idle_conn`: what an idle mesh connection holds of the inbound proxy's memory, over 10,000.

use anyhow::Result;

use super::identities::Identities;
use super::pair::Pair;
use super::weight::Connections;
use crate::figure::Figure;
use crate::machine::rss_mib;

const CONNECTIONS: usize = 10_000;
/// What the load itself needs besides.
const OTHER_FILES: u64 = 500;

pub(super) async fn figures(
    ours: &Pair,
    identities: &Identities,
    open_files: u64,
) -> Result<Vec<Figure>> {
    if open_files < CONNECTIONS as u64 + OTHER_FILES {
        super::say("WARNING: too few open files are allowed for idle_conn: not measured");
        return Ok(Vec::new());
    }
    let mut connections = Connections::to(ours, identities)?;
    connections.open(1).await?;
    let before = rss_mib(ours.inbound);
    connections.open(CONNECTIONS).await?;
    let grown = (rss_mib(ours.inbound) - before) * 1024.0;
    let alive = connections.alive();
    let each = grown / CONNECTIONS as f64;
    let figure = Figure::at_most("proxy.idle_conn_kib", each, "KiB", 15.0);
    Ok(vec![figure.with_note(format!("{alive} open at the end"))])
}
