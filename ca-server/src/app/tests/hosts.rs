//! Claims of `Attest` with the certificate of a host.

use crypto::signing::{ForeignKey, SigningKey};
use identity::AgentId;
use proto::agent::v1::{self as wire, attest_request::Evidence};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use tonic::{Code, Status};

use super::agent::{Connection, TestAgent, possession, refused, statement};
use super::harness::{TestCa, trust_domain};
use crate::config::{HostNaming, X509PopConfig};

const X509POP: &[u8] = b"countersign-x509pop-v1\0";

/// Somebody's PKI of hosts.
struct HostPki {
    root: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A host with its certificate.
struct Host {
    chain: Vec<Vec<u8>>,
    key: ForeignKey,
}

impl HostPki {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self {
            root: params.self_signed(&key).unwrap().pem(),
            issuer: Issuer::new(params, key),
        }
    }

    fn host(&self, name: &str) -> Host {
        self.host_with(name, |_| {})
    }

    fn host_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Host {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        change(&mut params);
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        Host {
            chain: vec![leaf.der().to_vec()],
            key: ForeignKey::from_pem(key.serialize_pem().as_bytes()).unwrap(),
        }
    }

    /// A CA that believes it, and names agents so.
    async fn ca(&self, agent_name: HostNaming, allowed: &[&str]) -> TestCa {
        let directory = tempfile::tempdir().unwrap();
        let roots_file = directory.path().join("hosts.pem");
        std::fs::write(&roots_file, &self.root).unwrap();
        let allowed = allowed.iter().map(|name| name.parse().unwrap());
        let x509pop = X509PopConfig {
            selectors: toml::from_str("rack = 'r1'").unwrap(),
            roots_file,
            agent_name,
            allowed_names: allowed.collect(),
            extended_key_usage: None,
        };
        TestCa::start_with(|config| config.attest.x509pop = Some(x509pop)).await
    }

    async fn ca_by_dns_name(&self) -> TestCa {
        self.ca(HostNaming::DnsName, &["*.hosts.example"]).await
    }
}

impl Connection {
    /// The host proves itself for an SVID of `key`, with a signature over `exporter`.
    async fn attest_host(
        &self,
        host: &Host,
        key: &SigningKey,
        exporter: &[u8; 32],
    ) -> Result<wire::AttestResponse, Status> {
        let signed = host.key.sign(&statement(X509POP, exporter, key)).unwrap();
        let evidence = wire::X509PopEvidence {
            chain: host.chain.clone(),
            signature_scheme: signed.scheme.into(),
            signature: signed.signature,
        };
        let possession = possession(key, &self.exporter);
        self.attest_by(Evidence::X509pop(evidence), possession)
            .await
    }

    async fn join_host(
        &self,
        host: &Host,
        key: &SigningKey,
    ) -> Result<wire::AttestResponse, Status> {
        self.attest_host(host, key, &self.exporter).await
    }
}

async fn joins(ca: &TestCa, host: &Host) -> Result<wire::AttestResponse, Status> {
    let connection = ca.anonymous().await;
    connection.join_host(host, &SigningKey::generate()).await
}

#[track_caller]
fn check_id(response: wire::AttestResponse, name: &str) {
    let expected = AgentId::new(&trust_domain(), "x509pop", name).unwrap();
    assert_eq!(response.svid.unwrap().spiffe_id, expected.to_string());
}

#[tokio::test]
async fn a_host_is_refused_where_hosts_are_not_configured() {
    let ca = TestCa::start().await;
    let refusal = joins(&ca, &HostPki::new().host("web-7.hosts.example")).await;
    refused(refusal, Code::PermissionDenied, "attestor-not-configured");
}

#[tokio::test]
async fn a_host_of_another_authority_is_refused() {
    let ca = HostPki::new().ca_by_dns_name().await;
    let refusal = joins(&ca, &HostPki::new().host("web-7.hosts.example")).await;
    refused(refusal, Code::PermissionDenied, "host-certificate-refused");
}

