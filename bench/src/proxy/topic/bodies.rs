//! `large_down`, `large_up`: bodies of 16 MiB over four HTTP/1.1 connections. `post64k`: requests
//! with 64 KiB over 32.

use std::time::Duration;

use anyhow::Result;

use super::{Column, Pair, micros};
use crate::load::http1::{Callers, Request};

pub(super) const DOWN: &[Column] = &[Column::compared(
    "proxy.large_down.cpu_s_per_gb",
    "s/GB",
    "proxy.large_down.vs_best",
    None,
)];
pub(super) const UP: &[Column] = &[Column::compared(
    "proxy.large_up.cpu_s_per_gb",
    "s/GB",
    "proxy.large_up.vs_best",
    None,
)];
pub(super) const POST: &[Column] = &[Column::compared(
    "proxy.post64k.cpu_us",
    "µs",
    "proxy.post64k.vs_best",
    None,
)];

const LARGE: usize = 16 << 20;
const CONNECTIONS: usize = 4;
/// On each connection, after a first one that warms it.
const TIMES: u64 = 4;
const POSTED: usize = 64 << 10;
const POSTING: Duration = Duration::from_millis(1500);

pub(super) async fn down(pair: &Pair) -> Result<Vec<f64>> {
    large(pair, &Request::download(&pair.doors.http1.authority, LARGE)).await
}

pub(super) async fn up(pair: &Pair) -> Result<Vec<f64>> {
    large(pair, &Request::upload(&pair.doors.http1.authority, LARGE)).await
}

async fn large(pair: &Pair, request: &Request) -> Result<Vec<f64>> {
    let callers = Callers::connect(pair.doors.http1.address, CONNECTIONS, request).await?;
    let before = pair.cpu()?;
    let (_callers, outcome) = callers.times(TIMES).await?;
    let gigabytes = outcome.requests as f64 * LARGE as f64 / 1e9;
    Ok(vec![(pair.cpu()? - before).as_secs_f64() / gigabytes])
}

pub(super) async fn post(pair: &Pair) -> Result<Vec<f64>> {
    let door = &pair.doors.http1;
    let request = Request::upload(&door.authority, POSTED);
    let callers = Callers::connect(door.address, 32, &request).await?;
    let before = pair.cpu()?;
    let (_callers, outcome) = callers.closed(POSTING).await?;
    Ok(vec![micros(pair.cpu()? - before) / outcome.requests as f64])
}
