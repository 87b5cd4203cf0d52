//! Claims about entries that name agents by what their attestors say of them.

use std::time::Duration;

use crypto::signing::SigningKey;
use proto::agent::v1 as wire;
use serde_json::{Value, json};
use tokio::time::Instant;
use tonic::{Code, Status};

use super::agent::{TestAgent, chain_of, code_of, refused};
use super::harness::{TestCa, policy, service, workload_id};
use super::issuers::{Cluster, attest};
use crate::config::{JwtIssuerConfig, PostgresServer, SpoolConfig, TokenSelectors};
use crate::store::StorePlace;

impl Cluster {
    fn with_selectors(&self) -> JwtIssuerConfig {
        let table = "cluster = 'prod'\nnamespace = '{/kubernetes.io/namespace}'";
        JwtIssuerConfig {
            selectors: toml::from_str::<TokenSelectors>(table).unwrap(),
            ..self.config()
        }
    }

    async fn ca_with_selectors(&self) -> TestCa {
        let issuer = self.with_selectors();
        TestCa::start_with(|config| config.attest.jwt = vec![issuer]).await
    }

    /// The agent of this node, by a pod in this namespace.
    async fn agent(&self, ca: &TestCa, node: &str, namespace: &str) -> TestAgent {
        let token = self.token(ca, &in_namespace(node, &json!(namespace)));
        let key = SigningKey::generate();
        let joined = attest(ca, &token, &key).await.unwrap();
        TestAgent {
            chain: joined.svid.unwrap().chain,
            key,
        }
    }
}

fn in_namespace(node: &str, namespace: &Value) -> Value {
    json!({"kubernetes.io": {"namespace": namespace, "node": {"name": node}}})
}

/// Workload `orders`, its Service, and who may call it.
fn orders(agents: &str) -> String {
    let workload = format!(
        "---\napiVersion: countersign.dev/v1\nkind: Workload\n\
         metadata: {{namespace: shop, name: orders}}\n\
         spec: {{agents: [{agents}], selectors: {{unix: {{uid: 1001}}}}}}\n"
    );
    workload + &service("orders") + &policy("orders", "orders")
}

async fn issue(ca: &TestCa, agent: &TestAgent) -> wire::issue_result::Result {
    try_issue(ca, agent).await.unwrap()
}

async fn try_issue(ca: &TestCa, agent: &TestAgent) -> Result<wire::issue_result::Result, Status> {
    let (id, key) = (workload_id("orders"), SigningKey::generate());
    ca.of(agent).await.issue_one(&id, &key).await
}

const SHOP: &str = "{attestor: k8s, cluster: prod, namespace: shop}";

#[tokio::test]
async fn a_token_that_does_not_say_what_a_selector_needs_is_refused_by_the_claims_name() {
    let cluster = Cluster::new();
    let ca = cluster.ca_with_selectors().await;
    let long = "a".repeat(256);
    for namespace in [
        json!(null),
        json!(["shop"]),
        json!("a b"),
        json!(""),
        json!(long),
    ] {
        let token = cluster.token(&ca, &in_namespace("web-7", &namespace));
        let answer = attest(&ca, &token, &SigningKey::generate()).await;
        let named = answer.as_ref().unwrap_err().message().to_owned();
        refused(answer, Code::PermissionDenied, "claims-refused");
        assert!(
            named.contains("selector namespace") && named.contains("/kubernetes.io/namespace"),
            "{named}"
        );
    }
    let agents = ca.ca.store.agents().await.unwrap();
    assert_eq!(agents, []);
}

#[tokio::test]
async fn an_agent_of_which_something_else_is_said_gets_nothing() {
    let cluster = Cluster::new();
    let ca = cluster.ca_with_selectors().await;
    let other_attestor = "{attestor: k8s-dev, namespace: bank}";
    let other_cluster = "{attestor: k8s, cluster: dev, namespace: bank}";
    ca.apply(&orders(&[SHOP, other_attestor, other_cluster].join(", ")))
        .await;
    let agent = cluster.agent(&ca, "web-7", "bank").await;
    let result = issue(&ca, &agent).await;
    assert_eq!(code_of(result), "not-this-agents-identity");
    let mut stream = ca.watch(&agent, None).await;
    let snapshot = stream.snapshot().await;
    assert_eq!(snapshot.identities, []);
    assert_eq!(snapshot.configuration.unwrap().objects, []);
}

#[tokio::test]
async fn an_agent_is_given_what_names_it_by_what_is_said_of_it() {
    let cluster = Cluster::new();
    let ca = cluster.ca_with_selectors().await;
    ca.apply(&orders(SHOP)).await;
    let agent = cluster.agent(&ca, "web-7", "shop").await;
    chain_of(issue(&ca, &agent).await);
    let mut stream = ca.watch(&agent, None).await;
    let snapshot = stream.snapshot().await;
    assert_eq!(snapshot.identities[0].name, "orders");
}

