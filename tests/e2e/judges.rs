//! What others say of our certificates: `openssl verify`, and the `spiffe` crate as a client.

use std::fs;
use std::process::Command;

use data_encoding::BASE64_MIME;
use mesh_tests::mesh::Mesh;
use mesh_tests::workload::Workload;
use spiffe::WorkloadApiClient;

#[tokio::test]
async fn openssl_verifies_what_the_workload_api_hands_out() {
    let mesh = Mesh::start().await;
    let workload = mesh.workload("shop/orders").by_uid().start().await;
    let svid = fetched(&workload).await;
    let chain: Vec<_> = svid
        .cert_chain()
        .iter()
        .map(|certificate| certificate.as_bytes())
        .collect();
    let bundle = client(&workload)
        .await
        .fetch_x509_context()
        .await
        .expect("a context");
    let domain = svid.spiffe_id().trust_domain();
    let bundle = bundle
        .bundle_set()
        .get(domain)
        .expect("the own domain's bundle");
    let roots: Vec<_> = bundle
        .authorities()
        .iter()
        .map(|root| root.as_bytes())
        .collect();
    for purpose in ["sslserver", "sslclient"] {
        let verdict = openssl_verify(&mesh, &roots, &chain, purpose);
        assert!(verdict.ends_with("leaf.pem: OK\n"), "{purpose}: {verdict}");
    }
}

#[tokio::test]
async fn the_spiffe_crate_gets_the_registered_identity() {
    let mesh = Mesh::start().await;
    let workload = mesh.workload("shop/orders").by_uid().start().await;
    let svid = fetched(&workload).await;
    assert_eq!(
        svid.spiffe_id().to_string(),
        "spiffe://mesh.test/ns/shop/sa/orders"
    );
}

#[tokio::test]
async fn a_process_that_is_not_the_workload_gets_no_identity() {
    let mesh = Mesh::start().await;
    let workload = mesh.workload("shop/orders").start().await;
    let refused = client(&workload).await.fetch_x509_svid().await;
    refused.expect_err("this process was not spawned as shop/orders");
}

async fn fetched(workload: &Workload) -> spiffe::X509Svid {
    client(workload)
        .await
        .fetch_x509_svid()
        .await
        .expect("an SVID")
}

async fn client(workload: &Workload) -> WorkloadApiClient {
    let endpoint = format!("unix://{}", workload.workload_api().display());
    WorkloadApiClient::connect_to(&endpoint)
        .await
        .expect("the agent listens")
}

fn openssl_verify(mesh: &Mesh, roots: &[&[u8]], chain: &[&[u8]], purpose: &str) -> String {
    let file = |name: &str, certificates: &[&[u8]]| {
        let path = mesh.directory().join(name);
        fs::write(
            &path,
            certificates.iter().map(|der| pem(der)).collect::<String>(),
        )
        .expect("the test's directory is writable");
        path
    };
    let output = Command::new("openssl")
        .args(["verify", "-x509_strict", "-purpose", purpose, "-CAfile"])
        .arg(file("roots.pem", roots))
        .arg("-untrusted")
        .arg(file("intermediates.pem", &chain[1..]))
        .arg(file("leaf.pem", &chain[..1]))
        .output()
        .expect("openssl is installed");
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout)
    )
}

fn pem(der: &[u8]) -> String {
    let body = BASE64_MIME.encode(der);
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        body.trim_end()
    )
}
