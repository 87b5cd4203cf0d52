//! `h1_c32`, `h1_c256`, `h1_c1`: 1 KiB GETs over so many connections, as fast as they are answered.

use std::time::Duration;

use anyhow::Result;

use super::{Column, Pair, micros};
use crate::load::http1::{Callers, Request};

pub(super) const C32: &[Column] = &[Column::compared(
    "proxy.h1_c32.cpu_us",
    "µs",
    "proxy.h1_c32.vs_best",
    Some(0.6),
)];
pub(super) const C256: &[Column] = &[Column::compared(
    "proxy.h1_c256.cpu_us",
    "µs",
    "proxy.h1_c256.vs_best",
    Some(0.5),
)];
pub(super) const C1: &[Column] = &[Column::compared(
    "proxy.h1_c1.cpu_us",
    "µs",
    "proxy.h1_c1.vs_best",
    Some(1.1),
)];

const LASTING: Duration = Duration::from_millis(1500);

/// CPU of the pair for each request.
pub(super) async fn closed(pair: &Pair, connections: usize) -> Result<Vec<f64>> {
    let door = &pair.doors.http1;
    let request = Request::get(&door.authority);
    let callers = Callers::connect(door.address, connections, &request).await?;
    let before = pair.cpu()?;
    let (_callers, outcome) = callers.closed(LASTING).await?;
    Ok(vec![micros(pair.cpu()? - before) / outcome.requests as f64])
}
