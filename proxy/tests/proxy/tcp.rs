//! TCP services: judged for each connection, cut when no longer permitted.

use countersign_proxy::{Reason, Verdict};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::mesh::{DEADLINE, Mesh, Sidecar};

pub(crate) fn database(from: &str) -> String {
    format!(
        "
apiVersion: countersign.dev/v1
kind: Service
metadata: {{namespace: data, name: db}}
spec:
  workloads: [data/db]
  ports: [{{name: pg, port: 5432, protocol: tcp}}]
---
apiVersion: countersign.dev/v1
kind: Policy
metadata: {{namespace: data, name: db}}
spec:
  targets: [{{service: db, port: pg}}]
  allow: [{{id: clients, from: [{{workload: {from}}}]}}]
"
    )
}

pub(crate) async fn echo() -> (std::net::SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            connections.spawn(async move {
                let (mut read, mut write) = stream.split();
                // The proxy may cut it.
                drop(tokio::io::copy(&mut read, &mut write).await);
            });
        }
    });
    (address, tasks)
}

pub(crate) async fn pair(mesh: &Mesh, application: std::net::SocketAddr) -> (Sidecar, Sidecar) {
    mesh.serves("data/db", "data/db:pg", application);
    let db = mesh.sidecar("data/db").await;
    let orders = mesh.sidecar_reaching("shop/orders", "data/db:pg").await;
    (db, orders)
}

async fn connect(orders: &Sidecar) -> TcpStream {
    let address = *orders.proxy.reach_addresses().values().next().unwrap();
    TcpStream::connect(address).await.unwrap()
}

async fn ended(stream: &mut TcpStream) {
    let mut buffer = [0; 16];
    let read = timeout(DEADLINE, stream.read(&mut buffer)).await;
    assert!(matches!(read.expect("an end in time"), Ok(0) | Err(_)));
}

#[tokio::test]
async fn a_connection_that_no_rule_permits_is_closed() {
    let (application, _tasks) = echo().await;
    let mesh = Mesh::start(&database("shop/checkout"));
    let (mut db, orders) = pair(&mesh, application).await;

    ended(&mut connect(&orders).await).await;

    let record = db.record().await;
    assert_eq!(
        (record.verdict, record.reason),
        (Verdict::Denied, Some(Reason::PolicyDenied))
    );
}

#[tokio::test]
async fn a_live_connection_is_cut_when_it_is_no_longer_permitted() {
    let (application, _tasks) = echo().await;
    let mesh = Mesh::start(&database("shop/orders"));
    let (mut db, orders) = pair(&mesh, application).await;
    let mut stream = connect(&orders).await;
    stream.write_all(b"ping").await.unwrap();
    let mut pong = [0; 4];
    timeout(DEADLINE, stream.read_exact(&mut pong))
        .await
        .unwrap()
        .unwrap();

    mesh.set_objects(&database("shop/nobody"));

    ended(&mut stream).await;
    let record = db.record().await;
    assert_eq!(record.reason, Some(Reason::PolicyDenied));
    assert_eq!((&pong, record.bytes_in, record.bytes_out), (b"ping", 4, 4));
}

#[tokio::test]
async fn half_closed_connections_carry_the_rest() {
    let (application, _tasks) = echo().await;
    let mesh = Mesh::start(&database("shop/orders"));
    let (_db, orders) = pair(&mesh, application).await;
    let mut stream = connect(&orders).await;
    // The guard asks the kernel about an established socket, so the caller must be one until then.
    stream.write_all(b"a").await.unwrap();
    assert_eq!(
        timeout(DEADLINE, stream.read_u8()).await.unwrap().unwrap(),
        b'a'
    );
    let sent = vec![7; 1 << 20];
    let (mut read, mut write) = stream.split();
    let send = async {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let mut received = Vec::new();

    let both = async { tokio::join!(send, read.read_to_end(&mut received)) };
    let ((), count) = timeout(DEADLINE, both).await.unwrap();

    assert_eq!(count.unwrap(), sent.len());
    assert!(received == sent);
}
