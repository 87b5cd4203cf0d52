//! `issue`: what an SVID costs the CA, through real gRPC, CSR verified, durably recorded, beside
//! one bare verification and one bare signature in the same round; on SQLite and on PostgreSQL.

mod growth;
mod load;
mod writes;

use std::time::Duration;

use anyhow::Result;

use crate::figure::{Figure, Report, median};
use crate::limit;
use crate::operator::Operator;
use load::{Cost, LIMITS, agent, load, paced};

const ROUNDS: usize = 7;
const BATCH: usize = 32;
const SVIDS_A_ROUND: usize = 4096;
const SINGLES_A_ROUND: usize = 2048;

pub(crate) async fn run() -> Result<Report> {
    let mut figures = on_sqlite().await?;
    figures.extend(growth::run().await?);
    figures.extend(on_postgres().await?);
    Ok(Report::new("issue", figures))
}

async fn on_sqlite() -> Result<Vec<Figure>> {
    let operator = Operator::start(LIMITS).await?;
    let (rounds, p99) = Rounds::measure(&operator).await?;
    operator.stop().await?;
    let mut figures = rounds.figures("issue", Some(0.4));
    figures.push(Figure::at_most("issue.p99_ms", p99, "ms", 5.0));
    Ok(figures)
}

/// What the server itself spends is not counted, and is work of other processors in production.
async fn on_postgres() -> Result<Vec<Figure>> {
    let Some(cluster) = postgres_cluster::shared() else {
        return Ok(Vec::new());
    };
    let operator = Operator::start_on(&cluster.database(), LIMITS).await?;
    let (rounds, p99) = Rounds::measure(&operator).await?;
    let mut figures = rounds.figures("issue.postgres", None);
    figures.push(Figure::stated("issue.postgres.p99_ms", p99, "ms"));
    figures.extend(writes::run(&operator, cluster).await?);
    operator.stop().await?;
    Ok(figures)
}

#[derive(Debug, Default)]
struct Rounds {
    limit: Vec<f64>,
    batched: Vec<Cost>,
    single: Vec<Cost>,
}

impl Rounds {
    /// Also the 99th percentile, in milliseconds, at half of the rate of single requests.
    async fn measure(operator: &Operator) -> Result<(Self, f64)> {
        let line = agent(operator).await?;
        let pid = operator.ca.pid();
        let mut rounds = Self::default();
        for _ in 0..ROUNDS {
            rounds.limit.push(micros(limit::verify_and_sign()));
            let calls = SVIDS_A_ROUND / BATCH;
            rounds.batched.push(load(&line, pid, BATCH, calls).await?);
            rounds
                .single
                .push(load(&line, pid, 1, SINGLES_A_ROUND).await?);
        }
        let p99 = paced(&line, rounds.rate() / 2.0).await?;
        Ok((rounds, p99))
    }

    fn rate(&self) -> f64 {
        median(self.single.iter().map(|cost| cost.each_second).collect())
    }

    /// `of_one`: the goal for single requests.
    fn figures(&self, name: &str, of_one: Option<f64>) -> Vec<Figure> {
        let limit = median(self.limit.clone());
        let single = format!("{name}.batch1.share_of_limit");
        let share = self.share(&self.single);
        vec![
            Figure::at_least(
                format!("{name}.batch32.share_of_limit"),
                self.share(&self.batched),
                "ratio",
                0.6,
            )
            .with_limit(1.0),
            match of_one {
                Some(goal) => Figure::at_least(single, share, "ratio", goal),
                None => Figure::stated(single, share, "ratio"),
            }
            .with_limit(1.0),
            Figure::stated(
                format!("{name}.batch32.cpu_us"),
                each(&self.batched),
                "µs/SVID",
            )
            .with_limit(limit),
            Figure::stated(
                format!("{name}.batch1.cpu_us"),
                each(&self.single),
                "µs/SVID",
            )
            .with_limit(limit),
            Figure::stated(format!("{name}.batch1.rate"), self.rate(), "SVID/s"),
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

fn each(costs: &[Cost]) -> f64 {
    median(costs.iter().map(|cost| micros(cost.cpu_each)).collect())
}

fn micros(span: Duration) -> f64 {
    span.as_secs_f64() * 1e6
}
