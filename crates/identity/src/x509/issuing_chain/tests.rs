//! Chains of an upstream authority: offline root, an authority for meshes, and what breaks.

use std::time::Duration;

use data_encoding::BASE64;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use time::macros::datetime;

use super::*;

const NOW: OffsetDateTime = datetime!(2026-06-01 12:00 UTC);

/// An organization's own root, and the authority that it keeps for meshes.
struct Organization {
    root: CertificateDer<'static>,
    authority: CertificateDer<'static>,
    key: KeyPair,
}

impl Organization {
    fn new() -> Self {
        Self::with(|_| {}, |_| {})
    }

    fn with(
        change_root: impl FnOnce(&mut CertificateParams),
        change: impl FnOnce(&mut CertificateParams),
    ) -> Self {
        let (root_key, key) = (key(), key());
        let mut params = of_ca("root");
        change_root(&mut params);
        let root = params.self_signed(&root_key).unwrap();
        let issuer = Issuer::new(params, root_key);
        let mut params = of_ca("meshes");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        change(&mut params);
        let authority = params.signed_by(&key, &issuer).unwrap();
        Self {
            root: root.into(),
            authority: authority.into(),
            key,
        }
    }

    fn pem(&self) -> String {
        pem(&[&self.authority, &self.root])
    }

    fn check(&self) -> Result<IssuingChain, IssuingChainError> {
        check(&self.pem(), &self.key)
    }
}

fn key() -> KeyPair {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap()
}

fn of_ca(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.not_before = NOW - Duration::from_secs(3600);
    params.not_after = NOW + Duration::from_secs(24 * 3600);
    params.use_authority_key_identifier_extension = true;
    params
}

fn pem(certificates: &[&CertificateDer<'_>]) -> String {
    let one = |der: &&CertificateDer<'_>| {
        let body = BASE64.encode(der);
        format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
    };
    certificates.iter().map(one).collect()
}

fn check(pem: &str, key: &KeyPair) -> Result<IssuingChain, IssuingChainError> {
    let key = CertificateKey::from_pem(key.serialize_pem().as_bytes()).unwrap();
    let domain = "td".parse().unwrap();
    UnverifiedIssuingChain::from_pem(pem.as_bytes())?.check(key, &domain, NOW)
}

#[test]
fn text_without_certificates_is_refused() {
    let empty = UnverifiedIssuingChain::from_pem(b"");
    assert!(matches!(empty, Err(IssuingChainError::Empty)));
    let broken = "-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----\n";
    let broken = UnverifiedIssuingChain::from_pem(broken.as_bytes());
    assert!(matches!(broken, Err(IssuingChainError::NotPem)));
    let organization = Organization::new();
    let many = UnverifiedIssuingChain::from_pem(organization.pem().repeat(5).as_bytes());
    assert!(matches!(
        many,
        Err(IssuingChainError::TooMany { count: 10 })
    ));
}

#[test]
fn the_key_of_another_is_refused() {
    let organization = Organization::new();
    assert!(matches!(
        check(&organization.pem(), &key()),
        Err(IssuingChainError::Authority(AuthorityError::KeyMismatch))
    ));
}

#[test]
fn an_authority_that_may_sign_leaves_only_is_refused() {
    let organization = Organization::with(
        |_| {},
        |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)),
    );
    assert!(matches!(
        organization.check(),
        Err(IssuingChainError::PathLength {
            index: 0,
            length: 0,
            needed: 1
        })
    ));
}

#[test]
fn a_root_that_others_would_find_too_short_is_refused() {
    let organization = Organization::with(
        |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1)),
        |_| {},
    );
    assert!(matches!(
        organization.check(),
        Err(IssuingChainError::PathLength {
            index: 1,
            length: 1,
            needed: 2
        })
    ));
}

#[test]
fn a_leaf_is_no_authority() {
    let organization = Organization::with(|_| {}, |params| params.is_ca = IsCa::NoCa);
    assert!(matches!(
        organization.check(),
        Err(IssuingChainError::Certificate {
            index: 0,
            reason: CertificateError::NotCa
        })
    ));
}

#[test]
fn an_authority_of_another_trust_domain_is_refused() {
    let other = |params: &mut CertificateParams| {
        params.subject_alt_names = vec![SanType::URI("spiffe://other".try_into().unwrap())];
    };
    assert!(matches!(
        Organization::with(|_| {}, other).check(),
        Err(IssuingChainError::OtherTrustDomain { index: 0, .. })
    ));
    assert!(matches!(
        Organization::with(other, |_| {}).check(),
        Err(IssuingChainError::OtherTrustDomain { index: 1, .. })
    ));
}

#[test]
fn an_authority_that_is_over_is_refused() {
    let organization = Organization::with(
        |_| {},
        |params| params.not_after = NOW - Duration::from_secs(1),
    );
    assert!(matches!(
        organization.check(),
        Err(IssuingChainError::NotNow { index: 0, .. })
    ));
}

#[test]
fn an_authority_that_another_root_signed_is_refused() {
    let (ours, other) = (Organization::new(), Organization::new());
    let mixed = pem(&[&ours.authority, &other.root]);
    assert!(matches!(
        check(&mixed, &ours.key),
        Err(IssuingChainError::Unbelievable(SvidError::Path { .. }))
    ));
}

#[test]
fn an_authority_for_servers_only_is_refused() {
    let organization = Organization::with(
        |_| {},
        |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth],
    );
    assert!(matches!(
        organization.check(),
        Err(IssuingChainError::Unbelievable(SvidError::Path { .. }))
    ));
}

#[test]
fn names_that_the_authority_may_not_give_are_found_before_it_is_used() {
    // permittedSubtrees: uniformResourceIdentifier `other`.
    let constraint = [
        0x30, 0x0b, 0xa0, 0x09, 0x30, 0x07, 0x86, 0x05, b'o', b't', b'h', b'e', b'r',
    ];
    let organization = Organization::with(
        |_| {},
        |params| {
            let mut names = CustomExtension::from_oid_content(&[2, 5, 29, 30], constraint.to_vec());
            names.set_criticality(true);
            params.custom_extensions = vec![names];
        },
    );
    assert!(matches!(
        organization.check(),
        Err(IssuingChainError::Unbelievable(SvidError::Path { .. }))
    ));
}

#[test]
fn a_good_chain_ends_with_whoever_ends_first() {
    let early = NOW + Duration::from_secs(3600);
    let organization = Organization::with(|_| {}, |params| params.not_after = early);
    let chain = organization.check().unwrap();
    assert_eq!(chain.validity().not_after(), early);
    assert_eq!(chain.above(), [organization.authority]);
    assert_eq!(chain.root().der(), &organization.root);
}

#[test]
fn a_root_alone_may_sign_for_a_mesh() {
    let key = key();
    let root = of_ca("root").self_signed(&key).unwrap();
    let chain = check(&pem(&[root.der()]), &key).unwrap();
    assert_eq!(chain.above().len(), 0);
}
