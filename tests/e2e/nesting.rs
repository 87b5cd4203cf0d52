//! Two instances of Countersign in one trust domain, one below the other: their workloads believe
//! each other, and what the instance above gives up ends below.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use ca_server::config::{BundleConfig, UpstreamConfig, UpstreamCountersign};
use http::StatusCode;
use identity::x509::X509Svid;
use mesh_tests::mesh::Mesh;
use mesh_tests::processes::binary_path;
use mesh_tests::replicas::Replicas;
use mesh_tests::shop::{ORDERS, Shop};
use mesh_tests::waiting::eventually;
use mtls::Expected;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use workload_api::{Endpoint, X509Source};

const EU: &str = "eu-west";

async fn above() -> Mesh {
    Mesh::configured(|config| config.bundle = refresh()).await
}

/// Admitted by the operator's tool.
async fn below(above: &Mesh) -> Mesh {
    let credential_file = above.directory().join("eu-west.toml");
    countersign(above, &credential_file).await;
    Mesh::configured(|config| {
        config.bundle = refresh();
        let above = UpstreamCountersign { credential_file };
        config.upstream = Some(UpstreamConfig::Countersign(above));
    })
    .await
}

fn refresh() -> BundleConfig {
    BundleConfig {
        refresh_hint: Duration::from_secs(1),
    }
}

async fn countersign(above: &Mesh, credential: &Path) {
    let mut tool = tokio::process::Command::new(binary_path("countersign"));
    tool.args(["downstream", "create", EU, "--out"])
        .arg(credential)
        .arg("--admin")
        .arg(above.ca.admin_file())
        .stdin(Stdio::null());
    let output = tool.output().await.expect("the tool runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

async fn get(mesh: &Mesh, path: &str) -> Value {
    mesh.admin().get(path).await.expect("the CA answers")
}

async fn revoke_authority_of_below(above: &Mesh) {
    let list = get(above, "/v1/downstreams").await;
    assert_eq!(list["items"][0]["name"], EU);
    let key = &list["items"][0]["authorities"][0]["keyId"];
    let request = json!({"kind": "authority", "subject": key, "reason": "stolen"});
    let revoked = above.admin().post("/v1/revocations", &request).await;
    revoked.expect("it is revoked");
}

/// `shop/checkout` of the instance below, as whoever reads its Workload API can be it.
async fn checkout_below(mesh: &Mesh) -> X509Svid {
    let checkout = mesh.workload("shop/checkout").by_uid().start().await;
    let endpoint = Endpoint::Unix(checkout.workload_api());
    let source = X509Source::start(endpoint, mesh.time());
    source.wait_ready().await.expect("an identity");
    let context = source.current().expect("it was waited for");
    context.default_identity().svid.clone()
}

/// What the proxy of `shop/orders` answers to who shows this.
async fn call(shop: &Shop, svid: &X509Svid) -> Option<String> {
    let addresses = shop.orders.proxy.mesh_addresses();
    let listener = *addresses.values().next()?;
    let time = shop.mesh.time();
    let (publisher, credentials) = mtls::channel(move || time.now());
    let bundles = shop.mesh.ca.bundle().into();
    publisher.publish(svid.clone(), bundles).ok()?;
    let expected = Expected::exactly(shop.orders.spiffe_id.clone());
    let config = credentials.client_config(expected, &[b"http/1.1"]);
    let socket = TcpStream::connect(listener).await.ok()?;
    let mut tls = mtls::connect(socket, config.ok()?).await.ok()?;
    let request = b"GET /v1/orders HTTP/1.1\r\nhost: orders\r\nconnection: close\r\n\r\n";
    tls.write_all(request).await.ok()?;
    let mut answer = Vec::new();
    tls.read_to_end(&mut answer).await.ok()?;
    let status = String::from_utf8_lossy(&answer).into_owned();
    status.split_whitespace().nth(1).map(str::to_owned)
}

#[tokio::test]
async fn calls_go_on_below_while_the_root_is_rotated_above() {
    let above = above().await;
    let shop = Shop::open_in(below(&above).await).await;
    let orders = format!("{ORDERS}/v1/orders");
    // It lives on: whoever is gone is waited for until the time is up.
    let intruder = shop.intruder().await;
    let refused = intruder.caller().await.get(&orders).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let before = above.ca.bundle().digest();
    let rotation = json!({"compromised": true, "within": "1m"});
    let begun = above.admin().post("/v1/authorities/rotation", &rotation);
    begun.await.expect("the rotation begins");
    let both_have_moved = || async {
        let answer = shop.checkout.caller().await.get(&orders).await;
        assert_eq!(answer.status, StatusCode::OK);
        let after = shop.mesh.ca.bundle();
        let same = above.ca.bundle().authorities() == after.authorities();
        let moved = same && after.authorities().len() == 1 && above.ca.bundle().digest() != before;
        moved.then_some(())
    };
    eventually("both have given up the root", both_have_moved).await;
    eventually("the instance above knows that it is followed", || async {
        let list = get(&above, "/v1/authorities").await;
        (list["settled"] == true && list["pendingDownstreams"] == json!([])).then_some(())
    })
    .await;
}

#[tokio::test]
async fn replicas_below_that_start_at_once_have_the_root_above() {
    let Some(cluster) = postgres_cluster::shared() else {
        return;
    };
    let above = above().await;
    let credential = above.directory().join("eu-west.toml");
    countersign(&above, &credential).await;
    let upstream = format!(
        "[upstream.countersign]\ncredential_file = \"{}\"",
        credential.display()
    );
    let (_mesh, replicas) = Replicas::start_on(cluster.database(), 3, &upstream).await;
    let mut roots = BTreeSet::from([get(&above, "/v1/bundle").await["keys"].to_string()]);
    for replica in &replicas {
        let bundle = replica.admin().get("/v1/bundle").await;
        roots.insert(bundle.expect("each serves")["keys"].to_string());
    }
    assert_eq!(roots.len(), 1, "{roots:?}");
}

#[tokio::test]
async fn an_authority_that_is_revoked_above_vouches_for_nobody_there() {
    let shop = Shop::open_in(above().await).await;
    let below = below(&shop.mesh).await;
    let checkout = checkout_below(&below).await;
    assert_eq!(checkout.svid().chain().len(), 3);
    assert_eq!(call(&shop, &checkout).await.as_deref(), Some("200"));
    revoke_authority_of_below(&shop.mesh).await;
    eventually("nobody below is believed", || async {
        (call(&shop, &checkout).await.as_deref() != Some("200")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn whoever_lives_below_a_revoked_authority_has_another_identity_at_once() {
    let shop = Shop::open_in(above().await).await;
    let below = below(&shop.mesh).await;
    let checkout = below.workload("shop/checkout").by_uid().start().await;
    let endpoint = Endpoint::Unix(checkout.workload_api());
    let source = X509Source::start(endpoint, below.time());
    source.wait_ready().await.expect("an identity");
    let current = || {
        let context = source.current().expect("it was waited for");
        context.default_identity().svid.clone()
    };
    let before = current();
    revoke_authority_of_below(&shop.mesh).await;
    let is_replaced = || async {
        let after = current();
        let other = after.svid().chain()[2] != before.svid().chain()[2];
        let answer = call(&shop, &after).await;
        (other && answer.as_deref() == Some("200")).then_some(())
    };
    eventually("it is believed above by another authority", is_replaced).await;
    assert_ne!(call(&shop, &before).await.as_deref(), Some("200"));
}
