//! `tcp`: one stream, up and then down. Which congestion control paces it is said beside it.

use anyhow::Result;

use super::{Column, Pair};
use crate::load::tcp;

pub(super) const COLUMNS: &[Column] = &[
    Column::compared(
        "proxy.tcp.cpu_s_per_gb",
        "s/GB",
        "proxy.tcp.vs_best",
        Some(1.0),
    ),
    Column::stated("proxy.tcp.up.cpu_s_per_gb", "s/GB"),
    Column::stated("proxy.tcp.down.cpu_s_per_gb", "s/GB"),
];

const BYTES: usize = 256 << 20;

/// CPU of the pair: of both directions, up, down.
pub(super) async fn sample(pair: &Pair) -> Result<Vec<f64>> {
    let door = pair.doors.tcp;
    let began = pair.cpu()?;
    tcp::up(door, BYTES).await?;
    let turned = pair.cpu()?;
    tcp::down(door, BYTES).await?;
    let ended = pair.cpu()?;
    let gigabytes = BYTES as f64 / 1e9;
    let [up, down] = [turned - began, ended - turned].map(|cpu| cpu.as_secs_f64() / gigabytes);
    Ok(vec![(up + down) / 2.0, up, down])
}
