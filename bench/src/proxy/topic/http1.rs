//! `h1_c32`, `h1_c256`, `h1_c1`: 1 KiB GETs over so many connections, as fast as they are answered.

use std::time::Duration;

use anyhow::Result;

use super::{Column, Pair, Stage, micros};
use crate::figure::quantile;
use crate::load::http1::{Callers, Outcome, Request};

pub(super) const C32: &[Column] = &[
    Column::compared(
        "proxy.h1_c32.cpu_us_per_request",
        "µs",
        "proxy.h1_c32.vs_best",
        Some(0.6),
    ),
    Column::stated("proxy.h1_c32.added_p50_us", "µs"),
    Column::stated("proxy.h1_c32.added_p99_us", "µs"),
];
pub(super) const C256: &[Column] = &[Column::compared(
    "proxy.h1_c256.cpu_us_per_request",
    "µs",
    "proxy.h1_c256.vs_best",
    Some(0.5),
)];
pub(super) const C1: &[Column] = &[Column::compared(
    "proxy.h1_c1.cpu_us_per_request",
    "µs",
    "proxy.h1_c1.vs_best",
    Some(1.1),
)];

const LASTING: Duration = Duration::from_millis(1500);

/// CPU of the pair for each request.
pub(super) async fn closed(pair: &Pair, connections: usize) -> Result<Vec<f64>> {
    let (cpu, _outcome) = through(pair, connections).await?;
    Ok(vec![cpu])
}

/// The same, and what the pair adds to the time that a request takes straight to the backend.
pub(super) async fn added(pair: &Pair, connections: usize, stage: &Stage<'_>) -> Result<Vec<f64>> {
    let request = Request::get(&pair.doors.http1.authority);
    let callers = Callers::connect(stage.backend.http1, connections, &request).await?;
    let (_callers, mut direct) = callers.closed(LASTING / 2).await?;
    let (cpu, mut through) = through(pair, connections).await?;
    let mut added =
        |share| quantile(&mut through.latencies, share) - quantile(&mut direct.latencies, share);
    Ok(vec![cpu, added(0.5), added(0.99)])
}

async fn through(pair: &Pair, connections: usize) -> Result<(f64, Outcome)> {
    let door = &pair.doors.http1;
    let request = Request::get(&door.authority);
    let callers = Callers::connect(door.address, connections, &request).await?;
    let before = pair.cpu()?;
    let (_callers, outcome) = callers.closed(LASTING).await?;
    let cpu = micros(pair.cpu()? - before) / outcome.requests as f64;
    Ok((cpu, outcome))
}
