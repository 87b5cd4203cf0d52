//! Which identities an agent gets, and what of its request is believed.

use identity::JoinToken;
use mesh_tests::mesh::Mesh;
use mesh_tests::stranger::{Joined, Line, join, key_and_csr, verified};
use proto::agent::v1::issue_result::Result as Issued;
use proto::agent::v1::{IssueResult, Svid};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, SanType};
use tonic::Code;

const ORDERS: &str = "spiffe://mesh.test/ns/shop/sa/orders";

#[tokio::test]
async fn an_identity_that_is_not_the_agents_is_refused() {
    let mesh = Mesh::start().await;
    mesh.workload("shop/orders").register().await;
    let line = agent_line(&mesh, &[]).await;
    let result = line
        .issue(ORDERS, key_and_csr().1)
        .await
        .expect("the call is answered");
    assert_eq!(refusal(result), "not-this-agents-identity");
}

#[tokio::test]
async fn a_reserved_identity_is_refused() {
    let mesh = Mesh::start().await;
    let line = agent_line(&mesh, &[]).await;
    for id in [
        "spiffe://mesh.test/countersign/ca/ca-1",
        "spiffe://mesh.test",
    ] {
        refusal(
            line.issue(id, key_and_csr().1)
                .await
                .expect("the call is answered"),
        );
    }
}

#[tokio::test]
async fn a_workload_cannot_act_as_an_agent() {
    let mesh = Mesh::start().await;
    let (agent, line) = joined_for_orders(&mesh).await;
    let (key, csr) = key_and_csr();
    let svid = svid(line.issue(ORDERS, csr).await.expect("the call is answered"));
    let workload = Joined {
        svid: verified(svid, key, &agent.bundles, &mesh.time()),
        bundles: agent.bundles,
    };
    let line = Line::mutual(mesh.ca.agents_address(), &workload, &mesh.time()).await;
    let refused = line.issue(ORDERS, key_and_csr().1).await;
    assert_eq!(refused.expect_err("not an agent"), Code::PermissionDenied);
}

#[tokio::test]
async fn without_a_certificate_nothing_is_issued() {
    let mesh = Mesh::start().await;
    let token: JoinToken = mesh
        .join_token("web-7", &[])
        .await
        .parse()
        .expect("a token");
    let line = Line::pinned(&token, &mesh.time()).await;
    let refused = line.issue(ORDERS, key_and_csr().1).await;
    assert_eq!(refused.expect_err("no certificate"), Code::Unauthenticated);
}

#[tokio::test]
async fn a_tampered_csr_is_refused() {
    let mesh = Mesh::start().await;
    let (_, line) = joined_for_orders(&mesh).await;
    let mut csr = key_and_csr().1;
    *csr.last_mut().expect("not empty") ^= 1;
    let result = line.issue(ORDERS, csr).await.expect("the call is answered");
    assert_eq!(refusal(result), "csr-refused");
}

#[tokio::test]
async fn what_a_csr_asks_for_is_not_believed() {
    let mesh = Mesh::start().await;
    let (agent, line) = joined_for_orders(&mesh).await;
    let key = KeyPair::generate().expect("a key");
    let mut greedy = CertificateParams::default();
    greedy.distinguished_name.push(DnType::CommonName, "king");
    greedy.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let king = "spiffe://mesh.test/ns/throne/sa/king"
        .try_into()
        .expect("IA5");
    greedy.subject_alt_names.push(SanType::URI(king));
    let csr = greedy
        .serialize_request(&key)
        .expect("a CSR")
        .der()
        .to_vec();
    let svid = svid(line.issue(ORDERS, csr).await.expect("the call is answered"));
    let key = crypto::signing::SigningKey::from_pkcs8(&key.serialize_der()).expect("P-256");
    // It verifies as a leaf with exactly one URI SAN, so CA:true and the second SAN are gone.
    let leaf = verified(svid.clone(), key, &agent.bundles, &mesh.time());
    let (_, parsed) = x509_parser::parse_x509_certificate(&svid.chain[0]).expect("DER");
    let subject = parsed.subject().to_string();
    assert_eq!(
        (leaf.spiffe_id().as_str(), subject.contains("king")),
        (ORDERS, false)
    );
}

async fn agent_line(mesh: &Mesh, workloads: &[&str]) -> Line {
    join_line(mesh, workloads).await.1
}

async fn joined_for_orders(mesh: &Mesh) -> (Joined, Line) {
    mesh.workload("shop/orders").register().await;
    join_line(mesh, &["shop/orders"]).await
}

async fn join_line(mesh: &Mesh, workloads: &[&str]) -> (Joined, Line) {
    let token: JoinToken = mesh
        .join_token("web-7", workloads)
        .await
        .parse()
        .expect("a token");
    let agent = join(&token, &mesh.time()).await;
    let line = Line::mutual(mesh.ca.agents_address(), &agent, &mesh.time()).await;
    (agent, line)
}

#[track_caller]
fn svid(result: IssueResult) -> Svid {
    match result.result.expect("a result") {
        Issued::Svid(svid) => svid,
        Issued::Refusal(refusal) => panic!("refused: {refusal:?}"),
    }
}

#[track_caller]
fn refusal(result: IssueResult) -> String {
    match result.result.expect("a result") {
        Issued::Svid(svid) => panic!("issued: {}", svid.spiffe_id),
        Issued::Refusal(refusal) => refusal.code,
    }
}
