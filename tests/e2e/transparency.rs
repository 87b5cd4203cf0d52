//! The transparency log of a real CA: it survives what kills the CA, its auditor finds out what
//! cannot be undone, and a certificate that was never recorded is an alarm.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use identity::SpiffeId;
use mesh_tests::operator::CaProcess;
use mesh_tests::processes::binary_path;
use mesh_tests::shop::Shop;
use mesh_tests::stranger::{Joined, Line, join, key_and_csr};
use mesh_tests::thief::Thief;
use mesh_tests::waiting::eventually;
use mtls::Expected;
use runtime::Clock;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const ORDERS: &str = "spiffe://mesh.test/ns/shop/sa/orders";

/// `countersign log verify`, with a memory of its own in `directory`.
fn verify(directory: &Path) -> Output {
    Command::new(binary_path("countersign"))
        .args(["log", "verify", "-o", "json", "--state"])
        .arg(directory.join("auditor/log.json"))
        .arg("--admin")
        .arg(directory.join("admin.toml"))
        .output()
        .expect("the operator's tool")
}

#[track_caller]
fn verdict(output: &Output) -> Value {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[track_caller]
fn refused(output: &Output, word: &str) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && errors.contains(word),
        "{errors}"
    );
}

async fn size(ca: &CaProcess) -> Option<u64> {
    ca.admin().get("/v1/log").await.ok()?["size"].as_u64()
}

/// The certificate that was recorded last is a leaf.
async fn newest_is_logged(ca: &CaProcess) {
    let newest = ca.admin().get("/v1/svids?limit=1").await.expect("records");
    let newest = newest["items"][0]["serial"].as_str().expect("a number");
    let path = format!("/v1/log/inclusion?serial={newest}");
    let logged = || async { ca.admin().get(&path).await.ok() };
    eventually("the last record is a leaf", logged).await;
}

/// Asks for certificates until the CA is gone.
async fn keep_issuing(line: Line) {
    while line.issue(ORDERS, key_and_csr().1).await.is_ok() {}
}

async fn joined(ca: &CaProcess) -> Joined {
    ca.register("shop", "orders").await;
    let token = ca.join_token("web-7", &["shop/orders"]).await;
    join(&token, &Clock::system()).await
}

#[tokio::test]
async fn a_store_that_was_put_back_to_yesterday_is_a_rollback_and_then_a_fork() {
    let ca = CaProcess::start().await;
    newest_is_logged(&ca).await;
    let config = ca.config().to_owned();
    let directory = ca.crash().await;
    let database = directory.path().join("data/ca.sqlite");
    let yesterday = copies(&database, "", ".yesterday");
    let ca = CaProcess::restart_in(directory, &config).await;
    newest_is_logged(&ca).await;
    let seen = verdict(&verify(ca.directory()))["size"]
        .as_u64()
        .expect("a number");
    let directory = ca.crash().await;
    for (now, copy) in yesterday {
        std::fs::copy(copy, now).expect("a back-up");
    }
    let ca = CaProcess::restart_in(directory, &config).await;
    let first = verify(ca.directory());
    let errors = String::from_utf8_lossy(&first.stderr).into_owned();
    assert!(
        errors.contains("ROLLBACK") || errors.contains("FORK"),
        "{errors}"
    );
    let agent = joined(&ca).await;
    let line = Line::mutual(ca.agents_address(), &agent, &Clock::system()).await;
    for _ in 0..seen {
        line.issue(ORDERS, key_and_csr().1).await.expect("issued");
    }
    let grown = || async { size(&ca).await.filter(|size| *size > seen) };
    eventually("as many leaves as were seen", grown).await;
    refused(&verify(ca.directory()), "FORK");
}

