//! `fleet`: one CA with ten thousand agents, and one with a million workloads. The agents are
//! simulated, their connections are not: each joins with a token, holds a TLS connection and a
//! stream, keeps what it is told, and acknowledges it.

mod agent;
mod mesh;
mod million;

use std::time::Duration;

use anyhow::Result;
use tokio::time::{Instant, sleep};

use crate::figure::{Figure, Report, quantile};
use crate::machine::{process_cpu, rss_mib};
use agent::Agents;
use mesh::Mesh;

/// Even, so that the mesh ends as it began.
const CHANGES: usize = 100;
/// What joining left to do is done within so long.
const SETTLED: Duration = Duration::from_secs(10);
const AT_REST: Duration = Duration::from_secs(90);

#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Options {
    /// How many agents are simulated.
    #[arg(long, default_value_t = 10_000)]
    agents: usize,
    /// How many workloads are registered where they are what is measured; 0 leaves it out.
    #[arg(long, default_value_t = 1_000_000)]
    workloads: usize,
}

pub(crate) async fn run(options: &Options) -> Result<Report> {
    runtime::raise_open_files()?;
    let mut figures = of_agents(options.agents).await?;
    if options.workloads > 0 {
        figures.extend(million::run(options.workloads).await?);
    }
    Ok(Report::new("fleet", figures))
}

async fn of_agents(count: usize) -> Result<Vec<Figure>> {
    let mut mesh = Mesh::open(count).await?;
    let started = Instant::now();
    let agents = Agents::join(&mesh).await?;
    let joined = started.elapsed();
    let mut changes = Vec::new();
    for turn in 0..CHANGES {
        changes.push(change(&mesh, &agents, turn).await?.as_secs_f64() * 1e3);
    }
    let pid = mesh.operator.ca.pid();
    let rss = rss_mib(pid);
    sleep(SETTLED).await;
    let (cpu, started) = (process_cpu(pid)?, Instant::now());
    sleep(AT_REST).await;
    let idle = (process_cpu(pid)? - cpu).as_secs_f64() / started.elapsed().as_secs_f64();
    let storm = storm(&mut mesh, &agents).await?;
    mesh.operator.stop().await?;
    Ok(vec![
        Figure::stated("fleet.agents", count as f64, ""),
        Figure::stated("fleet.join_s", joined.as_secs_f64(), "s"),
        Figure::at_most("fleet.rss_mib", rss, "MiB", 1024.0),
        Figure::at_most("fleet.idle_cpu_percent", idle * 100.0, "%", 2.0),
        Figure::at_most(
            "fleet.change_to_all_p99_ms",
            quantile(&mut changes, 0.99),
            "ms",
            1000.0,
        ),
        Figure::stated(
            "fleet.change_to_all_p50_ms",
            quantile(&mut changes, 0.5),
            "ms",
        ),
        Figure::at_most("fleet.reconnect_storm_s", storm.as_secs_f64(), "s", 30.0),
    ])
}

/// From sending a change that concerns everybody until the last agent has been told.
async fn change(mesh: &Mesh, agents: &Agents, turn: usize) -> Result<Duration> {
    let told = agents.told_next();
    let sent = Instant::now();
    mesh.change(turn).await?;
    told.everybody().await?;
    Ok(sent.elapsed())
}

/// The CA is killed and started, and every agent comes back: until the last is told what holds.
async fn storm(mesh: &mut Mesh, agents: &Agents) -> Result<Duration> {
    let told = agents.back_again();
    mesh.operator.crash().await;
    let started = Instant::now();
    mesh.operator.start_again();
    told.everybody().await?;
    Ok(started.elapsed())
}
