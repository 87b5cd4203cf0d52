//! Claims of `Issue`: who gets which certificate, and what it says.

use std::time::Duration;

use crypto::signing::{SigningKey, create_csr};
use proto::agent::v1 as wire;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, SanType};
use tonic::Code;
use x509_parser::prelude::*;

use super::agent::{chain_of, code_of, refused};
use super::harness::{TestCa, agent_id, workload, workload_id};
use crate::store::IssuedFilter;

/// A CSR that asks for everything it must not get.
fn greedy_csr(key: &SigningKey) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "admin");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.subject_alt_names = vec![
        SanType::URI("spiffe://td.test/ns/bank/sa/vault".try_into().unwrap()),
        SanType::DnsName("bank.example".try_into().unwrap()),
    ];
    params.serialize_request(key).unwrap().der().to_vec()
}

fn request(id: &identity::SpiffeId, csr: Vec<u8>) -> wire::CertificateRequest {
    wire::CertificateRequest {
        spiffe_id: id.to_string(),
        csr,
    }
}

#[tokio::test]
async fn without_a_client_certificate_nothing_is_issued() {
    let ca = TestCa::start().await;
    let result = ca.anonymous().await.issue(Vec::new()).await;
    refused(result, Code::Unauthenticated, "no-client-certificate");
}

#[tokio::test]
async fn a_workloads_svid_cannot_act_as_an_agent() {
    let ca = TestCa::start().await;
    ca.apply(&workload("orders", &["web-7"])).await;
    let (agent, key) = (ca.agent("web-7").await, SigningKey::generate());
    let issued = ca
        .of(&agent)
        .await
        .issue_one(&workload_id("orders"), &key)
        .await;
    let svid = ca.svid(&chain_of(issued.unwrap()), &key);
    let connection = ca.with_svid(svid).await;
    refused(
        connection.issue(Vec::new()).await,
        Code::PermissionDenied,
        "not-an-agent",
    );
    let watched = connection.watch().watch(tokio_stream::empty()).await;
    refused(watched.map(drop), Code::PermissionDenied, "not-an-agent");
}

#[tokio::test]
async fn an_identity_of_another_agent_is_refused_like_an_unknown_one() {
    let ca = TestCa::start().await;
    ca.apply(&workload("orders", &["web-8"])).await;
    let connection = ca.of(&ca.agent("web-7").await).await;
    for id in [
        workload_id("orders"),
        workload_id("nobody"),
        agent_id("web-8"),
    ] {
        let result = connection.issue_one(&id, &SigningKey::generate()).await;
        assert_eq!(code_of(result.unwrap()), "not-this-agents-identity", "{id}");
    }
}

#[tokio::test]
async fn an_entry_that_no_longer_names_the_agent_gives_nothing() {
    let ca = TestCa::start().await;
    ca.apply(&workload("orders", &["web-7"])).await;
    let connection = ca.of(&ca.agent("web-7").await).await;
    ca.apply(&workload("orders", &["web-8"])).await;
    let result = connection
        .issue_one(&workload_id("orders"), &SigningKey::generate())
        .await;
    assert_eq!(code_of(result.unwrap()), "not-this-agents-identity");
}

#[tokio::test]
async fn a_tampered_csr_is_refused_and_spoils_no_other() {
    let ca = TestCa::start().await;
    ca.apply(&workload("orders", &["web-7"])).await;
    let connection = ca.of(&ca.agent("web-7").await).await;
    let good = create_csr(&SigningKey::generate());
    let mut tampered = good.clone();
    *tampered.last_mut().unwrap() ^= 1;
    let id = workload_id("orders");
    let results = connection
        .issue(vec![request(&id, tampered), request(&id, good)])
        .await;
    let mut results = results.unwrap().into_iter();
    assert_eq!(code_of(results.next().unwrap()), "csr-refused");
    assert_eq!(chain_of(results.next().unwrap()).len(), 2);
}

#[tokio::test]
async fn more_than_a_batch_is_refused_whole() {
    let ca = TestCa::start().await;
    let agent = ca.agent("web-7").await;
    let request = request(&agent_id("web-7"), create_csr(&agent.key));
    let result = ca.of(&agent).await.issue(vec![request; 65]).await;
    refused(result, Code::InvalidArgument, "batch-too-large");
}

