use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;

use super::*;
use crate::x509::fixture::{Mesh, serial, validity};

#[track_caller]
fn refused(change: impl FnOnce(&mut LeafSpec), expected: &IssueError) {
    let mesh = Mesh::new("td");
    let mut spec = mesh.spec(&SigningKey::generate());
    change(&mut spec);
    assert_eq!(&mesh.replica.issue(&spec).unwrap_err(), expected);
}

fn id(text: &str) -> SpiffeId {
    text.parse().unwrap()
}

/// The identifiers of the subject's and of the issuer's key.
fn key_ids(certificate: &X509Certificate<'_>) -> (Vec<u8>, Vec<u8>) {
    let (mut subject, mut issuer) = (Vec::new(), Vec::new());
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(key) => subject = key.0.to_vec(),
            ParsedExtension::AuthorityKeyIdentifier(key) => {
                issuer = key.key_identifier.as_ref().unwrap().0.to_vec();
            }
            _ => {}
        }
    }
    (subject, issuer)
}

#[test]
fn an_id_of_another_trust_domain_is_not_issued() {
    let spiffe_id = id("spiffe://other/a");
    let expected = IssueError::OtherTrustDomain {
        spiffe_id: spiffe_id.clone(),
    };
    refused(|spec| spec.spiffe_id = spiffe_id, &expected);
}

#[test]
fn requirement_26_a_leaf_without_a_path_is_not_issued() {
    refused(
        |spec| spec.spiffe_id = id("spiffe://td"),
        &IssueError::NoPath,
    );
}

#[test]
fn a_leaf_never_reaches_beyond_its_issuer() {
    refused(
        |spec| spec.validity = validity(1, 601),
        &IssueError::OutsideIssuer,
    );
    refused(
        |spec| spec.validity = validity(601, 60),
        &IssueError::OutsideIssuer,
    );
}

#[test]
fn an_intermediate_never_reaches_beyond_its_root_and_its_name_is_plain() {
    let mesh = Mesh::new("td");
    let key = SigningKey::generate();
    let sign = |replica: &str, validity| {
        let public_key = key.public_key();
        mesh.root
            .sign_intermediate(replica, public_key, validity, serial())
    };
    assert_eq!(
        sign("ca-1", validity(1, 9001)).unwrap_err(),
        IssueError::OutsideIssuer
    );
    for replica in ["", "a/b", "a b", &"a".repeat(65)] {
        assert_eq!(
            sign(replica, validity(1, 60)).unwrap_err(),
            IssueError::Replica
        );
    }
}

#[test]
fn a_certificate_of_another_kind_or_key_is_no_authority() {
    let mesh = Mesh::new("td");
    let key = SigningKey::generate();
    let leaf = mesh.replica.issue(&mesh.spec(&key)).unwrap().certificate;
    assert!(matches!(
        Authority::load(leaf, key.clone()),
        Err(AuthorityError::Certificate(CertificateError::Path))
    ));
    assert!(matches!(
        Authority::load(mesh.root.certificate().clone(), key),
        Err(AuthorityError::KeyMismatch)
    ));
}

#[test]
fn a_leaf_has_what_the_standard_asks_for() {
    let mesh = Mesh::new("td");
    let issued = mesh
        .replica
        .issue(&mesh.spec(&SigningKey::generate()))
        .unwrap();
    let (_, leaf) = X509Certificate::from_der(&issued.certificate).unwrap();
    let (_, issuer) = X509Certificate::from_der(mesh.replica.certificate()).unwrap();
    let names = leaf.subject_alternative_name().unwrap().unwrap();
    assert_eq!(leaf.subject().iter().count(), 0);
    assert!(names.critical, "requirement 27");
    assert_eq!(names.value.general_names.len(), 2);
    assert!(
        !leaf.basic_constraints().unwrap().unwrap().value.ca,
        "requirement 34"
    );
    assert!(
        leaf.key_usage().unwrap().unwrap().critical,
        "requirement 38"
    );
    assert_eq!(
        leaf.key_usage().unwrap().unwrap().value.flags,
        1,
        "requirements 40, 42"
    );
    let roles = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(roles.server_auth && roles.client_auth, "requirement 44");
    assert_eq!(key_ids(&leaf).1, key_ids(&issuer).0);
    assert_eq!(leaf.raw_serial().len(), 16);
}

#[test]
fn signing_certificates_carry_the_trust_domain_and_sign_only() {
    let mesh = Mesh::new("td");
    for (authority, depth) in [(&mesh.root, None), (&mesh.replica, Some(0))] {
        let (_, certificate) = X509Certificate::from_der(authority.certificate()).unwrap();
        let constraints = certificate.basic_constraints().unwrap().unwrap();
        assert!(
            constraints.critical && constraints.value.ca,
            "requirement 33"
        );
        assert_eq!(constraints.value.path_len_constraint, depth);
        let usage = certificate.key_usage().unwrap().unwrap();
        assert!(
            usage.critical && usage.value.key_cert_sign(),
            "requirements 38, 39"
        );
        assert!(usage.value.crl_sign() && !usage.value.digital_signature());
        let names = certificate.subject_alternative_name().unwrap().unwrap();
        assert_eq!(
            names.value.general_names,
            [x509_parser::extensions::GeneralName::URI("spiffe://td")],
            "requirement 29"
        );
    }
}

#[test]
fn each_authority_has_a_name_of_its_own() {
    let (one, two) = (Mesh::new("td"), Mesh::new("td"));
    let mut subjects = Vec::new();
    for authority in [&one.root, &one.replica, &two.root, &two.replica] {
        let (_, certificate) = X509Certificate::from_der(authority.certificate()).unwrap();
        subjects.push(certificate.subject().as_raw().to_vec());
    }
    subjects.sort_unstable();
    subjects.dedup();
    assert_eq!(subjects.len(), 4);
}

#[test]
fn debug_shows_no_key() {
    let mesh = Mesh::new("td");
    assert!(!format!("{:?}", mesh.root).contains("issuer"));
}
