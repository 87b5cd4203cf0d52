//! `check_ns`: what it costs to judge one request, by the proxy's own functions: its head is read,
//! the caller's identity is set, policy decides, and the decision is named.

use anyhow::{Context, Result, ensure};
use http::Version;
use http::request::Parts;
use mtls::{Expected, PeerIdentity};
use policy::{MeshNames, PolicySnapshot, Revision};
use proxy::judging::Judging;
use tokio::io::duplex;
use tokio::time::Instant;

use super::identities::Identities;
use crate::figure::{Figure, median};

const REQUESTS: u32 = 20_000;

/// One template among several, as a Service of some size has them.
const OBJECTS: &str = r#"
apiVersion: countersign.dev/v1
kind: Service
metadata: {namespace: shop, name: orders}
spec: {workloads: [shop/orders], ports: [{name: http, port: 80, protocol: http}]}
---
apiVersion: countersign.dev/v1
kind: Policy
metadata: {namespace: shop, name: orders}
spec:
  targets: [{service: orders, port: http}]
  allow:
  - {id: basket, from: [{workload: shop/basket}], to: {http: [{methods: [GET], path: "/v1/baskets/{id}"}]}}
  - {id: audit, from: [{workload: audit/reader}], to: {http: [{methods: [GET], path: "/v1/{rest=**}"}]}}
  - {id: checkout, from: [{workload: shop/checkout}], to: {http: [{methods: [GET, POST], path: "/v1/orders/{id}"}]}}
"#;

pub(super) async fn figures(identities: &Identities, rounds: usize) -> Result<Vec<Figure>> {
    let judging = Judging::new(
        policy(identities)?,
        &peer(identities).await?,
        "shop/orders:http".parse()?,
    );
    ensure!(
        judging.judge(request("/v1/orders/7")?).is_some(),
        "the bench's own request is permitted"
    );
    ensure!(
        judging.judge(request("/v1/baskets/7")?).is_none(),
        "another request is not permitted"
    );
    let costs = (0..rounds.max(1)).map(|_| cost(&judging));
    let costs: Vec<f64> = costs.collect::<Result<_>>()?;
    Ok(vec![Figure::stated("proxy.check_ns", median(costs), "ns")])
}

/// Without what it costs to make the request.
fn cost(judging: &Judging) -> Result<f64> {
    let template = request("/v1/orders/7")?;
    let began = Instant::now();
    for _ in 0..REQUESTS {
        std::hint::black_box(template.clone());
    }
    let made = began.elapsed();
    let began = Instant::now();
    for _ in 0..REQUESTS {
        std::hint::black_box(judging.judge(template.clone()));
    }
    let judged = began.elapsed().saturating_sub(made);
    Ok(judged.as_nanos() as f64 / f64::from(REQUESTS))
}

/// As a proxy gets it from another.
fn request(path: &str) -> Result<Parts> {
    let request = http::Request::get(format!("http://orders.shop.mesh.internal{path}"))
        .version(Version::HTTP_2)
        .header("accept", "*/*")
        .header("user-agent", "bench/1")
        .header("x-request-id", "4bf92f3577b34da6a3ce929d0e0e4736");
    Ok(request.body(())?.into_parts().0)
}

fn policy(identities: &Identities) -> Result<PolicySnapshot> {
    let trust_domain = identities.orders.spiffe_id().trust_domain().clone();
    let mesh = MeshNames::new(trust_domain, identity::IdTemplate::default());
    let objects = policy::parse_documents(OBJECTS)?.into_iter().collect();
    let revision = Revision {
        epoch: 1,
        number: 1,
    };
    Ok(PolicySnapshot::compile(
        revision,
        &[7; 32],
        &mesh,
        &objects,
        &[],
    ))
}

/// `shop/checkout`, as a handshake proves it.
async fn peer(identities: &Identities) -> Result<PeerIdentity> {
    let now = || runtime::Clock::system().now();
    let (orders, at_orders) = mtls::channel(now);
    let (checkout, at_checkout) = mtls::channel(now);
    let bundles = identities.context.bundles();
    orders.publish(identities.orders.clone(), bundles.clone())?;
    checkout.publish(identities.checkout.clone(), bundles.clone())?;
    let (ours, theirs) = duplex(64 * 1024);
    let server = at_orders.server_config(&[])?;
    let client = at_checkout.client_config(
        Expected::exactly(identities.orders.spiffe_id().clone()),
        &[],
    )?;
    let (accepted, connected) =
        tokio::join!(mtls::accept(ours, server), mtls::connect(theirs, client));
    connected.context("the caller's side of the handshake")?;
    let accepted = accepted.context("the listener's side of the handshake")?;
    accepted
        .peer()
        .cloned()
        .context("a certificate of the caller")
}