#[tokio::test]
async fn a_forgotten_agent_gets_nothing_more() {
    let ca = TestCa::start().await;
    let agent = ca.agent("web-7").await;
    let connection = ca.of(&agent).await;
    ca.forget("web-7").await;
    let result = connection.issue_one(&agent_id("web-7"), &agent.key).await;
    refused(result, Code::PermissionDenied, "agent-forgotten");
}

#[tokio::test]
async fn a_connection_does_not_outlive_the_svid_that_opened_it() {
    let ca = TestCa::start().await;
    let agent = ca.agent("web-7").await;
    let connection = ca.of(&agent).await;
    ca.control.advance(Duration::from_secs(2 * 3600));
    let status = connection
        .issue_one(&agent_id("web-7"), &agent.key)
        .await
        .unwrap_err();
    // The connection has ended, or its next call is refused: both are right.
    assert!([Code::Unauthenticated, Code::Unavailable, Code::Unknown].contains(&status.code()));
}

#[tokio::test]
async fn from_a_csr_come_the_key_and_nothing_else() {
    let ca = TestCa::start().await;
    ca.apply(&workload("orders", &["web-7"])).await;
    let (agent, key) = (ca.agent("web-7").await, SigningKey::generate());
    let request = request(&workload_id("orders"), greedy_csr(&key));
    let mut results = ca.of(&agent).await.issue(vec![request]).await.unwrap();
    let chain = chain_of(results.remove(0));
    let (_, leaf) = X509Certificate::from_der(&chain[0]).unwrap();
    assert_eq!(leaf.public_key().raw, key.public_key().spki());
    assert!(!leaf.is_ca() && leaf.subject().iter().next().is_none());
    let names = leaf.subject_alternative_name().unwrap().unwrap();
    let names: Vec<_> = names
        .value
        .general_names
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        names,
        [
            "URI(spiffe://td.test/ns/shop/sa/orders)",
            "DNSName(orders.shop.mesh.internal)"
        ]
    );
}

#[tokio::test]
async fn what_is_issued_is_recorded_before_it_is_released() {
    let ca = TestCa::start().await;
    ca.apply(&workload("orders", &["web-7"])).await;
    let (agent, key) = (ca.agent("web-7").await, SigningKey::generate());
    let result = ca
        .of(&agent)
        .await
        .issue_one(&workload_id("orders"), &key)
        .await;
    let svid = ca.svid(&chain_of(result.unwrap()), &key);
    let filter = IssuedFilter {
        spiffe_id: Some(workload_id("orders")),
        ..IssuedFilter::default()
    };
    let rows = ca.ca.store.issued(&filter, 10).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].serial, svid.svid().serial());
    assert_eq!(rows[0].agent_id, agent_id("web-7"));
    assert_eq!(rows[0].leaf_sha256, svid.svid().leaf_digest());
}

#[tokio::test]
async fn a_life_is_clamped_to_the_issuing_chain() {
    let ca = TestCa::start().await;
    let entry = workload("orders", &["web-7"]).replace("spec: {", "spec: {ttl: 24h, ");
    ca.apply(&entry).await;
    let (agent, key) = (ca.agent("web-7").await, SigningKey::generate());
    let result = ca
        .of(&agent)
        .await
        .issue_one(&workload_id("orders"), &key)
        .await;
    let chain = chain_of(result.unwrap());
    let ends = |der: &[u8]| {
        let (_, certificate) = X509Certificate::from_der(der).unwrap();
        certificate.validity().not_after.timestamp()
    };
    assert_eq!(ends(&chain[0]) + 60, ends(&chain[1]));
}

#[tokio::test]
async fn leaves_after_the_intermediates_renewal_chain_to_its_successor() {
    let ca = TestCa::start().await;
    let before = ca.agent("web-7").await;
    ca.control.advance(Duration::from_secs(15 * 3600));
    let after = ca
        .agent_with_new_intermediate("web-8", &before.chain[1])
        .await;
    ca.of(&after).await.issue(Vec::new()).await.unwrap();
}
