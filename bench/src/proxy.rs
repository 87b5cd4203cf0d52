//! `proxy`: what a pair of sidecars costs and adds, and what one weighs.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mtls::Expected;
use runtime::Clock;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use workload_api::{Endpoint, X509Source};

use crate::figure::{Figure, Report, median, quantile};
use crate::load::{Backend, Load, Outcome};
use crate::machine::{process_cpu, rss_mib};
use crate::shop::{ORDERS, Shop};

const ROUNDS: usize = 7;
const CONNECTIONS: usize = 32;
const MANY: usize = 256;
const CLOSED: Duration = Duration::from_secs(2);
const PACED: Duration = Duration::from_secs(3);
/// Far below what either path can carry, so that added latency is the proxies' own and not a queue.
const PACED_EACH_SECOND: f64 = 1000.0;

#[derive(Debug, Default)]
struct Rounds {
    cpu_us: Vec<f64>,
    each_second: Vec<f64>,
    added_p50: Vec<f64>,
    added_p99: Vec<f64>,
}

pub(crate) async fn run() -> Result<Report> {
    let backend = Backend::start().await?;
    let shop = Shop::open(backend.address).await?;
    let idle = heavier(&shop);
    let many = weight_of_many(&shop).await?;
    let mut rounds = Rounds::default();
    for _ in 0..ROUNDS {
        rounds.closed(&shop).await?;
        rounds.paced(&shop, &backend).await?;
    }
    Ok(Report::new(
        "proxy",
        vec![
            Figure::stated(
                "proxy.h1_c32.cpu_us_per_request",
                median(rounds.cpu_us),
                "µs",
            ),
            Figure::stated(
                "proxy.h1_c32.requests_per_second",
                median(rounds.each_second),
                "/s",
            ),
            Figure::stated("proxy.h1_c32.added_p50_us", median(rounds.added_p50), "µs"),
            Figure::stated("proxy.h1_c32.added_p99_us", median(rounds.added_p99), "µs"),
            Figure::at_most("proxy.rss_idle_mib", idle, "MiB", 12.0),
            Figure::at_most("proxy.rss_256_mib", many, "MiB", 30.0),
        ],
    ))
}

impl Rounds {
    /// As many requests as are answered: CPU of both proxies.
    async fn closed(&mut self, shop: &Shop) -> Result<()> {
        let before = pair_cpu(shop)?;
        let load = Load::closed(shop.checkout.outbound, CONNECTIONS, CLOSED);
        let outcome = load.run(ORDERS).await?;
        let cpu = pair_cpu(shop)? - before;
        let requests = outcome.requests as f64;
        self.cpu_us.push(cpu.as_secs_f64() * 1e6 / requests);
        self.each_second.push(requests / CLOSED.as_secs_f64());
        Ok(())
    }

    /// The same paced load to the backend and through the pair.
    async fn paced(&mut self, shop: &Shop, backend: &Backend) -> Result<()> {
        let paced = |target| Load::paced(target, CONNECTIONS, PACED, PACED_EACH_SECOND);
        let mut direct = paced(backend.address).run(ORDERS).await?;
        let mut through = paced(shop.checkout.outbound).run(ORDERS).await?;
        self.added_p50.push(added(&mut direct, &mut through, 0.5));
        self.added_p99.push(added(&mut direct, &mut through, 0.99));
        Ok(())
    }
}

fn added(direct: &mut Outcome, through: &mut Outcome, share: f64) -> f64 {
    quantile(&mut through.latencies, share) - quantile(&mut direct.latencies, share)
}

fn pair_cpu(shop: &Shop) -> Result<Duration> {
    Ok(process_cpu(shop.checkout.process.pid())? + process_cpu(shop.orders.process.pid())?)
}

fn heavier(shop: &Shop) -> f64 {
    rss_mib(shop.checkout.process.pid()).max(rss_mib(shop.orders.process.pid()))
}

/// The heavier of a proxy whose application holds 256 connections, all of them calling, and a
/// proxy to which other proxies hold 256.
async fn weight_of_many(shop: &Shop) -> Result<f64> {
    let outbound = Load::closed(shop.checkout.outbound, MANY, CLOSED);
    let mut calling = JoinSet::new();
    calling.spawn(async move { outbound.run(ORDERS).await });
    tokio::time::sleep(CLOSED / 2).await;
    let outbound = rss_mib(shop.checkout.process.pid());
    calling
        .join_next()
        .await
        .context("one task was spawned")???;
    let _peers = peers(shop).await?;
    Ok(outbound.max(heavier(shop)))
}

/// Open mTLS connections to the proxy of `shop/orders`, each of which has carried a call.
async fn peers(shop: &Shop) -> Result<(JoinSet<hyper::Result<()>>, Vec<Sender>)> {
    let config = checkout_config(shop).await?;
    let mut tasks = JoinSet::new();
    let mut senders = Vec::new();
    for _ in 0..MANY {
        let socket = TcpStream::connect(shop.mesh_address).await?;
        let tls = mtls::connect(socket, config.clone()).await?;
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await;
        let (mut sender, connection) = handshake?;
        tasks.spawn(connection);
        let answer = sender
            .send_request(Request::get(ORDERS).body(Empty::<Bytes>::new())?)
            .await?;
        anyhow::ensure!(answer.status().is_success(), "refused: {answer:?}");
        answer.into_body().collect().await?;
        senders.push(sender);
    }
    Ok((tasks, senders))
}

type Sender = SendRequest<Empty<Bytes>>;

/// As `shop/checkout`, whose identity the Workload API gives to a process of its uid.
async fn checkout_config(shop: &Shop) -> Result<mtls::ClientTlsConfig> {
    let clock = Clock::system();
    let endpoint = Endpoint::Unix(shop.host.workload_api());
    let context = X509Source::start(endpoint, clock.clone())
        .wait_ready()
        .await?;
    let of = |workload: &str| {
        let ends = format!("/sa/{workload}");
        let mut identities = context.identities().iter();
        identities.find(|it| it.svid.spiffe_id().path().ends_with(&ends))
    };
    let own = of("checkout").context("the Workload API gives shop/checkout")?;
    let orders = of("orders").context("the Workload API gives shop/orders")?;
    let (publisher, credentials) = mtls::channel(move || clock.now());
    publisher.publish(own.svid.clone(), context.bundles().clone())?;
    let servers = [orders.svid.spiffe_id().clone()].into_iter().collect();
    Ok(credentials.client_config(Expected::AnyOf(Arc::new(servers)), &[b"h2"])?)
}
