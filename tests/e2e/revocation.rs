//! Who is revoked is refused everywhere: new handshakes, live connections, requests in flight, in
//! both directions, until it is lifted or replaced.

use std::sync::Arc;

use http::{Method, StatusCode};
use http_body_util::BodyExt;
use mesh_tests::application::Application;
use mesh_tests::caller::request;
use mesh_tests::database::{Database, Echo};
use mesh_tests::holder::Holder;
use mesh_tests::mesh::Mesh;
use mesh_tests::raw::Verdict;
use mesh_tests::shop::{ORDERS, Shop};
use mesh_tests::waiting::{DEADLINE, eventually};
use mesh_tests::workload::Workload;
use proxy::{CallRecord, Direction, FeedSource, Proxy, Reason};
use serde_json::{Value, json};
use tokio::sync::broadcast::Receiver;
use tokio::time::timeout;
use workload_agent::Agent;
use workload_api::{Endpoint, X509Source};

const PATH: &str = "/v1/revocations";

/// Revokes, and waits until every connected agent has acknowledged it.
async fn revoke(mesh: &Mesh, kind: &str, subject: &str) -> Value {
    let wish = json!({"kind": kind, "subject": subject, "reason": "stolen"});
    let revoked = mesh.admin().post(PATH, &wish).await.expect("it is revoked");
    mesh.enforced(revoked["revision"].as_str().expect("a revision"))
        .await;
    revoked
}

async fn lift(mesh: &Mesh, kind: &str, subject: &str) {
    let subject = subject.replace(':', "%3A").replace('/', "%2F");
    let lifted = mesh
        .admin()
        .delete(&format!("{PATH}/{kind}/{subject}"))
        .await;
    let lifted = lifted.expect("it was revoked");
    mesh.enforced(lifted["revision"].as_str().expect("a revision"))
        .await;
}

async fn get(shop: &Shop) -> mesh_tests::caller::Answer {
    let mut caller = shop.checkout.caller().await;
    caller.get(&format!("{ORDERS}/v1/orders")).await
}

async fn served_again(shop: &Shop) {
    eventually("calls pass again", || async {
        (get(shop).await.status == StatusCode::OK).then_some(())
    })
    .await;
}

async fn next_with(told: &mut Receiver<Arc<CallRecord>>, reason: Reason) -> Arc<CallRecord> {
    let wanted = async {
        loop {
            let record = told.recv().await.expect("the proxy lives");
            if record.reason == Some(reason) {
                return record;
            }
        }
    };
    timeout(DEADLINE, wanted).await.expect("it is told in time")
}

fn id(workload: &Workload) -> String {
    workload.spiffe_id.to_string()
}

#[tokio::test]
async fn a_caller_that_is_revoked_is_refused_until_that_is_lifted() {
    let shop = Shop::open().await;
    served_again(&shop).await;
    let revoked = revoke(&shop.mesh, "identity", &id(&shop.checkout)).await;
    assert_eq!(revoked["liveSvids"], 1);
    let refused = get(&shop).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert_eq!(refused.reason(), Some("revoked"), "{refused:?}");
    lift(&shop.mesh, "identity", &id(&shop.checkout)).await;
    served_again(&shop).await;
}

#[tokio::test]
async fn a_handshake_of_a_caller_that_is_revoked_is_refused_and_told_with_its_decision() {
    let shop = Shop::open().await;
    let holder = Holder::of(&shop.mesh, "checkout").await;
    let mut told = shop.orders.proxy.calls();
    revoke(&shop.mesh, "identity", &id(&shop.checkout)).await;
    let verdict = holder.verdict(shop.orders.mesh_listener()).await;
    assert!(matches!(verdict, Verdict::Refused(_)), "{verdict:?}");
    let record = next_with(&mut told, Reason::Revoked).await;
    assert_eq!(record.direction, Direction::Inbound);
    assert_eq!(&*record.source, id(&shop.checkout));
    assert!(record.decision_id.is_some());
}

