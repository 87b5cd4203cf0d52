//! A signing authority: a CA certificate with its private key, and what it signs.
//!
//! Invariant: what leaves it obeys X509-SVID.md for its kind, lies in the authority's own trust
//! domain and within the authority's own life. Nothing of a request but the public key goes in;
//! subject, names, usages and lifetime come from the caller.

use crypto::digest::Sha256;
use crypto::signing::{CertificateKey, PublicKey, SigningKey};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyUsagePurpose, SanType,
};
use rustls_pki_types::CertificateDer;
use thiserror::Error;

use super::certificate::CertificateError;
use super::root::SigningFacts;
use crate::dns_name::DnsName;
use crate::serial::SerialNumber;
use crate::spiffe_id::SpiffeId;
use crate::trust_domain::TrustDomain;
use crate::validity::Validity;

/// The longest organizationalUnitName (RFC 5280, appendix A.1, ub-organizational-unit-name).
const MAX_REPLICA: usize = 64;

/// A CA certificate and its key, loaded once; signing neither parses nor loads anything again.
pub struct Authority {
    certificate: CertificateDer<'static>,
    trust_domain: TrustDomain,
    validity: Validity,
    issuer: Issuer<'static, CertificateKey>,
}

/// What the CA decided to certify.
#[derive(Debug, Clone)]
pub struct LeafSpec {
    pub spiffe_id: SpiffeId,
    pub public_key: PublicKey,
    /// Within the authority's; see [`Validity::clamp_to`].
    pub validity: Validity,
    pub serial: SerialNumber,
    pub dns_names: Vec<DnsName>,
}

/// A leaf as it was signed.
#[derive(Debug, Clone)]
pub struct IssuedLeaf {
    pub certificate: CertificateDer<'static>,
    /// SHA-256 of the DER.
    pub digest: Sha256,
}

impl Authority {
    /// A self-signed root for `trust_domain`. Its path length is not constrained: an intermediate
    /// for the mesh may stand between it and the replicas.
    pub fn new_root(
        trust_domain: &TrustDomain,
        key: impl Into<CertificateKey>,
        validity: Validity,
        serial: SerialNumber,
    ) -> Result<Self, AuthorityError> {
        let key = key.into();
        let subject = authority_name("root", serial, None);
        let depth = BasicConstraints::Unconstrained;
        let params = authority_params(trust_domain, subject, validity, serial, depth)?;
        let certificate = params.self_signed(&key)?;
        Self::load(certificate.into(), key)
    }

    /// An authority made earlier. The certificate must be one that an authority of ours has: a CA
    /// with the ID of its trust domain, and the key must be its own.
    pub fn load(
        certificate: CertificateDer<'static>,
        key: impl Into<CertificateKey>,
    ) -> Result<Self, AuthorityError> {
        let facts = SigningFacts::check(&certificate)?;
        let trust_domain = facts.trust_domain.ok_or(AuthorityError::NoSpiffeId)?;
        Self::load_upstream(certificate, key, &trust_domain)
    }

    /// An authority that others made: its certificate need not name a trust domain.
    pub(super) fn load_upstream(
        certificate: CertificateDer<'static>,
        key: impl Into<CertificateKey>,
        trust_domain: &TrustDomain,
    ) -> Result<Self, AuthorityError> {
        let key = key.into();
        let facts = SigningFacts::check(&certificate)?;
        if facts.public_key != key.spki() {
            return Err(AuthorityError::KeyMismatch);
        }
        Ok(Self {
            issuer: Issuer::from_ca_cert_der(&certificate, key)?,
            certificate,
            trust_domain: trust_domain.clone(),
            validity: facts.validity,
        })
    }

    /// The certificate of a replica's own authority: its leaves only, no further authorities.
    /// `replica` goes into the subject, for people to read.
    pub fn sign_intermediate(
        &self,
        replica: &str,
        public_key: &PublicKey,
        validity: Validity,
        serial: SerialNumber,
    ) -> Result<CertificateDer<'static>, IssueError> {
        self.sign_authority(("intermediate", replica, 0), public_key, validity, serial)
    }

    /// The certificate of an authority for another instance of the mesh's CA, which signs its
    /// replicas' authorities with it. `name` goes into the subject, for people to read.
    pub fn sign_mesh_authority(
        &self,
        name: &str,
        public_key: &PublicKey,
        validity: Validity,
        serial: SerialNumber,
    ) -> Result<CertificateDer<'static>, IssueError> {
        self.sign_authority(("mesh authority", name, 1), public_key, validity, serial)
    }

    fn sign_authority(
        &self,
        (kind, name, path_length): (&str, &str, u8),
        public_key: &PublicKey,
        validity: Validity,
        serial: SerialNumber,
    ) -> Result<CertificateDer<'static>, IssueError> {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if !(1..=MAX_REPLICA).contains(&name.len()) || !name.bytes().all(is_name) {
            return Err(IssueError::Replica);
        }
        self.check_within(&validity)?;
        let subject = authority_name(kind, serial, Some(name));
        let depth = BasicConstraints::Constrained(path_length);
        let mut params = authority_params(&self.trust_domain, subject, validity, serial, depth)?;
        params.use_authority_key_identifier_extension = true;
        Ok(params.signed_by(public_key, &self.issuer)?.into())
    }

    pub fn issue(&self, spec: &LeafSpec) -> Result<IssuedLeaf, IssueError> {
        // Requirement 30: an authority signs for its own trust domain alone.
        if spec.spiffe_id.trust_domain() != &self.trust_domain {
            let spiffe_id = spec.spiffe_id.clone();
            return Err(IssueError::OtherTrustDomain { spiffe_id });
        }
        // Requirement 26.
        if spec.spiffe_id.path().is_empty() {
            return Err(IssueError::NoPath);
        }
        self.check_within(&spec.validity)?;
        let certificate = leaf_params(spec)?.signed_by(&spec.public_key, &self.issuer)?;
        let certificate = CertificateDer::from(certificate);
        let digest = Sha256::of(&certificate);
        Ok(IssuedLeaf {
            certificate,
            digest,
        })
    }

    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    pub fn validity(&self) -> &Validity {
        &self.validity
    }

    pub(super) fn issuer(&self) -> &Issuer<'static, CertificateKey> {
        &self.issuer
    }

    fn check_within(&self, validity: &Validity) -> Result<(), IssueError> {
        let begins_early = validity.not_before() < self.validity.not_before();
        if begins_early || validity.not_after() > self.validity.not_after() {
            return Err(IssueError::OutsideIssuer);
        }
        Ok(())
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("trust_domain", &self.trust_domain)
            .field("validity", &self.validity)
            .field("certificate", &Sha256::of(&self.certificate))
            .finish_non_exhaustive()
    }
}

