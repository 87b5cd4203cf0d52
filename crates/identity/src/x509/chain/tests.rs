use crypto::signing::SigningKey;
use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CustomExtension, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType,
};

use super::*;
use crate::spiffe_id::SpiffeIdError;
use crate::x509::fixture::{Mesh, NOW, validity};
use crate::x509::{Bundle, X509Svid};

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

#[track_caller]
fn leaf_refused(change: impl FnOnce(&mut rcgen::CertificateParams), expected: CertificateError) {
    let mesh = Mesh::new("td");
    let refusal = mesh.forged_leaf(change).verify(&mesh.bundles(), NOW);
    assert_eq!(refusal.unwrap_err(), SvidError::Leaf(expected));
}

#[track_caller]
fn path_refused(chain: UnverifiedChain, bundles: &BundleSet, expected: &webpki::Error) {
    match chain.verify(bundles, NOW).unwrap_err() {
        SvidError::Path { reason, .. } => assert_eq!(&reason, expected),
        other => panic!("{other:?}"),
    }
}

fn good() -> (Mesh, UnverifiedChain) {
    let mesh = Mesh::new("td");
    let chain = mesh.chain(&mesh.spec(&SigningKey::generate()));
    (mesh, UnverifiedChain::from_der(chain).unwrap())
}

#[test]
fn requirement_24_more_or_less_than_one_uri_name_is_refused() {
    leaf_refused(
        |params| params.subject_alt_names.push(uri("https://example.org")),
        CertificateError::UriSanCount { count: 2 },
    );
    leaf_refused(
        |params| drop(params.subject_alt_names.remove(0)),
        CertificateError::UriSanCount { count: 0 },
    );
}

#[test]
fn a_second_san_extension_is_refused() {
    let empty_names = CustomExtension::from_oid_content(&[2, 5, 29, 17], vec![0x30, 0]);
    leaf_refused(
        |params| params.custom_extensions.push(empty_names),
        CertificateError::Extension("subjectAltName"),
    );
}

#[test]
fn requirement_49_an_id_of_another_scheme_is_refused() {
    leaf_refused(
        |params| params.subject_alt_names[0] = uri("https://td/ns/shop/sa/orders"),
        CertificateError::SpiffeId(SpiffeIdError::Scheme),
    );
}

#[test]
fn requirement_50_a_leaf_id_without_a_path_is_refused() {
    leaf_refused(
        |params| params.subject_alt_names[0] = uri("spiffe://td"),
        CertificateError::NoPath,
    );
}

#[test]
fn requirement_47_a_ca_is_no_leaf() {
    leaf_refused(
        |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
        CertificateError::Ca,
    );
}

#[test]
fn requirement_31_a_signing_certificate_authenticates_nobody() {
    let mesh = Mesh::new("td");
    for authority in [&mesh.root, &mesh.replica] {
        let chain = UnverifiedChain::from_der(vec![authority.certificate().clone()]).unwrap();
        let refusal = chain.verify(&mesh.bundles(), NOW).unwrap_err();
        assert_eq!(refusal, SvidError::Leaf(CertificateError::NoPath));
    }
}

#[test]
fn requirement_48_a_leaf_that_may_sign_is_refused() {
    leaf_refused(
        |params| params.key_usages.push(KeyUsagePurpose::KeyCertSign),
        CertificateError::SigningUsage("keyCertSign"),
    );
    leaf_refused(
        |params| params.key_usages.push(KeyUsagePurpose::CrlSign),
        CertificateError::SigningUsage("cRLSign"),
    );
}

#[test]
fn requirements_37_38_40_key_usage_is_present_critical_and_signs() {
    leaf_refused(
        |params| params.key_usages.clear(),
        CertificateError::NoKeyUsage,
    );
    leaf_refused(
        |params| params.key_usages = vec![KeyUsagePurpose::KeyAgreement],
        CertificateError::NoDigitalSignature,
    );
    let not_critical = CustomExtension::from_oid_content(&[2, 5, 29, 15], vec![3, 2, 7, 0x80]);
    leaf_refused(
        |params| {
            params.key_usages.clear();
            params.custom_extensions.push(not_critical);
        },
        CertificateError::KeyUsageNotCritical,
    );
}

#[test]
fn requirement_44_one_role_alone_is_refused() {
    for role in [
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ] {
        leaf_refused(
            |params| params.extended_key_usages = vec![role],
            CertificateError::ExtendedKeyUsage,
        );
    }
    let mesh = Mesh::new("td");
    let chain = mesh.forged_leaf(|params| params.extended_key_usages.clear());
    assert!(chain.verify(&mesh.bundles(), NOW).is_ok());
}

