//! Endpoints with names: where DNS says they are, and nowhere else.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use http::StatusCode;
use mesh_tests::application::Application;
use mesh_tests::fleet::Fleet;
use mesh_tests::nameserver::Nameserver;
use mesh_tests::waiting::eventually;
use proxy::config::{Dns, Mesh};
use runtime::Span;
use tokio::net::TcpListener;

const FIRST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const SECOND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// Two hosts that announce one name and one port, and a caller that asks for it.
async fn named(names: Dns) -> Fleet {
    let port = free_port().await;
    let host = |address: Ipv4Addr| Mesh {
        address: IpAddr::V4(address),
        advertise: Some("orders.test".to_owned()),
        ports: [("shop/orders:http".parse().expect("a port"), port)].into(),
        ..Mesh::default()
    };
    Fleet::with("balance: {algorithm: round-robin}")
        .naming(names)
        .host(Application::http().await, host(FIRST))
        .host(Application::http().await, host(SECOND))
        .open()
        .await
}

/// Of both hosts.
async fn free_port() -> u16 {
    eventually("a port is free on both", || async {
        let one = TcpListener::bind((FIRST, 0)).await.ok()?;
        let port = one.local_addr().ok()?.port();
        TcpListener::bind((SECOND, port)).await.ok()?;
        Some(port)
    })
    .await
}

#[tokio::test]
async fn calls_follow_a_name_and_go_to_all_of_its_addresses() {
    let nameserver = Nameserver::saying(&[FIRST]).await;
    let fleet = named(nameserver.config()).await;
    assert_eq!(fleet.spread(20).await, [20, 0]);
    nameserver.say(&[SECOND]);
    fleet.only_called(1..2).await;
    nameserver.say(&[FIRST, SECOND]);
    fleet.only_called(0..2).await;
}

#[tokio::test]
async fn while_nobody_answers_calls_go_where_they_went() {
    let nameserver = Nameserver::saying(&[FIRST]).await;
    let fleet = named(nameserver.config()).await;
    assert_eq!(fleet.get().await.status, StatusCode::OK);
    nameserver.fail();
    let asked = nameserver.asked();
    eventually("it is asked again in vain", || async {
        (nameserver.asked() >= asked + 4).then_some(())
    })
    .await;
    assert_eq!(fleet.spread(20).await, [20, 0]);
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_an_endpoint_that_is_not_there() {
    let nameserver = Nameserver::saying(&[]).await;
    let fleet = named(nameserver.config()).await;
    let answer = fleet.get().await;
    let told = (answer.status, answer.reason());
    assert_eq!(
        told,
        (StatusCode::SERVICE_UNAVAILABLE, Some("no-endpoints"))
    );
    nameserver.say(&[FIRST]);
    eventually("it is found when it is there", || async {
        (fleet.get().await.status == StatusCode::OK).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_call_asks_nobody_for_a_name() {
    let nameserver = Nameserver::saying(&[FIRST]).await;
    let names = Dns {
        shortest_ttl: Span::from(Duration::from_secs(3600)),
        ..nameserver.config()
    };
    let fleet = named(names).await;
    assert_eq!(fleet.spread(1).await, [1, 0]);
    // For each kind of address.
    eventually("all is asked", || async {
        (nameserver.asked() == 2).then_some(())
    })
    .await;
    assert_eq!(fleet.spread(100).await, [100, 0]);
    assert_eq!(nameserver.asked(), 2);
}