#[tokio::test]
async fn a_server_that_is_revoked_is_refused_by_its_callers() {
    let shop = Shop::open().await;
    served_again(&shop).await;
    revoke(&shop.mesh, "identity", &id(&shop.orders)).await;
    let refused = get(&shop).await;
    assert_eq!(refused.reason(), Some("revoked"), "{refused:?}");
    lift(&shop.mesh, "identity", &id(&shop.orders)).await;
    served_again(&shop).await;
}

#[tokio::test]
async fn requests_in_flight_end_at_both_proxies_when_the_caller_is_revoked() {
    let shop = Shop::open().await;
    let mut callee = shop.orders.proxy.calls();
    ended_when_revoked(&shop, &shop.checkout).await;
    next_with(&mut callee, Reason::Revoked).await;
}

#[tokio::test]
async fn requests_in_flight_end_at_both_proxies_when_the_server_is_revoked() {
    let shop = Shop::open().await;
    let mut caller = shop.checkout.proxy.calls();
    ended_when_revoked(&shop, &shop.orders).await;
    next_with(&mut caller, Reason::Revoked).await;
}

/// A stream of a body that never ends.
async fn ended_when_revoked(shop: &Shop, revoked: &Workload) {
    let mut caller = shop.checkout.caller().await;
    let stream = request(Method::GET, &format!("{ORDERS}/stream"));
    let mut body = caller.start(stream).await.into_body();
    let first = body.frame().await.expect("a first chunk");
    first.expect("it arrives");
    revoke(&shop.mesh, "identity", &id(revoked)).await;
    let ended = timeout(DEADLINE, async {
        while let Some(Ok(_)) = body.frame().await {}
    });
    ended.await.expect("the stream ends");
}