#[test]
fn requirement_51_only_the_bundle_of_the_own_trust_domain_counts() {
    let (mine, theirs) = (Mesh::new("td"), Mesh::new("other"));
    let impostor = theirs.forged_leaf(|params| {
        params.subject_alt_names[0] = uri("spiffe://td/ns/shop/sa/orders");
    });
    let both = mine.bundles().with(theirs.bundle());
    path_refused(impostor.clone(), &both, &webpki::Error::UnknownIssuer);
    assert_eq!(
        impostor.verify(&theirs.bundles(), NOW).unwrap_err(),
        SvidError::NoBundle {
            trust_domain: mine.domain
        }
    );
}

#[test]
fn requirement_89_a_bundle_without_roots_trusts_nothing() {
    let (mesh, chain) = good();
    let trust_domain = mesh.domain.clone();
    let empty = Bundle::new(mesh.domain, 2, vec![]).unwrap();
    assert_eq!(
        chain.verify(&empty.into(), NOW).unwrap_err(),
        SvidError::NoValidRoot { trust_domain }
    );
}

#[test]
fn a_certificate_outside_its_time_is_refused() {
    let (mesh, chain) = good();
    let (not_before, not_after) = (validity(1, 60).not_before(), validity(1, 60).not_after());
    let moment = Duration::from_nanos(1);
    assert_eq!(
        chain
            .clone()
            .verify(&mesh.bundles(), not_after + moment)
            .unwrap_err(),
        SvidError::Expired { not_after }
    );
    assert_eq!(
        chain
            .clone()
            .verify(&mesh.bundles(), not_before - moment)
            .unwrap_err(),
        SvidError::NotYetValid { not_before }
    );
    assert!(chain.verify(&mesh.bundles(), not_after).is_ok());
}

#[test]
fn an_expired_root_ends_its_trust() {
    let mesh = Mesh::new("td");
    let chain = mesh.forged_leaf(|params| params.not_after = NOW + Duration::from_secs(9_000_000));
    let late = NOW + Duration::from_secs(60 * 9001);
    let trust_domain = mesh.domain.clone();
    assert_eq!(
        chain.verify(&mesh.bundles(), late).unwrap_err(),
        SvidError::NoValidRoot { trust_domain }
    );
}

#[test]
fn an_intermediate_that_may_not_sign_is_refused() {
    let mesh = Mesh::new("td");
    let refused = |chain: UnverifiedChain| chain.verify(&mesh.bundles(), NOW).unwrap_err();
    assert_eq!(
        refused(mesh.forged_intermediate(|params| {
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        })),
        SvidError::Intermediate(CertificateError::NoCertificateSigning)
    );
    assert_eq!(
        refused(mesh.forged_intermediate(|params| params.key_usages.clear())),
        SvidError::Intermediate(CertificateError::NoKeyUsage)
    );
    assert_eq!(
        refused(mesh.forged_intermediate(|params| {
            params.subject_alt_names = vec![uri("spiffe://td/ns/shop/sa/orders")];
        })),
        SvidError::Intermediate(CertificateError::Path)
    );
    path_refused(
        mesh.forged_intermediate(|params| params.is_ca = IsCa::ExplicitNoCa),
        &mesh.bundles(),
        &webpki::Error::EndEntityUsedAsCa,
    );
    assert!(
        mesh.forged_intermediate(|_| ())
            .verify(&mesh.bundles(), NOW)
            .is_ok()
    );
}

