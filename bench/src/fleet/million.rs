//! A million registered workloads: how soon a CA has read them, what it weighs, how soon it finds
//! one, and what a write costs beside them.

use std::time::Duration;

use anyhow::{Result, ensure};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::figure::{Figure, median, quantile};
use crate::machine::rss_mib;
use crate::operator::Operator;

/// Written at once.
const TOGETHER: usize = 1_000;
const LOOKUPS: usize = 5_000;
const WRITES: usize = 20;
/// As many hosts; a prime, so that the workloads of a host stand in many namespaces.
const HOSTS: usize = 9_973;

pub(super) async fn run(workloads: usize) -> Result<Vec<Figure>> {
    let mut operator = Operator::start("").await?;
    let started = Instant::now();
    for group in 0..workloads.div_ceil(TOGETHER) {
        let objects = (0..TOGETHER).map(|member| workload(group, member));
        operator.apply(objects.collect()).await?;
    }
    let filled = started.elapsed();
    operator.end().await?;
    let started = Instant::now();
    operator.start_again();
    operator.answers().await;
    let start = started.elapsed();
    let rss = rss_mib(operator.ca.pid());
    let mut lookups = lookups(&operator, workloads).await?;
    let mut writes = Vec::new();
    for number in 0..WRITES {
        let sent = Instant::now();
        operator.apply(vec![workload(number, TOGETHER)]).await?;
        writes.push(millis(sent.elapsed()));
    }
    let written = rss_mib(operator.ca.pid());
    operator.stop().await?;
    Ok(vec![
        Figure::stated("fleet.million_workloads", workloads as f64, ""),
        Figure::stated("fleet.million_fill_s", filled.as_secs_f64(), "s"),
        Figure::at_most("fleet.million_start_s", start.as_secs_f64(), "s", 10.0),
        Figure::at_most("fleet.million_rss_mib", rss, "MiB", 2048.0),
        Figure::stated("fleet.million_rss_after_writes_mib", written, "MiB"),
        Figure::at_most(
            "fleet.million_lookup_p99_ms",
            quantile(&mut lookups, 0.99),
            "ms",
            1.0,
        ),
        Figure::stated("fleet.million_write_ms", median(writes), "ms"),
    ])
}

/// Each as a REST call, one after the other, on a connection that is kept.
async fn lookups(operator: &Operator, workloads: usize) -> Result<Vec<f64>> {
    let mut line = operator.line().await?;
    let mut spent = Vec::with_capacity(LOOKUPS);
    for turn in 0..LOOKUPS {
        // Far from one another, so that nothing is near in a cache.
        let number = turn * 7_919_993 % workloads;
        let (group, member) = (number / TOGETHER, number % TOGETHER);
        let path = format!("/v1/workloads/n{group}/w{member}");
        let sent = Instant::now();
        let status = line.get(&path).await?;
        spent.push(millis(sent.elapsed()));
        ensure!(status == StatusCode::OK, "{path}: {status}");
    }
    Ok(spent)
}

fn workload(group: usize, member: usize) -> Value {
    let host = (group * TOGETHER + member) % HOSTS;
    let agent = format!("spiffe://mesh.bench/countersign/agent/x509pop/host-{host}");
    json!({
        "apiVersion": "countersign.dev/v1",
        "kind": "Workload",
        "metadata": {"namespace": format!("n{group}"), "name": format!("w{member}")},
        "spec": {"agents": [agent], "selectors": {"unix": {"uid": 1000 + member}}},
    })
}

fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}
