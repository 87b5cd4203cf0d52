//! PostgreSQL is stopped: revocations are obeyed all the same, survive the replica that took them, and
//! are on record when it is back.

use mesh_tests::application::Application;
use mesh_tests::host::Host;
use mesh_tests::invariants::{Calls, renew};
use mesh_tests::operator::CaProcess;
use mesh_tests::replicas::Replicas;
use mesh_tests::shop::{CHECKOUT_MAY_CALL, SERVICE};
use mesh_tests::stranger::{Joined, Line, join};
use mesh_tests::waiting::eventually;
use postgres_cluster::Cluster;
use runtime::Clock;
use serde_json::{Value, json};

const PORT: u16 = 5432;
const PATH: &str = "/v1/revocations";
const BAN: &str = "/v1/agents/join-token/web-7/ban";
const AGENT: &str = "spiffe://mesh.test/countersign/agent/join-token/web-7";
const ORDERS: &str = "spiffe://mesh.test/ns/shop/sa/orders";
const CHECKOUT: &str = "spiffe://mesh.test/ns/shop/sa/checkout";

/// One replica on a server of its own.
struct Mesh {
    cluster: Cluster,
    replicas: Replicas,
    ca: CaProcess,
}

impl Mesh {
    async fn start() -> Option<Self> {
        let cluster = Cluster::start(PORT, &[], &[])?;
        let (replicas, mut running) = Replicas::start_on(cluster.database(), 1, "").await;
        let ca = running.remove(0);
        for name in ["orders", "checkout"] {
            ca.register("shop", name).await;
        }
        Some(Self {
            cluster,
            replicas,
            ca,
        })
    }

    async fn agent(&self) -> Joined {
        let token = self.ca.join_token("web-7", &["shop/orders"]).await;
        join(&token, &Clock::system()).await
    }
}

/// What is revoked, once the CA has a record of it.
async fn recorded(ca: &CaProcess, subject: &str) -> Value {
    eventually("it is on record", || async {
        let list = ca.admin().get(PATH).await.ok()?;
        let items = list["items"].as_array()?.clone();
        items.into_iter().find(|item| item["subject"] == subject)
    })
    .await
}

async fn refusal(answer: impl Future<Output = Result<Value, cli::admin::ClientError>>) -> String {
    let refused = answer.await.expect_err("it is refused");
    refused.to_string()
}

#[tokio::test]
async fn what_only_the_store_can_judge_is_not_revoked_without_it() {
    let Some(mut mesh) = Mesh::start().await else {
        return;
    };
    mesh.cluster.halt();
    let serial = json!({"kind": "serial", "subject": "0a", "reason": "test"});
    let admin = mesh.ca.admin();
    for refused in [
        refusal(admin.post(PATH, &serial)).await,
        refusal(admin.get(PATH)).await,
        refusal(admin.delete(BAN)).await,
    ] {
        assert!(refused.contains("store-unavailable"), "{refused}");
    }
}

#[tokio::test]
async fn an_identity_that_is_revoked_without_postgresql_is_refused_in_live_calls_and_recorded_later()
 {
    let Some(mut mesh) = Mesh::start().await else {
        return;
    };
    for objects in [SERVICE, CHECKOUT_MAY_CALL] {
        mesh.ca.try_apply(objects).await.expect("valid objects");
    }
    let application = Application::http().await;
    let at = Some(application.address());
    let _orders = Host::start(&mesh.ca, "orders-1", "shop/orders", at).await;
    let checkout = Host::start(&mesh.ca, "checkout-1", "shop/checkout", None).await;
    let calls = Calls::through(checkout.outbound);
    calls.pass().await;
    mesh.cluster.halt();
    let wish = json!({"kind": "identity", "subject": CHECKOUT, "reason": "stolen"});
    let revoked = mesh
        .ca
        .admin()
        .post(PATH, &wish)
        .await
        .expect("it is taken");
    assert_eq!(revoked["spooled"], true, "{revoked}");
    calls.fail().await;
    mesh.cluster.resume();
    let kept = recorded(&mesh.ca, CHECKOUT).await;
    let reason = kept["reason"].as_str().expect("text");
    assert!(
        reason.starts_with("stolen (accepted by ca-1 at "),
        "{reason}"
    );
    assert_eq!(kept["author"], revoked["author"]);
    calls.fail().await;
    let path = format!(
        "{PATH}/identity/{}",
        CHECKOUT.replace(':', "%3A").replace('/', "%2F")
    );
    mesh.ca.admin().delete(&path).await.expect("it is revoked");
    calls.pass().await;
}

#[tokio::test]
async fn a_ban_without_postgresql_outlives_the_replica_that_took_it() {
    let Some(mut mesh) = Mesh::start().await else {
        return;
    };
    let agent = mesh.agent().await;
    mesh.cluster.halt();
    let ban = json!({"reason": "stolen"});
    let banned = mesh.ca.admin().post(BAN, &ban).await.expect("it is taken");
    assert_eq!(
        (&banned["spooled"], &banned["subject"]),
        (&json!(true), &json!(AGENT))
    );
    let refused = refused_line(&mesh.ca, &agent).await;
    assert!(refused, "a banned agent was issued something");
    drop(mesh.ca.crash().await);
    mesh.cluster.resume();
    let ca = mesh.replicas.restart(0, &[]).await;
    let kept = recorded(&ca, AGENT).await;
    assert_eq!(kept["liveSvids"], 1, "{kept}");
    assert!(
        refused_line(&ca, &agent).await,
        "a banned agent was issued something"
    );
}

/// Whether the replica gives the agent nothing.
async fn refused_line(ca: &CaProcess, agent: &Joined) -> bool {
    let line = Line::mutual(ca.agents_address(), agent, &Clock::system()).await;
    renew(&line, agent, ORDERS).await.is_none()
}
