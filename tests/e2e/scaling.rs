//! Hosts come and go while calls go on.

use http::StatusCode;
use mesh_tests::application::Application;
use mesh_tests::caller::Caller;
use mesh_tests::fleet::Fleet;
use mesh_tests::shop::ORDERS;
use mesh_tests::waiting::eventually;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn scaling_out_and_in_under_load_loses_no_call() {
    let mut fleet = Fleet::open("", vec![Application::http().await]).await;
    let end = CancellationToken::new();
    let mut callers = JoinSet::new();
    for _ in 0..4 {
        let (h1, h2) = (
            fleet.checkout.caller().await,
            fleet.checkout.h2_caller().await,
        );
        callers.spawn(calls_until(h1, end.clone()));
        callers.spawn(calls_until(h2, end.clone()));
    }
    for number in 0..3 {
        let new = Application::http().await;
        let host = fleet
            .mesh
            .workload("shop/orders")
            .on(&format!("new-{number}"));
        let host = host.serving("http", new.address()).start().await;
        eventually("the new host is called", || async {
            (new.requests() > 20).then_some(())
        })
        .await;
        fleet.hosts.remove(0).drain().await;
        fleet.hosts.push(host);
        fleet.applications.push(new);
    }
    end.cancel();
    while let Some(caller) = callers.join_next().await {
        caller.expect("no call failed");
    }
}

async fn calls_until(mut caller: Caller, end: CancellationToken) {
    while !end.is_cancelled() {
        let answer = caller.get(&format!("{ORDERS}/v1/orders")).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    }
}