#[tokio::test]
async fn a_restart_forgets_nothing_that_was_said_of_an_agent() {
    let cluster = Cluster::new();
    let ca = cluster.ca_with_selectors().await;
    ca.apply(&orders(SHOP)).await;
    let agent = cluster.agent(&ca, "web-7", "shop").await;
    let ca = ca.restart_with(|_| {}).await.unwrap();
    chain_of(issue(&ca, &agent).await);
}

#[tokio::test]
async fn an_agent_of_which_something_else_is_said_by_now_loses_what_it_had() {
    let cluster = Cluster::new();
    let ca = cluster.ca_with_selectors().await;
    ca.apply(&orders(SHOP)).await;
    let caller = cluster.agent(&ca, "web-8", "bank").await;
    let mut caller = ca.watch(&caller, None).await;
    caller.snapshot().await;
    caller.ask_for("orders.shop").await;
    caller.delta().await;
    let agent = cluster.agent(&ca, "web-7", "shop").await;
    let mut stream = ca.watch(&agent, None).await;
    stream.snapshot().await;
    stream.announce("shop/orders", "orders", 31_006).await;
    stream.confirmed(31_006).await;
    while caller.endpoints().await.endpoints.is_empty() {}
    cluster.agent(&ca, "web-7", "bank").await;
    // With the SVID and on the stream that it had before.
    let result = issue(&ca, &agent).await;
    assert_eq!(code_of(result), "not-this-agents-identity");
    let told = stream.delta().await;
    assert_eq!(told.identities.unwrap().identities, []);
    assert_eq!(told.removed.len(), 2);
    assert_eq!(caller.endpoints().await.endpoints, []);
}

#[tokio::test]
async fn what_one_replica_hears_of_an_agent_counts_at_the_other() {
    let Some(server) = crate::store::tests::fresh_database() else {
        return;
    };
    let place = StorePlace::Postgres(server);
    let cluster = Cluster::new();
    let issuer = cluster.with_selectors();
    let one = TestCa::start_with(|config| {
        config.store = place.clone();
        config.attest.jwt = vec![issuer.clone()];
    });
    let one = one.await;
    let other = TestCa::start_with(|config| {
        config.store = place;
        config.replica = "ca-2".parse().unwrap();
        config.keys = one.config.keys.clone();
        config.attest.jwt = vec![issuer];
    });
    let other = other.await;
    let number = one.apply(&orders(SHOP)).await;
    let epoch = one.ca.store.epoch();
    other
        .ca
        .registry
        .reach(::policy::Revision { epoch, number })
        .await;
    let agent = cluster.agent(&one, "web-7", "shop").await;
    let mut stream = other.watch(&agent, None).await;
    assert_eq!(stream.snapshot().await.identities[0].name, "orders");
    chain_of(issue(&other, &agent).await);
    cluster.agent(&one, "web-7", "bank").await;
    let told = stream.delta().await;
    assert_eq!(told.identities.unwrap().identities, []);
    let result = issue(&other, &agent).await;
    assert_eq!(code_of(result), "not-this-agents-identity");
}

#[tokio::test]
async fn what_is_said_of_agents_counts_while_postgresql_is_away() {
    let Some(mut server) = postgres_cluster::Cluster::start(5432, &[], &[]) else {
        return;
    };
    let database = server.database();
    let socket = database.socket.to_str().unwrap();
    let place = PostgresServer::local(socket, database.port, &database.name, database.user);
    let cluster = Cluster::new();
    let issuer = cluster.with_selectors();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("spool");
    let spool = format!("file = '{}'\nsize_mib = 1", file.display());
    let ca = TestCa::start_with(|config| {
        config.store = StorePlace::Postgres(place);
        config.attest.jwt = vec![issuer];
        config.spool = Some(toml::from_str::<SpoolConfig>(&spool).unwrap());
    });
    let ca = ca.await;
    ca.apply(&orders(SHOP)).await;
    let shop = cluster.agent(&ca, "web-7", "shop").await;
    let bank = cluster.agent(&ca, "web-8", "bank").await;
    server.halt();
    let deadline = Instant::now() + Duration::from_secs(30);
    let renewed = loop {
        match try_issue(&ca, &shop).await {
            Ok(renewed) => break renewed,
            Err(refused) => assert!(Instant::now() < deadline, "{refused}"),
        }
    };
    chain_of(renewed);
    let result = issue(&ca, &bank).await;
    assert_eq!(code_of(result), "not-this-agents-identity");
}
