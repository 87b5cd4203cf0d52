//! Certificates are renewed under load, and nobody notices.

use std::time::Duration;

use http::{Method, StatusCode};
use http_body_util::BodyExt;
use mesh_tests::application::Application;
use mesh_tests::caller::{Caller, request};
use mesh_tests::database::{Database, Echo};
use mesh_tests::shop::{ORDERS, Shop};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Life of a leaf. Three renewals of both sides are longer than any first leaf lives.
const LIFE: Duration = Duration::from_secs(3);

#[tokio::test]
async fn calls_do_not_fail_while_certificates_are_renewed() {
    let shop = Shop::open_with_leaves_of(LIFE).await;
    let enough = CancellationToken::new();
    let mut callers = JoinSet::new();
    let h2 = shop.checkout.h2_caller().await;
    for _ in 0..4 {
        callers.spawn(calls(shop.checkout.caller().await, enough.clone()));
        callers.spawn(calls(h2.another(), enough.clone()));
    }
    renewed(&shop).await;
    enough.cancel();
    while let Some(made) = callers.join_next().await {
        assert!(made.expect("no call failed") > 0);
    }
}

#[tokio::test]
async fn tcp_goes_on_while_certificates_are_renewed() {
    let shop = Shop::open_with_leaves_of(LIFE).await;
    let database = Database::open_in(&shop.mesh, Application::tcp_echo().await).await;
    let mut old = Echo::connect(&database).await;
    old.check().await;
    let renewals = async {
        database.database.renewals(3).await;
        database.cashier.renewals(3).await;
    };
    tokio::select! {
        () = renewals => {}
        never = async { loop { Echo::connect(&database).await.check().await } } => never,
    }
    old.check().await;
}

#[tokio::test]
async fn a_stream_in_flight_outlives_the_certificates_that_it_began_under() {
    let shop = Shop::open_with_leaves_of(LIFE).await;
    let mut streams = Vec::new();
    for mut caller in [
        shop.checkout.caller().await,
        shop.checkout.h2_caller().await,
    ] {
        let stream = request(Method::GET, &format!("{ORDERS}/stream"));
        let body = caller.start(stream).await.into_body();
        streams.push((caller, body));
    }
    renewed(&shop).await;
    // What was sent meanwhile fits into no buffer on the way, so the last of these is new.
    for (_caller, body) in &mut streams {
        for _ in 0..3 {
            let frame = body.frame().await.expect("the stream goes on");
            frame.expect("it is not reset");
        }
    }
}

#[tokio::test]
async fn a_renewed_certificate_has_a_new_serial_and_the_old_identity() {
    let shop = Shop::open_with_leaves_of(LIFE).await;
    let before = shop.checkout.serial();
    shop.checkout.renewals(1).await;
    assert_ne!(shop.checkout.serial(), before);
}

async fn renewed(shop: &Shop) {
    shop.orders.renewals(3).await;
    shop.checkout.renewals(3).await;
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
