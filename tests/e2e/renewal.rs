//! Certificates are renewed under load, and nobody notices.

use std::time::Duration;

use http::StatusCode;
use mesh_tests::shop::{ORDERS, Shop};
use mesh_tests::waiting::DEADLINE;
use mesh_tests::workload::Workload;
use tokio::time::timeout;

#[tokio::test]
async fn calls_do_not_fail_while_certificates_are_renewed() {
    let shop = Shop::open_with_leaves_of(Duration::from_secs(3)).await;
    let mut caller = shop.checkout.caller().await;
    let renewed = async {
        renewals(&shop.orders, 3).await;
        renewals(&shop.checkout, 3).await;
    };
    let mut renewed = std::pin::pin!(timeout(DEADLINE, renewed));
    loop {
        tokio::select! {
            in_time = &mut renewed => break in_time.expect("three renewals each"),
            answer = caller.get("http://orders.shop.mesh.internal/v1/orders") => {
                assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_renewed_certificate_has_a_new_serial_and_the_old_identity() {
    let shop = Shop::open_with_leaves_of(Duration::from_secs(3)).await;
    let before = presented(&shop).await;
    timeout(DEADLINE, renewals(&shop.checkout, 1))
        .await
        .expect("a renewal");
    let status = shop.checkout.agent.status().borrow().clone();
    let held = status
        .identity(&shop.checkout.spiffe_id)
        .expect("it holds its identity")
        .clone();
    assert_ne!(held.serial.to_string(), before);
}

async fn presented(shop: &Shop) -> String {
    let answer = shop
        .checkout
        .caller()
        .await
        .get(&format!("{ORDERS}/v1/orders"))
        .await;
    assert_eq!(answer.status, StatusCode::OK);
    let status = shop.checkout.agent.status().borrow().clone();
    let held = status
        .identity(&shop.checkout.spiffe_id)
        .expect("it holds its identity");
    held.serial.to_string()
}

async fn renewals(workload: &Workload, count: u64) {
    let id = &workload.spiffe_id;
    let enough = |status: &workload_agent::AgentStatus| {
        status
            .identity(id)
            .is_some_and(|held| held.renewals >= count)
    };
    workload
        .agent
        .status()
        .wait_for(enough)
        .await
        .expect("the agent lives");
}
