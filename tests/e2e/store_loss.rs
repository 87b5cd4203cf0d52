//! A store that has lost revisions, since a back-up was restored: nobody goes back silently; with one
//! command everybody goes on together.

use crypto::signing::SigningKey;
use http::StatusCode;
use identity::JoinToken;
use mesh_tests::application::Application;
use mesh_tests::operator::CaProcess;
use mesh_tests::replicas::Replicas;
use mesh_tests::shop::{CHECKOUT_MAY_CALL, NOBODY_MAY_CALL, ORDERS, SERVICE};
use mesh_tests::stranger::Line as AgentLine;
use mesh_tests::waiting::eventually;
use mesh_tests::workload::Workload;
use postgres_cluster::shared;
use runtime::Clock;
use tonic::Code;

#[tokio::test]
async fn a_restored_backup_is_not_trusted_until_the_loss_is_accepted() {
    let Some(cluster) = shared() else {
        return;
    };
    let database = cluster.database();
    let (mut mesh, mut replicas) = Replicas::start_on(database.clone(), 1, "").await;
    let ca = replicas.remove(0);
    let shop = Shop::open(&ca).await;
    let token = ca.join_token("late", &[]).await;
    let backup = cluster.restored(&database.name);
    enforced(&ca, NOBODY_MAY_CALL).await;
    let _directory = ca.crash().await;
    mesh.move_to(&backup);
    let ca = mesh.launch(0).await;
    refused_until_accepted(&ca, &token).await;
    shop.called().await;
}

/// `shop/orders`, which `shop/checkout` may call, and does.
struct Shop {
    checkout: Workload,
    _orders: Workload,
    _application: Application,
}

impl Shop {
    async fn open(ca: &CaProcess) -> Self {
        let application = Application::http().await;
        let orders = ca.workload("shop/orders");
        let orders = orders.serving("http", application.address());
        orders.register().await;
        for object in [SERVICE, CHECKOUT_MAY_CALL] {
            ca.try_apply(object).await.expect("it is valid");
        }
        let shop = Self {
            _orders: orders.start().await,
            checkout: ca.workload("shop/checkout").start().await,
            _application: application,
        };
        shop.called().await;
        shop
    }

    async fn called(&self) {
        eventually("the call is permitted", || async {
            let mut caller = self.checkout.caller().await;
            let answer = caller.get(&format!("{ORDERS}/v1/orders")).await;
            (answer.status == StatusCode::OK).then_some(())
        })
        .await;
    }
}

async fn enforced(ca: &CaProcess, yaml: &str) {
    let revision = ca.try_apply(yaml).await.expect("it is valid");
    let path = format!("/v1/revisions/{revision}?wait=enforced&timeoutMs=20000");
    let answer = ca.admin().get(&path).await.expect("it is known");
    assert!(answer["enforcement"]["enforcedAt"].is_string(), "{answer}");
}

async fn refused_until_accepted(ca: &CaProcess, token: &JoinToken) {
    eventually("the loss is noticed", || async {
        let store = ca.admin().get("/v1/store").await.ok()?;
        store["behind"]["agents"].get(0).map(drop)
    })
    .await;
    let refused = ca.try_apply(CHECKOUT_MAY_CALL_ALL).await;
    assert_eq!(refused, None, "written to a store that has lost something");
    let clock = Clock::system();
    let key = SigningKey::generate();
    let line = AgentLine::pinned(token, &clock).await;
    let answer = line.attest(token, line.possession(&key)).await;
    assert_eq!(answer.err(), Some(Code::Unavailable));

    let said = countersign(ca, &["store", "accept-loss"]).await;
    assert!(
        said.contains("are lost") && said.contains("--yes"),
        "{said}"
    );
    let said = countersign(ca, &["store", "accept-loss", "--yes"]).await;
    assert!(said.contains("a new epoch begins"), "{said}");
    enforced(ca, CHECKOUT_MAY_CALL_ALL).await;
    let line = AgentLine::pinned(token, &clock).await;
    let answer = line.attest(token, line.possession(&key)).await;
    answer.expect("agents are admitted again");
}

/// What the program says of a command.
async fn countersign(ca: &CaProcess, arguments: &[&str]) -> String {
    let output = ca.countersign(arguments).await;
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const CHECKOUT_MAY_CALL_ALL: &str = r#"
apiVersion: countersign.dev/v1
kind: Policy
metadata: {namespace: shop, name: orders}
spec:
  targets: [{service: orders, port: http}]
  allow: [{id: all, from: [{workload: shop/checkout}]}]
"#;
