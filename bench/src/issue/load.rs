//! Load of issuance: one agent, many calls at once, each a real CSR.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use mesh_tests::stranger::{Line, address, join, key_and_csr};
use proto::agent::v1::CertificateRequest;
use runtime::Clock;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::figure::quantile;
use crate::machine::process_cpu;
use crate::operator::Operator;

const IN_FLIGHT: usize = 16;
const PACED: Duration = Duration::from_secs(5);
const WORKLOAD: &str = "spiffe://mesh.bench/ns/bench/sa/workload";
/// What one agent is given is not what is measured.
pub(super) const LIMITS: &str = "[limits]
issue_per_agent_per_second = 1000000
issue_per_second = 1000000
";

/// What one kind of load cost.
#[derive(Debug)]
pub(super) struct Cost {
    pub(super) cpu_each: Duration,
    pub(super) each_second: f64,
}

pub(super) async fn agent(operator: &Operator) -> Result<Arc<Line>> {
    operator.register("bench", "workload").await?;
    let token = operator.join_token("bench", &["bench/workload"]).await?;
    let clock = Clock::system();
    let agents = address(&token);
    let joined = join(&token, &clock).await;
    Ok(Arc::new(Line::mutual(agents, &joined, &clock).await))
}

/// `calls` calls of `batch` requests each, [`IN_FLIGHT`] at a time.
pub(super) async fn load(line: &Arc<Line>, ca: u32, batch: usize, calls: usize) -> Result<Cost> {
    let requests = requests(batch);
    let (cpu, started) = (process_cpu(ca)?, Instant::now());
    let mut callers = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let (line, requests) = (Arc::clone(line), requests.clone());
        callers.spawn(async move {
            for _ in 0..calls / IN_FLIGHT {
                line.issue_all(requests.clone()).await?;
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    let svids = u32::try_from(calls / IN_FLIGHT * IN_FLIGHT * batch)?;
    let each_second = f64::from(svids) / started.elapsed().as_secs_f64();
    Ok(Cost {
        cpu_each: (process_cpu(ca)? - cpu) / svids,
        each_second,
    })
}

/// The 99th percentile, in milliseconds, of calls that start on a clock, not after one another.
pub(super) async fn paced(line: &Arc<Line>, each_second: f64) -> Result<f64> {
    let mut ticks = interval(Duration::from_secs_f64(1.0 / each_second));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let end = Instant::now() + PACED;
    let mut calls = JoinSet::new();
    loop {
        let due = ticks.tick().await;
        if due >= end {
            break;
        }
        let (line, requests) = (Arc::clone(line), requests(1));
        calls.spawn(async move {
            line.issue_all(requests).await?;
            Ok::<_, anyhow::Error>(due.elapsed().as_secs_f64() * 1e3)
        });
    }
    let mut latencies = Vec::new();
    while let Some(latency) = calls.join_next().await {
        latencies.push(latency??);
    }
    Ok(quantile(&mut latencies, 0.99))
}

fn requests(batch: usize) -> Vec<CertificateRequest> {
    let request = |_| CertificateRequest {
        spiffe_id: WORKLOAD.to_owned(),
        csr: key_and_csr().1,
    };
    (0..batch).map(request).collect()
}