/// The database and what belongs to it, beside itself: where each is, and where its copy.
fn copies(database: &Path, from: &str, to: &str) -> Vec<(PathBuf, PathBuf)> {
    let named =
        |suffix: &str, kind: &str| PathBuf::from(format!("{}{suffix}{kind}", database.display()));
    let pairs = ["", "-wal", "-shm"].map(|kind| (named(from, kind), named(to, kind)));
    let there = pairs.into_iter().filter(|(now, _)| now.exists());
    there
        .inspect(|(now, copy)| {
            let copied = std::fs::copy(now, copy);
            copied.expect("a copy");
        })
        .collect()
}

#[tokio::test]
async fn the_log_is_whole_whenever_the_ca_is_killed() {
    let mut ca = CaProcess::start().await;
    let agent = joined(&ca).await;
    for _ in 0..3 {
        let before = eventually("a checkpoint", || size(&ca)).await;
        let mut lines = JoinSet::new();
        for _ in 0..2 {
            let line = Line::mutual(ca.agents_address(), &agent, &Clock::system()).await;
            lines.spawn(keep_issuing(line));
        }
        let grown = || async { size(&ca).await.filter(|size| *size > before) };
        eventually("more leaves", grown).await;
        ca = ca.crash_and_restart().await;
        while lines.join_next().await.is_some() {}
        verdict(&verify(ca.directory()));
    }
    newest_is_logged(&ca).await;
}

#[tokio::test]
async fn a_certificate_that_the_ca_never_recorded_raises_the_alarm() {
    let shop = Shop::open().await;
    let mesh = &shop.mesh;
    let data = mesh.directory();
    let (database, kek) = (find(data, "ca.sqlite"), find(data, "kek"));
    let trust_domain = mesh.ca.trust_domain().clone();
    let thief = Thief::steal(&database, &kek, trust_domain, mesh.time()).await;
    let id: SpiffeId = "spiffe://mesh.test/ns/shop/sa/checkout"
        .parse()
        .expect("an ID");
    let svid = thief.sign(&id, &mesh.ca.bundle().into());
    let serial = svid.svid().serial().to_string();
    call(&shop, svid).await;
    let alarm = || async {
        let list = mesh.admin().get("/v1/log/unlogged").await.ok()?;
        list["items"].as_array()?.first().cloned()
    };
    let alarm = eventually("the alarm", alarm).await;
    assert_eq!(alarm["serial"], serial.as_str());
    assert_eq!(alarm["spiffeId"], id.as_str());
    assert_eq!(alarm["workload"], "shop/orders");
    let list = mesh.admin().get("/v1/log/unlogged").await.expect("a list");
    let others = list["items"].as_array().map(Vec::len);
    assert_eq!(others, Some(1), "what is honest raises none: {list}");
}

/// A handshake with the proxy of orders, which it has no reason to refuse.
async fn call(shop: &Shop, svid: identity::x509::X509Svid) {
    let addresses = shop.orders.proxy.mesh_addresses();
    let listener = *addresses.values().next().expect("a mesh listener");
    let time = shop.mesh.time();
    let (publisher, credentials) = mtls::channel(move || time.now());
    let published = publisher.publish(svid, shop.mesh.ca.bundle().into());
    published.expect("it is valid");
    let expected = Expected::exactly(shop.orders.spiffe_id.clone());
    let config = credentials.client_config(expected, &[b"http/1.1"]);
    let socket = TcpStream::connect(listener).await.expect("it listens");
    let tls = mtls::connect(socket, config.expect("published")).await;
    let mut tls = tls.expect("nothing tells it from an honest one");
    let request = b"GET /v1/orders HTTP/1.1\r\nhost: orders\r\n\r\n";
    tls.write_all(request).await.expect("it reads");
    let answered = tls.read(&mut [0; 64]).await.expect("it answers");
    assert!(answered > 0);
}

/// The file of this name below `directory`.
fn find(directory: &Path, name: &str) -> PathBuf {
    let mut folders = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.file_name().is_some_and(|it| it == name) => return path,
                false => {}
            }
        }
    }
    panic!("there is no {name}");
}
