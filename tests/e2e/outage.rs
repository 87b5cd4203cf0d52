//! What goes on while a part is missing.

use http::StatusCode;
use mesh_tests::caller::Caller;
use mesh_tests::shop::{NOBODY_MAY_CALL, ORDERS, Shop};
use mesh_tests::waiting::eventually;
use proxy::{FeedSource, Proxy};
use workload_agent::Agent;

#[tokio::test]
async fn calls_go_on_while_the_ca_is_down() {
    let shop = Shop::open().await;
    let mut caller = shop.checkout.caller().await;
    let before = caller.get(&format!("{ORDERS}/v1/orders")).await;
    let _down = shop.mesh.crash_ca();
    let during = caller.get(&format!("{ORDERS}/v1/orders")).await;
    assert_eq!(
        (before.status, during.status),
        (StatusCode::OK, StatusCode::OK)
    );
}

#[tokio::test]
async fn policy_reaches_agents_again_after_the_ca_restarts() {
    let Shop {
        checkout,
        orders,
        application,
        mesh,
    } = Shop::open().await;
    let mesh = mesh.crash_ca().restart().await;
    let mut caller = checkout.caller().await;
    let revision = mesh
        .try_apply(NOBODY_MAY_CALL)
        .await
        .expect("the CA accepts it");
    let denied = || async {
        let known = orders.agent.status().borrow().acknowledged.as_ref() == Some(&revision);
        known.then_some(())
    };
    eventually("the agent acknowledges the new revision", denied).await;
    let answer = caller.get(&format!("{ORDERS}/v1/orders")).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    drop(application);
}

#[tokio::test]
async fn an_agent_that_restarts_without_a_ca_serves_from_its_cache() {
    let Shop {
        checkout,
        orders,
        application,
        mesh,
    } = Shop::open().await;
    checkout
        .caller()
        .await
        .get(&format!("{ORDERS}/v1/orders"))
        .await;
    let serial = serial_of(&checkout);
    let down = mesh.crash_ca();
    checkout.proxy.kill();
    checkout.agent.kill().await;
    let agent = Agent::start(checkout.agent_config, down.time())
        .await
        .expect("it starts");
    let feed = agent.feed_connection(&checkout.name).expect("a feed");
    let feed = FeedSource::Connected(feed);
    let proxy = Proxy::start(checkout.proxy_config, feed, down.time())
        .await
        .expect("it starts");
    proxy.ready().await;
    let outbound = proxy.outbound_address().expect("configured");
    let answer = Caller::connect(outbound)
        .await
        .get(&format!("{ORDERS}/v1/orders"))
        .await;
    let status = agent.status().borrow().clone();
    let held = status
        .identity(&checkout.spiffe_id)
        .map(|held| held.serial.to_string());
    assert_eq!((answer.status, held), (StatusCode::OK, Some(serial)));
    drop((application, orders));
}

fn serial_of(workload: &mesh_tests::workload::Workload) -> String {
    let status = workload.agent.status().borrow().clone();
    let held = status
        .identity(&workload.spiffe_id)
        .expect("it holds its identity");
    held.serial.to_string()
}
