//! One certificate, read strictly. The rules for leaves are in `leaf`, those for authorities in
//! `root`; both ask this view, which answers with an error where an extension is malformed or
//! stands twice, never with "absent".

use crypto::digest::Sha256;
use crypto::signing::KeyError;
use rustls_pki_types::CertificateDer;
use thiserror::Error;
use x509_parser::asn1_rs::oid;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{
    BasicConstraints, GeneralName, KeyUsage, ParsedExtension, X509Extension,
};
use x509_parser::oid_registry::{
    OID_X509_EXT_BASIC_CONSTRAINTS, OID_X509_EXT_EXTENDED_KEY_USAGE, OID_X509_EXT_KEY_USAGE,
    OID_X509_EXT_SUBJECT_ALT_NAME, OID_X509_EXT_SUBJECT_KEY_IDENTIFIER, Oid,
};
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::serial::{SerialNumber, SerialNumberError};
use crate::spiffe_id::{SpiffeId, SpiffeIdError};
use crate::validity::{Validity, ValidityError};

pub(super) const OID_KP_CLIENT_AUTH: Oid<'static> = oid!(1.3.6.1.5.5.7.3.2);

pub(super) struct Certificate<'a>(X509Certificate<'a>);

/// Names of a subject that a mesh did not give.
#[derive(Debug, Default)]
pub(super) struct AlternativeNames<'a> {
    pub(super) dns: Vec<&'a str>,
    pub(super) uris: Vec<&'a str>,
}

impl<'a> Certificate<'a> {
    pub(super) fn parse(der: &'a [u8]) -> Result<Self, CertificateError> {
        match X509Certificate::from_der(der) {
            Ok(([], certificate)) => Ok(Self(certificate)),
            Ok((rest, _)) => Err(CertificateError::TrailingData { bytes: rest.len() }),
            Err(_) => Err(CertificateError::Malformed),
        }
    }

    pub(super) fn serial(&self) -> Result<SerialNumber, CertificateError> {
        let bytes = self.0.raw_serial();
        if bytes.first().is_some_and(|octet| octet & 0x80 != 0) {
            return Err(CertificateError::NegativeSerial);
        }
        Ok(SerialNumber::from_bytes(bytes)?)
    }

    pub(super) fn validity(&self) -> Result<Validity, CertificateError> {
        let validity = self.0.validity();
        Ok(Validity::try_new(
            validity.not_before.to_datetime(),
            validity.not_after.to_datetime(),
        )?)
    }

    /// SubjectPublicKeyInfo, DER.
    pub(super) fn public_key(&self) -> &[u8] {
        self.0.public_key().raw
    }

