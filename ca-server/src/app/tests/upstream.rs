//! Claims of a mesh under an authority that is not its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crypto::digest::Sha256;
use crypto::signing::CertificateKey;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use runtime::FileError;
use rustls_pki_types::CertificateDer;
use tempfile::TempDir;
use time::OffsetDateTime;

use super::harness::TestCa;
use crate::app::{Ca, StartError, install_upstream, request_upstream};
use crate::authority::lifecycle::{Event, Phase};
use crate::authority::{KeyPlaces, PublishedRoots, RootError, RootKeeper, UpstreamError};
use crate::config::{
    Config, KeysConfig, Lifetimes, NextUpstreamDisk, UpstreamConfig, UpstreamCsr, UpstreamDisk,
    UpstreamPkcs11,
};
use crate::pkcs11::tests::with_token;
use crate::rotation::RotationError;
use crate::store::Settling;
use crate::store::tests::TestStore;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// An organization's root, and the files of the authority that it gave a mesh.
struct Organization {
    root_key: KeyPair,
    root: CertificateParams,
    root_certificate: CertificateDer<'static>,
    files: TempDir,
}

impl Organization {
    fn new(name: &str) -> Self {
        let root_key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let root = authority(name, 3650 * DAY);
        Self {
            root_certificate: root.self_signed(&root_key).unwrap().into(),
            root_key,
            root,
            files: tempfile::tempdir().unwrap(),
        }
    }

    /// With an authority for so long, in files.
    fn with_authority(name: &str, life: Duration) -> Self {
        let organization = Self::new(name);
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        organization.certify(&key, life);
        let file = organization.key_file();
        fs::write(&file, key.serialize_pem()).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        organization
    }

    fn certify(&self, key: &impl rcgen::PublicKeyData, life: Duration) {
        let issuer = Issuer::from_params(&self.root, &self.root_key);
        let mut params = authority("authority for meshes", life);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        let certificate = params.signed_by(key, &issuer).unwrap();
        let text = [pem(certificate.der()), pem(&self.root_certificate)].concat();
        fs::write(self.chain_file(), text).unwrap();
    }

    fn chain_file(&self) -> PathBuf {
        self.files.path().join("chain.pem")
    }

    fn key_file(&self) -> PathBuf {
        self.files.path().join("key.pem")
    }

    fn disk(&self) -> Option<UpstreamConfig> {
        Some(UpstreamConfig::Disk(UpstreamDisk {
            chain_file: self.chain_file(),
            key_file: self.key_file(),
            next: None,
        }))
    }

    /// With another's files beside its own.
    fn followed_by(&self, next: &Self) -> Option<UpstreamConfig> {
        let Some(UpstreamConfig::Disk(mut disk)) = self.disk() else {
            return None;
        };
        disk.next = Some(NextUpstreamDisk {
            chain_file: next.chain_file(),
            key_file: next.key_file(),
        });
        Some(UpstreamConfig::Disk(disk))
    }

    /// Puts its files in the place of another's.
    fn replaces(&self, other: &Self) {
        let copy = |from: &Path, to: &Path| fs::copy(from, to).unwrap();
        copy(&self.chain_file(), &other.chain_file());
        copy(&self.key_file(), &other.key_file());
    }

    async fn mesh(&self) -> TestCa {
        TestCa::start_with(|config| config.upstream = self.disk()).await
    }

    #[track_caller]
    fn is_trusted_by(&self, ca: &TestCa) -> bool {
        let bundle = ca.ca.bundle();
        let mut roots = bundle.authorities().iter();
        roots.any(|root| root.der() == &self.root_certificate)
    }
}

fn authority(name: &str, life: Duration) -> CertificateParams {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let now = now();
    (params.not_before, params.not_after) = (now - HOUR, now + life);
    params.use_authority_key_identifier_extension = true;
    params
}

fn now() -> OffsetDateTime {
    runtime::Clock::system().now()
}

fn pem(der: &[u8]) -> String {
    let body = data_encoding::BASE64.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
}

#[tokio::test]
async fn an_upstream_key_that_others_can_read_is_refused() {
    let organization = Organization::with_authority("first", 30 * DAY);
    let open = fs::Permissions::from_mode(0o640);
    fs::set_permissions(organization.key_file(), open).unwrap();
    let refused = TestCa::try_start_with(|config| config.upstream = organization.disk()).await;
    let Err(StartError::Root(RootError::Upstream(UpstreamError::KeyFile(why)))) = refused else {
        panic!("it started, or gave another reason");
    };
    assert!(matches!(why, FileError::Exposed { mode: 0o640, .. }));
}