#[tokio::test]
async fn a_proof_made_for_another_connection_is_refused() {
    let pki = HostPki::new();
    let ca = pki.ca_by_dns_name().await;
    let (host, key) = (pki.host("web-7.hosts.example"), SigningKey::generate());
    let (here, elsewhere) = (ca.anonymous().await, ca.anonymous().await);
    let replayed = here.attest_host(&host, &key, &elsewhere.exporter).await;
    refused(replayed, Code::PermissionDenied, "possession-not-proven");
}

#[tokio::test]
async fn a_certificate_without_its_key_is_refused() {
    let pki = HostPki::new();
    let ca = pki.ca_by_dns_name().await;
    let stolen = Host {
        chain: pki.host("web-7.hosts.example").chain,
        key: pki.host("web-8.hosts.example").key,
    };
    refused(
        joins(&ca, &stolen).await,
        Code::PermissionDenied,
        "possession-not-proven",
    );
}

#[tokio::test]
async fn a_name_that_is_not_allowed_is_refused() {
    let pki = HostPki::new();
    let ca = pki.ca_by_dns_name().await;
    let refusal = joins(&ca, &pki.host("web-7.elsewhere.example")).await;
    refused(refusal, Code::PermissionDenied, "host-name-refused");
}

#[tokio::test]
async fn a_host_with_two_names_is_refused() {
    let pki = HostPki::new();
    let ca = pki.ca_by_dns_name().await;
    let two = pki.host_with("web-7.hosts.example", |params| {
        let other = "web-8.hosts.example".try_into().unwrap();
        params.subject_alt_names.push(SanType::DnsName(other));
    });
    refused(
        joins(&ca, &two).await,
        Code::PermissionDenied,
        "host-name-refused",
    );
}

#[tokio::test]
async fn a_workload_of_the_mesh_is_no_host() {
    let pki = HostPki::new();
    let ca = pki.ca_by_dns_name().await;
    let workload = pki.host_with("web-7.hosts.example", |params| {
        let uri = "spiffe://td.test/ns/shop/sa/orders".try_into().unwrap();
        params.subject_alt_names.push(SanType::URI(uri));
    });
    refused(
        joins(&ca, &workload).await,
        Code::PermissionDenied,
        "host-certificate-of-mesh",
    );
}

#[tokio::test]
async fn an_expired_svid_does_not_bring_a_host_back() {
    let pki = HostPki::new();
    let ca = pki.ca_by_dns_name().await;
    let (host, key) = (pki.host("web-7.hosts.example"), SigningKey::generate());
    let connection = ca.anonymous().await;
    let joined = connection.join_host(&host, &key).await.unwrap();
    let agent = TestAgent {
        chain: joined.svid.unwrap().chain,
        key,
    };
    let refusal = connection.reattest(&agent, &SigningKey::generate()).await;
    refused(refusal, Code::PermissionDenied, "fresh-proof-needed");
}

#[tokio::test]
async fn a_host_proves_itself_as_often_as_it_needs_to() {
    let pki = HostPki::new();
    let ca = pki.ca_by_dns_name().await;
    let host = pki.host("WEB-7.hosts.example");
    for _ in 0..2 {
        check_id(joins(&ca, &host).await.unwrap(), "web-7.hosts.example");
    }
}

#[tokio::test]
async fn a_host_may_be_named_by_its_common_name() {
    let pki = HostPki::new();
    let ca = pki.ca(HostNaming::CommonName, &["web-*"]).await;
    check_id(joins(&ca, &pki.host("web-7")).await.unwrap(), "web-7");
}

#[tokio::test]
async fn a_host_may_be_named_by_its_fingerprint() {
    let pki = HostPki::new();
    let ca = pki.ca(HostNaming::Fingerprint, &[]).await;
    let host = pki.host("web-7.hosts.example");
    let fingerprint = crypto::digest::Sha256::of(&host.chain[0]).to_string();
    check_id(joins(&ca, &host).await.unwrap(), &fingerprint);
}

#[tokio::test]
async fn every_host_holds_the_selectors_of_its_attestor() {
    let pki = HostPki::new();
    let ca = pki.ca_by_dns_name().await;
    joins(&ca, &pki.host("web-7.hosts.example")).await.unwrap();
    let known = ca.ca.store.agents().await.unwrap();
    assert_eq!(known[0].selectors.to_string(), "rack=r1");
}
