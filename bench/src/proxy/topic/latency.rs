//! `lat2000`: 2,000 requests a second over 32 connections, whether or not earlier ones are
//! answered; what the pair adds to the same load sent straight to the backend.

use std::time::Duration;

use anyhow::Result;

use super::{Column, Pair, Stage, micros};
use crate::figure::quantile;
use crate::load::http1::{Callers, Request};

pub(super) const COLUMNS: &[Column] = &[
    Column::compared(
        "proxy.lat2000.cpu_us",
        "µs",
        "proxy.lat2000.cpu_vs_best",
        Some(0.9),
    ),
    Column::compared(
        "proxy.lat2000.added_p50_us",
        "µs",
        "proxy.lat2000.added_p50_vs_best",
        Some(0.9),
    ),
    Column::stated("proxy.lat2000.p50_us", "µs"),
    Column::stated("proxy.lat2000.p99_us", "µs"),
    Column::stated("proxy.lat2000.direct_p50_us", "µs"),
    Column::stated("proxy.lat2000.direct_p99_us", "µs"),
];

const CONNECTIONS: usize = 32;
const EACH_SECOND: f64 = 2000.0;
const DIRECT: Duration = Duration::from_millis(1000);
const THROUGH: Duration = Duration::from_millis(2500);

pub(super) async fn sample(pair: &Pair, stage: &Stage<'_>) -> Result<Vec<f64>> {
    let door = &pair.doors.http1;
    let request = Request::get(&door.authority);
    let callers = Callers::connect(stage.backend.http1, CONNECTIONS, &request).await?;
    let (_callers, mut direct) = callers.open(EACH_SECOND, DIRECT).await?;
    let callers = Callers::connect(door.address, CONNECTIONS, &request).await?;
    let before = pair.cpu()?;
    let (_callers, mut through) = callers.open(EACH_SECOND, THROUGH).await?;
    let cpu = micros(pair.cpu()? - before) / through.requests as f64;
    let [p50, p99] = [0.5, 0.99].map(|share| quantile(&mut through.latencies, share));
    let [direct_p50, direct_p99] = [0.5, 0.99].map(|share| quantile(&mut direct.latencies, share));
    Ok(vec![
        cpu,
        p50 - direct_p50,
        p50,
        p99,
        direct_p50,
        direct_p99,
    ])
}
