//! `issue`: what an SVID costs the CA, through real gRPC, CSR verified, durably recorded, beside
//! one bare verification and one bare signature in the same round.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use mesh_tests::stranger::{Line, address, join, key_and_csr};
use proto::agent::v1::CertificateRequest;
use runtime::Clock;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::figure::{Figure, Report, median, quantile};
use crate::limit;
use crate::machine::process_cpu;
use crate::operator::Operator;

const ROUNDS: usize = 7;
const IN_FLIGHT: usize = 16;
const BATCH: usize = 32;
const SVIDS_A_ROUND: usize = 4096;
const SINGLES_A_ROUND: usize = 2048;
const PACED: Duration = Duration::from_secs(5);
const WORKLOAD: &str = "spiffe://mesh.bench/ns/bench/sa/workload";

/// What one kind of load cost.
#[derive(Debug)]
struct Cost {
    cpu_each: Duration,
    each_second: f64,
}

pub(crate) async fn run() -> Result<Report> {
    let operator = Operator::start(
        "[limits]\nissue_per_agent_per_second = 1000000\nissue_per_second = 1000000\n",
    )
    .await?;
    let line = Arc::new(agent(&operator).await?);
    let pid = operator.ca.pid();
    let mut rounds = Rounds::default();
    for _ in 0..ROUNDS {
        rounds.limit.push(micros(limit::verify_and_sign()));
        rounds
            .batched
            .push(load(&line, pid, BATCH, SVIDS_A_ROUND / BATCH).await?);
        rounds
            .single
            .push(load(&line, pid, 1, SINGLES_A_ROUND).await?);
    }
    let rate = median(rounds.single.iter().map(|cost| cost.each_second).collect());
    let p99 = paced(&line, rate / 2.0).await?;
    operator.stop().await?;
    Ok(Report::new("issue", rounds.figures(rate, p99)))
}

#[derive(Debug, Default)]
struct Rounds {
    limit: Vec<f64>,
    batched: Vec<Cost>,
    single: Vec<Cost>,
}

impl Rounds {
    fn figures(&self, rate: f64, p99_ms: f64) -> Vec<Figure> {
        let limit = median(self.limit.clone());
        vec![
            Figure::at_least(
                "issue.batch32.share_of_limit",
                self.share(&self.batched),
                "ratio",
                0.5,
            )
            .with_limit(1.0),
            Figure::at_least(
                "issue.batch1.share_of_limit",
                self.share(&self.single),
                "ratio",
                0.35,
            )
            .with_limit(1.0),
            Figure::stated("issue.batch32.cpu_us", each(&self.batched), "µs/SVID")
                .with_limit(limit),
            Figure::stated("issue.batch1.cpu_us", each(&self.single), "µs/SVID").with_limit(limit),
            Figure::stated("issue.batch1.rate", rate, "SVID/s"),
            Figure::at_most("issue.p99_ms", p99_ms, "ms", 5.0),
        ]
    }

    /// The median of each round's own ratio.
    fn share(&self, costs: &[Cost]) -> f64 {
        let ratios = self.limit.iter().zip(costs);
        median(
            ratios
                .map(|(limit, cost)| limit / micros(cost.cpu_each))
                .collect(),
        )
    }
}

async fn agent(operator: &Operator) -> Result<Line> {
    operator.register("bench", "workload").await?;
    let token = operator.join_token("bench", &["bench/workload"]).await?;
    let clock = Clock::system();
    let agents = address(&token);
    let joined = join(&token, &clock).await;
    Ok(Line::mutual(agents, &joined, &clock).await)
}

/// `calls` calls of `batch` requests each, [`IN_FLIGHT`] at a time.
async fn load(line: &Arc<Line>, ca: u32, batch: usize, calls: usize) -> Result<Cost> {
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
async fn paced(line: &Arc<Line>, each_second: f64) -> Result<f64> {
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

fn each(costs: &[Cost]) -> f64 {
    median(costs.iter().map(|cost| micros(cost.cpu_each)).collect())
}

fn micros(span: Duration) -> f64 {
    span.as_secs_f64() * 1e6
}
