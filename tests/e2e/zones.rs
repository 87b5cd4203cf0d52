//! Calls stay in their zone while enough of it is left, and find others when it is gone.

use mesh_tests::application::Application;
use mesh_tests::fleet::{Fleet, FleetBuilder, in_zone};

async fn near_and_far(fields: &str) -> FleetBuilder {
    Fleet::with(fields)
        .called_from("a")
        .host_in("a", Application::http().await)
        .host_in("b", Application::http().await)
}

const ROUND_ROBIN: &str = "balance: {algorithm: round-robin}";

#[tokio::test]
async fn calls_stay_in_their_zone() {
    let fleet = near_and_far(ROUND_ROBIN).await.open().await;
    fleet.only_called(0..1).await;
    assert_eq!(fleet.spread(20).await, [20, 0]);
}

#[tokio::test]
async fn who_has_no_zone_calls_everywhere() {
    let fleet = Fleet::with(ROUND_ROBIN)
        .host_in("a", Application::http().await)
        .host_in("b", Application::http().await);
    fleet.open().await.only_called(0..2).await;
}

#[tokio::test]
async fn calls_leave_a_zone_that_drains_without_a_failure_and_come_back() {
    let mut fleet = near_and_far(ROUND_ROBIN).await.open().await;
    fleet.only_called(0..1).await;
    let near = fleet.hosts.remove(0);
    // Each call must succeed.
    tokio::join!(near.drain(), fleet.only_called(1..2));
    let host = fleet.mesh.workload("shop/orders").on("host-2");
    let address = fleet.applications[0].address();
    let back = host
        .meshed(in_zone("a"))
        .serving("http", address)
        .start()
        .await;
    fleet.only_called(0..1).await;
    drop(back);
}

#[tokio::test]
async fn when_half_of_a_zone_is_ill_some_calls_leave_it() {
    let checked = "balance: {algorithm: round-robin}, health: {path: /healthz, every: 100ms}";
    let fleet = Fleet::with(checked)
        .called_from("a")
        .host_in("a", Application::http().await)
        .host_in("a", Application::http().await)
        .host_in("b", Application::http().await)
        .open()
        .await;
    fleet.only_called(0..2).await;
    fleet.applications[0].is_ill(true);
    fleet.only_called(1..3).await;
}
