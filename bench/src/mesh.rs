//! `mesh`: the four release binaries with the demonstration's workloads. How soon it is up, how soon
//! a change is enforced, how soon an agent is back, what it asks of the CA at rest, what it weighs.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http::StatusCode;
use mesh_tests::processes::Process;
use mesh_tests::waiting::DEADLINE;
use runtime::Clock;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout};
use workload_api::{Endpoint, X509Source};

use crate::figure::{Figure, Report, median, quantile};
use crate::machine::rss_mib;
use crate::program::Program;
use crate::shop::{Permitted, Shop, WORKLOADS};
use crate::sidecar::Host;

const STARTS: usize = 5;
/// Even, so that the last one permits.
const APPLIES: usize = 200;
const RESTARTS: usize = 9;
const TRAFFIC: Duration = Duration::from_secs(5);
const AT_REST: Duration = Duration::from_secs(60);
/// What the last calls left to say is said within so long.
const SETTLED: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(1);

pub(crate) async fn run() -> Result<Report> {
    let (_orders, application) = Program::orders().await?;
    let mut starts = Vec::new();
    for _ in 1..STARTS {
        starts.push(millis(Shop::open(application).await?.up_after));
    }
    let shop = Shop::open(application).await?;
    starts.push(millis(shop.up_after));
    traffic(&shop).await?;
    let mut applies = applies(&shop).await?;
    let ca_rss = rss_mib(shop.operator.ca.pid());
    let agent_rss = rss_mib(shop.agent.pid());
    let (calls, messages) = at_rest(&shop).await?;
    let restarts = restarts(shop).await?;
    Ok(Report::new(
        "mesh",
        vec![
            Figure::at_most("mesh.up_to_first_call_ms", median(starts), "ms", 3000.0),
            Figure::at_most(
                "mesh.apply_to_enforced_p99_ms",
                quantile(&mut applies, 0.99),
                "ms",
                250.0,
            ),
            Figure::stated("mesh.apply_to_enforced_p50_ms", median(applies), "ms"),
            Figure::at_most(
                "mesh.agent_restart_without_ca_ms",
                median(restarts),
                "ms",
                1000.0,
            ),
            Figure::at_most("mesh.idle_agent_requests_per_minute", calls, "RPC/min", 0.0),
            Figure::stated("mesh.idle_agent_messages_per_minute", messages, "/min"),
            Figure::at_most("mesh.ca_rss_mib", ca_rss, "MiB", 60.0),
            Figure::at_most("mesh.agent_rss_mib", agent_rss, "MiB", 20.0),
        ],
    ))
}

/// The demonstration's calls: five a second that are allowed, five that are not.
async fn traffic(shop: &Shop) -> Result<()> {
    let _checkout = Program::caller("checkout", shop.checkout.outbound)?;
    let _intruder = Program::caller("intruder", shop.intruder.outbound)?;
    sleep(TRAFFIC).await;
    Ok(())
}

/// From sending a change to the CA's word that every agent enforces it; then a call shows that it
/// is so.
async fn applies(shop: &Shop) -> Result<Vec<f64>> {
    let mut samples = Vec::new();
    for turn in 0..APPLIES {
        let (who, expected) = match turn % 2 {
            0 => (Permitted::Nobody, StatusCode::FORBIDDEN),
            _ => (Permitted::Checkout, StatusCode::OK),
        };
        let sent = Instant::now();
        let revision = shop.permit(who).await?;
        let path = format!("/v1/revisions/{revision}?wait=enforced&timeoutMs=10000");
        let answer = shop.operator.admin().get(&path).await?;
        samples.push(millis(sent.elapsed()));
        let enforced = !answer["enforcement"]["enforcedAt"].is_null();
        ensure!(enforced, "revision {revision} is not enforced: {answer}");
        let status = shop.checkout.call(crate::shop::ORDERS).await?;
        ensure!(
            status == expected,
            "{who:?} may call, and the answer was {status}"
        );
    }
    Ok(samples)
}

/// Calls, and messages on streams that are open, for each minute.
async fn at_rest(shop: &Shop) -> Result<(f64, f64)> {
    sleep(SETTLED).await;
    let before = shop.operator.agent_requests().await?;
    sleep(AT_REST).await;
    let after = shop.operator.agent_requests().await?;
    Ok((
        (after.calls - before.calls),
        (after.messages - before.messages),
    ))
}

/// The CA is down; the agent is killed and started, again and again.
async fn restarts(shop: Shop) -> Result<Vec<f64>> {
    let Shop {
        operator,
        host,
        mut agent,
        orders: _orders,
        checkout,
        ..
    } = shop;
    operator.ca.kill().await;
    let mut samples = Vec::new();
    for _ in 0..RESTARTS {
        agent.kill().await;
        let started = Instant::now();
        agent = host.start();
        served(&host, &agent).await?;
        samples.push(millis(started.elapsed()));
    }
    let status = checkout.call(crate::shop::ORDERS).await?;
    ensure!(
        status == StatusCode::OK,
        "after the restarts the answer was {status}"
    );
    Ok(samples)
}

/// Until the Workload API has handed out every identity.
async fn served(host: &Host, agent: &Process) -> Result<()> {
    let socket = host.workload_api();
    let source = async {
        while UnixStream::connect(&socket).await.is_err() {
            sleep(PAUSE).await;
        }
        X509Source::start(Endpoint::Unix(socket.clone()), Clock::system())
            .wait_ready()
            .await
    };
    let context = timeout(DEADLINE, source)
        .await
        .with_context(|| format!("the agent said: {}", agent.said()))??;
    let held = context.identities().len();
    ensure!(held == WORKLOADS.len(), "{held} identities were handed out");
    Ok(())
}

fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}