/// Why a certificate and a key make no authority.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AuthorityError {
    #[error("the certificate of the authority is refused: {0}")]
    Certificate(#[from] CertificateError),
    #[error("the certificate of the authority has no SPIFFE ID")]
    NoSpiffeId,
    #[error("the private key does not belong to the certificate of the authority")]
    KeyMismatch,
    #[error("could not make the certificate of the authority")]
    Encoding(#[from] rcgen::Error),
}

/// Why an authority does not sign.
#[derive(Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum IssueError {
    #[error("{spiffe_id} lies outside the trust domain of the authority")]
    OtherTrustDomain { spiffe_id: SpiffeId },
    #[error("the SPIFFE ID of a leaf has a path")]
    NoPath,
    #[error("the validity is not within that of the authority")]
    OutsideIssuer,
    #[error("the name of a replica is 1 to 64 of A-Z, a-z, 0-9, '.', '-' and '_'")]
    Replica,
    #[error("could not make the certificate")]
    Encoding(#[from] rcgen::Error),
}

/// A certification request (PKCS#10, DER) for an authority that signs the mesh's own: what is asked
/// for stands in it, for whoever signs to compare with what they mean to give.
///
/// # Errors
/// It cannot be encoded.
pub fn authority_request(
    trust_domain: &TrustDomain,
    key: &SigningKey,
) -> Result<Vec<u8>, AuthorityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let name = format!("mesh authority of {trust_domain}");
    params
        .distinguished_name
        .push(DnType::OrganizationName, "Countersign");
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names = vec![SanType::URI(trust_domain.id().try_into()?)];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params.serialize_request(key)?.der().to_vec())
}

/// Unique by its serial number: validators that build paths by name alone then never have to try
/// several authorities of one name.
pub(super) fn authority_name(
    kind: &str,
    serial: SerialNumber,
    replica: Option<&str>,
) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "Countersign");
    if let Some(replica) = replica {
        name.push(DnType::OrganizationalUnitName, replica);
    }
    name.push(DnType::CommonName, format!("{kind} {serial}"));
    name
}

pub(super) fn authority_params(
    trust_domain: &TrustDomain,
    subject: DistinguishedName,
    validity: Validity,
    serial: SerialNumber,
    depth: BasicConstraints,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = base_params(validity, serial);
    params.distinguished_name = subject;
    // Requirements 28, 29: exactly the trust domain.
    params.subject_alt_names = vec![SanType::URI(trust_domain.id().try_into()?)];
    // Requirements 33, 39; rcgen marks key usage critical (38).
    params.is_ca = IsCa::Ca(depth);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// The subject stays empty, so that nothing outside the SAN could be taken for a name; rcgen then
/// marks the SAN critical (requirement 27).
pub(super) fn leaf_params(spec: &LeafSpec) -> Result<CertificateParams, rcgen::Error> {
    let mut params = base_params(spec.validity, spec.serial);
    // Requirements 23, 25: one URI, and beside it what the registry says.
    let mut names = vec![SanType::URI(spec.spiffe_id.as_str().try_into()?)];
    for name in &spec.dns_names {
        names.push(SanType::DnsName(name.as_str().try_into()?));
    }
    params.subject_alt_names = names;
    // Requirement 34, said aloud: without the extension some validators refuse the SVID.
    params.is_ca = IsCa::ExplicitNoCa;
    // Requirements 40, 42.
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // Requirements 43, 44.
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn base_params(validity: Validity, serial: SerialNumber) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = validity.not_before();
    params.not_after = validity.not_after();
    params.serial_number = Some(rcgen::SerialNumber::from_slice(serial.as_bytes()));
    params.key_identifier_method = KeyIdMethod::Sha256;
    params
}

#[cfg(test)]
mod tests;
