//! The root is rotated under traffic, and nobody notices; what a compromised root vouched for ends.

use std::time::Duration;

use ca_server::config::{BundleConfig, Lifetimes};
use http::StatusCode;
use mesh_tests::caller::Caller;
use mesh_tests::frames;
use mesh_tests::holder::Holder;
use mesh_tests::mesh::Mesh;
use mesh_tests::shop::{ORDERS, Shop};
use mesh_tests::waiting::{DEADLINE, eventually};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use workload_api::{Endpoint, X509Source};

const LIFE: Duration = Duration::from_secs(5);
const AUTHORITIES: &str = "/v1/authorities";

/// Three refresh hints and one leaf are a few seconds.
async fn shop() -> Shop {
    let mesh = Mesh::configured(|config| {
        config.lifetimes = Lifetimes {
            agent: LIFE,
            workload: LIFE,
            margin: Duration::from_secs(1),
            ..Lifetimes::default()
        };
        config.bundle = BundleConfig {
            refresh_hint: Duration::from_secs(1),
        };
    });
    Shop::open_in(mesh.await).await
}

#[tokio::test]
async fn no_call_fails_while_the_root_is_rotated_and_the_old_one_is_trusted_nowhere_after() {
    let shop = shop().await;
    let before = shop.mesh.ca.bundle();
    let reader = shop.mesh.workload("shop/reader").by_uid().start().await;
    let endpoint = Endpoint::Unix(reader.workload_api());
    let source = X509Source::start(endpoint, shop.mesh.time());
    source.wait_ready().await.expect("an identity");
    let traffic = Traffic::of(&shop).await;
    rotate(&shop, json!({})).await;
    settled(&shop).await;
    traffic.never_failed().await;
    let after = shop.mesh.ca.bundle();
    assert_eq!(after.authorities().len(), 1);
    assert_ne!(after.digest(), before.digest());
    eventually(
        "the reader of the Workload API has the new bundle alone",
        || async {
            let context = source.current()?;
            let told = context.bundles().get(after.trust_domain())?;
            (told.digest() == after.digest()).then_some(())
        },
    )
    .await;
}

#[tokio::test]
async fn no_call_of_those_who_acknowledge_fails_while_a_compromised_root_is_replaced() {
    let shop = shop().await;
    let before = shop.mesh.ca.bundle();
    let traffic = Traffic::of(&shop).await;
    rotate(&shop, json!({"compromised": true, "within": "1m"})).await;
    settled(&shop).await;
    traffic.never_failed().await;
    let list = get(&shop, AUTHORITIES).await;
    assert_eq!(list["items"][0]["phase"], "removed");
    assert_ne!(shop.mesh.ca.bundle().digest(), before.digest());
}

#[tokio::test]
async fn the_credential_that_began_a_rotation_outlives_the_root_that_it_pinned() {
    let shop = shop().await;
    rotate(&shop, json!({"compromised": true, "within": "5s"})).await;
    settled(&shop).await;
    let file = std::fs::read_to_string(shop.mesh.ca.admin_file()).expect("readable");
    let roots = shop.mesh.ca.bundle();
    assert!(file.contains(&roots.authorities()[0].digest().to_string()));
    assert!(get(&shop, "/v1/about").await["revision"].is_string());
}

#[tokio::test]
async fn who_was_shown_a_certificate_under_a_compromised_root_is_asked_to_leave_before_it_goes() {
    let shop = Shop::open().await;
    // Its agent acknowledges nothing, so that nothing is hurried.
    let holder = Holder::of(&shop.mesh, "checkout").await;
    let mut kept = holder.connect(shop.orders.mesh_listener(), b"h2").await;
    kept.write_all(&frames::opening(&[])).await.expect("taken");
    rotate(&shop, json!({"compromised": true, "within": "1m"})).await;
    shop.mesh.clock.advance(Duration::from_secs(31));
    let left = timeout(DEADLINE, kept.read_to_end(&mut Vec::new())).await;
    drop(left.expect("it is left"));
    assert_eq!(shop.mesh.ca.bundle().authorities().len(), 2);
}

async fn rotate(shop: &Shop, request: Value) {
    let admin = shop.mesh.admin();
    let begun = admin.post("/v1/authorities/rotation", &request).await;
    let begun = begun.expect("the rotation begins");
    assert_eq!(begun["settled"], false, "{begun}");
}

async fn get(shop: &Shop, path: &str) -> Value {
    let answer = shop.mesh.admin().get(path).await;
    answer.expect("the CA answers")
}

async fn settled(shop: &Shop) {
    eventually("the rotation ends", || async {
        let list = get(shop, AUTHORITIES).await;
        (list["settled"] == true).then_some(())
    })
    .await;
}

/// Callers that never pause, over connections that live and over new ones.
struct Traffic {
    callers: JoinSet<usize>,
    /// Its connection is what others call over.
    _h2: Caller,
    enough: CancellationToken,
}

impl Traffic {
    async fn of(shop: &Shop) -> Self {
        let (mut callers, enough) = (JoinSet::new(), CancellationToken::new());
        let h2 = shop.checkout.h2_caller().await;
        for _ in 0..2 {
            callers.spawn(calls(shop.checkout.caller().await, enough.clone()));
            callers.spawn(calls(h2.another(), enough.clone()));
        }
        Self {
            callers,
            _h2: h2,
            enough,
        }
    }

    async fn never_failed(mut self) {
        self.enough.cancel();
        while let Some(made) = self.callers.join_next().await {
            assert!(made.expect("no call failed") > 0);
        }
    }
}

async fn calls(mut caller: Caller, enough: CancellationToken) -> usize {
    let mut made = 0;
    while !enough.is_cancelled() {
        let answer = caller.get(&format!("{ORDERS}/v1/orders")).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        made += 1;
    }
    made
}
