//! What a change does to what is going on.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::time::Duration;

use countersign_proxy::{Config, Reason, Verdict};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::application::Application;
use crate::mesh::{DEADLINE, Mesh};
use crate::policies::{allowing, pair, pair_before};
use crate::wire::Wire;

#[tokio::test]
async fn a_change_takes_effect_on_a_kept_connection() {
    let (mesh, application, _orders, checkout) = pair().await;
    let mut wire = Wire::connect(checkout.outbound()).await;
    assert_eq!(wire.get("/v1/a").await.status, 200);

    let number = mesh.set_objects(&allowing("shop/nobody"));
    mesh.applied("shop/orders", number).await;
    let refused = wire.get("/v1/b").await;

    assert_eq!((refused.status, application.heads().len()), (403, 1));
    let number = mesh.set_objects(&allowing("shop/checkout"));
    mesh.applied("shop/orders", number).await;
    assert_eq!(wire.get("/v1/c").await.status, 200);
}

#[tokio::test]
async fn a_request_in_flight_is_cut_when_it_is_no_longer_permitted() {
    let objects = allowing("shop/checkout").replace("/v1/{rest=**}", "/{rest=**}");
    let (mesh, _application, mut orders, mut checkout) = pair().await;
    let number = mesh.set_objects(&objects);
    mesh.applied("shop/orders", number).await;
    let mut wire = Wire::connect(checkout.outbound()).await;
    wire.send("GET /stream HTTP/1.1\r\nhost: orders.shop.mesh.internal\r\n\r\n")
        .await;
    assert!(wire.head().await.starts_with("http/1.1 200"));
    wire.at_least(5).await;

    mesh.set_objects(&allowing("shop/nobody"));

    assert_eq!(wire.rest().await, b"first");
    for record in [orders.record().await, checkout.record().await] {
        assert_eq!(record.reason, Some(Reason::PolicyDenied));
        assert_eq!((record.verdict, record.bytes_out), (Verdict::Denied, 5));
    }
}

#[tokio::test]
async fn a_call_that_is_ended_before_its_answer_is_told_why_in_whole() {
    let (mesh, _application, _orders, _checkout) =
        pair_before(Application::answering("").await).await;
    let mut impatient = mesh.config("shop/checkout");
    impatient.limits.idle = Duration::from_millis(100).into();
    let checkout = mesh.sidecar_with(impatient).await;
    let answer = Wire::connect(checkout.outbound()).await.get("/v1/a").await;
    assert_eq!(answer.status, 504);
    assert!(answer.body.contains("deadline"), "{answer:?}");
}

#[tokio::test]
async fn a_change_takes_effect_on_the_connections_of_every_worker() {
    let mesh = Mesh::start(&allowing("shop/checkout"));
    let application = Application::http().await;
    mesh.serves("shop/orders", "shop/orders:http", application.address);
    let _orders = mesh.sidecar_with(with_workers(&mesh, "shop/orders")).await;
    let checkout = mesh
        .sidecar_with(with_workers(&mesh, "shop/checkout"))
        .await;
    let mut wires = Vec::new();
    for _ in 0..32 {
        wires.push(Wire::connect(checkout.outbound()).await);
    }
    let before = statuses(&mut wires).await;

    let number = mesh.set_objects(&allowing("shop/nobody"));
    mesh.applied("shop/orders", number).await;

    assert_eq!(
        (before, statuses(&mut wires).await),
        ([200].into(), [403].into())
    );
}

#[tokio::test]
async fn a_change_elsewhere_leaves_a_request_in_flight_alone() {
    let objects = allowing("shop/checkout").replace("/v1/{rest=**}", "/{rest=**}");
    let (mesh, _application, mut orders, checkout) = pair().await;
    let number = mesh.set_objects(&objects);
    mesh.applied("shop/orders", number).await;
    let mut wire = Wire::connect(checkout.outbound()).await;
    wire.send("GET /stream HTTP/1.1\r\nhost: orders.shop.mesh.internal\r\n\r\n")
        .await;
    wire.head().await;

    let number = mesh.set_objects(&objects.replace("writers", "others"));
    mesh.applied("shop/orders", number).await;

    assert!(orders.calls.try_recv().is_err());
    assert_eq!(
        Wire::connect(checkout.outbound())
            .await
            .get("/v1/a")
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn draining_withdraws_the_endpoint_finishes_and_then_forces() {
    let objects = allowing("shop/checkout").replace("/v1/{rest=**}", "/{rest=**}");
    let (mesh, _application, orders, checkout) = pair().await;
    let number = mesh.set_objects(&objects);
    mesh.applied("shop/orders", number).await;
    let mut wire = Wire::connect(checkout.outbound()).await;
    wire.send("GET /stream HTTP/1.1\r\nhost: orders.shop.mesh.internal\r\n\r\n")
        .await;
    wire.head().await;

    let drained = orders.proxy.drain(Duration::from_millis(500)).await;

    drained.unwrap();
    assert_eq!(wire.rest().await, b"first");
    let mut world = mesh.agent.world.subscribe();
    let withdrawn = world.wait_for(|world| !world.announced.contains_key("shop/orders"));
    timeout(DEADLINE, withdrawn).await.unwrap().unwrap();
}

#[tokio::test]
async fn draining_without_calls_ends_before_its_deadline() {
    let (_mesh, _application, orders, checkout) = pair().await;
    assert_eq!(
        Wire::connect(checkout.outbound())
            .await
            .get("/v1/a")
            .await
            .status,
        200
    );
    let hour = Duration::from_secs(3600);
    let drained = timeout(DEADLINE, orders.proxy.drain(hour)).await;
    drained.expect("ended in time").unwrap();
}

#[tokio::test]
async fn who_says_nothing_does_not_hold_up_a_drain() {
    let (_mesh, _application, orders, checkout) = pair().await;
    let _silent = TcpStream::connect(checkout.outbound()).await.unwrap();
    let _unproven = TcpStream::connect(orders.mesh("shop/orders:http")).await;
    let mut ungoing = Wire::connect(checkout.outbound()).await;
    // The preface, empty settings, and never another word (RFC 9113 section 3.4).
    ungoing
        .send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await;
    ungoing.at_least(1).await;
    let hour = Duration::from_secs(3600);
    let both = async { tokio::join!(checkout.proxy.drain(hour), orders.proxy.drain(hour)) };
    let (one, other) = timeout(DEADLINE, both).await.expect("ended in time");
    one.and(other).unwrap();
}

fn with_workers(mesh: &Mesh, workload: &str) -> Config {
    let mut config = mesh.config(workload);
    config.proxy.workers = NonZeroUsize::new(4).unwrap();
    config
}

async fn statuses<S: AsyncRead + AsyncWrite + Unpin>(wires: &mut [Wire<S>]) -> BTreeSet<u16> {
    let mut statuses = BTreeSet::new();
    for wire in wires {
        statuses.insert(wire.get("/v1/a").await.status);
    }
    statuses
}