#[tokio::test]
async fn a_mesh_under_an_upstream_trusts_its_root_alone_and_sends_what_leads_to_it() {
    let organization = Organization::with_authority("first", 30 * DAY);
    let ca = organization.mesh().await;
    assert!(organization.is_trusted_by(&ca));
    assert_eq!(ca.ca.bundle().authorities().len(), 1);
    let agent = ca.agent("web-7").await;
    assert_eq!(agent.chain.len(), 3);
    assert!(ca.verifies(&agent));
    let ca = ca.restart_with(|_| {}).await.unwrap();
    ca.of(&agent).await.issue(Vec::new()).await.unwrap();
}

#[tokio::test]
async fn no_leaf_outlives_the_upstream() {
    let organization = Organization::with_authority("first", HOUR / 2);
    let ca = organization.mesh().await;
    let agent = ca.agent("web-7").await;
    let validity = identity::x509::validity_of(&agent.chain[0]).unwrap();
    assert!(validity.not_after() < now() + HOUR / 2);
}

#[tokio::test]
async fn a_root_that_the_upstream_does_not_have_is_not_to_be_had() {
    let organization = Organization::with_authority("first", 30 * DAY);
    let ca = organization.mesh().await;
    let wished = ca.ca.rotation.wish(&Event::Rotate, "test".to_owned()).await;
    assert!(matches!(
        wished,
        Err(RotationError::Root(RootError::SameRoot))
    ));
}

#[tokio::test]
async fn another_root_of_the_upstream_is_published_before_anything_leads_to_it() {
    let first = Organization::with_authority("first", 30 * DAY);
    let second = Organization::with_authority("second", 30 * DAY);
    let ca = first.mesh().await;
    second.replaces(&first);
    ca.until(&[Phase::Active, Phase::Published]).await;
    assert!(first.is_trusted_by(&ca) && second.is_trusted_by(&ca));
    ca.control.advance(HOUR);
    ca.until(&[Phase::Draining, Phase::Active]).await;
    let agent = ca.agent("web-7").await;
    assert!(ca.verifies(&agent));
    ca.control.advance(HOUR * 2);
    ca.until(&[Phase::Removed, Phase::Active]).await;
    assert!(!first.is_trusted_by(&ca));
}

#[tokio::test]
async fn a_ca_starts_again_while_the_root_of_the_next_authority_waits_for_its_turn() {
    let first = Organization::with_authority("first", 30 * DAY);
    let second = Organization::with_authority("second", 30 * DAY);
    let ca = first.mesh().await;
    let both = first.followed_by(&second);
    let ca = ca.restart_with(|config| config.upstream = both).await;
    let ca = ca.unwrap();
    ca.until(&[Phase::Active, Phase::Published]).await;
    assert!(first.is_trusted_by(&ca) && second.is_trusted_by(&ca));
    let ca = ca.restart_with(|_| {}).await.unwrap();
    ca.until(&[Phase::Active, Phase::Published]).await;
    ca.control.advance(HOUR);
    ca.until(&[Phase::Draining, Phase::Active]).await;
    let next = second.disk();
    let ca = ca.restart_with(|config| config.upstream = next).await;
    let ca = ca.unwrap();
    let agent = ca.agent("web-7").await;
    assert!(ca.verifies(&agent));
}

#[tokio::test]
async fn a_mesh_moves_under_an_upstream_and_does_not_start_without_it_again() {
    let organization = Organization::with_authority("first", 30 * DAY);
    let ca = TestCa::start().await;
    let upstream = organization.disk();
    let ca = ca.restart_with(|config| config.upstream = upstream).await;
    let ca = ca.unwrap();
    ca.until(&[Phase::Active, Phase::Published]).await;
    ca.control.advance(HOUR);
    ca.until(&[Phase::Draining, Phase::Active]).await;
    let agent = ca.agent("web-7").await;
    assert!(ca.verifies(&agent));
    let refused = ca.restart_with(|config| config.upstream = None).await;
    assert!(matches!(
        refused.err(),
        Some(StartError::Root(RootError::NoUpstream))
    ));
}

/// What whoever keeps an offline root does with a request.
fn sign(organization: &Organization, request: &str, life: Duration) -> String {
    let request = rcgen::CertificateSigningRequestParams::from_pem(request).unwrap();
    let issuer = Issuer::from_params(&organization.root, &organization.root_key);
    let mut params = request.params;
    params.not_before = now() - HOUR;
    params.not_after = now() + life;
    let certificate = params.signed_by(&request.public_key, &issuer).unwrap();
    [pem(certificate.der()), pem(&organization.root_certificate)].concat()
}

fn key_of(request: &str) -> Vec<u8> {
    let request = rcgen::CertificateSigningRequestParams::from_pem(request).unwrap();
    rcgen::PublicKeyData::der_bytes(&request.public_key).to_vec()
}