#[tokio::test]
async fn a_tcp_connection_is_cut_when_either_end_is_revoked() {
    let mesh = Mesh::start().await;
    let database = Database::open_in(&mesh, Application::tcp_echo().await).await;
    for revoked in [&database.cashier, &database.database] {
        let mut echo = Echo::connect(&database).await;
        echo.check().await;
        revoke(&mesh, "identity", &id(revoked)).await;
        let read = timeout(DEADLINE, echo.read()).await.expect("it is cut");
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
        lift(&mesh, "identity", &id(revoked)).await;
        eventually("connections are carried again", || async {
            let mut echo = Echo::connect(&database).await;
            echo.is_carried().await.then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn an_idle_connection_between_proxies_ends_when_its_peer_is_revoked() {
    let shop = Shop::open().await;
    let holder = Holder::of(&shop.mesh, "checkout").await;
    let mut tls = holder
        .connect(shop.orders.mesh_listener(), b"http/1.1")
        .await;
    revoke(&shop.mesh, "identity", &id(&shop.checkout)).await;
    let read = timeout(
        DEADLINE,
        tokio::io::AsyncReadExt::read(&mut tls, &mut [0; 1]),
    )
    .await;
    let read = read.expect("it ends");
    assert!(!matches!(read, Ok(1..)), "{read:?}");
}

#[tokio::test]
async fn a_certificate_that_is_revoked_is_replaced_and_the_next_one_is_good() {
    let shop = Shop::open().await;
    served_again(&shop).await;
    let serial = shop.checkout.serial();
    let revoked = revoke(&shop.mesh, "serial", &serial).await;
    assert_eq!(revoked["liveSvids"], 1);
    assert!(revoked["expiresAt"].is_string());
    served_again(&shop).await;
    assert_ne!(shop.checkout.serial(), serial);
}

#[tokio::test]
async fn what_a_revoked_authority_signed_is_refused_and_the_mesh_goes_on_with_another() {
    let shop = Shop::open().await;
    served_again(&shop).await;
    let holder = Holder::of(&shop.mesh, "checkout").await;
    let before = shop.checkout.serial();
    let key = intermediates(&shop.mesh).await.remove(0);
    revoke(&shop.mesh, "authority", &key).await;
    served_again(&shop).await;
    assert_ne!(shop.checkout.serial(), before);
    let mut others = intermediates(&shop.mesh).await;
    others.retain(|other| *other != key);
    assert_eq!(others.len(), 1);
    let verdict = holder.verdict(shop.orders.mesh_listener()).await;
    assert_ne!(verdict, Verdict::Admitted);
    let revision = shop.mesh.apply(mesh_tests::shop::CHECKOUT_MAY_CALL).await;
    assert!(!revision.is_empty(), "agents acknowledge as before");
}

/// The keys of the authorities that sign, or did and have not ended.
async fn intermediates(mesh: &Mesh) -> Vec<String> {
    let list = mesh.admin().get("/v1/authorities").await.expect("listed");
    let all = list["intermediates"].as_array().expect("a list").iter();
    let keys = all.map(|it| it["keyId"].as_str().expect("it has a key").to_owned());
    keys.collect()
}

#[tokio::test]
async fn a_ban_of_an_agent_ends_what_was_issued_through_it() {
    let shop = Shop::open().await;
    let mut echo_of_shop = shop.checkout.caller().await;
    let url = format!("{ORDERS}/v1/orders");
    assert_eq!(echo_of_shop.get(&url).await.status, StatusCode::OK);
    let agent = shop.checkout.agent.status().borrow().agent_id.clone();
    let agent = agent.expect("it has attested").to_string();
    let revoked = revoke(&shop.mesh, "agent", &agent).await;
    assert_eq!(revoked["liveSvids"], 2);
    eventually("its workload is refused", || async {
        let answer = shop.checkout.caller().await.get(&url).await;
        (answer.status != StatusCode::OK).then_some(())
    })
    .await;
    lift(&shop.mesh, "agent", &agent).await;
    served_again(&shop).await;
}

#[tokio::test]
async fn a_workload_whose_identity_is_revoked_is_told_so_by_the_workload_api() {
    let mesh = Mesh::start().await;
    let reader = mesh.workload("shop/reader").by_uid().start().await;
    let endpoint = Endpoint::Unix(reader.workload_api());
    let source = X509Source::start(endpoint, mesh.time());
    source.wait_ready().await.expect("an identity");
    revoke(&mesh, "identity", &id(&reader)).await;
    let mut status = source.subscribe();
    let ended = timeout(DEADLINE, status.wait_for(|it| it.current.is_none())).await;
    let ended = ended.expect("in time").expect("the source lives").clone();
    let said = ended.last_error.map(|error| format!("{error:?}"));
    assert!(said.is_some_and(|it| it.contains("revoked")));
}

#[tokio::test]
async fn a_proxy_that_starts_from_the_cache_keeps_the_denial() {
    let Shop {
        checkout,
        orders,
        application,
        mesh,
    } = Shop::open().await;
    let holder = Holder::of(&mesh, "checkout").await;
    revoke(&mesh, "identity", &id(&checkout)).await;
    let down = mesh.crash_ca();
    orders.proxy.kill().await;
    orders.agent.kill().await;
    let agent = Agent::start(orders.agent_config, down.time()).await;
    let agent = agent.expect("it starts");
    let feed = FeedSource::in_process(agent.feed_connector(&orders.name));
    let proxy = Proxy::start(orders.proxy_config, feed, down.time()).await;
    let proxy = proxy.expect("it starts");
    proxy.ready().await;
    let mut told = proxy.calls();
    let (_, listener) = proxy.mesh_addresses().into_iter().next().expect("bound");
    assert_ne!(holder.verdict(listener).await, Verdict::Admitted);
    let record = next_with(&mut told, Reason::Revoked).await;
    assert_eq!(&*record.source, id(&checkout));
    drop((application, checkout));
}

#[tokio::test]
async fn explain_says_that_the_caller_is_revoked() {
    let shop = Shop::open().await;
    let question = json!({"from": "shop/checkout", "to": "shop/orders:http", "path": "/v1/orders"});
    let before = shop.mesh.admin().post("/v1/explain", &question).await;
    assert_eq!(before.expect("explained")["verdict"], "allow");
    revoke(&shop.mesh, "identity", &id(&shop.checkout)).await;
    let after = shop.mesh.admin().post("/v1/explain", &question).await;
    let after = after.expect("explained");
    assert_eq!(
        (&after["verdict"], &after["reason"]),
        (&json!("deny"), &json!("revoked"))
    );
}
