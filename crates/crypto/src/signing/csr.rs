//! Certification requests (PKCS#10, RFC 2986), reduced to what a mesh CA may take from one: the
//! public key, and the proof that the sender holds the private one. Subject, names, usages and
//! lifetime in a request are not looked at, because the registry alone decides them.

use rcgen::{CertificateParams, DistinguishedName};
use thiserror::Error;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::OID_SIG_ECDSA_WITH_SHA256;
use x509_parser::prelude::FromDer;

use super::{BadSignature, KeyError, PublicKey, SigningKey};

/// The largest request that is read, in bytes. A P-256 request without extensions has about 210.
pub const MAX_CSR_BYTES: usize = 8 * 1024;

/// A DER request for `key`: empty subject, no extensions.
#[must_use]
pub fn create_csr(key: &SigningKey) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let request = params
        .serialize_request(key)
        .expect("a request without names or extensions can be encoded");
    request.der().to_vec()
}

/// The public key of a DER request whose signature that key made.
pub fn verify_csr(der: &[u8]) -> Result<PublicKey, CsrError> {
    if der.len() > MAX_CSR_BYTES {
        return Err(CsrError::TooLarge { bytes: der.len() });
    }
    let (rest, request) =
        X509CertificationRequest::from_der(der).map_err(|_| CsrError::Malformed)?;
    if !rest.is_empty() {
        return Err(CsrError::TrailingBytes { bytes: rest.len() });
    }
    let algorithm = &request.signature_algorithm;
    if algorithm.algorithm != OID_SIG_ECDSA_WITH_SHA256 || algorithm.parameters.is_some() {
        return Err(CsrError::SignatureAlgorithm);
    }
    let info = &request.certification_request_info;
    let key = PublicKey::from_spki(info.subject_pki.raw).map_err(CsrError::Key)?;
    let signature = &request.signature_value.data;
    if encode(info.raw, signature) != der {
        return Err(CsrError::Malformed);
    }
    key.verify(info.raw, signature)
        .map_err(CsrError::Signature)?;
    Ok(key)
}

/// The one DER encoding of a request. The parser forgives wrong tag classes and unused bits
/// outside the signed part; nothing that differs from this is taken.
fn encode(info: &[u8], signature: &[u8]) -> Vec<u8> {
    let signature = element(BIT_STRING, &[&[0], signature]);
    element(SEQUENCE, &[info, &ECDSA_WITH_SHA256, &signature])
}

const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;
const ECDSA_WITH_SHA256: [u8; 12] = [
    0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02,
];

fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = content.len().to_be_bytes();
    let length = &length[length.iter().take_while(|byte| **byte == 0).count()..];
    let header = match length {
        [] => vec![tag, 0],
        [short @ 0..=0x7f] => vec![tag, *short],
        long => [&[tag, 0x80 | long.len() as u8], long].concat(),
    };
    [header, content].concat()
}

/// Why a certification request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CsrError {
    /// More than [`MAX_CSR_BYTES`].
    #[error("the request has {bytes} bytes, at most {MAX_CSR_BYTES} are read")]
    TooLarge {
        /// How many bytes it has.
        bytes: usize,
    },
    /// Not a CertificationRequest in its one DER encoding.
    #[error("the request is not a DER PKCS#10 CertificationRequest")]
    Malformed,
    /// Something follows the request.
    #[error("{bytes} bytes follow the request")]
    TrailingBytes {
        /// How many bytes follow.
        bytes: usize,
    },
    /// signatureAlgorithm is not ecdsa-with-SHA256 without parameters (RFC 5758 §3.2).
    #[error("the request's signatureAlgorithm is not ecdsa-with-SHA256")]
    SignatureAlgorithm,
    /// The key is not one that we certify.
    #[error("the request's subjectPKInfo is refused")]
    Key(#[source] KeyError),
    /// The sender has not shown that it holds the private key.
    #[error("the request's signature was not made with the key in it")]
    Signature(#[source] BadSignature),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{BasicConstraints, IsCa, PublicKeyData, SanType};

    use super::*;

    struct Forged {
        claimed: PublicKey,
        signer: SigningKey,
    }

    impl PublicKeyData for Forged {
        fn der_bytes(&self) -> &[u8] {
            self.claimed.der_bytes()
        }

        fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
            self.claimed.algorithm()
        }
    }

    impl rcgen::SigningKey for Forged {
        fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
            Ok(self.signer.sign(message))
        }
    }

    #[track_caller]
    fn refused(der: &[u8], expected: CsrError) {
        assert_eq!(verify_csr(der), Err(expected));
    }

    #[test]
    fn a_request_above_the_limit_is_refused_unread() {
        refused(
            &[0; MAX_CSR_BYTES + 1],
            CsrError::TooLarge {
                bytes: MAX_CSR_BYTES + 1,
            },
        );
    }

    #[test]
    fn bytes_that_are_no_request_are_refused() {
        refused(b"", CsrError::Malformed);
        refused(b"-----BEGIN CERTIFICATE REQUEST-----", CsrError::Malformed);
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let der = [create_csr(&SigningKey::generate()), vec![0, 0]].concat();
        refused(&der, CsrError::TrailingBytes { bytes: 2 });
    }

    #[test]
    fn a_key_of_somebody_else_cannot_be_claimed() {
        let claimed = *SigningKey::generate().public_key();
        let forged = Forged {
            claimed,
            signer: SigningKey::generate(),
        };
        let request = CertificateParams::default()
            .serialize_request(&forged)
            .unwrap();
        refused(request.der(), CsrError::Signature(BadSignature));
    }

    #[test]
    fn another_signature_algorithm_is_refused() {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let request = CertificateParams::default()
            .serialize_request(&key)
            .unwrap();
        refused(request.der(), CsrError::SignatureAlgorithm);
    }

    #[test]
    fn a_key_on_another_curve_is_refused() {
        let mut der = create_csr(&SigningKey::generate());
        let curve = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
        let place = der
            .windows(curve.len())
            .position(|bytes| bytes == curve)
            .unwrap();
        der[place + 7] = 0x06;
        refused(&der, CsrError::Key(KeyError::Public));
    }

    #[test]
    fn what_a_request_asks_for_is_not_looked_at() {
        let key = SigningKey::generate();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let uri = "spiffe://example.org/admin".try_into().unwrap();
        params.subject_alt_names = vec![SanType::URI(uri)];
        let request = params.serialize_request(&key).unwrap();
        assert_eq!(verify_csr(request.der()), Ok(*key.public_key()));
    }

    #[test]
    fn our_own_request_is_taken() {
        let key = SigningKey::generate();
        assert_eq!(verify_csr(&create_csr(&key)), Ok(*key.public_key()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn no_bytes_make_the_parser_panic(der in prop::collection::vec(any::<u8>(), 0..512)) {
            prop_assert!(verify_csr(&der).is_err());
        }

        #[test]
        fn no_changed_bit_passes_as_the_request_of_another_key(
            place: prop::sample::Index, bit in 0..8_u8
        ) {
            let key = SigningKey::generate();
            let mut der = create_csr(&key);
            let place = place.index(der.len());
            der[place] ^= 1 << bit;
            prop_assert!(verify_csr(&der).is_err());
        }
    }
}
