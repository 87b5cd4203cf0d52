//! `handshake`: CPU of the inbound proxy for one full mutual TLS 1.3 handshake with X25519; ours
//! also with X25519MLKEM768, which the peers do not have.

use anyhow::Result;

use super::{Column, Pair, Stage, micros};
use crate::load::handshakes::Client;

pub(super) const COLUMNS: &[Column] = &[
    Column::compared(
        "proxy.handshake.cpu_us",
        "µs",
        "proxy.handshake.vs_best",
        Some(0.65),
    ),
    Column::stated("proxy.handshake.x25519mlkem768.cpu_us", "µs"),
];

const TIMES: usize = 400;

pub(super) async fn sample(pair: &Pair, stage: &Stage<'_>) -> Result<Vec<f64>> {
    let x25519 = cost(pair, &stage.x25519).await?;
    let hybrid = match &stage.hybrid {
        Some(client) if pair.name == "ours" => cost(pair, client).await?,
        _ => f64::NAN,
    };
    Ok(vec![x25519, hybrid])
}

async fn cost(pair: &Pair, client: &Client) -> Result<f64> {
    let before = pair.inbound_cpu()?;
    client.repeat(pair.doors.mesh, TIMES).await?;
    Ok(micros(pair.inbound_cpu()? - before) / TIMES as f64)
}
