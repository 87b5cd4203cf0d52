//! PostgreSQL is away: renewals go on, and nothing else; each has its record when it is back.

use std::time::Duration;

use crypto::signing::SigningKey;
use mesh_tests::application::Application;
use mesh_tests::host::Host;
use mesh_tests::invariants::{Calls, Witness, renew};
use mesh_tests::operator::CaProcess;
use mesh_tests::replicas::Replicas;
use mesh_tests::shop::{CHECKOUT_MAY_CALL, SERVICE};
use mesh_tests::stranger::{Joined, Line, join};
use mesh_tests::waiting::eventually;
use postgres_cluster::Cluster;
use runtime::Clock;
use tonic::Code;

const AGENT: &str = "spiffe://mesh.test/countersign/agent/join-token/web-7";
const ORDERS: &str = "spiffe://mesh.test/ns/shop/sa/orders";
const PORT: u16 = 5432;
const RENEWALS: usize = 10;

/// One replica on a server of its own, and an agent that has joined.
struct Mesh {
    cluster: Cluster,
    replicas: Replicas,
    ca: CaProcess,
    agent: Joined,
    witness: Witness,
}

impl Mesh {
    async fn start(lifetimes: &str) -> Option<Self> {
        let cluster = Cluster::start(PORT, &[], &[])?;
        let (replicas, mut running) = Replicas::start_on(cluster.database(), 1, lifetimes).await;
        let ca = running.remove(0);
        for name in ["orders", "checkout"] {
            ca.register("shop", name).await;
        }
        let token = ca.join_token("web-7", &["shop/orders"]).await;
        let agent = join(&token, &Clock::system()).await;
        Some(Self {
            witness: Witness::of(&ca).await,
            cluster,
            replicas,
            ca,
            agent,
        })
    }

    /// So many certificates of the agent, each its own and a workload's in turn.
    async fn renewals(&mut self) {
        let line = Line::mutual(self.ca.agents_address(), &self.agent, &Clock::system()).await;
        for turn in 0..RENEWALS {
            let id = if turn % 2 == 0 { AGENT } else { ORDERS };
            let serial = eventually("a certificate is renewed", || renew(&line, &self.agent, id));
            self.witness.got(id, serial.await);
        }
    }
}

#[tokio::test]
async fn without_postgresql_renewals_and_nothing_else_go_on_and_all_are_on_record_afterwards() {
    let Some(mut mesh) = Mesh::start("").await else {
        return;
    };
    let token = mesh.ca.join_token("late", &[]).await;
    mesh.cluster.halt();
    mesh.renewals().await;
    let ready = mesh.ca.admin().get("/readyz").await;
    assert_eq!(ready.expect("it is ready")["status"], "spooling");
    let line = Line::pinned(&token, &Clock::system()).await;
    let attested = line
        .attest(&token, line.possession(&SigningKey::generate()))
        .await;
    assert_eq!(attested.unwrap_err(), Code::Unavailable);
    let administration = mesh.ca.admin().get("/v1/agents").await.unwrap_err();
    assert!(
        administration.to_string().contains("store-unavailable"),
        "{administration}"
    );
    mesh.cluster.resume();
    mesh.witness.holds(&mesh.ca).await;
    eventually("nothing is spooled any more", || async {
        let ready = mesh.ca.admin().get("/readyz").await.ok()?;
        (ready["status"] == "ok").then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_a_replica_had_spooled_when_it_was_killed_is_shipped_when_it_starts_again() {
    let Some(mut mesh) = Mesh::start("").await else {
        return;
    };
    mesh.cluster.halt();
    mesh.renewals().await;
    drop(mesh.ca.crash().await);
    mesh.cluster.resume();
    let ca = mesh.replicas.restart(0, &[]).await;
    mesh.witness.holds(&ca).await;
}

#[tokio::test]
async fn no_call_fails_while_postgresql_is_away_for_longer_than_a_leaf_lives() {
    let lifetimes = "agent = \"8s\"\nworkload = \"8s\"\nmargin = \"1s\"";
    let Some(mut mesh) = Mesh::start(lifetimes).await else {
        return;
    };
    for objects in [SERVICE, CHECKOUT_MAY_CALL] {
        mesh.ca.try_apply(objects).await.expect("valid objects");
    }
    let application = Application::http().await;
    let at = Some(application.address());
    let orders = Host::start(&mesh.ca, "orders-1", "shop/orders", at).await;
    let checkout = Host::start(&mesh.ca, "checkout-1", "shop/checkout", None).await;
    let warm = Calls::through(checkout.outbound);
    warm.pass().await;
    drop(warm);
    let calls = Calls::through(checkout.outbound);
    mesh.cluster.halt();
    for host in [&orders, &checkout] {
        host.renewals(3).await;
    }
    calls.pass().await;
    mesh.cluster.resume();
    mesh.witness.holds(&mesh.ca).await;
    calls.never_failed_longer_than(Duration::ZERO);
}