#[test]
fn an_intermediate_limited_to_one_role_is_refused() {
    let mesh = Mesh::new("td");
    let chain = mesh.forged_intermediate(|params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    let refusal = chain.verify(&mesh.bundles(), NOW).unwrap_err();
    assert!(matches!(
        refusal,
        SvidError::Path {
            reason: webpki::Error::RequiredEkuNotFoundContext(_),
            ..
        }
    ));
}

#[test]
fn a_chain_without_its_intermediate_is_refused() {
    let (mesh, chain) = good();
    let leaf = chain.certificates()[0].clone();
    let alone = UnverifiedChain::from_der(vec![leaf]).unwrap();
    path_refused(alone, &mesh.bundles(), &webpki::Error::UnknownIssuer);
}

#[test]
fn a_chain_that_ends_with_its_root_is_accepted() {
    let (mesh, chain) = good();
    let mut certificates = chain.certificates().to_vec();
    certificates.push(mesh.root.certificate().clone());
    let chain = UnverifiedChain::from_der(certificates).unwrap();
    assert!(chain.verify(&mesh.bundles(), NOW).is_ok());
}

#[test]
fn empty_long_and_large_chains_are_not_read() {
    let some = CertificateDer::from(vec![0; 10]);
    let large = CertificateDer::from(vec![0; 65_537]);
    let refused = |certificates| UnverifiedChain::from_der(certificates).unwrap_err();
    assert_eq!(refused(vec![]), ChainError::Empty);
    assert_eq!(
        refused(vec![some; 11]),
        ChainError::TooManyCertificates { count: 11 }
    );
    assert_eq!(refused(vec![large]), ChainError::TooLarge { bytes: 65_537 });
}

#[test]
fn concatenated_certificates_are_told_apart() {
    let (mesh, chain) = good();
    let parts: Vec<_> = chain.certificates().iter().map(AsRef::as_ref).collect();
    let mut bytes = parts.concat();
    let read = UnverifiedChain::from_concatenated_der(&bytes).unwrap();
    assert_eq!(read.certificates(), chain.certificates());
    assert!(read.verify(&mesh.bundles(), NOW).is_ok());
    let offset = bytes.len();
    bytes.push(0x30);
    assert_eq!(
        UnverifiedChain::from_concatenated_der(&bytes).unwrap_err(),
        ChainError::Malformed { offset }
    );
    assert_eq!(
        UnverifiedChain::from_concatenated_der(&[]).unwrap_err(),
        ChainError::Empty
    );
}

#[test]
fn evidence_holds_no_longer_than_any_certificate_of_its_path() {
    let mesh = Mesh::new("td");
    let soon = NOW + Duration::from_secs(60);
    let chain = mesh.forged_intermediate(|params| params.not_after = soon);
    let svid = chain.verify(&mesh.bundles(), NOW).unwrap();
    assert!(svid.holds_at(soon));
    assert!(!svid.holds_at(soon + Duration::from_secs(1)));
    assert!(!svid.holds_at(svid.validity().not_before() - Duration::from_secs(1)));
}

#[test]
fn evidence_says_what_was_issued() {
    let mesh = Mesh::new("td");
    let key = SigningKey::generate();
    let spec = mesh.spec(&key);
    let chain = mesh.chain(&spec);
    let digest = Sha256::of(&chain[0]);
    let svid = UnverifiedChain::from_der(chain)
        .unwrap()
        .verify(&mesh.bundles(), NOW)
        .unwrap();
    assert_eq!(svid.spiffe_id(), &spec.spiffe_id);
    assert_eq!(
        (svid.serial(), *svid.validity()),
        (spec.serial, spec.validity)
    );
    assert_eq!(
        (svid.leaf_digest(), svid.public_key()),
        (digest, key.public_key())
    );
}

#[test]
fn an_expired_svid_serves_a_reattestation_for_a_while_only() {
    let (mesh, chain) = good();
    let not_after = validity(1, 60).not_after();
    let hour = Duration::from_secs(3600);
    let at = |now| chain.clone().verify_expired(&mesh.bundles(), now, hour);
    assert_eq!(
        at(not_after + hour + Duration::from_secs(1)).unwrap_err(),
        SvidError::ExpiredTooLongAgo { not_after }
    );
    assert!(at(not_after + hour).is_ok() && at(NOW).is_ok());
}

#[test]
fn an_expired_svid_of_another_authority_serves_nothing() {
    let (_, chain) = good();
    let stranger = Mesh::new("td");
    let late = validity(1, 60).not_after() + Duration::from_secs(1);
    let refusal = chain.verify_expired(&stranger.bundles(), late, Duration::from_secs(60));
    assert!(matches!(refusal, Err(SvidError::Path { .. })));
}

#[test]
fn a_key_of_another_certificate_makes_no_svid() {
    let (mesh, chain) = good();
    let svid = chain.verify(&mesh.bundles(), NOW).unwrap();
    let spiffe_id = svid.spiffe_id().clone();
    let refusal = X509Svid::try_new(svid, SigningKey::generate()).unwrap_err();
    assert_eq!(refusal.spiffe_id, spiffe_id);
}

proptest! {
    #[test]
    fn no_changed_bit_of_a_leaf_is_accepted(position: prop::sample::Index, bit in 0u8..8) {
        let (mesh, chain) = GOOD.with(Clone::clone);
        let mut leaf = chain[0].to_vec();
        let index = position.index(leaf.len());
        leaf[index] ^= 1 << bit;
        let chain = vec![CertificateDer::from(leaf), chain[1].clone()];
        prop_assert!(UnverifiedChain::from_der(chain).unwrap().verify(&mesh, NOW).is_err());
    }

    #[test]
    fn no_bytes_make_a_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let (mesh, chain) = GOOD.with(Clone::clone);
        let _ = UnverifiedChain::from_concatenated_der(&bytes);
        let mut spliced = chain[0][..chain[0].len() - 200].to_vec();
        spliced.extend(bytes);
        let chain = UnverifiedChain::from_der(vec![CertificateDer::from(spliced)]).unwrap();
        prop_assert!(chain.verify(&mesh, NOW).is_err());
    }
}

thread_local! {
    static GOOD: (BundleSet, Vec<CertificateDer<'static>>) = {
        let (mesh, chain) = good();
        (mesh.bundles(), chain.0)
    };
}
