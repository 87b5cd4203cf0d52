//! `h2`: 1 KiB GETs over 8 HTTP/2 connections without TLS, 32 streams each, to a backend that
//! speaks HTTP/2 too.

use std::time::Duration;

use anyhow::Result;

use super::{Column, Pair, micros};
use crate::load::h2::Callers;

pub(super) const COLUMNS: &[Column] = &[Column {
    vs_envoy: Some(("proxy.h2.vs_envoy", 0.35)),
    ..Column::compared("proxy.h2.cpu_us", "µs", "proxy.h2.vs_best", Some(1.25))
}];

const CONNECTIONS: usize = 8;
const STREAMS: usize = 32;
const LASTING: Duration = Duration::from_millis(1500);

pub(super) async fn sample(pair: &Pair) -> Result<Vec<f64>> {
    let Some(door) = &pair.doors.http2 else {
        return Ok(vec![f64::NAN]);
    };
    let callers = Callers::connect(door.address, &door.authority, CONNECTIONS).await?;
    let before = pair.cpu()?;
    let requests = callers.closed(STREAMS, LASTING).await?;
    Ok(vec![micros(pair.cpu()? - before) / requests as f64])
}
