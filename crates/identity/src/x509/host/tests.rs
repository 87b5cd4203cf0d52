use crypto::signing::{ForeignKey, SigningKey};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    SanType,
};
use time::macros::datetime;

use super::*;

const NOW: OffsetDateTime = datetime!(2026-06-01 12:00 UTC);

/// A PKI of somebody's hosts: a root, and what it signs.
struct HostPki {
    root: String,
    issuer: Issuer<'static, KeyPair>,
}

impl HostPki {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap().pem();
        Self {
            root,
            issuer: Issuer::new(params, key),
        }
    }

    fn roots(&self) -> HostRoots {
        HostRoots::from_pem(self.root.as_bytes()).unwrap()
    }

    /// The certificate of host `web-7`, with what `change` did to it.
    fn host(&self, change: impl FnOnce(&mut CertificateParams)) -> (UnverifiedChain, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["web-7.hosts.example".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "web-7");
        params.not_before = datetime!(2026-01-01 00:00 UTC);
        params.not_after = datetime!(2027-01-01 00:00 UTC);
        change(&mut params);
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        (UnverifiedChain::from_der(vec![leaf.into()]).unwrap(), key)
    }
}

fn purpose(text: &str) -> KeyPurpose {
    text.parse().unwrap()
}

#[test]
fn a_host_of_another_authority_is_refused() {
    let (chain, _) = HostPki::new().host(|_| {});
    let refused = HostPki::new().roots().verify(&chain, None, NOW);
    assert!(matches!(refused, Err(HostError::Path(_))));
}

#[test]
fn a_certificate_that_has_ended_is_refused() {
    let pki = HostPki::new();
    let (chain, _) = pki.host(|_| {});
    let refused = pki
        .roots()
        .verify(&chain, None, datetime!(2027-01-02 00:00 UTC));
    assert!(matches!(refused, Err(HostError::Path(_))));
}

#[test]
fn an_authority_is_no_host() {
    let pki = HostPki::new();
    let (chain, _) = pki.host(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    let refused = pki.roots().verify(&chain, None, NOW);
    assert_eq!(refused.unwrap_err(), HostError::Leaf(CertificateError::Ca));
}

#[test]
fn a_certificate_limited_to_servers_is_refused() {
    let pki = HostPki::new();
    let (chain, _) = pki.host(|params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let refused = pki.roots().verify(&chain, None, NOW);
    assert!(matches!(refused, Err(HostError::Path(_))));
}

#[test]
fn a_purpose_that_is_asked_for_must_be_listed() {
    let pki = HostPki::new();
    let (chain, _) = pki.host(|_| {});
    let wanted = purpose("1.3.6.1.4.1.99999.7");
    let refused = pki.roots().verify(&chain, Some(&wanted), NOW);
    assert_eq!(refused.unwrap_err(), HostError::Purpose(wanted));
}

#[test]
fn a_listed_purpose_is_enough() {
    let pki = HostPki::new();
    let (chain, _) = pki.host(|params| {
        let own = ExtendedKeyUsagePurpose::Other(vec![1, 3, 6, 1, 4, 1, 99999, 7]);
        params.extended_key_usages = vec![own];
    });
    let wanted = purpose("1.3.6.1.4.1.99999.7");
    let verified = pki.roots().verify(&chain, Some(&wanted), NOW);
    assert_eq!(verified.unwrap().common_names(), ["web-7"]);
}

#[test]
fn the_names_of_a_host_are_those_of_its_certificate() {
    let pki = HostPki::new();
    let (chain, _) = pki.host(|params| {
        let uri = "spiffe://td.test/ns/a/sa/b".try_into().unwrap();
        params.subject_alt_names.push(SanType::URI(uri));
    });
    let host = pki.roots().verify(&chain, None, NOW).unwrap();
    assert_eq!(host.common_names(), ["web-7"]);
    assert_eq!(host.dns_names(), ["web-7.hosts.example"]);
    assert_eq!(host.uris(), ["spiffe://td.test/ns/a/sa/b"]);
    assert_eq!(host.fingerprint(), Sha256::of(&chain.certificates()[0]));
}

#[test]
fn only_the_hosts_own_key_signs_for_it() {
    let pki = HostPki::new();
    let (chain, key) = pki.host(|_| {});
    let host = pki.roots().verify(&chain, None, NOW).unwrap();
    let own = ForeignKey::from_pem(key.serialize_pem().as_bytes()).unwrap();
    let other = KeyPair::generate().unwrap().serialize_pem();
    let other = ForeignKey::from_pem(other.as_bytes()).unwrap();
    let verify = |key: &ForeignKey| {
        let signed = key.sign(b"m").unwrap();
        host.verify(signed.scheme, b"m", &signed.signature)
    };
    assert_eq!(verify(&other), Err(BadSignature));
    assert_eq!(verify(&own), Ok(()));
}

#[test]
fn a_scheme_of_another_key_is_refused() {
    let pki = HostPki::new();
    let (chain, key) = pki.host(|_| {});
    let host = pki.roots().verify(&chain, None, NOW).unwrap();
    let own = ForeignKey::from_pem(key.serialize_pem().as_bytes()).unwrap();
    let signed = own.sign(b"m").unwrap();
    const RSA_PSS_SHA256: u16 = 0x0804;
    for scheme in [0, RSA_PSS_SHA256] {
        let judged = host.verify(scheme, b"m", &signed.signature);
        assert_eq!(judged, Err(BadSignature), "{scheme}");
    }
}

#[test]
fn files_without_authorities_are_refused() {
    assert!(matches!(
        HostRoots::from_pem(b""),
        Err(HostRootsError::Empty)
    ));
    let key = SigningKey::generate();
    let broken = format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        data_encoding::BASE64.encode(key.public_key().spki())
    );
    assert!(matches!(
        HostRoots::from_pem(broken.as_bytes()),
        Err(HostRootsError::Certificate { index: 0, .. })
    ));
}

#[test]
fn words_that_are_no_purpose_are_refused() {
    for text in ["", "server", "1.x", "clientAuth"] {
        assert_eq!(text.parse::<KeyPurpose>(), Err(KeyPurposeError), "{text}");
    }
    assert_eq!(purpose("client-auth"), purpose("1.3.6.1.5.5.7.3.2"));
}