    pub(super) fn parsed_key(&self) -> &SubjectPublicKeyInfo<'_> {
        self.0.public_key()
    }

    pub(super) fn is_ca(&self) -> Result<bool, CertificateError> {
        match self.extension(&OID_X509_EXT_BASIC_CONSTRAINTS, "basicConstraints")? {
            None => Ok(false),
            Some(extension) => match extension.parsed_extension() {
                ParsedExtension::BasicConstraints(BasicConstraints { ca, .. }) => Ok(*ca),
                _ => Err(CertificateError::Extension("basicConstraints")),
            },
        }
    }

    /// How many authorities may stand below it, where it says (RFC 5280 §4.2.1.9).
    pub(super) fn path_length(&self) -> Result<Option<u32>, CertificateError> {
        match self.extension(&OID_X509_EXT_BASIC_CONSTRAINTS, "basicConstraints")? {
            None => Ok(None),
            Some(extension) => match extension.parsed_extension() {
                ParsedExtension::BasicConstraints(constraints) => {
                    Ok(constraints.path_len_constraint)
                }
                _ => Err(CertificateError::Extension("basicConstraints")),
            },
        }
    }

    /// The usages, and whether the extension is critical.
    pub(super) fn key_usage(&self) -> Result<Option<(&KeyUsage, bool)>, CertificateError> {
        match self.extension(&OID_X509_EXT_KEY_USAGE, "keyUsage")? {
            None => Ok(None),
            Some(extension) => match extension.parsed_extension() {
                ParsedExtension::KeyUsage(usage) => Ok(Some((usage, extension.critical))),
                _ => Err(CertificateError::Extension("keyUsage")),
            },
        }
    }

    /// Whether both serverAuth and clientAuth are allowed; none if the extension is absent.
    pub(super) fn allows_both_roles(&self) -> Result<Option<bool>, CertificateError> {
        match self.extension(&OID_X509_EXT_EXTENDED_KEY_USAGE, "extKeyUsage")? {
            None => Ok(None),
            Some(extension) => match extension.parsed_extension() {
                ParsedExtension::ExtendedKeyUsage(usage) => {
                    Ok(Some(usage.server_auth && usage.client_auth))
                }
                _ => Err(CertificateError::Extension("extKeyUsage")),
            },
        }
    }

    pub(super) fn subject_key_id(&self) -> Result<Option<&'a [u8]>, CertificateError> {
        let name = "subjectKeyIdentifier";
        match self.extension(&OID_X509_EXT_SUBJECT_KEY_IDENTIFIER, name)? {
            None => Ok(None),
            Some(extension) => match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(id) => Ok(Some(id.0)),
                _ => Err(CertificateError::Extension(name)),
            },
        }
    }

    /// The SPIFFE ID; none without a URI SAN. X509-SVID §2 and §5.2: a certificate with more than
    /// one URI SAN MUST be rejected (requirements 23, 24), whatever the others say.
    pub(super) fn spiffe_id(&self) -> Result<Option<SpiffeId>, CertificateError> {
        let name = "subjectAltName";
        let Some(extension) = self.extension(&OID_X509_EXT_SUBJECT_ALT_NAME, name)? else {
            return Ok(None);
        };
        let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else {
            return Err(CertificateError::Extension(name));
        };
        let mut uris = Vec::new();
        for general_name in &names.general_names {
            match general_name {
                GeneralName::URI(uri) => uris.push(*uri),
                // What cannot be read may be a URI too.
                GeneralName::Invalid(..) => return Err(CertificateError::Extension(name)),
                _ => {}
            }
        }
        match uris.as_slice() {
            [] => Ok(None),
            [uri] => Ok(Some(uri.parse()?)),
            _ => Err(CertificateError::UriSanCount { count: uris.len() }),
        }
    }

    /// The common names of the subject, in order; one that is no text is an error.
    pub(super) fn common_names(&self) -> Result<Vec<&str>, CertificateError> {
        let names = self.0.subject().iter_common_name();
        names
            .map(|name| name.as_str().map_err(|_| CertificateError::CommonName))
            .collect()
    }

    /// The DNS and URI names of the subject.
    pub(super) fn alternative_names(&self) -> Result<AlternativeNames<'_>, CertificateError> {
        let name = "subjectAltName";
        let mut found = AlternativeNames::default();
        let Some(extension) = self.extension(&OID_X509_EXT_SUBJECT_ALT_NAME, name)? else {
            return Ok(found);
        };
        let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else {
            return Err(CertificateError::Extension(name));
        };
        for general_name in &names.general_names {
            match general_name {
                GeneralName::DNSName(name) => found.dns.push(name),
                GeneralName::URI(uri) => found.uris.push(uri),
                GeneralName::Invalid(..) => return Err(CertificateError::Extension(name)),
                _ => {}
            }
        }
        Ok(found)
    }

    /// Whether the extended key usage is present and lists `purpose`.
    pub(super) fn lists_purpose(&self, purpose: &Oid<'_>) -> Result<bool, CertificateError> {
        let name = "extKeyUsage";
        let Some(extension) = self.extension(&OID_X509_EXT_EXTENDED_KEY_USAGE, name)? else {
            return Ok(false);
        };
        match <Vec<Oid<'_>>>::from_der(extension.value) {
            Ok(([], listed)) => Ok(listed.contains(purpose)),
            _ => Err(CertificateError::Extension(name)),
        }
    }

    fn extension(
        &self,
        oid: &Oid<'_>,
        name: &'static str,
    ) -> Result<Option<&X509Extension<'a>>, CertificateError> {
        self.0
            .get_extension_unique(oid)
            .map_err(|_| CertificateError::Extension(name))
    }
}