#[tokio::test]
async fn an_offline_root_signs_a_request_and_the_mesh_lives_under_it() {
    let (organization, directory) = (Organization::new("first"), tempfile::tempdir().unwrap());
    let clock = runtime::Clock::system();
    let mut config = Config::for_directory("td.test".parse().unwrap(), directory.path());
    let missing = request_upstream(&config, &clock).await;
    assert!(matches!(
        missing,
        Err(StartError::Root(RootError::Upstream(
            UpstreamError::NotRequested
        )))
    ));
    config.upstream = Some(UpstreamConfig::Csr(UpstreamCsr {}));
    let early = Ca::start(config.clone(), clock.clone()).await;
    assert!(matches!(
        early.err(),
        Some(StartError::Root(RootError::Upstream(
            UpstreamError::NotInstalled
        )))
    ));

    let request = request_upstream(&config, &clock).await.unwrap();
    let again = request_upstream(&config, &clock).await.unwrap();
    assert_eq!(key_of(&again), key_of(&request));
    let certificate = sign(&organization, &request, 30 * DAY);
    install_upstream(&config, certificate.as_bytes(), &clock)
        .await
        .unwrap();
    let again = install_upstream(&config, certificate.as_bytes(), &clock).await;
    assert!(matches!(
        again,
        Err(StartError::Root(RootError::Upstream(
            UpstreamError::OtherKey
        )))
    ));
    let ca = Ca::start(config, clock).await.unwrap();
    assert_eq!(
        ca.bundle().authorities()[0].der(),
        &organization.root_certificate
    );
}

#[tokio::test]
async fn a_certificate_for_another_key_or_of_no_use_is_not_installed() {
    let (organization, directory) = (Organization::new("first"), tempfile::tempdir().unwrap());
    let clock = runtime::Clock::system();
    let mut config = Config::for_directory("td.test".parse().unwrap(), directory.path());
    config.upstream = Some(UpstreamConfig::Csr(UpstreamCsr {}));
    let request = request_upstream(&config, &clock).await.unwrap();
    let foreign = Organization::with_authority("second", 30 * DAY);
    let foreign = fs::read(foreign.chain_file()).unwrap();
    let refused = install_upstream(&config, &foreign, &clock).await;
    assert!(matches!(
        refused,
        Err(StartError::Root(RootError::Upstream(
            UpstreamError::OtherKey
        )))
    ));
    let other = Organization::new("first");
    let certificate = sign(&organization, &request, 30 * DAY);
    let (authority, _) = certificate
        .split_once("-----END CERTIFICATE-----\n")
        .unwrap();
    let mixed = format!(
        "{authority}-----END CERTIFICATE-----\n{}",
        pem(&other.root_certificate)
    );
    let refused = install_upstream(&config, mixed.as_bytes(), &clock).await;
    assert!(matches!(
        refused,
        Err(StartError::Root(RootError::Upstream(
            UpstreamError::Certificate(_)
        )))
    ));
}

#[tokio::test]
async fn the_upstream_may_sign_in_a_token() {
    with_token!(token);
    let organization = Organization::new("first");
    let key: CertificateKey = token.signing_key("upstream");
    organization.certify(&key, 30 * DAY);
    let ca = TestCa::start_with(|config| {
        config.keys.pkcs11 = Some(token.config());
        config.upstream = Some(UpstreamConfig::Pkcs11(UpstreamPkcs11 {
            chain_file: organization.chain_file(),
            key_label: "upstream".to_owned(),
            next: None,
        }));
    });
    let ca = ca.await;
    let agent = ca.agent("web-7").await;
    assert!(organization.is_trusted_by(&ca) && ca.verifies(&agent));
    token.unplug();
    let refused = ca.restart_with(|_| {}).await;
    assert!(matches!(
        refused.err(),
        Some(StartError::Root(RootError::Upstream(UpstreamError::Token(
            _
        ))))
    ));
}

#[tokio::test]
async fn the_log_names_the_authority_that_signed_and_not_the_root_above_it() {
    let organization = Organization::with_authority("first", 30 * DAY);
    let keys = KeysConfig::file(organization.files.path().join("keys").join("kek"));
    let places = KeyPlaces::of(&keys, organization.disk().as_ref()).unwrap();
    let (test, lifetimes) = (TestStore::open().await, Lifetimes::default());
    let keeper = RootKeeper::open_or_make(&test.store, "ca-1", places, lifetimes, now());
    let keeper = keeper.await.unwrap();
    let roots = PublishedRoots::read(&test.store).await.unwrap();
    keeper.sign_intermediate(&roots, now()).await.unwrap();
    let mut settling = Settling::default();
    let pending = test.store.pending_leaves(&mut settling, 10).await.unwrap();
    let key = fs::read(organization.key_file()).unwrap();
    let key = CertificateKey::from_pem(&key).unwrap();
    let issuer = Sha256::of(key.spki()).to_string();
    // The root is the first.
    assert_eq!(pending.authorities[1].issuer, issuer);
}
