//! A mesh whose root is somebody else's: every chain has one certificate more, and everybody who
//! verifies one must take it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ca_server::config::{UpstreamConfig, UpstreamDisk};
use http::StatusCode;
use mesh_tests::mesh::Mesh;
use mesh_tests::shop::{ORDERS, Shop};
use mesh_tests::waiting::eventually;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use runtime::Clock;
use serde_json::json;
use workload_api::{Endpoint, X509Source};

/// The name of the authority that the mesh was given.
const ABOVE: &str = "meshes";

#[tokio::test]
async fn proxies_and_the_workload_api_carry_what_stands_between_a_mesh_and_its_upstream() {
    let files = tempfile::tempdir().expect("a temporary directory");
    let upstream = upstream(files.path());
    let mesh = Mesh::configured(|config| config.upstream = Some(upstream));
    let shop = Shop::open_in(mesh.await).await;
    let orders = format!("{ORDERS}/v1/orders");
    let refused = shop.intruder().await.caller().await.get(&orders).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let answer = shop.checkout.caller().await.get(&orders).await;
    assert_eq!(answer.status, StatusCode::OK);

    let reader = shop.mesh.workload("shop/reader").by_uid().start().await;
    let endpoint = Endpoint::Unix(reader.workload_api());
    let source = X509Source::start(endpoint, shop.mesh.time());
    source.wait_ready().await.expect("an identity");
    let context = source.current().expect("it was waited for");
    assert_eq!(context.default_identity().svid.svid().chain().len(), 3);
    let bundle = shop.mesh.ca.bundle();
    assert_eq!(bundle.authorities().len(), 1);
    assert_eq!(bundle.authorities()[0].trust_domain(), None);
    let horizon = shop.mesh.admin().get("/v1/horizon").await;
    let horizon = horizon.expect("what ends first");
    let items = horizon["items"].as_array().expect("a list").iter();
    let kinds: Vec<_> = items.map(|item| item["kind"].as_str()).collect();
    assert_eq!(kinds[..2], [Some("root"), Some("upstream")]);
}

#[tokio::test]
async fn an_upstream_that_may_sign_no_lists_leaves_the_mesh_those_of_its_replicas() {
    let lists = lists_under(&[KeyUsagePurpose::KeyCertSign], |lists| !lists.is_empty());
    let lists = lists.await;
    assert!(!lists.contains(ABOVE), "{lists}");
}

#[tokio::test]
async fn an_upstream_that_may_sign_lists_has_the_mesh_sign_one_in_its_name() {
    let usages = [KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    lists_under(&usages, |lists| lists.contains(ABOVE)).await;
}

/// The issuers of the lists that a workload of a mesh below such an upstream has, once they are as
/// wanted and a leaf was revoked and replaced.
async fn lists_under(usages: &[KeyUsagePurpose], wanted: impl Fn(&str) -> bool) -> String {
    let files = tempfile::tempdir().expect("a temporary directory");
    let upstream = upstream_with(files.path(), usages);
    let mesh = Mesh::configured(|config| config.upstream = Some(upstream));
    let shop = Shop::open_in(mesh.await).await;
    let reader = shop.mesh.workload("shop/reader").by_uid().start().await;
    let endpoint = Endpoint::Unix(reader.workload_api());
    let source = X509Source::start(endpoint, shop.mesh.time());
    source.wait_ready().await.expect("an identity");
    let serial = || {
        let context = source.current().expect("it was waited for");
        context.default_identity().svid.svid().serial().to_string()
    };
    let stolen = serial();
    let theft = json!({"kind": "serial", "subject": stolen, "reason": "stolen"});
    let revoked = shop.mesh.admin().post("/v1/revocations", &theft).await;
    revoked.expect("it is revoked");
    eventually("another leaf is held", || async {
        (serial() != stolen).then_some(())
    })
    .await;
    let orders = format!("{ORDERS}/v1/orders");
    let answer = shop.checkout.caller().await.get(&orders).await;
    assert_eq!(answer.status, StatusCode::OK);
    eventually("the lists are as wanted", || async {
        let context = source.current()?;
        let lists = context.revocation_lists().iter();
        let issuers: String = lists.map(|list| issuer(files.path(), list)).collect();
        wanted(&issuers).then_some(issuers)
    })
    .await
}

/// As OpenSSL reads it.
fn issuer(directory: &Path, list: &[u8]) -> String {
    let file = directory.join("list.der");
    fs::write(&file, list).expect("writable");
    let output = Command::new("openssl")
        .args(["crl", "-inform", "DER", "-noout", "-issuer", "-in"])
        .arg(file)
        .output();
    let output = output.expect("openssl is installed");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

fn upstream(directory: &Path) -> UpstreamConfig {
    upstream_with(directory, &[KeyUsagePurpose::KeyCertSign])
}

/// An organization's root, and the authority that it gave the mesh, for these usages.
fn upstream_with(directory: &Path, usages: &[KeyUsagePurpose]) -> UpstreamConfig {
    let (root_key, key) = (key(), key());
    let root = authority("root", BasicConstraints::Unconstrained);
    let issuer = Issuer::from_params(&root, &root_key);
    let mut below = authority(ABOVE, BasicConstraints::Constrained(1));
    below.key_usages = usages.to_vec();
    let below = below.signed_by(&key, &issuer).expect("it is signed");
    let above = root.self_signed(&root_key).expect("it is signed");
    let (chain_file, key_file) = (directory.join("chain.pem"), directory.join("key.pem"));
    fs::write(&chain_file, below.pem() + &above.pem()).expect("writable");
    fs::write(&key_file, key.serialize_pem()).expect("writable");
    fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600)).expect("our own");
    UpstreamConfig::Disk(UpstreamDisk {
        chain_file,
        key_file,
        next: None,
    })
}

fn key() -> KeyPair {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).expect("keys can be made")
}

fn authority(name: &str, depth: BasicConstraints) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(depth);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.use_authority_key_identifier_extension = true;
    let (now, day) = (Clock::system().now(), Duration::from_secs(24 * 3600));
    (params.not_before, params.not_after) = (now - day, now + 30 * day);
    params
}