/// From when to when a certificate of any kind is valid.
///
/// # Errors
/// If `der` is not one certificate, or is never valid.
pub fn validity_of(der: &[u8]) -> Result<Validity, CertificateError> {
    Certificate::parse(der)?.validity()
}

/// SHA-256 of the SubjectPublicKeyInfo of a certificate of any kind, by which deny-lists name it.
///
/// # Errors
/// If `der` is not one certificate.
pub fn key_id_of(der: &[u8]) -> Result<Sha256, CertificateError> {
    Ok(Sha256::of(Certificate::parse(der)?.public_key()))
}

/// The serial number of a certificate of any kind.
///
/// # Errors
/// If `der` is not one certificate, or its serial number is none of RFC 5280 §4.1.2.2.
pub fn serial_of(der: &[u8]) -> Result<SerialNumber, CertificateError> {
    Certificate::parse(der)?.serial()
}

/// Certificates that stand one after the other; the error is where no certificate begins.
pub(super) fn split_der(der: &[u8]) -> Result<Vec<CertificateDer<'static>>, usize> {
    let mut certificates = Vec::new();
    let mut rest = der;
    while !rest.is_empty() {
        let offset = der.len() - rest.len();
        let (after, _) = X509Certificate::from_der(rest).map_err(|_| offset)?;
        let certificate = &rest[..rest.len() - after.len()];
        certificates.push(CertificateDer::from(certificate.to_vec()));
        rest = after;
    }
    Ok(certificates)
}

/// Which rule a certificate breaks. Section numbers are those of X509-SVID.md.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CertificateError {
    #[error("it is not a DER certificate (RFC 5280)")]
    Malformed,
    #[error("{bytes} bytes follow the certificate")]
    TrailingData { bytes: usize },
    #[error("its extension {0} is malformed or stands twice")]
    Extension(&'static str),
    #[error("its common name is no text")]
    CommonName,
    #[error("its serial number is negative")]
    NegativeSerial,
    #[error(transparent)]
    Serial(#[from] SerialNumberError),
    #[error(transparent)]
    Validity(#[from] ValidityError),
    #[error("it has {count} URI names, an SVID has exactly one (§2)")]
    UriSanCount { count: usize },
    #[error("its URI name is no SPIFFE ID: {0} (§2)")]
    SpiffeId(#[from] SpiffeIdError),
    #[error("its SPIFFE ID has no path, that of a leaf has one (§3.1)")]
    NoPath,
    #[error("its SPIFFE ID has a path, that of a signing certificate has none (§3.2)")]
    Path,
    #[error("it is a CA, a leaf is not (§4.1)")]
    Ca,
    #[error("it is no CA, a signing certificate is one (§4.1)")]
    NotCa,
    #[error("it has no key usage (§4.3)")]
    NoKeyUsage,
    #[error("its key usage is not critical (§4.3)")]
    KeyUsageNotCritical,
    #[error("its key usage lacks digitalSignature (§4.3)")]
    NoDigitalSignature,
    #[error("its key usage allows {0}, that of a leaf never does (§4.3)")]
    SigningUsage(&'static str),
    #[error("its key usage lacks keyCertSign (§4.3)")]
    NoCertificateSigning,
    #[error("its extended key usage lacks serverAuth or clientAuth (§4.4)")]
    ExtendedKeyUsage,
    #[error("its public key is refused: {0}")]
    PublicKey(#[from] KeyError),
    #[error("it cannot be a trust anchor: {0}")]
    TrustAnchor(webpki::Error),
}
