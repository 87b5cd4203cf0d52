//! What goes on while a part is missing.

use std::time::Duration;

use http::{Method, StatusCode};
use http_body_util::BodyExt;
use mesh_tests::application::Application;
use mesh_tests::caller::{Caller, request};
use mesh_tests::database::{Database, Echo};
use mesh_tests::mesh::Mesh;
use mesh_tests::shop::{CHECKOUT_MAY_CALL, NOBODY_MAY_CALL, ORDERS, Shop};
use mesh_tests::waiting::{DEADLINE, eventually};
use proxy::{FeedSource, Proxy};
use tokio::time::timeout;
use workload_agent::Agent;

/// Of a leaf, where a test waits for its end.
const LIFE: Duration = Duration::from_secs(3);

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
    let serial = checkout.serial();
    // What is acknowledged is in the cache, with all that came before.
    mesh.apply(&CHECKOUT_MAY_CALL.replace("id: checkout", "id: cached"))
        .await;
    let down = mesh.crash_ca();
    checkout.proxy.kill().await;
    checkout.agent.kill().await;
    let agent = Agent::start(checkout.agent_config, down.time())
        .await
        .expect("it starts");
    let feed = FeedSource::in_process(agent.feed_connector(&checkout.name));
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

#[tokio::test]
async fn no_call_fails_while_the_ca_restarts() {
    let Shop {
        checkout,
        orders,
        application,
        mesh,
    } = Shop::open().await;
    let mut caller = checkout.caller().await;
    caller.get(&format!("{ORDERS}/v1/orders")).await;
    let restart = async {
        let down = mesh.crash_ca();
        connected(&checkout.agent, false).await;
        connected(&orders.agent, false).await;
        let mesh = down.restart().await;
        connected(&checkout.agent, true).await;
        connected(&orders.agent, true).await;
        mesh
    };
    let mut restart = std::pin::pin!(restart);
    let _mesh = loop {
        tokio::select! {
            mesh = &mut restart => break mesh,
            answer = caller.get("http://orders.shop.mesh.internal/v1/orders") => {
                assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
            }
        }
    };
    assert!(application.requests() > 1, "nobody called meanwhile");
}

#[tokio::test]
async fn a_workload_that_comes_after_the_restart_finds_the_endpoints() {
    let shop = Shop::open().await;
    let (orders, checkout) = (shop.orders, shop.checkout);
    let down = shop.mesh.crash_ca();
    connected(&orders.agent, false).await;
    let mesh = down.restart().await;
    checkout.drain().await;
    let second = mesh.workload("shop/checkout").on("second").start().await;
    let mut caller = second.caller().await;
    let answer = caller.get(&format!("{ORDERS}/v1/orders")).await;
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn an_agent_whose_certificate_expired_while_it_was_down_comes_back() {
    let mesh = Mesh::start().await;
    let orders = mesh.workload("shop/orders").start().await;
    let before = (
        orders.agent.status().borrow().agent_id.clone(),
        orders.serial(),
    );
    orders.proxy.kill().await;
    orders.agent.kill().await;
    mesh.clock.advance(Duration::from_secs(2 * 60 * 60));
    let agent = Agent::start(orders.agent_config, mesh.time()).await;
    let agent = agent.expect("it starts");
    let after = eventually("it holds a live certificate", || async {
        let status = agent.status().borrow().clone();
        let held = status.identity(&orders.spiffe_id)?;
        Some((status.agent_id.clone(), held.serial.to_string()))
    });
    let after = after.await;
    assert_eq!(before.0, after.0);
    assert_ne!(before.1, after.1);
}

#[tokio::test]
async fn what_is_in_flight_ends_when_the_ca_was_silent_for_longer_than_a_leaf_lives() {
    let shop = Shop::open_with_leaves_of(LIFE).await;
    let database = Database::open_in(&shop.mesh, Application::tcp_echo().await).await;
    let mut caller = shop.checkout.caller().await;
    let stream = request(Method::GET, &format!("{ORDERS}/stream"));
    let mut body = caller.start(stream).await.into_body();
    let mut echo = Echo::connect(&database).await;
    echo.check().await;
    let _down = shop.mesh.crash_ca();
    let stream_ended = async { while let Some(Ok(_)) = body.frame().await {} };
    let both = async { tokio::join!(stream_ended, echo.read()) };
    let ((), read) = timeout(DEADLINE, both).await.expect("both end");
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
}

#[tokio::test]
async fn without_a_ca_calls_pass_until_the_certificates_end_and_not_longer() {
    let shop = Shop::open_with_leaves_of(LIFE).await;
    let url = format!("{ORDERS}/v1/orders");
    let before = shop.checkout.caller().await.get(&url).await;
    assert_eq!(before.status, StatusCode::OK);
    let down = shop.mesh.crash_ca();
    let expiry = shop.checkout.not_after().max(shop.orders.not_after());
    down.time().sleep_until(expiry).await;
    let after = shop.checkout.caller().await.get(&url).await;
    assert_ne!(after.status, StatusCode::OK);
    assert!(after.reason().is_some(), "{after:?}");
}

async fn connected(agent: &Agent, expected: bool) {
    let mut status = agent.status();
    let as_expected = status.wait_for(|status| status.connected == expected);
    let as_expected = timeout(DEADLINE, as_expected).await.expect("in time");
    drop(as_expected.expect("the agent lives"));
}
