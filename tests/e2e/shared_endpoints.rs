//! Callers at one replica reach what is announced to another: real CA processes on one real
//! PostgreSQL.

use http::StatusCode;
use mesh_tests::application::Application;
use mesh_tests::caller::Caller;
use mesh_tests::operator::CaProcess;
use mesh_tests::replicas::Replicas;
use mesh_tests::shop::{CHECKOUT_MAY_CALL, ORDERS, SERVICE};
use mesh_tests::waiting::eventually;
use mesh_tests::workload::Workload;
use postgres_cluster::Cluster;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn a_caller_at_one_replica_reaches_what_another_was_told_of_and_goes_on_when_that_is_killed()
{
    let Some((_mesh, mut replicas)) = Replicas::start(2).await else {
        return;
    };
    let application = Application::http().await;
    let orders = serve(&replicas[1], "b", &application).await;
    let checkout = replicas[0].workload("shop/checkout").start().await;
    calls_reach(&checkout, &application).await;
    let (mut calls, end) = calling(&checkout).await;
    let directory = replicas.remove(1).crash().await;
    connected_to(&replicas[0], &orders, "ca-1").await;
    let more = application.requests() + 200;
    eventually("calls go on", || async {
        (application.requests() > more).then_some(())
    })
    .await;
    end.cancel();
    while let Some(caller) = calls.join_next().await {
        caller.expect("no call failed");
    }
    drop(directory);
}

#[tokio::test]
async fn hosts_that_come_and_go_at_another_replica_lose_no_call() {
    let Some((_mesh, replicas)) = Replicas::start(2).await else {
        return;
    };
    let mut applications = vec![Application::http().await];
    let mut host = serve(&replicas[1], "old", &applications[0]).await;
    let checkout = replicas[0].workload("shop/checkout").start().await;
    calls_reach(&checkout, &applications[0]).await;
    let (mut calls, end) = calling(&checkout).await;
    for number in 0..2 {
        let application = Application::http().await;
        let next = replicas[1].workload("shop/orders");
        let next = next.on(&format!("new-{number}"));
        let next = next.serving("http", application.address()).start().await;
        eventually("the new host is called", || async {
            (application.requests() > 20).then_some(())
        })
        .await;
        host.drain().await;
        applications.push(application);
        host = next;
    }
    end.cancel();
    while let Some(caller) = calls.join_next().await {
        caller.expect("no call failed");
    }
}

#[tokio::test]
async fn without_postgresql_callers_of_a_replica_are_told_what_its_own_agents_announce() {
    let Some(mut cluster) = Cluster::start(5432, &[], &[]) else {
        return;
    };
    let (_mesh, replicas) = Replicas::start_on(cluster.database(), 2, "").await;
    let (first, second) = (Application::http().await, Application::http().await);
    let _elsewhere = serve(&replicas[1], "b", &first).await;
    let here = replicas[0].workload("shop/orders").on("a");
    let here = here.serving("http", second.address());
    let mut here = here.start().await;
    let checkout = replicas[0].workload("shop/checkout").start().await;
    calls_reach(&checkout, &first).await;
    calls_reach(&checkout, &second).await;
    cluster.halt();
    let before = here.mesh_listener();
    here.replace_proxy().await;
    assert_ne!(here.mesh_listener(), before);
    calls_reach(&checkout, &first).await;
    calls_reach(&checkout, &second).await;
}

#[tokio::test]
async fn an_agent_is_shown_as_connected_by_every_replica() {
    let Some((_mesh, replicas)) = Replicas::start(2).await else {
        return;
    };
    let orders = serve(&replicas[1], "b", &Application::http().await).await;
    connected_to(&replicas[0], &orders, "ca-2").await;
    orders.drain().await;
    eventually("it is shown as gone", || async {
        let agent = agent(&replicas[0], "shop-orders-b").await;
        (agent["connected"] == false).then_some(())
    })
    .await;
}

/// `shop/orders` on a host whose agent is connected to the replica.
async fn serve(replica: &CaProcess, host: &str, application: &Application) -> Workload {
    let orders = replica.workload("shop/orders").on(host);
    let orders = orders.serving("http", application.address());
    orders.register().await;
    for object in [SERVICE, CHECKOUT_MAY_CALL] {
        replica.try_apply(object).await.expect("it is valid");
    }
    orders.start().await
}

async fn calls_reach(checkout: &Workload, application: &Application) {
    let before = application.requests();
    eventually("calls reach the application", || async {
        let mut caller = checkout.caller().await;
        caller.get(&format!("{ORDERS}/v1/orders")).await;
        (application.requests() > before).then_some(())
    })
    .await;
}

/// Calls without a pause, each of which must succeed.
async fn calling(checkout: &Workload) -> (JoinSet<()>, CancellationToken) {
    let (end, mut calls) = (CancellationToken::new(), JoinSet::new());
    for caller in [checkout.caller().await, checkout.h2_caller().await] {
        calls.spawn(calls_until(caller, end.clone()));
    }
    (calls, end)
}

async fn calls_until(mut caller: Caller, end: CancellationToken) {
    while !end.is_cancelled() {
        let answer = caller.get(&format!("{ORDERS}/v1/orders")).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    }
}

/// Waits until the replica shows that the workload's agent is connected to the one of this name.
async fn connected_to(replica: &CaProcess, workload: &Workload, name: &str) {
    let host = workload.agent_config.state_dir.parent();
    let host = host.and_then(|it| it.file_name()).expect("a directory");
    let host = host.to_str().expect("text");
    eventually("the agent is connected", || async {
        let agent = agent(replica, host).await;
        let elsewhere = agent["connectedTo"].as_str();
        let own = agent["connected"] == true && elsewhere.is_none();
        let there = elsewhere.map_or(own && name == "ca-1", |it| it == name);
        there.then_some(())
    })
    .await;
}

async fn agent(replica: &CaProcess, host: &str) -> serde_json::Value {
    let path = format!("/v1/agents/join-token/{host}");
    replica.admin().get(&path).await.expect("it is known")
}
